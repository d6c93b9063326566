"""What every executor of jobs can do; the queue knows no more of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from analyzer.batch.config import Limits
from analyzer.batch.protocol import JobEvent, JobSpec

__all__ = ["Executor", "ExecutorMaker"]


class Executor(Protocol):
    """Runs some jobs side by side. Used by one thread."""

    @property
    def free(self) -> int:
        """How many jobs could be taken on."""

    def submit(self, spec: JobSpec) -> None:
        """Begin a job; only while there is a `free` slot."""

    def events(self, timeout_s: float) -> Iterable[JobEvent]:
        """What jobs say, after `timeout_s` at most; the last word of each is `Done`, `Failed`, `Rejected` or
        `Stopped`, whatever becomes of what runs it."""

    def cancel(self, job_id: int) -> None:
        """Have a job end after the segment in work. One that has ended already is no matter."""

    def close(self) -> None:
        """End all jobs at once, whatever they do. May be called from a signal handler, and more than once."""


ExecutorMaker = Callable[[int, Limits], Executor]
"""Given how many jobs may run side by side, and what each may take."""
