"""A test double of Ray: actors are objects of this process, and their calls run in threads.

What the driver of a cluster decides can be tested with it in seconds, on a machine that is too busy for a
cluster. Nothing is serialized, and an actor that is killed only answers no more.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for_futures
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import ActorDiedError

from analyzer.batch.executors import actors, station
from analyzer.batch.executors import ray as driver
from analyzer.batch.executors.local import Prepare

__all__ = ["executor_without_ray"]

_numbers = itertools.count(1)
_WAIT_S = 0.005


class _Method:
    def __init__(self, actor: _Actor, name: str) -> None:
        self._actor, self._name = actor, name

    def remote(self, *arguments: Any) -> Any:
        return self._actor.call(self._name, arguments)


class _Actor:
    """A handle of an actor, and the actor."""

    def __init__(self, made: Any, node: str) -> None:
        self._made, self._node = made, node
        self._threads = ThreadPoolExecutor(8)
        self.is_dead = False

    def __getattr__(self, name: str) -> _Method:
        return _Method(self, name)

    def call(self, name: str, arguments: Sequence[Any]) -> Any:
        call = self._threads.submit(getattr(self._made, name), *arguments)
        call.actor = self  # type: ignore[attr-defined]
        return call

    def node_facts(self) -> Any:
        return station.Facts(self._node, self._node, next(_numbers), station.versions())


class _Ray:
    """The functions of Ray that the driver calls."""

    def __init__(self, nodes: Sequence[str]) -> None:
        self._nodes = itertools.cycle(nodes)

    def remote(self, kind: Callable[..., Any]) -> Any:
        """Return a class of actors."""
        double = self

        class Class:
            def options(self, **options: Any) -> Any:
                return self

            def remote(self, *arguments: Any) -> _Actor:
                actor = _Actor(kind(*arguments), next(double._nodes))
                actor._made.facts = actor.node_facts
                return actor

        return Class()

    @staticmethod
    def put(value: Any) -> Any:
        """Return a reference, which is the value."""
        return value

    @staticmethod
    def get(calls: Any) -> Any:
        """Return what was answered."""
        if isinstance(calls, list):
            return [_Ray.get(call) for call in calls]
        if calls.actor.is_dead:
            raise ActorDiedError
        return calls.result()

    @staticmethod
    def wait(calls: list[Any], *, num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        """Return calls that were answered, and the others."""
        deadline = time.monotonic() + timeout
        while True:
            ready = [call for call in calls if call.done() or call.actor.is_dead]
            left_s = deadline - time.monotonic()
            if len(ready) >= num_returns or left_s <= 0:
                return ready, [call for call in calls if call not in ready]
            wait_for_futures(calls, min(_WAIT_S, left_s))

    @staticmethod
    def kill(actor: _Actor) -> None:
        """Let an actor answer no more; what it has begun is ended."""
        if not actor.is_dead:
            actor.is_dead = True
            actor._made.close()


def executor_without_ray(
    monkeypatch: pytest.MonkeyPatch,
    scratch: Path,
    *nodes: str,
    prepare: Prepare | None = None,
    source: str = "auto",
) -> driver.RayExecutor:
    """Make a `RayExecutor` with a station on each node of a cluster that is none.

    Args:
        monkeypatch: Replaces Ray.
        scratch: For the stations, which share it whatever their node.
        nodes: Names of machines, each as often as it has stations.
        prepare: As in `LocalExecutor`.
        source: As in `RayExecutor`.
    """
    double = _Ray(nodes)
    monkeypatch.setattr(driver, "ray", double)
    monkeypatch.setattr(actors, "ray", double)
    monkeypatch.setattr(driver, "connect", lambda address, cpus: False)
    resources = {"CPU": 99.0, "memory": 1e12}
    living = [{"NodeID": node, "Resources": resources} for node in dict.fromkeys(nodes)]
    monkeypatch.setattr(driver, "living_nodes", lambda: living)
    return driver.RayExecutor(
        len(nodes), cpus=1, memory_mb=100, scratch=scratch, prepare=prepare, source=source
    )
