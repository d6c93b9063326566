"""Events: one vocabulary, to JSON and back, importable at no cost."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest

from analyzer import events
from analyzer.errors import OutputError
from analyzer.events import (
    Downloading,
    Event,
    Failed,
    FilesSkipped,
    Finished,
    LiveProgress,
    LiveStarted,
    Opened,
    Progress,
    Rendering,
    ReportsRemoved,
    SamplingChosen,
    SegmentCommitted,
    Started,
    VisibleFace,
    from_json,
)
from analyzer.runs.run import Run

EXAMPLES: list[Event] = [
    FilesSkipped("", "talks", 2, subfolders=True),
    Started("1", "talk.mp4"),
    Downloading("1", "https://a.test/1", 10, None),
    SamplingChosen("1", "talk", "2 samples a second", fits=True),
    Opened("1", "täлk\n", 60.5, 2, (0, 1), "0123456789abcdef", 20.0),
    Opened("1", "holiday", None, None, (), "0123456789abcdef", images=True),
    SegmentCommitted("1", "talk", 1, 300, 12, 4096),
    Progress("1", "talk", 1.5, None, samples=8, faces=9),
    Rendering("1", "talk", 0.25),
    ReportsRemoved("1", "talk", "outputs/talk", ("report.html", "report.json")),
    Finished("1", "talk", "outputs/talk", complete=False, unchanged=True),
    Failed("1", "talk.mp4", "there is no talk.mp4", "SourceError", "not_found", retry=False),
    LiveStarted("1", "camera 0", None, without_video=True),
    LiveProgress(
        *("1", "camera 0", 3.0, 15, 20, 2, 1, 0, True),
        (VisibleFace(0, "female", 34.5), VisibleFace(1, "unknown", None)),
    ),
]


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: event.name)
def test_event_survives_json(event: Event) -> None:
    sent = json.dumps(event.to_json(), allow_nan=False)
    received = from_json(json.loads(sent))
    assert received == event and type(received) is type(event) and hash(received) == hash(event)


def test_every_event_has_an_example_and_a_name_of_its_own() -> None:
    kinds = typing.get_args(Event)
    assert {type(event) for event in EXAMPLES} == set(kinds)
    assert len({kind.name for kind in kinds}) == len(kinds)
    assert SegmentCommitted.name == "segment_committed"
    assert all(dataclasses.fields(kind)[0].name == "job_id" for kind in kinds)
    assert {kind.__name__ for kind in kinds} <= set(events.__all__)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"event": "sat_down"}, "there is no event 'sat_down'"),
        ({"event": None}, "there is no event None"),
        ({"time_s": "1"}, "progress.time_s must be a number"),
        ({"time_s": True}, "progress.time_s"),
        ({"samples": 1.5}, "progress.samples must be a whole number"),
        ({"job_id": 7}, "progress.job_id"),
        ({"more": 1}, "more"),
        ({"title": ...}, "title"),
    ],
)
def test_document_that_is_no_event_is_refused(change: dict[str, Any], words: str) -> None:
    document = Progress("1", "talk", 1.0, None, 1, 1).to_json() | change
    document = {name: value for name, value in document.items() if value is not ...}
    with pytest.raises(ValueError, match=words):
        from_json(document)


@pytest.mark.parametrize("document", [None, [], "started", 3])
def test_what_is_no_object_is_refused(document: Any) -> None:
    with pytest.raises(ValueError, match="must be a JSON object"):
        from_json(document)


def test_finished_opens_its_run_once_and_only_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = Finished("1", "talk", str(tmp_path), complete=True)
    with pytest.raises(OutputError):
        _ = event.run
    opened: list[str] = []
    monkeypatch.setattr(Run, "load", lambda folder: opened.append(folder) or Run(Path(folder), {}))
    assert event.run is event.run and event.run.folder == tmp_path and opened == [str(tmp_path)]
    assert from_json(event.to_json()) == event  # what it has opened is not part of it


def test_importing_events_imports_nothing_heavy() -> None:
    script = "import sys, analyzer.events; print([name for name in sys.modules if '.' not in name])"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    heavy = {"numpy", "pandas", "pyarrow", "av", "cv2", "openvino", "click"}
    assert "analyzer" in done.stdout and not [name for name in heavy if f"'{name}'" in done.stdout]
