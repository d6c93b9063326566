"""A million videos: what is done does not grow with what is left alone.

Counted are statements, transactions, rows and calls, not seconds.
"""

from __future__ import annotations

import gc
import json
import math
import random
import sqlite3
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest

from analyzer.batch import index_page, scheduler
from analyzer.batch import ledger as module
from analyzer.batch.config import Filters, Jobs, jobs_of
from analyzer.batch.context import BatchContext, Stop
from analyzer.batch.executors.base import WorkerStatus
from analyzer.batch.failures import Failures
from analyzer.batch.index_page import write_index
from analyzer.batch.ledger import LEDGER_NAME, Ledger, Listed, State
from analyzer.batch.listing import Listing
from analyzer.batch.log import EventLog
from analyzer.batch.plan import Excluded, Plan, Planned, planned
from analyzer.batch.protocol import Done, JobEvent, JobSpec, Opened, Progress, RunFacts, Segment
from analyzer.batch.queue import Entry, WorkQueue
from analyzer.batch.scheduler import Scheduler
from analyzer.cli.batch import describe_plan
from analyzer.errors import LedgerError
from analyzer.settings import Settings
from analyzer.sources import resolve
from analyzer.sources.resolve import Fetcher
from analyzer.sources.types import Item, MediaKind
from analyzer.util.callbacks import Callback
from analyzer.util.json_text import indented
from analyzer.vision.selection import models_hash
from testkit.servers import ScriptedListIE
from tests.batch_faults import FakeClock

SETTINGS = Settings(video=False, playlist=True)
VERSIONS = {"analyzer": "1"}
COUNTS = {
    **dict.fromkeys(("people", "female", "male", "faces", "samples", "people_low", "people_high"), 1),
    "analyzed_s": 2.0,
}


class Channel(Fetcher):
    """A channel with some videos; sources are named by how many they have."""

    listed = 0

    def identified(
        self, source: Any, *, over: Any = (), on_wait: Any = None, on_left_out: Any = None
    ) -> Iterator[tuple[None, Item]]:
        del over, on_left_out
        name, number = source.rsplit("/", 1)
        for each in range(int(number)):
            type(self).listed += 1
            if on_wait is not None and each % 100 == 99:
                on_wait()
            id = f"{name[-1]}{each:010}"
            entry = {
                "_type": "url",
                "ie_key": "Youtube",
                "id": id,
                "url": f"https://www.youtube.com/watch?v={id}",
            }
            item = Item(entry["url"], MediaKind.VIDEO, title=f"Title {each}", duration_s=60.0, entry=entry)
            yield None, item


def fetchers(settings: Settings, on_progress: Any) -> Fetcher:
    del on_progress
    return Channel(settings, want_audio=False)


def jobs(out: Path, *sources: str, **more: Any) -> Jobs:
    return jobs_of(sources, SETTINGS, out=out, reserve_mb=0, **more)


@contextmanager
def opened(out: Path, *sources: str, **more: Any) -> Iterator[tuple[BatchContext, list[str]]]:
    """A batch run's context, and the statements that its ledger executes."""
    given = jobs(out, *sources, **more)
    statements: list[str] = []
    with Ledger(given.ledger) as ledger, EventLog(given.log) as log:
        ledger._db.set_trace_callback(statements.append)
        tell = Callback(lambda event, video, facts: None)
        yield BatchContext(given, ledger, log, tell, FakeClock(), Stop(), fetchers), statements
        ledger._db.set_trace_callback(None)


def list_all(context: BatchContext) -> WorkQueue:
    sources = list(context.jobs.sources)
    queue = WorkQueue(context)
    hashes = {SETTINGS.result_hash(): models_hash(SETTINGS)}
    failures = Failures(context, queue, {source.name: source for source in sources})
    Listing(context, queue, failures, hashes).list_all(sources)
    return queue


def verbs(statements: list[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for each in statements:
        verb = each.split()[0]
        found[verb] = found.get(verb, 0) + 1
    return found


@pytest.fixture(autouse=True)
def no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine, the time for which a transaction may stay open would be over at any moment."""
    monkeypatch.setattr(module, "_TOGETHER_S", math.inf)


# --- listing -----------------------------------------------------------------------------------------


def test_a_channel_is_entered_in_few_transactions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TOGETHER", 200)
    with opened(tmp_path, "https://www.youtube.com/@a/99", "https://www.youtube.com/@b/399") as (
        context,
        seen,
    ):
        queue = list_all(context)
        assert len(queue) == 498
        assert context.ledger.counts() == {State.NEW: 498}
    assert verbs(seen)["INSERT"] == 498
    # After 200 rows each, and whenever a server is waited for, as after 100, 200 and 300 of the second one.
    assert verbs(seen)["COMMIT"] == verbs(seen)["BEGIN"] <= 6


def test_listing_again_writes_nothing_and_asks_once(tmp_path: Path) -> None:
    name = "https://www.youtube.com/@a/300"
    with opened(tmp_path, name) as (context, _):
        list_all(context)
        for id in range(1, 301):
            context.ledger.skip(id, "the same video as 1", "duplicate")
    with opened(tmp_path, name) as (context, seen):
        assert len(list_all(context)) == 0
    assert verbs(seen).keys() <= {"SELECT", "PRAGMA"}
    assert verbs(seen)["SELECT"] <= 6


OVER = {"done": True, "abandoned": True, "duplicate": True, "canceled": True}
"""All others are looked at again."""


def enter(ledger: Ledger, work: int, how: str) -> None:
    if how == "done":
        ledger.done(work, ledger.path.parent / f"run {work}", {"video_id": str(work), "counts": COUNTS})
    elif how in ("failed", "abandoned"):
        ledger.fail(work, "network", "no", next_try=5.0 if how == "failed" else None)
    elif how != "new":
        ledger.skip(work, "a reason", how)


@pytest.mark.parametrize("listed_by", ["the same channel", "another"])
def test_a_plan_and_a_run_agree_on_what_is_over(tmp_path: Path, listed_by: str) -> None:
    """Whichever source has brought a video into the ledger."""
    states = (*OVER, "new", "failed", "filter", "replaced", "settings", "gone")
    source = f"https://www.youtube.com/@a/{len(states)}"
    first = source if listed_by == "the same channel" else f"https://www.youtube.com/@a/0{len(states)}"
    with opened(tmp_path, first) as (context, _):
        list_all(context)
        for id, how in enumerate(states, 1):
            enter(context.ledger, id, how)
    plan = Plan()
    found = list(planned(jobs(tmp_path, source), plan, fetchers=fetchers))
    due = [number for number, how in enumerate(states, 1) if how not in OVER]
    assert [one.title for one in found if isinstance(one, Planned)] == [f"Title {id - 1}" for id in due]
    assert (plan.videos, plan.known) == (len(due), len(OVER))
    with opened(tmp_path, source) as (context, _):
        queue = list_all(context)
        assert sorted(id for id in range(1, len(states) + 1) if id in queue) == due


@pytest.fixture
def items(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The entries of playlists of which items were made."""
    made: list[Any] = []
    whole = resolve._entry_item
    monkeypatch.setattr(
        resolve, "_entry_item", lambda entry, *more: made.append(entry) or whole(entry, *more)
    )
    return made


class StationIE(ScriptedListIE):
    """A list of 600 videos."""

    _VALID_URL = r"https://lists\.test/(?P<id>.+)"

    def _real_extract(self, url: str) -> Any:
        ids = [f"{number:011}" for number in range(600)]
        link = {"_type": "url", "ie_key": "Youtube", "title": "Talk"}
        links = [link | {"id": id, "url": f"https://youtu.be/{id}"} for id in ids]
        return self.playlist_result(links, "list")


def station(settings: Settings, on_progress: Any) -> Fetcher:
    del on_progress
    return Fetcher(settings, want_audio=False, extractors=[StationIE])


def test_of_videos_that_are_over_no_items_are_made(tmp_path: Path, items: list[Any]) -> None:
    name = "https://lists.test/c"
    with opened(tmp_path, name) as (context, _):
        context.make_fetcher = station
        assert len(list_all(context)) == len(items) == 600
        for id in range(1, 591):
            context.ledger.skip(id, "the same video as 1", "duplicate")
    items.clear()
    plan = Plan()
    assert len(list(planned(jobs(tmp_path, name), plan, fetchers=station))) == 10
    assert (plan.videos, plan.known, len(items)) == (10, 590, 10)
    items.clear()
    with opened(tmp_path, name) as (context, _):
        context.make_fetcher = station
        assert len(list_all(context)) == len(items) == 10


@pytest.mark.parametrize("over", [True, False])
def test_the_same_videos_with_other_settings_clash_in_one_folder(tmp_path: Path, over: bool) -> None:
    """Whether or not the first source's are over; not if that was forgotten, or in another folder."""
    name = "https://lists.test/c"
    with opened(tmp_path, name) as (context, _):
        context.make_fetcher = station
        list_all(context)
        for id in range(1, 601 if over else 1):
            context.ledger.skip(id, "the same video as 1", "duplicate")
    with opened(tmp_path, name) as (context, _):
        context.make_fetcher = station
        first, queue = context.jobs.sources[0], WorkQueue(context)
        other = replace(first, name="https://lists.test/d", settings=replace(SETTINGS, fps=2))
        apart = replace(other, name="https://lists.test/e", folder=tmp_path / "apart")
        hashes = {each.settings.result_hash(): models_hash(SETTINGS) for each in (first, other)}
        listing = Listing(context, queue, Failures(context, queue, {}), hashes)
        listing.list_all([first, other, apart])
        outcome = context.outcome
        assert [one["kind"] for one in outcome.troubles] == ["clash"] * 600
        assert {one["source"] for one in outcome.troubles} == {other.name}
        assert "is also listed by https://lists.test/c, with other" in outcome.troubles[0]["error"]
        assert len(queue) == (600 if over else 1200)
        listing.forget(first.name)
        listing.list_all([other])
        assert len(outcome.troubles) == 600


def test_videos_clash_in_each_folder_for_which_they_are_listed(tmp_path: Path) -> None:
    """The folder is that of the source that has them analyzed, here the second, not that of the row."""
    with opened(tmp_path, "https://lists.test/c") as (context, _):
        context.make_fetcher = station
        queue = WorkQueue(context)
        first = replace(context.jobs.sources[0], filters=Filters(not_title="talk"))
        second = replace(first, name="https://lists.test/d", folder=tmp_path / "apart", filters=Filters())
        third = replace(second, name="https://lists.test/e", settings=replace(SETTINGS, fps=2))
        hashes = {each.settings.result_hash(): models_hash(SETTINGS) for each in (first, third)}
        listing, troubles = (
            Listing(context, queue, Failures(context, queue, {}), hashes),
            context.outcome.troubles,
        )
        listing.list_all([first, second, third])
        assert {(one["source"], one["kind"]) for one in troubles} == {(third.name, "clash")}
        assert len(troubles) == len(queue) == 600
        assert "is also listed by https://lists.test/d, with other" in troubles[0]["error"]
        taken = queue.take()
        assert taken is not None and taken.source is second
        listing.forget(second.name)
        listing.list_all([third])
        assert (len(troubles), len(queue)) == (600, 1199)


def test_a_new_video_costs_the_same_however_many_its_source_has(tmp_path: Path) -> None:
    """Counted in steps of SQLite."""
    path, costs = tmp_path / LEDGER_NAME, []
    with Ledger(path) as ledger, ledger.together():
        for number in range(2000):
            steps: list[int] = []
            if number in (100, 1999):
                ledger._db.set_progress_handler(lambda steps=steps: steps.append(1), 1)
            ledger.add(listed(path, f"video {number}"))
            ledger._db.set_progress_handler(None, 1)
            costs.append(len(steps))
    assert 0 < costs[1999] < 2 * costs[100]


def test_the_work_of_other_sources_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"https://www.youtube.com/@{letter}/5" for letter in "abcdefgh"]
    with opened(tmp_path, *names) as (context, _):
        list_all(context)
    made: list[Any] = []
    whole = Ledger._work
    monkeypatch.setattr(Ledger, "_work", lambda self, row: made.append(row) or whole(self, row))
    with opened(tmp_path, *names) as (context, _):
        queue = list_all(context)
        assert len(queue) == 40
    assert len(made) <= 3 * 40  # each row, not each row for each source


def test_while_a_server_is_waited_for_others_may_write(tmp_path: Path) -> None:
    with opened(tmp_path, "https://www.youtube.com/@a/150") as (context, _):
        waited = []

        def check() -> None:
            with closing(sqlite3.connect(context.ledger.path, timeout=0, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                waited.append(other.execute("SELECT count(*) FROM videos").fetchone()[0])

        context.check_stop = check  # type: ignore[method-assign]
        list_all(context)
    assert waited == [0, 99]


def test_who_reads_the_ledger_finds_what_was_reported(tmp_path: Path) -> None:
    """An event may be handled by somebody with a connection of their own."""
    found = []
    given = jobs(tmp_path, "https://www.youtube.com/@a/3")
    stop = Stop()

    def on_event(event: str, video: int | None, facts: dict[str, Any]) -> None:
        del facts
        if event == "queued":
            stop.request()
        if event == "found" and video is not None:
            with Ledger(given.ledger, read_only=True) as ledger:
                found.append(ledger.get(video).state)

    made = Scheduler(
        given,
        Reports([]),
        on_event=on_event,
        commit_first=True,
        stop=stop,
        fetchers=fetchers,
        clock=FakeClock(),
    )
    made.run()
    assert found == [State.NEW] * 3


def test_who_waits_for_somebody_that_writes_to_the_ledger_does_not_keep_it_from_that(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video, which nobody finds out")
    given = jobs_of([str(tmp_path / "a.mp4")], Settings(video=False), out=tmp_path / "out", reserve_mb=0)
    told = set()

    def on_event(event: str, video: int | None, facts: dict[str, Any]) -> None:
        del video, facts
        told.add(event)
        # A thread that fetches may be writing at the moment; an open transaction would outlast the timeout.
        with closing(sqlite3.connect(given.ledger, timeout=5, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")

    Scheduler(given, Reports([0]), on_event=on_event, commit_first=True).run()
    assert told >= {"found", "progress", "segment_committed", "done"}


# --- transactions ------------------------------------------------------------------------------------


def listed(path: Path, name: str, **more: Any) -> Listed:
    known: dict[str, Any] = {
        "settings_hash": "s",
        "models_hash": "m",
        "origin": "https://lists.test/c",
        "source": f"https://site.test/{name}",
        "standalone": True,
        "folder": path.parent,
    }
    return Listed(identity=name, **known | more)


def test_a_change_that_fails_leaves_the_others(tmp_path: Path) -> None:
    path = tmp_path / LEDGER_NAME
    with Ledger(path) as ledger, Ledger(path, read_only=True) as other:
        with pytest.raises(RuntimeError), ledger.together():
            ledger.add(listed(path, "a"))
            with pytest.raises(KeyError):
                ledger.downloaded(1, {}, size_bytes=1, fetch_s=1)
            with pytest.raises(ZeroDivisionError), ledger._transaction() as db:
                db.execute("UPDATE videos SET title = 'no'")
                raise ZeroDivisionError
            ledger.add(listed(path, "b"))
            assert other.counts() == {}
            assert ledger.counts() == {State.NEW: 2}
            raise RuntimeError
        assert other.counts() == {State.NEW: 2}
        assert [row["title"] for row in other.videos()] == [None, None]
        ledger.add(listed(path, "c"))  # alone again
        assert other.counts() == {State.NEW: 3}


def test_a_full_disk_ends_what_is_collected(tmp_path: Path) -> None:
    path = tmp_path / LEDGER_NAME
    with Ledger(path) as ledger:
        ledger.add(listed(path, "a"))
        pages = ledger._db.execute("PRAGMA page_count").fetchone()[0]
        ledger._db.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(LedgerError) as caught, ledger.together():
            for number in range(1000):
                ledger.add(listed(path, f"b{number}", title="x" * 1000))
        assert caught.value.temporary
        ledger._db.execute("PRAGMA max_page_count = 100000")
        ledger.add(listed(path, "c"))
        assert ledger.find("a", "s", "m") is not None


class Reports:
    """An executor whose jobs report everything at once."""

    slots = threads = 1
    downloader = None

    def __init__(self, segments: list[int]) -> None:
        self._segments = segments
        self._jobs: list[JobSpec] = []

    def submit(self, spec: JobSpec) -> None:
        self._jobs.append(spec)

    def events(self, timeout_s: float) -> Iterator[JobEvent]:
        del timeout_s
        while self._jobs:
            spec = self._jobs.pop()
            facts = RunFacts("file-1", "A", None, None, True, None, None, 5.0, COUNTS)
            yield Opened(spec.job_id, "key", (), len(self._segments), 5.0)
            yield Progress(spec.job_id, 0.0, 5.0)
            for segment in self._segments:
                yield Segment(spec.job_id, segment, 1, 1, 1)
            yield Done(spec.job_id, "A file-1", facts, 1.0, None, 1.0)

    def workers(self) -> list[WorkerStatus]:
        return []

    def cancel(self, job_id: int) -> None:
        del job_id

    def close(self) -> None:
        pass


def test_segments_that_arrive_together_are_committed_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred machines finish more segments than a disk can flush one by one."""
    seen: list[str] = []

    class Traced(Ledger):
        def __init__(self, path: Path, **more: Any) -> None:
            super().__init__(path, **more)
            self._db.set_trace_callback(seen.append)

    monkeypatch.setattr(scheduler, "Ledger", Traced)
    (tmp_path / "a.mp4").write_bytes(b"no video, which nobody finds out")
    given = jobs_of([str(tmp_path / "a.mp4")], Settings(video=False), out=tmp_path / "out", reserve_mb=0)
    commits = {}
    for segments in (1, 50):
        (tmp_path / "a.mp4").write_bytes(b"no video, which nobody finds out" * segments)
        seen.clear()
        assert Scheduler(given, Reports(list(range(segments)))).run().done == 1
        assert sum("INSERT INTO segments" in each for each in seen) == segments
        commits[segments] = verbs(seen)["COMMIT"]
    assert commits[1] == commits[50]


# --- queries -----------------------------------------------------------------------------------------


def test_no_statement_reads_all_rows_to_find_a_few(tmp_path: Path) -> None:
    """What a video costs, and what people ask, is looked up by an index, and needs no sorting of all rows."""
    path, seen = tmp_path / LEDGER_NAME, []
    with Ledger(path) as ledger:
        work, _ = ledger.add(listed(path, "a"))
        ledger._db.set_trace_callback(seen.append)
        ledger.add(listed(path, "b"))
        ledger.known_of(["a", "b"], "s", "m")
        assert ledger.over("https://lists.test/c", "s", "m") == {}
        ledger.find("a", "s", "m")
        ledger.begin(work.id, VERSIONS)
        ledger.describe(work.id, video_id="a")
        ledger.same_work(work, "a")
        ledger.downloaded(work.id, {"video_id": "a"}, size_bytes=1, fetch_s=1)
        ledger.analyzing(work.id)
        ledger.opened(work.id, "k", [0], 2)
        ledger.segment(work.id, 1, samples=1, faces=1, size_bytes=1)
        ledger.done(work.id, tmp_path / "run", {"video_id": "a", "counts": {}}, analysis_s=1.0)
        ledger.fail(2, "network", "no", next_try=5.0)
        ledger.release(2, State.NEW)
        ledger.skip(2, "no", "filter")
        ledger.reopen(2)
        ledger.of_origin("https://lists.test/c")
        list(ledger.unfinished("https://lists.test/c"))
        ledger.running()
        ledger.needs_download(work.id)
        ledger.is_published(tmp_path / "run")
        ledger.of_identity("a")
        ledger.rates()
        ledger.rates("s")
        ledger.history(work.id)
        assert len(ledger.videos([], 30)) == 2
        assert len(ledger.videos(["failed", "new"], 30)) == 1
        ledger._db.set_trace_callback(None)
        plans = {
            sql: [row[3] for row in ledger._db.execute(f"EXPLAIN QUERY PLAN {sql}")]
            for sql in seen
            if sql.split()[0] in ("SELECT", "UPDATE", "INSERT", "DELETE")
        }
    assert len(plans) > 30
    tables = ("videos", "attempts", "segments", "v", "a", "other", "mine")
    scanned = {
        sql: step
        for sql, steps in plans.items()
        for step in steps
        if step.startswith("SCAN") and step.split()[1] in tables and "USING" not in step
    }
    assert scanned == {}
    by_run = [" ".join(steps) for sql, steps in plans.items() if "WHERE run = " in sql]
    assert len(by_run) == 2
    assert all("videos_by_run" in steps for steps in by_run)  # not all that are done


def test_the_index_page_reads_whole_rows_only_of_what_it_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, clock = tmp_path / LEDGER_NAME, count(1000.0)
    with Ledger(path, now=lambda: next(clock)) as ledger:
        for number in range(40):
            id = ledger.add(listed(path, f"v{number}", title=f"Title {number}"))[0].id
            ledger.done(id, tmp_path / f"run {number}", {"video_id": "v", "complete": True, "counts": COUNTS})
        monkeypatch.setattr(index_page, "_ROWS", 3)
        made, whole = [], Ledger._document
        monkeypatch.setattr(Ledger, "_document", lambda self, row: made.append(row["id"]) or whole(self, row))
        page = write_index(ledger, tmp_path).read_text("utf-8")
    assert made == [40, 39, 38]
    assert "Title 39" in page
    assert "Title 36" not in page
    assert ">40<" in page  # people and videos of all runs


# --- the queue ---------------------------------------------------------------------------------------


@dataclass
class Model:
    """The queue as a list, as slow as it is plain."""

    context: BatchContext
    entries: list[dict[str, Any]]
    paused: dict[str, float]
    rested: dict[str, float]

    def take(self, local: bool, remote: bool, busy: set[str]) -> int | None:
        now, moment = self.context.clock.time(), self.context.clock.monotonic()
        for each in self.entries:
            host = each["host"]
            wanted = local if host is None else remote and host not in busy
            due = max(each["due"], self.paused.get(host, 0.0))
            if wanted and due <= now and self.rested.get(host, 0.0) <= moment:
                self.entries.remove(each)
                return int(each["id"])
        return None

    def next_due(self) -> float:
        return min(
            (max(each["due"], self.paused.get(each["host"], 0.0)) for each in self.entries), default=math.inf
        )


@pytest.mark.parametrize("seed", range(20))
def test_the_queue_gives_what_a_plain_list_would(tmp_path: Path, seed: int) -> None:
    """Random videos of some hosts, with pauses, rests, retries and removals."""
    rng = random.Random(seed)
    names = [f"https://www.youtube.com/@{letter}/0" for letter in "abc"]
    with opened(tmp_path, *names) as (context, _):
        queue, model = WorkQueue(context), Model(context, [], {}, {})
        now, ranked = context.clock.time(), []
        for number in range(60):
            place = rng.randrange(3)
            host = rng.choice(["a.test", "b.test", "c.test", None])
            source = f"/videos/{number}.mp4" if host is None else f"https://{host}/{number}"
            work, _ = context.ledger.add(listed(context.ledger.path, f"v{number}", source=source))
            due = rng.choice([None, now + rng.randrange(1, 200)])
            if due is not None:
                context.ledger.fail(work.id, "network", "no", next_try=due)
            rank = sum(each[1] == place for each in ranked)
            assert queue.add(context.jobs.sources[place], context.ledger.get(work.id), None)
            assert not queue.add(context.jobs.sources[place], context.ledger.get(work.id), None)
            ranked.append((rank, place, {"id": work.id, "host": host, "due": due or 0.0}))
        queue.take_turns(context.jobs.sources)
        model.entries = [each for _, _, each in sorted(ranked, key=lambda one: one[:2])]
        taken: list[tuple[Entry, dict[str, Any]]] = []
        for _ in range(400):
            act, host = rng.randrange(10), rng.choice(["a.test", "b.test", "c.test"])
            if act == 0:
                context.clock.sleep(rng.random() * 20)
            elif act == 1:
                queue.pause_host(host, context.clock.time() + rng.randrange(50))
                model.paused[host] = queue._paused[host]
            elif act == 2:
                queue.rest_host(host, rng.random() * 10)
                model.rested[host] = queue._rested[host]
            elif act == 3 and taken:
                entry, each = taken.pop(rng.randrange(len(taken)))
                entry.due = each["due"] = context.clock.time() + rng.choice([0, rng.randrange(100)])
                queue.put_back(entry)
                model.entries.append(each)
            elif act == 4 and rng.random() < 0.2:
                id = rng.randrange(1, 61)
                if any(each["id"] == id for each in model.entries):
                    queue.forget(id)
                    model.entries = [each for each in model.entries if each["id"] != id]
            else:
                local, remote = rng.random() < 0.7, rng.random() < 0.7
                busy = {host} if rng.random() < 0.3 else set()
                before = {each["id"]: each for each in model.entries}
                expected = model.take(local, remote, busy)
                entry = queue.take(local=local, remote=remote, busy=busy)
                assert (None if entry is None else entry.work.id) == expected
                if entry is not None and expected is not None:
                    taken.append((entry, before[expected]))
            assert len(queue) == len(model.entries)
            now = context.clock.time()
            assert max(queue.next_due(), now) == max(model.next_due(), now)
            assert sorted(queue.due()) == sorted(each["id"] for each in model.entries if each["due"] <= now)


def test_a_link_is_made_again_from_its_row(tmp_path: Path) -> None:
    """With the key of its extractor, also when it is tried again."""
    with opened(tmp_path, "https://www.youtube.com/@a/3") as (context, _):
        queue = list_all(context)
        assert queue._items == {}
        for _ in range(2):
            entry = queue.take()
            assert entry is not None and entry.item is not None and entry.item.entry is not None
            assert entry.item.source == entry.work.source == entry.item.entry["url"]
            assert (entry.item.entry["ie_key"], entry.item.title) == ("Youtube", entry.work.title)
            assert context.fetcher(entry.source).identify(entry.item) == entry.work.identity
            context.ledger.describe(entry.work.id, title="As the site has it")
            entry.work = context.ledger.get(entry.work.id)
            queue.put_back(entry)
        assert queue._items == {}


@pytest.mark.parametrize(
    "said",
    [
        {"title": "Another"},
        {"standalone": False},
        {"entry": {"_type": "url_transparent", "url": "https://site.test/a", "ie_key": None, "id": "a"}},
        {"entry": {"_type": "url", "url": "https://site.test/a#__x", "ie_key": None, "id": "a"}},
        {"entry": {"id": "a", "formats": []}, "standalone": False},
        {"source": "https://user:login@site.test/a"},
    ],
)
def test_what_the_row_cannot_tell_is_kept(tmp_path: Path, said: dict[str, Any]) -> None:
    with opened(tmp_path, "https://lists.test/c") as (context, _):
        queue, source = WorkQueue(context), context.jobs.sources[0]
        entry = {"_type": "url", "url": "https://site.test/a", "ie_key": None, "id": "a"}
        made = {"source": "https://site.test/a", "title": "A", "entry": entry} | said
        item = Item(kind=MediaKind.VIDEO, **made)
        work, _ = context.ledger.add(listed(context.ledger.path, "a", title="A"))
        assert queue.add(source, work, item)
        queue.take_turns([source])
        for _ in range(2):
            taken = queue.take()
            assert taken is not None
            assert taken.item is item
            queue.put_back(taken)
        queue.forget(work.id)
        assert queue._items == {}
        assert queue.take() is None


def test_waiting_videos_are_no_objects(tmp_path: Path) -> None:
    """A million would take over a gigabyte."""
    held, sizes = [], []
    for number in (50, 1000, 3000):
        with opened(tmp_path / str(number), f"https://www.youtube.com/@a/{number}") as (context, _):
            context.ledger._db.set_trace_callback(None)  # what it notes would count
            gc.collect()
            before = len(gc.get_objects())
            tracemalloc.start()
            queue, size = list_all(context), tracemalloc.get_traced_memory()[0]
            tracemalloc.stop()
            gc.collect()
            held.append(len(gc.get_objects()) - before)
            sizes.append(size)
            assert len(queue) == number
    assert max(held[1:]) - min(held[1:]) < 50
    assert (sizes[2] - sizes[1]) / 2000 < 200  # bytes for each, with the numbers of its listing


def calls(function: Callable[[], object]) -> int:
    """How many functions a call calls."""
    made = 0

    def count_it(frame: object, event: str, argument: object) -> None:
        nonlocal made
        made += event in ("call", "c_call")

    sys.setprofile(count_it)
    try:
        function()
    finally:
        sys.setprofile(None)
    return made


def test_taking_a_video_costs_the_same_however_many_wait(tmp_path: Path) -> None:
    costs = []
    for number in (50, 1000):
        with opened(tmp_path / str(number), f"https://www.youtube.com/@a/{number}") as (context, _):
            queue = list_all(context)
            queue.take()
            cost = [calls(queue.take), calls(queue.next_due)]
            queue.rest_host("youtube.com", 5.0)
            costs.append([*cost, calls(queue.take)])  # finds nothing, ten times a second
    assert costs[0] == costs[1]


def test_the_queue_does_not_keep_what_the_ledger_can_tell(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    for name in "ab":
        (tmp_path / "videos" / f"{name}.mp4").write_bytes(name.encode())
    address = "https://site.test/x.mp4"
    given = jobs_of([str(tmp_path / "videos"), address], Settings(), out=tmp_path / "out", reserve_mb=0)
    hashes = {Settings().result_hash(): models_hash(Settings())}
    with Ledger(given.ledger) as ledger, EventLog(given.log) as log:
        tell = Callback(lambda event, video, facts: None)
        context = BatchContext(
            given,
            ledger,
            log,
            tell,
            FakeClock(),
            Stop(),
            lambda settings, _: Fetcher(settings, want_audio=False),
        )
        queue = WorkQueue(context)
        Listing(context, queue, Failures(context, queue, {}), hashes).list_all(list(given.sources))
        entries = [queue.take() for _ in range(3)]
        fetcher = Fetcher(Settings(), want_audio=False)
        for entry in entries:
            assert entry is not None
            assert entry.item is None
            (item,) = fetcher.resolve(entry.work.source)
            assert fetcher.identify(item) == entry.work.identity


# --- plans and tables --------------------------------------------------------------------------------


def test_a_plan_is_made_while_it_is_listed(tmp_path: Path) -> None:
    Channel.listed = 0
    plan = Plan()
    found = planned(jobs(tmp_path, "https://www.youtube.com/@a/5000"), plan, fetchers=fetchers)
    assert isinstance(next(found), Planned)
    assert Channel.listed <= 500
    text = describe_plan(plan, found)
    assert (plan.videos, Channel.listed) == (5000, 5000)
    assert text.count("\n") == 31
    assert "... and 4970 more videos" in text


def test_a_plan_asks_the_ledger_a_few_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    whole = Ledger.known_of
    monkeypatch.setattr(
        Ledger, "known_of", lambda self, some, *hashes: asked.append(len(some)) or whole(self, some, *hashes)
    )
    assert (
        len(list(planned(jobs(tmp_path, "https://www.youtube.com/@a/1200"), Plan(), fetchers=fetchers)))
        == 1200
    )
    assert asked == [500, 500, 200]


def test_a_plan_lists_no_more_than_a_run_would_take(tmp_path: Path) -> None:
    Channel.listed = 0
    given = jobs(tmp_path, "https://www.youtube.com/@a/5000", max_per_run=7)
    found = list(planned(given, Plan(), fetchers=fetchers))
    assert len(found) == 7
    assert not any(isinstance(each, Excluded) for each in found)
    assert Channel.listed <= 8


@pytest.mark.parametrize(
    "document",
    [
        {"a": []},
        {"a": [{}, [], None, 1, 1.5, True, "é\n\"'"], "b": {"c": {"d": [1, {"e": [[], {}]}]}, "f": {}}},
        {
            "videos": [
                {"id": 1, "title": "x,\n y: {", "counts": {"people": 2, "of": [1, 2]}, "state": State.NEW}
            ]
        },
        {"": {"": ""}, "n": [[1, 2], [3]], "inf": math.inf},
    ],
)
def test_json_that_is_streamed_reads_as_json_that_is_not(document: dict[str, Any]) -> None:
    whole = json.dumps(document, indent=2, ensure_ascii=False)
    assert "".join(indented(document.items())) == whole
    streamed = ((name, iter(value) if isinstance(value, list) else value) for name, value in document.items())
    assert "".join(indented(streamed)) == whole
    endless = indented([("a", ({"n": number} for number in count()))])
    assert len(list(islice(endless, 100))) == 100
