"""Folders of runs that only one process works in at a time."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from analyzer.errors import (
    OutputError,
    is_full,
)

__all__ = ["claimed", "locked", "remove_leftovers"]


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[Path]:
    """Make a run's folder, keep other processes out of it, and give an empty staging folder inside.

    Raises:
        OutputError: The folder cannot be written, or another process works in it.
    """
    staging = folder / ".new"
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


def remove_leftovers(run_folder: Path) -> None:
    """Remove what a process has left that was killed after it had published a run: parts hold embeddings.

    A folder in which another process works stays as it is.
    """
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        locked(run_folder, stack)
        for name in (".new", ".parts"):
            shutil.rmtree(run_folder / name, ignore_errors=True)


def locked(folder: Path, stack: contextlib.ExitStack) -> None:
    """Make and lock a folder; it goes again with the lock if nothing is in it."""
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        folder.mkdir(parents=True, exist_ok=True)
        stack.callback(_remove_if_empty, folder)
        return
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        # The system lets go of the lock when the process ends, however it ends.
        descriptor = os.open(folder, os.O_RDONLY)
        stack.callback(os.close, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), folder.stat()):
                stack.callback(_remove_if_empty, folder)
                return


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()
