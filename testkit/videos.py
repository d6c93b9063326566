"""Videos for measuring, made from the photographs that installed packages carry.

All have 30 frames a second; H.264 unless another codec is named. View one with

    python -m testkit.videos talking_heads outputs/talking_heads.mp4 --seconds 10
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from skimage import data

from testkit.demo import portraits
from testkit.media import usual_priority

Image = NDArray[np.uint8]

Floats = NDArray[np.float32]

FPS = 30

WIDTH, HEIGHT = 1920, 1080

CODECS: dict[str, tuple[str, dict[str, str]]] = {
    "h264": ("libx264", {"preset": "veryfast"}),
    "vp9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "row-mt": "1", "b": "4M"}),
    "av1": ("libsvtav1", {"preset": "12", "crf": "35"}),
}
"""Encoder and its options of each codec: fast ones, for what is measured is reading."""

SLIDE_S = 8
"""Seconds that a slide of `mostly_still` is shown."""

_REST_S, _MOVE_S = 6, 3
"""How long the speaker of `mostly_still` rests, then moves."""

_NOISE = 1.5
"""Standard deviation of a sensor's noise in gray levels."""

_FACES = (((148, 122), 90), ((162, 135), 122))
"""Center x y and width of the face in each portrait, in its pixels."""


def wall(columns: int = 6, rows: int = 3) -> Image:
    """A large frame of many portraits of several sizes over a photograph, (H, W, 3) uint8 RGB."""
    height, width = 620 * rows, 640 * columns
    frame = cv2.resize(data.coffee(), (width, height))
    for row in range(rows):
        for column in range(columns):
            side = 300 + 60 * ((row + 2 * column) % 4)
            portrait = cv2.resize(portraits()[(row + column) % 2], (side, side), interpolation=cv2.INTER_AREA)
            x, y = 640 * column + 40 * (row % 3), 620 * row + 60 * (column % 2)
            frame[y : y + side, x : x + side] = portrait
    return frame


def panning(
    path: Path, seconds: float, width: int = WIDTH, height: int = HEIGHT, codec: str = "h264"
) -> Path:
    """A camera that pans over `wall`."""
    frame = wall()
    room = frame.shape[1] - width, frame.shape[0] - height

    def frames() -> Iterator[Image]:
        for time_s in _times(seconds):
            x = round(room[0] * (0.5 + 0.5 * np.sin(time_s / 9)))
            y = round(room[1] * (0.5 + 0.5 * np.cos(time_s / 7)))
            yield np.ascontiguousarray(frame[y : y + height, x : x + width])

    return _write(path, frames(), (width, height), codec)


def talking_heads(path: Path, seconds: float) -> Path:
    """Two people who move gently and nod before a still background; a sensor's slight noise."""
    ground = cv2.GaussianBlur(cv2.resize(data.coffee(), (WIDTH, HEIGHT)), (0, 0), 12)
    heads = [_Head.of(number, 2.4) for number in range(2)]
    places = [(150, HEIGHT - heads[0].height), (1050, HEIGHT - heads[1].height)]
    covers = [_soft_edges(head.height, head.width) for head in heads]
    noise = _Noise(WIDTH, HEIGHT)

    def frames() -> Iterator[Image]:
        for time_s in _times(seconds):
            frame = ground.copy()
            for number, (head, place, cover) in enumerate(zip(heads, places, covers, strict=True)):
                phase = time_s + 5 * number
                dx = 9 * np.sin(phase * 0.8) + 4 * np.sin(phase * 2.1)
                dy = 5 * np.sin(phase * 1.3) + 5 * max(0.0, np.sin(phase * 0.5)) * np.sin(phase * 6.0)
                _lay(frame, head.at(2 * dx, 2 * dy), cover, *place)
            yield noise.over(frame)

    return _write(path, frames(), (WIDTH, HEIGHT))


def crowd(path: Path, seconds: float, people: int = 20) -> Path:
    """Small faces, 40 to 90 pixels wide, of `people` who walk to and fro; a sensor's slight noise."""
    walkers = _walkers(people)
    noise = _Noise(WIDTH, HEIGHT)
    texture = cv2.resize(np.vstack([data.brick(), data.gravel()]), (WIDTH, HEIGHT))
    ground = cv2.cvtColor((texture // 2 + 60).astype(np.uint8), cv2.COLOR_GRAY2RGB)

    def frames() -> Iterator[Image]:
        for time_s in _times(seconds):
            frame = ground.copy()
            for walker in walkers:
                wide = walker.colors.shape[1]
                x = (walker.start + walker.speed * time_s) % (WIDTH + wide) - wide
                y = walker.top + 0.03 * wide * abs(np.sin(time_s * 5 + walker.start))
                _lay(frame, walker.colors, walker.cover, round(x), round(y))
            yield noise.over(frame)

    return _write(path, frames(), (WIDTH, HEIGHT))


def mostly_still(path: Path, seconds: float, *, always_moving: bool = False) -> Path:
    """A recorded screen: a slide every 8 s, and a speaker in a corner, a fifth of the width wide.

    The speaker moves for a third of the time, or all the time. What is still is the same to the bit
    before it is encoded, as in recordings of screens.
    """
    wide, high = WIDTH // 5, HEIGHT // 5
    speaker = _Head.of(0, wide / 300)
    top = round(_FACES[0][0][1] * wide / 300 - high / 2)
    left, bottom = WIDTH - wide - 40, HEIGHT - 40

    def frames() -> Iterator[Image]:
        for time_s in _times(seconds):
            frame = _slide(int(time_s // SLIDE_S)).copy()
            swing = _swing(time_s, always_moving)
            inset = speaker.at(14 * swing * np.sin(time_s * 1.7), 8 * swing * np.sin(time_s * 4.1))
            frame[bottom - high : bottom, left : left + wide] = inset[top : top + high]
            yield frame

    return _write(path, frames(), (WIDTH, HEIGHT))


def repeated(path: Path, source: Path, times: int) -> Path:
    """`source` played `times` times in a row, its packets copied."""
    with av.open(str(path), "w") as target:
        stream = None
        offset = 0
        for _ in range(times):
            with av.open(str(source)) as container:
                video = container.streams.video[0]
                if stream is None:
                    stream = target.add_stream_from_template(video)
                for packet in container.demux(video):
                    if packet.dts is None or packet.pts is None:
                        continue
                    packet.pts += offset
                    packet.dts += offset
                    packet.stream = stream
                    target.mux(packet)
                offset += video.duration or 0
    return path


@dataclass(frozen=True)
class _Head:
    """A portrait whose head moves while its shoulders stay; `weight` (H, W) is how far each pixel follows."""

    colors: Image
    weight: Floats
    grid: tuple[Floats, Floats]

    @classmethod
    def of(cls, number: int, scale: float) -> _Head:
        colors = cv2.resize(portraits()[number], None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        height, width = colors.shape[:2]
        (x, y), face = _FACES[number]
        across, down = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        away = ((across - scale * x) / (0.8 * scale * face)) ** 2
        away += ((down - scale * y) / (1.1 * scale * face)) ** 2
        return cls(colors.astype(np.uint8), np.exp(-(away**2)).astype(np.float32), (across, down))

    @property
    def width(self) -> int:
        return self.colors.shape[1]

    @property
    def height(self) -> int:
        return self.colors.shape[0]

    def at(self, dx: float, dy: float) -> Image:
        """The portrait with the head `dx` pixels to the right and `dy` down."""
        across, down = self.grid
        maps = across - np.float32(dx) * self.weight, down - np.float32(dy) * self.weight
        return cv2.remap(self.colors, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


@dataclass(frozen=True)
class _Walker:
    """Somebody of `crowd`: `start` in pixels, `speed` in pixels a second, less than 0 to the left."""

    colors: Image
    cover: Floats
    start: float
    speed: float
    top: float


def _walkers(count: int) -> list[_Walker]:
    """Cropped portraits, mirrored and tinted at random; the larger ones are nearer and later in the list."""
    random = np.random.default_rng(5)
    walkers = []
    for number, face_px in enumerate(np.linspace(40, 90, count)):
        (x, y), face = _FACES[number % 2]
        scale = face_px / face
        colors = cv2.resize(portraits()[number % 2], None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        height, width = colors.shape[:2]
        across, down = np.meshgrid(np.arange(width), np.arange(height))
        head = ((across - scale * x) / (0.75 * face_px)) ** 2 + ((down - scale * y) / (1.1 * face_px)) ** 2
        body = ((across - scale * x) / (1.2 * face_px)) ** 2 + ((down - height) / (1.4 * face_px)) ** 2
        cover = np.clip(6 * (1 - np.minimum(head, body)), 0, 1).astype(np.float32)
        tinted = np.clip(colors * random.uniform(0.85, 1.1, 3), 0, 255).astype(np.uint8)
        if random.random() < 0.5:
            tinted, cover = np.ascontiguousarray(tinted[:, ::-1]), np.ascontiguousarray(cover[:, ::-1])
        speed = random.uniform(1, 2) * face_px * random.choice((-1, 1))
        top = random.uniform(20, 520) + 3 * face_px
        walkers.append(_Walker(tinted, cover, random.uniform(0, WIDTH), speed, top))
    return walkers


@cache
def _slide(number: int) -> Image:
    """A slide with a title, lines of text and a chart, (1080, 1920, 3) uint8 RGB."""
    random = np.random.default_rng(number)
    words = ("measure", "people", "minutes", "result", "sample", "method", "share", "growth", "answer")
    frame = np.full((HEIGHT, WIDTH, 3), (250, 250, 246), np.uint8)
    cv2.rectangle(frame, (0, 0), (WIDTH, 150), (28, 58, 98), -1)
    title = f"{number + 1}. {' '.join(random.choice(words, 4))}"
    cv2.putText(frame, title, (80, 100), cv2.FONT_HERSHEY_DUPLEX, 2.2, (255, 255, 255), 3, cv2.LINE_AA)
    for line in range(8):
        text, place = "- " + " ".join(random.choice(words, 5)), (100, 260 + 90 * line)
        cv2.putText(frame, text, place, cv2.FONT_HERSHEY_SIMPLEX, 1.3, (40, 40, 40), 2, cv2.LINE_AA)
    for bar, height in enumerate(random.integers(80, 400, 6)):
        left = 1180 + 110 * bar
        cv2.rectangle(frame, (left, 680 - int(height)), (left + 80, 680), (210, 110, 40), -1)
    return frame


def _swing(time_s: float, always_moving: bool) -> float:
    """How far the speaker swings, 0 to 1; exactly 0 at rest."""
    if always_moving:
        return 1.0
    moving = (time_s % (_REST_S + _MOVE_S) - _REST_S) / _MOVE_S
    return float(np.sin(np.pi * moving)) if moving > 0 else 0.0


def _soft_edges(height: int, width: int, soft: int = 60) -> Floats:
    """(height, width) 1 inside, falling to 0 at the upper edge and the sides."""
    across = np.clip(np.minimum(np.arange(width), width - 1 - np.arange(width)) / soft, 0, 1)
    down = np.clip(np.arange(height) / soft, 0, 1)
    return (down[:, None] * across[None, :]).astype(np.float32)


def _lay(frame: Image, colors: Image, cover: Floats, x: int, y: int) -> None:
    """Lay `colors` over `frame` in place, as far as `cover` says; what is outside is left out."""
    height, width = cover.shape
    left, right = max(0, -x), min(width, frame.shape[1] - x)
    top, bottom = max(0, -y), min(height, frame.shape[0] - y)
    if left >= right or top >= bottom:
        return
    inside = np.s_[top:bottom, left:right]
    part = frame[y + top : y + bottom, x + left : x + right]
    part[:] = cv2.blendLinear(colors[inside], part, cover[inside], 1 - cover[inside])


class _Noise:
    """A sensor's noise: another part of one large field for each frame."""

    _ROOM = 64

    def __init__(self, width: int, height: int) -> None:
        self._random = np.random.default_rng(3)
        shape = height + self._ROOM, width + self._ROOM
        self._field = np.rint(self._random.normal(0, _NOISE, shape)).astype(np.int16)

    def over(self, frame: Image) -> Image:
        """`frame` (H, W, 3) as planes of YUV 4:2:0, with noise in its brightness."""
        height, width = frame.shape[:2]
        planes = cv2.cvtColor(frame, cv2.COLOR_RGB2YUV_I420)
        y, x = self._random.integers(0, self._ROOM, 2)
        field = self._field[y : y + height, x : x + width]
        planes[:height] = cv2.add(planes[:height], field, dtype=cv2.CV_8U)
        return planes


def _times(seconds: float) -> Iterator[float]:
    """The time of each frame."""
    for number in range(round(FPS * seconds)):
        yield number / FPS


def _write(path: Path, frames: Iterable[Image], size: tuple[int, int], codec: str = "h264") -> Path:
    """Encode RGB frames (H, W, 3), or planes of YUV 4:2:0 (H * 3 / 2, W)."""
    encoder, options = CODECS[codec]
    with usual_priority(), av.open(str(path), "w") as container:
        stream = container.add_stream(encoder, rate=Fraction(FPS), options=options)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for number, frame in enumerate(frames):
            encoded = av.VideoFrame.from_ndarray(frame, "rgb24" if frame.ndim == 3 else "yuv420p")
            encoded.pts = number
            container.mux(stream.encode(encoded))
        container.mux(stream.encode())
    return path


def main() -> None:
    """Make one video."""
    makers = {maker.__name__: maker for maker in (panning, talking_heads, crowd, mostly_still)}
    parser = argparse.ArgumentParser(description="Make a video for measuring.")
    parser.add_argument("kind", choices=makers)
    parser.add_argument("path", type=Path)
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    print(makers[options.kind](options.path, options.seconds))


if __name__ == "__main__":
    main()
