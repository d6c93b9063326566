"""What can be followed live: its address, and how a plain web address is told from a file.

A stream has no end and cannot be read twice. `recognised` knows cameras and RTSP by their names, `probe` asks
a web server whether it sends pictures without end (MJPEG). HLS is found out by `analyzer.source`.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.message import Message
from enum import StrEnum
from typing import Any
from urllib.parse import unquote, urlsplit

__all__ = [
    "MULTIPART",
    "MultipartPictures",
    "Stream",
    "StreamForm",
    "open_http",
    "probe",
    "recognised",
    "shown_address",
]

MULTIPART = "multipart/x-mixed-replace"
"""Media type of an answer in which each part replaces the one before: MJPEG."""

_CAMERA = re.compile(r"[0-9]{1,3}")
_MAX_HEAD_BYTES = 64 * 1024
_MAX_PICTURE_BYTES = 64 * 1024 * 1024
_BLOCK_BYTES = 64 * 1024
_USER_AGENT = "Mozilla/5.0 (audience-analyzer)"


class StreamForm(StrEnum):
    """How a stream arrives."""

    CAMERA = "camera"
    """A camera of this computer, by its number."""
    RTSP = "rtsp"
    MJPEG = "mjpeg"
    """JPEG pictures, one after another, in one HTTP answer."""
    HLS = "hls"


@dataclass(frozen=True)
class Stream:
    """Where pictures without end come from."""

    form: StreamForm
    address: str = field(repr=False)
    """May hold a password or a signature: for connecting only, never to be shown or stored."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """Of the HTTP requests."""
    renew: Callable[[], Stream] | None = field(default=None, repr=False, compare=False)
    """Asks the site for a fresh address, where addresses expire."""


def recognised(source: str) -> Stream | None:
    """A stream that shows by its name alone: the number of a camera, or an RTSP address.

    >>> recognised("0").form, recognised("rtsp://camera/1").form, recognised("http://camera/video")
    (<StreamForm.CAMERA: 'camera'>, <StreamForm.RTSP: 'rtsp'>, None)
    """
    if _CAMERA.fullmatch(source):
        return Stream(StreamForm.CAMERA, source)
    if re.match(r"rtsps?://[^/?#\s]", source, re.I) and source.isprintable():
        return Stream(StreamForm.RTSP, source)
    return None


def open_http(address: str, timeout_s: float, headers: Mapping[str, str] | None = None) -> Any:
    """Ask for a web address; user name and password may stand in it, for basic and digest authentication.

    Returns:
        An open `http.client.HTTPResponse`.

    Raises:
        OSError: The server cannot be reached or refuses (`urllib.error.HTTPError`).
        http.client.HTTPException: It does not speak HTTP.
        ValueError: This is no address.
    """
    parts = urlsplit(address)
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()
    handlers: list[urllib.request.BaseHandler] = []
    if parts.username:
        passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        passwords.add_password(None, bare, unquote(parts.username), unquote(parts.password or ""))
        handlers += [
            urllib.request.HTTPBasicAuthHandler(passwords),
            urllib.request.HTTPDigestAuthHandler(passwords),
        ]
    request = urllib.request.Request(bare, headers={"User-Agent": _USER_AGENT, **(headers or {})})
    try:
        return urllib.request.build_opener(*handlers).open(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        error.close()  # it is an answer too, and holds a connection
        raise


def probe(address: str, timeout_s: float) -> Stream | None:
    """The MJPEG stream at a web address; None where there is none, or no answer.

    Only the head of the answer is read.
    """
    try:
        with open_http(address, timeout_s) as response:
            multipart = response.headers.get_content_type() == MULTIPART
            _shut(response)
    except (OSError, http.client.HTTPException, ValueError):
        return None
    return Stream(StreamForm.MJPEG, address) if multipart else None


def _shut(response: Any) -> None:
    """Wake whoever waits for this answer; closing alone would wait for them."""
    raw = getattr(getattr(response, "fp", None), "raw", None)
    connected = getattr(raw, "_sock", None)
    if isinstance(connected, socket.socket):
        with contextlib.suppress(OSError):
            connected.shutdown(socket.SHUT_RDWR)


class MultipartPictures:
    """The parts of an endless multipart answer.

    Args:
        address: A web address, with or without user name and password.
        timeout_s: No whole part for so long: the stream is broken.
        headers: Of the request.

    Raises:
        OSError: On construction, if there is no connection; `TimeoutError` among them.
        http.client.HTTPException: On construction, if this is no web server.
        ValueError: On construction, if the answer is not multipart.
    """

    def __init__(self, address: str, timeout_s: float, headers: Mapping[str, str] | None = None) -> None:
        self._response = open_http(address, timeout_s, headers)
        self._timeout_s = timeout_s
        self._buffer = bytearray()
        head: Message = self._response.headers
        if head.get_content_type() != MULTIPART:
            kind = head.get_content_type()
            self.close()
            raise ValueError(f"the server sends {kind}, no MJPEG stream ({MULTIPART})")
        # Servers do not agree on whether its dashes belong to it.
        self._boundary = str(head.get_param("boundary") or "").strip().strip("-").encode("latin-1", "replace")

    def close(self) -> None:
        """End the connection; also while another thread waits for a part. Safe to call twice."""
        _shut(self._response)
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._response.close()

    def __iter__(self) -> Iterator[bytes]:
        """The bodies of the parts, until the server says that this was the last one.

        Raises:
            OSError: The connection broke: `TimeoutError`, `ConnectionError`.
        """
        while True:
            self._deadline = time.monotonic() + self._timeout_s
            length = self._head()
            if length is None:
                return
            yield self._body(length)

    def _head(self) -> int | None:
        """Read up to a part's body; its declared length, -1 where it declares none, None at the end."""
        while True:
            line = self._line()
            if self._is_boundary(line):
                if line.endswith(b"--"):
                    return None
                length = -1
            elif line:
                name, _, value = line.partition(b":")
                length = -1
                if name.strip().lower() == b"content-length" and value.strip().isdigit():
                    length = min(int(value), _MAX_PICTURE_BYTES)
            else:
                continue  # an empty line before the first boundary
            while line := self._line():
                name, _, value = line.partition(b":")
                if name.strip().lower() == b"content-length" and value.strip().isdigit():
                    length = min(int(value), _MAX_PICTURE_BYTES)
            return length

    def _is_boundary(self, line: bytes) -> bool:
        return line.startswith(b"--") and line.strip(b"-").startswith(self._boundary)

    def _line(self) -> bytes:
        start = 0
        while (end := self._buffer.find(b"\n", start)) < 0:
            start = len(self._buffer)
            if start > _MAX_HEAD_BYTES:
                raise ConnectionError("the stream does not keep to its format")
            self._more()
        line = bytes(self._buffer[:end]).strip()
        del self._buffer[: end + 1]
        return line

    def _body(self, length: int) -> bytes:
        if length >= 0:
            while len(self._buffer) < length:
                self._more()
            body = bytes(self._buffer[:length])
            del self._buffer[:length]
            return body
        mark = b"\n--" + self._boundary
        start = 0
        # Some write more dashes than the boundary has.
        while (end := self._buffer.find(mark, start)) < 0 and (
            end := self._buffer.find(b"\n----" + self._boundary, start)
        ) < 0:
            start = max(0, len(self._buffer) - len(mark) - 2)
            self._more()
        body = bytes(self._buffer[:end]).removesuffix(b"\r")
        del self._buffer[: end + 1]
        return body

    def _more(self) -> None:
        if len(self._buffer) > _MAX_PICTURE_BYTES + _MAX_HEAD_BYTES:
            raise ConnectionError("the stream does not keep to its format")
        block = self._response.read1(_BLOCK_BYTES)
        if not block:
            raise ConnectionError("the server closed the connection")
        self._buffer += block
        # A server that dribbles trips no socket timeout.
        if time.monotonic() > self._deadline:
            raise TimeoutError("no whole picture arrived in time")


def shown_address(source: str) -> str:
    """What stands for a source in a title: the host of an address.

    >>> shown_address("rtsp://user:secret@camera.local:554/1"), shown_address("0")
    ('camera.local', 'camera 0')
    """
    with contextlib.suppress(ValueError):
        if host := urlsplit(source).hostname:
            return host
    return f"camera {source}"
