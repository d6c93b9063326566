"""What the workers of a batch run do now, as the ledger stores it and ``batch status`` shows it."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from analyzer.batch.executors.base import WorkerState, WorkerStatus
from analyzer.batch.ledger import WorkerRow

__all__ = ["Node", "Worker", "by_node", "judged", "rows_of"]

_LEAST = 3
"""Fewer workers than this are not compared."""
_SETTLED_S = 10.0
"""The rate of the first seconds says little."""
_LONG_S = 60.0
_FACTOR = 3.0


@dataclass(frozen=True)
class Worker:
    """A worker, compared with the others."""

    worker: int
    node: str
    pid: int | None
    state: str
    video: int | None
    """Row of the ledger."""
    title: str | None
    """Of the video, or else its source."""
    segments: tuple[int, int] | None
    """The first one and the one after the last, if it analyzes a part of the video."""
    since_s: float
    """How long it has been in this state, in seconds."""
    done_s: float
    """Seconds of video that it has analyzed."""
    expected_s: float | None
    """Seconds of video that it has to analyze; None: unknown."""
    rate: float | None
    """Seconds of video a second; None: it is not working, or has only begun."""
    straggler: str | None = None
    """``slow``: its rate is less than a third of the median; ``long``: it has worked for more than three
    times the median, and for more than a minute."""


@dataclass(frozen=True)
class Node:
    """A machine."""

    node: str
    workers: int
    working: int
    rate: float
    """Seconds of video a second, all workers together."""


def rows_of(statuses: Iterable[WorkerStatus], videos: Mapping[int, int], now: float) -> list[WorkerRow]:
    """Return what the ledger stores about workers.

    Args:
        statuses: From an executor.
        videos: The row of each job's video.
        now: Seconds since 1970.
    """
    return [
        WorkerRow(
            worker=one.worker,
            node=one.node,
            pid=one.pid,
            state=one.state,
            video=None if one.job_id is None else videos.get(one.job_id),
            first_segment=one.segments[0] if one.segments else None,
            end_segment=one.segments[1] if one.segments else None,
            since=now - one.since_s,
            done_s=one.done_s,
            expected_s=one.expected_s,
            seen_at=now,
        )
        for one in statuses
    ]


def judged(rows: Sequence[tuple[WorkerRow, str | None]]) -> list[Worker]:
    """Compare workers with each other: stragglers first, then by machine.

    Args:
        rows: What the ledger stores, each with the title of its video.
    """
    workers = [_worker(row, title) for row, title in rows]
    working = [one for one in workers if one.state == WorkerState.WORKING]
    rates = [one.rate for one in working if one.rate is not None]
    slow = statistics.median(rates) / _FACTOR if len(rates) >= _LEAST else 0.0
    times = [one.since_s for one in working]
    long_s = max(_LONG_S, _FACTOR * statistics.median(times)) if len(times) >= _LEAST else float("inf")
    compared = [_compared(one, slow, long_s) for one in workers]
    return sorted(compared, key=lambda one: (one.straggler is None, one.node, one.worker))


def _worker(row: WorkerRow, title: str | None) -> Worker:
    since_s = max(0.0, row.seen_at - row.since)
    settled = row.state == WorkerState.WORKING and since_s >= _SETTLED_S
    segments = None
    if row.first_segment is not None and row.end_segment is not None:
        segments = row.first_segment, row.end_segment
    return Worker(
        row.worker,
        row.node,
        row.pid,
        row.state,
        row.video,
        title,
        segments,
        round(since_s, 1),
        round(row.done_s, 1),
        row.expected_s,
        round(row.done_s / since_s, 2) if settled else None,
    )


def _compared(worker: Worker, slow: float, long_s: float) -> Worker:
    straggler = None
    if worker.rate is not None and worker.rate < slow:
        straggler = "slow"
    elif worker.state == WorkerState.WORKING and worker.since_s > long_s:
        straggler = "long"
    return replace(worker, straggler=straggler)


def by_node(workers: Iterable[Worker]) -> list[Node]:
    """Add up the workers of each machine, in the order of its name; those that wait for one have none."""
    found: dict[str, list[Worker]] = {}
    for one in workers:
        if one.node:
            found.setdefault(one.node, []).append(one)
    return [
        Node(
            name,
            len(its),
            sum(one.state == WorkerState.WORKING for one in its),
            round(sum(one.rate or 0.0 for one in its), 2),
        )
        for name, its in sorted(found.items())
    ]
