"""Clusters of any size, simulated from measured costs: hours of video an hour, and where the paid time goes.

A discrete-event simulation (SimPy). Which policies apply is decided by the product's own code: the share of a
job (`scheduler.slots_each`), the ranges of a spread video and the machines that get it (`executors.spread`
and `best_place` of `executors.units`), the delay of a retry (`failure_policy.delay_s`). The rest is a model
of the design: one driver that hands out work, receives messages, commits parts and publishes runs, one after
another; actors that analyze; nodes that come late, are slow, and are lost.

All times are in seconds, all amounts of data in MB, unless a name says otherwise.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import simpy

from analyzer.batch.config import Limits, Pace, Retry
from analyzer.batch.executors.spread import LONG_SEGMENTS, Order, Spread, worth_spreading
from analyzer.batch.executors.units import best_place
from analyzer.batch.failure_policy import Failure, delay_s
from analyzer.batch.scheduler import slots_each

__all__ = ["Cluster", "Costs", "Outcome", "Product", "Workload", "simulate"]

HOUR_S = 3600.0
LONGEST_VIDEO_S = 12 * HOUR_S
"""YouTube's limit."""

MOST_STEPS = 50_000
"""Of all actors together: so many messages are told apart, whatever they carry."""

USEFUL = ("analyzing", "opening", "linking")
"""What an actor does that a single machine would do too."""
WASTED = ("starting", "source", "driver", "idle", "lost")
"""Loading; waiting for a file; for the driver; for work; analysis of segments that was lost with a node."""


@dataclass(frozen=True)
class Costs:
    """What the parts of the work cost, as `benchmarks.cluster` measures it."""

    analysis: float = 0.1
    """Seconds of an actor for a second of video."""
    segment_s: float = 60.0
    open_s: float = 0.3
    """To open a video, and to find a place in it."""
    close_s: float = 0.5
    """To link people, derive the tables and write them."""
    link: float = 0.0005
    """The same for a second of video, on top."""
    load_s: float = 8.0
    """From an actor's process to loaded models."""
    message_s: float = 0.0008
    """Of the driver, for a message of an actor: processor time."""
    part_s: float = 0.002
    """Of the driver, for a committed part: processor time, the ledger's row included."""
    job_s: float = 0.02
    """Of the driver, for a video: processor time, from the ledger's row to the published run."""
    sync_s: float = 0.0065
    """To flush a file to the disk."""
    part_syncs: int = 5
    """Files and folders that are flushed for a part."""
    row_syncs: int = 1
    """The same for the rows of a message in the ledger."""
    job_syncs: int = 9
    """The same for a video, without its parts."""
    run_syncs: int = 10
    """Files of a run that are flushed, as parts are."""
    mb_s: float = 0.002
    """Of the driver, for each MB that it sends or receives: processor time."""
    identify_s: float = 0.01
    """Of the driver, to identify a file."""
    source_mb: float = 0.15
    """For a second of video."""
    part_mb: float = 0.1
    """For a segment."""
    run_mb: float = 0.001
    """Of the published run, for a second of video."""


@dataclass(frozen=True)
class Product:
    """How the driver works; the defaults are those of this version."""

    commit_threads: int = 8
    """Threads that write parts; with one, the thread that handles messages does."""
    rows_together: bool = False
    """Whether the rows of all parts of a message are written in one transaction."""
    least_progress_s: float = 0.5
    """Time between two messages of an actor that has nothing else to say."""
    actors_per_s: float = 100.0
    """The most of such messages that the driver wants in a second."""
    spreads_long: bool = True
    """Whether long videos are spread also while others wait; otherwise only if there are fewer videos than
    actors."""
    small_ranges: bool = False
    """Whether ranges are made for all actors, though several videos are spread at once."""
    longest_range: int | None = 30
    """Segments in a range at most; None: any number."""
    drivers: int = 1
    """Drivers with ledgers of their own, each with its share of nodes and videos."""
    near: bool = True
    """Whether videos that must be sent rather stay where they are; otherwise they go to any node."""


@dataclass(frozen=True)
class Cluster:
    """The machines."""

    nodes: int = 10
    actors_per_node: int = 4
    start_s: float = 90.0
    """Median time until a node that was ordered has joined the cluster; it is paid."""
    lifetime_h: float | None = 24.0
    """Mean time until a node is lost; another one is ordered at once. None: nodes stay."""
    notice_s: float = 10.0
    """Until the driver knows that a node is lost."""
    slow_share: float = 0.05
    """Share of nodes that are slow."""
    slow_factor: float = 2.0
    """How much longer they take."""
    noise: float = 0.15
    """Spread of the time that the same work takes: sigma of a lognormal distribution."""
    network_mb_s: float = 1250.0
    """Of the driver, in each direction."""
    shared: bool = True
    """Whether the nodes see the files; otherwise the driver sends them."""


@dataclass(frozen=True)
class Workload:
    """The videos."""

    name: str
    length: Callable[[random.Random], float]
    """Draws a length in seconds."""
    hours: float
    """Of video in all."""
    content: float = 0.4
    """Spread of the time that a second of video takes: sigma of a lognormal distribution."""
    sites: int = 0
    """Sites that the videos are downloaded from; 0: they are files."""
    downloads: int = 1
    """As `Jobs.downloads`."""
    site_mb_s: float = 6.0
    """What a site sends."""
    refused: float = 0.02
    """Share of downloads that fail and are tried again."""

    def videos(self, rng: random.Random) -> list[float]:
        """Lengths in seconds that add up to `hours`."""
        lengths: list[float] = []
        left = self.hours * HOUR_S
        while left > 0:
            lengths.append(min(left, max(1.0, self.length(rng))))
            left -= lengths[-1]
        rng.shuffle(lengths)  # the last one is cut
        return lengths


@dataclass
class Outcome:
    """What came of a simulated batch run."""

    nodes: int
    actors: int
    hours: float = 0.0
    """Of video."""
    videos: int = 0
    wall_s: float = 0.0
    paid_s: float = 0.0
    """Of actors."""
    by: Counter[str] = field(default_factory=Counter)
    """Seconds of actors by what they did: the sum is `paid_s`."""
    busy: dict[str, float] = field(default_factory=dict)
    """Share of the time that the driver's thread, disk and network were busy."""
    segments: int = 0
    """Committed."""
    losses: int = 0
    """Jobs and ranges that a lost node had."""
    sent_mb: float = 0.0

    @property
    def efficiency(self) -> float:
        """Useful time of actors over the time that is paid."""
        return sum(self.by[name] for name in USEFUL) / self.paid_s

    @property
    def rate(self) -> float:
        """Hours of video an hour, from the order of the first node to the last published run."""
        return self.hours / (self.wall_s / HOUR_S)


def simulate(workload: Workload, cluster: Cluster, costs: Costs, product: Product, seed: int = 1) -> Outcome:
    """Simulate a batch run.

    Args:
        workload: The videos.
        cluster: The machines.
        costs: What the parts of the work cost.
        product: How the driver works.
        seed: The same one gives the same outcome.
    """
    if product.drivers > 1:
        return _side_by_side(workload, cluster, costs, product, seed)
    random.seed(seed)  # the product's own jitter
    model = _Model(workload, cluster, costs, product, random.Random(seed))
    return model.run()


def _side_by_side(workload: Workload, cluster: Cluster, costs: Costs, product: Product, seed: int) -> Outcome:
    """Several drivers that share nothing, the last of which ends the run."""
    from dataclasses import replace

    count = product.drivers
    each = [
        simulate(
            replace(workload, hours=workload.hours / count),
            replace(cluster, nodes=cluster.nodes // count),
            costs,
            replace(product, drivers=1),
            seed * 1000 + number,
        )
        for number in range(count)
    ]
    total = Outcome(cluster.nodes, cluster.nodes * cluster.actors_per_node)
    for one in each:
        total.hours += one.hours
        total.videos += one.videos
        total.paid_s += one.paid_s
        total.by += one.by
        total.segments += one.segments
        total.losses += one.losses
        total.sent_mb += one.sent_mb
    total.wall_s = max(one.wall_s for one in each)
    total.busy = {name: sum(one.busy[name] for one in each) / count for name in each[0].busy}
    return total


class _Server:
    """Something that serves one request after another, in `lanes` at once."""

    def __init__(self, lanes: int = 1) -> None:
        self._free = [0.0] * lanes
        self.busy_s = 0.0

    def serve(self, now: float, service_s: float) -> float:
        """When a request that arrives now is done."""
        done = max(now, self._free[0]) + service_s
        heapq.heapreplace(self._free, done)
        self.busy_s += service_s / len(self._free)
        return done


class _Driver:
    """The driver's thread, the disk that it flushes to, and its network in both directions."""

    def __init__(self, costs: Costs, product: Product, network_mb_s: float) -> None:
        self._costs, self._product, self._network_mb_s = costs, product, network_mb_s
        self.thread = _Server()
        self.disk = _Server(product.commit_threads)
        self.sending, self.receiving = _Server(), _Server()
        self.sent_mb = 0.0
        self.working = 0
        """Actors that send progress."""

    def receive(self, now: float, parts: int, mb: float, *, run: bool = False) -> float:
        """When the parts of a message are committed, and the driver asks for the next one."""
        costs, product = self._costs, self._product
        transactions = min(parts, 1) if product.rows_together else parts
        work_s = costs.message_s + parts * costs.part_s + mb * costs.mb_s
        work_s += transactions * costs.row_syncs * costs.sync_s
        written = (parts * costs.part_syncs + run * costs.run_syncs) * costs.sync_s
        arrived = self.receiving.serve(now, mb / self._network_mb_s) + self._lag(now)
        if product.commit_threads == 1:
            return self.thread.serve(arrived, work_s + written)
        return max(self.disk.serve(arrived, written), self.thread.serve(arrived, work_s))

    def account(self, now: float, share: float) -> float:
        """When a share of the work that each video is for the driver is done."""
        costs = self._costs
        return self.thread.serve(now, share * (costs.job_s + costs.job_syncs * costs.sync_s))

    def send(self, now: float, mb: float) -> float:
        """When some data has left."""
        self.sent_mb += mb
        return max(
            self.sending.serve(now, mb / self._network_mb_s), self.thread.serve(now, mb * self._costs.mb_s)
        )

    def _lag(self, now: float) -> float:
        """How long a message waits for the progress of other actors.

        Each actor has one message under way, so even a driver that does nothing else is through with all of
        them in `working * message_s`.
        """
        progress_s = max(self._product.least_progress_s, self.working / self._product.actors_per_s)
        load = self.working * self._costs.message_s / progress_s
        load += self.thread.busy_s / now if now else 0.0
        turns = min(self.working, load / (1 - load)) if load < 1 else self.working
        return turns * self._costs.message_s / 2


@dataclass(eq=False)
class _Job:
    video_s: float
    segment_work_s: float
    """Of an actor as fast as most."""
    segments: int
    mb: float
    left: int
    """Segments that are not committed, unless it is spread."""
    share: int = 1
    """Slots that the scheduler has given to it."""
    spread: Spread | None = None
    holders: dict[int, str] = field(default_factory=dict)
    """Numbers of the actors that were sent it, and their nodes."""

    @property
    def nodes(self) -> set[str]:
        """Those that it was sent to."""
        return set(self.holders.values())


@dataclass(eq=False)
class _Unit:
    """What one actor gets."""

    job: _Job
    kind: str
    """``whole``, ``open``, ``range`` or ``finish``."""
    range: tuple[int, int] = (0, 0)


class _Model:
    def __init__(
        self, workload: Workload, cluster: Cluster, costs: Costs, product: Product, rng: random.Random
    ) -> None:
        self.env = simpy.Environment()
        self.workload, self.cluster, self.costs, self.product, self.rng = (
            workload,
            cluster,
            costs,
            product,
            rng,
        )
        self.driver = _Driver(costs, product, cluster.network_mb_s)
        self.outcome = Outcome(cluster.nodes, cluster.nodes * cluster.actors_per_node)
        lengths = workload.videos(rng)
        self.outcome.videos, self.outcome.hours = len(lengths), sum(lengths) / HOUR_S
        self.jobs = deque(self._job(length) for length in lengths)
        self.unfinished = len(self.jobs)
        self.step = max(1, math.ceil(sum(job.segments for job in self.jobs) / MOST_STEPS))
        """Segments between two messages of an actor: more than one only to save time of the simulation."""
        self.downloaded: deque[_Job] = deque()
        self.running = 0
        self.waiting: deque[_Unit] = deque()
        self.spread: list[_Job] = []
        self.is_reported = False
        """Whether an actor is reporting what it has done."""
        self.sent: set[_Job] = set()
        """Jobs in work whose videos were sent to nodes by the rules."""
        self.idle: deque[_Actor] = deque()
        self.actors: set[_Actor] = set()
        self.nodes: list[_Node] = []
        self.numbers = iter(range(10**9))
        self.done = self.env.event()
        self.wanted = self.env.event()
        """Succeeds when more is to be downloaded or identified."""
        self.is_awaited = False

    def _job(self, video_s: float) -> _Job:
        costs, rng = self.costs, self.rng
        segments = max(1, math.ceil(video_s / costs.segment_s))
        work_s = video_s * costs.analysis * _spread(rng, self.workload.content)
        return _Job(video_s, work_s / segments, segments, video_s * costs.source_mb, segments)

    def run(self) -> Outcome:
        for _ in range(self.cluster.nodes):
            self.order_node()
        if self.workload.sites:
            self._download()
        else:
            self.env.process(self._identify())
        if self.unfinished:
            self.env.run(self.done)
        for node in self.nodes:
            node.end()
        outcome, now = self.outcome, self.env.now
        outcome.wall_s, outcome.sent_mb = now, self.driver.sent_mb
        outcome.paid_s = sum(node.paid_s for node in self.nodes) * self.cluster.actors_per_node
        driver = self.driver
        for name in ("thread", "disk", "sending", "receiving"):
            outcome.busy[name] = getattr(driver, name).busy_s / now
        return outcome

    def order_node(self) -> None:
        self.nodes.append(_Node(self, next(self.numbers)))

    # -- the scheduler

    @property
    def slots(self) -> int:
        return max(1, len(self.actors))

    def _wants_more(self) -> bool:
        return len(self.downloaded) <= self.slots  # as the scheduler

    def _identify(self) -> Iterator[Any]:
        while self.jobs:
            while not self._wants_more():
                self.is_awaited = True
                yield self.wanted
            job = self.jobs.popleft()
            yield from self._is_here(job, self.costs.identify_s)

    def _download(self) -> None:
        lines = simpy.Resource(self.env, self.workload.downloads)
        count = self.workload.sites
        for number in range(count):
            theirs = deque(job for place, job in enumerate(self.jobs) if place % count == number)
            self.env.process(self._site(theirs, lines))
        self.jobs.clear()

    def _site(self, theirs: deque[_Job], lines: simpy.Resource) -> Iterator[Any]:
        env, rng, failed = self.env, self.rng, Counter[_Job]()
        refusal = Failure("unavailable", "the site refused", retry=True)
        while theirs:
            while not self._wants_more():
                self.is_awaited = True
                yield self.wanted
            with lines.request() as line:
                yield line
                job = theirs.popleft()
                yield env.timeout(job.mb / self.workload.site_mb_s)
            if rng.random() < self.workload.refused:
                failed[job] += 1
                wait_s = delay_s(refusal, failed[job] - 1, Retry(), Limits())
                env.process(self._again(job, theirs, wait_s))
            else:
                yield from self._is_here(job)
            yield env.timeout(rng.uniform(*Pace().pause_s))

    def _again(self, job: _Job, theirs: deque[_Job], wait_s: float | None) -> Iterator[Any]:
        if wait_s is None:
            self._ended()
            return
        yield self.env.timeout(wait_s)
        idle = not theirs
        theirs.append(job)
        if idle:  # the site's process has ended
            self.env.process(self._site(theirs, simpy.Resource(self.env, 1)))

    def _is_here(self, job: _Job, identify_s: float = 0.0) -> Iterator[Any]:
        now = self.env.now
        yield self.env.timeout(self.driver.account(now, 0.5) - now + identify_s)
        self.downloaded.append(job)
        self.start_jobs()

    def start_jobs(self) -> None:
        """As the scheduler does."""
        while self.downloaded and self.running < self.slots and self.actors:
            concurrent = min(self.slots, self.running + len(self.downloaded))
            job = self.downloaded.popleft()
            job.share = slots_each(self.slots, concurrent)
            self.running += 1
            self.waiting.append(_Unit(job, "open" if self._may_spread(job) else "whole"))
        if self.is_awaited and self._wants_more():
            self.is_awaited = False
            self.wanted.succeed()
            self.wanted = self.env.event()
        self.offer()

    def _may_spread(self, job: _Job) -> bool:
        """As `spread.may_spread`: whether a video is opened first."""
        return job.share > 1 or (self.product.spreads_long and job.segments >= LONG_SEGMENTS)

    def _is_spread(self, job: _Job) -> bool:
        if job.share == 1 and not self.product.spreads_long:
            return False
        spec: Any = SimpleNamespace(resources=SimpleNamespace(workers=job.share))
        return worth_spreading(spec, job.segments, ())

    def _ended(self) -> None:
        self.unfinished -= 1
        if not self.unfinished:
            self.done.succeed()

    # -- the executor

    def offer(self) -> None:
        """Give idle actors something to do."""
        if not self.cluster.shared and self.product.near:
            if not self.is_reported:  # else it is offered next: the actor that reports is idle, too
                self._offer_near()
            return
        for _ in range(len(self.idle)):
            unit = self.waiting.popleft() if self.waiting else self._next_range(self.idle[0], self.spread)
            if unit is None:
                return
            self.idle.popleft().begin(unit)

    def _offer_near(self) -> None:
        """As the executor does with videos that must be sent: rather to where they are."""
        idle = list(self.idle)
        spread = {job.spread: job for job in self.spread if job.spread is not None}
        for one in spread:
            one.note_idle({actor.node_id for actor in idle})
        kept = {number for job in spread.values() for number in job.holders}
        for unit in list(self.waiting) if idle else ():
            place = best_place(unit.job, self.actors, idle, kept)
            if place is not None:
                self.waiting.remove(unit)
                idle.remove(place)
                self._begin_near(place, unit)
        order = Order(list(spread), others_wait=self.running >= self.slots)
        for actor in idle:
            given = self._next_range(actor, (spread[one] for one in order.of(actor.node_id)))
            if given is not None:
                self._begin_near(actor, given)

    def _begin_near(self, actor: _Actor, unit: _Unit) -> None:
        self.idle.remove(actor)
        self.sent.add(unit.job)
        unit.job.holders[actor.number] = actor.node_id
        actor.begin(unit)

    def _next_range(self, actor: _Actor, jobs: Iterable[_Job]) -> _Unit | None:
        workers = len(self.actors)
        if not self.product.small_ranges:
            workers = max(1, workers // max(1, len(self.spread)))
        for job in jobs:
            assert job.spread is not None
            most = self.product.longest_range
            enough = workers if most is None else max(workers, -(-job.spread.missing // (3 * most)))
            given = job.spread.next(enough, actor.node_id)
            if given is not None:
                if not job.spread.missing:
                    self.spread.remove(job)
                return _Unit(job, "range", given)
        return None

    def ended(self, unit: _Unit) -> None:
        """An actor has done what it was given, and the driver knows."""
        job, self.is_reported = unit.job, True
        if unit.kind == "open" and self._is_spread(job):
            job.spread = Spread(
                job.segments, (), segments_per_copy=self._segments_per_copy(job), nodes=job.nodes
            )
            self.spread.append(job)
        elif unit.kind == "open":
            self.waiting.appendleft(_Unit(job, "whole"))
        elif unit.kind == "range":
            self._range_ended(unit, unit.range[1] - unit.range[0])
        else:
            self.running -= 1
            self.sent.discard(job)
            self._ended()
            if not self.done.triggered:
                self.start_jobs()
        self.offer()
        self.is_reported = False

    def _segments_per_copy(self, job: _Job) -> float | None:
        """As the executor estimates it, but by the real costs."""
        cluster = self.cluster
        if cluster.shared or not self.product.near:
            return None
        return job.mb / cluster.network_mb_s / job.segment_work_s * cluster.actors_per_node

    def _range_ended(self, unit: _Unit, committed: int) -> None:
        job, first = unit.job, unit.range[0]
        assert job.spread is not None
        for segment in range(first, first + committed):
            job.spread.committed(segment)
        if job.spread.ended(unit.range) and job not in self.spread:
            self.spread.insert(0, job)
        if job.spread.is_done:
            self.waiting.appendleft(_Unit(job, "finish"))

    def gone(self, actor: _Actor) -> None:
        """An actor and what it was sent are gone."""
        for job in self.sent:
            job.holders.pop(actor.number, None)

    def lost(self, unit: _Unit, committed: int) -> Iterator[Any]:
        """An actor was lost with its node; what is committed of its unit stays."""
        self.outcome.losses += 1
        yield self.env.timeout(self.cluster.notice_s)
        if unit.kind == "range":
            self._range_ended(unit, committed)
        else:
            if unit.kind == "whole":
                unit.job.left -= committed
            self.waiting.appendleft(unit)
        self.offer()


class _Node:
    """A machine, from its order to its loss."""

    def __init__(self, model: _Model, number: int) -> None:
        self.model, self.number, self.ordered_at = model, number, model.env.now
        self.paid_s: float = 0.0
        self.alive = True
        self.actors: list[_Actor] = []
        self.files: dict[_Job, simpy.Event] = {}
        cluster, rng = model.cluster, model.rng
        self.factor = cluster.slow_factor if rng.random() < cluster.slow_share else 1.0
        self.starts_s = cluster.start_s * _spread(rng, 0.3)
        lifetime_h = cluster.lifetime_h
        self.lives_s = math.inf if lifetime_h is None else rng.expovariate(1 / (lifetime_h * HOUR_S))
        model.env.process(self._live())

    def _live(self) -> Iterator[Any]:
        env = self.model.env
        yield env.timeout(self.starts_s)
        self.actors = [_Actor(self) for _ in range(self.model.cluster.actors_per_node)]
        if self.lives_s < math.inf:
            yield env.timeout(self.lives_s)
            self.end()
            for job in self.model.spread:
                assert job.spread is not None
                job.spread.node_lost(str(self.number))
            self.model.order_node()

    def end(self) -> None:
        """Nothing is paid any more."""
        if not self.alive:
            return
        self.alive = False
        self.paid_s = self.model.env.now - self.ordered_at
        if not self.actors:
            self.model.outcome.by["starting"] += self.paid_s * self.model.cluster.actors_per_node
        for actor in self.actors:
            actor.end()

    def file(self, job: _Job) -> Iterator[Any]:
        """Wait until the source of a job is here: it is sent once to each node."""
        env, driver = self.model.env, self.model.driver
        if job not in self.files:
            self.files[job] = env.timeout(driver.send(env.now, job.mb) - env.now)
        if not self.files[job].processed:
            yield self.files[job]


class _Actor:
    """Two cores of a node with loaded models."""

    def __init__(self, node: _Node) -> None:
        self.node, self.model = node, node.model
        self.node_id, self.number = str(node.number), next(node.model.numbers)
        self.env = node.model.env
        self.model.outcome.by["starting"] += node.starts_s
        self.doing, self.since = "starting", self.env.now
        self.unit: _Unit | None = None
        self.sent_at = 0.0
        """When the driver is ready for the next message."""
        self.unsent = 0
        """Parts that are finished and not in a message yet."""
        self.commits: deque[tuple[float, int]] = deque()
        """When how many parts are committed."""
        self.committed = 0
        self.analyzed_s = 0.0
        """For parts that are not known to be committed."""
        self.begun: simpy.Event = self.env.event()
        self.process = self.env.process(self._work())

    def _does(self, what: str) -> None:
        now = self.env.now
        self.model.outcome.by[self.doing] += now - self.since
        if self.doing == "analyzing":
            self.analyzed_s += now - self.since
        self.doing, self.since = what, now

    def _was(self, what: str, seconds: float) -> None:
        """Some of what was counted as analysis was something else."""
        self.model.outcome.by["analyzing"] -= seconds
        self.model.outcome.by[what] += seconds

    def begin(self, unit: _Unit) -> None:
        """Called by the executor while the actor is idle."""
        self.unit = unit
        self.begun.succeed()

    def end(self) -> None:
        """The node is lost, or the run is over."""
        model, unit = self.model, self.unit
        self._does("ended")
        model.actors.discard(self)
        model.gone(self)
        if self in model.idle:
            model.idle.remove(self)
        if unit is not None:
            model.driver.working -= 1
            if not model.done.triggered:
                self._note_commits()
                # What was analyzed and is not committed is done again.
                done = self.committed + self.unsent + sum(count for _, count in self.commits)
                kept = self.analyzed_s * (self.committed / done) if done else 0.0
                lost_s = max(0.0, self.analyzed_s - kept)
                model.outcome.by["analyzing"] -= lost_s
                model.outcome.by["lost"] += lost_s
                if unit.kind != "finish":  # else its segment is analyzed again
                    model.outcome.segments += self.committed
                self.env.process(model.lost(unit, self.committed))
        if self.process.is_alive and self.env.active_process is not self.process:
            self.process.interrupt()

    def _note_commits(self) -> None:
        while self.commits and self.commits[0][0] <= self.env.now:
            self.committed += self.commits.popleft()[1]

    def _work(self) -> Generator[Any, Any, None]:
        try:
            yield self.env.timeout(self.model.costs.load_s * self.node.factor)
            self.model.actors.add(self)
            while True:
                self._does("idle")
                self.model.idle.append(self)
                self.model.start_jobs()
                if self.unit is None:
                    yield self.begun
                self.begun = self.env.event()
                unit = self.unit
                assert unit is not None
                self.model.driver.working += 1
                yield from self._do(unit)
                self.model.outcome.segments += self.committed
                self.unit = None
                self.model.driver.working -= 1
                self._does("idle")
                self.model.ended(unit)
                if self.model.done.triggered:
                    return
        except simpy.Interrupt:
            return

    def _do(self, unit: _Unit) -> Iterator[Any]:
        job, costs, env, driver = unit.job, self.model.costs, self.env, self.model.driver
        self.unsent = self.committed = 0
        self.analyzed_s = 0.0
        self.commits.clear()
        if not self.model.cluster.shared:
            self._does("source")
            yield from self.node.file(job)
        if unit.kind == "finish":
            self._does("source")
            yield env.timeout(driver.send(env.now, job.segments * costs.part_mb) - env.now)
        driver.thread.serve(env.now, costs.message_s)
        first, last = unit.range
        segments = {"whole": job.left, "open": 0, "range": last - first, "finish": 1}[unit.kind]
        ends = unit.kind in ("whole", "finish")
        open_s = costs.open_s * self.node.factor
        close_s = (costs.close_s + job.video_s * costs.link) * self.node.factor if ends else 0.0
        if segments and segments <= self.model.step:  # the same in one event
            yield from self._analyze(job, segments, open_s + close_s)
            self._was("opening", open_s)
            self._was("linking", close_s)
        else:
            self._does("opening")
            yield env.timeout(open_s)
            yield from self._analyze(job, segments)
            self._does("linking")
            yield env.timeout(close_s)
        self._does("driver")
        if self.sent_at > env.now:
            yield env.timeout(self.sent_at - env.now)
        handled = self._message(job.video_s * costs.run_mb if ends else 0.0)
        if ends:
            handled = max(handled, driver.account(env.now, 0.5))
        yield env.timeout(handled - env.now)
        self._note_commits()

    def _analyze(self, job: _Job, segments: int, more_s: float = 0.0) -> Iterator[Any]:
        step = self.model.step
        factor = self.node.factor * _spread(self.model.rng, self.model.cluster.noise)
        self._does("analyzing")
        while segments:
            count = min(step, segments)
            yield self.env.timeout(count * job.segment_work_s * factor + more_s)
            segments -= count
            self.unsent += count
            self._does("analyzing")
            self._note_commits()
            if self.sent_at <= self.env.now and segments:
                self._message(0.0)

    def _message(self, more_mb: float) -> float:
        """Send what is unsent; returns when the driver has handled it."""
        mb = self.unsent * self.model.costs.part_mb + more_mb
        self.sent_at = self.model.driver.receive(self.env.now, self.unsent, mb, run=more_mb > 0)
        if self.unsent:
            self.commits.append((self.sent_at, self.unsent))
        self.unsent = 0
        return self.sent_at


def _spread(rng: random.Random, sigma: float) -> float:
    """A factor whose median is 1 and whose logarithm has this standard deviation."""
    return rng.lognormvariate(0.0, sigma) if sigma else 1.0
