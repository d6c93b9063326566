"""Output of ``batch``: a status line, error messages, tables of the ledger."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from analyzer.batch.ledger import Ledger, State, is_running
from analyzer.batch.summary import ENDINGS, summary, utc_minute
from analyzer.cli.text import left_out_text, show_error
from analyzer.errors import LedgerError
from analyzer.util.durations import duration_text, rough_duration
from analyzer.util.text import counted, one_line, percent, shorten

if TYPE_CHECKING:
    from tqdm import tqdm

    from analyzer.batch.config import Jobs
    from analyzer.batch.outcome import Outcome
    from analyzer.batch.plan import Plan

__all__ = ["describe_history", "describe_plan", "describe_status", "prune_text", "run_batch", "show_plan"]

_MAX_ROWS = 30
_FINAL_EVENTS = ("done", "adopted", "skipped", "abandoned", "failed")
"""Events after which a video is no longer in the queue of this batch run."""


class BatchConsole:
    """Shows the events of a batch run: a status line in a terminal, and a line for each video."""

    def __init__(self, *, quiet: bool, as_json: bool) -> None:
        self._verbose = not quiet and not as_json
        self._bar: tqdm[Any] | None = None
        self._titles: dict[int, str] = {}

    def on_event(self, event: str, video: int | None, facts: dict[str, Any]) -> None:
        """Show an event."""
        title = self._title(event, video, facts)
        match event:
            case "analyzing":
                self._status(f"analyzing {title}")
            case "queued":
                if self._verbose and facts["videos"] and sys.stderr.isatty():
                    from tqdm import tqdm

                    self._bar = tqdm(
                        total=facts["videos"],
                        leave=False,
                        dynamic_ncols=True,
                        bar_format="{desc} |{bar}| {n}/{total} videos [{elapsed}]",
                    )
            case "downloading" | "progress" | "rendering":
                self._status(*_progress(event, title, facts))
            case "done":
                partly = "" if facts["complete"] else ", read only in part"
                self._line(
                    f"{title}: {counted(facts['people'], 'person', 'people')} "
                    f"({facts['female']} female, {facts['male']} male), {facts['seconds']:.0f} s{partly}"
                )
            case "adopted":
                self._line(f"{title}: already analyzed")
            case "failed" if facts["will_retry"]:
                self._status(f"will be tried again: {title}")
            case "failed" | "abandoned" | "source_failed":  # what ends the batch run is reported at its end
                named = one_line(str(facts.get("title") or facts.get("source") or title))
                self._error(f"{named}: {facts['error']}")
            case "host_paused" | "source_deferred":
                named = one_line(facts.get("source") or facts["host"])
                self._line(f"{named} is paused until {utc_minute(facts['until'])}")
            case "files_skipped":
                self._line(left_out_text(**facts))
            case "stopping" if self._verbose and sys.stderr.isatty():
                self._error_line("stopping; a second signal ends at once")
        if event in _FINAL_EVENTS and self._bar is not None:
            self._bar.update()

    def _title(self, event: str, video: int | None, facts: dict[str, Any]) -> str:
        if event in ("started", "analyzing") and video is not None:
            self._titles[video] = one_line(str(facts.get("title") or facts.get("source") or ""))
        return self._titles.get(video or 0, "")

    def close(self) -> None:
        """Remove the status line."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _status(self, what: str, detail: str = "") -> None:
        if self._bar is not None:
            shown = shorten(what, 50)
            self._bar.set_description_str(f"{shown} {detail}")

    def _line(self, text: str) -> None:
        if self._verbose:
            with _above_bar():
                click.echo(text)

    @staticmethod
    def _error_line(text: str) -> None:
        with _above_bar():
            click.echo(text, err=True)

    @staticmethod
    def _error(sentence: str) -> None:
        with _above_bar():
            show_error(sentence)


def _above_bar() -> contextlib.AbstractContextManager[None]:
    """While a line is printed, hide the bar."""
    from tqdm import tqdm

    return tqdm.external_write_mode()


def _progress(event: str, title: str, facts: dict[str, Any]) -> tuple[str, str]:
    match event:
        case "downloading":
            return f"downloading {title}", f"{facts['received_bytes'] / 1e6:.0f} MB"
        case "rendering":
            return f"rendering {title}", percent(facts["fraction"])
    whole = facts["duration_s"]
    share = percent(facts["time_s"] / whole) if whole else f"{facts['time_s']:.0f} s"
    return f"analyzing {title}", share


def run_batch(jobs: Jobs, *, quiet: bool, as_json: bool, on_stop: Callable[[int], None]) -> Outcome:
    """Run a batch; the first SIGTERM or Ctrl-C ends it within about a second, the next one at once.

    Args:
        jobs: What to do.
        quiet: Print nothing but errors.
        as_json: Print one JSON document at the end.
        on_stop: Called with the number of the first signal.
    """
    from analyzer.batch.context import Stop
    from analyzer.batch.executors.local import local_executor
    from analyzer.batch.run import run_and_close
    from analyzer.batch.scheduler import Scheduler

    stop, console = Stop(), BatchConsole(quiet=quiet, as_json=as_json)
    executor = local_executor(jobs)
    scheduler = Scheduler(jobs, executor, on_event=console.on_event, stop=stop)

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        if stop.requested:
            executor.close()
            os._exit(128 + number)
        on_stop(number)
        stop.request()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        outcome = run_and_close(scheduler, jobs, on_trouble=show_error)
    finally:
        executor.close()
        console.close()
        for number, handler in before.items():
            signal.signal(number, handler)
    if as_json:
        click.echo(json.dumps(outcome.document(), indent=2, ensure_ascii=False))
    elif not quiet:
        click.echo(summary(outcome))
    return outcome


def show_plan(jobs: Jobs, *, as_json: bool) -> bool:
    """Print what a batch run would do; return whether every source could be listed."""
    from analyzer.batch.plan import make_plan

    plan = make_plan(jobs)
    click.echo(json.dumps(plan.document(), indent=2, ensure_ascii=False) if as_json else describe_plan(plan))
    return not plan.failed


def describe_plan(plan: Plan) -> str:
    """Describe a plan in a few lines."""
    lines = []
    for one in plan.videos[:_MAX_ROWS]:
        length = "" if one.duration_s is None else f", {duration_text(one.duration_s)} long"
        takes = "" if one.estimate_s is None else f", about {rough_duration(max(1.0, one.estimate_s))}"
        lines.append(f"  {one.state:<10}  {one_line(one.title or one.source)}{length}{takes}")
    lines += _more(len(plan.videos), "videos")
    for source, reason in plan.rejected[:_MAX_ROWS]:
        lines.append(f"  excluded    {one_line(source)}: {one_line(reason)}")
    lines += _more(len(plan.rejected), "excluded by a filter")
    lines += [f"  not listed  {one_line(source)}: {one_line(error)}" for source, error in plan.failed]
    lines += [f"  {left_out_text(**vars(one))}" for one in plan.left_out]
    count = len(plan.videos)
    head = f"{counted(count, 'video')} to analyze"
    if plan.known:
        head += f", {plan.known} done, abandoned or waiting"
    if not count:
        return "\n".join([head, *lines])
    if plan.estimate_s is None:
        head += "; the time can be estimated once a video is done"
    else:
        head += f"; about {rough_duration(plan.estimate_s)}, going by the last {counted(plan.past, 'video')}"
    return "\n".join([head, *lines])


def describe_status(ledger: Ledger, states: list[str], limit: int) -> str:
    """Describe the ledger as a table."""
    counts = ledger.counts()
    lines = [f"{ledger.path}: {', '.join(f'{n} {state}' for state, n in counts.items()) or 'no videos yet'}"]
    for run in ledger.batch_runs(1):
        ended = run["outcome"] or ("still running" if is_running(ledger.path) else "killed")
        lines.append(f"  last batch run: started {_moment(run['started_at'])}, {ENDINGS.get(ended, ended)}")
    for host in ledger.hosts():
        lines.append(f"  paused: {one_line(host['host'])} until {_moment(host['paused_until'])}")
    rows = ledger.videos(states, limit)
    if rows:
        lines.append(f"  {'id':>6}  {'state':<11}  {'tries':>5}  {'changed':<16}  video")
    for row in rows:
        lines.append(
            f"  {row['id']:>6}  {row['state']:<11}  {row['attempts']:>5}  {_moment(row['changed_at'])}  "
            f"{one_line(row['title'] or row['source'])}{_why(row)}"
        )
    shown = sum(counts.get(state, 0) for state in states) if states else sum(counts.values())
    if shown > len(rows):
        lines.append(f"  ... and {shown - len(rows)} more: --limit {shown}")
    return "\n".join(lines)


def _why(row: dict[str, Any]) -> str:
    match row["state"]:
        case State.SKIPPED:
            return f": {one_line(row['reason'] or '')}"
        case State.FAILED:
            again = f" (next attempt after {_moment(row['next_try'])})" if row["next_try"] else ""
            return f": {one_line(row['error'] or '')}{again}"
        case State.ABANDONED:
            return f": {one_line(row['error'] or '')}"
        case State.DONE if row["run"] and not Path(row["run"], "run.json").exists():
            return ": its run folder was removed"
        case State.ANALYZING if row["segments"]:
            return f": {row['segments_done']} of {row['segments']} segments"
    return ""


def describe_history(row: dict[str, Any]) -> str:
    """Describe a video with all its attempts."""
    facts = {
        "state": f"{row['state']}{_why(row)}",
        "source": row["source"],
        "listed by": row["origin"],
        "video id": row["video_id"] or row["identity"],
        "channel": row["channel"],
        "uploaded": row["uploaded"],
        "length": None if row["duration_s"] is None else duration_text(row["duration_s"]),
        "run": row["run"],
        "settings": f"{row['settings_hash']}, models {row['models_hash']}",
        "segments": f"{row['segments_done']} of {row['segments'] or '?'} done"
        if row["segments_done"]
        else None,
    }
    lines = [f"{row['id']}  {one_line(row['title'] or row['source'])}"]
    lines += [f"  {name:<10} {one_line(str(value))}" for name, value in facts.items() if value]
    for one in row["attempts_list"]:
        took = f"{one['ended_at'] - one['started_at']:.0f} s" if one["ended_at"] else "not ended"
        parts = [f"{one[name]:.1f} s {word}" for name, word in _PHASES if one[name] is not None]
        parts += [f"{one['size_bytes'] / 1e6:.1f} MB"] if one["size_bytes"] else []
        versions = ", ".join(f"{name} {version}" for name, version in (one["versions"] or {}).items())
        error = f": {one['error_kind'] or ''}: {one['error']}" if one["error"] else ""
        lines.append(
            f"  attempt {one['number']}  {_moment(one['started_at'])}  {took}  {one['outcome'] or 'running'}"
            f"{one_line(error)}"
        )
        lines.append(f"             {'; '.join([*parts, versions])}")
    return "\n".join(lines)


_PHASES = (("fetch_s", "download"), ("analysis_s", "analysis"))


def prune_text(ledger_path: Path, out: Path, *, keep_days: float) -> str:
    """Prune a ledger and its folder, and describe what was deleted."""
    if not ledger_path.exists():
        raise LedgerError(f"there is no ledger {ledger_path}: name its folder with --out")
    from analyzer.batch.maintenance import prune

    pruned = prune(ledger_path, out, keep_days=keep_days)
    return (
        f"Deleted {counted(pruned.records, 'old record')} and {counted(pruned.folders, 'folder')} "
        f"({pruned.size_bytes / 1e6:.1f} MB)."
    )


def _more(count: int, what: str) -> list[str]:
    return [f"  ... and {count - _MAX_ROWS} more {what}"] if count > _MAX_ROWS else []


def _moment(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")
