"""Labeled faces, each cut out of its image and shown again as in a photograph and as in videos.

What is fitted to faces must have seen them as videos show them (`analyzer.evaluation.filmed`), and must have
found and aligned them by the same code as `analyze`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyzer.errors import MediaError, SourceError
from analyzer.evaluation.filmed import LAYOUTS, film, photographed
from analyzer.evaluation.labels import BOX
from analyzer.evaluation.metrics import MATCH_IOU
from analyzer.evaluation.scoring import central_face
from analyzer.faces import Faces, face_widths, iou, points_in_boxes
from analyzer.media.frame import Still
from analyzer.media.images import ImageReader
from analyzer.settings import Settings
from analyzer.vision.alignment import CropAligner, load_aligner
from analyzer.vision.crops import CROP_LANDMARKS, crop_transforms
from analyzer.vision.detectors.load import load_detector

if TYPE_CHECKING:
    from analyzer.vision.detectors.base import Detector

__all__ = ["PHOTOGRAPH", "LabeledFace", "Located", "View", "Viewer"]

Image = NDArray[np.uint8]

PHOTOGRAPH, VIDEO, SHORT_VIDEO, PLAIN = range(4)
"""How a face is shown; plain: as it was cut out."""
_FRAMES = {VIDEO: 3, SHORT_VIDEO: 1}
"""How many frames of a video are estimated."""
_LAYOUT_SHARES = (0.38, 0.42, 0.2)
"""How many people are filmed in each of `LAYOUTS`."""
_TOGETHER = 360
"""Faces that are shown at a time."""
_SIDE_PX = 200
_MIDDLE = (_SIDE_PX / 2, _SIDE_PX / 2)
_AT_PLACE = 0.05
"""Landmarks this near their places, as a share of the side: the image is cut out already."""


@dataclass(frozen=True, eq=False)
class LabeledFace:
    """A face with its labels."""

    name: str
    image: Image
    """(200, 200, 3) uint8 BGR: upright, the landmarks at `CROP_LANDMARKS`, as in UTKFace."""
    age_years: float
    """NaN: not labeled."""
    gender: str
    """``female``, ``male``, or empty: not labeled."""


@dataclass(frozen=True, eq=False)
class Located:
    """A labeled face where it was found."""

    labels: dict[Any, Any]
    """The row of the labels."""
    frame: Still | None
    """None: the image cannot be read."""
    face: Faces
    """One face, aligned; none where there is a `reason`."""
    reason: str
    """Why it was not found; empty if it was."""

    def cut(self) -> LabeledFace:
        """The face cut out of its image."""
        assert self.frame is not None
        chip = _cut(self.frame.image, self.face.landmarks[0])
        labels = self.labels
        return LabeledFace(str(labels["name"]), chip, float(labels["true_age"]), str(labels["true_gender"]))


@dataclass(frozen=True, eq=False)
class View:
    """A frame or photograph, and who is where in it."""

    frame: Still
    kind: int
    """`PHOTOGRAPH`, or of which kind of video it is a frame."""
    people: tuple[LabeledFace, ...]
    """F people who were found."""
    faces: Faces
    """F faces, aligned, in the same order."""


class Viewer:
    """Finds and aligns faces as `analyze` does.

    Raises:
        ModelError: A model is missing or damaged.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._detector: Detector = load_detector(settings)
        self._aligner: CropAligner | None = load_aligner(settings)

    def located(self, labels: pd.DataFrame) -> Iterator[Located]:
        """Find and align labeled faces in their images.

        Args:
            labels: As `analyzer.evaluation.labels.Material.faces`.

        Yields:
            Each face once, those of an image one after the other.

        Raises:
            ModelError: A model failed.
        """
        for path, rows in labels.groupby("path", sort=False):
            image = self._read(Path(str(path)))
            if isinstance(image, str):
                yield from (Located(row, None, Faces.empty(), image) for row in rows.to_dict("records"))
                continue
            found = self._found(image)
            for row in rows.to_dict("records"):
                best, reason = _labeled_face(row, found, image)
                faces = self._aligned(Still(image), found[best]) if not reason else Faces.empty()
                yield Located(row, Still(image), faces, reason)

    def cut(self, labels: pd.DataFrame) -> Iterator[LabeledFace]:
        """Cut labeled faces out of their images; those that are not found or cannot be read are left out.

        Args:
            labels: As for `located`.

        Raises:
            ModelError: A model failed.
        """
        return (one.cut() for one in self.located(labels) if not one.reason)

    def views(self, faces: Iterator[LabeledFace], first: int = 0, *, plain: bool = False) -> Iterator[View]:
        """Show each face in a photograph and in two videos, one of three frames and one of a single one.

        What is drawn depends only on the faces, their order, and `first`.

        Args:
            faces: Who is shown.
            first: Another number draws other conditions.
            plain: Whether each is also shown as it was cut out.

        Raises:
            ModelError: A model failed.
        """
        for number, some in enumerate(iter(lambda: list(islice(faces, _TOGETHER)), []), first):
            random = np.random.default_rng(number)
            unchanged = [(PLAIN, face.image, {place: _MIDDLE}) for place, face in enumerate(some)]
            for kind, image, centers in chain(unchanged if plain else (), _shown(some, random)):
                numbers, found = self.find(image, centers)
                if numbers:
                    yield View(Still(image), kind, tuple(some[number] for number in numbers), found)

    def find(self, image: Image, centers: Mapping[int, tuple[float, float]]) -> tuple[list[int], Faces]:
        """Find and align the faces at some places.

        Args:
            image: (H, W, 3) uint8 BGR.
            centers: Where the middle of each is, in pixels.

        Returns:
            The keys of `centers` at which there is a face, and those faces.

        Raises:
            ModelError: A model failed.
        """
        found = self._found(image)
        rows = _rows_at(centers, found)
        return list(rows), self._aligned(Still(image), found[np.array(list(rows.values()), np.int64)])

    def _read(self, path: Path) -> Image | str:
        """The image, (H, W, 3) uint8 BGR, or why it cannot be read."""
        try:
            return next(ImageReader((path,), self._settings).frames()).image()
        except (MediaError, SourceError) as error:
            return str(error)

    def _found(self, image: Image) -> Faces:
        height, width = image.shape[:2]
        scaled = cv2.resize(
            image, self._detector.input_size(width, height), interpolation=cv2.INTER_AREA
        ).astype(np.uint8)
        found = self._detector.detect([scaled], [(width, height)])[0]
        inside = self._detector.points_in_box
        return found if inside is None else found.replace(landmarks=points_in_boxes(found.boxes, inside))

    def _aligned(self, frame: Still, faces: Faces) -> Faces:
        return faces if self._aligner is None else self._aligner.align(frame, faces)


def _labeled_face(row: dict[Any, Any], found: Faces, image: Image) -> tuple[slice, str]:
    """Which of the found faces is the labeled one, and why none is (else empty)."""
    if not len(found):
        return slice(0), "no face was found in it"
    if row["x1"] == row["x1"]:
        overlaps = iou(np.array([[row[edge] for edge in BOX]], np.float32), found.boxes)[0]
        best = int(np.argmax(overlaps))
        if overlaps[best] < MATCH_IOU:
            return slice(0), "no face was found in its box"
    else:
        best = central_face(found.boxes, image.shape[1], image.shape[0])
    return slice(best, best + 1), ""


def _cut(image: Image, landmarks: NDArray[np.float32]) -> Image:
    """Bring a face to its place in an image of 200 pixels; what is outside of the image is its reflection."""
    sides = np.array([image.shape[1], image.shape[0]])
    if image.shape[0] == image.shape[1] and np.abs(landmarks / sides - CROP_LANDMARKS).max() < _AT_PLACE:
        # Sampled once more, it would be softer.
        return cv2.resize(image, (_SIDE_PX, _SIDE_PX), interpolation=cv2.INTER_AREA).astype(np.uint8)
    transform = crop_transforms(landmarks[None])[0] * _SIDE_PX
    factor = float(np.hypot(transform[0, 0], transform[0, 1]))
    if factor < 1:
        small = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
        image = cv2.resize(image, small, interpolation=cv2.INTER_AREA).astype(np.uint8)
        transform[:, :2] = transform[:, :2] @ np.diag(sides / small)
    size = (_SIDE_PX, _SIDE_PX)
    cut = cv2.warpAffine(image, transform, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    return cut.astype(np.uint8)


def _shown(
    faces: Sequence[LabeledFace], random: np.random.Generator
) -> Iterator[tuple[int, Image, dict[int, tuple[float, float]]]]:
    """Kind, (H, W, 3) uint8 BGR, and where the middle of each face is, in pixels, by its number."""
    for number, face in enumerate(faces):
        image = photographed(face.image, random)
        yield PHOTOGRAPH, image, {number: (image.shape[1] / 2, image.shape[0] / 2)}
    for kind, frames in _FRAMES.items():
        chosen = random.choice(len(LAYOUTS), len(faces), p=_LAYOUT_SHARES)
        for index, layout in enumerate(LAYOUTS):
            members = np.flatnonzero(chosen == index).tolist()
            for start in range(0, len(members), layout.people):
                part = members[start : start + layout.people]
                centers = {number: layout.center(place) for place, number in enumerate(part)}
                for image in film([faces[one].image for one in part], layout, random, frames):
                    yield kind, image, centers


def _rows_at(centers: Mapping[int, tuple[float, float]], faces: Faces) -> dict[int, int]:
    """The row of the best face at each place, by the number of the labeled face."""
    middles = (faces.boxes[:, :2] + faces.boxes[:, 2:]) / 2
    reach = np.maximum(0.6 * face_widths(faces.boxes), 12)
    there = {
        number: np.flatnonzero(np.abs(middles - center).max(axis=1) < reach)
        for number, center in centers.items()
    }
    return {number: int(rows[0]) for number, rows in there.items() if len(rows)}  # best first
