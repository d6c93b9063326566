"""Start a server: its folder, its token, its socket."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import uvicorn

from analyzer.batch.ledger import Ledger
from analyzer.errors import AnalyzerError, OutputError, is_full
from analyzer.util.atomic import writing
from analyzer.util.locks import file_lock
from analyzer.util.system import few_arenas
from analyzer.web.config import ServeConfig
from analyzer.web.jobs import ledger_path

__all__ = ["BusyError", "serve", "token_of"]

_TOKEN_VARIABLE = "ANALYZER_TOKEN"
_SHORTEST_TOKEN = 16
_GRACE_S = 2
"""How long open requests may take when the server ends, in seconds."""


class BusyError(AnalyzerError):
    """Another server uses the folder, or another program the port."""


def token_of(out: Path) -> str:
    """The token of a server: that of the environment variable ``ANALYZER_TOKEN``, or one kept in the folder.

    A kept token leaves browsers logged in when the server is started again.

    Raises:
        AnalyzerError: The given one is too short.
        OutputError: It cannot be kept.
    """
    if (given := os.environ.pop(_TOKEN_VARIABLE, None)) is not None:  # not for the processes that decode
        if len(given) < _SHORTEST_TOKEN or not given.isascii() or not given.isprintable() or " " in given:
            raise AnalyzerError(
                f"{_TOKEN_VARIABLE} must have at least {_SHORTEST_TOKEN} characters, ASCII without blanks"
            )
        return given
    path = ServeConfig(out, token="").folder / "token"
    with contextlib.suppress(OSError, UnicodeDecodeError):
        kept = path.read_text("ascii").strip()
        if len(kept) >= _SHORTEST_TOKEN:
            return kept
    token = secrets.token_urlsafe(32)
    with writing(path) as temporary:
        temporary.touch(mode=0o600)
        temporary.write_text(token + "\n", "ascii")
    return token


class _Server(uvicorn.Server):
    """A server that says when it answers requests."""

    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_start()


def serve(config: ServeConfig, *, on_start: Callable[[str], None]) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Args:
        config: Of the server; without a token, it takes `token_of` its folder.
        on_start: Called with the address to open, with the token, once requests are answered.

    Raises:
        BusyError: Another server uses the folder, or another program the port.
        OutputError: The folder cannot be written.
        LedgerError: The ledger of the jobs cannot be used.
        AnalyzerError: The host is unknown, or the token unusable.
    """
    from analyzer.web.app import create_app
    from analyzer.web.service import Service

    few_arenas()
    with _locked(config), _bound(config) as listening:
        port = listening.getsockname()[1]
        config = dataclasses.replace(config, port=port, token=config.token or token_of(config.out))
        with Ledger(ledger_path(config.out)):
            pass  # a damaged one is reported before anything is started
        server = _Server(
            uvicorn.Config(
                create_app(Service(config)),
                log_config=None,
                access_log=False,  # addresses may hold a token
                server_header=False,
                ws="websockets-sansio",
                ws_max_size=4 * 2**20,
                ws_max_queue=4,
                ws_per_message_deflate=False,
                timeout_graceful_shutdown=_GRACE_S,
                proxy_headers=True,
                forwarded_allow_ips="127.0.0.1,::1",
                h11_max_incomplete_event_size=64 * 1024,
            ),
            lambda: on_start(_address(config)),
        )
        with contextlib.suppress(KeyboardInterrupt):
            server.run([listening])
        if not server.started:
            raise AnalyzerError("the server could not be started: its log has the reason")


def _address(config: ServeConfig) -> str:
    host = config.host
    if host in ("0.0.0.0", "::", ""):
        host = socket.gethostname()
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{config.port}/login?token={quote(config.token, safe='')}"


@contextlib.contextmanager
def _locked(config: ServeConfig) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        try:
            config.folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(file_lock(config.folder / "server.lock"))
        except BlockingIOError as error:
            raise BusyError(
                f"another server is running with {config.out}: end it, or choose another folder with --out"
            ) from error
        except OSError as error:
            raise OutputError(
                f"{config.out} cannot be written ({error.strerror}): choose another folder with --out",
                no_space=is_full(error),
            ) from error
        yield


@contextlib.contextmanager
def _bound(config: ServeConfig) -> Iterator[socket.socket]:
    try:
        family, _, _, _, address = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise AnalyzerError(f"there is no host {config.host!r}: choose another one with --host") from error
    with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # asyncio does so only for sockets that name their protocol; connections inherit it. Without it, each
        # answer takes 40 ms more.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            listening.bind(address)
            listening.listen(128)
        except PermissionError as error:
            raise AnalyzerError(
                f"port {config.port} needs the rights of an administrator: choose one above 1023 with --port"
            ) from error
        except OSError as error:
            raise BusyError(
                f"port {config.port} of {config.host} cannot be used ({error.strerror}): choose another one "
                "with --port"
            ) from error
        yield listening
