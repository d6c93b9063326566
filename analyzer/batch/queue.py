"""The videos of a batch run that wait for their turn, and the hosts that must not be asked yet."""

from __future__ import annotations

import heapq
import itertools
import math
from array import array
from collections import Counter
from collections.abc import Callable, Container, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from analyzer.batch.config import Source
from analyzer.batch.context import BatchContext, origin_of
from analyzer.batch.ledger import Work
from analyzer.sources.types import Item, MediaKind
from analyzer.sources.ytdlp import is_link, linked_item
from analyzer.util.urls import host_of

__all__ = ["Entry", "Numbered", "RowNumbers", "WorkQueue"]

T = TypeVar("T")


@dataclass(eq=False)
class Entry:
    """A video that is in work."""

    work: Work
    source: Source
    item: Item | None
    due: float = 0.0
    """Seconds since 1970; not before."""
    host: str | None = None
    """None: a local file."""
    fetch_s: float = 0.0
    """How long its download took, in seconds."""


class RowNumbers:
    """A number for each row of the ledger, 0 at first.

    Rows are numbered without gaps, so an array takes 8 bytes for each, where a dictionary takes a hundred.
    """

    def __init__(self) -> None:
        self._numbers = array("q")

    def __getitem__(self, id: int) -> int:
        return self._numbers[id] if id < len(self._numbers) else 0

    def __setitem__(self, id: int, number: int) -> None:
        missing = id + 1 - len(self._numbers)
        if missing > 0:
            self._numbers.frombytes(bytes(8 * (missing + id // 8)))
        self._numbers[id] = number


class Numbered(Generic[T]):
    """Numbers for few objects that many refer to, from 0.

    Args:
        key: Which of them are the same; by default equal ones.
    """

    def __init__(self, key: Callable[[T], Hashable] = lambda each: each) -> None:
        self._key = key
        self._numbers: dict[Hashable, int] = {}
        self._each: list[T] = []

    def number(self, each: T) -> int:
        """The number of an object, which it gets when it has none."""
        number = self._numbers.setdefault(self._key(each), len(self._each))
        if number == len(self._each):
            self._each.append(each)
        return number

    def __getitem__(self, number: int) -> T:
        return self._each[number]


_UNLISTED, _IMPLIED, _KEPT, _LINKS = range(4)
"""What an entry knows of its item: that its source may not list it any more, that the row says all, that it
is kept, or, from `_LINKS` on, that it is a link: what is beyond is the number of its extractor's key."""


@dataclass(eq=False, slots=True)
class _Entries:
    """The entries of the queue, in columns: as objects, a million would take more than a gigabyte.

    Each has a number. The ledger has the rest.
    """

    rows: array[int] = field(default_factory=lambda: array("q"))
    sources: array[int] = field(default_factory=lambda: array("q"))
    items: array[int] = field(default_factory=lambda: array("q"))
    due: array[float] = field(default_factory=lambda: array("d"))
    """Seconds since 1970; not before."""
    places: array[int] = field(default_factory=lambda: array("q"))
    """In the queue: the lowest one goes first."""
    waits: bytearray = field(default_factory=bytearray)
    """Whether it still does; it is removed when it would be its turn."""

    def append(self, row: int, source: int, item: int, due: float) -> int:
        """Add an entry, and return its number."""
        self.rows.append(row)
        self.sources.append(source)
        self.items.append(item)
        self.due.append(due)
        self.places.append(0)
        self.waits.append(True)
        return len(self.rows) - 1


@dataclass(eq=False, slots=True)
class _Lane:
    """The waiting videos of one host, or the local files: numbers of entries."""

    entries: _Entries
    ready: array[int] = field(default_factory=lambda: array("q"))
    """What was due when it was queued, in order."""
    passed: int = 0
    """How many of these are gone."""
    later: list[tuple[float, int, int]] = field(default_factory=list)
    """A heap of what was not: when it is due, in seconds since 1970, its place and its number."""
    due: list[tuple[int, int]] = field(default_factory=list)
    """A heap of what has become due: its place and its number."""

    def add(self, entry: int, now: float) -> None:
        """Add an entry behind all others."""
        due = self.entries.due[entry]
        if due <= now:
            self.ready.append(entry)
        else:
            heapq.heappush(self.later, (due, self.entries.places[entry], entry))

    def first(self, now: float) -> tuple[int, int] | None:
        """The place and number of the first entry that is due."""
        self._tidy()
        while self.later and self.later[0][0] <= now:
            _, place, entry = heapq.heappop(self.later)
            heapq.heappush(self.due, (place, entry))
        self._tidy()
        found = self.due[:1]
        if self.passed < len(self.ready):
            entry = self.ready[self.passed]
            found.append((self.entries.places[entry], entry))
        return min(found, default=None)

    def next_due(self) -> float:
        """When the next entry is due, in seconds since 1970; 0: already, infinity: there is none."""
        self._tidy()
        if self.passed < len(self.ready) or self.due:
            return 0.0
        return self.later[0][0] if self.later else math.inf

    def _tidy(self) -> None:
        waits = self.entries.waits
        while self.passed < len(self.ready) and not waits[self.ready[self.passed]]:
            self.passed += 1
        while self.later and not waits[self.later[0][-1]]:
            heapq.heappop(self.later)
        while self.due and not waits[self.due[0][-1]]:
            heapq.heappop(self.due)

    def __iter__(self) -> Iterator[int]:
        ready = itertools.islice(self.ready, self.passed, None)
        later, due = (each[-1] for each in self.later), (each[-1] for each in self.due)
        return (each for each in itertools.chain(ready, later, due) if self.entries.waits[each])


class WorkQueue:
    """Videos in order: sources take turns, so that a large one does not block the others.

    Taking a video, or finding none, costs a look at each host, however many videos wait.
    """

    def __init__(self, context: BatchContext) -> None:
        self._context = context
        self._entries = _Entries()
        self._entry_of = RowNumbers()
        """Of each row that was ever queued in this run: the number of its entry, and 1."""
        self._items: dict[int, Item] = {}
        """By row: those that neither the row nor a link can tell."""
        self._fetch_s: dict[int, float] = {}
        """By the number of the entry: how long its download took, if there was one."""
        self._added = array("q")
        """The entries that were added since `take_turns`."""
        self._ranks_of_added, self._hosts_of_added = array("q"), array("q")
        """Of each of these: its rank in its source, and the number of its host."""
        self._sources = Numbered[Source](id)
        self._hosts = Numbered[str | None]()
        self._keys = Numbered[str | None]()
        """Of extractors."""
        self._lanes: dict[str | None, _Lane] = {}
        self._places = itertools.count()
        self._count = 0
        self._ranks: Counter[str] = Counter()
        """How many videos of each source were queued."""
        self._paused: dict[str, float] = {}
        """Of each host: seconds since 1970."""
        self._rested: dict[str, float] = {}
        """Of each host: when the pause between two downloads is over, by the monotonic clock."""

    def __len__(self) -> int:
        return self._count

    def __contains__(self, id: int) -> bool:
        """Whether this row was queued in this run."""
        return self._entry_of[id] > 0

    def due(self) -> Iterator[int]:
        """The rows of the waiting videos that are due, whether or not their hosts may be asked."""
        now, entries = self._context.clock.time(), self._entries
        return (
            entries.rows[each] for lane in self._lanes.values() for each in lane if entries.due[each] <= now
        )

    def is_open(self, source: Source) -> bool:
        """Whether the source may have more videos in this run, see `Source.max_per_run`."""
        return source.max_per_run is None or self._ranks[origin_of(source)] < source.max_per_run

    def add(self, source: Source, work: Work, item: Item | None) -> bool:
        """Queue a video, unless it was queued before or is due too late for this run.

        It takes part when `take_turns` has sorted it in.

        Args:
            source: Its source.
            work: Its row, as it is now.
            item: What the source lists; None: it may not list it any more.

        Returns:
            Whether it was queued.
        """
        context = self._context
        queued = self._entry_of[work.id] - 1
        if queued >= 0:
            # The source knows more than the ledger may store; the first of several copies counts.
            if item is not None and self._entries.items[queued] == _UNLISTED:
                self._entries.items[queued] = self._noted(item, work)
            return False
        due = work.next_try or 0.0
        if due > context.clock.time() + context.jobs.retry.patience_s:
            return False
        origin = origin_of(source)
        entry = self._append(source, work, self._noted(item, work), due)
        self._entry_of[work.id] = entry + 1
        self._added.append(entry)
        self._ranks_of_added.append(self._ranks[origin])
        self._hosts_of_added.append(self._hosts.number(host_of(work.source)))
        self._ranks[origin] += 1
        return True

    def put_back(self, entry: Entry) -> None:
        """Queue a video again, behind all others."""
        known = self._entry_of[entry.work.id] - 1
        listed = _UNLISTED if known < 0 else self._entries.items[known]
        if listed == _UNLISTED:
            listed = self._noted(entry.item, entry.work)
        number = self._append(entry.source, entry.work, listed, entry.due)
        if known >= 0:
            self._entry_of[entry.work.id] = number + 1
        if entry.fetch_s:
            self._fetch_s[number] = entry.fetch_s
        self._enter(entry.host, number)

    def _append(self, source: Source, work: Work, item: int, due: float) -> int:
        self._count += 1
        return self._entries.append(work.id, self._sources.number(source), item, due)

    def take_turns(self, sources: Sequence[Source]) -> None:
        """Sort in what was added: the first video of each source, then the second, ..."""
        order = {self._sources.number(source): place for place, source in enumerate(sources)}
        entries = self._entries
        turns = [
            rank * len(order) + order[entries.sources[entry]]
            for rank, entry in zip(self._ranks_of_added, self._added, strict=True)
        ]
        for added in sorted(range(len(turns)), key=turns.__getitem__):
            entry = self._added[added]
            if entries.waits[entry]:
                self._enter(self._hosts[self._hosts_of_added[added]], entry)
        self._added, self._ranks_of_added, self._hosts_of_added = array("q"), array("q"), array("q")

    def _enter(self, host: str | None, entry: int) -> None:
        self._entries.places[entry] = next(self._places)
        lane = self._lanes.get(host)
        if lane is None:
            lane = self._lanes[host] = _Lane(self._entries)
        lane.add(entry, self._context.clock.time())

    def take(self, *, local: bool = True, remote: bool = True, busy: Container[str] = ()) -> Entry | None:
        """Remove and return the first video that is due and whose host may be asked.

        Args:
            local: Whether it may be a local file.
            remote: Whether it may have to be downloaded.
            busy: Hosts that are not asked now.
        """
        now, moment = self._context.clock.time(), self._context.clock.monotonic()
        found: list[tuple[int, int, str | None]] = []
        for host, lane in self._lanes.items():
            wanted = local if host is None else remote and host not in busy
            if not wanted or self._rested.get(host or "", 0.0) > moment or self._pause_of(host) > now:
                continue
            first = lane.first(now)
            if first is not None:
                found.append((*first, host))
        if not found:
            return None
        _, entry, host = min(found)
        self._entries.waits[entry] = False
        self._count -= 1
        work = self._context.ledger.get(self._entries.rows[entry])
        source, due = self._sources[self._entries.sources[entry]], self._entries.due[entry]
        return Entry(work, source, self._item(entry, work), due, host, self._fetch_s.pop(entry, 0.0))

    def forget(self, id: int) -> None:
        """Remove a video, so that it can be queued again."""
        entry = self._entry_of[id] - 1
        if entry < 0:
            return
        self._entry_of[id] = 0
        self._items.pop(id, None)
        if self._entries.waits[entry]:
            self._entries.waits[entry] = False
            self._count -= 1

    def next_due(self) -> float:
        """When the next video is due, in seconds since 1970; infinity: there is none."""
        return min(
            (max(lane.next_due(), self._pause_of(host)) for host, lane in self._lanes.items()),
            default=math.inf,
        )

    def pause_host(self, host: str, until: float) -> None:
        """Take nothing from a host until this time, in seconds since 1970."""
        self._paused[host] = until

    def rest_host(self, host: str, seconds: float) -> None:
        """Take nothing from a host for some seconds."""
        self._rested[host] = self._context.clock.monotonic() + seconds

    def _pause_of(self, host: str | None) -> float:
        if host is None:
            return 0.0
        if host not in self._paused:
            self._paused[host] = self._context.ledger.paused_until(host)
        return self._paused[host]

    # -- items

    def _noted(self, item: Item | None, work: Work) -> int:
        """Note what cannot be made again of an item; returns what `_Entries.items` has of it."""
        if item is None:
            return _UNLISTED
        if _is_implied(item, work):
            return _IMPLIED
        known = (item.source, item.title) == (work.source, work.title)
        if known and item.entry is not None and is_link(item):
            return _LINKS + self._keys.number(item.entry["ie_key"])
        self._items[work.id] = item
        return _KEPT

    def _item(self, entry: int, work: Work) -> Item | None:
        noted = self._entries.items[entry]
        if noted == _KEPT:
            return self._items[work.id]
        return None if noted < _KEPT else linked_item(work.source, self._keys[noted - _LINKS], work.title)


def _is_implied(item: Item, work: Work) -> bool:
    """Whether an item can be made again from the row alone, and need not be kept."""
    if item.entry is not None or item.error is not None or item.source != work.source:
        return False
    if not item.paths:
        return item == Item(work.source, MediaKind.VIDEO, title=work.title)
    path = item.paths[0]
    return item == Item(str(path), MediaKind.VIDEO, (path,), path.stem)
