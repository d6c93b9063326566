"""The HTTP client that reads: streams of JPEG frames, playlists, model files.

A thin layer over `requests`, which is imported late: it costs 0.08 CPU seconds, and most commands read no web
address. It adds what they need: answers that are read as the bytes arrive and can be closed from another
thread, logins that are sent only when the server asks for them, and errors in a few words without addresses.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import requests

__all__ = ["MULTIPART", "HttpError", "HttpResponse", "HttpTimeoutError", "open_http"]

MULTIPART = "multipart/x-mixed-replace"
"""Media type of an answer in which each part replaces the one before: MJPEG."""

_HEADERS = {
    "User-Agent": "Mozilla/5.0 (audience-analyzer)",
    "Accept-Encoding": "identity",  # sizes are limited, and images are compressed already
}


class HttpError(ConnectionError):
    """A request that failed; its text says why in a few words, without the address.

    Attributes:
        status: The HTTP status, if the server answered with an error.
    """

    def __init__(self, words: str, *, status: int | None = None) -> None:
        super().__init__(words)
        self.status = status


class HttpTimeoutError(HttpError, TimeoutError):
    """The server did not answer in time."""


class HttpResponse:
    """An answer whose body is read as it arrives. Closes its connection at the end of a ``with`` block.

    Attributes:
        content_type: Media type in lower case, such as ``image/jpeg``.
        size_bytes: Size of the body; None if the server does not declare it.
    """

    def __init__(self, session: requests.Session, response: requests.Response) -> None:
        self._session = session
        self._response = response
        from email.message import Message

        self._head = Message()
        self._head["Content-Type"] = response.headers.get("Content-Type", "")
        self.content_type = self._head.get_content_type()
        declared = response.headers.get("Content-Length", "")
        self.size_bytes = int(declared) if declared.isascii() and declared.isdigit() else None

    def parameter(self, name: str) -> str:
        """Return a parameter of the content type, such as its ``boundary``; empty if it has none."""
        return str(self._head.get_param(name) or "")

    def read(self, most: int) -> bytes:
        """Wait for bytes, and return those that have arrived; empty at the end of the body.

        Args:
            most: The greatest number of bytes.

        Raises:
            HttpTimeoutError: Nothing arrived in time.
            HttpError: The connection broke, or was closed from another thread.
        """
        with _errors():
            try:
                return bytes(self._response.raw.read1(most, decode_content=False))
            except AttributeError as error:  # another thread has closed it: http.client forgets its file
                raise HttpError("the connection was closed") from error

    def read_all(self, most: int) -> bytes:
        """Read the body up to a size; raises like `read`."""
        body = bytearray()
        while len(body) < most and (block := self.read(most - len(body))):
            body += block
        return bytes(body)

    def close(self) -> None:
        """Close the connection, also while another thread waits in `read`. May be called twice."""
        with contextlib.suppress(OSError, ValueError, RuntimeError):  # it is closed already
            self._response.raw.shutdown()
        # Closing waits for a thread that reads, so the socket had to be shut down before.
        with contextlib.suppress(OSError, ValueError):
            self._response.close()
            self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_http(address: str, timeout_s: float, headers: Mapping[str, str] | None = None) -> HttpResponse:
    """Request a web address; a login in it is used for basic and digest authentication.

    Redirects are followed to http and https only, and the login is not sent to another host.

    Args:
        address: An http or https address.
        timeout_s: The longest wait for the connection, and for each further byte.
        headers: Added to those of the request.

    Raises:
        HttpTimeoutError: The server did not answer in time.
        HttpError: The server cannot be reached, refuses, or does not speak HTTP; this is no web address.
    """
    import requests
    from requests.auth import HTTPBasicAuth, HTTPDigestAuth
    from requests.utils import get_auth_from_url

    with contextlib.ExitStack() as stack, _errors():
        session = stack.enter_context(requests.Session())
        session.headers.update(_HEADERS)
        user, password = get_auth_from_url(address)
        parts = urlsplit(address)
        bare = parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()

        def get(auth: requests.auth.AuthBase | None) -> requests.Response:
            # Without an `auth`, requests would send a login from ~/.netrc.
            response = session.get(
                bare, headers=headers, timeout=timeout_s, stream=True, auth=auth or (lambda request: request)
            )
            stack.callback(response.close)
            return response

        response = get(None)
        same_host = urlsplit(response.url).netloc == urlsplit(bare).netloc
        if response.status_code == requests.codes.unauthorized and (user or password) and same_host:
            wanted = response.headers.get("WWW-Authenticate", "").lower()
            response.close()
            response = get((HTTPDigestAuth if "digest" in wanted else HTTPBasicAuth)(user, password))
        if response.status_code >= 400:
            raise HttpError(_refusal(response.status_code), status=response.status_code)
        stack.pop_all()
        return HttpResponse(session, response)


def _refusal(status: int) -> str:
    return f"HTTP error {status}" + (": user name and password are needed" if status == 401 else "")


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    """Turn the errors of requests and of the libraries below it into ours."""
    import requests
    import urllib3

    try:
        yield
    except HttpError:
        raise
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        causes = list(_causes(error))
        timeouts = (TimeoutError, requests.Timeout, urllib3.exceptions.ReadTimeoutError)
        if any(isinstance(one, timeouts) for one in causes):
            raise HttpTimeoutError("nothing came in time") from error
        raise HttpError(_words(causes)) from error


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what caused it, the outermost first."""
    seen: list[BaseException] = []
    current: object = error
    while isinstance(current, BaseException) and current not in seen:
        seen.append(current)
        yield current
        inner = next((one for one in current.args if isinstance(one, BaseException)), None)
        current = getattr(current, "reason", None)
        if not isinstance(current, BaseException):
            current = inner or seen[-1].__cause__ or seen[-1].__context__


def _words(causes: list[BaseException]) -> str:
    """What went wrong, in a few words without an address."""
    import ssl

    import requests

    if isinstance(causes[0], requests.TooManyRedirects):
        return "too many redirects"
    for error in reversed(causes):
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"the certificate is not valid: {error.verify_message}"
        if isinstance(error, OSError) and error.strerror:
            return error.strerror.lower()
    invalid = requests.exceptions
    if isinstance(causes[0], invalid.InvalidSchema | invalid.InvalidURL | invalid.MissingSchema):
        return "this is not a web address"
    if any(isinstance(one, ConnectionError) for one in causes):
        return "the server closed the connection"
    return f"the server does not speak HTTP ({type(causes[-1]).__name__})"
