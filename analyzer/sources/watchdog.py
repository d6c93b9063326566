"""Calls into yt-dlp that can be stopped, and end at a deadline."""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from analyzer.errors import SourceError
from analyzer.sources.local import BLOCK_BYTES

__all__ = [
    "POLL_S",
    "Call",
    "Stopped",
    "Watchdog",
    "WatchedJob",
]

T = TypeVar("T")

_EXTRACTION_TIMEOUTS = 6
"""Extraction takes several requests; together they may take this many times `timeout_s`."""

POLL_S = 0.05

_GRACE_S = 0.3
"""How long to wait for a stopped worker."""


class Stopped(BaseException):
    """Ends a worker that was stopped. Not an `Exception`, so that yt-dlp does not handle it."""


class Watchdog:
    """The deadline of a worker: whether enough data arrives. Updated by the worker, read by the caller.

    Used as a context around everything that waits for a server. Only the time spent in it counts as silence:
    what yt-dlp computes on a busy machine, or sleeps between two attempts, is not the server's fault.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self.restart()

    def restart(self) -> None:
        """Begin a new piece of work."""
        self._began = time.monotonic()
        self._entered: float | None = None
        self._silent_s = 0.0
        self._window = 0
        self._extracting = True

    def downloading(self) -> None:
        """From now on only bytes count, or a million tiny responses could keep a download alive."""
        self._silent_s = 0.0
        self._extracting = False

    def __enter__(self) -> None:
        self._entered = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._silent_s += time.monotonic() - (self._entered or 0)
        self._entered = None

    def answered(self) -> None:
        """Note that a server has sent the head of a response."""
        if self._extracting:
            self._silent_s = 0.0

    def received(self, count: int) -> None:
        """Note that `count` bytes have arrived."""
        self._window += count
        if self._window >= BLOCK_BYTES:
            self._window, self._silent_s = 0, 0.0

    def expired(self) -> bool:
        """Return whether too little has arrived for too long."""
        now, entered = time.monotonic(), self._entered
        too_long = self._extracting and now - self._began > _EXTRACTION_TIMEOUTS * self._timeout_s
        silent_s = self._silent_s + (now - entered if entered is not None else 0)
        return too_long or silent_s > self._timeout_s


class Call:
    """The state that all sessions of one `Fetcher.fetch` or `Fetcher.resolve` share.

    Args:
        on_wait: Called while waiting, in the caller's thread.
        limit: The most items that are listed; None: all.

    Attributes:
        left: How many of them are still wanted.
        ended: `on_wait` has raised; what is caught afterwards belongs to the caller.
        refusal: A server limits the rate of requests: no further request is made.
    """

    def __init__(self, on_wait: Callable[[], None] | None = None, limit: int | None = None) -> None:
        self._on_wait = on_wait
        self.left = sys.maxsize if limit is None else limit
        self.ended = False
        self.refusal: SourceError | None = None

    def wait(self) -> None:
        """Call `on_wait`, in the caller's thread."""
        if self._on_wait is None:
            return
        try:
            self._on_wait()
        except BaseException:
            self.ended = True
            raise


class WatchedJob(Generic[T]):
    """One piece of work in its own thread, which can be stopped from outside."""

    def __init__(self, work: Callable[[], T], cleanup: Callable[[], None]) -> None:
        self.done = threading.Event()
        self._work, self._cleanup = work, cleanup
        self._value: T | None = None
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        self._over = self._abandoned = False
        self._thread = threading.Thread(target=self._run, name="fetch", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            try:
                self._value = self._work()
            except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
                self._error = error
            with self._lock:  # no exception is sent after this
                self._over = True
            self.done.set()
        except Stopped as error:  # it came after the work had ended
            self._error, self._over = error, True
            self.done.set()
        if self._abandoned:
            self._cleanup()

    def result(self) -> T:
        """Wait for the work; return what it returned, or raise what it raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]

    def stop(self, patience_s: float) -> bool:
        """Wait briefly for a worker that was asked to stop.

        Returns:
            Whether it has ended. If not, it cleans up when it does, which is forced after `patience_s`.
        """
        self._abandoned = True
        self._thread.join(_GRACE_S)
        if not self._thread.is_alive():
            return True
        reaper = threading.Timer(patience_s, self._force)
        reaper.daemon = True
        reaper.start()
        return False

    def _force(self) -> None:
        with self._lock:
            if not self._over:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(self._thread.ident or 0), ctypes.py_object(Stopped)
                )
