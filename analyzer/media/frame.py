"""Decoded frames: scaled and cropped images of one moment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import av
import av.error
import cv2
import numpy as np
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from analyzer.errors import MediaError, MediaErrorKind
from analyzer.media.colors import on_ground, transparent, wide_of, wide_to_bgr
from analyzer.media.geometry import Geometry, geometry_of

__all__ = [
    "Frame",
    "Sample",
    "Scaler",
    "Still",
    "frame_maker",
    "planes_of",
]

Image = NDArray[np.uint8]


SIGNATURE_PX = 160
"""Longer side of `Frame.signature`."""


_UNDECLARED = 2  # AVCOL_SPC_UNSPECIFIED


_Target = tuple[tuple[int, int] | None, str]


class Scaler:
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
        """In the colors that are shown: (h, w, 3) BGR, `size` (width, height) or full size, as it lies."""
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
    _scaler: Scaler = field(repr=False)
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

    def signature(self) -> Image:
        """Brightness and color, field by field: (3, h, w) uint8 in YUV of full range, as stored, not turned.

        The longer side has `SIGNATURE_PX` at most.

        Raises:
            MediaError: The pixel format cannot be converted.
        """
        picture = self._picture
        factor = min(1.0, SIGNATURE_PX / max(picture.width, picture.height))
        size = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
        with self._lock:
            return self._scaler.yuv(picture, size)

    def crop(self, transforms: NDArray[np.float32], sides: Sequence[int], size: int) -> list[Image]:
        """Square pieces of the frame as it is shown, `analyzer.faces.CropSource`.

        From common formats the planes that the decoder gave are sampled and only the pieces are converted
        to BGR; from others the whole picture is.

        Raises:
            MediaError: The pixel format cannot be converted.
        """
        planes = _planes(self._picture)
        if planes is None:
            return Still(self.image()).crop(transforms, sides, size)
        planes = planes.cropped(self.geometry)
        stored = self.geometry.to_shown
        return [
            planes.crop(transform @ stored, side, size)
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

    def crop(self, transforms: NDArray[np.float32], sides: Sequence[int], size: int) -> list[Image]:
        """Square pieces of the picture, `analyzer.faces.CropSource`."""
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

    def crop(self, transform: NDArray[np.floating], side: int, size: int) -> Image:
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
    """A frame that is to be analyzed."""

    frame: Frame
    segment: int
    """Number of the segment, from 0."""
    index: int
    """Number of the sample within its segment, from 0."""
    image_name: str = ""
    """File name of the picture, where the source is pictures."""


def frame_maker() -> Callable[[av.VideoFrame, float, Geometry | None], Frame]:
    """A function that makes frames of decoded pictures, their times in seconds, and how they are shown; None:
    as their decoder says."""
    scaler = Scaler()
    return lambda picture, time_s, geometry: Frame(
        time_s, picture.key_frame, picture, geometry or geometry_of(picture), scaler
    )
