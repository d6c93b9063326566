"""A report in Markdown."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import quote

from analyzer.people.proportions import FEW_PEOPLE
from analyzer.report.deeplinks import moment_url
from analyzer.report.document import Document, Valued, Values, VideoRow
from analyzer.report.figures import (
    AUDIENCE_FIGURES,
    FIGURES,
    SUPPRESSED,
    TOO_FEW,
    Figure,
    Unit,
    attention_texts,
    attention_words,
    ends_of,
    figure_of,
    figure_text,
    method,
    moment_words,
    more_moments_words,
    notes_of_runs,
    runs_words,
    span_text,
    why_not,
)
from analyzer.util.text import counted, one_line
from analyzer.util.urls import web_address

__all__ = [
    "markdown",
]

_MOST_VIDEOS, _MOST_ROWS = 50, 100


def markdown(document: Document) -> str:
    """The report as a page for a wiki; untrusted text is shown as plain text by any renderer."""
    sections: list[tuple[str, Callable[[Document], list[str]]]] = [
        ("Figures", _figures_part),
        ("Time on screen", _screen_time_part),
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
        about.append(f"Filters: {_text('; '.join(document['filters']))}.")
    heading = "People in the images" if document["images"] else "People on screen"
    lines = [f"# {heading}: {_text(document['title'])}", "", " ".join(about)]
    for title, part in sections:
        if content := part(document):
            lines += ["", f"## {title}", "", *content]
    return "\n".join(lines) + "\n"


def _of_video(video: VideoRow) -> str:
    """The source of a single video, and whether it was read to its end."""
    whole = "" if video["complete"] else f" It was not read to the end: {_text(video['incomplete_reason'])}."
    source = _link(_text(video["source"]), video["url"])
    what = "Video" if video["kind"] != "images" else counted(video["samples"] or 0, "image")
    return f"{what}: {source}, {_text(video['day_is'])} {_text(video['day'])}.{whole}"


def _text(text: Any) -> str:
    """Untrusted text for any renderer of Markdown: possible markup becomes entities.

    >>> _text("a|b <i> [x](javascript:y) *z*")
    'a&#124;b &#60;i&#62; &#91;x&#93;(javascript&#58;y) &#42;z&#42;'
    """
    line = one_line(text)
    # A colon makes an address or a smiley only before a letter; lists begin with a sign or a number.
    markup = r"[&<>|`*_~\[\]{}\\$#@^]|:(?=\S)|(?<=\bwww)\.|^[-+=]"
    line = re.sub(markup, lambda found: f"&#{ord(found[0])};", line)
    return re.sub(r"^(\d+)([.)])(?=\s|$)", lambda found: f"{found[1]}&#{ord(found[2])};", line)


def _code(text: Any) -> str:
    """Untrusted text that is a name or a value, as code if no character in it can end code or a cell.

    >>> _code("start_s"), _code("2026-11-29T23:21:57+00:00"), _code("a|`b`")
    ('`start_s`', '`2026-11-29T23:21:57+00:00`', 'a&#124;&#96;b&#96;')
    """
    line = one_line(text)
    return f"`{line}`" if re.fullmatch(r"[\w.,:+/%-]+( [\w.,:+/%-]+)*", line) else _text(line)


def _link(words: str, url: str | None) -> str:
    """A link around Markdown text; the text alone if there is no address."""
    address = web_address(url)
    if address is None:
        return words
    return f"[{words}]({quote(address, safe='/:?#@!$&=+,%~.-')})"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _left_out(rows: Sequence[Any], limit: int, what: str) -> list[str]:
    left = len(rows) - limit
    return ["", f"{left:,} more {what} are not listed."] if left > 0 else []


def _known_figures(names: Sequence[str], document: Document) -> list[Figure]:
    """Figures by their names, without those that images do not have."""
    found = (figure_of(name, images=document["images"]) for name in names)
    return [figure for figure in found if figure is not None]


def _spanned(row: Values, figure: Figure, least: int) -> str:
    """A figure with its interval, or the word in its place."""
    if reason := why_not(row, figure.name, least=least):
        return reason
    return _with_span(figure_text(row[figure.name], figure.unit), *ends_of(row, figure.name), figure.unit)


def _with_span(value: str, low: Any, high: Any, unit: Unit) -> str:
    span = span_text(low, high, unit)
    return f"{value} ({span})" if span else value


_ENDS = tuple(figure.name for figure in FIGURES if figure.name.endswith(("_low", "_high")))


def _figures_part(document: Document) -> list[str]:
    total: Values = document["total"]
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
    rows: list[Values] = [row for row in document["shares"] if not row["by"]]
    estimated = document["total"].get("estimated") or 0
    lines = (
        [
            f"{TOO_FEW.capitalize()}: shares need at least {FEW_PEOPLE} people with estimates, and there "
            f"{'is' if estimated == 1 else 'are'} {estimated}."
        ]
        if 0 < estimated < FEW_PEOPLE
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
                            figure_text(row[f"{kind}_share"], "share") or SUPPRESSED,
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
            figure_text(row["people"], "people"),
            figure_text(row["on_screen_s"], "clock"),
        )
        for row in document["screen_time"]
        if not row["by"] and row["people"] != 0 and not document["images"]
    ]
    return _table(("", "people", "time on screen"), rows) if rows else []


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
    if lines and (more := more_moments_words(document)):
        lines += ["", more.capitalize() + "."]
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
        *_left_out(videos, _MOST_VIDEOS, several),
    ]


_OF_VIDEOS = (
    "analyzed_s",
    "people",
    "occupancy",
    "concurrent_mean",
    "female_people_share",
    "female_time_share",
)


_OF_GROUPS = ("videos", "people", "people_per_video", "occupancy", "female_people_share", "female_time_share")


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
    return [*_table(head, rows), *_left_out(groups["rows"], _MOST_ROWS, "groups")]


def _trend_part(document: Document) -> list[str]:
    trend = document["trend"]
    if not trend:
        return []
    changes = [row for row in trend["rows"] if row["previous"] is not None]
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
    return [*_table(head, rows), *_left_out(changes, _MOST_ROWS, "changes")]


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
    return [*_table(head, rows), *_left_out(comparison["rows"], _MOST_ROWS, "differences")]


def _change(change: Any, low: Any, high: Any, unit: Unit) -> str:
    """A change with its sign, for shares in percentage points."""
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
        beyond = low is not None and high is not None and (low > 0 or high < 0)
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
                "**beyond its error bars**" if beyond else "" if low is None or high is None else "within",
            )
        )
    head = ("", "of the audience", f"of the {basis} (95 % interval)", "difference (95 % interval)", "")
    notes = [f"- {_text(note)}" for note in audience["notes"]]
    lines = [f"Audience from {_text(audience['file'])}.", "", *_table(head, rows)]
    return [*lines, *(["", *notes] if notes else [])]


def _notes_part(document: Document) -> list[str]:
    skipped = [f"Left out: {one['folder']}: {one['reason']}" for one in document["skipped"]]
    notes = [*document["notes"], *notes_of_runs(document), *skipped]
    return [*(f"- {_text(note)}" for note in notes[:_MOST_ROWS]), *_left_out(notes, _MOST_ROWS, "notes")]


def _limits_part(document: Document) -> list[str]:
    return [f"- **{subject}** {words}" for subject, words in method(document)]


def _provenance_part(document: Document) -> list[str]:
    provenance = document["provenance"]
    lines = []
    if provenance["models"]:
        rows = [
            (
                *map(_text, (model["name"], model["role"], model["license"])),
                {True: "yes", False: "no", None: "–"}[model["commercial_use"]],
                _text(str(model["sha256"])[:12]),
                *(_text(words or "–") for words in (model["trained_on"], model["known_bias"])),
            )
            for model in provenance["models"]
        ]
        head = ("model", "role", "license", "commercial use", "sha256", "trained on", "known bias")
        lines += [*_table(head, rows), ""]
    for words, valued in (("Settings", provenance["settings"]), ("Versions", provenance["versions"])):
        if items := [_valued(item, images=document["images"]) for item in valued]:
            lines += [f"- {words}: {'; '.join(items)}"]
    for words, values in (
        ("Calibration fitted on", [_text(one) for one in provenance["fitted_on"]]),
        ("Schema of the tables", [str(one) for one in provenance["schema_versions"]]),
        ("Analyzed", [_code(one) for one in dict.fromkeys(provenance["analyzed_at"])]),
    ):
        if values:
            lines += [f"- {words}: {(' to ' if words == 'Analyzed' else ', ').join(values)}"]
    return lines


def _valued(item: Valued, *, images: bool) -> str:
    """A setting or version, with the number of videos of each value if there are several values."""
    values = item["values"]
    texts = [
        _code(one["value"]) + (f" ({runs_words(one['videos'], images=images)})" if len(values) > 1 else "")
        for one in values
    ]
    return f"{_code(item['name'])} {', '.join(texts)}"
