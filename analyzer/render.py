"""The annotated video: a second, cheap pass that draws the finished tables over the source.

Three parts, top down: `render_video` and `render_pictures`; where each face is at any moment (`_Spans`)
and how it is drawn (`_Painter`); what is written (`_Mp4`). The sound is that of `analyzer.sound`.

Decided here, once:

- The picture is H.264 4:2:0 with BT.709 colours, of one even size: an odd picture is padded by one row or
  column, a picture of another size than the first is scaled to fit and framed in black, never distorted.
- Every frame keeps its own time (ticks of 1/90000 s), counted from the start of the cut.
- Sound ends with the picture: what is longer is cut at the end of the last frame. The last frame stands as
  long as the one before it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Container, Iterable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, Self

import av
import cv2
import numpy as np
import pandas as pd
import supervision as sv
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageChops, ImageDraw, ImageFont

from analyzer.errors import MediaError, MediaErrorKind, OutputError
from analyzer.faces import iou
from analyzer.frames import PictureReader, VideoInfo, VideoReader, read_ahead
from analyzer.records import writing
from analyzer.settings import Settings
from analyzer.sound import Sound, open_sound

__all__ = ["RenderResult", "render_pictures", "render_video"]

Image = NDArray[np.uint8]
Boxes = NDArray[np.float32]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Progress = Callable[[float], None]

_TICK = Fraction(1, 90_000)
_AHEAD = 4
_JPEG_QUALITY = 92

_JOIN_S = 1.0
"""Boxes move between two sightings that are not further apart, or at most two samples."""
_JOIN_IOU = 0.3
_HIDDEN_S = 0.5
"""A face is hidden for at least this long before its first and after its last sighting."""

# Okabe and Ito's colours, told apart with any kind of colour vision; neighbours in the list differ most.
_PALETTE = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#F0E442", "#0072B2", "#D55E00")
_GREY = "#B4B4B4"
_CHILD_YEARS = 13


@dataclass(frozen=True)
class RenderResult:
    """What `render_video` wrote."""

    path: Path
    frames: int
    width: int
    """Pixels, even."""
    height: int
    audio: str
    """``copied`` or ``encoded``, then in brackets what was lost on the way, if anything; or ``none: `` and
    the reason."""


def render_video(
    reader: VideoReader,
    target: Path,
    *,
    faces: pd.DataFrame,
    people: pd.DataFrame,
    samples: pd.DataFrame,
    settings: Settings,
    audio_path: Path | None,
    on_progress: Progress | None = None,
) -> RenderResult:
    """Draw boxes, labels and counts over the video, from ``settings.start_s`` to ``settings.end_s``.

    `target` appears when it is whole: what is being written has another name in the same folder, and is
    removed if anything goes wrong. A finished file of an earlier time stays until then.

    Args:
        reader: The open video; its frames are read once.
        target: The file to write, mp4 whatever its name says; its folder must exist.
        faces: The faces table (columns of `analyzer.records.FACES`), boxes in pixels of the upright picture.
        people: The people table: ``person_id``, ``gender``, ``age_years``.
        samples: The samples table: ``time_s`` of every analysed frame, also of those without faces.
        settings: ``start_s``, ``end_s``, ``blur``, ``threads`` and the sampling rate are used.
        audio_path: File whose first sound track is used; None for the video file itself. Both files count
            their time from their own beginning.
        on_progress: Called after every frame with the share that is done, 0 to 1; 1 once, at the end. It
            stays 0 while the length of the video is unknown.

    Raises:
        MediaError: The video cannot be read, or has no picture in the range.
        OutputError: The file cannot be written.
    """
    scene = _Scene(faces, people, samples, settings)
    with ExitStack() as stack:
        part = stack.enter_context(writing(target))
        sound, silence = open_sound(audio_path or reader.path, settings, shared=audio_path is None)
        if sound is not None:
            stack.callback(sound.close)
        # Decoding and the conversion to BGR go on in the reading thread.
        pictures = ((frame, frame.image()) for frame in reader.frames(settings.start_s, settings.end_s))
        mp4: _Mp4 | None = None
        painter: _Painter | None = None
        for frame, image in stack.enter_context(closing(read_ahead(pictures, _AHEAD))):
            if mp4 is None or painter is None:
                size = image.shape[1], image.shape[0]
                mp4 = stack.enter_context(_Mp4(part, size, reader.info, settings, sound))
                painter = _Painter(mp4.width, mp4.height, people, scene.boxes)
            canvas, placing = _fit(image, mp4.width, mp4.height)
            scene.draw(painter, canvas, frame.time_s, placing)
            mp4.write(canvas, frame.time_s - settings.start_s)
            if on_progress is not None:
                on_progress(mp4.share)
        if mp4 is None:
            raise MediaError("The video has no picture in the range.", kind=MediaErrorKind.NO_FRAMES)
        mp4.finish()
    if on_progress is not None:
        on_progress(1.0)
    outcome = sound.outcome if sound is not None else silence
    return RenderResult(target, mp4.frames, mp4.width, mp4.height, outcome)


def render_pictures(
    reader: PictureReader,
    folder: Path,
    *,
    faces: pd.DataFrame,
    people: pd.DataFrame,
    samples: pd.DataFrame,
    settings: Settings,
    on_progress: Progress | None = None,
) -> list[Path]:
    """Write an annotated copy of every picture: JPEG, named after the picture, in the reader's order.

    Each picture stands on its own: nothing is carried from one to the next but the number of people so far.
    Two pictures that differ only in their ending get different names.

    Args:
        reader: The open pictures.
        folder: Where to write; made if it is missing.
        faces: The faces table, as for `render_video`.
        people: The people table, likewise.
        samples: The samples table; ``image`` holds the name of each picture.
        settings: ``blur`` is used.
        on_progress: Called after every picture with the share that is done, 0 to 1.

    Raises:
        MediaError: A picture cannot be read.
        OutputError: A copy cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made ({error.strerror}): choose another folder") from error
    scene = _Scene(faces, people, samples, settings)
    written: dict[Path, None] = {}
    pictures = reader.samples(settings.start_s, settings.end_s)
    with closing(read_ahead(pictures, _AHEAD)) as shots:
        for number, shot in enumerate(shots, 1):
            image = shot.frame.image()
            scene.draw_single(image, people, shot.frame.time_s)
            target = _free_name(folder, Path(shot.image_name).stem, written)
            with writing(target) as part:
                coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]
                part.write_bytes(coded.tobytes())
            written[target] = None
            if on_progress is not None:
                on_progress(number / max(number, len(samples)))
    return list(written)


def _free_name(folder: Path, stem: str, taken: Container[Path]) -> Path:
    target, number = folder / f"{stem}.jpg", 1
    while target in taken:
        number += 1
        target = folder / f"{stem}-{number}.jpg"
    return target


# --- where the faces are ---


@dataclass(frozen=True)
class _Spans:
    """N stretches of time, sorted by beginning, in each of which a box stands still or moves evenly."""

    begin_s: Floats
    """(N,) seconds, included."""
    end_s: Floats
    """(N,) seconds, not included."""
    first: Boxes
    """(N, 4) pixels: the box at the beginning."""
    last: Boxes
    """(N, 4) pixels: the box at the end."""
    person: Ints
    """(N,) -1 for nobody."""

    @classmethod
    def of(cls, begin_s: Floats, end_s: Floats, first: Boxes, last: Boxes, person: Ints) -> _Spans:
        order = np.argsort(begin_s, kind="stable")
        return cls(begin_s[order], end_s[order], first[order], last[order], person[order])


class _Sweep:
    """Hands out the boxes of one moment after another; the moments must not run backwards."""

    def __init__(self, spans: _Spans) -> None:
        self._spans = spans
        self._read = 0
        self._active: Ints = np.empty(0, np.int64)

    def at(self, time_s: float) -> tuple[Boxes, Ints]:
        """(M, 4) boxes and (M,) persons that are to be seen at `time_s`."""
        spans = self._spans
        now = time_s + 1e-6  # times that went through a file may differ in the last digits
        read = int(np.searchsorted(spans.begin_s, now, "right"))
        active = np.concatenate([self._active, np.arange(self._read, read)])
        self._read = read
        self._active = active = active[spans.end_s[active] > now]
        begin, end = spans.begin_s[active], spans.end_s[active]
        way = np.clip((time_s - begin) / (end - begin), 0, 1)[:, None].astype(np.float32)
        boxes: Boxes = spans.first[active] + (spans.last[active] - spans.first[active]) * way
        return boxes, spans.person[active]


class _Scene:
    """The faces table as something to be drawn: what is where at any moment, and who has been seen so far."""

    def __init__(
        self, faces: pd.DataFrame, people: pd.DataFrame, samples: pd.DataFrame, settings: Settings
    ) -> None:
        table = faces.sort_values(["segment", "tracklet_id", "time_s"], kind="stable")
        self._time: Floats = table["time_s"].to_numpy(np.float64)
        self.boxes: Boxes = table[["x1", "y1", "x2", "y2"]].to_numpy(np.float32)
        """(N, 4) pixels of the source."""
        self._person: Ints = table["person_id"].to_numpy(np.int64)
        self._tracklet: Ints = table["tracklet_id"].to_numpy(np.int64)
        self._segment: Ints = table["segment"].to_numpy(np.int64)
        self._sampled: Floats = np.unique(samples["time_s"].to_numpy(np.float64))
        steps = np.diff(self._sampled)
        self._step = float(np.median(steps)) if len(steps) else 1 / settings.fps
        self._limit = max(_JOIN_S, 2 * self._step) + 1e-6
        self._blur = settings.blur
        self._seen: set[int] = set()
        a, b = self._pairs()
        self._shown = _Sweep(self._shown_spans(a, b))
        self._hidden = _Sweep(self._hidden_spans(a, b)) if settings.blur else None

    def draw(self, painter: _Painter, image: Image, time_s: float, placing: _Placing) -> None:
        """Draw the moment `time_s` into `image`, (H, W, 3) uint8 BGR, in place."""
        if self._hidden is not None:
            painter.hide(image, placing.boxes(self._hidden.at(time_s)[0]))
        boxes, persons = self._shown.at(time_s)
        self._mark(painter, image, placing.boxes(boxes), persons)

    def draw_single(self, image: Image, people: pd.DataFrame, time_s: float) -> None:
        """Draw only what was found in the sample at `time_s`, into its picture, in place."""
        here = np.abs(self._time - time_s) < 1e-6
        painter = _Painter(image.shape[1], image.shape[0], people, self.boxes[here])
        if self._blur:
            painter.hide(image, _cover(self.boxes[here], np.float32(0)))
        self._mark(painter, image, self.boxes[here], self._person[here])

    def _mark(self, painter: _Painter, image: Image, boxes: Boxes, persons: Ints) -> None:
        now = set(persons[persons > 0].tolist())
        self._seen |= now
        painter.mark(image, boxes, persons, now, len(self._seen))

    def _pairs(self) -> tuple[Ints, Ints]:
        """Rows a and b, (P,) each, between which a face was followed: drawn as moving from a to b."""
        a = np.arange(max(0, len(self._time) - 1))
        b = a + 1
        same = (self._segment[a] == self._segment[b]) & (self._tracklet[a] == self._tracklet[b])
        same &= self._tracklet[a] >= 0
        c, d = self._meetings(np.r_[True, ~same][: len(self._time)], np.r_[~same, True][: len(self._time)])
        followed = same & self._close(a, b)
        return np.r_[a[followed], c], np.r_[b[followed], d]

    def _meetings(self, head: NDArray[np.bool_], tail: NDArray[np.bool_]) -> tuple[Ints, Ints]:
        """Rows where a tracklet ends, and where the same person's next one begins in the same place.

        Without joining them boxes would blink where segments meet.

        Args:
            head: (N,) whether the row is the first of its tracklet.
            tail: (N,) whether it is the last.
        """
        known = self._person > 0
        row = np.r_[np.flatnonzero(head & known), np.flatnonzero(tail & known)]
        ends = np.arange(len(row)) >= np.count_nonzero(head & known)
        order = np.lexsort((ends, self._time[row], self._person[row]))
        row, ends = row[order], ends[order]
        c, d = row[:-1], row[1:]
        meets = ends[:-1] & ~ends[1:] & (self._person[c] == self._person[d]) & self._close(c, d)
        overlap = [
            iou(self.boxes[i : i + 1], self.boxes[j : j + 1]).item()
            for i, j in zip(c[meets], d[meets], strict=True)
        ]
        in_place = np.array(overlap) >= _JOIN_IOU
        return c[meets][in_place], d[meets][in_place]

    def _close(self, a: Ints, b: Ints) -> NDArray[np.bool_]:
        gap = self._time[b] - self._time[a]
        near: NDArray[np.bool_] = (gap > 0) & (gap <= self._limit)
        return near

    def _shown_spans(self, a: Ints, b: Ints) -> _Spans:
        """Where boxes are drawn: from sample to sample, and a little beyond the last.

        A face that is gone in the next sample left at some moment before it: its box stands for half the
        way. A face that was not followed may well be there again, and nothing is known to end after the
        last sample: these stand until the next sample is due.
        """
        end = np.setdiff1d(np.arange(len(self._time)), a)
        stays = (self._tracklet[end] < 0) | (self._time[end] >= self._sampled.max(initial=-math.inf) - 1e-6)
        hold = np.minimum(self._gaps()[1][end], self._step) * np.where(stays, 1.0, 0.5)
        return _Spans.of(
            np.r_[self._time[a], self._time[end]],
            np.r_[self._time[b], self._time[end] + hold],
            np.r_[self.boxes[a], self.boxes[end]],
            np.r_[self.boxes[b], self.boxes[end]],
            np.r_[self._person[a], self._person[end]],
        )

    def _hidden_spans(self, a: Ints, b: Ints) -> _Spans:
        """Where faces are hidden: wherever one was seen, from earlier and for longer than boxes are drawn.

        Between two samples that cannot be joined, the last place and the next are both hidden all the way.
        """
        rows = np.arange(len(self._time))
        begin, end = np.setdiff1d(rows, b), np.setdiff1d(rows, a)
        before, after = (np.maximum(1.5 * gaps, _HIDDEN_S) for gaps in self._gaps())
        # Nobody moves evenly: the faster, the more room.
        room = np.abs(self.boxes[b] - self.boxes[a]).max(axis=1, keepdims=True, initial=0) / 4
        still = _cover(self.boxes, np.float32(0))
        return _Spans.of(
            np.r_[self._time[a], self._time[begin] - before[begin], self._time[end]],
            np.r_[self._time[b], self._time[begin], self._time[end] + after[end]],
            np.r_[_cover(self.boxes[a], room), still[begin], still[end]],
            np.r_[_cover(self.boxes[b], room), still[begin], still[end]],
            np.r_[self._person[a], self._person[begin], self._person[end]],
        )

    def _gaps(self) -> tuple[Floats, Floats]:
        """For every face, (N,) seconds since the sample before its own and until the one after."""
        padded = np.r_[-math.inf, self._sampled, math.inf]
        before = self._time - padded[np.searchsorted(self._sampled, self._time - 1e-6, "left")]
        after = padded[np.searchsorted(self._sampled, self._time + 1e-6, "right") + 1] - self._time
        return (
            np.where(np.isfinite(before), before, self._step),
            np.where(np.isfinite(after), after, self._step),
        )


def _cover(boxes: Boxes, room: Boxes | np.float32) -> Boxes:
    """(N, 4) the bounds of the ellipses that cover faces: each goes round its box, and `room` pixels more.

    Args:
        boxes: (N, 4) pixels.
        room: (N, 1) pixels, or one number for all.
    """
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    reach = half * np.float32(1.05 * math.sqrt(2)) + 2 + room
    return np.hstack([middle - reach, middle + reach])


class _Placing(NamedTuple):
    """Where the source's picture lies in the output's."""

    scale: float
    left: int
    top: int

    def boxes(self, boxes: Boxes) -> Boxes:
        """(N, 4) boxes in pixels of the output."""
        offset = np.array([self.left, self.top] * 2, np.float32)
        return boxes * np.float32(self.scale) + offset


def _fit(image: Image, width: int, height: int) -> tuple[Image, _Placing]:
    """The picture in the output's size, and where it lies there; the same array if it has that size."""
    high, wide = image.shape[:2]
    if (wide, high) == (width, height):
        return image, _Placing(1, 0, 0)
    if (wide + wide % 2, high + high % 2) == (width, height):
        # Repeating the edge keeps a foreign colour from bleeding in through the shared colour samples.
        padded = cv2.copyMakeBorder(image, 0, height - high, 0, width - wide, cv2.BORDER_REPLICATE)
        return padded.astype(np.uint8, copy=False), _Placing(1, 0, 0)
    scale = min(width / wide, height / high)
    size = max(1, round(wide * scale)), max(1, round(high * scale))
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    framed = np.zeros((height, width, 3), np.uint8)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    framed[top : top + size[1], left : left + size[0]] = cv2.resize(image, size, interpolation=method)
    return framed, _Placing(scale, left, top)


# --- how they are drawn ---


class _Sprite(NamedTuple):
    """A small picture with soft edges, ready to be laid over another."""

    colour: NDArray[np.uint16]
    """(h, w, 3) BGR times opacity, up to 255 * 255."""
    keep: NDArray[np.uint16]
    """(h, w, 1) how much of what lies below stays, 0 to 255."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.keep.shape[1], self.keep.shape[0]

    def lay(self, image: Image, left: int, top: int) -> None:
        """Draw into `image` in place; must lie inside it."""
        width, height = self.size
        below = image[top : top + height, left : left + width]
        below[:] = (self.colour + below * self.keep + 127) // 255


class _Text(NamedTuple):
    text: str
    left: float
    baseline: float
    font: ImageFont.FreeTypeFont
    colour: str


def _sprite(
    size: tuple[int, int], fill: str, opacity: float, radius: float, texts: Iterable[_Text]
) -> _Sprite:
    """A rounded plate with writing on it."""
    fine = 4  # Pillow draws shapes without soft edges: draw large, then shrink
    plate = Pillow.new("L", (size[0] * fine, size[1] * fine))
    outer = (0, 0, size[0] * fine - 1, size[1] * fine - 1)
    ImageDraw.Draw(plate).rounded_rectangle(outer, radius * fine, round(255 * opacity))
    alpha = plate.resize(size, Pillow.Resampling.BOX)
    picture = Pillow.new("RGB", size, fill)
    for line in texts:
        ink = Pillow.new("L", size)
        ImageDraw.Draw(ink).text((line.left, line.baseline), line.text, 255, line.font, anchor="ls")
        picture.paste(Pillow.new("RGB", size, line.colour), mask=ink)
        alpha = ImageChops.lighter(alpha, ink)
    solid = np.asarray(alpha, np.uint16)[:, :, None]
    return _Sprite(np.asarray(picture, np.uint16)[:, :, ::-1] * solid, 255 - solid)


def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # every wheel of Pillow has FreeType
    return font


def _ink(paper: str) -> str:
    """Black or white, whichever is read more easily on a colour (WCAG contrast).

    >>> _ink("#F0E442"), _ink("#0072B2")
    ('#000000', '#FFFFFF')
    """
    parts = [int(paper[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return "#000000" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "#FFFFFF"


def _caption(person: int, gender: str, age: float) -> str:
    """What a label says.

    >>> _caption(3, "female", 34.4), _caption(4, "male", 8.0), _caption(5, "male", math.nan)
    ('#3 woman 34', '#4 boy 8', '#5 man')
    >>> _caption(6, "unknown", 34.4), _caption(7, "unknown", math.nan)
    ('#6 age 34', '#7 ?')
    """
    known = math.isfinite(age)
    if gender in ("female", "male"):
        child = known and round(age) < _CHILD_YEARS
        word = ("girl" if child else "woman") if gender == "female" else ("boy" if child else "man")
        return f"#{person} {word} {round(age)}" if known else f"#{person} {word}"
    return f"#{person} age {round(age)}" if known else f"#{person} ?"


class _Painter:
    """Draws on pictures of one size: all measures follow from its shorter side."""

    def __init__(self, width: int, height: int, people: pd.DataFrame, everywhere: Boxes) -> None:
        """Prepare for pictures of one size.

        Args:
            width: Pixels.
            height: Pixels.
            people: The people table.
            everywhere: (N, 4) all boxes that will be drawn: the panel goes where the fewest are.
        """
        short = min(width, height)
        self._size = width, height
        self._text = max(9, round(8 + short * 0.0165))
        self._line = 1 if short < 200 else max(2, round(short / 330))
        self._font = _font(self._text)
        self._small = _font(max(9, round(self._text * 0.85)))
        ids, gender = people["person_id"].tolist(), people["gender"].astype(str).tolist()
        age = people["age_years"].to_numpy(np.float64, na_value=np.nan).tolist()
        self._gender: dict[int, str] = dict(zip(ids, gender, strict=True))
        self._captions = {i: _caption(i, g, a) for i, g, a in zip(ids, gender, age, strict=True)}
        self._labels: dict[int, _Sprite] = {}
        self._spots: dict[int, int] = {}
        self._counts: tuple[tuple[int, ...], _Sprite] | None = None
        self._panel = self._panel_box(everywhere)
        palette = sv.ColorPalette.from_hex(list(_PALETTE))
        # A dark rim keeps bright lines visible on bright pictures.
        self._rim = sv.BoxAnnotator(sv.Color.BLACK, self._line + 2)
        self._boxes = sv.BoxAnnotator(palette, self._line)
        self._nobody = sv.BoxAnnotator(sv.Color.from_hex(_GREY), max(1, self._line // 2))

    def hide(self, image: Image, covers: Boxes) -> None:
        """Make unrecognisable what is inside the ellipses with these bounds, (N, 4) pixels, in place."""
        for left, top, right, bottom in covers.astype(np.float64):
            x1, y1 = max(0, math.floor(left)), max(0, math.floor(top))
            x2, y2 = min(image.shape[1], math.ceil(right)), min(image.shape[0], math.ceil(bottom))
            if x1 >= x2 or y1 >= y2:
                continue
            below = image[y1:y2, x1:x2]
            # Some four means across a face: too few for eyes and mouth, and the rest is gone for good.
            cell = max(right - left, bottom - top) / 6
            grid = max(1, round((x2 - x1) / cell)), max(1, round((y2 - y1) / cell))
            means = cv2.resize(below, grid, interpolation=cv2.INTER_AREA)
            soft = cv2.resize(means, (x2 - x1, y2 - y1), interpolation=cv2.INTER_LINEAR)
            mask = np.zeros(soft.shape[:2], np.uint8)
            middle, reach = ((left + right) / 2 - x1, (top + bottom) / 2 - y1), (right - left, bottom - top)
            # In sixteenths of a pixel, so that the edge does not jump from pixel to pixel.
            centre, axes = [round(m * 16) for m in middle], [round(r * 8) for r in reach]
            cv2.ellipse(mask, centre, axes, 0, 0, 360, 255, cv2.FILLED, cv2.LINE_8, 4)
            cv2.copyTo(soft, mask, below)

    def mark(self, image: Image, boxes: Boxes, persons: Ints, now: set[int], so_far: int) -> None:
        """Draw boxes, labels and the panel in place.

        Args:
            image: (H, W, 3) uint8 BGR.
            boxes: (M, 4) pixels.
            persons: (M,) whose boxes they are, -1 for nobody.
            now: The people on screen.
            so_far: How many different people have been on screen until now.
        """
        width, height = self._size
        boxes = np.clip(boxes, 0, [width - 1, height - 1] * 2).astype(np.float32)
        someone = persons > 0
        if not someone.all():
            strangers = boxes[~someone]
            self._nobody.annotate(image, sv.Detections(strangers, class_id=np.zeros(len(strangers), int)))
        if someone.any():
            found = sv.Detections(boxes[someone], class_id=(persons[someone] - 1) % len(_PALETTE))
            self._boxes.annotate(self._rim.annotate(image, found), found)
        taken = np.zeros((0, 4))
        if self._panel is not None:
            self._count(now, so_far).lay(image, self._panel[0], self._panel[1])
            taken = np.array([self._panel], float)
        for box, person in zip(boxes[someone], persons[someone].tolist(), strict=True):
            label = self._label(person)
            if label.size[0] > width or label.size[1] > height // 3:
                continue
            left, top = self._place(person, box, label.size, boxes, taken)
            label.lay(image, left, top)
            taken = np.vstack([taken, [left, top, left + label.size[0], top + label.size[1]]])

    def _label(self, person: int) -> _Sprite:
        if person not in self._labels:
            caption = self._captions.get(person) or _caption(person, "unknown", math.nan)
            pad = round(self._text * 0.4)
            size = round(self._font.getlength(caption)) + 2 * pad, round(self._text * 1.4)
            cap_height = -self._font.getbbox("0", anchor="ls")[1]
            paper = _PALETTE[(person - 1) % len(_PALETTE)]
            text = _Text(caption, pad, round((size[1] + cap_height) / 2), self._font, _ink(paper))
            self._labels[person] = _sprite(size, paper, 1, self._text * 0.2, [text])
        return self._labels[person]

    def _place(
        self, person: int, box: Boxes, size: tuple[int, int], faces: Boxes, taken: Floats
    ) -> tuple[int, int]:
        """Left and top of a label: outside all faces and off other labels if that can be had.

        Keeps to the side that the person's label had before unless another is clearly better, so that
        labels do not hop.

        Args:
            person: Whose label it is.
            box: (4,) the face it belongs to.
            size: Width and height of the label.
            faces: (M, 4) all boxes of the picture.
            taken: (K, 4) where labels and the panel are already; a panel counts like a label.
        """
        wide, high = size
        rim = self._line // 2 + 1
        x1, y1, x2, y2 = box[0] - rim, box[1] - rim, box[2] + rim + 1, box[3] + rim + 1
        above, below, flush = y1 - high, y2, x2 - wide
        # Over and under the box, beside it, then a row further off.
        xs = [x1, flush, x1, flush, x2, x1 - wide, x2, x1 - wide, x1, flush, x1, flush]
        ys = [above, above, below, below, y1, y1, y2 - high, y2 - high]
        ys += [above - high, above - high, below + high, below + high]
        spots = np.clip(np.rint(np.column_stack([xs, ys])), 0, np.subtract(self._size, size))
        rects = np.hstack([spots, spots + size])
        cost = 3 * _overlap(rects, faces) + 2 * _overlap(rects, taken)
        cost = cost / (wide * high) + 0.02 * np.arange(len(spots))
        if person in self._spots:
            cost[self._spots[person]] -= 0.15
        self._spots[person] = best = int(np.argmin(cost))
        return int(spots[best, 0]), int(spots[best, 1])

    def _panel_box(self, faces: Boxes) -> tuple[int, int, int, int] | None:
        """Where the panel stands: the corner that hides least of `faces`; None if there is no room."""
        pad, margin = round(self._text * 0.6), round(self._text * 0.7)
        # As wide as the largest numbers to come, so that it does not breathe.
        lines = self._panel_lines(*(10 ** len(str(len(self._gender))) - 1,) * 5)
        wide = max(self._font.getlength(lines[0]), self._small.getlength(lines[1]))
        width, height = math.ceil(wide) + 2 * pad, 2 * pad + round(self._text * 2.1)
        right, bottom = self._size[0] - width - margin, self._size[1] - height - margin
        if right < margin or height > self._size[1] * 0.3:
            return None
        spots = ((margin, margin), (right, margin), (margin, bottom), (right, bottom))
        corners = [(left, top, left + width, top + height) for left, top in spots]
        some = faces[:: 1 + len(faces) // 10_000]  # a long film has millions
        return corners[int(np.argmin(_overlap(np.array(corners, float), some)))]

    def _count(self, now: set[int], so_far: int) -> _Sprite:
        genders = [self._gender.get(person, "unknown") for person in now]
        female, male = genders.count("female"), genders.count("male")
        counts = len(now), so_far, female, male, len(now) - female - male
        if self._counts is None or self._counts[0] != counts:
            assert self._panel is not None
            size = self._panel[2] - self._panel[0], self._panel[3] - self._panel[1]
            pad, text = round(self._text * 0.6), self._panel_lines(*counts)
            first = pad + round(self._text * 0.75)
            lines = [
                _Text(text[0], pad, first, self._font, "#FFFFFF"),
                _Text(text[1], pad, first + round(self._text * 1.35), self._small, "#D8D8D8"),
            ]
            self._counts = counts, _sprite(size, "#101418", 0.62, self._text * 0.35, lines)
        return self._counts[1]

    @staticmethod
    def _panel_lines(now: int, so_far: int, female: int, male: int, unknown: int) -> tuple[str, str]:
        return (
            f"{now} on screen  ·  {so_far} seen so far",
            f"{female} female  ·  {male} male  ·  {unknown} unknown",
        )


def _overlap(rects: Floats, others: Boxes | Floats) -> Floats:
    """(R,) how many pixels of each rectangle (R, 4) others (K, 4) cover, counted once for each of them."""
    low = np.maximum(rects[:, None, :2], others[None, :, :2])
    high = np.minimum(rects[:, None, 2:], others[None, :, 2:])
    covered: Floats = np.prod(np.clip(high - low, 0, None), axis=2).sum(axis=1)
    return covered


# --- what is written ---


class _Mp4:
    """The file being written. As a context manager it lets go of the file whatever happens."""

    def __init__(
        self, part: Path, size: tuple[int, int], info: VideoInfo, settings: Settings, sound: Sound | None
    ) -> None:
        self.width, self.height = (side + side % 2 for side in size)
        self.frames = 0
        self._part, self._sound = part, sound
        rate = info.fps or Fraction(25)
        self._last = -1
        self._stands = max(1, round(1 / (rate * _TICK)))
        ends = [end for end in (settings.end_s, info.duration_s) if end is not None]
        self._length_s = max(0.0, min(ends) - settings.start_s) if ends else math.inf
        self._end_s = math.inf if settings.end_s is None else settings.end_s - settings.start_s
        self._scaler = VideoReformatter()
        self._container = av.open(
            f"file:{part.absolute()}", "w", format="mp4", options={"movflags": "+faststart"}
        )
        # Without B frames the last frame stands as long as it should, whatever the frame rate did before, and
        # players that know no edit lists begin in time; it is faster, and files grow by a fifth.
        coding = {"preset": "veryfast", "crf": "23", "bf": "0"}
        self._stream = self._container.add_stream("libx264", rate=rate, options=coding)
        self._stream.width, self._stream.height, self._stream.pix_fmt = self.width, self.height, "yuv420p"
        context = self._stream.codec_context
        context.time_base = _TICK
        context.thread_count = settings.thread_count
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        if sound is not None:
            sound.add_to(self._container)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        if kind is not None:
            # Closing rewrites the whole file to put its index first; of an empty file that is quick.
            with suppress(OSError):
                os.truncate(self._part, 0)
            with suppress(Exception):
                self._container.close()

    @property
    def share(self) -> float:
        """How much of the expected length is written, 0 to 1."""
        return min(1.0, self._last * float(_TICK) / self._length_s) if self._length_s else 1.0

    def write(self, image: Image, time_s: float) -> None:
        """Add a picture that is shown from `time_s` seconds after the beginning of the file.

        Args:
            image: (height, width, 3) uint8 BGR.
            time_s: Not before the picture before.

        Raises:
            OSError: It cannot be written.
            OutputError: It cannot be encoded.
        """
        pts = max(round(time_s / _TICK), self._last + 1)
        if self.frames:
            self._stands = pts - self._last
        self._last = pts
        self.frames += 1
        frame = self._scaler.reformat(
            av.VideoFrame.from_numpy_buffer(image, "bgr24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
        )
        frame.pts, frame.time_base = pts, _TICK
        self._encode(frame)

    def finish(self) -> None:
        """Write what is under way, and the index.

        Raises:
            OSError: It cannot be written.
            OutputError: It cannot be encoded.
        """
        self._encode(None)
        self._mux_sound(min((self._last + self._stands) * float(_TICK), self._end_s), last=True)
        self._container.close()

    def _encode(self, frame: av.VideoFrame | None) -> None:
        try:
            for packet in self._stream.encode(frame):
                packet.duration = self._stands  # the muxer works out all but the last
                # The encoder is many pictures behind: sound goes by what leaves it, so nothing piles up.
                if packet.dts is not None:
                    self._mux_sound(float(packet.dts * _TICK))
                self._container.mux(packet)
        except OSError:
            raise
        except av.FFmpegError as error:
            raise OutputError(f"The annotated video cannot be encoded ({error.strerror}).") from error

    def _mux_sound(self, until_s: float, *, last: bool = False) -> None:
        if self._sound is None:
            return
        try:
            for packet in self._sound.packets(until_s, last=last):
                self._container.mux(packet)
        except OSError:
            raise
        except (av.FFmpegError, ValueError) as error:
            self._sound.give_up(str(error))
