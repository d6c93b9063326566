"""What was measured of sets of models, and how it corrects their answers about gender and age.

A calibration is fitted on labeled faces by ``evaluate --calibrate`` (`analyzer.evaluation.calibrate`), and
holds for one set of models. Its file is ``<key>.json``; the key is a hash over the members of the set
(`key_of`), which the file lists. Those that come with this program are in ``calibrations`` beside this
module; users' own are beside their models. A set without a file is read as its models answer
(`Calibration.plain`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ModelError
from analyzer.settings import AgeBand, assign_band
from analyzer.vision import registry

__all__ = [
    "ANY_PRECISION",
    "DEFAULT_KEY",
    "NORMAL_80",
    "Calibration",
    "Confusion",
    "Estimates",
    "Readings",
    "calibration_file",
    "gender_terms",
    "interval_terms",
    "key_of",
    "logit",
    "own_file",
]

Real = NDArray[np.float64]

Member = Mapping[str, str] | str

ANY_PRECISION = "any"
"""In place of a precision: the calibration holds for all of them."""

DEFAULT_KEY = "51d6f2ece909dd60"
"""Of the default models, in any precision."""

_OWN_FOLDER = Path(__file__).with_name("calibrations")
_LEAST_PROB = 1e-4
_CHILD_YEARS = 12.0
# Between these widths, in pixels, larger faces show more of an age.
_SMALL_PX, _LARGE_PX = 12.0, 80.0
NORMAL_80 = 1.2816
"""The middle 80 % of a normal distribution reach this many standard deviations to each side."""


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


def interval_terms(estimates: Estimates) -> Real:
    """(3, N): what makes the interval of an age wider: spread, smallness, and lack of quality.

    That a person's faces are estimated differently was measured to add nothing.
    """
    small = np.log(_LARGE_PX / np.clip(estimates.face_px, _SMALL_PX, _LARGE_PX))
    return np.stack([estimates.std_years, small, 1 - estimates.quality])


def key_of(members: Mapping[str, Member]) -> str:
    """The key of a set of models: 16 hex digits over the hashes of its members; names do not count.

    >>> one, two = ({"age": {"name": name, "sha256": "ab"}, "precision": "any"} for name in "xy")
    >>> key_of(one) == key_of(two), key_of(one) == key_of(one | {"precision": "f32"}), len(key_of(one))
    (True, False, 16)
    """
    hashes = {role: one if isinstance(one, str) else one["sha256"] for role, one in members.items()}
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()[:16]


def own_file(key: str) -> Path | None:
    """The file of a calibration that comes with this program."""
    path = _OWN_FOLDER / f"{key}.json"
    return path if path.is_file() else None


def calibration_file(key: str, folders: Iterable[Path] = ()) -> Path | None:
    """The file of a calibration: this package's own, else the first in `folders` and `registry.folders`."""
    places = (folder / f"{key}.json" for folder in (_OWN_FOLDER, *folders, *registry.folders()))
    return next((path for path in places if path.is_file()), None)


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
    """The fused estimates of N people, from all their sightings."""

    log_odds: Real
    """(N,) mean log odds of female, calibrated; NaN where no face was estimated."""
    age_years: Real
    """(N,) mean of the age model's expectation."""
    std_years: Real
    """(N,) mean standard deviation of its distribution; NaN where the model gives an age alone."""
    face_px: Real
    """(N,) mean width of the faces, in pixels."""
    quality: Real
    """(N,) mean quality of the faces."""


@dataclass(frozen=True, eq=False)
class Readings:
    """What is said about N people; NaN where nothing was estimated."""

    female_prob: Real
    """(N,) probability of the perceived gender female."""
    age_years: Real
    """(N,) perceived age."""
    low_years: Real
    """(N,) lower end of the 80 % interval of age."""
    high_years: Real
    """(N,) upper end."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """How to read the answers of one set of models.

    Attributes have the names that they have in the file, where each is explained.
    """

    fitted_on: str
    license: str
    commercial_use: bool | None
    gender: Sequence[float]
    age_knots_years: Sequence[float]
    age_years: Sequence[float]
    interval_knots_years: Sequence[float]
    interval_low_years: Sequence[float]
    interval_high_years: Sequence[float]
    interval_low_spread: Sequence[float]
    interval_high_spread: Sequence[float]
    interval_small_years: Sequence[float]
    interval_unclear_years: Sequence[float]
    child_years: float
    seen_gender_edges: Sequence[float]
    seen_gender: dict[str, list[int]]
    seen_age_edges_years: Sequence[float]
    seen_age: dict[str, list[int]]
    key: str = ""
    """Of the set of models that was measured (`key_of`); empty: nothing was measured (`plain`)."""

    @property
    def allowed(self) -> bool:
        """Whether its faces clearly allow commercial use."""
        return self.commercial_use is True

    @property
    def measured(self) -> bool:
        """Whether it was fitted on labeled faces; else the models' answers are not corrected (`plain`)."""
        return bool(self.key)

    @classmethod
    @cache
    def plain(cls) -> Self:
        """Read the answers of models that were not measured: as they are.

        The interval of an age is the middle 80 % of a normal distribution with the model's own spread, and
        need not hold the true age of 80 % of people; without a spread there is no interval. How often the
        models err is not known, so no shares can be corrected for it.
        """
        ends_years = (0.0, 120.0)
        as_it_is = (1.0, *[0.0] * 5)
        return cls(
            fitted_on="",
            license="",
            commercial_use=None,
            gender=as_it_is,
            age_knots_years=ends_years,
            age_years=ends_years,
            interval_knots_years=ends_years,
            interval_low_years=(0.0, 0.0),
            interval_high_years=(0.0, 0.0),
            interval_low_spread=(NORMAL_80, NORMAL_80),
            interval_high_spread=(NORMAL_80, NORMAL_80),
            interval_small_years=(0.0, 0.0),
            interval_unclear_years=(0.0, 0.0),
            # No model can tell children's gender from their faces.
            child_years=_CHILD_YEARS,
            seen_gender_edges=(),
            seen_gender={},
            seen_age_edges_years=(),
            seen_age={},
        )

    @classmethod
    def load(cls, key: str = DEFAULT_KEY, folders: Iterable[Path] = ()) -> Self:
        """The calibration of a set of models.

        Args:
            key: Of the set, from `key_of`.
            folders: Searched after this package's own and before `registry.folders`.

        Raises:
            ModelError: There is none, or its file is damaged or is not that of this set.
        """
        path = calibration_file(key, folders)
        if path is None:
            raise ModelError(f"there is no calibration {key}: fit it with evaluate --calibrate")
        try:
            found = cls._parsed(path.read_bytes())
        except OSError as error:
            raise ModelError(f"the calibration {path} cannot be read: {error.strerror or error}") from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ModelError(f"the calibration {path} is damaged: fit it again") from error
        if found.key != key:
            raise ModelError(
                f"the calibration {path} was fitted for other models (key {found.key}): rename or remove it"
            )
        return found

    @classmethod
    @lru_cache(maxsize=8)
    def _parsed(cls, content: bytes) -> Self:
        values: dict[str, Any] = json.loads(content)
        values.pop("explained", None)
        key = key_of(values.pop("members"))
        return cls(**values, key=key)

    @classmethod
    def of_run(cls, info: Mapping[str, Any]) -> Self:
        """The calibration that a run was analyzed with, by the key in its ``run.json``; `plain` without one.

        A calibration that is not on this machine is like none: its shares cannot be estimated here.

        Raises:
            ModelError: Its file is damaged.
        """
        key = (info.get("calibration") or {}).get("key")
        return cls.plain() if not key or calibration_file(key) is None else cls.load(key)

    def female_prob(self, raw: Real, age_years: Real) -> Real:
        """Probability of the perceived gender female.

        Logistic calibration (Platt 1999) of the model's own log odds, with a slope that changes below 20 and
        above 50 years: on children models are overconfident. Models that favor one gender also have
        an offset.

        Args:
            raw: (N,) the gender model's probability.
            age_years: (N,) the age model's expectation.

        Returns:
            (N,) in [0, 1].
        """
        log_odds = np.tensordot(np.asarray(self.gender), gender_terms(logit(raw), age_years), axes=1)
        return 1 / (1 + np.exp(-log_odds))

    def person(self, estimates: Estimates) -> Readings:
        """Gender and age of people, from all their sightings.

        The age is a rising function of the mean estimate, and its interval widens with the standard deviation
        of the model's distribution, with how small the faces are, and how unclear. How both are fitted is
        described in `analyzer.evaluation.fitting`.
        """
        age = np.clip(np.interp(estimates.age_years, self.age_knots_years, self.age_years), 0, None)
        ends = [self._reach(side, age, estimates) for side in (0, 1)]
        low, high = np.clip(age - ends[0], 0, None), age + ends[1]
        return Readings(1 / (1 + np.exp(-estimates.log_odds)), age, low, high)

    def _reach(self, side: int, age: Real, estimates: Estimates) -> Real:
        """(N,) years from the age to the lower (0) or upper end (1) of its interval."""
        at_knots = (self.interval_low_years, self.interval_high_years)[side]
        spread = (self.interval_low_spread, self.interval_high_spread)[side]
        reach = np.interp(age, self.interval_knots_years, at_knots)
        shares: tuple[Real | float, ...] = (
            np.interp(age, self.interval_knots_years, spread),
            self.interval_small_years[side],
            self.interval_unclear_years[side],
        )
        for share, values in zip(shares, interval_terms(estimates), strict=True):
            if np.any(share):  # what does not count may be unknown
                reach = reach + share * values
        return np.where(reach < 0, 0, reach)  # an interval holds its estimate

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
