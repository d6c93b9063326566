"""`analyse_segments`: find, judge and follow the faces of stretches of video, and look for cuts.

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
from numpy.typing import NDArray

from analyzer.faces import AttributeModel, EmbeddingModel, FaceDetector, Faces, face_widths
from analyzer.follow import Follower, Tracklets
from analyzer.frames import Sample, read_ahead
from analyzer.settings import Settings
from analyzer.shots import CutFinder, glance
from analyzer.vision.attributes import DlibAttributes
from analyzer.vision.calibration import Calibration
from analyzer.vision.detectors import CenterFace
from analyzer.vision.embedding import DlibEmbedding

__all__ = ["Models", "SegmentResult", "analyse_segments"]

OnProgress = Callable[[float, Sequence[Faces]], None]

# Samples analysed together: enough for the attribute networks' batches, few enough for the memory.
_CHUNK = 2


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

    @classmethod
    def load(cls, settings: Settings) -> Self:
        """Load the default networks.

        Raises:
            ModelError: One is missing or damaged.
        """
        detector, attributes = CenterFace(settings), DlibAttributes(settings)
        embedding = DlibEmbedding(settings)
        return cls(
            detector,
            attributes,
            embedding,
            attributes.calibration,
            (
                {**detector.model.provenance(), "engine": detector.engine},
                *({**model.provenance(), "engine": attributes.engine} for model in attributes.models),
                {**embedding.model.provenance(), "engine": embedding.engine},
            ),
        )

    @property
    def key(self) -> str:
        """Identifies the networks and their arithmetic in the key of a part file."""
        networks = ",".join(f"{model['sha256']}:{model['engine']}" for model in self.provenance)
        return f"{networks},{self.calibration.gender}"


@dataclass(frozen=True, eq=False)
class SegmentResult:
    """What one segment yields: its samples, the faces of each, and what their tracklets look like."""

    segment: int
    times_s: tuple[float, ...]
    image_names: tuple[str, ...]
    cuts: tuple[bool, ...]
    """Whether a cut lies before each sample; before the first one only its neighbour knows."""
    edges: tuple[NDArray[np.uint8], NDArray[np.uint8]]
    """The first and the last sample at a glance, to tell whether a cut lies between two segments."""
    faces: tuple[Faces, ...]
    tracklets: Tracklets

    def __post_init__(self) -> None:
        if not len(self.times_s) == len(self.image_names) == len(self.cuts) == len(self.faces):
            raise ValueError("a segment needs one time, name, cut and Faces per sample")


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
            cuts: list[bool] = []
            glances: list[NDArray[np.uint8]] = []
            finder = CutFinder()
            follower = Follower(models.embedding)
            # Pictures have no motion: each is a segment of its own, each face in it a tracklet of its own.
            for chunk in group:
                judged = _judged(chunk, models.attributes, settings)
                for sample, faces, look in zip(chunk.samples, judged, chunk.glances, strict=True):
                    cuts.append(finder.is_cut(look))
                    follower.add(faces, sample.frame.time_s, sample.frame, cut=cuts[-1])
                    times.append(sample.frame.time_s)
                    names.append(sample.image_name)
                    glances = [*glances[:1], look]
                if on_progress is not None:
                    on_progress(times[-1], judged)
            found, tracklets = follower.finish()
            edges = glances[0], glances[-1]
            yield SegmentResult(
                segment, tuple(times), tuple(names), tuple(cuts), edges, tuple(found), tracklets
            )


@dataclass(frozen=True)
class _Chunk:
    samples: list[Sample]
    glances: list[NDArray[np.uint8]]
    faces: list[Faces]


def _detected(samples: Iterable[Sample], detector: FaceDetector) -> Iterator[_Chunk]:
    for _, of_segment in itertools.groupby(samples, key=lambda sample: sample.segment):
        while chunk := list(itertools.islice(of_segment, _CHUNK)):
            found: list[Faces] = []
            glances: list[NDArray[np.uint8]] = []
            # Pictures of one size go together; videos seldom change their size.
            for size, group in itertools.groupby(chunk, key=lambda one: (one.frame.width, one.frame.height)):
                scaled = [sample.frame.scaled(*detector.input_size(*size)) for sample in group]
                found += detector.detect(scaled, [size] * len(scaled))
                glances += [glance(picture) for picture in scaled]
            yield _Chunk(chunk, glances, found)


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
