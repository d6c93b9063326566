"""Text for people: untrusted text made safe to show, and numbers with their nouns."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

__all__ = [
    "age_interval_words",
    "counted",
    "one_line",
    "percent",
    "short_name",
    "shorten",
    "well_formed",
    "without_paths",
]

_PART = r"[^\s/:,;'\")]+"
"""A part of a path, as far as it can be told in a sentence."""

_JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"
"""Persian and emoji are written with them."""


def one_line(text: object, limit: int | None = None) -> str:
    """Make untrusted text safe to show: one line, without control characters and direction marks.

    White space becomes single blanks. Characters that cannot be shown are replaced, invisible ones dropped:
    they could reverse the text around them.

    Args:
        text: Any text, or a value to be written as text.
        limit: The greatest number of characters; longer text is cut with an ellipsis.

    >>> one_line("a\\x1b[31mb\\n\\tc\\u202ed")
    'a�[31mb cd'
    >>> one_line("half of an emoji: \\ud83d"), one_line("abcdef", 4)
    ('half of an emoji: �', 'abc…')
    """
    line = str(text)
    if limit is not None:
        line = line[: 10 * limit]  # nothing beyond can be in the result
    if not line.isprintable():
        line = "".join(map(_visible, line))
    line = " ".join(line.split())
    return line if limit is None else shorten(line, limit)


def _visible(char: str) -> str:
    if char.isprintable() or char.isspace() or char in _JOINERS:
        return char
    return "" if unicodedata.category(char) == "Cf" else "\N{REPLACEMENT CHARACTER}"


def without_paths(text: str, *roots: Path) -> str:
    """Remove the folders of absolute paths from a message; the names of files stay.

    Args:
        text: The message.
        roots: Absolute folders whose names may hold blanks, by which other paths are taken to end.

    >>> without_paths("/my runs/a/b.json: no such file; see '/etc/x/y.conf'", Path("/my runs"))
    "b.json: no such file; see 'y.conf'"
    """
    for root in map(str, roots):
        text = re.sub(rf"{re.escape(root)}(?:/(?:{_PART}/)*(?={_PART}))", "", text)
        text = text.replace(root, Path(root).name)
    return re.sub(rf"(?<![\w:/])/(?:{_PART}/)*({_PART})", r"\1", text)


def shorten(text: str, limit: int, *, tail: int = 0) -> str:
    """Cut text that is longer than `limit` characters, and mark where.

    Args:
        text: Any text.
        limit: The greatest number of characters, the ellipsis included.
        tail: How many of them are kept from the end of the text.

    >>> shorten("abcdef", 6), shorten("abcdef", 4), shorten("a long name.mp4", 10, tail=4)
    ('abcdef', 'abc…', 'a lon….mp4')
    """
    if len(text) <= limit:
        return text
    return f"{text[: limit - tail - 1]}…{text[len(text) - tail :]}"


def short_name(path: Path) -> str:
    """Name a file in a message: one line of at most 80 characters that keeps the suffix."""
    return shorten(one_line(path.name), 80, tail=15)


def well_formed(text: str) -> str:
    """Replace what cannot be written as UTF-8, such as the bytes of a file name in another encoding.

    >>> well_formed(os.fsdecode(b"caf\\xe9")), well_formed("\\ud83d")
    ('caf�', '���')
    """
    try:
        return os.fsencode(text).decode("utf-8", "replace")
    except UnicodeEncodeError:  # a lone surrogate that does not stand for a byte
        return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def age_interval_words(measured: bool) -> str:
    """Head a column of age intervals: their coverage is stated only if it was measured.

    >>> age_interval_words(True), age_interval_words(False)
    ('80 % interval', 'interval')
    """
    return "80 % interval" if measured else "interval"


def counted(number: float, one: str, many: str = "") -> str:
    """Write a number with its noun; the plural is `one` with an s unless it is given.

    >>> counted(1, "image"), counted(0, "image"), counted(1200, "person", "people")
    ('1 image', '0 images', '1,200 people')
    >>> counted(1.4, "person", "people")
    '1.4 people'
    """
    text = f"{number:,.1f}".removesuffix(".0")
    return f"{text} {one if text == '1' else many or one + 's'}"


def percent(share: float) -> str:
    """Write a proportion from 0 to 1 in percent: one decimal below 1 %, a space before the sign.

    >>> percent(0.2), percent(0.0099), percent(0.004), percent(0.0)
    ('20 %', '1 %', '0.4 %', '0 %')
    """
    value = 100 * share
    return f"{value:.1f} %" if 0 < value < 0.95 else f"{value:.0f} %"
