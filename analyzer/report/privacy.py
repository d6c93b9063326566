"""Small groups are suppressed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "suppressed",
]


def suppressed(counts: Sequence[int], least: int) -> NDArray[np.bool_]:
    """Which of several numbers of people are not told, because fewer than `least` people are meant.

    If those that are not told could be had as the difference to their sum, one more is not told.

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
