"""Local files and folders."""

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
    "with_paths",
]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})


VIDEO_SUFFIXES = frozenset(
    {".3g2", ".3gp", ".apng", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"}
    | {".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv"}
)
"""What is picked from a folder. A file that is named by itself may have any suffix."""


BLOCK_BYTES = 32 * 1024
"""The least that must arrive within `Settings.timeout_s` while downloading (1.6 kB/s by default), and the
size of the pieces in which bodies are read: progress is seen once a whole piece is there."""


_FINGERPRINT_BYTES = 1024 * 1024


def _natural(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key by which ``2.png`` comes before ``10.png``."""
    parts = re.split(r"([0-9]+)", name.casefold())
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts if part], name


def file_mode_of(source: str) -> int | None:
    """The mode of the file or folder with this name; None if there is none."""
    try:
        return Path(source).stat().st_mode if source else None
    except (OSError, ValueError):  # ValueError: a NUL character
        return None


def images_together(sources: Iterable[str]) -> list[str | tuple[str, ...]]:
    """Sources with all picture files as one, in the place of the first: pictures that are named at once are
    one run, whatever stands between them.
    """
    named = list(sources)
    pictures = [source for source in named if _names_picture(source)]
    if len(pictures) < 2:
        return [*named]
    first = named.index(pictures[0])
    others = [source for source in named[first:] if not _names_picture(source)]
    return [*named[:first], tuple(pictures), *others]


def _names_picture(source: str) -> bool:
    mode = file_mode_of(source)
    return mode is not None and stat.S_ISREG(mode) and _is_picture(Path(source))


def _is_picture(path: Path) -> bool:
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
    """What a file or folder holds, and what of a folder is left out.

    Args:
        path: The file or folder.
        source: Its name as the user wrote it.
        mode: Its mode.
        recursive: Whether subfolders are searched, too.
        images: Whether images count that lie in a folder of videos.
        limit: So many images at most of each folder.

    Raises:
        SourceError: It is neither, cannot be read, or only its subfolders hold something.
    """
    if not stat.S_ISDIR(mode):
        if not stat.S_ISREG(mode):
            raise irregular_file_error(source)
        kind = MediaKind.IMAGES if _is_picture(path) else MediaKind.VIDEO
        return [Item(source, kind, (path,), path.stem)], None
    items: list[Item] = []
    best_crops: list[Item] = []
    for folder in _folders(path) if recursive else (path,):
        try:
            files = _media_files(folder)
        except OSError as error:
            message = f"The folder {folder} cannot be read: {error.strerror}"
            failure = SourceError(message, kind=SourceErrorKind.OTHER, source=str(folder))
            if folder == path:
                raise failure from error
            items.append(failed_item(failure, str(folder)))
            continue
        shots = tuple(each for each in files if _is_picture(each))
        videos = (each for each in files if not _is_picture(each))
        items += [Item(str(each), MediaKind.VIDEO, (each,), each.stem) for each in videos]
        if shots:
            # What the user wrote names the folder again; a subfolder is named by its path.
            name = source if folder == path else str(folder)
            best_crops.append(Item(name, MediaKind.IMAGES, shots[:limit], folder.resolve().name))
    # Downloaders and media servers put covers and thumbnails beside videos, or into folders beside them.
    beside = 0
    if best_crops and not images and any(item.error is None for item in items):
        beside = sum(len(best_crops.paths) for best_crops in best_crops)
        best_crops = []
    items += best_crops
    below = None if recursive else _first_below(path)
    if not items and below is not None:
        raise SourceError(
            f"The folder {source} holds nothing to analyze itself, but its subfolders do, such as "
            f"{below.relative_to(path)}: add --recursive to search them, too",
            kind=SourceErrorKind.NESTED,
            source=source,
        )
    if not beside and below is None:
        return items, None
    return items, LeftOut(well_formed(source), beside, below is not None)


_MOST_SEARCHED = 2000
"""In so many subfolders it is looked whether they hold a video, where only to say so."""


def _media_files(folder: Path) -> list[Path]:
    """The videos and images that lie in a folder itself, in natural order of their names.

    Raises:
        OSError: It cannot be read.
    """
    suffixes = VIDEO_SUFFIXES | IMAGE_SUFFIXES
    names = [each for each in folder.iterdir() if not each.name.startswith(".")]
    files = [each for each in names if each.suffix.lower() in suffixes and each.is_file()]
    # A report's charts lie beside the runs that it is about.
    if any(_is_chart(each) for each in files) and any(_is_run(each) for each in names):
        files = [each for each in files if not _is_chart(each)]
    return sorted(files, key=lambda each: _natural(each.name))


def _is_chart(path: Path) -> bool:
    return path.name.startswith("report-") and path.suffix == ".png"


def _is_run(folder: Path) -> bool:
    """Whether a folder holds a run of ours, finished or not: its annotated video is no source."""
    try:
        if any((folder / name).is_dir() for name in (".new", ".parts")):
            return True
        info = json.loads((folder / "run.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(info, dict) and "analyzer_version" in info


def _folders(root: Path) -> Iterator[Path]:
    """A folder and its subfolders, depth first, in natural order of their names.

    Neither hidden ones nor runs of ours. Links to folders are not followed: they may lead round in a circle,
    or out of the folder.
    """
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        yield folder
        try:
            with os.scandir(folder) as entries:
                below = [Path(entry.path) for entry in entries if _is_subfolder(entry)]
        except OSError:  # whoever lists it says so
            continue
        below.sort(key=lambda each: _natural(each.name), reverse=True)
        waiting += [each for each in below if not _is_run(each)]


def _is_subfolder(entry: os.DirEntry[str]) -> bool:
    try:
        return not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _first_below(path: Path) -> Path | None:
    """The first video or image in the subfolders of a folder; a video, if there is one."""
    picture = None
    for folder in itertools.islice(_folders(path), 1, _MOST_SEARCHED):
        with contextlib.suppress(OSError):
            for each in _media_files(folder):
                if not _is_picture(each):
                    return each
                picture = picture or each
    return picture


def irregular_file_error(source: str) -> SourceError:
    return SourceError(f"{source} is not a regular file", kind=SourceErrorKind.UNSUPPORTED, source=source)


def _open_regular(path: Path) -> BinaryIO:
    """Open a file that cannot block: opening a FIFO would wait for a writer, /dev/zero never ends.

    Raises:
        SourceError: Not there, not readable, or not a regular file.
    """
    try:
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError as error:
        raise SourceError(
            f"There is no file {path}", kind=SourceErrorKind.NOT_FOUND, source=str(path)
        ) from error
    except OSError as error:
        raise SourceError(
            f"The file {path} cannot be read: {error.strerror}", kind=SourceErrorKind.OTHER, source=str(path)
        ) from error
    try:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise irregular_file_error(str(path))
        return os.fdopen(number, "rb")
    except BaseException:
        os.close(number)
        raise


def fingerprint_of(path: Path) -> tuple[str, int]:
    """sha256 of size, first and last MiB, and the size in bytes. Reads at most 2 MiB."""
    with _open_regular(path) as file:
        size = file.seek(0, os.SEEK_END)
        digest = hashlib.sha256(f"{size}:".encode())
        for start in (0, max(0, size - _FINGERPRINT_BYTES)):
            file.seek(start)
            digest.update(file.read(_FINGERPRINT_BYTES))
    return digest.hexdigest(), size


def with_paths(item: Item, limit: int | None) -> Item:
    """An item that was made again from its path, with the files that it names; `limit` images at most."""
    mode = file_mode_of(item.source) if not item.paths and item.entry is None and item.standalone else None
    if mode is None:
        return item
    for each in local_items(Path(item.source), item.source, mode, images=True, limit=limit)[0]:
        if each.source == item.source and each.kind == item.kind:
            return each
    return item


def local_identity(paths: Sequence[Path]) -> tuple[str, int]:
    """The `Video.video_id` of files, and their size in bytes.

    Raises:
        SourceError: A file is gone or cannot be read.
    """
    prints = [(path.name, *fingerprint_of(path)) for path in paths]
    if len(prints) == 1:
        identity = prints[0][1]
    else:  # the names give the order of the pictures, so they count
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
