"""Numbers and nouns in sentences, the same everywhere."""

from __future__ import annotations

__all__ = ["counted"]


def counted(number: int, one: str, many: str = "") -> str:
    """A number with its noun; the plural is `one` with an s unless it is given.

    >>> counted(1, "image"), counted(0, "image"), counted(2, "person", "people")
    ('1 image', '0 images', '2 people')
    """
    return f"{number} {one if number == 1 else many or one + 's'}"
