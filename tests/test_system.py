"""What the operating system says of its memory and its disks, and how processes are started."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from pathlib import Path

import pytest

from analyzer.util import system
from analyzer.util.system import available_memory_mb, caller_not_run_again, file_system

MEMINFO = "MemTotal:       8000000 kB\nMemFree:         1000000 kB\nMemAvailable:    4096000 kB\n"


class Files:
    """Stands in for `Path`: only these files exist."""

    def __init__(self, **texts: str) -> None:
        self._texts = {name.replace("__", "."): text for name, text in texts.items()}
        self.asked: list[str] = []

    def __call__(self, name: str) -> Files:
        self.asked.append(name)
        return self

    def read_text(self, encoding: str) -> str:
        assert encoding == "ascii"
        name = self.asked[-1] if self.asked[-1] in self._texts else self.asked[-1].rpartition("/")[2]
        if name not in self._texts:
            raise FileNotFoundError(name)
        return self._texts[name]


def available(monkeypatch: pytest.MonkeyPatch, **texts: str) -> float | None:
    files = Files(**texts)
    monkeypatch.setattr(system, "Path", files)
    found = available_memory_mb()
    assert "/proc/meminfo" in files.asked and "/sys/fs/cgroup/memory.max" in files.asked
    return found


def test_this_machine_has_memory_left() -> None:
    left = available_memory_mb()
    assert left is not None and 0 < left < 1e9


def test_without_a_container_it_is_what_the_machine_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    assert available(monkeypatch, meminfo=MEMINFO) == 4000


def test_container_without_a_limit_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    found = available(monkeypatch, meminfo=MEMINFO, memory__max="max\n", memory__current="123456\n")
    assert found == 4000


@pytest.mark.parametrize(("limit_mb", "used_mb", "expected"), [(2048, 48, 2000), (90_000, 1000, 4000)])
def test_smaller_of_machine_and_container_counts(
    limit_mb: int, used_mb: int, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {"memory__max": f"{limit_mb << 20}\n", "memory__current": f"{used_mb << 20}\n"}
    assert available(monkeypatch, meminfo=MEMINFO, **texts) == expected


def test_container_counts_also_where_the_machine_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"memory__max": f"{1000 << 20}\n", "memory__current": f"{400 << 20}\n"}
    assert available(monkeypatch, **texts) == 600


def test_limit_of_a_service_counts_as_that_of_the_container(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"cgroup": "0::/system.slice/batch.service\n", "meminfo": MEMINFO}
    for folder, limit_mb in (("", 3000), ("/system.slice", 2500), ("/system.slice/batch.service", 900)):
        texts[f"/sys/fs/cgroup{folder}/memory.max"] = f"{limit_mb << 20}\n"
        texts[f"/sys/fs/cgroup{folder}/memory.current"] = f"{100 << 20}\n"
    assert available(monkeypatch, **texts) == 800
    texts["cgroup"] = "0::/../outside\n"
    assert available(monkeypatch, **texts) == 2900


@pytest.mark.parametrize("texts", [{}, {"memory__max": "max\n", "memory__current": "1\n"}])
def test_free_pages_count_where_nothing_else_does(
    texts: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = {"SC_PAGE_SIZE": 4096, "SC_AVPHYS_PAGES": 256_000}
    monkeypatch.setattr(os, "sysconf", pages.__getitem__)
    assert available(monkeypatch, **texts) == 1000


def test_system_that_says_nothing_is_not_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sysconf")
    assert available(monkeypatch) is None


def test_files_in_memory_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"memory__max": f"{2000 << 20}\n", "memory__current": f"{1500 << 20}\n"}
    stat = f"anon 1\ninactive_file {1000 << 20}\n"
    assert available(monkeypatch, meminfo=MEMINFO, **texts) == 500
    assert available(monkeypatch, meminfo=MEMINFO, memory__stat=stat, **texts) == 1500


def test_kernel_that_does_not_say_what_is_available(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"memory__max": f"{2000 << 20}\n", "memory__current": f"{1500 << 20}\n"}
    assert available(monkeypatch, meminfo="MemTotal: 100 kB\nMemFree: 50 kB\n", **texts) == 500


def mounts(monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    read = Path.read_bytes
    monkeypatch.setattr(
        Path, "read_bytes", lambda path: text if str(path) == "/proc/self/mounts" else read(path)
    )


@pytest.mark.parametrize("name", ["Büro", "two words", "tab\tand\\040", "日本", os.fsdecode(b"latin\xe9")])
def test_file_system_below_a_mount_of_any_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / name
    place.mkdir()
    written = os.fsencode(str(place.resolve())).replace(b"\\", b"\\134")
    written = written.replace(b" ", b"\\040").replace(b"\t", b"\\011")
    mounts(
        monkeypatch, b"/dev/a / ext4 rw 0 0\nhost:/x " + written + b" nfs4 rw 0 0\nproc /proc proc rw 0 0\n"
    )
    assert file_system(place / "outputs" / "more") == "nfs4"
    assert file_system(tmp_path) == "ext4"


def test_threads_that_start_processes_at_once_leave_the_program_as_it_was() -> None:
    """Each hides the program's main module for a moment: none must bring back another's stand-in."""
    before, inside = sys.modules["__main__"], threading.Barrier(2, timeout=0.2)

    def start() -> None:
        with caller_not_run_again(), contextlib.suppress(threading.BrokenBarrierError):
            inside.wait()  # both at once, if they could be

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sys.modules["__main__"] is before and inside.broken
