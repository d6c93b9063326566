"""A batch run from beginning to end: the queue, the index page, notifications."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from analyzer.batch.config import Jobs
from analyzer.batch.context import Stop
from analyzer.batch.executors.base import Executor
from analyzer.batch.executors.choice import make_executor
from analyzer.batch.index_page import write_index
from analyzer.batch.ledger import Ledger
from analyzer.batch.log import OnEvent, ignore
from analyzer.batch.notify import notify
from analyzer.batch.outcome import Outcome
from analyzer.batch.scheduler import Scheduler
from analyzer.batch.summary import summary
from analyzer.errors import AnalyzerError, LedgerError

__all__ = ["run_and_close", "run_batch"]


def run_batch(
    jobs: Jobs, *, executor: Executor | None = None, on_event: OnEvent = ignore, stop: Stop | None = None
) -> Outcome:
    """Analyze what is new or due; nothing is analyzed twice.

    Args:
        jobs: From `load_jobs` or `jobs_of`.
        executor: Runs the analyses; it is not closed. By default that of `Jobs.executor`.
        on_event: Called with each event in the calling thread.
        stop: Requests the end: jobs are canceled, finished segments stay.

    Raises:
        LedgerError: Another batch uses the ledger (temporary), or the ledger cannot be used.
        OutputError: The output folder or the log cannot be written.
        ClusterError: The cluster of `Jobs.executor` cannot be used. One that is lost later ends the run.
    """
    with contextlib.ExitStack() as stack:
        if executor is None:
            executor = stack.enter_context(contextlib.closing(make_executor(jobs)))
        return run_and_close(
            Scheduler(jobs, executor, on_event=on_event, stop=stop),
            jobs,
            on_trouble=lambda sentence: on_event("closing_failed", None, {"error": sentence}),
        )


def run_and_close(scheduler: Scheduler, jobs: Jobs, *, on_trouble: Callable[[str], None]) -> Outcome:
    """Run a batch, write the index page and send notifications.

    Args:
        scheduler: Runs the batch.
        jobs: The jobs of the scheduler.
        on_trouble: Called with a sentence for each page or notification that failed.

    Raises:
        LedgerError: As `run_batch`; notifications are sent, but not if another batch uses the ledger.
        OutputError: Likewise.
    """
    try:
        outcome = scheduler.run()
    except AnalyzerError as error:
        if not (isinstance(error, LedgerError) and error.temporary):
            broken = Outcome(reason="broken", error=str(error))
            for sentence in notify(jobs.on_failure, broken, summary(broken)):
                on_trouble(sentence)
        raise
    try:
        with Ledger(jobs.ledger, read_only=True) as ledger:
            write_index(ledger, jobs.out)
    except AnalyzerError as error:
        on_trouble(f"the index page was not written: {error}")
    for sentence in notify(jobs.on_failure, outcome, summary(outcome)):
        on_trouble(sentence)
    return outcome
