"""The timeline: how many people are on screen in each time bin."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyzer.people.attention import looks
from analyzer.settings import Settings

__all__ = [
    "sample_durations",
    "timeline",
]


def sample_durations(
    times_s: NDArray[np.float64], end_s: float | None = None, *, gaps_are_losses: bool = False
) -> NDArray[np.float64]:
    """For how long each sample stands: until the next one.

    A video may hold a picture for as long as it likes. Where packets were lost, though, a gap is a loss:
    there no sample stands for more than twice the usual distance.

    Args:
        times_s: (S,) strictly increasing, in seconds.
        end_s: End of the video, where known: the last sample stands until then.
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
    """One row for each bin of `settings.bin_s` seconds of the analyzed stretch, also where nobody is seen.

    Gender and age of a person are those of the people table, the same in every bin.

    Args:
        faces: Rows of the faces table with `person_id`.
        people: Rows of the people table.
        samples: Rows of the samples table.
        settings: Gives the bins and the age bands.

    Returns:
        The columns of the timeline table, in the order of time.
    """
    bin_s = settings.bin_s
    origin = settings.start_s
    # Guards a sample exactly on a border against the last bit of its time.
    slots = np.floor((samples["time_s"].to_numpy() - origin) / bin_s + 1e-9).astype(np.int64)
    ends = samples["time_s"].to_numpy() + samples["duration_s"].to_numpy()
    count = max(int(slots.max()) + 1, int(np.ceil((ends.max() - origin) / bin_s - 1e-6))) if len(slots) else 0
    slot_of = pd.Series(slots, index=samples["sample"].to_numpy())
    table = pd.DataFrame({"start_s": origin + np.arange(count) * bin_s})
    table["end_s"] = table["start_s"] + bin_s
    table["samples"] = np.bincount(slots, minlength=count)
    face_counts = np.bincount(slot_of.loc[faces["sample"]].to_numpy(np.int64), minlength=count)
    with np.errstate(invalid="ignore"):
        table["faces_mean"] = face_counts / table["samples"].replace(0, np.nan)
    present = faces.loc[faces["person_id"] > 0, ["sample", "person_id"]]
    present = present.assign(slot=slot_of.loc[present["sample"]].to_numpy(np.int64))
    first = present.drop_duplicates("person_id")

    def spread(rows: pd.DataFrame) -> pd.DataFrame:
        return _held(rows, slots, ends - origin, samples, bin_s).drop_duplicates(["slot", "person_id"])

    def per_slot(rows: pd.DataFrame) -> NDArray[np.int64]:
        return np.bincount(rows["slot"].to_numpy(np.int64), minlength=count)

    everybody, present = present, spread(present)
    table["people"] = per_slot(present)
    table["new_people"] = per_slot(first)
    gender = present["person_id"].map(people.set_index("person_id")["gender"])
    band = present["person_id"].map(people.set_index("person_id")["age_band"])
    for column, value in (("female", "female"), ("male", "male"), ("unknown_gender", "unknown")):
        table[column] = per_slot(present[gender == value])
    for one in settings.bands:
        table[one.column] = per_slot(present[band == one.name])
    table["unknown_age"] = per_slot(present[band == "unknown"])
    if settings.scene == "audience":
        looking = looks(faces, samples, settings)[faces["person_id"].to_numpy() > 0]
        known = per_slot(spread(everybody[~np.isnan(looking)]))
        watchers = pd.Series(per_slot(spread(everybody[looking == 1])), dtype="Int64")
        table["watchers"] = watchers.mask((table["people"] > 0) & (known == 0))
    return table


def _held(
    present: pd.DataFrame,
    slots: NDArray[np.int64],
    ends: NDArray[np.float64],
    samples: pd.DataFrame,
    bin_s: float,
) -> pd.DataFrame:
    """`present` with the bins added that have no sample of their own but show a picture that is held."""
    last_slots = np.ceil(ends / bin_s - 1e-6).astype(np.int64) - 1
    before_next = np.append(slots[1:] - 1, np.iinfo(np.int64).max)
    held = np.maximum(np.minimum(last_slots, before_next) - slots, 0)
    counts = pd.Series(held, index=samples["sample"].to_numpy()).loc[present["sample"]].to_numpy(np.int64)
    extra = present.loc[present.index.repeat(counts)]
    # 1, 2, ... for each face whose picture is held.
    steps = 1 + np.arange(len(extra)) - np.repeat(np.cumsum(counts) - counts, counts)
    return pd.concat([present, extra.assign(slot=extra["slot"] + steps)], ignore_index=True)
