"""Faults of labels: collected, and reported at once in one sentence."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

__all__ = ["MAX_AGE_YEARS", "Faults", "number"]

MAX_AGE_YEARS = 130.0
_MAX_FAULTS = 10
"""At most this many faults of a file are listed, and the number of further ones."""


def number(value: object, name: str, low: float = -1e9, high: float = 1e9) -> float:
    """
    Raises:
        ValueError: It is not a number between `low` and `high`.
    """
    try:
        found = float(str(value))
    except ValueError:
        found = math.nan
    if not low <= found <= high:
        raise ValueError(f"{name} must be a number from {low:g} to {high:g}, not {str(value)[:40]!r}")
    return found


class Faults:
    """Collects all that is wrong with a file, to report it at once."""

    def __init__(self) -> None:
        self._sentences: list[str] = []

    def add(self, sentence: str) -> None:
        """Note a fault."""
        self._sentences.append(sentence)

    @contextlib.contextmanager
    def noted(self, place: str) -> Iterator[None]:
        """Add the error that a block raises, with its place, and continue after the block."""
        try:
            yield
        except ValueError as error:
            self.add(f"{place}: {error}")

    def number(self, value: object, name: str, low: float = -1e9, high: float = 1e9) -> float:
        """`number`, or NaN where it is wrong, which is noted."""
        try:
            return number(value, name, low, high)
        except ValueError as error:
            self.add(str(error))
            return math.nan

    def check(self) -> None:
        """
        Raises:
            ValueError: There were faults; lists them, or the first ones and the number of others.
        """
        if self._sentences:
            more = len(self._sentences) - _MAX_FAULTS
            left = [f"and {more} more"] if more > 0 else []
            raise ValueError("; ".join([*self._sentences[:_MAX_FAULTS], *left]))
