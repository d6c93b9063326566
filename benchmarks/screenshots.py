"""Screenshots for the README and docs: a report at desktop and at phone width, and pages of the server.

The runs are made (`testkit.runs`): nobody in them exists; the video is that of `make demo`. Needs Chromium.

    python -m benchmarks.screenshots [report] [web]
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from analyzer.report import make_report
from testkit.browser import chromium
from testkit.demo import write_demo
from testkit.runs import make_run, random_plan
from testkit.web import browser_page, serving

ROOT = Path(__file__).parents[1]
_SIZES = ((1280, 1500), (390, 1500))
_GAP, _GROUND = 40, "#d9d9d6"
_MADE = (
    ("Panel discussion", "City Hall", "council", 14),
    ("Morning news", "Channel 4", "news/2026", 9),
    ("Evening news", "Channel 4", "news/2026", 11),
    ("Council meeting, part 1", "City Hall", "council", 17),
    ("Interview with the mayor", "City Hall", "", 2),
)


def main() -> None:
    """Write docs/report.png, docs/web.png and docs/web-run.jpg, or those of the parts that are named."""
    wanted = sys.argv[1:] or ["report", "web"]
    if "report" in wanted:
        _report()
    if "web" in wanted:
        _web()


def _report() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        plan = random_plan(np.random.default_rng(5), length_s=600, people=14, concurrent=2.6)
        about = {"channel": "City Hall", "uploaded": "2026-11-01", "url": "https://youtu.be/aaaaaaaaaaa"}
        run = make_run(Path(temporary) / "run", plan, title="Panel discussion (a made example)", **about)
        (page,) = make_report([run]).save(["html"])
        images = [Image.open(io.BytesIO(shot)) for shot in _shots(page)]
    width = sum(image.width for image in images) + _GAP * (len(images) + 1)
    sheet = Image.new("RGB", (width, _SIZES[0][1] + 2 * _GAP), _GROUND)
    x = _GAP
    for image in images:
        sheet.paste(image, (x, _GAP))
        x += image.width + _GAP
    _save(sheet, "report.png")


def _web() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "runs"
        random = np.random.default_rng(5)
        for number, (title, channel, folder, people) in enumerate(_MADE):
            plan = random_plan(random, length_s=600, people=people, concurrent=min(3.0, people / 2))
            about = {"title": title, "channel": channel, "uploaded": f"2026-11-{10 + number}"}
            make_run(out / folder / f"run-{number}", plan, **about)
        video = Path(temporary) / "two-portraits.mp4"
        write_demo(video, 12.0)
        with serving(out) as server, chromium() as browser:
            size = {"width": 1280, "height": 800}
            with browser_page(browser, server, viewport=size, color_scheme="light") as page:
                page.set_input_files("#files", video)
                page.wait_for_url("**/runs/*", timeout=600_000)
                player = page.locator("video").first
                player.wait_for()
                player.evaluate("async (video) => { video.muted = true; video.currentTime = 5.5; }")
                page.wait_for_timeout(3000)
                shot = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
                shot.save(ROOT / "docs" / "web-run.jpg", quality=82)
                page.goto(f"{server.url}/")
                page.wait_for_timeout(1000)
                _save(Image.open(io.BytesIO(page.screenshot(full_page=True))), "web.png")


def _save(image: Image.Image, name: str) -> None:
    target = ROOT / "docs" / name
    image.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(target, optimize=True)


def _shots(page: Path) -> list[bytes]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        shots = []
        for width, height in _SIZES:
            tab = browser.new_page(viewport={"width": width, "height": height})
            tab.goto(page.as_uri())
            tab.wait_for_selector(".plot svg")
            tab.wait_for_timeout(800)
            shots.append(tab.screenshot())
        browser.close()
    return shots


if __name__ == "__main__":
    main()
