"""What the driver of a cluster decides: a test double in place of Ray; the analyzing processes are real."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analyzer.batch.config import Retry, jobs_of
from analyzer.batch.context import default_fetcher
from analyzer.batch.executors import ray as ray_module
from analyzer.batch.executors.base import MachineLostError, WorkerState
from analyzer.batch.executors.local import LocalExecutor
from analyzer.batch.executors.ray_cluster import Needs
from analyzer.batch.executors.ray_downloads import RayDownloads
from analyzer.batch.executors.station import Assignment, Station
from analyzer.batch.failure_policy import CRASHES, Phase
from analyzer.batch.ledger import Ledger
from analyzer.batch.protocol import (
    Done,
    Failed,
    JobEvent,
    JobSpec,
    Opened,
    Resources,
    Segment,
    decode_command,
)
from analyzer.batch.scheduler import Scheduler
from analyzer.cli.batch_commands import _code
from analyzer.cli.options import TEMPORARY
from analyzer.runs.transfer import RunReceiver
from analyzer.settings import Settings
from analyzer.sources.types import Item, MediaKind
from analyzer.vision.selection import models_hash
from testkit.media import numbered, write_video
from testkit.ray_double import executor_without_ray
from tests.batch_faults import EACH_S, POISON, SEGMENTS, acts, busy, marked, poisoned, without_models
from tests.test_batch_executors import ended, job, until


@pytest.fixture(scope="module")
def slow_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video that takes some seconds, in `SEGMENTS` segments."""
    path = write_video(tmp_path_factory.mktemp("slow") / "slow.mp4", numbered(5), fps=5)
    path.write_bytes(marked(path, "slow"))
    return path


def test_a_segment_that_ends_its_process_costs_no_other_and_fails_as_on_one_machine(
    slow_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another attempt follows when all others are done; attempts that get nowhere are counted."""
    found = []
    on_two = executor_without_ray(monkeypatch, tmp_path / "scratch", "a", "b", prepare=poisoned)
    for name, executor in (("ray", on_two), ("local", LocalExecutor(1, 1, prepare=poisoned))):
        known = {"out": tmp_path / name, "report": (), "retry": Retry(base_s=1, cap_s=1, patience_s=60)}
        jobs = jobs_of([str(slow_file)], Settings(video=False), **known)
        with contextlib.closing(executor):
            outcome = Scheduler(jobs, executor).run()
        assert (outcome.abandoned, outcome.failed, outcome.done) == (1, 0, 0)
        with Ledger(jobs.ledger, read_only=True) as ledger:
            history = ledger.history(1)
        columns = "state", "error_kind", "error", "attempts", "consecutive_failures"
        found.append([history[column] for column in columns])
        logged = [json.loads(line) for line in jobs.log.read_text().splitlines()]
        if name == "ray":
            first = next(number for number, one in enumerate(logged) if one["event"] == "failed")
            done = [one["segment"] for one in logged[:first] if one["event"] == "segment_committed"]
            assert sorted(done) == [one for one in range(SEGMENTS - 1) if one != POISON], (
                "others are not lost"
            )
            warned = next(one for one in logged if one["event"] == "logged")
            assert "SIGSEGV" in warned["message"] and warned["node"]
    assert found[0] == found[1] and found[0][:2] == ["abandoned", "crash"]


@pytest.mark.parametrize(
    ("limits", "kind"), [({"cpu_s": 5 * EACH_S}, "cpu_limit"), ({"wall_s": 3 * EACH_S}, "time_limit")]
)
def test_limits_of_a_spread_video_are_those_of_one(
    limits: dict[str, float], kind: str, slow_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No range exceeds them."""
    executor = executor_without_ray(monkeypatch, tmp_path / "scratch", "a", "b", prepare=busy)
    spec = job(tmp_path / "out", resources=Resources(workers=2, **limits))
    spec = replace(spec, video=replace(spec.video, paths=(slow_file,)))
    with contextlib.closing(executor):
        executor.submit(spec)
        failed = until(executor, lambda events: ended(events, spec))[-1]
    assert failed == Failed(spec.job_id, kind, Phase.ANALYZE, CRASHES[kind])


def test_a_cancel_waits_for_a_run_that_is_being_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the disk takes."""
    executor = executor_without_ray(monkeypatch, tmp_path / "scratch", "a", prepare=acts)
    spec, published = job(tmp_path / "out"), RunReceiver.publish

    def slowly(*arguments: Any, **options: Any) -> Any:
        executor.cancel(spec.job_id)
        time.sleep(2 * ray_module._CANCEL_S)
        return published(*arguments, **options)

    monkeypatch.setattr(RunReceiver, "publish", slowly)
    with contextlib.closing(executor):
        executor.submit(spec)
        done = until(executor, lambda events: ended(events, spec))[-1]
        assert executor.workers()[0].state is WorkerState.IDLE, "it goes on"
    assert isinstance(done, Done) and (tmp_path / "out" / done.run / "run.json").exists()


def test_no_station_keeps_the_files_of_a_job_that_ends_while_it_is_given_some(
    slow_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have got them from another station of its machine before it is told."""
    submitted, given = Station.submit, threading.Event()

    def slowly(self: Station, assignment: Assignment, *more: Any) -> str | None:
        answer = submitted(self, assignment, *more)
        command = decode_command(assignment.spec)
        if isinstance(command, JobSpec) and command.segments != (0, 0):
            given.set()
            time.sleep(0.5)
        return answer

    monkeypatch.setattr(Station, "submit", slowly)
    scratch = tmp_path / "scratch"
    executor = executor_without_ray(monkeypatch, scratch, "a", "a", prepare=busy, source="send")
    spec = job(tmp_path / "out", resources=Resources(workers=2))
    spec = replace(spec, video=replace(spec.video, paths=(slow_file,)))
    with contextlib.closing(executor):
        executor.submit(spec)
        until(executor, lambda events: given.is_set())
        assert list(scratch.rglob(slow_file.name))
        executor.cancel(spec.job_id)
        until(executor, lambda events: ended(events, spec))
        deadline = time.monotonic() + 10
        while list(scratch.rglob(slow_file.name)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert list(scratch.rglob(slow_file.name)) == []


def test_a_cluster_that_is_lost_ends_the_batch_run_as_it_should(
    slow_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its outcome in the log and the ledger; the same command continues."""
    jobs = jobs_of([str(slow_file)], Settings(video=False), out=tmp_path / "out", report=())

    def fail(*arguments: Any, **options: Any) -> Any:
        raise ConnectionError("GCS is not available")

    def on_event(name: str, id: int | None, facts: dict[str, Any]) -> None:
        if name == "segment_committed":
            monkeypatch.setattr(ray_module.ray, "wait", fail)

    executor = executor_without_ray(monkeypatch, tmp_path / "scratch", "a", prepare=without_models)
    with contextlib.closing(executor):
        outcome = Scheduler(jobs, executor, on_event=on_event).run()
    assert outcome.reason == "cluster" and "GCS is not available" in (outcome.error or "")
    assert outcome.left == 1
    assert _code(outcome, [], 1) == TEMPORARY
    *_, last = (json.loads(line) for line in jobs.log.read_text().splitlines())
    assert (last["event"], last["reason"]) == ("batch_ended", "cluster")
    executor = executor_without_ray(monkeypatch, tmp_path / "scratch", "a", prepare=without_models)
    with contextlib.closing(executor):
        assert Scheduler(jobs, executor).run().done == 1
    with Ledger(jobs.ledger, read_only=True) as ledger:
        history = ledger.history(1)
    assert [one["outcome"] for one in history["attempts_list"]] == ["stopped", "done"]


def test_a_cluster_that_is_lost_is_no_failure_of_a_video(tmp_path: Path) -> None:
    def lost() -> Any:
        raise ConnectionError("GCS is not available")

    def nothing(*facts: Any) -> None:
        pass

    downloads = RayDownloads(Needs(1, 100, 0), None, lost, list)
    item = Item("https://example.org/clip.mp4", MediaKind.VIDEO)
    calls: Any = {"accept": nothing, "on_wait": nothing, "on_progress": nothing}
    with pytest.raises(MachineLostError, match="GCS is not available"):
        downloads.fetch(default_fetcher, Settings(), item, tmp_path, **calls)


def test_of_a_run_without_its_annotated_video_only_that_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on one machine, though the station has no files but those that it is sent."""
    settings = Settings(fps=2, segment_s=2, threads=1)
    path = write_video(tmp_path / "talk.mp4", numbered(20), fps=5)
    spec = job(tmp_path / "out", resources=Resources(workers=2))
    hashes = {"settings_hash": settings.result_hash(), "models_hash": models_hash(settings)}
    spec = replace(spec, settings=settings, video=replace(spec.video, paths=(path,)), **hashes)
    found: list[list[JobEvent]] = []
    for _ in range(2):
        executor = executor_without_ray(monkeypatch, tmp_path / "scratch", "a", "b")
        with contextlib.closing(executor):
            executor.submit(spec)
            found.append(until(executor, lambda events: ended(events, spec)))
        done = found[-1][-1]
        assert isinstance(done, Done) and done.facts.video_error is None
        run = spec.out / done.run
        assert (run / "annotated.mp4").stat().st_size > 0
        if len(found) == 1:
            tables = {each.name: each.read_bytes() for each in run.glob("*.parquet")}
            info = json.loads((run / "run.json").read_bytes())
            (run / "annotated.mp4").unlink()
            info |= {"annotated": {"file": None, "error": "interrupted"} | hashes} | dict.fromkeys(hashes)
            (run / "run.json").write_text(json.dumps(info))
    assert any(isinstance(event, Segment) for event in found[0])
    assert not any(isinstance(event, Opened | Segment) for event in found[1]), "nothing is analyzed again"
    assert tables and {each.name: each.read_bytes() for each in run.glob("*.parquet")} == tables
