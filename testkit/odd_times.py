"""Files whose clock jumps, does not begin at 0, has a bad stamp, or stops for long; animations."""

from __future__ import annotations

import functools
import re
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from testkit.odd_files import OddFile

__all__ = ["CASES", "Recording", "animate", "join", "restamp", "write_hls"]

TICKS = 90_000
_MIDDLE = 90
WRAP = 1 << 33
_RATE = 48_000
Change = Callable[[int, int, int], tuple[int, int]]
"""From a packet's number and its pts and dts in ticks of 1/90000 s to what they are to be."""


@dataclass(frozen=True)
class _Coded:
    data: bytes
    pts_s: Fraction
    dts_s: Fraction
    length_s: Fraction
    key: bool


@functools.lru_cache(maxsize=2)
def _coded(reference: Path) -> tuple[_Coded, ...]:
    with av.open(str(reference)) as source:
        return tuple(
            _Coded(
                bytes(one),
                (one.pts or 0) * one.time_base,
                (one.dts or 0) * one.time_base,
                (one.duration or 0) * one.time_base,
                one.is_keyframe,
            )
            for one in source.demux(video=0)
            if one.size
        )


def _clean(reference: Path, near: int) -> int:
    """The packet nearest to a number that divides the file: what is before it is shown before it."""
    coded = _coded(reference)

    def is_clean(number: int) -> bool:
        behind = min(one.pts_s for one in coded[number:])
        return max(one.pts_s for one in coded[:number]) < behind

    return min(filter(is_clean, range(1, len(coded))), key=lambda number: abs(number - near))


@dataclass(frozen=True)
class Recording:
    """Packets of the reference clip, not encoded anew, to be written with other times."""

    reference: Path
    shift_s: float = 0.0
    """Added to every time."""
    sound_s: float = 0.0
    """Length of a tone, in time with the video; 0: none."""
    first: int = 0
    last: int | None = None
    """About which packets of the reference are written, last excluded."""
    pause_s: float = 0.0
    """In the middle nothing is shown anew for so long; 0: no pause."""
    sound_pauses: bool = False
    """Whether the sound jumps there too, rather than going on."""
    sound_early: int = 0
    """By how many packets it does so earlier."""

    def write(self, path: Path, **options: str) -> Path:
        """Write a file of the form that its name says."""
        last = None if self.last is None else _clean(self.reference, self.last)
        packets, middle = _coded(self.reference)[self.first : last], _clean(self.reference, _MIDDLE)
        begin_s = packets[0].pts_s
        with (
            av.open(str(self.reference)) as source,
            av.open(str(path), "w", container_options=options) as out,
        ):
            video = out.add_stream_from_template(source.streams.video[0])
            tone = None
            if self.sound_s:
                tone = out.add_stream("aac", rate=_RATE, layout="mono")
            heard = [] if tone is None else list(self._heard(tone))
            out.start_encoding()
            seen = []
            for number, one in enumerate(packets):
                shift = Fraction(self.shift_s) - begin_s
                shift += Fraction(self.pause_s if number >= middle else 0)
                packet = av.Packet(one.data)
                packet.time_base = Fraction(1, TICKS)
                packet.pts, packet.dts = (round((t + shift) * TICKS) for t in (one.pts_s, one.dts_s))
                packet.duration, packet.is_keyframe = round(one.length_s * TICKS), one.key
                packet.stream = video
                seen.append(packet)
            for packet in sorted([*seen, *heard], key=lambda p: (p.dts or 0) * p.time_base):
                out.mux(packet)
        return path

    def _heard(self, stream: av.AudioStream) -> Iterable[av.Packet]:
        coded, step, rate = [], 1024, _RATE
        for start in range(0, int(self.sound_s * rate), step):
            wave = np.sin(2 * np.pi * 440 * np.arange(start, start + step) / rate).astype(np.float32) * 0.2
            frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
            coded += stream.encode(frame)
        coded += stream.encode(None)
        pause_at_s = float(_coded(self.reference)[_clean(self.reference, _MIDDLE)].dts_s)
        for number, packet in enumerate(coded):
            at_s = (packet.pts or 0) * packet.time_base
            shift = Fraction(self.shift_s)
            if self.sound_pauses and number + self.sound_early >= pause_at_s * rate / step:
                shift += Fraction(self.pause_s)
            packet.pts = packet.dts = round((at_s + shift) / packet.time_base)
            packet.stream = stream
            yield packet


def join(path: Path, parts: Iterable[Recording], suffix: str = "") -> Path:
    """Write recordings one behind the other into one file, as `cat` does."""
    data = b""
    for number, part in enumerate(parts):
        piece = part.write(path.with_name(f"{path.stem}-{number}{suffix or path.suffix}"))
        data += piece.read_bytes()
        piece.unlink()
    path.write_bytes(data)
    return path


def restamp(path: Path, change: Change) -> Path:
    """Change the stamps of the frames of a transport stream in place."""
    data = bytearray(path.read_bytes())
    number = 0
    for at in range(0, len(data), 188):
        if not data[at + 1] & 0x40 or not data[at + 3] & 0x10:
            continue
        head = at + 4 + (1 + data[at + 4] if data[at + 3] & 0x20 else 0)
        if data[head : head + 3] != b"\0\0\1" or data[head + 3] & 0xF0 != 0xE0:
            continue
        both = data[head + 7] >> 6 == 3
        pts = _stamp(data[head + 9 : head + 14])
        dts = _stamp(data[head + 14 : head + 19]) if both else pts
        pts, dts = change(number, pts, dts)
        data[head + 9 : head + 14] = _stamp_bytes(3 if both else 2, pts)
        if both:
            data[head + 14 : head + 19] = _stamp_bytes(1, dts)
        number += 1
    path.write_bytes(data)
    return path


def _stamp(five: bytes | bytearray) -> int:
    return (five[0] >> 1 & 7) << 30 | five[1] << 22 | five[2] >> 1 << 15 | five[3] << 7 | five[4] >> 1


def _stamp_bytes(mark: int, ticks: int) -> bytes:
    ticks %= WRAP
    return bytes(
        [
            mark << 4 | (ticks >> 30 & 7) << 1 | 1,
            ticks >> 22 & 255,
            (ticks >> 15 & 127) << 1 | 1,
            ticks >> 7 & 255,
            (ticks & 127) << 1 | 1,
        ]
    )


def write_hls(folder: Path, parts: Sequence[Recording], *, marked: bool = True) -> Path:
    """A playlist of one segment for each recording, a discontinuity between them."""
    lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:6"]
    for number, part in enumerate(parts):
        part.write(folder / f"{number}.ts")
        lines += ["#EXT-X-DISCONTINUITY"] if number and marked else []
        lines += ["#EXTINF:6,", f"{number}.ts"]
    path = folder / "list.m3u8"
    path.write_text("\n".join([*lines, "#EXT-X-ENDLIST", ""]))
    return path


def animate(path: Path, reference: Path, delays_s: Sequence[float], width: int = 1280) -> Path:
    """An animated GIF or PNG with as many frames of the reference, each with its delay in seconds."""
    frames = []
    with av.open(str(reference)) as source:
        for frame, _ in zip(source.decode(video=0), delays_s, strict=False):
            image = Image.fromarray(frame.to_ndarray(format="rgb24"))
            frames.append(image.resize((width, round(image.height * width / image.width))))
    if path.suffix == ".gif":
        palette = frames[0].quantize(128)
        frames = [one.quantize(palette=palette) for one in frames]
    # Frames that are alike would be joined.
    for number, one in enumerate(frames):
        one.putpixel((0, 0), number % 2 if path.suffix == ".gif" else (number % 256, 0, 0))
    frames[0].save(
        path, "GIF" if path.suffix == ".gif" else "PNG", save_all=True, append_images=frames[1:], duration=50
    )
    _delay(path, delays_s)
    return path


def _delay(path: Path, delays_s: Sequence[float]) -> None:
    """Write the delays as they are; libraries leave out those that they think too short."""
    from zlib import crc32

    data, at, delays = bytearray(path.read_bytes()), 0, iter(delays_s)
    if path.suffix == ".gif":
        # With what stands around it: three bytes alone occur in compressed images too.
        places = [one.start() for one in re.finditer(rb"\x21\xf9\x04.{4}\x00(?=[\x21\x2c])", data, re.DOTALL)]
        for place, delay in zip(places, delays, strict=True):
            data[place + 4 : place + 6] = struct.pack("<H", round(delay * 100))
    else:
        while (at := data.find(b"fcTL", at)) >= 0 and (delay := next(delays, None)) is not None:
            data[at + 24 : at + 28] = struct.pack(">HH", round(delay * 1000), 1000)
            data[at + 30 : at + 34] = struct.pack(">I", crc32(bytes(data[at : at + 30])))
            at += 34
    path.write_bytes(data)


def _declare(path: Path, seconds: float) -> Path:
    """Have a Matroska file declare another length."""
    data = bytearray(path.read_bytes())
    at = data.index(b"\x44\x89\x88")
    data[at + 3 : at + 11] = struct.pack(">d", seconds * 1000)
    while (at := data.find(b"DURATION\x44\x87", at)) >= 0:
        start = data.index(b":", at) - 2
        text = f"{int(seconds // 3600):02}:{int(seconds // 60 % 60):02}:{seconds % 60:012.9f}"
        data[start : start + len(text)] = text.encode()
        at = start
    path.write_bytes(data)
    return path


def _once(name: str, **changes: object) -> Callable[[Path, Path], Path]:
    return lambda folder, reference: replace(Recording(reference), **changes).write(folder / name)  # type: ignore[arg-type]


def _joined(name: str, *parts: dict[str, object]) -> Callable[[Path, Path], Path]:
    return lambda folder, reference: join(
        folder / name,
        [replace(Recording(reference), **part) for part in parts],  # type: ignore[arg-type]
    )


def _hls(*parts: dict[str, object], marked: bool = True) -> Callable[[Path, Path], Path]:
    return lambda folder, reference: write_hls(
        folder,
        [replace(Recording(reference), **part) for part in parts],  # type: ignore[arg-type]
        marked=marked,
    )


def _restamped(change: Change, **changes: object) -> Callable[[Path, Path], Path]:
    return lambda folder, reference: restamp(_once("restamped.ts", **changes)(folder, reference), change)


def _moved(seconds: float, *numbers: int) -> Change:
    """Stamps of some packets moved."""
    ticks = round(seconds * TICKS)
    return lambda n, pts, dts: (pts + ticks, dts + ticks) if n in numbers else (pts, dts)


def _from(number: int, seconds: float) -> Change:
    """Stamps of all packets moved from one on."""
    ticks = round(seconds * TICKS)
    return lambda n, pts, dts: (pts + ticks, dts + ticks) if n >= number else (pts, dts)


def _late_in(name: str, seconds: float) -> Callable[[Path, Path], Path]:
    """A file of any form in which one frame alone is shown at a wrong time."""

    def make(folder: Path, reference: Path) -> Path:
        plain = Recording(reference).write(folder / f"plain{Path(name).suffix}")
        odd = _clean(reference, _MIDDLE)
        with av.open(str(plain)) as old, av.open(str(folder / name), "w") as new:
            stream = new.add_stream_from_template(old.streams.video[0])
            new.start_encoding()
            for number, packet in enumerate(one for one in old.demux(video=0) if one.size):
                if number == odd and packet.pts is not None:
                    packet.pts += round(seconds / packet.time_base)
                packet.stream = stream
                new.mux(packet)
        plain.unlink()
        return folder / name

    return make


def _early(folder: Path, reference: Path) -> Path:
    """A Matroska file in which one frame alone is shown a second too early."""
    path = Recording(reference).write(folder / "a.mkv")
    data = bytearray(path.read_bytes())
    at = (
        data.index(_coded(reference)[_clean(reference, _MIDDLE)].data) - 3
    )  # the block's time in its cluster, and flags
    data[at : at + 2] = struct.pack(">h", struct.unpack(">h", data[at : at + 2])[0] - 1000)
    path.write_bytes(data)
    return path


def _animation(name: str, *delays_s: float, times: int = 1) -> Callable[[Path, Path], Path]:
    return lambda folder, reference: animate(folder / name, reference, delays_s * times)


_JUMP = "a clock that jumps (MPEG-TS, HLS, FLV)"
_STAMP = "one bad time stamp"
_START = "time that does not begin at 0"
_PAUSE = "a long pause, which is no jump"
_ANIMATION = "delays of GIF and APNG"
_SOUND = {"sound_s": 6.0}
_ONE = {"reading.clock_jumps": 1}
_NO = {"reading.clock_jumps": 0}

CASES = (
    OddFile(_JUMP, "ts-forward-hour", _joined("a.ts", {}, {"shift_s": 3600}), duration_s=12, run=_ONE),
    OddFile(_JUMP, "ts-back-hours", _joined("a.ts", {"shift_s": 9000}, {}), duration_s=12, run=_ONE),
    OddFile(
        _JUMP,
        "ts-forward-seconds-sound",
        _joined("a.ts", _SOUND, {"shift_s": 13.0, **_SOUND}),
        duration_s=12,
        run=_ONE,
    ),
    OddFile(
        _JUMP,
        "ts-back-seconds-sound",
        _joined("a.ts", {"shift_s": 4.0, **_SOUND}, _SOUND),
        duration_s=12,
        run=_ONE,
    ),
    OddFile(
        _JUMP,
        "ts-several",
        _joined(
            "a.ts",
            *({"last": 75, "sound_s": 2.5, "shift_s": shift} for shift in (500, 600, 20, 90_000)),
        ),
        duration_s=4 * 73 / 30,  # the reference can be cut behind its 73rd frame
        run={"reading.clock_jumps": 3},
    ),
    OddFile(_JUMP, "ts-in-a-group-of-pictures", _restamped(_from(100, 20)), run=_ONE),
    OddFile(_JUMP, "ts-back-in-a-group-of-pictures", _restamped(_from(100, -0.5), shift_s=10), run=_ONE),
    OddFile(
        _JUMP,
        "ts-sound-jumps-earlier",
        _once("a.ts", pause_s=3600.0, sound_pauses=True, sound_early=6, **_SOUND),
        run=_ONE,
    ),
    OddFile(_JUMP, "ts-video-jumps-alone", _once("a.ts", pause_s=3600.0, **_SOUND), run=_ONE),
    OddFile(_JUMP, "ts-wraps", _restamped(lambda n, pts, dts: (pts - 4 * TICKS, dts - 4 * TICKS)), run=_NO),
    OddFile(_JUMP, "hls-back", _hls({"shift_s": 3600}, {}), duration_s=12, run=_ONE),
    OddFile(_JUMP, "hls-forward-sound", _hls(_SOUND, {"shift_s": 90, **_SOUND}), duration_s=12, run=_ONE),
    OddFile(
        _JUMP, "hls-day", _hls({}, {"shift_s": 91_800}, {}), duration_s=18, run={"reading.clock_jumps": 2}
    ),
    OddFile(
        _JUMP,
        "flv-reconnected",
        _once("a.flv", pause_s=7200.0, sound_pauses=True, **_SOUND),
        run=_ONE,
    ),
    OddFile(_JUMP, "mkv-joined", _joined("a.mkv", {}, {}), duration_s=12, run=_ONE),
    OddFile(_STAMP, "ts-late", _restamped(_moved(3600, 90)), run=_NO),
    OddFile(_STAMP, "ts-early", _restamped(_moved(-2, 90), shift_s=60), run=_NO),
    OddFile(_STAMP, "ts-two-late", _restamped(_moved(3600, 90, 91)), run=_NO),
    OddFile(_STAMP, "mkv-late", _late_in("a.mkv", 3600), run=_NO),
    OddFile(_STAMP, "mkv-early", _early, run=_NO),
    OddFile(_STAMP, "mp4-late", _late_in("a.mp4", 3600), run=_NO),
    OddFile(_STAMP, "flv-late", _late_in("a.flv", 3600), run=_NO),
    OddFile(_START, "mkv-hour", _once("a.mkv", shift_s=3600), run=_NO),
    OddFile(_START, "mkv-seconds-sound", _once("a.mkv", shift_s=2.5, **_SOUND), run=_NO),
    OddFile(
        _START,
        "mkv-hour-declared-from-first",
        lambda folder, reference: _declare(_once("a.mkv", shift_s=3600)(folder, reference), 6),
        run=_NO,
    ),
    OddFile(_START, "ts-day", _once("a.ts", shift_s=80_000), run=_NO),
    OddFile(_START, "mp4-delayed", _once("a.mp4", shift_s=20), run=_NO),
    OddFile(_PAUSE, "mp4-slide", _once("a.mp4", pause_s=60.0), duration_s=66, run=_NO),
    OddFile(_PAUSE, "mkv-screen", _once("a.mkv", pause_s=240.0), duration_s=246, run=_NO),
    OddFile(
        _PAUSE,
        "ts-slide-sound",
        _once("a.ts", pause_s=60.0, sound_s=66.0),
        duration_s=66,
        run=_NO,
    ),
    OddFile(_ANIMATION, "gif-10-ms", _animation("a.gif", 0.01, times=60), run=_NO),
    OddFile(_ANIMATION, "gif-0-ms", _animation("a.gif", 0.0, times=60), run=_NO),
    OddFile(_ANIMATION, "gif-20-ms", _animation("a.gif", 0.02, times=50), duration_s=1.0, run=_NO),
    OddFile(_ANIMATION, "gif-last-stands", _animation("a.gif", *[0.1] * 30, 3.0), duration_s=6, run=_NO),
    OddFile(_ANIMATION, "apng-0-ms", _animation("a.apng", 0.0, times=60), run=_NO),
    OddFile(_ANIMATION, "apng-10-ms", _animation("a.apng", 0.01, times=60), run=_NO),
    OddFile(_ANIMATION, "apng-20-ms", _animation("a.apng", 0.02, times=50), duration_s=1.0, run=_NO),
)
