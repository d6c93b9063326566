"""Live sources: how they are recognized and timed, and that nothing is lost, doubled or grows with time."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import psutil
import pytest
from numpy.typing import NDArray

from analyzer import analyze, api, cli, job
from analyzer.analysis.segment import Models
from analyzer.cli.live import LiveStop
from analyzer.errors import ModelError, SourceError, SourceErrorKind
from analyzer.events import Event, Finished, LiveProgress, LiveStarted, SegmentCommitted
from analyzer.faces import Faces
from analyzer.live import connections
from analyzer.live import reader as live_reader
from analyzer.live import run as live_run
from analyzer.live.connections import Arrival
from analyzer.live.reader import LiveReader
from analyzer.live.run import finish_abandoned, run_live
from analyzer.media.frame import Frame
from analyzer.media.mjpeg import MultipartFrames
from analyzer.report import Chosen, make_report
from analyzer.runs.run import Run
from analyzer.runs.run_info import SCHEMA_VERSION
from analyzer.settings import Settings
from analyzer.sources.resolve import Fetcher
from analyzer.sources.streams import Stream, StreamForm
from analyzer.sources.types import Item, MediaKind, Video
from analyzer.util.urls import redacted
from analyzer.vision import selection
from analyzer.vision.calibration import Calibration
from testkit.live_servers import LiveHls, Mjpeg, jpegs, write_hls
from testkit.media import number_of, numbered, write_video
from testkit.servers import Handler, Server, scripted, serve
from testkit.videos import wall

ROOT = Path(__file__).parents[1]
TIMEOUT_S = 1.0
QUICK = Settings(timeout_s=TIMEOUT_S, fps=10, segment_s=2)
HLS_FPS = 10


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as running:
        yield running


@pytest.fixture(scope="module")
def numbers() -> list[bytes]:
    """JPEG files of numbered frames."""
    return jpegs(list(numbered(2000)))


@pytest.fixture(scope="module")
def faces_seen() -> list[bytes]:
    """JPEG files of a camera that pans over portraits."""
    frame = wall(2, 1)
    return jpegs([frame[40:520, 3 * n : 3 * n + 640] for n in range(40)])


@pytest.fixture(scope="module")
def hls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute of numbered frames in parts of a second."""
    return write_hls(tmp_path_factory.mktemp("hls"), list(numbered(60 * HLS_FPS)), HLS_FPS)


class _NoFaces:
    """A detector that finds no face, and may be slow."""

    reducible = False
    points_in_box = None

    def __init__(self, pause_s: float = 0.0) -> None:
        self.pause_s = pause_s

    def input_size(self, width: int, height: int, reduction: float = 1.0) -> tuple[int, int]:
        return 64, 48

    def detect(self, images: list[NDArray[np.uint8]], sizes: list[tuple[int, int]]) -> list[Faces]:
        time.sleep(self.pause_s * len(images))
        return [Faces.empty() for _ in images]


def blind(pause_s: float = 0.0) -> Models:
    """Models that find no face."""
    nothing: Any = None
    detector: Any = _NoFaces(pause_s)
    return Models(detector, nothing, Calibration.load(), ())


def fetched(source: str, folder: Path, settings: Settings = QUICK, *extractors: Any) -> Video:
    patient = settings.replace(timeout_s=20)  # finding out what it is takes a while on a busy machine
    fetcher = Fetcher(patient, want_audio=False, live=True, extractors=extractors)
    (item,) = fetcher.resolve(source)
    return fetcher.fetch(item, folder)


def analyze_live(
    source: str,
    out: Path,
    settings: Settings,
    models: Models | None = None,
    *,
    cancelled: Callable[[], bool] = lambda: False,
    on_event: Callable[[Event], None] = lambda event: None,
) -> Run:
    video = fetched(source, out, settings)
    return run_live(
        video, out, settings, models or blind(), on_event=on_event, cancelled=cancelled, timings={}
    )


def watch(
    stream: Stream, settings: Settings, act: Callable[[LiveReader], None] | None = None
) -> tuple[list[tuple[float, int, int]], LiveReader]:
    """Time, number and segment of each sample of a source; `act` runs beside it."""
    rows = []
    with LiveReader(stream, settings, name="it") as reader:
        beside = threading.Thread(target=act, args=(reader,)) if act else None
        if beside:
            beside.start()
        for samples in reader.segments():
            rows += [(one.frame.time_s, number_of(one.frame.image()), one.segment) for one in samples]
        if beside:
            beside.join()
    return rows, reader


def assert_ascending(rows: list[tuple[float, int, int]]) -> None:
    """No row twice, none out of order: neither by its time nor by what it shows."""
    for column in (0, 1):
        values = [row[column] for row in rows]
        assert all(first < second for first, second in itertools.pairwise(values)), values


# --- recognizing live sources ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "form", "title"),
    [
        ("0", StreamForm.CAMERA, "camera 0"),
        ("rtsp://user:secret@camera.test:8554/1", StreamForm.RTSP, "camera.test"),
        ("rtsps://camera.test/1", StreamForm.RTSP, "camera.test"),
    ],
)
def test_cameras_and_rtsp_are_known_by_their_names(
    source: str, form: StreamForm, title: str, tmp_path: Path
) -> None:
    video = fetched(source, tmp_path)
    assert video.stream is not None and video.stream.form is form and video.stream.address == source
    assert (video.kind, video.title, video.paths) == (MediaKind.LIVE, title, ())
    assert video.video_id.startswith("live-") and "secret" not in repr(video)


def test_mjpeg_is_known_by_its_answer(server: Server, numbers: list[bytes], tmp_path: Path) -> None:
    address = Mjpeg(server, numbers).url
    video = fetched(address, tmp_path)
    assert video.stream == Stream(StreamForm.MJPEG, address) and video.kind is MediaKind.LIVE
    again = fetched(address, tmp_path)
    assert again.video_id[:17] == video.video_id[:17]  # the same source at another time
    assert list(tmp_path.iterdir()) == []


def test_hls_without_an_end_is_live(server: Server, hls: Path, tmp_path: Path) -> None:
    video = fetched(LiveHls(server, hls).url, tmp_path)
    assert video.stream is not None and video.stream.form is StreamForm.HLS


def test_site_that_is_live_is_asked_for_a_fresh_address(server: Server, hls: Path, tmp_path: Path) -> None:
    playlist = LiveHls(server, hls)
    asked = []

    def answer(name: str) -> dict[str, Any]:
        asked.append(name)
        form = {"url": f"{playlist.url}?signed={len(asked)}", "ext": "mp4", "protocol": "m3u8_native"}
        return {"id": name, "title": "On air", "is_live": True, "formats": [{**form, "height": 96}]}

    video = fetched("https://scripted.test/tv", tmp_path, QUICK, scripted(tv=answer))
    assert (video.title, len(asked)) == ("On air", 1)
    assert video.stream is not None and video.stream.renew is not None
    assert video.stream.renew().address.endswith("?signed=2")
    # A file that a site offers beside it is no stream.
    file = scripted(tv={"id": "tv", "is_live": True, "url": server.url("/a.mp4"), "ext": "mp4"})
    with pytest.raises(SourceError, match="does not come as HLS"):
        fetched("https://scripted.test/tv", tmp_path, QUICK, file)


def test_only_analyze_reads_live_sources(
    server: Server, numbers: list[bytes], hls: Path, tmp_path: Path
) -> None:
    fetcher = Fetcher(QUICK, want_audio=False)
    for source in ("0", "rtsp://camera.test/1"):
        with pytest.raises(SourceError, match="only analyze reads"):
            list(fetcher.resolve(source))
    with pytest.raises(SourceError) as caught:
        fetcher.fetch(Item(LiveHls(server, hls).url, MediaKind.VIDEO), tmp_path)
    assert caught.value.kind is SourceErrorKind.LIVE


# --- sources that cannot be read ---------------------------------------------------------------------


def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_refused_connection_is_one_sentence(scheme: str, tmp_path: Path) -> None:
    address = f"{scheme}://user:secret@127.0.0.1:{closed_port()}/video"
    with pytest.raises(SourceError) as caught:
        analyze_live(address, tmp_path, QUICK)
    assert caught.value.kind is SourceErrorKind.NETWORK and caught.value.retry
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_other_content_is_refused(server: Server, tmp_path: Path) -> None:
    address = server.add("/video", b"<html>sign in</html>" + b" " * 600, "text/html")
    with pytest.raises(SourceError) as caught:
        analyze_live(address, tmp_path, QUICK)
    assert caught.value.kind is SourceErrorKind.UNSUPPORTED
    with pytest.raises(SourceError, match="text/html"):
        LiveReader(Stream(StreamForm.MJPEG, address), QUICK, name="it")


def test_silent_camera_is_refused_in_time(server: Server, numbers: list[bytes]) -> None:
    camera = Mjpeg(server, numbers)
    camera.silent = True
    begun = time.monotonic()
    with pytest.raises(SourceError, match="nothing arrived in time") as caught:
        LiveReader(Stream(StreamForm.MJPEG, camera.url), QUICK, name="it")
    assert caught.value.kind is SourceErrorKind.TIMEOUT and time.monotonic() - begun < 10 * TIMEOUT_S


def test_absent_camera_is_one_sentence_that_lists_cameras(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise av.error.FileNotFoundError(2, "No such file or directory", "/dev/video7")

    for names, said in (([], "has no camera"), (["/dev/video0", "/dev/video2"], "/dev/video0, /dev/video2")):
        with monkeypatch.context() as inside, pytest.raises(SourceError, match=said) as caught:
            inside.setattr(connections, "_cameras", lambda form, names=names: names)
            inside.setattr(av, "open", refuse)
            LiveReader(Stream(StreamForm.CAMERA, "7"), QUICK, name="camera 7")
        assert "camera 7" in str(caught.value) and caught.value.kind is SourceErrorKind.NOT_FOUND


def test_camera_is_timed_by_arrival(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", numbered(60), fps=1)
    monkeypatch.setattr(connections, "open_camera", lambda number: av.open(str(path)))
    with LiveReader(
        Stream(StreamForm.CAMERA, "0"), QUICK.replace(fps=240, reconnect_s=0), name="it"
    ) as reader:
        rows = [one.frame.time_s for samples in reader.segments() for one in samples]
    assert reader.state.frames == 60 and rows[0] == 0 and rows[-1] < 30  # not the 59 s of the file
    assert not reader.state.complete and "unreachable" in reader.state.end
    assert reader.info.codec == "h264"


# --- multipart ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "mark", "length"),
    [
        ("boundary=x1", "--x1", True),
        ("boundary=x1", "--x1", False),
        ('boundary="--x1"', "--x1", False),
        ("boundary=--x1", "----x1", False),
        ("boundary=--x1", "----x1", True),
    ],
)
def test_parts_are_separated(server: Server, declared: str, mark: str, length: bool) -> None:
    bodies = [bytes([n]) * (50_000 + n) + b"\r\n-" for n in range(5)] + [b"\r\nlast"]
    data = b"\r\n"
    for body in bodies:
        head = f"{mark}\r\nContent-Type: image/jpeg\r\n"
        head += f"Content-length: {len(body)}\r\n" if length else ""
        data += head.encode() + b"\r\n" + body + b"\r\n"
    address = server.add("/v", data + mark.encode() + b"--\r\n", f"multipart/x-mixed-replace;{declared}")
    assert list(MultipartFrames(address, TIMEOUT_S)) == bodies


@pytest.mark.parametrize("start", [b"", b"\r\n\r\n", b"--x\r\n\r\nhalf a pict"])
def test_stream_that_is_cut_off_is_broken(server: Server, start: bytes) -> None:
    address = server.add("/v", start, "multipart/x-mixed-replace; boundary=x")
    with pytest.raises(ConnectionError):
        list(MultipartFrames(address, TIMEOUT_S))


def test_stream_of_something_else_and_one_that_dribbles_are_broken(server: Server) -> None:
    kind = "multipart/x-mixed-replace; boundary=x"
    with pytest.raises(ConnectionError, match="not valid MJPEG"):
        list(MultipartFrames(server.add_endless("/v", kind), TIMEOUT_S))
    with pytest.raises(TimeoutError):
        list(MultipartFrames(server.add_dribble("/w", kind), TIMEOUT_S))


def test_user_name_and_password_are_used_and_never_written(
    server: Server, numbers: list[bytes], tmp_path: Path
) -> None:
    camera = Mjpeg(server, numbers)
    answer = server.routes["/video"]
    expected = "Basic " + base64.b64encode(b"user:s/ecret").decode()

    def guarded(handler: Handler) -> None:
        if handler.headers["Authorization"] == expected:
            answer(handler)
            return
        handler.send_response(401)
        handler.send_header("WWW-Authenticate", 'Basic realm="camera"')
        handler.end_headers()

    server.routes["/video"] = guarded
    address = camera.url.replace("http://", "http://user:s%2Fecret@")
    run = analyze_live(address, tmp_path, QUICK.replace(duration_s=0.5))
    text = (run.folder / "run.json").read_text("utf-8")
    assert len(run.samples) >= 2 and "ecret" not in text and "ecret" not in str(run.folder)
    with pytest.raises(SourceError, match="401: user name and password are needed"):
        LiveReader(Stream(StreamForm.MJPEG, camera.url), QUICK, name="it")


# --- stalls, breaks, repeats -------------------------------------------------------------------------


@pytest.mark.slow
def test_every_stretch_without_frames_is_a_gap(server: Server, numbers: list[bytes]) -> None:
    camera = Mjpeg(server, numbers)
    quiet: list[tuple[float, float]] = []

    def act(reader: LiveReader) -> None:
        for name, pause_s in (("silent", 2.5), ("broken", 1.8)):
            time.sleep(1.2)
            begun = reader.elapsed_s
            setattr(camera, name, True)
            time.sleep(pause_s)
            setattr(camera, name, False)
            quiet.append((begun, reader.elapsed_s))

    rows, reader = watch(Stream(StreamForm.MJPEG, camera.url), QUICK.replace(duration_s=9.5), act)
    assert_ascending(rows)
    state = reader.state
    assert state.connections >= 3 and state.complete
    assert state.end == "the requested duration was reached"
    # A busy machine may add gaps of its own.
    gaps = [(one.start_s, one.start_s + one.length_s) for one in state.gaps]
    assert len(quiet) == 2 <= len(gaps) == state.gap_count and all(one.reason for one in state.gaps)
    for begun, ended in quiet:
        assert any(start_s < begun + 1 and end_s > ended - 0.2 for start_s, end_s in gaps)
    for start_s, end_s in gaps:
        assert not [row for row in rows if start_s + 0.1 < row[0] < end_s - 0.01]
    # Whatever lies between two samples is within a few steps of another, or a gap.
    for before, after in itertools.pairwise(row[0] for row in rows):
        assert after - before < 2.3 or any(before < end_s and start_s < after for start_s, end_s in gaps)
    # A segment ends in time though nothing comes: what there is can be kept.
    assert len({row[2] for row in rows}) >= 3


def test_unreachable_source_ends_the_run(server: Server, numbers: list[bytes], tmp_path: Path) -> None:
    camera = Mjpeg(server, numbers)
    camera.on_picture = lambda number: setattr(camera, "broken", number >= 20)
    run = analyze_live(camera.url, tmp_path, QUICK.replace(reconnect_s=0.5))
    assert not run.complete and "unreachable" in run.info["incomplete_reason"]
    live = run.info["live"]
    assert live["gaps"] == 1 and live["last_gaps"][0]["start_s"] == pytest.approx(1.0, abs=1)
    assert 5 <= len(run.samples) <= 20


@pytest.mark.slow
def test_hls_loses_and_repeats_nothing_in_silence(server: Server, hls: Path) -> None:
    playlist = LiveHls(server, hls, window=6)
    playlist.missing = {1, 2}

    def act(reader: LiveReader) -> None:
        time.sleep(4)
        playlist.down = True
        while reader.state.connected:
            time.sleep(0.05)
        # It comes back by another server, which is some seconds behind.
        playlist.began_at += 3
        playlist.down = False
        while not reader.state.repeated:
            time.sleep(0.05)
        time.sleep(1)
        playlist.ended = True

    rows, reader = watch(Stream(StreamForm.HLS, playlist.url), QUICK, act)
    assert_ascending(rows)
    state = reader.state
    assert state.connections >= 2 and state.complete and state.end == "the source has ended"
    # The time stamps continue across both: the number in a frame is its time, to a tenth of a second.
    assert {round(time_s * HLS_FPS) - number for time_s, number, _ in rows} == {-rows[0][1]}
    (missed,) = ((a[0], b[0]) for a, b in itertools.pairwise(rows) if b[0] - a[0] > 1.5)
    assert state.gap_count >= 1 and state.gaps[0].start_s == pytest.approx(missed[0], abs=0.3)
    assert state.gaps[0].length_s == pytest.approx(missed[1] - missed[0], abs=0.3)


def test_hls_time_stamps_that_begin_anew_go_on() -> None:
    timing = live_reader._Timing(StreamForm.HLS)
    timing.connected()
    assert [timing.of(stamp, now) for stamp, now in ((900.0, 0.0), (900.5, 0.1))] == [0.0, 0.5]
    # Within a connection, another recording: time continues where the first one was.
    begun = timing.of(3.0, 1.0)
    assert begun == 1.0 and timing.of(3.5, 1.1) == 1.5
    timing.connected()
    # A second connection: repeated frames are dropped, new ones continue.
    assert [timing.of(stamp, 4.0) for stamp in (2.0, 3.0, 3.5, 4.0)] == [None, None, None, 2.0]
    timing.connected()
    # A third, of a source that was switched off and on.
    assert timing.of(50_000.0, 9.0) == 9.0 and timing.of(50_000.5, 9.1) == 9.5


@pytest.mark.parametrize("by_s", [-3600.0, -4.0, 20.0, 50.0, 3600.0])
def test_hls_clock_that_jumps_is_not_waited_for(by_s: float) -> None:
    """Pictures of HLS are given at their time: that of a jump forward would never come."""
    timing, now_s, times = live_reader._Timing(StreamForm.HLS), 0.0, []
    timing.connected()
    for number in range(100):
        time_s = timing.of(5000 + number / 10 + (by_s if number >= 50 else 0.0), now_s)
        assert time_s is not None
        wait_s = timing.wait_s(time_s, now_s, jumped=False)
        assert wait_s < 0.2
        now_s += max(0.0, wait_s)
        times.append(time_s)
    assert np.diff(times) == pytest.approx([0.1] * 99, abs=0.1) and min(np.diff(times)) > 0
    (jump,) = timing.jumps
    assert timing.jump_count == 1 and jump.at_s == pytest.approx(5.0, abs=0.11)
    assert jump.by_s == pytest.approx(by_s, abs=0.2)


def test_hls_part_that_is_missing_is_waited_for() -> None:
    timing = live_reader._Timing(StreamForm.HLS)
    timing.connected()
    assert [timing.of(stamp, 0.2) for stamp in (0.0, 0.1, 8.0)] == pytest.approx([0.2, 0.3, 8.2])
    assert not timing.jumps


def test_rtsp_time_stamps_that_deviate_are_aligned_anew() -> None:
    timing = live_reader._Timing(StreamForm.RTSP)
    timing.connected()
    times = [timing.of(stamp, now) for stamp, now in ((10.0, 0.0), (10.1, 0.3), (10.2, 0.31), (400.0, 0.4))]
    assert times == pytest.approx([0.0, 0.1, 0.2, 0.4])
    assert timing.jump_count == 1
    timing.connected()
    assert timing.of(0.0, 7.0) == 7.0  # not what was seen already
    assert timing.jump_count == 1


# --- slow machines, long runs ------------------------------------------------------------------------


@pytest.mark.slow
def test_newest_sample_wins_and_the_others_are_counted(
    server: Server, numbers: list[bytes], tmp_path: Path
) -> None:
    camera = Mjpeg(server, numbers, fps=25)
    ages: list[float] = []

    def on_event(event: Event) -> None:
        if isinstance(event, LiveProgress):
            ages.append(time.monotonic() - begun - event.time_s)

    begun = time.monotonic()
    run = analyze_live(
        camera.url, tmp_path, QUICK.replace(fps=20, duration_s=4), blind(0.25), on_event=on_event
    )
    samples = run.samples
    assert samples["time_s"].is_monotonic_increasing and samples["time_s"].is_unique
    assert run.info["live"]["gaps"] == 0 and (samples["gap_s"] == 0).all()
    dropped = int(samples["dropped"].sum())
    assert dropped == run.info["live"]["dropped"]
    # About 4 samples a second are analyzed, and of 20 that come all others are counted.
    assert dropped > len(samples) and len(samples) + dropped <= camera.sent
    # What waits to be analyzed is bounded: the last sample is as old as an early one.
    assert max(ages) < 10 and samples["duration_s"].sum() == pytest.approx(4, abs=1.5)


def test_samples_dropped_after_a_gap_belong_to_the_gap() -> None:
    go_on = threading.Event()
    now = [0.0]

    class Source:
        codec = container = "fake"

        def arrivals(self) -> Iterator[Arrival]:
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "bgr24")
            for time_s in (0.0, 0.1, 0.2):
                now[0] = time_s
                yield Arrival(lambda: frame)
                while not reader or reader[0]._held is not None:
                    time.sleep(0.001)
            for time_s in (5.2, 5.3, 5.4):  # the analysis is too slow for them
                now[0] = time_s
                yield Arrival(lambda: frame)
            go_on.set()

        def ended(self) -> bool:
            return True

        def close(self) -> None:
            pass

    reader: list[LiveReader] = []
    stream = Stream(StreamForm.RTSP, "rtsp://camera.test/1")
    reader.append(LiveReader(stream, QUICK, name="it", connect=lambda *_: Source(), now=lambda: now[0]))
    with reader[0] as one:
        rows, received = [], []
        for samples in one.segments():
            for sample in samples:
                rows.append(sample.frame.time_s)
                if sample.frame.time_s == 0.2:
                    assert go_on.wait(30)
            received += one.received()
    assert rows == [0.0, 0.1, 0.2, 5.4]
    assert [item.dropped for item in received] == [0, 0, 0, 2]
    # The gap begins a step after 0.2 and includes the dropped frames of 5.2 and 5.3.
    assert received[-1].gap_s == pytest.approx(5.4 - 0.3) and one.state.gap_s == pytest.approx(4.9)


class _Endless:
    """Pictures of an hour in seconds; the clock is its own."""

    codec, container = "fake", "fake"
    FPS = 6

    def __init__(self, seconds: int, taken: Callable[[], bool]) -> None:
        self._seconds, self._taken = seconds, taken
        self.now_s = 0.0
        self.rss: list[int] = []

    def arrivals(self) -> Iterator[Arrival]:
        frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "bgr24")
        process = psutil.Process()
        for number in range(self._seconds * self.FPS):
            while not self._taken():
                time.sleep(0.0002)
            self.now_s = number / self.FPS
            if number % (60 * self.FPS) == 0:
                self.rss.append(process.memory_info().rss)
            yield Arrival(lambda: frame)

    def ended(self) -> bool:
        return True

    def close(self) -> None:
        pass


@pytest.mark.slow
def test_an_hour_does_not_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readers: list[LiveReader] = []

    def taken() -> bool:
        return not readers or readers[0]._held is None or readers[0]._closing.is_set()

    source = _Endless(3600, taken)

    def reader(*args: Any, **kwargs: Any) -> LiveReader:
        made = LiveReader(*args, **kwargs | {"connect": lambda *_: source, "now": lambda: source.now_s})
        readers.append(made)
        return made

    monkeypatch.setattr(live_run, "LiveReader", reader)
    monkeypatch.setattr(live_run, "SEGMENT_S", 30.0)  # for speed: what is written is as much
    video = fetched("rtsp://camera.test/1", tmp_path)
    settings = Settings(fps=0.5, bin_s=60)
    run = run_live(
        video, tmp_path, settings, blind(), on_event=lambda event: None, cancelled=lambda: False, timings={}
    )
    assert run.complete and run.info["live"]["ended_because"] == "the source has ended"
    assert 1750 <= len(run.samples) + run.info["live"]["dropped"] <= 1801 and len(run.samples) > 1600
    assert run.samples["time_s"].is_monotonic_increasing and run.samples["time_s"].is_unique
    assert len(run.timeline) == 60 and run.samples["segment"].max() >= 115
    growth_mb = (max(source.rss[15:]) - max(source.rss[10:15])) / 1e6
    assert len(source.rss) == 60 and growth_mb < 40, source.rss


# --- callers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["on_wait", "cancelled"])
def test_callers_functions_are_called_without_the_lock(name: str) -> None:
    """However slow they are, reading continues."""
    readers: list[LiveReader] = []
    grown: list[int] = []

    def slow(*_: object) -> bool:
        if readers and not grown:
            before, until = readers[0].state.frames, time.monotonic() + 10
            while readers[0].state.frames < before + 3 and time.monotonic() < until:
                time.sleep(0.01)
            grown.append(readers[0].state.frames - before)
        return False

    cancelled = slow if name == "cancelled" else lambda: False
    stream = Stream(StreamForm.CAMERA, "0")
    with LiveReader(stream, QUICK, name="it", connect=lambda *_: _Camera(12), cancelled=cancelled) as reader:
        readers.append(reader)
        how = {"on_wait": slow} if name == "on_wait" else {}
        samples = [one for some in reader.segments(**how) for one in some]
    assert grown == [3] and len(samples) >= 2


def test_exception_of_on_event_reaches_the_caller_unchanged(
    server: Server, numbers: list[bytes], tmp_path: Path
) -> None:
    camera = Mjpeg(server, numbers)
    error = RuntimeError("mine")

    def listen(event: Event) -> None:
        if isinstance(event, LiveProgress):
            raise error

    with pytest.raises(RuntimeError) as caught:
        analyze(camera.url, QUICK, out=tmp_path, on_event=listen)
    assert caught.value is error


def test_gender_and_age_are_reported_from_the_first_samples_on(
    server: Server, faces_seen: list[bytes], models: Models, tmp_path: Path
) -> None:
    camera = Mjpeg(server, faces_seen)
    events: list[Any] = []
    settings = Settings(timeout_s=10, duration_s=1, precision="f32")
    analyze_live(camera.url, tmp_path, settings, models, on_event=events.append)
    progress = [event for event in events if isinstance(event, LiveProgress) and event.samples]
    first = progress[0]
    assert first.samples == 1 and first.people == 0 and len(first.visible) == first.faces >= 1
    assert all(face.age_years is not None and face.person_id >= 0 for face in first.visible)
    assert {face.gender for face in first.visible} <= {"female", "male", "unknown"}


# --- tables ------------------------------------------------------------------------------------------


def test_clock_and_gaps_are_in_the_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a source whose frames come at times that the test chooses."""
    readers: list[LiveReader] = []
    now, offered = [0.0], threading.Event()
    times = [*np.arange(0, 2, 0.1), *np.arange(6, 8, 0.1)]

    class Reader(LiveReader):
        def _offer(self, frame: Frame) -> None:
            readers[:] = [self]  # `LiveReader` returns after the first frame, and others must wait by then
            super()._offer(frame)
            offered.set()

    class Source:
        codec = container = "fake"

        def arrivals(self) -> Iterator[Arrival]:
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "bgr24")
            for time_s in times:
                while readers and readers[0]._held is not None and not readers[0]._closing.is_set():
                    time.sleep(0.001)
                offered.clear()
                now[0] = float(time_s)
                yield Arrival(lambda: frame)
                offered.wait(10)  # Or the next frame would move the clock, and replace this one.

        def ended(self) -> bool:
            return True

        def close(self) -> None:
            pass

    def reader(*args: Any, **kwargs: Any) -> LiveReader:
        clocks: dict[str, Any] = {"now": lambda: now[0], "wall": lambda: 1.6e9 + now[0]}
        return Reader(*args, **kwargs | clocks | {"connect": lambda *_: Source()})

    monkeypatch.setattr(live_run, "LiveReader", reader)
    video = fetched("rtsp://camera.test/1", tmp_path)
    video = dataclasses.replace(video, stream=Stream(StreamForm.CAMERA, "0"))
    how: dict[str, Any] = {"on_event": lambda event: None, "cancelled": lambda: False, "timings": {}}
    run = run_live(video, tmp_path, QUICK, blind(), **how)
    samples, live = run.samples.set_index("time_s"), run.info["live"]
    assert live is not None and (live["gaps"], live["gaps_s"]) == (1, pytest.approx(4.0, abs=0.15))
    assert live["last_gaps"][0]["start_s"] == pytest.approx(2.0, abs=0.15)
    assert [one.timestamp() - 1.6e9 for one in samples["clock"]] == pytest.approx(
        samples.index.tolist(), abs=0.002
    )
    after = samples.loc[5:]
    assert after["gap_s"].iloc[0] == pytest.approx(4.0, abs=0.15) and (after["gap_s"].iloc[1:] == 0).all()
    # The sample before the gap counts for one step.
    assert samples["duration_s"].sum() == pytest.approx(4.0, abs=0.3)
    bins = run.timeline.set_index("start_s")
    assert (bins.loc[3.0:5.0, "samples"] == 0).all() and bins["clock"].notna().all()


# --- the tables of a camera --------------------------------------------------------------------------


@pytest.mark.slow
def test_clock_and_gaps_of_a_camera_are_in_the_tables(
    server: Server, faces_seen: list[bytes], models: Models, tmp_path: Path
) -> None:
    camera = Mjpeg(server, faces_seen)

    def break_off(number: int) -> None:
        if number == 40:  # after 2 s
            camera.broken = True
            threading.Timer(2.5, lambda: setattr(camera, "broken", False)).start()

    camera.on_picture = break_off
    events: list[Event] = []
    settings = Settings(timeout_s=10, duration_s=60, segment_s=3, precision="f32")
    begun = pd.Timestamp.now(tz="UTC")
    run = analyze_live(
        camera.url, tmp_path, settings, models, on_event=events.append, cancelled=lambda: camera.sent >= 85
    )
    assert run.complete and run.info["schema_version"] == SCHEMA_VERSION and run.info["annotated"] is None
    samples, live = run.samples, run.info["live"]
    assert samples["clock"].is_monotonic_increasing and samples["clock"].iloc[0] >= begun
    # Media time and clock go on side by side.
    by_clock = (samples["clock"] - samples["clock"].iloc[0]).dt.total_seconds()
    assert (by_clock - samples["time_s"] + samples["time_s"].iloc[0]).abs().max() < 1
    assert live["gaps"] >= 1 and samples["gap_s"].sum() >= live["gaps_s"] - 0.01
    seen_s = samples["time_s"].iloc[-1] - samples["gap_s"].sum()
    # A gap is no time on screen: the sample before it counts for one step.
    assert samples["duration_s"].sum() == pytest.approx(seen_s, abs=1)
    gap = max(live["last_gaps"], key=lambda one: one["length_s"])
    bins = run.timeline.set_index("start_s")
    inside = bins.loc[gap["start_s"] + 0.1 : gap["start_s"] + gap["length_s"] - 1.0]
    assert len(inside) and (inside[["samples", "people"]] == 0).all().all()
    assert len(run.people) >= 1 and (run.people["on_screen_s"] <= seen_s + 1).all()
    assert (
        bins["clock"].notna().all()
        and bins["clock"].diff().dt.total_seconds().iloc[1:].between(0.5, 1.5).all()
    )
    # It can be reported on, and asked about by the clock.
    clock = "(SELECT min(clock) FROM samples s WHERE s.run = runs.run)"
    where = f"{clock} >= TIMESTAMPTZ '{begun.isoformat()}' AND kind = 'live'"
    (row,) = make_report([tmp_path], chosen=Chosen(where=where)).document["videos"]
    assert row["people"] == len(run.people) and row["day"] == begun.date().isoformat()
    assert [e for e in events if isinstance(e, LiveStarted)] == [LiveStarted("", "127.0.0.1", 60.0, True)]
    assert not (run.folder / ".parts").exists() and not (run.folder / ".new").exists()


# --- the command -------------------------------------------------------------------------------------


@contextlib.contextmanager
def running(*options: str, out: Path) -> Iterator[subprocess.Popen[str]]:
    """The command, when its run has been published."""
    command = [sys.executable, "cli.py", "analyze", *options, "--out", str(out), "--timeout", "2"]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        until = time.monotonic() + 60
        while not list(out.glob("*/run.json")) and process.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.communicate(timeout=30)


@pytest.mark.slow
def test_killed_run_loses_its_last_seconds_only_and_is_finished(
    server: Server, faces_seen: list[bytes], tmp_path: Path
) -> None:
    camera = Mjpeg(server, faces_seen)
    with running(camera.url, "--segment", "2", out=tmp_path) as process:
        time.sleep(2.5)
        process.send_signal(signal.SIGKILL)
        killed_at = pd.Timestamp.now(tz="UTC")
        process.wait(timeout=30)
    (folder,) = (path.parent for path in tmp_path.glob("*/run.json"))
    run = Run.load(folder)
    assert not run.complete and run.info["incomplete_reason"] == "still running or interrupted"
    assert len(run.samples) >= 5 and killed_at - run.samples["clock"].iloc[-1] < pd.Timedelta(30, "s")
    before = len(run.samples)
    assert finish_abandoned(tmp_path) == [folder]
    run = Run.load(folder)
    assert not run.complete and run.info["live"]["ended_because"] == "the analysis was interrupted"
    assert len(run.samples) >= before and len(run.people) >= 1
    assert killed_at - run.samples["clock"].iloc[-1] < pd.Timedelta(20, "s")
    assert run.info["counts"]["samples"] == len(run.samples) and not (folder / ".parts").exists()
    assert finish_abandoned(tmp_path) == []


def test_signal_ends_a_live_run_properly(server: Server, faces_seen: list[bytes], tmp_path: Path) -> None:
    camera = Mjpeg(server, faces_seen)
    with running(camera.url, "--json", "--segment", "1", out=tmp_path) as process:
        asked_at = pd.Timestamp.now(tz="UTC")
        os.kill(process.pid, signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    (document,) = json.loads(stdout)
    assert document["status"] == "done" and stderr.startswith("Live: 127.0.0.1: runs until Ctrl-C")
    run = Run.load(Path(document["folder"]))
    assert run.complete and run.info["live"]["ended_because"] == "it was stopped"
    assert asked_at - run.samples["clock"].iloc[-1] < pd.Timedelta(20, "s")
    assert not (run.folder / ".parts").exists()


def come(number: signal.Signals) -> None:
    """As if a signal had come; a real one may end a process that runs many tests."""
    handler = signal.getsignal(number)
    assert callable(handler)
    handler(number, None)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_second_signal_reaches_the_previous_handler(number: signal.Signals) -> None:
    received: list[int] = []
    before = signal.signal(number, lambda number, frame: received.append(number))
    try:
        with LiveStop() as stop:
            come(number)
            assert (received, stop()) == ([number], False)  # no live source is analyzed yet
            stop.on_event(LiveStarted("1", "it", None, False))
            come(number)
            assert (received, stop()) == ([number], True)
            come(number)
            assert received == [number] * 2
    finally:
        signal.signal(number, before)


def test_running_analysis_is_not_finished_by_another(
    server: Server, numbers: list[bytes], tmp_path: Path
) -> None:
    camera = Mjpeg(server, numbers)
    found: list[Any] = []

    def stop() -> bool:
        if list(tmp_path.glob("*/run.json")) and not found:
            found.append(finish_abandoned(tmp_path))
        return bool(found)

    run = analyze_live(camera.url, tmp_path, QUICK.replace(segment_s=1), cancelled=stop)
    assert found == [[]] and run.complete


# --- interrupted runs --------------------------------------------------------------------------------


class _Camera:
    """Ten frames a second; then the source has ended."""

    codec, container = "fake", "fake"

    def __init__(self, count: int) -> None:
        self._count = count

    def arrivals(self) -> Iterator[Arrival]:
        frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "bgr24")
        for _ in range(self._count):
            time.sleep(0.1)
            yield Arrival(lambda: frame)

    def ended(self) -> bool:
        return True

    def close(self) -> None:
        pass


@contextlib.contextmanager
def interrupted(tmp_path: Path, count: int = 12) -> Iterator[list[int]]:
    """A run that is interrupted inside, and how many samples were committed."""
    committed: list[int] = []

    def on_event(event: Event) -> None:
        if isinstance(event, SegmentCommitted):
            committed.append(event.samples)

    def reader(*args: Any, **kwargs: Any) -> LiveReader:
        return LiveReader(*args, **kwargs | {"connect": lambda *_: _Camera(count)})

    with pytest.MonkeyPatch.context() as inside, pytest.raises(KeyboardInterrupt):
        inside.setattr(live_run, "LiveReader", reader)
        video = fetched("rtsp://camera.test/1", tmp_path)
        settings = QUICK.replace(segment_s=1)
        yield committed
        run_live(video, tmp_path, settings, blind(), on_event=on_event, cancelled=lambda: False, timings={})


def test_only_the_last_publication_says_that_a_run_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def finish(publisher: Any) -> None:
        publisher._work()
        raise KeyboardInterrupt

    monkeypatch.setattr(live_run._Publisher, "publish_if_due", lambda self: None)
    monkeypatch.setattr(live_run._Publisher, "finish", finish)
    with interrupted(tmp_path) as committed:
        pass
    (folder,) = tmp_path.iterdir()
    info = Run.load(folder).info
    assert info["live"]["ended_at"] is None and info["live"]["ended_because"] is None
    assert not info["complete"] and info["incomplete_reason"] == "still running or interrupted"
    # Whatever it says, what is committed and not published is not thrown away.
    info["live"]["ended_at"], info["counts"]["samples"] = info["analyzed_at"], 1
    (folder / "run.json").write_text(json.dumps(info))
    assert finish_abandoned(tmp_path) == [folder]
    run = Run.load(folder)
    assert len(run.samples) == sum(committed) >= 5 and run.info["counts"]["samples"] == sum(committed)
    assert run.info["live"]["ended_because"] == "the analysis was interrupted"
    assert not (folder / ".parts").exists()


def test_run_killed_before_its_first_publication_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def go_on(publisher: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(live_run._Publisher, "publish_if_due", go_on)
    with interrupted(tmp_path) as committed:
        pass
    (folder,) = tmp_path.iterdir()
    assert [one.name for one in folder.iterdir()] == [".parts"]
    untold = shutil.copytree(folder, tmp_path / f"{folder.name[:-16]}20200101T000000Z")
    (untold / ".parts" / "run.json").unlink()
    assert finish_abandoned(tmp_path) == [folder]
    run = Run.load(folder)
    assert len(run.samples) == sum(committed) >= 3 and not run.complete and len(run.timeline)
    assert run.info["live"]["ended_at"] and run.info["counts"]["samples"] == sum(committed)
    # Parts that no run.json describes are removed.
    assert not untold.exists() and not (folder / ".parts").exists()


def test_only_parts_inside_the_run_folder_are_removed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    folder = out / "it-live-0123456789ab-20260101T000000Z"
    others = [out / "a-live-show", out / "it-live-0123456789ab-20260101T000000Z-youtube-x"]
    for one in (folder, *others):
        (one / ".parts").mkdir(parents=True)
    victim = tmp_path / "project-2024"
    victim.mkdir()
    for key in ("../../../project", "*", 7, None):
        (folder / "run.json").write_text(
            json.dumps({"live": {"ended_at": None, "parts": key}, "counts": {"samples": 0}})
        )
        assert finish_abandoned(out) == []
    assert victim.exists() and all((one / ".parts").exists() for one in (folder, *others))


class _Blocking(_Camera):
    """Blocks after its frames, and has no timeout."""

    gone = threading.Event()

    def ended(self) -> bool:
        self.gone.wait(60)
        return False


def test_blocking_connection_is_abandoned_and_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_reader, "WATCH_S", 0.0)
    monkeypatch.setattr(live_reader, "PATIENCE_S", 0.1)
    monkeypatch.setattr(live_reader, "_PAUSES_S", (0.1, 0.1))
    monkeypatch.setattr(live_reader, "LEFT_MAX", 2)
    camera = Stream(StreamForm.CAMERA, "0")
    made: list[int] = []

    def connect(*args: object) -> _Blocking:
        made.append(1)
        return _Blocking(3)

    settings = QUICK.replace(reconnect_s=0.3)
    with LiveReader(camera, settings, name="it", connect=connect) as reader:
        times = [one.frame.time_s for samples in reader.segments() for one in samples]
    # Two of them are left blocking, so there is no third.
    assert len(made) == 2 and len(times) >= 4 and times == sorted(times)
    assert "unreachable" in reader.state.end and reader.state.gaps[0].reason == "nothing arrived in time"
    begun = time.monotonic()
    with pytest.raises(SourceError, match="nothing arrived in time") as caught:
        LiveReader(camera, settings, name="it", connect=lambda *_: _Blocking(0))
    assert caught.value.kind is SourceErrorKind.TIMEOUT and time.monotonic() - begun < 3
    _Blocking.gone.set()


def test_hls_that_stood_still_without_loss_has_no_gap_and_its_full_duration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live_reader, "_GAP_S", 0.3)

    class Source(_Camera):
        def arrivals(self) -> Iterator[Arrival]:
            for number, arrival in enumerate(super().arrivals()):
                if number == 3:
                    time.sleep(0.8)
                yield Arrival(arrival.decode, number / 10)

    stream, settings = Stream(StreamForm.HLS, "http://camera.test/1"), QUICK.replace(timeout_s=9)
    for duration_s, end in ((0.5, "the requested duration was reached"), (None, "the source has ended")):
        chosen = settings.replace(duration_s=duration_s)
        with LiveReader(stream, chosen, name="it", connect=lambda *_: Source(7)) as reader:
            times = [one.frame.time_s for samples in reader.segments() for one in samples]
        assert reader.state.end == end and reader.state.gap_count == 0
        assert times[-1] == pytest.approx(0.4 if duration_s else 0.6, abs=0.11)


def test_models_are_recorded_as_they_were_loaded(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert models.models_hash == selection.models_hash(Settings())

    def gone(settings: Settings) -> str:
        raise ModelError("its description has been changed since")

    models = dataclasses.replace(blind(), models_hash="as it was")
    for module in (live_run, job, selection):
        monkeypatch.setattr(module, "models_hash", gone, raising=False)

    def reader(*args: Any, **kwargs: Any) -> LiveReader:
        return LiveReader(*args, **kwargs | {"connect": lambda *_: _Camera(3)})

    monkeypatch.setattr(live_run, "LiveReader", reader)
    video = fetched("0", tmp_path)
    how: dict[str, Any] = {"on_event": lambda event: None, "cancelled": lambda: False, "timings": {}}
    run = run_live(video, tmp_path, QUICK, models, **how)
    assert run.info["models_hash"] == "as it was"


@pytest.mark.parametrize(("sources", "code"), [(("0",), 0), (("0", "1", "2"), 1)])
def test_sources_not_begun_are_counted(
    sources: tuple[str, ...],
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def analyzed(
        items: Iterator[str], *args: object, on_event: Any, cancelled: Any, **how: object
    ) -> Iterator[Any]:
        next(items)
        on_event(LiveStarted("1", "camera 0", None, False))
        come(signal.SIGINT)
        assert cancelled()
        finished = Finished("1", "camera 0", str(tmp_path), complete=True)
        info: Any = {"complete": True}
        vars(finished)["run"] = Run(tmp_path, info)  # as if it had been opened
        yield finished

    monkeypatch.setattr(api, "analyze_all", analyzed)
    how = {"again": False, "show": False, "quiet": True, "as_json": False}
    assert cli._run(sources, Settings(), tmp_path, **how) == code
    assert ("2 sources were not started" in capsys.readouterr().err) == bool(code)


def test_live_entry_of_a_playlist_is_refused(server: Server, hls: Path, tmp_path: Path) -> None:
    playlist = LiveHls(server, hls)
    form = {"url": playlist.url, "ext": "mp4", "protocol": "m3u8_native"}
    on_air = {"title": "On air", "is_live": True, "formats": [form]}
    listed = [{"_type": "url", "url": "https://scripted.test/tv"}, {"_type": "url", "url": playlist.url}]
    site = scripted(tv=on_air, list=lambda name: {"_type": "playlist", "id": name, "entries": listed})
    chosen = QUICK.replace(playlist=True, timeout_s=20)
    fetcher = Fetcher(chosen, want_audio=False, live=True, extractors=(site,))
    items = list(fetcher.resolve("https://scripted.test/list"))
    assert len(items) == 2
    for item in items:
        with pytest.raises(SourceError) as caught:
            fetcher.fetch(item, tmp_path)
        assert caught.value.kind is SourceErrorKind.LIVE
    (alone,) = fetcher.resolve("https://scripted.test/tv")
    assert fetcher.fetch(alone, tmp_path).kind is MediaKind.LIVE


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("rtsp://user:s3c/ret@camera.test/x", "rtsp://camera.test/x"),
        ("RTSPS://user:s3c?r#e@t@camera.test/x", "RTSPS://camera.test/x"),
        ("rtsp://a:s3c@ret/t@camera.test/x", "rtsp://camera.test/x"),
        ("http://user:s3c/ret@camera.test:80/x", "http://camera.test:80/x"),
        ("http://user:s3cret@[::1]:80/x", "http://[::1]:80/x"),
        (
            "http://camera.test/v?LoginUse=s3c&loginpas=s3c&a=1",
            "http://camera.test/v?LoginUse=***&loginpas=***&a=1",
        ),
        ("http://camera.test/v?token=s3c#t", "http://camera.test/v?token=***#t"),
        ("http://page.test:8080/@name/1", "http://page.test:8080/@name/1"),
        ("https://page.test/watch?v=a:b@c", "https://page.test/watch?v=a:b@c"),
        ("/videos/a:b@c?key=d", "/videos/a:b@c?key=d"),
    ],
)
def test_logins_are_not_shown_however_they_are_written(source: str, shown: str) -> None:
    assert redacted(source) == shown


def test_login_in_the_query_is_used_and_never_written(
    server: Server, numbers: list[bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    camera = Mjpeg(server, numbers)
    answer = server.routes["/video"]
    asked: list[str] = []

    def noted(handler: Handler) -> None:
        asked.append(handler.path)
        answer(handler)

    server.routes["/video"] = noted
    address = f"{camera.url}?user=admin&pwd=s3cret"
    with caplog.at_level("INFO"):
        run = analyze_live(address, tmp_path, QUICK.replace(duration_s=0.3))
        with pytest.raises(SourceError):  # what is no stream is asked for by yt-dlp
            fetched(f"{server.url('/none')}?user=admin&pwd=s3cret", tmp_path)
        with pytest.raises(SourceError, match="as %2F") as caught:
            fetched("http://user:s3c/ret@camera.test/x", tmp_path)
    assert set(asked) == {"/video?user=admin&pwd=s3cret"} and run.info["url"].endswith(
        "/video?user=***&pwd=***"
    )
    text = (run.folder / "run.json").read_text("utf-8")
    assert not [one for one in (text, caplog.text, str(caught.value)) if "s3c" in one or "admin" in one]
