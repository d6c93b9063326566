"""The output of a batch run for people: index page, summary, notifications."""

from __future__ import annotations

import json
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

import analyzer
from analyzer.batch import notify
from analyzer.batch.config import OnFailure
from analyzer.batch.index_page import write_index
from analyzer.batch.ledger import Ledger, Listed, State
from analyzer.batch.notify import notify as send
from analyzer.batch.outcome import Outcome
from analyzer.batch.summary import summary
from analyzer.errors import OutputError
from testkit import browser

SCRIPT = "<script>alert(1)</script></script><b>bold</b> {{ 7 * 7 }}"
IMAGE = '"><img src=x onerror=alert(2)>'
TURNED = "talk \N{RIGHT-TO-LEFT OVERRIDE}4pm.exe\nsecond\x1b[31m line"
COUNTS = {"people": 7, "female": 4, "male": 2, "unknown_gender": 1, "analyzed_s": 3600.0}


# A ledger with one of everything


class Filled:
    """Fills a ledger in a folder."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.ledger = Ledger(out / "ledger.sqlite")
        self._added = 0

    def add(self, title: str | None, source: str = "", duration_s: float | None = 61.0) -> int:
        """A new video."""
        self._added += 1
        listed = Listed(
            identity=f"id-{self._added}",
            settings_hash="s",
            models_hash="m",
            origin="a channel",
            source=source or f"https://example.org/watch?v={self._added}",
            standalone=True,
            folder=self.out,
            title=title,
            uploaded="2026-11-01",
            duration_s=duration_s,
        )
        return self.ledger.add(listed)[0].id

    def done(self, title: str, run: str, *, files: tuple[str, ...] = ("report.html",), **info: Any) -> int:
        """A finished video with `files` in its folder; without any there is no folder."""
        id = self.add(title)
        self.ledger.begin(id, {})
        if files:
            (self.out / run).mkdir(parents=True)
        for name in files:
            (self.out / run / name).write_text("<title>report</title>")
        known = {"complete": True, "counts": COUNTS, "video_id": f"v{id}", "title": title, "channel": "A & B"}
        self.ledger.done(id, self.out / run, known | info)
        return id

    def failed(
        self, title: str | None, source: str = "", *, abandoned: bool = False, error: str = "no"
    ) -> int:
        """A video that is tried again in a day, or abandoned."""
        id = self.add(title, source)
        self.ledger.begin(id, {})
        self.ledger.fail(id, "network", error, next_try=None if abandoned else time.time() + 86400)
        return id


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[Filled]:
    """An empty ledger."""
    one = Filled(tmp_path / "outputs")
    yield one
    one.ledger.close()


def fill(filled: Filled) -> dict[str, int]:
    """One video of each state and kind of hostility."""
    batch_run = filled.ledger.begin_batch_run()
    ids = {
        "script": filled.done(SCRIPT, "plain", channel=None),
        "image": filled.done(IMAGE, "50 % #1 a:b?c", complete=False, channel=SCRIPT),
        "folder": filled.done("No page", "no-page", files=("run.json",)),
        "gone": filled.done("Gone", "gone", files=()),
        "turned": filled.failed(TURNED, error=f"the server says {IMAGE}"),
        "javascript": filled.failed("Script address", "javascript:alert(3)", abandoned=True),
        "file": filled.failed(None, '/videos/<b>"a b".mp4', abandoned=True),
        "new": filled.add("Still new"),
        "analyzing": filled.add("At work"),
        "skipped": filled.add("Left out"),
    }
    filled.ledger.begin(ids["analyzing"], {}, state=State.ANALYZING)
    filled.ledger.skip(ids["skipped"], f"shorter than 5 min {SCRIPT}", "filter")
    filled.ledger.pause_host("example.org", f"are you a robot? {IMAGE}", first_s=3600, cap_s=7200)
    outcome = Outcome(
        reason="no_space", error="less than 5 MB <b>are</b> left", done=4, failed=1, abandoned=2, left=2
    )
    filled.ledger.end_batch_run(batch_run, outcome.reason, outcome.document())
    filled.ledger.begin_batch_run()
    return ids


class Read(HTMLParser):
    """The links and tags of a page, and the text of its tables' rows by section."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.rows: dict[str, list[str]] = {}
        self._section = ""
        self.text = path.read_text("utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self.tags.append(tag)
        self.handlers += [name for name in known if name.startswith("on")]
        if tag == "section":
            self._section = known["id"] or ""
            self.rows[self._section] = []
        if tag == "tr":
            self.rows[self._section].append("")
        if tag in ("td", "th") and self.rows[self._section]:
            self.rows[self._section][-1] += " "
        if tag == "a" and known.get("href"):
            self.links.append(known["href"] or "")

    def handle_data(self, data: str) -> None:
        if self.rows.get(self._section):
            self.rows[self._section][-1] += data

    def row(self, section: str, words: str) -> str:
        """The one row of a section with these words."""
        (found,) = (" ".join(row.split()) for row in self.rows[section] if words in row)
        return found


def test_index_shows_videos_of_all_states(filled: Filled) -> None:
    ids = fill(filled)
    page = Read(write_index(filled.ledger, filled.out))
    assert {name: len(rows) - 1 for name, rows in page.rows.items()} == {
        "trouble": 3,
        "done": 4,
        "skipped": 1,
        "batch-runs": 2,
    }
    cards = dict(re.findall(r"<dt>([^<]+)</dt><dd><span class=\"big\">([^<]+)<", page.text))
    assert cards == {
        "Done": "4", "Video": "4.0 h", "People": "28", "Waiting": "2", "Failed": "1", "Abandoned": "2",
        "Skipped": "1",
    }  # fmt: skip
    done = page.row("done", "No page")
    assert "4 female, 2 male, 1 unknown" in done
    assert " A & B 2026-11-01 1:01 7 4 2 1 " in done
    assert "partial" in page.row("done", "onerror")
    assert "run was removed" in page.row("done", "Gone")
    assert "partial" not in done
    assert "run was removed" not in done
    failed = page.row("trouble", "4pm")
    assert failed.startswith(f"{ids['turned']} ")
    assert f"the server says {IMAGE} network" in failed
    tomorrow = time.strftime("%Y-%m-%d", time.gmtime(time.time() + 86400))
    assert f" 1 {time.strftime('%Y-%m-%d', time.gmtime())}" in failed  # attempts, last
    assert tomorrow in failed
    assert page.row("trouble", "/videos/").endswith("abandoned")
    assert "shorter than 5 min" in page.row("skipped", "Left out")
    assert "disk full: less than 5 MB <b>are</b> left" in page.row("batch-runs", "disk full")
    assert "<1 s 4 1 2 2 " in page.row("batch-runs", "disk full")
    assert "not ended" in page.rows["batch-runs"][1], "the newest batch run comes first"
    assert re.search(r"example\.org</bdi></strong> is paused until 20\d\d-\d\d-\d\d \d\d:\d\d UTC", page.text)
    assert re.search(r"Written 20\d\d-\d\d-\d\d \d\d:\d\d UTC", page.text)
    assert "estimates of perceived gender" in page.text
    assert ">retried automatically<" in page.text and "<code>batch retry NUMBER</code> makes" in page.text


def test_untrusted_texts_stay_texts(filled: Filled) -> None:
    fill(filled)
    page = Read(write_index(filled.ledger, filled.out))
    assert page.tags.count("script") == 1
    assert not {"img", "b", "iframe"} & set(page.tags)
    assert not page.handlers
    assert any(row.strip().startswith(SCRIPT) for row in page.rows["done"]), "not evaluated, not lost"
    assert not [char for char in page.text if not char.isprintable() and char != "\n"]
    assert "talk 4pm.exe second\N{REPLACEMENT CHARACTER}[31m line" in page.text
    assert {link.partition(":")[0] for link in page.links if ":" in link} == {"https"}
    assert "javascript:alert(3)" in page.row("trouble", "Script address")


def test_links_lead_to_the_runs_wherever_they_are(filled: Filled, tmp_path: Path) -> None:
    fill(filled)
    filled.done("Elsewhere", "../else where/run")
    filled.done("Odd", "a\nb\"'<i>é")
    page = Read(write_index(filled.ledger, filled.out))
    links = [link for link in page.links if not link.startswith(("https:", "#"))]
    assert links == [  # the newest first
        "a%0Ab%22%27%3Ci%3E%C3%A9/report.html",
        "../else%20where/run/report.html",
        "no-page/",
        "50%20%25%20%231%20a%3Ab%3Fc/report.html",
        "plain/report.html",
    ]
    assert all((filled.out / unquote(link)).exists() for link in links)
    shutil.rmtree(filled.out / "plain")
    assert "plain/report.html" not in Read(write_index(filled.ledger, filled.out)).links


def test_index_is_replaced_as_a_whole_without_leftovers(filled: Filled, tmp_path: Path) -> None:
    empty = write_index(filled.ledger, filled.out)
    assert empty == filled.out / "index.html"
    assert "No finished videos yet" in empty.read_text("utf-8")
    filled.done("A talk", "run")
    before = {path.name for path in filled.out.iterdir()}
    with Ledger(filled.out / "ledger.sqlite", read_only=True) as ledger:
        assert "A talk" in write_index(ledger, filled.out).read_text("utf-8")
    assert {path.name for path in filled.out.iterdir()} == before
    with pytest.raises(OutputError, match="cannot be written"):
        write_index(filled.ledger, tmp_path / "none")


@pytest.mark.slow
def test_ten_thousand_videos(filled: Filled) -> None:
    now = time.time()
    columns = "identity, settings_hash, models_hash, origin, source, standalone, folder, state, title, run,"
    columns += "complete, counts, duration_s, added_at, changed_at, done_at, reason, error, error_kind"
    rows = [
        (
            *(f"id-{n}", "s", "m", "a channel", f"https://example.org/{n}", 1, ".", state),
            *(f"{state} {n:05} {'long ' * 2000 if n % 100 == 0 else ''}", f"run-{n}", 1, json.dumps(COUNTS)),
            *(60.0, now, now + n, now + n, "why " * 1000, "what " * 1000, "network"),
        )
        for state in (State.DONE, State.ABANDONED, State.SKIPPED)
        for n in range(10_000 * (state is State.DONE) + 2500 * (state is not State.DONE))
    ]
    with filled.ledger._transaction() as db:
        db.executemany(f"INSERT INTO videos ({columns}) VALUES ({', '.join('?' * 19)})", [
            (f"{row[7]}-{row[0]}", *row[1:]) for row in rows
        ])  # fmt: skip
    began = time.monotonic()
    path = write_index(filled.ledger, filled.out)
    assert time.monotonic() - began < 20, "a few seconds; the rest is for busy machines"
    assert path.stat().st_size < 4_000_000
    page = Read(path)
    assert [len(page.rows[name]) - 1 for name in ("done", "trouble", "skipped")] == [1000, 1000, 1000]
    assert "done 09999" in page.rows["done"][1]
    assert "done 09000" in page.rows["done"][-1]
    assert "abandoned 02499" in page.rows["trouble"][1]
    assert "The newest 1,000 of 10,000; 9,000 more are in the ledger" in page.text
    assert page.text.count("The newest 1,000 of 2,500; 1,500 more are in the ledger") == 2
    assert ">10,000 h<" in page.text, "the hours of all videos"


@pytest.mark.parametrize(
    ("analyzed_s", "shown"),
    [((0.2,), "&lt;1 s"), ((1.2, 3), "4 s"), ((150,), "2 min"), ((5400, 5400), "3.0 h")],
)
def test_a_little_video_is_not_shown_as_none(
    analyzed_s: tuple[float, ...], shown: str, filled: Filled
) -> None:
    for number, seconds in enumerate(analyzed_s):
        filled.done("Short", f"run-{number}", counts=COUNTS | {"analyzed_s": seconds})
    assert f">{shown}<" in write_index(filled.ledger, filled.out).read_text("utf-8")


def test_index_lists_sources_that_could_not_be_listed(filled: Filled) -> None:
    """Even if no video is known yet, and no longer once a batch run could list them."""

    def batch_run(*troubles: dict[str, Any]) -> Read:
        outcome = Outcome(
            troubles=list(troubles), sources_failed=sum(one["state"] == "source" for one in troubles)
        )
        filled.ledger.end_batch_run(filled.ledger.begin_batch_run(), "finished", outcome.figures())
        filled.ledger.begin_batch_run()  # the one that writes the page may yet be killed
        return Read(write_index(filled.ledger, filled.out))

    def failed(source: str, error: str) -> dict[str, Any]:
        return {
            "video": None,
            "source": source,
            "title": None,
            "kind": "private",
            "error": error,
            "state": "source",
        }

    channel = failed("https://example.org/@talks", f"the channel is private {IMAGE}")
    folder = failed("/mnt/recordings", "no such folder")
    clip = trouble(7, "failed", "network", "A video", "no answer")
    page = batch_run(channel, folder, clip)
    assert len(page.rows["sources"]) - 1 == 2 and "img" not in page.tags
    assert f"the channel is private {IMAGE} private" in page.row("sources", "@talks")
    assert "https://example.org/@talks" in page.links
    assert "no such folder" in page.row("sources", "/mnt/recordings")
    assert "finished, 2 failed sources" in page.row("batch-runs", "finished")
    assert "No finished videos yet" in page.text
    page = batch_run()
    assert "sources" not in page.rows and "@talks" not in page.text


def test_unexpected_values_do_not_end_the_page(filled: Filled) -> None:
    id = filled.done("Odd", "run", counts=None, video={"duration_s": float("inf")})
    filled.done("Uncounted", "run-2", counts={"people": "many"})
    with filled.ledger._transaction() as db:
        db.execute("UPDATE videos SET done_at = NULL, title = '', uploaded = NULL WHERE id = ?", (id,))
    page = Read(write_index(filled.ledger, filled.out))
    assert "– female, – male, – unknown" in page.row("done", "watch?v=1")
    assert "– female, – male, – unknown" in page.row("done", "Uncounted")


# The page in a browser


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """One browser for all tests."""
    with browser.chromium() as started:
        yield started


@pytest.fixture
def show(chromium: Any, filled: Filled) -> Iterator[Callable[..., Any]]:
    """Write the page and open the file; there must be no error, and no other request."""
    contexts, wrong, asked = [], [], []

    def open_page(**options: Any) -> Any:
        address = write_index(filled.ledger, filled.out).as_uri()
        contexts.append(chromium.new_context(**options))
        tab = contexts[-1].new_page()
        tab.on("console", lambda message: wrong.append(f"{message.type}: {message.text}"))
        tab.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        tab.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        tab.on("request", lambda request: asked.append((request.url, address)))
        tab.goto(address)
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert not wrong
    assert [url for url, address in asked if url not in (address, "data:,")] == []


def titles(tab: Any, section: str) -> list[str]:
    """The titles of the visible rows of a section."""
    return [
        text for text in tab.locator(f"#{section} tbody tr:visible .name").all_text_contents() if text.strip()
    ]


def test_page_sorts_and_finds(filled: Filled, show: Callable[..., Any]) -> None:
    fill(filled)
    filled.done("Zebra", "zebra", counts=COUNTS | {"people": 12})
    tab = show(viewport={"width": 1280, "height": 900})
    tab.wait_for_selector("html[data-ready]", state="attached")
    people = tab.locator("#done th button", has_text="People")
    people.click()
    assert titles(tab, "done")[0] == "Zebra"
    people.click()
    assert titles(tab, "done")[-1] == "Zebra"
    assert tab.locator("#done th[aria-sort=ascending]").inner_text().strip().startswith("People")
    tab.locator("#done th button", has_text="Video").click()
    assert titles(tab, "done")[-1] == "Zebra"
    tab.locator("#find").fill("LEFT  shorter")
    assert titles(tab, "done") == titles(tab, "trouble") == []
    assert titles(tab, "skipped") == ["Left out"], "found in the closed section"
    assert tab.locator("#found").inner_text() == "1 of 9 rows"
    tab.locator("#find").fill("")
    assert len(titles(tab, "done")) == 5
    assert titles(tab, "skipped") == []


def test_empty_page_in_a_browser(show: Callable[..., Any]) -> None:
    tab = show()
    tab.wait_for_selector("html[data-ready]", state="attached")
    assert tab.locator("table").count() == 0


def test_link_opens_the_report_from_the_disk(filled: Filled, show: Callable[..., Any], chromium: Any) -> None:
    fill(filled)
    address = show().locator("#done a", has_text="onerror").evaluate("link => link.href")
    context = chromium.new_context()
    tab = context.new_page()
    tab.goto(address)
    assert tab.title() == "report"
    context.close()


def test_page_without_script(filled: Filled, show: Callable[..., Any]) -> None:
    fill(filled)
    tab = show(java_script_enabled=False, viewport={"width": 1280, "height": 900})
    assert len(titles(tab, "done")) == 4
    assert not tab.locator("#find").is_visible()
    tab.locator("#skipped summary").click()
    assert titles(tab, "skipped") == ["Left out"]


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (390, "dark"), (1280, "dark")])
def test_page_fits_and_can_be_read_in_both_schemes(
    filled: Filled, show: Callable[..., Any], width: int, scheme: str
) -> None:
    fill(filled)
    filled.done("Donaudampfschifffahrtsgesellschaft" * 3, "long")
    outcome = Outcome(done=12345, failed=678, abandoned=12, left=12345)
    filled.ledger.end_batch_run(filled.ledger.begin_batch_run(), "finished", outcome.document())
    tab = show(viewport={"width": width, "height": 844}, color_scheme=scheme)
    wide = "e => e.scrollWidth - e.clientWidth"
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    for region in tab.locator(".scroll:visible").all():
        assert region.evaluate(wide) <= 0, region.get_attribute("aria-label")
    shades = tab.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
        ".map((text) => text.match(/[0-9]+/g).slice(0, 3).reduce((a, b) => a + Number(b), 0))"
    )
    assert (shades[0] > shades[1]) == (scheme == "dark")
    assert tab.locator("#done td.desk").first.is_visible() == (width > 640)
    assert tab.locator("#done .narrow").first.is_visible() == (width <= 640)


# The summary


def trouble(number: int | None, state: str, kind: str, title: str | None, error: str) -> dict[str, Any]:
    """One of an outcome."""
    source = f"https://example.org/{number}"
    return {"video": number, "source": source, "title": title, "kind": kind, "error": error, "state": state}


def test_summary_of_a_batch_run_without_trouble() -> None:
    outcome = Outcome(done=12, seconds=2470, people=96, video_s=12_300)
    assert summary(outcome) == "Done 12 videos, 3.4 h of video, in 41 min: 96 people."
    assert summary(Outcome(done=1, seconds=9, people=1, video_s=60)) == (
        "Done 1 video, 60 s of video, in 9 s: 1 person."
    )
    assert summary(Outcome(seconds=2)) == "Nothing to do; took 2 s."


def test_summary_of_a_batch_run_with_trouble() -> None:
    outcome = Outcome(
        reason="time_budget", done=3, incomplete=1, skipped=3, filtered=1, failed=1, abandoned=1, left=2,
        copies=2, recovered=1, sources_failed=1,
        seconds=7200, people=9, video_s=5400,
        troubles=[
            trouble(None, "source", "private", None, "the list is private"),
            trouble(4, "failed", "network", "A talk", "the server does not answer")
            | {"next_try": "2026-11-29T23:44:23+00:00"},
            trouble(5, "abandoned", "unavailable", None, "the video was removed"),
            trouble(6, "done", "incomplete", "Half", "it breaks off after 5 s"),
            trouble(7, "done", "report", "Unreported", "the report cannot be written"),
        ],
    )  # fmt: skip
    assert summary(outcome).splitlines() == [
        "Done 3 of 8 videos (1 failed, 1 abandoned, 2 left for the next batch run, 1 excluded by a filter), "
        "90 min of video, in 2.0 h: 9 people.",
        "Ended early: time budget used up.",
        "1 attempt crashed and succeeded on retry.",
        "2 files are copies of others and were not analyzed again.",
        "2 videos skipped: removed, replaced, or the same as another.",
        "",
        "Failed, will be tried again:",
        "  4  A talk",
        "      The server does not answer. (network; next attempt after 2026-11-29 23:44 UTC)",
        "",
        "Abandoned (batch retry NUMBER tries one again):",
        "  5  https://example.org/5",
        "      The video was removed. (unavailable)",
        "",
        "Done, but read only in part:",
        "  6  Half",
        "      It breaks off after 5 s. (incomplete)",
        "",
        "Done, but without its report:",
        "  7  Unreported",
        "      The report cannot be written. (report)",
        "",
        "Sources that could not be listed, or only in part:",
        "  https://example.org/None",
        "      The list is private. (private)",
    ]


def test_summary_names_the_reason_of_an_early_end_once() -> None:
    text = summary(Outcome(reason="broken", error="talk.onnx is damaged: reinstall it", left=1, seconds=3))
    assert text.splitlines() == [
        "Done 0 of 1 video (1 left for the next batch run), in 3 s.",
        "Ended early: talk.onnx is damaged: reinstall it.",
    ]
    stopped = summary(Outcome(reason="stopped", skipped=2, filtered=2, copies=1, recovered=2, seconds=3))
    assert stopped.splitlines() == [
        "Nothing to do (2 excluded by a filter); took 3 s.",
        "Stopped on request (Ctrl-C or SIGTERM).",
        "2 attempts crashed and succeeded on retry.",
        "1 file is a copy of another and was not analyzed again.",
    ]


def test_summary_of_hostile_texts_is_plain_and_short() -> None:
    troubles = [trouble(n, "failed", "network", TURNED + "x" * 9999, "no\r\nBcc: all") for n in range(250)]
    text = summary(Outcome(failed=250, troubles=troubles))
    assert not [char for char in text if not char.isprintable() and char != "\n"]
    assert "\nBcc" not in text
    assert "  and 150 more: batch status lists them" in text
    assert max(len(line) for line in text.splitlines()) < 220
    assert len(text.splitlines()) < 210


# Notifications

BAD = Outcome(reason="broken", error="it is broken")
TEXT = "Done 0 of 1 video: caf\N{LATIN SMALL LETTER E WITH ACUTE}"


def command(program: str, *arguments: str) -> OnFailure:
    """A command of Python."""
    return OnFailure(command=(sys.executable, "-c", program, *arguments))


def test_a_batch_run_without_trouble_sends_nothing(tmp_path: Path, hooks: Hooks) -> None:
    program = "import sys; open(sys.argv[1], 'w')"
    on_failure = OnFailure((sys.executable, "-c", program, str(tmp_path / "received")), hooks.url("/ok"))
    assert send(on_failure, Outcome(done=1), TEXT) == []
    assert not (tmp_path / "received").exists()
    assert hooks.posted == []
    assert send(OnFailure(), BAD, TEXT) == []


def test_command_gets_the_document(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    program = (
        "import shutil, sys; shutil.copyfileobj(sys.stdin.buffer, open(sys.argv[1], 'wb')); print('sent')"
    )
    received = tmp_path / "to ld; $(x)"
    assert send(command(program, str(received)), BAD, TEXT) == []
    assert json.loads(received.read_bytes()) == BAD.figures() | {"text": TEXT}
    assert capfd.readouterr() == ("", "sent\n"), "standard output is for the batch itself"


def test_command_that_reads_nothing(tmp_path: Path) -> None:
    text = "x" * 5_000_000  # more than a pipe holds
    assert send(command("pass"), BAD, text) == []


def test_command_that_fails() -> None:
    (said,) = send(command("import sys; sys.exit(7)", "SECRET"), BAD, TEXT)
    assert "ended with exit code 7" in said
    assert "SECRET" not in said
    (said,) = send(command("import os; os.kill(os.getpid(), 9)"), BAD, TEXT)
    assert "ended by signal 9" in said


def test_command_that_is_not_there(tmp_path: Path) -> None:
    (said,) = send(OnFailure(command=("no-such-program", "SECRET")), BAD, TEXT)
    assert said == (
        "the command no-such-program of [on_failure] cannot be run (No such file or directory): "
        "check the jobs file"
    )
    (said,) = send(OnFailure(command=(str(tmp_path),)), BAD, TEXT)
    assert "Permission denied" in said


def test_command_that_hangs_is_killed_with_all_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "_COMMAND_S", 3.0)
    program = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        "open(sys.argv[1], 'w').write(str(child.pid)); time.sleep(600)"
    )
    began = time.monotonic()
    (said,) = send(command(program, str(tmp_path / "pid")), BAD, "x" * 5_000_000)
    assert "did not end within 3 s and was killed" in said
    assert time.monotonic() - began < 20
    pid = int((tmp_path / "pid").read_text())
    end = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]:
        assert time.monotonic() < end, "what it started still runs"
        time.sleep(0.05)


class Hooks(ThreadingHTTPServer):
    """A server for posts: `posted` has path, headers and body of each. Its answer depends on the path."""

    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), HookHandler)
        self.posted: list[tuple[str, dict[str, str], bytes]] = []
        self.places: dict[str, tuple[int, str]] = {}
        self.stopping = threading.Event()

    def url(self, path: str, login: str = "") -> str:
        """The address of a path."""
        return f"http://{login}127.0.0.1:{self.server_address[1]}{path}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is part of the tests."""


class HookHandler(BaseHTTPRequestHandler):
    """Answers as the path says."""

    server: Hooks

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.posted.append((self.path, dict(self.headers), body))
        if self.path == "/hang":
            self.server.stopping.wait(60)
        elif self.path == "/drip":
            self.wfile.write(b"HTTP/1.0 200 OK\r\nX: ")
            while not self.server.stopping.wait(0.1):
                self.wfile.write(b"x")
        elif self.path == "/noise":
            self.wfile.write(b"\x00\xff nothing that is HTTP\n\n")
        elif self.path in self.server.places:
            status, place = self.server.places[self.path]
            self.send_response(status)
            self.send_header("Location", place)
            self.end_headers()
        else:
            self.send_response(200 if self.path.startswith("/ok") else 403)
            self.end_headers()

    def do_GET(self) -> None:
        self.do_POST()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hooks]:
    """Runs for one test."""
    monkeypatch.setenv("no_proxy", "*")
    with Hooks() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.stopping.set()
        server.shutdown()
        thread.join()


def post(address: str) -> list[str]:
    """Sentences about a webhook that failed."""
    return send(OnFailure(webhook=address), BAD, TEXT)


def test_webhook_gets_the_document(hooks: Hooks) -> None:
    assert post(hooks.url("/ok/caf\N{LATIN SMALL LETTER E WITH ACUTE}?key=1%2F#part", "me:se%20cret@")) == []
    ((path, headers, body),) = hooks.posted
    assert path == "/ok/caf%C3%A9?key=1%2F"
    assert json.loads(body) == BAD.figures() | {"text": TEXT}
    assert headers["Content-Type"] == "application/json"
    assert headers["User-Agent"] == f"audience-analyzer/{analyzer.__version__}"
    assert headers["Authorization"] == "Basic bWU6c2UgY3JldA=="


@pytest.mark.parametrize(
    ("path", "words"),
    [("/secret-403", "answered with 403"), ("/noise", "cannot be reached (BadStatusLine)")],
)
def test_webhook_that_refuses(hooks: Hooks, path: str, words: str) -> None:
    (said,) = post(hooks.url(path, "me:secret@"))
    assert said.startswith("the webhook at 127.0.0.1 of [on_failure] ")
    assert words in said
    assert "secret" not in said


def test_webhook_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    (said,) = post("http://me:secret@127.0.0.1:9/secret")
    assert "the webhook at 127.0.0.1 of [on_failure] cannot be reached (" in said
    assert "secret" not in said


@pytest.mark.parametrize("path", ["/hang", "/drip"])
def test_webhook_that_hangs(hooks: Hooks, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setattr(notify, "_POST_S", 0.6)
    began = time.monotonic()
    (said,) = post(hooks.url(path))
    assert time.monotonic() - began < 10
    assert "did not answer within 0.6 s" in said
    hooks.stopping.set()
    for thread in threading.enumerate():
        if thread.name == "notify":
            thread.join(20)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "place", ["file:///etc/passwd", "ftp://127.0.0.1/x", "javascript:1", "//[", "data:,x"]
)
def test_webhook_redirects_to_nothing_but_the_web(hooks: Hooks, code: int, place: str) -> None:
    hooks.places["/away"] = (code, place)
    (said,) = post(hooks.url("/away"))
    assert "redirects to where nothing is sent" in said or "cannot be reached (ValueError)" in said
    assert "passwd" not in said


@pytest.mark.parametrize(
    ("code", "posted"), [(301, True), (302, False), (303, False), (307, True), (308, True)]
)
def test_webhook_that_moved_gets_the_document_where_it_is(hooks: Hooks, code: int, posted: bool) -> None:
    # Another host, as far as a browser is concerned.
    hooks.places["/moved"] = (code, hooks.url("/ok").replace("127.0.0.1", "localhost"))
    assert post(hooks.url("/moved", "me:secret@")) == []
    _, (path, headers, body) = hooks.posted
    assert path == "/ok"
    assert (json.loads(body)["text"] == TEXT) if posted else (body == b"")
    assert "Authorization" not in headers, "the login is for the host that it was given for"


def test_webhook_gets_no_login_that_was_not_given_for_it(
    hooks: Hooks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert post(hooks.url("/ok")) == []
    ((_, headers, _),) = hooks.posted
    assert "Authorization" not in headers


def test_webhook_that_redirects_for_ever(hooks: Hooks) -> None:
    hooks.places["/round"] = (308, "/round")
    (said,) = post(hooks.url("/round"))
    assert "redirects again and again" in said
    assert len(hooks.posted) == 6


def test_command_and_webhook_both_get_the_notification(hooks: Hooks) -> None:
    on_failure = OnFailure(("no-such-program",), hooks.url("/no"))
    first, second = send(on_failure, BAD, TEXT)
    assert "no-such-program" in first
    assert "answered with 403" in second
