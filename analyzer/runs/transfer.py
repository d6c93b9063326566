"""The files of a published run on their way to another machine: cut into pieces, and published there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analyzer.runs.run import is_output, keep_download, kept_names, publish
from analyzer.runs.segments import PartStore
from analyzer.sources.types import Video
from analyzer.util.atomic import output_errors, reading_errors

__all__ = [
    "DamagedRunError",
    "Piece",
    "RunFile",
    "RunReceiver",
    "pieces",
    "run_files",
]


class DamagedRunError(ValueError):
    """What arrives is not a run: a file that no run has, a gap, a file that is too long or too short."""


@dataclass(frozen=True)
class RunFile:
    """A file of a run."""

    name: str
    """Relative to the run's folder, with slashes."""
    size_bytes: int


@dataclass(frozen=True)
class Piece:
    """A stretch of a file."""

    name: str
    """As of `RunFile`."""
    offset: int
    """Position of its first byte in the file."""
    content: bytes


def run_files(folder: Path, *, downloads: bool) -> list[RunFile]:
    """List the files that an analysis has published in a folder; corrections, parts and locks are not.

    Args:
        folder: Of a published run.
        downloads: Whether to list the downloads that were kept in it.

    Raises:
        OutputError: It cannot be read.
    """
    found = []
    with reading_errors(folder):
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            # A download may be a link to a file that others use.
            if is_output(name, downloads=downloads) and path.is_file() and not path.is_symlink():
                found.append(RunFile(name, path.stat().st_size))
    return found


def pieces(folder: Path, files: Iterable[RunFile], most_bytes: int) -> Iterator[Piece]:
    """Cut files of a run into pieces, in order.

    Args:
        folder: Of the run.
        files: From `run_files`.
        most_bytes: Of a piece.

    Raises:
        OutputError: A file cannot be read.
    """
    for file in files:
        with reading_errors(folder / file.name), (folder / file.name).open("rb") as opened:
            offset = 0
            while content := opened.read(most_bytes):
                yield Piece(file.name, offset, content)
                offset += len(content)


class RunReceiver:
    """Receives the files of a run in a staging folder, and publishes them. What arrives is not trusted.

    Args:
        staging: The staging folder of `analyzer.util.locks.run_lock`, which stays locked meanwhile.
        files: All that will arrive, from `run_files`.

    Raises:
        DamagedRunError: They are not those of a run.
        OutputError: A file cannot be written.
    """

    def __init__(self, staging: Path, files: Sequence[RunFile]) -> None:
        self._staging = staging
        self._sizes = {file.name: file.size_bytes for file in files}
        self._written = dict.fromkeys(self._sizes, 0)
        if len(self._sizes) != len(files) or "run.json" not in self._sizes:
            raise DamagedRunError("a file is listed twice, or run.json is not")
        for name, size in self._sizes.items():
            if not is_output(name, downloads=True) or size < 0:
                raise DamagedRunError(f"{name!r} with {size} bytes is no file of a run")
            with output_errors(staging / name):
                (staging / name).parent.mkdir(exist_ok=True)
                (staging / name).open("xb").close()

    def receive(self, piece: Piece) -> None:
        """Write a piece; those of a file arrive in order.

        Raises:
            DamagedRunError: It does not follow the one before.
            OutputError: It cannot be written.
        """
        name, end = piece.name, piece.offset + len(piece.content)
        if self._written.get(name) != piece.offset or end > self._sizes[name]:
            raise DamagedRunError(f"a piece of {name!r} at {piece.offset} was not expected")
        path = self._staging / name
        with output_errors(path), path.open("ab") as file:
            file.write(piece.content)
            file.flush()
            if end == self._sizes[name]:
                os.fsync(file.fileno())
        self._written[name] = end

    @property
    def complete(self) -> bool:
        """Whether all files have arrived."""
        return self._written == self._sizes

    def publish(self, run_folder: Path, video: Video, *, grows: bool = False) -> dict[str, Any]:
        """Publish the run in the folder of the staging folder, and remove the parts there.

        A download that was to be kept and has not arrived with the run is taken from `video`.

        Args:
            run_folder: The locked folder, perhaps of an earlier title. Corrections in it stay.
            video: As it was fetched here.
            grows: As in `analyzer.runs.run.publish`.

        Returns:
            The content of ``run.json``, of which only the video's id is checked.

        Raises:
            DamagedRunError: A piece is missing, or it is the run of another video.
            OutputError: It cannot be moved.
        """
        if not self.complete:
            raise DamagedRunError("a part of the run's files has not arrived")
        try:
            info = json.loads((self._staging / "run.json").read_bytes())
        except (ValueError, RecursionError) as error:
            raise DamagedRunError("run.json cannot be read") from error
        if not isinstance(info, dict) or info.get("video_id") != video.video_id:
            raise DamagedRunError("it is the run of another video")
        self._move_downloads(info.get("download") or (), run_folder, video)
        publish(self._staging, run_folder, grows=grows)
        PartStore(run_folder, "").clear()
        return info

    def _move_downloads(self, wanted: Sequence[str], run_folder: Path, video: Video) -> None:
        if set(wanted) <= self._sizes.keys():
            return
        if list(wanted) != kept_names(video):
            raise DamagedRunError("the downloads in run.json are not those of the video")
        with output_errors(run_folder):
            keep_download(video, run_folder)
