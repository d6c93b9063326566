"""Where the video or the images of a run are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from analyzer.errors import SourceError
from analyzer.runs.run_info import RunInfo
from analyzer.sources.local import IMAGE_SUFFIXES, VIDEO_SUFFIXES, local_identity

__all__ = ["Media", "media_of"]


@dataclass(frozen=True)
class Media:
    """The files that a run was made from, as far as they are still there."""

    paths: tuple[Path, ...] = ()
    """The video; of a run of images, the images in their order."""
    names: tuple[str, ...] = ()
    """What a visitor called the files of an upload; untrusted text."""
    reason: str = ""
    """Why there is nothing, in a sentence; empty if there is something."""

    @property
    def path(self) -> Path | None:
        """The video, or the first image; None: it is gone."""
        return self.paths[0] if self.paths else None


def media_of(folder: Path, info: RunInfo, kept: Iterable[Path] = (), names: tuple[str, ...] = ()) -> Media:
    """Find the files of a run.

    A run of the server's own jobs has them beside it. For one of the command line they are where they were,
    if they are still the same: ``run.json`` names them, and `Video.video_id` proves it.

    Args:
        folder: The run's.
        info: Its ``run.json``.
        kept: Files of the job that has made the run, if the server has.
        names: What the visitor called them.
    """
    if info["kind"] == "live":
        return Media(reason="live sources are not recorded")
    suffixes = IMAGE_SUFFIXES if info["kind"] == "images" else VIDEO_SUFFIXES
    found = tuple(path for path in kept if path.suffix.lower() in suffixes)
    if found:
        return Media(found, names)
    downloaded = tuple(folder / Path(name).name for name in info.get("download") or ())
    if downloaded and all(path.is_file() for path in downloaded):
        return Media(downloaded[:1])
    source = Path(info["source"])
    with contextlib.suppress(OSError, ValueError, SourceError):
        if source.is_file() and source.suffix.lower() in suffixes and not source.is_symlink():
            return _proven(info, (source,))
        if source.is_dir() and info["kind"] == "images":
            from analyzer.sources.local import local_items

            for item in local_items(source, str(source), source.stat().st_mode, images=True)[0]:
                if str(item.kind) == "images":
                    return _proven(info, item.paths)
    return Media(reason="the video is not kept: only files on this machine, and jobs of this server, have it")


def _proven(info: RunInfo, paths: tuple[Path, ...]) -> Media:
    if local_identity(paths)[0] == info["video_id"]:
        return Media(paths)
    return Media(reason="the file was changed since it was analyzed")
