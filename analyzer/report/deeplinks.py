"""Links to moments of a video."""

from __future__ import annotations

import math
import re
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from analyzer.util.urls import web_address

__all__ = [
    "Moments",
    "moment_url",
    "moments_of",
    "youtube_id",
]

_YOUTUBE = ("youtube.com", "youtube-nocookie.com", "youtu.be")

_YOUTUBE_ID = re.compile(r"[A-Za-z0-9_-]{6,20}", re.ASCII)


class Moments(NamedTuple):
    """How moments are addressed: `before`, then whole seconds, then `after`."""

    before: str
    after: str
    site: str
    """Name of the site."""


def youtube_id(url: object) -> str | None:
    """YouTube's id of the video at an address; None for other addresses.

    >>> youtube_id("https://youtu.be/dQw4w9WgXcQ?si=x"), youtube_id("https://youtube.com.example.org/watch?v=dQw4w9")
    ('dQw4w9WgXcQ', None)
    """
    address = web_address(url)
    if address is None:
        return None
    parts = urlsplit(address)
    host = (parts.hostname or "").lower()
    if not any(host == name or host.endswith(f".{name}") for name in _YOUTUBE):
        return None
    folders = parts.path.strip("/").split("/")
    if host.endswith("youtu.be"):
        name = folders[0]
    elif folders[0] in ("shorts", "live", "embed") and len(folders) > 1:
        name = folders[1]
    else:
        name = parse_qs(parts.query).get("v", [""])[0]
    return name if _YOUTUBE_ID.fullmatch(name) else None


def moments_of(url: object) -> Moments | None:
    """How moments of a video are addressed; None if the video has no web address."""
    address = web_address(url)
    if address is None:
        return None
    if name := youtube_id(address):
        return Moments(f"https://www.youtube.com/watch?v={name}&t=", "s", "YouTube")
    return Moments(f"{address.partition('#')[0]}#t=", "", urlsplit(address).hostname or "its page")


def moment_url(url: object, time_s: float) -> str | None:
    """The address of a moment of a video; None if the video has no web address.

    Args:
        url: Address of the video's page or file.
        time_s: Time in the video; rounded down, so that the moment is not missed.

    >>> moment_url("https://youtu.be/dQw4w9WgXcQ?si=x", 35.9)
    'https://www.youtube.com/watch?v=dQw4w9WgXcQ&t=35s'
    >>> moment_url("https://example.org/a.mp4#x", 35.9), moment_url("javascript:x", 1)
    ('https://example.org/a.mp4#t=35', None)
    """
    moments = moments_of(url)
    return moments and f"{moments.before}{max(0, math.floor(time_s))}{moments.after}"
