"""Failures of sources: exceptions of yt-dlp and the network become a `SourceError` with a kind and advice."""

from __future__ import annotations

import datetime
import email.utils
import errno
import logging
import re
import time
from collections.abc import Iterator, Sequence

from analyzer.errors import AnalyzerError, OutputError, SourceError, SourceErrorKind, is_full
from analyzer.util.text import one_line, shorten
from analyzer.util.urls import redacted, redacted_text

__all__ = [
    "REFUSED_STATUS",
    "REFUSED_WORDS",
    "explained",
    "http_status",
    "retry_after_s",
    "source_failure",
    "yt_dlp_version",
]

_log = logging.getLogger(__name__)

_MAX_RETRY_AFTER_S = 7 * 86_400.0

REFUSED_STATUS = 470
"""Status with which an `Egress` refuses a connection: no server uses it, so that the reason is known."""

REFUSED_WORDS = "Not a public address"

_LATER = "trying again later may help"

_NEVER = "trying again will not help"


_MEANINGS: dict[SourceErrorKind, tuple[str, str]] = {
    SourceErrorKind.NOT_FOUND: ("there is nothing at this address", _NEVER),
    SourceErrorKind.UNSUPPORTED: ("no video was found at this address", _NEVER),
    SourceErrorKind.NOT_PUBLIC: ("the address leads to a host that is not on the internet", _NEVER),
    SourceErrorKind.PRIVATE_OR_REMOVED: ("the video is private or has been removed", _NEVER),
    SourceErrorKind.LOGIN_OR_AGE: ("the site shows this video only after signing in", _NEVER),
    SourceErrorKind.GEO_BLOCKED: ("the site does not show this video in this country", _NEVER),
    SourceErrorKind.BOT_CHECK: (
        "the site suspects a bot or limits the rate of requests",
        "trying again after an hour or more may help",
    ),
    SourceErrorKind.NETWORK: ("the server could not be reached or closed the connection", _LATER),
    SourceErrorKind.TIMEOUT: ("the server sent nothing or too little in time", _LATER),
    SourceErrorKind.EXPIRED_OR_FORBIDDEN: (
        "the server forbids access or the address has expired",
        "a fresh address did not help, another day may",
    ),
    SourceErrorKind.TOO_LARGE: (
        "the download is larger than allowed",
        "trying again will not help without a higher --max-size-mb",
    ),
    SourceErrorKind.NO_FORMAT: (
        "the page offers no format that can be downloaded",
        "trying again will not help but a newer yt-dlp may",
    ),
    SourceErrorKind.DRM: ("the video is protected against copying (DRM)", _NEVER),
    SourceErrorKind.LIVE: (
        "this is live, and only analyze reads live sources",
        "trying again may help once the recording is online",
    ),
    SourceErrorKind.NESTED: (
        "only the subfolders of this folder contain something to analyze",
        "add --recursive",
    ),
    SourceErrorKind.PLAYLIST: (
        "this is a playlist or channel",
        "add --playlist, and --limit N for its first N videos only, to analyze them",
    ),
    SourceErrorKind.EMPTY: ("there is no video in this playlist", _NEVER),
    SourceErrorKind.REJECTED: (
        "the video is left out by a filter",
        "trying again will not help without another filter",
    ),
    SourceErrorKind.OTHER: ("the video could not be fetched", _NEVER),
}


_RETRY = frozenset(
    {
        SourceErrorKind.BOT_CHECK,
        SourceErrorKind.NETWORK,
        SourceErrorKind.TIMEOUT,
        SourceErrorKind.LIVE,
    }
)


# yt-dlp has no classes for most refusals of sites, only words. The order matters: "Private
# video. Sign in ..." is private, "Sign in to confirm you're not a bot" is a bot check.
_WORDS: tuple[tuple[SourceErrorKind, str], ...] = (
    (SourceErrorKind.NOT_PUBLIC, rf"\b{REFUSED_STATUS}\b[:\s]*{REFUSED_WORDS}"),
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


def yt_dlp_version() -> str:
    """Return the version of yt-dlp."""
    from yt_dlp.version import __version__

    return str(__version__)


def source_failure(
    kind: SourceErrorKind, source: str, detail: str = "", *, retry_after_s: float | None = None
) -> SourceError:
    """Make the error of a kind: what is wrong, in brackets the site's own words, and what to do."""
    what, advice = _MEANINGS[kind]
    quoted = f" ({detail})" if detail else ""
    message = f"{what}{quoted}; {advice} (yt-dlp {yt_dlp_version()})"
    return SourceError(message, kind=kind, source=source, retry=kind in _RETRY, retry_after_s=retry_after_s)


def retry_after_s(header: str | None) -> float | None:
    """Parse a Retry-After header to seconds, between 0 and a week; None if it cannot be understood.

    >>> retry_after_s("120"), retry_after_s("-5"), retry_after_s("9" * 5000), retry_after_s("soon")
    (120.0, 0.0, 604800.0, None)
    >>> retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT"), retry_after_s(None)
    (0.0, None)
    """
    text = (header or "").strip()
    if re.fullmatch(r"-?[0-9]+(?:\.[0-9]*)?", text):
        seconds = float(text)
    else:
        try:
            moment = email.utils.parsedate_to_datetime(text)
            # A date without a zone is in UTC.
            moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=datetime.UTC)
            seconds = moment.timestamp() - time.time()
        except (ValueError, OverflowError, TypeError):
            return None
    return min(max(seconds, 0.0), _MAX_RETRY_AFTER_S)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and its causes as yt-dlp records them, the outermost first."""
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


def http_status(error: BaseException) -> int | None:
    """Return the HTTP status that caused an error of yt-dlp; None if there is none."""
    for each in _causes(error):
        status = getattr(each, "status", None)
        if isinstance(status, int):
            return status
    # After the last attempt, yt-dlp raises the text only.
    found = re.search(r"HTTP Error ([0-9]{3})\b", str(error))
    return int(found[1]) if found else None


def explained(error: Exception, source: str) -> AnalyzerError:
    """Turn any exception of yt-dlp or an extractor into a `SourceError` or `OutputError`."""
    causes = list(_causes(error))
    for each in causes:
        if isinstance(each, AnalyzerError):
            return each
        if isinstance(each, OSError) and each.errno in _DISK_ERRNOS and not _is_network(each):
            return OutputError(f"the download cannot be written: {each.strerror}", no_space=is_full(each))
    text = "\n".join(str(each) for each in causes)
    if re.search(r"unable to (?:write data|open for writing)", text):
        return OutputError(f"the download cannot be written ({first_sentence(str(error))})")
    kind = _classify(error, causes, text)
    _log.debug("Fetching %s failed", redacted(source), exc_info=error)
    if kind is SourceErrorKind.NOT_PUBLIC:
        return source_failure(kind, source)
    inner = next((each.orig_msg for each in causes if hasattr(each, "orig_msg")), str(error))
    return source_failure(kind, source, first_sentence(str(inner)) or type(error).__name__)


def first_sentence(text: str) -> str:
    """Shorten a message of yt-dlp to its first sentence: one short line without addresses.

    >>> first_sentence("ERROR: [youtube] abc: Private video. Sign in if you've been granted access")
    'Private video'
    """
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
    text = re.sub(r"[;,.]?\s*please report this issue.*", "", text, flags=re.I)
    text = re.sub(r"\s*\(caused by .*", "", text)
    text = re.sub(r"^\s*(?:ERROR:\s*)?(?:\[[^\]]*\]\s*(?:Got error:|\S+:)?\s*)*", "", text)
    text = re.sub(
        r"Unable to download \w+(?: page)?: |HTTPS?Connection\w*\([^)]*\): |\[Errno -?\d+\] ", "", text
    )
    text = redacted_text(text)
    # Addresses of media are signed, some hold passwords: the host is enough.
    text = re.sub(r"https?://(?:[^/\s@]*@)?([^/\s\"'<>]+)\S*", r"\1", text)
    text = re.split(r"(?<=[.!?])\s|\. Giving up", one_line(text), maxsplit=1)[0].rstrip(".")
    return shorten(text, 160)


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
    status = http_status(error)
    if status is not None:
        unknown = SourceErrorKind.NETWORK if status >= 500 else SourceErrorKind.OTHER
        return _STATUS.get(status, unknown)
    if re.search(r"timed? ?out", text, re.I):
        return SourceErrorKind.TIMEOUT
    network = (TransportError, ContentTooShortError, ConnectionError)
    if any(isinstance(each, network) for each in causes) or re.search(_NETWORK_WORDS, text, re.I):
        return SourceErrorKind.NETWORK
    return SourceErrorKind.OTHER
