"""Downloads on the machines of a Ray cluster, as the batch's process sees them.

A thread of the batch that may download starts a download on a machine and waits for it, so that this process
alone decides when a site is asked. The machine is the one with the least to do for its size, and its stations
are preferred for the analysis. It keeps the files until they are released; others get them from it, not from
the site, so that all machines analyze the same bytes.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from analyzer.batch.executors.base import FetcherMaker, MachineLostError
from analyzer.batch.executors.node_downloads import NodeDownloads, Order, Update
from analyzer.batch.executors.node_files import SourceFile
from analyzer.batch.executors.ray_cluster import Needs, cause_of, differing
from analyzer.errors import OutputError
from analyzer.settings import Settings
from analyzer.sources.types import Candidate, FetchProgress, Item, Video

__all__ = ["HeldVideo", "RayDownloads"]

log = logging.getLogger(__name__)

_CALLED_AT_ONCE = 32
"""Calls that an actor works on side by side: each download has one, and stations ask for pieces."""
_WAIT_S = 0.1
_POLL_S = 1.0
"""How often an actor answers that has nothing to report."""
_SILENT_S = 60.0
"""One that has not answered for so long is lost."""
_START_S = 300.0
"""Likewise, while it starts."""
_CLOSE_S = 2.0
_ADDRESS_ID = "web-"
"""How the ids of videos begin that no site has given."""


@dataclass(eq=False)
class _Machine:
    node_id: str
    name: str
    handle: Any
    workers: int
    """How many stations it has room for."""
    videos: int = 0
    """How many it has, or is downloading."""
    ready: bool = False
    """Whether it has answered."""


@dataclass(frozen=True)
class HeldVideo:
    """A video on a machine."""

    number: int
    """Of its download."""
    machine: _Machine
    files: tuple[SourceFile, ...]
    """With the paths of the batch's machine."""

    @property
    def node_id(self) -> str:
        """Ray's id of the machine."""
        return self.machine.node_id

    @property
    def node(self) -> str:
        """The machine's name."""
        return self.machine.name

    def read(self, file: int, offset: int, size: int) -> Any:
        """Return a reference to a stretch of a file, which another machine gets without this one."""
        return self.machine.handle.read.remote(self.number, file, offset, size)


class _SilentError(Exception):
    """An actor does not answer."""


class RayDownloads:
    """A `Downloader`.

    Args:
        needs: What a station takes of its machine.
        scratch: As in `NodeDownloads`.
        nodes: Returns Ray's descriptions of the machines that can be used now.
        idle: Returns Ray's ids of the machines with idle stations.
    """

    def __init__(
        self,
        needs: Needs,
        scratch: str | None,
        nodes: Callable[[], Sequence[dict[str, Any]]],
        idle: Callable[[], Collection[str]],
    ) -> None:
        self._needs = needs
        self._scratch = scratch
        self._nodes, self._idle = nodes, idle
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._machines: dict[str, _Machine] = {}
        self._unfit: set[str] = set()
        """Ray's ids of machines that cannot download."""
        self._held: dict[Path, HeldVideo] = {}

    def fetch(
        self,
        maker: FetcherMaker,
        settings: Settings,
        item: Item,
        folder: Path,
        *,
        accept: Callable[[Candidate], None],
        on_wait: Callable[[], None],
        on_progress: Callable[[FetchProgress], None],
    ) -> Video | None:
        """As in `Downloader`."""
        self.release(folder)
        try:
            machine = self._chosen()
        except (RayError, ConnectionError) as error:  # no failure of the video
            raise MachineLostError(f"the cluster does not answer ({cause_of(error)})", "") from error
        if machine is None:
            return None
        order = Order(next(self._numbers), maker, settings, item)
        video: Video | None = None
        try:
            for update in self._updates(machine, order, on_wait):
                if update.candidate is not None:
                    if not update.candidate.video_id.startswith(_ADDRESS_ID):
                        break
                    accept(update.candidate)
                elif update.progress is not None:
                    on_progress(update.progress)
                elif update.error is not None:
                    raise update.error
                else:
                    video = self._keep(machine, order.number, update, folder.absolute())
        finally:
            if video is None:
                self._end(machine, order.number)
        return video

    def _updates(self, machine: _Machine, order: Order, on_wait: Callable[[], None]) -> Iterator[Update]:
        """Let a machine download; yields what it reports. After a candidate was yielded, it is accepted.

        Raises:
            MachineLostError: It is lost, or cannot download anything.
            BaseException: Whatever `on_wait` raises.
        """
        handle, number = machine.handle, order.number
        try:
            if not machine.ready:
                found = _answer(handle.facts.remote(), _START_S, on_wait)
                if (problem := found.problem or differing(found)) is not None:
                    raise self._unfit_error(machine, problem)
                machine.ready = True
            _answer(handle.begin.remote(order), _SILENT_S, on_wait)
            ended = False
            while not ended:
                for update in _answer(handle.poll.remote(number, _POLL_S), _SILENT_S, on_wait):
                    if isinstance(update.error, OutputError):
                        raise self._unfit_error(machine, str(update.error))
                    yield update
                    if update.candidate is not None:
                        _answer(handle.accept.remote(number), _SILENT_S, on_wait)
                    ended = update.video is not None
        except (RayError, ConnectionError, _SilentError) as error:
            self._forget(machine)
            reason = str(error) if isinstance(error, _SilentError) else cause_of(error)
            message = f"{machine.name} was lost while it downloaded: {reason}"
            raise MachineLostError(message, machine.name) from error

    def _unfit_error(self, machine: _Machine, problem: str) -> MachineLostError:
        """Let a machine download nothing more; another one can."""
        with self._lock:
            self._unfit.add(machine.node_id)
        log.warning("a machine does not download: %s: %s", machine.name, problem)
        return MachineLostError(f"{machine.name} cannot download: {problem}", machine.name)

    def _chosen(self) -> _Machine | None:
        """The machine with the least to do for its size, with one video more; None: there is none."""
        nodes = [node for node in self._nodes() if node["NodeID"] not in self._unfit]
        with self._lock:
            found = [self._machines.get(node["NodeID"]) or self._made(node) for node in nodes]
            machine = min(found, key=lambda each: (each.videos + 1) / each.workers, default=None)
            if machine is not None:
                self._machines[machine.node_id] = machine
                if machine.handle is None:
                    machine.handle = self._start(machine.node_id)
                machine.videos += 1
            return machine

    def _made(self, node: dict[str, Any]) -> _Machine:
        name = node["NodeManagerHostname"]
        return _Machine(node["NodeID"], name, None, max(1, self._needs.fit(node["Resources"])))

    def _start(self, node_id: str) -> Any:
        return (
            ray.remote(NodeDownloads)
            .options(
                num_cpus=0,
                max_restarts=0,
                max_task_retries=0,
                max_concurrency=_CALLED_AT_ONCE,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
            )
            .remote(self._scratch)
        )

    def _keep(self, machine: _Machine, number: int, update: Update, folder: Path) -> Video:
        video = update.video
        assert video is not None
        files = tuple(replace(file, path=folder / file.path.name) for file in update.files)
        with self._lock:
            self._held[folder] = HeldVideo(number, machine, files)
        audio = None if video.audio_path is None else folder / video.audio_path.name
        paths = tuple(folder / path.name for path in video.paths)
        return replace(video, paths=paths, audio_path=audio)

    def _forget(self, machine: _Machine) -> None:
        """Use an actor no more; the machine may get another one."""
        with self._lock:
            if self._machines.get(machine.node_id) is machine:
                del self._machines[machine.node_id]
        with contextlib.suppress(Exception):
            ray.kill(machine.handle)

    def _end(self, machine: _Machine, number: int) -> None:
        with self._lock:
            machine.videos -= 1
        with contextlib.suppress(RayError, ConnectionError):  # it may be lost
            machine.handle.release.remote(number)

    def node_of(self, folder: Path) -> str | None:
        """As in `Downloader`."""
        held = self.held(folder)
        return None if held is None else held.node

    def nearest(self, folders: Iterable[Path]) -> Path | None:
        """As in `Downloader`."""
        idle = self._idle()
        with self._lock:
            for folder in folders if idle else ():
                held = self._held.get(folder.absolute())
                if held is not None and held.node_id in idle:
                    return folder
        return None

    def held(self, folder: Path) -> HeldVideo | None:
        """Return the video that would be in a folder, if a machine has it."""
        with self._lock:
            return self._held.get(folder.absolute())

    def release(self, folder: Path) -> None:
        """As in `Downloader`."""
        with self._lock:
            held = self._held.pop(folder.absolute(), None)
        if held is not None:
            self._end(held.machine, held.number)

    def lost(self, folder: Path) -> None:
        """Note that a machine does not give the video that would be in a folder any more."""
        held = self.held(folder)
        self.release(folder)
        if held is not None:
            self._forget(held.machine)

    def close(self, *, at_once: bool) -> None:
        """Leave nothing on the machines.

        Args:
            at_once: Do not wait for that.
        """
        machines = [machine for machine in self._machines.values() if machine.handle is not None]
        asked = [machine.handle.close.remote() for machine in machines if machine.ready and not at_once]
        if asked:
            ray.wait(asked, num_returns=len(asked), timeout=_CLOSE_S)
        for machine in machines:
            ray.kill(machine.handle)
        self._machines.clear()
        self._held.clear()


def _answer(call: Any, patience_s: float, on_wait: Callable[[], None]) -> Any:
    """Wait for an answer.

    Raises:
        _SilentError: There is none.
        RayError: The actor is lost.
        BaseException: Whatever `on_wait` raises.
    """
    deadline = time.monotonic() + patience_s
    while not ray.wait([call], timeout=_WAIT_S)[0]:
        on_wait()
        if time.monotonic() > deadline:
            raise _SilentError(f"it did not answer for {patience_s:g} s")
    on_wait()
    return ray.get(call)
