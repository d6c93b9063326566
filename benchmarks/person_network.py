"""Train `analyzer.vision.calibration.PersonNetwork`, which reads a person's embedding and estimates.

One hidden layer, trained by Adam (Kingma and Ba 2015) with dropout, in NumPy: a minute for 30,000 people. The
loss of age is the cross entropy with a label that is spread over neighboring years, plus a share of the
absolute error of the expectation; that of gender is the logistic loss.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analyzer.vision.calibration import Estimates, PersonNetwork, network_inputs, standardized

Float = NDArray[np.float32]
Real = NDArray[np.float64]

WIDTH = 64
EPOCHS = 15
_BATCH = 256
_LEAST_STEPS = 1000
_RATE = 2e-3
_DECAY = 5e-3
_DROPPED, _DROPPED_INPUTS, _NO_EMBEDDING = 0.2, 0.05, 0.05
_LABEL_STD_YEARS = 2.5
_ABSOLUTE_SHARE, _ABSOLUTE_YEARS = 0.05, 2.0
_AGES = np.arange(101, dtype=np.float32)
RARE, EVEN = 0.3, 1.0
"""How much rare ages count for: somewhat more than their share; as much as all others."""
_MOST_WEIGHT = 6.0


def age_weights(age: Real, power: float = RARE) -> Real:
    """(N,) weights that make rare ages count for more; mean 1 before the largest are cut.

    Without them the errors of the old are bought by those of the many at 26: estimates shrink towards them.

    Args:
        age: (N,) true age in years.
        power: `RARE` or `EVEN`.
    """
    years = np.clip(age, 0, 100).astype(int)
    window = np.exp(-0.5 * (np.arange(-15, 16) / 4) ** 2)
    density = np.convolve(np.bincount(years, minlength=101), window / window.sum(), "same")
    density /= np.convolve(np.ones(101), window / window.sum(), "same")
    weights = (density[years] + 1) ** -power
    return np.minimum(weights / weights.mean(), _MOST_WEIGHT)


def train(estimates: Estimates, age: Real, female: NDArray[np.bool_], seed: int = 0) -> PersonNetwork:
    """Train a network on labeled people.

    Args:
        estimates: Of N people.
        age: (N,) true age in years.
        female: (N,) true gender.
        seed: Of what is random: first weights, order, dropout.
    """
    random = np.random.default_rng(seed)
    inputs = network_inputs(estimates)
    mean, deviation = np.nanmean(inputs, axis=0), np.nanstd(inputs, axis=0)
    scale = np.where(deviation < 1e-3, 1.0, deviation)
    values = standardized(inputs, mean, scale).astype(np.float32)
    label = np.exp(-0.5 * ((_AGES - np.clip(age, 0, 100)[:, None]) / _LABEL_STD_YEARS) ** 2)
    label = (label / label.sum(axis=1, keepdims=True)).astype(np.float32)
    weight = age_weights(age).astype(np.float32)[:, None]
    layers = _Layers.new(values.shape[1], random)
    batches = max(1, len(values) // _BATCH)
    steps = max(EPOCHS * batches, _LEAST_STEPS)
    order = np.arange(len(values))
    for step in range(steps):
        if step % batches == 0:
            order = random.permutation(len(values))
        start = step % batches * _BATCH
        rows = order[start : start + _BATCH]
        one = values[rows] * _kept(values[rows].shape, _DROPPED_INPUTS, random)
        one[random.random(len(rows)) < _NO_EMBEDDING, :-3] = 0
        hidden = np.maximum(one @ layers.weights[0] + layers.weights[1], 0)
        hidden *= _kept(hidden.shape, _DROPPED, random)
        outputs = hidden @ layers.weights[2] + layers.weights[3]
        error = _error(outputs, label[rows], age[rows], female[rows], weight[rows]) / np.float32(len(rows))
        back = (error @ layers.weights[2].T) * (hidden > 0) / np.float32(1 - _DROPPED)
        gradients = [one.T @ back, back.sum(axis=0), hidden.T @ error, error.sum(axis=0)]
        rate = _RATE / 2 * (1 + np.cos(np.pi * step / steps)) * min(1.0, (step + 1) / 100)
        layers.descend(gradients, np.float32(rate))
    one, one_bias, two, two_bias = (array.astype(np.float64) for array in layers.weights)
    return PersonNetwork(mean, scale, (one, one_bias), (two, two_bias))


def _error(outputs: Float, label: Float, age: Real, female: NDArray[np.bool_], weight: Float) -> Float:
    """The gradient of the loss with respect to the outputs, (N, 102)."""
    logits = outputs[:, :-1] - outputs[:, :-1].max(axis=1, keepdims=True)
    shares = np.exp(logits)
    shares /= shares.sum(axis=1, keepdims=True)
    expected = shares @ _AGES
    sign = np.clip((expected - age) / _ABSOLUTE_YEARS, -1, 1)[:, None].astype(np.float32)
    absolute = _ABSOLUTE_SHARE * sign * shares * (_AGES - expected[:, None])
    gender = 1 / (1 + np.exp(-outputs[:, -1:])) - female[:, None]
    return np.concatenate([(shares - label + absolute) * weight, gender], axis=1).astype(np.float32)


def _kept(shape: tuple[int, ...], dropped: float, random: np.random.Generator) -> Float:
    return ((random.random(shape) > dropped) / (1 - dropped)).astype(np.float32)


@dataclass(eq=False)
class _Layers:
    """Weights and biases of two layers, with the running moments of their gradients."""

    weights: list[Float]
    means: list[Float]
    squares: list[Float]
    steps: int = 0

    @classmethod
    def new(cls, inputs: int, random: np.random.Generator) -> _Layers:
        outputs = len(_AGES) + 1
        one = random.normal(0, np.sqrt(2 / inputs), (inputs, WIDTH))
        two = random.normal(0, 0.1 * np.sqrt(2 / WIDTH), (WIDTH, outputs))
        arrays = [one, np.zeros(WIDTH), two, np.zeros(outputs)]
        weights = [array.astype(np.float32) for array in arrays]
        return cls(weights, [np.zeros_like(w) for w in weights], [np.zeros_like(w) for w in weights])

    def descend(self, gradients: list[Float], rate: np.float32) -> None:
        """One step of Adam, with decoupled decay of the weights (not of the biases)."""
        self.steps += 1
        for number, gradient in enumerate(gradients):
            weight, mean, square = self.weights[number], self.means[number], self.squares[number]
            mean += np.float32(0.1) * (gradient - mean)
            square += np.float32(0.001) * (gradient**2 - square)
            corrected = mean / np.float32(1 - 0.9**self.steps)
            step = corrected / (np.sqrt(square / np.float32(1 - 0.999**self.steps)) + np.float32(1e-8))
            weight -= rate * (step + (np.float32(_DECAY) * weight if weight.ndim == 2 else 0))
