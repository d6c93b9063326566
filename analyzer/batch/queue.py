"""The videos of a batch run that wait for their turn, and the hosts that must not be asked yet."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter, deque
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field

from analyzer.batch.config import Source
from analyzer.batch.context import BatchContext, origin_of
from analyzer.batch.ledger import Work
from analyzer.sources.types import Item, MediaKind
from analyzer.util.urls import host_of

__all__ = ["Entry", "WorkQueue"]


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


@dataclass(eq=False, slots=True)
class _Waiting:
    """A video in the queue. There may be a million: the ledger has the rest."""

    id: int
    """Its row."""
    source: Source
    item: Item | None
    due: float
    fetch_s: float = 0.0
    listed: bool = False
    """Whether its source lists it in this run: the first of several copies counts."""
    place: int = 0
    """In the queue: the lowest one goes first."""
    waits: bool = True
    """Whether it still does; it is removed when it would be its turn."""


@dataclass(eq=False, slots=True)
class _Lane:
    """The waiting videos of one host, or the local files."""

    ready: deque[_Waiting] = field(default_factory=deque)
    """What was due when it was queued, in order."""
    later: list[tuple[float, int, _Waiting]] = field(default_factory=list)
    """A heap of what was not, by the time when it is due, in seconds since 1970."""
    due: list[tuple[int, _Waiting]] = field(default_factory=list)
    """A heap of what has become due, by place."""

    def add(self, waiting: _Waiting, now: float) -> None:
        """Add a video behind all others."""
        if waiting.due <= now:
            self.ready.append(waiting)
        else:
            heapq.heappush(self.later, (waiting.due, waiting.place, waiting))

    def first(self, now: float) -> _Waiting | None:
        """The first video that is due."""
        self._tidy()
        while self.later and self.later[0][0] <= now:
            _, place, waiting = heapq.heappop(self.later)
            heapq.heappush(self.due, (place, waiting))
        self._tidy()
        found = [*(each for _, each in self.due[:1]), *itertools.islice(self.ready, 1)]
        return min(found, key=lambda waiting: waiting.place, default=None)

    def next_due(self) -> float:
        """When the next video is due, in seconds since 1970; 0: already, infinity: there is none."""
        self._tidy()
        if self.ready or self.due:
            return 0.0
        return self.later[0][0] if self.later else math.inf

    def remove(self, first: _Waiting) -> None:
        """Remove the first video."""
        first.waits = False
        self._tidy()

    def _tidy(self) -> None:
        while self.ready and not self.ready[0].waits:
            self.ready.popleft()
        while self.later and not self.later[0][-1].waits:
            heapq.heappop(self.later)
        while self.due and not self.due[0][-1].waits:
            heapq.heappop(self.due)

    def __iter__(self) -> Iterator[_Waiting]:
        later, due = (each for *_, each in self.later), (each for _, each in self.due)
        return (each for each in itertools.chain(self.ready, later, due) if each.waits)


class WorkQueue:
    """Videos in order: sources take turns, so that a large one does not block the others.

    Taking a video, or finding none, costs a look at each host, however many videos wait.
    """

    def __init__(self, context: BatchContext) -> None:
        self._context = context
        self._added: list[tuple[int, str | None, _Waiting]] = []
        """Rank in its source, host and video of those that were added since `take_turns`."""
        self._lanes: dict[str | None, _Lane] = {}
        self._places = itertools.count()
        self._count = 0
        self._queued: dict[int, _Waiting] = {}
        """By row: everything that was ever queued in this run."""
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
        return id in self._queued

    def due(self) -> Iterator[int]:
        """The rows of the waiting videos that are due, whether or not their hosts may be asked."""
        now = self._context.clock.time()
        return (each.id for lane in self._lanes.values() for each in lane if each.due <= now)

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
        listed = item is not None
        item = None if item is None or _is_implied(item, work) else item
        queued = self._queued.get(work.id)
        if queued is not None:
            if listed and not queued.listed:  # the source knows more than the ledger may store
                queued.item, queued.listed = item, True
            return False
        due = work.next_try or 0.0
        if due > context.clock.time() + context.jobs.retry.patience_s:
            return False
        origin = origin_of(source)
        waiting = self._queued[work.id] = _Waiting(work.id, source, item, due, listed=listed)
        self._added.append((self._ranks[origin], host_of(work.source), waiting))
        self._ranks[origin] += 1
        self._count += 1
        return True

    def put_back(self, entry: Entry) -> None:
        """Queue a video again, behind all others."""
        id = entry.work.id
        known = self._queued.get(id)
        item = entry.item or (None if known is None else known.item)
        waiting = _Waiting(id, entry.source, item, entry.due, entry.fetch_s, listed=item is not None)
        if known is not None:
            self._queued[id] = waiting
        self._count += 1
        self._enter(entry.host, waiting)

    def take_turns(self, sources: Sequence[Source]) -> None:
        """Sort in what was added: the first video of each source, then the second, ..."""
        order = {id(source): number for number, source in enumerate(sources)}
        self._added.sort(key=lambda added: (added[0], order[id(added[2].source)]))
        for _, host, waiting in self._added:
            if waiting.waits:
                self._enter(host, waiting)
        self._added = []

    def _enter(self, host: str | None, waiting: _Waiting) -> None:
        waiting.place = next(self._places)
        self._lanes.setdefault(host, _Lane()).add(waiting, self._context.clock.time())

    def take(self, *, local: bool = True, remote: bool = True, busy: Container[str] = ()) -> Entry | None:
        """Remove and return the first video that is due and whose host may be asked.

        Args:
            local: Whether it may be a local file.
            remote: Whether it may have to be downloaded.
            busy: Hosts that are not asked now.
        """
        now, moment = self._context.clock.time(), self._context.clock.monotonic()
        found: list[tuple[int, str | None, _Waiting]] = []
        for host, lane in self._lanes.items():
            wanted = local if host is None else remote and host not in busy
            if not wanted or self._rested.get(host or "", 0.0) > moment or self._pause_of(host) > now:
                continue
            first = lane.first(now)
            if first is not None:
                found.append((first.place, host, first))
        if not found:
            return None
        _, host, waiting = min(found)
        self._lanes[host].remove(waiting)
        self._count -= 1
        work = self._context.ledger.get(waiting.id)
        return Entry(work, waiting.source, waiting.item, waiting.due, host, waiting.fetch_s)

    def forget(self, id: int) -> None:
        """Remove a video, so that it can be queued again."""
        waiting = self._queued.pop(id, None)
        if waiting is not None and waiting.waits:
            waiting.waits = False
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


def _is_implied(item: Item, work: Work) -> bool:
    """Whether an item can be made again from the row alone, and need not be kept."""
    if item.entry is not None or item.error is not None or item.source != work.source:
        return False
    if not item.paths:
        return item == Item(work.source, MediaKind.VIDEO, title=work.title)
    path = item.paths[0]
    return item == Item(str(path), MediaKind.VIDEO, (path,), path.stem)
