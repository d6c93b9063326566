"""Gender and age from two models that read different things: a head, and a network that reads the picture.

A head reads what networks compute that were trained for other tasks; a MobileNetV1 (Howard et al. 2017) that
this project trained for gender and age reads the pixels. The errors of both are partly independent, so the
mean of their logits is right more often than either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from analyzer.settings import Settings
from analyzer.vision import registry
from analyzer.vision.attributes.base import Prediction, run_model
from analyzer.vision.attributes.heads import HeadModel, read_logits
from analyzer.vision.dlib_resnet import DESCRIPTOR_SIZE
from analyzer.vision.preprocessing import Pixels
from analyzer.vision.registry import HEADS, Model
from analyzer.vision.runtime import BATCHES, load_model

__all__ = ["NETWORK_PIXELS", "NETWORK_PX", "Ensemble", "shrunk"]

Image = NDArray[np.uint8]

NETWORK_PX = 112
"""Side of what the network reads: the head's crop, shrunk."""

NETWORK_PIXELS = Pixels(rgb=False, means=(103.939, 116.779, 123.68), scale=(1.0, 1.0, 1.0))
"""The pixels that the network expects: those of the weights that its training began with."""


def shrunk(crop: Image) -> Image:
    """(`NETWORK_PX`, `NETWORK_PX`, 3) uint8 BGR: what the network reads of the head's crop."""
    return cv2.resize(crop, (NETWORK_PX, NETWORK_PX), interpolation=cv2.INTER_AREA).astype(
        np.uint8, copy=False
    )


class Ensemble:
    """A head and a network: the mean of their logits of ages and of their log odds of female.

    Raises:
        ModelError: One of the files is missing or damaged.
    """

    def __init__(self, model: Model, settings: Settings) -> None:
        self.model = model
        self.heads = HeadModel(HEADS, settings)
        self.crop = self.heads.crop
        self._network = load_model(
            registry.weights(model),
            settings,
            name=model.name,
            pixels=NETWORK_PIXELS,
            batch=BATCHES[settings.device][model.role],
        )
        self.provenance: dict[str, Any] = {**model.provenance(), "engine": self._network.engine}
        self.parts: tuple[dict[str, Any], ...] = (self.heads.provenance, *self.heads.parts)
        """The entries in ``run.json`` of what it reads."""

    def logits(self, crops: Sequence[Image]) -> NDArray[np.float32]:
        """(N, 102) float32: the network's logits of ages, 0 to 100 years, and its log odds of female.

        Raises:
            ModelError: The network failed.
        """
        genders, ages = run_model(self.model, self._network, [shrunk(crop) for crop in crops])
        return np.concatenate([ages, genders], axis=1)

    def estimate(self, crops: Sequence[Image]) -> Prediction:
        """`AttributeEstimator.estimate`, with embeddings."""
        features = self.heads.backbones.features(crops)
        mean = (self.heads.head.logits(features) + self.logits(crops)) / 2
        return replace(read_logits(mean), embeddings=features[:, :DESCRIPTOR_SIZE])
