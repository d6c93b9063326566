"""Times of live sources: durations of samples, and clock times."""

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
    """Return how long each sample is displayed: until the next one, less the gap before that.

    Args:
        samples: Rows of the samples table with `time_s` and `gap_s`.

    Returns:
        (S,) seconds.

    >>> samples = pd.DataFrame({"time_s": [0.0, 0.2, 0.4, 5.0], "gap_s": [0.0, 0.0, 0.0, 4.5]})
    >>> live_durations(samples).round(3).tolist()
    [0.2, 0.2, 0.1, 0.2]
    """
    times, gaps = samples["time_s"].to_numpy(np.float64), samples["gap_s"].to_numpy(np.float64)
    if not len(times):
        return np.empty(0)
    durations = np.maximum(np.diff(times) - gaps[1:], 0.0)
    return np.append(durations, np.median(durations) if len(durations) else 1.0)


def bin_clocks(starts_s: NDArray[np.float64], samples: pd.DataFrame) -> pd.Series[pd.Timestamp]:
    """Return clock times of a live source, interpolated between its samples.

    Args:
        starts_s: (B,) times in seconds.
        samples: Rows of the samples table with `time_s` and `clock`.

    Returns:
        (B,) UTC to the millisecond; empty if no sample has a clock time.
    """
    known = samples[samples["clock"].notna()]
    if known.empty:
        return no_clock(len(starts_s))
    times = known["time_s"].to_numpy(np.float64)
    clocks = known["clock"].dt.as_unit("ms").astype(np.int64).to_numpy() / 1000
    # Before the first and after the last sample, both advance alike.
    at = np.interp(starts_s, times, clocks) + np.minimum(starts_s - times[0], 0)
    at += np.maximum(starts_s - times[-1], 0)
    return pd.Series(pd.to_datetime(np.round(at * 1000), unit="ms", utc=True)).dt.as_unit("ms")
