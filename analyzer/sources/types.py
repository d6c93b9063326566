"""Sources as a user names them, and what they become: items, candidates, videos."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeAlias

from analyzer.errors import AnalyzerError, SourceError, SourceErrorKind
from analyzer.sources.failures import source_failure
from analyzer.sources.streams import Stream

__all__ = [
    "JSON",
    "Candidate",
    "FetchProgress",
    "FileSource",
    "Item",
    "LeftOut",
    "MediaKind",
    "Source",
    "StreamSource",
    "UrlSource",
    "Video",
    "failed_item",
]

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"

Info: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class FileSource:
    """A file or folder on this computer."""

    path: str


@dataclass(frozen=True)
class StreamSource:
    """A camera by its number, or an address of a stream, such as rtsp."""

    address: str


@dataclass(frozen=True)
class UrlSource:
    """An http or https address. `Fetcher.resolve` never takes it for a path or a camera."""

    url: str


Source: TypeAlias = FileSource | StreamSource | UrlSource


class MediaKind(StrEnum):
    """What an item is made of."""

    VIDEO = "video"
    IMAGES = "images"
    LIVE = "live"
    """A camera or stream: it has no end, and each analysis is a run of its own."""


@dataclass(slots=True)
class Item:
    """One video that a source lists; nothing has been downloaded.

    Not frozen, which would double the time to make one: a list may have a million.
    """

    source: str
    """The path or address; it identifies the item in later runs."""
    kind: MediaKind
    paths: tuple[Path, ...] = ()
    """Local files; empty for an address."""
    title: str | None = None
    """Untrusted raw text, if it is known without a request."""
    duration_s: float | None = None
    """In seconds, as the playlist declares it; None if it does not."""
    uploaded: str | None = None
    """ISO date, if the playlist states it."""
    standalone: bool = True
    """Whether `Item(source, kind)`, made again in a later run, can be fetched. False for entries that can be
    reached through their playlist only."""
    list_broke: bool = False
    """Whether this item represents all further entries, which could not be listed."""
    error: SourceError | None = None
    """Why the entry cannot be fetched: `Fetcher.fetch` raises this."""
    entry: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)
    """The playlist's data on this entry; for `Fetcher.fetch` only, never stored."""


@dataclass(frozen=True)
class Video:
    """A video on the disk, or a live stream."""

    video_id: str
    """Stable and safe in file names (`[A-Za-z0-9_-]`); its case matters. `youtube-<id>` and the like for
    sites, `web-<12 hex digits of the address>` for plain addresses, `file-<12 hex digits>` for local files:
    the hash of their size, first and last MiB, so that renaming a file does not make it another video;
    `live-<12 hex digits of the source>-<UTC time>` for live sources. It begins with a word, so that no reader
    of CSV takes it for a number, a date or a formula."""
    kind: MediaKind
    paths: tuple[Path, ...]
    """One video file, or image files in natural order of their names; none if live."""
    audio_path: Path | None
    """Separately downloaded audio; None if it is in the video file, or there is none."""
    source: str
    title: str
    """Untrusted raw text."""
    url: str | None
    """The page of the video, without user name and password; None for local files."""
    channel: str | None
    """Untrusted raw text."""
    uploaded: str | None
    """ISO date."""
    uploaded_at: str | None
    """ISO time in UTC, to the second, if the site states it."""
    duration_s: float | None
    """As the site declares it, in seconds."""
    fetched: bool
    """Whether it was downloaded, and is removed afterwards."""
    details: dict[str, JSON]
    """Provenance from an allow-list: never cookies, headers or signed addresses. Sizes in bytes."""
    stream: Stream | None = field(default=None, repr=False, compare=False)
    """The live stream; never stored."""


@dataclass(frozen=True)
class Candidate:
    """The facts about a video before it is downloaded."""

    video_id: str
    """The same as of the `Video` to come."""
    title: str
    """Untrusted raw text."""
    duration_s: float | None
    """In seconds, as the site declares it; None if it does not, and for local files."""
    uploaded: str | None
    """ISO date."""
    channel: str | None
    """Untrusted raw text."""
    size_bytes: int | None
    """Declared or estimated size of the download; None if unknown."""


@dataclass(frozen=True)
class LeftOut:
    """What a folder contains but is not listed."""

    source: str
    images: int
    """The number of images beside the videos; `Settings.images` includes them."""
    subfolders: bool
    """Whether its subfolders contain videos or images; `Settings.recursive` includes them."""


@dataclass(frozen=True)
class FetchProgress:
    """The progress of a download."""

    source: str
    received_bytes: int
    total_bytes: int | None
    """As declared by the server, or estimated; None if unknown."""


def failed_item(error: AnalyzerError, name: str, list_broke: bool = False) -> Item:
    """Make the item that represents a list or an entry that failed."""
    if not isinstance(error, SourceError):
        error = source_failure(SourceErrorKind.OTHER, name, str(error))
    return Item(name, MediaKind.VIDEO, standalone=False, list_broke=list_broke, error=error)
