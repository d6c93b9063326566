"""Tracklets to people: linking, fusing, and the timeline. Everything here is derived from the tables.

Linking is by time and place alone: two tracklets become one person where one ends and the other begins at
nearly the same place within a short time, over a segment's border or a loss. Faces are not compared, so a
person who leaves and comes back is a new person.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyzer.faces import iou
from analyzer.segment import LOST_AFTER_S
from analyzer.settings import AgeBand, Settings

__all__ = ["assign_band", "fuse_people", "link_tracklets", "sample_durations", "timeline"]

LINK_IOU = 0.3
"""Two tracklets continue each other where their boxes overlap at least this much."""
FRONTAL_ASYMMETRY = 0.35
"""A face counts as frontal while the nose lies this close to the middle between the eyes."""
APPEARANCE_GAP_S = 2.0
"""Not seen for longer than this: the next sighting is a new appearance."""
SPARSE_S = 0.5
"""Where samples are further apart than this, one sighting makes a person; else it takes two."""
AGE_INTERVAL_FACTOR, AGE_INTERVAL_FLOOR_YEARS = 1.41, 5.0
"""Half the 80 % interval is factor * sqrt(spread^2 + floor^2): fitted by benchmarks/fit_interval.py on
single faces, for the default age network only."""


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


def link_tracklets(faces: pd.DataFrame, samples: pd.DataFrame) -> NDArray[np.int64]:
    """Which person each face belongs to.

    Args:
        faces: Rows of the faces table in the order of time; `person_id` is not read.
        samples: Rows of the samples table.

    Returns:
        (faces,) int64: person numbers from 1 in the order of first appearance; -1 for faces of a tracklet
        too short to be a person (one sighting, unless samples are more than `SPARSE_S` apart).
    """
    if faces.empty:
        return np.empty(0, dtype=np.int64)
    times = samples["time_s"].to_numpy()
    interval_s = float(np.median(np.diff(times))) if len(times) > 1 else np.inf
    boxes = faces[["x1", "y1", "x2", "y2"]].to_numpy(np.float32)
    rows = faces.groupby("tracklet_id", sort=False).indices
    tracklets = sorted(
        (np.asarray(index) for index in rows.values()), key=lambda index: (index[0], index[-1])
    )
    starts = faces["time_s"].to_numpy()[[index[0] for index in tracklets]]
    # A tracklet lasts as long as its last sample stands, also when that picture is held for long.
    stands_until = (samples["time_s"] + samples["duration_s"]).set_axis(samples["sample"])
    last_samples = faces["sample"].to_numpy()[[index[-1] for index in tracklets]]
    ends = stands_until.loc[last_samples].to_numpy()
    follows = np.full(len(tracklets), -1, dtype=np.int64)
    moving = bool(samples["image"].eq("").all())
    if moving:  # a picture of a folder is no moment after the one before it
        reach_s = max(LOST_AFTER_S, 2.5 * interval_s)
        follows = _continuations(tracklets, starts, ends, boxes, reach_s)
    chain = np.arange(len(tracklets))
    for number in range(len(tracklets)):
        if follows[number] >= 0:
            chain[number] = chain[follows[number]]
    sightings = np.bincount(chain, weights=[len(index) for index in tracklets], minlength=len(tracklets))
    least = 1 if interval_s > SPARSE_S or not moving else 2
    person_ids = np.full(len(faces), -1, dtype=np.int64)
    numbers: dict[int, int] = {}
    for number, index in enumerate(tracklets):
        if sightings[chain[number]] >= least:
            person_ids[index] = numbers.setdefault(int(chain[number]), len(numbers) + 1)
    return person_ids


def _continuations(
    tracklets: list[NDArray[np.intp]],
    starts: NDArray[np.float64],
    ends: NDArray[np.float64],
    boxes: NDArray[np.float32],
    reach_s: float,
) -> NDArray[np.int64]:
    """For each tracklet, the earlier one that it continues, or -1. Each is continued at most once."""
    by_end = np.argsort(ends, kind="stable")
    sorted_ends = ends[by_end]
    pairs = []
    for number, start in enumerate(starts):
        # What ends at the start at the latest ends in an earlier sample; times carry rounding errors.
        low, high = np.searchsorted(sorted_ends, [start - reach_s, start + 1e-9])
        for before in by_end[low:high]:
            overlap = iou(boxes[tracklets[before][-1:]], boxes[tracklets[number][:1]])[0, 0]
            if overlap >= LINK_IOU:
                pairs.append((start - ends[before], -overlap, number, int(before)))
    follows = np.full(len(tracklets), -1, dtype=np.int64)
    continued: set[int] = set()
    for _, _, number, before in sorted(pairs):
        if follows[number] < 0 and before not in continued:
            follows[number] = before
            continued.add(before)
    return follows


def assign_band(age_years: float, bands: tuple[AgeBand, ...]) -> str:
    """Name of the band for an age, or ``unknown`` for NaN; in a gap, the nearest band.

    >>> from analyzer.settings import AGE_BANDS
    >>> assign_band(34.6, AGE_BANDS["youtube"]), assign_band(34.4, AGE_BANDS["youtube"])
    ('35-44', '25-34')
    >>> assign_band(22.0, AGE_BANDS["adience"]), assign_band(float("nan"), AGE_BANDS["adience"])
    ('15-20', 'unknown')
    """
    if np.isnan(age_years):
        return "unknown"
    age = np.floor(age_years + 0.5)
    return min(bands, key=lambda band: max(band.low - age, age - band.high, 0.0)).name


def fuse_people(faces: pd.DataFrame, samples: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """One row for each person, from all sightings.

    Gender and age are averages over the judged sightings, weighted by the width of the face.

    Args:
        faces: Rows of the faces table with `person_id`.
        samples: Rows of the samples table, with `duration_s`.
        settings: Gives the confidence below which gender is unknown, and the age bands.

    Returns:
        The columns of the people table, in the order of `person_id`.
    """
    durations = samples.set_index("sample")["duration_s"]
    rows = [
        _fuse_one(int(str(person)), seen, durations, settings)
        for person, seen in faces[faces["person_id"] > 0].groupby("person_id", sort=True)
    ]
    return pd.DataFrame(rows)


def _fuse_one(
    person: int, seen: pd.DataFrame, durations: pd.Series[float], settings: Settings
) -> dict[str, object]:
    times = seen["time_s"].to_numpy()
    stands = durations.loc[seen["sample"]].to_numpy()
    judged = seen[seen["female_prob"].notna()]
    weights = (judged["x2"] - judged["x1"]).to_numpy(np.float64)

    def mean(column: str) -> float:
        return float(np.average(judged[column], weights=weights)) if len(judged) else float("nan")

    female, age, spread = mean("female_prob"), mean("age_years"), mean("age_spread_years")
    half = AGE_INTERVAL_FACTOR * float(np.hypot(spread, AGE_INTERVAL_FLOOR_YEARS))
    return {
        "person_id": person,
        "first_s": float(times[0]),
        "last_s": float(times[-1] + stands[-1]),
        "on_screen_s": float(stands.sum()),
        "appearances": 1 + int((np.diff(times) > APPEARANCE_GAP_S + stands[:-1]).sum()),
        "samples": len(seen),
        "gender": _gender(female, settings.min_confidence),
        "female_prob": female,
        "age_years": age,
        "age_low": max(0.0, age - half) if len(judged) else float("nan"),
        "age_high": age + half,
        "age_band": assign_band(age, settings.bands),
        "face_px_median": float((seen["x2"] - seen["x1"]).median()),
        "frontal_share": float(_frontal(seen).mean()),
        "judged_samples": len(judged),
    }


def _gender(female_prob: float, min_confidence: float) -> str:
    if np.isnan(female_prob) or max(female_prob, 1 - female_prob) < min_confidence:
        return "unknown"
    return "female" if female_prob > 0.5 else "male"


def _frontal(faces: pd.DataFrame) -> NDArray[np.bool_]:
    points = np.stack(list(faces["landmarks"])).reshape(-1, 5, 2).astype(np.float64)
    left, right, nose = points[:, 0], points[:, 1], points[:, 2]
    axis = right - left
    length = np.maximum(np.hypot(axis[:, 0], axis[:, 1]), 1e-6)
    # How far along the line between the eyes the nose lies: 0.5 is the middle.
    share = ((nose - left) * axis).sum(axis=1) / length**2
    return np.abs(2 * share - 1) <= FRONTAL_ASYMMETRY


def timeline(
    faces: pd.DataFrame, people: pd.DataFrame, samples: pd.DataFrame, settings: Settings
) -> pd.DataFrame:
    """One row for each bin of `settings.bin_s` seconds of the analysed stretch, also where nobody is seen.

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
    present = _held(present, slots, ends - origin, samples, bin_s).drop_duplicates(["slot", "person_id"])

    def per_slot(rows: pd.DataFrame) -> NDArray[np.int64]:
        return np.bincount(rows["slot"].to_numpy(np.int64), minlength=count)

    table["people"] = per_slot(present)
    table["new_people"] = per_slot(first)
    gender = present["person_id"].map(people.set_index("person_id")["gender"])
    band = present["person_id"].map(people.set_index("person_id")["age_band"])
    for column, value in (("female", "female"), ("male", "male"), ("unknown_gender", "unknown")):
        table[column] = per_slot(present[gender == value])
    for one in settings.bands:
        table[one.column] = per_slot(present[band == one.name])
    table["unknown_age"] = per_slot(present[band == "unknown"])
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
