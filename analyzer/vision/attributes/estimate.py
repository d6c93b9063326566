"""Perceived gender and age of faces, by one or two networks of any of three kinds.

The default ones are dlib's, of Cydral Technology: each face is cut out upright, with the eyes, nose and
mouth at fixed places, by the detector's own five landmarks. The classic ones of Levi and Hassner, and
networks of the user's own, are told by their descriptions (`analyzer.vision.user_model`) what to cut out and
what their answers mean.
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
    """Gender and age of faces, from one network or from two.

    Args:
        gender: Speaks of gender.
        age: Speaks of age; may be the same.
        calibration: How what they say is read.
    """

    def __init__(self, gender: AttributeEstimator, age: AttributeEstimator, calibration: Calibration) -> None:
        self.networks = (age,) if age is gender else (age, gender)
        self.calibration = calibration
        # What both want is cut out once.
        self._cuts = list(dict.fromkeys(one.cut for one in self.networks))

    @classmethod
    def load(cls, settings: Settings) -> Self:
        """Load the networks that `settings` names.

        Raises:
            ModelError: One is missing, damaged, unknown, or does not speak of what it is to judge.
        """
        choice = choose(settings)
        gender = _load(choice.gender, settings)
        age = gender if choice.age == choice.gender else _load(choice.age, settings)
        return cls(gender, age, Calibration.load() if choice.calibrated else Calibration.plain())

    def crops(self, picture: CropSource, faces: Faces) -> list[AlignedCrop]:
        """What is judged of each face: one piece for each way of cutting, (H, W, 3) uint8 BGR each.

        Args:
            picture: The full frame.
            faces: To be cut out, with landmarks.
        """
        return list(zip(*(one.cut(picture, faces) for one in self._cuts), strict=True))

    def estimate(self, crops: Sequence[AlignedCrop]) -> tuple[Float, Float, Float]:
        """Probability of female (calibrated), age in years, standard deviation of the age in years.

        Args:
            chips: N of `chips`.

        Returns:
            Three (N,) float32; the deviation is NaN where the network gives an age alone.

        Raises:
            ModelError: A network failed.
        """
        raw, age, spread = self.estimate_crops(crops)
        female = self.calibration.female_prob(raw.astype(np.float64), age.astype(np.float64))
        return female.astype(np.float32), age, spread

    def estimate_crops(self, crops: Sequence[AlignedCrop]) -> tuple[Float, Float, Float]:
        """As `judge`, but what the networks say themselves, not calibrated."""
        if not crops:
            return np.empty(0, np.float32), np.empty(0, np.float32), np.empty(0, np.float32)
        answers = [
            network.estimate([crop[self._cuts.index(network.cut)] for crop in crops])
            for network in self.networks
        ]
        age, gender = answers[0], answers[-1]
        assert gender.female is not None and age.age_years is not None and age.std_years is not None
        return gender.female, age.age_years, age.std_years


def _load(one: Model | Description, settings: Settings) -> AttributeEstimator:
    if isinstance(one, Model):
        return DlibModel(one, settings)
    return CaffeModel(one) if one.path is None else UserModel(one, settings)
