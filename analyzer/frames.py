"""Reading pictures: times, sampling, bad packets. The only reader of video in the project.

A `VideoReader` gives the pictures of a file with the times that a player shows. It is written for files
that were not made by us: what is not a video, or would open something else, or needs too much memory,
ends in a `MediaError`; damage is survived, counted and reported.

Three rules make a segment read on its own give the same samples as one pass over the whole video:

* which pictures are sampled depends only on the pictures inside the segment;
* a segment is read from a keyframe at or before its start, and what comes earlier is dropped;
* a stretch begins where the one before ends: both use `segment_bounds`.
"""

from __future__ import annotations

import datetime
import functools
import math
import os
import re
import stat
import threading
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import av
import av.error
import cv2
import numpy as np
from av.container import InputContainer
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageOps, UnidentifiedImageError

from analyzer.errors import MediaError, MediaErrorKind, SourceError, SourceErrorKind
from analyzer.media.clock import Clock, ClockJump, Rule, Stamps, Timeline, animation, near, timeline
from analyzer.media.colors import (
    Transfer,
    on_ground,
    picture_bgr,
    transfer_of,
    transparent,
    wide_of,
    wide_to_bgr,
)
from analyzer.media.cropping import NOTHING, Cropping, declared_cropping
from analyzer.media.geometry import Geometry, GeometryFinder, geometry_of
from analyzer.settings import Settings
from analyzer.util.text import counted

__all__ = [
    "Frame",
    "PictureReader",
    "ReadReport",
    "Sample",
    "Still",
    "VideoInfo",
    "VideoReader",
    "decodes",
    "frame_maker",
    "further_pages",
    "joined_report",
    "padded",
    "picture_problem",
    "planes_of",
    "read_ahead",
]

Image = NDArray[np.uint8]
T = TypeVar("T")

# What may be opened at all. Formats that name other files (playlists, concatenation lists, numbered
# pictures) or draw text are not here; those with sound alone are, to say "no video" of them.
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
_INDEXED = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi"})
_PASSED = frozenset({"mpegts", "mpeg", "flv", "asf", "ogg"})
_KNOWS_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
_ANIMATIONS = frozenset({"gif", "apng"})
# Formats whose declared length is a guess of FFmpeg's, or leaves out that delays are not taken at their word.
_UNDECLARED_LENGTH = frozenset({"mpegts", "mpeg", "ogg"}) | _ANIMATIONS
_HEIF_BRANDS = frozenset(
    {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis"}
)
_TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_SUBFILE_TYPE, _REDUCED = 254, 1
_PICTURE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")

_DURATION_TAG = re.compile(r"(\d+):(\d+):(\d+(?:\.\d+)?)")  # of Matroska

FIELDS = 160
"""Longer side of `Frame.fields`."""

_UNDECLARED = 2  # AVCOL_SPC_UNSPECIFIED
_MAX_THREADS = 16
_PIXELS_IN_FLIGHT = 128_000_000
"""For each decoding thread holds a picture."""
_HELD_BYTES = 64_000_000
"""Packets kept undecoded while the last keyframe before a start is looked for."""
_CELL_SLACK_S = 1e-3
"""Containers round times, at worst to a millisecond: a picture this close before a cell belongs to it."""
_ANOTHER_S = 2.0
"""Stamps near the end that go back by more belong to another recording, not to another order of showing."""
_TOLERATED_DAMAGE = 0.1
"""Share of bad packets beyond which a video was not read to the full."""


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a video before it is read through."""

    width: int
    """Square pixels of the first frame as it is shown: upright, and one eye's view."""
    height: int
    duration_s: float | None
    """Seconds, of the video stream: as the container declares it, or as its stamps show; None if unknown."""
    fps: Fraction | None
    """Average number of pictures per second, as declared; for information only."""
    codec: str
    container: str
    pix_fmt: str | None
    audio_codec: str | None
    recorded_at: str | None = None
    """ISO time in UTC at which it was recorded or last encoded, where the container tells it."""
    geometry: Geometry | None = None
    """How the first frame is brought to the one that is shown; None of pictures and finished runs."""
    transfer: Transfer | None = None
    """How HDR is coded; None for what is none."""
    clock_jumps: tuple[ClockJump, ...] = ()
    """Where the container's clock jumps; times go on there as if it did not."""


_FIRST_YEAR = 1990
_Target = tuple[tuple[int, int] | None, str]


def _recorded_at(text: str | None) -> str | None:
    """A container's creation time, if it is one: cameras without a clock write one of 1904 or 1970.

    >>> _recorded_at("2024-05-01T10:20:30.000000Z"), _recorded_at("1970-01-01T00:00:00Z"), _recorded_at("x")
    ('2024-05-01T10:20:30+00:00', None, None)
    """
    try:
        moment = datetime.datetime.fromisoformat(text or "")
    except ValueError:
        return None
    moment = moment.astimezone(datetime.UTC) if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
    return moment.isoformat(timespec="seconds") if moment.year >= _FIRST_YEAR else None


class _Scaler:
    """Turns decoded pictures into arrays.

    One for each reader: making a scaling context anew costs up to twice as much as scaling with one.
    """

    def __init__(self) -> None:
        self.opaque = False
        """Nothing is transparent, whatever the pixel format says."""
        self._lock = threading.Lock()
        self._by_size: dict[_Target, tuple[threading.Lock, VideoReformatter]] = {}

    def _reformatter(self, size: _Target) -> tuple[threading.Lock, VideoReformatter]:
        with self._lock:
            if size not in self._by_size and len(self._by_size) > 8:
                self._by_size.clear()
            return self._by_size.setdefault(size, (threading.Lock(), VideoReformatter()))

    def bgr(self, picture: av.VideoFrame, size: tuple[int, int] | None) -> Image:
        """In the colours that are shown: (h, w, 3) BGR, `size` (width, height) or full size, as it lies."""
        wide = wide_of(picture)
        clear = not self.opaque and transparent(picture.format.name)
        if wide is None:
            if not clear:
                return self.convert(picture, size)
            return on_ground(self.convert(picture, size, "bgra"))
        deep = self.convert(picture, size, "bgra64le" if clear else "bgr48le")
        image = wide_to_bgr(deep[:, :, :3], wide)
        return on_ground(np.dstack([image, deep[:, :, 3] >> 8]).astype(np.uint8)) if clear else image

    def yuv(self, picture: av.VideoFrame, size: tuple[int, int]) -> Image:
        """Likewise, (3, h, w) YUV of full range."""
        if wide_of(picture) is None and (self.opaque or not transparent(picture.format.name)):
            return self.convert(picture, size, "yuvj444p")
        return np.ascontiguousarray(
            cv2.cvtColor(self.bgr(picture, size), cv2.COLOR_BGR2YUV).transpose(2, 0, 1)
        )

    def convert(
        self, picture: av.VideoFrame, size: tuple[int, int] | None, pixels: str = "bgr24"
    ) -> NDArray[Any]:
        """The picture's values in BGR or another format, `size` (width, height) or full size, as it lies."""
        width, height = size or (picture.width, picture.height)
        # Averaging areas is closest to an exact reduction, and among the fastest; it cannot enlarge.
        shrinks = width < picture.width and height < picture.height
        method = Interpolation.AREA if shrinks else Interpolation.BILINEAR
        lock, reformatter = self._reformatter((size, pixels))
        with lock:  # a reformatter serves one thread
            try:
                out = reformatter.reformat(
                    picture,
                    width,
                    height,
                    pixels,
                    src_colorspace=_taken_for(picture),
                    interpolation=method,
                    threads=1,
                )
            except av.FFmpegError as error:
                raise MediaError(
                    f"Pictures of {picture.width}x{picture.height} pixels in the format {picture.format.name}"
                    " cannot be shown; convert the video to H.264 first.",
                    kind=MediaErrorKind.CODEC,
                ) from error
            return np.ascontiguousarray(out.to_ndarray())


def _matrix(picture: av.VideoFrame) -> int:
    """The AVColorSpace of a picture; where it is not declared, what players take it for."""
    if picture.colorspace != _UNDECLARED:
        return int(picture.colorspace)
    return 1 if picture.width >= 1280 or picture.height > 576 else 6


def _taken_for(picture: av.VideoFrame) -> Colorspace | None:
    # swscale takes all that is not declared for BT.601.
    if picture.colorspace != _UNDECLARED:
        return None
    if wide_of(picture) is not None:
        return Colorspace.BT2020
    return Colorspace.ITU709 if _matrix(picture) == 1 else None


@dataclass(frozen=True, eq=False, slots=True)
class Frame:
    """A decoded picture and its time. Keeps the decoder's picture until it is let go.

    Nothing is converted before it is asked for, and nothing is kept: each call of `image` or `scaled`
    converts again. Any thread may call them.
    """

    time_s: float
    """Seconds since the start of the video, as a player shows it; strictly increasing."""
    keyframe: bool
    _picture: av.VideoFrame = field(repr=False)
    geometry: Geometry = field(repr=False)
    """Where the picture's pixels lie in the frame that is shown."""
    _scaler: _Scaler = field(repr=False)
    # Converting changes marks of the picture for a while.
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    @property
    def width(self) -> int:
        """Pixels of the frame as it is shown."""
        return self.geometry.width

    @property
    def height(self) -> int:
        """Pixels of the frame as it is shown."""
        return self.geometry.height

    def image(self) -> Image:
        """The frame as it is shown: (H, W, 3) uint8 BGR, full size.

        Raises:
            MediaError: The pixel format cannot be converted.
        """
        return self._bgr(self.width, self.height)

    def scaled(self, width: int, height: int) -> Image:
        """The frame as it is shown, scaled in one step from the decoder's: (height, width, 3) uint8 BGR.

        Raises:
            MediaError: The pixel format cannot be converted.
        """
        return self._bgr(width, height)

    def fields(self) -> Image:
        """Brightness and colour, field by field: (3, h, w) uint8 in YUV of full range, as stored, not turned.

        The longer side has `FIELDS` at most.

        Raises:
            MediaError: The pixel format cannot be converted.
        """
        picture = self._picture
        factor = min(1.0, FIELDS / max(picture.width, picture.height))
        size = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
        with self._lock:
            return self._scaler.yuv(picture, size)

    def cut(self, transforms: NDArray[np.float32], sides: Sequence[int], size: int) -> list[Image]:
        """Square pieces of the frame as it is shown, `analyzer.faces.Picture`.

        From common formats the planes that the decoder gave are sampled and only the pieces are converted
        to BGR; from others the whole picture is.

        Raises:
            MediaError: The pixel format cannot be converted.
        """
        planes = _planes(self._picture)
        if planes is None:
            return Still(self.image()).cut(transforms, sides, size)
        planes = planes.cropped(self.geometry)
        stored = self.geometry.to_shown
        return [
            planes.cut(transform @ stored, side, size)
            for transform, side in zip(transforms, sides, strict=True)
        ]

    def yuv(self) -> av.VideoFrame | None:
        """The frame as it is shown, in the decoder's own values, not to be changed unless
        `av.VideoFrame.make_writable` was called; None unless it is yuv420p in limited range, of BT.709 and an
        even size."""
        picture = self._picture
        limited = picture.format.name == _LIMITED[0] and picture.color_range != ColorRange.JPEG
        # Pictures stored from the bottom up cannot be looked into.
        readable = all(plane.line_size > 0 for plane in picture.planes)
        geometry = self.geometry
        odd = any(side % 2 for side in (picture.width, picture.height, *geometry.part, *geometry.lying))
        if not limited or not readable or odd or _matrix(picture) != Colorspace.ITU709:
            return None
        if wide_of(picture) is not None:
            return None
        if not geometry.plain:
            upright = av.VideoFrame(self.width, self.height, _LIMITED[0])
            for stored, shown in zip(planes_of(picture), planes_of(upright), strict=True):
                shown[:] = geometry.upright(stored, shown.shape[1], shown.shape[0])
            return upright
        picture.pict_type = PictureType.NONE  # else an encoder would make it of the same type
        return picture

    def _bgr(self, width: int, height: int) -> Image:
        geometry = self.geometry
        with self._lock:
            image = self._scaler.bgr(self._picture, geometry.stored_size(width, height))
        return image if geometry.plain else geometry.upright(image, width, height)


@dataclass(frozen=True, eq=False)
class Still:
    """A picture held as an array: (H, W, 3) uint8 BGR."""

    image: Image

    @property
    def width(self) -> int:
        """Pixels."""
        return self.image.shape[1]

    @property
    def height(self) -> int:
        """Pixels."""
        return self.image.shape[0]

    def cut(self, transforms: NDArray[np.float32], sides: Sequence[int], size: int) -> list[Image]:
        """Square pieces of the picture, `analyzer.faces.Picture`."""
        return [
            _warp(self.image, transform, side, size, 0)
            for transform, side in zip(transforms, sides, strict=True)
        ]


def _warp(image: Image, transform: NDArray[np.floating], side: int, size: int, outside: int) -> Image:
    border = (outside,) * 3
    piece = cv2.warpAffine(image, transform * side, (side, side), borderValue=border)
    if side != size:
        piece = cv2.resize(piece, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(piece, np.uint8)


# What the planes of 4:2:0 pictures mean: from (Y, U, V, 1) to blue, green, red, by AVColorSpace. The weights
# of red and blue in brightness are those of BT.601 and BT.709.
_WEIGHTS = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114)}
_LIMITED = ("yuv420p", 16.0, 255 / 219, 255 / 224)
_FULL = ("yuvj420p", 0.0, 1.0, 1.0)
# Chroma samples lie between luma samples.
_CHROMA_TO_LUMA = np.array([[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1]])


@dataclass(frozen=True, eq=False, slots=True)
class _Planes:
    y: Image
    u: Image
    v: Image
    black: int
    to_bgr: NDArray[np.float64]

    def cropped(self, geometry: Geometry) -> _Planes:
        """What is shown of them."""
        if geometry.part[2:] == (geometry.stored_width, geometry.stored_height):
            return self
        y, u, v = (geometry.cropped(plane) for plane in (self.y, self.u, self.v))
        return replace(self, y=y, u=u, v=v)

    def cut(self, transform: NDArray[np.floating], side: int, size: int) -> Image:
        chroma = transform @ _CHROMA_TO_LUMA
        half = max(size, side // 2)  # of chroma there are half as many samples
        pieces = [
            _warp(self.y, transform, side, size, self.black),
            _warp(self.u, chroma, half, size, 128),
            _warp(self.v, chroma, half, size, 128),
        ]
        return np.asarray(cv2.transform(cv2.merge(pieces), self.to_bgr), np.uint8)


def planes_of(picture: av.VideoFrame) -> list[Image]:
    """The planes of a picture in 8 bits, (h, w) uint8 each, in the picture's own memory."""
    return [
        np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
        for plane in picture.planes
    ]


def _planes(picture: av.VideoFrame) -> _Planes | None:
    """The decoder's own planes, where they are 8 bits in 4:2:0 of a known matrix; else None."""
    space = _matrix(picture)
    readable = all(plane.line_size > 0 for plane in picture.planes)
    if picture.format.name not in (_LIMITED[0], _FULL[0]) or space not in _WEIGHTS or not readable:
        return None
    if wide_of(picture) is not None:
        return None
    full = picture.format.name == _FULL[0] or picture.color_range == ColorRange.JPEG
    _, black, luma, chroma = _FULL if full else _LIMITED
    red, blue = _WEIGHTS[space]
    green = 1 - red - blue
    u_to_blue, v_to_red = 2 * (1 - blue) * chroma, 2 * (1 - red) * chroma
    weights = np.array(
        [
            [luma, u_to_blue, 0],
            [luma, -u_to_blue * blue / green, -v_to_red * red / green],
            [luma, 0, v_to_red],
        ]
    )
    offset = -weights @ (black, 128, 128)
    y, u, v = planes_of(picture)
    return _Planes(y, u, v, int(black), np.column_stack([weights, offset]))


@dataclass(frozen=True, eq=False, slots=True)
class Sample:
    """A frame that is to be analysed."""

    frame: Frame
    segment: int
    """Number of the segment, from 0."""
    index: int
    """Number of the sample within its segment, from 0."""
    image_name: str = ""
    """File name of the picture, where the source is pictures."""


@dataclass(frozen=True)
class ReadReport:
    """How the last iteration went."""

    frames: int
    """Pictures decoded in the range asked for."""
    bad_packets: int
    """Packets that could not be decoded, or only with errors."""
    packets: int
    """Packets read."""
    repaired_times: int
    """Pictures whose time was missing or not later than the one before."""
    last_s: float | None
    """Time of the last picture in the range."""
    complete: bool
    """Whether all was read that the container declares, within the range."""
    reason: str
    """Empty when complete; else a sentence."""
    too_damaged: bool = False
    """Whether it is not complete for nothing but the share of bad packets."""


def joined_report(path: Path, reports: Sequence[ReadReport]) -> ReadReport:
    """How a video was read of which stretches were read one by one, in the order of time.

    Raises:
        MediaError: More than half of the packets are bad.
    """
    packets, bad = sum(one.packets for one in reports), sum(one.bad_packets for one in reports)
    if _too_bad(packets, bad):
        raise _worthless(path, packets, bad)
    # What share is bad is judged over the whole video, as in one pass.
    reason = next((one.reason for one in reports if one.reason and not one.too_damaged), "")
    too_damaged = not reason and _damaged(packets, bad)
    return ReadReport(
        frames=sum(one.frames for one in reports),
        bad_packets=bad,
        packets=packets,
        repaired_times=sum(one.repaired_times for one in reports),
        last_s=max((one.last_s for one in reports if one.last_s is not None), default=None),
        complete=not reason and not too_damaged,
        reason=_damage(packets, bad) if too_damaged else reason,
        too_damaged=too_damaged,
    )


def _damaged(packets: int, bad: int) -> bool:
    return bad > _TOLERATED_DAMAGE * packets


def _damage(packets: int, bad: int) -> str:
    return f"{bad} of {packets} packets are damaged"


def _too_bad(packets: int, bad: int) -> bool:
    return bad * 2 > packets


def _worthless(path: Path, packets: int, bad: int) -> MediaError:
    share = "none" if bad >= packets else f"only {packets - bad}"
    return MediaError(
        f"{_shown(path)} is damaged: {share} of its {packets} packets can be decoded; get the file again.",
        kind=MediaErrorKind.DAMAGED,
    )


class _Reader:
    """What both readers share: closing, the range to read, the report."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._scaler = _Scaler()
        self._closed = False
        self._report: ReadReport | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the iterations that are still open. Safe to call twice, and while another thread iterates."""
        self._closed = True

    def report(self) -> ReadReport:
        """How the last iteration went; call it after the iteration.

        Raises:
            RuntimeError: No iteration has ended yet.
        """
        if self._report is None:
            raise RuntimeError("there is no report before an iteration has ended")
        return self._report

    def _range(self, start_s: float, end_s: float | None) -> tuple[float, float]:
        """The range asked for, within the cut of the settings."""
        if self._closed:
            raise RuntimeError("the reader is closed")
        ends = [end for end in (end_s, self._settings.stop_s) if end is not None]
        return max(start_s, self._settings.start_s), min(ends, default=math.inf)


class VideoReader(_Reader):
    """Reads the pictures of one video file. A context manager; each iteration opens the file anew.

    `path` is the file, `info` what is known of it before it is read through.

    Only regular files in a format and codec of the allow-list are opened, and nothing but that file.

    Raises:
        MediaError: On construction, if the file is no video that can be read (`MediaError.kind` says why).
        SourceError: On construction, if there is no such file or it may not be read.
    """

    def __init__(self, path: Path, settings: Settings) -> None:
        super().__init__(settings)
        self.path = Path(path)
        self._plan = _Plan.of(settings)
        self._iterations: weakref.WeakSet[Generator[Frame, None, None]] = weakref.WeakSet()
        _check_file(self.path)
        with _Source(self.path, settings.max_pixels, threads=1, look=True) as source:
            # Codec and size are allowed: only now may a decoder see the file. What the container declares
            # cannot be told from what the stream does once one has.
            self._declared = source.declared
        self._times = _times_of(self.path, settings.max_pixels)
        with _Source(
            self.path, settings.max_pixels, threads=1, declared=self._declared, times=self._times
        ) as source:
            self.info, first_s = source.info()
            self._scaler.opaque = source.opaque
        # AVI numbers pictures in the order of decoding: the first is shown late by the decoder's delay.
        self._late_s = first_s if self.info.container == "avi" else 0.0

    @property
    def timeline(self) -> Timeline | None:
        """How the file's stamps become running time; None where they are taken as they are."""
        return self._times.timeline

    def close(self) -> None:
        """End the iterations that are still open. Safe to call twice, and while another thread iterates."""
        super().close()
        for iteration in list(self._iterations):
            try:
                iteration.close()
            except ValueError:  # it runs in another thread, and stops at its next picture
                continue

    def frames(self, start_s: float = 0.0, end_s: float | None = None) -> Iterator[Frame]:
        """Every picture from `start_s` up to but not including `end_s`, within the cut of the settings.

        Raises:
            MediaError: While iterating: no picture at all, a picture above the limit, or (over the whole cut)
                more than half of the packets bad.
        """
        return self._start(start_s, end_s, sampled=False)

    def samples(self, start_s: float = 0.0, end_s: float | None = None) -> Generator[Sample, None, None]:
        """The pictures to analyse, chosen by ``fps``, ``every`` or ``keyframes``, range as in `frames`.

        Over a stretch given by `segment_bounds` they are the same as in one pass over the whole video.

        Raises:
            MediaError: As in `frames`.
        """
        return self._plan.choose(self._start(start_s, end_s, sampled=True))

    def segment_bounds(self, segment: int) -> tuple[float, float]:
        """Start and end in seconds of a segment, to be given to `samples` as they are."""
        return self._plan.bound(segment), self._plan.bound(segment + 1)

    def _start(self, start_s: float, end_s: float | None, *, sampled: bool) -> Generator[Frame, None, None]:
        start, end = self._range(start_s, end_s)
        whole = (start, end) == self._range(0.0, None)
        iteration = self._read(_Tally(start, end, whole), sampled=sampled)
        self._iterations.add(iteration)
        return iteration

    def _source(self, *, sampled: bool) -> _Source:
        settings = self._settings
        # Coarse pictures may be good enough to be analysed, never to be shown.
        return _Source(
            self.path,
            settings.max_pixels,
            settings.thread_count,
            declared=self._declared,
            times=self._times,
            late_s=self._late_s,
            deblock=settings.deblock or not sampled,
        )

    def _read(self, tally: _Tally, *, sampled: bool) -> Generator[Frame, None, None]:
        keyframes = sampled and self._settings.keyframes
        spare = self._plan.spare(tally.start) if sampled and not keyframes else None
        start = tally.start
        # Where stamps are moved, all packets are counted from the first on.
        indexed = self.info.container in _INDEXED and self._times.timeline is None
        leads = [lead for lead in (0.0, 10.0, 60.0) if lead < start and indexed]
        try:
            for lead in (*leads, None):
                with self._source(sampled=sampled) as source:
                    if lead is not None and not source.go_to(start - lead):
                        continue
                    pictures = source.pictures(start if lead is None else None, keyframes, spare)
                    first = next(pictures, None)
                    if lead is not None and not _begins(first, start):
                        continue  # what is shown at the start comes from further back
                    try:
                        yield from self._within(first, pictures, tally, source.geometry)
                        tally.ended = not self._closed
                    finally:
                        tally.close(source)
                    if source.refused and tally.last_seen_s < 0:
                        raise source.too_large()
                    tally.check(self.path)
                    return
        finally:
            self._report = tally.report()

    def _within(
        self,
        first: tuple[av.VideoFrame, float] | None,
        pictures: Iterator[tuple[av.VideoFrame, float]],
        tally: _Tally,
        geometry: GeometryFinder,
    ) -> Iterator[Frame]:
        start, end, scaler = tally.start, tally.end, self._scaler
        pair = first
        while pair is not None and not self._closed:
            picture, time_s = pair
            if time_s >= end:
                tally.covered = True
                return
            shape = geometry.of(picture)
            tally.last_seen_s, tally.last_ticks = time_s, picture.duration
            if time_s >= start:
                tally.frames += 1
                tally.last_s = time_s
                yield Frame(time_s, picture.key_frame, picture, shape, scaler)
            pair = next(pictures, None)


@dataclass
class _Tally:
    """What an iteration adds up for its `ReadReport`."""

    start: float
    end: float
    whole: bool
    frames: int = 0
    last_s: float | None = None
    last_seen_s: float = -math.inf
    """Time of the last picture, before the start too."""
    last_ticks: int = 0
    """How long it is shown, in the container's unit; 0 if not declared."""
    covered: bool = False
    """A picture at or after the end was seen."""
    ended: bool = False
    """The iteration was not stopped by the one who asked for it."""
    packets: int = 0
    bad: int = 0
    repaired: int = 0
    reason: str = ""
    too_damaged: bool = False

    def close(self, source: _Source) -> None:
        """Take over what the source counted."""
        self.packets, self.bad, self.repaired = source.packets, source.bad, source.clock.repaired
        shown_s = max(source.clock.step_s, source.clock.length_s(self.last_ticks))
        seen_to = max(self.last_seen_s, source.last_packet_s) + shown_s
        self.reason = self._missing(source, max(seen_to, 0.0))

    def _missing(self, source: _Source, seen_to: float) -> str:
        declared = source.duration_s()
        at = f"{seen_to:.1f} s"
        if self.covered or not self.ended:
            return ""
        if declared is not None and min(self.end, declared) - seen_to > max(1.0, 0.02 * declared):
            return f"the video ends at {at} of {declared:.1f} s declared"
        if source.stopped and not source.declares:
            return f"the file is damaged or cut off at {at}"
        self.too_damaged = _damaged(self.packets, self.bad)
        return _damage(self.packets, self.bad) if self.too_damaged else ""

    def check(self, path: Path) -> None:
        """Raise what makes the whole iteration worthless."""
        if not self.ended:
            return
        without = self.last_seen_s < 0 and not self.covered
        if without and self.bad:
            raise _worthless(path, self.packets, self.packets)
        if self.whole and _too_bad(self.packets, self.bad):
            raise _worthless(path, self.packets, self.bad)
        if without:
            raise _no_frames(path)

    def report(self) -> ReadReport:
        reason = self.reason
        if not self.ended:
            reason = f"reading was stopped at {self.last_s or self.start:.1f} s"
        return ReadReport(
            frames=self.frames,
            bad_packets=self.bad,
            packets=self.packets,
            repaired_times=self.repaired,
            last_s=self.last_s,
            complete=not reason,
            reason=reason,
            too_damaged=self.too_damaged and self.ended,
        )


@dataclass(frozen=True)
class _Declared:
    """What a container says of the shape of all frames."""

    aspect: Fraction | None = None
    cropping: Cropping = NOTHING


@dataclass(frozen=True)
class _Times:
    """What is known of a file's times before it is decoded."""

    timeline: Timeline | None
    """How its stamps become running time; None where they are taken as they are."""
    duration_s: float | None
    """Length of the video in seconds; None if unknown."""


def _times_of(path: Path, max_pixels: int) -> _Times:
    status = path.stat()
    return _times_found(path, max_pixels, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _times_found(path: Path, max_pixels: int, _size: int, _changed: int) -> _Times:
    """Kept, because a video is opened several times, by a worker for each of its segments."""
    with _Source(path, max_pixels, threads=1) as source:
        times = source.times()
    if times is None:
        with _Source(path, max_pixels, threads=1) as source:
            times = source.scanned_times()
    return times


class _Source:
    """One opening of a video file: a context manager that gives its pictures once."""

    def __init__(
        self,
        path: Path,
        max_pixels: int,
        threads: int,
        *,
        declared: _Declared | None = None,
        times: _Times | None = None,
        late_s: float = 0.0,
        look: bool = False,
        deblock: bool = True,
    ) -> None:
        self._path = path
        self._max_pixels = max_pixels
        self._times = times
        self.container = _open(path, max_pixels, look=look)
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
        self.packets = 0
        self.bad = 0
        self.refused = False
        """The decoder refused its size, the limit being `max_pixels`."""
        self.stopped = False
        """The container could not be read to its end."""
        self.last_packet_s = -math.inf
        """When the last picture is shown, whether decoded or not; only when reading keyframes."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()

    @property
    def declared(self) -> _Declared:
        """What is declared: by the container alone, where no decoder may see the file."""
        size, name = (self._context.width, self._context.height), self.container.format.name
        cropping = declared_cropping(self._path, name, self._stream.index, size)
        return _Declared(self._stream.sample_aspect_ratio, cropping)

    @property
    def opaque(self) -> bool:
        """Whether nothing is transparent though the pixel format could: the fourth byte is not used there."""
        return self.container.format.name == "avi" and self._context.name == "rawvideo"

    def _choose_stream(self) -> av.VideoStream:
        hidden = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
        streams = [s for s in self.container.streams.video if not s.disposition & hidden]
        if not self.container.streams:
            raise _no_frames(self._path)
        if not streams:
            raise MediaError(
                f"{_shown(self._path)} has no video track, only sound; give a file with moving pictures.",
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
                f"{_shown(self._path)} uses {name}, which is not read here; convert it to H.264 first.",
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
        """The stream's decoder; of VP8 and VP9 with transparency one that knows of it."""
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
            f"{_shown(self._path)} has pictures{size} above the limit of {self._max_pixels} pixels; "
            "raise max_pixels if you trust the file.",
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
            # There the times that FFmpeg makes up for packets that have none are wrong.
            self.container.flags &= ~cast(int, av.container.Flags.gen_pts.value)
        return Clock(tick, origin + Fraction(late_s), step_s)

    def _rate(self) -> Fraction | None:
        rate = self._stream.average_rate or self._stream.guessed_rate
        return Fraction(rate) if rate else None

    @property
    def declares(self) -> bool:
        """Whether the container says how long the video is, so that its end can be missed."""
        return self.container.format.name not in _UNDECLARED_LENGTH and self._declared_s() is not None

    def duration_s(self) -> float | None:
        """Length of the video stream in seconds: as its stamps show, else as declared."""
        return self._declared_s() if self._times is None else self._times.duration_s

    def _declared_s(self) -> float | None:
        """Length of the video stream in seconds as declared; of the file where the stream has none."""
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
        """How stamps become times, if that can be told without reading all of them."""
        name, declared_s = self.container.format.name, self._declared_s()
        if name not in _INDEXED:
            return None
        if name == "avi":
            return _Times(None, declared_s)
        known_s = None if declared_s is None else self._confirmed_s(declared_s)
        return None if known_s is None else _Times(None, known_s)

    def scanned_times(self) -> _Times:
        """How stamps become times; nothing is left to be read afterwards."""
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
        return _Times(None if name in _INDEXED and found.plain else found, declared_s)

    def _confirmed_s(self, declared_s: float) -> float | None:
        """The declared length, counted from the first picture, if the end of the file bears it out."""
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
        # Matroska's counts from 0, as most programs write it, or from the first picture.
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
        """What the container declares, and size and time of the first picture (which is decoded for it)."""
        context, first_s, pix_fmt = self._context, 0.0, self._context.pix_fmt
        geometry, transfer = Geometry(context.width, context.height), None
        for picture, time_s in self.pictures(None, keyframes=False, spare=None):
            first_s, pix_fmt = time_s, picture.format.name
            geometry, transfer = self.geometry.of(picture), transfer_of(picture)
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
        """Go to the keyframe before a time; False if there is none. Only for formats with an index."""
        try:
            self.container.seek(self.clock.ticks(time_s), stream=self._stream, backward=True)
        except av.FFmpegError:
            return False
        return True

    def pictures(
        self, hold_until_s: float | None, keyframes: bool, spare: Callable[[float], bool] | None
    ) -> Iterator[tuple[av.VideoFrame, float]]:
        """Decoded pictures and their times from here on.

        Args:
            hold_until_s: Nothing before the keyframe before this time is needed.
            keyframes: Decode only keyframes.
            spare: Tells by its time whether a picture is not needed, if no other is made from it.
        """
        return self.clock.timed(self._pictures(hold_until_s, keyframes, spare))

    def _pictures(
        self, hold_until_s: float | None, keyframes: bool, spare: Callable[[float], bool] | None
    ) -> Iterator[av.VideoFrame]:
        context, clock = self._context, self.clock
        packets = self._packets()
        if hold_until_s and self.container.format.name in _INDEXED | _PASSED:
            packets = _from_keyframe(packets, clock, hold_until_s)
        if context.name != "h264":
            spare = None  # only there is "not referred to" a firm promise
        if keyframes and not context.codec.intra_only:
            yield from self._keyframes(packets)
            return
        skipping = False
        for packet, told in self.geometry.noted(packets):
            # A decoder that is to tell the time by counting packets must see them all.
            if spare is not None and skipping != (
                packet.pts is not None and spare(clock.packet_s(packet)) and not told
            ):
                skipping = not skipping
                context.skip_frame = "NONREF" if skipping else "DEFAULT"
            yield from self._decode(packet)
        yield from self._decode(None)

    def _keyframes(self, packets: Iterator[av.Packet[av.VideoStream]]) -> Iterator[av.VideoFrame]:
        # Each on its own: a decoder that waits for the pictures left out mixes up the order and loses some.
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
            pictures = self._context.decode(packet)
        except av.error.MemoryError as error:
            raise MediaError(
                f"There is not enough memory for the pictures of {_shown(self._path)}.",
                kind=MediaErrorKind.TOO_LARGE,
            ) from error
        except av.FFmpegError as error:
            self.bad += 1
            self.refused |= isinstance(error, av.error.ArgumentError)
            return
        for picture in pictures:
            if picture.width * picture.height > self._max_pixels:
                raise self.too_large(f" of {picture.width}x{picture.height} pixels")
            self.bad += picture.is_corrupt
            yield picture

    def _packets(self) -> Iterator[av.Packet[av.VideoStream]]:
        for packet in self._demuxed(self._stream):
            self.packets += 1
            self.clock.stamp(packet)
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
    """The packets from the last but one keyframe at or before a time on.

    The last but one, because pictures near a keyframe may be made from those before it.
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


@dataclass(frozen=True)
class _Plan:
    """Which pictures are samples."""

    start_s: float
    segment_s: float
    fps: float
    every: int | None
    keyframes: bool

    @classmethod
    def of(cls, settings: Settings) -> Self:
        # A whole number of sampling steps, so that their grid goes on over the borders.
        steps = math.ceil(settings.segment_s * settings.fps - 1e-6)
        by_time = settings.every is None and not settings.keyframes
        segment_s = steps / settings.fps if by_time else settings.segment_s
        return cls(settings.start_s, segment_s, settings.fps, settings.every, settings.keyframes)

    def bound(self, segment: int) -> float:
        """Where a segment begins; computed in one way only, so that neighbours meet exactly."""
        return self.start_s + segment * self.segment_s

    def segment(self, time_s: float) -> int:
        number = math.floor((time_s - self.start_s) / self.segment_s)
        if time_s < self.bound(number):
            return number - 1
        return number + (time_s >= self.bound(number + 1))

    def cell(self, time_s: float, segment: int) -> int:
        """Number of the stretch of 1 / fps seconds within the segment."""
        cell = math.floor((time_s - self.bound(segment) + _CELL_SLACK_S) * self.fps)
        return min(cell, math.ceil(self.segment_s * self.fps - 1e-6) - 1)

    def choose(self, frames: Iterator[Frame]) -> Generator[Sample, None, None]:
        segment = last_cell = -1
        count = index = 0
        for frame in frames:
            number = self.segment(frame.time_s)
            if number != segment:
                segment, last_cell, count, index = number, -1, 0, 0
            if self.keyframes:
                wanted = frame.keyframe
            elif self.every is not None:
                wanted = count % self.every == 0
            else:
                cell = self.cell(frame.time_s, number)
                wanted = cell != last_cell
                last_cell = cell
            count += 1
            if wanted:
                yield Sample(frame, segment, index)
                index += 1

    def spare(self, start_s: float) -> Callable[[float], bool] | None:
        """A function of a picture's time, asked in the order of decoding: is it surely no sample?

        It is none if it comes before the start, or another of its cell comes before it.
        """
        if self.every is not None or self.keyframes:
            return None
        first: dict[tuple[int, int], float] = {}

        def surely_none(time_s: float) -> bool:
            if time_s < start_s:
                return math.isfinite(time_s)
            segment = self.segment(time_s)
            key = segment, self.cell(time_s, segment)
            known = first.get(key)
            if known is None or time_s < known:
                first[key] = time_s
                if len(first) > 100:
                    del first[next(iter(first))]
                return False
            return time_s > known

        return surely_none


def _begins(first: tuple[av.VideoFrame, float] | None, start_s: float) -> bool:
    """Whether all from `start_s` on can be made from this picture, the first after going to a keyframe."""
    if first is None or first[1] > start_s:
        return False
    # Where pictures are refreshed in parts, keyframes are marked that are none.
    return first[0].pict_type not in (PictureType.P, PictureType.B)


def decodes(codec: str) -> bool:
    """Whether this decoder may be used at all."""
    return codec in _CODECS.split(",")


def frame_maker() -> Callable[[av.VideoFrame, float, Geometry | None], Frame]:
    """A function that makes frames of decoded pictures, their times in seconds, and how they are shown; None:
    as their decoder says."""
    scaler = _Scaler()
    return lambda picture, time_s, geometry: Frame(
        time_s, picture.key_frame, picture, geometry or geometry_of(picture), scaler
    )


def padded(pixels: int) -> int:
    """A limit for the decoder, which counts the padding of rows and columns too; we check the exact one."""
    return pixels + pixels // 8 + 65_536


def _shown(path: Path) -> str:
    """A file's name for a message: on one line, of bounded length."""
    name = "".join(c if c.isprintable() else "?" for c in path.name)
    return name if len(name) <= 80 else f"{name[:60]}…{name[-15:]}"


def _check_file(path: Path) -> None:
    """Let only regular, non-empty files through: anything else may block, never end, or be a folder.

    Raises:
        SourceError: There is no such file.
        MediaError: It is no regular file, or empty.
    """
    try:
        status = path.stat()
        allowed = os.access(path, os.R_OK)
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        raise SourceError(
            f"There is no file {_shown(path)}; check the path.",
            kind=SourceErrorKind.NOT_FOUND,
            source=str(path),
        ) from error
    if not allowed:
        raise SourceError(
            f"{_shown(path)} may not be read; change its permissions.",
            kind=SourceErrorKind.OTHER,
            source=str(path),
        )
    if stat.S_ISDIR(status.st_mode):
        raise MediaError(f"{_shown(path)} is a folder, not a video.", kind=MediaErrorKind.NOT_MEDIA)
    if not stat.S_ISREG(status.st_mode):
        raise MediaError(
            f"{_shown(path)} is a device or pipe, not a file; save the video to a file first.",
            kind=MediaErrorKind.NOT_MEDIA,
        )
    if not status.st_size:
        raise MediaError(f"{_shown(path)} is empty; get the file again.", kind=MediaErrorKind.EMPTY)


def _open(path: Path, max_pixels: int, *, look: bool) -> InputContainer:
    """Open a file as nothing but itself, in an allowed format.

    Args:
        path: A regular file.
        max_pixels: Limit for the pictures that decoders make while the file is opened.
        look: Use no decoder at all.
    """
    with path.open("rb") as file:
        head = file.read(12)
    if _is_heif(head):
        raise _heif(path)
    # An FLV file names its streams too late for the limit to reach their decoders.
    blind = look or head.startswith(b"FLV")
    options = {
        "protocol_whitelist": "file",
        "format_whitelist": _FORMATS,
        "codec_whitelist": "none" if blind else f"{_CODECS},{_SOUND_CODECS}",
        "max_pixels": str(padded(max_pixels)),
        "correct_ts_overflow": "0",  # it takes a clock that jumps back for one that has wrapped
        "default_fps": "10",  # of an APNG whose frames have no delay, as browsers show it
    }
    try:
        return av.open(f"file:{path.absolute()}", options=options, metadata_errors="replace")
    except av.error.EOFError as error:
        raise _no_frames(path) from error
    except (av.FFmpegError, ValueError) as error:
        raise _explain(path) from error


def _no_frames(path: Path) -> MediaError:
    return MediaError(
        f"{_shown(path)} ends before its first picture; get the file again.", kind=MediaErrorKind.NO_FRAMES
    )


def _is_heif(head: bytes) -> bool:
    return head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS


def _heif(path: Path) -> MediaError:
    """HEIC and AVIF are refused: they would open as videos, and give one tile of the picture."""
    return MediaError(
        f"{_shown(path)} is a HEIC or AVIF picture, which is not supported; convert it to JPEG first.",
        kind=MediaErrorKind.NOT_MEDIA,
    )


_MAGIC = ((0, b"\x1a\x45\xdf\xa3"), (0, b"RIFF"), (0, b"FLV"), (0, b"GIF8"), (0, b"OggS"), (0, b"\x47"))


def _explain(path: Path) -> MediaError:
    """Why a file could not be opened."""
    with path.open("rb") as file:
        head = file.read(12)
    name = _shown(path)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide"):
        if not _has_index(path):
            return MediaError(
                f"{name} has no index (moov): the file is cut off or was never finished; get it again.",
                kind=MediaErrorKind.DAMAGED,
            )
        return MediaError(f"{name} is damaged; get the file again.", kind=MediaErrorKind.DAMAGED)
    if any(head[at:].startswith(magic) for at, magic in _MAGIC):
        return MediaError(f"{name} is damaged; get the file again.", kind=MediaErrorKind.DAMAGED)
    return MediaError(
        f"{name} is not a video in a known format; give an MP4, MKV, WebM, MOV, AVI or TS file.",
        kind=MediaErrorKind.NOT_MEDIA,
    )


def _has_index(path: Path) -> bool:
    """Whether an MP4 file has a complete moov box at its top level."""
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
    """Whether an FLV file ends with a whole tag: each is followed by its own length."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - 4))
        length = int.from_bytes(file.read(4), "big")
        if not 11 <= length <= size - 4:
            return False
        file.seek(size - 4 - length)
        head = file.read(4)
    return head[0] & 0x1F in (8, 9, 18) and int.from_bytes(head[1:], "big") + 11 == length


_NAMED = 5
"""So many unreadable images are named in a sentence."""


class PictureReader(_Reader):
    """Reads single pictures with the interface of `VideoReader`, one second apart, each its own segment.

    Raises:
        MediaError: On construction, if not one of the pictures can be read.
        SourceError: On construction, if the only picture does not exist.
    """

    def __init__(self, paths: Sequence[Path], settings: Settings) -> None:
        super().__init__(settings)
        self._paths = tuple(Path(path) for path in paths)
        self.info = self._look()

    def frames(self, start_s: float = 0.0, end_s: float | None = None) -> Iterator[Frame]:
        """Every picture whose index lies in the range, within the cut of the settings.

        Raises:
            MediaError: While iterating: none of several pictures could be read.
        """
        return (sample.frame for sample in self.samples(start_s, end_s))

    def samples(self, start_s: float = 0.0, end_s: float | None = None) -> Generator[Sample, None, None]:
        """Every picture whose index lies in the range as a sample; a bad one is left out and reported.

        Raises:
            MediaError: While iterating: none of the pictures could be read.
        """
        start, end = self._range(start_s, end_s)
        return self._read([i for i in range(len(self._paths)) if start <= i < end])

    def segment_bounds(self, segment: int) -> tuple[float, float]:
        """Start and end in seconds of a segment, to be given to `samples` as they are."""
        return float(segment), float(segment + 1)

    def _look(self) -> VideoInfo:
        problem: MediaError | SourceError | None = None
        for path in self._paths:
            try:
                image, codec = _load_picture(path, self._settings.max_pixels)
                return VideoInfo(
                    width=image.shape[1],
                    height=image.shape[0],
                    duration_s=float(len(self._paths)),
                    fps=Fraction(1),
                    codec=codec,
                    container="images",
                    pix_fmt=None,
                    audio_codec=None,
                )
            except (MediaError, SourceError) as error:
                problem = problem or error
        if problem is None:
            raise MediaError("There are no images to read.", kind=MediaErrorKind.EMPTY)
        raise problem

    def _read(self, indices: list[int]) -> Generator[Sample, None, None]:
        bad: list[str] = []
        last: int | None = None
        problem: Exception | None = None
        done = 0
        try:
            for index in indices:
                if self._closed:
                    return
                try:
                    image, _ = _load_picture(self._paths[index], self._settings.max_pixels)
                except (MediaError, SourceError) as error:
                    problem = problem or error
                    bad.append(_shown(self._paths[index]))
                else:
                    last = index
                    shape = Geometry(image.shape[1], image.shape[0])
                    frame = Frame(float(index), True, _as_frame(image), shape, self._scaler)
                    yield Sample(frame, index, 0, self._paths[index].name)
                done += 1
            if last is None and problem is not None:
                raise problem
        finally:
            self._report = _report_on_pictures(len(indices), done, bad, last)

    def report_on(self, read: Set[int]) -> ReadReport:
        """How all pictures were read of which some had been read in an earlier run.

        Args:
            read: The indices of those that could be read, then or now.
        """
        start, end = self._range(0.0, None)
        asked = [index for index in range(len(self._paths)) if start <= index < end]
        bad = [_shown(self._paths[index]) for index in asked if index not in read]
        return _report_on_pictures(len(asked), len(asked), bad, max(read, default=None))


def _report_on_pictures(asked: int, done: int, bad: Sequence[str], last: int | None) -> ReadReport:
    reason = "" if done == asked else f"reading was stopped after {counted(done, 'image')}"
    if bad:
        more = f" and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
        names = ", ".join(bad[:_NAMED])
        reason = f"{len(bad)} of {counted(asked, 'image')} could not be read: {names}{more}"
    return ReadReport(
        frames=done - len(bad),
        bad_packets=len(bad),
        packets=done,
        repaired_times=0,
        last_s=None if last is None else float(last),
        complete=not reason,
        reason=reason,
    )


def picture_problem(path: Path, max_pixels: int) -> str:
    """Why a picture cannot be read, in a sentence; empty if it can."""
    try:
        _load_picture(path, max_pixels)
    except (MediaError, SourceError) as error:
        return str(error)
    return ""


def further_pages(path: Path) -> int:
    """How many pages a TIFF has behind the first, which alone is read; smaller copies of pages are none."""
    try:
        with path.open("rb") as file:
            if file.read(4) not in _TIFF_HEADS:
                return 0
    except OSError:
        return 0
    pages = 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with PillowImage.open(path, formats=("TIFF",)) as picture:
                for page in range(1, getattr(picture, "n_frames", 1)):
                    picture.seek(page)
                    pages += not int(getattr(picture, "tag_v2", {}).get(_SUBFILE_TYPE, 0)) & _REDUCED
    except Exception:  # noqa: BLE001 - damaged behind the first page
        return pages
    return pages


def _load_picture(path: Path, max_pixels: int) -> tuple[Image, str]:
    """Decode a picture: (H, W, 3) uint8 BGR, upright; and the name of its codec. Its header is checked first.

    Raises:
        MediaError: It is no picture of the allowed formats, or damaged, or has more than `max_pixels` pixels.
        SourceError: There is no such file.
    """
    _check_file(path)
    name = _shown(path)
    try:
        with warnings.catch_warnings():
            # Pillow warns above a limit of its own, and of harmless faults in metadata.
            warnings.simplefilter("ignore")
            with PillowImage.open(path, formats=_PICTURE_FORMATS) as picture:
                _check_header(picture, name, max_pixels)
                image = picture_bgr(ImageOps.exif_transpose(picture))
                return image, (picture.format or "").lower()
    except MediaError:
        raise
    except PillowImage.DecompressionBombError as error:
        raise MediaError(
            f"{name} has more than the limit of {max_pixels} pixels (max_pixels).",
            kind=MediaErrorKind.TOO_LARGE,
        ) from error
    except UnidentifiedImageError as error:
        with path.open("rb") as file:
            head = file.read(12)
        if _is_heif(head):
            raise _heif(path) from error
        if head.startswith((b"II*\0", b"MM\0*")):
            raise MediaError(
                f"{name} is a TIFF in a form that is not read here; save it with 8 or 16 bits a colour.",
                kind=MediaErrorKind.CODEC,
            ) from error
        raise MediaError(
            f"{name} is not a picture in a known format; give a JPEG, PNG, WebP, BMP or TIFF file.",
            kind=MediaErrorKind.NOT_MEDIA,
        ) from error
    except Exception as error:  # on damaged files Pillow raises almost anything
        raise MediaError(f"{name} is damaged; get the file again.", kind=MediaErrorKind.DAMAGED) from error


def _check_header(picture: PillowImage.Image, name: str, max_pixels: int) -> None:
    if picture.width * picture.height > max_pixels:
        raise MediaError(
            f"{name} has {picture.width}x{picture.height} pixels, more than the limit of {max_pixels} "
            "(max_pixels).",
            kind=MediaErrorKind.TOO_LARGE,
        )
    if picture.format == "WEBP" and getattr(picture, "is_animated", False):
        raise MediaError(
            f"{name} is an animated WebP, which is not supported; convert it to MP4 first.",
            kind=MediaErrorKind.NOT_MEDIA,
        )
    if picture.format == "PNG" and getattr(picture, "is_animated", False):
        raise MediaError(
            f"{name} is an animated PNG; rename it to end in .apng, and it is analysed as the video it is.",
            kind=MediaErrorKind.NOT_MEDIA,
        )


def _as_frame(image: Image) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(image, "bgr24")


def read_ahead(iterable: Iterable[T], depth: int) -> Generator[T, None, None]:
    """Run `iterable` in a thread, up to `depth` items ahead, and give its items.

    The thread is joined and the iterable closed on each way out: at its end, at an error in it (which is
    raised here), at an error in the consumer, and when the consumer stops early and closes this generator.

    Args:
        iterable: Anything that can be iterated; it runs in the thread, so use it nowhere else meanwhile.
        depth: Number of items kept, at least 1.
    """
    ready: deque[T] = deque()
    change = threading.Condition()
    closed = ended = False
    problem: BaseException | None = None

    def produce() -> None:
        nonlocal ended, problem
        iterator: Iterator[T] | None = None
        try:
            iterator = iter(iterable)
            for item in iterator:
                with change:
                    change.wait_for(lambda: closed or len(ready) < depth)
                    if closed:
                        break
                    ready.append(item)
                    change.notify_all()
        except BaseException as error:  # noqa: BLE001 - raised again in the consumer
            problem = error
        finally:
            try:
                close = getattr(iterator, "close", None)
                if close is not None:
                    close()
            except BaseException as error:  # noqa: BLE001 - likewise
                problem = problem or error
            with change:
                ended = True
                change.notify_all()

    thread = threading.Thread(target=produce, name="read-ahead", daemon=True)
    thread.start()
    try:
        while True:
            with change:
                change.wait_for(lambda: ready or ended)
                if not ready:
                    break
                item = ready.popleft()
                change.notify_all()
            yield item
        if problem is not None:
            raise problem
    finally:
        with change:
            closed = True
            ready.clear()
            change.notify_all()
        thread.join()
