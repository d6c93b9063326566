"""Labeled faces as video shows them: small, soft, dark, noisy, in motion, and coded as H.264 or VP9.

Several people are filmed together, each in a cell of the frame, and the coded frames are decoded again, as an
analysis would see them.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Real = NDArray[np.float64]

FACE_SHARE = 0.82
"""Width of the face, as detectors frame it, as a share of a labeled image's."""

_FPS = 12
_FRAMES = 5
_ROOM = 100
"""Pixels around a labeled image of 200, filled with its blurred reflection."""


@dataclass(frozen=True)
class Layout:
    """Frames in which people of about one size are filmed together."""

    width: int
    """Of the frame, in pixels."""
    height: int
    columns: int
    rows: int
    face_px: tuple[float, float]
    """Least and greatest width of a face."""

    @property
    def people(self) -> int:
        """How many are filmed together."""
        return self.columns * self.rows

    def center(self, place: int) -> tuple[float, float]:
        """Of a person's cell, in pixels."""
        row, column = divmod(place, self.columns)
        return (column + 0.5) * self.width / self.columns, (row + 0.5) * self.height / self.rows


LAYOUTS = (
    Layout(640, 360, 6, 3, (20, 52)),
    Layout(960, 540, 5, 3, (48, 96)),
    Layout(1280, 720, 4, 2, (90, 180)),
)


def film(faces: Sequence[Image], layout: Layout, random: np.random.Generator, keep: int) -> list[Image]:
    """Film people together, and decode what was coded.

    Args:
        faces: (200, 200, 3) uint8 BGR labeled images, at most `layout.people`.
        layout: Of the frames.
        random: Draws everything.
        keep: How many of the decoded frames are returned, spread over the video.

    Returns:
        (height, width, 3) uint8 BGR each.
    """
    people = [_Person(face, layout, place, random) for place, face in enumerate(faces)]
    background = _background(layout, random)
    shown = []
    for number in range(_FRAMES):
        frame = background.copy()
        for person in people:
            person.draw(frame, number)
        shown.append(frame)
    codec, rate = drawn_codec(random)
    decoded = coded(shown, codec, rate)
    chosen = np.sort(random.choice(len(decoded), keep, replace=False))
    return [decoded[one] for one in chosen]


def photographed(face: Image, random: np.random.Generator) -> Image:
    """A labeled face as in a photograph: of 40 to 220 pixels, coded as JPEG; (S, S, 3) uint8 BGR."""
    layout = Layout(480, 480, 1, 1, (40, 220))
    frame = np.full((layout.height, layout.width, 3), 120, np.uint8)
    frame[:] = _background(layout, random)
    _Person(face, layout, 0, random, gentle=True).draw(frame, 0)
    return _jpeg(frame, int(random.integers(50, 96)))


def _jpeg(image: Image, quality: int) -> Image:
    coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded.astype(np.uint8)


def _background(layout: Layout, random: np.random.Generator) -> Image:
    """Soft spots of color."""
    coarse = random.uniform(20, 220, (5, 8, 1)) + random.normal(0, 15, (5, 8, 3))
    size = (layout.width, layout.height)
    return np.clip(cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)


def drawn_codec(random: np.random.Generator) -> tuple[str, int]:
    """A codec, and its constant quality, from good to very low; of GIF the number of colors."""
    kind = random.random()
    if kind < 0.6:
        return "libx264", int(random.integers(20, 40))
    if kind < 0.85:
        return "libvpx-vp9", int(random.integers(28, 58))
    return "gif", int(random.choice([64, 128, 256]))


def coded(frames: Sequence[Image], codec: str, rate: int) -> list[Image]:
    """Encode and decode frames.

    Args:
        frames: (H, W, 3) uint8 BGR each, of even sides.
        codec: ``libx264``, ``libvpx-vp9``, or ``gif``.
        rate: Constant quality of the codec; of GIF the number of colors.
    """
    if codec == "gif":
        return [_few_colors(frame, rate) for frame in frames]
    fast = (
        {"preset": "veryfast"} if codec == "libx264" else {"deadline": "realtime", "cpu-used": "8", "b": "0"}
    )
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream(codec, rate=Fraction(_FPS), options={"crf": str(rate), **fast})
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="bgr24")))
        container.mux(stream.encode())
    file.seek(0)
    with av.open(file, "r") as read:
        read.streams.video[0].codec_context.thread_count = 1
        return [one.to_ndarray(format="bgr24").astype(np.uint8) for one in read.decode(video=0)]


def _few_colors(frame: Image, colors: int) -> Image:
    """A frame in a palette of its own, dithered, as in a GIF."""
    picture = PIL.Image.fromarray(np.ascontiguousarray(frame[:, :, ::-1]))
    # The palette is that of one frame in several: the fastest method is good enough.
    drawn = picture.quantize(colors, PIL.Image.Quantize.FASTOCTREE, dither=PIL.Image.Dither.FLOYDSTEINBERG)
    drawn = picture.quantize(palette=drawn, dither=PIL.Image.Dither.FLOYDSTEINBERG)
    return np.asarray(drawn.convert("RGB"), np.uint8)[:, :, ::-1].copy()


class _Person:
    """A labeled face in a cell of the frame, under conditions that stay the same while it is filmed."""

    def __init__(
        self, face: Image, layout: Layout, place: int, random: np.random.Generator, *, gentle: bool = False
    ) -> None:
        self._random = random
        low, high = layout.face_px
        self._scale = np.exp(random.uniform(np.log(low), np.log(high))) / (FACE_SHARE * face.shape[0])
        self._center = np.array(layout.center(place)) + random.normal(0, 3, 2)
        self._cell = layout.width / layout.columns, layout.height / layout.rows
        self._place = divmod(place, layout.columns)
        self._speed = np.zeros(2) if gentle else random.normal(0, 1, 2) * self._scale * 4
        self._angle_deg, self._turning_deg = random.normal(0, 6), random.normal(0, 0.6)
        self._narrow = 1 - abs(random.normal(0, 0.06))
        # A coarser picture drawn larger is as soft as an enlarged one.
        self._softness = 1.0 if random.random() < 0.6 else random.uniform(1, 1.4 if gentle else 2.2)
        self._blur = random.choice([0, 0, 0, 0, 0.5] if gentle else [0, 0, 0, 0, 0.6, 1, 1.5])
        self._motion = 0 if gentle or random.random() < 0.75 else random.uniform(2, 9)
        self._motion_deg = random.uniform(0, 180)
        self._noise = random.choice([0, 1, 2] if gentle else [0, 1, 2, 4, 7])
        lit = _lit(face, random)
        room = cv2.copyMakeBorder(lit, _ROOM, _ROOM, _ROOM, _ROOM, cv2.BORDER_REFLECT)
        soft = cv2.blur(room, (15, 15))
        soft[_ROOM:-_ROOM, _ROOM:-_ROOM] = lit
        self._picture = soft[:, ::-1] if random.random() < 0.5 else soft
        # Averaged down at once, as a lens does: the frame has no pixels that the picture skipped.
        self._reduction = min(1.0, self._scale / self._softness)
        if self._reduction < 1:
            size = max(16, round(soft.shape[0] * self._reduction))
            self._picture = cv2.resize(self._picture, (size, size), interpolation=cv2.INTER_AREA)

        inside = np.zeros(self._picture.shape[:2], np.float32)
        edge = max(2, inside.shape[0] // 8)
        inside[edge:-edge, edge:-edge] = 1
        self._inside = cv2.blur(inside, (edge, edge))

    def draw(self, frame: Image, number: int) -> None:
        """Draw the face into a frame, in place."""
        (row, column), (width, height) = self._place, self._cell
        left, top = round(column * width), round(row * height)
        cell = frame[top : round((row + 1) * height), left : round((column + 1) * width)]
        middle = self._center - (left, top) + self._speed * (number - _FRAMES / 2) / 2
        side = self._picture.shape[0]
        matrix = cv2.getRotationMatrix2D(
            (side / 2, side / 2),
            self._angle_deg + self._turning_deg * number,
            self._scale * (200 + 2 * _ROOM) / side,
        )
        matrix[0] *= self._narrow
        matrix[:, 2] += middle - matrix @ (side / 2, side / 2, 1)
        size = cell.shape[1], cell.shape[0]
        drawn = cv2.warpAffine(self._picture, matrix, size, flags=cv2.INTER_LINEAR)
        alpha = cv2.warpAffine(self._inside, matrix, size, flags=cv2.INTER_LINEAR)
        mixed = cv2.blendLinear(drawn, cell, alpha, 1 - alpha)
        if self._blur:
            mixed = cv2.GaussianBlur(mixed, (0, 0), self._blur * max(1.0, self._scale * 1.16))
        if self._motion:
            mixed = cv2.filter2D(mixed, -1, _streak(self._motion * max(0.5, self._scale), self._motion_deg))
        if self._noise:
            # OpenCV's own random numbers would depend on what the process has drawn before.
            grain = self._random.standard_normal(mixed.shape[:2], np.float32) * np.float32(self._noise)
            noise = np.rint(grain).astype(np.int16)
            mixed = cv2.add(mixed, cv2.merge([noise] * 3), dtype=cv2.CV_8U)
        cell[:] = mixed


def _streak(length: float, angle_deg: float) -> NDArray[np.float32]:
    """A kernel that blurs along a line."""
    side = 2 * int(np.ceil(length / 2)) + 1
    kernel = np.zeros((side, side), np.float32)
    end = length / 2 * np.array([np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))])
    for share in np.linspace(-1, 1, 2 * side):
        x, y = np.round(side // 2 + share * end).astype(int)
        kernel[y, x] = 1
    return np.asarray(kernel / kernel.sum(), np.float32)


def _lit(face: Image, random: np.random.Generator) -> Image:
    """The face in other light: darker or lighter, of other contrast and colors, or without any."""
    values = face.astype(np.float32) / 255
    values **= np.exp(random.normal(0, 0.15))
    values *= random.choice([1, 1, 1, 1, 1, 1, 0.8, 0.65, 0.45, 1.15])
    middle = values.mean()
    values = (values - middle) * random.uniform(0.8, 1.15) + middle
    gray = cv2.cvtColor(np.clip(values, 0, 1), cv2.COLOR_BGR2GRAY)[:, :, None]
    colorful = 0.0 if random.random() < 0.25 else random.uniform(0.5, 1.2)
    values = gray + (values - gray) * colorful
    values *= np.exp(random.normal(0, 0.04 if colorful else 0.01, 3)).astype(np.float32)
    return np.clip(values * 255, 0, 255).astype(np.uint8)
