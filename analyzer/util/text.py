"""Numbers in sentences and tables: nouns and shares are written the same everywhere."""

from __future__ import annotations

import os

__all__ = [
    "age_interval_words",
    "counted",
    "percent",
]


def shown_name(name: str) -> str:
    """A name or title as text that can be written: what is no UTF-8 becomes replacement characters.

    >>> shown_name("half of an emoji: " + chr(0xD83D)).isprintable()
    True
    """
    try:
        return os.fsencode(name).decode("utf-8", "replace")
    except UnicodeEncodeError:  # a lone surrogate that stands for no byte of a file name
        return name.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def age_interval_words(measured: bool) -> str:
    """How a column of ages' intervals is headed: how many true ages it holds is said only if it was measured.

    >>> age_interval_words(True), age_interval_words(False)
    ('80 % interval', 'interval')
    """
    return "80 % interval" if measured else "interval"


def counted(number: float, one: str, many: str = "") -> str:
    """A number with its noun; the plural is `one` with an s unless it is given.

    >>> counted(1, "image"), counted(0, "image"), counted(1200, "person", "people")
    ('1 image', '0 images', '1,200 people')
    >>> counted(1.4, "person", "people")
    '1.4 people'
    """
    text = f"{number:,.1f}".removesuffix(".0")
    return f"{text} {one if text == '1' else many or one + 's'}"


def percent(share: float) -> str:
    """A share as it is written in all texts: below 1 % with one decimal, a space before the sign.

    >>> percent(0.2), percent(0.0099), percent(0.004), percent(0.0)
    ('20 %', '1 %', '0.4 %', '0 %')
    """
    value = 100 * share
    return f"{value:.1f} %" if 0 < value < 0.95 else f"{value:.0f} %"
