"""Lists the sources of a batch run: what is new goes into the ledger, what is due into the queue."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Mapping, MutableSequence
from pathlib import Path

from analyzer.batch.config import Source
from analyzer.batch.context import BatchContext, library_versions, origin_of
from analyzer.batch.failure_policy import Failure, Phase, failure_of
from analyzer.batch.failures import Failures
from analyzer.batch.folders import holds_something, remove_segments
from analyzer.batch.ledger import Listed, State, Work
from analyzer.batch.outcome import iso_time
from analyzer.batch.queue import Entry, WorkQueue
from analyzer.errors import AnalyzerError, LedgerError, SourceError, SourceErrorKind, StoppedError
from analyzer.events import FilesSkipped
from analyzer.sources.resolve import Fetcher
from analyzer.sources.types import Item
from analyzer.util.text import well_formed
from analyzer.util.urls import host_of, without_login

__all__ = ["Listing", "why_not"]

_REOPENED = ("filter", "replaced", "settings", "gone")
"""Kinds of skipped videos that are queued again once the reason no longer applies."""

_SETTLED_S = 10.0
"""A file of a watched folder that was changed more recently may still be written to."""


class Listing:
    """Lists sources.

    Args:
        context: Of the batch run.
        queue: Where videos go that are due.
        failures: Handles entries that have failed already, such as private videos.
        models: The hash of the models for each hash of settings.
    """

    def __init__(
        self, context: BatchContext, queue: WorkQueue, failures: Failures, models: Mapping[str, str]
    ) -> None:
        self._context = context
        self._queue = queue
        self._failures = failures
        self._models = models
        self._owners: dict[tuple[Path, str], Source] = {}
        """Of each folder and video: the first source that lists it."""
        self._paths: dict[str, str] = {}
        """Of each local file or folder that was listed in this run: its identity."""
        self._identities: set[str] = set()
        """These identities."""

    def list_all(self, sources: MutableSequence[Source]) -> None:
        """List sources and queue their videos in turns.

        Raises:
            StoppedError: A stop was requested.
            LedgerError: The ledger cannot be written.
        """
        start = len(self._queue)
        missing = [work for source in sources for work in self._resume(source)]
        for source in sources:
            self._context.check_stop()
            self._list(source)
        for work in missing:
            if work.id not in self._queue:
                remove_segments(self._context.ledger.get(work.id))
                reason = self._replaced(work) or "its file is gone, or holds something else now"
                self._context.skip(work, reason, "gone")
        for work in self._context.ledger.abandoned():
            if (replaced := self._replaced(work)) is not None:
                self._context.skip(work, replaced, "gone")
        self._queue.take_turns(sources, start)

    def forget(self, source: str) -> None:
        """Forget which videos a source has listed, by its name."""
        self._owners = {key: owner for key, owner in self._owners.items() if owner.name != source}

    def _replaced(self, work: Work) -> str | None:
        """What happened to a local file whose path now holds something else, and of which no copy is listed;
        None: nothing."""
        if self._paths.get(work.source, work.identity) == work.identity:
            return None
        if work.identity in self._identities:
            return None
        return "its images were changed" if Path(work.source).is_dir() else "the file was replaced"

    # -- unfinished work of earlier runs

    def _resume(self, source: Source) -> list[Work]:
        """Queue what earlier runs have not finished, whether or not the source still lists it.

        Returns:
            Local files that are gone, which may be listed by other names.
        """
        settings_hash = source.settings.result_hash()
        hashes = settings_hash, self._models[settings_hash]
        missing = []
        for work in self._context.ledger.unfinished([origin_of(source)]):
            resumable = work.standalone or work.video is not None
            if resumable and host_of(work.source) is None:
                if not holds_something(Path(work.source).parent):
                    continue  # a disk that is not mounted now may be mounted tomorrow
                if not self._is_there(source, work):
                    missing.append(work)
                    continue
            if (work.settings_hash, work.models_hash) == hashes and resumable and self._queue.is_open(source):
                self._owners.setdefault((source.folder, work.identity), source)
                if self._is_wanted(source, work):
                    self._queue.add(source, work, None)
        return missing

    def _is_there(self, source: Source, work: Work) -> bool:
        """Whether a local file or folder of images is unchanged."""
        try:
            fetcher = self._context.fetcher(source)
            return any(fetcher.identify(item) == work.identity for item in list(fetcher.resolve(work.source)))
        except SourceError:
            return False

    # -- sources

    def _list(self, source: Source) -> None:
        context, fetcher = self._context, self._context.fetcher(source)
        listed = queued = 0
        host = host_of(source.name)
        paused_until = context.ledger.paused_until(host) if host is not None else 0.0
        if paused_until > context.clock.time():  # not a failure of this source: the first one was reported
            until = iso_time(paused_until)
            context.log("source_deferred", source=origin_of(source), host=host, until=until)
            return
        try:
            for item in fetcher.resolve(
                source.name,
                on_wait=context.check_stop,
                on_left_out=lambda left: context.log(FilesSkipped.name, **vars(left)),
            ):
                if not self._queue.is_open(source):
                    break
                listed += 1
                try:
                    queued += self._add(source, fetcher, item)
                except AnalyzerError:
                    raise
                except Exception as error:  # noqa: BLE001 - one entry must not end the list
                    context.on_event.reraise()
                    self._failed(source, failure_of(error, Phase.FETCH))
        except (StoppedError, LedgerError):
            raise
        except Exception as error:  # noqa: BLE001 - one source must not end the others
            context.on_event.reraise()
            # An emptied folder is not a failure.
            if not (isinstance(error, SourceError) and error.kind is SourceErrorKind.EMPTY):
                self._failed(source, failure_of(error, Phase.FETCH))
        context.log("listed", source=origin_of(source), videos=listed, queued=queued)

    def _failed(self, source: Source, failure: Failure) -> None:
        host, origin = host_of(source.name), origin_of(source)
        if host is not None and failure.pauses_host:
            self._failures.pause_host(host, failure)
        error = failure.error.replace(source.name, origin)  # messages quote the source
        self._context.tally.source_failed(origin, failure.kind, error)
        self._context.log("source_failed", source=origin, kind=failure.kind, error=error)

    def _add(self, source: Source, fetcher: Fetcher, item: Item) -> bool:
        """Enter a listed video into the ledger; returns whether it was queued."""
        context = self._context
        if item.error is not None and (item.list_broke or item.error.retry):
            self._failed(source, failure_of(item.error, Phase.FETCH))
            return False
        if source.watched and not self._is_settled(item):
            context.log("still_changing", source=well_formed(item.source))
            return False
        try:
            identity = fetcher.identify(item)
        except SourceError as error:  # a file that was removed since it was listed
            self._failed(source, failure_of(error, Phase.FETCH))
            return False
        shown = without_login(well_formed(item.source))
        settings_hash = source.settings.result_hash()
        owner = self._owners.setdefault((source.folder, identity), source)
        if owner.settings.result_hash() != settings_hash:
            # Two runs of one video in one folder would replace each other in every batch run.
            message = (
                f"{shown} is also listed by {origin_of(owner)}, with other settings and the same folder: "
                "give one of them `into`"
            )
            self._failed(source, Failure("clash", message))
            return False
        listed = Listed(
            identity=identity,
            settings_hash=settings_hash,
            models_hash=self._models[settings_hash],
            origin=origin_of(source),
            source=shown,
            standalone=item.standalone and shown == item.source,
            folder=source.folder,
            title=item.title and well_formed(item.title),
            uploaded=item.uploaded,
            duration_s=item.duration_s,
        )
        work, created = context.ledger.add(listed)
        if created:
            context.log("found", work.id, source=work.source, title=work.title)
        if item.paths and shown not in self._paths:
            if work.id in self._queue and identity in self._identities:
                context.tally.copy()
                context.log("copy", work.id, source=shown)
            self._paths[shown] = identity
            self._identities.add(identity)
        if item.error is not None:
            if created:
                context.ledger.begin(work.id, library_versions())
                self._failures.handle(Entry(work, source, item, 0), failure_of(item.error, Phase.FETCH))
            return False
        return self._is_wanted(source, work) and self._queue.add(source, work, item)

    def _is_settled(self, item: Item) -> bool:
        newest = self._context.clock.time() - _SETTLED_S
        with contextlib.suppress(OSError):
            return all(path.stat().st_mtime <= newest for path in item.paths)
        return False

    def _is_wanted(self, source: Source, work: Work) -> bool:
        """Whether a video is to be analyzed, by its state and today's filters."""
        reopened = work.state is State.SKIPPED and work.error_kind in _REOPENED
        if work.state in (State.DONE, State.ABANDONED) or (work.state is State.SKIPPED and not reopened):
            return False
        reason = why_not(source, work, self._context.clock.time())
        if reason is not None:
            if work.state is not State.SKIPPED:
                self._context.skip(work, reason, "filter")
            return False
        if reopened:
            self._context.ledger.reopen(work.id)
        return True


def why_not(source: Source, work: Work, now: float) -> str | None:
    """Why a source's filters exclude a video; None: they do not, as far as is known.

    A local file has no date of upload: the date of its last change counts.

    Args:
        source: The source.
        work: The video's row.
        now: Seconds since 1970.
    """
    uploaded = work.uploaded
    if uploaded is None and host_of(work.source) is None:
        with contextlib.suppress(OSError):
            uploaded = _date(Path(work.source).stat().st_mtime).isoformat()
    return source.filters.why_not(
        title=work.title, duration_s=work.duration_s, uploaded=uploaded, today=_date(now)
    )


def _date(moment: float) -> datetime.date:
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).date()
