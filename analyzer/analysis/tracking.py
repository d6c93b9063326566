"""Following faces inside a segment: tracklets, and what their best crops look like.

A tracklet lives inside one shot of one segment. While it lives, its few best crops are kept as small
pictures; when it ends they become one embedding and are forgotten.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from analyzer.analysis.best_crops import LESS_CLOSE, BestCrop, BestCrops, TrackedFace
from analyzer.analysis.byte_track import ByteTrack, best_pairs
from analyzer.faces import AlignedCrop, AttributeModel, EmbeddingModel, Faces, Picture, buffered_iou, iou
from analyzer.settings import Settings
from analyzer.util.timing import StageTimer

__all__ = [
    "LOST_AFTER_S",
    "FaceTracker",
    "Tracklets",
    "byte_track",
    "follow",
    "lost_after_s",
]

Float = NDArray[np.float32]


Int = NDArray[np.int64]


Real = NDArray[np.float64]


LOST_AFTER_S = 1.0
"""A face not seen for longer begins a new tracklet (longer where samples are further apart)."""


# Between samples a face moves by a part of its width: boxes are compared with this margin around them.
_MATCH_MARGIN = 0.3


_MATCH_IOU = 0.1


# Where another tracklet fits a face this share as well as its own, who is who is left to the faces' looks.
_RIVAL = 0.7


# Samples from which a segment's usual distance between samples is learnt before following begins.
_LEARN = 8


# After so many judged crops of a tracklet another one says less: they are taken twice, then four times as
# far apart. Views to be compared are not: they tell when a tracklet goes over to another person.
_SPREAD = (4, 8)


# Views of one tracklet farther apart than this are two people: the tracker went over to another one.
_OTHER_PERSON = 0.6


_TOGETHER = 16


_NO_CROP: AlignedCrop = ()


class Tracker(Protocol):
    """Tracks the boxes of one shot by place."""

    def update(self, boxes: Real, time_s: float) -> Int:
        """As `ByteTrack.update`."""


MakeTracker = Callable[[float], Tracker]


def lost_after_s(interval_s: float) -> float:
    """How long a face may be lost and still be followed, given the usual distance between samples."""
    return max(LOST_AFTER_S, 2.5 * interval_s)


@dataclass(frozen=True, eq=False)
class Tracklets:
    """What T tracklets of a segment look like; only those with a view good enough to be compared."""

    ids: Int
    """(T,) int64: `Faces.track_ids`, ascending."""
    embeddings: Float
    """(T, D) float32: mean of the crops' embeddings, weighted by their quality."""
    crop_px: Float
    """(T,) float32: width in pixels of the widest view."""
    crops: Int
    """(T,) int64: how many crops were compared."""

    def __post_init__(self) -> None:
        n = len(self.ids)
        if self.embeddings.ndim != 2 or not n == len(self.embeddings) == len(self.crop_px) == len(self.crops):
            raise ValueError(f"Tracklets needs arrays of one length, got {n}, {self.embeddings.shape}")

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(eq=False)
class _Live:
    """Where a face that is followed was last: box (4,) in pixels, its speed in pixels a second, and when."""

    box: NDArray[np.float64]
    speed: NDArray[np.float64]
    time_s: float

    def at(self, time_s: float) -> NDArray[np.float64]:
        """(4,) where it should be now."""
        return self.box + self.speed * (time_s - self.time_s)

    def seen(self, box: Float, time_s: float) -> None:
        self.speed = (box - self.box) / max(time_s - self.time_s, 1e-6)
        self.box, self.time_s = box.astype(np.float64), time_s


class FaceTracker:
    """Follows faces through the samples of one segment and keeps the best crops of each.

    By ByteTrack with buffered IoU, told the true times; chosen by measurement (docs/tracking.md). Samples
    are given one by one in the order of time.

    Args:
        embedding: Makes embeddings of the best crops; None: tracklets only.
        attributes: Judges the best crops, or all; None: nobody is judged.
        settings: Gives how often a view is taken, and what is judged.
        make_tracker: Makes a tracker, given the usual distance between samples in seconds.
        points_in_box: `FaceDetector.points_in_box`.
        stages: Counts the time.
    """

    def __init__(
        self,
        embedding: EmbeddingModel | None = None,
        attributes: AttributeModel | None = None,
        settings: Settings | None = None,
        *,
        make_tracker: MakeTracker | None = None,
        points_in_box: Float | None = None,
        stages: StageTimer | None = None,
    ) -> None:
        settings = settings or Settings()
        self._embedding = embedding
        self._attributes = attributes
        self._estimated_px = settings.min_estimate_px
        self._compared_views = BestCrops(settings.embed_every_s)
        self._judged_views = (
            BestCrops(settings.estimate_every_s, _SPREAD) if settings.estimate_every_s else None
        )
        self._make_tracker = make_tracker or byte_track
        self._points_in_box = points_in_box
        self._stages = stages or StageTimer()
        self._waiting: list[TrackedFace] = []
        self._samples: list[TrackedFace] = []
        self._tracker: Tracker | None = None
        self._interval_s = 0.0
        self._names: dict[int, int] = {}
        self._next_id = 0
        self._to_estimate: list[tuple[TrackedFace, int, AlignedCrop]] = []
        self._compared: dict[int, list[tuple[BestCrop, Float]]] = {}
        self._live: dict[int, _Live] = {}
        self._answered: list[tuple[TrackedFace, int]] = []
        self._known: dict[int, list[Float]] = {}

    def add(
        self,
        faces: Faces,
        time_s: float,
        picture: Picture | None = None,
        *,
        cut: bool = False,
        close: bool = True,
    ) -> None:
        """Take the next sample.

        Args:
            faces: Its faces.
            time_s: When it is shown, later than the one before.
            picture: What crops are cut from; not kept. None: no view is taken of this sample.
            cut: Whether a cut lies between the sample before and this one: no tracklet lives on.
            close: Whether faces were looked for in full size: its crops are preferred.
        """
        seen = TrackedFace.of(faces, time_s, cut=cut, points_in_box=self._points_in_box)
        if not close:
            seen.quality *= LESS_CLOSE
        if self._interval_s:
            self._step(seen)
            self._cut_views(seen, picture)
        else:
            # Not followed yet: each face may be a tracklet's first view.
            self._cut_views(seen, picture)
            self._waiting.append(seen)
            if len(self._waiting) > _LEARN:
                self._begin()
        self._ask(_TOGETHER)

    def latest(self) -> Faces:
        """The faces of the sample that was added last, with what is known of their tracklets so far.

        To be shown, not kept: the tracklets of the last samples are not known yet (`track_ids` -1), and what
        is said of gender and age is the mean over the crops that were judged by now.
        """
        seen = (self._waiting or self._samples)[-1]
        nameless = []
        for one, row in self._answered:
            if one.ids[row] < 0:
                nameless.append((one, row))
            else:
                self._known.setdefault(int(one.ids[row]), []).append(one.estimated[row])
        self._answered = nameless
        known = np.full((len(seen.ids), 3), np.nan, np.float32)
        for row, tracklet in enumerate(seen.ids.tolist()):
            if answers := self._known.get(tracklet):
                known[row] = np.mean(answers, axis=0)
        female, age, spread = known.T
        return seen.faces.replace(
            track_ids=seen.ids.copy(), female_prob=female, age_years=age, age_std_years=spread
        )

    def finish(self) -> tuple[list[Faces], Tracklets]:
        """The samples' faces with `track_ids`, from 0, those judged with their gender and age; and what the
        tracklets look like."""
        self._begin()
        if self._samples:
            self._settle(self._samples[-1])
        for best_crops in self._best_crops:
            best_crops.keep_only(set())
        self._ask(1)
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
                self._offer(int(seen.ids[row]), seen.crops.pop(int(row), ()))
        self._waiting = []

    def _step(self, seen: TrackedFace) -> None:
        """Find out which tracklets the faces of a sample continue."""
        with self._stages("track"):
            self._follow(seen)

    def _follow(self, seen: TrackedFace) -> None:
        before = self._samples[-1] if self._samples else None
        if self._tracker is None or seen.cut:
            self._tracker = self._make_tracker(self._interval_s)
            self._names = {}
            if before is not None:
                self._settle(before)
                before = None
            self._live = {}
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
            self._note(int(tracked[row]), seen, int(row))
        gone_s = seen.time_s - lost_after_s(self._interval_s) - 1e-6
        self._live = {one: live for one, live in self._live.items() if live.time_s >= gone_s}
        alive = {self._names[one] for one in self._live}
        for best_crops in self._best_crops:
            best_crops.keep_only(alive)
        self._samples.append(seen)

    def _note(self, tracked: int, seen: TrackedFace, row: int) -> None:
        box = seen.faces.boxes[row]
        if tracked in self._live:
            self._live[tracked].seen(box, seen.time_s)
        else:
            self._live[tracked] = _Live(box.astype(np.float64), np.zeros(4), seen.time_s)

    def _break_up(self, seen: TrackedFace, tracked: Int) -> None:
        """End tracklets where people cross: the tracker goes by place alone, and may have swapped them.

        Only where faces can be compared: their looks then tell who went where.
        """
        alive = list(self._live)
        if len(alive) < 2 or self._embedding is None:
            return
        there = np.stack([self._live[one].at(seen.time_s) for one in alive])
        fits = buffered_iou(there, seen.faces.boxes, _MATCH_MARGIN)
        row_of = {int(one): row for row, one in enumerate(tracked) if one >= 0}
        for row in np.flatnonzero(seen.comparable & np.isin(tracked, alive)):
            mine = alive.index(int(tracked[row]))
            for rival in np.flatnonzero(fits[:, row] >= _MATCH_IOU):
                kept, swapped = fits[mine, row], fits[rival, row]
                other = row_of.get(alive[rival])
                if other is not None:
                    kept, swapped = kept + fits[rival, other], swapped + fits[mine, other]
                if rival != mine and swapped > _RIVAL * kept:
                    self._names.pop(int(tracked[row]), None)

    def _adopt(self, before: TrackedFace, seen: TrackedFace, tracked: Int, new: Sequence[int]) -> None:
        """Give each new tracklet its very first face, which the tracker returns before it has an id."""
        free = np.flatnonzero(before.ids < 0)
        new = [row for row in new if int(tracked[row]) not in self._live]
        if not new or not len(free):
            return
        overlap = buffered_iou(before.faces.boxes[free], seen.faces.boxes[list(new)], _MATCH_MARGIN)
        # The best of all pairings, as the tracker does it: nearest first would give a face to a neighbor.
        for row, column in best_pairs(overlap, _MATCH_IOU):
            tracklet = int(seen.ids[new[column]])
            before.ids[free[row]] = tracklet
            self._note(int(tracked[new[column]]), before, int(free[row]))
            self._offer(tracklet, before.crops.pop(int(free[row]), ()))

    def _settle(self, seen: TrackedFace) -> None:
        """A face that no tracklet has taken by now is a tracklet of its own."""
        for row in np.flatnonzero(seen.ids < 0):
            seen.ids[row] = self._next_id
            self._next_id += 1
            self._offer(int(seen.ids[row]), seen.crops.get(int(row), ()))
        seen.crops.clear()

    # --- crops ---

    @property
    def _best_crops(self) -> list[BestCrops]:
        return [self._compared_views] + ([self._judged_views] if self._judged_views else [])

    def _cut_views(self, seen: TrackedFace, picture: Picture | None) -> None:
        """Cut out the faces that may be the best crops of their stretch of time."""
        if picture is None:
            return
        estimated = (seen.quality > 0) & (seen.widths >= self._estimated_px)
        if self._embedding is not None:
            self._fill(
                self._compared_views, seen, seen.comparable, partial(self._compared_crops, seen, picture)
            )
        if self._attributes is None:
            return
        cut = partial(self._estimated_crops, seen, picture)
        if self._judged_views is not None:
            self._fill(self._judged_views, seen, estimated, cut)
        else:
            rows = np.flatnonzero(estimated)
            self._to_estimate += [(seen, int(row), crop) for row, crop in zip(rows, cut(rows), strict=True)]

    @staticmethod
    def _fill(
        best_crops: BestCrops,
        seen: TrackedFace,
        usable: NDArray[np.bool_],
        cut: Callable[[Int], list[AlignedCrop]],
    ) -> None:
        rows = np.array(
            [row for row in np.flatnonzero(usable).tolist() if best_crops.wants(seen, row)], np.int64
        )
        for row, crop in zip(rows.tolist(), cut(rows), strict=True):
            view = BestCrop(seen, row, crop, seen.time_s)
            if seen.ids[row] < 0:
                seen.crops.setdefault(row, []).append((best_crops, view))
            else:
                best_crops.offer(int(seen.ids[row]), view)

    def _compared_crops(self, seen: TrackedFace, picture: Picture, rows: Int) -> list[AlignedCrop]:
        assert self._embedding is not None
        if not len(rows):
            return []
        with self._stages("chips"):
            transforms = self._embedding.transforms(seen.placed.landmarks[rows])
            side = self._embedding.crop_px
            return [(piece,) for piece in picture.cut(transforms, [side] * len(rows), side)]

    def _estimated_crops(self, seen: TrackedFace, picture: Picture, rows: Int) -> list[AlignedCrop]:
        assert self._attributes is not None
        if not len(rows):
            return []
        with self._stages("chips"):
            return self._attributes.crops(picture, seen.placed[rows])

    def _offer(self, tracklet: int, crops: Sequence[tuple[BestCrops, BestCrop]]) -> None:
        for best_crops, view in crops:
            best_crops.offer(tracklet, view)

    def _ask(self, at_least: int) -> None:
        """Ask the networks about the crops found so far, if they are enough to be worth it."""
        crops = self._compared_views.finished
        if self._embedding is not None and len(crops) >= at_least:
            with self._stages("embed"):
                vectors = self._embedding.embed([view.crop[0] for _, view in crops])
            for (tracklet, view), vector in zip(crops, vectors, strict=True):
                view.crop = _NO_CROP
                self._compared.setdefault(tracklet, []).append((view, vector))
            crops.clear()
        if self._judged_views is not None:
            crops = self._judged_views.finished
            self._to_estimate += [(view.seen, view.row, view.crop) for _, view in crops]
            crops.clear()
        if self._attributes is not None and len(self._to_estimate) >= at_least:
            with self._stages("attributes"):
                answers = self._attributes.estimate([crop for _, _, crop in self._to_estimate])
            for (seen, row, _), *answer in zip(self._to_estimate, *answers, strict=True):
                seen.estimated[row] = answer
                self._answered.append((seen, row))
            self._to_estimate.clear()

    def _tracklets(self) -> Tracklets:
        """What the tracklets look like; one that went over to another person is split."""
        made: dict[int, tuple[Float, float, int]] = {}
        for first, compared in self._compared.items():
            tracklet, part = first, [compared[0]]
            for before, after in itertools.pairwise(compared):
                if np.linalg.norm(after[1] - before[1]) > _OTHER_PERSON:
                    made[tracklet] = _described(part)
                    tracklet, part = self._split(tracklet, before[0].seen.time_s, after[0].seen.time_s), []
                part.append(after)
            made[tracklet] = _described(part)
        ids = sorted(made)
        size = 0 if self._embedding is None else self._embedding.size
        return Tracklets(
            np.array(ids, np.int64),
            np.array([made[one][0] for one in ids], np.float32).reshape(len(ids), size),
            np.array([made[one][1] for one in ids], np.float32),
            np.array([made[one][2] for one in ids], np.int64),
        )

    def _split(self, tracklet: int, before_s: float, after_s: float) -> int:
        """Give the later part of a tracklet an id of its own; returns that."""
        rows = [
            (seen, row)
            for seen in self._samples
            if seen.time_s > before_s - 1e-6
            for row in np.flatnonzero(seen.ids == tracklet)
        ]

        def likeness(index: int) -> float:
            (one, a), (two, b) = rows[index - 1 : index + 1]
            return float(iou(one.faces.boxes[[a]], two.faces.boxes[[b]])[0, 0])

        # It went over where the face moved least like itself.
        between = [i for i in range(1, len(rows)) if rows[i][0].time_s <= after_s + 1e-6]
        for seen, row in rows[min(between, key=likeness) :]:
            seen.ids[row] = self._next_id
        self._next_id += 1
        return self._next_id - 1


def _described(compared: Sequence[tuple[BestCrop, Float]]) -> tuple[Float, float, int]:
    """Mean embedding, width of the widest view, number of crops."""
    weights = [view.quality for view, _ in compared]
    mean = np.average([vector for _, vector in compared], axis=0, weights=weights)
    return mean.astype(np.float32), max(view.width_px for view, _ in compared), len(compared)


def follow(
    found: Sequence[Faces], times_s: Sequence[float], cuts: Sequence[bool] | None = None
) -> list[Faces]:
    """Follow faces through the samples of a segment: fills in `track_ids`, from 0.

    A face that is seen once belongs to a tracklet of one sighting.

    Args:
        found: The faces of each sample.
        times_s: When each sample is shown, strictly increasing.
        cuts: For each, whether a cut lies before it.

    >>> walk = [Faces.build(boxes=[[x, 0, x + 20, 20]], scores=[0.9]) for x in (0, 8, 16)]
    >>> [faces.track_ids.tolist() for faces in follow(walk, [0.0, 0.2, 0.4])]
    [[0], [0], [0]]
    """
    follower = FaceTracker()
    for faces, time_s, cut in zip(found, times_s, cuts or [False] * len(found), strict=True):
        follower.add(faces, time_s, cut=cut)
    return follower.finish()[0]


def byte_track(interval_s: float) -> ByteTrack:
    """The tracker of a shot, given the usual distance between samples in seconds."""
    return ByteTrack(interval_s, lost_after_s(interval_s), margin=_MATCH_MARGIN, least_iou=_MATCH_IOU)
