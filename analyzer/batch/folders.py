"""Folders that a batch run makes and removes."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from analyzer.batch.ledger import Work
from analyzer.errors import OutputError, is_full
from analyzer.runs.folders import run_folder
from analyzer.util.atomic import output_errors
from analyzer.util.locks import remove_parts

__all__ = [
    "DOWNLOADS",
    "download_folder",
    "holds_something",
    "is_complete",
    "keep_download",
    "make_folder",
    "remove_download",
    "remove_segments",
    "remove_unknown_downloads",
]

DOWNLOADS = ".batch-downloads"
"""Folder in the output folder, with a folder for each video that is downloaded and not done."""


def download_folder(out: Path, id: int) -> Path:
    """The folder of a video's download."""
    return out / DOWNLOADS / str(id)


def remove_download(out: Path, id: int) -> None:
    """Remove a video's download."""
    shutil.rmtree(download_folder(out, id), ignore_errors=True)
    with contextlib.suppress(OSError):
        (out / DOWNLOADS).rmdir()  # if nothing is left in it


def keep_download(out: Path, id: int, folder: Path) -> None:
    """Move the files of a video's download to a folder, replacing those of the same name.

    Raises:
        OutputError: They cannot be moved.
    """
    source = download_folder(out, id)
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for path in list(source.iterdir()) if source.is_dir() else ():
            path.replace(folder / path.name)


def remove_unknown_downloads(out: Path, is_needed: Callable[[int], bool]) -> None:
    """Remove the downloads of all videos that do not need theirs, by the ids of their rows."""
    downloads = out / DOWNLOADS
    for folder in downloads.iterdir() if downloads.is_dir() else ():
        if not (folder.name.isdecimal() and is_needed(int(folder.name))):
            shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        downloads.rmdir()


def remove_segments(work: Work) -> None:
    """Remove a video's own segments, and no other analysis's, from the folder of its run."""
    if work.parts_key is not None:
        folder = run_folder(work.folder, work.title or "", work.video_id or work.identity)
        remove_parts(folder, work.parts_key)


def is_complete(video: dict[str, Any]) -> bool:
    """Whether the files of a downloaded or local video are still there, unchanged in size.

    Args:
        video: From `video_document`.
    """
    try:
        sizes = [os.stat(path).st_size for path in video["paths"]]  # noqa: PTH116
        audio = video["audio_path"]
        return sum(sizes) == video["details"]["size_bytes"] - (os.stat(audio).st_size if audio else 0)  # noqa: PTH116
    except (OSError, KeyError, TypeError, ValueError):
        return False


def holds_something(folder: Path) -> bool:
    """Whether a folder exists and is not empty; the mount point of a disk that is not mounted is empty."""
    with contextlib.suppress(OSError):
        return any(folder.iterdir())
    return False


def make_folder(folder: Path) -> None:
    """Make a folder unless it exists.

    Raises:
        OutputError: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"the output folder {folder} cannot be made ({error.strerror}): choose another with --out",
            no_space=is_full(error),
        ) from error
