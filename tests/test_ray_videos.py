"""Real videos and models on a Ray cluster: the results are those of processes of this machine."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import psutil
import pytest

from analyzer.batch.config import load_jobs
from analyzer.batch.executors.base import Executor, WorkerState
from analyzer.batch.executors.local import LocalExecutor
from analyzer.batch.executors.ray import RayExecutor
from analyzer.batch.log import OnEvent, ignore
from analyzer.batch.outcome import Outcome
from analyzer.batch.protocol import FINAL, Done, JobEvent, Progress, Resources, Segment, Stopped
from analyzer.batch.run import run_batch
from analyzer.settings import Settings
from testkit import faults
from testkit.clusters import cluster
from testkit.demo import portraits
from testkit.faults import Bench, Result, make_video
from testkit.media import numbered, write_video
from testkit.ray_double import executor_without_ray
from tests.batch_faults import marked, with_models
from tests.test_batch_executors import ended, job, until, video

MEMORY_MB = 100
FAULTS = "well", "crash", "memory", "well"

# Ray's workers have a low priority: on a busy machine, whatever else runs comes first.
pytestmark = pytest.mark.timeout(1200)


def bench_of(folder: Path, *seconds: float, **how: Any) -> Bench:
    videos = folder / "videos"
    videos.mkdir(parents=True)
    made = [
        make_video(videos / f"talk-{number}.mp4", length, number, sound=number % 2 == 1)
        for number, length in enumerate(seconds)
    ]
    # The frames of an annotated video depend on how many threads encode it.
    settings = how.pop("settings", faults.SETTINGS) + "threads = 1\n"
    return Bench(folder / "bench", made, gone_s=10, settings=settings, **how)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Two short videos, one with sound."""
    return bench_of(tmp_path_factory.mktemp("pair"), 5, 6)


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A video of many segments."""
    settings = faults.SETTINGS.replace("segment = 2", "segment = 1")
    return bench_of(tmp_path_factory.mktemp("long"), 9, settings=settings)


@pytest.fixture(scope="module")
def machines() -> Iterator[Any]:
    """Two of them, each with room for two stations."""
    with cluster(2, 2) as made:
        yield made


def on_ray(bench: Bench, slots: int, on_event: OnEvent = ignore, **more: Any) -> tuple[Path, Outcome]:
    """Run a batch on the cluster; returns its output folder."""
    out = bench.fresh()
    known = {"cpus": 1, "memory_mb": MEMORY_MB, "scratch": out.with_name(f"{out.name}-scratch")}
    return out, run(bench, out, RayExecutor(slots, **known | more), on_event)


def run(bench: Bench, out: Path, executor: RayExecutor, on_event: OnEvent = ignore) -> Outcome:
    with contextlib.closing(executor):
        while any(worker.state is not WorkerState.IDLE for worker in executor.workers()):
            assert list(executor.events(0.1)) == []
        return run_batch(load_jobs(bench.jobs, out=out), executor=executor, on_event=on_event)


@pytest.fixture(autouse=True)
def share_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many processes and threads a job has is no result."""
    shares = "settings.threads", "settings.workers"
    monkeypatch.setattr(faults, "MAY_DIFFER", faults.MAY_DIFFER + shares)


def compare(out: Path, bench: Bench) -> None:
    result = Result("", "", "")
    result.compare(out, bench.reference)
    result.analyzed_twice(out)
    assert "\n".join(result.words) == ""


def nodes_of(out: Path) -> dict[str, int]:
    return {one["node"]: 1 for one in faults.events(out, "placed")}


@pytest.mark.slow
@pytest.mark.parametrize("actors", [1, 2, 4])
def test_results_do_not_depend_on_the_executor(actors: int, pair: Bench, machines: Any) -> None:
    out, outcome = on_ray(pair, actors)
    assert outcome.done == 2
    compare(out, pair)


@pytest.mark.parametrize("on", ["without Ray", pytest.param("Ray", marks=pytest.mark.slow)])
def test_a_video_in_segments_over_machines_has_the_same_results(
    on: str, long: Bench, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if on == "Ray":
        request.getfixturevalue("machines")
        out, outcome = on_ray(long, 2)
    else:
        out = long.fresh()
        executor, _ = executor_without_ray(monkeypatch, tmp_path / "scratch", "a", "b", source="send")
        outcome = run(long, out, executor)
    assert outcome.done == 1
    placed = [one["segments"] for one in faults.events(out, "placed")]
    assert placed[0] == [0, 0] and placed[-1] is None and len(placed) > 4
    compare(out, long)


@pytest.mark.slow
@pytest.mark.parametrize("graceful", [True, False])
def test_a_machine_that_leaves_changes_no_result(graceful: bool, long: Bench, machines: Any) -> None:
    """One of two, each with room for one station."""
    node, other = (machines.add_node(num_cpus=4, include_dashboard=False) for _ in range(2))
    left: list[str] = []

    def on_event(name: str, id: int | None, facts: dict[str, Any]) -> None:
        if name == "segment_committed" and facts["segment"] == 0 and not left:
            left.append(node.node_id)
            machines.remove_node(node, allow_graceful=graceful)

    out, outcome = on_ray(long, 2, on_event=on_event, cpus=3, source="send")
    machines.remove_node(other)
    assert outcome.done == 1 and left
    assert graceful or faults.events(out, "moved")  # a worker may finish what it does meanwhile
    compare(out, long)


@pytest.mark.slow
def test_images_are_sent_too(tmp_path: Path, machines: Any) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for number, portrait in enumerate(portraits()):
        cv2.imwrite(str(folder / f"{number}.png"), portrait[:, :, ::-1])
    bench = Bench(tmp_path / "bench", [folder], settings="threads = 1\nformat = ['csv', 'parquet']\n")
    out, outcome = on_ray(bench, 1, source="send")
    assert outcome.done == 1
    compare(out, bench)


def test_a_download_is_kept_where_the_batch_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine that analyzes it moves a link away; the file itself stays for the batch to move."""
    path = write_video(tmp_path / "clip.mp4", numbered(4), fps=2)
    content, settings = path.read_bytes(), Settings(video=False, fps=2, keep_download=True)
    spec = job(tmp_path / "out", resources=Resources())
    spec = replace(spec, settings=settings, video=replace(video(), paths=(path,), fetched=True))
    executor, _ = executor_without_ray(monkeypatch, tmp_path / "scratch", "a")
    with contextlib.closing(executor):
        executor.submit(spec)
        done = until(executor, lambda events: ended(events, spec))[-1]
    assert isinstance(done, Done)
    kept = tmp_path / "out" / done.run / "download-clip.mp4"
    assert kept.read_bytes() == content and not kept.is_symlink() and not path.exists()
    assert json.loads((kept.parent / "run.json").read_bytes())["download"] == [kept.name]


def test_a_canceled_analysis_does_not_finish_its_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "long.mp4", numbered(600), fps=2)
    spec = job(tmp_path / "out", resources=Resources())
    settings = Settings(video=False, fps=2, segment_s=300)
    spec = replace(spec, settings=settings, video=replace(video(), paths=(path,)))
    executor, _ = executor_without_ray(monkeypatch, tmp_path / "scratch", "a")
    with contextlib.closing(executor):
        executor.submit(spec)
        before = until(executor, lambda events: any(isinstance(event, Progress) for event in events))
        executor.cancel(spec.job_id)
        events = before + until(executor, lambda events: ended(events, spec))
    assert events[-1] == Stopped(spec.job_id)
    assert not any(isinstance(event, Segment) for event in events)
    assert not list((tmp_path / "out").iterdir()), "nothing was finished, so nothing is left"


@pytest.mark.slow
def test_videos_fail_as_they_do_in_processes_of_this_machine(tmp_path: Path, machines: Any) -> None:
    """One crashes its process, one takes all memory; the others are done."""
    videos = [make_video(tmp_path / f"{number}.mp4", 2, number) for number in range(len(FAULTS))]
    for path, fault in zip(videos, FAULTS, strict=True):
        if fault != "well":
            path.write_bytes(marked(path, fault))
    tables = "[limits]\nmemory_mb = 1500\ncrashes = 1\n"
    bench = Bench(tmp_path / "bench", videos, settings=faults.SETTINGS, tables=tables)
    found = []
    for executor in (
        LocalExecutor(2, 2, prepare=with_models),
        RayExecutor(2, cpus=1, memory_mb=MEMORY_MB, prepare=with_models),
    ):
        out = bench.fresh()
        with contextlib.closing(executor):
            run_batch(load_jobs(bench.jobs, out=out), executor=executor)
        with contextlib.closing(sqlite3.connect(out / faults.LEDGER)) as db:
            columns = "title, state, error_kind, error, attempts"
            found.append(db.execute(f"SELECT {columns} FROM videos ORDER BY id").fetchall())
    assert found[0] == found[1]
    assert [row[1:3] for row in found[1]] == [
        ("done", None),
        ("abandoned", "crash"),
        ("abandoned", "memory"),
        ("done", None),
    ]


@pytest.mark.slow
def test_a_worker_has_the_threads_of_its_actor(pair: Bench, machines: Any) -> None:
    """As many as a process of this machine has with as many threads."""
    spec = replace(
        job(pair.fresh()), video=replace(video(), paths=(pair.folder.parent / "videos/talk-0.mp4",))
    )
    most = []
    for executor in (LocalExecutor(1, 1), RayExecutor(1, cpus=1, memory_mb=MEMORY_MB)):
        seen = [0]
        resources = Resources(workers=1, threads=1)
        with contextlib.closing(executor):
            executor.submit(replace(spec, out=pair.fresh(), resources=resources))
            events: list[JobEvent] = []
            while not (events and isinstance(events[-1], FINAL)):
                events += executor.events(0.05)
                seen += [thread_count(worker.pid, executor) for worker in executor.workers()]
        assert isinstance(events[-1], Done)
        most.append(max(seen))
    assert most[1] <= most[0] + 1


def thread_count(pid: int | None, executor: Executor) -> int:
    """Of the process that analyzes: a worker's own, or the one of an actor."""
    with contextlib.suppress(psutil.Error, IndexError):
        process = psutil.Process(pid)
        one = process if isinstance(executor, LocalExecutor) else process.children()[0]
        return int(one.num_threads())
    return 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_batch_that_is_killed_ten_times_loses_nothing(pair: Bench, machines: Any) -> None:
    tables = f"[executor]\nkind = 'ray'\naddress = '{machines.address}'\ncpus = 1\nmemory_mb = {MEMORY_MB}\n"
    videos = sorted((pair.folder.parent / "videos").iterdir())
    settings, top = faults.SETTINGS + "threads = 1\n", "workers = 2\nreport = ['html']\n"
    bench = Bench(pair.folder / "ray", videos, settings=settings, top=top, tables=tables, gone_s=10)
    ended = bench.run(bench.fresh())
    assert ended.code == faults.DONE, ended.error
    bench.__dict__["whole"] = pair.reference, ended.seconds
    result = faults.kills(bench, 10)
    assert "\n".join(result.words) == ""
    assert result.numbers["kills"] == 10
