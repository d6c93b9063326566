"""Everything that can go wrong for a reason the user can act on.

::

    AnalyzerError                  base of all; `str(error)` is one sentence for the user
    ├── SettingsError              an option has a value outside its range, or options contradict
    ├── SourceError                what the user named could not be found or fetched (kind, retry)
    ├── MediaError                 a file was fetched but is not a picture or video we can read (kind)
    ├── ModelError                 a network is missing, damaged or does not fit (no_memory)
    ├── OutputError                results could not be written (no_space)
    ├── CrashError                 a process that analyzed ended unexpectedly
    ├── StoppedError               the analysis was asked to end; the same call goes on where it stopped
    └── LedgerError                the ledger of a batch is in use, damaged or cannot be used (temporary)

Third-party exceptions are turned into these at the one module that imports the third party, with the
cause kept (``raise ... from``). Only `analyzer.cli` turns them into exit codes.
"""

from __future__ import annotations

import errno
from enum import StrEnum
from functools import partial
from typing import Any

__all__ = [
    "AnalyzerError",
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
    """Base of all errors of this package. The message is one sentence: what was wrong, what to do."""


class SettingsError(AnalyzerError, ValueError):
    """An option has a value outside its range, or two options contradict each other."""


class SourceErrorKind(StrEnum):
    """Why a source could not be had; the value is what tables and logs show."""

    NOT_FOUND = "not_found"
    """No such file, or HTTP 404/410."""
    UNSUPPORTED = "unsupported"
    """Nothing here knows how to read this address or file type."""
    PRIVATE_OR_REMOVED = "private_or_removed"
    LOGIN_OR_AGE = "login_or_age"
    GEO_BLOCKED = "geo_blocked"
    BOT_CHECK = "bot_check"
    """The site takes this machine for a bot or limits its rate."""
    NETWORK = "network"
    TIMEOUT = "timeout"
    """Our own deadline passed without enough data."""
    EXPIRED_OR_FORBIDDEN = "expired_or_forbidden"
    """HTTP 401/403: the address has expired or needs rights."""
    TOO_LARGE = "too_large"
    NO_FORMAT = "no_format"
    """The page is known but offers no format that can be downloaded."""
    DRM = "drm"
    LIVE = "live"
    """A live or not yet started stream."""
    PLAYLIST = "playlist"
    """A playlist or channel was named without asking for its entries."""
    EMPTY = "empty"
    """A folder or playlist without anything to analyze."""
    NESTED = "nested"
    """A folder whose subfolders alone hold something to analyze, named without asking for them."""
    REJECTED = "rejected"
    """A filter of the batch leaves it out."""
    OTHER = "other"


class SourceError(AnalyzerError):
    """What the user named could not be found or fetched.

    Attributes:
        kind: Why, one of `SourceErrorKind`.
        source: What the user named, or the address of the playlist entry.
        retry: Whether trying again later can help.
        retry_after_s: How long the server wants to be left alone, in seconds; None where it does not say.
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
        # What a worker process raises is sent to the one that waits for it.
        return partial(type(self), **vars(self)), self.args


class MediaErrorKind(StrEnum):
    """Why a fetched file cannot be analyzed."""

    EMPTY = "empty"
    NOT_MEDIA = "not_media"
    """Neither a picture nor a video in a format of the allow-list."""
    NO_VIDEO = "no_video"
    """Audio only, perhaps with a cover picture."""
    NO_FRAMES = "no_frames"
    DAMAGED = "damaged"
    """The index is missing, or too many packets are bad."""
    TOO_LARGE = "too_large"
    """More pixels than the limit."""
    CODEC = "codec"
    """The video's codec is not on the allow-list or not built in."""


class MediaError(AnalyzerError):
    """A file was fetched but cannot be read as pictures.

    Attributes:
        kind: Why, one of `MediaErrorKind`.
    """

    def __init__(self, message: str, *, kind: MediaErrorKind) -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), kind=self.kind), self.args


class ModelError(AnalyzerError):
    """A network is missing, damaged, or does not fit what is asked of it.

    Attributes:
        no_memory: It found too little memory.
    """

    def __init__(self, message: str, *, no_memory: bool = False) -> None:
        super().__init__(message)
        self.no_memory = no_memory

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), no_memory=self.no_memory), self.args


class OutputError(AnalyzerError):
    """Results could not be written: no such folder, no right, no space.

    Attributes:
        no_space: The disk is full, or the user's share of it.
    """

    def __init__(self, message: str, *, no_space: bool = False) -> None:
        super().__init__(message)
        self.no_space = no_space

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), no_space=self.no_space), self.args


def is_full(error: OSError) -> bool:
    """Whether a disk, or the user's share of it, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


class CrashError(AnalyzerError):
    """A process that analyzed ended unexpectedly."""


class StoppedError(AnalyzerError):
    """The analysis was asked to end: what is committed is kept, and the same call goes on from there."""


class LedgerError(AnalyzerError):
    """The ledger of a batch cannot be used.

    Attributes:
        temporary: Another batch works with it, or the disk is full: the same command may succeed later.
    """

    def __init__(self, message: str, *, temporary: bool = False) -> None:
        super().__init__(message)
        self.temporary = temporary


def unexpected(error: BaseException) -> AnalyzerError:
    """An unforeseen error as a sentence; it is logged with its traceback."""
    import logging

    logging.getLogger(__name__).error("unexpected error", exc_info=error)
    what = error.strerror if isinstance(error, OSError) and error.strerror else repr(error)
    failure = AnalyzerError(f"the analysis failed unexpectedly ({what}): please report it")
    failure.__cause__ = error
    return failure
