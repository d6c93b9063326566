"""Estimated proportions of people and of time on screen by gender and age, with intervals.

Models make errors: simply counted shares are biased towards the classes that others are mistaken for. So the
true classes are treated as unknown. The confusion, how often people of each class are classified as which,
was measured on labeled faces (`Calibration`). From it and from the classes estimated in this video, a Gibbs
sampler draws the proportion of each class and the class of each person, again and again. The mean of the
draws is the estimate, the middle 95 % are its interval.

The intervals cover three uncertainties: the error rates of the models, which are known from a limited number
of faces (Dirichlet draws of the confusion); the people of this video they are wrong about (draws of the
classes, including people who could not be estimated; those that corrections confirm are known); and the
sampling: who was missed, counted twice or
merged with another, and seen for how long (each person's weight is drawn, as in the Bayesian bootstrap of
Rubin 1981, but with half its variance, because most people of a video are seen). The model of the classes is
that of multinomial data with misclassification: Swartz et al. 2004, Bayesian identifiability and
misclassification in multinomial data, Canadian Journal of Statistics 32."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyzer.people.confirmed import confirmed_bands, confirmed_genders, known_people
from analyzer.settings import Settings
from analyzer.util.text import percent
from analyzer.vision.calibration import Calibration, Confusion

__all__ = [
    "FEW_PEOPLE",
    "INTERVAL",
    "SHARE_COLUMNS",
    "UNMEASURED",
    "ProportionDraws",
    "draw_proportions",
    "estimate_proportions",
    "in_words",
    "interval",
    "share_table",
]

INTERVAL = 0.95
"""Share of the draws inside an interval."""

FEW_PEOPLE = 5
"""With fewer estimated people, no shares are stated: not in tables, not in charts, not in sentences."""

UNMEASURED = (
    "No shares are stated: the error rates of these models have not been measured, so counts cannot be "
    "corrected for them."
)
"""Said in place of shares with `Calibration.plain`."""

_BURN_IN, _DRAWS, _CHAINS = 50, 400, 20
"""Parallel chains, each with `_BURN_IN` steps to warm up; together they give `_DRAWS` draws."""

_BLOCK = 1_000_000
"""Most people times draws held in memory at a time."""

_PRIOR_PEOPLE = {"gender": 1.0, "age": 20.0}

_WEIGHT_SHAPE = 4.0

_SEED = 20150101

Real = NDArray[np.float64]


def estimate_proportions(people: pd.DataFrame, settings: Settings, calibration: Calibration) -> pd.DataFrame:
    """Estimate the proportions by gender and by age band.

    The gender of people who look like children counts as unknown, unless `settings.gender_of_children`.

    Args:
        people: Rows of the people table.
        settings: Define the age bands.
        calibration: Of the models.

    Returns:
        The columns of the shares table; no rows with fewer than `FEW_PEOPLE` people whose gender or age was
        estimated or is confirmed, or if the error rates of the models were not measured.
    """
    if not calibration.measured or known_people(people).sum() < FEW_PEOPLE:
        return pd.DataFrame(columns=list(SHARE_COLUMNS))
    one_group = np.zeros(len(people), np.int64)
    return share_table(draw_proportions(people, settings, calibration, groups=one_group), 0)


@dataclass(frozen=True, eq=False)
class ProportionDraws:
    """Draws of the proportions of C classes in each of G groups of people."""

    dimension: str
    classes: tuple[str, ...]
    values: Real
    """(draws, G, W, C): by people and by time; with clusters also both once more, clusters drawn anew. All
    groups are seen through the same draw of the confusion, so their draws can be subtracted. NaN where a
    group has nobody."""


def draw_proportions(
    people: pd.DataFrame,
    settings: Settings,
    calibration: Calibration,
    *,
    groups: NDArray[np.int64],
    clusters: NDArray[np.int64] | None = None,
) -> tuple[ProportionDraws, ...]:
    """Draw the proportions by gender and by age band, for several groups of people.

    Args:
        people: N rows of the people table, of one or more videos.
        settings: Define the age bands.
        calibration: Of the models.
        groups: (N,) group of each person, from 0.
        clusters: (N,) video of each person, for further draws in which the videos themselves are resampled
            (Bayesian bootstrap): how much a proportion depends on the choice of videos.

    Returns:
        Draws of gender and of age. The draws of a group depend on its own people only, not on their order or
        on other groups: the same people have the same proportions wherever they are stated.
    """
    weights = np.stack([np.ones(len(people)), people["on_screen_s"].to_numpy(np.float64)])
    estimated = people["estimated_samples"].to_numpy() > 0
    gendered = estimated.copy()
    if not settings.gender_of_children:
        gendered &= ~(people["age_years"].to_numpy(np.float64) < calibration.child_years)
    genders, ages = calibration.gender_confusion(), calibration.age_confusion(settings.bands)
    found = []
    # In two threads: most of the work is done outside of Python.
    with ThreadPoolExecutor(2) as pool:
        for dimension, confusion, column, known, confirmed in (
            ("gender", genders, "female_prob", gendered, confirmed_genders(people, genders.classes)),
            ("age", ages, "age_years", estimated, confirmed_bands(people, settings.bands)),
        ):
            seen = confusion.category(people[column].to_numpy(np.float64))
            members = _Members(np.where(known, seen, -1), confirmed, groups, weights, clusters)
            values = pool.submit(_draw, members, confusion, _PRIOR_PEOPLE[dimension])
            found.append((dimension, confusion.classes, values))
    return tuple(ProportionDraws(dimension, classes, values.result()) for dimension, classes, values in found)


def share_table(draws: Iterable[ProportionDraws], group: int) -> pd.DataFrame:
    """Return the shares table of one group, without `video_id`."""
    rows: list[dict[str, object]] = []
    for one in draws:
        mean, low, high = interval(one.values[:, group, :2])
        for index, name in enumerate(one.classes):
            row: dict[str, object] = {"dimension": one.dimension, "group": name}
            for kind, by in enumerate(("people", "time")):
                values = mean[kind, index], low[kind, index], high[kind, index]
                row |= dict(zip((f"{by}_share", f"{by}_low", f"{by}_high"), values, strict=True))
            rows.append(row)
    return pd.DataFrame(rows, columns=list(SHARE_COLUMNS))


def interval(draws: Real, within: tuple[float, float] = (0.0, 1.0)) -> tuple[Real, Real, Real]:
    """Return the mean of draws along the first axis and the bounds of their interval, clipped to `within`."""
    mean = draws.mean(axis=0)
    low, high = np.quantile(draws, [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2], axis=0)
    # With very few people the mean may lie outside; sums are rounded.
    return mean, np.clip(np.minimum(low, mean), *within), np.clip(np.maximum(high, mean), *within)


SHARE_COLUMNS = (
    *("dimension", "group", "people_share", "people_low", "people_high"),
    *("time_share", "time_low", "time_high"),
)


def in_words(shares: pd.DataFrame, people: pd.DataFrame, *, images: bool = False) -> str:
    """Return the share of those perceived as female in a sentence.

    Empty with fewer than `FEW_PEOPLE` people who were estimated or are confirmed; `UNMEASURED` if the table
    is empty nevertheless.

    Args:
        shares: Rows of the shares table.
        people: Rows of the people table.
        images: Whether they are of images, whose number replaces the time on screen.
    """
    of_women = shares[shares["group"] == "female"]
    if known_people(people).sum() < FEW_PEOPLE:
        return ""
    if of_women.empty:
        return UNMEASURED
    shown = {name: percent(float(of_women.iloc[0][name])) for name in SHARE_COLUMNS[2:]}
    of_time = "sightings are of them" if images else "time on screen is theirs"
    if (confirmed_genders(people, ("female", "male")) >= 0).all():
        return (
            f"{shown['people_share']} of the people are female, and {shown['time_share']} of the {of_time}: "
            "the gender of everybody was confirmed by hand."
        )
    return (
        f"About {shown['people_share']} of the people look female ({shown['people_low']} to "
        f"{shown['people_high']}), and {shown['time_share']} of the {of_time} "
        f"({shown['time_low']} to {shown['time_high']}): considering the error rates of the models, about 95 "
        "of 100 such ranges contain the true share."
    )


@dataclass(frozen=True, eq=False)
class _Members:
    """N people, as input of the draws."""

    category: NDArray[np.int64]
    """(N,) estimated class of each; -1 if it could not be estimated."""
    confirmed: NDArray[np.int64]
    """(N,) true class of each; -1 if it is not known."""
    groups: NDArray[np.int64]
    weights: Real
    """(W, N) weights by which people are summed."""
    clusters: NDArray[np.int64] | None

    def of(self, chosen: NDArray[np.int64]) -> _Members:
        """Return some of them in an order of their own: by class and time on screen."""
        keys = *self.weights[:, chosen], self.category[chosen], self.confirmed[chosen]
        order = chosen[np.lexsort(keys)]
        clusters = None
        if self.clusters is not None:
            clusters = np.unique(self.clusters[order], return_inverse=True)[1]
        return _Members(
            self.category[order], self.confirmed[order], self.groups[order], self.weights[:, order], clusters
        )

    @property
    def fingerprint(self) -> int:
        """A number that depends on these people only; times count to the millisecond."""
        content = self.category.astype("<i8").tobytes() + self.weights.round(3).astype("<f8").tobytes()
        if (self.confirmed >= 0).any():
            content += self.confirmed.astype("<i8").tobytes()
        return int.from_bytes(hashlib.sha256(content).digest()[:8])


def _draw(people: _Members, confusion: Confusion, prior_people: float) -> Real:
    """Draw the proportions.

    Args:
        people: People with their estimated classes.
        confusion: How people of each of C classes are classified.
        prior_people: Weight of the prior, in people composed as the labeled ones. A few people say little
            about the composition: without a prior, neighboring ages could not be separated.

    Returns:
        (draws, G, W, C); 2 W with clusters.
    """
    prior = prior_people * confusion.counts.sum(axis=1) / confusion.counts.sum()
    counts = np.asarray(confusion.counts, np.float64)
    seen_as = _seen_as(counts.tobytes(), counts.shape, _BURN_IN + _DRAWS // _CHAINS)
    order = np.argsort(people.groups, kind="stable")
    borders = np.searchsorted(people.groups[order], np.arange(people.groups.max(initial=0) + 2))
    drawn = [_draw_group(people.of(order[start:end]), seen_as, prior) for start, end in pairwise(borders)]
    return np.stack(drawn, axis=1)


@functools.lru_cache(4)
def _seen_as(counts: bytes, shape: tuple[int, int], steps: int) -> Real:
    """Return (steps, chains, C, K) draws of how often each class is classified as each category."""
    # Half a face more everywhere: what was never seen is not impossible.
    more = np.frombuffer(counts).reshape(shape) + 0.5
    gammas = np.random.default_rng(_SEED).standard_gamma(more, (steps, _CHAINS, *shape))
    return np.asarray(gammas / gammas.sum(axis=-1, keepdims=True))


def _draw_group(people: _Members, seen_as: Real, prior: Real) -> Real:
    """Return (draws, W, C) proportions of the people of a group, classified as in `seen_as`."""
    steps, chains, classes, categories = seen_as.shape
    random = np.random.default_rng([_SEED, people.fingerprint])
    confirmed = people.confirmed >= 0
    known = (people.category >= 0) & ~confirmed
    seen = np.bincount(people.category[known], minlength=categories)
    sure = np.bincount(people.confirmed[confirmed], minlength=classes)
    there = np.flatnonzero(seen)
    shares = np.tile(prior / prior.sum(), (chains, 1))
    rows = categories + 1 + classes
    chances = np.empty((steps - _BURN_IN, chains, rows, classes))
    certain = np.broadcast_to(np.eye(classes), (chains, classes, classes))
    for step in range(steps):
        of_class = shares[:, :, None] * seen_as[step]
        of_class = (of_class / of_class.sum(axis=1, keepdims=True)).transpose(0, 2, 1)
        counts = sure + random.multinomial(seen[there], of_class[:, there]).sum(axis=1)
        gammas = random.standard_gamma(counts + prior)
        shares = gammas / gammas.sum(axis=1, keepdims=True)
        if step >= _BURN_IN:
            # People who could not be estimated are distributed like the others.
            chances[step - _BURN_IN] = np.concatenate([of_class, shares[:, None], certain], axis=1)
    borders = np.cumsum(chances.reshape(-1, rows, classes), axis=2)
    row = np.where(known, people.category, categories)
    row[confirmed] = categories + 1 + people.confirmed[confirmed]
    videos = np.random.default_rng(
        [_SEED, people.fingerprint, 1]
    )  # a generator of its own: other draws do not depend on it
    draws = []
    for start in range(0, len(borders), size := max(1, _BLOCK // max(len(row), 1))):
        of_block = borders[start : start + size]
        place = random.random((len(of_block), len(row)))
        chosen = np.zeros(place.shape, np.int64)
        for index in range(classes - 1):
            chosen += place >= of_block[:, row, index]
        weight = random.gamma(_WEIGHT_SHAPE, 1 / _WEIGHT_SHAPE, place.shape)
        weight[:, confirmed] = 1  # whoever confirmed them has seen that each is one person
        drawn = [weight * one for one in people.weights]
        if people.clusters is not None:
            number = int(people.clusters.max(initial=0)) + 1
            again = videos.standard_exponential((len(of_block), number))[:, people.clusters]
            drawn += [one * again for one in drawn]
        cell = (np.arange(len(of_block))[:, None] * classes + chosen).ravel()
        sums = [np.bincount(cell, one.ravel(), len(of_block) * classes) for one in drawn]
        draws.append(np.stack([one.reshape(-1, classes) for one in sums], axis=1))
    found = np.concatenate(draws)
    with np.errstate(invalid="ignore"):
        return np.asarray(found / found.sum(axis=2, keepdims=True))
