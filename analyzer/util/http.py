"""HTTP requests."""

from __future__ import annotations

import contextlib
import socket
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

__all__ = [
    "BLOCK_BYTES",
    "MULTIPART",
    "close_response",
    "open_http",
]

MULTIPART = "multipart/x-mixed-replace"
"""Media type of an answer in which each part replaces the one before: MJPEG."""


BLOCK_BYTES = 64 * 1024


_USER_AGENT = "Mozilla/5.0 (audience-analyzer)"


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


def close_response(response: Any) -> None:
    """Wake whoever waits for this answer; closing alone would wait for them."""
    raw = getattr(getattr(response, "fp", None), "raw", None)
    connected = getattr(raw, "_sock", None)
    if isinstance(connected, socket.socket):
        with contextlib.suppress(OSError):
            connected.shutdown(socket.SHUT_RDWR)
