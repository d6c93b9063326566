"""Cameras in the browser: sessions, each with a process under limits that decodes and analyzes.

A visitor's page sends JPEG frames and gets the faces of each; of a camera of the server it gets frames and
faces. Only the newest frame counts: one that waits is replaced, on the way in and on the way out, so that a
slow network or processor costs frames and never time.

Messages between a session and its process are bytes: a kind, then JSON, or a frame. What the process sends is
parsed as JSON and passed on, never executed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import multiprocessing
import re
import signal
import threading
from collections import deque
from collections.abc import Callable
from importlib import import_module
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from analyzer.errors import AnalyzerError, SettingsError
from analyzer.util.system import caller_not_run_again
from analyzer.util.text import one_line, without_paths
from analyzer.web.config import ServeConfig
from analyzer.web.runs import run_id
from analyzer.web.tasks import confine

__all__ = ["FRAME", "JSON", "BusyLiveError", "LiveSession", "LiveSessions", "Viewer", "cameras_of"]

log = logging.getLogger(__name__)

JSON, FRAME = b"j", b"f"
"""Kinds of messages. A frame from the process has its JSON before it: 4 bytes of length, JSON, JPEG."""

_MAX_MESSAGE_BYTES = 4 * 2**20
_BROKEN = "the analysis of this camera ended unexpectedly: start it again"


class BusyLiveError(AnalyzerError):
    """As many cameras as are allowed are analyzed."""


def cameras_of(config: ServeConfig) -> dict[str, str]:
    """The cameras of a server that visitors may watch: names and sources.

    Raises:
        SettingsError: Two have the same name.

    >>> cameras_of(ServeConfig(Path("out"), cameras=("door=rtsp://u:p@10.1.2.3/1?a=b", "0")))
    {'door': 'rtsp://u:p@10.1.2.3/1?a=b', 'camera 0': '0'}
    """
    found: dict[str, str] = {}
    for text in config.cameras:
        named = re.match(r"([^=:/?#]+)=(.+)", text)
        name, source = (named[1].strip(), named[2]) if named else (f"camera {text}", text)
        if named is None and not text.isdigit():
            name = re.sub(r"^[a-z]+://(?:[^/@]*@)?([^/:?#]+).*", r"\1", text)
        if name in found:
            raise SettingsError(f"two cameras are named {name}: give each a name, as in --camera door=0")
        found[name] = source
    return found


class Viewer:
    """A page that watches a session. Its methods are called in the server's event loop."""

    def __init__(self) -> None:
        self._messages: deque[dict[str, Any]] = deque(maxlen=100)
        self._frame: bytes | None = None
        self._shows = True
        """Whether the page has shown the frame that it got last."""
        self._news = asyncio.Event()

    def tell(self, message: dict[str, Any]) -> None:
        """Put a message into the line."""
        self._messages.append(message)
        self._news.set()

    def show(self, frame: bytes) -> None:
        """Put a frame in place of the one that waits."""
        self._frame = frame
        self._news.set()

    def shown(self) -> None:
        """Note that the page has shown a frame: it gets the next one."""
        self._shows = True
        self._news.set()

    async def next(self) -> dict[str, Any] | bytes:
        """Wait for the next message, or for the newest frame once the last one was shown."""
        while True:
            if self._messages:
                return self._messages.popleft()
            if self._shows and self._frame is not None:
                frame, self._frame, self._shows = self._frame, None, False
                return frame
            self._news.clear()
            await self._news.wait()


class LiveSession:
    """A camera that is analyzed, and the pages that watch it.

    Args:
        order: What its process does.
        config: Of the server.
        loop: Of the server, in which its methods are called.
    """

    def __init__(self, order: dict[str, Any], config: ServeConfig, loop: asyncio.AbstractEventLoop) -> None:
        self._order, self._config, self._loop = order, config, loop
        self._out = config.out.absolute()
        self.viewers: set[Viewer] = set()
        self.ended = asyncio.Event()
        """Whether its process has ended."""
        self._state: dict[str, dict[str, Any]] = {}
        """The latest message of each kind, for pages that come later."""
        self._connection: Connection | None = None
        self._process: SpawnProcess | None = None
        self._writing = asyncio.Lock()
        self._waiting: bytes | None = None
        self._in_flight = False
        self._recording = False
        """Whether a recording was asked for that is not over: its models may still be loading."""
        self._pushing: asyncio.Task[None] | None = None
        self._closing = False
        # The process ends with the thread that has started it.
        self._thread = threading.Thread(target=self._run, name="live-session", daemon=True)
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether its process takes frames or sends them."""
        return "ready" in self._state

    def join(self, viewer: Viewer) -> None:
        """Let a page watch."""
        self.viewers.add(viewer)
        for message in self._state.values():
            viewer.tell(message)

    async def push(self, frame: bytes) -> None:
        """Analyze a frame; one that waits is dropped for it."""
        if self._in_flight or not self.ready:
            self._waiting = frame
            return
        self._in_flight = True
        await self._send(FRAME + frame)

    async def order(self, message: dict[str, Any]) -> None:
        """Tell the process something."""
        if message["type"] == "record":
            self._recording = self._recording or bool(message["on"])
        await self._send(JSON + json.dumps(message).encode())

    async def close(self) -> None:
        """End the process; a recording is finished first, if that does not take too long."""
        if not self._closing:
            self._closing = True
            if self._state.get("recording", {}).get("on"):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._config.live_end_s):
                        await self.order({"type": "end"})
                        await self.ended.wait()
            elif self._recording:
                log.warning("a recording was ended before its first frame: nothing of it is stored")
            self._kill()
        await self.ended.wait()
        await asyncio.to_thread(self._thread.join)

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    async def _send(self, message: bytes) -> None:
        connection = self._connection
        if connection is None:
            return
        async with self._writing:
            # In a thread, as a process that is stopped does not read.
            with contextlib.suppress(OSError, ValueError):
                await asyncio.to_thread(connection.send_bytes, message)

    # -- in the event loop, called by the thread

    def _heard(self, message: bytes) -> None:
        kind, rest = message[:1], message[1:]
        if kind == FRAME:
            for viewer in self.viewers:
                viewer.show(rest)
            return
        found = json.loads(rest)
        if found["type"] in ("faces", "dropped"):
            self._in_flight = False
        elif found["type"] in ("ready", "recording"):
            self._state[found["type"]] = found
        if found == {"type": "recording", "on": False}:
            self._recording = False
        if isinstance(found.get("error"), str):
            found["error"] = without_paths(found["error"], self._out)
            if not self.viewers:  # the page was closed
                log.warning("a camera of the browser: %s", found["error"])
        if found["type"] == "recorded" and isinstance(found.get("folder"), str):
            found["run"] = run_id(self._out, Path(found.pop("folder")))
        for viewer in self.viewers:
            viewer.tell(found)
        if self._waiting is not None and not self._in_flight and self.ready:
            frame, self._waiting = self._waiting, None
            self._pushing = self._loop.create_task(self.push(frame))

    def _over(self) -> None:
        self.ended.set()
        if not self._closing:
            for viewer in self.viewers:
                viewer.tell({"type": "error", "error": _BROKEN})
        for viewer in self.viewers:
            viewer.tell({"type": "end"})

    # -- in the thread

    def _run(self) -> None:
        timer = threading.Timer(self._config.live_start_s, self._kill)
        timer.daemon = True
        try:
            context = multiprocessing.get_context("spawn")
            connection, theirs = context.Pipe()
            process = context.Process(target=_main, args=(theirs, self._config.live_memory_mb), name="live")
            with caller_not_run_again(signal.SIGTERM):
                process.start()
            theirs.close()
            self._connection, self._process = connection, process
            timer.start()
            if self._closing:
                self._kill()
            with contextlib.suppress(EOFError, OSError, ValueError, KeyError, TypeError):
                connection.send_bytes(json.dumps(self._order).encode())
                while True:
                    message = connection.recv_bytes(_MAX_MESSAGE_BYTES)
                    timer.cancel()
                    _check(message)
                    self._in_loop(self._heard, message)
            process.kill()
            process.join()
            connection.close()
        finally:
            timer.cancel()
            self._in_loop(self._over)

    def _in_loop(self, function: Callable[..., None], *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(function, *args)


def _check(message: bytes) -> None:
    """Raise ValueError, KeyError or TypeError for what is no message."""
    if message[:1] == JSON and isinstance(json.loads(message[1:])["type"], str):
        return
    if message[:1] != FRAME or int.from_bytes(message[1:5]) > len(message) - 5:
        raise ValueError("not a message")


class LiveSessions:
    """The sessions of a server. Its methods are called in the server's event loop.

    Args:
        config: Of the server.
    """

    def __init__(self, config: ServeConfig) -> None:
        self._config = config
        self.cameras = cameras_of(config)
        """Names and sources of the server's cameras."""
        self._sessions: set[LiveSession] = set()
        self._shared: dict[str, LiveSession] = {}
        self._viewers = 0

    @contextlib.asynccontextmanager
    async def watching(self, camera: str | None) -> Any:
        """A session with a viewer, as a context manager: it ends when the last viewer leaves.

        Args:
            camera: One of `cameras`, which all its viewers share; None: the visitor's own.

        Raises:
            BusyLiveError: Too many cameras are analyzed, or pages watch.
            SettingsError: There is no such camera.
        """
        if camera is not None and camera not in self.cameras:
            raise SettingsError("there is no such camera on this server")
        if self._viewers >= self._config.max_sockets:
            raise BusyLiveError("as many pages as this server allows watch a camera: try again later")
        session = self._shared.get(camera) if camera is not None else None
        if session is None or session.ended.is_set():
            if len(self._sessions) >= self._config.live_sessions:
                raise BusyLiveError("as many cameras as this server allows are in use: try again later")
            session = LiveSession(self._order(camera), self._config, asyncio.get_running_loop())
            self._sessions.add(session)
            if camera is not None:
                self._shared[camera] = session
        viewer = Viewer()
        session.join(viewer)
        self._viewers += 1
        try:
            yield session, viewer
        finally:
            self._viewers -= 1
            session.viewers.discard(viewer)
            if not session.viewers:
                if camera is not None and self._shared.get(camera) is session:
                    del self._shared[camera]
                await asyncio.shield(self._end(session))

    async def _end(self, session: LiveSession) -> None:
        try:
            await session.close()
        finally:
            self._sessions.discard(session)

    def _order(self, camera: str | None) -> dict[str, Any]:
        return {
            "out": str(self._config.out.absolute()),
            "camera": camera,
            "source": None if camera is None else self.cameras[camera],
            "max_pixels": self._config.max_frame_pixels,
        }

    async def close(self) -> None:
        """End all sessions; recordings are finished."""
        await asyncio.gather(*(self._end(session) for session in list(self._sessions)))


def _main(connection: Connection, memory_mb: int) -> None:
    """Analyze one camera, in its process, until the other end says so or is gone."""
    confine(memory_mb)
    order = json.loads(connection.recv_bytes())
    process = import_module("analyzer.web.live_process")  # late: the server needs none of it
    try:
        process.run(connection, order)
    except (EOFError, OSError):
        pass  # the other end is gone
    except AnalyzerError as error:
        _tell_error(connection, str(error))
    except MemoryError:
        _tell_error(connection, "that needs more memory than is allowed")


def _tell_error(connection: Connection, sentence: str) -> None:
    with contextlib.suppress(OSError):
        message = {"type": "error", "error": one_line(sentence, 600)}
        connection.send_bytes(JSON + json.dumps(message).encode())
