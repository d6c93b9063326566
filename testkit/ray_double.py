"""A test double of Ray: actors are objects of this process, and their calls run in threads.

What the driver of a cluster decides can be tested with it in seconds, on a machine that is too busy for a
cluster. Nothing is serialized, and an actor that is killed only answers no more.
"""

from __future__ import annotations

import itertools
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for_futures
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from ray.exceptions import ActorDiedError, RayError, RayTaskError

from analyzer.batch.executors import actors, ray_downloads, station
from analyzer.batch.executors import ray as driver
from analyzer.batch.executors.local import Prepare

__all__ = ["RayDouble", "executor_without_ray"]

_numbers = itertools.count(1)
_WAIT_S = 0.005
_CALLED_AT_ONCE = 32


class _Method:
    def __init__(self, actor: _Actor, name: str) -> None:
        self._actor, self._name = actor, name

    def remote(self, *arguments: Any) -> Any:
        return self._actor.call(self._name, arguments)


class _Actor:
    """A handle of an actor, and the actor."""

    def __init__(self, double: RayDouble, made: Any, node: str | None) -> None:
        self._double, self._made = double, made
        self._threads = ThreadPoolExecutor(_CALLED_AT_ONCE)
        self._pid = next(_numbers)
        self.node = node
        self.is_dead = False

    def __getattr__(self, name: str) -> _Method:
        return _Method(self, name)

    def call(self, name: str, arguments: Sequence[Any]) -> Any:
        call: Any
        if self.node is None:
            call = Future()  # it waits for a machine
        elif self._double.failing.get(name):
            call = Future()
            call.set_exception(self._double.failing[name].pop(0))
        else:
            call = self._threads.submit(self._run, name, arguments)
        call.actor = self
        return call

    def _run(self, name: str, arguments: Sequence[Any]) -> Any:
        try:
            given = [RayDouble.get(each) if isinstance(each, Future) else each for each in arguments]
            return self._facts() if name == "facts" else getattr(self._made, name)(*given)
        except Exception as error:
            cause = error.cause if isinstance(error, RayTaskError) else error  # Ray nests none in another
            raise RayTaskError(name, traceback.format_exc(), cause).as_instanceof_cause() from error

    def _facts(self) -> Any:
        assert self.node is not None
        found = station.Facts(self.node, self.node, self._pid, station.versions())
        return replace(found, problem=self._made._problem)

    def end(self) -> None:
        """End it, and what it has begun."""
        if not self.is_dead:
            self.is_dead = True
            self._made.close()


class RayDouble:
    """The functions of Ray that the driver calls.

    Args:
        scratch: Folder of the machines; each has one of its own in it.
        nodes: Names of machines, each as often as it has stations.
    """

    failing: ClassVar[dict[str, list[RayError]]] = {}
    """With which errors the next calls of methods end."""

    def __init__(self, scratch: Path, nodes: Sequence[str]) -> None:
        self._scratch = scratch
        self._nodes = itertools.cycle(nodes)
        self._stations = Counter(nodes)
        self._actors: list[_Actor] = []
        self.living = list(dict.fromkeys(nodes))
        """Names of the machines that are there."""

    def described(self) -> list[dict[str, Any]]:
        """Describe the machines as Ray does."""
        return [
            {
                "NodeID": node,
                "NodeManagerHostname": node,
                "Resources": {"CPU": float(self._stations[node]), "memory": 1e12},
            }
            for node in self.living
        ]

    def lose(self, *nodes: str, pid: int | None = None) -> None:
        """Lose an actor, or all actors of machines and these."""
        self.living = [node for node in self.living if node not in nodes]
        for actor in self._actors:
            if actor.node in nodes or actor._pid == pid:
                actor.end()

    def shutdown(self) -> None:
        """End all actors, also those given up by an executor: their processes would outlive the test."""
        for actor in self._actors:
            if actor.node is not None:
                actor.end()

    def remote(self, kind: Callable[..., Any]) -> Any:
        """Return a class of actors."""
        double = self

        class Class:
            def __init__(self, node: str | None = None) -> None:
                self._node = node

            def options(self, **options: Any) -> Any:
                return Class(getattr(options["scheduling_strategy"], "node_id", None))

            def remote(self, *arguments: Any) -> _Actor:
                return double._start(kind, arguments, self._node or double._next_node())

        return Class()

    def _next_node(self) -> str | None:
        return next(node for node in self._nodes if node in self.living) if self.living else None

    def _start(self, kind: Callable[..., Any], arguments: Sequence[Any], node: str | None) -> _Actor:
        made = None
        if node is not None:
            own = str(self._scratch / node)
            made = kind(*(own if one == str(self._scratch) else one for one in arguments))
        actor = _Actor(self, made, node)
        self._actors.append(actor)
        return actor

    @staticmethod
    def put(value: Any) -> Any:
        """Return a reference, which is the value."""
        return value

    @staticmethod
    def get(calls: Any) -> Any:
        """Return what was answered."""
        if isinstance(calls, list):
            return [RayDouble.get(call) for call in calls]
        if calls.actor.is_dead:
            raise ActorDiedError
        return calls.result()

    @staticmethod
    def wait(calls: list[Any], *, num_returns: int = 1, timeout: float) -> tuple[list[Any], list[Any]]:
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
        actor.end()


def executor_without_ray(
    monkeypatch: pytest.MonkeyPatch,
    scratch: Path,
    *nodes: str,
    slots: int | None = None,
    prepare: Prepare | None = None,
    source: str = "auto",
    fetch: str = "driver",
) -> tuple[driver.RayExecutor, RayDouble]:
    """Make a `RayExecutor` with a station on each node of a cluster that is none.

    Args:
        monkeypatch: Replaces Ray.
        scratch: As in `RayDouble`.
        nodes: As in `RayDouble`.
        slots: As in `RayExecutor`; None: as many as stations.
        prepare: As in `LocalExecutor`.
        source: As in `RayExecutor`.
        fetch: As in `RayExecutor`.

    Returns:
        The executor, and what it has in place of Ray.
    """
    double = RayDouble(scratch, nodes)
    for module in (driver, actors, ray_downloads):
        monkeypatch.setattr(module, "ray", double)
    affinity = "NodeAffinitySchedulingStrategy"  # Ray's own checks the names of machines
    monkeypatch.setattr(ray_downloads, affinity, lambda node_id, soft: SimpleNamespace(node_id=node_id))
    monkeypatch.setattr(driver, "connect", lambda address, cpus: False)
    monkeypatch.setattr(driver, "living_nodes", double.described)
    chosen = {"cpus": 1, "memory_mb": 100, "scratch": scratch, "source": source, "fetch": fetch}
    count = len(nodes) if slots is None else slots
    return driver.RayExecutor(count, prepare=prepare, **chosen), double
