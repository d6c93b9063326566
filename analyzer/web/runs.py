"""The runs in the folder of a server: found, listed, searched and sorted without opening them again."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analyzer.errors import AnalyzerError
from analyzer.runs.run_info import RunInfo, UnusableRunError, read_run_info
from analyzer.util.urls import web_address

__all__ = ["SORTS", "RunEntry", "RunIndex", "UnknownRunError", "public_info", "run_id"]

_ID_DIGITS = 12
_FRESH_S = 0.5
"""How long a look at the folders counts, in seconds: a list is asked for far more often than runs change."""
_MAX_DEPTH = 6
_MOST_ANSWERS = 100


class UnknownRunError(AnalyzerError):
    """There is no run with this id."""

    def __init__(self) -> None:
        super().__init__("there is no such run: it may have been deleted")


def run_id(out: Path, folder: Path) -> str:
    """The id of a run: it stays the same when the run is analyzed or corrected again.

    Args:
        out: Folder of the runs.
        folder: The run's, in `out` or below.
    """
    path = folder.relative_to(out).as_posix()
    return hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()[:_ID_DIGITS]


@dataclass(frozen=True)
class RunEntry:
    """What the list of runs knows of a run."""

    id: str
    folder: Path
    where: str
    """Folder in which the run's folder is, relative to that of all runs; empty: directly in it."""
    video_id: str
    title: str
    """Untrusted text."""
    channel: str | None
    """Untrusted text."""
    kind: str
    """``video``, ``images`` or ``live``."""
    day: str
    """ISO date of upload, else recording, else analysis."""
    analyzed_at: str
    """ISO time, UTC."""
    duration_s: float | None
    people: int
    female: int
    male: int
    complete: bool
    preset: str | None
    corrected: bool
    """Whether somebody has corrected it."""
    size_bytes: int
    """Of the run's folder."""

    def info(self) -> RunInfo:
        """The run's ``run.json``, with paths of this machine; see `public_info`.

        Raises:
            UnusableRunError: It cannot be read any more.
        """
        return read_run_info(self.folder)

    def stamp(self) -> int:
        """A number that changes whenever the run is analyzed or corrected again.

        Raises:
            UnknownRunError: It was deleted meanwhile.
        """
        try:
            return (self.folder / "run.json").stat().st_mtime_ns
        except FileNotFoundError as error:
            raise UnknownRunError from error

    def document(self) -> dict[str, Any]:
        """As JSON values, without paths of this machine."""
        return {field: getattr(self, field) for field in _SHOWN}

    @functools.cached_property
    def json(self) -> str:
        """`document` as text."""
        return json.dumps(self.document(), ensure_ascii=False)


_SHOWN = tuple(field.name for field in dataclasses.fields(RunEntry) if field.name != "folder")

SORTS: dict[str, Callable[[RunEntry], Any]] = {
    "analyzed": lambda run: run.analyzed_at,
    "title": lambda run: run.title.casefold(),
    "channel": lambda run: (run.channel or "").casefold(),
    "day": lambda run: run.day,
    "people": lambda run: run.people,
    "size": lambda run: run.size_bytes,
    "duration": lambda run: run.duration_s or 0.0,
}
"""By what the list can be sorted."""


def public_info(info: RunInfo) -> dict[str, Any]:
    """A ``run.json`` without paths of this machine."""
    source = info["source"]
    return dict(info) | {"source": source if web_address(source) else Path(source).name}


class RunIndex:
    """Finds runs in a folder, at any depth; reads each ``run.json`` once, until it changes.

    Safe to use from several threads.

    Args:
        out: The folder.
        clock: The time, in seconds.
    """

    def __init__(self, out: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[Path, tuple[tuple[int, ...], RunEntry | None]] = {}
        """By folder: the state of its files, and the entry; None: unusable."""
        self._entries: dict[str, RunEntry] = {}
        self._found: dict[tuple[str, str, bool], list[RunEntry]] = {}
        """Answers to what was asked since the last change."""
        self._looked_at = -_FRESH_S

    def entries(self, *, fresh: bool = False) -> list[RunEntry]:
        """All runs, in no order.

        Args:
            fresh: Whether to look again, however short ago that was done.
        """
        with self._lock:
            if fresh or self._clock() - self._looked_at >= _FRESH_S:
                self._look()
            return list(self._entries.values())

    def get(self, id: str) -> RunEntry:
        """The run with an id.

        Raises:
            UnknownRunError: There is none.
        """
        self.entries()
        entry = self._entries.get(id)
        if entry is None:
            self.entries(fresh=True)
            entry = self._entries.get(id)
        if entry is None:
            raise UnknownRunError
        return entry

    def of_folder(self, folder: Path) -> RunEntry | None:
        """The run in a folder, if there is one."""
        with contextlib.suppress(UnknownRunError, ValueError):
            return self.get(run_id(self._out, folder))
        return None

    def find(self, *, search: str = "", sort: str = "analyzed", descending: bool = True) -> list[RunEntry]:
        """Runs whose title, channel, folder or day holds all words, ignoring case, in order.

        Args:
            search: Words.
            sort: A key of `SORTS`.
            descending: Whether the largest comes first.
        """
        entries, asked = self.entries(), (search, sort, descending)
        known = self._found.get(asked)
        if known is not None:
            return known
        words = search.casefold().split()
        found = [run for run in entries if not words or _holds(run, words)]
        key = SORTS[sort]
        found.sort(key=lambda run: (key(run), run.analyzed_at, run.id), reverse=descending)
        if len(self._found) >= _MOST_ANSWERS:
            self._found.clear()
        self._found[asked] = found
        return found

    def _look(self) -> None:
        known: dict[Path, tuple[tuple[int, ...], RunEntry | None]] = {}
        for folder, state in _run_folders(self._out, _MAX_DEPTH):
            before = self._known.get(folder)
            known[folder] = (
                before if before is not None and before[0] == state else (state, self._read(folder))
            )
        if known != self._known:
            self._entries = {entry.id: entry for _, entry in known.values() if entry is not None}
            self._found.clear()
        self._known = known
        self._looked_at = self._clock()

    def _read(self, folder: Path) -> RunEntry | None:
        try:
            info = read_run_info(folder)
            sizes = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
        except (UnusableRunError, OSError):
            return None
        where = folder.parent.relative_to(self._out).as_posix()
        day = info.get("uploaded") or info.get("recorded_at") or info["analyzed_at"]
        counts = info["counts"]
        return RunEntry(
            id=run_id(self._out, folder),
            folder=folder,
            where="" if where == "." else where,
            video_id=info["video_id"],
            title=info["title"] or folder.name,
            channel=info["channel"],
            kind=info["kind"],
            day=_day(day),
            analyzed_at=info["analyzed_at"],
            duration_s=info["video"].get("duration_s"),
            people=counts["people"],
            female=counts.get("female", 0),
            male=counts.get("male", 0),
            complete=info["complete"],
            preset=info["preset"],
            corrected=folder / "corrections.json" in sizes,
            size_bytes=sum(sizes.values()),
        )


def _holds(run: RunEntry, words: list[str]) -> bool:
    text = f"{run.title}\n{run.channel or ''}\n{run.where}\n{run.day}".casefold()
    return all(word in text for word in words)


def _day(moment: str) -> str:
    with contextlib.suppress(ValueError):
        return datetime.date.fromisoformat(moment[:10]).isoformat()
    return ""


def _run_folders(folder: Path, depth: int) -> Iterator[tuple[Path, tuple[int, ...]]]:
    """The folders of runs, each with what changes when the run does; links and hidden folders are skipped."""
    try:
        inside = [each for each in os.scandir(folder) if not each.name.startswith(".")]
    except OSError:
        return
    for each in inside:
        try:
            if not each.is_dir(follow_symlinks=False):
                continue
            info = os.stat(f"{each.path}/run.json")  # noqa: PTH116 - a thousand times a look
            own = os.stat(each.path)  # noqa: PTH116 - files that come and go
        except OSError:
            if depth and not os.path.isdir(f"{each.path}/.parts"):  # noqa: PTH112
                yield from _run_folders(Path(each.path), depth - 1)
            continue
        yield Path(each.path), (info.st_mtime_ns, info.st_size, info.st_ino, own.st_mtime_ns)
