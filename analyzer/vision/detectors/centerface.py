"""CenterFace."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from analyzer.faces import Faces
from analyzer.settings import Settings
from analyzer.vision import registry
from analyzer.vision.detectors.base import NMS_IOU, InMultiples
from analyzer.vision.quantize import Ranges
from analyzer.vision.runtime import BATCHES, load_model

__all__ = [
    "CenterFace",
    "decode_centerface",
]

Image = NDArray[np.uint8]

_STRIDE = 4


class CenterFace(InMultiples):
    """CenterFace (Xu et al. 2019): one pass of a MobileNetV2, anchor free, with five landmarks."""

    model = registry.CENTERFACE
    auto_score = 0.35

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._compiled = load_model(
            registry.weights(self.model),
            settings,
            name=self.model.name,
            batch=BATCHES[settings.device][self.model.role],
            ranges=Ranges.of(self.model),
        )
        self.engine = self._compiled.engine

    def _find(self, images: Sequence[Image]) -> list[Faces]:
        outputs = self._compiled.run(images)
        height, width = images[0].shape[:2]
        return [
            decode_centerface([output[index] for output in outputs], width, height, self.min_score)
            for index in range(len(images))
        ]


def decode_centerface(outputs: list[NDArray[np.float32]], width: int, height: int, min_score: float) -> Faces:
    """Turn CenterFace's four maps into faces, best first.

    Args:
        outputs: heat map (1, h, w), log sizes (2, h, w) y x, offsets (2, h, w) y x, landmarks (10, h, w)
            as y x pairs in units of the box; h and w are a quarter of the image's.
        width, height: Of the model's input image, in pixels.
        min_score: Lower scores are dropped.

    Returns:
        Faces in pixels of that image, clipped to it, overlapping ones removed (IoU 0.3).
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
    kept = cv2.dnn.NMSBoxes(corner_and_size.tolist(), scores.tolist(), min_score, NMS_IOU)
    chosen = np.asarray(kept, dtype=np.int64).ravel()
    return Faces.build(boxes=boxes[chosen], scores=scores[chosen], landmarks=landmarks[chosen])
