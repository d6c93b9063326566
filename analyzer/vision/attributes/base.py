"""What all attribute models share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ModelError
from analyzer.vision.crops import Cut
from analyzer.vision.registry import Model
from analyzer.vision.runtime import CompiledModel, lacks_memory, telling_line

__all__ = [
    "Answer",
    "AttributeEstimator",
    "run_model",
]

Float = NDArray[np.float32]


Image = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Answer:
    """What a network says of N faces; None where it does not speak of it."""

    female: Float | None = None
    """(N,) the probability of female, as the network gives it."""
    age_years: Float | None = None
    """(N,) expectation of the age."""
    std_years: Float | None = None
    """(N,) standard deviation of its distribution; NaN where the network gives an age alone."""


class AttributeEstimator(Protocol):
    """A loaded network that judges faces that are cut out."""

    @property
    def cut(self) -> Cut:
        """Cuts out what it wants to see of a face."""
        ...

    @property
    def provenance(self) -> dict[str, Any]:
        """What ``run.json`` says of it and of what runs it."""
        ...

    def estimate(self, pieces: Sequence[Image]) -> Answer:
        """What it says of N >= 1 pieces as `cut` gives them.

        Raises:
            ModelError: The network failed.
        """
        ...


def run_model(model: Model, compiled: CompiledModel, pieces: Sequence[Image]) -> list[Float]:
    try:
        return compiled.run(pieces)
    except (RuntimeError, MemoryError) as error:
        words = f"the network {model.name} failed on {len(pieces)} faces: {telling_line(error)}"
        raise ModelError(words, no_memory=lacks_memory(error)) from error
