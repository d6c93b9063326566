"""What is read from the crops of faces: embeddings, perceived gender and age.

A head (`analyzer.vision.attributes.heads`), and an ensemble with one, give all three from one crop. Other
models for gender and age get the crops that they were trained on, and a separate model computes the
embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from analyzer.faces import AlignedCrop, CropSource, FaceEstimates, Faces
from analyzer.settings import Settings
from analyzer.vision.attributes.base import AttributeEstimator
from analyzer.vision.attributes.caffe import CaffeModel
from analyzer.vision.attributes.dlib import DlibModel
from analyzer.vision.attributes.ensemble import Ensemble
from analyzer.vision.attributes.heads import HeadModel
from analyzer.vision.attributes.user import UserModel
from analyzer.vision.calibration import Calibration
from analyzer.vision.crops import EMBEDDING_CROP, Crop
from analyzer.vision.embedding import DlibEmbedding
from analyzer.vision.registry import HEADS, Model
from analyzer.vision.selection import choose
from analyzer.vision.user_model import Description

__all__ = ["CropReader"]

Float = NDArray[np.float32]
Image = NDArray[np.uint8]


class CropReader:
    """Computes embeddings and estimates gender and age, by one model or several.

    Args:
        gender: Estimates gender.
        age: Estimates age; may be the same.
        calibration: How their answers are read.
        embedding: Computes embeddings, where `age` and `gender` compute none; None: they stay empty.
    """

    def __init__(
        self,
        gender: AttributeEstimator,
        age: AttributeEstimator,
        calibration: Calibration,
        embedding: DlibEmbedding | None = None,
    ) -> None:
        self.models = (age,) if age is gender else (age, gender)
        self.calibration = calibration
        self._embedding = embedding
        computed = any(isinstance(one, HeadModel | Ensemble) for one in self.models)
        self.size = DlibEmbedding.size if computed or embedding is not None else 0
        wanted: list[Crop] = [one.crop for one in self.models]
        if embedding is not None:
            wanted.append(EMBEDDING_CROP)
        # Models that share a crop get it from one.
        self._wanted = list(dict.fromkeys(wanted))

    @classmethod
    def load(cls, settings: Settings, *, embeddings: bool = True) -> Self:
        """Load the models that `settings` names.

        Args:
            settings: Name the models.
            embeddings: Whether embeddings are needed.

        Raises:
            ModelError: One is missing, damaged, unknown, or does not estimate what it is chosen for.
        """
        choice = choose(settings)
        # Reading and compiling wait for the disk and for one core each.
        with ThreadPoolExecutor() as pool:
            gender = pool.submit(_load, choice.gender, settings)
            age = gender if choice.age == choice.gender else pool.submit(_load, choice.age, settings)
            own = embeddings and not choice.computes_embeddings
            embedding = pool.submit(DlibEmbedding, settings) if own else None
            calibration = choice.calibration()
            return cls(
                gender.result(),
                age.result(),
                calibration,
                None if embedding is None else embedding.result(),
            )

    @property
    def provenance(self) -> tuple[dict[str, Any], ...]:
        """The entries of the models in ``run.json``, each once."""
        entries = []
        for model in self.models:
            entries.append(model.provenance)
            if isinstance(model, HeadModel | Ensemble):
                entries += model.parts
        if self._embedding is not None:
            entries.append(self._embedding.provenance)
        return tuple({entry["name"]: entry for entry in entries}.values())

    def crops(self, frame: CropSource, faces: Faces) -> list[AlignedCrop]:
        """The crops of each face: one for each way of cropping, (H, W, 3) uint8 BGR each.

        Args:
            frame: The full frame.
            faces: With boxes and landmarks in its pixels.
        """
        return list(zip(*(one.crop(frame, faces) for one in self._wanted), strict=True))

    def read(self, crops: Sequence[AlignedCrop]) -> FaceEstimates:
        """Embeddings, probability of female (calibrated), age and its standard deviation.

        Args:
            crops: N of `crops`.

        Raises:
            ModelError: A model failed.
        """
        raw = self.read_uncalibrated(crops)
        female = self.calibration.female_prob(
            raw.female_prob.astype(np.float64), raw.age_years.astype(np.float64)
        )
        return FaceEstimates(raw.embeddings, female.astype(np.float32), raw.age_years, raw.age_std_years)

    def read_uncalibrated(self, crops: Sequence[AlignedCrop]) -> FaceEstimates:
        """As `read`, with the gender model's own probability."""
        if not crops:
            nothing = np.empty(0, np.float32)
            return FaceEstimates(np.empty((0, self.size), np.float32), nothing, nothing, nothing)
        of = dict(zip(self._wanted, zip(*crops, strict=True), strict=True))
        predictions = [model.estimate(of[model.crop]) for model in self.models]
        age, gender = predictions[0], predictions[-1]
        assert gender.female is not None and age.age_years is not None and age.std_years is not None
        vectors = next((one.embeddings for one in predictions if one.embeddings is not None), None)
        if self._embedding is not None:
            vectors = self._embedding.embed(of[EMBEDDING_CROP])
        if vectors is None:
            vectors = np.empty((len(crops), 0), np.float32)
        return FaceEstimates(vectors, gender.female, age.age_years, age.std_years)


def _load(one: Model | Description, settings: Settings) -> AttributeEstimator:
    if isinstance(one, Description):
        return CaffeModel(one) if one.path is None else UserModel(one, settings)
    if one.reads:
        return Ensemble(one, settings) if HEADS.name in one.reads else HeadModel(one, settings)
    return DlibModel(one, settings)
