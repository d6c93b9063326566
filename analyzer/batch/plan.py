"""Plan a batch run without doing it: which videos it would analyze, and how long that would take."""

from __future__ import annotations

import datetime
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analyzer.batch.config import Jobs, Source
from analyzer.batch.context import FetcherMaker, default_fetcher
from analyzer.batch.executors.choice import expected_slots
from analyzer.batch.ledger import Ledger, State
from analyzer.errors import AnalyzerError
from analyzer.sources.types import Item, LeftOut
from analyzer.util.text import well_formed
from analyzer.util.urls import host_of, without_login
from analyzer.vision.selection import models_hash

__all__ = ["Plan", "Planned", "make_plan"]

Rates = Sequence[tuple[float, float | None, int | None]]


@dataclass(frozen=True)
class Planned:
    """A video that a batch run would analyze."""

    source: str
    title: str | None
    state: State
    """Its present state; `State.NEW` also if the ledger does not know it."""
    duration_s: float | None
    estimate_s: float | None
    """How long it would take, in seconds; None: nothing is known about earlier videos."""


@dataclass
class Plan:
    """What a batch run would do."""

    videos: list[Planned] = field(default_factory=list)
    known: int = 0
    """Listed videos that are not due: done, abandoned, skipped, or to be tried again later."""
    rejected: list[tuple[str, str]] = field(default_factory=list)
    """Source and reason of videos that the filters exclude."""
    failed: list[tuple[str, str]] = field(default_factory=list)
    """Sources that cannot be listed, and why."""
    left_out: list[LeftOut] = field(default_factory=list)
    """What folders hold besides, which other settings would list."""
    places: int | None = 1
    """Workers that would analyze videos in parallel; None: as many as the cluster has room for."""
    past: int = 0
    """How many finished videos the estimate is based on."""

    @property
    def estimate_s(self) -> float | None:
        """How long everything would take, in seconds; None if that is not known.

        Where the number of workers is not known, for one worker.
        """
        known = [one.estimate_s for one in self.videos if one.estimate_s is not None]
        if not known:
            return None if self.videos else 0.0
        unknown = len(self.videos) - len(known)
        return (sum(known) + unknown * statistics.fmean(known)) / min(self.places or 1, len(self.videos))

    def document(self) -> dict[str, Any]:
        """The plan as JSON values."""
        return {
            "videos": [vars(one) for one in self.videos],
            "known": self.known,
            "rejected": [{"source": source, "reason": reason} for source, reason in self.rejected],
            "failed": [{"source": source, "error": error} for source, error in self.failed],
            "left_out": [vars(one) for one in self.left_out],
            "workers": self.places,
            "estimate_s": self.estimate_s,
            "past": self.past,
        }


def make_plan(jobs: Jobs, *, fetchers: FetcherMaker | None = None) -> Plan:
    """List the sources and compare them with the ledger; nothing is changed or downloaded.

    Filters are applied as far as the lists allow: what only a video's page says may exclude more.

    Raises:
        LedgerError: The ledger cannot be used.
    """
    plan = Plan(places=expected_slots(jobs))
    make = fetchers or default_fetcher
    with Ledger(jobs.ledger, read_only=True) as ledger:
        seen: set[tuple[str, str]] = set()
        for source in jobs.sources:
            settings_hash = source.settings.result_hash()
            rates = ledger.rates(settings_hash) or ledger.rates()
            plan.past = max(plan.past, len(rates))
            fetcher, taken = make(source.settings, lambda progress: None), 0
            try:
                for item in fetcher.resolve(source.name, on_left_out=plan.left_out.append):
                    if source.max_per_run is not None and taken >= source.max_per_run:
                        break
                    if item.error is not None:
                        plan.failed.append((without_login(well_formed(item.source)), str(item.error)))
                        continue
                    identity = fetcher.identify(item)
                    if (identity, settings_hash) not in seen:
                        seen.add((identity, settings_hash))
                        planned = _planned(plan, ledger, source, item, identity)
                        if planned is not None:
                            plan.videos.append(_with_estimate(planned, item, rates))
                            taken += 1
            except AnalyzerError as error:
                plan.failed.append((without_login(well_formed(source.name)), str(error)))
    return plan


def _planned(plan: Plan, ledger: Ledger, source: Source, item: Item, identity: str) -> Planned | None:
    row = ledger.find(identity, source.settings.result_hash(), models_hash(source.settings))
    shown = without_login(well_formed(item.source))
    title = item.title and well_formed(item.title)
    duration_s, uploaded, state = item.duration_s, item.uploaded, State.NEW
    if row is not None:
        title, duration_s, uploaded = (
            row.title or title,
            row.duration_s or duration_s,
            row.uploaded or uploaded,
        )
        state = row.state
    today = datetime.datetime.now(datetime.UTC).date()
    reason = source.filters.why_not(title=title, duration_s=duration_s, uploaded=uploaded, today=today)
    if state in (State.DONE, State.ABANDONED) or (
        state is State.SKIPPED and row and row.error_kind == "duplicate"
    ):
        plan.known += 1
        return None
    if reason is not None:
        plan.rejected.append((shown, reason))
        return None
    now = datetime.datetime.now(datetime.UTC).timestamp()
    if row is not None and row.next_try is not None and row.next_try > now:
        plan.known += 1
        return None
    return Planned(shown, title, state, duration_s, None)


def _with_estimate(planned: Planned, item: Item, rates: Rates) -> Planned:
    size: int | None = None
    if host_of(planned.source) is None:
        size = sum(Path(path).stat().st_size for path in item.paths)
    estimate = _estimate(planned.duration_s, size, rates)
    return Planned(planned.source, planned.title, planned.state, planned.duration_s, estimate)


def _estimate(duration_s: float | None, size_bytes: int | None, rates: Rates) -> float | None:
    """Estimate seconds of work from the length, else the size, else what videos took so far.

    Medians, so that single odd videos do not matter.

    >>> _estimate(60, None, [(6.0, 60.0, 1000), (12.0, 60.0, 1000), (5.0, 50.0, 1000)])
    6.0
    >>> _estimate(None, 2000, [(6.0, None, 1000)]), _estimate(None, None, [(6.0, None, None)])
    (12.0, 6.0)
    """
    by_length = [work_s / length_s for work_s, length_s, _ in rates if length_s]
    if duration_s is not None and by_length:
        return duration_s * statistics.median(by_length)
    by_size = [work_s / size for work_s, _, size in rates if size]
    if size_bytes is not None and by_size:
        return size_bytes * statistics.median(by_size)
    return statistics.median([work_s for work_s, _, _ in rates]) if rates else None
