"""Jobs in processes of this machine, under limits: untrusted videos are decoded there.

A process receives commands and sends events over a pipe, see `analyzer.batch.protocol`. Its messages are not
trusted: a malformed one ends the process and fails its job, and no other.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import multiprocessing
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from analyzer.batch.config import Jobs
from analyzer.batch.executors.base import WorkerState, WorkerStatus, check_capacity
from analyzer.batch.failure_policy import CRASHES, Phase
from analyzer.batch.protocol import (
    FINAL,
    Cancel,
    Command,
    Failed,
    JobEvent,
    JobSpec,
    Progress,
    ProtocolError,
    Ready,
    Stopped,
    decode_command,
    decode_event,
    encode,
)
from analyzer.batch.worker import AnalyzerFactory, Worker
from analyzer.settings import Settings
from analyzer.util.system import available_memory_mb, caller_not_run_again, die_with_parent, few_arenas

__all__ = ["LocalExecutor", "Prepare", "local_executor", "slot_count"]

Prepare = Callable[[], AnalyzerFactory | None]

_CORES_EACH = 2
_MAX_JOBS = 100
"""A process is replaced after this many jobs, and with it whatever memory it has leaked."""
_HARMFUL = ("memory", "model", "start")
"""Kinds of failure after which a process may not work any more: it is replaced."""
_CANNOT_START = (
    "the analyzing process cannot start: raise [limits] memory_mb, or run doctor to see the reason"
)
_KILLED = (
    "the analyzing process was killed (SIGKILL) while it was starting, perhaps because the machine ran out "
    "of memory: run the same command again, or set fewer workers"
)
_CANCEL_S = 1.0
"""A process whose job is canceled is killed after this time: what is committed survives that."""
_GRACE_S = 2.0
_MAX_BYTES = 16 * 2**20
"""Longer messages are malformed."""


def slot_count(jobs: Jobs) -> int:
    """How many videos this machine analyzes side by side: as configured, or by its cores and memory."""
    if jobs.workers:
        return jobs.workers
    memory_mb = available_memory_mb()
    by_memory = math.inf if memory_mb is None else memory_mb // jobs.limits.memory_mb
    return max(1, int(min(_threads(jobs) // _CORES_EACH, by_memory)))


def _threads(jobs: Jobs) -> int:
    return (jobs.sources[0].settings if jobs.sources else Settings()).thread_count


def local_executor(jobs: Jobs) -> LocalExecutor:
    """An executor that fits jobs and this machine."""
    return LocalExecutor(slot_count(jobs), _threads(jobs))


@dataclass(eq=False)
class _Child:
    number: int
    process: SpawnProcess
    connection: Connection
    memory_mb: int | None
    """Its limit."""
    spec: JobSpec | None = None
    ready: bool = False
    """Whether the models for its job are loaded."""
    proven: bool = False
    """Whether the models for any of its jobs were loaded."""
    cancelled_at: float | None = None
    restarted: bool = False
    """Whether another process has died before it was ready for the same job."""
    jobs: int = 0
    done_s: float = 0.0
    """Seconds of its video that are analyzed."""
    expected_s: float | None = None
    """Length of its video, in seconds."""
    began: float = field(default_factory=time.monotonic)
    heard: float = field(default_factory=time.monotonic)


class LocalExecutor:
    """An `Executor` with a process for each slot.

    Args:
        slots: How many processes.
        threads: Processor threads that they share.
        prepare: Called in each process first; may return another maker of analyzers, for tests. A function of
            a module.
    """

    downloader = None
    """As in `Executor`."""

    def __init__(self, slots: int, threads: int, *, prepare: Prepare | None = None) -> None:
        self.slots = slots
        self.threads = threads
        self._prepare = prepare
        self._children: list[_Child] = []
        self._numbers = itertools.count(1)

    def submit(self, spec: JobSpec) -> None:
        """As in `Executor`."""
        check_capacity(self.slots, sum(child.spec is not None for child in self._children))
        idle = [child for child in self._children if child.spec is None]
        for child in [each for each in idle if not each.process.is_alive()]:
            idle.remove(child)
            self._end(child)
        memory_mb = spec.resources.memory_mb
        fitting = next((child for child in idle if child.memory_mb == memory_mb), None)
        if fitting is None and len(self._children) == self.slots:
            self._end(idle[0])
        self._begin(fitting or self._start(memory_mb), spec)

    @staticmethod
    def _begin(child: _Child, spec: JobSpec, *, restarted: bool = False) -> None:
        child.spec, child.ready, child.cancelled_at, child.jobs = spec, False, None, child.jobs + 1
        child.restarted = restarted
        child.done_s, child.expected_s = 0.0, None
        child.began = child.heard = time.monotonic()
        _send(child, spec)

    def events(self, timeout_s: float) -> Iterator[JobEvent]:
        """As in `Executor`."""
        waiting: list[Any] = [child.connection for child in self._children]
        if not waiting:
            time.sleep(timeout_s)
        ready = wait(waiting, timeout_s) if waiting else []
        for child in list(self._children):
            if child.connection in ready:
                yield from self._receive(child)
            if child.spec is not None and child in self._children:
                yield from self._watch(child, child.spec)

    def _receive(self, child: _Child) -> Iterator[JobEvent]:
        spec = child.spec
        try:
            raw = child.connection.recv_bytes(_MAX_BYTES)
            if spec is None:
                raise ProtocolError("it has no job")
            event = decode_event(raw, spec, cancelled=child.cancelled_at is not None)
        except (EOFError, OSError):  # or a message that is too long
            child.process.join(_GRACE_S)
            yield from self._malformed(child) if child.process.is_alive() else self._died(child)
            return
        except ProtocolError:
            yield from self._malformed(child)
            return
        child.heard = time.monotonic()
        if isinstance(event, Ready):
            child.ready = child.proven = True
            child.began = child.heard  # a slow start is not the video's time
        elif isinstance(event, Progress):
            child.done_s, child.expected_s = event.time_s, event.duration_s
        elif isinstance(event, FINAL):
            child.spec = None
            child.began = child.heard
            if child.jobs >= _MAX_JOBS or (isinstance(event, Failed) and event.kind in _HARMFUL):
                self._end(child)
        yield event

    def _watch(self, child: _Child, spec: JobSpec) -> Iterator[JobEvent]:
        """End a job that exceeds a limit, or does not end though it was canceled."""
        now, limits = time.monotonic(), spec.resources
        if child.cancelled_at is not None and now - child.cancelled_at > _CANCEL_S:
            self._end(child)
            yield Stopped(spec.job_id)
        elif child.ready and limits.wall_s is not None and now - child.began > limits.wall_s:
            yield from self._too_long(child, spec, "time_limit")
        elif limits.stall_s is not None and now - child.heard > limits.stall_s:
            yield from self._too_long(child, spec, "stalled")

    # -- processes that end, or are ended

    def _malformed(self, child: _Child) -> Iterator[JobEvent]:
        self._end(child)
        if child.spec is not None:
            message = f"{CRASHES['crash']} (it sent a malformed message)"
            yield Failed(child.spec.job_id, "crash", Phase.ANALYZE, message)

    def _too_long(self, child: _Child, spec: JobSpec, kind: str) -> Iterator[JobEvent]:
        self._end(child)
        if child.ready:
            yield Failed(spec.job_id, kind, Phase.ANALYZE, CRASHES[kind])
        else:
            yield _not_started(spec, f"{_CANNOT_START} ({CRASHES[kind]})")

    def _died(self, child: _Child) -> Iterator[JobEvent]:
        code, spec = child.process.exitcode, child.spec
        self._end(child)
        if spec is None:
            return
        if child.cancelled_at is not None:
            yield Stopped(spec.job_id)
            return
        name = _signal_name(-code) if code is not None and code < 0 else None
        if not child.ready and (child.proven or name is not None) and not child.restarted:
            # It could load models before, or was ended from outside: a fresh process shows whether it can.
            self._begin(self._start(child.memory_mb), spec, restarted=True)
            return
        detail = f" ({name})" if name is not None else f" (exit code {code})" if code else ""
        if child.ready:
            kind = "cpu_limit" if name == "SIGXCPU" else "crash"
            yield Failed(spec.job_id, kind, Phase.ANALYZE, f"{CRASHES[kind]}{detail}")
        elif name == "SIGKILL":
            yield _not_started(spec, _KILLED)
        else:
            yield _not_started(spec, f"{_CANNOT_START}{detail}")

    def _start(self, memory_mb: int | None) -> _Child:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=main, args=(theirs, memory_mb, self._prepare), name="analysis")
        with caller_not_run_again(signal.SIGTERM):
            process.start()
        theirs.close()
        child = _Child(next(self._numbers), process, ours, memory_mb)
        self._children.append(child)
        return child

    def _end(self, child: _Child) -> None:
        self._children.remove(child)
        child.process.kill()
        child.process.join()
        child.process.close()
        child.connection.close()

    def workers(self) -> list[WorkerStatus]:
        """As in `Executor`; only processes that were started."""
        return [_status(child) for child in self._children]

    def cancel(self, job_id: int) -> None:
        """As in `Executor`."""
        for child in self._children:
            if child.spec is not None and child.spec.job_id == job_id and child.cancelled_at is None:
                child.cancelled_at = time.monotonic()
                _send(child, Cancel(job_id))

    def close(self) -> None:
        """As in `Executor`; processes are killed."""
        for child in list(self._children):
            self._end(child)


def _status(child: _Child) -> WorkerStatus:
    state = WorkerState.WORKING if child.ready else WorkerState.STARTING
    if child.spec is None:
        state = WorkerState.IDLE
    return WorkerStatus(
        child.number,
        platform.node(),
        child.process.pid,
        state,
        None if child.spec is None else child.spec.job_id,
        None if child.spec is None else child.spec.segments,
        since_s=time.monotonic() - child.began,
        done_s=child.done_s,
        expected_s=child.expected_s,
    )


def _send(child: _Child, command: Command) -> None:
    with contextlib.suppress(OSError):  # if it has just died, `events` notices
        child.connection.send_bytes(encode(command))


def _not_started(spec: JobSpec, message: str) -> Failed:
    """A failure before the models are loaded: nothing of the video had been read."""
    return Failed(spec.job_id, "start", Phase.LOAD, message)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


# -- in the process


def main(connection: Connection, memory_mb: int | None, prepare: Prepare | None) -> None:
    """Run jobs until the other end of the pipe is closed.

    Args:
        connection: For commands and events.
        memory_mb: The most memory that this process may take, in MB.
        prepare: As in `LocalExecutor`.
    """
    die_with_parent()
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        os._exit(1)  # it ended while this process started
    # Terminals and service managers signal the whole group; the parent decides what happens.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _limit_memory(memory_mb)
    few_arenas()
    commands = _Commands(connection)
    worker = Worker(prepare() if prepare is not None else None)
    while (spec := commands.next_job()) is not None:
        _limit_cpu(spec.resources.cpu_s)
        worker.run_job(spec, commands.answer, lambda id=spec.job_id: commands.is_cancelled(id))  # type: ignore[misc]


class _Commands:
    """The worker's end of the pipe."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._cancelled: int | None = None
        self._lock = threading.Lock()  # several threads of an analysis ask whether to stop

    def next_job(self) -> JobSpec | None:
        """The next job; None: there will be none. Skips the `Cancel` of a job that has ended."""
        while True:
            try:
                command = decode_command(self._connection.recv_bytes())
            except (EOFError, OSError):
                return None
            if isinstance(command, JobSpec):
                return command

    def is_cancelled(self, job_id: int) -> bool:
        """Whether this job must end."""
        with self._lock:
            while self._cancelled != job_id and self._connection.poll():
                try:
                    command = decode_command(self._connection.recv_bytes())
                except (EOFError, OSError):
                    os._exit(1)  # the parent has ended
                if isinstance(command, Cancel):
                    self._cancelled = command.job_id
            return self._cancelled == job_id

    def answer(self, event: JobEvent) -> None:
        """Send an event."""
        try:
            self._connection.send_bytes(encode(event))
        except OSError:
            os._exit(1)  # the parent has ended


def _limit_memory(memory_mb: int | None) -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # no images of faces in core files
        if memory_mb is not None:  # data, not address space: libraries reserve far more of that than they use
            resource.setrlimit(resource.RLIMIT_DATA, (memory_mb * 2**20, memory_mb * 2**20))


def _limit_cpu(more_s: float | None) -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        usage = resource.getrusage(resource.RUSAGE_SELF)
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        soft = int(usage.ru_utime + usage.ru_stime + more_s) + 1 if more_s is not None else hard
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))
