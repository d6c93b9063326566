"""A batch that is killed, stopped, out of disk space or locked out loses nothing and does nothing twice.

The experiments are those of `testkit.faults`, on a smaller scale; each compares the final output with
that of an uninterrupted batch. The long ones are marked slow; of each kind a short one is not.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from analyzer.batch.config import Jobs, jobs_of, load_jobs
from analyzer.batch.context import BatchContext
from analyzer.batch.executors.inline import InlineExecutor
from analyzer.batch.ledger import Ledger, State, lock_ledger
from analyzer.batch.log import EventLog
from analyzer.batch.protocol import RunFacts, matching_run
from analyzer.batch.scheduler import Scheduler
from analyzer.errors import LedgerError, OutputError
from analyzer.runs.schema import EMBEDDINGS, FACES, SAMPLES
from analyzer.runs.segments import PartStore, Recorded
from analyzer.runs.tables import empty_table
from analyzer.settings import Settings
from analyzer.sources.types import Candidate, Item, MediaKind
from analyzer.util.locks import folder_lock, remove_leftovers
from testkit import faults
from testkit.faults import KIB, Bench, Result, make_video
from tests.batch_faults import FakeClock, Quick

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
ROOT = Path(__file__).parents[1]
SLOW_S = 10.0
"""How long the processes of a killed batch may survive it; the machine may be busy."""


def bench_of(folder: Path, count: int, seconds: float, **how: Any) -> Bench:
    videos = folder / "videos"
    videos.mkdir()
    made = [make_video(videos / f"talk-{n}.mp4", seconds + n, n, sound=n % 2 == 1) for n in range(count)]
    return Bench(folder / "bench", made, gone_s=SLOW_S, **how)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Two videos, one with sound, with annotated videos and reports."""
    return bench_of(tmp_path_factory.mktemp("pair"), 2, 5)


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """One video, likewise."""
    return bench_of(tmp_path_factory.mktemp("single"), 1, 5)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Where a small disk can be mounted, if that is possible."""
    try:
        with faults.small_disk(tmp_path / "try", 1):
            pass
    except PermissionError as error:
        pytest.skip(str(error))
    return tmp_path / "disk"


def assert_passed(result: Result) -> None:
    assert result.words == [] and not result.faults and result.well
    assert result.numbers


# --- what the experiments compare ---------------------------------------------------------------------


def test_there_is_something_to_compare(single: Bench) -> None:
    names = {path.name for path in single.reference.glob("*/*")}
    tables = {"samples.parquet", "faces.parquet", "people.parquet", "timeline.csv", "shares.csv"}
    assert tables | {"annotated.mp4", "report.html", "run.json"} <= names
    for run in single.reference.glob("*/run.json"):
        info = json.loads(run.read_bytes())
        assert info["counts"]["people"] == 2 and info["counts"]["faces"] >= 80
        assert info["settings"]["segment_s"] == 2
    assert faults._ledger(single.reference)["the attempts that were done"][0][1] == 1
    assert len(faults.events(single.reference, "segment_committed")) >= 3


@pytest.mark.parametrize(
    ("harm", "kind"),
    [
        ("row", "differing tables"),
        ("twice", "duplicated rows"),
        ("fewer", "missing rows"),
        ("hidden", "orphan files"),
        ("gone", "missing files"),
        ("frames", "differing videos"),
        ("key", "differing run.json"),
        ("log", "damaged log lines"),
        ("ledger", "ledger faults"),
        ("segment_committed", "analyzed again"),
    ],
)
def test_the_comparison_finds_each_kind_of_harm(harm: str, kind: str, single: Bench, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(single.reference, out)
    result = Result("", "", "")
    result.compare(out, single.reference)
    result.analyzed_twice(out)
    assert result.well
    run = sorted(out.glob("*/run.json"))[0].parent
    harmed(harm, out, run)
    result.compare(out, single.reference)
    result.analyzed_twice(out)
    assert result.faults[kind] >= 1 and not result.well


def harmed(harm: str, out: Path, run: Path) -> None:
    import pandas as pd

    table = pd.read_parquet(run / "faces.parquet")
    match harm:
        case "row":
            table.loc[3, "x1"] += 1
        case "twice":
            table = pd.concat([table, table.tail(1)])
        case "fewer":
            table = table.head(-1)
        case "hidden":
            (run / ".parts").mkdir()
        case "gone":
            (run / "report.html").unlink()
        case "frames":
            make_video(run / "annotated.mp4", 1)
        case "key":
            info = json.loads((run / "run.json").read_bytes())
            info["reading"]["last_s"] = 0
            (run / "run.json").write_text(json.dumps(info))
        case "log":
            with (out / faults.LOG).open("a") as file:
                file.write('{"event": "do')
        case "ledger":
            with sqlite3.connect(out / faults.LEDGER) as db:
                db.execute("DELETE FROM segments WHERE segment = 1")
        case "segment_committed":
            first = faults.events(out, "segment_committed")[0]
            with (out / faults.LOG).open("a") as file:
                file.write(json.dumps(first) + "\n")
    if harm in ("row", "twice", "fewer"):
        table.to_parquet(run / "faces.parquet")


def test_run_json_may_differ_in_nothing_but_how_the_work_was_done() -> None:
    mine: dict[str, Any] = {
        "timings_s": {"a": 1},
        "reading": {"frames_decoded": 1, "last_s": 2},
        "title": "a",
    }
    other = {"timings_s": {"b": 1}, "reading": {"frames_decoded": 9, "last_s": 3}, "new": 0}
    assert faults._differing_keys(mine, other) == [
        *("new", "reading.frames_decoded", "reading.last_s", "title")
    ]


# --- kills and signals --------------------------------------------------------------------------------


@pytest.mark.slow
def test_killed_at_random_moments(pair: Bench) -> None:
    result = faults.kills(pair, 2)
    assert_passed(result)
    assert result.numbers["kills"] == 2


@pytest.mark.slow
def test_ended_by_sigterm(single: Bench) -> None:
    result = faults.signals(single, signal.SIGTERM, 1)
    assert_passed(result)
    assert result.numbers["signals"] == 1


@pytest.mark.slow
def test_second_sigterm_ends_at_once(single: Bench) -> None:
    assert_passed(faults.second_signal(single))


# --- a full disk --------------------------------------------------------------------------------------


def test_with_the_default_reserve_nothing_is_begun(single: Bench, disk: Path) -> None:
    assert_passed(faults.reserve_kept(single))


@pytest.mark.slow
def test_disk_runs_full(single: Bench, disk: Path) -> None:
    result = faults.full_disk(single, [64 * KIB, 580 * KIB])
    assert_passed(result)
    assert result.numbers["runs on a full disk"] == 2
    assert result.numbers["no space for"] == "the ledger 1, the annotated video 1"


@pytest.mark.slow
def test_disk_runs_full_while_downloading(tmp_path: Path, disk: Path) -> None:
    served = tmp_path / "served"
    served.mkdir()
    make_video(served / "talk.mp4", 8, sound=True)
    result = faults.full_download(tmp_path / "download", served, [260 * KIB])
    assert_passed(result)
    assert result.numbers["no space for"] == "download 1"


def test_part_on_a_full_disk_says_so_and_leaves_nothing(disk: Path) -> None:
    nothing = Recorded(empty_table(SAMPLES), empty_table(FACES), empty_table(EMBEDDINGS))
    edges = np.random.default_rng(0).integers(0, 256, (2, 30_000)).astype(np.uint8)
    well = full = 0
    with faults.small_disk(disk, 2):
        for free in range(0, 104 * KIB, 4 * KIB):
            ballast = faults.leave_free(disk, free)
            store = PartStore(disk / "run", "key")
            try:
                store._keep(store._part(0), 0, nothing, edges)
                well += 1
            except OutputError as error:
                assert error.no_space and "\n" not in str(error)
                full += 1
                # It would take space that is wanted.
                assert not store.folder.exists() or not list(store.folder.iterdir())
            ballast.unlink()
            store.clear()
    assert well >= 2 and full >= 15


def test_folder_that_cannot_be_made_on_a_full_disk_ends_the_run_in_order(
    single: Bench, tmp_path: Path, disk: Path
) -> None:
    with faults.small_disk(disk, 50):
        # Folders need entries of the file system, not space.
        command = ["mount", "-o", "remount,nr_inodes=9", str(disk)]
        subprocess.run(command, check=True, capture_output=True)
        ended = single.run(disk / "out")
        assert ended.code == faults.TEMPORARY, ended.error
        assert len(ended.error.strip().splitlines()) == 1 and "1 cannot be made (No space" in ended.error
        (ended_event,) = faults.events(disk / "out", "batch_ended")
        assert ended_event["reason"] == "no_space" and ended_event["left"] == 1
        assert faults._rows(disk / "out") == [("new", None)]
        subprocess.run([*command[:2], "remount,nr_inodes=1000", str(disk)], check=True, capture_output=True)
        ended = single.run(disk / "out")
        assert ended.code == 0, ended.error


class Huge:
    """A fetcher whose video does not fit on any disk."""

    def __init__(self) -> None:
        self.fetched = 0
        self._item = Item("https://example.org/watch", MediaKind.VIDEO, title="Huge")

    def __call__(self, *_: Any) -> Any:
        return self

    def identified(self, *_: Any, **__: Any) -> Iterator[tuple[None, Item]]:
        yield None, self._item

    def identify(self, item: Item) -> str:
        return "huge"

    def names_list(self, url: str) -> bool:
        return False

    def fetch(self, item: Item, folder: Path, *, accept: Any, on_wait: Any) -> None:
        self.fetched += 1
        accept(Candidate("huge", "Huge", None, None, 10.0, 10**17))
        raise AssertionError("it was to be downloaded")


def one_url(tmp_path: Path) -> Jobs:
    path = tmp_path / "jobs.toml"
    path.write_text(
        "[disk]\nreserve_mb = 0\n[retry]\nbase = '1s'\n[[source]]\nurl = 'https://example.org/watch'\n"
    )
    return load_jobs(path, out=tmp_path / "out")


def test_a_download_without_space_counts_against_no_video(tmp_path: Path) -> None:
    """However often; nothing frees space in a run, so that each makes one attempt."""
    jobs, fetcher, clock = one_url(tmp_path), Huge(), FakeClock()
    for number in range(8):
        clock.advance(60)
        outcome = Scheduler(jobs, InlineExecutor(), fetchers=fetcher, clock=clock).run()
        assert (outcome.failed, outcome.abandoned, fetcher.fetched) == (1, 0, number + 1)
    with Ledger(jobs.ledger, read_only=True) as ledger:
        (work,) = ledger.unfinished()
        assert (work.state, work.consecutive_failures, work.error_kind) == (
            State.FAILED,
            0,
            "too_large_for_disk",
        )


@pytest.mark.parametrize(
    ("was", "free_mb", "state"),
    [
        (State.ANALYZING, 5.0, State.FAILED),
        (State.ANALYZING, 1e6, State.ABANDONED),
        (State.DOWNLOADED, 1e6, State.FAILED),
    ],
)
def test_interruptions_count_only_against_a_video_that_was_in_work(
    was: State, free_mb: float, state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They do not count if there was no space to record the end of the batch, nor against waiting videos."""
    jobs, events, fetcher = one_url(tmp_path), [], Huge()
    Scheduler(jobs, InlineExecutor(), fetchers=fetcher).run()
    with contextlib.closing(sqlite3.connect(jobs.ledger)) as db, db:
        db.execute("UPDATE videos SET state = ?, next_try = NULL, interrupted = 9", (was,))
    monkeypatch.setattr(BatchContext, "free_mb", lambda self: free_mb)
    outcome = Scheduler(
        jobs, InlineExecutor(), fetchers=fetcher, on_event=lambda *event: events.append(event)
    ).run()
    with Ledger(jobs.ledger, read_only=True) as ledger:
        (row,) = ledger.videos()
    assert row["state"] == state and (row["error_kind"] == "interrupted") == (state is State.ABANDONED)
    assert (outcome.failed, outcome.abandoned) == (int(state is State.FAILED), int(state is State.ABANDONED))
    # The console can show how the video ended.
    ends = [facts for event, _, facts in events if event in ("failed", "abandoned")]
    assert len(ends) == 1 and ends[0]["error"] and ends[0]["kind"] == row["error_kind"]


# --- other programs that use the ledger ---------------------------------------------------------------


class Locks(Quick):
    """Locks the ledger during the first analysis, and keeps it locked."""

    locked: ClassVar[list[sqlite3.Connection]] = []

    def analyze(self, video: Any, out: Path, timings: dict[str, float]) -> Any:
        if not self.locked:
            self.locked.append(sqlite3.connect(out / faults.LEDGER, check_same_thread=False))
            self.locked[0].execute("BEGIN EXCLUSIVE")
        return super().analyze(video, out, timings)


def test_a_locked_ledger_ends_the_run_and_the_next_one_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analyzer.batch.ledger._BUSY_S", 0.1)
    path = make_video(tmp_path / "talk.mp4", 1)
    jobs = jobs_of([str(path)], Settings(video=False), out=tmp_path / "out", report=(), reserve_mb=0)
    outcome = Scheduler(jobs, InlineExecutor(analyzers=Locks)).run()
    assert (outcome.reason, outcome.done, outcome.left) == ("ledger", 0, 1)
    (run,) = (tmp_path / "out").glob("*/run.json")
    stamp = run.stat().st_mtime_ns
    Locks.locked.pop().close()
    outcome = Scheduler(jobs, InlineExecutor(analyzers=Locks)).run()
    assert (outcome.done, outcome.well) == (1, True)
    assert run.stat().st_mtime_ns == stamp and not Locks.locked, "adopted, not analyzed again"


def test_a_second_batch_on_the_same_ledger_ends_at_once(tmp_path: Path) -> None:
    jobs, fetcher = one_url(tmp_path), Huge()
    with lock_ledger(jobs.ledger), pytest.raises(LedgerError, match="another batch") as caught:
        Scheduler(jobs, InlineExecutor(), fetchers=fetcher).run()
    assert caught.value.temporary and fetcher.fetched == 0


@pytest.mark.slow
def test_ledger_locked_by_another_program(single: Bench) -> None:
    assert_passed(faults.locked_ledger(single))


@pytest.mark.slow
def test_ledger_locked_at_the_start(single: Bench) -> None:
    assert_passed(faults.locked_at_start(single, 2))


@pytest.mark.slow
def test_two_batches_at_once(single: Bench) -> None:
    assert_passed(faults.two_batches(single))


# --- crashes between two commits ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("points", "adopted"),
    [
        # The batch of a folder dies again and again, each time a little later.
        pytest.param(
            ("part recorded in the ledger", "part renamed, ledger not updated", "half published"),
            0,
            marks=pytest.mark.slow,
        ),
        pytest.param(("published, parts not removed",), 1, marks=pytest.mark.slow),
        (("run published, ledger not updated",), 1),
    ],
)
def test_crash_between_two_commits(points: tuple[str, ...], adopted: int, single: Bench) -> None:
    out, result = single.fresh(), Result("", "", "")
    for point in points:
        assert single.run(out, crash_at=point).code == -signal.SIGKILL, point
    published = {path: path.stat().st_mtime_ns for path in out.glob("*/run.json")}
    assert len(published) == adopted
    result.finish(single, out)
    result.analyzed_twice(out)
    assert result.words == [] and not result.faults and result.well
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in published.items())


def test_leftovers_stay_while_another_process_works_in_the_folder(tmp_path: Path) -> None:
    part = tmp_path / ".parts" / "key-000000"
    part.mkdir(parents=True)
    (tmp_path / "run.json").write_text("{}")
    with ExitStack() as stack:
        stack.enter_context(folder_lock(tmp_path))
        remove_leftovers(tmp_path)
        assert part.is_dir()
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_leftovers_of_an_analysis_that_began_later_stay(tmp_path: Path) -> None:
    """Those of an interrupted `analyze` with other settings in the folder of a finished run: it resumes."""
    old, later = (tmp_path / ".parts" / f"{name}-000000" for name in ("old", "later"))
    old.mkdir(parents=True)
    (tmp_path / "run.json").write_text("{}")
    os.utime(tmp_path / "run.json", ns=(0, old.stat().st_mtime_ns))
    later.mkdir()
    os.utime(later, ns=(0, old.stat().st_mtime_ns + 10**9))
    remove_leftovers(tmp_path)
    assert later.is_dir() and not old.exists()


def test_adopting_by_a_new_ledger_removes_parts(single: Bench, tmp_path: Path) -> None:
    """They hold embeddings of faces, and must not stay beside a finished run."""
    out = tmp_path / "out"
    shutil.copytree(single.reference, out)
    (run,) = (path.parent for path in out.glob("*/run.json"))
    for name in (".parts", ".new"):
        (run / name).mkdir()
    (out / faults.LEDGER).unlink()
    ended = single.run(out)
    assert ended.code == 0 and faults.events(out, "adopted")
    assert not [path.name for path in run.iterdir() if path.name.startswith(".")]
    info = json.loads((run / "run.json").read_bytes())
    hashes = info["settings_hash"], info["models_hash"]
    assert matching_run(run, info["video_id"], *hashes) == RunFacts.of(info)


def test_log_goes_on_after_a_line_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "batch.jsonl"
    for text, lines in (("", 1), ('{"a": 1}\n', 2), ('{"a": 1}\n{"event": "do', 3)):
        path.write_text(text)
        with EventLog(path) as log:
            log("done", 1)
        found = path.read_text().splitlines()
        assert len(found) == lines and json.loads(found[-1])["event"] == "done"


def test_log_on_a_full_disk_has_whole_lines_only(disk: Path) -> None:
    with faults.small_disk(disk, 1):
        path = disk / "batch.jsonl"
        ballast = faults.leave_free(disk, 8 * KIB)
        with EventLog(path) as log:
            for number in range(150):
                log("segment_committed", number, title="a" * 73)
            whole = [json.loads(line)["video"] for line in path.read_text().splitlines()]
            assert whole == list(range(len(whole))) and 30 < len(whole) < 80
            ballast.unlink()
            log("done", 150)
        lines = path.read_text().splitlines()
        assert len(lines) == len(whole) + 1 and json.loads(lines[-1])["event"] == "done"


# --- memory, and analyses that are killed -------------------------------------------------------------


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_videos(tmp_path: Path) -> None:
    videos = [make_video(tmp_path / f"{number:02d}.mp4", 1, number, fps=4) for number in range(20)]
    settings = "fps = 2\nvideo = false\nformat = ['parquet']\n"
    bench = Bench(tmp_path / "many", videos, settings=settings, top="report = []\n")
    assert_passed(faults.memory(bench, after=10))


@pytest.mark.slow
def test_kills_do_not_count_against_videos_that_only_waited(tmp_path: Path) -> None:
    plain = {"settings": f"{faults.SETTINGS}video = false\n", "top": "report = []\n"}
    result = faults.poison(bench_of(tmp_path, 3, 3, **plain))
    assert_passed(result)
    assert (result.numbers["done"], result.numbers["abandoned"]) == (2, 1)
