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
    """Converts decoded frames to arrays.

    One for each reader: a new scaling context costs up to twice as much as scaling with an old one.
    """

    def __init__(self) -> None:
        self.opaque = False
        """Whether all pixels are opaque, whatever the pixel format says."""
        self._lock = threading.Lock()
        self._by_size: dict[_Target, tuple[threading.Lock, VideoReformatter]] = {}

    def _reformatter(self, size: _Target) -> tuple[threading.Lock, VideoReformatter]:
        with self._lock:
            if size not in self._by_size and len(self._by_size) > 8:
                self._by_size.clear()
            return self._by_size.setdefault(size, (threading.Lock(), VideoReformatter()))

    def bgr(self, decoded: av.VideoFrame, size: tuple[int, int] | None) -> Image:
        """Convert to the colors shown: (h, w, 3) uint8 BGR, as stored, of a (width, height) or full size."""
        wide = wide_of(decoded)
        clear = not self.opaque and transparent(decoded.format.name)
        if wide is None:
            if not clear:
                return self.convert(decoded, size)
            return on_ground(self.convert(decoded, size, "bgra"))
        deep = self.convert(decoded, size, "bgra64le" if clear else "bgr48le")
        image = wide_to_bgr(deep[:, :, :3], wide)
        return on_ground(np.dstack([image, deep[:, :, 3] >> 8]).astype(np.uint8)) if clear else image

    def yuv(self, decoded: av.VideoFrame, size: tuple[int, int]) -> Image:
        """Convert likewise to (3, h, w) uint8 YUV of full range."""
        if wide_of(decoded) is None and (self.opaque or not transparent(decoded.format.name)):
            return self.convert(decoded, size, "yuvj444p")
        return np.ascontiguousarray(
            cv2.cvtColor(self.bgr(decoded, size), cv2.COLOR_BGR2YUV).transpose(2, 0, 1)
        )

    def convert(
        self, decoded: av.VideoFrame, size: tuple[int, int] | None, pixels: str = "bgr24"
    ) -> NDArray[Any]:
        """Convert the stored values to BGR or another format, of a size (width, height) or full size."""
        width, height = size or (decoded.width, decoded.height)
        # Area averaging is closest to an exact reduction, and among the fastest; it cannot enlarge.
        shrinks = width < decoded.width and height < decoded.height
        method = Interpolation.AREA if shrinks else Interpolation.BILINEAR
        lock, reformatter = self._reformatter((size, pixels))
        with lock:  # a reformatter serves one thread
            try:
                out = reformatter.reformat(
                    decoded,
                    width,
                    height,
                    pixels,
                    src_colorspace=_taken_for(decoded),
                    interpolation=method,
                    threads=1,
                )
            except av.FFmpegError as error:
                raise MediaError(
                    f"frames of {decoded.width}x{decoded.height} pixels in the format {decoded.format.name}"
                    " cannot be converted to colors; convert the video to H.264 first",
                    kind=MediaErrorKind.CODEC,
                ) from error
            return np.ascontiguousarray(out.to_ndarray())


def _matrix(decoded: av.VideoFrame) -> int:
    """Return the AVColorSpace of a frame; if it is not declared, the one that players assume."""
    if decoded.colorspace != _UNDECLARED:
        return int(decoded.colorspace)
    return 1 if decoded.width >= 1280 or decoded.height > 576 else 6


def _taken_for(decoded: av.VideoFrame) -> Colorspace | None:
    # swscale assumes BT.601 where nothing is declared.
    if decoded.colorspace != _UNDECLARED:
        return None
    if wide_of(decoded) is not None:
        return Colorspace.BT2020
    return Colorspace.ITU709 if _matrix(decoded) == 1 else None


@dataclass(frozen=True, eq=False, slots=True)
class Frame:
    """A decoded frame and its time; holds the decoder's buffer as long as it lives.

    Frames are converted on demand and results are not cached: each call of `image` or `scaled` converts
    again. All methods are thread-safe.
    """

    time_s: float
    """Seconds since the start of the video, as a player shows it; strictly increasing."""
    keyframe: bool
    _decoded: av.VideoFrame = field(repr=False)
    geometry: Geometry = field(repr=False)
    """Where the stored pixels are in the frame as it is shown."""
    _scaler: Scaler = field(repr=False)
    # A conversion temporarily changes properties of the decoded frame.
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    @property
    def width(self) -> int:
        """In pixels, as shown."""
        return self.geometry.width

    @property
    def height(self) -> int:
        """In pixels, as shown."""
        return self.geometry.height

    def image(self) -> Image:
        """Return the frame as shown: (H, W, 3) uint8 BGR, full size.

        Raises:
            MediaError: The pixel format cannot be converted.
        """
        return self._bgr(self.width, self.height)

    def scaled(self, width: int, height: int) -> Image:
        """Return the frame as shown, scaled in one step from the stored one: (height, width, 3) uint8 BGR.

        Raises:
            MediaError: The pixel format cannot be converted.
        """
        return self._bgr(width, height)

    def reduced(self, width: int, height: int) -> Frame:
        """Return a frame with fewer stored pixels, for `scaled` up to that size and for `signature` alone.

        In common formats, pixels are averaged two by two, as often as enough are left. Frames of other
        formats, and of sizes that cannot be halved, are returned as they are.
        """
        decoded, planes = self._decoded, _planes(self._decoded)
        if planes is None:
            return self
        wanted = self.geometry.stored_size(width, height)
        height, width = planes.y.shape
        halvings = 0
        while _can_be_halved(width >> halvings, height >> halvings, *wanted):
            halvings += 1
        if not halvings:
            return self
        small = av.VideoFrame(width >> halvings, height >> halvings, decoded.format.name)
        for plane, target in zip((planes.y, planes.u, planes.v), planes_of(small), strict=True):
            nearly = plane
            for _ in range(halvings - 1):
                nearly = _halved(nearly)
            cv2.resize(nearly, target.shape[::-1], dst=target, interpolation=cv2.INTER_AREA)
        small.colorspace, small.color_range = _matrix(decoded), decoded.color_range
        return replace(self, _decoded=small)

    def signature(self) -> Image:
        """Return a small copy: (3, h, w) uint8 YUV of full range, as stored, not rotated.

        The longer side is at most `SIGNATURE_PX`.

        Raises:
            MediaError: The pixel format cannot be converted.
        """
        decoded = self._decoded
        factor = min(1.0, SIGNATURE_PX / max(decoded.width, decoded.height))
        size = max(1, round(decoded.width * factor)), max(1, round(decoded.height * factor))
        with self._lock:
            return self._scaler.yuv(decoded, size)

    def crop(self, transforms: NDArray[np.float32], sides: Sequence[int], size: int) -> list[Image]:
        """Return square crops of the frame as shown, see `analyzer.faces.CropSource`.

        For common formats the decoder's planes are sampled, and only the crops are converted to BGR; for
        others the whole frame is.

        Raises:
            MediaError: The pixel format cannot be converted.
        """
        planes = _planes(self._decoded)
        if planes is None:
            return Still(self.image()).crop(transforms, sides, size)
        planes = planes.cropped(self.geometry)
        stored = self.geometry.to_shown
        return [
            planes.crop(transform @ stored, side, size)
            for transform, side in zip(transforms, sides, strict=True)
        ]

    def yuv(self) -> av.VideoFrame | None:
        """Return the frame as shown in the decoder's own values; None if an encoder cannot take them.

        It can if they are yuv420p in limited range of BT.709, and all sides even. Call
        `av.VideoFrame.make_writable` before you change the frame."""
        decoded = self._decoded
        limited = decoded.format.name == _LIMITED[0] and decoded.color_range != ColorRange.JPEG
        # Frames stored from the bottom up give no access to their planes.
        readable = all(plane.line_size > 0 for plane in decoded.planes)
        geometry = self.geometry
        odd = any(side % 2 for side in (decoded.width, decoded.height, *geometry.part, *geometry.lying))
        if not limited or not readable or odd or _matrix(decoded) != Colorspace.ITU709:
            return None
        if wide_of(decoded) is not None:
            return None
        if not geometry.plain:
            upright = av.VideoFrame(self.width, self.height, _LIMITED[0])
            for stored, shown in zip(planes_of(decoded), planes_of(upright), strict=True):
                shown[:] = geometry.upright(stored, shown.shape[1], shown.shape[0])
            return upright
        decoded.pict_type = PictureType.NONE  # else an encoder would make it of the same type
        return decoded

    def _bgr(self, width: int, height: int) -> Image:
        geometry = self.geometry
        with self._lock:
            image = self._scaler.bgr(self._decoded, geometry.stored_size(width, height))
        return image if geometry.plain else geometry.upright(image, width, height)


@dataclass(frozen=True, eq=False)
class Still:
    """An image held as an array: (H, W, 3) uint8 BGR."""

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
        """Return square crops of the image, see `analyzer.faces.CropSource`."""
        return [
            _warp(self.image, transform, side, size, 0)
            for transform, side in zip(transforms, sides, strict=True)
        ]


def _can_be_halved(width: int, height: int, wanted_width: int, wanted_height: int) -> bool:
    """Tell whether all planes of a 4:2:0 frame have even sides, and half as many pixels are enough."""
    enough = width >= 2 * wanted_width and height >= 2 * wanted_height
    return enough and max(width, height) >= 2 * SIGNATURE_PX and not width % 4 and not height % 4


def _halved(image: Image) -> Image:
    half = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return np.asarray(half, np.uint8)


def _warp(image: Image, transform: NDArray[np.floating], side: int, size: int, outside: int) -> Image:
    """Return a (size, size) crop of an (H, W) or (H, W, 3) image that is read at `side`.

    Pixels are averaged in blocks of side / size / 2, the blocks are sampled at twice the size, and two by two
    of these samples are averaged: sampling all pixels shows the same, and takes up to three times as long.
    """
    if side == size:
        return _sampled(image, transform * size, size, outside)
    twice = 2 * size
    matrix = transform.astype(np.float64) * twice
    halvings = (side // twice).bit_length() - 1
    if halvings:
        image, corner, block = _blocks(image, transform, halvings)
        # A block lies at the mean of its pixels, and a sample at the mean of what it stands for.
        middle = corner + (block - 1) / 2
        matrix[:, 2] += matrix[:, :2] @ middle - (1 - twice / side) / 2
        matrix[:, :2] *= block
    crop = cv2.resize(_sampled(image, matrix, twice, outside), (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(crop, np.uint8)


def _sampled(image: Image, matrix: NDArray[np.floating], side: int, outside: int) -> Image:
    crop = cv2.warpAffine(image, matrix, (side, side), borderValue=(outside,) * 3)
    return np.asarray(crop, np.uint8)


def _blocks(
    image: Image, transform: NDArray[np.floating], halvings: int
) -> tuple[Image, NDArray[np.float64], int]:
    """Average the pixels of an image that a crop shows.

    Args:
        image: (H, W) or (H, W, 3).
        transform: (2, 3): pixels to shares of the crop's side.
        halvings: How many times width and height are halved.

    Returns:
        The averages, x and y of the first pixel among them, and the side of a block in pixels.
    """
    height, width = image.shape[:2]
    halvings = min(halvings, width.bit_length() - 1, height.bit_length() - 1)
    block = 1 << halvings
    corners = np.array([[0, 1, 0, 1], [0, 0, 1, 1]]) - transform[:, 2:]
    shown = np.linalg.solve(transform[:, :2].astype(np.float64), corners)
    # Blocks lie at multiples of their side, with one more around what is shown.
    last = np.array([width, height]) // block
    first = np.clip(np.floor(shown.min(axis=1) / block) - 1, 0, last - 1).astype(int)
    end = np.clip(np.ceil(shown.max(axis=1) / block) + 2, first + 1, last).astype(int)
    (x, y), (right, bottom) = first * block, end * block
    part = image[y:bottom, x:right]
    for _ in range(halvings):
        part = _halved(part)
    return part, np.array([x, y], np.float64), block


# Conversion of 4:2:0 frames from (Y, U, V, 1) to blue, green, red, by AVColorSpace: the weights of red and
# blue in luma, from BT.709 and BT.601.
_WEIGHTS = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114)}

_LIMITED = ("yuv420p", 16.0, 255 / 219, 255 / 224)

_FULL = ("yuvj420p", 0.0, 1.0, 1.0)


# Chroma samples are located between luma samples.
_CHROMA_TO_LUMA = np.array([[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1]])


@dataclass(frozen=True, eq=False, slots=True)
class _Planes:
    y: Image
    u: Image
    v: Image
    black: int
    to_bgr: NDArray[np.float64]

    def cropped(self, geometry: Geometry) -> _Planes:
        """Crop to the part that is shown."""
        if geometry.part[2:] == (geometry.stored_width, geometry.stored_height):
            return self
        y, u, v = (geometry.cropped(plane) for plane in (self.y, self.u, self.v))
        return replace(self, y=y, u=u, v=v)

    def crop(self, transform: NDArray[np.floating], side: int, size: int) -> Image:
        chroma = transform @ _CHROMA_TO_LUMA
        half = max(size, side // 2)  # chroma has half as many samples
        crops = [
            _warp(self.y, transform, side, size, self.black),
            _warp(self.u, chroma, half, size, 128),
            _warp(self.v, chroma, half, size, 128),
        ]
        return np.asarray(cv2.transform(cv2.merge(crops), self.to_bgr), np.uint8)


def planes_of(decoded: av.VideoFrame) -> list[Image]:
    """Return the planes of an 8-bit frame as (h, w) uint8 views of its own memory."""
    return [
        np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
        for plane in decoded.planes
    ]


def _planes(decoded: av.VideoFrame) -> _Planes | None:
    """Return the decoder's planes if they are 8-bit 4:2:0 of a known matrix; else None."""
    space = _matrix(decoded)
    readable = all(plane.line_size > 0 for plane in decoded.planes)
    if decoded.format.name not in (_LIMITED[0], _FULL[0]) or space not in _WEIGHTS or not readable:
        return None
    if wide_of(decoded) is not None:
        return None
    full = decoded.format.name == _FULL[0] or decoded.color_range == ColorRange.JPEG
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
    y, u, v = planes_of(decoded)
    return _Planes(y, u, v, int(black), np.column_stack([weights, offset]))


@dataclass(frozen=True, eq=False, slots=True)
class Sample:
    """A frame to analyze."""

    frame: Frame
    segment: int
    """Number of the segment, from 0."""
    index: int
    """Number of the sample within its segment, from 0."""
    image_name: str = ""
    """File name, if the source is image files."""


def frame_maker() -> Callable[[av.VideoFrame, float, Geometry | None], Frame]:
    """Return a function that makes a `Frame` of a decoded frame, its time in seconds, and its geometry.

    Without a geometry, the one that the decoder reports is used.
    """
    scaler = Scaler()
    return lambda decoded, time_s, geometry: Frame(
        time_s, decoded.key_frame, decoded, geometry or geometry_of(decoded), scaler
    )
