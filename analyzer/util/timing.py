"""How long the stages of an analysis take, over all threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

__all__ = [
    "STAGES",
    "StageTimer",
    "timed",
]

T = TypeVar("T")

STAGES = {
    "decode": "reading and decoding frames",
    "convert": "scaling samples for the detector",
    "shots": "detecting shot boundaries",
    "detect": "detecting faces",
    "track": "tracking faces",
    "align": "aligning faces",
    "crops": "cropping faces",
    "estimate": "comparing faces, and estimating gender and age",
    "write": "writing parts and tables",
    "link": "linking tracklets to people, and the tables of people",
    "render": "drawing and encoding the annotated video",
}
"""Each stage and what it is."""


class StageTimer:
    """Adds up seconds by stage; any thread may use it.

    Stages run in parallel, and wait for the processor and for each other: their sum can exceed the elapsed
    time.

    >>> stages = StageTimer()
    >>> with stages("detect"):
    ...     pass
    >>> list(stages.seconds)
    ['detect']
    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds by stage, in the order of `STAGES`; stages that did not occur are missing."""
        with self._lock:
            return {name: self._seconds[name] for name in STAGES if name in self._seconds}

    def add(self, seconds: dict[str, float]) -> None:
        """Add what was measured elsewhere."""
        unknown = seconds.keys() - STAGES.keys()
        if unknown:
            raise ValueError(f"no such stage: {', '.join(sorted(unknown))}")
        with self._lock:
            for name, value in seconds.items():
                self._seconds[name] = self._seconds.get(name, 0.0) + value

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Count the time within the block towards a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add({name: time.perf_counter() - start})

    def each(self, name: str, items: Iterable[T]) -> Generator[T, None, None]:
        """Give `items`, and count the time until each is there towards a stage."""
        iterator = iter(items)
        try:
            while True:
                with self(name):
                    try:
                        item = next(iterator)
                    except StopIteration:
                        return
                yield item
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()


@contextmanager
def timed(timings: dict[str, float], name: str) -> Iterator[None]:
    """Put how long the block takes, in seconds, under a name."""
    start = time.perf_counter()
    try:
        yield
    finally:
        timings[name] = time.perf_counter() - start
