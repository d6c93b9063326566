"""Source files on a machine that analyzes: found there, or received or downloaded once and shared by all its
workers.

Such a file lies in a folder of its own, named by its fingerprint::

    <folder>/.lock                    held for moments, by whoever comes or goes
    <folder>/<fingerprint>/user-*     locked by each worker that needs the file
    <folder>/<fingerprint>/.filling   locked by the worker that receives it; the others wait
    <folder>/<fingerprint>/.received  what has arrived so far
    <folder>/<fingerprint>/<name>     the whole file

The system releases the locks of a process that is killed, so whoever comes next removes what it has left.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from analyzer.errors import OutputError, SourceError, StoppedError
from analyzer.sources.local import fingerprint_of
from analyzer.util.atomic import output_errors
from analyzer.util.locks import file_lock, is_locked

__all__ = ["SCRATCH_OPTION", "Receive", "SourceFile", "found_here", "kept", "provided"]

_LOCK, _FILLING, _RECEIVED, _USER = ".lock", ".filling", ".received", "user-"
_ASK_S = 0.1
_PIECE_BYTES = 8 * 2**20
SCRATCH_OPTION = "[executor] scratch"

_held: set[Path] = set()
"""The ``user-*`` files that this process has locked."""
_one_thread = threading.Lock()
"""Held with ``.lock``."""

Receive = Callable[[int, int], bytes]
"""Called with an offset in the file and a number of bytes; returns at most so many, and at
least one unless the file has become shorter."""


@dataclass(frozen=True)
class SourceFile:
    """A file as the batch's machine has it."""

    path: Path
    """On that machine. The name of the file is kept: messages name it."""
    fingerprint: str
    """Of `analyzer.sources.local.fingerprint_of`."""
    size_bytes: int

    @classmethod
    def of(cls, path: Path) -> Self:
        """Describe a file on this machine.

        Raises:
            SourceError: It cannot be read.
        """
        return cls(path, *fingerprint_of(path))


def found_here(file: SourceFile) -> bool:
    """Tell whether this machine sees the same file at the same path."""
    try:
        return fingerprint_of(file.path) == (file.fingerprint, file.size_bytes)
    except (SourceError, OSError):
        return False


@contextlib.contextmanager
def provided(
    folder: Path, file: SourceFile, receive: Receive, cancelled: Callable[[], bool]
) -> Iterator[Path]:
    """Give a copy of a file on this machine for the block. The last one that needs it removes it.

    Args:
        folder: For received files, owned by this user; created if it does not exist.
        file: What is needed.
        receive: Fetches the file, unless another worker of the machine has or does.
        cancelled: Asked some times a second; once true, waiting ends.

    Raises:
        OutputError: It cannot be written; or the received file is not the same.
        StoppedError: It was canceled.
        Exception: Whatever `receive` raises.
    """
    with _home(folder, file.fingerprint, cancelled) as home:
        final = home / file.path.name
        while not final.exists():
            with contextlib.ExitStack() as filling:
                if not _locked(filling, home / _FILLING):
                    _wait(cancelled)
                elif not final.exists():
                    _fill(final, file, receive, cancelled)
        yield final


@contextlib.contextmanager
def kept(folder: Path, path: Path, cancelled: Callable[[], bool]) -> Iterator[SourceFile]:
    """Move a file that this machine has downloaded to where its workers find it, for the block.

    The last one that needs it removes it.

    Args:
        folder: As in `provided`, on the disk of the file.
        path: Of the file.
        cancelled: As in `provided`.

    Raises:
        OutputError: It cannot be moved.
        StoppedError: It was canceled.
    """
    with output_errors(path, option=SCRATCH_OPTION):
        file = SourceFile.of(path)
    with _home(folder, file.fingerprint, cancelled) as home:
        with output_errors(home, option=SCRATCH_OPTION):
            path.replace(home / path.name)
        yield file


@contextlib.contextmanager
def _home(folder: Path, fingerprint: str, cancelled: Callable[[], bool]) -> Iterator[Path]:
    """Give the folder of a file, which stays at least for the block.

    Raises:
        OutputError: It cannot be made.
        StoppedError: It was canceled.
    """
    with contextlib.ExitStack() as stack:
        with output_errors(folder, option=SCRATCH_OPTION):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _alone(folder / _LOCK, cancelled):
                _sweep(folder)
                home = folder / fingerprint
                home.mkdir(mode=0o700, exist_ok=True)
                user = home / f"{_USER}{uuid.uuid4().hex}"
                held = stack.enter_context(contextlib.ExitStack())
                held.enter_context(file_lock(user))
                _held.add(user)
        stack.callback(_leave, folder, user, held)
        yield home


def _locked(stack: contextlib.ExitStack, path: Path) -> bool:
    """Lock a file, unless another worker has; it is unlocked with the stack.

    Raises:
        OutputError: It cannot be written.
    """
    with output_errors(path, option=SCRATCH_OPTION):
        try:
            stack.enter_context(file_lock(path))
        except BlockingIOError:
            return False
    return True


def _leave(folder: Path, user: Path, held: contextlib.ExitStack) -> None:
    """Need a file no more; remove it if nobody else does."""
    with contextlib.suppress(OutputError, OSError), _alone(folder / _LOCK, lambda: False):
        held.close()
        _held.discard(user)
        user.unlink(missing_ok=True)
        _remove_unused(user.parent)
    held.close()


def _sweep(folder: Path) -> None:
    """Remove what processes have left that were killed."""
    for home in folder.iterdir():
        if home.is_dir():
            _remove_unused(home)


def _remove_unused(home: Path) -> None:
    # Over NFS, a process does not see its own locks.
    if not any(user in _held or is_locked(user) for user in home.glob(f"{_USER}*")):
        shutil.rmtree(home, ignore_errors=True)


@contextlib.contextmanager
def _alone(path: Path, cancelled: Callable[[], bool]) -> Iterator[None]:
    """Wait for a lock that others hold for moments.

    Over NFS, a lock of a file may not keep out other threads of the same process.
    """
    with contextlib.ExitStack() as stack:
        while not _one_thread.acquire(timeout=_ASK_S):
            _check(cancelled)
        stack.callback(_one_thread.release)
        while not _locked(stack, path):
            _wait(cancelled)
        yield


def _wait(cancelled: Callable[[], bool]) -> None:
    _check(cancelled)
    time.sleep(_ASK_S)


def _check(cancelled: Callable[[], bool]) -> None:
    if cancelled():
        raise StoppedError("the job was canceled")


def _fill(final: Path, file: SourceFile, receive: Receive, cancelled: Callable[[], bool]) -> None:
    """Receive a file, from where a worker has got to that was lost meanwhile."""
    received = final.with_name(_RECEIVED)
    try:
        _append(received, file, receive, cancelled)
        if fingerprint_of(received) != (file.fingerprint, file.size_bytes):
            raise _changed(file)
        with output_errors(final, option=SCRATCH_OPTION):
            received.replace(final)
    except OutputError:
        received.unlink(missing_ok=True)
        raise


def _changed(file: SourceFile) -> OutputError:
    return OutputError(
        f"{file.path.name} has changed while it was sent to another machine: run the same command again"
    )


def _append(received: Path, file: SourceFile, receive: Receive, cancelled: Callable[[], bool]) -> None:
    with output_errors(received, option=SCRATCH_OPTION):
        output = received.open("ab")
        size = output.tell()
    with output:
        while size < file.size_bytes:
            _check(cancelled)
            with output_errors(received, option=SCRATCH_OPTION):
                if shutil.disk_usage(received.parent).free < file.size_bytes - size:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # rather now than at the end
            wanted = min(_PIECE_BYTES, file.size_bytes - size)
            piece = receive(size, wanted)
            if not piece:
                raise _changed(file)
            if len(piece) > wanted:
                raise ValueError(f"{len(piece)} bytes were received instead of {wanted}")
            with output_errors(received, option=SCRATCH_OPTION):
                output.write(piece)
                output.flush()
            size += len(piece)
