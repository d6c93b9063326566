"""`Faces`, the one currency between detector, attributes, tracker and tables; and the protocols.

Absence has one spelling: -1 for an id, NaN for a measurement, no rows for no faces.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "AlignedCrop",
    "AttributeModel",
    "CropSource",
    "EmbeddingModel",
    "FaceDetector",
    "Faces",
    "buffered_iou",
    "face_widths",
    "frontality",
    "iou",
    "points_in_boxes",
]

Float = NDArray[np.float32]
Image = NDArray[np.uint8]
AlignedCrop = tuple[Image, ...]
"""What is judged of a face: one piece of the picture for each way of cutting, (H, W, 3) uint8 BGR each."""

_SHAPES: dict[str, tuple[tuple[int, ...], type]] = {
    "boxes": ((4,), np.float32),
    "scores": ((), np.float32),
    "landmarks": ((5, 2), np.float32),
    "female_prob": ((), np.float32),
    "age_years": ((), np.float32),
    "age_std_years": ((), np.float32),
    "track_ids": ((), np.int64),
}


@dataclass(frozen=True, eq=False)
class Faces:
    """The N faces of one sample, as parallel arrays. Frozen, checked on construction.

    Raises:
        ValueError: On construction, if a shape, dtype or range is wrong; the message gives both.

    >>> two = Faces.build(boxes=[[0, 0, 10, 10], [5, 5, 9, 9]], scores=[0.9, 0.6])
    >>> len(two), len(two[two.scores > 0.7]), len(Faces.empty())
    (2, 1, 0)
    """

    boxes: Float
    """(N, 4) float32, x1 y1 x2 y2 in pixels of the upright picture, x1 <= x2 and y1 <= y2."""
    scores: Float
    """(N,) float32 in [0, 1]: the detector's confidence that this is a face."""
    landmarks: Float
    """(N, 5, 2) float32 x y in pixels: the eye, eye, nose tip, mouth corner, mouth corner, each pair left
    to right in the picture; NaN where the detector gives none."""
    female_prob: Float
    """(N,) float32 in [0, 1]: probability of the perceived gender female; NaN where not judged."""
    age_years: Float
    """(N,) float32: expectation of the perceived age; NaN where not judged."""
    age_std_years: Float
    """(N,) float32: standard deviation of the network's own age distribution; NaN where not judged."""
    track_ids: NDArray[np.int64]
    """(N,) int64: the tracklet within the segment, -1 where the face belongs to none."""

    def __post_init__(self) -> None:
        n = len(self.boxes)
        for name, (tail, dtype) in _SHAPES.items():
            array = getattr(self, name)
            if array.shape != (n, *tail) or array.dtype != dtype:
                raise ValueError(
                    f"Faces.{name} must be {np.dtype(dtype)} {(n, *tail)}, got {array.dtype} {array.shape}"
                )
            array.flags.writeable = False
        for name in ("scores", "female_prob"):
            array = getattr(self, name)
            if ((array < 0) | (array > 1)).any():
                raise ValueError(f"Faces.{name} must lie in [0, 1], got {array.min()} to {array.max()}")
        if n and not (self.boxes[:, :2] <= self.boxes[:, 2:]).all():
            raise ValueError("Faces.boxes must have x1 <= x2 and y1 <= y2")

    @classmethod
    def build(cls, *, boxes: object, scores: object, **arrays: object) -> Self:
        """Make `Faces` from anything array-like; what is not given is absent (NaN or -1)."""
        n = len(np.asarray(scores))
        given = {"boxes": boxes, "scores": scores, **arrays}
        made: dict[str, Any] = {}
        for name, (tail, dtype) in _SHAPES.items():
            if name in given:
                made[name] = np.array(given[name], dtype=dtype).reshape(n, *tail)
            else:
                made[name] = np.full((n, *tail), -1 if dtype is np.int64 else np.nan, dtype=dtype)
        return cls(**made)

    @classmethod
    def empty(cls) -> Self:
        """No faces."""
        return cls.build(boxes=[], scores=[])

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: NDArray[np.bool_] | NDArray[np.int64] | slice) -> Self:
        """The chosen faces, all arrays sliced together by a mask, indices or a slice."""
        return type(self)(**{name: np.array(getattr(self, name)[index]) for name in _SHAPES})

    def __repr__(self) -> str:
        return f"Faces({len(self)})"

    def replace(self, **arrays: object) -> Self:
        """A copy with some arrays changed, converted to their dtype and checked."""
        made: dict[str, Any] = {
            name: np.array(value, dtype=_SHAPES[name][1]) for name, value in arrays.items()
        }
        return dataclasses.replace(self, **made)


class CropSource(Protocol):
    """Something that faces can be cut out of."""

    @property
    def width(self) -> int:
        """Pixels, upright."""
        ...

    @property
    def height(self) -> int:
        """Pixels, upright."""
        ...

    def crop(self, transforms: Float, sides: Sequence[int], size: int) -> list[Image]:
        """Square pieces of the picture.

        Args:
            transforms: (N, 2, 3) float32, from pixels of the upright picture to shares of a piece's side.
            sides: With so many pixels across each piece is sampled, linearly.
            size: Side of all pieces in the end, in pixels: averaged down from `sides`.

        Returns:
            (size, size, 3) uint8 BGR each; black outside the picture.
        """
        ...


class FaceDetector(Protocol):
    """Finds faces in pictures."""

    @property
    def reducible(self) -> bool:
        """Whether pictures in which no face is small may be given to it smaller than they need be."""
        ...

    @property
    def points_in_box(self) -> Float | None:
        """(5, 2) float32: where landmarks lie on average, in shares of the box, if it finds none itself."""
        ...

    @property
    def provenance(self) -> dict[str, Any]:
        """What ``run.json`` says of it and of what runs it."""
        ...

    def input_size(self, width: int, height: int, reduction: float = 1.0) -> tuple[int, int]:
        """Width and height in pixels of the picture this detector wants of a `width` x `height` frame.

        Args:
            width, height: Of the frame.
            reduction: By how much less closely it is to be looked at: 2 is half the size.
        """
        ...

    def detect(self, images: Sequence[Image], sizes: Sequence[tuple[int, int]]) -> list[Faces]:
        """Find the faces in pictures scaled to `input_size`.

        Args:
            images: (H, W, 3) uint8 BGR, all of one size.
            sizes: For each, the width and height of the full frame; boxes come back in its pixels.
        """
        ...


class AttributeModel(Protocol):
    """Estimates perceived gender and age of faces."""

    def crops(self, picture: CropSource, faces: Faces) -> list[AlignedCrop]:
        """What is judged of each face.

        Args:
            picture: The full frame.
            faces: To be cut out; their landmarks must not be NaN.
        """
        ...

    def estimate(self, crops: Sequence[AlignedCrop]) -> tuple[Float, Float, Float]:
        """Probability of female, age in years and its standard deviation in years, each (N,) float32.

        Args:
            chips: N pieces as `chips` gives them.
        """
        ...


class EmbeddingModel(Protocol):
    """Describes faces by vectors that lie near each other where the faces are the same human's."""

    crop_px: int
    """Side of the chips it wants."""
    size: int
    """Length D of its vectors."""

    def transforms(self, landmarks: Float) -> Float:
        """(N, 2, 3) float32, for `CropSource.crop`, from (N, 5, 2) float32 landmarks."""
        ...

    def embed(self, crops: Sequence[Image]) -> Float:
        """(N, D) float32 for N chips (`crop_px`, `crop_px`, 3) uint8 BGR."""
        ...


def face_widths(boxes: Float) -> Float:
    """Width in pixels of each box: the size by which a face is judged large enough.

    Args:
        boxes: (N, 4) float32.

    Returns:
        (N,) float32.

    >>> face_widths(np.array([[10, 0, 34, 50]], np.float32)).tolist()
    [24.0]
    """
    widths: Float = boxes[:, 2] - boxes[:, 0]
    return widths


def frontality(landmarks: Float) -> Float:
    """How far faces look towards the camera: 1 straight, 0 where the nose is beside an eye or beyond.

    Args:
        landmarks: (N, 5, 2) float32, the first three the eyes and the nose tip.

    Returns:
        (N,) float32 in [0, 1]; NaN where landmarks are NaN.

    >>> points = np.zeros((2, 5, 2), np.float32)
    >>> points[:, 1, 0] = 20
    >>> points[:, 2] = [[10, 8], [15, 8]]
    >>> frontality(points).tolist()
    [1.0, 0.5]
    """
    left, right, nose = (landmarks[:, point].astype(np.float64) for point in range(3))
    axis = right - left
    # How far along the line between the eyes the nose lies: 0.5 is the middle.
    share = ((nose - left) * axis).sum(axis=1) / np.maximum((axis**2).sum(axis=1), 1e-6)
    return np.clip(1 - np.abs(2 * share - 1), 0, 1).astype(np.float32)


def points_in_boxes(boxes: Float, points: Float) -> Float:
    """Where points lie in pixels that are given in shares of a box.

    Args:
        boxes: (N, 4) float32.
        points: (5, 2) float32: 0 is the left or upper side, 1 the right or lower one.

    Returns:
        (N, 5, 2) float32.

    >>> middle = np.full((5, 2), 0.5, np.float32)
    >>> points_in_boxes(np.array([[10, 0, 30, 50]], np.float32), middle)[0, 0].tolist()
    [20.0, 25.0]
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    return (boxes[:, None, :2] + points[None] * sides[:, None]).astype(np.float32)


def iou(a: NDArray[np.floating], b: NDArray[np.floating]) -> Float:
    """Intersection over union of every box of `a` with every box of `b`.

    Args:
        a: (N, 4).
        b: (M, 4).

    Returns:
        (N, M) float32 in [0, 1]; 0 for empty boxes.

    >>> iou(np.array([[0, 0, 2, 2]], np.float32), np.array([[1, 0, 3, 2], [5, 5, 6, 6]], np.float32)).round(3)
    array([[0.333, 0.   ]], dtype=float32)
    """
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    inter = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (a, b)]
    union = areas[0][:, None] + areas[1][None, :] - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0).astype(np.float32)


def buffered_iou(a: NDArray[Any], b: NDArray[Any], margin: float) -> Float:
    """Intersection over union of boxes that are widened first: they need not touch.

    Args:
        a: (N, 4) pixels.
        b: (M, 4) pixels.
        margin: What each side is moved outwards, as a share of the box's size.

    Returns:
        (N, M) float32 in [0, 1]; 0 for empty boxes.

    >>> buffered_iou(np.array([[0, 0, 10, 10]]), np.array([[12, 0, 22, 10]]), 0.2).round(3)
    array([[0.077]], dtype=float32)
    """
    one, other = (_widened(boxes.astype(np.float64), margin) for boxes in (a, b))
    return iou(one, other)


def _widened(boxes: NDArray[np.float64], margin: float) -> NDArray[np.float64]:
    reach = margin * (boxes[:, 2:] - boxes[:, :2])
    return np.hstack([boxes[:, :2] - reach, boxes[:, 2:] + reach])
