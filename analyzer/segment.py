"""`analyse_segments`: find, judge and follow the faces of stretches of video.

What a segment yields is a pure function of (its samples, models, settings): nothing of another segment
enters, so it does not matter who analyses it, when, or in which order.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import supervision as sv
from scipy.optimize import linear_sum_assignment
from trackers import ByteTrackTracker
from trackers.utils.iou import BIoU

from analyzer.faces import AttributeModel, FaceDetector, Faces, face_widths
from analyzer.frames import Sample, read_ahead
from analyzer.settings import Settings
from analyzer.vision.attributes import DlibAttributes
from analyzer.vision.detectors import CenterFace

__all__ = ["LOST_AFTER_S", "Models", "SegmentResult", "analyse_segments", "follow"]

OnProgress = Callable[[float, Sequence[Faces]], None]

# Samples analysed together: enough for the attribute networks' batches, few enough for the memory.
_CHUNK = 2
# Between samples a face moves by a part of its width: boxes are compared with this margin around them.
_MATCH_MARGIN = 0.3
_MATCH_IOU = 0.1
# The unit in which the tracker counts its patience, whatever the true rate.
_TRACKER_RATE = 30.0
LOST_AFTER_S = 1.0
"""A face not seen for longer begins a new tracklet (longer where samples are further apart)."""


@dataclass(frozen=True)
class Models:
    """One loaded set of networks."""

    detector: FaceDetector
    attributes: AttributeModel
    provenance: tuple[dict[str, object], ...]
    """What ``run.json`` says of each network and of what runs it."""

    @classmethod
    def load(cls, settings: Settings) -> Self:
        """Load the default networks.

        Raises:
            ModelError: One is missing or damaged.
        """
        detector, attributes = CenterFace(settings), DlibAttributes(settings)
        return cls(
            detector,
            attributes,
            (
                {**detector.model.provenance(), "engine": detector.engine},
                *({**model.provenance(), "engine": attributes.engine} for model in attributes.models),
            ),
        )

    @property
    def key(self) -> str:
        """Identifies the networks and their arithmetic in the key of a part file."""
        return ",".join(f"{model['sha256']}:{model['engine']}" for model in self.provenance)


@dataclass(frozen=True)
class SegmentResult:
    """What one segment yields: its samples, and the faces of each."""

    segment: int
    times_s: tuple[float, ...]
    image_names: tuple[str, ...]
    faces: tuple[Faces, ...]

    def __post_init__(self) -> None:
        if not len(self.times_s) == len(self.image_names) == len(self.faces):
            raise ValueError("a segment needs one time, one name and one Faces per sample")


def analyse_segments(
    samples: Iterable[Sample], models: Models, settings: Settings, *, on_progress: OnProgress | None = None
) -> Generator[SegmentResult, None, None]:
    """Find, judge and follow the faces of segments, one after another; give each as soon as it is done.

    Args:
        samples: Those of one or more whole segments, in the order of time.
        models: Loaded networks.
        settings: How to analyse.
        on_progress: Called now and then with the time reached and the faces of the latest samples.

    Raises:
        MediaError: The samples' reader failed.
        ModelError: A network failed.
    """
    # Faces are looked for in one thread and judged in another, a chunk later, also over a segment's end.
    with contextlib.closing(read_ahead(_detected(samples, models.detector), 1)) as chunks:
        for segment, group in itertools.groupby(chunks, key=lambda chunk: chunk.samples[0].segment):
            times: list[float] = []
            names: list[str] = []
            found: list[Faces] = []
            for chunk in group:
                judged = _judged(chunk, models.attributes, settings)
                found += judged
                times += [sample.frame.time_s for sample in chunk.samples]
                names += [sample.image_name for sample in chunk.samples]
                if on_progress is not None:
                    on_progress(times[-1], judged)
            # Pictures have no motion: each is a segment of its own, each face in it a tracklet of its own.
            yield SegmentResult(segment, tuple(times), tuple(names), tuple(follow(found, times)))


@dataclass(frozen=True)
class _Chunk:
    samples: list[Sample]
    faces: list[Faces]


def _detected(samples: Iterable[Sample], detector: FaceDetector) -> Iterator[_Chunk]:
    for _, of_segment in itertools.groupby(samples, key=lambda sample: sample.segment):
        while chunk := list(itertools.islice(of_segment, _CHUNK)):
            found: list[Faces] = []
            # Pictures of one size go together; videos seldom change their size.
            for size, group in itertools.groupby(chunk, key=lambda one: (one.frame.width, one.frame.height)):
                scaled = [sample.frame.scaled(*detector.input_size(*size)) for sample in group]
                found += detector.detect(scaled, [size] * len(scaled))
            yield _Chunk(chunk, found)


def _judged(chunk: _Chunk, attributes: AttributeModel, settings: Settings) -> list[Faces]:
    wanted = [
        index
        for index, faces in enumerate(chunk.faces)
        if (face_widths(faces.boxes) >= settings.min_judged_px).any()
    ]
    results = attributes.estimate(
        [chunk.samples[index].frame for index in wanted], [chunk.faces[index] for index in wanted]
    )
    judged = dict(zip(wanted, results, strict=True))
    return [judged.get(index, faces) for index, faces in enumerate(chunk.faces)]


def follow(found: Sequence[Faces], times_s: Sequence[float]) -> list[Faces]:
    """Follow faces through the samples of a segment: fills in `track_ids`, from 0.

    ByteTrack (Zhang et al. 2022) of the `trackers` library with buffered IoU, told the true times. A face
    that is seen once belongs to a tracklet of one sighting.

    Args:
        found: The faces of each sample.
        times_s: When each sample is shown, strictly increasing.

    >>> walk = [Faces.build(boxes=[[x, 0, x + 20, 20]], scores=[0.9]) for x in (0, 8, 16)]
    >>> [faces.track_ids.tolist() for faces in follow(walk, [0.0, 0.2, 0.4])]
    [[0], [0], [0]]
    """
    ids = _track(found, times_s) if len(found) > 1 else [np.full(len(faces), -1) for faces in found]
    _adopt_first_sightings(found, ids)
    following = itertools.count(max((int(one.max()) for one in ids if len(one)), default=-1) + 1)
    for one in ids:
        for index in np.flatnonzero(one < 0):
            one[index] = next(following)
    return [faces.replace(track_ids=one) for faces, one in zip(found, ids, strict=True)]


def _track(found: Sequence[Faces], times_s: Sequence[float]) -> list[np.ndarray]:
    interval_s = float(np.median(np.diff(times_s)))
    tracker = ByteTrackTracker(
        lost_track_buffer=round(max(LOST_AFTER_S, 2.5 * interval_s) * _TRACKER_RATE),
        frame_rate=1 / interval_s,
        track_activation_threshold=0.0,
        high_conf_det_threshold=0.0,
        minimum_consecutive_frames=1,
        minimum_iou_threshold=_MATCH_IOU,
        iou=BIoU(_MATCH_MARGIN),
    )
    ids = []
    for faces, time_s in zip(found, times_s, strict=True):
        detections = sv.Detections(
            xyxy=np.array(faces.boxes, dtype=np.float64),
            confidence=np.array(faces.scores),
            data={"row": np.arange(len(faces))},
        )
        tracked = tracker.update(detections, timestamp=time_s)
        one = np.full(len(faces), -1, dtype=np.int64)
        if len(tracked):
            one[tracked.data["row"].astype(np.int64)] = tracked.tracker_id
        ids.append(one)
    return ids


def _adopt_first_sightings(found: Sequence[Faces], ids: list[np.ndarray]) -> None:
    """Give each tracklet its very first face, which the tracker returns before it has an id."""
    known: set[int] = set()
    for sample, one in enumerate(ids):
        new = [index for index in np.flatnonzero(one >= 0) if int(one[index]) not in known]
        known.update(int(one[index]) for index in new)
        free = np.flatnonzero(ids[sample - 1] < 0) if sample else np.empty(0, dtype=np.int64)
        if not new or not len(free):
            continue
        overlap = BIoU(_MATCH_MARGIN).compute(found[sample - 1].boxes[free], found[sample].boxes[new])
        # The best of all pairings, as the tracker does it: nearest first would give a face to a neighbour.
        for row, column in zip(*linear_sum_assignment(overlap, maximize=True), strict=True):
            if overlap[row, column] >= _MATCH_IOU:
                ids[sample - 1][free[row]] = one[new[column]]
