"""How the segments of a long video are spread over workers: which ones to give out next.

Pure: nothing is sent or analyzed here. The open-ended last segment is never given out, because only the
analysis of the whole video reads its end; it follows when all others are committed.

Ranges get smaller as less remains (guided self-scheduling, Polychronopoulos and Kuck 1987): the first ones
are long, so that a video is opened and sought in seldom, and the last ones are short, so that all workers
finish at about the same time.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Iterable, Iterator, Sequence

from analyzer.batch.protocol import JobSpec
from analyzer.sources.types import MediaKind

__all__ = ["Order", "Range", "Spread", "may_spread", "most_nodes", "worth_spreading"]

Range = tuple[int, int]
"""Segments, from the first to before the second."""

_ROUNDS = 3
"""A range is one part in so many of what remains for each worker."""
LONG_SEGMENTS = 30
"""From so many missing segments on, a video is spread though other videos wait: begun late, it would keep one
worker busy long after all others are idle."""
LONG_BYTES = 50 * 2**20
"""A video of unknown length may be that long if its file is so large."""


def may_spread(spec: JobSpec) -> bool:
    """Tell whether a job may be worth spreading, so that its video is opened first."""
    video, settings = spec.video, spec.settings
    if video.kind is not MediaKind.VIDEO or settings.budget is not None:
        return False
    if spec.resources.workers > 1:
        return True
    if video.duration_s is not None:
        return video.duration_s >= LONG_SEGMENTS * settings.segment_s
    size = video.details.get("size_bytes")
    return isinstance(size, int) and size >= LONG_BYTES


def worth_spreading(spec: JobSpec, expected: int | None, completed: Collection[int]) -> bool:
    """Tell whether to spread a job whose video is open.

    Args:
        spec: The job.
        expected: Number of segments; None: unknown.
        completed: Those that are committed already.
    """
    missing = 0 if expected is None else len(set(range(expected - 1)) - set(completed))
    return missing >= (2 if spec.resources.workers > 1 else LONG_SEGMENTS)


def most_nodes(missing: int, segments_per_copy: float) -> int:
    """Return on how many machines to spread a video that must be sent to each.

    More machines finish sooner, but all copies leave this machine one after another: the time for work and
    copies, missing / machines + machines * segments_per_copy in segments of a machine, is least at the square
    root of their quotient.

    Args:
        missing: Segments that are to be analyzed.
        segments_per_copy: How many a machine analyzes while this machine sends it a copy.

    >>> most_nodes(900, 4.0), most_nodes(10, 100.0)
    (15, 1)
    """
    return max(1, round(math.sqrt(missing / segments_per_copy)))


class Spread:
    """The segments of a video, and who has them.

    Args:
        expected: Number of segments, as the opened video declares; the last one is not given out.
        completed: Those that are committed already.
        segments_per_copy: As in `most_nodes`, if nothing else is sent; None: the video need not be sent.
        nodes: Machines that have it already.
    """

    def __init__(
        self,
        expected: int,
        completed: Iterable[int],
        *,
        segments_per_copy: float | None = None,
        nodes: Iterable[str] = (),
    ) -> None:
        self._wanted = range(expected - 1)
        self._committed = set(completed)
        self._missing = [segment for segment in self._wanted if segment not in self._committed]
        self._left = len(self._missing)
        self._given: list[Range] = []
        """In the order in which they were given out."""
        self._failed: set[int] = set()
        """Segments that ended the process that analyzed them."""
        self._segments_per_copy = segments_per_copy
        self.nodes = set(nodes)
        """Machines that have the video, or that have got segments of it."""
        self._is_left = False
        """Whether nothing of it is in work, and the machines that have it are busy."""

    @property
    def missing(self) -> int:
        """How many segments nobody has, apart from those that failed."""
        return len(self._missing)

    @property
    def share(self) -> float:
        """The committed proportion of the video."""
        return 1 - (self._left + 1) / (len(self._wanted) + 1)

    @property
    def is_done(self) -> bool:
        """Whether all segments but the last are committed."""
        return not self._left

    @property
    def failed(self) -> int:
        """How many segments failed and were not committed by another worker."""
        return len(self._failed - self._committed)

    @property
    def is_stuck(self) -> bool:
        """Whether nothing is left but segments that failed."""
        return bool(self._left) and not self._missing and not self._given

    def next(self, workers: int, node: str = "") -> Range | None:
        """Give out a range.

        Args:
            workers: How many this video can expect: all, divided by the number of videos being spread.
            node: The machine that has an idle worker; see `Order`.

        Returns:
            Segments that nobody has; None: there are none.
        """
        if not self._missing:
            return None
        most = max(1, math.ceil(len(self._missing) / (_ROUNDS * max(1, workers))))
        count = 1
        while count < min(most, len(self._missing)) and self._missing[count] == self._missing[0] + count:
            count += 1
        given = self._missing[0], self._missing[0] + count
        del self._missing[:count]
        return self._give(given, node)

    def backup(self, node: str = "") -> Range | None:
        """Give out a second time what another worker has had longest, when nothing else is left.

        Its worker may be slow, or lost and not known to be. Whoever commits a segment first counts.

        Args:
            node: As in `next`.

        Returns:
            What is not committed of a range that was given out once; None: there is none.
        """
        if self._missing:
            return None
        for first, stop in self._given:
            left = [segment for segment in range(first, stop) if segment not in self._committed]
            if left and sum(one[0] <= left[0] < one[1] for one in self._given) == 1:
                end = min((segment for segment in left if segment in self._failed), default=left[-1] + 1)
                if left[0] < end:
                    return self._give((left[0], end), node)
        return None

    def takes(self, *, sent: int) -> bool:
        """Whether a machine that does not have the video yet may get it.

        Args:
            sent: How many videos are sent side by side; 0: none to further machines.
        """
        if self._segments_per_copy is None or not self.nodes or self._is_left:
            return True
        return sent > 0 and len(self.nodes) < most_nodes(self._left, self._segments_per_copy * sent)

    @property
    def is_sent(self) -> bool:
        """Whether the video must be sent to each machine."""
        return self._segments_per_copy is not None

    def _give(self, given: Range, node: str) -> Range:
        if self._is_left and node not in self.nodes:
            self.nodes.clear()  # it goes on there
        self._given.append(given)
        self.nodes.add(node)
        self._is_left = False
        return given

    def committed(self, segment: int) -> bool:
        """Note that a segment is committed; returns False if it was before, so that it counts once.

        Whoever has analyzed it: also a worker that was taken for lost.
        """
        if segment in self._committed:
            return False
        self._committed.add(segment)
        if segment in self._wanted:
            self._left -= 1
            if segment in self._missing:
                self._missing.remove(segment)
        return True

    def ended(self, given: Range) -> int:
        """Note that a worker has ended a range: it is done, was stopped, or the worker is lost.

        Returns:
            How many of its segments are not committed. They are given out again, before later ones, unless
            another worker has them. After `SegmentsDone` there should be none.
        """
        self._given.remove(given)
        left = [segment for segment in range(*given) if segment not in self._committed]
        free = [
            segment
            for segment in left
            if segment not in self._failed and not any(first <= segment < stop for first, stop in self._given)
        ]
        self._missing = sorted({*self._missing, *free})
        return len(left)

    def crashed(self, given: Range) -> int | None:
        """Note that the process which analyzed a range has died, or was ended.

        Segments are analyzed in order, so the first one that is not committed is held to be the cause. It is
        not given out again; the others are.

        Returns:
            That segment; None: all were committed.
        """
        failed = next((segment for segment in range(*given) if segment not in self._committed), None)
        if failed is not None:
            self._failed.add(failed)
        self.ended(given)
        return failed

    def note_idle(self, nodes: Collection[str]) -> None:
        """Note which machines have idle workers: while nothing is in work, one may replace busy ones."""
        self._is_left = not self._given and self.nodes.isdisjoint(nodes)

    def node_lost(self, node: str) -> None:
        """Note that a machine is gone, so that another one may take its place; its ranges end by `ended`."""
        self.nodes.discard(node)


class Order:
    """Which video is best for an idle worker: those first that need not be sent to its machine.

    A further copy of a video pays only for machines that would be idle, and not for too many of them.

    Args:
        spreads: In the order of their submission.
        others_wait: Whether there are as many videos as workers.
    """

    def __init__(self, spreads: Sequence[Spread], *, others_wait: bool) -> None:
        self._spreads = spreads
        self._sent = 0 if others_wait else sum(one.is_sent for one in spreads)
        self._anywhere = [place for place, one in enumerate(spreads) if not one.is_sent]
        self._at: dict[str, list[int]] = {}
        for place, one in enumerate(spreads):
            for node in one.nodes if one.is_sent else ():
                self._at.setdefault(node, []).append(place)
        self._further = [one for one in spreads if one.is_sent and one.takes(sent=self._sent)]

    def of(self, node: str) -> Iterator[Spread]:
        """Yield the videos of which a machine may get segments, the best first."""
        for place in heapq.merge(self._anywhere, self._at.get(node, ())):
            yield self._spreads[place]
        for one in self._further:
            if node not in one.nodes and one.takes(sent=self._sent):  # others may have got it meanwhile
                yield one
