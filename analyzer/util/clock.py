"""The clock, as one object that tests can replace."""

from __future__ import annotations

import time

__all__ = ["Clock"]


class Clock:
    """The clock of the system."""

    def time(self) -> float:
        """Seconds since 1970, UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since some moment; never goes backwards."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)
