"""The report's page in a real browser: what is drawn, what follows what, and that nothing leaves it."""

from __future__ import annotations

import functools
import itertools
import json
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from analyzer.report.document import REPORT_VERSION
from analyzer.report.figures import ESTIMATED, FIGURES
from analyzer.report.html import page
from testkit import browser
from testkit.media import numbered, write_video

BANDS = ["0-12", "13-17", "18-24", "25-34", "35-44", "45-54", "55-64", "65+"]
SCRIPT = "<script>alert(1)</script></script><b>bold</b> & {{ 7 * 7 }} <img src=x onerror=alert(2)>"
YOUTUBE = "https://www.youtube.com/watch?v=abcdefghijk"
LENGTH = 20


# Documents, written by hand: three people of whom the plan below says when they are seen

STRETCHES = {1: [[0.0, 12.0]], 2: [[4.0, 8.0], [14.0, 20.0]], 3: [[5.0, 10.0]]}
GENDERS = {1: "female", 2: "male", 3: "unknown"}
AGES = {1: "25-34", 2: "45-54", 3: "0-12"}


def seen(person: int, second: int) -> bool:
    """Whether the person is on screen in that second."""
    return any(start <= second < end for start, end in STRETCHES[person])


def figures(**known: Any) -> dict[str, Any]:
    """All figures, those not given not known."""
    return {figure.name: known.get(figure.name) for figure in FIGURES}


TOTAL = figures(
    videos=1, analyzed_s=20.0, people=3, people_low=2, people_high=4, on_screen_s=27.0, occupancy=0.9,
    co_presence=0.3, mixed=0.2, concurrent_mean=1.35, concurrent_peak=3, first_s=0.0, longest_person_s=12.0,
    female=1, male=1, unknown_gender=1, estimated=12, age_median_years=34.2,
    female_on_screen_s=12.0, male_on_screen_s=10.0, unknown_on_screen_s=5.0, female_people_share=0.53,
    female_people_low=0.2, female_people_high=0.8, female_time_share=0.6, female_time_low=0.3,
    female_time_high=0.9, people_per_video=3.0,
)  # fmt: skip


def a_video(run: str = "run-1", **changes: Any) -> dict[str, Any]:
    """One video of a document."""
    return {
        "run": run, "video_id": run, "title": "A talk", "channel": None, "source": "talk.mp4", "url": None,
        "day": "2026-11-01", "day_is": "analyzed", "complete": True, "incomplete_reason": "",
        "kind": "video", "samples": 100, "notes": [],
        "duration_s": 20.0, "analyzed_share": 1.0, "media": None, "audio": False, "page": None,
        "link": None, "media_start_s": 0.0, "own": {},
        "longest_person": {"person_id": 1, "start_s": 3.0, "end_s": 15.0}, **TOTAL, **changes,
    }  # fmt: skip


def shares(estimated: int, by: str = "", value: str = "") -> list[dict[str, Any]]:
    """A share of each gender and band."""
    middles = [
        ("gender", "female", 0.53),
        ("gender", "male", 0.47),
        *(("age", band, 0.125) for band in BANDS),
    ]
    ends = {"people_low": 0.1, "people_high": 0.8, "time_low": 0.05, "time_high": 0.9}
    rows = []
    for dimension, group, share in middles:
        row = {"by": by, "group_value": value, "dimension": dimension, "group": group, "estimated": estimated}
        rows.append(row | {"people_share": share, "time_share": share} | ends)
    return rows


SCREEN_TIME = [
    {"by": "", "group_value": "", "dimension": dimension, "group": group}
    | {"people": people, "on_screen_s": time_s, "share": time_s / 27}
    for dimension, group, people, time_s in (
        ("gender", "female", 1, 12.0),
        ("gender", "male", 1, 10.0),
        ("gender", "unknown", 1, 5.0),
        ("age", "0-12", 1, 5.0),
        ("age", "13-17", 0, 0.0),
        ("age", "25-34", 1, 12.0),
        ("age", "45-54", 1, 10.0),
        ("age", "unknown", 0, 0.0),
    )
]


def document(video: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """The document of one video."""
    video = video or a_video()
    counts = {
        gender: [float(sum(seen(p, s) for p in STRETCHES if GENDERS[p] == gender)) for s in range(LENGTH)]
        for gender in ("female", "male", "unknown")
    }
    ages = {
        band: [float(sum(seen(p, s) for p in STRETCHES if AGES[p] == band)) for s in range(LENGTH)]
        for band in [*BANDS, "unknown"]
    }
    people = [float(sum(seen(p, s) for p in STRETCHES)) for s in range(LENGTH)]
    timeline = {
        "bin_s": 1.0, "start_s": [float(s) for s in range(LENGTH)], "end_s": [s + 1.0 for s in range(LENGTH)],
        "people": people, "female": counts["female"], "male": counts["male"],
        "unknown_gender": counts["unknown"], "ages": ages,
    }  # fmt: skip
    persons = [
        {
            "run": video["run"], "person_id": person, "gender": GENDERS[person], "female_prob": 0.5,
             "age_years": 34.2,
            "age_low": 24.1, "age_high": 48.8, "age_band": AGES[person], "first_s": stretches[0][0],
            "last_s": stretches[-1][1], "on_screen_s": sum(end - start for start, end in stretches),
            "appearances": len(stretches), "spans": stretches,
            "name": "", "gender_source": "estimated", "age_source": "estimated", "corrected": False,
        }
        for person, stretches in STRETCHES.items()
    ]  # fmt: skip
    cells = [
        {
            "gender": gender,
            "band": band,
            "people": sum(GENDERS[p] == gender and AGES[p] == band for p in STRETCHES),
            "on_screen_s": 12.0 if any(GENDERS[p] == gender and AGES[p] == band for p in STRETCHES) else 0.0,
        }
        for gender in ("female", "male", "unknown")
        for band in [*BANDS, "unknown"]
    ]
    concurrent = [
        {"people": n, "time_s": float(people.count(n)), "share": people.count(n) / 20} for n in range(4)
    ]
    model = {
        "name": "net", "role": "gender", "license": "MIT", "commercial_use": True, "sha256": "ab" * 32,
        "trained_on": "faces", "known_bias": "Unreliable on children.", "videos": 1,
    }  # fmt: skip
    return {
        "report_version": REPORT_VERSION, "analyzer_version": "0.1.0", "made_at": "2026-11-24T15:00:00+00:00",
        "title": video["title"], "kind": "video", "images": False, "ages_measured": True,
        "filters": [], "min_people": 1,
        "age_bands": BANDS,
        "total": {**TOTAL, "suppressed": False}, "videos": [video], "groups": None, "shares": shares(12),
        "pyramid": cells, "concurrent": concurrent,
        "moments": [
            {
                "run": video["run"], "start_s": 5.0, "end_s": 8.0, "people": 3.0,
                "peak_s": 6.0, "peak_people": 4,
            }
        ],
        "more_moments": 0,
        "timeline": timeline, "people": persons, "pairs": [{"a": 1, "b": 3, "co_presence_s": 5.0}],
        "image_rows": None, "trend": None, "comparison": None, "audience": None, "notes": [], "skipped": [],
        "screen_time": SCREEN_TIME, "timezone": "UTC",
        "provenance": {
            "models": [model], "settings": [{"name": "fps", "values": [{"value": "5.0", "videos": 1}]}],
            "versions": [], "fitted_on": ["faces"], "schema_versions": [3],
            "analyzed_at": ["2026-11-01", "2026-11-01"],
        },
    } | changes  # fmt: skip


def many(count: int = 6, **changes: Any) -> dict[str, Any]:
    """The document of several videos, with groups, a trend and an audience."""
    videos = [
        a_video(
            f"run-{n}", title=f"Video {n}", channel=f"Channel {n % 2}", people=3 + n, occupancy=0.5 + n / 100
        )
        for n in range(count)
    ]
    trend = {
        "figure": "occupancy", "words": "occupancy", "unit": "share", "period": "2026-W45",
        "previous": "2026-W44", "value": 0.8, "value_low": 0.7, "value_high": 0.9, "previous_value": 0.5,
        "change": 0.3, "change_low": 0.1, "change_high": 0.5, "exceeds": True, "videos": 3,
        "previous_videos": 3,
    }  # fmt: skip
    steady = trend | {"period": "2026-W46", "previous": "2026-W45", "change": 0.0, "exceeds": False}
    audience = [
        {
            "dimension": dimension, "group": group, "audience_share": 0.2, "on_screen_share": 0.5,
            "on_screen_low": 0.4, "on_screen_high": 0.6, "difference": 0.3, "difference_low": 0.2,
            "difference_high": 0.4,
        }
        for dimension, group in (("gender", "female"), ("age", "18-24"))
    ]  # fmt: skip
    rows = [{**TOTAL, "group": f"Channel {n}", "suppressed": False} for n in range(2)]
    estimated = [share for video in videos for share in shares(12, "video", video["run"])[:2]]
    return document(
        videos[0], title=f"{count} videos", kind="videos", videos=videos,
        timeline=None, people=None, pairs=None,
        groups={"by": "channel", "timely": False, "rows": rows}, shares=shares(40) + estimated,
        trend={"by": "week", "rows": [trend, steady]},
        audience={"file": "export.csv", "basis": "time", "rows": audience, "notes": []},
    ) | changes  # fmt: skip


# The browser


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """One browser for all tests."""
    with browser.chromium() as started:
        yield started


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty seconds of H.264 that can be sought."""
    path = tmp_path_factory.mktemp("film") / "annotated.mp4"
    return write_video(path, numbered(LENGTH * 5), fps=5, options={"g": "5", "movflags": "+faststart"})


class Shown:
    """A page in the browser, with what it said and asked for."""

    def __init__(self, context: Any, address: str) -> None:
        self.tab = context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.dialogs: list[str] = []
        self.tab.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.tab.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.on("dialog", lambda dialog: (self.dialogs.append(dialog.message), dialog.dismiss()))
        self.tab.goto(address)

    def ready(self) -> Shown:
        """After the script has run."""
        self.tab.wait_for_selector("html[data-ready]", state="attached", timeout=20_000)
        return self

    def until(self, condition: str) -> None:
        """Wait for it; the browser's own waiting would evaluate a text, which the page forbids."""
        end = time.monotonic() + 10
        while not self.tab.evaluate(condition):
            assert time.monotonic() < end, condition
            self.tab.wait_for_timeout(20)

    def drawn(self) -> dict[str, int]:
        """How many outlines each chart has."""
        return self.tab.evaluate(
            "Object.fromEntries([...document.querySelectorAll('.plot')].map(p => [p.id.slice(5),"
            " p.querySelectorAll('svg path[d]').length]))"
        )

    def place(self, chart: str, share: float, down: float = 0.5) -> tuple[float, float]:
        """A place in the window over a chart's own area."""
        drag = self.tab.locator(f"#plot-{chart} rect.area").first
        drag.scroll_into_view_if_needed()
        box = drag.bounding_box()
        return box["x"] + share * box["width"], box["y"] + down * box["height"]

    def hover(self, chart: str, share: float, down: float = 0.5) -> str:
        """What is read when the pointer is there."""
        self.tab.mouse.move(*self.place(chart, share, down))
        label = self.tab.locator(f"#plot-{chart} .tip")
        label.wait_for()
        return " ".join(label.inner_text().split())

    def words(self, chart: str) -> str:
        """All that is written in a chart."""
        return self.tab.locator(f"#plot-{chart}").evaluate("one => one.textContent")

    def time_s(self) -> float:
        """Where the player stands."""
        self.until("!document.getElementById('video').seeking")
        return self.tab.evaluate("document.getElementById('video').currentTime")


def faultless(shown: Shown) -> None:
    """Nothing went wrong in the page."""
    assert not shown.dialogs
    assert not shown.said


@pytest.fixture
def show(chromium: Any, tmp_path: Path) -> Iterator[Callable[..., Shown]]:
    """Writes a document's page and opens it from the file; nothing may go wrong in it."""
    contexts, shown = [], []

    def open_page(document: dict[str, Any], *, address: str = "", **options: Any) -> Shown:
        (tmp_path / "report.html").write_text(page(document), "utf-8")
        contexts.append(chromium.new_context(**options))
        shown.append(Shown(contexts[-1], address or (tmp_path / "report.html").as_uri()))
        return shown[-1] if options.get("java_script_enabled") is False else shown[-1].ready()

    yield open_page
    for context in contexts:
        context.close()
    for one in shown:
        faultless(one)


def standing(chromium: Any, folder: Path, made: dict[str, Any]) -> Iterator[Shown]:
    """A page that several tests look at: opening one takes longer than looking."""
    (folder / "report.html").write_text(page(made), "utf-8")
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    yield Shown(context, (folder / "report.html").as_uri()).ready()
    context.close()


@pytest.fixture(scope="module")
def open_talk(chromium: Any, film: Path) -> Iterator[Shown]:
    """The page of one video, which lies beside it."""
    for shown in standing(chromium, film.parent, document(a_video(media=film.name))):
        shown.until("document.getElementById('video').readyState >= 1")
        yield shown


@pytest.fixture(scope="module")
def open_library(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """The page of twelve videos."""
    yield from standing(chromium, tmp_path_factory.mktemp("library"), many(12))


@pytest.fixture
def talk(open_talk: Shown) -> Iterator[Shown]:
    """The page of one video, as it was at first."""
    tab = open_talk.tab
    tab.evaluate("document.getElementById('video').pause()")
    tab.mouse.move(0, 0)
    if tab.locator("#whole").is_visible():
        tab.locator("#whole").click()
    tab.locator("button[data-value=gender]").click()
    tab.locator("#moment").press("Home")
    yield open_talk
    faultless(open_talk)


@pytest.fixture
def library(open_library: Shown) -> Iterator[Shown]:
    """The page of twelve videos."""
    yield open_library
    faultless(open_library)


def test_charts_are_drawn_and_only_the_video_is_asked_for(talk: Shown) -> None:
    drawn = talk.drawn()
    assert set(drawn) == {"timeline", "people", "pyramid", "shares", "concurrent"}
    assert all(count > 2 for count in drawn.values()), drawn
    talk.until("document.getElementById('video').readyState >= 1")
    # The media player may ask for its own pictures of buttons, which are in the browser.
    files = {
        Path(url.partition("#")[0]).name for url in talk.asked if not url.startswith(("data:", "chrome:"))
    }
    assert files == {"report.html", "annotated.mp4"}
    assert not [url for url in talk.asked if url.startswith("http")]


def test_many_videos_draw_their_charts(library: Shown) -> None:
    shown = library
    drawn = shown.drawn()
    assert set(drawn) == {"top", "groups", "trend", "pyramid", "shares", "concurrent", "audience"}
    assert all(count > 2 for count in drawn.values()), drawn
    for name in ("top", "groups", "trend"):
        box = shown.tab.locator(f"select[data-set={name}]")
        for value in box.locator("option").evaluate_all("all => all.map(one => one.value)"):
            box.select_option(value)
            assert shown.drawn()[name] > 1, (name, value)
    text = shown.tab.locator("#trend").inner_text()
    assert "up, beyond error bars" in text
    assert "within error bars" in text
    assert "higher share on screen" in shown.tab.locator("#audience").inner_text()


def test_hover_reads_the_bin_under_the_pointer(talk: Shown) -> None:
    shown = talk
    assert shown.hover("timeline", 5.9 / LENGTH) == "0:05 3 people 1 female 1 male 1 of unknown gender"
    shown.tab.locator("button[data-value=age]").click()
    assert shown.hover("timeline", 14.2 / LENGTH) == "0:14 1 person 1 aged 45-54"


def test_clicks_go_to_the_moment(talk: Shown) -> None:
    shown = talk
    shown.tab.mouse.click(*shown.place("timeline", 7.4 / LENGTH))
    assert shown.time_s() == pytest.approx(7, abs=0.05)
    assert shown.tab.locator("#readout").inner_text() == "0:073 people: 1 female, 1 male, 1 of unknown gender"
    # The second person's second stretch: the bar lies in the lower half of the second of three rows.
    shown.tab.mouse.click(*shown.place("people", 16.5 / LENGTH, (1.5 + 0.2) / 3))
    assert shown.time_s() == pytest.approx(16.5, abs=0.15)
    left = shown.tab.evaluate("document.querySelector('#plot-people .cursor').getBoundingClientRect().left")
    assert left == pytest.approx(shown.place("people", 16.5 / LENGTH)[0], abs=3)
    shown.tab.locator(".busiest .moment").first.click()
    assert shown.time_s() == pytest.approx(6, abs=0.05)
    shown.tab.locator("[data-figure=longest_person_s] .moment").click()
    assert shown.time_s() == pytest.approx(3, abs=0.05)


def test_keyboard_moves_the_slider_and_plays(talk: Shown) -> None:
    shown = talk
    slider = shown.tab.locator("#moment")
    slider.focus()
    for _ in range(4):
        slider.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "0:04: 2 people, 1 female, 1 male"
    assert shown.tab.locator("#readout").inner_text() == "0:042 people: 1 female, 1 male"
    assert shown.time_s() == pytest.approx(4, abs=0.05)
    slider.press("End")
    assert slider.get_attribute("aria-valuetext") == "0:19: 1 person, 1 male"
    slider.press("Home")
    assert slider.get_attribute("aria-valuetext") == "0:00: 1 person, 1 female"
    slider.press("ArrowRight")
    slider.press("Enter")
    shown.until("document.getElementById('video').currentTime > 2.1")
    shown.until("document.getElementById('readout').textContent.startsWith('0:02')")
    assert not shown.tab.evaluate("document.getElementById('video').paused")
    cues = shown.tab.evaluate(
        "(() => { const t = document.getElementById('video').textTracks[0], mode = t.mode; t.mode = 'hidden';"
        " return [t.label, mode, [...t.cues].map(c => [c.startTime, c.endTime, c.text])] })()"
    )
    assert cues[:2] == ["Counts", "disabled"]
    assert cues[2][:2] == [[0, 4, "1 person: 1 female"], [4, 5, "2 people: 1 female, 1 male"]]


def test_zoom_moves_both_charts_and_the_slider(talk: Shown) -> None:
    shown = talk
    mouse = shown.tab.mouse
    mouse.move(*shown.place("timeline", 0.25))
    mouse.down()
    mouse.move(*shown.place("timeline", 0.5), steps=4)
    mouse.up()
    ranges = "['timeline', 'people'].map(n => document.getElementById('plot-' + n).layout.xaxis.range)"
    shown.until("!document.getElementById('whole').hidden")
    timeline, people = shown.tab.evaluate(ranges)
    assert timeline == people
    assert timeline == pytest.approx([5, 10], abs=0.1)
    assert float(shown.tab.locator("#moment").get_attribute("max")) == pytest.approx(10, abs=0.1)
    shown.tab.locator("#whole").click()
    assert shown.tab.evaluate(ranges) == [[0, 20], [0, 20]]


def test_text_of_strangers_stays_text(show: Any) -> None:
    hostile = {"title": SCRIPT, "channel": SCRIPT, "source": SCRIPT, "url": "javascript:alert(3)"}
    one = document(
        a_video(**hostile, complete=False, incomplete_reason=SCRIPT),
        notes=[SCRIPT],
        skipped=[{"folder": SCRIPT, "reason": SCRIPT}],
    )
    shown = show(one)
    assert shown.tab.locator("h1").inner_text() == SCRIPT
    assert shown.tab.title().startswith(SCRIPT)
    several = many()
    several["videos"] = [a_video(f"r{n}", **hostile, page="javascript:alert(4)", people=9) for n in range(3)]
    several["groups"]["rows"][0]["group"] = SCRIPT
    several["trend"]["rows"][0]["period"] = SCRIPT
    several["moments"] = [
        {"run": "r1", "start_s": 1.0, "end_s": 2.0, "people": 2.0, "peak_s": 1.0, "peak_people": 2}
    ]
    several["audience"]["file"] = SCRIPT
    shown = show(several)
    assert shown.tab.locator("#table-videos .name").first.inner_text() == SCRIPT
    assert "<script>alert(1)" in shown.words("top")
    assert "<script>alert(1)" in shown.words("groups")
    assert SCRIPT[:60] in shown.hover("top", 0.3, 0.2)
    assert not shown.tab.locator("img").count()
    assert not shown.tab.locator("a[href^=javascript]").count()
    shown.tab.wait_for_timeout(100)


def test_json_cannot_end_its_element() -> None:
    html = page(document(a_video(title="</script>\u2028<!--<script>")))
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert data
    assert not set("<>&\u2028") & set(data[1])
    assert json.loads(data[1])["videos"]["run-1"]["title"] == "</script>\u2028<!--<script>"


@pytest.mark.parametrize(
    ("url", "link"),
    [
        (YOUTUBE, "https://www.youtube.com/watch?v=abcdefghijk&t=5s"),
        (YOUTUBE + "&list=1#x", "https://www.youtube.com/watch?v=abcdefghijk&t=5s"),
        ("https://youtu.be/abcdefghijk?si=1", "https://www.youtube.com/watch?v=abcdefghijk&t=5s"),
        ("https://example.org/film?x=1&y=2#old", "https://example.org/film?x=1&y=2#t=5"),
        ("https://youtube.com.example.org/watch?v=abcdefghijk", None),
    ],
)
def test_without_a_video_moments_lead_to_the_address(url: str, link: str | None) -> None:
    html = page(document(a_video(url=url)))
    tag = re.search(r'<a class="moment" href="([^"]*)"[^>]*data-s="5.0"[^>]*>', html)
    assert tag
    assert tag[1].replace("&amp;", "&") == (link or f"{url}#t=5")
    assert 'rel="noopener noreferrer"' in tag[0]


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "data:text/html,x", "ftp://a/b", "https:", "http://a b/", "//a/b"]
)
def test_only_web_addresses_are_linked(url: str) -> None:
    html = page(document(a_video(url=url, media="https://example.org/x.mp4", page="//example.org")))
    html = html.partition('<script type="application/json"')[0]
    assert not re.search(r'<a [^>]*target="_blank"', html)
    assert "<video" not in html


def test_without_video_and_address_a_moment_is_shown_not_played(show: Any) -> None:
    shown = show(document())
    shown.tab.locator(".busiest .moment").first.click()
    assert shown.tab.locator("#readout").inner_text().startswith("0:06")
    assert shown.tab.locator("#play").is_hidden()
    assert not shown.tab.locator("video").count()


def test_a_video_that_moved_away_is_told_and_linked(show: Any) -> None:
    shown = show(document(a_video(media="gone.mp4", url=YOUTUBE)))
    shown.tab.locator("#fallback").wait_for()
    shown.said = [line for line in shown.said if "ERR_FILE_NOT_FOUND" not in line]
    assert "could not be loaded" in shown.tab.locator("#fallback").inner_text()
    assert "t=0s" in shown.tab.locator("#fallback a").get_attribute("href")
    assert shown.tab.locator("#play").inner_text() == "Watch from here on YouTube ↗"
    assert shown.tab.locator("#player").is_hidden()


def test_a_moment_of_many_videos_opens_its_video(show: Any, film: Path, tmp_path: Path) -> None:
    shutil.copy(film, tmp_path / "annotated.mp4")
    several = many()
    several["videos"][2] |= {"media": "annotated.mp4", "media_start_s": 2.0}
    several["moments"][0]["run"] = "run-2"
    shown = show(several)
    assert shown.tab.locator("#floating").is_hidden()
    shown.tab.locator(".busiest .moment").first.click()
    assert shown.tab.locator("#floating-title").inner_text() == "Video 2, 0:06"
    shown.until("document.getElementById('video').currentTime >= 4")
    assert shown.time_s() < 6
    shown.tab.keyboard.press("Escape")
    assert shown.tab.locator("#floating").is_hidden()


def test_table_sorts_and_filters(library: Shown) -> None:
    shown = library
    head = shown.tab.locator("#table-videos th", has_text="People").first
    head.locator("button").click()
    first = shown.tab.locator("#table-videos tbody tr:visible th .name").first
    assert head.get_attribute("aria-sort") == "descending"
    assert first.inner_text() == "Video 11"
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert first.inner_text() == "Video 0"
    shown.tab.locator("#find").fill("VIDEO 3")
    assert shown.tab.locator("#table-videos tbody tr:visible").count() == 1
    assert shown.tab.locator("#found").inner_text() == "1 of 12 videos"


def test_theme_can_be_chosen(talk: Shown) -> None:
    shown = talk
    ground = "getComputedStyle(document.body).backgroundColor"
    light = shown.tab.evaluate(ground)
    drawn = "document.querySelector('#plot-pyramid svg').outerHTML"
    before = shown.tab.evaluate(drawn)
    shown.tab.locator("#theme").click()
    assert shown.tab.evaluate(ground) != light
    assert shown.tab.evaluate(drawn) != before
    shown.tab.locator("#theme").click()
    assert shown.tab.evaluate(ground) == light
    shown.tab.evaluate("delete document.documentElement.dataset.theme")
    shown.tab.emulate_media(color_scheme="dark")
    assert shown.tab.evaluate(ground) != light
    shown.tab.emulate_media(color_scheme="light")


@pytest.mark.parametrize("kind", ["video", "videos"])
def test_a_phone_scrolls_only_down(show: Any, kind: str) -> None:
    name = "a_very_long_name_without_a_space_" * 8
    made = document(a_video(title=name, source=name)) if kind == "video" else many(title=name)
    phone = {"viewport": {"width": 390, "height": 800}, "is_mobile": True, "has_touch": True}
    shown = show(made, **phone)
    wide, window = shown.tab.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= window == 390
    boxes = "[...document.querySelectorAll('nav, .scroll')]"
    assert shown.tab.evaluate(f"{boxes}.every(box => box.scrollHeight <= box.clientHeight + 1)")


def test_on_a_phone_labels_have_room_beside_long_values(show: Any) -> None:
    made = document(a_video())
    for model in made["provenance"]["models"]:
        model["known_bias"] = "a long sentence about whom this model gets wrong " * 4
    shown = show(made, viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    shown.tab.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    cells = "[...document.querySelectorAll('td[data-label=\"Known bias\"]')]"
    widths = shown.tab.evaluate(f"{cells}.map(td => parseFloat(getComputedStyle(td).gridTemplateColumns))")
    assert widths and min(widths) >= 70


def test_print_is_light_and_fits(talk: Shown) -> None:
    shown = talk
    shown.tab.emulate_media(color_scheme="dark")
    shown.tab.emulate_media(media="print")
    shown.until("document.documentElement.dataset.theme === 'light'")
    assert shown.tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert shown.tab.locator("#play").is_hidden()
    assert shown.tab.locator("details").first.evaluate("one => one.open")
    widths = "[...document.querySelectorAll('.plot svg')].map(one => one.getBoundingClientRect().width)"
    assert max(shown.tab.evaluate(widths)) <= 640
    shown.tab.emulate_media(media="screen")
    shown.until("!document.documentElement.dataset.theme")
    assert len(shown.tab.pdf()) > 10_000
    shown.tab.emulate_media(color_scheme="light")


def test_suppressed_is_said(show: Any) -> None:
    hidden = {figure.name: None for figure in FIGURES if figure.personal}
    made = document(
        a_video(**hidden, longest_person=None), min_people=10, people=None, pairs=None,
        total={**TOTAL, **hidden, "suppressed": True},
        shares=[],
    )  # fmt: skip
    made["pyramid"] = [cell | {"people": None, "on_screen_s": None} for cell in made["pyramid"]]
    made["timeline"] |= {"female": None, "male": None, "unknown_gender": None, "ages": None}
    shown = show(made)
    for name in ("people", "female_people_share", "age_median_years", "longest_person_s"):
        assert "suppressed" in shown.tab.locator(f"[data-figure={name}]").inner_text(), name
    assert "suppressed" in shown.tab.locator("[data-figure=occupancy]").inner_text()
    assert "Suppressed: appearances are about single people" in shown.tab.locator("#time").inner_text()
    assert "Suppressed: fewer than 10 people" in shown.tab.locator("#people").inner_text()
    assert shown.words("pyramid").count("suppressed") == 27
    assert shown.drawn()["timeline"] > 0


def test_of_few_people_no_share_is_stated_nor_drawn() -> None:
    few = TOTAL | dict.fromkeys(ESTIMATED) | {"estimated": 4}
    html = page(document(a_video(**few), shares=[], total={**few, "suppressed": False}))
    card = html.partition('data-figure="female_people_share"')[2].partition("</div>")[0]
    assert "too few people" in card and "4 people with estimates" in card
    who = html.partition('<section id="people"')[2].partition("</section>")[0]
    assert "Too few people:</strong> shares need at least 5 people with estimates, and there are 4." in who
    assert 'data-chart="shares"' not in who and "Shares as a table" not in who
    assert "53" not in html.partition("<main")[2].partition('id="data"')[0]


def test_of_nobody_there_are_no_charts(show: Any) -> None:
    nothing = dict.fromkeys(TOTAL) | {
        "people": 0,
        "on_screen_s": 0.0,
        "occupancy": 0.0,
        "analyzed_s": 20.0,
    }
    made = document(a_video(**nothing, longest_person=None), total={**nothing, "suppressed": False})
    empty = {"people": [], "pairs": [], "moments": [], "shares": []}
    made |= empty | {"pyramid": [cell | {"people": 0, "on_screen_s": 0.0} for cell in made["pyramid"]]}
    shown = show(made)
    assert "No people were seen in this video." in shown.tab.locator("#overview").inner_text()
    assert not shown.tab.locator(".plot").count()


def test_nulls_are_shown_as_not_known(show: Any) -> None:
    nulls = dict.fromkeys(TOTAL) | {"people": 3}
    made = document(a_video(**nulls, longest_person=None, duration_s=None, analyzed_share=None, day=None))
    made["total"] = {**nulls, "suppressed": False}
    made["shares"] = []
    for name in ("people", "female", "male", "unknown_gender"):
        made["timeline"][name][3:6] = [None] * 3
    for person in made["people"]:
        person |= {"age_years": None, "age_low": None, "age_high": None}
    shown = show(made)
    assert shown.tab.locator("[data-figure=occupancy] .none").get_attribute("title") == "not known"
    assert shown.hover("timeline", 4.5 / LENGTH) == "0:04 not analyzed"
    assert "age unknown" in shown.words("people")


def test_figures_are_there_without_javascript(show: Any) -> None:
    for made in (document(a_video(media="x.mp4", url=YOUTUBE)), many()):
        shown = show(made, java_script_enabled=False)
        text = shown.tab.locator("main").inner_text()
        assert "The charts need JavaScript" in text
        assert "53 %" in text
        assert "20 % to 80 %" in text
        assert not shown.tab.locator(".chart").first.is_visible()
        assert not shown.tab.locator("#theme").is_visible()
        shown.said.clear()  # the browser names each script that it leaves out


@pytest.mark.parametrize("bands", [["all ages"], ["0-2", "4-6", "8-13", "15-20"], BANDS])
def test_a_bar_of_the_pyramid_lies_in_its_band(bands: list[str], show: Any) -> None:
    # People of a gender in bands that are not neighbors, in one alone, and none at all.
    chosen = {"female": {bands[0], bands[-1]}, "male": {bands[-1]}, "unknown": set()}
    cells = [
        {"gender": gender, "band": band, "people": 3 * (band in chosen[gender]), "on_screen_s": 3.0}
        for gender in chosen
        for band in [*bands, "unknown"]
    ]
    shown = show(document(age_bands=bands, pyramid=cells, timeline=None, people=[], shares=[]))
    boxes = shown.tab.evaluate(
        "(() => { const middle = (one) => { const box = one.getBoundingClientRect(); "
        "return [(box.top + box.bottom) / 2, "
        "box.height]; }; const plot = document.getElementById('plot-pyramid'); return { bars: "
        "[...plot.querySelectorAll('.bars')].map(group => [...group.children].map(middle)), texts: "
        "[...plot.querySelectorAll('text')].map(one => [one.textContent, middle(one)[0]]) } })()"
    )
    places = dict(boxes["texts"])
    row = abs(places[bands[0]] - places["unknown"]) / len(bands)
    assert [len(one) for one in boxes["bars"]] == [len(one) for one in chosen.values()]
    for found, group in zip(boxes["bars"], chosen.values(), strict=True):
        assert sorted(middle for middle, _ in found) == pytest.approx(
            sorted(places[band] for band in group), abs=3
        )
        assert all(height == pytest.approx(0.78 * row, abs=2) for _, height in found)


def test_two_groups_are_laid_side_by_side(show: Any) -> None:
    names = ["A", SCRIPT, "C"]
    rows = [
        {
            "figure": "occupancy",
            "words": "occupancy",
            "unit": "share",
            "first": first,
            "second": second,
        }
        | {
            "first_value": 0.2,
            "second_value": 0.2 + number / 10,
            "difference": number / 10,
            "exceeds": number > 1,
        }
        | {"difference_low": number / 10 - 0.15, "difference_high": number / 10 + 0.15}
        | {"first_videos": 3, "second_videos": 3}
        for number, (first, second) in enumerate(itertools.combinations(names, 2), 1)
    ]
    made = many(comparison={"by": "channel", "groups": 3, "of_groups": 3, "rows": rows})
    shown = show(made, viewport={"width": 390, "height": 800}, is_mobile=True, has_touch=True)
    bodies = shown.tab.locator("tbody[data-first]")
    assert bodies.count() == 3 and bodies.locator("visible=true").count() > 0
    text = " ".join(shown.tab.locator("tbody[data-first]:not([hidden])").inner_text().split())
    assert "20 %" in text and "30 %" in text and "+10 points" in text and "within error bars" in text
    shown.tab.locator("#compare-first").select_option(label="C")
    text = " ".join(shown.tab.locator("tbody[data-first]:not([hidden])").inner_text().split())
    assert "+30 points" in text and "up, beyond error bars" in text and "<script>" in text
    shown.tab.locator("#compare-second").select_option(label="C")
    assert not shown.tab.locator("tbody[data-first]:not([hidden])").count()
    assert shown.tab.locator("#compare-none").is_visible()
    # On a phone every share is within sight.
    for table in ("#table-videos", "#groups table"):
        share = shown.tab.locator(f"{table} td[data-label='Female share of people']").first.bounding_box()
        assert share["x"] >= 0 and share["x"] + share["width"] <= 390


def test_images_are_told_in_words_of_images(show: Any) -> None:
    made = document(a_video(kind="images", samples=20, title="Faces", source="faces"), images=True)
    made["notes"] = ["3 faces were found and not counted: --min-score 0.5 counts them."]
    made["image_rows"] = [
        {"image": SCRIPT, "readable": True, "person_id": 1, "gender": "female"},
        {"image": SCRIPT, "readable": True, "person_id": 3, "gender": "unknown"},
        {"image": "b.jpg", "readable": True, "person_id": None, "gender": ""},
        {"image": "c.jpg", "readable": False, "person_id": None, "gender": ""},
    ]
    shown = show(made)
    text = shown.tab.locator("main").inner_text().partition("Method and limits")[0]
    for words in (
        "Images with people",
        "3 faces were found and not counted",
        "People per image",
        "5 images",
    ):
        assert words in text, words
    for words in ("screen", "ccupancy", "oncurrent", "0:"):
        assert words not in text, words
    assert "20 images" in shown.tab.locator("header").inner_text()
    assert set(shown.drawn()) == {"pyramid", "shares", "concurrent"}
    table = shown.tab.locator("[aria-label='People in each image'] tbody").inner_text()
    assert "1 (female), 3 (unknown)" in table
    assert "b.jpg nobody c.jpg could not be read" in " ".join(table.split())


def test_a_page_is_small(tmp_path: Path) -> None:
    assert len(page(document(a_video(media="x.mp4"))).encode()) < 200_000
    assert len(page(many(300)).encode()) < 1_500_000


def test_reads_in_order_for_a_screen_reader(talk: Shown, library: Shown) -> None:
    for shown in (talk, library):
        levels = shown.tab.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(h => +h.tagName[1])")
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(levels))
        assert shown.tab.locator("main").count() == shown.tab.locator("header").count() == 1
        unnamed = (
            "[...document.querySelectorAll('.chart')].filter(c => c.getAttribute('aria-label').length < 20)"
        )
        assert shown.tab.evaluate(f"{unnamed}.length") == 0
        named = "b.textContent.trim() || b.labels?.length || b.ariaLabel || b.hidden"
        controls = "[...document.querySelectorAll('button, a, select, input')]"
        assert shown.tab.evaluate(f"{controls}.filter(b => !({named})).map(b => b.outerHTML)") == []
        ids = shown.tab.evaluate("[...document.querySelectorAll('body > *, main *')].map(one => one.id)")
        ids = [name for name in ids if name]
        assert len(ids) == len(set(ids))
        first = "document.querySelector('a, button, input, select, [tabindex]')"
        assert shown.tab.evaluate(f"{first}.className") == "skip"


def test_plays_over_http_too(show: Any, film: Path, tmp_path: Path) -> None:
    shutil.copy(film, tmp_path / "annotated.mp4")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            address = f"http://127.0.0.1:{server.server_port}/"
            shown = show(document(a_video(media="annotated.mp4")), address=address + "report.html")
            shown.until("document.getElementById('video').readyState >= 1")
            assert shown.asked
            asked = {url for url in shown.asked if not url.startswith("data:")}
            assert asked == {address + "report.html", address + "annotated.mp4"}
            assert shown.tab.evaluate("fetch('/x').then(() => 'went', () => 'refused')") == "refused"
            shown.said.clear()
            shown.tab.context.close()
        finally:
            server.shutdown()
            thread.join()


def test_a_thousand_videos_have_a_row_each() -> None:
    html = page(many(1000))
    assert html.count('<tr><th scope="row" data-v="video ') == 1000
