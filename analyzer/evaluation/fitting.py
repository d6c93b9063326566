"""Fit a calibration to the estimates of labeled faces: numbers in, the content of a file out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyzer.evaluation.metrics import GENDERS
from analyzer.evaluation.views import PLAIN
from analyzer.people.fusion import face_weights, fuse_estimates, person_means, stated_genders
from analyzer.settings import Settings
from analyzer.vision.calibration import (
    NORMAL_80,
    Calibration,
    Estimates,
    Readings,
    gender_terms,
    interval_terms,
    logit,
)

__all__ = ["EXPLAINED", "People", "fit", "read_across"]

Real = NDArray[np.float64]

_FOLDS = 5
_AGE_KNOTS_YEARS = (0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 85.0)
_INTERVAL_KNOTS_YEARS = (0.0, 4.0, 10.0, 18.0, 26.0, 36.0, 48.0, 60.0, 75.0)
_GENDER_EDGES = (0.05, 0.15, 0.3, 0.5, 0.7, 0.85, 0.95)
_AGE_EDGES_YEARS = tuple(float(age) for age in range(3, 81, 3))
_GROUPS_YEARS = (13.0, 20.0, 50.0)
"""Between groups of estimated ages in which women and men count alike."""
_SLOPES = 3
"""The first of the terms of gender are log odds, with slopes; the others are offsets."""
_GENDER_RIDGE = 3.0
"""Penalty on the squares of how far the coefficients of gender are from those that change nothing: it counts
where there are few people, such as children among officials, or where all are told apart."""
_CORNER_YEARS = 0.2
"""Over how much the corner of a loss is rounded, so that it has a gradient."""
_AGE_HABIT, _HABIT = 3.0, 0.05
"""Price, in years of error of one person, of a squared year by which the curve of ages departs from one that
changes nothing, and by which the interval differs between neighboring knots: it counts where there are few
people."""
_POPULATION_SHARE, _POPULATION_YEARS = 0.5, (18, 65, 95)
"""The ages that are assumed of people on screen, as nobody knows whom a video shows. This share are adults,
as many of each age up to the second number, and fewer and fewer up to the third; the others have the ages of
the labeled people, most of whom are in their twenties in most collections."""
_CELLS_YEARS = (2.0, 5.0, 13.0, 18.0, 25.0, 35.0, 45.0, 55.0, 65.0)
"""Between bands of ages of which as many are missed."""
_NEAR_YEARS = 5.0
_MISSED = 0.2
"""Share of the true ages outside of their intervals."""
_FIRST_PRICE, _ADAPTION, _ROUNDS = 10.0, 4.0, 12
"""See `_fit_interval`."""
_MOST_WEIGHT = 6.0
_RELIABLE = 0.9
"""Share of right genders above which they are stated."""
_OLDEST_CHILD = 30
"""No older perceived age counts as that of a child."""
_FEW = 20
"""Of fewer people no share is taken."""
EXPLAINED = {
    "members": "the set of models that all this holds for: names, SHA-256, crop, precision",
    "fitted_on, license, commercial_use": "the labeled faces, and whether that license allows commercial use",
    "gender": "coefficients of log odds, log odds * young, log odds * old, 1, young, old",
    "age_*": "age between knots of the estimate",
    "interval_*": "80 % interval of age: years below and above the age, between knots of the age; plus a "
    "share of the estimate's spread, likewise; plus years times log(80 / width of the face in pixels) below "
    "80 pixels, and times 1 - quality",
    "child_years": "perceived age below which fewer than 90 % of the genders are right",
    "seen_gender": "labeled people who look grown up, by true gender and by fused probability of female",
    "seen_age": "labeled people by true age in years and by fused age, between the edges",
}
"""What the names in a calibration's file mean."""


@dataclass(frozen=True, eq=False)
class People:
    """Labeled people, once for each photograph or video of them, with their fused estimates."""

    estimates: Estimates
    """Of N people; the log odds are not calibrated."""
    terms: Real
    """(6, N): the terms of gender, fused like the estimates."""
    names: NDArray[np.str_]
    """(N,) of the labeled face."""
    age: Real
    """(N,) true age in years; NaN: not labeled."""
    gender: NDArray[np.str_]
    """(N,) true gender; empty: not labeled."""
    plain: NDArray[np.bool_]
    """(N,) whether the labeled image was shown as it is."""

    @classmethod
    def of(cls, faces: pd.DataFrame) -> People:
        """Fuse the frames of each video like the faces of a person.

        Args:
            faces: A row for each face: ``name``, ``view`` (of `views`), ``true_age``, ``true_gender``, and of
                the columns of the faces table ``x1``, ``x2``, ``score``, ``quality``, ``female_prob`` (not
                calibrated), ``age_years`` and ``age_std_years``.
        """
        faces = faces.assign(person_id=faces.groupby(["name", "view"]).ngroup() + 1)
        ids, estimates = fuse_estimates(faces)
        log_odds = logit(faces["female_prob"].to_numpy(np.float64))
        each = pd.DataFrame(gender_terms(log_odds, faces["age_years"].to_numpy(np.float64)).T)
        terms = person_means(each, faces["person_id"], face_weights(faces))
        labels = faces.drop_duplicates("person_id").set_index("person_id").loc[ids]
        return cls(
            estimates,
            terms.loc[ids].to_numpy().T,
            labels["name"].to_numpy(str),
            labels["true_age"].to_numpy(np.float64),
            labels["true_gender"].to_numpy(str),
            labels["view"].to_numpy() == PLAIN,
        )

    def __len__(self) -> int:
        return len(self.names)

    def chosen(self, rows: NDArray[np.bool_]) -> People:
        """Some of them."""
        arrays = {one.name: getattr(self.estimates, one.name)[rows] for one in fields(Estimates)}
        own = {name: getattr(self, name)[rows] for name in ("names", "age", "gender", "plain")}
        return People(Estimates(**arrays), self.terms[:, rows], **own)

    def read(self, calibration: Calibration) -> Readings:
        """What is said about them with a calibration."""
        log_odds = np.asarray(calibration.gender) @ self.terms
        arrays = {one.name: getattr(self.estimates, one.name) for one in fields(Estimates)}
        return calibration.person(Estimates(**arrays | {"log_odds": log_odds}))


def fit(people: People) -> dict[str, Any]:
    """The fitted part of a calibration's file: all but explanations, the set of models and the faces.

    Args:
        people: Enough of each gender and of each age; whoever is not labeled for one is left out there.
    """
    values = _coefficients(people)
    read = read_across(people)
    values["child_years"] = _child_years(people, read)
    female, age = people.gender == "female", people.age
    # The gender of those who look like children is not counted.
    grown = (people.gender != "") & (read.age_years >= values["child_years"])
    known = np.isfinite(age)
    classes = np.where(female, *GENDERS)
    for name, edges, seen, true in (
        ("gender", _GENDER_EDGES, read.female_prob[grown], classes[grown]),
        ("age", _AGE_EDGES_YEARS, read.age_years[known], age[known].astype(int).astype(str)),
    ):
        bins = np.searchsorted(edges, seen, side="right")
        counts = pd.crosstab(true, bins).reindex(columns=range(len(edges) + 1), fill_value=0)
        unit = "_years" if name == "age" else ""
        values[f"seen_{name}_edges{unit}"] = list(edges)
        values[f"seen_{name}"] = {str(label): row.tolist() for label, row in counts.iterrows()}
    return values


def read_across(people: People) -> Readings:
    """Read each person with a calibration that was fitted to others.

    Args:
        people: As for `fit`.
    """
    hashes = [int(hashlib.sha1(name.encode()).hexdigest(), 16) % _FOLDS for name in people.names]
    fold = np.array(hashes)
    read = {one.name: np.full(len(people), np.nan) for one in fields(Readings)}
    for number in range(_FOLDS):
        rows = fold == number
        if not rows.any():
            continue
        values = _coefficients(people.chosen(~rows))
        found = people.chosen(rows).read(replace(Calibration.plain(), **values))
        for name, column in read.items():
            column[rows] = getattr(found, name)
    return Readings(**read)


def _coefficients(people: People) -> dict[str, Any]:
    gender = _fit_gender(people.chosen(people.gender != "")).round(4)
    aged = people.chosen(np.isfinite(people.age))
    weight = _age_weights(aged.age)
    # Rising from knot to knot: a sum of steps of which none is negative.
    steps = np.tril(np.ones((len(_AGE_KNOTS_YEARS),) * 2))
    hats = _hats(aged.estimates.age_years, _AGE_KNOTS_YEARS) @ steps
    age = steps @ _fit_median(hats, aged.age, weight, np.diff(_AGE_KNOTS_YEARS, prepend=0.0))
    values = {
        "gender": gender.tolist(),
        "age_knots_years": list(_AGE_KNOTS_YEARS),
        "age_years": age.round(2).tolist(),
    }
    return values | _fit_interval(aged, np.interp(aged.estimates.age_years, _AGE_KNOTS_YEARS, age))


def _fit_gender(people: People) -> Real:
    """Fit how sure a stated gender is, (6,) coefficients of `gender_terms`.

    Slopes alone leave the likelier gender as the models answer; offsets make another one likelier, and what
    they gain among all people may be lost by one group. So there are offsets only for models that need them:
    if fewer people get the wrong gender with them, by more than twice the deviation of chance.
    """
    female = people.gender == "female"
    even = _even_weights(female, people.estimates.age_years)
    slopes = np.pad(_fit_logistic(people.terms[:_SLOPES], female, even), (0, len(people.terms) - _SLOPES))
    free = _fit_logistic(people.terms, female, even)
    right, right_with = ((one @ people.terms > 0) == female for one in (slopes, free))
    mended, broken = int((right_with & ~right).sum()), int((right & ~right_with).sum())
    return free if mended - broken > 2 * np.sqrt(mended + broken) else slopes


def _fit_interval(people: People, age: Real) -> dict[str, Any]:
    """Fit how far the interval reaches to both sides of the age.

    The least reach, at a price for each year by which a true age is missed. Estimates shrink towards the
    frequent ages, so that one price would let most of the young and the old be missed. So the price is raised
    for groups of whom more than a fifth are missed, and lowered for those of whom fewer are: bands of true
    and of perceived ages, and everybody; those who are shown as they are labeled, and those in photographs
    and videos, apart, as most videos say so much less that they would decide for the others too.
    """
    spread, *wider = np.nan_to_num(interval_terms(people.estimates))
    hats = _hats(age, _INTERVAL_KNOTS_YEARS)
    terms = np.column_stack([hats, hats * spread[:, None], *wider])
    # Nothing that says less makes an interval narrower, and no certainty shrinks it to a point.
    least = np.zeros(terms.shape[1])
    bands = (np.digitize(years, _CELLS_YEARS) for years in (people.age, age))
    ways = [band * 2 + people.plain for band in (*bands, np.zeros(len(people), np.int64))]
    members = [way == one for way in ways for one in np.unique(way) if (way == one).sum() >= _FEW]
    price = np.full(len(people), _FIRST_PRICE)
    above = people.age - age
    low, high = (_least_squares(terms, target).clip(0) for target in (-above, above))
    for _ in range(_ROUNDS):
        low = _least_reach(terms, -above, price, least, low)
        high = _least_reach(terms, above, price, least, high)
        missed = (-above > terms @ low) | (above > terms @ high)
        for rows in members:
            price[rows] *= np.exp(_ADAPTION / len(ways) * (missed[rows].mean() - _MISSED))
    knots = len(_INTERVAL_KNOTS_YEARS)
    # All labeled people lie between the youngest and the oldest. Unless those are babies, there are
    # others, so beyond them the interval reaches at least as far as the model's own spread says.
    beyond = np.array(_INTERVAL_KNOTS_YEARS)
    youngest, oldest = people.age.min(), people.age.max()
    for end, outside, near in (
        (low, (beyond <= youngest) & (youngest > _NEAR_YEARS), age <= youngest + _NEAR_YEARS),
        (high, beyond >= oldest, age >= oldest - _NEAR_YEARS),
    ):
        missing = NORMAL_80 - end[knots : 2 * knots][outside]
        own = missing * spread[near].mean() if near.any() else 0.0
        end[:knots][outside] = np.maximum(end[:knots][outside], own)
    small, unclear = np.array([low[2 * knots :], high[2 * knots :]]).T.round(3).tolist()
    return {
        "interval_knots_years": list(_INTERVAL_KNOTS_YEARS),
        "interval_low_years": low[:knots].round(2).tolist(),
        "interval_high_years": high[:knots].round(2).tolist(),
        "interval_low_spread": low[knots : 2 * knots].round(3).tolist(),
        "interval_high_spread": high[knots : 2 * knots].round(3).tolist(),
        "interval_small_years": small,
        "interval_unclear_years": unclear,
    }


def _even_weights(female: NDArray[np.bool_], age_years: Real) -> Real:
    """(N,) weights with which women and men count alike among the young, the grown and the old.

    That most of the labeled old are men is no reason to take an old woman for one. Measured with a version of
    heads on 408 faces, it makes the accuracy of men and women differ by 3.6 instead of 5.5 points.
    """
    weights = np.ones(len(female))
    group = np.digitize(age_years, _GROUPS_YEARS)
    for number in range(len(_GROUPS_YEARS) + 1):
        sides = [(group == number) & (female == side) for side in (False, True)]
        counts = [int(rows.sum()) for rows in sides]
        if min(counts) >= _FEW:
            for rows, count in zip(sides, counts, strict=True):
                weights[rows] = sum(counts) / 2 / count
    return weights


def _fit_logistic(terms: Real, female: NDArray[np.bool_], weight: Real) -> Real:
    """Coefficients of (T, N) terms by weighted maximum likelihood; 1, 0, 0, ... where nothing is known."""
    from scipy.optimize import minimize  # late: it takes long

    def loss(coefficients: Real) -> tuple[float, Real]:
        log_odds = coefficients @ terms
        error = weight * (1 / (1 + np.exp(-log_odds)) - female)
        odd = _GENDER_RIDGE * (coefficients - start)
        value = weight @ (np.logaddexp(0, log_odds) - female * log_odds) + odd @ (coefficients - start)
        return float(value) / len(female), (terms @ error + 2 * odd) / len(female)

    start = np.zeros(len(terms))
    start[0] = 1
    return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 2000}).x)


def _fit_median(terms: Real, target: Real, weight: Real, usual: Real) -> Real:
    """Coefficients of (N, T) terms with the least mean absolute error.

    Args:
        terms: Of N rows.
        target: (N,) what the sums should be.
        weight: (N,) how much each row counts.
        usual: (T,) coefficients where few rows say anything else. None is below 0.
    """

    def loss(coefficients: Real) -> tuple[float, Real]:
        error = target - terms @ coefficients
        size = np.sqrt(error**2 + _CORNER_YEARS**2)
        odd = coefficients - usual
        value = weight @ size + _AGE_HABIT * odd @ odd
        return float(value), 2 * _AGE_HABIT * odd - (weight * error / size) @ terms

    return _minimum(loss, np.asarray(usual, np.float64), 0.0, len(target))


def _least_reach(terms: Real, target: Real, price: Real, least: Real, start: Real) -> Real:
    """Coefficients of (N, T) terms: the least mean sum, where each year that it falls short has a price.

    With one price p for all this is the regression of the quantile 1 - 1 / p (Koenker and Bassett 1978). The
    coefficients of neighboring knots are alike where few rows say anything else.

    Args:
        terms: Of N rows; the first ones are of knots, once for years and once for shares of the spread.
        target: (N,) what the sums should reach.
        price: (N,) of each.
        least: (T,) lower bounds of the coefficients.
        start: (T,) first coefficients.
    """
    knots = len(_INTERVAL_KNOTS_YEARS)
    rows = np.eye(len(start))
    apart = np.concatenate([np.diff(rows[at : at + knots], axis=0) for at in (0, knots)])

    def loss(coefficients: Real) -> tuple[float, Real]:
        reach = terms @ coefficients
        short = (target - reach) / _CORNER_YEARS
        bends = apart @ coefficients
        value = reach + price * _CORNER_YEARS * np.logaddexp(0, short)
        slope = 1 - price / (1 + np.exp(-np.clip(short, -500, 500)))
        return float(value.sum() + _HABIT * bends @ bends), slope @ terms + 2 * _HABIT * bends @ apart

    return _minimum(loss, start, least, len(target))


def _least_squares(terms: Real, target: Real) -> Real:
    return np.asarray(np.linalg.lstsq(terms, target, rcond=None)[0], np.float64)


def _minimum(
    loss: Callable[[Real], tuple[float, Real]], start: Real, least: float | Real, count: int
) -> Real:
    """Where a sum over `count` rows has its minimum, from `start`; `loss` also gives its gradient."""
    from scipy.optimize import minimize  # late: it takes long

    def mean(coefficients: Real) -> tuple[float, Real]:
        value, gradient = loss(coefficients)
        return value / count, gradient / count

    low = np.broadcast_to(np.asarray(least, np.float64), start.shape)
    return np.asarray(
        minimize(
            mean,
            np.maximum(start, low),
            jac=True,
            method="L-BFGS-B",
            bounds=np.stack([low, np.full(len(start), np.inf)], axis=1),
            options={"maxiter": 5000, "maxfun": 10000},
        ).x
    )


def _hats(values: Real, knots: tuple[float, ...]) -> Real:
    """(N, K) weights of linear interpolation between K knots."""
    return np.stack([np.interp(values, knots, row) for row in np.eye(len(knots))], axis=1)


def _age_weights(age: Real) -> Real:
    """(N,) weights with which labeled people stand for the assumed ones (`_POPULATION_SHARE`); mean 1.

    If all counted alike, estimates would shrink towards the ages that are frequent among the labeled: the
    errors of the old would be bought by those of the many at 26. The ratio of what is assumed to what is
    labeled exchanges that prior (Saerens et al. 2002), for models too that answer by a mean alone.

    Args:
        age: (N,) true age in years.
    """
    years = np.clip(age, 0, 100).astype(int)
    window = np.exp(-0.5 * (np.arange(-15, 16) / 4) ** 2)
    density = np.convolve(np.bincount(years, minlength=101), window / window.sum(), "same")
    density /= np.convolve(np.ones(101), window / window.sum(), "same")
    adult, falling, nobody = _POPULATION_YEARS
    every = np.arange(101)
    assumed = np.clip((nobody - every) / (nobody - falling), 0, 1) * (every >= adult)
    assumed *= len(age) / assumed.sum()
    # With one person more of each age, a single one does not stand for dozens.
    ratio = assumed[years] / (density[years] + 1)
    weights = _POPULATION_SHARE * ratio + 1 - _POPULATION_SHARE
    weights = np.minimum(weights / weights.mean(), _MOST_WEIGHT)
    return np.asarray(weights / weights.mean())


def _child_years(people: People, read: Readings) -> float:
    """The perceived age below which, in windows of five years, too few of the stated genders are right.

    A window counts if its share is too low by more than chance; the age is never lower than that of models
    that were not measured.
    """
    plain = Calibration.plain()
    settings = Settings(gender_of_children=True)
    stated = stated_genders(read.female_prob, read.age_years, settings, plain)
    counted = (people.gender != "") & (stated != "unknown")
    right = stated == people.gender
    for age in range(_OLDEST_CHILD, int(plain.child_years), -1):
        window = counted & (read.age_years >= age - 5) & (read.age_years < age)
        if (number := int(window.sum())) < _FEW:
            continue
        if right[window].mean() < _RELIABLE - np.sqrt(_RELIABLE * (1 - _RELIABLE) / number):
            return float(age)
    return plain.child_years
