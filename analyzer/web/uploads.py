"""Uploads: streamed to the disk under limits, with names of our own.

What a visitor calls a file is only ever shown. Its content decides whether it is taken for a video or an
image; whether it can be read turns out when a process under limits opens it.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from analyzer.errors import AnalyzerError
from analyzer.sources.local import VIDEO_SUFFIXES
from analyzer.util.text import one_line
from analyzer.web.config import ServeConfig

__all__ = ["UploadError", "Uploaded", "UploadedFile", "file_names", "image_suffix", "names_video", "receive"]

_HEAD_BYTES = 1024
_BUFFER_BYTES = 2**20
_LONGEST_NAME = 200
_LONGEST_STEM = 60
_MAX_FIELDS = 20
_NOT_MEDIA = "is neither a video nor an image in a format that can be read"

_IMAGES = (
    (b"\xff\xd8\xff", ".jpg"),
    (b"\x89PNG\r\n\x1a\n", ".png"),
    (b"BM", ".bmp"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
)
_VIDEOS = (
    *(b"\x1a\x45\xdf\xa3", b"FLV", b"GIF8", b"OggS", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
    *(b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3"),
)
_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip", b"pnot")
_TS_PACKETS = ((0, 188), (4, 192), (0, 204))


class UploadError(AnalyzerError):
    """An upload was refused.

    Attributes:
        status: The status of the answer.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class UploadedFile:
    """A file that was received."""

    path: Path
    """Where it is, under a name of our own."""
    name: str
    """What the visitor calls it, made safe to show."""
    size_bytes: int
    image: bool


@dataclass
class Uploaded:
    """What was received."""

    files: list[UploadedFile] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)


def image_suffix(head: bytes) -> str | None:
    """The suffix of the image that begins like this; None: it is none."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return ".webp"
    if head.startswith(_IMAGES[1][0]) and b"acTL" in head:  # a PNG that moves
        return None
    return next((suffix for start, suffix in _IMAGES if head.startswith(start)), None)


def names_video(head: bytes) -> bool:
    """Whether a file that begins like this may be a video."""
    return (
        head.startswith(_VIDEOS)
        or head[4:8] in _BOXES
        or (head[:4] == b"RIFF" and head[8:11] == b"AVI")
        or (head.startswith(_IMAGES[1][0]) and b"acTL" in head)
        or any(
            head[first : first + 1] == b"G" == head[first + step : first + step + 1]
            for first, step in _TS_PACKETS
        )
    )


async def receive(request: Request, folder: Path, config: ServeConfig) -> Uploaded:
    """Receive a form with files.

    Args:
        request: Its body has the type ``multipart/form-data``.
        folder: An existing, empty folder; files of an upload that is refused stay for the caller to remove.
        config: The limits.

    Raises:
        UploadError: It is too large, malformed, stalled, or not a video or image; the disk is almost full.
        OSError: It cannot be written.
    """
    limit = config.max_upload_mb * 10**6
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(config)
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise UploadError(415, "the upload must be of the type multipart/form-data")
    receiver = _Receiver(folder, config)
    try:
        parser = MultipartParser(
            options[b"boundary"],
            {
                "on_part_begin": receiver.on_part_begin,
                "on_part_data": receiver.on_part_data,
                "on_part_end": receiver.on_part_end,
                "on_header_field": receiver.on_header_field,
                "on_header_value": receiver.on_header_value,
                "on_header_end": receiver.on_header_end,
                "on_headers_finished": receiver.on_headers_finished,
                "on_end": receiver.on_end,
            },
            max_header_size=config.max_field_bytes,
        )
        received, buffer = 0, bytearray()
        async for chunk in _chunks(request, config.upload_stall_s):
            received += len(chunk)
            if received > limit:
                raise _too_large(config)
            buffer += chunk
            if len(buffer) >= _BUFFER_BYTES:
                await asyncio.to_thread(_parse, parser, bytes(buffer), folder, config)
                buffer.clear()
        await asyncio.to_thread(_parse, parser, bytes(buffer), folder, config)
        parser.finalize()
        if not receiver.ended:
            raise UploadError(400, "the upload ended too early")
    except FormParserError as error:
        raise UploadError(400, "the upload is malformed") from error
    except ClientDisconnect as error:
        raise UploadError(400, "the upload was broken off") from error
    finally:
        receiver.close()
    return receiver.uploaded


def _parse(parser: MultipartParser, data: bytes, folder: Path, config: ServeConfig) -> None:
    """Write the files in a piece of an upload to the disk.

    Raises:
        UploadError: That would leave less free space than the reserve, or the receiver refuses it.
    """
    if shutil.disk_usage(folder).free < config.reserve_mb * 10**6 + len(data):
        raise UploadError(507, "the disk of the server is almost full")
    parser.write(data)


def _too_large(config: ServeConfig) -> UploadError:
    return UploadError(413, f"the upload is larger than {config.max_upload_mb} MB, the limit of this server")


async def _chunks(request: Request, stall_s: float) -> AsyncIterator[bytes]:
    stream = aiter(request.stream())
    while True:
        try:
            yield await asyncio.wait_for(anext(stream), stall_s)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise UploadError(408, f"nothing has arrived for {stall_s:g} s") from error


class _Receiver:
    """Callbacks of the parser."""

    def __init__(self, folder: Path, config: ServeConfig) -> None:
        self.uploaded = Uploaded()
        self.ended = False
        self._folder = folder
        self._config = config
        self._header = bytearray()
        self._value = bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._field: str | None = None
        """Name of the field; None in a file."""
        self._text = bytearray()
        self._name = ""
        self._count = 0
        self._file: BinaryIO | None = None
        self._path = Path()
        self._size = 0
        self._head = bytearray()

    # -- headers

    def on_part_begin(self) -> None:
        self._headers.clear()

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        self._headers[bytes(self._header).lower()] = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        field_name = options.get(b"name", b"").decode("utf-8", "replace")
        if b"filename" not in options:
            if len(self.uploaded.fields) >= _MAX_FIELDS:
                raise UploadError(400, "the upload has too many fields")
            self._field = field_name
            self._text.clear()
            return
        if self._count >= self._config.max_files:
            raise UploadError(413, f"the upload has more than {self._config.max_files} files")
        self._count += 1
        self._field = None
        self._name = _shown(options[b"filename"].decode("utf-8", "replace")) or f"file {self._count}"
        self._path = self._folder / f"{self._count:04}.part"
        self._file = self._path.open("xb")
        self._size = 0
        self._head.clear()

    # -- data

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._field is not None:
            if len(self._text) + end - start > self._config.max_field_bytes:
                raise UploadError(413, "a field of the upload is too long")
            self._text += data[start:end]
            return
        if len(self._head) < _HEAD_BYTES:
            self._head += data[start : min(end, start + _HEAD_BYTES - len(self._head))]
        if self._file is not None:
            self._file.write(data[start:end])
        self._size += end - start

    def on_part_end(self) -> None:
        if self._field is not None:
            self.uploaded.fields[self._field] = self._text.decode("utf-8", "replace")
            self._field = None
        elif self._file is not None:
            self._end_file()

    def on_end(self) -> None:
        self.ended = True

    def _end_file(self) -> None:
        assert self._file is not None
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._file = None
        head = bytes(self._head)
        if not self._size and self._name == f"file {self._count}":  # a form without a chosen file
            self._path.unlink()
            return
        suffix = image_suffix(head)
        image = suffix is not None
        if suffix is None:
            if not names_video(head):
                raise UploadError(415, f"{self._name} {_NOT_MEDIA}")
            given = PurePosixPath(self._name).suffix.lower()
            suffix = given if given in VIDEO_SUFFIXES else ".mp4"
        path = self._path.with_suffix(suffix)
        self._path.replace(path)
        self.uploaded.files.append(UploadedFile(path, self._name, self._size, image))

    def close(self) -> None:
        """Close an unfinished file."""
        if self._file is not None:
            self._file.close()


def file_names(files: Sequence[UploadedFile]) -> list[str]:
    """What the files are called on the server and in the tables: as by the visitor, as far as that is safe.

    Letters, digits and a few signs are kept, and the suffix is that of the content. No two names differ only
    in case.

    >>> import dataclasses
    >>> one = UploadedFile(Path("0001.jpg"), "../.Günter & Ada?.png", 9, image=True)
    >>> file_names([one, one, dataclasses.replace(one, name="...")])
    ['Günter _ Ada_.jpg', 'Günter _ Ada_-2.jpg', 'file 3.jpg']
    """
    names: dict[str, str] = {}
    for number, each in enumerate(files, 1):
        stem = re.sub(r"[^\w ().,+-]", "_", PurePosixPath(_shown(each.name)).stem)[:_LONGEST_STEM]
        stem = stem.strip(" .") or f"file {number}"
        name, again = f"{stem}{each.path.suffix}", 1
        while name.casefold() in names:
            again += 1
            name = f"{stem}-{again}{each.path.suffix}"
        names[name.casefold()] = name
    return list(names.values())


def _shown(name: str) -> str:
    """The last part of a file's name, safe to show."""
    last = PureWindowsPath(PurePosixPath(name.replace("\0", "")).name).name
    return one_line(last, _LONGEST_NAME)
