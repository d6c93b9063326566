"""Screenshots of a report for the README: at desktop and at phone width, side by side.

The run is made (`testkit.runs`): nobody in it exists. Needs Chromium.

    python -m benchmarks.screenshots [FILE]
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
from testkit.runs import make_run, random_plan

ROOT = Path(__file__).parents[1]
_SIZES = ((1280, 1500), (390, 1500))
_GAP, _GROUND = 40, "#d9d9d6"


def main() -> None:
    """Write docs/report.png, or the file given."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "report.png"
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
    sheet.quantize(128, dither=Image.Dither.NONE).save(target, optimize=True)


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
