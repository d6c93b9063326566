"""Jobs in threads of this process: for tests of the queue, which need no processes and no networks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import Empty, SimpleQueue

from analyzer.batch.config import Limits
from analyzer.batch.protocol import FINAL, JobEvent, JobSpec, decode_event, decode_order, encode
from analyzer.batch.worker import AnalyzerFactory, Worker

__all__ = ["InlineExecutor"]


class InlineExecutor:
    """An `Executor` whose jobs share this process: limits are not watched, and a job that crashes ends all.

    Messages are written and read as between processes.

    Args:
        slots: How many jobs side by side.
        limits: Not watched.
        analyzers: Makes what analyses.
    """

    def __init__(self, slots: int, limits: Limits, *, analyzers: AnalyzerFactory | None = None) -> None:
        del limits
        self._idle = [Worker(analyzers) for _ in range(slots)]
        self._events: SimpleQueue[JobEvent] = SimpleQueue()
        self._jobs: dict[int, tuple[Worker, threading.Event, threading.Thread]] = {}

    @property
    def free(self) -> int:
        """As in `Executor`."""
        return len(self._idle)

    def submit(self, spec: JobSpec) -> None:
        """As in `Executor`."""
        order = decode_order(encode(spec))
        assert order == spec
        cancel, worker = threading.Event(), self._idle.pop()

        def emit(event: JobEvent) -> None:
            self._events.put(decode_event(encode(event), spec))

        thread = threading.Thread(
            target=worker.run_job, args=(spec, emit, cancel.is_set), name="inline-job", daemon=True
        )
        self._jobs[spec.job_id] = worker, cancel, thread
        thread.start()

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

    def cancel(self, job_id: int) -> None:
        """As in `Executor`."""
        if job_id in self._jobs:
            self._jobs[job_id][1].set()

    def close(self) -> None:
        """As in `Executor`; waits for the segments in work."""
        for _, cancel, _ in self._jobs.values():
            cancel.set()
        for _, _, thread in self._jobs.values():
            thread.join()
        self._jobs.clear()
