"""How H.264 and HEVC streams ask for their frames to be shown (SEI messages).

Decoders hand a message on with the frame that it comes with, though it may hold for all that follow. So the
messages are read here, off the packets, with how long they hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["DISPLAY_ORIENTATION", "FRAME_PACKING", "Message", "length_prefix", "messages"]

FRAME_PACKING = 45
DISPLAY_ORIENTATION = 47

_START_CODE = re.compile(b"\0\0\x01")
_MOST_UNITS = 32
"""The most bytes of a packet that are searched; messages come before the frame."""


@dataclass(frozen=True)
class Message:
    """One message: its content, and how long it applies."""

    kind: int
    """`FRAME_PACKING` or `DISPLAY_ORIENTATION`."""
    cancels: bool
    """Whether it only ends the previous message."""
    persists: bool = False
    """Whether it applies until the next one of its kind or the next keyframe, not to its own frame alone."""
    mirrored: bool = False
    """Orientation: mirror the frame left to right, before the rotation."""
    turn_deg: int = 0
    """Orientation: rotate by 0, 90, 180 or 270 degrees clockwise."""
    arrangement: int = 0
    """Packing: 3 side by side, 4 one above the other; others are not halves of a frame."""
    right_first: bool = False
    """Packing: the first half is the right eye's."""


def messages(codec: str, data: memoryview, prefix: int, *, keyframe: bool = False) -> list[Message]:
    """Return the messages of one packet.

    Args:
        codec: "h264" or "hevc".
        data: The packet.
        prefix: Bytes of the length before each unit, as `length_prefix` gives it; 0 for start codes.
        keyframe: Read on behind the frame: FFmpeg's `h264_metadata` writes the messages of keyframes there
            where they have no other message.
    """
    found: list[Message] = []
    hevc = codec == "hevc"
    for start, end in _units(data, prefix):
        kind = (data[start] >> 1) & 0x3F if hevc else data[start] & 0x1F
        if kind == (39 if hevc else 6):
            found += _payloads(data[start + (2 if hevc else 1) : end], hevc=hevc)
        elif not keyframe and (kind < 32 if hevc else 1 <= kind <= 5):
            break  # the frame itself: what holds for it came before
    return found


def length_prefix(codec: str, extradata: bytes | None) -> int:
    """Return the size of the length field before each unit (MP4, Matroska); 0 if start codes separate units.

    >>> length_prefix("h264", bytes([1, 100, 0, 31, 0xFF])), length_prefix("hevc", None)
    (4, 0)
    """
    if not extradata or extradata[0] != 1:
        return 0
    at = 4 if codec == "h264" else 21
    return (extradata[at] & 3) + 1 if len(extradata) > at else 0


def _units(data: memoryview, prefix: int) -> Iterator[tuple[int, int]]:
    """Begin and end of the first units."""
    if prefix:
        at = 0
        for _ in range(_MOST_UNITS):
            start = at + prefix
            end = start + int.from_bytes(data[at:start], "big")
            if start >= len(data) or end <= start:
                return
            yield start, min(end, len(data))
            at = end
        return
    starts = _START_CODE.finditer(data)
    before = next(starts, None)
    for _ in range(_MOST_UNITS):
        if before is None or before.end() >= len(data):
            return
        # Only a message's end is needed: looking for that of a frame would read all of it.
        yield before.end(), len(data)
        before = next(starts, None)


def _payloads(unit: memoryview, *, hevc: bool) -> Iterator[Message]:
    # A message ends long before so many bytes; what others hold may be longer.
    raw = bytes(unit[:4096])
    following = raw.find(b"\0\0\1")
    raw = (raw if following < 0 else raw[:following]).replace(b"\0\0\3", b"\0\0")
    at = 0
    while at + 2 < len(raw):
        kind, at = _sum(raw, at)
        size, at = _sum(raw, at)
        payload = raw[at : at + size]
        at += size
        if kind not in (FRAME_PACKING, DISPLAY_ORIENTATION):
            continue
        try:
            bits = _Bits(payload)
            yield _packing(bits, hevc=hevc) if kind == FRAME_PACKING else _orientation(bits, hevc=hevc)
        except ValueError:  # cut off
            continue


def _sum(raw: bytes, at: int) -> tuple[int, int]:
    """A number written as a sum of bytes, of which all but the last are 255; and where it ends."""
    total = 0
    while at < len(raw):
        total += raw[at]
        at += 1
        if raw[at - 1] != 255:
            break
    return total, at


class _Bits:
    """Reads numbers bit by bit.

    Raises:
        ValueError: While reading, at the end.
    """

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def take(self, count: int) -> int:
        if count > self._left:
            raise ValueError("the message is cut off")
        self._left -= count
        return (self._value >> self._left) & ((1 << count) - 1)

    def golomb(self) -> int:
        """Read an Exp-Golomb number, ue(v)."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + (self.take(zeros) if zeros else 0)


def _persists(bits: _Bits, *, hevc: bool) -> bool:
    return bool(bits.take(1)) if hevc else bits.golomb() > 0


def _orientation(bits: _Bits, *, hevc: bool) -> Message:
    if bits.take(1):
        return Message(DISPLAY_ORIENTATION, cancels=True)
    across, down = bits.take(1), bits.take(1)
    # Flipped first, then turned: what is flipped both ways or upside down is turned by half as well.
    turn_deg = (180 * down - bits.take(16) * 360 / 65536) % 360
    return Message(
        DISPLAY_ORIENTATION,
        cancels=False,
        persists=_persists(bits, hevc=hevc),
        mirrored=across != down,
        turn_deg=round(turn_deg / 90) * 90 % 360,
    )


def _packing(bits: _Bits, *, hevc: bool) -> Message:
    bits.golomb()  # the message's number
    if bits.take(1):
        return Message(FRAME_PACKING, cancels=True)
    arrangement, quincunx = bits.take(7), bits.take(1)
    right_first = bits.take(6) == 2
    bits.take(6)
    if not quincunx and arrangement != 5:
        bits.take(16)
    bits.take(8)
    return Message(
        FRAME_PACKING,
        cancels=False,
        persists=_persists(bits, hevc=hevc),
        arrangement=arrangement,
        right_first=right_first,
    )
