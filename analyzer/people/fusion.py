"""People from their faces: estimates, appearances and times on screen, derived from the tables."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyzer.faces import frontality
from analyzer.people.attention import attention_table, gazes
from analyzer.people.confirmed import Confirmed, confirm
from analyzer.settings import Settings, assign_band
from analyzer.vision.calibration import Calibration, Estimates, logit

__all__ = [
    "face_weights",
    "fuse_estimates",
    "fuse_people",
    "images_table",
    "person_means",
    "stated_genders",
]

FRONTAL = 0.65
"""From this frontality on a face counts as frontal."""

APPEARANCE_GAP_S = 2.0
"""A longer absence ends an appearance."""

FULL_PX, LEAST_QUALITY = 80.0, 0.05
"""Weights of faces, see `face_weights`."""


def fuse_estimates(faces: pd.DataFrame) -> tuple[NDArray[np.int64], Estimates]:
    """Combine the estimates of the faces of each person: means, weighted by `face_weights`.

    The probability of female is averaged as log odds.

    Args:
        faces: Rows of the faces table with `person_id`.

    Returns:
        (N,) `person_id` of people with estimates, ascending, and the combined estimates.
    """
    estimated = faces[(faces["person_id"] > 0) & faces["female_prob"].notna()]
    person, weight = estimated["person_id"], face_weights(estimated)
    values = pd.DataFrame(
        {
            "log_odds": logit(estimated["female_prob"].to_numpy(np.float64)),
            "age": estimated["age_years"].to_numpy(np.float64),
            "std": estimated["age_std_years"].to_numpy(np.float64),
            "face_px": _widths(estimated),
            "quality": _clarity(estimated),
        }
    )
    means = person_means(values, person, weight)
    return means.index.to_numpy(np.int64), Estimates(*(means[name].to_numpy() for name in values))


def person_means(values: pd.DataFrame, person: pd.Series, weight: NDArray[np.float64]) -> pd.DataFrame:
    """Return the weighted mean of each column for each person.

    Args:
        values: A row for each face; NaN where unknown.
        person: (N,) `person_id` of each.
        weight: (N,) of each.

    Returns:
        A row for each person, by `person_id`, ascending; NaN where no face has a value.
    """
    # A model may estimate an age without its standard deviation: what no face has stays unknown.
    of = person.to_numpy()
    sums = values.mul(weight, axis=0).groupby(of).sum(min_count=1)
    return sums / values.notna().mul(weight, axis=0).groupby(of).sum()


def face_weights(faces: pd.DataFrame) -> NDArray[np.float64]:
    """Return (N,) how much each face counts for its person.

    Its width, up to `FULL_PX`, times its quality (at least `LEAST_QUALITY`), or times the detector's score
    where it was not aligned.

    Args:
        faces: Rows of the faces table.
    """
    return _widths(faces).clip(max=FULL_PX) * _clarity(faces).clip(LEAST_QUALITY)


def _widths(faces: pd.DataFrame) -> NDArray[np.float64]:
    return (faces["x2"] - faces["x1"]).to_numpy(np.float64)


def _clarity(faces: pd.DataFrame) -> NDArray[np.float64]:
    return faces["quality"].fillna(faces["score"]).to_numpy(np.float64)


def fuse_people(
    faces: pd.DataFrame,
    samples: pd.DataFrame,
    settings: Settings,
    calibration: Calibration,
    confirmed: Mapping[int, Confirmed] | None = None,
) -> pd.DataFrame:
    """Return one row for each person, from all faces.

    Args:
        faces: Rows of the faces table with `person_id`.
        samples: Rows of the samples table, with `duration_s`.
        settings: Define when gender stays unknown, and the age bands.
        calibration: Of the models.
        confirmed: What is known about people, by `person_id`.

    Returns:
        The columns of the people table, with those of an audience in that scene; in the order of
        `person_id`.
    """
    seen = faces[faces["person_id"] > 0].sort_values(["person_id", "time_s"], kind="stable")
    person = seen["person_id"].to_numpy(np.int64)
    durations = samples.set_index("sample")["duration_s"].loc[seen["sample"]].to_numpy(np.float64)
    times = seen["time_s"].to_numpy(np.float64)
    returns = np.zeros(len(seen), bool)
    returns[1:] = (person[1:] == person[:-1]) & (np.diff(times) > APPEARANCE_GAP_S + durations[:-1])
    front = frontality(_landmarks(seen)) if len(seen) else np.empty(0, np.float32)
    # Unknown without landmarks.
    frontal = np.where(np.isnan(front), np.nan, front >= FRONTAL)
    sighting = pd.DataFrame(
        {
            "person_id": person,
            "time_s": times,
            "until_s": times + durations,
            "duration_s": durations,
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
            "on_screen_s": sightings["duration_s"].sum(),
            "appearances": 1 + sightings["returns"].sum(),
            "samples": sightings.size(),
            "face_px_median": sightings["width"].median(),
            "frontal_share": sightings["frontal"].mean(),
        }
    )
    ids, estimates = fuse_estimates(seen)
    read = calibration.person(estimates)
    columns = {
        "female_prob": read.female_prob,
        "age_years": read.age_years,
        "age_low": read.low_years,
        "age_high": read.high_years,
    }
    table = table.join(pd.DataFrame(columns, index=ids))
    estimated = seen.loc[seen["female_prob"].notna(), "person_id"].value_counts()
    table["estimated_samples"] = estimated.reindex(table.index, fill_value=0)
    age = table["age_years"].to_numpy(np.float64)
    table["age_band"] = [assign_band(one, settings.bands) for one in age]
    genders = stated_genders(table["female_prob"].to_numpy(np.float64), age, settings, calibration)
    table["gender"] = genders.astype(object)
    table = confirm(table, confirmed or {}, settings)
    if settings.scene == "audience":
        table = table.join(attention_table(sighting, gazes(seen, samples, settings), settings))
    return table.rename_axis("person_id").reset_index()


def stated_genders(
    female_prob: NDArray[np.float64],
    age_years: NDArray[np.float64],
    settings: Settings,
    calibration: Calibration,
) -> NDArray[np.str_]:
    """Return the gender that is stated of people: (N,) "female", "male" or "unknown".

    Args:
        female_prob: (N,) NaN: not estimated.
        age_years: (N,) likewise.
        settings: Define the necessary confidence, and whether the gender of children is stated.
        calibration: Of the models.
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
    """Return one row for each image and person in it, from left to right; one for an image without people.

    Args:
        names: File names of all images, by the number of their segment.
        faces: Rows of the faces table with `person_id`.
        people: Rows of the people table.
        samples: Rows of the samples table; images that are not in it could not be read.
        problems: Why each of those could not be read, by the number of their segment.

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
