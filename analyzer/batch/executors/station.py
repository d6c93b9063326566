"""What runs on the machines of a cluster: an actor that supervises one analyzing process.

A station has no files in common with the batch. It is sent a job with the segments that are finished
already, lets a `LocalExecutor` run it in a scratch folder under the usual limits, and returns the events, the
finished segments, and the files of the published run. So a decoder that crashes ends a process of the
station, and neither the station nor any other job.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from queue import Empty, SimpleQueue

import analyzer
from analyzer.batch.executors.local import LocalExecutor, Prepare
from analyzer.batch.executors.node_files import SCRATCH_OPTION, SourceFile, found_here, provided
from analyzer.batch.failure_policy import Phase, failure_of
from analyzer.batch.protocol import (
    FINAL,
    Done,
    Failed,
    JobEvent,
    JobSpec,
    Opened,
    Progress,
    Segment,
    Stopped,
    decode_command,
)
from analyzer.errors import AnalyzerError, OutputError, StoppedError
from analyzer.runs.folders import run_name
from analyzer.runs.run import CORRECTIONS_FILE
from analyzer.runs.segments import PartStore
from analyzer.runs.transfer import Piece, RunFile, pieces, run_files
from analyzer.settings import Settings
from analyzer.util.atomic import output_errors
from analyzer.util.locks import file_lock, is_locked

__all__ = [
    "Assignment",
    "Facts",
    "Packed",
    "Report",
    "Station",
    "facts",
    "files_folder",
    "models_hash_here",
    "scratch_folder",
    "versions",
]

_MOST_BYTES = 32 * 2**20
"""The most that waits for the batch to fetch it, and the most that one answer holds, apart from one item."""
_PIECE_BYTES = 8 * 2**20
_POLL_S = 0.05
_IDLE_S = 1.0
_FETCH_ENDS_S = 1.0
_YOUNG_S = 60.0
"""A scratch folder without a holder that is younger may be about to be locked."""


@dataclass(frozen=True)
class Facts:
    """Where a station is, and what it runs on."""

    node: str
    """Name of the machine."""
    node_id: str
    """Ray's."""
    pid: int
    versions: dict[str, str]
    """Of whatever must be the same on all machines."""
    problem: str | None = None
    """Why this machine cannot be used."""


@dataclass(frozen=True)
class Packed:
    """A finished segment."""

    key: str
    """Of its `PartStore`."""
    segment: int
    content: bytes


@dataclass(frozen=True)
class Assignment:
    """What a station is to do."""

    number: int
    """Unique; larger than those before."""
    spec: bytes
    """An encoded `JobSpec`, with the paths of the batch's machine."""
    models: str
    """`models_hash_here` of the batch's machine."""
    corrections: bytes | None
    """Of the run."""
    files: tuple[SourceFile, ...]
    """The video's."""
    delivery: str
    """How files reach the station, one of `analyzer.batch.config.ExecutorChoice.source`."""


@dataclass(frozen=True)
class Wanted:
    """A stretch of a file of the video, which the batch is to send."""

    file: int
    """Number among those of the assignment."""
    offset: int
    size: int


@dataclass(frozen=True)
class Report:
    """One item of what a station reports."""

    event: JobEvent | None = None
    part: Packed | None = None
    """Of the event's segment."""
    files: tuple[RunFile, ...] = ()
    """Of the published run."""
    piece: Piece | None = None
    """Of one of these files; all of them come before `Done`."""
    wanted: Wanted | None = None


def versions() -> dict[str, str]:
    """Return the versions of whatever determines results."""
    return {"audience-analyzer": analyzer.__version__, "av": metadata.version("av")}


def facts() -> Facts:
    """Return where this process is, and what it runs on."""
    import ray

    return Facts(platform.node(), ray.get_runtime_context().get_node_id(), os.getpid(), versions())


def models_hash_here(settings: Settings) -> str:
    """Return `analyzer.vision.selection.models_hash` as this machine has the models; else why it has none."""
    from analyzer.vision.selection import models_hash

    try:
        return models_hash(settings)
    except AnalyzerError as error:
        return str(error)


class Station:
    """An actor; its methods are called from several threads at a time.

    Args:
        threads: Processor threads of its process.
        scratch: Folder for the files of the job in work; None: the system's temporary folder.
        prepare: As in `LocalExecutor`.
    """

    def __init__(self, threads: int, scratch: str | None, prepare: Prepare | None) -> None:
        self._threads = threads
        self._prepare = prepare
        self._held = contextlib.ExitStack()
        self._problem: str | None = None
        try:
            self._folder = self._held.enter_context(scratch_folder(scratch))
        except OutputError as error:  # an actor that cannot be made does not say why
            self._problem = str(error)
        self._commands: SimpleQueue[tuple[int, JobSpec | None]] = SimpleQueue()
        """Numbers of what to begin, or, without a job, of what to cancel."""
        self._job_id = 0
        """Of what was begun last."""
        self._cancelled = 0
        """Of what was canceled last, which may not have begun."""
        self._reports = _Reports()
        self._run, self._key = Path(), ""
        self._pieces: SimpleQueue[tuple[int, bytes]] = SimpleQueue()
        """With the numbers of the assignments that want them."""
        self._copies: dict[int, dict[Path, Path]] = {}
        """Of files of jobs, by the ids of these and their paths on the batch's machine."""
        self._held_copies: dict[int, contextlib.ExitStack] = {}
        self._whole = False
        """Whether what was begun last is a whole job, not some segments of one."""
        self._fetching: threading.Thread | None = None
        self._closed = False
        # The system kills a process when the thread that started it ends, so that thread must not.
        threading.Thread(target=self._supervise, name="station", daemon=True).start()

    def facts(self) -> Facts:
        """Return where the station is, and what it runs on."""
        return replace(facts(), problem=self._problem)

    def submit(
        self, assignment: Assignment, parts: Sequence[Packed], run: Sequence[Piece] = ()
    ) -> str | None:
        """Begin a job; the station has none.

        Args:
            assignment: The job.
            parts: Its finished segments.
            run: The files of its run, if only the annotated video is missing.

        Returns:
            Why this machine cannot run it; None: it runs.
        """
        spec = decode_command(assignment.spec)
        assert isinstance(spec, JobSpec)
        if (here := models_hash_here(spec.settings)) != assignment.models:
            return f"has other models ({here}) than the batch's machine ({assignment.models})"
        copies = self._copies.get(spec.job_id, {})
        absent = [
            file
            for file in assignment.files
            if file.path not in copies and (assignment.delivery == "send" or not found_here(file))
        ]
        if absent and assignment.delivery == "shared":
            node, path = platform.node(), absent[0].path
            problem = f"{node} does not see {path}: share its folder, or set [executor] source to auto"
            self._reports.put(Report(Failed(spec.job_id, "output", Phase.ANALYZE, problem)), 0)
            return None
        spec = replace(spec, out=self._folder / "out")
        try:
            with output_errors(self._folder, option=SCRATCH_OPTION):
                self._lay_out(assignment, spec, parts, run)
                if not absent:
                    self._start(assignment.number, spec)
        except OutputError as error:
            return f"cannot analyze videos: {error}"
        if absent:
            arguments = assignment, spec, absent
            self._fetching = threading.Thread(target=self._fetch, args=arguments, name="fetch", daemon=True)
            self._fetching.start()
        return None

    def _lay_out(
        self, assignment: Assignment, spec: JobSpec, parts: Sequence[Packed], run: Sequence[Piece]
    ) -> None:
        """Make the run's folder, with what is finished of it."""
        shutil.rmtree(spec.out, ignore_errors=True)
        folder = self._run = spec.out / run_name(spec.video.title, spec.video.video_id)
        folder.mkdir(parents=True)
        for part in parts:
            PartStore(folder, part.key).unpack(part.content, part.segment)
        for piece in run:
            (folder / piece.name).parent.mkdir(exist_ok=True)
            with (folder / piece.name).open("ab") as file:
                file.write(piece.content)
        if assignment.corrections is not None:
            (folder / CORRECTIONS_FILE).write_bytes(assignment.corrections)

    def _start(self, number: int, spec: JobSpec) -> None:
        """Begin a job whose files are on this machine."""
        video, copies = spec.video, self._copies.get(spec.job_id, {})
        if video.fetched and spec.settings.keep_download:  # the analysis moves them away
            kept = self._folder / "out" / "download"
            with output_errors(kept, option=SCRATCH_OPTION):
                kept.mkdir()
                for path in (*video.paths, *([video.audio_path] if video.audio_path else [])):
                    (kept / path.name).symlink_to(copies.get(path, path))
                    copies = copies | {path: kept / path.name}
        audio = None if video.audio_path is None else copies.get(video.audio_path, video.audio_path)
        paths = tuple(copies.get(path, path) for path in video.paths)
        self._commands.put((number, replace(spec, video=replace(video, paths=paths, audio_path=audio))))

    def _fetch(self, assignment: Assignment, spec: JobSpec, absent: list[SourceFile]) -> None:
        """Receive files from the batch's machine, unless another station of this machine has."""
        number = assignment.number

        def receive(file: int, offset: int, size: int) -> bytes:
            self._reports.put(Report(wanted=Wanted(file, offset, size)), 0)
            while not is_cancelled():
                with contextlib.suppress(Empty):
                    wanted_by, piece = self._pieces.get(timeout=_POLL_S)
                    if wanted_by == number:
                        return piece
            raise StoppedError("the job was canceled")

        def is_cancelled() -> bool:
            return self._closed or self._cancelled == number

        with contextlib.ExitStack() as stack:
            try:
                copies = {
                    file.path: stack.enter_context(
                        provided(
                            files_folder(self._folder),
                            file,
                            functools.partial(receive, assignment.files.index(file)),
                            is_cancelled,
                        )
                    )
                    for file in absent
                }
                self._copies[spec.job_id] = self._copies.get(spec.job_id, {}) | copies
                self._held_copies.setdefault(spec.job_id, contextlib.ExitStack()).push(stack.pop_all())
                self._start(number, spec)
            except StoppedError:
                self._reports.put(Report(Stopped(spec.job_id)), 0)
            except Exception as error:  # noqa: BLE001 - one video must not end the station
                failure = failure_of(error, Phase.ANALYZE)
                event = Failed(spec.job_id, failure.kind, failure.phase, failure.error)
                self._reports.put(Report(event), 0)

    def release(self, job_id: int) -> None:
        """Keep the files of a job no longer."""
        self._copies.pop(job_id, None)
        if (held := self._held_copies.pop(job_id, None)) is not None:
            held.close()

    def give(self, number: int, piece: bytes) -> None:
        """Receive what was `Report.wanted`, perhaps by an assignment that has ended: Ray keeps no order."""
        self._pieces.put((number, piece))

    def poll(self, timeout_s: float, progress_s: float) -> list[Report]:
        """Return what has happened, as soon as something has; after a time nothing: it is alive.

        Args:
            timeout_s: How long to wait, in seconds.
            progress_s: How long `Progress` alone waits for more, in seconds.
        """
        return self._reports.take(timeout_s, progress_s)

    def cancel(self, number: int) -> None:
        """End a job, also one that is being submitted; does nothing if it has ended."""
        self._cancelled = number
        self._commands.put((number, None))

    def close(self) -> None:
        """Leave nothing on the machine; the actor is killed next."""
        self._closed = True
        self._reports.fail("it was closed")
        if self._fetching is not None:
            self._fetching.join(_FETCH_ENDS_S)
        try:
            self._held.close()  # which the other thread may notice in the middle of something
        finally:
            for job_id in list(self._held_copies):
                self.release(job_id)

    # -- in a thread of its own

    def _supervise(self) -> None:
        executor = LocalExecutor(1, self._threads, prepare=self._prepare)
        self._held.callback(executor.close)
        try:
            while not self._closed:
                self._obey(executor)
                for event in executor.events(_POLL_S):
                    self._report(replace(event, job_id=self._job_id))
        except Exception as error:  # noqa: BLE001 - whatever it is, `poll` says it
            self._reports.fail(repr(error))
        finally:
            executor.close()  # again: this thread may have started a process meanwhile

    def _obey(self, executor: LocalExecutor) -> None:
        """Carry out the commands; wait for one while there is nothing to do."""
        idle = all(worker.job_id is None for worker in executor.workers())
        with contextlib.suppress(Empty):
            number, spec = self._commands.get(timeout=_IDLE_S) if idle else self._commands.get_nowait()
            while True:
                if spec is None:
                    executor.cancel(number)
                elif number == self._cancelled:
                    self._report(Stopped(spec.job_id))
                else:
                    # A process may get several units of one job, of which one was canceled.
                    self._job_id, self._whole = spec.job_id, spec.segments is None
                    executor.submit(replace(spec, job_id=number))
                number, spec = self._commands.get_nowait()

    def _report(self, event: JobEvent) -> None:
        out = self._folder / "out"
        part = None
        match event:
            case Opened():
                self._key = event.parts_key
            case Segment():
                with contextlib.suppress(OutputError):  # the run is published already, and its parts removed
                    packed = PartStore(self._run, self._key).pack(event.segment)
                    part = Packed(self._key, event.segment, packed)
            case Done():
                run = out / event.run
                files = run_files(run, downloads=False)
                self._reports.put(Report(files=tuple(files)), 0)
                for piece in pieces(run, files, _PIECE_BYTES):
                    self._reports.put(Report(piece=piece), len(piece.content))
        if isinstance(event, FINAL):
            shutil.rmtree(out, ignore_errors=True)
            if self._whole:  # else there may be more segments for this machine
                self.release(event.job_id)
        self._reports.put(Report(event, part), len(part.content) if part else 0)


class _Reports:
    """What the batch has not fetched yet; whoever adds to it waits while it is too much."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Report, int]] = deque()
        self._bytes = 0
        self._failed: str | None = None

    def put(self, report: Report, size: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._bytes < _MOST_BYTES or self._failed is not None)
            if isinstance(report.event, Progress) and self._waiting:
                last = self._waiting[-1][0].event
                if isinstance(last, Progress):
                    self._waiting.pop()  # only the newest counts
            self._waiting.append((report, size))
            self._bytes += size
            self._changed.notify_all()

    def fail(self, why: str) -> None:
        with self._changed:
            self._failed = why
            self._changed.notify_all()

    def take(self, timeout_s: float, progress_s: float) -> list[Report]:
        """Raises RuntimeError: The station has failed."""
        with self._changed:
            deadline = time.monotonic() + timeout_s
            self._changed.wait_for(lambda: self._waiting or self._failed is not None, timeout_s)
            left_s = min(progress_s, deadline - time.monotonic())
            self._changed.wait_for(lambda: self._urgent() or self._failed is not None, max(0.0, left_s))
            taken: list[Report] = []
            size = 0
            while self._waiting and (not taken or size + self._waiting[0][1] <= _MOST_BYTES):
                report, more = self._waiting.popleft()
                taken.append(report)
                size += more
            self._bytes -= size
            self._changed.notify_all()
            if not taken and self._failed is not None:
                raise RuntimeError(self._failed)
            return taken

    def _urgent(self) -> bool:
        return any(not isinstance(report.event, Progress) for report, _ in self._waiting)


# -- scratch folders


@contextlib.contextmanager
def scratch_folder(parent: str | None) -> Iterator[Path]:
    """Give a new folder that only its owner can read, and remove those whose holders are dead.

    Args:
        parent: Where; None: in the system's temporary folder.

    Raises:
        OutputError: It cannot be made there.
    """
    root = Path(parent or tempfile.gettempdir()) / f"audience-analyzer-{os.getuid()}"
    with contextlib.ExitStack() as stack:
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            if root.stat().st_uid != os.getuid() or root.is_symlink():
                raise PermissionError(0, "it is another user's")
            _sweep(root)
            folder = Path(tempfile.mkdtemp(prefix="station-", dir=root))
            stack.enter_context(file_lock(folder / ".lock"))
        except OSError as error:
            raise OutputError(
                f"{root} cannot be used on {platform.node()} ({error.strerror}): choose another folder with "
                "[executor] scratch"
            ) from error
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        yield folder


def files_folder(scratch: Path) -> Path:
    """Return the folder of source files that a scratch folder shares with the others of its machine."""
    return scratch.parent / "files"


def _sweep(root: Path) -> None:
    for folder in root.glob("station-*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_ctime > _YOUNG_S and not is_locked(folder / ".lock"):
                shutil.rmtree(folder, ignore_errors=True)
