"""Embeddings of faces: dlib's ResNet, which recognizes a person again after a shot boundary."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ModelError
from analyzer.settings import Settings
from analyzer.vision import registry
from analyzer.vision.attributes.dlib import DLIB_PIXELS
from analyzer.vision.crops import crop_transforms, padded_landmarks
from analyzer.vision.dlib_resnet import to_onnx
from analyzer.vision.runtime import BATCHES, lacks_memory, load_model, telling_line

__all__ = ["DlibEmbedding"]

# As dlib's own examples crop: a margin of a quarter around its template of a face.
_LANDMARKS = padded_landmarks(0.25)


class DlibEmbedding:
    """dlib's face recognition model (King 2017), converted for our runtime.

    Two faces of one person are mostly closer than 0.6 (Euclidean distance), as dlib's documentation says.

    Raises:
        ModelError: The model is missing or damaged.
    """

    model = registry.EMBEDDING
    crop_px = 150
    size = 128

    def __init__(self, settings: Settings) -> None:
        self._compiled = load_model(
            registry.weights(self.model),
            settings,
            name=self.model.name,
            pixels=DLIB_PIXELS,
            batch=BATCHES[settings.device][self.model.role],
            convert=_converted,
        )
        self.provenance = {**self.model.provenance(), "engine": self._compiled.engine}

    def transforms(self, landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, 2, 3) float32 from pixels to shares of a crop's side, from (N, 5, 2) float32 landmarks."""
        return crop_transforms(landmarks, _LANDMARKS)

    def embed(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """(N, 128) float32 for N crops (150, 150, 3) uint8 BGR.

        Raises:
            ModelError: The model failed.
        """
        if not crops:
            return np.empty((0, self.size), np.float32)
        try:
            return self._compiled.run(crops)[0]
        except RuntimeError as error:
            words = f"comparing {len(crops)} faces failed: {telling_line(error)}"
            raise ModelError(words, no_memory=lacks_memory(error)) from error


def _converted(content: bytes) -> bytes:
    try:
        return to_onnx(content)
    except ValueError as error:
        raise ModelError(f"the model {DlibEmbedding.model.name} cannot be read: {error}") from error
