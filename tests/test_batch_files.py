"""Files that are renamed, replaced or removed between two batch runs, and signals while a process starts.

Jobs run in threads, with the models; the tests of signals run the command with its processes.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from analyzer import analyze
from analyzer.batch import Outcome, Stop, jobs_of, load_jobs, run_batch
from analyzer.batch.config import Filters, Jobs
from analyzer.batch.executors.inline import InlineExecutor
from analyzer.batch.ledger import Ledger
from analyzer.batch.maintenance import prune
from analyzer.batch.scheduler import Scheduler
from analyzer.cli.options import INTERRUPTED, TERMINATED
from analyzer.errors import MediaError, MediaErrorKind, StoppedError
from analyzer.events import SegmentCommitted
from analyzer.settings import Settings
from analyzer.sources.types import Video
from testkit.media import numbered, write_video
from tests.batch_faults import FakeClock, Quick

ROOT = Path(__file__).parents[1]
SETTINGS = Settings(video=False, segment_s=1, workers=1)


def jobs_for(folder: Path, settings: Settings = SETTINGS, **choices: Any) -> Jobs:
    return jobs_of([str(folder)], settings, out=folder.parent / "out", report=(), reserve_mb=0, **choices)


def batch(folder: Path, settings: Settings = SETTINGS, **choices: Any) -> Outcome:
    return Scheduler(jobs_for(folder, settings, **choices), InlineExecutor(), clock=FakeClock()).run()


def begin(folder: Path) -> None:
    """A batch run that is stopped after the second segment."""
    stop = Stop()

    def on_event(event: str, video: int | None, facts: dict[str, Any]) -> None:
        if event == "segment_committed" and facts["segment"] == 1:
            stop.request()

    scheduler = Scheduler(jobs_for(folder), InlineExecutor(), on_event=on_event, stop=stop)
    assert scheduler.run().reason == "stopped"
    assert parts(folder), "nothing was begun"


def parts(folder: Path) -> list[Path]:
    return list((folder.parent / "out").rglob("embeddings.parquet"))


def rows(folder: Path) -> list[dict[str, Any]]:
    with Ledger(folder.parent / "out" / "ledger.sqlite", read_only=True) as ledger:
        return [ledger.history(row["id"]) for row in ledger.videos()]


def work(folder: Path) -> dict[str, tuple[list[str], list[int]]]:
    """For each video the outcomes of its attempts and the analyzed segments, in order."""
    done: dict[str, tuple[list[str], list[int]]] = {}
    lines = (folder.parent / "out" / "batch.jsonl").read_text().splitlines()
    segments = [one for one in map(json.loads, lines) if one["event"] == "segment_committed"]
    for row in rows(folder):
        outcomes = [each["outcome"] for each in row["attempts_list"]]
        numbers = [one["segment"] for one in segments if one["video"] == row["id"]]
        done[Path(row["source"]).stem] = outcomes, numbers
    return done


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one video of eight segments."""
    (tmp_path / "clips").mkdir()
    write_video(tmp_path / "clips" / "first.mp4", numbered(80), fps=10)
    return tmp_path / "clips"


def test_a_renamed_file_resumes_where_it_was(folder: Path) -> None:
    begin(folder)
    (folder / "first.mp4").rename(folder / "second.mp4")
    outcome = batch(folder)
    assert (outcome.done, outcome.skipped, outcome.well) == (1, 0, True)
    (run,) = (folder.parent / "out").glob("*/run.json")
    info = json.loads(run.read_text())
    assert info["title"] == "second" and info["resumed_segments"] >= 1
    ((outcomes, segments),) = work(folder).values()
    assert outcomes == ["stopped", "done"] and segments == list(range(8))
    assert run.parent.name.startswith("first-") and not parts(folder)


def test_a_renamed_file_keeps_one_run(folder: Path) -> None:
    batch(folder)
    (folder / "first.mp4").rename(folder / "second.mp4")
    assert batch(folder).done == 0
    assert batch(folder, SETTINGS.replace(fps=2)).done == 1
    (run,) = (folder.parent / "out").glob("*/run.json")
    assert json.loads(run.read_text())["settings"]["fps"] == 2
    (folder.parent / "out" / "ledger.sqlite").unlink()
    before = run.stat().st_mtime_ns
    assert batch(folder, SETTINGS.replace(fps=2)).done == 1
    assert run.stat().st_mtime_ns == before, "adopted, not analyzed again"


@pytest.mark.parametrize("change", ["removed", "replaced"])
def test_segments_of_a_file_that_is_gone_are_removed(folder: Path, change: str) -> None:
    """They hold embeddings of faces."""
    begin(folder)
    (folder / "first.mp4").unlink()
    (folder / "notes.txt").write_text("still a folder")
    if change == "replaced":
        write_video(folder / "first.mp4", numbered(20), fps=10)
    outcome = batch(folder)
    assert not parts(folder) and outcome.well
    states = {row["state"]: row["reason"] for row in rows(folder)}
    assert states.keys() == ({"skipped"} if change == "removed" else {"skipped", "done"})
    words = "its file is gone" if change == "removed" else "the file was replaced"
    assert states["skipped"].startswith(words)


def test_a_file_that_comes_back_is_analyzed(folder: Path) -> None:
    begin(folder)
    content = (folder / "first.mp4").read_bytes()
    (folder / "first.mp4").unlink()
    (folder / "notes.txt").write_text("still a folder")
    assert batch(folder).done == 0
    (folder / "first.mp4").write_bytes(content)
    assert batch(folder).done == 1


def test_prune_removes_segments_that_are_not_needed(folder: Path) -> None:
    out = folder.parent / "out"
    begin(folder)
    prune(out / "ledger.sqlite", out, keep_days=0)
    assert parts(folder), "they are still needed"
    (folder / "first.mp4").unlink()
    prune(out / "ledger.sqlite", out, keep_days=0)
    assert parts(folder), "nothing is in the folder: its disk may not be mounted"
    (folder / "notes.txt").write_text("still a folder")
    assert prune(out / "ledger.sqlite", out, keep_days=0).folders == 1
    assert not parts(folder)


def test_prune_keeps_segments_of_other_commands(folder: Path) -> None:
    """Those of an interrupted `analyze` or live run in the same folder are to be finished."""
    out, elsewhere = folder.parent / "out", folder.parent / "other.mp4"
    begin(folder)
    write_video(elsewhere, numbered(40), fps=10)
    batch_s = set(parts(folder))
    committed: list[SegmentCommitted] = []

    def on_event(event: Any) -> None:
        committed.extend([event] if isinstance(event, SegmentCommitted) else [])

    # A file that the batch does not know; and one of its own, with other settings.
    for path, settings in ((elsewhere, SETTINGS), (folder / "first.mp4", SETTINGS.replace(fps=2))):
        committed.clear()
        with pytest.raises(StoppedError):
            analyze(str(path), settings, out=out, on_event=on_event, cancelled=lambda: len(committed) >= 2)
    analyze_s = set(parts(folder)) - batch_s
    live = out / "camera-live-0123456789ab-20260101T000000Z" / ".parts" / "0123456789abcdef-000000"
    live.mkdir(parents=True)
    (folder / "first.mp4").rename(folder.parent / "first.mp4")
    (folder / "notes.txt").write_text("still a folder")
    pruned = prune(out / "ledger.sqlite", out, keep_days=0)
    assert pruned.folders == 1 and pruned.size_bytes > 0
    assert set(parts(folder)) == analyze_s and len(analyze_s) == 4 and live.is_dir()
    assert prune(out / "ledger.sqlite", out, keep_days=0).folders == 0
    run = analyze(str(elsewhere), SETTINGS, out=out)
    assert run.info["resumed_segments"] >= 1


def test_removing_a_video_removes_only_its_own_segments(folder: Path) -> None:
    out = folder.parent / "out"
    committed: list[Any] = []
    with pytest.raises(StoppedError):
        analyze(
            str(folder / "first.mp4"),
            SETTINGS.replace(fps=2),
            out=out,
            on_event=lambda event: committed.append(event) if isinstance(event, SegmentCommitted) else None,
            cancelled=lambda: bool(committed),
        )
    before = parts(folder)
    assert batch(folder, filters=Filters(shorter_than_s=2)).skipped == 1
    assert parts(folder) == before and len(before) == 1


def test_filters_apply_to_files_too(folder: Path) -> None:
    write_video(folder / "short.mp4", numbered(12), fps=10)
    outcome = batch(folder, filters=Filters(shorter_than_s=2))
    assert (outcome.done, outcome.skipped) == (1, 1) and not parts(folder)
    # Its length is known once it is open; nothing of it is analyzed, and the other one is not stopped.
    expected = {"first": (["skipped"], []), "short": (["done"], [0, 1])}
    assert work(folder) == expected
    assert batch(folder, filters=Filters(shorter_than_s=2)).done == 0
    assert work(folder) == expected
    old = time.time() - 40 * 86400
    os.utime(folder / "first.mp4", (old, old))
    assert batch(folder, filters=Filters(newer_than="30d")).done == 0
    assert batch(folder).done == 1
    assert {row["title"] for row in rows(folder) if row["state"] == "done"} == {"first", "short"}


class Reads(Quick):
    """Fails on files that say they are no video."""

    def analyze(self, video: Video, out: Path, timings: dict[str, float]) -> Any:
        if video.paths[0].read_bytes() == b"no video":
            raise MediaError("it is no video", kind=MediaErrorKind.NOT_MEDIA)
        return super().analyze(video, out, timings)


def quick(folder: Path) -> Outcome:
    return Scheduler(jobs_for(folder), InlineExecutor(analyzers=Reads)).run()


def test_a_bad_file_that_was_replaced_is_not_a_failure_any_more(folder: Path) -> None:
    (folder / "bad.mp4").write_text("no video")
    (folder / "copy.mp4").write_text("no video")
    first = quick(folder)
    assert (first.done, first.abandoned, first.copies) == (1, 1, 1)
    write_video(folder / "bad.mp4", numbered(20), fps=10)
    second = quick(folder)  # a copy of the bad one is still there
    assert (second.done, second.skipped) == (1, 0)
    assert [row["state"] for row in rows(folder)].count("abandoned") == 1
    write_video(folder / "copy.mp4", numbered(30), fps=10)
    third = quick(folder)
    found = {(row["title"], row["state"], row["reason"]) for row in rows(folder)}
    # It was listed under the first name, which holds something else since.
    assert ("bad", "skipped", "the file was replaced") in found and third.well
    assert sorted(state for _, state, _ in found) == ["done", "done", "done", "skipped"]


def test_copies_of_a_due_file_are_reported_once(folder: Path) -> None:
    for name in ("second", "third"):
        shutil.copy(folder / "first.mp4", folder / f"{name}.mp4")
    assert (outcome := quick(folder)).copies == 2 and outcome.done == 1 and outcome.well
    assert quick(folder).copies == 0, "nothing of them is due any more"


def test_an_emptied_folder_is_not_a_failure(folder: Path) -> None:
    (folder / "first.mp4").unlink()
    assert batch(folder).well


def test_programs_may_name_the_jobs_file_by_text(folder: Path) -> None:
    path = folder.parent / "jobs.toml"
    path.write_text('report = []\n[settings]\nvideo = false\n[[source]]\nfolder = "clips"\n')
    seen: list[str] = []
    outcome = run_batch(load_jobs(str(path)), on_event=lambda event, video, facts: seen.append(event))
    assert outcome.well and outcome.done == 1 and seen[-1] == "batch_ended"
    assert (folder.parent / "outputs" / "index.html").exists()


def test_a_failed_notification_is_an_event(folder: Path) -> None:
    (folder / "bad.mp4").write_bytes(b"not a video" * 100)
    path = folder.parent / "jobs.toml"
    command = json.dumps([sys.executable, "-c", "raise SystemExit(3)"])
    path.write_text(f'[[source]]\nfolder = "clips"\n[on_failure]\ncommand = {command}\n')
    seen: list[tuple[str, Any]] = []
    jobs = load_jobs(path)
    run_batch(
        jobs,
        executor=InlineExecutor(analyzers=Reads),
        on_event=lambda event, video, facts: seen.append((event, facts.get("error"))),
    )
    event, error = seen[-1]
    assert event == "closing_failed" and "exit code 3" in error


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, INTERRUPTED), (signal.SIGTERM, TERMINATED)], ids=["INT", "TERM"]
)
def test_a_signal_to_the_group_stops_the_batch(folder: Path, number: int, code: int) -> None:
    """Terminals and service managers send it to the whole group; a process is just starting."""
    out = folder.parent / "out"
    command = [sys.executable, "cli.py", "batch", str(folder), "--out", str(out), "--no-video", "--no-report"]
    process = subprocess.Popen(
        command, cwd=ROOT, start_new_session=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    log = out / "batch.jsonl"
    deadline = time.monotonic() + 60
    while not (log.exists() and '"analyzing"' in log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, number)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == code, errors
    assert "Traceback" not in errors and "Stopped on request" in output
