"""Works through a batch run: fetches videos, runs their analyses as jobs, and records results in the ledger.

One thread decides, and it alone changes states. Other threads download the next videos while jobs analyze the
previous ones in the slots of an executor.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from analyzer import events
from analyzer.batch.config import Jobs, Source
from analyzer.batch.context import (
    BatchContext,
    Stop,
    default_fetcher,
    library_versions,
    origin_of,
    shown_name,
)
from analyzer.batch.executors.base import Executor, FetcherMaker, MachineLostError
from analyzer.batch.failure_policy import CRASHES, Failure, Phase, failure_of
from analyzer.batch.failures import Failures, state_before
from analyzer.batch.fetching import AdoptedError, Downloads, ExcludedError, Fetched, NoSpaceError
from analyzer.batch.folders import (
    is_complete,
    keep_download,
    make_folder,
    remove_segments,
    remove_unknown_downloads,
)
from analyzer.batch.ledger import CANCELED, Ledger, State, Work, lock_ledger
from analyzer.batch.listing import Listing
from analyzer.batch.log import EventLog, OnEvent, ignore
from analyzer.batch.outcome import Outcome
from analyzer.batch.protocol import (
    FINAL,
    Done,
    Failed,
    JobEvent,
    JobSpec,
    Logged,
    Moved,
    Opened,
    Placed,
    Progress,
    Rejected,
    Rendering,
    Resources,
    Segment,
    SourceLost,
    Stopped,
    video_document,
    video_of,
)
from analyzer.batch.queue import Entry, WorkQueue
from analyzer.batch.workers import rows_of
from analyzer.errors import ClusterError, LedgerError, OutputError, SourceErrorKind, StoppedError
from analyzer.settings import Settings
from analyzer.util.callbacks import Callback
from analyzer.util.clock import Clock
from analyzer.util.locks import remove_leftovers
from analyzer.vision.selection import models_hash

__all__ = ["Scheduler", "slots_each"]

_T = TypeVar("_T")
_REOPENED = (State.FAILED, State.ABANDONED, State.SKIPPED)
_POLL_S = 0.1

_EXIT_POLLS = 100
"""How often to ask for the ends of canceled jobs when the run ends by an error."""

_DISK_EVERY_S = 2.0
_WORKERS_EVERY_S = 3.0

_MAX_INTERRUPTIONS = 10
"""A video during which the whole batch was killed this often without any progress is held to be the cause."""

_MAX_LOSSES = 5
"""A video that was lost so often, in work on a machine or with it, without a new segment is held to be the
cause."""

_MIN_SPACE_MB = 10
"""With less space than this an earlier batch run may have been unable to record how it ended."""


class Scheduler:
    """One batch run.

    Args:
        jobs: What to do.
        executor: Runs the analyses. The caller makes and closes it; when `run` returns, it is idle.
        on_event: Called with each event in the calling thread. What it raises ends the run, and `run` raises
            it.
        commit_first: Commit changes before `on_event` is called, which reads the ledger. Otherwise, what is
            listed is committed soon after.
        stop: Requests the end of the run.
        fetchers: Makes what lists and downloads.
        clock: The time.

    Raises:
        ModelError: A source's settings name unknown models.
    """

    def __init__(
        self,
        jobs: Jobs,
        executor: Executor,
        *,
        on_event: OnEvent = ignore,
        commit_first: bool = False,
        stop: Stop | None = None,
        fetchers: FetcherMaker = default_fetcher,
        clock: Clock | None = None,
    ) -> None:
        self._jobs = jobs
        self._executor = executor
        self._on_event = Callback(on_event)
        self._commit_first = commit_first
        self._stop = stop or Stop()
        self._make_fetcher = fetchers
        self._clock = clock or Clock()
        self._orders = _Orders()
        self._models: dict[str, str] = {}
        for source in jobs.sources:
            self.add(source)

    def add(self, source: Source) -> None:
        """Add a source, which may be a single video; from any thread, also while `run` is going on.

        Raises:
            ModelError: Its settings name unknown models.
        """
        self._models[source.settings.result_hash()] = models_hash(source.settings)
        self._orders.added.put(source)

    def retry(self, source: Source) -> None:
        """As `add`; what of the source has failed or was canceled is new again.

        Raises:
            ModelError: Its settings name unknown models.
        """
        self._orders.reopened.put(source)
        self.add(source)

    def cancel(self, name: str) -> None:
        """End whatever is done for a source within a second, and skip its videos; from any thread.

        Finished segments are removed. `retry` begins again.

        Args:
            name: The source's.
        """
        self._orders.cancelled.put(name)

    def forget(self, name: str, ids: Iterable[int]) -> None:
        """Forget a source whose rows were deleted from the ledger; from any thread.

        Args:
            name: The source's.
            ids: Of the rows: new ones may get the same.
        """
        self._orders.forgotten.put((name, tuple(ids)))

    def run(self, *, until_idle: bool = True) -> Outcome:
        """Work until everything is done.

        Args:
            until_idle: Return when nothing is left to do. Otherwise wait for more sources, until a stop is
                requested.

        Raises:
            LedgerError: Another batch uses the ledger (temporary), or the ledger cannot be used.
            OutputError: The output folder or the log cannot be written.
        """
        jobs, clock = self._jobs, self._clock
        began = clock.monotonic()
        with contextlib.ExitStack() as stack:
            stack.enter_context(lock_ledger(jobs.ledger))
            ledger = stack.enter_context(Ledger(jobs.ledger, now=clock.time))
            on_event = self._telling(ledger)
            log = stack.enter_context(EventLog(jobs.log, on_event))
            make_folder(jobs.out)
            downloader = self._executor.downloader
            context = BatchContext(
                jobs, ledger, log, on_event, clock, self._stop, self._make_fetcher, downloader
            )
            number = ledger.begin_batch_run()
            log("batch_started", batch_run=number, sources=len(jobs.sources), slots=self._executor.slots)
            run = _Run(context, self._executor, self._orders, self._models)
            try:
                with run:
                    while run.step() or not (until_idle or context.ending):
                        run.wait()
            except StoppedError:
                self._on_event.reraise()
                context.end("stopped")
            except LedgerError as error:
                self._on_event.reraise()
                if not error.temporary:
                    raise
                # The disk is full, or another program locks the ledger: what is committed stays.
                context.end("ledger", str(error))
            except OutputError as error:
                self._on_event.reraise()
                if not error.no_space:
                    raise
                context.end("no_space", str(error))
            except ClusterError as error:  # all jobs have stopped: what is committed stays
                self._on_event.reraise()
                context.end("cluster", str(error))
            outcome = context.outcome
            outcome.seconds = round(clock.monotonic() - began, 1)
            outcome.left = run.left()
            log("batch_ended", batch_run=number, **outcome.figures())
            with contextlib.suppress(LedgerError):
                ledger.end_batch_run(number, outcome.reason, outcome.figures())
        return outcome

    def _telling(self, ledger: Ledger) -> Callback[[str, int | None, dict[str, Any]], None]:
        if not self._commit_first:
            return self._on_event

        def tell(event: str, video: int | None, facts: dict[str, Any]) -> None:
            ledger.commit()
            self._on_event(event, video, facts)

        return Callback(tell)


@dataclass(frozen=True)
class _Orders:
    """What other threads ask of a scheduler."""

    added: SimpleQueue[Source] = field(default_factory=SimpleQueue)
    reopened: SimpleQueue[Source] = field(default_factory=SimpleQueue)
    cancelled: SimpleQueue[str] = field(default_factory=SimpleQueue)
    """Names of sources."""
    forgotten: SimpleQueue[tuple[str, tuple[int, ...]]] = field(default_factory=SimpleQueue)


class _Run:
    """The state of a batch run. A context manager: leaving it ends the download and all jobs."""

    def __init__(
        self, context: BatchContext, executor: Executor, orders: _Orders, models: dict[str, str]
    ) -> None:
        budget_s = context.jobs.time_budget_s
        self._context = context
        self._executor = executor
        self._orders = orders
        self._sources: dict[str, Source] = {}
        """By their names as they are stored: of each, the first."""
        self._queue = WorkQueue(context)
        self._failures = Failures(context, self._queue, self._sources)
        self._listing = Listing(context, self._queue, self._failures, models)
        self._downloads = Downloads(context)
        self._downloaded: deque[Entry] = deque()
        self._running: dict[int, Entry] = {}
        """By the id of the job."""
        self._unfinished: list[Entry] = []
        """What was in work when the run ended by an error."""
        self._job_ids = itertools.count(1)
        self._deadline = math.inf if budget_s is None else context.clock.monotonic() + budget_s
        self._disk_checked_at = -math.inf
        self._workers_noted_at = -math.inf
        self._workers_idle = True
        self._cancelled = False
        self._unwanted: set[int] = set()
        """Rows whose job or download was canceled and has not ended yet."""
        self._losses: Counter[int] = Counter()
        """By row: how often machines were lost that had its video, or were downloading it."""
        self._started = False

    def __enter__(self) -> _Run:
        self._downloads.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._unfinished += self._running.values()
        for job_id in self._running:
            self._executor.cancel(job_id)
        downloading = self._downloads.entries
        self._downloads.__exit__(None, None, None)
        for entry in downloading:  # an error of the run says nothing about the video
            self._unfinished.append(entry)
            work = entry.work
            with contextlib.suppress(LedgerError):
                self._context.ledger.release(work.id, state_before(work), next_try=work.next_try)
        for _ in range(_EXIT_POLLS):
            if not self._running:
                break
            for event in self._executor.events(_POLL_S):
                if isinstance(event, FINAL):
                    entry = self._running.pop(event.job_id)
                    with contextlib.suppress(LedgerError):  # a finished run is adopted the next time
                        self._context.ledger.release(entry.work.id, _resting(entry.work))

    def step(self) -> bool:
        """Do what is to be done now, and wait a moment for a job or a download, if there is one.

        Returns:
            Whether anything is left to do.
        """
        if not self._started:
            self._started = True
            self._recover()
        self._list_added()
        for name in _drained(self._orders.cancelled):
            self._cancel(name)
        self._check_limits()
        if self._context.ending and not self._cancelled:
            self._cancelled = True
            self._context.log("stopping", reason=self._context.outcome.reason)
            self._downloads.cancel()
            for job_id in self._running:
                self._executor.cancel(job_id)
        for fetched in self._downloads.collect():
            self._fetched(fetched)
        self._start_jobs()
        self._note_workers()
        self._start_downloads()
        if self._running:
            self._job_events()
        elif self._downloads.entries:
            self._downloads.wait(_POLL_S)
        else:
            return self._has_more() or not self._orders.added.empty()
        return True

    def wait(self) -> None:
        """Wait a moment, if there is neither a job nor a download to wait for."""
        if not self._running and not self._downloaded and not self._downloads.entries:
            self._context.clock.sleep(_POLL_S)

    def left(self) -> int:
        """How many videos are due and not done, without those that failed in this run."""
        now = self._context.clock.time()
        begun = (entry.work.id for entry in (*self._downloaded, *self._unfinished) if entry.due <= now)
        waiting = itertools.chain(self._queue.due(), begun)
        return sum(not self._context.tally.has_trouble(id) for id in waiting)

    def _has_more(self) -> bool:
        """Whether, with no job and no download, there will be something to do soon enough to wait for it."""
        if self._context.ending:
            return False
        if self._downloaded:
            return True
        latest = self._context.clock.time() + self._context.jobs.retry.patience_s
        return self._queue.next_due() <= latest

    # -- the start

    def _recover(self) -> None:
        """Bring the ledger in line with what a killed batch has left on the disk."""
        context = self._context
        # On a full disk a batch run cannot even record how it has ended.
        starved = context.free_mb() < max(context.jobs.reserve_mb, _MIN_SPACE_MB)
        for work in context.ledger.running():
            counted = not starved and work.state is not State.DOWNLOADED  # that one only waited
            if counted and work.interrupted + 1 >= _MAX_INTERRUPTIONS:
                self._failures.interrupted_too_often(work)
                continue
            complete = work.video is not None and is_complete(work.video)
            state = State.DOWNLOADED if complete else State.NEW
            context.ledger.release(work.id, state, outcome="interrupted" if counted else "deferred")
            context.log("resumed", work.id, source=work.source, was=str(work.state), state=str(state))

    def _list_added(self) -> None:
        """List the sources that were added since the last step; the first ones are those of the jobs."""
        for name, ids in _drained(self._orders.forgotten):
            self._listing.forget(name)
            self._sources.pop(shown_name(name), None)
            for id in ids:
                self._queue.forget(id)
                self._context.tally.forget(id)
        for source in _drained(self._orders.reopened):
            for work in self._context.ledger.of_origin(origin_of(source)):
                if work.state in _REOPENED:
                    self._queue.forget(work.id)
                    self._context.ledger.reopen(work.id)
        new = list(_drained(self._orders.added))
        if not new or self._context.ending:
            return
        first = not self._sources
        for source in new:
            self._sources.setdefault(origin_of(source), source)
        self._listing.list_all(new)
        if first:  # left by a kill or by changed settings
            remove_unknown_downloads(self._context.jobs.out, self._context.ledger.needs_download)
        self._context.log("queued", videos=len(self._queue))

    def _check_limits(self) -> None:
        context, now = self._context, self._context.clock.monotonic()
        if context.stop.requested:
            context.end("stopped")
        elif now > self._deadline:
            context.end("time_budget")
        elif now - self._disk_checked_at > _DISK_EVERY_S:
            self._disk_checked_at = now
            if context.free_mb() < context.jobs.reserve_mb:
                context.end(
                    "no_space",
                    f"less than {context.jobs.reserve_mb} MB are left in {context.jobs.out}: free some "
                    "space, then run the same command again",
                )

    def _note_workers(self) -> None:
        """Record what the workers do now and then, for ``batch status``."""
        now = self._context.clock.monotonic()
        if now - self._workers_noted_at < _WORKERS_EVERY_S or (self._workers_idle and not self._running):
            return
        self._workers_noted_at = now
        videos = {job_id: entry.work.id for job_id, entry in self._running.items()}
        rows = rows_of(self._executor.workers(), videos, self._context.clock.time())
        self._workers_idle = not videos
        with contextlib.suppress(LedgerError):  # what matters fails by itself
            self._context.ledger.set_workers(rows)

    # -- canceled sources

    def _cancel(self, name: str) -> None:
        origin = shown_name(name)
        jobs = {entry.work.id: job_id for job_id, entry in self._running.items()}
        for work in self._context.ledger.unfinished(origin):
            if work.id in jobs:
                self._executor.cancel(jobs[work.id])
                self._unwanted.add(work.id)
            elif self._downloads.cancel(work.id):
                self._unwanted.add(work.id)
            else:
                self._downloaded = deque(each for each in self._downloaded if each.work.id != work.id)
                self._skip_canceled(work)

    def _skip_canceled(self, work: Work) -> None:
        self._unwanted.discard(work.id)
        self._queue.forget(work.id)
        remove_segments(self._context.ledger.get(work.id))
        self._context.skip(work, "it was canceled", CANCELED)

    # -- downloads

    def _start_downloads(self) -> None:
        context = self._context
        while not context.ending and len(self._downloaded) <= self._executor.slots:  # else it is busy enough
            entry = self._downloads.take(self._queue)
            if entry is None:
                return
            self._start_download(entry)

    def _start_download(self, entry: Entry) -> None:
        context, work = self._context, entry.work
        if self._context.has_video(work):  # downloaded before
            context.ledger.begin(work.id, library_versions(), state=State.DOWNLOADED)
            self._downloaded.append(entry)
            return
        number = context.ledger.begin(work.id, library_versions())
        failure = None
        try:
            self._downloads.start(entry)
        except OutputError as error:
            if not error.no_space:
                raise
            failure = failure_of(error, Phase.FETCH)
        context.log("started", work.id, source=work.source, attempt=number)
        if failure is not None:
            self._failures.handle(entry, failure)

    def _fetched(self, fetched: Fetched) -> None:
        context, entry, work = self._context, fetched.entry, fetched.entry.work
        if entry.host is not None:
            self._queue.rest_host(entry.host, self._downloads.pause_s())
        if fetched.video is None or entry.host is None:
            context.remove_download(work.id)  # of a local file there is none
        if fetched.video is None:
            assert fetched.error is not None
            self._not_fetched(entry, fetched.error)
            return
        if entry.host is not None:
            context.ledger.host_answered(entry.host)
        size = fetched.video.details["size_bytes"]
        assert isinstance(size, int)
        seconds = round(fetched.seconds, 3)
        context.ledger.downloaded(work.id, video_document(fetched.video), size_bytes=size, fetch_s=seconds)
        context.log("downloaded", work.id, size_bytes=size, seconds=seconds, node=context.node_of(work.id))
        entry.work, entry.fetch_s = context.ledger.get(work.id), fetched.seconds
        if work.id in self._unwanted:  # it was too late to end it
            self._skip_canceled(entry.work)
            return
        self._downloaded.append(entry)

    def _not_fetched(self, entry: Entry, error: BaseException) -> None:
        context, work = self._context, entry.work
        match error:
            case _ if work.id in self._unwanted:
                self._skip_canceled(work)
            case StoppedError():
                context.ledger.release(work.id, state_before(work), next_try=work.next_try)
                self._queue.put_back(entry)
            case ExcludedError():
                context.skip(work, str(error), error.kind)
            case AdoptedError():
                context.ledger.done(work.id, error.run, error.facts.document())
                remove_leftovers(error.run)
                context.tally.done(work, error.run, error.facts)
                context.log("adopted", work.id, run=error.run.name)
            case MachineLostError():
                self._lost(entry, error.node, str(error))
            case LedgerError():
                raise error
            case NoSpaceError():
                self._failures.handle(entry, error.failure, busy=bool(self._running or self._downloaded))
            case _:
                failure = failure_of(error, Phase.FETCH)
                if entry.host is None and failure.kind == SourceErrorKind.NOT_FOUND:
                    # A missing file may come back.
                    failure = Failure(failure.kind, failure.error, failure.phase, retry=True)
                self._failures.handle(entry, failure)

    def _lost(self, entry: Entry, node: str, reason: str) -> None:
        """A video was lost with the machine that had it, or was downloading it: it is downloaded again."""
        context, work = self._context, entry.work
        context.remove_download(work.id)
        self._losses[work.id] += 1
        if self._losses[work.id] >= _MAX_LOSSES:
            del self._losses[work.id]
            self._failures.handle(entry, Failure("lost", f"{CRASHES['lost']} ({reason})"))
            return
        context.ledger.release(work.id, state_before(work), outcome="deferred", next_try=work.next_try)
        entry.work = context.ledger.get(work.id)
        self._queue.put_back(entry)
        context.log("moved", work.id, node=node, reason=reason)

    # -- jobs

    def _start_jobs(self) -> None:
        context, slots = self._context, self._executor.slots
        while not context.ending and self._downloaded and len(self._running) < slots:
            concurrent = min(slots, len(self._running) + len(self._downloaded))
            entry = self._next_downloaded()
            work, source = entry.work, entry.source
            context.ledger.analyzing(work.id)
            make_folder(source.folder)
            assert work.video is not None
            spec = JobSpec(
                next(self._job_ids),
                video_of(work.video),
                source.settings,
                source.folder,
                settings_hash=work.settings_hash,
                models_hash=work.models_hash,
                report=tuple(context.jobs.report),
                resources=self._resources(source.settings, concurrent),
                fetch_s=entry.fetch_s,
                shorter_than_s=source.filters.shorter_than_s,
                longer_than_s=source.filters.longer_than_s,
            )
            self._executor.submit(spec)
            self._running[spec.job_id] = entry
            # Logged last: if `on_event` raises, the job is known and is canceled.
            context.log("analyzing", work.id, title=work.title, duration_s=work.duration_s)

    def _next_downloaded(self) -> Entry:
        """Take the video that is analyzed next: the first one whose machine is free, else the first one."""
        near = self._context.nearest(each.work.id for each in self._downloaded)
        found = next((each for each in self._downloaded if each.work.id == near), self._downloaded[0])
        self._downloaded.remove(found)
        return found

    def _resources(self, settings: Settings, concurrent: int) -> Resources:
        """A job's share of the executor: as many processes in all, whether for one video or for many.

        An executor with one slot leaves both numbers to the settings.
        """
        slots, limits = self._executor.slots, self._context.jobs.limits
        share = slots_each(slots, concurrent)
        threads = min(self._executor.threads, settings.threads or self._executor.threads)
        return Resources(
            workers=share if slots > 1 else 0,
            threads=max(1, threads * share // slots) if slots > 1 else 0,
            memory_mb=limits.memory_mb,
            cpu_s=limits.cpu_s,
            wall_s=limits.wall_s,
            stall_s=limits.stall_s,
        )

    def _job_events(self) -> None:
        """Handle what jobs report.

        What comes before the end of a job is committed together: a hundred machines write more segments than
        a disk can flush one by one, and rows that a kill loses are restored from the files.
        """
        events = self._executor.events(_POLL_S)
        for is_final, group in itertools.groupby(events, lambda event: isinstance(event, FINAL)):
            with contextlib.nullcontext() if is_final else self._context.ledger.together():
                for event in group:
                    self._job_event(event)

    def _job_event(self, event: JobEvent) -> None:
        entry = self._running[event.job_id]
        if isinstance(event, FINAL):
            del self._running[event.job_id]
        try:
            self._handle(entry, event)
        except Exception:
            if isinstance(event, FINAL):
                self._unfinished.append(entry)  # the ledger does not have it
            raise

    def _handle(self, entry: Entry, event: JobEvent) -> None:
        context, id = self._context, entry.work.id
        match event:
            case Opened():
                context.ledger.opened(id, event.parts_key, event.completed, event.expected)
                context.ledger.describe(id, segments=event.expected, duration_s=event.duration_s)
            case Segment():
                facts = {"samples": event.samples, "faces": event.faces, "size_bytes": event.size_bytes}
                context.ledger.segment(id, event.segment, **facts)
                self._losses.pop(id, None)
                context.log(events.SegmentCommitted.name, id, segment=event.segment, **facts)
            case Moved():
                number = context.ledger.moved(id, event.reason, library_versions())
                context.log("moved", id, node=event.node, reason=event.reason, attempt=number)
            case Done():
                self._done(entry, event)
            case Rejected():  # its length was not known before it was open
                context.ledger.describe(id, duration_s=event.duration_s)  # it is not opened again for that
                remove_segments(context.ledger.get(id))
                context.skip(entry.work, event.reason, "filter")
            case Stopped() | Failed() | SourceLost() if id in self._unwanted:
                self._skip_canceled(context.ledger.get(id))
            case Stopped():
                state = _resting(entry.work)
                context.ledger.release(id, state)
                entry.work = context.ledger.get(id)
                if state is State.DOWNLOADED:
                    self._downloaded.append(entry)
                else:
                    self._queue.put_back(entry)
                context.log("stopped", id)
            case SourceLost():
                self._lost(entry, event.node, event.reason)
            case Failed():
                self._failures.handle(entry, Failure(event.kind, event.error, event.phase))
            case _:
                self._report(id, event)

    def _report(self, id: int, event: JobEvent) -> None:
        """Pass on an event that changes nothing."""
        context = self._context
        match event:
            case Progress():
                context.on_event(
                    events.Progress.name, id, {"time_s": event.time_s, "duration_s": event.duration_s}
                )
            case Rendering():
                context.on_event(events.Rendering.name, id, {"fraction": event.share})
            case Logged():
                context.log(
                    "logged",
                    id,
                    node=event.node or None,
                    level=event.level,
                    logger=event.logger,
                    message=event.message,
                )
            case Placed():
                context.log("placed", id, node=event.node, segments=event.segments)

    def _done(self, entry: Entry, event: Done) -> None:
        context, work, facts = self._context, entry.work, event.facts
        run: Path = entry.source.folder / event.run
        self._unwanted.discard(work.id)
        if entry.source.media is not None and entry.host is not None:
            # Before the row: after a kill the run is adopted, and its video is here.
            keep_download(context.jobs.out, work.id, entry.source.media)
        context.ledger.done(work.id, run, facts.document(), analysis_s=event.analysis_s)
        context.remove_download(work.id)
        context.tally.done(work, run, facts, event.report_error)
        names = ("people", "female", "male", "faces", "samples")
        context.log(
            "done",
            work.id,
            run=event.run,
            complete=facts.complete,
            seconds=event.analysis_s,
            resident_mb=event.resident_mb,
            **{name: facts.counts[name] for name in names},
        )


def _resting(work: Work) -> State:
    """The state of a video whose job was stopped: what machines hold is gone with the batch run."""
    return State.DOWNLOADED if work.video is not None and is_complete(work.video) else state_before(work)


def slots_each(slots: int, concurrent: int) -> int:
    """How many slots each of some concurrent jobs gets: long videos are analyzed in several of them."""
    return max(1, slots // concurrent)


def _drained(queue: SimpleQueue[_T]) -> Iterator[_T]:
    """What a queue holds now."""
    with contextlib.suppress(Empty):
        while True:
            yield queue.get_nowait()
