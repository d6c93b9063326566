"""A night from beginning to end, for programs: the queue, then the index page, then who is to be told."""

from __future__ import annotations

from analyzer.batch.config import Jobs
from analyzer.batch.index_page import write_index
from analyzer.batch.ledger import Ledger
from analyzer.batch.log import OnEvent, ignore
from analyzer.batch.notify import notify
from analyzer.batch.outcome import Outcome
from analyzer.batch.scheduler import Scheduler, Stop
from analyzer.batch.summary import summary
from analyzer.errors import AnalyzerError, LedgerError

__all__ = ["run_and_close", "run_batch"]


def run_batch(jobs: Jobs, *, on_event: OnEvent = ignore, stop: Stop | None = None) -> Outcome:
    """Work through jobs once: what is new or due is analyzed, nothing twice.

    Args:
        jobs: From `load_jobs` or `jobs_of`.
        on_event: Told what happens, in the calling thread.
        stop: Asks it to end after the segments in work.

    Raises:
        LedgerError: Another batch is at work (temporary), or the ledger cannot be used.
        OutputError: The output folder or the log cannot be written.
    """
    outcome, troubles = run_and_close(Scheduler(jobs, on_event=on_event, stop=stop), jobs)
    for sentence in troubles:
        on_event("afterwards_failed", None, {"error": sentence})
    return outcome


def run_and_close(night: Scheduler, jobs: Jobs) -> tuple[Outcome, list[str]]:
    """Run a night, write the index page, and tell who is to be told; gives sentences of what did not work.

    Raises:
        LedgerError: As `run_batch`; who is to be told is told, but not of another batch at work.
        OutputError: Likewise.
    """
    try:
        outcome = night.run()
    except AnalyzerError as error:
        if not (isinstance(error, LedgerError) and error.temporary):
            broken = Outcome(reason="broken", error=str(error))
            notify(jobs.on_failure, broken, summary(broken))
        raise
    troubles = []
    try:
        with Ledger(jobs.ledger, read_only=True) as ledger:
            write_index(ledger, jobs.out)
    except AnalyzerError as error:
        troubles.append(f"the index page was not written: {error}")
    return outcome, troubles + notify(jobs.on_failure, outcome, summary(outcome))
