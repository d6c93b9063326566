"""Terminal output: a progress bar for each video, errors as sentences, a short table for each run."""

from __future__ import annotations

import json
import logging
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click
from tqdm import tqdm

from analyzer.cli.text import left_out_text, show_error
from analyzer.events import (
    Downloading,
    Event,
    Failed,
    FilesSkipped,
    Finished,
    LiveProgress,
    LiveStarted,
    Opened,
    Progress,
    Rendering,
    ReportsRemoved,
    SamplingChosen,
    Started,
)
from analyzer.runs.run import Run
from analyzer.runs.run_info import AudienceFacts, ClockJumpFacts
from analyzer.util.gender import face_words
from analyzer.util.program import program
from analyzer.util.text import age_interval_words, counted, one_line, shorten

if TYPE_CHECKING:
    from analyzer.evaluation import Evaluation
    from analyzer.evaluation.calibrate import Calibrated

log = logging.getLogger(__name__)

_MAX_PEOPLE_LISTED = 12
_MAX_NAME = 16
_MAX_UNREAD_LISTED = 5
_MAX_VISIBLE_LISTED = 4


class Console:
    """Draws events to the terminal: bars on standard error, results on standard output.

    Bars are drawn only on a terminal, errors always. Each finished run is described if `lists_runs`.
    """

    def __init__(self, *, quiet: bool, as_json: bool, lists_runs: bool = True) -> None:
        self._quiet = quiet
        self._lists_runs = lists_runs
        self._as_json = as_json
        self._draws = not quiet and sys.stderr.isatty()
        self._bar: tqdm[Any] | None = None
        self._stage = ""
        self._source = ""
        self._begun: Opened | None = None
        self._drawing = False
        self._done = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close_bar()

    def on_event(self, event: Event) -> None:
        """Draw an event."""
        self._keep_track(event)
        match event:
            case Started(source=source):
                self._close_bar()
                self._source = source
                log.info("started %r", source)
            case Downloading():
                bar = self._open_bar("downloading", one_line(event.source), event.total_bytes, "B")
                self._advance(bar, event.received_bytes)
            case FilesSkipped() | SamplingChosen() | ReportsRemoved():
                self._close_bar()
                sentence = _note(event)
                log.info("%s", sentence)
                if not self._quiet:
                    click.echo(sentence, err=True)
            case Progress():
                total = None if event.duration_s is None else round(event.duration_s, 1)
                unit, rated = ("images", "images/s") if event.images else ("s", "samples/s")
                bar = self._open_bar("analyzing", one_line(event.title), total, unit)
                if bar is not None:
                    rate = event.samples / max(bar.format_dict["elapsed"], 1e-3)
                    faces = counted(event.faces, "face")
                    bar.set_postfix_str(f"{rate:.0f} {rated}, {faces}", refresh=False)
                self._advance(bar, event.time_s)
            case LiveStarted() | LiveProgress():
                self._on_live(event)
            case Rendering():
                bar = self._open_bar("rendering", one_line(event.title), 100, "%")
                self._advance(bar, event.fraction * 100)
            case Finished(run=run, unchanged=unchanged):
                self._close_bar()
                if self._lists_runs and not self._quiet and not self._as_json:
                    click.echo(describe(run))
                    if unchanged:
                        click.echo(_unchanged(run, self._source))
                how = "unchanged" if unchanged else "finished"
                log.info("%s %s: %s", how, run.folder, json.dumps(run.info["counts"]))
            case Failed(source=source, message=message):
                self._close_bar()
                log.error("failed %r: %s", source, one_line(message))
                named = Path(source).name in message
                self.error(message if named else f"{source}: {message}")

    def _keep_track(self, event: Event) -> None:
        """Remember what an interruption would leave saved; announce a resumed analysis."""
        self._drawing = isinstance(event, Rendering)
        if isinstance(event, Started | Finished | Failed):
            self._begun = None
        if isinstance(event, Finished):
            self._done += 1
        if isinstance(event, Opened):
            self._begun = event
            if event.completed and not self._quiet:
                self._close_bar()
                click.echo(_continued(event), err=True)

    def _on_live(self, event: LiveStarted | LiveProgress) -> None:
        if isinstance(event, LiveStarted):
            self._close_bar()
            log.info("live source %r", event.title)
            if not self._quiet:
                click.echo(_announced(event), err=True)
            return
        bar = self._open_bar("live", one_line(event.title), None, "s")
        if bar is not None:
            bar.set_postfix_str(_so_far(event), refresh=False)
        self._advance(bar, event.time_s)

    def interrupted(self, out: Path) -> str:
        """Say in a sentence what an interrupted command has saved.

        Args:
            out: Folder of runs.
        """
        again = "run the same command again to continue"
        if self._drawing:
            return f"interrupted: the tables are written, the annotated output is not; {again}"
        begun = self._begun
        # Counted on disk: worker processes may have saved segments that they have not reported yet.
        saved = 0 if begun is None else sum(1 for _ in out.glob(f"*/.parts/{begun.segments_key}-*"))
        if begun is None or not saved:
            if not self._done:
                return "interrupted: nothing was saved"
            done = f"{counted(self._done, 'source')} {'is' if self._done == 1 else 'are'} complete"
            return f"interrupted: {done}, nothing else was saved"
        return f"interrupted: {_saved_words(begun, saved)}; {again}"

    def error(self, sentence: str) -> None:
        """Print an error message on standard error."""
        show_error(sentence)

    def summary(self, results: Sequence[Finished | Failed]) -> None:
        """Print all results as one JSON document, if requested."""
        if self._as_json:
            click.echo(json.dumps([_as_json(result) for result in results], indent=2, ensure_ascii=False))

    def _open_bar(self, stage: str, title: str, total: float | None, unit: str) -> tqdm[Any] | None:
        if not self._draws:
            return None
        if self._bar is None or self._stage != stage:
            self._close_bar()
            self._stage = stage
            width = max(8, min(32, shutil.get_terminal_size().columns // 3))
            shown = shorten(title, width)
            count = "{n:.0f}/{total:.0f} " if total else "{n:.0f} "
            shape = "{desc} {percentage:3.0f}%|{bar}| " + count + unit + " [{elapsed}<{remaining}{postfix}]"
            if stage == "live":
                shape = "{desc} " + count + unit + "{postfix}"
            self._bar = tqdm(
                total=total,
                desc=f"{stage} {shown}",
                unit=unit,
                unit_scale=unit == "B",
                leave=False,
                dynamic_ncols=True,
                bar_format=None if unit == "B" else shape,
            )
        return self._bar

    @staticmethod
    def _advance(bar: tqdm[Any] | None, position: float) -> None:
        if bar is not None:
            bar.update(max(0.0, min(position, bar.total or position) - bar.n))

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _note(event: FilesSkipped | SamplingChosen | ReportsRemoved) -> str:
    match event:
        case FilesSkipped():
            return left_out_text(event.source, event.images, event.subfolders)
        case SamplingChosen():
            return f"{'Budget' if event.fits else 'Warning'}: {one_line(event.title)}: {event.choice}"
    return (
        f"Removed the reports of the previous analysis of {one_line(event.title)}: {', '.join(event.files)}. "
        f"To write them again: {program()} report {event.folder} --format html"
    )


def _continued(event: Opened) -> str:
    # Late: the analysis does not need it.
    from analyzer.report.figures import clock

    at_s = event.resumes_at_s or 0.0
    where = f"image {at_s + 1:.0f}" if event.images else clock(at_s)
    return f"Resuming {one_line(event.title)} at {where}: {_saved_words(event, len(event.completed))}"


def _saved_words(event: Opened, saved: int) -> str:
    """Such as "2 of 13 segments are saved"."""
    noun = "image" if event.images else "segment"
    if event.segments is None:
        return f"{counted(saved, noun)} {'is' if saved == 1 else 'are'} saved"
    return f"{saved} of {counted(event.segments, noun)} {'is' if saved == 1 else 'are'} saved"


def _unchanged(run: Run, source: str) -> str:
    """Say that a source was not analyzed again; a copy under another name is named, as the run is not."""
    when = str(run.info["analyzed_at"]).replace("T", " ")[:16]
    name, known = Path(source).name, Path(run.info["source"]).name
    same = "" if run.info["url"] or name == known else f"{one_line(name)} has the content of this video, "
    return (
        f"  unchanged: {same}already analyzed on {when} (UTC) with the same settings and models; use --again "
        "to analyze it again"
    )


def _announced(event: LiveStarted) -> str:
    until = "until Ctrl-C" if event.stop_s is None else f"for {event.stop_s:g} s, or until Ctrl-C"
    video = "; live sources get no annotated video" if event.without_video else ""
    return f"Live: {one_line(event.title)}: runs {until}{video}"


def _so_far(event: LiveProgress) -> str:
    parts = [counted(event.people, "person", "people"), counted(event.faces, "face")]
    parts += [f"{event.dropped} dropped"] if event.dropped else []
    parts += [counted(event.gaps, "gap")] if event.gaps else []
    parts += [] if event.connected else ["waiting for frames"]
    if event.visible:
        shown = [face_words(face.gender, face.age_years) for face in event.visible[:_MAX_VISIBLE_LISTED]]
        more = len(event.visible) - len(shown)
        parts.append(f"now: {'; '.join(shown)}{f' and {more} more' if more else ''}")
    return ", ".join(parts)


def describe(run: Run) -> str:
    """Describe a run in a few lines: headline, people, and where its files are."""
    counts = run.info["counts"]
    images = run.info["kind"] == "images"
    stretch = counted(counts["samples"], "image") if images else f"{counts['analyzed_s']:.1f} s"
    basis = [] if images else [counted(counts["samples"], "sample")]
    basis.append(counted(counts["faces"], "face"))
    low, high = counts["people_low"], counts["people_high"]
    between = "" if low == high else f" ({low} to {high})"
    lines = [
        f"{one_line(run.info['title'])}",
        f"  {counted(counts['people'], 'person', 'people')}{between} in {stretch}: "
        f"{counts['female']} female, {counts['male']} male, "
        f"{counts['unknown_gender']} unknown ({', '.join(basis)})",
    ]
    if audience := run.info.get("audience"):
        lines.append("  " + _audience_words(audience))
    live = run.info.get("live")
    if live:
        count = {0: "no gaps", 1: "1 gap"}.get(live["gaps"], f"{live['gaps']} gaps")
        gaps = f"{count} ({live['gaps_s']:.1f} s)" if live["gaps"] else count
        dropped = counted(live["dropped"], "frame")
        lines.append(f"  live: {gaps}, {dropped} dropped; {live['ended_because']}")
    bad = run.info["reading"]["bad_packets"]
    if bad:
        lines.append(f"  damaged: {counted(bad, 'packet')} could not be read")
    if jumps := run.info["reading"].get("clock_jumps"):
        lines.append(f"  {_jump_words(jumps, run.info['reading']['clock_jumps_at'])}")
    if not run.complete:
        lines.append(f"  incomplete: {one_line(run.info['incomplete_reason'] or '')}")
        lines += _unread_words(run) if images else []
    lines += _people_lines(run)
    width = min(110, shutil.get_terminal_size().columns)
    for sentence in (run.info["shares_text"] or "", *run.info["notes"]):
        lines += textwrap.wrap(sentence, width, initial_indent="  ", subsequent_indent="  ")
    lines.append(f"  tables:  {run.folder}")
    annotated = run.info.get("annotated")
    if run.video_error:
        lines.append(f"  no annotated {'images' if images else 'video'}: {one_line(run.video_error)}")
    elif annotated and annotated["file"]:
        lines.append(f"  {'images:' if images else 'video: '}  {run.folder / annotated['file']}")
    return "\n".join(lines)


def _people_lines(run: Run) -> list[str]:
    """The table of people, those with the most time on screen, with the names that corrections gave."""
    people, images = run.people, run.info["kind"] == "images"
    if not len(people):
        return []
    named = people["name"].astype(bool).any()
    names = f"  {'name':<{_MAX_NAME}}" if named else ""
    last = "images  first seen in" if images else "   first  on screen"
    lines = [f"  person{names}  gender   age  {age_interval_words(run.measured):>13}  {last}"]
    first_in = dict(zip(run.samples["time_s"], run.samples["image"], strict=True)) if images else {}
    shown = people.sort_values("on_screen_s", ascending=False, kind="stable").head(_MAX_PEOPLE_LISTED)
    for row in shown.sort_values("person_id").to_dict("records"):
        estimated = row["age_years"] == row["age_years"]
        age = f"{row['age_years']:.0f}" if estimated else "?"
        low, high = row["age_low"], row["age_high"]
        interval = f"{low:.0f} to {high:.0f}" if low < high else ""  # neither if somebody has set it
        seen = f"{row['first_s']:>6.1f} s  {row['on_screen_s']:>7.1f} s"
        if images:
            seen = f"{row['samples']:>6}  {one_line(first_in[row['first_s']])}"
        name = f"  {shorten(one_line(row['name']), _MAX_NAME):<{_MAX_NAME}}" if named else ""
        lines.append(f"  {row['person_id']:>6}{name}  {row['gender']:<7}  {age:>3}  {interval:>13}  {seen}")
    if others := len(people) - len(shown):
        rest = counted(others, "more person", "more people")
        lines.append(f"  ... and {rest}{'' if images else ' with less time on screen'}")
    return lines


def _unread_words(run: Run) -> list[str]:
    """Say why images could not be read, for the first few; older runs do not record it."""
    images = run.images
    if "reason" not in images:
        return []
    reasons = [str(one) for one in images["reason"].dropna() if one]
    more = len(reasons) - _MAX_UNREAD_LISTED
    return [
        *(f"    {one_line(reason)}" for reason in reasons[:_MAX_UNREAD_LISTED]),
        *([f"    ... and {more} more, in the images table"] if more > 0 else []),
    ]


def _jump_words(count: int, places: list[ClockJumpFacts]) -> str:
    """Describe the jumps of a file's timestamps.

    >>> _jump_words(1, [{"at_s": 6.0}])
    "the file's timestamps jump once (at 6.0 s); times continue across the jump, as in a player"
    """
    where = ", ".join(f"{one['at_s']:.1f} s" for one in places[:3]) + (", ..." if count > 3 else "")
    often = {1: "once", 2: "twice"}.get(count, f"{count} times")
    jumps = "jump" if count == 1 else "jumps"
    return (
        f"the file's timestamps jump {often} (at {where}); times continue across the {jumps}, as in a player"
    )


def _audience_words(audience: AudienceFacts) -> str:
    """Such as "3 of 8 are watchers: 12.0 s attention in 20.0 s dwell"."""
    known = audience["ots"] - audience["attention_unknown"]
    if not known:
        return "attention is unknown" + (": the faces have no landmarks" if audience["ots"] else "")
    words = (
        f"{audience['watchers']} of {known} {'is a watcher' if audience['watchers'] == 1 else 'are watchers'}"
    )
    if audience["watchers"]:
        attention_s, dwell_s = audience["attention_s"]["total"], audience["dwell_s"]["total"]
        words += f": {attention_s:.1f} s attention in {dwell_s:.1f} s dwell"
    return words


def describe_evaluation(evaluation: Evaluation, out: Path | None) -> str:
    """Describe an evaluation: its headline figures in a short table, and where its files are."""
    # Late: the analysis does not need it.
    from analyzer.evaluation.page import DESCRIBED_FIGURES, ESTIMATED_FIGURES, VIDEO_FIGURES, figure_text

    document = evaluation.to_dict()
    faces, videos = document["faces"], document["videos"]
    parts: list[tuple[str, dict[str, Any], dict[str, tuple[str, str]]]] = []
    for kind, scores in (document["described"] or {"kinds": {}})["kinds"].items():
        known = counted(scores["listed"], "person", "people")
        parts.append((f"{counted(scores['files'], kind)} with {known}", scores, DESCRIBED_FIGURES))
    if videos is not None:
        kinds = videos["kinds"]["all"]
        known = counted(kinds["true_people"], "person", "people")
        count = f"{counted(kinds['videos'], 'video')} with {known}: {kinds['found_people']} found"
        parts.append((count, kinds, VIDEO_FIGURES))
    for noun, scores in (("faces", faces), ("people", videos and videos["people"])):
        heads = {"all": f"all {noun}", "13+": f"{noun} aged 13 and over"}
        groups = scores["groups"]["all"] if scores else {}
        parts += [(heads[name], figures, ESTIMATED_FIGURES) for name, figures in groups.items()]
    lines = []
    for head, figures, listed in parts:
        texts = {words: figure_text(figures[key], unit) for key, (words, unit) in listed.items()}
        lines += [head, *(f"  {words:<50}  {text}" for words, text in texts.items() if text)]
    lines += [f"  not scored: {one_line(sentence)}" for sentence in evaluation.failed]
    for source in evaluation.sources:
        if source["unparsed"]:
            named = ", ".join(source["unparsed"][:3]) + (", ..." if len(source["unparsed"]) > 3 else "")
            count = f"{len(source['unparsed'])} without a label in the name"
            lines.append(f"  {one_line(source['name'])}: {count}: {one_line(named)}")
    if out is not None:
        lines.append(f"  page:    {out / 'accuracy.md'}")
    return "\n".join(lines)


def describe_calibration(calibrated: Calibrated) -> str:
    """Describe a calibration that was fitted: the figures before and after, and where its file is."""
    # Late: the analysis does not need it.
    from analyzer.evaluation.page import ESTIMATED_FIGURES, figure_text

    document = calibrated.to_dict()
    before, after = document["before"], document["after"]

    def row(words: str, key: str, way: str, group: str) -> str:
        unit = ESTIMATED_FIGURES[key][1]
        texts = [figure_text(one[way][group][key], unit, short=True) for one in (before, after)]
        return f"  {words:<50}  {texts[0]:>18}  {texts[1]:>18}"

    lines = [
        f"{counted(calibrated.faces, 'face')}, as in photographs and as in videos "
        f"({calibrated.left_out} not found)",
        f"  {'':<50}  {'before':>18}  {'after':>18}",
    ]
    for name, words in (("all", "all"), ("13+", "aged 13 and over")):
        lines += [
            row(f"{words}: {ESTIMATED_FIGURES[key][0]}", key, "all", name)
            for key in ("gender_right", "gender_unknown", "age_abs_error", "age_in_interval")
            if name in after["all"]
        ]
    lines += [
        row(f"{name}: {ESTIMATED_FIGURES['age_in_interval'][0]}", "age_in_interval", "age", name)
        for name in after["age"]
    ]
    ece = [f"{100 * one['gender_ece']:.1f} points" for one in (before, after)]
    lines.append(f"  {'gender, calibration error':<50}  {ece[0]:>18}  {ece[1]:>18}")
    if calibrated.missing_bands:
        lines.append(f"  without labeled faces, so not measured: {', '.join(calibrated.missing_bands)}")
    lines.append(f"  calibration:  {calibrated.path}")
    return "\n".join(lines)


def _as_json(result: Finished | Failed) -> dict[str, Any]:
    if isinstance(result, Finished):
        run = result.run
        people = json.loads(run.people.to_json(orient="records"))
        whole = run.complete and not run.video_error
        status = "unchanged" if result.unchanged else "done" if whole else "incomplete"
        return {"status": status, "folder": str(run.folder)} | {
            "run": run.info,
            "people": people,
        }
    return {
        "status": "failed",
        "source": result.source,
        "folder": result.folder,
        "error": result.error,
        "kind": result.kind,
        "retry": result.retry,
        "message": result.message,
    }
