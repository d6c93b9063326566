"""How estimates are scored against labels: pure functions over tables and arrays, nothing is read or run.

A *table of the judged* has one row a labelled face (or true person of a video) with the columns

==================  ===================================================================================
``true_gender``     ``female``, ``male``, or empty where the label does not say
``true_age``        years; NaN where the label does not say
``found``           whether the analysis has found this face or person; if not, the rest is empty
``gender``          ``female``, ``male`` or ``unknown``, as the people table says
``female_prob``     as the people table says, 0 to 1; NaN where not judged
``age_years``       likewise, in years
``age_low``         lower end of the stated 80 % interval, in years
``age_high``        upper end
``face_px``         median width of the face in pixels
``unit``            number of what is drawn together in the bootstrap: the picture, or the video
==================  ===================================================================================
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyzer.settings import AGE_BANDS, AgeBand, assign_band

__all__ = [
    "ADULT_FROM_YEARS",
    "JUDGED_COLUMNS",
    "Figure",
    "assigned",
    "box_matches",
    "calibration",
    "figures",
    "group_scores",
    "identity",
    "judgements",
    "span_matches",
    "true_shares",
    "width_bin",
]

JUDGED_COLUMNS = (
    *("true_gender", "true_age", "found", "gender", "female_prob"),
    *("age_years", "age_low", "age_high", "face_px", "unit"),
)

ADULT_FROM_YEARS = 13
"""Where the bands of YouTube Analytics begin; below, gender can hardly be seen."""
WIDTH_EDGES_PX = (24, 32, 48, 64, 96, 160)
WIDTH_NAMES = (
    f"<{WIDTH_EDGES_PX[0]}",
    *(f"{low}-{high}" for low, high in itertools.pairwise(WIDTH_EDGES_PX)),
    f">{WIDTH_EDGES_PX[-1]}",
)
CALIBRATION_BINS = 10
MATCH_IOU = 0.3
"""A found box shows the true face where the two overlap at least this much."""
MATCH_TIME_S = 0.1
"""A true box belongs to a sample at most this far away in time."""
MIN_UNITS = 10
"""Of fewer faces or videos no interval is given: drawing again from so few tells nothing."""
_DRAWS, _DRAWS_AT_ONCE = 1000, 50

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Figure:
    """A mean, how many values it is the mean of, and its 95 % interval (NaN where none is given)."""

    value: float
    n: int
    low: float = float("nan")
    high: float = float("nan")


def figures(columns: pd.DataFrame, units: Sequence[int] | None = None) -> dict[str, Figure]:
    """The mean of each column over its rows that are not NaN, with a bootstrap interval.

    The interval holds the middle 95 % of the means of 1000 samples drawn again with replacement: of the
    units where given (all rows of a video are drawn together, for they resemble each other), else of the
    rows. Draws are the same at each call.

    Args:
        columns: (N, K) numbers; NaN where a row has nothing to say.
        units: N numbers of units, or None to give means alone.

    Returns:
        A figure for each column.

    >>> figures(pd.DataFrame({"right": [1.0, 0.0, 1.0, float("nan")]}))["right"].n
    3
    """
    values = columns.to_numpy(np.float64)
    valid = ~np.isnan(values)
    counts = valid.sum(axis=0)
    sums = np.where(valid, values, 0.0).sum(axis=0)
    low = high = np.full(len(counts), np.nan)
    number, places = (0, None) if units is None else _renumbered(units)
    if places is not None and number >= MIN_UNITS:
        per_unit = np.zeros((number, 2 * len(counts)))
        np.add.at(per_unit, places, np.hstack([np.where(valid, values, 0.0), valid]))
        draws = _drawn_means(per_unit)
        enough = (per_unit[:, len(counts) :] > 0).sum(axis=0) >= MIN_UNITS
        low = np.array([_percentile(draw, 2.5) for draw in draws.T])
        high = np.array([_percentile(draw, 97.5) for draw in draws.T])
        low[~enough] = high[~enough] = np.nan
    means = np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)
    return {
        str(name): Figure(float(means[k]), int(counts[k]), float(low[k]), float(high[k]))
        for k, name in enumerate(columns)
    }


def _renumbered(units: Sequence[int]) -> tuple[int, NDArray[np.intp]]:
    names, places = np.unique(np.asarray(units), return_inverse=True)
    return len(names), places


def _drawn_means(per_unit: Float) -> Float:
    """(draws, K) means of units drawn with replacement; `per_unit` is (units, 2 K), sums then counts."""
    random = np.random.default_rng(0)
    number, width = per_unit.shape
    totals = []
    for _ in range(_DRAWS // _DRAWS_AT_ONCE):
        drawn = random.integers(0, number, (_DRAWS_AT_ONCE, number))
        times = np.stack([np.bincount(one, minlength=number) for one in drawn])
        totals.append(times.astype(np.float64) @ per_unit)
    total = np.concatenate(totals)
    sums, counts = total[:, : width // 2], total[:, width // 2 :]
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


def _percentile(values: Float, percent: float) -> float:
    known = values[~np.isnan(values)]
    return float(np.percentile(known, percent)) if len(known) else float("nan")


# --- one face, one person ----------------------------------------------------------------------------


def judgements(table: pd.DataFrame) -> pd.DataFrame:
    """What each row of a table of the judged adds to each figure; NaN where it does not count.

    Args:
        table: A table of the judged (see the head of this module), N rows.

    Returns:
        N rows; the mean over a column's rows that are not NaN is the figure:

        - ``found``: share of the labelled that were found.
        - ``gender_right``: share right, of those whose gender is stated and labelled:
          ``gender == true_gender``, not counting ``unknown``.
        - ``gender_unknown``: share whose gender is not stated, of those found and labelled. A found face
          that the run takes for nobody is one of them.
        - ``likelier_right``: share for whom the likelier gender is right, however unsure:
          ``(female_prob > 0.5) == (true_gender == "female")``, of those judged.
        - ``age_abs_error``: mean of ``|age_years - true_age|``, in years.
        - ``age_error``: mean of ``age_years - true_age``, in years; negative: taken for too young.
        - ``age_in_interval``: share with ``age_low <= true_age <= age_high``.
        - ``adience_exact``: share whose age falls into the true Adience band; each age is given to the
          nearest of the eight bands.
        - ``adience_one_off``: share at most one band away.
    """
    female = (table["true_gender"] == "female").to_numpy()
    labelled = table["true_gender"].isin(["female", "male"]).to_numpy()
    found = table["found"].to_numpy(bool)
    gender = table["gender"].to_numpy(object)
    stated = np.isin(gender.astype(str), ["female", "male"])
    prob, age, true_age, low, high = (
        table[name].to_numpy(np.float64)
        for name in ("female_prob", "age_years", "true_age", "age_low", "age_high")
    )
    error = age - true_age
    away = _bands_away(age, true_age, AGE_BANDS["adience"])
    within = (low <= true_age) & (true_age <= high)

    def counted(values: NDArray[Any], where: NDArray[np.bool_]) -> Float:
        return np.where(where, values.astype(np.float64), np.nan)

    return pd.DataFrame(
        {
            "found": found.astype(np.float64),
            "gender_right": counted(gender == table["true_gender"].to_numpy(object), labelled & stated),
            "gender_unknown": counted(~stated, labelled & found),
            "likelier_right": counted((prob > 0.5) == female, labelled & ~np.isnan(prob)),
            "age_abs_error": np.abs(error),
            "age_error": error,
            "age_in_interval": counted(within, ~np.isnan(low + high + true_age)),
            "adience_exact": counted(away == 0, ~np.isnan(away)),
            "adience_one_off": counted(away <= 1, ~np.isnan(away)),
        },
        index=table.index,
    )


def _bands_away(age: Float, true_age: Float, bands: tuple[AgeBand, ...]) -> Float:
    names = [band.name for band in bands]
    away = [
        np.nan
        if np.isnan(one) or np.isnan(true)
        else abs(names.index(assign_band(one, bands)) - names.index(assign_band(true, bands)))
        for one, true in zip(age, true_age, strict=True)
    ]
    return np.array(away, dtype=np.float64)


def width_bin(face_px: float) -> str:
    """The bin of a face's width; a width on an edge belongs to the upper bin.

    >>> width_bin(20.0), width_bin(24.0), width_bin(160.0), width_bin(float("nan"))
    ('<24', '24-32', '>160', '')
    """
    if np.isnan(face_px):
        return ""
    return WIDTH_NAMES[int(np.searchsorted(WIDTH_EDGES_PX, face_px, side="right"))]


def group_scores(
    table: pd.DataFrame, by: Mapping[str, str] | None = None
) -> dict[str, dict[str, dict[str, Figure]]]:
    """The figures of `judgements` for all, by true age, by gender and by width of the face.

    Args:
        table: A table of the judged.
        by: Further ways to group, name -> column, such as ``{"kind": "kind"}``.

    Returns:
        way of grouping -> group -> figures. The groups of ``all`` (``all``, ``13+``) and of ``gender``
        (``women``, ``men``, ``women 13+``, ``men 13+``) have intervals. ``age`` has the bands of YouTube
        Analytics, ``width`` the bins of `width_bin` over those found. Empty groups are left out.
    """
    values = judgements(table)
    adult = (table["true_age"] >= ADULT_FROM_YEARS).to_numpy()
    women, men = ((table["true_gender"] == one).to_numpy() for one in ("female", "male"))
    everyone = np.ones(len(table), dtype=bool)
    bands = AGE_BANDS["youtube"]
    band = np.array([assign_band(age, bands) for age in table["true_age"]], dtype=object)
    width = np.array([width_bin(px) for px in table["face_px"]], dtype=object)
    headline = {
        "all": {"all": everyone, "13+": adult},
        "gender": {"women": women, "men": men, "women 13+": women & adult, "men 13+": men & adult},
    }
    plain = {
        "age": {one.name: band == one.name for one in bands},
        "width": {name: width == name for name in WIDTH_NAMES},
    }
    for way, column in (by or {}).items():
        names = sorted(table[column].unique())
        plain[way] = {name: (table[column] == name).to_numpy() for name in names}
    scores: dict[str, dict[str, dict[str, Figure]]] = {}
    for ways, with_intervals in ((headline, True), (plain, False)):
        for way, groups in ways.items():
            scores[way] = {
                name: figures(values[rows], table["unit"][rows].tolist() if with_intervals else None)
                for name, rows in groups.items()
                if rows.any()
            }
    return scores


def calibration(female_prob: NDArray[np.floating[Any]], female: NDArray[np.bool_]) -> dict[str, Any]:
    """Whether a stated probability is the share of times that it is right.

    The confidence of a judgement is ``max(female_prob, 1 - female_prob)``. It is cut into 10 equal bins
    between 0.5 and 1. The expected calibration error is the mean over bins, weighted by their number of
    judgements, of ``|share right - mean confidence|``.

    Args:
        female_prob: (N,) stated probabilities; NaN where not judged.
        female: (N,) whether the label says female.

    Returns:
        ``ece`` (0 to 1, NaN of nothing), ``n``, ``by_confidence`` and ``by_female_prob``: bins with
        ``low``, ``high``, ``n``, ``stated`` and ``observed``. The second has 10 bins of `female_prob`
        between 0 and 1, with the observed share of women: the reliability diagram.

    >>> round(calibration(np.array([0.9, 0.9]), np.array([True, False]))["ece"], 3)
    0.4
    """
    judged = ~np.isnan(female_prob)
    prob, is_female = np.asarray(female_prob, np.float64)[judged], female[judged]
    sure = np.maximum(prob, 1 - prob)
    by_confidence = _bins(sure, (prob > 0.5) == is_female, 0.5)
    gaps = [one["n"] * abs(one["observed"] - one["stated"]) for one in by_confidence if one["n"]]
    return {
        "ece": float(sum(gaps) / len(prob)) if len(prob) else float("nan"),
        "n": len(prob),
        "by_confidence": by_confidence,
        "by_female_prob": _bins(prob, is_female, 0.0),
    }


def _bins(stated: Float, happened: NDArray[np.bool_], low: float) -> list[dict[str, Any]]:
    edges = np.linspace(low, 1.0, CALIBRATION_BINS + 1)
    # Float32 probabilities of 0.9 lie a little off 0.9: such must not jump between bins.
    place = np.searchsorted(edges[1:-1], np.round(stated, 6), side="right")
    bins = []
    for number in range(CALIBRATION_BINS):
        rows = place == number
        filled = bool(rows.any())
        bins.append(
            {
                "low": round(float(edges[number]), 6),
                "high": round(float(edges[number + 1]), 6),
                "n": int(rows.sum()),
                "stated": float(stated[rows].mean()) if filled else float("nan"),
                "observed": float(happened[rows].mean()) if filled else float("nan"),
            }
        )
    return bins


# --- found people and true people --------------------------------------------------------------------


def box_matches(
    true_boxes: Sequence[Float], times_s: Float, boxes: Float, owners: Sequence[int], people: Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """In how many samples each found person's face lies over each true person's.

    Args:
        true_boxes: For each of T true people, rows of time in seconds, x1, y1, x2, y2 in pixels.
        times_s: (N,) when each found face was seen, in seconds.
        boxes: (N, 4) found faces, in pixels.
        owners: N person numbers.
        people: The P person numbers, in the order of the answer.

    Returns:
        Two (T, P) counts. The first counts every pair of boxes with an IoU of at least `MATCH_IOU` at
        times at most `MATCH_TIME_S` apart. The second gives each found face to the one true person whose
        box overlaps it most, for `identity`.
    """
    overlaps = np.zeros((len(true_boxes), len(times_s)))
    for number, rows in enumerate(true_boxes):
        if not len(rows) or not len(times_s):
            continue
        known = rows[np.argsort(rows[:, 0], kind="stable")]
        after = np.clip(np.searchsorted(known[:, 0], times_s), 0, len(known) - 1)
        before = np.maximum(after - 1, 0)
        nearer = np.abs(known[before, 0] - times_s) <= np.abs(known[after, 0] - times_s)
        nearest = np.where(nearer, before, after)
        # Guards a distance of exactly the limit against the last bit of two times.
        at_that_time = np.abs(known[nearest, 0] - times_s) <= MATCH_TIME_S + 1e-9
        overlaps[number] = np.where(at_that_time, _overlap(known[nearest, 1:], boxes), 0.0)
    columns = {person: place for place, person in enumerate(people)}
    at = np.array([columns[owner] for owner in owners], dtype=np.int64)
    counts, best = (np.zeros((len(true_boxes), len(people)), dtype=np.int64) for _ in range(2))
    which, face = np.nonzero(overlaps >= MATCH_IOU)
    np.add.at(counts, (which, at[face]), 1)
    if len(true_boxes) and len(times_s):
        seen = overlaps.max(axis=0) >= MATCH_IOU
        np.add.at(best, (overlaps.argmax(axis=0)[seen], at[seen]), 1)
    return counts, best


def _overlap(a: Float, b: Float) -> Float:
    """(N,) IoU of the boxes of each row."""
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    inter = np.prod(np.clip(sides, 0, None), axis=1)
    union = sum(np.prod(one[:, 2:] - one[:, :2], axis=1) for one in (a, b)) - inter
    return np.divide(inter, union, out=np.zeros(len(a)), where=union > 0)


def span_matches(true_spans: Float, spans: Float) -> Float:
    """How far the stretches on screen of true and found people agree: common time / time of either.

    Args:
        true_spans: (T, 2) first and last second.
        spans: (P, 2) likewise.

    Returns:
        (T, P) from 0 (never together) to 1 (the same stretch).
    """
    first = np.maximum(true_spans[:, None, 0], spans[None, :, 0])
    last = np.minimum(true_spans[:, None, 1], spans[None, :, 1])
    both = np.clip(last - first, 0, None)
    either = np.maximum(true_spans[:, None, 1], spans[None, :, 1]) - np.minimum(
        true_spans[:, None, 0], spans[None, :, 0]
    )
    return np.divide(both, either, out=np.zeros_like(both), where=either > 0)


def assigned(matches: NDArray[Any]) -> dict[int, int]:
    """The one-to-one assignment of rows to columns with the largest sum; pairs of 0 are no pairs.

    >>> assigned(np.array([[5, 4], [4, 0], [0, 0]]))
    {0: 1, 1: 0}
    """
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(matches, maximize=True)
    return {
        int(row): int(column) for row, column in zip(rows, columns, strict=True) if matches[row, column] > 0
    }


def identity(best: NDArray[np.int64]) -> tuple[float, float]:
    """How clean and how whole the found people are.

    Args:
        best: (T, P) faces of each true person in each found one: the second answer of `box_matches`.

    Returns:
        Purity, the share of faces that belong to the most frequent true person of their found person:
        lower where two humans got one number. Completeness, the share of faces that belong to the most
        frequent found person of their true person: lower where one human got several numbers. NaN where
        no face matches.

    >>> identity(np.array([[6, 2], [2, 0]]))
    (0.8, 0.8)
    """
    total = int(best.sum())
    if not total:
        return float("nan"), float("nan")
    return float(best.max(axis=0).sum() / total), float(best.max(axis=1).sum() / total)


def true_shares(
    genders: Sequence[str], ages: Sequence[float], on_screen_s: Sequence[float], bands: tuple[AgeBand, ...]
) -> dict[tuple[str, str], tuple[float, float]]:
    """What the shares table should say of a video.

    Args:
        genders: ``female``, ``male`` or empty, for each true person.
        ages: Years, or NaN.
        on_screen_s: Seconds.
        bands: The age bands of the run.

    Returns:
        (dimension, group) -> share of the people, share of the time on screen; each over the people whose
        label is known, both 0 to 1. Dimensions without a known label are left out; the time is NaN where
        nobody is on screen.

    >>> bands = AGE_BANDS["youtube"]
    >>> true_shares(["female", "male", ""], [float("nan")] * 3, [1, 3, 9], bands)[("gender", "female")]
    (0.5, 0.25)
    """
    time_s = np.asarray(on_screen_s, np.float64)
    named = {
        "gender": (np.array(genders, dtype=object), ("female", "male")),
        "age": (
            np.array(["" if np.isnan(age) else assign_band(age, bands) for age in ages], dtype=object),
            tuple(band.name for band in bands),
        ),
    }
    shares = {}
    for dimension, (labels, groups) in named.items():
        known = labels != ""
        if not known.any():
            continue
        total = float(time_s[known].sum())
        for group in groups:
            rows = labels == group
            in_time = float(time_s[rows].sum()) / total if total > 0 else float("nan")
            shares[dimension, group] = (float(rows.sum() / known.sum()), in_time)
    return shares
