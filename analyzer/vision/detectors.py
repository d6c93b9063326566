"""Face detectors: CenterFace."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ModelError
from analyzer.faces import Faces
from analyzer.settings import Settings
from analyzer.vision import catalog
from analyzer.vision.quantize import Ranges
from analyzer.vision.runtime import BATCHES, load_network

__all__ = ["AUTO_PX", "RANGES_FILE", "CenterFace", "decode_centerface"]

AUTO_PX = 640
"""Longer side of the picture where the size is left to the program."""

RANGES_FILE = Path(__file__).with_name("centerface_int8.json")
"""Written by benchmarks/fit_int8.py."""

_STRIDE = 4
_MULTIPLE = 32
_NMS_IOU = 0.3


class CenterFace:
    """CenterFace (Xu et al. 2019): one pass of a MobileNetV2, anchor free, with five landmarks.

    The frame is scaled to `settings.detector_size` on its longer side (auto: `AUTO_PX`; never enlarged), each
    side rounded up to a multiple of 32.

    Raises:
        ModelError: The network is missing or damaged.
    """

    model = catalog.CENTERFACE

    def __init__(self, settings: Settings) -> None:
        batch = BATCHES[settings.device][self.model.role]
        path, ranges = catalog.locate(self.model), Ranges.load(RANGES_FILE, self.model.sha256)
        self._network = load_network(path, settings, batch=batch, ranges=ranges)
        self._size = AUTO_PX if isinstance(settings.detector_size, str) else settings.detector_size
        self.min_score = 0.35 if isinstance(settings.min_score, str) else settings.min_score
        self.engine = self._network.engine

    def input_size(self, width: int, height: int, reduction: float = 1.0) -> tuple[int, int]:
        """Width and height in pixels of the picture this detector wants of a `width` x `height` frame.

        Args:
            width, height: Of the frame.
            reduction: By how much less closely it is to be looked at.
        """
        factor = min(1.0, self._size / max(width, height)) / reduction
        return _round_up(width * factor), _round_up(height * factor)

    def detect(self, images: list[NDArray[np.uint8]], sizes: list[tuple[int, int]]) -> list[Faces]:
        """Find the faces in pictures scaled to `input_size`.

        Args:
            images: (H, W, 3) uint8 BGR, H and W multiples of 32.
            sizes: For each, the width and height of the full frame; boxes come back in its pixels.

        Raises:
            ModelError: The network failed.
        """
        if not images:
            return []
        try:
            outputs = self._network.run(images)
        except RuntimeError as error:
            raise ModelError(f"the face detector failed on {images[0].shape} pictures: {error}") from error
        height, width = images[0].shape[:2]
        return [
            _rescale(
                decode_centerface([output[index] for output in outputs], width, height, self.min_score),
                size[0] / width,
                size[1] / height,
            )
            for index, size in enumerate(sizes)
        ]


def _round_up(side: float) -> int:
    # Rounded first: 640.0000000000001 is 640.
    return max(_MULTIPLE, int(np.ceil(round(side, 6) / _MULTIPLE)) * _MULTIPLE)


def decode_centerface(outputs: list[NDArray[np.float32]], width: int, height: int, min_score: float) -> Faces:
    """Turn CenterFace's four maps into faces, best first.

    Args:
        outputs: heat map (1, h, w), log sizes (2, h, w) y x, offsets (2, h, w) y x, landmarks (10, h, w)
            as y x pairs in units of the box; h and w are a quarter of the picture's.
        width, height: Of the picture that the network saw, in pixels.
        min_score: Lower scores are dropped.

    Returns:
        Faces in pixels of that picture, clipped to it, overlapping ones removed (IoU 0.3).
    """
    heat, sizes, offsets, points = outputs
    rows, columns = np.nonzero(heat[0] > min_score)
    if not len(rows):
        return Faces.empty()
    cells = np.stack([columns, rows]).astype(np.float32)
    extents = np.exp(sizes[::-1, rows, columns]) * _STRIDE
    corners = (cells + offsets[::-1, rows, columns] + 0.5) * _STRIDE - extents / 2
    limits = np.array([[width], [height]], np.float32)
    low = np.clip(corners, 0, limits)
    boxes = np.concatenate([low, np.minimum(low + extents, limits)]).T
    scores = heat[0, rows, columns].clip(0, 1)
    # (10, n) as y x pairs -> (n, 5, 2) as x y
    units = points[:, rows, columns].T.reshape(-1, 5, 2)[:, :, ::-1]
    landmarks = units * extents.T[:, None, :] + low.T[:, None, :]
    corner_and_size = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    kept = cv2.dnn.NMSBoxes(corner_and_size.tolist(), scores.tolist(), min_score, _NMS_IOU)
    chosen = np.asarray(kept, dtype=np.int64).ravel()
    return Faces.build(boxes=boxes[chosen], scores=scores[chosen], landmarks=landmarks[chosen])


def _rescale(faces: Faces, x: float, y: float) -> Faces:
    factors = np.array([x, y], np.float32)
    return faces.replace(boxes=faces.boxes * np.tile(factors, 2), landmarks=faces.landmarks * factors)
