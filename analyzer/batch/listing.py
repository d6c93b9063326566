"""Lists the sources of a batch run: what is new goes into the ledger, what is due into the queue."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Mapping, MutableSequence
from dataclasses import dataclass
from pathlib import Path

from analyzer.batch.config import Filters, Source
from analyzer.batch.context import BatchContext, library_versions, origin_of
from analyzer.batch.failure_policy import Failure, Phase, failure_of
from analyzer.batch.failures import Failures
from analyzer.batch.folders import holds_something, remove_segments
from analyzer.batch.ledger import Listed, State, Work, is_over
from analyzer.batch.outcome import iso_time
from analyzer.batch.queue import Entry, RowNumbers, WorkQueue
from analyzer.errors import AnalyzerError, LedgerError, SourceError, SourceErrorKind, StoppedError
from analyzer.events import FilesSkipped
from analyzer.settings import Settings
from analyzer.sources.resolve import Fetcher
from analyzer.sources.types import Item
from analyzer.util.text import well_formed
from analyzer.util.urls import host_of, without_login

__all__ = ["Listing", "why_not"]

_NO_FILTERS = Filters()

_SETTLED_S = 10.0
"""A file of a watched folder that was changed more recently may still be written to."""


@dataclass(frozen=True)
class _Listed:
    """A source, and what is the same for all of its videos."""

    source: Source
    origin: str
    fetcher: Fetcher
    hashes: tuple[str, str]
    """Of its settings and its models."""


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
        self._hashes_in: dict[Path, set[str]] = {}
        """Of each folder: the settings with which sources have listed videos for it."""
        self._owners = RowNumbers()
        """Of each row: the number of the first source that lists it, and 1."""
        self._further: dict[tuple[int, Path], Source] = {}
        """Of a row and each further folder: the first source that lists it for that."""
        self._sources: list[Source | None] = []
        """By number; None: it was forgotten."""
        self._numbers: dict[int, int] = {}
        """Of these, by `id`."""
        self._paths: dict[str, str] = {}
        """Of each local file or folder that was listed in this run: its identity."""
        self._identities: set[str] = set()
        """These identities."""
        self._settings: Settings | None = None
        """Of the source that was listed last, whose fetcher and hashes may serve the next one, too."""
        self._fetcher: Fetcher
        self._hashes: tuple[str, str]

    def list_all(self, sources: MutableSequence[Source]) -> None:
        """List sources and queue their videos in turns.

        Raises:
            StoppedError: A stop was requested.
            LedgerError: The ledger cannot be written.
        """
        # Each change of a row waits for the disk if it is committed alone.
        with self._context.ledger.together():
            unfinished = self._context.ledger.unfinished_origins()
            missing = [
                work
                for source in sources
                if origin_of(source) in unfinished
                for work in self._resume(self._listed(source))
            ]
            for source in sources:
                self._context.check_stop()
                self._list(self._listed(source))
            for work in missing:
                if work.id not in self._queue:
                    remove_segments(self._context.ledger.get(work.id))
                    gone = "its file is gone, or holds something else now"
                    self._context.skip(work, self._replaced(work.source, work.identity) or gone, "gone")
            if self._paths:
                for id, path, identity in list(self._context.ledger.abandoned()):
                    if (replaced := self._replaced(path, identity)) is not None:
                        self._context.skip(self._context.ledger.get(id), replaced, "gone")
        self._queue.take_turns(sources)

    def _listed(self, source: Source) -> _Listed:
        if self._settings is not source.settings:  # of a list of a million addresses they are the same
            self._settings, result_hash = source.settings, source.settings.result_hash()
            self._fetcher = self._context.fetcher(source)
            self._hashes = result_hash, self._models[result_hash]
        return _Listed(source, origin_of(source), self._fetcher, self._hashes)

    def forget(self, source: str) -> None:
        """Forget which videos a source has listed, by its name."""
        for number, each in enumerate(self._sources):
            if each is not None and each.name == source:
                self._sources[number] = None
                del self._numbers[id(each)]
        self._further = {key: each for key, each in self._further.items() if each.name != source}

    def _replaced(self, path: str, identity: str) -> str | None:
        """What happened to a local file whose path now holds something else, and of which no copy is listed;
        None: nothing."""
        if self._paths.get(path, identity) == identity:
            return None
        if identity in self._identities:
            return None
        return "its images were changed" if Path(path).is_dir() else "the file was replaced"

    # -- unfinished work of earlier runs

    def _resume(self, listed: _Listed) -> list[Work]:
        """Queue what earlier runs have not finished, whether or not the source still lists it.

        Returns:
            Local files that are gone, which may be listed by other names.
        """
        source = listed.source
        missing = []
        for work in self._context.ledger.unfinished(listed.origin):
            resumable = work.standalone or work.video is not None
            if resumable and host_of(work.source) is None:
                if not holds_something(Path(work.source).parent):
                    continue  # a disk that is not mounted now may be mounted tomorrow
                if not self._is_there(listed.fetcher, work):
                    missing.append(work)
                    continue
            known = (work.settings_hash, work.models_hash) == listed.hashes
            if known and resumable and self._queue.is_open(source):
                if self._other(listed, work.identity) is None:
                    self._own(source, work.id)
                if (wanted := self._wanted(source, work)) is not None:
                    self._queue.add(source, wanted, None)
        return missing

    def _own(self, source: Source, row: int) -> None:
        """Note that a source lists a video for its folder, unless another one has done so before."""
        first = self._first(row)
        if first is None:
            number = self._numbers.setdefault(id(source), len(self._sources))
            if number == len(self._sources):
                self._sources.append(source)
            self._owners[row] = number + 1
        elif first.folder != source.folder:
            self._further.setdefault((row, source.folder), source)

    def _first(self, row: int) -> Source | None:
        number = self._owners[row]
        return self._sources[number - 1] if number else None

    def _owner(self, row: int, folder: Path) -> Source | None:
        first = self._first(row)
        if first is not None and first.folder == folder:
            return first
        return self._further.get((row, folder))

    def _other(self, listed: _Listed, identity: str) -> Source | None:
        """The source that has listed a video for the same folder before, but with other settings."""
        if self._none_differs(listed):
            return None
        folder, own = listed.source.folder, listed.hashes[0]
        for work in self._context.ledger.of_identity(identity):
            owner = self._owner(work.id, folder)
            if owner is not None and work.settings_hash != own:
                return owner
        return None

    def _none_differs(self, listed: _Listed) -> bool:
        """Whether all sources so far that list videos for a source's folder have its settings."""
        hashes = self._hashes_in.setdefault(listed.source.folder, set())
        hashes.add(listed.hashes[0])
        return len(hashes) == 1

    @staticmethod
    def _is_there(fetcher: Fetcher, work: Work) -> bool:
        """Whether a local file or folder of images is unchanged."""
        try:
            return any(fetcher.identify(item) == work.identity for item in list(fetcher.resolve(work.source)))
        except SourceError:
            return False

    # -- sources

    def _list(self, source: _Listed) -> None:
        context, name = self._context, source.source.name
        listed = queued = 0
        host = host_of(name)
        paused_until = context.ledger.paused_until(host) if host is not None else 0.0
        if paused_until > context.clock.time():  # not a failure of this source: the first one was reported
            until = iso_time(paused_until)
            context.log("source_deferred", source=source.origin, host=host, until=until)
            return
        over = context.ledger.over(source.origin, *source.hashes)
        try:
            for identity, item in source.fetcher.identified(
                name,
                over=over if self._none_differs(source) else (),  # else who lists them, too, matters
                on_wait=self._wait,
                on_left_out=lambda left: context.log(FilesSkipped.name, **vars(left)),
            ):
                if not self._queue.is_open(source.source):
                    break
                listed += 1
                if item is None:
                    assert identity is not None
                    self._own(source.source, over[identity])
                    continue
                try:
                    queued += self._add(source, identity, item, over)
                except AnalyzerError:
                    raise
                except Exception as error:  # noqa: BLE001 - one entry must not end the list
                    context.on_event.reraise()
                    self._failed(source.source, failure_of(error, Phase.FETCH))
        except (StoppedError, LedgerError):
            raise
        except Exception as error:  # noqa: BLE001 - one source must not end the others
            context.on_event.reraise()
            # An emptied folder is not a failure.
            if not (isinstance(error, SourceError) and error.kind is SourceErrorKind.EMPTY):
                self._failed(source.source, failure_of(error, Phase.FETCH))
        context.log("listed", source=source.origin, videos=listed, queued=queued)

    def _wait(self) -> None:
        """While a server is waited for, others may write to the ledger."""
        self._context.ledger.commit()
        self._context.check_stop()

    def _failed(self, source: Source, failure: Failure) -> None:
        host, origin = host_of(source.name), origin_of(source)
        if host is not None and failure.pauses_host:
            self._failures.pause_host(host, failure)
        error = failure.error.replace(source.name, origin)  # messages quote the source
        self._context.tally.source_failed(origin, failure.kind, error)
        self._context.log("source_failed", source=origin, kind=failure.kind, error=error)

    def _add(self, listed: _Listed, identity: str | None, item: Item, over: Mapping[str, int]) -> bool:
        """Enter a listed video into the ledger; returns whether it was queued.

        Args:
            listed: Its source.
            identity: As `Fetcher.identified` yields it.
            item: The video.
            over: Of the source's videos that need no more work: the row of each identity.
        """
        context, source = self._context, listed.source
        if item.error is not None and (item.list_broke or item.error.retry):
            self._failed(source, failure_of(item.error, Phase.FETCH))
            return False
        if source.watched and not self._is_settled(item):
            context.log("still_changing", source=well_formed(item.source))
            return False
        try:
            identity = identity or listed.fetcher.identify(item)
        except SourceError as error:  # a file that was removed since it was listed
            self._failed(source, failure_of(error, Phase.FETCH))
            return False
        other = self._other(listed, identity)
        if other is not None:
            # Two runs of one video in one folder would replace each other in every batch run.
            message = (
                f"{_shown(item)} is also listed by {origin_of(other)}, with other settings and the same "
                "folder: give one of them `into`"
            )
            self._failed(source, Failure("clash", message))
            return False
        if identity in over:
            self._own(source, over[identity])
            self._note_path(item, identity, over[identity])
            return False
        work, created = self._entered(listed, item, identity)
        self._own(source, work.id)
        self._note_path(item, identity, work.id)
        if item.error is not None:
            if created:
                context.ledger.begin(work.id, library_versions())
                self._failures.handle(Entry(work, source, item), failure_of(item.error, Phase.FETCH))
            return False
        wanted = self._wanted(source, work)
        return wanted is not None and self._queue.add(source, wanted, item)

    def _entered(self, listed: _Listed, item: Item, identity: str) -> tuple[Work, bool]:
        """The row of a video, and whether it is new."""
        settings_hash, models_hash = listed.hashes
        shown = _shown(item)
        work, created = self._context.ledger.add(
            Listed(
                identity=identity,
                settings_hash=settings_hash,
                models_hash=models_hash,
                origin=listed.origin,
                source=shown,
                standalone=item.standalone and shown == item.source,
                folder=listed.source.folder,
                title=item.title and well_formed(item.title),
                uploaded=item.uploaded,
                duration_s=item.duration_s,
            )
        )
        if created:
            self._context.log("found", work.id, source=work.source, title=work.title)
        return work, created

    def _note_path(self, item: Item, identity: str, id: int) -> None:
        """Remember what a local path holds."""
        if item.paths and (shown := _shown(item)) not in self._paths:
            if id in self._queue and identity in self._identities:
                self._context.tally.copy()
                self._context.log("copy", id, source=shown)
            self._paths[shown] = identity
            self._identities.add(identity)

    def _is_settled(self, item: Item) -> bool:
        newest = self._context.clock.time() - _SETTLED_S
        with contextlib.suppress(OSError):
            return all(path.stat().st_mtime <= newest for path in item.paths)
        return False

    def _wanted(self, source: Source, work: Work) -> Work | None:
        """The row of a video that is to be analyzed, by its state and today's filters; None: it is not."""
        if is_over(work):
            return None
        reason = why_not(source, work, self._context.clock.time())
        if reason is not None:
            if work.state is not State.SKIPPED:
                self._context.skip(work, reason, "filter")
            return None
        if work.state is State.SKIPPED:
            self._context.ledger.reopen(work.id)
            return self._context.ledger.get(work.id)
        return work


def _shown(item: Item) -> str:
    return without_login(well_formed(item.source))


def why_not(source: Source, work: Work, now: float) -> str | None:
    """Why a source's filters exclude a video; None: they do not, as far as is known.

    A local file has no date of upload: the date of its last change counts.

    Args:
        source: The source.
        work: The video's row.
        now: Seconds since 1970.
    """
    if source.filters == _NO_FILTERS:
        return None
    uploaded = work.uploaded
    if uploaded is None and host_of(work.source) is None:
        with contextlib.suppress(OSError):
            uploaded = _date(Path(work.source).stat().st_mtime).isoformat()
    return source.filters.why_not(
        title=work.title, duration_s=work.duration_s, uploaded=uploaded, today=_date(now)
    )


def _date(moment: float) -> datetime.date:
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).date()
