"""Jobs on the machines of a Ray cluster.

An actor for each slot, see `analyzer.batch.executors.station`. This process decodes nothing and writes all
results, see `analyzer.batch.executors.commits`. So an actor, a machine or this process may end at any moment:
another actor continues from the segments that are committed here.

Nothing is left to Ray's own retries: an actor that it restarted would come back without its job, and a call
that it repeated might run twice.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for_futures
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from analyzer.batch.config import Jobs
from analyzer.batch.executors.actors import Actor, answers, start, status
from analyzer.batch.executors.base import WorkerState, WorkerStatus, check_capacity
from analyzer.batch.executors.commits import Prepared, Stored, prepare, store
from analyzer.batch.executors.local import Prepare
from analyzer.batch.executors.ray_cluster import (
    Needs,
    cause_of,
    connect,
    differing,
    living_nodes,
    probe,
    room,
)
from analyzer.batch.executors.ray_downloads import HeldVideo, RayDownloads
from analyzer.batch.executors.station import Assignment, Facts, models_hash_here
from analyzer.batch.executors.units import Job, Unit, Units
from analyzer.batch.failure_policy import CRASHES, Phase, failure_of
from analyzer.batch.protocol import (
    FINAL,
    Done,
    Failed,
    JobEvent,
    JobSpec,
    Logged,
    Moved,
    Opened,
    Placed,
    Progress,
    Ready,
    Segment,
    SegmentsDone,
    SourceLost,
    Stopped,
    encode,
)
from analyzer.batch.worker import published_run
from analyzer.errors import ClusterError, MediaErrorKind, OutputError
from analyzer.runs.folders import run_folder
from analyzer.runs.run import undrawn_run
from analyzer.runs.segments import PartStore
from analyzer.settings import Settings
from analyzer.util.locks import run_lock

__all__ = ["RayExecutor", "ray_executor"]

log = logging.getLogger(__name__)

_LOOK_UP_S = 3.0
"""How often to ask which machines there are."""
_POLL_S = 5.0
"""How often a station answers that has nothing to report."""
_SILENT_S = 60.0
"""A station that has not answered for so long is lost."""
_SUBMIT_S = 600.0
"""Likewise, while it is sent a job with its segments."""
_CANCEL_S = 1.5
"""A station whose job is canceled is ended after this time; its own process is, a little earlier."""
_CLOSE_S = 2.0
_MAX_LOSSES = 5
"""A job with so many `Job.losses` is held to be the cause."""
_MAX_START_LOSSES = 3
"""Stations that end before they have answered once, one after another, will not start at all."""
_WRITERS = 8
"""Threads that write finished segments: each waits for the disk most of the time."""
_ACTORS_PER_S = 100
"""Among so many actors, each reports its progress once a second at most."""
_PROGRESS_S = 0.5
_STORING_S = 0.01
_MEDIA_KINDS = frozenset(MediaErrorKind)


def ray_executor(jobs: Jobs) -> RayExecutor:
    """Make an executor that fits jobs, and check all machines of its cluster.

    Raises:
        ClusterError: The cluster cannot be used, or its machines differ from this one.
    """
    chosen = jobs.executor
    executor = RayExecutor(
        jobs.workers,
        cpus=chosen.cpus,
        memory_mb=chosen.memory_mb,
        gpus=chosen.gpus,
        address=chosen.address,
        source=chosen.source,
        fetch=chosen.fetch,
        scratch=None if chosen.scratch is None else Path(chosen.scratch),
    )
    try:
        executor.check(source.settings for source in jobs.sources)
    except BaseException:
        executor.close()
        raise
    return executor


class RayExecutor:
    """An `Executor` with an actor for each slot.

    Args:
        slots: How many; 0: as many as the cluster has room for, looked up again as machines come and go.
        cpus: Processors of each, and threads of its process.
        memory_mb: Memory that each takes of its machine, in MB; limits of jobs are set apart from it.
        gpus: GPUs of each.
        address: As in `analyzer.batch.executors.ray_cluster.connect`.
        source: How videos reach the machines: ``shared``: at the same path; ``send``: through this process;
            ``auto``: at the same path where the same file is found there.
        fetch: What downloads: ``driver``: nothing on the machines; ``workers``: they do.
        scratch: Folder for files on the machines; None: the system's temporary folder.
        prepare: As in `LocalExecutor`.

    Raises:
        ClusterError: The cluster cannot be used.
    """

    def __init__(
        self,
        slots: int,
        *,
        cpus: int,
        memory_mb: int,
        gpus: float = 0,
        address: str = "auto",
        source: str = "auto",
        fetch: str = "driver",
        scratch: Path | None = None,
        prepare: Prepare | None = None,
    ) -> None:
        self._needs = Needs(cpus, memory_mb, gpus)
        self._configured = slots
        self._source = source
        self._station = None if scratch is None else str(scratch), prepare
        self._units = Units()
        self._actors: list[Actor] = []
        self._numbers = itertools.count(1)
        self._models: dict[str, str] = {}
        """Hashes of the models on this machine, by those of the settings."""
        self._refused: dict[str, str] = {}
        """Why machines cannot be used, by Ray's ids."""
        self._start_losses, self._why_lost = 0, ""
        self._out: deque[JobEvent] = deque()
        self._writers = ThreadPoolExecutor(_WRITERS, thread_name_prefix="ray-executor")
        self._inside = self._closed = False
        self._connected = connect(address, cpus * slots or max(cpus, os.cpu_count() or 1))
        self._downloads: RayDownloads | None = None
        if fetch == "workers":
            self._downloads = RayDownloads(self._needs, self._station[0], self._usable, self._idle)
        self._given: dict[Any, tuple[Actor, Unit]] = {}
        """Calls that give stations pieces of videos, to whom and for what."""
        self._looked_up = self._watched_at = time.monotonic()
        self._slots = slots or 1
        try:
            self._look_up()
        except BaseException:
            self.close()
            raise

    # -- as in `Executor`

    @property
    def slots(self) -> int:
        """As in `Executor`; it changes as machines come and go, unless it is configured."""
        return self._slots

    @property
    def threads(self) -> int:
        """As in `Executor`."""
        return self._slots * self._needs.cpus

    @property
    def downloader(self) -> RayDownloads | None:
        """As in `Executor`."""
        return self._downloads

    def check(self, settings: Iterable[Settings]) -> list[Facts]:
        """Check all machines before any work.

        Args:
            settings: Whose models each machine must have.

        Returns:
            What was found on each machine that can be used.

        Raises:
            ClusterError: A machine has other versions or models, or none has room for a station.
        """
        return probe(self._needs, list({one.result_hash(): one for one in settings}.values()))

    def submit(self, spec: JobSpec) -> None:
        """As in `Executor`."""
        check_capacity(self.slots, len(self._units.jobs))
        video = spec.video
        paths = tuple(path.absolute() for path in video.paths)
        audio = None if video.audio_path is None else video.audio_path.absolute()
        spec = replace(spec, video=replace(video, paths=paths, audio_path=audio), out=spec.out.absolute())
        folder = run_folder(spec.out, video.title, video.video_id)
        job = self._units.jobs[spec.job_id] = Job(spec, folder, Path(), contextlib.ExitStack())
        if self._downloads is not None and paths and (held := self._downloads.held(paths[0].parent)):
            job.held, job.files = held, held.files
        try:
            if (published := published_run(spec)) is not None:
                self._out.append(Ready(spec.job_id))
                self._end(job, published)
                return
            job.staging = job.lock.enter_context(run_lock(folder))
            hashes = {"settings_hash": spec.settings_hash, "models_hash": spec.models_hash}
            job.undrawn = spec.settings.video and undrawn_run(folder, video, hashes) is not None
        except OutputError as error:
            self._fail(job, error)
            return
        self._units.begin(job)  # `events` gives it to a station

    def events(self, timeout_s: float) -> Iterator[JobEvent]:
        """As in `Executor`.

        Raises:
            ClusterError: The cluster does not answer any more; all jobs have stopped.
        """
        if not self._out and not self._closed:
            self._inside = True
            try:
                self._step(timeout_s)
            except (RayError, ConnectionError) as error:
                self._stop_all()
                raise ClusterError(
                    f"the cluster does not answer any more ({cause_of(error)}): run the same command again"
                ) from error
            finally:
                self._inside = False
        while self._out:
            event = self._out.popleft()
            if isinstance(event, FINAL):
                del self._units.jobs[event.job_id]
            yield event

    def _stop_all(self) -> None:
        """Without a cluster nothing works on any job; finished segments are on the disk."""
        for actor in self._actors:
            if actor.storing is not None and actor.unit is not None:  # no folder is given away meanwhile
                for event in actor.storing.result().events:
                    self._published(actor.unit.job, event)
        self._actors.clear()
        self._units.clear()
        for job in [each for each in self._units.jobs.values() if not each.over]:
            self._end(job, Stopped(job.id))

    def workers(self) -> list[WorkerStatus]:
        """As in `Executor`."""
        return [status(actor) for actor in self._actors]

    def cancel(self, job_id: int) -> None:
        """As in `Executor`."""
        job = self._units.jobs.get(job_id)
        if job is not None and job.ending is None:
            self._end(job, Stopped(job_id))

    def close(self) -> None:
        """As in `Executor`; actors are killed, and with them their processes."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(Exception):  # the cluster may be gone
            if not self._inside:  # else this is a signal handler: everything ends at once
                asked = [actor.handle.close.remote() for actor in self._actors if actor.facts is not None]
                if asked:
                    ray.wait(asked, num_returns=len(asked), timeout=_CLOSE_S)
            for actor in self._actors:
                ray.kill(actor.handle)
            if self._downloads is not None:
                self._downloads.close(at_once=self._inside)
        self._writers.shutdown(wait=not self._inside, cancel_futures=True)
        self._out.clear()
        for job in self._units.jobs.values():
            job.lock.close()
        self._units.jobs.clear()
        self._units.clear()
        self._actors.clear()
        if self._connected:
            ray.shutdown()

    # -- one step

    def _step(self, timeout_s: float) -> None:
        if time.monotonic() - self._looked_up > _LOOK_UP_S:
            self._look_up()
        self._assign()
        if not self._out:
            self._receive(timeout_s)
            self._watch()
            self._assign()

    def _look_up(self) -> None:
        """See how many slots there are now, and start the stations that are missing."""
        self._looked_up = time.monotonic()
        nodes = living_nodes()
        usable = [node for node in nodes if node["NodeID"] not in self._refused]
        self._slots = self._configured or max(1, room(self._needs, usable))
        # Also for the rest of their segments.
        waiting = any(job.ending is None for job in self._units.jobs.values())
        if waiting and all(actor.facts is None for actor in self._actors):
            if self._start_losses >= _MAX_START_LOSSES:
                self._give_up(f"no worker can start on the cluster: {self._why_lost}")
            elif self._refused and not room(self._needs, usable) and room(self._needs, nodes):
                self._give_up(next(iter(self._refused.values())))
        alive = {node["NodeID"] for node in nodes}
        for actor in list(self._actors):  # nothing else says so of one that is idle
            if actor.state is WorkerState.IDLE and actor.facts and actor.facts.node_id not in alive:
                self._remove(actor)
        self._looked_up = time.monotonic()
        surplus = len(self._actors) - self._slots
        for actor in [each for each in self._actors if each.state is WorkerState.PENDING][: max(0, surplus)]:
            self._remove(actor)
        for _ in range(self._slots - len(self._actors)):
            actor = start(next(self._numbers), self._needs, self._refused, *self._station)
            self._actors.append(actor)

    def _usable(self) -> list[dict[str, Any]]:
        """The machines that have room for stations and are not refused; called by other threads too."""
        nodes = [node for node in living_nodes() if node["NodeID"] not in self._refused]
        return [node for node in nodes if self._needs.fit(node["Resources"])]

    def _idle(self) -> set[str]:
        """The machines with idle stations."""
        return {actor.node_id for actor in self._actors if actor.state is WorkerState.IDLE}

    def _assign(self) -> None:
        """Give idle stations something to do: jobs in the order of their submission, then segments."""
        idle = [actor for actor in self._actors if actor.state is WorkerState.IDLE]
        for actor, unit in self._units.assign(self._actors, idle) if idle else ():
            actor.unit, actor.done_s, actor.expected_s = unit, 0.0, None
            actor.become(WorkerState.STARTING)
            if unit.segments is None or unit.job.files is None:  # a video may be a folder of many images
                actor.preparing = self._writers.submit(prepare, unit)
            else:
                self._send(actor, unit, Prepared(unit.job.files))

    def _prepared(self, actor: Actor, preparing: Future[Prepared]) -> None:
        """What goes with a unit is ready to be sent."""
        actor.preparing = None
        assert actor.unit is not None
        try:
            prepared = preparing.result()
        except Exception as error:  # noqa: BLE001 - it fails its job and no other
            job, actor.unit, actor.unwanted_at = actor.unit.job, None, None
            actor.become(WorkerState.IDLE)
            self._fail(job, error)
            self._settle(job)
        else:
            actor.unit.job.files = prepared.files
            self._send(actor, actor.unit, prepared)

    def _send(self, actor: Actor, unit: Unit, prepared: Prepared) -> None:
        more = [ray.put(list(each)) if each else [] for each in (prepared.parts, prepared.run)]
        actor.heard = time.monotonic()
        actor.call = actor.handle.submit.remote(self._assignment(unit, prepared), *more)

    def _assignment(self, unit: Unit, prepared: Prepared) -> Assignment:
        job, settings = unit.job, unit.job.spec.settings
        threads = min(self._needs.cpus, settings.threads or self._needs.cpus)
        resources = replace(job.left(), workers=1, threads=threads)
        spec = replace(job.spec, resources=resources, segments=unit.segments)
        if spec.settings_hash not in self._models:
            self._models[spec.settings_hash] = models_hash_here(settings)
        expected = self._models[spec.settings_hash]
        corrections, files = prepared.corrections, prepared.files
        delivery = self._source if job.held is None else "send"
        return Assignment(unit.number, encode(spec), expected, corrections, files, delivery)

    # -- answers

    def _receive(self, timeout_s: float) -> None:
        calls = {actor.call: actor for actor in self._actors if actor.call is not None}
        storing: list[Future[Any]] = [
            future
            for actor in self._actors
            for future in (actor.storing, actor.preparing)
            if future is not None
        ]
        wait_s = min(timeout_s, _STORING_S) if storing else timeout_s
        if calls:
            ready, _ = ray.wait(list(calls), num_returns=1, timeout=wait_s)
            if ready:  # one after another would cost this process several times as much
                ready, _ = ray.wait(list(calls), num_returns=len(calls), timeout=0)
            for call, answer in zip(ready, answers(ready), strict=True):
                self._answered(calls[call], answer)
        elif storing:
            wait_for_futures(storing, wait_s)
        else:
            time.sleep(wait_s)
        for actor in list(self._actors):
            if actor.storing is not None and actor.storing.done():
                self._stored(actor, actor.storing.result())
            elif actor.preparing is not None and actor.preparing.done():
                self._prepared(actor, actor.preparing)

    def _answered(self, actor: Actor, answer: Any) -> None:
        actor.call = None
        if isinstance(answer, RayError):
            self._lost(actor, cause_of(answer))
            return
        actor.heard = time.monotonic()
        if actor.facts is None:
            self._started(actor, answer)
        elif isinstance(answer, list):
            assert actor.unit is not None
            actor.storing = self._writers.submit(store, actor.unit, answer)
        elif answer is not None:
            self._refuse(actor, f"{actor.node} {answer}")
        else:
            self._begun(actor)

    def _started(self, actor: Actor, found: Facts) -> None:
        actor.facts, self._start_losses = found, 0
        refused = self._refused.get(found.node_id)  # meanwhile
        if (problem := found.problem or differing(found) or refused) is not None:
            self._refuse(actor, problem)
        else:
            actor.become(WorkerState.IDLE)

    def _begun(self, actor: Actor) -> None:
        """The station has begun its job."""
        assert actor.unit is not None
        unit = actor.unit
        self._units.begun(unit, actor)  # also if its job has ended: the station may have got the video
        if unit.job.ending is None:
            self._out.append(Placed(unit.job.id, actor.node, unit.segments))
        self._poll(actor)

    def _poll(self, actor: Actor) -> None:
        progress_s = max(_PROGRESS_S, len(self._actors) / _ACTORS_PER_S)
        actor.call = actor.handle.poll.remote(_POLL_S, progress_s)

    def _stored(self, actor: Actor, stored: Stored) -> None:
        """What a station has reported is on the disk."""
        actor.storing = None
        actor.heard = time.monotonic()
        assert actor.unit is not None
        unit, ended = actor.unit, False
        for piece in stored.pieces:
            self._given[actor.handle.give.remote(unit.number, piece)] = actor, unit
        for event in stored.events:
            if isinstance(event, FINAL):
                ended = True
                actor.unit, actor.unwanted_at = None, None
                actor.become(WorkerState.IDLE)
            self._reported(actor, unit, event)
        if stored.error is not None:
            self._fail(unit.job, stored.error)
        if ended:
            self._settle(unit.job)
        else:
            self._poll(actor)

    def _reported(self, actor: Actor, unit: Unit, event: JobEvent) -> None:
        job = unit.job
        match event:
            case Ready():
                actor.become(WorkerState.WORKING)
            case Progress():
                actor.done_s, actor.expected_s = event.time_s, event.duration_s
                self._units.note_cpu(unit, event.cpu_s)
            case SegmentsDone():
                self._units.note_cpu(unit, event.cpu_s)
        if job.ending is not None:
            self._published(job, event)
        elif isinstance(event, SegmentsDone) or (isinstance(event, Stopped) and unit.segments is not None):
            self._segments_done(unit)
        elif isinstance(event, Failed) and (event.kind == "no_space" or event.phase is Phase.LOAD):
            problem = f"{actor.node} cannot analyze videos: {event.error}"  # this or any other
            self._out.append(Moved(job.id, actor.node, problem))
            self._refuse(actor, problem)
            self._hand_back(unit)
        elif isinstance(event, Failed) and self._units.failed(unit, event):
            problem = f"a segment has failed, while others go on: {event.error}"
            self._out.append(Logged(job.id, "WARNING", __name__, problem, actor.node))
            self._continue(job)
        elif isinstance(event, FINAL):
            if isinstance(event, Failed) and event.kind in _MEDIA_KINDS:
                PartStore(job.folder, "").clear()  # another attempt would end the same way
            self._end(job, event)
        else:
            self._goes_on(actor, unit, event)

    @staticmethod
    def _published(job: Job, event: JobEvent) -> None:
        """Note that a run is here, though its job is to stop: that was too late."""
        if isinstance(event, Done) and isinstance(job.ending, Stopped | None):
            job.ending = event

    def _goes_on(self, actor: Actor, unit: Unit, event: JobEvent) -> None:
        job = unit.job
        match event:
            case Segment():
                self._segment(job, event)
            case Ready() | Opened() | Progress() if job.spread is not None:
                pass  # of some of its segments
            case Ready() | Opened() if unit.opened_before:
                pass
            case Logged():
                self._out.append(replace(event, node=actor.node))
            case Opened():
                job.opened = event
                self._out.append(event)
            case _:
                self._out.append(event)

    def _segment(self, job: Job, event: Segment) -> None:
        """A segment is on the disk."""
        self._out.extend(self._units.committed(job, event))
        if job.spread is not None:
            self._continue(job)

    def _segments_done(self, unit: Unit) -> None:
        """A station has opened the video of a job, or finished some of its segments."""
        nodes = {actor.node_id for actor in self._actors if actor.facts is not None}
        self._units.segments_done(unit, math.ceil(len(self._actors) / max(1, len(nodes))))
        self._continue(unit.job)

    def _continue(self, job: Job) -> None:
        """Let one station do the rest of a job, or end it, if there is nothing else to do."""
        if self._units.finish(job):
            for actor in self._working_on(job):  # on copies of what is finished
                self._stop(actor)
        elif (failure := self._units.hopeless(job)) is not None:
            self._end(job, failure)

    def _hand_back(self, unit: Unit) -> None:
        """Let another station do what one could not."""
        self._units.hand_back(unit)
        if unit.job.spread is not None:
            self._continue(unit.job)

    # -- ends of jobs

    def _fail(self, job: Job, error: Exception) -> None:
        failure = failure_of(error, Phase.ANALYZE)
        self._end(job, Failed(job.id, failure.kind, failure.phase, failure.error))

    def _end(self, job: Job, event: JobEvent) -> None:
        """End a job by an event, whatever its stations do."""
        if job.ending is None:
            job.ending = event
        self._units.drop(job)
        for actor in self._working_on(job):
            self._stop(actor)
        self._settle(job)

    def _stop(self, actor: Actor) -> None:
        """What the station does is of no use any more."""
        if actor.preparing is not None:  # it has not been given anything yet
            actor.preparing, actor.unit = None, None
            actor.become(WorkerState.IDLE)
        elif actor.unwanted_at is None and actor.unit is not None:
            actor.unwanted_at = time.monotonic()
            with contextlib.suppress(RayError, ConnectionError):  # `events` says that the cluster is gone
                actor.handle.cancel.remote(actor.unit.number)

    def _working_on(self, job: Job) -> list[Actor]:
        return [actor for actor in self._actors if actor.unit is not None and actor.unit.job is job]

    def _settle(self, job: Job) -> None:
        """Emit the last event of a job that has ended, once no station works on it."""
        if job.ending is not None and not job.over and not self._working_on(job):
            job.over = True
            job.lock.close()  # whoever receives the event may lock the folder
            self._out.append(job.ending)
            for actor in self._actors:
                if actor.number in job.holders:
                    with contextlib.suppress(RayError, ConnectionError):
                        actor.handle.release.remote(job.id)

    # -- lost stations

    def _watch(self) -> None:
        """End stations that do not answer, or go on with what is of no use."""
        self._check_given()
        now = time.monotonic()
        working = [actor for actor in self._actors if actor.state is WorkerState.WORKING]
        self._units.note_time(now - self._watched_at, working)
        self._watched_at = now
        for job, failure in self._units.exceeding():
            self._end(job, failure)
        for actor in list(self._actors):
            if actor.storing is not None:
                continue  # a run that is being published is there, and no folder is given away meanwhile
            if actor.unwanted_at is not None and now - actor.unwanted_at > _CANCEL_S:
                self._drop(actor)
            elif actor.call is not None and actor.unit is not None:
                patience_s = _SILENT_S if actor.unit.placed else _SUBMIT_S
                if now - actor.heard > patience_s:
                    self._lost(actor, f"it did not answer for {patience_s:g} s")

    def _check_given(self) -> None:
        """See to pieces of videos that did not arrive: their stations wait for them."""
        if not self._given:
            return
        ready, _ = ray.wait(list(self._given), num_returns=len(self._given), timeout=0)
        for call, answer in zip(ready, answers(ready), strict=True):
            actor, unit = self._given[call]
            if isinstance(answer, RayError) and actor.unit is unit and actor.storing is not None:
                continue  # what it has reported comes first
            del self._given[call]
            if not isinstance(answer, RayError) or unit.job.ending is not None:
                continue
            if isinstance(answer, RayTaskError) and unit.job.held is not None:
                self._source_lost(unit.job, unit.job.held, answer)
            elif actor in self._actors and actor.unit is unit:
                self._lost(actor, cause_of(answer))

    def _source_lost(self, job: Job, held: HeldVideo, error: RayTaskError) -> None:
        """End a job whose video cannot be had any more from the machine that has downloaded it."""
        assert self._downloads is not None
        folder, reason = job.spec.video.paths[0].parent, cause_of(error)
        if isinstance(error.cause, RayError):
            self._downloads.lost(folder)
            text = f"{held.node}, which had downloaded it, was lost: {reason}"
        else:  # the other videos of the machine may be well
            self._downloads.release(folder)
            text = f"{held.node}, which had downloaded it, cannot read it any more: {reason}"
        self._end(job, SourceLost(job.id, held.node, text))

    def _remove(self, actor: Actor) -> None:
        """End a station, and settle what it worked on."""
        self._actors.remove(actor)
        with contextlib.suppress(Exception):
            ray.kill(actor.handle)
        if actor.unit is not None:
            self._settle(actor.unit.job)
        self._units.place_lost(actor, self._actors)
        self._looked_up = -math.inf

    def _drop(self, actor: Actor) -> None:
        """End a station that does not stop."""
        self._remove(actor)
        unit = actor.unit
        if unit is not None and unit.job.ending is None and unit.segments is not None:
            self._hand_back(unit)

    def _lost(self, actor: Actor, reason: str) -> None:
        self._remove(actor)
        if actor.facts is None:
            self._start_losses += 1
            self._why_lost = reason
            self._looked_up = time.monotonic()  # not again at once
            log.warning("a worker could not start: %s", reason)
        unit = actor.unit
        if unit is None or unit.job.ending is not None:
            return
        job = unit.job
        losses = self._units.lost(unit, actor.node_id, self._actors)
        if unit.placed:
            self._out.append(Moved(job.id, actor.node, f"the worker on {actor.node} was lost: {reason}"))
        if losses >= _MAX_LOSSES:
            self._end(job, Failed(job.id, "lost", Phase.ANALYZE, f"{CRASHES['lost']} ({reason})"))
        else:
            self._hand_back(unit)

    def _refuse(self, actor: Actor, problem: str) -> None:
        """Use a machine no more that differs from this one."""
        assert actor.facts is not None
        if actor.facts.node_id not in self._refused:
            log.warning("a machine is not used: %s", problem)
        self._refused[actor.facts.node_id] = problem
        unit, actor.unit = actor.unit, None
        self._remove(actor)
        if unit is not None and unit.job.ending is None:
            self._hand_back(unit)
        elif unit is not None:
            self._settle(unit.job)

    def _give_up(self, problem: str) -> None:
        """Fail all jobs: there is no station, and none can start."""
        for job in [each for each in self._units.jobs.values() if each.ending is None]:
            self._end(job, Failed(job.id, "start", Phase.LOAD, problem))
