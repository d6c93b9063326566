"""ByteTrack: boxes are tracked through samples by place alone.

After Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box" (2022): a Kalman
filter predicts where each track is now, and the boxes go to the tracks by the best of all pairings. Every box
counts whatever its score, so the paper's second pass, for boxes of low score, has nothing left to do. Overlap
is measured with a margin around the boxes (Yang et al., "Hard to Track Objects with Irregular Motions and
Similar Appearances? Make It Easier by Buffering the Matching Space", 2023).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from analyzer.faces import buffered_iou

__all__ = ["ByteTrack", "best_pairs"]

# Variances in pixels: of a detected side, and of what a side and its speed (a sample) gain from one sample to
# the next.
_MEASURED = 0.1
_DRIFT = 0.01
# Samples this much nearer or farther apart than usual, in seconds, count as the usual distance.
_JITTER_S = 0.004

_MOST_TRIED = 400
"""Of so many assignments each is tried, which spares the import of SciPy: few faces compete for a place."""

Real = NDArray[np.float64]
Int = NDArray[np.int64]


@dataclass(eq=False)
class _Track:
    """A Kalman filter of a box that moves at constant speed.

    Its four sides move independently with the same noise, so one covariance serves all of them.
    """

    box: Real
    """(4,) pixels."""
    speed: Real = field(default_factory=lambda: np.zeros(4))
    """(4,) pixels per usual distance between samples."""
    box_var: float = 1.0
    cross_cov: float = 0.0
    speed_var: float = 1.0
    id: int = -1
    confirmed: bool = False
    """Whether it was seen a second time."""
    unseen_s: float = 0.0
    missed: int = 0
    """Samples since it was seen last."""

    def predict(self, step: float, *, usual: bool) -> None:
        """Move on by `step` usual distances between samples."""
        self.box = self.box + step * self.speed
        self.box_var += step * (2 * self.cross_cov + step * self.speed_var)
        self.cross_cov += step * self.speed_var
        if usual:
            self.box_var += _DRIFT
            self.speed_var += _DRIFT
        else:  # white noise of acceleration over a gap
            self.box_var += _DRIFT * step**4 / 4
            self.cross_cov += _DRIFT * step**3 / 2
            self.speed_var += _DRIFT * step**2

    def see(self, box: Real) -> None:
        """Take in a detection of it."""
        surprise = box - self.box
        box_gain = self.box_var / (self.box_var + _MEASURED)
        speed_gain = self.cross_cov / (self.box_var + _MEASURED)
        self.box = self.box + box_gain * surprise
        self.speed = self.speed + speed_gain * surprise
        self.speed_var -= speed_gain * self.cross_cov
        self.cross_cov *= 1 - box_gain
        self.box_var *= 1 - box_gain
        self.unseen_s, self.missed = 0.0, 0


class ByteTrack:
    """Tracks the boxes of one shot, given sample by sample.

    Args:
        interval_s: Usual distance between samples, in seconds.
        patience_s: A track that is not seen for longer ends.
        margin: Boxes are compared with this share of their size around them.
        least_iou: Boxes that then overlap less are never the same.
        named_at_once: Whether a track has its id from the first sighting on, before it is confirmed.
    """

    def __init__(
        self,
        interval_s: float,
        patience_s: float,
        *,
        margin: float,
        least_iou: float,
        named_at_once: bool = False,
    ) -> None:
        self._named_at_once = named_at_once
        self._interval_s = interval_s
        self._patience_s = patience_s
        self._margin = margin
        self._least_iou = least_iou
        self._tracks: list[_Track] = []
        self._time_s: float | None = None
        self._next_id = 0

    def update(self, boxes: Real, time_s: float) -> Int:
        """Take the next sample.

        Args:
            boxes: (N, 4) pixels.
            time_s: When it is shown, later than the one before.

        Returns:
            (N,) the track of each box; unless tracks are `named_at_once`, -1 where it begins one, which is
            known from its next sighting on.
        """
        self._predict(time_s)
        ids = np.full(len(boxes), -1, np.int64)
        places = np.array([track.box for track in self._tracks]).reshape(-1, 4)
        new = set(range(len(boxes)))
        for row, column in best_pairs(buffered_iou(places, boxes, self._margin), self._least_iou):
            track = self._tracks[row]
            track.see(boxes[column])
            track.confirmed = True
            ids[column] = self._named(track)
            new.remove(column)
        # One that was seen but once may be missed in one sample: more is noise of the detector.
        self._tracks = [track for track in self._tracks if track.confirmed or track.missed <= 1]
        for column in sorted(new):
            self._tracks.append(_Track(boxes[column].copy()))
            if self._named_at_once:
                ids[column] = self._named(self._tracks[-1])
        return ids

    def _named(self, track: _Track) -> int:
        if track.id < 0:
            track.id, self._next_id = self._next_id, self._next_id + 1
        return track.id

    def _predict(self, time_s: float) -> None:
        """Move the tracks to where they should be now, and end those that were not seen for too long."""
        elapsed_s = 0.0 if self._time_s is None else time_s - self._time_s
        self._time_s = time_s
        usual = abs(elapsed_s - self._interval_s) <= _JITTER_S
        for track in self._tracks:
            track.predict(elapsed_s / self._interval_s, usual=usual)
            track.unseen_s += elapsed_s
            track.missed += 1
        self._tracks = [track for track in self._tracks if track.unseen_s <= self._patience_s]


def best_pairs(fits: NDArray[np.float32], least: float) -> list[tuple[int, int]]:
    """The one-to-one assignment of rows to columns with the largest sum, without pairs below `least`.

    Args:
        fits: (N, M), nothing below 0.
        least: Above 0.

    Returns:
        Pairs of row and column, in the order of rows.

    >>> best_pairs(np.array([[0.9, 0.8], [0.8, 0.1]], np.float32), 0.2)  # not the largest first: 1.6, not 1.0
    [(0, 1), (1, 0)]
    >>> best_pairs(np.array([[0.9, 0.0, 0.0], [0.1, 0.0, 0.5]], np.float32), 0.2)
    [(0, 0), (1, 2)]
    """
    rows, columns = np.flatnonzero(fits.any(axis=1)), np.flatnonzero(fits.any(axis=0))
    fits = fits[np.ix_(rows, columns)]
    if not fits.size:
        return []
    # No sum is larger than that of each row's best column, or of each column's best row.
    if len(set(best := fits.argmax(axis=1).tolist())) == len(rows):
        pairs = list(enumerate(best))
    elif len(set(best := fits.argmax(axis=0).tolist())) == len(columns):
        pairs = sorted((row, column) for column, row in enumerate(best))
    else:
        pairs = sorted(pair for part in _parts(fits) for pair in _best_of_part(fits, *part))
    return [(int(rows[row]), int(columns[column])) for row, column in pairs if fits[row, column] >= least]


def _parts(fits: NDArray[np.float32]) -> Iterator[tuple[Int, Int]]:
    """Give the rows and the columns of each part of (N, M) `fits` that shares none with another."""
    left = np.ones(len(fits), bool)
    while left.any():
        rows = np.zeros_like(left)
        more = np.arange(len(fits)) == left.argmax()
        while (more != rows).any():
            rows, columns = more, fits[more].any(axis=0)
            more = fits[:, columns].any(axis=1) | rows
        left &= ~rows
        yield np.flatnonzero(rows), np.flatnonzero(columns)


def _best_of_part(fits: NDArray[np.float32], rows: Int, columns: Int) -> list[tuple[int, int]]:
    """Return the pairs of these rows and columns with the largest sum."""
    part = fits[np.ix_(rows, columns)]
    if math.perm(max(part.shape), min(part.shape)) > _MOST_TRIED:
        from scipy.optimize import linear_sum_assignment  # late: it takes long to import

        pairs = list(zip(*linear_sum_assignment(part, maximize=True), strict=True))
    else:
        turned = len(rows) > len(columns)
        values = (part.T if turned else part).astype(float).tolist()
        best = max(
            itertools.permutations(range(max(part.shape)), len(values)),
            key=lambda order: sum(row[column] for row, column in zip(values, order, strict=True)),
        )
        pairs = [(column, row) if turned else (row, column) for row, column in enumerate(best)]
    return [(int(rows[row]), int(columns[column])) for row, column in pairs]
