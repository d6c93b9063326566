"""Placement of the labels on a frame, so that none covers another label or a face."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "LEVELS",
    "Crowd",
    "LabelPlacement",
    "Rect",
    "Spot",
    "overlap",
]

Boxes = NDArray[np.float32]

Floats = NDArray[np.float64]

Rect = tuple[int, int, int, int]
"""Left, top, right, bottom in whole pixels; right and bottom exclusive."""

Sizes = Callable[[int, int], tuple[int, int]]

LEVELS = 3
"""Levels of labels: long, short, small."""

_REACH = (0.6, 1.2, 9.0)
"""The largest distance of a label from its box at each level, in label heights."""

_RETRIES = 2

_NEAR = 10
"""Positions next to a box."""

_INSIDE = 0.06
"""The share of its own box that a label may cover if there is no space around it: on a face that fills the
frame it hides the forehead or the chin."""

_RELAXED = 0.7
"""Labels become longer again when less than this share of the people remains."""


class Crowd(NamedTuple):
    """The people, faces and panel of a frame."""

    persons: list[int]
    boxes: Boxes
    """(M, 4) their boxes, in pixels."""
    faces: Boxes
    """(K, 4) all boxes, in pixels; none may be covered."""
    panel: Rect | None
    """May not be covered either."""


class Spot(NamedTuple):
    """The position of a label."""

    left: int
    top: int
    leader: Rect | None
    """The line to its box, if it is not next to it."""


class LabelPlacement:
    """Places the labels of a frame: none covers another, the panel, or another person's face.

    If there are too many, labels become short, then small; labels that still do not fit are left out.

    Args:
        size: Width and height of the frame in pixels.
        rim: How far lines reach beyond boxes, in pixels.
    """

    def __init__(self, size: tuple[int, int], rim: int) -> None:
        self._size, self._rim = size, rim
        self._level, self._crowd = 0, 0
        self._reach = _REACH[0]
        self._spots: dict[int, int] = {}
        self._far: dict[int, Floats] = {}

    def place(self, crowd: Crowd, sizes: Sizes) -> tuple[int, list[Spot | None]]:
        """Choose the level of the labels of a frame and the position of each.

        Args:
            crowd: The people of the frame.
            sizes: Returns width and height of a person's label at a level: 0 long, 1 short, 2 small.

        Returns:
            The level, and the position of each person's label, None if it does not fit.
        """
        persons = crowd.persons
        if len(persons) < _RELAXED * self._crowd:
            self._level, self._crowd = 0, 0
        before = self._as_before(crowd, [sizes(person, self._level) for person in persons])
        if before is not None:
            return self._level, before
        spots: list[Spot | None] = []
        wanted: list[tuple[int, int]] = []
        for level in range(self._level, LEVELS):
            wanted = [sizes(person, level) for person in persons]
            # A short label next to its box is better than a long one far away.
            self._reach = _REACH[level]
            spots = self._try(crowd, wanted)
            if level > self._level:
                self._level, self._crowd = level, len(persons)
            if None not in spots:
                return self._level, spots
        for _ in range(_RETRIES):  # labels that did not fit choose first
            memory = dict(self._spots), dict(self._far)
            first = {person for person, spot in zip(persons, spots, strict=True) if spot is None}
            others = self._try(crowd, wanted, first)
            if others.count(None) < spots.count(None):
                spots = others
            else:
                self._spots, self._far = memory
            if None not in spots:
                break
        return self._level, spots

    def _as_before(self, crowd: Crowd, sizes: list[tuple[int, int]]) -> list[Spot | None] | None:
        """Each label at its previous position next to its box, if all can stay, as in most frames."""
        if not crowd.persons or any(person not in self._spots for person in crowd.persons):
            return None
        spots: list[Spot | None] = []
        places = []
        for person, box, size in zip(crowd.persons, crowd.boxes, sizes, strict=True):
            chosen = self._spots[person]
            if chosen < _NEAR:
                spot = self._inside(self._around(box, size)[[chosen]], size)[0].tolist()
            else:
                spot = self._inside((box[:2] + box[2:]) / 2 + self._far[person], size).tolist()
            left, top = map(int, spot)
            spots.append(Spot(left, top, None if chosen < _NEAR else self._leader(box, (left, top), size)))
            places.append([left, top, left + size[0], top + size[1]])
        rects = np.array(places, float)
        own = np.prod(rects[:, 2:] - rects[:, :2], axis=1)
        others = overlap(rects, crowd.faces) + overlap(rects, rects) - own
        if crowd.panel is not None:
            others += overlap(rects, np.array([crowd.panel], float))
        return None if others.any() else spots

    def _try(
        self, crowd: Crowd, sizes: list[tuple[int, int]], first: Container[int] = ()
    ) -> list[Spot | None]:
        taken = np.array([crowd.panel] if crowd.panel is not None else [], float).reshape(-1, 4)
        spots: list[Spot | None] = [None] * len(crowd.persons)
        # Labels from the previous frame stay; the others are placed around them.
        order = [(one not in first, one not in self._spots, row) for row, one in enumerate(crowd.persons)]
        for *_, row in sorted(order):
            size = sizes[row]
            spot = self._find(crowd.persons[row], crowd.boxes[row], size, crowd.faces, taken)
            spots[row] = spot
            if spot is not None:
                here = [spot.left, spot.top, spot.left + size[0], spot.top + size[1]]
                taken = np.vstack([taken, here])
        return spots

    def _find(
        self, person: int, box: Boxes, size: tuple[int, int], faces: Boxes, taken: Floats
    ) -> Spot | None:
        wide, high = size
        if wide > self._size[0] or high > self._size[1] // 3:
            return None
        near = self._around(box, size)
        center = (box[:2] + box[2:]) / 2
        remembered = [center + self._far[person]] if person in self._far else []
        spots = self._inside(np.vstack([near, *remembered]), size)
        free = self._free(spots, size, faces, taken)
        if free.any():
            cost = np.arange(len(spots), dtype=float)
            cost[self._spots.get(person, 0)] -= 7  # keeps labels from jumping
            return self._chosen(person, spots, int(np.where(free, cost, np.inf).argmin()), box, size)
        self._far.pop(person, None)
        rings = self._inside(np.rint(center + self._rings(box, size)), size)
        free = self._free(rings, size, faces, taken)
        if free.any():
            left, top = rings[int(free.argmax())].tolist()
            self._far[person] = np.array([left, top]) - center
            self._spots[person] = len(near)
            return Spot(int(left), int(top), self._leader(box, (left, top), size))
        return self._over(person, box, size, faces, taken)

    def _chosen(self, person: int, spots: Floats, best: int, box: Boxes, size: tuple[int, int]) -> Spot:
        self._spots[person] = best
        left, top = spots[best].tolist()
        far = best == _NEAR
        if not far:
            self._far.pop(person, None)
        return Spot(int(left), int(top), self._leader(box, (left, top), size) if far else None)

    def _around(self, box: Boxes, size: tuple[int, int]) -> Floats:
        """(`_NEAR`, 2) positions above and below the box, then beside it."""
        wide, high = size
        x1, y1, x2, y2 = (
            box[0] - self._rim,
            box[1] - self._rim,
            box[2] + self._rim + 1,
            box[3] + self._rim + 1,
        )
        above, below, flush, middle = y1 - high, y2, x2 - wide, (x1 + x2 - wide) / 2
        xs = [x1, flush, middle, x1, flush, middle, x2, x1 - wide, x2, x1 - wide]
        ys = [above, above, above, below, below, below, y1, y1, y2 - high, y2 - high]
        return np.rint(np.column_stack([xs, ys])).astype(float)

    def _rings(self, box: Boxes, size: tuple[int, int]) -> Floats:
        """(R, 2) left and top of positions further away, relative to the center of the box, nearest first."""
        wide, high = size
        half = (box[2:] - box[:2]) / 2
        xs = np.arange(-10, 11) * wide / 4 - wide / 2
        ys = np.arange(-24, 25) * high / 3 - high / 2
        places = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
        own = np.array([wide, high]) / 2
        away = np.abs(places + own) - half - own
        apart = np.hypot(*np.clip(away, 0, None).T)
        order = np.argsort(apart, kind="stable")
        return places[order[apart[order] <= self._reach * high]]

    def _inside(self, spots: Floats, size: tuple[int, int]) -> Floats:
        kept: Floats = np.clip(np.rint(spots), 0, np.subtract(self._size, size))
        return kept

    @staticmethod
    def _free(spots: Floats, size: tuple[int, int], faces: Boxes, taken: Floats) -> NDArray[np.bool_]:
        rects = np.hstack([spots, spots + size])
        return np.asarray(overlap(rects, faces) + overlap(rects, taken) == 0)

    def _over(
        self, person: int, box: Boxes, size: tuple[int, int], faces: Boxes, taken: Floats
    ) -> Spot | None:
        """A position at the edge of its own face, if that is large and there is no space around it."""
        area = float(np.prod(box[2:] - box[:2]))
        if size[0] * size[1] > _INSIDE * area:
            return None
        x = np.clip(box[0], 0, self._size[0] - size[0])
        spots = self._inside(np.array([[x, box[1]], [x, box[3] - size[1]]], float), size)
        others = faces[(faces != box).any(axis=1)]
        free = self._free(spots, size, others, taken)
        if not free.any():
            return None
        self._spots.pop(person, None)
        left, top = spots[int(free.argmax())].tolist()
        return Spot(int(left), int(top), None)

    @staticmethod
    def _leader(box: Boxes, place: tuple[float, float], size: tuple[int, int]) -> Rect | None:
        """The line from the nearest point of the box to the nearest point of the label."""
        low = np.maximum(box[:2], place)
        high = np.minimum(box[2:], np.add(place, size))
        # Straight across where the sides overlap, else from corner to corner.
        across = (low + high) / 2
        start = np.where(low <= high, across, np.clip(across, box[:2], box[2:]))
        end = np.where(low <= high, across, np.clip(across, place, np.add(place, size)))
        return int(start[0]), int(start[1]), int(end[0]), int(end[1])


def overlap(rects: Floats, others: Boxes | Floats) -> Floats:
    """(R,) pixels of each rectangle (R, 4) covered by others (K, 4), counted once for each of these."""
    low = np.maximum(rects[:, None, :2], others[None, :, :2])
    high = np.minimum(rects[:, None, 2:], others[None, :, 2:])
    covered: Floats = np.prod(np.clip(high - low, 0, None), axis=2).sum(axis=1)
    return covered
