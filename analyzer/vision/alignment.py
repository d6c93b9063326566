"""Alignment: the landmarks of a face that was found, and how clearly it shows.

Detectors differ in what they are good at. One finds faces that another misses, but scores blurred, turned and
covered faces like clear ones, and places their landmarks roughly. So one model finds the faces, and another
one aligns the few that are compared or estimated: it searches an enlarged crop of each.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ModelError
from analyzer.faces import CropSource, Faces, iou
from analyzer.settings import Settings
from analyzer.vision import registry
from analyzer.vision.crops import crop_sides
from analyzer.vision.detectors.centerface import RANGES_FILE, decode_centerface
from analyzer.vision.quantize import Ranges
from analyzer.vision.registry import ALIGNER
from analyzer.vision.runtime import BATCHES, lacks_memory, load_model, telling_line

__all__ = ["CropAligner", "load_aligner"]

Float = NDArray[np.float32]

_CROP_PX = 128
"""Side of the crops."""

_WIDENED = 2.0
"""Side of a crop, in longer sides of the face's box: the model finds faces by the heads around them."""

_LEAST_SCORE = 0.05
_SAME_IOU = 0.2
"""What the model finds in the crop is the face itself if it overlaps the box by this much."""


class CropAligner:
    """CenterFace on an enlarged crop of each face.

    Its score there is the face's `quality`: it is high for sharp, uncovered faces turned to the camera.

    Raises:
        ModelError: On construction, if the model is missing or damaged.
    """

    def __init__(self, settings: Settings) -> None:
        self._compiled = load_model(
            registry.weights(ALIGNER),
            settings,
            name=ALIGNER.name,
            batch=BATCHES[settings.device][ALIGNER.role],
            ranges=Ranges.load(RANGES_FILE, ALIGNER.sha256),
            size=(_CROP_PX, _CROP_PX),
        )

    @property
    def provenance(self) -> dict[str, object]:
        """The entry of the aligner in ``run.json``, with what runs it."""
        return {**ALIGNER.provenance(), "role": "aligner", "engine": self._compiled.engine}

    def align(self, frame: CropSource, faces: Faces) -> Faces:
        """`analyzer.faces.FaceAligner.align`.

        Raises:
            ModelError: The model failed.
        """
        if not len(faces):
            return faces
        transforms = _transforms(faces.boxes)
        crops = frame.crop(transforms, crop_sides(transforms, _CROP_PX), _CROP_PX)
        try:
            outputs = self._compiled.run(crops)
        except RuntimeError as error:
            words = f"aligning {len(crops)} faces failed: {telling_line(error)}"
            raise ModelError(words, no_memory=lacks_memory(error)) from error
        quality, landmarks = np.zeros(len(faces), np.float32), faces.landmarks.copy()
        scales, shifts = transforms[:, [0, 1], [0, 1]] * _CROP_PX, transforms[:, :, 2] * _CROP_PX
        for row, (scale, shift) in enumerate(zip(scales, shifts, strict=True)):
            found = decode_centerface([one[row] for one in outputs], _CROP_PX, _CROP_PX, _LEAST_SCORE)
            own = faces.boxes[row : row + 1] * np.tile(scale, 2) + np.tile(shift, 2)
            same = np.flatnonzero(iou(own, found.boxes)[0] >= _SAME_IOU)
            if len(same):  # best first
                quality[row] = found.scores[same[0]]
                landmarks[row] = (found.landmarks[same[0]] - shift) / scale
        return faces.replace(quality=quality, landmarks=landmarks)


def load_aligner(settings: Settings) -> CropAligner | None:
    """Load the aligner; None where every frame is one face that has already been cropped.

    Raises:
        ModelError: It is missing or damaged.
    """
    return None if settings.detector == registry.NONE.name else CropAligner(settings)


def _transforms(boxes: Float) -> Float:
    """Return (N, 2, 3) float32 from pixels to shares of the side of a square crop around each box."""
    sides = _WIDENED * np.maximum((boxes[:, 2:] - boxes[:, :2]).max(axis=1), 1)
    transforms = np.zeros((len(boxes), 2, 3), np.float32)
    transforms[:, [0, 1], [0, 1]] = 1 / sides[:, None]
    transforms[:, :, 2] = 0.5 - (boxes[:, :2] + boxes[:, 2:]) / 2 / sides[:, None]
    return transforms
