"""Live streams: how they are recognized, and their addresses.

A stream has no end and cannot be read twice. `recognized` knows cameras and RTSP by name, `probe` asks a web
server whether it sends MJPEG. HLS is detected by `analyzer.sources.resolve`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit

from analyzer.util.http import MULTIPART, open_http

__all__ = [
    "Stream",
    "StreamForm",
    "probe",
    "recognized",
    "shown_address",
]

_CAMERA = re.compile(r"[0-9]{1,3}")


class StreamForm(StrEnum):
    """The protocol of a stream."""

    CAMERA = "camera"
    """A camera of this computer, by number."""
    RTSP = "rtsp"
    MJPEG = "mjpeg"
    """JPEG frames in one endless HTTP response."""
    HLS = "hls"


@dataclass(frozen=True)
class Stream:
    """The address of a stream, and how to connect."""

    form: StreamForm
    address: str = field(repr=False)
    """May contain a password or a signature: for connecting only, never shown or stored."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """Headers of the HTTP requests."""
    renew: Callable[[], Stream] | None = field(default=None, repr=False, compare=False)
    """Asks the site for a fresh address, if addresses expire."""


def recognized(source: str) -> Stream | None:
    """Recognize a stream by its name alone: the number of a camera, or an RTSP address.

    >>> recognized("0").form, recognized("rtsp://camera/1").form, recognized("http://camera/video")
    (<StreamForm.CAMERA: 'camera'>, <StreamForm.RTSP: 'rtsp'>, None)
    """
    if _CAMERA.fullmatch(source):
        return Stream(StreamForm.CAMERA, source)
    if re.match(r"rtsps?://[^/?#\s]", source, re.I) and source.isprintable():
        return Stream(StreamForm.RTSP, source)
    return None


def probe(address: str, timeout_s: float) -> Stream | None:
    """Return the MJPEG stream at a web address; None if it is something else, or does not answer.

    Only the head of the response is read.
    """
    try:
        with open_http(address, timeout_s) as response:
            multipart = response.content_type == MULTIPART
    except OSError:
        return None
    return Stream(StreamForm.MJPEG, address) if multipart else None


def shown_address(source: str) -> str:
    """Return the title of a live source without a better one: the host of its address.

    >>> shown_address("rtsp://user:secret@camera.local:554/1"), shown_address("0")
    ('camera.local', 'camera 0')
    """
    with contextlib.suppress(ValueError):
        if host := urlsplit(source).hostname:
            return host
    return f"camera {source}"
