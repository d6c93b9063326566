"""What every executor can do; the scheduler knows nothing else about it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from analyzer.batch.protocol import JobEvent, JobSpec

__all__ = ["Executor", "check_capacity"]


class Executor(Protocol):
    """Runs jobs side by side. Used by one thread, except for `close`."""

    @property
    def slots(self) -> int:
        """How many jobs run side by side."""

    @property
    def threads(self) -> int:
        """Processor threads that the slots share."""

    def submit(self, spec: JobSpec) -> None:
        """Start a job. Its slot is free again once its last event was returned.

        Raises:
            RuntimeError: No slot is free.
        """

    def events(self, timeout_s: float) -> Iterable[JobEvent]:
        """Return the next events of all jobs, none if none comes within `timeout_s`.

        The last event of each job is `Done`, `Failed`, `Rejected` or `Stopped`, whatever happens to it.
        """

    def cancel(self, job_id: int) -> None:
        """End a job within a second: its last event is `Stopped`, unless it ends by itself before.

        Finished segments stay on the disk. Does nothing if the job has ended.
        """

    def close(self) -> None:
        """End all jobs without further events. May be called twice, and from a signal handler."""


def check_capacity(slots: int, running: int) -> None:
    """Check that a slot is free.

    Raises:
        RuntimeError: None is.
    """
    if running >= slots:
        raise RuntimeError(f"all {slots} slots are in use: submit a job when another has ended")
