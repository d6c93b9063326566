"""The subcommands of ``batch``. Heavy modules are imported when one of them runs."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from analyzer.cli.options import (
    DONE,
    EXIT_CODES,
    INTERRUPTED,
    NOTHING_USABLE,
    SOME_FAILED,
    TEMPORARY,
    TERMINATED,
    USAGE,
    ChoiceList,
    Group,
    Number,
    SectionOption,
    WholeNumber,
    check_address,
    chosen,
    complete_files,
    epilog,
    executor_options,
    given,
    preset_option,
    settings_options,
)
from analyzer.cli.text import show_error
from analyzer.errors import AnalyzerError, LedgerError, OutputError, SettingsError
from analyzer.settings import DEFAULT_OUT, REPORT_FORMATS
from analyzer.util.durations import parse_duration
from analyzer.util.text import counted
from analyzer.util.validation import InvalidValueError

if TYPE_CHECKING:
    from analyzer.batch.config import Jobs
    from analyzer.batch.outcome import Outcome

__all__ = ["batch"]

_CODES = {
    DONE: "everything that was due is done, even if there was nothing to do",
    SOME_FAILED: "some videos failed or could be read only in part, or a source could not be listed",
    USAGE: "usage error: the command line or the jobs file is wrong",
    NOTHING_USABLE: "no source could be listed, or the ledger, a model, the output folder or the cluster "
    "cannot be used",
    TEMPORARY: "another batch is running with the same ledger, the disk is full, or the cluster was lost; "
    "try again later",
    INTERRUPTED: EXIT_CODES[INTERRUPTED],
    TERMINATED: EXIT_CODES[TERMINATED],
}
_LEDGER_CODES = {DONE: "success", USAGE: _CODES[USAGE], NOTHING_USABLE: "the ledger cannot be used"}


class _RunByDefault(Group):
    """``batch SOURCE`` is ``batch run SOURCE``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(incomplete, type="file"), *super().shell_complete(ctx, incomplete)]

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, "[run] [OPTIONS] JOBS.toml | SOURCE...")
        formatter.write_usage(ctx.command_path, "COMMAND [OPTIONS] [ARGS]...")


@click.group(cls=_RunByDefault, epilog=epilog(_CODES))
def batch() -> None:
    """Analyze the new videos of many folders, channels and playlists, for instance every night from cron.

    A ledger in the output folder records every video, so that nothing is analyzed twice. Run the same command
    again to continue after an interruption, to retry failed videos and to find new ones. Changed settings
    are new work.

    \b
    Examples:
      {program} batch jobs.toml
      {program} batch talks/ links.txt --out talks-out --no-video
      {program} batch plan jobs.toml
      {program} batch status --jobs jobs.toml
    """


class _Duration(click.ParamType[float]):
    name = "duration"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        del param, ctx
        return "DURATION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return parse_duration(value, (param and param.opts[0]) or "duration")
        except InvalidValueError as error:
            self.fail(str(error), param, ctx)


_location_options = (
    click.option(
        "--out",
        type=click.Path(path_type=Path, file_okay=False),
        default=DEFAULT_OUT,
        show_default=True,
        help="Folder for the runs, the ledger and the log.",
    ),
    click.option(
        "--ledger",
        type=click.Path(path_type=Path, dir_okay=False),
        help="The ledger.  [default: ledger.sqlite in --out]",
    ),
)
_run_options = (
    *_location_options,
    click.option(
        "--log",
        type=click.Path(path_type=Path, dir_okay=False),
        help="The log.  [default: batch.jsonl in --out]",
    ),
    click.option(
        "--report",
        type=ChoiceList(REPORT_FORMATS),
        help="Formats of each run's report.  [default: html]",
    ),
    click.option("--no-report", is_flag=True, help="Do not write reports."),
    click.option(
        "--time-budget",
        "time_budget_s",
        type=_Duration(),
        help="Stop after this time, such as 6h; the next batch run continues.",
    ),
    executor_options,
    click.option(
        "--max-per-run",
        cls=SectionOption,
        section="Options",
        type=WholeNumber(1),
        metavar="N",
        help="Analyze at most this many videos of each source.",
    ),
    click.option(
        "--newer-than",
        cls=SectionOption,
        section="Filters",
        metavar="AGE",
        help="Only videos uploaded within this time, such as 30d, or since a day, such as 2026-11-01.",
    ),
    click.option(
        "--older-than",
        cls=SectionOption,
        section="Filters",
        metavar="AGE",
        help="Only videos uploaded before this time or day.",
    ),
    click.option(
        "--shorter-than",
        "shorter_than_s",
        cls=SectionOption,
        section="Filters",
        type=_Duration(),
        help="Only videos shorter than this, such as 2h or 90s.",
    ),
    click.option(
        "--longer-than",
        "longer_than_s",
        cls=SectionOption,
        section="Filters",
        type=_Duration(),
        help="Only videos longer than this.",
    ),
    click.option(
        "--title",
        cls=SectionOption,
        section="Filters",
        metavar="REGEX",
        help="Only videos whose title matches this, ignoring case.",
    ),
    click.option(
        "--not-title",
        cls=SectionOption,
        section="Filters",
        metavar="REGEX",
        help="Only videos whose title does not match this, ignoring case.",
    ),
    click.option(
        "--watch", is_flag=True, help="Leave files that are still being written for the next batch run."
    ),
    preset_option,
    settings_options,
    click.argument(
        "sources",
        nargs=-1,
        required=True,
        metavar="JOBS.toml | SOURCE...",
        shell_complete=complete_files,
    ),
)
_FILTERS = ("newer_than", "older_than", "shorter_than_s", "longer_than_s", "title", "not_title")
_OVERRIDES = ("out", "ledger", "log", "report", "time_budget_s", "workers", "executor")
"""Options that are allowed with a jobs file."""


def _with(*decorators: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def decorate(command: Any) -> Any:
        for one in reversed(decorators):
            command = one(command)
        return command

    return decorate


def _jobs(sources: tuple[str, ...], values: dict[str, Any]) -> Jobs:
    """Return the jobs that a command line describes.

    Raises:
        click.UsageError: A value is wrong, or two contradict each other.
    """
    from analyzer.batch.config import ExecutorChoice, Filters, jobs_of, load_jobs

    if values.pop("no_report"):
        if values["report"] is not None:
            raise click.UsageError("--report and --no-report contradict each other")
        values["report"] = ()
    preset = values.pop("preset")
    flags = {"kind": values.pop("executor"), "address": values.pop("address")}
    place = {name: value for name, value in flags.items() if value is not None}
    try:
        if any(name.lower().endswith(".toml") for name in sources):
            if len(sources) > 1:
                raise click.UsageError("a jobs file must be the only source: add the others to it")
            extra = {**given(values), **given({"preset": preset})}
            if values["report"] == ():
                extra["report"] = ()
            if place:
                extra["executor"] = place
            unfit = sorted(extra.keys() - set(_OVERRIDES))
            if unfit:
                name = unfit[0].removesuffix("_s").replace("_", "-")
                raise click.UsageError(f"--{name} cannot be combined with a jobs file: set it in the file")
            jobs = load_jobs(Path(sources[0]), **extra)
            check_address(place.get("address"), jobs.executor)
            return jobs
        filters = Filters(**{name: values.pop(name) for name in _FILTERS})
        own = {name: values.pop(name) for name in ("out", "ledger", "log", "report", "time_budget_s")}
        picked = {"max_per_run": values.pop("max_per_run"), "watch": values.pop("watch")}
        settings = chosen(preset, values)
        own["executor"] = ExecutorChoice(**place)
        jobs = jobs_of(sources, settings, filters=filters, workers=settings.workers, **own, **picked)
        check_address(place.get("address"), jobs.executor)
        return jobs
    except SettingsError as error:
        raise click.UsageError(str(error)) from error


@batch.command(epilog=epilog(_CODES))
@_with(*_run_options)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document at the end instead of messages."
)
@click.option("--quiet", "-q", is_flag=True, help="Print only errors.")
def run(sources: tuple[str, ...], *, as_json: bool, quiet: bool, **values: Any) -> None:
    """Analyze the videos that are due; the default command.

    JOBS.toml lists sources, each with its own filters and settings; see docs/batch.md. SOURCE is anything
    that the analyze command takes, or a text file (.txt) with one source per line.
    """
    jobs = _jobs(sources, values)
    from analyzer.cli.batch import run_batch

    stopped_by: list[int] = []
    try:
        outcome = run_batch(jobs, quiet=quiet, as_json=as_json, on_stop=stopped_by.append)
    except AnalyzerError as error:
        show_error(str(error))
        sys.exit(_code_of(error))
    if outcome.error is not None:
        show_error(outcome.error)
    sys.exit(_code(outcome, stopped_by, len(jobs.sources)))


def _code_of(error: AnalyzerError) -> int:
    temporary = (isinstance(error, LedgerError) and error.temporary) or (
        isinstance(error, OutputError) and error.no_space
    )
    return TEMPORARY if temporary else NOTHING_USABLE


def _code(outcome: Outcome, stopped_by: list[int], sources: int) -> int:
    if outcome.reason == "stopped":
        return INTERRUPTED if stopped_by[:1] == [signal.SIGINT] else TERMINATED
    if outcome.reason in ("no_space", "ledger", "cluster"):
        return TEMPORARY
    if outcome.reason == "broken":
        return NOTHING_USABLE
    if outcome.well:
        return DONE
    return NOTHING_USABLE if not outcome.done and outcome.sources_failed >= sources else SOME_FAILED


@batch.command(epilog=epilog(_LEDGER_CODES | {SOME_FAILED: "a source could not be listed"}))
@_with(*_run_options)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def plan(sources: tuple[str, ...], *, as_json: bool, **values: Any) -> None:
    """Show what a batch run would do, without doing it.

    Lists channels and playlists, but does not look up single videos. The estimated time is based on finished
    videos in this ledger.
    """
    from analyzer.cli.batch import show_plan

    jobs = _jobs(sources, values)
    sys.exit(_exit_code(lambda: DONE if show_plan(jobs, as_json=as_json) else SOME_FAILED))


_ledger_options = (
    *_location_options,
    click.option(
        "--jobs",
        type=click.Path(path_type=Path, dir_okay=False, exists=True),
        help="The jobs file that names the ledger.",
    ),
)


def _location(out: Path, ledger: Path | None, jobs: Path | None) -> tuple[Path, Path]:
    """Return the ledger and the output folder.

    Raises:
        click.UsageError: The jobs file is wrong.
    """
    from analyzer.batch.config import LEDGER_NAME, load_jobs

    if jobs is not None:
        try:
            loaded = load_jobs(jobs, ledger=ledger, **given({"out": out}))
        except SettingsError as error:
            raise click.UsageError(str(error)) from error
        return loaded.ledger, loaded.out
    return ledger or out / LEDGER_NAME, out


def _exit_code(work: Callable[[], int]) -> int:
    try:
        return work()
    except AnalyzerError as error:
        show_error(str(error))
        return _code_of(error)


@batch.command(epilog=epilog(_LEDGER_CODES))
@_with(*_ledger_options)
@click.option(
    "--state",
    "states",
    multiple=True,
    metavar="STATE",
    help="Only videos in this state, such as failed; can be repeated.",
)
@click.option(
    "--limit",
    type=WholeNumber(0),
    default=30,
    show_default=True,
    metavar="N",
    help="Show at most this many videos.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def status(states: tuple[str, ...], *, limit: int, as_json: bool, **location: Any) -> None:
    """Show what the workers of a batch run do, and the videos in the ledger, the latest change first."""
    from analyzer.batch.ledger import Ledger, State
    from analyzer.batch.workers import by_node, judged
    from analyzer.cli.batch import describe_status, echo_json

    wrong = [state for state in states if state not in list(State)]
    if wrong:
        raise click.UsageError(f"there is no state {wrong[0]!r}; choose from {', '.join(State)}")
    path, _ = _location(**location)

    def show() -> int:
        with Ledger(path, read_only=True) as ledger:
            if not as_json:
                click.echo(describe_status(ledger, list(states), limit))
                return DONE
            workers = judged(ledger.workers())
            document = {
                "ledger": str(path),
                "counts": ledger.counts(),
                "hosts": ledger.hosts(),
                "batch_runs": ledger.batch_runs(),
                "nodes": [vars(node) for node in by_node(workers)],
                "workers": [vars(worker) for worker in workers],
                "videos": ledger.each_video(states, limit),
            }
            echo_json(document.items())
        return DONE

    sys.exit(_exit_code(show))


@batch.command(epilog=epilog(_LEDGER_CODES))
@_with(*_ledger_options)
@click.argument("id", type=int, metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def show(id: int, *, as_json: bool, **location: Any) -> None:
    """Show a video and its attempts; status lists the IDs."""
    from analyzer.batch.ledger import Ledger
    from analyzer.cli.batch import describe_history

    path, _ = _location(**location)

    def describe() -> int:
        with Ledger(path, read_only=True) as ledger:
            row = ledger.history(id)
            click.echo(json.dumps(row, indent=2, ensure_ascii=False) if as_json else describe_history(row))
        return DONE

    sys.exit(_exit_code(describe))


@batch.command(epilog=epilog(_LEDGER_CODES | {TEMPORARY: _CODES[TEMPORARY]}))
@_with(*_ledger_options)
@click.argument("ids", type=int, nargs=-1, metavar="[ID...]")
@click.option("--abandoned", is_flag=True, help="Retry abandoned videos, too.")
def retry(ids: tuple[int, ...], *, abandoned: bool, **location: Any) -> None:
    """Make failed videos due now.

    Without IDs: all failed videos; pauses of rate-limited sites end, too. With IDs: these videos, whatever
    their state. A finished video is only analyzed again if its run folder was removed.
    """
    from analyzer.batch.ledger import Ledger, lock_ledger

    path, _ = _location(**location)

    def reopen() -> int:
        if not path.exists():
            raise LedgerError(f"there is no ledger {path}: name its folder with --out")
        with lock_ledger(path, "retry"), Ledger(path) as ledger:
            count = ledger.retry(ids, abandoned=abandoned)
            done = [id for id in dict.fromkeys(ids) if ledger.has_run(id)]
        for id in done:
            click.echo(f"Video {id} is done. To analyze it again, remove its run folder first.")
        if count or not done:
            click.echo(f"The next batch run will retry {counted(count, 'video')}.")
        return DONE

    sys.exit(_exit_code(reopen))


@batch.command("prune", epilog=epilog(_LEDGER_CODES | {TEMPORARY: _CODES[TEMPORARY]}))
@_with(*_ledger_options)
@click.option(
    "--keep-days",
    type=Number(0),
    default=90,
    show_default=True,
    metavar="N",
    help="Keep attempts and batch runs of this many days.",
)
def prune_ledger(*, keep_days: float, **location: Any) -> None:
    """Delete old attempts from the ledger, and files that no video needs.

    Videos stay in the ledger, and finished runs are not touched.
    """
    from analyzer.cli.batch import prune_text

    path, out = _location(**location)

    def remove() -> int:
        click.echo(prune_text(path, out, keep_days=keep_days))
        return DONE

    sys.exit(_exit_code(remove))
