"""What the operating system is asked for: memory, file systems, and the life of child processes."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import sys
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker
from pathlib import Path
from types import FrameType, ModuleType

__all__ = [
    "available_memory_mb",
    "caller_not_run_again",
    "die_with_parent",
    "few_arenas",
    "file_system",
    "give_back_memory",
    "resident_mb",
    "undisturbed",
]

_CAN_BLOCK = hasattr(signal, "pthread_sigmask")

_starting = threading.RLock()
"""All threads share one ``__main__``."""


def _libc(function: str, *arguments: int) -> None:
    with contextlib.suppress(OSError, AttributeError, TypeError):
        getattr(ctypes.CDLL(None), function)(*arguments)


def few_arenas() -> None:
    """Make threads share one heap (glibc only).

    Otherwise each new thread begins a heap of its own, and a long video would keep the memory that its many
    reading threads have freed.
    """
    arena_max = -8  # M_ARENA_MAX of malloc.h
    _libc("mallopt", arena_max, 1)


def give_back_memory() -> None:
    """Return freed memory to the system, such as that of compiled models and frames (glibc only)."""
    _libc("malloc_trim", 0)


def die_with_parent() -> None:
    """Make the system kill this process when its parent ends, however that ends (Linux only)."""
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG of prctl.h
    _libc("prctl", set_parent_death_signal, signal.SIGKILL)


def available_memory_mb() -> float | None:
    """Return the memory that processes may still take without swapping, in MB; None if it is unknown.

    The smallest of what the machine has left and what container and service allow (cgroup v2).
    """
    import psutil

    left: list[float] = []
    with contextlib.suppress(psutil.Error, OSError, RuntimeError):
        left.append(psutil.virtual_memory().available / 2**20)
    for group in _control_groups():
        with contextlib.suppress(OSError, ValueError):
            files = (Path(f"{group}/memory.{name}") for name in ("max", "current"))
            limit, used = (int(file.read_text("ascii")) for file in files)  # "max" is no number: no limit
            with contextlib.suppress(OSError, KeyError, ValueError):
                # The cache of files that were read is freed on demand.
                rows = (line.split() for line in Path(f"{group}/memory.stat").read_text("ascii").splitlines())
                used -= {name: int(value) for name, value in rows}["inactive_file"]
            left.append((limit - used) / 2**20)
    return min(left, default=None)


@contextlib.contextmanager
def caller_not_run_again(*blocked: signal.Signals) -> Iterator[None]:
    """Start processes that do not import the calling program.

    A script that does not guard its main part (``if __name__ == "__main__"``) would run again in each. The
    processes ignore Ctrl-C, and the signals in `blocked`.
    """
    with _starting:
        # The first start of a process starts this one too, and unblocks all signals.
        resource_tracker.ensure_running()
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        # They inherit what is blocked: Ctrl-C is not for them, not even while they start.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, *blocked}) if _CAN_BLOCK else None
        try:
            yield
        finally:
            sys.modules["__main__"] = main
            if before is not None:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Delay Ctrl-C and SIGTERM until the end of a short block.

    A second signal takes effect at once. Only the main thread receives signals; elsewhere this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    waiting: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        waiting.append(number)
        if len(waiting) > 1:
            waiting.clear()
            obey(number, frame)

    def obey(number: int, frame: FrameType | None) -> None:
        handler = handlers[signal.Signals(number)]
        assert callable(handler)
        handler(number, frame)

    caught = [number for number, handler in handlers.items() if callable(handler)]
    try:
        for number in caught:
            signal.signal(number, remember)
        yield
    finally:
        for number in caught:
            signal.signal(number, handlers[number])
        if waiting:
            obey(waiting[0], None)


def _control_groups() -> list[str]:
    """Return the folders of this process's control groups, the outermost first; all their limits apply."""
    folders = ["/sys/fs/cgroup"]
    with contextlib.suppress(OSError, ValueError):
        lines = Path("/proc/self/cgroup").read_text("ascii").splitlines()
        own = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
        for part in own.split("/") if own and ".." not in own else ():
            folders.append(f"{folders[-1]}/{part}")
    return folders


def resident_mb() -> float | None:
    """Return the memory that this process holds, in MB; None if the system does not say."""
    import psutil

    with contextlib.suppress(psutil.Error, OSError):
        return float(psutil.Process().memory_info().rss / 2**20)
    return None


def file_system(folder: Path) -> str | None:
    """Return the type of the file system that holds a folder, existing or not, such as ``ext4``.

    None if the system does not say.
    """
    import psutil

    existing = folder.absolute()
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    kind, depth = None, 0
    with contextlib.suppress(psutil.Error, OSError):
        real = existing.resolve()
        for mount in psutil.disk_partitions(all=True):
            point = Path(mount.mountpoint)
            # A later mount on the same folder hides the earlier one.
            if real.is_relative_to(point) and len(point.parts) >= depth:
                kind, depth = mount.fstype, len(point.parts)
    return kind
