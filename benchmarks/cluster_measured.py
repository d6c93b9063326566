"""What the Ray executor costs, measured on this machine: the input of `benchmarks.cluster_simulation`.

Each function measures one thing and returns plain numbers; `benchmarks.cluster` runs them and keeps what they
found. Work is compared with the local executor's in alternated runs, and what counts is the median of the
ratios, so that what else the machine does falls out as far as it can. Where that is not enough, processor
time is measured.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import platform
import resource
import shutil
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil

from analyzer.batch.config import jobs_of
from analyzer.batch.executors.base import Executor, WorkerState
from analyzer.batch.executors.local import LocalExecutor, Prepare
from analyzer.batch.protocol import FINAL, JobEvent, JobSpec, Ready, Segment
from analyzer.batch.scheduler import Scheduler
from analyzer.batch.worker import AnalyzerFactory
from analyzer.settings import Settings
from testkit.faults import make_video
from testkit.runs import make_run, random_plan

__all__ = ["IN_ROUNDS", "MEASUREMENTS", "Result", "prepared"]

Result = dict[str, Any]
ROOT = Path(__file__).parents[1]
REAL = ROOT.parent / "shared" / "real" / "files"
"""Labeled real clips, where the development data is present; they are never copied."""
REAL_CLIPS = ("vp9_3.webm", "vp9_4.webm", "vp9_562.webm", "chromecast.mp4", "langer.mp4")
"""Those of at least 15 s; each is repeated for two minutes."""

CLIPS, CLIP_S = 40, 3.0
SETTINGS = Settings(video=False)
MEMORY_MB = 1000
"""Declared for each actor."""
PATIENCE_S = 240.0
STARTS = 4


# -- batches


@contextlib.contextmanager
def prepared() -> Iterator[None]:
    """Start a small Ray on this machine, with more processors than it has, for all measurements."""
    import ray

    os.environ |= {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    options = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    for attempt in range(STARTS):
        try:
            ray.init(address="local", num_cpus=8, object_store_memory=300 * 2**20, **options)
            break
        except Exception:  # it starts within 30 s, or not at all: too little on a machine that is busy
            if attempt + 1 == STARTS:
                raise
            ray.shutdown()
    try:
        yield
    finally:
        ray.shutdown()


def ray_of(slots: int, prepare: Prepare | None = None, cpus: int = 1) -> Executor:
    """A Ray executor in the cluster of `prepared`."""
    from analyzer.batch.executors.ray import RayExecutor

    return RayExecutor(slots, cpus=cpus, memory_mb=MEMORY_MB, address="auto", prepare=prepare)


def local_of(slots: int, prepare: Prepare | None = None) -> Executor:
    """A local executor with one thread for each slot."""
    return LocalExecutor(slots, slots, prepare=prepare)


def clips(folder: Path, count: int, seconds: float = CLIP_S) -> list[str]:
    """Different made videos of two people."""
    folder.mkdir(parents=True, exist_ok=True)
    return [str(make_video(folder / f"clip-{number:03d}.mp4", seconds, number)) for number in range(count)]


def timed_batch(
    executor: Executor, videos: Sequence[str], settings: Settings = SETTINGS
) -> tuple[float, float]:
    """Run a batch in a new folder; returns its wall time and this process's processor time, in seconds."""
    with tempfile.TemporaryDirectory() as out:
        jobs = jobs_of(videos, settings, out=out, report=(), reserve_mb=0)
        began, cpu = time.perf_counter(), time.process_time()
        outcome = Scheduler(jobs, executor).run()
        took = time.perf_counter() - began, time.process_time() - cpu
        if outcome.done != len(videos):
            raise RuntimeError(f"{outcome.done} of {len(videos)} were done: {outcome.figures()}")
        return took


def alternated(rounds: int, **work: Callable[[], float]) -> dict[str, list[float]]:
    """Do each piece of work once in each round, every other round in reverse order."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds):
        for name in list(work)[:: -1 if number % 2 else 1]:
            times[name].append(work[name]())
            print(f"  {name}: {times[name][-1]:.2f}", flush=True)
    return times


def ratio(over: Sequence[float], under: Sequence[float]) -> dict[str, float]:
    """Median, lowest and highest of the ratios of the rounds."""
    ratios = [one / other for one, other in zip(over, under, strict=True)]
    return {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}


# -- against the local executor


def overhead(rounds: int = 4) -> Result:
    """The Ray executor against the local one, with two loaded workers of one thread: 40 short clips, and a
    video of 40 segments. Wall time, and processor time of this process, the workers and theirs; not that
    of Ray's own processes."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        videos = clips(Path(folder) / "clips", CLIPS)
        long = clips(Path(folder) / "long", 1, 40.0)
        made = {
            make.__name__.removesuffix("_of"): stack.enter_context(contextlib.closing(make(2)))
            for make in (local_of, ray_of)
        }
        for executor in made.values():
            timed_batch(executor, videos[:6])  # loads
        found: Result = {"clips": CLIPS, "clip_s": CLIP_S, "segments": 40}
        found["videos"] = _compared(made, videos, SETTINGS, rounds)
        found["parts"] = _compared(made, long, SETTINGS.replace(segment_s=1.0), rounds)
    return found


def _compared(
    executors: dict[str, Executor], videos: Sequence[str], settings: Settings, rounds: int
) -> Result:
    used: dict[str, list[float]] = {name: [] for name in executors}

    def work(name: str) -> float:
        before = _processor_s(executors[name])
        wall_s, own_s = timed_batch(executors[name], videos, settings)
        used[name].append(_processor_s(executors[name]) - before + own_s)
        return wall_s

    times = alternated(rounds, local=lambda: work("local"), ray=lambda: work("ray"))
    found = {
        "wall_s": times,
        "cpu_s": used,
        "wall": ratio(times["ray"], times["local"]),
        "cpu": ratio(used["ray"], used["local"]),
    }
    print("  ", found, flush=True)
    return found


def _processor_s(executor: Executor) -> float:
    """Processor time of an executor's workers and their processes so far."""
    total = 0.0
    for worker in executor.workers():
        if worker.pid is not None:
            process = psutil.Process(worker.pid)
            for one in (process, *process.children(recursive=True)):
                times = one.cpu_times()
                total += times.user + times.system
    return total


def scaling(rounds: int = 3) -> Result:
    """From one worker to two, of one thread each: the Ray executor and the local one."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        videos = clips(Path(folder), 16)
        made = {
            f"{make.__name__.removesuffix('_of')}{slots}": stack.enter_context(
                contextlib.closing(make(slots))
            )
            for make in (local_of, ray_of)
            for slots in (1, 2)
        }
        for executor in made.values():
            timed_batch(executor, videos[:4])
        work = {
            name: lambda executor=executor: timed_batch(executor, videos)[0]  # type: ignore[misc]
            for name, executor in made.items()
        }
        times = alternated(rounds, **work)
    return {
        "seconds": times,
        "local": ratio(times["local1"], times["local2"]),
        "ray": ratio(times["ray1"], times["ray2"]),
    }


# -- the driver, with analyzers that do nothing


def no_analysis() -> AnalyzerFactory:
    """For processes: publish at once as many parts as the file asks for."""
    return NoAnalysis


class NoAnalysis:
    """Takes the place of `analyzer.job.VideoAnalyzer`: copies prepared parts and a prepared run.

    The video is a text file: JSON with the number of ``parts``, the seconds that each of them takes
    (``each_s``), the ``folder`` of the prepared run, and a ``number`` that makes it different from others.
    """

    def __init__(self, settings: Settings, on_event: Callable[[Any], None], stop: Callable[[], bool]) -> None:
        self._settings, self._on_event, self._stop = settings, on_event, stop

    def load(self) -> None:
        """There is nothing to load."""

    def analyze(self, video: Any, out: Path, timings: dict[str, float]) -> Any:
        """As `analyzer.job.VideoAnalyzer.analyze`."""
        from analyzer.vision.selection import models_hash

        folder, prepared_run = self._parts(video, out, None)
        shutil.copytree(prepared_run / "run", folder, dirs_exist_ok=True)
        info = json.loads((folder / "run.json").read_text())
        info |= {"video_id": video.video_id, "title": video.title, "complete": True}
        info |= {"settings_hash": self._settings.result_hash(), "models_hash": models_hash(self._settings)}
        (folder / "run.json").write_text(json.dumps(info))
        return SimpleNamespace(folder=folder, info=info)

    def commit_segments(self, video: Any, out: Path, segments: tuple[int, int]) -> None:
        """As `analyzer.job.VideoAnalyzer.commit_segments`."""
        self._parts(video, out, segments)

    def _parts(self, video: Any, out: Path, segments: tuple[int, int] | None) -> tuple[Path, Path]:
        from analyzer.errors import StoppedError
        from analyzer.events import Opened, SegmentCommitted
        from analyzer.runs.folders import run_folder

        asked = json.loads(video.paths[0].read_text())
        folder, prepared_run = run_folder(out, video.title, video.video_id), Path(asked["folder"])
        parts = folder / ".parts"
        parts.mkdir(parents=True, exist_ok=True)
        kept = tuple(sorted(int(part.name.rpartition("-")[2]) for part in parts.glob("key-*")))
        self._on_event(Opened("", video.title, 60.0 * asked["parts"], asked["parts"], kept, "key"))
        size = sum(file.stat().st_size for file in (prepared_run / "part").iterdir())
        for number in range(*(segments or (0, asked["parts"]))):
            if number in kept:
                continue
            if self._stop():
                raise StoppedError("asked to end")
            time.sleep(asked["each_s"])
            shutil.copytree(prepared_run / "part", parts / f"key-{number:06d}")
            self._on_event(SegmentCommitted("", video.title, number, samples=300, faces=500, size_bytes=size))
        return folder, prepared_run


def _prepared_run(folder: Path) -> Path:
    """An empty part, and the run of a made-up video of ten minutes, for `NoAnalysis`."""
    from analyzer.runs.segments import PartStore

    parts = PartStore(folder, "key")
    parts.commit_empty(0)
    next(parts.folder.glob("key-*")).rename(folder / "part")
    plan = random_plan(np.random.default_rng(1), length_s=600.0, people=10, concurrent=1.5)
    make_run(folder / "run", plan, SETTINGS)
    return folder


def _requests(folder: Path, run: Path, count: int, parts: int, each_s: float = 0.0) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for number in range(count):
        path = folder / f"video-{number:05d}.mp4"
        asked = {"parts": parts, "folder": str(run), "each_s": each_s, "number": number}
        path.write_text(json.dumps(asked))
        made.append(str(path))
    return made


class _Flushes:
    """Counts what this thread and others of the process flush to the disk. A context manager."""

    def __enter__(self) -> _Flushes:
        from analyzer.batch.ledger import Ledger

        self.here = self.elsewhere = self.transactions = 0
        thread = threading.current_thread()
        self._fsync, self._transaction = os.fsync, Ledger._transaction

        def fsync(descriptor: int) -> None:
            if threading.current_thread() is thread:
                self.here += 1
            else:
                self.elsewhere += 1
            self._fsync(descriptor)

        def transaction(ledger: Ledger) -> Any:
            self.transactions += 1
            return self._transaction(ledger)

        os.fsync, Ledger._transaction = fsync, transaction  # type: ignore[assignment, method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        from analyzer.batch.ledger import Ledger

        os.fsync, Ledger._transaction = self._fsync, self._transaction  # type: ignore[method-assign]


def driver(jobs: int = 60, parts: int = 40) -> Result:
    """What a video and a part cost the driver: processor time, flushes; and the rate with two actors."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = _prepared_run(folder / "prepared")
        part_mb = sum(file.stat().st_size for file in (run / "part").iterdir()) / 1e6
        run_mb = sum(file.stat().st_size for file in (run / "run").rglob("*") if file.is_file()) / 1e6
        found: Result = {"part_mb": part_mb, "run_mb": run_mb}
        with contextlib.closing(ray_of(2, no_analysis)) as executor:
            timed_batch(executor, _requests(folder / "first", run, 6, 1))
            for kind, count, each in (("video", jobs, 0), ("part", 4, parts)):
                videos = _requests(folder / kind, run, count, each)
                with _Flushes() as flushes:
                    wall_s, cpu_s = timed_batch(executor, videos)
                found[kind] = {
                    "videos": count,
                    "parts": count * each,
                    "wall_s": wall_s,
                    "cpu_s": cpu_s,
                    "here": flushes.here,
                    "elsewhere": flushes.elsewhere,
                    "transactions": flushes.transactions,
                }
                print(" ", kind, found[kind], flush=True)
        found["calls"] = calls()
    video, part = found["video"], found["part"]
    for kind in ("cpu_s", "here", "elsewhere", "transactions"):
        found[f"job_{kind}"] = video[kind] / video["videos"]
        found[f"part_{kind}"] = (part[kind] - part["videos"] * found[f"job_{kind}"]) / part["parts"]
    found["videos_per_s"] = video["videos"] / video["wall_s"]
    found["parts_per_s"] = part["parts"] / part["wall_s"]
    found["sync_s"] = flushing()
    return found


def calls(count: int = 400) -> Result:
    """Processor time of the driver for a message of a station, and for each MB of a larger one."""
    import ray

    class Echo:
        def answer(self, size: int) -> bytes:
            return bytes(size)

    actor = ray.remote(Echo).options(num_cpus=0).remote()
    ray.get(actor.answer.remote(0))
    measured = {}
    for size, times in ((300, count), (8 * 2**20, 20)):
        cpu = time.process_time()
        for _ in range(times):
            ready, _left = ray.wait([actor.answer.remote(size)], timeout=30)
            ray.get(ready[0])
        measured[size] = (time.process_time() - cpu) / times
    cpu = time.process_time()
    for _ in range(count // 20):
        pending = [actor.answer.remote(300) for _ in range(20)]
        ready, _left = ray.wait(pending, num_returns=20, timeout=30)
        ray.get(ready)
    together = (time.process_time() - cpu) / (count // 20 * 20)
    ray.kill(actor)
    return {
        "message_s": measured[300],
        "message_together_s": together,
        "mb_s": (measured[8 * 2**20] - measured[300]) / 8.4,
    }


def flushing(count: int = 100) -> float:
    """Median seconds to write a file of 30 kB and flush it to the disk."""
    times = []
    (ROOT / "outputs").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "outputs") as folder:
        for number in range(count):
            began = time.perf_counter()
            with (Path(folder) / str(number)).open("wb") as file:
                file.write(bytes(30_000))
                file.flush()
                os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    return statistics.median(times)


# -- latencies


def _spec(path: str, job_id: int, out: Path) -> JobSpec:
    from analyzer.sources.resolve import Fetcher
    from analyzer.vision.selection import models_hash

    fetcher = Fetcher(SETTINGS, want_audio=False)
    video = fetcher.fetch(next(iter(fetcher.resolve(path))), out)
    return JobSpec(job_id, video, SETTINGS, out, SETTINGS.result_hash(), models_hash(SETTINGS))


def _until(executor: Executor, wanted: Callable[[JobEvent], bool]) -> JobEvent:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        for event in executor.events(0.05):
            if wanted(event):
                return event
    raise TimeoutError("the event did not come")


def latencies(rounds: int = 4) -> Result:
    """Start of an actor, loading of models, cancel, and from the loss of an actor to work elsewhere."""
    found: dict[str, list[float]] = {
        name: [] for name in ("actor", "load", "cancel", "cancel_local", "moved", "working", "next_part")
    }
    numbers = itertools.count(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = _prepared_run(folder / "prepared")
        (slow,) = _requests(folder / "slow", run, 1, 1000, 0.2)
        (clip,) = clips(folder / "clips", 1)
        for number in range(2):
            began = time.perf_counter()
            with contextlib.closing(ray_of(1)) as executor:
                while all(one.state is not WorkerState.IDLE for one in executor.workers()):
                    list(executor.events(0.05))
                found["actor"].append(time.perf_counter() - began)
                began = time.perf_counter()
                executor.submit(_spec(clip, next(numbers), folder / f"load-{number}"))
                _until(executor, lambda event: isinstance(event, Ready))
                found["load"].append(time.perf_counter() - began)
                _until(executor, lambda event: isinstance(event, FINAL))
        for kind, make in (("cancel", ray_of), ("cancel_local", local_of)):
            with contextlib.closing(make(1, no_analysis)) as executor:
                for number in range(rounds):
                    spec = _spec(slow, next(numbers), folder / f"{kind}-{number}")
                    executor.submit(spec)
                    _until(executor, lambda event: isinstance(event, Segment))
                    began = time.perf_counter()
                    executor.cancel(spec.job_id)
                    _until(executor, lambda event: isinstance(event, FINAL))
                    found[kind].append(time.perf_counter() - began)
        with contextlib.closing(ray_of(2, no_analysis)) as executor:
            while sum(one.state is WorkerState.IDLE for one in executor.workers()) < 2:
                list(executor.events(0.05))
            for number in range(rounds):
                spec = _spec(slow, next(numbers), folder / f"loss-{number}")
                executor.submit(spec)
                _until(executor, lambda event: isinstance(event, Segment))
                (pid,) = (one.pid for one in executor.workers() if one.job_id == spec.job_id)
                assert pid is not None
                began = time.perf_counter()
                os.kill(pid, signal.SIGKILL)
                for step, kind in (("moved", "Moved"), ("working", "Placed"), ("next_part", "Segment")):
                    _until(executor, lambda event, kind=kind: type(event).__name__ == kind)  # type: ignore[misc]
                    found[step].append(time.perf_counter() - began)
                executor.cancel(spec.job_id)
                _until(executor, lambda event: isinstance(event, FINAL))
    return {name: {"median": statistics.median(all_), "high": max(all_)} for name, all_ in found.items()}


# -- amounts


def amounts() -> Result:
    """An hour of real footage: processor time, and the bytes of source, parts and run."""
    if not REAL.exists():
        return {"missing": "the real clips are not here"}
    from analyzer import analyze
    from analyzer.job import VideoAnalyzer
    from analyzer.runs.segments import PartStore

    sizes: list[int] = []
    closing: list[float] = []
    commit, publish = PartStore._keep, VideoAnalyzer._publish

    def timed(*given: Any) -> Any:
        cpu = time.process_time()
        run = publish(*given)
        closing.append(time.process_time() - cpu)
        return run

    def counted(*given: Any) -> Any:
        part = commit(*given)
        sizes.append(part.size_bytes)
        return part

    rows = []
    settings = SETTINGS.replace(workers=1, threads=1)
    with tempfile.TemporaryDirectory() as name:
        PartStore._keep, VideoAnalyzer._publish = counted, timed  # type: ignore[method-assign]
        try:
            analyze(str(clips(Path(name), 1)[0]), settings, out=name)  # loads
            for clip in REAL_CLIPS:
                sizes.clear()
                path = Path(name) / f"long{Path(clip).suffix}"
                source = _lengthened(REAL / clip, path)
                before = resource.getrusage(resource.RUSAGE_SELF)
                run = analyze(str(source), settings, out=name)
                after = resource.getrusage(resource.RUSAGE_SELF)
                seconds = run.info["video"]["duration_s"]
                cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
                run_b = sum(file.stat().st_size for file in run.folder.rglob("*") if file.is_file())
                rows.append(
                    {
                        "cpu": cpu_s / seconds,
                        "close_s": closing[-1],
                        "open_s": _opening(source, settings),
                        "source_mb": source.stat().st_size / 1e6 / seconds,
                        "part_mb": statistics.mean(sizes) / 1e6,
                        "run_mb": run_b / 1e6 / seconds,
                        "height": min(int(run.samples["height"].max()), int(run.samples["width"].max())),
                        "faces": len(run.faces) / len(run.samples),
                        "seconds": seconds,
                    }
                )
                print("  ", clip, {key: round(value, 4) for key, value in rows[-1].items()}, flush=True)
        finally:
            PartStore._keep, VideoAnalyzer._publish = commit, publish  # type: ignore[method-assign]
    return {"clips": rows} | {
        key: statistics.median(row[key] for row in rows)
        for key in ("cpu", "close_s", "open_s", "source_mb", "part_mb", "run_mb")
    }


def _opening(source: Path, settings: Settings) -> float:
    """Processor time to open a video and read the first sample of its second half."""
    from analyzer.media.reader import VideoReader

    cpu = time.process_time()
    with VideoReader(source, settings) as reader:
        next(reader.samples(60.0))
    return time.process_time() - cpu


def _lengthened(source: Path, target: Path, seconds: float = 120.0) -> Path:
    """The clip again and again for this long, its packets copied."""
    import av

    with av.open(str(target), "w") as out:
        stream, scale, offset, last = None, Fraction(0), 0, -1
        while stream is None or offset * scale < seconds:
            with av.open(str(source)) as container:
                video, end = container.streams.video[0], 0
                if stream is None:
                    stream = out.add_stream_from_template(video)
                    scale = video.time_base or Fraction(1, 1000)
                for packet in container.demux(video):
                    if packet.dts is None or packet.pts is None:
                        continue
                    end = max(end, packet.pts + (packet.duration or 1))
                    packet.pts += offset
                    packet.dts = last = max(last + 1, packet.dts + offset)
                    packet.time_base = scale
                    packet.stream = stream
                    out.mux(packet)
                offset += end
    return target


def machine() -> Result:
    """Where all this was measured."""
    import av
    import ray

    return {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "ray": ray.__version__,
        "av": av.__version__,
    }


MEASUREMENTS: dict[str, Callable[..., Result]] = {
    "machine": machine,
    "amounts": amounts,
    "driver": driver,
    "latencies": latencies,
    "overhead": overhead,
    "scaling": scaling,
}
IN_ROUNDS = ("latencies", "overhead", "scaling")
"""Those with an argument ``rounds``."""
