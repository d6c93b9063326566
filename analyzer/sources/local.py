"""Local files and folders: what they contain, and the identity of files."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from analyzer.errors import SourceError, SourceErrorKind
from analyzer.sources.types import Item, LeftOut, MediaKind, Video, failed_item
from analyzer.util.text import well_formed

__all__ = [
    "BLOCK_BYTES",
    "file_mode_of",
    "fingerprint_of",
    "images_together",
    "irregular_file_error",
    "local_identity",
    "local_items",
    "local_video",
    "missing_file_error",
    "with_paths",
]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})

VIDEO_SUFFIXES = frozenset(
    {".3g2", ".3gp", ".apng", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"}
    | {".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv"}
)
"""The videos that are listed of a folder. A file that is named itself may have any suffix."""

BLOCK_BYTES = 32 * 1024
"""The least that must arrive within `Settings.timeout_s` during a download (1.6 kB/s by default), and the
size of the blocks in which bodies are read: only a whole block counts as progress."""

_FINGERPRINT_BYTES = 1024 * 1024


def _natural(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key by which ``2.png`` comes before ``10.png``."""
    parts = re.split(r"([0-9]+)", name.casefold())
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts if part], name


def file_mode_of(source: str) -> int | None:
    """Return the mode of the file or folder with this name; None if there is none."""
    try:
        return Path(source).stat().st_mode if source else None
    except (OSError, ValueError):  # ValueError: a NUL character
        return None


def images_together(sources: Iterable[str]) -> list[str | tuple[str, ...]]:
    """Join all image files among sources into one source, in place of the first: they make one run.

    >>> images_together(["talk.mp4", "https://example.org/a"])
    ['talk.mp4', 'https://example.org/a']
    """
    named = list(sources)
    images = [source for source in named if _names_image(source)]
    if len(images) < 2:
        return [*named]
    first = named.index(images[0])
    others = [source for source in named[first:] if not _names_image(source)]
    return [*named[:first], tuple(images), *others]


def _names_image(source: str) -> bool:
    mode = file_mode_of(source)
    return mode is not None and stat.S_ISREG(mode) and _is_image(Path(source))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def local_items(
    path: Path,
    source: str,
    mode: int,
    *,
    recursive: bool = False,
    images: bool = False,
    limit: int | None = None,
) -> tuple[list[Item], LeftOut | None]:
    """List the items of a file or folder, and what of a folder is left out.

    Args:
        path: The file or folder.
        source: Its name as the user wrote it.
        mode: Its mode.
        recursive: Whether subfolders are searched.
        images: Whether images in a folder of videos are included.
        limit: The most images of each folder.

    Raises:
        SourceError: It is neither, cannot be read, or only its subfolders contain something.
    """
    if not stat.S_ISDIR(mode):
        if not stat.S_ISREG(mode):
            raise irregular_file_error(source)
        kind = MediaKind.IMAGES if _is_image(path) else MediaKind.VIDEO
        return [Item(source, kind, (path,), path.stem)], None
    items: list[Item] = []
    image_sets: list[Item] = []
    for folder in _folders(path) if recursive else (path,):
        try:
            files = _media_files(folder)
        except OSError as error:
            message = f"the folder {folder} cannot be read: {error.strerror}"
            failure = SourceError(message, kind=SourceErrorKind.OTHER, source=str(folder))
            if folder == path:
                raise failure from error
            items.append(failed_item(failure, str(folder)))
            continue
        found = tuple(each for each in files if _is_image(each))
        videos = (each for each in files if not _is_image(each))
        items += [Item(str(each), MediaKind.VIDEO, (each,), each.stem) for each in videos]
        if found:
            # The user's words identify the folder in later runs; its path identifies a subfolder.
            name = source if folder == path else str(folder)
            image_sets.append(Item(name, MediaKind.IMAGES, found[:limit], folder.resolve().name))
    # Downloaders and media servers put covers and thumbnails beside videos, or into folders beside them.
    beside = 0
    if image_sets and not images and any(item.error is None for item in items):
        beside = sum(len(each.paths) for each in image_sets)
        image_sets = []
    items += image_sets
    below = None if recursive else _first_below(path)
    if not items and below is not None:
        raise SourceError(
            f"the folder {source} contains no video or image, but its subfolders do, such as "
            f"{below.relative_to(path)}: add --recursive (in a jobs file: recursive = true) to search them",
            kind=SourceErrorKind.NESTED,
            source=source,
        )
    if not beside and below is None:
        return items, None
    return items, LeftOut(well_formed(source), beside, below is not None)


_MAX_SEARCHED = 2000
"""The most subfolders that are searched only to tell the user that they contain a video."""


def _media_files(folder: Path) -> list[Path]:
    """List the videos and images directly in a folder, in natural order of their names.

    Raises:
        OSError: It cannot be read.
    """
    suffixes = VIDEO_SUFFIXES | IMAGE_SUFFIXES
    names = [each for each in folder.iterdir() if not each.name.startswith(".")]
    files = [each for each in names if each.suffix.lower() in suffixes and each.is_file()]
    # The charts of a report are beside its runs.
    if any(_is_chart(each) for each in files) and any(_is_run(each) for each in names):
        files = [each for each in files if not _is_chart(each)]
    return sorted(files, key=lambda each: _natural(each.name))


def _is_chart(path: Path) -> bool:
    return path.name.startswith("report-") and path.suffix == ".png"


def _is_run(folder: Path) -> bool:
    """Return whether a folder is a run, finished or not: its annotated video is not a source."""
    try:
        if any((folder / name).is_dir() for name in (".new", ".parts")):
            return True
        info = json.loads((folder / "run.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(info, dict) and "analyzer_version" in info


def _folders(root: Path) -> Iterator[Path]:
    """Yield a folder and its subfolders, depth first, in natural order of their names.

    Hidden folders and runs are skipped. Links to folders are not followed: they may form a cycle, or lead
    out of the folder.
    """
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        yield folder
        try:
            with os.scandir(folder) as entries:
                below = [Path(entry.path) for entry in entries if _is_subfolder(entry)]
        except OSError:  # reported when it is listed
            continue
        below.sort(key=lambda each: _natural(each.name), reverse=True)
        waiting += [each for each in below if not _is_run(each)]


def _is_subfolder(entry: os.DirEntry[str]) -> bool:
    try:
        return not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _first_below(path: Path) -> Path | None:
    """Return the first video in the subfolders of a folder, else the first image, else None."""
    image = None
    for folder in itertools.islice(_folders(path), 1, _MAX_SEARCHED):
        with contextlib.suppress(OSError):
            for each in _media_files(folder):
                if not _is_image(each):
                    return each
                image = image or each
    return image


def missing_file_error(source: str) -> SourceError:
    """The error for a path without a file."""
    return SourceError(f"there is no file {source}", kind=SourceErrorKind.NOT_FOUND, source=source)


def irregular_file_error(source: str) -> SourceError:
    """The error for a device, pipe or socket."""
    return SourceError(f"{source} is not a regular file", kind=SourceErrorKind.UNSUPPORTED, source=source)


def _open_regular(path: Path) -> BinaryIO:
    """Open a regular file only: a FIFO would block until there is a writer, /dev/zero never ends.

    Raises:
        SourceError: It does not exist, is not readable, or is not a regular file.
    """
    try:
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError as error:
        raise missing_file_error(str(path)) from error
    except OSError as error:
        raise SourceError(
            f"the file {path} cannot be read: {error.strerror}", kind=SourceErrorKind.OTHER, source=str(path)
        ) from error
    try:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise irregular_file_error(str(path))
        return os.fdopen(number, "rb")
    except BaseException:
        os.close(number)
        raise


def fingerprint_of(path: Path) -> tuple[str, int]:
    """Return the sha256 of size, first and last MiB, and the size in bytes. Reads at most 2 MiB."""
    with _open_regular(path) as file:
        size = file.seek(0, os.SEEK_END)
        digest = hashlib.sha256(f"{size}:".encode())
        for start in (0, max(0, size - _FINGERPRINT_BYTES)):
            file.seek(start)
            digest.update(file.read(_FINGERPRINT_BYTES))
    return digest.hexdigest(), size


def with_paths(item: Item, limit: int | None) -> Item:
    """Add its files to an item that was made again from its path; at most `limit` images."""
    mode = file_mode_of(item.source) if not item.paths and item.entry is None and item.standalone else None
    if mode is None:
        return item
    for each in local_items(Path(item.source), item.source, mode, images=True, limit=limit)[0]:
        if each.source == item.source and each.kind == item.kind:
            return each
    return item


def local_identity(paths: Sequence[Path]) -> tuple[str, int]:
    """Return the `Video.video_id` of files, and their size in bytes.

    Raises:
        SourceError: A file does not exist or cannot be read.
    """
    prints = [(path.name, *fingerprint_of(path)) for path in paths]
    if len(prints) == 1:
        identity = prints[0][1]
    else:  # the names give the order of the images, so they count
        listing = "\n".join(f"{name}\0{size}\0{digest}" for name, digest, size in prints)
        identity = hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest()
    return _local_id(identity), sum(size for _, _, size in prints)


def _local_id(digest: str) -> str:
    """The `Video.video_id` of what has this hash. Digits alone, or with an e, would read as a number."""
    return f"file-{digest[:12]}"


def local_video(item: Item) -> Video:
    video_id, size = local_identity(item.paths)
    return Video(
        video_id=video_id,
        kind=item.kind,
        paths=item.paths,
        audio_path=None,
        source=well_formed(item.source),
        title=well_formed(item.title or item.paths[0].stem),
        url=None,
        channel=None,
        uploaded=None,
        uploaded_at=None,
        duration_s=None,
        fetched=False,
        details={"files": len(item.paths), "size_bytes": size},
    )
