"""Audience Analyzer: who is on screen in a video, when, for how long, of which perceived gender and age.

One video::

    from analyzer import analyze

    run = analyze("talk.mp4", fps=5)
    run.people      # a pandas DataFrame, one row per person
    run.timeline    # one row per second
    run.faces       # one row per face in an analyzed frame

Several videos, with the models loaded once::

    from analyzer import Analyzer

    analyzer = Analyzer(out="runs", video=False)
    for name in ("monday.mp4", "tuesday.mp4"):
        print(name, len(analyzer.analyze(name).people))

Frame by frame, with the faces of each image at once::

    from analyzer import OnlineAnalyzer

    online = OnlineAnalyzer()
    faces = online.push(image, time_s)    # ids, gender and age so far

`analyzer.events` describes what an analysis reports while it works. Names are imported on first use, so that
``import analyzer`` costs nothing. docs/python.md has more.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Analyzer": "analyzer.api",
    "AnalyzerError": "analyzer.errors",
    "CrashError": "analyzer.errors",
    "MediaError": "analyzer.errors",
    "ModelError": "analyzer.errors",
    "OnlineAnalyzer": "analyzer.analysis.online",
    "OutputError": "analyzer.errors",
    "Run": "analyzer.runs.run",
    "Settings": "analyzer.settings",
    "SettingsError": "analyzer.errors",
    "SourceError": "analyzer.errors",
    "StoppedError": "analyzer.errors",
    "analyze": "analyzer.api",
    "analyze_all": "analyzer.api",
    "evaluate": "analyzer.evaluation",
}

__all__ = [
    "Analyzer",
    "AnalyzerError",
    "CrashError",
    "MediaError",
    "ModelError",
    "OnlineAnalyzer",
    "OutputError",
    "Run",
    "Settings",
    "SettingsError",
    "SourceError",
    "StoppedError",
    "__version__",
    "analyze",
    "analyze_all",
    "evaluate",
    "events",
]

if TYPE_CHECKING:
    from analyzer import events
    from analyzer.analysis.online import OnlineAnalyzer
    from analyzer.api import Analyzer, analyze, analyze_all
    from analyzer.errors import (
        AnalyzerError,
        CrashError,
        MediaError,
        ModelError,
        OutputError,
        SettingsError,
        SourceError,
        StoppedError,
    )
    from analyzer.evaluation import evaluate
    from analyzer.runs.run import Run
    from analyzer.settings import Settings


def __getattr__(name: str) -> Any:
    value: Any
    if name == "events":
        value = importlib.import_module("analyzer.events")
    elif name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'analyzer' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
