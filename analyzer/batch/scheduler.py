"""One night: list the sources, download, analyze, and note everything in the ledger.

One thread decides; it alone changes states. Downloads run in a second thread, one at a time, so that the
next video is fetched while the last ones are analyzed; analyses run in processes of the engine.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import math
import os
import random
import shutil
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import analyzer
from analyzer.batch.config import BOT_PAUSE_CAP_S, Jobs, Source
from analyzer.batch.executors.base import Executor, ExecutorMaker
from analyzer.batch.executors.local import LocalExecutor
from analyzer.batch.failure_policy import CRASHES, HOST_PAUSES, Failure, delay_s
from analyzer.batch.ledger import Ledger, Listed, State, Work, lock_ledger
from analyzer.batch.log import EventLog, OnEvent, ignore
from analyzer.batch.outcome import Outcome
from analyzer.batch.protocol import (
    Done,
    Failed,
    JobEvent,
    JobSpec,
    Opened,
    Progress,
    Ready,
    Rejected,
    Rendering,
    RunFacts,
    Segment,
    Stopped,
    matching_run,
    video_document,
    video_of,
)
from analyzer.errors import (
    AnalyzerError,
    LedgerError,
    OutputError,
    SettingsError,
    SourceError,
    SourceErrorKind,
    StoppedError,
    is_full,
)
from analyzer.runs.folders import run_folder
from analyzer.settings import Settings
from analyzer.sources.resolve import Fetcher
from analyzer.sources.types import Candidate, FetchProgress, Item, MediaKind, Video
from analyzer.util.callbacks import Callback
from analyzer.util.locks import remove_leftovers, remove_parts
from analyzer.util.system import available_memory_mb
from analyzer.util.text import well_formed
from analyzer.util.urls import host_of, without_login
from analyzer.vision.selection import models_hash

__all__ = [
    "DOWNLOADS",
    "FetcherMaker",
    "Scheduler",
    "Stop",
    "default_fetcher",
    "holds_something",
    "place_count",
]

DOWNLOADS = ".batch-downloads"
"""Folder in the output folder: one folder a video that is downloaded and not yet done."""


FetcherMaker = Callable[[Settings, Callable[[FetchProgress], None]], Fetcher]


_POLL_S = 0.1


_CORES_EACH = 2


_REOPENED = ("filter", "replaced", "settings", "gone")
"""Kinds of skipped videos that are work again once the reason has passed."""


_DISK_EVERY_S = 2.0


_SETTLED_S = 10.0
"""A file of a watched folder that was changed less long ago may still be written to."""


_INTERRUPTIONS = 10
"""After so many kills of the whole batch without any progress on a video it is held to be their cause."""


_STARVED_MB = 10
"""With less space than this a batch may not even have been able to say how it has ended."""


_LIBRARIES = ("yt-dlp", "av", "openvino")


class Stop:
    """Asks a night to end: segments in work are finished and committed first."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def request(self) -> None:
        """Ask; may be called from a signal handler."""
        self._event.set()

    @property
    def requested(self) -> bool:
        """Whether it was asked for."""
        return self._event.is_set()


@dataclass(eq=False)
class _Entry:
    """A video in tonight's queue."""

    work: Work
    source: Source
    item: Item | None
    rank: int
    """How many of the same source come before it."""
    due: float = 0.0
    """Seconds since 1970; not before."""
    host: str | None = None
    fetch_s: float = 0.0


@dataclass(frozen=True)
class _Fetched:
    video: Video | None
    error: BaseException | None
    seconds: float


class _RejectedError(AnalyzerError):
    """A candidate is left out; `kind` says by what."""

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class _AdoptedError(AnalyzerError):
    """The very run exists already."""

    def __init__(self, run: Path, facts: RunFacts) -> None:
        super().__init__("the run exists already")
        self.run = run
        self.facts = facts


class _NoRoomError(AnalyzerError):
    """The download would leave too little space."""


def place_count(jobs: Jobs, settings: Settings) -> int:
    """How many processes analyze videos side by side: as the jobs say, or fitted to cores and memory."""
    if jobs.workers:
        return jobs.workers
    memory_mb = available_memory_mb()
    by_memory = math.inf if memory_mb is None else memory_mb // jobs.limits.memory_mb
    return max(1, int(min(settings.thread_count // _CORES_EACH, by_memory)))


class Scheduler:
    """Works through jobs once.

    Args:
        jobs: What to do.
        on_event: Told what happens, in the calling thread.
        stop: Asks it to end.
        fetchers: Makes what resolves and downloads; for tests.
        executors: Makes what runs the analyses; for tests.
    """

    def __init__(
        self,
        jobs: Jobs,
        *,
        on_event: OnEvent = ignore,
        stop: Stop | None = None,
        fetchers: FetcherMaker | None = None,
        executors: ExecutorMaker | None = None,
    ) -> None:
        self._jobs = jobs
        self._on_event = Callback(on_event)
        self._stop = stop or Stop()
        self._make_fetcher = fetchers or default_fetcher
        # Unknown networks end the night before it begins.
        self._models = {
            source.settings.result_hash(): models_hash(source.settings) for source in jobs.sources
        }
        self._settings = jobs.sources[0].settings
        self._places = place_count(jobs, self._settings)
        self._executor: Executor = (executors or LocalExecutor)(self._places, jobs.limits)
        self._job_ids = itertools.count(1)
        self._versions = {"analyzer": analyzer.__version__} | {
            name: metadata.version(name) for name in _LIBRARIES
        }
        self._outcome = Outcome()
        self._claimed: dict[tuple[Path, str], Source] = {}
        self._queue: list[_Entry] = []
        self._queued: dict[int, _Entry] = {}
        self._missing: list[Work] = []
        self._paths: dict[str, str] = {}
        """Of each local file or folder that was listed tonight: its identity."""
        self._local: set[str] = set()
        """These identities."""
        self._crashes: Counter[int] = Counter()
        """Of each video: attempts that crashed tonight."""
        self._list_troubles: dict[int, dict[str, Any]] = {}
        """Of rows that are channels or playlists and no videos: what is told of them."""
        self._ranks: Counter[str] = Counter()
        self._downloaded: deque[_Entry] = deque()
        self._working: dict[int, _Entry] = {}
        """By the job."""
        self._fetching: tuple[_Entry, Future[_Fetched]] | None = None
        self._abandon = threading.Event()
        self._free_at: dict[str, float] = {}
        self._paused: dict[str, float] = {}
        self._unlisted: set[str] = set()
        """Sources with trouble, each once however many of its entries are odd."""
        self._ending: str | None = None
        self._disk_seen = 0.0
        self._progress: FetchProgress | None = None

    def run(self) -> Outcome:
        """Do it.

        Raises:
            LedgerError: Another batch is at work (temporary), or the ledger cannot be used.
            OutputError: The output folder or the log cannot be written.
        """
        jobs, began = self._jobs, time.monotonic()
        self._deadline = math.inf if jobs.time_budget_s is None else began + jobs.time_budget_s
        with contextlib.ExitStack() as stack:
            stack.enter_context(lock_ledger(jobs.ledger))
            self._ledger = stack.enter_context(Ledger(jobs.ledger))
            self._log = stack.enter_context(EventLog(jobs.log, self._on_event))
            _make_folder(jobs.out)
            stack.callback(self._executor.close)
            pool = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="fetch-ahead"))
            stack.callback(self._abandon.set)
            self._pool = pool
            night = self._ledger.begin_batch_run()
            self._log("batch_started", batch_run=night, sources=len(jobs.sources), places=self._places)
            try:
                self._clean_up()
                self._list_all()
                self._remove_orphans()
                self._log("queued", videos=len(self._queue))
                self._work()
            except StoppedError:
                self._on_event.reraise()
                self._end("stopped")
            except LedgerError as error:
                self._on_event.reraise()
                if not error.temporary:
                    raise
                # The disk is full, or somebody holds the ledger: what is committed is committed.
                self._end("ledger", str(error))
            except OutputError as error:
                self._on_event.reraise()
                if not error.no_space:
                    raise
                self._end("no_space", str(error))
            self._outcome.seconds = round(time.monotonic() - began, 1)
            self._outcome.left = self._left()
            self._log("batch_ended", batch_run=night, **self._outcome.figures())
            with contextlib.suppress(LedgerError):
                self._ledger.end_batch_run(night, self._outcome.reason, self._outcome.figures())
        return self._outcome

    def abandon(self) -> None:
        """End all processes at once: for the second signal. What is committed stays."""
        self._executor.close()

    # -- before

    def _clean_up(self) -> None:
        """Bring the ledger in line with what a killed batch has left on the disk."""
        # On a full disk even the ledger cannot say how a batch has ended.
        starved = self._free_mb() < max(self._jobs.reserve_mb, _STARVED_MB)
        for work in self._ledger.unfinished():
            if work.state in (State.NEW, State.FAILED):
                continue
            innocent = starved or work.state is State.DOWNLOADED  # that one only waited
            if not innocent and work.interrupted + 1 >= _INTERRUPTIONS:
                self._ledger.fail(work.id, "interrupted", CRASHES["interrupted"], next_try=None)
                self._remove_parts(work)
                error = CRASHES["interrupted"]
                told = {"source": work.source, "title": work.title, "error": error}
                self._log("abandoned", work.id, kind="interrupted", **told)
                self._trouble(work, "interrupted", error, State.ABANDONED)
                continue
            whole = work.video is not None and _is_whole(work.video)
            state = State.DOWNLOADED if whole else State.NEW
            self._ledger.release(work.id, state, outcome="deferred" if innocent else "interrupted")
            self._log("resumed", work.id, source=work.source, was=str(work.state), state=str(state))

    def _remove_orphans(self) -> None:
        """Remove downloads that nobody waits for, left by a kill or by changed settings."""
        kept = {str(work.id) for work in self._ledger.unfinished() if work.video is not None}
        downloads = self._jobs.out / DOWNLOADS
        for folder in downloads.iterdir() if downloads.is_dir() else ():
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            downloads.rmdir()  # if nothing is left

    def _list_all(self) -> None:
        for source in self._jobs.sources:
            self._take_up(source)
        for source in self._jobs.sources:
            self._check_stop()
            self._list(source)
        for work in self._missing:
            if work.id not in self._queued:
                self._remove_parts(work)
                reason = self._replaced(work) or "its file is gone, or holds something else now"
                self._skip(work, reason, "gone")
        for work in self._ledger.abandoned():
            if (replaced := self._replaced(work)) is not None:
                self._skip(work, replaced, "gone")
        self._queue.sort(key=lambda entry: (entry.rank, self._jobs.sources.index(entry.source)))

    def _replaced(self, work: Work) -> str | None:
        """What became of a local file, if something else lies in its place and nowhere a copy of it."""
        if self._paths.get(work.source, work.identity) == work.identity or work.identity in self._local:
            return None
        return "its images were changed" if Path(work.source).is_dir() else "the file was replaced"

    def _take_up(self, source: Source) -> None:
        """Queue what an earlier night has not finished, whether or not its source still lists it."""
        settings_hash = source.settings.result_hash()
        hashes = settings_hash, self._models[settings_hash]
        for work in self._ledger.unfinished([_origin(source)]):
            again = work.standalone or work.video is not None
            if again and host_of(work.source) is None:
                path = Path(work.source)
                if not holds_something(path.parent):
                    continue  # a disk that is not there tonight may be there tomorrow
                if not self._is_still_there(source, work):
                    self._missing.append(work)  # it may be listed by another name
                    continue
            if (work.settings_hash, work.models_hash) == hashes and again and self._has_room(source):
                self._claimed.setdefault((source.folder, work.identity), source)
                if self._wanted(source, work):
                    self._enqueue(source, work, None)

    def _is_still_there(self, source: Source, work: Work) -> bool:
        """Whether a local file or folder of pictures is what it was."""
        try:
            items = list(self._fetcher(source).resolve(work.source))
            return any(self._fetcher(source).identify(item) == work.identity for item in items)
        except SourceError:
            return False

    def _has_room(self, source: Source) -> bool:
        return source.max_per_run is None or self._ranks[_origin(source)] < source.max_per_run

    def _list(self, source: Source) -> None:
        fetcher, taken, listed = self._fetcher(source), 0, 0
        host = host_of(source.name)
        paused = self._ledger.paused_until(host) if host is not None else 0.0
        if paused > time.time():  # no trouble of this night: the one that met it has told
            self._log("source_deferred", source=_origin(source), host=host, until=_iso(paused))
            return
        try:
            for item in fetcher.resolve(
                source.name,
                on_wait=self._check_stop,
                on_left_out=lambda left: self._log("left_out", **vars(left)),
            ):
                if not self._has_room(source):
                    break
                listed += 1
                try:
                    taken += self._enlist(source, fetcher, item)
                except AnalyzerError:
                    raise
                except Exception as error:  # noqa: BLE001 - one entry must not end the list
                    self._on_event.reraise()
                    self._source_failed(source, AnalyzerError(_failure_of(error).error))
        except (StoppedError, LedgerError):
            raise
        except AnalyzerError as error:
            self._on_event.reraise()
            # A folder that was emptied is no trouble.
            if not (isinstance(error, SourceError) and error.kind is SourceErrorKind.EMPTY):
                self._source_failed(source, error)
        except Exception as error:  # noqa: BLE001 - one source must not end the others
            self._on_event.reraise()
            self._source_failed(source, AnalyzerError(_failure_of(error).error))
        self._log("listed", source=_origin(source), videos=listed, queued=taken)

    def _source_failed(self, source: Source, error: AnalyzerError, kind: str | None = None) -> None:
        kind = kind or str(getattr(error, "kind", "unexpected"))
        if isinstance(error, SourceError) and kind in HOST_PAUSES:
            self._pause(host_of(source.name), error)
        self._unlisted.add(_origin(source))
        self._outcome.sources_failed = len(self._unlisted)
        words = str(error).replace(source.name, _origin(source))  # messages quote what was named
        trouble: dict[str, Any] = {"source": _origin(source), "kind": kind, "error": words}
        self._outcome.troubles.append(
            {"video": None, "title": None, "state": "source", "next_try": None, **trouble}
        )
        self._log("source_failed", **trouble)

    def _enlist(self, source: Source, fetcher: Fetcher, item: Item) -> bool:
        """Note a listed video; gives whether it is in tonight's queue."""
        if item.error is not None and (item.list_broke or item.error.retry):
            self._source_failed(source, item.error)
            return False
        if source.watched and not _is_settled(item):
            self._log("still_changing", source=well_formed(item.source))
            return False
        try:
            identity = fetcher.identify(item)
        except SourceError as error:  # a file that has gone since it was listed
            self._source_failed(source, error)
            return False
        shown = without_login(well_formed(item.source))
        settings_hash = source.settings.result_hash()
        first = self._claimed.setdefault((source.folder, identity), source)
        if first.settings.result_hash() != settings_hash:
            # Two runs of one video in one folder would replace each other night after night.
            message = (
                f"{shown} is listed by {_origin(first)} too, with other settings and the same folder: "
                "give one of them `into`"
            )
            self._source_failed(source, SettingsError(message), "clash")
            return False
        listed = Listed(
            identity=identity,
            settings_hash=settings_hash,
            models_hash=self._models[settings_hash],
            origin=_origin(source),
            source=shown,
            standalone=item.standalone and shown == item.source,
            folder=source.folder,
            title=item.title and well_formed(item.title),
            uploaded=item.uploaded,
            duration_s=item.duration_s,
        )
        work, created = self._ledger.add(listed)
        if created:
            self._log("found", work.id, source=work.source, title=work.title)
        if item.paths and shown not in self._paths:
            if work.id in self._queued and identity in self._local:
                self._outcome.copies += 1
                self._log("copy", work.id, source=shown)
            self._paths[shown] = identity
            self._local.add(identity)
        if item.error is not None:
            if created:
                self._ledger.begin(work.id, self._versions)
                self._failed(_Entry(work, source, item, 0), _failure_of(item.error))
            return False
        return self._wanted(source, work) and self._enqueue(source, work, item)

    def _wanted(self, source: Source, work: Work) -> bool:
        """Whether a row is work, by the filters of today."""
        reopened = work.state is State.SKIPPED and work.error_kind in _REOPENED
        if work.state in (State.DONE, State.ABANDONED) or (work.state is State.SKIPPED and not reopened):
            return False
        reason = self._why_not(source, work)
        if reason is not None:
            if work.state is not State.SKIPPED:
                self._skip(work, reason, "filter")
            return False
        if reopened:
            self._ledger.reopen(work.id)
        return True

    @staticmethod
    def _why_not(source: Source, work: Work) -> str | None:
        """Why a video is left out by its source's filters; None: it is wanted, as far as is known.

        A local file has no day of upload: that of its last change counts.
        """
        uploaded = work.uploaded
        if uploaded is None and host_of(work.source) is None:
            with contextlib.suppress(OSError):
                changed = datetime.datetime.fromtimestamp(Path(work.source).stat().st_mtime, datetime.UTC)
                uploaded = changed.date().isoformat()
        return source.filters.why_not(
            title=work.title, duration_s=work.duration_s, uploaded=uploaded, today=_today()
        )

    def _enqueue(self, source: Source, work: Work, item: Item | None) -> bool:
        work = self._ledger.get(work.id)
        due = work.next_try or 0.0
        queued = self._queued.get(work.id)
        if queued is not None:
            queued.item = queued.item or item  # the source knows more than the ledger may keep
            return False
        if due > time.time() + self._jobs.retry.patience_s:
            return False
        rank = self._ranks[_origin(source)]
        self._ranks[_origin(source)] += 1
        entry = self._queued[work.id] = _Entry(work, source, item, rank, due, host_of(work.source))
        self._queue.append(entry)
        return True

    # -- the night

    def _work(self) -> None:
        told = False
        while True:
            self._look_around()
            if self._ending is not None and not told:
                self._log("stopping", reason=self._ending)
                for job_id in self._working:
                    self._executor.cancel(job_id)
                self._abandon.set()
                told = True
            self._collect()
            self._start_analyses()
            self._start_fetch()
            if self._fetching is None and not self._working and not self._goes_on():
                return
            for event in self._executor.events(_POLL_S):
                self._hear(event)

    def _goes_on(self) -> bool:
        """Whether, with nothing in work, something will be within the patience of the night."""
        if self._ending is not None:
            return False
        if self._downloaded:
            return True
        soonest = min((self._due(entry) for entry in self._queue), default=math.inf)
        return soonest <= time.time() + self._jobs.retry.patience_s

    def _due(self, entry: _Entry) -> float:
        if entry.host is None:
            return entry.due
        if entry.host not in self._paused:
            self._paused[entry.host] = self._ledger.paused_until(entry.host)
        return max(entry.due, self._paused[entry.host])

    def _left(self) -> int:
        """How many videos are due, but for those that have failed tonight."""
        told = {one["video"] for one in self._outcome.troubles}
        # Some are still in work where the night ends because of the ledger or the disk.
        begun = [*self._working.values(), *([self._fetching[0]] if self._fetching else [])]
        now = time.time()
        waiting = [*self._queue, *self._downloaded, *begun]
        return sum(entry.due <= now and entry.work.id not in told for entry in waiting)

    def _check_stop(self) -> None:
        if self._stop.requested:
            raise StoppedError("the batch was asked to end")

    def _look_around(self) -> None:
        if self._stop.requested:
            self._end("stopped")
        elif time.monotonic() > self._deadline:
            self._end("time_budget")
        elif time.monotonic() - self._disk_seen > _DISK_EVERY_S:
            self._disk_seen = time.monotonic()
            if self._free_mb() < self._jobs.reserve_mb:
                self._end(
                    "no_space",
                    f"less than {self._jobs.reserve_mb} MB are left in {self._jobs.out}: free some space, "
                    "then run the same command again",
                )

    def _check_signal(self) -> None:
        """What ends badly after it was asked to end has ended because of that."""
        if self._stop.requested:
            self._end("stopped")

    def _end(self, reason: str, error: str | None = None) -> None:
        """Begin nothing more; the first reason counts."""
        if self._ending is None:
            self._ending = self._outcome.reason = reason
            self._outcome.error = error

    def _free_mb(self) -> float:
        return shutil.disk_usage(self._jobs.out).free / 1e6

    # -- fetching

    def _fetcher(self, source: Source) -> Fetcher:
        return self._make_fetcher(source.settings, self._hear_fetch)

    def _hear_fetch(self, progress: FetchProgress) -> None:
        self._progress = progress

    def _start_fetch(self) -> None:
        if self._ending is not None or self._fetching is not None:
            return
        if len(self._downloaded) > self._places:  # enough for the processes to go on with
            return
        now = time.time()
        entry = next((one for one in self._queue if self._due(one) <= now and self._spared(one)), None)
        if entry is None:
            return
        self._queue.remove(entry)
        work = entry.work
        if work.video is not None and _is_whole(work.video):  # downloaded by an earlier night
            self._ledger.begin(work.id, self._versions, state=State.DOWNLOADED)
            self._downloaded.append(entry)
            return
        number = self._ledger.begin(work.id, self._versions)
        self._log("started", work.id, source=work.source, attempt=number)
        folder = self._download_folder(work)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            message = f"{folder} cannot be made ({error.strerror}): check the disk"
            if is_full(error):
                self._failed(entry, Failure("no_space", message))
                return
            raise OutputError(message) from error
        self._fetching = entry, self._pool.submit(self._fetch, entry, folder)

    def _spared(self, entry: _Entry) -> bool:
        """Whether a host has had its pause since the last download."""
        return entry.host is None or time.monotonic() >= self._free_at.get(entry.host, 0.0)

    def _download_folder(self, work: Work) -> Path:
        return self._jobs.out / DOWNLOADS / str(work.id)

    def _fetch(self, entry: _Entry, folder: Path) -> _Fetched:
        """In the second thread."""
        began = time.monotonic()
        video: Video | None = None
        error: BaseException | None = None
        try:
            fetcher = self._fetcher(entry.source)
            item = entry.item or self._item_again(fetcher, entry.work)
            video = fetcher.fetch(
                item, folder, accept=lambda candidate: self._accept(entry, candidate), on_wait=self._go_on
            )
        except Exception as raised:  # noqa: BLE001 - handed to the thread that decides
            error = raised
        return _Fetched(video, error, time.monotonic() - began)

    def _go_on(self) -> None:
        if self._abandon.is_set():
            raise StoppedError("the batch was asked to end")

    @staticmethod
    def _item_again(fetcher: Fetcher, work: Work) -> Item:
        if host_of(work.source) is not None:
            return Item(work.source, MediaKind.VIDEO, title=work.title)
        return next(iter(fetcher.resolve(work.source)))

    def _accept(self, entry: _Entry, candidate: Candidate) -> None:
        """Whether a video is to be downloaded, now that the site has told about it; in the second thread."""
        work, source = entry.work, entry.source
        self._ledger.describe(
            work.id,
            video_id=candidate.video_id,
            title=candidate.title,
            channel=candidate.channel,
            uploaded=candidate.uploaded,
            duration_s=candidate.duration_s,
        )
        reason = self._why_not(source, self._ledger.get(work.id))
        if reason is not None:
            raise _RejectedError(reason, "filter")
        other = self._ledger.same_work(work, candidate.video_id)
        if other is not None:
            raise _RejectedError(f"the same video as {other}", "duplicate")
        run = run_folder(source.folder, candidate.title, candidate.video_id)
        facts = matching_run(run, candidate.video_id, work.settings_hash, work.models_hash)
        if facts is not None:
            raise _AdoptedError(run, facts)
        needed_mb = (candidate.size_bytes or 0) / 1e6 if host_of(work.source) is not None else 0.0
        if needed_mb and self._free_mb() - needed_mb < self._jobs.reserve_mb:
            raise _NoRoomError(
                f"the download of {needed_mb:.0f} MB would leave less than {self._jobs.reserve_mb} MB free: "
                "make room, it is tried again later"
            )

    def _collect(self) -> None:
        """Take in a finished download."""
        if self._fetching is None:
            return
        entry, future = self._fetching
        if self._progress is not None:
            progress, self._progress = self._progress, None
            self._on_event("fetching", entry.work.id, {"received_bytes": progress.received_bytes})
        if not future.done():
            return
        self._fetching = None
        fetched = future.result()
        work, host = entry.work, entry.host
        if host is not None:
            pause = random.uniform(*self._jobs.pace.pause_s)
            self._free_at[host] = time.monotonic() + pause
        if fetched.video is not None:
            if host is not None:
                self._ledger.host_answered(host)
            else:
                self._remove_download(work)  # nothing was
            size = sum(path.stat().st_size for path in fetched.video.paths)
            self._ledger.downloaded(
                work.id, video_document(fetched.video), size_bytes=size, fetch_s=round(fetched.seconds, 3)
            )
            self._log("downloaded", work.id, size_bytes=size, seconds=round(fetched.seconds, 3))
            entry.work = self._ledger.get(work.id)
            entry.fetch_s = fetched.seconds
            self._downloaded.append(entry)
            return
        self._remove_download(work)
        assert fetched.error is not None
        self._not_fetched(entry, fetched.error)

    def _not_fetched(self, entry: _Entry, error: BaseException) -> None:
        work = entry.work
        match error:
            case StoppedError():
                self._ledger.release(work.id, _before(work), next_try=work.next_try)
                self._queue.append(entry)
            case _RejectedError():
                self._skip(work, str(error), error.kind)
            case _AdoptedError():
                self._ledger.done(work.id, error.run, error.facts.document())
                remove_leftovers(error.run)
                self._count_done(work, error.run, error.facts)
                self._log("adopted", work.id, run=error.run.name)
            case LedgerError():
                raise error
            case _NoRoomError():
                self._failed(entry, Failure("too_large_for_disk", str(error)))
            case _:
                failure = _failure_of(error)
                if entry.host is None and failure.kind == SourceErrorKind.NOT_FOUND:
                    failure = replace(failure, retry=True)  # a file may come back
                self._failed(entry, failure)

    # -- analyzing

    def _start_analyses(self) -> None:
        while self._ending is None and self._downloaded and self._executor.free:
            together = min(self._places, len(self._working) + len(self._downloaded))
            entry = self._downloaded.popleft()
            work, settings = entry.work, entry.source.settings
            if self._places > 1:  # as many processes in all, whether for one video or for many
                each = max(1, self._places // together)
                threads = max(1, settings.thread_count * each // self._places)
                settings = settings.replace(workers=each, threads=threads)
            self._ledger.analyzing(work.id)
            _make_folder(entry.source.folder)
            assert work.video is not None
            spec = JobSpec(
                next(self._job_ids),
                video_of(work.video),
                settings,
                entry.source.folder,
                settings_hash=work.settings_hash,
                models_hash=work.models_hash,
                report=tuple(self._jobs.report),
                cpu_s=self._jobs.limits.cpu_s,
                fetch_s=entry.fetch_s,
                shorter_than_s=entry.source.filters.shorter_than_s,
                longer_than_s=entry.source.filters.longer_than_s,
            )
            self._working[spec.job_id] = entry
            self._log("analyzing", work.id, title=work.title, duration_s=work.duration_s)
            self._executor.submit(spec)

    def _hear(self, event: JobEvent) -> None:
        entry = self._working[event.job_id]
        id = entry.work.id
        match event:
            case Ready():
                pass
            case Opened():
                self._ledger.opened(id, event.parts_key, event.kept, event.expected)
                self._ledger.describe(id, segments=event.expected, duration_s=event.duration_s)
            case Segment():
                facts = {"samples": event.samples, "faces": event.faces, "size_bytes": event.size_bytes}
                self._ledger.segment(id, event.segment, **facts)
                self._log("segment", id, segment=event.segment, **facts)
            case Progress():
                self._on_event("progress", id, {"time_s": event.time_s, "duration_s": event.duration_s})
            case Rendering():
                self._on_event("rendering", id, {"share": event.share})
            case Done():
                del self._working[event.job_id]
                self._done(entry, event)
            case Rejected():  # only once it was open, its length was known
                del self._working[event.job_id]
                self._ledger.describe(id, duration_s=event.duration_s)  # it is not opened again for that
                self._remove_parts(entry.work)
                self._skip(entry.work, event.reason, "filter")
            case Stopped():
                del self._working[event.job_id]
                self._ledger.release(id, State.DOWNLOADED)
                entry.work = self._ledger.get(id)
                self._downloaded.append(entry)
                self._log("stopped", id)
            case Failed():
                del self._working[event.job_id]
                self._failed(entry, Failure(event.kind, event.error, event.phase))

    def _done(self, entry: _Entry, event: Done) -> None:
        work, facts = entry.work, event.facts
        run = entry.source.folder / event.run
        self._ledger.done(work.id, run, facts.document(), analysis_s=event.analysis_s)
        self._remove_download(work)
        self._count_done(work, run, facts, event.report_error)
        names = ("people", "female", "male", "faces", "samples")
        self._log(
            "done",
            work.id,
            run=event.run,
            complete=facts.complete,
            seconds=event.analysis_s,
            resident_mb=event.resident_mb,
            **{name: facts.counts[name] for name in names},
        )

    def _count_done(self, work: Work, run: Path, facts: RunFacts, report_error: str | None = None) -> None:
        """Add a run to what the night has done, whoever has analyzed it."""
        outcome = self._outcome
        self._no_trouble(work)  # of an attempt earlier tonight
        outcome.done += 1
        outcome.recovered += self._crashes.pop(work.id, 0)
        outcome.incomplete += not facts.complete
        outcome.unreported += report_error is not None
        outcome.undrawn += facts.video_error is not None
        outcome.people += facts.counts["people"]
        outcome.video_s = round(outcome.video_s + facts.counts["analyzed_s"], 3)
        title = facts.title or work.title
        outcome.runs.append(
            {
                "video": work.id,
                "source": work.source,
                "title": title,
                "run": str(run),
                "complete": facts.complete,
                "people": facts.counts["people"],
            }
        )
        wrong = {
            "incomplete": None if facts.complete else facts.incomplete_reason or "it was not read to its end",
            "video": facts.video_error and f"it has no annotated video: {facts.video_error}",
            "report": report_error and f"it has no report: {report_error}",
        }
        words = {kind: sentence for kind, sentence in wrong.items() if sentence}
        if words:
            self._trouble(work, next(iter(words)), "; ".join(words.values()), State.DONE)

    # -- what went wrong

    def _failed(self, entry: _Entry, failure: Failure) -> None:
        work, jobs = self._ledger.get(entry.work.id), self._jobs
        if failure.ends_batch:
            state = State.DOWNLOADED if work.video is not None else _before(work)
            self._ledger.release(work.id, state, outcome="deferred")
            self._downloaded.append(entry)  # it is left for another night
            self._check_signal()
            self._end("no_space" if failure.kind == "no_space" else "broken", failure.error)
            self._log("deferred", work.id, kind=failure.kind, error=failure.error)
            return
        if entry.host is not None and (failure.kind in HOST_PAUSES or failure.retry_after_s):
            until = self._pause(entry.host, failure)
            self._ledger.fail(work.id, failure.kind, failure.error, next_try=until, counted=False)
            self._note_failure(entry, failure, State.FAILED, until)
            return
        if failure.kind == "too_large_for_disk":  # no fault of the video
            until = time.time() + jobs.retry.base_s
            self._ledger.fail(work.id, failure.kind, failure.error, next_try=until, counted=False)
            # Videos that are done give back what they take; without any, nothing will change tonight.
            self._note_failure(entry, failure, State.FAILED, until, tonight=bool(self._in_hand()))
            return
        self._crashes[work.id] += failure.kind in CRASHES
        pause = delay_s(failure, work.consecutive_failures, jobs.retry, jobs.limits)
        next_try = None if pause is None else time.time() + pause
        again = failure.keeps_download and next_try is not None
        state = self._ledger.fail(
            work.id, failure.kind, failure.error, next_try=next_try, keep_download=again
        )
        if not again:
            self._remove_download(work)
        if state is State.ABANDONED:
            self._remove_parts(work)
        self._note_failure(entry, failure, state, next_try)

    def _in_hand(self) -> int:
        return len(self._working) + len(self._downloaded)

    def _note_failure(
        self, entry: _Entry, failure: Failure, state: State, next_try: float | None, *, tonight: bool = True
    ) -> None:
        work = self._ledger.get(entry.work.id)
        log = {"source": work.source, "title": work.title, "kind": failure.kind, "error": failure.error}
        soon = next_try is not None and next_try <= time.time() + self._jobs.retry.patience_s
        tonight = tonight and soon and self._ending is None
        self._log(
            str(state), work.id, **log, attempt=work.attempts, next_try=_iso(next_try), will_retry=tonight
        )
        self._trouble(work, failure.kind, failure.error, state, next_try)
        if tonight and next_try is not None:
            entry.work, entry.due = work, next_try
            self._queue.append(entry)

    def _no_trouble(self, work: Work) -> None:
        as_list = self._list_troubles.pop(work.id, None)
        if as_list is not None:
            self._unlisted.discard(work.source)
        self._outcome.troubles = [
            one for one in self._outcome.troubles if one["video"] != work.id and one is not as_list
        ]
        self._count_troubles()

    def _trouble(
        self, work: Work, kind: str, error: str, state: State, next_try: float | None = None
    ) -> None:
        """What the summary tells; of each video the last one."""
        self._no_trouble(work)
        told: dict[str, Any] = {"source": work.source, "kind": kind, "error": error}
        told |= {"video": work.id, "title": work.title, "state": str(state), "next_try": _iso(next_try)}
        if state in (State.FAILED, State.ABANDONED) and self._names_list(work):
            told |= {"video": None, "title": None, "state": "source"}  # it is no video that has failed
            self._list_troubles[work.id] = told
            self._unlisted.add(work.source)
        self._outcome.troubles.append(told)
        self._count_troubles()

    def _names_list(self, work: Work) -> bool:
        """Whether this is a channel or playlist that was named as if it were one video."""
        named = next((one for one in self._jobs.sources if _origin(one) == work.source), None)
        if named is None or named.settings.playlist or host_of(work.source) is None:
            return False
        return self._fetcher(named).names_list(work.source)

    def _count_troubles(self) -> None:
        outcome = self._outcome
        states = Counter(one["state"] for one in outcome.troubles if one["video"] is not None)
        outcome.failed, outcome.abandoned = states[State.FAILED], states[State.ABANDONED]
        outcome.sources_failed = len(self._unlisted)

    def _pause(self, host: str | None, error: Failure | SourceError) -> float:
        if host is None:
            return time.time()
        first_s = self._jobs.pace.bot_pause_s if error.kind in HOST_PAUSES else 0.0
        if error.retry_after_s is not None:
            # It has said what it wants; but one that always says "at once" is not asked all night.
            first_s = max(error.retry_after_s, self._jobs.retry.base_s)
        until = self._ledger.pause_host(
            host,
            str(error.error if isinstance(error, Failure) else error),
            first_s=first_s,
            cap_s=BOT_PAUSE_CAP_S,
            least_s=error.retry_after_s or 0.0,
        )
        self._paused[host] = until
        self._log("host_paused", host=host, until=_iso(until), kind=str(error.kind))
        return until

    def _skip(self, work: Work, reason: str, kind: str) -> None:
        self._ledger.skip(work.id, reason, kind)
        self._remove_download(work)
        self._no_trouble(work)  # of an attempt earlier tonight
        self._outcome.skipped += 1
        self._outcome.filtered += kind == "filter"
        self._log("skipped", work.id, source=work.source, reason=reason, kind=kind)

    def _remove_download(self, work: Work) -> None:
        shutil.rmtree(self._download_folder(work), ignore_errors=True)
        with contextlib.suppress(OSError):
            (self._jobs.out / DOWNLOADS).rmdir()

    def _remove_parts(self, work: Work) -> None:
        """Remove the segments of a video that is given up or not wanted: its own, no other analysis's."""
        work = self._ledger.get(work.id)
        if work.parts_key is not None:
            remove_parts(_parts_folder(work), work.parts_key)


def default_fetcher(settings: Settings, on_progress: Callable[[FetchProgress], None]) -> Fetcher:
    """What resolves and downloads, with yt-dlp's own extractors."""
    return Fetcher(settings, want_audio=settings.video, on_progress=on_progress)


def _origin(source: Source) -> str:
    return without_login(well_formed(source.name))


def _today() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()


def _iso(moment: float | None) -> str | None:
    if moment is None:
        return None
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).isoformat(timespec="seconds")


def _before(work: Work) -> State:
    """Where a video stood before an attempt that does not count."""
    return State.FAILED if work.consecutive_failures else State.NEW


def _failure_of(error: BaseException) -> Failure:
    match error:
        case SourceError():
            return Failure(str(error.kind), str(error), retry=error.retry, retry_after_s=error.retry_after_s)
        case OutputError():
            return Failure("no_space" if error.no_space else "output", str(error))
        case AnalyzerError():
            return Failure("unexpected", str(error))
    return Failure("unexpected", f"it broke off unexpectedly ({error!r}): please report it")


def _is_whole(video: dict[str, Any]) -> bool:
    """Whether the files of a downloaded or local video are still there, as they were."""
    try:
        sizes = [os.stat(path).st_size for path in video["paths"]]  # noqa: PTH116
        audio = video["audio_path"]
        return sum(sizes) == video["details"]["size_bytes"] - (os.stat(audio).st_size if audio else 0)  # noqa: PTH116
    except (OSError, KeyError, TypeError, ValueError):
        return False


def _is_settled(item: Item) -> bool:
    newest = time.time() - _SETTLED_S
    with contextlib.suppress(OSError):
        return all(path.stat().st_mtime <= newest for path in item.paths)
    return False


def holds_something(folder: Path) -> bool:
    """Whether a folder is there; the empty place of a disk that is not mounted is none."""
    with contextlib.suppress(OSError):
        return any(folder.iterdir())
    return False


def _parts_folder(work: Work) -> Path:
    return run_folder(work.folder, work.title or "", work.video_id or work.identity)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"the output folder {folder} cannot be made ({error.strerror}): choose another with --out",
            no_space=is_full(error),
        ) from error
