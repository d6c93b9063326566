"""Ending work early when a caller asks for it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator, Iterator
from typing import TypeVar

from analyzer.errors import StoppedError

__all__ = ["Cancellation", "never"]

_ASKED_EVERY_S = 0.2

T = TypeVar("T")


def never() -> bool:
    """The default of `cancelled` parameters."""
    return False


class Cancellation:
    """Asks a caller's function whether work is canceled; any thread may ask, one does at a time.

    Once true, it stays true. What the function raises is raised again each time, so that it reaches the
    caller whichever thread has asked.

    Args:
        cancelled: The caller's function.
    """

    def __init__(self, cancelled: Callable[[], bool]) -> None:
        self._function = cancelled
        self._lock = threading.Lock()
        self._cancelled = False
        self._error: BaseException | None = None

    def __call__(self) -> bool:
        """Whether work is canceled.

        Raises:
            BaseException: Whatever the caller's function has raised.
        """
        with self._lock:
            if self._error is not None:
                raise self._error
            if not self._cancelled:
                try:
                    self._cancelled = bool(self._function())
                except BaseException as error:
                    self._error = error
                    raise
            return self._cancelled

    def check(self) -> None:
        """Ask.

        Raises:
            StoppedError: Work is canceled.
            BaseException: Whatever the caller's function has raised.
        """
        if self():
            raise StoppedError("the analysis was canceled: the same command continues where it stopped")

    def reraise(self) -> None:
        """Raise what the caller's function has raised, if it has.

        Raises:
            BaseException: That.
        """
        if self._error is not None:
            raise self._error

    def checked(self, items: Generator[T, None, None]) -> Generator[T, None, None]:
        """Yield `items`, and ask before each and at the end, which `closing` may have brought about.

        Raises:
            StoppedError: As `check`.
        """
        with contextlib.closing(items):
            for item in items:
                self.check()
                yield item
            self.check()

    @contextlib.contextmanager
    def closing(self, close: Callable[[], None]) -> Iterator[None]:
        """Ask some times a second within the block, from another thread; once cancelled, call `close`.

        Work that only checks at each sample may take seconds from one to the next.
        """
        done = threading.Event()

        def watch() -> None:
            while not done.wait(_ASKED_EVERY_S):
                try:
                    cancelled = self()
                except BaseException:  # noqa: BLE001 - kept, and raised by the next `check`
                    cancelled = True
                if cancelled:
                    close()
                    return

        thread = threading.Thread(target=watch, name="cancellation", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
