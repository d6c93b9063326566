"""``correct``: people of a run, corrected on the command line."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analyzer.cli.options import (
    DONE,
    INTERRUPTED,
    NOTHING_USABLE,
    TERMINATED,
    USAGE,
    ChoiceList,
    Command,
    epilog,
    log_option,
    logging_to,
    quiet_option,
)
from analyzer.errors import AnalyzerError, SettingsError

if TYPE_CHECKING:
    from analyzer.runs.corrections import Applied, Correction
    from analyzer.runs.run import Run
    from analyzer.runs.suggestions import Suggestion

__all__ = ["correct", "subtitles"]

_CODES = {
    DONE: "all corrections were made, and tables and report follow",
    USAGE: "usage error, or a correction contradicts the people there are; nothing was changed",
    NOTHING_USABLE: "there is no such run, or its folder cannot be written; nothing was changed",
    INTERRUPTED: "interrupted by Ctrl-C; run the command again",
    TERMINATED: "terminated by SIGTERM; run the command again",
}
_CORRECTING = ("merge", "split", "not_a_person", "gender", "age", "name", "drop", "undo")
_ORDER = "analyzer.cli.correct.order"
_MOST_SUGGESTED = 12


class _InOrder(Command):
    """A command that knows in which order its options were given, repeated ones included."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args:
            _, _, order = self.make_parser(ctx).parse_args(list(args))
            ctx.meta[_ORDER] = [one.name for one in order]
        return super().parse_args(ctx, args)


@click.command(cls=_InOrder, epilog=epilog(_CODES))
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--merge", multiple=True, metavar="N,N", help="These people are one; the lowest number remains."
)
@click.option(
    "--split",
    multiple=True,
    metavar="N",
    help="This person is two: the part that looks least like the rest becomes a new one. With --at, the part "
    "from that time on.",
)
@click.option("--at", multiple=True, type=float, metavar="SECONDS", help="Where to split; follows --split.")
@click.option("--not-a-person", multiple=True, type=int, metavar="N", help="This is no person.")
@click.option("--drop", multiple=True, type=int, metavar="N", help="Leave this person out of everything.")
@click.option("--gender", multiple=True, metavar="N=GENDER", help="Set it: female, male or unknown.")
@click.option("--age", multiple=True, metavar="N=AGE", help="Set it: years (42) or a band (30-39, 65+).")
@click.option("--name", multiple=True, metavar="N=NAME", help="Name a person; N= removes the name.")
@click.option("--undo", count=True, help="Undo the last correction; may be repeated.")
@click.option("--list", "lists", is_flag=True, help="Show corrections and suggestions.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of lines.")
@quiet_option
@log_option
@click.pass_context
def correct(
    ctx: click.Context,
    /,
    run: Path,
    *,
    lists: bool,
    as_json: bool,
    quiet: bool,
    log_file: Path | None,
    **values: Any,
) -> None:
    """Correct the people of a run: merge, split, name them, set gender and age.

    RUN is the folder of a run. Corrections are made in the order given, all of them or none. Tables,
    run.json and the report follow; the video is not read. Without a correction, the corrections made so far
    and suggestions are shown.

    \b
    Examples:
      {program} correct outputs/talk-file-24ad666ec43b
      {program} correct RUN --merge 3,7 --name 3=Ada --drop 9
      {program} correct RUN --split 4 --at 61.5 --age 5=30-39 --undo
    """
    with logging_to(log_file):
        wanted = _wanted(ctx.meta.get(_ORDER, []), values)
        sys.exit(_correct(run, wanted, lists=lists, as_json=as_json, quiet=quiet))


def _wanted(order: list[str | None], values: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the corrections in the order of the options, in JSON; an undo undoes the last one."""
    left: dict[str, Iterator[Any]] = {
        name: iter(value) for name, value in values.items() if isinstance(value, tuple)
    }
    wanted: list[dict[str, Any]] = []
    for name in order:
        if name == "undo":
            wanted.append({"action": "undo"})
        elif name == "at":
            at_s = next(left["at"])
            if not wanted or wanted[-1]["action"] != "split" or "at_s" in wanted[-1]:
                raise click.UsageError(f"--at {at_s:g} must follow the --split that it belongs to")
            wanted[-1]["at_s"] = at_s
        elif name in _CORRECTING:
            wanted.append({"action": name} | _fields(name, next(left[name])))
    return wanted


def _fields(name: str, value: Any) -> dict[str, Any]:
    match name:
        case "merge":
            return {"people": [_number(name, one) for one in value.split(",")]}
        case "split" | "not_a_person" | "drop":
            return {"person": _number(name, value)}
    number, equals, text = value.partition("=")
    if not equals:
        raise click.UsageError(
            f"--{name} {value}: write the person's number, = and the {name}, such as 3={_LIKE[name]}"
        )
    person = {"person": _number(name, number)}
    if name == "age":
        years = _years(text)
        return person | ({"age_band": text.strip()} if years is None else {"age_years": years})
    return person | {name: text.strip()}


_LIKE = {"gender": "female", "age": "42", "name": "Ada"}


def _number(name: str, text: Any) -> int:
    try:
        return int(text)
    except ValueError as error:
        option = f"--{name.replace('_', '-')}"
        raise click.UsageError(f"{option}: {str(text).strip()!r} is not the number of a person") from error


def _years(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _correct(run: Path, wanted: list[dict[str, Any]], *, lists: bool, as_json: bool, quiet: bool) -> int:
    from analyzer.cli.text import show_error
    from analyzer.correct import add_corrections, healed
    from analyzer.runs.corrections import Correction, read_corrections
    from analyzer.runs.suggestions import suggestions

    try:
        healed(run)
        before = read_corrections(run)
        undos = [one.number for one in before.active]
        made: list[Correction] = []
        for one in wanted:
            if one["action"] == "undo":
                # Those given before it are undone first, by not making them.
                if made and made[-1].action != "undo":
                    made.pop()
                    continue
                if not undos:
                    raise SettingsError("there is no correction to undo")
                one = one | {"undoes": undos.pop()}  # noqa: PLW2901
            made.append(Correction.of(one))
        if made:
            add_corrections(run, made)
        now = healed(run)
        corrections = read_corrections(run)
        applied = corrections.apply(now.faces, now.samples)
        found = suggestions(run) if lists or not wanted else []
    except SettingsError as error:
        raise click.UsageError(str(error)) from error
    except AnalyzerError as error:
        show_error(str(error))
        return NOTHING_USABLE
    if as_json:
        document = {
            "run": str(run),
            "people": len(now.people),
            "corrections": [_in_json(one) for one in applied.active],
            "lost": [_in_json(one) for one, _ in applied.lost],
            "suggestions": [one.to_dict() for one in found],
        }
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    elif not quiet:
        click.echo("\n".join(_lines(now, applied, found, listed=lists or not wanted)))
    return DONE


def _in_json(one: Correction) -> dict[str, Any]:
    return one.to_dict(places=False) | {"in_words": one.in_words()}


def _lines(run: Run, applied: Applied, found: list[Suggestion], *, listed: bool) -> Iterator[str]:
    from analyzer.util.text import counted, one_line

    people = run.people
    genders = Counter(people["gender"])
    parts = ", ".join(f"{genders[gender]} {gender}" for gender in ("female", "male", "unknown"))
    yield f"{one_line(run.folder)}: {counted(len(people), 'person', 'people')} ({parts})"
    if listed:
        for one in applied.active:
            yield f"  {one.number:>3}  {one_line(one.in_words())}"
        for one, why in applied.lost:
            yield f"  {one.number:>3}  {one_line(one.in_words())}: not applied, {one_line(why)}"
        if not applied.active and not applied.lost:
            yield "  no corrections yet"
        if found:
            yield "suggestions, the likeliest errors first:"
        for each in found[:_MOST_SUGGESTED]:
            yield f"  {each.kind:<6}{each.reason}"
        if len(found) > _MOST_SUGGESTED:
            yield f"  ... and {len(found) - _MOST_SUGGESTED} more: --json shows all"
        return
    for row in people[people["corrected"]].to_dict("records"):
        age = "?" if math.isnan(row["age_years"]) else f"{row['age_years']:.0f}"
        label = f"{one_line(row['name'])}, " if row["name"] else ""
        sure = [name for name in ("gender", "age") if row[f"{name}_source"] == "confirmed"]
        confirmed = f" ({' and '.join(sure)} confirmed)" if sure else ""
        yield f"  {row['person_id']:>3}  {label}{row['gender']}, {age}{confirmed}"
    annotated = run.info.get("annotated")
    if annotated and annotated["error"]:
        yield f"  annotated video: {annotated['error']}"


_SUBTITLE_CODES = {
    DONE: "the subtitles were written",
    USAGE: "usage error",
    NOTHING_USABLE: "there is no such run, or it is of images, or the files cannot be written",
    INTERRUPTED: "interrupted by Ctrl-C",
    TERMINATED: "terminated by SIGTERM",
}


@click.command(cls=Command, epilog=epilog(_SUBTITLE_CODES))
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "forms",
    type=ChoiceList(("ass", "vtt")),
    default="ass,vtt",
    show_default=True,
    help="ass: boxes and labels, for VLC and mpv; vtt: WebVTT, the labels of the people on screen.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the files, which are then named like the video; default: the run's folder.",
)
@quiet_option
@log_option
def subtitles(
    run: Path, *, forms: tuple[str, ...], out: Path | None, quiet: bool, log_file: Path | None
) -> None:
    """Write subtitles of a run: boxes and labels over the original video.

    RUN is the folder of a run. The video is not read. Players load talk.ass by themselves if it lies beside
    talk.mp4.

    \b
    Examples:
      {program} subtitles outputs/talk-file-24ad666ec43b
      {program} subtitles RUN --format ass --out videos
    """
    with logging_to(log_file):
        sys.exit(_subtitles(run, forms, out, quiet=quiet))


def _subtitles(run: Path, forms: tuple[str, ...], out: Path | None, *, quiet: bool) -> int:
    from analyzer.cli.text import show_error
    from analyzer.correct import healed
    from analyzer.output.subtitles import save_subtitles
    from analyzer.util.text import one_line

    try:
        info = healed(run).info
        stem = None if out is None else Path(info["source"]).stem or info["video_id"]
        written = save_subtitles(run, forms, out=out, stem=stem)
    except AnalyzerError as error:
        show_error(str(error))
        return NOTHING_USABLE
    if not quiet:
        click.echo("\n".join(f"written: {one_line(path)}" for path in written))
    return DONE
