"""Of live sources: for how long a sample stands, and what the clock said at any moment."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyzer.runs.tables import no_clock

__all__ = [
    "bin_clocks",
    "live_durations",
]


def live_durations(samples: pd.DataFrame) -> NDArray[np.float64]:
    """For how long each sample stands: until the next one, less the time of which no picture arrived.

    Args:
        samples: Rows of the samples table with `time_s` and `gap_s`.

    Returns:
        (S,) seconds.

    >>> samples = pd.DataFrame({"time_s": [0.0, 0.2, 0.4, 5.0], "gap_s": [0.0, 0.0, 0.0, 4.5]})
    >>> live_durations(samples).round(3).tolist()
    [0.2, 0.2, 0.1, 0.2]
    """
    times, gaps = samples["time_s"].to_numpy(np.float64), samples["gap_s"].to_numpy(np.float64)
    stands = np.maximum(np.diff(times) - gaps[1:], 0.0)
    return np.append(stands, np.median(stands) if len(stands) else 1.0) if len(times) else np.empty(0)


def bin_clocks(starts_s: NDArray[np.float64], samples: pd.DataFrame) -> pd.Series[pd.Timestamp]:
    """What the clock said at moments of a live source, between its samples in proportion.

    Args:
        starts_s: (B,) moments in seconds.
        samples: Rows of the samples table with `time_s` and `clock`.

    Returns:
        (B,) UTC to the millisecond; empty where no sample has a clock.
    """
    known = samples[samples["clock"].notna()]
    if known.empty:
        return no_clock(len(starts_s))
    times = known["time_s"].to_numpy(np.float64)
    clocks = known["clock"].dt.as_unit("ms").astype(np.int64).to_numpy() / 1000
    # Before the first and after the last sample both go on alike.
    at = np.interp(starts_s, times, clocks) + np.minimum(starts_s - times[0], 0)
    at += np.maximum(starts_s - times[-1], 0)
    return pd.Series(pd.to_datetime(np.round(at * 1000), unit="ms", utc=True)).dt.as_unit("ms")
