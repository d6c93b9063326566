"""Jobs: what visitors have sent to be analyzed, and what becomes of it.

A job is a folder: its files and ``job.json``, which says what was asked for. It is registered by renaming the
folder into place; from then on a kill at any moment loses and doubles nothing. The ledger of a `Scheduler`
has its state: the job is the source ``job:ID`` there.

::

    .web/incoming/ID     being received; removed at the next start
    .web/media/ID        a job: job.json, and the files, as long as its run is there
    .web/trash/ID        being deleted; removed at the next start
    web.sqlite           the ledger
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import json
import logging
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analyzer.batch.config import Jobs, Pace, Retry, Source
from analyzer.batch.context import Stop
from analyzer.batch.executors.local import LocalExecutor, slot_count
from analyzer.batch.ledger import CANCELED, FINAL, Ledger, State, Work
from analyzer.batch.protocol import matching_run
from analyzer.batch.scheduler import Scheduler
from analyzer.errors import AnalyzerError, SettingsError, SourceError, SourceErrorKind
from analyzer.runs.folders import run_folder
from analyzer.settings import DEFAULT_PRESET, Settings
from analyzer.sources.local import local_identity
from analyzer.sources.resolve import Fetcher
from analyzer.sources.types import Candidate, FetchProgress, Item, LeftOut, MediaKind, UrlSource, Video
from analyzer.sources.types import Source as NamedSource
from analyzer.util.atomic import sync_folder
from analyzer.util.text import one_line, without_paths
from analyzer.util.urls import redacted, redacted_text, web_address
from analyzer.vision.selection import models_hash
from analyzer.web.config import ServeConfig
from analyzer.web.runs import run_id
from analyzer.web.uploads import Uploaded, UploadedFile, file_names

__all__ = [
    "JOB_SETTINGS",
    "BusyError",
    "Job",
    "JobService",
    "JobState",
    "Unfinished",
    "UnknownJobError",
    "ledger_path",
]

log = logging.getLogger(__name__)

JOB_SETTINGS = (
    *("fps", "every", "keyframes", "start_s", "end_s", "duration_s", "budget"),
    *("scene", "attention_yaw_deg", "attention_pitch_deg", "attention_min_s", "left_after_s"),
    *("min_confidence", "min_on_screen_s", "min_person_quality", "gender_of_children"),
    *("bin_s", "age_bands", "video", "blur"),
)
"""The settings that a visitor may choose: none of them names a file, a model or a device."""

_ORIGIN = "job:"
_ID = re.compile(r"[0-9a-f]{12}")
_RECORD = "job.json"
_FORMATS = ("csv", "parquet")
_REPORT = ("html",)
_DAY_S = 86400.0
_PATIENCE_S = _DAY_S
"""A server does not end: it waits for every retry."""
_RETRY = Retry(attempts=4, base_s=10.0, cap_s=3600.0, patience_s=_PATIENCE_S)
_PACE = Pace(pause_s=(1.0, 3.0))
_NICENESS = 10
_PAUSE_S = 10.0
"""After which the scheduler is started again, if the disk was full or the models could not be loaded."""
_ANALYSIS_SHARE = 0.9
"""Share of the progress that is the analysis, where an annotated video follows."""
_LIVE_EVENTS = ("downloading", "progress", "rendering", "segment_committed")


def ledger_path(out: Path) -> Path:
    """The ledger of the jobs of a server."""
    return out / "web.sqlite"


class UnknownJobError(AnalyzerError):
    """There is no job with this id."""

    def __init__(self) -> None:
        super().__init__("there is no such job: it may have been deleted")


class BusyError(AnalyzerError):
    """The server cannot take this now."""


class Unfinished(AnalyzerError):  # noqa: N818 - it is a state
    """The job is in a state in which this cannot be done."""


class JobState:
    """The states of a job, as the API names them."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELED = "cancelled"
    FINAL = (DONE, FAILED, CANCELED)


_STATES = {
    State.NEW: JobState.QUEUED,
    State.DOWNLOADING: JobState.RUNNING,
    State.DOWNLOADED: JobState.QUEUED,
    State.ANALYZING: JobState.RUNNING,
    State.DONE: JobState.DONE,
    State.SKIPPED: JobState.FAILED,
    State.FAILED: JobState.QUEUED,
    State.ABANDONED: JobState.FAILED,
}


@dataclass(frozen=True)
class Record:
    """``job.json``: what was asked for."""

    id: str
    title: str
    """Of the file as the visitor calls it, or the address; untrusted text."""
    created_at: float
    """Seconds since 1970."""
    settings: dict[str, Any]
    """All settings."""
    folder: str
    """Folder of its run, relative to that of all runs."""
    address: str | None = None
    files: tuple[str, ...] = ()
    """Names of the files in the job's folder, in order."""
    names: tuple[str, ...] = ()
    """What the visitor calls them; untrusted text."""
    images: bool = False
    size_bytes: int = 0

    @classmethod
    def read(cls, path: Path) -> Record | None:
        """Read a record; None: it is damaged."""
        try:
            document = json.loads(path.read_text("utf-8"))
            return cls(**document | {name: tuple(document[name]) for name in ("files", "names")})
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def write(self, path: Path) -> None:
        """Write it and flush it to the disk; the folder gets its name later."""
        with path.open("x", encoding="utf-8") as file:
            json.dump(dataclasses.asdict(self), file)
            file.flush()
            os.fsync(file.fileno())
        path.chmod(0o600)  # addresses may be secrets


@dataclass(frozen=True)
class _Prepared:
    """A job that is written and not registered yet."""

    record: Record
    staging: Path
    """Its folder."""
    key: tuple[str, str, str]
    """The work that it asks for."""


@dataclass(eq=False)
class Job:
    """A job and what is known of it now. Changed by the scheduler's thread."""

    record: Record
    source: Source
    work: Work | None = None
    """Its row in the ledger; None: it is not there yet."""
    stage: str = ""
    received_bytes: int = 0
    total_bytes: int | None = None
    fraction: float = 0.0
    """Of the stage."""
    faces: int = 0
    samples: int = 0
    began: float | None = None
    """When the analysis began, by the monotonic clock."""
    began_at: float = 0.0
    """Fraction with which it began: segments that an earlier attempt has left."""
    canceled: bool = False
    """Whether it is being canceled."""
    changed: set[asyncio.Event] = field(default_factory=set)
    """Of those who wait for news."""

    @property
    def id(self) -> str:
        """The id."""
        return self.record.id

    @property
    def state(self) -> str:
        """One of `JobState`."""
        work = self.work
        if work is None:
            return JobState.QUEUED
        if work.state is State.SKIPPED and work.error_kind == CANCELED:
            return JobState.CANCELED
        return _STATES[work.state]

    @property
    def final(self) -> bool:
        """Whether it has ended."""
        return self.state in JobState.FINAL

    @property
    def progress(self) -> float:
        """From 0 to 1."""
        if self.state == JobState.DONE:
            return 1.0
        renders = bool(self.record.settings.get("video"))
        share = _ANALYSIS_SHARE if renders else 1.0
        if self.stage == "rendering":
            return round(share + (1 - share) * self.fraction, 4)
        return round(0.99 * share * self.fraction, 4) if self.stage == "analyzing" else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds until the analysis ends, as far as can be said."""
        running = self.state == JobState.RUNNING and self.stage == "analyzing"
        if not running or self.began is None or self.fraction - self.began_at < 0.02:
            return None
        elapsed = time.monotonic() - self.began
        return round(elapsed * (1 - self.fraction) / (self.fraction - self.began_at), 1)

    @property
    def error(self) -> str | None:
        """Why it failed, or why its last attempt did, in a sentence without paths and logins."""
        work = self.work
        if work is None or work.state is State.DONE:
            return None
        text = work.error or (work.reason if self.state == JobState.FAILED else None)
        return None if text is None else self.public(text)

    def public(self, text: str) -> str:
        """A message without paths of this machine, logins and signed addresses."""
        text = redacted_text(text)
        if self.source.media is not None:
            for path in (*(self.source.media / name for name in self.record.files), self.source.media):
                text = text.replace(str(path), self.record.title)
        return without_paths(one_line(text, 600))

    def document(self, out: Path) -> dict[str, Any]:
        """As the API describes it.

        Args:
            out: Folder of the runs.
        """
        work, record = self.work, self.record
        next_try = None if work is None or self.final else work.next_try
        return {
            "id": self.id,
            "state": self.state,
            "progress": self.progress,
            "error": self.error,
            "run": self.run(out),
            "title": one_line((work.title if work is not None else None) or record.title, 300),
            "kind": "images" if record.images else "video",
            "address": None if record.address is None else redacted(record.address),
            "stage": self.stage if self.state == JobState.RUNNING else "",
            "canceling": self.canceled and not self.final,
            "received_bytes": self.received_bytes,
            "total_bytes": self.total_bytes,
            "faces": self.faces,
            "samples": self.samples,
            "people": None,
            "duration_s": None if work is None else work.duration_s,
            "left_s": self.left_s,
            "next_try_s": None if next_try is None else max(0.0, round(next_try - time.time(), 1)),
            "size_bytes": record.size_bytes,
            "created_at": datetime.datetime.fromtimestamp(record.created_at, datetime.UTC).isoformat(
                timespec="seconds"
            ),
        }

    def run(self, out: Path) -> str | None:
        """The id of its run; None: there is none."""
        if self.work is None or self.work.state is not State.DONE or self.work.run is None:
            return None
        with contextlib.suppress(ValueError):
            return run_id(out, self.work.run)
        return None


class _JobFetcher(Fetcher):
    """Lists jobs: an uploaded file or an address, and nothing else of this machine."""

    def __init__(
        self,
        service: JobService,
        settings: Settings,
        on_progress: Callable[[FetchProgress], None],
        proxy: Any,
    ) -> None:
        super().__init__(settings, want_audio=settings.video, proxy=proxy, on_progress=on_progress)
        self._service = service

    def identified(
        self,
        source: str | NamedSource,
        *,
        over: Container[str] = (),
        on_wait: Callable[[], None] | None = None,
        on_left_out: Callable[[LeftOut], None] | None = None,
    ) -> Iterator[tuple[str | None, Item | None]]:
        """As in `Fetcher`, for ``job:ID`` and what the ledger has stored of a job."""
        job = self._service.job_of_source(source) if isinstance(source, str) else None
        if job is not None and job.record.address is None:
            yield None, self._service.item_of(job)
            return
        address = job.record.address if job is not None else web_address(source)
        if address is None:
            raise SourceError(
                "the upload is gone", kind=SourceErrorKind.NOT_FOUND, source="the upload", retry=False
            )
        yield from super().identified(UrlSource(address), over=over, on_wait=on_wait, on_left_out=on_left_out)

    def fetch(
        self,
        item: Item,
        folder: Path,
        *,
        accept: Callable[[Candidate], None] | None = None,
        on_wait: Callable[[], None] | None = None,
    ) -> Video:
        """As in `Fetcher`; the source of an upload is what the visitor calls it."""
        video = super().fetch(item, folder, accept=accept, on_wait=on_wait)
        return dataclasses.replace(video, source=video.title) if item.paths else video


class JobService:
    """Takes jobs and runs them, in a thread of its own, until it is stopped.

    Args:
        config: Of the server.
        proxy: Through which addresses are fetched, see `analyzer.sources.egress`; None: directly.
    """

    def __init__(self, config: ServeConfig, *, proxy: Any = None) -> None:
        self._config = config
        self._proxy = proxy
        self._out = config.out.absolute()
        self._media = config.folder.absolute() / "media"
        self._incoming = config.folder.absolute() / "incoming"
        self._trash = config.folder.absolute() / "trash"
        self._ledger_path = ledger_path(self._out)
        self._lock = threading.RLock()
        self._jobs: dict[str, Job] = {}
        self._keys: dict[tuple[str, str, str], str] = {}
        """Jobs by the work that they ask for."""
        self._rows: dict[int, Job] = {}
        self._stop = Stop()
        self._stopping = threading.Event()
        self._scheduler: Scheduler | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.trouble: str | None = None
        """Why nothing is analyzed at the moment, in a sentence."""

    # -- start and end

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take up what earlier servers have left, and begin to work.

        Args:
            loop: In which others wait for news of jobs.

        Raises:
            LedgerError: The ledger cannot be used.
        """
        self._loop = loop
        for folder in (self._incoming, self._trash):
            shutil.rmtree(folder, ignore_errors=True)
        for folder in (self._incoming, self._trash, self._media):
            folder.mkdir(parents=True, exist_ok=True)
        self._ledger = Ledger(self._ledger_path)
        for folder in sorted(self._media.iterdir()):
            record = Record.read(folder / _RECORD)
            if record is None or record.id != folder.name:
                # No kill leaves such a folder. It may hold an upload of a newer version.
                log.warning("%s holds no job that this version can read: it is left as it is", folder)
                continue
            with contextlib.suppress(SettingsError, TypeError):  # of a newer version
                self._register(record)
        for job in list(self._jobs.values()):
            rows = self._ledger.of_origin(_ORIGIN + job.id)
            if rows:
                self._follow(job, rows[-1])
            if job.work is not None and job.work.state is State.DONE and not _has_run(job.work):
                self._discard(job)  # a kill lay between the deletion of its run and its own
        known = {_ORIGIN + id for id in self._jobs}
        for row, origin in list(self._ledger.origins()):
            if origin not in known:
                self._ledger.delete(row)
        self._thread = threading.Thread(target=self._work, name="jobs")
        self._thread.start()

    def stop(self) -> None:
        """End: jobs stop, their finished segments stay, and the next server continues."""
        self._stop.request()
        self._stopping.set()
        self._thread.join()
        self._ledger.close()

    def _work(self) -> None:
        while not self._stopping.is_set():
            executor: LocalExecutor | None = None
            try:
                jobs = self._batch()
                executor = LocalExecutor(slot_count(jobs), Settings().thread_count, prepare=_step_back)
                scheduler = Scheduler(
                    jobs,
                    executor,
                    on_event=self._on_event,
                    commit_first=True,
                    stop=self._stop,
                    fetchers=self._fetcher,
                )
                with self._lock:
                    for job in self._jobs.values():
                        if not job.final:
                            scheduler.add(job.source)
                    self._scheduler = scheduler
                outcome = scheduler.run(until_idle=False)
                self.trouble = outcome.error
            except AnalyzerError as error:
                self.trouble = str(error)
            except Exception as error:  # the server stays, and tries again
                log.error("unexpected error", exc_info=error)
                self.trouble = "the analysis has stopped unexpectedly: the log of the server has the details"
            finally:
                with self._lock:
                    self._scheduler = None
                if executor is not None:
                    executor.close()
            if self.trouble is not None:
                log.warning("jobs are paused: %s", self.trouble)
            self._stopping.wait(_PAUSE_S)

    def _batch(self) -> Jobs:
        config = self._config
        return Jobs(
            sources=(),
            out=config.folder.absolute(),
            ledger=self._ledger_path,
            log=Path(os.devnull),  # it would keep the titles of what was deleted
            workers=config.workers,
            downloads=config.downloads,
            report=_REPORT,
            reserve_mb=config.reserve_mb,
            retry=_RETRY,
            pace=_PACE,
        )

    def _fetcher(self, settings: Settings, on_progress: Callable[[FetchProgress], None]) -> Fetcher:
        return _JobFetcher(self, settings, on_progress, self._proxy)

    # -- new jobs

    def incoming(self) -> Path:
        """A new folder for an upload, to be removed by the caller."""
        folder = self._incoming / secrets.token_hex(6)
        folder.mkdir()
        return folder

    def settings_of(self, preset: str | None, changes: Mapping[str, Any]) -> Settings:
        """The settings that a visitor has chosen.

        Raises:
            SettingsError: A value is wrong, or the setting is not for visitors.
        """
        unknown = sorted(changes.keys() - set(JOB_SETTINGS))
        if unknown:
            raise SettingsError(
                f"{one_line(unknown[0], 60)} cannot be set here: {', '.join(JOB_SETTINGS)} can"
            )
        chosen = {"video": False} | dict(changes)
        if chosen.get("blur"):
            chosen["video"] = True
        return Settings.from_preset(preset or DEFAULT_PRESET, **chosen, formats=_FORMATS)

    def add_upload(self, uploaded: Uploaded, settings: Settings, folder: str) -> list[Job]:
        """Register the jobs of an upload: one for each video, and one for all its images.

        Args:
            uploaded: Its files are moved.
            settings: For all.
            folder: Of the runs, relative to that of all runs.

        Raises:
            BusyError: Too many jobs are waiting.
        """
        images = [each for each in uploaded.files if each.image]
        groups = [[each] for each in uploaded.files if not each.image]
        if images:
            groups.append(images)
        self._check_room(len(groups))
        with self._lock:
            # On a full disk there are all or none: all are written before the first one begins.
            prepared: list[Job | _Prepared] = []
            try:
                for group in groups:
                    prepared.append(self._prepare_files(group, settings, folder))
            except OSError:
                for each in prepared:
                    if isinstance(each, _Prepared):
                        shutil.rmtree(each.staging, ignore_errors=True)
                raise
            return [self._begin(each) for each in prepared]

    def _prepare_files(
        self, files: Sequence[UploadedFile], settings: Settings, folder: str
    ) -> Job | _Prepared:
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        title = Path(files[0].name).stem + more
        identity = local_identity([each.path for each in files])[0]

        def build(id: str, folder: str) -> Record:
            staging = self._incoming / id
            staging.mkdir()
            names = file_names(files)
            for name, each in zip(names, files, strict=True):
                each.path.replace(staging / name)
            return Record(
                id,
                title,
                time.time(),
                settings.to_dict(),
                folder,
                files=tuple(names),
                names=tuple(each.name for each in files),
                images=files[0].image,
                size_bytes=sum(each.size_bytes for each in files),
            )

        if len(files) > 1:  # their names are part of the identity, see `local_identity`
            given = files[0].path.parent / f"names-{files[0].path.stem}"
            given.mkdir()
            named = [given / name for name in file_names(files)]
            for path, each in zip(named, files, strict=True):
                each.path.replace(path)
            files = [dataclasses.replace(each, path=path) for path, each in zip(named, files, strict=True)]
            identity = local_identity(named)[0]
        return self._prepare(identity, title, settings, folder, build)

    def add_address(self, address: str, settings: Settings, folder: str) -> Job:
        """Register the job of an address, which has been checked.

        Raises:
            BusyError: Too many jobs are waiting.
            SourceError: It is no address.
        """
        self._check_room(1)
        fetcher = Fetcher(settings, want_audio=settings.video, proxy=self._proxy)
        identity = fetcher.identify(Item(address, MediaKind.VIDEO))

        def build(id: str, folder: str) -> Record:
            (self._incoming / id).mkdir()
            return Record(id, redacted(address), time.time(), settings.to_dict(), folder, address=address)

        with self._lock:
            return self._begin(self._prepare(identity, "", settings, folder, build))

    def _check_room(self, more: int) -> None:
        with self._lock:
            waiting = sum(not job.final for job in self._jobs.values())
        if waiting + more > self._config.max_waiting_jobs:
            raise BusyError(f"{waiting} jobs are waiting, as many as this server takes: try again later")

    def _prepare(
        self,
        identity: str,
        title: str,
        settings: Settings,
        folder: str,
        build: Callable[[str, str], Record],
    ) -> Job | _Prepared:
        """Write a new job, which `_begin` registers; or return the one that asks for the same work."""
        key = identity, settings.result_hash(), models_hash(settings)
        same = self._same(key)
        if same is not None:
            return same
        id = secrets.token_hex(6)
        if self._would_replace(key, title, folder):
            folder = f"{folder}/{id}" if folder else id
        staging = self._incoming / id
        try:
            record = build(id, folder)
            record.write(staging / _RECORD)
            sync_folder(staging)
        except OSError:  # a full disk: it would stay until the next start
            shutil.rmtree(staging, ignore_errors=True)
            raise
        return _Prepared(record, staging, key)

    def _begin(self, prepared: Job | _Prepared) -> Job:
        """Register a job that was prepared, unless the same work was registered since."""
        if isinstance(prepared, Job):
            return prepared
        same = self._same(prepared.key)
        if same is not None:
            shutil.rmtree(prepared.staging, ignore_errors=True)
            return same
        prepared.staging.rename(self._media / prepared.record.id)
        sync_folder(self._media)
        job = self._register(prepared.record, prepared.key)
        if self._scheduler is not None:
            self._scheduler.add(job.source)
        return job

    def _same(self, key: tuple[str, str, str]) -> Job | None:
        """The job that asks for the same work, made to do it if it has failed."""
        row = self._ledger.find(*key)
        job = self._jobs.get(self._keys.get(key, "")) or (self._rows.get(row.id) if row is not None else None)
        if job is None:
            if row is not None:
                self._ledger.delete(row.id)
            return None
        if job.work is not None and job.work.state is State.DONE and not _has_run(job.work):
            self._discard(job)
            return None
        if job.state in (JobState.FAILED, JobState.CANCELED):
            self.retry(job.id)
        return job

    def _would_replace(self, key: tuple[str, str, str], title: str, folder: str) -> bool:
        """Whether the folder holds, or will hold, a run of the same video with other settings."""
        place = self._out / folder
        for (identity, *others), id in self._keys.items():
            other = self._jobs.get(id)
            clashes = identity == key[0] and others != list(key[1:])
            if clashes and other is not None and other.source.folder == place:
                return True
        run = run_folder(place, title, key[0])
        return (run / "run.json").exists() and matching_run(run, *key) is None

    def _register(self, record: Record, key: tuple[str, str, str] | None = None) -> Job:
        settings = Settings(**record.settings)
        source = Source(
            name=_ORIGIN + record.id,
            settings=settings,
            folder=self._out / record.folder,
            media=self._media / record.id,
        )
        job = self._jobs[record.id] = Job(record, source)
        if key is not None:
            self._keys[key] = record.id
        return job

    # -- what visitors ask

    def get(self, id: str) -> Job:
        """The job with an id.

        Raises:
            UnknownJobError: There is none.
        """
        with self._lock:
            job = self._jobs.get(id)
        if job is None:
            raise UnknownJobError
        return job

    def jobs(self) -> list[Job]:
        """All jobs, the newest first."""
        with self._lock:
            return sorted(self._jobs.values(), key=lambda job: (job.record.created_at, job.id), reverse=True)

    def document(self, job: Job) -> dict[str, Any]:
        """A job as the API describes it."""
        return job.document(self._out)

    def cancel(self, id: str) -> Job:
        """Cancel a job that waits or runs; it ends within a second.

        Raises:
            UnknownJobError: There is none.
            Unfinished: It has ended.
            BusyError: Not now.
        """
        job = self.get(id)
        with self._lock:
            if job.final:
                raise Unfinished("the job has ended")
            if self._scheduler is None:
                raise BusyError(self.trouble or "the server is starting: try again in a moment")
            job.canceled = True
            self._scheduler.cancel(job.source.name)
        self._tell(job)
        return job

    def retry(self, id: str) -> Job:
        """Begin a job again that has failed or was canceled.

        Raises:
            UnknownJobError: There is none.
            Unfinished: It waits, runs or is done.
        """
        job = self.get(id)
        with self._lock:
            if job.state not in (JobState.FAILED, JobState.CANCELED):
                raise Unfinished("only a job that has failed or was canceled can be tried again")
            assert job.work is not None
            _reset(job)
            if self._scheduler is not None:
                job.work = dataclasses.replace(job.work, state=State.NEW, error=None, error_kind=None)
                self._scheduler.retry(job.source)
            else:
                self._ledger.reopen(job.work.id)
                job.work = self._ledger.get(job.work.id)
        self._tell(job)
        return job

    def delete(self, id: str) -> None:
        """Delete a job that has failed or was canceled, with its upload.

        Raises:
            UnknownJobError: There is none.
            Unfinished: It waits, runs, or has a run, which is to be deleted.
        """
        job = self.get(id)
        with self._lock:
            if job.state not in (JobState.FAILED, JobState.CANCELED):
                raise Unfinished("the job has a run, or will have one: delete that, or cancel the job")
            self._discard(job)

    def of_run(self, folder: Path) -> list[Job]:
        """The jobs that have made the run in a folder."""
        return self.by_run().get(os.path.abspath(folder), [])  # noqa: PTH100

    def by_run(self) -> dict[str, list[Job]]:
        """The jobs that have a run, by the absolute path of its folder."""
        found: dict[str, list[Job]] = {}
        with self._lock:
            for job in self._jobs.values():
                if job.work is not None and job.work.state is State.DONE and job.work.run is not None:
                    found.setdefault(os.path.abspath(job.work.run), []).append(job)  # noqa: PTH100
        return found

    def files_of(self, job: Job) -> list[Path]:
        """The files that a job was made from: its upload, or its download."""
        folder = self._media / job.id
        if job.record.files:
            return [folder / name for name in job.record.files]
        with contextlib.suppress(OSError):
            return sorted(path for path in folder.iterdir() if path.name != _RECORD)
        return []

    def size_of(self, job: Job) -> int:
        """The bytes of its files."""
        total = 0
        for path in self.files_of(job):
            with contextlib.suppress(OSError):
                total += path.stat().st_size
        return total

    def delete_run(self, folder: Path) -> None:
        """Delete a run, its jobs, and what they were made from.

        Raises:
            OSError: It cannot be deleted.
        """
        with self._lock:
            trash = self._trash / secrets.token_hex(6)
            trash.mkdir()
            jobs = self.of_run(folder)
            folder.rename(trash / "run")
            for job in jobs:
                self._discard(job)
        shutil.rmtree(trash, ignore_errors=True)

    def _discard(self, job: Job) -> None:
        """Delete a job, first its files: the next start deletes a row without them; without its row, a job
        would begin again."""
        trash = self._trash / secrets.token_hex(6)
        with contextlib.suppress(OSError):
            (self._media / job.id).rename(trash)
        if job.work is not None:
            self._ledger.delete(job.work.id)
            self._rows.pop(job.work.id, None)
            if self._scheduler is not None:
                self._scheduler.forget(job.source.name, [job.work.id])
        self._jobs.pop(job.id, None)
        self._keys = {key: id for key, id in self._keys.items() if id != job.id}
        self._tell(job)
        shutil.rmtree(trash, ignore_errors=True)

    # -- news, from the scheduler's thread

    def _on_event(self, event: str, row: int | None, facts: dict[str, Any]) -> None:
        if row is None:
            if event == "batch_started":
                self.trouble = None
            return
        with self._lock:
            job = self._rows.get(row)
            if job is None or event not in _LIVE_EVENTS:
                work = self._ledger.get(row)
                job = job or self._jobs.get(work.origin.removeprefix(_ORIGIN))
                if job is None:
                    return
                self._follow(job, work)
            _note(job, event, facts)
        self._tell(job)

    def _follow(self, job: Job, work: Work) -> None:
        if work.state is State.SKIPPED and work.error_kind == "duplicate" and work.video_id is not None:
            # The address leads to a video that was analyzed before.
            other = self._ledger.same_work(work, work.video_id)
            found = None if other is None else self._ledger.get(other)
            if found is not None and found.run is not None:
                work = dataclasses.replace(work, state=State.DONE, run=found.run)
        job.work = work
        self._rows[work.id] = job
        self._keys[work.identity, work.settings_hash, work.models_hash] = job.id
        if work.state in FINAL:
            job.canceled = False

    def _tell(self, job: Job) -> None:
        """Wake those who wait for news of a job."""

        def wake() -> None:
            for event in job.changed:
                event.set()

        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(wake)

    # -- for the fetcher

    def job_of_source(self, source: str) -> Job | None:
        """The job of a source, or of a path or address that the ledger has stored of one."""
        if source.startswith(_ORIGIN):
            return self._jobs.get(source.removeprefix(_ORIGIN))
        path = Path(source)
        for parent in (path, *path.parents):
            if parent.parent == self._media and _ID.fullmatch(parent.name):
                return self._jobs.get(parent.name)
        return None

    def item_of(self, job: Job) -> Item:
        """The upload of a job as an item."""
        record, folder = job.record, self._media / job.id
        paths = tuple(folder / name for name in record.files)
        kind = MediaKind.IMAGES if record.images else MediaKind.VIDEO
        source = str(folder if len(paths) > 1 else paths[0])
        return Item(source, kind, paths, title=record.title)


def _step_back() -> None:
    """In an analyzing process: leave the processors to the server when it has something to do."""
    with contextlib.suppress(AttributeError, OSError):
        os.nice(_NICENESS)


def _reset(job: Job) -> None:
    job.stage, job.fraction, job.faces, job.samples = "", 0.0, 0, 0
    job.received_bytes, job.total_bytes, job.began, job.began_at, job.canceled = 0, None, None, 0.0, False


def _note(job: Job, event: str, facts: Mapping[str, Any]) -> None:
    """Remember what an event says of a job."""
    match event:
        case "started" | "resumed":
            canceled = job.canceled
            _reset(job)
            job.canceled, job.stage = canceled, "downloading" if job.record.address else "reading"
        case "downloading":
            job.received_bytes, job.total_bytes = facts["received_bytes"], facts.get("total_bytes")
        case "analyzing":
            job.stage, job.fraction, job.began, job.began_at = "analyzing", 0.0, None, 0.0
        case "progress":
            duration = facts["duration_s"]
            fraction = min(1.0, facts["time_s"] / duration) if duration else 0.0
            if job.began is None:
                job.began, job.began_at = time.monotonic(), fraction
            job.fraction = max(job.fraction, fraction)
        case "segment_committed":
            job.faces += facts["faces"]
            job.samples += facts["samples"]
        case "rendering":
            job.stage, job.fraction = "rendering", facts["fraction"]


def _has_run(work: Work) -> bool:
    return work.run is not None and (work.run / "run.json").exists()
