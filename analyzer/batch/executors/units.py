"""The jobs of a cluster, and the units in which stations do them: which one is next, and where.

Pure: nothing is sent, written or waited for here.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections import Counter, deque
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from analyzer.batch.executors.node_files import SourceFile
from analyzer.batch.executors.spread import Order, Range, Spread, may_spread, worth_spreading
from analyzer.batch.failure_policy import CRASHES, Phase
from analyzer.batch.protocol import Failed, JobEvent, JobSpec, Opened, Progress, Resources, Segment
from analyzer.runs.transfer import RunReceiver

if TYPE_CHECKING:
    from analyzer.batch.executors.ray_downloads import HeldVideo

__all__ = ["Job", "Place", "Unit", "Units", "best_place"]

_OPEN = 0, 0
"""Of `JobSpec.segments`: open the video, no more."""
_LONGEST_RANGE = 30
"""Segments that a station is given at a time; simulated in `benchmarks/cluster.py`."""
_SPEED = 10.0
"""Seconds of video that a station analyzes in a second, roughly: see docs/cluster.md."""
_SENT_BYTES_PER_S = 5e8
"""What this process sends to all machines together, roughly: half of a network of 10 Gbit/s."""
_MOST_FAILED = 3
"""Segments of a video that may end their process before the attempt is given up: the machine may be at fault,
and end all that it is given."""
_OF_A_SEGMENT = frozenset({"crash", "memory", "model", "stalled"})
"""Kinds of failure that say nothing about other segments of the video."""
_LEAST_S = 1.0
"""What is left of a limit is at least so much: without any, there would be no limit."""


@dataclass(eq=False)
class Job:
    """A video to analyze, from its submission to its last event."""

    spec: JobSpec
    folder: Path
    """Of the run."""
    staging: Path
    lock: contextlib.ExitStack
    """Keeps others out of the folder."""
    undrawn: bool = False
    """Whether its run is here, but for the annotated video."""
    receiver: RunReceiver | None = None
    """Of the files of its run, which have begun to arrive."""
    ending: JobEvent | None = None
    """Its last event, once no station works on it."""
    losses: int = 0
    """Stations lost since the last new segment; those that a machine loses at once count as one."""
    lost_with: set[Unit] = field(default_factory=set)
    """Units in work on the machines of these stations when they were lost."""
    segments: set[int] = field(default_factory=set)
    """Those reported."""
    files: tuple[SourceFile, ...] | None = None
    """The video's; None: not determined yet."""
    held: HeldVideo | None = None
    """The video on the machine that has downloaded it; None: this one has it."""
    sent: bool = False
    """Whether a machine has asked for pieces of them."""
    opened: Opened | None = None
    spread: Spread | None = None
    """Which segments several stations analyze."""
    failure: Failed | None = None
    """Of the first of its segments that has failed, while others are analyzed."""
    holders: dict[int, str] = field(default_factory=dict)
    """Stations that may keep its files for further segments, by number: Ray's ids of their machines."""
    cpu_s: dict[int, float] = field(default_factory=dict)
    """Processor time that its units have taken so far, by their numbers."""
    worked_s: float = 0.0
    """Time by the clock during which at least one station analyzed it."""
    finishing: bool = False
    """Whether one of them has the whole job now, or is to get it."""
    over: bool = False
    """Whether its last event is on its way to the caller."""

    @property
    def id(self) -> int:
        """Of the `JobSpec`."""
        return self.spec.job_id

    @property
    def nodes(self) -> set[str]:
        """Ray's ids of the machines that have its files, if those do not see them."""
        home = set() if self.held is None else {self.held.node_id}
        return home | set(self.holders.values()) if self.sent else home

    def left(self) -> Resources:
        """Its limits, without what its units have used of them."""
        limits = self.spec.resources
        cpu_s, wall_s = limits.cpu_s, limits.wall_s
        if cpu_s is not None:
            cpu_s = max(_LEAST_S, cpu_s - sum(self.cpu_s.values()))
        if wall_s is not None:
            wall_s = max(_LEAST_S, wall_s - self.worked_s)
        return replace(limits, cpu_s=cpu_s, wall_s=wall_s)

    def exceeded(self) -> Failed | None:
        """Its last event if it has used more than its limits allow; None: it has not."""
        limits = self.spec.resources
        if limits.cpu_s is not None and sum(self.cpu_s.values()) > limits.cpu_s:
            return Failed(self.id, "cpu_limit", Phase.ANALYZE, CRASHES["cpu_limit"])
        if limits.wall_s is not None and self.worked_s > limits.wall_s:
            return Failed(self.id, "time_limit", Phase.ANALYZE, CRASHES["time_limit"])
        return None


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

    @property
    def is_shared(self) -> bool:
        """Whether its job has other units."""
        return self.segments is not None or self.job.spread is not None


class Place(Protocol):
    """A station."""

    number: int
    unit: Unit | None
    """What it works on."""

    @property
    def node_id(self) -> str:
        """Ray's id of its machine."""


_P = TypeVar("_P", bound=Place)
_A = TypeVar("_A", bound=Any)


class Units:
    """All jobs that have not ended, and what of them waits for a station."""

    def __init__(self) -> None:
        self.jobs: dict[int, Job] = {}
        """By their ids, in the order of their submission; also those whose last event was not fetched."""
        self._waiting: deque[Unit] = deque()

    def begin(self, job: Job) -> None:
        """Let a station begin a job."""
        first = _OPEN if not job.undrawn and may_spread(job.spec) else None
        self._waiting.append(Unit(job, first))

    def assign(self, places: Sequence[_P], idle: Iterable[_P]) -> Iterator[tuple[_P, Unit]]:
        """Choose what idle stations are to do: jobs in the order of their submission, then segments.

        Args:
            places: All stations.
            idle: Those that can begin something now. They have it when the next one is asked for.
        """
        free = list(idle)
        nodes = {place.node_id for place in free}
        for job in self.jobs.values():
            if job.spread is not None:
                job.spread.note_idle(nodes)
        kept = self._kept()
        for unit in list(self._waiting) if free else ():
            place = best_place(unit.job, places, free, kept)
            if place is not None:
                self._waiting.remove(unit)
                free.remove(place)
                yield place, unit
        alive = [job for job in self.jobs.values() if job.ending is None]
        jobs = {job.spread: job for job in alive if job.spread is not None}
        order = Order(list(jobs), others_wait=len(alive) >= len(places))
        share = max(1, len(places) // max(1, len(jobs)))
        for place in free:
            if (given := _next_range(jobs, order, place.node_id, share)) is not None:
                yield place, given

    def _kept(self) -> set[int]:
        """Numbers of the stations that have files of jobs with further segments for them."""
        sent = [job for job in self.jobs.values() if job.sent and job.ending is None]
        with_more = [job for job in sent if job.spread is not None and job.spread.missing]
        return {number for job in with_more for number in job.holders}

    def begun(self, unit: Unit, place: Place) -> None:
        """Note that a station has what it needs for its unit."""
        unit.placed = True
        if unit.is_shared:
            unit.job.holders[place.number] = place.node_id

    @staticmethod
    def lost(unit: Unit, node_id: str, others: Iterable[Place]) -> int:
        """Note that a station was lost during a unit.

        Args:
            unit: What it worked on.
            node_id: Ray's id of its machine.
            others: The stations that are left, perhaps not for long: the whole machine may be gone.

        Returns:
            `Job.losses`.
        """
        job = unit.job
        if unit in job.lost_with:
            job.lost_with.remove(unit)
            return job.losses
        job.losses += 1
        working = [other.unit for other in others if other.node_id == node_id and other.unit is not None]
        job.lost_with.update(one for one in working if one.job is job)
        return job.losses

    def place_lost(self, place: Place, others: Iterable[Place]) -> None:
        """Note that a station is gone."""
        is_last = place.node_id not in {other.node_id for other in others}
        for job in self.jobs.values():
            job.holders.pop(place.number, None)
            if is_last and job.spread is not None:
                job.spread.node_lost(place.node_id)

    def hand_back(self, unit: Unit) -> None:
        """Let another station do what one could not."""
        spread = unit.job.spread
        unit.placed = False
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
        job.lost_with.clear()
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
            per_copy = _segments_per_copy(job, stations_per_node) if job.nodes else None
            job.spread = Spread(
                opened.expected or 0, opened.completed, segments_per_copy=per_copy, nodes=job.nodes
            )

    def failed(self, unit: Unit, failure: Failed) -> bool:
        """Note that the process which analyzed some segments has died, or was ended.

        As in the processes of one machine, that ends the attempt, and the next one continues from what is
        committed; only it ends when other stations have done what they can, so that no work is lost, and one
        failure is counted however many there are.

        Returns:
            Whether the attempt goes on for now.
        """
        job, segments = unit.job, unit.segments
        if job.spread is None or segments is None or failure.kind not in _OF_A_SEGMENT:
            return False
        if job.spread.crashed(segments) is not None:
            job.failure = job.failure or failure
        return True

    @staticmethod
    def note_cpu(unit: Unit, cpu_s: float) -> None:
        """Note how much processor time a unit has taken so far, in seconds."""
        if unit.is_shared:
            unit.job.cpu_s[unit.number] = cpu_s

    def note_time(self, seconds: float, working: Iterable[Place]) -> None:
        """Note that time has passed.

        Args:
            seconds: How much.
            working: Stations that analyzed meanwhile.
        """
        for job in {place.unit.job for place in working if place.unit is not None}:
            if job.spread is not None:  # else its station has the time
                job.worked_s += seconds

    def exceeding(self) -> list[tuple[Job, Failed]]:
        """The spread jobs that have used more than their limits allow, with their last events."""
        alive = [job for job in self.jobs.values() if job.ending is None]
        # A station has what is left for the end of a job, which may be being published.
        spread = [job for job in alive if job.spread is not None and not job.finishing]
        return [(job, failure) for job in spread if (failure := job.exceeded()) is not None]

    def hopeless(self, job: Job) -> Failed | None:
        """The last event of a job of which nothing is left but segments that failed, or too many did."""
        spread = job.spread
        if spread is None or job.failure is None or not spread.failed:
            return None
        return job.failure if spread.is_stuck or spread.failed >= _MOST_FAILED else None

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


def _next_range(jobs: Mapping[Spread, Job], order: Order, node: str, share: int) -> Unit | None:
    """Some segments for a station of a machine, of a job that is spread over several stations."""
    for copies in (False, True):  # what another station may not finish, if there is nothing else
        for spread in order.of(node):
            # Longer ranges would let a slow machine finish last.
            workers = max(share, math.ceil(spread.missing / _LONGEST_RANGE / 3))
            given: Range | None = spread.backup(node) if copies else spread.next(workers, node)
            if given is not None:
                return Unit(jobs[spread], given)
    return None


def best_place(job: Any, places: Collection[_A], idle: Sequence[_A], kept: Container[int]) -> _A | None:
    """Choose the station for a job, or for the end of one.

    Where a video was sent it stays. Otherwise, the machine with the fewest jobs gets it, and rather not a
    station that has another video with segments for it.

    Args:
        job: A `Job`, or in a simulation what has the same `Job.nodes`.
        places: All stations.
        idle: Those that can begin it.
        kept: Numbers of the stations that have other videos.

    Returns:
        The station; None: there is none, or one with the video is worth waiting for.
    """
    if not idle:
        return None
    if job.nodes:
        near = [place for place in idle if place.node_id in job.nodes]
        if not near and any(place.unit is not None and place.unit.job is job for place in places):
            return None  # they are about to end: all segments are finished
        idle = near or idle
    load = Counter(place.node_id for place in places if place.unit is not None)
    return min(idle, key=lambda place: (place.number in kept, load[place.node_id]))


def _segments_per_copy(job: Job, stations_per_node: int) -> float:
    """How many segments of a video a machine analyzes while this one sends it a copy."""
    copy_s = max(1, sum(file.size_bytes for file in job.files or ())) / _SENT_BYTES_PER_S
    return copy_s * _SPEED * stations_per_node / job.spec.settings.segment_s
