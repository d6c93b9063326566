"""What every executor can do; the scheduler knows nothing else about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from analyzer.batch.protocol import JobEvent, JobSpec

__all__ = ["Executor", "WorkerState", "WorkerStatus", "check_capacity"]


class WorkerState(StrEnum):
    """What a worker is doing."""

    PENDING = "pending"
    """It waits for a machine with room for it."""
    STARTING = "starting"
    """Its models are being loaded, or the video is on its way to it."""
    IDLE = "idle"
    WORKING = "working"


@dataclass(frozen=True)
class WorkerStatus:
    """A process that analyzes videos, as ``batch status`` shows it."""

    worker: int
    """Number of the worker within its executor; one that takes the place of a lost one has a new number."""
    node: str
    """Name of its machine; empty while it waits for one."""
    pid: int | None
    state: WorkerState
    job_id: int | None = None
    segments: tuple[int, int] | None = None
    """Of the job, as in `JobSpec`."""
    since_s: float = 0.0
    """How long it has been in this state, in seconds."""
    done_s: float = 0.0
    """Seconds of video that it has analyzed for this job."""
    expected_s: float | None = None
    """Seconds of video that it has to analyze for this job; None: unknown."""


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

        The last event of each job is `Done`, `Failed`, `Rejected` or `Stopped`, whatever happens to it; of
        one with `JobSpec.segments`, `SegmentsDone` instead of `Done`.
        """

    def workers(self) -> Sequence[WorkerStatus]:
        """Return what each worker does now."""

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
