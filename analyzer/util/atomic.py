"""Atomic files: written under a temporary name, flushed to the disk, renamed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from analyzer.errors import OutputError, is_full

__all__ = [
    "output_errors",
    "paths_of",
    "reading_errors",
    "sync_folder",
    "writing",
]


def paths_of(named: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Return the paths that a caller passed, one alone or several in a list.

    >>> [path.name for path in paths_of("runs")], [path.name for path in paths_of(["a", Path("b")])]
    (['runs'], ['a', 'b'])
    """
    return [Path(named)] if isinstance(named, str | os.PathLike) else [Path(path) for path in named]


@contextlib.contextmanager
def writing(path: Path, *, option: str = "--out") -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; it gets its name when the block succeeds.

    Args:
        path: The file.
        option: The option that chooses another folder, for the error message.

    Raises:
        OutputError: There is no space, no permission, or no such folder.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        with output_errors(path, option=option):
            yield temporary
            with temporary.open("r+b") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk, if the system can do that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def output_errors(path: Path, *, option: str = "--out") -> Iterator[None]:
    """Turn errors of the operating system into an `OutputError` that names `path`.

    Raises:
        OutputError: The block raised an `OSError`.
    """
    try:
        yield
    except OSError as error:
        no_space = is_full(error)
        if no_space:
            message = f"no space is left for {path}: free some, then run the same command again"
        else:
            message = (
                f"{path} cannot be written ({error.strerror or error}): choose another folder with {option}"
            )
        raise OutputError(message, no_space=no_space) from error


@contextlib.contextmanager
def reading_errors(path: Path) -> Iterator[None]:
    """Turn errors of the operating system into an `OutputError` that says that `path` cannot be read.

    Raises:
        OutputError: The block raised an `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{path} cannot be read ({error.strerror or error}): check its permissions"
        ) from error
