"""Loopback web servers that misbehave on request, and an extractor whose results a test scripts."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from yt_dlp.extractor.common import InfoExtractor

Route = Callable[["Handler"], None]


TYPES = {
    ".mp4": "video/mp4",
    ".m4a": "audio/mp4",
    ".html": "text/html",
    ".m3u8": "application/vnd.apple.mpegurl",
    ".ts": "video/mp2t",
}


class Handler(BaseHTTPRequestHandler):
    """Answers with the route of its server; HTTP/1.0, so that the end of a body may be its only mark."""

    server: Server

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        with self.server.lock:
            self.server.requests.append(path)
        route = self.server.routes.get(path)
        if route is None:
            self.send_error(404)
        else:
            route(self)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""

    def head(self, length: int | None, content_type: str = "video/mp4", status: int = 200) -> None:
        """Send the head of an answer; without `length` the body ends with the connection."""
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.send_header("Set-Cookie", "sid=SECRET-COOKIE")
        self.end_headers()


class Server(ThreadingHTTPServer):
    """A server on an address of this computer. `requests` are the paths asked for, in order."""

    daemon_threads = False
    block_on_close = True

    def __init__(self, host: str = "127.0.0.1") -> None:
        super().__init__((host, 0), Handler)
        self.connections = 0
        """How many connections were made, whether or not a request came."""
        self.routes: dict[str, Route] = {}
        self.requests: list[str] = []
        self.ranges: list[str] = []
        """The parts that were asked for, where `add_ranges` answers."""
        self.lock = threading.Lock()
        self.stopping = threading.Event()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Count the connection."""
        self.connections += 1
        return True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is part of the tests."""

    def url(self, path: str) -> str:
        """The address of a path."""
        return f"http://{self.server_address[0]!s}:{self.server_address[1]}{path}"

    def count(self, path: str) -> int:
        """How often a path was asked for."""
        return self.requests.count(path)

    def add(self, path: str, body: bytes | Path, content_type: str | None = None) -> str:
        """Serve a body; returns its address."""
        data = body.read_bytes() if isinstance(body, Path) else body
        kind = content_type or TYPES[Path(path).suffix]

        def route(handler: Handler) -> None:
            handler.head(len(data), kind)
            handler.wfile.write(data)

        self.routes[path] = route
        return self.url(path)

    def add_ranges(self, path: str, body: bytes, how: str) -> str:
        """Answer requests for a part: ``right``, ``whole`` (200, all of it), or wrongly with 206: the whole
        file (``all``), no Content-Range (``bare``), one byte more at each end (``more``), from the next byte
        on (``later``). Returns the address."""

        def route(handler: Handler) -> None:
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", handler.headers.get("Range", ""))
            with self.lock:
                self.ranges.append(handler.headers.get("Range", ""))
            start, last = (int(asked[1]), int(asked[2] or len(body) - 1)) if asked else (0, len(body) - 1)
            if how == "all" or not asked or how == "whole":
                start, last = 0, len(body) - 1
            if how == "more":
                start, last = max(0, start - 1), min(last + 1, len(body) - 1)
            start += how == "later"
            part = body[start : last + 1]
            handler.send_response(206 if asked and how != "whole" else 200)
            handler.send_header("Content-Type", TYPES[Path(path).suffix])
            handler.send_header("Content-Length", str(len(part)))
            if asked and how not in ("whole", "bare"):
                handler.send_header("Content-Range", f"bytes {start}-{last}/{len(body)}")
            handler.end_headers()
            handler.wfile.write(part)

        self.routes[path] = route
        return self.url(path)

    def add_folder(self, folder: Path) -> None:
        """Serve the files of a folder."""
        for path in folder.iterdir():
            self.add(f"/{path.name}", path)

    def add_status(self, path: str, status: int) -> str:
        """Refuse with a status; returns the address."""
        self.routes[path] = lambda handler: handler.send_error(status)
        return self.url(path)

    def add_retry_after(self, path: str, status: int, value: str) -> str:
        """Refuse with a status and say for how long: seconds or an HTTP date; returns the address."""

        def route(handler: Handler) -> None:
            handler.send_response(status)
            handler.send_header("Retry-After", value)
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        self.routes[path] = route
        return self.url(path)

    def add_cut(self, path: str, data: bytes) -> str:
        """Declare all of a body, send half, and close."""

        def route(handler: Handler) -> None:
            handler.head(len(data))
            handler.wfile.write(data[: len(data) // 2])

        self.routes[path] = route
        return self.url(path)

    def add_endless(self, path: str, content_type: str = "video/mp4", start: bytes = b"") -> str:
        """A body without length that never ends."""

        def route(handler: Handler) -> None:
            handler.head(None, content_type)
            handler.wfile.write(start)
            while not self.stopping.is_set():
                handler.wfile.write(b"\0" * 65536)

        self.routes[path] = route
        return self.url(path)

    def add_dribble(self, path: str, content_type: str = "video/mp4", first: bytes = b"") -> str:
        """20 bytes every half a second, for ever: no socket timeout ever trips."""

        def route(handler: Handler) -> None:
            handler.head(10_000_000, content_type)
            handler.wfile.write(first)
            while not self.stopping.wait(0.5):
                handler.wfile.write(b" " * 20)

        self.routes[path] = route
        return self.url(path)

    def add_dribbling_head(self, path: str) -> str:
        """As `add_dribble`, but it is a header that never ends."""

        def route(handler: Handler) -> None:
            handler.wfile.write(b"HTTP/1.0 200 OK\r\nX-Long: ")
            while not self.stopping.wait(0.5):
                handler.wfile.write(b"x" * 20)

        self.routes[path] = route
        return self.url(path)

    def add_slow(self, path: str, data: bytes, block: int, pause_s: float, at_once: int = 0) -> str:
        """A whole body, slowly: `at_once` bytes, then `block` bytes, a pause, and so on."""

        def route(handler: Handler) -> None:
            handler.head(len(data))
            handler.wfile.write(data[:at_once])
            for start in range(at_once, len(data), block):
                handler.wfile.write(data[start : start + block])
                if self.stopping.wait(pause_s):
                    return

        self.routes[path] = route
        return self.url(path)

    def add_silent(self, path: str) -> str:
        """Accept the request and say nothing."""
        self.routes[path] = lambda handler: self.stopping.wait() and None
        return self.url(path)


@contextmanager
def serve(host: str = "127.0.0.1") -> Iterator[Server]:
    """A running server."""
    server = Server(host)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()


class ScriptedIE(InfoExtractor):  # type: ignore[misc]
    """Knows ``https://scripted.test/<name>``; a subclass made by `scripted` knows what to answer."""

    _VALID_URL = r"https?://scripted\.test/(?P<id>[^?#]+)"
    answers: dict[str, Callable[[str], Any]]
    asked: list[str]

    def _real_extract(self, url: str) -> Any:
        name = self._match_id(url)
        self.asked.append(name)
        return self.answers[name](name)


class ScriptedListIE(ScriptedIE):
    """Knows ``https://lists.test/<name>`` and says of itself that these are playlists."""

    _VALID_URL = r"https?://lists\.test/(?P<id>[^?#]+)"
    _RETURN_TYPE = "playlist"


def scripted(base: type[ScriptedIE] = ScriptedIE, **answers: Any) -> Any:
    """An extractor class that gives these answers: functions of the name, exceptions, or info dicts.

    `asked` lists the names it was asked for, in order.
    """

    def answer(value: Any) -> Callable[[str], Any]:
        def give(name: str) -> Any:
            if isinstance(value, Exception):
                raise value
            return value(name) if callable(value) else {"id": name, "title": f"Title {name}", **value}

        return give

    # The class keeps its name, as yt-dlp derives its key from it.
    return type(base.__name__, (base,), {"answers": {k: answer(v) for k, v in answers.items()}, "asked": []})
