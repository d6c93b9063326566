"""Segments of one video in several processes.

Each process reads its segments from the file by itself and commits them as parts. A segment yields the same
whoever analyses it, so the results do not depend on the number of processes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import multiprocessing
import os
import signal
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import ClassVar

from analyzer.analysis.segment import Models, analyze_segments
from analyzer.errors import CrashError, MediaError, MediaErrorKind, StoppedError
from analyzer.faces import Faces
from analyzer.media.frame import Sample
from analyzer.media.read_report import ReadReport
from analyzer.media.readahead import read_ahead
from analyzer.media.reader import VideoReader
from analyzer.runs.segments import Part, PartStore
from analyzer.settings import Settings
from analyzer.util.system import (
    available_memory_mb,
    caller_not_run_again,
    die_with_parent,
    few_arenas,
    give_back_memory,
)
from analyzer.util.timing import StageTimer

__all__ = [
    "READ_AHEAD",
    "Task",
    "WorkerJob",
    "analyze_in_processes",
    "not_kept",
    "stopped",
    "worker_count",
]

READ_AHEAD = 2
"""Samples kept between the decoder and the search for faces."""


# What one process may need at 1080p, with something to spare.
_WORKER_MB = 800.0


# Decoding and the networks together keep two cores busy.
_CORES_EACH = 2


Progress = tuple[int, float, int]
"""Of each sample: segment of the task, time in seconds, number of faces."""


Message = Progress | Part


@dataclass(frozen=True)
class Task:
    """A stretch to be analyzed by one process."""

    segment: int
    start_s: float
    end_s: float | None
    """None: to the end of the video, however many segments that is."""
    kept: tuple[int, ...] = ()
    """Segments of it that are kept already: they are read to see how the video ends, but not analyzed."""


@dataclass(frozen=True)
class WorkerJob:
    """What every process is told once."""

    path: Path
    """The video file."""
    video_id: str
    """Goes into the tables."""
    settings: Settings
    """How to analyze; their threads are shared out."""
    parts: PartStore
    """Where segments are kept."""


def worker_count(settings: Settings, segments: int) -> int:
    """How many processes to use: as the settings say, or fitted to cores, memory and segments."""
    if settings.workers:
        return min(settings.workers, segments)
    memory_mb = available_memory_mb()
    by_memory = math.inf if memory_mb is None else memory_mb // _WORKER_MB
    return max(1, int(min(settings.thread_count // _CORES_EACH, by_memory, segments)))


def analyze_in_processes(
    job: WorkerJob,
    tasks: Sequence[Task],
    *,
    workers: int,
    on_message: Callable[[Message], None],
    stop: Callable[[], bool],
    stages: StageTimer,
) -> list[ReadReport]:
    """Analyze and commit stretches of a video.

    Args:
        job: The video and what to do with it.
        tasks: In the order of time; the last one may be open.
        workers: Number of processes.
        on_message: Told how far the processes are and what they have committed, in the calling thread.
        stop: Asked some times a second; once it is true, segments in work are finished, no more are begun.
        stages: Counts the time.

    Returns:
        How each stretch was read, in the order of `tasks`.

    Raises:
        MediaError: The video cannot be read.
        ModelError: A network failed.
        OutputError: A part cannot be written.
        CrashError: A process died.
        StoppedError: `stop` was true before all was done.
    """
    # A forked copy of a process with threads may hang.
    context = multiprocessing.get_context("spawn")
    messages: SimpleQueue[Message] = context.SimpleQueue()
    events = _Events(finish=context.Event(), abandon=context.Event())
    threads = max(1, job.settings.thread_count // workers)
    job = dataclasses.replace(job, settings=job.settings.replace(threads=threads, workers=1))
    pool = ProcessPoolExecutor(workers, context, _Process.begin, (job, messages, events))
    try:
        with caller_not_run_again():
            futures = [pool.submit(_Process.analyze, task) for task in tasks]
        for message in _messages(futures, messages):
            if message is not None:
                on_message(message)
            if stop():
                events.finish.set()
        results = [future.result() for future in futures]
    except BrokenProcessPool as error:
        raise CrashError(
            "a worker process ended unexpectedly, perhaps for want of memory: the same command goes on "
            "where it stopped; --workers 1 needs least memory"
        ) from error
    finally:
        events.abandon.set()
        pool.shutdown(wait=True, cancel_futures=True)
    for _, seconds in results:
        stages.add(seconds)
    return [report for report, _ in results]


def _messages(
    futures: Sequence[Future[tuple[ReadReport, dict[str, float]]]], messages: SimpleQueue[Message]
) -> Iterator[Message | None]:
    """What the processes say, until all are done or one has failed; None now and then."""
    waiting = set(futures)
    while waiting:
        done, waiting = wait(waiting, timeout=0.1, return_when=FIRST_COMPLETED)
        while not messages.empty():
            yield messages.get()
        yield None
        for future in done:
            with contextlib.suppress(StoppedError):  # the others finish their segments too
                future.result()


@dataclass(frozen=True)
class _Events:
    finish: Event
    """The segment in work is the last one."""
    abandon: Event
    """The run was ended: what is not yet committed is not needed."""


class _Process:
    """What a worker process holds."""

    job: ClassVar[WorkerJob]
    models: ClassVar[Models]
    messages: ClassVar[SimpleQueue[Message]]
    events: ClassVar[_Events]

    @classmethod
    def begin(cls, job: WorkerJob, messages: SimpleQueue[Message], events: _Events) -> None:
        die_with_parent()
        parent = multiprocessing.parent_process()
        if parent is not None and not parent.is_alive():
            os._exit(1)  # it ended while this process began
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is the parent's to say what happens
        few_arenas()
        cls.job, cls.messages, cls.events = job, messages, events
        cls.models = Models.load(job.settings)

    @classmethod
    def analyze(cls, task: Task) -> tuple[ReadReport, dict[str, float]]:
        job, stages = cls.job, StageTimer()

        def tell(time_s: float, faces: Faces) -> None:
            if cls.events.abandon.is_set():
                raise stopped()
            cls.messages.put((task.segment, time_s, len(faces)))

        if cls.events.finish.is_set():
            raise stopped()
        committed: set[int] = set()
        with VideoReader(job.path, job.settings) as reader:
            wanted = not_kept(reader.samples(task.start_s, task.end_s), task.kept)
            samples = stages.each("decode", wanted)
            with contextlib.closing(read_ahead(samples, READ_AHEAD)) as ahead, _tolerated(task):
                results = analyze_segments(ahead, cls.models, job.settings, on_progress=tell, stages=stages)
                with contextlib.closing(results):
                    for result in results:
                        with stages("write"):
                            cls.messages.put(job.parts.commit(result, job.video_id))
                        give_back_memory()
                        committed.add(result.segment)
                        if task.end_s is None and cls.events.finish.is_set():
                            raise stopped()
            if task.segment not in committed and task.segment not in task.kept:
                cls.messages.put(job.parts.commit_empty(task.segment))
            return reader.report(), stages.seconds


def not_kept(samples: Generator[Sample, None, None], kept: Collection[int]) -> Generator[Sample, None, None]:
    """The samples of segments that are not kept already: what was committed is not analyzed again."""
    with contextlib.closing(samples):
        yield from (sample for sample in samples if sample.segment not in kept)


@contextlib.contextmanager
def _tolerated(task: Task) -> Iterator[None]:
    """A stretch without a good picture does not make the others worthless; the whole is judged later."""
    try:
        yield
    except MediaError as error:
        if error.kind not in (MediaErrorKind.DAMAGED, MediaErrorKind.NO_FRAMES):
            raise


def stopped() -> StoppedError:
    """The error of an analysis that was asked to end."""
    return StoppedError("the analysis was asked to end: the same command goes on where it stopped")
