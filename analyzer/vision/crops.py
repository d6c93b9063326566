"""How faces are cropped for the models that estimate their gender and age or compare them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from analyzer.faces import CropSource, Faces

__all__ = [
    "AGE_CROP_PX",
    "CROP_LANDMARKS",
    "CROP_PADDING",
    "DLIB_CROP",
    "EMBEDDING_CROP",
    "EMBEDDING_CROP_PX",
    "BoxCrop",
    "Crop",
    "LandmarkCrop",
    "crop_sides",
    "crop_transforms",
    "padded_landmarks",
]

Float = NDArray[np.float32]
Image = NDArray[np.uint8]
Point = tuple[float, float]

_MAX_STEPS = 8
"""A crop is read at most this many times its own resolution, and at a power of two."""

AGE_CROP_PX = 64
"""Side of the crops of dlib's age model, in pixels."""

EMBEDDING_CROP_PX = 150
"""Side of the crops of dlib's model for embeddings, in pixels."""

CROP_PADDING = 0.2
"""Margin of these crops around dlib's template of a face, as a share of the template's side."""

CROP_LANDMARKS = np.array(
    [[0.2972, 0.3289], [0.6952, 0.3172], [0.4938, 0.5218], [0.332, 0.7067], [0.6623, 0.6958]], np.float32
)
"""Where CenterFace's landmarks lie in the crops that dlib's models were trained on: (5, 2) float32, x y as
shares of the crop's side. Fitted on labeled faces against dlib's own crops by ``benchmarks/fit_crops.py``."""


def padded_landmarks(padding: float) -> Float:
    """`CROP_LANDMARKS` in crops with another margin around dlib's template: (5, 2) float32.

    Args:
        padding: The margin, as a share of the template's side.
    """
    landmarks = (CROP_LANDMARKS * (1 + 2 * CROP_PADDING) - CROP_PADDING + padding) / (1 + 2 * padding)
    return np.asarray(landmarks, np.float32)


def crop_transforms(landmarks: Float, goal: Float = CROP_LANDMARKS) -> Float:
    """The similarity transforms that bring faces upright into a crop of side 1.

    Least squares over the five points (Umeyama 1991, without reflection).

    Args:
        landmarks: (N, 5, 2) float32, x y in pixels.
        goal: (5, 2) float32: where they are to lie in the crop.

    Returns:
        (N, 2, 3) float32: pixels to shares of the crop's side.

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


def crop_sides(transforms: Float, size: int = AGE_CROP_PX) -> list[int]:
    """At which size to read crops: about the frame's own resolution, so that no pixel is skipped.

    Args:
        transforms: (N, 2, 3) float32 from `crop_transforms`.
        size: Side of the finished crops, in pixels.

    Returns:
        `size`, or 2, 4 or 8 times as much, for `CropSource.crop`.
    """
    return _sides(1 / np.maximum(np.hypot(transforms[:, 0, 0], transforms[:, 0, 1]), 1e-6), size)


def _sides(pixels_across: NDArray[np.floating], size: int) -> list[int]:
    """Likewise, of crops that show so many pixels from side to side.

    >>> _sides(np.array([10, 95, 97, 191, 193, 5000], np.float32), 64)
    [64, 64, 128, 128, 256, 512]
    """
    # From one sample to the next it is at most one and a half pixels.
    factors = 2 ** np.ceil(np.log2(np.clip(pixels_across / (1.5 * size), 1, _MAX_STEPS)))
    return [size * int(factor) for factor in factors]


class Crop(Protocol):
    """A way to crop faces. Equal ones make equal crops."""

    @property
    def text(self) -> str:
        """Everything that its crops depend on, for people and for the keys of calibrations."""
        ...

    def crop(self, frame: CropSource, faces: Faces) -> list[Image]:
        """One crop, (H, W, 3) uint8 BGR, for each face; all of one size.

        Args:
            frame: The full frame.
            faces: With boxes and landmarks in its pixels.
        """
        ...


@dataclass(frozen=True)
class LandmarkCrop:
    """Faces brought upright by their landmarks, averaged down from the frame's own pixels.

    The eyes, nose and mouth lie at the same places in every crop (`crop_transforms`).
    """

    size: int
    """Side of the crop, in pixels."""
    landmarks: tuple[Point, ...]
    """Where the landmarks lie in the crop: five points, x y as shares of its side."""

    @classmethod
    def padded(cls, size: int, padding: float) -> Self:
        """A crop with a margin of `padding` around dlib's template, as a share of the template's side."""
        return cls(
            size, tuple((round(float(x), 4), round(float(y), 4)) for x, y in padded_landmarks(padding))
        )

    @property
    def text(self) -> str:
        """As `Crop.text`."""
        points = ", ".join(f"{x:.4f} {y:.4f}" for x, y in self.landmarks)
        return f"landmarks at {points} of {self.size} px"

    def crop(self, frame: CropSource, faces: Faces) -> list[Image]:
        """(`size`, `size`, 3) uint8 BGR for each face."""
        transforms = crop_transforms(faces.landmarks, np.array(self.landmarks, np.float32))
        return frame.crop(transforms, crop_sides(transforms, self.size), self.size)


DLIB_CROP = LandmarkCrop.padded(AGE_CROP_PX, CROP_PADDING)
"""Of dlib's age and gender models."""

EMBEDDING_CROP = LandmarkCrop.padded(EMBEDDING_CROP_PX, 0.25)
"""Of dlib's model for embeddings, with the margin of dlib's own examples, and of the heads that read it."""


@dataclass(frozen=True)
class BoxCrop:
    """The detector's box, widened, kept inside the frame and stretched to the model's size.

    The classic programs do the same; the face is not turned upright.
    """

    width: int
    """Of the crop, in pixels."""
    height: int
    margin: float = 0.0
    """By what share of its side the box is widened on each side."""
    margin_px: int = 0
    """By how many pixels of the frame, in addition."""
    square: bool = False
    """Whether the box first becomes a square around its middle, by its longer side; a square may reach over
    the frame's edge, and is black there."""

    @property
    def text(self) -> str:
        """As `Crop.text`."""
        shape = "square" if self.square else "box"
        return f"{shape} of {self.width} x {self.height} px, margin {self.margin:g} and {self.margin_px} px"

    def boxes(self, boxes: Float, width: int, height: int) -> Float:
        """(N, 4) float32: the boxes to crop from a frame of that size, x1 y1 x2 y2 in pixels, never empty.

        Args:
            boxes: (N, 4) float32 of faces.
            width, height: Of the frame.

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

    def crop(self, frame: CropSource, faces: Faces) -> list[Image]:
        """(`height`, `width`, 3) uint8 BGR for each face."""
        return self.crop_boxes(frame, self.boxes(faces.boxes, frame.width, frame.height))

    def crop_boxes(self, frame: CropSource, kept: Float) -> list[Image]:
        """(`height`, `width`, 3) uint8 BGR for each (N, 4) float32 box in pixels, as of `boxes`."""
        if not len(kept):
            return []
        low, extents = kept[:, :2], kept[:, 2:] - kept[:, :2]
        transforms = np.zeros((len(kept), 2, 3), np.float32)
        transforms[:, [0, 1], [0, 1]] = 1 / extents
        # Pixels are squares: the center of the first one lies half a pixel inside the box.
        size = max(self.width, self.height)
        sides = _sides(extents.max(axis=1), size)
        for transform, corner, extent, side in zip(transforms, low, extents, sides, strict=True):
            transform[:, 2] = (0.5 - corner) / extent - 0.5 / side
        return [self._sized(crop) for crop in frame.crop(transforms, sides, size)]

    def _sized(self, crop: Image) -> Image:
        if crop.shape[:2] == (self.height, self.width):
            return crop
        import cv2  # late: whoever only lists models needs none

        return cv2.resize(crop, (self.width, self.height), interpolation=cv2.INTER_AREA).astype(np.uint8)
