"""The figures of each video, of groups of videos, and of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyzer.report.document import Figures, GroupRow
from analyzer.report.figures import FIGURES
from analyzer.report.population import GENDER_COUNTS, Population
from analyzer.report.shares import Shares
from analyzer.report.values import known_value, records
from analyzer.util.gender import GENDERS

__all__ = ["Metrics"]


class Metrics:
    """The figures of a population.

    Args:
        population: The people and the figures of each run.
        shares: Their estimated shares.
    """

    def __init__(self, population: Population, shares: Shares) -> None:
        self._population = population
        self._shares = shares

    def total(self) -> Figures:
        """The figures of everything."""
        count = len(self._population.corpus.runs)
        if not count:
            none = dict.fromkeys(figure.name for figure in FIGURES)
            return cast(Figures, {"suppressed": False} | none | {"videos": 0})
        shares = [_female_of(self._shares.of_all)]
        (row,) = self._figures(np.zeros(count, np.int64), shares, np.zeros(1, bool))
        return row

    def videos(self) -> list[Figures]:
        """The figures of each run, in the order of the corpus."""
        numbers = range(len(self._population.corpus.runs))
        stored = self._shares.stored
        of_women = stored[stored["group"] == "female"]
        shares = dict(zip(of_women["run_no"], map(_female, records(of_women)), strict=True))
        return self._figures(
            np.array(numbers, np.int64),
            [shares.get(number, {}) for number in numbers],
            self._population.hidden_runs,
        )

    def groups(self) -> list[GroupRow]:
        """The figures of each group."""
        groups = self._population.groups
        assert groups is not None
        shares = [_female_of(self._shares.of_group(number)) for number in range(len(groups.names))]
        rows = self._figures(groups.of_run, shares, self._population.hidden_groups)
        return [cast(GroupRow, {"group": name} | row) for name, row in zip(groups.names, rows, strict=True)]

    def _figures(
        self, of_run: NDArray[np.int64], shares: Sequence[dict[str, Any]], hidden: NDArray[np.bool_]
    ) -> list[Figures]:
        """The figures of groups of videos: `of_run` is (R,) each video's group, none of them empty."""
        population, least = self._population, self._population.min_people
        videos = population.per_run.groupby(of_run)
        counted = ["people", "people_low", "people_high", *GENDER_COUNTS, "videos", "estimated"]
        times = [
            f"{name}_s" for name in ("analyzed", "on_screen", "occupancy", "co_presence", "mixed", "person")
        ]
        times += [f"{gender}_on_screen_s" for gender in GENDERS]
        table = videos[[*counted, *times]].sum()
        known = table["analyzed_s"].where(table["analyzed_s"] > 0)
        for name in ("occupancy", "co_presence", "mixed"):
            table[name] = table[f"{name}_s"] / known
        table["concurrent_mean"] = table["person_s"] / known
        table["people_per_video"] = table["people"] / table["videos"]
        table["concurrent_peak"] = videos["concurrent_peak"].max()
        table["first_s"] = videos["first_s"].median()
        for name in ("longest_occupancy_s", "longest_person_s"):
            table[name] = videos[name].max()
        ages = population.people["age_years"].groupby(of_run[population.people["run_no"].to_numpy(np.int64)])
        table["age_median_years"] = ages.median()
        rows: list[Figures] = []
        if least > 1:  # a median can be one person's
            table["age_median_years"] = table["age_median_years"].round()
        few = population.hidden_genders(of_run)
        for one, of_women, hide, hidden_genders in zip(
            table.to_dict("records"), shares, hidden, few, strict=True
        ):
            known_figures = one | of_women
            suppress = bool(hide) or 0 < known_figures["people"] < least
            gone = {name for name, no in zip(GENDER_COUNTS, hidden_genders, strict=True) if no}
            if gone:
                gone |= {"mixed", *_FEMALE, *(f"{gender}_on_screen_s" for gender in GENDERS)}
            gone |= {"estimated"} if 0 < known_figures["estimated"] < least else set()
            gone |= {figure.name for figure in FIGURES if figure.personal} if suppress else set()
            gone |= {figure.name for figure in FIGURES if figure.single} if least > 1 else set()
            figures: dict[str, Any] = {
                f.name: known_figures.get(f.name) for f in FIGURES if f.name not in gone
            }
            for name in {*counted, "concurrent_peak"} & figures.keys():
                figures[name] = int(figures[name])
            values = {figure.name: known_value(figures.get(figure.name)) for figure in FIGURES}
            rows.append(cast(Figures, {"suppressed": suppress} | values))
        return rows


_FEMALE = tuple(f"female_{of}_{what}" for of in ("people", "time") for what in ("share", "low", "high"))


def _female_of(shares: pd.DataFrame | None) -> dict[str, Any]:
    rows = [] if shares is None else records(shares[shares["group"] == "female"])
    return _female(rows[0]) if rows else {}


def _female(row: dict[str, Any]) -> dict[str, Any]:
    """The figures in the row of a shares table."""
    return {name: row[name.removeprefix("female_")] for name in _FEMALE}
