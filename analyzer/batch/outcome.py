"""How a batch run went, and what adds it up."""

from __future__ import annotations

import datetime
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analyzer.batch.ledger import State, Work
from analyzer.batch.protocol import RunFacts

__all__ = ["Outcome", "Tally", "iso_time"]


@dataclass
class Outcome:
    """How a batch run went."""

    reason: str = "finished"
    """``finished``, ``stopped``, ``time_budget``, ``no_space``, ``ledger``: it was locked or could not be
    written, ``cluster``: it did not answer any more, or ``broken``: nothing could be analyzed."""
    error: str | None = None
    """Why it ended early, in a sentence."""
    done: int = 0
    incomplete: int = 0
    """Of the done ones: those that could be read only in part."""
    skipped: int = 0
    filtered: int = 0
    """Of the skipped ones: those that a filter excludes."""
    copies: int = 0
    """Files with the same content as another one that is due: they are not analyzed again."""
    recovered: int = 0
    """Crashed attempts at videos that were done in the end."""
    unreported: int = 0
    """Of the done ones: those whose report could not be written."""
    undrawn: int = 0
    """Of the done ones: those whose annotated video could not be made."""
    failed: int = 0
    """Will be tried again."""
    abandoned: int = 0
    """Will not be tried again, unless `batch retry` asks for it."""
    left: int = 0
    """Due, but not begun or not finished."""
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
        """Whether everything that was due is done."""
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
        """As JSON values, without the runs, which may be many: the ledger lists them."""
        return {name: value for name, value in vars(self).items() if name != "runs"}

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return dict(vars(self))


class Tally:
    """Adds up the outcome of a batch run; for each video the last result counts."""

    def __init__(self) -> None:
        self.outcome = Outcome()
        self._crashes: Counter[int] = Counter()
        """Crashed attempts of each video."""
        self._troubles: dict[int, dict[str, Any]] = {}
        """The trouble of each video, by its row."""
        self._states: Counter[str] = Counter()
        """Their states."""
        self._list_troubles: dict[int, dict[str, Any]] = {}
        """The trouble of each row that is a channel or playlist and no video."""
        self._failed_sources: set[str] = set()
        """Each source once, however many of its entries failed."""

    def end(self, reason: str, error: str | None = None) -> None:
        """Why the batch run ends early; the first reason counts."""
        if self.outcome.reason == "finished":
            self.outcome.reason, self.outcome.error = reason, error

    def crashed(self, work: Work) -> None:
        """An attempt has ended its process."""
        self._crashes[work.id] += 1

    def copy(self) -> None:
        """A file is a copy of another one that is due."""
        self.outcome.copies += 1

    def skipped(self, work: Work, kind: str) -> None:
        """A video is excluded, by a filter or for another reason."""
        self.clear(work)
        self.outcome.skipped += 1
        self.outcome.filtered += kind == "filter"

    def done(self, work: Work, run: Path, facts: RunFacts, report_error: str | None = None) -> None:
        """A run is finished, analyzed now or adopted."""
        outcome = self.outcome
        self.clear(work)
        outcome.done += 1
        outcome.recovered += self._crashes.pop(work.id, 0)
        outcome.incomplete += not facts.complete
        outcome.unreported += report_error is not None
        outcome.undrawn += facts.video_error is not None
        outcome.people += facts.counts["people"]
        outcome.video_s = round(outcome.video_s + facts.counts["analyzed_s"], 3)
        outcome.runs.append(
            {
                "video": work.id,
                "source": work.source,
                "title": facts.title or work.title,
                "run": str(run),
                "complete": facts.complete,
                "people": facts.counts["people"],
            }
        )
        wrong = {
            "incomplete": None if facts.complete else facts.incomplete_reason or "it was not read to its end",
            "video": facts.video_error and f"it has no annotated video: {facts.video_error}",
            "report": report_error and f"it has no report: {report_error}",
        }
        sentences = {kind: sentence for kind, sentence in wrong.items() if sentence}
        if sentences:
            self.failed(work, next(iter(sentences)), "; ".join(sentences.values()), State.DONE)

    def failed(
        self,
        work: Work,
        kind: str,
        error: str,
        state: State,
        next_try: float | None = None,
        *,
        is_list: bool = False,
    ) -> None:
        """Something is wrong with a video.

        Args:
            work: Its row.
            kind: Of failure, or ``incomplete``, ``video``, ``report`` where the run has a flaw.
            error: One sentence.
            state: Its state now.
            next_try: Seconds since 1970; None: never.
            is_list: Whether it is a channel or playlist that was named as a video: the source has failed.
        """
        self.clear(work)
        trouble: dict[str, Any] = {"source": work.source, "kind": kind, "error": error}
        trouble |= {
            "video": work.id,
            "title": work.title,
            "state": str(state),
            "next_try": iso_time(next_try),
        }
        if is_list:
            trouble |= {"video": None, "title": None, "state": "source"}
            self._list_troubles[work.id] = trouble
            self._failed_sources.add(work.source)
        else:
            self._troubles[work.id] = trouble
            self._states[trouble["state"]] += 1
        self.outcome.troubles.append(trouble)
        self._count()

    def source_failed(self, source: str, kind: str, error: str) -> None:
        """A source could not be listed, or only in part."""
        self._failed_sources.add(source)
        facts = {"video": None, "title": None, "state": "source", "next_try": None}
        self.outcome.troubles.append(facts | {"source": source, "kind": kind, "error": error})
        self._count()

    def clear(self, work: Work) -> None:
        """Forget the trouble of an earlier attempt."""
        as_list = self._list_troubles.pop(work.id, None)
        if as_list is not None:
            self._failed_sources.discard(work.source)
            self._remove(as_list)
        self._clear(work.id)

    def forget(self, id: int) -> None:
        """Forget a video that was deleted from the ledger."""
        self._clear(id)
        self.outcome.runs = [one for one in self.outcome.runs if one["video"] != id]

    def has_trouble(self, id: int) -> bool:
        """Whether the last attempt at a video failed."""
        return id in self._troubles

    def _clear(self, id: int) -> None:
        trouble = self._troubles.pop(id, None)
        if trouble is not None:
            self._states[trouble["state"]] -= 1
            self._remove(trouble)

    def _remove(self, trouble: dict[str, Any]) -> None:
        self.outcome.troubles = [one for one in self.outcome.troubles if one is not trouble]
        self._count()

    def _count(self) -> None:
        outcome = self.outcome
        outcome.failed, outcome.abandoned = self._states[State.FAILED], self._states[State.ABANDONED]
        outcome.sources_failed = len(self._failed_sources)


def iso_time(moment: float | None) -> str | None:
    """Seconds since 1970 as an ISO time in UTC."""
    if moment is None:
        return None
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).isoformat(timespec="seconds")
