"""The few best crops of a face that is tracked, from which its embedding is computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from analyzer.faces import AlignedCrop, Faces, face_widths, frontality, points_in_boxes

__all__ = [
    "LESS_CLOSE",
    "BestCrop",
    "BestCrops",
    "TrackedFace",
]

Float = NDArray[np.float32]


Int = NDArray[np.int64]


EMBEDDED_PX = 28
"""Faces narrower than this, in pixels, are not compared with others."""


# A view in place of another must be clearly better to be worth cutting out.
_BETTER = 1.15


# Where faces were looked for less closely, their landmarks and so the chips are less precise.
LESS_CLOSE = np.float32(0.7)


# Wide enough for the embedding's own chip: more pixels add nothing.
_FULL_PX = 100.0


@dataclass(eq=False)
class TrackedFace:
    """One sample: its faces, their tracklets so far (-1: none), and the crops cut from it."""

    faces: Faces
    placed: Faces
    """`faces` with stand-ins for landmarks that the detector does not find, to cut crops out by."""
    time_s: float
    cut: bool
    ids: Int
    widths: Float
    quality: Float
    """How much a view of each says; 0 where it says nothing."""
    estimated: Float
    """(N, 3): what `AttributeModel.judge` said, NaN where it was not asked."""
    crops: dict[int, list[tuple[BestCrops, BestCrop]]] = field(default_factory=dict)
    """Of each face that has no tracklet yet, and the album that each view is for."""

    @classmethod
    def of(cls, faces: Faces, time_s: float, *, cut: bool, points_in_box: Float | None) -> Self:
        n, widths = len(faces), face_widths(faces.boxes)
        placed = faces
        if points_in_box is not None:
            placed = faces.replace(landmarks=points_in_boxes(faces.boxes, points_in_box))
        quality = np.minimum(widths, _FULL_PX) * (0.2 + 0.8 * frontality(placed.landmarks)) * faces.scores
        quality = np.where(np.isfinite(placed.landmarks).all(axis=(1, 2)), quality, 0).astype(np.float32)
        estimated = np.full((n, 3), np.nan, np.float32)
        return cls(faces, placed, time_s, cut, np.full(n, -1, np.int64), widths, quality, estimated)

    @property
    def comparable(self) -> NDArray[np.bool_]:
        return (self.quality > 0) & (self.widths >= EMBEDDED_PX)

    def finished(self) -> Faces:
        female, age, spread = self.estimated.T
        return self.faces.replace(track_ids=self.ids, female_prob=female, age_years=age, age_std_years=spread)


@dataclass(eq=False)
class BestCrop:
    """A face cut out, to be compared or judged."""

    seen: TrackedFace
    row: int
    crop: AlignedCrop
    since_s: float
    """When the stretch of time began of which it is the best view."""

    @property
    def quality(self) -> float:
        return float(self.seen.quality[self.row])

    @property
    def width_px(self) -> float:
        return float(self.seen.widths[self.row])


class BestCrops:
    """The best view of each tracklet in each stretch of time.

    Args:
        every_s: Length of a stretch.
        spread: After so many crops of a tracklet its stretches become twice as long.
    """

    def __init__(self, every_s: float, spread: Sequence[int] = ()) -> None:
        self._every_s = every_s - 1e-6
        self._spread = spread
        self._taken: Counter[int] = Counter()
        self._best: dict[int, BestCrop] = {}
        self.finished: list[tuple[int, BestCrop]] = []
        """The tracklet and its view, of each stretch that is over."""

    def _stretch_s(self, tracklet: int) -> float:
        return self._every_s * 2 ** sum(self._taken[tracklet] >= limit for limit in self._spread)

    def wants(self, seen: TrackedFace, row: int) -> bool:
        """Whether a view is worth cutting out."""
        tracklet = int(seen.ids[row])
        best = self._best.get(tracklet)
        if best is None or seen.time_s - best.since_s >= self._stretch_s(tracklet):
            return True
        return bool(seen.quality[row] > _BETTER * best.quality)

    def offer(self, tracklet: int, view: BestCrop) -> None:
        """Keep a view if it is the best of its stretch of time."""
        best = self._best.get(tracklet)
        if best is not None and view.seen.time_s - best.since_s < self._stretch_s(tracklet):
            if view.quality <= best.quality:
                return
            view.since_s = best.since_s
        elif best is not None:
            self._close(tracklet)
        self._best[tracklet] = view

    def keep_only(self, alive: set[int]) -> None:
        """The other tracklets have ended."""
        for tracklet in sorted(self._best.keys() - alive):
            self._close(tracklet)

    def _close(self, tracklet: int) -> None:
        self.finished.append((tracklet, self._best.pop(tracklet)))
        self._taken[tracklet] += 1
