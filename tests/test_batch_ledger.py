"""The ledger: all transitions with their attempts, and all ways in which its file can be unusable."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from analyzer.batch import ledger as module
from analyzer.batch.ledger import (
    FINAL,
    LEDGER_NAME,
    SCHEMA_VERSION,
    Ledger,
    Listed,
    State,
    Work,
    health,
    is_running,
    lock_ledger,
)
from analyzer.batch.maintenance import prune
from analyzer.errors import LedgerError

VERSIONS = {"analyzer": "1"}
INFO = {
    "video_id": "site-a",
    "title": "Said by the run",
    "channel": "C",
    "uploaded": "2026-01-02",
    "complete": True,
    "counts": {"people": 2},
    "video": {"duration_s": 12.5},
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out" / LEDGER_NAME


@pytest.fixture
def clock() -> list[float]:
    """The ledger's time, which tests set; the only element."""
    return [1000.0]


@pytest.fixture
def ledger(path: Path, clock: list[float]) -> Iterator[Ledger]:
    with Ledger(path, now=lambda: clock[0]) as opened:
        yield opened


def listed(path: Path, name: str = "site-a", **changes: Any) -> Listed:
    known: dict[str, Any] = {
        "identity": name,
        "settings_hash": "s1",
        "models_hash": "m1",
        "origin": "https://lists.test/c",
        "source": f"https://site.test/{name}",
        "standalone": True,
        "folder": path.parent,
    }
    return Listed(**known | changes)


def added(ledger: Ledger, name: str = "site-a", **changes: Any) -> int:
    return ledger.add(listed(ledger.path, name, **changes))[0].id


def attempts(ledger: Ledger, id: int) -> list[tuple[Any, ...]]:
    """Of each attempt its number, outcome and kind of error."""
    rows = ledger.history(id)["attempts_list"]
    return [(row["number"], row["outcome"], row["error_kind"]) for row in rows]


def downloaded(ledger: Ledger, id: int, video_id: str = "site-a") -> None:
    ledger.downloaded(id, {"video_id": video_id, "paths": ["/x"]}, size_bytes=5, fetch_s=0.5)


# --- transitions -------------------------------------------------------------------------------------


def test_a_video_goes_from_listed_to_done(ledger: Ledger, path: Path, clock: list[float]) -> None:
    id = added(ledger, title="Listed", uploaded="2026-01-01", duration_s=10.0)
    assert ledger.get(id).state is State.NEW
    clock[0] = 1001
    assert ledger.begin(id, VERSIONS) == 1
    assert ledger.get(id).state is State.DOWNLOADING
    assert attempts(ledger, id) == [(1, None, None)]
    ledger.describe(id, video_id="site-a", title="Told", channel=None, segments=None)
    assert ledger.get(id).title == "Told"
    downloaded(ledger, id)
    work = ledger.get(id)
    assert work.state is State.DOWNLOADED
    assert work.video == {"video_id": "site-a", "paths": ["/x"]}
    assert work.size_bytes == 5
    ledger.analyzing(id)
    assert ledger.get(id).state is State.ANALYZING
    ledger.opened(id, "k", [], 2)
    assert ledger.segment(id, 0, samples=5, faces=3, size_bytes=7)
    clock[0] = 1009
    ledger.done(id, path.parent / "run", INFO, analysis_s=2.5)

    row = ledger.history(id)
    expected = {
        "state": "done",
        "title": "Said by the run",
        "channel": "C",
        "uploaded": "2026-01-02",
        "duration_s": 12.5,
        "complete": True,
        "counts": {"people": 2},
        "run": str(path.parent / "run"),
        "versions": VERSIONS,
        "attempts": 1,
        "segments": 2,
        "segments_done": 1,
        "added_at": 1000.0,
        "done_at": 1009.0,
        "error": None,
    }
    assert {name: row[name] for name in expected} == expected
    (attempt,) = row["attempts_list"]
    assert attempt == {
        "video": id,
        "number": 1,
        "started_at": 1001.0,
        "ended_at": 1009.0,
        "outcome": "done",
        "error_kind": None,
        "error": None,
        "fetch_s": 0.5,
        "analysis_s": 2.5,
        "size_bytes": 5,
        "versions": VERSIONS,
    }
    assert row["segments_list"] == [
        {
            "video": id,
            "segment": 0,
            "state": "completed",
            "samples": 5,
            "faces": 3,
            "size_bytes": 7,
            "committed_at": 1001.0,
        }
    ]
    assert ledger.get(id).video is None  # no file is left to clean up
    assert list(ledger.unfinished()) == []
    assert ledger.rates() == [(3.0, 12.5, 5)]
    assert ledger.rates("s1") == [(3.0, 12.5, 5)]
    assert ledger.rates("other") == []


def test_each_ending_of_an_attempt(ledger: Ledger, clock: list[float]) -> None:
    """The state after each ending, and the row of its attempt."""
    id = added(ledger)
    ledger.begin(id, VERSIONS)
    downloaded(ledger, id)
    assert ledger.fail(id, "network", "broke off", next_try=1500.0) is State.FAILED
    work = ledger.get(id)
    assert (work.state, work.error_kind, work.next_try, work.consecutive_failures) == (
        "failed",
        "network",
        1500.0,
        1,
    )
    assert work.video is None

    ledger.begin(id, VERSIONS)
    assert ledger.get(id).next_try is None
    downloaded(ledger, id)
    ledger.fail(id, "crash", "died", next_try=1600.0, keep_download=True)
    assert ledger.get(id).video is not None

    ledger.begin(id, VERSIONS, state=State.DOWNLOADED)
    ledger.analyzing(id)
    ledger.release(id, State.DOWNLOADED)
    work = ledger.get(id)
    assert (work.state, work.consecutive_failures, work.interrupted) == ("downloaded", 2, 0)
    assert work.video is not None

    ledger.begin(id, VERSIONS)
    ledger.release(id, State.FAILED, next_try=1700.0)
    work = ledger.get(id)
    assert (work.state, work.next_try, work.video) == ("failed", 1700.0, None)

    ledger.begin(id, VERSIONS)
    ledger.fail(id, "bot_check", "not a bot", next_try=1800.0, counted=False)
    assert ledger.get(id).consecutive_failures == 2

    ledger.begin(id, VERSIONS)
    ledger.skip(id, "too long", "filter")
    work = ledger.get(id)
    assert (work.state, work.reason, work.error_kind, work.next_try) == (
        "skipped",
        "too long",
        "filter",
        None,
    )

    ledger.reopen(id)
    work = ledger.get(id)
    assert (work.state, work.reason, work.error_kind, work.consecutive_failures) == ("new", None, None, 0)
    ledger.begin(id, VERSIONS)
    assert ledger.fail(id, "private_or_removed", "gone", next_try=None) is State.ABANDONED
    assert attempts(ledger, id) == [
        (1, "failed", "network"),
        (2, "failed", "crash"),
        (3, "stopped", None),
        (4, "stopped", None),
        (5, "failed", "bot_check"),
        (6, "skipped", "filter"),
        (7, "abandoned", "private_or_removed"),
    ]
    row = ledger.history(id)
    assert (row["attempts"], row["error"]) == (7, "gone")
    assert row["attempts_list"][0]["error"] == "broke off"
    assert row["attempts_list"][5]["error"] == "too long"


def test_an_attempt_is_counted_before_anything_is_done(path: Path) -> None:
    """A process that is killed just after it has begun an attempt leaves an open one."""
    with Ledger(path) as ledger:
        id = added(ledger)
        ledger.begin(id, VERSIONS)
    with Ledger(path, read_only=True) as ledger:
        assert ledger.get(id).attempts == 1
        assert attempts(ledger, id) == [(1, None, None)]


def test_interruptions_are_counted_apart_from_failures(ledger: Ledger) -> None:
    id = added(ledger)
    ledger.begin(id, VERSIONS)
    ledger.release(id, State.NEW, outcome="interrupted")
    ledger.begin(id, VERSIONS)
    ledger.release(id, State.NEW, outcome="deferred")
    work = ledger.get(id)
    assert (work.attempts, work.interrupted, work.consecutive_failures) == (2, 1, 0)
    assert attempts(ledger, id) == [(1, "interrupted", None), (2, "deferred", None)]


def test_a_new_segment_resets_the_count_of_failures(ledger: Ledger) -> None:
    id = added(ledger)
    for _ in range(2):
        ledger.begin(id, VERSIONS)
        ledger.fail(id, "crash", "died", next_try=1.0)
    ledger.begin(id, VERSIONS)
    ledger.release(id, State.NEW, outcome="interrupted")
    ledger.begin(id, VERSIONS)
    assert ledger.segment(id, 0, samples=1, faces=0, size_bytes=1)
    work = ledger.get(id)
    assert (work.consecutive_failures, work.interrupted) == (0, 0)
    ledger.fail(id, "crash", "died", next_try=1.0)
    ledger.begin(id, VERSIONS)
    # The last segment is read again: no progress, but its newest figures count.
    assert not ledger.segment(id, 0, samples=2, faces=1, size_bytes=9)
    assert ledger.get(id).consecutive_failures == 1
    assert [row["samples"] for row in ledger.history(id)["segments_list"]] == [2]


def test_segments_follow_the_disk(ledger: Ledger) -> None:
    id = added(ledger)
    for number in range(3):
        ledger.segment(id, number, samples=4, faces=0, size_bytes=1)
    ledger.opened(id, "k", [1, 5], 6)
    rows = ledger.history(id)["segments_list"]
    # The row of a segment that still exists is kept; one without a row is adopted.
    assert [(row["segment"], row["samples"]) for row in rows] == [(1, 4), (5, None)]
    assert ledger.history(id)["segments"] == 6


def test_reopening_changes_neither_done_nor_running_videos(ledger: Ledger, path: Path) -> None:
    done, working = added(ledger, "a"), added(ledger, "b")
    ledger.begin(done, VERSIONS)
    ledger.done(done, path.parent / "a", INFO)
    ledger.begin(working, VERSIONS)
    for id in (done, working):
        ledger.reopen(id)
    assert [ledger.get(id).state for id in (done, working)] == ["done", "downloading"]


# --- which work is the same --------------------------------------------------------------------------


def test_the_same_work_is_one_row(ledger: Ledger) -> None:
    first, created = ledger.add(listed(ledger.path, title="First"))
    again, created_again = ledger.add(listed(ledger.path, title="Second", origin="elsewhere"))
    assert (created, created_again) == (True, False)
    assert again == first
    assert ledger.find("site-a", "s1", "m1") == first
    assert ledger.find("site-a", "s2", "m1") is None
    assert ledger.find("site-a", "s1", "m2") is None


@pytest.mark.parametrize("change", [{"settings_hash": "s2"}, {"models_hash": "m2"}])
def test_changed_settings_and_models_are_other_work(ledger: Ledger, path: Path, change: Any) -> None:
    """Unfinished rows of the same source and video are skipped, and no others."""
    done, failed, dead = added(ledger, "done"), added(ledger, "failed"), added(ledger, "abandoned")
    other = added(ledger, "failed", origin="elsewhere", settings_hash="s0")
    bystander = added(ledger, "bystander")
    for id in (done, failed, dead):
        ledger.begin(id, VERSIONS)
    ledger.done(done, path.parent / "run", INFO)
    ledger.fail(failed, "network", "broke off", next_try=5.0)
    ledger.fail(dead, "drm", "no", next_try=None)

    new = {name: ledger.add(listed(path, name, **change)) for name in ("done", "failed", "abandoned")}
    assert all(created for _, created in new.values())
    assert len({work.id for work, _ in new.values()} | {done, failed, dead}) == 6
    for id in (failed, dead):
        closed = ledger.get(id)
        assert (closed.state, closed.error_kind) == ("skipped", "settings")
        assert closed.reason == "settings were changed"
    assert [ledger.get(id).state for id in (done, other, bystander)] == ["done", "new", "new"]


def test_a_newer_run_in_the_same_folder_replaces_the_older(ledger: Ledger, path: Path) -> None:
    old, new = added(ledger), added(ledger, settings_hash="s2")
    other = added(ledger, "other")
    ledger.done(old, path.parent / "run", INFO)
    ledger.done(other, path.parent / "other", INFO)
    ledger.done(new, path.parent / "run", INFO)
    work = ledger.get(old)
    assert (work.state, work.error_kind) == ("skipped", "replaced")
    assert str(new) in str(work.reason)
    assert [ledger.get(id).state for id in (new, other)] == ["done", "done"]


def test_two_names_of_one_video_are_detected(ledger: Ledger, path: Path) -> None:
    """By the site's id, once it is known; abandoned and skipped rows do not count."""
    by_list = ledger.get(added(ledger, "site-a"))
    by_words = ledger.get(added(ledger, "web-1"))
    assert ledger.same_work(by_words, "site-a") == by_list.id
    assert ledger.same_work(by_words, "site-b") is None
    third = ledger.get(added(ledger, "web-2"))
    ledger.describe(third.id, video_id="site-b")
    assert ledger.same_work(by_words, "site-b") == third.id
    assert ledger.same_work(third, "site-b") is None
    other_settings = ledger.get(added(ledger, "web-3", settings_hash="s2"))
    assert ledger.same_work(other_settings, "site-b") is None
    ledger.begin(third.id, VERSIONS)
    ledger.done(third.id, path.parent / "b", INFO | {"video_id": "site-b"})
    assert ledger.same_work(by_words, "site-b") == third.id
    ledger.begin(by_list.id, VERSIONS)
    ledger.fail(by_list.id, "drm", "no", next_try=None)
    assert ledger.same_work(by_words, "site-a") is None


def test_unfinished_rows_come_oldest_first(ledger: Ledger, path: Path) -> None:
    ids = [added(ledger, name, origin=origin) for name, origin in (("a", "x"), ("b", "y"), ("c", "x"))]
    done = added(ledger, "d", origin="x")
    ledger.done(done, path.parent / "d", INFO)
    skipped = added(ledger, "e", origin="x")
    ledger.skip(skipped, "no", "filter")
    assert [work.id for work in ledger.unfinished()] == ids
    assert [work.id for work in ledger.unfinished("x")] == [ids[0], ids[2]]
    assert list(ledger.unfinished("none")) == []
    assert set(FINAL) == {"done", "skipped", "abandoned"}


def test_rows_and_counts_are_read(ledger: Ledger, clock: list[float]) -> None:
    first, second = added(ledger, "a"), added(ledger, "b")
    clock[0] = 1001
    ledger.begin(first, VERSIONS)
    assert ledger.counts() == {"new": 1, "downloading": 1}
    assert [row["id"] for row in ledger.videos()] == [first, second]
    assert [row["id"] for row in ledger.videos(limit=1)] == [first]
    assert [row["id"] for row in ledger.videos(["new"])] == [second]
    assert "video" not in ledger.videos()[0]
    id = ledger.begin_batch_run()
    assert ledger.batch_runs()[0]["ended_at"] is None
    ledger.end_batch_run(id, "finished", {"done": 1})
    (row,) = ledger.batch_runs()
    assert (row["outcome"], row["counts"], row["ended_at"]) == ("finished", {"done": 1}, 1001.0)
    with pytest.raises(LedgerError, match=r"has no video 99.*batch status"):
        ledger.history(99)


# --- hosts -------------------------------------------------------------------------------------------


def test_a_host_that_complains_again_is_paused_longer(ledger: Ledger, clock: list[float]) -> None:
    pause = {"first_s": 100.0, "cap_s": 350.0}
    untils = [ledger.pause_host("a.test", "not a bot", **pause) - 1000 for _ in range(4)]
    assert untils == [100, 200, 350, 350]
    assert ledger.paused_until("a.test") == 1350
    assert ledger.paused_until("b.test") == 0
    # What a host asks for counts, be it longer than our longest pause.
    assert ledger.pause_host("a.test", "asked for", least_s=5000, **pause) == 6000
    assert ledger.pause_host("b.test", "asked for", first_s=0, cap_s=350, least_s=7) == 1007
    assert [(row["host"], row["complaints"], row["reason"]) for row in ledger.hosts()] == [
        ("a.test", 5, "asked for"),
        ("b.test", 1, "asked for"),
    ]
    clock[0] = 1008
    assert [row["host"] for row in ledger.hosts()] == ["a.test"]
    ledger.host_answered("a.test")
    assert ledger.paused_until("a.test") == 0
    assert ledger.pause_host("a.test", "not a bot", **pause) == 1108


def test_complaints_outlive_the_batch_run(path: Path) -> None:
    with Ledger(path) as ledger:
        until = ledger.pause_host("a.test", "not a bot", first_s=100, cap_s=1000)
    with Ledger(path) as ledger:
        assert ledger.paused_until("a.test") == until
        assert ledger.pause_host("a.test", "not a bot", first_s=100, cap_s=1000) > until + 90


# --- maintenance -----------------------------------------------------------------------------------------


@pytest.fixture
def endings(ledger: Ledger, path: Path) -> dict[str, int]:
    """One video of each state."""
    ids = {
        name: added(ledger, name) for name in ("new", "downloading", "failed", "abandoned", "skipped", "done")
    }
    for name, id in ids.items():
        if name != "new":
            ledger.begin(id, VERSIONS)
    ledger.fail(ids["failed"], "network", "broke off", next_try=9e9)
    ledger.fail(ids["abandoned"], "crash", "died", next_try=None)
    ledger.skip(ids["skipped"], "too long", "filter")
    ledger.done(ids["done"], path.parent / "run", INFO)
    return ids


def states(ledger: Ledger, ids: dict[str, int]) -> dict[str, str]:
    return {name: str(ledger.get(id).state) for name, id in ids.items()}


def test_retry_makes_failed_videos_due(ledger: Ledger, endings: dict[str, int]) -> None:
    before = states(ledger, endings)
    assert before == {name: name for name in endings}
    ledger.pause_host("a.test", "not a bot", first_s=1e6, cap_s=1e6)
    assert ledger.retry([], abandoned=False) == 1
    assert ledger.hosts() == []  # else what is brought back would wait
    assert states(ledger, endings) == before | {"failed": "new"}
    assert ledger.retry([], abandoned=True) == 1
    assert states(ledger, endings) == before | {"failed": "new", "abandoned": "new"}
    work = ledger.get(endings["abandoned"])
    assert (work.consecutive_failures, work.error_kind, work.next_try, work.attempts) == (0, None, None, 1)
    assert ledger.retry([], abandoned=True) == 0


def test_retry_of_named_videos(ledger: Ledger, endings: dict[str, int]) -> None:
    """Whatever their state; new and running ones stay as they are."""
    before = states(ledger, endings)
    named = [endings[name] for name in ("new", "downloading", "skipped", "done")]
    assert ledger.retry(named, abandoned=False) == 2
    assert states(ledger, endings) == before | {"skipped": "new", "done": "new"}
    with pytest.raises(LedgerError, match="no video 99"):
        ledger.retry([endings["failed"], 99], abandoned=False)
    assert ledger.get(endings["failed"]).state is State.FAILED


def test_prune_deletes_old_attempts_but_each_last_one(ledger: Ledger, clock: list[float]) -> None:
    id, other = added(ledger, "a"), added(ledger, "b")
    for _ in range(3):
        ledger.begin(id, VERSIONS)
        ledger.fail(id, "network", "broke off", next_try=1.0)
        clock[0] += 100
    ledger.begin(other, VERSIONS)  # still open: no end, no age
    old = ledger.begin_batch_run()
    ledger.end_batch_run(old, "finished", {})
    clock[0] += 1000
    new = ledger.begin_batch_run()
    ledger.end_batch_run(new, "finished", {})
    assert ledger.prune(before=1150) == 2  # the attempts that ended at 1000 and 1100
    assert attempts(ledger, id) == [(3, "failed", "network")]
    assert ledger.prune(before=2000) == 1  # the first batch run
    assert attempts(ledger, id) == [(3, "failed", "network")]
    assert attempts(ledger, other) == [(1, None, None)]
    assert [row["id"] for row in ledger.batch_runs()] == [new]
    assert ledger.get(id).attempts == 3
    assert ledger.begin(id, VERSIONS) == 4


# --- several at a time -------------------------------------------------------------------------------


def test_reading_does_not_wait_for_a_writer(ledger: Ledger, path: Path) -> None:
    id = added(ledger)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE videos SET state = 'done'")
        began = time.monotonic()
        with Ledger(path, read_only=True) as reader:
            assert reader.get(id).state is State.NEW
            assert time.monotonic() - began < 5
            writer.execute("COMMIT")
            assert reader.get(id).state is State.DONE
            with pytest.raises(LedgerError):
                reader.begin(id, VERSIONS)


def test_a_writer_waits_for_another(ledger: Ledger, path: Path) -> None:
    id = added(ledger)
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(1.0, other.execute, ["COMMIT"])
    timer.start()
    began = time.monotonic()
    ledger.begin(id, VERSIONS)
    waited = time.monotonic() - began
    timer.join()
    other.close()
    assert waited > 0.8
    assert attempts(ledger, id) == [(1, None, None)]
    assert ledger._db.execute("PRAGMA busy_timeout").fetchone()[0] >= 10_000


def test_waiting_in_vain_is_a_temporary_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BUSY_S", 0.1)
    with Ledger(path) as ledger, contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        id = added(ledger)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(
            LedgerError, match=r"locked the ledger .* for 0\.1 s: end it, or wait for it"
        ) as caught:
            ledger.begin(id, VERSIONS)
        assert caught.value.temporary
        other.execute("COMMIT")
        ledger.begin(id, VERSIONS)
        assert ledger.get(id).attempts == 1


def test_two_threads_share_a_ledger(ledger: Ledger) -> None:
    ids = [added(ledger, name) for name in "ab"]

    def work(id: int) -> None:
        for number in range(20):
            ledger.begin(id, VERSIONS)
            ledger.segment(id, number, samples=1, faces=1, size_bytes=1)
            ledger.fail(id, "network", "broke off", next_try=1.0)
            assert ledger.get(id).consecutive_failures == 1

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(work, ids))
    for id in ids:
        assert attempts(ledger, id) == [(number, "failed", "network") for number in range(1, 21)]


def test_a_change_that_fails_leaves_nothing_behind(ledger: Ledger) -> None:
    id = added(ledger)
    with pytest.raises(KeyError):
        ledger.downloaded(id, {"paths": []}, size_bytes=1, fetch_s=1)
    with pytest.raises(RuntimeError), ledger._transaction() as db:
        db.execute("UPDATE videos SET state = 'done'")
        raise RuntimeError
    assert ledger.get(id).state is State.NEW
    ledger.begin(id, VERSIONS)


# --- places ------------------------------------------------------------------------------------------


def test_the_whole_output_folder_can_be_moved(path: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    with Ledger(path) as ledger:
        inside = added(ledger, "a", folder=path.parent / "news")
        beyond = added(ledger, "b", folder=outside)
        ledger.done(inside, path.parent / "news" / "run", INFO)
        ledger.done(beyond, outside / "run", INFO | {"title": "B"})
    moved = tmp_path / "elsewhere"
    path.parent.rename(moved)
    with Ledger(moved / LEDGER_NAME) as ledger:
        works: list[Work] = [ledger.get(id) for id in (inside, beyond)]
        assert [(work.folder, work.run) for work in works] == [
            (moved / "news", moved / "news" / "run"),
            (outside, outside / "run"),
        ]
        assert ledger.history(inside)["run"] == str(moved / "news" / "run")


def test_without_a_file_a_reader_sees_an_empty_ledger(path: Path) -> None:
    with Ledger(path, read_only=True) as ledger:
        assert ledger.counts() == {}
        assert list(ledger.unfinished()) == []
    assert not path.parent.exists()
    assert health(path) == ("none yet", "")


def test_a_new_ledger_does_not_inherit_the_log_of_a_lost_one(path: Path, tmp_path: Path) -> None:
    """After a kill the write-ahead log is beside the file, and stays there if only the file is moved away."""
    with Ledger(path) as ledger:
        added(ledger)
        left = tmp_path / "left"
        shutil.copytree(path.parent, left)
    assert (left / f"{LEDGER_NAME}-wal").stat().st_size > 0
    (left / LEDGER_NAME).rename(tmp_path / "away")
    with Ledger(left / LEDGER_NAME) as ledger:
        assert ledger.counts() == {}
        added(ledger, "other")
    with Ledger(left / LEDGER_NAME) as ledger:
        assert [row["identity"] for row in ledger.videos()] == ["other"]


# --- versions ----------------------------------------------------------------------------------------


_OLD_NAMES = 3
"""The last version with the old names."""
TITLE = 'he said "dead": "state": "dead"'
"""Looks like a value that is renamed."""
RUN_COUNTS = {"people": 2, "analysed_s": 9.5, "faces_judged": 7}
BATCH_COUNTS = {
    "dead": 1,
    "troubles": [{"state": "dead", "title": TITLE}, {"state": "failed", "title": None}],
}


def write_old(path: Path, version: int) -> None:
    """A ledger as an older version wrote it; up to 3, columns, states and keys have their old names."""
    path.parent.mkdir()
    states = ("new", "claimed", "downloaded", "analysing", "done", "skipped", "failed", "dead")
    with contextlib.closing(sqlite3.connect(path)) as db:
        for script in module._MIGRATIONS[: min(version, _OLD_NAMES)]:
            db.executescript(script)
        for id, state in enumerate(states, 1):
            db.execute(
                "INSERT INTO videos (id, identity, settings_hash, models_hash, origin, source, standalone,"
                " folder, state, attempts, fruitless, title, counts, added_at, changed_at)"
                " VALUES (?, ?, 's1', 'm1', 'o', 'https://site.test/a', 1, 'news', ?, 3, 2, ?, ?, 1, 2)",
                (id, f"site-{id}", state, TITLE, json.dumps(RUN_COUNTS) if state == "done" else None),
            )
        db.execute("INSERT INTO segments VALUES (7, 0, 'done', 5, 3, 100, 1)")
        db.executemany(
            "INSERT INTO attempts (video, number, started_at, ended_at, outcome) VALUES (?, 3, 1, 2, ?)",
            [(7, "failed"), (8, "dead")],
        )
        if version >= 2:
            db.execute("INSERT INTO hosts VALUES ('a.test', 9e12, 2, 'not a bot')")
            db.execute("INSERT INTO nights VALUES (1, 1, 2, 'finished', ?)", (json.dumps(BATCH_COUNTS),))
        if version >= 3:
            db.execute("UPDATE videos SET parts_key = 'k' WHERE id = 7")
        db.commit()
        for script in module._MIGRATIONS[_OLD_NAMES:version]:
            db.executescript(script)
        db.execute(f"PRAGMA user_version = {version}")
        db.execute(f"PRAGMA application_id = {module._APPLICATION_ID}")
        db.commit()
        db.execute("PRAGMA journal_mode = WAL")


def check_upgraded(ledger: Ledger, version: int) -> None:
    states = ["new", "downloading", "downloaded", "analyzing", "done", "skipped", "failed", "abandoned"]
    assert [ledger.get(id).state for id in range(1, 9)] == states
    row = ledger.history(7)
    assert (row["title"], row["attempts"], row["consecutive_failures"]) == (TITLE, 3, 2)
    assert row["folder"] == str(ledger.path.parent / "news")
    assert [(each["state"], each["faces"]) for each in row["segments_list"]] == [("completed", 3)]
    assert attempts(ledger, 7) == [(3, "failed", None)]
    assert attempts(ledger, 8) == [(3, "abandoned", None)]
    assert ledger.history(5)["counts"] == {"people": 2, "analyzed_s": 9.5, "faces_estimated": 7}
    assert [host["host"] for host in ledger.hosts()] == (["a.test"] if version >= 2 else [])
    troubles = [{"state": "abandoned", "title": TITLE}, {"state": "failed", "title": None}]
    counts = [batch_run["counts"] for batch_run in ledger.batch_runs()]
    assert counts == ([{"abandoned": 1, "troubles": troubles}] if version >= 2 else [])
    assert [work.parts_key for work in ledger.parts()] == (["k"] if version >= 3 else [])


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION))
def test_an_older_ledger_is_upgraded_once(path: Path, version: int) -> None:
    write_old(path, version)
    with Ledger(path) as ledger:
        check_upgraded(ledger, version)
        assert ledger.begin(7, VERSIONS) == 4
        assert ledger.begin_batch_run() == 1 + (version >= 2)
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    with Ledger(path) as ledger:
        assert attempts(ledger, 7) == [(3, "failed", None), (4, None, None)]
        new = {name for (name,) in ledger._db.execute("SELECT sql FROM sqlite_master WHERE sql NOT NULL")}
    with Ledger(path.with_name("new")) as fresh:
        assert {
            name for (name,) in fresh._db.execute("SELECT sql FROM sqlite_master WHERE sql NOT NULL")
        } == new


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION))
def test_an_older_ledger_is_read_without_being_changed(path: Path, version: int) -> None:
    """Or its reader learns what upgrades it; a copy of a million videos would take too long."""
    write_old(path, version)
    content = path.read_bytes()
    if version < 5:
        with pytest.raises(LedgerError, match=r"earlier version.*next batch run upgrades it.*`batch prune`"):
            Ledger(path, read_only=True)
        assert "batch prune" in health(path)[1]
    else:
        with Ledger(path, read_only=True) as ledger:
            check_upgraded(ledger, version)
            assert ledger.over("o", "s1", "m1") == {"site-5": 5, "site-6": 6, "site-8": 8}
            assert ledger.workers() == [] and ledger.rates() == []
    assert path.read_bytes() == content
    prune(path, path.parent, keep_days=1e6)
    assert health(path)[0].startswith("8 videos: 1 new, 1 downloading, 1 downloaded")


def test_an_upgrade_that_is_interrupted_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_old(path, 3)
    *older, last = module._MIGRATIONS
    monkeypatch.setattr(module, "_MIGRATIONS", (*older, f"{last}; SELECT no_such_function()"))
    with pytest.raises(LedgerError):
        Ledger(path)
    monkeypatch.undo()
    with Ledger(path) as ledger:
        check_upgraded(ledger, 3)


# --- files that cannot be used -----------------------------------------------------------------------


def filled(path: Path, videos: int = 200) -> None:
    with Ledger(path) as ledger:
        for number in range(videos):
            added(ledger, f"site-{number}", title="x" * 200)
    assert not path.with_name(f"{path.name}-wal").exists()


def spoil_random(path: Path) -> None:
    path.write_bytes(bytes(range(1, 256)) * 100)


def spoil_truncated(path: Path) -> None:
    filled(path)
    os.truncate(path, path.stat().st_size // 2)


def spoil_empty(path: Path) -> None:
    path.write_bytes(b"")


def spoil_foreign(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript("CREATE TABLE bookmarks (url TEXT); INSERT INTO bookmarks VALUES ('x')")


def spoil_page(path: Path) -> None:
    filled(path)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2 // 4096 * 4096)
        file.write(b"\xa5" * 4096)


def spoil_text(path: Path) -> None:
    path.write_text("id;title\n1;x\n" * 400)


def spoil_newer(path: Path) -> None:
    filled(path, 1)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")


DAMAGED = "is damaged .*restore it from a backup, or move it away and run the batch again"
FOREIGN = "is not a ledger of this program: move it away, or name another with --ledger"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_random, DAMAGED),
        (spoil_text, DAMAGED),
        (spoil_truncated, DAMAGED),
        (spoil_page, DAMAGED),
        (spoil_empty, FOREIGN),
        (spoil_foreign, FOREIGN),
        (spoil_newer, "was written by a newer version: update the program"),
    ],
)
def test_unusable_files_are_refused_and_not_changed(path: Path, spoil: Any, message: str) -> None:
    """The sentence says what to do; no file is ever replaced by an empty ledger."""
    path.parent.mkdir()
    spoil(path)
    content, beside = path.read_bytes(), set(path.parent.iterdir())
    for _ in range(2):
        with pytest.raises(LedgerError, match=message) as caught:
            Ledger(path)
        assert not caught.value.temporary
        assert str(path) in str(caught.value)
        state, advice = health(path)
        assert (state, advice) == ("it cannot be used", str(caught.value))
    assert path.read_bytes() == content
    assert set(path.parent.iterdir()) == beside


def test_a_ledger_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / LEDGER_NAME).mkdir()
    with pytest.raises(LedgerError, match="cannot be opened"):
        Ledger(tmp_path / LEDGER_NAME)
    (tmp_path / "file").touch()
    with pytest.raises(LedgerError, match="cannot be opened"):
        Ledger(tmp_path / "file" / LEDGER_NAME)


def test_a_full_disk_is_a_temporary_error(ledger: Ledger) -> None:
    """Committed rows stay, and the ledger can be used again once there is space."""
    added(ledger)
    pages = ledger._db.execute("PRAGMA page_count").fetchone()[0]
    ledger._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(LedgerError, match="free some space, then run the same command again") as caught:
        for number in range(1000):
            added(ledger, f"other-{number}", title="x" * 1000)
    assert caught.value.temporary
    assert ledger.find("site-a", "s1", "m1") is not None
    ledger._db.execute("PRAGMA max_page_count = 100000")
    added(ledger, "more", title="x" * 10_000)


# --- the lock ----------------------------------------------------------------------------------------

_HOLDER = """
import sys, time
from pathlib import Path
from analyzer.batch.ledger import lock_ledger
with lock_ledger(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_only_one_batch_works_with_a_ledger(path: Path) -> None:
    """A second one ends at once; a killed one leaves no lock."""
    arguments = [sys.executable, "-c", _HOLDER, str(path)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            words = r"another batch is running with .*: wait until it has ended"
            with pytest.raises(LedgerError, match=words) as caught, lock_ledger(path):
                pass
            assert caught.value.temporary
            assert is_running(path)
            with Ledger(path, read_only=True) as ledger:  # reading is always possible
                assert ledger.counts() == {}
        finally:
            holder.send_signal(signal.SIGKILL)
    with lock_ledger(path), pytest.raises(LedgerError), lock_ledger(path):
        pass
    assert not is_running(path)
    with lock_ledger(path):
        pass


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "smb3", "fuse.sshfs"])
def test_a_network_file_system_is_refused(path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "file_system", lambda folder: kind)
    words = rf"network file system \({kind}\).*--ledger"
    with pytest.raises(LedgerError, match=words) as caught, lock_ledger(path):
        pass
    assert not caught.value.temporary
    assert not path.parent.exists()


def test_a_network_file_system_is_refused_whatever_the_name_of_its_mount_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = tmp_path / "B\N{LATIN SMALL LETTER U WITH DIAERESIS}ro und mehr"
    point.mkdir()
    mounts = [("/", "ext4"), (str(point.resolve()), "nfs4")]
    found = [SimpleNamespace(mountpoint=place, fstype=kind) for place, kind in mounts]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: found)
    with pytest.raises(LedgerError, match="network file system"), lock_ledger(point / "out" / LEDGER_NAME):
        pass
    with lock_ledger(tmp_path / "out" / LEDGER_NAME):
        pass


@pytest.mark.parametrize("kind", ["ext4", "tmpfs", "overlay", None])
def test_local_file_systems_are_fine(path: Path, kind: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "file_system", lambda folder: kind)
    with lock_ledger(path):
        assert path.parent.is_dir()


def test_a_place_that_cannot_be_locked(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LedgerError, match=r"cannot be written .*--out"), lock_ledger(tmp_path / "file" / "l"):
        pass
