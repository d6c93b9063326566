"""Changes from period to period and differences between groups, with their error bars.

The error bars hold both the errors of the estimates and the choice of videos: measured errors as in
`analyzer.people.proportions`, and the videos resampled by the Bayesian bootstrap (Rubin 1981).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyzer.people.confirmed import known_people
from analyzer.people.proportions import interval
from analyzer.report.document import Comparison, ComparisonRow, Trend, TrendRow
from analyzer.report.figures import BY_NAME
from analyzer.report.groups import Groups
from analyzer.report.population import Population
from analyzer.report.shares import Shares
from analyzer.report.values import known_value

__all__ = ["COMPARED", "MAX_COMPARED", "Trends"]

Real = NDArray[np.float64]

MAX_COMPARED = 12
"""The largest number of groups of which any two are compared."""

# Numerator and denominator per video of the figures that have a trend, besides the shares.
_RATIOS = {
    "people_per_video": ("people", "videos"),
    "occupancy": ("occupancy_s", "analyzed_s"),
    "co_presence": ("co_presence_s", "analyzed_s"),
    "concurrent_mean": ("person_s", "analyzed_s"),
}

COMPARED = (*_RATIOS, "female_people_share", "female_time_share")
"""The figures that are compared between any two groups."""

_DRAWS, _SEED = 400, 20260101


class Trends:
    """Changes and differences of the groups of a population.

    Args:
        population: The runs and their groups.
        shares: Their estimated shares.
    """

    def __init__(self, population: Population, shares: Shares) -> None:
        self._population = population
        self._shares = shares

    def trend(self) -> Trend | None:
        """The changes from each period to the next; None if the groups are not periods."""
        groups, population = self._population.groups, self._population
        if groups is None or not groups.timely or len(groups.names) < 2:
            return None
        sizes = np.bincount(groups.of_run, minlength=len(groups.names))
        hidden = population.hidden_groups
        rows: list[TrendRow] = []
        for one in self._drawn_figures:
            low, high = one.ends
            for now in range(len(groups.names)):
                if one.personal and hidden[now]:
                    continue
                row: dict[str, Any] = {"figure": one.name, "words": one.words, "unit": one.unit}
                row |= {"period": groups.names[now], "value": one.value[now]}
                row |= {"value_low": low[now], "value_high": high[now], "videos": int(sizes[now])}
                row |= dict.fromkeys(("previous", "previous_value", "previous_videos"))
                row |= dict.fromkeys(("change", "change_low", "change_high", "exceeds"))
                before = now - 1
                if before >= 0 and not (one.personal and hidden[before]):
                    row |= {"previous": groups.names[before], "previous_value": one.value[before]}
                    row |= {"previous_videos": int(sizes[before])}
                    names = ("change", "change_low", "change_high", "exceeds")
                    row |= dict(zip(names, one.difference(now, before), strict=True))
                rows.append(cast(TrendRow, {key: known_value(value) for key, value in row.items()}))
        return {"by": groups.by, "rows": rows}

    def intervals(self) -> dict[str, list[tuple[float | None, float | None, float | None]]]:
        """By figure: value and both ends of its interval in each group; None where they are not known."""
        groups, population = self._population.groups, self._population
        if groups is None:
            return {}
        known: dict[str, list[tuple[float | None, float | None, float | None]]] = {}
        for one in self._drawn_figures:
            hidden = population.hidden_groups & one.personal
            ends = np.where(hidden, np.nan, np.stack([one.value, *one.ends]))
            known[one.name] = [tuple(map(known_value, each)) for each in ends.T.tolist()]
        return known

    def words(self) -> dict[str, tuple[str, str]]:
        """By figure of `intervals`: its words and its unit."""
        return {one.name: (one.words, one.unit) for one in self._drawn_figures}

    def comparison(self, *, every: bool = False) -> Comparison | None:
        """The differences between any two groups; None if there are fewer than two.

        Of more than `MAX_COMPARED` groups those with the most people are compared.

        Args:
            every: Compare the shares of all ages too, not only the figures of `COMPARED`.
        """
        groups, population = self._population.groups, self._population
        if groups is None or len(groups.names) < 2:
            return None
        sizes = np.bincount(groups.of_run, minlength=len(groups.names))
        people = np.bincount(groups.of_run, population.per_run["people"], len(groups.names))
        largest = sorted(np.argsort(-people, kind="stable")[:MAX_COMPARED].tolist())
        figures = [one for one in self._drawn_figures if every or one.name in COMPARED]
        rows: list[ComparisonRow] = []
        for first, second in itertools.combinations(largest, 2):
            for one in figures:
                if one.personal and population.hidden_groups[[first, second]].any():
                    continue
                row: dict[str, Any] = {"figure": one.name, "words": one.words, "unit": one.unit}
                for place, number in (("first", first), ("second", second)):
                    row |= {place: groups.names[number], f"{place}_value": one.value[number]}
                    row |= {f"{place}_videos": int(sizes[number])}
                names = ("difference", "difference_low", "difference_high", "exceeds")
                row |= dict(zip(names, one.difference(second, first, single=True), strict=True))
                rows.append(cast(ComparisonRow, {key: known_value(value) for key, value in row.items()}))
        return {"by": groups.by, "groups": len(largest), "of_groups": len(groups.names), "rows": rows}

    @cached_property
    def _drawn_figures(self) -> list[_Drawn]:
        """The figures of the groups that have error bars."""
        groups = self._population.groups
        assert groups is not None
        count = len(groups.names)
        runs = len(self._population.corpus.runs)
        into = np.zeros((runs, count))
        into[np.arange(runs), groups.of_run] = 1
        return [*self._drawn_ratios(into), *self._drawn_shares(groups, into)]

    def _drawn_ratios(self, into: Real) -> list[_Drawn]:
        """The figures of `_RATIOS`, with the videos resampled.

        Args:
            into: (R, G) 1 where a run is in a group, else 0.
        """
        weights = np.random.default_rng(_SEED).standard_exponential((_DRAWS, len(into)))
        found = []
        with np.errstate(divide="ignore", invalid="ignore"):
            for name, (above, below) in _RATIOS.items():
                top, bottom = (self._population.per_run[one].to_numpy(np.float64) for one in (above, below))
                draws = ((weights * top) @ into) / ((weights * bottom) @ into)
                figure, value = BY_NAME[name], (top @ into) / (bottom @ into)
                found.append(
                    _Drawn(name, figure.words, figure.unit, figure.personal, value, draws, into.sum(axis=0))
                )
        return found

    def _drawn_shares(self, groups: Groups, into: Real) -> list[_Drawn]:
        """The estimated shares of the groups; none if no group states any."""
        population, shares, count = self._population, self._shares, len(groups.names)
        tables = [shares.of_group(number) for number in range(count)]
        estimated = population.people.loc[known_people(population.people), "run_no"].unique()
        telling = (np.isin(np.arange(len(into)), estimated) & shares.estimated_alike) @ into
        if all(table is None for table in tables) or not telling.any():
            return []
        # Suppression would have to cover too many differences between age bands.
        hidden = {"age"} if population.min_people > 1 else set()
        hidden |= {"gender"} if population.hidden_genders(groups.of_run).any() else set()
        found = []
        for one in shares.group_draws:
            for index, name in enumerate(one.classes if one.dimension not in hidden else ()):
                if name == "male":  # the mirror image of female
                    continue
                for kind, of in enumerate(("people", "time")):
                    value = np.array([_share_in(table, name, of) for table in tables])
                    key = f"{name}_{of}_share"
                    aged = f"aged {name}, share of {'people' if of == 'people' else 'time'}"
                    words = BY_NAME[key].words if key in BY_NAME else aged
                    measured, resampled = (
                        _of_groups(one.values[:, :, place, index], count) for place in (kind, 2 + kind)
                    )
                    found.append(_Drawn(key, words, "share", True, value, resampled, telling, measured))
        return found


def _share_in(table: pd.DataFrame | None, group: str, of: str) -> float:
    """A group's share in a shares table; NaN where it states none."""
    row = [] if table is None else table.loc[table["group"] == group, f"{of}_share"].tolist()
    return float(row[0]) if row else math.nan


def _of_groups(draws: Real, count: int) -> Real:
    """(D, G) padded to all groups, with NaN for those without people."""
    return np.pad(draws, ((0, 0), (0, count - draws.shape[1])), constant_values=np.nan)


@dataclass(frozen=True, eq=False)
class _Drawn:
    """A figure of G groups, with D draws of it."""

    name: str
    words: str
    unit: str
    personal: bool
    value: Real
    """(G,), NaN where it is not stated."""
    draws: Real
    """(D, G) with the videos resampled."""
    telling: Real
    """(G,) number of videos that the figure rests on."""
    measured: Real | None = None
    """(D, G) with the errors of the estimates alone, where these are known."""

    @property
    def _bounds(self) -> tuple[float, float]:
        return (0.0, 1.0) if self.unit == "share" else (0.0, np.inf)

    @cached_property
    def _widened(self) -> Real:
        return np.asarray(self.value + (self.draws - self.value) * _widening(self.telling))

    @cached_property
    def ends(self) -> tuple[Real, Real]:
        """(G,) lower and upper ends of the intervals."""
        _, low, high = interval(self._widened, self._bounds)
        return np.minimum(low, self.value), np.maximum(high, self.value)  # few draws may all lie on one side

    def difference(
        self, one: int, other: int, *, single: bool = False
    ) -> tuple[float, float, float, bool | None]:
        """One group's value minus another's, its interval, and whether that excludes 0 (None: not known).

        With one video in a group it is not known how much depends on the choice of the video. With `single`
        the error bars are then those of the estimates alone.
        """
        change = float(self.value[one] - self.value[other])
        draws, known = self._widened, min(self.telling[one], self.telling[other]) > 1
        if single and not known:
            if self.measured is None:
                return change, math.nan, math.nan, None
            draws, known = self.measured, True
        apart = draws[:, one] - draws[:, other]
        low, high = np.clip(np.quantile(apart, [0.025, 0.975]), -self._bounds[1], self._bounds[1])
        low, high = np.minimum(low, change), np.maximum(high, change)
        exceeds = bool(low > 0 or high < 0) if known and np.isfinite([low, high]).all() else None
        return change, float(low), float(high), exceeds


def _widening(videos: Real) -> Real:
    """(G,) the factor that widens the spread of resampled draws, which is too narrow for few videos.

    Their variance is (n - 1) / (n + 1) of the variance of the mean of n values, and few values determine
    their own spread only roughly. The widened intervals are those of Student's t for two means of n
    values each.

    >>> _widening(np.array([1, 2, 8, 100])).round(2).tolist()
    [1.0, 3.8, 1.24, 1.02]
    """
    from scipy.special import stdtrit  # late: most reports have no trend

    n = np.maximum(videos, 2)
    factor = np.sqrt((n + 1) / (n - 1)) * stdtrit(2 * n - 2, 0.975) / stdtrit(np.inf, 0.975)
    return np.where(videos > 1, factor, 1.0)
