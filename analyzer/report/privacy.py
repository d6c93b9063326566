"""Suppression of small groups (k-anonymity)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "suppressed",
]


def suppressed(counts: Sequence[int], least: int) -> NDArray[np.bool_]:
    """Which of several counts of people are suppressed, because they are below `least`.

    If the suppressed counts could be recovered from their sum, one more is suppressed.

    Args:
        counts: Numbers of people whose sum is published.
        least: The smallest number that may be published.

    >>> suppressed([1, 9, 4, 0], 3).tolist()
    [True, False, True, False]
    >>> suppressed([2, 2, 8], 3).tolist(), suppressed([5, 8], 3).tolist()
    ([True, True, False], [False, False])
    """
    numbers = np.asarray(counts)
    hidden = (numbers > 0) & (numbers < least)
    while hidden.any() and numbers[hidden].sum() < least and (~hidden & (numbers > 0)).any():
        rest = np.where(~hidden & (numbers > 0), numbers, np.iinfo(np.int64).max)
        hidden[int(rest.argmin())] = True
    return hidden
