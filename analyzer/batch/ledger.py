"""The ledger: every video of a batch, its state and the history of its attempts. One SQLite file, one writer.

A row is identified by (identity, settings, models): the same work is always the same row, changed settings
make a new one. States::

    new ──▶ downloading ──▶ downloaded ──▶ analyzing ──▶ done
     │         │             │              │
     │         └─────────────┴──────────────┴──▶ failed (retried at `next_try`) ──▶ abandoned
     └──▶ skipped (`reason`)

The ledger follows the files: a segment's part, and a run with its ``run.json``, are renamed into place before
their row is written. After a kill, files without a row are adopted, and a row without its file becomes work
again: a crash between the two steps does no harm, whichever came first.

With a write-ahead log and ``synchronous=FULL``, committed transactions survive a power cut.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sqlite3
import threading
import time
from array import array
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, Self

from analyzer.batch.config import LEDGER_NAME
from analyzer.errors import LedgerError, is_full
from analyzer.util.locks import file_lock, is_locked
from analyzer.util.system import file_system

__all__ = [
    "CANCELED",
    "FINAL",
    "LEDGER_NAME",
    "NETWORK_FILE_SYSTEMS",
    "SCHEMA_VERSION",
    "Known",
    "Ledger",
    "Listed",
    "Result",
    "State",
    "Work",
    "WorkerRow",
    "health",
    "is_over",
    "is_running",
    "lock_ledger",
]

_COMPLETED = "completed"
"""State of a segment: those that are not complete have no row."""
_APPLICATION_ID = 0x41754C67  # "AuLg": marks the files of this program
_BUSY_S = 30.0
"""How long to wait for another writer, such as a backup."""
_CACHE_KB = 64_000
"""Pages of the file that are kept in memory: the indexes of a million videos are read in no order."""
_TOGETHER, _TOGETHER_S = 5000, 0.5
"""The most changes of `Ledger.together` in one transaction, and for how long it may stay open, in seconds."""
_CHUNK = 1000
"""Rows that are fetched at a time where all may be read."""
NETWORK_FILE_SYSTEMS = ("nfs", "cifs", "smb", "fuse.sshfs", "afs", "ceph", "glusterfs")

Row = sqlite3.Row


class State(StrEnum):
    """State of a video, as stored in the ledger and shown in the log and in tables."""

    NEW = "new"
    DOWNLOADING = "downloading"
    """An attempt has begun: the video is looked up and downloaded."""
    DOWNLOADED = "downloaded"
    """Its file is on the disk and waits for analysis."""
    ANALYZING = "analyzing"
    DONE = "done"
    SKIPPED = "skipped"
    """Left out, for a reason that is not an error."""
    FAILED = "failed"
    """The last attempt failed; the next one begins at `next_try` or later."""
    ABANDONED = "abandoned"
    """It failed for good: only ``batch retry`` tries it again."""


CANCELED = "canceled"
"""Kind of skipped videos that somebody did not want any more."""
FINAL = (State.DONE, State.SKIPPED, State.ABANDONED)
"""States in which a video needs no more work."""
RUNNING = (State.DOWNLOADING, State.DOWNLOADED, State.ANALYZING)
_UNFINISHED = tuple(state for state in State if state not in FINAL)
_REOPENED = ("filter", "replaced", "settings", "gone")
"""Kinds of skipped videos that are queued again once the reason no longer applies."""

_MIGRATIONS = (
    # 1
    """
    CREATE TABLE videos (
        id INTEGER PRIMARY KEY,
        identity TEXT NOT NULL,
        settings_hash TEXT NOT NULL,
        models_hash TEXT NOT NULL,
        origin TEXT NOT NULL,
        source TEXT NOT NULL,
        standalone INTEGER NOT NULL,
        folder TEXT NOT NULL,
        state TEXT NOT NULL,
        reason TEXT,
        error_kind TEXT,
        error TEXT,
        attempts INTEGER NOT NULL DEFAULT 0,
        fruitless INTEGER NOT NULL DEFAULT 0,
        interrupted INTEGER NOT NULL DEFAULT 0,
        next_try REAL,
        title TEXT,
        channel TEXT,
        uploaded TEXT,
        duration_s REAL,
        size_bytes INTEGER,
        video_id TEXT,
        video TEXT,
        segments INTEGER,
        run TEXT,
        complete INTEGER,
        counts TEXT,
        versions TEXT,
        added_at REAL NOT NULL,
        changed_at REAL NOT NULL,
        done_at REAL,
        UNIQUE (identity, settings_hash, models_hash)
    );
    CREATE INDEX videos_by_state ON videos (state, next_try);
    CREATE INDEX videos_by_video_id ON videos (video_id);
    CREATE TABLE segments (
        video INTEGER NOT NULL REFERENCES videos (id) ON DELETE CASCADE,
        segment INTEGER NOT NULL,
        state TEXT NOT NULL,
        samples INTEGER,
        faces INTEGER,
        size_bytes INTEGER,
        committed_at REAL NOT NULL,
        PRIMARY KEY (video, segment)
    ) WITHOUT ROWID;
    CREATE TABLE attempts (
        video INTEGER NOT NULL REFERENCES videos (id) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        started_at REAL NOT NULL,
        ended_at REAL,
        outcome TEXT,
        error_kind TEXT,
        error TEXT,
        fetch_s REAL,
        analysis_s REAL,
        size_bytes INTEGER,
        versions TEXT,
        PRIMARY KEY (video, number)
    ) WITHOUT ROWID;
    """,
    # 2: pauses of hosts outlive a batch run, and batch runs are recorded
    """
    CREATE TABLE hosts (
        host TEXT PRIMARY KEY,
        paused_until REAL NOT NULL,
        complaints INTEGER NOT NULL,
        reason TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE nights (
        id INTEGER PRIMARY KEY,
        started_at REAL NOT NULL,
        ended_at REAL,
        outcome TEXT,
        counts TEXT
    );
    """,
    # 3: whose unfinished segments are in a run's folder
    """
    ALTER TABLE videos ADD COLUMN parts_key TEXT;
    """,
    # 4: new names. A quotation mark inside a JSON string is escaped, so only keys and whole values match.
    """
    ALTER TABLE videos RENAME COLUMN fruitless TO consecutive_failures;
    ALTER TABLE nights RENAME TO batch_runs;
    UPDATE videos SET state = 'downloading' WHERE state = 'claimed';
    UPDATE videos SET state = 'analyzing' WHERE state = 'analysing';
    UPDATE videos SET state = 'abandoned' WHERE state = 'dead';
    UPDATE attempts SET outcome = 'abandoned' WHERE outcome = 'dead';
    UPDATE segments SET state = 'completed';
    UPDATE videos SET counts = replace(replace(replace(replace(replace(counts,
        '"analysed_s":', '"analyzed_s":'),
        '"samples_carried":', '"samples_reused":'),
        '"faces_judged":', '"faces_estimated":'),
        '"faces_of_no_person":', '"faces_unassigned":'),
        '"people_unjudged":', '"people_not_estimated":');
    UPDATE batch_runs SET counts = replace(replace(counts,
        '"dead":', '"abandoned":'),
        '"state": "dead"', '"state": "abandoned"');
    """,
    # 5: what the workers of the present batch run do
    """
    CREATE TABLE workers (
        worker INTEGER PRIMARY KEY,
        node TEXT NOT NULL,
        pid INTEGER,
        state TEXT NOT NULL,
        video INTEGER,
        first_segment INTEGER,
        end_segment INTEGER,
        since REAL NOT NULL,
        done_s REAL NOT NULL,
        expected_s REAL,
        seen_at REAL NOT NULL
    );
    """,
    # 6: nothing reads all rows of a large ledger only to find a few
    """
    DROP INDEX videos_by_state;
    CREATE INDEX videos_by_state ON videos (state, changed_at);
    CREATE INDEX videos_by_origin ON videos (origin, state);
    CREATE INDEX videos_by_run ON videos (run) WHERE run IS NOT NULL;
    CREATE INDEX attempts_by_end ON attempts (ended_at) WHERE outcome = 'done' AND analysis_s IS NOT NULL;
    """,
    # 7: what of a source needs no more work is found without reading its rows
    """
    DROP INDEX videos_by_origin;
    CREATE INDEX videos_by_origin ON videos
        (origin, state, settings_hash, models_hash, error_kind, identity);
    """,
)
SCHEMA_VERSION = len(_MIGRATIONS)
"""A batch upgrades an older ledger when it opens it. Scripts that were released never change."""
_SAME_TABLES = 5
"""Since this version only indexes have changed: who reads needs no upgrade, only more time."""


@dataclass(frozen=True)
class Listed:
    """A video that a source has listed."""

    identity: str
    settings_hash: str
    models_hash: str
    origin: str
    """The source of the jobs, without user name and password."""
    source: str
    """The video's own path or address, likewise."""
    standalone: bool
    """Whether `source` alone is enough to download it again."""
    folder: Path
    """The folder in which its run's folder is made."""
    title: str | None = None
    uploaded: str | None = None
    """ISO date."""
    duration_s: float | None = None


class Parts(NamedTuple):
    """Whose segments are, or were, in a run's folder."""

    parts_key: str
    identity: str
    changed_at: float


class Result(NamedTuple):
    """What came of a done video."""

    counts: dict[str, Any]
    """As in ``run.json``."""
    duration_s: float | None
    complete: bool | None


class Known(NamedTuple):
    """What is asked of the rows of many videos: cheaper than a `Work`."""

    state: State
    error_kind: str | None
    next_try: float | None
    title: str | None
    uploaded: str | None
    duration_s: float | None


@dataclass(frozen=True)
class Work:
    """A video's row, as far as the queue needs it."""

    id: int
    identity: str
    settings_hash: str
    models_hash: str
    origin: str
    source: str
    standalone: bool
    folder: Path
    state: State
    reason: str | None
    error_kind: str | None
    error: str | None
    """Of the last attempt, if it failed."""
    attempts: int
    consecutive_failures: int
    """Attempts since the last progress that failed, without those that are not counted."""
    interrupted: int
    """Attempts since the last progress that ended because the whole batch was killed."""
    next_try: float | None
    title: str | None
    uploaded: str | None
    duration_s: float | None
    size_bytes: int | None
    video: dict[str, Any] | None
    """The downloaded video, see `analyzer.batch.protocol.video_document`."""
    video_id: str | None
    parts_key: str | None
    """Prefix of its segments' names in the run's folder; None: none were begun."""
    changed_at: float
    run: Path | None


def is_over(row: Known | Work) -> bool:
    """Return whether a video needs no more work, whatever today's filters say."""
    return row.state in FINAL and not (row.state is State.SKIPPED and row.error_kind in _REOPENED)


@dataclass(frozen=True)
class WorkerRow:
    """What a worker of the present batch run does. The fields are the columns."""

    worker: int
    """Number within the executor."""
    node: str
    """Name of its machine."""
    pid: int | None
    state: str
    """An `analyzer.batch.executors.base.WorkerState`."""
    video: int | None
    """Row of its video."""
    first_segment: int | None
    end_segment: int | None
    """The segment after the last, if it analyzes only some."""
    since: float
    """When it came into this state, in seconds since 1970."""
    done_s: float
    """Seconds of video that it has analyzed."""
    expected_s: float | None
    """Seconds of video that it has to analyze."""
    seen_at: float
    """When this was known, in seconds since 1970."""


@contextlib.contextmanager
def lock_ledger(path: Path, command: str | None = None) -> Iterator[None]:
    """Keep other batches away from a ledger; the lock is released when the process ends, however it ends.

    Args:
        path: The ledger.
        command: The subcommand that needs the lock, if it is not a batch run.

    Raises:
        LedgerError: Another batch works with it (temporary), or it is on a network file system, where
            neither locks nor SQLite are reliable.
    """
    kind = file_system(path.parent)
    if kind is not None and kind.startswith(NETWORK_FILE_SYSTEMS):
        raise LedgerError(
            f"the ledger {path} would be on a network file system ({kind}), where it could be damaged: "
            "name a file on a local disk with --ledger"
        )
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(file_lock(_lock_file(path)))
        except BlockingIOError as error:
            words = f"another batch is running with {path}: wait until it has ended"
            if command is not None:
                words = f"a batch is running with {path}: run {command} when it has ended"
            raise LedgerError(words, temporary=True) from error
        except OSError as error:
            raise LedgerError(
                f"{path} cannot be written ({error.strerror}): choose another folder with --out",
                temporary=is_full(error),
            ) from error
        yield


def is_running(path: Path) -> bool:
    """Return whether a batch is running with a ledger; it is enough that the lock's file can be read."""
    return is_locked(_lock_file(path))


def _lock_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


class Ledger:
    """An open ledger. Times are seconds since 1970, UTC; folders are stored relative to the ledger's folder.

    Args:
        path: The file.
        read_only: Nothing is created, changed or upgraded; a ledger whose tables have changed since is
            refused. If there is no file, the ledger is empty.
        now: The clock.

    Raises:
        LedgerError: It is damaged, belongs to another program or a newer version, or cannot be read or
            written. All methods raise this.
    """

    def __init__(self, path: Path, *, read_only: bool = False, now: Callable[[], float] = time.time) -> None:
        self.path = path
        self._now = now
        # The download thread reads the ledger, too.
        self._lock = threading.RLock()
        self._base = path.parent
        self._read_only = read_only
        self._folders: dict[str, Path] = {}
        self._stored_folders: dict[Path, str] = {}
        self._together = False
        self._uncommitted = 0
        """Changes of `together` that are not committed yet."""
        self._begun_at = 0.0
        with self._errors():
            if read_only:
                self._db = _open(":memory:" if not path.exists() else path, read_only=path.exists())
                if not path.exists():
                    _migrate(self._db, 0)
            else:
                if not path.exists():
                    _create(path)
                self._db = _open(path)
            try:
                self._check()
                if not read_only:
                    # Not before the check: files that are damaged or of another program are not changed.
                    self._db.execute("PRAGMA journal_mode = WAL")
                    _migrate(self._db, self._version())
            except BaseException:
                self._db.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; afterwards it is a single file again, which can be copied and read as it is."""
        if not self._read_only:
            with contextlib.suppress(sqlite3.Error):  # another process is reading it: next time
                self._db.execute("PRAGMA busy_timeout = 0")
                self._db.execute("PRAGMA journal_mode = DELETE")
        self._db.close()

    # -- opening

    def _version(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    def _check(self) -> None:
        application = self._db.execute("PRAGMA application_id").fetchone()[0]
        version = self._version()
        if application != _APPLICATION_ID or version == 0:
            raise LedgerError(
                f"{self.path} is not a ledger of this program: move it away, or name another with --ledger"
            )
        if version > SCHEMA_VERSION:
            raise LedgerError(f"the ledger {self.path} was written by a newer version: update the program")
        read_only = self._db.execute("PRAGMA query_only").fetchone()[0]
        if not read_only:  # damage in the middle would show only when a query reaches it
            found = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise sqlite3.DatabaseError(found)
        if version < _SAME_TABLES and read_only:
            raise LedgerError(
                f"the ledger {self.path} was written by an earlier version of this program: the next batch"
                " run upgrades it, and so does `batch prune`"
            )

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _explained(self.path, error) from error
        except OSError as error:
            raise LedgerError(
                f"the ledger {self.path} cannot be opened ({error.strerror}): check the folder",
                temporary=is_full(error),
            ) from error

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Commit the changes that are made meanwhile in few transactions: each waits for the disk.

        A change by itself is still made as a whole or not at all, and seen at once by this `Ledger`. Those
        before an exception are committed. Call `commit` before waiting for anything but the disk: an open
        transaction keeps others from writing.
        """
        self._together = True
        try:
            yield
        finally:
            with self._lock:
                self._together = False
                self.commit()

    def commit(self) -> None:
        """Commit what `together` has collected."""
        with self._lock, self._errors():
            self._uncommitted = 0
            if self._db.in_transaction:
                self._commit()

    def _commit(self) -> None:
        try:
            self._db.execute("COMMIT")
        except sqlite3.Error:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._errors(), self._savepoint() if self._together else self._alone():
            yield self._db

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """A change in a transaction of its own."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise
        self._commit()

    @contextlib.contextmanager
    def _savepoint(self) -> Iterator[None]:
        """A change inside the transaction of `together`."""
        if not self._db.in_transaction:
            self._db.execute("BEGIN IMMEDIATE")
            self._begun_at, self._uncommitted = time.monotonic(), 0
        self._db.execute("SAVEPOINT change")
        try:
            yield
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # on a full disk SQLite itself rolls everything back
                self._db.execute("ROLLBACK TO change")
                self._db.execute("RELEASE change")
            raise
        self._db.execute("RELEASE change")
        self._uncommitted += 1
        if self._uncommitted >= _TOGETHER or time.monotonic() - self._begun_at > _TOGETHER_S:
            self._commit()

    def _rows(self, sql: str, *values: Any) -> list[Row]:
        with self._lock, self._errors():
            return self._db.execute(sql, values).fetchall()

    def _each(self, sql: str, *values: Any) -> Iterator[Row]:
        """As `_rows`, without holding all rows in memory. Rows that change meanwhile may be missed."""
        with self._lock, self._errors():
            cursor = self._db.execute(sql, values)
        while True:
            with self._lock, self._errors():
                rows = cursor.fetchmany(_CHUNK)
            if not rows:
                return
            yield from rows

    def _change(self, sql: str, *values: Any) -> int:
        with self._transaction() as db:
            return db.execute(sql, values).rowcount

    # -- videos

    def add(self, listed: Listed) -> tuple[Work, bool]:
        """Return the row of a listed video and whether it is new.

        A new row skips those of the same source and video with other settings, unless they are done.
        """
        key = listed.identity, listed.settings_hash, listed.models_hash
        now = self._now()
        with self._transaction() as db:
            cursor = db.execute(
                "INSERT INTO videos (identity, settings_hash, models_hash, origin, source, standalone,"
                " folder, state, title, uploaded, duration_s, added_at, changed_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (
                    *key,
                    listed.origin,
                    listed.source,
                    listed.standalone,
                    self._stored_folder(listed.folder),
                    State.NEW,
                    listed.title,
                    listed.uploaded,
                    listed.duration_s,
                    now,
                    now,
                ),
            )
            created = cursor.rowcount == 1
            if created:
                # With +, SQLite takes the few rows of the video, not the many of the source.
                db.execute(
                    "UPDATE videos SET state = ?, reason = ?, error_kind = 'settings', video = NULL,"
                    " changed_at = ? WHERE identity = ? AND +origin = ? AND +state IN (?, ?, ?, ?, ?, ?)"
                    " AND (settings_hash != ? OR models_hash != ?)",
                    (
                        *(State.SKIPPED, "settings were changed", now, listed.identity, listed.origin),
                        *(State.NEW, State.FAILED, State.ABANDONED, *RUNNING),
                        *key[1:],
                    ),
                )
            row = db.execute(_FIND_WORK, key).fetchone()
        return self._work(row), created

    def get(self, id: int) -> Work:
        """Return a video's row.

        Raises:
            LedgerError: There is none.
        """
        rows = self._rows(f"SELECT {_OF_WORK} FROM videos WHERE id = ?", id)
        if not rows:
            raise LedgerError(f"the ledger {self.path} has no video {id}: batch status lists them")
        return self._work(rows[0])

    def find(self, identity: str, settings_hash: str, models_hash: str) -> Work | None:
        """Return the row of this work, if there is one."""
        rows = self._rows(_FIND_WORK, identity, settings_hash, models_hash)
        return self._work(rows[0]) if rows else None

    def over(self, origin: str, settings_hash: str, models_hash: str) -> dict[str, int]:
        """Return which videos of a source need no more work, whatever today's filters say.

        Returns:
            The row of each identity.
        """
        sql = (
            f"SELECT identity, id FROM videos WHERE origin = ? AND state IN ({_marks(FINAL)})"
            " AND settings_hash = ? AND models_hash = ?"
            f" AND (state != ? OR coalesce(error_kind, '') NOT IN ({_marks(_REOPENED)}))"
        )
        values = origin, *FINAL, settings_hash, models_hash, State.SKIPPED, *_REOPENED
        with self._lock, self._errors():
            cursor = self._db.cursor()
            cursor.row_factory = None  # of a large channel there are many
            return dict(cursor.execute(sql, values))

    def known_of(self, identities: Collection[str], settings_hash: str, models_hash: str) -> dict[str, Known]:
        """Return what is known of the work on some videos, of those that have a row."""
        rows = self._rows(
            f"SELECT identity, {', '.join(Known._fields)} FROM videos WHERE settings_hash = ?"
            f" AND models_hash = ? AND identity IN ({_marks(identities)})",
            *(settings_hash, models_hash, *identities),
        )
        return {identity: Known(_STATES[state], *others) for identity, state, *others in rows}

    def unfinished(self, origin: str | None = None) -> Iterator[Work]:
        """Yield the rows that need work, oldest first: those of a source, or all.

        They are read some at a time, as they are then; which ones is decided at the beginning.
        """
        where = f"state IN ({_marks(_UNFINISHED)})" + ("" if origin is None else " AND origin = ?")
        values = _UNFINISHED if origin is None else (*_UNFINISHED, origin)
        found = self._each(f"SELECT id FROM videos WHERE {where} ORDER BY id", *values)
        ids = array("q", (row[0] for row in found))
        for first in range(0, len(ids), _CHUNK):
            some = ids[first : first + _CHUNK]
            sql = f"SELECT {_OF_WORK} FROM videos WHERE id IN ({_marks(some)}) ORDER BY id"
            yield from map(self._work, self._rows(sql, *some))

    def unfinished_origins(self) -> set[str]:
        """Return the origins of rows that need work."""
        rows = self._each(
            f"SELECT DISTINCT origin FROM videos WHERE state IN ({_marks(_UNFINISHED)})", *_UNFINISHED
        )
        return {row[0] for row in rows}

    def running(self) -> list[Work]:
        """Return the rows that a batch run was working on, oldest first."""
        rows = self._rows(
            f"SELECT {_OF_WORK} FROM videos WHERE state IN ({_marks(RUNNING)}) ORDER BY id", *RUNNING
        )
        return [self._work(row) for row in rows]

    def needs_download(self, id: int) -> bool:
        """Return whether a row needs work, and its file is on the disk."""
        return bool(
            self._rows(
                f"SELECT 1 FROM videos WHERE id = ? AND video IS NOT NULL AND state IN"
                f" ({_marks(_UNFINISHED)})",
                *(id, *_UNFINISHED),
            )
        )

    def of_origin(self, origin: str) -> list[Work]:
        """Return the rows of a source, oldest first."""
        rows = self._rows(f"SELECT {_OF_WORK} FROM videos WHERE origin = ? ORDER BY id", origin)
        return [self._work(row) for row in rows]

    def of_identity(self, identity: str) -> list[Work]:
        """Return the rows of a video: one for each settings and models."""
        rows = self._rows(f"SELECT {_OF_WORK} FROM videos WHERE identity = ? ORDER BY id", identity)
        return [self._work(row) for row in rows]

    def origins(self) -> Iterator[tuple[int, str]]:
        """Return id and origin of all rows."""
        return ((row[0], row[1]) for row in self._each("SELECT id, origin FROM videos"))

    def delete(self, id: int) -> None:
        """Delete a video's row with its attempts and segments, as if it had never been listed.

        Nothing of it is left in the file, nor in the write-ahead log unless another process reads that now.
        """
        with self._lock, self._errors():
            self._db.execute("PRAGMA secure_delete = ON")
            self._change("DELETE FROM videos WHERE id = ?", id)
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def abandoned(self) -> Iterator[tuple[int, str, str]]:
        """Return id, source and identity of the abandoned rows, oldest first."""
        rows = self._each(
            "SELECT id, source, identity FROM videos WHERE state = ? ORDER BY id", State.ABANDONED
        )
        return ((row[0], row[1], row[2]) for row in rows)

    def parts(self) -> Iterator[Parts]:
        """Return the rows whose analysis has ever begun segments, oldest first."""
        names = ", ".join(Parts._fields)
        rows = self._each(f"SELECT {names} FROM videos WHERE parts_key IS NOT NULL ORDER BY id")
        return (Parts(*row) for row in rows)

    def folders_of_parts(self) -> list[Path]:
        """Return the folders in whose runs segments have ever been begun."""
        rows = self._rows("SELECT DISTINCT folder FROM videos WHERE parts_key IS NOT NULL")
        return [self._base / row[0] for row in rows]

    def is_published(self, run: Path) -> bool:
        """Return whether a folder is the run of a done video whose segments were here."""
        return bool(
            self._rows(
                "SELECT 1 FROM videos WHERE run = ? AND state = ? AND parts_key IS NOT NULL",
                *(self._stored(run), State.DONE),
            )
        )

    def same_work(self, work: Work, video_id: str) -> int | None:
        """Return the id of another row that stands for the same work on a video; None if there is none."""
        rows = self._rows(
            "SELECT other.id FROM videos AS other JOIN videos AS mine ON mine.id = ?"
            " WHERE other.id != mine.id AND other.settings_hash = mine.settings_hash"
            " AND other.models_hash = mine.models_hash AND (other.video_id = ? OR other.identity = ?)"
            " AND other.state NOT IN (?, ?) ORDER BY other.id LIMIT 1",
            work.id,
            video_id,
            video_id,
            State.SKIPPED,
            State.ABANDONED,
        )
        return rows[0]["id"] if rows else None

    def begin(self, id: int, versions: Mapping[str, str], *, state: State = State.DOWNLOADING) -> int:
        """Begin an attempt and return its number; it is counted before anything is done."""
        with self._transaction() as db:
            return self._begin(db, id, versions, state)

    def _begin(self, db: sqlite3.Connection, id: int, versions: Mapping[str, str], state: State) -> int:
        now, text = self._now(), json.dumps(versions)
        db.execute(
            "UPDATE videos SET state = ?, attempts = attempts + 1, versions = ?, next_try = NULL,"
            " changed_at = ? WHERE id = ?",
            (state, text, now, id),
        )
        number = db.execute("SELECT attempts FROM videos WHERE id = ?", (id,)).fetchone()[0]
        db.execute(
            "INSERT INTO attempts (video, number, started_at, versions) VALUES (?, ?, ?, ?)",
            (id, number, now, text),
        )
        return int(number)

    def moved(self, id: int, reason: str, versions: Mapping[str, str]) -> int:
        """End an attempt whose machine was lost, and begin the next; return its number.

        Unlike the end of the whole batch, this does not count as an interruption.

        Args:
            id: The video's row.
            reason: One sentence.
            versions: As for `begin`.
        """
        with self._transaction() as db:
            self._end(db, id, "interrupted", kind="lost", error=reason)
            return self._begin(db, id, versions, State.ANALYZING)

    def describe(self, id: int, **facts: Any) -> None:
        """Store `video_id`, `title`, `channel`, `uploaded`, `duration_s`, `size_bytes` or `segments`.

        None leaves a value as it is.
        """
        known = {name: value for name, value in facts.items() if value is not None}
        assert known.keys() <= _FACTS, known.keys() - _FACTS
        if known:
            names = ", ".join(f"{name} = ?" for name in known)
            self._change(f"UPDATE videos SET {names} WHERE id = ?", *known.values(), id)

    def downloaded(self, id: int, video: Mapping[str, Any], *, size_bytes: int, fetch_s: float) -> None:
        """Record that a video is on the disk."""
        now = self._now()
        with self._transaction() as db:
            db.execute(
                "UPDATE videos SET state = ?, video = ?, video_id = ?, size_bytes = ?, changed_at = ?"
                " WHERE id = ?",
                (State.DOWNLOADED, json.dumps(video), video["video_id"], size_bytes, now, id),
            )
            db.execute(
                "UPDATE attempts SET fetch_s = ?, size_bytes = ? WHERE video = ? AND ended_at IS NULL",
                (fetch_s, size_bytes, id),
            )

    def analyzing(self, id: int) -> None:
        """Record that a process analyzes it."""
        self._change(
            "UPDATE videos SET state = ?, changed_at = ? WHERE id = ?", State.ANALYZING, self._now(), id
        )

    def opened(self, id: int, parts_key: str, segments: Sequence[int], expected: int | None) -> None:
        """Make the rows of segments match the disk.

        Args:
            id: The video's row.
            parts_key: Prefix of the segments' names.
            segments: Those that are on the disk.
            expected: How many there will be, as far as the container says.
        """
        now = self._now()
        with self._transaction() as db:
            rows = {row[0] for row in db.execute("SELECT segment FROM segments WHERE video = ?", (id,))}
            for segment in rows - set(segments):
                db.execute("DELETE FROM segments WHERE video = ? AND segment = ?", (id, segment))
            for segment in set(segments) - rows:
                db.execute(
                    "INSERT INTO segments (video, segment, state, committed_at) VALUES (?, ?, ?, ?)",
                    (id, segment, _COMPLETED, now),
                )
            db.execute(
                "UPDATE videos SET parts_key = ?, segments = coalesce(?, segments) WHERE id = ?",
                (parts_key, expected, id),
            )

    def segment(self, id: int, segment: int, *, samples: int, faces: int, size_bytes: int) -> bool:
        """Record a committed segment; return whether it is new, which resets the count of failures."""
        now = self._now()
        with self._transaction() as db:
            known = db.execute(
                "SELECT 1 FROM segments WHERE video = ? AND segment = ?", (id, segment)
            ).fetchone()
            db.execute(
                "INSERT INTO segments VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (video, segment) DO UPDATE SET"
                " samples = excluded.samples, faces = excluded.faces, size_bytes = excluded.size_bytes,"
                " committed_at = excluded.committed_at",
                (id, segment, _COMPLETED, samples, faces, size_bytes, now),
            )
            if known is None:
                db.execute("UPDATE videos SET consecutive_failures = 0, interrupted = 0 WHERE id = ?", (id,))
        return known is None

    def done(self, id: int, run: Path, info: Mapping[str, Any], *, analysis_s: float | None = None) -> None:
        """Record that a video's run is published.

        Args:
            id: The video's row.
            run: The run's folder.
            info: The content of ``run.json``.
            analysis_s: How long the analysis took, the annotated video included.
        """
        now, folder = self._now(), self._stored(run)
        title = info.get("title")
        with self._transaction() as db:
            # A folder holds only the newest run of a video.
            db.execute(
                "UPDATE videos SET state = ?, reason = ?, error_kind = 'replaced', changed_at = ?"
                " WHERE run = ? AND id != ? AND state = ?",
                (State.SKIPPED, f"replaced by the run of {id}", now, folder, id, State.DONE),
            )
            db.execute(
                "UPDATE videos SET state = ?, reason = NULL, error_kind = NULL, error = NULL, video = NULL,"
                " consecutive_failures = 0, interrupted = 0, next_try = NULL, run = ?, complete = ?,"
                " counts = ?,"
                " video_id = ?, title = coalesce(?, title), channel = coalesce(?, channel),"
                " uploaded = coalesce(?, uploaded), duration_s = coalesce(?, duration_s), changed_at = ?,"
                " done_at = ? WHERE id = ?",
                (
                    *(State.DONE, folder, bool(info.get("complete")), json.dumps(info.get("counts"))),
                    *(info.get("video_id"), title, info.get("channel"), info.get("uploaded")),
                    *((info.get("video") or {}).get("duration_s"), now, now, id),
                ),
            )
            self._end(db, id, State.DONE, analysis_s=analysis_s)

    def skip(self, id: int, reason: str, kind: str) -> None:
        """Leave a video out.

        Args:
            id: The video's row.
            reason: A sentence for people.
            kind: ``filter``: a filter of the jobs, which each batch run checks again; ``duplicate``: another
                row is the same work; ``gone``: a local file is no longer there; `CANCELED`. The ledger itself
                writes ``settings``: they were changed before the video was done, and ``replaced``: a run with
                other settings took its folder.
        """
        with self._transaction() as db:
            db.execute(
                "UPDATE videos SET state = ?, reason = ?, error_kind = ?, error = NULL, video = NULL,"
                " next_try = NULL, changed_at = ? WHERE id = ?",
                (State.SKIPPED, reason, kind, self._now(), id),
            )
            self._end(db, id, State.SKIPPED, kind=kind, error=reason)

    def fail(
        self,
        id: int,
        kind: str,
        error: str,
        *,
        next_try: float | None,
        keep_download: bool = False,
        counted: bool = True,
    ) -> State:
        """End an attempt with a failure and return the video's new state.

        Args:
            id: The video's row.
            kind: Kind of the failure.
            error: One sentence.
            next_try: The earliest time of the next attempt; None: the video is abandoned.
            keep_download: Whether the downloaded file stays for the next attempt.
            counted: Whether the failure counts towards abandoning the video.
        """
        state = State.ABANDONED if next_try is None else State.FAILED
        with self._transaction() as db:
            db.execute(
                "UPDATE videos SET state = ?, error_kind = ?, error = ?,"
                " consecutive_failures = consecutive_failures + ?,"
                " next_try = ?, video = CASE WHEN ? THEN video END, changed_at = ? WHERE id = ?",
                (state, kind, error, counted, next_try, keep_download, self._now(), id),
            )
            self._end(db, id, state, kind=kind, error=error)
        return state

    def release(
        self, id: int, state: State, *, outcome: str = "stopped", next_try: float | None = None
    ) -> None:
        """End an attempt that says nothing about the video.

        Args:
            id: The video's row.
            state: Its new state: `State.NEW`, `State.FAILED`, or `State.DOWNLOADED` if the downloaded file
                is kept.
            outcome: ``stopped``: on request; ``deferred``: for a reason outside the video; ``interrupted``:
                the batch was killed.
            next_try: The earliest time of the next attempt.
        """
        with self._transaction() as db:
            db.execute(
                "UPDATE videos SET state = ?, video = CASE WHEN ? THEN video END, interrupted = interrupted"
                " + ?, next_try = ?, changed_at = ? WHERE id = ?",
                (
                    *(state, state is State.DOWNLOADED, outcome == "interrupted"),
                    *(next_try, self._now(), id),
                ),
            )
            self._end(db, id, outcome)

    def reopen(self, id: int) -> None:
        """Make a skipped, failed or abandoned video new again, as if it had never been tried."""
        self._change(
            "UPDATE videos SET state = ?, reason = NULL, error_kind = NULL, error = NULL,"
            " consecutive_failures = 0, interrupted = 0, next_try = NULL, video = NULL,"
            " changed_at = ? WHERE id = ? AND state NOT IN"
            " (?, ?, ?, ?)",
            State.NEW,
            self._now(),
            id,
            State.DONE,
            *RUNNING,
        )

    def _end(
        self,
        db: sqlite3.Connection,
        id: int,
        outcome: str,
        *,
        kind: str | None = None,
        error: str | None = None,
        analysis_s: float | None = None,
    ) -> None:
        db.execute(
            "UPDATE attempts SET ended_at = ?, outcome = ?, error_kind = ?, error = ?, analysis_s = ?"
            " WHERE video = ? AND ended_at IS NULL",
            (self._now(), outcome, kind, error, analysis_s, id),
        )

    # -- hosts

    def paused_until(self, host: str) -> float:
        """Return when the next request to a host is allowed; 0 if it is allowed now."""
        rows = self._rows("SELECT paused_until FROM hosts WHERE host = ?", host)
        return float(rows[0][0]) if rows else 0.0

    def pause_host(
        self, host: str, reason: str, *, first_s: float, cap_s: float, least_s: float = 0
    ) -> float:
        """Back off from a host that limits requests, and return until when.

        Args:
            host: Its name.
            reason: A sentence for people.
            first_s: Pause after the first complaint, in seconds; doubled with each, up to `cap_s`.
            cap_s: The longest pause, unless the host itself asks for a longer one.
            least_s: The pause that the host asks for, in seconds.
        """
        now = self._now()
        with self._transaction() as db:
            row = db.execute("SELECT complaints FROM hosts WHERE host = ?", (host,)).fetchone()
            complaints = 1 + (row[0] if row else 0)
            until = now + max(least_s, min(cap_s, first_s * 2.0 ** min(complaints - 1, 30)))
            db.execute(
                "INSERT INTO hosts VALUES (?, ?, ?, ?) ON CONFLICT (host) DO UPDATE SET"
                " paused_until = excluded.paused_until, complaints = excluded.complaints,"
                " reason = excluded.reason",
                (host, until, complaints, reason),
            )
        return until

    def host_answered(self, host: str) -> None:
        """Forget the complaints of a host that has answered."""
        if self._rows("SELECT 1 FROM hosts WHERE host = ?", host):
            self._change("DELETE FROM hosts WHERE host = ?", host)

    # -- batch runs

    def begin_batch_run(self) -> int:
        """Record that a batch run begins, and return its id."""
        with self._transaction() as db:
            db.execute("DELETE FROM workers")  # of one that was killed
            return int(
                db.execute("INSERT INTO batch_runs (started_at) VALUES (?)", (self._now(),)).lastrowid or 0
            )

    def end_batch_run(self, id: int, outcome: str, counts: Mapping[str, Any]) -> None:
        """Record how a batch run has ended."""
        with self._transaction() as db:
            db.execute("DELETE FROM workers")
            db.execute(
                "UPDATE batch_runs SET ended_at = ?, outcome = ?, counts = ? WHERE id = ?",
                (self._now(), outcome, json.dumps(counts), id),
            )

    def set_workers(self, workers: Sequence[WorkerRow]) -> None:
        """Record what the workers do now, in place of what was recorded before."""
        names = [each.name for each in dataclasses.fields(WorkerRow)]
        with self._transaction() as db:
            db.execute("DELETE FROM workers")
            db.executemany(
                f"INSERT INTO workers ({', '.join(names)}) VALUES ({_marks(names)})",
                [tuple(vars(worker).values()) for worker in workers],
            )

    # -- reading

    def workers(self) -> list[tuple[WorkerRow, str | None]]:
        """Return what the workers do, each with the title or source of its video.

        None if no batch is running.
        """
        if not is_running(self.path):
            return []
        rows = self._rows(
            "SELECT workers.*, coalesce(videos.title, videos.source) AS shown FROM workers"
            " LEFT JOIN videos ON videos.id = workers.video ORDER BY workers.worker"
        )
        found = [dict(row) for row in rows]
        return [
            (WorkerRow(**{name: row[name] for name in row if name != "shown"}), row["shown"]) for row in found
        ]

    def counts(self) -> dict[str, int]:
        """Count the videos of each state; states without a video are missing."""
        rows = self._rows("SELECT state, count(*) FROM videos GROUP BY state")
        found = {row[0]: row[1] for row in rows}
        return {state: found[state] for state in State if state in found}

    def videos(self, states: Sequence[str] = (), limit: int | None = None) -> list[dict[str, Any]]:
        """Return rows as dictionaries, newest change first, with full paths."""
        return list(self.each_video(states, limit))

    def each_video(self, states: Sequence[str] = (), limit: int | None = None) -> Iterator[dict[str, Any]]:
        """As `videos`, one by one."""
        most = -1 if limit is None else limit
        # Of each state, the index gives the newest ones: nothing else is read, and nothing sorted.
        newest = f"SELECT * FROM ({_VIDEOS} WHERE state = ? ORDER BY changed_at DESC, id DESC LIMIT ?)"
        wanted = list(dict.fromkeys(states)) or list(State)
        every = " UNION ALL ".join(newest for _ in wanted)
        sql = f"{every} ORDER BY changed_at DESC, id DESC LIMIT ?"
        values = [value for state in wanted for value in (state, most)]
        return (self._document(row) for row in self._each(sql, *values, most))

    def newest_done(self, limit: int) -> list[dict[str, Any]]:
        """Return the rows of the videos that were done last, as `videos` does, the newest first."""
        newest = "ORDER BY coalesce(done_at, 0) DESC, id DESC"
        ids = f"SELECT id FROM videos WHERE state = ? {newest} LIMIT ?"
        rows = self._rows(f"{_VIDEOS} WHERE id IN ({ids}) {newest}", State.DONE, limit)
        return [self._document(row) for row in rows]

    def results(self) -> Iterator[Result]:
        """Return what came of each done video."""
        rows = self._each("SELECT counts, duration_s, complete FROM videos WHERE state = ?", State.DONE)
        for counts, duration_s, complete in rows:
            known = json.loads(counts) or {} if counts else {}
            yield Result(known, duration_s, None if complete is None else bool(complete))

    def history(self, id: int) -> dict[str, Any]:
        """Return a video's row with its `attempts_list` and `segments_list`, all as JSON values.

        Raises:
            LedgerError: There is none.
        """
        self.get(id)
        (row,) = self._rows(f"{_VIDEOS} WHERE id = ?", id)
        attempts = self._rows("SELECT * FROM attempts WHERE video = ? ORDER BY number", id)
        segments = self._rows("SELECT * FROM segments WHERE video = ? ORDER BY segment", id)
        return self._document(row) | {
            "attempts_list": [_plain(each) for each in attempts],
            "segments_list": [_plain(each) for each in segments],
        }

    def hosts(self) -> list[dict[str, Any]]:
        """Return the hosts that are paused now."""
        rows = self._rows("SELECT * FROM hosts WHERE paused_until > ? ORDER BY host", self._now())
        return [_plain(row) for row in rows]

    def batch_runs(self, limit: int = 10) -> list[dict[str, Any]]:
        """Return the last batch runs, the newest first."""
        return [_plain(row) for row in self._rows("SELECT * FROM batch_runs ORDER BY id DESC LIMIT ?", limit)]

    def rates(self, settings_hash: str | None = None) -> list[tuple[float, float | None, int | None]]:
        """Return how long the newest finished attempts took.

        Returns:
            For each attempt: seconds of work (download and analysis), the video's length in seconds, and its
            size in bytes.
        """
        rows = self._rows(
            "SELECT coalesce(a.fetch_s, 0) + a.analysis_s, v.duration_s, v.size_bytes FROM attempts AS a"
            # Written out, as in the index.
            " JOIN videos AS v ON v.id = a.video WHERE a.outcome = 'done' AND a.analysis_s IS NOT NULL"
            " AND (? IS NULL OR v.settings_hash = ?) ORDER BY a.ended_at DESC LIMIT 200",
            *(settings_hash, settings_hash),
        )
        return [(row[0], row[1], row[2]) for row in rows]

    # -- maintenance

    def retry(self, ids: Sequence[int], *, abandoned: bool) -> int:
        """Make videos due now and return how many.

        Args:
            ids: Only these, whatever their state. Empty: all failed ones, and the pauses of all hosts end.
            abandoned: Without `ids`: the abandoned ones, too.

        Raises:
            LedgerError: One of `ids` is not in the ledger.
        """
        named = bool(ids)
        for id in ids:
            self.get(id)
        every = (State.FAILED, State.ABANDONED, State.SKIPPED, State.DONE)
        states = every if ids else every[: 1 + abandoned]
        # A run that still exists would only be adopted again.
        ids = [id for id in ids if not self.has_run(id)]
        if named and not ids:
            return 0
        where = f"state IN ({_marks(states)})" + (f" AND id IN ({_marks(ids)})" if ids else "")
        if not named:
            self._change("DELETE FROM hosts")
        return self._change(
            "UPDATE videos SET state = ?, reason = NULL, error_kind = NULL, error = NULL,"
            f" consecutive_failures = 0, interrupted = 0, next_try = NULL, video = NULL,"
            f" changed_at = ? WHERE {where}",
            State.NEW,
            self._now(),
            *states,
            *ids,
        )

    def has_run(self, id: int) -> bool:
        """Return whether a video is done and its run still exists."""
        work = self.get(id)
        return work.state is State.DONE and work.run is not None and (work.run / "run.json").exists()

    def prune(self, before: float) -> int:
        """Delete older attempts, except each video's last one, and older batch runs; return how many."""
        with self._transaction() as db:
            gone = db.execute(
                "DELETE FROM attempts WHERE ended_at < ? AND number <"
                " (SELECT max(number) FROM attempts AS other WHERE other.video = attempts.video)",
                (before,),
            ).rowcount
            gone += db.execute("DELETE FROM batch_runs WHERE ended_at < ?", (before,)).rowcount
        with self._errors():
            if self._db.execute("PRAGMA freelist_count").fetchone()[0]:
                self._db.execute("PRAGMA temp_store = FILE")  # a copy of everything
                self._db.execute("VACUUM")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return gone

    # -- rows

    def _stored(self, folder: Path) -> str:
        absolute = Path(os.path.abspath(folder))  # noqa: PTH100 - links stay as they are
        base = Path(os.path.abspath(self._base))  # noqa: PTH100
        return str(absolute.relative_to(base)) if absolute.is_relative_to(base) else str(absolute)

    def _stored_folder(self, folder: Path) -> str:
        if folder not in self._stored_folders:  # there are few, for many rows
            self._stored_folders[folder] = self._stored(folder)
        return self._stored_folders[folder]

    def _work(self, row: Row) -> Work:
        values = dict(zip(_WORK_COLUMNS, row, strict=True))
        folder, run, video = values["folder"], values["run"], values["video"]
        if folder not in self._folders:
            self._folders[folder] = self._base / folder
        return Work(
            **values
            | {
                "standalone": bool(values["standalone"]),
                "folder": self._folders[folder],
                "state": _STATES[values["state"]],
                "video": json.loads(video) if video else None,
                "run": self._base / run if run else None,
            }
        )

    def _document(self, row: Row) -> dict[str, Any]:
        document = _plain(row)
        del document["video"]
        document["folder"] = str(self._base / row["folder"])
        document["run"] = str(self._base / row["run"]) if row["run"] else None
        document["complete"] = None if row["complete"] is None else bool(row["complete"])
        document["standalone"] = bool(row["standalone"])
        return document


_STATES = {str(state): state for state in State}
_WORK_COLUMNS = tuple(each.name for each in dataclasses.fields(Work))
_OF_WORK = ", ".join(_WORK_COLUMNS)
_BY_KEY = "FROM videos WHERE identity = ? AND settings_hash = ? AND models_hash = ?"
_FIND_WORK = f"SELECT {_OF_WORK} {_BY_KEY}"
_VIDEOS = "SELECT videos.*, (SELECT count(*) FROM segments WHERE video = id) AS segments_done FROM videos"
_FACTS = frozenset({"video_id", "title", "channel", "uploaded", "duration_s", "size_bytes", "segments"})


def _marks(values: Collection[Any]) -> str:
    return ", ".join("?" * len(values))


def _plain(row: Row) -> dict[str, Any]:
    known = dict(row)
    for name in ("counts", "versions"):
        if isinstance(known.get(name), str):
            known[name] = json.loads(known[name])
    return known


def _open(path: Path | str, *, read_only: bool = False) -> sqlite3.Connection:
    if read_only:
        address = f"{Path(os.path.abspath(path)).as_uri()}?mode=ro"  # noqa: PTH100
        db = sqlite3.connect(address, uri=True, timeout=_BUSY_S, isolation_level=None)
        db.execute("PRAGMA query_only = ON")
    else:
        db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    db.row_factory = Row
    db.execute(f"PRAGMA cache_size = -{_CACHE_KB}")
    if path != ":memory:" and not read_only:
        db.execute("PRAGMA synchronous = FULL")
        # Else each change of `together` would write the pages that it changes to a file, to be undone.
        db.execute("PRAGMA temp_store = MEMORY")
        db.execute("PRAGMA foreign_keys = ON")
    return db


def _create(path: Path) -> None:
    """Create an empty ledger, by renaming: a file without tables is always damaged."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    temporary.unlink(missing_ok=True)
    for suffix in (
        "-wal",
        "-shm",
    ):  # left by a ledger that was moved away: SQLite would apply them to this one
        path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(temporary, isolation_level=None)) as db:
        _migrate(db, 0)
    temporary.replace(path)


def _migrate(db: sqlite3.Connection, version: int) -> None:
    for number in range(version + 1, SCHEMA_VERSION + 1):
        db.executescript(
            f"BEGIN IMMEDIATE; {_MIGRATIONS[number - 1]}; PRAGMA user_version = {number};"
            f" PRAGMA application_id = {_APPLICATION_ID}; COMMIT;"
        )


def _explained(path: Path, error: sqlite3.Error) -> LedgerError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    text = str(error).rpartition("\n")[2]  # quick_check writes a heading first
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return LedgerError(
            f"another program has locked the ledger {path} for {_BUSY_S:g} s: end it, or wait for it",
            temporary=True,
        )
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return LedgerError(
            f"the ledger {path} cannot be written ({text}): free some space, then run the same command again",
            temporary=True,
        )
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return LedgerError(
            f"the ledger {path} cannot be opened ({text}): check the permissions of the file and its folder"
        )
    return LedgerError(
        f"the ledger {path} is damaged ({text}): restore it from a backup, or move it away and run the batch "
        "again, which takes over the finished runs in its folder"
    )


def health(path: Path) -> tuple[str, str]:
    """Describe the state of a ledger and how to repair it (empty if there is nothing to repair)."""
    if not path.exists():
        return "none yet", ""
    try:
        with Ledger(path, read_only=True) as ledger:
            found = ledger._rows("PRAGMA quick_check(1)")[0][0]
            if found != "ok":
                raise _explained(path, sqlite3.DatabaseError(found))
            counts = ledger.counts()
    except LedgerError as error:
        return "it cannot be used", str(error)
    listed = ", ".join(f"{number} {state}" for state, number in counts.items())
    return f"{sum(counts.values())} videos" + (f": {listed}" if listed else ""), ""
