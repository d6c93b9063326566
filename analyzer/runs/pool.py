"""Analysis of one video in several processes.

Each process reads its segments from the file and commits them as parts. The result of a segment does not
depend on the process that analyzes it, so the tables do not depend on the number of processes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import ClassVar

from analyzer.analysis.segment import Models, analyze_segments
from analyzer.errors import CrashError, MediaError, MediaErrorKind
from analyzer.faces import Faces
from analyzer.media.frame import Sample
from analyzer.media.read_report import ReadReport
from analyzer.media.readahead import read_ahead
from analyzer.media.reader import VideoReader
from analyzer.runs.segments import Part, PartStore
from analyzer.settings import Settings
from analyzer.util.cancellation import Cancellation
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
    "not_completed",
    "worker_count",
]

READ_AHEAD = 2
"""Samples held between the decoder and face detection."""

_WORKER_MB = 800.0
"""What one process may need at 1080p, with some margin."""

_CORES_EACH = 2
"""Decoding and inference together keep two cores busy."""

SampleDone = tuple[int, float, int]
"""Of each sample: first segment of the task, time in seconds, number of faces."""

Message = SampleDone | Part


@dataclass(frozen=True)
class Task:
    """A stretch of video for one process."""

    segment: int
    """Its first segment."""
    start_s: float
    end_s: float | None
    """None: to the end of the video, however many segments that is."""
    completed: tuple[int, ...] = ()
    """Segments in it that are committed already: they are read to find the video's end, but not analyzed."""


@dataclass(frozen=True)
class WorkerJob:
    """What every process needs to know, sent once."""

    path: Path
    """The video file."""
    video_id: str
    """Goes into the tables."""
    settings: Settings
    """How to analyze; their threads are divided among the processes."""
    parts: PartStore
    """Where segments are committed."""


def worker_count(settings: Settings, segments: int) -> int:
    """The number of processes: as the settings say, or fitted to cores, memory and segments."""
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
    cancelled: Cancellation,
    stages: StageTimer,
) -> list[ReadReport]:
    """Analyze and commit stretches of a video.

    Args:
        job: The video and how to analyze it.
        tasks: In the order of time; the last one may be open-ended.
        workers: Number of processes.
        on_message: Called in this thread with each sample analyzed and each part committed.
        cancelled: Asked some times a second; once true, the processes drop what is not committed.
        stages: Adds up the time of the stages.

    Returns:
        How each stretch was read, in the order of `tasks`.

    Raises:
        MediaError: The video cannot be read.
        ModelError: A model failed.
        OutputError: A part cannot be written.
        CrashError: A process died.
        StoppedError: The analysis was canceled; committed segments stay.
    """
    # A forked copy of a process with threads may hang.
    context = multiprocessing.get_context("spawn")
    messages: SimpleQueue[Message] = context.SimpleQueue()
    # Closing one end of a pipe tells all processes, also if some of them have been killed.
    watched, held = context.Pipe(duplex=False)
    threads = max(1, job.settings.thread_count // workers)
    job = dataclasses.replace(job, settings=job.settings.replace(threads=threads, workers=1))
    pool = ProcessPoolExecutor(workers, context, _Process.begin, (job, messages, watched))
    try:
        with caller_not_run_again():
            futures = [pool.submit(_Process.analyze, task) for task in tasks]
        for message in _messages(futures, messages):
            cancelled.check()
            if message is not None:
                on_message(message)
        results = [future.result() for future in futures]
    except BrokenProcessPool as error:
        raise CrashError(
            "a worker process ended unexpectedly, perhaps for lack of memory: the same command continues "
            "where it stopped; --workers 1 needs the least memory"
        ) from error
    finally:
        held.close()
        pool.shutdown(wait=True, cancel_futures=True)
        watched.close()
    for _, seconds in results:
        stages.add(seconds)
    return [report for report, _ in results]


def _messages(
    futures: Sequence[Future[tuple[ReadReport, dict[str, float]]]], messages: SimpleQueue[Message]
) -> Iterator[Message | None]:
    """What the processes report, until all are done or one has failed; None some times a second."""
    waiting = set(futures)
    while waiting:
        done, waiting = wait(waiting, timeout=0.1, return_when=FIRST_COMPLETED)
        while not messages.empty():
            yield messages.get()
        yield None
        for future in done:
            future.result()


class _Process:
    """The state of a worker process."""

    job: ClassVar[WorkerJob]
    models: ClassVar[Models | None] = None
    messages: ClassVar[SimpleQueue[Message]]
    abandoned: ClassVar[threading.Event]
    """Set when the analysis is canceled, has failed or is over: what is not committed is not needed."""

    @classmethod
    def begin(cls, job: WorkerJob, messages: SimpleQueue[Message], watched: Connection) -> None:
        die_with_parent()
        parent = multiprocessing.parent_process()
        if parent is not None and not parent.is_alive():
            os._exit(1)  # it ended while this process began
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what happens
        few_arenas()
        cls.job, cls.messages, cls.abandoned = job, messages, threading.Event()
        threading.Thread(target=cls._watch, args=(watched,), daemon=True).start()
        cls.models = Models.load(job.settings)

    @classmethod
    def _watch(cls, watched: Connection) -> None:
        watched.poll(None)  # nothing is ever sent: the other end is closed
        cls.abandoned.set()
        if cls.models is None:  # loading takes a second or more and cannot be interrupted
            os._exit(1)

    @classmethod
    def analyze(cls, task: Task) -> tuple[ReadReport, dict[str, float]]:
        job, stages, models = cls.job, StageTimer(), cls.models
        assert models is not None  # loaded by `begin`
        cancellation = Cancellation(cls.abandoned.is_set)

        def report_sample(time_s: float, faces: Faces) -> None:
            cancellation.check()
            cls.messages.put((task.segment, time_s, len(faces)))

        cancellation.check()
        committed: set[int] = set()
        with VideoReader(job.path, job.settings) as reader, cancellation.closing(reader.close):
            wanted = not_completed(reader.samples(task.start_s, task.end_s), task.completed)
            samples = stages.each("decode", cancellation.checked(wanted))
            with contextlib.closing(read_ahead(samples, READ_AHEAD)) as ahead, _tolerated():
                results = analyze_segments(
                    ahead, models, job.settings, on_progress=report_sample, stages=stages
                )
                with contextlib.closing(results):
                    for result in results:
                        with stages("write"):
                            cls.messages.put(job.parts.commit(result, job.video_id))
                        give_back_memory()
                        committed.add(result.segment)
            if task.segment not in committed and task.segment not in task.completed:
                cls.messages.put(job.parts.commit_empty(task.segment))
            return reader.report(), stages.seconds


def not_completed(
    samples: Generator[Sample, None, None], completed: Collection[int]
) -> Generator[Sample, None, None]:
    """The samples of segments that are not committed yet."""
    with contextlib.closing(samples):
        yield from (sample for sample in samples if sample.segment not in completed)


@contextlib.contextmanager
def _tolerated() -> Iterator[None]:
    """A stretch without a readable frame does not invalidate the others; the whole video is checked later."""
    try:
        yield
    except MediaError as error:
        if error.kind not in (MediaErrorKind.DAMAGED, MediaErrorKind.NO_FRAMES):
            raise
