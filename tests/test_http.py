"""The HTTP client: logins, redirects, time-outs, answers closed from another thread, and its messages."""

from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from analyzer.util.http import HttpError, HttpTimeoutError, open_http
from testkit.servers import Handler, Server, serve

TIMEOUT_S = 5.0
LOGIN = "Basic " + base64.b64encode(b"me:s/ecret").decode()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    with serve() as made:
        yield made


def with_login(address: str) -> str:
    return address.replace("http://", "http://me:s%2Fecret@")


def guarded(seen: list[str | None], challenge: str, fits: Callable[[str], bool]) -> Callable[[Handler], None]:
    """Answer only requests with a login, and remember what was sent."""

    def route(handler: Handler) -> None:
        sent = handler.headers["Authorization"]
        seen.append(sent)
        if sent is not None and fits(sent):
            handler.head(2, "text/plain")
            handler.wfile.write(b"ok")
            return
        handler.send_response(401)
        handler.send_header("WWW-Authenticate", challenge)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return route


def test_body_and_head(server: Server) -> None:
    address = server.add("/a", b"0123456789", 'Multipart/X-Mixed-Replace; boundary="x y"')
    with open_http(address, TIMEOUT_S) as response:
        assert (response.content_type, response.size_bytes) == ("multipart/x-mixed-replace", 10)
        assert response.parameter("boundary") == "x y" and response.parameter("none") == ""
        assert response.read_all(4) == b"0123" and response.read_all(100) == b"456789"
        assert response.read(1) == b""


def test_a_basic_login_is_sent_only_when_the_server_asks(server: Server) -> None:
    seen: list[str | None] = []
    server.routes["/a"] = guarded(seen, 'Basic realm="x"', lambda sent: sent == LOGIN)
    with open_http(with_login(server.url("/a")), TIMEOUT_S) as response:
        assert response.read_all(10) == b"ok"
    assert seen == [None, LOGIN]
    server.add("/open", b"ok", "text/plain")
    with open_http(with_login(server.url("/open")), TIMEOUT_S):
        pass
    assert server.count("/open") == 1


def test_digest_is_preferred_and_keeps_the_password(server: Server) -> None:
    seen: list[str | None] = []
    challenge = 'Basic realm="x", Digest realm="x", nonce="1", qop="auth"'
    server.routes["/a"] = guarded(seen, challenge, lambda sent: sent.startswith('Digest username="me"'))
    with open_http(with_login(server.url("/a")), TIMEOUT_S) as response:
        assert response.read_all(10) == b"ok"
    assert LOGIN not in seen


def test_a_login_is_not_sent_to_another_host(server: Server) -> None:
    seen: list[str | None] = []
    with serve() as other:
        other.routes["/a"] = guarded(seen, 'Basic realm="x"', lambda sent: True)
        server.routes["/moved"] = redirect(other.url("/a"))
        with pytest.raises(HttpError, match="401"):
            open_http(with_login(server.url("/moved")), TIMEOUT_S)
    assert seen == [None]


def redirect(target: str) -> Callable[[Handler], None]:
    def route(handler: Handler) -> None:
        handler.send_response(302)
        handler.send_header("Location", target)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return route


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("ftp://127.0.0.1/a", "not a web address"),
        ("file:///etc/passwd", "not a web address"),
        ("/moved", "too many redirects"),
    ],
)
def test_redirects_lead_nowhere_else(server: Server, target: str, words: str) -> None:
    server.routes["/moved"] = redirect(target)
    with pytest.raises(HttpError, match=words):
        open_http(server.url("/moved"), TIMEOUT_S)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://me:secret@127.0.0.1:9/secret", "connection refused"),
        ("http://me:secret@127.0.0.1:secret/", "not a web address"),
        ("rtsp://me:secret@127.0.0.1/", "not a web address"),
        ("/a/file", "not a web address"),
    ],
)
def test_messages_are_short_and_name_no_address(server: Server, address: str, words: str) -> None:
    with pytest.raises(HttpError, match=words) as caught:
        open_http(address, TIMEOUT_S)
    assert "secret" not in str(caught.value) and "127" not in str(caught.value)
    assert not isinstance(caught.value, TimeoutError)


def test_statuses_and_other_protocols_are_errors(server: Server) -> None:
    with pytest.raises(HttpError, match="HTTP error 503") as caught:
        open_http(server.add_status("/busy", 503), TIMEOUT_S)
    assert caught.value.status == 503
    server.routes["/ssh"] = lambda handler: handler.wfile.write(b"SSH-2.0-server\r\n")
    with pytest.raises(HttpError, match="does not speak HTTP"):
        open_http(server.url("/ssh"), TIMEOUT_S)


def test_silence_is_a_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(HttpTimeoutError):
        open_http(f"http://127.0.0.1:{silent.getsockname()[1]}/", 0.2)


def test_a_body_that_ends_early_is_an_error(server: Server) -> None:
    def short(handler: Handler) -> None:
        handler.head(10)
        handler.wfile.write(b"12345")

    server.routes["/short"] = short
    with open_http(server.url("/short"), TIMEOUT_S) as response, pytest.raises(HttpError):
        response.read_all(100)


def test_closing_wakes_a_thread_that_reads(server: Server) -> None:
    def hang(handler: Handler) -> None:
        handler.head(None)
        handler.wfile.write(b"1")
        handler.wfile.flush()
        server.stopping.wait(60)

    server.routes["/hang"] = hang
    response = open_http(server.url("/hang"), 60)
    first, ended = threading.Event(), threading.Event()

    def read() -> None:
        try:
            while response.read(10):
                first.set()
        except OSError:
            pass
        ended.set()

    thread = threading.Thread(target=read)
    thread.start()
    assert first.wait(TIMEOUT_S)
    response.close()
    response.close()
    assert ended.wait(TIMEOUT_S)
    thread.join()
