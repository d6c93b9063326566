"""Users' own ONNX models with a description."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analyzer.settings import Settings
from analyzer.vision import registry
from analyzer.vision.attributes.base import Prediction, run_model
from analyzer.vision.runtime import BATCHES, load_model
from analyzer.vision.user_model import Description, check_outputs, read_onnx

__all__ = [
    "UserModel",
    "read_outputs",
]

Float = NDArray[np.float32]
Image = NDArray[np.uint8]


class UserModel:
    """A user's own model.

    Raises:
        ModelError: It cannot be loaded, or does not fit its description.
    """

    def __init__(self, description: Description, settings: Settings) -> None:
        self.model, self.crop, self._description = description.model, description.crop, description
        checked = read_onnx(description)
        self._outputs = checked.outputs
        self._compiled = load_model(
            checked.content,
            settings,
            name=self.model.name,
            pixels=description.pixels,
            batch=checked.batch or BATCHES[settings.device][self.model.role],
            size=(description.width, description.height),
        )
        self.provenance = {
            **self.model.provenance(registry.sha256(checked.content)),
            "description_sha256": registry.sha256(description.text.encode()),
            "engine": self._compiled.engine,
        }
        gray = [np.full((description.height, description.width, 3), level, np.uint8) for level in (127, 128)]
        answers = run_model(self.model, self._compiled, gray)
        check_outputs(description, answers, self._outputs, len(gray))

    def estimate(self, crops: Sequence[Image]) -> Prediction:
        """`AttributeEstimator.estimate`."""
        return read_outputs(self._description, run_model(self.model, self._compiled, crops), self._outputs)


def read_outputs(description: Description, outputs: Sequence[Float], names: Sequence[str]) -> Prediction:
    """The estimates in a model's outputs, each (N, ...) float32, which have these names."""
    female = description.gender.read(outputs, names) if description.gender else None
    if description.age is None:
        return Prediction(female)
    return Prediction(female, *description.age.read(outputs, names))
