"""The command line: parse, call one library function, draw.

Only this package prints, draws bars and knows exit codes. Heavy imports happen inside the commands.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import os
import re
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from analyzer import __version__
from analyzer.cli.batch_commands import batch
from analyzer.cli.correct import correct, subtitles
from analyzer.cli.models import models
from analyzer.cli.options import (
    DONE,
    EXIT_CODES,
    INTERRUPTED,
    NOTHING_USABLE,
    SOME_FAILED,
    TERMINATED,
    USAGE,
    ChoiceList,
    Group,
    InterruptedCommandError,
    WholeNumber,
    chosen,
    complete_files,
    epilog,
    executor_options,
    log_option,
    logging_to,
    preset_option,
    quiet_option,
    settings_options,
)
from analyzer.cli.serve import serve
from analyzer.cli.text import in_form
from analyzer.cli.train import train
from analyzer.errors import AnalyzerError, SettingsError
from analyzer.settings import DEFAULT_OUT, REPORT_FORMATS, Option, Settings
from analyzer.util.program import NAME, program

__all__ = ["EXIT_CODES", "main"]

COMPLETE_VARIABLE = "_ANALYZER_COMPLETE"
"""Environment variable that a shell sets to ask for completions."""

_EVALUATE_CODES = EXIT_CODES | {
    DONE: "all labeled material was analyzed completely and scored",
    SOME_FAILED: "some material could not be analyzed, or only in part; the rest was scored",
    NOTHING_USABLE: "nothing could be scored or written, or a label is invalid",
    INTERRUPTED: "interrupted by Ctrl-C",
    TERMINATED: "terminated by SIGTERM",
}
_REPORT_CODES = {
    DONE: "the report covers every given run",
    SOME_FAILED: "some paths were left out because they are damaged or hold no run; the others are reported",
    USAGE: EXIT_CODES[USAGE],
    NOTHING_USABLE: "no run was found, or no output could be written",
    INTERRUPTED: "interrupted by Ctrl-C",
    TERMINATED: "terminated by SIGTERM",
}


@click.group(
    NAME,
    cls=Group,
    epilog=epilog(EXIT_CODES),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name=NAME)
def cli() -> None:
    """Find out who is on screen in a video, when, for how long, and their perceived gender and age.

    \b
    Examples:
      {program} analyze talk.mp4
      {program} report --open
      {program} serve
    """


cli.add_command(batch)
cli.add_command(correct)
cli.add_command(models)
cli.add_command(train)
cli.add_command(serve)
cli.add_command(subtitles)


@cli.command(epilog=epilog(EXIT_CODES))
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...", shell_complete=complete_files)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_OUT,
    show_default=True,
    help="Folder for the results; each video gets a run folder in it.",
)
@click.option(
    "--again",
    is_flag=True,
    help="Analyze again what was already analyzed with the same settings, models and versions.",
)
@click.option(
    "--show",
    is_flag=True,
    help="Show the analyzed frames and detected faces in a window; press q to stop. Analyzes in one process.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of the table.")
@quiet_option
@log_option
@preset_option
@settings_options
def analyze(
    sources: tuple[str, ...],
    *,
    out: Path,
    again: bool,
    show: bool,
    as_json: bool,
    quiet: bool,
    log_file: Path | None,
    preset: str,
    **values: Any,
) -> None:
    """Analyze videos, images and live sources.

    SOURCE is a video file, an image (several images form one run), a folder of videos or images, or the URL
    of a video or of a page that yt-dlp supports, such as YouTube; with --playlist, of a playlist or channel.
    Live sources run until Ctrl-C: a camera number, an rtsp:// URL, the http:// URL of an MJPEG camera, or a
    live stream.

    Each run folder holds tables of people and their screen time, an annotated video, and run.json, which
    records how the results were made.

    \b
    Examples:
      {program} analyze talk.mp4
      {program} analyze https://www.youtube.com/watch?v=ID --fps 2 --no-video
      {program} analyze https://www.youtube.com/@channel --playlist --limit 3
      {program} analyze 0 --duration 3600
    """
    settings = chosen(preset, values)
    with logging_to(log_file):
        sys.exit(_run(sources, settings, out, again=again, show=show, quiet=quiet, as_json=as_json))


def _not_for_labels(option: Option) -> bool:
    """Labeled material is local, is analyzed whole, and no annotated video of it is written."""
    return option.group == "source" or option.name in (
        *("start_s", "end_s", "duration_s", "scene", "formats", "budget", "video", "blur"),
    )


@cli.command(epilog=epilog(_EVALUATE_CODES))
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", shell_complete=complete_files)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write accuracy.md, accuracy.json and two charts into this folder.",
)
@click.option(
    "--limit",
    type=WholeNumber(1),
    metavar="N",
    help="Score at most this many faces of each set of images.",
)
@click.option(
    "--keep-runs",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep the tables of each analysis in this folder.",
)
@click.option(
    "--calibrate",
    is_flag=True,
    help="Fit the calibration of the chosen models to labeled images instead, and write it beside your own "
    "model, or into --out.",
)
@click.option(
    "--license", "license_text", default="", metavar="TEXT", help="License of the images, for --calibrate."
)
@click.option(
    "--commercial-use/--no-commercial-use",
    default=None,
    help="Whether that allows commercial use: analyze --commercial uses the calibration only if it does.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of the table.")
@quiet_option
@log_option
@preset_option
@partial(settings_options, left_out=_not_for_labels)
def evaluate(
    paths: tuple[str, ...],
    *,
    out: Path | None,
    limit: int | None,
    keep_runs: Path | None,
    calibrate: bool,
    license_text: str,
    commercial_use: bool | None,
    as_json: bool,
    quiet: bool,
    log_file: Path | None,
    preset: str,
    **values: Any,
) -> None:
    """Measure the accuracy of the models on labeled faces and videos.

    The material passes through the same steps as in analyze. PATH is a folder or .tar of images named
    age_gender_race_....jpg as in UTKFace (gender 0: male, 1: female); a .csv file with the columns image,
    age_years, gender and optionally x1, y1, x2, y2; a truth.json beside its video; a truth.json that
    describes clips and photographs by eye; or a folder of such files. docs/evaluation.md has an example of
    each. With --calibrate, error bars and shares of the models are fitted to labeled images instead.

    \b
    Examples:
      {program} evaluate utkface.tar --limit 1000
      {program} evaluate utkface.tar labeled-clips --out docs
      {program} evaluate faces.csv --calibrate --attributes mine
    """
    settings = chosen(preset, values, video=False)
    if calibrate and keep_runs is not None:
        raise click.UsageError("--calibrate makes no runs: leave --keep-runs out")
    if not calibrate and (license_text or commercial_use is not None):
        raise click.UsageError("--license and --commercial-use are for --calibrate")
    with logging_to(log_file):
        if calibrate:
            terms = {"license_text": license_text, "commercial_use": commercial_use}
            sys.exit(_calibrate(paths, settings, out, quiet=quiet, as_json=as_json, limit=limit, **terms))
        how = {"limit": limit, "keep_runs": keep_runs}
        sys.exit(_evaluate(paths, settings, out, quiet=quiet, as_json=as_json, **how))


class _Since(click.ParamType[datetime.date]):
    name = "day"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        del param, ctx
        return "DAY"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime.date:
        if isinstance(value, datetime.date):
            return value
        with contextlib.suppress(ValueError, OverflowError):
            if back := re.fullmatch(r"(\d+)([dw])", value.strip().lower()):
                days = int(back[1]) * (7 if back[2] == "w" else 1)
                return datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=days)
            return datetime.date.fromisoformat(value)
        self.fail(
            f"{value!r} is not a date: write 2026-11-24, 30d for the last 30 days, or 4w for 4 weeks",
            param,
            ctx,
        )


@cli.command(epilog=epilog(_REPORT_CODES))
@click.argument("paths", nargs=-1, metavar="[PATH...]", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "formats",
    type=ChoiceList(REPORT_FORMATS),
    help="Write files instead of only printing a table: html, a page; png, charts for slides; csv and xlsx, "
    "tables; json, the whole report; md, Markdown; vtt, captions with the counts of one video.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the files. Default: the run's folder, or the folder that holds all given runs.",
)
@click.option(
    "--open", "opens", is_flag=True, help="Open the HTML page in the browser; implies --format html."
)
@click.option(
    "--by",
    metavar="COLUMN",
    help="Group the runs by day, week, month or hour of upload, channel, folder, video, or another column, "
    "and compare the groups; name groups files whose names begin alike.",
)
@click.option(
    "--name-pattern",
    metavar="REGEX",
    help="With --by name: the first capture group of this expression in a file's name is its group. Default: "
    "the name without the number at its end.",
)
@click.option(
    "--timezone",
    default="UTC",
    show_default=True,
    metavar="ZONE",
    help="Time zone of days, weeks and hours, such as Europe/Berlin.",
)
@click.option(
    "--since", type=_Since(), help="Only videos uploaded on this day or later: 2026-11-24, 30d, 4w."
)
@click.option(
    "--channel", "channels", multiple=True, metavar="NAME", help="Only this channel; may be repeated."
)
@click.option(
    "--where",
    multiple=True,
    metavar="SQL",
    help='Only runs that match this condition, such as "duration_s > 60" (docs/report.md); may be repeated.',
)
@click.option(
    "--columns",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="CSV file with columns of your own for --by and --where; its first column identifies the run: run, "
    "video_id, title, url or source.",
)
@click.option(
    "--min-people",
    type=WholeNumber(1),
    default=1,
    show_default=True,
    metavar="N",
    help="Suppress groups of fewer people than this, and single people.",
)
@click.option(
    "--youtube-analytics",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Age and gender table exported from YouTube Analytics (CSV): compares people with viewers.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of the table.")
@quiet_option
@log_option
def report(
    paths: tuple[Path, ...],
    *,
    formats: tuple[str, ...] | None,
    out: Path | None,
    opens: bool,
    quiet: bool,
    as_json: bool,
    log_file: Path | None,
    **choices: Any,
) -> None:
    """Summarize runs: figures with intervals, pages, charts and tables.

    PATH is a run folder or a folder that holds runs. Default: the newest run in outputs.

    \b
    Examples:
      {program} report
      {program} report outputs/talk-file-24ad666ec43b --open
      {program} report outputs --by week --since 90d --format html,png,csv
    """
    if opens and formats is not None and "html" not in formats:
        raise click.UsageError("--open shows the HTML page: add html to --format, or omit --format")
    wanted = formats or (("html",) if opens else ())
    if out is not None and not wanted:
        raise click.UsageError("--out needs --format, which chooses the files to write")
    if quiet and not wanted and not as_json:
        raise click.UsageError("--quiet needs --format or --json; without them there is no output")
    with logging_to(log_file):
        sys.exit(_report(paths, wanted, out, quiet=quiet, as_json=as_json, opens=opens, **choices))


def _report(
    paths: tuple[Path, ...],
    formats: tuple[str, ...],
    out: Path | None,
    *,
    quiet: bool,
    as_json: bool,
    opens: bool,
    **choices: Any,
) -> int:
    from analyzer.cli.report import NO_CHARTS, describe_files, describe_report, open_page, show_skipped
    from analyzer.cli.text import show_error, show_warning
    from analyzer.report import Chosen, make_report

    names = ("since", "channels", "columns", "timezone")
    parts = choices.pop("where")
    where = " AND ".join(f"({part})" for part in parts) if len(parts) > 1 else next(iter(parts), None)
    try:
        which = Chosen(**{name: choices.pop(name) for name in names}, where=where)
        made = make_report(paths, chosen=which, **choices)
        if formats:
            made.place(formats, out)  # before anything is printed
        for sentence in made.failed:
            show_error(sentence)
        for sentence in made.warnings:
            show_warning(sentence)
        for sentence in () if quiet else made.passed_over:
            show_skipped(sentence)
        document = made.linked(out or made.default_out or Path())
        if as_json:
            click.echo(json.dumps(document, indent=2, ensure_ascii=False))
        elif not quiet:
            click.echo(describe_report(document))
        written = made.save(formats, out) if formats else []
    except SettingsError as error:
        raise click.UsageError(str(error)) from error
    except AnalyzerError as error:
        show_error(str(error))
        return NOTHING_USABLE
    if written and not quiet and not as_json:
        click.echo(describe_files(written))
    if "png" in formats and not any(path.suffix == ".png" for path in written):
        click.echo(NO_CHARTS, err=True)
    page = next((path for path in written if path.name == "report.html"), None)
    if opens and page is not None and not open_page(page):
        show_error(f"no browser was found: open {page} yourself")
    return SOME_FAILED if made.failed else DONE


def _run(
    sources: tuple[str, ...],
    settings: Settings,
    out: Path,
    *,
    again: bool,
    show: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    from analyzer.api import analyze_all
    from analyzer.cli.console import Console
    from analyzer.cli.live import LiveStop
    from analyzer.events import Event, Failed, Finished
    from analyzer.sources.local import images_together
    from analyzer.util.system import few_arenas

    few_arenas()
    console = Console(quiet=quiet, as_json=as_json)
    results: list[Finished | Failed] = []
    left = 0

    def on_event(event: Event) -> None:
        stop.on_event(event)
        console.on_event(event)

    try:
        with console, contextlib.ExitStack() as stack:
            how: dict[str, Any] = {"out": out, "on_event": on_event, "again": again}
            if show:
                from analyzer.cli.show import Window

                how["on_preview"] = stack.enter_context(Window()).on_preview
            stop = stack.enter_context(LiveStop())
            together = iter(images_together(sources))
            for result in analyze_all(together, settings, cancelled=stop, **how):
                results.append(result)
            left = len(list(together)) if stop() else 0
        if left:
            what = "1 source was" if left == 1 else f"{left} sources were"
            console.error(f"{what} not started because a signal ended the previous one; run them again")
    except AnalyzerError as error:
        console.error(str(error))
    except KeyboardInterrupt as error:
        raise InterruptedCommandError(console.interrupted(out)) from error
    finally:
        console.summary(results)
    return max(_exit_code(results), SOME_FAILED) if left else _exit_code(results)


def _evaluate(
    paths: tuple[str, ...], settings: Settings, out: Path | None, *, quiet: bool, as_json: bool, **how: Any
) -> int:
    from analyzer.cli.console import Console, describe_evaluation
    from analyzer.evaluation import check_out, evaluate
    from analyzer.util.system import few_arenas

    few_arenas()
    console = Console(quiet=quiet, as_json=as_json, lists_runs=False)
    try:
        if out is not None:
            check_out(out)
        with console:
            evaluation = evaluate(paths, settings, on_event=console.on_event, **how)
        if evaluation.usable and out is not None:
            evaluation.save(out)
    except AnalyzerError as error:
        console.error(str(error))
        return NOTHING_USABLE
    if as_json:
        click.echo(json.dumps(evaluation.to_dict(), indent=2, ensure_ascii=False))
    elif evaluation.usable and not quiet:
        click.echo(describe_evaluation(evaluation, out))
    if not evaluation.usable:
        return NOTHING_USABLE
    return SOME_FAILED if evaluation.failed else DONE


def _calibrate(
    paths: tuple[str, ...], settings: Settings, out: Path | None, *, quiet: bool, as_json: bool, **how: Any
) -> int:
    from analyzer.cli.console import Console, describe_calibration
    from analyzer.evaluation.calibrate import calibrate
    from analyzer.util.system import few_arenas

    few_arenas()
    console = Console(quiet=quiet, as_json=as_json, lists_runs=False)
    try:
        with console:
            found = calibrate(paths, settings, out=out, on_event=console.on_event, **how)
    except AnalyzerError as error:
        console.error(str(error))
        return NOTHING_USABLE
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
    elif not quiet:
        click.echo(describe_calibration(found))
    return DONE


def _exit_code(results: list[Any]) -> int:
    from analyzer.events import Finished

    runs = [result.run for result in results if isinstance(result, Finished)]
    if not any(result.folder for result in results):
        return NOTHING_USABLE
    whole = all(run.complete and not run.video_error for run in runs)
    return DONE if len(runs) == len(results) and whole else SOME_FAILED


@cli.command(
    epilog=epilog(
        {
            DONE: "no check failed; there may be warnings",
            SOME_FAILED: "a check failed; the line below it suggests a fix",
            USAGE: EXIT_CODES[USAGE],
            NOTHING_USABLE: "the output cannot be written",
            INTERRUPTED: "interrupted by Ctrl-C",
            TERMINATED: "terminated by SIGTERM",
        }
    )
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=DEFAULT_OUT,
    show_default=True,
    help="Folder of the runs and the ledger.",
)
@executor_options
@click.option(
    "--jobs",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="The jobs file whose [executor] and settings are checked.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of lines.")
def doctor(out: Path, executor: str | None, address: str | None, jobs: Path | None, *, as_json: bool) -> None:
    """Check this machine, and a cluster, and suggest fixes.

    Checks packages, FFmpeg, models, yt-dlp, disk, memory, ledger and clock, without using the network. With
    --executor ray, or a jobs file that says so, also the cluster: versions, models, disk, memory and clock
    of each machine, and a small analysis.
    """
    from analyzer.cli.doctor import chosen_cluster, show_checks

    cluster = chosen_cluster(executor, address, jobs)
    sys.exit(DONE if show_checks(out, cluster, as_json=as_json) else SOME_FAILED)


def main() -> None:
    """Run the command line: the console script, ``python cli.py`` and ``python -m analyzer``."""
    stopped_by = INTERRUPTED

    def terminate(signal_number: int, frame: object) -> None:
        nonlocal stopped_by
        del signal_number, frame
        stopped_by = TERMINATED
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, terminate)
    try:
        # Shells complete only the installed command.
        name = NAME if COMPLETE_VARIABLE in os.environ else program()
        sys.exit(cli.main(prog_name=name, standalone_mode=False, complete_var=COMPLETE_VARIABLE))
    except click.UsageError as error:
        click.UsageError(in_form(error.format_message()), error.ctx).show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except OSError as error:
        if error.filename is not None or error.errno not in (errno.ENOSPC, errno.EIO):
            raise
        click.echo(f"Error: the output cannot be written ({error.strerror})", err=True)
        sys.exit(NOTHING_USABLE)
    except InterruptedCommandError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(stopped_by)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Error: interrupted", err=True)
        sys.exit(stopped_by)
