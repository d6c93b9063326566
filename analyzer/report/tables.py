"""The tables of a report, for CSV files and the spreadsheet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from analyzer.report.document import Document, Timeline, Values
from analyzer.report.figures import AUDIENCE_FIGURES, FIGURES, figure_of, method, notes_of_runs
from analyzer.util.sheets import Sheet

__all__ = [
    "report_sheets",
    "table_cells",
    "table_columns",
    "tables",
]

Rows = Sequence[Values]


_TABLES: dict[str, tuple[str, ...]] = {
    "figures": ("by", "group", "title", *(figure.name for figure in FIGURES)),
    "shares": (
        *("by", "group_value", "dimension", "group", "people_share", "people_low", "people_high"),
        *("time_share", "time_low", "time_high", "estimated"),
    ),
    "screen-time": ("by", "group_value", "dimension", "group", "people", "on_screen_s", "share"),
    "pyramid": ("gender", "band", "people", "on_screen_s"),
    "moments": ("run", "start_s", "end_s", "people", "peak_s", "peak_people"),
    "people": (
        *("run", "title", "person_id", "name", "gender", "female_prob", "age_years", "age_low", "age_high"),
        *(
            "age_band",
            "gender_source",
            "age_source",
            "corrected",
            "first_s",
            "last_s",
            "on_screen_s",
            "appearances",
        ),
    ),
    "appearances": ("run", "person_id", "start_s", "end_s", "gender", "age_years", "age_band"),
    "pairs": ("a", "b", "co_presence_s"),
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
    "concurrent": ("people", "time_s", "share"),
    "images": ("image", "readable", "person_id", "gender"),
    "attention": ("group", *(figure.name for figure in AUDIENCE_FIGURES), "attention_unknown"),
}
"""The columns of each of `REPORT_TABLES`."""

_OF_TIME = ("screen-time", "moments", "appearances")
"""Tables about time, which images do not have."""

_COLUMNS_OF_IMAGES = {"on_screen_s": "images", "time_s": "images", "co_presence_s": "images"}
"""Names of the columns of seconds where each image counts as one second."""


def table_columns(name: str, document: Document) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The columns of a table: their names in the document, and their headers."""
    columns = _TABLES[name]
    if not document["images"]:
        return columns, columns
    figures = {figure.name: figure_of(figure.name, images=True) for figure in FIGURES}
    gone = {one for one, figure in figures.items() if figure is None and one != "on_screen_s"}
    gone |= {"first_s", "last_s", "appearances", "time_share", "time_low", "time_high"}
    kept = tuple(column for column in columns if column not in gone)
    own = {"on_screen_s": "people_in_images", "analyzed_s": "images"} if name == "figures" else {}
    words = _COLUMNS_OF_IMAGES | own
    return kept, tuple(words.get(column, column) for column in kept)


def tables(document: Document) -> dict[str, Rows]:
    """The tables of a document by their names; values that are not known or suppressed are None."""
    groups = document["groups"]
    figures = [{"by": "", "group": "", "title": document["title"], **document["total"]}]
    if groups is not None:
        figures += [{"title": "", **row, "by": groups["by"]} for row in groups["rows"]]
    figures += [{**video, "by": "video", "group": video["run"]} for video in document["videos"]]
    found: dict[str, Rows] = {
        "figures": figures,
        "shares": document["shares"],
        "pyramid": document["pyramid"],
        "moments": document["moments"],
        "concurrent": document["concurrent"],
    }
    if document["screen_time"]:
        found["screen-time"] = document["screen_time"]
    if document["people"] is not None:
        titles = {video["run"]: video["title"] for video in document["videos"]}
        found["people"] = [{"title": titles[one["run"]], **one} for one in document["people"]]
        found["appearances"] = [
            {**one, "start_s": start_s, "end_s": end_s}
            for one in document["people"]
            for start_s, end_s in one.get("spans", ())
        ]
        if document["kind"] != "video":
            del found["appearances"]
    if document["image_rows"] is not None:
        found["images"] = document["image_rows"]
    if document["pairs"] is not None:
        found["pairs"] = document["pairs"]
    if (trend := document["trend"]) is not None:
        found["trend"] = [{**row, "by": trend["by"]} for row in trend["rows"]]
    if (comparison := document["comparison"]) is not None:
        found["comparison"] = [{**row, "by": comparison["by"]} for row in comparison["rows"]]
    if (audience := document["audience"]) is not None:
        found["audience"] = [{**row, "basis": audience["basis"]} for row in audience["rows"]]
    if attention := document.get("attention"):
        found["attention"] = attention["rows"]
    if document["images"]:
        return {name: rows for name, rows in found.items() if name not in _OF_TIME}
    return found


def table_cells(rows: Rows, columns: Sequence[str]) -> list[list[Any]]:
    """The cells of a table, with numbers rounded to six decimals."""
    return [
        [round(one, 6) + 0.0 if isinstance(one, float) else one for one in map(row.__getitem__, columns)]
        for row in rows  # + 0.0: no -0.0
    ]


def report_sheets(document: Document) -> list[Sheet]:
    """The tables as sheets of a workbook, with a sheet on the columns and one on the report."""
    shares = {figure.name for figure in (*FIGURES, *AUDIENCE_FIGURES) if figure.unit == "share"}
    shares |= {name for names in _TABLES.values() for name in names if name.endswith("share")}
    shares |= {f"{kind}_{end}" for kind in ("people", "time") for end in ("low", "high")}
    about = [("title", document["title"]), ("made", document["made_at"])]
    about += [("made with", f"Audience Analyzer {document['analyzer_version']}")]
    about += [("filter", words) for words in document["filters"]]
    about += [("note", note) for note in document["notes"]]
    about += [("note", note) for note in notes_of_runs(document)]
    about += [("limits", f"{subject} {words}") for subject, words in method(document)]
    about += [("left out", f"{one['folder']}: {one['reason']}") for one in document["skipped"]]
    known = (figure_of(figure.name, images=document["images"]) for figure in FIGURES)
    names = dict(zip(*table_columns("figures", document), strict=True))
    meanings = [(names.get(one.name, one.name), one.words, one.meaning) for one in known if one is not None]
    sheets = []
    for name, rows in tables(document).items():
        # `people_low` is a number of people in the table of figures, and the end of a share elsewhere.
        mine = shares - {"people_low", "people_high"} if name == "figures" else shares
        columns, heads = table_columns(name, document)
        sheets.append(Sheet(name, heads, table_cells(rows, columns), frozenset(mine)))
    if document["timeline"] is not None and not document["images"]:
        sheets.append(_timeline_sheet(document["timeline"]))
    return [
        *sheets,
        Sheet("columns", ("figure", "words", "meaning"), meanings),
        Sheet("about", ("name", "value"), about),
    ]


def _timeline_sheet(timeline: Timeline) -> Sheet:
    series: Values = timeline
    columns = {name: series[name] for name in ("start_s", "end_s", "people")}
    columns |= {name: series[name] for name in ("female", "male", "unknown_gender")}
    columns |= {f"age {band}": values for band, values in (timeline["ages"] or {}).items()}
    known = {name: values for name, values in columns.items() if values is not None}
    return Sheet("timeline", tuple(known), list(zip(*known.values(), strict=True)))
