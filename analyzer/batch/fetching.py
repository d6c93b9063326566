"""Downloads the videos of a batch run one at a time in a second thread, ahead of their analysis."""

from __future__ import annotations

import random
import shutil
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from analyzer.batch.context import BatchContext, stopped
from analyzer.batch.failure_policy import NO_SPACE_FOR_DOWNLOAD, Failure
from analyzer.batch.folders import download_folder
from analyzer.batch.ledger import Work
from analyzer.batch.listing import why_not
from analyzer.batch.protocol import RunFacts, matching_run
from analyzer.batch.queue import Entry
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


class Downloads:
    """A thread that downloads one video at a time. A context manager: leaving it ends the download."""

    def __init__(self, context: BatchContext) -> None:
        self._context = context
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="fetch-ahead")
        self._cancelled = threading.Event()
        self._current: tuple[Entry, Future[Fetched]] | None = None
        self._progress: FetchProgress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()
        self._pool.shutdown()

    @property
    def entry(self) -> Entry | None:
        """The video that is being downloaded, if any."""
        return None if self._current is None else self._current[0]

    def start(self, entry: Entry) -> None:
        """Start a download; none may be going on.

        Raises:
            OutputError: Its folder cannot be made.
        """
        assert self._current is None
        folder = download_folder(self._context.jobs.out, entry.work.id)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            message = f"{folder} cannot be made ({error.strerror}): check the disk"
            raise OutputError(message, no_space=is_full(error)) from error
        self._current = entry, self._pool.submit(self._fetch, entry, folder)

    def cancel(self) -> None:
        """End the download, and every later one at once."""
        self._cancelled.set()

    def wait(self, timeout_s: float) -> None:
        """Wait for the end of the download."""
        if self._current is not None:
            wait([self._current[1]], timeout_s)

    def collect(self) -> Fetched | None:
        """Report progress; return the finished download, once."""
        if self._current is None:
            return None
        entry, future = self._current
        progress, self._progress = self._progress, None
        if progress is not None:
            facts = {"received_bytes": progress.received_bytes}
            self._context.on_event(Downloading.name, entry.work.id, facts)
        if not future.done():
            return None
        self._current = None
        return future.result()

    def pause_s(self) -> float:
        """How long to wait before the next download from the same host, in seconds: random."""
        return random.uniform(*self._context.jobs.pace.pause_s)

    # -- in the second thread

    def _fetch(self, entry: Entry, folder: Path) -> Fetched:
        began = time.monotonic()
        video: Video | None = None
        error: BaseException | None = None
        try:
            fetcher = self._context.fetcher(entry.source, self._on_progress)
            item = entry.item or self._item(fetcher, entry.work)
            video = fetcher.fetch(
                item,
                folder,
                accept=lambda candidate: self._check(entry, candidate),
                on_wait=self._check_cancelled,
            )
        except Exception as raised:  # noqa: BLE001 - handled by the scheduler's thread
            error = raised
        return Fetched(entry, video, error, time.monotonic() - began)

    def _on_progress(self, progress: FetchProgress) -> None:
        self._progress = progress

    def _check_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise stopped()

    @staticmethod
    def _item(fetcher: Fetcher, work: Work) -> Item:
        """What the source would list, if it does not list it any more."""
        if host_of(work.source) is not None:
            return Item(work.source, MediaKind.VIDEO, title=work.title)
        return next(iter(fetcher.resolve(work.source)))

    def _check(self, entry: Entry, candidate: Candidate) -> None:
        """Check whether a video is to be downloaded, now that the site has described it.

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
        needed_mb = (candidate.size_bytes or 0) / 1e6 if host_of(work.source) is not None else 0.0
        reserve_mb = context.jobs.reserve_mb
        if needed_mb and context.free_mb() - needed_mb < reserve_mb:
            raise NoSpaceError(
                f"the download of {needed_mb:.0f} MB would leave less than {reserve_mb} MB free: free some "
                "space; it is tried again later"
            )
