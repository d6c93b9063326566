"""The charts of a report, for slides; each is drawn from the document, and its title says what it shows.

The colors can be distinguished with any color vision, and no meaning depends on color alone: bars and areas
have hatches or labels as well. Titles of videos are untrusted: formulas in them are not interpreted, and
characters that no installed font can draw become boxes.
"""

from __future__ import annotations

import functools
import math
import unicodedata
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, MultipleLocator
from numpy.typing import NDArray

from analyzer.report.document import AudienceRow, Document, Timeline, TrendRow, Values
from analyzer.report.figures import (
    BY_NAME,
    SUPPRESSED,
    clock,
    ends_of,
    figure_text,
    span_text,
    span_words,
)
from analyzer.runs.run import REPORT_CHARTS
from analyzer.util.gender import GENDER_COLORS
from analyzer.util.text import counted, one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["DPI", "draw"]

DPI = 300

Real = NDArray[np.float64]

_HATCHES = {"female": "", "male": "///", "unknown": ".."}
_GENDERS = {gender: (color, _HATCHES[gender]) for gender, color in GENDER_COLORS.items()}
"""The color and the hatch of each gender."""
_ALL, _DARK, _SOFT, _GRID = "#4D5B66", "#222222", "#555555", "#DDDDDD"
_PEOPLE_MARK = {"marker": "o", "color": _DARK}
_TIME_MARK = {"marker": "D", "color": "#009E73"}
_WIDTH, _HEIGHT = 8.0, 4.5
_ROWS = 22
"""The number of rows that fit on a sheet; for more rows the sheet is enlarged in proportion."""
_FEW_ROWS = 5
_MOST_PEOPLE, _MOST_VIDEOS, _MOST_GROUPS, _MOST_PERIODS = 30, 20, 20, 12
_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
_SMALL_MULTIPLES = ("occupancy", "people_per_video", "female_time_share")
_OTHER_FONTS = (
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans JP", "Noto Sans SC", "Noto Sans KR"),
    *("Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "Hiragino Sans", "PingFang SC", "Arial Unicode MS"),
    *("Noto Sans Devanagari", "Noto Sans Thai", "Nirmala UI", "Leelawadee UI", "Noto Emoji"),
)
"""Fonts that are used, where installed, for characters that Matplotlib's own font lacks."""


def draw(document: Document) -> dict[str, Figure]:
    """The charts of a report by their names, without those that have nothing to show."""
    charts: tuple[Callable[[Document], Figure | None], ...] = (
        *(_timeline, _timeline_ages, _people, _pyramid, _shares),
        *(_concurrent, _videos, _groups, _trend, _audience),
    )
    drawn = ((name, chart(document)) for name, chart in zip(REPORT_CHARTS, charts, strict=True))
    return {name: figure for name, figure in drawn if figure is not None}


# --- sheets and text ---------------------------------------------------------------------------------


def _sheet(title: str, document: Document, *remarks: str, rows: int = 0) -> Figure:
    """An empty chart with its title and a line below it."""
    scale = max(1.0, rows / _ROWS)
    engine = ConstrainedLayoutEngine(rect=(0.012, 0.015, 0.97, 0.825))
    figure = Figure(figsize=(_WIDTH * scale, _HEIGHT * scale), dpi=DPI, layout=engine)
    figure.text(
        0.02, 0.965, title, fontsize=15 * scale, fontweight="bold", color=_DARK, va="top", parse_math=False
    )
    about = [*remarks, *document["filters"]]
    width = max(24, 88 - len(" · ".join(about)))
    text = _literal(_short(" · ".join((_short(document["title"], width), *about)), 96))
    figure.text(0.02, 0.89, text, fontsize=10.5 * scale, color=_SOFT, va="top", fontfamily=_families())
    return figure


def _calm(axes: Axes, *, grid: str = "both") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_SOFT)
    axes.tick_params(labelsize=10, color=_SOFT)
    axes.grid(axis=grid, color=_GRID, linewidth=0.7)  # type: ignore[arg-type]
    axes.set_axisbelow(True)


def _rows_axis(axes: Axes, at: Sequence[float] | Real, labels: Sequence[str]) -> None:
    """One label per row, from the top down."""
    _calm(axes, grid="x")
    axes.set_yticks(at, [_literal(label) for label in labels], fontsize=10, fontfamily=_families())
    axes.tick_params(axis="y", length=0)
    # A few rows need not fill the sheet.
    air = max(0.6, (_FEW_ROWS - len(at)) / 2)
    axes.set_ylim(max(at) + air, min(at) - air)


def _percent_axis(axes: Axes, *, vertical: bool = False, steps: int = 5) -> None:
    axis = axes.yaxis if vertical else axes.xaxis
    axis.set_major_locator(MaxNLocator(steps, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(lambda value, _: figure_text(float(value), "share"))


def _clock_axis(axes: Axes, start_s: float, end_s: float) -> None:
    length_s = max(end_s - start_s, 1.0)
    hours = 3600.0 * math.ceil(length_s / 8 / 3600)
    step_s = next((step for step in _STEPS_S if length_s / step <= 8), hours)
    axes.xaxis.set_major_locator(MultipleLocator(step_s))
    axes.xaxis.set_major_formatter(lambda value, _: clock(value))
    axes.set_xlim(start_s, start_s + length_s)
    axes.set_xlabel("time in the video", fontsize=10.5)


@functools.cache
def _families() -> tuple[str, ...]:
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return ("DejaVu Sans", *(name for name in _OTHER_FONTS if name in installed))


@functools.cache
def _drawable(letter: str) -> bool:
    fonts = (font_manager.get_font(font_manager.findfont(name)) for name in _families())
    return any(font.get_char_index(ord(letter)) for font in fonts)


def _short(text: str, width: int, instead: str = "") -> str:
    """Untrusted text as one line that can be drawn.

    Args:
        text: The text.
        width: Largest number of letters; wide ones, such as Chinese characters, count twice.
        instead: Used if most of the text cannot be drawn.
    """
    line = "".join(each for each in one_line(text) if each.isprintable())
    drawn = "".join(each if _drawable(each) else "\N{WHITE SQUARE}" for each in line)
    if instead and 2 * sum(map(str.__ne__, line, drawn)) > len(line):
        return _short(instead, width)
    wide = [1 + (unicodedata.east_asian_width(each) in "WF") for each in drawn]
    if sum(wide) > width:
        drawn = drawn[: int(np.searchsorted(np.cumsum(wide), width - 1, side="right"))].rstrip() + "…"
    return drawn


def _literal(text: str) -> str:
    """Text that Matplotlib does not interpret as a formula."""
    return text.replace("$", r"\$")


def _real(values: Sequence[Any]) -> Real:
    """Numbers, with NaN for unknown values."""
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _bars(value: Real, low: Real, high: Real) -> Real:
    """Error bars for Matplotlib; NaN, which draws none, where the interval is not known."""
    return np.clip([value - low, high - value], 0, None)


# --- one video ---------------------------------------------------------------------------------------

_Area = tuple[str, Sequence[Any], Any, str]
"""Words, values, color, hatch."""


def _stack(axes: Axes, timeline: Timeline, areas: Sequence[_Area]) -> list[Patch]:
    """Draw steps over time, stacked, with hatched gaps where nothing was analyzed; return the legend."""
    start, end = _real(timeline["start_s"]), _real(timeline["end_s"])
    values = np.stack([_real(area[1]) for area in areas])
    known = np.isfinite(values).all(axis=0)
    runs = np.flatnonzero(np.diff(np.concatenate([[0], known.astype(int), [0]])))
    tops = np.vstack([np.zeros(len(start)), np.cumsum(np.nan_to_num(values), axis=0)])
    for first, after in zip(runs[::2], runs[1::2], strict=True):
        here = slice(first, after)
        times = np.append(start[here], end[after - 1])
        heights = np.hstack([tops[:, here], tops[:, after - 1 : after]])
        for index, (_, _, color, hatch) in enumerate(areas):
            axes.fill_between(
                times,
                heights[index],
                heights[index + 1],
                step="post",
                facecolor=color,
                hatch=hatch,
                edgecolor="white",
                linewidth=0,
            )
    shown = [
        Patch(facecolor=color, hatch=hatch, edgecolor="white", linewidth=0, label=words)
        for (words, _, color, hatch), row in zip(areas, values, strict=True)
        if np.nansum(row) > 0
    ]
    gap: dict[str, Any] = {"facecolor": "white", "edgecolor": "#BBBBBB", "hatch": "xxx", "linewidth": 0}
    gaps = np.flatnonzero(~known)
    for place in gaps:
        axes.axvspan(start[place], end[place], **gap)
    if len(gaps):
        shown.append(Patch(label="not analyzed", **gap))
    _calm(axes, grid="y")
    _clock_axis(axes, start[0], end[-1])
    axes.set_ylim(0, max(1.0, 1.06 * tops[-1].max()))
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_ylabel(f"people seen in each {span_words(timeline['bin_s'])}", fontsize=10.5)
    return shown


def _has_people(timeline: Timeline) -> bool:
    return bool(np.nansum(_real(timeline["people"])) > 0)


def _timeline(document: Document) -> Figure | None:
    timeline = document["timeline"]
    if timeline is None or document["images"] or not _has_people(timeline):
        return None
    series: Values = timeline
    by_gender = {name: series[name] for name in ("female", "male", "unknown_gender")}
    areas: list[_Area] = [("people (genders suppressed)", timeline["people"], _ALL, "")]
    title = "People seen over time"
    if all(values is not None and np.isfinite(_real(values)).any() for values in by_gender.values()):
        areas = [
            (gender, values, *_GENDERS[gender])
            for gender, values in zip(_GENDERS, by_gender.values(), strict=True)
        ]
        title += ", by perceived gender"
    figure = _sheet(title, document)
    axes = figure.subplots()
    shown = _stack(axes, timeline, areas)
    axes.legend(
        handles=shown,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=4,
        frameon=False,
        fontsize=10.5,
        borderaxespad=0.2,
    )
    return figure


def _timeline_ages(document: Document) -> Figure | None:
    timeline = document["timeline"]
    if timeline is None or document["images"] or not _has_people(timeline) or not timeline["ages"]:
        return None
    known = {name: values for name, values in timeline["ages"].items() if values is not None}
    if not any(np.isfinite(_real(values)).any() for values in known.values()):
        return None
    bands = [name for name in known if name != "unknown"]
    colors = matplotlib.colormaps["viridis"](np.linspace(0.02, 0.98, max(len(bands), 1)))
    areas: list[_Area] = [
        (band, known[band], color, ("", "..")[index % 2])
        for index, (band, color) in enumerate(zip(bands, colors, strict=True))
    ]
    if "unknown" in known:
        areas.append(("unknown", known["unknown"], _GENDERS["unknown"][0], "xx"))
    figure = _sheet("People seen over time, by perceived age", document)
    axes = figure.subplots()
    shown = _stack(axes, timeline, areas)
    axes.legend(
        handles=shown[::-1],
        loc="upper left",
        bbox_to_anchor=(1.0, 1.03),
        frameon=False,
        fontsize=10.5,
        title="age, years",
        title_fontsize=10.5,
        alignment="left",
    )
    return figure


def _people(document: Document) -> Figure | None:
    everybody = document["people"] if document["kind"] == "video" and not document["images"] else None
    if not everybody:
        return None
    longest = sorted(everybody, key=lambda one: -(one["on_screen_s"] or 0))[:_MOST_PEOPLE]
    chosen = {one["person_id"] for one in longest}
    people = [one for one in everybody if one["person_id"] in chosen]
    number = counted(len(everybody), "person", "people")
    some = number if len(people) == len(everybody) else f"the {len(people)} longest on screen of {number}"
    figure = _sheet("Appearances", document, some, "number, perceived gender, age", rows=len(people))
    axes = figure.subplots()
    labels = []
    for row, one in enumerate(people):
        color, hatch = _GENDERS[one["gender"]]
        spans = [(start, end - start) for start, end in one["spans"]]
        # A thin edge keeps the shortest appearances visible; the hatch is drawn over it.
        axes.broken_barh(spans, (row - 0.36, 0.72), facecolor=color, edgecolor=color, linewidth=0.6)
        if hatch:
            axes.broken_barh(
                spans, (row - 0.36, 0.72), facecolor="none", edgecolor="white", hatch=hatch, linewidth=0
            )
        age = figure_text(one["age_years"], "years")
        who = one.get("name") or f"{one['person_id']}"
        labels.append(" · ".join((who, one["gender"], *([age] if age else []))))
        axes.annotate(
            figure_text(one["on_screen_s"], "clock"),
            (1, row),
            xytext=(6, 0),
            textcoords="offset points",
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=10,
            color=_SOFT,
            annotation_clip=False,
        )
    _rows_axis(axes, range(len(people)), labels)
    timeline = document["timeline"]
    ends = [end for one in people for _, end in one["spans"]] + (timeline["end_s"][-1:] if timeline else [])
    starts = timeline["start_s"][:1] if timeline else [0.0]
    _clock_axis(axes, min(starts, default=0.0), max(ends, default=1.0))
    axes.annotate(
        "on screen",
        (1, 1),
        xytext=(6, 2),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=10,
        color=_SOFT,
        annotation_clip=False,
    )
    return figure


# --- people --------------------------------------------------------------------------------------------


def _pyramid(document: Document) -> Figure | None:
    cells = {(one["gender"], one["band"]): one["people"] for one in document["pyramid"]}
    if not any(cells.values()):
        return None
    bands = document["age_bands"]
    rows = {"unknown": float(len(bands)) + 0.5} | {
        band: float(len(bands) - 1 - i) for i, band in enumerate(bands)
    }
    sides = {gender: [cells.get((gender, band), 0) for band in rows] for gender in _GENDERS}
    most = {gender: max(value or 0 for value in values) for gender, values in sides.items()}
    both = max(most["female"], most["male"], 1)
    lone = max(most["unknown"], both / 3)
    figure = _sheet("People by perceived gender and age", document, "not corrected")
    left, right = figure.subplots(
        1, 2, sharey=True, width_ratios=(2 * both, lone), gridspec_kw={"wspace": 0.1}
    )
    at = list(rows.values())
    for gender, axes, sign in (("female", left, -1), ("male", left, 1), ("unknown", right, 1)):
        color, hatch = _GENDERS[gender]
        lengths = [sign * (value or 0) for value in sides[gender]]
        axes.barh(at, lengths, height=0.8, color=color, hatch=hatch, edgecolor="white", linewidth=0)
        for y, value in zip(at, sides[gender], strict=True):
            if value == 0:
                continue
            axes.annotate(
                SUPPRESSED if value is None else f"{value:,.0f}",
                (sign * (value or 0), y),
                xytext=(4 * sign, 0),
                textcoords="offset points",
                ha="left" if sign > 0 else "right",
                va="center",
                fontsize=10,
                style="italic" if value is None else "normal",
                color=_SOFT if value is None else _DARK,
            )
    _rows_axis(left, at, ["unknown", *bands])
    for axes, reach in ((left, both), (right, lone)):
        _calm(axes, grid="x")
        axes.set_xlim(-1.22 * reach if axes is left else 0, 1.22 * reach)
        axes.xaxis.set_major_locator(MaxNLocator(6 if axes is left else 2, integer=True, min_n_ticks=1))
        axes.xaxis.set_major_formatter(lambda value, _: f"{abs(value):,.0f}")
        axes.axvline(0, color=_SOFT, linewidth=0.8)
        axes.tick_params(axis="y", length=0)
    for words, sign in (("female", -1), ("male", 1)):  # at the middle line: each above its own half
        left.annotate(
            words,
            (0, 1),
            xytext=(8 * sign, 6),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="left" if sign > 0 else "right",
            fontsize=11,
            color=_DARK,
        )
    right.set_title("gender unknown", loc="right", fontsize=11, color=_DARK)
    left.set_xlabel("people", fontsize=10.5)
    left.set_ylabel("age, years", fontsize=10.5)
    right.set_xlabel("people", fontsize=10.5)
    return figure


def _shares(document: Document) -> Figure | None:
    rows: list[Values] = [
        one for one in document["shares"] if not one["by"] and one["people_share"] is not None
    ]
    if not rows:
        return None
    estimated = max(one["estimated"] or 0 for one in rows)
    rows.sort(key=lambda one: one["dimension"] != "gender")
    figure = _sheet(
        "Estimated shares of the people and of their time on screen",
        document,
        f"{counted(estimated, 'person', 'people')} with estimates",
        "95 % intervals",
        rows=len(rows) + 3,
    )
    axes = figure.subplots()
    at = _grouped_rows(rows)
    furthest = 0.45
    for (kind, mark), shift in zip(
        (("people", _PEOPLE_MARK), ("time", _TIME_MARK)), (-0.17, 0.17), strict=True
    ):
        value, low, high = (_real([one[f"{kind}_{end}"] for one in rows]) for end in ("share", "low", "high"))
        furthest = max(furthest, np.nanmax(np.fmax(value, high), initial=0.0))
        words = {"people": "share of the people", "time": "share of the time on screen"}[kind]
        axes.errorbar(
            value,
            at + shift,
            xerr=_bars(value, low, high),
            linestyle="none",
            markersize=6.5,
            elinewidth=1.8,
            capsize=3,
            label=words,
            **mark,  # type: ignore[arg-type]
        )
    _rows_axis(axes, at, [one["group"] for one in rows])
    axes.set_xlim(-0.01, min(1.01, furthest + 0.05))
    _percent_axis(axes)
    texts = [[figure_text(one[f"{kind}_share"], "share") for kind in ("people", "time")] for one in rows]
    _columns(axes, at, ("people", "time"), texts)
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=10.5, borderaxespad=0.2
    )
    return figure


def _grouped_rows(rows: Sequence[Values]) -> Real:
    """The positions of the rows, with a gap between gender and age."""
    aged = np.array([one["dimension"] == "age" for one in rows])
    gap = 0.6 if aged.any() and not aged.all() else 0.0
    return np.arange(len(rows)) + gap * aged


def _columns(
    axes: Axes, at: Real, heads: Sequence[str], rows: Sequence[Sequence[str]], width: int = 52
) -> None:
    """Text to the right of the rows, in columns of `width` points."""
    for y, texts in ((min(at) - 0.95, heads), *zip(at, rows, strict=True)):
        for column, text in enumerate(texts):
            axes.annotate(
                text,
                (1, y),
                xytext=(width * (column + 1), 0),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                ha="right",
                va="center",
                fontsize=10,
                color=_SOFT if texts is heads else _DARK,
                annotation_clip=False,
            )


def _label_ends(axes: Axes, ends: Real, at: Real, texts: Sequence[str]) -> None:
    """Text to the right of the bars."""
    for x, y, text in zip(ends, at, texts, strict=True):
        axes.annotate(text, (x, y), xytext=(5, 0), textcoords="offset points", va="center", fontsize=10)


def _apart(places: Real, sizes: Real, least: float) -> list[bool]:
    """Which bars get a label, the largest first, if labels must be `least` apart.

    >>> _apart(np.array([0.0, 1.0, 2.0]), np.array([0.3, 0.2, 0.5]), 2.0)
    [True, False, True]
    """
    chosen: list[int] = []
    for bar in np.argsort(-np.nan_to_num(sizes), kind="stable"):
        if all(abs(places[bar] - places[other]) >= least for other in chosen):
            chosen.append(int(bar))
    return [bar in chosen for bar in range(len(places))]


def _concurrent(document: Document) -> Figure | None:
    rows = sorted(document["concurrent"], key=lambda one: one["people"])
    share = _real([one["share"] for one in rows])
    people = _real([one["people"] for one in rows])
    if not np.nansum(share[people > 0]) > 0:
        return None
    total: Values = document["total"]
    remarks = [
        f"{words} {figure_text(total[name], 'people')}"
        for name, words in (("concurrent_mean", "mean"), ("concurrent_peak", "peak"))
        if total[name] is not None
    ]
    images = document["images"]
    title = "People per image" if images else "Concurrent people"
    figure = _sheet(title, document, *remarks)
    axes = figure.subplots()
    drawn = axes.bar(people, share, width=0.8, color=np.where(people > 0, _ALL, "#BFC7CE"))
    # Labels have the time too if they fit; where bars are narrow, only the largest have labels.
    width = max(people.max(), 3) - min(people.min(), 0) + 1.2
    stacked, labeled = width <= 12, _apart(people, share, width / 15)
    labels = [
        figure_text(one["share"], "share")
        + (f"\n{figure_text(one['time_s'], 'people' if images else 'clock')}" if stacked else "")
        if shown
        else ""
        for one, shown in zip(rows, labeled, strict=True)
    ]
    axes.bar_label(drawn, labels, padding=2, fontsize=10, color=_DARK)
    _calm(axes, grid="y")
    ticks = MaxNLocator(15, integer=True).tick_values(min(people.min(), 0), people.max())
    step = ticks[1] - ticks[0]
    axes.set_xticks([*(tick for tick in ticks if 0 <= tick <= people.max() - step), people.max()])
    axes.set_xlim(min(people.min(), 0) - 0.6, max(people.max(), 3) + 0.6)
    axes.set_ylim(0, 1.18 * np.nanmax(share))
    _percent_axis(axes, vertical=True)
    axes.set_xlabel("people per image" if images else "people on screen at the same time", fontsize=10.5)
    axes.set_ylabel(f"share of the {'images' if images else 'analyzed time'}", fontsize=10.5)
    return figure


# --- several videos ------------------------------------------------------------------------------------


def _videos(document: Document) -> Figure | None:
    known = [one for one in document["videos"] if one["people"] is not None]
    if document["kind"] != "videos" or not any(one["people"] for one in known):
        return None
    videos = sorted(known, key=lambda one: -(one["people"] or 0))[:_MOST_VIDEOS]
    number = len(document["videos"])
    one, several = ("set of images", "sets of images") if document["images"] else ("video", "videos")
    title = f"People in each {one}" if len(videos) == number else f"The {several} with the most people"
    bars = "error bars: at least to at most"
    some = [] if len(videos) == number else [f"{len(videos)} of them"]
    figure = _sheet(title, document, *some, bars, rows=len(videos))
    axes = figure.subplots()
    at = np.arange(len(videos), dtype=np.float64)
    value, low, high = (
        _real([one[name] for one in videos]) for name in ("people", "people_low", "people_high")
    )
    axes.barh(at, value, height=0.72, color="#9FB4C7")
    axes.errorbar(
        value, at, xerr=_bars(value, low, high), linestyle="none", ecolor=_DARK, elinewidth=1.6, capsize=3
    )
    _rows_axis(axes, at, [_short(one["title"], 38, one["run"]) for one in videos])
    ends = np.fmax(value, high)
    axes.set_xlim(0, 1.15 * ends.max())
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.set_xlabel("distinct people", fontsize=10.5)
    texts = [figure_text(number, "people") for number in value]
    spans = [span_text(*both, "people") for both in zip(low, high, strict=True)]
    # With the interval: a number at the end of an error bar alone would be read as that end.
    labels = [f"{text} ({span})" if span else text for text, span in zip(texts, spans, strict=True)]
    _label_ends(axes, ends, at, labels)
    return figure


def _groups(document: Document) -> Figure | None:
    groups = document["groups"]
    if groups is None or not groups["rows"]:
        return None
    # The chart `trend` shows these periods with their changes.
    if groups["timely"] and document["trend"] and document["trend"]["by"] == groups["by"]:
        return None
    everything: list[Values] = [*groups["rows"]]
    names = [name for name in _SMALL_MULTIPLES if any(row[name] is not None for row in everything)]
    if not names:
        return None
    if groups["timely"]:
        rows = everything[-_MOST_PERIODS:]
        series: dict[str, list[_Point]] = {
            name: [(row["group"], row[name], *ends_of(row, name), None) for row in rows] for name in names
        }
        return _periods(
            f"People on screen by {groups['by']}",
            document,
            series,
            _excerpt_words(rows, groups["rows"], "last"),
        )
    rows = everything[:_MOST_GROUPS]
    figure = _sheet(
        f"People on screen by {groups['by']}",
        document,
        _excerpt_words(rows, groups["rows"], "first"),
        rows=len(rows) + 2,
    )
    at = np.arange(len(rows), dtype=np.float64)
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        figure_of = BY_NAME[name]
        value = _real([row[name] for row in rows])
        low, high = (_real([ends_of(row, name)[end] for row in rows]) for end in (0, 1))
        ends = np.fmax(value, high)
        axes.barh(at, np.nan_to_num(value), height=0.7, color="#9FB4C7")
        axes.errorbar(
            value, at, xerr=_bars(value, low, high), linestyle="none", ecolor=_DARK, elinewidth=1.6, capsize=3
        )
        _rows_axis(axes, at, [_short(row["group"], 24) for row in rows])
        if figure_of.unit == "share":
            axes.set_xlim(0, 1.28)
            axes.set_xticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
        else:
            axes.set_xlim(0, 1.28 * max(np.nanmax(ends), 1))
            axes.xaxis.set_major_locator(MaxNLocator(3))
        _label_ends(axes, np.nan_to_num(ends), at, [figure_text(number, figure_of.unit) for number in value])
        axes.set_title(_panel_words(name), fontsize=10.5, loc="left")
        for y in np.flatnonzero(np.isnan(value)):
            words = SUPPRESSED if rows[y]["suppressed"] else "not known"
            axes.text(
                0.02, y, words, style="italic", fontsize=10, va="center", transform=axes.get_yaxis_transform()
            )
    return figure


def _panel_words(name: str, words: str = "") -> str:
    """The words of a figure, in two lines if they are too wide for a panel."""
    words = words or BY_NAME[name].words
    if len(words) <= 24:
        return words
    half = words.rfind(" ", 0, len(words) // 2 + 5)
    return words[:half] + "\n" + words[half + 1 :]


def _excerpt_words(some: Sequence[Any], everything: Sequence[Any], which: str) -> str:
    if len(some) == len(everything):
        return counted(len(some), "group")
    return f"the {which} {len(some)} of {len(everything)} groups"


_Point = tuple[str, Any, Any, Any, int | None]
"""Period, value, low, high, and 1 or -1 where it went up or down by more than the error bars."""

_PANEL_LETTERS = 24
"""The number of letters that fit below a panel."""


def _trend(document: Document) -> Figure | None:
    trend = document["trend"]
    if trend is None:
        return None
    rows = [row for row in trend["rows"] if row["value"] is not None]
    found = list(dict.fromkeys(row["figure"] for row in rows))
    names = [name for name in _SMALL_MULTIPLES if name in found] or found[:3]
    if not names:
        return None
    ends = {end for row in rows for end in (row["previous"], row["period"]) if end is not None}
    periods = sorted(ends)[-_MOST_PERIODS:]
    shown = f"the last {len(periods)} of {len(ends)}" if len(ends) > len(periods) else ""
    series: dict[str, list[_Point]] = {}
    for name in names:
        of_figure = [row for row in rows if row["figure"] == name]
        points: dict[str | None, tuple[Any, Any, Any, int | None]] = {
            row["previous"]: (row["previous_value"], None, None, None) for row in of_figure
        }
        points |= {
            row["period"]: (row["value"], row["value_low"], row["value_high"], _way(row)) for row in of_figure
        }
        none = (None, None, None, None)
        series[name] = [(period, *points.get(period, none)) for period in periods]
    marked = any(point[4] for each in series.values() for point in each)
    remark = "▲ ▼ change beyond error bars" if marked else "no change is beyond error bars"
    remark = f"{shown} · {remark}" if shown else remark
    words = {row["figure"]: row["words"] for row in rows}
    return _periods(f"People on screen, {trend['by']} by {trend['by']}", document, series, remark, words)


def _way(row: TrendRow) -> int | None:
    if not row["exceeds"] or row["change"] is None:
        return None
    return 1 if row["change"] > 0 else -1


def _periods(
    title: str,
    document: Document,
    series: dict[str, list[_Point]],
    remark: str,
    words: dict[str, str] | None = None,
) -> Figure:
    """Small multiples over the periods, one per figure."""
    figure = _sheet(title, document, remark, "95 % intervals")
    panels = figure.subplots(1, len(series), squeeze=False)[0]
    for axes, (name, points) in zip(panels, series.items(), strict=True):
        value, low, high = (_real([point[place] for point in points]) for place in (1, 2, 3))
        at = np.arange(len(points))
        axes.errorbar(
            at,
            value,
            yerr=_bars(value, low, high),
            color=_DARK,
            marker="o",
            markersize=5.5,
            linewidth=1.2,
            elinewidth=1.6,
            ecolor="#7C8791",
            capsize=3,
        )
        top = np.fmax(value, high)
        for x, point in enumerate(points):
            if point[4]:
                axes.annotate(
                    "▲" if point[4] > 0 else "▼",
                    (x, top[x]),
                    xytext=(0, 4),
                    textcoords="offset points",
                    ha="center",
                    fontsize=13,
                    color="#D55E00",
                )
        _calm(axes, grid="y")
        labels = [_literal(_short(point[0], 14)) for point in points]
        axes.set_xticks(at, labels, rotation=90 if sum(map(len, labels)) > _PANEL_LETTERS else 0)
        axes.set_xlim(-0.5, len(at) - 0.5)
        axes.set_title(_panel_words(name, (words or {}).get(name, "")), fontsize=10.5, loc="left")
        largest = 1.15 * max(np.nanmax(top), 0.01)
        share = name not in BY_NAME or BY_NAME[name].unit == "share"
        axes.set_ylim(0, min(largest, 1.08) if share else largest)
        if share:
            _percent_axis(axes, vertical=True)
    return figure


def _audience(document: Document) -> Figure | None:
    audience = document["audience"]
    if audience is None:
        return None
    rows = [row for row in audience["rows"] if row["on_screen_share"] is not None]
    if not rows:
        return None
    rows.sort(key=lambda one: one["dimension"] != "gender")
    differences = [_difference(row) for row in rows]
    source = f"audience from {_short(audience['file'], 30)}"
    marks = ("▲ ▼ beyond error bars",) if any(mark for _, mark in differences) else ()
    figure = _sheet("On screen against audience", document, source, *marks)
    axes = figure.subplots()
    at = _grouped_rows(rows)
    values: list[Values] = [*rows]
    value, low, high = (
        _real([row[name] for row in values])
        for name in ("on_screen_share", "on_screen_low", "on_screen_high")
    )
    watching = _real([row["audience_share"] for row in rows])
    axes.hlines(at, np.fmin(value, watching), np.fmax(value, watching), color=_GRID, linewidth=5)
    basis = {"time": "of the time on screen", "people": "of the people on screen"}[audience["basis"]]
    axes.errorbar(
        value,
        at,
        xerr=_bars(value, low, high),
        linestyle="none",
        markersize=7,
        elinewidth=1.8,
        capsize=3,
        label=f"{basis}, 95 % intervals",
        **_PEOPLE_MARK,  # type: ignore[arg-type]
    )
    axes.plot(
        watching, at, linestyle="none", marker="D", markersize=7, color="#CC79A7", label="of the audience"
    )
    _rows_axis(axes, at, [_short(row["group"], 20) for row in rows])
    axes.set_xlim(-0.01, max(0.5, 1.05 * np.nanmax([value, high, watching])))
    _percent_axis(axes)
    _columns(axes, at, ("on screen", ""), differences, 62)
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=10.5, borderaxespad=0.2
    )
    return figure


def _difference(row: AudienceRow) -> tuple[str, str]:
    """The difference in percentage points, and a mark if it is beyond its error bars."""
    difference, low, high = row["difference"], row["difference_low"], row["difference_high"]
    if difference is None:
        return "", ""
    clear = low is not None and high is not None and (low > 0 or high < 0)
    return f"{100 * difference:+.0f} points", ("▲ more" if difference > 0 else "▼ less") if clear else ""
