"""What a source yields: items, candidates, videos."""

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
    "Item",
    "LeftOut",
    "MediaKind",
    "Video",
    "failed_item",
]

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"


Info: TypeAlias = dict[str, Any]


class MediaKind(StrEnum):
    """What an item is made of."""

    VIDEO = "video"
    IMAGES = "images"
    LIVE = "live"
    """A camera or stream: it has no end, and each time it is followed is a run of its own."""


@dataclass(frozen=True)
class Item:
    """One video to come; nothing has been fetched."""

    source: str
    """The path or address. It names the item again in a later run."""
    kind: MediaKind
    paths: tuple[Path, ...] = ()
    """Local files; empty for an address."""
    title: str | None = None
    """Untrusted raw text, where it is known without a request."""
    duration_s: float | None = None
    """As the playlist declares it, in seconds; None where it does not."""
    uploaded: str | None = None
    """ISO date, where the playlist tells it."""
    standalone: bool = True
    """Whether `Item(source, kind)`, made again in a later run, can be fetched. False for entries that only
    their playlist leads to."""
    list_broke: bool = False
    """Stands for all entries that could not be listed any more; not for a dead entry, which is one video."""
    error: SourceError | None = None
    """A dead playlist entry: `Fetcher.fetch` raises this."""
    entry: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)
    """What the playlist said about this entry; for `Fetcher.fetch` only, never to be stored."""


@dataclass(frozen=True)
class Video:
    """A video that lies on the disk."""

    video_id: str
    """Stable and safe in file names (`[A-Za-z0-9_-]`); its case matters. `youtube-<id>` and the like for
    sites, `web-<12 hex digits of the address>` for plain addresses, `file-<12 hex digits>` for local files:
    the hash of their size, first and last MiB, so that renaming a file does not make it another video;
    `live-<12 hex digits of the source>-<UTC time>` for what is followed live. It begins with a word, so that
    no reader of CSV takes it for a number, a date or a formula."""
    kind: MediaKind
    paths: tuple[Path, ...]
    """One video file, or the pictures in natural order of their names; none of what is live."""
    audio_path: Path | None
    """Separately downloaded audio; None: in the video file if anywhere."""
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
    """ISO time in UTC, to the second, where the site tells it."""
    duration_s: float | None
    """As the site declares it, in seconds."""
    fetched: bool
    """Downloaded by us: to be removed afterwards."""
    details: dict[str, JSON]
    """Provenance, an allow-list: never cookies, headers or signed addresses. Sizes in bytes."""
    stream: Stream | None = field(default=None, repr=False, compare=False)
    """Where what is live comes from; never to be stored."""


@dataclass(frozen=True)
class Candidate:
    """What is known of a video before it is downloaded."""

    video_id: str
    """As that of the `Video` to come."""
    title: str
    """Untrusted raw text."""
    duration_s: float | None
    """As the site declares it, in seconds; None where it does not, and for local files."""
    uploaded: str | None
    """ISO date."""
    channel: str | None
    """Untrusted raw text."""
    size_bytes: int | None
    """Declared or estimated size of what would be downloaded; None where unknown."""


@dataclass(frozen=True)
class LeftOut:
    """A folder contains more than what is listed of it."""

    source: str
    images: int
    """How many images lie beside the videos; `Settings.images` includes them."""
    subfolders: bool
    """Whether its subfolders contain videos or images; `Settings.recursive` includes them."""


@dataclass(frozen=True)
class FetchProgress:
    """How far a download is."""

    source: str
    received_bytes: int
    total_bytes: int | None
    """Declared by the server or estimated; None where unknown."""
    bytes_per_s: float | None


def failed_item(error: AnalyzerError, name: str, list_broke: bool = False) -> Item:
    """What stands for a list or an entry that leads nowhere."""
    if not isinstance(error, SourceError):
        error = source_failure(SourceErrorKind.OTHER, name, str(error))
    return Item(name, MediaKind.VIDEO, standalone=False, list_broke=list_broke, error=error)
