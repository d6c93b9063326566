"""Subtitles of a run, from its tables alone.

ASS has boxes and labels, for players with libass such as VLC and mpv; WebVTT says who is on screen.

ASS is drawn over the original video while it plays. Boxes move as in annotated videos, in the same colors and
forms; a stretch in which a box moves evenly is one event, so the file stays small.
"""

from __future__ import annotations

import html
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyzer.errors import OutputError
from analyzer.output.captions import caption
from analyzer.output.motion import Motion, Spans
from analyzer.output.overlay import ROUNDNESS, UNCOUNTED_COLOR, ink, line_px, text_px
from analyzer.runs.run import Run
from analyzer.settings import Settings
from analyzer.util.atomic import output_errors, writing
from analyzer.util.gender import GENDER_COLORS
from analyzer.util.text import one_line

__all__ = [
    "SUBTITLES",
    "ass",
    "save_subtitles",
    "webvtt",
]

SUBTITLES = ("ass", "vtt")
"""Forms of subtitles, the suffixes of `SUBTITLE_FILES`."""

_STRAIGHT = 0.03
"""A box moves evenly if it strays from a straight way by this share of its width at most."""

_LEAST_STRAY_PX = 1.0

_JOIN_S = 1.0
"""WebVTT: an absence this short does not end a cue."""

_HEAD = """[Script Info]
; People on screen with perceived gender and estimated age
Title: {title}
ScriptType: v4.00+
PlayResX: {width}
PlayResY: {height}
LayoutResX: {width}
LayoutResY: {height}
ScaledBorderAndShadow: yes
WrapStyle: 2
YCbCr Matrix: None

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, \
Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, \
MarginR, MarginV, Encoding
{styles}

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


def ass(folder: str | Path) -> str:
    """Return subtitles with boxes and labels, in ASS.

    Args:
        folder: The run's folder.

    Raises:
        OutputError: It holds no run, or one without a video.
    """
    run = _run(folder)
    width, height = run.info["video"]["width"], run.info["video"]["height"]
    size = width, height
    spans = _straightened(Motion(run.faces, run.samples, Settings(**run.info["settings"]).fps, size).shown())
    text, line = text_px(min(size)), line_px(min(size))
    head = _HEAD.format(
        title=_escaped(one_line(run.info["title"], 200)),
        width=width,
        height=height,
        styles="\n".join(_styles(text, line)),
    )
    labels = _labels(run.people)
    events = []
    for begin, end, first, last, person in zip(
        spans.begin_s,
        spans.end_s,
        spans.first.tolist(),
        spans.last.tolist(),
        spans.person.tolist(),
        strict=True,
    ):
        start, stop = _ass_time(begin), _ass_time(end)
        if start == stop:
            continue
        gender, words = labels.get(person, ("uncounted", ""))
        path = _outline(gender, first, line)
        events.append(f"Dialogue: 0,{start},{stop},box-{gender},,0,0,0,,{_moved(first, last)}{{\\p1}}{path}")
        if words:
            above = min(first[1], last[1]) >= 1.4 * text
            anchors = [(box[0], box[1] - line if above else box[3] + line) for box in (first, last)]
            place = _way(7 if not above else 1, *anchors)
            events.append(f"Dialogue: 1,{start},{stop},label-{gender},,0,0,0,,{{{place}}}{_escaped(words)}")
    return head + "\n".join(events) + "\n"


def webvtt(folder: str | Path) -> str:
    """Return subtitles with the labels of the people on screen, in WebVTT.

    Args:
        folder: The run's folder.

    Raises:
        OutputError: It holds no run, or one without a video.
    """
    run = _run(folder)
    labels = _labels(run.people)
    spans = Motion(run.faces, run.samples, Settings(**run.info["settings"]).fps).shown()
    blocks = ["WEBVTT\n", "NOTE\nPeople on screen; gender is perceived, ages are estimates.\n"]
    for begin, end, people in _presence(spans):
        words = [html.escape(labels[person][1], quote=False) for person in people if person in labels]
        if words and round(1000 * begin) < round(1000 * end):
            blocks.append(f"{_vtt_time(begin)} --> {_vtt_time(end)}\n{chr(10).join(words)}\n")
    return "\n".join(blocks)


def save_subtitles(
    folder: str | Path,
    forms: Sequence[str] = SUBTITLES,
    *,
    out: str | Path | None = None,
    stem: str | None = None,
) -> list[Path]:
    """Write subtitles, and return the files.

    Args:
        folder: The run's folder.
        forms: Some of `SUBTITLES`.
        out: Folder of the files; None: the run's.
        stem: Of their names; None: ``subtitles``.

    Raises:
        OutputError: The folder holds no run, or one without a video, or the files cannot be written.
    """
    place = Path(folder if out is None else out)
    written = []
    for form in forms:
        content = {"ass": ass, "vtt": webvtt}[form](folder)
        path = place / f"{stem or 'subtitles'}.{form}"
        with output_errors(place):
            place.mkdir(parents=True, exist_ok=True)
        with writing(path) as temporary:
            temporary.write_text(content, "utf-8", newline="\n")
        written.append(path)
    return written


def _run(folder: str | Path) -> Run:
    run = Run.load(folder)
    if run.info["kind"] == "images":
        raise OutputError(f"{run.folder} is a run of images: subtitles need a video")
    return run


def _labels(people: pd.DataFrame) -> dict[int, tuple[str, str]]:
    """The gender and the label of each person."""
    names = people["name"].fillna("") if "name" in people else [""] * len(people)
    ages = people["age_years"].to_numpy(np.float64, na_value=np.nan).tolist()
    rows = zip(people["person_id"].tolist(), people["gender"].astype(str), ages, names, strict=True)
    return {
        person: (
            gender if gender in GENDER_COLORS else "unknown",
            _escaped(caption(person, gender, age, name)),
        )
        for person, gender, age, name in rows
    }


def _escaped(text: str) -> str:
    """Text without the characters that begin a tag or an escape in ASS.

    >>> _escaped(r"a{\\b1}c")
    'a(/b1)c'
    """
    return text.translate({ord("{"): "(", ord("}"): ")", ord("\\"): "/"})


# --- geometry ----------------------------------------------------------------------------------------------


def _straightened(spans: Spans) -> Spans:
    """Join spans of one box that follow each other, as long as it moves evenly."""
    open_ends: dict[tuple[int, float, bytes], _Way] = {}
    ways: list[_Way] = []
    for begin, end, first, last, person in zip(
        spans.begin_s, spans.end_s, spans.first, spans.last, spans.person.tolist(), strict=True
    ):
        way = open_ends.pop((person, round(float(begin), 4), first.tobytes()), None)
        if way is None or not way.reaches(float(end), last):
            way = _Way(float(begin), first, person)
            ways.append(way)
        way.add(float(end), last)
        open_ends[person, round(float(end), 4), last.tobytes()] = way
    if not ways:
        return spans
    return Spans.of(
        np.array([way.begin_s for way in ways]),
        np.array([way.times[-1] for way in ways]),
        np.stack([way.first for way in ways]),
        np.stack([way.boxes[-1] for way in ways]),
        np.array([way.person for way in ways], np.int64),
    )


class _Way:
    """A box that moves evenly."""

    def __init__(self, begin_s: float, first: NDArray[np.float32], person: int) -> None:
        self.begin_s, self.first, self.person = begin_s, first, person
        self.times: list[float] = []
        self.boxes: list[NDArray[np.float32]] = []

    def add(self, time_s: float, box: NDArray[np.float32]) -> None:
        self.times.append(time_s)
        self.boxes.append(box)

    def reaches(self, time_s: float, box: NDArray[np.float32]) -> bool:
        """Whether the boxes so far lie on a straight way to another one."""
        share = (np.array(self.times) - self.begin_s) / max(time_s - self.begin_s, 1e-9)
        even = self.first + (box - self.first) * share[:, None]
        stray = np.abs(np.stack(self.boxes) - even).max()
        return bool(stray <= max(_LEAST_STRAY_PX, _STRAIGHT * float(self.first[2] - self.first[0])))


def _moved(first: list[float], last: list[float]) -> str:
    """The tags that move and scale a drawing of the first box to the last one."""
    wide, high = (100 * (last[i + 2] - last[i]) / max(first[i + 2] - first[i], 1e-3) for i in (0, 1))
    scaled = (
        "" if abs(wide - 100) < 0.5 and abs(high - 100) < 0.5 else f"\\t(\\fscx{wide:.0f}\\fscy{high:.0f})"
    )
    return f"{{{_way(7, (first[0], first[1]), (last[0], last[1]))}{scaled}}}"


def _way(corner: int, first: tuple[float, float], last: tuple[float, float]) -> str:
    """The tags that place a text by one of its corners, moving from one point to another."""
    ends = [f"{x:.1f},{y:.1f}" for x, y in (first, last)]
    return f"\\an{corner}" + (f"\\pos({ends[0]})" if ends[0] == ends[1] else f"\\move({','.join(ends)})")


def _outline(gender: str, box: list[float], line: int) -> str:
    """The drawing of a box around (0, 0): rounded for female, sharp for male, otherwise of pieces."""
    width, height = round(box[2] - box[0]), round(box[3] - box[1])
    if gender == "female":
        return _rounded(width, height, round(min(width, height) / 2 * ROUNDNESS))
    if gender == "male":
        return f"m 0 0 l {width} 0 {width} {height} 0 {height}"
    if gender == "unknown":
        reach, thick = (width // 3, height // 3), 0
    else:
        return _dashes(width, height, max(1, line // 2))
    corners = []
    for x, y, right, down in ((0, 0, 1, 1), (width, 0, -1, 1), (width, height, -1, -1), (0, height, 1, -1)):
        a, b = x + right * reach[0], y + down * reach[1]
        corners.append(f"m {a} {y + thick} l {x} {y} {x + thick} {b} {x} {y}")
    return " ".join(corners)


def _rounded(width: int, height: int, radius: int) -> str:
    # The usual approximation of a quarter circle by a Bezier curve.
    pull = radius - round(0.5523 * radius)
    x, y = width - radius, height - radius
    return (
        f"m {radius} 0 l {x} 0 b {width - pull} 0 {width} {pull} {width} {radius} "
        f"l {width} {y} b {width} {height - pull} {width - pull} {height} {x} {height} "
        f"l {radius} {height} b {pull} {height} 0 {height - pull} 0 {y} "
        f"l 0 {radius} b 0 {pull} {pull} 0 {radius} 0"
    )


def _dashes(width: int, height: int, thin: int) -> str:
    dash = 4 * thin + 2
    across = [(at, min(at + dash, width)) for at in range(0, width, 2 * dash)]
    down = [(at, min(at + dash, height)) for at in range(0, height, 2 * dash)]
    pieces = [(a, y, b, y + thin) for a, b in across for y in (0, height - thin)]
    pieces += [(x, a, x + thin, b) for a, b in down for x in (0, width - thin)]
    return " ".join(f"m {a} {b} l {c} {b} {c} {d} {a} {d}" for a, b, c, d in pieces)


def _styles(text: int, line: int) -> Iterator[str]:
    """The styles of boxes and labels by gender."""
    for gender, color in (*GENDER_COLORS.items(), ("uncounted", UNCOUNTED_COLOR)):
        paint = _ass_color(color)
        filled = gender == "uncounted"
        yield (
            f"Style: box-{gender},DejaVu Sans,{text},{paint if filled else '&HFF000000'},&H00000000,{paint},"
            f"&H60000000,0,0,0,0,100,100,0,0,1,{0 if filled else line / 2:g},{0 if filled else 1},7,0,0,0,1"
        )
        if not filled:
            yield (
                f"Style: label-{gender},DejaVu Sans,{1.2 * text:.0f},{_ass_color(ink(color))},&H00000000,"
                f"{paint},{paint},0,0,0,0,100,100,0,0,3,{max(1, text // 6)},0,7,0,0,0,1"
            )


def _ass_color(color: str) -> str:
    """A color of the palette in ASS.

    >>> _ass_color("#E69F00")
    '&H00009FE6'
    """
    return f"&H00{color[5:7]}{color[3:5]}{color[1:3]}"


# --- time --------------------------------------------------------------------------------------------------


class _Present(NamedTuple):
    begin_s: float
    end_s: float
    people: tuple[int, ...]


@dataclass
class _Stretch:
    begin_s: float
    end_s: float


def _presence(spans: Spans) -> list[_Present]:
    """The stretches in which the same people are on screen; short absences do not end them."""
    stretches: dict[int, list[_Stretch]] = {}
    for begin, end, person in zip(
        spans.begin_s.tolist(), spans.end_s.tolist(), spans.person.tolist(), strict=True
    ):
        mine = stretches.setdefault(person, [])
        if person > 0 and mine and begin - mine[-1].end_s <= _JOIN_S:
            mine[-1].end_s = max(mine[-1].end_s, end)
        elif person > 0:
            mine.append(_Stretch(begin, end))
    borders = sorted(
        {edge for each in stretches.values() for one in each for edge in (one.begin_s, one.end_s)}
    )
    events = sorted((one.begin_s, one.end_s, person) for person, each in stretches.items() for one in each)
    found: list[_Present] = []
    here: list[tuple[float, int]] = []
    read = 0
    for begin, end in itertools.pairwise(borders):
        while read < len(events) and events[read][0] <= begin:
            here.append((events[read][1], events[read][2]))
            read += 1
        here = [one for one in here if one[0] > begin]
        people = tuple(sorted(person for _, person in here))
        if people:
            found.append(_Present(begin, end, people))
    return found


def _ass_time(seconds: float) -> str:
    """A time in ASS, to hundredths.

    >>> _ass_time(3661.239)
    '1:01:01.24'
    """
    hundredths = round(100 * max(seconds, 0.0))
    minutes, rest = divmod(hundredths, 6000)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02d}:{rest // 100:02d}.{rest % 100:02d}"


def _vtt_time(seconds: float) -> str:
    """A time in WebVTT, to thousandths.

    >>> _vtt_time(3661.2394)
    '01:01:01.239'
    """
    thousandths = round(1000 * max(seconds, 0.0))
    whole, rest = divmod(thousandths, 1000)
    minutes, second = divmod(whole, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:02d}:{minute:02d}:{second:02d}.{rest:03d}"
