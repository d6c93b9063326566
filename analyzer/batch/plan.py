"""Plan a batch run without doing it: which videos it would analyze, and how long that would take."""

from __future__ import annotations

import datetime
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

from analyzer.batch.config import Filters, Jobs, Source
from analyzer.batch.context import default_fetcher, origin_of
from analyzer.batch.executors.base import FetcherMaker
from analyzer.batch.executors.choice import expected_slots
from analyzer.batch.ledger import Known, Ledger, State, is_over
from analyzer.errors import AnalyzerError
from analyzer.settings import Settings
from analyzer.sources.resolve import Fetcher
from analyzer.sources.types import Item, LeftOut
from analyzer.util.text import well_formed
from analyzer.util.urls import without_login
from analyzer.vision.selection import models_hash

__all__ = ["Excluded", "Plan", "Planned", "planned"]

_NO_FILTERS = Filters()
_TOGETHER = 500
"""Videos that the ledger is asked about at a time."""


class Planned(NamedTuple):
    """A video that a batch run would analyze."""

    source: str
    title: str | None
    state: State
    """Its present state; `State.NEW` also if the ledger does not know it."""
    duration_s: float | None
    estimate_s: float | None
    """How long it would take, in seconds; None: nothing is known about earlier videos."""


class Excluded(NamedTuple):
    """A video that the filters exclude."""

    source: str
    reason: str


@dataclass
class Plan:
    """What a batch run would do, without the videos, which may be a million."""

    videos: int = 0
    """How many it would analyze."""
    known: int = 0
    """Listed videos that are not due: done, abandoned, skipped, or to be tried again later."""
    excluded: int = 0
    """Videos that the filters exclude."""
    failed: list[tuple[str, str]] = field(default_factory=list)
    """Sources that cannot be listed, and why."""
    left_out: list[LeftOut] = field(default_factory=list)
    """What folders hold besides, which other settings would list."""
    places: int | None = 1
    """Workers that would analyze videos in parallel; None: as many as the cluster has room for."""
    past: int = 0
    """How many finished videos the estimate is based on."""
    estimated: int = 0
    """Videos with an estimate."""
    estimated_s: float = 0.0
    """The sum of these estimates, in seconds."""

    @property
    def estimate_s(self) -> float | None:
        """How long everything would take, in seconds; None if that is not known.

        Where the number of workers is not known, for one worker.
        """
        if not self.estimated:
            return None if self.videos else 0.0
        mean_s = self.estimated_s / self.estimated
        rest_s = (self.videos - self.estimated) * mean_s
        return (self.estimated_s + rest_s) / min(self.places or 1, self.videos)


@dataclass(frozen=True)
class _Asked:
    """What is the same for all sources with the same settings."""

    settings: Settings
    fetcher: Fetcher
    hashes: tuple[str, str]
    """Of the settings and the models."""
    rates: _Rates
    seen: set[str] = field(default_factory=set)
    """Identities of the videos that were listed with these settings."""


def planned(jobs: Jobs, plan: Plan, *, fetchers: FetcherMaker | None = None) -> Iterator[Planned | Excluded]:
    """List the sources and compare them with the ledger; nothing is changed or downloaded.

    Filters are applied as far as the lists allow: what only a video's page says may exclude more.

    Args:
        jobs: What to do.
        plan: A new plan, whose fields are right when everything was yielded.
        fetchers: Makes what lists.

    Raises:
        LedgerError: The ledger cannot be used.
    """
    plan.places = expected_slots(jobs)
    make = fetchers or default_fetcher
    with Ledger(jobs.ledger, read_only=True) as ledger:

        @cache
        def asked(result_hash: str, models: str) -> tuple[_Rates, set[str]]:
            return _Rates(ledger.rates(result_hash) or ledger.rates()), set()

        @cache
        def of(settings: Settings) -> _Asked:
            hashes = settings.result_hash(), models_hash(settings)
            return _Asked(settings, make(settings, lambda progress: None), hashes, *asked(*hashes))

        each: _Asked | None = None
        for source in jobs.sources:
            if each is None or source.settings is not each.settings:  # a list may have a million sources
                each = of(source.settings)
            plan.past = max(plan.past, each.rates.count)
            try:
                yield from _of_source(source, each, ledger, plan)
            except AnalyzerError as error:
                plan.failed.append((without_login(well_formed(source.name)), str(error)))


def _of_source(source: Source, asked: _Asked, ledger: Ledger, plan: Plan) -> Iterator[Planned | Excluded]:
    taken = 0
    moment = datetime.datetime.now(datetime.UTC)
    filters = None if source.filters == _NO_FILTERS else source.filters
    for some in _listed(source, asked, ledger, plan):
        known = ledger.known_of(some, *asked.hashes) if some else {}
        for identity, item in some.items():
            found = _judged(filters, item, known.get(identity), moment, asked.rates)
            if found is None:
                plan.known += 1
                continue
            if isinstance(found, Planned):
                taken += 1
                plan.videos += 1
                if found.estimate_s is not None:
                    plan.estimated += 1
                    plan.estimated_s += found.estimate_s
            else:
                plan.excluded += 1
            yield found
        if source.max_per_run is not None and taken >= source.max_per_run:
            return


def _listed(source: Source, asked: _Asked, ledger: Ledger, plan: Plan) -> Iterator[dict[str, Item]]:
    """List the videos of a source that were not listed before, by their identities, some at a time.

    Those that the source itself has brought into the ledger, and that are over, are only counted.
    """
    # No more is listed than needed: each page of a channel is a request.
    most = _TOGETHER if source.max_per_run is None else 1
    fetcher, seen = asked.fetcher, asked.seen
    # Of an address in a list of a million, `known_of` tells the same.
    over = ledger.over(origin_of(source), *asked.hashes) if source.settings.playlist else {}
    some: dict[str, Item] = {}
    try:
        for known, item in fetcher.identified(source.name, over=over, on_left_out=plan.left_out.append):
            if item is not None and item.error is not None:
                plan.failed.append((without_login(well_formed(item.source)), str(item.error)))
                continue
            identity = known
            if identity is None:
                assert item is not None
                identity = fetcher.identify(item)
            if identity in seen:
                continue
            seen.add(identity)
            if item is None or identity in over:
                plan.known += 1
                continue
            some[identity] = item
            if len(some) >= most:
                yield some
                some = {}
    except AnalyzerError:
        yield some
        raise
    yield some


def _judged(
    filters: Filters | None, item: Item, row: Known | None, moment: datetime.datetime, rates: _Rates
) -> Planned | Excluded | None:
    """What is to be done with a video; None: nothing, it is known."""
    if row is not None and is_over(row):
        return None
    shown = without_login(well_formed(item.source))
    title = item.title and well_formed(item.title)
    duration_s, uploaded = item.duration_s, item.uploaded
    if row is not None:
        title, duration_s = row.title or title, row.duration_s or duration_s
        uploaded = row.uploaded or uploaded
    if filters is not None:
        reason = filters.why_not(title=title, duration_s=duration_s, uploaded=uploaded, today=moment.date())
        if reason is not None:
            return Excluded(shown, reason)
    if row is not None and row.next_try is not None and row.next_try > moment.timestamp():
        return None
    estimate_s = rates.estimate(duration_s, item.paths)
    return Planned(shown, title, State.NEW if row is None else row.state, duration_s, estimate_s)


class _Rates:
    """How long videos took so far. Medians, so that single odd videos do not matter.

    >>> rates = _Rates([(6.0, 60.0, 1000), (12.0, 60.0, 1000), (5.0, 50.0, 1000)])
    >>> rates.estimate(60, ()), _Rates([(6.0, None, None)]).estimate(60, ())
    (6.0, 6.0)

    Args:
        rates: From `Ledger.rates`.
    """

    def __init__(self, rates: Sequence[tuple[float, float | None, int | None]]) -> None:
        self.count = len(rates)
        self._by_length = _median([work_s / length_s for work_s, length_s, _ in rates if length_s])
        self._by_size = _median([work_s / size for work_s, _, size in rates if size])
        self._each = _median([work_s for work_s, _, _ in rates])

    def estimate(self, duration_s: float | None, paths: Sequence[Path]) -> float | None:
        """Estimate seconds of work from the length, else the size, else what videos took so far."""
        if duration_s is not None and self._by_length is not None:
            return duration_s * self._by_length
        if paths and self._by_size is not None:
            return sum(path.stat().st_size for path in paths) * self._by_size
        return self._each


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None
