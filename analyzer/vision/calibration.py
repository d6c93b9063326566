"""What was measured of the default networks, and how their answers about age and gender are read by it.

The numbers stand in ``calibration.json`` beside this file. They were fitted by
``benchmarks/fit_calibration.py`` on labeled faces; they hold for those networks alone and are refused
for others.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ModelError
from analyzer.settings import AgeBand, assign_band
from analyzer.vision import registry

__all__ = ["Calibration", "Confusion", "Estimates", "gender_terms", "logit"]

Real = NDArray[np.float64]

_LEAST_PROB = 1e-4
_LOOKS = 128
_CHILD_YEARS = 12.0
# The middle 80 % of a normal distribution reach so many standard deviations to each side.
_NORMAL_80 = 1.2816


def logit(probability: Real) -> Real:
    """Log odds; probabilities are kept 0.0001 away from 0 and 1.

    >>> logit(np.array([0.5, 1.0])).round(2).tolist()
    [0.0, 9.21]
    """
    kept = np.clip(np.asarray(probability, np.float64), _LEAST_PROB, 1 - _LEAST_PROB)
    return np.log(kept / (1 - kept))


def gender_terms(log_odds: Real, age_years: Real) -> Real:
    """(6, N): what the calibrations of gender weigh, from log odds and an age in years, (N,) each."""
    log_odds, age = np.asarray(log_odds, np.float64), np.asarray(age_years, np.float64)
    young, old = np.clip((20 - age) / 12, 0, 1), np.clip((age - 50) / 25, 0, 1)
    return np.stack([log_odds, log_odds * young, log_odds * old, np.ones_like(log_odds), young, old])


@dataclass(frozen=True, eq=False)
class Confusion:
    """What labeled people of each class were seen as."""

    classes: tuple[str, ...]
    """Names of the C classes."""
    edges: Real
    """(K - 1,) ascending: borders between the K categories of what is seen."""
    counts: Real
    """(C, K): number of labeled people."""

    def category(self, values: Real) -> NDArray[np.int64]:
        """(N,) category of each value, 0 to K - 1; a value on a border is in the upper one."""
        return np.searchsorted(self.edges, values, side="right").astype(np.int64)


@dataclass(frozen=True, eq=False)
class Estimates:
    """What the sightings of N people say together."""

    log_odds: Real
    """(N,) mean log odds of female, calibrated face by face; NaN where nobody could be judged."""
    age_years: Real
    """(N,) mean of the age network's expectation."""
    std_years: Real
    """(N,) mean standard deviation of its distribution."""
    looks: Real
    """(N, 128) mean embedding, or NaN."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """How to read the answers of one set of networks.

    Attributes carry the names they have in the file, where each is explained.
    """

    fitted_on: str
    gender: Sequence[float]
    person_gender: Sequence[float]
    person_gender_estimates: Sequence[float]
    person_age_knots_years: Sequence[float]
    person_age_years: Sequence[float]
    person_age_estimates: Sequence[float]
    interval_knots_years: Sequence[float]
    interval_low_years: Sequence[float]
    interval_high_years: Sequence[float]
    interval_std: Sequence[float]
    child_years: float
    seen_gender_edges: Sequence[float]
    seen_gender: dict[str, list[int]]
    seen_age_edges_years: Sequence[float]
    seen_age: dict[str, list[int]]
    measured: bool = True
    """Whether it was fitted on labeled faces; else the networks are taken at their word (`plain`)."""

    @classmethod
    @cache
    def plain(cls) -> Self:
        """How networks are read of which nothing was measured: as they say.

        The interval of an age is the middle 80 % of a normal distribution with the network's own spread, and
        need not hold the true age of 80 % of people; where there is no spread, there is none. How often they
        err is not known, so no shares can be corrected for it.
        """
        ends_years = (0.0, 120.0)
        as_it_is = (1.0, *[0.0] * 5)
        return cls(
            fitted_on="",
            gender=as_it_is,
            person_gender=as_it_is,
            person_gender_estimates=[0.0] * _LOOKS,
            person_age_knots_years=ends_years,
            person_age_years=ends_years,
            person_age_estimates=[0.0] * _LOOKS,
            interval_knots_years=ends_years,
            interval_low_years=(0.0, 0.0),
            interval_high_years=(0.0, 0.0),
            interval_std=(_NORMAL_80, _NORMAL_80),
            # That children's gender cannot be told by their faces holds for all networks.
            child_years=_CHILD_YEARS,
            seen_gender_edges=(),
            seen_gender={},
            seen_age_edges_years=(),
            seen_age={},
            measured=False,
        )

    @staticmethod
    def networks() -> dict[str, str]:
        """The networks that it holds for: their names and SHA-256."""
        return {model.name: model.sha256 for model in (registry.AGE, registry.GENDER, registry.EMBEDDING)}

    @classmethod
    @cache
    def load(cls) -> Self:
        """The calibration of the default networks.

        Raises:
            ModelError: The file holds that of other networks.
        """
        text = resources.files("analyzer.vision").joinpath(registry.CALIBRATION_FILE).read_text("utf-8")
        values: dict[str, Any] = json.loads(text)
        if values.pop("networks") != cls.networks():
            raise ModelError(
                f"{registry.CALIBRATION_FILE} was fitted for other networks: fit it anew for these"
            )
        del values["explained"]
        return cls(**values)

    def female_prob(self, raw: Real, age_years: Real) -> Real:
        """Probability of the perceived gender female.

        Logistic calibration (Platt 1999) of the network's own log odds, with a slope and an offset that
        change below 20 and above 50 years: of children it is far surer than right.

        Args:
            raw: (N,) the gender network's probability.
            age_years: (N,) the age network's expectation.

        Returns:
            (N,) in [0, 1].
        """
        log_odds = np.tensordot(np.asarray(self.gender), gender_terms(logit(raw), age_years), axes=1)
        return 1 / (1 + np.exp(-log_odds))

    def person(self, estimates: Estimates) -> tuple[Real, Real]:
        """Probability of female and age in years of people, (N,) each, from all their sightings.

        The embedding by which faces are compared holds something of gender and age too, and it is a second
        opinion: where a person has one, both answers are corrected by a linear function of it (logistic
        regression, and regression of the least absolute error), else they stay as they are.
        """
        log_odds, age = estimates.log_odds.copy(), estimates.age_years.copy()
        known = np.flatnonzero(np.isfinite(estimates.looks).all(axis=1))
        if len(known):
            looks = estimates.looks[known]
            terms = gender_terms(log_odds[known], age[known])
            log_odds[known] = np.tensordot(np.asarray(self.person_gender), terms, axes=1)
            log_odds[known] += looks @ np.asarray(self.person_gender_estimates)
            age[known] = np.interp(age[known], self.person_age_knots_years, self.person_age_years)
            age[known] += looks @ np.asarray(self.person_age_estimates)
        return 1 / (1 + np.exp(-log_odds)), np.clip(age, 0, None)

    def age_interval(self, age_years: Real, std_years: Real) -> tuple[Real, Real]:
        """Lower and upper end of the 80 % interval of a person's age.

        Quantile regression (Koenker and Bassett 1978) of the true age on the estimate and on the spread of
        the network's distribution.

        Args:
            age_years: (N,) of `person`.
            std_years: (N,) of `Estimates`.
        """
        low = np.interp(age_years, self.interval_knots_years, self.interval_low_years)
        high = np.interp(age_years, self.interval_knots_years, self.interval_high_years)
        low = age_years - low - self.interval_std[0] * std_years
        high = age_years + high + self.interval_std[1] * std_years
        return np.clip(np.minimum(low, age_years), 0, None), np.maximum(high, age_years)

    def gender_confusion(self) -> Confusion:
        """What people are seen as by `female_prob`."""
        classes = tuple(self.seen_gender)
        counts = np.array([self.seen_gender[name] for name in classes], np.float64)
        return Confusion(classes, np.array(self.seen_gender_edges), counts)

    def age_confusion(self, bands: Sequence[AgeBand]) -> Confusion:
        """What people of each band are seen as by `age_years`."""
        counts = np.zeros((len(bands), len(self.seen_age_edges_years) + 1))
        names = [band.name for band in bands]
        for age, seen in self.seen_age.items():
            counts[names.index(assign_band(float(age), bands))] += seen
        return Confusion(tuple(names), np.array(self.seen_age_edges_years), counts)
