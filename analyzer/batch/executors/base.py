"""What every executor can do; the scheduler knows nothing else about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from analyzer.batch.protocol import JobEvent, JobSpec
from analyzer.errors import AnalyzerError
from analyzer.settings import Settings
from analyzer.sources.resolve import Fetcher
from analyzer.sources.types import Candidate, FetchProgress, Item, Video

__all__ = [
    "Downloader",
    "Executor",
    "FetcherMaker",
    "MachineLostError",
    "WorkerState",
    "WorkerStatus",
    "check_capacity",
]

FetcherMaker = Callable[[Settings, Callable[[FetchProgress], None]], Fetcher]
"""Called with settings and a function to report the progress of downloads to."""


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


class MachineLostError(AnalyzerError):
    """A machine was lost, or its disk is full, while it downloaded a video, which another one can.

    Attributes:
        node: Name of the machine.
    """

    def __init__(self, message: str, node: str) -> None:
        super().__init__(message)
        self.node = node


class Downloader(Protocol):
    """Downloads videos on the machines that analyze them. Used by several threads side by side."""

    def fetch(
        self,
        maker: FetcherMaker,
        settings: Settings,
        item: Item,
        folder: Path,
        *,
        accept: Callable[[Candidate], None],
        on_wait: Callable[[], None],
        on_progress: Callable[[FetchProgress], None],
    ) -> Video | None:
        """Download a video on a machine, and keep it there until it is released.

        Args:
            maker: Is sent to the machine.
            settings: Of the video's source.
            item: Its address.
            folder: Folder of this machine in which it would be otherwise; unique. The video's paths are of
                files in this folder, which do not exist.
            accept: As in `Fetcher.fetch`, called in this thread.
            on_wait: Likewise, called several times a second.
            on_progress: Called in this thread.

        Returns:
            The video; None if it is to be downloaded here, because no machine can, or because the address has
            turned out to lead to a site.

        Raises:
            MachineLostError: The machine was lost.
            AnalyzerError: As `Fetcher.fetch`.
            BaseException: Whatever the callbacks raise.
        """

    def node_of(self, folder: Path) -> str | None:
        """Return the name of the machine that has the video that would be in this folder; None: none has."""

    def nearest(self, folders: Iterable[Path]) -> Path | None:
        """Return the first of these folders whose video is on a machine that is free to analyze it."""

    def release(self, folder: Path) -> None:
        """Keep it no longer, if one has; workers that use it keep it until they do not."""


class Executor(Protocol):
    """Runs jobs side by side. Used by one thread, except for `close`."""

    @property
    def slots(self) -> int:
        """How many jobs run side by side."""

    @property
    def threads(self) -> int:
        """Processor threads that the slots share."""

    @property
    def downloader(self) -> Downloader | None:
        """What downloads on the machines that analyze; None: nothing does."""

    def submit(self, spec: JobSpec) -> None:
        """Start a job. Its slot is free again once its last event was returned.

        Raises:
            RuntimeError: No slot is free.
        """

    def events(self, timeout_s: float) -> Iterable[JobEvent]:
        """Return the next events of all jobs, none if none comes within `timeout_s`.

        The last event of each job is `Done`, `Failed`, `Rejected` or `Stopped`, whatever happens to it; of
        one with `JobSpec.segments`, `SegmentsDone` instead of `Done`; of one whose video `downloader` holds,
        perhaps `SourceLost`.
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
