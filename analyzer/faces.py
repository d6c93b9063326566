"""`Faces`, exchanged by detectors, attribute models, trackers and tables; and the protocols of models.

Missing values are -1 for an id and NaN for a measurement; no faces are no rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "AlignedCrop",
    "CropSource",
    "FaceAligner",
    "FaceDetector",
    "FaceEstimates",
    "FaceReader",
    "Faces",
    "buffered_iou",
    "covered",
    "face_widths",
    "frontality",
    "iou",
    "points_in_boxes",
]

Float = NDArray[np.float32]
Image = NDArray[np.uint8]
AlignedCrop = tuple[Image, ...]
"""The input of an attribute model for one face: a crop for each alignment that it uses, (H, W, 3) uint8
BGR."""

_SHAPES: dict[str, tuple[tuple[int, ...], type]] = {
    "boxes": ((4,), np.float32),
    "scores": ((), np.float32),
    "landmarks": ((5, 2), np.float32),
    "quality": ((), np.float32),
    "female_prob": ((), np.float32),
    "age_years": ((), np.float32),
    "age_std_years": ((), np.float32),
    "track_ids": ((), np.int64),
}
_SHARES = ("scores", "quality", "female_prob")


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array


@dataclass(frozen=True, eq=False)
class Faces:
    """The N faces of one sample, as parallel arrays. Frozen and checked on construction.

    The arrays are read-only. They are copies unless the given ones are read-only already, so the caller's own
    arrays stay as they are.

    Raises:
        ValueError: On construction, if a shape, dtype or range is wrong; the message has both.

    >>> two = Faces.build(boxes=[[0, 0, 10, 10], [5, 5, 9, 9]], scores=[0.9, 0.6])
    >>> len(two), len(two[two.scores > 0.7]), len(Faces.empty())
    (2, 1, 0)
    """

    boxes: Float
    """(N, 4) float32, x1 y1 x2 y2 in pixels of the upright frame, x1 <= x2 and y1 <= y2."""
    scores: Float
    """(N,) float32 in [0, 1]: the detector's confidence that this is a face."""
    landmarks: Float
    """(N, 5, 2) float32 x y in pixels: the eye, eye, nose tip, mouth corner, mouth corner, each pair left
    to right in the frame; NaN if the detector finds none."""
    quality: Float
    """(N,) float32 in [0, 1]: how clearly the face shows, from `FaceAligner.align`; NaN if it was not
    aligned."""
    female_prob: Float
    """(N,) float32 in [0, 1]: probability of the perceived gender female; NaN if not estimated."""
    age_years: Float
    """(N,) float32: expectation of the perceived age; NaN if not estimated."""
    age_std_years: Float
    """(N,) float32: standard deviation of the model's age distribution; NaN if not estimated."""
    track_ids: NDArray[np.int64]
    """(N,) int64: the tracklet within the segment, -1 for none."""

    def __post_init__(self) -> None:
        self._check(_SHAPES)

    def _check(self, names: Iterable[str]) -> None:
        n = len(self.boxes)
        for name in names:
            tail, dtype = _SHAPES[name]
            array = getattr(self, name)
            if array.shape != (n, *tail) or array.dtype != dtype:
                raise ValueError(
                    f"Faces.{name} must be {np.dtype(dtype)} {(n, *tail)}, got {array.dtype} {array.shape}"
                )
            if array.flags.writeable:
                object.__setattr__(self, name, _frozen(array.copy()))
            if name in _SHARES and ((array < 0) | (array > 1)).any():
                raise ValueError(f"Faces.{name} must lie in [0, 1], got {array.min()} to {array.max()}")
            if name == "boxes" and not (array[:, :2] <= array[:, 2:]).all():
                raise ValueError("Faces.boxes must have x1 <= x2 and y1 <= y2")

    @classmethod
    def _unchecked(cls, arrays: dict[str, NDArray[Any]]) -> Self:
        """Make `Faces` from read-only arrays: to check them takes longer than most uses of a few faces."""
        made = object.__new__(cls)
        made.__dict__.update(arrays)
        return made

    @classmethod
    def build(cls, *, boxes: object, scores: object, **arrays: object) -> Self:
        """Make `Faces` from array-likes; missing ones become NaN or -1.

        Raises:
            TypeError: `Faces` has no array of such a name.
            ValueError: As on construction.
        """
        if unknown := arrays.keys() - _SHAPES.keys():
            raise TypeError(f"Faces has no {', '.join(sorted(unknown))}")
        n = len(np.asarray(scores))
        given = {"boxes": boxes, "scores": scores, **arrays}
        made: dict[str, Any] = {}
        for name, (tail, dtype) in _SHAPES.items():
            if name in given:
                made[name] = _frozen(np.array(given[name], dtype=dtype).reshape(n, *tail))
            else:
                made[name] = _frozen(np.full((n, *tail), -1 if dtype is np.int64 else np.nan, dtype=dtype))
        faces = cls._unchecked(made)
        faces._check(given)
        return faces

    @classmethod
    def empty(cls) -> Self:
        """No faces."""
        return cls.build(boxes=[], scores=[])

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: NDArray[np.bool_] | NDArray[np.int64] | slice) -> Self:
        """Return some of the faces, by a mask, indices or a slice."""
        return self._unchecked(
            {name: _frozen(np.array(array[index])) for name, array in self.__dict__.items()}
        )

    def __repr__(self) -> str:
        return f"Faces({len(self)})"

    def replace(self, **arrays: object) -> Self:
        """Return a copy with some arrays changed, converted to their dtype and checked."""
        made: dict[str, Any] = {
            name: _frozen(np.array(value, dtype=_SHAPES[name][1])) for name, value in arrays.items()
        }
        faces = self._unchecked(self.__dict__ | made)
        faces._check(_SHAPES if "boxes" in made else made)
        return faces


class CropSource(Protocol):
    """A frame or image that faces can be cropped from."""

    @property
    def width(self) -> int:
        """Pixels, upright."""
        ...

    @property
    def height(self) -> int:
        """Pixels, upright."""
        ...

    def crop(self, transforms: Float, sides: Sequence[int], size: int) -> list[Image]:
        """Return square crops.

        Args:
            transforms: (N, 2, 3) float32, from pixels of the upright frame to a unit square.
            sides: For each crop the side in pixels at which it is read: `size`, linearly, or a power of two
                as much, with that many pixels averaged.
            size: Side of the returned crops in pixels.

        Returns:
            (size, size, 3) uint8 BGR each; black outside the frame.
        """
        ...


class FaceDetector(Protocol):
    """Detects faces."""

    @property
    def reducible(self) -> bool:
        """Whether it may run at a reduced resolution if no face is small."""
        ...

    @property
    def points_in_box(self) -> Float | None:
        """(5, 2) float32: average landmarks relative to the box, for detectors that find none; otherwise
        None."""
        ...

    @property
    def provenance(self) -> dict[str, Any]:
        """Facts of the model and of its inference engine, for ``run.json``."""
        ...

    def input_size(self, width: int, height: int, reduction: float = 1.0) -> tuple[int, int]:
        """Return the width and height in pixels of the input for a `width` x `height` frame.

        Args:
            width, height: Of the frame.
            reduction: Factor by which the resolution is reduced: 2 is half.
        """
        ...

    def detect(self, images: Sequence[Image], sizes: Sequence[tuple[int, int]]) -> list[Faces]:
        """Detect faces in images scaled to `input_size`.

        Args:
            images: (H, W, 3) uint8 BGR, all of one size.
            sizes: Width and height of the frame of each; boxes are in its pixels.
        """
        ...


class FaceAligner(Protocol):
    """Finds the landmarks of faces that were detected, and tells how clearly each face shows."""

    @property
    def provenance(self) -> dict[str, Any]:
        """Facts of the model and of its inference engine, for ``run.json``."""
        ...

    def align(self, frame: CropSource, faces: Faces, *, any_roll: bool = False) -> Faces:
        """Return the faces with `quality`, and with the landmarks found; others keep those they have.

        Args:
            frame: The full frame.
            faces: With boxes in its pixels.
            any_roll: Whether faces may be on their side or upside down.
        """
        ...


@dataclass(frozen=True, eq=False)
class FaceEstimates:
    """What is computed from the crops of N faces."""

    embeddings: Float
    """(N, D): vectors that are near each other for the same person."""
    female_prob: Float
    """(N,) probability of the perceived gender female; NaN if it is not estimated."""
    age_years: Float
    """(N,) perceived age; NaN if it is not estimated."""
    age_std_years: Float
    """(N,) standard deviation of its distribution; NaN if it is not known."""


class FaceReader(Protocol):
    """Compares faces, and estimates their gender and age."""

    size: int
    """Length D of the embeddings."""

    def crops(self, frame: CropSource, faces: Faces) -> list[AlignedCrop]:
        """Return the input for each face.

        Args:
            frame: The full frame.
            faces: With boxes and landmarks in its pixels; the landmarks must not be NaN.
        """
        ...

    def read(self, crops: Sequence[AlignedCrop]) -> FaceEstimates:
        """Compute embeddings and estimates.

        Args:
            crops: N >= 1 faces as returned by `crops`.

        Raises:
            ModelError: A model failed.
        """
        ...


def face_widths(boxes: Float) -> Float:
    """Return the width of each box in pixels, the measure of the size of faces.

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
    """Return how frontal faces are: 1 for frontal, 0 if the nose is beside an eye or beyond.

    Args:
        landmarks: (N, 5, 2) float32, the first three the eyes and the nose tip.

    Returns:
        (N,) float32 in [0, 1]; NaN if landmarks are NaN.

    >>> points = np.zeros((2, 5, 2), np.float32)
    >>> points[:, 1, 0] = 20
    >>> points[:, 2] = [[10, 8], [15, 8]]
    >>> frontality(points).tolist()
    [1.0, 0.5]
    """
    left, right, nose = (landmarks[:, point].astype(np.float64) for point in range(3))
    axis = right - left
    # Position of the nose along the line between the eyes: 0.5 is the middle.
    share = ((nose - left) * axis).sum(axis=1) / np.maximum((axis**2).sum(axis=1), 1e-6)
    return np.clip(1 - np.abs(2 * share - 1), 0, 1).astype(np.float32)


def points_in_boxes(boxes: Float, points: Float) -> Float:
    """Convert points relative to a box to pixels.

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
    """Return the intersection over union of every box of `a` with every box of `b`.

    Args:
        a: (N, 4).
        b: (M, 4).

    Returns:
        (N, M) float32 in [0, 1]; 0 for empty boxes.

    >>> iou(np.array([[0, 0, 2, 2]], np.float32), np.array([[1, 0, 3, 2], [5, 5, 6, 6]], np.float32)).round(3)
    array([[0.333, 0.   ]], dtype=float32)
    """
    inter, one, other = _areas(a, b)
    union = one + other - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0).astype(np.float32)


def covered(a: NDArray[np.floating], b: NDArray[np.floating]) -> Float:
    """Return the intersection of every box of `a` with every box of `b`, as a share of the smaller box.

    Args:
        a: (N, 4).
        b: (M, 4).

    Returns:
        (N, M) float32 in [0, 1]; 0 for empty boxes.

    >>> covered(np.array([[0, 0, 4, 4]]), np.array([[1, 1, 3, 3], [3, 0, 6, 4]])).round(3)
    array([[1.   , 0.333]], dtype=float32)
    """
    inter, one, other = _areas(a, b)
    smaller = np.minimum(one, other)
    return np.divide(inter, smaller, out=np.zeros_like(inter), where=smaller > 0).astype(np.float32)


def _areas(
    a: NDArray[np.floating], b: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the intersections (N, M), and the areas of both, (N, 1) and (1, M)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    inter = np.prod(np.clip(high - low, 0, None), axis=2, dtype=np.float64)
    one, other = (np.prod(boxes[:, 2:] - boxes[:, :2], axis=1, dtype=np.float64) for boxes in (a, b))
    return inter, one[:, None], other[None]


def buffered_iou(a: NDArray[Any], b: NDArray[Any], margin: float) -> Float:
    """Return the intersection over union of boxes that are widened first, so they need not touch.

    Args:
        a: (N, 4) pixels.
        b: (M, 4) pixels.
        margin: How far each side is moved outwards, as a share of the box's size.

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
