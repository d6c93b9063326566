"""Tables for spreadsheets: CSV files and Excel workbooks.

Text in them is untrusted: no spreadsheet takes it for a formula, a link or a number. CSV begins with the byte
order mark of UTF-8, without which Excel and LibreOffice read accents in a legacy encoding; pandas and DuckDB
skip it.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analyzer.util.atomic import writing

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CSV_ENCODING", "Sheet", "safe_cell", "write_csv", "write_workbook"]

CSV_ENCODING = "utf-8-sig"

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\0", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""With the full-width signs, which Excel in Japanese and Chinese treats alike."""
_MAX_ROWS, _MAX_TEXT = 1_048_575, 32_767
"""The limits of a sheet, without its header, and of a cell."""
_NARROW, _WIDE = 8, 60


def safe_cell(text: str) -> str:
    """Guard text so that a spreadsheet does not take it for a formula, nor a reader for the end of a row.

    >>> safe_cell("=1+1"), safe_cell(" \\t=1+1"), safe_cell("a=1")
    ("'=1+1", "' \\t=1+1", 'a=1')
    """
    guarded = (
        "'" + text if text.startswith(_FORMULA_STARTS) or text.strip().startswith(_FORMULA_STARTS) else text
    )
    return guarded.replace("\r", " ").replace("\0", " ")


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write a table as CSV; text that could be taken for a formula is guarded, see `safe_cell`.

    Raises:
        OutputError: The file cannot be written.
    """
    guarded = frame.copy()
    for number, kind in enumerate(frame.dtypes):
        if not (kind.kind in "biufmM" and hasattr(kind, "itemsize")):
            column = frame.iloc[:, number]
            guarded.isetitem(number, [safe_cell(one) if isinstance(one, str) else one for one in column])
    with writing(path) as temporary:
        guarded.to_csv(temporary, index=False, encoding=CSV_ENCODING, lineterminator="\n")


@dataclass(frozen=True)
class Sheet:
    """One sheet of a workbook.

    Attributes:
        name: Name of the sheet, at most 31 characters.
        columns: Names of the columns.
        rows: Values in the order of the columns: text, numbers, booleans; None if unknown.
        shares: The columns with proportions from 0 to 1, which are shown in percent.
    """

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    shares: frozenset[str] = frozenset()


def write_workbook(path: Path, sheets: Iterable[Sheet]) -> None:
    """Write an Excel workbook with frozen headers, filters, and columns as wide as their content.

    Raises:
        OutputError: The file cannot be written.
    """
    import xlsxwriter  # late: few runs write a workbook

    content = io.BytesIO()
    plain = {
        "in_memory": True,
        "strings_to_formulas": False,
        "strings_to_urls": False,
        "strings_to_numbers": False,
    }
    with xlsxwriter.Workbook(content, plain) as book:
        head = book.add_format({"bold": True, "bottom": 1, "text_wrap": True, "valign": "top"})
        percent = book.add_format({"num_format": "0.0 %"})
        for sheet in sheets:
            page = book.add_worksheet(sheet.name)
            page.freeze_panes(1, 0)
            rows = sheet.rows[:_MAX_ROWS]
            if rows:
                page.autofilter(0, 0, len(rows), len(sheet.columns) - 1)
            for column, name in enumerate(sheet.columns):
                style = percent if name in sheet.shares else None
                widest = max((_width(row[column]) for row in rows[:1000]), default=0)
                page.set_column(column, column, min(max(widest, len(name) + 3, _NARROW), _WIDE))
                page.write_string(0, column, name, head)
                for number, row in enumerate(rows, 1):
                    _write(page, number, column, row[column], style)
    with writing(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def _write(page: Any, row: int, column: int, value: Any, style: Any) -> None:
    match value:
        case None:
            return
        case bool():
            page.write_boolean(row, column, value)
        case int() | float():
            if math.isfinite(value):
                page.write_number(row, column, value, style)
        case _:
            page.write_string(row, column, _text(value))


def _text(value: Any) -> str:
    """Replace what a cell cannot contain: control characters but the newline."""
    kept = "".join(one if one >= " " or one == "\n" else " " for one in str(value)[:_MAX_TEXT])
    return kept.encode("utf-8", "replace").decode("utf-8")


def _width(value: Any) -> int:
    return min(len(f"{value:.6g}" if isinstance(value, float) else str(value)), _WIDE) + 1
