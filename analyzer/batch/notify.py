"""Telling somebody that a night did not go well: a program that is run, an address that is posted to.

Both get one JSON document: that of the `Outcome`, with ``text``, what a person would read. Nothing raises
here: a night is over, and that nobody could be told of it is only one more thing to say.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import signal
import string
import subprocess
import threading
import urllib.error
import urllib.request
from urllib.parse import quote, unquote, urljoin, urlsplit

import analyzer
from analyzer.batch.config import OnFailure
from analyzer.batch.outcome import Outcome
from analyzer.batch.summary import one_line

__all__ = ["notify"]

_COMMAND_S = 60.0
_POST_S = 15.0
_MOST_REDIRECTS = 5
_MOVED = (301, 307, 308)
"""Posted to again."""
_TAKEN = (302, 303)
"""The message was taken: what answers to it lies elsewhere."""
_BY_HAND = "run it by hand to see why"


def notify(on_failure: OnFailure, outcome: Outcome, text: str) -> list[str]:
    """Tell of a night that did not go well; does nothing after one that did. Takes 75 s at most.

    Args:
        on_failure: Whom. What the command writes goes to the standard error of this process.
        outcome: How the night went.
        text: The same for people, see `summary`.

    Returns:
        What did not work, a sentence each. Addresses and arguments are not told, they can hold secrets.
    """
    if outcome.well:
        return []
    document = json.dumps(outcome.figures() | {"text": text}, default=str).encode()
    troubles = []
    if on_failure.command:
        troubles.append(_run(on_failure.command, document))
    if on_failure.webhook is not None:
        troubles.append(_post(on_failure.webhook, document))
    return [trouble for trouble in troubles if trouble is not None]


# ------------------------------------------------------------------------------------------ the command


def _run(command: tuple[str, ...], document: bytes) -> str | None:
    name = f"the command {one_line(command[0])} of [on_failure]"
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=2,  # ours may be read by a program
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        return f"{name} cannot be run ({_reason(error)}): check the jobs file"
    try:
        process.communicate(document, timeout=_COMMAND_S)
    except subprocess.TimeoutExpired:
        return f"{name} did not end within {_COMMAND_S:g} s and was killed: {_BY_HAND}"
    except (OSError, ValueError) as error:
        return f"{name} could not be told ({_reason(error)}): {_BY_HAND}"
    finally:
        _kill(process)
    if process.returncode < 0:
        return f"{name} was ended by signal {-process.returncode}: {_BY_HAND}"
    return f"{name} ended with exit code {process.returncode}: {_BY_HAND}" if process.returncode else None


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a process that still runs, with all that it has started."""
    if process.poll() is None:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()


# ------------------------------------------------------------------------------------------ the webhook


def _post(address: str, document: bytes) -> str | None:
    said: list[str | None] = []
    # A server that sends its answer byte by byte would never meet the limit of the socket.
    thread = threading.Thread(
        target=lambda: said.append(_answer(address, document)), name="notify", daemon=True
    )
    thread.start()
    thread.join(_POST_S)
    if said:
        return said[0]
    return _late(_webhook(address))


def _answer(address: str, document: bytes) -> str | None:
    name, opener = _webhook(address), _opener()
    body: bytes | None = document
    try:
        for _ in range(_MOST_REDIRECTS + 1):
            try:
                with opener.open(_request(address, body), timeout=_POST_S):
                    return None
            except urllib.error.HTTPError as error:
                with error:
                    place = error.headers.get("Location")
                    if error.code not in (*_MOVED, *_TAKEN) or place is None:
                        return f"{name} answered with {error.code}: check its address and rights"
                target = urljoin(address, place)
                if not _may_follow(urlsplit(address).scheme, urlsplit(target).scheme):
                    return f"{name} redirects to where nothing is sent: check its address"
                address, body = target, body if error.code in _MOVED else None
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, TimeoutError) or isinstance(getattr(error, "reason", None), TimeoutError):
            return _late(name)
        return f"{name} cannot be reached ({_reason(error)}): check its address and the network"
    return f"{name} redirects again and again: check its address"


def _may_follow(scheme: str, target: str) -> bool:
    """Only on the web, and what was sent in secret stays so.

    >>> _may_follow("http", "https"), _may_follow("https", "http"), _may_follow("http", "file")
    (True, False, False)
    """
    return target == "https" or (target == "http" and scheme == "http")


def _late(name: str) -> str:
    return f"{name} did not answer within {_POST_S:g} s: check its address"


def _webhook(address: str) -> str:
    """The path and the query of such an address are often its password."""
    return f"the webhook at {one_line(urlsplit(address).hostname)} of [on_failure]"


def _request(address: str, document: bytes | None) -> urllib.request.Request:
    parts = urlsplit(address)
    login, _, place = parts.netloc.rpartition("@")
    bare = parts._replace(netloc=place, fragment="").geturl()
    request = urllib.request.Request(
        quote(bare, safe=string.punctuation),
        document,
        {"User-Agent": f"audience-analyzer/{analyzer.__version__}"},
    )
    if document is not None:
        request.add_header("Content-Type", "application/json")
    if login:
        # urllib takes a login for a part of the host.
        token = base64.b64encode(unquote(login).encode()).decode()
        request.add_header("Authorization", f"Basic {token}")
    return request


def _opener() -> urllib.request.OpenerDirector:
    """One that knows http and https and nothing else, and follows nowhere by itself.

    urllib's own way with redirects would lose the message and lets ftp pass.
    """
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _reason(error: Exception) -> str:
    """Without addresses, paths and arguments."""
    reason = getattr(error, "reason", None)
    cause = reason if isinstance(reason, OSError) else error
    words = getattr(cause, "strerror", None)
    return one_line(words if isinstance(words, str) and words else type(cause).__name__)
