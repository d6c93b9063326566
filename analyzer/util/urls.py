"""Addresses: which ones are web addresses, the host that rate limits apply to, and logins kept secret."""

from __future__ import annotations

import functools
import ipaddress
import re
from urllib.parse import urlsplit

__all__ = [
    "host_of",
    "redacted",
    "redacted_text",
    "web_address",
    "without_login",
]

_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]*://"

_LOGIN_FIELD = re.compile(
    r"([?&;/](?:[\w.-]*(?:user|usr|login|pass|pwd|psw|token|auth|secret|apikey|api_key|signature)[\w.-]*"
    r"|key|pw|sig)=)[^&;#\s]+",
    re.I,
)


def web_address(value: object) -> str | None:
    """Return a complete http or https address, without blanks around it; None for anything else.

    >>> web_address(" https://example.org/a "), web_address("HTTP://example.org:80")
    ('https://example.org/a', 'HTTP://example.org:80')
    >>> web_address("javascript:alert(1)"), web_address("http://a b"), web_address("http://a:b")
    (None, None, None)
    """
    address = value.strip() if isinstance(value, str) else ""
    if not address.isprintable() or " " in address:
        return None
    try:
        parts = urlsplit(address)
        complete = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port  # raises for what is no number
    except ValueError:
        return None
    return address if complete else None


def host_of(address: str) -> str | None:
    """Return the host that rate limits apply to; None if this is not a web address.

    The names of one site give the same host, without port. Numeric and local hosts keep theirs: servers of
    different owners may share such a host.

    >>> host_of("https://www.YouTube.com/watch?v=x"), host_of("https://youtu.be/x"), host_of("a/b.mp4")
    ('youtube.com', 'youtube.com', None)
    >>> host_of("http://127.0.0.1:8080/a.mp4"), host_of("https://example.org:8443/")
    ('127.0.0.1:8080', 'example.org')
    """
    authority = _AUTHORITY.match(address)  # few, also of a million addresses
    return _host_of(address if authority is None else authority[0])


_AUTHORITY = re.compile(r"https?://[^/?#\s]*(?=[/?#])")


@functools.lru_cache(maxsize=1000)
def _host_of(address: str) -> str | None:
    try:
        parts = urlsplit(address)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not host:
        return None
    shown = f"[{host}]" if ":" in host else host
    if host == "localhost" or _is_ip(host):
        return f"{shown}:{port}" if port is not None else shown
    bare = re.sub(r"^(?:www\.|m\.)+(?=[^.]+\.)", "", host)
    return "youtube.com" if bare in ("youtu.be", "youtube-nocookie.com") else bare


@functools.lru_cache(maxsize=1000)
def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def without_login(source: str) -> str:
    """Strip user name and password from an address; paths are returned unchanged.

    The address can still be opened if it needs no login. Use `redacted` for what is only shown.

    >>> without_login("https://user:secret@example.org/a.mp4?b")
    'https://example.org/a.mp4?b'
    >>> without_login("rtsp://user:s/cr@t@camera/1"), without_login("http://example.org:80/@user")
    ('rtsp://camera/1', 'http://example.org:80/@user')
    """
    scheme = re.match(_SCHEME, source) if "@" in source else None
    if scheme is None:
        return source
    rest = source[scheme.end() :]
    proper, loose = r"[^/?#\s]*@", r"[^/?#@\s:\[]*:\S*@"  # loose: the password may hold / ? # or @
    if scheme[0].lower().startswith("http"):  # where an @ may also be part of a page's name
        login = re.match(rf"{proper}|(?![^/?#]*:\d+(?:[/?#]|$)){loose}", rest)
    else:
        login = re.match(rf"{loose}|{proper}", rest)
    return scheme[0] + rest[login.end() if login else 0 :]


def redacted(source: str) -> str:
    """Strip the login of an address and mask what looks like one in its query; paths stay unchanged.

    >>> redacted("http://me:secret@camera/v.cgi?user=admin&pwd=secret&resolution=32")
    'http://camera/v.cgi?user=***&pwd=***&resolution=32'
    """
    bare = without_login(source)
    return _LOGIN_FIELD.sub(r"\1***", bare) if re.match(_SCHEME, bare) else bare


def redacted_text(text: str) -> str:
    """Redact all addresses in a message, and the queries of addresses that are only named in part.

    >>> redacted_text("cannot open ftp://me:secret@example.org/a: v.cgi?pwd=secret")
    'cannot open ftp://example.org/a: v.cgi?pwd=***'
    """
    text = re.sub(rf"{_SCHEME}\S+", lambda found: redacted(found[0]), text)
    return _LOGIN_FIELD.sub(r"\1***", text)
