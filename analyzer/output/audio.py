"""The audio of the annotated video: copied if possible, otherwise encoded as AAC, in sync with the video.

The first of several tracks is used. AAC, MP3, AC-3 and E-AC-3 are copied packet by packet. Everything else is
encoded as AAC, Opus too: mp4 allows it, but QuickTime and presentation software play such files without
audio. Missing or damaged audio never prevents the video; `Sound.outcome` reports it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

import av
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Discard

from analyzer.media.clock import Rule, Stamps, Timeline, Track, timeline
from analyzer.settings import Settings

__all__ = [
    "Sound",
    "open_sound",
]

# Formats that may be opened for their audio; formats that refer to other files are excluded.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,mp3,aac,flac,wav"


# By the decoders' names.
_COPIED = frozenset({"aac", "ac3", "eac3", "mp3", "mp3float"})

_DECODED = frozenset(
    {"aac_latm", "adpcm_ima_wav", "adpcm_ms", "alac", "amrnb", "amrwb", "dca", "flac", "mp2", "mp2float"}
    | {"opus", "truehd", "vorbis", "wmav1", "wmav2", "pcm_alaw", "pcm_f32le", "pcm_mulaw", "pcm_u8"}
    | {"pcm_s16be", "pcm_s16le", "pcm_s24be", "pcm_s24le", "pcm_s32be", "pcm_s32le"}
)

_LOOKED_INTO = frozenset(
    {"h264", "hevc", "libdav1d", "libvpx", "libvpx-vp9", "mpeg1video", "mpeg2video", "mpeg4", "theora"}
    | {"av1", "vc1", "vp6f", "vp8", "vp9", "wmv1", "wmv2", "wmv3"}
)

_SOUND_GAP_S = 10
"""Gaps in the audio up to this length are filled with silence; longer ones remain gaps."""

_JUMP_S = Fraction(1, 10)
"""Times that go back by more start a new recording; the video reader has the same limit."""

_LEAD_S = 2.0
"""How long before the start of the clip reading begins."""

_Packet: TypeAlias = "Packet[av.AudioStream]"

_Piece: TypeAlias = "_Packet | av.AudioFrame"


class _NoSoundError(Exception):
    """There is no usable audio; the message is the reason."""


def open_sound(
    path: Path, settings: Settings, *, shared: bool, moved: Timeline | None = None
) -> tuple[Sound | None, str]:
    """Open the audio of the clip; None, and the outcome to report, if there is none.

    Args:
        path: File whose first audio track is used.
        settings: ``start_s`` and ``max_pixels`` are used.
        shared: Whether the file also has the video, so that both share their clock.
        moved: Maps the time stamps of a shared file to its times; None if they are used as they are.
    """
    # The start of time depends on all tracks, and on the decoders that may probe them.
    codecs = _COPIED | _DECODED | (_LOOKED_INTO if shared else frozenset())
    try:
        return Sound(path, codecs, settings, moved, shared=shared), ""
    except _NoSoundError as error:
        return None, f"none: {error}"


class Sound:
    """The first audio track of a file as packets for the output, read only as far as requested."""

    def __init__(
        self,
        path: Path,
        codecs: frozenset[str],
        settings: Settings,
        moved: Timeline | None = None,
        *,
        shared: bool = False,
    ) -> None:
        if not path.is_file():  # a pipe or a device may never end
            raise _NoSoundError("the audio file does not exist")
        self._path = path
        self._options = {
            "format_whitelist": _FORMATS,
            "protocol_whitelist": "file",
            "codec_whitelist": ",".join(sorted(codecs)),
            "max_pixels": str(settings.max_pixels),
            "correct_ts_overflow": "0",
        }
        self._start_s = settings.start_s
        self._container, self._source = self._open()
        self._track: Track | None = moved.sound if moved is not None else None
        start = Fraction(self._container.start_time or 0, av.time_base) if moved is None else moved.zero_s
        if not shared and self._container.format.name == "mpegts":
            moved = self._timeline()
            if moved is not None:
                self._track, start = moved.video, moved.zero_s
        self._zero = start + Fraction(self._start_s)
        self._shape: tuple[str, int] | None = None
        self._bad = 0
        self._muxed = 0
        self._trouble = ""
        try:
            self._pieces = self._choose()
            self._next: _Piece | None = None
            self._advance()
            if self._next is None:
                damaged = self._bad or self._trouble
                raise _NoSoundError("the audio is damaged" if damaged else "the clip has no audio")
        except (av.FFmpegError, ValueError) as error:
            self.close()
            raise _NoSoundError(f"the audio cannot be used ({error})") from error
        except BaseException:
            self.close()
            raise

    def _open(self) -> tuple[InputContainer, av.AudioStream]:
        try:
            container = av.open(
                f"file:{self._path.absolute()}", options=self._options, metadata_errors="replace"
            )
        except (av.FFmpegError, OSError, ValueError) as error:
            raise _NoSoundError("the audio file cannot be read") from error
        if not container.streams.audio:
            container.close()
            raise _NoSoundError("the video has no audio")
        source = container.streams.audio[0]
        for stream in container.streams:
            stream.discard = Discard.default if stream.index == source.index else Discard.all
        return container, source

    def _timeline(self) -> Timeline | None:
        """The times of a file with audio only, whose clock may jump like that of a video."""
        stamps = Stamps(Fraction(self._source.time_base or Fraction(1, 90_000)))
        with suppress(av.FFmpegError):
            for packet in self._container.demux(self._source):
                if packet.size:
                    stamps.add(packet, key=True)
        self._container.close()
        self._container, self._source = self._open()
        return timeline(stamps, None, Rule.of(self._container.format.name))

    def _choose(self) -> Iterator[_Piece]:
        context = self._source.codec_context
        codec = "unknown" if context is None else context.name
        self._copies = codec in _COPIED and context.sample_rate > 0 and context.channels > 0
        if self._copies:
            return self._packets()
        if codec not in _COPIED | _DECODED:
            raise _NoSoundError(f"audio codec {codec} is not supported")
        return self._frames()

    def _advance(self) -> None:
        self._next = next(self._pieces, None)

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def add_to(self, output: OutputContainer) -> None:
        """Add the stream of `packets` to the output."""
        if isinstance(self._next, av.AudioFrame):
            layout, rate = self._next.layout, self._next.sample_rate
            self._stream = output.add_stream(
                "aac", rate, layout=layout.name, bit_rate=96_000 * layout.nb_channels
            )
        else:
            self._stream = output.add_stream_from_template(self._source)

    def packets(self, until_s: float, *, last: bool = False) -> Iterator[_Packet]:
        """The packets that start before `until_s` seconds of the output; with `last`, all the rest."""
        while (piece := self._next) is not None:
            if (piece.pts or 0) * (piece.time_base or 0) >= until_s:
                break
            if isinstance(piece, av.AudioFrame):
                yield from self._counted(self._stream.encode(piece))
            else:
                piece.stream = self._stream
                yield from self._counted([piece])
            self._advance()
        if last and not self._copies:
            yield from self._counted(self._stream.encode(None))

    def give_up(self, reason: str) -> None:
        """Stop, because packets cannot be written."""
        self._next, self._trouble = None, reason

    @property
    def outcome(self) -> str:
        """The value of `RenderResult.audio`."""
        how = "copied" if self._copies else "encoded"
        if not self._muxed:
            return f"none: {self._trouble or 'the audio starts after the end of the video'}"
        if self._trouble:
            return f"{how} (in part: {self._trouble})"
        return f"{how} ({self._bad} damaged packets left out)" if self._bad else how

    def _counted(self, packets: Iterable[_Packet]) -> Iterator[_Packet]:
        for packet in packets:
            self._muxed += 1
            yield packet

    def _packets(self) -> Iterator[_Packet]:
        """The packets of the clip, with strictly increasing times of the output."""
        # Decoders count in ticks of the container, the output in audio samples.
        sample = Fraction(1, self._source.codec_context.sample_rate or 48_000)
        shift = Fraction(0)
        end: Fraction | None = None
        previous = -math.inf
        for packet in self._read():
            if packet.pts is None or packet.is_corrupt:
                self._bad += packet.is_corrupt
                continue
            length = (packet.duration or 0) * packet.time_base
            begin = packet.pts * packet.time_base - self._zero + shift
            again = end is not None and self._track is None and begin < end - _JUMP_S
            if end is not None and again:  # two joined recordings: time starts again
                shift += end - begin
                begin = end
            tick = sample if self._copies else packet.time_base
            pts = round(begin / tick)
            if pts <= previous:
                continue
            previous, end = pts, begin + length
            # A decoder needs the packet before the first audible one; players skip it.
            if self._start_s and end + length <= 0:
                continue
            packet.pts = packet.dts = pts
            packet.duration = round(length / tick)
            packet.time_base = tick
            yield packet

    def _read(self) -> Iterator[_Packet]:
        """The packets of the track from shortly before the clip on; ends early if the file is damaged."""
        try:
            # If time stamps are mapped, all packets count, from the first on.
            first = self._go_to_cut() if self._start_s > _LEAD_S and self._track is None else None
            if first is not None:
                yield first
            packets = self._container.demux(self._source)
            yield from packets if self._track is None else _moved(packets, self._track)
        except (av.FFmpegError, OSError):
            self._trouble = "the file is damaged"

    def _go_to_cut(self) -> _Packet | None:
        """The first packet after seeking; None if the file must be read from its start."""
        tick = self._source.time_base or Fraction(1, 90_000)
        with suppress(av.FFmpegError):
            self._container.seek(int((self._zero - Fraction(_LEAD_S)) / tick), stream=self._source)
            first = next(self._container.demux(self._source), None)
            if first is not None and first.pts is not None and first.pts * first.time_base <= self._zero:
                return first
        # The audio starts after the clip does, or seeking missed the position.
        self._container.close()
        self._container, self._source = self._open()
        return None

    def _frames(self) -> Iterator[av.AudioFrame]:
        """The audio of the clip as AAC needs it, without gaps, from time 0 on."""
        resampler: av.AudioResampler | None = None
        form: tuple[int, str, str] | None = None
        end = Fraction(0)
        for frame in self._decoded():
            rate = frame.sample_rate
            begin = end if frame.pts is None or frame.time_base is None else frame.pts * frame.time_base
            length = Fraction(frame.samples, rate)
            if begin + length <= 0:
                continue
            if resampler is None or form != _form(frame) or begin > end + _SOUND_GAP_S:
                if resampler is not None:
                    yield from resampler.resample(None)
                resampler, form = (
                    self._resampler(frame, from_zero=end == 0 and begin < _SOUND_GAP_S),
                    _form(frame),
                )
            end = begin + length
            frame.pts, frame.time_base = round(begin * rate), Fraction(1, rate)
            yield from resampler.resample(frame)
        if resampler is not None:
            yield from resampler.resample(None)

    def _decoded(self) -> Iterator[av.AudioFrame]:
        for packet in self._packets():
            try:
                yield from packet.decode()
            except av.FFmpegError:
                self._bad += 1
        with suppress(av.FFmpegError):
            yield from self._source.decode(None)

    def _resampler(self, frame: av.AudioFrame, *, from_zero: bool) -> av.AudioResampler:
        if not self._shape:
            rate = 44_100 if frame.sample_rate == 44_100 else 48_000
            self._shape = "mono" if frame.layout.nb_channels == 1 else "stereo", rate
        # Short gaps are filled with silence, overlaps are trimmed, and 20 ms of jitter are ignored.
        options = {"async": "1", "min_hard_comp": "0.02"}
        if from_zero:
            options["first_pts"] = "0"
        layout, rate = self._shape
        return av.AudioResampler(format="fltp", layout=layout, rate=rate, frame_size=1024, options=options)


def _moved(packets: Iterable[_Packet], track: Track) -> Iterator[_Packet]:
    """Packets with their times mapped by the timeline."""
    for number, packet in enumerate(packet for packet in packets if packet.size):
        packet.pts, packet.dts = track.moved(number, packet.pts, packet.dts)
        yield packet


def _form(frame: av.AudioFrame) -> tuple[int, str, str]:
    return frame.sample_rate, frame.format.name, frame.layout.name
