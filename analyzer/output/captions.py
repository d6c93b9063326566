"""The words of labels, the same on annotated videos, in subtitles and in players."""

from __future__ import annotations

from analyzer.util.gender import face_words, short_face_words
from analyzer.util.text import one_line

__all__ = ["caption", "short_caption"]

_MAX_NAME = 24
"""Characters of a name in a label."""


def caption(person: int, gender: str, age: float, name: str = "") -> str:
    """The text of a label.

    Args:
        person: The person's number.
        gender: Perceived gender.
        age: Perceived age in years; NaN if it is not known.
        name: Name, if somebody gave one; it takes the place of the number.

    >>> from math import nan
    >>> caption(3, "female", 34.4), caption(5, "male", nan), caption(8, "female", 36.0, "Ada")
    ('#3 female 34', '#5 male', 'Ada female 36')
    """
    return f"{_who(person, name)} {face_words(gender, age)}"


def short_caption(person: int, gender: str, age: float, name: str = "") -> str:
    """The text of a short label; parameters as of `caption`.

    >>> from math import nan
    >>> short_caption(3, "female", 34.4), short_caption(5, "male", nan)
    ('#3 F34', '#5 M')
    """
    return f"{_who(person, name)} {short_face_words(gender, age)}"


def _who(person: int, name: str) -> str:
    return one_line(name, _MAX_NAME) if name else f"#{person}"
