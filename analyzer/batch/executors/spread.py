"""How the segments of a long video are spread over workers: which ones to give out next.

Pure: nothing is sent or analyzed here. The open-ended last segment is never given out, because only the
analysis of the whole video reads its end; it follows when all others are committed.

Ranges get smaller as less remains (guided self-scheduling, Polychronopoulos and Kuck 1987): the first ones
are long, so that a video is opened and sought in seldom, and the last ones are short, so that all workers
finish at about the same time.
"""

from __future__ import annotations

import math
from collections.abc import Collection

__all__ = ["Range", "Spread", "is_worth_spreading", "most_nodes"]

Range = tuple[int, int]
"""Segments, from the first to before the second."""

_ROUNDS = 3
"""A range is this share of what remains for each worker."""
_MANY = 30
"""From so many missing segments on, a video is spread though other videos wait: begun late, it would keep one
worker busy long after all others are idle."""


def is_worth_spreading(missing: int, workers: int) -> bool:
    """Tell whether to spread a video over workers.

    Args:
        missing: Segments that are not committed, without the last one.
        workers: How many there are for this video.

    >>> [is_worth_spreading(*one) for one in ((29, 1), (30, 1), (6, 3), (5, 3))]
    [False, True, True, False]
    """
    return missing >= _MANY or (workers > 1 and missing >= 2 * workers)


def most_nodes(work_s: float, size_bytes: int, *, bytes_per_s: float, workers_per_node: int) -> int:
    """Return on how many machines to spread a video that must be sent to each.

    More machines finish sooner, but all copies leave this machine one after another: the time for work and
    copies, work / (machines * workers) + machines * size / bandwidth, is least at the square root of their
    quotient.

    Args:
        work_s: How long one worker would take, in seconds.
        size_bytes: Of the video file.
        bytes_per_s: How fast this machine sends.
        workers_per_node: Workers on each machine.

    >>> most_nodes(3600, 6 * 10**9, bytes_per_s=1e9, workers_per_node=4)
    12
    >>> most_nodes(10, 6 * 10**9, bytes_per_s=1e8, workers_per_node=4)
    1
    """
    copy_s = max(size_bytes, 1) / bytes_per_s
    return max(1, round(math.sqrt(work_s / max(1, workers_per_node) / copy_s)))


class Spread:
    """The segments of a video, and who has them.

    Args:
        expected: Number of segments, as the opened video declares; the last one is not given out.
        completed: Those that are committed already.
        nodes: The most machines that get segments at a time; None: any number.
    """

    def __init__(self, expected: int, completed: Collection[int], *, nodes: int | None = None) -> None:
        self._missing = sorted(set(range(expected - 1)) - set(completed))
        self._given: dict[Range, str] = {}
        self._committed = set(completed)
        self._end = max(0, expected - 1)
        self._most_nodes = nodes
        self._nodes: set[str] = set()

    @property
    def missing(self) -> int:
        """How many segments nobody has."""
        return len(self._missing)

    @property
    def given(self) -> dict[Range, str]:
        """The ranges that are given out, and to which machine."""
        return dict(self._given)

    @property
    def finished(self) -> bool:
        """Whether all segments but the last are committed, and no range is given out."""
        return not self._missing and not self._given

    def next(self, node: str, workers: int) -> Range | None:
        """Give out a range.

        Args:
            node: The machine that has an idle worker.
            workers: How many work on the video or could, at least 1.

        Returns:
            Segments that nobody has; None: there are none, or none for this machine.
        """
        full = self._most_nodes is not None and len(self._nodes) >= self._most_nodes
        if not self._missing or (full and node not in self._nodes):
            return None
        most = max(1, math.ceil(len(self._missing) / (_ROUNDS * max(1, workers))))
        first = self._missing[0]
        stop = first + 1
        while stop - first < most and stop - first < len(self._missing):
            if self._missing[stop - first] != stop:
                break  # what follows is committed, or given out
            stop += 1
        del self._missing[: stop - first]
        self._given[first, stop] = node
        self._nodes.add(node)
        return first, stop

    def committed(self, segment: int) -> bool:
        """Note that a segment is committed; returns False if it was before, so that it counts once.

        Whoever has analyzed it: also a worker that was taken for lost.
        """
        if segment in self._committed:
            return False
        self._committed.add(segment)
        if segment in self._missing:
            self._missing.remove(segment)
        return True

    def ended(self, given: Range) -> int:
        """Note that nobody works on a range any more: it is done, or its worker was lost or stopped.

        Returns:
            How many of its segments are not committed, and will be given out again. After `SegmentsDone`
            there should be none.
        """
        del self._given[given]
        left = [segment for segment in range(*given) if segment not in self._committed]
        self._missing = sorted({*self._missing, *left})
        return len(left)

    def node_lost(self, node: str) -> None:
        """Note that a machine is gone, so that another one may take its place; its ranges end by `ended`."""
        self._nodes.discard(node)
