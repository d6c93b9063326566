"""Jobs on a Ray cluster: machines that are lost, refused or late, and results that do not depend on them."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from analyzer.batch.executors import ray as ray_module
from analyzer.batch.executors import ray_cluster, units
from analyzer.batch.executors import station as station_module
from analyzer.batch.executors.base import WorkerState
from analyzer.batch.executors.commits import store
from analyzer.batch.executors.local import Prepare
from analyzer.batch.executors.node_files import SourceFile
from analyzer.batch.executors.ray import RayExecutor
from analyzer.batch.executors.station import Assignment, Packed, Report, Station, models_hash_here
from analyzer.batch.executors.units import Job, Unit
from analyzer.batch.failure_policy import Phase
from analyzer.batch.protocol import (
    FINAL,
    Done,
    Failed,
    JobEvent,
    JobSpec,
    Moved,
    Opened,
    Placed,
    Progress,
    ProtocolError,
    Ready,
    Resources,
    Segment,
    Stopped,
    encode,
)
from analyzer.errors import ClusterError
from analyzer.runs.segments import PartStore
from analyzer.settings import Settings
from testkit.clusters import cluster
from testkit.media import numbered, write_video
from tests.batch_faults import (
    SEGMENTS,
    acts,
    loses_its_parent_at_once,
    loses_its_parent_later,
    marked,
    without_models,
)
from tests.test_batch_executors import at_work, ended, job, of, segments, until

MEMORY_MB = 100

Make = Callable[..., RayExecutor]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The machines' folders for temporary files."""
    parent = tmp_path_factory.mktemp("machines")
    return [parent / "0", parent / "1"]


@pytest.fixture(scope="module")
def machines(folders: list[Path]) -> Iterator[Any]:
    """A cluster of two machines, each with room for two stations of one processor."""
    with cluster(2, 2, apart=folders[0].parent) as made:
        yield made


@pytest.fixture
def make(machines: Any, tmp_path: Path) -> Iterator[Make]:
    """Makes executors, which are closed afterwards; they leave nothing on the machines."""
    scratch = tmp_path / "scratch"
    with contextlib.ExitStack() as stack:

        def made(slots: int, prepare: Prepare | None = without_models, **more: Any) -> RayExecutor:
            chosen = {"cpus": 1, "memory_mb": MEMORY_MB, "scratch": scratch} | more
            return stack.enter_context(contextlib.closing(RayExecutor(slots, prepare=prepare, **chosen)))

        yield made


@pytest.fixture(scope="module")
def slow_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video that takes some seconds, in `SEGMENTS` segments."""
    path = write_video(tmp_path_factory.mktemp("slow") / "slow.mp4", numbered(5), fps=5)
    path.write_bytes(marked(path, "slow"))
    return path


def slow(out: Path, path: Path) -> JobSpec:
    spec = job(out)
    return replace(spec, video=replace(spec.video, paths=(path,)))


def pid_of(executor: RayExecutor, spec: JobSpec) -> int:
    """Of the actor that works on a job."""
    (found,) = (one.pid for one in executor.workers() if one.job_id == spec.job_id)
    assert found is not None
    return found


def some(spec: JobSpec, count: int) -> Callable[[list[JobEvent]], bool]:
    """Whether so many segments are finished."""
    return lambda events: len(segments(of(spec, events))) >= count


def check_done(spec: JobSpec, events: list[JobEvent]) -> None:
    """Each segment was finished once, and nothing but the run is left."""
    assert isinstance(events[-1], Done), events
    assert sorted(segments(events)) == list(range(SEGMENTS))
    assert [path.name for path in (spec.out / events[-1].run).iterdir()] == ["run.json"]


def gone(pids: list[int]) -> bool:
    deadline = time.monotonic() + 30
    while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


# --- machines that are lost --------------------------------------------------------------------------


def test_a_lost_actor_is_replaced_and_its_job_continues(make: Make, slow_file: Path, tmp_path: Path) -> None:
    executor, spec = make(1), slow(tmp_path / "out", slow_file)
    executor.submit(spec)
    before = until(executor, some(spec, 2))
    pid = pid_of(executor, spec)
    children = [child.pid for child in psutil.Process(pid).children()]
    assert children
    os.kill(pid, signal.SIGKILL)
    events = before + until(executor, lambda events: ended(events, spec))
    check_done(spec, events)
    (moved,) = (event for event in events if isinstance(event, Moved))
    assert (
        moved.node and moved.reason == f"the worker on {moved.node} was lost: its process ended unexpectedly"
    )
    assert len([event for event in events if isinstance(event, Placed)]) == 2
    again = [event for event in events if isinstance(event, Opened)][-1]
    assert list(again.completed) == segments(events[: events.index(moved)]), "it continues where it was"
    assert gone(children), "they die with their actor"


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("prepare", [loses_its_parent_at_once, loses_its_parent_later])
def test_an_actor_that_dies_after_a_segment_costs_nothing(
    prepare: Prepare, workers: int, make: Make, slow_file: Path, tmp_path: Path
) -> None:
    """Whether or not the segment has arrived; with two stations it is the last of a range."""
    path = shutil.copy(slow_file, tmp_path / "clip.mp4")
    executor, spec = make(2, prepare), slow(tmp_path / "out", path)
    spec = replace(spec, resources=Resources(workers=workers))
    executor.submit(spec)
    events = until(executor, lambda events: ended(events, spec))
    check_done(spec, events)
    assert (tmp_path / "clip.done").exists()
    assert len([event for event in events if isinstance(event, Moved)]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("graceful", [True, False])
def test_a_removed_machine_costs_no_segment(
    graceful: bool, make: Make, machines: Any, slow_file: Path, tmp_path: Path
) -> None:
    node = machines.add_node(num_cpus=2, include_dashboard=False)
    executor = make(3, cpus=2)
    specs = [slow(tmp_path / "out", slow_file) for _ in range(3)]
    for spec in specs:
        executor.submit(spec)
    before = until(executor, lambda events: all(some(spec, 1)(events) for spec in specs))
    machines.remove_node(node, allow_graceful=graceful)
    events = before + until(executor, lambda events: ended(before + events, *specs))
    # A worker may finish what it does before a machine leaves in order.
    assert graceful or any(isinstance(event, Moved) for event in events)
    for spec in specs:
        check_done(spec, of(spec, events))


@pytest.mark.slow
def test_a_station_that_does_not_answer_is_lost(
    make: Make, slow_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_module, "_SILENT_S", 8.0)
    executor, spec = make(1), slow(tmp_path / "out", slow_file)
    executor.submit(spec)
    before = until(executor, some(spec, 1))
    os.kill(pid_of(executor, spec), signal.SIGSTOP)
    events = before + until(executor, lambda events: ended(events, spec))
    check_done(spec, events)
    (moved,) = (event for event in events if isinstance(event, Moved))
    assert "did not answer" in moved.reason


@pytest.mark.slow
def test_slots_follow_the_machines(make: Make, machines: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless their number is configured."""
    monkeypatch.setattr(ray_module, "_LOOK_UP_S", 0.5)
    executor, fixed = make(0), make(1)

    def look(slots: int) -> None:
        until_slots = time.monotonic() + 60
        while executor.slots != slots or len(executor.workers()) != slots:
            assert time.monotonic() < until_slots, executor.workers()
            assert list(executor.events(0.1)) == list(fixed.events(0)) == []

    look(4)
    node = machines.add_node(num_cpus=2, include_dashboard=False)
    look(6)
    assert executor.threads == 6
    while any(worker.state is not WorkerState.IDLE for worker in executor.workers()[:5]):
        assert list(executor.events(0.1)) == []
    machines.remove_node(node)
    look(4)
    assert (fixed.slots, len(fixed.workers())) == (1, 1)


@pytest.mark.slow
def test_a_job_that_loses_every_station_fails(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first segment is finished once, and after that there is no progress."""
    monkeypatch.setattr(ray_module, "_MAX_LOSSES", 2)
    executor, spec = make(1, acts), job(tmp_path / "out", "deaf")
    executor.submit(spec)
    events = until(executor, at_work(spec))
    for _ in range(2):
        assert not ended(events, spec)
        os.kill(pid_of(executor, spec), signal.SIGKILL)
        more = until(
            executor, lambda more: ended(more, spec) or any(isinstance(each, Opened) for each in more)
        )
        events += more
    failed = events[-1]
    assert isinstance(failed, Failed) and (failed.kind, failed.phase) == ("lost", Phase.ANALYZE)
    assert segments(events) == [0]
    after = job(tmp_path / "out")
    executor.submit(after)
    assert isinstance(until(executor, lambda events: ended(events, after))[-1], Done)


# --- videos that are spread over stations ------------------------------------------------------------


def spread(out: Path, path: Path) -> JobSpec:
    return replace(slow(out, path), resources=Resources(workers=2))


def ranges(events: list[JobEvent]) -> list[tuple[int, int]]:
    return [event.segments for event in events if isinstance(event, Placed) and event.segments is not None]


@pytest.mark.slow
def test_a_video_is_spread_over_stations(make: Make, slow_file: Path, tmp_path: Path) -> None:
    executor, spec = make(2), spread(tmp_path / "out", slow_file)
    executor.submit(spec)
    before = until(executor, some(spec, 1))
    assert [worker.job_id for worker in executor.workers()] == [spec.job_id] * 2
    events = before + until(executor, lambda events: ended(events, spec))
    check_done(spec, events)
    opening, *taken = ranges(events)
    assert opening == (0, 0) and len(taken) > 2, taken
    covered = {segment for first, stop in taken for segment in range(first, stop)}
    assert covered == set(range(SEGMENTS - 1)), "all but the end, which the whole job reads"
    kinds = [type(event) for event in events if isinstance(event, Ready | Opened | Done)]
    assert kinds == [Ready, Opened, Done]
    done_s = [event.time_s for event in events if isinstance(event, Progress)]
    assert done_s == sorted(done_s)


@pytest.mark.slow
def test_a_spread_video_survives_its_stations(make: Make, slow_file: Path, tmp_path: Path) -> None:
    """Ranges that were lost are taken by others; nothing is analyzed twice."""
    executor, spec = make(2), spread(tmp_path / "out", slow_file)
    executor.submit(spec)
    before = until(executor, some(spec, 2))
    pids = [worker.pid for worker in executor.workers() if worker.job_id == spec.job_id]
    os.kill(pids[0] or 0, signal.SIGKILL)
    events = before + until(executor, lambda events: ended(events, spec))
    check_done(spec, events)
    assert len([event for event in events if isinstance(event, Moved)]) == 1


@pytest.mark.slow
def test_an_idle_station_analyzes_what_another_does_not_finish(
    make: Make, slow_file: Path, tmp_path: Path
) -> None:
    executor, spec = make(2), spread(tmp_path / "out", slow_file)
    executor.submit(spec)
    before = until(executor, some(spec, 2))
    first, *_ = (worker.pid for worker in executor.workers() if worker.job_id == spec.job_id)
    station = psutil.Process(first)
    for process in (station, *station.children()):
        process.suspend()
    events = before + until(executor, lambda events: ended(events, spec))
    check_done(spec, events)
    assert not [event for event in events if isinstance(event, Moved)], "it is not known to be lost"
    assert gone([first or 0]), "it is ended where it is in the way"


@pytest.mark.slow
def test_a_job_goes_before_further_segments_of_another(make: Make, slow_file: Path, tmp_path: Path) -> None:
    executor, long = make(2), spread(tmp_path / "out", slow_file)
    executor.submit(long)
    before = until(executor, some(long, 2))
    short = job(tmp_path / "out")
    executor.submit(short)
    events = before + until(executor, lambda events: ended(events, short))
    assert not ended(events, long)
    executor.cancel(long.job_id)
    stopped = until(executor, lambda events: ended(events, long))
    assert stopped[-1] == Stopped(long.job_id)
    again = spread(tmp_path / "out", slow_file)
    again = replace(again, video=long.video)
    executor.submit(again)
    events = until(executor, lambda events: ended(events, again))
    (opened,) = (event for event in events if isinstance(event, Opened))
    assert len(opened.completed) >= 2, "what was finished is on the disk"
    check_done(again, [*(Segment(0, number, 0, 0, 0) for number in opened.completed), *events])


# --- how videos reach the machines ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "receivers",
    [
        pytest.param((1, 1e12, 1), id="whole", marks=pytest.mark.slow),
        pytest.param((2, 1e12, 2), id="spread"),
        pytest.param((2, 1.0, 1), id="spread over one, since sending takes long", marks=pytest.mark.slow),
    ],
)
def test_a_video_is_sent_to_machines_that_do_not_see_it(
    receivers: tuple[int, float, int],
    make: Make,
    folders: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In several pieces, once to each machine, and nothing of it stays there."""
    workers, sent_bytes_per_s, expected = receivers
    monkeypatch.setattr(units, "_SENT_BYTES_PER_S", sent_bytes_per_s)
    path = tmp_path / "clip.mp4"
    path.write_bytes(bytes(20 * 2**20))
    path.write_bytes(marked(path, "slow"))
    executor = make(2, cpus=2, source="send", scratch=None)
    while [worker.state for worker in executor.workers()] != [WorkerState.IDLE] * 2:
        assert list(executor.events(0.1)) == []
    spec = replace(slow(tmp_path / "out", path), resources=Resources(workers=workers))
    executor.submit(spec)
    before = until(executor, some(spec, 5))
    copies = [copy for folder in folders for copy in folder.rglob("*.mp4")]
    assert len(copies) == expected
    assert all(copy.read_bytes() == path.read_bytes() for copy in copies)
    sent = {copy: copy.stat().st_mtime_ns for copy in copies}
    before += until(executor, some(spec, 1))
    assert all(copy.stat().st_mtime_ns == when for copy, when in sent.items()), "each was sent once"
    check_done(spec, before + until(executor, lambda events: ended(events, spec)))
    until(executor, lambda events: not any(copy.exists() for copy in copies))


def test_segments_of_a_run_that_is_published_already_are_reported(tmp_path: Path) -> None:
    """Their parts may be gone before they were packed; the files of the run follow."""
    station, event = Station(1, str(tmp_path), None), Segment(1, 0, 2, 3, 4)
    station._report(Opened(1, "key", (), 1, None))
    station._report(event)
    assert [(report.event, report.part) for report in station.poll(1, 0)][1:] == [(event, None)]
    station.close()
    assert not list(tmp_path.glob("*/station-*"))


def test_a_segment_that_comes_after_all_others_leaves_nothing_in_a_published_run(tmp_path: Path) -> None:
    there, run = PartStore(tmp_path / "there", "key"), tmp_path / "run"
    there.commit_empty(0)
    job_here = Job(job(tmp_path), run, run / ".new", contextlib.ExitStack())
    unit = Unit(job_here, (0, 1))
    report = Report(Segment(1, 0, 0, 0, 0), Packed("key", 0, there.pack(0)))
    job_here.finishing = True
    assert store(unit, [report]).events == [report.event] and not run.exists()
    job_here.finishing = False
    assert store(unit, [report]).events == [report.event]
    assert PartStore(run, "key").segments() == [0]


def test_a_station_waits_while_much_of_what_it_has_found_was_not_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So what is in flight is bounded, however slow the batch's machine is."""
    monkeypatch.setattr(station_module, "_MOST_BYTES", 100)
    reports = station_module._Reports()
    put: list[int] = []

    def report() -> None:
        for number in range(6):
            reports.put(Report(Segment(1, number, 0, 0, 0)), 60)
            put.append(number)

    thread = threading.Thread(target=report)
    thread.start()
    thread.join(0.3)
    assert len(put) <= 2, "of 60 bytes each"
    found = []
    while len(found) < 6:
        found += reports.take(10, 0)
        assert len(put) <= len(found) + 2
    thread.join()
    assert [report.event for report in found] == [Segment(1, number, 0, 0, 0) for number in range(6)]


@pytest.mark.parametrize("key", ["../key", "a/b", ""])
def test_keys_of_parts_that_stations_send_are_plain_names(key: str, tmp_path: Path) -> None:
    """They become part of paths; objects that are sent are made without the checks of their classes."""
    there = PartStore(tmp_path / "there", "key")
    there.commit_empty(0)
    opened, run = Opened(1, "key", (), 1, None), tmp_path / "out/run"
    object.__setattr__(opened, "parts_key", key)
    unit = Unit(Job(job(tmp_path), run, run / ".new", contextlib.ExitStack()))
    for report in (Report(opened), Report(part=Packed(key, 0, there.pack(0)))):
        stored = store(unit, [report])
        assert isinstance(stored.error, ProtocolError) and stored.events == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there"]


def test_a_process_may_get_another_part_of_a_job_that_was_canceled_in_it(tmp_path: Path) -> None:
    station, patient = Station(1, str(tmp_path / "scratch"), acts), job(tmp_path, "patient")
    models = models_hash_here(patient.settings)

    def begin(number: int, spec: JobSpec) -> None:
        assert station.submit(Assignment(number, encode(spec), models, None, (), "auto"), []) is None

    def until_one(kind: type[JobEvent]) -> list[JobEvent]:
        events: list[JobEvent] = []
        while not (events and isinstance(events[-1], kind)):
            assert not (events and isinstance(events[-1], FINAL)), events
            events += [report.event for report in station.poll(60, 0) if report.event is not None]
        return events

    try:
        begin(7, patient)
        until_one(Segment)
        station.cancel(7)
        assert until_one(Stopped)[-1] == Stopped(patient.job_id)
        begin(8, replace(patient, video=replace(patient.video, title="Talk")))
        station.cancel(7)  # too late for anything
        events = until_one(Done)
        assert {event.job_id for event in events} == {patient.job_id}
    finally:
        station.close()


def test_a_station_takes_no_piece_that_another_job_has_wanted(slow_file: Path, tmp_path: Path) -> None:
    """Ray may carry out calls in another order. A job that cannot begin after that fails."""
    station, spec = Station(1, str(tmp_path / "scratch"), acts), slow(tmp_path, slow_file)
    spec = replace(spec, video=replace(spec.video, fetched=True), settings=Settings(keep_download=True))
    files, models = (SourceFile.of(slow_file),), models_hash_here(spec.settings)
    try:
        assert station.submit(Assignment(7, encode(spec), models, None, files, "send"), []) is None
        (asked,) = station.poll(60, 0)
        assert asked.wanted is not None and asked.wanted.size == slow_file.stat().st_size
        (station._folder / "out" / "download").mkdir()
        station.give(6, bytes(asked.wanted.size))
        station.give(7, slow_file.read_bytes())
        (report,) = station.poll(60, 0)
        assert isinstance(report.event, Failed) and "download" in report.event.error, report
    finally:
        station.close()


def test_a_station_that_is_closed_keeps_nothing_of_a_file_that_arrives(
    slow_file: Path, tmp_path: Path
) -> None:
    station, spec = Station(1, str(tmp_path / "scratch"), acts), slow(tmp_path, slow_file)
    files, models = (SourceFile.of(slow_file),), models_hash_here(spec.settings)
    assert station.submit(Assignment(7, encode(spec), models, None, files, "send"), []) is None
    assert station.poll(60, 0)[0].wanted is not None
    station.close()
    assert {path.name for path in (tmp_path / "scratch").rglob("*") if path.is_file()} == {".lock"}


def test_a_full_disk_when_a_job_begins_is_the_machines_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    station, spec = Station(1, str(tmp_path / "scratch"), acts), job(tmp_path)
    assignment = Assignment(7, encode(spec), models_hash_here(spec.settings), None, (), "auto")

    def full(*arguments: Any) -> bool:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(PartStore, "unpack", full)
    problem = station.submit(assignment, [Packed("key", 0, b"")])
    assert problem is not None and problem.startswith("cannot analyze videos: no space is left")
    station.close()


# --- jobs that are canceled, executors that are closed -------------------------------------------------


def test_a_job_that_waits_for_a_machine_can_be_canceled(make: Make, tmp_path: Path) -> None:
    executor, spec = make(1, cpus=64), job(tmp_path / "out")
    executor.submit(spec)
    assert list(executor.events(0.2)) == []
    assert [worker.state for worker in executor.workers()] == [WorkerState.PENDING]
    executor.cancel(spec.job_id)
    assert list(executor.events(0)) == [Stopped(spec.job_id)]
    assert not any((tmp_path / "out").iterdir()), "the folder is free again"


@pytest.mark.slow
def test_a_pending_station_holds_up_no_job(make: Make, slow_file: Path, tmp_path: Path) -> None:
    executor = make(4, cpus=2)
    specs = [slow(tmp_path / "out", slow_file) for _ in range(4)]
    for spec in specs:
        executor.submit(spec)
    events = until(executor, lambda events: ended(events, *specs))
    for spec in specs:
        check_done(spec, of(spec, events))
    states = [worker.state for worker in executor.workers()]
    assert sorted(states) == [WorkerState.IDLE] * 2 + [WorkerState.PENDING] * 2


def test_closing_ends_actors_and_their_processes(make: Make, tmp_path: Path) -> None:
    executor = make(2, acts)
    specs = [job(tmp_path / "out", "deaf") for _ in range(2)]
    for spec in specs:
        executor.submit(spec)
    until(executor, at_work(*specs))
    pids = [pid_of(executor, spec) for spec in specs]
    pids += [child.pid for pid in pids for child in psutil.Process(pid).children(recursive=True)]
    assert len(pids) >= 4
    executor.close()
    executor.close()
    assert gone(pids) and executor.workers() == []
    assert not list((tmp_path / "scratch").rglob("*.parquet")), "nothing of a video stays on the machines"


# --- machines that differ ------------------------------------------------------------------------------


def test_machines_must_be_alike(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    found = make(1).check([Settings(), Settings(fps=1)])
    assert len(found) == 2 and not any(each.pid == os.getpid() or each.problem for each in found)
    with pytest.raises(ClusterError, match="64 processors"):
        make(1, cpus=64).check([])
    with monkeypatch.context() as patch, pytest.raises(ClusterError, match=r"has av .*, this machine 0\.1"):
        patch.setattr(ray_cluster, "versions", lambda: {"av": "0.1"})
        make(1).check([Settings()])
    monkeypatch.setattr(ray_cluster, "models_hash_here", lambda settings: "abc")
    with pytest.raises(ClusterError, match=r"other models .* than this machine \(abc\)"):
        make(1).check([Settings()])
