"""The log of a batch: one line of JSON per event.

Events that `analyzer.events` has too carry their names there; a change of a video's state, the state's name.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from analyzer.errors import OutputError, is_full

__all__ = ["EventLog", "OnEvent", "ignore"]

OnEvent = Callable[[str, int | None, dict[str, Any]], None]
"""Called with an event's name, the video's id in the ledger, and its other values."""


def ignore(event: str, video: int | None, facts: dict[str, Any]) -> None:
    """Do nothing with an event."""
    del event, video, facts


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return file.read() in (b"", b"\n")


class EventLog:
    """Appends events to a file and passes them on. The file is ASCII, so that no title can end a line.

    Args:
        path: The file; its folder is created.
        on_event: Called with each event, too.

    Raises:
        OutputError: The file cannot be opened. Later errors do not end a batch run.
    """

    def __init__(self, path: Path, on_event: OnEvent = ignore) -> None:
        self._on_event = on_event
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab", buffering=0)
            if not _ends_a_line(path):  # after a power cut, or edited by hand
                self._file.write(b"\n")
        except OSError as error:
            raise OutputError(
                f"the log {path} cannot be written ({error.strerror}): choose another file",
                no_space=is_full(error),
            ) from error

    def __call__(self, event: str, video: int | None = None, **facts: Any) -> None:
        """Write an event and pass it on."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        line = {"time": now, "event": event} | ({} if video is None else {"video": video}) | facts
        with contextlib.suppress(OSError):  # a full disk: the ledger records the same
            self._write((json.dumps(line, default=str) + "\n").encode("ascii"))
        self._on_event(event, video, facts)

    def _write(self, line: bytes) -> None:
        """Append a whole line or nothing: on a full disk, only a part of it may be written."""
        before = os.fstat(self._file.fileno()).st_size
        written = self._file.write(line)
        if written < len(line) and os.fstat(self._file.fileno()).st_size == before + written:
            self._file.truncate(before)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
