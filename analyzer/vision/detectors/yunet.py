"""YuNet."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from analyzer.faces import Faces
from analyzer.settings import Settings
from analyzer.vision import registry
from analyzer.vision.detectors.base import NMS_IOU, InMultiples
from analyzer.vision.runtime import load_model

__all__ = [
    "YuNet",
    "decode_yunet",
]

Float = NDArray[np.float32]
Image = NDArray[np.uint8]

_STRIDES = (8, 16, 32)


class YuNet(InMultiples):
    """YuNet (Wu et al. 2023): a very small, anchor-free model with five landmarks."""

    model = registry.YUNET
    auto_score = 0.6

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        # The file's last layers reshape the outputs of one image only.
        self._compiled = load_model(registry.weights(self.model), settings, name=self.model.name, batch=1)
        self.engine = self._compiled.engine

    def _find(self, images: Sequence[Image]) -> list[Faces]:
        outputs = self._compiled.run(images)
        height, width = images[0].shape[:2]
        return [
            decode_yunet([output[index] for output in outputs], width, height, self.min_score)
            for index in range(len(images))
        ]


def decode_yunet(outputs: Sequence[Float], width: int, height: int, min_score: float) -> Faces:
    """Turn YuNet's twelve arrays into faces, best first.

    Args:
        outputs: For each of the strides 8, 16 and 32: probability of the class (C, 1), probability of an
            object (C, 1), boxes (C, 4) as center and logarithm of the size, in strides relative to the cell,
            and landmarks (C, 10) likewise; ordered by class, object, box, landmarks. C counts the cells, row
            by row.
        width, height: Of the model's input image, in pixels.
        min_score: Lower scores are dropped. A score is the geometric mean of both probabilities.

    Returns:
        Faces in pixels of that image, clipped to it, overlapping ones removed (IoU 0.3).
    """
    boxes, scores, points = [], [], []
    for index, stride in enumerate(_STRIDES):
        classes, objects, box, landmarks = outputs[index::3]
        score = np.sqrt(np.clip(classes[:, 0], 0, 1) * np.clip(objects[:, 0], 0, 1))
        cells = np.flatnonzero(score > min_score)
        rows, columns = np.divmod(cells, width // stride)
        corner = np.stack([columns, rows], axis=1).astype(np.float32)
        middle = (corner + box[cells, :2]) * stride
        half = np.exp(box[cells, 2:]) * stride / 2
        boxes.append(np.concatenate([middle - half, middle + half], axis=1))
        points.append((landmarks[cells].reshape(-1, 5, 2) + corner[:, None]) * stride)
        scores.append(score[cells])
    every_box, every_score = np.concatenate(boxes), np.concatenate(scores)
    if not len(every_score):
        return Faces.empty()
    corner_and_size = np.concatenate([every_box[:, :2], every_box[:, 2:] - every_box[:, :2]], axis=1)
    # Overlaps are those of whole pixels, as in OpenCV's own detector.
    whole = corner_and_size.astype(np.int64)
    kept = cv2.dnn.NMSBoxes(whole.tolist(), every_score.tolist(), min_score, NMS_IOU)
    chosen = np.asarray(kept, dtype=np.int64).ravel()
    clipped = np.clip(every_box[chosen], 0, np.array([width, height] * 2, np.float32))
    return Faces.build(boxes=clipped, scores=every_score[chosen], landmarks=np.concatenate(points)[chosen])
