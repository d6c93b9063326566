"""Keeping a ledger and its folder small and in order."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from analyzer.batch.folders import DOWNLOADS, holds_something
from analyzer.batch.ledger import Ledger, State, Work, lock_ledger
from analyzer.util.locks import remove_leftovers, remove_parts
from analyzer.util.urls import host_of

__all__ = [
    "Pruned",
    "prune",
]

_DAY_S = 86400.0


@dataclass(frozen=True)
class Pruned:
    """What was removed."""

    records: int
    """Attempts and nights that were forgotten."""
    folders: int
    """Downloads that nobody needs, and segments that this batch has left and no video goes on with."""
    size_bytes: int


def prune(ledger_path: Path, out: Path, *, keep_days: float) -> Pruned:
    """Forget old attempts and nights, and remove what no video of the ledger needs any more.

    Videos stay in the ledger, else they would be analyzed again; finished runs stay too. So do segments that
    this batch has not begun: what is left of an `analyze` or a live run is finished by the next `analyze`.

    Args:
        ledger_path: The ledger.
        out: The output folder.
        keep_days: Attempts and nights younger than this are kept, as is each video's last attempt.

    Raises:
        LedgerError: Another batch is at work (temporary), or the ledger cannot be used.
    """
    with lock_ledger(ledger_path, "prune"), Ledger(ledger_path) as ledger:
        records = ledger.prune(time.time() - keep_days * _DAY_S)
        wanted = {str(work.id) for work in ledger.unfinished() if work.video is not None}
        sizes = [*_remove_downloads(out / DOWNLOADS, wanted), *_remove_all_parts(ledger)]
        removed = [size for size in sizes if size]
        return Pruned(records, len(removed), sum(removed))


def _remove_downloads(folder: Path, wanted: Iterable[str]) -> Iterator[int]:
    """Gives the size of each that is removed. The folder is the batch's own, and locked with the ledger."""
    for download in list(folder.glob("*")):
        if download.is_dir() and download.name not in wanted:
            yield sum(file.stat().st_size for file in download.rglob("*") if file.is_file())
            shutil.rmtree(download, ignore_errors=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _remove_all_parts(ledger: Ledger) -> Iterator[int]:
    """Gives the size of the segments that are removed, for each run's folder."""
    works = ledger.parts()
    # Other settings may go on from the same segments: another row of the video.
    alive = {work.identity for work in ledger.unfinished() if not _is_gone(work)}
    ended = {work.parts_key: 0.0 for work in works if work.identity not in alive}
    for work in works:
        if work.parts_key in ended:
            ended[work.parts_key] = max(ended[work.parts_key], work.changed_at)
    published = {work.run for work in works if work.state is State.DONE}
    for folder in {work.folder for work in works}:
        for hidden in folder.glob("*/.parts"):
            run = hidden.parent
            size = remove_leftovers(run) if run in published else 0
            for key in {part.name.partition("-")[0] for part in hidden.glob("*-*")} & ended.keys():
                # An `analyze` may have begun the same work anew since.
                size += remove_parts(run, key, until=ended[key])
            yield size


def _is_gone(work: Work) -> bool:
    """Whether a local file was removed; a disk that is not there now may be there tomorrow."""
    path = Path(work.source)
    return host_of(work.source) is None and not path.exists() and holds_something(path.parent)
