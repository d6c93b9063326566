"""One video in several processes: the same results, and no process outlives the analysis."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pandas as pd
import psutil
import pytest
from skimage import data

import analyzer
from analyzer import job
from analyzer.cli import INTERRUPTED
from analyzer.errors import (
    AnalyzerError,
    CrashError,
    MediaError,
    MediaErrorKind,
    SourceError,
    SourceErrorKind,
)
from analyzer.events import Opened, Progress, SegmentCommitted
from analyzer.runs import pool
from analyzer.runs.folders import run_folder
from analyzer.runs.pool import worker_count
from analyzer.runs.run import Run
from analyzer.runs.segments import PartStore, part_stores
from analyzer.runs.stretch import damage_tolerated
from analyzer.settings import Settings
from analyzer.sources.local import local_video
from analyzer.sources.types import Item, MediaKind, Video
from testkit.media import flip_bytes, write_video
from testkit.videos import wall

Running = tuple[subprocess.Popen[str], list[psutil.Process]]

ROOT = Path(__file__).parents[1]
TABLES = ("samples", "faces", "people", "timeline", "shares")
FPS = 15
SECONDS = 9
SETTINGS = Settings(segment_s=2, fps=3, video=False, threads=2)
SEGMENTS = 5


def film_frames() -> list[np.ndarray]:
    """A camera pans over portraits and a still life.

    Shot boundaries lie in a segment and between two; the last second is at rest.
    """
    canvas = wall(4, 2)
    # The same portraits moved would be taken for a pan.
    other = cv2.resize(data.coffee()[..., ::-1], (canvas.shape[1], canvas.shape[0])).astype(np.uint8)
    canvases = [canvas, other, canvas]
    starts = [(0, 0), (1200, 500), (100, 600)]
    images = []
    for number in range(SECONDS * FPS):
        shot = (number >= 3 * FPS) + (number >= 6 * FPS)
        x, y = starts[shot]
        x += 3 * min(number, 7 * FPS)
        images.append(canvases[shot][y : y + 480, x : x + 854])
    return images


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`SECONDS` long, a keyframe each second, the index in front."""
    path = tmp_path_factory.mktemp("workers") / "film.mp4"
    options = {"preset": "ultrafast", "crf": "23", "g": str(FPS)}
    return write_video(
        path, film_frames(), fps=FPS, options=options, container_options={"movflags": "faststart"}
    )


@pytest.fixture(scope="module")
def alone(film: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run of one process."""
    run = analyzer.analyze(film, SETTINGS, out=tmp_path_factory.mktemp("alone"), workers=1)
    # There is something to compare.
    assert len(run.samples) == 27 and len(run.faces) > 20 and len(run.people) >= 2
    assert run.info["counts"]["samples_reused"] >= 3 and run.info["counts"]["shots"] == 3
    assert run.complete and sorted(run.samples["segment"].unique()) == list(range(SEGMENTS))
    return run


def assert_same(run: Run, other: Run) -> None:
    for name in TABLES:
        pd.testing.assert_frame_equal(getattr(run, name), getattr(other, name), check_exact=True)
    for name in ("complete", "incomplete_reason", "counts"):
        assert run.info[name] == other.info[name]
    assert run.info["reading"]["last_s"] == other.info["reading"]["last_s"]


@dataclass(frozen=True)
class Shared:
    """The run of three processes."""

    run: Run
    events: list[Any]
    processes: list[int]
    """How many there were at each event."""
    left: int
    """How many there were afterwards."""


@pytest.fixture(scope="module")
def together(film: Path, tmp_path_factory: pytest.TempPathFactory) -> Shared:
    events: list[Any] = []
    processes: list[int] = []

    def on_event(event: object) -> None:
        events.append(event)
        processes.append(len(multiprocessing.active_children()))

    run = analyzer.analyze(
        film, SETTINGS, out=tmp_path_factory.mktemp("together"), workers=3, on_event=on_event
    )
    return Shared(run, events, processes, len(multiprocessing.active_children()))


def test_tables_do_not_depend_on_the_number_of_processes(alone: Run, together: Shared) -> None:
    assert max(together.processes) == 3 and together.left == 0
    assert_same(together.run, alone)
    assert together.run.info["resumed_segments"] == 0
    assert not (together.run.folder / ".parts").exists()


def test_progress_adds_up_over_the_processes(together: Shared) -> None:
    events = [event for event in together.events if isinstance(event, Progress)]
    assert [event.samples for event in events] == list(range(1, len(together.run.samples) + 1))
    assert events[-1].faces == len(together.run.faces)
    times = [event.time_s for event in events]
    assert times == sorted(times) and 0 < times[-1] <= SECONDS
    assert all(event.duration_s == pytest.approx(SECONDS) for event in events)


def interrupted(film: Path, out: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> Path:
    """Interrupt a run when all its segments are committed; returns the folder of its parts."""

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as inside, pytest.raises(KeyboardInterrupt):
        inside.setattr(job, "derive", interrupt)
        analyzer.analyze(film, SETTINGS, out=out, workers=count)
    (parts,) = out.glob("*/.parts")
    assert len(list(parts.iterdir())) == SEGMENTS
    return parts


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "then", "removed", "resumed"),
    [(1, 2, (1, 3), SEGMENTS - 2), (2, 1, (2,), SEGMENTS - 1)],
)
def test_missing_segments_are_analyzed_and_no_others(  # noqa: PLR0917
    first: int,
    then: int,
    removed: tuple[int, ...],
    resumed: int,
    film: Path,
    alone: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = interrupted(film, tmp_path, monkeypatch, first)
    for segment in removed:
        (part,) = parts.glob(f"*-{segment:06d}")
        shutil.rmtree(part)
    analyzed: list[object] = []
    run = analyzer.analyze(film, SETTINGS, out=tmp_path, workers=then, on_event=analyzed.append)
    assert run.info["resumed_segments"] == resumed
    counts = alone.samples["segment"].value_counts()
    assert sum(isinstance(event, Progress) for event in analyzed) == sum(counts[one] for one in removed)
    assert run.info["reading"]["last_s"] == alone.info["reading"]["last_s"]
    assert_same(run, alone)


# --- programs that call us ---------------------------------------------------------------------------


SCRIPT = """
import multiprocessing
import sys

from analyzer import analyze

print("the body runs")
most = 0


def on_event(event):
    global most
    most = max(most, len(multiprocessing.active_children()))


run = analyze(sys.argv[1], out=sys.argv[2], workers=2, segment_s=2, fps=3, video=False, on_event=on_event)
print("processes", most)
print("name", __name__, sys.modules["__main__"].__file__ == __file__)
"""


@pytest.mark.slow
def test_script_without_a_guard_runs_its_body_once(film: Path, alone: Run, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(film), str(tmp_path / "out")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["the body runs", "processes 2", "name __main__ True"]
    assert "Traceback" not in done.stderr and "freeze_support" not in done.stderr
    (folder,) = (tmp_path / "out").iterdir()
    assert_same(Run.load(folder), alone)


# --- how many ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "threads", "memory_mb", "segments", "expected"),
    [
        # Two cores each.
        (0, 1, 1e6, 100, 1),
        (0, 2, 1e6, 100, 1),
        (0, 3, 1e6, 100, 1),
        (0, 4, 1e6, 100, 2),
        (0, 16, 1e6, 100, 8),
        (0, 16, None, 100, 8),
        # 800 MB each.
        (0, 16, 3999, 100, 4),
        (0, 16, 4000, 100, 5),
        (0, 16, 100, 100, 1),
        (0, 16, -50, 100, 1),
        # No more than there are segments.
        (0, 16, 1e6, 3, 3),
        (0, 16, 1e6, 1, 1),
        # As asked for, whatever the machine.
        (5, 2, 100, 100, 5),
        (1, 64, 1e6, 100, 1),
        (5, 64, 1e6, 2, 2),
    ],
)
def test_processes_are_fitted_to_cores_memory_and_segments(  # noqa: PLR0917
    asked: int,
    threads: int,
    memory_mb: float | None,
    segments: int,
    expected: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool, "available_memory_mb", lambda: memory_mb)
    count = worker_count(Settings(workers=asked, threads=threads), segments)
    assert count == expected and isinstance(count, int)


def test_without_a_number_of_threads_the_cores_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "available_memory_mb", lambda: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(12)), raising=False)
    assert worker_count(Settings(), 100) == 6


# --- processes that end ------------------------------------------------------------------------------


@pytest.mark.slow
def test_killed_worker_is_one_sentence_and_the_same_call_continues(
    film: Path, alone: Run, tmp_path: Path
) -> None:
    killed: list[int] = []

    def kill(event: object) -> None:
        kept = [path for path in tmp_path.glob("*/.parts/*") if not path.name.startswith("new-")]
        if isinstance(event, Progress) and kept and not killed:
            killed.append(multiprocessing.active_children()[0].pid or 0)
            os.kill(killed[0], signal.SIGKILL)

    with pytest.raises(AnalyzerError, match="worker process ended unexpectedly") as caught:
        analyzer.analyze(film, SETTINGS, out=tmp_path, workers=2, on_event=kill)
    assert killed and "same command continues" in str(caught.value) and "\n" not in str(caught.value)
    assert not multiprocessing.active_children()
    (folder,) = tmp_path.iterdir()
    assert [entry.name for entry in folder.iterdir()] == [".parts"]
    run = analyzer.analyze(film, SETTINGS, out=tmp_path, workers=2)
    assert run.info["resumed_segments"] >= 1
    assert_same(run, alone)


@pytest.fixture
def command(film: Path, tmp_path: Path) -> list[str]:
    """The command with enough samples to end it in time."""
    options = ["--segment", "2", "--fps", "15", "--no-video", "--workers", "2", "--reuse", "0"]
    return [sys.executable, "cli.py", "analyze", str(film), "--out", str(tmp_path / "out"), *options]


@contextlib.contextmanager
def in_a_group(
    command: list[str], ready: Callable[[psutil.Process], list[psutil.Process]]
) -> Iterator[Running]:
    """The command in a process group of its own, once `ready` returns the processes it has started."""
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    children: list[psutil.Process] = []
    try:
        while not children and process.poll() is None:
            time.sleep(0.01)
            with contextlib.suppress(psutil.NoSuchProcess):
                children = ready(psutil.Process(process.pid))
        yield process, children
    finally:
        for one in (process, *children):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        process.communicate(timeout=30)


@pytest.fixture
def running(command: list[str], tmp_path: Path) -> Iterator[Running]:
    """The command, once a segment is committed."""

    def ready(parent: psutil.Process) -> list[psutil.Process]:
        return parent.children(recursive=True) if kept_parts(tmp_path) else []

    with in_a_group(command, ready) as started:
        assert len(started[1]) >= 2
        yield started


def kept_parts(folder: Path) -> list[Path]:
    return [path for path in folder.glob("out/*/.parts/*") if not path.name.startswith("new-")]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_no_worker_outlives_a_killed_parent(
    running: Running,
) -> None:
    process, children = running
    process.kill()
    assert process.wait(timeout=30) == -signal.SIGKILL
    gone, alive = psutil.wait_procs(children, timeout=30)
    assert len(gone) == len(children) and not alive


def is_worker(process: psutil.Process) -> bool:
    return any("spawn_main" in word for word in process.cmdline())


def ignores(process: psutil.Process, number: signal.Signals) -> bool:
    lines = Path(f"/proc/{process.pid}/status").read_text("ascii").splitlines()
    if not is_worker(process):
        return False  # what looks after shared memory ignores it anyway
    mask = next(int(line.split()[1], 16) for line in lines if line.startswith("SigIgn:"))
    return bool(mask >> (number - 1) & 1)


@pytest.fixture
def beginning(command: list[str]) -> Iterator[Running]:
    """The command, when its worker processes have started but do not work yet."""

    def ready(parent: psutil.Process) -> list[psutil.Process]:
        found = [one for one in parent.children(recursive=True) if is_worker(one)]
        return found if len(found) == 2 else []

    with in_a_group(command, ready) as started:
        time.sleep(0.3)
        yield started


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_no_worker_outlives_a_parent_killed_while_they_start(beginning: Running) -> None:
    process, children = beginning
    process.kill()
    process.wait(timeout=30)
    _, alive = psutil.wait_procs(children, timeout=60)
    assert len(children) == 2 and not alive


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="processes are seen to begin on Linux only")
def test_interrupt_while_workers_start_is_one_sentence(beginning: Running) -> None:
    process, children = beginning
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED
    assert stderr.strip() == "Error: interrupted: nothing was saved"
    assert not psutil.wait_procs(children, timeout=30)[1]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="signals of others are seen on Linux only")
def test_interrupt_is_one_sentence_and_leaves_no_process(
    running: Running,
    tmp_path: Path,
) -> None:
    process, children = running
    # The parent decides what happens: workers ignore the signal.
    assert sum(ignores(child, signal.SIGINT) for child in children) >= 1
    os.killpg(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (INTERRUPTED, "")
    said = r"Error: interrupted: \d+ of \d+ segments (is|are) saved; run the same command again to continue"
    assert re.fullmatch(said, stderr.strip())
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive
    (folder,) = (tmp_path / "out").iterdir()
    assert [entry.name for entry in folder.iterdir()] == [".parts"] and kept_parts(tmp_path)


# --- damage ------------------------------------------------------------------------------------------


def damaged(film: Path, path: Path, count: int, start: float, stop: float) -> Path:
    path.write_bytes(film.read_bytes())
    return flip_bytes(path, count, start, stop)


def outcome(path: Path, out: Path, count: int) -> Run:
    return analyzer.analyze(path, SETTINGS, out=out / str(count), workers=count)


@pytest.mark.slow
def test_damaged_middle_costs_the_same_samples(film: Path, tmp_path: Path) -> None:
    path = damaged(film, tmp_path / "damaged.mp4", 60, 0.45, 0.5)
    one, two = (outcome(path, tmp_path, processes) for processes in (1, 2))
    assert one.info["reading"]["bad_packets"] > 0 and two.info["reading"]["bad_packets"] > 0
    assert 15 <= len(one.samples) <= 27 and one.complete and two.complete
    assert one.info["incomplete_reason"] == two.info["incomplete_reason"] == ""
    # What a decoder makes up for damaged data depends on where it started; all else does not.
    for name in ("segment", "sample", "time_s", "duration_s", "image"):
        pd.testing.assert_series_equal(one.samples[name], two.samples[name], check_exact=True)
    before, after = ("segment < 1", f"segment > {SEGMENTS - 2}")
    for stretch in (before, after):
        mine, theirs = (
            run.faces.query(stretch)[["time_s", "x1", "y2", "score"]].reset_index(drop=True)
            for run in (one, two)
        )
        assert len(mine) >= 3
        pd.testing.assert_frame_equal(mine, theirs, check_exact=True)


@pytest.mark.slow
def test_truncated_video_is_incomplete_either_way(film: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.mp4"
    data = film.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.7)])
    one, two = (outcome(path, tmp_path, processes) for processes in (1, 2))
    assert not one.complete and one.info["incomplete_reason"]
    assert 3 <= len(one.samples) < 27
    assert_same(one, two)


@pytest.mark.slow
def test_mostly_damaged_video_is_refused_either_way(film: Path, tmp_path: Path) -> None:
    path = tmp_path / "ruin.mp4"
    data = film.read_bytes()
    good, rest = len(data) // 5, len(data) - len(data) // 5
    path.write_bytes(data[:good] + bytes(rest))
    for count in (1, 2):
        with pytest.raises(MediaError) as caught:
            outcome(path, tmp_path, count)
        assert caught.value.kind is MediaErrorKind.DAMAGED
        assert "ruin.mp4 is damaged" in str(caught.value) and "\n" not in str(caught.value)
        # Trying again would end the same way: nothing is kept.
        assert not list((tmp_path / str(count)).iterdir())
    assert not multiprocessing.active_children()


# --- errors between processes ------------------------------------------------------------------------


class _Broken:
    """A pool whose processes die at once."""

    def __init__(self, *_: object) -> None:
        self.closed: list[dict[str, bool]] = []

    def submit(self, *_: object) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_exception(BrokenProcessPool("a process in the process pool was terminated abruptly"))
        return future

    def shutdown(self, **how: bool) -> None:
        self.closed.append(how)


def test_dead_worker_is_one_sentence(film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[_Broken] = []
    monkeypatch.setattr(pool, "ProcessPoolExecutor", lambda *args: made.append(_Broken()) or made[0])
    with pytest.raises(CrashError, match="same command continues") as caught:
        analyzer.analyze(film, SETTINGS, out=tmp_path, workers=2)
    assert "--workers 1" in str(caught.value) and "\n" not in str(caught.value)
    assert made[0].closed == [{"wait": True, "cancel_futures": True}]


@pytest.mark.parametrize("kind", list(MediaErrorKind))
def test_stretch_without_a_readable_frame_is_tolerated_and_nothing_else(kind: MediaErrorKind) -> None:
    error = MediaError("damaged", kind=kind)
    tolerated = kind in (MediaErrorKind.DAMAGED, MediaErrorKind.NO_FRAMES)
    with contextlib.nullcontext() if tolerated else pytest.raises(MediaError), damage_tolerated():
        raise error


@pytest.mark.parametrize(
    "error",
    [
        MediaError("a.mp4 is damaged", kind=MediaErrorKind.DAMAGED),
        SourceError("no such page", kind=SourceErrorKind.NETWORK, source="http://a", retry=True),
        SourceError("no file", kind=SourceErrorKind.NOT_FOUND, source="a.mp4"),
        AnalyzerError("a sentence"),
    ],
)
def test_errors_survive_pickling(error: AnalyzerError) -> None:
    sent = pickle.loads(pickle.dumps(error))
    assert type(sent) is type(error) and str(sent) == str(error)
    assert vars(sent) == vars(error)
    assert sent.args == error.args


# --- segments by themselves --------------------------------------------------------------------------


def video_of(path: Path) -> Video:
    return local_video(Item(str(path), MediaKind.VIDEO, (path,)))


def test_segments_analyzed_alone_are_those_of_the_whole_video(
    film: Path, alone: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In ranges, with other processes' segments in between; the end is left to the usual analysis."""
    video = video_of(film)
    prepared: list[None] = []
    monkeypatch.setattr(job, "prepare", lambda: prepared.append(None))
    events: list[Any] = []
    for out, ranges in ((tmp_path / "a", ((0, 0), (2, 4))), (tmp_path / "b", ((1, 4), (0, 2)))):
        for segments in ranges:
            events.clear()
            job.VideoAnalyzer(SETTINGS, events.append).commit_segments(video, out, segments)
            assert isinstance(events[0], Opened) and events[0].segments == SEGMENTS
    assert [event.segment for event in events if isinstance(event, SegmentCommitted)] == [0]
    done = [(event.time_s, event.duration_s) for event in events if isinstance(event, Progress)]
    assert done == sorted(done) and {expected for _, expected in done} == {2}
    (parts,) = (tmp_path / "a").glob("*/.parts")
    assert sorted(path.name[-6:] for path in parts.iterdir()) == ["000002", "000003"]
    assert not prepared  # nothing is linked here
    for out, resumed in ((tmp_path / "a", 2), (tmp_path / "b", 4)):
        run = analyzer.analyze(film, SETTINGS, out=out, workers=1)
        assert run.info["resumed_segments"] == resumed
        assert_same(run, alone)


@pytest.mark.parametrize("segments", [(0, SEGMENTS), (2, 1), (-1, 1), (SEGMENTS, SEGMENTS + 1)])
def test_the_end_of_a_video_is_not_analyzed_alone(
    segments: tuple[int, int], film: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="segments"):
        job.VideoAnalyzer(SETTINGS).commit_segments(video_of(film), tmp_path, segments)
    assert not list(tmp_path.rglob("*-0*"))


# --- how damaged videos were read --------------------------------------------------------------------

ONE_THREAD = SETTINGS.replace(threads=1)
"""FFmpeg may find more or less damage with another number of decoding threads."""


@pytest.fixture(scope="module")
def damaged_film(film: Path) -> Path:
    """`film` with damage in each segment.

    Not in keyframes: what a decoder makes up for these depends on where it started.
    """
    path = film.with_name("damaged.mp4")
    data = bytearray(film.read_bytes())
    with av.open(str(film)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    for packet in packets[3::6]:
        if not packet.is_keyframe:
            begin = (packet.pos or 0) + packet.size // 2
            data[begin : begin + packet.size // 4] = bytes(packet.size // 4)
    path.write_bytes(data)
    return path


@pytest.fixture(scope="module")
def damaged_alone(damaged_film: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = analyzer.analyze(damaged_film, ONE_THREAD, out=tmp_path_factory.mktemp("damaged"), workers=1)
    assert run.info["reading"]["bad_packets"] > 5 and run.info["incomplete_reason"]
    assert len(run.samples["segment"].unique()) == SEGMENTS
    return run


def facts_of(run: Run) -> dict[str, Any]:
    """``run.json`` but for what the time of day and the machine decide."""
    info = {**run.info, "settings": {**run.info["settings"], "workers": 0}}
    for name in ("analyzed_at", "resumed_segments", "timings_s", "stages_s"):
        del info[name]
    return info


def assert_same_samples(run: Run, other: Run) -> None:
    """What a decoder makes up for damage depends on memory that it used before, so faces may differ."""
    assert run.samples["time_s"].tolist() == other.samples["time_s"].tolist()
    assert run.samples["segment"].tolist() == other.samples["segment"].tolist()


def in_ranges(path: Path, settings: Settings, ranges: tuple[tuple[int, int], ...], folder: Path) -> Run:
    """The run of a video whose segments were analyzed elsewhere, in ranges."""
    analyzers, video, here = job.VideoAnalyzer(settings.replace(workers=1)), video_of(path), folder / "here"
    for number, segments in enumerate(ranges):
        analyzers.commit_segments(video, folder / str(number), segments)
        (there,) = part_stores(run_folder(folder / str(number), video.title, video.video_id))
        store = PartStore(run_folder(here, video.title, video.video_id), there.key)
        assert all(store.unpack(there.pack(segment), segment) for segment in range(*segments))
    return analyzers.analyze(video, here)


def test_an_analysis_interrupted_at_every_segment_says_the_same(
    damaged_film: Path, damaged_alone: Run, tmp_path: Path
) -> None:
    class KilledError(Exception):
        pass

    def kill(event: object) -> None:
        if isinstance(event, SegmentCommitted):
            raise KilledError

    settings = ONE_THREAD.replace(workers=1)
    killed = job.VideoAnalyzer(settings, kill)
    for _ in range(SEGMENTS):
        with pytest.raises(KilledError):
            killed.analyze(video_of(damaged_film), tmp_path)
    run = killed.analyze(video_of(damaged_film), tmp_path)
    assert run.info["resumed_segments"] == SEGMENTS
    assert facts_of(run) == facts_of(damaged_alone)
    assert_same_samples(run, damaged_alone)


@pytest.mark.parametrize("ranges", [((0, 2), (2, 4)), ((3, 4), (0, 1), (1, 3)), ((1, 2),)], ids=str)
def test_an_analysis_in_ranges_says_the_same(
    ranges: tuple[tuple[int, int], ...], damaged_film: Path, damaged_alone: Run, tmp_path: Path
) -> None:
    """On as many machines."""
    run = in_ranges(damaged_film, ONE_THREAD, ranges, tmp_path)
    assert run.info["resumed_segments"] == sum(stop - first for first, stop in ranges)
    assert facts_of(run) == facts_of(damaged_alone)
    assert_same_samples(run, damaged_alone)


def test_an_analysis_in_ranges_has_the_same_tables(film: Path, alone: Run, tmp_path: Path) -> None:
    run = in_ranges(film, SETTINGS, ((3, 4), (0, 1), (1, 3)), tmp_path)
    assert run.info["resumed_segments"] == 4
    assert facts_of(run) == facts_of(alone)
    assert_same(run, alone)


@pytest.mark.slow
def test_an_analysis_in_several_processes_says_the_same(
    damaged_film: Path, damaged_alone: Run, tmp_path: Path
) -> None:
    run = analyzer.analyze(damaged_film, ONE_THREAD, out=tmp_path, workers=2)
    assert facts_of(run) == facts_of(damaged_alone)
    assert_same_samples(run, damaged_alone)
