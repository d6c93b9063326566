"""Loopback servers of what is live: MJPEG that stalls and breaks, HLS whose playlist moves on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from testkit.media import write_video
from testkit.servers import Handler, Server

BOUNDARY = "frame"


def jpegs(images: Sequence[NDArray[np.uint8]]) -> list[bytes]:
    """RGB frames as JPEG files."""
    return [cv2.imencode(".jpg", np.ascontiguousarray(one[:, :, ::-1]))[1].tobytes() for one in images]


class Mjpeg:
    """A camera's address that sends frames without end; what it does wrong is switched on by a test.

    Attributes:
        connections: How often it was asked for frames.
        sent: The number of frames sent.
    """

    def __init__(
        self, server: Server, pictures: Sequence[bytes], fps: float = 20, path: str = "/video"
    ) -> None:
        self.url = server.url(path)
        self.connections = self.sent = 0
        self.silent = False
        """Say nothing, but keep the connection."""
        self.broken = False
        """Close connections and refuse new ones."""
        self.lengths = True
        """Declare the length of each part."""
        self.on_picture: Callable[[int], None] = lambda number: None
        self._server, self._pictures, self._pause_s = server, pictures, 1 / fps
        server.routes[path] = self._answer

    def _answer(self, handler: Handler) -> None:
        if self.broken:
            handler.send_error(503)
            return
        self.connections += 1
        handler.head(None, f"multipart/x-mixed-replace; boundary={BOUNDARY}")
        while not self._server.stopping.wait(self._pause_s) and not self.broken:
            if self.silent:
                continue
            picture = self._pictures[self.sent % len(self._pictures)]
            length = f"Content-Length: {len(picture)}\r\n" if self.lengths else ""
            head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\n{length}\r\n"
            handler.wfile.write(head.encode() + picture + b"\r\n")
            handler.wfile.flush()
            self.sent += 1
            self.on_picture(self.sent)


class LiveHls:
    """A playlist of the last `window` parts of a video, which moves on by itself in real time.

    Attributes:
        began_at: When its first part came out, by `time.monotonic`.
    """

    def __init__(self, server: Server, folder: Path, window: int = 4) -> None:
        path = "/live.m3u8"
        self.url = server.url(path)
        self.down = False
        """Refuse everything."""
        self.missing: set[int] = set()
        """Numbers of parts that are not there."""
        self.ended = False
        """Say that there is no more."""
        self._parts, self._each_s = hls_parts(folder)
        self._window = window
        self.began_at = time.monotonic() - 2 * self._each_s
        server.routes[path] = self._playlist
        for number, part in enumerate(self._parts):
            server.routes[f"/{part.name}"] = self._part(number, part.read_bytes())

    def _playlist(self, handler: Handler) -> None:
        if self.down:
            handler.send_error(503)
            return
        there = min(len(self._parts), 1 + int((time.monotonic() - self.began_at) / self._each_s))
        first = max(0, there - self._window)
        lines = ["#EXTM3U", "#EXT-X-VERSION:3", f"#EXT-X-TARGETDURATION:{max(1, round(self._each_s))}"]
        lines.append(f"#EXT-X-MEDIA-SEQUENCE:{first}")
        for number in range(first, there):
            lines += [f"#EXTINF:{self._each_s:.3f},", self._parts[number].name]
        if self.ended or there == len(self._parts):
            lines.append("#EXT-X-ENDLIST")
        body = ("\n".join(lines) + "\n").encode()
        handler.head(len(body), "application/vnd.apple.mpegurl")
        handler.wfile.write(body)

    def _part(self, number: int, body: bytes) -> Callable[[Handler], None]:
        def route(handler: Handler) -> None:
            if self.down or number in self.missing:
                handler.send_error(404)
                return
            handler.head(len(body), "video/mp2t")
            handler.wfile.write(body)

        return route


def write_hls(folder: Path, images: Sequence[NDArray[np.uint8]], fps: int, each_s: int = 1) -> Path:
    """The parts of a video, `each_s` seconds long, with time stamps that go on."""
    options = {"g": str(fps * each_s), "sc_threshold": "0", "bf": "0", "preset": "ultrafast"}
    how: dict[str, Any] = {"hls_time": str(each_s), "hls_list_size": "0"}
    write_video(folder / "part.m3u8", images, fps=fps, options=options, format="hls", container_options=how)
    return folder


def hls_parts(folder: Path) -> tuple[list[Path], float]:
    """The parts of a video in order, and how long each is in seconds."""
    text = (folder / "part.m3u8").read_text("ascii")
    each = [float(line[8:].rstrip(",")) for line in text.splitlines() if line.startswith("#EXTINF:")]
    names = [line for line in text.splitlines() if line.endswith(".ts")]
    return [folder / name for name in names], each[0]
