"""Stations as the batch's process sees them: one actor of Ray for each slot."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError

from analyzer.batch.executors.base import WorkerState, WorkerStatus
from analyzer.batch.executors.commits import Prepared, Stored
from analyzer.batch.executors.local import Prepare
from analyzer.batch.executors.ray_cluster import Needs
from analyzer.batch.executors.station import Facts, Station
from analyzer.batch.executors.units import Unit

__all__ = ["Actor", "answers", "start", "status"]

_CALLED_AT_ONCE = 8
"""Calls that a station works on side by side."""


@dataclass(eq=False)
class Actor:
    """A station, as this process sees it."""

    number: int
    handle: Any
    call: Any
    """The answer that it owes; None: none, or it is being written to the disk."""
    state: WorkerState = WorkerState.PENDING
    facts: Facts | None = None
    unit: Unit | None = None
    storing: Future[Stored] | None = None
    """Writes what the last answer has brought."""
    preparing: Future[Prepared] | None = None
    """Reads what goes with its unit."""
    since: float = field(default_factory=time.monotonic)
    """Of the state."""
    heard: float = field(default_factory=time.monotonic)
    unwanted_at: float | None = None
    """Since when what it does is of no use."""
    done_s: float = 0.0
    expected_s: float | None = None

    @property
    def node(self) -> str:
        return "" if self.facts is None else self.facts.node

    @property
    def node_id(self) -> str:
        """Ray's, which differs where machines have the same name."""
        return "" if self.facts is None else self.facts.node_id

    def become(self, state: WorkerState) -> None:
        self.state, self.since = state, time.monotonic()


def start(
    number: int, needs: Needs, avoided: Collection[str], scratch: str | None, prepare: Prepare | None
) -> Actor:
    """Start a station on some machine with room for it, or once there is one.

    Args:
        number: Of the station.
        needs: What it takes of its machine.
        avoided: Ray's ids of machines that cannot be used.
        scratch: As in `Station`.
        prepare: As in `Station`.
    """
    options = needs.options() | {
        "max_restarts": 0,
        "max_task_retries": 0,
        "max_concurrency": _CALLED_AT_ONCE,
        "scheduling_strategy": "SPREAD",
    }
    if avoided:
        options["label_selector"] = {"ray.io/node-id": f"!in({','.join(avoided)})"}
    handle = ray.remote(Station).options(**options).remote(needs.cpus, scratch, prepare)
    return Actor(number, handle, handle.facts.remote())


def status(actor: Actor) -> WorkerStatus:
    unit = actor.unit
    return WorkerStatus(
        actor.number,
        actor.node,
        None if actor.facts is None else actor.facts.pid,
        actor.state,
        None if unit is None else unit.job.id,
        None if unit is None else unit.segments,
        since_s=time.monotonic() - actor.since,
        done_s=actor.done_s,
        expected_s=actor.expected_s,
    )


def answers(calls: Sequence[Any]) -> list[Any]:
    """What has been answered, or the error of a call."""
    try:  # one after another would cost this process twice as much
        return list(ray.get(list(calls)))
    except RayError:
        return [_answer(call) for call in calls]


def _answer(call: Any) -> Any:
    try:
        return ray.get(call)
    except RayError as error:
        return error
