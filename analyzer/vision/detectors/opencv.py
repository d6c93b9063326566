"""The detectors of OpenCV: SSD and Haar cascades."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ModelError
from analyzer.faces import Faces
from analyzer.settings import Settings
from analyzer.vision import registry
from analyzer.vision.detectors.base import AVERAGE_LANDMARKS, Detector, best_faces

__all__ = [
    "Haar",
    "Ssd",
]

Image = NDArray[np.uint8]


class Ssd(Detector):
    """The face detector of OpenCV's samples: an SSD (Liu et al. 2016) on a reduced ResNet-10.

    The frame is stretched to a square; there are no landmarks.
    """

    model = registry.SSD
    auto_px = 300
    auto_score = 0.7
    points_in_box = AVERAGE_LANDMARKS["ssd"]
    engine = f"{Detector.engine} f32"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        weights, structure = (registry.read(self.model, file) for file in self.model.files)
        try:
            self._compiled = cv2.dnn.readNetFromTensorflow(
                np.frombuffer(weights, np.uint8), np.frombuffer(structure, np.uint8)
            )
        except cv2.error as error:
            raise ModelError(f"OpenCV cannot load the model {self.model.name}: {error.err}") from error

    def input_size(self, width: int, height: int, reduction: float = 1.0) -> tuple[int, int]:
        side = max(1, round(self._size / reduction))
        return side, side

    def _find(self, images: Sequence[Image]) -> list[Faces]:
        found = []
        for image in images:
            self._compiled.setInput(cv2.dnn.blobFromImage(image, mean=(104, 117, 123)))
            rows = self._compiled.forward().reshape(-1, 7)  # image, class, score, x1, y1, x2, y2
            height, width = image.shape[:2]
            boxes = rows[:, 3:] * np.array([width, height] * 2, np.float32)
            found.append(best_faces(boxes, rows[:, 2], width, height, self.min_score))
        return found


class Haar(Detector):
    """The cascade of Viola and Jones (2001) that comes with OpenCV; there are no landmarks.

    Its score is computed from the number n of agreeing windows: n / (n + 5), so that the classic minimum of 5
    is 0.5.
    """

    model = registry.HAAR
    auto_score = 0.5
    points_in_box = AVERAGE_LANDMARKS["haar"]

    _MIN_PX = 24
    _STEP = 1.1
    _HALF = 5

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        text = registry.weights(self.model).decode()
        storage = cv2.FileStorage(text, cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
        self._cascade = cv2.CascadeClassifier()
        if not self._cascade.read(storage.getFirstTopLevelNode()):
            raise ModelError(f"OpenCV cannot load the cascade {self.model.name}")
        self._min_neighbors = max(1, int(np.ceil(self._HALF * self.min_score / (1 - self.min_score) - 1e-9)))

    def _find(self, images: Sequence[Image]) -> list[Faces]:
        found = []
        for image in images:
            gray = cv2.equalizeHist(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))
            found_at, counts = self._cascade.detectMultiScale2(
                gray, scaleFactor=self._STEP, minNeighbors=self._min_neighbors, minSize=(self._MIN_PX,) * 2
            )
            corners = np.asarray(found_at, np.float32).reshape(-1, 4)
            agreeing = np.asarray(counts, np.float32).reshape(-1)
            height, width = image.shape[:2]
            boxes = np.concatenate([corners[:, :2], corners[:, :2] + corners[:, 2:]], axis=1)
            found.append(best_faces(boxes, agreeing / (agreeing + self._HALF), width, height, 0.0))
        return found
