"""Makes the videos of the tests: small, exact, their truth known to the frame."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

TICK = Fraction(1, 90_000)


def numbered(count: int, width: int = 160, height: int = 96) -> Iterable[NDArray[np.uint8]]:
    """`count` RGB pictures whose number can be read back with `number_of`, after lossy coding too.

    The number stands in 16 black or white fields, four by four, the lowest bit first.
    """
    for number in range(count):
        bits = [(number >> bit) & 1 for bit in range(16)]
        fields = np.array(bits, np.uint8).reshape(4, 4) * 255
        rows = np.arange(height) * 4 // height
        columns = np.arange(width) * 4 // width
        yield np.repeat(fields[rows][:, columns, None], 3, axis=2)


def number_of(image: NDArray[np.uint8]) -> int:
    """The number that `numbered` drew into a picture of any size."""
    height, width = image.shape[:2]
    ys, xs = ((np.arange(4) * 2 + 1) * side // 8 for side in (height, width))
    bits = image[np.ix_(ys, xs)].mean(axis=2).ravel() > 127
    return int((bits * (1 << np.arange(16))).sum())


def write_video(
    path: Path,
    images: Iterable[NDArray[np.uint8]],
    *,
    fps: float = 30,
    times_s: Sequence[float] | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    audio_s: float = 0,
    audio_codec: str = "aac",
    container_options: dict[str, str] | None = None,
    format: str | None = None,
) -> Path:
    """Encode RGB pictures, with a tone of `audio_s` seconds if asked for.

    `times_s` gives each picture's time (variable frame rate); else they are 1 / `fps` apart.
    """
    with av.open(str(path), "w", format=format, options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001), options=options or {})
        assert isinstance(stream, av.VideoStream)
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = TICK
        sound = container.add_stream(audio_codec, rate=48_000) if audio_s else None
        for index, image in enumerate(images):
            if index == 0:
                stream.height, stream.width = image.shape[:2]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")
            time_s = times_s[index] if times_s is not None else index / fps
            frame.pts, frame.time_base = round(time_s / TICK), TICK
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound is not None:
            _write_tone(container, sound, audio_s)
    return path


def _write_tone(container: av.container.OutputContainer, stream: av.AudioStream, seconds: float) -> None:
    step = 1024
    for start in range(0, int(seconds * 48_000), step):
        wave = np.sin(2 * np.pi * 440 * np.arange(start, start + step) / 48_000).astype(np.float32) * 0.2
        frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, start, Fraction(1, 48_000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode())
