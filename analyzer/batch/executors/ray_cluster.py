"""The connection to a Ray cluster, and what its machines are fit for."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import AuthenticationError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from analyzer.batch.executors.station import Facts, facts, models_hash_here, versions
from analyzer.errors import ClusterError
from analyzer.settings import Settings

__all__ = ["Needs", "cause_of", "connect", "differing", "living_nodes", "probe", "room"]

_OBJECT_STORE_BYTES = 200 * 2**20
"""Of a Ray that is started for one run: no more than the largest answers wait in it."""
_PROBE_S = 180.0
"""A process must start there first, at a low priority: on a busy machine that takes a minute."""
_CONNECT_S = 5.0


@dataclass(frozen=True)
class Needs:
    """What a station takes of its machine."""

    cpus: int
    memory_mb: int
    gpus: float

    def options(self) -> dict[str, Any]:
        """As options of an actor."""
        return {"num_cpus": self.cpus, "memory": self.memory_mb * 2**20, "num_gpus": self.gpus}

    def fit(self, resources: dict[str, float]) -> int:
        """How many stations have room on a machine with these resources."""
        needed = {"CPU": self.cpus, "memory": self.memory_mb * 2**20, "GPU": self.gpus}
        return min((int(resources.get(name, 0) // much) for name, much in needed.items() if much), default=0)


def connect(address: str, cpus: int) -> bool:
    """Connect this process to a cluster, unless it is connected.

    Args:
        address: ``auto``: a cluster of this machine; ``local``: start one here for this process; otherwise
            that of a cluster, such as ``ray://HOST:10001``.
        cpus: Processors of a cluster that is started here, whether the machine has so many or not.

    Returns:
        Whether the connection is new, so that whoever called this ends it by ``ray.shutdown()``.

    Raises:
        ClusterError: There is none, or one of another version.
    """
    if ray.is_initialized():
        return False
    options: dict[str, Any] = {}
    _check_answers(os.environ.get("RAY_ADDRESS", address) if address == "auto" else address)
    if address == "local":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options = {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
    logging.getLogger("ray").setLevel(logging.ERROR)
    _keep_off_stdout()
    for last in (False, True):
        try:
            with _own_signal_handlers():
                ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **options)
        except Exception as error:
            if last or address != "local" or "timed out" not in str(error):
                raise ClusterError(_why_not(address, error)) from error
            ray.shutdown()  # a busy machine may need longer than the 30 s that Ray waits
        else:
            break
    return True


def _keep_off_stdout() -> None:
    """Ray prints a paragraph for each worker that it loses, also without ``log_to_driver``."""
    import ray._private.worker as internal

    if hasattr(internal, "print_to_stdstream"):  # no public switch in Ray 2.60
        internal.print_to_stdstream = lambda *arguments, **options: None


def _check_answers(address: str) -> None:
    """Check that something answers at HOST:PORT; Ray waits a minute for it.

    Raises:
        ClusterError: Nothing does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ClusterError(
            f"nothing answers at {address} ({reason}): check that the cluster runs there and that this "
            "machine may reach the port"
        ) from error


def _why_not(address: str, error: Exception) -> str:
    text = str(error)
    if "ersion" in text and "mismatch" in text:
        return (
            f"the cluster at {address} has another version of Ray or Python than this machine: install the "
            f"same on all machines ({_first_line(text)})"
        )
    if isinstance(error, ImportError) or "Ray Client requires" in text:
        return f"addresses such as {address} need Ray's client: pip install 'audience-analyzer[ray]'"
    if address == "local":
        return f"Ray cannot be started on this machine ({_first_line(text)}): run doctor --executor ray"
    if isinstance(error, AuthenticationError) or "auth_token" in text:
        return (
            f"the cluster at {address} asks for its token: set RAY_AUTH_MODE=token, and copy "
            "~/.ray/auth_token from its head, or set RAY_AUTH_TOKEN"
        )
    if address == "auto" and "multiple" in text:
        return "several Ray clusters run on this machine: name one with --address HOST:PORT"
    if address == "auto":
        return "no Ray cluster runs on this machine: start one (ray start --head), or name one with --address"
    return (
        f"the Ray cluster at {address} cannot be joined ({_first_line(text)}): check that this machine has "
        "its token (RAY_AUTH_MODE=token, ~/.ray/auth_token) and is one of its machines, or use "
        "ray://HOST:10001"
    )


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "no reason given")[:300]


@contextlib.contextmanager
def _own_signal_handlers() -> Iterator[None]:
    """Ray sets a handler of SIGTERM that ends the process; this process may have its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def living_nodes() -> list[dict[str, Any]]:
    """Return Ray's description of each machine that is alive."""
    return [node for node in ray.nodes() if node["Alive"]]


def room(needs: Needs, nodes: Sequence[dict[str, Any]]) -> int:
    """Return how many stations the machines have room for, if nothing else runs there."""
    return sum(needs.fit(node["Resources"]) for node in nodes)


def differing(found: Facts) -> str | None:
    """Return why a machine cannot be used: in what it differs from this one; None: it can be used."""
    for name, version in versions().items():
        if found.versions.get(name) != version:
            return (
                f"{found.node} has {name} {found.versions.get(name)}, this machine {version}: install the "
                "same version on all machines"
            )
    return None


def probe(needs: Needs, settings: Sequence[Settings]) -> list[Facts]:
    """Check that each machine that has room for a station has the versions and models of this one.

    Raises:
        ClusterError: One differs, none has room, or one does not answer.
    """
    nodes = [node for node in living_nodes() if needs.fit(node["Resources"])]
    if not nodes:
        raise ClusterError(
            f"no machine of the cluster has {needs.cpus} processors and {needs.memory_mb} MB"
            + (f" and {needs.gpus:g} GPUs" if needs.gpus else "")
            + ": add one, or set less with [executor] cpus, memory_mb or gpus"
        )
    asked = ray.remote(_answer)
    answers = {}
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ref = asked.options(num_cpus=0, scheduling_strategy=there).remote(list(settings))
        answers[ref] = node
    wanted = [models_hash_here(one) for one in settings]
    ready, late = ray.wait(list(answers), num_returns=len(answers), timeout=_PROBE_S)
    found = []
    for ref in ready:
        node = answers[ref]["NodeManagerHostname"]
        try:
            here, hashes = ray.get(ref)
        except RayError as error:
            if any(each["NodeID"] == answers[ref]["NodeID"] for each in living_nodes()):
                raise ClusterError(f"{node} cannot run audience-analyzer: {cause_of(error)}") from error
            continue  # it has just left
        if (problem := differing(here)) is not None:
            raise ClusterError(problem)
        for hash_there, hash_here in zip(hashes, wanted, strict=True):
            if hash_there != hash_here:
                raise ClusterError(
                    f"{node} has other models ({hash_there}) than this machine ({hash_here}): install the "
                    "same on all machines"
                )
        found.append(here)
    if late:
        names = ", ".join(sorted({answers[ref]["NodeManagerHostname"] for ref in late}))
        raise ClusterError(f"{names} did not answer within {_PROBE_S:g} s: see docs/cluster.md")
    return found


def _answer(settings: list[Settings]) -> tuple[Facts, list[str]]:
    return facts(), [models_hash_here(one) for one in settings]


_CAUSES = {
    "low on memory": "its machine ran out of memory",
    "node has died": "its machine is gone",
    "worker process has died": "its process ended unexpectedly",
    "actor died unexpectedly": "its process ended unexpectedly",
    "is unavailable": "it could not be reached",
}
"""What Ray writes, in paragraphs of advice, and what it means."""


def cause_of(error: BaseException) -> str:
    """Return in a few words why Ray has lost something."""
    if isinstance(error, RayTaskError) and isinstance(error.cause, RayError):  # of an argument of the call
        return cause_of(error.cause)
    if isinstance(error, RayTaskError) and isinstance(error.cause, BaseException):
        return _first_line(f"{type(error.cause).__name__}: {error.cause}")
    text = str(error)
    known = next((meaning for words, meaning in _CAUSES.items() if words in text), None)
    # The first lines name the actor; the reason comes last.
    return known or _first_line("\n".join(reversed(text.splitlines())))
