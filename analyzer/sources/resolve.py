"""From what the user names to videos on the disk.

::

    fetcher = Fetcher(settings, want_audio=True)
    for item in fetcher.resolve("https://..."):    # lazy: nothing is downloaded yet
        video = fetcher.fetch(item, folder)        # raises SourceError

Hostile and broken servers: yt-dlp runs in a worker thread, while the caller's thread watches a deadline.
Socket time-outs are not enough, because a server that sends a few bytes now and then never meets them. At the
deadline (or at Ctrl-C) the caller continues at once, and the worker ends at its next request, byte or socket
time-out. A worker that is blocked inside the HTTP library is sent an exception somewhat later: sent at once,
it could interrupt the cleanup after a socket time-out. A child process could be killed more reliably, but
costs a second at every start, needs `__main__` guards in every program that uses this library, and cannot
take extractors and hooks. Callbacks (`accept`, `on_wait`, `on_progress`) run in the caller's thread; their
exceptions end the work as Ctrl-C does.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import itertools
import re
import shlex
import shutil
import stat
import tempfile
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from analyzer.errors import AnalyzerError, OutputError, SourceError, SourceErrorKind, is_full
from analyzer.settings import Settings
from analyzer.sources.failures import source_failure
from analyzer.sources.local import (
    file_mode_of,
    irregular_file_error,
    local_identity,
    local_items,
    local_video,
    missing_file_error,
    with_paths,
)
from analyzer.sources.streams import Stream, StreamForm, recognized, shown_address
from analyzer.sources.types import (
    Candidate,
    FetchProgress,
    FileSource,
    Info,
    Item,
    LeftOut,
    MediaKind,
    Source,
    StreamSource,
    UrlSource,
    Video,
    failed_item,
)
from analyzer.sources.watchdog import Call
from analyzer.sources.ytdlp import (
    LIST_TYPES,
    MAX_DEPTH,
    URL_TYPES,
    LiveStreamError,
    Sites,
    YtDlpSession,
    candidate_of,
    channel_name,
    check_address,
    identity_of_link,
    is_generic,
    link_of,
    own_address,
    positive_number,
    publish_download,
    stands_alone,
    upload_date,
    url_entry,
    video_id_of,
    web_id,
)
from analyzer.util.text import well_formed
from analyzer.util.urls import redacted

if TYPE_CHECKING:
    from yt_dlp.extractor.common import InfoExtractor

__all__ = [
    "Fetcher",
    "live_video",
    "parse_source",
]


class Fetcher:
    """Turns what the user names into videos on the disk.

    Args:
        settings: Uses `playlist`, `limit`, `recursive`, `images`, `max_height`, `max_size_mb`, `timeout_s`.
        want_audio: Whether sound is needed; if not, it is never downloaded separately.
        live: Whether cameras and streams are accepted, as videos with a `stream`; otherwise they are refused.
        extractors: Additional yt-dlp extractors, tried before yt-dlp's own, whose names they must not have.
            Prefer classes to instances, which cannot serve two downloads at a time.
        proxy: Address of an HTTP proxy, such as `Egress.proxy`, which all requests go through; live sources
            are refused then. None: the environment's proxy, if it names one.
        on_progress: Called in the caller's thread, at most 20 times a second.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        want_audio: bool,
        live: bool = False,
        extractors: Sequence[type[InfoExtractor] | InfoExtractor] = (),
        proxy: str | None = None,
        on_progress: Callable[[FetchProgress], None] | None = None,
    ) -> None:
        self._settings = settings
        # FFmpeg opens live streams by itself. With a proxy it would still make exceptions: for hosts that the
        # variable no_proxy names, and for segments at httpproxy:// where https is to work.
        self._live = live and proxy is None
        self._want_audio = want_audio
        self._extractors = tuple(extractors)
        self._proxy = proxy
        self._on_progress = on_progress

    def resolve(
        self,
        source: str | Source,
        on_wait: Callable[[], None] | None = None,
        on_left_out: Callable[[LeftOut], None] | None = None,
    ) -> Iterator[Item]:
        """List the videos of a file, folder, address or (with `Settings.playlist`) playlist, in order.

        Lazy: entries beyond `Settings.limit` are never asked for. Without `Settings.playlist` an address
        becomes an item without any request. If a server limits the rate of requests, the listing ends there.

        Args:
            source: A path, an address, or the number of a camera. `parse_source` classifies text; pass a
                `UrlSource` for untrusted input, which then cannot reach files and cameras.
            on_wait: As for `identified`.
            on_left_out: As for `identified`.

        Raises:
            SourceError: As `identified`.
        """
        listed = self.identified(source, on_wait=on_wait, on_left_out=on_left_out)
        return (item for _, item in listed if item is not None)

    def identified(
        self,
        source: str | Source,
        *,
        over: Container[str] = (),
        on_wait: Callable[[], None] | None = None,
        on_left_out: Callable[[LeftOut], None] | None = None,
    ) -> Iterator[tuple[str | None, Item | None]]:
        """As `resolve`, with identities. Subclasses that list something else override this one.

        Args:
            source: As for `resolve`.
            over: Identities of videos about which nothing else is asked. Of a channel's million videos, most
                may be over: no items are made of its links to these.
            on_wait: Called in the caller's thread about 20 times a second while waiting for a server. Its
                exceptions end the listing at once and reach the caller unchanged.
            on_left_out: Called before the first item if a folder contains more, which another setting would
                list.

        Yields:
            The identity of each video, or None if only `identify` can tell it, and its item, or None if it is
            in `over` and a playlist's link.

        Raises:
            SourceError: On the first step: not found, unsupported, empty, or the playlist cannot be listed.
                Later failures become items with an `error`.
        """
        call = Call(on_wait, self._settings.limit)
        match parse_source(source) if isinstance(source, str) else source:
            case FileSource(name):
                found, left_out = self._local_items(name)
                if on_left_out is not None and left_out is not None:
                    on_left_out(left_out)
                items = _unidentified(found)
            case StreamSource(name) if self._live and recognized(name) is not None:
                items = _unidentified([Item(name, MediaKind.LIVE)])
            case StreamSource(name) | UrlSource(name):
                check_address(name)
                if not self._settings.playlist:
                    yield None, Item(name, MediaKind.VIDEO)
                    return
                items = self._walk_address({"_type": "url", "url": name}, name, MAX_DEPTH, call, over)
        empty = True
        for each in itertools.islice(items, self._settings.limit):
            empty = False
            call.left -= 1
            yield each
        if empty:
            raise SourceError(
                f"there is nothing to analyze in {redacted(name)}",
                kind=SourceErrorKind.EMPTY,
                source=name,
            )

    def _local_items(self, name: str) -> tuple[list[Item], LeftOut | None]:
        mode = file_mode_of(name)
        if mode is None:
            raise missing_file_error(name)
        settings = self._settings
        return local_items(
            Path(name),
            name,
            mode,
            recursive=settings.recursive,
            images=settings.images,
            limit=settings.limit,
        )

    def resolve_images(self, paths: Sequence[str]) -> Item:
        """Return several image files as one item, in the order given; at most `Settings.limit` of them.

        Raises:
            SourceError: One is missing, or not a regular file.
        """
        paths = paths[: self._settings.limit]
        for path in paths:
            mode = file_mode_of(path)
            if mode is None:
                check_address(path)
            if mode is None or not stat.S_ISREG(mode):
                raise irregular_file_error(path)
        files = tuple(Path(path) for path in paths)
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        return Item(shlex.join(paths), MediaKind.IMAGES, files, files[0].stem + more, standalone=False)

    def identify(self, item: Item) -> str:
        """Return a stable identity of an item, without any request: the later `Video.video_id`, if possible.

        It is possible for local files, entries of playlists, and addresses from which yt-dlp reads the site's
        id; not for addresses that redirect or name a video by words. An entry with neither id nor address
        is identified by its number in the list, which may shift.

        Raises:
            SourceError: A local file does not exist or cannot be read; this is not an address.
        """
        entry = item.entry
        if entry is None:
            item = with_paths(item, self._settings.limit)
            if item.paths:
                return local_identity(item.paths)[0]
            if item.error is not None or not item.standalone:
                return web_id(item.source)
            check_address(item.source)
            entry = {"_type": "url", "url": item.source}
        if entry.get("_type", "video") in URL_TYPES:
            key, name = self._site_of(entry)
        else:
            key, name = entry.get("extractor_key"), entry.get("id")
        if not name and not is_generic(key):
            return web_id(item.source)
        return video_id_of(item, key, name)

    def is_direct(self, item: Item) -> bool:
        """Return whether an item is an address of no site that yt-dlp knows, without any request.

        It leads to a file, or to a page that yt-dlp must read to know what it leads to.
        """
        if item.kind is not MediaKind.VIDEO or item.paths or item.entry is not None or item.error is not None:
            return False
        return is_generic(self._site_of(url_entry(item.source))[0])

    def names_list(self, url: str) -> bool:
        """Return whether an address is known to be a playlist or channel, without any request."""
        return _sites(self._extractors).names_list(url)

    def _site_of(self, entry: Mapping[str, Any]) -> tuple[str | None, str | None]:
        """Return the extractor of a link, and the id that it will give the video."""
        key, name = entry.get("ie_key"), entry.get("id")
        if key and ((name and entry["_type"] == "url") or is_generic(key)):
            return key, name
        found, read = _sites(self._extractors).find(str(entry.get("url") or ""), key)
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
            folder: An existing, empty folder. A failure leaves nothing in it.
            accept: Called once, in the caller's thread, when the facts are known and before the video is
                downloaded. Its exceptions end the fetch and reach the caller unchanged.
            on_wait: Called in the caller's thread about 20 times a second while waiting for a server. Its
                exceptions end the fetch at once and reach the caller unchanged.

        Raises:
            SourceError: The video cannot be fetched; `kind` and `retry` say why and whether to try again,
                `retry_after_s` how long the server asks to wait.
            OutputError: The download could not be written to `folder`.
        """
        if item.error is not None:
            raise item.error
        stream = recognized(item.source) if self._live and item.kind is MediaKind.LIVE else None
        if stream is not None:
            return live_video(item, stream)
        item = with_paths(item, self._settings.limit)
        if item.paths:
            video = local_video(item)
            if accept is not None:
                size = video.details["size_bytes"]
                assert isinstance(size, int)
                accept(Candidate(video.video_id, video.title, None, None, None, size))
            return video
        if item.entry is None:
            check_address(item.source)
        try:
            staging = Path(tempfile.mkdtemp(prefix=".fetch-", dir=folder))
        except OSError as error:
            message = f"cannot download into {folder}: {error.strerror}"
            raise OutputError(message, no_space=is_full(error)) from error
        try:
            return self._download(item, folder, staging, accept, Call(on_wait))
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _download(
        self,
        item: Item,
        folder: Path,
        staging: Path,
        accept: Callable[[Candidate], None] | None,
        call: Call,
    ) -> Video:
        session = YtDlpSession(
            self._settings,
            item.source,
            extractors=self._extractors,
            folder=staging,
            live=self._live and item.entry is None,  # a channel that is on air would never end
            proxy=self._proxy,
            call=call,
        )
        try:
            if self._live and item.entry is None and is_generic(self._site_of(url_entry(item.source))[0]):
                stream = session.run(session.probe)
                if stream is not None:
                    return live_video(item, stream)
            plan = session.run(lambda: session.prepare(item, want_audio=self._want_audio))
            if accept is not None:
                accept(candidate_of(item, plan))
            info, files = session.run(
                lambda: session.download(item, plan, want_audio=self._want_audio), report=self._report
            )
            self._report(session)
            return publish_download(item, info, files, folder)
        except LiveStreamError as live:
            return live_video(item, self._stream_of(item, live), live.info)
        finally:
            session.close()

    def _stream_of(self, item: Item, live: LiveStreamError) -> Stream:
        """Return the stream of a live video; if the site signs addresses, it is asked for fresh ones."""
        headers = {str(name): str(value) for name, value in (live.format.get("http_headers") or {}).items()}

        def renew() -> Stream:
            session = YtDlpSession(
                self._settings, item.source, extractors=self._extractors, live=True, call=Call()
            )
            try:
                session.run(lambda: session.prepare(item, want_audio=False))
            except LiveStreamError as again:
                return self._stream_of(item, again)
            finally:
                session.close()
            raise source_failure(SourceErrorKind.NOT_FOUND, item.source, "it is no longer live")

        signed = not is_generic(live.info.get("extractor_key"))
        return Stream(StreamForm.HLS, str(live.format["url"]), headers, renew if signed else None)

    def _report(self, session: YtDlpSession) -> None:
        progress = session.take_progress()
        if self._on_progress is not None and progress is not None:
            self._on_progress(progress)

    def _walk_address(
        self, entry: Info, name: str, depth: int, call: Call, over: Container[str]
    ) -> Iterator[_Identified]:
        """Yield the items of an address or of a link to a playlist.

        Raises:
            AnalyzerError: It cannot be opened.
        """
        session = YtDlpSession(
            self._settings,
            name,
            extractors=self._extractors,
            whole_playlist=True,
            proxy=self._proxy,
            call=call,
        )
        try:
            raw = session.run(lambda: session.open(entry))
            if raw.get("_type", "video") in LIST_TYPES:
                yield from self._walk(session, raw, name, depth, over)
            else:
                standalone = stands_alone(entry)
                # A link without an address of its own can be opened again only by the link itself.
                yield None, _video_item(raw, name, standalone, None if standalone else entry)
        finally:
            session.close()

    def _walk(
        self, session: YtDlpSession, raw: Info, source: str, depth: int, over: Container[str]
    ) -> Iterator[_Identified]:
        """Yield the entries of a playlist one by one; the failure of one does not end the rest."""
        page = raw.get("webpage_url") or source
        # Entries that contain a whole video lack what yt-dlp copies from the playlist.
        inherited = {key: raw.get(key) for key in ("extractor", "extractor_key", "webpage_url")}
        place = itertools.count(1)

        def shorten(entry: Info | None) -> _Identified | Info | Exception | None:
            number = next(place)
            try:
                return _shortened(session, entry, f"{page}#{number}", over)
            except Exception as error:  # noqa: BLE001 - raised below: it does not come from the server
                return error

        number = 0
        try:
            for some in session.entries(raw.get("entries") or (), page, shorten):
                for entry in some:
                    number += 1
                    if isinstance(entry, tuple):
                        yield entry
                    elif isinstance(entry, Exception):
                        raise entry
                    elif not entry:
                        name, kind = f"{page}#{number}", SourceErrorKind.PRIVATE_OR_REMOVED
                        failure = source_failure(kind, name, f"entry {number} of the playlist")
                        yield None, failed_item(failure, name)
                    else:
                        whole = {**inherited, **entry}
                        yield from self._walk_further(session, whole, f"{page}#{number}", depth, over)
                        if session.call.refusal is not None:  # it ends the rest, too
                            return
        except AnalyzerError as error:
            if session.call.ended:
                raise
            # The generator has ended: one item represents the entries that cannot be listed.
            yield None, failed_item(error, f"{page}#{number + 1}", list_broke=True)

    def _walk_further(
        self, session: YtDlpSession, entry: Info, name: str, depth: int, over: Container[str]
    ) -> Iterator[_Identified]:
        """Yield the items of an entry that is no link to a video."""
        kind = entry.get("_type", "video")
        linked = kind in URL_TYPES
        name = (linked and own_address(entry)) or name
        if not linked and kind not in LIST_TYPES:
            yield None, _entry_item(entry, name, False, entry)
        elif depth == 0:
            failure = source_failure(SourceErrorKind.OTHER, name, "playlists nested too deeply")
            yield None, failed_item(failure, name)
        elif linked:  # with its own session, so that a deadline there does not end this one
            try:
                yield from self._walk_address(entry, name, depth - 1, session.call, over)
            except AnalyzerError as error:
                if session.call.ended:
                    raise
                # A tab that may come back is a broken list; one that is gone is a failed entry.
                yield None, failed_item(error, name, list_broke=getattr(error, "retry", False))
        else:
            yield from self._walk(session, entry, name, depth - 1, over)


_Identified: TypeAlias = tuple[str | None, Item | None]
"""As `Fetcher.identified` yields them."""


def _shortened(
    session: YtDlpSession, entry: Info | None, name: str, over: Container[str]
) -> _Identified | Info | None:
    """Return what a link to a video says; anything else of a playlist as it is.

    Args:
        session: Of the playlist.
        entry: The entry.
        name: Names it if it has no address of its own.
        over: As for `Fetcher.identified`.
    """
    if not entry or entry.get("_type", "video") not in URL_TYPES or session.names_playlist(entry):
        return entry
    identity = identity_of_link(entry)
    if identity in over and entry.get("title") not in _GONE:
        return identity, None
    address = own_address(entry)
    alone = address is not None and address == entry["url"]  # as `stands_alone`
    return identity, _entry_item(entry, address or name, alone, link_of(entry))


def _unidentified(items: Iterable[Item]) -> Iterator[_Identified]:
    return ((None, item) for item in items)


@functools.lru_cache(maxsize=4)  # to make one takes a third of a second
def _sites(extractors: tuple[type[InfoExtractor] | InfoExtractor, ...]) -> Sites:
    return Sites(extractors)


_VIDEO = MediaKind.VIDEO  # to look it up in the enumeration takes a tenth of the time to make an item


def parse_source(text: str) -> Source:
    """Classify what a user has typed: an existing file or folder, a camera or stream, else an address.

    >>> parse_source("0"), parse_source("https://example.org/a.mp4")
    (StreamSource(address='0'), UrlSource(url='https://example.org/a.mp4'))
    """
    if file_mode_of(text) is not None:
        return FileSource(text)
    return UrlSource(text) if recognized(text) is None else StreamSource(text)


def _video_item(info: Info, name: str, standalone: bool, entry: Info | None) -> Item:
    """Make an item from the untrusted data of a site or playlist."""
    title = info.get("title")
    return Item(
        name,
        _VIDEO,
        title=title if isinstance(title, str) else None,
        duration_s=positive_number(info.get("duration")),
        uploaded=upload_date(info),
        standalone=standalone,
        entry=entry,
    )


_GONE = ("[Private video]", "[Deleted video]")


def _entry_item(info: Info, name: str, standalone: bool, entry: Info) -> Item:
    """As `_video_item`, of an entry of a playlist."""
    item = _video_item(info, name, standalone, entry)
    if item.title in _GONE:
        item.error = source_failure(SourceErrorKind.PRIVATE_OR_REMOVED, name, item.title)
    return item


def live_video(item: Item, stream: Stream, info: Info | None = None) -> Video:
    """Make the video of a live source; each call gives another identity."""
    address = redacted(item.source)
    begun = datetime.datetime.now(datetime.UTC)
    digest = hashlib.sha256(address.encode("utf-8", "replace")).hexdigest()[:12]
    known = info or {}
    title = known.get("title") if not is_generic(known.get("extractor_key")) else None
    # yt-dlp appends the date to live titles; the identity contains it already.
    title = re.sub(r" \d{4}-\d\d-\d\d \d\d:\d\d$", "", str(title or "")) or shown_address(address)
    web = address.lower().startswith("http")
    return Video(
        video_id=f"live-{digest}-{begun:%Y%m%dT%H%M%SZ}",
        kind=MediaKind.LIVE,
        paths=(),
        audio_path=None,
        source=well_formed(address),
        title=well_formed(str(title)),
        url=redacted(str(known.get("webpage_url") or address)) if web else None,
        channel=channel_name(known),
        uploaded=None,
        uploaded_at=None,
        duration_s=None,
        fetched=False,
        details={"stream": str(stream.form), "extractor": str(known.get("extractor_key") or "")},
        stream=stream,
    )
