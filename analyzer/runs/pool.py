"""Analysis of one video in several processes.

Each process reads its segments from the file and commits them as parts. The result of a segment does not
depend on the process that analyzes it, so the tables do not depend on the number of processes.
"""

from __future__ import annotations

import atexit
import dataclasses
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any, ClassVar

from analyzer.analysis.segment import Models
from analyzer.errors import CrashError
from analyzer.media.read_report import NOTHING_READ, ReadReport
from analyzer.media.reader import VideoReader
from analyzer.runs.stretch import Message, Stretch, WorkerJob, analyze_stretch, damage_tolerated
from analyzer.settings import Settings
from analyzer.util.cancellation import Cancellation
from analyzer.util.system import (
    available_memory_mb,
    caller_not_run_again,
    die_with_parent,
    few_arenas,
)
from analyzer.util.timing import StageTimer

__all__ = ["analyze_in_processes", "worker_count"]

_WORKER_MB = 800.0
"""What one process may need at 1080p, with some margin."""

_CORES_EACH = 2
"""Decoding and inference together keep two cores busy."""


def worker_count(settings: Settings, segments: int) -> int:
    """The number of processes: as the settings say, or fitted to cores, memory and segments."""
    if settings.workers:
        return min(settings.workers, segments)
    memory_mb = available_memory_mb()
    by_memory = math.inf if memory_mb is None else memory_mb // _WORKER_MB
    return max(1, int(min(settings.thread_count // _CORES_EACH, by_memory, segments)))


def analyze_in_processes(
    path: Path,
    job: WorkerJob,
    stretches: Sequence[Stretch],
    *,
    workers: int,
    on_message: Callable[[Message], None],
    cancelled: Cancellation,
    stages: StageTimer,
) -> ReadReport:
    """Analyze and commit stretches of a video.

    Args:
        path: The video file.
        job: How to analyze it; its threads are divided among the processes.
        stretches: In the order of time; the last one is open-ended.
        workers: Number of processes.
        on_message: Called in this thread with each sample analyzed and each part committed.
        cancelled: Asked some times a second; once true, the processes drop what is not committed.
        stages: Adds up the time of the stages.

    Returns:
        How the last stretch was read, without the segments that are committed.

    Raises:
        MediaError: The video cannot be read.
        ModelError: A model failed.
        OutputError: A part cannot be written.
        CrashError: A process died.
        StoppedError: The analysis was canceled; committed segments stay.
    """
    # A forked copy of a process with threads may hang.
    context = _Context()
    messages: SimpleQueue[Message] = context.SimpleQueue()
    # Closing one end of a pipe tells all processes, also if some of them have been killed.
    watched, held = context.Pipe(duplex=False)
    threads = max(1, job.settings.thread_count // workers)
    job = dataclasses.replace(job, settings=job.settings.replace(threads=threads, workers=1))
    pool = ProcessPoolExecutor(workers, context, _Process.begin, (path, job, messages, watched))
    try:
        with caller_not_run_again():
            futures = [pool.submit(_Process.analyze, stretch) for stretch in stretches]
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
    except BaseException:
        # Some may still import modules, which takes seconds on a busy machine. What is committed is whole.
        for process in context.started:
            if process.pid is not None:
                process.terminate()
        raise
    finally:
        held.close()
        pool.shutdown(wait=True, cancel_futures=True)
        watched.close()
    for _, seconds in results:
        stages.add(seconds)
    return results[-1][0]


class _Context(SpawnContext):
    """Remembers the processes of one pool."""

    def __init__(self) -> None:
        super().__init__()
        self.started: list[SpawnProcess] = []

    def Process(self, *args: Any, **options: Any) -> SpawnProcess:  # type: ignore[override]  # noqa: N802
        """Make a process."""
        process = SpawnProcess(*args, **options)
        self.started.append(process)
        return process


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

    path: ClassVar[Path]
    job: ClassVar[WorkerJob]
    models: ClassVar[Models | None] = None
    messages: ClassVar[SimpleQueue[Message]]
    abandoned: ClassVar[threading.Event]
    """Set when the analysis is canceled, has failed or is over: what is not committed is not needed."""

    @classmethod
    def begin(cls, path: Path, job: WorkerJob, messages: SimpleQueue[Message], watched: Connection) -> None:
        die_with_parent()
        parent = multiprocessing.parent_process()
        if parent is not None and not parent.is_alive():
            os._exit(1)  # it ended while this process began
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what happens
        # Results are sent before: taking models down would only keep the parent waiting.
        atexit.register(os._exit, 0)
        few_arenas()
        cls.path, cls.job, cls.messages, cls.abandoned = path, job, messages, threading.Event()
        threading.Thread(target=cls._watch, args=(watched,), daemon=True).start()
        cls.models = Models.load(job.settings)

    @classmethod
    def _watch(cls, watched: Connection) -> None:
        watched.poll(None)  # nothing is ever sent: the other end is closed
        cls.abandoned.set()
        if cls.models is None:  # loading takes a second or more and cannot be interrupted
            os._exit(1)

    @classmethod
    def analyze(cls, stretch: Stretch) -> tuple[ReadReport, dict[str, float]]:
        job, stages, models = cls.job, StageTimer(), cls.models
        assert models is not None  # loaded by `begin`
        cancellation = Cancellation(cls.abandoned.is_set)
        cancellation.check()
        with VideoReader(cls.path, job.settings) as reader:
            with damage_tolerated():
                analyze_stretch(stretch, reader, models, job, cls.messages.put, cancellation, stages)
            if stretch.stop is None:
                return reader.report_without(job.parts.segments()), stages.seconds
            return NOTHING_READ, stages.seconds  # its parts say how it was read
