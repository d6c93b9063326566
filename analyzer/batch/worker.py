"""Does one job after another: analyses a video, writes its report, and says what happens.

Knows nothing of processes and pipes: `analyzer.batch.executors` have it work in a process or a thread. What
it commits are files: parts, and a run published by rename; the ledger is out of its reach. A job that was
broken off goes on from the parts; one whose run is published already (the batch was killed between that and
its note in the ledger) is only noted.
"""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from analyzer.batch.config import Filters
from analyzer.batch.failure_policy import CRASHES, Failure, Phase
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
)
from analyzer.errors import (
    AnalyzerError,
    CrashError,
    MediaError,
    ModelError,
    OutputError,
    StoppedError,
)
from analyzer.runs.folders import run_folder
from analyzer.settings import Settings
from analyzer.sources.types import Video
from analyzer.util.system import give_back_memory, resident_mb

__all__ = ["Analyses", "AnalyzerFactory", "Worker"]

_TELL_EVERY_S = 0.5
Emit = Callable[[JobEvent], None]


class Analyses(Protocol):
    """What a worker needs of `analyzer.job.VideoAnalyzer`."""

    def load(self) -> Any:
        """Load the networks, if they are not."""

    def analyze(self, video: Video, out: Path, timings: dict[str, float]) -> Any:
        """Analyze a video and publish its run; gives its `folder` and `info`."""


AnalyzerFactory = Callable[[Settings, Callable[[Any], None], Callable[[], bool]], Analyses]
"""Given settings, what to call with each event, and what to ask whether to stop."""


class _RejectedError(Exception):
    """Raised by the listener of the analysis, whom it reaches as it is."""

    def __init__(self, reason: str, duration_s: float) -> None:
        super().__init__(reason)
        self.duration_s = duration_s


class Worker:
    """Does jobs, and keeps the networks of the last settings loaded.

    Args:
        analyzers: Makes what analyses; for tests.
    """

    def __init__(self, analyzers: AnalyzerFactory | None = None) -> None:
        self._make = analyzers or _analyzer
        self._analyzer: Analyses | None = None
        self._settings: Settings | None = None
        self._job: _Job | None = None

    def run_job(self, spec: JobSpec, emit: Emit, cancelled: Callable[[], bool]) -> None:
        """Do a job.

        Args:
            spec: What to do.
            emit: Called with `Ready` once the networks are loaded, with what happens then, and at last with
                one of `Done`, `Failed`, `Rejected` or `Stopped`.
            cancelled: Asked after each segment and while drawing; once it is true, the job ends.
        """
        self._job = job = _Job(spec, emit, cancelled)
        try:
            emit(self._done(job))
        except _RejectedError as error:
            emit(Rejected(spec.job_id, str(error), error.duration_s))
        except StoppedError:
            emit(Stopped(spec.job_id))
        except Exception as error:  # noqa: BLE001 - one video must not end the others
            failure = _failure_of(error, job.phase)
            emit(Failed(spec.job_id, failure.kind, failure.phase, failure.error))
        finally:
            self._job = None
            give_back_memory()

    def _done(self, job: _Job) -> Done:
        spec, video = job.spec, job.spec.video
        began = time.monotonic()
        folder = run_folder(spec.out, video.title, video.video_id)
        facts = matching_run(folder, video.video_id, spec.settings_hash, spec.models_hash)
        if facts is None:
            video_analyzer = self._loaded(spec.settings)
            job.be_ready()
            run = video_analyzer.analyze(video, spec.out, {"fetch": spec.fetch_s})
            folder, facts = run.folder, RunFacts.of(run.info)
        else:
            from analyzer.util.locks import remove_leftovers

            job.be_ready()
            remove_leftovers(folder)
        report_error = _report(folder, spec.report)
        took_s = round(time.monotonic() - began, 3)
        return Done(spec.job_id, folder.name, facts, took_s, report_error, resident_mb())

    def _loaded(self, settings: Settings) -> Analyses:
        if self._analyzer is None or settings != self._settings:
            self._analyzer = None  # its memory first
            self._analyzer, self._settings = self._make(settings, self._hear, self._stopped), settings
        self._analyzer.load()
        return self._analyzer

    # The analyst outlives its jobs: what it says and asks goes to that of the moment.

    def _hear(self, event: Any) -> None:
        if self._job is not None:
            self._job.hear(event)

    def _stopped(self) -> bool:
        return self._job is not None and self._job.cancelled()


class _Job:
    """A job in work."""

    def __init__(self, spec: JobSpec, emit: Emit, cancelled: Callable[[], bool]) -> None:
        self.spec = spec
        self.emit = emit
        self.cancelled = cancelled
        self.phase = Phase.LOAD
        self._told_at = 0.0

    def be_ready(self) -> None:
        self.phase = Phase.ANALYZE
        self.emit(Ready(self.spec.job_id))

    def hear(self, event: Any) -> None:
        """Pass on what the analysis says.

        Raises:
            _RejectedError: It has said how long the video is, and that is not wanted.
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
            case events.Progress() if self._is_time():
                self.emit(Progress(id, max(0.0, event.time_s), _seconds(event.duration_s)))
            case events.Rendering() if self._is_time():
                self.emit(Rendering(id, event.fraction))

    def _check_length(self, duration_s: float | None) -> None:
        filters = Filters(shorter_than_s=self.spec.shorter_than_s, longer_than_s=self.spec.longer_than_s)
        today = datetime.datetime.now(datetime.UTC).date()
        reason = filters.why_not(title=None, duration_s=duration_s, uploaded=None, today=today)
        if reason is not None and duration_s is not None:
            raise _RejectedError(reason, duration_s)

    def _is_time(self) -> bool:
        now = time.monotonic()
        if now - self._told_at < _TELL_EVERY_S:
            return False
        self._told_at = now
        return True


def _seconds(known: float | None) -> float | None:
    """What a container says, where that is a duration."""
    return known if known is not None and math.isfinite(known) and known >= 0 else None


def _analyzer(settings: Settings, on_event: Callable[[Any], None], stop: Callable[[], bool]) -> Analyses:
    from analyzer.job import VideoAnalyzer

    return VideoAnalyzer(settings, on_event, cancelled=stop)


def _report(folder: Path, formats: tuple[str, ...]) -> str | None:
    """Write the run's report; gives why it could not be, which is no reason to analyze again."""
    if not formats:
        return None
    from analyzer.report import make_report

    try:
        make_report([folder]).save(formats, folder)
    except OutputError as error:
        if error.no_space:
            raise
        return str(error)
    except AnalyzerError as error:
        return str(error)
    return None


def _failure_of(error: Exception, phase: Phase) -> Failure:
    """Why a job failed. What fails while networks are loaded is no video's fault."""
    no_memory = isinstance(error, MemoryError) or (isinstance(error, ModelError) and error.no_memory)
    kind = "unexpected"
    match error:
        case _ if no_memory:
            kind = "memory"
        case MediaError():
            kind = str(error.kind)
        case OutputError():
            kind = "no_space" if error.no_space else "output"
        case ModelError():
            kind = "model"
        case CrashError():
            kind = "crash"
    if phase is Phase.LOAD and kind not in ("no_space", "output"):
        return _cannot_start(error, kind)
    if no_memory:
        return Failure(kind, CRASHES["memory"], phase)
    return Failure(kind, _sentence(error), phase)


def _cannot_start(error: Exception, kind: str) -> Failure:
    if kind == "model":
        # Engines do not always say that it is memory that they lack.
        hint = " (or [limits] memory_mb is too little)" if isinstance(error.__cause__, RuntimeError) else ""
        return Failure("model", f"{error}{hint}", Phase.LOAD)
    if kind == "memory":
        words = "the networks alone need more memory than [limits] memory_mb allows"
    else:
        words = (
            f"the process that analyses cannot start ({error!r}): raise [limits] memory_mb, or ask doctor "
            "for the reason"
        )
    return Failure("start", words, Phase.LOAD)


def _sentence(error: Exception) -> str:
    if isinstance(error, AnalyzerError):
        return str(error)
    from analyzer.job import unexpected

    return str(unexpected(error))
