"""Containers and codecs: files are opened within allow-lists, and decoded frame by frame."""

from __future__ import annotations

import datetime
import functools
import math
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Self, cast

import av
import av.error
from av.container import InputContainer
from av.video.frame import PictureType

from analyzer.errors import MediaError, MediaErrorKind, SourceError, SourceErrorKind
from analyzer.media.clock import Clock, ClockJump, Rule, Stamps, Timeline, animation, near, timeline
from analyzer.media.colors import Transfer, transfer_of
from analyzer.media.cropping import NOTHING, Cropping, declared_cropping
from analyzer.media.geometry import Geometry, GeometryFinder
from analyzer.media.read_log import ReadLog
from analyzer.util.text import short_name

__all__ = [
    "INDEXED",
    "Demuxer",
    "VideoInfo",
    "begins_at",
    "check_file",
    "decodes",
    "heif_error",
    "is_heif",
    "no_frames",
    "padded",
    "times_of",
]

# What may be opened at all. Formats that name other files (playlists, concatenation lists, numbered
# images) or draw text are not here; those with sound alone are, to say "no video" of them.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,gif,apng,mp3,flac,wav"

_CODECS = (
    "apng,av1,cinepak,dnxhd,dvvideo,ffv1,ffvhuff,flv,gif,h263,h263p,h264,hevc,huffyuv,libdav1d,libvpx,"
    "libvpx-vp9,mjpeg,mpeg1video,mpeg2video,mpeg4,mpegvideo,msmpeg4,msmpeg4v1,msmpeg4v2,msvideo1,png,prores,"
    "qtrle,rawvideo,theora,vc1,vp6,vp6a,vp6f,vp8,vp9,wmv1,wmv2,wmv3"
)

_SOUND_CODECS = (
    "aac,ac3,alac,amrnb,eac3,flac,mp2,mp2float,mp3,mp3float,opus,pcm_s16be,pcm_s16le,pcm_s24le,pcm_u8,"
    "vorbis,wmav1,wmav2"
)


# Formats with an index that leads to a keyframe, and those read from the front, undecoded up to one.
INDEXED = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi"})

_PASSED = frozenset({"mpegts", "mpeg", "flv", "asf", "ogg"})

_KNOWS_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}

_ANIMATIONS = frozenset({"gif", "apng"})


# Formats whose declared length is a guess of FFmpeg's, or leaves out that delays are not taken at their word.
_UNDECLARED_LENGTH = frozenset({"mpegts", "mpeg", "ogg"}) | _ANIMATIONS

_HEIF_BRANDS = frozenset(
    {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis"}
)

_DURATION_TAG = re.compile(r"(\d+):(\d+):(\d+(?:\.\d+)?)")  # of Matroska

_MAX_THREADS = 16

_PIXELS_IN_FLIGHT = 128_000_000
"""The most pixels that all decoding threads hold: each holds a frame."""

_HELD_BYTES = 64_000_000
"""The most bytes of packets held undecoded during the search for the last keyframe before a start."""

_ANOTHER_S = 2.0
"""Stamps near the end that go back by more are of another recording, not of reordered frames."""


@dataclass(frozen=True)
class VideoInfo:
    """The properties of a video that are known before it is read."""

    width: int
    """Square pixels of the first frame as shown: upright, one eye's view of two."""
    height: int
    duration_s: float | None
    """Seconds of the video stream, as the container declares or its stamps show; None if unknown."""
    fps: Fraction | None
    """Average number of frames per second, as declared; for information only."""
    codec: str
    container: str
    pix_fmt: str | None
    audio_codec: str | None
    recorded_at: str | None = None
    """ISO time in UTC at which it was recorded or last encoded, if the container states it."""
    geometry: Geometry | None = None
    """How the first stored frame becomes the one shown; None for image files and finished runs."""
    transfer: Transfer | None = None
    """How HDR is coded; None if it is not HDR."""
    clock_jumps: tuple[ClockJump, ...] = ()
    """Where the container's clock jumps; times continue there as if it did not."""


_FIRST_YEAR = 1990


def _recorded_at(text: str | None) -> str | None:
    """Parse a container's creation time; cameras without a clock write 1904 or 1970, which is none.

    >>> _recorded_at("2024-05-01T10:20:30.000000Z"), _recorded_at("1970-01-01T00:00:00Z"), _recorded_at("x")
    ('2024-05-01T10:20:30+00:00', None, None)
    """
    try:
        moment = datetime.datetime.fromisoformat(text or "")
    except ValueError:
        return None
    moment = moment.astimezone(datetime.UTC) if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
    return moment.isoformat(timespec="seconds") if moment.year >= _FIRST_YEAR else None


@dataclass(frozen=True)
class _Declared:
    """What a container declares about the shape of all frames."""

    aspect: Fraction | None = None
    cropping: Cropping = NOTHING


@dataclass(frozen=True)
class _Times:
    """What is known about a file's times before it is decoded."""

    timeline: Timeline | None
    """How its stamps become running time; None if they are used unchanged."""
    duration_s: float | None
    """Length of the video in seconds; None if unknown."""


def times_of(path: Path, max_pixels: int) -> _Times:
    """Return how the stamps of a file become times; cached until the file changes."""
    status = path.stat()
    return _times_found(path, max_pixels, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _times_found(path: Path, max_pixels: int, _size: int, _changed: int) -> _Times:
    """Cached, because a worker opens a video again for each of its segments."""
    with Demuxer(path, max_pixels, threads=1) as source:
        times = source.times()
    if times is None:
        with Demuxer(path, max_pixels, threads=1) as source:
            times = source.scanned_times()
    return times


class Demuxer:
    """An opened video file whose frames are read once. A context manager.

    Args:
        path: A regular file.
        max_pixels: The most pixels of a frame.
        threads: The most threads of the decoder.
        declared: What the container declares, from an earlier opening with `headers_only`.
        times: What is known about the times, from `times_of`.
        late_s: Delay to subtract from all times, see `VideoReader`.
        headers_only: Open no decoder.
        deblock: Whether the decoder filters block edges.
        log: Counts what is read.
    """

    def __init__(
        self,
        path: Path,
        max_pixels: int,
        threads: int,
        *,
        declared: _Declared | None = None,
        times: _Times | None = None,
        late_s: float = 0.0,
        headers_only: bool = False,
        deblock: bool = True,
        log: ReadLog | None = None,
    ) -> None:
        self.log = log or ReadLog()
        self._path = path
        self._max_pixels = max_pixels
        self._times = times
        self.container = _open(path, max_pixels, headers_only=headers_only)
        try:
            self._stream = self._choose_stream()
            self._context = self._prepare(threads, deblock=deblock)
            shape = declared or _Declared()
            self.geometry = GeometryFinder(self._context, shape.aspect, max_pixels, shape.cropping)
            self.clock = self._make_clock(late_s)
            self._late = self.clock.ticks(late_s) - self.clock.ticks(0.0)
        except BaseException:
            self.container.close()
            raise
        self.refused = False
        """Whether the decoder refused the size of a frame."""
        self.stopped = False
        """Whether the container could not be read to its end."""
        self.last_packet_s = -math.inf
        """The time of the last frame, decoded or not; only when reading keyframes."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()

    @property
    def declared(self) -> _Declared:
        """What the container declares; with `headers_only`, without what the stream says."""
        size, name = (self._context.width, self._context.height), self.container.format.name
        cropping = declared_cropping(self._path, name, self._stream.index, size)
        return _Declared(self._stream.sample_aspect_ratio, cropping)

    @property
    def opaque(self) -> bool:
        """Whether pixels are opaque though their format has alpha: raw AVI does not use the fourth byte."""
        return self.container.format.name == "avi" and self._context.name == "rawvideo"

    def _choose_stream(self) -> av.VideoStream:
        hidden = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
        streams = [s for s in self.container.streams.video if not s.disposition & hidden]
        if not self.container.streams:
            raise no_frames(self._path)
        if not streams:
            raise MediaError(
                f"{short_name(self._path)} has no video track, only audio; use a file with video",
                kind=MediaErrorKind.NO_VIDEO,
            )
        best = self.container.streams.best("video")
        chosen = next((s for s in streams if best is not None and s.index == best.index), streams[0])
        for stream in self.container.streams:
            if stream.index != chosen.index:
                stream.discard = av.stream.Discard.all
        return chosen

    def _prepare(self, threads: int, *, deblock: bool) -> av.VideoCodecContext:
        context = self._decoder()
        if context is None or not decodes(context.name):
            name = "an unknown codec" if context is None else f"the codec {context.name}"
            raise MediaError(
                f"{short_name(self._path)} uses {name}, which is not supported; convert it to H.264 first",
                kind=MediaErrorKind.CODEC,
            )
        pixels = context.width * context.height
        if pixels > self._max_pixels:
            raise self.too_large(f" of {context.width}x{context.height} pixels")
        context.thread_type = "AUTO"
        context.thread_count = min(threads, _MAX_THREADS, max(1, _PIXELS_IN_FLIGHT // max(pixels, 1)))
        context.options = {"max_pixels": str(padded(self._max_pixels))}
        if not deblock:
            context.options |= {"skip_loop_filter": "all"}
        return context

    def _decoder(self) -> av.VideoCodecContext | None:
        """Return the stream's decoder; for transparent VP8 and VP9, one that decodes alpha."""
        context = self._stream.codec_context
        if context is None or self._stream.metadata.get("alpha_mode") != "1":
            return context
        name = _KNOWS_ALPHA.get(context.name)
        if name is None:
            return context
        other = cast(av.VideoCodecContext, av.CodecContext.create(name, "r"))
        other.extradata = context.extradata
        other.width, other.height = context.width, context.height
        return other

    def too_large(self, size: str = "") -> MediaError:
        return MediaError(
            f"{short_name(self._path)} has frames{size} above the limit of {self._max_pixels} pixels; "
            "raise max_pixels if you trust the file",
            kind=MediaErrorKind.TOO_LARGE,
        )

    def _make_clock(self, late_s: float) -> Clock:
        tick = Fraction(self._stream.time_base or Fraction(1, 90_000))
        rate = self._rate()
        step_s = float(1 / rate) if rate else 0.04
        if self._times is not None and self._times.timeline is not None:
            return Clock(tick, self._times.timeline.zero_s, step_s, self._times.timeline.video)
        # Absent in formats without times.
        start: int | None = self.container.start_time
        origin = (self._stream.start_time or 0) * tick if start is None else Fraction(start, 1_000_000)
        if self.container.format.name == "avi" and self._stream.codec_context.name in ("h264", "hevc"):
            # FFmpeg generates wrong times there for packets that have none.
            self.container.flags &= ~cast(int, av.container.Flags.gen_pts.value)
        return Clock(tick, origin + Fraction(late_s), step_s)

    def _rate(self) -> Fraction | None:
        rate = self._stream.average_rate or self._stream.guessed_rate
        return Fraction(rate) if rate else None

    @property
    def declares(self) -> bool:
        """Whether the container declares a length, so that a missing end is noticed."""
        return self.container.format.name not in _UNDECLARED_LENGTH and self._declared_s() is not None

    def duration_s(self) -> float | None:
        """Return the length of the video stream in seconds: from its stamps, else as declared."""
        return self._declared_s() if self._times is None else self._times.duration_s

    def _declared_s(self) -> float | None:
        """Return the declared length of the video stream in seconds, else that of the file."""
        if self.container.format.name == "avi" and self._stream.frames and self._stream.time_base:
            return float(self._stream.frames * self._stream.time_base)  # the rest is guessed from the size
        if self._stream.duration:
            return self.clock.seconds((self._stream.start_time or 0) + self._stream.duration)
        tag = _DURATION_TAG.fullmatch(self._stream.metadata.get("DURATION", ""))
        if tag:
            hours, minutes, seconds = map(float, tag.groups())
            return hours * 3600 + minutes * 60 + seconds
        if self.container.duration:
            return self.container.duration / 1_000_000
        return None

    def times(self) -> _Times | None:
        """Return how stamps become times; None if all packets must be read to know."""
        name, declared_s = self.container.format.name, self._declared_s()
        if name not in INDEXED:
            return None
        if name == "avi":
            return _Times(None, declared_s)
        known_s = None if declared_s is None else self._confirmed_s(declared_s)
        return None if known_s is None else _Times(None, known_s)

    def scanned_times(self) -> _Times:
        """Return how stamps become times, by reading all packets: nothing can be read afterwards."""
        name, declared_s = self.container.format.name, self._declared_s()
        found = self._timeline()
        if found is None:
            return _Times(None, declared_s)
        guessed = name in _UNDECLARED_LENGTH or found.duration_s > (declared_s or 0.0)
        whole = name == "flv" and _is_whole_flv(self._path)
        if declared_s is None or guessed or whole or found.explains(declared_s):
            declared_s = found.duration_s
        elif name == "matroska,webm":
            declared_s = found.counted_from_first(declared_s)
        return _Times(None if name in INDEXED and found.plain else found, declared_s)

    def _confirmed_s(self, declared_s: float) -> float | None:
        """Return the declared length, counted from the first frame, if the end of the file confirms it."""
        end_s = last_s = -math.inf
        clock = self.clock
        try:
            target = clock.ticks(max(0.0, declared_s - 0.5))
            self.container.seek(target, stream=self._stream, backward=True)
        except av.FFmpegError:
            return None
        for packet in self._packets():
            packet_s = clock.packet_s(packet)
            if packet_s < last_s - _ANOTHER_S:
                return None  # another recording follows
            last_s = packet_s
            end_s = max(end_s, packet_s + max(clock.step_s, clock.length_s(packet.duration or 0)))
        # Matroska's counts from 0, as most programs write it, or from the first frame.
        length_s = min((declared_s, declared_s - clock.start_s), key=lambda one: abs(one - end_s))
        return length_s if near(length_s, end_s, length_s) else None

    def _timeline(self) -> Timeline | None:
        """Read the stamps of all packets, undecoded."""
        sound = next(iter(self.container.streams.audio), None)
        if sound is not None:
            sound.discard = av.stream.Discard.default
        stamps = Stamps(Fraction(self._stream.time_base or Fraction(1, 90_000)))
        heard = Stamps(Fraction(sound.time_base)) if sound is not None and sound.time_base else None
        streams: list[av.stream.Stream] = [self._stream]
        if sound is not None and heard is not None:
            streams.append(sound)
        for packet in self._demuxed(*streams):
            if packet.stream.index == self._stream.index:
                stamps.add(packet, key=packet.is_keyframe)
            elif heard is not None:
                heard.add(packet, at=len(stamps))
        if self.container.format.name in _ANIMATIONS:
            return animation(stamps)
        return timeline(stamps, heard, Rule.of(self.container.format.name))

    def info(self) -> tuple[VideoInfo, float]:
        """Return the properties of the video, and the time of the first frame, which is decoded for this."""
        context, first_s, pix_fmt = self._context, 0.0, self._context.pix_fmt
        geometry, transfer = Geometry(context.width, context.height), None
        for frame, time_s in self.frames(None, keyframes=False, skippable=None):
            first_s, pix_fmt = time_s, frame.format.name
            geometry, transfer = self.geometry.of(frame), transfer_of(frame)
            break
        if self.refused:
            raise self.too_large()
        sound = next(iter(self.container.streams.audio), None)
        info = VideoInfo(
            width=geometry.width,
            height=geometry.height,
            duration_s=self.duration_s(),
            fps=self._rate(),
            codec=context.codec.canonical_name,
            container=self.container.format.name,
            pix_fmt=pix_fmt,
            audio_codec=sound.codec_context.codec.canonical_name if sound and sound.codec_context else None,
            recorded_at=_recorded_at(self.container.metadata.get("creation_time")),
            geometry=geometry,
            transfer=transfer,
            clock_jumps=self._times.timeline.jumps if self._times and self._times.timeline else (),
        )
        return info, first_s

    def go_to(self, time_s: float) -> bool:
        """Seek to the keyframe before a time; False if there is none. Only for formats with an index."""
        try:
            self.container.seek(self.clock.ticks(time_s), stream=self._stream, backward=True)
        except av.FFmpegError:
            return False
        return True

    def frames(
        self, hold_until_s: float | None, keyframes: bool, skippable: Callable[[float], bool] | None
    ) -> Iterator[tuple[av.VideoFrame, float]]:
        """Yield decoded frames and their times from the present position.

        Args:
            hold_until_s: Nothing before the keyframe before this time is needed.
            keyframes: Decode only keyframes.
            skippable: Whether the frame at a time is not needed; skipped if no other is predicted from it.
        """
        return self.clock.timed(self._decoded(hold_until_s, keyframes, skippable))

    def _decoded(
        self, hold_until_s: float | None, keyframes: bool, skippable: Callable[[float], bool] | None
    ) -> Iterator[av.VideoFrame]:
        context, clock = self._context, self.clock
        packets = self._packets()
        if hold_until_s and self.container.format.name in INDEXED | _PASSED:
            packets = _from_keyframe(packets, clock, hold_until_s)
        if context.name != "h264":
            skippable = None  # only H.264 marks reliably which frames are not referred to
        if keyframes and not context.codec.intra_only:
            yield from self._keyframes(packets)
            return
        skipping = False
        for packet, changes in self.geometry.noted(packets):
            # A decoder that derives times by counting packets must see them all.
            if skippable is not None and skipping != (
                packet.pts is not None and skippable(clock.packet_s(packet)) and not changes
            ):
                skipping = not skipping
                context.skip_frame = "NONREF" if skipping else "DEFAULT"
            yield from self._decode(packet)
        yield from self._decode(None)

    def _keyframes(self, packets: Iterator[av.Packet[av.VideoStream]]) -> Iterator[av.VideoFrame]:
        # Each separately: a decoder that waits for skipped frames confuses their order and loses some.
        for packet, _ in self.geometry.noted(packets):
            self.last_packet_s = max(self.last_packet_s, self.clock.packet_s(packet))
            if packet.is_keyframe:
                if packet.pts is None and packet.dts is not None:
                    packet.pts = packet.dts + self._late
                yield from self._decode(packet)
                yield from self._decode(None)
                self._context.flush_buffers()

    def _decode(self, packet: av.Packet[av.VideoStream] | None) -> Iterator[av.VideoFrame]:
        try:
            frames = self._context.decode(packet)
        except av.error.MemoryError as error:
            raise MediaError(
                f"there is not enough memory for the frames of {short_name(self._path)}",
                kind=MediaErrorKind.TOO_LARGE,
            ) from error
        except av.FFmpegError as error:
            self.log.failed()
            self.refused |= isinstance(error, av.error.ArgumentError)
            return
        for frame in frames:
            if frame.width * frame.height > self._max_pixels:
                raise self.too_large(f" of {frame.width}x{frame.height} pixels")
            self.log.decoded(corrupt=frame.is_corrupt)
            yield frame

    def _packets(self) -> Iterator[av.Packet[av.VideoStream]]:
        for packet in self._demuxed(self._stream):
            odd = self.clock.stamp(packet)
            self.log.packet(self.clock.packet_s(packet), odd=odd)
            yield packet

    def _demuxed(self, *streams: av.stream.Stream) -> Iterator[Any]:
        failures = 0
        while failures < 2:
            try:
                for packet in self.container.demux(*streams):
                    if packet.size:  # an empty one would end the decoding
                        failures = 0
                        yield packet
                return
            except av.FFmpegError:
                failures += 1
        self.stopped = True


def _from_keyframe(
    packets: Iterator[av.Packet[av.VideoStream]], clock: Clock, time_s: float
) -> Iterator[av.Packet[av.VideoStream]]:
    """Yield packets from the last keyframe but one at or before a time.

    The last but one, because frames near a keyframe may be predicted from those before it.
    """
    before: list[av.Packet[av.VideoStream]] = []
    held: list[av.Packet[av.VideoStream]] = []
    size = 0
    for packet in packets:
        packet_s = clock.packet_s(packet)
        if packet.is_keyframe and packet_s <= time_s:
            before, held = held, []
            size = sum(p.size for p in before)
        held.append(packet)
        size += packet.size
        if packet_s >= time_s or size > _HELD_BYTES:
            break
    yield from before
    yield from held
    yield from packets


def begins_at(first: tuple[av.VideoFrame, float] | None, start_s: float) -> bool:
    """Return whether all frames from `start_s` can be decoded from this one, the first after a seek."""
    if first is None or first[1] > start_s:
        return False
    # With intra refresh, frames are marked as keyframes that are none.
    return first[0].pict_type not in (PictureType.P, PictureType.B)


def decodes(codec: str) -> bool:
    """Return whether a decoder is allowed."""
    return codec in _CODECS.split(",")


def padded(pixels: int) -> int:
    """Return a limit for the decoder, which includes the padding; the exact limit is checked later."""
    return pixels + pixels // 8 + 65_536


def check_file(path: Path) -> None:
    """Accept only regular, non-empty files: others may block, never end, or be folders.

    Raises:
        SourceError: There is no such file, or it cannot be read.
        MediaError: It is not a regular file, or is empty.
    """
    try:
        status = path.stat()
        allowed = os.access(path, os.R_OK)
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        raise SourceError(
            f"there is no file {short_name(path)}; check the path",
            kind=SourceErrorKind.NOT_FOUND,
            source=str(path),
        ) from error
    if not allowed:
        raise SourceError(
            f"{short_name(path)} cannot be read; change its permissions",
            kind=SourceErrorKind.OTHER,
            source=str(path),
        )
    if stat.S_ISDIR(status.st_mode):
        raise MediaError(f"{short_name(path)} is a folder, not a video", kind=MediaErrorKind.NOT_MEDIA)
    if not stat.S_ISREG(status.st_mode):
        raise MediaError(
            f"{short_name(path)} is a device or pipe, not a file; save the video to a file first",
            kind=MediaErrorKind.NOT_MEDIA,
        )
    if not status.st_size:
        raise MediaError(f"{short_name(path)} is empty; get the file again", kind=MediaErrorKind.EMPTY)


def _open(path: Path, max_pixels: int, *, headers_only: bool) -> InputContainer:
    """Open a file in an allowed format, and no other file that it names.

    Args:
        path: A regular file.
        max_pixels: The most pixels of frames that are decoded during opening.
        headers_only: Use no decoder at all.
    """
    with path.open("rb") as file:
        head = file.read(12)
    if is_heif(head):
        raise heif_error(path)
    # An FLV file lists its streams too late for the limit to reach their decoders.
    no_decoder = headers_only or head.startswith(b"FLV")
    options = {
        "protocol_whitelist": "file",
        "format_whitelist": _FORMATS,
        "codec_whitelist": "none" if no_decoder else f"{_CODECS},{_SOUND_CODECS}",
        "max_pixels": str(padded(max_pixels)),
        "correct_ts_overflow": "0",  # it mistakes a clock that jumps back for one that has wrapped
        "default_fps": "10",  # of an APNG whose frames have no delay, as browsers show it
    }
    try:
        return av.open(f"file:{path.absolute()}", options=options, metadata_errors="replace")
    except av.error.EOFError as error:
        raise no_frames(path) from error
    except (av.FFmpegError, ValueError) as error:
        raise _explain(path) from error


def no_frames(path: Path) -> MediaError:
    """The error for a file without frames."""
    return MediaError(
        f"{short_name(path)} ends before its first frame; get the file again",
        kind=MediaErrorKind.NO_FRAMES,
    )


def is_heif(head: bytes) -> bool:
    """Return whether a file that begins with these 12 bytes is HEIC or AVIF."""
    return head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS


def heif_error(path: Path) -> MediaError:
    """The error for HEIC and AVIF, which would open as videos that show one tile of the image."""
    return MediaError(
        f"{short_name(path)} is a HEIC or AVIF image, which is not supported; convert it to JPEG first",
        kind=MediaErrorKind.NOT_MEDIA,
    )


_MAGIC = ((0, b"\x1a\x45\xdf\xa3"), (0, b"RIFF"), (0, b"FLV"), (0, b"GIF8"), (0, b"OggS"), (0, b"\x47"))


def _explain(path: Path) -> MediaError:
    """Explain why a file could not be opened."""
    with path.open("rb") as file:
        head = file.read(12)
    name = short_name(path)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide"):
        if not _has_index(path):
            return MediaError(
                f"{name} has no index (moov): the file is cut off or was never finished; get it again",
                kind=MediaErrorKind.DAMAGED,
            )
        return MediaError(f"{name} is damaged; get the file again", kind=MediaErrorKind.DAMAGED)
    if any(head[at:].startswith(magic) for at, magic in _MAGIC):
        return MediaError(f"{name} is damaged; get the file again", kind=MediaErrorKind.DAMAGED)
    return MediaError(
        f"{name} is not a video in a known format; use an MP4, MKV, WebM, MOV, AVI or TS file",
        kind=MediaErrorKind.NOT_MEDIA,
    )


def _has_index(path: Path) -> bool:
    """Return whether an MP4 file has a complete moov box at its top level."""
    size = path.stat().st_size
    with path.open("rb") as file:
        at = 0
        while at + 8 <= size:
            file.seek(at)
            head = file.read(16)
            length = int.from_bytes(head[:4], "big")
            if length == 1:
                length = int.from_bytes(head[8:16], "big")
            if head[4:8] == b"moov":
                return at + length <= size
            if length < 8:
                break
            at += length
    return False


def _is_whole_flv(path: Path) -> bool:
    """Return whether an FLV file ends with a complete tag, which is followed by its length."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - 4))
        length = int.from_bytes(file.read(4), "big")
        if not 11 <= length <= size - 4:
            return False
        file.seek(size - 4 - length)
        head = file.read(4)
    return head[0] & 0x1F in (8, 9, 18) and int.from_bytes(head[1:], "big") + 11 == length
