"""Analysis of a stretch of a video in one process: its segments are read, analyzed and committed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Generator, Iterator
from dataclasses import dataclass

from analyzer.analysis.segment import Models, OnSample, analyze_segments
from analyzer.errors import MediaError, MediaErrorKind
from analyzer.faces import Faces
from analyzer.media.arrays import ArrayReader
from analyzer.media.frame import Sample
from analyzer.media.images import ImageReader
from analyzer.media.read_report import NOTHING_READ, ReadReport
from analyzer.media.readahead import read_ahead
from analyzer.media.reader import VideoReader
from analyzer.runs.segments import Part, PartStore
from analyzer.settings import Settings
from analyzer.util.cancellation import Cancellation
from analyzer.util.system import give_back_memory
from analyzer.util.timing import StageTimer

__all__ = [
    "Message",
    "Reader",
    "Stretch",
    "WorkerJob",
    "analyze_stretch",
    "damage_tolerated",
]

Reader = VideoReader | ImageReader | ArrayReader

_READ_AHEAD = 2
"""Samples held between the decoder and face detection."""

_EMPTY_COMMITTED = 100
"""How many segments without samples are committed as such before one that has some; others are read again."""

SampleDone = tuple[int, float, int]
"""Of each sample: first segment of the stretch, time in seconds, number of faces."""

Message = SampleDone | Part


@dataclass(frozen=True)
class Stretch:
    """Neighboring segments of a video."""

    first: int
    """The first of them."""
    stop: int | None
    """The first one after them; None: they reach to the end of the video, however many that is."""
    completed: tuple[int, ...] = ()
    """Those that are committed already: they are read to find the video's end, but not analyzed."""


@dataclass(frozen=True)
class WorkerJob:
    """What is the same for all stretches of a video."""

    video_id: str
    """Goes into the tables."""
    settings: Settings
    """How to analyze."""
    parts: PartStore
    """Where segments are committed."""


def analyze_stretch(  # noqa: PLR0917
    stretch: Stretch,
    reader: Reader,
    models: Models,
    job: WorkerJob,
    on_message: Callable[[Message], None],
    cancellation: Cancellation,
    stages: StageTimer,
    *,
    on_sample: OnSample | None = None,
) -> None:
    """Analyze and commit those segments of a stretch that are not committed.

    Segments without samples are committed too, as empty ones; at the end of the video only those before one
    with samples.

    Args:
        stretch: The segments.
        reader: Of the video.
        models: Loaded models.
        job: The video, and where its segments are committed.
        on_message: Called in this thread with each sample analyzed and each part committed.
        cancellation: Asked some times a second; once true, what is not committed is dropped.
        stages: Adds up the time of the stages.
        on_sample: Called in this thread with each sample in which faces were detected.

    Raises:
        MediaError: The video cannot be read; at its end also if there is no readable frame.
        ModelError: A model failed.
        OutputError: A part cannot be written.
        StoppedError: The analysis was canceled; committed segments stay.
    """
    parts, due = job.parts, stretch.first

    def read_report(segment: int) -> ReadReport:
        return reader.segment_report(segment) if isinstance(reader, VideoReader) else NOTHING_READ

    def report_sample(time_s: float, faces: Faces) -> None:
        cancellation.check()
        on_message((stretch.first, time_s, len(faces)))

    def commit_empty(first: int, stop: int) -> None:
        for segment in range(first, stop):
            if segment not in stretch.completed:
                on_message(parts.commit_empty(segment, read=read_report(segment)))

    start_s = reader.segment_bounds(due)[0] if due else 0.0
    end_s = None if stretch.stop is None else reader.segment_bounds(stretch.stop)[0]
    wanted = _not_completed(reader.samples(start_s, end_s), stretch.completed)
    samples = stages.each("decode", cancellation.checked(wanted))
    tolerated = contextlib.nullcontext() if stretch.stop is None else damage_tolerated()
    with (
        tolerated,
        cancellation.closing(reader.close),
        contextlib.closing(read_ahead(samples, _READ_AHEAD)) as ahead,
    ):
        results = analyze_segments(
            ahead, models, job.settings, on_progress=report_sample, on_sample=on_sample, stages=stages
        )
        with contextlib.closing(results):
            for result in results:
                with stages("write"):
                    commit_empty(max(due, result.segment - _EMPTY_COMMITTED), result.segment)
                    read = read_report(result.segment)
                    on_message(parts.commit(result, job.video_id, read=read))
                give_back_memory()  # else a long video would need more than a short one
                due = result.segment + 1
    if stretch.stop is not None:
        commit_empty(due, stretch.stop)


def _not_completed(
    samples: Generator[Sample, None, None], completed: Collection[int]
) -> Generator[Sample, None, None]:
    """The samples of segments that are not committed yet."""
    with contextlib.closing(samples):
        yield from (sample for sample in samples if sample.segment not in completed)


@contextlib.contextmanager
def damage_tolerated() -> Iterator[None]:
    """A stretch without a readable frame does not invalidate the others; the whole video is checked later."""
    try:
        yield
    except MediaError as error:
        if error.kind not in (MediaErrorKind.DAMAGED, MediaErrorKind.NO_FRAMES):
            raise
