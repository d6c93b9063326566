"""From pixels as they are stored to the upright frame of square pixels that a player shows.

A file can say that its frames are to be turned, mirrored or stretched, or that they hold a view for each eye.
`GeometryFinder` gathers what is said of each frame, `Geometry` says where its pixels go. All else, boxes,
tables and the annotated video, is in the frame that is shown.

Decided here, once:

- The axis with fewer samples is enlarged, so that no pixel is lost, and has an even number of pixels then.
- Of a container's and a stream's pixel aspect the container's holds, as in players.
- Turns are by quarters: nearly all players know no others.
- Of two views the left eye's is shown, as players show them without glasses. Views that share the pixels
  of one are stretched to the shape of the whole.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Any, Final

import av
import cv2
import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideDataType
from numpy.typing import NDArray

from analyzer.media.cropping import NOTHING, Cropping
from analyzer.media.sei import DISPLAY_ORIENTATION, FRAME_PACKING, Message, length_prefix, messages

__all__ = ["Geometry", "GeometryFinder", "Half", "Orientation", "Packing", "geometry_of", "orientation_of"]

Image = NDArray[np.uint8]

_ASPECT_MAX = 8
"""A pixel aspect beyond this, either way, is a fault of the file."""
_ASPECT_LEAST = 0.01
"""A pixel aspect that is closer to 1 counts as 1."""
_WIDE, _TALL = 2.5, 1.25
"""Width by height: a frame above the first holds two whole views side by side, one below the second two whole
views one above the other. Between, the views share the pixels of one: films go up to 2.39."""
_UNMARKED_MAX = 32
"""Frames that a change of the pixel aspect may wait for a keyframe; decoders know of it that much earlier."""

_TURNS: Final = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


class Packing(StrEnum):
    """How two views are packed in one frame."""

    SIDE_BY_SIDE = "side_by_side"
    TOP_BOTTOM = "top_bottom"


class Half(StrEnum):
    """The part of a stored frame that is shown."""

    LEFT = "left"
    RIGHT = "right"
    TOP = "top"
    BOTTOM = "bottom"


@dataclass(frozen=True)
class Orientation:
    """How a stored frame becomes upright: first mirrored, then rotated."""

    mirrored: bool = False
    """Left to right."""
    turn_deg: int = 0
    """0, 90, 180 or 270, clockwise."""


_UPRIGHT = Orientation()


@dataclass(frozen=True)
class Geometry:
    """Where the pixels of stored frames are in the frame as shown."""

    stored_width: int
    """Pixels."""
    stored_height: int
    pixel_aspect: Fraction = Fraction(1)
    """Width of a stored pixel divided by its height."""
    orientation: Orientation = _UPRIGHT
    half: Half | None = None
    """The eye's half, of a frame with two views."""
    cropping: Cropping = NOTHING
    """The cropping that the container declares, applied first."""
    max_pixels: int | None = None
    """The most pixels of the frame as shown; enlarging stops there."""

    @cached_property
    def part(self) -> tuple[int, int, int, int]:
        """Left, top, width and height of the shown part of the stored frame, in pixels."""
        cut = self.cropping
        left, top = cut.left, cut.top
        width, height = self.stored_width - left - cut.right, self.stored_height - top - cut.bottom
        if self.half in (Half.LEFT, Half.RIGHT):
            shown = max(1, width // 2)
            return (left if self.half is Half.LEFT else left + width - shown), top, shown, height
        if self.half is not None:
            shown = max(1, height // 2)
            return left, (top if self.half is Half.TOP else top + height - shown), width, shown
        return left, top, width, height

    @cached_property
    def lying(self) -> tuple[int, int]:
        """Width and height in square pixels, before the rotation."""
        _, _, width, height = self.part
        if self.pixel_aspect == 1:
            return width, height
        aspect = float(self.pixel_aspect)
        wide, high = width * max(aspect, 1.0), height / min(aspect, 1.0)
        if self.max_pixels is not None and wide * high > self.max_pixels:
            shrink = math.sqrt(max(self.max_pixels, 1) / (wide * high))
            return _even_below(wide * shrink), _even_below(high * shrink)
        return (_even(wide) if aspect > 1 else width), (_even(high) if aspect < 1 else height)

    @cached_property
    def width(self) -> int:
        """In pixels, as shown."""
        return self.lying[self.orientation.turn_deg in (90, 270)]

    @cached_property
    def height(self) -> int:
        """In pixels, as shown."""
        return self.lying[self.orientation.turn_deg not in (90, 270)]

    @cached_property
    def plain(self) -> bool:
        """Whether frames are shown as they are stored."""
        return (
            self.part == (0, 0, self.stored_width, self.stored_height)
            and self.orientation == _UPRIGHT
            and self.lying == (self.stored_width, self.stored_height)
        )

    @cached_property
    def to_shown(self) -> NDArray[np.float64]:
        """(3, 3): from pixels of `part` to pixels of the frame that is shown."""
        (_, _, part_width, part_height), (wide, high) = self.part, self.lying
        across, down = wide / part_width, high / part_height
        # The middle of the first pixel is at 0, so its edge at -0.5.
        scaled = np.array([[across, 0, (across - 1) / 2], [0, down, (down - 1) / 2], [0, 0, 1]])
        mirrored = np.array([[-1, 0, wide - 1], [0, 1, 0], [0, 0, 1]])
        right, below = wide - 1, high - 1
        turned = {
            0: [[1, 0, 0], [0, 1, 0]],
            90: [[0, -1, below], [1, 0, 0]],
            180: [[-1, 0, right], [0, -1, below]],
            270: [[0, 1, 0], [-1, 0, right]],
        }
        turn = np.array([*turned[self.orientation.turn_deg], [0, 0, 1]], np.float64)
        return turn @ (mirrored @ scaled if self.orientation.mirrored else scaled)

    def stored_size(self, width: int, height: int) -> tuple[int, int]:
        """The size to scale the whole stored frame to for a size of the frame that is shown, in pixels."""
        if self.orientation.turn_deg in (90, 270):
            width, height = height, width
        _, _, part_width, part_height = self.part
        return (
            max(1, round(width * self.stored_width / part_width)),
            max(1, round(height * self.stored_height / part_height)),
        )

    def upright(self, image: Image, width: int, height: int) -> Image:
        """The frame that is shown, in a size in pixels.

        Args:
            image: (H, W) or (H, W, 3) uint8: the whole stored frame in about the size of `stored_size`.
            width: Of the result.
            height: Likewise.
        """
        if self.orientation.turn_deg in (90, 270):
            width, height = height, width
        return self.turned(_resized(self.cropped(image), (width, height)))

    def cropped(self, image: Image) -> Image:
        """What is shown of the whole stored frame, in any size: a view of (H, W) or (H, W, 3) uint8."""
        left, top, width, height = self.part
        if (width, height) == (self.stored_width, self.stored_height):
            return image
        across, down = image.shape[1] / self.stored_width, image.shape[0] / self.stored_height
        x, y = round(left * across), round(top * down)
        return image[y : y + max(1, round(height * down)), x : x + max(1, round(width * across))]

    def turned(self, image: Image) -> Image:
        """Brought upright: (H, W) or (H, W, 3) uint8, contiguous."""
        mirrored, turn_deg = self.orientation.mirrored, self.orientation.turn_deg
        if mirrored and turn_deg in (90, 270):
            across = cv2.transpose(image)
            return np.asarray(cv2.flip(across, -1) if turn_deg == 90 else across, np.uint8)
        if mirrored:
            return np.asarray(cv2.flip(image, 0 if turn_deg else 1), np.uint8)
        if turn_deg:
            return np.asarray(cv2.rotate(image, _TURNS[turn_deg]), np.uint8)
        return np.ascontiguousarray(image)

    def facts(self) -> dict[str, Any]:
        """Return its entries in ``run.json``, beside the size."""
        aspect = self.pixel_aspect
        return {
            "rotation_deg": self.orientation.turn_deg,
            "mirrored": self.orientation.mirrored,
            "pixel_aspect": f"{aspect.numerator}:{aspect.denominator}",
            "stereo": None if self.half is None else f"{self.packing}, {self.half} half",
        }

    @property
    def packing(self) -> Packing | None:
        """How the views are packed, if there are two."""
        if self.half is None:
            return None
        return Packing.SIDE_BY_SIDE if self.half in (Half.LEFT, Half.RIGHT) else Packing.TOP_BOTTOM


def _resized(image: Image, size: tuple[int, int]) -> Image:
    if image.shape[1::-1] == size:
        return image
    shrinks = size[0] < image.shape[1] and size[1] < image.shape[0]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)


def _even(length: float) -> int:
    return max(2, 2 * round(length / 2))


def _even_below(length: float) -> int:
    return max(2, 2 * math.floor(length / 2))


@lru_cache(maxsize=256)
def _geometry(
    size: tuple[int, int],
    aspect: Fraction,
    orientation: Orientation,
    view: tuple[Packing, bool] | None,
    *,
    max_pixels: int | None = None,
    cropping: Cropping = NOTHING,
) -> Geometry:
    """The geometry of frames; `view` says how views are packed, and whether the right eye's comes first."""
    half: Half | None = None
    if view is not None:
        packing, right_first = view
        wide, high = size[0] - cropping.left - cropping.right, size[1] - cropping.top - cropping.bottom
        shape = wide * float(aspect) / high
        if packing is Packing.SIDE_BY_SIDE:
            half = Half.RIGHT if right_first else Half.LEFT
            aspect = aspect * (1 if shape >= _WIDE else 2)
        else:
            half = Half.BOTTOM if right_first else Half.TOP
            aspect = aspect / (1 if shape <= _TALL else 2)
    if abs(aspect - 1) < _ASPECT_LEAST:
        aspect = Fraction(1)
    return Geometry(*size, aspect, orientation, half, cropping, max_pixels)


def sane_aspect(aspect: Fraction | None) -> Fraction:
    """A declared pixel aspect if it can be true, else that of squares.

    >>> sane_aspect(Fraction(16, 15)), sane_aspect(Fraction(1, 1000)), sane_aspect(None)
    (Fraction(16, 15), Fraction(1, 1), Fraction(1, 1))
    """
    if aspect is None or not Fraction(1, _ASPECT_MAX) <= aspect <= _ASPECT_MAX:
        return Fraction(1)
    return aspect


@lru_cache(maxsize=64)
def orientation_of(matrix: bytes) -> Orientation:
    """What a display matrix (nine native int32, as in FFmpeg) says, to the nearest quarter of a turn.

    >>> one = 1 << 16
    >>> orientation_of(struct.pack("9i", -one, 0, 0, 0, one, 0, 0, 0, 1 << 30))
    Orientation(mirrored=True, turn_deg=0)
    """
    if len(matrix) < 36:
        return _UPRIGHT
    a, b, _, c, d, *_ = struct.unpack("9i", matrix[:36])
    area = a * d - b * c
    if not area:
        return _UPRIGHT
    # Where the right-hand side of the frame goes tells the turn, but the mirror sends it to the left first.
    across, down = (a, b) if area > 0 else (-a, -b)
    turn_deg = round(math.degrees(math.atan2(down, across)) / 90) * 90 % 360
    return Orientation(area < 0, turn_deg)


@lru_cache(maxsize=64)
def _packing_of(stereo: bytes) -> tuple[Packing, bool] | None:
    """What FFmpeg's AVStereo3D says: how views are packed, and whether the right eye's comes first."""
    kind, flags = struct.unpack("2i", stereo[:8]) if len(stereo) >= 8 else (0, 0)
    packing = {1: Packing.SIDE_BY_SIDE, 2: Packing.TOP_BOTTOM, 5: Packing.SIDE_BY_SIDE}.get(kind)
    return None if packing is None else (packing, bool(flags & 1))


def _packing_said(message: Message) -> tuple[Packing, bool] | None:
    packing = {3: Packing.SIDE_BY_SIDE, 4: Packing.TOP_BOTTOM}.get(message.arrangement)
    return None if packing is None else (packing, message.right_first)


def _of_decoder(frame: av.VideoFrame) -> tuple[Orientation, tuple[Packing, bool] | None]:
    """What a decoder says of a frame alone."""
    orientation, view = _UPRIGHT, None
    # Asked for its side data, a frame holds on to what holds on to it, and would stay in memory.
    for data in SideDataContainer(frame):  # type: ignore[call-arg]
        if data.type is SideDataType.DISPLAYMATRIX:
            orientation = orientation_of(bytes(data))
        elif data.type is SideDataType.STEREO3D:
            view = _packing_of(bytes(data))
    return orientation, view


def geometry_of(frame: av.VideoFrame) -> Geometry:
    """The geometry of a frame of which no more is known than what its decoder says."""
    return _geometry((frame.width, frame.height), Fraction(1), *_of_decoder(frame))


@dataclass(frozen=True)
class _Said:
    """What comes with a packet, and goes through the decoder with it."""

    keyframe: bool
    messages: tuple[Message, ...]


class GeometryFinder:
    """Finds the geometry of the frames of one stream, decoded one after another.

    A message of the stream holds until the next one of its kind or the next keyframe, since reading may begin
    there: so what holds does not depend on where it began.
    """

    def __init__(
        self,
        context: av.VideoCodecContext,
        container_aspect: Fraction | None,
        max_pixels: int | None,
        cropping: Cropping = NOTHING,
    ) -> None:
        """Prepare for a stream.

        Args:
            context: Its decoder, not yet open.
            container_aspect: The pixel aspect that the container declares, which holds; None for none.
            max_pixels: Limit for frames that are enlarged.
            cropping: What the container says is to be cut off frames of the stream's declared size.
        """
        self._cropping, self._cropped_size = cropping, (context.width, context.height)
        self._context, self._max_pixels = context, max_pixels
        self._codec = context.codec.canonical_name
        self._speaks = self._codec in ("h264", "hevc")
        if self._speaks:
            context.copy_opaque = True  # what comes with a packet comes out with its frame
            self._prefix = length_prefix(self._codec, context.extradata)
        self._container_aspect = sane_aspect(container_aspect)
        self._declared = container_aspect is not None and self._container_aspect == container_aspect
        self._aspect: Fraction | None = None
        self._waiting = 0
        self._held: dict[int, Message] = {}
        self._heard: Orientation | None = None

    def note(
        self, packet: av.Packet[av.VideoStream], following: av.Packet[av.VideoStream] | None = None
    ) -> bool:
        """Read what comes with a packet, just before it is decoded; gives whether there is anything.

        Args:
            packet: The next one of the stream.
            following: The one after it, if it is known: where start codes part the units, a message that was
                written behind a keyframe comes with that one.
        """
        if not self._speaks or not packet.size:  # the one after the last is empty
            return False
        key = packet.is_keyframe
        found = messages(self._codec, memoryview(packet), self._prefix, keyframe=key)
        if key and not found and following is not None and following.size and not following.is_keyframe:
            late = messages(self._codec, memoryview(following), self._prefix)
            found = [message for message in late if message.persists]
        if found or key:
            packet.opaque = _Said(key, tuple(found))
        return bool(found)

    def noted(
        self, packets: Iterable[av.Packet[av.VideoStream]]
    ) -> Iterator[tuple[av.Packet[av.VideoStream], bool]]:
        """Yield packets with the results of `note`, reading one ahead."""
        before: av.Packet[av.VideoStream] | None = None
        for packet in packets:
            if before is not None:
                yield before, self.note(before, packet)
            before = packet
        if before is not None:
            yield before, self.note(before)

    def of(self, frame: av.VideoFrame) -> Geometry:
        """Return the geometry of a frame. Call it for each frame, in the order of the decoder."""
        orientation, view = _of_decoder(frame)
        if self._speaks:
            orientation, view = self._told(frame, orientation, view)
        size = frame.width, frame.height
        cropping = self._cropping if size == self._cropped_size else NOTHING
        aspect = self._aspect_of(frame)
        return _geometry(size, aspect, orientation, view, max_pixels=self._max_pixels, cropping=cropping)

    def _told(
        self, frame: av.VideoFrame, orientation: Orientation, view: tuple[Packing, bool] | None
    ) -> tuple[Orientation, tuple[Packing, bool] | None]:
        """What the stream says of a frame, else what the decoder says, which knows the container's too."""
        said = frame.opaque
        if isinstance(said, _Said):
            if said.keyframe:
                self._held.clear()
            for message in said.messages:
                self._held[message.kind] = message
        turn, packing = self._held.get(DISPLAY_ORIENTATION), self._held.get(FRAME_PACKING)
        if turn is not None and not turn.cancels:
            self._heard = orientation = Orientation(turn.mirrored, turn.turn_deg)
        elif self._heard is not None and orientation == self._heard:
            orientation = _UPRIGHT  # a decoder's memory of a message that holds no more
        if packing is not None and not packing.cancels:
            view = _packing_said(packing)
        self._held = {kind: message for kind, message in self._held.items() if message.persists}
        return orientation, view

    def _aspect_of(self, frame: av.VideoFrame) -> Fraction:
        if self._declared:
            return self._container_aspect
        now = sane_aspect(self._context.sample_aspect_ratio)
        if self._aspect is None or now == self._aspect or frame.key_frame:
            self._aspect, self._waiting = now, 0
        else:
            # The decoder is already at a later frame: the change begins with a keyframe.
            self._waiting += 1
            if self._waiting > _UNMARKED_MAX:
                self._aspect, self._waiting = now, 0
        return self._aspect
