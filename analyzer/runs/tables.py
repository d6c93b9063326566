"""Tables in memory and on disk: Parquet, CSV, JSON, spreadsheet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analyzer.runs.run_info import SCHEMA_VERSION
from analyzer.runs.schema import CLOCK, FLOAT, REAL, Column
from analyzer.util import sheets
from analyzer.util.atomic import writing
from analyzer.util.sheets import Sheet

__all__ = [
    "concat_tables",
    "empty_table",
    "meanings_sheet",
    "no_clock",
    "sheet_of",
    "write_csv",
    "write_json",
    "write_parquet",
]


def _to_arrow(frame: pd.DataFrame, columns: tuple[Column, ...]) -> pa.Table:
    missing = [column.name for column in columns if column.name not in frame]
    extra = [name for name in frame if name not in {column.name for column in columns}]
    if missing or extra:
        raise ValueError(f"table does not fit its schema: missing {missing}, not in it {extra}")
    schema = pa.schema(
        [pa.field(c.name, c.type, metadata={"meaning": c.meaning, "unit": c.unit}) for c in columns],
        metadata={"analyzer_schema_version": str(SCHEMA_VERSION)},
    )
    if frame.empty:
        return schema.empty_table()
    return pa.Table.from_pandas(frame[[c.name for c in columns]], schema=schema, preserve_index=False)


def write_parquet(path: Path, frame: pd.DataFrame, columns: tuple[Column, ...]) -> None:
    """Write a table as Parquet, one row group, types and meanings from the schema.

    Raises:
        OutputError: It cannot be written.
        ValueError: The table does not fit the schema.
    """
    table = _to_arrow(frame, columns)
    with writing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=max(1, len(table)))


def _iso_time(time: pd.Timestamp) -> str:
    return time.isoformat(timespec="milliseconds")


def no_clock(rows: int) -> pd.Series[pd.Timestamp]:
    """Return a column of unknown times."""
    return pd.Series(pd.NaT, index=range(rows), dtype="datetime64[ms, UTC]")


def write_csv(path: Path, frame: pd.DataFrame, columns: tuple[Column, ...]) -> None:
    """Write a table as CSV. Spreadsheets will not take text cells for formulas; numbers stay numbers.

    Raises:
        OutputError: It cannot be written.
        ValueError: The table does not fit the schema.
    """
    sheets.write_csv(path, _shown(frame, columns))


def _shown(frame: pd.DataFrame, columns: tuple[Column, ...]) -> pd.DataFrame:
    """Return a table as people read it: rounded numbers, times as text."""
    table: pd.DataFrame = _to_arrow(frame, columns).to_pandas()
    for column in columns:
        if column.type == CLOCK:
            table[column.name] = table[column.name].map(_iso_time, na_action="ignore")
        elif column.type == REAL:
            table[column.name] = table[column.name].round(6)
        elif column.type == FLOAT:
            table[column.name] = table[column.name].astype(np.float64).round(4)
    return table


def sheet_of(name: str, frame: pd.DataFrame, columns: tuple[Column, ...]) -> Sheet:
    """Return a table as a sheet of a workbook.

    Raises:
        ValueError: The table does not fit the schema.
    """
    table = _shown(frame, columns)
    plain = table.astype(object).where(table.notna(), None)
    rows = [tuple(map(_plain, row)) for row in plain.itertuples(index=False, name=None)]
    shares = frozenset(column.name for column in columns if column.unit == "0 to 1")
    return Sheet(name, [column.name for column in columns], rows, shares)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def meanings_sheet(tables: dict[str, tuple[Column, ...]]) -> Sheet:
    """Return a sheet with the meaning of all columns."""
    rows = [
        (name, column.name, column.unit, column.meaning)
        for name, columns in tables.items()
        for column in columns
    ]
    return Sheet("columns", ("sheet", "column", "unit", "meaning"), rows)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file.

    Raises:
        OutputError: It cannot be written.
    """
    with writing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n", "utf-8")


def empty_table(columns: tuple[Column, ...]) -> pd.DataFrame:
    """Return a table without rows."""
    schema = pa.schema([pa.field(column.name, column.type) for column in columns])
    table: pd.DataFrame = schema.empty_table().to_pandas()
    return table


def concat_tables(frames: list[pd.DataFrame]) -> pd.DataFrame:
    filled = [frame for frame in frames if len(frame)]
    return pd.concat(filled, ignore_index=True) if filled else frames[0]
