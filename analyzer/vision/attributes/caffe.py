"""Caffe models, such as those of Levi and Hassner."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ModelError
from analyzer.vision import registry
from analyzer.vision.attributes.base import Prediction
from analyzer.vision.attributes.user import read_outputs
from analyzer.vision.runtime import lacks_memory
from analyzer.vision.user_model import Description

__all__ = [
    "CaffeModel",
]

Image = NDArray[np.uint8]


class CaffeModel:
    """A model of Levi and Hassner, run by OpenCV's own engine: no other one reads Caffe's files."""

    def __init__(self, description: Description) -> None:
        self.model, self.crop, self._description = description.model, description.crop, description
        weights, structure = (registry.read(self.model, file) for file in self.model.files)
        try:
            self._compiled = cv2.dnn.readNetFromCaffe(
                np.frombuffer(structure, np.uint8), np.frombuffer(weights, np.uint8)
            )
        except cv2.error as error:
            raise ModelError(f"OpenCV cannot load the model {self.model.name}: {error.err}") from error
        self.provenance = {
            **self.model.provenance(registry.sha256(weights)),
            "engine": f"opencv {cv2.__version__} CPU f32",
        }

    def estimate(self, crops: Sequence[Image]) -> Prediction:
        """`AttributeEstimator.estimate`."""
        means = self._description.pixels.means
        # One by one: OpenCV prepares its layers anew whenever the number of images changes.
        try:
            outputs = []
            for crop in crops:
                self._compiled.setInput(cv2.dnn.blobFromImage(crop, mean=means))
                outputs.append(self._compiled.forward())
        except cv2.error as error:
            words = f"the model {self.model.name} failed on {len(crops)} faces: {error.err}"
            raise ModelError(words, no_memory=lacks_memory(error)) from error
        return read_outputs(self._description, [np.concatenate(outputs).astype(np.float32)], ("prob",))
