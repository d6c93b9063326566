"""The form in which odd input files and their right values are written down.

Each module ``testkit/odd_*.py`` has a tuple `CASES` of these. Tests analyze some of them;
``python -m benchmarks.odd_files`` analyses all and writes the table in ``docs/reliability.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["OddFile"]


@dataclass(frozen=True)
class OddFile:
    """A kind of file that video tools read wrongly, one file of the kind, and its right values."""

    kind: str
    """What the table groups by, such as "pixels that are not square"."""
    name: str
    """Unique, fit for a file name."""
    make: Callable[[Path, Path], Path]
    """Makes the file in a folder (first argument) from the reference clip (second: H.264 in MP4, 1280x720, 30
    frames a second, 6 s, two people on screen throughout) and returns what `analyze` is given."""
    people: int = 2
    duration_s: float = 6.0
    """Running time as a player shows it; every person is on screen for all of it."""
    size: tuple[int, int] = (1280, 720)
    """Width and height of the upright, square-pixel frame, in pixels."""
    complete: bool = True
    exit_code: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    """Changes to the default settings."""
    run: dict[str, Any] = field(default_factory=dict)
    """Further right values in ``run.json``, by dotted key, such as ``{"reading.clock_jumps": 1}``."""
