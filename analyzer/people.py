"""People from their faces: fusing, and the timeline. Everything here is derived from the tables."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyzer.attention import attention_table, looks
from analyzer.faces import frontality
from analyzer.settings import Settings, assign_band
from analyzer.vision.calibration import Calibration, Estimates, logit

__all__ = [
    "fuse_estimates",
    "fuse_people",
    "images_table",
    "sample_durations",
    "stated_genders",
    "timeline",
]

FRONTAL = 0.65
"""A face counts as looking towards the camera from this frontality on."""
APPEARANCE_GAP_S = 2.0
"""Not seen for longer than this: the next sighting is a new appearance."""
FULL_PX, WORTHLESS_SCORE = 80.0, 0.3
"""How sightings are weighted: see `fuse_estimates`."""


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


def fuse_estimates(faces: pd.DataFrame, embeddings: pd.DataFrame) -> tuple[NDArray[np.int64], Estimates]:
    """What the judged sightings of each person say together about gender and age.

    Weighted means; a sighting weighs by the face's width, up to `FULL_PX`, and by how far the detector's
    score is above `WORTHLESS_SCORE`: of all that was tried (width, score, sharpness, frontality) those two
    tell best how far a sighting lies from the truth. Of the probability of female the mean is taken over
    its log odds.

    Args:
        faces: Rows of the faces table with `person_id`.
        embeddings: Rows of the embeddings table with `person_id`.

    Returns:
        (N,) `person_id` of those with a judged sighting, ascending, and what is said of them.
    """
    judged = faces[(faces["person_id"] > 0) & faces["female_prob"].notna()]
    width = (judged["x2"] - judged["x1"]).clip(upper=FULL_PX)
    weight = (width * (judged["score"] - WORTHLESS_SCORE).clip(lower=0.01)).to_numpy(np.float64)
    values = {
        "odds": logit(judged["female_prob"].to_numpy(np.float64)),
        "age": judged["age_years"].to_numpy(np.float64),
        "spread": judged["age_spread_years"].to_numpy(np.float64),
    }
    # What no sighting says (a network may give an age without its spread) stays unknown.
    person = judged["person_id"].to_numpy()
    told = pd.DataFrame({name: value * weight for name, value in values.items()})
    sums = told.groupby(person).sum(min_count=1)
    weights = told.notna().mul(weight, axis=0).groupby(person).sum()
    ids = sums.index.to_numpy(np.int64)
    means = {name: (sums[name] / weights[name]).to_numpy(np.float64) for name in values}
    return ids, Estimates(means["odds"], means["age"], means["spread"], _mean_looks(embeddings, ids))


def _mean_looks(embeddings: pd.DataFrame, ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """(N, D) the mean embedding of each person, NaN where there is none."""
    some = embeddings[embeddings["person_id"].isin(ids)]
    if some.empty:
        return np.full((len(ids), 1), np.nan)
    vectors = np.stack(list(some["embedding"])).astype(np.float64)
    weight = (some["views"] * some["view_px"]).to_numpy(np.float64)
    place = np.searchsorted(ids, some["person_id"].to_numpy())
    sums = np.zeros((len(ids), vectors.shape[1]))
    np.add.at(sums, place, vectors * weight[:, None])
    with np.errstate(invalid="ignore"):
        return np.asarray(sums / np.bincount(place, weights=weight, minlength=len(ids))[:, None])


def fuse_people(
    faces: pd.DataFrame,
    samples: pd.DataFrame,
    embeddings: pd.DataFrame,
    settings: Settings,
    calibration: Calibration,
) -> pd.DataFrame:
    """One row for each person, from all sightings.

    Args:
        faces: Rows of the faces table with `person_id`.
        samples: Rows of the samples table, with `duration_s`.
        embeddings: Rows of the embeddings table with `person_id`.
        settings: Gives when gender stays unknown, and the age bands.
        calibration: Of the networks that judged the faces.

    Returns:
        The columns of the people table, those of an audience too in that scene; in the order of
        `person_id`.
    """
    seen = faces[faces["person_id"] > 0].sort_values(["person_id", "time_s"], kind="stable")
    person = seen["person_id"].to_numpy(np.int64)
    stands = samples.set_index("sample")["duration_s"].loc[seen["sample"]].to_numpy(np.float64)
    times = seen["time_s"].to_numpy(np.float64)
    returns = np.zeros(len(seen), bool)
    returns[1:] = (person[1:] == person[:-1]) & (np.diff(times) > APPEARANCE_GAP_S + stands[:-1])
    front = frontality(_landmarks(seen)) if len(seen) else np.empty(0, np.float32)
    # Without landmarks it is not known who looks towards the camera.
    frontal = np.where(np.isnan(front), np.nan, front >= FRONTAL)
    sighting = pd.DataFrame(
        {
            "person_id": person,
            "time_s": times,
            "until_s": times + stands,
            "stands_s": stands,
            "returns": returns,
            "width": (seen["x2"] - seen["x1"]).to_numpy(),
            "frontal": frontal,
        }
    )
    sightings = sighting.groupby("person_id")
    table = pd.DataFrame(
        {
            "first_s": sightings["time_s"].first(),
            "last_s": sightings["until_s"].last(),
            "on_screen_s": sightings["stands_s"].sum(),
            "appearances": 1 + sightings["returns"].sum(),
            "samples": sightings.size(),
            "face_px_median": sightings["width"].median(),
            "frontal_share": sightings["frontal"].mean(),
        }
    )
    ids, estimates = fuse_estimates(seen, embeddings)
    probability, years = calibration.person(estimates)
    low, high = calibration.age_interval(years, estimates.spread_years)
    read = {"female_prob": probability, "age_years": years, "age_low": low, "age_high": high}
    table = table.join(pd.DataFrame(read, index=ids))
    judged = seen.loc[seen["female_prob"].notna(), "person_id"].value_counts()
    table["judged_samples"] = judged.reindex(table.index, fill_value=0)
    age = table["age_years"].to_numpy(np.float64)
    table["age_band"] = [assign_band(one, settings.bands) for one in age]
    table["gender"] = stated_genders(table["female_prob"].to_numpy(np.float64), age, settings, calibration)
    if settings.scene == "audience":
        table = table.join(attention_table(sighting, looks(seen, samples, settings), settings))
    return table.rename_axis("person_id").reset_index()


def stated_genders(
    female_prob: NDArray[np.float64],
    age_years: NDArray[np.float64],
    settings: Settings,
    calibration: Calibration,
) -> NDArray[np.str_]:
    """(N,) "female", "male" or "unknown": what is stated of people.

    Args:
        female_prob: (N,) NaN: not judged.
        age_years: (N,) likewise.
        settings: Gives how sure one must be, and whether children's gender is stated.
        calibration: Of the networks that judged.
    """
    sure = np.maximum(female_prob, 1 - female_prob) >= settings.min_confidence  # NaN is not
    if not settings.gender_of_children:
        sure &= ~(age_years < calibration.child_years)
    return np.where(sure, np.where(female_prob > 0.5, "female", "male"), "unknown")


def _landmarks(faces: pd.DataFrame) -> NDArray[np.float32]:
    """(N, 5, 2) float32."""
    return np.stack(list(faces["landmarks"])).reshape(-1, 5, 2).astype(np.float32)


def images_table(
    names: Mapping[int, str],
    faces: pd.DataFrame,
    people: pd.DataFrame,
    samples: pd.DataFrame,
    problems: Mapping[int, str],
) -> pd.DataFrame:
    """One row for each image and person in it, from left to right; one for each image without people.

    Args:
        names: File name of every image that was asked for, by the number of its segment.
        faces: Rows of the faces table with `person_id`.
        people: Rows of the people table.
        samples: Rows of the samples table; an image that is not in it could not be read.
        problems: Why each of those could not be read, by the same number.

    Returns:
        The columns of the images table but `video_id`, in the order of `names`.
    """
    read = samples.set_index("segment").reindex(columns=["sample", "width", "height"])
    images = pd.DataFrame({"image": pd.Series(names, dtype=str)}).join(read)
    images["readable"] = images["sample"].notna()
    images["reason"] = pd.Series(problems, dtype=str).reindex(images.index)
    images["sample"] = images["sample"].fillna(-1).astype(np.int64)
    of_person = people.rename(columns={"samples": "person_images"}).set_index("person_id")
    of_person = of_person[["person_images", "gender", "age_years", "age_low", "age_high", "age_band"]]
    of_face = faces.rename(columns={"female_prob": "face_female_prob", "age_years": "face_age_years"})
    of_face = of_face[
        ["sample", "person_id", "x1", "y1", "x2", "y2", "score", "face_female_prob", "face_age_years"]
    ]
    seen = of_face[of_face["person_id"] > 0].sort_values(["sample", "x1"], kind="stable")
    table = images.merge(seen.join(of_person, on="person_id"), on="sample", how="left")
    table["people"] = table["sample"].map(seen["sample"].value_counts()).fillna(0).astype(np.int64)
    table["faces"] = table["sample"].map(faces["sample"].value_counts()).fillna(0).astype(np.int64)
    table["person_id"] = table["person_id"].fillna(-1).astype(np.int64)
    table["person_images"] = table["person_images"].fillna(0).astype(np.int64)
    return table.astype({"width": "Int64", "height": "Int64"})


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
