"""MJPEG over HTTP: the frames of a multipart response."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from analyzer.util.http import MULTIPART, open_http

__all__ = [
    "MultipartFrames",
]

_BLOCK_BYTES = 64 * 1024
_MAX_HEAD_BYTES = 64 * 1024
_MAX_PART_BYTES = 64 * 1024 * 1024


class MultipartFrames:
    """The parts of an endless multipart response, each the bytes of a JPEG frame.

    Args:
        address: A web address, with or without a login.
        timeout_s: The longest wait for a whole part.
        headers: Added to those of the request.

    Raises:
        OSError: On construction, if there is no connection; `TimeoutError` among them.
        ValueError: On construction, if the response is not multipart.
    """

    def __init__(self, address: str, timeout_s: float, headers: Mapping[str, str] | None = None) -> None:
        self._response = open_http(address, timeout_s, headers)
        self._timeout_s = timeout_s
        self._buffer = bytearray()
        if self._response.content_type != MULTIPART:
            self.close()
            raise ValueError(f"the server sends {self._response.content_type}, not MJPEG ({MULTIPART})")
        # Servers do not agree on whether its dashes are part of it.
        self._boundary = self._response.parameter("boundary").strip().strip("-").encode("latin-1", "replace")

    def close(self) -> None:
        """Close the connection, also while another thread waits for a part. May be called twice."""
        self._response.close()

    def __iter__(self) -> Iterator[bytes]:
        """Yield the bodies of the parts, until the server marks the last one.

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
        """Read up to a part's body; return its declared length, -1 if it declares none, None at the end."""
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
                    length = min(int(value), _MAX_PART_BYTES)
            else:
                continue  # an empty line before the first boundary
            while line := self._line():
                name, _, value = line.partition(b":")
                if name.strip().lower() == b"content-length" and value.strip().isdigit():
                    length = min(int(value), _MAX_PART_BYTES)
            return length

    def _is_boundary(self, line: bytes) -> bool:
        return line.startswith(b"--") and line.strip(b"-").startswith(self._boundary)

    def _line(self) -> bytes:
        start = 0
        while (end := self._buffer.find(b"\n", start)) < 0:
            start = len(self._buffer)
            if start > _MAX_HEAD_BYTES:
                raise ConnectionError("the stream is not valid MJPEG")
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
        # Some servers write more dashes than the boundary has.
        while (end := self._buffer.find(mark, start)) < 0 and (
            end := self._buffer.find(b"\n----" + self._boundary, start)
        ) < 0:
            start = max(0, len(self._buffer) - len(mark) - 2)
            self._more()
        body = bytes(self._buffer[:end]).removesuffix(b"\r")
        del self._buffer[: end + 1]
        return body

    def _more(self) -> None:
        if len(self._buffer) > _MAX_PART_BYTES + _MAX_HEAD_BYTES:
            raise ConnectionError("the stream is not valid MJPEG")
        block = self._response.read(_BLOCK_BYTES)
        if not block:
            raise ConnectionError("the server closed the connection")
        self._buffer += block
        # A server that sends single bytes never meets the time-out of the socket.
        if time.monotonic() > self._deadline:
            raise TimeoutError("no whole frame arrived in time")
