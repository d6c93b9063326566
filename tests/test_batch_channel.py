"""Batch runs over a channel in which everything fails that can: the failure of one video costs that video.

Jobs run in threads, with a clock that tests advance; real processes where crashes and limits are the subject.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest
from yt_dlp.utils import ExtractorError, GeoRestrictedError

from analyzer.batch.config import Filters, Jobs, Limits, Pace, Retry, Source
from analyzer.batch.context import Stop
from analyzer.batch.executors.inline import InlineExecutor
from analyzer.batch.executors.local import LocalExecutor
from analyzer.batch.folders import DOWNLOADS
from analyzer.batch.ledger import Ledger
from analyzer.batch.outcome import Outcome
from analyzer.batch.scheduler import Scheduler
from analyzer.batch.summary import summary
from analyzer.errors import CrashError, LedgerError, StoppedError
from analyzer.settings import Settings
from analyzer.sources.resolve import Fetcher
from analyzer.util.clock import Clock
from testkit.media import numbered, png_bomb, write_packets, write_sound, write_video
from testkit.servers import Handler, ScriptedIE, ScriptedListIE, Server, scripted, serve
from tests.batch_faults import (
    EACH_S,
    LOADING_S,
    SEGMENTS,
    ExecutorMaker,
    FakeClock,
    Fragile,
    Mended,
    NotLoaded,
    Quick,
    cannot_load,
    loads_forever,
    loads_slowly,
    marked,
    processes,
    threads,
    with_little_memory,
    with_models,
    without_models,
)

LIST = "https://lists.test/channel"
SETTINGS = Settings(video=False, fps=5, playlist=True, max_size_mb=1, threads=2)
SINGLE = replace(SETTINGS, playlist=False)
SILENCE_S = 2
"""The timeout where one of the servers stays silent."""
HOSTILE = "one\ntwo\x1b[31m \u202egpj.exe \x00<script>=1+1"
HOUR_S = 3600
THREADS = threads(Quick)
WITH_MODELS = Limits(memory_mb=2500)
BASE_S = 600
"""The first pause after a failure in the channel of `EXPECTED`: longer than its runs take."""


def host(name: str) -> type[ScriptedIE]:
    """An extractor of the pages of a host of its own, ``https://<name>.test/<video>``."""
    pattern = rf"https?://(?:[^/@]*@)?{name}\.test/(?P<id>[^?#]+)"
    return type(f"{name.capitalize()}IE", (ScriptedIE,), {"_VALID_URL": pattern})


class ListIE(ScriptedListIE):
    """Lists whose addresses may have a login."""

    _VALID_URL = r"https?://(?:[^/@]*@)?lists\.test/(?P<id>[^?#]+)"


@dataclass
class World:
    """Sites with their videos, and a batch that lists them in every run."""

    server: Server
    folder: Path
    clip: Path
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    entries: list[Any] = field(default_factory=list)
    clock: Clock = field(default_factory=FakeClock)
    executors: ExecutorMaker = THREADS
    asked: list[str] = field(default_factory=list)
    """Pages and lists that were requested from extractors, in order."""

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def page(self, site: str, name: str, answer: Any) -> None:
        """Set what an extractor returns for a page; an address is that of the file."""
        if isinstance(answer, str):
            answer = {"url": answer, "ext": "mp4"}
        self.answers.setdefault(site, {})[name] = answer

    def video(self, name: str, answer: Any = None, *, site: str = "site", **said: Any) -> str:
        """Add a video to the channel, a good one by default; `said` is what the channel lists about it.
        Returns the path of its file."""
        path = f"/{site}-{name}.mp4"
        if answer is None:
            answer = self.server.add(path, self.clip)
        self.page(site, name, answer)
        self.entries.append(self.entry(name, site=site, **said))
        return path

    @staticmethod
    def entry(name: str, *, site: str = "site", **said: Any) -> dict[str, Any]:
        url = f"https://{site}.test/{name}"
        known = {
            "_type": "url",
            "url": url,
            "ie_key": site.capitalize(),
            "id": name,
            "title": f"Title {name}",
        }
        return known | said

    def fetcher(self, settings: Settings, on_progress: Any) -> Fetcher:
        def noted(site: str, name: str, answer: Any) -> Callable[[str], Any]:
            def give(_: str) -> Any:
                self.asked.append(f"{site}/{name}")
                if isinstance(answer, Exception):
                    raise answer
                given = answer(name) if callable(answer) else answer
                return {"id": name, "title": f"Title {name}"} | given

            return give

        lists: dict[str, Any] = {
            "channel": lambda name: {"_type": "playlist", "entries": list(self.entries)}
        } | self.answers.get("lists", {})
        answers = self.answers | {"lists": lists}
        extractors = [
            scripted(
                ListIE if site == "lists" else host(site),
                **{name: noted(site, name, answer) for name, answer in known.items()},
            )
            for site, known in answers.items()
        ]
        return Fetcher(settings, want_audio=False, extractors=extractors, on_progress=on_progress)

    def source(self, name: str = LIST, *, settings: Settings = SETTINGS, **more: Any) -> Source:
        return Source(name=name, settings=settings, folder=self.out, **more)

    def jobs(self, *sources: Source, **more: Any) -> Jobs:
        known: dict[str, Any] = {
            "out": self.out,
            "ledger": self.out / "ledger.sqlite",
            "log": self.out / "batch.jsonl",
            "workers": 1,
            "report": (),
            "reserve_mb": 0,
            "retry": Retry(base_s=1, patience_s=0),
            "limits": Limits(memory_mb=1500),
            "pace": Pace(pause_s=(0, 0)),
        }
        return Jobs(sources=sources or (self.source(),), **known | more)

    def run(self, *sources: Source, executors: ExecutorMaker | None = None, **more: Any) -> Outcome:
        """A whole batch run; by default its jobs run in threads and need no models."""
        jobs = self.jobs(*sources, **more)
        with contextlib.closing((executors or self.executors)(jobs.workers)) as executor:
            return Scheduler(jobs, executor, fetchers=self.fetcher, clock=self.clock).run()

    def rows(self) -> dict[str, dict[str, Any]]:
        """The ledger, by the last part of each source, with each one's list of attempts."""
        with Ledger(self.out / "ledger.sqlite", read_only=True) as ledger:
            rows = [ledger.history(row["id"]) for row in ledger.videos()]
        return {row["source"].rpartition("/")[2]: row for row in rows}

    def states(self) -> dict[str, str]:
        return {name: row["state"] for name, row in self.rows().items()}

    def log(self) -> list[dict[str, Any]]:
        """The events so far."""
        lines = (self.out / "batch.jsonl").read_bytes().split(b"\n")
        assert lines.pop() == b""
        return [json.loads(line) for line in lines]

    def make_due(self, *names: str) -> None:
        """Make the next try of some videos due."""
        with contextlib.closing(sqlite3.connect(self.out / "ledger.sqlite")) as db, db:
            for name in names:
                changed = db.execute(
                    "UPDATE videos SET next_try = 1 WHERE source LIKE ? AND state = 'failed'", (f"%/{name}",)
                )
                assert changed.rowcount == 1


@pytest.fixture(scope="module", autouse=True)
def quiet_yt_dlp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep yt-dlp's cache, and a proxy of this machine, out of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            patch.delenv(name, raising=False)
            patch.delenv(name.upper(), raising=False)
        yield


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve() as running:
        yield running


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One second."""
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", numbered(10), fps=10)


@pytest.fixture
def world(server: Server, tmp_path: Path, clip: Path) -> World:
    server.requests.clear()
    return World(server, tmp_path, clip)


def media_requests(server: Server) -> list[str]:
    return sorted(server.requests)


def attempts(row: dict[str, Any]) -> list[tuple[str | None, str | None]]:
    """Outcome and kind of each attempt."""
    return [(each["outcome"], each["error_kind"]) for each in row["attempts_list"]]


# --- one channel with everything ---------------------------------------------------------------------

GOOD = {"good-1": 10, "good-2": 14, "good-3": 18, "good-4": 22, "fresh": 12}
"""Videos that must be done whatever happens to the others, with their number of frames, 10 a second."""

EXPECTED: dict[str, tuple[str, str | None]] = {
    "good-1": ("done", None),
    "good-2": ("done", None),
    "good-3": ("done", None),
    "good-4": ("done", None),
    "fresh": ("done", None),
    "partly": ("done", None),
    "channel#3": ("abandoned", "private_or_removed"),  # None
    "dead-entry": ("abandoned", "private_or_removed"),
    "private": ("abandoned", "private_or_removed"),
    "removed": ("abandoned", "private_or_removed"),
    "members": ("abandoned", "login_or_age"),
    "geo": ("abandoned", "geo_blocked"),
    "drm": ("abandoned", "drm"),
    "live": ("failed", "live"),
    "formats": ("failed", "no_format"),
    "missing": ("abandoned", "not_found"),
    "forbidden": ("failed", "expired_or_forbidden"),
    "broken": ("failed", "network"),
    "cut": ("failed", "network"),
    "silent": ("failed", "timeout"),
    "endless": ("abandoned", "too_large"),
    "busy-1": ("failed", "bot_check"),
    "busy-2": ("new", None),
    "bot-1": ("failed", "bot_check"),
    "bot-2": ("new", None),
    "bot-3": ("new", None),
    "bomb": ("abandoned", "too_large"),
    "truncated": ("abandoned", "damaged"),
    "text": ("abandoned", "not_media"),
    "sound": ("abandoned", "no_video"),
    "crash": ("failed", "crash"),
    "memory": ("failed", "memory"),
    "long": ("skipped", "filter"),
}
NOT_TRIED = ("busy-2", "bot-2", "bot-3", "long")


def troubled(server: Server, folder: Path, clip: Path) -> World:
    """The channel of `EXPECTED`."""
    world = World(server, folder, clip)
    files = folder / "files"
    files.mkdir()

    def good(name: str) -> str:
        made = write_video(files / f"{name}.mp4", numbered(GOOD[name]), fps=10)
        return server.add(f"/site-{name}.mp4", made)

    def refused(words: str) -> ExtractorError:
        return ExtractorError(words, expected=True)

    def fresh(name: str) -> dict[str, Any]:
        first = world.asked.count("site/fresh") == 1
        return {"url": server.url("/expired") if first else good("fresh"), "ext": "mp4"}

    def file(name: str, content: bytes | Path) -> None:
        world.video(name, server.add(f"/site-{name}.mp4", content))

    server.add_status("/expired", 403)
    world.video("good-1", good("good-1"))
    world.entries += [world.entry("dead-entry", title="[Private video]"), None]
    world.video("private", refused("Private video. Sign in if you've been granted access to this video"))
    world.video("good-2", {"url": good("good-2"), "ext": "mp4", "title": HOSTILE}, title=HOSTILE)
    world.video("busy-1", server.add_retry_after("/busy-1", 429, str(HOUR_S)), site="busy")
    world.video("busy-2", server.add("/busy-2.mp4", clip), site="busy")
    for number in (1, 2, 3):
        world.video(f"bot-{number}", refused("Sign in to confirm you're not a bot"), site="bots")
    world.video("missing", server.add_status("/missing", 404))
    world.video("fresh", fresh)
    world.video("forbidden", server.add_status("/forbidden", 403))
    world.video("silent", server.add_silent("/silent"))
    world.video("endless", server.add_endless("/endless"))
    world.video("cut", server.add_cut("/cut", clip.read_bytes()))
    world.video("broken", server.add_status("/broken", 500))
    world.video("removed", refused("Video unavailable. This video has been removed by the uploader"))
    world.video("members", refused("Join this channel to get access to members-only content"))
    world.video("geo", GeoRestrictedError("The uploader has not made this video available in your country"))
    world.video("drm", refused("This video is DRM protected"))
    world.video("live", {"url": server.url("/live"), "ext": "mp4", "is_live": True})
    world.video("formats", {"formats": []})
    world.video("good-3", good("good-3"))
    file("bomb", write_packets(files / "bomb.mov", [png_bomb(16_000)] * 2))
    file("truncated", clip.read_bytes()[: clip.stat().st_size // 2])
    faststart = write_video(
        files / "partly.mp4",
        numbered(40),
        fps=10,
        options={"g": "5"},
        container_options={"movflags": "faststart"},
    )
    file("partly", faststart.read_bytes()[: faststart.stat().st_size * 8 // 10])
    file("text", b"This is no video.\n" * 500)
    file("sound", write_sound(files / "sound.mp4", 1))
    file("crash", marked(clip, "crash"))
    file("memory", marked(clip, "memory"))
    world.video("good-4", good("good-4"))
    world.video("long", duration=2 * HOUR_S)
    world.entries.append(world.entry("good-1"))  # listed twice
    return world


@dataclass
class Seen:
    """How a batch run has ended."""

    outcome: Outcome
    rows: dict[str, dict[str, Any]]
    log: list[dict[str, Any]]
    requests: list[str]
    asked: list[str]
    downloads: list[str]


def seen(world: World, **more: Any) -> Seen:
    world.server.requests.clear()
    world.asked.clear()
    known = len(world.log()) if (world.out / "batch.jsonl").exists() else 0
    settings = replace(SETTINGS, timeout_s=SILENCE_S)
    source = world.source(settings=settings, filters=Filters(shorter_than_s=HOUR_S))
    retry = Retry(base_s=BASE_S, patience_s=0)
    how: dict[str, Any] = {"executors": world.executors, "limits": WITH_MODELS} | more
    outcome = world.run(source, retry=retry, **how)
    left = sorted(path.name for path in (world.out / DOWNLOADS).glob("*"))
    return Seen(
        outcome,
        world.rows(),
        world.log()[known:],
        media_requests(world.server),
        list(world.asked),
        left,
    )


@pytest.fixture(scope="module", params=["threads", pytest.param("processes", marks=pytest.mark.slow)])
def channel(
    request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory, clip: Path
) -> World:
    """With the models. Threads only pretend to crash."""
    world = troubled(server, tmp_path_factory.mktemp("channel"), clip)
    world.executors = threads(Fragile) if request.param == "threads" else processes(with_models)
    return world


def crashes_really(world: World) -> bool:
    """Whether a crash costs a process."""
    return world.executors(1).__class__ is LocalExecutor


@pytest.fixture(scope="module")
def first(channel: World) -> Seen:
    return seen(channel)


@pytest.fixture(scope="module")
def second(channel: World, first: Seen) -> Seen:
    """The run right after: nothing that has failed is due."""
    return seen(channel)


def test_each_video_has_its_own_end(first: Seen) -> None:
    found = {name: (row["state"], row["error_kind"]) for name, row in first.rows.items()}
    assert found == EXPECTED


def test_each_video_was_tried_once(first: Seen) -> None:
    found = {name: row["attempts"] for name, row in first.rows.items()}
    assert found == {name: 0 if name in NOT_TRIED else 1 for name in EXPECTED}
    for name, row in first.rows.items():
        state, kind = EXPECTED[name]
        assert attempts(row) == ([] if name in NOT_TRIED else [(state, kind)]), name
        assert all(each["ended_at"] is not None for each in row["attempts_list"]), name


def test_failed_videos_have_a_next_try_and_abandoned_ones_do_not(first: Seen) -> None:
    for name, row in first.rows.items():
        assert (row["next_try"] is not None) == (row["state"] == "failed"), name
        if row["state"] in ("failed", "abandoned"):
            assert "\n" not in row["error"], name
            assert row["error"], name
    failed = {name: row for name, row in first.rows.items() if row["state"] == "failed"}
    waits = {name: row["next_try"] - row["attempts_list"][0]["ended_at"] for name, row in failed.items()}
    for name in ("cut", "silent", "broken", "crash", "memory"):
        assert BASE_S / 2 - 1 <= waits.pop(name) <= BASE_S, name
    # Later, or when the site has asked for it.
    assert set(waits) == {"forbidden", "formats", "live", "bot-1", "busy-1"}
    assert all(wait >= HOUR_S / 2 - 1 for wait in waits.values())


@pytest.mark.parametrize("name", GOOD)
def test_the_good_ones_have_right_tables(first: Seen, channel: World, name: str) -> None:
    row = first.rows[name]
    run = Path(row["run"])
    info = json.loads((run / "run.json").read_text())
    frames = GOOD[name]
    samples = pd.read_parquet(run / "samples.parquet")
    assert samples["time_s"].tolist() == pytest.approx([number / 5 for number in range(frames // 2)])
    timeline = pd.read_csv(run / "timeline.csv")
    assert timeline["samples"].sum() == len(samples)
    assert info["complete"]
    assert (info["video_id"], info["video"]["duration_s"]) == (f"site-{name}", pytest.approx(frames / 10))
    assert row["video_id"] == f"site-{name}"
    assert row["complete"] is True
    assert row["duration_s"] == pytest.approx(frames / 10)
    assert row["counts"] == info["counts"]
    assert row["segments_done"] == row["segments"] == 1
    assert not (run / ".parts").exists()


def test_a_truncated_video_is_done_in_part(first: Seen) -> None:
    row = first.rows["partly"]
    assert row["complete"] is False
    samples = pd.read_parquet(Path(row["run"]) / "samples.parquet")
    assert 5 <= len(samples) < 20
    assert first.outcome.incomplete == 1
    assert [one["kind"] for one in first.outcome.troubles if one["video"] == row["id"]] == ["incomplete"]


def test_only_what_is_done_has_a_run(first: Seen, channel: World) -> None:
    """Nothing is left of the others: no folder, no segment, and only downloads that the next try uses."""
    folders = {path.name for path in channel.out.iterdir() if path.is_dir() and path.name != DOWNLOADS}
    assert folders == {Path(row["run"]).name for row in first.rows.values() if row["state"] == "done"}
    assert first.downloads == sorted(str(first.rows[name]["id"]) for name in ("crash", "memory"))
    left = [
        path for path in channel.out.rglob("*") if path.suffix == ".part" or path.name.startswith(".fetch")
    ]
    assert left == []


def test_an_expired_address_is_asked_for_anew_once(first: Seen) -> None:
    assert first.asked.count("site/fresh") == 2
    assert first.requests.count("/expired") == 1
    assert first.requests.count("/site-fresh.mp4") == 1
    assert first.asked.count("site/forbidden") == 2
    assert first.requests.count("/forbidden") == 2


def test_nothing_more_is_requested_of_a_host_that_refuses(first: Seen) -> None:
    """The first refusal pauses the whole host, and no other."""
    assert [name for name in first.asked if name.startswith(("busy", "bots"))] == [
        "busy/busy-1",
        "bots/bot-1",
    ]
    assert first.requests.count("/busy-1") == 1
    assert "/busy-2.mp4" not in first.requests
    pauses = {event["host"]: event for event in first.log if event["event"] == "host_paused"}
    assert set(pauses) == {"busy.test", "bots.test"}
    assert first.outcome.left == 3  # known and due, but their sites are not to be asked


def test_a_download_is_stopped_at_its_limits(first: Seen) -> None:
    assert first.requests.count("/endless") == 1
    assert first.requests.count("/silent") == 1
    assert first.rows["endless"]["size_bytes"] is None
    seconds = {name: first.rows[name]["attempts_list"][0] for name in ("endless", "silent")}
    assert all(each["ended_at"] - each["started_at"] < 15 for each in seconds.values())


def test_the_image_bomb_was_not_decoded(first: Seen, channel: World) -> None:
    """The process that refused it also analyzed the others, and does not hold its 768 MB."""
    resident = [event["resident_mb"] for event in first.log if event["event"] == "done"]
    assert len(resident) == len(GOOD) + 1
    assert max(resident) < 900 or not crashes_really(channel)


def test_the_outcome_adds_up(first: Seen) -> None:
    outcome = first.outcome
    states = [state for state, _ in EXPECTED.values()]
    assert outcome.reason == "finished"
    assert outcome.error is None
    assert (outcome.done, outcome.failed, outcome.abandoned, outcome.skipped) == tuple(
        states.count(state) for state in ("done", "failed", "abandoned", "skipped")
    )
    assert outcome.sources_failed == 0
    assert outcome.video_s == pytest.approx(
        sum(GOOD.values()) / 10 + first.rows["partly"]["counts"]["analyzed_s"], abs=1
    )
    assert not outcome.well


def test_the_log_is_one_event_a_line(first: Seen, channel: World) -> None:
    """Whatever titles contain, each line is one JSON value in ASCII, and videos have their ids."""
    raw = (channel.out / "batch.jsonl").read_bytes()
    assert all(32 <= byte < 127 or byte == 10 for byte in raw)
    ids = {row["id"]: name for name, row in first.rows.items()}
    about = {
        "found",
        "started",
        "downloaded",
        "analyzing",
        "segment_committed",
        "done",
        "failed",
        "abandoned",
        "skipped",
    }
    names = {"batch_started", "listed", "queued", "host_paused", "batch_ended"} | about
    for event in first.log:
        assert event["event"] in names
        assert ("video" in event) == (event["event"] in about)
        assert event.get("video", 1) in ids
    times = [event["time"] for event in first.log]
    assert times == sorted(times)
    counted: dict[str, list[str]] = {name: [] for name in names}
    for event in first.log:
        counted[event["event"]].append(ids.get(event.get("video", 0), ""))
    assert sorted(counted["found"]) == sorted(EXPECTED)
    for state in ("done", "failed", "abandoned", "skipped"):
        assert sorted(counted[state]) == sorted(name for name, end in EXPECTED.items() if end[0] == state)
    # Entries without a page were not begun, so that nothing says they were.
    unasked = {"channel#3", "dead-entry", *NOT_TRIED}
    assert sorted(counted["started"]) == sorted(EXPECTED.keys() - unasked)


def test_a_hostile_title_stays_text(first: Seen) -> None:
    row = first.rows["good-2"]
    assert row["title"] == HOSTILE
    assert Path(row["run"]).name == "one-two-31m-gpj-exe-script-1-1-site-good-2"
    assert HOSTILE in [event.get("title") for event in first.log if event["event"] == "found"]
    shown = summary(first.outcome)
    assert all(line.isprintable() for line in shown.split("\n"))


def test_the_next_run_requests_nothing_but_the_list(first: Seen, second: Seen) -> None:
    """Only the list is requested; no attempt is made."""
    assert second.asked == ["lists/channel"]
    assert second.requests == []
    assert second.rows == first.rows
    assert {event["event"] for event in second.log} == {"batch_started", "listed", "queued", "batch_ended"}
    outcome = second.outcome
    assert (outcome.reason, outcome.done, outcome.failed, outcome.abandoned, outcome.left) == (
        "finished",
        0,
        0,
        0,
        3,
    )
    assert outcome.troubles == []
    assert second.downloads == first.downloads


def test_due_videos_are_tried_again_and_abandoned_in_the_end(channel: World, second: Seen) -> None:
    """The cause is gone for one: done. Another keeps crashing: abandoned, and its download is removed."""
    channel.page("site", "cut", channel.server.add("/site-cut.mp4", channel.clip))
    channel.make_due("cut", "crash")
    channel.server.requests.clear()
    third = seen(channel, limits=replace(WITH_MODELS, crashes=2))
    assert {name: row["state"] for name, row in third.rows.items() if row != second.rows[name]} == {
        "cut": "done",
        "crash": "abandoned",
    }
    assert attempts(third.rows["cut"]) == [("failed", "network"), ("done", None)]
    assert attempts(third.rows["crash"]) == [("failed", "crash"), ("abandoned", "crash")]
    assert "SIGSEGV" in third.rows["crash"]["error"] or not crashes_really(channel)
    # The download of a crashed job is on the disk: it is not repeated.
    assert third.requests == ["/site-cut.mp4"]
    assert third.downloads == [str(second.rows["memory"]["id"])]


# --- poison ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_video_that_ends_its_process_blocks_no_other_and_is_abandoned(world: World) -> None:
    """Over several runs, each kind by its limit; `retry` brings it back."""
    limits = Limits(memory_mb=1500, stall_s=60, cpu_s=1, crashes=2)
    stalls, retry = Limits(memory_mb=1500, stall_s=8), Retry(base_s=BASE_S, patience_s=0)
    how: dict[str, Any] = {"workers": 2, "executors": processes(without_models)}
    faults = {"crash": "crash", "burn": "cpu_limit", "stall": "stalled"}
    for fault in faults:
        world.video(fault, world.server.add(f"/{fault}.mp4", marked(world.clip, fault)))
        world.video(f"after-{fault}")
        if fault != "crash":
            world.run(limits=stalls if fault == "stall" else limits, retry=retry, **how)
    rows = world.rows()
    assert {name: (rows[name]["state"], rows[name]["error_kind"]) for name in faults} == {
        name: ("failed", kind) for name, kind in faults.items()
    }
    assert all(rows[f"after-{fault}"]["state"] == "done" for fault in faults)
    assert "SIGXCPU" in rows["burn"]["error"]
    assert "[limits] stall" in rows["stall"]["error"]

    world.make_due("crash", "burn")
    world.video("new")
    outcome = world.run(limits=limits, retry=retry, **how)
    states = world.states()
    assert {name: states[name] for name in (*faults, "new")} == {
        "crash": "abandoned",
        "burn": "abandoned",
        "stall": "failed",
        "new": "done",
    }
    assert (outcome.done, outcome.abandoned, outcome.failed) == (1, 2, 0)
    before = world.rows()
    assert [path.name for path in (world.out / DOWNLOADS).iterdir()] == [str(before["stall"]["id"])]

    world.server.requests.clear()
    world.run(limits=limits)
    assert world.rows() == before
    assert world.server.requests == []

    with Ledger(world.out / "ledger.sqlite") as ledger:
        assert ledger.retry([], abandoned=False) == 1
        assert ledger.retry([], abandoned=True) == 2
    outcome = world.run(limits=limits, executors=threads(Mended))
    assert set(world.states().values()) == {"done"}
    assert (outcome.done, outcome.well) == (3, True)
    assert not (world.out / DOWNLOADS).exists()
    assert attempts(world.rows()["crash"]) == [("failed", "crash"), ("abandoned", "crash"), ("done", None)]


@pytest.mark.parametrize(
    "executors", [threads(Quick), processes(without_models)], ids=["threads", "processes"]
)
def test_a_crash_is_retried_and_abandoned_within_one_run(world: World, executors: ExecutorMaker) -> None:
    """Where the delays are short; other videos are analyzed between its attempts."""
    fault = "crash" if executors(1).__class__ is LocalExecutor else "crashed"
    world.video("crash", world.server.add("/crash.mp4", marked(world.clip, fault)))
    world.video("good")
    limits, began = Limits(memory_mb=1500, crashes=2), world.clock.time()
    world.run(retry=Retry(base_s=60, patience_s=300), limits=limits, executors=executors)
    rows = world.rows()
    assert attempts(rows["crash"]) == [("failed", "crash"), ("abandoned", "crash")]
    assert attempts(rows["good"]) == [("done", None)]
    assert 30 <= world.clock.time() - began <= 61
    assert world.server.count("/crash.mp4") == 1
    order = [
        (each["event"], each["video"])
        for each in world.log()
        if each["event"] in ("failed", "done", "abandoned")
    ]
    assert order == [
        ("failed", rows["crash"]["id"]),
        ("done", rows["good"]["id"]),
        ("abandoned", rows["crash"]["id"]),
    ]


def test_a_job_that_takes_too_long_is_ended(world: World) -> None:
    """Though it makes progress."""
    world.video("slow", world.server.add("/slow.mp4", marked(world.clip, "slow")))
    limits = Limits(memory_mb=1500, wall_s=SEGMENTS * EACH_S / 2)
    world.run(limits=limits, executors=processes(without_models))
    row = world.rows()["slow"]
    assert (row["state"], row["error_kind"]) == ("failed", "time_limit")
    assert row["segments_done"] < SEGMENTS


@pytest.mark.slow
def test_a_slow_start_is_not_the_videos_time(world: World) -> None:
    world.video("good")
    world.run(limits=Limits(memory_mb=1500, wall_s=LOADING_S - 1), executors=processes(loads_slowly))
    assert world.states() == {"good": "done"}


def test_a_model_without_memory_fails_the_video_that_it_was_for(world: World) -> None:
    """Inference engines report it as any other failure; broken models would end the run."""
    world.video("starve", world.server.add("/starve.mp4", marked(world.clip, "starve")))
    world.video("good")
    world.run()
    rows = world.rows()
    assert (rows["starve"]["state"], rows["starve"]["error_kind"]) == ("failed", "memory")
    assert rows["good"]["state"] == "done"


def test_a_model_that_fails_on_one_video_fails_that_video(world: World) -> None:
    """It is tried as often as what ends its process, then abandoned; the others are done."""
    world.video("model", world.server.add("/model.mp4", marked(world.clip, "model")))
    world.video("a")
    limits, retry = Limits(memory_mb=1500, crashes=3), Retry(base_s=BASE_S, patience_s=0)
    for attempt, name in enumerate("abc", 1):
        if attempt > 1:
            world.video(name)
            world.clock.sleep(HOUR_S)
        outcome = world.run(limits=limits, retry=retry)
        assert (outcome.reason, outcome.done, outcome.left) == ("finished", 1, 0)
        assert (outcome.failed, outcome.abandoned) == ((1, 0) if attempt < 3 else (0, 1))
        assert world.states()[name] == "done"
    assert attempts(world.rows()["model"]) == [("failed", "model")] * 2 + [("abandoned", "model")]
    assert world.server.count("/model.mp4") == 1, "it lay on the disk"
    assert not (world.out / DOWNLOADS).exists()


def test_a_video_that_failed_and_is_excluded_in_the_end_has_not_failed(world: World) -> None:
    """Totals of a run count each video once."""
    broken = {"url": world.server.add_status("/broken", 500), "ext": "mp4"}
    pages = iter([broken, broken | {"duration": 7200}])
    world.video("long", lambda name: next(pages))
    source = world.source(filters=Filters(shorter_than_s=600))
    outcome = world.run(source, retry=Retry(base_s=60, patience_s=300))
    assert attempts(world.rows()["long"]) == [("failed", "network"), ("skipped", "filter")]
    assert (outcome.skipped, outcome.failed, outcome.abandoned, outcome.troubles) == (1, 0, 0, [])


class Unread(Quick):
    """Reads only a part."""

    changes: ClassVar[dict[str, Any]] = {"complete": False, "incomplete_reason": "it broke off"}

    def analyze(self, video: Any, out: Path, timings: dict[str, float]) -> Any:
        made = super().analyze(video, out, timings)
        made.info |= self.changes
        (made.folder / "run.json").write_text(json.dumps(made.info))
        return made


def test_an_incomplete_run_without_a_report_is_reported_as_both(world: World) -> None:
    """Also if a lost ledger is rebuilt from it."""
    world.video("partly")
    outcome = world.run(executors=threads(Unread), report=("html",))
    (trouble,) = outcome.troubles
    assert (outcome.done, outcome.incomplete, outcome.unreported) == (1, 1, 1)
    assert trouble["error"].startswith("it broke off; it has no report: ")
    (world.out / "ledger.sqlite").unlink()
    outcome = world.run()
    assert (outcome.done, outcome.incomplete, outcome.well) == (1, 1, False)
    assert [one["error"] for one in outcome.troubles] == ["it broke off"]


class Undrawn(Unread):
    """Cannot draw the annotated video."""

    changes: ClassVar[dict[str, Any]] = {"annotated": {"file": None, "error": "the encoder failed"}}


def test_a_run_without_its_annotated_video_is_done_and_reported(world: World) -> None:
    world.video("a")
    outcome = world.run(executors=threads(Undrawn))
    assert (outcome.done, outcome.failed, outcome.undrawn, outcome.well) == (1, 0, 1, False)
    assert "Done, but without its annotated video:" in summary(outcome)
    assert "the encoder failed" in summary(outcome) and world.states() == {"a": "done"}


@pytest.mark.parametrize(
    "damage", [{"counts": None}, {"complete": "yes"}, {"counts": {"people": 1}}, {"video_id": 5}]
)
def test_a_malformed_run_json_does_not_end_the_run(world: World, damage: dict[str, Any]) -> None:
    world.video("a")
    world.run()
    (path,) = world.out.glob("*/run.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    (world.out / "ledger.sqlite").unlink()
    outcome = world.run()
    assert (outcome.reason, outcome.done, outcome.well) == ("finished", 1, True)
    assert json.loads(path.read_text())["counts"]["people"] == 1, "analyzed anew"


def test_failed_sources_are_counted_once_each(world: World) -> None:
    """However many of their entries are invalid."""
    world.video("a")
    other = world.source("https://site.test/a", settings=Settings(video=False, fps=2))
    third = world.source("https://site.test/a", settings=Settings(video=False, fps=3))
    outcome = world.run(world.source(), other, third)
    kinds = [one["kind"] for one in outcome.troubles if one["state"] == "source"]
    assert kinds == ["clash"] * 2 and outcome.sources_failed == 1


def test_an_exception_of_on_event_ends_the_run_and_counts_against_no_video(world: World) -> None:
    """Wherever it is called, and whatever it raises."""
    for event, error in (
        ("found", RuntimeError("mine")),
        ("listed", StoppedError("mine")),
        ("started", RuntimeError("mine")),
        ("analyzing", RuntimeError("mine")),
        ("done", LedgerError("mine", temporary=True)),
    ):
        world.video(event)

        def listen(name: str, *_: Any, event: str = event, error: Exception = error) -> None:
            if name == event:
                raise error

        with pytest.raises(type(error)) as caught:
            Scheduler(world.jobs(), THREADS(1), fetchers=world.fetcher, on_event=listen).run()
        assert caught.value is error
        if event != "done":  # that job had ended
            assert all(row["state"] in ("new", "downloaded", "done") for row in world.rows().values())
    assert all(attempt[0] != "interrupted" for row in world.rows().values() for attempt in attempts(row)[:-1])
    outcome = world.run()
    assert (outcome.failed, outcome.abandoned, outcome.troubles) == (0, 0, [])
    assert set(world.states().values()) == {"done"}


@pytest.mark.parametrize(
    ("executors", "limits", "words"),
    [
        pytest.param(
            processes(with_little_memory),
            Limits(memory_mb=500, stall_s=30),
            "memory_mb",
            marks=pytest.mark.slow,
        ),
        (threads(NotLoaded), Limits(memory_mb=1500), "bad allocation"),
        (processes(cannot_load), Limits(memory_mb=1500), "bad allocation"),
        pytest.param(
            processes(loads_forever),
            Limits(memory_mb=1500, stall_s=1),
            "no progress",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["memory", "error in threads", "error in processes", "hang"],
)
def test_models_that_cannot_be_loaded_end_the_run(
    world: World, executors: ExecutorMaker, limits: Limits, words: str
) -> None:
    """Too little memory, an error or a hang: it counts against no video, and all of them are left."""
    for name in "abc":
        world.video(name)
    outcome = world.run(executors=executors, limits=limits)
    assert (outcome.reason, outcome.left, outcome.failed, outcome.abandoned) == ("broken", 3, 0, 0)
    assert words in str(outcome.error)
    with Ledger(world.out / "ledger.sqlite", read_only=True) as ledger:
        assert all(work.consecutive_failures == 0 and work.error_kind is None for work in ledger.unfinished())
    downloaded = list(world.states().values()).count("downloaded")
    world.server.requests.clear()
    assert world.run().done == 3
    assert downloaded >= 1 and len(world.server.requests) == 3 - downloaded


# --- sources that are added, runs that are stopped ---------------------------------------------------


class Patient(Quick):
    """Waits in each video until it is allowed to go on, or must stop."""

    begun: ClassVar[threading.Semaphore]
    go_on: ClassVar[threading.Event]

    def analyze(self, video: Any, out: Path, timings: dict[str, float]) -> Any:
        self.begun.release()
        while not self.go_on.wait(0.005):
            if self._stop():
                raise StoppedError("asked to end")
        return super().analyze(video, out, timings)


def patient() -> type[Patient]:
    return type("Fresh", (Patient,), {"begun": threading.Semaphore(0), "go_on": threading.Event()})


def test_a_source_that_is_added_while_the_batch_runs_is_analyzed_in_the_same_run(world: World) -> None:
    """By another thread, while a job is at work; a file is a source too."""
    world.video("first")
    world.answers["lists"] = {"other": {"_type": "playlist", "entries": [world.entry("second")]}}
    world.page("site", "second", world.server.add("/second.mp4", world.clip))
    analyzers = patient()
    with contextlib.closing(InlineExecutor(1, analyzers=analyzers)) as executor:
        scheduler = Scheduler(world.jobs(), executor, fetchers=world.fetcher, clock=world.clock)
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(scheduler.run)
            assert analyzers.begun.acquire(timeout=60)
            scheduler.add(world.source("https://lists.test/other"))
            scheduler.add(world.source(str(world.clip)))
            analyzers.go_on.set()
            outcome = running.result(120)
    assert (outcome.done, outcome.well) == (3, True)
    rows = world.rows()
    assert rows.keys() == {"first", "second", "clip.mp4"}
    assert all(attempts(row) == [("done", None)] for row in rows.values())
    assert [event["event"] for event in world.log()].count("batch_started") == 1


def test_a_batch_that_waits_for_sources_runs_until_it_is_stopped(world: World) -> None:
    stop = Stop()
    seen: list[str] = []
    added = iter(["a", "b"])

    class Waiting(FakeClock):
        """When there is nothing to do, adds a video, and at last stops."""

        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            name = next(added, None)
            if name is None:
                stop.request()
            else:
                world.page("site", name, world.server.add(f"/{name}.mp4", world.clip))
                scheduler.add(world.source(f"https://site.test/{name}", settings=SINGLE))

    scheduler = Scheduler(
        world.jobs(),
        THREADS(1),
        fetchers=world.fetcher,
        clock=Waiting(),
        stop=stop,
        on_event=lambda event, *_: seen.append(event),
    )
    outcome = scheduler.run(until_idle=False)
    assert (outcome.reason, outcome.done, outcome.well) == ("stopped", 2, True)
    assert world.states() == {"a": "done", "b": "done"}
    assert seen.count("listed") == 3


def test_a_stop_ends_jobs_within_their_segment(world: World) -> None:
    """Running jobs are not finished first, and nothing more is started."""
    for name in "abc":
        world.video(name)
    analyzers, stop = patient(), Stop()
    with contextlib.closing(InlineExecutor(2, analyzers=analyzers)) as executor:
        scheduler = Scheduler(world.jobs(), executor, fetchers=world.fetcher, clock=world.clock, stop=stop)
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(scheduler.run)
            assert analyzers.begun.acquire(timeout=60) and analyzers.begun.acquire(timeout=60)
            stop.request()
            outcome = running.result(60)
    assert (outcome.reason, outcome.done, outcome.left) == ("stopped", 0, 3)
    found = {name: attempts(row) for name, row in world.rows().items()}
    assert found["a"] == found["b"] == [("stopped", None)]
    assert not analyzers.begun.acquire(blocking=False)
    assert world.run().done == 3


def test_a_run_that_ends_by_an_error_leaves_its_executor_idle(world: World) -> None:
    """Its jobs do not count as interrupted."""
    world.video("a")
    world.video("b")
    analyzers = patient()

    def on_event(event: str, *_: Any) -> None:
        if event == "downloaded" and world.states()["a"] == "analyzing":
            raise RuntimeError("mine")

    with contextlib.closing(InlineExecutor(1, analyzers=analyzers)) as executor:
        scheduler = Scheduler(world.jobs(), executor, fetchers=world.fetcher, on_event=on_event)
        with pytest.raises(RuntimeError, match="mine"):
            scheduler.run()
        row = world.rows()["a"]
        assert (row["state"], row["interrupted"]) == ("downloaded", 0)
        assert attempts(row) == [("stopped", None)]
        analyzers.go_on.set()
        assert Scheduler(world.jobs(), executor, fetchers=world.fetcher).run().done == 2


# --- sites that refuse for a while ----------------------------------------------------------------


def once(world: World, path: str, body: bytes, *refusals: tuple[int, str | None]) -> list[float]:
    """Serve a file after these refusals, status and Retry-After each; returns the times of all requests."""
    times: list[float] = []

    def route(handler: Handler) -> None:
        times.append(world.clock.time())
        if len(times) <= len(refusals):
            status, wait = refusals[len(times) - 1]
            handler.send_response(status)
            if wait is not None:
                handler.send_header("Retry-After", wait)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
        else:
            handler.head(len(body))
            handler.wfile.write(body)

    world.server.routes[path] = route
    return times


@pytest.mark.parametrize("status", [429, 503])
def test_a_host_is_asked_again_after_the_delay_that_it_named(world: World, status: int) -> None:
    """Not before; other hosts are asked meanwhile, and what is done in the end has not failed."""
    times = once(world, "/later.mp4", world.clip.read_bytes(), (status, "120"))
    world.video("later", world.server.url("/later.mp4"), site="busy")
    world.video("same-host", site="busy")
    world.video("other")
    outcome = world.run(retry=Retry(base_s=60, patience_s=300))
    rows = world.rows()
    assert {name: row["state"] for name, row in rows.items()} == dict.fromkeys(rows, "done")
    assert len(times) == 2
    assert times[1] - times[0] >= 120
    done = {name: row["done_at"] for name, row in rows.items()}
    assert done["other"] < times[1]
    assert rows["same-host"]["attempts_list"][0]["started_at"] >= times[0] + 120
    assert attempts(rows["later"])[0][0] == "failed"
    assert rows["later"]["consecutive_failures"] == 0
    assert (outcome.done, outcome.failed, outcome.troubles, outcome.well) == (3, 0, [], True)
    with Ledger(world.out / "ledger.sqlite", read_only=True) as ledger:
        assert ledger.hosts() == []


@pytest.mark.parametrize("wait", ["0", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_a_host_that_always_refuses_is_not_asked_in_a_loop(world: World, wait: str) -> None:
    """Though it says each time that it may be asked at once."""
    world.video("busy", world.server.add_retry_after("/busy", 429, wait), site="busy")
    outcome = world.run(retry=Retry(base_s=60, patience_s=90), time_budget_s=HOUR_S)
    assert outcome.reason == "finished"
    assert world.server.count("/busy") == 2
    assert world.states() == {"busy": "failed"}


def test_a_refused_list_fails_that_source(world: World) -> None:
    """Nothing more is requested of its host; the other source is done."""
    refused = ExtractorError("Sign in to confirm you're not a bot", expected=True)
    world.page("other", "list", refused)
    world.page("other", "again", refused)
    world.video("good")
    lists = [f"https://other.test/{name}" for name in ("list", "again")]
    outcome = world.run(*map(world.source, lists), world.source())
    assert world.states() == {"good": "done"}
    assert (outcome.sources_failed, outcome.done) == (1, 1)
    found = [(one["state"], one["source"], one["kind"]) for one in outcome.troubles]
    assert found == [("source", lists[0], "bot_check")]
    assert [event["source"] for event in world.log() if event["event"] == "source_deferred"] == lists[1:]
    assert [name for name in world.asked if name.startswith("other")] == ["other/list"]
    with Ledger(world.out / "ledger.sqlite", read_only=True) as ledger:
        assert [row["host"] for row in ledger.hosts()] == ["other.test"]


class Shaky(Quick):
    """Its first attempt ends with the process."""

    failing: ClassVar[list[bool]] = []

    def analyze(self, video: Any, out: Path, timings: dict[str, float]) -> Any:
        if self.failing:
            self.failing.pop()
            raise CrashError("a process died")
        return super().analyze(video, out, timings)


def test_a_crash_before_a_successful_retry_is_reported(world: World) -> None:
    world.video("a")
    Shaky.failing.append(True)
    retry = Retry(base_s=60, patience_s=300)
    outcome = world.run(executors=threads(Shaky), retry=retry)
    assert (outcome.done, outcome.recovered, outcome.well) == (1, 1, True)
    assert "1 attempt crashed and succeeded on retry." in summary(outcome)


def test_a_list_that_was_named_as_a_video_is_reported_as_a_source(world: World) -> None:
    """As those of a jobs file are: it is not a video that has failed."""
    named = SETTINGS.replace(playlist=False)
    world.video("good")
    gone = world.source("https://lists.test/gone", settings=named)
    video = world.source("https://site.test/missing", settings=named)
    outcome = world.run(world.source("https://site.test/good", settings=named), gone, video)
    assert (outcome.done, outcome.failed + outcome.abandoned, outcome.sources_failed) == (1, 1, 1)
    found = {one["source"]: (one["state"] == "source", one["video"] is None) for one in outcome.troubles}
    assert found == {gone.name: (True, True), video.name: (False, False)}


# --- what is wanted ----------------------------------------------------------------------------------


def test_filters_and_their_change(world: World) -> None:
    """By the list without a request if possible, otherwise by the page, without a download."""
    world.video("fits", duration=60, upload_date="20990101", title="A talk")
    world.video("long", duration=7200)
    world.video("old", upload_date="20010101")
    song = {"url": world.server.add("/song.mp4", world.clip), "ext": "mp4", "title": "A song"}
    world.video("other", song, title="A song")
    world.video("page", {"url": world.server.add("/page.mp4", world.clip), "ext": "mp4", "duration": 7200})
    filters = Filters(newer_than="30d", shorter_than_s=600, not_title="song")
    outcome = world.run(world.source(filters=filters))
    assert (outcome.done, outcome.skipped, outcome.well) == (1, 4, True)
    rows = world.rows()
    assert {name: (row["state"], row["error_kind"]) for name, row in rows.items()} == {
        "fits": ("done", None),
        **dict.fromkeys(("long", "old", "other", "page"), ("skipped", "filter")),
    }
    assert rows["long"]["reason"] == "longer than 10 min (2 h)"
    assert "older than 30d" in rows["old"]["reason"]
    assert "song" in rows["other"]["reason"]
    assert world.asked == ["lists/channel", "site/fits", "site/page"]
    assert world.server.requests == ["/site-fits.mp4"]

    world.asked.clear()
    assert world.run(world.source(filters=filters)).skipped == 0
    assert world.asked == ["lists/channel"]
    assert world.rows() == rows

    outcome = world.run(world.source(filters=replace(filters, shorter_than_s=None)))
    assert outcome.done == 2
    assert world.states() == {
        **dict.fromkeys(("fits", "long", "page"), "done"),
        **dict.fromkeys(("old", "other"), "skipped"),
    }
    outcome = world.run(world.source(filters=Filters(title="so.g")))
    assert outcome.done == 1
    assert world.states()["other"] == "done"


def test_the_limit_of_videos_for_each_run(world: World) -> None:
    """The next run takes the next videos; a failed one does not take their place."""
    for name in ("a", "b", "c", "d", "e"):
        world.video(name)
    world.page("site", "b", world.server.add_status("/b", 500))
    source = world.source(max_per_run=2)
    world.run(source, retry=Retry(base_s=BASE_S, patience_s=0))
    assert world.states() == {"a": "done", "b": "failed"}
    world.run(source)
    assert world.states() == {"a": "done", "b": "failed", "c": "done", "d": "done"}
    world.run(source)
    assert world.states()["e"] == "done"
    assert world.asked.count("site/b") == 1


def test_one_video_of_two_sources_is_done_once(world: World) -> None:
    """Whether the identity is known beforehand, or only from the site."""
    world.video("a")
    world.page("words", "newest", {"_type": "url", "url": "https://site.test/a", "ie_key": "Site"})
    single = replace(SETTINGS, playlist=False)
    sources = [
        world.source(),
        world.source("https://site.test/a", settings=single),
        world.source("https://words.test/newest", settings=single),
    ]
    outcome = world.run(*sources)
    assert (outcome.done, outcome.skipped, outcome.well) == (1, 1, True)
    rows = world.rows()
    assert {name: (row["state"], row["error_kind"]) for name, row in rows.items()} == {
        "a": ("done", None),
        "newest": ("skipped", "duplicate"),
    }
    assert str(rows["a"]["id"]) in rows["newest"]["reason"]
    assert world.server.requests == ["/site-a.mp4"]
    world.asked.clear()
    world.run(*sources)
    assert world.rows() == rows
    assert world.asked == ["lists/channel"]


def test_two_settings_for_one_folder_are_refused(world: World) -> None:
    world.video("a")
    other = world.source("https://site.test/a", settings=Settings(video=False, fps=2))
    outcome = world.run(world.source(), other)
    assert world.states() == {"a": "done"}
    assert outcome.sources_failed == 1
    assert "into" in outcome.troubles[0]["error"]


# --- local files -------------------------------------------------------------------------------------


def local(world: World, *names: str, age_s: float = 60) -> Path:
    """A folder of videos with this age."""
    folder = world.folder / "films"
    folder.mkdir(exist_ok=True)
    for name in names:
        path = folder / f"{name}.mp4"
        path.write_bytes(world.clip.read_bytes() + f"\0\0\0\x18free{name:16}".encode())
        os.utime(path, (time.time() - age_s, time.time() - age_s))
    return folder


def test_a_file_that_still_changes_is_skipped_for_now(world: World) -> None:
    folder = local(world, "settled")
    local(world, "growing", age_s=0)
    source = world.source(str(folder), watched=True)
    assert world.run(source).well
    assert world.states() == {"settled.mp4": "done"}
    events = [Path(each["source"]).name for each in world.log() if each["event"] == "still_changing"]
    assert events == ["growing.mp4"]
    local(world, "growing")
    world.run(source)
    assert world.states() == {"settled.mp4": "done", "growing.mp4": "done"}
    # A folder that is not watched is taken as it is.
    local(world, "now", age_s=0)
    world.run(world.source(str(folder)))
    assert world.states()["now.mp4"] == "done"


def test_a_disk_that_is_not_mounted_costs_one_run(world: World) -> None:
    """Its videos are not abandoned."""
    folder = local(world, "a", "b", "c")
    slow = folder / "a.mp4"
    slow.write_bytes(marked(slow, "slow"))
    world.run(world.source(str(folder)), time_budget_s=HOUR_S, executors=threads(late(world)))
    assert "done" not in world.states().values()
    away = folder.rename(world.folder / "away")
    outcome = world.run(world.source(str(folder)))
    assert outcome.sources_failed == 1
    assert "abandoned" not in world.states().values()
    away.rename(folder)
    world.run(world.source(str(folder)), executors=threads(Mended))
    assert world.states() == {"a.mp4": "done", "b.mp4": "done", "c.mp4": "done"}


# --- runs that end early, ledgers that are lost ----------------------------------------------------


SEGMENTS_IN_TIME = 3


def late(world: World) -> type[Quick]:
    """An analyzer that uses up the time budget after some segments of a slow video."""

    class Late(Quick):
        def between_segments(self, number: int) -> None:
            if number == SEGMENTS_IN_TIME:
                world.clock.sleep(2 * HOUR_S)
                while not self._stop():
                    time.sleep(0.005)

    return Late


def test_what_a_run_has_no_time_for_is_done_by_the_next(world: World) -> None:
    world.video("slow", world.server.add("/slow.mp4", marked(world.clip, "slow")))
    for name in "abcd":
        world.video(name)
    outcome = world.run(time_budget_s=HOUR_S, executors=threads(late(world)))
    assert (outcome.reason, outcome.done, outcome.error) == ("time_budget", 0, None)
    assert outcome.left == 5
    rows = world.rows()
    assert (rows["slow"]["state"], rows["d"]["state"]) == ("downloaded", "new")
    begun = [row for row in rows.values() if row["attempts"]]
    lying = [row for row in rows.values() if row["state"] == "downloaded"]
    world.server.requests.clear()
    assert attempts(rows["slow"]) == [("stopped", None)]
    assert len(begun) >= len(lying) >= 1
    assert rows["slow"]["segments_done"] == SEGMENTS_IN_TIME
    # No kill has interrupted them: any number of such runs must not look like one.
    assert all(row["interrupted"] == 0 for row in rows.values())

    outcome = world.run()
    assert (outcome.reason, outcome.done, outcome.left, outcome.well) == ("finished", 5, 0, True)
    rows = world.rows()
    assert attempts(rows["slow"]) == [("stopped", None), ("done", None)]
    # Nothing that lay there was downloaded again, nothing was analyzed twice.
    assert len(world.server.requests) == len(set(world.server.requests)) == 5 - len(lying)
    segments = [event["segment"] for event in world.log() if event["event"] == "segment_committed"]
    assert segments == list(range(SEGMENTS))
    assert all(row["interrupted"] == 0 for row in rows.values())
    assert {attempt for row in rows.values() for attempt in attempts(row)} <= {
        *(("stopped", None), ("deferred", None), ("done", None))
    }
    assert not (world.out / DOWNLOADS).exists()


def test_finished_runs_are_adopted_by_a_new_ledger(world: World) -> None:
    for name in "ab":
        world.video(name)
    world.run()
    (world.out / "ledger.sqlite").rename(world.folder / "lost.sqlite")
    world.server.requests.clear()
    world.video("c")
    outcome = world.run()
    assert (outcome.done, outcome.well) == (3, True)
    assert world.server.requests == ["/site-c.mp4"]
    assert [each["run"] for each in world.log() if each["event"] == "adopted"] == [
        "title-a-site-a",
        "title-b-site-b",
    ]
    rows = world.rows()
    assert {name: attempts(row) for name, row in rows.items()} == {name: [("done", None)] for name in "abc"}
    assert rows["a"]["counts"] == rows["c"]["counts"]
    # The run of other settings is not the same.
    other = world.source(settings=replace(SETTINGS, fps=2))
    world.server.requests.clear()
    world.run(other)
    assert len(world.server.requests) == 3


def test_a_login_is_written_nowhere(world: World) -> None:
    """Neither of a channel, nor a video, an empty list, a failing list or a failing video."""
    world.video("inside", url="https://me:hunter2@site.test/inside")
    world.answers["lists"] = {
        "empty": {"_type": "playlist", "entries": []},
        "broken": ExtractorError("https://me:hunter2@lists.test/broken is odd", expected=True),
    }
    world.page("site", "odd", {"url": world.server.add_status("/odd", 404), "ext": "mp4"})
    world.page("site", "fine", world.server.add("/fine.mp4", world.clip))
    login = "https://me:hunter2@"
    single = replace(SETTINGS, playlist=False)
    sources = [world.source(f"{login}lists.test/{name}") for name in ("channel", "empty", "broken")]
    sources += [world.source(f"{login}site.test/{name}", settings=single) for name in ("odd", "fine")]
    direct = world.server.add("/direct.mp4", world.clip).replace("http://", "http://me:hunter2@")
    sources.append(world.source(direct, settings=single))
    outcome = world.run(*sources)
    states = world.states()
    assert states == {"inside": "done", "odd": "abandoned", "fine": "done", "direct.mp4": "done"}
    assert outcome.sources_failed == 1
    written = [path for path in world.out.rglob("*") if path.is_file()]
    assert len([path for path in written if path.name == "run.json"]) == 3
    for path in written:
        assert b"hunter2" not in path.read_bytes(), path
        assert b"me:" not in path.read_bytes().replace(b"time:", b""), path
    assert "hunter2" not in json.dumps(outcome.document())


# --- odd lists ---------------------------------------------------------------------------------------


def test_titles_that_are_not_text_stop_no_video(world: World) -> None:
    """Half a character: what becomes of truncated emoji."""
    world.video(
        "half", {"url": world.server.add("/half.mp4", world.clip), "ext": "mp4", "title": "a \ud83d b"}
    )
    world.entries[-1]["title"] = "a \ud83d b"
    world.video("number", title=12)
    world.video("good")
    world.run()
    states = world.states()
    assert (states["number"], states["good"]) == ("done", "done")
    assert states.get("half", "done") == "done"


def test_an_unforeseen_list_fails_that_source(world: World) -> None:
    """It is reported as unexpected; what was listed before is done."""
    world.video("before")
    world.entries.append("no entry at all")
    world.answers["lists"] = {"other": {"_type": "playlist", "entries": [world.entry("good")]}}
    world.page("site", "good", world.server.add("/good.mp4", world.clip))
    outcome = world.run(world.source(), world.source("https://lists.test/other"))
    assert world.states() == {"before": "done", "good": "done"}
    assert outcome.sources_failed == 1
    (trouble,) = outcome.troubles
    assert (trouble["source"], trouble["kind"]) == (LIST, "unexpected")
