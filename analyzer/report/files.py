"""Writing the files of a report: page, charts, tables, Markdown and captions, all from its document.

Every name begins with ``report.`` or ``report-``. Titles, channels and file names in the document are
untrusted: spreadsheets do not take them for formulas, and Markdown renderers show them as plain text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from analyzer.errors import OutputError, SettingsError
from analyzer.report.captions import webvtt
from analyzer.report.document import Document
from analyzer.report.markdown import markdown
from analyzer.report.tables import report_sheets, table_cells, table_columns, tables
from analyzer.runs.run import report_files
from analyzer.runs.tables import write_json
from analyzer.settings import REPORT_FORMATS
from analyzer.util.atomic import writing
from analyzer.util.sheets import write_csv, write_workbook

__all__ = [
    "FORMATS",
    "save",
]

FORMATS = REPORT_FORMATS


def save(document: Document, formats: Iterable[str], out: Path) -> list[Path]:
    """Write a report and return its files.

    Files of the same formats from an earlier report in the folder are removed; with `--min-people`, all files
    of an earlier report are.

    Args:
        document: The report document.
        formats: Some of `FORMATS`; captions are only written for a single video.
        out: Folder; created if it does not exist.

    Raises:
        OutputError: A file cannot be written.
        SettingsError: A format is unknown.
    """
    chosen = set(formats)
    if unknown := sorted(chosen.difference(FORMATS)):
        raise SettingsError(f"unknown report format {', '.join(unknown)}: choose from {', '.join(FORMATS)}")
    document = _clean(document)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"the folder {out} cannot be created ({error.strerror}): choose another with --out"
        ) from error
    written: list[Path] = []

    def text(name: str, content: str) -> None:
        with writing(out / name) as temporary:
            temporary.write_text(content, "utf-8", newline="\n")
        written.append(out / name)

    if "html" in chosen:
        from analyzer.report.html import page

        text("report.html", page(document))
    if "png" in chosen:
        written += _save_charts(document, out)
    if "csv" in chosen:
        for name, rows in tables(document).items():
            path = out / f"report-{name}.csv"
            columns, heads = table_columns(name, document)
            write_csv(path, pd.DataFrame(table_cells(rows, columns), columns=heads, dtype=object))
            written.append(path)
    if "xlsx" in chosen:
        write_workbook(out / "report.xlsx", report_sheets(document))
        written.append(out / "report.xlsx")
    if "json" in chosen:
        write_json(out / "report.json", document)
        written.append(out / "report.json")
    if "md" in chosen:
        text("report.md", markdown(document))
    if "vtt" in chosen and document["kind"] == "video":
        text("report.vtt", webvtt(document))
    names = {path.name for path in written}
    _remove_stale(out, chosen, names, everything=document["min_people"] > 1)
    return written


def _save_charts(document: Document, out: Path) -> list[Path]:
    from analyzer.report.charts import DPI, draw

    written = []
    for name, figure in draw(document).items():
        path = out / f"report-{name}.png"
        with writing(path) as temporary:
            figure.savefig(temporary, format="png", dpi=DPI)
        written.append(path)
    return written


def _remove_stale(out: Path, formats: set[str], written: set[str], *, everything: bool) -> None:
    """Remove the files of an earlier report in the same formats, or `everything` of it.

    They would pass for a part of this report, or show what it suppresses.
    """
    for name in report_files():
        path = out / name
        if (everything or path.suffix[1:] in formats) and name not in written and path.is_file():
            try:
                path.unlink()
            except OSError as error:
                raise OutputError(
                    f"{path} of an earlier report cannot be removed ({error.strerror}): remove it by hand"
                ) from error


def _clean(value: Any) -> Any:
    """The document with null for numbers that JSON cannot express, and with only valid Unicode."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {_clean(key): _clean(one) for key, one in value.items()}
    return [_clean(one) for one in value] if isinstance(value, list | tuple) else value
