"""What a user may name, and every way in which fetching it can go wrong."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest
from yt_dlp.utils import ExtractorError, GeoRestrictedError, UserNotLive

from analyzer.errors import OutputError, SourceError, SourceErrorKind
from analyzer.settings import Settings
from analyzer.source import Fetcher, FetchProgress, Item, MediaKind, Video, choose_formats
from tests.media import number_of, numbered, write_video
from tests.servers import ScriptedListIE, Server, scripted, serve

Kind = SourceErrorKind
TIMEOUT_S = 1.5


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


@pytest.fixture(scope="session")
def hls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``index.m3u8`` of three seconds in three parts."""
    folder = tmp_path_factory.mktemp("hls")
    write_video(
        folder / "index.m3u8",
        numbered(90),
        options={"g": "30", "sc_threshold": "0", "bf": "0"},
        format="hls",
        container_options={"hls_time": "1", "hls_list_size": "0"},
    )
    return folder


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
    assert re.fullmatch(r"[A-Z][^\n\r\x1b]+ \(yt-dlp \d{4}\.\d\d\.\d\d[\d.]*\)", message), message
    assert len(message) < 400
    for rubbish in ("ERROR", "report this", "caused by", "Traceback", "--cookies", "http://"):
        assert rubbish not in message
    return error


def frames_of(path: Path) -> list[int]:
    with av.open(str(path)) as container:
        return [number_of(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


# ------------------------------------------------------------------------------------------ imports


def test_importing_costs_no_yt_dlp() -> None:
    code = "import sys, analyzer.source; print([m for m in sys.modules if m.startswith(('yt_dlp', 'av.'))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_plugins_are_not_loaded(tmp_path: Path) -> None:
    plugin = tmp_path / "yt_dlp_plugins" / "extractor" / "evil.py"
    plugin.parent.mkdir(parents=True)
    plugin.write_text("raise SystemExit('plugin loaded')\n")
    code = (
        "from analyzer.settings import Settings; from analyzer.source import Fetcher\n"
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
    assert re.fullmatch(r"[0-9a-f]{12}", video.video_id)
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


def test_empty_file_is_left_to_the_reader(tmp_path: Path) -> None:
    path = tmp_path / "empty.mp4"
    path.touch()
    assert fetch(str(path), tmp_path).details["size_bytes"] == 0


def test_folder_gives_videos_in_natural_order_then_pictures_as_one(tmp_path: Path) -> None:
    for name in ("v10.mp4", "v2.MKV", "v1.gif", "10.png", "9.JPG", "1.webp", "notes.txt", ".hidden.mp4"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "annotated.mp4").write_bytes(b"x")
    (tmp_path / "trap.mp4").mkdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "fifo.mp4")
    items = list(fetcher().resolve(str(tmp_path)))
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


def test_hls_with_a_missing_part_is_no_success(server: Server, hls: Path, folder: Path) -> None:
    server.add_folder(hls)
    assert server.routes.pop("/index1.ts")
    error = refused(server.url("/index.m3u8"), folder)
    assert error.kind in (Kind.NOT_FOUND, Kind.NETWORK)
    assert 1 <= server.count("/index1.ts") <= 5


def test_hls_with_a_cut_part_is_no_success(server: Server, hls: Path, folder: Path) -> None:
    server.add_folder(hls)
    server.add_cut("/index1.ts", (hls / "index1.ts").read_bytes())
    error = refused(server.url("/index.m3u8"), folder)
    assert (error.kind, error.retry) == (Kind.NETWORK, True)


@pytest.mark.parametrize("embedded", [False, True])
def test_hls_that_goes_on_is_live(server: Server, hls: Path, folder: Path, embedded: bool) -> None:
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


def test_no_secrets_in_the_record(server: Server, clip: Path, folder: Path) -> None:
    video = fetch("https://scripted.test/abc", folder, scripted(abc=separate(server, clip)))
    assert "SECRET" not in json.dumps(video.details)
    assert set(video.details) == {
        *("extractor", "id", "formats", "width", "height", "fps", "size_bytes", "yt_dlp"),
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
def test_choice_of_the_picture(formats: list[dict[str, Any]], expected: str) -> None:
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


def test_playlist_goes_on_after_dead_entries(server: Server, clip: Path, folder: Path) -> None:
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


def test_limit_asks_for_no_more_entries(server: Server, clip: Path) -> None:
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
    assert [item.error and item.error.kind for item in items] == [None, Kind.TIMEOUT, Kind.TIMEOUT]


def test_several_videos_in_one_page(server: Server, clip: Path, folder: Path) -> None:
    for name in ("a", "b"):
        server.add(f"/{name}.mp4", clip)
    page = server.add("/page.html", b"<video src='a.mp4'></video><p><video src='b.mp4'></video>" + b" " * 600)
    assert refused(page, folder).kind == Kind.PLAYLIST
    made = fetcher(playlist=True)
    videos = [made.fetch(item, folder) for item in made.resolve(page)]
    assert len({video.video_id for video in videos}) == 2
    assert server.count("/a.mp4") == server.count("/b.mp4") == 1


# ------------------------------------------------------------------------------------ broken servers


@pytest.mark.parametrize(
    ("status", "kind", "retry"),
    [
        (401, Kind.EXPIRED_OR_FORBIDDEN, False),
        (403, Kind.EXPIRED_OR_FORBIDDEN, False),
        (404, Kind.NOT_FOUND, False),
        (410, Kind.NOT_FOUND, False),
        (418, Kind.OTHER, False),
        (429, Kind.BOT_CHECK, True),
        (451, Kind.GEO_BLOCKED, False),
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
    monkeypatch.setattr("analyzer.source._MAX_PAGE_BYTES", 1_000_000)
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
    "phase", ["silent", "dribbling", "silent page", "dribbling page", "dribbling head", "dribbling hls"]
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


def test_site_that_makes_clients_wait(server: Server, clip: Path, folder: Path) -> None:
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


def test_interrupt_gets_through_at_once(server: Server, folder: Path) -> None:
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
    from analyzer.source import _MEANINGS

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


def test_one_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"picture")
    before = fetch(str(path), tmp_path)
    assert (before.kind, before.paths) == (MediaKind.IMAGES, (path,))
    renamed = path.rename(tmp_path / "b.png")
    assert fetch(str(renamed), tmp_path).video_id == before.video_id
