"""The pages of a run, its review, and the comparison, in a browser."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow

from analyzer.runs.schema import FACES, SAMPLES
from analyzer.runs.tables import write_parquet
from analyzer.sources.local import local_identity
from analyzer.util.gender import GENDER_COLORS
from testkit.browser import chromium
from testkit.media import write_video
from testkit.runs import Plan, make_run
from testkit.web import TOKEN, RunningServer, browser_page, serving

Image = NDArray[np.uint8]

WIDTH, HEIGHT, SECONDS = 640, 360, 6.0
LATE_S = 0.4


def _square_at(seconds: float) -> tuple[int, int, int, int]:
    """The white square, which is the face of person 1."""
    x = round(60 + 80 * seconds)
    return x, 120, x + 90, 220


def _frames(late_s: float = 0.0) -> Iterator[Image]:
    for number in range(round(SECONDS * 10)):
        image = np.full((HEIGHT, WIDTH, 3), 30, np.uint8)
        x1, y1, x2, y2 = _square_at(late_s + number / 10)
        image[y1:y2, x1:x2] = 255
        for other in range(1, 6):
            image[10:60, 100 * other : 100 * other + 40] = 60 + 30 * other
        yield image


def _run(out: Path, name: str, video: Path | None, *, people: int = 5, late_s: float = 0.0) -> Path:
    """The run of a made video: person 1 is female, and everybody has two tracklets."""
    samples = round(SECONDS * 5)
    female = np.where(np.arange(people) % 2 == 0, 0.95, 0.05)
    plan = Plan(
        late_s + np.arange(samples) / 5,
        late_s + SECONDS,
        np.ones((samples, people), bool),
        female,
        np.linspace(25, 45, people),
    )
    video_id = local_identity([video])[0] if video is not None else "file-0123456789ab"
    source = str(video) if video is not None else "/nowhere/gone.mp4"
    folder = make_run(out / name, plan, video_id=video_id, title=name, source=source, channel="Made")
    faces = pq.read_table(folder / "faces.parquet").to_pandas()
    boxes = [
        _square_at(seconds) if person == 1 else (100 * (person - 1), 10, 100 * (person - 1) + 40, 60)
        for seconds, person in zip(faces["time_s"], faces["person_id"], strict=True)
    ]
    faces[["x1", "y1", "x2", "y2"]] = np.array(boxes, np.float32)
    faces["tracklet_id"] = 2 * faces["tracklet_id"] + (faces["time_s"] > late_s + SECONDS / 2)
    write_parquet(folder / "faces.parquet", faces, FACES)
    samples = pq.read_table(folder / "samples.parquet").to_pandas().assign(width=WIDTH, height=HEIGHT)
    write_parquet(folder / "samples.parquet", samples, SAMPLES)
    return folder


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs, of videos that are there and of one that is gone."""
    folder = tmp_path_factory.mktemp("runs")
    media = tmp_path_factory.mktemp("media")
    plain = write_video(media / "plain.mp4", _frames(), fps=10)
    # Turned by its metadata, and its first frame comes after the start of the sound.
    turned = write_video(
        media / "turned.mp4",
        (np.rot90(image) for image in _frames(LATE_S)),
        times_s=[LATE_S + number / 10 for number in range(round(SECONDS * 10))],
        rotation_deg=90,
        audio_s=LATE_S + SECONDS,
    )
    _run(folder, "plain", plain)
    _run(folder, "turned", turned, late_s=LATE_S)
    _run(folder, "gone", None)
    _run(folder, "few", None, people=1)
    return folder


@pytest.fixture(scope="module")
def server(out: Path) -> Iterator[RunningServer]:
    """A server with these runs."""
    with serving(out) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium."""
    with chromium() as running:
        yield running


@pytest.fixture
def ids(server: RunningServer) -> dict[str, str]:
    """The id of each run, by its title."""
    with server.client() as client:
        return {run["title"]: run["id"] for run in client.get("/api/runs").json()["runs"]}


@contextlib.contextmanager
def _opened(browser: Any, server: RunningServer, path: str, **options: Any) -> Iterator[Any]:
    with browser_page(browser, server, **options) as page:
        page.goto(f"{server.url}{path}")
        page.wait_for_selector("[data-ready]", state="attached")
        yield page


def _until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)
    return found


def _true(page: Any, expression: str) -> None:
    """Wait for an expression; the policy of the pages does not let Playwright do so."""
    _until(lambda: page.evaluate(expression))


def _shown(page: Any) -> Image:
    return np.asarray(Pillow.open(io.BytesIO(page.locator("#frame").screenshot())).convert("RGB"))


def _seek(page: Any, seconds: float) -> None:
    _true(page, "analyzerPlayer.offset !== null")
    page.evaluate(f"analyzerPlayer.seek({seconds})")
    _true(
        page,
        f"!analyzerPlayer.video.seeking && Math.abs(analyzerPlayer.moment - {seconds}) < 0.06"
        " && analyzerPlayer.shown.length >= 5",
    )
    page.wait_for_timeout(150)


def _assert_outlined(shown: Image) -> None:
    """The white square has the color of its gender around it, at all four edges."""
    white = (shown > 225).all(axis=2)
    # Labels and lines are narrower than the square: its rows and columns are those that are mostly white.
    rows, columns = np.flatnonzero(white.sum(axis=1) > 80), np.flatnonzero(white.sum(axis=0) > 80)
    top, bottom, left, right = rows[0], rows[-1], columns[0], columns[-1]
    color = np.array([int(GENDER_COLORS["female"][i : i + 2], 16) for i in (1, 3, 5)])
    middle_x, middle_y = (left + right) // 2, (top + bottom) // 2
    for y, x in ((top, middle_x), (bottom, middle_x), (middle_y, left), (middle_y, right)):
        near = shown[max(0, y - 5) : y + 6, max(0, x - 5) : x + 6].astype(int)
        assert (np.abs(near - color).max(axis=2) < 40).any(), f"no line at {x}, {y}"


@pytest.mark.parametrize("name", [pytest.param("plain", marks=pytest.mark.slow), "turned"])
def test_boxes_are_where_the_faces_are(
    browser: Any, server: RunningServer, ids: dict[str, str], name: str
) -> None:
    # The frame is wider than the video, so that there are bars beside it.
    with _opened(browser, server, f"/runs/{ids[name]}", viewport={"width": 1000, "height": 600}) as page:
        for seconds in (1.1, 4.5):
            _seek(page, seconds)
            _assert_outlined(_shown(page))
        page.get_by_role("button", name="Off", exact=True).click()
        assert page.evaluate("analyzerPlayer.shown.length") == 0
        page.get_by_role("button", name="Blurred", exact=True).click()
        _true(page, "analyzerPlayer.shown.length >= 5")
        shown = _shown(page)
        assert (shown > 225).all(axis=2).sum() < 90 * 100, "the face is as sharp as before"


def test_seeking_by_lanes_and_keys(browser: Any, server: RunningServer, ids: dict[str, str]) -> None:
    with _opened(browser, server, f"/runs/{ids['plain']}") as page:
        _true(page, "analyzerPlayer.offset !== null")
        lanes = page.locator(".over-lanes")
        size = lanes.bounding_box()
        lanes.click(position={"x": size["width"] / 2, "y": 5})
        _true(page, "Math.abs(analyzerPlayer.moment - 3) < 0.15")
        page.locator("#seek").focus()
        page.keyboard.press("ArrowLeft")
        _true(page, "analyzerPlayer.moment < 0.5")
        assert page.locator("#seek").get_attribute("aria-valuetext").count("#") == 5
        page.keyboard.press("b")
        assert page.evaluate("analyzerPlayer.mode") == "off"


def test_a_run_whose_video_is_gone_says_so(browser: Any, server: RunningServer, ids: dict[str, str]) -> None:
    with _opened(browser, server, f"/runs/{ids['gone']}") as page:
        assert "Times and figures are below" in page.locator("#gone").inner_text()
        assert page.locator(".lane").count() == 5
        assert page.locator("#video").count() == 0


# ---- review


def _figure(page: Any, name: str) -> str:
    return str(page.locator(f'[data-figure="{name}"] dd').inner_text().split("\n")[0])


def _saved(page: Any) -> None:
    _true(page, "!document.querySelector('#review').hasAttribute('data-busy')")


def _copy(out: Path, server: RunningServer, name: str) -> str:
    """A copy of the plain run for a test that changes it; its id."""
    shutil.copytree(out / "plain", out / name, ignore=shutil.ignore_patterns("corrections.json", ".*"))
    info = json.loads((out / name / "run.json").read_text("utf-8"))
    (out / name / "run.json").write_text(json.dumps(info | {"title": name}), "utf-8")

    def found() -> str:
        with server.client() as client:
            runs = client.get("/api/runs").json()["runs"]
        return next((run["id"] for run in runs if run["title"] == name), "")

    return str(_until(found))


@pytest.mark.slow
def test_review_by_mouse(browser: Any, server: RunningServer, out: Path) -> None:
    run = _copy(out, server, "mouse")
    with _opened(browser, server, f"/runs/{run}/review") as page:
        assert _figure(page, "people") == "5"
        assert not {"null", "undefined", "NaN"} & set(page.locator("main").inner_text().split())
        person = '.person[data-person="{}"]'
        _true(page, "[...document.querySelectorAll('.crops img')].every((i) => i.naturalWidth)")
        page.locator(person.format(4)).drag_to(page.locator(person.format(2)))
        assert page.locator(".person").count() == 4
        _until(lambda: _figure(page, "people") == "4")
        page.locator(person.format(1)).locator("h3").click()
        page.get_by_role("button", name="Split S").click()
        page.locator(".stretch").nth(1).click()
        page.get_by_role("button", name="Make another person of these").click()
        _until(lambda: _figure(page, "people") == "5")
        page.locator(person.format(1)).locator("h3").click()
        page.get_by_role("button", name="Name N").click()
        page.get_by_label("Name", exact=True).fill("Ada")
        page.get_by_role("button", name="Save").click()
        _saved(page)
        assert page.locator(person.format(1)).locator("h3").inner_text().startswith("Ada")
        page.get_by_role("button", name="Undo U").click()
        _until(lambda: "Ada" not in page.locator(person.format(1)).inner_text())
        page.get_by_role("button", name="Undo U").click()
        _until(lambda: _figure(page, "people") == "4")
        people = pd.read_parquet(out / "mouse" / "people.parquet")
        assert sorted(people["person_id"]) == [1, 2, 3, 5]


def test_review_by_keyboard(browser: Any, server: RunningServer, out: Path) -> None:
    run = _copy(out, server, "keys")
    with _opened(browser, server, f"/runs/{run}/review") as page:
        page.keyboard.press("Tab")  # somewhere on the page: the letters work everywhere
        page.locator(".person.current").focus()
        page.keyboard.press("Home")
        first = page.evaluate("document.activeElement.dataset.person")
        page.keyboard.press("Space")
        page.keyboard.press("ArrowRight")
        second = page.evaluate("document.activeElement.dataset.person")
        assert first != second
        page.keyboard.press("m")
        _until(lambda: _figure(page, "people") == "4")
        _saved(page)
        page.keyboard.press("n")
        page.keyboard.type("Grace")
        page.keyboard.press("Enter")
        kept = page.evaluate("document.activeElement.dataset.person")
        assert kept == str(min(int(first), int(second)))
        page.keyboard.press("g")
        page.keyboard.press("m")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("x")
        _until(lambda: _figure(page, "people") == "3")
        _saved(page)
        with server.client() as client:
            person = next(
                one for one in client.get(f"/api/runs/{run}/view").json()["people"] if one["name"] == "Grace"
            )
        assert person["gender"] == "male" and person["confirmed"] == ["gender"]
        page.keyboard.press("u")
        _until(lambda: _figure(page, "people") == "4")
        page.keyboard.press("?")
        assert page.get_by_role("dialog", name="Keys").is_visible()
        page.keyboard.press("Escape")
        # Names that were given are offered in other runs of the channel.
        with server.client() as client:
            assert "Grace" in client.get(f"/api/runs/{run}/review").json()["cast"]


def test_an_interrupted_correction_is_finished(server: RunningServer, out: Path) -> None:
    run = _copy(out, server, "interrupted")
    before = {path.name: path.read_bytes() for path in (out / "interrupted").iterdir() if path.is_file()}
    with server.client() as client:
        made = client.post(
            f"/api/runs/{run}/corrections", json={"corrections": [{"action": "drop", "person": 2}]}
        )
        assert [one["person_id"] for one in made.json()["view"]["people"]] == [1, 3, 4, 5]
        for name, content in before.items():  # as if only corrections.json had been written
            (out / "interrupted" / name).write_bytes(content)
        assert "leave out 2" in client.get(f"/api/runs/{run}/review").text
        assert len(client.get(f"/api/runs/{run}/view").json()["people"]) == 4


def test_answers_about_a_damaged_run_hold_no_paths(server: RunningServer, out: Path) -> None:
    run = _copy(out, server, "damaged")
    (out / "damaged" / "corrections.json").write_text("{")
    drop = {"corrections": [{"action": "drop", "person": 1}]}
    with server.client() as client:
        for answer in (
            client.get(f"/api/runs/{run}/corrections"),
            client.get(f"/runs/{run}", headers={"Accept": "text/html"}),
            client.post(f"/api/runs/{run}/corrections", json=drop),
        ):
            assert answer.status_code == 400 and "corrections.json is damaged" in answer.text
            assert str(out) not in answer.text


def test_reports_of_earlier_states_are_removed(tmp_path: Path) -> None:
    from analyzer.web.routes.media import _clear

    for number in (1, 2):
        _clear(tmp_path / f"report-{number}")
    assert [path.name for path in tmp_path.iterdir()] == ["report-2"]


def test_a_refused_correction_is_taken_back(browser: Any, server: RunningServer, out: Path) -> None:
    run = _copy(out, server, "refused")
    # Not `browser_page`: browsers report a refusal as an error of the page.
    with contextlib.closing(browser.new_context()) as context:
        page = context.new_page()
        page.goto(f"{server.url}/login?token={TOKEN}")
        page.route("**/corrections", lambda route: route.fulfill(status=409, json={"error": "it is in use"}))
        page.goto(f"{server.url}/runs/{run}/review")
        page.wait_for_selector("[data-ready]", state="attached")
        page.locator(".person.current").focus()
        page.keyboard.press("d")
        assert page.locator(".person").count() == 4
        _until(lambda: "It is in use" in page.locator("#problem").inner_text())
        _until(lambda: page.locator(".person").count() == 5)


# ---- comparison


@pytest.mark.slow
def test_comparison_of_channels(browser: Any, server: RunningServer, out: Path) -> None:
    with _opened(browser, server, "/compare") as page:
        page.get_by_label("Group by").select_option("title")
        _true(page, "document.querySelector('#compare').getAttribute('aria-busy') === 'false'")
        _until(lambda: "gone" in page.locator("#groups").inner_text())
        assert page.locator("#differences tbody tr").count() > 5
        page.get_by_label("Search").fill("few")
        _until(lambda: page.locator("#runs-words").inner_text().startswith("1 of 1 "))
        page.get_by_role("button", name="Compare").click()
        _until(lambda: page.locator("#groups tbody tr").count() == 2)
        assert "nothing to compare" in page.locator("#differences-words").inner_text()


# ---- how the pages look


@pytest.mark.parametrize("scheme", [pytest.param("light", marks=pytest.mark.slow), "dark"])
def test_pages_are_narrow_accessible_and_light(
    browser: Any, server: RunningServer, ids: dict[str, str], scheme: str
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    run = ids["plain"]
    size = {"width": 390, "height": 800} if scheme == "dark" else {"width": 1280, "height": 900}
    with browser_page(browser, server, viewport=size, color_scheme=scheme) as page:
        weight: dict[str, int] = {}
        page.on(
            "response",
            lambda answer: (
                weight.update({answer.url: len(answer.body())})
                if "/media" not in answer.url and answer.status == 200
                else None
            ),
        )
        for path in (f"/runs/{run}", f"/runs/{run}/review", "/compare"):
            weight.clear()
            page.goto(f"{server.url}{path}")
            page.wait_for_selector("[data-ready]", state="attached")
            page.wait_for_load_state("networkidle")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
            assert sum(weight.values()) <= 300_000, weight
            found = axe.run(page).response["violations"]
            serious = [one for one in found if one["impact"] in ("serious", "critical")]
            assert not serious, [(one["id"], [node["html"] for node in one["nodes"]][:3]) for one in serious]
