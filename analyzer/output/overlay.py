"""Drawing on frames: the look of boxes, labels, counts and hidden faces.

A `Painter` decides what to draw where (`Marks`) and draws it, on BGR images or in YUV. Video frames are not
converted for drawing; the colors are, once. `Planes` passes the painter the rectangles around the marks with
their chroma upsampled; pixels that are not drawn on keep the decoder's values exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import av
import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageChops, ImageColor, ImageDraw, ImageFont

from analyzer.media.frame import planes_of
from analyzer.output.captions import caption, short_caption
from analyzer.output.label_placement import Crowd, LabelPlacement, Rect, overlap
from analyzer.util.gender import GENDER_COLORS
from analyzer.util.text import counted

__all__ = [
    "ROUNDNESS",
    "UNCOUNTED_COLOR",
    "Marks",
    "Painter",
    "Planes",
    "hide",
    "ink",
    "line_px",
    "text_px",
]

Image = NDArray[np.uint8]

Boxes = NDArray[np.float32]

Ints = NDArray[np.int64]

UNCOUNTED_COLOR = "#D8D8D8"

_GENDERS = tuple(GENDER_COLORS)

ROUNDNESS = 0.4
"""Corner radius of boxes of perceived gender female, as a share of the largest possible radius."""


class _Sprite(NamedTuple):
    """A small image with soft edges, ready to be blended over another."""

    color: NDArray[np.uint16]
    """(h, w, 3) BGR or YUV times opacity, up to 255 * 255."""
    keep: NDArray[np.uint16]
    """(h, w, 3) weight of the image below, 0 to 255."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.keep.shape[1], self.keep.shape[0]

    def lay(self, image: Image, left: int, top: int) -> None:
        """Draw into `image` in place; must lie inside it."""
        width, height = self.size
        below = image[top : top + height, left : left + width]
        mixed = below * self.keep
        mixed += self.color
        mixed += 127
        below[:] = mixed // 255


class _Text(NamedTuple):
    text: str
    left: float
    baseline: float
    font: ImageFont.FreeTypeFont
    color: str


def _sprite(
    size: tuple[int, int], fill: str, opacity: float, radius: float, texts: Iterable[_Text], *, yuv: bool
) -> _Sprite:
    """A rounded plate with text, for BGR or YUV."""
    fine = 4  # Pillow does not antialias shapes: draw large, then shrink
    plate = Pillow.new("L", (size[0] * fine, size[1] * fine))
    outer = (0, 0, size[0] * fine - 1, size[1] * fine - 1)
    ImageDraw.Draw(plate).rounded_rectangle(outer, radius * fine, round(255 * opacity))
    alpha = plate.resize(size, Pillow.Resampling.BOX)
    canvas = Pillow.new("RGB", size, fill)
    for line in texts:
        ink = Pillow.new("L", size)
        ImageDraw.Draw(ink).text((line.left, line.baseline), line.text, 255, line.font, anchor="ls")
        canvas.paste(Pillow.new("RGB", size, line.color), mask=ink)
        alpha = ImageChops.lighter(alpha, ink)
    solid = np.repeat(np.asarray(alpha, np.uint16)[:, :, None], 3, axis=2)
    color: Image = np.asarray(canvas)[:, :, ::-1]
    if yuv:
        color = np.asarray(cv2.transform(np.ascontiguousarray(color), _TO_YUV), np.uint8)
    return _Sprite(color.astype(np.uint16) * solid, 255 - solid)


# From BGR to YUV of BT.709 in limited range: (3, 4), the last column is added.
_RED, _BLUE = 0.2126, 0.0722

_LUMA = np.array([_BLUE, 1 - _RED - _BLUE, _RED])


_TO_YUV = np.array(
    [
        [*_LUMA * 219 / 255, 16],
        [*(np.array([1, 0, 0]) - _LUMA) / (1 - _BLUE) * 112 / 255, 128],
        [*(np.array([0, 0, 1]) - _LUMA) / (1 - _RED) * 112 / 255, 128],
    ]
)


def _color(text: str, *, yuv: bool) -> tuple[int, int, int]:
    """A color in BGR, or in YUV.

    >>> _color("#E69F00", yuv=False), _color("#FFFFFF", yuv=True)
    ((0, 159, 230), (235, 128, 128))
    """
    red, green, blue = ImageColor.getrgb(text)[:3]
    if not yuv:
        return blue, green, red
    y, u, v = np.rint(_TO_YUV @ [blue, green, red, 1]).astype(int).tolist()
    return y, u, v


def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # every wheel of Pillow has FreeType
    return font


def ink(paper: str) -> str:
    """Black or white, whichever is read more easily on a color (WCAG contrast).

    >>> ink("#F0E442"), ink("#0072B2")
    ('#000000', '#FFFFFF')
    """
    parts = [int(paper[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return "#000000" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "#FFFFFF"


@dataclass(frozen=True)
class Marks:
    """The marks to draw on one frame."""

    uncounted: Boxes
    """(K, 4) boxes of uncounted faces, in pixels."""
    boxes: Boxes
    """(M, 4) boxes of people, in pixels."""
    genders: Ints
    """(M,) index into `_GENDERS`."""
    plates: list[tuple[_Sprite, int, int]]
    """Labels and panel, each with left and top."""
    leaders: list[tuple[Rect, int]]
    """Lines (x, y, x, y) from boxes to labels that are not next to them, with the gender index."""
    thickness: int
    """Largest thickness of lines, in pixels."""

    def __bool__(self) -> bool:
        return bool(len(self.uncounted) or len(self.boxes) or self.plates)

    def rects(self) -> Iterator[Rect]:
        """Rectangles that contain everything drawn; they may overlap and exceed the frame."""
        reach = self.thickness // 2 + 2
        for box in (*self.uncounted, *self.boxes):
            left, top, right, bottom = map(int, box)
            x1, y1, x2, y2 = left - reach, top - reach, right + reach + 1, bottom + reach + 1
            yield x1, y1, x2, top + reach + 1
            yield x1, bottom - reach, x2, y2
            yield x1, y1, left + reach + 1, y2
            yield right - reach, y1, x2, y2
        for box in self.boxes[self.genders == 0]:  # rounded corners lie further inside
            left, top, right, bottom = map(int, box)
            inward = _radius(box) + reach
            for x in (left - reach, right - inward):
                for y in (top - reach, bottom - inward):
                    yield x, y, x + inward + reach + 1, y + inward + reach + 1
        for (x1, y1, x2, y2), _ in self.leaders:
            yield min(x1, x2) - reach, min(y1, y2) - reach, max(x1, x2) + reach + 1, max(y1, y2) + reach + 1
        for plate, left, top in self.plates:
            yield left, top, left + plate.size[0], top + plate.size[1]


class _Outlines:
    """Draws boxes that can be told apart without color.

    Boxes of perceived gender female are rounded, male have sharp corners, unknown gender are corners only,
    and uncounted faces are thin and dashed.

    Args:
        line: Thickness in pixels.
        yuv: Whether the channels are YUV, not BGR.
    """

    def __init__(self, line: int, *, yuv: bool) -> None:
        self._line, self._thin = line, max(1, line // 2)
        self._black = _color("#000000", yuv=yuv)
        self._gray = _color(UNCOUNTED_COLOR, yuv=yuv)
        self._colors = [_color(GENDER_COLORS[gender], yuv=yuv) for gender in _GENDERS]

    def people(self, image: Image, boxes: Boxes, genders: Ints) -> None:
        """Draw (M, 4) boxes in place."""
        for box, gender in zip(boxes, genders.tolist(), strict=True):
            lines = (_rounded, _sharp, _corners)[gender](box)
            # A dark rim keeps bright lines visible on bright frames.
            for color, width in ((self._black, self._line + 2), (self._colors[gender], self._line)):
                cv2.polylines(image, lines, isClosed=gender < 2, color=color, thickness=width)

    def uncounted(self, image: Image, boxes: Boxes) -> None:
        """Draw (K, 4) boxes of uncounted faces in place."""
        dash = 4 * self._thin + 2
        for box in boxes:
            sides = _strokes(box, lambda length: [(at, at + dash) for at in range(0, length, 2 * dash)])
            cv2.polylines(image, sides, isClosed=False, color=self._gray, thickness=self._thin)

    def leader(self, image: Image, line: Rect, gender: int) -> None:
        """Draw the line between a box and its label, in place."""
        for color, width in ((self._black, self._thin + 2), (self._colors[gender], self._thin)):
            cv2.line(image, line[:2], line[2:], color, width)


Lines = list[NDArray[np.int32]]


def _rounded(box: Boxes) -> Lines:
    """A box with rounded corners, as one closed line."""
    x1, y1, x2, y2 = map(int, box)
    radius = _radius(box)
    centers = (
        ((x1 + radius, y1 + radius), 180),
        ((x2 - radius, y1 + radius), 270),
        ((x2 - radius, y2 - radius), 0),
        ((x1 + radius, y2 - radius), 90),
    )
    arcs = [cv2.ellipse2Poly(center, (radius, radius), at, 0, 90, 10) for center, at in centers]
    return [np.concatenate(arcs).astype(np.int32)]


def _radius(box: Boxes) -> int:
    """Radius of rounded corners, in whole pixels."""
    x1, y1, x2, y2 = map(int, box)
    return int(min(x2 - x1, y2 - y1) / 2 * ROUNDNESS)


def _sharp(box: Boxes) -> Lines:
    x1, y1, x2, y2 = map(int, box)
    return [np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], np.int32)]


def _corners(box: Boxes) -> Lines:
    return _strokes(box, lambda length: [(0, length // 3), (length - length // 3, length)])


def _strokes(box: Boxes, pattern: Callable[[int], list[tuple[int, int]]]) -> Lines:
    """Pieces of a box's sides, (2, 2) each; `pattern` returns start and end of each piece of a side."""
    x1, y1, x2, y2 = map(int, box)
    pieces = [[(begin, y), (min(end, x2 - x1), y)] for begin, end in pattern(x2 - x1) for y in (0, y2 - y1)]
    pieces += [[(x, begin), (x, min(end, y2 - y1))] for begin, end in pattern(y2 - y1) for x in (0, x2 - x1)]
    return [np.array(piece, np.int32) + np.array([x1, y1], np.int32) for piece in pieces]


def text_px(short: int) -> int:
    """Return the size of labels on a frame whose shorter side is `short`, both in pixels."""
    return max(9, round(8 + short * 0.0165))


def line_px(short: int) -> int:
    """Return the thickness of boxes on a frame whose shorter side is `short`, both in pixels."""
    return 1 if short < 200 else max(2, round(short / 330))


class Painter:
    """Draws on frames of one size; all measures follow from the shorter side."""

    def __init__(
        self,
        width: int,
        height: int,
        people: pd.DataFrame,
        everywhere: Boxes,
        *,
        yuv: bool,
        uncounted: bool = False,
        image: bool = False,
    ) -> None:
        """Prepare for frames of one size.

        Args:
            width: Width in pixels.
            height: Height in pixels.
            people: The people table.
            everywhere: (N, 4) all boxes that will be drawn; the panel covers as few as possible.
            yuv: Whether the channels are YUV (BT.709, limited range), not BGR.
            uncounted: Whether there are uncounted faces; the panel then shows their number.
            image: Whether it is an image, not a frame of a video.
        """
        short = min(width, height)
        self._size = width, height
        self._yuv = yuv
        self._uncounted = uncounted
        self._here = "in this image" if image else "on screen"
        self._text, self._line = text_px(short), line_px(short)
        self._font = _font(self._text)
        self._small = _font(max(9, round(self._text * 0.85)))
        tiny = max(8, round(self._text * 0.68))
        self._fonts = ((self._text, self._font), (self._text, self._font), (tiny, _font(tiny)))
        ids, gender = people["person_id"].tolist(), people["gender"].astype(str).tolist()
        age = people["age_years"].to_numpy(np.float64, na_value=np.nan).tolist()
        self._people = {i: (g, a) for i, g, a in zip(ids, gender, age, strict=True)}
        # Runs of older versions have no names.
        names = people["name"].fillna("").astype(str).tolist() if "name" in people else [""] * len(ids)
        self._names = dict(zip(ids, names, strict=True))
        self._sprites: dict[tuple[int, int], _Sprite] = {}
        self._counts: tuple[tuple[int, ...], _Sprite] | None = None
        self._panel = self._panel_box(everywhere)
        self._labels = LabelPlacement(self._size, self._line // 2 + 1)
        self._outlines = _Outlines(self._line, yuv=yuv)

    def marks(self, boxes: Boxes, persons: Ints, now: set[int], so_far: int) -> Marks:
        """The marks of one frame.

        Args:
            boxes: (M, 4) pixels.
            persons: (M,) their person ids, -1 for uncounted faces.
            now: The people on screen.
            so_far: Number of distinct people on screen so far.
        """
        width, height = self._size
        boxes = np.clip(boxes, 0, [width - 1, height - 1] * 2).astype(np.float32)
        someone = persons > 0
        named = persons[someone].tolist()
        genders = np.array([_GENDERS.index(self._gender(person)) for person in named], np.int64)
        plates: list[tuple[_Sprite, int, int]] = []
        leaders: list[tuple[Rect, int]] = []
        if self._panel is not None:
            counts = self._count(now, so_far, int(np.count_nonzero(~someone)))
            plates.append((counts, self._panel[0], self._panel[1]))
        level, spots = self._labels.place(
            Crowd(named, boxes[someone], boxes, self._panel),
            lambda person, level: self._label(person, level).size,
        )
        for person, gender, spot in zip(named, genders.tolist(), spots, strict=True):
            if spot is not None:
                plates.append((self._label(person, level), spot.left, spot.top))
                leaders += [] if spot.leader is None else [(spot.leader, gender)]
        return Marks(boxes[~someone], boxes[someone], genders, plates, leaders, self._line + 2)

    def draw(self, image: Image, marks: Marks) -> None:
        """Draw in place on `image`, (H, W, 3) uint8, BGR or YUV."""
        self._outlines.uncounted(image, marks.uncounted)
        for line, gender in marks.leaders:
            self._outlines.leader(image, line, gender)
        self._outlines.people(image, marks.boxes, marks.genders)
        for plate, left, top in marks.plates:
            plate.lay(image, left, top)

    def _gender(self, person: int) -> str:
        gender = self._people.get(person, ("unknown", math.nan))[0]
        return gender if gender in _GENDERS else "unknown"

    def _label(self, person: int, level: int) -> _Sprite:
        if (person, level) not in self._sprites:
            gender, age = self._people.get(person, ("unknown", math.nan))
            text = (short_caption if level else caption)(person, gender, age, self._names.get(person, ""))
            points, font = self._fonts[level]
            pad = round(points * (0.25 if level else 0.4))
            size = round(font.getlength(text)) + 2 * pad, round(points * (1.25 if level else 1.4))
            cap_height = -font.getbbox("0", anchor="ls")[1]
            paper = GENDER_COLORS[self._gender(person)]
            line = _Text(text, pad, round((size[1] + cap_height) / 2), font, ink(paper))
            self._sprites[person, level] = _sprite(size, paper, 1, points * 0.2, [line], yuv=self._yuv)
        return self._sprites[person, level]

    def _panel_box(self, faces: Boxes) -> tuple[int, int, int, int] | None:
        """The corner for the panel that covers least of `faces`; None if it does not fit."""
        pad, margin = round(self._text * 0.6), round(self._text * 0.7)
        # Wide enough for the largest numbers, so that its width does not change.
        lines = self._panel_lines([max(9, 10 ** len(str(len(self._people))) - 1)] * 6)
        wide = max(self._font.getlength(lines[0]), *map(self._small.getlength, lines[1:]))
        width, height = (
            math.ceil(wide) + 2 * pad,
            2 * pad + round(self._text * (2.1 + 1.35 * (len(lines) - 2))),
        )
        right, bottom = self._size[0] - width - margin, self._size[1] - height - margin
        if right < margin or height > self._size[1] * 0.3:
            return None
        spots = ((margin, margin), (right, margin), (margin, bottom), (right, bottom))
        corners = [(left, top, left + width, top + height) for left, top in spots]
        some = faces[:: 1 + len(faces) // 10_000]  # a long video has millions
        return corners[int(np.argmin(overlap(np.array(corners, float), some)))]

    def _count(self, now: set[int], so_far: int, uncounted: int) -> _Sprite:
        genders = [self._gender(person) for person in now]
        counts = len(now), so_far, *(genders.count(gender) for gender in _GENDERS), uncounted
        if self._counts is None or self._counts[0] != counts:
            assert self._panel is not None
            size = self._panel[2] - self._panel[0], self._panel[3] - self._panel[1]
            pad = round(self._text * 0.6)
            first, step = pad + round(self._text * 0.75), round(self._text * 1.35)
            lines = [
                _Text(text, pad, first + row * step, self._small if row else self._font, color)
                for row, (text, color) in enumerate(
                    zip(self._panel_lines(counts), ("#FFFFFF", "#D8D8D8", "#D8D8D8"), strict=False)
                )
            ]
            self._counts = counts, _sprite(size, "#101418", 0.62, self._text * 0.35, lines, yuv=self._yuv)
        return self._counts[1]

    def _panel_lines(self, counts: Sequence[int]) -> tuple[str, ...]:
        now, so_far, female, male, unknown, uncounted = counts
        lines = (
            f"{counted(now, 'person', 'people')} {self._here}  ·  {so_far} seen so far",
            f"{female} female  ·  {male} male  ·  {unknown} unknown",
        )
        return (*lines, f"{counted(uncounted, 'face')} not counted") if self._uncounted else lines


def hide(layers: Sequence[tuple[Image, int]], covers: Boxes) -> None:
    """Make the inside of ellipses unrecognizable, in place.

    Args:
        layers: The planes of the frame, (h, w) or (h, w, 3) uint8, the full-size one first, each with its
            subsampling factor, 1 or 2.
        covers: (N, 4) bounds of the ellipses, in pixels.
    """
    height, width = layers[0][0].shape[:2]
    coarse = max(step for _, step in layers)
    for left, top, right, bottom in covers.astype(np.float64):
        x1, y1 = (max(0, math.floor(side / coarse) * coarse) for side in (left, top))
        x2 = min(width, math.ceil(right / coarse) * coarse)
        y2 = min(height, math.ceil(bottom / coarse) * coarse)
        if x1 >= x2 or y1 >= y2:
            continue
        # About four means across a face: too few for eyes and mouth, and not reversible.
        cell = max(right - left, bottom - top) / 6
        grid = max(1, round((x2 - x1) / cell)), max(1, round((y2 - y1) / cell))
        mask = np.zeros((y2 - y1, x2 - x1), np.uint8)
        middle, reach = ((left + right) / 2 - x1, (top + bottom) / 2 - y1), (right - left, bottom - top)
        # In 1/16 pixel, so that the edge does not jump by whole pixels.
        center, axes = [round(m * 16) for m in middle], [round(r * 8) for r in reach]
        cv2.ellipse(mask, center, axes, 0, 0, 360, 255, cv2.FILLED, cv2.LINE_8, 4)
        for layer, step in layers:
            below = layer[y1 // step : y2 // step, x1 // step : x2 // step]
            means = cv2.resize(below, grid, interpolation=cv2.INTER_AREA)
            soft = cv2.resize(means, below.shape[1::-1], interpolation=cv2.INTER_LINEAR)
            cv2.copyTo(soft, mask if step == 1 else _halved(mask), below)


def _halved(plane: Image) -> Image:
    """The means of 2 x 2 pixels; a mask of 0 and 255 stays above 0 if any of the four was."""
    height, width = plane.shape[:2]
    return np.asarray(cv2.resize(plane, (width // 2, height // 2), interpolation=cv2.INTER_AREA), np.uint8)


class Planes:
    """The planes of a frame for drawing: 8 bits, 4:2:0, even size."""

    def __init__(self, frame: av.VideoFrame) -> None:
        """Make the planes of a frame writable; they are copied if the decoder still needs them."""
        frame.make_writable()
        self._y, self._u, self._v = planes_of(frame)

    def hide(self, covers: Boxes) -> None:
        """Make the inside of ellipses unrecognizable; (N, 4) bounds in pixels."""
        hide([(self._y, 1), (self._u, 2), (self._v, 2)], covers)

    def draw(self, painter: Painter, marks: Marks, scratch: Image) -> None:
        """Draw on the planes.

        Args:
            painter: Draws in YUV.
            marks: The marks to draw.
            scratch: (H, W, 3) uint8 in the size of the frame; its content is overwritten.
        """
        height, width = scratch.shape[:2]
        places: list[tuple[slice, slice]] = []
        for left, top, right, bottom in marks.rects():
            # In whole chroma samples.
            x1, y1 = max(0, left // 2), max(0, top // 2)
            x2, y2 = min(width, right + 1) // 2, min(height, bottom + 1) // 2
            if x1 < x2 and y1 < y2:
                places.append((slice(y1, y2), slice(x1, x2)))
        for small in places:
            luma = self._y[_doubled(small)]
            chroma = (
                cv2.resize(plane[small], luma.shape[::-1], interpolation=cv2.INTER_NEAREST)
                for plane in (self._u, self._v)
            )
            cv2.merge([luma, *chroma], scratch[_doubled(small)])
        painter.draw(scratch, marks)
        for small in places:
            large = _doubled(small)
            self._y[large] = scratch[large][:, :, 0]
            # The mean of four equal values is the same value: pixels that were not drawn on do not change.
            halved = _halved(scratch[large])
            self._u[small], self._v[small] = halved[:, :, 1], halved[:, :, 2]


def _doubled(place: tuple[slice, slice]) -> tuple[slice, slice]:
    rows, columns = place
    return slice(2 * rows.start, 2 * rows.stop), slice(2 * columns.start, 2 * columns.stop)
