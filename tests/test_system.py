"""Memory and file systems as the operating system reports them, and the start of processes."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from analyzer.util import system
from analyzer.util.system import available_memory_mb, caller_not_run_again, file_system, resident_mb


class Files:
    """Test double of `Path`: only these files exist."""

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


def available(monkeypatch: pytest.MonkeyPatch, machine_mb: float | None, **texts: str) -> float | None:
    """The memory left on a machine with these files of control groups; None: the machine does not say."""

    def memory() -> SimpleNamespace:
        if machine_mb is None:
            raise RuntimeError("not supported")
        return SimpleNamespace(available=machine_mb * 2**20)

    files = Files(**texts)
    monkeypatch.setattr(system, "Path", files)
    monkeypatch.setattr(psutil, "virtual_memory", memory)
    found = available_memory_mb()
    assert "/sys/fs/cgroup/memory.max" in files.asked
    return found


def test_this_machine_has_memory_left() -> None:
    left, held = available_memory_mb(), resident_mb()
    assert left is not None and 0 < left < 1e9
    assert held is not None and 5 < held < 1e5


def test_without_a_container_the_machine_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert available(monkeypatch, 4000) == 4000


def test_a_container_without_a_limit_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    assert available(monkeypatch, 4000, memory__max="max\n", memory__current="123456\n") == 4000


@pytest.mark.parametrize(("limit_mb", "used_mb", "expected"), [(2048, 48, 2000), (90_000, 1000, 4000)])
def test_the_smaller_of_machine_and_container_counts(
    limit_mb: int, used_mb: int, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {"memory__max": f"{limit_mb << 20}\n", "memory__current": f"{used_mb << 20}\n"}
    assert available(monkeypatch, 4000, **texts) == expected


def test_a_container_counts_even_if_the_machine_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"memory__max": f"{1000 << 20}\n", "memory__current": f"{400 << 20}\n"}
    assert available(monkeypatch, None, **texts) == 600


def test_the_limit_of_a_service_counts_like_that_of_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"cgroup": "0::/system.slice/batch.service\n"}
    for folder, limit_mb in (("", 3000), ("/system.slice", 2500), ("/system.slice/batch.service", 900)):
        texts[f"/sys/fs/cgroup{folder}/memory.max"] = f"{limit_mb << 20}\n"
        texts[f"/sys/fs/cgroup{folder}/memory.current"] = f"{100 << 20}\n"
    assert available(monkeypatch, 4000, **texts) == 800
    texts["cgroup"] = "0::/../outside\n"
    assert available(monkeypatch, 4000, **texts) == 2900


def test_unknown_memory_is_not_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert available(monkeypatch, None) is None


def test_the_cache_of_files_counts_as_available(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"memory__max": f"{2000 << 20}\n", "memory__current": f"{1500 << 20}\n"}
    stat = f"anon 1\ninactive_file {1000 << 20}\n"
    assert available(monkeypatch, 4000, **texts) == 500
    assert available(monkeypatch, 4000, memory__stat=stat, **texts) == 1500


@pytest.mark.skipif(not hasattr(psutil, "PROCFS_PATH"), reason="Linux only")
@pytest.mark.parametrize("name", ["Büro", "two words", "tab\tand\\040", "日本", os.fsdecode(b"latin\xe9")])
def test_file_system_below_a_mount_of_any_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = tmp_path / name
    point.mkdir()
    written = os.fsencode(str(point.resolve())).replace(b"\\", b"\\134")
    written = written.replace(b" ", b"\\040").replace(b"\t", b"\\011")
    mounts = tmp_path / "proc" / "self" / "mounts"
    mounts.parent.mkdir(parents=True)
    mounts.write_bytes(
        b"/dev/a / ext4 rw 0 0\nhost:/x " + written + b" nfs4 rw 0 0\nproc /proc proc rw 0 0\n"
    )
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path / "proc"))
    assert file_system(point / "outputs" / "more") == "nfs4"
    assert file_system(tmp_path) == "ext4"


def test_threads_that_start_processes_at_once_leave_the_program_as_it_was() -> None:
    """Each hides the program's main module for a moment: none must restore the double of another."""
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
