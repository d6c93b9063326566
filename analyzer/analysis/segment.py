"""`analyze_segments`: detect and track the faces of a segment, estimate gender and age, find shot boundaries.

The result is a pure function of (the segment's samples, models, settings): it does not depend on other
segments, so segments can be analyzed by any process, at any time, in any order.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from analyzer.analysis.detection import DetectedSample, detect_faces
from analyzer.analysis.tracking import FaceTracker, Tracklets
from analyzer.errors import ModelError
from analyzer.faces import FaceAligner, FaceDetector, FaceReader, Faces
from analyzer.media.frame import Sample
from analyzer.media.readahead import read_ahead
from analyzer.settings import Settings
from analyzer.util.timing import StageTimer
from analyzer.vision.alignment import load_aligner
from analyzer.vision.calibration import Calibration
from analyzer.vision.detectors.load import load_detector
from analyzer.vision.reader import CropReader
from analyzer.vision.selection import models_hash

__all__ = [
    "Models",
    "SegmentResult",
    "analyze_segments",
]

OnProgress = Callable[[float, Faces], None]

OnSample = Callable[[DetectedSample], None]
"""Called with a sample in which faces were detected; it still has its frame."""

_DETECTED_AHEAD = 8
"""Samples between detection and tracking; each holds a frame."""


@dataclass(frozen=True)
class Models:
    """One set of loaded models."""

    detector: FaceDetector
    reader: FaceReader
    calibration: Calibration
    """How the estimates of `reader` are corrected."""
    provenance: tuple[dict[str, object], ...]
    """Facts of each model and of its inference engine, for ``run.json``."""
    aligner: FaceAligner | None = None
    """None: crops are aligned by the detector's landmarks."""
    models_hash: str = ""
    """`analyzer.vision.selection.models_hash` when they were loaded: the user's files may change later."""

    @classmethod
    def load(cls, settings: Settings) -> Self:
        """Load the models that `settings` names.

        Raises:
            ModelError: One is missing, damaged or unknown, or there is too little memory.
        """
        known_as = models_hash(settings)
        # Reading and compiling wait for the disk and for one core each.
        with ThreadPoolExecutor() as pool:
            loading = (
                pool.submit(load_detector, settings),
                pool.submit(CropReader.load, settings),
                pool.submit(load_aligner, settings),
            )
            try:
                detector, reader, aligner = loading[0].result(), loading[1].result(), loading[2].result()
            except MemoryError as error:
                raise ModelError(
                    "there is not enough memory to load the models: free some, or raise its limit",
                    no_memory=True,
                ) from error
        return cls(
            detector,
            reader,
            reader.calibration,
            (
                detector.provenance,
                *(() if aligner is None else (aligner.provenance,)),
                *reader.provenance,
            ),
            aligner,
            known_as,
        )

    @property
    def key(self) -> str:
        """Identifies the models and their arithmetic in the cache key of a segment."""
        known = ("name", "sha256", "description_sha256", "engine", "min_score")
        networks = ",".join(":".join(str(model.get(key, "")) for key in known) for model in self.provenance)
        return f"{networks},{self.calibration.gender}"


@dataclass(frozen=True, eq=False)
class SegmentResult:
    """The result of a segment: its samples, the faces of each, and the embeddings of the tracklets."""

    segment: int
    times_s: tuple[float, ...]
    image_names: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    """Width and height of each sample in pixels, as it is displayed."""
    shot_boundaries: tuple[bool, ...]
    """Whether a shot boundary lies before each sample; False before the first, see `edges`."""
    detection_age_s: tuple[float, ...]
    """0 if faces were detected in a sample, otherwise the age of the reused detections."""
    edges: tuple[NDArray[np.uint8], NDArray[np.uint8]]
    """Thumbnails of the first and the last sample, to find shot boundaries between segments."""
    faces: tuple[Faces, ...]
    tracklets: Tracklets

    def __post_init__(self) -> None:
        n = len(self.times_s)
        if any(
            n != len(one)
            for one in (self.image_names, self.sizes, self.shot_boundaries, self.detection_age_s, self.faces)
        ):
            raise ValueError(
                "a segment needs one time, name, size, shot boundary, age and Faces for each sample"
            )


def analyze_segments(
    samples: Iterable[Sample],
    models: Models,
    settings: Settings,
    *,
    on_progress: OnProgress | None = None,
    on_sample: OnSample | None = None,
    stages: StageTimer | None = None,
) -> Generator[SegmentResult, None, None]:
    """Analyze segments one after another; yield each as soon as it is done.

    Args:
        samples: The samples of one or more whole segments, in the order of time.
        models: Loaded models.
        settings: How to analyze.
        on_progress: Called with the time and the faces of each sample.
        on_sample: Called with each sample in which faces were detected.
        stages: Measures the time.

    Raises:
        MediaError: The reader of the samples failed.
        ModelError: A model failed.
    """
    stages = stages or StageTimer()
    # Detection runs in a thread of its own, ahead of tracking, across the ends of segments.
    detecting = read_ahead(_detected(samples, models, settings, stages), _DETECTED_AHEAD)
    with contextlib.closing(detecting) as detected:
        for segment, group in itertools.groupby(detected, key=lambda pair: pair[0]):
            done: list[DetectedSample] = []
            # Images are segments of their own, so each face in them is a tracklet of its own.
            tracker = FaceTracker(
                models.reader,
                settings,
                aligner=models.aligner,
                points_in_box=models.detector.points_in_box,
                stages=stages,
            )
            for _, one in group:
                tracker.add(
                    one.faces,
                    one.time_s,
                    one.frame,
                    shot_boundary=one.shot_boundary,
                    still=bool(one.image_name),
                )
                if on_sample is not None and one.frame is not None:
                    on_sample(one)
                done.append(one.without_frame())
                if on_progress is not None:
                    on_progress(one.time_s, one.faces)
            yield _result(segment, done, tracker)


def _detected(
    samples: Iterable[Sample], models: Models, settings: Settings, stages: StageTimer
) -> Iterator[tuple[int, DetectedSample]]:
    for segment, of_segment in itertools.groupby(samples, key=lambda sample: sample.segment):
        for sample in detect_faces(of_segment, models.detector, settings, stages):
            yield segment, sample


def _result(segment: int, samples: Sequence[DetectedSample], tracker: FaceTracker) -> SegmentResult:
    faces, tracklets = tracker.finish()
    return SegmentResult(
        segment,
        tuple(one.time_s for one in samples),
        tuple(one.image_name for one in samples),
        tuple(one.size for one in samples),
        tuple(one.shot_boundary for one in samples),
        tuple(one.detection_age_s for one in samples),
        (samples[0].thumbnail, samples[-1].thumbnail),
        tuple(faces),
        tracklets,
    )
