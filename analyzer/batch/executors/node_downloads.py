"""What downloads on a machine of a cluster: an actor beside its stations.

It downloads with the same code as the batch's own machine, asks the batch before it begins, and keeps the
files where the stations of its machine find them, until the batch releases them. Those of other machines get
them from it in pieces.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path

from analyzer.batch.executors.base import FetcherMaker
from analyzer.batch.executors.node_files import SCRATCH_OPTION, SourceFile, kept
from analyzer.batch.executors.station import Facts, facts, files_folder, scratch_folder
from analyzer.errors import AnalyzerError, OutputError, StoppedError, unexpected
from analyzer.settings import Settings
from analyzer.sources.types import Candidate, FetchProgress, Item, Video
from analyzer.util.atomic import output_errors

__all__ = ["NodeDownloads", "Order", "Update"]

_ASK_S = 0.05


@dataclass(frozen=True)
class Order:
    """A video to download."""

    number: int
    """Unique; larger than those before."""
    maker: FetcherMaker
    settings: Settings
    item: Item


@dataclass(frozen=True)
class Update:
    """What has become of a download: one of these."""

    candidate: Candidate | None = None
    """Of the video; it is downloaded if `NodeDownloads.accept` says so."""
    progress: FetchProgress | None = None
    video: Video | None = None
    """The video, whose files are on the machine."""
    files: tuple[SourceFile, ...] = ()
    """These: first those of `Video.paths`, then that of `Video.audio_path`."""
    error: AnalyzerError | None = None
    """Why it cannot be downloaded."""


class NodeDownloads:
    """An actor; its methods are called from several threads at a time.

    Args:
        scratch: As in `analyzer.batch.executors.station.Station`.
    """

    def __init__(self, scratch: str | None) -> None:
        self._held = contextlib.ExitStack()
        self._problem: str | None = None
        try:
            self._folder = self._held.enter_context(scratch_folder(scratch))
        except OutputError as error:  # an actor that cannot be made does not say why
            self._problem = str(error)
        self._downloads: dict[int, _Download] = {}
        self._ended_early: set[int] = set()
        """Numbers of downloads that were released before they began: Ray keeps no order."""
        self._lock = threading.Lock()

    def facts(self) -> Facts:
        """Return where the actor is, and what it runs on."""
        return replace(facts(), problem=self._problem)

    def begin(self, order: Order) -> None:
        """Begin to download a video, unless it was released."""
        with self._lock:
            if order.number in self._ended_early:
                self._ended_early.remove(order.number)
                return
            download = self._downloads[order.number] = _Download(order, self._folder)
        threading.Thread(target=download.run, name="download", daemon=True).start()

    def poll(self, number: int, timeout_s: float) -> list[Update]:
        """Return what has become of a download, as soon as something has; after a time, nothing."""
        return self._downloads[number].take(timeout_s)

    def accept(self, number: int) -> None:
        """Let a download go on whose `Update.candidate` was returned."""
        self._downloads[number].accepted.set()

    def read(self, number: int, file: int, offset: int, size: int) -> bytes:
        """Return a stretch of a file of a finished download.

        Raises:
            OSError: It cannot be read.
        """
        with self._downloads[number].files[file].open("rb") as opened:
            opened.seek(offset)
            return opened.read(size)

    def release(self, number: int) -> None:
        """End a download, also one that is about to begin, or keep its files no longer."""
        with self._lock:
            download = self._downloads.pop(number, None)
            if download is None:
                self._ended_early.add(number)
        if download is not None:
            download.release()

    def close(self) -> None:
        """Leave nothing on the machine; the actor is killed next."""
        for number in list(self._downloads):
            self.release(number)
        self._held.close()


class _Download:
    """A video that is being downloaded, or was."""

    def __init__(self, order: Order, folder: Path) -> None:
        self._order = order
        self._folder = folder
        self._changed = threading.Condition()
        self._updates: deque[Update] = deque()
        self._held = contextlib.ExitStack()
        self._released = False
        self.accepted = threading.Event()
        self.files: list[Path] = []
        """Where they are."""

    def take(self, timeout_s: float) -> list[Update]:
        with self._changed:
            self._changed.wait_for(lambda: self._updates, timeout_s)
            taken = list(self._updates)
            self._updates.clear()
            return taken

    def release(self) -> None:
        with self._changed:
            self._released = True
            self._held.close()

    # -- in a thread of its own

    def run(self) -> None:
        staging = self._folder / f"download-{self._order.number}"
        try:
            with output_errors(staging, option=SCRATCH_OPTION):
                staging.mkdir()
            self._put(self._fetched(staging))
        except AnalyzerError as error:
            self._put(Update(error=error))
        except Exception as error:  # noqa: BLE001 - one video must not end the others
            self._put(Update(error=unexpected(error)))
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _fetched(self, staging: Path) -> Update:
        order = self._order
        fetcher = order.maker(order.settings, lambda progress: self._put(Update(progress=progress)))
        video = fetcher.fetch(order.item, staging, accept=self._ask, on_wait=self._check)
        files = []
        with contextlib.ExitStack() as stack:
            for path in (*video.paths, *([video.audio_path] if video.audio_path else [])):
                file = stack.enter_context(kept(files_folder(self._folder), path, lambda: self._released))
                files.append(file)
                self.files.append(files_folder(self._folder) / file.fingerprint / path.name)
            with self._changed:
                self._check()
                self._held = stack.pop_all()
        return Update(video=video, files=tuple(files))

    def _ask(self, candidate: Candidate) -> None:
        """Wait until the batch has decided on a video.

        Raises:
            StoppedError: It does not want it.
            OutputError: There is no room for it.
        """
        self._put(Update(candidate=candidate))
        while not self.accepted.wait(_ASK_S):
            self._check()
        with output_errors(self._folder, option=SCRATCH_OPTION):
            if shutil.disk_usage(self._folder).free < (candidate.size_bytes or 0):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # rather now than at the end

    def _check(self) -> None:
        if self._released:
            raise StoppedError("the download was canceled")

    def _put(self, update: Update) -> None:
        with self._changed:
            if update.progress is not None and self._updates and self._updates[-1].progress is not None:
                self._updates.pop()  # only the newest counts
            self._updates.append(update)
            self._changed.notify_all()
