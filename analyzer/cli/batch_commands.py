"""The commands of ``batch``. Nothing heavy is imported before one runs."""

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
    chosen,
    complete_files,
    epilog,
    given,
    preset_option,
    settings_options,
)
from analyzer.cli.text import show_error
from analyzer.errors import AnalyzerError, LedgerError, OutputError, SettingsError
from analyzer.settings import DEFAULT_OUT, REPORT_FORMATS
from analyzer.util.durations import parse_duration
from analyzer.util.validation import InvalidValueError

if TYPE_CHECKING:
    from analyzer.batch.config import Jobs
    from analyzer.batch.outcome import Outcome

__all__ = ["batch"]

_CODES = {
    DONE: "all that was due is done, also if that was nothing",
    SOME_FAILED: "some videos failed or were read only in part, or a source could not be listed",
    USAGE: EXIT_CODES[USAGE],
    NOTHING_USABLE: "no source could be listed, or ledger, networks or output folder cannot be used",
    TEMPORARY: "another batch is at work with the same ledger, or the disk is full: try again later",
    INTERRUPTED: "ended by Ctrl-C after the segments in work; the same command goes on where it stopped",
    TERMINATED: "ended by SIGTERM; likewise. A second signal ends at once",
}
_LOOKING_CODES = {DONE: "done", USAGE: EXIT_CODES[USAGE], NOTHING_USABLE: "the ledger cannot be used"}


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
    """Analyze what is new of many videos and channels, nothing twice: the command for cron.

    A ledger in the output folder remembers every video. Run again, the same command goes on where it was
    ended, tries again what failed, and looks for new videos; changed settings are new work.

    \b
    Examples:
      {program} batch jobs.toml
      {program} batch talks/ links.txt --out talks-out --no-video
      {program} batch plan jobs.toml
      {program} batch status --jobs jobs.toml
    """


class _Duration(click.ParamType[float]):
    name = "time"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        del param, ctx
        return "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return parse_duration(value, (param and param.opts[0]) or "time")
        except InvalidValueError as error:
            self.fail(str(error), param, ctx)


_place_options = (
    click.option(
        "--out",
        type=click.Path(path_type=Path, file_okay=False),
        default=DEFAULT_OUT,
        show_default=True,
        help="Folder of the runs, of the ledger and of the log.",
    ),
    click.option(
        "--ledger",
        type=click.Path(path_type=Path, dir_okay=False),
        help="The ledger. Default: ledger.sqlite in --out.",
    ),
)
_night_options = (
    *_place_options,
    click.option(
        "--log",
        type=click.Path(path_type=Path, dir_okay=False),
        help="The log. Default: batch.jsonl in --out.",
    ),
    click.option(
        "--report",
        type=ChoiceList(REPORT_FORMATS),
        help="Forms of each run's report. Default: html.",
    ),
    click.option("--no-report", is_flag=True, help="Make no reports."),
    click.option(
        "--time-budget",
        "time_budget_s",
        type=_Duration(),
        help="Begin nothing new after this time (6h), and stop after the segments in work.",
    ),
    click.option(
        "--max-per-run", type=click.IntRange(1), metavar="N", help="At most so many of each source."
    ),
    click.option(
        "--newer-than", metavar="AGE", help="Only videos uploaded so long ago at most: 30d, 2026-11-01."
    ),
    click.option("--older-than", metavar="AGE", help="Only videos uploaded longer ago."),
    click.option("--shorter-than", "shorter_than_s", type=_Duration(), help="Only shorter videos: 2h, 90s."),
    click.option("--longer-than", "longer_than_s", type=_Duration(), help="Only longer videos."),
    click.option("--title", metavar="REGEX", help="Only videos in whose title this is found."),
    click.option("--not-title", metavar="REGEX", help="Only videos in whose title this is not found."),
    click.option(
        "--watch", is_flag=True, help="Files of a folder that were just changed are left for later."
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
_OVERRIDES = ("out", "ledger", "log", "report", "time_budget_s", "workers")
"""What may be given beside a jobs file."""


def _with(*decorators: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def decorate(command: Any) -> Any:
        for one in reversed(decorators):
            command = one(command)
        return command

    return decorate


def _jobs(sources: tuple[str, ...], values: dict[str, Any]) -> Jobs:
    """The jobs that a command line names.

    Raises:
        click.UsageError: A value is wrong, or two contradict.
    """
    from analyzer.batch.config import Filters, jobs_of, load_jobs

    if values.pop("no_report"):
        if values["report"] is not None:
            raise click.UsageError("--report and --no-report contradict each other")
        values["report"] = ()
    preset = values.pop("preset")
    try:
        if any(name.lower().endswith(".toml") for name in sources):
            if len(sources) > 1:
                raise click.UsageError("a jobs file stands alone: write the other sources into it")
            extra = {**given(values), **given({"preset": preset})}
            if values["report"] == ():
                extra["report"] = ()
            unfit = sorted(extra.keys() - set(_OVERRIDES))
            if unfit:
                name = unfit[0].removesuffix("_s").replace("_", "-")
                raise click.UsageError(f"--{name} belongs in the jobs file: write it there")
            return load_jobs(Path(sources[0]), **extra)
        filters = Filters(**{name: values.pop(name) for name in _FILTERS})
        own = {name: values.pop(name) for name in ("out", "ledger", "log", "report", "time_budget_s")}
        picked = {"max_per_run": values.pop("max_per_run"), "watch": values.pop("watch")}
        settings = chosen(preset, values)
        return jobs_of(sources, settings, filters=filters, workers=settings.workers, **own, **picked)
    except SettingsError as error:
        raise click.UsageError(str(error)) from error


@batch.command(epilog=epilog(_CODES))
@_with(*_night_options)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document at the end.")
@click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors.")
def run(sources: tuple[str, ...], *, as_json: bool, quiet: bool, **values: Any) -> None:
    """Analyze what is due; may be left out: batch SOURCE.

    SOURCE is what analyze takes, or a text file (.txt) of them, one a line. JOBS.toml names sources, filters
    and settings for each: docs/batch.md explains it.
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
    if outcome.reason in ("no_space", "ledger"):
        return TEMPORARY
    if outcome.reason == "broken":
        return NOTHING_USABLE
    if outcome.well:
        return DONE
    return NOTHING_USABLE if not outcome.done and outcome.sources_failed >= sources else SOME_FAILED


@batch.command(epilog=epilog(_LOOKING_CODES | {SOME_FAILED: "a source could not be listed"}))
@_with(*_night_options)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def plan(sources: tuple[str, ...], *, as_json: bool, **values: Any) -> None:
    """Show what would be done, and about how long it would take; changes nothing.

    Channels and playlists are listed, no video is looked up. The estimate rests on what videos took here.
    """
    from analyzer.cli.batch import show_plan

    jobs = _jobs(sources, values)
    sys.exit(_looking(lambda: DONE if show_plan(jobs, as_json=as_json) else SOME_FAILED))


_ledger_options = (
    *_place_options,
    click.option(
        "--jobs",
        type=click.Path(path_type=Path, dir_okay=False, exists=True),
        help="The jobs file, which says where the ledger is.",
    ),
)


def _ledger_place(out: Path, ledger: Path | None, jobs: Path | None) -> tuple[Path, Path]:
    """The ledger and the output folder.

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


def _looking(work: Callable[[], int]) -> int:
    try:
        return work()
    except AnalyzerError as error:
        show_error(str(error))
        return _code_of(error)


@batch.command(epilog=epilog(_LOOKING_CODES))
@_with(*_ledger_options)
@click.option("--state", "states", multiple=True, metavar="STATE", help="Only these: done, failed, dead, ...")
@click.option("--limit", type=click.IntRange(0), default=30, show_default=True, metavar="N", help="Rows.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def status(states: tuple[str, ...], *, limit: int, as_json: bool, **place: Any) -> None:
    """Show the ledger, newest change first; also while a batch is at work."""
    from analyzer.batch.ledger import Ledger, State
    from analyzer.cli.batch import describe_status

    wrong = [state for state in states if state not in list(State)]
    if wrong:
        raise click.UsageError(f"there is no state {wrong[0]!r}: choose of {', '.join(State)}")
    path, _ = _ledger_place(**place)

    def show() -> int:
        with Ledger(path, read_only=True) as ledger:
            if not as_json:
                click.echo(describe_status(ledger, list(states), limit))
                return DONE
            document = {
                "ledger": str(path),
                "counts": ledger.counts(),
                "hosts": ledger.hosts(),
                "batch_runs": ledger.batch_runs(),
                "videos": ledger.videos(states, limit),
            }
            click.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return DONE

    sys.exit(_looking(show))


@batch.command(epilog=epilog(_LOOKING_CODES))
@_with(*_ledger_options)
@click.argument("id", type=int, metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def show(id: int, *, as_json: bool, **place: Any) -> None:
    """Show a video with the history of its attempts; status tells the ID."""
    from analyzer.batch.ledger import Ledger
    from analyzer.cli.batch import describe_history

    path, _ = _ledger_place(**place)

    def tell() -> int:
        with Ledger(path, read_only=True) as ledger:
            row = ledger.history(id)
            click.echo(json.dumps(row, indent=2, ensure_ascii=False) if as_json else describe_history(row))
        return DONE

    sys.exit(_looking(tell))


@batch.command(epilog=epilog(_LOOKING_CODES | {TEMPORARY: _CODES[TEMPORARY]}))
@_with(*_ledger_options)
@click.argument("ids", type=int, nargs=-1, metavar="[ID...]")
@click.option("--abandoned", is_flag=True, help="Also those that were given up.")
def retry(ids: tuple[int, ...], *, abandoned: bool, **place: Any) -> None:
    """Have failed videos tried again in the next batch, without waiting; or those named, whatever they are.

    Pauses of sites that have complained end, too.
    A video that is done is analyzed again if its run's folder was removed.
    """
    from analyzer.batch.ledger import Ledger, lock_ledger

    path, _ = _ledger_place(**place)

    def reopen() -> int:
        if not path.exists():
            raise LedgerError(f"there is no ledger {path}: name its folder with --out")
        with lock_ledger(path, "retry"), Ledger(path) as ledger:
            count = ledger.retry(ids, abandoned=abandoned)
            done = [id for id in dict.fromkeys(ids) if ledger.has_run(id)]
        for id in done:
            click.echo(f"Video {id} is done. To analyze it again, remove its run's folder first.")
        if count or not done:
            click.echo(f"{count} {'video' if count == 1 else 'videos'} will be tried again by the next batch")
        return DONE

    sys.exit(_looking(reopen))


@batch.command("prune", epilog=epilog(_LOOKING_CODES | {TEMPORARY: _CODES[TEMPORARY]}))
@_with(*_ledger_options)
@click.option(
    "--keep-days",
    type=click.FloatRange(0),
    default=90,
    show_default=True,
    metavar="N",
    help="Attempts and nights younger than this are kept.",
)
def prune_ledger(*, keep_days: float, **place: Any) -> None:
    """Make the ledger smaller, and remove files that nobody needs; no run and no video is forgotten."""
    from analyzer.cli.batch import tend

    path, out = _ledger_place(**place)

    def remove() -> int:
        click.echo(tend(path, out, keep_days=keep_days))
        return DONE

    sys.exit(_looking(remove))
