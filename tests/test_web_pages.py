"""The pages of the server in a browser: new runs, their list, their deletion."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from testkit.browser import chromium
from testkit.uploads import distinct
from testkit.web import RunningServer, accessible, browser_page, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with an empty folder."""
    with serving(tmp_path_factory.mktemp("runs"), "--workers", "1") as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, for all tests here."""
    with chromium() as started:
        yield started


def test_a_video_is_uploaded_watched_listed_and_deleted(
    server: RunningServer, browser: Any, tmp_path: Path
) -> None:
    file = tmp_path / "Council & <i>meeting.mp4"
    file.write_bytes(distinct(41))
    with browser_page(browser, server) as page:
        accessible(page)
        page.set_input_files("#files", file)
        page.wait_for_url("**/jobs/*")
        assert page.locator("h1").inner_text() == "Council & <i>meeting"
        page.wait_for_url("**/runs/*", timeout=120_000)
        page.goto(f"{server.url}/")
        row = page.locator("tbody tr")
        assert row.count() == 1 and "Council & <i>meeting" in row.inner_text()
        page.fill("input[name=q]", "council")
        page.keyboard.press("Enter")
        page.wait_for_url("**/?q=council*")
        assert row.count() == 1
        page.get_by_role("link", name="People").click()
        page.wait_for_url("**sort=people*")
        accessible(page)
        page.get_by_role("button", name="Delete Council").click()
        page.get_by_role("button", name="Keep").click()
        assert row.count() == 1
        page.get_by_role("button", name="Delete Council").click()
        page.get_by_role("button", name="Delete everything of it").click()
        page.locator("#status", has_text="was deleted").wait_for(state="attached")
        page.reload()
        assert page.locator("tbody tr").count() == 0
    assert not list((server.out / ".web" / "media").iterdir())
    assert not list(server.out.glob("council*"))


@pytest.mark.slow
def test_several_files_are_dropped_and_canceled(server: RunningServer, browser: Any) -> None:
    busy = _stuck_job(server)  # the one worker has no time for others
    with browser_page(browser, server) as page:
        page.evaluate(
            """(texts) => {
                const data = new DataTransfer();
                for (const [name, text] of texts) {
                    const bytes = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
                    data.items.add(new File([bytes], name, { type: "video/mp4" }));
                }
                document.getElementById("drop").dispatchEvent(new DragEvent("drop", { dataTransfer: data }));
            }""",
            [[f"{n}.mp4", _base64(distinct(50 + n))] for n in range(2)],
        )
        page.wait_for_selector("#job-list li:nth-child(3)")
        accessible(page)
        hrefs = [link.get_attribute("href") for link in page.locator("#job-list a").all()]
        last = f"/jobs/{busy}"
        assert len(hrefs) == 3 and last in hrefs
        for href in sorted(hrefs, key=lambda href: href == last):
            page.goto(f"{server.url}{href}")
            if href == last:
                page.locator("#state", has_text="%").wait_for()
                accessible(page)
            page.get_by_role("button", name="Cancel").click()
            page.get_by_role("button", name="Try again").wait_for()
            page.get_by_role("button", name="Delete", exact=True).click()
            page.wait_for_url(f"{server.url}/")
            page.wait_for_load_state("networkidle")


def test_a_refused_upload_and_address_say_why(server: RunningServer, browser: Any, tmp_path: Path) -> None:
    file = tmp_path / "notes.mp4"
    file.write_text("These are notes.")
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{server.url}/login?token=wrong")
    assert "wrong" in page.locator("[role=alert]").inner_text()
    with browser_page(browser, server, fails=False) as page:
        page.set_input_files("#files", file)
        page.get_by_text("notes.mp4 is neither a video nor an image").wait_for()
        page.fill("#address", "http://127.0.0.1:1/a.mp4")
        page.get_by_role("button", name="Analyze the address").click()
        page.locator("#problem", has_text="address").wait_for()
        page.fill("#start", "soon")
        page.get_by_role("button", name="Analyze the address").click()
        page.get_by_text("“soon” is not a time").wait_for()
    context.close()


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (390, "light"),
        (1280, "dark"),
        *(pytest.param(*one, marks=pytest.mark.slow) for one in ((390, "dark"), (1280, "light"))),
    ],
)
def test_pages_fit_and_are_accessible(server: RunningServer, browser: Any, scheme: str, width: int) -> None:
    size = {"width": width, "height": 844}
    with browser_page(browser, server, viewport=size, color_scheme=scheme) as page:
        weight = 0
        for path in ("/", "/api/docs", "/login"):
            page.goto(f"{server.url}{path}")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path
            accessible(page)
            entries = "performance.getEntries().reduce((sum, entry) => sum + (entry.decodedBodySize || 0), 0)"
            weight = max(weight, page.evaluate(entries))
        assert weight < 300_000


def _stuck_job(server: RunningServer) -> str:
    """The id of a job whose process stands still."""
    with server.client() as client:
        id: str = client.post("/api/jobs", files={"file": distinct(49)}).raise_for_status().json()["id"]
        while client.get(f"/api/jobs/{id}").json()["state"] != "running":
            time.sleep(0.05)
        for process in psutil.Process(server.process.pid).children(recursive=True):
            if "spawn_main" in " ".join(process.cmdline()):
                process.suspend()
        assert client.get(f"/api/jobs/{id}").json()["state"] == "running"
    return id


def _base64(content: bytes) -> str:
    import base64

    return base64.b64encode(content).decode()


def test_the_description_of_the_api_names_everything(server: RunningServer) -> None:
    with server.client() as client:
        document = client.get("/api/openapi.json").json()
        text = client.get("/api/docs").text
    assert json.dumps(document).count("operationId") > 10
    for path, methods in document["paths"].items():
        assert path in text
        for operation in methods.values():
            assert operation.get("description") or operation.get("summary"), path
