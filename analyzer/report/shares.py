"""Estimated shares of gender and age over the people of all runs of a report.

Shares are drawn as in `analyzer.people.proportions`, over the people of all runs together: the error rates of
the models are the same for all of them, so errors do not average out over many runs.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyzer.people.confirmed import known_people
from analyzer.people.proportions import FEW_PEOPLE, ProportionDraws, draw_proportions, share_table
from analyzer.report.document import ShareRow
from analyzer.report.population import Population
from analyzer.report.privacy import suppressed
from analyzer.report.values import records
from analyzer.runs.run import Run
from analyzer.settings import AGE_BANDS, AgeBand, Settings
from analyzer.vision.calibration import DEFAULT_KEY, Calibration

__all__ = ["Shares"]

_MISFIT, _MISFIT_PEOPLE = 0.15, 50


class Shares:
    """Estimated shares with their intervals.

    Args:
        population: The people whose shares are estimated.
    """

    def __init__(self, population: Population) -> None:
        self._population = population
        self._drawing: Future[tuple[ProportionDraws, ...]] | None = None
        self._of_group: dict[int, pd.DataFrame | None] = {}

    @cached_property
    def _calibrations(self) -> list[Calibration]:
        """The calibration of each run, as far as it is on this machine."""
        return [Calibration.of_run(run.info) for run in self._population.corpus.runs]

    @cached_property
    def calibration(self) -> Calibration:
        """The calibration of most runs, the first of equally many: only its runs are pooled."""
        keys = Counter(one.key for one in self._calibrations if one.measured)
        key = keys.most_common(1)[0][0] if keys else DEFAULT_KEY
        return next((one for one in self._calibrations if one.key == key), Calibration.load())

    @cached_property
    def estimated_alike(self) -> NDArray[np.bool_]:
        """(R,) whether a run was analyzed with `calibration`: errors of other models are not comparable."""
        return np.array([one.key == self.calibration.key for one in self._calibrations], bool)

    @cached_property
    def usable(self) -> pd.DataFrame:
        """The people of the population who were estimated by models with a known error rate."""
        people = self._population.people
        return people[self.estimated_alike[people["run_no"]]]

    @cached_property
    def stored(self) -> pd.DataFrame:
        """The runs' own tables of shares, without those of few people, which older versions wrote."""
        population = self._population
        rows = population.corpus.frame("SELECT * FROM share")
        run_no = rows["run_no"].to_numpy(np.int64)
        rows = rows[population.per_run["estimated"].to_numpy()[run_no] >= FEW_PEOPLE]
        names = ("female", "male", *(band.name for band in population.bands))
        order = {name: number for number, name in enumerate(names)}
        return rows.assign(place=rows["group"].map(order)).sort_values(["run_no", "place"], kind="stable")

    # --- draws -------------------------------------------------------------------------------------------

    def start_drawing(self) -> None:
        """Start to compute `total_draws` in the background."""
        pool = ThreadPoolExecutor(1)
        self._drawing = pool.submit(self._draws, self.usable, np.zeros(len(self.usable), np.int64))
        pool.shutdown(wait=False)

    @cached_property
    def total_draws(self) -> tuple[ProportionDraws, ...]:
        """Draws of the gender and the age of everybody."""
        if self._drawing is None:
            self.start_drawing()
        assert self._drawing is not None
        return self._drawing.result()

    @cached_property
    def group_draws(self) -> tuple[ProportionDraws, ...]:
        """Draws of the gender and the age of each group, and the same with the runs resampled."""
        groups = self._population.groups
        assert groups is not None
        runs = self.usable["run_no"].to_numpy(np.int64)
        return self._draws(self.usable, groups.of_run[runs], runs)

    def audience_draws(self) -> tuple[ProportionDraws, ...] | None:
        """Draws of the gender of people who look 13 or older, and of everybody's age.

        None if too few people have an estimate.
        """
        child = self.usable["age_years"].astype(np.float64) < AGE_BANDS["youtube"][1].low - 0.5
        older = self.usable[~child]
        if known_people(older).sum() < FEW_PEOPLE:
            return None
        gender, _ = self._draws(older, np.zeros(len(older), np.int64))
        return gender, self.total_draws[1]

    def _draws(
        self, people: pd.DataFrame, groups: NDArray[np.int64], clusters: NDArray[np.int64] | None = None
    ) -> tuple[ProportionDraws, ...]:
        population = self._population
        settings = Settings(
            age_bands=_name_of(population.bands),
            gender_of_children=_all_agree(population.corpus.runs, "gender_of_children"),
        )
        return draw_proportions(people, settings, self.calibration, groups=groups, clusters=clusters)

    # --- tables ------------------------------------------------------------------------------------------

    @cached_property
    def of_all(self) -> pd.DataFrame | None:
        """The table of shares of everybody; None if too few people have an estimate."""
        return self._table(np.ones(len(self._population.corpus.runs), bool), None)

    def of_group(self, number: int) -> pd.DataFrame | None:
        """The table of shares of one group; None if too few people have an estimate."""
        groups = self._population.groups
        assert groups is not None
        if number not in self._of_group:
            self._of_group[number] = self._table(groups.of_run == number, number)
        return self._of_group[number]

    def _table(self, members: NDArray[np.bool_], group: int | None) -> pd.DataFrame | None:
        """The table of shares of some runs' people: everybody's, or those of a group.

        If all people are of one run, it is that run's own table.
        """
        population = self._population
        peopled = members & (population.per_run["people"].to_numpy() > 0)
        if peopled.sum() == 1:
            stored = self.stored[self.stored["run_no"] == peopled.argmax()]
            if len(stored):
                return stored
        if population.estimated(members & self.estimated_alike) < FEW_PEOPLE:
            return None
        return share_table(self.total_draws if group is None else self.group_draws, group or 0)

    def rows(self) -> list[ShareRow]:
        """The shares of everybody, of each group and of each run, without those of too few people."""
        population, groups = self._population, self._population.groups
        count = len(population.corpus.runs)
        rows = self._rows("", "", self.of_all, np.ones(count, bool))
        if groups is not None:
            for number, name in enumerate(groups.names):
                if not population.hidden_groups[number]:
                    rows += self._rows(groups.by, name, self.of_group(number), groups.of_run == number)
        if population.min_people > 1:
            dealt = [np.zeros(count, np.int64), *([] if groups is None else [groups.of_run])]
            if any(population.hidden_genders(of_run).any() for of_run in dealt):
                rows = [row for row in rows if row["dimension"] != "gender"]
            # So are those of single runs: suppression would have to cover too many differences.
            return rows
        return rows if population.single else rows + self._rows_of_runs()

    def _rows_of_runs(self) -> list[ShareRow]:
        population, stored = self._population, self.stored
        numbers = stored["run_no"].to_numpy(np.int64)
        extra = stored.assign(
            by="video",
            group_value=population.corpus.table["run"].to_numpy()[numbers],
            estimated=population.per_run["estimated"].to_numpy()[numbers],
        )
        shown = extra[~population.hidden_runs[numbers]].drop(columns=["run_no", "place"])
        return cast(list[ShareRow], records(shown))

    def _rows(
        self, by: str, name: str, shares: pd.DataFrame | None, members: NDArray[np.bool_]
    ) -> list[ShareRow]:
        population = self._population
        people = int(population.per_run.loc[members, "people"].sum())
        if shares is None or 0 < people < population.min_people:
            return []
        used = members if "run_no" in shares else members & self.estimated_alike
        head = {"by": by, "group_value": name, "estimated": population.estimated(used)}
        kept = shares.drop(columns=["run_no", "place"], errors="ignore")
        bands = [band.name for band in population.bands]
        stated = population.people.loc[members[population.people["run_no"]], "band"].value_counts()
        few = suppressed(stated.reindex(bands, fill_value=0).tolist(), population.min_people)
        hidden = set(itertools.compress(bands, few))
        return [cast(ShareRow, head | row) for row in records(kept) if row["group"] not in hidden]

    def misfit(self) -> tuple[str, float] | None:
        """The group whose estimated share is farthest from its share of the counts, if suspiciously far.

        The correction moves shares far only if the footage is unlike the labeled faces.
        """
        population, shares = self._population, self.of_all
        if shares is None or population.min_people > 1:
            return None
        if population.estimated(self.estimated_alike) < _MISFIT_PEOPLE:
            return None
        people = population.people
        stated = {
            "gender": people.loc[people["gender"] != "unknown", "gender"],
            "age": people.loc[people["band"] != "unknown", "band"],
        }
        apart = {
            str(row["group"]): abs(
                row["people_share"] - float((stated[row["dimension"]] == row["group"]).mean())
            )
            for row in records(shares)
        }
        group = max(apart, key=lambda name: apart[name])
        return (group, apart[group]) if apart[group] > _MISFIT else None


def _name_of(bands: tuple[AgeBand, ...]) -> str:
    return next(name for name, each in AGE_BANDS.items() if each == bands)


def _all_agree(runs: Iterable[Run], setting: str) -> bool:
    values = {bool(run.info["settings"].get(setting)) for run in runs}
    return values == {True}
