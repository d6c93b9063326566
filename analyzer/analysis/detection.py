"""Face detection in the samples of a segment: when to detect, and at which resolution.

Three things save work. Each is decided from the samples of the segment alone:

* A sample that hardly differs from the previous one reuses its detections
  (`DetectedSample.detection_age_s`).
* With ``detector_size="auto"``, samples between two full-resolution detections are searched at a reduced
  resolution if neither found a face that would be too small for it. If that finds fewer faces than both, the
  sample is searched again at full resolution; if that finds more faces, so is the rest of its shot.
* Several samples are searched in one batch.

Images are few, and their faces may be small or not upright: with ``detector_size="auto"`` they are searched
at a higher resolution, and turned by quarters of a circle.
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
from analyzer.faces import FaceDetector, Faces, covered, face_widths
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

_SAME = 6
"""Largest difference, of 255, between the signatures of two samples that show the same: noise of cameras and
encoders stays below, a face that moves by a hundredth of its width does not."""

_BETWEEN, _BETWEEN_S = 9, 2.0
"""Most samples between two full-resolution detections, and the longest time."""

_REDUCTIONS = (4.0, 2.0, 640 / 448)
"""Factors by which the resolution may be reduced, the largest first."""

_ENOUGH_PX = 20.0
"""Width that the smallest face must keep, in pixels of the detector's image."""

_WIDTH_OF_HEIGHT = 0.75
"""Usual width of a face as a share of its height."""

_IMAGE_REDUCTION = 2 / 3
"""Images are searched at 1.5 times the resolution of frames."""

_TURNED_SCORE = 0.7
"""Least score of a face that is found in a turned image."""

_HANDICAP = 0.1
"""How much higher it must be than that of the upright face in its place."""

_COVERED = 0.5
"""Boxes show the same face if this share of the smaller one is in both."""

_PREPARED_AHEAD = 8
"""Samples that are prepared while earlier ones are searched; each holds a frame."""

_NOTHING = np.empty((0, 0, 3), np.uint8)


@dataclass(frozen=True, eq=False, slots=True)
class DetectedSample:
    """A sample and its faces."""

    time_s: float
    image_name: str
    size: tuple[int, int]
    """Width and height of the frame in pixels, as it is displayed."""
    frame: Frame | None
    """None if detections are reused: their crops were taken from an earlier frame."""
    faces: Faces
    shot_boundary: bool
    """Whether a shot boundary lies between the previous sample and this one."""
    thumbnail: Image
    """(54, 96, 3) uint8 BGR, see `analyzer.analysis.shots.thumbnail`."""
    detection_age_s: float
    """0 if faces were detected in this sample, otherwise the age of the reused detections."""
    full_resolution: bool
    """Whether faces were detected at full resolution, which gives the most precise landmarks."""

    def without_frame(self) -> DetectedSample:
        """Return a copy that does not hold the frame."""
        return dataclasses.replace(self, frame=None)


@dataclass(eq=False, slots=True)
class _Searched:
    """A sample in which faces are detected."""

    sample: Sample
    scaled: Image
    """(H, W, 3) uint8 BGR at the detector's full resolution; released after the detection."""
    signature: Image
    """`Frame.signature`."""
    thumbnail: Image
    shot_boundary: bool
    full_resolution: bool = True
    faces: Faces | None = None
    least_px: float = np.inf
    """After full-resolution detection: width of the smallest face, in pixels of the detector's image."""

    @property
    def is_image(self) -> bool:
        return bool(self.sample.image_name)

    @property
    def count(self) -> int:
        """Number of faces found so far."""
        return 0 if self.faces is None else len(self.faces)

    @property
    def time_s(self) -> float:
        return self.sample.frame.time_s

    @property
    def size(self) -> tuple[int, int]:
        return self.sample.frame.width, self.sample.frame.height

    def result(self) -> DetectedSample:
        return DetectedSample(
            time_s=self.time_s,
            image_name=self.sample.image_name,
            size=self.size,
            frame=self.sample.frame,
            faces=_faces_of(self),
            shot_boundary=self.shot_boundary,
            thumbnail=self.thumbnail,
            detection_age_s=0.0,
            full_resolution=self.full_resolution,
        )


@dataclass(frozen=True, eq=False, slots=True)
class _Reused:
    """A sample that reuses the detections of an earlier one. Its frame is released."""

    time_s: float
    image_name: str
    like: _Searched

    def result(self) -> DetectedSample:
        return DetectedSample(
            time_s=self.time_s,
            image_name=self.image_name,
            size=self.like.size,
            frame=None,
            faces=_faces_of(self.like),
            shot_boundary=False,
            thumbnail=self.like.thumbnail,
            detection_age_s=self.time_s - self.like.time_s,
            full_resolution=False,
        )


def _faces_of(one: _Searched) -> Faces:
    if one.faces is None:
        raise RuntimeError("a sample is passed on before faces were detected in it")
    return one.faces


def detect_faces(
    samples: Iterable[Sample], detector: FaceDetector, settings: Settings, stages: StageTimer
) -> Iterator[DetectedSample]:
    """Detect faces and shot boundaries.

    Args:
        samples: The samples of one segment in the order of time.
        detector: The face detector.
        settings: Choose its resolution, and for how long detections are reused.
        stages: Measures the time.

    Yields:
        The samples in the same order.

    Raises:
        ModelError: The detector failed.
    """
    prepared = _Preparer(detector, settings, stages).prepared(samples)
    with contextlib.closing(read_ahead(prepared, _PREPARED_AHEAD)) as ahead:
        yield from _BatchDetector(detector, settings, stages).results(ahead)


def _is_thorough(detector: FaceDetector, settings: Settings) -> bool:
    """Tell whether images are searched more thoroughly than frames.

    Detectors that find landmarks take inputs of any size.
    """
    return settings.adapts_size and detector.points_in_box is None


class _Preparer:
    """Scales samples, finds shot boundaries, and decides which samples are searched at which resolution.

    It runs no model, so it runs in a thread of its own while earlier samples are searched.
    """

    def __init__(self, detector: FaceDetector, settings: Settings, stages: StageTimer) -> None:
        self._detector = detector
        self._stages = stages
        self._adapts = settings.adapts_size and detector.reducible
        self._thorough = _is_thorough(detector, settings)
        self._reuse_s = settings.reuse_s
        self._shots = ShotDetector()
        self._last: _Searched | None = None
        self._last_full_s = -np.inf
        self._between = 0

    def prepared(self, samples: Iterable[Sample]) -> Iterator[_Searched | _Reused]:
        for sample in samples:
            one = self._prepare(sample)
            yield one
            if isinstance(one, _Searched):
                self._last = one

    def _prepare(self, sample: Sample) -> _Searched | _Reused:
        frame, before = sample.frame, self._last
        reduction = _IMAGE_REDUCTION if self._thorough and sample.image_name else 1.0
        size = self._detector.input_size(frame.width, frame.height, reduction)
        with self._stages("convert"):
            reduced = frame.reduced(*size)
            signature = reduced.signature()
        if before is not None and self._same(before, sample, signature):
            return _Reused(frame.time_s, sample.image_name, before)
        with self._stages("convert"):
            scaled = reduced.scaled(*size)
            small = thumbnail(scaled)
        with self._stages("shots"):
            boundary = self._shots.is_shot_boundary(small)
        one = _Searched(sample, scaled, signature, small, boundary)
        one.full_resolution = self._is_due(one)
        return one

    def _same(self, before: _Searched, sample: Sample, signature: Image) -> bool:
        frame = sample.frame
        return (
            frame.time_s - before.time_s <= self._reuse_s + 1e-6
            and before.sample.frame.geometry == frame.geometry
            and before.signature.shape == signature.shape
            and cv2.norm(before.signature, signature, cv2.NORM_INF) <= _SAME
        )

    def _is_due(self, one: _Searched) -> bool:
        self._between += 1
        due = (
            not self._adapts
            or one.shot_boundary
            or self._last is None
            or self._last.size != one.size
            or self._between > _BETWEEN
            or one.time_s - self._last_full_s >= _BETWEEN_S - 1e-6
        )
        if due:
            self._between, self._last_full_s = 0, one.time_s
        return due


class _BatchDetector:
    """Runs the detector on prepared samples, several at a time."""

    def __init__(self, detector: FaceDetector, settings: Settings, stages: StageTimer) -> None:
        self._detector = detector
        self._stages = stages
        self._adapts = settings.adapts_size and detector.reducible
        self._thorough = _is_thorough(detector, settings)
        # Full-resolution detections in one batch; their frames are held until then. At reduced resolution
        # there are samples in between, which fill the batches of the detector as well.
        least = 1 if self._adapts else 2
        self._batch = max(least, BATCHES[settings.device]["detector"])
        # Of the last full-resolution detection.
        self._least_px, self._faces = np.inf, 0
        self._lost_a_face = False
        """Whether a reduced resolution has lost a face in this shot."""

    def results(self, prepared: Iterable[_Searched | _Reused]) -> Iterator[DetectedSample]:
        waiting: list[_Searched | _Reused] = []
        last: _Searched | None = None
        full = 0
        for one in prepared:
            waiting.append(one)
            if isinstance(one, _Reused):
                continue
            if one.shot_boundary and last is not None and not last.full_resolution:
                last.full_resolution = True  # a shot begins and ends with a full-resolution detection
                full += 1
            last = one
            full += one.full_resolution
            if one.full_resolution and full >= self._batch:
                yield from self._resolved(waiting)
                waiting, full = [], 0
        if last is not None:
            last.full_resolution = True
        if waiting:
            yield from self._resolved(waiting)

    def _resolved(self, waiting: list[_Searched | _Reused]) -> list[DetectedSample]:
        searched = [one for one in waiting if isinstance(one, _Searched)]
        self._detect([one for one in searched if one.full_resolution], 1.0)
        # The result of the next full-resolution detection for each sample, found from the end: the last
        # sample has one.
        after, later = [], (np.inf, 0)
        for one in reversed(searched):
            later = (one.least_px, one.count) if one.full_resolution else later
            after.append(later)
        by_reduction: dict[float, list[_Searched]] = {}
        expected: list[tuple[_Searched, int]] = []
        for one, (later_px, later_faces) in zip(searched, reversed(after), strict=True):
            self._lost_a_face = self._lost_a_face and not one.shot_boundary
            if one.full_resolution:
                self._least_px, self._faces = one.least_px, one.count
                continue
            reduction = 1.0 if self._lost_a_face else _reduction(min(self._least_px, later_px))
            by_reduction.setdefault(reduction, []).append(one)
            if reduction > 1:
                expected.append((one, min(self._faces, later_faces)))
        for reduction, some in by_reduction.items():
            self._detect(some, reduction)
        self._detect_again([one for one, faces in expected if one.count < faces])
        for one in searched:
            one.scaled = _NOTHING
        return [one.result() for one in waiting]

    def _detect_again(self, searched: list[_Searched]) -> None:
        """Repeat the detection at full resolution, and stay there in this shot if it finds more faces."""
        found = [one.count for one in searched]
        self._detect(searched, 1.0)
        for one, before in zip(searched, found, strict=True):
            one.full_resolution = True
            self._lost_a_face = self._lost_a_face or one.count > before

    def _detect(self, searched: list[_Searched], reduction: float) -> None:
        # A batch has images of one size; videos seldom change theirs.
        for (size, is_image), group in itertools.groupby(searched, key=lambda one: (one.size, one.is_image)):
            some = list(group)
            width, height = size
            thorough = self._thorough and is_image
            factor = reduction * (_IMAGE_REDUCTION if thorough else 1)
            wanted = self._detector.input_size(width, height, factor)
            with self._stages("convert"):
                images = [_shrunk(one.scaled, wanted) for one in some]
            with self._stages("detect"):
                found = self._detector.detect(images, [size] * len(some))
                if thorough:
                    found = [self._with_turned(*one, size) for one in zip(images, found, strict=True)]
            for one, faces in zip(some, found, strict=True):
                one.faces = faces
                one.least_px = _least_px(faces) * one.scaled.shape[1] / width

    def _with_turned(self, image: Image, faces: Faces, size: tuple[int, int]) -> Faces:
        """Return the faces of an image, upright or not. Those found in the turned image lack landmarks.

        Args:
            image: (H, W, 3) uint8 BGR.
            faces: Found in the upright image.
            size: Width and height of the full image.
        """
        boxes, scores, landmarks = [faces.boxes], [faces.scores], [faces.landmarks]
        for quarters in (1, 2, 3):
            turned = np.ascontiguousarray(np.rot90(image, quarters))
            (found,) = self._detector.detect([turned], [size if quarters == 2 else size[::-1]])
            found = found[found.scores >= _TURNED_SCORE]
            boxes.append(_turned_back(found.boxes, quarters, size))
            scores.append(found.scores)
            landmarks.append(np.full((len(found), 5, 2), np.nan, np.float32))
        every = Faces.build(
            boxes=np.concatenate(boxes), scores=np.concatenate(scores), landmarks=np.concatenate(landmarks)
        )
        handicap = np.where(np.arange(len(every)) < len(faces), 0, _HANDICAP)
        same = covered(every.boxes, every.boxes) >= _COVERED
        kept: list[int] = []
        for row in np.argsort(handicap - every.scores, kind="stable").tolist():
            # Boxes of one search may overlap: it has dropped its own duplicates.
            if not any(same[row, other] and not (row < len(faces) and other < len(faces)) for other in kept):
                kept.append(row)
        return every[np.array(sorted(kept), np.int64)]


def _turned_back(boxes: NDArray[np.float32], quarters: int, size: tuple[int, int]) -> NDArray[np.float32]:
    """Return boxes in pixels of the upright image.

    Args:
        boxes: (N, 4) float32, in pixels of the image turned by `np.rot90`.
        quarters: By how many quarters of a circle it was turned, counterclockwise.
        size: Width and height of the upright image.

    >>> _turned_back(np.array([[10, 20, 30, 50]], np.float32), 1, (200, 100)).tolist()
    [[150.0, 10.0, 180.0, 30.0]]
    """
    width, height = size
    x1, y1, x2, y2 = boxes.T
    if quarters == 1:
        back = [width - y2, x1, width - y1, x2]
    elif quarters == 2:
        back = [width - x2, height - y2, width - x1, height - y1]
    else:
        back = [y1, height - x2, y2, height - x1]
    return np.stack(back, axis=1)


def _least_px(faces: Faces) -> float:
    """Return the width of the smallest face in pixels, infinite without faces.

    The height counts for faces that are cropped by the border of the frame or seen from the side.
    """
    heights = faces.boxes[:, 3] - faces.boxes[:, 1]
    return float(np.maximum(face_widths(faces.boxes), _WIDTH_OF_HEIGHT * heights).min(initial=np.inf))


def _reduction(least_px: float) -> float:
    """Return the factor by which to reduce the resolution between two full-resolution detections.

    Args:
        least_px: Width of the smallest face of both, in pixels of the detector's image.

    >>> _reduction(100), _reduction(50), _reduction(30), _reduction(25)
    (4.0, 2.0, 1.4285714285714286, 1.0)
    """
    # Without faces, some may appear: half the resolution finds all but the smallest.
    if least_px == np.inf:
        return 2.0
    return next((one for one in _REDUCTIONS if least_px / one >= _ENOUGH_PX), 1.0)


def _shrunk(image: Image, size: tuple[int, int]) -> Image:
    if image.shape[1::-1] == size:
        return image
    # Bilinear interpolation skips pixels from half the size on; above that it is faster.
    method = cv2.INTER_AREA if image.shape[1] >= 2 * size[0] else cv2.INTER_LINEAR
    return cv2.resize(image, size, interpolation=method).astype(np.uint8, copy=False)
