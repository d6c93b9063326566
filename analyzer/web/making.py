"""Files that are made of a run when somebody asks for them, and kept until the run changes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analyzer.errors import AnalyzerError
from analyzer.web.tasks import Function, Tasks

__all__ = ["Making", "Makings"]

_MAX_MAKING = 20


@dataclass
class Making:
    """A file that is made, was made, or could not be."""

    target: Path
    state: str = "none"
    """``none``, ``making``, ``done`` or ``failed``."""
    progress: float = 0.0
    error: str | None = None

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return {"state": self.state, "progress": round(self.progress, 3), "error": self.error}


class Makings:
    """Makes files in the background, each once.

    Args:
        tasks: Where they are made.
    """

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._known: dict[Path, Making] = {}
        self._running: set[asyncio.Task[None]] = set()

    def state(self, target: Path) -> Making:
        """What is known of a file."""
        making = self._known.get(target)
        if making is not None and (making.state != "done" or target.is_file()):
            return making
        return Making(target, "done" if target.is_file() else "none", float(target.is_file()))

    def start(self, target: Path, function: Function, *args: Any) -> Making:
        """Make a file, unless it is there or being made.

        Args:
            target: Its final name. Other files of the folder whose names begin alike, up to the first dot,
                were made of an earlier state of the run, and are removed.
            function: Called in a process with `args`, the path to write, and a function for its progress.
            args: JSON values and paths.

        Raises:
            AnalyzerError: Too many are being made.
        """
        making = self.state(target)
        if making.state in ("making", "done"):
            return making
        if len(self._running) >= _MAX_MAKING:
            raise AnalyzerError("the server is busy: try again when other videos are made")
        making = self._known[target] = Making(target, "making")
        task = asyncio.get_running_loop().create_task(self._make(making, function, args))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return making

    async def _make(self, making: Making, function: Function, args: tuple[Any, ...]) -> None:
        target = making.target
        part = target.with_name(f".{secrets.token_hex(6)}{target.suffix}")

        def on_progress(fraction: float) -> None:
            making.progress = fraction

        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            await self._tasks.make(function, *args, part, on_progress=on_progress)
            stem = target.name.partition(".")[0]
            for other in target.parent.glob(f"{stem}.*"):
                other.unlink()
            part.replace(target)
            making.progress, making.state = 1.0, "done"
        except (AnalyzerError, OSError) as error:
            making.state = "failed"
            making.error = str(error) if isinstance(error, AnalyzerError) else "it cannot be written"
        finally:
            with contextlib.suppress(OSError):
                os.unlink(part)  # noqa: PTH108
            if making.state == "making":  # the server ends
                making.state = "none"

    def forget(self, folder: Path) -> None:
        """Forget the files of a folder that was deleted."""
        self._known = {path: each for path, each in self._known.items() if path.parent != folder}
