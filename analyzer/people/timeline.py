"""The timeline: the number of people on screen in each time bin."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyzer.people.attention import gazes
from analyzer.settings import Settings

__all__ = [
    "sample_durations",
    "timeline",
]


def sample_durations(
    times_s: NDArray[np.float64], end_s: float | None = None, *, gaps_are_losses: bool = False
) -> NDArray[np.float64]:
    """Return how long each sample is displayed: until the next one.

    A video may display a frame for any length of time. In a damaged video, however, a gap is a loss, and a
    sample lasts at most twice the usual distance.

    Args:
        times_s: (S,) strictly increasing, in seconds.
        end_s: End of the video, if known: the last sample lasts until then.
        gaps_are_losses: Whether the video was damaged.

    Returns:
        (S,) seconds.

    >>> times = np.array([0.0, 0.2, 0.4, 5.0])
    >>> sample_durations(times, 6.0).round(3).tolist()
    [0.2, 0.2, 4.6, 1.0]
    >>> sample_durations(times, 6.0, gaps_are_losses=True).round(3).tolist()
    [0.2, 0.2, 0.4, 0.2]
    """
    if not len(times_s):
        return np.empty(0)
    gaps = np.diff(times_s)
    usual = float(np.median(gaps)) if len(gaps) else 1.0
    last = usual if end_s is None or end_s <= times_s[-1] else end_s - float(times_s[-1])
    if gaps_are_losses:
        return np.append(np.minimum(gaps, 2 * usual), min(last, usual))
    return np.append(gaps, last)


def timeline(
    faces: pd.DataFrame, people: pd.DataFrame, samples: pd.DataFrame, settings: Settings
) -> pd.DataFrame:
    """Return one row for each bin of `settings.bin_s` seconds, with or without people.

    Gender and age of a person are those of the people table, the same in every bin.

    Args:
        faces: Rows of the faces table with `person_id`.
        people: Rows of the people table.
        samples: Rows of the samples table.
        settings: Define the bins and the age bands.

    Returns:
        The columns of the timeline table, in the order of time.
    """
    bin_s = settings.bin_s
    origin = settings.start_s
    # A sample exactly on a border must not fall into the bin before it by rounding.
    bins = np.floor((samples["time_s"].to_numpy() - origin) / bin_s + 1e-9).astype(np.int64)
    ends = samples["time_s"].to_numpy() + samples["duration_s"].to_numpy()
    count = max(int(bins.max()) + 1, int(np.ceil((ends.max() - origin) / bin_s - 1e-6))) if len(bins) else 0
    bin_of = pd.Series(bins, index=samples["sample"].to_numpy())
    table = pd.DataFrame({"start_s": origin + np.arange(count) * bin_s})
    table["end_s"] = table["start_s"] + bin_s
    table["samples"] = np.bincount(bins, minlength=count)
    face_counts = np.bincount(bin_of.loc[faces["sample"]].to_numpy(np.int64), minlength=count)
    with np.errstate(invalid="ignore"):
        table["faces_mean"] = face_counts / table["samples"].replace(0, np.nan)
    present = faces.loc[faces["person_id"] > 0, ["sample", "person_id"]]
    present = present.assign(bin=bin_of.loc[present["sample"]].to_numpy(np.int64))
    first = present.drop_duplicates("person_id")

    def spread(rows: pd.DataFrame) -> pd.DataFrame:
        return _held(rows, bins, ends - origin, samples, bin_s).drop_duplicates(["bin", "person_id"])

    def per_bin(rows: pd.DataFrame) -> NDArray[np.int64]:
        return np.bincount(rows["bin"].to_numpy(np.int64), minlength=count)

    sampled, present = present, spread(present)
    table["people"] = per_bin(present)
    table["new_people"] = per_bin(first)
    gender = present["person_id"].map(people.set_index("person_id")["gender"])
    band = present["person_id"].map(people.set_index("person_id")["age_band"])
    for column, value in (("female", "female"), ("male", "male"), ("unknown_gender", "unknown")):
        table[column] = per_bin(present[gender == value])
    for one in settings.bands:
        table[one.column] = per_bin(present[band == one.name])
    table["unknown_age"] = per_bin(present[band == "unknown"])
    if settings.scene == "audience":
        looking = gazes(faces, samples, settings)[faces["person_id"].to_numpy() > 0]
        known = per_bin(spread(sampled[~np.isnan(looking)]))
        watchers = pd.Series(per_bin(spread(sampled[looking == 1])), dtype="Int64")
        table["watchers"] = watchers.mask((table["people"] > 0) & (known == 0))
    return table


def _held(
    present: pd.DataFrame,
    bins: NDArray[np.int64],
    ends: NDArray[np.float64],
    samples: pd.DataFrame,
    bin_s: float,
) -> pd.DataFrame:
    """Add to `present` the bins without a sample of their own in which a frame is still displayed."""
    last_bins = np.ceil(ends / bin_s - 1e-6).astype(np.int64) - 1
    before_next = np.append(bins[1:] - 1, np.iinfo(np.int64).max)
    held = np.maximum(np.minimum(last_bins, before_next) - bins, 0)
    counts = pd.Series(held, index=samples["sample"].to_numpy()).loc[present["sample"]].to_numpy(np.int64)
    extra = present.loc[present.index.repeat(counts)]
    # 1, 2, ... for each face whose frame is still displayed.
    steps = 1 + np.arange(len(extra)) - np.repeat(np.cumsum(counts) - counts, counts)
    return pd.concat([present, extra.assign(bin=extra["bin"] + steps)], ignore_index=True)
