"""How faces are cut out for the networks that judge them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from analyzer.faces import CropSource, Faces

__all__ = [
    "AGE_CROP_PX",
    "CROP_LANDMARKS",
    "CROP_PADDING",
    "BoxCrop",
    "Cut",
    "LandmarkCrop",
    "crop_sides",
    "crop_transforms",
]

Float = NDArray[np.float32]


Image = NDArray[np.uint8]


_MOST_STEPS = 8


AGE_CROP_PX = 64
"""Side of the upright pieces, in pixels."""


CROP_PADDING = 0.2
"""Margin of these chips around dlib's template of a face, as a share of the template."""


# Where CenterFace's landmarks lie in the chips that the networks were trained on, as a share of the
# chip's side. Fitted on labeled faces against dlib's own chips by benchmarks/fit_chips.py.
CROP_LANDMARKS = np.array(
    [[0.2972, 0.3289], [0.6952, 0.3172], [0.4938, 0.5218], [0.332, 0.7067], [0.6623, 0.6958]], np.float32
)


def crop_transforms(landmarks: Float, goal: Float = CROP_LANDMARKS) -> Float:
    """The similarity transforms that bring faces upright into a chip of side 1.

    Least squares over the five points (Umeyama 1991, without reflection).

    Args:
        landmarks: (N, 5, 2) float32, x y in pixels.
        goal: (5, 2) float32: where they are to lie in the chip.

    Returns:
        (N, 2, 3) float32: pixels to shares of the chip's side.

    >>> points = CROP_LANDMARKS * 100 + 7
    >>> matrix = crop_transforms(points[None])[0]
    >>> bool(np.allclose(points @ matrix[:, :2].T + matrix[:, 2], CROP_LANDMARKS, atol=1e-4))
    True
    """
    if not len(landmarks):
        return np.empty((0, 2, 3), np.float32)
    source = landmarks.astype(np.float64)
    center = source.mean(axis=1, keepdims=True)
    goal_center = goal.mean(axis=0, dtype=np.float64)
    # In the plane a similarity without reflection is multiplication by a complex number.
    points = (source - center) @ np.array([1, 1j])
    wanted = (goal - goal_center) @ np.array([1, 1j])
    power = (np.abs(points) ** 2).sum(axis=1)
    factor = (points.conj() * wanted).sum(axis=1) / np.maximum(power, 1e-6)
    rotation = np.stack([factor.real, -factor.imag, factor.imag, factor.real], axis=1).reshape(-1, 2, 2)
    shift = goal_center - (rotation @ center.transpose(0, 2, 1))[:, :, 0]
    return np.concatenate([rotation, shift[:, :, None]], axis=2).astype(np.float32)


def crop_sides(transforms: Float) -> list[int]:
    """At which size to cut chips: about the picture's own resolution, so that no pixel is skipped.

    Args:
        transforms: (N, 2, 3) float32 from `crop_transforms`.

    Returns:
        Multiples of `AGE_CROP_PX`, up to 8 times, for `CropSource.crop`.
    """
    pixels_across = 1 / np.maximum(np.hypot(transforms[:, 0, 0], transforms[:, 0, 1]), 1e-6)
    factors = np.clip(np.round(pixels_across / AGE_CROP_PX), 1, 8)
    return [AGE_CROP_PX * int(factor) for factor in factors]


class Cut(Protocol):
    """Cuts faces out of pictures. Equal ones give equal pieces."""

    def cut(self, picture: CropSource, faces: Faces) -> list[Image]:
        """One piece, (H, W, 3) uint8 BGR, for each face; all of one size.

        Args:
            picture: The full frame.
            faces: With boxes and landmarks in its pixels.
        """
        ...


@dataclass(frozen=True)
class LandmarkCrop:
    """Faces brought upright by their landmarks: (64, 64, 3), averaged down from the picture's own pixels."""

    def cut(self, picture: CropSource, faces: Faces) -> list[Image]:
        """One piece for each face, `Cut`."""
        transforms = crop_transforms(faces.landmarks)
        return picture.crop(transforms, crop_sides(transforms), AGE_CROP_PX)


@dataclass(frozen=True)
class BoxCrop:
    """The detector's box, widened, kept inside of the picture and stretched to the network's size.

    So did the classic programs; the face is not turned upright.
    """

    width: int
    """Of the piece, in pixels."""
    height: int
    margin: float = 0.0
    """By what share of its side the box is widened on each side."""
    margin_px: int = 0
    """By how many pixels of the picture, in addition."""
    square: bool = False
    """Whether the box is made a square around its middle first, by its longer side; a square is not kept
    inside of the picture, and is black outside of it."""

    def boxes(self, boxes: Float, width: int, height: int) -> Float:
        """(N, 4) float32: what is cut out of a picture of that size, x1 y1 x2 y2 in pixels, never empty.

        Args:
            boxes: (N, 4) float32 of faces.
            width, height: Of the picture.

        >>> BoxCrop(227, 227, margin_px=20).boxes(np.array([[10, 30, 50, 90]], np.float32), 100, 100).tolist()
        [[0.0, 10.0, 70.0, 100.0]]
        """
        center = (boxes[:, :2] + boxes[:, 2:]) / 2
        extents = boxes[:, 2:] - boxes[:, :2]
        if self.square:
            extents = np.repeat(extents.max(axis=1, keepdims=True), 2, axis=1)
        half = extents / 2 + self.margin * extents + self.margin_px
        low, high = center - half, center + half
        if not self.square:
            limits = np.array([width, height], np.float32)
            low, high = np.clip(low, 0, limits), np.clip(high, 0, limits)
        return np.concatenate([low, np.maximum(high, low + 1)], axis=1).astype(np.float32)

    def cut(self, picture: CropSource, faces: Faces) -> list[Image]:
        """(`height`, `width`, 3) uint8 BGR for each face."""
        if not len(faces):
            return []
        kept = self.boxes(faces.boxes, picture.width, picture.height)
        low, extents = kept[:, :2], kept[:, 2:] - kept[:, :2]
        transforms = np.zeros((len(kept), 2, 3), np.float32)
        transforms[:, [0, 1], [0, 1]] = 1 / extents
        # Pixels are squares: the middle of the first one lies half a pixel inside of the box.
        size = max(self.width, self.height)
        steps = np.clip(np.round(extents.max(axis=1) / size), 1, _MOST_STEPS).astype(int)
        sides = [size * int(step) for step in steps]
        for transform, corner, extent, side in zip(transforms, low, extents, sides, strict=True):
            transform[:, 2] = (0.5 - corner) / extent - 0.5 / side
        return [self._sized(piece) for piece in picture.crop(transforms, sides, size)]

    def _sized(self, piece: Image) -> Image:
        if piece.shape[:2] == (self.height, self.width):
            return piece
        return cv2.resize(piece, (self.width, self.height), interpolation=cv2.INTER_AREA).astype(np.uint8)
