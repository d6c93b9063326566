"""The text of CSV files that spreadsheets have written."""

from __future__ import annotations

import codecs
from pathlib import Path

__all__ = ["csv_text"]


def csv_text(path: Path) -> str:
    """Read text in UTF-8, in UTF-16 with a byte order mark, or else in Windows-1252.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is in another encoding; the message says what to do.
    """
    raw = path.read_bytes()
    # Excel's "Unicode text" begins with the byte order mark of UTF-16, its "CSV UTF-8" with that of UTF-8;
    # its plain CSV has none.
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encodings = ["utf-16"]
    else:
        encodings = ["utf-8-sig", "cp1252"]
    for encoding in encodings:
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError as error:
            line = raw[: error.start].count(b"\n") + 1
    raise ValueError(f"line {line} is not UTF-8: save it as UTF-8 (in spreadsheets: CSV UTF-8)")
