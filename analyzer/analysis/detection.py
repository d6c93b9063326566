"""Looking for faces in the samples of a segment: where, how closely, and where it need not be done again.

Three things save work, each decided by the samples of the segment alone:

* A sample that hardly differs from the one before takes over its faces (`DetectedSample.detection_age_s`).
* With ``detector_size="auto"`` samples between two close looks are looked at in a smaller size, where both
  looks found no face that would then be too small. Where fewer faces are found than in both, the sample is
  looked at closely after all; if that helps, so are the others of its shot.
* Several samples are looked at together.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from analyzer.analysis.shots import ShotDetector, thumbnail
from analyzer.faces import FaceDetector, Faces, face_widths
from analyzer.media.frame import Frame, Sample
from analyzer.media.readahead import read_ahead
from analyzer.settings import Settings
from analyzer.util.timing import StageTimer
from analyzer.vision.runtime import BATCHES

__all__ = [
    "DetectedSample",
    "detect_faces",
]

Image = NDArray[np.uint8]


# Brightness and color, in 160 fields across the picture, may differ by so much of 255 in the same picture:
# noise of cameras and encoders stays below, a face that moves by a hundredth of its width does not.
_SAME = 6


# Between two close looks lie at most so many samples, and so much time.
_BETWEEN = 9


_BETWEEN_S = 2.0


# By how much less closely, at most; and how wide a face must then still be, in pixels of the detector's
# picture. On made videos 20 pixels cost 0.3 % of people's time on screen, 18 cost 0.6 %, 13 cost 4 %.
_REDUCTIONS = (4.0, 2.0, 640 / 448)


_ENOUGH_PX = 18.0


# How wide a face is, as a share of its height.
_WIDTH_OF_HEIGHT = 0.75


# Samples prepared while faces are looked for in earlier ones: each holds a picture.
_PREPARED_AHEAD = 8


_NOTHING = np.empty((0, 0, 3), np.uint8)


@dataclass(frozen=True, eq=False, slots=True)
class DetectedSample:
    """A sample that was looked at, and what is in it."""

    time_s: float
    image_name: str
    size: tuple[int, int]
    """Width and height of the frame in pixels, as it is shown."""
    frame: Frame | None
    """None where faces were taken over: they were cut out of an earlier one."""
    faces: Faces
    cut: bool
    """Whether a cut lies between the sample before and this one."""
    thumbnail: Image
    """(54, 96, 3) uint8 BGR: the sample at a glance."""
    detection_age_s: float
    """0 where faces were looked for; else how much earlier the look was whose faces it took over."""
    close: bool
    """Whether it was looked at in the detector's full size: then landmarks are at their most precise."""

    def without_frame(self) -> DetectedSample:
        return dataclasses.replace(self, frame=None)


@dataclass(eq=False, slots=True)
class _Measured:
    """A sample in which faces are looked for."""

    sample: Sample
    scaled: Image
    """(H, W, 3) uint8 BGR in the detector's full size; let go after the look."""
    fields: Image
    thumbnail: Image
    cut: bool
    close: bool = True
    """Whether it is looked at in full size."""
    faces: Faces | None = None
    least_px: float = np.inf
    """After a close look: width of the smallest face, in pixels of the detector's picture."""

    @property
    def count(self) -> int:
        """How many faces were found."""
        return 0 if self.faces is None else len(self.faces)

    @property
    def time_s(self) -> float:
        return self.sample.frame.time_s

    @property
    def size(self) -> tuple[int, int]:
        return self.sample.frame.width, self.sample.frame.height

    def looked(self) -> DetectedSample:
        assert self.faces is not None
        return DetectedSample(
            time_s=self.time_s,
            image_name=self.sample.image_name,
            size=self.size,
            frame=self.sample.frame,
            faces=self.faces,
            cut=self.cut,
            thumbnail=self.thumbnail,
            detection_age_s=0.0,
            close=self.close,
        )


@dataclass(frozen=True, eq=False, slots=True)
class _Carried:
    """A sample that takes over the faces of an earlier one. Its picture is let go."""

    time_s: float
    image_name: str
    like: _Measured

    def looked(self) -> DetectedSample:
        assert self.like.faces is not None
        return DetectedSample(
            time_s=self.time_s,
            image_name=self.image_name,
            size=self.like.size,
            frame=None,
            faces=self.like.faces,
            cut=False,
            thumbnail=self.like.thumbnail,
            detection_age_s=self.time_s - self.like.time_s,
            close=False,
        )


def detect_faces(
    samples: Iterable[Sample], detector: FaceDetector, settings: Settings, stages: StageTimer
) -> Iterator[DetectedSample]:
    """Look for faces and cuts.

    Args:
        samples: Those of one segment, in the order of time.
        detector: Finds faces.
        settings: Gives whether the detector's size is chosen, and for how long faces are carried.
        stages: Counts the time.

    Yields:
        The samples in order.

    Raises:
        ModelError: The detector failed.
    """
    prepared = _Preparer(detector, settings, stages).prepared(samples)
    with contextlib.closing(read_ahead(prepared, _PREPARED_AHEAD)) as ahead:
        yield from _Looker(detector, settings, stages).look(ahead)


class _Preparer:
    """Scales samples, looks for cuts, and decides which are looked at, and which closely.

    It needs no network, so it runs while faces are looked for in earlier samples.
    """

    def __init__(self, detector: FaceDetector, settings: Settings, stages: StageTimer) -> None:
        self._detector = detector
        self._stages = stages
        self._chooses = settings.adapts_size and detector.reducible
        self._carry_s = settings.reuse_s
        self._finder = ShotDetector()
        self._last: _Measured | None = None
        self._last_close_s = -np.inf
        self._between = 0

    def prepared(self, samples: Iterable[Sample]) -> Iterator[_Measured | _Carried]:
        for sample in samples:
            one = self._prepare(sample)
            yield one
            if isinstance(one, _Measured):
                self._last = one

    def _prepare(self, sample: Sample) -> _Measured | _Carried:
        frame, before = sample.frame, self._last
        with self._stages("convert"):
            fields = frame.fields()
        if before is not None and self._same(before, sample, fields):
            return _Carried(frame.time_s, sample.image_name, before)
        with self._stages("convert"):
            scaled = frame.scaled(*self._detector.input_size(frame.width, frame.height))
            look = thumbnail(scaled)
        with self._stages("cuts"):
            cut = self._finder.is_shot_boundary(look)
        one = _Measured(sample, scaled, fields, look, cut)
        one.close = self._is_due(one)
        return one

    def _same(self, before: _Measured, sample: Sample, fields: Image) -> bool:
        frame = sample.frame
        return (
            frame.time_s - before.time_s <= self._carry_s + 1e-6
            and before.sample.frame.geometry == frame.geometry
            and before.fields.shape == fields.shape
            and cv2.norm(before.fields, fields, cv2.NORM_INF) <= _SAME
        )

    def _is_due(self, one: _Measured) -> bool:
        self._between += 1
        due = (
            not self._chooses
            or one.cut
            or self._last is None
            or self._last.size != one.size
            or self._between > _BETWEEN
            or one.time_s - self._last_close_s >= _BETWEEN_S - 1e-6
        )
        if due:
            self._between, self._last_close_s = 0, one.time_s
        return due


class _Looker:
    """Looks for faces in samples that are prepared."""

    def __init__(self, detector: FaceDetector, settings: Settings, stages: StageTimer) -> None:
        self._detector = detector
        self._stages = stages
        # So many close looks are taken together: frames are held until then. Between two of them lie others
        # that fill the detector's batches, and its streams.
        least = 1 if settings.adapts_size and detector.reducible else 2
        self._together = max(least, BATCHES[settings.device]["detector"])
        # Of the last close look.
        self._least_px, self._faces = np.inf, 0
        self._wary = False
        """Whether looking less closely has lost a face in this shot."""

    def look(self, prepared: Iterable[_Measured | _Carried]) -> Iterator[DetectedSample]:
        waiting: list[_Measured | _Carried] = []
        last: _Measured | None = None
        close = 0
        for one in prepared:
            waiting.append(one)
            if isinstance(one, _Carried):
                continue
            if one.cut and last is not None and not last.close:
                last.close = True  # a shot begins and ends with a close look
                close += 1
            last = one
            close += one.close
            if one.close and close >= self._together:
                yield from self._resolved(waiting)
                waiting, close = [], 0
        if last is not None:
            last.close = True
        if waiting:
            yield from self._resolved(waiting)

    def _resolved(self, waiting: list[_Measured | _Carried]) -> list[DetectedSample]:
        measured = [one for one in waiting if isinstance(one, _Measured)]
        self._detect([one for one in measured if one.close], 1.0)
        # What the close look after each says, found from the end: the last one was a close one.
        after, later = [], (np.inf, 0)
        for one in reversed(measured):
            later = (one.least_px, one.count) if one.close else later
            after.append(later)
        by_reduction: dict[float, list[_Measured]] = {}
        expected: list[tuple[_Measured, int]] = []
        for one, (later_px, later_faces) in zip(measured, reversed(after), strict=True):
            self._wary = self._wary and not one.cut
            if one.close:
                self._least_px, self._faces = one.least_px, one.count
                continue
            reduction = 1.0 if self._wary else _reduction(min(self._least_px, later_px))
            by_reduction.setdefault(reduction, []).append(one)
            if reduction > 1:
                expected.append((one, min(self._faces, later_faces)))
        for reduction, some in by_reduction.items():
            self._detect(some, reduction)
        self._look_again([one for one, faces in expected if one.count < faces])
        for one in measured:
            one.scaled = _NOTHING
        return [one.looked() for one in waiting]

    def _look_again(self, measured: list[_Measured]) -> None:
        """Look closely at samples in which faces were lost; be wary from here on if they were there."""
        found = [one.count for one in measured]
        self._detect(measured, 1.0)
        for one, before in zip(measured, found, strict=True):
            one.close = True
            self._wary = self._wary or one.count > before

    def _detect(self, measured: list[_Measured], reduction: float) -> None:
        # Pictures of one size go together; videos seldom change their size.
        for size, group in itertools.groupby(measured, key=lambda one: one.size):
            some = list(group)
            width, height = size
            wanted = self._detector.input_size(width, height, reduction)
            with self._stages("convert"):
                pictures = [_shrunk(one.scaled, wanted) for one in some]
            with self._stages("detect"):
                found = self._detector.detect(pictures, [size] * len(some))
            for one, faces in zip(some, found, strict=True):
                one.faces = faces
                one.least_px = _least_px(faces) * one.scaled.shape[1] / width


def _least_px(faces: Faces) -> float:
    """How wide the smallest face is, in pixels; infinite where there is none.

    Of faces that are cut off by the picture's border or seen from the side the height says more.
    """
    heights = faces.boxes[:, 3] - faces.boxes[:, 1]
    return float(np.maximum(face_widths(faces.boxes), _WIDTH_OF_HEIGHT * heights).min(initial=np.inf))


def _reduction(least_px: float) -> float:
    """By how much less closely to look between two close looks.

    Args:
        least_px: Width of the smallest face of both, in pixels of the detector's picture.

    >>> _reduction(100), _reduction(50), _reduction(30), _reduction(25)
    (4.0, 2.0, 1.4285714285714286, 1.0)
    """
    # Where nobody is, somebody may come: half the size finds all but the smallest.
    if least_px == np.inf:
        return 2.0
    return next((one for one in _REDUCTIONS if least_px / one >= _ENOUGH_PX), 1.0)


def _shrunk(picture: Image, size: tuple[int, int]) -> Image:
    if picture.shape[1::-1] == size:
        return picture
    # Bilinear skips pixels from half the size on, and is faster above it.
    method = cv2.INTER_AREA if picture.shape[1] >= 2 * size[0] else cv2.INTER_LINEAR
    return cv2.resize(picture, size, interpolation=method).astype(np.uint8, copy=False)
