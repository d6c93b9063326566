"""Face tracking within a segment: tracklets, their best crops, and the embeddings of these.

A tracklet lies within one shot of one segment. While it is tracked, its few best crops are kept; when it ends
they become one embedding and are discarded.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from analyzer.analysis.best_crops import BestCrop, BestCrops, TrackedSample
from analyzer.analysis.byte_track import ByteTrack, best_pairs
from analyzer.faces import (
    CropSource,
    FaceAligner,
    FaceEstimates,
    FaceReader,
    Faces,
    buffered_iou,
    iou,
)
from analyzer.settings import Settings
from analyzer.util.timing import StageTimer

__all__ = [
    "LOST_AFTER_S",
    "FaceTracker",
    "Tracklets",
    "byte_track",
    "lost_after_s",
    "track_faces",
]

Float = NDArray[np.float32]
Int = NDArray[np.int64]
Real = NDArray[np.float64]

LOST_AFTER_S = 1.0
"""A face not seen for longer starts a new tracklet (later if samples are farther apart)."""

_MATCH_MARGIN, _MATCH_IOU = 0.3, 0.1
"""Between samples a face moves by a part of its width: boxes match if they overlap this much with this margin
around them."""

_RIVAL = 0.7
"""If another tracklet fits a face by this share as well as its own, embeddings decide who is who."""

_LEARN = 8
"""Samples from which the usual distance between samples is learned before tracking starts."""

DOUBLED_AFTER = 4
"""After this many crops of a face, further ones add less and are taken half as often."""

_EMBEDDED_EVERY_S = 1.0
"""Of the crops of a tracklet in so much time, the best one counts for its embedding: more of them are nearly
the same, and hide how far a mean can be trusted."""

_OTHER_PERSON = 0.6
"""Embeddings of one tracklet farther apart than this are two people: the tracker has switched."""

_POOR = 0.5
"""A crop that is worth less than this share of the one before or after shows no switch: it may show what
covers the face."""

_PASSING_S = 2.0
"""Somebody who covers another face for less time has passed in front of it: the tracker has not switched."""

_BATCH = 16
"""Crops that are passed to a model at a time."""

_MOST_WAITING = 2
"""So many batches at most are being read, or wait for it."""


class Tracker(Protocol):
    """Tracks the boxes of one shot by position."""

    def update(self, boxes: Real, time_s: float) -> Int:
        """As `ByteTrack.update`."""


MakeTracker = Callable[[float], Tracker]


def lost_after_s(interval_s: float) -> float:
    """Return how long a face may be missing and still be tracked, for samples `interval_s` apart."""
    return max(LOST_AFTER_S, 2.5 * interval_s)


@dataclass(frozen=True, eq=False)
class Tracklets:
    """Embeddings of T tracklets of a segment: those with a crop good enough for one."""

    ids: Int
    """(T,) int64: `Faces.track_ids`, ascending."""
    embeddings: Float
    """(T, D) float32: mean over the crops, weighted by the squares of their worth."""
    crop_px: Float
    """(T,) float32: width in pixels of the widest face."""
    crops: Int
    """(T,) int64: number of crops."""

    def __post_init__(self) -> None:
        n = len(self.ids)
        if self.embeddings.ndim != 2 or not n == len(self.embeddings) == len(self.crop_px) == len(self.crops):
            raise ValueError(f"Tracklets needs arrays of one length, got {n}, {self.embeddings.shape}")

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class _Embedded:
    """A face with an embedding."""

    sample: TrackedSample
    row: int
    vector: Float
    since_s: float
    """Start of the interval of which it is the best crop."""

    @property
    def worth(self) -> float:
        return float(self.sample.worth[self.row])


@dataclass(eq=False)
class _Position:
    """The last position of a tracked face: box (4,) in pixels, speed in pixels per second, and time."""

    box: NDArray[np.float64]
    speed: NDArray[np.float64]
    time_s: float

    def at(self, time_s: float) -> NDArray[np.float64]:
        """Return the (4,) predicted box."""
        return self.box + self.speed * (time_s - self.time_s)

    def seen(self, box: Float, time_s: float) -> None:
        self.speed = (box - self.box) / max(time_s - self.time_s, 1e-6)
        self.box, self.time_s = box.astype(np.float64), time_s


class FaceTracker:
    """Tracks faces through the samples of one segment and keeps the best crops of each.

    By ByteTrack with buffered IoU and true times, chosen by measurement (docs/tracking.md). Samples are added
    one by one in the order of time.

    Args:
        reader: Computes embeddings and estimates from the best crops, or all; None: tracklets only.
        settings: How often crops are taken, and of which faces.
        aligner: Finds the landmarks of the faces that are cropped; None: those of the detector are used.
        make_tracker: Makes a tracker, given the usual distance between samples in seconds.
        points_in_box: `FaceDetector.points_in_box`.
        stages: Measures the time.
    """

    def __init__(
        self,
        reader: FaceReader | None = None,
        settings: Settings | None = None,
        *,
        aligner: FaceAligner | None = None,
        make_tracker: MakeTracker | None = None,
        points_in_box: Float | None = None,
        stages: StageTimer | None = None,
    ) -> None:
        settings = settings or Settings()
        self._reader = reader
        self._aligner = aligner
        # Attention depends on the landmarks of every sample.
        self._aligns_all = settings.scene == "audience"
        self._estimated_px = settings.min_estimate_px
        # None: every face is read.
        self._best_crops = (
            BestCrops(settings.estimate_every_s, DOUBLED_AFTER) if settings.estimate_every_s else None
        )
        self._make_tracker = make_tracker or byte_track
        self._points_in_box = points_in_box
        self._stages = stages or StageTimer()
        self._waiting: list[TrackedSample] = []
        self._samples: list[TrackedSample] = []
        self._tracker: Tracker | None = None
        self._interval_s = 0.0
        self._names: dict[int, int] = {}
        self._next_id = 0
        self._to_read: list[BestCrop] = []
        self._in_thread: ThreadPoolExecutor | None = None
        self._reading: deque[tuple[list[BestCrop], Future[FaceEstimates]]] = deque()
        self._embedded: list[_Embedded] = []
        self._positions: dict[int, _Position] = {}

    def add(
        self,
        faces: Faces,
        time_s: float,
        frame: CropSource | None = None,
        *,
        shot_boundary: bool = False,
        still: bool = False,
    ) -> None:
        """Add the next sample.

        Args:
            faces: Its faces.
            time_s: Its time, after that of the previous sample.
            frame: Source of the crops; not kept. None: no crop is taken from this sample.
            shot_boundary: Whether a shot boundary lies before it: all tracklets end there.
            still: Whether it is an image, not a frame of a video.
        """
        seen = TrackedSample.of(
            faces,
            time_s,
            shot_boundary=shot_boundary,
            points_in_box=self._points_in_box,
            still=still,
        )
        if self._interval_s:
            self._step(seen)
            self._take_crops(seen, frame)
        else:
            # Tracking has not started: each face may be the first crop of a tracklet.
            self._take_crops(seen, frame)
            self._waiting.append(seen)
            if len(self._waiting) > _LEARN:
                self._begin()
        self._read_meanwhile()

    def finish(self) -> tuple[list[Faces], Tracklets]:
        """Return the results.

        Returns:
            The faces of all samples with `track_ids`, from 0, and with the estimates that were made; and the
            embeddings of the tracklets.
        """
        self._begin()
        if self._samples:
            self._settle(self._samples[-1])
        if self._best_crops is not None:
            self._best_crops.keep_only(set())
        self._read_rest()
        tracklets = self._tracklets()
        return [seen.finished() for seen in self._samples], tracklets

    def _begin(self) -> None:
        if not self._waiting:
            return
        times = [seen.time_s for seen in self._waiting]
        self._interval_s = float(np.median(np.diff(times))) if len(times) > 1 else 1.0
        for seen in self._waiting:
            self._step(seen)
            for row in np.flatnonzero(seen.ids >= 0):
                self._offer(int(seen.ids[row]), seen.crops.pop(int(row), None))
        self._waiting = []

    def _step(self, seen: TrackedSample) -> None:
        """Assign the faces of a sample to tracklets."""
        with self._stages("track"):
            self._track(seen)

    def _track(self, seen: TrackedSample) -> None:
        before = self._samples[-1] if self._samples else None
        if self._tracker is None or seen.shot_boundary:
            self._tracker = self._make_tracker(self._interval_s)
            self._names = {}
            if before is not None:
                self._settle(before)
                before = None
            self._positions = {}
        tracked = self._tracker.update(seen.faces.boxes.astype(np.float64), seen.time_s)
        self._break_up(seen, tracked)
        new = [int(row) for row in np.flatnonzero(tracked >= 0) if int(tracked[row]) not in self._names]
        for row in np.flatnonzero(tracked >= 0):
            seen.ids[row] = self._names.setdefault(int(tracked[row]), self._next_id)
            self._next_id = max(self._next_id, int(seen.ids[row]) + 1)
        if before is not None:
            self._adopt(before, seen, tracked, new)
            self._settle(before)
        for row in np.flatnonzero(tracked >= 0):
            self._remember(int(tracked[row]), seen, int(row))
        gone_s = seen.time_s - lost_after_s(self._interval_s) - 1e-6
        self._positions = {one: live for one, live in self._positions.items() if live.time_s >= gone_s}
        alive = {self._names[one] for one in self._positions}
        if self._best_crops is not None:
            self._best_crops.keep_only(alive)
        self._samples.append(seen)

    def _remember(self, tracked: int, seen: TrackedSample, row: int) -> None:
        box = seen.faces.boxes[row]
        if tracked in self._positions:
            self._positions[tracked].seen(box, seen.time_s)
        else:
            self._positions[tracked] = _Position(box.astype(np.float64), np.zeros(4), seen.time_s)

    def _break_up(self, seen: TrackedSample, tracked: Int) -> None:
        """End tracklets where people cross: the tracker knows positions only, and may have swapped them.

        Only where faces have embeddings, which then tell who went where.
        """
        alive = list(self._positions)
        if len(alive) < 2 or self._reader is None:
            return
        there = np.stack([self._positions[one].at(seen.time_s) for one in alive])
        fits = buffered_iou(there, seen.faces.boxes, _MATCH_MARGIN)
        row_of = {int(one): row for row, one in enumerate(tracked) if one >= 0}
        for row in np.flatnonzero(seen.embeddable & np.isin(tracked, alive)):
            mine = alive.index(int(tracked[row]))
            for rival in np.flatnonzero(fits[:, row] >= _MATCH_IOU):
                kept, swapped = fits[mine, row], fits[rival, row]
                other = row_of.get(alive[rival])
                if other is not None:
                    kept, swapped = kept + fits[rival, other], swapped + fits[mine, other]
                if rival != mine and swapped > _RIVAL * kept:
                    self._names.pop(int(tracked[row]), None)

    def _adopt(self, before: TrackedSample, seen: TrackedSample, tracked: Int, new: Sequence[int]) -> None:
        """Give each new tracklet its first face, which the tracker reports before the tracklet has an id."""
        free = np.flatnonzero(before.ids < 0)
        new = [row for row in new if int(tracked[row]) not in self._positions]
        if not new or not len(free):
            return
        overlap = buffered_iou(before.faces.boxes[free], seen.faces.boxes[list(new)], _MATCH_MARGIN)
        # The best assignment, as in the tracker: nearest first would give a face to a neighbor.
        for row, column in best_pairs(overlap, _MATCH_IOU):
            tracklet = int(seen.ids[new[column]])
            before.ids[free[row]] = tracklet
            self._remember(int(tracked[new[column]]), before, int(free[row]))
            self._offer(tracklet, before.crops.pop(int(free[row]), None))

    def _settle(self, seen: TrackedSample) -> None:
        """Make each face without a tracklet one of its own."""
        for row in np.flatnonzero(seen.ids < 0):
            seen.ids[row] = self._next_id
            self._next_id += 1
            self._offer(int(seen.ids[row]), seen.crops.get(int(row)))
        seen.crops.clear()

    def _take_crops(self, seen: TrackedSample, frame: CropSource | None) -> None:
        """Crop the faces that may be the best of their interval."""
        if frame is None:
            return
        # What faces without landmarks are worth is known only then.
        first = self._aligns_all | ~np.isfinite(seen.landmarked.landmarks).all(axis=(1, 2))
        self._align(seen, np.flatnonzero(first), frame)
        if self._reader is None:
            return
        rows = np.flatnonzero(seen.embeddable | seen.wide_enough(self._estimated_px))
        best_crops = self._best_crops
        if best_crops is None:
            self._align(seen, rows, frame)
            self._to_read += self._taken(seen, frame, rows)
            return
        rows = rows[[best_crops.wants(seen, row) for row in rows.tolist()]]
        self._align(seen, rows, frame)
        for row in rows.tolist():
            best_crops.tried(seen, row)
        rows = rows[[best_crops.wants(seen, row) for row in rows.tolist()]]
        for crop in self._taken(seen, frame, rows):
            if seen.ids[crop.row] < 0:
                seen.crops[crop.row] = crop
            else:
                best_crops.offer(int(seen.ids[crop.row]), crop)

    def _align(self, seen: TrackedSample, rows: Int, frame: CropSource) -> None:
        if len(rows):
            with self._stages("align"):
                seen.align(rows, frame, self._aligner)

    def _taken(self, seen: TrackedSample, frame: CropSource, rows: Int) -> list[BestCrop]:
        """Crop some of the faces."""
        if self._reader is None or not len(rows):
            return []
        with self._stages("crops"):
            crops = self._reader.crops(frame, seen.landmarked[rows])
        return [
            BestCrop(seen, row, crop, seen.time_s, float(seen.promise[row]))
            for row, crop in zip(rows.tolist(), crops, strict=True)
        ]

    def _offer(self, tracklet: int, crop: BestCrop | None) -> None:
        if crop is not None and self._best_crops is not None:
            self._best_crops.offer(tracklet, crop)

    def _crops_to_read(self, at_least: int) -> list[BestCrop]:
        """Return the crops taken so far and forget them, if there are at least so many and a reader."""
        if self._best_crops is not None:
            self._to_read += self._best_crops.finished
            self._best_crops.finished.clear()
        if self._reader is None or len(self._to_read) < at_least:
            return []
        crops, self._to_read = self._to_read, []
        return crops

    def _read_meanwhile(self) -> None:
        """Run the models on the crops taken so far, while tracking goes on, if they fill a batch."""
        if crops := self._crops_to_read(_BATCH):
            if self._in_thread is None:
                self._in_thread = ThreadPoolExecutor(1, "reading-crops")
            self._reading.append((crops, self._in_thread.submit(self._estimates, crops)))
            self._take_estimates(_MOST_WAITING)

    def _read_rest(self) -> None:
        """Run the models on all that is left."""
        self._take_estimates(0)
        if self._in_thread is not None:
            self._in_thread.shutdown()
        if crops := self._crops_to_read(1):
            self._estimated(crops, self._estimates(crops))

    def _take_estimates(self, most_waiting: int) -> None:
        """Take what was read, until so many batches at most are left."""
        while len(self._reading) > most_waiting:
            crops, reading = self._reading.popleft()
            self._estimated(crops, reading.result())

    def _estimates(self, crops: Sequence[BestCrop]) -> FaceEstimates:
        assert self._reader is not None
        with self._stages("estimate"):
            return self._reader.read([one.crop for one in crops])

    def _estimated(self, crops: Sequence[BestCrop], read: FaceEstimates) -> None:
        estimates = np.column_stack([read.female_prob, read.age_years, read.age_std_years])
        for one, vector, estimate in zip(crops, read.embeddings, estimates, strict=True):
            if one.sample.wide_enough(self._estimated_px)[one.row]:
                one.sample.estimated[one.row] = estimate
            if one.sample.embeddable[one.row]:
                self._embedded.append(_Embedded(one.sample, one.row, vector, one.since_s))

    def _tracklets(self) -> Tracklets:
        """Return the embeddings of the tracklets; one that has switched to another person is split."""
        crops_of: dict[int, list[_Embedded]] = {}
        for one in sorted(self._embedded, key=lambda one: one.sample.time_s):
            crops_of.setdefault(int(one.sample.ids[one.row]), []).append(one)
        made: dict[int, tuple[Float, float, int]] = {}
        for first, read in crops_of.items():
            tracklet = first
            for part, since in _of_one_person(_without_passers(read)):
                if since is not None:
                    tracklet = self._split(tracklet, since.sample.time_s, part[0].sample.time_s)
                made[tracklet] = _described(part)
        ids = sorted(made)
        size = 0 if self._reader is None else self._reader.size
        return Tracklets(
            np.array(ids, np.int64),
            np.array([made[one][0] for one in ids], np.float32).reshape(len(ids), size),
            np.array([made[one][1] for one in ids], np.float32),
            np.array([made[one][2] for one in ids], np.int64),
        )

    def _split(self, tracklet: int, before_s: float, after_s: float) -> int:
        """Give the later part of a tracklet a new id, and return it."""
        rows = [
            (seen, row)
            for seen in self._samples
            if seen.time_s > before_s - 1e-6
            for row in np.flatnonzero(seen.ids == tracklet)
        ]

        def overlap(index: int) -> float:
            (one, a), (two, b) = rows[index - 1 : index + 1]
            return float(iou(one.faces.boxes[[a]], two.faces.boxes[[b]])[0, 0])

        # It has switched where two neighboring boxes overlap least.
        between = [i for i in range(1, len(rows)) if rows[i][0].time_s <= after_s + 1e-6]
        for seen, row in rows[min(between, key=overlap) :]:
            seen.ids[row] = self._next_id
        self._next_id += 1
        return self._next_id - 1


def _is_other(one: _Embedded, another: _Embedded) -> bool:
    """Tell whether two crops show two people."""
    return bool(np.linalg.norm(one.vector - another.vector) > _OTHER_PERSON)


def _without_passers(crops: Sequence[_Embedded]) -> list[_Embedded]:
    """Return the crops of a tracklet, in the order of time, without those of somebody who passes in front.

    The crops before and after such a one show the same person, and it shows another.
    """
    kept = list(crops[:1])
    for one, after in itertools.pairwise(crops[1:]):
        before = kept[-1]
        passes = after.sample.time_s - before.sample.time_s <= _PASSING_S + 1e-6
        if not (passes and _is_other(before, one) and _is_other(one, after) and not _is_other(before, after)):
            kept.append(one)
    return [*kept, *crops[1:][-1:]]


def _of_one_person(crops: Sequence[_Embedded]) -> Iterator[tuple[list[_Embedded], _Embedded | None]]:
    """Divide the crops of a tracklet, in the order of time, where it has switched to another person.

    Yields:
        The crops of one person, and the last one before them that was compared; None for the first person.
    """
    worths = [0.0, *(one.worth for one in crops), 0.0]
    part: list[_Embedded] = []
    since: _Embedded | None = None
    compared: _Embedded | None = None
    for one, before, after in zip(crops, worths[:-2], worths[2:], strict=True):
        if one.worth >= _POOR * max(before, after):
            if compared is not None and _is_other(compared, one):
                yield part, since
                part, since = [], compared
            compared = one
        part.append(one)
    yield part, since


def _best_of_each_interval(crops: Sequence[_Embedded]) -> list[_Embedded]:
    """Return the best crop of each `_EMBEDDED_EVERY_S`, from crops in the order of time."""
    best: list[_Embedded] = []
    since_s = -np.inf
    for one in crops:
        if one.since_s - since_s >= _EMBEDDED_EVERY_S - 1e-6:
            since_s = one.since_s
            best.append(one)
        elif one.worth > best[-1].worth:
            best[-1] = one
    return best


def _described(crops: Sequence[_Embedded]) -> tuple[Float, float, int]:
    """Return the mean embedding, the width of the widest face, and the number of crops that count."""
    best = _best_of_each_interval(crops)
    mean = np.average([one.vector for one in best], axis=0, weights=[one.worth**2 for one in best])
    return mean.astype(np.float32), max(float(one.sample.widths[one.row]) for one in best), len(best)


def track_faces(
    found: Sequence[Faces], times_s: Sequence[float], shot_boundaries: Sequence[bool] | None = None
) -> list[Faces]:
    """Track faces through the samples of a segment: fill in `track_ids`, from 0.

    A face that is seen once gets a tracklet of its own.

    Args:
        found: The faces of each sample.
        times_s: Times of the samples, strictly increasing.
        shot_boundaries: Whether a shot boundary lies before each sample.

    >>> walk = [Faces.build(boxes=[[x, 0, x + 20, 20]], scores=[0.9]) for x in (0, 8, 16)]
    >>> [faces.track_ids.tolist() for faces in track_faces(walk, [0.0, 0.2, 0.4])]
    [[0], [0], [0]]
    """
    tracker = FaceTracker()
    boundaries = shot_boundaries or [False] * len(found)
    for faces, time_s, boundary in zip(found, times_s, boundaries, strict=True):
        tracker.add(faces, time_s, shot_boundary=boundary)
    return tracker.finish()[0]


def byte_track(interval_s: float, *, named_at_once: bool = False) -> ByteTrack:
    """Return a tracker for one shot, given the usual distance between samples in seconds."""
    return ByteTrack(
        interval_s,
        lost_after_s(interval_s),
        margin=_MATCH_MARGIN,
        least_iou=_MATCH_IOU,
        named_at_once=named_at_once,
    )
