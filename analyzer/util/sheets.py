"""Tables for spreadsheets: the one home of how CSV files and Excel workbooks are written.

Text in them is untrusted: no spreadsheet takes it for a formula, a link or a number. CSV begins with the mark
of UTF-8 (BOM), without which Excel and LibreOffice read accents in the system's old character set; pandas and
DuckDB pass over it.
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
"""Also the wide signs, which Excel in Japanese and Chinese takes for the others."""
_MOST_ROWS, _LONGEST_TEXT = 1_048_575, 32_767
"""What a sheet holds below its head, and a cell of it."""
_NARROW, _WIDE = 8, 60


def safe_cell(text: str) -> str:
    """Text that a spreadsheet will not take for a formula, nor a reader for the end of a row.

    >>> safe_cell("=1+1"), safe_cell(" \\t=1+1"), safe_cell("a=1")
    ("'=1+1", "' \\t=1+1", 'a=1')
    """
    guarded = (
        "'" + text if text.startswith(_FORMULA_STARTS) or text.strip().startswith(_FORMULA_STARTS) else text
    )
    return guarded.replace("\r", " ").replace("\0", " ")


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write a table as CSV, as it is but for text that would be taken for a formula.

    Raises:
        OutputError: It cannot be written.
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
        name: Of the sheet, at most 31 letters.
        columns: Names of the columns.
        rows: Values by column: text, numbers, truth values; None where nothing is known.
        shares: The columns that hold shares from 0 to 1, which are shown in percent.
    """

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    shares: frozenset[str] = frozenset()


def write_workbook(path: Path, sheets: Iterable[Sheet]) -> None:
    """Write an Excel workbook: heads stay in sight and filter, columns are as wide as what they hold.

    Raises:
        OutputError: It cannot be written.
    """
    import xlsxwriter  # late: few write one

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
            rows = sheet.rows[:_MOST_ROWS]
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
    """What a cell can hold: no control characters but the end of a line."""
    kept = "".join(one if one >= " " or one == "\n" else " " for one in str(value)[:_LONGEST_TEXT])
    return kept.encode("utf-8", "replace").decode("utf-8")


def _width(value: Any) -> int:
    return min(len(f"{value:.6g}" if isinstance(value, float) else str(value)), _WIDE) + 1
