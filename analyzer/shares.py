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

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyzer.settings import Settings
from analyzer.vision.calibration import Calibration, Confusion

__all__ = ["FEW_PEOPLE", "INTERVAL", "SHARE_COLUMNS", "estimate_shares", "in_words"]

INTERVAL = 0.95
"""Share of the draws that lies inside of an interval."""
FEW_PEOPLE = 5
"""Of fewer people no share is stated in words."""

_BURN_IN, _DRAWS = 50, 400
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
        The columns of the shares table; no rows where nobody was judged.
    """
    weights = np.stack([np.ones(len(people)), people["on_screen_s"].to_numpy(np.float64)])
    judged = people["judged_samples"].to_numpy() > 0
    telling = judged.copy()
    if not settings.gender_of_children:
        telling &= ~(people["age_years"].to_numpy(np.float64) < calibration.child_years)
    rows: list[dict[str, object]] = []
    for dimension, confusion, column, known in (
        ("gender", calibration.gender_confusion(), "female_prob", telling),
        ("age", calibration.age_confusion(settings.bands), "age_years", judged),
    ):
        if not judged.any():
            continue
        seen = confusion.category(people[column].to_numpy(np.float64))
        category = np.where(known, seen, -1)
        draws = _draw(category, confusion, weights, _PRIOR_PEOPLE[dimension])
        mean = draws.mean(axis=0)
        low, high = np.quantile(draws, [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2], axis=0)
        # Of very few people the mean may lie outside; sums of shares are rounded.
        low, high = np.clip(np.minimum(low, mean), 0, 1), np.clip(np.maximum(high, mean), 0, 1)
        for index, group in enumerate(confusion.classes):
            row: dict[str, object] = {"dimension": dimension, "group": group}
            for kind, name in enumerate(("people", "time")):
                values = mean[kind, index], low[kind, index], high[kind, index]
                row |= dict(zip((f"{name}_share", f"{name}_low", f"{name}_high"), values, strict=True))
            rows.append(row)
    return pd.DataFrame(rows, columns=list(SHARE_COLUMNS))


SHARE_COLUMNS = (
    *("dimension", "group", "people_share", "people_low", "people_high"),
    *("time_share", "time_low", "time_high"),
)


def in_words(shares: pd.DataFrame, people: pd.DataFrame) -> str:
    """What the table says of women, in a sentence; empty where fewer than `FEW_PEOPLE` were judged.

    Args:
        shares: Rows of the shares table.
        people: Rows of the people table.
    """
    of_women = shares[shares["group"] == "female"]
    if (people["judged_samples"] > 0).sum() < FEW_PEOPLE:
        return ""
    row = of_women.iloc[0]
    return (
        f"About {row['people_share']:.0%} of the people look like women ({row['people_low']:.0%} to "
        f"{row['people_high']:.0%}), and {row['time_share']:.0%} of the time on screen is theirs "
        f"({row['time_low']:.0%} to {row['time_high']:.0%}): knowing how often the networks are wrong, the "
        "true share lies in such a range in about 95 of 100 cases."
    )


def _draw(category: NDArray[np.int64], confusion: Confusion, weights: Real, prior_people: float) -> Real:
    """Draws of the shares.

    Args:
        category: (N,) what each person was seen as; -1 for those who could not be judged.
        confusion: What people of each of C classes are seen as.
        weights: (W, N) by which people are summed up.
        prior_people: As how many people, composed as the labelled ones, the prior weighs. A few people say
            little about who there is: without one, neighbouring ages could not be told apart.

    Returns:
        (draws, W, C).
    """
    random = np.random.default_rng(_SEED)
    classes = len(confusion.classes)
    seen = np.bincount(category[category >= 0], minlength=confusion.counts.shape[1])
    prior = prior_people * confusion.counts.sum(axis=1) / confusion.counts.sum()
    shares = prior / prior.sum()
    draws = np.empty((_DRAWS, len(weights), classes))
    for number in range(-_BURN_IN, _DRAWS):
        # How often each class is seen as each category; half a face more everywhere: never is not proven.
        gammas = random.standard_gamma(confusion.counts + 0.5)
        seen_as = gammas / gammas.sum(axis=1, keepdims=True)
        of_class = shares[:, None] * seen_as
        of_class /= of_class.sum(axis=0)
        counts = random.multinomial(seen, of_class.T).sum(axis=0)
        gammas = random.standard_gamma(counts + prior)
        shares = gammas / gammas.sum()
        if number < 0:
            continue
        # Who could not be judged is as the others are.
        chances = np.concatenate([of_class, shares[:, None]], axis=1)[:, category]
        chosen = (np.cumsum(chances, axis=0) < random.random(len(category)) * (1 - 1e-12)).sum(axis=0)
        members = np.zeros((len(category), classes))
        members[np.arange(len(category)), chosen] = 1
        drawn = weights * random.gamma(_WEIGHT_SHAPE, 1 / _WEIGHT_SHAPE, weights.shape)
        draws[number] = (drawn @ members) / drawn.sum(axis=1, keepdims=True)
    return draws
