"""No detector: the whole image is one face."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analyzer.faces import Faces
from analyzer.vision import registry
from analyzer.vision.detectors.base import AVERAGE_LANDMARKS, Detector

__all__ = [
    "WholeImage",
]

Image = NDArray[np.uint8]


class WholeImage(Detector):
    """No detector: the image is a face that is cropped already."""

    model = registry.NONE
    auto_px = 320
    auto_score = 0.5
    points_in_box = AVERAGE_LANDMARKS["none"]
    engine = "none"

    def _find(self, images: Sequence[Image]) -> list[Faces]:
        return [Faces.build(boxes=[[0, 0, image.shape[1], image.shape[0]]], scores=[1.0]) for image in images]
