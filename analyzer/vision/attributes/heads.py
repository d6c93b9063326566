"""Gender and age from the inner layers of three networks, read by a small one that this project trained.

dlib's networks for embeddings, age and gender describe a face better than their last layers say. A head of
fully connected layers reads what all three compute before, from one crop. `analyzer.training` trains it
(docs/training.md).
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ModelError
from analyzer.settings import Settings
from analyzer.vision import registry
from analyzer.vision.attributes.base import Prediction, run_model
from analyzer.vision.attributes.dlib import GENDER_CROP_PX
from analyzer.vision.crops import AGE_CROP_PX, EMBEDDING_CROP
from analyzer.vision.dlib_resnet import DESCRIPTOR_SIZE
from analyzer.vision.embedding import DlibEmbedding
from analyzer.vision.preprocessing import DLIB_PIXELS
from analyzer.vision.quantize import Ranges
from analyzer.vision.registry import AGE, GENDER, Model
from analyzer.vision.runtime import BATCHES, load_model

__all__ = [
    "AGES_YEARS",
    "FEATURES",
    "INNER",
    "MARGIN_PX",
    "Backbones",
    "Head",
    "HeadModel",
    "middle",
    "read_logits",
    "with_outputs",
]

Float = NDArray[np.float32]
Real = NDArray[np.float64]
Image = NDArray[np.uint8]

AGES_YEARS = np.arange(101, dtype=np.float32)
"""The ages of a head's classes."""

INNER = "layer_1_flatten"
"""What the last layer of dlib's networks for age and gender reads."""

FEATURES = DESCRIPTOR_SIZE + 256 + 81 + 256 + 2 + 16
"""How many numbers a head reads: embedding and mean of its last map, the age network's probabilities and what
they are computed from, and the gender network's."""

MARGIN_PX = 5
"""Of the crop of the embedding, the middle without this margin shows what the other two were trained on."""


@dataclass(frozen=True, eq=False)
class Head:
    """Fully connected layers with ReLU between them.

    In float64: its rounding, which depends on how many faces are read together, is lost in float32.
    """

    mean: Real
    """(F,) of the features."""
    factor: Real
    """(F,) by which the features, less `mean`, are multiplied."""
    layers: tuple[tuple[Real, Real], ...]
    """Weights (I, O) and biases (O,) of each layer; the last one gives the logits of `AGES_YEARS` and the log
    odds of female."""

    @classmethod
    def parsed(cls, content: bytes) -> Self:
        """The head in an NPZ file: arrays mean, factor, w0, b0, w1, b1, ....

        Raises:
            ValueError: The content is not one.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                arrays = {name: file[name].astype(np.float64) for name in file.files}
        except (OSError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError("not an NPZ file") from error
        count = sum(name.startswith("w") for name in arrays)
        try:
            layers = tuple((arrays[f"w{number}"], arrays[f"b{number}"]) for number in range(count))
            head = cls(arrays["mean"], arrays["factor"], layers)
        except KeyError as error:
            raise ValueError(f"no array {error}") from error
        sizes = [FEATURES, *(len(biases) for _, biases in layers)]
        fits = head.mean.shape == head.factor.shape == (FEATURES,) and all(
            weights.shape == (before, after)
            for (weights, _), before, after in zip(layers, sizes, sizes[1:], strict=False)
        )
        finite = all(np.isfinite(array).all() for array in arrays.values())
        if not (layers and fits and finite and sizes[-1] == len(AGES_YEARS) + 1):
            raise ValueError("not the weights of a head")
        return head

    def __call__(self, features: Float) -> Prediction:
        """Read (N, F) features."""
        return read_logits(self.logits(features))

    def logits(self, features: Float) -> Real:
        """(N, 102): the logits of `AGES_YEARS` and the log odds of female, from (N, F) features."""
        values = (features - self.mean) * self.factor
        for weights, biases in self.layers[:-1]:
            values = np.maximum(_product(values, weights) + biases, 0)
        weights, biases = self.layers[-1]
        return _product(values, weights) + biases


def read_logits(outputs: Real) -> Prediction:
    """What (N, 102) logits of `AGES_YEARS` and log odds of female say."""
    logits, log_odds = outputs[:, :-1], outputs[:, -1]
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    mean = shares @ AGES_YEARS
    variance = shares @ AGES_YEARS**2 - mean**2
    female = 1 / (1 + np.exp(-np.clip(log_odds, -30, 30)))
    spread = np.sqrt(np.maximum(variance, 0))
    return Prediction(*(one.astype(np.float32) for one in (female, mean, spread)))


def _product(values: Real, weights: Real) -> Real:
    """Return `values` @ `weights`, without BLAS.

    NumPy's BLAS spreads it over threads that busy-wait for more, which takes seven times the processor time.
    """
    return np.einsum("ij,jk->ik", values, weights)


def with_outputs(content: bytes, names: Sequence[str]) -> bytes:
    """An ONNX model that also returns these inner values, (N, C) each, after its own outputs.

    Raises:
        ValueError: It computes no such value.
    """
    import onnx  # late: a compiled model in the cache needs none

    model = onnx.load_model_from_string(content)
    known = {name for node in model.graph.node for name in node.output}
    for name in names:
        if name not in known:
            raise ValueError(f"the model has no value {name}")
        shape = ["N", None]
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
    serialized: bytes = model.SerializeToString()
    return serialized


def _with_inner(content: bytes) -> bytes:
    return with_outputs(content, [INNER])


class Backbones:
    """The networks that a head reads.

    Raises:
        ModelError: One of the files is missing or damaged.
    """

    def __init__(self, settings: Settings) -> None:
        self._embedding = DlibEmbedding(settings)
        self._inner = [
            load_model(
                registry.weights(one),
                settings,
                name=one.name,
                pixels=DLIB_PIXELS,
                batch=BATCHES[settings.device][one.role],
                convert=_with_inner,
                ranges=Ranges.of(one),
                rather_bf16=True,
            )
            for one in (AGE, GENDER)
        ]
        self.provenance = (
            self._embedding.provenance,
            *(
                {**one.provenance(), "engine": compiled.engine}
                for one, compiled in zip((AGE, GENDER), self._inner, strict=True)
            ),
        )
        """The entries in ``run.json`` of the networks."""

    def features(self, crops: Sequence[Image]) -> Float:
        """(N, F) what the three networks compute from N >= 1 crops, (150, 150, 3) uint8 BGR.

        Raises:
            ModelError: One of them failed.
        """
        age, gender = self._inner
        outputs = [
            *self._embedding.read(crops),
            *run_model(AGE, age, [middle(crop, AGE_CROP_PX) for crop in crops]),
            *run_model(GENDER, gender, [middle(crop, GENDER_CROP_PX) for crop in crops]),
        ]
        return np.concatenate([one.reshape(len(crops), -1) for one in outputs], axis=1).astype(np.float32)


class HeadModel:
    """A head, and the networks that it reads; embeddings of the faces are computed on the way.

    Raises:
        ModelError: One of the files is missing or damaged.
    """

    crop = EMBEDDING_CROP

    def __init__(self, model: Model, settings: Settings) -> None:
        self.model = model
        try:
            self.head = Head.parsed(registry.weights(model))
        except ValueError as error:
            raise ModelError(
                f"the model {model.name} is damaged ({error}): install this program again"
            ) from error
        self.backbones = Backbones(settings)
        self.provenance: dict[str, Any] = {**model.provenance(), "engine": f"numpy {np.__version__} CPU f32"}
        self.parts: tuple[dict[str, Any], ...] = self.backbones.provenance
        """The entries in ``run.json`` of what it reads."""

    def estimate(self, crops: Sequence[Image]) -> Prediction:
        """`AttributeEstimator.estimate`, with embeddings."""
        features = self.backbones.features(crops)
        return replace(self.head(features), embeddings=features[:, :DESCRIPTOR_SIZE])


def middle(crop: Image, side: int) -> Image:
    """(`side`, `side`, 3) uint8 BGR: what the networks for gender and age see of (150, 150, 3) uint8."""
    inner = crop[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
    return cv2.resize(inner, (side, side), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
