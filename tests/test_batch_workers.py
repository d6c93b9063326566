"""What the workers of a batch run do: in the ledger, and as ``batch status`` shows it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from analyzer.batch.config import jobs_of
from analyzer.batch.executors.base import WorkerState, WorkerStatus
from analyzer.batch.executors.inline import InlineExecutor
from analyzer.batch.ledger import Ledger, WorkerRow, lock_ledger
from analyzer.batch.scheduler import Scheduler
from analyzer.batch.workers import Node, by_node, judged, rows_of
from analyzer.cli import cli
from analyzer.settings import Settings
from testkit.media import numbered, write_video
from tests.batch_faults import SEGMENTS, FakeClock, Quick, marked

NOW = 1_700_000_000.0


def working(worker: int, done_s: float, since_s: float = 100.0, **more: Any) -> tuple[WorkerRow, str]:
    known = {"node": "a", "pid": 7, "state": WorkerState.WORKING, "video": 1, "expected_s": 600.0}
    known |= {"first_segment": None, "end_segment": None, "seen_at": NOW, "since": NOW - since_s}
    return WorkerRow(worker=worker, done_s=done_s, **known | more), "Talk"


def idle(worker: int, state: WorkerState = WorkerState.IDLE, node: str = "a") -> tuple[WorkerRow, str]:
    return working(worker, 0.0, state=state, video=None, node=node)


def stragglers(*rows: tuple[WorkerRow, str]) -> dict[int, str]:
    return {one.worker: one.straggler for one in judged(rows) if one.straggler is not None}


# --- comparison --------------------------------------------------------------------------------------


def test_a_worker_with_a_third_of_the_usual_rate_is_slow() -> None:
    usual = [working(number, 300.0) for number in range(3)]
    assert stragglers(*usual, working(9, 101.0)) == {}
    assert stragglers(*usual, working(9, 99.0)) == {9: "slow"}
    assert [one.rate for one in judged([working(1, 300.0)])] == [3.0]


def test_a_worker_that_takes_three_times_as_long_is_late() -> None:
    usual = [working(number, 300.0) for number in range(3)]
    assert stragglers(*usual, working(9, 900.0, 300.0)) == {}
    assert stragglers(*usual, working(9, 903.0, 301.0)) == {9: "long"}
    short = [working(number, 30.0, 10.0) for number in range(3)]
    assert stragglers(*short, working(9, 120.0, 40.0)) == {}, "less than a minute is not long"


def test_only_settled_work_of_several_workers_is_compared() -> None:
    assert stragglers(working(1, 500.0), working(2, 1.0)) == {}
    begun = [working(number, 60.0, 20.0) for number in range(3)] + [working(9, 0.0, 9.0)]
    assert stragglers(*begun) == {}
    assert {one.worker: one.rate for one in judged(begun)}[9] is None
    loading = working(9, 0.0, 5000.0, state=WorkerState.STARTING)
    assert stragglers(*begun[:3], loading, idle(5)) == {}


def test_stragglers_come_first_and_machines_are_added_up() -> None:
    rows = [working(4, 300.0, node="b"), working(1, 300.0), working(2, 200.0), working(3, 0.0, node="b")]
    workers = judged([*rows, idle(5), idle(6, WorkerState.PENDING, "")])
    assert [one.worker for one in workers] == [3, 6, 1, 2, 5, 4]
    assert by_node(workers) == [Node("a", 3, 2, 5.0), Node("b", 2, 2, 3.0)]


def test_a_status_becomes_a_row() -> None:
    status = WorkerStatus(3, "a", 7, WorkerState.WORKING, 12, (4, 8), 30.0, 90.0, 240.0)
    (row,) = rows_of([status], {12: 5}, NOW)
    assert (row.video, row.first_segment, row.end_segment, row.since) == (5, 4, 8, NOW - 30)
    (worker,) = judged([(row, "Talk")])
    assert (worker.segments, worker.since_s, worker.rate, worker.title) == ((4, 8), 30.0, 3.0, "Talk")


# --- a batch run -------------------------------------------------------------------------------------


class Counting(Quick):
    def between_segments(self, number: int) -> None:
        """Take no time."""


def test_a_batch_run_records_its_workers_and_removes_them_at_its_end(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "talk.mp4", numbered(10), fps=10)
    clip.write_bytes(marked(clip, "slow"))
    jobs = jobs_of([str(clip)], Settings(video=False), out=tmp_path / "out", report=())
    clock, seen = FakeClock(), []

    def on_event(event: str, video: int | None, facts: dict[str, Any]) -> None:
        if event == "segment_committed":
            with Ledger(jobs.ledger, read_only=True) as ledger:
                seen.append((video, ledger.workers()))
            clock.advance(3.0)

    executor = InlineExecutor(2, 2, analyzers=Counting)
    try:
        outcome = Scheduler(jobs, executor, on_event=on_event, clock=clock).run()
    finally:
        executor.close()
    assert outcome.done == 1 and len(seen) == SEGMENTS
    for video, workers in seen:
        states = [(row.state, row.video, title) for row, title in workers]
        assert states == [("working", video, "talk"), ("idle", None, None)]
    times = {workers[0][0].seen_at for _, workers in seen}
    assert len(times) > SEGMENTS // 2, "they are recorded again and again"
    with Ledger(jobs.ledger) as ledger, lock_ledger(jobs.ledger):
        assert ledger.workers() == []


def test_workers_of_a_batch_that_was_killed_are_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as ledger:
        ledger.set_workers([working(1, 5.0)[0]])
        assert ledger.workers() == []
        with lock_ledger(path):
            assert [row.worker for row, _ in ledger.workers()] == [1]
            ledger.begin_batch_run()
            assert ledger.workers() == []


# --- status ------------------------------------------------------------------------------------------


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.sqlite"
    rows = [row for row, _ in (working(1, 300.0), working(2, 280.0, 100.0, node="b"), idle(4))]
    slow, _ = working(3, 20.0, node="a long name of a machine", first_segment=4, end_segment=9)
    with Ledger(path) as ledger:
        ledger.set_workers([*rows, slow, replace(idle(5, WorkerState.PENDING, "")[0], pid=None)])
    return path


def status(ledger: Path, *options: str) -> str:
    result = CliRunner().invoke(cli, ["batch", "status", "--ledger", str(ledger), *options])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_status_shows_machines_workers_and_stragglers(ledger: Path) -> None:
    with lock_ledger(ledger):
        lines = status(ledger).splitlines()
    text = "\n".join(lines)
    assert "1 worker without a machine: none has room" in text
    assert ["2", "1", "3.0x", "a"] in [line.split() for line in lines]
    (slow,) = [line for line in lines if "much slower than the others" in line]
    assert slow.split()[:5] == ["3", "working", "2", "min", "0.2x"]
    assert "(segments 4 to 8)" in slow and lines.index(slow) < next(
        number for number, line in enumerate(lines) if line.split()[:2] == ["1", "working"]
    )


def test_status_as_json_has_nodes_and_workers(ledger: Path) -> None:
    with lock_ledger(ledger):
        document = json.loads(status(ledger, "--json"))
    assert document["nodes"][0] == {"node": "a", "workers": 2, "working": 1, "rate": 3.0}
    worst = document["workers"][0]
    assert (worst["worker"], worst["straggler"], worst["segments"], worst["rate"]) == (3, "slow", [4, 9], 0.2)
    assert len(document["workers"]) == 5


def test_status_shows_no_workers_while_nothing_runs(ledger: Path) -> None:
    document = json.loads(status(ledger, "--json"))
    assert document["nodes"] == document["workers"] == []
    assert "machine" not in status(ledger) and "working" not in status(ledger)
