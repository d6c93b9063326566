"""The files of a report: the page, charts, tables, Markdown and captions, all from its document.

Every name begins with ``report.`` or ``report-``. Titles, channels and file names in the document are
untrusted: in tables no spreadsheet takes them for formulas, in Markdown they are text and nothing else.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from analyzer.errors import OutputError, SettingsError
from analyzer.files import writing
from analyzer.records import (
    REPORT_CHARTS,
    report_files,
    write_json,
)
from analyzer.report.links import moment_url, web_address
from analyzer.report.words import (
    AUDIENCE_FIGURES,
    FIGURES,
    GENDER_WORDS,
    TOO_FEW,
    WITHHELD,
    Figure,
    Unit,
    attention_texts,
    attention_words,
    ends_of,
    figure_of,
    figure_text,
    method,
    moment_words,
    notes_of_runs,
    runs_words,
    span_text,
    why_not,
)
from analyzer.settings import REPORT_FORMATS
from analyzer.shares import FEW_PEOPLE
from analyzer.util.sheets import Sheet, write_csv, write_workbook
from analyzer.util.text import counted

__all__ = [
    "CHARTS",
    "FORMATS",
    "markdown",
    "one_line",
    "save",
    "tables",
    "webvtt",
]

Document = dict[str, Any]
Rows = list[dict[str, Any]]

FORMATS, CHARTS = REPORT_FORMATS, REPORT_CHARTS

_TABLES: dict[str, tuple[str, ...]] = {
    "figures": ("by", "group", "title", *(figure.name for figure in FIGURES)),
    "shares": (
        *("by", "group_value", "dimension", "group", "people_share", "people_low", "people_high"),
        *("time_share", "time_low", "time_high", "judged"),
    ),
    "screen-time": ("by", "group_value", "dimension", "group", "people", "on_screen_s", "share"),
    "pyramid": ("gender", "band", "people", "on_screen_s"),
    "moments": ("run", "start_s", "end_s", "people", "peak_s", "most"),
    "people": (
        *("run", "title", "person_id", "gender", "female_prob", "age_years", "age_low", "age_high"),
        *("age_band", "first_s", "last_s", "on_screen_s", "appearances"),
    ),
    "stretches": ("run", "person_id", "start_s", "end_s", "gender", "age_years", "age_band"),
    "pairs": ("a", "b", "together_s"),
    "trend": (
        *("by", "figure", "words", "unit", "period", "previous", "value", "value_low", "value_high"),
        *("previous_value", "change", "change_low", "change_high", "exceeds", "videos", "previous_videos"),
    ),
    "comparison": (
        *("by", "figure", "words", "unit", "first", "second", "first_value", "second_value", "difference"),
        *("difference_low", "difference_high", "exceeds", "first_videos", "second_videos"),
    ),
    "audience": (
        *("basis", "dimension", "group", "audience_share", "on_screen_share", "on_screen_low"),
        *("on_screen_high", "difference", "difference_low", "difference_high"),
    ),
    "at-once": ("people", "time_s", "share"),
    "images": ("image", "readable", "person_id", "gender"),
    "attention": ("group", *(figure.name for figure in AUDIENCE_FIGURES), "attention_unknown"),
}
"""Columns of the tables of `REPORT_TABLES`."""
_OF_TIME = ("screen-time", "moments", "stretches")
"""Tables that images have not: they have no time."""
_COLUMNS_OF_IMAGES = {"on_screen_s": "images", "time_s": "images", "together_s": "images"}
"""What columns of seconds are called where each image counts as one."""


def _columns(name: str, document: Document) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The columns of a table: by what names the document has them, and what they are called."""
    columns = _TABLES[name]
    if not document["images"]:
        return columns, columns
    figures = {figure.name: figure_of(figure.name, images=True) for figure in FIGURES}
    gone = {one for one, figure in figures.items() if figure is None and one != "on_screen_s"}
    gone |= {"first_s", "last_s", "appearances", "time_share", "time_low", "time_high"}
    kept = tuple(column for column in columns if column not in gone)
    own = {"on_screen_s": "people_in_images", "analysed_s": "images"} if name == "figures" else {}
    words = _COLUMNS_OF_IMAGES | own
    return kept, tuple(words.get(column, column) for column in kept)


_MOST_VIDEOS, _MOST_ROWS = 50, 100


def save(document: Document, formats: Iterable[str], out: Path) -> list[Path]:
    """Write a report; files of the same formats that an earlier report left in the folder go.

    Where people are withheld, all that an earlier report left goes.

    Args:
        document: Of the report.
        formats: Of `FORMATS`; captions are only written for a single video.
        out: Folder; made if need be.

    Returns:
        The files that were written.

    Raises:
        OutputError: They cannot be written.
        SettingsError: There is no such format.
    """
    chosen = set(formats)
    if unknown := sorted(chosen.difference(FORMATS)):
        raise SettingsError(
            f"no such format of a report: {', '.join(unknown)}; there are {', '.join(FORMATS)}"
        )
    document = _clean(document)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"the folder {out} cannot be made ({error.strerror}): choose another with --out"
        ) from error
    written: list[Path] = []

    def text(name: str, content: str) -> None:
        with writing(out / name) as temporary:
            temporary.write_text(content, "utf-8", newline="\n")
        written.append(out / name)

    if "html" in chosen:
        from analyzer.report.page import page

        text("report.html", page(document))
    if "png" in chosen:
        written += _save_charts(document, out)
    if "csv" in chosen:
        for name, rows in tables(document).items():
            path = out / f"report-{name}.csv"
            columns, heads = _columns(name, document)
            write_csv(path, pd.DataFrame(_cells(rows, columns), columns=heads, dtype=object))
            written.append(path)
    if "xlsx" in chosen:
        write_workbook(out / "report.xlsx", _sheets(document))
        written.append(out / "report.xlsx")
    if "json" in chosen:
        write_json(out / "report.json", document)
        written.append(out / "report.json")
    if "md" in chosen:
        text("report.md", markdown(document))
    if "vtt" in chosen and document["kind"] == "video":
        text("report.vtt", webvtt(document))
    names = {path.name for path in written}
    _remove_stale(out, chosen, names, everything=document["min_people"] > 1)
    return written


def _save_charts(document: Document, out: Path) -> list[Path]:
    from analyzer.report.charts import DPI, draw

    written = []
    for name, figure in draw(document).items():
        path = out / f"report-{name}.png"
        with writing(path) as temporary:
            figure.savefig(temporary, format="png", dpi=DPI)
        written.append(path)
    return written


def _remove_stale(out: Path, formats: set[str], written: set[str], *, everything: bool) -> None:
    """Remove what an earlier report left in the same forms, or `everything` of it.

    It would pass for a part of this one, or tell what this one withholds.
    """
    for name in report_files():
        path = out / name
        if (everything or path.suffix[1:] in formats) and name not in written and path.is_file():
            try:
                path.unlink()
            except OSError as error:
                raise OutputError(
                    f"{path} of an earlier report cannot be removed ({error.strerror})"
                ) from error


def _clean(value: Any) -> Any:
    """The document with null for numbers that JSON has not, and without letters that UTF-8 has not."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {_clean(key): _clean(one) for key, one in value.items()}
    return [_clean(one) for one in value] if isinstance(value, list | tuple) else value


def one_line(text: Any) -> str:
    """Untrusted text in one line, without control characters and those that turn the direction of writing.

    >>> one_line("a\\n\\tb" + chr(0x202E) + "c")
    'a bc'
    """
    marks = {*range(0x200E, 0x2010), *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x061C, 0xFEFF}
    kept = (each for each in str(text) if ord(each) not in marks)
    spaced = (" " if unicodedata.category(each) in ("Cc", "Cs", "Zl", "Zp") else each for each in kept)
    return " ".join("".join(spaced).split())


# --- tables ------------------------------------------------------------------------------------------


def tables(document: Document) -> dict[str, Rows]:
    """The tables by their names, those that the document has; what is not known or withheld is None."""
    groups = document["groups"]
    figures = [{"by": "", "group": "", "title": document["title"], **document["total"]}]
    if groups is not None:
        figures += [{"title": "", **row, "by": groups["by"]} for row in groups["rows"]]
    figures += [{**video, "by": "video", "group": video["run"]} for video in document["videos"]]
    found: dict[str, Rows] = {
        "figures": figures,
        **{name: document[name] for name in ("shares", "pyramid", "moments")},
        "at-once": document["at_once"],
    }
    if document["screen_time"]:
        found["screen-time"] = document["screen_time"]
    if document["people"] is not None:
        titles = {video["run"]: video["title"] for video in document["videos"]}
        found["people"] = [{"title": titles[one["run"]], **one} for one in document["people"]]
        found["stretches"] = [
            {**one, "start_s": start_s, "end_s": end_s}
            for one in document["people"]
            for start_s, end_s in one.get("stretches", ())
        ]
        if document["kind"] != "video":
            del found["stretches"]
    if document["image_rows"] is not None:
        found["images"] = document["image_rows"]
    if document["pairs"] is not None:
        found["pairs"] = document["pairs"]
    for name, key in (("trend", "by"), ("comparison", "by"), ("audience", "basis")):
        if document[name] is not None:
            found[name] = [{**row, key: document[name][key]} for row in document[name]["rows"]]
    if attention := document.get("attention"):
        found["attention"] = attention["rows"]
    if document["images"]:
        return {name: rows for name, rows in found.items() if name not in _OF_TIME}
    return found


def _cells(rows: Rows, columns: Sequence[str]) -> list[list[Any]]:
    """The cells of a table; numbers have at most six decimals."""
    return [
        [round(one, 6) + 0.0 if isinstance(one, float) else one for one in map(row.__getitem__, columns)]
        for row in rows  # + 0.0: no -0.0
    ]


def _sheets(document: Document) -> list[Sheet]:
    """The tables as sheets of a workbook, with what they are of and what must be known of them."""
    shares = {figure.name for figure in (*FIGURES, *AUDIENCE_FIGURES) if figure.unit == "share"}
    shares |= {name for names in _TABLES.values() for name in names if name.endswith("share")}
    shares |= {f"{kind}_{end}" for kind in ("people", "time") for end in ("low", "high")}
    about = [("title", document["title"]), ("made", document["made_at"])]
    about += [("made with", f"Audience Analyzer {document['analyzer_version']}")]
    about += [("chosen", words) for words in document["filters"]]
    about += [("note", note) for note in document["notes"]]
    about += [("note", note) for note in notes_of_runs(document)]
    about += [("limits", f"{subject} {words}") for subject, words in method(document)]
    about += [("left out", f"{one['folder']}: {one['reason']}") for one in document["skipped"]]
    known = (figure_of(figure.name, images=document["images"]) for figure in FIGURES)
    names = dict(zip(*_columns("figures", document), strict=True))
    meanings = [(names.get(one.name, one.name), one.words, one.meaning) for one in known if one is not None]
    sheets = []
    for name, rows in tables(document).items():
        # In the table of figures people are numbers; elsewhere `people_low` is the end of a share.
        mine = shares - {"people_low", "people_high"} if name == "figures" else shares
        columns, heads = _columns(name, document)
        sheets.append(Sheet(name, heads, _cells(rows, columns), frozenset(mine)))
    if document["timeline"] is not None and not document["images"]:
        sheets.append(_timeline_sheet(document["timeline"]))
    return [
        *sheets,
        Sheet("columns", ("figure", "words", "meaning"), meanings),
        Sheet("about", ("what", "value"), about),
    ]


def _timeline_sheet(timeline: Mapping[str, Any]) -> Sheet:
    columns = {name: timeline[name] for name in ("start_s", "end_s", "people")}
    columns |= {name: timeline[name] for name in ("female", "male", "unknown_gender")}
    columns |= {f"age {band}": values for band, values in (timeline["ages"] or {}).items()}
    known = {name: values for name, values in columns.items() if values is not None}
    return Sheet("timeline", tuple(known), list(zip(*known.values(), strict=True)))


# --- captions ----------------------------------------------------------------------------------------


_VTT_NOTE = "People seen within each span, not necessarily at the same moment; perceived gender. Estimates."


def webvtt(document: Document) -> str:
    """Captions that count the people of each stretch of the timeline; none where nobody is seen.

    Args:
        document: Of a single video.
    """
    cues: list[tuple[int, int, str]] = []
    timeline = document["timeline"]
    for index in range(len(timeline["start_s"]) if timeline else 0):
        start, end = (round(1000 * timeline[name][index]) for name in ("start_s", "end_s"))
        text = _cue(timeline, index)
        if not text or start >= end:
            continue
        if cues and cues[-1][1:] == (start, text):
            cues[-1] = cues[-1][0], end, text
        else:
            cues.append((start, end, text))
    blocks = [f"{_vtt_time(start)} --> {_vtt_time(end)}\n{text}\n" for start, end, text in cues]
    return "\n".join(["WEBVTT\n", f"NOTE\n{_VTT_NOTE}\n", *blocks])


def _cue(timeline: dict[str, Any], index: int) -> str:
    def count(name: str) -> str:
        values = timeline[name]
        number = None if values is None else values[index]
        # Where bins were joined, the counts are means.
        return "" if not number or number < 0.05 else figure_text(number, "people").replace(".0", "")

    people = count("people")
    if not people:
        return ""
    words = counted(float(people.replace(",", "")), "person", "people")
    genders = {"female": "female", "male": "male", "unknown_gender": "unknown"}
    parts = [f"{count(name)} {GENDER_WORDS[gender]}" for name, gender in genders.items() if count(name)]
    return f"{words}: {', '.join(parts)}" if parts else words


def _vtt_time(milliseconds: int) -> str:
    seconds, fraction = divmod(milliseconds, 1000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:02d}:{minute:02d}:{second:02d}.{fraction:03d}"


# --- Markdown ----------------------------------------------------------------------------------------


def markdown(document: Document) -> str:
    """The report as a page for a wiki; text from outside is shown as text in any renderer."""
    sections: list[tuple[str, Callable[[Document], list[str]]]] = [
        ("Figures", _figures_part),
        ("Time on screen, as stated", _screen_time_part),
        ("Estimated shares", _shares_part),
        ("Busiest moments", _moments_part),
        ("Sets of images" if document["images"] else "Videos", _videos_part),
        ("Groups", _groups_part),
        ("Changes", _trend_part),
        ("Differences", _comparison_part),
        ("In front of the camera", _attention_part),
        ("On screen and audience", _audience_part),
        ("Notes", _notes_part),
        ("Method and limits", _limits_part),
        ("Provenance", _provenance_part),
    ]
    day = _text(document["made_at"][:10])
    about = [f"Made {day} with Audience Analyzer {_text(document['analyzer_version'])}."]
    if document["kind"] == "video":
        about += [_of_video(video) for video in document["videos"]]
    if document["filters"]:
        about.append(f"Chosen: {_text('; '.join(document['filters']))}.")
    heading = "Who is in the images" if document["images"] else "Who is on screen"
    lines = [f"# {heading}: {_text(document['title'])}", "", " ".join(about)]
    for title, part in sections:
        if content := part(document):
            lines += ["", f"## {title}", "", *content]
    return "\n".join(lines) + "\n"


def _of_video(video: Mapping[str, Any]) -> str:
    """Where a single video is from, and whether it was read to its end."""
    whole = "" if video["complete"] else f" It was read only in part: {_text(video['incomplete_reason'])}."
    source = _link(_text(video["source"]), video["url"])
    what = "Video" if video["kind"] != "images" else counted(video["samples"] or 0, "image")
    return f"{what}: {source}, {_text(video['day_is'])} {_text(video['day'])}.{whole}"


def _text(text: Any) -> str:
    """Untrusted text for any renderer of Markdown: what could be markup becomes entities.

    >>> _text("a|b <i> [x](javascript:y) *z*")
    'a&#124;b &#60;i&#62; &#91;x&#93;(javascript&#58;y) &#42;z&#42;'
    """
    line = one_line(text)
    # A colon makes an address or a smiley only before a letter; lists begin with a sign or a number.
    markup = r"[&<>|`*_~\[\]{}\\$#@^]|:(?=\S)|(?<=\bwww)\.|^[-+=]"
    line = re.sub(markup, lambda found: f"&#{ord(found[0])};", line)
    return re.sub(r"^(\d+)([.)])(?=\s|$)", lambda found: f"{found[1]}&#{ord(found[2])};", line)


def _code(text: Any) -> str:
    """Untrusted text that is a name or a value; plain to read where no sign in it ends code or a cell.

    >>> _code("start_s"), _code("2026-11-29T23:21:57+00:00"), _code("a|`b`")
    ('`start_s`', '`2026-11-29T23:21:57+00:00`', 'a&#124;&#96;b&#96;')
    """
    line = one_line(text)
    return f"`{line}`" if re.fullmatch(r"[\w.,:+/%-]+( [\w.,:+/%-]+)*", line) else _text(line)


def _link(words: str, url: str | None) -> str:
    """A link around words that are Markdown already; the words alone if there is no address."""
    address = web_address(url)
    if address is None:
        return words
    return f"[{words}]({quote(address, safe='/:?#@!$&=+,%~.-')})"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _cut(rows: Sequence[Any], most: int, what: str) -> list[str]:
    left = len(rows) - most
    return ["", f"{left:,} more {what} are not listed."] if left > 0 else []


def _known_figures(names: Sequence[str], document: Document) -> list[Figure]:
    """Figures by their names, without those that images have not."""
    found = (figure_of(name, images=document["images"]) for name in names)
    return [figure for figure in found if figure is not None]


def _spanned(row: Mapping[str, Any], figure: Figure, least: int) -> str:
    """A figure of a row of figures with its interval, or why there is none."""
    if reason := why_not(row, figure.name, least=least):
        return reason
    return _with_span(figure_text(row[figure.name], figure.unit), *ends_of(row, figure.name), figure.unit)


def _with_span(value: str, low: Any, high: Any, unit: Unit) -> str:
    span = span_text(low, high, unit)
    return f"{value} ({span})" if span else value


_ENDS = tuple(figure.name for figure in FIGURES if figure.name.endswith(("_low", "_high")))


def _figures_part(document: Document) -> list[str]:
    total = document["total"]
    least = document["min_people"]
    several = ("videos", "people_per_video")
    rows = []
    for each in FIGURES:
        figure = figure_of(each.name, images=document["images"])
        if figure is None or figure.name in _ENDS or (document["kind"] == "video" and figure.name in several):
            continue
        value = why_not(total, figure.name, least=least) or figure_text(total[figure.name], figure.unit)
        span = span_text(*ends_of(total, figure.name), figure.unit)
        rows.append((figure.words, value, span, figure.meaning))
    return _table(("figure", "value", "range", "meaning"), rows)


def _shares_part(document: Document) -> list[str]:
    rows = [row for row in document["shares"] if not row["by"]]
    judged = document["total"].get("judged") or 0
    lines = (
        [
            f"{TOO_FEW.capitalize()}: {counted(judged, 'person was', 'people were')} judged, shares need "
            f"at least {FEW_PEOPLE}."
        ]
        if 0 < judged < FEW_PEOPLE
        else []
    )
    if rows:
        kinds = ("people",) if document["images"] else ("people", "time")
        heads = {"people": "of the people (95 % interval)", "time": "of the time on screen (95 % interval)"}
        lines += _table(
            ("", *(heads[kind] for kind in kinds)),
            (
                (
                    f"{row['dimension']} {_text(row['group'])}",
                    *(
                        _with_span(
                            figure_text(row[f"{kind}_share"], "share") or WITHHELD,
                            row[f"{kind}_low"],
                            row[f"{kind}_high"],
                            "share",
                        )
                        for kind in kinds
                    ),
                )
                for row in rows
            ),
        )
    return lines


def _screen_time_part(document: Document) -> list[str]:
    rows = [
        (
            f"{row['dimension']} {_text(row['group'])}",
            *(figure_text(row[name], unit) or WITHHELD for name, unit in _SCREEN_TIME),
        )
        for row in document["screen_time"]
        if not row["by"] and row["people"] != 0 and not document["images"]
    ]
    return _table(("", "people", "time on screen"), rows) if rows else []


_SCREEN_TIME: tuple[tuple[str, Unit], ...] = (("people", "people"), ("on_screen_s", "clock"))


def _moments_part(document: Document) -> list[str]:
    videos = {video["run"]: video for video in document["videos"]}
    lines = []
    for number, moment in enumerate(() if document["images"] else document["moments"], 1):
        video = videos.get(moment["run"])
        peak_s = moment["peak_s"]
        when = _link(figure_text(peak_s, "clock"), moment_url(video["url"], peak_s) if video else None)
        what = f"{when}: {moment_words(moment)}"
        where = f", in {_text(video['title'])}" if video and document["kind"] == "videos" else ""
        lines.append(f"{number}. {what}{where}")
    return lines


def _videos_part(document: Document) -> list[str]:
    videos = document["videos"]
    if document["kind"] != "videos":
        return []
    least = document["min_people"]
    figures = _known_figures(_OF_VIDEOS, document)
    rows = []
    for video in videos[:_MOST_VIDEOS]:
        title = _link(_text(video["title"]) or _text(video["run"]), video["url"])
        rows.append(
            (
                title if video["complete"] else f"{title} (incomplete: {_text(video['incomplete_reason'])})",
                f"{_text(video['day'])} ({_text(video['day_is'])})",
                *(_spanned(video, figure, least) for figure in figures),
            )
        )
    one, several = ("set of images", "sets of images") if document["images"] else ("video", "videos")
    head = (one, "day", *(figure.words for figure in figures))
    return [
        *_table(head, rows),
        *_cut(videos, _MOST_VIDEOS, several),
    ]


_OF_VIDEOS = ("analysed_s", "people", "presence", "at_once_mean", "female_people_share", "female_time_share")
_OF_GROUPS = ("videos", "people", "people_per_video", "presence", "female_people_share", "female_time_share")


def _groups_part(document: Document) -> list[str]:
    groups = document["groups"]
    if groups is None or not groups["rows"]:
        return []
    least = document["min_people"]
    figures = _known_figures(_OF_GROUPS, document)
    rows = []
    for row in groups["rows"][:_MOST_ROWS]:
        rows.append((_text(row["group"]), *(_spanned(row, figure, least) for figure in figures)))
    head = (_text(groups["by"]), *(figure.words for figure in figures))
    return [*_table(head, rows), *_cut(groups["rows"], _MOST_ROWS, "groups")]


def _trend_part(document: Document) -> list[str]:
    trend = document["trend"]
    changes = [row for row in trend["rows"] if row["previous"] is not None] if trend else []
    if not changes:
        return []
    rows = [
        (
            _text(row["words"]),
            f"{_text(row['previous'])} to {_text(row['period'])}",
            f"{figure_text(row['previous_value'], row['unit']) or '–'} to "
            f"{figure_text(row['value'], row['unit']) or '–'}",
            _change(row["change"], row["change_low"], row["change_high"], row["unit"]),
            {True: "**beyond its error bars**", False: "within", None: ""}[row["exceeds"]],
            f"{row['previous_videos']} to {row['videos']}",
        )
        for row in changes[:_MOST_ROWS]
    ]
    head = ("figure", _text(trend["by"]), "value", "change (95 % interval)", "", "videos")
    return [*_table(head, rows), *_cut(changes, _MOST_ROWS, "changes")]


def _comparison_part(document: Document) -> list[str]:
    comparison = document["comparison"]
    if not comparison or not comparison["rows"]:
        return []
    rows = [
        (
            _text(row["words"]),
            f"{_text(row['first'])} to {_text(row['second'])}",
            f"{figure_text(row['first_value'], row['unit']) or '–'} to "
            f"{figure_text(row['second_value'], row['unit']) or '–'}",
            _change(row["difference"], row["difference_low"], row["difference_high"], row["unit"]),
            {True: "**beyond its error bars**", False: "within", None: ""}[row["exceeds"]],
        )
        for row in comparison["rows"][:_MOST_ROWS]
    ]
    head = ("figure", _text(comparison["by"]), "value", "difference (95 % interval)", "")
    return [*_table(head, rows), *_cut(comparison["rows"], _MOST_ROWS, "differences")]


def _change(change: Any, low: Any, high: Any, unit: Unit) -> str:
    """A change with its sign; of shares in percentage points."""
    if change is None:
        return "–"

    def signed(value: float) -> str:
        if unit == "share":
            return f"{100 * value:+.1f}".replace("-0.0", "+0.0")
        text = figure_text(abs(value), unit)
        return text if not text.strip("0. %:") else ("−" if value < 0 else "+") + text

    points = " points" if unit == "share" else ""
    span = "" if low is None or high is None else f" ({signed(low)} to {signed(high)})"
    return f"{signed(change)}{points}{span}".replace("-", "−")


def _attention_part(document: Document) -> list[str]:
    attention = document.get("attention")
    if not attention:
        return []
    least = document["min_people"]
    rows = [
        (f"**{row['group']}**" if row["group"] == "all" else row["group"], *attention_texts(row, least))
        for row in attention["rows"]
    ]
    return [
        *_table(("", *(figure.words for figure in AUDIENCE_FIGURES)), rows),
        "",
        attention_words(attention),
    ]


def _audience_part(document: Document) -> list[str]:
    audience = document["audience"]
    if audience is None or not audience["rows"]:
        return []
    basis = {"time": "time on screen", "people": "people on screen"}[audience["basis"]]
    rows = []
    for row in audience["rows"]:
        low, high = row["difference_low"], row["difference_high"]
        known = low is not None and high is not None
        rows.append(
            (
                f"{row['dimension']} {_text(row['group'])}",
                figure_text(row["audience_share"], "share") or "–",
                _with_span(
                    figure_text(row["on_screen_share"], "share") or "–",
                    row["on_screen_low"],
                    row["on_screen_high"],
                    "share",
                ),
                _change(row["difference"], low, high, "share"),
                "" if not known else "**beyond its error bars**" if low > 0 or high < 0 else "within",
            )
        )
    head = ("", "of the audience", f"of the {basis} (95 % interval)", "difference (95 % interval)", "")
    notes = [f"- {_text(note)}" for note in audience["notes"]]
    lines = [f"Audience from {_text(audience['file'])}.", "", *_table(head, rows)]
    return [*lines, *(["", *notes] if notes else [])]


def _notes_part(document: Document) -> list[str]:
    skipped = [f"Left out: {one['folder']}: {one['reason']}" for one in document["skipped"]]
    notes = [*document["notes"], *notes_of_runs(document), *skipped]
    return [*(f"- {_text(note)}" for note in notes[:_MOST_ROWS]), *_cut(notes, _MOST_ROWS, "notes")]


def _limits_part(document: Document) -> list[str]:
    return [f"- **{subject}** {words}" for subject, words in method(document)]


def _provenance_part(document: Document) -> list[str]:
    provenance = document["provenance"]
    lines = []
    if provenance["models"]:
        rows = [
            (
                *(_text(model[name]) for name in ("name", "role", "licence")),
                {True: "yes", False: "no"}.get(model["commercial_use"], "–"),
                _text(str(model["sha256"])[:12]),
                *(_text(model[name] or "–") for name in ("trained_on", "known_bias")),
            )
            for model in provenance["models"]
        ]
        head = ("network", "role", "licence", "commercial use", "sha256", "trained on", "known bias")
        lines += [*_table(head, rows), ""]
    for words, name in (("Settings", "settings"), ("Versions", "versions")):
        if items := [_valued(item, images=document["images"]) for item in provenance[name]]:
            lines += [f"- {words}: {'; '.join(items)}"]
    for words, values in (
        ("Calibration fitted on", [_text(one) for one in provenance["fitted_on"]]),
        ("Schema of the tables", [str(one) for one in provenance["schema_versions"]]),
        ("Analysed", [_code(one) for one in dict.fromkeys(provenance["analysed_at"])]),
    ):
        if values:
            lines += [f"- {words}: {(' to ' if words == 'Analysed' else ', ').join(values)}"]
    return lines


def _valued(item: dict[str, Any], *, images: bool) -> str:
    """A setting or version; with the number of videos of each value if there are several."""
    values = item["values"]
    texts = [
        _code(one["value"]) + (f" ({runs_words(one['videos'], images=images)})" if len(values) > 1 else "")
        for one in values
    ]
    return f"{_code(item['name'])} {', '.join(texts)}"
