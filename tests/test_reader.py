from __future__ import annotations

import math
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage

from analyzer.errors import MediaError, MediaErrorKind, SourceError, SourceErrorKind
from analyzer.media.frame import Frame, Scaler, Still
from analyzer.media.geometry import Geometry, Orientation
from analyzer.media.images import ImageReader
from analyzer.media.read_report import joined_report
from analyzer.media.readahead import read_ahead
from analyzer.media.reader import VideoReader
from analyzer.media.sampling import SamplingPlan
from analyzer.settings import Settings
from testkit.media import (
    flip_bytes,
    noisy,
    number_of,
    numbered,
    png_bomb,
    remux,
    write_packets,
    write_sound,
    write_video,
)

X264 = {"preset": "ultrafast", "bf": "3", "g": "25"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("videos")


@pytest.fixture(scope="module")
def plain(folder: Path) -> Path:
    """10 s, 30 fps, B-frames, the index in front."""
    options = {"movflags": "faststart"}
    return write_video(folder / "plain.mp4", noisy(numbered(300)), options=X264, container_options=options)


def numbers(path: Path, settings: Settings | None = None) -> list[int]:
    with VideoReader(path, settings or Settings()) as reader:
        return [number_of(frame.image()) for frame in reader.frames()]


def refusal(path: Path, settings: Settings | None = None) -> MediaError:
    """The error of reading a file through."""
    with pytest.raises(MediaError) as caught, VideoReader(path, settings or Settings()) as reader:
        for _ in reader.frames():
            pass
    text = str(caught.value)
    assert path.name[:20] in text
    assert "\n" not in text and "Errno" not in text
    return caught.value


# Times


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_variable_rate_with_b_frames_keeps_the_source_times(tmp_path: Path, name: str) -> None:
    gaps = [0.033, 0.066, 0.2, 0.033, 0.033]
    times = np.concatenate([[0], np.cumsum(gaps * 12)])
    path = write_video(tmp_path / name, numbered(len(times)), times_s=list(times), options=X264)
    with VideoReader(path, Settings()) as reader:
        frames = list(reader.frames())
    assert [number_of(frame.image()) for frame in frames] == list(range(len(times)))
    np.testing.assert_allclose([frame.time_s for frame in frames], times, atol=1e-3)
    assert reader.report().repaired_times == 0
    assert reader.report().complete


def test_transport_stream_starts_at_zero(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.ts", numbered(30), options=X264, container_options={"muxdelay": "0.7"})
    with av.open(str(path)) as container:
        assert container.start_time > 1_000_000 or container.start_time > 0
    with VideoReader(path, Settings()) as reader:
        assert [frame.time_s for frame in reader.frames()] == pytest.approx(np.arange(30) / 30, abs=1e-4)


def test_video_that_starts_after_the_sound_keeps_its_distance(tmp_path: Path) -> None:
    times = 2 + np.arange(30) / 30
    path = write_video(tmp_path / "a.mp4", numbered(30), times_s=list(times), options=X264, audio_s=4)
    with VideoReader(path, Settings()) as reader:
        frames = list(reader.frames())
        assert reader.info.audio_codec == "aac"
    np.testing.assert_allclose([frame.time_s for frame in frames], times, atol=1e-3)
    assert number_of(frames[0].image()) == 0
    assert reader.report().complete, reader.report().reason


def joined(folder: Path) -> Path:
    """Two recordings in one file: the times jump back and the size changes."""
    first = write_video(folder / "1.ts", numbered(60, 64, 48), options=X264)
    second = write_video(folder / "2.ts", numbered(60, 128, 96), options=X264)
    path = folder / "joined.ts"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    return path


def test_joined_recordings_go_on_in_time_and_change_size(tmp_path: Path) -> None:
    with VideoReader(joined(tmp_path), Settings()) as reader:
        frames = list(reader.frames())
    times = np.array([frame.time_s for frame in frames])
    np.testing.assert_allclose(times, np.arange(120) / 30, atol=1e-3)
    assert [(f.width, f.height) for f in frames] == [(64, 48)] * 60 + [(128, 96)] * 60
    assert frames[-1].image().shape == (96, 128, 3)
    assert {f.scaled(32, 24).shape for f in frames} == {(24, 32, 3)}
    (jump,) = reader.info.clock_jumps
    assert (jump.at_s, jump.by_s) == (2.0, pytest.approx(-2.0, abs=1e-3))
    assert reader.report().repaired_times == 0


def test_segments_behind_a_jump_in_time_are_found(tmp_path: Path) -> None:
    assert_segments_alone_equal_one_pass(joined(tmp_path), Settings(segment_s=1.1))


def test_duplicate_times_are_pulled_apart(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", numbered(30), options={"preset": "ultrafast", "bf": "0"})

    def double(index: int, packet: av.Packet) -> None:
        packet.pts = packet.pts + 12_000 - 3000 * (index in (10, 11, 20))

    path = remux(tmp_path / "b.mp4", source, double)
    with VideoReader(path, Settings()) as reader:
        frames = list(reader.frames())
    times = np.array([frame.time_s for frame in frames])
    assert (np.diff(times) > 0).all()
    np.testing.assert_allclose(times, np.arange(30) / 30, atol=0.034)
    assert [number_of(frame.image()) for frame in frames] == list(range(30))
    assert reader.report().repaired_times == 2


# Sampling


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
@pytest.mark.parametrize(
    ("rate", "fps"), [(30, 5), (30, 6), (24, 6), (25, 5), (29.97, 5), (23.976, 5), (60, 7), (24, 1)]
)
def test_samples_are_the_first_of_each_cell(tmp_path: Path, name: str, rate: float, fps: float) -> None:
    exact = Fraction(rate).limit_denominator(1001)
    count = round(rate * 6)
    tick = {} if name != "a.avi" else {"tick": 1 / exact}
    options = {"preset": "ultrafast", "g": "12", "bf": "2"}
    path = write_video(
        tmp_path / name,
        numbered(count, 32, 16),
        fps=rate,
        times_s=[float(i / exact) for i in range(count)],
        options=options,
        **tick,  # type: ignore[arg-type]
    )
    with VideoReader(path, Settings(fps=fps)) as reader:
        chosen = [number_of(sample.frame.image()) for sample in reader.samples()]
    cells = [math.floor(i / exact * Fraction(fps)) for i in range(count)]
    assert chosen == [i for i in range(count) if i == 0 or cells[i] != cells[i - 1]]
    if rate == 30 and fps == 5:
        assert chosen == list(range(0, count, 6))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_five_a_second_of_thirty_is_three_hundred_a_minute(tmp_path: Path, name: str) -> None:
    path = write_video(tmp_path / name, numbered(1800, 32, 16), options=X264)
    with VideoReader(path, Settings(fps=5)) as reader:
        samples = [(number_of(s.frame.image()), s.segment, s.index) for s in reader.samples()]
    assert samples == [(6 * i, 0, i) for i in range(300)]
    # What no sample needs is not even decoded.
    assert reader.report().frames < 1500


@pytest.mark.parametrize("length", [1.0, 1.1, 2.3, 60.0, 61.7])
def test_neighboring_segments_meet_exactly(length: float) -> None:
    plan = SamplingPlan.of(Settings(segment_s=length, start_s=0.3))
    for segment in range(500):
        bound = plan.bound(segment)
        assert plan.segment(bound) == segment
        assert plan.segment(math.nextafter(bound, math.inf)) == segment
        assert plan.segment(math.nextafter(bound, -math.inf)) == segment - 1


def test_every_nth_frame_counts_anew_in_each_segment(plain: Path) -> None:
    with VideoReader(plain, Settings(every=7, segment_s=2)) as reader:
        samples = [(number_of(s.frame.image()), s.segment, s.index) for s in reader.samples()]
    assert samples == [(60 * k + 7 * i, k, i) for k in range(5) for i in range(9)]
    assert reader.report().frames == 300


def test_keyframes_alone_are_decoded(plain: Path) -> None:
    with VideoReader(plain, Settings(keyframes=True)) as reader:
        samples = list(reader.samples())
    assert [number_of(s.frame.image()) for s in samples] == list(range(0, 300, 25))
    assert all(s.frame.keyframe for s in samples)
    report = reader.report()
    assert (report.frames, report.packets, report.complete) == (12, 300, True)


def test_range_is_half_open_for_samples_and_frames(plain: Path) -> None:
    with VideoReader(plain, Settings(start_s=2, end_s=3.5)) as reader:
        assert [number_of(f.image()) for f in reader.frames()] == list(range(60, 105))
        assert [number_of(f.image()) for f in reader.frames(0, 2.1)] == [60, 61, 62]
        assert [number_of(f.image()) for f in reader.frames(3.4, 99)] == [102, 103, 104]
        samples = [(number_of(s.frame.image()), s.segment) for s in reader.samples()]
    assert samples == [(60 + 6 * i, 0) for i in range(8)]
    with VideoReader(plain, Settings(start_s=50)) as reader:
        assert list(reader.samples()) == []
        assert reader.report().complete


def everything(reader: VideoReader, *bounds: float) -> list[tuple[object, ...]]:
    return [
        (s.segment, s.index, s.frame.time_s, s.frame.keyframe, s.frame.image().tobytes())
        for s in reader.samples(*bounds)
    ]


def assert_segments_alone_equal_one_pass(path: Path, settings: Settings) -> None:
    with VideoReader(path, settings) as reader:
        whole = everything(reader)
        assert reader.report().complete, reader.report().reason
        last = int(str(whole[-1][0]))
        alone = []
        for segment in reversed(range(last + 1)):
            alone = everything(reader, *reader.segment_bounds(segment)) + alone
            assert reader.report().complete, reader.report().reason
        pixels = {frame.time_s: frame.image().tobytes() for frame in reader.frames()}
    assert whole == alone
    assert all(pixels[float(str(sample[2]))] == sample[4] for sample in whole)


OPEN_GOP = {"preset": "ultrafast", "x264-params": "open-gop=1:keyint=20:bframes=4:scenecut=0:b-adapt=0"}
PYRAMID = {"preset": "ultrafast", "x264-params": "keyint=50:bframes=16:b-adapt=0:b-pyramid=normal"}
REFRESH = {"preset": "ultrafast", "x264-params": "intra-refresh=1:keyint=20:bframes=0"}
HEVC = {"preset": "ultrafast", "x265-params": "keyint=20:bframes=4:open-gop=1:log-level=none"}


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", X264),
        ("a.mkv", "libx264", X264),
        ("a.ts", "libx264", X264),
        ("a.flv", "libx264", X264),
        ("a.avi", "libx264", X264),
        ("open.mp4", "libx264", OPEN_GOP),
        ("open.ts", "libx264", OPEN_GOP),
        ("pyramid.mkv", "libx264", PYRAMID),
        ("refresh.mp4", "libx264", REFRESH),
        ("one-keyframe.mp4", "libx264", {**X264, "g": "1000"}),
        ("one-keyframe.ts", "libx264", {**X264, "g": "1000"}),
        ("hevc.mp4", "libx265", HEVC),
        ("hevc.ts", "libx265", HEVC),
        ("vp9.webm", "libvpx-vp9", {"g": "20", "cpu-used": "8", "deadline": "realtime"}),
        ("a.gif", "gif", {}),
    ],
)
def test_segment_alone_equals_one_pass(folder: Path, name: str, codec: str, options: dict[str, str]) -> None:
    path = write_video(
        folder / f"alone-{name}",
        noisy(numbered(120, 64, 48)),
        codec=codec,
        options=options,
        fps=25 if codec == "gif" else 30,
        pix_fmt="rgb8" if codec == "gif" else "yuv420p",
        tick=Fraction(1, 30) if name == "a.avi" else Fraction(1, 90_000),
    )
    for settings in (
        Settings(fps=5, segment_s=1),
        Settings(fps=7, segment_s=1.3, start_s=0.37),
        Settings(fps=30, segment_s=1.7),
        Settings(every=7, segment_s=1.1),
        Settings(keyframes=True, segment_s=1.9),
    ):
        assert_segments_alone_equal_one_pass(path, settings)


@pytest.mark.parametrize("codec", ["mpeg2video", "mpeg4"])
@pytest.mark.parametrize("name", ["a.mp4", "a.ts", "a.mpg", "a.avi"])
def test_segment_alone_equals_one_pass_in_older_codecs(tmp_path: Path, name: str, codec: str) -> None:
    if (name, codec) == ("a.mpg", "mpeg4"):
        pytest.skip("not a combination that exists")
    path = write_video(
        tmp_path / name,
        noisy(numbered(90, 64, 48)),
        codec=codec,
        fps=25,
        tick=Fraction(1, 25),
        options={"g": "12", "bf": "2", "q": "2"},
    )
    assert numbers(path) == list(range(90))
    assert_segments_alone_equal_one_pass(path, Settings(fps=5, segment_s=1))
    assert_segments_alone_equal_one_pass(path, Settings(every=4, segment_s=1.3))


# Pictures


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_rotation_is_applied_once(tmp_path: Path, turn: int) -> None:
    upright = np.zeros((96, 160, 3), np.uint8)
    upright[:48, :80] = 255  # top left
    stored = np.rot90(upright, turn // 90)
    path = write_video(tmp_path / "a.mp4", [stored] * 5, rotation_deg=turn, options={"preset": "ultrafast"})
    with VideoReader(path, Settings()) as reader:
        assert (reader.info.width, reader.info.height) == (160, 96)
        assert reader.info.geometry is not None and reader.info.geometry.orientation.turn_deg == turn
        for frame in reader.frames():
            assert (frame.width, frame.height) == (160, 96)
            for image in (frame.image(), frame.scaled(80, 48)):
                height, width = image.shape[:2]
                corners = image[height // 4 :: height // 2, width // 4 :: width // 2].mean(axis=2) > 127
                assert corners.tolist() == [[True, False], [False, False]]
                assert image.flags.c_contiguous and image.flags.writeable
            assert frame.image().shape == (96, 160, 3)
            assert frame.scaled(80, 48).shape == (48, 80, 3)


@pytest.mark.parametrize(
    ("name", "codec", "kind", "options"),
    [
        ("odd.webm", "libvpx-vp9", ("yuv420p", 65, 49), {"cpu-used": "8", "deadline": "realtime"}),
        ("odd.mp4", "libx264", ("yuv444p", 65, 49), X264),
        ("ten-bit.mp4", "libx265", ("yuv420p10le", 64, 48), HEVC),
        ("av1.mp4", "libaom-av1", ("yuv420p", 64, 64), {"cpu-used": "8", "usage": "realtime"}),
        ("alpha.webm", "libvpx-vp9", ("yuva420p", 64, 48), {"cpu-used": "8", "deadline": "realtime"}),
        ("alpha.mov", "png", ("rgba", 65, 49), {}),
        ("gray.mkv", "ffv1", ("gray", 64, 48), {}),
        ("yuvj.avi", "mjpeg", ("yuvj420p", 64, 48), {}),
        ("interlaced.mp4", "libx264", ("yuv420p", 64, 64), {**X264, "flags": "+ildct+ilme"}),
        ("prores.mov", "prores_ks", ("yuv422p10le", 64, 48), {}),
        ("a.gif", "gif", ("rgb8", 64, 48), {}),
        ("a.apng", "apng", ("rgb24", 64, 48), {}),
        ("raw.avi", "rawvideo", ("bgr24", 64, 48), {}),
    ],
)
def test_kinds_of_video(
    tmp_path: Path, name: str, codec: str, kind: tuple[str, int, int], options: dict[str, str]
) -> None:
    pix_fmt, *size = kind
    if codec == "libaom-av1" and codec not in av.codec.codecs_available:
        codec, options = "libsvtav1", {"preset": "12", "svtav1-params": "lp=1"}
    path = write_video(
        tmp_path / name,
        numbered(20, *size),
        fps=10,
        codec=codec,
        pix_fmt=pix_fmt,
        options=options,
        format="apng" if name.endswith(".apng") else None,
        tick=Fraction(1, 10) if codec in ("mjpeg", "rawvideo") else Fraction(1, 90_000),
    )
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
    with VideoReader(path, Settings()) as reader:
        frames = list(reader.frames())
        assert [reader.info.width, reader.info.height] == size
    assert [number_of(frame.image()) for frame in frames] == list(range(20))
    assert [number_of(frame.scaled(32, 24)) for frame in frames] == list(range(20))
    assert frames[0].image().shape == (size[1], size[0], 3)
    assert [frame.time_s for frame in frames] == pytest.approx(np.arange(20) / 10, abs=1e-3)
    assert reader.report().complete


def test_info(plain: Path) -> None:
    with VideoReader(plain, Settings()) as reader:
        info = reader.info
    assert (info.width, info.height) == (160, 96) and info.geometry is not None and info.geometry.plain
    assert info.duration_s == pytest.approx(10, abs=0.01)
    assert (info.fps, info.codec, info.pix_fmt, info.audio_codec) == (30, "h264", "yuv420p", None)
    assert "mp4" in info.container
    assert info.recorded_at is None


def test_time_of_the_recording_is_the_containers(tmp_path: Path) -> None:
    told = {"creation_time": "2024-05-01T12:20:30+02:00"}
    path = write_video(tmp_path / "camera.mp4", numbered(10), metadata=told)
    with VideoReader(path, Settings()) as reader:
        assert reader.info.recorded_at == "2024-05-01T10:20:30+00:00"


@pytest.mark.parametrize(
    ("size", "mark", "full", "matrix"),
    [
        ((1920, 1080), 1, False, (0.2126, 0.0722)),
        ((1920, 1080), 2, False, (0.2126, 0.0722)),
        ((640, 480), 2, False, (0.299, 0.114)),
        ((1920, 1080), 6, False, (0.299, 0.114)),
        ((640, 480), 2, True, (0.299, 0.114)),
    ],
)
def test_colors_follow_matrix_and_range(
    tmp_path: Path, size: tuple[int, int], mark: int, full: bool, matrix: tuple[float, float]
) -> None:
    red, green, blue = (channel / 255 for channel in (200, 60, 40))
    kr, kb = matrix
    y = kr * red + (1 - kr - kb) * green + kb * blue
    cb, cr = (blue - y) / (2 - 2 * kb), (red - y) / (2 - 2 * kr)
    low, luma, chroma = (0, 255, 255) if full else (16, 219, 224)
    picture = av.VideoFrame(*size, "yuv420p")
    for plane, value in zip(
        picture.planes, (low + luma * y, 128 + chroma * cb, 128 + chroma * cr), strict=True
    ):
        plane.update(bytes([round(value)]) * plane.buffer_size)
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=1)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.colorspace = mark
        stream.codec_context.color_range = 2 if full else 1
        picture.pts, picture.colorspace, picture.color_range = 0, mark, 2 if full else 1
        container.mux(stream.encode(picture))
        container.mux(stream.encode())
    with VideoReader(tmp_path / "a.mkv", Settings()) as reader:
        frame = next(iter(reader.frames()))
        for image in (frame.image(), frame.scaled(320, 180), frame.reduced(320, 180).scaled(320, 180)):
            np.testing.assert_allclose(image[5, 5], (40, 60, 200), atol=2)


def test_scaling_averages_and_does_not_alias(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (480, 640, 1)).repeat(3, axis=2).astype(np.uint8)
    path = write_video(tmp_path / "a.mkv", [picture], codec="ffv1", pix_fmt="yuv444p")
    with VideoReader(path, Settings()) as reader:
        frame = next(iter(reader.frames()))
    exact = cv2.resize(frame.image(), (160, 120), interpolation=cv2.INTER_AREA).astype(float)
    assert np.abs(frame.scaled(160, 120) - exact).mean() < 1.5
    assert frame.scaled(1280, 960).shape == (960, 1280, 3)


@pytest.mark.parametrize(
    ("size", "pix_fmt", "wanted", "stored"),
    [
        ((1920, 1080), "yuv420p", (640, 384), (960, 540)),
        ((3840, 2160), "yuvj420p", (640, 384), (960, 540)),
        ((1280, 720), "yuv420p", (640, 384), (1280, 720)),  # half would be too low
        ((640, 360), "yuv420p", (64, 32), (160, 90)),  # for the signature
        ((1282, 1080), "yuv420p", (320, 192), (1282, 1080)),  # half its color samples would be half pixels
        ((1920, 1080), "yuv444p", (640, 384), (1920, 1080)),
        ((1920, 1080), "bgr24", (640, 384), (1920, 1080)),
    ],
)
def test_frames_are_halved_while_enough_pixels_are_left(
    size: tuple[int, int], pix_fmt: str, wanted: tuple[int, int], stored: tuple[int, int]
) -> None:
    random = np.random.default_rng(1)
    picture = cv2.resize(random.integers(30, 220, (27, 48, 3), dtype=np.uint8), size)
    decoded = av.VideoFrame.from_ndarray(picture, "bgr24").reformat(format=pix_fmt)
    frame = Frame(1.5, True, decoded, Geometry(*size), Scaler())
    reduced = frame.reduced(*wanted)
    assert (reduced._decoded.width, reduced._decoded.height) == stored
    assert (reduced is frame) == (size == stored)
    assert (reduced.time_s, reduced.geometry) == (frame.time_s, frame.geometry)
    exact = cv2.resize(frame.image(), wanted, interpolation=cv2.INTER_AREA).astype(int)
    off, full_off = (np.abs(one.scaled(*wanted) - exact).mean() for one in (reduced, frame))
    assert off < full_off + 0.5
    assert reduced.signature().shape == frame.signature().shape


def test_one_frame_and_many_a_second(tmp_path: Path) -> None:
    one = write_video(tmp_path / "one.mp4", numbered(1), options=X264)
    with VideoReader(one, Settings()) as reader:
        assert [(s.segment, s.index, s.frame.time_s) for s in reader.samples()] == [(0, 0, 0.0)]
        assert reader.report().complete
    many = write_video(tmp_path / "many.mkv", numbered(480, 32, 16), fps=240, options=X264)
    with VideoReader(many, Settings(fps=240)) as reader:
        assert [number_of(s.frame.image()) for s in reader.samples()] == list(range(480))


# Hostile and damaged files


def test_index_in_front_and_cut_off(plain: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.mp4"
    data = plain.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    for settings in (Settings(), Settings(keyframes=True)):
        with VideoReader(path, settings) as reader:
            count = len(list(reader.samples()))
            report = reader.report()
        assert count > (25 if not settings.keyframes else 5)
        assert not report.complete
        assert "ends at" in report.reason and "of 10.0 s declared" in report.reason
    with VideoReader(path, Settings(segment_s=2)) as reader:
        assert len(list(reader.samples(*reader.segment_bounds(0)))) == 10
        assert reader.report().complete
        assert list(reader.samples(*reader.segment_bounds(4))) == []
        assert not reader.report().complete
    with VideoReader(path, Settings(end_s=4)) as reader:
        assert len(list(reader.samples())) == 20
        assert reader.report().complete


def test_index_at_the_end_and_cut_off(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", numbered(60), options=X264)
    path.write_bytes(path.read_bytes()[:-200])
    error = refusal(path)
    assert error.kind == MediaErrorKind.DAMAGED
    assert "index" in str(error)


def test_long_last_frame_is_not_damage(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", numbered(30), options={"preset": "ultrafast", "bf": "0"})

    def last_for_long(index: int, packet: av.Packet) -> None:
        if index == 29:
            packet.duration = 20 * 90_000

    path = remux(tmp_path / "b.mp4", source, last_for_long)
    with VideoReader(path, Settings()) as reader:
        assert reader.info.duration_s == pytest.approx(21, abs=0.1)
        assert len(list(reader.frames())) == 30
        assert reader.report().complete, reader.report().reason


@pytest.mark.parametrize("name", ["a.mkv", "a.ts", "a.avi", "a.flv"])
def test_other_formats_cut_off(tmp_path: Path, name: str) -> None:
    tick = Fraction(1, 30) if name == "a.avi" else Fraction(1, 90_000)
    options = {**X264, "bf": "0"}
    path = write_video(tmp_path / name, noisy(numbered(180)), options=options, tick=tick)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with VideoReader(path, Settings()) as reader:
        times = [frame.time_s for frame in reader.frames()]
    assert 60 < len(times) < 120
    # A transport stream does not declare its length.
    assert reader.report().complete == (name == "a.ts"), reader.report()


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi"])
def test_flipped_bytes_cost_few_samples(tmp_path: Path, name: str) -> None:
    tick = Fraction(1, 30) if name == "a.avi" else Fraction(1, 90_000)
    options = {"preset": "ultrafast", "g": "15", "bf": "2", "crf": "18"}
    path = write_video(tmp_path / name, noisy(numbered(300, 320, 192)), options=options, tick=tick)
    flip_bytes(path, 200, 0.45, 0.5)
    with VideoReader(path, Settings(fps=30)) as reader:
        samples = [sample.frame.time_s for sample in reader.samples()]
    assert len(samples) >= 285
    assert (np.diff(samples) > 0).all()
    assert reader.report().bad_packets > 0
    assert reader.report().complete


@pytest.mark.parametrize(("name", "options"), [("a.mp4", {"g": "12", "bf": "2"}), ("a.mkv", {"g": "70"})])
def test_damage_counts_where_it_is(name: str, options: dict[str, str], tmp_path: Path) -> None:
    """In a segment, whichever pass reads it; what is decoded on the way to its start does not count."""
    images = noisy(numbered(200, 320, 192))
    path = write_video(
        tmp_path / name, images, fps=20, options={"preset": "ultrafast", "crf": "18"} | options
    )
    flip_bytes(path, 60, 0.1, 0.9)
    settings, names = Settings(segment_s=1.5, threads=1), ("frames", "bad_packets", "packets", "last_s")
    with VideoReader(path, settings) as whole, VideoReader(path, settings) as parts:
        for _ in whole.samples():
            pass
        segments = [whole.segment_report(number) for number in range(7)]
        for number in (3, 0, 6, 1, 5, 2, 4):
            for _ in parts.samples(*parts.segment_bounds(number)):
                pass
            assert parts.segment_report(number) == segments[number]
            assert {one: getattr(parts.report(), one) for one in names} == {
                one: getattr(segments[number], one) for one in names
            }
        joined = joined_report(path, [*segments[:4], whole.report_without(range(4))])
        assert joined == whole.report() and joined.packets == 200 and joined.bad_packets > 10
        assert sum(segment.bad_packets > 0 for segment in segments) > 4


def test_mostly_damaged_is_an_error(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", noisy(numbered(100)), options={"preset": "ultrafast", "g": "10"})
    with av.open(str(source)) as container:
        sizes = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(source.read_bytes())
    for pos, size in sizes[20:]:
        data[pos : pos + size] = b"\xff" * size
    source.write_bytes(data)
    assert refusal(source).kind == MediaErrorKind.DAMAGED
    with VideoReader(source, Settings(segment_s=1)) as reader:  # a segment is left to its report
        list(reader.samples(*reader.segment_bounds(2)))
        assert not reader.report().complete


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.avi"])
def test_no_frames(plain: Path, tmp_path: Path, name: str) -> None:
    empty = remux(tmp_path / name, plain, lambda index, packet: False)
    assert refusal(empty).kind == MediaErrorKind.NO_FRAMES


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    assert refusal(write_sound(tmp_path / "a.m4a", 0.5)).kind == MediaErrorKind.NO_VIDEO
    cover = cv2.imencode(".png", np.zeros((16, 16, 3), np.uint8))[1].tobytes()
    covered = write_sound(tmp_path / "b.mp3", 0.5, cover=cover)
    with av.open(str(covered)) as container:
        assert container.streams.video
    assert refusal(covered).kind == MediaErrorKind.NO_VIDEO


def test_anything_but_a_file_is_refused_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    began = time.monotonic()
    for path in (pipe, Path("/dev/zero"), tmp_path):
        assert refusal(path).kind == MediaErrorKind.NOT_MEDIA
        with pytest.raises(MediaError):
            ImageReader([path], Settings())
    assert time.monotonic() - began < 20
    (tmp_path / "empty.mp4").touch()
    assert refusal(tmp_path / "empty.mp4").kind == MediaErrorKind.EMPTY
    for name in ("missing.mp4", "zero\0byte.mp4", "x" * 300 + ".mp4"):
        with pytest.raises(SourceError) as caught:
            VideoReader(tmp_path / name, Settings())
        assert caught.value.kind == SourceErrorKind.NOT_FOUND
        assert len(str(caught.value)) < 200 and "\0" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.mp4", "a.ts", "a.txt", "a.m3u8", "a.ffconcat"])
def test_text_never_opens_another_file(plain: Path, tmp_path: Path, name: str) -> None:
    sibling = tmp_path / "sibling.mp4"
    sibling.write_bytes(plain.read_bytes())
    segment = write_video(tmp_path / "segment.ts", numbered(30), options=X264)
    before = {path: path.stat().st_atime_ns for path in (sibling, segment)}
    for text in (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\n{segment.name}\n#EXT-X-ENDLIST\n",
        f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\nfile:{segment}\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile {sibling.name}\n",
        f"ffconcat version 1.0\nfile '{sibling}'\n",
        "just some text\n" * 100,
    ):
        path = tmp_path / name
        path.write_text(text)
        assert refusal(path).kind == MediaErrorKind.NOT_MEDIA
        with pytest.raises(MediaError):
            ImageReader([path], Settings())
    assert before == {path: path.stat().st_atime_ns for path in (sibling, segment)}


@pytest.mark.parametrize(
    "name", ["concat:a.mp4|a.mp4", "im%d.png.mp4", "-i.mp4", "a b;c.mp4", "é\n\x1b[31m.mp4"]
)
def test_names_are_only_names(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(plain.read_bytes())
    with VideoReader(Path(name), Settings(end_s=0.2)) as reader:
        assert len(list(reader.frames())) == 6
    Path(name).write_text("text")
    with pytest.raises(MediaError) as caught:
        VideoReader(Path(name), Settings())
    assert str(caught.value).isprintable()


def test_random_bytes_behind_known_beginnings(plain: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    heads = [
        b"",
        b"\x1a\x45\xdf\xa3",
        b"RIFF\0\0\0\0AVI ",
        b"FLV\x01",
        b"GIF89a",
        b"OggS",
        b"\x47",
        b"\0\0\1\xba",
    ]
    heads += [plain.read_bytes()[:n] for n in (12, 40, 700)]
    for index, head in enumerate(heads):
        path = tmp_path / f"{index}.mp4"
        path.write_bytes(head + rng.bytes(20_000))
        assert refusal(path).kind is not MediaErrorKind.EMPTY


def test_heic_and_animated_webp_are_refused_clearly(tmp_path: Path) -> None:
    heic = tmp_path / "a.heic"
    heic.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200))
    assert "HEIC" in str(refusal(heic))
    with pytest.raises(MediaError, match="HEIC"):
        ImageReader([heic], Settings())
    frames = [PillowImage.fromarray(image) for image in numbered(3)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:])
    with pytest.raises(MediaError, match="animated WebP"):
        ImageReader([tmp_path / "a.webp"], Settings())
    assert refusal(tmp_path / "a.webp").kind in (MediaErrorKind.NOT_MEDIA, MediaErrorKind.DAMAGED)


def test_codec_outside_the_list_is_refused(tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "a.avi", numbered(5), codec="utvideo", pix_fmt="yuv420p", tick=Fraction(1, 30)
    )
    error = refusal(path)
    assert error.kind == MediaErrorKind.CODEC
    assert "utvideo" in str(error)


def test_more_pixels_than_allowed(plain: Path, tmp_path: Path) -> None:
    assert refusal(plain, Settings(max_pixels=160 * 96 - 1)).kind == MediaErrorKind.TOO_LARGE
    assert len(numbers(plain, Settings(max_pixels=160 * 96, end_s=0.1))) == 3
    grows = refusal(joined(tmp_path), Settings(max_pixels=10_000))
    assert grows.kind == MediaErrorKind.TOO_LARGE
    assert "128x96" in str(grows)


# The peak is read from /proc where there is one: elsewhere a child begins with that of its parent.
CHILD = """
import re, resource, sys
from pathlib import Path
from analyzer.errors import MediaError
from analyzer.media.images import ImageReader
from analyzer.media.read_report import joined_report
from analyzer.media.reader import VideoReader
from analyzer.settings import Settings

def peak_kb():
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(re.search(r"VmHWM:\\s*(\\d+)", status.read_text())[1])

settings = Settings(max_pixels=int(sys.argv[1]))
before = peak_kb()
for name in sys.argv[2:]:
    path = Path(name)
    try:
        reader = ImageReader([path], settings) if path.suffix == ".png" else VideoReader(path, settings)
        list(reader.frames())
        print("read", reader.report().frames)
    except MediaError as error:
        print(error.kind)
print(peak_kb() - before)
"""


def read_in_child(max_pixels: int, *paths: Path) -> tuple[list[str], float]:
    """What became of each file, and by how many MB the memory grew at most."""
    command = [sys.executable, "-W", "error", "-c", CHILD, str(max_pixels), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    *kinds, grown = done.stdout.splitlines()
    return kinds, int(grown) / 1024


def test_decompression_bombs_do_not_fill_the_memory(tmp_path: Path) -> None:
    bomb = png_bomb(16_000)
    assert len(bomb) < 5_000_000
    (tmp_path / "bomb.png").write_bytes(bomb)
    small = cv2.imencode(".png", np.zeros((16, 16, 3), np.uint8))[1].tobytes()
    kinds, grown = read_in_child(
        64_000_000,
        tmp_path / "bomb.png",
        write_packets(tmp_path / "bomb.mov", [bomb, bomb]),
        write_packets(tmp_path / "bomb.avi", [bomb, bomb]),
        write_sound(tmp_path / "cover.mp3", 0.2, cover=bomb),
        write_packets(tmp_path / "later.mov", [small, small, bomb]),
    )
    assert kinds == ["too_large", "too_large", "too_large", "no_video", "read 2"]
    assert grown < 150


def test_too_large_a_video_is_not_decoded(tmp_path: Path) -> None:
    large = [np.zeros((4096, 4096, 3), np.uint8)] * 3
    large[0][::2] = 200
    options = {"preset": "ultrafast", "threads": "1"}
    path = write_video(tmp_path / "a.flv", large, fps=5, options=options)
    assert read_in_child(1_000_000, path)[0] == ["too_large"]
    assert read_in_child(1_000_000, path)[1] < 30


def test_broken_text_in_metadata_is_harmless(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "abcdefgh"
        stream = container.add_stream("libx264", rate=30, options=X264)
        stream.width = stream.height = 16
        stream.pix_fmt = "yuv420p"
        container.mux(stream.encode(av.VideoFrame(16, 16, "yuv420p")))
        container.mux(stream.encode())
    path.write_bytes(path.read_bytes().replace(b"abcdefgh", b"\xff\xfe\xc3\x28\xa0\xa1\xe2\x28"))
    with VideoReader(path, Settings()) as reader:
        assert len(list(reader.frames())) == 1


# Reader


def test_closing_ends_open_iterations(plain: Path) -> None:
    reader = VideoReader(plain, Settings())
    with pytest.raises(RuntimeError):
        reader.report()
    frames = reader.frames()
    next(frames)
    reader.close()
    assert list(frames) == []
    assert not reader.report().complete
    reader.close()
    with pytest.raises(RuntimeError):
        reader.samples()


def test_iterations_do_not_disturb_each_other(plain: Path) -> None:
    with VideoReader(plain, Settings()) as reader:
        pairs = list(zip(reader.frames(), reader.frames(1, 99), strict=False))
    assert [number_of(b.image()) - number_of(a.image()) for a, b in pairs] == [30] * 270


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files as Linux shows them")
def test_no_file_stays_open(plain: Path, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(plain.read_bytes()[:5000])
    before = len(list(Path("/proc/self/fd").iterdir()))
    readers = []
    for _ in range(3):
        readers.append(reader := VideoReader(plain, Settings()))
        next(iter(reader.frames()))
        list(reader.samples(3, 4))
        with pytest.raises(MediaError):
            list(VideoReader(tmp_path / "a.mp4", Settings()).frames())
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the memory in use as Linux shows it")
def test_memory_stays_flat(tmp_path: Path) -> None:
    def used_mb() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20

    path = write_video(tmp_path / "a.mp4", noisy(numbered(60, 640, 480)), options=X264)
    with VideoReader(path, Settings()) as reader:
        for repetition in range(8):
            for frame in reader.frames():
                frame.scaled(320, 240)
            if repetition == 2:
                before = used_mb()
    assert used_mb() - before < 20


# Pictures as a source


def test_each_image_is_a_segment_of_one_sample(tmp_path: Path) -> None:
    paths = []
    for image, name in zip(numbered(5), ("a.jpg", "b.png", "c.webp", "d.bmp", "e.tiff"), strict=True):
        PillowImage.fromarray(image).save(tmp_path / name)
        paths.append(tmp_path / name)
    with ImageReader(tuple(paths), Settings(fps=0.1, segment_s=60)) as reader:
        samples = list(reader.samples())
        assert [number_of(s.frame.image()) for s in samples] == list(range(5))
        assert [(s.frame.time_s, s.segment, s.index) for s in samples] == [(float(i), i, 0) for i in range(5)]
        assert [s.image_name for s in samples] == [path.name for path in paths]
        assert (reader.info.width, reader.info.height, reader.info.duration_s) == (160, 96, 5.0)
        assert reader.report().complete
        alone = [s.image_name for s in reader.samples(*reader.segment_bounds(3))]
        assert alone == ["d.bmp"]
        assert len(list(reader.frames())) == 5
    with ImageReader(paths, Settings(start_s=1, end_s=3)) as reader:
        assert [s.segment for s in reader.samples()] == [1, 2]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, orientation: int) -> None:
    upright = np.zeros((64, 96, 3), np.uint8)
    upright[:32, :48] = 255
    undo = {
        2: (0, True),
        3: (2, False),
        4: (2, True),
        5: (1, True),
        6: (1, False),
        7: (3, True),
        8: (3, False),
    }
    turns, mirrored = undo.get(orientation, (0, False))
    stored = np.rot90(upright[:, ::-1] if mirrored else upright, turns)
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    PillowImage.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.jpg", exif=exif, quality=95)
    with ImageReader([tmp_path / "a.jpg"], Settings()) as reader:
        frame = next(iter(reader.samples())).frame
        assert (reader.info.width, reader.info.height) == (frame.width, frame.height) == (96, 64)
        assert (frame.image()[16::32, 24::48].mean(axis=2) > 127).tolist() == [[True, False], [False, False]]


def test_images_keep_their_colors_and_size(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (1081, 1923, 3)).astype(np.uint8)
    PillowImage.fromarray(image).save(tmp_path / "a.png", compress_level=1)
    with ImageReader([tmp_path / "a.png"], Settings()) as reader:
        frame = next(iter(reader.frames()))
        np.testing.assert_array_equal(frame.image(), image[:, :, ::-1])
        assert frame.scaled(640, 360).shape == (360, 640, 3)


def test_an_unreadable_image_among_several_is_reported(tmp_path: Path) -> None:
    for image, name in zip(noisy(numbered(2)), ("a.png", "c.png"), strict=True):
        PillowImage.fromarray(image).save(tmp_path / name)
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:5000])
    (tmp_path / "d.png").write_text("text")
    paths = [tmp_path / name for name in ("d.png", "a.png", "b.png", "c.png", "gone.png")]
    with ImageReader(paths, Settings()) as reader:
        assert [(s.segment, s.image_name) for s in reader.samples()] == [(1, "a.png"), (3, "c.png")]
        report = reader.report()
    assert (report.frames, report.bad_packets, report.packets, report.complete) == (2, 3, 5, False)
    assert all(name in report.reason for name in ("d.png", "b.png", "gone.png"))
    with pytest.raises(MediaError), ImageReader([tmp_path / "d.png"], Settings()) as reader:
        list(reader.samples())
    with pytest.raises(MediaError), ImageReader([tmp_path / "b.png"], Settings()) as reader:
        list(reader.samples())
    with pytest.raises(MediaError):
        ImageReader([], Settings())


def test_image_above_the_limit(tmp_path: Path) -> None:
    PillowImage.new("RGB", (200, 100)).save(tmp_path / "a.png")
    with pytest.raises(MediaError, match="200x100") as caught:
        ImageReader([tmp_path / "a.png"], Settings(max_pixels=10_000))
    assert caught.value.kind == MediaErrorKind.TOO_LARGE


# Reading ahead


def helpers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "read-ahead"]


class Numbers:
    """Counts up to `stop`, fails at `fail`; remembers how far it went and that it was closed."""

    def __init__(self, stop: int, fail: int = -1) -> None:
        self.stop, self.fail, self.given, self.closed = stop, fail, 0, False

    def __iter__(self) -> Iterator[int]:
        try:
            for number in range(self.stop):
                if number == self.fail:
                    raise MediaError("broken", kind=MediaErrorKind.DAMAGED)
                self.given = number + 1
                yield number
        finally:
            self.closed = True


def test_read_ahead_to_the_end() -> None:
    source = Numbers(1000)
    assert list(read_ahead(source, 3)) == list(range(1000))
    assert source.closed and not helpers()


def test_read_ahead_with_an_error_in_the_source() -> None:
    source = Numbers(10, fail=5)
    got = []
    with pytest.raises(MediaError, match="broken"):
        for number in read_ahead(source, 3):
            got.append(number)
    assert got == list(range(5))
    assert source.closed and not helpers()


def test_read_ahead_with_an_error_in_the_consumer() -> None:
    source = Numbers(1000)
    ahead = read_ahead(source, 3)
    with pytest.raises(ZeroDivisionError):
        for number in ahead:
            _ = 1 / (5 - number)
    ahead.close()
    assert source.closed and not helpers()


def test_read_ahead_stopped_early_is_bounded() -> None:
    source = Numbers(1000)
    iterator = iter(source)
    ahead = read_ahead(iterator, 3)
    assert next(ahead) == 0
    time.sleep(0.05)
    assert len(helpers()) == 1
    assert source.given <= 1 + 3 + 1
    ahead.close()
    assert source.closed and not helpers()


def test_read_ahead_of_a_video(plain: Path) -> None:
    with VideoReader(plain, Settings()) as reader:
        images = ((s.index, s.frame.scaled(80, 48)) for s in reader.samples())
        got = [(index, number_of(image)) for index, image in read_ahead(images, 4)]
        assert got == [(i, 6 * i) for i in range(50)]
        assert reader.report().complete
        for _ in read_ahead(reader.samples(), 4):
            reader.close()  # while the thread reads
    assert not helpers()


def test_coarse_decoding_is_for_samples_alone(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    picture = random.integers(0, 256, (120, 160, 3), dtype=np.uint8)
    images = [np.roll(picture, 3 * number, axis=1) for number in range(30)]
    path = write_video(tmp_path / "a.mp4", images, fps=30, options={"crf": "38"})
    read: dict[bool, list[tuple[float, np.ndarray]]] = {}
    shown: dict[bool, list[np.ndarray]] = {}
    for deblock in (True, False):
        with VideoReader(path, Settings(fps=30, deblock=deblock)) as reader:
            read[deblock] = [(s.frame.time_s, s.frame.image()) for s in reader.samples()]
            shown[deblock] = [frame.image() for frame in reader.frames()]
    assert [time for time, _ in read[True]] == [time for time, _ in read[False]]
    differences = [
        np.abs(a.astype(int) - b).mean() for (_, a), (_, b) in zip(read[True], read[False], strict=True)
    ]
    assert 0.5 < np.mean(differences) < 20
    np.testing.assert_array_equal(shown[True], shown[False])


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuvj420p", "yuv444p", "yuv420p10le"])
def test_crops_from_planes_equal_those_from_the_whole_frame(turn: int, pix_fmt: str) -> None:
    random = np.random.default_rng(1)
    coarse = random.integers(30, 220, (9, 12, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, (192, 144), interpolation=cv2.INTER_CUBIC)
    picture = av.VideoFrame.from_ndarray(smooth, "bgr24").reformat(format=pix_fmt)
    geometry = Geometry(192, 144, orientation=Orientation(turn_deg=turn))
    frame = Frame(0.0, True, picture, geometry, Scaler())
    angle = 0.3
    matrix = np.array([[np.cos(angle), -np.sin(angle), -30], [np.sin(angle), np.cos(angle), -20]]) / 64
    transforms = np.stack([matrix, matrix / 1.7]).astype(np.float32)
    pieces = frame.crop(transforms, [64, 128], 64)
    expected = Still(frame.image()).crop(transforms, [64, 128], 64)
    for piece, other in zip(pieces, expected, strict=True):
        difference = piece.astype(int) - other
        assert piece.shape == other.shape
        # Chroma is interpolated differently, and swscale rounds down: no color differs on the whole.
        assert np.abs(difference).mean() < 2.5
        assert np.abs(difference.mean(axis=(0, 1))).max() < 2


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_crops_of_large_faces_average_every_pixel(factor: int) -> None:
    image = np.random.default_rng(factor).integers(0, 256, (320, 400, 3), np.uint8)
    x, y, size = 32, 24, 32
    side = factor * size
    transform = np.array([[1, 0, -x], [0, 1, -y]], np.float32) / side
    (crop,) = Still(image).crop(transform[None], [side], size)
    shown = image[y : y + side, x : x + side].astype(np.float64)
    mean = shown.reshape(size, factor, size, factor, 3).mean(axis=(1, 3))
    assert np.abs(crop - mean).max() < 2  # halving rounds each time


def test_crops_reach_over_the_borders_of_small_images() -> None:
    image = np.full((5, 3, 3), 200, np.uint8)
    transforms = np.array([[[0.25, 0, 0.25], [0, 0.25, 0.25]], [[0.01, 0, 3], [0, 0.01, 0]]], np.float32)
    inside, outside = Still(image).crop(transforms, [64, 512], 64)
    assert inside[20, 20].tolist() == [200] * 3
    assert not inside[0].any()
    assert not outside.any()
