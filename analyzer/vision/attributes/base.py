"""What all models for gender and age share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ModelError
from analyzer.vision.crops import Crop
from analyzer.vision.registry import Model
from analyzer.vision.runtime import CompiledModel, lacks_memory, telling_line

__all__ = [
    "AttributeEstimator",
    "Prediction",
    "run_model",
]

Float = NDArray[np.float32]
Image = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Prediction:
    """A model's outputs for N faces; None for what it does not estimate."""

    female: Float | None = None
    """(N,) the probability of female, not calibrated."""
    age_years: Float | None = None
    """(N,) the expectation of the age."""
    std_years: Float | None = None
    """(N,) the standard deviation of its distribution; NaN where the model gives an age alone."""
    embeddings: Float | None = None
    """(N, D) of models that compute them on the way."""


class AttributeEstimator(Protocol):
    """A loaded model that estimates gender, age, or both from crops of faces."""

    @property
    def crop(self) -> Crop:
        """How its crops are made."""
        ...

    @property
    def provenance(self) -> dict[str, Any]:
        """The entry of the model in ``run.json``, with what runs it."""
        ...

    def estimate(self, crops: Sequence[Image]) -> Prediction:
        """Estimate N >= 1 faces from their crops.

        Raises:
            ModelError: The model failed.
        """
        ...


def run_model(model: Model, compiled: CompiledModel, crops: Sequence[Image]) -> list[Float]:
    """Run a compiled model on N >= 1 crops.

    Raises:
        ModelError: It failed; names `model`.
    """
    try:
        return compiled.run(crops)
    except (RuntimeError, MemoryError) as error:
        words = f"the model {model.name} failed on {len(crops)} faces: {telling_line(error)}"
        raise ModelError(words, no_memory=lacks_memory(error)) from error
