"""Score estimates against labels: pure functions over tables and arrays.

A *table of estimates* has one row a labeled face (or true person of a video) with the columns

==================  ===================================================================================
``true_gender``     ``female``, ``male``, or empty where not labeled
``true_age``        years; NaN where not labeled
``found``           whether the analysis has found this face or person; if not, the rest is empty
``gender``          ``female``, ``male`` or ``unknown``, of the people table
``female_prob``     of the people table, 0 to 1; NaN where not estimated
``age_years``       likewise, in years
``age_low``         lower end of the stated 80 % interval, in years
``age_high``        upper end
``face_px``         median width of the face in pixels
``unit``            rows drawn together in the bootstrap: the image, or the video
``true_race``       only where labeled: ``white``, ``black``, ``asian``, ``indian``, ``other``, or empty
==================  ===================================================================================
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyzer.settings import AGE_BANDS, AgeBand, assign_band

__all__ = [
    "Figure",
    "assigned",
    "bias",
    "box_matches",
    "calibration",
    "figures",
    "group_scores",
    "identity",
    "known_shares",
    "row_scores",
    "span_matches",
    "width_bins",
]

GENDERS = ("female", "male")
ADULT_FROM_YEARS = 13
"""Where the bands of YouTube Analytics begin; below, gender is hardly visible."""
BIAS_FROM_YEARS, BIAS_UP_TO_YEARS = 20, 50
"""Ages of the younger ones in `bias`."""
_BIAS_CELLS = 8
MATCH_IOU = 0.3
"""A found box shows the true face where the two overlap at least this much."""
MATCH_TIME_S = 0.1
"""A true box belongs to a sample at most this far away in time."""
MIN_UNITS = 10
"""Fewer faces or videos get no interval: resampling so few means nothing."""
_WIDTH_EDGES_PX = (24, 32, 48, 64, 96, 160)
_WIDTH_NAMES = (
    f"<{_WIDTH_EDGES_PX[0]}",
    *(f"{low}-{high}" for low, high in itertools.pairwise(_WIDTH_EDGES_PX)),
    f">{_WIDTH_EDGES_PX[-1]}",
)
_CALIBRATION_BINS = 10
_DRAWS, _DRAWS_AT_ONCE = 1000, 50

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Figure:
    """A mean, how many values it is the mean of, and its 95 % interval (NaN where none is given)."""

    value: float
    n: int
    low: float = float("nan")
    high: float = float("nan")


def figures(columns: pd.DataFrame, units: pd.Series | None = None) -> dict[str, Figure]:
    """The mean of each column over its rows that are not NaN, with a bootstrap interval.

    The interval of a share (all values 0 or 1) is Wilson's, with the effective number of faces: one for each
    unit whose rows all agree. That of another mean holds the middle 95 % of the means of 1000 samples of
    units drawn with replacement. All rows of a video are drawn together, because they resemble each other.
    Draws are the same at each call.

    Args:
        columns: (N, K) numbers; NaN where a row does not count.
        units: N names of units, or None for means without intervals.

    Returns:
        A figure for each column.

    >>> figures(pd.DataFrame({"right": [1.0, 0.0, 1.0, float("nan")]}))["right"].n
    3
    """
    ends = np.full((2, columns.shape[1]), np.nan)
    if units is not None:
        grouped = columns.groupby(units.to_numpy())
        sums, counts = grouped.sum().to_numpy(np.float64), grouped.count().to_numpy(np.float64)
        enough = (counts > 0).sum(axis=0) >= MIN_UNITS
        if enough.any():
            draws = _drawn_means(sums[:, enough], counts[:, enough])
            ends[:, enough] = np.nanpercentile(draws, (2.5, 97.5), axis=0)
        for place in np.flatnonzero(enough & columns.isin((0.0, 1.0)).where(columns.notna(), True).all()):
            ends[:, place] = _wilson(sums[:, place], counts[:, place])
    return {
        str(name): Figure(float(columns[name].mean()), int(columns[name].count()), *map(float, pair))
        for name, pair in zip(columns, ends.T, strict=True)
    }


def _wilson(sums: Float, counts: Float) -> tuple[float, float]:
    """Ends of Wilson's 95 % interval of a share, from (units,) sums and counts of values of 0 or 1.

    The number of values is replaced by the effective one, the share's variance among units as the measure;
    where nothing varies it is that of the units.
    """
    total = float(counts.sum())
    share = float(sums.sum()) / total
    variance = float(((sums - share * counts) ** 2).sum()) / total**2
    number = float((counts > 0).sum())
    if variance > 0:
        number = min(total, share * (1 - share) / variance)
    z = 1.959963984540054
    middle = (share + z**2 / (2 * number)) / (1 + z**2 / number)
    half = z / (1 + z**2 / number) * float(np.sqrt(share * (1 - share) / number + (z / number) ** 2 / 4))
    return max(0.0, middle - half), min(1.0, middle + half)


def _drawn_means(sums: Float, counts: Float) -> Float:
    """(draws, K) means of units drawn with replacement, from (units, K) sums and counts of each."""
    random = np.random.default_rng(0)
    chances = np.full(len(sums), 1 / len(sums))
    draws = []
    for _ in range(_DRAWS // _DRAWS_AT_ONCE):
        times = random.multinomial(len(sums), chances, _DRAWS_AT_ONCE).astype(np.float64)
        total, number = times @ sums, times @ counts
        draws.append(np.divide(total, number, out=np.full_like(total, np.nan), where=number > 0))
    return np.concatenate(draws)


# --- one face, one person ----------------------------------------------------------------------------


def row_scores(table: pd.DataFrame) -> pd.DataFrame:
    """The value of each row of a table of estimates for each figure; NaN where it does not count.

    Args:
        table: A table of estimates (see the docstring of this module), N rows.

    Returns:
        N rows; the mean over a column's rows that are not NaN is the figure:

        - ``found``: share of the labeled that were found.
        - ``gender_right``: share right, of those whose gender is stated and labeled:
          ``gender == true_gender``, not counting ``unknown``.
        - ``gender_unknown``: share whose gender is not stated, of those found and labeled. It includes found
          faces that belong to no person.
        - ``likelier_right``: share for whom the likelier gender is right, however unsure:
          ``(female_prob > 0.5) == (true_gender == "female")``, of those estimated.
        - ``age_abs_error``: mean of ``|age_years - true_age|``, in years.
        - ``age_error``: mean of ``age_years - true_age``, in years; negative: estimated too young.
        - ``age_in_interval``: share with ``age_low <= true_age <= age_high``.
        - ``adience_exact``: share whose age falls into the true Adience band; each age is assigned to the
          nearest of the eight bands.
        - ``adience_one_off``: share at most one band away.
    """
    true_gender, true_age, prob = table["true_gender"], table["true_age"], table["female_prob"]
    labeled, stated = true_gender.isin(GENDERS), table["gender"].isin(GENDERS)
    found = table["found"].astype(bool)
    error = table["age_years"] - true_age
    known_interval = (table["age_low"] + table["age_high"] + true_age).notna()
    number = {band.name: float(place) for place, band in enumerate(AGE_BANDS["adience"])}
    away = (
        _bands_of(table["age_years"], AGE_BANDS["adience"]).map(number)
        - _bands_of(true_age, AGE_BANDS["adience"]).map(number)
    ).abs()
    counted = {
        "found": (found, pd.Series(True, table.index)),
        "gender_right": (table["gender"] == true_gender, labeled & stated),
        "gender_unknown": (~stated, labeled & found),
        "likelier_right": ((prob > 0.5) == (true_gender == "female"), labeled & prob.notna()),
        "age_abs_error": (error.abs(), error.notna()),
        "age_error": (error, error.notna()),
        "age_in_interval": (true_age.between(table["age_low"], table["age_high"]), known_interval),
        "adience_exact": (away == 0, away.notna()),
        "adience_one_off": (away <= 1, away.notna()),
    }
    return pd.DataFrame({name: values.astype(float).where(rows) for name, (values, rows) in counted.items()})


def _bands_of(ages: pd.Series, bands: tuple[AgeBand, ...]) -> pd.Series:
    """Name of the band of each age; ``unknown`` for NaN."""
    return ages.astype(float).map(lambda age: assign_band(age, bands)).astype(object)


def width_bins(face_px: pd.Series) -> pd.Series:
    """The bin of each face's width; a width on an edge belongs to the upper bin. NaN has none.

    >>> width_bins(pd.Series([20.0, 24.0, 160.0])).tolist()
    ['<24', '24-32', '>160']
    """
    edges = [-np.inf, *_WIDTH_EDGES_PX, np.inf]
    return pd.cut(face_px.astype(float), edges, right=False, labels=_WIDTH_NAMES).astype(object)


def group_scores(table: pd.DataFrame, by: str | None = None) -> dict[str, dict[str, dict[str, Figure]]]:
    """The figures of `row_scores` for all, by true age, by gender and by width of the face.

    Args:
        table: A table of estimates.
        by: A further column to group by.

    Returns:
        way of grouping -> group -> figures. The groups of ``all`` (``all``, ``13+``) and of ``gender``
        (``women``, ``men``, ``women 13+``, ``men 13+``) have intervals. ``age`` has the bands of YouTube
        Analytics, ``width`` the bins of `width_bins` over those found; `by` and ``<by> 13+`` have the values
        of that column, the latter over those of 13 and older. Empty groups are left out.
    """
    values = row_scores(table)
    adult = table["true_age"] >= ADULT_FROM_YEARS
    women, men = (table["true_gender"] == gender for gender in GENDERS)
    bands = AGE_BANDS["youtube"]
    band, width = _bands_of(table["true_age"], bands), width_bins(table["face_px"])
    ways = {
        "all": {"all": pd.Series(True, table.index), "13+": adult},
        "gender": {"women": women, "men": men, "women 13+": women & adult, "men 13+": men & adult},
        "age": {one.name: band == one.name for one in bands},
        "width": {name: width == name for name in _WIDTH_NAMES},
    }
    if by is not None:
        ways[by] = {name: table[by] == name for name in sorted(table[by].unique())}
        ways[f"{by} 13+"] = {name: rows & adult for name, rows in ways[by].items()}
    return {
        way: {
            name: figures(values[rows], table.loc[rows, "unit"] if way in ("all", "gender") else None)
            for name, rows in groups.items()
            if rows.any()
        }
        for way, groups in ways.items()
    }


def calibration(female_prob: pd.Series, female: pd.Series) -> dict[str, Any]:
    """Compare stated probabilities with how often they are right.

    The confidence of an estimate is ``max(female_prob, 1 - female_prob)``. It is divided into 10 equal bins
    between 0.5 and 1. The expected calibration error is the mean over bins, weighted by their number of
    estimates, of ``|share right - mean confidence|``.

    Args:
        female_prob: N stated probabilities; NaN where not estimated.
        female: N times whether the label says female.

    Returns:
        ``ece`` (0 to 1, NaN of nothing), ``n``, ``by_confidence`` and ``by_female_prob``: bins with
        ``low``, ``high``, ``n``, ``stated`` and ``observed``. The second has 10 bins of `female_prob`
        between 0 and 1, with the observed share of women: the reliability diagram.

    >>> round(calibration(pd.Series([0.9, 0.9]), pd.Series([True, False]))["ece"], 3)
    0.4
    """
    prob = female_prob.astype(float).dropna()
    is_female = female[prob.index].astype(bool)
    by_confidence = _bins(prob.where(prob > 0.5, 1 - prob), (prob > 0.5) == is_female, 0.5)
    gaps = by_confidence["n"] * (by_confidence["observed"] - by_confidence["stated"]).abs()
    return {
        "ece": float(gaps.sum() / len(prob)) if len(prob) else float("nan"),
        "n": len(prob),
        "by_confidence": by_confidence.to_dict("records"),
        "by_female_prob": _bins(prob, is_female, 0.0).to_dict("records"),
    }


def bias(table: pd.DataFrame) -> dict[str, Any] | None:
    """Accuracy by gender, race and age, as reported for inaFaceAnalyzer (Doukhan et al. 2023).

    Faces of people of 20 and older are divided into eight cells: women and men, white and others, 20 to 50
    and over 50. All figures are means over the cells, so that no group outweighs another.

    Args:
        table: A table of estimates with `true_race`.

    Returns:
        ``n``, the number of faces, and the figures ``found`` (share found), ``likelier_right`` (share of
        those estimated with the likelier gender right) and ``age_rmse`` (root mean square error of age in
        years), each with ``mean`` and the differences ``men_women`` (men - women), ``white_others`` and
        ``young_old`` (20 to 50 - over 50). None where race is not labeled or a cell is empty.

    >>> bias(pd.DataFrame({"true_gender": ["male"], "true_age": [30.0]})) is None
    True
    """
    if "true_race" not in table:
        return None
    adult = table[(table["true_age"] >= BIAS_FROM_YEARS) & table["true_race"].ne("")]
    adult = adult[adult["true_gender"].isin(GENDERS)]
    female, prob = adult["true_gender"] == "female", adult["female_prob"]
    cells = pd.DataFrame(
        {
            "men": ~female,
            "white": adult["true_race"] == "white",
            "young": adult["true_age"] <= BIAS_UP_TO_YEARS,
            "found": adult["found"].astype(float),
            "likelier_right": ((prob > 0.5) == female).astype(float).where(prob.notna()),
            "age_rmse": (adult["age_years"] - adult["true_age"]) ** 2,
        }
    )
    means = cells.groupby(["men", "white", "young"])[["found", "likelier_right", "age_rmse"]].mean()
    if len(means) < _BIAS_CELLS:
        return None
    means["age_rmse"] **= 0.5
    result: dict[str, Any] = {"n": len(adult)}
    for name in means:
        values = means[name]
        result[str(name)] = {"mean": float(values.mean())}
        for level, words in (("men", "men_women"), ("white", "white_others"), ("young", "young_old")):
            side = values.groupby(level=level).mean()
            result[str(name)][words] = float(side[True] - side[False])
    return result


def _bins(stated: pd.Series, happened: pd.Series, low: float) -> pd.DataFrame:
    edges = np.linspace(low, 1.0, _CALIBRATION_BINS + 1).round(6)
    # Float32 probabilities of 0.9 lie a little off 0.9: such must not jump between bins.
    place = np.searchsorted(edges[1:-1], stated.round(6), side="right")
    grouped = pd.DataFrame({"stated": stated, "observed": happened.astype(float)}).groupby(place)
    means = grouped.mean().reindex(range(_CALIBRATION_BINS))
    numbers = grouped.size().reindex(range(_CALIBRATION_BINS), fill_value=0)
    return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "n": numbers}).join(means)


# --- found people and true people --------------------------------------------------------------------


def box_matches(
    true_boxes: Sequence[Float], faces: pd.DataFrame, people: Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count the samples in which each found person's face overlaps each true person's.

    Args:
        true_boxes: For each of T true people (at least one), rows of time in seconds, x1, y1, x2, y2 in
            pixels.
        faces: N rows of the faces table.
        people: The P numbers of the found people, in the order of the answer.

    Returns:
        Two (T, P) counts. The first counts every pair of boxes with an IoU of at least `MATCH_IOU` at
        times at most `MATCH_TIME_S` apart. The second assigns each found face to the one true person whose
        box overlaps it most, for `identity`.
    """
    names = ["time_s", "x1", "y1", "x2", "y2"]
    found = faces[[*names, "person_id"]].astype(np.float64).sort_values("time_s")
    overlaps = np.zeros((len(true_boxes), len(found)))
    # Guards a distance of exactly the limit against the last bit of two times.
    nearest: dict[str, Any] = {"on": "time_s", "direction": "nearest", "tolerance": MATCH_TIME_S + 1e-9}
    for number, rows in enumerate(true_boxes):
        true = pd.DataFrame(rows, columns=names).sort_values("time_s")
        then = pd.merge_asof(found[["time_s"]], true, **nearest)
        overlaps[number] = _overlap(then[names[1:]].to_numpy(), found[names[1:]].to_numpy())
    owned = (found["person_id"].to_numpy()[:, None] == np.asarray(people)).astype(np.int64)
    over = overlaps >= MATCH_IOU
    most = over & (overlaps.argmax(axis=0) == np.arange(len(true_boxes))[:, None])
    return over @ owned, most @ owned


def _overlap(a: Float, b: Float) -> Float:
    """(N,) IoU of the boxes of each row; 0 where one is NaN."""
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    inter = np.prod(np.clip(sides, 0, None), axis=1)
    union = sum(np.prod(one[:, 2:] - one[:, :2], axis=1) for one in (a, b)) - inter
    return np.divide(inter, union, out=np.zeros(len(a)), where=union > 0)


def span_matches(true_spans: Float, spans: Float) -> Float:
    """Overlap of the stretches on screen of true and found people: common time / time of either.

    Args:
        true_spans: (T, 2) first and last second.
        spans: (P, 2) likewise.

    Returns:
        (T, P) from 0 (no common time) to 1 (the same stretch).
    """
    (true_first, true_last), (first, last) = true_spans.T[:, :, None], spans.T
    both = np.clip(np.minimum(true_last, last) - np.maximum(true_first, first), 0, None)
    either = np.maximum(true_last, last) - np.minimum(true_first, first)
    return np.divide(both, either, out=np.zeros_like(both), where=either > 0)


def assigned(matches: NDArray[Any]) -> dict[int, int]:
    """The one-to-one assignment of rows to columns with the largest sum; pairs of 0 are dropped.

    >>> assigned(np.array([[5, 4], [4, 0], [0, 0]]))
    {0: 1, 1: 0}
    """
    from scipy.optimize import linear_sum_assignment

    pairs = zip(*linear_sum_assignment(matches, maximize=True), strict=True)
    return {int(row): int(column) for row, column in pairs if matches[row, column] > 0}


def identity(best: NDArray[np.int64]) -> tuple[float, float]:
    """Purity and completeness of the found people.

    Args:
        best: (T, P) faces of each true person in each found one: the second answer of `box_matches`.

    Returns:
        Purity, the share of faces that belong to the most frequent true person of their found person:
        lower where two people got one number. Completeness, the share of faces that belong to the most
        frequent found person of their true person: lower where one person got several numbers. NaN where
        no face matches.

    >>> identity(np.array([[6, 2], [2, 0]]))
    (0.8, 0.8)
    """
    total = int(best.sum())
    if not total:
        return float("nan"), float("nan")
    return float(best.max(axis=0).sum() / total), float(best.max(axis=1).sum() / total)


def known_shares(
    genders: pd.Series, ages: pd.Series, on_screen_s: pd.Series, bands: tuple[AgeBand, ...]
) -> pd.DataFrame:
    """Shares of the people and of the time on screen, counted over those whose gender (age) is known.

    Args:
        genders: ``female`` or ``male``; everything else is unknown.
        ages: Years, or NaN.
        on_screen_s: Seconds.
        bands: The age bands.

    Returns:
        A row for each ``dimension`` (gender, age) and ``group`` with ``people`` and ``time``, both 0 to 1;
        the time is NaN without time on screen. Dimensions without known values are left out.

    >>> genders, ages = pd.Series(["female", "male", ""]), pd.Series([float("nan")] * 3)
    >>> known_shares(genders, ages, pd.Series([1, 3, 9]), AGE_BANDS["youtube"]).values.tolist()
    [['gender', 'female', 0.5, 0.25], ['gender', 'male', 0.5, 0.75]]
    """
    table = pd.DataFrame({"people": 1.0, "time": on_screen_s.astype(float)})
    dimensions = {
        "gender": (genders, GENDERS),
        "age": (_bands_of(ages, bands), tuple(band.name for band in bands)),
    }
    shares = []
    for dimension, (names, groups) in dimensions.items():
        sums = table.groupby(names.to_numpy(object)).sum().reindex(groups, fill_value=0.0)
        if sums["people"].any():
            some = (sums / sums.sum()).rename_axis("group").reset_index()
            shares.append(some.assign(dimension=dimension))
    columns = ["dimension", "group", "people", "time"]
    return pd.concat(shares, ignore_index=True)[columns] if shares else pd.DataFrame(columns=columns)
