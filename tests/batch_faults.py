"""Test doubles for the batch: analyzers that need no models and fail on request, executors, a clock.

The functions are called first in the processes of a `LocalExecutor`; the classes work in threads too. A
marked video says at the end of its file what happens, see `marked`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from analyzer.batch.executors.base import Executor
from analyzer.batch.executors.inline import InlineExecutor
from analyzer.batch.executors.local import LocalExecutor
from analyzer.batch.worker import AnalyzerFactory
from analyzer.errors import CrashError, ModelError, StoppedError
from analyzer.events import Opened, SegmentCommitted
from analyzer.runs.folders import run_name
from analyzer.settings import Settings
from analyzer.sources.types import Video
from analyzer.util.clock import Clock
from analyzer.vision.selection import models_hash

_BOX_BYTES = 32
_MARK = b"free-for-tests:"

SEGMENTS, EACH_S = 8, 0.4
POISON = 2
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
    """Do what the file asks for, else nothing.

    ``crash``, ``memory``, ``stall`` and ``burn`` need a process of their own; ``crashed``, ``starve`` and
    ``model`` do not.
    """
    match _mark_of(path):
        case "crashed":
            raise CrashError("a process died")
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "memory":
            taken = []
            while True:
                taken.append(b"\1" * 50_000_000)
        case "starve":
            raise ModelError("the face detector failed on (96, 160, 3) frames", no_memory=True)
        case "model":
            raise ModelError("the face detector failed on (96, 160, 3) frames: no allocator for this layer")
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


def with_models() -> None:
    """Analyze with the models; a marked video does what it asks for when it is opened."""
    from analyzer import job
    from analyzer.media.reader import VideoReader

    class Reader(VideoReader):
        def __init__(self, path: Path, settings: Settings) -> None:
            misbehave(path)
            super().__init__(path, settings)

    changed: Any = job
    changed.VideoReader = Reader


def with_little_memory() -> None:
    """As `with_models`, but the least memory that can be configured is not enough."""
    with_models()
    globals()["taken"] = b"\1" * 300_000_000


def without_models() -> AnalyzerFactory:
    """Publish empty runs at once; of a video that is marked ``slow`` after `SEGMENTS`."""
    return Quick


def poisoned() -> AnalyzerFactory:
    """As `without_models`; segment `POISON` ends the process."""
    return Poisoned


def busy() -> AnalyzerFactory:
    """As `without_models`; each segment takes its time of a processor."""
    return Busy


def loses_its_parent_at_once() -> AnalyzerFactory:
    """As `without_models`; once for each file, the parent is killed when a segment has been finished."""
    return LosesItsParent


def loses_its_parent_later() -> AnalyzerFactory:
    """As `loses_its_parent_at_once`, a second later."""
    return LosesItsParentLater


def loads_slowly() -> AnalyzerFactory:
    """As `without_models`, but load slowly."""
    return SlowToLoad


def cannot_load() -> AnalyzerFactory:
    """Fail before anything of a video is read."""
    return NotLoaded


def loads_forever() -> AnalyzerFactory:
    """As `cannot_load`, but hang."""
    return NeverLoaded


def mended() -> AnalyzerFactory:
    """As `without_models`, but ignore what files ask for."""
    return Mended


ExecutorMaker = Callable[[int], Executor]
"""Called with the number of slots."""


def processes(prepare: Callable[[], AnalyzerFactory | None]) -> ExecutorMaker:
    """Processes that call this first."""
    return lambda slots: LocalExecutor(slots, slots, prepare=prepare)


def threads(analyzers: AnalyzerFactory | None) -> ExecutorMaker:
    """Threads with these analyzers."""
    return lambda slots: InlineExecutor(slots, slots, analyzers=analyzers)


class FakeClock(Clock):
    """Moves only by `sleep` and `advance`."""

    def __init__(self) -> None:
        self._now = time.time()

    def time(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += seconds

    advance = sleep


def _parts(folder: Path) -> Any:
    from analyzer.runs.segments import PartStore  # late: most doubles do not need tables

    return PartStore(folder, "key")


class Quick:
    """A test double for `analyzer.job.VideoAnalyzer`."""

    obeys = True
    """Whether files say what happens."""

    def __init__(self, settings: Settings, on_event: Callable[[Any], None], stop: Callable[[], bool]) -> None:
        self._settings = settings
        self._on_event = on_event
        self._stop = stop

    def load(self) -> None:
        """There is nothing to load."""

    def analyze(self, video: Video, out: Path, timings: dict[str, float]) -> Any:
        mark = _mark_of(video.paths[0]) if self.obeys else ""
        if mark:
            misbehave(video.paths[0])
        folder = out / run_name(video.title, video.video_id)
        folder.mkdir(parents=True, exist_ok=True)
        if mark == "slow":
            self._segments(folder, video)
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
            "counts": dict.fromkeys(("people", "female", "male", "faces", "samples", "analyzed_s"), 1),
            "video": {"duration_s": video.duration_s or 1.0},
        }
        shutil.rmtree(folder / ".parts", ignore_errors=True)
        (folder / "run.json").write_text(json.dumps(info))
        return SimpleNamespace(folder=folder, info=info)

    def commit_segments(self, video: Video, out: Path, segments: tuple[int, int]) -> None:
        """Commit some segments, without faults."""
        self._segments(out / run_name(video.title, video.video_id), video, range(*segments))

    def _segments(self, folder: Path, video: Video, numbers: range = range(SEGMENTS)) -> None:
        parts = _parts(folder)
        kept = tuple(parts.segments())
        self._on_event(Opened("", video.title, None, SEGMENTS, kept, parts.key))
        for number in numbers:
            if number in kept:
                continue
            self.between_segments(number)
            if self._stop():
                raise StoppedError("asked to end")
            self._commit(parts, video.title, number)

    def _commit(self, parts: Any, title: str, number: int, *, samples: int = 1) -> None:
        """Finish a segment; its part is empty, whatever its event says."""
        size = parts.commit_empty(number).size_bytes
        self._on_event(SegmentCommitted("", title, number, samples=samples, faces=0, size_bytes=size))

    def between_segments(self, number: int) -> None:
        """Take some time."""
        time.sleep(EACH_S)


class Poisoned(Quick):
    def between_segments(self, number: int) -> None:
        if number == POISON:
            os.kill(os.getpid(), signal.SIGSEGV)


class Busy(Quick):
    def between_segments(self, number: int) -> None:
        until = time.process_time() + EACH_S
        while time.process_time() < until:
            hashlib.sha256(bytes(100_000))


class LosesItsParent(Quick):
    """Kills its parent after segment 2 of a file, once; a file beside it says that it was done."""

    after_s = 0.0

    def analyze(self, video: Video, out: Path, timings: dict[str, float]) -> Any:
        self._path = video.paths[0]
        return super().analyze(video, out, timings)

    def commit_segments(self, video: Video, out: Path, segments: tuple[int, int]) -> None:
        self._path = video.paths[0]
        super().commit_segments(video, out, segments)

    def _commit(self, parts: Any, title: str, number: int, *, samples: int = 1) -> None:
        super()._commit(parts, title, number, samples=samples)
        done = self._path.with_suffix(".done")
        if number == 2 and not done.exists():
            done.touch()
            time.sleep(self.after_s)
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(600)


class LosesItsParentLater(LosesItsParent):
    after_s = 1.0


class Acts(Quick):
    """Analyzes two segments, and does what a video's title says.

    ``model`` and ``memory`` fail in the second segment. ``heedless`` does not ask whether to stop,
    ``patient`` waits between the segments until it must stop, ``deaf`` sleeps there. ``malformed`` reports an
    impossible segment, ``stops`` stops without being asked, ``resources`` reports its threads and workers as
    samples, ``warns`` logs from a thread of its own as libraries do.
    """

    obeys = False

    def analyze(self, video: Video, out: Path, timings: dict[str, float]) -> Any:
        """`analyzer.job.VideoAnalyzer.analyze`."""
        self._act(video, out, range(2))
        return super().analyze(video, out, timings)

    def commit_segments(self, video: Video, out: Path, segments: tuple[int, int]) -> None:
        """`analyzer.job.VideoAnalyzer.commit_segments`."""
        self._act(video, out, range(*segments))

    def _act(self, video: Video, out: Path, numbers: range) -> None:
        parts = _parts(out / run_name(video.title, video.video_id))
        kept = tuple(parts.segments())
        self._on_event(Opened("", video.title, video.duration_s, 2, kept, parts.key))
        for number in numbers:
            if number in kept:
                continue
            if number:
                self._between(video.title)
            samples = 1
            if video.title == "resources":
                samples = self._settings.threads * 10 + self._settings.workers
            self._commit(parts, video.title, number, samples=samples)

    def _between(self, title: str) -> None:
        match title:
            case "model" | "memory":
                raise ModelError("no layer allocates this", no_memory=title == "memory")
            case "malformed":
                self._on_event(SegmentCommitted("", title, -1, samples=1, faces=0, size_bytes=0))
            case "warns":
                warning = threading.Thread(target=_warn)
                warning.start()
                warning.join()
            case "stops":
                raise StoppedError("of its own accord")
            case "deaf":
                time.sleep(600)
            case "patient":
                while not self._stop():
                    time.sleep(0.01)
        if title != "heedless" and self._stop():
            raise StoppedError("it was asked to end")


def _warn() -> None:
    log = logging.getLogger("library.decoder")
    log.info("nothing of interest")
    log.warning("http://me:secret@example.org/a: %d frames are damaged", 3)


def acts() -> AnalyzerFactory:
    """For processes."""
    return Acts


class Mended(Quick):
    """Ignores what files ask for."""

    obeys = False


class Fragile:
    """`analyzer.job.VideoAnalyzer`, which fails on marked videos as if a process had ended."""

    def __init__(self, settings: Settings, on_event: Callable[[Any], None], stop: Callable[[], bool]) -> None:
        from analyzer.job import VideoAnalyzer

        self._analyzer = VideoAnalyzer(settings, on_event, cancelled=stop)
        self.load = self._analyzer.load
        self.commit_segments = self._analyzer.commit_segments

    def analyze(self, video: Video, out: Path, timings: dict[str, float]) -> Any:
        match _mark_of(video.paths[0]):
            case "crash":
                raise CrashError("a process died")
            case "memory":
                raise MemoryError
        return self._analyzer.analyze(video, out, timings)


class SlowToLoad(Quick):
    def load(self) -> None:
        time.sleep(LOADING_S)


class NotLoaded(Quick):
    def load(self) -> None:
        raise RuntimeError("bad allocation")


class NeverLoaded(Quick):
    def load(self) -> None:
        time.sleep(600)
