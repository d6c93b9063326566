"""Keeping a ledger and its folder small and in order."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from analyzer.batch.ledger import Ledger, lock_ledger
from analyzer.batch.night import DOWNLOADS
from analyzer.source import host_of, run_folder

__all__ = ["Pruned", "prune"]

_DAY_S = 86400.0


@dataclass(frozen=True)
class Pruned:
    """What was removed."""

    records: int
    """Attempts and nights that were forgotten."""
    folders: int
    """Downloads that nobody needs, and parts of runs that no unfinished video of the ledger goes on with."""
    size_bytes: int


def prune(ledger_path: Path, out: Path, *, keep_days: float) -> Pruned:
    """Forget old attempts and nights, and remove what no video of the ledger needs any more.

    Videos stay in the ledger, else they would be analysed again; finished runs stay too.

    Args:
        ledger_path: The ledger.
        out: The output folder.
        keep_days: Attempts and nights younger than this are kept, as is each video's last attempt.

    Raises:
        LedgerError: Another batch is at work (temporary), or the ledger cannot be used.
    """
    with lock_ledger(ledger_path), Ledger(ledger_path) as ledger:
        records = ledger.prune(time.time() - keep_days * _DAY_S)
        wanted = {str(work.id) for work in ledger.unfinished() if work.video is not None}
        downloads = out / DOWNLOADS
        gone = [path for path in downloads.glob("*") if path.name not in wanted]
        unfinished = [work for work in ledger.unfinished() if not _is_gone(work.source)]
        alive = {
            run_folder(work.folder, work.title or "", id)
            for work in unfinished
            for id in (work.identity, work.video["video_id"] if work.video else work.identity)
        }
        folders = {Path(row["folder"]) for row in ledger.videos()} | {out}
        parts = [part for folder in folders for part in folder.glob("*/.parts")]
        gone += [part for part in parts if part.parent not in alive and _is_free(part.parent)]
        gone = [path for path in gone if path.is_dir()]
        size = sum(file.stat().st_size for path in gone for file in path.rglob("*") if file.is_file())
        for path in gone:
            shutil.rmtree(path, ignore_errors=True)
            _remove_if_empty(path.parent)
        return Pruned(records, len(gone), size)


def _is_gone(source: str) -> bool:
    return host_of(source) is None and not Path(source).exists()


def _is_free(folder: Path) -> bool:
    """Whether no other process works in a run's folder."""
    import fcntl

    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _remove_if_empty(folder: Path) -> None:
    if not any(folder.iterdir()):
        folder.rmdir()
