"""Fetches the videos of a batch run in threads of their own, ahead of their analysis.

A thread may let a machine of the executor download. It waits for that as for its own download, so that the
pauses of hosts, the number of downloads and all that follows their ends are the same.
"""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from analyzer.batch.context import BatchContext, stopped
from analyzer.batch.failure_policy import NO_SPACE_FOR_DOWNLOAD, Failure
from analyzer.batch.folders import download_folder
from analyzer.batch.ledger import Work
from analyzer.batch.listing import why_not
from analyzer.batch.protocol import RunFacts, matching_run
from analyzer.batch.queue import Entry, WorkQueue
from analyzer.errors import AnalyzerError, OutputError, is_full
from analyzer.events import Downloading
from analyzer.runs.folders import run_folder
from analyzer.sources.resolve import Fetcher
from analyzer.sources.types import Candidate, FetchProgress, Item, MediaKind, Video
from analyzer.util.urls import host_of

__all__ = ["AdoptedError", "Downloads", "ExcludedError", "Fetched", "NoSpaceError"]


class ExcludedError(AnalyzerError):
    """The video is excluded, now that the site has described it.

    Attributes:
        kind: ``filter`` or ``duplicate``.
    """

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class AdoptedError(AnalyzerError):
    """A run of the same video with the same settings and models exists already.

    Attributes:
        run: Its folder.
        facts: Of the run.
    """

    def __init__(self, run: Path, facts: RunFacts) -> None:
        super().__init__("the run exists already")
        self.run = run
        self.facts = facts


class NoSpaceError(AnalyzerError):
    """The download would leave less free space than the reserve."""

    @property
    def failure(self) -> Failure:
        """As a failure."""
        return Failure(NO_SPACE_FOR_DOWNLOAD, str(self))


@dataclass(frozen=True)
class Fetched:
    """What came of a download: a video or an error."""

    entry: Entry
    video: Video | None
    error: BaseException | None
    seconds: float


@dataclass(eq=False)
class _Download:
    """A video that is being fetched."""

    entry: Entry
    folder: Path
    cancelled: threading.Event = field(default_factory=threading.Event)
    progress: FetchProgress | None = None


class Downloads:
    """Threads that fetch videos. A context manager: leaving it ends all downloads.

    Local files are only identified, beside the downloads: a slow site does not keep them waiting.
    """

    def __init__(self, context: BatchContext) -> None:
        self._context = context
        self._limit = context.jobs.downloads
        self._pool = ThreadPoolExecutor(self._limit + 1, thread_name_prefix="fetch-ahead")
        self._running: dict[Future[Fetched], _Download] = {}
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()
        self._pool.shutdown()

    @property
    def entries(self) -> list[Entry]:
        """The videos that are being fetched."""
        return [each.entry for each in self._running.values()]

    def take(self, queue: WorkQueue) -> Entry | None:
        """Take a video from a queue that can be fetched now, within `Jobs.downloads` and `Pace.per_host`."""
        hosts = [each.host for each in self.entries if each.host is not None]
        most = self._context.jobs.pace.per_host
        busy = {host for host, count in Counter(hosts).items() if count >= most}
        local = len(hosts) == len(self._running) and not (self._limit == 1 and hosts)
        remote = len(hosts) < self._limit and not (self._limit == 1 and self._running)
        return queue.take(local=local, remote=remote, busy=busy)

    def start(self, entry: Entry) -> None:
        """Start to fetch a video.

        Raises:
            OutputError: Its folder cannot be made.
        """
        folder = download_folder(self._context.jobs.out, entry.work.id)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            message = f"{folder} cannot be made ({error.strerror}): check the disk"
            raise OutputError(message, no_space=is_full(error)) from error
        download = _Download(entry, folder)
        if self._ended:
            download.cancelled.set()
        self._running[self._pool.submit(self._fetch, download)] = download

    def cancel(self, id: int | None = None) -> bool:
        """End the download of a video; None: all, and every later one at once.

        Returns:
            Whether there was one.
        """
        self._ended = self._ended or id is None
        wanted = [each for each in self._running.values() if id in (None, each.entry.work.id)]
        for each in wanted:
            each.cancelled.set()
        return bool(wanted)

    def wait(self, timeout_s: float) -> None:
        """Wait for the end of a download."""
        wait(self._running, timeout_s, FIRST_COMPLETED)

    def collect(self) -> list[Fetched]:
        """Report progress; return the finished downloads, each once."""
        for each in self._running.values():
            progress, each.progress = each.progress, None
            if progress is not None:
                facts = {"received_bytes": progress.received_bytes, "total_bytes": progress.total_bytes}
                self._context.on_event(Downloading.name, each.entry.work.id, facts)
        done = [future for future in self._running if future.done()]
        for future in done:
            del self._running[future]
        return [future.result() for future in done]

    def pause_s(self) -> float:
        """How long to wait before the next download from the same host, in seconds: random."""
        return random.uniform(*self._context.jobs.pace.pause_s)

    # -- in the threads

    def _fetch(self, download: _Download) -> Fetched:
        entry = download.entry
        began = time.monotonic()
        video: Video | None = None
        error: BaseException | None = None

        def on_progress(progress: FetchProgress) -> None:
            download.progress = progress

        def check_cancelled() -> None:
            if download.cancelled.is_set():
                raise stopped()

        try:
            fetcher = self._context.fetcher(entry.source, on_progress)
            item = entry.item or self._item(fetcher, entry.work)
            if self._is_for_workers(entry, fetcher, item):
                assert self._context.downloader is not None
                video = self._context.downloader.fetch(
                    self._context.make_fetcher,
                    entry.source.settings,
                    item,
                    download.folder,
                    accept=lambda candidate: self._check(entry, candidate, here=False),
                    on_wait=check_cancelled,
                    on_progress=on_progress,
                )
            if video is None:
                video = fetcher.fetch(
                    item,
                    download.folder,
                    accept=lambda candidate: self._check(entry, candidate, here=True),
                    on_wait=check_cancelled,
                )
        except Exception as raised:  # noqa: BLE001 - handled by the scheduler's thread
            error = raised
        return Fetched(entry, video, error, time.monotonic() - began)

    def _is_for_workers(self, entry: Entry, fetcher: Fetcher, item: Item) -> bool:
        """Whether a machine of the executor may download it: the video need not be on this one."""
        source = entry.source
        is_kept = source.settings.keep_download or source.media is not None
        return self._context.downloader is not None and not is_kept and fetcher.is_direct(item)

    @staticmethod
    def _item(fetcher: Fetcher, work: Work) -> Item:
        """What the source would list, if it does not list it any more."""
        if host_of(work.source) is not None:
            return Item(work.source, MediaKind.VIDEO, title=work.title)
        return next(iter(fetcher.resolve(work.source)))

    def _check(self, entry: Entry, candidate: Candidate, *, here: bool) -> None:
        """Check whether a video is to be downloaded, now that the site has described it.

        Args:
            entry: The video.
            candidate: What is known of it.
            here: Whether it is to be downloaded to this machine, if it is not a local file.

        Raises:
            ExcludedError, AdoptedError, NoSpaceError: It is not.
        """
        context, work, source = self._context, entry.work, entry.source
        context.ledger.describe(
            work.id,
            video_id=candidate.video_id,
            title=candidate.title,
            channel=candidate.channel,
            uploaded=candidate.uploaded,
            duration_s=candidate.duration_s,
        )
        reason = why_not(source, context.ledger.get(work.id), context.clock.time())
        if reason is not None:
            raise ExcludedError(reason, "filter")
        other = context.ledger.same_work(work, candidate.video_id)
        if other is not None:
            raise ExcludedError(f"the same video as {other}", "duplicate")
        run = run_folder(source.folder, candidate.title, candidate.video_id)
        facts = matching_run(run, candidate.video_id, work.settings_hash, work.models_hash)
        if facts is not None:
            raise AdoptedError(run, facts)
        downloads = here and host_of(work.source) is not None
        needed_mb = (candidate.size_bytes or 0) / 1e6 if downloads else 0.0
        reserve_mb = context.jobs.reserve_mb
        if needed_mb and context.free_mb() - needed_mb < reserve_mb:
            raise NoSpaceError(
                f"the download of {needed_mb:.0f} MB would leave less than {reserve_mb} MB free: free some "
                "space; it is tried again later"
            )
