"""What was measured of sets of models, and how it corrects their answers about gender and age.

Each set of models that was measured has a file ``calibrations/<key>.json`` beside this module, written by
``benchmarks/fit_calibration.py`` from labeled faces. It holds for its set alone. The key is a hash over the
members of the set (`key_of`), which the file lists. Users can add files of their own beside their models. A
set without a file is read as its models answer (`Calibration.plain`).
"""

from __future__ import annotations

import base64
import binascii
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
    "Calibration",
    "Confusion",
    "Estimates",
    "PersonNetwork",
    "Readings",
    "calibration_file",
    "gender_terms",
    "key_of",
    "logit",
]

Real = NDArray[np.float64]

Member = Mapping[str, str] | str

ANY_PRECISION = "any"
"""In place of a precision: the calibration holds for all of them."""

DEFAULT_KEY = "3fcb32451703ae0c"
"""Of the default models, in any precision."""

_OWN_FOLDER = Path(__file__).with_name("calibrations")
_LEAST_PROB = 1e-4
_EMBEDDING_SIZE = 128
_NETWORK_INPUTS = _EMBEDDING_SIZE + 3
_NETWORK_AGES = 101
# Inputs farther from the mean, in standard deviations, are unlike all that a network was trained on.
_FARTHEST = 6.0
_CHILD_YEARS = 12.0
# The middle 80 % of a normal distribution reach this many standard deviations to each side.
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


def key_of(members: Mapping[str, Member]) -> str:
    """The key of a set of models: 16 hex digits over the hashes of its members; names do not count.

    >>> one, two = ({"age": {"name": name, "sha256": "ab"}, "precision": "any"} for name in "xy")
    >>> key_of(one) == key_of(two), key_of(one) == key_of(one | {"precision": "f32"}), len(key_of(one))
    (True, False, 16)
    """
    hashes = {role: one if isinstance(one, str) else one["sha256"] for role, one in members.items()}
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()[:16]


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
    """(N,) mean log odds of female, calibrated face by face; NaN where no face was estimated."""
    age_years: Real
    """(N,) mean of the age model's expectation."""
    std_years: Real
    """(N,) mean standard deviation of its distribution."""
    embeddings: Real
    """(N, 128) mean embedding, or NaN."""


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
    spread_years: Real
    """(N,) standard deviation of the distribution of age."""
    apart_years: Real
    """(N,) how far two readings of the age are apart."""


@dataclass(frozen=True, eq=False)
class PersonNetwork:
    """A small network that reads a person's mean embedding together with the estimates.

    Its inputs are standardized, one hidden layer follows (ReLU), and its outputs are the logits of the ages 0
    to 100 and the log odds of female. A person without an embedding is read with the average one.
    """

    mean: Real
    """(131,) of the inputs: embedding, log odds, age and standard deviation in years."""
    scale: Real
    """(131,) by which the inputs, less `mean`, are divided."""
    hidden: tuple[Real, Real]
    """Weights (131, H) and biases (H,)."""
    output: tuple[Real, Real]
    """Weights (H, 102) and biases (102,)."""

    @classmethod
    def parsed(cls, text: str) -> Self:
        """The network in a calibration's file: float16, lowest byte first, in base 64.

        Raises:
            ValueError: The text is not one.
        """
        try:
            values = np.frombuffer(base64.b64decode(text, validate=True), "<f2").astype(np.float64)
        except binascii.Error as error:
            raise ValueError("not base 64") from error
        inputs, outputs = _NETWORK_INPUTS, _NETWORK_AGES + 1
        width, rest = divmod(len(values) - 2 * inputs - outputs, inputs + outputs + 1)
        if width < 1 or rest or not np.isfinite(values).all():
            raise ValueError("not the weights of a network")
        shapes = [(inputs,), (inputs,), (inputs, width), (width,), (width, outputs), (outputs,)]
        ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
        mean, scale, one, one_bias, two, two_bias = (
            part.reshape(shape) for part, shape in zip(np.split(values, ends), shapes, strict=True)
        )
        return cls(mean, scale, (one, one_bias), (two, two_bias))

    @property
    def text(self) -> str:
        """As `parsed` takes it."""
        arrays = [self.mean, self.scale, *self.hidden, *self.output]
        content = np.concatenate([array.ravel() for array in arrays]).astype("<f2").tobytes()
        return base64.b64encode(content).decode()

    def inputs(self, estimates: Estimates) -> Real:
        """(N, 131) standardized; what is not known has its average."""
        return standardized(network_inputs(estimates), self.mean, self.scale)

    def read(self, estimates: Estimates) -> tuple[Real, Real, Real]:
        """Log odds of female, expected age, and the standard deviation of its distribution; (N,) each."""
        hidden = np.maximum(self.inputs(estimates) @ self.hidden[0] + self.hidden[1], 0)
        outputs = hidden @ self.output[0] + self.output[1]
        logits = outputs[:, :_NETWORK_AGES]
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        ages = np.arange(_NETWORK_AGES)
        mean = shares @ ages
        return outputs[:, -1], mean, np.sqrt(np.maximum(shares @ ages**2 - mean**2, 0))


def network_inputs(estimates: Estimates) -> Real:
    """(N, 131) what `PersonNetwork` reads, not standardized; NaN for what is not known."""
    embeddings = estimates.embeddings
    if embeddings.shape[1] != _EMBEDDING_SIZE:  # nobody has one
        embeddings = np.full((len(embeddings), _EMBEDDING_SIZE), np.nan)
    columns = [estimates.log_odds, estimates.age_years, estimates.std_years]
    return np.column_stack([embeddings, *columns])


def standardized(inputs: Real, mean: Real, scale: Real) -> Real:
    """Inputs of a network less their mean, in units of `scale`; 0 for what is not known."""
    return np.nan_to_num(np.clip((inputs - mean) / scale, -_FARTHEST, _FARTHEST))


@dataclass(frozen=True, eq=False)
class Calibration:
    """How to read the answers of one set of models.

    Attributes have the names that they have in the file, where each is explained.
    """

    fitted_on: str
    gender: Sequence[float]
    person_network: PersonNetwork | None
    person_age_knots_years: Sequence[float]
    person_age_years: Sequence[float]
    person_age_estimates: Sequence[float]
    interval_knots_years: Sequence[float]
    interval_low_years: Sequence[float]
    interval_high_years: Sequence[float]
    interval_spread: Sequence[float]
    interval_disagreement: Sequence[float]
    child_years: float
    seen_gender_edges: Sequence[float]
    seen_gender: dict[str, list[int]]
    seen_age_edges_years: Sequence[float]
    seen_age: dict[str, list[int]]
    key: str = ""
    """Of the set of models that was measured (`key_of`); empty: nothing was measured (`plain`)."""

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
            gender=as_it_is,
            person_network=None,
            person_age_knots_years=ends_years,
            person_age_years=ends_years,
            person_age_estimates=[0.0] * _EMBEDDING_SIZE,
            interval_knots_years=ends_years,
            interval_low_years=(0.0, 0.0),
            interval_high_years=(0.0, 0.0),
            interval_spread=(_NORMAL_80, _NORMAL_80),
            interval_disagreement=(0.0, 0.0),
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
            raise ModelError(f"there is no calibration {key}: fit it with benchmarks/fit_calibration.py")
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
        network = PersonNetwork.parsed(values.pop("person_network"))
        return cls(**values, person_network=network, key=key)

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

        Logistic calibration (Platt 1999) of the model's own log odds, with a slope and an offset that change
        below 20 and above 50 years: on children the model is overconfident.

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

        The embedding that identifies people also carries information on gender and age, and keeps more of it
        than the models for gender and age where a face is small or soft. A network reads all of it together.
        Age is the mean of the network's and of a linear reading (least absolute error regression), which
        trusts the age model more: they err differently.

        The interval is a quantile regression (Koenker and Bassett 1978) of the true age on the estimate, on
        the spread of the network's distribution, and on how far the two readings are apart.
        """
        network, age, spread = self.person_network, estimates.age_years, estimates.std_years
        log_odds, apart = estimates.log_odds, np.zeros_like(age)
        if network is not None:
            known = np.isfinite(log_odds) & np.isfinite(age)
            log_odds, read, spread = (np.where(known, one, np.nan) for one in network.read(estimates))
            linear = np.interp(age, self.person_age_knots_years, self.person_age_years)
            embeddings = network_inputs(estimates)[:, :_EMBEDDING_SIZE]
            embeddings = np.where(np.isnan(embeddings), network.mean[:_EMBEDDING_SIZE], embeddings)
            linear = linear + embeddings @ np.asarray(self.person_age_estimates)
            age, apart = (read + linear) / 2, np.abs(read - linear)
        age = np.clip(age, 0, None)
        low, high = self._interval(age, spread, apart)
        return Readings(1 / (1 + np.exp(-log_odds)), age, low, high, spread, apart)

    def _interval(self, age: Real, spread: Real, apart: Real) -> tuple[Real, Real]:
        ends = []
        for side, years in enumerate((self.interval_low_years, self.interval_high_years)):
            reach = np.interp(age, self.interval_knots_years, years)
            reach = reach + self.interval_spread[side] * spread + self.interval_disagreement[side] * apart
            ends.append(np.where(reach < 0, 0, reach))  # an interval holds its estimate
        return np.clip(age - ends[0], 0, None), age + ends[1]

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
