"""Reading ahead in a thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from typing import TypeVar

__all__ = [
    "read_ahead",
]

T = TypeVar("T")


def read_ahead(iterable: Iterable[T], depth: int) -> Generator[T, None, None]:
    """Run `iterable` in a thread, up to `depth` items ahead, and give its items.

    The thread is joined and the iterable closed on each way out: at its end, at an error in it (which is
    raised here), at an error in the consumer, and when the consumer stops early and closes this generator.

    Args:
        iterable: Anything that can be iterated; it runs in the thread, so use it nowhere else meanwhile.
        depth: Number of items kept, at least 1.
    """
    ready: deque[T] = deque()
    change = threading.Condition()
    closed = ended = False
    problem: BaseException | None = None

    def produce() -> None:
        nonlocal ended, problem
        iterator: Iterator[T] | None = None
        try:
            iterator = iter(iterable)
            for item in iterator:
                with change:
                    change.wait_for(lambda: closed or len(ready) < depth)
                    if closed:
                        break
                    ready.append(item)
                    change.notify_all()
        except BaseException as error:  # noqa: BLE001 - raised again in the consumer
            problem = error
        finally:
            try:
                close = getattr(iterator, "close", None)
                if close is not None:
                    close()
            except BaseException as error:  # noqa: BLE001 - likewise
                problem = problem or error
            with change:
                ended = True
                change.notify_all()

    thread = threading.Thread(target=produce, name="read-ahead", daemon=True)
    thread.start()
    try:
        while True:
            with change:
                change.wait_for(lambda: ready or ended)
                if not ready:
                    break
                item = ready.popleft()
                change.notify_all()
            yield item
        if problem is not None:
            raise problem
    finally:
        with change:
            closed = True
            ready.clear()
            change.notify_all()
        thread.join()
