"""What a user may name, and every way in which fetching it can go wrong."""

from __future__ import annotations

import calendar
import contextlib
import email.utils
import errno
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import duckdb
import pandas as pd
import pytest
from _pytest.mark import ParameterSet
from yt_dlp.extractor.common import InfoExtractor
from yt_dlp.utils import ExtractorError, GeoRestrictedError, UserNotLive

from analyzer.errors import OutputError, SourceError, SourceErrorKind, StoppedError
from analyzer.settings import Settings
from analyzer.sources import resolve, ytdlp
from analyzer.sources.formats import choose_formats
from analyzer.sources.local import _local_id
from analyzer.sources.resolve import Fetcher
from analyzer.sources.types import (
    Candidate,
    FetchProgress,
    FileSource,
    Item,
    LeftOut,
    MediaKind,
    UrlSource,
    Video,
)
from analyzer.sources.ytdlp import video_id_of, web_id
from analyzer.util.urls import host_of
from testkit.media import number_of, numbered, write_video
from testkit.servers import Handler, ScriptedListIE, Server, scripted, serve

Kind = SourceErrorKind
TIMEOUT_S = 1.5


def slow(*values: object) -> ParameterSet:
    """A set of parameters whose promise another set keeps in the quick run."""
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep yt-dlp's cache, and a proxy of this machine, out of the tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "download"
    made.mkdir()
    return made


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One second, with sound."""
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", numbered(30), audio_s=1)


def fetcher(*extractors: Any, want_audio: bool = True, **settings: Any) -> Fetcher:
    made = Settings(**{"timeout_s": TIMEOUT_S, **settings})
    return Fetcher(made, want_audio=want_audio, extractors=extractors)


def fetch(source: str, folder: Path, *extractors: Any, want_audio: bool = True, **settings: Any) -> Video:
    made = fetcher(*extractors, want_audio=want_audio, **settings)
    (item,) = made.resolve(source)
    return made.fetch(item, folder)


def refused(source: str, folder: Path, *extractors: Any, **settings: Any) -> SourceError:
    """The error of fetching; one line, for people, and nothing left behind."""
    with pytest.raises(SourceError) as caught:
        fetch(source, folder, *extractors, **settings)
    assert list(folder.iterdir()) == []
    return check_message(caught.value)


def check_message(error: SourceError) -> SourceError:
    message = str(error)
    assert re.fullmatch(r"\w[^\n\r\x1b]+ \(yt-dlp \d{4}\.\d\d\.\d\d[\d.]*\)", message), message
    assert len(message) < 400
    for rubbish in ("ERROR", "report this", "caused by", "Traceback", "--cookies", "http://"):
        assert rubbish not in message
    return error


def frames_of(path: Path) -> list[int]:
    with av.open(str(path)) as container:
        return [number_of(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


# ------------------------------------------------------------------------------------------ imports


def test_importing_costs_no_yt_dlp() -> None:
    code = "import sys, analyzer.sources.resolve\n"
    code += "print([m for m in sys.modules if m.startswith(('yt_dlp', 'av.'))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_plugins_are_not_loaded(tmp_path: Path) -> None:
    plugin = tmp_path / "yt_dlp_plugins" / "extractor" / "evil.py"
    plugin.parent.mkdir(parents=True)
    plugin.write_text("raise SystemExit('plugin loaded')\n")
    code = (
        "from analyzer.settings import Settings; from analyzer.sources.resolve import Fetcher\n"
        "from analyzer.errors import SourceError\n"
        "fetcher = Fetcher(Settings(playlist=True), want_audio=False)\n"
        "try: list(fetcher.resolve('http://127.0.0.1:1/'))\n"
        "except SourceError as error: print(error.kind)\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{Path.cwd()}{os.pathsep}{tmp_path}"}
    environment.pop("YTDLP_NO_PLUGINS", None)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.strip() == "network"


# -------------------------------------------------------------------------------------------- local


def test_local_file_is_used_in_place(clip: Path, folder: Path) -> None:
    video = fetch(str(clip), folder)
    assert (video.kind, video.paths, video.audio_path) == (MediaKind.VIDEO, (clip,), None)
    assert (video.title, video.url, video.fetched) == ("clip", None, False)
    assert re.fullmatch(r"file-[0-9a-f]{12}", video.video_id)
    assert video.details == {"files": 1, "size_bytes": clip.stat().st_size}
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", ["a.mp4", "-o", "noext", "ä b.mp4", "http:x.mp4", "im%d.mov", "-x.png"])
def test_local_names_may_be_anything(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(b"x")
    (item,) = fetcher().resolve(name)
    assert item.kind == (MediaKind.IMAGES if name.endswith("png") else MediaKind.VIDEO)
    assert item.paths == (Path(name),)


def test_fingerprint_survives_renaming_and_sees_changes(tmp_path: Path) -> None:
    def name_of(path: Path) -> str:
        return fetch(str(path), tmp_path).video_id

    body = bytearray(os.urandom(3 << 20))
    path = tmp_path / "a.mp4"
    path.write_bytes(body)
    before = name_of(path)
    renamed = path.rename(tmp_path / "b.mkv")
    assert name_of(renamed) == before
    for position in (0, len(body) - 1):
        changed = bytearray(body)
        changed[position] ^= 1
        renamed.write_bytes(changed)
        assert name_of(renamed) != before
    renamed.write_bytes(body + b"\0")
    assert name_of(renamed) != before


def test_local_items_are_identified_as_they_will_be(tmp_path: Path) -> None:
    for name in ("a.mp4", "1.png", "2.png"):
        (tmp_path / name).write_bytes(name.encode())
    made = fetcher(images=True)
    items = list(made.resolve(str(tmp_path)))
    ids = [made.identify(item) for item in items]
    assert ids == [made.fetch(item, tmp_path).video_id for item in items]
    assert len(set(ids)) == 2 and all(item.standalone for item in items)
    again = [Item(item.source, item.kind) for item in items]  # as a later run makes them
    assert [made.identify(item) for item in again] == ids
    assert [made.fetch(item, tmp_path).paths for item in again] == [item.paths for item in items]
    (tmp_path / "a.mp4").unlink()
    for gone in (items[0], again[0]):
        with pytest.raises(SourceError) as caught:
            made.identify(gone)
        assert caught.value.kind == Kind.NOT_FOUND


def test_empty_file_is_left_to_the_reader(tmp_path: Path) -> None:
    path = tmp_path / "empty.mp4"
    path.touch()
    assert fetch(str(path), tmp_path).details["size_bytes"] == 0


def test_folder_lists_videos_in_natural_order_then_images_as_one(tmp_path: Path) -> None:
    for name in ("v10.mp4", "v2.MKV", "v1.gif", "10.png", "9.JPG", "1.webp", "notes.txt", ".hidden.mp4"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "other.mp4").write_bytes(b"x")
    (tmp_path / "trap.mp4").mkdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "fifo.mp4")
    items = list(fetcher(images=True).resolve(str(tmp_path)))
    assert [[path.name for path in item.paths] for item in items] == [
        ["v1.gif"],
        ["v2.MKV"],
        ["v10.mp4"],
        ["1.webp", "9.JPG", "10.png"],
    ]
    assert [item.kind for item in items] == [MediaKind.VIDEO] * 3 + [MediaKind.IMAGES]
    assert len(list(fetcher(limit=2).resolve(str(tmp_path)))) == 2
    pictures = fetcher().fetch(items[3], tmp_path)
    assert pictures.paths == items[3].paths
    (tmp_path / "9.JPG").write_bytes(b"other")
    assert fetcher().fetch(items[3], tmp_path).video_id != pictures.video_id


def files_in(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


def listed(root: Path, **settings: Any) -> tuple[list[list[str]], list[LeftOut]]:
    """The files of each item of a folder, relative to it, and what was left out."""
    left_out: list[LeftOut] = []
    items = list(fetcher(**settings).resolve(str(root), on_left_out=left_out.append))
    return [[str(path.relative_to(root)) for path in item.paths] for item in items], left_out


@pytest.mark.parametrize(
    "pictures",
    [
        ["cover.jpg"],
        ["folder.jpg", "Talk [dQw4w9WgXcQ].webp"],  # a media server's, and yt-dlp's --write-thumbnail
        ["a-poster.PNG", "b.jpeg", "fanart.tiff"],
    ],
)
def test_images_beside_videos_are_listed_only_on_request(pictures: list[str], tmp_path: Path) -> None:
    files_in(tmp_path, "Talk [dQw4w9WgXcQ].mp4", *pictures)
    videos = [["Talk [dQw4w9WgXcQ].mp4"]]
    assert listed(tmp_path) == (videos, [LeftOut(str(tmp_path), len(pictures), False)])
    taken, left_out = listed(tmp_path, images=True)
    assert taken[0] == videos[0] and sorted(taken[1]) == sorted(pictures) and left_out == []
    (tmp_path / "Talk [dQw4w9WgXcQ].mp4").unlink()
    alone, left_out = listed(tmp_path)  # a folder of pictures alone
    assert len(alone) == 1 and sorted(alone[0]) == sorted(pictures) and left_out == []


def test_subfolders_are_searched_only_if_asked_for(tmp_path: Path) -> None:
    files_in(tmp_path, "2/b.mp4", "10/deep/a.mkv", "10/cover.jpg", "10/c.mp4", "thumbs/1.jpg", "x/notes.txt")
    with pytest.raises(SourceError, match=r"2/b\.mp4: add --recursive") as caught:
        listed(tmp_path)
    assert caught.value.kind is Kind.NESTED
    videos = [["2/b.mp4"], ["10/c.mp4"], ["10/deep/a.mkv"]]
    assert listed(tmp_path, recursive=True) == (videos, [LeftOut(str(tmp_path), 2, False)])
    files = [*videos, ["10/cover.jpg"], ["thumbs/1.jpg"]]
    assert listed(tmp_path, recursive=True, images=True) == (files, [])
    files_in(tmp_path, "top.mp4")
    assert listed(tmp_path) == ([["top.mp4"]], [LeftOut(str(tmp_path), 0, True)])


def test_each_subfolder_of_images_is_a_run(tmp_path: Path) -> None:
    files_in(tmp_path, "a/1.jpg", "a/2.jpg", "b/1.png")
    assert listed(tmp_path, recursive=True) == ([["a/1.jpg", "a/2.jpg"], ["b/1.png"]], [])
    made = fetcher(recursive=True)
    items = list(made.resolve(str(tmp_path)))
    again = [Item(item.source, item.kind) for item in items]  # as a later run makes them
    assert [made.identify(item) for item in again] == [made.identify(item) for item in items]


def test_neither_circles_nor_hidden_folders_nor_our_own_are_searched(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    files_in(outside, "stranger.mp4")
    root = tmp_path / "talks"
    files_in(
        root,
        *("a/1.mp4", ".trash/2.mp4", "a/.cache/3.mp4", "notes/run.json", "notes/4.mp4"),
        *("out/talk-file-1/annotated.mp4", "out/talk-file-2/.parts/x", "out/talk-file-2/annotated.mp4"),
        *("out/pictures-file-3/annotated/1.jpg", "out/report-timeline.png"),
    )
    for run in ("talk-file-1", "pictures-file-3"):
        (root / "out" / run / "run.json").write_text('{"analyzer_version": "0.1.0"}')
    (root / "a" / "back").symlink_to(root)
    (root / "a" / "up").symlink_to(root.parent)
    (root / "elsewhere").symlink_to(outside)
    (root / "self").symlink_to("self")
    files, left_out = listed(root, recursive=True, images=True)
    assert (files, left_out) == ([["a/1.mp4"], ["notes/4.mp4"]], [])
    (root / "a" / "1.mp4").unlink()
    (root / "notes" / "4.mp4").unlink()
    for recursive in (False, True):
        with pytest.raises(SourceError) as caught:
            listed(root, recursive=recursive)
        assert caught.value.kind is Kind.EMPTY


def test_unreadable_subfolder_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files_in(tmp_path, "a/1.mp4", "b/2.mp4")
    plain = Path.iterdir

    def iterdir(folder: Path) -> Iterator[Path]:
        if folder.name == "a":
            raise PermissionError(errno.EACCES, "Permission denied")
        return plain(folder)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    dead, item = fetcher(recursive=True).resolve(str(tmp_path))
    assert dead.error is not None and "a cannot be read: Permission denied" in str(dead.error)
    assert item.error is None


def test_no_reader_takes_an_id_for_a_number(tmp_path: Path) -> None:
    """Each id stands in a column of its own, as one id among text would make the column text."""
    from yt_dlp.extractor import gen_extractor_classes

    hashes = ["055551828374", "927722139e20", "5e9309130976", "000000000000", "20261124e000", "1e1000000000"]
    names = ["-abc", "1e10", "0x10", "inf", "nan", "007", "2026-11-24", "12:30", "true", "=1+1", "@x", "+49"]
    ids = {_local_id(one) for one in hashes} | {web_id("https://example.org/1")}
    item = Item("https://example.org/1", MediaKind.VIDEO)
    ids |= {video_id_of(item, "Youtube", name) for name in names}
    # A spreadsheet takes what begins with a sign for a formula, and a month with a number for a date.
    months = {name.lower() for names in (calendar.month_name, calendar.month_abbr) for name in names}
    words = {one.partition("-")[0] for one in ids}
    words |= {each.ie_key().lower() for each in gen_extractor_classes()}  # an id begins with its site
    assert [word for word in words if not re.fullmatch("[a-z0-9_]*[a-z][a-z0-9_]*", word)] == []
    assert words & months == set()
    table = tmp_path / "ids.csv"
    pd.DataFrame([sorted(ids)] * 2, columns=[f"c{number}" for number in range(len(ids))]).to_csv(
        table, index=False
    )
    read = pd.read_csv(table)
    assert {str(one) for one in read.dtypes} == {"str"}
    assert read.iloc[1].tolist() == sorted(ids)
    relation = duckdb.read_csv(str(table))
    assert {str(one) for one in relation.types} == {"VARCHAR"}
    assert list(relation.fetchall()[1]) == sorted(ids)


def test_missing_and_empty(tmp_path: Path) -> None:
    for source, kind in (
        (str(tmp_path / "none.mp4"), Kind.NOT_FOUND),
        (str(tmp_path), Kind.EMPTY),
        ("", Kind.NOT_FOUND),
        ("a\0b", Kind.NOT_FOUND),
        ("x" * 5000, Kind.NOT_FOUND),
        ("www.youtube.com/watch?v=x", Kind.NOT_FOUND),
    ):
        with pytest.raises(SourceError) as caught:
            list(fetcher().resolve(source))
        assert (caught.value.kind, caught.value.retry) == (kind, False)
        assert str(caught.value).isprintable()
    assert "https://" in str(caught.value)


@pytest.mark.timeout(10)
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_fifo_device_and_directory_are_refused_at_once(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo.mp4"
    os.mkfifo(fifo)
    for path in (fifo, Path("/dev/zero")):
        with pytest.raises(SourceError) as caught:
            list(fetcher().resolve(str(path)))
        assert caught.value.kind == Kind.UNSUPPORTED
    for path in (fifo, Path("/dev/zero"), tmp_path, tmp_path / "none"):  # it may change after resolving
        with pytest.raises(SourceError):
            fetcher().fetch(Item(str(path), MediaKind.VIDEO, (path,)), tmp_path)


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("file:///etc/passwd", Kind.UNSUPPORTED),
        ("ftp://example.org/a.mp4", Kind.UNSUPPORTED),
        ("data:video/mp4;base64,AAAA", Kind.UNSUPPORTED),
        ("concat:a|b", Kind.UNSUPPORTED),
        ("subfile,,start,0,end,9,,:x", Kind.NOT_FOUND),
        ("pipe:0", Kind.UNSUPPORTED),
        ("lavfi", Kind.NOT_FOUND),
        ("-o/x", Kind.NOT_FOUND),
        ("ytsearch:cats", Kind.UNSUPPORTED),
        ("0", Kind.UNSUPPORTED),
        ("rtsp://camera/1", Kind.UNSUPPORTED),
        ("rtmp://camera/1", Kind.UNSUPPORTED),
        ("http://", Kind.UNSUPPORTED),
        ("http://[::1", Kind.UNSUPPORTED),
        ("https://example.org/\nx", Kind.UNSUPPORTED),
    ],
)
def test_odd_addresses_never_reach_yt_dlp(
    source: str, kind: Kind, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("yt-dlp was started")

    monkeypatch.setattr("yt_dlp.YoutubeDL.__init__", never)
    for attempt in (
        lambda: list(fetcher(playlist=True).resolve(source)),
        lambda: fetcher().fetch(Item(source, MediaKind.VIDEO), folder),
    ):
        with pytest.raises(SourceError) as caught:
            attempt()
        assert (caught.value.kind, caught.value.retry) == (kind, False)
        assert str(caught.value).isprintable()
    assert list(folder.iterdir()) == []


# -------------------------------------------------------------------------------------------- plain


def test_direct_address(server: Server, clip: Path, folder: Path) -> None:
    seen: list[FetchProgress] = []
    made = Fetcher(Settings(timeout_s=TIMEOUT_S), want_audio=True, on_progress=seen.append)
    address = server.add("/some clip.mp4", clip).replace(" ", "%20")
    server.routes["/some%20clip.mp4"] = server.routes["/some clip.mp4"]
    (item,) = made.resolve(address + "#t=3")
    assert server.requests == []
    video = made.fetch(item, folder)
    assert list(folder.iterdir()) == [video.paths[0]]
    assert video.paths[0].read_bytes() == clip.read_bytes()
    assert video.fetched and video.audio_path is None and video.title == "some clip"
    assert re.fullmatch(r"web-[0-9a-f]{12}", video.video_id)
    assert video.details["size_bytes"] == seen[-1].received_bytes == seen[-1].total_bytes
    assert video.paths[0].name == f"{video.video_id}.mp4"
    (other,) = made.resolve(address)
    video.paths[0].unlink()
    assert made.fetch(other, folder).video_id == video.video_id


def test_page_with_a_video_element(server: Server, clip: Path, folder: Path) -> None:
    server.add("/clip.mp4", clip)
    page = b"<html><head><title>=A page</title></head><body><video src='clip.mp4'></video></body></html>"
    video = fetch(server.add("/page.html", page), folder)
    assert frames_of(video.paths[0]) == list(range(30))
    assert video.title.startswith("=A page")
    assert video.url == server.url("/page.html")
    assert re.fullmatch(r"web-[0-9a-f]{12}", video.video_id)  # another site may name a page the same


def test_page_without_a_video(server: Server, folder: Path) -> None:
    error = refused(server.add("/page.html", b"<html><title>x</title>" + b" " * 600), folder)
    assert (error.kind, error.retry) == (Kind.UNSUPPORTED, False)


def test_hls(server: Server, hls: Path, folder: Path) -> None:
    server.add_folder(hls)
    video = fetch(server.url("/index.m3u8"), folder)
    assert frames_of(video.paths[0]) == list(range(90))
    assert list(folder.iterdir()) == list(video.paths)


def test_hls_with_a_missing_part_fails(server: Server, hls: Path, folder: Path) -> None:
    server.add_folder(hls)
    assert server.routes.pop("/index1.ts")
    error = refused(server.url("/index.m3u8"), folder)
    assert error.kind in (Kind.NOT_FOUND, Kind.NETWORK)
    assert 1 <= server.count("/index1.ts") <= 5


@pytest.mark.slow
def test_hls_with_a_truncated_part_fails(server: Server, hls: Path, folder: Path) -> None:
    server.add_folder(hls)
    server.add_cut("/index1.ts", (hls / "index1.ts").read_bytes())
    error = refused(server.url("/index.m3u8"), folder)
    assert (error.kind, error.retry) == (Kind.NETWORK, True)


BYTE_RANGES = ("right", "whole", "all", "bare", "more")


def byte_ranges(server: Server, hls: Path, how: str, order: tuple[int, ...] = (0, 1, 2)) -> tuple[str, bytes]:
    """A playlist of parts of one file, in an order; its address, and what the video consists of."""
    parts = [(hls / f"index{number}.ts").read_bytes() for number in range(3)]
    server.add_ranges("/all.ts", b"".join(parts), how)
    starts = [0, len(parts[0]), len(parts[0]) + len(parts[1])]
    lines = ["#EXTM3U", "#EXT-X-VERSION:4", "#EXT-X-TARGETDURATION:2"]
    for number in order:
        lines += ["#EXTINF:1,", f"#EXT-X-BYTERANGE:{len(parts[number])}@{starts[number]}", "all.ts"]
    text = "\n".join([*lines, "#EXT-X-ENDLIST", ""])
    return server.add("/list.m3u8", text.encode()), b"".join(parts[number] for number in order)


@pytest.mark.parametrize(
    ("how", "order"),
    [
        ("right", (0, 1, 2)),
        *(slow(how, (0, 1, 2)) for how in BYTE_RANGES if how != "right"),
        ("whole", (2, 0, 1)),
    ],
)
def test_parts_of_one_file_are_the_parts_asked_for(
    server: Server, hls: Path, folder: Path, how: str, order: tuple[int, ...]
) -> None:
    address, right = byte_ranges(server, hls, how, order)
    video = fetch(address, folder)
    assert video.paths[0].read_bytes() == right
    assert video.details["size_bytes"] == len(right)
    if how == "whole" and order == (0, 1, 2):
        assert len(server.ranges) == 1, "what is sent whole is transferred once"


def test_another_part_than_asked_for_is_no_success(server: Server, hls: Path, folder: Path) -> None:
    error = refused(byte_ranges(server, hls, "later")[0], folder)
    assert (error.kind, error.retry) == (Kind.NETWORK, True)
    assert "the part of the file that was asked for" in str(error)


def test_part_far_behind_the_end_of_an_endless_file(server: Server, folder: Path) -> None:
    server.add_endless("/all.ts", "video/mp2t")
    text = (
        "#EXTM3U\n#EXT-X-VERSION:4\n#EXTINF:1,\n#EXT-X-BYTERANGE:100@900000000000\nall.ts\n#EXT-X-ENDLIST\n"
    )
    error = refused(server.add("/list.m3u8", text.encode()), folder, max_size_mb=3)
    assert error.kind == Kind.TOO_LARGE


@pytest.mark.parametrize("how", ["all", "more"])
def test_broken_transfer_resumes_with_any_server(server: Server, clip: Path, folder: Path, how: str) -> None:
    data = clip.read_bytes()
    server.add_cut("/clip.mp4", data)
    cut = server.routes["/clip.mp4"]
    server.add_ranges("/clip.mp4", data, how)
    goes_on = server.routes["/clip.mp4"]

    def route(handler: Handler) -> None:
        # The first two answers, that of the look at the address included, break off.
        (cut if server.count("/clip.mp4") <= 2 else goes_on)(handler)

    server.routes["/clip.mp4"] = route
    assert fetch(server.url("/clip.mp4"), folder).paths[0].read_bytes() == data


@pytest.mark.parametrize("embedded", [False, True])
def test_hls_without_an_end_is_live(server: Server, hls: Path, folder: Path, embedded: bool) -> None:
    server.add_folder(hls)
    running = (hls / "index.m3u8").read_bytes().replace(b"#EXT-X-ENDLIST", b"")
    source = server.add("/index.m3u8", running)
    if embedded:
        source = server.add("/page.html", b"<html><video src='index.m3u8'></video></html>" + b" " * 600)
    error = refused(source, folder)
    assert (error.kind, error.retry) == (Kind.LIVE, True)
    assert server.count("/index1.ts") == 0


# ------------------------------------------------------------------------------------------- formats


def separate(server: Server, clip: Path) -> dict[str, Any]:
    """Formats as of the large sites: pictures and sound in separate files, several heights and codecs."""
    formats = []
    for height, codec, size in (
        (144, "avc1.42", 20_000),
        (480, "avc1.4d", 80_000),
        (720, "avc1.4d", 210_000),
        (720, "vp9", 150_000),
        (720, "av01.0", 140_000),
        (1080, "vp9", 300_000),
    ):
        name = f"{height}-{codec[:4]}"
        formats.append(
            {
                "format_id": name,
                "url": server.add(f"/{name}.mp4", clip) + "?sig=SECRET-SIGNATURE",
                "ext": "mp4",
                "height": height,
                "width": height * 16 // 9,
                "vcodec": codec,
                "acodec": "none",
                "filesize": size,
                "http_headers": {"X-Token": "SECRET-HEADER"},
                "cookies": "sid=SECRET-COOKIE",
            }
        )
    for name, rate, size in (("audio-low", 32, 4_000), ("audio", 70, 9_000), ("audio-high", 130, 16_000)):
        formats.append(
            {
                "format_id": name,
                "url": server.add(f"/{name}.m4a", clip) + "?sig=SECRET-SIGNATURE",
                "ext": "m4a",
                "vcodec": "none",
                "acodec": "mp4a.40.2",
                "abr": rate,
                "filesize": size,
            }
        )
    return {
        "formats": formats,
        "channel": "=A channel",
        "upload_date": "20261120",
        "timestamp": 1_795_219_200,
        "duration": 1.0,
        "http_headers": {"Cookie": "sid=SECRET-COOKIE"},
    }


@pytest.mark.parametrize("want_audio", [True, False])
def test_smallest_sufficient_format(server: Server, clip: Path, folder: Path, want_audio: bool) -> None:
    site = scripted(abc=separate(server, clip))
    video = fetch("https://scripted.test/abc", folder, site, want_audio=want_audio)
    expected = ["720-av01", "audio"] if want_audio else ["720-av01"]
    assert video.details["formats"] == expected
    assert server.requests == [f"/{name}.{'m4a' if 'audio' in name else 'mp4'}" for name in expected]
    assert (video.audio_path is not None) is want_audio
    files = {video.paths[0], video.audio_path} if want_audio else {video.paths[0]}
    assert set(folder.iterdir()) == files
    assert (video.channel, video.uploaded, video.duration_s) == ("=A channel", "2026-11-20", 1.0)
    assert video.uploaded_at == "2026-11-21T00:00:00+00:00"
    assert video.video_id == "scripted-abc" and video.url == "https://scripted.test/abc"


def test_titles_that_are_no_text_can_be_written(server: Server, folder: Path, clip: Path) -> None:
    """JSON may hold half of an emoji, which no file and no table can."""
    page = {**separate(server, clip), "title": "half \ud83d", "channel": "\udcff other half \ude00"}
    video = fetch("https://scripted.test/abc", folder, scripted(abc=page))
    for text in (video.title, str(video.channel)):
        assert "half" in text and text.encode()


def test_no_secrets_in_the_record(server: Server, clip: Path, folder: Path) -> None:
    video = fetch("https://scripted.test/abc", folder, scripted(abc=separate(server, clip)))
    assert "SECRET" not in json.dumps(video.details)
    assert set(video.details) == {
        *("extractor", "id", "formats", "width", "height", "fps", "size_bytes", "fingerprint", "yt_dlp"),
    }
    video.paths[0].unlink()
    plain = fetch(server.url("/720-vp9.mp4").replace("//", "//user:SECRET-PASSWORD@"), folder)
    assert plain.url == server.url("/720-vp9.mp4")
    assert "SECRET" not in json.dumps(plain.details)


def picture(name: str, height: int | None = None, **more: Any) -> dict[str, Any]:
    return {"format_id": name, "height": height, "acodec": "none", "protocol": "https", **more}


@pytest.mark.parametrize(
    ("formats", "expected"),
    [
        ([picture("low", 360), picture("high", 1080)], "low"),
        ([picture("higher", 2160), picture("high", 1080)], "high"),
        ([picture("upright", 1280, width=720), picture("low", 480, width=270)], "upright"),
        ([picture("big", 720, filesize=9), picture("small", 720, tbr=0.0001)], "small"),
        ([picture("av1", 720, vcodec="av01"), picture("h264", 720, vcodec="avc1")], "h264"),
        ([picture("vp9", 720, vcodec="vp9"), picture("av1", 720, vcodec="av01")], "vp9"),
        ([picture("dubbed", 720, language_preference=-1), picture("own", 480, language_preference=5)], "own"),
        ([picture("damaged", 720, preference=-10), picture("whole", 480)], "whole"),
        ([picture("rtmp", 720, protocol="rtmp"), picture("hls", 480, protocol="m3u8_native")], "hls"),
        ([picture("first"), picture("best")], "best"),
        ([picture("unknown"), picture("known", 240)], "known"),
        ([picture("sound", vcodec="none", acodec="aac"), picture("whole", acodec=None)], "whole"),
        ([picture("60", 720, fps=60), picture("30", 720, fps=30)], "30"),
    ],
)
def test_choice_of_the_video_format(formats: list[dict[str, Any]], expected: str) -> None:
    for order in itertools.permutations(formats) if expected != "best" else [formats]:
        chosen = choose_formats(order, max_height=720, want_audio=False, duration_s=10)
        assert [each["format_id"] for each in chosen] == [expected]


def test_choice_between_one_file_and_two() -> None:
    both = picture("both", 720, acodec="mp4a", filesize=100)
    silent = picture("silent", 720, filesize=70)
    sound = {"format_id": "sound", "vcodec": "none", "acodec": "opus"}

    def names(*formats: dict[str, Any], want_audio: bool = True) -> list[str]:
        chosen = choose_formats(formats, max_height=720, want_audio=want_audio, duration_s=None)
        return [each["format_id"] for each in chosen]

    assert names(both, silent, {**sound, "filesize": 20}) == ["silent", "sound"]
    assert names(both, silent, {**sound, "filesize": 40}) == ["both"]
    assert names(both, silent, {**sound, "filesize": 40}, want_audio=False) == ["silent"]
    assert names(both, silent) == ["both"]
    assert names(silent) == ["silent"]
    assert names(sound) == names() == []


# ----------------------------------------------------------------------------------------- playlists


def many(server: Server, clip: Path) -> Any:
    """A playlist of five: the third is dead, the fourth None."""
    good = {"url": server.add("/clip.mp4", clip), "ext": "mp4"}
    taken: list[int] = []

    def entries() -> Iterator[Any]:
        for number, name in enumerate(["one", "two", "dead", None, "five"], 1):
            taken.append(number)
            yield name and {"_type": "url", "url": f"https://scripted.test/{name}", "title": f"T {name}"}

    site = scripted(
        list=lambda name: {"_type": "playlist", "id": name, "title": "All", "entries": entries()},
        one=good,
        two=good,
        five=good,
        dead=ExtractorError("Video unavailable. This video has been removed by the uploader", expected=True),
    )
    site.taken = taken
    return site


def test_playlist_continues_after_failed_entries(server: Server, clip: Path, folder: Path) -> None:
    site = many(server, clip)
    made = fetcher(site, playlist=True)
    items = list(made.resolve("https://scripted.test/list"))
    assert [item.title for item in items] == ["T one", "T two", "T dead", None, "T five"]
    assert site.asked == ["list"]
    ends = []
    for item in items:
        try:
            ends.append(made.fetch(item, folder).video_id)
        except SourceError as error:
            ends.append(check_message(error).kind)
    dead = Kind.PRIVATE_OR_REMOVED
    assert ends == ["scripted-one", "scripted-two", dead, dead, "scripted-five"]
    assert items[1].source == "https://scripted.test/two"
    assert items[3].error is not None


def test_no_entries_are_requested_beyond_the_limit(server: Server, clip: Path) -> None:
    site = many(server, clip)
    items = fetcher(site, playlist=True, limit=2).resolve("https://scripted.test/list")
    next(items)
    assert site.taken == [1]
    assert len(list(items)) == 1
    assert site.taken == [1, 2]


def test_playlist_without_asking_for_it(server: Server, clip: Path, folder: Path) -> None:
    error = refused("https://scripted.test/list", folder, many(server, clip))
    assert (error.kind, error.retry) == (Kind.PLAYLIST, False)
    assert "--playlist" in str(error) and "--limit" in str(error)


def test_video_of_a_playlist_is_one_video(server: Server, clip: Path, folder: Path) -> None:
    good = {"id": "v", "title": "t", "url": server.add("/clip.mp4", clip), "ext": "mp4"}

    class WatchListIE(scripted()):  # type: ignore[misc]
        _VALID_URL = r"https?://scripted\.test/watch\?v=(?P<id>\w+)&list=(?P<list>\w+)"

        def _real_extract(self, url: str) -> Any:
            if self._yes_playlist("list", "v"):
                return {"_type": "playlist", "id": "list", "entries": [good, good]}
            return good

    address = "https://scripted.test/watch?v=v&list=l"
    assert fetch(address, folder, WatchListIE).title == "t"
    assert len(list(fetcher(WatchListIE, playlist=True).resolve(address))) == 2


def test_playlist_breaks_off(server: Server, clip: Path) -> None:
    def entries() -> Iterator[Any]:
        yield {"_type": "url", "url": "https://scripted.test/one"}
        raise ExtractorError("HTTP Error 503: Service Unavailable", expected=True)

    site = scripted(list=lambda name: {"_type": "playlist", "id": name, "entries": entries()})
    first, second = fetcher(site, playlist=True).resolve("https://scripted.test/list")
    assert first.error is None
    assert second.error is not None and (second.error.kind, second.error.retry) == (Kind.NETWORK, True)


def test_empty_and_dead_playlists() -> None:
    site = scripted(
        none={"_type": "playlist", "entries": []},
        gone=ExtractorError("The playlist does not exist", expected=True),
    )
    for name, kind in (("none", Kind.EMPTY), ("gone", Kind.PRIVATE_OR_REMOVED)):
        with pytest.raises(SourceError) as caught:
            list(fetcher(site, playlist=True).resolve(f"https://scripted.test/{name}"))
        assert caught.value.kind == kind


def test_tabs_of_a_channel_are_walked_in_order() -> None:
    def link(name: str) -> dict[str, Any]:
        return {"_type": "url", "url": f"https://scripted.test/{name}", "ie_key": "Scripted"}

    def tab(name: str) -> dict[str, Any]:
        return {"_type": "url", "url": f"https://lists.test/{name}", "ie_key": "ScriptedList"}

    lists = scripted(
        ScriptedListIE,
        shorts={"_type": "playlist", "entries": [link("c"), link("d")]},
        gone=ExtractorError("This tab does not exist", expected=True),
        endless=lambda name: {"_type": "playlist", "id": name, "entries": [tab("endless")]},
    )
    site = scripted(
        channel={
            "_type": "playlist",
            "entries": [
                {"_type": "playlist", "id": "videos", "entries": iter([link("a"), link("b")])},
                tab("shorts"),
                tab("gone"),
                link("e"),
            ],
        },
        loop={"_type": "playlist", "entries": [tab("endless")]},
    )
    made = fetcher(site, lists, playlist=True)
    items = list(made.resolve("https://scripted.test/channel"))
    assert [item.source[-1] for item in items if item.error is None] == list("abcde")
    assert [item.error.kind for item in items if item.error] == [Kind.PRIVATE_OR_REMOVED]
    assert [item.error is None for item in items] == [True, True, True, True, False, True]
    (loop,) = made.resolve("https://scripted.test/loop")
    assert loop.error is not None


@pytest.mark.slow
def test_tab_that_is_silent_does_not_end_the_rest(server: Server) -> None:
    class SilentListIE(ScriptedListIE):
        def _real_extract(self, url: str) -> Any:
            return self._download_webpage(server.add_silent("/tab"), "tab")

    def link(name: str) -> dict[str, Any]:
        return {"_type": "url", "url": f"https://scripted.test/{name}"}

    silent = {"_type": "url", "url": "https://lists.test/x", "ie_key": "SilentList"}
    site = scripted(channel={"_type": "playlist", "entries": iter([link("a"), silent, link("b")])})
    a, dead, b = fetcher(site, SilentListIE, playlist=True).resolve("https://scripted.test/channel")
    assert (a.source[-1], b.source[-1], a.error, b.error) == ("a", "b", None, None)
    assert dead.error is not None and dead.error.kind == Kind.TIMEOUT
    assert dead.source == dead.error.source == "https://lists.test/x"

    def entries() -> Iterator[Any]:
        yield link("a")
        site.page()
        yield link("b")

    nested = {"_type": "playlist", "id": "nested", "entries": entries()}
    site = scripted(channel={"_type": "playlist", "entries": iter([nested, link("c")])})

    class PagedIE(site):  # type: ignore[misc]
        def _real_initialize(self) -> None:
            site.page = lambda: self._download_webpage(server.add_silent("/page"), "page")

    items = list(fetcher(PagedIE, playlist=True).resolve("https://scripted.test/channel"))
    kinds = [item.error and item.error.kind for item in items]
    # Which clock rings first, the connection's or ours, decides whether what follows is still asked for.
    assert kinds[:2] == [None, Kind.TIMEOUT] and kinds[2:] in ([None], [Kind.TIMEOUT])


def test_several_videos_in_one_page(server: Server, clip: Path, folder: Path) -> None:
    for name in ("a", "b"):
        server.add(f"/{name}.mp4", clip)
    page = server.add("/page.html", b"<video src='a.mp4'></video><p><video src='b.mp4'></video>" + b" " * 600)
    assert refused(page, folder).kind == Kind.PLAYLIST
    made = fetcher(playlist=True)
    videos = [made.fetch(item, folder) for item in made.resolve(page)]
    assert len({video.video_id for video in videos}) == 2
    assert server.count("/a.mp4") == server.count("/b.mp4") == 1


# --------------------------------------------------------------------------------------- identities


@pytest.fixture
def no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever could make a request is out of order."""

    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("a session or a connection was opened")

    monkeypatch.setattr("yt_dlp.YoutubeDL.__init__", never)
    monkeypatch.setattr("socket.socket.connect", never)


@pytest.mark.usefixtures("no_session")
@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://youtu.be/dQw4w9WgXcQ", "youtube-dQw4w9WgXcQ"),
        ("https://www.youtube.com/watch?v=dQw4w9WgXcQ&t=3", "youtube-dQw4w9WgXcQ"),
        ("https://m.youtube.com/watch?v=dQw4w9WgXcQ#t=3", "youtube-dQw4w9WgXcQ"),
        ("https://www.youtube-nocookie.com/embed/dQw4w9WgXcQ", "youtube-dQw4w9WgXcQ"),
        ("https://www.youtube.com/shorts/-Qw4w9WgXcQ", "youtube--Qw4w9WgXcQ"),
        (
            "https://www.youtube.com/watch?v=dQw4w9WgXcQ&list=PLabcdefghijklmnop&index=2",
            "youtube-dQw4w9WgXcQ",
        ),
        ("https://youtu.be/dQw4w9WgXcQ?list=PLabcdefghijklmnop", "youtube-dQw4w9WgXcQ"),
        ("https://vimeo.com/56015672", "vimeo-56015672"),
        ("https://scripted.test/abc?x=1", "scripted-abc"),
    ],
)
def test_addresses_that_name_the_video(address: str, expected: str) -> None:
    made = fetcher(scripted())
    assert made.identify(Item(address, MediaKind.VIDEO)) == expected and not made.names_list(address)


@pytest.mark.usefixtures("no_session")
def test_addresses_that_do_not_name_the_video() -> None:
    made = fetcher(scripted())
    addresses = [
        "https://example.org/a.mp4",
        "https://example.org/b.mp4",
        "https://www.youtube.com/@someone/videos",  # playlists: no video has their id
        "https://www.youtube.com/@someone/shorts",
        "https://www.youtube.com/playlist?list=PLabcdefghijklmnop",
    ]
    ids = [made.identify(Item(address, MediaKind.VIDEO)) for address in addresses]
    assert len(set(ids)) == len(ids) and all(re.fullmatch("web-[0-9a-f]{12}", each) for each in ids)
    assert [made.names_list(address) for address in addresses] == [False, False, True, True, True]
    assert made.identify(Item("https://example.org/a.mp4#t=3", MediaKind.VIDEO)) == ids[0]
    for odd in ("ytsearch:cats", "file:///etc/passwd", "nothing.mp4"):
        with pytest.raises(SourceError):
            made.identify(Item(odd, MediaKind.VIDEO))


def test_identities_of_a_channel_need_no_request(server: Server, clip: Path, folder: Path) -> None:
    good = {"url": server.add("/clip.mp4", clip), "ext": "mp4"}
    named = "https://scripted.test"
    entries: list[Any] = [
        {"_type": "url", "url": f"{named}/one", "ie_key": "Scripted", "id": "one"},
        {"_type": "url", "url": f"{named}/two"},
        {"_type": "url", "url": f"{named}/slug", "ie_key": "Scripted", "id": "3"},
        {
            "_type": "url_transparent",
            "url": f"{named}/four",
            "ie_key": "Scripted",
            "id": "outside",
            "title": "T",
        },
        {"_type": "url", "url": server.url("/clip.mp4?5"), "ie_key": "Generic", "id": "clip"},
        {"_type": "url", "url": server.url("/clip.mp4?6"), "id": "clip"},
        {"id": "seven", "title": "Seven", **good},
        {"_type": "url", "url": f"{named}/eight#__youtubedl_smuggle=%7B%7D", "ie_key": "Scripted"},
    ]
    answers = {"slug": {**good, "id": "3"}, "list": {"_type": "playlist", "id": "l", "entries": entries}}
    site = scripted(one=good, two=good, four=good, **{"eight": good, **answers})
    made = fetcher(site, playlist=True)
    items = list(made.resolve(f"{named}/list"))
    ids = [made.identify(item) for item in items]
    assert server.requests == [] and site.asked == ["list"]
    site.answers["eight#__youtubedl_smuggle=%7B%7D"] = site.answers["eight"]
    assert ids == [made.fetch(item, folder).video_id for item in items]
    assert len(set(ids)) == len(ids)
    assert [item.standalone for item in items] == [True] * 6 + [False] * 2
    alone = [item for item in items if item.standalone]
    again = [Item(item.source, item.kind) for item in alone if item.source != f"{named}/slug"]
    expected = [
        each for each, item in zip(ids, items, strict=True) if item.standalone and each != "scripted-3"
    ]
    assert [made.identify(item) for item in again] == expected
    assert [made.fetch(item, folder).video_id for item in again] == expected


@pytest.mark.slow
def test_ten_thousand_identities() -> None:
    def entry(number: int) -> dict[str, Any]:
        return {
            "_type": "url",
            "url": f"https://youtu.be/{number:011}",
            "ie_key": "Youtube",
            "id": f"{number:011}",
        }

    entries = [entry(number) for number in range(10_000)]
    items = [Item(each["url"], MediaKind.VIDEO, entry=each) for each in entries]
    plain = [Item(f"https://www.youtube.com/watch?v={each['id']}", MediaKind.VIDEO) for each in entries]
    unknown = [Item(f"https://example.org/{number}.mp4", MediaKind.VIDEO) for number in range(1000)]
    made = fetcher()
    made.identify(unknown[0])  # reads yt-dlp's list of extractors
    began = time.process_time()
    assert [made.identify(item) for item in items] == [made.identify(item) for item in plain]
    assert len({made.identify(item) for item in unknown}) == 1000
    assert time.process_time() - began < 10  # 2 s here; 100 s if the list were read each time


def pages(server: Server, count: int) -> Any:
    """An extractor of a list with pages of 30 entries, each of which is a request."""

    class PagesIE(InfoExtractor):  # type: ignore[misc]
        _VALID_URL = r"https?://pages\.test/(?P<id>.+)"

        def _real_extract(self, url: str) -> Any:
            def entries() -> Iterator[Any]:
                for page in range(count):
                    self._download_webpage(server.url(f"/{page}"), None)
                    for number in range(30 * page, 30 * page + 30):
                        yield {"_type": "url", "url": f"https://youtu.be/{number:011}", "ie_key": "Youtube"}

            return self.playlist_result(entries(), "list")

    for page in range(count):
        server.add(f"/{page}", b"a page", "text/html")
    return PagesIE


def test_a_long_list_needs_few_threads(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread for each entry would cost far more than the entry."""
    jobs: list[Any] = []
    whole = ytdlp.WatchedJob
    monkeypatch.setattr(ytdlp, "WatchedJob", lambda *given: jobs.append(given) or whole(*given))
    monkeypatch.setattr(ytdlp, "POLL_S", 60.0)  # anything may take long on a busy machine
    items = list(fetcher(pages(server, 8), playlist=True).resolve("https://pages.test/list"))
    assert [item.source[-3:] for item in items] == [f"{number:03}" for number in range(240)]
    assert server.requests == [f"/{page}" for page in range(8)]
    assert len(jobs) <= 20  # 1, 2, 4, ..., then one for each page


def link(id: str, **said: Any) -> dict[str, Any]:
    return {"_type": "url", "url": f"https://youtu.be/{id}", "ie_key": "Youtube", "id": id, **said}


def test_of_videos_that_are_over_a_list_tells_the_identity_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No item is made of them; what is gone, or is no link with an id, is listed as ever."""
    made_of: list[Any] = []
    whole = resolve._entry_item
    monkeypatch.setattr(
        resolve, "_entry_item", lambda entry, *more: made_of.append(entry) or whole(entry, *more)
    )
    ids = [f"{number:011}" for number in range(100)]
    entries = [link(id, title=f"Title {id}") for id in ids]
    entries[7]["title"] = "[Private video]"
    del entries[8]["id"]
    site = scripted(
        list={"_type": "playlist", "entries": [*entries, {"id": "inside", "url": "https://x.test/a"}]}
    )
    made, over = fetcher(site, playlist=True), {f"youtube-{id}" for id in ids[:90]} | {"scripted-inside"}
    everything = list(made.resolve("https://scripted.test/list"))
    assert len(made_of) == len(everything) == 101
    made_of.clear()
    listed = list(made.identified("https://scripted.test/list", over=over))
    assert [entry.get("id") for entry in made_of] == [
        ids[7],
        None,
        *ids[90:],
        "inside",
    ]
    expected = [made.identify(item) for item in everything]
    told = [known or made.identify(item) for known, item in listed if known or item]  # type: ignore[arg-type]
    assert told == expected
    items = [item for _, item in listed if item is not None]
    assert [each.source for each in items] == [everything[at].source for at in (7, 8, *range(90, 101))]
    assert items[0].error is not None and items[0].error.kind is Kind.PRIVATE_OR_REMOVED
    few = list(fetcher(site, playlist=True, limit=5).identified("https://scripted.test/list", over=over))
    assert [item for _, item in few] == [None] * 5  # they count, and the list is not empty


def test_entries_are_shortened_in_the_thread_that_takes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """On another core, to read all of an entry's data takes about as long as to make it."""
    threads: list[str] = []
    whole = resolve.link_of
    monkeypatch.setattr(
        resolve, "link_of", lambda entry: threads.append(threading.current_thread().name) or whole(entry)
    )
    site = scripted(list={"_type": "playlist", "entries": [link(f"{number:011}") for number in range(50)]})
    assert len(list(fetcher(site, playlist=True).resolve("https://scripted.test/list"))) == 50
    assert threads == ["fetch"] * 50


@pytest.mark.parametrize(("limit", "requests"), [(1, 1), (30, 1), (31, 2), (45, 2), (60, 2)])
def test_a_list_is_not_read_beyond_the_limit(server: Server, limit: int, requests: int) -> None:
    made = fetcher(pages(server, 8), playlist=True, limit=limit)
    assert len(list(made.resolve("https://pages.test/list"))) == limit
    assert len(server.requests) == requests


@pytest.mark.parametrize("wanted", [1, 2, 7, 29, 40, 100])
def test_who_stops_early_has_asked_for_one_page_too_many_at_most(server: Server, wanted: int) -> None:
    made = fetcher(pages(server, 8), playlist=True)
    items = made.resolve("https://pages.test/list")
    assert len(list(itertools.islice(items, wanted))) == wanted
    items.close()  # type: ignore[attr-defined]
    needed = 1 + (wanted - 1) // 30
    assert needed <= len(server.requests) <= needed + (wanted > 7)


@pytest.mark.parametrize("good", [0, 1, 5, 100])
def test_entries_before_a_failure_are_listed(good: int) -> None:
    def entries() -> Iterator[Any]:
        for number in range(good):
            yield {"_type": "url", "url": f"https://scripted.test/{number}", "ie_key": "Scripted"}
        raise ExtractorError("broken")

    site = scripted(list=lambda name: {"_type": "playlist", "id": name, "entries": entries()})
    *items, last = fetcher(site, playlist=True).resolve("https://scripted.test/list")
    assert [item.source for item in items] == [f"https://scripted.test/{number}" for number in range(good)]
    assert not any(item.error for item in items)
    assert last.list_broke and last.source == f"https://scripted.test/list#{good + 1}"


def test_a_listed_video_has_the_identity_of_its_address() -> None:
    """What a channel lists, with all that it says, and what somebody pastes."""
    ids = ["dQw4w9WgXcQ", "-_-_-_-_-_-", "a-----b____"]
    entries = [
        {
            **{"_type": "url", "ie_key": "Youtube", "id": id, "title": f"Title {id}", "duration": 60.0},
            **{"url": f"https://www.youtube.com/{path}{id}", "upload_date": "20240229", "thumbnails": [{}]},
        }
        for id, path in itertools.product(ids, ("watch?v=", "shorts/"))
    ]
    site = scripted(list={"_type": "playlist", "entries": entries})
    made = fetcher(site, playlist=True)
    items = list(made.resolve("https://scripted.test/list"))
    expected = [f"youtube-{entry['id']}" for entry in entries]
    assert [made.identify(item) for item in items] == expected
    assert [made.identify(Item(item.source, item.kind)) for item in items] == expected
    assert [made.identify(Item(f"https://youtu.be/{id}?t=3", MediaKind.VIDEO)) for id in ids] == expected[::2]


def test_entries_without_anything_have_an_identity() -> None:
    def entries() -> Iterator[Any]:
        yield None
        yield {
            "_type": "url",
            "url": "https://scripted.test/x",
            "ie_key": "Scripted",
            "title": "[Private video]",
        }
        yield None
        raise ExtractorError("broken")

    site = scripted(list=lambda name: {"_type": "playlist", "id": name, "entries": entries()})
    made = fetcher(site, playlist=True)
    first, second = ([*made.resolve("https://scripted.test/list")] for _ in range(2))
    ids = [made.identify(item) for item in first]
    assert ids == [made.identify(item) for item in second]
    assert len(set(ids)) == 4 and ids[1] == "scripted-x"
    assert [item.standalone for item in first] == [False, True, False, False]
    assert [item.list_broke for item in first] == [False, False, False, True]
    assert all(item.error is not None for item in first)


def test_data_that_a_playlist_states_on_its_entries() -> None:
    said: list[dict[str, Any]] = [
        {"duration": 12, "upload_date": "20240229"},
        {"duration": 1.5, "timestamp": 1_700_000_000},
        {"duration": "12", "upload_date": "20230229", "timestamp": "soon", "title": ["x"]},
        {"duration": float("nan"), "upload_date": 5, "timestamp": True},
        {"duration": -1, "timestamp": 1e30},
        {},
    ]
    links = [{"_type": "url", "url": f"https://scripted.test/{n}", **each} for n, each in enumerate(said)]
    site = scripted(
        list={"_type": "playlist", "entries": links}, one={"duration": 3, "url": "https://x.test/"}
    )
    items = list(fetcher(site, playlist=True).resolve("https://scripted.test/list"))
    facts = [(12.0, "2024-02-29"), (1.5, "2023-11-14"), *[(None, None)] * 4]
    assert [(item.duration_s, item.uploaded) for item in items] == facts
    assert items[2].title is None
    (one,) = fetcher(site, playlist=True).resolve("https://scripted.test/one")
    assert (one.duration_s, one.uploaded, one.title) == (3.0, None, "Title one")


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("https://WWW.Example.ORG:8443/a", "example.org"),
        ("https://m.youtube.com/watch?v=x", "youtube.com"),
        ("http://youtu.be/x", "youtube.com"),
        ("https://www.youtube-nocookie.com/embed/x", "youtube.com"),
        ("https://user:secret@example.org./", "example.org"),
        ("https://m.com/a", "m.com"),
        ("https://m3.example.org/a", "m3.example.org"),
        ("http://127.0.0.1:81/a", "127.0.0.1:81"),
        ("http://localhost:81/a", "localhost:81"),
        ("http://[::1]:81/a", "[::1]:81"),
        ("http://127.0.0.1/a", "127.0.0.1"),
        ("http://[::1", None),
        ("C:\\talk.mp4", None),
        ("/videos/talk.mp4", None),
        ("talk.mp4", None),
        ("ftp://example.org/a", None),
        ("", None),
    ],
)
def test_host_that_rate_limits_apply_to(address: str, host: str | None) -> None:
    assert host_of(address) == host


# ------------------------------------------------------------------------------------------ callbacks


class HaltError(Exception):
    """Not an error of the package's: it must come through as it is."""


def test_accept_sees_the_facts_before_anything_is_downloaded(
    server: Server, clip: Path, folder: Path
) -> None:
    seen: list[Candidate] = []

    def accept(candidate: Candidate) -> None:
        assert server.requests == [] and threading.current_thread() is threading.main_thread()
        seen.append(candidate)

    made = fetcher(scripted(abc=separate(server, clip)))
    item = Item("https://scripted.test/abc", MediaKind.VIDEO)
    video = made.fetch(item, folder, accept=accept)
    (candidate,) = seen
    assert candidate == Candidate("scripted-abc", "Title abc", 1.0, "2026-11-20", "=A channel", 149_000)
    assert (video.video_id, video.title, video.duration_s) == ("scripted-abc", "Title abc", 1.0)
    local = made.fetch(Item(str(clip), MediaKind.VIDEO, (clip,)), folder, accept=seen.append)
    assert seen[1] == Candidate(local.video_id, "clip", None, None, None, clip.stat().st_size)


@pytest.mark.parametrize(
    ("facts", "size"),
    [
        ({"filesize": 1000}, 1000),
        ({"filesize_approx": 900.4}, 900),
        ({"tbr": 80}, 20_000),
        ({}, None),
    ],
)
def test_size_of_a_candidate(facts: dict[str, Any], size: int | None, folder: Path) -> None:
    seen: list[Candidate] = []

    def refuse(candidate: Candidate) -> None:
        seen.append(candidate)
        raise HaltError

    site = scripted(
        abc={"formats": [{"url": "http://127.0.0.1:1/a.mp4", "ext": "mp4", **facts}], "duration": 2}
    )
    with pytest.raises(HaltError):
        fetcher(site).fetch(Item("https://scripted.test/abc", MediaKind.VIDEO), folder, accept=refuse)
    assert (seen[0].size_bytes, seen[0].duration_s) == (size, 2.0)


@pytest.mark.parametrize("how", ["local", "direct", "site"])
def test_a_refused_video_is_not_downloaded(how: str, server: Server, clip: Path, folder: Path) -> None:
    refusal = SourceError("Too short", kind=Kind.REJECTED, source="x")

    def refuse(candidate: Candidate) -> None:
        raise refusal

    site = scripted(abc=separate(server, clip))
    direct = server.add("/clip.mp4", clip)
    source = {"local": str(clip), "direct": direct, "site": "https://scripted.test/abc"}[how]
    with pytest.raises(SourceError) as caught:
        fetcher(site).fetch(Item(source, MediaKind.VIDEO), folder, accept=refuse)
    assert caught.value is refusal
    assert list(folder.iterdir()) == []
    assert server.requests == (["/clip.mp4"] if how == "direct" else [])  # yt-dlp looks what it is
    ended_soon()


@pytest.mark.parametrize(
    ("phase", "stop"),
    [
        ("extraction", StoppedError("enough")),
        slow("extraction", KeyboardInterrupt()),
        ("download", HaltError()),
        slow("download", KeyboardInterrupt()),
        slow("listing", HaltError()),
        slow("entries", StoppedError("enough")),
        ("tab", KeyboardInterrupt()),
    ],
)
def test_on_wait_may_end_everything(phase: str, stop: BaseException, server: Server, folder: Path) -> None:
    server.add_dribble("/clip.mp4")
    server.add_silent("/page")
    threads: set[threading.Thread] = set()
    calls: list[float] = []

    def on_wait() -> None:
        threads.add(threading.current_thread())
        calls.append(time.monotonic())
        if calls[-1] - calls[0] > 0.5:
            raise stop

    class SilentIE(ScriptedListIE):
        def _real_extract(self, url: str) -> Any:
            pages = (self._download_webpage(server.url("/page"), "page") for _ in range(2))
            return self.playlist_result(pages, "id") if url.endswith("entries") else next(pages)

    tab = {"_type": "url", "url": "https://lists.test/x", "ie_key": "Silent"}
    site = scripted(
        abc={"url": server.url("/clip.mp4"), "ext": "mp4"}, tabs={"_type": "playlist", "entries": [tab, tab]}
    )
    made = fetcher(site, SilentIE, playlist=True, timeout_s=30)
    with pytest.raises(type(stop)) as caught:
        if phase in ("listing", "entries", "tab"):
            source = "https://scripted.test/tabs" if phase == "tab" else f"https://lists.test/{phase}"
            list(made.resolve(source, on_wait=on_wait))
        else:
            source = "https://lists.test/x" if phase == "extraction" else "https://scripted.test/abc"
            made.fetch(Item(source, MediaKind.VIDEO), folder, on_wait=on_wait)
    assert caught.value is stop
    assert time.monotonic() - calls[-1] < 5
    assert threads == {threading.main_thread()}
    assert 4 <= len(calls) <= 30
    assert list(folder.iterdir()) == []
    server.stopping.set()
    ended_soon()
    assert len(server.requests) == 1


# ------------------------------------------------------------------------------------ broken servers


def http_date(in_s: float) -> str:
    return email.utils.formatdate(time.time() + in_s, usegmt=True)


@pytest.mark.parametrize(
    ("status", "value", "low", "high"),
    [
        (429, lambda: "120", 120, 120),
        slow(429, lambda: http_date(3600), 3500, 3601),
        slow(429, lambda: http_date(-3600), 0, 0),
        slow(429, lambda: "-5", 0, 0),
        slow(429, lambda: "99999999999", 604_800, 604_800),
        slow(429, lambda: http_date(30 * 86_400), 604_800, 604_800),
        (503, lambda: "7", 7, 7),
        slow(503, lambda: "0", 0, 0),
    ],
)
@pytest.mark.parametrize("phase", ["direct", "page", "media", "part"])
def test_retry_after_is_obeyed(
    server: Server,
    folder: Path,
    *,
    phase: str,
    status: int,
    value: Callable[[], str],
    low: float,
    high: float,
) -> None:
    class PageIE(scripted()):  # type: ignore[misc]
        def _real_extract(self, url: str) -> Any:
            for _ in range(3):  # some extractors try again, and some keep every error to themselves
                with contextlib.suppress(Exception):
                    self._download_webpage(server.url("/x.mp4"), "page")
            return {"id": "abc", "title": "T", "url": server.url("/x.mp4"), "ext": "mp4"}

    address = server.add_retry_after("/x.mp4", status, value())
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nx.mp4\n#EXTINF:1,\ny.mp4\n#EXT-X-ENDLIST"
    server.add("/index.m3u8", playlist.encode())
    site: Any = PageIE if phase == "page" else scripted(abc={"url": address, "ext": "mp4"})
    named = {"direct": address, "part": server.url("/index.m3u8")}
    error = refused(named.get(phase, "https://scripted.test/abc"), folder, site)
    assert (error.kind, error.retry) == (Kind.BOT_CHECK if status == 429 else Kind.NETWORK, True)
    assert error.retry_after_s is not None and low <= error.retry_after_s <= high
    assert [each for each in server.requests if each != "/index.m3u8"] == ["/x.mp4"]


@pytest.mark.slow
def test_server_that_does_not_say_for_how_long(server: Server, folder: Path) -> None:
    for value in ("soon", "", "1e9"):
        error = refused(server.add_retry_after("/a.mp4", 429, value), folder)
        assert (error.kind, error.retry_after_s) == (Kind.BOT_CHECK, None)
    assert server.count("/a.mp4") == 3
    for address in (server.add_retry_after("/b.mp4", 503, "soon"), server.add_status("/c.mp4", 503)):
        error = refused("https://scripted.test/abc", folder, scripted(abc={"url": address, "ext": "mp4"}))
        assert (error.kind, error.retry_after_s) == (Kind.NETWORK, None)
    assert min(server.count("/b.mp4"), server.count("/c.mp4")) > 1  # then trying again at once is as before


@pytest.mark.parametrize("swallowed", [False, True])
@pytest.mark.parametrize("deep", [False, True])
def test_listing_ends_at_a_rate_limit(server: Server, deep: bool, swallowed: bool) -> None:
    server.add_retry_after("/page", 429, "60")

    def link(name: str) -> dict[str, Any]:
        return {"_type": "url", "url": f"https://scripted.test/{name}"}

    class PagesIE(ScriptedListIE):
        _VALID_URL = r"https?://pages\.test/(?P<id>.+)"

        def _real_extract(self, url: str) -> Any:
            return self.playlist_result(self.entries(), "list")

        def entries(self) -> Iterator[Any]:
            yield link("a")
            try:
                self._download_webpage(server.url("/page"), "page")
            except Exception:
                if not swallowed:
                    raise
                return
            yield link("b")

    tab = {"_type": "url", "url": "https://pages.test/x", "ie_key": "Pages"}
    site = scripted(channel={"_type": "playlist", "entries": [tab, tab, link("c")]})
    made = fetcher(site, PagesIE, playlist=True)
    items = list(made.resolve("https://scripted.test/channel" if deep else "https://pages.test/x"))
    assert [(item.source[-1], item.list_broke, item.standalone) for item in items] == [
        ("a", False, True),
        ("2", True, False),
    ]
    error = items[1].error
    assert error is not None and (error.kind, error.retry_after_s) == (Kind.BOT_CHECK, 60)
    assert server.requests == ["/page"]


@pytest.mark.parametrize("retry", [False, True])
def test_tab_that_cannot_be_opened(retry: bool) -> None:
    trouble = ExtractorError("HTTP Error 503" if retry else "This tab does not exist", expected=True)
    tab = {"_type": "url", "url": "https://lists.test/gone", "ie_key": "ScriptedList"}
    site = scripted(channel={"_type": "playlist", "entries": [tab]})
    made = fetcher(site, scripted(ScriptedListIE, gone=trouble), playlist=True)
    (item,) = made.resolve("https://scripted.test/channel")
    assert item.error is not None and item.error.retry is retry
    assert (item.list_broke, item.standalone) == (retry, False)
    assert re.fullmatch("web-[0-9a-f]{12}", made.identify(item))


def test_rate_limit_on_the_first_page_of_a_list(server: Server) -> None:
    with pytest.raises(SourceError) as caught:
        list(fetcher(playlist=True).resolve(server.add_retry_after("/list.html", 429, "60")))
    assert (caught.value.kind, caught.value.retry_after_s) == (Kind.BOT_CHECK, 60)
    assert server.requests == ["/list.html"]


@pytest.mark.parametrize(
    ("status", "kind", "retry"),
    [
        slow(401, Kind.EXPIRED_OR_FORBIDDEN, False),
        (403, Kind.EXPIRED_OR_FORBIDDEN, False),
        (404, Kind.NOT_FOUND, False),
        slow(410, Kind.NOT_FOUND, False),
        slow(418, Kind.OTHER, False),
        (429, Kind.BOT_CHECK, True),
        slow(451, Kind.GEO_BLOCKED, False),
        (503, Kind.NETWORK, True),
    ],
)
def test_http_status(server: Server, folder: Path, status: int, kind: Kind, retry: bool) -> None:
    error = refused(server.add_status("/clip.mp4", status), folder)
    assert (error.kind, error.retry) == (kind, retry)
    media = {"url": server.url("/clip.mp4"), "ext": "mp4"}
    error = refused("https://scripted.test/abc", folder, scripted(abc=media))
    assert (error.kind, error.retry) == (kind, retry)


@pytest.mark.parametrize("fresh_works", [True, False])
def test_forbidden_media_are_asked_for_once_more(
    server: Server, clip: Path, folder: Path, fresh_works: bool
) -> None:
    data = clip.read_bytes()
    passed: list[str] = []

    def route(handler: Any) -> None:  # the first is cut, every later one with that address forbidden
        passed.append(handler.path)
        if handler.path == "/clip.mp4?fresh=2" and fresh_works:
            handler.head(len(data))
            handler.wfile.write(data)
        elif len(passed) == 1:
            handler.head(len(data))
            handler.wfile.write(data[: len(data) // 2])
        else:
            handler.send_error(403)

    server.routes["/clip.mp4"] = route
    site = scripted()
    site.answers["abc"] = lambda name: {
        "id": name,
        "title": name,
        "url": server.url(f"/clip.mp4?fresh={len(site.asked)}"),
        "ext": "mp4",
    }
    if fresh_works:
        assert fetch("https://scripted.test/abc", folder, site).paths[0].read_bytes() == data
    else:
        error = refused("https://scripted.test/abc", folder, site)
        assert (error.kind, error.retry) == (Kind.EXPIRED_OR_FORBIDDEN, False)
    assert site.asked == ["abc", "abc"]
    assert passed == ["/clip.mp4?fresh=1", "/clip.mp4?fresh=1", "/clip.mp4?fresh=2"]


def test_hls_part_that_is_forbidden(server: Server, hls: Path, folder: Path) -> None:
    server.add_folder(hls)
    server.add_status("/index1.ts", 403)
    media = {"formats": [{"url": server.url("/index.m3u8"), "ext": "mp4", "protocol": "m3u8_native"}]}
    site = scripted(abc=media)
    assert refused("https://scripted.test/abc", folder, site).kind == Kind.EXPIRED_OR_FORBIDDEN
    assert site.asked == ["abc", "abc"]


def test_transfer_that_always_breaks_off(server: Server, folder: Path) -> None:
    error = refused(server.add_cut("/clip.mp4", b"\0" * 400_000), folder)
    assert (error.kind, error.retry) == (Kind.NETWORK, True)
    assert 3 <= server.count("/clip.mp4") <= 6


def test_transfer_that_breaks_off_once(server: Server, clip: Path, folder: Path) -> None:
    data = clip.read_bytes()
    server.add("/clip.mp4", clip)
    whole = server.routes["/clip.mp4"]
    server.add_cut("/clip.mp4", data)
    cut = server.routes["/clip.mp4"]

    def route(handler: Any) -> None:  # the second request is the first of the download
        (cut if server.count("/clip.mp4") < 3 else whole)(handler)

    server.routes["/clip.mp4"] = route
    assert fetch(server.url("/clip.mp4"), folder).paths[0].read_bytes() == data


def test_nothing_is_sent(server: Server, folder: Path) -> None:
    error = refused(server.add("/clip.mp4", b""), folder)
    assert (error.kind, error.retry) == (Kind.NETWORK, True)


def test_endless_body_is_stopped_at_the_cap(server: Server, folder: Path) -> None:
    sizes: list[int] = []
    made = Fetcher(
        Settings(timeout_s=TIMEOUT_S, max_size_mb=3),
        want_audio=True,
        on_progress=lambda progress: sizes.append(progress.received_bytes),
    )
    source = server.add_endless("/clip.mp4")
    with pytest.raises(SourceError) as caught:
        made.fetch(Item(source, MediaKind.VIDEO), folder)
    assert check_message(caught.value).kind == Kind.TOO_LARGE
    assert max(sizes, default=0) <= 3_100_000
    assert list(folder.iterdir()) == []


def test_endless_page_is_stopped(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analyzer.sources.ytdlp._MAX_PAGE_BYTES", 1_000_000)
    error = refused(server.add_endless("/page.html", "text/html", b"<html>"), folder)
    assert error.kind == Kind.TOO_LARGE


def test_declared_size_is_too_large(server: Server, folder: Path) -> None:
    def route(handler: Any) -> None:  # if it were waited for, it would be a timeout
        handler.head(1_500_000)
        handler.wfile.write(b"\0" * 100_000)
        server.stopping.wait()

    server.routes["/clip.mp4"] = route
    error = refused(server.url("/clip.mp4"), folder, max_size_mb=1)
    assert (error.kind, error.retry) == (Kind.TOO_LARGE, False)
    media = {"formats": [{"url": server.url("/other.mp4"), "ext": "mp4", "filesize": 1_500_000}]}
    error = refused("https://scripted.test/abc", folder, scripted(abc=media), max_size_mb=1)
    assert error.kind == Kind.TOO_LARGE
    assert server.count("/other.mp4") == 0


@pytest.mark.parametrize("written", [None, b"", b"half"])
def test_success_must_be_proven(
    written: bytes | None, server: Server, clip: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lie(self: Any, filename: str, info: Any) -> bool:
        if written is not None:
            Path(filename).write_bytes(written)
        self._hook_progress({"status": "finished", "filename": filename, "downloaded_bytes": 8}, info)
        return True

    monkeypatch.setattr("yt_dlp.downloader.http.HttpFD.real_download", lie)
    error = refused(server.add("/clip.mp4", clip), folder)
    assert (error.kind, error.retry) == (Kind.NETWORK, True)


@pytest.mark.parametrize(
    "phase",
    ["silent", "dribbling page", *map(slow, ["dribbling", "silent page", "dribbling head", "dribbling hls"])],
)
def test_deadline(server: Server, hls: Path, folder: Path, phase: str) -> None:
    site = scripted(abc={"url": server.url("/clip.mp4"), "ext": "mp4"})
    source = server.url("/page.html") if "page" in phase else "https://scripted.test/abc"
    if phase == "dribbling":
        server.add_dribble("/clip.mp4", first=b"\0" * 100_000)
    elif phase == "silent":
        server.add_silent("/clip.mp4")
    elif phase == "dribbling head":
        server.add_dribbling_head("/clip.mp4")
    elif phase == "silent page":
        server.add_silent("/page.html")
    elif phase == "dribbling page":
        server.add_dribble("/page.html", "text/html", b"<html>" + b" " * 600)
    else:
        server.add_folder(hls)
        server.add_dribble("/index1.ts")
        source = server.url("/index.m3u8")
    began = time.monotonic()
    error = refused(source, folder, site)
    assert (error.kind, error.retry) == (Kind.TIMEOUT, True)
    assert TIMEOUT_S * 0.9 < time.monotonic() - began < 2 * TIMEOUT_S + 15
    if phase not in ("dribbling", "silent"):  # that must be ended by force, this ends at the next request
        server.stopping.set()
    ended_soon()
    assert server.count("/clip.mp4") <= 1


@pytest.mark.slow
def test_many_tiny_parts_are_a_dribble_too(server: Server, folder: Path) -> None:
    names = [f"part{number}.ts" for number in range(40)]
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:1", *(f"#EXTINF:1,\n{name}" for name in names)]
    source = server.add("/index.m3u8", "\n".join([*lines, "#EXT-X-ENDLIST"]).encode())
    for name in names:
        server.add_slow(f"/{name}", b"\0" * 188, 100, 0.1)
    began = time.monotonic()
    assert refused(source, folder).kind == Kind.TIMEOUT
    assert time.monotonic() - began < 2 * TIMEOUT_S + 15


def ended_soon() -> None:
    """No worker goes on behind our back."""
    until = time.monotonic() + 2 * TIMEOUT_S + 15
    while any(thread.name == "fetch" for thread in threading.enumerate()):
        assert time.monotonic() < until, "a worker is still alive"
        time.sleep(0.02)


def test_slow_is_not_silent(server: Server, folder: Path) -> None:
    """Fast, then slow; longer than the deadline altogether, and never silent for as long."""
    body = os.urandom(4_400_000)
    source = server.add_slow("/clip.mp4", body, 60_000, 0.4, at_once=4_000_000)
    began = time.monotonic()
    assert fetch(source, folder).paths[0].read_bytes() == body
    assert time.monotonic() - began > TIMEOUT_S


@pytest.mark.slow
def test_site_that_delays_downloads(server: Server, clip: Path, folder: Path) -> None:
    media = {"formats": [{"url": server.add("/clip.mp4", clip), "ext": "mp4"}]}

    def answer(name: str) -> Any:
        media["formats"][0]["available_at"] = int(time.time()) + 3
        return {"id": name, "title": name, **media}

    assert fetch("https://scripted.test/abc", folder, scripted(abc=answer)).fetched


@pytest.mark.parametrize("source", ["http://no-such-host.invalid/clip.mp4", "http://127.0.0.1:1/clip.mp4"])
def test_unreachable(source: str, folder: Path) -> None:
    error = refused(source, folder)
    assert (error.kind, error.retry) == (Kind.NETWORK, True)
    assert "could not be reached" in str(error)


def test_interrupt_takes_effect_at_once(server: Server, folder: Path) -> None:
    source = server.add_dribble("/clip.mp4")
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    began = time.monotonic()
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        fetch(source, folder, timeout_s=30)
    assert time.monotonic() - began < 20
    assert list(folder.iterdir()) == []
    timer.join()
    server.stopping.set()
    ended_soon()


def test_disk_trouble_is_no_source_error(server: Server, clip: Path, tmp_path: Path) -> None:
    source = server.add("/clip.mp4", clip)
    with pytest.raises(OutputError):
        fetch(source, tmp_path / "missing")


@pytest.mark.parametrize("number", [errno.ENOSPC, *map(slow, [errno.EDQUOT, errno.EACCES])])
@pytest.mark.parametrize("where", ["tempfile.mkdtemp", "pathlib.Path.replace", "stream", "sanitize_open"])
def test_full_disk(
    server: Server, clip: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, *, where: str, number: int
) -> None:
    source = server.add("/clip.mp4", clip)

    def fail(*args: object, **kwargs: object) -> Any:
        raise OSError(number, os.strerror(number))

    class Stream:
        close = staticmethod(lambda: None)
        write = staticmethod(fail)

    if where == "stream":
        monkeypatch.setattr(
            "yt_dlp.downloader.http.HttpFD.sanitize_open", lambda self, name, mode: (Stream(), name)
        )
    elif where == "sanitize_open":
        monkeypatch.setattr("yt_dlp.downloader.http.HttpFD.sanitize_open", fail)
    else:
        monkeypatch.setattr(where, fail)
    with pytest.raises(OutputError) as caught:
        fetch(source, folder)
    assert caught.value.no_space is (number != errno.EACCES)
    assert list(folder.iterdir()) == []


# ---------------------------------------------------------------------------------------- refusals

COOKIES = "Use --cookies-from-browser or --cookies for the authentication. See https://example.org/wiki"
BEGIN = ExtractorError("This live event will begin in 3 hours.", expected=True)
FORMAT = {"url": "http://127.0.0.1:1/x.mp4", "ext": "mp4"}


@pytest.mark.parametrize(
    ("answer", "kind", "retry"),
    [
        ({**FORMAT, "is_live": True}, Kind.LIVE, True),
        ({**FORMAT, "live_status": "is_live"}, Kind.LIVE, True),
        ({"formats": [], "live_status": "is_upcoming"}, Kind.LIVE, True),
        ({**FORMAT, "live_status": "post_live"}, Kind.LIVE, True),
        (BEGIN, Kind.LIVE, True),
        (ExtractorError("Premieres in 20 minutes", expected=True), Kind.LIVE, True),
        (UserNotLive(), Kind.LIVE, True),
        (
            ExtractorError(f"Private video. Sign in if you've been granted access. {COOKIES}", expected=True),
            Kind.PRIVATE_OR_REMOVED,
            False,
        ),
        (
            ExtractorError(
                "This video is no longer available because the account has been terminated.", expected=True
            ),
            Kind.PRIVATE_OR_REMOVED,
            False,
        ),
        (ExtractorError("Video unavailable", expected=True), Kind.PRIVATE_OR_REMOVED, False),
        (
            ExtractorError(f"This video is only available for registered users. {COOKIES}", expected=True),
            Kind.LOGIN_OR_AGE,
            False,
        ),
        (
            ExtractorError("Join this channel to get access to members-only content", expected=True),
            Kind.LOGIN_OR_AGE,
            False,
        ),
        (ExtractorError(f"Sign in to confirm your age. {COOKIES}", expected=True), Kind.LOGIN_OR_AGE, False),
        (GeoRestrictedError("Not here", countries=["CH"]), Kind.GEO_BLOCKED, False),
        (
            ExtractorError(
                "Video unavailable. The uploader has not made this video available in your country",
                expected=True,
            ),
            Kind.GEO_BLOCKED,
            False,
        ),
        (
            ExtractorError(f"Sign in to confirm you’re not a bot. {COOKIES}", expected=True),
            Kind.BOT_CHECK,
            True,
        ),
        (ExtractorError("This video is DRM protected", expected=True), Kind.DRM, False),
        ({"formats": [{**FORMAT, "has_drm": True}]}, Kind.DRM, False),
        ({"formats": []}, Kind.NO_FORMAT, False),
        ({"formats": [{**FORMAT, "protocol": "rtmp"}]}, Kind.NO_FORMAT, False),
        ({"formats": [{**FORMAT, "vcodec": "none"}]}, Kind.NO_FORMAT, False),
        (ExtractorError("Unsupported URL: https://x", expected=True), Kind.UNSUPPORTED, False),
        ({"_type": "url", "url": "https://scripted.test/again", "ie_key": "NoSuch"}, Kind.UNSUPPORTED, False),
        (lambda name: {"_type": "url", "url": f"https://scripted.test/{name}"}, Kind.OTHER, False),
        (ExtractorError("\x1b[31mUnable to extract\nthe thing"), Kind.OTHER, False),
        (lambda name: 1 / 0, Kind.OTHER, False),
        (lambda name: None, Kind.OTHER, False),
        ({"_type": "playlist", "entries": []}, Kind.EMPTY, False),
        ({"url": "file:///etc/passwd", "ext": "mp4"}, Kind.NO_FORMAT, False),
    ],
)
def test_refusals(answer: Any, kind: Kind, retry: bool, folder: Path) -> None:
    error = refused("https://scripted.test/abc", folder, scripted(abc=answer))
    assert (error.kind, error.retry) == (kind, retry), str(error)
    assert error.source == "https://scripted.test/abc"


def test_every_kind_has_its_own_sentence() -> None:
    from analyzer.sources.failures import _MEANINGS

    assert set(_MEANINGS) == set(SourceErrorKind)
    assert len({what for what, _ in _MEANINGS.values()}) == len(SourceErrorKind)


@pytest.mark.parametrize("name", ["-dQw4w9WgXcQ", "_x-Y", "a/b", "ä", "x" * 300, "A", "a"])
def test_ids_are_safe_in_file_names(name: str, server: Server, clip: Path, folder: Path) -> None:
    media = {"id": name, "url": server.add("/clip.mp4", clip), "ext": "exe"}
    video = fetch("https://scripted.test/abc", folder, scripted(abc=media))
    assert re.fullmatch(r"scripted-[A-Za-z0-9_-]{1,64}", video.video_id)
    if re.fullmatch(r"[A-Za-z0-9_-]{1,20}", name):
        assert video.video_id == f"scripted-{name}"
    assert video.paths[0].name == f"{video.video_id}.video"
    assert video.details["id"] == name


def test_one_image(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"picture")
    before = fetch(str(path), tmp_path)
    assert (before.kind, before.paths) == (MediaKind.IMAGES, (path,))
    renamed = path.rename(tmp_path / "b.png")
    assert fetch(str(renamed), tmp_path).video_id == before.video_id


def test_an_address_from_a_form_reaches_neither_files_nor_cameras(clip: Path) -> None:
    fetcher = Fetcher(Settings(), want_audio=False, live=True)
    assert [item.kind for item in fetcher.resolve("0")] == [MediaKind.LIVE]
    assert [item.paths for item in fetcher.resolve(str(clip))] == [(clip,)]
    for text in ("0", "rtsp://camera.test/1", str(clip), f"file://{clip}"):
        with pytest.raises(SourceError):
            list(fetcher.resolve(UrlSource(text)))
    assert [item.kind for item in fetcher.resolve(UrlSource("https://example.org/a"))] == [MediaKind.VIDEO]


def test_a_path_is_not_taken_for_an_address() -> None:
    fetcher = Fetcher(Settings(), want_audio=False, live=True)
    with pytest.raises(SourceError, match="there is no file"):
        list(fetcher.resolve(FileSource("https://example.org/a")))
