"""Alignment: the landmarks of a face that was found, and how clearly it shows.

Detectors differ in what they are good at. One finds faces that another misses, but scores blurred, turned and
covered faces like clear ones, and places their landmarks roughly. So one model finds the faces, and another
one aligns the few that are compared or estimated: it searches an enlarged crop of each.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ModelError
from analyzer.faces import CropSource, Faces, iou
from analyzer.settings import Settings
from analyzer.vision import registry
from analyzer.vision.crops import crop_sides
from analyzer.vision.detectors.centerface import decode_centerface
from analyzer.vision.registry import ALIGNER
from analyzer.vision.runtime import BATCHES, lacks_memory, load_model, telling_line

__all__ = ["CropAligner", "load_aligner"]

Float = NDArray[np.float32]

_CROP_PX = 128
"""Side of the crops."""

_WIDENED = 2.0
"""Side of a crop, in longer sides of the face's box: the model finds faces by the heads around them."""

_TIGHT, _UNCLEAR = 1.2, 0.5
"""A face below the second, a quality, is searched again in a crop of the first size. A picture in a picture
ends at forehead and chin, and with what is around it the model does not take it for a face: of such made
pictures 74 % reach this quality in wide crops, 97 % in one of both; of hands, hair and backs of heads no more
do than before."""

_TURNED_QUALITY, _CLEARER = 0.5, 0.1
"""A face is on its side or upside down if, when turned, it has the first quality, and the second one more."""

_BATCHES = {"cpu": (1, 2, 4)}
"""How many crops are searched together: two take 0.7 and four 0.6 of the time of as many single ones."""

_LEAST_SCORE = 0.05
_SAME_IOU = 0.2
"""What the model finds in the crop is the face itself if it overlaps the box by this much."""


class CropAligner:
    """CenterFace on an enlarged crop of each face.

    Its score there is the face's `quality`: it is high for sharp, uncovered faces turned to the camera. It
    does not run in eight bits, as in whole frames it may: in crops, they move landmarks and miss faces.

    Raises:
        ModelError: On construction, if the model is missing or damaged.
    """

    def __init__(self, settings: Settings) -> None:
        self._compiled = load_model(
            registry.weights(ALIGNER),
            settings,
            name=ALIGNER.name,
            batch=_BATCHES.get(settings.device, BATCHES[settings.device][ALIGNER.role]),
            size=(_CROP_PX, _CROP_PX),
        )

    @property
    def provenance(self) -> dict[str, object]:
        """The entry of the aligner in ``run.json``, with what runs it."""
        return {**ALIGNER.provenance(), "role": "aligner", "engine": self._compiled.engine}

    def align(self, frame: CropSource, faces: Faces, *, any_roll: bool = False) -> Faces:
        """`analyzer.faces.FaceAligner.align`.

        Raises:
            ModelError: The model failed.
        """
        if not len(faces):
            return faces
        quality, landmarks = self._search(frame, faces)
        unclear = np.flatnonzero(quality < _UNCLEAR)
        if len(unclear):
            tight_quality, tight_landmarks = self._search(frame, faces[unclear], widened=_TIGHT)
            better = tight_quality > quality[unclear]
            quality[unclear[better]] = tight_quality[better]
            landmarks[unclear[better]] = tight_landmarks[better]
        for quarters in (1, 2, 3) if any_roll else ():
            turned_quality, turned_landmarks = self._search(frame, faces, quarters=quarters)
            better = turned_quality >= np.maximum(quality + _CLEARER, _TURNED_QUALITY)
            quality[better], landmarks[better] = turned_quality[better], turned_landmarks[better]
        return faces.replace(quality=quality, landmarks=landmarks)

    def _search(
        self, frame: CropSource, faces: Faces, *, quarters: int = 0, widened: float = _WIDENED
    ) -> tuple[Float, Float]:
        """Search crops of N faces, widened so far and turned by some quarters of a circle.

        Returns:
            (N,) quality, and (N, 5, 2) landmarks in pixels of the frame.
        """
        transforms = _transforms(faces.boxes, quarters, widened)
        crops = frame.crop(transforms, crop_sides(transforms, _CROP_PX), _CROP_PX)
        try:
            outputs = self._compiled.run(crops)
        except RuntimeError as error:
            words = f"aligning {len(crops)} faces failed: {telling_line(error)}"
            raise ModelError(words, no_memory=lacks_memory(error)) from error
        quality, landmarks = np.zeros(len(faces), np.float32), faces.landmarks.copy()
        for row, (box, transform) in enumerate(zip(faces.boxes, transforms, strict=True)):
            linear, shift = transform[:, :2] * _CROP_PX, transform[:, 2] * _CROP_PX
            corners = box.reshape(2, 2) @ linear.T + shift
            own = np.concatenate([corners.min(axis=0), corners.max(axis=0)])
            found = decode_centerface([one[row] for one in outputs], _CROP_PX, _CROP_PX, _LEAST_SCORE)
            same = np.flatnonzero(iou(own[None], found.boxes)[0] >= _SAME_IOU)
            if len(same):  # best first
                quality[row] = found.scores[same[0]]
                landmarks[row] = (found.landmarks[same[0]] - shift) @ np.linalg.inv(linear).T
        return quality, landmarks


def load_aligner(settings: Settings) -> CropAligner | None:
    """Load the aligner; None where every frame is one face that has already been cropped.

    Raises:
        ModelError: It is missing or damaged.
    """
    return None if settings.detector == registry.NONE.name else CropAligner(settings)


def _transforms(boxes: Float, quarters: int, widened: float) -> Float:
    """Return (N, 2, 3) float32 from pixels to shares of the side of a square crop around each box.

    Args:
        boxes: (N, 4) float32 pixels.
        quarters: By how many quarters of a circle crops are turned, clockwise.
        widened: Side of a crop, in longer sides of the box.
    """
    sides = widened * np.maximum((boxes[:, 2:] - boxes[:, :2]).max(axis=1), 1)
    turn = np.linalg.matrix_power(np.array([[0, -1], [1, 0]]), quarters)
    linear = turn / sides[:, None, None]
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    shift = 0.5 - (linear @ center[:, :, None])[:, :, 0]
    return np.concatenate([linear, shift[:, :, None]], axis=2).astype(np.float32)
