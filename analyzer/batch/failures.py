"""Carries out what `failure_policy` decides: in the ledger, the queue, the outcome and the log."""

from __future__ import annotations

from collections.abc import Mapping

from analyzer.batch.config import Source
from analyzer.batch.context import BatchContext
from analyzer.batch.failure_policy import CRASHES, Action, Decision, Failure, decide, host_pause
from analyzer.batch.folders import remove_segments
from analyzer.batch.ledger import State, Work
from analyzer.batch.outcome import iso_time
from analyzer.batch.queue import Entry, WorkQueue
from analyzer.util.urls import host_of

__all__ = ["Failures", "state_before"]


class Failures:
    """Handles failed attempts.

    Args:
        context: Of the batch run.
        queue: Where videos go that are tried again in this run.
        sources: All sources of the run, by their names as they are stored; may grow.
    """

    def __init__(self, context: BatchContext, queue: WorkQueue, sources: Mapping[str, Source]) -> None:
        self._context = context
        self._queue = queue
        self._sources = sources

    def handle(self, entry: Entry, failure: Failure, *, busy: bool = True) -> None:
        """Handle a failed attempt.

        Args:
            entry: The video.
            failure: What went wrong.
            busy: Whether other videos are in work, which give back disk space when they are done.
        """
        context = self._context
        work, retry, limits = context.ledger.get(entry.work.id), context.jobs.retry, context.jobs.limits
        remote = entry.host is not None
        decision = decide(failure, work.consecutive_failures, retry, limits, remote=remote)
        match decision.action:
            case Action.END_BATCH:
                self._end_batch(entry, work, failure)
            case Action.PAUSE_HOST:
                assert entry.host is not None
                until = self.pause_host(entry.host, failure)
                context.ledger.fail(work.id, failure.kind, failure.error, next_try=until, counted=False)
                self._report(entry, failure, State.FAILED, until)
            case Action.POSTPONE:
                next_try = self._time_of(decision)
                context.ledger.fail(work.id, failure.kind, failure.error, next_try=next_try, counted=False)
                # With no other video in work, there will not be more space in this run.
                self._report(entry, failure, State.FAILED, next_try, retry_now=busy)
            case Action.RETRY | Action.ABANDON:
                self._count(entry, failure, self._time_of(decision))

    def pause_host(self, host: str, failure: Failure) -> float:
        """Request nothing of a host for a while; returns until when, in seconds since 1970."""
        context, pause = self._context, host_pause(failure, self._context.jobs.retry, self._context.jobs.pace)
        until = context.ledger.pause_host(
            host, failure.error, first_s=pause.first_s, cap_s=pause.cap_s, least_s=pause.least_s
        )
        self._queue.pause_host(host, until)
        context.log("host_paused", host=host, until=iso_time(until), kind=failure.kind)
        return until

    def interrupted_too_often(self, work: Work) -> None:
        """Abandon a video during which the whole batch was killed again and again."""
        kind = "interrupted"
        error = CRASHES[kind]
        self._context.ledger.fail(work.id, kind, error, next_try=None)
        remove_segments(self._context.ledger.get(work.id))
        self._context.log("abandoned", work.id, source=work.source, title=work.title, kind=kind, error=error)
        self._context.tally.failed(work, kind, error, State.ABANDONED, is_list=self._is_list(work))

    def _time_of(self, decision: Decision) -> float | None:
        return None if decision.delay_s is None else self._context.clock.time() + decision.delay_s

    def _end_batch(self, entry: Entry, work: Work, failure: Failure) -> None:
        context = self._context
        state = State.DOWNLOADED if work.video is not None else state_before(work)
        context.ledger.release(work.id, state, outcome="deferred")
        self._queue.put_back(entry)  # left for another run
        if context.stop.requested:  # it failed because it was stopped
            context.end("stopped")
        context.end("no_space" if failure.kind == "no_space" else "broken", failure.error)
        context.log("deferred", work.id, kind=failure.kind, error=failure.error)

    def _count(self, entry: Entry, failure: Failure, next_try: float | None) -> None:
        context, work = self._context, entry.work
        if failure.kind in CRASHES:
            context.tally.crashed(work)
        keeps_download = failure.keeps_download and next_try is not None
        state = context.ledger.fail(
            work.id, failure.kind, failure.error, next_try=next_try, keep_download=keeps_download
        )
        if not keeps_download:
            context.remove_download(work.id)
        if state is State.ABANDONED:
            remove_segments(context.ledger.get(work.id))
        self._report(entry, failure, state, next_try)

    def _report(
        self, entry: Entry, failure: Failure, state: State, next_try: float | None, *, retry_now: bool = True
    ) -> None:
        """Report a failure, and queue the video again if its next try is due in this run."""
        context, work = self._context, self._context.ledger.get(entry.work.id)
        soon = next_try is not None and next_try <= context.clock.time() + context.jobs.retry.patience_s
        will_retry = retry_now and soon and not context.ending
        context.log(
            str(state),
            work.id,
            source=work.source,
            title=work.title,
            kind=failure.kind,
            error=failure.error,
            attempt=work.attempts,
            next_try=iso_time(next_try),
            will_retry=will_retry,
        )
        is_list = self._is_list(work)
        context.tally.failed(work, failure.kind, failure.error, state, next_try, is_list=is_list)
        if will_retry and next_try is not None:
            entry.work, entry.due = work, next_try
            self._queue.put_back(entry)

    def _is_list(self, work: Work) -> bool:
        """Whether this is a channel or playlist that was named as if it were one video."""
        named = self._sources.get(work.source)
        if named is None or named.settings.playlist or host_of(work.source) is None:
            return False
        return self._context.fetcher(named).names_list(work.source)


def state_before(work: Work) -> State:
    """The state of a video before its download began."""
    return State.FAILED if work.consecutive_failures else State.NEW
