"""Real videos and models on a Ray cluster: the results are those of processes of this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analyzer.batch.config import load_jobs
from analyzer.batch.executors.local import Prepare
from analyzer.batch.executors.ray import RayExecutor
from analyzer.batch.outcome import Outcome
from analyzer.batch.run import run_batch
from testkit import faults
from testkit.clusters import cluster
from testkit.faults import Bench, Result, make_video

MEMORY_MB = 100


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


def on_ray(bench: Bench, slots: int, prepare: Prepare | None = None, **more: Any) -> tuple[Path, Outcome]:
    """Run a batch on the cluster; returns its output folder."""
    out = bench.fresh()
    jobs = load_jobs(bench.jobs, out=out)
    known = {"cpus": 1, "memory_mb": MEMORY_MB, "scratch": out.with_name(f"{out.name}-scratch")}
    with contextlib.closing(RayExecutor(slots, prepare=prepare, **known | more)) as executor:
        return out, run_batch(jobs, executor=executor)


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


@pytest.mark.parametrize(
    "actors", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(4, marks=pytest.mark.slow)]
)
def test_results_do_not_depend_on_the_executor(actors: int, pair: Bench, machines: Any) -> None:
    out, outcome = on_ray(pair, actors)
    assert outcome.done == 2
    compare(out, pair)


def test_a_video_in_segments_over_machines_has_the_same_results(long: Bench, machines: Any) -> None:
    out, outcome = on_ray(long, 2)
    assert outcome.done == 1
    placed = [one["segments"] for one in faults.events(out, "placed")]
    assert placed[0] == [0, 0] and placed[-1] is None and len(placed) > 4
    compare(out, long)
