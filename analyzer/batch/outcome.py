"""How a batch run went."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Outcome"]


@dataclass
class Outcome:
    """How a night went."""

    reason: str = "finished"
    """``finished``, ``stopped``, ``time_budget``, ``no_space``, ``ledger``: it was held or could not be
    written for the moment, or ``broken``: nothing could be analyzed."""
    error: str | None = None
    """Why it ended early, in a sentence."""
    done: int = 0
    incomplete: int = 0
    """Of the done ones: those that could be read only in part."""
    skipped: int = 0
    filtered: int = 0
    """Of the skipped ones: those that a filter leaves out."""
    copies: int = 0
    """Files with the content of another one that is due: they are not analyzed once more."""
    recovered: int = 0
    """Attempts that crashed tonight, of videos that are done all the same."""
    unreported: int = 0
    """Of the done ones: those whose report could not be written."""
    undrawn: int = 0
    """Of the done ones: those whose annotated video could not be made."""
    failed: int = 0
    """To be tried again."""
    abandoned: int = 0
    """Given up: only ``batch retry`` tries them again."""
    left: int = 0
    """Known and due, but not begun or not finished."""
    sources_failed: int = 0
    """Sources that could not be listed, or only in part."""
    seconds: float = 0.0
    people: int = 0
    """On screen in the runs that were done."""
    video_s: float = 0.0
    """Seconds of video that were done."""
    runs: list[dict[str, Any]] = field(default_factory=list)
    """Of each video that was done: `video`, `source`, `title`, `run` (its folder), `complete`, `people`."""
    troubles: list[dict[str, Any]] = field(default_factory=list)
    """Of each video and source that failed: `video`, `source`, `title`, `kind`, `error`, `state`, `next_try`
    (ISO time in UTC)."""

    @property
    def well(self) -> bool:
        """Whether all that was to be done is done."""
        wrong = (
            self.failed,
            self.abandoned,
            self.sources_failed,
            self.incomplete,
            self.unreported,
            self.undrawn,
        )
        return self.error is None and not any(wrong)

    def figures(self) -> dict[str, Any]:
        """As JSON values, but for the runs, of which there may be many: the ledger lists them."""
        return {name: value for name, value in vars(self).items() if name != "runs"}

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return dict(vars(self))
