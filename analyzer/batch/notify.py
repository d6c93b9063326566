"""Notify of a batch run that did not go well: run a command, post to a webhook.

Both get one JSON document: the figures of the `Outcome` and ``text``, the summary for people. Nothing is
raised here: the batch run is over, and a notification that failed is only one more thing to report.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
from typing import TYPE_CHECKING
from urllib.parse import unquote, urljoin, urlsplit

import analyzer
from analyzer.batch.config import OnFailure
from analyzer.batch.outcome import Outcome
from analyzer.util.text import one_line

if TYPE_CHECKING:
    import requests

__all__ = ["notify"]

_COMMAND_S = 60.0
_POST_S = 15.0
_MAX_REDIRECTS = 5
_REPEAT_POST = (301, 307, 308)
"""The address has moved: the document is posted again."""
_ACCEPTED = (302, 303)
"""The document was accepted, the answer is elsewhere."""
_BY_HAND = "run it by hand to see why"


def notify(on_failure: OnFailure, outcome: Outcome, text: str) -> list[str]:
    """Send the notifications of a batch run that did not go well, within 75 s; do nothing if it did.

    Args:
        on_failure: The command and the address. The command's output goes to the standard error of this
            process.
        outcome: How the batch run went.
        text: The same for people, see `summary`.

    Returns:
        A sentence for each notification that failed. They name neither arguments nor paths of addresses:
        these can be secrets.
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
    name = f"the command {one_line(command[0], 200)} of [on_failure]"
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=2,  # a program may read our standard output
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        return f"{name} cannot be run ({_reason(error)}): check the jobs file"
    try:
        process.communicate(document, timeout=_COMMAND_S)
    except subprocess.TimeoutExpired:
        return f"{name} did not end within {_COMMAND_S:g} s and was killed: {_BY_HAND}"
    except (OSError, ValueError) as error:
        return f"{name} did not read the notification ({_reason(error)}): {_BY_HAND}"
    finally:
        _kill(process)
    if process.returncode < 0:
        return f"{name} was ended by signal {-process.returncode}: {_BY_HAND}"
    return f"{name} ended with exit code {process.returncode}: {_BY_HAND}" if process.returncode else None


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that still runs, with everything it has started."""
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
    # The time-out of requests starts anew with each byte: a slow answer could take for ever.
    thread = threading.Thread(
        target=lambda: said.append(_answer(address, document)), name="notify", daemon=True
    )
    thread.start()
    thread.join(_POST_S)
    if said:
        return said[0]
    return _late(_webhook(address))


def _answer(address: str, document: bytes) -> str | None:
    import requests  # takes 0.1 s, and most batch runs need no notification

    name = _webhook(address)
    body: bytes | None = document
    try:
        with requests.Session() as session:
            session.headers["User-Agent"] = f"audience-analyzer/{analyzer.__version__}"
            for _ in range(_MAX_REDIRECTS + 1):
                with _send(session, address, body) as response:
                    place = response.headers.get("Location")
                    if response.status_code not in (*_REPEAT_POST, *_ACCEPTED) or place is None:
                        if 200 <= response.status_code < 300:
                            return None
                        return f"{name} answered with {response.status_code}: check its address and rights"
                    target = urljoin(address, place)
                    if not _may_follow(urlsplit(address).scheme, urlsplit(target).scheme):
                        return f"{name} redirects to where nothing is sent: check its address"
                    address, body = target, body if response.status_code in _REPEAT_POST else None
    except requests.Timeout:
        return _late(name)
    except (OSError, ValueError) as error:  # all errors of requests are OSErrors
        return f"{name} cannot be reached ({_reason(error)}): check its address and the network"
    return f"{name} redirects again and again: check its address"


def _send(session: requests.Session, address: str, body: bytes | None) -> requests.Response:
    """Post, or get if there is no body. Redirects are left to `_answer`, the login to the address.

    requests itself would repeat a post only after 307 and 308.
    """
    from requests.auth import HTTPBasicAuth

    parts = urlsplit(address)
    login, _, place = parts.netloc.rpartition("@")
    user, _, password = unquote(login).partition(":")

    def authorize(request: requests.PreparedRequest) -> requests.PreparedRequest:
        return HTTPBasicAuth(user.encode(), password.encode())(request) if login else request

    return session.request(
        "GET" if body is None else "POST",
        parts._replace(netloc=place).geturl(),
        data=body,
        headers={} if body is None else {"Content-Type": "application/json"},
        auth=authorize,  # without one, requests sends the logins of ~/.netrc
        timeout=_POST_S,
        allow_redirects=False,
        stream=True,
    )


def _may_follow(scheme: str, target: str) -> bool:
    """Only web addresses, and never from https to http.

    >>> _may_follow("http", "https"), _may_follow("https", "http"), _may_follow("http", "file")
    (True, False, False)
    """
    return target == "https" or (target == "http" and scheme == "http")


def _late(name: str) -> str:
    return f"{name} did not answer within {_POST_S:g} s: check its address"


def _webhook(address: str) -> str:
    """The path and the query of such an address are often its password."""
    return f"the webhook at {one_line(urlsplit(address).hostname, 200)} of [on_failure]"


def _reason(error: BaseException) -> str:
    """Why it failed, without addresses, paths and arguments."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    words = getattr(error, "strerror", None)
    return one_line(words if isinstance(words, str) and words else type(error).__name__, 200)
