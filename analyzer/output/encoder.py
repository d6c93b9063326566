"""The H.264 encoder and the mp4 file of annotated videos."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Self, cast

import av
from av.codec.hwaccel import HWAccel
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from analyzer.errors import OutputError
from analyzer.media.demuxer import VideoInfo
from analyzer.output.audio import Sound
from analyzer.settings import Settings

__all__ = [
    "Mp4",
]

_TICK = Fraction(1, 90_000)

ENCODER = "libx264"

ENCODER_OPTIONS = {"preset": "veryfast", "crf": "23", "bf": "0"}
"""Options where no hardware encoder works.

Without B frames the last frame has the right duration at any frame rate, and players without edit lists start
in time. It is faster, and files grow by a fifth. Encoding 20 s of 1080p at this crf took, in CPU time:
superfast 8.6 s (7.5 MB), veryfast 12.0 s (4.1 MB), faster 17.1 s (4.4 MB).
"""


@dataclass(frozen=True)
class Encoder:
    """An H.264 encoder."""

    name: str
    options: dict[str, str]
    pix_fmt: str = "yuv420p"
    """Its pixel format, which yuv420p converts to without loss."""
    device_type: str = ""
    """The device whose memory frames are uploaded to; empty for encoders that do so themselves."""

    def device(self) -> HWAccel | None:
        """The device for PyAV."""
        return HWAccel(self.device_type) if self.device_type else None

    def works(self, width: int, height: int) -> bool:
        """Whether it encodes a frame of this size; that FFmpeg lists an encoder does not mean it works."""
        try:
            context = cast(
                av.VideoCodecContext, av.CodecContext.create(self.name, "w", hwaccel=self.device())
            )
            context.width, context.height, context.pix_fmt = width, height, self.pix_fmt
            context.time_base, context.framerate = _TICK, Fraction(25)
            context.options = self.options
            frame = av.VideoFrame(width, height, "yuv420p")
            frame.pts, frame.time_base = 0, _TICK
            return any(packet.size for packet in [*context.encode(frame), *context.encode(None)])
        except Exception:  # noqa: BLE001 - drivers fail in many ways, and libx264 always works
            return False


HARDWARE_ENCODERS = (
    Encoder("h264_nvenc", {"preset": "p4", "rc": "vbr", "cq": "23", "b": "0", "bf": "0"}),
    Encoder("h264_qsv", {"preset": "fast", "global_quality": "23", "bf": "0"}, "nv12"),
    Encoder("h264_vaapi", {"rc_mode": "CQP", "qp": "23", "bf": "0"}, "nv12", "vaapi"),
    Encoder("h264_videotoolbox", {"flags": "+qscale", "global_quality": str(60 * 118), "bf": "0"}),
    Encoder("h264_amf", {"rc": "cqp", "qp_i": "23", "qp_p": "23", "bf": "0"}, "nv12"),
)
"""Tried in this order, at a constant quality like that of libx264."""


@cache
def find_encoder(width: int, height: int) -> Encoder:
    """The first hardware encoder that works for frames of this size, else libx264; cached."""
    software = Encoder(ENCODER, ENCODER_OPTIONS)
    return next((one for one in HARDWARE_ENCODERS if one.works(width, height)), software)


class Mp4:
    """The file being written; a context manager that always closes it."""

    def __init__(
        self, part: Path, size: tuple[int, int], info: VideoInfo, settings: Settings, sound: Sound | None
    ) -> None:
        self.width, self.height = (side + side % 2 for side in size)
        self.frames = 0
        self._part, self._sound = part, sound
        rate = info.fps or Fraction(25)
        self._last = -1
        self._duration = max(1, round(1 / (rate * _TICK)))
        ends = [end for end in (settings.stop_s, info.duration_s) if end is not None]
        self._length_s = max(0.0, min(ends) - settings.start_s) if ends else math.inf
        self._end_s = math.inf if settings.stop_s is None else settings.stop_s - settings.start_s
        self._container = av.open(
            f"file:{part.absolute()}", "w", format="mp4", options={"movflags": "+faststart"}
        )
        encoder = find_encoder(self.width, self.height)
        stream = self._container.add_stream(
            encoder.name, rate=rate, options=encoder.options, hwaccel=encoder.device()
        )
        self._stream = cast(av.VideoStream, stream)
        self._stream.width, self._stream.height = self.width, self.height
        self._stream.pix_fmt = encoder.pix_fmt
        context = self._stream.codec_context
        context.time_base = _TICK
        context.thread_count = settings.threads  # 0: the encoder decides
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        if sound is not None:
            sound.add_to(self._container)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        if kind is not None:
            # Closing rewrites the whole file to put its index first; an empty file is quick.
            with suppress(OSError):
                os.truncate(self._part, 0)
            with suppress(Exception):
                self._container.close()

    @property
    def share(self) -> float:
        """The share of the expected length that is written, 0 to 1."""
        return min(1.0, self._last * float(_TICK) / self._length_s) if self._length_s else 1.0

    def write(self, frame: av.VideoFrame, time_s: float) -> None:
        """Add a frame that is shown from `time_s` seconds after the start of the file.

        Args:
            frame: yuv420p in BT.709 and limited range; its time is overwritten.
            time_s: Not less than that of the frame before.

        Raises:
            OSError: It cannot be written.
            OutputError: It cannot be encoded.
        """
        pts = max(round(time_s / _TICK), self._last + 1)
        if self.frames:
            self._duration = pts - self._last
        self._last = pts
        self.frames += 1
        frame.pts, frame.time_base = pts, _TICK
        self._encode(frame)

    def finish(self, *, whole: bool) -> None:
        """Write the remaining packets and the index.

        Args:
            whole: Whether all frames were read, so that the last one lasts until the end.

        Raises:
            OSError: It cannot be written.
            OutputError: It cannot be encoded.
        """
        if whole and self._last * float(_TICK) < self._length_s < math.inf:
            self._duration = max(1, round(self._length_s / _TICK) - self._last)
        self._encode(None)
        self._mux_sound(min((self._last + self._duration) * float(_TICK), self._end_s), last=True)
        self._container.close()

    def _encode(self, frame: av.VideoFrame | None) -> None:
        try:
            for packet in self._stream.encode(frame):
                packet.duration = self._duration  # the muxer derives all but the last
                # The encoder is many frames behind: audio follows its output, so that no packets pile up.
                if packet.dts is not None:
                    self._mux_sound(float(packet.dts * _TICK))
                self._container.mux(packet)
        except OSError:
            raise
        except av.FFmpegError as error:
            raise OutputError(f"the annotated video cannot be encoded ({error.strerror})") from error

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
