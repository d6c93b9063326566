"""Locks between processes, and the removal of what killed processes have left in run folders.

A lock is held on a file, by `filelock`: locks of folders do not exist on NFS. The system releases it when the
process ends, however it ends.
"""

from __future__ import annotations

import contextlib
import errno
import math
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from analyzer.errors import OutputError, is_full

if TYPE_CHECKING:
    from filelock import BaseFileLock

__all__ = [
    "file_lock",
    "folder_lock",
    "is_locked",
    "remove_leftovers",
    "remove_parts",
    "run_lock",
]

_LOCK = ".lock"

_PATIENCE_S = 0.2
"""The longest wait: longer than `is_locked` or a removal holds a lock, far shorter than an analysis does."""

_MAX_TRIES = 1000
"""How often another process may remove a folder between two of our steps."""

_STAGING, _PARTS = ".new", ".parts"


@contextlib.contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold a lock on a file for the block; the file is created and stays.

    Raises:
        BlockingIOError: Another process, or another thread, holds it.
        OSError: The file cannot be created or locked.
    """
    lock = _acquired(path)
    try:
        yield
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock on a file; permission to read the file is enough."""
    try:
        import fcntl
    except ImportError:  # Windows
        try:
            with file_lock(path):
                return False
        except OSError as error:
            return isinstance(error, BlockingIOError)
    try:
        with path.open("rb") as file:
            # Shared: two processes that ask at the same time must not see each other.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return isinstance(error, BlockingIOError)
    return False


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Create a folder and keep other processes out of it; an empty folder is removed with the lock.

    Raises:
        BlockingIOError: Another process, or another thread, holds it.
        OSError: The folder cannot be created or locked.
    """
    path = folder / _LOCK
    try:
        for tries_left in reversed(range(_MAX_TRIES)):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                lock = _acquired(path)
                break
            except (FileExistsError, FileNotFoundError):  # the last holder has just removed the folder
                if not tries_left:
                    raise
        try:
            yield
        finally:
            # Before the release: a process that waits for the removed file notices, and creates a new one.
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            lock.release()
    finally:
        _remove_if_empty(folder)


def _acquired(path: Path) -> BaseFileLock:
    import filelock

    # Without flock, filelock would fall back to files that outlive their process.
    lock = filelock.FileLock(
        path, timeout=_PATIENCE_S, poll_interval=0.02, thread_local=False, fallback_to_soft=False
    )
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise BlockingIOError(errno.EWOULDBLOCK, "it is locked by another process") from error
    return lock


@contextlib.contextmanager
def run_lock(folder: Path) -> Iterator[Path]:
    """Lock a run's folder for the block, and give an empty staging folder inside it.

    Raises:
        OutputError: The folder cannot be written, or another process works in it.
    """
    staging = folder / _STAGING
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(folder_lock(folder))
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
    """Remove what a process left that was killed after it had published a run: segments hold embeddings.

    Segments younger than the run belong to another analysis, which will resume from them: they stay. So does
    everything while another process works in the folder. Not for live runs, which are published as they grow.

    Returns:
        The number of bytes removed.
    """
    try:
        published_ns = (run_folder / "run.json").stat().st_mtime_ns
    except OSError:
        return 0
    return _remove(run_folder, lambda part: part.stat().st_mtime_ns <= published_ns)


def remove_parts(run_folder: Path, key: str, *, until: float = math.inf) -> int:
    """Remove the unfinished segments of one analysis, and no others.

    Nothing is removed while another process works in the folder.

    Args:
        run_folder: The run's folder.
        key: The key of the analysis, see `analyzer.runs.segments.PartStore`.
        until: Younger segments stay; seconds since 1970.

    Returns:
        The number of bytes removed.
    """
    return _remove(run_folder, lambda part: part.name.startswith(f"{key}-") and part.stat().st_mtime <= until)


def _remove(run_folder: Path, unwanted: Callable[[Path], bool]) -> int:
    parts, staging = run_folder / _PARTS, run_folder / _STAGING
    size = 0
    if not parts.is_dir() and not staging.is_dir():
        return size
    with contextlib.suppress(OSError), folder_lock(run_folder):
        # While the folder is locked, what has no final name was left by a killed process.
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


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()
