"""YuNet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from analyzer.faces import Faces
from analyzer.settings import Settings
from analyzer.vision import registry
from analyzer.vision.detectors.base import NMS_IOU, InMultiples
from analyzer.vision.runtime import BATCHES, load_model
from analyzer.vision.yunet_network import OUTPUTS, STRIDES, to_onnx

__all__ = [
    "YuNet",
    "decode_yunet",
]

Float = NDArray[np.float32]
Image = NDArray[np.uint8]

_DUPLICATE_SIGMA = 0.1
"""Of Soft-NMS: a box of score 0.6 that overlaps a better one by an IoU of 0.23 or more is dropped, one of 0.9
by 0.31. YuNet gives some faces a second box of low score, just below the IoU that its NMS removes: of 2,471
detections in real clips and photographs this drops 10 of 11 of those, 18 others, and 1 clear face."""

_FINE = 16

_ENDS = np.cumsum(list(OUTPUTS.values()))[:-1]


class YuNet(InMultiples):
    """YuNet (Wu et al. 2023): a very small, anchor-free model with five landmarks."""

    model = registry.YUNET
    auto_score = 0.35
    reducible = False  # little time would be saved, and small faces lost (docs/performance.md)

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        content = registry.weights(self.model)
        self._sha256 = registry.sha256(content)
        self._compiled = load_model(
            content,
            settings,
            name=self.model.name,
            batch=BATCHES[settings.device][self.model.role],
            convert=to_onnx,
        )
        self.engine = self._compiled.engine

    @property
    def provenance(self) -> dict[str, Any]:
        return super().provenance | {"sha256": self._sha256}

    def _find(self, images: Sequence[Image]) -> list[Faces]:
        outputs = self._compiled.run(images)
        height, width = images[0].shape[:2]
        return [
            _without_duplicates(
                decode_yunet([output[index] for output in outputs], width, height, self.min_score),
                self.min_score,
            )
            for index in range(len(images))
        ]


def _without_duplicates(faces: Faces, min_score: float) -> Faces:
    """Drop faces whose score falls below `min_score` by Soft-NMS (Bodla et al. 2017); scores stay."""
    if len(faces) < 2:
        return faces
    corner_and_size = np.concatenate([faces.boxes[:, :2], faces.boxes[:, 2:] - faces.boxes[:, :2]], axis=1)
    _, kept = cv2.dnn.softNMSBoxes(
        np.round(corner_and_size * _FINE).astype(np.int64).tolist(),  # it takes whole numbers only
        faces.scores.tolist(),
        min_score,
        NMS_IOU,
        sigma=_DUPLICATE_SIGMA,
        method=cv2.dnn.SOFT_NMSMETHOD_SOFTNMS_GAUSSIAN,
    )
    return faces[np.sort(np.asarray(kept, np.int64).ravel())]


def decode_yunet(maps: Sequence[Float], width: int, height: int, min_score: float) -> Faces:
    """Turn YuNet's three maps into faces, best first.

    Args:
        maps: For each of the strides 8, 16 and 32: (16, h, w) float32, logit of the class, box (center and
            logarithm of the size, in strides relative to the cell), logit of an object, and landmarks in
            strides relative to the cell; h and w are the image's divided by the stride.
        width, height: Of the model's input image, in pixels.
        min_score: Lower scores are dropped. A score is the geometric mean of both probabilities.

    Returns:
        Faces in pixels of that image, clipped to it, overlapping ones removed (IoU 0.3).
    """
    boxes, scores, points = [], [], []
    for one, stride in zip(maps, STRIDES, strict=True):
        classes, box, objects, landmarks = np.split(one, _ENDS)
        with np.errstate(over="ignore"):  # of a probability of 0
            score = 1 / np.sqrt((1 + np.exp(-classes[0])) * (1 + np.exp(-objects[0])))
        rows, columns = np.nonzero(score > min_score)
        corner = np.stack([columns, rows], axis=1).astype(np.float32)
        middle = (corner + box[:2, rows, columns].T) * stride
        half = np.exp(box[2:, rows, columns].T) * stride / 2
        boxes.append(np.concatenate([middle - half, middle + half], axis=1))
        points.append((landmarks[:, rows, columns].T.reshape(-1, 5, 2) + corner[:, None]) * stride)
        scores.append(score[rows, columns])
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
