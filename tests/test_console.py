"""Messages about interrupted and resumed work."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from analyzer.cli.console import Console
from analyzer.errors import AnalyzerError
from analyzer.events import Begun, Event, Failed, Finished, Rendering, Started
from analyzer.runs.run import Run

KEY = "0123456789abcdef"
VIDEO = Begun("talk", (), 13, 780.0, KEY)
IMAGES = Begun("album", (), None, 30.0, KEY, images=True)


@pytest.mark.parametrize(
    ("events", "saved", "said"),
    [
        ([], 0, "nothing was saved"),
        ([Started("talk.mp4")], 3, "nothing was saved"),
        ([Started("talk.mp4"), VIDEO], 0, "nothing was saved"),
        ([VIDEO], 1, "1 of 13 segments is saved; run the same command again to continue"),
        ([VIDEO], 2, "2 of 13 segments are saved; run the same command again to continue"),
        ([IMAGES], 2, "2 images are saved; run the same command again to continue"),
        ([VIDEO, Failed("talk.mp4", AnalyzerError("talk.mp4 broke"))], 2, "nothing was saved"),
        (
            [VIDEO, Rendering("talk", 0.5)],
            0,
            "the tables are written, the annotated output is not; run the same command again to continue",
        ),
        ([VIDEO, Rendering("talk", 1.0), "finished"], 0, "1 source is complete, nothing else was saved"),
        (
            [VIDEO, "finished", Started("b"), VIDEO],
            2,
            "2 of 13 segments are saved; run the same command again",
        ),
    ],
)
def test_interrupted_work_reports_what_is_saved(
    events: list[Event | str], saved: int, said: str, tmp_path: Path
) -> None:
    for number in range(saved):
        (tmp_path / "talk" / ".parts" / f"{KEY}-{number:06d}").mkdir(parents=True)
    (tmp_path / "talk" / ".parts" / "new-1").mkdir(parents=True)
    run = Run(tmp_path, {"counts": {}, "title": "talk"})
    console = Console(quiet=False, as_json=False, lists_runs=False)
    for event in events:
        console.on_event(Finished(run) if event == "finished" else cast("Event", event))
    assert console.interrupted(tmp_path).startswith(f"interrupted: {said}")


@pytest.mark.parametrize(
    ("begun", "said"),
    [
        (
            Begun("talk", (0, 1), 13, 780.0, KEY, 120.0),
            "Resuming talk at 2:00: 2 of 13 segments are saved",
        ),
        (
            Begun("talk", (0,), None, None, KEY, 60.0),
            "Resuming talk at 1:00: 1 segment is saved",
        ),
        (
            Begun("a", (0, 1, 2), None, 9.0, KEY, 3.0, images=True),
            "Resuming a at image 4: 3 images are saved",
        ),
        (VIDEO, ""),
    ],
)
@pytest.mark.parametrize("quiet", [False, True])
def test_resumed_work_is_announced(
    begun: Begun, said: str, capsys: pytest.CaptureFixture[str], *, quiet: bool
) -> None:
    Console(quiet=quiet, as_json=False).on_event(begun)
    assert capsys.readouterr().err.strip() == ("" if quiet else said)
