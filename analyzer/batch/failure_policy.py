"""When a failed video is tried again: one table."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

from analyzer.batch.config import Limits, Retry
from analyzer.errors import MediaErrorKind, SourceErrorKind

__all__ = [
    "ANALYSIS_KINDS",
    "CRASHES",
    "HOST_PAUSES",
    "Failure",
    "Phase",
    "delay_s",
]

_HOUR = 3600.0


_GROWTH = 4.0
"""Each pause is so many times as long: with the usual patience a night tries three times, so that an outage
of one night leaves attempts for another."""


CRASHES = {
    "crash": "the process that analyzed it died",
    "memory": "it needs more memory than [limits] memory_mb allows",
    "cpu_limit": "it took more processor time than [limits] cpu allows",
    "time_limit": "it took longer than [limits] wall allows",
    "stalled": "it made no progress for as long as [limits] stall allows",
    "interrupted": "the whole batch ended again and again while it was in work",
}
"""Kinds of failure that end the analyzing process, and what they mean."""


_COSTLY = frozenset({*CRASHES, "model"})
"""Kinds that are worth few attempts, and none of them another download."""


ANALYSIS_KINDS = frozenset({*MediaErrorKind, *_COSTLY, "no_space", "output", "start", "unexpected"})
"""All kinds of which an analysis can fail."""


HOST_PAUSES = (SourceErrorKind.BOT_CHECK,)
"""Kinds after which the whole host is left alone; the video is not blamed."""


# The site may have changed its mind, or yt-dlp may have learnt something, by another night.
_ANOTHER_NIGHT = {
    SourceErrorKind.EXPIRED_OR_FORBIDDEN: _HOUR,
    SourceErrorKind.NO_FORMAT: 12 * _HOUR,
    SourceErrorKind.LIVE: 6 * _HOUR,
}


_PATIENT = {SourceErrorKind.LIVE: 10}
"""How many times as many attempts these are worth."""


_RETRIED = frozenset({"output", "unexpected"})


class Phase(StrEnum):
    """What was being done when it failed."""

    FETCH = "fetch"
    LOAD = "load"
    """Networks were loaded: nothing of the video had been looked at."""
    ANALYZE = "analyze"


@dataclass(frozen=True)
class Failure:
    """Why an attempt failed."""

    kind: str
    """A `SourceErrorKind`, of `ANALYSIS_KINDS`, or ``too_large_for_disk``."""
    error: str
    """One sentence."""
    phase: Phase = Phase.FETCH
    retry: bool = False
    """Whether trying again can help, as far as the error itself knows."""
    retry_after_s: float | None = None
    """How long the server wants to be left alone."""

    @property
    def ends_batch(self) -> bool:
        """Whether it is no fault of the video, and all others would meet it too: the disk is full, or the
        networks cannot be loaded."""
        return self.kind == "no_space" or self.phase is Phase.LOAD

    @property
    def keeps_download(self) -> bool:
        """Whether another attempt can do with what was downloaded."""
        return self.kind in _COSTLY


def delay_s(failure: Failure, earlier: int, retry: Retry, limits: Limits) -> float | None:
    """How long to wait before the next attempt, in seconds; None: never again.

    Exponential with jitter: half of each pause is random, so that many do not come back at once.

    Args:
        failure: The last one.
        earlier: Fruitless attempts before that.
        retry: How patient to be.
        limits: After how many crashes to give up.
    """
    count = earlier + 1
    if failure.kind in _COSTLY:
        least, most = retry.base_s, limits.crashes
    elif failure.kind in _ANOTHER_NIGHT:
        kind = SourceErrorKind(failure.kind)
        least, most = max(retry.base_s, _ANOTHER_NIGHT[kind]), retry.attempts * _PATIENT.get(kind, 1)
    elif failure.retry or failure.kind in _RETRIED:
        least, most = retry.base_s, retry.attempts
    else:
        return None
    if count >= most:
        return None
    longest = min(max(retry.cap_s, least), least * _GROWTH ** min(earlier, 30))
    pause = random.uniform(0.5, 1.0) * longest
    return max(pause, failure.retry_after_s or 0.0)
