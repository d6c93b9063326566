"""The report as one self-contained HTML file, from the report document.

Figures and tables are written here. `assets/page.js` draws the charts from data in the page with
`assets/charts.js`, which is small: with a charting library each page had 4.8 MB. The page loads nothing but a
video beside it: its Content-Security-Policy names the hash of each script. Titles, channels, sources and
reasons are untrusted and only ever inserted as text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from analyzer.people.confirmed import CONFIRMED
from analyzer.people.proportions import FEW_PEOPLE
from analyzer.report.deeplinks import moments_of
from analyzer.report.document import Document, GroupTable, Pair, ScreenTimeRow, Values, VideoRow
from analyzer.report.figures import (
    AGES_MEASURED,
    AGES_UNMEASURED,
    AUDIENCE_FIGURES,
    BY_NAME,
    NOT_KNOWN,
    SUPPRESSED,
    TOO_FEW,
    Figure,
    attention_texts,
    attention_words,
    clock,
    ends_of,
    figure_of,
    figure_text,
    method,
    moment_words,
    more_moments_words,
    notes_of_runs,
    runs_words,
    span_text,
    span_words,
    why_not,
)
from analyzer.util.html import csp_hash, load_template
from analyzer.util.text import counted
from analyzer.util.urls import web_address

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = [
    "page",
]

Row = dict[str, Any]

_FOLDER = Path(__file__).with_name("assets")

_VIDEO_COLUMNS = (
    *("people", "on_screen_s", "occupancy", "co_presence", "female_people_share", "age_median_years"),
    *("longest_person_s", "concurrent_peak"),
)

_GROUP_COLUMNS = (
    *("videos", "analyzed_s", "people", "people_per_video", "occupancy", "co_presence"),
    *("female_people_share", "female_time_share", "age_median_years"),
)

_CHARTED = (
    *("people", "people_per_video", "on_screen_s", "occupancy", "co_presence", "mixed", "concurrent_mean"),
    *("female_people_share", "female_time_share", "age_median_years", "longest_person_s", "videos"),
)

_TOP, _PEOPLE_ROWS, _TABLE_ROWS, _VIDEO_ROWS, _MAX_SPANS = 20, 40, 200, 1000, 2000

_STATES = {SUPPRESSED: "suppressed", TOO_FEW: "few", NOT_KNOWN: "unknown"}

_UNITS = {"clock": "time", "share": "share", "years": "years", "s": "s", "people": "people", "": ""}


def page(document: Document) -> str:
    """The page of a report as one string of HTML."""
    from markupsafe import Markup

    document = _completed(document)
    script = (_FOLDER / "page.js").read_text("utf-8")
    charts = (_FOLDER / "charts.js").read_text("utf-8")
    return _template().render(
        **_context(document),
        css=Markup((_FOLDER / "page.css").read_text("utf-8")),
        script=Markup(script),
        charts=Markup(charts),
        script_src=f"'{csp_hash(charts)}' '{csp_hash(script)}'",
        data=Markup(_json(_chart_data(document))),
    )


@cache
def _template() -> Template:
    return load_template(
        _FOLDER / "page.html.j2",
        clock=_clock_or_dash,
        figure=figure_text,
        day=_day_words,
        cap=_capital,
        counted=counted,
    )


def _json(data: Any) -> str:
    """JSON that cannot end the script element around it."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _completed(document: Document) -> Document:
    """The document with links to moments; addresses that a browser must not open are removed."""
    videos = []
    for video in document["videos"]:
        moments = moments_of(video.get("url"))
        videos.append(
            video
            | {"url": web_address(video.get("url")), "link": moments and moments._asdict()}
            | {name: _near(video.get(name)) for name in ("media", "page")}
            | {"media_start_s": video.get("media_start_s") or 0.0}
        )
    return cast(Document, document | {"videos": videos})


def _near(path: Any) -> str | None:
    """A relative address or one of a local file; None for any other."""
    if not isinstance(path, str) or not path or re.search(r"[\s\\\x00-\x1f]", path):
        return None
    return path if re.match(r"file:///|(?!//)[^:]*(/|$)", path) else None


def _context(document: Document) -> Row:
    total, single = document["total"], document["kind"] == "video"
    videos = document["videos"]
    empty = total.get("people") == 0
    return {
        "doc": document,
        "single": single,
        "video": videos[0] if single and videos else None,
        "empty": empty,
        "cards": _cards(document),
        "meta": _meta(document),
        "span": span_words(timeline["bin_s"]) if (timeline := document["timeline"]) else "",
        "timeline_rows": None if document["images"] else _timeline_rows(document),
        "people": _people_rows(document),
        "people_shown": _PEOPLE_ROWS,
        "image_rows": _images_of(document),
        "pairs": _pairs(document),
        "pyramid": _pyramid_rows(document),
        "shares": _share_rows(document, "", ""),
        "estimated": total.get("estimated"),
        "min_estimated": FEW_PEOPLE,
        "more_moments": more_moments_words(document),
        "moments": [] if document["images"] else _moments(document),
        "by_run": {video["run"]: video for video in videos},
        "columns": _columns(_VIDEO_COLUMNS, document),
        "video_rows": [] if single else _video_rows(document),
        "video_limit": _VIDEO_ROWS,
        "group_columns": _columns(_GROUP_COLUMNS, document),
        "group_rows": _group_rows(document),
        "chart_options": _chart_options(document),
        "trend": _trend_tables(document),
        "comparison": _comparison(document),
        "screen_time": [] if document["images"] else _screen_time(document),
        "audience_rows": _audience_rows(document),
        "attention": _attention(document),
        "suppressed_word": SUPPRESSED,
        "too_few": TOO_FEW,
        "method": method(document, _setting(document, "fps")),
        "ages_words": AGES_MEASURED if document["ages_measured"] else AGES_UNMEASURED,
        "notes_of_runs": notes_of_runs(document),
        "runs_noun": "sets of images" if document["images"] else "videos",
        "runs_words": lambda number: runs_words(number, images=document["images"]),
        "top": _TOP,
        "table_rows": _TABLE_ROWS,
        "moment": _moment,
        "time_words": lambda seconds: _time_words(seconds, document),
        "labels": _chart_labels(document),
    }


def _columns(names: Sequence[str], document: Document) -> list[Figure]:
    found = (figure_of(name, images=document["images"]) for name in names)
    return [figure for figure in found if figure is not None]


@dataclass(frozen=True)
class _Cell:
    """A figure in a table: its text, the value it is sorted by, and its interval between 0 and 1."""

    text: str
    state: str = ""
    sort: float | str | None = None
    span: str = ""
    bar: tuple[float, float, float] | None = None
    numeric: bool = True


def _cell(row: Values, name: str, document: Document) -> _Cell:
    figure, value = figure_of(name, images=document["images"]) or BY_NAME[name], row.get(name)
    reason = why_not(row, name, least=document["min_people"])
    if value is None or reason:
        return _Cell("", _STATES[reason])
    low, high = ends_of(row, name)
    bar = None
    if figure.unit == "share" and low is not None and high is not None:
        bar = (low, value, high)
    return _Cell(figure_text(value, figure.unit), "", value, span_text(low, high, figure.unit), bar)


def _moment(video: VideoRow | None, seconds: float | None) -> Row | None:
    """A moment and where it can be watched; a time only if there is neither a video nor an address."""
    if video is None or seconds is None:
        return None
    link = video["link"]
    url = f"{link['before']}{int(seconds)}{link['after']}" if link else ""
    media = video["media"]
    at = max(0.0, seconds - video["media_start_s"])
    return {
        "run": video["run"],
        "s": round(seconds, 3),
        "text": figure_text(seconds, "clock"),
        "url": url,
        "href": f"{media}#t={at:g}" if media else url,
        "media": bool(media),
    }


def _meta(document: Document) -> list[str]:
    """The line below the title, without its links."""
    total, videos = document["total"], document["videos"]
    analyzed = total.get("analyzed_s")
    if document["kind"] == "video":
        video = videos[0]
        share = None if document["images"] else video["analyzed_share"]
        length = figure_text(video["duration_s"], "clock")
        if document["images"]:
            size = counted(video["samples"] or 0, "image")
        else:
            size = f"{length} long" if length else "length not known"
        words = [
            video["channel"] or "",
            f"{video['day_is'] or 'of'} {_day_words(video['day'])}" if video["day"] else "",
            size,
            f"{figure_text(share, 'share')} analyzed" if share is not None else "",
        ]
        return [word for word in words if word]
    channels = sorted({channel for video in videos if (channel := video["channel"])})
    days = sorted(video["day"] for video in videos if video["day"])
    count = runs_words(len(videos), images=document["images"])
    words = [count] if count != document["title"] else []
    if days:
        same = days[0] == days[-1]
        words.append(_day_words(days[0]) if same else f"{_day_words(days[0])} to {_day_words(days[-1])}")
    if channels:
        words.append(channels[0] if len(channels) == 1 else counted(len(channels), "channel"))
    if analyzed is not None:
        time = f"{figure_text(analyzed, 'clock')} analyzed"
        words.append(counted(analyzed, "image") if document["images"] else time)
    return words


def _cards(document: Document) -> list[Row]:
    total, single, videos = document["total"], document["kind"] == "video", document["videos"]
    video = videos[0] if single and videos else None

    def card(name: str, words: str = "", note: str = "", moment: Row | None = None) -> Row:
        cell = _cell(total, name, document)
        figure = figure_of(name, images=document["images"]) or BY_NAME[name]
        title = figure.words if document["images"] else words or figure.words
        return {
            "name": name,
            "words": title,
            "cell": cell,
            "meaning": figure.meaning,
            "note": note,
            "moment": moment,
        }

    stated = [
        f"{figure_text(total.get(name), 'people')} {words}"
        for name, words in (("female", "female"), ("male", "male"), ("unknown_gender", "unknown"))
        if total.get(name) is not None
    ]
    analyzed = total.get("analyzed_s")
    analyzed_text = f"of {figure_text(analyzed, 'clock')} analyzed" if analyzed is not None else ""
    cards = [
        card("people", note=" · ".join(stated)),
        card("on_screen_s", note="of all people, added up"),
        card("occupancy", note=analyzed_text),
        card("co_presence", note=_mean_words(total)),
        card("female_people_share", note=_estimated_text(total)),
        card("age_median_years", "median age", note="as perceived, in years"),
        _longest_card(card, videos, video),
        card(
            "first_s",
            note="of anybody" if single else "median of the videos",
            moment=_moment(video, total.get("first_s")),
        ),
        card("concurrent_peak", "peak concurrent people", note="in one analyzed frame"),
    ]
    if not single:
        cards.insert(1, card("people_per_video", note="mean"))
    if not document["images"]:
        return cards
    notes = {
        "occupancy": f"of {counted(analyzed or 0, 'image')}",
        "co_presence": f"{figure_text(total.get('concurrent_mean'), 'people')} per image on average",
        "concurrent_peak": "",
        "on_screen_s": "added up over the images",
    }
    known = [one for one in cards if figure_of(one["name"], images=True)]
    return [one | {"note": notes.get(one["name"], one["note"])} for one in known]


def _estimated_text(total: Values) -> str:
    if total.get("female_people_share") is not None:
        return "estimate, 95 % interval"
    count = total.get("estimated") or 0
    return f"{counted(count, 'person', 'people')} with estimates" if 0 < count < FEW_PEOPLE else ""


def _mean_words(total: Values) -> str:
    mean = total.get("concurrent_mean")
    return (
        f"{figure_text(mean, 'people')} concurrent on average" if mean is not None else "of the analyzed time"
    )


def _longest_card(card: Any, videos: Sequence[VideoRow], video: VideoRow | None) -> Row:
    known = [one for one in videos if one["longest_person"]]
    best = video or max(known, key=lambda one: one["longest_person_s"] or 0.0, default=None)
    longest = best["longest_person"] if best else None
    moment = _moment(best, longest["start_s"]) if best and longest else None
    note = f"person {longest['person_id']}" if longest else ""
    if best and longest and video is None:
        note += f" of {best['title']}"
    row: Row = card("longest_person_s", note=note, moment=moment)
    return row


def _timeline_rows(document: Document) -> Row | None:
    """At most 200 rows, evenly spread."""
    timeline = document["timeline"]
    if not timeline or not timeline["start_s"]:
        return None
    count = len(timeline["start_s"])
    step = -(-count // _TABLE_ROWS)
    series: list[tuple[str, list[float | None] | None]] = [("people", timeline["people"])]
    if timeline["female"]:
        series += [("female", timeline["female"]), ("male", timeline["male"])]
        series.append(("unknown gender", timeline["unknown_gender"]))
    ages = timeline["ages"] or {}
    series += [(f"age {band}", values) for band, values in ages.items() if any(values)]
    rows = []
    for index in range(0, count, step):
        values = [values[index] if values else None for _, values in series]
        rows.append((clock(timeline["start_s"][index]), [figure_text(value, "people") for value in values]))
    return {"heads": [words for words, _ in series], "rows": rows, "step": step}


def _person_words(person: Values) -> str:
    """Such as "person 3 · female · about 34 (24 to 49)"."""
    number = f"person {person['person_id']}"
    words = [f"{person['name']} ({number})" if person.get("name") else number, _gender_words(person)]
    if person.get("age_years") is not None and person.get("age_source") == CONFIRMED:
        ages = span_text(round(person["age_low"]), round(person["age_high"]), "years")
        words.append(ages or figure_text(person["age_years"], "years"))
    elif person.get("age_years") is not None:
        span = (
            span_text(round(person["age_low"]), round(person["age_high"]), "years") if _ranged(person) else ""
        )
        words.append(f"about {figure_text(person['age_years'], 'years')}" + (f" ({span})" if span else ""))
    else:
        words.append("age unknown")
    if person.get("corrected"):
        words.append("corrected by hand")
    return " · ".join(words)


def _ranged(person: Values) -> bool:
    return person.get("age_low") is not None and person.get("age_high") is not None


def _gender_words(person: Values) -> str:
    gender = person.get("gender") or "unknown"
    return "gender unknown" if gender == "unknown" else gender


def _people_rows(document: Document) -> list[Row]:
    people = document["people"] or []
    return [
        {
            **person,
            "words": _person_words(person),
            "gender": person.get("gender") or "unknown",
            "age_text": figure_text(person.get("age_years"), "years"),
            "age_span": span_text(person.get("age_low"), person.get("age_high"), "years"),
        }
        for person in people[:_TABLE_ROWS]
    ]


def _images_of(document: Document) -> list[tuple[str, str]]:
    """Each image with the people in it."""
    found: dict[str, list[str]] = {}
    for row in document["image_rows"] or ():
        who = found.setdefault(row["image"], [])
        if not row["readable"]:
            who.append("could not be read")
        elif row["person_id"] is not None:
            who.append(f"{row['person_id']} ({row['gender'] or 'unknown'})")
    return [(image, ", ".join(who)) for image, who in found.items()]


def _pyramid_rows(document: Document) -> Row | None:
    cells = {(cell["gender"], cell["band"]): cell for cell in document["pyramid"] or []}
    if not cells:
        return None
    bands = [*document["age_bands"], "unknown"]
    rows = []
    for band in bands:
        row = []
        for gender in ("female", "male", "unknown"):
            cell = cells.get((gender, band), {"people": 0, "on_screen_s": 0.0})
            hidden = cell["people"] is None
            shown = "" if hidden else figure_text(cell["people"], "people")
            seconds = cell["on_screen_s"]
            row.append({"hidden": hidden, "people": shown, "time": figure_text(seconds, "clock")})
        rows.append((band, row))
    return {"rows": rows, "hidden": any(cell["people"] is None for cell in cells.values())}


def _share_rows(document: Document, by: str, value: str) -> list[Row]:
    rows = []
    for share in document["shares"]:
        if share["by"] != by or share["group_value"] != value:
            continue
        row: Row = {
            "dimension": share["dimension"],
            "group": share["group"],
            "estimated": share.get("estimated"),
        }
        for basis in ("people", "time"):
            middle, low, high = (share.get(f"{basis}_{end}") for end in ("share", "low", "high"))
            row[basis] = {
                "value": middle,
                "low": low,
                "high": high,
                "text": figure_text(middle, "share"),
                "span": span_text(low, high, "share"),
            }
        rows.append(row)
    return rows


def _pairs(document: Document) -> list[Pair]:
    """Pairs of people; of images only those in more than one, since a group photo has hundreds of pairs."""
    pairs = document["pairs"] or [] if document["kind"] == "video" else []
    least = 1.5 if document["images"] else 0.0
    return [pair for pair in pairs if pair["co_presence_s"] > least]


def _moments(document: Document) -> list[Row]:
    by_run = {video["run"]: video for video in document["videos"]}
    rows = []
    for moment in document["moments"] or []:
        video = by_run.get(moment["run"])
        at = _moment(video, moment["peak_s"])
        if video and at:
            rows.append({"at": at, "words": moment_words(moment), "title": video["title"]})
    return rows


def _video_rows(document: Document) -> list[Row]:
    rows = []
    for video in document["videos"][:_VIDEO_ROWS]:
        longest = video.get("longest_person")
        rows.append(
            {
                "video": video,
                "cells": [_cell(video, one.name, document) for one in _columns(_VIDEO_COLUMNS, document)],
                "longest": _moment(video, longest["start_s"]) if longest else None,
            }
        )
    return rows


def _group_rows(document: Document) -> list[Row]:
    groups = document["groups"]
    if not groups:
        return []
    return [
        {
            "group": row["group"],
            "cells": [_cell(row, one.name, document) for one in _columns(_GROUP_COLUMNS, document)],
        }
        for row in groups["rows"]
    ]


def _change_text(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    sign = "+" if value > 0 else "−" if value < 0 else "±"
    if unit == "share":
        size = figure_text(abs(value), "share").removesuffix(" %")
        return f"{sign}{size} points"
    return f"{sign}{figure_text(abs(value), unit)}"  # type: ignore[arg-type]


def _change_span(low: float | None, high: float | None, unit: str) -> str:
    if low is None or high is None:
        return ""
    return f"{_change_text(low, unit).removesuffix(' points')} to {_change_text(high, unit)}"


def _trend_tables(document: Document) -> list[Row]:
    """The periods and changes of each figure, in order of time."""
    trend = document["trend"]
    tables: dict[str, Row] = {}
    for row in trend["rows"] if trend else ():
        unit = row["unit"]
        table = tables.setdefault(
            row["figure"], {"figure": row["figure"], "words": row["words"], "unit": unit, "rows": []}
        )
        table["rows"].append(
            {
                **row,
                "text": figure_text(row["value"], unit),
                "span": span_text(row["value_low"], row["value_high"], unit),
                "change_text": _change_text(row["change"], unit),
                "change_span": _change_span(row["change_low"], row["change_high"], unit),
                "verdict": _verdict(row["exceeds"], row["change"]),
            }
        )
    return list(tables.values())


def _verdict(exceeds: bool | None, change: float | None) -> str:
    if exceeds is None or change is None:
        return ""
    if not exceeds:
        return "within error bars"
    return f"{'up' if change > 0 else 'down'}, beyond error bars"


def _comparison(document: Document) -> Row | None:
    """The differences between groups, pair by pair."""
    comparison = document["comparison"]
    if not comparison or not comparison["rows"]:
        return None
    pairs: dict[tuple[str, str], Row] = {}
    names: dict[str, None] = {}
    for row in comparison["rows"]:
        unit, key = row["unit"], (row["first"], row["second"])
        names |= dict.fromkeys(key)
        pair = pairs.setdefault(key, {"first": key[0], "second": key[1], "rows": []})
        pair["rows"].append(
            {
                "words": row["words"],
                "first_text": figure_text(row["first_value"], unit),
                "second_text": figure_text(row["second_value"], unit),
                "text": _change_text(row["difference"], unit),
                "span": _change_span(row["difference_low"], row["difference_high"], unit),
                "exceeds": row["exceeds"],
                "verdict": _verdict(row["exceeds"], row["difference"]),
            }
        )
    of = comparison["of_groups"]
    return {"pairs": list(pairs.values()), "names": list(names), "of": of, "left": comparison["groups"] < of}


def _screen_time(document: Document) -> list[tuple[str, list[ScreenTimeRow]]]:
    """People and time on screen of everything, by gender and by age, without empty groups."""
    rows = [row for row in document["screen_time"] or () if not row["by"] and row["people"]]
    return [
        (dimension, found)
        for dimension in ("gender", "age")
        if (found := [row for row in rows if row["dimension"] == dimension])
    ]


def _attention(document: Document) -> Row | None:
    """The table of attention; a cell is a text and, for shares, the length of its bar."""
    attention = document.get("attention")
    if not attention:
        return None
    rows = []
    values: list[Values] = [*attention["rows"]]
    for row in values:
        bars = [row[figure.name] if figure.unit == "share" else None for figure in AUDIENCE_FIGURES]
        cells = zip(attention_texts(row, document["min_people"]), bars, strict=True)
        rows.append({"group": "all people" if row["group"] == "all" else row["group"], "cells": list(cells)})
    return {"figures": AUDIENCE_FIGURES, "rows": rows, "words": attention_words(attention)}


def _audience_rows(document: Document) -> list[Row]:
    rows = []
    audience = document["audience"]
    for row in audience["rows"] if audience else ():
        low, high = row["difference_low"], row["difference_high"]
        verdict = ""
        if low is not None and high is not None:
            verdict = (
                "higher share on screen"
                if low > 0
                else "lower share on screen"
                if high < 0
                else "within error bars"
            )
        rows.append(
            {
                **row,
                "on_screen": figure_text(row["on_screen_share"], "share"),
                "span": span_text(row["on_screen_low"], row["on_screen_high"], "share"),
                "audience": figure_text(row["audience_share"], "share"),
                "difference_text": _change_text(row["difference"], "share"),
                "difference_span": _change_span(low, high, "share"),
                "verdict": verdict,
            }
        )
    return rows


def _setting(document: Document, name: str) -> str:
    """The value of a setting if it is the same for all videos; otherwise empty."""
    for setting in document["provenance"].get("settings") or []:
        if setting["name"] == name and len(setting["values"]) == 1:
            return str(setting["values"][0]["value"]).removesuffix(".0")
    return ""


def _chart_data(document: Document) -> Row:
    empty = document["total"].get("people") == 0
    data: Row = {
        "kind": document["kind"],
        "images": document["images"],
        "bands": document["age_bands"],
        "suppressed": SUPPRESSED,
        "videos": _sources(document),
    }
    if document["kind"] == "videos":
        data["top"] = _top(document)
    if document["groups"]:
        data["groups"] = _grouped(document["groups"], document)
    if document["trend"]:
        data["trend"] = _trend_points(document)
    if document["audience"]:
        data["audience"] = _audience_rows(document)
    if empty:
        return data
    data["shares"] = [
        share for share in _share_rows(document, "", "") if share["people"]["value"] is not None
    ]
    data["pyramid"] = document["pyramid"] or []
    data["concurrent"] = [
        {**row, "text": figure_text(row["share"], "share"), "time": _time_words(row["time_s"], document)}
        for row in document["concurrent"] or []
    ]
    if document["kind"] == "video" and not document["images"]:
        data["timeline"] = document["timeline"]
        data["people"] = _bars(document)
    return data


def _sources(document: Document) -> dict[str, Row]:
    """Where each video can be watched; videos that cannot be are left out."""
    return {
        video["run"]: {
            "title": video["title"],
            "media": video["media"],
            "offset": video["media_start_s"],
            "link": video["link"],
            "duration": video.get("duration_s"),
        }
        for video in document["videos"]
        if video["media"] or video["link"] or document["kind"] == "video"
    }


def _bars(document: Document) -> list[Row]:
    people = document["people"] or []
    chosen = sorted(people, key=lambda person: -(person.get("on_screen_s") or 0.0))[:_PEOPLE_ROWS]
    chosen.sort(key=lambda person: (person.get("first_s") or 0.0, person["person_id"]))
    many = sum(len(person["spans"]) for person in chosen) > _MAX_SPANS
    ends = [span[1] for person in chosen for span in person["spans"]]
    gap = max(ends, default=0.0) / _MAX_SPANS if many else 0.0
    return [
        {
            "id": person["person_id"],
            "words": _person_words(person),
            "gender": person.get("gender") or "unknown",
            "spans": _joined(person["spans"], gap),
        }
        for person in chosen
    ]


def _joined(spans: Iterable[Sequence[float]], gap: float) -> list[list[float]]:
    """Spans, with those less than `gap` apart joined: they could not be told apart in the chart."""
    out: list[list[float]] = []
    for start, end in spans:
        if out and gap and start - out[-1][1] < gap:
            out[-1][1] = max(end, out[-1][1])
        else:
            out.append([start, end])
    return out


def _point(row: Values, name: str, label: str, document: Document) -> Row | None:
    cell = _cell(row, name, document)
    if cell.state:
        return None
    low, high = ends_of(row, name)
    text = f"{cell.text} ({cell.span})" if cell.span else cell.text
    return {"label": label, "value": row[name], "low": low, "high": high, "text": text}


def _top(document: Document) -> list[Row]:
    """The videos with the largest values of each figure; shares only for those with enough people."""
    charts = []
    for name in _CHARTED:
        if name in ("videos", "people_per_video"):
            continue
        known: list[Values] = [video for video in document["videos"] if video.get(name) is not None]
        known.sort(key=lambda video: -video[name])
        points: list[Row] = []
        for video in known:
            point = _point(video, name, str(video["title"]), document)
            points += [point] if point else []
            if len(points) == _TOP:
                break
        if points:
            charts.append(_chart(name, points))
    return charts


def _chart(name: str, points: list[Row]) -> Row:
    figure = BY_NAME[name]
    return {"figure": name, "words": figure.words, "unit": _UNITS[figure.unit], "points": points}


def _grouped(groups: GroupTable, document: Document) -> Row:
    charts = []
    for name in _CHARTED:
        points = []
        for row in groups["rows"]:
            point = _point(row, name, str(row["group"]), document)
            if point:
                points.append(point)
        if points:
            charts.append(_chart(name, points))
    return {"timely": groups["timely"], "charts": charts}


def _trend_points(document: Document) -> list[Row]:
    charts = []
    for table in _trend_tables(document):
        points = []
        rows = table["rows"]
        if rows and rows[0].get("previous") is not None and rows[0].get("previous_value") is not None:
            first = rows[0]
            text = figure_text(first["previous_value"], table["unit"])
            points.append({"label": str(first["previous"]), "value": first["previous_value"], "text": text})
        for row in rows:
            if row["value"] is None:
                continue
            text = row["text"] + (f" ({row['span']})" if row["span"] else "")
            point = {"label": str(row["period"]), "value": row["value"], "text": text}
            point |= {"low": row["value_low"], "high": row["value_high"], "exceeds": row["exceeds"]}
            points.append(point)
        unit = _UNITS.get(table["unit"], "")
        charts.append({"figure": table["figure"], "words": table["words"], "unit": unit, "points": points})
    return charts


def _chart_options(document: Document) -> Row:
    """The figures offered above a chart."""
    groups = _grouped(document["groups"], document)["charts"] if document["groups"] else []
    top = _top(document) if document["kind"] == "videos" else []
    return {
        "top": [(chart["figure"], chart["words"]) for chart in top],
        "groups": [(chart["figure"], chart["words"]) for chart in groups],
        "trend": [(table["figure"], table["words"]) for table in _trend_tables(document)],
    }


def _chart_labels(document: Document) -> dict[str, str]:
    """A description of each chart, for screen readers."""
    total = document["total"]
    most = figure_text(total.get("concurrent_peak"), "people") or "not known"
    people = figure_text(total.get("people"), "people") or SUPPRESSED
    shares = [
        f"{row['group']} {row['people']['text']}"
        + (f" ({row['people']['span']})" if row["people"]["span"] else "")
        for row in _share_rows(document, "", "")
        if row["people"]["text"]
    ]
    once = [
        f"{row['people']}: {figure_text(row['share'], 'share')}"
        for row in (document["concurrent"] or [])[:12]
    ]
    return {
        "timeline": f"Stacked chart of the people seen over the video; peak of concurrent people: {most}.",
        "people": f"Appearances of the {people} people over time, one row per person.",
        "pyramid": f"Population pyramid of the {people} people by perceived gender and age, not corrected.",
        "shares": "Estimated shares of the people with 95 % intervals: " + ", ".join(shares) + ".",
        "concurrent": f"Share of the {'images' if document['images'] else 'time'} by number of people. "
        + ", ".join(once)
        + ".",
    }


def _time_words(seconds: float | None, document: Document) -> str:
    """A time; for images, which count as one second each, their number."""
    return counted(seconds or 0, "image") if document["images"] else figure_text(seconds, "clock")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _clock_or_dash(seconds: float | None) -> str:
    return figure_text(seconds, "clock") or NOT_KNOWN


def _day_words(day: Any) -> str:
    """A day such as "3 November 2026"; text that is not a day stays as it is."""
    from datetime import date

    try:
        parsed = date.fromisoformat(str(day)[:10])
    except ValueError:
        return str(day)
    return f"{parsed.day} {parsed:%B %Y}"
