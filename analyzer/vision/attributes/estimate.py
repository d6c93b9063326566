"""Perceived gender and age of faces, from one or two models of three kinds.

The default ones are dlib's, by Cydral Technology: each face is cropped upright by the detector's five
landmarks, with the eyes, nose and mouth at fixed places. For the classic ones of Levi and Hassner and for
users' own models, a description (`analyzer.vision.user_model`) says how to crop faces and what the outputs
mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from analyzer.faces import AlignedCrop, CropSource, Faces
from analyzer.settings import Settings
from analyzer.vision.attributes.base import AttributeEstimator
from analyzer.vision.attributes.caffe import CaffeModel
from analyzer.vision.attributes.dlib import DlibModel
from analyzer.vision.attributes.user import UserModel
from analyzer.vision.calibration import Calibration
from analyzer.vision.registry import Model
from analyzer.vision.selection import choose
from analyzer.vision.user_model import Description

__all__ = [
    "Attributes",
]

Float = NDArray[np.float32]


class Attributes:
    """Estimate gender and age of faces with one model or with two.

    Args:
        gender: Estimates gender.
        age: Estimates age; may be the same.
        calibration: How their answers are read.
    """

    def __init__(self, gender: AttributeEstimator, age: AttributeEstimator, calibration: Calibration) -> None:
        self.models = (age,) if age is gender else (age, gender)
        self.calibration = calibration
        # Models that share a crop get it from one.
        self._crops = list(dict.fromkeys(one.crop for one in self.models))

    @classmethod
    def load(cls, settings: Settings) -> Self:
        """Load the models that `settings` names.

        Raises:
            ModelError: One is missing, damaged, unknown, or does not estimate what it is chosen for.
        """
        choice = choose(settings)
        gender = _load(choice.gender, settings)
        age = gender if choice.age == choice.gender else _load(choice.age, settings)
        return cls(gender, age, choice.calibration())

    def crops(self, frame: CropSource, faces: Faces) -> list[AlignedCrop]:
        """The crops of each face: one for each way of cropping, (H, W, 3) uint8 BGR each.

        Args:
            frame: The full frame.
            faces: With boxes and landmarks in its pixels.
        """
        return list(zip(*(one.crop(frame, faces) for one in self._crops), strict=True))

    def estimate(self, crops: Sequence[AlignedCrop]) -> tuple[Float, Float, Float]:
        """Probability of female (calibrated), age in years, standard deviation of the age in years.

        Args:
            crops: N of `crops`.

        Returns:
            Three (N,) float32; the deviation is NaN where the model gives an age alone.

        Raises:
            ModelError: A model failed.
        """
        raw, age, spread = self.estimate_crops(crops)
        female = self.calibration.female_prob(raw.astype(np.float64), age.astype(np.float64))
        return female.astype(np.float32), age, spread

    def estimate_crops(self, crops: Sequence[AlignedCrop]) -> tuple[Float, Float, Float]:
        """As `estimate`, without the calibration."""
        if not crops:
            return np.empty(0, np.float32), np.empty(0, np.float32), np.empty(0, np.float32)
        answers = [
            model.estimate([crop[self._crops.index(model.crop)] for crop in crops]) for model in self.models
        ]
        age, gender = answers[0], answers[-1]
        assert gender.female is not None and age.age_years is not None and age.std_years is not None
        return gender.female, age.age_years, age.std_years


def _load(one: Model | Description, settings: Settings) -> AttributeEstimator:
    if isinstance(one, Model):
        return DlibModel(one, settings)
    return CaffeModel(one) if one.path is None else UserModel(one, settings)
