"""All errors that users can act on.

::

    AnalyzerError                  base of all; `str(error)` is one sentence for the user
    ├── SettingsError              an option has a value outside its range, or options contradict
    ├── SourceError                a source could not be found or fetched (kind, retry)
    ├── MediaError                 a file is not a readable image or video (kind)
    ├── ModelError                 a model is missing, damaged or does not fit (no_memory)
    ├── OutputError                results could not be written (no_space, published)
    ├── CrashError                 an analyzing process ended unexpectedly
    ├── StoppedError               the analysis was canceled; the same call continues it
    ├── LedgerError                the ledger of a batch is in use, damaged or cannot be used (temporary)
    └── ClusterError               a cluster cannot be reached, or its machines differ from this one

A message is one sentence without a capital at its beginning, unless it begins with a name, and without a
period at its end. Whoever shows it puts something before it ("Error: ", the name of the video), or makes a
whole sentence of it, as pages do.

Exceptions of libraries are converted to these in the module that imports the library, with their cause
(``raise ... from``). Only `analyzer.cli` converts them to exit codes.
"""

from __future__ import annotations

import errno
from enum import StrEnum
from functools import partial
from typing import Any

__all__ = [
    "AnalyzerError",
    "ClusterError",
    "CrashError",
    "LedgerError",
    "MediaError",
    "MediaErrorKind",
    "ModelError",
    "OutputError",
    "SettingsError",
    "SourceError",
    "SourceErrorKind",
    "StoppedError",
    "is_full",
    "unexpected",
]


class AnalyzerError(Exception):
    """Base of all errors of this package. The message is one sentence: what is wrong, and what to do."""


class SettingsError(AnalyzerError, ValueError):
    """An option has a value outside its range, or two options contradict each other."""


class SourceErrorKind(StrEnum):
    """Why a source could not be fetched; the value is shown in tables and logs."""

    NOT_FOUND = "not_found"
    """No such file, or HTTP 404/410."""
    UNSUPPORTED = "unsupported"
    """An address or file type that cannot be read."""
    NOT_PUBLIC = "not_public"
    """An address, or one that it leads to, of a host that is not on the internet; refused by an `Egress`."""
    PRIVATE_OR_REMOVED = "private_or_removed"
    LOGIN_OR_AGE = "login_or_age"
    GEO_BLOCKED = "geo_blocked"
    BOT_CHECK = "bot_check"
    """The site suspects a bot, or limits the rate."""
    NETWORK = "network"
    TIMEOUT = "timeout"
    """Too little data arrived in time."""
    EXPIRED_OR_FORBIDDEN = "expired_or_forbidden"
    """HTTP 401/403: the address has expired or needs permission."""
    TOO_LARGE = "too_large"
    NO_FORMAT = "no_format"
    """The page has no format that can be downloaded."""
    DRM = "drm"
    LIVE = "live"
    """A live stream, or one that has not started."""
    PLAYLIST = "playlist"
    """A playlist or channel, without the option to analyze all of it."""
    EMPTY = "empty"
    """A folder or playlist with nothing to analyze."""
    NESTED = "nested"
    """A folder with something to analyze in its subfolders only, without the option to include them."""
    REJECTED = "rejected"
    """A filter of the batch excludes it."""
    OTHER = "other"


class SourceError(AnalyzerError):
    """A source could not be found or fetched.

    Attributes:
        kind: The reason.
        source: The source as the user named it, or the address of a playlist entry.
        retry: Whether a later attempt may succeed.
        retry_after_s: Seconds to wait, if the server asks for that.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: SourceErrorKind,
        source: str,
        retry: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.source = source
        self.retry = retry
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors of worker processes are pickled.
        return partial(type(self), **vars(self)), self.args


class MediaErrorKind(StrEnum):
    """Why a fetched file cannot be analyzed."""

    EMPTY = "empty"
    NOT_MEDIA = "not_media"
    """Neither an image nor a video in an allowed format."""
    NO_VIDEO = "no_video"
    """Audio only, perhaps with a cover image."""
    NO_FRAMES = "no_frames"
    DAMAGED = "damaged"
    """The index is missing, or too many packets are damaged."""
    TOO_LARGE = "too_large"
    """More pixels than the limit."""
    CODEC = "codec"
    """The video codec is not allowed or not built in."""


class MediaError(AnalyzerError):
    """A file cannot be read as an image or video.

    Attributes:
        kind: The reason.
    """

    def __init__(self, message: str, *, kind: MediaErrorKind) -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), kind=self.kind), self.args


class ModelError(AnalyzerError):
    """A model is missing, damaged, or does not fit its purpose.

    Attributes:
        no_memory: There was too little memory for it.
    """

    def __init__(self, message: str, *, no_memory: bool = False) -> None:
        super().__init__(message)
        self.no_memory = no_memory

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), no_memory=self.no_memory), self.args


class OutputError(AnalyzerError):
    """Results could not be written or read: no such folder, no permission, no space.

    Attributes:
        no_space: The disk or the user's quota is full.
        published: The run folder with the complete tables, where only what follows them failed.
    """

    def __init__(self, message: str, *, no_space: bool = False, published: str | None = None) -> None:
        super().__init__(message)
        self.no_space = no_space
        self.published = published

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), **vars(self)), self.args


def is_full(error: OSError) -> bool:
    """Tell whether a disk, or the user's quota, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


class CrashError(AnalyzerError):
    """An analyzing process ended unexpectedly."""


class StoppedError(AnalyzerError):
    """The analysis was canceled: finished segments are kept, and the same call continues from there."""


class LedgerError(AnalyzerError):
    """The ledger of a batch cannot be used.

    Attributes:
        temporary: Another batch is using it, or the disk is full: the same command may succeed later.
    """

    def __init__(self, message: str, *, temporary: bool = False) -> None:
        super().__init__(message)
        self.temporary = temporary


class ClusterError(AnalyzerError):
    """A cluster cannot be used: it cannot be reached, or its machines differ from this one."""


def unexpected(error: BaseException) -> AnalyzerError:
    """An unforeseen error as a sentence; it is logged with its traceback."""
    import logging

    logging.getLogger(__name__).error("unexpected error", exc_info=error)
    what = error.strerror if isinstance(error, OSError) and error.strerror else repr(error)
    failure = AnalyzerError(f"the analysis failed unexpectedly ({what}): please report it")
    failure.__cause__ = error
    return failure
