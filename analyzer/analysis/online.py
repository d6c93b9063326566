"""Frame by frame: the faces of each image at once, with provisional ids and running estimates.

For live views and for programs that act on what a camera sees now. Nothing waits for the end of a segment and
nothing grows with time. The tables of a run know more: they compare all that was seen, also what came later.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from analyzer.analysis.best_crops import TrackedSample
from analyzer.analysis.byte_track import ByteTrack
from analyzer.analysis.segment import Models
from analyzer.analysis.shots import ShotDetector, thumbnail
from analyzer.analysis.tracking import DOUBLED_AFTER, byte_track, lost_after_s
from analyzer.errors import SettingsError
from analyzer.faces import CropSource, FaceAligner, FaceEstimates, FaceReader, Faces
from analyzer.media.arrays import checked_image, checked_time
from analyzer.media.frame import Frame, Still
from analyzer.settings import Settings, checked_settings
from analyzer.vision.calibration import logit

__all__ = ["OnlineAnalyzer", "OnlineTracker"]

Float = NDArray[np.float32]
Image = NDArray[np.uint8]

_SAME_PERSON = 0.5
"""Embeddings at most this far apart are one person: stricter than within a video, where more is known."""

_OTHER_PERSON = 0.6
"""If two crops of a track in a row are farther from its person, the track has gone over to another one."""

_MOST_PEOPLE = 200
"""So many people are remembered; the one not seen for longest is forgotten first."""

_LONGEST_WEIGHT = 20.0
"""An embedding is the running mean of about so many crops."""

_BETTER = 1.5
"""A crop this much better than the best so far is used at once."""


@dataclass(eq=False)
class _Person:
    id: int
    seen_s: float
    embedding: Float | None = None
    weight: float = 0.0
    log_odds: float = 0.0
    age_years: float = 0.0
    std_years: float = 0.0
    estimated: float = 0.0
    """Sum of the weights of the estimates."""

    def add_embedding(self, vector: Float, weight: float) -> None:
        self.weight = min(self.weight + weight, _LONGEST_WEIGHT * weight)
        share = np.float32(weight / self.weight)
        before = vector if self.embedding is None else self.embedding
        self.embedding = before + share * (vector - before)

    def add_estimate(self, female: float, age: float, std: float, weight: float) -> None:
        """Include a crop's estimates in the running means; that of gender is one of log odds."""
        self.estimated += weight
        share = weight / self.estimated
        self.log_odds += share * (float(logit(np.array(female))) - self.log_odds)
        self.age_years += share * (age - self.age_years)
        self.std_years += share * (std - self.std_years)

    @property
    def estimates(self) -> tuple[float, float, float]:
        """Probability of female, age and its standard deviation in years; NaN where nothing is estimated."""
        if not self.estimated:
            return np.nan, np.nan, np.nan
        return 1 / (1 + np.exp(-self.log_odds)), self.age_years, self.std_years


@dataclass(eq=False)
class _Schedule:
    """When a track's next crop is due."""

    every_s: float
    due_s: float = -np.inf
    count: int = 0
    best: float = 0.0

    def is_due(self, time_s: float, worth: float) -> bool:
        return time_s >= self.due_s - 1e-6 or worth > _BETTER * self.best

    def taken(self, time_s: float, worth: float) -> None:
        self.count += 1
        self.best = max(self.best, worth)
        self.due_s = time_s + self.every_s * (2 if self.count >= DOUBLED_AFTER else 1)


@dataclass(eq=False)
class _Track:
    person: _Person
    crops: _Schedule
    seen_s: float = 0.0
    doubtful: bool = field(default=False)
    """Whether its last crop looked like somebody else."""


class OnlineTracker:
    """Tracks faces that are given sample by sample; its memory is bounded.

    Faces are tracked by ByteTrack, as in `FaceTracker`. After they were out of sight they are recognized by
    their embeddings, as long as their person is among the `_MOST_PEOPLE` seen last.

    Args:
        reader: Compares faces and estimates their gender and age; None: people who return are not
            recognized, and nothing is estimated.
        settings: Gives how often crops are taken, and from which size on.
        aligner: Finds the landmarks of the faces that are cropped; None: those of the detector are used.
        points_in_box: `FaceDetector.points_in_box`.
    """

    def __init__(
        self,
        reader: FaceReader | None,
        settings: Settings,
        *,
        aligner: FaceAligner | None = None,
        points_in_box: Float | None = None,
    ) -> None:
        self._reader, self._settings = reader, settings
        self._aligner = aligner
        self._points_in_box = points_in_box
        self._tracker: ByteTrack | None = None
        self._first: tuple[NDArray[np.float64], float] | None = None
        self._interval_s = 1 / settings.fps
        self._last_s: float | None = None
        self._tracks: dict[int, _Track] = {}
        self._people: dict[int, _Person] = {}
        self._next_id = 0

    def update(
        self, faces: Faces, time_s: float, frame: CropSource | None, *, shot_boundary: bool = False
    ) -> Faces:
        """Take the next sample.

        Args:
            faces: Its faces, as detected.
            time_s: When it is shown, later than the one before.
            frame: What crops are taken from; not kept. None: no crop is taken.
            shot_boundary: Whether a shot boundary lies before it.

        Returns:
            The faces with `track_ids`, which here are provisional ids of people, and with the estimates for
            these people so far. An id may change when a face turns out to be a person seen before.
        """
        ids = self._track(faces.boxes.astype(np.float64), time_s, shot_boundary=shot_boundary)
        seen = TrackedSample.of(faces, time_s, shot_boundary=shot_boundary, points_in_box=self._points_in_box)
        for one in ids:
            if one not in self._tracks:
                self._tracks[one] = self._new_track(time_s)
            self._tracks[one].seen_s = time_s
        tracks = [self._tracks[one] for one in ids]
        rows, read = self._read(seen, tracks, frame)
        self._compare(seen, tracks, rows, read)
        self._separate(tracks, time_s)
        self._estimate(seen, tracks, rows, read)
        self._forget(time_s)
        estimates = np.array([track.person.estimates for track in tracks], np.float32).reshape(-1, 3)
        return faces.replace(
            track_ids=[track.person.id for track in tracks],
            female_prob=estimates[:, 0],
            age_years=estimates[:, 1],
            age_std_years=estimates[:, 2],
        )

    def _track(self, boxes: NDArray[np.float64], time_s: float, *, shot_boundary: bool) -> list[int]:
        """The number of each box's track. Numbers begin anew after a shot boundary or a gap in time."""
        step_s = np.inf if self._last_s is None else time_s - self._last_s
        self._last_s = time_s
        if shot_boundary or step_s > lost_after_s(self._interval_s):
            self._tracks.clear()
            self._tracker, self._first = None, (boxes, time_s)
            if np.isfinite(step_s):
                self._interval_s = step_s
            return list(range(len(boxes)))
        self._interval_s = step_s
        if self._tracker is None:
            # Only the second sample shows how far apart they are.
            assert self._first is not None
            self._tracker = byte_track(step_s, named_at_once=True)
            self._tracker.update(*self._first)
        return [int(one) for one in self._tracker.update(boxes, time_s)]

    def _new_track(self, time_s: float) -> _Track:
        return _Track(self._new_person(time_s), _Schedule(self._settings.estimate_every_s))

    def _new_person(self, time_s: float) -> _Person:
        person = self._people[self._next_id] = _Person(self._next_id, time_s)
        self._next_id += 1
        return person

    def _read(
        self, seen: TrackedSample, tracks: list[_Track], frame: CropSource | None
    ) -> tuple[list[int], FaceEstimates | None]:
        """Run the models on the faces that are due; return which these are."""
        if self._reader is None or frame is None:
            return [], None
        usable = seen.embeddable | seen.wide_enough(self._settings.min_estimate_px)
        rows = [
            row
            for row in np.flatnonzero(usable).tolist()
            if tracks[row].doubtful or tracks[row].crops.is_due(seen.time_s, float(seen.worth[row]))
        ]
        if not rows:
            return [], None
        seen.align(np.array(rows), frame, self._aligner)
        for row in rows:
            tracks[row].crops.taken(seen.time_s, float(seen.worth[row]))
        return rows, self._reader.read(self._reader.crops(frame, seen.landmarked[np.array(rows)]))

    def _compare(
        self, seen: TrackedSample, tracks: list[_Track], rows: list[int], read: FaceEstimates | None
    ) -> None:
        """Compare faces with the people seen so far."""
        if read is None or not read.embeddings.shape[1]:
            return
        for row, vector in zip(rows, read.embeddings, strict=True):
            track, worth = tracks[row], float(seen.worth[row])
            if not seen.embeddable[row]:
                continue
            before = track.person.embedding
            if before is None:
                track.person = self._recognized(vector, tracks) or track.person
            elif np.linalg.norm(before - vector) > _OTHER_PERSON:
                if not track.doubtful:
                    track.doubtful = True
                    continue
                track.person = self._recognized(vector, tracks) or self._new_person(seen.time_s)
                track.crops = _Schedule(self._settings.estimate_every_s)
            track.doubtful = False
            track.person.add_embedding(vector, worth)

    def _recognized(self, vector: Float, tracks: list[_Track]) -> _Person | None:
        """The known person most like a face, if like enough and not elsewhere in this sample."""
        present = {track.person.id for track in tracks}
        known = [
            (person, person.embedding)
            for person in self._people.values()
            if person.embedding is not None and person.id not in present
        ]
        if not known:
            return None
        apart = np.linalg.norm(np.stack([embedding for _, embedding in known]) - vector, axis=1)
        best = int(apart.argmin())
        return known[best][0] if apart[best] <= _SAME_PERSON else None

    def _separate(self, tracks: list[_Track], time_s: float) -> None:
        """No person is in a sample twice: a track that was lost meanwhile may come back."""
        present: set[int] = set()
        for track in tracks:
            if track.person.id in present:
                track.person = self._new_person(time_s)
            track.person.seen_s = time_s
            present.add(track.person.id)

    def _estimate(
        self, seen: TrackedSample, tracks: list[_Track], rows: list[int], read: FaceEstimates | None
    ) -> None:
        """Include the estimates of faces that were read in those of their people."""
        if read is None:
            return
        wide_enough = seen.wide_enough(self._settings.min_estimate_px)
        estimates = zip(read.female_prob, read.age_years, read.age_std_years, strict=True)
        for row, (female, age, std) in zip(rows, estimates, strict=True):
            if wide_enough[row] and not tracks[row].doubtful:
                worth = float(seen.worth[row])
                tracks[row].person.add_estimate(float(female), float(age), float(std), worth)

    def _forget(self, time_s: float) -> None:
        patience_s = lost_after_s(self._interval_s)
        self._tracks = {
            one: track for one, track in self._tracks.items() if time_s - track.seen_s <= patience_s
        }
        present = {track.person.id for track in self._tracks.values()}
        # Without an embedding a person is never recognized again: others are not forgotten for them.
        for person in list(self._people.values()):
            if person.embedding is None and person.id not in present:
                del self._people[person.id]
        if len(self._people) > _MOST_PEOPLE:
            by_time = sorted(self._people.values(), key=lambda person: person.seen_s)
            for person in by_time[: len(self._people) - _MOST_PEOPLE]:
                del self._people[person.id]


class OnlineAnalyzer:
    """Analyzes images one by one, as they come from a camera or a program.

    Each call detects faces at one fixed size, tracks them, and estimates gender and age of new faces at once
    and of others now and then. Memory does not grow with time. Use it from one thread at a time.

    Args:
        settings: How to analyze; the defaults if None.
        models: Loaded models of these settings; loaded here if None.

    Raises:
        ModelError: On construction, if a model is missing or damaged.
        TypeError: On construction, if `settings` is something else.

    ::

        online = OnlineAnalyzer()
        while True:
            _, image = camera.read()
            faces = online.push(image, time.monotonic() - begun)
            for box, person, age in zip(faces.boxes, faces.track_ids, faces.age_years):
                ...
    """

    def __init__(self, settings: Settings | None = None, models: Models | None = None) -> None:
        self._settings = checked_settings(settings)
        self._models = models or Models.load(self._settings)
        self._shots = ShotDetector()
        self._last_s = -np.inf
        self._tracker = OnlineTracker(
            self._models.reader,
            self._settings,
            aligner=self._models.aligner,
            points_in_box=self._models.detector.points_in_box,
        )

    def push(self, image: Any, time_s: float) -> Faces:
        """Analyze the next image.

        Args:
            image: BGR, (H, W, 3) uint8, of any size; or an `analyzer.media.frame.Frame`. It is not kept.
            time_s: When it is shown, in seconds, later than the one before. Tracks end at a shot boundary and
                after more than a second (or two and a half steps) without an image.

        Returns:
            Its faces, with boxes in pixels of the image. `Faces.track_ids` are provisional ids of people;
            `female_prob`, `age_years` and `age_std_years` are running means over the person's crops so far,
            NaN as long as no crop was good enough.

        Raises:
            SettingsError: The image or the time is not valid, or times do not ascend.
            ModelError: A model failed.
        """
        time_s = checked_time(time_s)
        if time_s <= self._last_s:
            raise SettingsError(
                f"an image at {time_s:g} s was pushed after one at {self._last_s:g} s: push images in the "
                "order of time"
            )
        frame: Frame | _Array = image if isinstance(image, Frame) else _Array(checked_image(image))
        detector = self._models.detector
        size = frame.width, frame.height
        scaled = frame.scaled(*detector.input_size(*size))
        (found,) = detector.detect([scaled], [size])
        boundary = self._shots.is_shot_boundary(thumbnail(scaled))
        self._last_s = time_s
        return self._tracker.update(found, time_s, frame, shot_boundary=boundary)


class _Array(Still):
    """A program's image."""

    def scaled(self, width: int, height: int) -> Image:
        """(height, width, 3) uint8 BGR."""
        if (width, height) == (self.width, self.height):
            return self.image
        shrinks = width < self.width or height < self.height
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        return cv2.resize(self.image, (width, height), interpolation=method).astype(np.uint8, copy=False)
