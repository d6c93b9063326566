"""The best crops of a tracked face, from which its embedding is computed and gender and age are estimated."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from analyzer.faces import (
    AlignedCrop,
    CropSource,
    FaceAligner,
    Faces,
    face_widths,
    frontality,
    points_in_boxes,
)

__all__ = [
    "EMBEDDED_PX",
    "FULL_PX",
    "BestCrop",
    "BestCrops",
    "TrackedSample",
]

Float = NDArray[np.float32]
Int = NDArray[np.int64]

EMBEDDED_PX, STILL_EMBEDDED_PX = 16, 12
"""Narrower faces, in pixels, are not aligned and get no embedding (in a video, and in images of a folder)."""

_BETTER = 1.15
"""A crop must be better by this factor to replace another one: cropping takes time."""

FULL_PX = 100.0
"""Width from which on more pixels add nothing: it suffices for the crop of the embedding."""

_LANDMARKS_MIDDLE = np.array([0.5, 0.55], np.float32)
"""Where the mean of a face's landmarks lies in its box, as shares of its sides."""

_CLEAR = 0.6
"""As long as the best crop has a lower `Faces.quality`, further ones are tried, ever less often."""

_RETRY_S, _MOST_DOUBLINGS = 0.2, 3
"""How long the first further try waits after an unclear one; twice as long after each that is unclear too, up
to so many times: a face that is turned away stays so for longer than one sample."""


@dataclass(eq=False)
class TrackedSample:
    """The N faces of one sample while they are tracked."""

    faces: Faces
    landmarked: Faces
    """`faces` with average landmarks if the detector finds none, and with those of the aligner where it was
    called: crops are aligned by them."""
    time_s: float
    shot_boundary: bool
    still: bool
    """Whether it is an image, not a frame of a video."""
    ids: Int
    """(N,) the tracklet of each face; -1 for none so far."""
    widths: Float
    """(N,) pixels."""
    worth: Float
    """(N,) how much a crop of each face tells; 0 for nothing. Before alignment it is `promise`."""
    promise: Float
    """(N,) the same, as far as the detector can tell."""
    estimated: Float
    """(N, 3) probability of female, age and its standard deviation in years; NaN if not estimated."""
    crops: dict[int, BestCrop] = field(default_factory=dict)
    """Crops of faces without a tracklet so far, by the row of the face."""

    @classmethod
    def of(
        cls,
        faces: Faces,
        time_s: float,
        *,
        shot_boundary: bool,
        points_in_box: Float | None,
        still: bool = False,
    ) -> Self:
        """Prepare the faces of a sample; arguments as in `FaceTracker.add`."""
        n, widths = len(faces), face_widths(faces.boxes)
        landmarked = faces
        if points_in_box is not None:
            landmarked = faces.replace(landmarks=points_in_boxes(faces.boxes, points_in_box))
        estimated = np.full((n, 3), np.nan, np.float32)
        ids = np.full(n, -1, np.int64)
        worth = _worth(widths, landmarked.landmarks, faces.scores)
        return cls(
            faces, landmarked, time_s, shot_boundary, still, ids, widths, worth, worth.copy(), estimated
        )

    def align(self, rows: Int, frame: CropSource, aligner: FaceAligner | None) -> None:
        """Align some of the faces, unless they are aligned already or there is no aligner.

        Args:
            rows: (M,) which faces.
            frame: The full frame.
            aligner: Finds their landmarks, and how clearly they show.
        """
        rows = rows[np.isnan(self.landmarked.quality[rows])]
        if aligner is None or not len(rows):
            return
        # Images are few, and may not be upright.
        found = aligner.align(frame, self.landmarked[rows], any_roll=self.still)
        own = _own_landmarks(found.landmarks, self.faces.boxes, rows)
        landmarks, quality = self.landmarked.landmarks.copy(), self.landmarked.quality.copy()
        landmarks[rows[own]] = found.landmarks[own]
        quality[rows] = np.where(own, found.quality, 0)
        self.landmarked = self.landmarked.replace(landmarks=landmarks, quality=quality)
        self.worth[rows] = _worth(self.widths[rows], landmarks[rows], 0.1 + 0.9 * quality[rows])

    @property
    def embeddable(self) -> NDArray[np.bool_]:
        """(N,) whether each face is good enough for an embedding."""
        return (self.worth > 0) & (self.widths >= (STILL_EMBEDDED_PX if self.still else EMBEDDED_PX))

    def wide_enough(self, least_px: float) -> NDArray[np.bool_]:
        """(N,) whether each face is wide enough to estimate its gender and age."""
        return (self.worth > 0) & (self.widths >= least_px)

    def finished(self) -> Faces:
        """Return the faces with their tracklets and estimates."""
        female, age, std = self.estimated.T
        quality = self.landmarked.quality
        aligned = (quality > 0)[:, None, None]
        return self.faces.replace(
            landmarks=np.where(aligned, self.landmarked.landmarks, self.faces.landmarks),
            quality=quality,
            track_ids=self.ids,
            female_prob=female,
            age_years=age,
            age_std_years=std,
        )


def _own_landmarks(landmarks: Float, boxes: Float, rows: Int) -> NDArray[np.bool_]:
    """Tell whether landmarks are those of the face itself, not of a neighbor that the crop shows too.

    Of a half covered face the aligner finds the one that covers it, and of a face that was detected twice
    both crops show the same: landmarks belong to the box in whose middle they lie.

    Args:
        landmarks: (M, 5, 2) of some faces.
        boxes: (N, 4) of all faces of the sample.
        rows: (M,) which faces these are.

    Returns:
        (M,) bool.
    """
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-6)
    middles = boxes[:, :2] + _LANDMARKS_MIDDLE * sides
    away = np.linalg.norm((landmarks.mean(axis=1)[:, None] - middles) / sides, axis=2)
    return np.asarray(away[np.arange(len(rows)), rows] <= away.min(axis=1))


def _worth(widths: Float, landmarks: Float, clarity: Float) -> Float:
    """Return (N,) how much crops of faces tell: 0 to `FULL_PX`; 0 without landmarks."""
    worth = np.minimum(widths, FULL_PX) * (0.2 + 0.8 * frontality(landmarks)) * clarity
    return np.where(np.isfinite(landmarks).all(axis=(1, 2)), worth, 0).astype(np.float32)


@dataclass(eq=False)
class BestCrop:
    """The crop of one face."""

    sample: TrackedSample
    row: int
    """Row of the face in `sample`."""
    crop: AlignedCrop
    since_s: float
    """Start of the interval of which it is the best crop."""
    promise: float
    """`TrackedSample.promise`."""

    @property
    def worth(self) -> float:
        return float(self.sample.worth[self.row])

    @property
    def quality(self) -> float:
        """`Faces.quality`; NaN without an aligner."""
        return float(self.sample.landmarked.quality[self.row])


class BestCrops:
    """The best crop of each tracklet in each interval of time.

    Args:
        every_s: Length of an interval.
        doubled_after: Number of crops after which the intervals of a tracklet become twice as long.
    """

    def __init__(self, every_s: float, doubled_after: int) -> None:
        self._every_s = every_s - 1e-6
        self._doubled_after = doubled_after
        self._taken: Counter[int] = Counter()
        self._best: dict[int, BestCrop] = {}
        self._unclear: Counter[int] = Counter()
        """How many tries in a row were unclear, of each tracklet."""
        self._retry_s: dict[int, float] = {}
        """When a further crop of each of these is tried."""
        self.finished: list[BestCrop] = []
        """The best crop of each interval that has ended."""

    def _interval_s(self, tracklet: int) -> float:
        return self._every_s * (2 if self._taken[tracklet] >= self._doubled_after else 1)

    def wants(self, sample: TrackedSample, row: int) -> bool:
        """Tell whether a face is worth cropping, or aligning if that was not done."""
        tracklet = int(sample.ids[row])
        best = self._best.get(tracklet)
        if best is None or sample.time_s - best.since_s >= self._interval_s(tracklet):
            return True
        if np.isfinite(best.quality) and np.isnan(sample.landmarked.quality[row]):
            retries = best.quality < _CLEAR and sample.time_s >= self._retry_s.get(tracklet, -np.inf)
            return retries or bool(sample.worth[row] > _BETTER * best.promise)
        return bool(sample.worth[row] > _BETTER * best.worth)

    def tried(self, sample: TrackedSample, row: int) -> None:
        """Learn from a face that was aligned whether, and when, another one of its tracklet should be."""
        tracklet, quality = int(sample.ids[row]), sample.landmarked.quality[row]
        if tracklet < 0 or np.isnan(quality):
            return
        if quality >= _CLEAR:
            self._unclear[tracklet] = 0
            return
        waits_s = _RETRY_S * 2 ** min(self._unclear[tracklet], _MOST_DOUBLINGS)
        self._unclear[tracklet] += 1
        self._retry_s[tracklet] = sample.time_s + waits_s - 1e-6

    def offer(self, tracklet: int, crop: BestCrop) -> None:
        """Keep a crop if it is the best of its interval."""
        best = self._best.get(tracklet)
        if best is not None and crop.sample.time_s - best.since_s < self._interval_s(tracklet):
            if crop.worth <= best.worth:
                return
            crop.since_s = best.since_s
        elif best is not None:
            self._close(tracklet)
        self._best[tracklet] = crop

    def keep_only(self, alive: set[int]) -> None:
        """End the intervals of all other tracklets."""
        for tracklet in sorted(self._best.keys() - alive):
            self._close(tracklet)

    def _close(self, tracklet: int) -> None:
        self.finished.append(self._best.pop(tracklet))
        self._taken[tracklet] += 1
