"""URLs: hosts, logins, and how an address is shown."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

__all__ = [
    "host_of",
    "plain_text",
    "shown_source",
    "with_shown_addresses",
    "without_login",
]


def host_of(address: str) -> str | None:
    """The host that is to be left alone when a site complains; None for what is no web address.

    Names of one site come out alike, without port; numeric and local hosts keep theirs, as servers of
    different people may share such a host.

    >>> host_of("https://www.YouTube.com/watch?v=x"), host_of("https://youtu.be/x"), host_of("a/b.mp4")
    ('youtube.com', 'youtube.com', None)
    >>> host_of("http://127.0.0.1:8080/a.mp4"), host_of("https://example.org:8443/")
    ('127.0.0.1:8080', 'example.org')
    """
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


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


_LOGIN_FIELD = re.compile(
    r"([?&;/](?:[\w.-]*(?:user|usr|login|pass|pwd|psw|token|auth|secret|apikey|api_key|signature)[\w.-]*"
    r"|key|pw|sig)=)[^&;#\s]+",
    re.I,
)


def without_login(source: str) -> str:
    """An address without user name and password, as it may be shown and stored; paths stay as they are.

    >>> without_login("https://user:secret@example.org/a.mp4?b")
    'https://example.org/a.mp4?b'
    >>> without_login("rtsp://user:s/cr@t@camera/1"), without_login("http://example.org:80/@user")
    ('rtsp://camera/1', 'http://example.org:80/@user')
    """
    scheme = re.match(r"(https?|rtsps?)://", source, re.I)
    if scheme is None:
        return source
    rest = source[scheme.end() :]
    proper, loose = r"[^/?#\s]*@", r"[^/?#@\s:\[]*:\S*@"  # with / ? # or @ in a password
    if scheme[1].lower().startswith("http"):  # where an @ may also belong to the name of a page
        login = re.match(rf"{proper}|(?![^/?#]*:\d+(?:[/?#]|$)){loose}", rest)
    else:
        login = re.match(rf"{loose}|{proper}", rest)
    return scheme[0] + rest[login.end() if login else 0 :]


def shown_source(source: str) -> str:
    """As `without_login`, and what looks like a login in the query of an address is masked too.

    >>> shown_source("http://camera/v.cgi?user=admin&pwd=secret&resolution=32")
    'http://camera/v.cgi?user=***&pwd=***&resolution=32'
    """
    bare = without_login(source)
    return _LOGIN_FIELD.sub(r"\1***", bare) if re.match(r"(?:https?|rtsps?)://", bare, re.I) else bare


def with_shown_addresses(text: str) -> str:
    """A message without logins. yt-dlp also names the end of an address alone."""
    text = re.sub(r"(?:https?|rtsps?)://\S+", lambda found: shown_source(found[0]), text, flags=re.I)
    return _LOGIN_FIELD.sub(r"\1***", text)


def plain_text(text: str) -> str:
    """The first sentence of a message of yt-dlp's, for people: one short line without addresses.

    >>> plain_text("ERROR: [youtube] abc: Private video. Sign in if you've been granted access")
    'Private video'
    """
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
    text = "".join(each if each.isprintable() else " " for each in text)
    text = re.sub(r"[;,.]?\s*please report this issue.*", "", text, flags=re.I)
    text = re.sub(r"\s*\(caused by .*", "", text)
    text = re.sub(r"^\s*(?:ERROR:\s*)?(?:\[[^\]]*\]\s*(?:Got error:|\S+:)?\s*)*", "", text)
    text = re.sub(
        r"Unable to download \w+(?: page)?: |HTTPS?Connection\w*\([^)]*\): |\[Errno -?\d+\] ", "", text
    )
    text = with_shown_addresses(text)
    # Addresses of media are signed, some hold passwords: the host is enough.
    text = re.sub(r"https?://(?:[^/\s@]*@)?([^/\s\"'<>]+)\S*", r"\1", text)
    text = re.split(r"(?<=[.!?])\s|\. Giving up", " ".join(text.split()), maxsplit=1)[0].rstrip(".")
    return text if len(text) <= 160 else text[:159] + "…"
