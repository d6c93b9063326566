"""Jobs in threads of this process: for tests and notebooks."""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Iterator
from queue import Empty, SimpleQueue

from analyzer.batch.executors.base import WorkerState, WorkerStatus, check_capacity
from analyzer.batch.failure_policy import CRASHES, Phase
from analyzer.batch.protocol import (
    FINAL,
    Failed,
    JobEvent,
    JobSpec,
    ProtocolError,
    decode_command,
    decode_event,
    encode,
)
from analyzer.batch.worker import AnalyzerFactory, Worker

__all__ = ["InlineExecutor"]


class InlineExecutor:
    """An `Executor` without processes: limits are not enforced, and a job that crashes ends the process.

    Messages are encoded and validated as between processes.

    Args:
        slots: How many jobs run side by side.
        threads: Processor threads that they share.
        analyzers: Makes the analyzers; for tests.
    """

    downloader = None
    """As in `Executor`."""

    def __init__(self, slots: int = 1, threads: int = 1, *, analyzers: AnalyzerFactory | None = None) -> None:
        self.slots = slots
        self.threads = threads
        self._idle = [Worker(analyzers) for _ in range(slots)]
        self._events: SimpleQueue[JobEvent] = SimpleQueue()
        self._jobs: dict[int, tuple[Worker, threading.Event, threading.Thread]] = {}

    def submit(self, spec: JobSpec) -> None:
        """As in `Executor`."""
        check_capacity(self.slots, len(self._jobs))
        received = decode_command(encode(spec))
        assert isinstance(received, JobSpec)
        cancel, worker = threading.Event(), self._idle.pop()
        thread = threading.Thread(
            target=self._run, args=(worker, received, cancel), name="inline-job", daemon=True
        )
        self._jobs[spec.job_id] = worker, cancel, thread
        thread.start()

    def _run(self, worker: Worker, spec: JobSpec, cancel: threading.Event) -> None:
        """Run a job in its thread."""
        ended = False

        def emit(event: JobEvent) -> None:
            nonlocal ended
            if ended:
                return
            try:
                event = decode_event(encode(event), spec, cancelled=cancel.is_set())
            except ProtocolError as error:
                cancel.set()
                event = Failed(spec.job_id, "crash", Phase.ANALYZE, f"{CRASHES['crash']} ({error})")
            ended = isinstance(event, FINAL)
            self._events.put(event)

        worker.run_job(spec, emit, cancel.is_set)

    def events(self, timeout_s: float) -> Iterator[JobEvent]:
        """As in `Executor`."""
        try:
            event = self._events.get(timeout=timeout_s)
        except Empty:
            return
        if isinstance(event, FINAL):
            worker, _, thread = self._jobs.pop(event.job_id)
            thread.join()
            self._idle.append(worker)
        yield event

    def workers(self) -> list[WorkerStatus]:
        """As in `Executor`; how long and how far is not known."""
        node, pid = platform.node(), os.getpid()
        working = [WorkerStatus(n, node, pid, WorkerState.WORKING, job) for n, job in enumerate(self._jobs)]
        idle = range(len(working), self.slots)
        return working + [WorkerStatus(n, node, pid, WorkerState.IDLE) for n in idle]

    def cancel(self, job_id: int) -> None:
        """As in `Executor`."""
        if job_id in self._jobs:
            self._jobs[job_id][1].set()

    def close(self) -> None:
        """As in `Executor`; waits for the samples being analyzed."""
        for _, cancel, _ in self._jobs.values():
            cancel.set()
        for _, _, thread in self._jobs.values():
            thread.join()
        self._jobs.clear()
        self._events = SimpleQueue()
