"""The videos of a batch run that wait for their turn, and the hosts that must not be asked yet."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass

from analyzer.batch.config import Source
from analyzer.batch.context import BatchContext, origin_of
from analyzer.batch.ledger import Work
from analyzer.sources.types import Item
from analyzer.util.urls import host_of

__all__ = ["Entry", "WorkQueue"]


@dataclass(eq=False)
class Entry:
    """A video in the queue."""

    work: Work
    source: Source
    item: Item | None
    rank: int
    """How many videos of the same source come before it."""
    due: float = 0.0
    """Seconds since 1970; not before."""
    host: str | None = None
    """None: a local file."""
    fetch_s: float = 0.0
    """How long its download took, in seconds."""


class WorkQueue:
    """Videos in order: sources take turns, so that a large one does not block the others."""

    def __init__(self, context: BatchContext) -> None:
        self._context = context
        self._entries: list[Entry] = []
        self._queued: dict[int, Entry] = {}
        """By row: everything that was ever queued in this run."""
        self._ranks: Counter[str] = Counter()
        self._paused: dict[str, float] = {}
        """Of each host: seconds since 1970."""
        self._rested: dict[str, float] = {}
        """Of each host: when the pause between two downloads is over, by the monotonic clock."""

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def entries(self) -> Sequence[Entry]:
        """The waiting videos."""
        return self._entries

    def __contains__(self, id: int) -> bool:
        """Whether this row was queued in this run."""
        return id in self._queued

    def is_open(self, source: Source) -> bool:
        """Whether the source may have more videos in this run, see `Source.max_per_run`."""
        return source.max_per_run is None or self._ranks[origin_of(source)] < source.max_per_run

    def add(self, source: Source, work: Work, item: Item | None) -> bool:
        """Queue a video, unless it was queued before or is due too late for this run.

        Returns:
            Whether it was.
        """
        context = self._context
        work = context.ledger.get(work.id)
        queued = self._queued.get(work.id)
        if queued is not None:
            queued.item = queued.item or item  # the source knows more than the ledger may store
            return False
        due = work.next_try or 0.0
        if due > context.clock.time() + context.jobs.retry.patience_s:
            return False
        origin = origin_of(source)
        entry = Entry(work, source, item, self._ranks[origin], due, host_of(work.source))
        self._ranks[origin] += 1
        self._queued[work.id] = entry
        self._entries.append(entry)
        return True

    def put_back(self, entry: Entry) -> None:
        """Queue a video again, behind all others."""
        self._entries.append(entry)

    def take_turns(self, sources: Sequence[Source], start: int) -> None:
        """Sort the entries from `start` on: the first video of each source, then the second, ..."""
        order = {id(source): number for number, source in enumerate(sources)}
        new = sorted(self._entries[start:], key=lambda entry: (entry.rank, order[id(entry.source)]))
        self._entries[start:] = new

    def take(self, *, local: bool = True, remote: bool = True, busy: Container[str] = ()) -> Entry | None:
        """Remove and return the first video that is due and whose host may be asked.

        Args:
            local: Whether it may be a local file.
            remote: Whether it may have to be downloaded.
            busy: Hosts that are not asked now.
        """
        now, moment = self._context.clock.time(), self._context.clock.monotonic()
        for entry in self._entries:
            wanted = local if entry.host is None else remote and entry.host not in busy
            if wanted and self._due(entry) <= now and self._rested.get(entry.host or "", 0.0) <= moment:
                self._entries.remove(entry)
                return entry
        return None

    def forget(self, id: int) -> None:
        """Remove a video, so that it can be queued again."""
        entry = self._queued.pop(id, None)
        if entry is not None and entry in self._entries:
            self._entries.remove(entry)

    def next_due(self) -> float:
        """When the next video is due, in seconds since 1970; infinity: there is none."""
        return min((self._due(entry) for entry in self._entries), default=math.inf)

    def pause_host(self, host: str, until: float) -> None:
        """Take nothing from a host until this time, in seconds since 1970."""
        self._paused[host] = until

    def rest_host(self, host: str, seconds: float) -> None:
        """Take nothing from a host for some seconds."""
        self._rested[host] = self._context.clock.monotonic() + seconds

    def _due(self, entry: Entry) -> float:
        if entry.host is None:
            return entry.due
        if entry.host not in self._paused:
            self._paused[entry.host] = self._context.ledger.paused_until(entry.host)
        return max(entry.due, self._paused[entry.host])
