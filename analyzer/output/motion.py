"""How boxes move between samples: the same motion in annotated videos, in subtitles and in players.

Boxes are known in samples. In between, the box of a tracked face moves at constant speed from one sighting
to the next; at the end of a track it stays for a moment. Faces are hidden for longer than their boxes show.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyzer.faces import iou

__all__ = ["Motion", "Placing", "Spans", "Sweep", "cover", "scaled"]

Boxes = NDArray[np.float32]

Ints = NDArray[np.int64]

Floats = NDArray[np.float64]

_JOIN_S = 1.0
"""Boxes move between two sightings at most this far apart, or at most two samples."""

_JOIN_IOU = 0.3

_HIDDEN_S = 0.5
"""A face is hidden for at least this long before its first and after its last sighting."""


@dataclass(frozen=True)
class Spans:
    """N time spans, sorted by start, in each of which a box stands still or moves at constant speed."""

    begin_s: Floats
    """(N,) start in seconds, inclusive."""
    end_s: Floats
    """(N,) end in seconds, exclusive."""
    first: Boxes
    """(N, 4) the box at the start, in pixels."""
    last: Boxes
    """(N, 4) the box at the end, in pixels."""
    person: Ints
    """(N,) person ids, -1 for uncounted faces."""

    @classmethod
    def of(cls, begin_s: Floats, end_s: Floats, first: Boxes, last: Boxes, person: Ints) -> Spans:
        order = np.argsort(begin_s, kind="stable")
        return cls(begin_s[order], end_s[order], first[order], last[order], person[order])


class Sweep:
    """The active boxes at increasing times."""

    def __init__(self, spans: Spans) -> None:
        self._spans = spans
        self._read = 0
        self._active: Ints = np.empty(0, np.int64)

    def at(self, time_s: float) -> tuple[Boxes, Ints]:
        """(M, 4) boxes and (M,) person ids at `time_s`, which must not decrease between calls."""
        spans = self._spans
        now = time_s + 1e-6  # times read from a file may differ in the last digits
        read = int(np.searchsorted(spans.begin_s, now, "right"))
        active = np.concatenate([self._active, np.arange(self._read, read)])
        self._read = read
        self._active = active = active[spans.end_s[active] > now]
        begin, end = spans.begin_s[active], spans.end_s[active]
        way = np.clip((time_s - begin) / (end - begin), 0, 1)[:, None].astype(np.float32)
        boxes: Boxes = spans.first[active] + (spans.last[active] - spans.first[active]) * way
        return boxes, spans.person[active]


class Motion:
    """The faces table as boxes at any time.

    Attributes:
        boxes: (N, 4) float32 boxes, in the order of `times_s` and `persons`, by tracklet.
        times_s: (N,) seconds.
        persons: (N,) person ids, -1 for faces that belong to no person.
    """

    def __init__(
        self, faces: pd.DataFrame, samples: pd.DataFrame, fps: float, size: tuple[int, int] | None = None
    ) -> None:
        """Prepare the tables.

        Args:
            faces: The faces table.
            samples: The samples table.
            fps: Samples per second, in case that there is a single sample.
            size: Width and height, in pixels, of the output in which boxes are wanted; frames of another size
                are scaled to fit. None: boxes stay in pixels of their own samples.
        """
        table = faces.sort_values(["segment", "tracklet_id", "time_s"], kind="stable")
        self.times_s: Floats = table["time_s"].to_numpy(np.float64)
        boxes: Boxes = table[["x1", "y1", "x2", "y2"]].to_numpy(np.float32)
        self.boxes = boxes if size is None else placed(boxes, self.times_s, samples, size)
        self.persons: Ints = table["person_id"].to_numpy(np.int64)
        self._tracklet: Ints = table["tracklet_id"].to_numpy(np.int64)
        self._segment: Ints = table["segment"].to_numpy(np.int64)
        self._sampled: Floats = np.unique(samples["time_s"].to_numpy(np.float64))
        steps = np.diff(self._sampled)
        self._step = float(np.median(steps)) if len(steps) else 1 / fps
        self._limit = max(_JOIN_S, 2 * self._step) + 1e-6
        self._from, self._to = self._pairs()

    def _pairs(self) -> tuple[Ints, Ints]:
        """Rows a and b, (P,) each, between which a face was tracked; its box is drawn moving from a to b."""
        a = np.arange(max(0, len(self.times_s) - 1))
        b = a + 1
        same = (self._segment[a] == self._segment[b]) & (self._tracklet[a] == self._tracklet[b])
        same &= self._tracklet[a] >= 0
        c, d = self._meetings(
            np.r_[True, ~same][: len(self.times_s)], np.r_[~same, True][: len(self.times_s)]
        )
        tracked = same & self._close(a, b)
        return np.r_[a[tracked], c], np.r_[b[tracked], d]

    def _meetings(self, head: NDArray[np.bool_], tail: NDArray[np.bool_]) -> tuple[Ints, Ints]:
        """Rows where a tracklet ends, and where the same person's next tracklet begins in the same place.

        Joining them keeps boxes from blinking at segment boundaries.

        Args:
            head: (N,) whether the row is the first of its tracklet.
            tail: (N,) whether it is the last.
        """
        known = self.persons > 0
        row = np.r_[np.flatnonzero(head & known), np.flatnonzero(tail & known)]
        ends = np.arange(len(row)) >= np.count_nonzero(head & known)
        order = np.lexsort((ends, self.times_s[row], self.persons[row]))
        row, ends = row[order], ends[order]
        c, d = row[:-1], row[1:]
        meets = ends[:-1] & ~ends[1:] & (self.persons[c] == self.persons[d]) & self._close(c, d)
        overlap = [
            iou(self.boxes[i : i + 1], self.boxes[j : j + 1]).item()
            for i, j in zip(c[meets], d[meets], strict=True)
        ]
        in_place = np.array(overlap) >= _JOIN_IOU
        return c[meets][in_place], d[meets][in_place]

    def _close(self, a: Ints, b: Ints) -> NDArray[np.bool_]:
        gap = self.times_s[b] - self.times_s[a]
        near: NDArray[np.bool_] = (gap > 0) & (gap <= self._limit)
        return near

    def shown(self) -> Spans:
        """The spans in which boxes are drawn: from sample to sample, and a little beyond the last sighting.

        A face that is missing in the next sample left at some time before it: its box is drawn for half the
        interval. A face that was not tracked may still be there, and so may all faces after the last sample:
        their boxes are drawn until the next sample is due.
        """
        a, b = self._from, self._to
        end = np.setdiff1d(np.arange(len(self.times_s)), a)
        stays = (self._tracklet[end] < 0) | (self.times_s[end] >= self._sampled.max(initial=-math.inf) - 1e-6)
        hold = np.minimum(self._gaps()[1][end], self._step) * np.where(stays, 1.0, 0.5)
        return Spans.of(
            np.r_[self.times_s[a], self.times_s[end]],
            np.r_[self.times_s[b], self.times_s[end] + hold],
            np.r_[self.boxes[a], self.boxes[end]],
            np.r_[self.boxes[b], self.boxes[end]],
            np.r_[self.persons[a], self.persons[end]],
        )

    def hidden(self) -> Spans:
        """The spans in which faces are hidden; they start earlier and last longer than those of boxes.

        Between two samples that cannot be joined, both positions are hidden all the time.
        """
        a, b = self._from, self._to
        rows = np.arange(len(self.times_s))
        begin, end = np.setdiff1d(rows, b), np.setdiff1d(rows, a)
        before, after = (np.maximum(1.5 * gaps, _HIDDEN_S) for gaps in self._gaps())
        # Speed is not constant: the faster the face, the wider the margin.
        margin = np.abs(self.boxes[b] - self.boxes[a]).max(axis=1, keepdims=True, initial=0) / 4
        still = cover(self.boxes, np.float32(0))
        return Spans.of(
            np.r_[self.times_s[a], self.times_s[begin] - before[begin], self.times_s[end]],
            np.r_[self.times_s[b], self.times_s[begin], self.times_s[end] + after[end]],
            np.r_[cover(self.boxes[a], margin), still[begin], still[end]],
            np.r_[cover(self.boxes[b], margin), still[begin], still[end]],
            np.r_[self.persons[a], self.persons[begin], self.persons[end]],
        )

    def _gaps(self) -> tuple[Floats, Floats]:
        """(N,) seconds since the sample before that of each face, and until the sample after it."""
        padded = np.r_[-math.inf, self._sampled, math.inf]
        before = self.times_s - padded[np.searchsorted(self._sampled, self.times_s - 1e-6, "left")]
        after = padded[np.searchsorted(self._sampled, self.times_s + 1e-6, "right") + 1] - self.times_s
        return (
            np.where(np.isfinite(before), before, self._step),
            np.where(np.isfinite(after), after, self._step),
        )


def cover(boxes: Boxes, margin: Boxes | np.float32) -> Boxes:
    """(N, 4) bounds of the ellipses that cover faces: around each box, plus a margin.

    Args:
        boxes: (N, 4) pixels.
        margin: (N, 1) pixels, or one number for all.
    """
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    reach = half * np.float32(1.05 * math.sqrt(2)) + 2 + margin
    return np.hstack([middle - reach, middle + reach])


class Placing(NamedTuple):
    """The position of a source frame in the output frame."""

    scale: float
    left: int
    top: int

    def boxes(self, boxes: Boxes) -> Boxes:
        """(N, 4) boxes in pixels of the output."""
        offset = np.array([self.left, self.top] * 2, np.float32)
        return boxes * np.float32(self.scale) + offset

    @classmethod
    def of(cls, wide: int, high: int, width: int, height: int) -> Placing:
        """The placing of a frame of `wide` by `high` pixels in an output of `width` by `height` pixels."""
        if (wide + wide % 2, high + high % 2) == (width, height):
            return cls(1, 0, 0)
        scale = min(width / wide, height / high)
        return cls(scale, (width - scaled(wide, scale)) // 2, (height - scaled(high, scale)) // 2)


def scaled(length: int, scale: float) -> int:
    return max(1, round(length * scale))


def placed(boxes: Boxes, times_s: Floats, samples: pd.DataFrame, size: tuple[int, int]) -> Boxes:
    """(N, 4) boxes in pixels of the output, from boxes in pixels of their samples.

    Args:
        boxes: (N, 4) pixels of their samples.
        times_s: (N,) seconds.
        samples: The samples table.
        size: Width and height of the output in pixels.
    """
    known = samples.sort_values("time_s")
    at = np.searchsorted(known["time_s"].to_numpy(np.float64), times_s + 1e-6, "right") - 1
    sizes = (
        known[["width", "height"]].to_numpy(np.int64)[np.maximum(at, 0)] if len(known) else np.empty((0, 2))
    )
    placed = boxes.copy()
    for wide, high in np.unique(sizes, axis=0).tolist():
        these = (sizes == (wide, high)).all(axis=1)
        placed[these] = Placing.of(wide, high, *size).boxes(boxes[these])
    return placed
