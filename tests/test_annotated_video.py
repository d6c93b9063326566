"""The annotated video, read back: its times, sound, drawings, and what is left when something fails."""

from __future__ import annotations

import math
import resource
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pandas as pd
import pytest
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

from analyzer.errors import MediaError, OutputError
from analyzer.faces import iou
from analyzer.media.frame import Frame
from analyzer.media.geometry import Geometry
from analyzer.media.images import ImageReader
from analyzer.media.reader import VideoReader
from analyzer.output import encoder
from analyzer.output.annotated import RenderResult, render_images, render_video
from analyzer.output.overlay import Painter, Planes, hide
from analyzer.settings import Settings
from analyzer.util.gender import GENDER_COLORS
from testkit.media import noisy, number_of, numbered, write_video

Image = NDArray[np.uint8]
Box = tuple[float, float, float, float]


def rgb(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


WOMAN, MAN, UNKNOWN = (rgb(GENDER_COLORS[gender]) for gender in ("female", "male", "unknown"))
GRAY = (216, 216, 216)
RATE = 48_000
BT709 = {"x264-params": "colormatrix=bt709"}
"""Options that make a small video one whose pictures need no conversion."""


# --- tables, made by hand ---


def face_table(
    *sightings: tuple[float, int, int, Box], segment: Callable[[float], int] = lambda _: 0
) -> pd.DataFrame:
    """Each sighting: time, tracklet, person, box."""
    rows = [
        (segment(t), round(t * 5), t, *box, 0.9, tracklet, person) for t, tracklet, person, box in sightings
    ]
    names = ["segment", "sample", "time_s", "x1", "y1", "x2", "y2", "score", "tracklet_id", "person_id"]
    return pd.DataFrame(rows, columns=names).astype({"time_s": "float64", "tracklet_id": "int64"})


def sample_table(length_s: float, sizes: Sequence[tuple[float, int, int]], fps: float = 5) -> pd.DataFrame:
    """Samples of a video of these sizes: from when, width, height."""
    times = np.arange(round(length_s * fps)) / fps
    at = np.searchsorted([size[0] for size in sizes], times + 1e-6) - 1
    width, height = np.array(sizes)[at, 1:].astype(int).T
    return pd.DataFrame(
        {"sample": range(len(times)), "time_s": times, "duration_s": 1 / fps, "image": ""}
    ).assign(width=width, height=height)


def people_table(*people: tuple[str, float]) -> pd.DataFrame:
    """Each person: gender, age."""
    return pd.DataFrame(
        {
            "person_id": range(1, len(people) + 1),
            "gender": [gender for gender, _ in people],
            "age_years": [age for _, age in people],
        }
    )


NO_FACES = face_table()
NO_PEOPLE = people_table()
ONE = people_table(("female", 34.0))


def render(
    source: Path,
    target: Path,
    *,
    faces: pd.DataFrame = NO_FACES,
    people: pd.DataFrame = NO_PEOPLE,
    length_s: float = 2.0,
    sizes: Sequence[tuple[float, int, int]] = (),
    audio_path: Path | None = None,
    on_progress: Callable[[float], None] | None = None,
    **changes: object,
) -> RenderResult:
    settings = Settings(**changes)  # type: ignore[arg-type]
    with VideoReader(source, settings) as reader:
        return render_video(
            reader,
            target,
            faces=faces,
            people=people,
            samples=sample_table(length_s, sizes or [(0.0, reader.info.width, reader.info.height)]),
            settings=settings,
            audio_path=audio_path,
            on_progress=on_progress,
        )


# --- reading back ---


def pictures(path: Path) -> list[tuple[float, Image]]:
    """Time and RGB picture of every frame."""
    with av.open(str(path)) as container:
        return [
            (float(frame.pts * frame.time_base), frame.to_ndarray(format="rgb24"))
            for frame in container.decode(video=0)
        ]


def picture_at(path: Path, time_s: float) -> Image:
    return next(image for t, image in pictures(path) if abs(t - time_s) < 1e-3)


def sound(path: Path) -> tuple[float, NDArray[np.float32], int]:
    """When the sound begins, its samples (mono) and its rate; holes are silent."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    rate = frames[0].sample_rate
    begin = float(frames[0].pts * frames[0].time_base)
    parts = [(round((float(f.pts * f.time_base) - begin) * rate), f.to_ndarray()) for f in frames]
    wave = np.zeros(parts[-1][0] + parts[-1][1].shape[-1], np.float32)
    for at, part in parts:
        mono = part.mean(axis=0) if part.dtype == np.float32 else part[0].astype(np.float32) / 32768
        wave[at : at + len(mono)] = mono
    return begin, wave, rate


def payloads(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


def assert_plays(path: Path, width: int, height: int) -> None:
    with av.open(str(path)) as container:
        assert container.format.name.startswith("mov,mp4")
        (stream,) = container.streams.video
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height) == (width, height)
        frames = list(container.decode(video=0))
    assert frames
    assert all(frame.rotation == 0 for frame in frames)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def leftovers(folder: Path, source: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path != source)


def plain(count: int, width: int = 640, height: int = 360, gray: int = 96) -> Iterator[Image]:
    for _ in range(count):
        yield np.full((height, width, 3), gray, np.uint8)


def detail(image: Image) -> float:
    """Variance of the Laplacian: how much fine structure there is."""
    return float(cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var())


def near(image: Image, x: float, y: float, color: Sequence[int], *, within: float = 90) -> bool:
    """Whether a color is to be found around a place (thin lines lose color in coding)."""
    x, y = round(x), round(y)
    around = image[max(0, y - 3) : y + 4, max(0, x - 3) : x + 4].astype(int)
    return bool((np.abs(around - np.array(color)).sum(axis=2) < within).any())


def untouched(image: Image, rect: Box, gray: int = 96) -> bool:
    """Whether there is nothing but gray (thin lines nearby ring a little in coding)."""
    x1, y1, x2, y2 = map(round, rect)
    return bool(np.abs(image[y1:y2, x1:x2].astype(int) - gray).max() < 30)


# --- times and sizes ---


def test_variable_times_are_kept(tmp_path: Path) -> None:
    gaps = [1 / 30, 1 / 15, 1 / 5, 1 / 240, 0.5]
    times = np.cumsum([0.0, *gaps * 6]).round(5).tolist()
    source = write_video(tmp_path / "a.mp4", numbered(len(times)), times_s=times)
    result = render(source, tmp_path / "out.mp4", length_s=5)
    shown = pictures(result.path)
    assert result.frames == len(shown) == len(times)
    assert [number_of(image) for _, image in shown] == list(range(len(times)))
    assert np.abs(np.array([t for t, _ in shown]) - times).max() < 1e-3
    with av.open(str(result.path)) as container:
        stream = container.streams.video[0]
        assert stream.duration * stream.time_base == pytest.approx(times[-1] + gaps[-1], abs=0.01)


def test_cut_begins_at_zero_and_ends_in_time(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", numbered(90), audio_s=3)
    result = render(source, tmp_path / "out.mp4", start_s=0.5, end_s=2.0)
    shown = pictures(result.path)
    assert [number_of(image) for _, image in shown] == list(range(15, 60))
    assert shown[0][0] == pytest.approx(0, abs=1e-3)
    begin, wave, rate = sound(result.path)
    assert begin == pytest.approx(0, abs=0.03)
    assert begin + len(wave) / rate == pytest.approx(1.5, abs=0.05)


def test_odd_size_is_padded_and_colors_stay(tmp_path: Path) -> None:
    colors = [(200, 40, 40), (40, 180, 60), (40, 60, 200), (220, 210, 60)]
    image = np.zeros((49, 65, 3), np.uint8)
    for index, color in enumerate(colors):
        y, x = divmod(index, 2)
        image[y * 24 : 25 + y * 24, x * 32 : 33 + x * 32] = color
    source = write_video(tmp_path / "a.mkv", [image] * 12, codec="ffv1", pix_fmt="bgr0", options={})
    result = render(source, tmp_path / "out.mp4")
    assert (result.width, result.height) == (66, 50)
    assert_plays(result.path, 66, 50)
    shown = pictures(result.path)[6][1].astype(int)
    for index, color in enumerate(colors):
        y, x = divmod(index, 2)
        assert np.abs(shown[12 + 24 * y, 16 + 32 * x] - color).max() < 10
    assert np.abs(shown[10, 65] - colors[1]).max() < 30  # the padding repeats the edge


def test_colors_say_what_they_are(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", plain(5))
    with av.open(str(render(source, tmp_path / "out.mp4").path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (
            1,
            1,
            1,
            1,
        )


def test_size_change_gives_one_size(tmp_path: Path) -> None:
    small = write_video(tmp_path / "1.ts", plain(30, 128, 96, 200), format="mpegts", audio_s=1)
    large = write_video(tmp_path / "2.ts", plain(30, 256, 96, 200), format="mpegts", audio_s=1)
    source = tmp_path / "both.ts"
    source.write_bytes(small.read_bytes() + large.read_bytes())
    result = render(source, tmp_path / "out.mp4")
    assert_plays(result.path, 128, 96)
    shown = pictures(result.path)
    assert len(shown) == 60
    assert (np.diff([t for t, _ in shown]) > 0).all()
    last = shown[-1][1]
    assert last[48, 64].min() > 180, "scaled to the middle"
    assert max(last[8, 64].max(), last[88, 64].max()) < 40, "framed in black"
    begin, wave, rate = sound(result.path)
    assert begin + len(wave) / rate == pytest.approx(shown[-1][0], abs=0.2), "sound goes on after the join"


def test_boxes_follow_a_size_change(tmp_path: Path) -> None:
    parts = [
        write_video(tmp_path / f"{w}.ts", plain(30, w, h), format="mpegts")
        for w, h in ((640, 360), (1280, 360))
    ]
    source = tmp_path / "both.ts"
    source.write_bytes(b"".join(part.read_bytes() for part in parts))
    sightings = [(round(1.2 + 0.2 * k, 1), 0, 1, (800.0, 100.0, 1000.0, 300.0)) for k in range(3)]
    sizes = [(0.0, 640, 360), (1.0, 1280, 360)]
    result = render(source, tmp_path / "out.mp4", faces=face_table(*sightings), people=ONE, sizes=sizes)
    image = pictures(result.path)[42][1]
    # 1280 x 360 lies in 640 x 360 at half its size, 90 below the top.
    assert near(image, 400, 90 + 100, WOMAN)
    assert near(image, 500, 90 + 100, WOMAN)


def test_progress_is_a_share_that_ends_at_one(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", plain(60, 160, 96))
    shares: list[float] = []
    render(source, tmp_path / "out.mp4", start_s=1.0, on_progress=shares.append)
    assert shares == sorted(shares)
    assert shares[0] == pytest.approx(0, abs=0.05)
    assert shares[14] == pytest.approx(0.5, abs=0.06)
    assert shares[-1] == 1.0


def test_range_without_a_picture_writes_nothing(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", plain(10, 160, 96))
    with pytest.raises(MediaError):
        render(source, tmp_path / "out.mp4", start_s=50.0)
    assert leftovers(tmp_path, source) == []


# --- sound ---


def write_clap(
    path: Path,
    *,
    codec: str,
    clap_s: float = 1.0,
    length_s: float = 2.0,
    sound_from_s: float = 0.0,
    sound_to_s: float = 2.0,
    format: str | None = None,
    picture: bool = True,
) -> Path:
    """A white flash of one frame and a click of 5 ms, both at `clap_s`; 30 pictures a second."""
    with av.open(str(path), "w", format=format) as container:
        layout = "stereo" if codec == "vorbis" else "mono"
        sound = container.add_stream(codec, rate=RATE, layout=layout, options={"strict": "experimental"})
        video = container.add_stream("libx264", rate=30) if picture else None
        if video is not None:
            video.width, video.height, video.pix_fmt = 160, 96, "yuv420p"
            for index in range(round(length_s * 30)):
                white = index == round(clap_s * 30)
                frame = av.VideoFrame.from_ndarray(np.full((96, 160, 3), 255 * white, np.uint8), "rgb24")
                frame.pts, frame.time_base = index, Fraction(1, 30)
                container.mux(video.encode(frame))
            container.mux(video.encode())
        times = np.arange(round(sound_from_s * RATE), round(sound_to_s * RATE)) / RATE
        wave = (
            np.where((times >= clap_s) & (times < clap_s + 0.005), np.sin(times * 2 * np.pi * 3000), 0) * 0.8
        )
        for at in range(0, len(wave), 1024):
            part = np.ascontiguousarray(wave[None, at : at + 1024].astype(np.float32))
            heard = av.AudioFrame.from_ndarray(part, "fltp", "mono")
            heard.sample_rate, heard.time_base = RATE, Fraction(1, RATE)
            heard.pts = round(sound_from_s * RATE) + at
            container.mux(sound.encode(heard))
        container.mux(sound.encode())
    return path


def clap_times(path: Path) -> tuple[float, float]:
    """When the flash is seen and when the click is heard."""
    with av.open(str(path)) as container:
        # That of the sources may begin with the run-up of the sound; in streams time begins with the picture.
        zero = 0.0 if path.name.endswith("out.mp4") else container.start_time / 1e6
        if path.suffix == ".ts":
            first = container.streams.video[0]
            zero = float((first.start_time or 0) * first.time_base)
    flash = next(t for t, image in pictures(path) if image.mean() > 127)
    begin, wave, rate = sound(path)
    loud = np.abs(wave)
    return flash - zero, begin - zero + float(np.argmax(loud > loud.max() / 2)) / rate


@pytest.mark.parametrize("sound_from_s", [0.0, 0.3])
@pytest.mark.parametrize("start_s", [0.0, 0.5, 0.71])
@pytest.mark.parametrize(
    "form",
    [
        ("a.mp4", "aac", "copied"),
        ("a.ts", "aac", "copied"),
        ("a.mkv", "libmp3lame", "copied"),
        ("a.mkv", "pcm_s16le", "encoded"),
        ("a.mkv", "libopus", "encoded"),
    ],
)
def test_sound_stays_with_the_picture(
    tmp_path: Path, form: tuple[str, str, str], start_s: float, sound_from_s: float
) -> None:
    name, codec, outcome = form
    source = write_clap(tmp_path / name, codec=codec, sound_from_s=sound_from_s)
    seen, heard = clap_times(source)
    assert heard == pytest.approx(seen, abs=0.03), "the test's own video"
    result = render(source, tmp_path / "out.mp4", start_s=start_s)
    assert result.audio == outcome
    flash, click = clap_times(result.path)
    assert flash == pytest.approx(seen - start_s, abs=0.002)
    assert click == pytest.approx(flash, abs=0.03)
    if outcome == "encoded":
        assert sound(result.path)[0] == pytest.approx(0, abs=0.001), "silence before, no need of an edit list"


@pytest.mark.parametrize("start_s", [0.0, 2.4])
@pytest.mark.parametrize(("codec", "outcome"), [("aac", "copied"), ("mp2", "encoded")])
def test_sound_stays_with_the_picture_over_jumps(
    tmp_path: Path, codec: str, outcome: str, start_s: float
) -> None:
    """Three recordings, each with the stamps of the first; there is a clap in the second."""
    data = b""
    for length_s, clap_s in ((2.5, 9.0), (2.0, 1.0), (2.0, 9.0)):
        part = tmp_path / "part.ts"
        write_clap(part, codec=codec, clap_s=clap_s, length_s=length_s, sound_to_s=length_s)
        data += part.read_bytes()
    joined = tmp_path / "joined.ts"
    joined.write_bytes(data)
    result = render(joined, tmp_path / "out.mp4", start_s=start_s)
    assert result.audio == outcome and result.frames == round((6.5 - start_s) * 30)
    flash, click = clap_times(result.path)
    assert flash == pytest.approx(3.5 - start_s, abs=0.01)
    assert click == pytest.approx(flash, abs=0.03)


def test_sound_of_a_cut_far_into_the_file(tmp_path: Path) -> None:
    for name, codec in (("a.mp4", "aac"), ("a.ts", "aac"), ("a.mkv", "flac")):
        source = write_clap(tmp_path / name, codec=codec, clap_s=6.5, length_s=7, sound_to_s=7)
        seen, _ = clap_times(source)
        flash, click = clap_times(render(source, tmp_path / f"{name}.out.mp4", start_s=6.0).path)
        assert flash == pytest.approx(seen - 6.0, abs=0.002)
        assert click == pytest.approx(flash, abs=0.03)


def test_sound_that_begins_long_after_the_cut(tmp_path: Path) -> None:
    for codec in ("aac", "flac"):
        source = write_clap(
            tmp_path / f"{codec}.mkv", codec=codec, clap_s=6.5, length_s=7, sound_from_s=6, sound_to_s=7
        )
        flash, click = clap_times(render(source, tmp_path / f"{codec}.out.mp4", start_s=3.0).path)
        assert click == pytest.approx(flash, abs=0.03)


@pytest.mark.parametrize("start_s", [0.0, 0.5])
def test_sound_from_a_file_of_its_own(tmp_path: Path, start_s: float) -> None:
    source = write_clap(tmp_path / "a.mp4", codec="aac", sound_to_s=0.2)
    for name, codec, outcome in (
        ("b.m4a", "aac", "copied"),
        ("b.webm", "libopus", "encoded"),
        ("b.wav", "pcm_s16le", "encoded"),
    ):
        other = write_clap(tmp_path / name, codec=codec, picture=False)
        result = render(source, tmp_path / f"{name}.out.mp4", audio_path=other, start_s=start_s)
        assert result.audio == outcome
        flash, click = clap_times(result.path)
        assert click == pytest.approx(flash, abs=0.03)


def test_copied_sound_is_the_same_to_the_byte(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", plain(30, 160, 96), audio_s=0.99)
    result = render(source, tmp_path / "out.mp4")
    assert result.audio == "copied"
    assert payloads(result.path) == payloads(source)[: len(payloads(result.path))]
    assert len(payloads(source)) - len(payloads(result.path)) <= 2
    with av.open(str(result.path)) as container:
        assert container.streams.audio[0].codec_context.name == "aac"


@pytest.mark.parametrize(
    ("name", "codec", "outcome", "kept"),
    [
        ("a.mkv", "libmp3lame", "copied", "mp3"),
        ("a.mkv", "ac3", "copied", "ac3"),
        ("a.mkv", "eac3", "copied", "eac3"),
        ("a.mkv", "vorbis", "encoded", "aac"),
        ("a.mkv", "libopus", "encoded", "aac"),
        ("a.mkv", "flac", "encoded", "aac"),
        ("a.mov", "pcm_s16be", "encoded", "aac"),
        ("a.avi", "mp2", "encoded", "aac"),
        ("a.mkv", "wavpack", "none: ", ""),
    ],
)
def test_sound_is_copied_or_encoded_by_rule(
    tmp_path: Path, name: str, codec: str, outcome: str, kept: str
) -> None:
    source = write_clap(tmp_path / name, codec=codec)
    result = render(source, tmp_path / "out.mp4")
    assert result.audio.startswith(outcome)
    assert_plays(result.path, 160, 96)
    with av.open(str(result.path)) as container:
        assert [s.codec_context.codec.canonical_name for s in container.streams.audio] == (
            [kept] if kept else []
        )
    if kept:
        _, wave, rate = sound(result.path)
        assert len(wave) / rate == pytest.approx(2.0, abs=0.06)


def test_video_without_sound(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", plain(10, 160, 96))
    result = render(source, tmp_path / "out.mp4")
    assert result.audio == "none: the video has no audio"
    assert_plays(result.path, 160, 96)


@pytest.mark.parametrize("codec", ["aac", "pcm_s16le"])
def test_longer_sound_ends_with_the_picture(tmp_path: Path, codec: str) -> None:
    source = write_clap(tmp_path / "a.mkv", codec=codec, length_s=1.5, sound_to_s=6)
    begin, wave, rate = sound(render(source, tmp_path / "out.mp4").path)
    assert begin + len(wave) / rate == pytest.approx(1.5, abs=0.05)


def test_shorter_sound_just_ends(tmp_path: Path) -> None:
    source = write_clap(tmp_path / "a.mp4", codec="aac", clap_s=0.1, sound_to_s=0.5)
    result = render(source, tmp_path / "out.mp4")
    assert result.audio == "copied"
    assert result.frames == 60


def test_sound_that_ends_before_the_cut(tmp_path: Path) -> None:
    source = write_clap(tmp_path / "a.mp4", codec="aac", clap_s=0.1, sound_to_s=0.5)
    result = render(source, tmp_path / "out.mp4", start_s=1.0)
    assert result.audio == "none: the clip has no audio"
    assert_plays(result.path, 160, 96)


def test_sound_that_begins_after_the_picture(tmp_path: Path) -> None:
    source = write_clap(tmp_path / "a.mp4", codec="aac", sound_from_s=1.5)
    result = render(source, tmp_path / "out.mp4", end_s=1.0)
    assert result.audio == "none: the audio starts after the end of the video"
    assert_plays(result.path, 160, 96)


def test_a_hole_in_the_sound_stays_a_hole(tmp_path: Path) -> None:
    early = write_clap(tmp_path / "early.mkv", codec="pcm_s16le", clap_s=0.1, sound_to_s=0.3)
    late = write_clap(tmp_path / "late.mkv", codec="pcm_s16le", clap_s=1.5, sound_from_s=1.2)
    source = tmp_path / "holed.mkv"
    with av.open(str(early)) as one, av.open(str(late)) as two, av.open(str(source), "w") as out:
        video = out.add_stream_from_template(two.streams.video[0])
        track = out.add_stream_from_template(two.streams.audio[0])
        for container, stream, to in ((one, one.streams.audio[0], track), (two, two.streams.audio[0], track)):
            for packet in container.demux(stream):
                if packet.size:
                    packet.stream = to
                    out.mux(packet)
        with av.open(str(late)) as again:
            for packet in again.demux(again.streams.video[0]):
                if packet.size:
                    packet.stream = video
                    out.mux(packet)
    flash, click = clap_times(render(source, tmp_path / "out.mp4").path)
    assert flash == pytest.approx(1.5, abs=0.002)
    with av.open(str(tmp_path / "out.mp4")) as container:
        heard_s = sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))
    assert heard_s == pytest.approx(2.0, abs=0.05), "filled with silence"
    begin, wave, rate = sound(tmp_path / "out.mp4")
    loud = np.flatnonzero(np.abs(wave) > 0.2) / rate + begin
    assert loud.min() == pytest.approx(0.1, abs=0.03)
    assert loud.max() == pytest.approx(1.505, abs=0.03)
    assert click == pytest.approx(0.1, abs=0.03) or click == pytest.approx(1.5, abs=0.03)


def damaged_text(path: Path) -> Path:
    path.write_bytes(b"#EXTM3U\n" + b"not sound " * 500)
    return path


def damaged_cut(path: Path) -> Path:
    whole = write_clap(path.with_name("whole.ts"), codec="aac", picture=False, format="mpegts")
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    return path


def damaged_noise(path: Path) -> Path:
    data = bytearray(write_clap(path.with_name("w.mkv"), codec="flac", picture=False).read_bytes())
    rng = np.random.default_rng(1)
    for at in rng.integers(1500, len(data), len(data) // 20):
        data[at] ^= 0xFF
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("damage", "outcome"),
    [(damaged_text, "none: "), (damaged_cut, "copied"), (damaged_noise, ""), (lambda path: path, "none: ")],
)
def test_damaged_sound_does_not_cost_the_picture(
    tmp_path: Path, damage: Callable[[Path], Path], outcome: str
) -> None:
    source = write_video(tmp_path / "a.mp4", plain(60, 160, 96))
    result = render(source, tmp_path / "out.mp4", audio_path=damage(tmp_path / "sound.bin"))
    assert result.frames == 60
    assert result.audio.startswith(outcome)
    assert result.audio not in ("", "encoded"), "damage is told"
    assert_plays(result.path, 160, 96)


# --- drawing ---

HERE, THERE = (100.0, 120.0, 180.0, 220.0), (220.0, 120.0, 300.0, 220.0)


def test_boxes_are_where_and_when_they_should_be(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", plain(60))
    faces = face_table((0.4, 0, 1, HERE), (0.6, 0, 1, (160.0, 120.0, 240.0, 220.0)), (0.8, 0, 1, THERE))
    path = render(source, tmp_path / "out.mp4", faces=faces, people=ONE).path
    shown = {round(t * 30): image for t, image in pictures(path)}
    below = (60, 90, 600, 300)  # the panel is in the upper left corner
    for number in (0, 5, 11, 27, 28, 40, 59):
        assert untouched(shown[number], below), number
    for number, x1 in ((12, 100), (15, 130), (18, 160), (21, 190), (24, 220), (26, 220)):
        image = shown[number]
        assert near(image, x1, 170, WOMAN), number
        assert near(image, x1 + 80, 170, WOMAN), number
        assert near(image, x1 + 40, 120, WOMAN), number
        assert near(image, x1 + 40, 220, WOMAN), number
        assert untouched(image, (x1 + 12, 132, x1 + 68, 208)), number
    assert not near(shown[15], 100, 170, WOMAN)
    assert not near(shown[15], 160, 170, WOMAN)


def test_a_gap_too_long_is_not_bridged(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", plain(60))
    faces = face_table((0.2, 0, 1, HERE), (1.4, 0, 1, THERE))
    path = render(source, tmp_path / "out.mp4", faces=faces, people=ONE).path
    assert near(picture_at(path, 0.2), 100, 170, WOMAN)
    assert untouched(picture_at(path, 0.8), (60, 90, 600, 300))
    assert near(picture_at(path, 1.4), 220, 170, WOMAN)
    faces = face_table((0.2, 0, 1, HERE), (1.2, 0, 1, THERE))
    path = render(source, tmp_path / "out.mp4", faces=faces, people=ONE).path
    assert near(picture_at(path, 0.7), 160, 170, WOMAN), "one second is bridged"


def test_boxes_do_not_blink_where_segments_meet(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", plain(60))
    sightings = [(round(k * 0.2, 1), 7 if k < 5 else 3, 1, HERE) for k in range(10)]
    faces = face_table(*sightings, segment=lambda t: int(t >= 1))
    path = render(source, tmp_path / "out.mp4", faces=faces, people=ONE).path
    assert all(near(image, 100, 170, WOMAN) for _, image in pictures(path))


def test_boxes_do_not_fly_across_a_cut(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", plain(60))
    faces = face_table(
        (0.4, 0, 1, HERE),
        (0.6, 1, 1, (420.0, 120.0, 500.0, 220.0)),
        (0.8, 1, 1, (420.0, 120.0, 500.0, 220.0)),
    )
    path = render(source, tmp_path / "out.mp4", faces=faces, people=ONE).path
    image = picture_at(path, 16 / 30)
    assert untouched(image, (190, 90, 600, 300))


def test_who_is_not_counted_has_a_thin_dashed_box_without_label(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", plain(30, gray=30))
    faces = face_table(*((round(k * 0.2, 1), -1, -1, HERE) for k in range(5)))
    path = render(source, tmp_path / "out.mp4", faces=faces).path
    for time_s in (0.4, 0.5):
        image = picture_at(path, time_s)
        left = image[124:216, 100].astype(int).mean(axis=1)
        assert left.max() > 120 and left.min() < 60, "dashed"
        assert 5 <= np.count_nonzero(np.diff(left > 75)) <= 40
        assert untouched(image, (104, 124, 176, 216), 30)
        assert untouched(image, (60, 90, 300, 114), 30), "no label above"
        assert untouched(image, (60, 226, 300, 300), 30), "nor below"


def crowd_boxes(width: int, height: int) -> list[Box]:
    side = min(height * 0.17, width * 0.1)
    places = [(0.06 + 0.11 * k, 0.3 + 0.03 * (k % 3)) for k in range(8)]
    return [(x * width, y * height, x * width + side, y * height + side) for x, y in places]


def within(box: Box) -> Box:
    """A box without its line, and without rounded corners."""
    x1, y1, x2, y2 = box
    aside = 6 + 0.07 * (x2 - x1)
    return x1 + aside, y1 + aside, x2 - aside, y2 - aside


@pytest.mark.parametrize(("width", "height"), [(640, 360), (1280, 720), (360, 640)])
def test_labels_stay_inside_and_off_faces(tmp_path: Path, width: int, height: int) -> None:
    source = write_video(tmp_path / "a.mp4", plain(6, width, height))
    side = height * 0.15
    boxes = [
        *crowd_boxes(width, height)[:6:2],
        (width / 2, 0.0, width / 2 + side, side),
        (width - side, height - side, width - 1.0, height - 1.0),
        (0.0, height * 0.55, side, height * 0.55 + side),
    ]
    faces = face_table(*((0.0, k, k + 1, box) for k, box in enumerate(boxes)))
    people = people_table(*[("female", 30.0), ("male", math.nan), ("unknown", 41.0)] * 2)
    image = pictures(render(source, tmp_path / "out.mp4", faces=faces, people=people).path)[2][1]
    for x1, y1, x2, y2 in boxes:
        assert untouched(image, within((x1, y1, x2, y2))), "a face is covered"
    for color in (WOMAN, MAN, UNKNOWN):
        plates = (np.abs(image.astype(int) - np.array(color)).sum(axis=2) < 60).astype(np.uint8)
        plates = cv2.dilate(cv2.erode(plates, np.ones((4, 4), np.uint8)), np.ones((15, 15), np.uint8))
        assert cv2.connectedComponents(plates)[0] - 1 >= 2, f"a label of color {color} is missing"


def test_labels_of_a_crowd_cover_no_face(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", plain(6, 1280, 720))
    boxes = crowd_boxes(1280, 720)
    faces = face_table(*((0.0, k, k + 1, box) for k, box in enumerate(boxes)))
    people = people_table(*[("female", 30.0)] * 8)
    image = pictures(render(source, tmp_path / "out.mp4", faces=faces, people=people).path)[2][1]
    assert all(untouched(image, within(box)) for box in boxes)


def test_genders_are_told_by_color_and_by_shape() -> None:
    boxes = np.array([(100 + 180 * k, 120, 180 + 180 * k, 220) for k in range(4)], np.float32)
    people = people_table(("female", 30.0), ("male", 30.0), ("unknown", 8.0))
    painter = Painter(1280, 720, people, boxes, yuv=False)
    image = np.full((720, 1280, 3), 96, np.uint8)
    marks = painter.marks(boxes, np.array([1, 2, 3, -1]), {1, 2, 3}, 3)
    painter.draw(image, marks)
    image = np.asarray(image[:, :, ::-1])
    # In the middle of the left side, in the upper left corner, and a little along the upper side.
    drawn = {
        name: [tuple(image[y, x].tolist()) for x, y in ((left, 170), (left, 120), (left + 14, 120))]
        for name, left in (("female", 100), ("male", 280), ("unknown", 460))
    }
    plain_gray = (96, 96, 96)
    assert drawn["female"] == [WOMAN, plain_gray, WOMAN], "rounded"
    assert drawn["male"] == [MAN, MAN, MAN], "sharp corners"
    assert drawn["unknown"] == [plain_gray, UNKNOWN, UNKNOWN], "corners alone"
    dashes = {tuple(pixel) for pixel in image[121:219, 640].tolist()}
    assert dashes == {plain_gray, GRAY}, "dashed"


def test_nothing_is_drawn_outside_of_what_the_marks_say() -> None:
    # Closely packed: labels stand off their boxes, at the end of a line.
    boxes = np.array(
        [(400 + 62 * x, 200 + 62 * y, 460 + 62 * x, 260 + 62 * y) for y in range(5) for x in range(5)],
        np.float32,
    )
    people = people_table(*[("female", 30.0), ("male", 8.0), ("unknown", math.nan)] * 8)
    painter = Painter(1280, 720, people, boxes, yuv=False, uncounted=True)
    marks = painter.marks(boxes, np.array([*range(1, 25), -1]), set(range(1, 25)), 24)
    assert marks.leaders
    image = scenery(1280, 720)
    canvas = image.copy()
    painter.draw(canvas, marks)
    changed = (canvas != image).any(axis=2)
    for left, top, right, bottom in marks.rects():
        changed[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = False
    assert not changed.any()


def test_panel_tells_of_faces_that_are_not_counted(tmp_path: Path) -> None:
    def panel(*persons: int) -> str:
        faces = face_table(*((0.0, k, person, HERE) for k, person in enumerate(persons)))
        painter = Painter(
            1280,
            720,
            ONE,
            faces[["x1", "y1", "x2", "y2"]].to_numpy(np.float32),
            yuv=False,
            uncounted=-1 in persons,
        )
        return painter._panel_lines([1, 1, 1, 0, 0, persons.count(-1)])[-1]

    alone = Painter(1280, 720, ONE, np.empty((0, 4), np.float32), yuv=False, image=True)
    assert alone._panel_lines([1, 2, 1, 0, 0, 0])[0] == "1 person in this image  ·  2 seen so far"
    assert panel(1, -1) == "1 face not counted" and panel(-1, -1) == "2 faces not counted"
    assert panel(1) == "1 female  ·  0 male  ·  0 unknown"
    source = write_video(tmp_path / "a.mp4", plain(6))
    box = (300.0, 150.0, 380.0, 250.0)
    faces = face_table((0.0, 0, 1, box), (0.0, -1, -1, (500.0, 150.0, 580.0, 250.0)))
    with_it = pictures(render(source, tmp_path / "1.mp4", faces=faces, people=ONE).path)[2][1]
    without = pictures(render(source, tmp_path / "2.mp4", faces=faces.iloc[:1], people=ONE).path)[2][1]
    third = np.s_[51:64, 20:120]
    assert with_it[third].max() > 150 and untouched(without, (12, 56, 180, 70))


def test_panel_counts_and_keeps_off_faces(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", plain(60))
    corner = (10.0, 5.0, 90.0, 95.0)
    alone = render(source, tmp_path / "1.mp4", faces=face_table((1.0, 0, 1, THERE)), people=ONE).path
    early, late = picture_at(alone, 0.5), picture_at(alone, 1.0)
    panel = np.s_[10:50, 12:180]
    assert early[panel].mean() < 80, "dark, but not black"
    assert early[panel].min() > 5
    assert early[panel].max() > 180, "with bright writing"
    assert np.abs(early[panel].astype(int) - late[panel]).max() > 60, "the counts change"
    hidden = render(source, tmp_path / "2.mp4", faces=face_table((1.0, 0, 1, corner)), people=ONE).path
    assert untouched(picture_at(hidden, 0.5), (0, 0, 300, 100)), "it goes to another corner"
    assert picture_at(hidden, 0.5)[10:50, 460:628].mean() < 80


def test_tiny_picture_has_no_panel(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", plain(6, 96, 64))
    path = render(source, tmp_path / "out.mp4").path
    assert untouched(pictures(path)[3][1], (0, 0, 96, 64))


def test_person_missing_from_the_people_table(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", plain(6))
    result = render(source, tmp_path / "out.mp4", faces=face_table((0.0, 0, 1, HERE)))
    image = pictures(result.path)[2][1]
    assert near(image, 110, 120, UNKNOWN) and near(image, 100, 135, UNKNOWN)
    assert untouched(image, (90, 160, 110, 180)), "only its corners are drawn"


# --- pictures that need no conversion, and those that do ---


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> list[list[Image]]:
    """Y, U and V of every picture that the encoder was given."""
    pictures: list[list[Image]] = []
    write = encoder.Mp4.write

    def spy(mp4: encoder.Mp4, picture: av.VideoFrame, time_s: float) -> None:
        pictures.append(planes(picture))
        write(mp4, picture, time_s)

    monkeypatch.setattr(encoder.Mp4, "write", spy)
    return pictures


def planes(picture: av.VideoFrame) -> list[Image]:
    return [
        np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, -1)[:, : plane.width].copy()
        for plane in picture.planes
    ]


def decoded(path: Path) -> list[list[Image]]:
    with av.open(str(path)) as container:
        return [planes(frame) for frame in container.decode(video=0)]


def as_yuv(image: Image) -> av.VideoFrame:
    """(H, W, 3) BGR in yuv420p of BT.709."""
    frame = av.VideoFrame.from_ndarray(image, "bgr24")
    return frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)


def test_what_is_not_drawn_on_stays_as_it_was_decoded(tmp_path: Path, handed: list[list[Image]]) -> None:
    # Noise: a picture that was drawn on would spoil those that the decoder makes from it.
    source = write_video(tmp_path / "a.mp4", noisy(numbered(30, 640, 360)), options=BT709)
    faces = face_table((0.0, 0, 1, HERE), (0.8, 0, 1, (141.0, 121.0, 221.0, 221.0)))
    render(source, tmp_path / "out.mp4", faces=faces, people=ONE)
    panel, label_high, rim = np.s_[0:60, 0:260], 24, 4
    for number, (before, after) in enumerate(zip(decoded(source), handed, strict=True)):
        left = 100 + round(41 * min(number / 24, 1))
        free = np.ones((360, 640), bool)
        free[panel] = False
        free[120 - label_high - rim : 220 + label_high + rim, left - rim : left + 140] = False
        # The face itself, but the rounded corners.
        free[120 + rim + 1 : 220 - rim, left + 17 : left + 64] = True
        free[120 + 17 : 220 - 16, left + rim + 1 : left + 80 - rim] = True
        free_chroma = free.reshape(180, 2, 320, 2).all(axis=(1, 3))
        assert (before[0] == after[0])[free].all()
        assert all((old == new)[free_chroma].all() for old, new in zip(before[1:], after[1:], strict=True))
        assert np.abs(before[0].astype(int) - after[0])[panel].mean() > 20
        if number <= 26:
            assert after[0][140:200, left].std() < 5, "the line of the box"


def test_picture_without_anything_to_draw_is_passed_on(tmp_path: Path, handed: list[list[Image]]) -> None:
    source = write_video(tmp_path / "a.mp4", noisy(numbered(6, 96, 64)), options=BT709)
    render(source, tmp_path / "out.mp4")
    before = decoded(source)
    assert len(before) == len(handed) == 6
    assert all(
        np.array_equal(old, new)
        for a, b in zip(before, handed, strict=True)
        for old, new in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_turned_picture_is_only_turned(tmp_path: Path, handed: list[list[Image]], turn: int) -> None:
    source = write_video(tmp_path / "a.mp4", noisy(numbered(6, 96, 64)), options=BT709, rotation_deg=turn)
    render(source, tmp_path / "out.mp4")
    before = decoded(source)
    assert len(before) == len(handed) == 6
    assert all(
        np.array_equal(np.rot90(old, -turn // 90), new)
        for a, b in zip(before, handed, strict=True)
        for old, new in zip(a, b, strict=True)
    )


def test_keyframes_of_the_source_are_not_forced_on_the_output(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", plain(30), options={"g": "1", **BT709})
    with av.open(str(render(source, tmp_path / "out.mp4").path)) as container:
        keys = [frame.key_frame for frame in container.decode(video=0)]
    assert keys == [True] + [False] * 29


def scenery(width: int, height: int) -> Image:
    """A picture with soft changes of brightness and color, (H, W, 3) BGR."""
    y, x = np.mgrid[:height, :width]
    channels = [90 + 60 * np.sin(x / 90), 110 + 50 * np.cos(y / 70), 120 + 60 * np.sin((x + y) / 110)]
    return np.dstack(channels).astype(np.uint8)


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (642, 358)])
def test_drawn_on_planes_it_looks_as_drawn_in_bgr(width: int, height: int) -> None:
    image = scenery(width, height)
    people = people_table(*[("female", 30.0), ("male", math.nan), ("unknown", 41.0)] * 3)
    boxes = np.array(
        [*crowd_boxes(width, height), (-20, 3, 31, 60), (width - 41, height - 51, width, height)]
    )
    persons = np.array([1, 2, 3, 4, -1, 6, 7, 8, 9, -1])
    drawn = []
    for yuv in (True, False):
        painter = Painter(width, height, people, boxes.astype(np.float32), yuv=yuv)
        marks = painter.marks(boxes.astype(np.float32), persons, {1, 2, 3}, 9)
        if yuv:
            picture = as_yuv(image)
            Planes(picture).draw(painter, marks, np.full((height, width, 3), 77, np.uint8))
        else:
            canvas = image.copy()
            painter.draw(canvas, marks)
            picture = as_yuv(canvas)
        drawn.append(planes(picture))
    undrawn = planes(as_yuv(image))
    for on_planes, in_bgr, before, limit in zip(*drawn, undrawn, (4, 30, 30), strict=True):
        off = np.abs(on_planes.astype(int) - in_bgr)
        assert np.abs(in_bgr.astype(int) - before).max() > 60, "there is something drawn"
        assert off.max() <= limit, "chroma of thin lines is averaged in another way"
        assert off.mean() < 0.3


FORMS = {
    "as decoded": {"options": BT709},
    "BT.601": {"options": {"x264-params": "colormatrix=smpte170m"}},
    "full range": {"options": BT709, "pix_fmt": "yuvj420p"},
    "4:2:2": {"options": BT709, "pix_fmt": "yuv422p"},
    "10 bits": {"options": BT709, "pix_fmt": "yuv420p10le"},
    "gray": {"options": BT709, "pix_fmt": "gray"},
    "RGB": {"codec": "libx264rgb", "pix_fmt": "rgb24"},
    "gray, odd size": {"options": BT709, "pix_fmt": "gray"},
    "RGB, odd size": {"codec": "libx264rgb", "pix_fmt": "rgb24"},
    "turned": {"options": BT709, "rotation_deg": 90},
    "upside down": {"options": BT709, "rotation_deg": 180},
}


@pytest.mark.parametrize("form", FORMS)
def test_colors_of_every_form_stay(tmp_path: Path, form: str) -> None:
    odd = int("odd" in form)
    source = write_video(tmp_path / "a.mkv", [scenery(320 + odd, 240 + odd)] * 3, **FORMS[form])
    with VideoReader(source, Settings()) as reader:
        seen = [frame.image() for frame in reader.frames()]
    faces = face_table((0.0, 0, 1, (140.0, 130.0, 190.0, 180.0)))
    result = render(source, tmp_path / "out.mp4", faces=faces, people=ONE)
    assert (result.width, result.height) == (seen[0].shape[1] + odd, seen[0].shape[0] + odd)
    for (_, image), before in zip(pictures(result.path), seen, strict=True):
        off = np.abs(image[: before.shape[0], : before.shape[1], ::-1].astype(int) - before)
        assert off[60:, :120].mean() < 3, "nothing is drawn there"
        assert off[:, :120].max() > 60, "the panel is"
        assert near(image, 140, 160, WOMAN)


def test_full_range_without_a_format_of_its_own_is_converted() -> None:
    picture = as_yuv(scenery(64, 48))
    for color_range, native in (
        (ColorRange.MPEG, True),
        (ColorRange.UNSPECIFIED, True),
        (ColorRange.JPEG, False),
    ):
        picture.color_range = color_range
        frame = Frame(0.0, True, picture, Geometry(64, 48), None)  # type: ignore[arg-type]
        assert (frame.yuv() is picture) == native


# --- encoders ---


class Context:
    """Stands for an encoder that FFmpeg lists; nothing but the first picture tells whether it works."""

    def __init__(self, name: str) -> None:
        self.name = name

    def encode(self, picture: object) -> list[av.Packet]:
        if self.name == "fails at the first picture":
            raise av.FFmpegError(1, "no")
        return [] if self.name == "gives nothing" else [av.Packet(b"data")]


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[str]]]:
    """Makes encoders be listed; gives the names of those asked for."""
    asked: list[str] = []

    class Contexts:
        @staticmethod
        def create(name: str, mode: str, hwaccel: object) -> Context:
            asked.append(name)
            if name == "fails to open":
                raise av.FFmpegError(1, "no device")
            return Context(name)

    def be_listed(*encoders: encoder.Encoder) -> list[str]:
        monkeypatch.setattr(av, "CodecContext", Contexts)
        monkeypatch.setattr(encoder, "HARDWARE_ENCODERS", encoders)
        encoder.find_encoder.cache_clear()
        return asked

    yield be_listed
    encoder.find_encoder.cache_clear()


def test_encoders_that_do_not_work_leave_it_to_libx264(
    tmp_path: Path, listed: Callable[..., list[str]]
) -> None:
    names = ["fails to open", "fails at the first picture", "gives nothing"]
    asked = listed(*(encoder.Encoder(name, {}) for name in names))
    source = write_video(tmp_path / "a.mp4", plain(5, 160, 96))
    for name in ("1.mp4", "2.mp4"):
        assert_plays(render(source, tmp_path / name).path, 160, 96)
    assert asked == names, "each is tried once, not for every video"
    assert encoder.find_encoder(160, 96) == encoder.Encoder("libx264", encoder.ENCODER_OPTIONS)


def test_an_encoder_that_works_is_used(tmp_path: Path, listed: Callable[..., list[str]]) -> None:
    # Stands for a hardware encoder; its own pixel format tells it from the one that is fallen back on.
    other = encoder.Encoder("libx264", {"bf": "0"}, pix_fmt="yuv444p")
    listed(encoder.Encoder("fails to open", {}), other, encoder.Encoder("gives nothing", {}))
    source = write_video(tmp_path / "a.mp4", plain(5, 160, 96))
    path = render(source, tmp_path / "out.mp4").path
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.pix_fmt == "yuv444p"
    shown = pictures(path)
    assert len(shown) == 5
    assert all(untouched(image, (0, 60, 160, 96)) for _, image in shown)


def test_an_encoder_is_asked_in_earnest() -> None:
    assert encoder.Encoder("libx264", encoder.ENCODER_OPTIONS).works(160, 96)
    assert encoder.Encoder("libx264rgb", {}, pix_fmt="rgb24").works(160, 96)
    assert not encoder.Encoder("libx264", {}, pix_fmt="rgb24").works(160, 96), "it cannot be opened so"
    assert not encoder.Encoder("no such encoder", {}).works(160, 96)
    assert not encoder.Encoder("libx264", {}, device_type="no such device").works(160, 96)


# --- hiding ---


@pytest.mark.parametrize(
    "cover",
    [
        (31.3, 20.7, 90.2, 110.9),
        (-12.5, -7.0, 40.0, 33.0),
        (150.1, 100.0, 201.0, 141.0),
        (61.0, 61.0, 66.0, 68.0),
    ],
)
def test_on_planes_the_same_is_hidden_as_in_bgr(cover: Box) -> None:
    def squares(height: int, width: int) -> Image:
        return (np.indices((height, width)).sum(axis=0) % 2 * 200 + 20).astype(np.uint8)

    image = cv2.merge([squares(120, 180)] * 3).astype(np.uint8)
    layers = [squares(120, 180), squares(60, 90), squares(60, 90)]
    before = [image.copy(), *(layer.copy() for layer in layers)]
    covers = np.array([cover], np.float32)
    hide([(image, 1)], covers)
    hide(list(zip(layers, (1, 2, 2), strict=True)), covers)
    in_bgr, y, u, v = ((old != new) for old, new in zip(before, [image, *layers], strict=True))
    in_bgr = in_bgr.any(axis=2)
    assert in_bgr.any()
    assert y[in_bgr].all(), "never less"
    nearby = cv2.dilate(in_bgr.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    assert not y[~nearby].any()
    touched = y.reshape(60, 2, 90, 2).any(axis=(1, 3))
    assert np.array_equal(u, touched)
    assert np.array_equal(v, touched)


def textured(count: int) -> Iterable[Image]:
    """Fine structure in the left three quarters of a 640 x 360 picture."""
    rng = np.random.default_rng(0)
    cells = rng.integers(0, 2, (90, 120), np.uint8) * 160 + 40
    image = np.full((360, 640, 3), 100, np.uint8)
    image[:, :480] = cells.repeat(4, 0).repeat(4, 1)[:, :, None]
    for _ in range(count):
        yield image


def inner(box: Box) -> tuple[slice, slice]:
    x1, y1, x2, y2 = (round(v) for v in box)
    return np.s_[y1 + 8 : y2 - 8, x1 + 8 : x2 - 8]


@pytest.mark.parametrize("options", [{}, BT709], ids=["converted", "as decoded"])
def test_blur_hides_every_face_and_nothing_else(tmp_path: Path, options: dict[str, str]) -> None:
    source = write_video(tmp_path / "a.mp4", textured(60), options=options)
    faces = face_table(
        (1.0, 0, 1, HERE),
        (1.2, 0, 1, (160.0, 120.0, 240.0, 220.0)),
        (1.0, -1, -1, (380.0, 200.0, 440.0, 270.0)),
    )
    path = render(source, tmp_path / "out.mp4", faces=faces, people=ONE, blur=True).path
    before = {round(t * 30): image for t, image in pictures(source)}
    after = {round(t * 30): image for t, image in pictures(path)}

    def hidden(number: int, box: Box) -> bool:
        region = inner(box)
        gone = detail(after[number][region]) < 0.02 * detail(before[number][region])
        changed = np.abs(after[number][region].astype(int) - before[number][region]).mean() > 40
        return bool(gone and changed)

    stranger = (380.0, 200.0, 440.0, 270.0)
    assert hidden(30, HERE)
    assert hidden(33, (130.0, 120.0, 210.0, 220.0)), "in between"
    assert hidden(36, (160.0, 120.0, 240.0, 220.0))
    assert hidden(18, HERE), "a little earlier"
    assert hidden(46, (160.0, 120.0, 240.0, 220.0)), "and later"
    assert all(hidden(number, stranger) for number in (20, 30, 33, 36, 42))
    for number in (5, 57):
        assert not hidden(number, HERE)
        assert np.abs(after[number][100:].astype(int) - before[number][100:]).mean() < 8
    for number in (30, 33, 36):
        away = np.s_[300:, :340]
        assert np.abs(after[number][away].astype(int) - before[number][away]).mean() < 8


def test_blur_covers_both_places_between_sightings_that_cannot_be_joined(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", textured(60))
    for tracklets in ((-1, -1), (0, 1)):
        faces = face_table(
            (0.8, tracklets[0], -1, HERE), (1.0, tracklets[1], -1, (320.0, 120.0, 400.0, 220.0))
        )
        path = render(source, tmp_path / "out.mp4", faces=faces, blur=True).path
        for number in range(24, 31):
            image = picture_at(path, number / 30)
            for box in (HERE, (320.0, 120.0, 400.0, 220.0)):
                assert detail(image[inner(box)]) < 0.02 * detail(next(iter(textured(1)))[inner(box)])


@pytest.fixture(scope="module")
def find() -> Callable[[Image], NDArray[np.float32]]:
    """Finds faces in RGB pictures, also where it is in some doubt."""
    from analyzer.vision.detectors.centerface import CenterFace

    detector = CenterFace(Settings(min_score=0.4))

    def found(image: Image) -> NDArray[np.float32]:
        height, width = image.shape[:2]
        small = cv2.resize(image[:, :, ::-1], detector.input_size(width, height))
        return detector.detect([small.astype(np.uint8)], [(width, height)])[0].boxes

    found(next(iter(plain(1))))
    return found


@pytest.mark.parametrize("size", [512, 256])
def test_blurred_faces_are_not_found_again(
    tmp_path: Path, find: Callable[[Image], NDArray[np.float32]], size: int
) -> None:
    astronaut = pytest.importorskip("skimage.data").astronaut()
    image = cv2.resize(astronaut, (size, size), interpolation=cv2.INTER_AREA).astype(np.uint8)
    boxes = find(image)
    assert len(boxes) >= 1
    source = write_video(tmp_path / "a.mp4", [image] * 5, options={"crf": "10"})
    faces = face_table(*((0.0, k, -1, tuple(box)) for k, box in enumerate(boxes.tolist())))
    shown = pictures(render(source, tmp_path / "out.mp4", faces=faces, blur=True).path)
    again = iou(boxes, find(shown[3][1]))  # a space suit without a face may be taken for one elsewhere
    assert again.max(initial=0) < 0.3


# --- failing ---


class BrokenError(Exception):
    """Stands for anything that may go wrong."""


@pytest.mark.parametrize("error", [BrokenError, KeyboardInterrupt, OutputError])
@pytest.mark.parametrize("after", [1, 30])
def test_an_error_in_the_middle_leaves_nothing(
    tmp_path: Path, error: type[BaseException], after: int
) -> None:
    source = write_video(tmp_path / "a.mp4", plain(60, 320, 180), audio_s=2)
    calls = 0

    def fail(share: float) -> None:
        nonlocal calls
        calls += 1
        if calls == after:
            raise error("broken")

    with pytest.raises(error, match="broken"):
        render(source, tmp_path / "out.mp4", on_progress=fail)
    assert leftovers(tmp_path, source) == []


def test_an_older_file_stays_when_rendering_fails(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", plain(30, 320, 180))
    target = tmp_path / "out.mp4"
    target.write_bytes(b"older")

    def fail(share: float) -> None:
        raise BrokenError

    with pytest.raises(BrokenError):
        render(source, target, on_progress=fail)
    assert target.read_bytes() == b"older"
    assert leftovers(tmp_path, source) == ["out.mp4"]
    render(source, target)
    assert_plays(target, 320, 180)
    assert leftovers(tmp_path, source) == ["out.mp4"]


def test_nothing_has_the_final_name_before_it_is_whole(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", plain(30, 320, 180))
    seen: set[str] = set()
    render(
        source,
        tmp_path / "out.mp4",
        on_progress=lambda share: seen.update(leftovers(tmp_path, source)) if share < 1 else None,
    )
    assert seen == {".out.mp4.part"}


def test_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", plain(5, 160, 96))
    with pytest.raises(OutputError, match=r"out\.mp4"):
        render(source, tmp_path / "missing" / "out.mp4")
    assert leftovers(tmp_path, source) == []


def test_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = (rng.integers(0, 255, (180, 320, 3), np.uint8) for _ in range(30))
    source = write_video(tmp_path / "a.mp4", noise)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(OutputError, match=r"out\.mp4"):
            render(source, tmp_path / "out.mp4")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert leftovers(tmp_path, source) == []


# --- pictures ---


def write_picture(path: Path, gray: int, width: int = 640, height: int = 360) -> Path:
    assert cv2.imwrite(str(path), np.full((height, width, 3), gray, np.uint8))
    return path


def picture_run(
    paths: list[Path], folder: Path, faces: pd.DataFrame, people: pd.DataFrame = ONE, **changes: object
) -> list[Path]:
    settings = Settings(**changes)  # type: ignore[arg-type]
    with ImageReader(paths, settings) as reader:
        times = [sample.frame.time_s for sample in reader.samples()]
        samples = pd.DataFrame(
            {"sample": range(len(times)), "time_s": times, "image": [p.name for p in paths]}
        )
        return render_images(reader, folder, faces=faces, people=people, samples=samples, settings=settings)


def read_rgb(path: Path) -> Image:
    image = cv2.imread(str(path))
    assert image is not None
    return np.asarray(image[:, :, ::-1], np.uint8)


def test_pictures_are_copied_with_their_own_faces_only(tmp_path: Path) -> None:
    paths = [
        write_picture(tmp_path / "one.png", 96),
        write_picture(tmp_path / "two.jpg", 96),
        write_picture(tmp_path / "three.png", 96, 801, 601),
        write_picture(tmp_path / "one.jpg", 96),
    ]
    faces = face_table((0.0, 0, 1, HERE), (2.0, 0, 1, THERE))
    written = picture_run(paths, tmp_path / "out", faces)
    assert [path.name for path in written] == ["one.jpg", "two.jpg", "three.jpg", "one-2.jpg"]
    one, two, three, four = (read_rgb(path) for path in written)
    assert near(one, 100, 170, WOMAN)
    assert untouched(one, (330, 90, 600, 300))
    assert untouched(two, (60, 90, 600, 300))
    assert three.shape == (601, 801, 3)
    assert near(three, 220, 170, WOMAN)
    assert untouched(four, (60, 90, 600, 300))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in written)


def test_faces_in_pictures_are_hidden(tmp_path: Path) -> None:
    image = next(iter(textured(1)))
    source = tmp_path / "a.png"
    assert cv2.imwrite(str(source), image)
    (path,) = picture_run([source], tmp_path / "out", face_table((0.0, 0, 1, HERE)), blur=True)
    assert detail(read_rgb(path)[inner(HERE)]) < 0.02 * detail(image[inner(HERE)])


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    source = write_picture(tmp_path / "a.png", 96)
    with pytest.raises(OutputError, match=r"a\.png"):
        picture_run([source], source / "out", NO_FACES)
