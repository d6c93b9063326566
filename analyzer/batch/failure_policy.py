"""What went wrong, whether it counts, and what follows: all decisions about failures in one place."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

from analyzer.batch.config import BOT_PAUSE_CAP_S, Limits, Pace, Retry
from analyzer.errors import (
    AnalyzerError,
    CrashError,
    MediaError,
    MediaErrorKind,
    ModelError,
    OutputError,
    SourceError,
    SourceErrorKind,
    unexpected,
)

__all__ = [
    "ANALYSIS_KINDS",
    "CRASHES",
    "NO_SPACE_FOR_DOWNLOAD",
    "Action",
    "Decision",
    "Failure",
    "HostPause",
    "Phase",
    "decide",
    "delay_s",
    "failure_of",
    "host_pause",
]

_HOUR = 3600.0

_GROWTH = 4.0
"""Each delay is this many times the previous one: with the usual patience one batch run makes three attempts,
so that an outage of some hours leaves attempts for later runs."""


CRASHES = {
    "crash": "the process that analyzed it died",
    "memory": "it needs more memory than [limits] memory_mb allows",
    "cpu_limit": "it took more processor time than [limits] cpu allows",
    "time_limit": "it took longer than [limits] wall allows",
    "stalled": "it made no progress for as long as [limits] stall allows",
    "interrupted": "the whole batch ended again and again while it was in work",
    "lost": "the machines that analyzed it were lost again and again",
}
"""Kinds of failure that end the analyzing process, and what they mean."""

NO_SPACE_FOR_DOWNLOAD = "too_large_for_disk"
"""Kind of failure: the download alone would leave less free space than the reserve."""

_COSTLY = frozenset({*CRASHES, "model"})
"""Kinds that get few attempts, none of which downloads again."""

ANALYSIS_KINDS = frozenset({*MediaErrorKind, *_COSTLY, "no_space", "output", "start", "unexpected"})
"""All kinds of failure of an analysis."""

_HOST_PAUSES = frozenset({SourceErrorKind.BOT_CHECK})
"""Kinds after which nothing of the host is requested for a while."""


# By then the site may have changed, or yt-dlp may have been updated.
_LEAST_DELAYS_S = {
    SourceErrorKind.EXPIRED_OR_FORBIDDEN: _HOUR,
    SourceErrorKind.NO_FORMAT: 12 * _HOUR,
    SourceErrorKind.LIVE: 6 * _HOUR,
}

_MORE_ATTEMPTS = {SourceErrorKind.LIVE: 10}
"""Kinds that get a multiple of the configured attempts."""

_RETRIED = frozenset({"output", "unexpected"})


class Phase(StrEnum):
    """What was being done when it failed."""

    FETCH = "fetch"
    LOAD = "load"
    """Models were being loaded: nothing of the video had been read."""
    ANALYZE = "analyze"


@dataclass(frozen=True)
class Failure:
    """Why an attempt failed."""

    kind: str
    """A `SourceErrorKind`, one of `ANALYSIS_KINDS`, or `NO_SPACE_FOR_DOWNLOAD`."""
    error: str
    """One sentence."""
    phase: Phase = Phase.FETCH
    retry: bool = False
    """Whether another attempt can help, as far as the error itself says."""
    retry_after_s: float | None = None
    """How long the server asked to wait."""

    @property
    def ends_batch(self) -> bool:
        """Whether every other video would fail in the same way: the disk is full, or the models cannot be
        loaded."""
        return self.kind == "no_space" or self.phase is Phase.LOAD

    @property
    def keeps_download(self) -> bool:
        """Whether another attempt can use what was downloaded."""
        return self.kind in _COSTLY

    @property
    def pauses_host(self) -> bool:
        """Whether the site itself refuses: nothing of it is requested for a while."""
        return self.kind in _HOST_PAUSES or bool(self.retry_after_s)


class Action(StrEnum):
    """What follows a failure."""

    END_BATCH = "end_batch"
    """Begin nothing more; the attempt does not count."""
    PAUSE_HOST = "pause_host"
    """Request nothing of the host for a while; the attempt does not count."""
    POSTPONE = "postpone"
    """Try again later; the attempt does not count."""
    RETRY = "retry"
    """Try again later; the attempt counts."""
    ABANDON = "abandon"
    """Never try again, unless a user asks for it."""


@dataclass(frozen=True)
class Decision:
    """What follows a failure."""

    action: Action
    delay_s: float | None = None
    """How long to wait before the next attempt, where that follows from the failure alone."""


def decide(failure: Failure, earlier: int, retry: Retry, limits: Limits, *, remote: bool) -> Decision:
    """What follows a failure.

    Args:
        failure: The last one.
        earlier: Consecutive failures before that.
        retry: How patient to be.
        limits: After how many crashes to abandon a video.
        remote: Whether the video comes from a host.
    """
    if failure.ends_batch:
        return Decision(Action.END_BATCH)
    if remote and failure.pauses_host:
        return Decision(Action.PAUSE_HOST)
    if failure.kind == NO_SPACE_FOR_DOWNLOAD:
        return Decision(Action.POSTPONE, retry.base_s)
    delay = delay_s(failure, earlier, retry, limits)
    return Decision(Action.ABANDON) if delay is None else Decision(Action.RETRY, delay)


def delay_s(failure: Failure, earlier: int, retry: Retry, limits: Limits) -> float | None:
    """How long to wait before the next attempt, in seconds; None: never again.

    Exponential with jitter: half of each delay is random, so that retries are spread.

    Args:
        failure: The last one.
        earlier: Consecutive failures before that.
        retry: How patient to be.
        limits: After how many crashes to abandon a video.
    """
    count = earlier + 1
    if failure.kind in _COSTLY:
        least, most = retry.base_s, limits.crashes
    elif failure.kind in _LEAST_DELAYS_S:
        kind = SourceErrorKind(failure.kind)
        least, most = max(retry.base_s, _LEAST_DELAYS_S[kind]), retry.attempts * _MORE_ATTEMPTS.get(kind, 1)
    elif failure.retry or failure.kind in _RETRIED:
        least, most = retry.base_s, retry.attempts
    else:
        return None
    if count >= most:
        return None
    longest = min(max(retry.cap_s, least), least * _GROWTH ** min(earlier, 30))
    delay = random.uniform(0.5, 1.0) * longest
    return max(delay, failure.retry_after_s or 0.0)


@dataclass(frozen=True)
class HostPause:
    """How long nothing of a host is requested, in seconds: see `Ledger.pause_host`."""

    first_s: float
    least_s: float
    cap_s: float = BOT_PAUSE_CAP_S


def host_pause(failure: Failure, retry: Retry, pace: Pace) -> HostPause:
    """How long to request nothing of a host after a failure that pauses it."""
    if failure.retry_after_s is None:
        return HostPause(pace.bot_pause_s, 0.0)
    # The host has named a delay; one that always says "at once" must still not be asked in a loop.
    return HostPause(max(failure.retry_after_s, retry.base_s), failure.retry_after_s)


def failure_of(error: BaseException, phase: Phase) -> Failure:
    """The failure that an exception means. A failure to load the models is not the video's."""
    no_memory = isinstance(error, MemoryError) or (isinstance(error, ModelError) and error.no_memory)
    kind = "unexpected"
    match error:
        case SourceError() if phase is Phase.FETCH:
            wait_s = error.retry_after_s
            return Failure(str(error.kind), str(error), phase, retry=error.retry, retry_after_s=wait_s)
        case _ if no_memory:
            kind = "memory"
        case MediaError():
            kind = str(error.kind)
        case OutputError():
            kind = "no_space" if error.no_space else "output"
        case ModelError():
            kind = "model"
        case CrashError():
            kind = "crash"
    if phase is Phase.LOAD and kind not in ("no_space", "output"):
        return _not_loaded(error, kind)
    if no_memory or isinstance(error, CrashError):  # a crash comes with advice for one command
        return Failure(kind, CRASHES[kind], phase)
    return Failure(kind, _sentence(error), phase)


def _not_loaded(error: BaseException, kind: str) -> Failure:
    if kind == "model":
        # Inference engines do not always say that they lack memory.
        hint = " (or [limits] memory_mb is too little)" if isinstance(error.__cause__, RuntimeError) else ""
        return Failure("model", f"{error}{hint}", Phase.LOAD)
    if kind == "memory":
        message = "the models alone need more memory than [limits] memory_mb allows"
    else:
        message = (
            f"the analyzing process cannot start ({error!r}): raise [limits] memory_mb, or run doctor to see "
            "the reason"
        )
    return Failure("start", message, Phase.LOAD)


def _sentence(error: BaseException) -> str:
    return str(error if isinstance(error, AnalyzerError) else unexpected(error))
