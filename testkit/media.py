"""Makes the videos of the tests: small, exact, their truth known to the frame."""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

TICK = Fraction(1, 90_000)


def numbered(count: int, width: int = 160, height: int = 96) -> Iterable[NDArray[np.uint8]]:
    """`count` RGB frames whose number can be read back with `number_of`, after lossy coding too.

    The number is in 16 black or white fields, four by four, the lowest bit first.
    """
    for number in range(count):
        bits = [(number >> bit) & 1 for bit in range(16)]
        fields = np.array(bits, np.uint8).reshape(4, 4) * 255
        rows = np.arange(height) * 4 // height
        columns = np.arange(width) * 4 // width
        yield np.repeat(fields[rows][:, columns, None], 3, axis=2)


def number_of(image: NDArray[np.uint8]) -> int:
    """The number that `numbered` drew into a frame of any size."""
    height, width = image.shape[:2]
    ys, xs = ((np.arange(4) * 2 + 1) * side // 8 for side in (height, width))
    bits = image[np.ix_(ys, xs)].mean(axis=2).ravel() > 127
    return int((bits * (1 << np.arange(16))).sum())


def noisy(images: Iterable[NDArray[np.uint8]]) -> Iterable[NDArray[np.uint8]]:
    """The frames with less contrast and noise that differs from one to the next; `number_of` still works.

    Two frames of such a video are never equal by chance, and a wrong reference shows.
    """
    rng = np.random.default_rng(0)
    for image in images:
        noise = rng.integers(-20, 21, image.shape)
        yield np.clip(image.astype(np.int64) // 2 + 64 + noise, 0, 255).astype(np.uint8)


@contextlib.contextmanager
def usual_priority() -> Iterator[None]:
    """Restore the scheduling of this thread afterwards.

    As root, SVT-AV1 gives the thread that encodes a real-time priority and never takes it back: whatever that
    thread starts later would starve everything else on its processor.
    """
    try:
        yield
    finally:
        if hasattr(os, "sched_setscheduler"):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


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
    rotation_deg: int = 0,
    tick: Fraction = TICK,
    metadata: dict[str, str] | None = None,
) -> Path:
    """Encode RGB frames, with a tone of `audio_s` seconds if asked for.

    `times_s` gives each frame's time (variable frame rate); else they are 1 / `fps` apart. A player turns
    the frames clockwise by `rotation_deg`. Some codecs need a coarse `tick`, the encoder's unit of time.
    """
    with (
        usual_priority(),
        av.open(str(path), "w", format=format, options=container_options or {}) as container,
    ):
        container.metadata.update(metadata or {})
        rate = Fraction(fps).limit_denominator(1001)
        stream = container.add_stream(codec, rate=rate, options=options or {})
        assert isinstance(stream, av.VideoStream)
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = tick
        if rotation_deg:
            stream.set_display_rotation(-rotation_deg)
        sound = container.add_stream(audio_codec, rate=48_000) if audio_s else None
        for index, image in enumerate(images):
            if index == 0:
                stream.height, stream.width = image.shape[:2]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")
            time_s = times_s[index] if times_s is not None else index / fps
            frame.pts, frame.time_base = round(time_s / tick), tick
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


def write_sound(path: Path, seconds: float, *, cover: bytes = b"") -> Path:
    """A file with a tone only, and a PNG cover image if given."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libmp3lame" if path.suffix == ".mp3" else "aac", rate=48_000)
        picture = container.add_stream("png", rate=1) if cover else None
        if picture is not None:
            picture.width = picture.height = 16
            picture.pix_fmt = "rgb24"
            picture.disposition = av.stream.Disposition.attached_pic
        container.start_encoding()
        if picture is not None:
            _mux_raw(container, picture, cover, 0)
        _write_tone(container, stream, seconds)
    return path


def _mux_raw(
    container: av.container.OutputContainer, stream: av.VideoStream, data: bytes, second: int
) -> None:
    packet = av.Packet(data)
    packet.pts = packet.dts = second
    packet.duration, packet.time_base, packet.is_keyframe = 1, Fraction(1), True
    packet.stream = stream
    container.mux(packet)


def write_packets(path: Path, datas: Sequence[bytes], codec: str = "png") -> Path:
    """A video whose packets are `datas` as they are, one a second, declared as 16x16 pixels."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=1)
        assert isinstance(stream, av.VideoStream)
        stream.width = stream.height = 16
        stream.pix_fmt = "rgb24"
        for second, data in enumerate(datas):
            _mux_raw(container, stream, data, second)
    return path


def remux(path: Path, source: Path, change: Callable[[int, av.Packet], object]) -> Path:
    """Copy the video packets of `source`, each first given to `change` with its number in file order.

    Times are in the source's unit. A packet is left out where `change` returns False.
    """
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        new.start_encoding()
        for index, packet in enumerate(p for p in old.demux(video=0) if p.size):
            if change(index, packet) is not False:
                packet.stream = stream
                new.mux(packet)
    return path


def png_bomb(side: int) -> bytes:
    """A small file of a PNG image of `side` x `side` black pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(1)
    rows = b"\0" * (3 * side + 1) * 100
    body = b"".join(packer.compress(rows) for _ in range(side // 100)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side // 100 * 100, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def flip_bytes(path: Path, count: int = 200, start: float = 0.4, stop: float = 0.6) -> Path:
    """Invert `count` bytes at random places between two fractions of the file, in place."""
    data = bytearray(path.read_bytes())
    places = np.random.default_rng(1).integers(int(len(data) * start), int(len(data) * stop), count)
    for place in places:
        data[place] ^= 0xFF
    path.write_bytes(data)
    return path
