"""Requests to untrusted addresses, kept away from the server's own network.

Checking an address before it is requested protects nothing: it may redirect, name further addresses in a page
or playlist, or resolve to another host the next time. So an `Egress` is a forward proxy on the loopback
interface through which all requests of a `Fetcher` go (`Fetcher(..., proxy=egress.proxy)`). For each
connection it resolves the name itself, refuses it if any of its addresses is not public, and connects to the
address that it has checked. What does not go through the proxy fails; no client falls back to a direct
connection.

::

    with Egress() as egress:
        fetcher = Fetcher(settings, want_audio=False, proxy=egress.proxy)
        for item in fetcher.resolve(public_source("https://example.org/talk")):
            ...
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import ipaddress
import logging
import re
import secrets
import socket
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeAlias
from urllib.parse import urlsplit

from analyzer.errors import SourceError, SourceErrorKind
from analyzer.sources.failures import REFUSED_STATUS, REFUSED_WORDS
from analyzer.sources.types import UrlSource
from analyzer.util.urls import web_address

__all__ = ["Egress", "EgressLimits", "is_public", "public_source"]

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""Called with a host and a port; returns all its addresses. Raises OSError if it has none."""

_log = logging.getLogger(__name__)

_MAX_URL = 2048

_MAX_HEAD_BYTES = 64 * 1024

_BLOCK_BYTES = 256 * 1024

# What `ipaddress` calls global although it is not public, or lets through in some versions of Python.
_SPECIAL_V4 = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "192.0.0.0/24",  # protocol assignments
            "192.88.99.0/24",  # relays to 6to4
            "168.63.129.16/32",  # the platform's own services, on machines of a well-known cloud
        ),
    )
)
_UNICAST_V6 = ipaddress.IPv6Network("2000::/3")
_SPECIAL_V6 = tuple(
    map(
        ipaddress.IPv6Network,
        (
            "2001::/23",  # protocol assignments, Teredo among them
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4: an IPv4 address in disguise
            "3fff::/20",  # documentation
        ),
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

# The ports that browsers do not open for http, in the Fetch standard's list ("bad port"): mail, name service,
# remote shells and others whose servers may take an HTTP request for their own protocol.
_BAD_PORTS = (
    frozenset({0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101})
    | {102, 103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465}
    | {512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995}
    | {1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679}
    | {6697, 10080}
)

_LOCAL_NAME = re.compile(r"(?:.*\.)?(?:localhost|local|internal|home\.arpa|lan)\.?", re.I)


def is_public(address: Address) -> bool:
    """Return whether an address is a host on the internet: global unicast, and no disguise of another one.

    IPv4 addresses inside of IPv6 ones (``::ffff:0:0/96``, NAT64) are judged by themselves.

    >>> [is_public(ipaddress.ip_address(one)) for one in ("9.9.9.9", "2620:fe::fe", "64:ff9b::9.9.9.9")]
    [True, True, True]
    >>> [is_public(ipaddress.ip_address(one)) for one in ("100.64.0.1", "fec0::1", "64:ff9b::127.0.0.1")]
    [False, False, False]
    """
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address in _NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
        special = address.scope_id is not None or any(address in one for one in _SPECIAL_V6)
        return address in _UNICAST_V6 and address.is_global and not special
    special = address.is_multicast or address.is_reserved or any(address in one for one in _SPECIAL_V4)
    return address.is_global and not special


def public_source(text: str) -> UrlSource:
    """Check what a visitor has typed as an address, without any request.

    Only the checks of an `Egress` make it safe to request it: this one refuses early and with a reason what
    could never be requested.

    Args:
        text: A complete http or https address, as typed.

    Raises:
        SourceError: It is something else, holds a login, or names a host or port that is not public.
    """

    def refused(message: str) -> SourceError:
        return SourceError(message, kind=SourceErrorKind.UNSUPPORTED, source=text[:_MAX_URL])

    address = web_address(text)
    if address is None or len(address) > _MAX_URL:
        raise refused("This is not a web address: give a complete one that begins with https:// or http://")
    parts = urlsplit(address)
    host = parts.hostname or ""
    if "@" in parts.netloc:
        raise refused("The address holds a user name or password: give one that needs none")
    numeric = _numeric(host.rstrip("."))
    local = "%" in host or _LOCAL_NAME.fullmatch(host) is not None  # % names one of this machine's interfaces
    if local or (numeric is not None and not is_public(numeric)):
        raise refused("This address is not on the internet: give one that everybody can reach")
    if parts.port is not None and parts.port in _BAD_PORTS:
        raise refused(f"The address names port {parts.port}, which is none of the web")
    return UrlSource(address)


def _numeric(host: str) -> Address | None:
    """Return the address that a host is, in any of the ways to write one (0x7f.1, 2130706433); else None."""
    try:
        found = socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST, type=socket.SOCK_STREAM)
        return ipaddress.ip_address(found[0][4][0])
    except (OSError, ValueError):
        return None


@dataclass(frozen=True)
class EgressLimits:
    """Limits of an `Egress`."""

    connections: int = 64
    """At the same time; further ones wait."""
    connect_s: float = 10.0
    """For the name to be resolved, and again for the connection."""
    idle_s: float = 90.0
    """Without a byte in either direction."""
    whole_s: float = 6 * 3600.0
    """Of one connection."""
    passed_bytes: int = 64 * 2**30
    """Of one connection and direction. `Settings.max_size_mb` limits a download."""


class _RefusedError(Exception):
    """The connection is not allowed."""


class Egress:
    """A forward proxy for http and https that connects to public addresses only.

    It runs in a thread of its own, with credentials of its own, until the end of its ``with`` block. TLS is
    the client's: the proxy sees the host, never the content.

    Args:
        limits: Of connections.
        allowed: Networks that may be reached although they are not public.
        resolve: Finds the addresses of a host; the system's resolver if None.

    Raises:
        OSError: On construction, if there is no loopback interface.
    """

    def __init__(
        self,
        *,
        limits: EgressLimits | None = None,
        allowed: Iterable[Network] = (),
        resolve: Resolve | None = None,
    ) -> None:
        self._limits = limits or EgressLimits()
        self._allowed = tuple(allowed)
        self._resolve = resolve or _resolved
        self._listener = socket.create_server(("127.0.0.1", 0))
        # asyncio does so only for sockets that name their protocol; connections inherit it.
        self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._port: int = self._listener.getsockname()[1]
        password = secrets.token_urlsafe(24)
        self._credentials = b"Basic " + base64.b64encode(f"egress:{password}".encode())
        self.proxy = f"http://egress:{password}@127.0.0.1:{self._port}"
        """Address of the proxy, with its credentials."""
        self._loop = asyncio.new_event_loop()
        self._slots = asyncio.Semaphore(self._limits.connections)
        self._tasks: set[asyncio.Task[None]] = set()
        self._ending = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="egress", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End all connections and the thread. May be called twice."""
        with contextlib.suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- in the thread

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._accepted, sock=self._listener, limit=_MAX_HEAD_BYTES)
        async with server:
            await self._ending.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._served(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _served(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with self._slots, asyncio.timeout(self._limits.whole_s):
                await self._answer(_Peer(reader, writer))
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError, TimeoutError) as error:
            _log.debug("a connection ended: %s", type(error).__name__)
        finally:
            writer.close()

    async def _answer(self, client: _Peer) -> None:
        """Serve the one request of a connection."""
        async with asyncio.timeout(self._limits.idle_s):
            head = _Head.parsed(await client.head())
        if not hmac.compare_digest(head.value(b"proxy-authorization"), self._credentials):
            challenge = b'Proxy-Authenticate: Basic realm="egress"\r\n'
            await client.refuse(407, "Proxy Authentication Required", challenge)
            return
        tunnel = head.words[0] == b"CONNECT"
        host, port = _target(head.words[1].decode("ascii"), tunnel=tunnel)
        try:
            server = await self._connect(host, port)
        except _RefusedError as error:
            _log.info("a connection was refused: %s", error)
            await client.refuse(REFUSED_STATUS, REFUSED_WORDS)
            return
        except (OSError, TimeoutError, ValueError):
            await client.refuse(502, "The host cannot be reached")
            return
        async with contextlib.aclosing(server):
            if tunnel:
                await client.send(b"HTTP/1.1 200 Connected\r\n\r\n")
                await self._tunnel(client, server)
            else:
                await self._forward(client, server, head)

    async def _connect(self, host: str, port: int) -> _Peer:
        """Resolve a host, check all its addresses, and connect to the first that answers.

        Raises:
            _RefusedError: One of them is not allowed, or the port.
            OSError: It cannot be reached.
        """
        if port in _BAD_PORTS:
            raise _RefusedError(f"port {port}")
        async with asyncio.timeout(self._limits.connect_s):
            found = [ipaddress.ip_address(one) for one in await self._resolve(host, port)]
        own = _own_addresses()
        for address in found:
            if not self._permits(address, port, own):
                raise _RefusedError(str(address))
        failure: OSError | TimeoutError = OSError("the name has no address")
        for address in found:
            try:
                async with asyncio.timeout(self._limits.connect_s):
                    # The address itself: a name would be resolved once more, perhaps to another one.
                    opened = await asyncio.open_connection(str(address), port, limit=_MAX_HEAD_BYTES)
            except (OSError, TimeoutError) as error:
                failure = error
            else:
                return _Peer(*opened)
        raise failure

    def _permits(self, address: Address, port: int, own: frozenset[str]) -> bool:
        if port == self._port and address.is_loopback:
            return False
        if any(address in network for network in self._allowed if network.version == address.version):
            return True
        return is_public(address) and str(address) not in own

    async def _tunnel(self, client: _Peer, server: _Peer) -> None:
        """Pass bytes in both directions until one side ends."""
        await self._until_one_ends(self._pass(client, server), self._pass(server, client), client, server)

    async def _forward(self, client: _Peer, server: _Peer, head: _Head) -> None:
        """Send one request and its body to the server, and one answer back.

        The connection ends with the answer, on both sides: what would follow may be for another host.
        """
        length = int(head.value(b"content-length") or b"0")
        if head.value(b"transfer-encoding") or length < 0:
            await client.refuse(411, "Length Required")
            return
        await server.send(head.request())

        async def upload() -> None:
            await self._pass(client, server, length)
            while await client.some():  # what follows is not passed on
                pass

        async def download() -> None:
            answer = _Head.parsed(await server.head())
            while answer.words[1].startswith(b"1"):  # 100 Continue
                await client.send(answer.text(answer.start))
                answer = _Head.parsed(await server.head())
            await client.send(answer.text(answer.start, closes=True))
            await self._pass(server, client)

        await self._until_one_ends(upload(), download(), client, server)

    async def _pass(self, source: _Peer, sink: _Peer, most: int | None = None) -> None:
        left = self._limits.passed_bytes if most is None else most
        while left > 0 and (block := await source.some(min(left, _BLOCK_BYTES))):
            left -= len(block)
            await sink.send(block)

    async def _until_one_ends(
        self, up: Coroutine[None, None, None], down: Coroutine[None, None, None], *peers: _Peer
    ) -> None:
        """Run both directions until one ends, or until neither has passed a byte for too long."""
        tasks = [asyncio.ensure_future(up), asyncio.ensure_future(down)]
        try:
            moved = -1
            while moved != (now := sum(peer.received for peer in peers)):
                moved = now
                done, _ = await asyncio.wait(
                    tasks, timeout=self._limits.idle_s, return_when=asyncio.FIRST_COMPLETED
                )
                if done:
                    await next(iter(done))  # raises what it raised
                    return
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class _Peer:
    """One side of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.received = 0
        """Bytes that came from it."""

    async def head(self) -> bytes:
        """Read up to the blank line, which belongs to it.

        Raises:
            EOFError, LimitOverrunError: It ends before, or is too long.
        """
        head = await self._reader.readuntil(b"\r\n\r\n")
        self.received += len(head)
        return head

    async def some(self, most: int = _BLOCK_BYTES) -> bytes:
        """Return what has arrived; empty at the end."""
        block = await self._reader.read(most)
        self.received += len(block)
        return block

    async def send(self, data: bytes) -> None:
        """Send bytes, no faster than they are taken."""
        self._writer.write(data)
        await self._writer.drain()

    async def refuse(self, status: int, words: str, header: bytes = b"") -> None:
        """Answer a request with an error."""
        line = f"HTTP/1.1 {status} {words}\r\n".encode("ascii")
        await self.send(line + header + b"Content-Length: 0\r\nConnection: close\r\n\r\n")

    async def aclose(self) -> None:
        """Close the connection."""
        self._writer.close()


_HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"te", b"trailer", b"upgrade"}) | {
    b"proxy-connection",
    b"proxy-authorization",
    b"proxy-authenticate",
}


@dataclass(frozen=True)
class _Head:
    """The head of a request or an answer."""

    start: bytes
    fields: tuple[tuple[bytes, bytes], ...]
    """Names as sent, and values."""

    @classmethod
    def parsed(cls, raw: bytes) -> Self:
        """Parse a head.

        Raises:
            ValueError: It is none.
        """
        start, *lines = raw[:-4].split(b"\r\n")
        if len(start.split(b" ", 2)) < 2:
            raise ValueError("not HTTP")
        fields = []
        for line in lines:
            name, colon, value = line.partition(b":")
            if not colon or not name or name.strip() != name:
                raise ValueError("not a header field")
            fields.append((name, value.strip()))
        return cls(start, tuple(fields))

    @property
    def words(self) -> list[bytes]:
        """Method, target and version; or version, status and reason."""
        return self.start.split(b" ", 2)

    def value(self, name: bytes) -> bytes:
        """Return the value of a field; empty if there is none.

        Raises:
            ValueError: There are several that differ.
        """
        found = {value for known, value in self.fields if known.lower() == name}
        if len(found) > 1:
            raise ValueError("contradictory header fields")
        return found.pop() if found else b""

    def text(self, start: bytes, *, closes: bool = False, host: bytes | None = None) -> bytes:
        """Compose a head for the other side, without what concerns this side only."""
        left_out = _HOP_BY_HOP | ({b"host"} if host is not None else set())
        lines = [start] if host is None else [start, b"Host: " + host]
        lines += [b"%s: %s" % field for field in self.fields if field[0].lower() not in left_out]
        return b"\r\n".join(lines + [b"Connection: close"] * closes + [b"", b""])

    def request(self) -> bytes:
        """Compose the request that the server gets, from one that names a whole address.

        Raises:
            ValueError: The address cannot be parsed.
        """
        method, target = self.words[:2]
        parts = urlsplit(target.decode("ascii"))
        path = parts._replace(scheme="", netloc="", fragment="").geturl()
        path = path if path.startswith("/") else "/" + path
        start = b"%s %s HTTP/1.1" % (method, path.encode("ascii"))
        return self.text(start, closes=True, host=parts.netloc.rpartition("@")[2].encode("ascii"))


def _target(text: str, *, tunnel: bool) -> tuple[str, int]:
    """Return host and port of what a request is for.

    Raises:
        ValueError: It is no web address.
    """
    parts = urlsplit(f"//{text}" if tunnel else text)
    port = parts.port if tunnel or parts.port is not None else 80
    if not parts.hostname or port is None or parts.scheme != ("" if tunnel else "http"):
        raise ValueError("not a web address")
    return parts.hostname, port


async def _resolved(host: str, port: int) -> list[str]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


def _own_addresses() -> frozenset[str]:
    """Return the addresses of this machine: services may trust whoever reaches them there."""
    import psutil

    return frozenset(one.address for each in psutil.net_if_addrs().values() for one in each)
