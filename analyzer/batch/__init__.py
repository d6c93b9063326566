"""Batch runs over many videos: jobs, ledger, queue, executors.

::

    from pathlib import Path
    from analyzer.batch import load_jobs, run_batch

    outcome = run_batch(load_jobs(Path("jobs.toml")))
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# Public names are imported on first use.
_HOMES = {
    "Jobs": "analyzer.batch.config",
    "Outcome": "analyzer.batch.outcome",
    "Stop": "analyzer.batch.context",
    "jobs_of": "analyzer.batch.config",
    "load_jobs": "analyzer.batch.config",
    "run_batch": "analyzer.batch.run",
}

__all__ = ["Jobs", "Outcome", "Stop", "jobs_of", "load_jobs", "run_batch"]

if TYPE_CHECKING:
    from analyzer.batch.config import Jobs, jobs_of, load_jobs
    from analyzer.batch.context import Stop
    from analyzer.batch.outcome import Outcome
    from analyzer.batch.run import run_batch


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'analyzer.batch' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
