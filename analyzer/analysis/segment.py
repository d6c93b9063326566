"""`analyze_segments`: find, judge and follow the faces of stretches of video, and look for cuts.

What a segment yields is a pure function of (its samples, models, settings): nothing of another segment
enters, so it does not matter who analyses it, when, or in which order.
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
from analyzer.faces import AttributeModel, EmbeddingModel, FaceDetector, Faces
from analyzer.media.frame import Sample
from analyzer.media.readahead import read_ahead
from analyzer.settings import Settings
from analyzer.util.timing import StageTimer
from analyzer.vision.attributes.estimate import Attributes
from analyzer.vision.calibration import Calibration
from analyzer.vision.detectors.load import load_detector
from analyzer.vision.embedding import DlibEmbedding
from analyzer.vision.selection import models_hash

__all__ = [
    "Models",
    "SegmentResult",
    "analyze_segments",
]

OnProgress = Callable[[float, Faces], None]


OnSample = Callable[[DetectedSample], None]
"""Called with a sample in which faces were detected; it still has its frame."""


# Samples between the search for faces and following: each holds a picture.
_LOOKED_AHEAD = 8


@dataclass(frozen=True)
class Models:
    """One loaded set of networks."""

    detector: FaceDetector
    attributes: AttributeModel
    embedding: EmbeddingModel
    calibration: Calibration
    """How the answers of `attributes` are read."""
    provenance: tuple[dict[str, object], ...]
    """What ``run.json`` says of each network and of what runs it."""
    models_hash: str = ""
    """As `analyzer.vision.selection.models_hash` when they were loaded: the user's files may change later."""

    @classmethod
    def load(cls, settings: Settings) -> Self:
        """Load the networks that `settings` names.

        Raises:
            ModelError: One is missing, damaged or unknown, or there is too little memory.
        """
        known_as = models_hash(settings)
        # Reading and compiling wait for the disk and for one core each.
        with ThreadPoolExecutor() as pool:
            loading = (
                pool.submit(DlibEmbedding, settings),
                pool.submit(load_detector, settings),
                pool.submit(Attributes.load, settings),
            )
            try:
                embedding, detector, attributes = (
                    loading[0].result(),
                    loading[1].result(),
                    loading[2].result(),
                )
            except MemoryError as error:
                raise ModelError(
                    "there is not enough memory to load the networks; free some or raise its limit",
                    no_memory=True,
                ) from error
        return cls(
            detector,
            attributes,
            embedding,
            attributes.calibration,
            (
                detector.provenance,
                *(network.provenance for network in attributes.networks),
                embedding.provenance,
            ),
            known_as,
        )

    @property
    def key(self) -> str:
        """Identifies the networks and their arithmetic in the key of a part file."""
        known = ("name", "sha256", "description_sha256", "engine", "min_score")
        networks = ",".join(":".join(str(model.get(key, "")) for key in known) for model in self.provenance)
        return f"{networks},{self.calibration.gender}"


@dataclass(frozen=True, eq=False)
class SegmentResult:
    """What one segment yields: its samples, the faces of each, and what their tracklets look like."""

    segment: int
    times_s: tuple[float, ...]
    image_names: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    """Width and height of each sample in pixels, as it is shown."""
    cuts: tuple[bool, ...]
    """Whether a cut lies before each sample; before the first one only its neighbor knows."""
    detection_age_s: tuple[float, ...]
    """0 where faces were looked for; else how much earlier the look was whose faces the sample took over."""
    edges: tuple[NDArray[np.uint8], NDArray[np.uint8]]
    """The first and the last sample at a glance, to tell whether a cut lies between two segments."""
    faces: tuple[Faces, ...]
    tracklets: Tracklets

    def __post_init__(self) -> None:
        n = len(self.times_s)
        if any(
            n != len(one)
            for one in (self.image_names, self.sizes, self.cuts, self.detection_age_s, self.faces)
        ):
            raise ValueError("a segment needs one time, name, size, cut, age and Faces per sample")


def analyze_segments(
    samples: Iterable[Sample],
    models: Models,
    settings: Settings,
    *,
    on_progress: OnProgress | None = None,
    on_sample: OnSample | None = None,
    stages: StageTimer | None = None,
) -> Generator[SegmentResult, None, None]:
    """Find, judge and follow the faces of segments, one after another; give each as soon as it is done.

    Args:
        samples: Those of one or more whole segments, in the order of time.
        models: Loaded networks.
        settings: How to analyze.
        on_progress: Called with the time and the faces of each sample.
        on_sample: Called with each sample in which faces were detected.
        stages: Counts the time.

    Raises:
        MediaError: The samples' reader failed.
        ModelError: A network failed.
    """
    stages = stages or StageTimer()
    # Faces are looked for in one thread, followed and judged in another, also over a segment's end.
    with contextlib.closing(read_ahead(_looked(samples, models, settings, stages), _LOOKED_AHEAD)) as looks:
        for segment, group in itertools.groupby(looks, key=lambda pair: pair[0]):
            looked: list[DetectedSample] = []
            # Pictures have no motion: each is a segment of its own, each face in it a tracklet of its own.
            follower = FaceTracker(
                models.embedding,
                models.attributes,
                settings,
                points_in_box=models.detector.points_in_box,
                stages=stages,
            )
            for _, one in group:
                follower.add(one.faces, one.time_s, one.frame, cut=one.cut, close=one.close)
                if on_sample is not None and one.frame is not None:
                    on_sample(one)
                looked.append(one.without_frame())
                if on_progress is not None:
                    on_progress(one.time_s, one.faces)
            yield _result(segment, looked, follower)


def _looked(
    samples: Iterable[Sample], models: Models, settings: Settings, stages: StageTimer
) -> Iterator[tuple[int, DetectedSample]]:
    for segment, of_segment in itertools.groupby(samples, key=lambda sample: sample.segment):
        for looked in detect_faces(of_segment, models.detector, settings, stages):
            yield segment, looked


def _result(segment: int, looked: Sequence[DetectedSample], follower: FaceTracker) -> SegmentResult:
    found, tracklets = follower.finish()
    return SegmentResult(
        segment,
        tuple(one.time_s for one in looked),
        tuple(one.image_name for one in looked),
        tuple(one.size for one in looked),
        tuple(one.cut for one in looked),
        tuple(one.detection_age_s for one in looked),
        (looked[0].thumbnail, looked[-1].thumbnail),
        tuple(found),
        tracklets,
    )
