"""The colors of perceived gender, the same in annotated videos, charts and pages.

They are Okabe and Ito's, which can be distinguished with any kind of color vision. Color is never the only
sign: boxes carry the word or its initial, charts a hatch or a label.
"""

from __future__ import annotations

from typing import Final

__all__ = ["GENDER_COLORS"]

GENDER_COLORS: Final = {"female": "#E69F00", "male": "#0072B2", "unknown": "#8C8C8C"}
"""Hexadecimal RGB by the value of the column `gender`."""
