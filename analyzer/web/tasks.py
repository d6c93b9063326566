"""Short work on untrusted files in processes under limits: crops, previews, annotated videos.

::

    tasks = Tasks(config)
    made = await tasks.run(function, "a", 1)          # function("a", 1), in a process

A process gets the name of a function and JSON values, and answers with JSON values and bytes: what it sends
is never executed or unpickled. One that exceeds its time or memory is ended, and another one started.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from analyzer.errors import AnalyzerError
from analyzer.util.system import caller_not_run_again, die_with_parent, few_arenas
from analyzer.util.text import without_paths
from analyzer.web.config import ServeConfig

__all__ = ["BusyTasksError", "Function", "TaskError", "Tasks", "confine"]

_MAX_WAITING = 64
_MAX_HEADER_BYTES = 16 * 2**20
_MAX_BLOB_BYTES = 64 * 2**20
_MAX_BLOBS = 2000
_BLOB = "$bytes"
Function = Callable[..., Any] | str
"""A function of a module, or its name as ``module:function``, so that the server need not import it."""
Progress = Callable[[float], None]


class TaskError(AnalyzerError):
    """A task failed; the message is for the visitor."""


class BusyTasksError(AnalyzerError):
    """Too many tasks are waiting."""


class _Process:
    """A process that runs one task after another."""

    def __init__(self, memory_mb: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(target=_main, args=(theirs, memory_mb), name="task")
        with caller_not_run_again(signal.SIGTERM):
            self.process.start()
        theirs.close()

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


class Tasks:
    """Processes for tasks, started when they are needed.

    Args:
        config: Of the server: how many, and their limits.
    """

    def __init__(self, config: ServeConfig) -> None:
        self._config = config
        # Processes end with the thread that has started them: these threads stay.
        self._short = ThreadPoolExecutor(config.tasks, thread_name_prefix="tasks")
        self._long = ThreadPoolExecutor(1, thread_name_prefix="tasks-long")
        self._lock = threading.Lock()
        self._idle: list[_Process] = []
        self._busy: set[_Process] = set()
        self._waiting = 0
        self._closed = False

    async def run(self, function: Function, *args: Any, timeout_s: float | None = None) -> Any:
        """Run a function in a process.

        Args:
            function: A function of a module, or its name as ``module:function``.
            args: JSON values and paths, which arrive as text.
            timeout_s: Its time, in seconds; None: `ServeConfig.task_s`.

        Returns:
            What the function returns: JSON values and bytes, nested as it likes; tuples become lists.

        Raises:
            TaskError: It failed, or exceeded its limits.
            BusyTasksError: Too many tasks are waiting.
        """
        limit_s = self._config.task_s if timeout_s is None else timeout_s
        return await self._submit(self._short, function, args, limit_s, None)

    async def make(self, function: Function, *args: Any, on_progress: Progress | None = None) -> Any:
        """Run a function that takes minutes, one at a time, beside the short ones.

        Args:
            function: As in `run`; its last argument is a function for its progress, from 0 to 1.
            args: Its other arguments, as in `run`.
            on_progress: Called with the progress, in another thread.

        Raises:
            TaskError, BusyTasksError: As in `run`.
        """
        report = on_progress or (lambda fraction: None)
        return await self._submit(self._long, function, args, self._config.render_s, report)

    async def _submit(
        self,
        pool: ThreadPoolExecutor,
        function: Function,
        args: tuple[Any, ...],
        timeout_s: float,
        on_progress: Progress | None,
    ) -> Any:
        with self._lock:
            if self._waiting >= _MAX_WAITING:
                raise BusyTasksError("the server is busy: try again in a moment")
            self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(pool, self._run, function, args, timeout_s, on_progress)
        finally:
            with self._lock:
                self._waiting -= 1

    def _run(
        self, function: Function, args: tuple[Any, ...], timeout_s: float, on_progress: Progress | None
    ) -> Any:
        name = function if isinstance(function, str) else f"{function.__module__}:{function.__qualname__}"
        order = {"function": name, "args": [_plain(arg) for arg in args], "reports": on_progress is not None}
        with self._lock:
            if self._closed:
                raise TaskError("the server is ending")
            process = self._idle.pop() if self._idle else None
        if process is not None and not process.process.is_alive():
            process.end()
            process = None
        process = process or _Process(self._config.task_memory_mb)
        if not self._is_open_for(process):  # it was closed while the process started
            process.end()
            raise TaskError("the server is ending")
        timer = threading.Timer(timeout_s, process.process.kill)
        timer.daemon = True
        timer.start()
        usable = False
        began = time.monotonic()
        try:
            process.connection.send_bytes(json.dumps(order).encode())
            answer = _answer(process.connection, on_progress or (lambda fraction: None))
            usable = True
            return answer
        except TaskError as error:
            usable = True
            raise TaskError(without_paths(str(error), self._config.out.absolute())) from error
        except (EOFError, OSError, ValueError) as error:
            late = time.monotonic() - began >= timeout_s
            what = "it took too long" if late else "its process ended unexpectedly"
            raise TaskError(f"that could not be made ({what})") from error
        finally:
            timer.cancel()
            with self._lock:
                self._busy.discard(process)
                keep = usable and not self._closed and process.process.is_alive()
                if keep:
                    self._idle.append(process)
            if not keep:
                process.end()

    def _is_open_for(self, process: _Process) -> bool:
        """Whether tasks may still run; if so, `close` ends this process too."""
        with self._lock:
            if not self._closed:
                self._busy.add(process)
            return not self._closed

    def end_idle(self) -> None:
        """End the processes that have nothing to do, to give back their memory."""
        with self._lock:
            idle, self._idle = self._idle, []
        for process in idle:
            process.end()

    def close(self) -> None:
        """End all tasks."""
        with self._lock:
            self._closed = True
            busy = list(self._busy)
        for process in busy:
            process.process.kill()
        self.end_idle()
        for pool in (self._short, self._long):
            pool.shutdown(wait=True, cancel_futures=True)


def _answer(connection: Connection, on_progress: Progress) -> Any:
    while True:
        header = json.loads(connection.recv_bytes(_MAX_HEADER_BYTES))
        if not isinstance(header, dict):
            raise ValueError("not a message")
        if isinstance(header.get("progress"), int | float):
            on_progress(min(1.0, max(0.0, float(header["progress"]))))
            continue
        if isinstance(header.get("error"), str):
            raise TaskError(header["error"])
        count = header["blobs"]
        if not isinstance(count, int) or not 0 <= count <= _MAX_BLOBS:
            raise ValueError("too many parts")
        blobs = [connection.recv_bytes(_MAX_BLOB_BYTES) for _ in range(count)]
        return _filled(header["value"], blobs)


def _plain(value: Any) -> Any:
    """An argument as JSON values."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    return value


def _emptied(value: Any, blobs: list[bytes]) -> Any:
    """JSON values, with numbers in place of bytes."""
    if isinstance(value, bytes):
        blobs.append(value)
        return {_BLOB: len(blobs) - 1}
    if isinstance(value, list | tuple):
        return [_emptied(each, blobs) for each in value]
    if isinstance(value, dict):
        return {str(key): _emptied(each, blobs) for key, each in value.items()}
    return str(value) if isinstance(value, Path) else value


def _filled(value: Any, blobs: list[bytes]) -> Any:
    """The inverse of `_emptied`."""
    if isinstance(value, list):
        return [_filled(each, blobs) for each in value]
    if isinstance(value, dict):
        if value.keys() == {_BLOB}:
            return blobs[value[_BLOB]]
        return {key: _filled(each, blobs) for key, each in value.items()}
    return value


# -- in the process


def confine(memory_mb: int) -> None:
    """Limit the memory of this process, and end it with its parent."""
    die_with_parent()
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        os._exit(1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_DATA, (memory_mb * 2**20, memory_mb * 2**20))
    few_arenas()


def _main(connection: Connection, memory_mb: int) -> None:
    """Run tasks until the other end of the pipe is closed."""
    confine(memory_mb)
    with contextlib.suppress(EOFError, OSError):
        while True:
            order = json.loads(connection.recv_bytes())
            _send(connection, order)


def _send(connection: Connection, order: dict[str, Any]) -> None:
    def report(fraction: float) -> None:
        connection.send_bytes(json.dumps({"progress": fraction}).encode())

    blobs: list[bytes] = []
    try:
        module, _, name = order["function"].partition(":")
        function = getattr(importlib.import_module(module), name)
        args = [*order["args"], report] if order["reports"] else order["args"]
        header = {"value": _emptied(function(*args), blobs), "blobs": len(blobs)}
        raw = json.dumps(header).encode()
    except AnalyzerError as error:
        raw, blobs = json.dumps({"error": str(error)}).encode(), []
    except MemoryError:
        raw, blobs = json.dumps({"error": "that needs more memory than is allowed"}).encode(), []
    except Exception as error:  # noqa: BLE001 - one task must not end the others
        raw, blobs = json.dumps({"error": f"that could not be made ({type(error).__name__})"}).encode(), []
    connection.send_bytes(raw)
    for blob in blobs:
        connection.send_bytes(blob)
