"""Delete what a ledger and its folder no longer need."""

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
    """What was deleted."""

    records: int
    """Attempts and batch runs."""
    folders: int
    """Downloads, and unfinished segments, that no video needs."""
    size_bytes: int


def prune(ledger_path: Path, out: Path, *, keep_days: float) -> Pruned:
    """Delete old attempts and batch runs, and files that no video of the ledger needs any more.

    Videos stay in the ledger, or they would be analyzed again; finished runs stay, too. So do segments of
    other commands: the next ``analyze`` finishes interrupted ``analyze`` and live runs.

    Args:
        ledger_path: The ledger.
        out: The output folder.
        keep_days: Keep attempts and batch runs of this many days, and each video's last attempt.

    Raises:
        LedgerError: Another batch is running (temporary), or the ledger cannot be used.
    """
    with lock_ledger(ledger_path, "prune"), Ledger(ledger_path) as ledger:
        records = ledger.prune(time.time() - keep_days * _DAY_S)
        wanted = {str(work.id) for work in ledger.unfinished() if work.video is not None}
        sizes = [*_remove_downloads(out / DOWNLOADS, wanted), *_remove_all_parts(ledger)]
        removed = [size for size in sizes if size]
        return Pruned(records, len(removed), sum(removed))


def _remove_downloads(folder: Path, wanted: Iterable[str]) -> Iterator[int]:
    """Delete unneeded downloads and yield the size of each. The ledger's lock protects this folder, too."""
    for download in list(folder.glob("*")):
        if download.is_dir() and download.name not in wanted:
            yield sum(file.stat().st_size for file in download.rglob("*") if file.is_file())
            shutil.rmtree(download, ignore_errors=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _remove_all_parts(ledger: Ledger) -> Iterator[int]:
    """Delete unneeded segments and yield their size for each run folder."""
    works = ledger.parts()
    # Another row of the video, with other settings, may continue from the same segments.
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
                # An `analyze` may have started the same work again since then.
                size += remove_parts(run, key, until=ended[key])
            yield size


def _is_gone(work: Work) -> bool:
    """Return whether a local file was deleted; a disk that is not mounted may be mounted tomorrow."""
    path = Path(work.source)
    return host_of(work.source) is None and not path.exists() and holds_something(path.parent)
