"""The process in which strangers' videos are decoded: within limits, and of no use to an attacker's ends.

It gets jobs and gives messages as JSON over a pipe; the ledger is out of its reach. What it commits are
files: parts, and a run published by rename. A job that was broken off goes on from the parts; one whose
run is published already (the batch was killed between that and its note in the ledger) is only noted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from analyzer.batch.retries import CRASHES, Failure
from analyzer.errors import (
    AnalyzerError,
    CrashError,
    MediaError,
    ModelError,
    OutputError,
    StoppedError,
)
from analyzer.settings import Settings
from analyzer.source import MediaKind, Video, run_folder
from analyzer.system import die_with_parent, few_arenas, give_back_memory, resident_mb

__all__ = ["NOTED", "main", "matching_run", "settings_document", "video_document", "video_of"]

_TELL_EVERY_S = 0.5
NOTED = (
    *("video_id", "title", "channel", "uploaded", "complete", "incomplete_reason", "counts", "video"),
    "annotated",
)
"""What the ledger wants to know of ``run.json``."""


def video_document(video: Video) -> dict[str, Any]:
    """A video as JSON values."""
    return dataclasses.asdict(video) | {
        "kind": str(video.kind),
        "paths": [str(path) for path in video.paths],
        "audio_path": None if video.audio_path is None else str(video.audio_path),
    }


def video_of(document: dict[str, Any]) -> Video:
    """The video that `video_document` was given."""
    audio = document["audio_path"]
    return Video(
        **document
        | {
            "kind": MediaKind(document["kind"]),
            "paths": tuple(Path(path) for path in document["paths"]),
            "audio_path": None if audio is None else Path(audio),
        }
    )


def settings_document(settings: Settings) -> dict[str, Any]:
    """Settings as JSON values."""
    return settings.to_dict()


def matching_run(folder: Path, video_id: str, settings_hash: str, models_hash: str) -> dict[str, Any] | None:
    """What ``run.json`` of a folder says, if it is the run of this very work; else None."""
    try:
        info = json.loads((folder / "run.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(info, dict):
        return None
    wanted = {"video_id": video_id, "settings_hash": settings_hash, "models_hash": models_hash}
    return info if all(info.get(name) == value for name, value in wanted.items()) else None


def main(connection: Connection, memory_mb: int, prepare: Callable[[], None] | None) -> None:
    """Work on jobs until the other end is closed.

    Args:
        connection: Gives ``{"job": ...}`` and ``{"stop": true}``; is told what happens.
        memory_mb: The most memory that this process may take.
        prepare: Called first; for tests.
    """
    die_with_parent()
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        os._exit(1)  # it ended while this process began
    # The whole group or control group gets the signal; it is the parent's to say what happens.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _limit_memory(memory_mb)
    few_arenas()
    if prepare is not None:
        prepare()
    worker = _Worker(connection)
    while True:
        try:
            message = json.loads(connection.recv_bytes())
        except (EOFError, OSError):
            return
        if "stop" in message:
            return
        worker.work(message["job"])


def _limit_memory(memory_mb: int) -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        # Data and not address space: libraries reserve far more of that than they use.
        resource.setrlimit(resource.RLIMIT_DATA, (memory_mb * 2**20, memory_mb * 2**20))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # no pictures of faces in core files


def _limit_cpu(more_s: float) -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        usage = resource.getrusage(resource.RUSAGE_SELF)
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (int(usage.ru_utime + usage.ru_stime + more_s) + 1, hard))


class _Worker:
    """Does one job after another; keeps the networks of the last settings loaded."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stopped = False
        self._analyst: Any = None
        self._settings: Settings | None = None
        self._told_at = 0.0
        self._ready = False

    def work(self, job: dict[str, Any]) -> None:
        """Do a job; says ``ready`` once the networks are loaded, and ``done``, ``failed`` or ``stopped``."""
        _limit_cpu(job["cpu_s"])
        self._ready = False
        try:
            self._say("done", **self._done(job))
        except StoppedError:
            self._say("stopped")
        except Exception as error:  # noqa: BLE001 - one video must not end the others
            failure = _failure(error)
            if not self._ready and isinstance(error.__cause__, RuntimeError) and failure.kind == "model":
                words = f"{error} (or [limits] memory_mb is too little: engines do not always say so)"
                failure = Failure("model", words)
            if not self._ready and failure.kind in ("memory", "unexpected"):  # the video is not to blame
                words = (
                    f"the process that analyses cannot start ({error!r}): raise [limits] memory_mb, or ask "
                    "doctor for the reason"
                )
                if failure.kind == "memory":
                    words = "the networks alone need more memory than [limits] memory_mb allows"
                failure = Failure("start", words)
            # After this little may work: the process is of no more use.
            self._say("failed", broken=failure.kind == "memory", **dataclasses.asdict(failure))
        give_back_memory()

    def _done(self, job: dict[str, Any]) -> dict[str, Any]:
        video, settings, out = video_of(job["video"]), Settings(**job["settings"]), Path(job["out"])
        began = time.monotonic()
        folder = run_folder(out, video.title, video.video_id)
        info = matching_run(folder, video.video_id, job["settings_hash"], job["models_hash"])
        if info is None:
            analyst = self._loaded(settings)
            self._be_ready()
            run = analyst.analyse(video, out, {"fetch": job["fetch_s"]})
            folder, info = run.folder, run.info
        else:
            from analyzer.claims import remove_leftovers

            self._be_ready()
            remove_leftovers(folder)
        report_error = self._report(folder, job["report"])
        return {
            "run": str(folder),
            "info": {name: info.get(name) for name in NOTED},
            "analysis_s": round(time.monotonic() - began, 3),
            "report_error": report_error,
            "resident_mb": resident_mb(),
        }

    def _be_ready(self) -> None:
        self._ready = True
        self._say("ready")

    def _loaded(self, settings: Settings) -> Any:
        from analyzer.jobs import Analyst

        if settings != self._settings:
            self._analyst = None  # its memory first
            self._analyst = Analyst(settings, self._hear, stop=self._asked_to_stop)
            self._settings = settings
        self._analyst.load()
        return self._analyst

    @staticmethod
    def _report(folder: Path, formats: list[str]) -> str | None:
        """Write the run's report; gives why it could not be, which is no reason to analyse again."""
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

    def _asked_to_stop(self) -> bool:
        while not self._stopped and self._connection.poll():
            try:
                self._stopped = "stop" in json.loads(self._connection.recv_bytes())
            except (EOFError, OSError):
                os._exit(1)  # nobody is there any more
        return self._stopped

    def _hear(self, event: Any) -> None:
        from analyzer.events import Analysing, Begun, Committed, Rendering

        match event:
            case Begun(_, kept, expected, duration_s):
                self._say("begun", kept=list(kept), expected=expected, duration_s=duration_s)
            case Committed(_, part):
                self._say("segment", **dataclasses.asdict(part))
            case Analysing():
                self._say_now_and_then("progress", time_s=event.time_s, duration_s=event.duration_s)
            case Rendering(_, share):
                self._say_now_and_then("rendering", share=share)

    def _say_now_and_then(self, what: str, **facts: Any) -> None:
        if time.monotonic() - self._told_at >= _TELL_EVERY_S:
            self._say(what, **facts)

    def _say(self, what: str, **facts: Any) -> None:
        self._told_at = time.monotonic()
        try:
            self._connection.send_bytes(json.dumps({"what": what} | facts, default=str).encode())
        except OSError:
            os._exit(1)


def _failure(error: Exception) -> Failure:
    match error:
        case MediaError():
            return Failure(str(error.kind), str(error))
        case OutputError():
            return Failure("no_space" if error.no_space else "output", str(error))
        case ModelError():
            # Engines know no other error: a network that finds no memory is not a broken one.
            if "alloc" in f"{error} {error.__cause__}":
                return Failure("memory", CRASHES["memory"])
            return Failure("model", str(error))
        case CrashError():
            return Failure("crash", str(error))
        case MemoryError():
            return Failure("memory", CRASHES["memory"])
        case AnalyzerError():
            return Failure("unexpected", str(error))
    from analyzer.jobs import unexpected

    return Failure("unexpected", str(unexpected(error)))
