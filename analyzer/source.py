"""What the user names -> videos on the disk. The only importer of yt-dlp.

::

    fetcher = Fetcher(settings, want_audio=True)
    for item in fetcher.resolve("https://..."):    # lazy: nothing is fetched yet
        video = fetcher.fetch(item, folder)        # SourceError says why not

How a hostile or broken server is survived: all work of yt-dlp runs in a worker thread, watched by the
caller's thread against a deadline. Socket timeouts alone are not enough, because a server that dribbles
a few bytes now and then never trips them. At the deadline (or at Ctrl-C) the caller goes on at once, and
the worker ends by itself at its next request, byte or socket timeout. One that is caught in a dribble
inside the HTTP library gets an exception from outside, somewhat later: at once, it could interrupt the
cleaning up after a socket timeout. A child process could be killed more finally, but costs a second at
every start, needs `__main__` guards in every program that uses this library, and cannot be handed
extractors and hooks. What callers hand in (`accept`, `on_wait`, `on_progress`) runs in the caller's thread;
an exception of theirs ends the work as Ctrl-C does.
"""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import email.utils
import errno
import hashlib
import ipaddress
import itertools
import json
import logging
import math
import os
import re
import shlex
import shutil
import stat
import tempfile
import threading
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from email.message import Message
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Generic, TypeAlias, TypeVar
from urllib.parse import parse_qsl, urldefrag, urlencode, urlsplit

from analyzer.errors import AnalyzerError, OutputError, SourceError, SourceErrorKind, is_full
from analyzer.events import LeftOut
from analyzer.settings import Settings
from analyzer.streams import Stream, StreamForm, probe, recognised, shown_address

if TYPE_CHECKING:
    from yt_dlp.extractor.common import InfoExtractor

__all__ = [
    "JSON",
    "Candidate",
    "FetchProgress",
    "Fetcher",
    "Item",
    "MediaKind",
    "Video",
    "choose_formats",
    "host_of",
    "pictures_together",
    "run_folder",
    "run_name",
    "shown_source",
    "without_login",
]

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"
Info: TypeAlias = dict[str, Any]
T = TypeVar("T")

_log = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
VIDEO_SUFFIXES = frozenset(
    {".3g2", ".3gp", ".apng", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"}
    | {".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv"}
)
"""What is picked from a folder. A file that is named by itself may have any suffix."""

_BLOCK_BYTES = 32 * 1024
"""The least that must arrive within `Settings.timeout_s` while downloading (1.6 kB/s by default), and the
size of the pieces in which bodies are read: progress is seen once a whole piece is there."""
_MAX_PAGE_BYTES = 64 * 1024 * 1024
"""Largest page or manifest; these are held in memory."""
_EXTRACTION_TIMEOUTS = 6
"""Looking a page up takes several requests; all together may take this many times `timeout_s`."""
_RETRIES = 3
_POLL_S = 0.05
_GRACE_S = 0.3
"""How long a stopped worker is waited for."""
_MAX_HOPS = 10
_MAX_DEPTH = 4
_MAX_WAIT_S = 60.0
_MAX_RETRY_AFTER_S = 7 * 86_400.0
_FINGERPRINT_BYTES = 1024 * 1024
_LIST_TYPES = ("playlist", "multi_video")
_URL_TYPES = ("url", "url_transparent")
_SMUGGLED = "#__youtubedl_smuggle"
"""What yt-dlp's extractors tell each other is behind this in an address."""


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
class FetchProgress:
    """How far a download is."""

    source: str
    received_bytes: int
    total_bytes: int | None
    """Declared by the server or estimated; None where unknown."""
    bytes_per_s: float | None


class Fetcher:
    """Turns what the user names into videos on the disk.

    Args:
        settings: Uses `playlist`, `limit`, `recursive`, `images`, `max_height`, `max_size_mb`, `timeout_s`.
        want_audio: Whether sound is needed; if not, it is never downloaded on its own.
        live: Whether cameras and streams without end are given, as videos with a `stream`; else refused.
        extractors: Further yt-dlp extractors, asked before yt-dlp's own, whose names they must not have.
            Classes are better than instances, which cannot serve two downloads at a time.
        on_progress: Called in the caller's thread, at most 20 times a second.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        want_audio: bool,
        live: bool = False,
        extractors: Sequence[type[InfoExtractor] | InfoExtractor] = (),
        on_progress: Callable[[FetchProgress], None] | None = None,
    ) -> None:
        self._settings = settings
        self._live = live
        self._want_audio = want_audio
        self._extractors = tuple(extractors)
        self._on_progress = on_progress
        self._sites: _Sites | None = None

    def resolve(
        self,
        source: str,
        on_wait: Callable[[], None] | None = None,
        on_left_out: Callable[[LeftOut], None] | None = None,
    ) -> Iterator[Item]:
        """List the videos of a file, folder, address or (with `Settings.playlist`) playlist, in order.

        Lazy: entries beyond `Settings.limit` are never asked for. Without `Settings.playlist` an address
        is handed on without any request. Where a server wants to be left alone for a while, the listing
        ends there.

        Args:
            source: A path or an address.
            on_wait: Called in the caller's thread about 20 times a second while a server is waited for.
                What it raises ends the listing at once and reaches the caller as it is.
            on_left_out: Called before the first item if something of a folder is not listed, though another
                setting would list it.

        Raises:
            SourceError: On the first step: not found, unsupported, empty, or the playlist cannot be had.
                Later troubles become items with an `error`.
        """
        mode = _file_mode(source)
        if mode is not None:
            found, left_out = _local_items(
                Path(source),
                source,
                mode,
                recursive=self._settings.recursive,
                images=self._settings.images,
                limit=self._settings.limit,
            )
            if on_left_out is not None and left_out is not None:
                on_left_out(left_out)
            items = iter(found)
        elif self._live and recognised(source) is not None:
            items = iter([Item(source, MediaKind.LIVE)])
        else:
            _check_address(source)
            if not self._settings.playlist:
                yield Item(source, MediaKind.VIDEO)
                return
            items = self._walk_address({"_type": "url", "url": source}, source, _MAX_DEPTH, _Call(on_wait))
        empty = True
        for item in itertools.islice(items, self._settings.limit):
            empty = False
            yield item
        if empty:
            raise SourceError(
                f"There is nothing to analyse in {shown_source(source)}",
                kind=SourceErrorKind.EMPTY,
                source=source,
            )

    def resolve_pictures(self, paths: Sequence[str]) -> Item:
        """Several picture files as one item, in the order given; `Settings.limit` of them.

        Raises:
            SourceError: One is missing, or no regular file.
        """
        paths = paths[: self._settings.limit]
        for path in paths:
            mode = _file_mode(path)
            if mode is None:
                _check_address(path)
            if mode is None or not stat.S_ISREG(mode):
                raise _irregular(path)
        files = tuple(Path(path) for path in paths)
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        return Item(shlex.join(paths), MediaKind.IMAGES, files, files[0].stem + more, standalone=False)

    def identify(self, item: Item) -> str:
        """A stable identity of an item, without any request: the `Video.video_id` to come, where it shows.

        It shows for local files, for entries of playlists and for addresses from which yt-dlp reads the
        site's id. It does not where only the site knows: addresses that redirect or name a video by words.
        What has neither id nor address is named by its number in the list, which may shift.

        Raises:
            SourceError: A local file is gone or cannot be read; this is no address.
        """
        item = _with_paths(item, self._settings.limit)
        if item.paths:
            return _local_identity(item.paths)[0]
        entry = item.entry
        if entry is None:
            if item.error is not None or not item.standalone:
                return _web_id(item.source)
            _check_address(item.source)
            entry = {"_type": "url", "url": item.source}
        if entry.get("_type", "video") in _URL_TYPES:
            key, name = self._site_of(entry)
        else:
            key, name = entry.get("extractor_key"), entry.get("id")
        if not name and not _is_generic(key):
            return _web_id(item.source)
        return _video_id(item, {"extractor_key": key, "id": name})

    def names_list(self, url: str) -> bool:
        """Whether an address is known to be that of a playlist or channel, without any request."""
        return self._known_sites().names_list(url)

    def _known_sites(self) -> _Sites:
        if self._sites is None:
            self._sites = _Sites(self._extractors)
        return self._sites

    def _site_of(self, entry: Mapping[str, Any]) -> tuple[str | None, str | None]:
        """The extractor that will be asked about a link, and the id that it will give the video."""
        key, name, url = entry.get("ie_key"), entry.get("id"), str(entry.get("url") or "")
        if key and (_is_generic(key) or (name and entry["_type"] == "url")):
            return key, name
        found, read = self._known_sites().find(url, key)
        return found, read or (None if found is None else name)

    def fetch(
        self,
        item: Item,
        folder: Path,
        *,
        accept: Callable[[Candidate], None] | None = None,
        on_wait: Callable[[], None] | None = None,
    ) -> Video:
        """Download a video into `folder`; local files are not copied.

        Args:
            item: From `resolve`.
            folder: Exists and is empty. After a failure nothing of ours stays in it.
            accept: Called once, in the caller's thread, when the site's facts are known and nothing of the
                video has been downloaded. What it raises ends the fetch and reaches the caller as it is.
            on_wait: Called in the caller's thread about 20 times a second while a server is waited for.
                What it raises ends the fetch at once and reaches the caller as it is.

        Raises:
            SourceError: The video cannot be had; `kind` and `retry` say why and whether to try again,
                `retry_after_s` how long the server wants to be left alone.
            OutputError: The download could not be written to `folder`.
        """
        if item.error is not None:
            raise item.error
        stream = recognised(item.source) if self._live and item.kind is MediaKind.LIVE else None
        if stream is not None:
            return _live_video(item, stream)
        item = _with_paths(item, self._settings.limit)
        if item.paths:
            video = _local_video(item)
            if accept is not None:
                size = video.details["size_bytes"]
                assert isinstance(size, int)
                accept(Candidate(video.video_id, video.title, None, None, None, size))
            return video
        if item.entry is None:
            _check_address(item.source)
        try:
            staging = Path(tempfile.mkdtemp(prefix=".fetch-", dir=folder))
        except OSError as error:
            message = f"Cannot download into {folder}: {error.strerror}"
            raise OutputError(message, no_space=is_full(error)) from error
        try:
            return self._download(item, folder, staging, accept, _Call(on_wait))
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _download(
        self,
        item: Item,
        folder: Path,
        staging: Path,
        accept: Callable[[Candidate], None] | None,
        call: _Call,
    ) -> Video:
        session = _Session(
            self._settings,
            item.source,
            extractors=self._extractors,
            folder=staging,
            live=self._live and item.entry is None,  # else a channel that is on air would never be done
            call=call,
        )
        try:
            if self._live and item.entry is None and _is_generic(self._site_of(_link(item.source))[0]):
                stream = session.run(session.probe)
                if stream is not None:
                    return _live_video(item, stream)
            plan = session.run(lambda: session.prepare(item, want_audio=self._want_audio))
            if accept is not None:
                accept(_candidate(item, plan))
            info, files = session.run(
                lambda: session.download(item, plan, want_audio=self._want_audio), report=self._report
            )
            self._report(session)
            return _publish(item, info, files, folder)
        except _GoesOnError as live:
            return _live_video(item, self._stream_of(item, live), live.info)
        finally:
            session.close()

    def _stream_of(self, item: Item, live: _GoesOnError) -> Stream:
        """What yt-dlp found to go on; where a site signs addresses, it is asked for fresh ones."""
        headers = {str(name): str(value) for name, value in (live.format.get("http_headers") or {}).items()}

        def renew() -> Stream:
            session = _Session(
                self._settings, item.source, extractors=self._extractors, live=True, call=_Call()
            )
            try:
                session.run(lambda: session.prepare(item, want_audio=False))
            except _GoesOnError as again:
                return self._stream_of(item, again)
            finally:
                session.close()
            raise _failure(SourceErrorKind.NOT_FOUND, item.source, "it is no longer live")

        signed = not _is_generic(live.info.get("extractor_key"))
        return Stream(StreamForm.HLS, str(live.format["url"]), headers, renew if signed else None)

    def _report(self, session: _Session) -> None:
        progress = session.take_progress()
        if self._on_progress is not None and progress is not None:
            self._on_progress(progress)

    def _walk_address(self, entry: Info, name: str, depth: int, call: _Call) -> Iterator[Item]:
        """What an address or the link to a playlist holds.

        Raises:
            AnalyzerError: It cannot be opened at all.
        """
        session = _Session(self._settings, name, extractors=self._extractors, whole_playlist=True, call=call)
        try:
            raw = session.run(lambda: session.open(entry))
            if raw.get("_type", "video") in _LIST_TYPES:
                yield from self._walk(session, raw, name, depth)
            else:
                standalone = _stands_alone(entry)
                # A link without an address of its own can be followed again only by the link itself.
                yield _video_item(raw, name, standalone, None if standalone else entry)
        finally:
            session.close()

    def _walk(self, session: _Session, raw: Info, source: str, depth: int) -> Iterator[Item]:
        """The entries of a playlist, one after the other; the troubles of one do not end the rest."""
        page = raw.get("webpage_url") or source
        entries = iter(raw.get("entries") or ())
        for number in itertools.count(1):
            name = f"{page}#{number}"
            try:
                entry = session.run(lambda: next(entries, _END), name=name)
            except AnalyzerError as error:
                if session.call.ended:
                    raise
                # The generator is dead: one item stands for the entries that cannot be listed.
                yield _dead(error, name, list_broke=True)
                return
            if entry is _END:
                return
            if not entry:
                kind = SourceErrorKind.PRIVATE_OR_REMOVED
                yield _dead(_failure(kind, name, f"entry {number} of the playlist"), name)
                continue
            # Entries that hold a whole video lack what yt-dlp takes over from the playlist.
            inherited = {key: raw.get(key) for key in ("extractor", "extractor_key", "webpage_url")}
            yield from self._walk_entry(session, {**inherited, **entry}, name, depth)
            if session.call.refusal is not None:  # what broke off further down ends the rest as well
                return

    def _walk_entry(self, session: _Session, entry: Info, name: str, depth: int) -> Iterator[Item]:
        kind, title = entry.get("_type", "video"), entry.get("title")
        linked = kind in _URL_TYPES and session.names_playlist(entry)
        if kind in _URL_TYPES:
            name = _own_address(entry) or name
        if not linked and kind not in _LIST_TYPES:
            item = _video_item(entry, name, kind in _URL_TYPES and _stands_alone(entry), entry)
            if title in ("[Private video]", "[Deleted video]"):
                item = replace(item, error=_failure(SourceErrorKind.PRIVATE_OR_REMOVED, name, title))
            yield item
        elif depth == 0:
            yield _dead(_failure(SourceErrorKind.OTHER, name, "playlists nested too deeply"), name)
        elif linked:  # with a session of its own, so that its end by the deadline does not end this one
            try:
                yield from self._walk_address(entry, name, depth - 1, session.call)
            except AnalyzerError as error:
                if session.call.ended:
                    raise
                # A tab that may come back is a list that broke; one that is gone is a dead entry.
                yield _dead(error, name, list_broke=getattr(error, "retry", False))
        else:
            yield from self._walk(session, entry, name, depth - 1)


class _GoesOnError(AnalyzerError):
    """A site's stream has no end. Not an error for those who follow live sources."""

    def __init__(self, info: Info, form: Mapping[str, Any]) -> None:
        super().__init__("this is live")
        self.info = info
        self.format = form


def _link(url: str) -> Info:
    return {"_type": "url", "url": url}


_END: Any = object()


def _dead(error: AnalyzerError, name: str, list_broke: bool = False) -> Item:
    """What stands for a list or an entry that leads nowhere."""
    if not isinstance(error, SourceError):
        error = _failure(SourceErrorKind.OTHER, name, str(error))
    return Item(name, MediaKind.VIDEO, standalone=False, list_broke=list_broke, error=error)


def _video_item(info: Info, name: str, standalone: bool, entry: Info | None) -> Item:
    """An item of which the site or its playlist has told something: strangers' data."""
    title = info.get("title")
    return Item(
        name,
        MediaKind.VIDEO,
        title=title if isinstance(title, str) else None,
        duration_s=_seconds(info.get("duration")),
        uploaded=_uploaded(info),
        standalone=standalone,
        entry=entry,
    )


def _own_address(entry: Mapping[str, Any]) -> str | None:
    """The address of a playlist entry, without what yt-dlp's extractors tell each other behind the #."""
    url = str(entry.get("url") or "").partition(_SMUGGLED)[0]
    return url if url.startswith(("http://", "https://")) else None


def _stands_alone(entry: Mapping[str, Any]) -> bool:
    """Whether the address of a playlist entry is all that is needed to fetch it."""
    return _own_address(entry) is not None and _SMUGGLED not in str(entry.get("url"))


class _Sites:
    """Which extractor a session will ask about an address, found without a session and without requests."""

    def __init__(self, extractors: Iterable[type[InfoExtractor] | InfoExtractor]) -> None:
        _forbid_plugins()
        from yt_dlp.extractor import gen_extractor_classes

        enabled = (each for each in gen_extractor_classes() if each._ENABLED)
        self._ies: dict[str, Any] = {each.ie_key(): each for each in (*extractors, *enabled)}
        self._tests: dict[str, Callable[[str], object]] = {}

    def find(self, url: str, key: str | None = None) -> tuple[str | None, str | None]:
        """The key of the extractor of an address, and the id that it reads from the address.

        An address that yt-dlp knows as a playlist has no id: it is no video. About 1 ms at worst.
        """
        candidates = self._ies if key is None else {key: self._ies[key]} if key in self._ies else {}
        for name, extractor in candidates.items():
            test = self._tests.get(name)
            if test is None:
                test = self._tests[name] = _url_test(extractor)
            if not test(url):
                continue
            if name.startswith("Youtube") and name != "Youtube" and (video := _without_list(url)):
                found = self.find(video)
                if found[0] == "Youtube":
                    return found
            if self._is_list(name):
                return name, None
            read = extractor.get_temp_id(url)
            return name, str(read) if read else None
        return key, None

    def names_list(self, url: str) -> bool:
        """Whether yt-dlp knows an address as a playlist."""
        return self._is_list(self.find(url)[0])

    def _is_list(self, key: str | None) -> bool:
        return key == "YoutubeTab" or (key in self._ies and self._ies[key]._RETURN_TYPE == "playlist")


def _url_test(extractor: Any) -> Callable[[str], object]:
    """`extractor.suitable`. Most have that of their base, which its regular expression alone does faster."""
    methods = (extractor.suitable, extractor._match_valid_url)
    inherited = ("InfoExtractor.", "LazyLoadExtractor.")
    pattern = extractor._VALID_URL
    if isinstance(pattern, str) and all(each.__qualname__.startswith(inherited) for each in methods):
        return re.compile(pattern).match
    return extractor.suitable


def _without_list(url: str) -> str | None:
    """An address without its playlist: a video of a playlist is fetched as that video. None: it has none."""
    parts = urlsplit(url)
    query = parse_qsl(parts.query, keep_blank_values=True)
    kept = [(key, value) for key, value in query if key != "list"]
    return None if len(kept) == len(query) else parts._replace(query=urlencode(kept)).geturl()


# ---------------------------------------------------------------------------------------- local files


def _natural(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key by which ``2.png`` comes before ``10.png``."""
    parts = re.split(r"([0-9]+)", name.casefold())
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts if part], name


def _file_mode(source: str) -> int | None:
    """The mode of the file or folder with this name; None if there is none."""
    try:
        return Path(source).stat().st_mode if source else None
    except (OSError, ValueError):  # ValueError: a NUL character
        return None


def pictures_together(sources: Iterable[str]) -> list[str | tuple[str, ...]]:
    """Sources with all picture files as one, in the place of the first: pictures that are named at once are
    one run, whatever stands between them.
    """
    named = list(sources)
    pictures = [source for source in named if _names_picture(source)]
    if len(pictures) < 2:
        return [*named]
    first = named.index(pictures[0])
    others = [source for source in named[first:] if not _names_picture(source)]
    return [*named[:first], tuple(pictures), *others]


def _names_picture(source: str) -> bool:
    mode = _file_mode(source)
    return mode is not None and stat.S_ISREG(mode) and _is_picture(Path(source))


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def _local_items(
    path: Path,
    source: str,
    mode: int,
    *,
    recursive: bool = False,
    images: bool = False,
    limit: int | None = None,
) -> tuple[list[Item], LeftOut | None]:
    """What a file or folder holds, and what of a folder is left out.

    Args:
        path: The file or folder.
        source: Its name as the user wrote it.
        mode: Its mode.
        recursive: Whether subfolders are searched, too.
        images: Whether images count that lie in a folder of videos.
        limit: So many images at most of each folder.

    Raises:
        SourceError: It is neither, cannot be read, or only its subfolders hold something.
    """
    if not stat.S_ISDIR(mode):
        if not stat.S_ISREG(mode):
            raise _irregular(source)
        kind = MediaKind.IMAGES if _is_picture(path) else MediaKind.VIDEO
        return [Item(source, kind, (path,), path.stem)], None
    items: list[Item] = []
    albums: list[Item] = []
    for folder in _folders(path) if recursive else (path,):
        try:
            files = _media_files(folder)
        except OSError as error:
            message = f"The folder {folder} cannot be read: {error.strerror}"
            failure = SourceError(message, kind=SourceErrorKind.OTHER, source=str(folder))
            if folder == path:
                raise failure from error
            items.append(_dead(failure, str(folder)))
            continue
        shots = tuple(each for each in files if _is_picture(each))
        videos = (each for each in files if not _is_picture(each))
        items += [Item(str(each), MediaKind.VIDEO, (each,), each.stem) for each in videos]
        if shots:
            # What the user wrote names the folder again; a subfolder is named by its path.
            name = source if folder == path else str(folder)
            albums.append(Item(name, MediaKind.IMAGES, shots[:limit], folder.resolve().name))
    # Downloaders and media servers put covers and thumbnails beside videos, or into folders beside them.
    beside = 0
    if albums and not images and any(item.error is None for item in items):
        beside = sum(len(album.paths) for album in albums)
        albums = []
    items += albums
    below = None if recursive else _first_below(path)
    if not items and below is not None:
        raise SourceError(
            f"The folder {source} holds nothing to analyse itself, but its subfolders do, such as "
            f"{below.relative_to(path)}: add --recursive to search them, too",
            kind=SourceErrorKind.NESTED,
            source=source,
        )
    if not beside and below is None:
        return items, None
    return items, LeftOut(shown_name(source), beside, below is not None)


_MOST_SEARCHED = 2000
"""In so many subfolders it is looked whether they hold a video, where only to say so."""


def _media_files(folder: Path) -> list[Path]:
    """The videos and images that lie in a folder itself, in natural order of their names.

    Raises:
        OSError: It cannot be read.
    """
    suffixes = VIDEO_SUFFIXES | IMAGE_SUFFIXES
    names = [each for each in folder.iterdir() if not each.name.startswith(".")]
    files = [each for each in names if each.suffix.lower() in suffixes and each.is_file()]
    # A report's charts lie beside the runs that it is about.
    if any(_is_chart(each) for each in files) and any(_is_run(each) for each in names):
        files = [each for each in files if not _is_chart(each)]
    return sorted(files, key=lambda each: _natural(each.name))


def _is_chart(path: Path) -> bool:
    return path.name.startswith("report-") and path.suffix == ".png"


def _is_run(folder: Path) -> bool:
    """Whether a folder holds a run of ours, finished or not: its annotated video is no source."""
    try:
        if any((folder / name).is_dir() for name in (".new", ".parts")):
            return True
        info = json.loads((folder / "run.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(info, dict) and "analyzer_version" in info


def _folders(root: Path) -> Iterator[Path]:
    """A folder and its subfolders, depth first, in natural order of their names.

    Neither hidden ones nor runs of ours. Links to folders are not followed: they may lead round in a circle,
    or out of the folder.
    """
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        yield folder
        try:
            with os.scandir(folder) as entries:
                below = [Path(entry.path) for entry in entries if _is_subfolder(entry)]
        except OSError:  # whoever lists it says so
            continue
        below.sort(key=lambda each: _natural(each.name), reverse=True)
        waiting += [each for each in below if not _is_run(each)]


def _is_subfolder(entry: os.DirEntry[str]) -> bool:
    try:
        return not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _first_below(path: Path) -> Path | None:
    """The first video or image in the subfolders of a folder; a video, if there is one."""
    picture = None
    for folder in itertools.islice(_folders(path), 1, _MOST_SEARCHED):
        with contextlib.suppress(OSError):
            for each in _media_files(folder):
                if not _is_picture(each):
                    return each
                picture = picture or each
    return picture


def _irregular(source: str) -> SourceError:
    return SourceError(f"{source} is not a regular file", kind=SourceErrorKind.UNSUPPORTED, source=source)


def _open_regular(path: Path) -> BinaryIO:
    """Open a file that cannot block: opening a FIFO would wait for a writer, /dev/zero never ends.

    Raises:
        SourceError: Not there, not readable, or not a regular file.
    """
    try:
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError as error:
        raise SourceError(
            f"There is no file {path}", kind=SourceErrorKind.NOT_FOUND, source=str(path)
        ) from error
    except OSError as error:
        raise SourceError(
            f"The file {path} cannot be read: {error.strerror}", kind=SourceErrorKind.OTHER, source=str(path)
        ) from error
    try:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise _irregular(str(path))
        return os.fdopen(number, "rb")
    except BaseException:
        os.close(number)
        raise


def _fingerprint(path: Path) -> tuple[str, int]:
    """sha256 of size, first and last MiB, and the size in bytes. Reads at most 2 MiB."""
    with _open_regular(path) as file:
        size = file.seek(0, os.SEEK_END)
        digest = hashlib.sha256(f"{size}:".encode())
        for start in (0, max(0, size - _FINGERPRINT_BYTES)):
            file.seek(start)
            digest.update(file.read(_FINGERPRINT_BYTES))
    return digest.hexdigest(), size


def _with_paths(item: Item, limit: int | None) -> Item:
    """An item that was made again from its path, with the files that it names; `limit` images at most."""
    mode = _file_mode(item.source) if not item.paths and item.entry is None and item.standalone else None
    if mode is None:
        return item
    for each in _local_items(Path(item.source), item.source, mode, images=True, limit=limit)[0]:
        if each.source == item.source and each.kind == item.kind:
            return each
    return item


def _local_identity(paths: Sequence[Path]) -> tuple[str, int]:
    """The `Video.video_id` of files, and their size in bytes.

    Raises:
        SourceError: A file is gone or cannot be read.
    """
    prints = [(path.name, *_fingerprint(path)) for path in paths]
    if len(prints) == 1:
        identity = prints[0][1]
    else:  # the names give the order of the pictures, so they count
        listing = "\n".join(f"{name}\0{size}\0{digest}" for name, digest, size in prints)
        identity = hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest()
    return _local_id(identity), sum(size for _, _, size in prints)


def _local_id(digest: str) -> str:
    """The `Video.video_id` of what has this hash. Digits alone, or with an e, would read as a number."""
    return f"file-{digest[:12]}"


def _local_video(item: Item) -> Video:
    video_id, size = _local_identity(item.paths)
    return Video(
        video_id=video_id,
        kind=item.kind,
        paths=item.paths,
        audio_path=None,
        source=shown_name(item.source),
        title=shown_name(item.title or item.paths[0].stem),
        url=None,
        channel=None,
        uploaded=None,
        uploaded_at=None,
        duration_s=None,
        fetched=False,
        details={"files": len(item.paths), "size_bytes": size},
    )


def _live_video(item: Item, stream: Stream, info: Info | None = None) -> Video:
    """What is followed live: each time is a video of its own."""
    address = shown_source(item.source)
    begun = datetime.datetime.now(datetime.UTC)
    digest = hashlib.sha256(address.encode("utf-8", "replace")).hexdigest()[:12]
    known = info or {}
    title = known.get("title") if not _is_generic(known.get("extractor_key")) else None
    # yt-dlp puts the date behind the title of what is live: the identity has it already.
    title = re.sub(r" \d{4}-\d\d-\d\d \d\d:\d\d$", "", str(title or "")) or shown_address(address)
    web = address.lower().startswith("http")
    return Video(
        video_id=f"live-{digest}-{begun:%Y%m%dT%H%M%SZ}",
        kind=MediaKind.LIVE,
        paths=(),
        audio_path=None,
        source=shown_name(address),
        title=shown_name(str(title)),
        url=shown_source(str(known.get("webpage_url") or address)) if web else None,
        channel=_channel(known),
        uploaded=None,
        uploaded_at=None,
        duration_s=None,
        fetched=False,
        details={"stream": str(stream.form), "extractor": str(known.get("extractor_key") or "")},
        stream=stream,
    )


# ------------------------------------------------------------------------------------------ addresses


def _check_address(source: str) -> None:
    """Refuse everything but web addresses before yt-dlp sees it: it would search, or read other schemes.

    Raises:
        SourceError: Not found or unsupported.
    """

    def refuse(message: str, kind: SourceErrorKind = SourceErrorKind.UNSUPPORTED) -> SourceError:
        return SourceError(message, kind=kind, source=source)

    if re.fullmatch(r"[0-9]{1,3}", source):
        raise refuse(f"A camera ({source} is the number of one) can be followed by analyze only")
    # Two characters at least: C:\talk.mp4 is a path.
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", source)
    if scheme is None:
        hint = "; a web address must begin with https://" if re.match(r"[\w-]+\.[\w.-]+/", source) else ""
        name = source if source.isprintable() else repr(source)
        raise refuse(f"There is no file or folder named {name!s}{hint}", SourceErrorKind.NOT_FOUND)
    name = scheme[1].lower()
    if name.startswith(("rtsp", "rtmp", "rtp", "udp", "srt")):
        can = "can be followed by analyze only" if name.startswith("rtsp") else "are not supported"
        raise refuse(f"Addresses of live sources ({name}://) {can}")
    if name not in ("http", "https"):
        raise refuse(f"Only files, folders and http or https addresses can be analysed, not {name}:")
    try:
        host = urlsplit(source).hostname
    except ValueError:
        host = None
    if re.match(r"https?://[^/?#@]*:(?!\d*(?:[/?#]|$)|[^/?#]*[@\]])", source, re.I):
        raise refuse(
            "This is not a complete web address: in a password, / ? # and @ are written %2F %3F %23 %40"
        )
    if not host or not source.isprintable():
        raise refuse("This is not a complete web address")


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


# -------------------------------------------------------------------------------------------- formats

# What yt-dlp downloads by itself; the other protocols need an ffmpeg executable or are not finite.
_PROTOCOLS = ("https", "http", "http_dash_segments", "m3u8_native", "m3u8")
_ENOUGH_AUDIO_KBPS = 64
# The faster to decode, the earlier; compared without regard to case.
_CODECS = ("avc|h264", "vp0?9", "hev|hvc|h265", "av0?1")


def choose_formats(
    formats: Sequence[Mapping[str, Any]], *, max_height: int, want_audio: bool, duration_s: float | None
) -> list[Mapping[str, Any]]:
    """The smallest formats that suffice: the picture's, and the sound's if that is a file of its own.

    The picture is the tallest of at most `max_height`, else the lowest above it, else (where the site
    tells no sizes) the best. Of the same height, the smallest download is taken: on the slow path from
    the site to here bytes cost more than decoding does. Only where that leaves a tie, which is common
    because many sites declare no sizes, the codec that is decoded fastest wins.

    Args:
        formats: yt-dlp's, the best last.
        max_height: In pixels; the shorter side counts, as with upright videos.
        want_audio: Whether sound is needed.
        duration_s: In seconds, to estimate sizes from bit rates.

    Returns:
        None, one or two formats; the picture's first.
    """
    usable = [each for each in formats if (each.get("protocol") or "https") in _PROTOCOLS]
    pictures = [each for each in usable if each.get("vcodec") != "none"]
    sounds = [each for each in usable if each.get("vcodec") == "none" and each.get("acodec") != "none"]

    def size(each: Mapping[str, Any]) -> float:
        known = each.get("filesize") or each.get("filesize_approx")
        return float(known or (each.get("tbr") or math.inf) * 125 * (duration_s or 60))

    def common(each: Mapping[str, Any]) -> tuple[float, ...]:
        """First of all: formats that are known to be bad come last, the original language first."""
        bad = each.get("__needs_testing") or (each.get("preference") or 0) < -1
        return (bool(bad), -(each.get("language_preference") or -1))

    def sound_rank(each: Mapping[str, Any]) -> tuple[float, ...]:
        rate = each.get("abr") or each.get("tbr") or _ENOUGH_AUDIO_KBPS
        worth = (0, size(each)) if rate >= _ENOUGH_AUDIO_KBPS else (1, -rate)
        return (*common(each), *worth, each.get("ext") != "m4a", _PROTOCOLS.index(_protocol(each)))

    sound = min(sounds, key=sound_rank, default=None) if want_audio else None

    def picture_rank(index: int) -> tuple[float, ...]:
        each = pictures[index]
        silent = each.get("acodec") == "none"
        side = min((each[key] for key in ("width", "height") if each.get(key)), default=None)
        fit = (2, -index) if side is None else (0, -side) if side <= max_height else (1, side)
        total = size(each) + (size(sound) if silent and sound is not None else 0)
        codec = each.get("vcodec") or ""
        return (
            *common(each),
            *fit,
            want_audio and silent and sound is None,
            total,
            silent is want_audio,
            each.get("fps") or 0,
            next((at for at, known in enumerate(_CODECS) if re.match(known, codec, re.I)), len(_CODECS)),
            _PROTOCOLS.index(_protocol(each)),
        )

    if not pictures:
        return []
    picture = pictures[min(range(len(pictures)), key=picture_rank)]
    if sound is not None and picture.get("acodec") == "none":
        return [picture, sound]
    return [picture]


def _protocol(each: Mapping[str, Any]) -> str:
    return str(each.get("protocol") or "https")


# ------------------------------------------------------------------------------------ watching a worker


class _Stopped(BaseException):
    """Ends a worker that was stopped. Not an Exception, so that no handler of yt-dlp's keeps it."""


class _Watch:
    """Whether enough arrives: the deadline of a worker, told by the worker, read by the caller.

    Used as a context around everything that waits for a server. Only the time spent in there is silence:
    what yt-dlp computes on a busy machine, or sleeps between two tries, is not the server's fault.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self.restart()

    def restart(self) -> None:
        """A new piece of work begins."""
        self._began = time.monotonic()
        self._entered: float | None = None
        self._silent_s = 0.0
        self._window = 0
        self._extracting = True

    def downloading(self) -> None:
        """From here on only bytes count, else a million tiny answers would keep a download alive."""
        self._silent_s = 0.0
        self._extracting = False

    def __enter__(self) -> None:
        self._entered = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._silent_s += time.monotonic() - (self._entered or 0)
        self._entered = None

    def answered(self) -> None:
        """A server sent the head of an answer."""
        if self._extracting:
            self._silent_s = 0.0

    def received(self, count: int) -> None:
        """`count` bytes arrived."""
        self._window += count
        if self._window >= _BLOCK_BYTES:
            self._window, self._silent_s = 0, 0.0

    def expired(self) -> bool:
        """Whether too little arrived for too long."""
        now, entered = time.monotonic(), self._entered
        too_long = self._extracting and now - self._began > _EXTRACTION_TIMEOUTS * self._timeout_s
        silent_s = self._silent_s + (now - entered if entered is not None else 0)
        return too_long or silent_s > self._timeout_s


class _Call:
    """What all sessions of one `Fetcher.fetch` or `Fetcher.resolve` share.

    Attributes:
        ended: `on_wait` has raised: whatever is caught on the way belongs to the caller.
        refusal: A server wants to be left alone: no further request is made.
    """

    def __init__(self, on_wait: Callable[[], None] | None = None) -> None:
        self._on_wait = on_wait
        self.ended = False
        self.refusal: SourceError | None = None

    def wait(self) -> None:
        """A turn of waiting, in the caller's thread."""
        if self._on_wait is None:
            return
        try:
            self._on_wait()
        except BaseException:
            self.ended = True
            raise


class _Job(Generic[T]):
    """One piece of work in a thread of its own that can be stopped from outside."""

    def __init__(self, work: Callable[[], T], cleanup: Callable[[], None]) -> None:
        self.done = threading.Event()
        self._work, self._cleanup = work, cleanup
        self._value: T | None = None
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        self._over = self._abandoned = False
        self._thread = threading.Thread(target=self._run, name="fetch", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            try:
                self._value = self._work()
            except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
                self._error = error
            with self._lock:  # after this no exception is sent any more
                self._over = True
            self.done.set()
        except _Stopped as error:  # it came after the work had ended
            self._error, self._over = error, True
            self.done.set()
        if self._abandoned:
            self._cleanup()

    def result(self) -> T:
        """What the work returned; raises what it raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]

    def stop(self, patience_s: float) -> bool:
        """Wait shortly for a worker that was told to end.

        Returns:
            Whether it has ended. If not, it cleans up when it does, which is forced after `patience_s`.
        """
        self._abandoned = True
        self._thread.join(_GRACE_S)
        if not self._thread.is_alive():
            return True
        reaper = threading.Timer(patience_s, self._force)
        reaper.daemon = True
        reaper.start()
        return False

    def _force(self) -> None:
        with self._lock:
            if not self._over:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(self._thread.ident or 0), ctypes.py_object(_Stopped)
                )


# --------------------------------------------------------------------------------------------- yt-dlp


class _Logger:
    """Takes yt-dlp's messages. Its errors are raised as well, so that here they are only of interest."""

    def debug(self, message: str) -> None:
        _log.debug("%s", message)

    def info(self, message: str) -> None:
        _log.debug("%s", message)

    def warning(self, message: str) -> None:
        _log.info("%s", _with_shown_addresses(message))

    def error(self, message: str) -> None:
        _log.info("%s", _with_shown_addresses(message))


def _cache_folder() -> str:
    """Where yt-dlp keeps what it learnt of a site's player between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return str(Path(base) / "audience-analyzer" / "yt-dlp")


def _options(settings: Settings, folder: Path | None, whole_playlist: bool) -> Info:
    """yt-dlp's options. All that matter are set: the library's defaults are not the program's."""

    def pause(n: int) -> float:
        # Short against the deadline, which goes on while yt-dlp sleeps.
        return float(min(0.25 * 2**n, settings.timeout_s / 8))

    return {
        "quiet": True,
        "noprogress": True,
        "progress_delta": 1.0,
        "logger": _Logger(),
        "color": "no_color",
        "ignoreerrors": False,
        "noplaylist": not whole_playlist,
        "extract_flat": "in_playlist",
        "lazy_playlist": True,
        # We choose from `formats` ourselves: this only keeps yt-dlp from complaining about its choice.
        "format": lambda context: context["formats"][-1:],
        "check_formats": False,
        "allow_unplayable_formats": False,
        "retries": _RETRIES,
        "fragment_retries": _RETRIES,
        "extractor_retries": _RETRIES,
        "file_access_retries": _RETRIES,
        "retry_sleep_functions": dict.fromkeys(("http", "fragment", "extractor", "file_access"), pause),
        # A missing fragment would otherwise be left out and the download called complete.
        "skip_unavailable_fragments": False,
        # One at a time: with more, yt-dlp starts threads that our deadline does not reach.
        "concurrent_fragment_downloads": 1,
        "hls_prefer_native": True,
        "external_downloader": None,
        # A folder without an ffmpeg executable: what needs one fails alike on every machine.
        "ffmpeg_location": str(folder) if folder is not None else None,
        "socket_timeout": settings.timeout_s,
        # Pieces of one size, so that a line that becomes slow is not mistaken for a silent one.
        "buffersize": _BLOCK_BYTES,
        "noresizebuffer": True,
        "continuedl": True,
        "overwrites": True,
        "updatetime": False,
        "outtmpl": {"default": str(folder / "video.%(ext)s") if folder is not None else "video.%(ext)s"},
        "restrictfilenames": True,
        "fixup": "never",
        "postprocessors": [],
        "cachedir": _cache_folder(),
        "cookiefile": None,
        "cookiesfrombrowser": None,
        "usenetrc": False,
        "nocheckcertificate": False,
        "enable_file_urls": False,
        # A made-up X-Forwarded-For header would get round a block by pretending.
        "geo_bypass": False,
        "wait_for_video": None,
        "warn_when_outdated": False,
    }


def _forbid_plugins() -> None:
    """Before yt-dlp is imported: plugins would be loaded from the whole of sys.path."""
    os.environ["YTDLP_NO_PLUGINS"] = "1"


@dataclass(frozen=True)
class _Plan:
    """A video that may be downloaded: what yt-dlp knows of it, and the formats, the picture's first."""

    info: Info
    formats: list[Mapping[str, Any]]


class _Session:
    """One use of yt-dlp: for one video, or for the entries of one playlist."""

    def __init__(
        self,
        settings: Settings,
        source: str,
        *,
        extractors: Iterable[type[InfoExtractor] | InfoExtractor],
        folder: Path | None = None,
        whole_playlist: bool = False,
        live: bool = False,
        call: _Call,
    ) -> None:
        _forbid_plugins()
        import yt_dlp

        self.call = call
        self._settings = settings
        self._source = source
        self._live = live
        self._folder = folder
        self._watch = _Watch(settings.timeout_s)
        self._ydl = yt_dlp.YoutubeDL(_options(settings, folder, whole_playlist), auto_init=False)
        for each in extractors:
            self._ydl.add_info_extractor(each() if isinstance(each, type) else each)
        self._ydl.add_default_info_extractors()
        # All requests of yt-dlp, in every phase, pass through this one method.
        self._urlopen = self._ydl.urlopen
        self._ydl.urlopen = self._open_watched
        self._responses: list[Any] = []
        self._whole: dict[str, _Whole] = {}
        self._files: dict[str, Info] = {}
        self._expected_bytes: list[int | None] = []
        self._progress: FetchProgress | None = None
        self._stopping = self._lost = False

    # -- threads

    def run(
        self,
        work: Callable[[], T],
        *,
        name: str | None = None,
        report: Callable[[_Session], None] | None = None,
    ) -> T:
        """Do `work` in a worker and wait for it, until the deadline.

        Args:
            work: Uses yt-dlp.
            name: What is fetched, for errors; by default the session's source.
            report: Called in this thread about 20 times a second.

        Raises:
            AnalyzerError: TIMEOUT, also if it came before. Or what `work` raises, explained. What `report`
                and the caller's `on_wait` raise comes as it is.
        """
        if self._stopping:  # a stopped worker may still use yt-dlp
            raise self._too_silent()
        self._watch.restart()
        job = _Job(work, self._close)
        try:
            while not job.done.wait(_POLL_S):
                self.call.wait()
                if report is not None:
                    report(self)
                if self._watch.expired():
                    raise self._too_silent()
        finally:
            if not job.done.is_set():
                self._stopping = True
                # Longer than a silent server can hold the worker.
                self._lost = not job.stop(1.5 * self._settings.timeout_s)
        try:
            value = job.result()
        except AnalyzerError:
            raise
        except Exception as error:
            raise _explained(error, name or self._source) from error
        # An extractor may have kept it to itself and made do without.
        if self.call.refusal is not None:
            raise self.call.refusal
        return value

    def _too_silent(self) -> SourceError:
        detail = f"for {self._settings.timeout_s:g} s"
        return _failure(SourceErrorKind.TIMEOUT, self._source, detail)

    def close(self) -> None:
        """Close all connections, unless a worker still uses them: then that does it."""
        if not self._lost:
            self._close()

    def _close(self) -> None:
        self._close_responses()
        self._ydl.close()

    def _close_responses(self) -> None:
        for response in self._responses:
            response.close()
        self._responses.clear()
        self._whole.clear()

    def take_progress(self) -> FetchProgress | None:
        """The newest progress; None if it has been taken already."""
        progress, self._progress = self._progress, None
        return progress

    # -- requests

    def _go_on(self) -> None:
        if self._stopping:
            raise _Stopped
        if self.call.refusal is not None:
            raise self.call.refusal

    def _open_watched(self, request: Any) -> Any:
        from yt_dlp.networking.exceptions import HTTPError

        self._go_on()
        asked = _asked_range(request)
        if asked is not None and (whole := self._whole.get(request.url)) is not None and whole.holds(*asked):
            return whole.part(*asked)
        try:
            with self._watch:
                response = self._urlopen(request)
        except HTTPError as error:
            self._keep(error.response)
            wait_s = _retry_after_s(error.response.headers.get("Retry-After"))
            if error.status == 429 or (error.status == 503 and wait_s is not None):
                # Trying again at once, as yt-dlp does, would make it worse.
                kind = SourceErrorKind.BOT_CHECK if error.status == 429 else SourceErrorKind.NETWORK
                self.call.refusal = _failure(kind, self._source, _plain(str(error)), retry_after_s=wait_s)
                raise self.call.refusal from error
            raise
        self._keep(response)
        return response if asked is None else self._asked_part(request.url, response, *asked)

    def _asked_part(self, url: str, response: Any, start: int, end: int | None) -> Any:
        """What was asked for of an answer: servers send the whole file, or another part, as if it were it.

        Args:
            url: Asked for.
            response: The answer.
            start: First byte asked for.
            end: Last byte asked for; None: to the end of the file.
        """
        from yt_dlp.utils import parse_http_range

        if response.status == 206:
            first, last, total = parse_http_range(response.headers.get("Content-Range"))
            length = response.headers.get("Content-Length")
            if first is None and end is not None and length == str(end - start + 1):
                first, last = start, end
            if first is None or first > start:
                message = "it does not send the part of the file that was asked for"
                raise _failure(SourceErrorKind.NETWORK, self._source, message)
            if first == start and (end is None or last is None or last <= end):
                return response
            return _Whole(response, first, total, self._check_size).part(start, end)
        if response.status != 200 or end is None:
            return response  # of a file that is sent whole yt-dlp begins anew
        length = response.headers.get("Content-Length")
        total = int(length) if length and length.isdecimal() else None
        # The parts that follow are cut from the same answer, not from one of their own each.
        whole = self._whole[url] = _Whole(response, 0, total, self._check_size)
        return whole.part(start, end)

    def _keep(self, response: Any) -> None:
        self._watch.answered()
        self._responses = [each for each in self._responses if not each.closed]
        self._responses.append(response)
        read = response.read

        def read_piece(size: int) -> bytes:
            with self._watch:
                piece: bytes = read(size)
            self._go_on()
            self._watch.received(len(piece))
            return piece

        def read_watched(amt: int | None = None) -> bytes:
            if amt is not None:
                return read_piece(amt)
            pieces: list[bytes] = []
            total = 0
            while piece := read_piece(_BLOCK_BYTES):
                pieces.append(piece)
                total += len(piece)
                if total > _MAX_PAGE_BYTES:
                    raise _failure(SourceErrorKind.TOO_LARGE, self._source, "an endless page")
            return b"".join(pieces)

        response.read = read_watched

    # -- extraction

    def extract(self, url: str, ie_key: str | None = None) -> Info:
        """What the extractors know of an address, redirections followed: a raw video or playlist."""
        return self.open({"_type": "url", "url": url, "ie_key": ie_key})

    def open(self, entry: Mapping[str, Any]) -> Info:
        """Follow a result of yt-dlp's until it is a raw video or playlist."""
        raw = dict(entry)
        outer: Info = {}
        for _ in range(_MAX_HOPS):
            kind = raw.get("_type", "video")
            if kind not in _URL_TYPES:
                return {**raw, **outer}
            if kind == "url_transparent":  # the embedding page knows better than the embedded player
                known = ("title", "channel", "uploader", "upload_date", "timestamp", "duration")
                outer = {**{key: raw[key] for key in known if raw.get(key) is not None}, **outer}
            found = self._ydl.extract_info(
                raw["url"], download=False, process=False, ie_key=raw.get("ie_key")
            )
            if found is None:
                raise _failure(SourceErrorKind.OTHER, self._source, "the site's extractor found nothing")
            raw = found
        raise _failure(SourceErrorKind.OTHER, self._source, "too many redirections")

    def names_playlist(self, entry: Info) -> bool:
        """Whether a playlist entry is known to be a playlist itself, such as a tab of a channel."""
        key = entry.get("ie_key")
        if not key:
            return False
        try:
            extractor = self._ydl.get_info_extractor(key)
        except (AttributeError, KeyError):
            return False
        # YouTube's tabs are "any" for yt-dlp because of addresses that do not occur as entries.
        return key == "YoutubeTab" or extractor.is_single_video(entry["url"]) is False

    def _single(self, raw: Info) -> Info:
        """The video of a page; a playlist of one is as good.

        Raises:
            SourceError: PLAYLIST or EMPTY.
        """
        for _ in range(_MAX_DEPTH):
            if raw.get("_type", "video") not in _LIST_TYPES:
                return raw
            entries = list(itertools.islice(iter(raw.get("entries") or ()), 2))
            if not entries:
                raise _failure(SourceErrorKind.EMPTY, self._source)
            if len(entries) > 1 or not entries[0]:
                raise _failure(SourceErrorKind.PLAYLIST, self._source)
            inherited = {key: raw.get(key) for key in ("extractor", "extractor_key", "webpage_url")}
            raw = self.open({**inherited, **entries[0]})
        raise _failure(SourceErrorKind.PLAYLIST, self._source)

    def probe(self) -> Stream | None:
        """The MJPEG stream at the session's address, if there is one."""
        with self._watch:
            return probe(self._source, self._settings.timeout_s)

    def _refuse_live(self, info: Info) -> None:
        status = info.get("live_status")
        if status == "is_upcoming":
            raise _failure(SourceErrorKind.LIVE, self._source, "it has not begun yet")
        if self._live and status != "post_live":
            return
        if info.get("is_live") or status in ("is_live", "post_live"):
            raise _failure(SourceErrorKind.LIVE, self._source)

    # -- download

    def prepare(self, item: Item, *, want_audio: bool) -> _Plan:
        """Find out about a video, check it against the settings, and choose its formats.

        Raises:
            SourceError: It is refused. Or whatever yt-dlp raises.
        """
        self._files.clear()
        raw = self.extract(item.source) if item.entry is None else self.open(item.entry)
        raw = self._single(raw)
        self._refuse_live(raw)
        info = self._ydl.process_ie_result(raw, download=False)
        self._refuse_live(info)
        formats = info.get("formats") or [info]
        chosen = choose_formats(
            formats,
            max_height=self._settings.max_height,
            want_audio=want_audio,
            duration_s=info.get("duration"),
        )
        if not chosen:
            detail = "only sound" if all(each.get("vcodec") == "none" for each in formats) else ""
            raise _failure(SourceErrorKind.NO_FORMAT, self._source, detail)
        if self._live and (info.get("is_live") or info.get("live_status") == "is_live"):
            if not _protocol(chosen[0]).startswith("m3u8"):
                raise _failure(SourceErrorKind.LIVE, self._source, "it does not come as HLS")
            raise _GoesOnError(info, chosen[0])
        self._expected_bytes = [each.get("filesize") for each in chosen]
        self._check_size(sum(size or 0 for size in self._expected_bytes))
        self._close_responses()  # what extraction left open
        return _Plan(info, chosen)

    def download(self, item: Item, plan: _Plan, *, want_audio: bool) -> tuple[Info, list[tuple[Path, Info]]]:
        """Download a video into the folder.

        Returns:
            What yt-dlp knows of the video, and the files with their formats, the picture's first.

        Raises:
            SourceError: It is refused. Or whatever yt-dlp raises.
        """
        try:
            return plan.info, self._download_files(plan)
        except Exception as error:
            # Addresses of media are signed and expire: asking the site again gives a fresh one. Once.
            if _http_status(error) != 403:
                raise
        self._close_responses()
        assert self._folder is not None
        for each in self._folder.iterdir():
            each.unlink()
        self._watch.restart()
        plan = self.prepare(item, want_audio=want_audio)
        return plan.info, self._download_files(plan)

    def _download_files(self, plan: _Plan) -> list[tuple[Path, Info]]:
        files = []
        assert self._folder is not None
        for number, each in enumerate(plan.formats):
            path = self._folder / str(number)
            self._download_file(path, {**plan.info, **self._finite(plan.info, each)})
            files.append((path, dict(each)))
        return files

    def _finite(self, info: Info, each: Mapping[str, Any]) -> Mapping[str, Any]:
        """Refuse an HLS stream that goes on; yt-dlp would take what is there now for the whole.

        Returns:
            The format, with the manifest that was read.
        """
        from yt_dlp.networking import Request

        if not _protocol(each).startswith("m3u8") or info.get("live_status") is not None:
            return each
        response = self._ydl.urlopen(Request(each["url"], headers=each.get("http_headers") or {}))
        manifest = response.read().decode("utf-8", "replace")
        if "#EXT-X-STREAM-INF" in manifest:
            return each
        if "#EXT-X-ENDLIST" not in manifest:
            if self._live:
                raise _GoesOnError(info, each)
            raise _failure(SourceErrorKind.LIVE, self._source)
        return {**each, "url": response.url, "hls_media_playlist_data": manifest}

    def _download_file(self, path: Path, info: Info) -> None:
        self._watch.downloading()
        if info.get("available_at"):  # some sites make clients wait; yt-dlp sleeps until then
            info["available_at"] = min(info["available_at"], time.time() + _MAX_WAIT_S)
        complete = self._run_downloader(path, info)
        # Success must be proven. yt-dlp compares the bytes with the declared length and tries again;
        # what is on the disk is compared with what it counted.
        status = self._files.get(str(path), {})
        size = path.stat().st_size if path.is_file() else 0
        whole = status.get("status") == "finished" and size == status.get("downloaded_bytes")
        fragments, last = status.get("fragment_count"), status.get("fragment_index")
        if not complete or not size or not whole or (fragments and (last or 0) < fragments):
            raise _failure(SourceErrorKind.NETWORK, self._source, "the transfer is incomplete")

    def _run_downloader(self, path: Path, info: Info) -> bool:
        """Let yt-dlp's downloader write a file; returns whether it thinks that it is complete.

        The downloader itself, not `YoutubeDL.process_info`: so the name is ours, nothing is merged or
        post-processed, and errors arrive with their cause.
        """
        from yt_dlp.downloader import get_suitable_downloader

        downloader = get_suitable_downloader(info, self._ydl.params)(self._ydl, self._ydl.params)
        downloader.add_progress_hook(self._on_progress)
        opened = []
        open_file = downloader.sanitize_open

        def open_noted(*args: Any) -> Any:
            stream, name = open_file(*args)
            opened.append(stream)
            return stream, name

        downloader.sanitize_open = open_noted
        try:
            return bool(downloader.download(str(path), info)[0])
        finally:
            for stream in opened:  # those that fragments go into are left open after an error
                stream.close()

    def _on_progress(self, status: Info) -> None:
        name = str(status.get("filename"))
        # The last report of a file in fragments does not repeat their number: keep what was known.
        known = self._files.setdefault(name, dict.fromkeys(_STATUS_KEYS))
        known.update({key: status[key] for key in _STATUS_KEYS if key in status})
        received = sum(each["downloaded_bytes"] or 0 for each in self._files.values())
        declared = sum(each["total_bytes"] or 0 for each in self._files.values())
        self._check_size(max(received, declared))
        totals = [each["total_bytes"] or each["total_bytes_estimate"] for each in self._files.values()]
        totals += self._expected_bytes[len(totals) :]
        total = None if any(each is None for each in totals) else round(sum(totals))
        self._progress = FetchProgress(shown_source(self._source), received, total, status.get("speed"))

    def _check_size(self, size: float) -> None:
        if size > self._settings.max_size_mb * 1e6:
            raise _failure(
                SourceErrorKind.TOO_LARGE, self._source, f"more than {self._settings.max_size_mb} MB"
            )


def _asked_range(request: Any) -> tuple[int, int | None] | None:
    """First and last byte that a request asks for; None if it asks for all."""
    asked = (getattr(request, "headers", None) or {}).get("Range")
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", asked or "")
    return None if found is None else (int(found[1]), int(found[2]) if found[2] else None)


class _Whole:
    """An answer that holds more of a file than was asked for, and is read but once.

    Args:
        response: The answer; `read` is watched.
        position: Which byte of the file comes next.
        total: Length of the file in bytes, if known.
        check: Told how many bytes were passed over; may raise.
    """

    def __init__(
        self, response: Any, position: int, total: int | None, check: Callable[[float], None]
    ) -> None:
        self._response, self._position, self._total, self._check = response, position, total, check
        self._passed = 0
        self._ended = False

    def holds(self, start: int, end: int | None) -> bool:
        """Whether a part is still to come."""
        usable = not (self._ended or self._response.closed)
        return usable and end is not None and start >= self._position

    def part(self, start: int, end: int | None) -> _Part:
        """A part of the file as an answer of its own; `end` is its last byte, None that of the file."""
        last = end if self._total is None else min(self._total - 1, self._total if end is None else end)
        headers = Message()
        if last is not None:
            headers["Content-Length"] = str(max(0, last + 1 - start))
            headers["Content-Range"] = f"bytes {start}-{last}/{self._total or '*'}"
        else:
            headers["Content-Range"] = f"bytes {start}-/{self._total or '*'}"
        return _Part(self, start, math.inf if last is None else last + 1, self._response.url, headers)

    def read(self, start: int, size: int) -> bytes:
        """Bytes from a place on that was not passed yet; none at the end of the answer."""
        while self._position < start:
            skipped = self._read(min(_BLOCK_BYTES, start - self._position))
            if not skipped:
                return b""
            self._passed += len(skipped)
            self._check(self._passed)
        return self._read(size)

    def _read(self, size: int) -> bytes:
        data = b""
        try:
            data = self._response.read(size)
        finally:
            self._ended = not data  # broken off or at its end: what is still wanted is asked for anew
        self._position += len(data)
        return data


class _Part:
    """A part of an answer, looking like an answer to yt-dlp."""

    status = 206

    def __init__(self, whole: _Whole, start: int, stop: float, url: str, headers: Message) -> None:
        self._whole, self._next, self._stop, self.url, self.headers = whole, start, stop, url, headers
        self.closed = False

    def read(self, amt: int | None = None) -> bytes:
        """At most so many bytes, or all that is left."""
        if amt is None:
            return b"".join(iter(lambda: self.read(_BLOCK_BYTES), b""))
        size = int(min(amt, self._stop - self._next))
        data = self._whole.read(self._next, size) if size > 0 else b""
        self._next += len(data)
        return data

    def close(self) -> None:
        """The answer itself stays open for the parts that follow."""
        self.closed = True


_STATUS_KEYS = (
    "status",
    "downloaded_bytes",
    "total_bytes",
    "total_bytes_estimate",
    "fragment_count",
    "fragment_index",
)


# ------------------------------------------------------------------------------------------- results


def _candidate(item: Item, plan: _Plan) -> Candidate:
    """What the site says of a video and what is about to be downloaded."""
    info = plan.info
    video_id, duration_s = _video_id(item, info), _seconds(info.get("duration"))
    sizes = [_size_bytes(each, duration_s) for each in plan.formats]
    return Candidate(
        video_id=video_id,
        title=_title(item, info, video_id),
        duration_s=duration_s,
        uploaded=_uploaded(info),
        channel=_channel(info),
        size_bytes=None if None in sizes else sum(size or 0 for size in sizes),
    )


def _size_bytes(each: Mapping[str, Any], duration_s: float | None) -> int | None:
    """Declared size of a format, else estimated from its bit rate; None where neither is known."""
    for key in ("filesize", "filesize_approx"):
        if size := _positive(each.get(key)):
            return round(size)
    rate_kbps = _positive(each.get("tbr"))
    return round(rate_kbps * 125 * duration_s) if rate_kbps and duration_s else None


def _positive(value: object) -> float | None:
    """A number of a stranger's above 0 and of a sensible size; None for what is none."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and 0 < value < 1e15 else None  # type: ignore[operator, arg-type]


def _seconds(value: object) -> float | None:
    """A duration of a stranger's, in seconds.

    >>> _seconds(12), _seconds(0), _seconds("12"), _seconds(True), _seconds(float("nan")), _seconds(10**400)
    (12.0, None, None, None, None, None)
    """
    return _positive(value)


def _uploaded(info: Mapping[str, Any]) -> str | None:
    """ISO date of what a site says about the day of an upload.

    >>> _uploaded({"upload_date": "20240229"}), _uploaded({"timestamp": 1_700_000_000})
    ('2024-02-29', '2023-11-14')
    >>> _uploaded({"upload_date": "20230229"}), _uploaded({"timestamp": [1]}), _uploaded({})
    (None, None, None)
    """
    date = re.fullmatch(r"([0-9]{4})([0-9]{2})([0-9]{2})", str(info.get("upload_date") or ""))
    if date:
        try:
            return datetime.date(*map(int, date.groups())).isoformat()
        except ValueError:
            pass
    moment = _utc(info.get("timestamp"))
    return moment and moment[:10]


def _title(item: Item, info: Mapping[str, Any], video_id: str) -> str:
    return shown_name(str(info.get("title") or item.title or video_id))


def _channel(info: Mapping[str, Any]) -> str | None:
    channel = info.get("channel") or info.get("uploader")
    return shown_name(str(channel)) if channel else None


def _publish(item: Item, info: Info, files: list[tuple[Path, Info]], folder: Path) -> Video:
    """Give the downloaded files their names, and describe them."""
    video_id = _video_id(item, info)
    paths = []
    for (path, each), part in zip(files, ("", ".audio"), strict=False):
        suffix = str(each.get("ext") or "")
        # The name is ours; an unknown suffix from a site could be anything, and is not needed to read it.
        suffix = suffix if re.fullmatch(r"[a-z0-9]{2,4}", suffix) and suffix in _SAFE_SUFFIXES else "video"
        paths.append((path, folder / f"{video_id}{part}.{suffix}"))
    try:
        size = sum(path.stat().st_size for path, _ in paths)
        for path, target in paths:
            path.replace(target)
        fingerprint = _fingerprint(paths[0][1])[0][:12]
    except OSError as error:
        for _, target in paths:
            target.unlink(missing_ok=True)
        message = f"Cannot write to {folder}: {error.strerror}"
        raise OutputError(message, no_space=is_full(error)) from error
    picture = files[0][1]
    page = str(info.get("webpage_url") or item.source)
    return Video(
        video_id=video_id,
        kind=MediaKind.VIDEO,
        paths=(paths[0][1],),
        audio_path=paths[1][1] if len(paths) > 1 else None,
        source=without_login(item.source),
        title=_title(item, info, video_id),
        url=without_login(page),
        channel=_channel(info),
        uploaded=_uploaded(info),
        uploaded_at=_utc(info.get("timestamp")),
        duration_s=_seconds(info.get("duration")),
        fetched=True,
        details={
            "extractor": str(info.get("extractor_key") or ""),
            "id": str(info.get("id") or ""),
            "formats": [str(each.get("format_id") or "") for _, each in files],
            "width": picture.get("width"),
            "height": picture.get("height"),
            "fps": picture.get("fps"),
            "size_bytes": size,
            "fingerprint": fingerprint,
            "yt_dlp": _yt_dlp_version(),
        },
    )


def _utc(timestamp: object) -> str | None:
    """ISO time of a Unix time in seconds; None for what is none.

    >>> _utc(1_700_000_000), _utc("soon"), _utc(1e30)
    ('2023-11-14T22:13:20+00:00', None, None)
    """
    if not isinstance(timestamp, int | float) or isinstance(timestamp, bool):
        return None
    try:
        moment = datetime.datetime.fromtimestamp(timestamp, datetime.UTC)
    except (OverflowError, ValueError, OSError):
        return None
    return moment.isoformat(timespec="seconds")


_SAFE_SUFFIXES = frozenset(
    {"3gp", "aac", "avi", "flv", "m4a", "m4v", "mka", "mkv", "mov", "mp3", "mp4", "mpg", "ogg", "ogv"}
    | {"opus", "ts", "wav", "weba", "webm"}
)


def _video_id(item: Item, info: Info) -> str:
    key, name = str(info.get("extractor_key") or "Generic").lower(), str(info.get("id") or "")
    if _is_generic(key):
        address = urldefrag(item.source).url
        if item.entry is not None and item.entry.get("_type", "video") == "video":
            address += f"#{name}"  # several videos of one page share its address
        elif item.entry is not None and _own_address(item.entry) is None:
            address += f"#{item.entry.get('url')}"  # and so do its links without addresses of their own
        return _web_id(address)
    full = f"{key}-{name}"
    safe = re.sub(r"[^A-Za-z0-9_-]+", "-", full)
    if safe == full and len(full) <= 64:
        return full
    return f"{safe[:48]}-{hashlib.sha256(full.encode('utf-8', 'replace')).hexdigest()[:8]}"


def _is_generic(key: str | None) -> bool:
    """Whether the ids of this extractor are the last parts of addresses: not unique."""
    return str(key or "Generic").lower() in ("generic", "html5mediaembed")


def _web_id(address: str) -> str:
    return "web-" + hashlib.sha256(address.encode("utf-8", "replace")).hexdigest()[:12]


# ------------------------------------------------------------------------------------------- errors

_LATER = "trying again later may help"
_NEVER = "trying again will not help"
_MEANINGS: dict[SourceErrorKind, tuple[str, str]] = {
    SourceErrorKind.NOT_FOUND: ("There is nothing at this address", _NEVER),
    SourceErrorKind.UNSUPPORTED: ("No video was found at this address", _NEVER),
    SourceErrorKind.PRIVATE_OR_REMOVED: ("The video is private or has been removed", _NEVER),
    SourceErrorKind.LOGIN_OR_AGE: ("The site shows this video only after signing in", _NEVER),
    SourceErrorKind.GEO_BLOCKED: ("The site does not show this video in this country", _NEVER),
    SourceErrorKind.BOT_CHECK: (
        "The site takes this computer for a bot or limits its requests",
        "trying again after an hour or more may help",
    ),
    SourceErrorKind.NETWORK: ("The server could not be reached or broke off the transfer", _LATER),
    SourceErrorKind.TIMEOUT: ("The server sent too little or nothing", _LATER),
    SourceErrorKind.EXPIRED_OR_FORBIDDEN: (
        "The server forbids access or the address has expired",
        "a fresh address did not help, another day may",
    ),
    SourceErrorKind.TOO_LARGE: (
        "The download is larger than allowed",
        "trying again will not help without a higher --max-size-mb",
    ),
    SourceErrorKind.NO_FORMAT: (
        "The page offers no format that can be downloaded",
        "trying again will not help but a newer yt-dlp may",
    ),
    SourceErrorKind.DRM: ("The video is protected against copying (DRM)", _NEVER),
    SourceErrorKind.LIVE: (
        "This is live, which only analyze can follow",
        "trying again may help once the recording is online",
    ),
    SourceErrorKind.NESTED: (
        "Only the subfolders of this folder hold something to analyse",
        "add --recursive",
    ),
    SourceErrorKind.PLAYLIST: (
        "This is a playlist or channel",
        "add --playlist, and --limit N for its first N videos only, to analyse them",
    ),
    SourceErrorKind.EMPTY: ("There is no video in this playlist", _NEVER),
    SourceErrorKind.REJECTED: (
        "The video is left out by a filter",
        "trying again will not help without another filter",
    ),
    SourceErrorKind.OTHER: ("The video could not be fetched", _NEVER),
}
_RETRY = frozenset(
    {
        SourceErrorKind.BOT_CHECK,
        SourceErrorKind.NETWORK,
        SourceErrorKind.TIMEOUT,
        SourceErrorKind.LIVE,
    }
)

# Most refusals of sites have no class of their own in yt-dlp, only words. The order matters: "Private
# video. Sign in ..." is private, "Sign in to confirm you're not a bot" is a bot check.
_WORDS: tuple[tuple[SourceErrorKind, str], ...] = (
    (
        SourceErrorKind.BOT_CHECK,
        r"not a bot|captcha|rate.?limit|too many requests|unusual traffic|anti-bot|try again later",
    ),
    (SourceErrorKind.DRM, r"\bDRM\b"),
    (SourceErrorKind.PRIVATE_OR_REMOVED, r"\bprivate (?:video|account)|\bis private\b"),
    (
        SourceErrorKind.GEO_BLOCKED,
        r"\b(?:in|from) your (?:country|region|location)|\bgeo.?(?:restrict|block)",
    ),
    (
        SourceErrorKind.LIVE,
        r"\bwill begin\b|\bpremieres? (?:in|will)\b|not currently live|is (?:currently )?offline"
        r"|has(?: not|n.t) (?:yet )?(?:started|begun)",
    ),
    (
        SourceErrorKind.LOGIN_OR_AGE,
        r"\bage.?(?:restrict|verif|gate)|confirm your age|inappropriate for some|members?[ -]only"
        r"|available to .*members|registered users|\blog(?:ged)? ?in\b|\bsign(?:ed)? in\b|\bsubscri(?:b|pt)"
        r"|\bpremium\b|\bpayment\b|\bpurchase",
    ),
    (
        SourceErrorKind.PRIVATE_OR_REMOVED,
        r"been (?:removed|deleted|terminated|taken down)|removed by|no longer (?:available|exist)"
        r"|\b(?:video|content|recording) (?:is |has become )?(?:unavailable|(?:not|isn.t) available)"
        r"|\bisn.t available|does not exist|was deleted",
    ),
    (
        SourceErrorKind.NO_FORMAT,
        r"requested format is not available|no (?:video|usable|playable|suitable) formats"
        r"|only images are available|ffmpeg could not be found",
    ),
    (SourceErrorKind.EXPIRED_OR_FORBIDDEN, r"\b(?:has|link|url|token) expired\b"),
    (SourceErrorKind.UNSUPPORTED, r"unsupported url|no suitable extractor|not a valid url"),
)
_STATUS: dict[int, SourceErrorKind] = {
    401: SourceErrorKind.EXPIRED_OR_FORBIDDEN,
    403: SourceErrorKind.EXPIRED_OR_FORBIDDEN,
    404: SourceErrorKind.NOT_FOUND,
    408: SourceErrorKind.TIMEOUT,
    410: SourceErrorKind.NOT_FOUND,
    429: SourceErrorKind.BOT_CHECK,
    451: SourceErrorKind.GEO_BLOCKED,
}
_NETWORK_WORDS = (
    r"connect|resolv|getaddrinfo|name or service|unreachable|bytes read|expected \d+ bytes"
    r"|data blocks|file is empty|\bssl\b|certificate|fragment \d+ not found|network"
)
_DISK_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG})


def _yt_dlp_version() -> str:
    from yt_dlp.version import __version__

    return str(__version__)


def _failure(
    kind: SourceErrorKind, source: str, detail: str = "", *, retry_after_s: float | None = None
) -> SourceError:
    what, advice = _MEANINGS[kind]
    quoted = f" ({detail})" if detail else ""
    message = f"{what}{quoted}; {advice} (yt-dlp {_yt_dlp_version()})"
    return SourceError(message, kind=kind, source=source, retry=kind in _RETRY, retry_after_s=retry_after_s)


def _retry_after_s(header: str | None) -> float | None:
    """The seconds that a server asks for, between 0 and a week; None for what cannot be understood.

    >>> _retry_after_s("120"), _retry_after_s("-5"), _retry_after_s("9" * 5000), _retry_after_s("soon")
    (120.0, 0.0, 604800.0, None)
    >>> _retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT"), _retry_after_s(None)
    (0.0, None)
    """
    text = (header or "").strip()
    if re.fullmatch(r"-?[0-9]+(?:\.[0-9]*)?", text):
        seconds = float(text)
    else:
        try:
            moment = email.utils.parsedate_to_datetime(text)
            # A date of unknown zone is one of Greenwich.
            moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=datetime.UTC)
            seconds = moment.timestamp() - time.time()
        except (ValueError, OverflowError, TypeError):
            return None
    return min(max(seconds, 0.0), _MAX_RETRY_AFTER_S)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what yt-dlp says caused it, the outermost first."""
    seen: list[BaseException | None] = [None]
    current: BaseException | None = error
    while current not in seen and current is not None:
        seen.append(current)
        yield current
        wrapped = getattr(current, "exc_info", None)
        cause = getattr(current, "cause", None)
        candidates = (wrapped[1] if wrapped else None, cause, current.__cause__)
        current = next(
            (each for each in candidates if isinstance(each, BaseException) and each not in seen), None
        )


def _http_status(error: BaseException) -> int | None:
    for each in _causes(error):
        status = getattr(each, "status", None)
        if isinstance(status, int):
            return status
    # After the last retry yt-dlp raises the text only.
    found = re.search(r"HTTP Error ([0-9]{3})\b", str(error))
    return int(found[1]) if found else None


def _explained(error: Exception, source: str) -> AnalyzerError:
    """Whatever yt-dlp or an extractor raised, as an error of ours."""
    causes = list(_causes(error))
    for each in causes:
        if isinstance(each, AnalyzerError):
            return each
        if isinstance(each, OSError) and each.errno in _DISK_ERRNOS and not _is_network(each):
            return OutputError(f"The download cannot be written: {each.strerror}", no_space=is_full(each))
    text = "\n".join(str(each) for each in causes)
    if re.search(r"unable to (?:write data|open for writing)", text):
        return OutputError(f"The download cannot be written ({_plain(str(error))})")
    kind = _classify(error, causes, text)
    _log.debug("Fetching %s failed", shown_source(source), exc_info=error)
    inner = next((each.orig_msg for each in causes if hasattr(each, "orig_msg")), str(error))
    return _failure(kind, source, _plain(str(inner)) or type(error).__name__)


def _is_network(error: OSError) -> bool:
    return isinstance(error, ConnectionError | TimeoutError) or type(error).__module__.startswith("requests")


def _classify(error: Exception, causes: Sequence[BaseException], text: str) -> SourceErrorKind:
    from yt_dlp.networking.exceptions import TransportError
    from yt_dlp.utils import ContentTooShortError, GeoRestrictedError, UnsupportedError, UserNotLive

    classes: tuple[tuple[type[BaseException], SourceErrorKind], ...] = (
        (GeoRestrictedError, SourceErrorKind.GEO_BLOCKED),
        (UnsupportedError, SourceErrorKind.UNSUPPORTED),
        (UserNotLive, SourceErrorKind.LIVE),
    )
    for cls, kind in classes:
        if any(isinstance(each, cls) for each in causes):
            return kind
    for kind, words in _WORDS:
        if re.search(words, text, re.I):
            return kind
    status = _http_status(error)
    if status is not None:
        unknown = SourceErrorKind.NETWORK if status >= 500 else SourceErrorKind.OTHER
        return _STATUS.get(status, unknown)
    if re.search(r"timed? ?out", text, re.I):
        return SourceErrorKind.TIMEOUT
    network = (TransportError, ContentTooShortError, ConnectionError)
    if any(isinstance(each, network) for each in causes) or re.search(_NETWORK_WORDS, text, re.I):
        return SourceErrorKind.NETWORK
    return SourceErrorKind.OTHER


def shown_name(name: str) -> str:
    """A name or title as text that can be written: what is no UTF-8 becomes replacement characters.

    >>> shown_name("half of an emoji: " + chr(0xD83D)).isprintable()
    True
    """
    try:
        return os.fsencode(name).decode("utf-8", "replace")
    except UnicodeEncodeError:  # a lone surrogate that stands for no byte of a file name
        return name.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def run_name(title: str, video_id: str) -> str:
    """Name of a run's folder: a readable slug of the title, then the video's id.

    >>> run_name("Café: «Two» / people?", "youtube-abc")
    'cafe-two-people-youtube-abc'
    """
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    slug = "-".join(re.findall(r"[a-z0-9]+", plain))[:60].strip("-")
    return f"{slug}-{video_id}" if slug else video_id


def run_folder(out: Path, title: str, video_id: str) -> Path:
    """The folder of a video's run: the one that is there, whatever the title was then, or the one to be."""
    folder = out / run_name(title, video_id)
    if folder.exists():
        return folder
    # A video that was renamed is the same video: a second run beside the first would count its people twice.
    others = sorted(each for each in out.glob(f"*-{video_id}") if _holds(each, video_id))
    return others[0] if others else folder


def _holds(folder: Path, video_id: str) -> bool:
    """Whether a folder holds the run of a video, or parts of one and nothing else."""
    try:
        info = json.loads((folder / "run.json").read_text("utf-8"))
    except FileNotFoundError:
        return (folder / ".parts").is_dir()
    except (OSError, ValueError):
        return False
    return isinstance(info, dict) and info.get("video_id") == video_id


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


def _with_shown_addresses(text: str) -> str:
    """A message without logins. yt-dlp also names the end of an address alone."""
    text = re.sub(r"(?:https?|rtsps?)://\S+", lambda found: shown_source(found[0]), text, flags=re.I)
    return _LOGIN_FIELD.sub(r"\1***", text)


def _plain(text: str) -> str:
    """The first sentence of a message of yt-dlp's, for people: one short line without addresses.

    >>> _plain("ERROR: [youtube] abc: Private video. Sign in if you've been granted access")
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
    text = _with_shown_addresses(text)
    # Addresses of media are signed, some hold passwords: the host is enough.
    text = re.sub(r"https?://(?:[^/\s@]*@)?([^/\s\"'<>]+)\S*", r"\1", text)
    text = re.split(r"(?<=[.!?])\s|\. Giving up", " ".join(text.split()), maxsplit=1)[0].rstrip(".")
    return text if len(text) <= 160 else text[:159] + "…"
