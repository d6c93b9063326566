"""Messages about interrupted and resumed work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from analyzer.cli.console import Console, _so_far, describe
from analyzer.correct import add_corrections
from analyzer.events import Event, Failed, Finished, LiveProgress, Opened, Rendering, Started, VisibleFace
from analyzer.runs.corrections import Correction
from analyzer.runs.run import Run
from analyzer.util.gender import GENDERS
from testkit.runs import make_run, random_plan

KEY = "0123456789abcdef"
VIDEO = Opened("1", "talk", 780.0, 13, (), KEY)
IMAGES = Opened("1", "holiday", 30.0, None, (), KEY, images=True)


@pytest.mark.parametrize(
    ("events", "saved", "said"),
    [
        ([], 0, "nothing was saved"),
        ([Started("1", "talk.mp4")], 3, "nothing was saved"),
        ([Started("1", "talk.mp4"), VIDEO], 0, "nothing was saved"),
        ([VIDEO], 1, "1 of 13 segments is saved; run the same command again to continue"),
        ([VIDEO], 2, "2 of 13 segments are saved; run the same command again to continue"),
        ([IMAGES], 2, "2 images are saved; run the same command again to continue"),
        ([VIDEO, Failed("1", "talk.mp4", "talk.mp4 broke", "AnalyzerError")], 2, "nothing was saved"),
        (
            [VIDEO, Rendering("1", "talk", 0.5)],
            0,
            "the tables are written, the annotated output is not; run the same command again to continue",
        ),
        ([VIDEO, Rendering("1", "talk", 1.0), "finished"], 0, "1 source is complete, nothing else was saved"),
        (
            [VIDEO, "finished", Started("2", "b"), VIDEO],
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
    finished = Finished("1", "talk", str(tmp_path), complete=True)
    info: Any = {"counts": {}, "title": "talk"}
    vars(finished)["run"] = Run(tmp_path, info)  # as if it had been opened
    console = Console(quiet=False, as_json=False, lists_runs=False)
    for event in events:
        console.on_event(finished if event == "finished" else cast("Event", event))
    assert console.interrupted(tmp_path).startswith(f"interrupted: {said}")


@pytest.mark.parametrize(
    ("begun", "said"),
    [
        (
            Opened("1", "talk", 780.0, 13, (0, 1), KEY, 120.0),
            "Resuming talk at 2:00: 2 of 13 segments are saved",
        ),
        (
            Opened("1", "talk", None, None, (0,), KEY, 60.0),
            "Resuming talk at 1:00: 1 segment is saved",
        ),
        (
            Opened("1", "a", 9.0, None, (0, 1, 2), KEY, 3.0, images=True),
            "Resuming a at image 4: 3 images are saved",
        ),
        (VIDEO, ""),
    ],
)
@pytest.mark.parametrize("quiet", [False, True])
def test_resumed_work_is_announced(
    begun: Opened, said: str, capsys: pytest.CaptureFixture[str], *, quiet: bool
) -> None:
    Console(quiet=quiet, as_json=False).on_event(begun)
    assert capsys.readouterr().err.strip() == ("" if quiet else said)


def test_live_progress_shows_who_is_visible_now() -> None:
    known = VisibleFace(0, "female", 34.4), VisibleFace(1, "unknown", None), *[VisibleFace(2, "male", 50)] * 4
    event = LiveProgress("1", "camera 0", 2.0, 10, 12, 0, 3, 0, True, known)
    said = "0 people, 12 faces, 3 dropped, now: female 34; ?; male 50; male 50 and 2 more"
    assert _so_far(event) == said
    assert _so_far(replace(event, visible=(), connected=False)).endswith("3 dropped, waiting for frames")


def test_names_of_corrections_are_in_the_table(tmp_path: Path) -> None:
    folder = make_run(
        tmp_path / "run", random_plan(np.random.default_rng(3), length_s=20, people=2, concurrent=2)
    )
    assert describe(Run.load(folder)).splitlines()[2].split()[:2] == ["person", "gender"]
    add_corrections(folder, [Correction("name", person=1, name="Ada Lovelace of Byron's")])
    head, first, second = describe(Run.load(folder)).splitlines()[2:5]
    assert head.split()[:3] == ["person", "name", "gender"]
    assert first.split()[:4] == ["1", "Ada", "Lovelace", "of…"]
    assert second.split()[:2] == ["2", second.split()[1]] and second.split()[1] in GENDERS
    assert head.index("gender") == min(first.index(word) for word in GENDERS if word in first)
