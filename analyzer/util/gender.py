"""The words for perceived gender, the same wherever people read them.

Labels, pages, tables and messages use the values of the column `gender`: they say that a gender is perceived,
and hold for every age, known or not. "Woman", "man", "girl" and "boy" are left to people who know them.
"""

from __future__ import annotations

import math
from typing import Final

__all__ = ["GENDERS", "GENDER_COLORS", "face_words", "short_face_words"]

GENDERS: Final = ("female", "male", "unknown")

GENDER_COLORS: Final = {"female": "#E69F00", "male": "#0072B2", "unknown": "#8C8C8C"}
"""Hexadecimal RGB by gender, the same in annotated videos, charts and pages.

They are Okabe and Ito's, which can be distinguished with any kind of color vision. Color is never the only
sign: boxes carry the word or its initial, charts a hatch or a label.
"""


def face_words(gender: str, age_years: float | None) -> str:
    """What a label says of a face.

    Args:
        gender: Perceived gender.
        age_years: Perceived age; None or NaN if it is not known.

    >>> face_words("female", 34.4), face_words("male", 8), face_words("male", None)
    ('female 34', 'male 8', 'male')
    >>> face_words("unknown", 34.4), face_words("unknown", None)
    ('age 34', '?')
    """
    age = _age(age_years)
    if gender in ("female", "male"):
        return f"{gender} {age}".rstrip()
    return f"age {age}" if age else "?"


def short_face_words(gender: str, age_years: float | None) -> str:
    """What a short label says of a face; parameters as of `face_words`.

    >>> short_face_words("female", 34.4), short_face_words("male", None), short_face_words("unknown", 8)
    ('F34', 'M', '?8')
    """
    return {"female": "F", "male": "M"}.get(gender, "?") + _age(age_years)


def _age(age_years: float | None) -> str:
    return "" if age_years is None or math.isnan(age_years) else f"{round(age_years)}"
