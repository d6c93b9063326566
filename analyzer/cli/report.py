"""The output of ``report``: the figures as a table, skipped folders, the files written."""

from __future__ import annotations

import shutil
import textwrap
import webbrowser
from collections.abc import Sequence
from pathlib import Path

import click

from analyzer.report.document import Document, Values
from analyzer.report.figures import (
    AUDIENCE_FIGURES,
    Figure,
    attention_texts,
    ends_of,
    figure_of,
    figure_text,
    moment_words,
    more_moments_words,
    notes_of_runs,
    span_text,
    why_not,
)
from analyzer.util.text import counted, one_line, shorten

__all__ = ["NO_CHARTS", "describe_files", "describe_report", "open_page", "show_skipped"]

_HEADLINES = (
    *("people", "on_screen_s", "female_on_screen_s", "male_on_screen_s", "unknown_on_screen_s"),
    *("occupancy", "co_presence", "mixed", "concurrent_mean", "concurrent_peak", "first_s"),
    *("longest_occupancy_s", "longest_person_s", "female", "male", "unknown_gender", "age_median_years"),
    *("female_people_share", "female_time_share"),
)
_COLUMNS = (
    ("people", "people"),
    ("on_screen_s", "on screen"),
    ("occupancy", "occupancy"),
    ("co_presence", "co-presence"),
    ("female_people_share", "female share"),
)
_COLUMNS_OF_IMAGES = (
    ("analyzed_s", "images"),
    ("people", "people"),
    ("occupancy", "with people"),
    ("co_presence", "with two or more"),
    ("female_people_share", "female share"),
)
NO_CHARTS = "No charts: no people were found, or all are suppressed by --min-people."
_MAX_ROWS = 30
_MAX_MOMENTS = 3
_MAX_NOTES = 10


def describe_report(document: Document) -> str:
    """A report in a few lines."""
    total, several = document["total"], document["kind"] == "videos"
    images = document["images"]
    analyzed = figure_text(total["analyzed_s"], "clock")
    if images:
        analyzed = counted(total["analyzed_s"] or 0, "image")
    about = "; ".join([*document["filters"], f"{analyzed} analyzed"])
    lines = [f"{one_line(document['title'])} ({one_line(about)})"]
    for name in _HEADLINES:
        if (figure := figure_of(name, images=images)) is None:
            continue
        value = _figure_words(total, figure, document["min_people"])
        span = span_text(*ends_of(total, name), figure.unit)
        words = "first appearance, median" if several and name == "first_s" else figure.words
        lines.append(f"  {words:<38}{value}{f' ({span})' if span and value[:1].isdigit() else ''}")
    lines += [] if images else [*_screen_time(document), *_moments(document)]
    if document["groups"]:
        lines += _table(document, document["groups"]["by"], document["groups"]["rows"])
    elif several:
        titled = [video | {"group": video["title"]} for video in document["videos"]]
        lines += _table(document, "images" if images else "video", titled)
    lines += _changes(document)
    lines += [*_attention(document), *_audience(document)]
    width = min(110, shutil.get_terminal_size().columns)
    of_runs = notes_of_runs(document)
    left = len(of_runs) - _MAX_NOTES
    more = [f"... and {counted(left, 'more note')}: --format html"] if left > 0 else []
    for note in [*document["notes"], *of_runs[:_MAX_NOTES], *more]:
        lines += textwrap.wrap(one_line(note), width, initial_indent="  ", subsequent_indent="  ")
    return "\n".join(lines)


def _figure_words(row: Values, figure: Figure, least: int) -> str:
    return why_not(row, figure.name, least=least) or figure_text(row[figure.name], figure.unit)


def _screen_time(document: Document) -> list[str]:
    """Time on screen by perceived age; time by gender is among the figures."""
    rows = [row for row in document["screen_time"] if not row["by"] and row["dimension"] == "age"]
    return [
        f"  {'time on screen, age ' + row['group']:<38}{figure_text(row['on_screen_s'], 'clock')}"
        for row in rows
        if row["people"]
    ]


def _moments(document: Document) -> list[str]:
    titles = {video["run"]: video["title"] for video in document["videos"]}
    several = document["kind"] == "videos"
    lines = []
    for moment in document["moments"][:_MAX_MOMENTS]:
        where = f" in {one_line(shorten(titles[moment['run']], 50))}" if several else ""
        at = figure_text(moment["peak_s"], "clock")
        lines.append(f"  {'busiest: ' + at:<38}{moment_words(moment)}{where}")
    if more := more_moments_words(document, _MAX_MOMENTS):
        lines.append(f"  {'':<38}{more}")
    return lines


def _table(document: Document, by: str, rows: Sequence[Values]) -> list[str]:
    least = document["min_people"]
    columns = _COLUMNS_OF_IMAGES if document["images"] else _COLUMNS
    cells = [[by, *(words for _, words in columns)]]
    for row in rows[:_MAX_ROWS]:
        figures = (figure_of(name, images=document["images"]) for name, _ in columns)
        texts = [_figure_words(row, figure, least) for figure in figures if figure is not None]
        cells.append([one_line(shorten(str(row["group"]), 40)), *texts])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  "
        + "  ".join(
            [row[0].ljust(widths[0]), *(t.rjust(w) for t, w in zip(row[1:], widths[1:], strict=True))]
        )
        for row in cells
    ]
    left = len(rows) - _MAX_ROWS
    return lines + ([f"  ... and {left} more: --format csv or html shows all"] if left > 0 else [])


def _changes(document: Document) -> list[str]:
    """The changes of a trend, or the differences between groups, that are beyond their error bars."""
    trend, comparison = document["trend"], document["comparison"]
    if trend is not None:
        found = [
            (row["period"], row["words"], row["previous_value"], row["value"], row["unit"])
            for row in trend["rows"]
            if row["exceeds"]
        ]
        known = any(row["exceeds"] is not None for row in trend["rows"])
        heads = "changes beyond their error bars:", "no change is beyond its error bars"
    elif comparison is not None:
        found = [
            (
                f"{row['first']} to {row['second']}",
                row["words"],
                row["first_value"],
                row["second_value"],
                row["unit"],
            )
            for row in comparison["rows"]
            if row["exceeds"]
        ]
        known = any(row["exceeds"] is not None for row in comparison["rows"])
        heads = "differences beyond their error bars:", "no difference is beyond its error bars"
    else:
        return []
    lines = [
        f"  {one_line(shorten(what, 60))}: {words} {figure_text(before, unit)} -> {figure_text(now, unit)}"
        for what, words, before, now, unit in found[:_MAX_ROWS]
    ]
    left = len(found) - _MAX_ROWS
    more = [f"  ... and {left} more: --format csv or html shows all"] if left > 0 else []
    if not known:
        heads = ("", "The groups have too few videos to be compared.")
    return [f"  {heads[0] if found else heads[1]}", *(f"  {line}" for line in [*lines, *more])]


def _attention(document: Document) -> list[str]:
    """The attention figures of everybody."""
    if not (attention := document.get("attention")):
        return []
    texts = attention_texts(attention["rows"][0], document["min_people"])
    return [f"  {one.words:<38}{text}" for one, text in zip(AUDIENCE_FIGURES, texts, strict=True)]


def _audience(document: Document) -> list[str]:
    audience = document["audience"]
    if audience is None:
        return []
    lines = [f"  {'on screen against audience':<38}{'on screen':>10}{'audience':>10}{'difference':>12}"]
    for row in audience["rows"]:
        difference = row["difference"]
        points = "" if difference is None else f"{100 * difference:+.0f} points"
        shown, watched = (figure_text(row[name], "share") for name in ("on_screen_share", "audience_share"))
        lines.append(f"    {row['group']:<36}{shown or '-':>10}{watched:>10}{points:>12}")
    return lines


def describe_files(written: Sequence[Path]) -> str:
    """The files written, a line each, or their folder if there are many."""
    shown = (
        [str(path) for path in written] if len(written) <= 3 else [f"{len(written)} in {written[0].parent}"]
    )
    return "\n".join(f"  written: {name}" for name in shown)


def show_skipped(sentence: str) -> None:
    """Report a skipped folder on standard error."""
    click.echo(f"Skipped: {one_line(sentence)}", err=True)


def open_page(path: Path) -> bool:
    """Open a page in the browser; False if there is no browser."""
    return webbrowser.open(path.absolute().as_uri())
