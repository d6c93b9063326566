"""Folders of runs that only one process works in at a time."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from analyzer.errors import OutputError, is_full

__all__ = [
    "locked",
    "remove_leftovers",
    "remove_parts",
    "run_lock",
]

_LOCK = ".lock"


_TRIES = 1000
"""So often a folder may be removed by another process between two of our steps."""


_STAGING, _PARTS = ".new", ".parts"


@contextlib.contextmanager
def run_lock(folder: Path) -> Iterator[Path]:
    """Make a run's folder, keep other processes out of it, and give an empty staging folder inside.

    Raises:
        OutputError: The folder cannot be written, or another process works in it.
    """
    staging = folder / _STAGING
    with contextlib.ExitStack() as stack:
        try:
            locked(folder, stack)
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir()
        except BlockingIOError as error:
            raise OutputError(f"{folder} is in use by another run of the same video: wait for it") from error
        except OSError as error:
            raise OutputError(
                f"{folder} cannot be written ({error.strerror}): choose another folder with --out",
                no_space=is_full(error),
            ) from error
        stack.callback(shutil.rmtree, staging, ignore_errors=True)
        yield staging


def remove_leftovers(run_folder: Path) -> int:
    """Remove what a process has left that was killed after it had published a run: parts hold embeddings.

    Parts that are younger than the run are of another analysis, which goes on from them: they stay. So does a
    folder in which another process works. Not for live runs, which are published while they grow.

    Returns:
        How many bytes were removed.
    """
    try:
        published_ns = (run_folder / "run.json").stat().st_mtime_ns
    except OSError:
        return 0
    return _remove(run_folder, lambda part: part.stat().st_mtime_ns <= published_ns)


def remove_parts(run_folder: Path, key: str, *, until: float = math.inf) -> int:
    """Remove the unfinished segments of one analysis, and no others.

    A folder in which another process works stays as it is.

    Args:
        run_folder: The run's folder.
        key: Of the analysis, see `analyzer.runs.segments.PartStore`.
        until: Those that are younger stay; seconds since 1970.

    Returns:
        How many bytes were removed.
    """
    return _remove(run_folder, lambda part: part.name.startswith(f"{key}-") and part.stat().st_mtime <= until)


def _remove(run_folder: Path, unwanted: Callable[[Path], bool]) -> int:
    parts, staging = run_folder / _PARTS, run_folder / _STAGING
    size = 0
    if not parts.is_dir() and not staging.is_dir():
        return size
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        locked(run_folder, stack)
        # While nobody works here, what has no final name is of a process that was killed.
        gone = [staging] if staging.is_dir() else []
        gone += [part for part in parts.glob("*") if part.name.startswith(("new-", "old-")) or unwanted(part)]
        for path in gone:
            size += _size(path)
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        _remove_if_empty(parts)
    return size


def _size(path: Path) -> int:
    files: Iterable[Path] = path.rglob("*") if path.is_dir() else (path,)
    return sum(file.stat().st_size for file in files if file.is_file())


def locked(folder: Path, stack: contextlib.ExitStack) -> None:
    """Make and lock a folder; it goes again with the lock if nothing is in it.

    Raises:
        BlockingIOError: Another process holds it.
        OSError: It cannot be made or locked.
    """
    stack.callback(_remove_if_empty, folder)
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        folder.mkdir(parents=True, exist_ok=True)
        return
    path = folder / _LOCK
    for more in reversed(range(_TRIES)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # A file opened for writing: NFS locks nothing else, and no folders.
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except (FileExistsError, FileNotFoundError):  # who held the lock has just removed the folder
            if not more:
                raise
            continue
        # The system lets go of the lock when the process ends, however it ends.
        stack.callback(os.close, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                stack.callback(_remove_file, path)
                return
    raise BlockingIOError(f"{folder} is removed again and again")


def _remove_file(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()
