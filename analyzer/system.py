"""What is asked of the operating system: memory, and that no process is left alone."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from pathlib import Path

__all__ = ["available_memory_mb", "die_with_parent", "few_arenas", "give_back_memory"]


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

    The smaller of what the machine has left and what the container allows (cgroup v2).
    """
    left: list[float] = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        left.append(next(int(line.split()[1]) / 1024 for line in lines if line.startswith("MemAvailable:")))
    with contextlib.suppress(OSError, ValueError, StopIteration):
        limit, used = (
            int(Path(f"/sys/fs/cgroup/memory.{name}").read_text("ascii")) for name in ("max", "current")
        )
        left.append((limit - used) / 2**20)
    if not left and hasattr(os, "sysconf"):
        with contextlib.suppress(OSError, ValueError):
            left.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") / 2**20)
    return min(left, default=None)
