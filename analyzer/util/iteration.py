"""Iterators."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

__all__ = ["in_groups"]

T = TypeVar("T")


def in_groups(items: Iterable[T], most: int) -> Iterator[list[T]]:
    """Yield items in lists of at most `most`. What came before an exception is yielded before it is raised.

    >>> list(in_groups("abcde", 2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    group: list[T] = []
    try:
        for item in items:
            group.append(item)
            if len(group) >= most:
                yield group
                group = []
    except Exception:
        if group:
            yield group
        raise
    if group:
        yield group
