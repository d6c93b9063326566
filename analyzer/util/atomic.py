"""Files that are whole or not there: written under a temporary name, flushed to the disk, renamed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from analyzer.errors import OutputError, is_full

__all__ = [
    "output_errors",
    "paths_of",
    "sync_folder",
    "writing",
]


def paths_of(named: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Paths that were named; a single one need not be in a list. The letters of a text are no paths.

    >>> [path.name for path in paths_of("runs")], [path.name for path in paths_of(["a", Path("b")])]
    (['runs'], ['a', 'b'])
    """
    return [Path(named)] if isinstance(named, str | os.PathLike) else [Path(path) for path in named]


@contextlib.contextmanager
def writing(path: Path, *, option: str = "--out") -> Iterator[Path]:
    """Write a file under a temporary name beside `path`; rename it when the block ends well.

    Args:
        path: The file.
        option: By which the user can choose another folder.

    Raises:
        OutputError: There is no space, no right, or no such folder.
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
    """Have the names in a folder survive a power cut, where the system can do that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def output_errors(path: Path, *, option: str = "--out") -> Iterator[None]:
    """Turn errors of the system into ours.

    Raises:
        OutputError: Names `path`.
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
