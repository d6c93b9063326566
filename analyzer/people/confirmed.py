"""What corrections say about people: names, genders and ages that are known, not estimated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyzer.settings import AgeBand, Settings, assign_band

__all__ = [
    "CONFIRMED",
    "ESTIMATED",
    "Confirmed",
    "confirm",
    "confirmed_bands",
    "confirmed_genders",
    "known_people",
]

ESTIMATED, CONFIRMED = "estimated", "confirmed"
"""Values of `gender_source` and `age_source`."""

_OPEN_YEARS = 10.0
"""An age band without an upper end, of a person without an estimate, counts as so many years more than its
lower end."""


@dataclass(frozen=True)
class Confirmed:
    """What is known about a person."""

    name: str = ""
    gender: str | None = None
    """female, male or unknown; None: not confirmed."""
    ages: tuple[float, float] | None = None
    """The least and the greatest age in years; the second may be infinite. None: not confirmed."""
    corrected: bool = True
    """Whether anything was corrected, which person it is included."""


def confirm(people: pd.DataFrame, confirmed: Mapping[int, Confirmed], settings: Settings) -> pd.DataFrame:
    """Return a people table with what is confirmed in place of what was estimated.

    Args:
        people: Rows of the people table, as estimated, by `person_id` in its index.
        confirmed: By person number.
        settings: Define the age bands.

    Returns:
        The same rows with `name`, `gender_source`, `age_source` and `corrected`.
    """
    known = [confirmed.get(int(person), _NOTHING) for person in people.index]
    table = people.assign(
        name=pd.Series([one.name for one in known], index=people.index, dtype=str),
        gender_source=_sources([one.gender is not None for one in known], people.index),
        age_source=_sources([one.ages is not None for one in known], people.index),
        corrected=pd.Series([one.corrected for one in known], index=people.index, dtype=bool),
    )
    for person, one in zip(people.index, known, strict=True):
        if one.gender is not None:
            table.loc[person, "gender"] = one.gender
        if one.ages is not None:
            low, high = one.ages
            age = float(table.loc[person, "age_years"])
            if math.isnan(age):
                age = (low + high) / 2 if math.isfinite(high) else low + _OPEN_YEARS
            age = min(max(age, low), high)
            end = high if math.isfinite(high) else max(float(table["age_high"].get(person, age)), age)
            table.loc[person, ["age_years", "age_low", "age_high"]] = [
                age,
                low,
                age if math.isnan(end) else end,
            ]
            table.loc[person, "age_band"] = assign_band(age, settings.bands)
    return table


_NOTHING = Confirmed(corrected=False)


def _sources(confirmed: list[bool], index: pd.Index) -> pd.Series:
    return pd.Series([CONFIRMED if one else ESTIMATED for one in confirmed], index=index, dtype=str)


def _is_confirmed(people: pd.DataFrame, column: str) -> NDArray[np.bool_]:
    # Tables of older versions lack the columns.
    if column not in people:
        return np.zeros(len(people), bool)
    return np.asarray(people[column].eq(CONFIRMED).to_numpy(bool, na_value=False))


def known_people(people: pd.DataFrame) -> NDArray[np.bool_]:
    """Return (N,) whether the gender or age of each person was estimated or is confirmed.

    Args:
        people: Rows of the people table.
    """
    known = _is_confirmed(people, "gender_source") | _is_confirmed(people, "age_source")
    return np.asarray((people["estimated_samples"] > 0).to_numpy(bool) | known)


def confirmed_genders(people: pd.DataFrame, classes: tuple[str, ...]) -> NDArray[np.int64]:
    """Return (N,) the class of each person whose gender is confirmed, -1 for others.

    Args:
        people: Rows of the people table.
        classes: Names of the classes; who is confirmed as unknown is in none of them.
    """
    found = np.full(len(people), -1, np.int64)
    for row in np.flatnonzero(_is_confirmed(people, "gender_source")):
        if (gender := str(people["gender"].iloc[row])) in classes:
            found[row] = classes.index(gender)
    return found


def confirmed_bands(people: pd.DataFrame, bands: tuple[AgeBand, ...]) -> NDArray[np.int64]:
    """Return (N,) the age band of each person whose confirmed age lies in a single one, -1 for others.

    Args:
        people: Rows of the people table.
        bands: The age bands.
    """
    names = [band.name for band in bands]
    found = np.full(len(people), -1, np.int64)
    for row in np.flatnonzero(_is_confirmed(people, "age_source")):
        low, high = (assign_band(float(people[end].iloc[row]), bands) for end in ("age_low", "age_high"))
        if low == high and low in names:
            found[row] = names.index(low)
    return found
