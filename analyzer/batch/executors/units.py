"""The jobs of a cluster, and the units in which stations do them: which one is next.

Pure: nothing is sent, written or waited for here.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from analyzer.batch.executors.node_files import SourceFile
from analyzer.batch.executors.spread import Spread, may_spread, most_nodes, worth_spreading
from analyzer.batch.protocol import JobEvent, JobSpec, Opened, Progress, Segment
from analyzer.runs.transfer import RunReceiver

__all__ = ["Job", "Unit", "Units"]

_OPEN = 0, 0
"""Of `JobSpec.segments`: open the video, no more."""
_LONGEST_RANGE = 30
"""Segments that a station is given at a time; simulated in `benchmarks/cluster.py`."""
_SPEED = 10.0
"""Seconds of video that a station analyzes in a second, roughly: see docs/cluster.md."""
_SENT_BYTES_PER_S = 5e8
"""What this process sends to all machines together, roughly: half of a network of 10 Gbit/s."""


@dataclass(eq=False)
class Job:
    spec: JobSpec
    folder: Path
    """Of the run."""
    staging: Path
    lock: contextlib.ExitStack
    """Keeps others out of the folder."""
    receiver: RunReceiver | None = None
    """Of the files of its run, which have begun to arrive."""
    ending: JobEvent | None = None
    """Its last event, once no station works on it."""
    losses: int = 0
    """Stations lost since the last new segment."""
    segments: set[int] = field(default_factory=set)
    """Those reported."""
    files: tuple[SourceFile, ...] | None = None
    """The video's; None: not determined yet."""
    sent: bool = False
    """Whether a machine has asked for pieces of them."""
    opened: Opened | None = None
    spread: Spread | None = None
    """Which segments several stations analyze."""
    visited: set[int] = field(default_factory=set)
    """Numbers of the stations that may keep its files for further segments."""
    finishing: bool = False
    """Whether one of them has the whole job now, or is to get it."""
    over: bool = False
    """Whether its last event is on its way to the caller."""

    @property
    def id(self) -> int:
        return self.spec.job_id


@dataclass(eq=False)
class Unit:
    """What a station is given at a time."""

    job: Job
    segments: tuple[int, int] | None = None
    """As in `JobSpec`."""
    number: int = field(default_factory=itertools.count(1).__next__)
    """A station may get several units of one job."""
    opened_before: bool = False
    """Whether the events of a job that begins were emitted."""
    placed: bool = False
    """Whether a station has begun it."""


class Units:
    """All jobs that have not ended, and what of them waits for a station."""

    def __init__(self) -> None:
        self.jobs: dict[int, Job] = {}
        """By their ids, in the order of their submission; also those whose last event was not fetched."""
        self._waiting: deque[Unit] = deque()

    def begin(self, job: Job) -> None:
        """Let the next idle station begin a job."""
        self._waiting.append(Unit(job, _OPEN if may_spread(job.spec) else None))

    def next(self, node: str, stations: int) -> Unit | None:
        """Take what an idle station is to do: jobs in the order of their submission, then segments.

        Args:
            node: Ray's id of its machine.
            stations: How many there are.
        """
        return self._waiting.popleft() if self._waiting else self._next_range(node, stations)

    def _next_range(self, node: str, stations: int) -> Unit | None:
        """Some segments of a job that is spread over several stations."""
        spread = [job for job in self.jobs.values() if job.spread is not None and job.ending is None]
        share = max(1, stations // max(1, len(spread)))
        for copies in (False, True):  # what another station may not finish, if there is nothing else
            for job in spread:
                assert job.spread is not None
                # Longer ranges would let a slow machine finish last.
                workers = max(share, math.ceil(job.spread.missing / _LONGEST_RANGE / 3))
                given = job.spread.backup(node) if copies else job.spread.next(workers, node)
                if given is not None:
                    return Unit(job, given)
        return None

    def note_idle(self, nodes: Collection[str]) -> None:
        """Note which machines have idle stations."""
        for job in self.jobs.values():
            if job.spread is not None:
                job.spread.idle(nodes)

    def node_lost(self, node: str) -> None:
        """Note that no station of a machine is left."""
        for job in self.jobs.values():
            if job.spread is not None:
                job.spread.node_lost(node)

    def hand_back(self, unit: Unit) -> None:
        """Let another station do what one could not."""
        spread = unit.job.spread
        if spread is None or unit.segments is None:
            self._waiting.appendleft(unit)
        else:
            spread.ended(unit.segments)

    def drop(self, job: Job) -> None:
        """Give out nothing more of a job."""
        self._waiting = deque(unit for unit in self._waiting if unit.job is not job)

    def clear(self) -> None:
        """Give out nothing more."""
        self._waiting.clear()

    def committed(self, job: Job, event: Segment) -> list[JobEvent]:
        """Note that a segment is on the disk, perhaps for the second time; returns what is new."""
        if event.segment in job.segments:
            return []
        job.segments.add(event.segment)
        job.losses = 0
        events: list[JobEvent] = [event]
        if job.spread is not None:
            job.spread.committed(event.segment)
            if job.opened is not None and (duration_s := job.opened.duration_s) is not None:
                events.append(Progress(job.id, job.spread.share * duration_s, duration_s))
        return events

    def segments_done(self, unit: Unit, stations_per_node: int) -> None:
        """Note that a station has opened the video of a job, or finished some of its segments.

        Args:
            unit: What it was given.
            stations_per_node: How many stations a machine has.
        """
        job, opened = unit.job, unit.job.opened
        if job.spread is not None and unit.segments is not None:
            job.spread.ended(unit.segments)
        elif opened is not None and worth_spreading(job.spec, opened.expected, opened.completed):
            nodes = _most_nodes(job, opened, stations_per_node) if job.sent else None
            job.spread = Spread(opened.expected or 0, opened.completed, nodes=nodes)

    def finish(self, job: Job) -> bool:
        """Let one station read the end of a video, link its people and publish the run, if all else is done.

        Returns:
            Whether that is next, and was not before.
        """
        if job.finishing or (job.spread is not None and not job.spread.is_done):
            return False
        job.finishing = True
        self._waiting.appendleft(Unit(job, opened_before=True))
        return True


def _most_nodes(job: Job, opened: Opened, stations_per_node: int) -> int:
    """On how many machines to spread a video that each must be sent."""
    return most_nodes(
        (opened.expected or 0) * job.spec.settings.segment_s / _SPEED,
        sum(file.size_bytes for file in job.files or ()),
        bytes_per_s=_SENT_BYTES_PER_S,
        workers_per_node=stations_per_node,
    )
