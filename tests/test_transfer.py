"""The files of a run that arrive from another machine."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analyzer.errors import OutputError
from analyzer.runs.segments import PartStore
from analyzer.runs.transfer import DamagedRunError, Piece, RunFile, RunReceiver, pieces, run_files
from analyzer.sources.types import MediaKind, Video
from analyzer.util.locks import run_lock
from testkit.runs import make_run, random_plan

VIDEO_ID = "file-0123456789ab"


def video(*paths: Path) -> Video:
    unknown: dict[str, Any] = dict.fromkeys(("audio_path", "url", "channel", "uploaded", "uploaded_at"))
    known: dict[str, Any] = {"kind": MediaKind.VIDEO, "title": "Talk", "duration_s": None, "details": {}}
    return Video(VIDEO_ID, paths=paths, source="clip", fetched=True, **known, **unknown)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def sent(there: Path, here: Path, most_bytes: int = 1000, *, downloads: bool = False) -> dict[str, Any]:
    """Send a run to a folder, as a batch does."""
    files = run_files(there, downloads=downloads)
    with run_lock(here) as staging:
        receiver = RunReceiver(staging, files)
        for piece in pieces(there, files, most_bytes):
            assert not receiver.complete and 0 < len(piece.content) <= most_bytes
            receiver.receive(piece)
        assert receiver.complete
        return receiver.publish(here, video(here.parent / "clip.mp4"))


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """A run on another machine."""
    folder = tmp_path / "there" / f"talk-{VIDEO_ID}"
    plan = random_plan(np.random.default_rng(1), length_s=20, people=3, concurrent=1)
    make_run(folder, plan, video_id=VIDEO_ID)
    (folder / "annotated").mkdir()
    for name in ("annotated/a.jpg", "annotated/b.jpg", "report.html", "report-shares.png", "subtitles.vtt"):
        (folder / name).write_bytes(name.encode() * 300)
    (folder / "links.parquet").write_bytes(b"")  # an empty file arrives too
    return folder


def test_a_run_arrives_as_it_was_and_replaces_an_earlier_one(there: Path, tmp_path: Path) -> None:
    """In a folder of an earlier title, with corrections, parts, and a report in another format."""
    expected = files_of(there)
    (there / "corrections.json").write_text("of the node")
    for name in (".lock", ".parts/key-000000/faces.parquet", ".new/x", "notes.txt", "annotated/.part/a"):
        (there / name).parent.mkdir(parents=True, exist_ok=True)
        (there / name).write_text("stays there")
    (there / "tables.xlsx").symlink_to(there / "run.json")
    here = tmp_path / "out" / f"old-title-{VIDEO_ID}"
    PartStore(here, "key").commit_empty(0)
    kept = {"corrections.json": b"made by hand", "notes.txt": b"mine"}
    for name, content in (kept | {"run.json": b"{}", "report.md": b"old", "people.csv": b"old"}).items():
        (here / name).write_bytes(content)
    info = sent(there, here)
    assert info == json.loads(expected["run.json"])
    assert files_of(here) == expected | kept and len(expected) > 12


def test_pieces_have_a_size(there: Path) -> None:
    files = run_files(there, downloads=False)
    assert max(file.size_bytes for file in files) > 1000
    assert all(len(piece.content) <= 100 for piece in pieces(there, files, 100))
    assert {file.name for file in files} == set(files_of(there))


@pytest.mark.parametrize("arrives", [True, False], ids=["from the node", "moved here"])
def test_a_download_is_kept(there: Path, tmp_path: Path, arrives: bool) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"fetched")
    info = json.loads((there / "run.json").read_text()) | {"download": ["download-clip.mp4"]}
    (there / "run.json").write_text(json.dumps(info))
    (there / "download-clip.mp4").write_bytes(b"fetched")
    here = tmp_path / "here"
    sent(there, here, downloads=arrives)
    assert (here / "download-clip.mp4").read_bytes() == b"fetched" and clip.exists() == arrives
    info["download"] = ["download-clip.mp4", "download-other.mp4"]
    (there / "run.json").write_text(json.dumps(info))
    with pytest.raises(DamagedRunError, match="downloads"):
        sent(there, here, downloads=False)


@pytest.mark.parametrize(
    "name",
    [
        *("../run.json", "/tmp/run.json", "annotated/../../x", "annotated/a/b.jpg", "annotated", "..", ""),
        *("corrections.json", ".lock", ".parts/x", "run.json\0", "people.exe", "report.php", "other/a.jpg"),
    ],
)
def test_files_that_no_run_has_are_refused(name: str, tmp_path: Path) -> None:
    with run_lock(tmp_path / "run") as staging, pytest.raises(DamagedRunError):
        RunReceiver(staging, [RunFile("run.json", 2), RunFile(name, 2)])
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize(
    "files",
    [[], [RunFile("people.csv", 1)], [RunFile("run.json", 1)] * 2, [RunFile("run.json", -1)]],
    ids=str,
)
def test_a_list_that_is_no_run_is_refused(files: list[RunFile], tmp_path: Path) -> None:
    with pytest.raises(DamagedRunError):
        RunReceiver(tmp_path, files)


def test_pieces_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    wrong = [
        Piece("run.json", 1, b"x"),
        Piece("run.json", 0, b"12345"),
        Piece("run.json", -1, b"12"),
        Piece("faces.parquet", 0, b"x"),
        Piece("../run.json", 0, b"x"),
    ]
    with run_lock(tmp_path / "run") as staging:
        receiver = RunReceiver(staging, [RunFile("run.json", 4)])
        for piece in wrong:
            with pytest.raises(DamagedRunError):
                receiver.receive(piece)
        receiver.receive(Piece("run.json", 0, b"[1"))
        with pytest.raises(DamagedRunError):
            receiver.receive(Piece("run.json", 0, b"[1"))
        with pytest.raises(DamagedRunError, match="not arrived"):
            receiver.publish(tmp_path / "run", video())
        receiver.receive(Piece("run.json", 2, b"2]"))
        with pytest.raises(DamagedRunError, match="another video"):
            receiver.publish(tmp_path / "run", video())
    assert not list(tmp_path.rglob("*"))


def test_a_full_disk_is_one_sentence_and_the_run_here_stays(
    there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    sent(there, here)
    before = files_of(here)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="no space is left") as caught:
        sent(there, here)
    assert caught.value.no_space and files_of(here) == before
