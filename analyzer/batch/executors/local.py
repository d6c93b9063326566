"""Jobs in processes of this machine, within limits and watched: untrusted videos are decoded there.

A process gets orders and says events over a pipe, see `analyzer.batch.protocol`. It is not trusted: one that
says what has not the right form is ended, and so is its job, but no other.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from analyzer.batch.config import Limits
from analyzer.batch.failure_policy import CRASHES, Phase
from analyzer.batch.protocol import (
    FINAL,
    Cancel,
    Failed,
    JobEvent,
    JobSpec,
    Order,
    ProtocolError,
    Ready,
    Stopped,
    decode_event,
    decode_order,
    encode,
)
from analyzer.batch.worker import AnalyzerFactory, Worker
from analyzer.util.system import caller_not_run_again, die_with_parent, few_arenas

__all__ = ["LocalExecutor", "Prepare"]

Prepare = Callable[[], AnalyzerFactory | None]

_MOST_JOBS = 100
"""A process that has done so many makes room for a fresh one: what it may have leaked goes with it."""
_SPENT = ("memory", "model", "start")
"""Kinds of failure after which little may work in a process: it makes room too."""
_CANNOT_START = (
    "the process that analyses cannot start: raise [limits] memory_mb, or ask doctor for the reason"
)
_KILLED = (
    "the analyzing process was killed (SIGKILL) while it was starting, perhaps because the machine ran out "
    "of memory: run the same command again, or set fewer workers"
)
_GRACE_S = 2.0
_MOST_BYTES = 16 * 2**20
"""No message is longer."""


@dataclass(eq=False)
class _Child:
    process: SpawnProcess
    connection: Connection
    spec: JobSpec | None = None
    ready: bool = False
    """Whether the networks for its job are loaded."""
    proven: bool = False
    """Whether they were for one of its jobs."""
    cancelled: bool = False
    again: bool = False
    """Whether another process has died before it was ready for the same job."""
    jobs: int = 0
    began: float = field(default_factory=time.monotonic)
    heard: float = field(default_factory=time.monotonic)


class LocalExecutor:
    """An `Executor` with a process for each slot.

    Args:
        slots: How many processes.
        limits: What a job may take.
        prepare: Called in each process before anything else, and may give another maker of analyzers; for
            tests. A function of a module.
    """

    def __init__(self, slots: int, limits: Limits, *, prepare: Prepare | None = None) -> None:
        self._slots = slots
        self._limits = limits
        self._prepare = prepare
        self._children: list[_Child] = []

    @property
    def free(self) -> int:
        """As in `Executor`."""
        return self._slots - sum(child.spec is not None for child in self._children)

    def submit(self, spec: JobSpec) -> None:
        """As in `Executor`."""
        for child in [each for each in self._children if each.spec is None]:
            if child.process.is_alive():
                self._begin(child, spec)
                return
            self._end(child)
        self._begin(self._start(), spec)

    @staticmethod
    def _begin(child: _Child, spec: JobSpec, *, again: bool = False) -> None:
        child.spec, child.ready, child.cancelled, child.jobs = spec, False, False, child.jobs + 1
        child.again = again
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
                yield from self._hear(child)
            if child.spec is not None and child in self._children:
                yield from self._watch(child)

    def _hear(self, child: _Child) -> Iterator[JobEvent]:
        spec = child.spec
        try:
            raw = child.connection.recv_bytes(_MOST_BYTES)
            if spec is None:
                raise ProtocolError("it has no job")
            event = decode_event(raw, spec)
            if isinstance(event, Stopped) and not child.cancelled:
                raise ProtocolError("it was not cancelled")
        except (EOFError, OSError):  # or a message that is too long
            child.process.join(_GRACE_S)
            yield from self._broke_off(child) if child.process.is_alive() else self._died(child)
            return
        except ProtocolError:
            yield from self._broke_off(child)
            return
        child.heard = time.monotonic()
        if isinstance(event, Ready):
            child.ready = child.proven = True
            child.began = child.heard  # a slow start is not the video's time
        elif isinstance(event, FINAL):
            child.spec = None
            if child.jobs >= _MOST_JOBS or (isinstance(event, Failed) and event.kind in _SPENT):
                self._end(child)
        yield event

    def _watch(self, child: _Child) -> Iterator[JobEvent]:
        now = time.monotonic()
        if child.ready and now - child.began > self._limits.wall_s:
            yield from self._too_far(child, "time_limit")
        elif now - child.heard > self._limits.stall_s:
            yield from self._too_far(child, "stalled")

    # -- processes that end, or are ended

    def _broke_off(self, child: _Child) -> Iterator[JobEvent]:
        """It said what makes no sense: that costs its job."""
        self._end(child)
        if child.spec is not None:
            words = f"{CRASHES['crash']} (it sent a message that makes no sense)"
            yield Failed(child.spec.job_id, "crash", Phase.ANALYZE, words)

    def _too_far(self, child: _Child, kind: str) -> Iterator[JobEvent]:
        self._end(child)
        assert child.spec is not None
        if child.ready:
            yield Failed(child.spec.job_id, kind, Phase.ANALYZE, CRASHES[kind])
        else:
            yield _not_started(child.spec, f"{_CANNOT_START} ({CRASHES[kind]})")

    def _died(self, child: _Child) -> Iterator[JobEvent]:
        code = child.process.exitcode
        self._end(child)
        if child.spec is None:
            return
        name = _signal_name(-code) if code is not None and code < 0 else None
        if not child.ready and (child.proven or name is not None) and not child.again:
            # It could load networks before, or was ended from outside: a fresh one shows whether it can.
            spec, cancelled = child.spec, child.cancelled
            self._begin(self._start(), spec, again=True)
            if cancelled:
                self.cancel(spec.job_id)
            return
        detail = f" ({name})" if name is not None else f" (exit code {code})" if code else ""
        if child.ready:
            kind = "cpu_limit" if name == "SIGXCPU" else "crash"
            yield Failed(child.spec.job_id, kind, Phase.ANALYZE, f"{CRASHES[kind]}{detail}")
        elif name == "SIGKILL":
            yield _not_started(child.spec, _KILLED)
        else:
            yield _not_started(child.spec, f"{_CANNOT_START}{detail}")

    def _start(self) -> _Child:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=main, args=(theirs, self._limits.memory_mb, self._prepare), name="analysis"
        )
        with caller_not_run_again(signal.SIGTERM):
            process.start()
        theirs.close()
        child = _Child(process, ours)
        self._children.append(child)
        return child

    def _end(self, child: _Child) -> None:
        self._children.remove(child)
        child.process.kill()
        child.process.join()
        child.process.close()
        child.connection.close()

    def cancel(self, job_id: int) -> None:
        """As in `Executor`."""
        for child in self._children:
            if child.spec is not None and child.spec.job_id == job_id:
                child.cancelled = True
                _send(child, Cancel(job_id))

    def close(self) -> None:
        """As in `Executor`."""
        for child in list(self._children):
            self._end(child)


def _send(child: _Child, order: Order) -> None:
    with contextlib.suppress(OSError):  # if it has just died, that is heard
        child.connection.send_bytes(encode(order))


def _not_started(spec: JobSpec, words: str) -> Failed:
    """Before the networks are loaded nothing of the video has been read: it is not to blame."""
    return Failed(spec.job_id, "start", Phase.LOAD, words)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


# -- in the process


def main(connection: Connection, memory_mb: int, prepare: Prepare | None) -> None:
    """Work on jobs until the other end is closed.

    Args:
        connection: Gives orders; is told what happens.
        memory_mb: The most memory that this process may take.
        prepare: As in `LocalExecutor`.
    """
    die_with_parent()
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        os._exit(1)  # it ended while this process began
    # The whole group or control group gets the signal; it is the parent's to say what happens.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _limit_memory(memory_mb)
    few_arenas()
    orders = _Orders(connection)
    worker = Worker(prepare() if prepare is not None else None)
    while (spec := orders.next_job()) is not None:
        _limit_cpu(spec.cpu_s)
        worker.run_job(spec, orders.answer, lambda id=spec.job_id: orders.is_cancelled(id))  # type: ignore[misc]


class _Orders:
    """What the batch says, read where there is time for it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._cancelled: int | None = None

    def next_job(self) -> JobSpec | None:
        """The next job; None: there will be none. The `Cancel` of a job that is done is passed over."""
        while True:
            try:
                order = decode_order(self._connection.recv_bytes())
            except (EOFError, OSError):
                return None
            if isinstance(order, JobSpec):
                return order

    def is_cancelled(self, job_id: int) -> bool:
        """Whether this job is to end."""
        while self._cancelled != job_id and self._connection.poll():
            try:
                order = decode_order(self._connection.recv_bytes())
            except (EOFError, OSError):
                os._exit(1)  # nobody is there any more
            if isinstance(order, Cancel):
                self._cancelled = order.job_id
        return self._cancelled == job_id

    def answer(self, event: JobEvent) -> None:
        """Say what happens."""
        try:
            self._connection.send_bytes(encode(event))
        except OSError:
            os._exit(1)  # nobody is there any more


def _limit_memory(memory_mb: int) -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        # Data and not address space: libraries reserve far more of that than they use.
        resource.setrlimit(resource.RLIMIT_DATA, (memory_mb * 2**20, memory_mb * 2**20))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # no pictures of faces in core files


def _limit_cpu(more_s: float | None) -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        usage = resource.getrusage(resource.RUSAGE_SELF)
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        soft = int(usage.ru_utime + usage.ru_stime + more_s) + 1 if more_s is not None else hard
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))
