"""No request of a stranger reaches this machine's network: a canary on the loopback interface stays alone.

127.0.0.2 stands for a public address, as `Egress` is told to allow it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import requests
from yt_dlp.networking import Request
from yt_dlp.networking.exceptions import RequestError
from yt_dlp.utils import ExtractorError

from analyzer.errors import SourceError, SourceErrorKind
from analyzer.settings import Settings
from analyzer.sources.egress import Egress, EgressLimits, is_public, public_source
from analyzer.sources.failures import REFUSED_STATUS
from analyzer.sources.resolve import Fetcher
from analyzer.sources.types import MediaKind, UrlSource
from testkit.media import numbered, write_video
from testkit.servers import Handler, ScriptedIE, Server, serve

PUBLIC = (ipaddress.ip_network("127.0.0.2/32"),)

NOT_PUBLIC = (
    *("127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "0", "[::1]", "[::ffff:127.0.0.1]"),
    *("[64:ff9b::7f00:1]", "[2002:7f00:1::]", "169.254.169.254", "100.64.0.1", "localhost", "LOCALHOST."),
    *("127.0.0.1.", "[::]", "[::127.0.0.1]", "[fe80::1%25lo]", "10.0.0.1", "192.168.0.1", "172.16.0.1"),
    *("[fd00::1]", "0.0.0.0", "255.255.255.255", "[::ffff:7f00:1]", "127.0.0.1%2f@example.org"),
)
"""Hosts as people write them in the hope of reaching something else than the internet."""


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exceptions that the environment makes from its own proxies do not count for this one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "*")


@pytest.fixture
def canary() -> Iterator[Server]:
    with serve() as running:
        running.add("/secret.mp4", b"secret")
        yield running
        assert running.connections == 0, running.requests


@pytest.fixture
def public() -> Iterator[Server]:
    with serve("127.0.0.2") as running:
        yield running


@pytest.fixture
def egress() -> Iterator[Egress]:
    with Egress(allowed=PUBLIC) as running:
        yield running


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", numbered(10)).read_bytes()


@pytest.fixture(scope="session")
def segments(hls: Path) -> dict[str, bytes]:
    """The files of an HLS stream: ``index.m3u8`` with three segments."""
    return {path.name: path.read_bytes() for path in hls.iterdir()}


def client(egress: Egress) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.proxies = {"http": egress.proxy, "https": egress.proxy}
    return session


def fetch(address: str, folder: Path, egress: Egress) -> Path:
    """Fetch as a web server does; return the file."""
    fetcher = Fetcher(Settings(timeout_s=3.0), want_audio=False, proxy=egress.proxy)
    (item,) = fetcher.resolve(UrlSource(address))
    folder.mkdir()
    return fetcher.fetch(item, folder).paths[0]


# ---------------------------------------------------------------------------------- what is public


@pytest.mark.parametrize(
    "text",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *("192.0.0.8", "192.0.0.192", "192.0.2.1", "192.88.99.1", "198.18.0.1", "224.0.0.1", "240.0.0.1"),
        *("255.255.255.255", "168.63.129.16", "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "fc00::1"),
        *("64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::1", "2002:7f00:1::", "2002:808:808::1"),
        *("2001::1", "2001:db8::1", "2001:20::1", "3fff::1", "fe80::1", "fe80::1%lo", "fec0::1", "ff02::1"),
        *("100::1", "4000::1", "2620:fe::fe%lo"),
    ],
)
def test_an_address_that_is_not_on_the_internet_is_not_public(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", ["9.9.9.9", "2620:fe::fe", "::ffff:9.9.9.9", "64:ff9b::909:909"])
def test_an_address_of_the_internet_is_public(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("host", NOT_PUBLIC)
def test_an_address_that_cannot_be_public_is_refused_as_typed(host: str) -> None:
    with pytest.raises(SourceError):
        public_source(f"http://{host}/a.mp4")


@pytest.mark.parametrize(
    "text",
    [
        *("file:///etc/passwd", "ftp://example.org/a", "data:text/plain,a", "concat:a|b", "pipe:0", "lavfi"),
        *("subfile,,start,0,end,9,,:x", "-o/x", "ytsearch:x", "rtsp://example.org/1", "0", "a.mp4", "/a.mp4"),
        *("", " ", "http://", "https:///a", "http:/example.org", "//example.org/a", "http://exa mple.org"),
        *("http://example.org/\n", "http://example.org/\na", "http://me:secret@example.org/a"),
        *("http://example.org:22/", "http://example.org:port/", "javascript:alert(1)", "https:example.org"),
        "http://example.org/" + "a" * 5000,
    ],
)
def test_what_is_no_web_address_is_refused_before_anything_starts(text: str) -> None:
    if text == "http://example.org/\n":
        assert public_source(text).url == text.strip()  # pasted with the end of the line
        return
    with pytest.raises(SourceError) as caught:
        public_source(text)
    assert caught.value.kind is SourceErrorKind.UNSUPPORTED
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        *("https://example.org/watch?v=1", "http://example.org:8080/a.m3u8", "HTTPS://EXAMPLE.ORG"),
        *("https://9.9.9.9/a", "https://[2620:fe::fe]/a", " https://example.org/a "),
    ],
)
def test_a_web_address_is_taken(text: str) -> None:
    assert public_source(text) == UrlSource(text.strip())


# ---------------------------------------------------------------------------------- single requests


def test_a_public_server_answers(public: Server, egress: Egress) -> None:
    address = public.add("/a.mp4", b"the body")
    with client(egress) as session:
        for _ in range(3):
            answer = session.get(address + "?x=1#fragment")
            assert (answer.status_code, answer.content) == (200, b"the body")
    assert public.requests == ["/a.mp4"] * 3


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("host", NOT_PUBLIC)
def test_the_canary_sees_no_request(host: str, scheme: str, canary: Server, egress: Egress) -> None:
    """Sent as typed, without the checks of `public_source`."""
    port = canary.server_address[1]
    method, target = ("CONNECT", f"{host}:{port}") if scheme == "https" else ("GET", f"http://{host}:{port}/")
    answer = spoken(egress, f"{method} {target} HTTP/1.1\r\n{credentials(egress)}\r\n")
    assert not answer or int(answer.split()[1]) in (REFUSED_STATUS, 502)


def credentials(egress: Egress) -> str:
    login = egress.proxy.removeprefix("http://").rpartition("@")[0]
    return f"Proxy-Authorization: Basic {base64.b64encode(login.encode()).decode()}\r\n"


def spoken(egress: Egress, text: str) -> bytes:
    """What the proxy answers to a request."""
    host, _, port = egress.proxy.rpartition("@")[2].partition(":")
    with socket.create_connection((host, int(port)), 5) as connection:
        connection.sendall(text.encode())
        answer = b""
        while block := connection.recv(4096):
            answer += block
        return answer


def test_only_the_owner_may_use_it(public: Server, egress: Egress) -> None:
    address = public.add("/a.mp4", b"the body")
    other = egress.proxy.replace("egress:", "egress:x")
    without = "http://" + egress.proxy.rpartition("@")[2]
    with client(egress) as session:
        for proxy in (other, without):
            session.proxies = {"http": proxy}
            assert session.get(address).status_code == 407
    assert public.connections == 0


def test_it_does_not_connect_to_itself(egress: Egress) -> None:
    with Egress(allowed=(ipaddress.ip_network("127.0.0.0/8"),)) as lenient, client(lenient) as session:
        own = "http://" + lenient.proxy.rpartition("@")[2]
        assert session.get(own).status_code == REFUSED_STATUS


def test_it_does_not_connect_to_ports_of_other_services(egress: Egress) -> None:
    with client(egress) as session:
        assert session.get("http://127.0.0.2:25/").status_code == REFUSED_STATUS


def test_it_does_not_connect_to_this_machine_by_its_public_address(
    canary: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analyzer.sources.egress.is_public", lambda address: True)
    with Egress() as egress, client(egress) as session:
        assert session.get(canary.url("/secret.mp4")).status_code == REFUSED_STATUS


def test_malformed_requests_end_their_connection_only(public: Server, egress: Egress) -> None:
    address = public.add("/a.mp4", b"the body")
    port = public.server_address[1]
    for text in (
        "\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/1.1\r\n" + credentials(egress) + "\r\n",
        f"GET ftp://127.0.0.2:{port}/ HTTP/1.1\r\n" + credentials(egress) + "\r\n",
        f"GET {address} HTTP/1.1\r\nno field\r\n" + credentials(egress) + "\r\n",
        f"CONNECT 127.0.0.2 HTTP/1.1\r\n{credentials(egress)}\r\n",
        f"CONNECT 127.0.0.2:99999 HTTP/1.1\r\n{credentials(egress)}\r\n",
        f"POST {address} HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n{credentials(egress)}\r\n",
        f"GET {address} HTTP/1.1\r\nX: {'x' * 100_000}\r\n{credentials(egress)}\r\n",
    ):
        try:
            answer = spoken(egress, text)
        except ConnectionError:
            continue
        assert b" 200 " not in answer, text
    with client(egress) as session:
        assert session.get(address).content == b"the body"


def test_a_second_request_on_a_connection_is_not_passed_on(egress: Egress) -> None:
    """It could be for another host, whatever the server says of keeping the connection."""
    with socket.create_server(("127.0.0.2", 0)) as listener:
        address = f"http://127.0.0.2:{listener.getsockname()[1]}/a"
        got: list[bytes] = []

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                got.append(connection.recv(4096))
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok"
                )
                connection.settimeout(0.3)
                with contextlib.suppress(TimeoutError):
                    got.append(connection.recv(4096))

        thread = threading.Thread(target=answer)
        thread.start()
        second = "GET /b HTTP/1.1\r\nHost: other\r\n\r\n"
        given = spoken(egress, f"GET {address} HTTP/1.1\r\n{credentials(egress)}\r\n{second}")
        thread.join()
    assert given.endswith(b"\r\nConnection: close\r\n\r\nok") and b"keep-alive" not in given
    assert len(got) == 1 and got[0].startswith(b"GET /a HTTP/1.1\r\n") and b"other" not in got[0]


def test_the_server_gets_its_own_name_and_no_credentials(public: Server, egress: Egress) -> None:
    heads: list[str] = []

    def route(handler: Handler) -> None:
        heads.append(str(handler.headers))
        handler.head(0)

    public.routes["/a"] = route
    extra = "Host: canary\r\nProxy-Connection: keep-alive\r\n"
    spoken(egress, f"GET {public.url('/a')} HTTP/1.1\r\n{extra}{credentials(egress)}\r\n")
    assert f"Host: 127.0.0.2:{public.server_address[1]}" in heads[0]
    assert "canary" not in heads[0] and "Proxy" not in heads[0]


# ---------------------------------------------------------------------------------- names


def names(*answers: Sequence[str]) -> Callable[[str, int], object]:
    """A resolver that gives one answer after another."""
    left = iter(answers)

    async def resolve(host: str, port: int) -> Sequence[str]:
        assert host == "example.org"
        return next(left)

    return resolve


def test_a_name_that_changes_is_checked_each_time(public: Server, canary: Server) -> None:
    """Both servers listen on one port, so that only the address differs."""
    port = public.server_address[1]
    with socket.create_server(("127.0.0.1", port)) as trap:
        resolve = names(["127.0.0.2"], ["127.0.0.1"])
        with Egress(allowed=PUBLIC, resolve=resolve) as egress, client(egress) as session:
            public.add("/a.mp4", b"the body")
            address = f"http://example.org:{port}/a.mp4"
            assert session.get(address).content == b"the body"
            assert session.get(address).status_code == REFUSED_STATUS
        trap.settimeout(0.1)
        with pytest.raises(TimeoutError):
            trap.accept()


@pytest.mark.parametrize("answer", [("127.0.0.2", "127.0.0.1"), ("127.0.0.1", "127.0.0.2"), ("::1",)])
def test_every_address_of_a_name_must_be_public(
    answer: Sequence[str], public: Server, canary: Server
) -> None:
    with Egress(allowed=PUBLIC, resolve=names(answer)) as egress, client(egress) as session:
        port = public.server_address[1]
        assert session.get(f"http://example.org:{port}/").status_code == REFUSED_STATUS
    assert public.connections == 0


def test_a_name_without_an_address_is_not_found() -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "not known")

    with Egress(resolve=resolve) as egress, client(egress) as session:
        assert session.get("http://example.org/").status_code == 502


# ---------------------------------------------------------------------------------- yt-dlp

Trap = Callable[[Server, str, dict[str, bytes]], str]
"""Prepares a server that leads to an address; returns the address to begin with."""


def redirect(server: Server, path: str, target: str, status: int = 302) -> str:
    def route(handler: Handler) -> None:
        handler.send_response(status)
        handler.send_header("Location", target)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    server.routes[path] = route
    return server.url(path)


def redirected(status: int, hops: int) -> Trap:
    def prepare(server: Server, target: str, _: dict[str, bytes]) -> str:
        for hop in range(hops):
            target = redirect(server, f"/{hop}.mp4", target, status)
        return target

    return prepare


def page(body: str) -> Trap:
    def prepare(server: Server, target: str, _: dict[str, bytes]) -> str:
        html = f"<html><head><title>A talk</title></head><body>{body.format(target)}</body></html>"
        return server.add("/page.html", html.encode())

    return prepare


def playlist(change: Callable[[str, str], str]) -> Trap:
    """A playlist of which one line is changed."""

    def prepare(server: Server, target: str, files: dict[str, bytes]) -> str:
        for name, body in files.items():
            server.add(f"/{name}", body)
        return server.add("/changed.m3u8", change(files["index.m3u8"].decode(), target).encode())

    return prepare


def variant(text: str, target: str) -> str:
    return f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=90000,RESOLUTION=64x48\n{target}\n"


def segment(text: str, target: str) -> str:
    return text.replace("index1.ts", target)


def key(text: str, target: str) -> str:
    return text.replace("#EXTINF", f'#EXT-X-KEY:METHOD=AES-128,URI="{target}"\n#EXTINF', 1)


def initial(text: str, target: str) -> str:
    return text.replace("#EXTINF", f'#EXT-X-MAP:URI="{target}"\n#EXTINF', 1)


TRAPS: dict[str, tuple[Trap, str]] = {
    "302": (redirected(302, 1), "clip.mp4"),
    "307": (redirected(307, 1), "clip.mp4"),
    "3 hops": (redirected(302, 3), "clip.mp4"),
    "video": (page('<video src="{}"></video>'), "clip.mp4"),
    "og:video": (page('<meta property="og:video" content="{}">'), "clip.mp4"),
    "iframe": (page('<video><source type="video/mp4" src="{}"></video>'), "clip.mp4"),
    "variant": (playlist(variant), "index.m3u8"),
    "segment": (playlist(segment), "index1.ts"),
    "key": (playlist(key), "key.bin"),
    "initial segment": (playlist(initial), "index1.ts"),
}


@pytest.mark.parametrize("name", TRAPS)
def test_nothing_that_an_address_leads_to_reaches_the_canary(
    name: str, canary: Server, public: Server, segments: dict[str, bytes], tmp_path: Path
) -> None:
    prepare, file = TRAPS[name]
    address = prepare(public, canary.url(f"/{file}"), segments)
    with Egress(allowed=PUBLIC) as egress, pytest.raises(SourceError):
        fetch(address, tmp_path / "video", egress)
    assert public.connections > 0
    assert not list((tmp_path / "video").iterdir())


@pytest.mark.parametrize("name", TRAPS)
def test_the_same_way_leads_to_a_public_server(
    name: str, public: Server, clip: bytes, segments: dict[str, bytes], tmp_path: Path
) -> None:
    """So that the test above fails for the canary's address, and not because nothing was requested."""
    prepare, file = TRAPS[name]
    with serve("127.0.0.2") as target, Egress(allowed=PUBLIC) as egress:
        for path, body in {"clip.mp4": clip, **segments}.items():
            target.add(f"/{path}", body)
        target.add("/key.bin", bytes(16), "application/octet-stream")
        address = prepare(public, target.url(f"/{file}"), segments)
        if name == "key":  # the segments are not encrypted with it
            with pytest.raises(SourceError):
                fetch(address, tmp_path / "video", egress)
        else:
            assert fetch(address, tmp_path / "video", egress).stat().st_size > 1000
        assert f"/{file}" in target.requests


def test_a_refused_address_is_explained(canary: Server, egress: Egress, tmp_path: Path) -> None:
    for number, address in enumerate((canary.url("/secret.mp4"), f"https://127.0.0.1:{canary.server_port}/")):
        with pytest.raises(SourceError) as caught:
            fetch(address, tmp_path / str(number), egress)
        assert caught.value.kind is SourceErrorKind.NOT_PUBLIC
        assert not caught.value.retry
        assert str(caught.value).startswith("the address leads to a host that is not on the internet; ")


def test_a_loop_of_redirects_ends(public: Server, egress: Egress, tmp_path: Path) -> None:
    redirect(public, "/a.mp4", public.url("/b.mp4"))
    with pytest.raises(SourceError):
        fetch(redirect(public, "/b.mp4", public.url("/a.mp4")), tmp_path / "video", egress)
    assert public.connections < 200


def test_an_extractor_cannot_choose_another_way(canary: Server, egress: Egress, tmp_path: Path) -> None:
    """Not by the header that names a proxy, and not by a request of another kind."""

    class ChoosyIE(ScriptedIE):
        _VALID_URL = r"https?://choosy\.test/"

        def _real_extract(self, url: str) -> object:
            # As the program that computes for yt-dlp gets it.
            assert self._downloader.proxies == {"all": egress.proxy}
            address = canary.url("/secret.mp4")
            for request in (
                Request(address, headers={"Ytdl-Request-Proxy": "__noproxy__"}),
                Request(address, proxies={"all": None}),
                Request(address.replace("http:", "ws:")),
                Request("file:///etc/hostname"),
                address,
            ):
                with pytest.raises((RequestError, ExtractorError)):
                    self._request_webpage(request, "x")
            return {"id": "x", "title": "x", "url": address}

    fetcher = Fetcher(Settings(timeout_s=3.0), want_audio=False, extractors=(ChoosyIE,), proxy=egress.proxy)
    with pytest.raises(SourceError) as caught:
        fetcher.fetch(next(iter(fetcher.resolve(UrlSource("https://choosy.test/x")))), tmp_path)
    assert caught.value.kind is SourceErrorKind.NOT_PUBLIC


def test_live_sources_are_refused_with_a_proxy(
    public: Server, egress: Egress, segments: dict[str, bytes], tmp_path: Path
) -> None:
    """FFmpeg would open the segments of a live playlist by itself."""
    fetcher = Fetcher(Settings(timeout_s=3.0), want_audio=False, live=True, proxy=egress.proxy)
    playlist = segments["index.m3u8"].replace(b"#EXT-X-ENDLIST", b"")
    for source in ("0", "rtsp://127.0.0.2/1", public.add("/live.m3u8", playlist)):
        with pytest.raises(SourceError, match=r"[Oo]nly analyze reads"):
            for item in fetcher.resolve(source):
                assert item.kind is MediaKind.VIDEO
                fetcher.fetch(item, tmp_path)
    assert not any(path.endswith(".ts") for path in public.requests)


# ---------------------------------------------------------------------------------- limits


def test_a_connection_without_a_byte_ends(public: Server) -> None:
    public.add_silent("/silent")
    with Egress(allowed=PUBLIC, limits=EgressLimits(idle_s=0.2)) as egress:
        with client(egress) as session, pytest.raises(requests.ConnectionError):
            session.get(public.url("/silent"), timeout=10)
        assert spoken(egress, "GET ") == b""  # a request that never ends


def test_a_connection_that_passes_too_much_ends(public: Server) -> None:
    public.add_endless("/endless")
    with Egress(allowed=PUBLIC, limits=EgressLimits(passed_bytes=1_000_000)) as egress:
        with client(egress) as session:
            size = sum(map(len, session.get(public.url("/endless"), stream=True).iter_content(65536)))
        assert size == 1_000_000


def test_more_connections_than_allowed_wait(public: Server) -> None:
    public.add_silent("/silent")
    address = public.add("/a.mp4", b"the body")
    limits = EgressLimits(connections=1, idle_s=0.5)
    with Egress(allowed=PUBLIC, limits=limits) as egress, client(egress) as session:
        head = f"GET {public.url('/silent')} HTTP/1.1\r\n{credentials(egress)}\r\n"
        held = threading.Thread(target=spoken, args=(egress, head))
        held.start()
        while not public.requests:
            time.sleep(0.01)
        assert session.get(address, timeout=10).content == b"the body"
        held.join()


def test_it_ends_with_its_owner(public: Server) -> None:
    public.add_silent("/silent")
    with Egress(allowed=PUBLIC) as egress:
        host, _, port = egress.proxy.rpartition("@")[2].partition(":")
        text = f"GET {public.url('/silent')} HTTP/1.1\r\n{credentials(egress)}\r\n"
        connection = socket.create_connection((host, int(port)), 5)
        connection.sendall(text.encode())
        while not public.requests:
            time.sleep(0.01)
    with connection:
        assert connection.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), 5)
    egress.close()


def test_a_tunnel_passes_bytes_both_ways(egress: Egress) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readexactly(5))[::-1])
        await writer.drain()
        writer.close()

    async def talk() -> bytes:
        server = await asyncio.start_server(echo, "127.0.0.2", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            host, _, proxy_port = egress.proxy.rpartition("@")[2].partition(":")
            reader, writer = await asyncio.open_connection(host, int(proxy_port))
            writer.write(f"CONNECT 127.0.0.2:{port} HTTP/1.1\r\n{credentials(egress)}\r\nabcde".encode())
            answer = await reader.read()
            writer.close()
            return answer

    assert asyncio.run(talk()) == b"HTTP/1.1 200 Connected\r\n\r\nedcba"
