"""Landmarks and quality from an enlarged crop of each face."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data

from analyzer.faces import Faces, face_widths
from analyzer.media.frame import Still
from analyzer.settings import Settings
from analyzer.vision import alignment
from analyzer.vision.alignment import CropAligner, load_aligner
from analyzer.vision.detectors.centerface import CenterFace

Image = NDArray[np.uint8]


@pytest.fixture(scope="module")
def aligner() -> CropAligner:
    found = load_aligner(Settings(precision="f32"))
    assert found is not None
    return found


@pytest.fixture(scope="module")
def photograph() -> Image:
    """The astronaut of scikit-image, (512, 512, 3) uint8 BGR."""
    return np.ascontiguousarray(data.astronaut()[..., ::-1])


@pytest.fixture(scope="module")
def face(photograph: Image) -> Faces:
    """Her face, as CenterFace finds it in the whole photograph."""
    detector = CenterFace(Settings(precision="f32", min_score=0.5))
    found = detector.detect([photograph], [(512, 512)])[0]
    assert len(found) == 1
    return found


def without_landmarks(faces: Faces) -> Faces:
    return faces.replace(landmarks=np.full((len(faces), 5, 2), np.nan, np.float32))


@pytest.mark.parametrize("factor", [1.0, 0.5, 0.25])
def test_landmarks_of_large_and_small_faces(
    aligner: CropAligner, photograph: Image, face: Faces, factor: float
) -> None:
    small = cv2.resize(photograph, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA).astype(np.uint8)
    shrunk = without_landmarks(face).replace(boxes=face.boxes * factor)
    found = aligner.align(Still(small), shrunk)
    off = np.abs(found.landmarks / factor - face.landmarks).max() / face_widths(face.boxes)[0]
    assert off < 0.08
    assert found.quality[0] > 0.7
    np.testing.assert_array_equal(found.boxes, shrunk.boxes)
    np.testing.assert_array_equal(found.scores, shrunk.scores)


def test_box_of_another_detector_gives_the_same_landmarks(
    aligner: CropAligner, photograph: Image, face: Faces
) -> None:
    width = float(face_widths(face.boxes)[0])
    moved = without_landmarks(face).replace(boxes=face.boxes + width * np.array([-0.15, 0.1, 0.1, 0.2]))
    found = aligner.align(Still(photograph), moved)
    assert np.abs(found.landmarks - face.landmarks).max() / width < 0.06


def test_covered_and_blurred_faces_have_a_lower_quality(
    aligner: CropAligner, photograph: Image, face: Faces
) -> None:
    x1, y1, x2, y2 = face.boxes[0].astype(int)
    covered, blurred = photograph.copy(), photograph.copy()
    covered[y1:y2, x1 : (x1 + x2) // 2] = 90
    blurred[:] = cv2.GaussianBlur(photograph, (0, 0), (x2 - x1) / 8)
    clear, half, soft = (
        float(aligner.align(Still(image), face).quality[0]) for image in (photograph, covered, blurred)
    )
    assert clear > half + 0.1 and clear > soft + 0.1


def test_faces_without_heads_are_clear(
    aligner: CropAligner, photograph: Image, face: Faces, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = cv2.resize(photograph, None, fx=0.3, fy=0.3, interpolation=cv2.INTER_AREA)
    box = 0.3 * face.boxes[0]
    x1, y1, x2, y2 = (box + (box[2] - box[0]) * np.array([0.18, 0.234, -0.18, -0.234])).astype(int)
    picture = np.full_like(small, 20)
    picture[y1:y2, x1:x2] = small[y1:y2, x1:x2]
    cut = without_landmarks(face).replace(boxes=np.array([[x1, y1, x2, y2]], np.float32))
    found = aligner.align(Still(picture.astype(np.uint8)), cut)
    monkeypatch.setattr(alignment, "_UNCLEAR", 0.0)
    wide = aligner.align(Still(picture.astype(np.uint8)), cut)
    assert 0.1 < wide.quality[0] < found.quality[0] - 0.08
    assert np.abs(found.landmarks - 0.3 * face.landmarks).max() / (box[2] - box[0]) < 0.12


def test_where_no_face_is_found_landmarks_stay(aligner: CropAligner, face: Faces) -> None:
    black = Still(np.zeros((512, 512, 3), np.uint8))
    found = aligner.align(black, face)
    assert found.quality.tolist() == [0]
    np.testing.assert_array_equal(found.landmarks, face.landmarks)
    assert np.isnan(aligner.align(black, without_landmarks(face)).landmarks).all()


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_faces_on_their_side_or_upside_down_are_aligned_in_images(
    aligner: CropAligner, photograph: Image, face: Faces, quarters: int
) -> None:
    turned = np.ascontiguousarray(np.rot90(photograph, quarters))
    points = face.landmarks[0] - 255.5
    for _ in range(quarters):  # np.rot90 takes x to -y and y to x
        points = points[:, ::-1] * (1, -1)
    corners = face.boxes[0].reshape(2, 2)
    middle, half = corners.mean(axis=0) - 255.5, np.diff(corners, axis=0)
    for _ in range(quarters):
        middle, half = middle[::-1] * (1, -1), half[:, ::-1]
    box = np.concatenate([middle - half[0] / 2, middle + half[0] / 2]) + 255.5
    found = without_landmarks(face).replace(boxes=box[None])
    assert aligner.align(Still(turned), found).quality[0] < 0.7
    found = aligner.align(Still(turned), found, any_roll=True)
    assert found.quality[0] > 0.8
    off = np.abs(found.landmarks[0] - points - 255.5).max() / float(face_widths(face.boxes)[0])
    assert off < 0.06


def test_faces_of_a_frame_are_aligned_as_each_alone(
    aligner: CropAligner, photograph: Image, face: Faces
) -> None:
    width = float(face_widths(face.boxes)[0])
    boxes = np.concatenate([face.boxes, face.boxes + width, face.boxes * 0.9, face.boxes])
    several = Faces.build(boxes=boxes, scores=[0.9] * 4)
    together = aligner.align(Still(photograph), several)
    for row in range(4):
        alone = aligner.align(Still(photograph), several[row : row + 1])
        np.testing.assert_allclose(together.landmarks[row], alone.landmarks[0], atol=1e-3)
        np.testing.assert_allclose(together.quality[row], alone.quality[0], atol=1e-5)
    assert together.quality[0] > 0.7 and together.quality[1] < 0.3
    assert len(aligner.align(Still(photograph), Faces.empty())) == 0


def test_faces_cropped_by_hand_are_not_aligned() -> None:
    assert load_aligner(Settings(detector="none")) is None
