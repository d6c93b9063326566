"""JSON documents that are too large to be held in memory, as text for people and programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["indented"]


def indented(document: Iterable[tuple[str, Any]]) -> Iterator[str]:
    """Yield the text of a JSON object in pieces, as ``json.dumps(document, indent=2, ensure_ascii=False)``.

    >>> print("".join(indented([("a", iter([{"b": 1}, {}])), ("c", [])])))
    {
      "a": [
        {
          "b": 1
        },
        {}
      ],
      "c": []
    }

    Args:
        document: Names and values, at least one. A value that is an iterator becomes an array: its elements
            are asked for one by one, and what follows in `document` after them.
    """
    lead = "{\n  "
    for name, value in document:
        yield f"{lead}{_text(name)}: "
        lead = ",\n  "
        if isinstance(value, Iterator):
            yield from _array(value)
        else:
            yield _text(value, 2)
    yield "\n}"


def _array(values: Iterator[Any]) -> Iterator[str]:
    lead = "[\n    "
    for value in values:
        yield f"{lead}{_text(value, 4)}"
        lead = ",\n    "
    yield "[]" if lead[0] == "[" else "\n  ]"


def _text(value: Any, margin: int = 0) -> str:
    """The text of a value whose lines, but for the first, have a margin."""
    # A newline in a string is escaped, so each one here separates lines.
    return json.dumps(value, indent=2, ensure_ascii=False).replace("\n", "\n" + " " * margin)
