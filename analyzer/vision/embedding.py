"""Embeddings of faces: dlib's ResNet, which recognizes a person again after a shot boundary."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ModelError
from analyzer.settings import Settings
from analyzer.vision import registry
from analyzer.vision.crops import EMBEDDING_CROP
from analyzer.vision.dlib_resnet import DESCRIPTOR_SIZE, to_onnx
from analyzer.vision.preprocessing import DLIB_PIXELS
from analyzer.vision.quantize import Ranges
from analyzer.vision.runtime import BATCHES, lacks_memory, load_model, telling_line

__all__ = ["DlibEmbedding"]


class DlibEmbedding:
    """dlib's face recognition model (King 2017), converted for our runtime.

    Two faces of one person are mostly closer than 0.6 (Euclidean distance), as dlib's documentation says.

    Raises:
        ModelError: The model is missing or damaged.
    """

    model = registry.EMBEDDING
    crop = EMBEDDING_CROP
    size = DESCRIPTOR_SIZE

    def __init__(self, settings: Settings) -> None:
        self._compiled = load_model(
            registry.weights(self.model),
            settings,
            name=self.model.name,
            pixels=DLIB_PIXELS,
            batch=BATCHES[settings.device][self.model.role],
            convert=_converted,
            ranges=Ranges.of(self.model),
            rather_bf16=True,
        )
        self.provenance = {**self.model.provenance(), "engine": self._compiled.engine}

    def embed(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """(N, 128) float32 for N crops (150, 150, 3) uint8 BGR.

        Raises:
            ModelError: The model failed.
        """
        return self.read(crops)[0] if crops else np.empty((0, self.size), np.float32)

    def read(self, crops: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        """The embeddings of N >= 1 crops, (N, 128), and what they are computed from, (N, 256).

        Raises:
            ModelError: The model failed.
        """
        try:
            return self._compiled.run(crops)
        except RuntimeError as error:
            words = f"comparing {len(crops)} faces failed: {telling_line(error)}"
            raise ModelError(words, no_memory=lacks_memory(error)) from error


def _converted(content: bytes) -> bytes:
    try:
        return to_onnx(content)
    except ValueError as error:
        raise ModelError(f"the model {DlibEmbedding.model.name} cannot be read: {error}") from error
