"""How well five landmarks tell which way a head is turned: ``docs/attention.md``.

No labeled poses are at hand, so what is compared with are poses from 68 landmarks: those of dlib's predictor
(by the ``face_recognition_models`` package), to eleven of which the same average face is fitted by OpenCV. A
face on which the two kinds of landmarks do not agree is left out: there one of them is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import dlib
import face_recognition_models
import numpy as np
from numpy.typing import NDArray

from analyzer.analysis.segment import Models
from analyzer.people.attention import YAW_SEEN, head_pose
from analyzer.settings import Settings
from testkit.faces import REPORT, SHARED, labeled_faces

ROOT = Path(__file__).parents[1]
CLIPS = ("head-pose-face-detection-female-and-male.gif", "head-pose-face-detection-female.gif")
YUNET = SHARED / "models" / "face_detection_yunet_2023mar.onnx"
FACES = 3600
# Of MediaPipe's canonical face (see analyzer/people/attention.py), in cm, by the numbers of the 68
# landmarks: y up, z towards the camera.
POINTS = {
    27: (0, 2.473, 5.789),
    30: (0, -1.127, 7.476),
    33: (0, -2.089, 6.058),
    36: (-4.446, 2.664, 3.173),
    39: (-1.856, 2.585, 3.758),
    42: (1.856, 2.585, 3.758),
    45: (4.446, 2.664, 3.173),
    48: (-2.456, -4.343, 4.284),
    54: (2.456, -4.343, 4.284),
    51: (0, -3.406, 5.980),
    8: (0, -8.765, 4.891),
}
SIDE_PX, SIZE_PX = 320, 75.0
"""Side of the upright piece that the 68 landmarks are found in, and the distance of eyes or of eyes and mouth
in it."""
APART = 0.3
"""Landmarks that are further from each other than this share of that distance do not agree."""
BOUNDS_DEG = ((0, 15), (15, 22.5), (22.5, 30), (30, 90))
Image, Real = NDArray[np.uint8], NDArray[np.float64]


class Poses(NamedTuple):
    """Of N faces: the detector's (N, 5, 2) landmarks, and (N, 2) yaw and pitch from 68."""

    landmarks: NDArray[np.float32]
    reference: NDArray[np.float64]


def reference(image: Image, five: Real, predictor: dlib.shape_predictor) -> Real:
    """(3,) yaw, pitch in degrees, how far the landmarks are apart as a share."""
    eyes, mouth = five[:2].mean(axis=0), five[3:].mean(axis=0)
    across = five[1] - five[0]
    size = max(np.linalg.norm(eyes - mouth), np.linalg.norm(across))
    x, y = (eyes + mouth) / 2
    turn = np.degrees(np.arctan2(across[1], across[0]))
    matrix = cv2.getRotationMatrix2D((float(x), float(y)), float(turn), float(SIZE_PX / size))
    matrix[:, 2] += SIDE_PX / 2 - np.array([x, y])
    piece = cv2.warpAffine(image, matrix, (SIDE_PX, SIDE_PX), borderMode=cv2.BORDER_REPLICATE)
    shape = predictor(cv2.cvtColor(piece, cv2.COLOR_BGR2RGB), dlib.rectangle(70, 70, 250, 250))
    found = np.array([[shape.part(k).x, shape.part(k).y] for k in range(68)], np.float64)
    same = [found[36:42].mean(axis=0), found[42:48].mean(axis=0), found[30], found[48], found[54]]
    apart = np.abs(np.array(same) - (five @ matrix[:, :2].T + matrix[:, 2])).max() / SIZE_PX
    model = np.array(list(POINTS.values())) * [1, -1, -1]
    camera = np.array([[2000, 0, SIDE_PX / 2], [0, 2000, SIDE_PX / 2], [0, 0, 1.0]])
    _, turned, moved = cv2.solvePnP(model, found[list(POINTS)], camera, None, flags=cv2.SOLVEPNP_SQPNP)
    _, turned, _ = cv2.solvePnP(model, found[list(POINTS)], camera, None, turned, moved, True)
    facing = -cv2.Rodrigues(turned)[0][:, 2]
    yaw, pitch = np.arctan2(facing[0], -facing[2]), np.arcsin(-facing[1])
    return np.array([np.degrees(yaw), np.degrees(pitch), apart])


class Found:
    """Landmarks by one of the detectors."""

    def __init__(self, name: str) -> None:
        self._detector = Models.load(Settings(precision="f32")).detector if name == "centerface" else None
        self._yunet = cv2.FaceDetectorYN.create(str(YUNET), "", (0, 0), 0.5) if name == "yunet" else None

    def __call__(self, image: Image) -> NDArray[np.float32]:
        """(N, 5, 2)."""
        height, width = image.shape[:2]
        if self._yunet is not None:
            self._yunet.setInputSize((width, height))
            rows = self._yunet.detect(image)[1]
            return np.empty((0, 5, 2), np.float32) if rows is None else rows[:, 4:14].reshape(-1, 5, 2)
        size = self._detector.input_size(width, height)
        scaled = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        (faces,) = self._detector.detect([scaled], [(width, height)])
        return faces.landmarks


def clip_images() -> Iterator[Image]:
    """Every frame of the clips in which heads are turned."""
    for name in CLIPS:
        with av.open(str(SHARED / "clips" / name)) as container:
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="bgr24")


def face_images() -> Iterator[Image]:
    """Photographs of single faces, with an edge around them."""
    for face in labeled_faces(REPORT, FACES):
        yield cv2.copyMakeBorder(face.image, 60, 60, 60, 60, cv2.BORDER_REPLICATE)


def poses(images: Iterator[Image], find: Found) -> Poses:
    """What is found in images, as far as the two kinds of landmarks agree."""
    predictor = dlib.shape_predictor(face_recognition_models.pose_predictor_model_location())
    landmarks, references = [], []
    for image in images:
        for five in find(image):
            known = reference(image, five.astype(np.float64), predictor)
            if known[2] < APART:
                landmarks.append(five)
                references.append(known[:2])
    return Poses(np.array(landmarks, np.float32), np.array(references))


def row(name: str, on: str, found: Poses) -> str:
    """A line of the first table."""
    pose = head_pose(found.landmarks)[:, :2]
    cells = [name, on, f"{len(pose):,}"]
    for axis in range(2):
        ours, theirs = pose[:, axis], found.reference[:, axis]
        slope, share = np.polyfit(theirs, ours, 1)[0], np.corrcoef(theirs, ours)[0, 1]
        cells += [f"{slope:.2f}", f"{share:.2f}"]
    yaw = pose[:, 0] / YAW_SEEN.get(name, 1.0)
    cells.append(f"{np.abs(yaw - found.reference[:, 0]).mean():.1f}°")
    return "| " + " | ".join(cells) + " |"


def counted(name: str, found: Poses) -> str:
    """A line of the second table: share that counts as looking, by yaw."""
    limits = Settings(scene="audience")
    pose = np.abs(head_pose(found.landmarks)[:, :2] / [YAW_SEEN.get(name, 1.0), 1.0])
    looking = (pose <= [limits.attention_yaw_deg, limits.attention_pitch_deg]).all(axis=1)
    turned = np.abs(found.reference[:, 0])
    shares = [looking[(turned >= low) & (turned < high)].mean() for low, high in BOUNDS_DEG]
    return "| " + " | ".join([name, *(f"{share:.0%}" for share in shares)]) + " |"


def main() -> None:
    """Write docs/attention.md."""
    first, second = [], []
    for name in ("centerface", *(["yunet"] if YUNET.exists() else [])):
        find = Found(name)
        first.append(row(name, "two clips of turning heads", poses(clip_images(), find)))
        faces = poses(face_images(), find)
        first.append(row(name, "photographs", faces))
        second.append(counted(name, faces))
    bounds = [f"{low:g}° to {high:g}°" for low, high in BOUNDS_DEG]
    lines = [
        "# Head pose from five landmarks",
        "",
        "Written by `python -m benchmarks.attention`: yaw and pitch of `analyzer/people/attention.py`",
        "against poses from 68 landmarks, which have errors of some degrees themselves. Photographs:",
        "UTKFace, its reporting part.",
        "",
        "| detector | on | faces | yaw: slope | yaw: correlation | pitch: slope | pitch: correlation "
        "| yaw, mean error as used |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *first,
        "",
        "A slope below 1 means that the landmarks turn less than the head does; for CenterFace this is",
        f"corrected by {YAW_SEEN['centerface']:g}. Pitch hardly shows in the landmarks of either.",
        "",
        "Share of the photographs that count as looking at the camera with the default limits, by how far",
        "the head is turned to a side:",
        "",
        "| detector | " + " | ".join(bounds) + " |",
        "| --- |" + " --- |" * len(bounds),
        *second,
    ]
    (ROOT / "docs" / "attention.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
