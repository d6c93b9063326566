"""Audience Analyzer: who is on screen in a video, when, for how long, of which perceived gender and age.

::

    from analyzer import analyze

    run = analyze("talk.mp4")
    run.people      # a pandas DataFrame, one row a person
    run.timeline    # one row a second
    run.faces       # one row a face in an analyzed frame

Names are imported on first use, so that ``import analyzer`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "AnalyzerError": "analyzer.errors",
    "MediaError": "analyzer.errors",
    "ModelError": "analyzer.errors",
    "OutputError": "analyzer.errors",
    "Run": "analyzer.runs.run",
    "Settings": "analyzer.settings",
    "SettingsError": "analyzer.errors",
    "SourceError": "analyzer.errors",
    "analyze": "analyzer.api",
    "analyze_all": "analyzer.api",
    "evaluate": "analyzer.evaluation",
}

__all__ = [
    "AnalyzerError",
    "MediaError",
    "ModelError",
    "OutputError",
    "Run",
    "Settings",
    "SettingsError",
    "SourceError",
    "__version__",
    "analyze",
    "analyze_all",
    "evaluate",
]

if TYPE_CHECKING:
    from analyzer.api import analyze, analyze_all
    from analyzer.errors import (
        AnalyzerError,
        MediaError,
        ModelError,
        OutputError,
        SettingsError,
        SourceError,
    )
    from analyzer.evaluation import evaluate
    from analyzer.runs.run import Run
    from analyzer.settings import Settings


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'analyzer' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
