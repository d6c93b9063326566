"""What runs jobs: processes of this machine, watched against their limits.

Another engine needs the same five methods; jobs and messages are JSON values, so they travel.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from analyzer.batch.child import main
from analyzer.batch.jobsfile import Limits
from analyzer.batch.retries import CRASHES
from analyzer.system import caller_not_run_again

__all__ = ["Job", "LocalEngine"]

_MOST_JOBS = 100
"""A process that has done so many makes room for a fresh one: what it may have leaked goes with it."""
_GRACE_S = 2.0
_MOST_BYTES = 16 * 2**20
"""No message is longer: what decodes strangers' files is not to be believed."""

Message = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """A video to be analysed. `document` is what the process gets."""

    id: int
    document: dict[str, Any]


@dataclass(eq=False)
class _Child:
    process: SpawnProcess
    connection: Connection
    job: Job | None = None
    ready: bool = False
    jobs: int = 0
    began: float = field(default_factory=time.monotonic)
    heard: float = field(default_factory=time.monotonic)


class LocalEngine:
    """Up to `places` processes, each with one job at a time.

    Args:
        places: How many.
        limits: What a job may take.
        prepare: Called in each process before anything else; for tests. A function of a module.
    """

    def __init__(self, places: int, limits: Limits, prepare: Callable[[], None] | None = None) -> None:
        self._places = places
        self._limits = limits
        self._prepare = prepare
        self._children: list[_Child] = []

    @property
    def busy(self) -> int:
        """How many jobs are in work."""
        return sum(child.job is not None for child in self._children)

    @property
    def free(self) -> int:
        """How many jobs could be taken on."""
        return self._places - self.busy

    @property
    def processes(self) -> list[int]:
        """The ids of the processes."""
        return [child.process.pid for child in self._children if child.process.pid is not None]

    def submit(self, job: Job) -> None:
        """Begin a job; only while one is `free`."""
        child = next((each for each in self._children if each.job is None), None) or self._start()
        child.job, child.ready, child.jobs = job, False, child.jobs + 1
        child.began = child.heard = time.monotonic()
        with contextlib.suppress(OSError):  # if it has just died, `poll` says so
            child.connection.send_bytes(json.dumps({"job": job.document}).encode())

    def poll(self, timeout_s: float) -> Iterator[tuple[int, Message]]:
        """What the jobs say, after `timeout_s` at most; the last word of each is ``done``, ``failed`` or
        ``stopped``."""
        waiting: list[Any] = [child.connection for child in self._children]
        if not waiting:
            time.sleep(timeout_s)
        ready = wait(waiting, timeout_s) if waiting else []
        for child in list(self._children):
            if child.connection in ready:
                yield from self._hear(child)
            elif child.job is not None:
                yield from self._watch(child)

    def _hear(self, child: _Child) -> Iterator[tuple[int, Message]]:
        try:
            message = json.loads(child.connection.recv_bytes(_MOST_BYTES))
        except (EOFError, OSError, ValueError):
            yield from self._died(child)
            return
        child.heard = time.monotonic()
        if child.job is None:
            return
        if not isinstance(message, dict) or not isinstance(message.get("what"), str):
            yield from self._died(child, "crash")
            return
        id, what = child.job.id, message["what"]
        if what == "ready":
            child.ready, child.began = True, child.heard  # a slow start is not the video's time
        if what in ("done", "failed", "stopped"):
            child.job = None
            if child.jobs >= _MOST_JOBS or message.pop("broken", False):
                self._end(child)
        yield id, message

    def _watch(self, child: _Child) -> Iterator[tuple[int, Message]]:
        now = time.monotonic()
        if child.ready and now - child.began > self._limits.wall_s:
            yield from self._died(child, "time_limit")
        elif now - child.heard > self._limits.stall_s:
            yield from self._died(child, "stalled")

    def _died(self, child: _Child, kind: str | None = None) -> Iterator[tuple[int, Message]]:
        """A process is gone, or is ended because it went too far."""
        if kind is None:
            child.process.join(_GRACE_S)
        code = child.process.exitcode
        self._end(child)
        if child.job is None:
            return
        detail = ""
        if kind is not None:
            detail = "" if child.ready else f" ({CRASHES[kind]})"
        elif code is not None and code < 0:
            name = _signal_name(-code)
            kind = "cpu_limit" if name == "SIGXCPU" else None
            detail = f" ({name})"
        elif code:
            detail = f" (exit code {code})"
        # Before the networks are loaded nothing of the video has been read: it is not to blame.
        kind = (kind or "crash") if child.ready else "start"
        meaning = CRASHES.get(
            kind,
            "the process that analyses cannot start: raise [limits] memory_mb, or ask doctor for the reason",
        )
        yield child.job.id, {"what": "failed", "kind": kind, "error": f"{meaning}{detail}", "retry": False}

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

    def stop(self, id: int | None = None) -> None:
        """Have every job, or one, finish its segment and say ``stopped``."""
        for child in self._children:
            if child.job is not None and id in (None, child.job.id):
                with contextlib.suppress(OSError):
                    child.connection.send_bytes(b'{"stop": true}')

    def close(self) -> None:
        """End all processes, whatever they do."""
        for child in list(self._children):
            self._end(child)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
