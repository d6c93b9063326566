"""Output of ``batch``: a status line, error messages, tables of the ledger."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from tempfile import SpooledTemporaryFile
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from analyzer.batch.ledger import Ledger, State, is_running
from analyzer.batch.summary import ENDINGS, summary, utc_minute
from analyzer.batch.workers import Worker, by_node, judged
from analyzer.cli.text import left_out_text, show_error
from analyzer.errors import LedgerError
from analyzer.util.durations import duration_text, rough_duration
from analyzer.util.json_text import indented
from analyzer.util.text import counted, one_line, percent, shorten

if TYPE_CHECKING:
    from tqdm import tqdm

    from analyzer.batch.config import Jobs
    from analyzer.batch.outcome import Outcome
    from analyzer.batch.plan import Excluded, Plan, Planned

__all__ = [
    "describe_history",
    "describe_plan",
    "describe_status",
    "echo_json",
    "prune_text",
    "run_batch",
    "show_plan",
]

_MAX_ROWS = 30
_SPOOLED = 8_000_000
"""Bytes of excluded videos that are kept in memory; the others are in a temporary file."""
_FINAL_EVENTS = ("done", "adopted", "skipped", "abandoned", "failed")
"""Events after which a video is no longer in the queue of this batch run."""


class BatchConsole:
    """Shows the events of a batch run: a status line in a terminal, and a line for each video."""

    def __init__(self, *, quiet: bool, as_json: bool) -> None:
        self._verbose = not quiet and not as_json
        self._bar: tqdm[Any] | None = None
        self._titles: dict[int, str] = {}

    def connecting(self, address: str) -> None:
        """Say in a terminal that a cluster is being reached, which takes seconds."""
        if self._verbose and sys.stderr.isatty():
            self._error_line(f"connecting to the Ray cluster ({address})")

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
                self._line(left_out_text(**facts, batch=True))
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
    from analyzer.batch.executors.choice import make_executor
    from analyzer.batch.run import run_and_close
    from analyzer.batch.scheduler import Scheduler

    stop, console = Stop(), BatchConsole(quiet=quiet, as_json=as_json)
    if jobs.executor.kind != "local":
        console.connecting(jobs.executor.address)
    executor = make_executor(jobs)
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
    from analyzer.batch.plan import Plan, planned

    plan = Plan()
    found = planned(jobs, plan)
    if as_json:
        echo_json(_plan_document(plan, found))
    else:
        click.echo(describe_plan(plan, found))
    return not plan.failed


def echo_json(document: Iterable[tuple[str, Any]]) -> None:
    """Print a JSON document, see `indented`, without holding it in memory."""
    pieces = indented(document)
    while text := "".join(itertools.islice(pieces, 1000)):
        click.echo(text, nl=False)
    click.echo()


def _plan_document(plan: Plan, found: Iterator[Planned | Excluded]) -> Iterator[tuple[str, Any]]:
    """The plan as JSON values."""
    from analyzer.batch.plan import Planned

    with SpooledTemporaryFile(_SPOOLED, "w+", encoding="utf-8") as excluded:

        def videos() -> Iterator[dict[str, Any]]:
            for one in found:
                if isinstance(one, Planned):
                    yield one._asdict()
                else:
                    excluded.write(json.dumps(one._asdict()) + "\n")

        yield "videos", videos()
        excluded.seek(0)
        yield "known", plan.known
        yield "rejected", (json.loads(line) for line in excluded)
    yield "failed", [{"source": source, "error": error} for source, error in plan.failed]
    yield "left_out", [vars(one) for one in plan.left_out]
    yield "workers", plan.places
    yield "estimate_s", plan.estimate_s
    yield "past", plan.past


def describe_plan(plan: Plan, found: Iterable[Planned | Excluded]) -> str:
    """Describe a plan in a few lines."""
    from analyzer.batch.plan import Planned

    lines, excluded, videos = [], list[str](), list[Planned]()
    for each in found:
        if isinstance(each, Planned):
            if len(videos) < _MAX_ROWS:
                videos.append(each)
        elif len(excluded) < _MAX_ROWS:
            excluded.append(f"  excluded    {one_line(each.source)}: {one_line(each.reason)}")
    for one in videos:
        length = "" if one.duration_s is None else f", {duration_text(one.duration_s)} long"
        takes = "" if one.estimate_s is None else f", about {rough_duration(max(1.0, one.estimate_s))}"
        lines.append(f"  {one.state:<10}  {one_line(one.title or one.source)}{length}{takes}")
    lines += _more(plan.videos, "videos")
    lines += excluded
    lines += _more(plan.excluded, "excluded by a filter")
    lines += [f"  not listed  {one_line(source)}: {one_line(error)}" for source, error in plan.failed]
    lines += [f"  {left_out_text(**vars(one), batch=True)}" for one in plan.left_out]
    count = plan.videos
    head = f"{counted(count, 'video')} to analyze"
    if plan.known:
        head += f", {plan.known} done, abandoned or waiting"
    if not count:
        return "\n".join([head, *lines])
    if plan.estimate_s is None:
        head += "; the time can be estimated once a video is done"
    else:
        alone = " for one worker" if plan.places is None else ""
        takes = f"about {rough_duration(plan.estimate_s)}{alone}"
        head += f"; {takes}, going by the last {counted(plan.past, 'video')}"
    return "\n".join([head, *lines])


def describe_status(ledger: Ledger, states: list[str], limit: int) -> str:
    """Describe the ledger as a table."""
    counts = ledger.counts()
    lines = [f"{ledger.path}: {', '.join(f'{n} {state}' for state, n in counts.items()) or 'no videos yet'}"]
    for run in ledger.batch_runs(1):
        ended = run["outcome"] or ("still running" if is_running(ledger.path) else "killed")
        lines.append(f"  last batch run: started {_moment(run['started_at'])}, {ENDINGS.get(ended, ended)}")
    lines += _describe_workers(judged(ledger.workers()))
    for host in ledger.hosts():
        lines.append(f"  paused: {one_line(host['host'])} until {_moment(host['paused_until'])}")
    heading, listed = f"  {'id':>6}  {'state':<11}  {'tries':>5}  {'changed':<16}  video", 0
    for row in ledger.each_video(states, limit):
        if not listed:
            lines.append(heading)
        listed += 1
        lines.append(
            f"  {row['id']:>6}  {row['state']:<11}  {row['attempts']:>5}  {_moment(row['changed_at'])}  "
            f"{one_line(row['title'] or row['source'])}{_why(row)}"
        )
    shown = sum(counts.get(state, 0) for state in states) if states else sum(counts.values())
    if shown > listed:
        lines.append(f"  ... and {shown - listed} more: --limit {shown}")
    return "\n".join(lines)


def _describe_workers(workers: list[Worker]) -> list[str]:
    """Describe machines, then workers: stragglers first."""
    nodes = by_node(workers)
    waiting = sum(not one.node for one in workers)
    lines = [f"  {counted(waiting, 'worker')} without a machine: none has room"] if waiting else []
    if nodes:
        lines.append(f"  {'workers':>9}  {'working':>7}  {'speed':>7}  machine")
    for node in nodes[:_MAX_ROWS]:
        lines.append(
            f"  {node.workers:>9}  {node.working:>7}  {_speed(node.rate or None):>7}  {one_line(node.node)}"
        )
    lines += _more(len(nodes), "machines")
    busy = [one for one in workers if one.video is not None]
    if busy:
        lines.append(f"  {'worker':>9}  {'state':<8}  {'for':>7}  {'speed':>7}  {'machine':<16}  video")
    for one in busy[:_MAX_ROWS]:
        part = f" (segments {one.segments[0]} to {one.segments[1] - 1})" if one.segments else ""
        slow = f": {_STRAGGLERS[one.straggler]}" if one.straggler else ""
        lines.append(
            f"  {one.worker:>9}  {one.state:<8}  {rough_duration(one.since_s):>7}  {_speed(one.rate):>7}  "
            f"{shorten(one_line(one.node), 16):<16}  {one_line(one.title or '')}{part}{slow}"
        )
    return lines + _more(len(busy), "workers")


def _speed(rate: float | None) -> str:
    """How many times as fast as it plays."""
    return "" if rate is None else f"{rate:.1f}x"


_STRAGGLERS = {"slow": "much slower than the others", "long": "much longer than the others"}


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
