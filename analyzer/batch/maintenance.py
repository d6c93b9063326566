"""Delete what a ledger and its folder no longer need."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path

from analyzer.batch.folders import DOWNLOADS, holds_something
from analyzer.batch.ledger import FINAL, Ledger, Work, lock_ledger
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
        sizes = [*_remove_downloads(out / DOWNLOADS, ledger), *_remove_all_parts(ledger)]
        removed = [size for size in sizes if size]
        return Pruned(records, len(removed), sum(removed))


def _remove_downloads(folder: Path, ledger: Ledger) -> Iterator[int]:
    """Delete unneeded downloads and yield the size of each. The ledger's lock protects this folder, too."""
    for download in list(folder.glob("*")):
        needed = download.name.isdecimal() and ledger.needs_download(int(download.name))
        if download.is_dir() and not needed:
            yield sum(file.stat().st_size for file in download.rglob("*") if file.is_file())
            shutil.rmtree(download, ignore_errors=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _remove_all_parts(ledger: Ledger) -> Iterator[int]:
    """Delete unneeded segments and yield their size for each run folder."""
    found = {
        hidden.parent: {part.name.partition("-")[0] for part in hidden.glob("*-*")}
        for folder in ledger.folders_of_parts()
        for hidden in folder.glob("*/.parts")
    }
    ended = _ended(ledger, set().union(*found.values()))
    for run, keys in found.items():
        size = remove_leftovers(run) if ledger.is_published(run) else 0
        for key in keys & ended.keys():
            # An `analyze` may have started the same work again since then.
            size += remove_parts(run, key, until=ended[key])
        yield size


def _ended(ledger: Ledger, keys: Set[str]) -> dict[str, float]:
    """Of segments that no video needs, by their keys: when their rows were changed last."""
    alive: dict[str, bool] = {}
    ended: dict[str, float] = {}
    for parts in ledger.parts() if keys else ():
        if parts.parts_key in keys:
            if parts.identity not in alive:
                # Another row of the video, with other settings, may continue from the same segments.
                works = ledger.of_identity(parts.identity)
                alive[parts.identity] = any(work.state not in FINAL and not _is_gone(work) for work in works)
            if not alive[parts.identity]:
                ended[parts.parts_key] = max(ended.get(parts.parts_key, 0.0), parts.changed_at)
    return ended


def _is_gone(work: Work) -> bool:
    """Return whether a local file was deleted; a disk that is not mounted may be mounted tomorrow."""
    path = Path(work.source)
    return host_of(work.source) is None and not path.exists() and holds_something(path.parent)
