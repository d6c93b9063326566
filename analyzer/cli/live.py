"""Ending a live run with a signal."""

from __future__ import annotations

import signal
from types import TracebackType
from typing import Any, Self

from analyzer.events import Event, Failed, Finished, LiveStarted

__all__ = ["LiveStop"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class LiveStop:
    """Lets Ctrl-C and SIGTERM end a live run properly; a second signal aborts it.

    Calling it returns whether a signal has arrived. A context manager, which restores the signal handlers.
    """

    def __init__(self) -> None:
        self._asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __call__(self) -> bool:
        return self._asked

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def on_event(self, event: Event) -> None:
        """Handle signals from the start of a live source to its end."""
        if isinstance(event, LiveStarted) and not self._before:
            self._before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        elif isinstance(event, Finished | Failed):
            self._restore()

    def _on_signal(self, number: int, frame: object) -> None:
        del number, frame
        self._asked = True
        self._restore()

    def _restore(self) -> None:
        before, self._before = self._before, {}
        for number, handler in before.items():
            signal.signal(number, handler)
