"""Shares of the people and of the time on screen, by gender and age, with their error bars.

What the networks see is not what is: a share that is simply counted leans towards the classes that others
are mistaken for. So the true classes are treated as unknown. Measured on labelled faces is how often people
of each class are seen as what (the confusion, from `Calibration`); from that and from what was seen in this
video, a Gibbs sampler draws the share of each class and the class of each person, again and again. The mean
of the draws is the estimate, the middle 95 % are its interval.

Three uncertainties are in it: how often the networks are wrong, which is known from a limited number of faces
(Dirichlet draws of the confusion); which of this video's people they are wrong about (draws of the classes,
also of people who could not be judged); and the sampling: who was missed, counted twice or as one with
another, and seen for how long (each person's weight is drawn, as in the Bayesian bootstrap of Rubin 1981, but
with half its spread, because most of a video's people are seen). The model of the classes is that of
multinomial data with misclassification: Swartz et al. 2004, Bayesian identifiability and misclassification in
multinomial data, Canadian Journal of Statistics 32.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyzer.settings import Settings
from analyzer.vision.calibration import Calibration, Confusion

__all__ = [
    "FEW_PEOPLE",
    "INTERVAL",
    "SHARE_COLUMNS",
    "UNMEASURED",
    "ShareDraws",
    "draw_shares",
    "estimate_shares",
    "in_words",
    "interval",
    "share_table",
]

INTERVAL = 0.95
"""Share of the draws that lies inside of an interval."""
FEW_PEOPLE = 5
"""Of fewer people no share is stated in words."""
UNMEASURED = (
    "No shares are stated: how often these networks are wrong was not measured, so counts cannot be "
    "corrected for it."
)
"""What is said in place of shares under `Calibration.plain`."""

_BURN_IN, _DRAWS = 50, 400
_MANY_PEOPLE, _DRAWS_OF_MANY = 5_000, 200
"""Of many people the interval is narrow, and its ends need not be known as well."""
_PRIOR_PEOPLE = {"gender": 1.0, "age": 20.0}
_WEIGHT_SHAPE = 4.0
_SEED = 20150101

Real = NDArray[np.float64]


def estimate_shares(people: pd.DataFrame, settings: Settings, calibration: Calibration) -> pd.DataFrame:
    """Shares by gender and by age band.

    Who looks like a child counts as not judged in gender, unless `settings.gender_of_children`.

    Args:
        people: Rows of the people table.
        settings: Gives the age bands.
        calibration: Of the networks that judged the people.

    Returns:
        The columns of the shares table; no rows where nobody was judged, or where it was not measured how
        often the networks err.
    """
    if not calibration.measured or not (people["judged_samples"] > 0).any():
        return pd.DataFrame(columns=list(SHARE_COLUMNS))
    everybody = np.zeros(len(people), np.int64)
    return share_table(draw_shares(people, settings, calibration, groups=everybody), 0)


@dataclass(frozen=True, eq=False)
class ShareDraws:
    """Draws of the shares of C classes in each of G groups of people."""

    dimension: str
    classes: tuple[str, ...]
    values: Real
    """(draws, G, W, C): by people and by time; with clusters also both once more, clusters drawn anew. All
    groups are seen through the same draw of the confusion, so their draws can be subtracted. NaN where a
    group has nobody."""


def draw_shares(
    people: pd.DataFrame,
    settings: Settings,
    calibration: Calibration,
    *,
    groups: NDArray[np.int64],
    clusters: NDArray[np.int64] | None = None,
) -> tuple[ShareDraws, ...]:
    """Draws of the shares by gender and by age band, for several groups of people at once.

    Args:
        people: N rows of the people table, of one or more videos.
        settings: Gives the age bands.
        calibration: Of the networks that judged the people.
        groups: (N,) number of each person's group, from 0.
        clusters: (N,) number of each person's video, if draws are wanted in which the videos themselves are
            drawn (Bayesian bootstrap): how much a share depends on which videos there are.

    Returns:
        Of gender and of age.
    """
    weights = np.stack([np.ones(len(people)), people["on_screen_s"].to_numpy(np.float64)])
    judged = people["judged_samples"].to_numpy() > 0
    telling = judged.copy()
    if not settings.gender_of_children:
        telling &= ~(people["age_years"].to_numpy(np.float64) < calibration.child_years)
    found = []
    # Both at once, in threads: most of the work is done outside of Python.
    with ThreadPoolExecutor(2) as pool:
        for dimension, confusion, column, known in (
            ("gender", calibration.gender_confusion(), "female_prob", telling),
            ("age", calibration.age_confusion(settings.bands), "age_years", judged),
        ):
            seen = confusion.category(people[column].to_numpy(np.float64))
            members = _Members(np.where(known, seen, -1), groups, weights, clusters)
            values = pool.submit(_draw, members, confusion, _PRIOR_PEOPLE[dimension])
            found.append((dimension, confusion.classes, values))
    return tuple(ShareDraws(dimension, classes, values.result()) for dimension, classes, values in found)


def share_table(draws: Iterable[ShareDraws], group: int) -> pd.DataFrame:
    """The shares table of one group, without `video_id`."""
    rows: list[dict[str, object]] = []
    for one in draws:
        mean, low, high = interval(one.values[:, group, :2])
        for index, name in enumerate(one.classes):
            row: dict[str, object] = {"dimension": one.dimension, "group": name}
            for kind, weighed in enumerate(("people", "time")):
                values = mean[kind, index], low[kind, index], high[kind, index]
                row |= dict(
                    zip((f"{weighed}_share", f"{weighed}_low", f"{weighed}_high"), values, strict=True)
                )
            rows.append(row)
    return pd.DataFrame(rows, columns=list(SHARE_COLUMNS))


def interval(draws: Real, within: tuple[float, float] = (0.0, 1.0)) -> tuple[Real, Real, Real]:
    """Mean of draws along the first axis, and lower and upper end of their interval, kept `within` bounds."""
    mean = draws.mean(axis=0)
    low, high = np.quantile(draws, [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2], axis=0)
    # Of very few people the mean may lie outside; sums of shares are rounded.
    return mean, np.clip(np.minimum(low, mean), *within), np.clip(np.maximum(high, mean), *within)


SHARE_COLUMNS = (
    *("dimension", "group", "people_share", "people_low", "people_high"),
    *("time_share", "time_low", "time_high"),
)


def in_words(shares: pd.DataFrame, people: pd.DataFrame, *, images: bool = False) -> str:
    """What the table says of women, in a sentence; empty where fewer than `FEW_PEOPLE` were judged, and
    `UNMEASURED` where the table is empty all the same.

    Args:
        shares: Rows of the shares table.
        people: Rows of the people table.
        images: Whether they are of images, where the time on screen is the number of images.
    """
    of_women = shares[shares["group"] == "female"]
    if (people["judged_samples"] > 0).sum() < FEW_PEOPLE:
        return ""
    if of_women.empty:
        return UNMEASURED
    row = of_women.iloc[0]
    of_time = "sightings are of them" if images else "time on screen is theirs"
    return (
        f"About {row['people_share']:.0%} of the people look like women ({row['people_low']:.0%} to "
        f"{row['people_high']:.0%}), and {row['time_share']:.0%} of the {of_time} "
        f"({row['time_low']:.0%} to {row['time_high']:.0%}): knowing how often the networks are wrong, the "
        "true share lies in such a range in about 95 of 100 cases."
    )


@dataclass(frozen=True, eq=False)
class _Members:
    """N people, as they are drawn."""

    category: NDArray[np.int64]
    """(N,) what each was seen as; -1 for those who could not be judged."""
    groups: NDArray[np.int64]
    weights: Real
    """(W, N) by which people are summed up."""
    clusters: NDArray[np.int64] | None


def _draw(people: _Members, confusion: Confusion, prior_people: float) -> Real:
    """Draws of the shares.

    Args:
        people: Who was seen as what.
        confusion: What people of each of C classes are seen as.
        prior_people: As how many people, composed as the labelled ones, the prior weighs. A few people say
            little about who there is: without one, neighbouring ages could not be told apart.

    Returns:
        (draws, G, W, C); 2 W with clusters.
    """
    random = np.random.default_rng(_SEED)
    classes, categories = confusion.counts.shape
    groups = int(people.groups.max(initial=0)) + 1
    known = people.category >= 0
    seen = np.zeros((groups, categories), np.int64)
    np.add.at(seen, (people.groups[known], people.category[known]), 1)
    prior = prior_people * confusion.counts.sum(axis=1) / confusion.counts.sum()
    shares = np.tile(prior / prior.sum(), (groups, 1))
    # Which row of the chances is a person's: those who could not be judged have one of their own.
    row = people.groups * (categories + 1) + np.where(known, people.category, categories)
    draws = []
    for number in range(-_BURN_IN, _DRAWS if len(row) < _MANY_PEOPLE else _DRAWS_OF_MANY):
        # How often each class is seen as each category; half a face more everywhere: never is not proven.
        gammas = random.standard_gamma(confusion.counts + 0.5)
        seen_as = gammas / gammas.sum(axis=1, keepdims=True)
        of_class = shares[:, :, None] * seen_as
        of_class /= of_class.sum(axis=1, keepdims=True)
        counts = random.multinomial(seen, of_class.transpose(0, 2, 1)).sum(axis=1)
        gammas = random.standard_gamma(counts + prior)
        shares = gammas / gammas.sum(axis=1, keepdims=True)
        if number < 0:
            continue
        # Who could not be judged is as the others are.
        chances = np.concatenate([of_class, shares[:, :, None]], axis=2).transpose(0, 2, 1)
        # One ascending list of borders, a stretch of length 1 for each row, is searched for all at once.
        borders = (
            np.cumsum(chances, axis=2).reshape(-1, classes) + np.arange(groups * (categories + 1))[:, None]
        )
        place = row + random.random(len(row)) * (1 - 1e-9)
        chosen = np.clip(np.searchsorted(borders.ravel(), place) - row * classes, 0, classes - 1)
        drawn = people.weights * random.gamma(_WEIGHT_SHAPE, 1 / _WEIGHT_SHAPE, people.weights.shape)
        if people.clusters is not None:
            videos = random.standard_exponential(int(people.clusters.max(initial=0)) + 1)
            drawn = np.concatenate([drawn, drawn * videos[people.clusters]])
        cell = people.groups * classes + chosen
        sums = np.stack(
            [np.bincount(cell, one, groups * classes).reshape(groups, classes) for one in drawn], 1
        )
        with np.errstate(invalid="ignore"):
            draws.append(sums / sums.sum(axis=2, keepdims=True))
    return np.stack(draws)
