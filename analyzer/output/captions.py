"""The words of labels, the same on annotated videos, in subtitles and in players."""

from __future__ import annotations

import math

from analyzer.util.text import one_line

__all__ = ["caption", "short_caption"]

_CHILD_YEARS = 13

_MAX_NAME = 24
"""Characters of a name in a label."""


def caption(person: int, gender: str, age: float, name: str = "") -> str:
    """The text of a label.

    Args:
        person: The person's number.
        gender: Perceived gender.
        age: Perceived age in years; NaN if it is not known.
        name: Name, if somebody gave one; it takes the place of the number.

    >>> caption(3, "female", 34.4), caption(4, "male", 8.0), caption(5, "male", math.nan)
    ('#3 woman 34', '#4 boy 8', '#5 man')
    >>> caption(6, "unknown", 34.4), caption(7, "unknown", math.nan), caption(8, "female", 36.0, "Ada")
    ('#6 age 34', '#7 ?', 'Ada woman 36')
    """
    who, known = _who(person, name), math.isfinite(age)
    if gender in ("female", "male"):
        child = known and round(age) < _CHILD_YEARS
        word = ("girl" if child else "woman") if gender == "female" else ("boy" if child else "man")
        return f"{who} {word} {round(age)}" if known else f"{who} {word}"
    return f"{who} age {round(age)}" if known else f"{who} ?"


def short_caption(person: int, gender: str, age: float, name: str = "") -> str:
    """The text of a short label; parameters as of `caption`.

    >>> short_caption(3, "female", 34.4), short_caption(5, "male", math.nan)
    ('#3 F34', '#5 M')
    >>> short_caption(6, "unknown", 8), short_caption(8, "female", 36.0, "Ada")
    ('#6 ?8', 'Ada F36')
    """
    letter = {"female": "F", "male": "M"}.get(gender, "?")
    who = _who(person, name)
    return f"{who} {letter}{round(age)}" if math.isfinite(age) else f"{who} {letter}"


def _who(person: int, name: str) -> str:
    return one_line(name, _MAX_NAME) if name else f"#{person}"
