"""What is asked of the operating system: memory, and that no process is left alone."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
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
"""There is one ``__main__`` for all threads."""


def _libc(function: str, *arguments: int) -> None:
    with contextlib.suppress(OSError, AttributeError, TypeError):
        getattr(ctypes.CDLL(None), function)(*arguments)


def few_arenas() -> None:
    """Have threads share their memory (glibc only): each new thread would begin a heap of its own, and a
    long video would keep what its many reading threads have let go."""
    arena_max = -8  # M_ARENA_MAX of malloc.h
    _libc("mallopt", arena_max, 1)


def give_back_memory() -> None:
    """Give what was freed back to the system: what compiling networks took, and pictures (glibc only)."""
    _libc("malloc_trim", 0)


def die_with_parent() -> None:
    """Have this process killed when the one that started it ends, however it ends (Linux only)."""
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG of prctl.h
    _libc("prctl", set_parent_death_signal, signal.SIGKILL)


def available_memory_mb() -> float | None:
    """Memory that processes may still take without swapping, in MB; None where the system does not say.

    The smallest of what the machine has left and what container and service allow (cgroup v2).
    """
    left: list[float] = []
    with contextlib.suppress(OSError, ValueError, KeyError):
        left.append(_numbers("/proc/meminfo")["MemAvailable:"] / 1024)
    for group in _control_groups():
        with contextlib.suppress(OSError, ValueError):
            files = (Path(f"{group}/memory.{name}") for name in ("max", "current"))
            limit, used = (int(file.read_text("ascii")) for file in files)  # "max" is no number: no limit
            with contextlib.suppress(OSError, KeyError):
                # Files that were read and lie in memory make room when asked to.
                used -= _numbers(f"{group}/memory.stat")["inactive_file"]
            left.append((limit - used) / 2**20)
    if not left and hasattr(os, "sysconf"):
        with contextlib.suppress(OSError, ValueError):
            left.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") / 2**20)
    return min(left, default=None)


@contextlib.contextmanager
def caller_not_run_again(*blocked: signal.Signals) -> Iterator[None]:
    """Start processes that do not import the program that calls us: a script that does not guard its main
    part (``if __name__ == "__main__"``) would run again in each. They do not hear Ctrl-C, nor what else is
    `blocked`."""
    with _starting:
        # The first start of a process starts this one too, and lets all signals through again.
        resource_tracker.ensure_running()
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        # They inherit what is blocked: Ctrl-C is not for them, not even while they begin.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, *blocked}) if _CAN_BLOCK else None
        try:
            yield
        finally:
            sys.modules["__main__"] = main
            if before is not None:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Do something short to its end although Ctrl-C or SIGTERM comes: what they do is done afterwards.

    A second signal is obeyed at once. Only the main thread hears signals; elsewhere this does nothing.
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

    heard = [number for number, handler in handlers.items() if callable(handler)]
    try:
        for number in heard:
            signal.signal(number, remember)
        yield
    finally:
        for number in heard:
            signal.signal(number, handlers[number])
        if waiting:
            obey(waiting[0], None)


def _control_groups() -> list[str]:
    """Folders of the control groups that this process is in, the outermost first; all their limits hold."""
    folders = ["/sys/fs/cgroup"]
    with contextlib.suppress(OSError, ValueError):
        lines = Path("/proc/self/cgroup").read_text("ascii").splitlines()
        own = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
        for part in own.split("/") if own and ".." not in own else ():
            folders.append(f"{folders[-1]}/{part}")
    return folders


def resident_mb() -> float | None:
    """Memory that this process holds, in MB; None where the system does not say (Linux only)."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        return _numbers("/proc/self/status")["VmRSS:"] / 1024
    return None


def file_system(folder: Path) -> str | None:
    """The type of the file system that a folder lies or will lie on, such as ``ext4`` (Linux only)."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    found: tuple[int, str] | None = None
    with contextlib.suppress(OSError, ValueError, IndexError):
        real = place.resolve()
        for line in Path("/proc/self/mounts").read_bytes().split(b"\n"):
            if not line:
                continue
            _, mounted, kind = line.split(b" ")[:3]
            mount = Path(_unescaped(mounted))
            # A later mount on the same place hides the earlier one.
            if real.is_relative_to(mount) and (found is None or len(mount.parts) >= found[0]):
                found = len(mount.parts), os.fsdecode(kind)
    return None if found is None else found[1]


def _unescaped(mounted: bytes) -> str:
    r"""A place from the list of mounts, in which blanks and the like are three octal digits.

    >>> _unescaped("/mnt/B\u00fcro\\040und\\134mehr".encode())
    '/mnt/B\xfcro und\\mehr'
    """
    return os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), mounted))


def _numbers(path: str) -> dict[str, int]:
    """The first word and the number of each line."""
    rows = (line.split() for line in Path(path).read_text("ascii").splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}
