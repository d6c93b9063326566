"""JSON documents that are too large to be held in memory, as text for people and programs."""

from __future__ import annotations

import functools
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
    if not value or not isinstance(value, dict | list | tuple):
        return _encoder(0).encode(value)
    outer, inner = "\n" + " " * margin, "\n" + " " * (margin + 2)
    if isinstance(value, dict):
        first, last, children = "{", "}", list(value.values())
    else:
        first, last, children = "[", "]", list(value)
    if not any(isinstance(child, dict | list | tuple) for child in children):
        content = _encoder(margin + 2).encode(value)[1:-1]  # in C, which knows no indentation
    elif isinstance(value, dict):
        parts = (f"{_text(str(name))}: {_text(child, margin + 2)}" for name, child in value.items())
        content = f",{inner}".join(parts)
    else:
        content = f",{inner}".join(_text(child, margin + 2) for child in value)
    return f"{first}{inner}{content}{outer}{last}"


@functools.cache
def _encoder(margin: int) -> json.JSONEncoder:
    return json.JSONEncoder(ensure_ascii=False, separators=(f",\n{' ' * margin}", ": "))
