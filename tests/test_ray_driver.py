"""What the driver of a cluster decides: a test double in place of Ray; the analyzing processes are real."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError

from analyzer.batch.config import Retry, jobs_of
from analyzer.batch.context import default_fetcher
from analyzer.batch.executors import commits, ray_cluster
from analyzer.batch.executors import ray as ray_module
from analyzer.batch.executors.base import MachineLostError, WorkerState
from analyzer.batch.executors.local import LocalExecutor, Prepare
from analyzer.batch.executors.node_files import SourceFile
from analyzer.batch.executors.ray import RayExecutor
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
    Moved,
    Opened,
    Placed,
    Resources,
    Segment,
    Stopped,
    decode_command,
)
from analyzer.batch.scheduler import Scheduler
from analyzer.cli.batch_commands import _code
from analyzer.cli.options import TEMPORARY
from analyzer.errors import ClusterError
from analyzer.runs.transfer import RunReceiver
from analyzer.settings import Settings
from analyzer.sources.types import Item, MediaKind, Video
from analyzer.vision.selection import models_hash
from testkit.media import numbered, write_video
from testkit.ray_double import RayDouble, executor_without_ray
from tests.batch_faults import (
    EACH_S,
    POISON,
    SEGMENTS,
    acts,
    busy,
    cannot_load,
    loads_forever,
    marked,
    poisoned,
    without_models,
)
from tests.test_batch_executors import at_work, ended, job, of, segments, until

Make = Callable[..., tuple[RayExecutor, RayDouble]]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes executors with a station on each of the machines that are named; they are closed afterwards."""
    with contextlib.ExitStack() as stack:

        def made(*nodes: str, prepare: Prepare | None = without_models, **more: Any) -> Any:
            scratch = tmp_path / "scratch"
            executor, double = executor_without_ray(monkeypatch, scratch, *nodes, prepare=prepare, **more)
            stack.callback(double.shutdown)
            return stack.enter_context(contextlib.closing(executor)), double

        yield made


@pytest.fixture(scope="module")
def slow_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video that takes some seconds, in `SEGMENTS` segments."""
    path = write_video(tmp_path_factory.mktemp("slow") / "slow.mp4", numbered(5), fps=5)
    path.write_bytes(marked(path, "slow"))
    return path


def slow(out: Path, path: Path, **resources: Any) -> JobSpec:
    """The job of a video that takes some seconds."""
    spec = job(out, resources=Resources(**resources))
    return replace(spec, video=replace(spec.video, paths=(path,)))


def test_a_segment_that_ends_its_process_costs_no_other_and_fails_as_on_one_machine(
    make: Make, slow_file: Path, tmp_path: Path
) -> None:
    """Another attempt follows when all others are done; attempts that get nowhere are counted."""
    found = []
    on_two, _ = make("a", "b", prepare=poisoned)
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
    limits: dict[str, float], kind: str, make: Make, slow_file: Path, tmp_path: Path
) -> None:
    """No range exceeds them."""
    executor, _ = make("a", "b", prepare=busy)
    spec = slow(tmp_path / "out", slow_file, workers=2, **limits)
    executor.submit(spec)
    failed = until(executor, lambda events: ended(events, spec))[-1]
    assert failed == Failed(spec.job_id, kind, Phase.ANALYZE, CRASHES[kind])


def test_a_cancel_waits_for_a_run_that_is_being_published(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the disk takes."""
    executor, _ = make("a", prepare=acts)
    spec, published = job(tmp_path / "out"), RunReceiver.publish

    def slowly(*arguments: Any, **options: Any) -> Any:
        executor.cancel(spec.job_id)
        time.sleep(2 * ray_module._CANCEL_S)
        return published(*arguments, **options)

    monkeypatch.setattr(RunReceiver, "publish", slowly)
    executor.submit(spec)
    done = until(executor, lambda events: ended(events, spec))[-1]
    assert executor.workers()[0].state is WorkerState.IDLE, "it goes on"
    assert isinstance(done, Done) and (tmp_path / "out" / done.run / "run.json").exists()


def test_no_station_keeps_the_files_of_a_job_that_ends_while_it_is_given_some(
    make: Make, slow_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    scratch, spec = tmp_path / "scratch", slow(tmp_path / "out", slow_file, workers=2)
    executor, _ = make("a", "a", prepare=busy, source="send")
    executor.submit(spec)
    until(executor, lambda events: given.is_set())
    assert list(scratch.rglob(slow_file.name))
    executor.cancel(spec.job_id)
    until(executor, lambda events: ended(events, spec))
    deadline = time.monotonic() + 10
    while list(scratch.rglob(slow_file.name)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(scratch.rglob(slow_file.name)) == []


# --- stations that are lost -----------------------------------------------------------------------------


def test_the_ledger_has_an_attempt_for_each_lost_machine(make: Make, slow_file: Path, tmp_path: Path) -> None:
    jobs = jobs_of([str(slow_file)], Settings(video=False), out=tmp_path / "out", report=())
    (executor, ray), lost = make("a", "b", slots=1), list[str]()

    def on_event(name: str, id: int | None, facts: dict[str, Any]) -> None:
        if name == "segment_committed" and facts["segment"] == 2 and not lost:
            (worker,) = executor.workers()
            lost.append(worker.node)
            ray.lose(worker.node)

    outcome = Scheduler(jobs, executor, on_event=on_event).run()
    assert outcome.done == 1 and outcome.well and lost == ["a"]
    with Ledger(jobs.ledger, read_only=True) as ledger:
        history = ledger.history(1)
    first, second = history["attempts_list"]
    assert (first["outcome"], first["error_kind"], second["outcome"]) == ("interrupted", "lost", "done")
    assert "was lost" in first["error"] and history["attempts"] == 2 and history["interrupted"] == 0
    assert [one["segment"] for one in history["segments_list"]] == list(range(SEGMENTS))
    logged = [json.loads(line) for line in jobs.log.read_text().splitlines()]
    (moved,) = (one for one in logged if one["event"] == "moved")
    assert moved["attempt"] == 2 and moved["node"] == "a"
    committed = [one["segment"] for one in logged if one["event"] == "segment_committed"]
    assert committed == list(range(SEGMENTS)), "no segment is finished twice"


def test_a_removed_machine_costs_no_segment(make: Make, slow_file: Path, tmp_path: Path) -> None:
    executor, ray = make("a", "b", "b")
    specs = [slow(tmp_path / "out", slow_file) for _ in range(3)]
    for spec in specs:
        executor.submit(spec)
    before = until(executor, lambda events: all(segments(of(spec, events)) for spec in specs))
    ray.lose("b")
    events = before + until(executor, lambda events: ended(before + events, *specs))
    assert [event.node for event in events if isinstance(event, Moved)] == ["b", "b"]
    for spec in specs:
        mine = of(spec, events)
        assert isinstance(mine[-1], Done) and sorted(segments(mine)) == list(range(SEGMENTS))


def test_slots_follow_the_machines(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_module, "_LOOK_UP_S", 0.1)
    executor, ray = make("a", "a", "b", slots=0)

    def look(slots: int) -> None:
        deadline = time.monotonic() + 60
        while any(each.state is not WorkerState.IDLE for each in executor.workers()) or (
            executor.slots != slots or len(executor.workers()) != slots
        ):
            assert time.monotonic() < deadline, executor.workers()
            assert list(executor.events(0.1)) == []

    look(3)
    ray.lose("b")
    look(2)
    ray.living.append("b")
    look(3)


def test_a_spread_video_fails_when_no_machine_is_left(make: Make, slow_file: Path, tmp_path: Path) -> None:
    """Though nothing of it waits but segments."""
    (executor, _), spec = make("a", "b"), slow(tmp_path / "out", slow_file, workers=2)
    executor.submit(spec)
    until(executor, segments)
    for actor in list(executor._actors):
        executor._refuse(actor, "its disk is full")
    failed = until(executor, lambda events: ended(events, spec))[-1]
    assert isinstance(failed, Failed) and (failed.kind, failed.error) == ("start", "its disk is full")


def test_a_station_that_cannot_be_given_a_piece_of_its_video_is_replaced(
    make: Make, slow_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would wait for the piece, though it is alive."""
    broken = ActorUnavailableError("the connection is broken", None)
    monkeypatch.setattr(RayDouble, "failing", {"give": [broken]})
    (executor, _), spec = make("a", prepare=acts, source="send"), slow(tmp_path / "out", slow_file)
    executor.submit(spec)
    events = until(executor, lambda events: ended(events, spec))
    assert isinstance(events[-1], Done)
    (moved,) = (event for event in events if isinstance(event, Moved))
    assert moved.reason == "the worker on a was lost: it could not be reached"


def test_jobs_fail_when_no_station_can_start(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the reason, nobody waits for ever."""
    monkeypatch.setattr(ray_module, "_LOOK_UP_S", 0.01)
    monkeypatch.setattr(RayDouble, "failing", {"facts": [ActorDiedError() for _ in range(99)]})
    (executor, _), spec = make("a"), job(tmp_path / "out")
    executor.submit(spec)
    failed = until(executor, lambda events: ended(events, spec))[-1]
    assert isinstance(failed, Failed) and (failed.kind, failed.phase) == ("start", Phase.LOAD)
    assert failed.error.startswith("no worker can start on the cluster: ")


# --- what a station cannot do ---------------------------------------------------------------------------


def test_a_shared_video_that_no_machine_sees_fails_alone(
    make: Make, slow_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor, _ = make("a", prepare=acts, source="shared")
    spec, other = slow(tmp_path / "out", slow_file), job(tmp_path / "out")
    threads = []

    def other_files(video: Video) -> tuple[SourceFile, ...]:
        threads.append(threading.current_thread())
        return (SourceFile(slow_file, "0" * 64, 1),)

    with monkeypatch.context() as patch:
        patch.setattr(commits, "source_files", other_files)
        executor.submit(spec)
        failed = until(executor, lambda events: ended(events, spec))[-1]
    assert isinstance(failed, Failed) and (failed.kind, failed.phase) == ("output", Phase.ANALYZE)
    assert f"does not see {slow_file}" in failed.error
    assert threads and threading.main_thread() not in threads, "a folder of many images takes a while"
    executor.submit(other)
    assert isinstance(until(executor, lambda events: ended(events, other))[-1], Done)


def test_a_job_whose_models_are_being_loaded_can_be_canceled(make: Make, tmp_path: Path) -> None:
    (executor, _), spec = make("a", prepare=loads_forever), job(tmp_path / "out")
    executor.submit(spec)
    until(executor, lambda events: any(isinstance(event, Placed) for event in events))
    executor.cancel(spec.job_id)
    assert until(executor, lambda events: ended(events, spec)) == [Stopped(spec.job_id)]


def test_a_machine_that_cannot_load_the_models_gets_no_jobs(make: Make, tmp_path: Path) -> None:
    (executor, _), spec = make("a", prepare=cannot_load), job(tmp_path / "out")
    executor.submit(spec)
    events = until(executor, lambda events: ended(events, spec))
    failed = events[-1]
    assert any(isinstance(event, Moved) for event in events), "another machine might have been able to"
    assert isinstance(failed, Failed) and (failed.kind, failed.phase) == ("start", Phase.LOAD)
    assert "bad allocation" in failed.error


@pytest.mark.parametrize("what", ["versions", "models"])
def test_a_machine_that_differs_gets_no_jobs(
    what: str, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that comes later: those that are there before any work are checked then."""
    if what == "versions":
        monkeypatch.setattr(ray_cluster, "versions", lambda: {"av": "0.1"})
    else:
        monkeypatch.setattr(ray_module, "models_hash_here", lambda settings: "abc")
    (executor, _), spec = make("a"), job(tmp_path / "out")
    executor.submit(spec)
    failed = until(executor, lambda events: ended(events, spec))[-1]
    assert isinstance(failed, Failed) and (failed.kind, failed.phase) == ("start", Phase.LOAD)
    assert ("0.1" if what == "versions" else "other models") in failed.error


# --- a cluster that is lost -----------------------------------------------------------------------------


def test_a_cluster_that_is_lost_ends_the_batch_run_as_it_should(
    make: Make, slow_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its outcome in the log and the ledger; the same command continues."""
    jobs = jobs_of([str(slow_file)], Settings(video=False), out=tmp_path / "out", report=())

    def fail(*arguments: Any, **options: Any) -> Any:
        raise ConnectionError("GCS is not available")

    def on_event(name: str, id: int | None, facts: dict[str, Any]) -> None:
        if name == "segment_committed":
            monkeypatch.setattr(ray_module.ray, "wait", fail)

    executor, _ = make("a")
    with contextlib.closing(executor):
        outcome = Scheduler(jobs, executor, on_event=on_event).run()
    assert outcome.reason == "cluster" and "GCS is not available" in (outcome.error or "")
    assert outcome.left == 1
    assert _code(outcome, [], 1) == TEMPORARY
    *_, last = (json.loads(line) for line in jobs.log.read_text().splitlines())
    assert (last["event"], last["reason"]) == ("batch_ended", "cluster")
    executor, _ = make("a")
    assert Scheduler(jobs, executor).run().done == 1
    with Ledger(jobs.ledger, read_only=True) as ledger:
        history = ledger.history(1)
    assert [one["outcome"] for one in history["attempts_list"]] == ["stopped", "done"]


def test_a_cluster_that_is_gone_stops_all_jobs(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (executor, ray), spec = make("a", prepare=acts), job(tmp_path / "out", "deaf")
    executor.submit(spec)
    until(executor, at_work(spec))

    def fail(*arguments: Any, **options: Any) -> Any:
        raise ConnectionError("GCS is not available")

    with monkeypatch.context() as patch:
        patch.setattr(ray, "wait", fail)
        with pytest.raises(ClusterError, match=r"does not answer any more .*GCS is not available"):
            list(executor.events(0.1))
    assert list(executor.events(0)) == [Stopped(spec.job_id)]


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


@pytest.mark.slow
def test_of_a_run_without_its_annotated_video_only_that_is_made(make: Make, tmp_path: Path) -> None:
    """As on one machine, though the station has no files but those that it is sent."""
    settings = Settings(fps=2, segment_s=2, threads=1)
    path = write_video(tmp_path / "talk.mp4", numbered(20), fps=5)
    spec = job(tmp_path / "out", resources=Resources(workers=2))
    hashes = {"settings_hash": settings.result_hash(), "models_hash": models_hash(settings)}
    spec = replace(spec, settings=settings, video=replace(spec.video, paths=(path,)), **hashes)
    found: list[list[JobEvent]] = []
    for _ in range(2):
        executor, _ = make("a", "b", prepare=None)
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
