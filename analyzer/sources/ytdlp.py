"""Videos of web sites: the only module that runs yt-dlp."""

from __future__ import annotations

import datetime
import functools
import hashlib
import itertools
import logging
import math
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, urldefrag, urlencode, urlsplit

from analyzer.errors import AnalyzerError, OutputError, SourceError, SourceErrorKind, is_full
from analyzer.settings import Settings
from analyzer.sources.failures import (
    explained,
    first_sentence,
    http_status,
    retry_after_s,
    source_failure,
    yt_dlp_version,
)
from analyzer.sources.formats import choose_formats, protocol_of
from analyzer.sources.local import BLOCK_BYTES, fingerprint_of
from analyzer.sources.streams import Stream, probe
from analyzer.sources.types import Candidate, FetchProgress, Info, Item, MediaKind, Video
from analyzer.sources.watchdog import POLL_S, Call, Stopped, Watchdog, WatchedJob
from analyzer.util.text import well_formed
from analyzer.util.urls import redacted, redacted_text, web_address, without_login

if TYPE_CHECKING:
    from yt_dlp.extractor.common import InfoExtractor

__all__ = [
    "LIST_TYPES",
    "MAX_DEPTH",
    "URL_TYPES",
    "LiveStreamError",
    "Sites",
    "YtDlpSession",
    "candidate_of",
    "channel_name",
    "check_address",
    "identity_of_link",
    "is_generic",
    "is_link",
    "link_of",
    "linked_item",
    "own_address",
    "positive_number",
    "publish_download",
    "stands_alone",
    "upload_date",
    "url_entry",
    "video_id_of",
    "web_id",
]

T = TypeVar("T")

_log = logging.getLogger(__name__)

_MAX_PAGE_BYTES = 64 * 1024 * 1024
"""Size limit of a page or manifest, which is held in memory."""

_RETRIES = 3

_MAX_HOPS = 10

MAX_DEPTH = 4

_MAX_WAIT_S = 60.0

LIST_TYPES = ("playlist", "multi_video")

URL_TYPES = ("url", "url_transparent")

_SMUGGLED = "#__youtubedl_smuggle"
"""In an address, yt-dlp's extractors pass data to each other after this."""


class LiveStreamError(AnalyzerError):
    """The site's stream is live, which is not an error where live sources are accepted."""

    def __init__(self, info: Info, form: Mapping[str, Any]) -> None:
        super().__init__("this is live")
        self.info = info
        self.format = form


def url_entry(url: str) -> Info:
    return {"_type": "url", "url": url}


def own_address(entry: Mapping[str, Any]) -> str | None:
    """Return the address of a playlist entry, without the data that yt-dlp's extractors append to it."""
    url = str(entry.get("url") or "")
    if not url.startswith(("http://", "https://")):
        return None
    return url.partition(_SMUGGLED)[0] if _SMUGGLED in url else url


_OF_PAGE = ("title", "channel", "uploader", "upload_date", "timestamp", "duration")
"""What an embedding page says about a video that takes precedence over the embedded player."""

_MOST_AHEAD = 2000
"""Entries of a playlist that are taken at a time."""


_PLAIN_LINK = {"_type", "url", "ie_key", "id"}
"""The keys of `link_of` for all links but transparent ones."""


def link_of(entry: Mapping[str, Any]) -> Info:
    """Return what is needed of a playlist's link to a video to open it, and to identify the video.

    The rest, such as the addresses of thumbnails, would take most of the memory of a long list.
    """
    kind = entry["_type"]
    link = {"_type": kind, "url": entry.get("url"), "ie_key": entry.get("ie_key"), "id": entry.get("id")}
    if kind != "url":
        link |= {key: entry[key] for key in _OF_PAGE if entry.get(key) is not None}
    return link


def is_link(item: Item) -> bool:
    """Return whether an item is a playlist's link to a video, and `linked_item` can make it again."""
    entry = item.entry
    if entry is None or item.error is not None or not item.standalone:
        return False
    return entry.get("_type") == "url" and entry["url"] == item.source and entry.keys() == _PLAIN_LINK


def linked_item(url: str, key: str | None, title: str | None) -> Item:
    """Make the item of a link again, without what only its playlist says.

    Args:
        url: The video's address.
        key: `ie_key` of the link.
        title: What the playlist calls the video.
    """
    return Item(url, MediaKind.VIDEO, title=title, entry=link_of({"_type": "url", "url": url, "ie_key": key}))


def stands_alone(entry: Mapping[str, Any]) -> bool:
    """Return whether a playlist entry can be fetched by its address alone."""
    return own_address(entry) is not None and _SMUGGLED not in str(entry.get("url"))


@functools.cache
def _enabled_extractors() -> dict[str, Any]:
    """Return yt-dlp's own extractors by their keys, in the order in which they are asked."""
    _forbid_plugins()
    from yt_dlp.extractor import gen_extractor_classes

    return {each.ie_key(): each for each in gen_extractor_classes() if each._ENABLED}


class Sites:
    """Finds the extractor of an address without a session and without requests."""

    def __init__(self, extractors: Iterable[type[InfoExtractor] | InfoExtractor]) -> None:
        own = {each.ie_key(): each for each in extractors}
        self._ies: dict[str, Any] = own | _enabled_extractors()
        self._tests: dict[str, Callable[[str], object]] = {}

    def find(self, url: str, key: str | None = None) -> tuple[str | None, str | None]:
        """Return the key of the extractor of an address, and the id that it reads from the address.

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
        """Return whether yt-dlp recognizes an address as a playlist."""
        return self._is_list(self.find(url)[0])

    def _is_list(self, key: str | None) -> bool:
        return key == "YoutubeTab" or (key in self._ies and self._ies[key]._RETURN_TYPE == "playlist")


def _url_test(extractor: Any) -> Callable[[str], object]:
    """Return `extractor.suitable`, or its regular expression where that is all it uses, which is faster."""
    methods = (extractor.suitable, extractor._match_valid_url)
    inherited = ("InfoExtractor.", "LazyLoadExtractor.")
    pattern = extractor._VALID_URL
    if isinstance(pattern, str) and all(each.__qualname__.startswith(inherited) for each in methods):
        return re.compile(pattern).match
    return extractor.suitable


def _without_list(url: str) -> str | None:
    """Strip the playlist from the address of a video of a playlist; None if it has none."""
    parts = urlsplit(url)
    query = parse_qsl(parts.query, keep_blank_values=True)
    kept = [(key, value) for key, value in query if key != "list"]
    return None if len(kept) == len(query) else parts._replace(query=urlencode(kept)).geturl()


def check_address(source: str) -> None:
    """Refuse everything but web addresses before yt-dlp sees it, which would search or open other schemes.

    Raises:
        SourceError: Not found or unsupported.
    """

    def refuse(message: str, kind: SourceErrorKind = SourceErrorKind.UNSUPPORTED) -> SourceError:
        return SourceError(message, kind=kind, source=source)

    if re.fullmatch(r"[0-9]{1,3}", source):
        raise refuse(f"only analyze reads cameras ({source} is the number of one)")
    # Two characters at least: C:\talk.mp4 is a path.
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", source)
    if scheme is None:
        hint = "; a URL must begin with https://" if re.match(r"[\w-]+\.[\w.-]+/", source) else ""
        name = source if source.isprintable() else repr(source)
        raise refuse(f"there is no file or folder named {name!s}{hint}", SourceErrorKind.NOT_FOUND)
    name = scheme[1].lower()
    if name.startswith(("rtsp", "rtmp", "rtp", "udp", "srt")):
        if name.startswith("rtsp"):
            raise refuse(f"only analyze reads live sources ({name}://)")
        raise refuse(
            f"live sources of this kind ({name}://) are not supported: use an rtsp:// or http:// URL"
        )
    if name not in ("http", "https"):
        raise refuse(f"a URL must begin with http:// or https://, not {name}:")
    if re.match(r"https?://[^/?#@]*:(?!\d*(?:[/?#]|$)|[^/?#]*[@\]])", source, re.I):
        raise refuse("this is not a complete URL: write / ? # and @ in a password as %2F %3F %23 %40")
    if web_address(source) is None:
        raise refuse("this is not a complete URL")


class _Logger:
    """Logs yt-dlp's messages; its errors are also raised."""

    def debug(self, message: str) -> None:
        _log.debug("%s", message)

    def info(self, message: str) -> None:
        _log.debug("%s", message)

    def warning(self, message: str) -> None:
        _log.info("%s", redacted_text(message))

    def error(self, message: str) -> None:
        _log.info("%s", redacted_text(message))


def _cache_folder() -> str:
    """Return the folder in which yt-dlp caches data on the players of sites."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return str(Path(base) / "audience-analyzer" / "yt-dlp")


def _options(settings: Settings, folder: Path | None, whole_playlist: bool, proxy: str | None) -> Info:
    """Return yt-dlp's options, all that matter: the library's defaults differ from the program's."""

    def pause(n: int) -> float:
        # Short compared with the deadline, which continues while yt-dlp sleeps.
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
        # Formats are chosen by `choose_formats`: this only prevents an error about yt-dlp's own choice.
        "format": lambda context: context["formats"][-1:],
        "check_formats": False,
        "allow_unplayable_formats": False,
        "retries": _RETRIES,
        "fragment_retries": _RETRIES,
        "extractor_retries": _RETRIES,
        "file_access_retries": _RETRIES,
        "retry_sleep_functions": dict.fromkeys(("http", "fragment", "extractor", "file_access"), pause),
        # Otherwise a missing fragment would be skipped and the download reported as complete.
        "skip_unavailable_fragments": False,
        # One at a time: with more, yt-dlp starts threads that the deadline does not reach.
        "concurrent_fragment_downloads": 1,
        "hls_prefer_native": True,
        "external_downloader": None,
        # A folder without an ffmpeg executable, so that formats that need one fail on every machine.
        "ffmpeg_location": str(folder) if folder is not None else os.devnull,
        "socket_timeout": settings.timeout_s,
        "proxy": proxy,
        # Blocks of one size, so that a line that becomes slow is not mistaken for a silent one.
        "buffersize": BLOCK_BYTES,
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
        # A forged X-Forwarded-For header would circumvent a block.
        "geo_bypass": False,
        "wait_for_video": None,
        "warn_when_outdated": False,
    }


def _forbid_browser() -> None:
    """Disable PhantomJS, which some extractors start where it is installed: it would not use the proxy."""
    from yt_dlp.extractor import openload

    openload.check_executable = lambda *_args: False


def _forbid_plugins() -> None:
    """Disable plugins before yt-dlp is imported: they would be loaded from all of sys.path."""
    os.environ["YTDLP_NO_PLUGINS"] = "1"


@dataclass(frozen=True)
class _Plan:
    """A video to download: yt-dlp's data on it, and the chosen formats, video first."""

    info: Info
    formats: list[Mapping[str, Any]]


class YtDlpSession:
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
        proxy: str | None = None,
        call: Call,
    ) -> None:
        _forbid_plugins()
        import yt_dlp

        self.call = call
        self._settings = settings
        self._source = source
        self._live = live
        self._proxy = proxy
        if proxy is not None:
            _forbid_browser()
        self._folder = folder
        self._watch = Watchdog(settings.timeout_s)
        self._ydl = yt_dlp.YoutubeDL(_options(settings, folder, whole_playlist, proxy), auto_init=False)
        for each in extractors:
            self._ydl.add_info_extractor(each() if isinstance(each, type) else each)
        # As `add_default_info_extractors`, whose time grows with the square of their number.
        self._ydl._ies.update(_enabled_extractors())
        # All requests of yt-dlp, in every phase, pass through this one method.
        self._urlopen = self._ydl.urlopen
        self._ydl.urlopen = self._open_watched
        self._responses: list[Any] = []
        self._whole: dict[str, _Whole] = {}
        self._files: dict[str, Info] = {}
        self._expected_bytes: list[int | None] = []
        self._progress: FetchProgress | None = None
        self._stopping = self._lost = False
        self._requests = 0
        self._may_list: dict[str, Any] = {}
        """Of each key: the extractor if some of its addresses are playlists, else None."""

    # -- threads

    def run(
        self,
        work: Callable[[], T],
        *,
        name: Callable[[], str] | None = None,
        report: Callable[[YtDlpSession], None] | None = None,
    ) -> T:
        """Run `work` in a worker and wait for it, until the deadline.

        Args:
            work: Uses yt-dlp.
            name: Names what was fetched when an error came; by default the session's source.
            report: Called in this thread about 20 times a second.

        Raises:
            AnalyzerError: TIMEOUT, also if it came before. Or what `work` raises, explained. What `report`
                and the caller's `on_wait` raise comes as it is.
        """
        if self._stopping:  # a stopped worker may still use yt-dlp
            raise self._too_silent()
        self._watch.restart()
        job = WatchedJob(work, self._close)
        try:
            while not job.done.wait(POLL_S):
                self.call.wait()
                if report is not None:
                    report(self)
                if self._watch.expired():
                    raise self._too_silent()
        finally:
            if not job.done.is_set():
                self._stopping = True
                # Longer than a silent server can block the worker.
                self._lost = not job.stop(1.5 * self._settings.timeout_s)
        try:
            value = job.result()
        except AnalyzerError:
            raise
        except Exception as error:
            raise explained(error, self._source if name is None else name()) from error
        # An extractor may have ignored it and continued without the response.
        if self.call.refusal is not None:
            raise self.call.refusal
        return value

    def entries(self, listed: Iterable[Any], page: str, shorten: Callable[[Any], T]) -> Iterator[list[T]]:
        """Yield the entries of a playlist, some at a time.

        A thread for each entry would cost far more than the entry. So a worker takes several: up to the next
        request, no more than `Call.left`, and not many more than were wanted so far, so that at most one page
        is requested in vain.

        Args:
            listed: The entries; to take one may need a request.
            page: The playlist's address, for errors.
            shorten: Called in the worker, with each entry; what it returns is yielded. To hand all of an
                entry's data to a thread on another core takes about as long as to make them.

        Raises:
            AnalyzerError: As from `run`, after the entries before it.
        """
        source, taken, more = iter(listed), 0, True
        while more:
            some: list[T] = []
            most = min(3 * taken + 1, _MOST_AHEAD, self.call.left)
            error = None
            try:
                more = self.run(
                    lambda: self._take(map(shorten, source), most, some),  # noqa: B023 - done before the next turn
                    name=lambda: f"{page}#{taken + len(some) + 1}",  # noqa: B023
                )
            except AnalyzerError as failure:
                if self.call.ended:
                    raise
                error = failure
            whole = some[:]  # a worker that was stopped may still add to it
            taken += len(whole)
            yield whole
            if error is not None:
                raise error

    def _take(self, source: Iterator[T], most: int, some: list[T]) -> bool:
        """Add entries to `some` until a request was made; return whether there may be more."""
        requests, end = self._requests, time.monotonic() + POLL_S
        for entry in itertools.islice(source, most):
            some.append(entry)
            if self._requests != requests or time.monotonic() > end:
                return True
        return len(some) == most

    def _too_silent(self) -> SourceError:
        detail = f"for {self._settings.timeout_s:g} s"
        return source_failure(SourceErrorKind.TIMEOUT, self._source, detail)

    def close(self) -> None:
        """Close all connections; a worker that still uses them closes them itself."""
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
        """Return the latest progress; None if it has been taken already."""
        progress, self._progress = self._progress, None
        return progress

    # -- requests

    def _go_on(self) -> None:
        if self._stopping:
            raise Stopped
        if self.call.refusal is not None:
            raise self.call.refusal

    def _open_watched(self, request: Any) -> Any:
        from yt_dlp.networking.exceptions import HTTPError

        self._go_on()
        self._requests += 1
        if self._proxy is not None:
            request = _by_proxy(request, self._proxy)
        asked = _asked_range(request)
        if asked is not None and (whole := self._whole.get(request.url)) is not None and whole.holds(*asked):
            return whole.part(*asked)
        try:
            with self._watch:
                response = self._urlopen(request)
        except HTTPError as error:
            self._keep(error.response)
            wait_s = retry_after_s(error.response.headers.get("Retry-After"))
            if error.status == 429 or (error.status == 503 and wait_s is not None):
                # An immediate retry, as yt-dlp does it, would make it worse.
                kind = SourceErrorKind.BOT_CHECK if error.status == 429 else SourceErrorKind.NETWORK
                self.call.refusal = source_failure(
                    kind, self._source, first_sentence(str(error)), retry_after_s=wait_s
                )
                raise self.call.refusal from error
            raise
        self._keep(response)
        return response if asked is None else self._asked_part(request.url, response, *asked)

    def _asked_part(self, url: str, response: Any, start: int, end: int | None) -> Any:
        """Return the requested part of a response: servers may send the whole file, or another part.

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
                raise source_failure(SourceErrorKind.NETWORK, self._source, message)
            if first == start and (end is None or last is None or last <= end):
                return response
            return _Whole(response, first, total, self._check_size).part(start, end)
        if response.status != 200 or end is None:
            return response  # yt-dlp restarts a file that is sent whole
        length = response.headers.get("Content-Length")
        total = int(length) if length and length.isdecimal() else None
        # The following parts are taken from the same response.
        whole = self._whole[url] = _Whole(response, 0, total, self._check_size)
        return whole.part(start, end)

    def _keep(self, response: Any) -> None:
        self._watch.answered()
        self._responses = [each for each in self._responses if not each.closed]
        self._responses.append(response)
        read = response.read

        def read_block(size: int) -> bytes:
            with self._watch:
                block: bytes = read(size)
            self._go_on()
            self._watch.received(len(block))
            return block

        def read_watched(amt: int | None = None) -> bytes:
            if amt is not None:
                return read_block(amt)
            blocks: list[bytes] = []
            total = 0
            while block := read_block(BLOCK_BYTES):
                blocks.append(block)
                total += len(block)
                if total > _MAX_PAGE_BYTES:
                    raise source_failure(SourceErrorKind.TOO_LARGE, self._source, "an endless page")
            return b"".join(blocks)

        response.read = read_watched

    # -- extraction

    def extract(self, url: str, ie_key: str | None = None) -> Info:
        """Extract an address, and follow redirections, to a raw video or playlist."""
        return self.open({"_type": "url", "url": url, "ie_key": ie_key})

    def open(self, entry: Mapping[str, Any]) -> Info:
        """Follow a result of yt-dlp until it is a raw video or playlist."""
        raw = dict(entry)
        outer: Info = {}
        for _ in range(_MAX_HOPS):
            kind = raw.get("_type", "video")
            if kind not in URL_TYPES:
                return {**raw, **outer}
            if kind == "url_transparent":
                outer = {**{key: raw[key] for key in _OF_PAGE if raw.get(key) is not None}, **outer}
            found = self._ydl.extract_info(
                raw["url"], download=False, process=False, ie_key=raw.get("ie_key")
            )
            if found is None:
                raise source_failure(
                    SourceErrorKind.OTHER, self._source, "the site's extractor found nothing"
                )
            raw = found
        raise source_failure(SourceErrorKind.OTHER, self._source, "too many redirections")

    def names_playlist(self, entry: Info) -> bool:
        """Return whether a playlist entry is known to be a playlist, such as a tab of a channel."""
        key = entry.get("ie_key")
        if not key:
            return False
        if key not in self._may_list:
            self._may_list[key] = self._list_extractor(key)
        extractor = self._may_list[key]
        if extractor is None:
            return False
        # YouTube's tabs are "any" for yt-dlp because of addresses that do not occur as entries.
        return key == "YoutubeTab" or extractor.is_single_video(entry["url"]) is False

    def _list_extractor(self, key: str) -> Any:
        """Return an extractor that opens playlists; None if it only opens videos, or is unknown."""
        try:
            extractor = self._ydl.get_info_extractor(key)
        except (AttributeError, KeyError):
            return None
        return extractor if key == "YoutubeTab" or extractor._RETURN_TYPE == "playlist" else None

    def _single(self, raw: Info) -> Info:
        """Return the only video of a page or playlist.

        Raises:
            SourceError: PLAYLIST or EMPTY.
        """
        for _ in range(MAX_DEPTH):
            if raw.get("_type", "video") not in LIST_TYPES:
                return raw
            entries = list(itertools.islice(iter(raw.get("entries") or ()), 2))
            if not entries:
                raise source_failure(SourceErrorKind.EMPTY, self._source)
            if len(entries) > 1 or not entries[0]:
                raise source_failure(SourceErrorKind.PLAYLIST, self._source)
            inherited = {key: raw.get(key) for key in ("extractor", "extractor_key", "webpage_url")}
            raw = self.open({**inherited, **entries[0]})
        raise source_failure(SourceErrorKind.PLAYLIST, self._source)

    def probe(self) -> Stream | None:
        """Return the MJPEG stream at the session's address; None if there is none."""
        with self._watch:
            return probe(self._source, self._settings.timeout_s)

    def _refuse_live(self, info: Info) -> None:
        status = info.get("live_status")
        if status == "is_upcoming":
            raise source_failure(SourceErrorKind.LIVE, self._source, "it has not begun yet")
        if self._live and status != "post_live":
            return
        if info.get("is_live") or status in ("is_live", "post_live"):
            raise source_failure(SourceErrorKind.LIVE, self._source)

    # -- download

    def prepare(self, item: Item, *, want_audio: bool) -> _Plan:
        """Extract the data of a video, check it against the settings, and choose formats.

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
            raise source_failure(SourceErrorKind.NO_FORMAT, self._source, detail)
        if self._live and (info.get("is_live") or info.get("live_status") == "is_live"):
            if not protocol_of(chosen[0]).startswith("m3u8"):
                raise source_failure(SourceErrorKind.LIVE, self._source, "it does not come as HLS")
            raise LiveStreamError(info, chosen[0])
        self._expected_bytes = [each.get("filesize") for each in chosen]
        self._check_size(sum(size or 0 for size in self._expected_bytes))
        self._close_responses()  # left open by the extraction
        return _Plan(info, chosen)

    def download(self, item: Item, plan: _Plan, *, want_audio: bool) -> tuple[Info, list[tuple[Path, Info]]]:
        """Download a video into the folder.

        Returns:
            What yt-dlp knows of the video, and the files with their formats, the video's first.

        Raises:
            SourceError: It is refused. Or whatever yt-dlp raises.
        """
        try:
            return plan.info, self._download_files(plan)
        except Exception as error:
            # Media addresses are signed and expire: extract once more for fresh ones.
            if http_status(error) != 403:
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
        """Refuse a live HLS stream; yt-dlp would take its present content for the whole.

        Returns:
            The format, with the manifest that was read.
        """
        from yt_dlp.networking import Request

        if not protocol_of(each).startswith("m3u8") or info.get("live_status") is not None:
            return each
        response = self._ydl.urlopen(Request(each["url"], headers=each.get("http_headers") or {}))
        manifest = response.read().decode("utf-8", "replace")
        if "#EXT-X-STREAM-INF" in manifest:
            return each
        if "#EXT-X-ENDLIST" not in manifest:
            if self._live:
                raise LiveStreamError(info, each)
            raise source_failure(SourceErrorKind.LIVE, self._source)
        return {**each, "url": response.url, "hls_media_playlist_data": manifest}

    def _download_file(self, path: Path, info: Info) -> None:
        self._watch.downloading()
        if info.get("available_at"):  # some sites make clients wait; yt-dlp sleeps until then
            info["available_at"] = min(info["available_at"], time.time() + _MAX_WAIT_S)
        complete = self._run_downloader(path, info)
        # Success must be proven. yt-dlp compares the bytes with the declared length and retries; here the
        # size on the disk is compared with its count.
        status = self._files.get(str(path), {})
        size = path.stat().st_size if path.is_file() else 0
        whole = status.get("status") == "finished" and size == status.get("downloaded_bytes")
        fragments, last = status.get("fragment_count"), status.get("fragment_index")
        if not complete or not size or not whole or (fragments and (last or 0) < fragments):
            raise source_failure(SourceErrorKind.NETWORK, self._source, "the transfer is incomplete")

    def _run_downloader(self, path: Path, info: Info) -> bool:
        """Let yt-dlp's downloader write a file; return whether it considers the file complete.

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
            for stream in opened:  # files of fragments are left open after an error
                stream.close()

    def _on_progress(self, status: Info) -> None:
        name = str(status.get("filename"))
        # The last report on a file in fragments omits their number: keep the previous total.
        known = self._files.setdefault(name, dict.fromkeys(_STATUS_KEYS))
        known.update({key: status[key] for key in _STATUS_KEYS if key in status})
        received = sum(each["downloaded_bytes"] or 0 for each in self._files.values())
        declared = sum(each["total_bytes"] or 0 for each in self._files.values())
        self._check_size(max(received, declared))
        totals = [each["total_bytes"] or each["total_bytes_estimate"] for each in self._files.values()]
        totals += self._expected_bytes[len(totals) :]
        total = None if any(each is None for each in totals) else round(sum(totals))
        self._progress = FetchProgress(redacted(self._source), received, total)

    def _check_size(self, size: float) -> None:
        if size > self._settings.max_size_mb * 1e6:
            raise source_failure(
                SourceErrorKind.TOO_LARGE, self._source, f"more than {self._settings.max_size_mb} MB"
            )


def _by_proxy(request: Any, proxy: str) -> Any:
    """Return a request that goes by the proxy, whatever an extractor has chosen: pages may have their say."""
    from yt_dlp.networking import Request

    request = Request(request) if isinstance(request, str) else request.copy()
    request.headers.pop("Ytdl-Request-Proxy", None)
    request.proxies = {"all": proxy}
    return request


def _asked_range(request: Any) -> tuple[int, int | None] | None:
    """Return the first and last byte of a range request; None if it asks for everything."""
    asked = (getattr(request, "headers", None) or {}).get("Range")
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", asked or "")
    return None if found is None else (int(found[1]), int(found[2]) if found[2] else None)


class _Whole:
    """A response that contains more of a file than was requested, and is read only once.

    Args:
        response: The answer; `read` is watched.
        position: Which byte of the file comes next.
        total: Length of the file in bytes, if known.
        check: Called with the number of bytes skipped; may raise.
    """

    def __init__(
        self, response: Any, position: int, total: int | None, check: Callable[[float], None]
    ) -> None:
        self._response, self._position, self._total, self._check = response, position, total, check
        self._passed = 0
        self._ended = False

    def holds(self, start: int, end: int | None) -> bool:
        """Return whether a part has not been read yet."""
        usable = not (self._ended or self._response.closed)
        return usable and end is not None and start >= self._position

    def part(self, start: int, end: int | None) -> _Part:
        """Return a part of the file as its own response; `end` is its last byte, None for the file's."""
        last = end if self._total is None else min(self._total - 1, self._total if end is None else end)
        headers = Message()
        if last is not None:
            headers["Content-Length"] = str(max(0, last + 1 - start))
            headers["Content-Range"] = f"bytes {start}-{last}/{self._total or '*'}"
        else:
            headers["Content-Range"] = f"bytes {start}-/{self._total or '*'}"
        return _Part(self, start, math.inf if last is None else last + 1, self._response.url, headers)

    def read(self, start: int, size: int) -> bytes:
        """Read bytes from a position that was not passed yet; empty at the end of the response."""
        while self._position < start:
            skipped = self._read(min(BLOCK_BYTES, start - self._position))
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
            self._ended = not data  # at its end or broken: the rest is requested again
        self._position += len(data)
        return data


class _Part:
    """A part of a response with the interface of a response of yt-dlp."""

    status = 206

    def __init__(self, whole: _Whole, start: int, stop: float, url: str, headers: Message) -> None:
        self._whole, self._next, self._stop, self.url, self.headers = whole, start, stop, url, headers
        self.closed = False

    def read(self, amt: int | None = None) -> bytes:
        """Read at most `amt` bytes, or the rest."""
        if amt is None:
            return b"".join(iter(lambda: self.read(BLOCK_BYTES), b""))
        size = int(min(amt, self._stop - self._next))
        data = self._whole.read(self._next, size) if size > 0 else b""
        self._next += len(data)
        return data

    def close(self) -> None:
        """Do nothing: the response stays open for the following parts."""
        self.closed = True


_STATUS_KEYS = (
    "status",
    "downloaded_bytes",
    "total_bytes",
    "total_bytes_estimate",
    "fragment_count",
    "fragment_index",
)


def candidate_of(item: Item, plan: _Plan) -> Candidate:
    """Return the facts that `accept` decides on: the site's data and the size of the download."""
    info = plan.info
    video_id = video_id_of(item, info.get("extractor_key"), info.get("id"))
    duration_s = positive_number(info.get("duration"))
    sizes = [_size_bytes(each, duration_s) for each in plan.formats]
    return Candidate(
        video_id=video_id,
        title=_title(item, info, video_id),
        duration_s=duration_s,
        uploaded=upload_date(info),
        channel=channel_name(info),
        size_bytes=None if None in sizes else sum(size or 0 for size in sizes),
    )


def _size_bytes(each: Mapping[str, Any], duration_s: float | None) -> int | None:
    """Return the declared size of a format, else an estimate from its bit rate; None if both are unknown."""
    for key in ("filesize", "filesize_approx"):
        if size := positive_number(each.get(key)):
            return round(size)
    rate_kbps = positive_number(each.get("tbr"))
    return round(rate_kbps * 125 * duration_s) if rate_kbps and duration_s else None


def positive_number(value: object) -> float | None:
    """Return an untrusted number, such as a duration, if it is positive and plausible.

    >>> [positive_number(value) for value in (12, 0, "12", True, float("nan"), 10**400)]
    [12.0, None, None, None, None, None]
    """
    number = type(value) in (int, float)  # no bool
    return float(value) if number and 0 < value < 1e15 else None  # type: ignore[operator, arg-type]


def upload_date(info: Mapping[str, Any]) -> str | None:
    """Return the day of upload as an ISO date, from whatever the site states.

    >>> upload_date({"upload_date": "20240229"}), upload_date({"timestamp": 1_700_000_000})
    ('2024-02-29', '2023-11-14')
    >>> upload_date({"upload_date": "20230229"}), upload_date({"timestamp": [1]}), upload_date({})
    (None, None, None)
    """
    stated = info.get("upload_date")
    date = re.fullmatch(r"([0-9]{4})([0-9]{2})([0-9]{2})", str(stated)) if stated else None
    if date:
        try:
            return datetime.date(*map(int, date.groups())).isoformat()
        except ValueError:
            pass
    moment = info.get("timestamp")
    day = None if moment is None else _utc(moment)
    return day and day[:10]


def _title(item: Item, info: Mapping[str, Any], video_id: str) -> str:
    return well_formed(str(info.get("title") or item.title or video_id))


def channel_name(info: Mapping[str, Any]) -> str | None:
    channel = info.get("channel") or info.get("uploader")
    return well_formed(str(channel)) if channel else None


def publish_download(item: Item, info: Info, files: list[tuple[Path, Info]], folder: Path) -> Video:
    """Move the downloaded files to their final names, and describe the video."""
    video_id = video_id_of(item, info.get("extractor_key"), info.get("id"))
    paths = []
    for (path, each), part in zip(files, ("", ".audio"), strict=False):
        suffix = str(each.get("ext") or "")
        # A suffix from a site could be anything, and is not needed to read the file.
        suffix = suffix if re.fullmatch(r"[a-z0-9]{2,4}", suffix) and suffix in _SAFE_SUFFIXES else "video"
        paths.append((path, folder / f"{video_id}{part}.{suffix}"))
    try:
        size = sum(path.stat().st_size for path, _ in paths)
        for path, target in paths:
            path.replace(target)
        fingerprint = fingerprint_of(paths[0][1])[0][:12]
    except OSError as error:
        for _, target in paths:
            target.unlink(missing_ok=True)
        message = f"cannot write to {folder}: {error.strerror}"
        raise OutputError(message, no_space=is_full(error)) from error
    video = files[0][1]
    page = str(info.get("webpage_url") or item.source)
    return Video(
        video_id=video_id,
        kind=MediaKind.VIDEO,
        paths=(paths[0][1],),
        audio_path=paths[1][1] if len(paths) > 1 else None,
        source=without_login(item.source),
        title=_title(item, info, video_id),
        url=without_login(page),
        channel=channel_name(info),
        uploaded=upload_date(info),
        uploaded_at=_utc(info.get("timestamp")),
        duration_s=positive_number(info.get("duration")),
        fetched=True,
        details={
            "extractor": str(info.get("extractor_key") or ""),
            "id": str(info.get("id") or ""),
            "formats": [str(each.get("format_id") or "") for _, each in files],
            "width": video.get("width"),
            "height": video.get("height"),
            "fps": video.get("fps"),
            "size_bytes": size,
            "fingerprint": fingerprint,
            "yt_dlp": yt_dlp_version(),
        },
    )


def _utc(timestamp: object) -> str | None:
    """Return a Unix time in seconds as ISO time; None if it is not one.

    >>> _utc(1_700_000_000), _utc("soon"), _utc(1e30)
    ('2023-11-14T22:13:20+00:00', None, None)
    """
    if type(timestamp) not in (int, float):
        return None
    try:
        moment = datetime.datetime.fromtimestamp(timestamp, datetime.UTC)  # type: ignore[arg-type]
    except (OverflowError, ValueError, OSError):
        return None
    return moment.isoformat(timespec="seconds")


_SAFE_SUFFIXES = frozenset(
    {"3gp", "aac", "avi", "flv", "m4a", "m4v", "mka", "mkv", "mov", "mp3", "mp4", "mpg", "ogg", "ogv"}
    | {"opus", "ts", "wav", "weba", "webm"}
)


def video_id_of(item: Item, key: str | None, name: object) -> str:
    """Return the `Video.video_id` of an item.

    Args:
        item: The item.
        key: Of the extractor that opens the video.
        name: The id that this gives it.
    """
    site, name = _site_name(key), str(name or "")
    if not site:
        address = urldefrag(item.source).url
        if item.entry is not None and item.entry.get("_type", "video") == "video":
            address += f"#{name}"  # several videos of one page share its address
        elif item.entry is not None and own_address(item.entry) is None:
            address += f"#{item.entry.get('url')}"  # as do its links without their own addresses
        return web_id(address)
    return _site_id(f"{site}-{name}")


def identity_of_link(entry: Mapping[str, Any]) -> str | None:
    """Return the `Video.video_id` of a playlist's link, if the link itself has the site's id."""
    key, name = entry.get("ie_key"), entry.get("id")
    if not key or not name or entry["_type"] != "url":
        return None
    site = _site_name(key)
    return _site_id(f"{site}-{name}") if site else None


def _site_id(full: str) -> str:
    if _is_safe_name(full):
        return full
    safe = re.sub(r"[^A-Za-z0-9_-]+", "-", full)
    return f"{safe[:48]}-{hashlib.sha256(full.encode('utf-8', 'replace')).hexdigest()[:8]}"


_is_safe_name = re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch


def is_generic(key: str | None) -> bool:
    """Return whether this extractor takes ids from the ends of addresses, so that they are not unique."""
    return not _site_name(key)


@functools.lru_cache(maxsize=10_000)
def _site_name(key: str | None) -> str:
    """Return an extractor's name as in ids of videos; empty if it is generic."""
    name = str(key or "Generic").lower()
    return "" if name in ("generic", "html5mediaembed") else name


def web_id(address: str) -> str:
    return "web-" + hashlib.sha256(address.encode("utf-8", "replace")).hexdigest()[:12]
