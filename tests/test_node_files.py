"""Source files on the machines of a cluster: sent once, shared, and removed."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from analyzer.batch.executors import node_files
from analyzer.batch.executors.node_files import SourceFile, found_here, kept, provided
from analyzer.errors import OutputError, StoppedError
from testkit import faults


def never() -> bool:
    return False


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SourceFile:
    """A file on the batch's machine, of three pieces."""
    monkeypatch.setattr(node_files, "_PIECE_BYTES", 1000)
    return made(tmp_path)


def made(folder: Path) -> SourceFile:
    path = folder / "batch" / "My video.mp4"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(np.random.default_rng(1).bytes(2500))
    return SourceFile.of(path)


class Sender:
    """The batch's machine, which counts what it sends."""

    def __init__(self, file: SourceFile) -> None:
        self._file = file
        self.sent: list[int] = []

    def __call__(self, offset: int, size: int) -> bytes:
        self.sent.append(offset)
        return self._file.path.read_bytes()[offset : offset + size]


def left(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != ".lock"]


def test_a_file_at_the_same_path_is_recognized(file: SourceFile, tmp_path: Path) -> None:
    assert found_here(file)
    content = file.path.read_bytes()
    file.path.write_bytes(content[:-1] + b"x")
    assert not found_here(file), "another one at that path"
    file.path.write_bytes(content + b"x")
    assert not found_here(file)
    file.path.unlink()
    assert not found_here(file)
    file.path.mkdir()
    assert not found_here(file)


def test_a_file_is_received_once_and_removed_by_its_last_user(file: SourceFile, tmp_path: Path) -> None:
    folder, sender = tmp_path / "node", Sender(file)
    with provided(folder, file, sender, never) as first:
        assert first.read_bytes() == file.path.read_bytes() and first.name == file.path.name
        modes = [stat.S_IMODE(path.stat().st_mode) for path in (folder, first.parent)]
        assert modes == [0o700, 0o700]
        with provided(folder, file, sender, never) as second:
            assert second == first
        assert first.exists() and sender.sent == [0, 1000, 2000]
    assert left(folder) == []
    with provided(folder, file, sender, never):
        assert len(sender.sent) == 6


def test_workers_that_come_at_once_wait_for_the_one_that_receives(file: SourceFile, tmp_path: Path) -> None:
    folder, sender, ready = tmp_path / "node", Sender(file), threading.Barrier(4)

    def receive(offset: int, size: int) -> bytes:
        time.sleep(0.1)
        return sender(offset, size)

    def work(number: int) -> bytes:
        ready.wait()
        with provided(folder, file, receive, never) as path:
            content = path.read_bytes()
            ready.wait()  # all have it before one leaves
            return content

    with ThreadPoolExecutor(4) as pool:
        contents = list(pool.map(work, range(4)))
    assert contents == [file.path.read_bytes()] * 4 and sender.sent == [0, 1000, 2000]
    assert left(folder) == []


def test_threads_of_one_process_keep_each_other_out_of_a_folder(
    file: SourceFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over NFS, locks of files may not: the system sees them as locks of the same process."""
    inside: list[int] = []
    swept = node_files._sweep

    def slowly(folder: Path) -> None:
        inside.append(1)
        assert len(inside) == 1
        time.sleep(0.05)
        swept(folder)
        inside.pop()

    monkeypatch.setattr(node_files, "file_lock", lambda path: contextlib.nullcontext(path.touch()))
    monkeypatch.setattr(node_files, "_sweep", slowly)

    def work(number: int) -> None:
        with provided(tmp_path / "node", file, Sender(file), never):
            pass

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))


def test_another_worker_goes_on_when_the_one_that_receives_fails(file: SourceFile, tmp_path: Path) -> None:
    folder, sender, half = tmp_path / "node", Sender(file), threading.Event()

    def fails(offset: int, size: int) -> bytes:
        if offset:
            half.set()
            time.sleep(0.5)  # the other one waits by now
            raise ConnectionError("the batch is gone")
        return sender(offset, size)

    def first() -> None:
        with pytest.raises(ConnectionError), provided(folder, file, fails, never):
            pass

    with ThreadPoolExecutor(1) as pool:
        failed = pool.submit(first)
        assert half.wait(10)
        with provided(folder, file, sender, never) as path:
            assert path.read_bytes() == file.path.read_bytes()
            failed.result()
            assert path.exists() and sender.sent == [0, 1000, 2000]
    assert left(folder) == []


def holds(folder: Path, file: SourceFile, stuck_at: int | None, pipe: Connection) -> None:
    """In a process: receive a file and keep it, or get stuck while it arrives."""
    node_files._PIECE_BYTES = 1000
    sender = Sender(file)

    def receive(offset: int, size: int) -> bytes:
        if offset == stuck_at:
            pipe.send(None)
            time.sleep(600)
        return sender(offset, size)

    with provided(folder, file, receive, never) as path:
        pipe.send(path)
        time.sleep(600)


@contextlib.contextmanager
def killed_holder(
    folder: Path, file: SourceFile, stuck_at: int | None = None
) -> Iterator[Callable[[], None]]:
    """A process that holds a file; call what is given to kill it."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=holds, args=(folder, file, stuck_at, theirs))
    process.start()

    def kill() -> None:
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()

    try:
        assert ours.poll(60)
        yield kill
    finally:
        process.kill()
        process.join()


def test_what_a_killed_worker_leaves_is_removed_by_the_next_one(file: SourceFile, tmp_path: Path) -> None:
    folder = tmp_path / "node"
    other = file.path.with_name("other.mp4")
    other.write_bytes(b"another video")
    with killed_holder(folder, file) as kill:
        with provided(folder, SourceFile.of(other), Sender(SourceFile.of(other)), never):
            assert (folder / file.fingerprint / file.path.name).exists(), "it is in use"
        kill()
        assert left(folder)
        with provided(folder, SourceFile.of(other), Sender(SourceFile.of(other)), never) as path:
            assert {name.partition("/")[0] for name in left(folder)} == {path.parent.name}


def test_a_worker_goes_on_where_a_killed_one_has_stopped_receiving(file: SourceFile, tmp_path: Path) -> None:
    folder, sender = tmp_path / "node", Sender(file)
    with killed_holder(folder, file, stuck_at=1000) as kill:
        timer = threading.Timer(0.5, kill)
        timer.start()
        with provided(folder, file, sender, never) as path:
            assert path.read_bytes() == file.path.read_bytes() and sender.sent == [1000, 2000]
        timer.join()
    assert left(folder) == []


def test_waiting_and_receiving_can_be_canceled(file: SourceFile, tmp_path: Path) -> None:
    folder, sender, asked = tmp_path / "node", Sender(file), iter([False, True])
    with pytest.raises(StoppedError), provided(folder, file, sender, lambda: next(asked)):
        pass
    assert sender.sent == [0] and left(folder) == []
    with killed_holder(folder, file, stuck_at=0):
        with pytest.raises(StoppedError), provided(folder, file, sender, lambda: True):
            pass
        assert sender.sent == [0]


def test_a_file_that_changes_on_its_way_is_refused(file: SourceFile, tmp_path: Path) -> None:
    def changed(offset: int, size: int) -> bytes:
        return bytes(size)

    for received in (changed, lambda offset, size: b""):  # the latter has become shorter
        with pytest.raises(OutputError, match="has changed"):  # noqa: SIM117
            with provided(tmp_path / "node", file, received, never):
                pass
    with pytest.raises(ValueError, match="bytes"):  # noqa: SIM117
        with provided(tmp_path / "node", file, lambda offset, size: bytes(1001), never):
            pass
    assert left(tmp_path / "node") == []


def test_a_full_disk_is_one_sentence_and_is_freed(tmp_path: Path) -> None:
    file, disk = made(tmp_path), tmp_path / "disk"
    disk.mkdir()
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(faults.small_disk(disk, 1))
        except PermissionError as error:
            pytest.skip(str(error))
        large = file.path.with_name("large.mp4")
        large.write_bytes(bytes(3 * 2**20))
        sender = Sender(SourceFile.of(large))
        with pytest.raises(OutputError, match="no space is left") as caught:  # noqa: SIM117
            with provided(disk / "node", SourceFile.of(large), sender, never):
                pass
        assert caught.value.no_space and "\n" not in str(caught.value)
        assert left(disk / "node") == [] and sender.sent == []
        with provided(disk / "node", file, Sender(file), never) as path:
            assert path.read_bytes() == file.path.read_bytes()


def test_a_folder_that_cannot_be_written_is_one_sentence(file: SourceFile, tmp_path: Path) -> None:
    (tmp_path / "node").write_text("a file")
    with pytest.raises(OutputError, match=r"choose another folder with \[executor\] scratch"):  # noqa: SIM117
        with provided(tmp_path / "node", file, Sender(file), never):
            pass


def test_a_downloaded_file_is_found_by_the_workers_of_its_machine(tmp_path: Path) -> None:
    folder, downloaded = tmp_path / "node", made(tmp_path).path

    def ask(offset: int, size: int) -> bytes:
        pytest.fail("it is here already")

    content = downloaded.read_bytes()
    with contextlib.ExitStack() as worker:
        with kept(folder, downloaded, never) as file:
            assert not downloaded.exists() and file.path == downloaded
            path = worker.enter_context(provided(folder, file, ask, never))
            assert path.read_bytes() == content and path.name == downloaded.name
        assert path.exists(), "a worker still needs it"
    assert left(folder) == []
