"""Checks of a Ray cluster, with fixes: every machine of it, and a small analysis on one.

The machines are asked by tasks that reserve nothing, so that a busy cluster can be checked too; only the
analysis waits for room.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from analyzer.batch.config import ExecutorChoice, jobs_of
from analyzer.batch.executors.choice import needs_ray
from analyzer.doctor.machine import Check, Findings, run_check
from analyzer.errors import ClusterError
from analyzer.settings import Settings
from analyzer.util.text import counted

__all__ = ["examine_cluster"]

_ANSWER_S = 60.0
_ANALYSIS_S = 180.0
_LOW_BYTES = 5e9
_LOW_OBJECTS_BYTES = 100e6
_CLOCK_S = 2.0
"""Times of machines in the log may differ by this much."""
_FILES, _FILES_EACH = 200, 4
"""Open files of a driver: 32 before the first actor, one for each (on one machine with Ray 2.60), and some
for each machine; at least twice as many, to be safe."""
_SAME = "install the same version on all machines"


@dataclass(frozen=True)
class _Machine:
    """What a machine of the cluster has answered."""

    node: str
    problem: str | None
    """In what it differs from this machine."""
    models: tuple[str, ...]
    """Hashes of the models of each of the settings."""
    cores: int
    memory_mb: float | None
    """That is available."""
    scratch: str
    free_bytes: int
    time_s: float
    """Its clock."""


def examine_cluster(choice: ExecutorChoice, settings: Sequence[Settings] = ()) -> Iterator[Check]:
    """Check a cluster, one thing after another; after a failure that prevents the others, nothing more.

    Args:
        choice: The cluster, and what its workers reserve.
        settings: Those whose models each machine must have; none: the default ones.
    """
    # Without packages that are missing here, which the first check reports.
    try:
        needs_ray()
        import ray

        from analyzer.batch.executors.ray_cluster import connect, living_nodes
    except (ClusterError, ImportError) as error:
        yield Check("Ray", "failed", str(error), "install the extra ray here and on all machines")
        return
    connected = False
    try:
        connected = connect(choice.address, max(choice.cpus, os.cpu_count() or 1))
    except ClusterError as error:
        found, _, fix = str(error).partition(": ")
        yield Check("Ray", "failed", found, fix)
        return
    try:
        nodes = living_nodes()
        yield Check(
            "Ray", "ok", f"Ray {ray.__version__} at {choice.address}, {counted(len(nodes), 'machine')}", ""
        )
        yield run_check("workers", partial(_workers, choice, nodes))
        wanted = list({one.result_hash(): one for one in settings or [Settings()]}.values())
        yield from _machines(nodes, choice, wanted)
        yield run_check("analysis", partial(_analysis, choice))
    finally:
        if connected:
            ray.shutdown()


def _workers(choice: ExecutorChoice, nodes: Sequence[dict[str, Any]]) -> Findings:
    """Check that the cluster has room for workers."""
    from analyzer.batch.executors.ray_cluster import Needs, room

    findings = Findings()
    count = room(Needs(choice.cpus, choice.memory_mb, choice.gpus), nodes)
    gpus = f" and {choice.gpus:g} GPUs" if choice.gpus else ""
    needs = f"{choice.cpus} cores, {choice.memory_mb} MB{gpus} each"
    if count:
        findings.ok(f"room for {count}, of {needs}")
        least = _FILES + _FILES_EACH * count
        if (files := _open_files()) < least:
            findings.warn(
                f"a driver of {count} workers may need {least:,} open files, and may have {files:,.0f} here",
                "raise the hard limit (nofile in /etc/security/limits.conf, or LimitNOFILE of a service)",
            )
    else:
        findings.fail(
            f"no machine has room for one, of {needs}",
            "add a machine, or set less with [executor] cpus, memory_mb or gpus",
        )
    for node in nodes:
        objects = node["Resources"].get("object_store_memory", 0.0)
        if 0 < objects < _LOW_OBJECTS_BYTES:
            findings.warn(
                f"{node['NodeManagerHostname']} has {objects / 1e6:.0f} MB for objects of Ray",
                "give it more with ray start --object-store-memory, and in a container a larger /dev/shm",
            )
    return findings


def _open_files() -> float:
    """How many files this process may open; Ray raises the soft limit when it connects."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    except ImportError:
        return math.inf
    return math.inf if limit == resource.RLIM_INFINITY else limit


def _machines(
    nodes: Sequence[dict[str, Any]], choice: ExecutorChoice, settings: Sequence[Settings]
) -> Iterator[Check]:
    """Check each machine."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from analyzer.batch.executors.station import models_hash_here

    asked, pending, began = ray.remote(_machine), {}, time.time()
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        task = asked.options(num_cpus=0, scheduling_strategy=there, max_retries=0)
        pending[task.remote(choice.scratch, list(settings))] = node["NodeManagerHostname"]
    wanted = tuple(models_hash_here(one) for one in settings)
    deadline = time.monotonic() + _ANSWER_S
    while pending:
        done, _ = ray.wait(list(pending), timeout=max(0.0, deadline - time.monotonic()))
        if not done:
            break
        name, now = pending.pop(done[0]), time.time()
        yield run_check("machine", partial(_one, done[0], name, wanted, (began, now)))
    for name in pending.values():
        yield Check(
            "machine",
            "failed",
            f"{name} did not answer within {_ANSWER_S:g} s",
            "look at its load and at the logs of Ray there (/tmp/ray/session_latest/logs)",
        )


def _machine(scratch: str | None, settings: Sequence[Settings]) -> _Machine:
    """Run on a machine of the cluster: describe it."""
    from analyzer.batch.executors.ray_cluster import differing
    from analyzer.batch.executors.station import facts, models_hash_here
    from analyzer.util.system import available_memory_mb

    here = facts()
    folder = Path(scratch or tempfile.gettempdir())
    while not folder.exists():
        folder = folder.parent
    return _Machine(
        here.node,
        differing(here),
        tuple(models_hash_here(one) for one in settings),
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        available_memory_mb(),
        str(folder),
        shutil.disk_usage(folder).free,
        time.time(),
    )


def _one(answer: Any, name: str, wanted: tuple[str, ...], asked: tuple[float, float]) -> Findings:
    """Check what a machine has answered between two times."""
    import ray
    from ray.exceptions import RayError

    from analyzer.batch.executors.ray_cluster import cause_of

    findings = Findings()
    try:
        machine: _Machine = ray.get(answer)
    except RayError as error:
        findings.fail(
            f"{name} cannot run audience-analyzer: {cause_of(error)}",
            "install it there, in the environment in which Ray was started",
        )
        return findings
    memory = "unknown memory" if machine.memory_mb is None else f"{machine.memory_mb / 1024:.1f} GB available"
    findings.ok(f"{machine.node}: {counted(machine.cores, 'core')}, {memory}")
    disk = f"{machine.free_bytes / 1e9:.1f} GB free in {machine.scratch}"
    if machine.free_bytes < _LOW_BYTES:
        findings.warn(disk, "free some space there, or name another folder with [executor] scratch")
    else:
        findings.ok(disk)
    if machine.problem is not None:
        findings.fail(machine.problem, _SAME)
    for there, here in zip(machine.models, wanted, strict=True):
        if there != here:
            findings.fail(f"other models ({there}) than this machine ({here})", _SAME)
    off_s = max(asked[0] - machine.time_s, machine.time_s - asked[1], 0.0)
    if off_s > _CLOCK_S:
        findings.warn(f"its clock differs by {off_s:.0f} s", "synchronize it: timedatectl set-ntp true")
    return findings


def _analysis(choice: ExecutorChoice) -> Findings:
    """Analyze a second of gray video on the cluster."""
    from analyzer.batch.executors.ray import ray_executor
    from analyzer.batch.scheduler import Scheduler

    findings = Findings()
    began = time.monotonic()
    places: list[str] = []

    def on_event(event: str, video: int | None, facts: dict[str, Any]) -> None:
        if event == "placed":
            places.append(facts["node"])

    with tempfile.TemporaryDirectory(prefix="doctor-") as folder:
        clip = Path(folder, "doctor.mp4")
        _write_clip(clip)
        jobs = jobs_of(
            [str(clip)],
            Settings(video=False, workers=1),
            out=Path(folder, "out"),
            executor=replace(choice, source="auto"),  # no machine shares the folder
            workers=1,
            report=(),
            reserve_mb=0,
            time_budget_s=_ANALYSIS_S,
        )
        executor = ray_executor(jobs)
        try:
            outcome = Scheduler(jobs, executor, on_event=on_event).run()
        finally:
            executor.close()
    if outcome.done:
        findings.ok(f"a small video on {places[-1]}, {time.monotonic() - began:.0f} s")
    elif outcome.troubles:
        findings.fail(f"a small video failed: {outcome.troubles[0]['error']}", "see docs/cluster.md")
    else:
        findings.fail(
            f"a small video was not analyzed within {_ANALYSIS_S:g} s",
            "wait until the cluster has room: ray status shows who uses it",
        )
    return findings


def _write_clip(path: Path) -> None:
    import av
    import numpy as np

    with av.open(str(path), "w") as output:
        stream = output.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for level in range(60, 180, 20):
            planes = np.full((360, 320), level, np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))
        output.mux(stream.encode(None))
