"""Locks on folders, also on network file systems, and the removal of leftovers."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from analyzer.errors import OutputError
from analyzer.util.locks import folder_lock, remove_leftovers, remove_parts, run_lock

_flock = fcntl.flock


def flock_of_nfs(descriptor: int, operation: int) -> None:
    """Lock as Linux does over NFS: by a byte-range lock, which needs a file open for writing, or reading."""
    mode = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE
    refused = os.O_RDONLY if operation & fcntl.LOCK_EX else os.O_WRONLY
    if operation & (fcntl.LOCK_EX | fcntl.LOCK_SH) and mode == refused:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    _flock(descriptor, operation)


@pytest.fixture(params=[_flock, flock_of_nfs], ids=["local", "nfs"], autouse=True)
def file_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", request.param)


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_a_folder_is_locked_by_one_process_and_removed_if_it_stays_empty(tmp_path: Path) -> None:
    run = tmp_path / "a" / "run"
    with run_lock(run) as staging:
        assert staging.is_dir() and staging.parent == run
        with pytest.raises(OutputError, match="in use by another run"), run_lock(run):
            pass
        assert staging.is_dir(), "the refused process has changed nothing"
    assert names(tmp_path) == {"a"}
    with run_lock(run):
        (run / "run.json").touch()
    assert names(run) == {"run.json"}


def test_many_that_lock_and_remove_never_overlap(tmp_path: Path) -> None:
    """Each removes the folder and its lock file: a waiting one must not hold a file that is gone."""
    inside, most, done = [0], [0], [0]

    def work() -> None:
        for _ in range(150):
            with contextlib.suppress(BlockingIOError), contextlib.ExitStack() as stack:
                stack.enter_context(folder_lock(tmp_path / "run"))
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                done[0] += 1
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] and done[0] >= 150 and not names(tmp_path)


def test_a_lock_file_removed_during_the_wait_is_not_a_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The holder ends between the opening of the file and the lock on it."""
    flock, path, asked = fcntl.flock, tmp_path / ".lock", []

    def late(descriptor: int, operation: int) -> None:
        asked.append(descriptor)
        if len(asked) == 1:
            path.unlink()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with contextlib.ExitStack() as stack:
        stack.enter_context(folder_lock(tmp_path))
        assert len(asked) == 2 and path.exists()
        with pytest.raises(BlockingIOError), contextlib.ExitStack() as other:
            other.enter_context(folder_lock(tmp_path))


def test_a_file_instead_of_a_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(OutputError, match="cannot be written"), run_lock(tmp_path / "run"):
        pass
    (tmp_path / "link").symlink_to(tmp_path / "none")
    with pytest.raises(OutputError, match="cannot be written"), run_lock(tmp_path / "link"):
        pass


def part(run: Path, name: str, *, age_s: int) -> Path:
    folder = run / ".parts" / name
    folder.mkdir(parents=True)
    (folder / "faces.parquet").write_bytes(b"12345")
    os.utime(folder, (10**9 - age_s, 10**9 - age_s))
    return folder


@pytest.mark.parametrize(
    ("remove", "left"),
    [
        (lambda run: remove_parts(run, "aa"), {"aab-000000", "bb-000000", "run.json"}),
        (
            lambda run: remove_parts(run, "aa", until=10**9 - 5),
            {"aa-000001", "aab-000000", "bb-000000", "run.json"},
        ),
        (
            lambda run: remove_parts(run, "cc"),
            {"aa-000000", "aa-000001", "aab-000000", "bb-000000", "run.json"},
        ),
        (remove_leftovers, {"aa-000001", "bb-000000"}),
    ],
)
def test_only_these_segments_are_removed(
    remove: Callable[[Path], int], left: set[str], tmp_path: Path
) -> None:
    """By key, by age, or what is older than the run; half-written ones always, those of others never."""
    for name, age_s in {"aa-000000": 10, "aa-000001": 0, "aab-000000": 10, "bb-000000": 0}.items():
        part(tmp_path, name, age_s=age_s)
    part(tmp_path, "new-x", age_s=0)
    (tmp_path / ".parts" / "run.json").write_text("of a live run")
    os.utime(tmp_path / ".parts" / "run.json", (10**9 - 10, 10**9 - 10))
    (tmp_path / "run.json").write_text("{}")
    os.utime(tmp_path / "run.json", (10**9 - 5, 10**9 - 5))
    before = names(tmp_path)
    with contextlib.ExitStack() as stack:
        stack.enter_context(folder_lock(tmp_path))
        assert remove(tmp_path) == 0, "another process works here"
    assert names(tmp_path) == before
    assert remove(tmp_path) >= 5
    assert {path.name for path in (tmp_path / ".parts").iterdir()} == left
    assert (tmp_path / "run.json").exists() and not (tmp_path / ".lock").exists()
    assert remove(tmp_path) == 0


def test_a_folder_that_contains_only_parts_is_removed_with_them(tmp_path: Path) -> None:
    part(tmp_path / "run", "aa-000000", age_s=0)
    assert remove_leftovers(tmp_path / "run") == 0, "no run was published"
    assert remove_parts(tmp_path / "run", "aa") == 5
    assert remove_parts(tmp_path / "run", "aa") == 0
    assert not names(tmp_path)
