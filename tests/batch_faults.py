"""What analysing processes do wrong on request: functions that they call first, see `LocalEngine`.

A video's file says at its end what shall happen, see `marked`.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from analyzer.batch import child
from analyzer.errors import ModelError, StoppedError
from analyzer.settings import Settings
from analyzer.source import Video, run_name
from analyzer.vision.chosen import models_hash

_BOX_BYTES = 32
_MARK = b"free-for-tests:"

SEGMENTS, EACH_S = 8, 0.4
LOADING_S = 2.5


def marked(path: Path, fault: str) -> bytes:
    """The content of an MP4 file with a box at its end that readers pass over and `misbehave` obeys."""
    content = (_MARK + fault.encode()).ljust(_BOX_BYTES - 8)
    return path.read_bytes() + _BOX_BYTES.to_bytes(4, "big") + b"free" + content


def _mark_of(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(-min(_BOX_BYTES - 8, path.stat().st_size), os.SEEK_END)
        tail = file.read()
    return tail.removeprefix(_MARK).decode().strip() if tail.startswith(_MARK) else ""


def misbehave(path: Path) -> None:
    """Do what the file asks for: ``crash``, ``memory``, ``starve``, ``stall`` or ``burn``; else nothing."""
    match _mark_of(path):
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "memory":
            taken = []
            while True:
                taken.append(b"\1" * 50_000_000)
        case "starve":
            raise ModelError("the face detector failed on (96, 160, 3) pictures: Failed to allocate 9 bytes")
        case "stall":
            time.sleep(600)
        case "burn":
            for _ in range(2):
                threading.Thread(target=_burn, daemon=True).start()
            time.sleep(600)


def _burn() -> None:
    block = bytes(10_000_000)
    while True:
        hashlib.sha256(block)


def with_networks() -> None:
    """Analyse as always; a marked video does what it asks for when it is opened."""
    from analyzer import jobs
    from analyzer.frames import VideoReader

    class Reader(VideoReader):
        def __init__(self, path: Path, settings: Settings) -> None:
            misbehave(path)
            super().__init__(path, settings)

    changed: Any = jobs
    changed.VideoReader = Reader


def with_little_memory() -> None:
    """As `with_networks`, but the least memory that can be allowed is not enough."""
    with_networks()
    changed: Any = child
    changed.taken = b"\1" * 300_000_000


def without_networks() -> None:
    """Publish runs that say nothing, in no time; of a video that is marked ``slow`` after `SEGMENTS`."""

    def loaded(worker: Any, settings: Settings) -> Any:
        return _Quick(worker, settings)

    changed: Any = child._Worker
    changed._loaded = loaded


def loads_slowly() -> None:
    """As `without_networks`, but not at once."""
    without_networks()
    changed: Any = child._Worker
    loaded = changed._loaded

    def slowly(worker: Any, settings: Settings) -> Any:
        time.sleep(LOADING_S)
        return loaded(worker, settings)

    changed._loaded = slowly


def cannot_load() -> None:
    """Fail before anything of a video is looked at."""

    def loaded(worker: Any, settings: Settings) -> Any:
        raise RuntimeError("bad allocation")

    changed: Any = child._Worker
    changed._loaded = loaded


def loads_for_ever() -> None:
    """As `cannot_load`, but without an end."""

    def loaded(worker: Any, settings: Settings) -> Any:
        time.sleep(600)

    changed: Any = child._Worker
    changed._loaded = loaded


def mended() -> None:
    """As `without_networks`, but nothing misbehaves any more."""
    globals()["_mark_of"] = lambda path: ""
    without_networks()


class _Quick:
    """Stands in for `analyzer.jobs.Analyst`."""

    def __init__(self, worker: Any, settings: Settings) -> None:
        self._worker = worker
        self._settings = settings

    def analyse(self, video: Video, out: Path, timings: dict[str, float]) -> Any:
        path = video.paths[0]
        misbehave(path)
        folder = out / run_name(video.title, video.video_id)
        parts = folder / ".parts"
        parts.mkdir(parents=True, exist_ok=True)
        if _mark_of(path) == "slow":
            self._segments(parts)
        info = {
            "video_id": video.video_id,
            "settings_hash": self._settings.result_hash(),
            "models_hash": models_hash(self._settings),
            "source": video.source,
            "url": video.url,
            "title": video.title,
            "channel": video.channel,
            "uploaded": video.uploaded,
            "complete": True,
            "incomplete_reason": None,
            "counts": dict.fromkeys(("people", "female", "male", "faces", "samples", "analysed_s"), 1),
            "video": {"duration_s": video.duration_s or 1.0},
        }
        for part in parts.iterdir():
            part.unlink()
        parts.rmdir()
        (folder / "run.json").write_text(json.dumps(info))
        return SimpleNamespace(folder=folder, info=info)

    def _segments(self, parts: Path) -> None:
        kept = sorted(int(part.name) for part in parts.iterdir())
        self._worker._say("begun", kept=kept, expected=SEGMENTS)
        for number in range(len(kept), SEGMENTS):
            time.sleep(EACH_S)
            (parts / str(number)).touch()
            self._worker._say("segment", segment=number, samples=1, faces=0, size_bytes=0)
            if self._worker._asked_to_stop():
                raise StoppedError("asked to end")
