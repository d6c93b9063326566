"""Live: the page, and the socket over which frames and faces go.

A page that shows its visitor's camera sends frames as binary messages, at most one at a time, and gets the
faces of each. One that watches a camera of the server gets binary messages, each of 4 bytes of length, JSON
and a JPEG image, and answers each with ``{"type": "shown"}``. ``{"type": "record", "on": true}`` begins a
recording, false ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from starlette.responses import Response

from analyzer.errors import AnalyzerError
from analyzer.web.config import ServeConfig
from analyzer.web.live import LiveSession, Viewer
from analyzer.web.pages import page
from analyzer.web.routes.runs import Served
from analyzer.web.service import service_of

__all__ = ["router"]

router = APIRouter(include_in_schema=False)

_JPEG = b"\xff\xd8"
_TRY_LATER, _REFUSED, _IDLE = 1013, 1008, 1001


@router.get("/live")
async def live_page(service: Served) -> Response:
    """The page of live cameras."""
    return page("live.html", title="Live", here="/live", cameras=list(service.live.cameras))


@router.websocket("/api/live")
async def live_socket(socket: WebSocket, camera: str | None = None) -> None:
    """Analyze the visitor's camera, or watch one of the server."""
    service = service_of(socket)
    await socket.accept()
    try:
        async with service.live.watching(camera) as (session, viewer):
            await _Conversation(socket, session, viewer, service.config, sends=camera is None).run()
    except AnalyzerError as error:
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await socket.send_json({"type": "error", "error": str(error)})
            await socket.close(_TRY_LATER)


class _Conversation:
    """What is said over one socket.

    Args:
        socket: An accepted one.
        session: What the page watches.
        viewer: The page.
        config: Of the server.
        sends: Whether the page sends the frames.
    """

    def __init__(
        self, socket: WebSocket, session: LiveSession, viewer: Viewer, config: ServeConfig, *, sends: bool
    ) -> None:
        self._socket, self._session, self._viewer, self._config = socket, session, viewer, config
        self._sends = sends

    async def run(self) -> None:
        """Talk until one side has enough."""
        tasks = [asyncio.ensure_future(one) for one in (self._listen(), self._speak())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                with contextlib.suppress(WebSocketDisconnect, RuntimeError):
                    await task
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._config.live_idle_s):
                    message = await self._socket.receive()
            except TimeoutError:
                if not self._session.ready:  # its process may take its time to start
                    continue
                await self._leave("nothing came from this page for a while", _IDLE)
                return
            if message["type"] == "websocket.disconnect":
                return
            frame = message.get("bytes")
            if frame is not None:
                await self._take(frame)
            elif not await self._obey(message.get("text") or ""):
                await self._leave("that is no message of this page", _REFUSED)
                return

    async def _take(self, frame: bytes) -> None:
        """Take a frame; what cannot be one is not passed on."""
        if not self._sends:
            return
        if len(frame) > self._config.max_frame_bytes:
            self._viewer.tell({"type": "dropped", "why": "the frame is too large"})
        elif not frame.startswith(_JPEG):
            self._viewer.tell({"type": "dropped", "why": "this is no JPEG image"})
        else:
            await self._session.push(frame)

    async def _obey(self, text: str) -> bool:
        """Do what a message says; return whether it is one."""
        try:
            found = json.loads(text)
        except ValueError:
            return False
        match found:
            case {"type": "shown"}:
                self._viewer.shown()
            case {"type": "record", "on": bool(on)}:
                await self._session.order({"type": "record", "on": on})
            case _:
                return False
        return True

    async def _speak(self) -> None:
        while True:
            message = await self._viewer.next()
            if isinstance(message, bytes):
                await self._socket.send_bytes(message)
            elif message["type"] == "end":
                await self._socket.close()
                return
            else:
                await self._socket.send_json(message)

    async def _leave(self, why: str, code: int) -> None:
        await self._socket.send_json({"type": "error", "error": why})
        await self._socket.close(code)
