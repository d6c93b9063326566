"""Runs one job after another: analyzes a video, writes its report, and emits events.

A worker knows nothing of processes and pipes: executors run it in a process or a thread. It commits files:
the parts of a run, and the run, published by a rename; it cannot reach the ledger. An interrupted job resumes
from its parts. One whose run is published already (the batch was killed before the ledger had it) is only
reported.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Protocol

from analyzer.batch.config import Filters
from analyzer.batch.failure_policy import Phase, failure_of
from analyzer.batch.protocol import (
    FINAL,
    Done,
    Failed,
    JobEvent,
    JobSpec,
    Logged,
    Opened,
    Progress,
    Ready,
    Rejected,
    Rendering,
    RunFacts,
    Segment,
    SegmentsDone,
    Stopped,
    matching_run,
)
from analyzer.errors import AnalyzerError, OutputError, StoppedError
from analyzer.runs.folders import run_folder
from analyzer.settings import Settings
from analyzer.sources.types import Video
from analyzer.util.system import give_back_memory, resident_mb
from analyzer.util.text import shorten
from analyzer.util.urls import redacted_text

__all__ = ["AnalyzerFactory", "AnalyzerLike", "Emit", "Worker", "published_run"]

log = logging.getLogger(__name__)

_PROGRESS_EVERY_S = 0.5
_MOST_LOGGED = 30
"""Warnings and errors of a job that are passed on: a library may log one for each frame."""
_LONGEST_LOGGED = 2000
_LONGEST_READ = 50_000
Emit = Callable[[JobEvent], None]


class AnalyzerLike(Protocol):
    """What a worker needs of `analyzer.job.VideoAnalyzer`."""

    def load(self) -> Any:
        """Load the models, unless they are loaded."""

    def analyze(self, video: Video, out: Path, timings: dict[str, float]) -> Any:
        """Analyze a video and publish its run, which has a `folder` and `info`."""

    def commit_segments(self, video: Video, out: Path, segments: tuple[int, int]) -> None:
        """Analyze some segments of a video and commit them."""


AnalyzerFactory = Callable[[Settings, Callable[[Any], None], Callable[[], bool]], AnalyzerLike]
"""Called with settings, `on_event` and `cancelled`, as `analyzer.job.VideoAnalyzer`."""


class _RejectedError(Exception):
    """The video has a length that the job excludes; raised in `on_event` to end the analysis."""

    def __init__(self, reason: str, duration_s: float) -> None:
        super().__init__(reason)
        self.duration_s = duration_s


class Worker:
    """Runs jobs, and keeps the models of the last settings loaded.

    Args:
        analyzers: Makes the analyzers; for tests.
    """

    def __init__(self, analyzers: AnalyzerFactory | None = None) -> None:
        self._make = analyzers or _analyzer
        self._analyzer: AnalyzerLike | None = None
        self._settings: Settings | None = None
        self._job: _Job | None = None

    def run_job(self, spec: JobSpec, emit: Emit, cancelled: Callable[[], bool]) -> None:
        """Run a job.

        Args:
            spec: The job.
            emit: Called with `Ready` once the models are loaded, then with each event, the last of which is
                `Done`, `SegmentsDone`, `Failed`, `Rejected` or `Stopped`. Warnings and errors that are logged
                are events too, also before `Ready`. Called from several threads, one at a time.
            cancelled: Called several times a second, also from other threads; once true, the job ends.
        """
        with _forwarding(spec.job_id, emit) as emit_one:
            self._job = job = _Job(spec, emit_one, cancelled)
            try:
                last = self._last(job)
            finally:
                self._job = None
        emit(last)  # no warning may follow it
        give_back_memory()

    def _last(self, job: _Job) -> FINAL:
        """Run a job; return its last event."""
        id = job.spec.job_id
        try:
            return self._done(job) if job.spec.segments is None else self._segments_done(job)
        except _RejectedError as error:
            return Rejected(id, str(error), error.duration_s)
        except StoppedError:
            return Stopped(id)
        except Exception as error:  # noqa: BLE001 - one video must not end the others
            failure = failure_of(error, job.phase)
            return Failed(id, failure.kind, failure.phase, failure.error)

    def _done(self, job: _Job) -> Done:
        spec = job.spec
        began = time.monotonic()
        if (published := published_run(spec)) is not None:
            job.be_ready()
            return published
        run = self._ready(job).analyze(spec.video, spec.out, {"fetch": spec.fetch_s})
        return _finished(spec, run.folder, RunFacts.of(run.info), began)

    def _segments_done(self, job: _Job) -> SegmentsDone:
        spec = job.spec
        assert spec.segments is not None
        self._ready(job).commit_segments(spec.video, spec.out, spec.segments)
        return SegmentsDone(spec.job_id, job.cpu_s)

    def _ready(self, job: _Job) -> AnalyzerLike:
        """Load the analyzer of a job."""
        video_analyzer = self._loaded(job.spec.resources.applied_to(job.spec.settings))
        job.be_ready()
        if job.cancelled():
            raise StoppedError("the job was canceled")
        return video_analyzer

    def _loaded(self, settings: Settings) -> AnalyzerLike:
        if self._analyzer is None or settings != self._settings:
            self._analyzer = None  # its memory first
            self._analyzer, self._settings = self._make(settings, self._on_event, self._stopped), settings
        self._analyzer.load()
        return self._analyzer

    # The analyzer outlives its jobs: its callbacks belong to the current one.

    def _on_event(self, event: Any) -> None:
        if self._job is not None:
            self._job.on_event(event)

    def _stopped(self) -> bool:
        return self._job is not None and self._job.cancelled()


class _Forwarder(logging.Handler):
    """Emits warnings and errors as events of a job, the first ones of many.

    Where several jobs run in threads of one process, a record belongs to the job whose thread logs it. What
    other threads log cannot be attributed, and is emitted once, for the job that has been running longest.
    """

    _by_thread: ClassVar[dict[int, _Forwarder]] = {}
    """By the thread that runs the job, in the order in which they began."""

    def __init__(self, job_id: int, emit: Emit) -> None:
        super().__init__(logging.WARNING)
        self._job_id = job_id
        self._emit_event = emit
        self._left = _MOST_LOGGED
        self._thread = threading.get_ident()
        self._by_thread[self._thread] = self

    def close(self) -> None:
        """The job has ended."""
        self._by_thread.pop(self._thread, None)
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        """Emit an event; libraries log from their own threads, too."""
        jobs = dict(self._by_thread)
        of = jobs.get(record.thread or 0) or next(iter(jobs.values()), self)
        if of is not self or self._left == 0:
            return
        self._left -= 1
        try:
            text = self.format(record)  # with the traceback, if it has one
            text = redacted_text(shorten(text, _LONGEST_READ, tail=_LONGEST_READ // 2))
        except Exception:  # noqa: BLE001 - as the handlers of the standard library
            self.handleError(record)
            return
        if self._left == 0:
            text += f" (further warnings of this job are not logged: there were {_MOST_LOGGED})"
        shown = shorten(text, _LONGEST_LOGGED, tail=_LONGEST_LOGGED // 2)
        self._emit_event(Logged(self._job_id, record.levelname, record.name, shown))


@contextlib.contextmanager
def _forwarding(job_id: int, emit: Emit) -> Iterator[Emit]:
    """Emit warnings and errors that are logged meanwhile; yields an `emit` for threads side by side."""
    lock, ended = threading.RLock(), False

    def emit_one(event: JobEvent) -> None:
        with lock:
            if not ended:
                emit(event)

    handler, root = _Forwarder(job_id, emit_one), logging.getLogger()
    root.addHandler(handler)
    try:
        yield emit_one
    finally:
        root.removeHandler(handler)
        handler.close()
        with lock:  # a thread may be about to log
            ended = True


def published_run(spec: JobSpec) -> Done | None:
    """The last event of a job whose run is published already; None: it is not.

    What a killed process has left is removed, and the report is written.
    """
    began = time.monotonic()
    folder = run_folder(spec.out, spec.video.title, spec.video.video_id)
    facts = matching_run(folder, spec.video.video_id, spec.settings_hash, spec.models_hash)
    if facts is None:
        return None
    from analyzer.util.locks import remove_leftovers

    remove_leftovers(folder)
    return _finished(spec, folder, facts, began)


def _finished(spec: JobSpec, folder: Path, facts: RunFacts, began: float) -> Done:
    report_error = _report(folder, spec.report)
    took_s = round(time.monotonic() - began, 3)
    return Done(spec.job_id, folder.name, facts, took_s, report_error, resident_mb())


class _Job:
    """The current job."""

    def __init__(self, spec: JobSpec, emit: Emit, cancelled: Callable[[], bool]) -> None:
        self.spec = spec
        self.emit = emit
        self.cancelled = cancelled
        self.phase = Phase.LOAD
        self._reported_at = 0.0
        self._cpu_began_s = time.process_time()

    @property
    def cpu_s(self) -> float:
        """Processor time of this process since the job began, in seconds."""
        return time.process_time() - self._cpu_began_s

    def be_ready(self) -> None:
        self.phase = Phase.ANALYZE
        self.emit(Ready(self.spec.job_id))

    def on_event(self, event: Any) -> None:
        """Pass on an event of the analysis.

        Raises:
            _RejectedError: The video has a length that the job excludes.
        """
        from analyzer import events

        id = self.spec.job_id
        match event:
            case events.Opened():
                self._check_length(event.duration_s)
                known = event.segments_key, event.completed, event.segments
                self.emit(Opened(id, *known, _seconds(event.duration_s)))
            case events.SegmentCommitted():
                counts = event.segment, event.samples, event.faces, event.size_bytes
                self.emit(Segment(id, *counts))
            case events.Progress() if self._is_due():
                time_s, duration_s = max(0.0, event.time_s), _seconds(event.duration_s)
                self.emit(Progress(id, time_s, duration_s, self.cpu_s))
            case events.Rendering() if self._is_due():
                self.emit(Rendering(id, event.fraction))

    def _check_length(self, duration_s: float | None) -> None:
        filters = Filters(shorter_than_s=self.spec.shorter_than_s, longer_than_s=self.spec.longer_than_s)
        today = datetime.datetime.now(datetime.UTC).date()
        reason = filters.why_not(title=None, duration_s=duration_s, uploaded=None, today=today)
        if reason is not None and duration_s is not None:
            raise _RejectedError(reason, duration_s)

    def _is_due(self) -> bool:
        now = time.monotonic()
        if now - self._reported_at < _PROGRESS_EVERY_S:
            return False
        self._reported_at = now
        return True


def _seconds(known: float | None) -> float | None:
    """The duration that a container declares, if it makes sense."""
    return known if known is not None and math.isfinite(known) and known >= 0 else None


def _analyzer(settings: Settings, on_event: Callable[[Any], None], stop: Callable[[], bool]) -> AnalyzerLike:
    from analyzer.job import VideoAnalyzer

    return VideoAnalyzer(settings, on_event, cancelled=stop)


def _report(folder: Path, formats: tuple[str, ...]) -> str | None:
    """Write the run's report; returns why it could not be written, which does not fail the job."""
    if not formats:
        return None
    try:
        from analyzer.report import make_report

        make_report([folder]).save(formats, folder)
    except OutputError as error:
        if error.no_space:
            raise
        return str(error)
    except AnalyzerError as error:
        return str(error)
    except Exception as error:  # the run is published: a defect of the report must not fail it
        log.error("unexpected error", exc_info=error)
        return f"an unexpected error ({error!r}): please report it"
    return None
