"""What the parts of one batch run share."""

from __future__ import annotations

import functools
import shutil
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import analyzer
from analyzer.batch.config import Jobs, Source
from analyzer.batch.executors.base import Downloader, FetcherMaker
from analyzer.batch.folders import download_folder, is_complete, remove_download
from analyzer.batch.ledger import Ledger, Work
from analyzer.batch.log import EventLog
from analyzer.batch.outcome import Outcome, Tally
from analyzer.errors import StoppedError
from analyzer.settings import Settings
from analyzer.sources.resolve import Fetcher
from analyzer.sources.types import FetchProgress
from analyzer.util.callbacks import Callback
from analyzer.util.clock import Clock
from analyzer.util.text import well_formed
from analyzer.util.urls import without_login

__all__ = [
    "BatchContext",
    "Stop",
    "default_fetcher",
    "library_versions",
    "origin_of",
    "shown_name",
    "stopped",
]

_LIBRARIES = ("yt-dlp", "av", "openvino")


class Stop:
    """Requests the end of a batch run: jobs are canceled, finished segments stay."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def request(self) -> None:
        """Request it; may be called from a signal handler."""
        self._event.set()

    @property
    def requested(self) -> bool:
        """Whether it was requested."""
        return self._event.is_set()


def stopped() -> StoppedError:
    """The error that ends what is going on when a stop was requested."""
    return StoppedError("the batch was asked to end")


@dataclass
class BatchContext:
    """What the parts of one batch run share. Only the scheduler's thread changes it."""

    jobs: Jobs
    ledger: Ledger
    log: EventLog
    on_event: Callback[[str, int | None, dict[str, Any]], None]
    clock: Clock
    stop: Stop
    make_fetcher: FetcherMaker
    downloader: Downloader | None = None
    """What downloads on the machines that analyze."""
    tally: Tally = field(default_factory=Tally)
    ending: bool = False
    """Whether nothing more is begun."""

    @property
    def outcome(self) -> Outcome:
        """How the run went so far."""
        return self.tally.outcome

    def fetcher(
        self, source: Source, on_progress: Callable[[FetchProgress], None] = lambda progress: None
    ) -> Fetcher:
        """What lists and downloads a source."""
        return self.make_fetcher(source.settings, on_progress)

    def has_video(self, work: Work) -> bool:
        """Whether the video is on the disk, or on a machine that analyzes."""
        return work.video is not None and (self.node_of(work.id) is not None or is_complete(work.video))

    def node_of(self, id: int) -> str | None:
        """Return the name of the machine that has downloaded a video; None: none has."""
        downloader = self.downloader
        return None if downloader is None else downloader.node_of(download_folder(self.jobs.out, id))

    def nearest(self, ids: Iterable[int]) -> int | None:
        """Return the first of these videos that is on a machine which is free to analyze it."""
        if self.downloader is None:
            return None
        folders = {download_folder(self.jobs.out, id): id for id in ids}
        found = self.downloader.nearest(folders)
        return None if found is None else folders[found]

    def remove_download(self, id: int) -> None:
        """Remove a video's download, wherever it is."""
        if self.downloader is not None:
            self.downloader.release(download_folder(self.jobs.out, id))
        remove_download(self.jobs.out, id)

    def check_stop(self) -> None:
        """Check whether a stop was requested.

        Raises:
            StoppedError: It was.
        """
        if self.stop.requested:
            raise stopped()

    def end(self, reason: str, error: str | None = None) -> None:
        """Begin nothing more; the first reason counts, see `Outcome.reason`."""
        if not self.ending:
            self.ending = True
            self.tally.end(reason, error)

    def free_mb(self) -> float:
        """Free space on the disk of the output folder, in MB."""
        return shutil.disk_usage(self.jobs.out).free / 1e6

    def skip(self, work: Work, reason: str, kind: str) -> None:
        """Exclude a video.

        Args:
            work: Its row.
            reason: In words.
            kind: ``filter``, ``duplicate``, ``gone``, ...
        """
        self.ledger.skip(work.id, reason, kind)
        self.remove_download(work.id)
        self.tally.skipped(work, kind)
        self.log("skipped", work.id, source=work.source, reason=reason, kind=kind)


def default_fetcher(settings: Settings, on_progress: Callable[[FetchProgress], None]) -> Fetcher:
    """What lists and downloads, with yt-dlp's own extractors."""
    return Fetcher(settings, want_audio=settings.video, on_progress=on_progress)


def origin_of(source: Source) -> str:
    """A source's name as it is stored and shown, without a login."""
    return shown_name(source.name)


@functools.lru_cache(maxsize=1000)  # of a channel it is asked for each of its videos
def shown_name(name: str) -> str:
    """The name of a source as it is stored and shown, without a login."""
    return without_login(well_formed(name))


@functools.cache
def library_versions() -> dict[str, str]:
    """The versions that an attempt is made with, as the ledger stores them."""
    return {"analyzer": analyzer.__version__} | {name: metadata.version(name) for name in _LIBRARIES}
