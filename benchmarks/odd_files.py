"""Analyses files of every kind that video tools read wrongly, and compares with what a player shows.

Writes its section of ``docs/reliability.md``, between its marks. Each file is made from six seconds of the
demo video, analyzed by ``python cli.py analyze`` and held against the right values: people, time on screen,
running time, size of the frame, exit code, and an annotated video of the same length and shape.

    python -m benchmarks.odd_files [--only KIND_OR_NAME] [--folder FOLDER]

With `--only` the table is printed and not written.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import json
import math
import pkgutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import av
import cv2
import pandas as pd

import testkit
from testkit.demo import write_demo
from testkit.odd_files import OddFile

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"
MARKS = "<!-- odd files -->\n", "<!-- /odd files -->\n"
SECONDS = 6
TOLERANCE_S = 0.25
"""A sample interval at five samples a second, and a frame."""


@dataclass(frozen=True)
class Outcome:
    """What became of one file."""

    case: OddFile
    faults: tuple[str, ...]
    """What differs from the right values; empty if all is right."""


def all_cases() -> list[OddFile]:
    """The odd files of every module ``testkit/odd_*.py``, with unique names."""
    modules = (name for _, name, _ in pkgutil.iter_modules(testkit.__path__) if name.startswith("odd_"))
    cases = [
        case
        for name in sorted(modules)
        for case in getattr(importlib.import_module(f"testkit.{name}"), "CASES", ())
    ]
    names = [case.name for case in cases]
    if len(set(names)) < len(names):
        raise ValueError(
            f"two odd files have the same name: {sorted({n for n in names if names.count(n) > 1})}"
        )
    return cases


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def _source(path: Path) -> Iterator[str]:
    """What `analyze` is given: the file, or for a playlist its address on a local server."""
    if path.suffix != ".m3u8":
        yield str(path)
        return
    handler = functools.partial(_Quiet, directory=str(path.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/{path.name}"
        finally:
            server.shutdown()


def _options(settings: dict[str, Any]) -> list[str]:
    options = []
    for name, value in settings.items():
        option = f"--{name.replace('_', '-')}"
        options += [option] if value is True else [option, str(value)]
    return options


def examine(case: OddFile, folder: Path, reference: Path) -> Outcome:
    """Analyze one file by the command line and compare."""
    made = folder / "made"
    made.mkdir(parents=True)
    with _source(case.make(made, reference)) as source:
        command = [sys.executable, "cli.py", "analyze", source, "--quiet", "--out", str(folder / "runs")]
        done = subprocess.run(
            [*command, *_options(case.settings)],
            check=False,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=300,
        )
    faults: list[str] = []

    def expect(what: str, found: object, right: object, tolerance: float = 0) -> None:
        well = abs(found - right) <= tolerance if tolerance else found == right  # type: ignore[operator]
        if not well:
            faults.append(f"{what} {found} instead of {right}")

    expect("exit code", done.returncode, case.exit_code)
    runs = sorted((folder / "runs").glob("*/run.json"))
    if not runs:
        return Outcome(case, (*faults, f"no run: {done.stderr.strip()[-300:]}"))
    run = runs[0].parent
    info = json.loads(runs[0].read_text("utf-8"))
    people = pd.read_parquet(run / "people.parquet")
    timeline = pd.read_parquet(run / "timeline.parquet")
    expect("people", len(people), case.people)
    for number, seconds in enumerate(people["on_screen_s"], 1):
        expect(f"on screen, person {number}:", round(float(seconds), 2), case.duration_s, TOLERANCE_S)
    # Its last row is a whole second.
    expect("end of the timeline", float(timeline["end_s"].max()), math.ceil(round(case.duration_s, 2)))
    expect("complete", info["complete"], case.complete)
    expect("size", (info["video"]["width"], info["video"]["height"]), case.size)
    for key, right in case.run.items():
        found: Any = info
        for part in key.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        expect(key, found, right)
    if "video" not in case.settings:
        images = info["kind"] == "images"
        faults += (
            _annotated_image(run / "annotated", case) if images else _annotated(run / "annotated.mp4", case)
        )
    return Outcome(case, tuple(faults))


def _annotated_image(folder: Path, case: OddFile) -> list[str]:
    sizes = [cv2.imread(str(path)).shape[1::-1] for path in sorted(folder.glob("*"))]
    return [] if sizes == [case.size] else [f"annotated images of {sizes} instead of {case.size}"]


def _annotated(path: Path, case: OddFile) -> list[str]:
    if not path.exists():
        return ["no annotated video"]
    faults = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        # The size may differ by what an encoder demands of it (even numbers, a limit); the shape may not.
        ratio, right = stream.width / stream.height, case.size[0] / case.size[1]
        if abs(ratio / right - 1) > 0.02:
            faults.append(f"annotated video of {stream.width}x{stream.height} instead of {case.size}")
        length_s = float((stream.duration or 0) * (stream.time_base or 0))
        frames = sum(1 for _ in container.decode(stream))
        if frame_rotation(container):
            faults.append("annotated video is turned")
    if abs(length_s - case.duration_s) > TOLERANCE_S or not frames:
        faults.append(f"annotated video of {length_s:.2f} s, {frames} frames, instead of {case.duration_s} s")
    return faults


def frame_rotation(container: av.container.InputContainer) -> int:
    """Degrees by which a player would turn the first frame."""
    container.seek(0)
    return next((int(frame.rotation) for frame in container.decode(video=0)), 0)


def section(outcomes: Sequence[Outcome]) -> str:
    """The section of the page, with its marks."""
    kinds: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        kinds.setdefault(outcome.case.kind, []).append(outcome)
    text = (
        "Written by `python -m benchmarks.odd_files`: each file is made from six seconds of the demo "
        "video and analyzed by `python cli.py analyze`. Right means: as many people as a viewer sees, "
        f"on screen for as long; a timeline as long as a player takes (within {TOLERANCE_S} s); the "
        "frame size that a player shows; `complete` and the exit code as they should be; and an "
        "annotated video of the same length and shape."
    )
    lines = [
        "## Odd files",
        "",
        *textwrap.wrap(text, 110, break_on_hyphens=False, break_long_words=False),
        "",
        "| kind | files | right | files of the kind |",
        "| --- | --- | --- | --- |",
    ]
    for kind, group in kinds.items():
        right = sum(not outcome.faults for outcome in group)
        names = [f"`{o.case.name}`" + (f" (**{'; '.join(o.faults)}**)" if o.faults else "") for o in group]
        lines.append(f"| {kind} | {len(group)} | {right} | {', '.join(names)} |")
    return MARKS[0] + "\n".join(lines) + "\n" + MARKS[1]


def main() -> None:
    """Analyze all of them, and write or print the table."""
    parser = argparse.ArgumentParser(description="Write the table of odd files in docs/reliability.md.")
    parser.add_argument("--only", default="", help="a part of the kind or the name")
    parser.add_argument("--folder", type=Path, help="where files and runs are kept; must be empty")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        reference = folder / "reference.mp4"
        write_demo(reference, SECONDS)
        outcomes = []
        for case in all_cases():
            if options.only in case.kind or options.only in case.name:
                outcomes.append(examine(case, folder / case.name, reference))
                print(
                    f"{case.name}: {'; '.join(outcomes[-1].faults) or 'right'}", file=sys.stderr, flush=True
                )
    text = section(outcomes)
    print(text)
    if not options.only:
        from benchmarks.reports import kept_section

        page = PAGE.read_text("utf-8")
        old = kept_section(page, MARKS)
        PAGE.write_text(page.replace(old, text) if old else f"{page}\n{text}", encoding="utf-8")
    if any(outcome.faults for outcome in outcomes):
        sys.exit(1)


if __name__ == "__main__":
    main()
