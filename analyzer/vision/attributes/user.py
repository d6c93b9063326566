"""ONNX models with a description of the user."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analyzer.settings import Settings
from analyzer.vision import registry
from analyzer.vision import user_model as described
from analyzer.vision.attributes.base import Answer, run_model
from analyzer.vision.runtime import BATCHES, load_model
from analyzer.vision.user_model import Description

__all__ = [
    "UserModel",
    "read_answer",
]

Float = NDArray[np.float32]


Image = NDArray[np.uint8]


class UserModel:
    """A network of the user's own."""

    def __init__(self, description: Description, settings: Settings) -> None:
        self.model, self.cut, self._description = description.model, description.cut, description
        checked = described.read_onnx(description)
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
        described.check_outputs(description, answers, self._outputs, len(gray))

    def estimate(self, pieces: Sequence[Image]) -> Answer:
        """`AttributeEstimator.judge`."""
        return read_answer(self._description, run_model(self.model, self._compiled, pieces), self._outputs)


def read_answer(description: Description, outputs: Sequence[Float], names: Sequence[str]) -> Answer:
    female = description.gender.read(outputs, names) if description.gender else None
    if description.age is None:
        return Answer(female)
    return Answer(female, *description.age.read(outputs, names))
