"""Crops of people for pages, kept in memory for a while and never stored."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from analyzer.web.tasks import Tasks

__all__ = ["CropCache", "Cut"]

_KEPT_S = 900.0
_KEPT_BYTES = 64 * 2**20
_AT_ONCE = 12
_TIMEOUT_S = 120.0

Jpegs = list[bytes]

_Key = tuple[str, str, str]
"""Run, analysis, and who or what is on the crops."""


class Cut(NamedTuple):
    """What crops are cut from."""

    run: str
    """The run's id."""
    version: str
    """Names its analysis: another one gives the numbers of tracklets to others."""
    folder: Path
    media: tuple[Path, ...]
    """Its video, or its images."""


class CropCache:
    """Crops of runs, cut when they are asked for, and forgotten after a while.

    Args:
        tasks: Where they are cut.
        clock: The time in seconds.
    """

    def __init__(self, tasks: Tasks, clock: Callable[[], float] = time.monotonic) -> None:
        self._tasks = tasks
        self._clock = clock
        self._kept: OrderedDict[_Key, tuple[float, Jpegs]] = OrderedDict()
        self._bytes = 0
        self._pending: dict[_Key, asyncio.Task[None]] = {}
        self._lock = threading.Lock()  # runs are deleted in other threads

    async def people(self, of: Cut, person: int, keys: Mapping[int, str]) -> Sequence[bytes]:
        """Return the best crops of a person as JPEG, the best first; further people are cut with them.

        Args:
            of: The run and its video.
            person: The person's number.
            keys: Of all people of the run, what changes with their faces; in the order of the page.

        Raises:
            TaskError, BusyTasksError: They could not be cut.
        """
        names = {who: f"p{who} {key}" for who, key in keys.items()}
        return await self._get(of, names, person, "people")

    async def tracklets(self, of: Cut, tracklet: int, others: Sequence[int]) -> Sequence[bytes]:
        """Return a crop of a tracklet, in a list that is empty if there is none; `others` are cut with it.

        Raises:
            TaskError, BusyTasksError: They could not be cut.
        """
        names = {one: f"t{one}" for one in (tracklet, *others)}
        return await self._get(of, names, tracklet, "tracklets")

    async def _get(self, of: Cut, names: Mapping[int, str], wanted: int, what: str) -> Jpegs:
        run = of.run, of.version
        key = *run, names[wanted]
        found = self._find(key)
        if found is not None:
            return found
        if key not in self._pending:
            missing = [
                one
                for one, name in names.items()
                if (*run, name) not in self._kept and (*run, name) not in self._pending
            ]
            start = missing.index(wanted)
            batch = missing[start : start + _AT_ONCE]
            task = asyncio.create_task(self._cut(of, {one: names[one] for one in batch}, what))
            self._pending |= dict.fromkeys(((*run, names[one]) for one in batch), task)
        await asyncio.shield(self._pending[key])
        return self._find(key) or []

    async def _cut(self, of: Cut, names: Mapping[int, str], what: str) -> None:
        keys = {one: (of.run, of.version, name) for one, name in names.items()}
        try:
            made = await self._tasks.run(
                f"analyzer.web.cutting:cut_{what}",
                of.folder,
                list(of.media),
                list(names),
                timeout_s=_TIMEOUT_S,
            )
            for one, jpegs in zip(names, made, strict=True):
                self._keep(keys[one], jpegs)
        finally:
            for key in keys.values():
                self._pending.pop(key, None)

    def forget(self, run: str) -> None:
        """Forget the crops of a run, by its id."""
        with self._lock:
            for key in [key for key in self._kept if key[0] == run]:
                self._drop(key)

    def _find(self, key: _Key) -> Jpegs | None:
        now = self._clock()
        with self._lock:
            while self._kept and next(iter(self._kept.values()))[0] < now - _KEPT_S:
                self._drop(next(iter(self._kept)))
            found = self._kept.get(key)
        return None if found is None else found[1]

    def _keep(self, key: _Key, jpegs: Jpegs) -> None:
        with self._lock:
            if key in self._kept:
                return
            self._kept[key] = self._clock(), jpegs
            self._bytes += sum(map(len, jpegs))
            while self._bytes > _KEPT_BYTES and len(self._kept) > 1:
                self._drop(next(iter(self._kept)))

    def _drop(self, key: _Key) -> None:
        _, jpegs = self._kept.pop(key)
        self._bytes -= sum(map(len, jpegs))
