"""Find runs, choose among them, and query their tables with SQL.

DuckDB reads the Parquet files where they are, and loads only the columns that a figure needs.
"""

from __future__ import annotations

import contextlib
import csv
import datetime
import difflib
import io
import itertools
import logging
import math
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from analyzer.errors import OutputError, SettingsError
from analyzer.people.fusion import APPEARANCE_GAP_S as GAP_S
from analyzer.runs.run import Run
from analyzer.runs.run_info import FORMER_COLUMNS, SCHEMA_VERSION, UnusableRunError
from analyzer.runs.schema import (
    FACES,
    SAMPLES,
    SHARES,
    Column,
    people_columns,
    timeline_columns,
)
from analyzer.settings import AGE_BANDS, DEFAULT_OUT, Settings
from analyzer.util.atomic import paths_of
from analyzer.util.csv_text import csv_text
from analyzer.util.text import counted

__all__ = [
    "BY_FILE_NAME",
    "PERIODS",
    "RUN_COLUMNS",
    "VIEWS",
    "Chosen",
    "Corpus",
    "Found",
    "Skipped",
    "day_of",
    "find_runs",
    "newest_run",
    "zone_of",
]

log = logging.getLogger(__name__)

_MEMORY_MB = 600


# A folder named `a=1` is not a partition, and the delimiter of a CSV file is known.
_PARQUET = "read_parquet({}, union_by_name = {}, hive_partitioning = false)"

_CSV = (
    "read_csv({}, header = true, all_varchar = true, union_by_name = {}, hive_partitioning = false, "
    "delim = ',', quote = '\"', escape = '\"')"
)

_TEXT, _REAL, _INT, _BOOL, _DATE = pa.string(), pa.float64(), pa.int64(), pa.bool_(), pa.date32()


RUN_COLUMNS = (
    Column("run", _TEXT, "Name of the run's folder; with parent folders where two have the same."),
    Column("video_id", _TEXT, "Stable name of the video."),
    Column("title", _TEXT, "Its title."),
    Column("channel", _TEXT, "Its channel; empty for files."),
    Column("url", _TEXT, "Address of its page; empty for files."),
    Column("source", _TEXT, "Source as named on the command line, without folders."),
    Column(
        "folder",
        _TEXT,
        "Folder of a file; with parent folders where two have the same name. Empty for web videos.",
    ),
    Column("kind", _TEXT, "video or images."),
    Column(
        "day",
        _DATE,
        "Day of the upload; for files, day of the recording if known, else of the analysis.",
    ),
    Column("day_is", _TEXT, "uploaded, recorded or analyzed: what the day refers to."),
    Column(
        "hour",
        _INT,
        "Hour of the upload or recording in `--timezone`, 0 to 23; empty if not known.",
        "h",
    ),
    Column("analyzed_at", _TEXT, "When it was analyzed, ISO 8601."),
    Column("complete", _BOOL, "Whether it was read to its end."),
    Column("duration_s", _REAL, "Declared length.", "s"),
    Column("analyzed_s", _REAL, "Duration of the analyzed frames, added up.", "s"),
    Column("samples", _INT, "Analyzed frames."),
    Column("faces", _INT, "Faces in them."),
    Column("people", _INT, "People."),
    Column("people_low", _INT, "People, at least."),
    Column("people_high", _INT, "People, at most."),
    Column("width", _INT, "Width of the frame.", "pixels"),
    Column("height", _INT, "Height of the frame.", "pixels"),
    Column("preset", _TEXT, "Preset that the settings match; custom if none."),
    Column("schema_version", _INT, "Schema version of its tables."),
)
"""Columns of the view `runs`; the columns of `--columns` follow them."""


def _table_columns(scene: str) -> dict[str, tuple[Column, ...]]:
    # The timeline with all age bands there are.
    every = (timeline_columns(Settings(age_bands=bands, scene=scene)) for bands in AGE_BANDS)
    return {
        "people": people_columns(Settings(scene=scene)),
        "shares": SHARES,
        "timeline": tuple({column.name: column for columns in every for column in columns}.values()),
        "faces": FACES,
        "samples": SAMPLES,
    }


_TABLE_COLUMNS = _table_columns("video")

_TABLES = {"people": True, "shares": True, "timeline": True, "faces": False, "samples": False}
"""Views besides `runs`, and whether the table may be CSV. Each has the columns of the table and `run`."""

VIEWS = ("runs", *_TABLES)

PERIODS = ("day", "week", "month", "hour")

BY_FILE_NAME = "name"
"""The value of `--by` that groups runs by file name."""


@dataclass(frozen=True)
class Skipped:
    """A folder that is not in the report.

    Attributes:
        fault: Whether that is an error: the user named it, or it is damaged. Otherwise it contains no run.
    """

    folder: Path
    reason: str
    fault: bool


@dataclass(frozen=True)
class Found:
    """Runs that were found, and folders that were skipped."""

    runs: tuple[Run, ...]
    skipped: tuple[Skipped, ...]


_UNFINISHED = "is unfinished: run analyze on the same source again"

_FOREIGN = "holds no run"

_FORBIDDEN = "cannot be read: permission denied"


def find_runs(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> Found:
    """Find the finished runs in some folders, at any depth."""
    runs: dict[Path, Run] = {}
    skipped: dict[Path, Skipped] = {}
    for path in paths_of(paths):
        if not path.is_dir():
            reason = (
                "is not a folder: name a run's folder or one with runs" if path.exists() else "does not exist"
            )
            skipped[path] = Skipped(path, reason, fault=True)
            continue
        below = list(_walk(path, {path.resolve()}))
        found = {one.folder.resolve(): one for one in below if isinstance(one, Run)}
        runs |= found
        # A folder that was named and contains nothing is an error.
        others = [
            replace(one, fault=one.fault or one.folder == path) for one in below if isinstance(one, Skipped)
        ]
        if not found and not any(one.fault for one in others):
            others.append(Skipped(path, _FOREIGN, fault=True))
        skipped |= {one.folder.resolve(): one for one in others}
    return Found(tuple(runs.values()), tuple(skipped.values()))


def newest_run(out: str | os.PathLike[str] = DEFAULT_OUT) -> Found:
    """Find the run in a folder that was analyzed last."""
    if not Path(out).is_dir():
        return Found((), ())
    found = find_runs([out])
    newest = max(found.runs, key=lambda run: str(run.info.get("analyzed_at", "")), default=None)
    return Found((newest,) if newest else (), ())


def _walk(folder: Path, seen: set[Path]) -> Iterator[Run | Skipped]:
    """Yield the runs in a folder and below, and each folder without any; skip folders that were `seen`."""
    try:
        names = {one.name for one in folder.iterdir()}
        if "run.json" in names:
            yield _opened(folder)
            return
        if names & {".parts", ".new"}:
            yield Skipped(folder, _UNFINISHED, fault=False)
            return
        inside = [folder / name for name in sorted(names) if not name.startswith(".")]
        inside = [one for one in inside if one.is_dir()]
    except OSError as error:
        yield Skipped(folder, f"cannot be read ({error.strerror})", fault=True)
        return
    for one in inside:
        if (place := one.resolve()) in seen:
            continue
        seen.add(place)
        below = list(_walk(one, seen))
        # Of nested folders without any run only the outermost is named.
        has_runs = any(isinstance(each, Run) or each.reason != _FOREIGN for each in below)
        yield from below if has_runs else [Skipped(one, _FOREIGN, fault=False)]


def _opened(folder: Path) -> Run | Skipped:
    try:
        run = Run.load(folder)
    except UnusableRunError as error:
        forbidden = isinstance(error.__cause__, PermissionError)
        return Skipped(folder, _FORBIDDEN if forbidden else error.reason, fault=True)
    try:
        if run.may_be_corrected:
            from analyzer.runs.rederive import heal, is_current  # late: few runs are

            run = run if is_current(run) else heal(folder)
    except OutputError as error:  # as a rule it is being corrected right now
        log.info("%s: %s", folder, error)
    problem = _problem(run)
    return run if problem is None else Skipped(folder, problem, fault=True)


def _problem(run: Run) -> str | None:
    missing = [name for name, or_csv in _TABLES.items() if _table_file(run.folder, name, or_csv) is None]
    missing = [name for name in missing if name not in ("shares", "timeline")]  # older versions had no shares
    return f"lacks its table {missing[0]}: analyze the video again" if missing else None


def _table_file(folder: Path, name: str, or_csv: bool = True) -> Path | None:
    for suffix in ("parquet", "csv") if or_csv else ("parquet",):
        if (path := folder / f"{name}.{suffix}").exists():
            return path
    return None


UTC = "UTC"


def zone_of(name: str) -> ZoneInfo:
    """The time zone of a name.

    Raises:
        SettingsError: There is no such time zone.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        known = sorted(available_timezones())
        ends = {zone.rpartition("/")[2].casefold(): zone for zone in known}
        wanted = name.strip().replace(" ", "_").casefold()
        near = [ends[wanted]] if wanted in ends else difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}?" if near else "write one such as Europe/Berlin"
        raise SettingsError(f"--timezone: {name!r} is not a time zone; {hint}") from error


@dataclass(frozen=True)
class Chosen:
    """The choice of runs for a report.

    Attributes:
        since: This day or later.
        channels: Only these channels, ignoring case; empty: all.
        where: A condition in SQL over the columns of `runs`.
        columns: A CSV file with additional columns. The first column is `run`, `video_id`, `title`, `url` or
            `source` and identifies the runs of a row.
        timezone: IANA name of the time zone of days and hours.

    Raises:
        SettingsError: There is no such time zone.
    """

    since: datetime.date | None = None
    channels: tuple[str, ...] = ()
    where: str | None = None
    columns: Path | None = None
    timezone: str = UTC

    def __post_init__(self) -> None:
        zone_of(self.timezone)

    def in_words(self) -> list[str]:
        """The filters in words, a phrase each."""
        words = [f"since {self.since.isoformat()}"] if self.since else []
        words += ["channel " + " or ".join(self.channels)] if self.channels else []
        words += [f"where {self.where}"] if self.where else []
        return words + ([f"days in {self.timezone}"] if self.timezone != UTC else [])


_PERSON = {
    "person_id": "INTEGER",
    "first_s": "DOUBLE",
    "last_s": "DOUBLE",
    "on_screen_s": "DOUBLE",
    "appearances": "INTEGER",
    "samples": "INTEGER",
    "gender": "VARCHAR",
    "female_prob": "DOUBLE",
    "age_years": "DOUBLE",
    "age_low": "DOUBLE",
    "age_high": "DOUBLE",
    "estimated_samples": "INTEGER",
    "name": "VARCHAR",
    "gender_source": "VARCHAR",
    "age_source": "VARCHAR",
    "corrected": "BOOLEAN",
}


_COUNTED = {"samples": "moment", "people": "person"}

_SAMPLE = {"sample": "INTEGER", "time_s": "DOUBLE", "duration_s": "DOUBLE"}

_SHARE = {"dimension": "VARCHAR", "group": "VARCHAR"} | {
    column.name: "DOUBLE" for column in SHARES if column.unit
}

_BIN = {
    column.name: "DOUBLE" for column in _TABLE_COLUMNS["timeline"] if column.name not in ("video_id", "clock")
}

_FACE = {"sample": "INTEGER", "time_s": "DOUBLE", "person_id": "INTEGER"}


class Corpus:
    """Runs whose tables can be queried with SQL, numbered from 0 in the column `run_no`; a context manager.

    Tables: `person`, a row per person; `share`, a row per group of people; `bin`, a row per bin of the
    timeline, if there is a single run; `moment`, a row per sample, with the number of people and their
    genders (1: female, 2: male, 3: both, 0: neither); `visit`, a row per person and interval of `GAP_S` in
    which the person is seen.

    Attributes:
        runs: The runs.
        table: A row per run: `RUN_COLUMNS` and the columns of `--columns`.
        skipped: Folders that were left out because they cannot be read or contain no run.
        unfitting: A sentence about rows of `--columns` that match no run; empty if all match.
    """

    def __init__(self, runs: Sequence[Run], table: pd.DataFrame) -> None:
        self.runs = tuple(runs)
        self.table = table
        self.skipped: tuple[Skipped, ...] = ()
        self.unfitting = ""
        self._spill = Path(tempfile.mkdtemp(prefix="analyzer-report-"))
        self.connection = duckdb.connect(
            config={
                "memory_limit": f"{_MEMORY_MB}MB",
                "temp_directory": str(self._spill),
                "preserve_insertion_order": "false",
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
            }
        )
        # Aggregating the many faces before joining them with people takes three times as long.
        self.connection.execute("SET disabled_optimizers = 'partial_aggregate_pushdown'")

    @classmethod
    def open(cls, found: Found, chosen: Chosen | None = None) -> Self:
        """Open the runs that were found, as far as they are chosen and readable.

        Raises:
            SettingsError: The condition or the file of additional columns is wrong.
            OutputError: Memory or disk space for temporary files is insufficient.
        """
        chosen = chosen or Chosen()
        table, unfitting = _runs_table(found.runs, zone_of(chosen.timezone)), ""
        if chosen.columns is not None:
            table, unfitting = _with_own_columns(table, chosen.columns)
        keep = np.ones(len(table), bool)
        if chosen.since is not None:
            keep &= np.array([day >= chosen.since for day in table["day"]], bool)
        if chosen.channels:
            wanted = {name.casefold() for name in chosen.channels}
            keep &= np.array([str(name or "").casefold() in wanted for name in table["channel"]], bool)
        runs, table = _kept(found.runs, table, keep)
        skipped = list(found.skipped)
        if chosen.where is not None:
            keep = _where(runs, table, chosen.where, skipped)
            runs, table = _kept(runs, table, keep)
        while True:
            corpus = cls(runs, table)
            try:
                damaged = corpus._load()
            except duckdb.Error as error:
                corpus.close()
                if not (damaged := _damaged(runs)):
                    raise OutputError(
                        f"the tables of the runs cannot be combined ({_first_line(error)})"
                    ) from error
            except BaseException:
                corpus.close()
                raise
            if not damaged:
                corpus.skipped, corpus.unfitting = tuple(skipped), unfitting
                return corpus
            corpus.close()
            skipped += [Skipped(runs[number].folder, why, fault=True) for number, why in damaged.items()]
            sound = np.array([number not in damaged for number in range(len(runs))], bool)
            runs, table = _kept(runs, table, sound)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        self.connection.close()
        shutil.rmtree(self._spill, ignore_errors=True)

    @property
    def audiences(self) -> list[int]:
        """Numbers of the runs that were analyzed as an audience and have attention columns."""
        return [number for number, run in enumerate(self.runs) if run.info.get("audience")]

    def frame(self, sql: str) -> pd.DataFrame:
        """The result of a query."""
        frame: pd.DataFrame = self.execute(sql).df()
        return frame

    def execute(self, sql: str) -> duckdb.DuckDBPyConnection:
        """Run a statement.

        Raises:
            KeyboardInterrupt: Ctrl-C, which DuckDB turns into an error of its own.
        """
        try:
            return self.connection.execute(sql)
        except RuntimeError as error:
            if "interrupted" in str(error).lower():
                raise KeyboardInterrupt from error
            raise

    def rows(self, name: str, columns: Mapping[str, str]) -> str:
        """SQL for a table of all runs: `run_no` and some columns, cast to the given types.

        Columns that a run of an older version lacks are NULL in its rows.
        """
        files = [(n, _table_file(run.folder, name, _TABLES[name])) for n, run in enumerate(self.runs)]
        # Unions only where needed: joins over them are planned badly.
        older = any(run.info["schema_version"] < SCHEMA_VERSION for run in self.runs)
        former = FORMER_COLUMNS.get(name, {}) if older else {}
        former = {column: former[column] for column in columns if column in former}
        values = {
            column: f'coalesce("{column}", "{former[column]}")' if column in former else f'"{column}"'
            for column in columns
        }
        cast = ", ".join(f'{values[column]}::{kind} AS "{column}"' for column, kind in columns.items())
        none = ", ".join(f'NULL::{kind} AS "{column}"' for column, kind in columns.items())
        parts = []
        for suffix, reader in (("parquet", _PARQUET), ("csv", _CSV)):
            mine = [(number, path) for number, path in files if path and path.suffix == f".{suffix}"]
            if not mine:
                continue
            paths = "[" + ", ".join(_quoted(_no_pattern(path.absolute())) for _, path in mine) + "]"
            number = "file_index"
            if [number for number, _ in mine] != list(range(len(mine))):
                number = "[" + ", ".join(str(number) for number, _ in mine) + "][(file_index + 1)::BIGINT]"
            # Columns of these tables depend on the settings; comparing the others would take time.
            mixed = name == "timeline" or (name == "people" and bool(self.audiences))
            mixed |= older
            whole = reader.format(paths, str(mixed).lower())
            if mixed:
                missing = ", ".join(f'NULL AS "{column}"' for column in (*columns, *former.values()))
                whole = (
                    f"(SELECT file_index, * FROM {whole} "
                    f"UNION ALL BY NAME SELECT NULL AS file_index, {missing} WHERE false)"
                )
            parts.append(f"SELECT ({number})::INTEGER AS run_no, {cast} FROM {whole}")
        return " UNION ALL ".join(parts) or f"SELECT NULL::INTEGER AS run_no, {none} WHERE false"

    def open_views(self) -> None:
        """Make the views of `VIEWS` for SQL by the user, and forbid access to all other files."""
        connection = self.connection
        connection.register("runs_frame", self.table.assign(run_no=range(len(self.table))))
        connection.execute("CREATE TEMP TABLE runs AS SELECT * FROM runs_frame")
        connection.unregister("runs_frame")
        tables = _table_columns("audience") if self.audiences else _TABLE_COLUMNS
        for name in _TABLES:
            columns = {column.name: _sql_type(column) for column in tables[name]}
            connection.execute(
                f"CREATE TEMP VIEW {name} AS SELECT runs.run, t.* EXCLUDE (run_no) "
                f"FROM ({self.rows(name, columns)}) t JOIN runs USING (run_no)"
            )
        names = [f"{run.folder.absolute()}/" for run in self.runs]
        folders = ", ".join(map(_quoted, {*names, *map(_no_pattern, names)}))
        connection.execute(f"SET allowed_directories = [{folders}]")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")

    def _load(self) -> dict[int, str]:
        """Make the tables; return what is wrong with runs whose tables do not match their ``run.json``."""
        run = self.execute
        faces = self.rows("faces", _FACE)
        run(f"CREATE TEMP TABLE person AS {self.rows('people', _PERSON)}")
        # A single key for run and person makes joining many faces with few people a lookup.
        (most,) = run("SELECT coalesce(max(person_id), 0) + 1 FROM person").fetchone() or (1,)
        key = f"run_no::BIGINT * {most} + person_id"
        run(
            f"""CREATE TEMP TABLE known AS SELECT {key} AS key,
                CASE gender WHEN 'female' THEN 1 WHEN 'male' THEN 2 ELSE 0 END AS gender FROM person"""
        )
        run(
            f"""CREATE TEMP TABLE shown AS
            SELECT run_no, sample, count(*)::INTEGER AS people, bit_or(gender) AS genders
            FROM ({faces}) JOIN known ON known.key = {key} WHERE person_id > 0 GROUP BY ALL"""
        )
        run(
            f"""CREATE TEMP TABLE moment AS
            SELECT run_no, sample, time_s, duration_s, coalesce(people, 0) AS people,
                coalesce(genders, 0) AS genders
            FROM ({self.rows("samples", _SAMPLE)}) LEFT JOIN shown USING (run_no, sample)"""
        )
        run("DROP TABLE shown")
        run("DROP TABLE known")
        run(
            f"""CREATE TEMP TABLE visit AS
            SELECT run_no, person_id, start_s, last.time_s + last.duration_s AS end_s FROM (
                SELECT run_no, person_id, floor(time_s / {GAP_S}) AS bin, min(time_s) AS start_s,
                    max(sample) AS sample
                FROM ({faces}) WHERE person_id > 0 GROUP BY ALL
            ) JOIN moment last USING (run_no, sample)"""
        )
        run(f"CREATE TEMP TABLE share AS {self.rows('shares', _SHARE)}")
        if len(self.runs) == 1:
            run(f"CREATE TEMP TABLE bin AS {self.rows('timeline', _BIN)}")
        counted = {
            name: dict(run(f"SELECT run_no, count(*) FROM {table} GROUP BY run_no").fetchall())
            for name, table in _COUNTED.items()
        }
        # The number of faces is in the metadata of the files: ten million need not be counted.
        paths = {str((one.folder / "faces.parquet").absolute()): n for n, one in enumerate(self.runs)}
        listed = ", ".join(_quoted(_no_pattern(path)) for path in paths)
        counted["faces"] = {}
        if paths:
            said = run(f"SELECT file_name, num_rows FROM parquet_file_metadata([{listed}])").fetchall()
            counted["faces"] = {paths[name]: count for name, count in said}
        found = {}
        for number, one in enumerate(self.runs):
            for name, counts in counted.items():
                there = counts.get(number, 0)
                if one.info["counts"].get(name, there) != there:
                    found[number] = (
                        f"has a table of {name} that does not match its run.json: analyze it again"
                    )
        return found


def _kept(
    runs: Sequence[Run], table: pd.DataFrame, keep: NDArray[np.bool_]
) -> tuple[tuple[Run, ...], pd.DataFrame]:
    return tuple(itertools.compress(runs, keep)), table[keep].reset_index(drop=True)


def _damaged(runs: Sequence[Run]) -> dict[int, str]:
    """Which runs cannot be read, and why."""
    found = {}
    for number, run in enumerate(runs):
        one = Corpus((run,), pd.DataFrame())
        try:
            if wrong := one._load():
                found[number] = wrong[0]
        except duckdb.OutOfMemoryException:
            pass  # not the fault of the file
        except duckdb.Error as error:
            log.info("%s: %s", run.folder, error)
            files = [_table_file(run.folder, name, or_csv) for name, or_csv in _TABLES.items()]
            readable = all(os.access(path, os.R_OK) for path in files if path)
            found[number] = "has a damaged table: analyze the video again" if readable else _FORBIDDEN
        finally:
            one.close()
    return found


def _where(
    runs: Sequence[Run], table: pd.DataFrame, condition: str, skipped: list[Skipped]
) -> NDArray[np.bool_]:
    """Which runs meet a condition in SQL."""
    with contextlib.closing(Corpus(runs, table)) as corpus:
        try:
            corpus.open_views()
            sql = f"SELECT run_no FROM runs WHERE (\n{condition}\n)"
            statements = corpus.connection.extract_statements(sql)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise SettingsError(
                    f"--where {condition!r} is not a condition: write a single SQL expression"
                )
            met = {row[0] for row in corpus.connection.execute(sql).fetchall()}
        except (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException) as error:
            raise SettingsError(
                f"--where {condition!r} is not valid SQL ({_first_line(error)}): the columns are "
                f"{', '.join(table.columns)}"
            ) from error
        except duckdb.Error as error:
            if not (damaged := _damaged(runs)):
                raise SettingsError(f"--where {condition!r} failed ({_first_line(error)})") from error
        else:
            return np.array([number in met for number in range(len(runs))], bool)
    skipped += [Skipped(runs[number].folder, why, fault=True) for number, why in damaged.items()]
    keep = np.array([number not in damaged for number in range(len(runs))], bool)
    keep[keep] = _where(*_kept(runs, table, keep), condition, skipped)
    return keep


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


def _no_pattern(path: str | Path) -> str:
    """A path as a glob pattern that matches only itself.

    >>> _no_pattern("a*b[1]")
    'a[*]b[[]1]'
    """
    return re.sub(r"[*?[]", r"[\g<0>]", str(path))


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _sql_type(column: Column) -> str:
    if pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type):
        return "FLOAT[]"
    if pa.types.is_timestamp(column.type):
        return "TIMESTAMPTZ"
    return {_TEXT: "VARCHAR", _INT: "BIGINT", _BOOL: "BOOLEAN"}.get(column.type, "DOUBLE")


def _runs_table(runs: Sequence[Run], zone: ZoneInfo) -> pd.DataFrame:
    names = _run_names([run.folder for run in runs])
    folders = _folder_names([_folder_of(run.info) for run in runs])
    rows = [
        _run_row(name, run.info, zone) | {"folder": folder}
        for name, folder, run in zip(names, folders, runs, strict=True)
    ]
    return pd.DataFrame(rows, columns=[column.name for column in RUN_COLUMNS], dtype=object)


def _run_names(folders: Sequence[Path]) -> list[str]:
    """The names of the folders, with as many parent folders as it takes to tell them apart."""
    parts = [folder.resolve().parts for folder in folders]
    depth = _telling_depth(parts)
    return ["/".join(each[-depth:]) for each in parts]


def _telling_depth(paths: Iterable[tuple[str, ...]]) -> int:
    """How many last parts are needed to tell different paths apart."""
    parts, depth = set(paths), 1
    while depth < max(map(len, parts), default=0) and len({p[-depth:] for p in parts}) < len(parts):
        depth += 1
    return depth


def _folder_of(info: Mapping[str, Any]) -> tuple[str, ...]:
    """The parts of the folder of a file, as named; for a folder of images, of the folder itself."""
    source = str(info.get("source") or "")
    if "://" in source or info.get("url") or info.get("kind") == "live":
        return ()
    if info.get("kind") == "images":
        with contextlib.suppress(ValueError):  # a folder, a file, or several files quoted as for a shell
            several = shlex.split(source)
            source = several[0] if len(several) > 1 and all(Path(one).suffix for one in several) else source
        if not Path(source).suffix:
            return Path(source).parts
    return Path(source).parent.parts


def _folder_names(folders: Sequence[tuple[str, ...]]) -> list[str | None]:
    """Names that tell the folders apart; a path that is the end of another is the same folder."""
    whole = {
        each: max((one for one in folders if one[-len(each) :] == each), key=len)
        for each in set(folders)
        if each
    }
    depth = _telling_depth(whole.values())
    return ["/".join(whole[each][-depth:]) if each else None for each in folders]


def _run_row(name: str, info: Mapping[str, Any], zone: ZoneInfo) -> dict[str, Any]:
    counts, video = info["counts"], info.get("video") or {}
    people = _whole(counts.get("people")) or 0
    day, day_is, hour = day_of(info, zone)
    return {
        "run": name,
        "video_id": info.get("video_id"),
        "title": str(info.get("title") or name),
        "channel": _text(info.get("channel")),
        "url": _text(info.get("url")),
        "source": _without_folders(str(info.get("source") or "")),
        "kind": info.get("kind", "video"),
        "day": day,
        "day_is": day_is,
        "hour": hour,
        "analyzed_at": info.get("analyzed_at"),
        "complete": bool(info.get("complete")),
        "duration_s": _number(video.get("duration_s")),
        "analyzed_s": _number(counts.get("analyzed_s")),
        "samples": _whole(counts.get("samples")),
        "faces": _whole(counts.get("faces")),
        "people": people,
        "people_low": people if (known := _whole(counts.get("people_low"))) is None else known,
        "people_high": people if (known := _whole(counts.get("people_high"))) is None else known,
        "width": _whole(video.get("width")),
        "height": _whole(video.get("height")),
        "preset": info.get("preset") or "custom",
        "schema_version": info["schema_version"],
    }


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _listed(value: Any) -> list[Any]:
    """The value if it is a list; otherwise a list with the value, so that it is noticed."""
    return value if isinstance(value, list) else [value] if value else []


def _without_folders(source: str) -> str:
    """A source without its folders: a report that is passed on does not reveal them."""
    return source if "://" in source else Path(source).name


def day_of(
    info: Mapping[str, Any], zone: datetime.tzinfo = datetime.UTC
) -> tuple[datetime.date, str, int | None]:
    """Day, what it refers to, and hour if known; times with a time zone are converted to `zone`."""
    for key, word in (("uploaded_at", "uploaded"), ("uploaded", "uploaded"), ("recorded_at", "recorded")):
        with contextlib.suppress(ValueError, OverflowError):
            if text := info.get(key):
                known = datetime.datetime.fromisoformat(str(text))
                known = known.astimezone(zone) if known.tzinfo else known
                return known.date(), word, None if key == "uploaded" else known.hour
    with contextlib.suppress(ValueError, OverflowError):
        known = datetime.datetime.fromisoformat(str(info.get("analyzed_at")))
        return (known.astimezone(zone) if known.tzinfo else known).date(), "analyzed", None
    return datetime.date(1970, 1, 1), "analyzed", None


_MOST_NAMED = 10

_KEYS = ("run", "video_id", "title", "url", "source")


def _numbers_if_all_are(column: pd.Series[Any]) -> pd.Series[Any]:
    """A column of texts as numbers, if nothing is lost: 007 is not a number."""
    known = column[column.notna() & (column != "")]
    plain = known.map(lambda text: bool(re.fullmatch(r"-?(0|[1-9]\d*)(\.\d+)?", str(text)))).all()
    return pd.to_numeric(column.replace("", None)).convert_dtypes() if len(known) and plain else column


def _with_own_columns(table: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, str]:
    """The table with the columns of a CSV file, whose first column identifies the run of a row.

    Also a sentence about rows that match no run; empty if all match.
    """
    try:
        own = pd.read_csv(
            io.StringIO(csv_text(path), newline=""),
            dtype=str,
            keep_default_na=False,
            sep=None,
            engine="python",
            index_col=False,
        )
    except (OSError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or _first_line(error)
        raise SettingsError(f"--columns {path} cannot be read ({reason}): a CSV file is needed") from error
    key, *names = own.columns
    if key not in _KEYS or not names:
        raise SettingsError(
            f"--columns {path} needs a first column {', '.join(_KEYS[:-1])} or {_KEYS[-1]}, then your own"
        )
    taken = {"run_no", "video", *PERIODS, *table.columns}
    for name in names:
        if name.casefold() in taken:  # SQL ignores case
            raise SettingsError(f"--columns {path} has a column whose name is taken: {name}")
        taken.add(name.casefold())
    if own[key].duplicated().any():
        twice = own.loc[own[key].duplicated(), key].iloc[0]
        raise SettingsError(f"--columns {path} has two rows for {key} {twice!r}")
    there = set(table[key].dropna())
    alien = [value for value in own[key] if value not in there]
    listed = ", ".join(repr(value) for value in alien[:_MOST_NAMED])
    listed += f" and {len(alien) - _MOST_NAMED:,} more" if len(alien) > _MOST_NAMED else ""
    if len(alien) == len(own) and len(table):
        example = next(iter(sorted(there)), None)
        known = f"such as {example!r}" if example is not None else f"and no run here has a {key}"
        raise SettingsError(
            f"--columns {path} matches none of the runs: its first column must contain their {key}, {known}"
            + (f", but contains {listed}" if alien else ", but there are no rows")
        )
    unfitting = ""
    if alien and len(table):
        match, was = ("matches", "it was") if len(alien) == 1 else ("match", "they were")
        rows = counted(len(alien), "row")
        unfitting = f"{rows} of {path.name} {match} no run ({key} {listed}); {was} ignored"
    values = own.set_index(key).reindex(table[key].to_numpy()).reset_index(drop=True)
    values = values.apply(_numbers_if_all_are)
    mine = {name: values[name].astype(object).where(values[name].notna(), None) for name in names}
    return table.assign(**mine), unfitting
