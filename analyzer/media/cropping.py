"""The cropping that containers declare: `clap` of MP4, `PixelCrop` of Matroska.

FFmpeg reads both, but hands them on where Python cannot see them. Only headers are read here, of files that
FFmpeg has already opened; anything odd in them means no cropping.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

__all__ = ["NOTHING", "Cropping", "declared_cropping"]

_MOST_BOXES = 10_000
_MOST_HEADER = 64_000_000
"""Bytes of an index that are read, at most."""


@dataclass(frozen=True)
class Cropping:
    """Rows and columns to crop, in stored pixels."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0


NOTHING = Cropping()


def declared_cropping(path: Path, container: str, track: int, size: tuple[int, int]) -> Cropping:
    """Return the cropping that a container declares.

    Args:
        path: The file.
        container: FFmpeg's name of its format.
        track: Number of the stream in the file, from 0.
        size: Width and height of the stored frames in pixels.
    """
    try:
        with path.open("rb") as file:
            if "mp4" in container.split(","):
                found = _of_mp4(file, track, size)
            elif "matroska" in container.split(","):
                found = _of_matroska(file, track)
            else:
                return NOTHING
    except (OSError, ValueError, struct.error, ZeroDivisionError, IndexError):
        return NOTHING
    width, height = size[0] - found.left - found.right, size[1] - found.top - found.bottom
    sane = min(found.left, found.top, found.right, found.bottom) >= 0 and width > 1 and height > 1
    return found if sane else NOTHING


# --- MP4 ---


def _of_mp4(file: BinaryIO, track: int, size: tuple[int, int]) -> Cropping:
    index = _index_of_mp4(file)
    tracks = [body for kind, body in _boxes(index) if kind == b"trak"]
    body = tracks[track]
    for name in (b"mdia", b"minf", b"stbl", b"stsd"):
        body = next((inner for kind, inner in _boxes(body) if kind == name), b"")
    # A version and a count, then descriptions; that of frames has 78 bytes before its own boxes.
    _, description = next(_boxes(body[8:]), (b"", b""))
    for kind, inner in _boxes(description[78:]):
        if kind == b"clap":
            return _clean_aperture(inner, size)
    return NOTHING


def _clean_aperture(box: bytes, size: tuple[int, int]) -> Cropping:
    numbers = struct.unpack(">IIIIiIiI", box[:32])
    wide, high, across, down = (Fraction(numbers[at], numbers[at + 1]) for at in (0, 2, 4, 6))
    # The offset of its center from that of the frame.
    left = (size[0] - wide) / 2 + across
    top = (size[1] - high) / 2 + down
    return Cropping(round(left), round(top), size[0] - round(left + wide), size[1] - round(top + high))


def _index_of_mp4(file: BinaryIO) -> bytes:
    file.seek(0, 2)
    end, at = file.tell(), 0
    for _ in range(_MOST_BOXES):
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        begin = 8
        if length == 1:
            length, begin = int.from_bytes(head[8:16], "big"), 16
        elif length == 0:
            length = end - at
        if length < begin or at >= end:
            return b""
        if head[4:8] == b"moov":
            file.seek(at + begin)
            return file.read(min(length - begin, _MOST_HEADER))
        at += length
    return b""


def _boxes(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(body):
        length = int.from_bytes(body[at : at + 4], "big")
        if length < 8:
            return
        yield body[at + 4 : at + 8], body[at + 8 : at + length]
        at += length


# --- Matroska ---

_SEGMENT, _TRACKS, _CLUSTER = 0x18538067, 0x1654AE6B, 0x1F43B675
_TRACK, _VIDEO = 0xAE, 0xE0
_CROPS = {0x54CC: "left", 0x54BB: "top", 0x54DD: "right", 0x54AA: "bottom"}


def _of_matroska(file: BinaryIO, track: int) -> Cropping:
    at = 0
    for _ in range(_MOST_BOXES):
        name, length, begin = _element(file, at)
        if name == _SEGMENT:
            at = begin  # its length is not always known
            continue
        if name == _CLUSTER or length is None:
            return NOTHING
        if name == _TRACKS:
            return _of_tracks(file, begin, begin + length, track)
        at = begin + length
    return NOTHING


def _of_tracks(file: BinaryIO, at: int, end: int, track: int) -> Cropping:
    entries = [(begin, begin + length) for name, length, begin in _elements(file, at, end) if name == _TRACK]
    begin, end = entries[track]
    crops: dict[str, int] = {}
    for name, length, inner in _elements(file, begin, end):
        if name != _VIDEO:
            continue
        for kind, size, value in _elements(file, inner, inner + length):
            if kind in _CROPS:
                file.seek(value)
                crops[_CROPS[kind]] = int.from_bytes(file.read(min(size, 8)), "big")
    return Cropping(**crops)


def _elements(file: BinaryIO, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Name, length and begin of the content of each element."""
    for _ in range(_MOST_BOXES):
        if at >= end:
            return
        name, length, begin = _element(file, at)
        if length is None:
            return
        yield name, length, begin
        at = begin + length


def _element(file: BinaryIO, at: int) -> tuple[int, int | None, int]:
    file.seek(at)
    head = file.read(12)
    name_bytes = 9 - head[0].bit_length()
    first = head[name_bytes]
    length_bytes = 9 - first.bit_length()
    raw = int.from_bytes(head[name_bytes : name_bytes + length_bytes], "big")
    length: int | None = raw & ((1 << 7 * length_bytes) - 1)
    if length == (1 << 7 * length_bytes) - 1:
        length = None
    return int.from_bytes(head[:name_bytes], "big"), length, at + name_bytes + length_bytes
