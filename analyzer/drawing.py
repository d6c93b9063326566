"""Drawing on pictures: what boxes, labels, counts and hidden faces look like.

A `Painter` decides what is drawn where (`Marks`) and draws it, on BGR pictures or in YUV. Pictures of videos
are never converted to be drawn on: the colours are, once. `Planes` hands the painter the rectangles around
the marks with their chroma enlarged; what is not drawn keeps the decoder's values exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import av
import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageChops, ImageColor, ImageDraw, ImageFont

from analyzer.frames import planes_of

__all__ = ["Marks", "Painter", "Planes", "hide"]

Image = NDArray[np.uint8]
Boxes = NDArray[np.float32]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Rect = tuple[int, int, int, int]
"""Left, top, right, bottom in whole pixels; right and bottom not included."""

# Okabe and Ito's colours, told apart with any kind of colour vision; neighbours in the list differ most.
_PALETTE = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#F0E442", "#0072B2", "#D55E00")
_GREY = "#B4B4B4"
_CHILD_YEARS = 13


class _Sprite(NamedTuple):
    """A small picture with soft edges, ready to be laid over another."""

    colour: NDArray[np.uint16]
    """(h, w, 3) BGR or YUV times opacity, up to 255 * 255."""
    keep: NDArray[np.uint16]
    """(h, w, 3) how much of what lies below stays, 0 to 255."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.keep.shape[1], self.keep.shape[0]

    def lay(self, image: Image, left: int, top: int) -> None:
        """Draw into `image` in place; must lie inside it."""
        width, height = self.size
        below = image[top : top + height, left : left + width]
        mixed = below * self.keep
        mixed += self.colour
        mixed += 127
        below[:] = mixed // 255


class _Text(NamedTuple):
    text: str
    left: float
    baseline: float
    font: ImageFont.FreeTypeFont
    colour: str


def _sprite(
    size: tuple[int, int], fill: str, opacity: float, radius: float, texts: Iterable[_Text], *, yuv: bool
) -> _Sprite:
    """A rounded plate with writing on it, to be laid over BGR or YUV."""
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
    solid = np.repeat(np.asarray(alpha, np.uint16)[:, :, None], 3, axis=2)
    colour: Image = np.asarray(picture)[:, :, ::-1]
    if yuv:
        colour = np.asarray(cv2.transform(np.ascontiguousarray(colour), _TO_YUV), np.uint8)
    return _Sprite(colour.astype(np.uint16) * solid, 255 - solid)


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


def _colour(text: str, *, yuv: bool) -> tuple[int, int, int]:
    """A colour for pictures in BGR, or for those whose channels are YUV.

    >>> _colour("#E69F00", yuv=False), _colour("#FFFFFF", yuv=True)
    ((0, 159, 230), (235, 128, 128))
    """
    red, green, blue = ImageColor.getrgb(text)
    if not yuv:
        return blue, green, red
    y, u, v = np.rint(_TO_YUV @ [blue, green, red, 1]).astype(int).tolist()
    return y, u, v


def _outline(image: Image, boxes: Boxes, colours: Iterable[tuple[int, int, int]], thickness: int) -> None:
    """Draw boxes, (N, 4) pixels, each in its colour, in place."""
    for (left, top, right, bottom), colour in zip(boxes.astype(int).tolist(), colours, strict=True):
        cv2.rectangle(image, (left, top), (right, bottom), colour, thickness)


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


@dataclass(frozen=True)
class Marks:
    """What is drawn on one picture."""

    strangers: Boxes
    """(K, 4) pixels: boxes of nobody in particular."""
    boxes: Boxes
    """(M, 4) pixels: boxes of people."""
    persons: Ints
    """(M,) whose."""
    plates: list[tuple[_Sprite, int, int]]
    """Labels and panel, each with its left and top."""
    thickness: int
    """Pixels: of the lines of boxes, at most."""

    def __bool__(self) -> bool:
        return bool(len(self.strangers) or len(self.boxes) or self.plates)

    def rects(self) -> Iterator[Rect]:
        """Rectangles outside of which nothing is drawn; they may overlap, and reach out of the picture."""
        reach = self.thickness // 2 + 2
        for box in (*self.strangers, *self.boxes):
            left, top, right, bottom = map(int, box)
            x1, y1, x2, y2 = left - reach, top - reach, right + reach + 1, bottom + reach + 1
            yield x1, y1, x2, top + reach + 1
            yield x1, bottom - reach, x2, y2
            yield x1, y1, left + reach + 1, y2
            yield right - reach, y1, x2, y2
        for plate, left, top in self.plates:
            yield left, top, left + plate.size[0], top + plate.size[1]


class Painter:
    """Draws on pictures of one size: all measures follow from its shorter side."""

    def __init__(
        self, width: int, height: int, people: pd.DataFrame, everywhere: Boxes, *, yuv: bool
    ) -> None:
        """Prepare for pictures of one size.

        Args:
            width: Pixels.
            height: Pixels.
            people: The people table.
            everywhere: (N, 4) all boxes that will be drawn: the panel goes where the fewest are.
            yuv: Whether the channels of the pictures are YUV (BT.709, limited range), not BGR.
        """
        short = min(width, height)
        self._size = width, height
        self._yuv = yuv
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
        self._rim = _colour("#000000", yuv=yuv)
        self._palette = [_colour(text, yuv=yuv) for text in _PALETTE]
        self._nobody = _colour(_GREY, yuv=yuv)

    def marks(self, boxes: Boxes, persons: Ints, now: set[int], so_far: int) -> Marks:
        """What is to be drawn on one picture.

        Args:
            boxes: (M, 4) pixels.
            persons: (M,) whose boxes they are, -1 for nobody.
            now: The people on screen.
            so_far: How many different people have been on screen until now.
        """
        width, height = self._size
        boxes = np.clip(boxes, 0, [width - 1, height - 1] * 2).astype(np.float32)
        someone = persons > 0
        plates: list[tuple[_Sprite, int, int]] = []
        taken = np.zeros((0, 4))
        if self._panel is not None:
            plates.append((self._count(now, so_far), self._panel[0], self._panel[1]))
            taken = np.array([self._panel], float)
        for box, person in zip(boxes[someone], persons[someone].tolist(), strict=True):
            label = self._label(person)
            if label.size[0] > width or label.size[1] > height // 3:
                continue
            left, top = self._place(person, box, label.size, boxes, taken)
            plates.append((label, left, top))
            taken = np.vstack([taken, [left, top, left + label.size[0], top + label.size[1]]])
        return Marks(boxes[~someone], boxes[someone], persons[someone], plates, self._line + 2)

    def draw(self, image: Image, marks: Marks) -> None:
        """Draw in place on `image`, (H, W, 3) uint8, BGR or YUV."""
        _outline(image, marks.strangers, [self._nobody] * len(marks.strangers), max(1, self._line // 2))
        # A dark rim keeps bright lines visible on bright pictures.
        _outline(image, marks.boxes, [self._rim] * len(marks.boxes), self._line + 2)
        colours = [self._palette[(person - 1) % len(_PALETTE)] for person in marks.persons.tolist()]
        _outline(image, marks.boxes, colours, self._line)
        for plate, left, top in marks.plates:
            plate.lay(image, left, top)

    def _label(self, person: int) -> _Sprite:
        if person not in self._labels:
            caption = self._captions.get(person) or _caption(person, "unknown", math.nan)
            pad = round(self._text * 0.4)
            size = round(self._font.getlength(caption)) + 2 * pad, round(self._text * 1.4)
            cap_height = -self._font.getbbox("0", anchor="ls")[1]
            paper = _PALETTE[(person - 1) % len(_PALETTE)]
            text = _Text(caption, pad, round((size[1] + cap_height) / 2), self._font, _ink(paper))
            self._labels[person] = _sprite(size, paper, 1, self._text * 0.2, [text], yuv=self._yuv)
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
            self._counts = counts, _sprite(size, "#101418", 0.62, self._text * 0.35, lines, yuv=self._yuv)
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


def hide(layers: Sequence[tuple[Image, int]], covers: Boxes) -> None:
    """Make unrecognisable what is inside ellipses, in place.

    Args:
        layers: What the picture is made of, (h, w) or (h, w, 3) uint8 each, the one in full size first; and
            how many rows and columns of the picture a sample stands for, 1 or 2.
        covers: (N, 4) pixels: the bounds of the ellipses.
    """
    height, width = layers[0][0].shape[:2]
    coarse = max(step for _, step in layers)
    for left, top, right, bottom in covers.astype(np.float64):
        x1, y1 = (max(0, math.floor(side / coarse) * coarse) for side in (left, top))
        x2 = min(width, math.ceil(right / coarse) * coarse)
        y2 = min(height, math.ceil(bottom / coarse) * coarse)
        if x1 >= x2 or y1 >= y2:
            continue
        # Some four means across a face: too few for eyes and mouth, and the rest is gone for good.
        cell = max(right - left, bottom - top) / 6
        grid = max(1, round((x2 - x1) / cell)), max(1, round((y2 - y1) / cell))
        mask = np.zeros((y2 - y1, x2 - x1), np.uint8)
        middle, reach = ((left + right) / 2 - x1, (top + bottom) / 2 - y1), (right - left, bottom - top)
        # In sixteenths of a pixel, so that the edge does not jump from pixel to pixel.
        centre, axes = [round(m * 16) for m in middle], [round(r * 8) for r in reach]
        cv2.ellipse(mask, centre, axes, 0, 0, 360, 255, cv2.FILLED, cv2.LINE_8, 4)
        for layer, step in layers:
            below = layer[y1 // step : y2 // step, x1 // step : x2 // step]
            means = cv2.resize(below, grid, interpolation=cv2.INTER_AREA)
            soft = cv2.resize(means, below.shape[1::-1], interpolation=cv2.INTER_LINEAR)
            cv2.copyTo(soft, mask if step == 1 else _halved(mask), below)


def _halved(plane: Image) -> Image:
    """The means of two by two; a mask of 0 and 255 stays above 0 wherever one of the four was."""
    height, width = plane.shape[:2]
    return np.asarray(cv2.resize(plane, (width // 2, height // 2), interpolation=cv2.INTER_AREA), np.uint8)


class Planes:
    """The planes of a picture in 8 bits, 4:2:0, and an even size, to be drawn on."""

    def __init__(self, picture: av.VideoFrame) -> None:
        """Make the picture's planes writable: they are copied if the decoder still has a use for them."""
        picture.make_writable()
        self._y, self._u, self._v = planes_of(picture)

    def hide(self, covers: Boxes) -> None:
        """Make unrecognisable what is inside the ellipses with these bounds, (N, 4) pixels."""
        hide([(self._y, 1), (self._u, 2), (self._v, 2)], covers)

    def draw(self, painter: Painter, marks: Marks, scratch: Image) -> None:
        """Draw on the planes.

        Args:
            painter: Draws in YUV.
            marks: What is drawn.
            scratch: (H, W, 3) uint8 in the picture's size; whatever it holds is lost.
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
            # The mean of four that are equal is the same again: what was not drawn stays.
            halved = _halved(scratch[large])
            self._u[small], self._v[small] = halved[:, :, 1], halved[:, :, 2]


def _doubled(place: tuple[slice, slice]) -> tuple[slice, slice]:
    rows, columns = place
    return slice(2 * rows.start, 2 * rows.stop), slice(2 * columns.start, 2 * columns.stop)
