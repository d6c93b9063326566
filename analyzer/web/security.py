"""Who may ask, from where, and what pages may load.

`Guard` is the outermost layer: it checks each request's ``Host``, its ``Origin`` and its token before
anything else sees it, and adds the headers that keep a page from loading anything from elsewhere.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import socket
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from analyzer.web.config import ServeConfig

__all__ = ["CSP", "Guard", "Rate", "cookie_name", "cookie_value", "is_loopback", "token_matches"]

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy of every page; a response may set a policy of its own."""

_HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}
_SAFE = ("GET", "HEAD", "OPTIONS")
_OPEN = ("/healthz", "/login")
_OPEN_BELOW = ("/static/",)
_MOST_CLIENTS = 10_000


class Rate:
    """Counts events of the last minute, for each key.

    Args:
        most: Events of one key in a minute.
        clock: The time, in seconds.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._times: defaultdict[str, deque[float]] = defaultdict(deque)

    def exceeded(self, key: str = "") -> bool:
        """Whether as many events as are allowed were counted in the last minute."""
        times = self._times.get(key)
        if times is None:
            return False
        while times and times[0] <= self._clock() - 60:
            times.popleft()
        if not times:
            del self._times[key]
        return len(times) >= self._most

    def count(self, key: str = "") -> None:
        """Count an event."""
        if key not in self._times and len(self._times) >= _MOST_CLIENTS:
            self._times.pop(next(iter(self._times)))
        self._times[key].append(self._clock())


def token_matches(given: str | None, token: str) -> bool:
    """Compare a token in constant time."""
    return given is not None and hmac.compare_digest(given.encode(), token.encode())


def cookie_name(port: int) -> str:
    """Name of the cookie: cookies are shared between the ports of a host."""
    return f"analyzer-{port}"


def cookie_value(token: str) -> str:
    """Value of the cookie, from which the token cannot be computed."""
    return hmac.new(token.encode(), b"cookie", hashlib.sha256).hexdigest()


def is_loopback(host: str) -> bool:
    """Whether a server that is bound to this host can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Guard:
    """ASGI middleware: refuses requests by their host, origin and token, and adds headers to responses.

    Browsers resolve a name that they do not trust to any address (DNS rebinding), so the name counts, not the
    address: names of this machine and those that the operator allows are known, and addresses are no names.

    Args:
        app: The application.
        config: Of the server; `port` is the one that it is bound to.
        failures: Counts the wrong tokens of each client.
    """

    def __init__(self, app: ASGIApp, config: ServeConfig, failures: Rate) -> None:
        self._app = app
        self._config = config
        self._cookie = cookie_name(config.port)
        self._cookie_value = cookie_value(config.token)
        self._names = {"localhost", config.host.lower(), *(name.lower() for name in config.hosts)}
        if not is_loopback(config.host):
            self._names.add(socket.gethostname().lower())
        self._failures = failures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request or a WebSocket."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, with_headers)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # before accepting: HTTP 403
        else:
            await _answer(*refusal, scope, with_headers)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        if len(headers.getlist("host")) != 1 or not self._knows(headers["host"]):
            return 403, "this server does not go by that name: start it with --allow-host NAME"
        unsafe = scope["type"] == "websocket" or scope["method"] not in _SAFE
        origin = headers.get("origin")
        if (unsafe or origin is not None) and not _same_origin(headers, origin):
            return 403, "the request comes from another site"
        path = scope["path"]
        if path in _OPEN or path.startswith(_OPEN_BELOW):
            return None
        return self._not_authorized(scope, headers, needs_origin=unsafe)

    def _not_authorized(
        self, scope: Scope, headers: Headers, *, needs_origin: bool
    ) -> tuple[int, str] | None:
        client = (scope.get("client") or ("",))[0]
        if self._failures.exceeded(client):
            return 429, "too many wrong tokens: wait a minute"
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            if token_matches(given.strip(), self._config.token):
                return None
            self._failures.count(client)
            return 401, "the token is wrong: the server has printed the right one"
        if token_matches(_cookie(headers, self._cookie), self._cookie_value):
            # A browser names the origin of everything that a page sends; a program uses the header.
            if needs_origin and headers.get("origin") is None:
                return 403, "a request with a cookie needs its Origin"
            return None
        return 401, "a token is needed: open the address that the server has printed"

    def _knows(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _same_origin(headers: Headers, origin: str | None) -> bool:
    if origin is None:
        return True  # not from a page of another site: browsers always name it
    if origin == "null":  # of a form, under the policy that no address is sent
        return headers.get("sec-fetch-site") == "same-origin"
    try:
        return urlsplit(origin).netloc.lower() == headers["host"].lower()
    except ValueError:
        return False


def _cookie(headers: Headers, name: str) -> str | None:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return None
    return None if found is None else found.value


def accepts_html(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a browser asks for a page."""
    return any(name == b"accept" and b"text/html" in value for name, value in headers)


async def _answer(status: int, sentence: str, scope: Scope, send: Send) -> None:
    extra: list[tuple[bytes, bytes]] = []
    body: dict[str, Any] = {"error": sentence}
    if status == 401:
        extra.append((b"www-authenticate", b"Bearer"))
        if scope["method"] == "GET" and accepts_html(scope["headers"]):
            query = scope["query_string"].decode("latin-1")
            wanted = quote(scope["path"] + (f"?{query}" if query else ""), safe="/")
            status, extra = 303, [(b"location", f"/login?next={wanted}".encode("latin-1"))]
    raw = json.dumps(body).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(raw)).encode()),
        (b"connection", b"close"),  # the rest of a refused upload is not read
        *extra,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": raw})
