"""What all detectors share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ModelError
from analyzer.faces import Faces, face_widths
from analyzer.settings import MOST_ENLARGED, Settings
from analyzer.vision.registry import Model
from analyzer.vision.runtime import lacks_memory, telling_line

__all__ = [
    "AVERAGE_LANDMARKS",
    "NMS_IOU",
    "Detector",
    "InMultiples",
    "best_faces",
]

Float = NDArray[np.float32]
Image = NDArray[np.uint8]


def _points(*points: list[float]) -> Float:
    return np.array(points, np.float32)


AVERAGE_LANDMARKS = {
    "ssd": _points([0.254, 0.444], [0.741, 0.439], [0.49, 0.632], [0.298, 0.782], [0.698, 0.777]),
    "haar": _points([0.302, 0.382], [0.698, 0.377], [0.494, 0.6], [0.335, 0.775], [0.662, 0.769]),
    "none": _points([0.3, 0.339], [0.686, 0.326], [0.491, 0.525], [0.335, 0.701], [0.658, 0.692]),
}
"""Where the eyes, nose and mouth are on average in the boxes of detectors that do not find them: (5, 2)
float32, x y as shares of the box. Measured by ``benchmarks/fit_points.py``."""

NMS_IOU = 0.3
"""Of two boxes that overlap by more, the one with the lower score is removed."""

_MULTIPLE = 32


class Detector(ABC):
    """Base of all detectors: sizes, scores, and boxes in pixels of the full frame.

    The frame is scaled to `settings.detector_size` on its longer side (auto: `auto_px`), which enlarges it at
    most `most_enlarged` times.

    Raises:
        ModelError: On construction: its files are missing or damaged.
    """

    model: ClassVar[Model]
    auto_px: ClassVar[int] = 640
    """Longer side of the input where the size is ``auto``."""
    auto_score: ClassVar[float]
    """Minimum score where it is ``auto``."""
    reducible: ClassVar[bool] = False
    most_enlarged: ClassVar[float] = 1.0
    points_in_box: ClassVar[Float | None] = None
    engine = f"opencv {cv2.__version__} CPU"

    def __init__(self, settings: Settings) -> None:
        self._size = self.auto_px if isinstance(settings.detector_size, str) else settings.detector_size
        self._min_face_px = settings.min_face_px
        self.min_score = self.auto_score if isinstance(settings.min_score, str) else settings.min_score

    @property
    def provenance(self) -> dict[str, Any]:
        """The entry of the detector in ``run.json``, with what runs it."""
        return {**self.model.provenance(), "engine": self.engine, "min_score": self.min_score}

    def input_size(self, width: int, height: int, reduction: float = 1.0) -> tuple[int, int]:
        """Width and height in pixels to which a `width` x `height` frame is scaled for this detector.

        Args:
            width, height: Of the frame.
            reduction: A factor by which the size is reduced further.
        """
        factor = self._factor(width, height) / reduction
        return max(1, round(width * factor)), max(1, round(height * factor))

    def _factor(self, width: int, height: int) -> float:
        return min(self.most_enlarged, self._size / max(width, height))

    def detect(self, images: Sequence[Image], sizes: Sequence[tuple[int, int]]) -> list[Faces]:
        """Find the faces in frames scaled to `input_size`, best first.

        Args:
            images: (H, W, 3) uint8 BGR, all of one size.
            sizes: For each, the width and height of the full frame; boxes come back in its pixels.

        Raises:
            ModelError: The detector failed.
        """
        if not images:
            return []
        try:
            found = self._find(images)
        except (RuntimeError, cv2.error) as error:
            words = f"the face detector failed on {images[0].shape} images: {telling_line(error)}"
            raise ModelError(words, no_memory=lacks_memory(error)) from error
        height, width = images[0].shape[:2]
        scaled = [
            _rescale(faces, size[0] / width, size[1] / height)
            for faces, size in zip(found, sizes, strict=True)
        ]
        return [faces[face_widths(faces.boxes) >= self._min_face_px] for faces in scaled]

    @abstractmethod
    def _find(self, images: Sequence[Image]) -> list[Faces]:
        """The faces of each image, best first, in its own pixels and inside it."""


class InMultiples(Detector):
    """A detector whose input sides are rounded up to multiples of 32."""

    reducible = True
    most_enlarged = MOST_ENLARGED

    def input_size(self, width: int, height: int, reduction: float = 1.0) -> tuple[int, int]:
        factor = self._factor(width, height) / reduction
        return _round_up(width * factor), _round_up(height * factor)


def _round_up(side: float) -> int:
    # Rounded first: 640.0000000000001 is 640.
    return max(_MULTIPLE, int(np.ceil(round(side, 6) / _MULTIPLE)) * _MULTIPLE)


def best_faces(boxes: Float, scores: Float, width: int, height: int, min_score: float) -> Faces:
    """Faces with a score above `min_score`, best first, clipped to the image; empty boxes are dropped."""
    limits = np.array([width, height] * 2, np.float32)
    boxes = np.clip(boxes, 0, limits)
    kept = np.flatnonzero((scores > min_score) & (boxes[:, :2] < boxes[:, 2:]).all(axis=1))
    order = kept[np.argsort(-scores[kept], kind="stable")]
    return Faces.build(boxes=boxes[order], scores=np.clip(scores[order], 0, 1))


def _rescale(faces: Faces, x: float, y: float) -> Faces:
    factors = np.array([x, y], np.float32)
    return faces.replace(boxes=faces.boxes * np.tile(factors, 2), landmarks=faces.landmarks * factors)
