"""What is stored is shown as a player shows it: shape, direction, views, colors, transparency."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pandas as pd
import pytest
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageCms

from analyzer import Settings, analyze
from analyzer.errors import MediaError, MediaErrorKind
from analyzer.live.connections import _Decoded
from analyzer.media import colors
from analyzer.media import frame as frame_module
from analyzer.media.cropping import Cropping, declared_cropping
from analyzer.media.frame import Frame, Scaler, Still
from analyzer.media.geometry import Geometry, Half, Orientation, orientation_of, sane_aspect
from analyzer.media.images import ImageReader
from analyzer.media.reader import VideoReader
from analyzer.media.sei import messages
from analyzer.output.annotated import render_video
from testkit.media import remux
from testkit.odd_files import OddFile
from testkit.odd_geometry import (
    CASES,
    as_hdr,
    display_matrix,
    encode,
    frame_packing,
    guarded,
    left_hidden,
    orientation,
    with_message,
    with_orientation,
)
from tests.conftest import SHARED

Image = NDArray[np.uint8]

WIDTH, HEIGHT = 320, 180
ASPECTS = (Fraction(1), Fraction(2), Fraction(1, 2), Fraction(64, 45))
PICTURES = (".tif", ".jpg", ".png", ".webp")


def scenery(width: int = WIDTH, height: int = HEIGHT, shift: float = 0.0) -> Image:
    """(H, W, 3) RGB with soft colors, of which no turn and no mirror image is like another."""
    y, x = np.mgrid[:height, :width] / max(width, height)
    red = 40 + 200 * x + shift
    green = 60 + 150 * y * y
    blue = 90 + 80 * np.sin(6 * x * y + 2 * x)
    return np.clip(np.dstack([red, green, blue]), 0, 255).astype(np.uint8)


def shown(path: Path, start_s: float = 0.0, **settings: object) -> list[Frame]:
    with VideoReader(path, Settings(**settings)) as reader:  # type: ignore[arg-type]
        return list(reader.frames(start_s))


def off(image: Image, other: Image) -> float:
    """How far two pictures differ on the whole, of 255."""
    assert image.shape == other.shape
    return float(np.abs(image.astype(int) - other).mean())


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six frames, a quarter as wide as the cases' own reference clip."""
    images = [scenery(shift=4.0 * number) for number in range(6)]
    options = {"crf": "4", "preset": "ultrafast", "x264-params": "colormatrix=bt709"}
    return encode(tmp_path_factory.mktemp("reference") / "reference.mp4", images, options=options)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_odd_file_is_shown_as_the_reference(tmp_path: Path, reference: Path, case: OddFile) -> None:
    path = case.make(tmp_path, reference)
    images = [frame.image()[:, :, ::-1] for frame in shown(reference)]
    size = case.size[0] // 4, case.size[1] // 4
    picture = path.suffix in PICTURES
    reader = ImageReader([path], Settings()) if picture else VideoReader(path, Settings())
    with reader:
        frames = list(reader.frames())
        assert (reader.info.width, reader.info.height) == size
    step = len(images) // len(frames) if not picture else 1
    for frame, image in zip(frames, images[::step], strict=not picture):
        right = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        if path.name in ("float.tif", "integers.tif"):
            gray = cv2.cvtColor(right, cv2.COLOR_RGB2GRAY)
            gray = gray * (255 / gray.max()) if path.name == "integers.tif" else gray
            right = cv2.cvtColor(gray.astype(np.uint8), cv2.COLOR_GRAY2RGB)
        if case.people == 1:
            right[:, : size[0] // 2] = colors.GROUND
        assert (frame.width, frame.height) == size
        assert off(frame.image()[:, :, ::-1], right) < (8 if case.kind == "HDR" else 3)


def test_there_are_enough_odd_files_of_each_kind() -> None:
    kinds = [case.kind for case in CASES]
    assert all(kinds.count(kind) >= 3 for kind in kinds)
    assert len({case.name for case in CASES}) == len(CASES)


# --- one geometry, all ways to look at it ---


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("turn_deg", [0, 90, 180, 270])
def test_matrix_moves_each_corner_where_it_says(mirrored: bool, turn_deg: int) -> None:
    angle = np.radians(turn_deg)
    right, down = (np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))
    a, b = np.rint(right).astype(int) * (-1 if mirrored else 1)
    c, d = np.rint(down).astype(int)
    found = orientation_of(np.array(display_matrix(a, b, c, d), np.int32).tobytes())
    assert found == Orientation(mirrored, turn_deg)
    image = scenery(8, 6)
    turned = Geometry(8, 6, orientation=found).turned(image)
    for x, y in itertools.product((0, 7), (0, 5)):
        # Of a frame around the origin; the corner of the smallest coordinates becomes the origin again.
        to_x = a * (x - 3.5) + c * (y - 2.5) + (turned.shape[1] - 1) / 2
        to_y = b * (x - 3.5) + d * (y - 2.5) + (turned.shape[0] - 1) / 2
        assert (turned[round(to_y), round(to_x)] == image[y, x]).all()


@pytest.mark.parametrize(
    ("matrix", "right"),
    [
        ((98_304, 0, 0, 65_536), Orientation()),  # one and a half times as wide
        ((0, 131_072, -65_536, 0), Orientation(turn_deg=90)),
        ((65_000, 5_000, -5_000, 65_000), Orientation()),  # by four degrees
        ((0, 0, 0, 0), Orientation()),
        ((-46_341, 40_000, 40_000, 46_341), Orientation(mirrored=True)),
    ],
)
def test_matrix_that_stretches_or_leans(matrix: tuple[int, ...], right: Orientation) -> None:
    a, b, c, d = matrix
    assert orientation_of(np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], np.int32).tobytes()) == right


def geometries() -> list[Geometry]:
    cut = Cropping(4, 8, 12, 0)
    every = itertools.product((False, True), (0, 90, 180, 270), ASPECTS, (None, *Half), (Cropping(), cut))
    return [
        Geometry(192, 144, aspect, Orientation(mirrored, turn_deg), half, cropping)
        for mirrored, turn_deg, aspect, half, cropping in list(every)[::13]  # many combinations of each
    ]


@pytest.mark.parametrize("geometry", geometries(), ids=str)
def test_all_conversions_of_a_frame_agree(geometry: Geometry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_module, "SIGNATURE_PX", 16)
    picture = av.VideoFrame.from_ndarray(scenery(192, 144), "rgb24").reformat(
        format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
    )
    frame = Frame(0.0, True, picture, geometry, Scaler())
    image = frame.image()
    assert image.shape == (frame.height, frame.width, 3)
    part_width, part_height = geometry.part[2:]
    assert frame.width * frame.height >= part_width * part_height, "no pixel is lost"
    size = frame.width // 2, frame.height // 2
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    assert off(frame.scaled(*size), small) < 2
    lower = size[0] // 2, size[1] // 2
    reduced = frame.reduced(*lower)
    assert reduced is not frame
    assert off(reduced.scaled(*lower), cv2.resize(image, lower, interpolation=cv2.INTER_AREA)) < 2
    native = frame.yuv()
    assert native is not None and (native.width, native.height) == (frame.width, frame.height)
    converted = native.reformat(format="bgr24", src_colorspace=Colorspace.ITU709)
    assert off(converted.to_ndarray(), image) < 2.5
    matrix = np.array([[np.cos(0.3), -np.sin(0.3), -30], [np.sin(0.3), np.cos(0.3), -10]]) / 60
    transforms = np.stack([matrix, matrix / 1.7]).astype(np.float32)
    for piece, other in zip(
        frame.crop(transforms, [64, 128], 64), Still(image).crop(transforms, [64, 128], 64), strict=True
    ):
        assert off(piece, other) < 3


def test_enlarging_keeps_to_the_limit_and_to_even_sides() -> None:
    assert (Geometry(720, 577, Fraction(16, 15)).width, Geometry(720, 577, Fraction(16, 15)).height) == (
        768,
        577,
    )
    assert Geometry(1281, 721, Fraction(12, 11)).width == 1398
    wide = Geometry(1000, 1000, Fraction(4), max_pixels=1_000_000)
    assert wide.width * wide.height <= 1_000_000
    assert wide.width / wide.height == pytest.approx(4, rel=0.01)


# --- the shape of pixels ---


def test_absurd_shapes_are_squares(tmp_path: Path) -> None:
    for number, aspect in enumerate([Fraction(1, 1000), Fraction(100), Fraction(100, 101)]):
        path = encode(tmp_path / f"{number}.mp4", [scenery()] * 2, aspect=aspect)
        assert all(frame.geometry.plain for frame in shown(path))
    assert sane_aspect(Fraction(0)) == 1


def test_shape_of_the_container_holds(tmp_path: Path) -> None:
    spoken = encode(tmp_path / "spoken.mp4", [scenery()] * 3, aspect=Fraction(1, 2))
    data = spoken.read_bytes()
    one, two = (number.to_bytes(4, "big") for number in (1, 2))
    other = tmp_path / "other.mp4"
    other.write_bytes(data.replace(b"pasp" + one + two, b"pasp" + two + one))  # the stream says the same
    assert {(frame.width, frame.height) for frame in shown(spoken)} == {(WIDTH, 2 * HEIGHT)}
    assert {(frame.width, frame.height) for frame in shown(other)} == {(2 * WIDTH, HEIGHT)}


def test_shape_changes_with_its_keyframe(tmp_path: Path) -> None:
    parts = [
        encode(
            tmp_path / f"{number}.ts",
            [scenery()] * 20,
            aspect=aspect,
            options={"preset": "veryfast", "g": "10", "bf": "3"},
        )
        for number, aspect in enumerate([Fraction(1, 2), Fraction(2)])
    ]
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    tall, wide = (WIDTH, 2 * HEIGHT), (2 * WIDTH, HEIGHT)
    for threads in (1, 4):
        frames = shown(path, threads=threads)
        assert [(frame.width, frame.height) for frame in frames] == [tall] * 20 + [wide] * 20
        alone = shown(path, start_s=frames[15].time_s - 1e-4, threads=threads)
        assert [(one.width, one.time_s) for one in alone] == [(one.width, one.time_s) for one in frames[15:]]


@pytest.mark.parametrize("container", ["mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "mpegts"])
def test_odd_headers_crop_nothing(tmp_path: Path, container: str) -> None:
    random, path = np.random.default_rng(4), tmp_path / "a"
    heads = (b"\0\0\0\x20moov", b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\xff", b"")
    for head, length in itertools.product(heads, (0, 1, 7, 40, 500)):
        path.write_bytes(head + random.integers(0, 256, length, np.uint8).tobytes())
        assert declared_cropping(path, container, 0, (640, 480)) == Cropping()


# --- what the stream says ---


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """Transport streams of H.264 and HEVC (true), with B frames and a keyframe every eight of 24 frames."""
    folder = tmp_path_factory.mktemp("spoken")
    images = [scenery(160, 96, 4.0 * number) for number in range(24)]
    h264 = {"preset": "veryfast", "x264-params": "keyint=8:min-keyint=8:scenecut=0:bframes=2"}
    hevc = {
        "preset": "ultrafast",
        "x265-params": "log-level=none:keyint=8:min-keyint=8:scenecut=0:bframes=2:pools=1",
    }
    return {
        False: encode(folder / "h264.ts", images, options=h264),
        True: encode(folder / "hevc.ts", images, codec="libx265", options=hevc),
    }


@pytest.mark.parametrize("hevc", [False, True])
@pytest.mark.parametrize("how", ["with keyframes", "once", "first only", "then another", "ended"])
def test_message_holds_as_long_as_it_says(
    tmp_path: Path, spoken: dict[bool, Path], hevc: bool, how: str
) -> None:
    said: dict[str, Callable[[bool], bytes | None]] = {
        "with keyframes": lambda first: orientation(turn=90, hevc=hevc),
        "once": lambda first: orientation(turn=90, holds=0, hevc=hevc),
        "first only": lambda first: orientation(turn=90, hevc=hevc) if first else None,
        "then another": lambda first: orientation(turn=90 if first else 180, hevc=hevc),
        "ended": lambda first: orientation(turn=90, hevc=hevc, cancel=not first),
    }

    def say(number: int, keyframe: bool) -> bytes | None:
        return said[how](number == 0) if keyframe else None

    right = {
        "with keyframes": [270] * 24,
        "once": ([270] + [0] * 7) * 3,
        "first only": [270] * 8 + [0] * 16,  # a keyframe begins anew
        "then another": [270] * 8 + [180] * 16,
        "ended": [270] * 8 + [0] * 16,
    }[how]
    path = with_message(tmp_path / "a.ts", spoken[hevc], say, hevc=hevc)
    frames = shown(path)
    assert [frame.geometry.orientation.turn_deg for frame in frames] == right
    # Read on its own, a stretch is as it was in passing.
    alone = shown(path, start_s=frames[11].time_s - 1e-4)
    assert [frame.geometry for frame in alone] == [frame.geometry for frame in frames[11:]]


@pytest.mark.parametrize("ending", ["ts", "mp4", "mkv"])
def test_message_written_after_the_frame_of_a_keyframe(
    tmp_path: Path, spoken: dict[bool, Path], ending: str
) -> None:
    path = with_orientation(tmp_path / f"a.{ending}", spoken[False], "flip=horizontal")
    frames = shown(path)
    assert [frame.geometry.orientation.mirrored for frame in frames] == [True] * 24
    with VideoReader(path, Settings(keyframes=True)) as reader:
        assert [one.frame.geometry.orientation.mirrored for one in reader.samples()] == [True] * 3


@pytest.mark.parametrize("hevc", [False, True])
@pytest.mark.parametrize("ending", ["ts", "mp4", "mkv"])
def test_both_messages_in_every_container(
    tmp_path: Path, spoken: dict[bool, Path], hevc: bool, ending: str
) -> None:
    said = orientation(across=1, hevc=hevc) + frame_packing(3, right_first=True, hevc=hevc)
    path = with_message(
        tmp_path / "a.ts", spoken[hevc], lambda _, keyframe: said if keyframe else None, hevc=hevc
    )
    if ending != "ts":
        path = remux(tmp_path / f"a.{ending}", path, lambda number, packet: None)
    geometries = {frame.geometry for frame in shown(path)}
    assert len(geometries) == 1
    only = geometries.pop()
    assert (only.orientation, only.half) == (Orientation(mirrored=True), Half.RIGHT)
    assert (only.width, only.height) == (160, 96)


def test_live_frames_are_shown_likewise(tmp_path: Path, spoken: dict[bool, Path]) -> None:
    path = with_message(
        tmp_path / "a.ts", spoken[False], lambda number, _: orientation(turn=90) if number == 0 else None
    )
    connection = _Decoded(av.open(str(path)), Settings(), timed=True)
    geometries = [arrival.geometry for arrival in connection.arrivals()]
    connection.close()
    assert [one.orientation.turn_deg for one in geometries if one is not None] == [270] * 8 + [0] * 16


def test_message_is_met_though_its_frame_is_passed_over(tmp_path: Path, spoken: dict[bool, Path]) -> None:
    """With few samples, frames that no other is made from are not decoded: those with a message are."""
    path = with_message(
        tmp_path / "a.ts",
        spoken[False],
        lambda number, key: orientation(turn=180) if number % 8 == 3 else None,
    )
    right = {round(frame.time_s, 4): frame.geometry for frame in shown(path)}
    assert len({geometry.orientation for geometry in right.values()}) == 2
    with VideoReader(path, Settings(fps=5)) as reader:
        for sample in reader.samples():
            assert sample.frame.geometry == right[round(sample.frame.time_s, 4)]


def test_messages_in_packets_with_lengths_and_broken_ones() -> None:
    said = orientation(turn=270, across=1) + frame_packing(4, right_first=True) + b"\x80"
    unit = bytes([6]) + guarded(said)
    packet = len(unit).to_bytes(4, "big") + unit + (3).to_bytes(4, "big") + b"\x65ab"
    turn, packing = messages("h264", memoryview(packet), 4)
    behind = memoryview(packet[-7:] + packet[:-7])  # the picture comes first
    assert messages("h264", behind, 4, keyframe=True) == [turn, packing]
    assert messages("h264", behind, 4) == []
    assert (turn.mirrored, turn.turn_deg, turn.persists) == (True, 90, True)
    assert (packing.arrangement, packing.right_first) == (4, True)
    random = np.random.default_rng(3)
    for length in (0, 1, 3, 4, 5, 9, 40):
        for prefix in (0, 1, 2, 4):
            noise = random.integers(0, 256, length, dtype=np.uint8).tobytes()
            messages("h264", memoryview(b"\0\0\x01\x06" + noise), prefix)
            messages("hevc", memoryview(noise), prefix)
    assert messages("h264", memoryview(b"\0\0\x01\x06" + said[:3]), 0) == []


# --- colors ---


def bands(levels: Sequence[float]) -> Image:
    """(48, 32 N, 3) RGB of gray bands."""
    row = np.repeat(np.rint(levels).astype(np.uint8), 32)
    return np.repeat(np.repeat(row[None, :, None], 48, axis=0), 3, axis=2)


def test_tone_curve() -> None:
    nits = np.array([0.0, 1, 10, 50, 90, 203, 500, 1000, 4000])
    toned = colors._toned(nits)
    assert toned[:5] == pytest.approx(nits[:5] / 203, rel=1e-3), "what is not bright stays"
    assert (np.diff(toned[:8]) > 0).all() and toned[7:] == pytest.approx([1, 1])
    assert 0.7 < toned[5] < 0.85, "white stays brighter than all but highlights"


@pytest.mark.parametrize("transfer", [ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67])
def test_hdr_looks_like_its_source(transfer: ColorTrc) -> None:
    levels = [0, 20, 60, 100, 140, 170]
    image = np.hstack([bands(levels), bands([0])])
    image[:, -32:] = (150, 60, 40)  # skin has colors that BT.2020 codes otherwise
    wide = colors.Wide(transfer)
    coded = np.ascontiguousarray(as_hdr(image, transfer)[:, :, ::-1])
    assert np.abs(colors.wide_to_bgr(coded, wide)[:, :, ::-1].astype(int) - image).max() <= 3


def hdr_video(path: Path, image: Image, frames: int = 3) -> Path:
    def tag(frame: av.VideoFrame) -> None:
        frame.color_trc, frame.color_primaries = ColorTrc.SMPTE2084, ColorPrimaries.BT2020
        frame.colorspace, frame.color_range = Colorspace.BT2020, ColorRange.MPEG

    params = "colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:range=tv"
    return encode(
        path,
        [as_hdr(image, ColorTrc.SMPTE2084)] * frames,
        pixels="rgb48le",
        pix_fmt="yuv420p10le",
        options={"preset": "ultrafast", "crf": "4", "x264-params": params},
        finish=tag,
    )


def table(columns: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(dtype="float64") for name in columns})


def rendered(source: Path, target: Path) -> Path:
    """The annotated video of a video without faces."""
    faces = table(["segment", "tracklet_id", "time_s", "person_id", "x1", "y1", "x2", "y2"])
    people = table(["person_id", "gender", "age_years"])
    samples = table(["time_s", "width", "height"])
    with VideoReader(source, Settings()) as reader:
        render_video(
            reader,
            target,
            faces=faces,
            people=people,
            samples=samples,
            settings=Settings(),
            audio_path=None,
        )
    return target


def test_annotated_video_of_hdr_is_ordinary(tmp_path: Path) -> None:
    image = scenery()
    image[-40:, -60:] = 120
    source = hdr_video(tmp_path / "hdr.mkv", image)
    with VideoReader(source, Settings()) as reader:
        assert reader.info.transfer == "pq"
    with av.open(str(rendered(source, tmp_path / "out.mp4"))) as container:
        context = container.streams.video[0].codec_context
        tags = context.colorspace, context.color_primaries, context.color_trc, context.color_range
        frame = next(container.decode(video=0))
        assert tags == (1, 1, 1, 1) and frame.format.name == "yuv420p"
        for chroma in frame.planes[1:]:
            values = np.frombuffer(memoryview(chroma), np.uint8).reshape(-1, chroma.line_size)
            assert values[-15:, WIDTH // 2 - 25 : WIDTH // 2 - 5].mean() == pytest.approx(128, abs=0.3)
        # White, above all, is compressed a little; the panel is drawn in a corner.
        assert off(frame.to_ndarray(format="rgb24")[HEIGHT // 2 :, :160], image[HEIGHT // 2 :, :160]) < 8


def test_annotated_video_plays_in_the_shape_and_direction_shown(tmp_path: Path) -> None:
    for number, how in enumerate(
        [
            {"aspect": Fraction(2), "matrix": display_matrix(0, 1, -1, 0)},
            {"matrix": display_matrix(-1, 0, 0, 1)},
            {"options": {"preset": "ultrafast", "x264-params": "frame-packing=3:colormatrix=bt709"}},
        ]
    ):
        source = encode(tmp_path / f"{number}.mp4", [scenery()] * 3, **how)  # type: ignore[arg-type]
        right = shown(source)[1]
        with av.open(str(rendered(source, tmp_path / f"{number}-out.mp4"))) as container:
            stream = container.streams.video[0]
            frame = next(container.decode(stream))
            kinds = {data.type.name for data in frame.side_data}
            assert stream.sample_aspect_ratio in (None, 1)
            assert not kinds & {"DISPLAYMATRIX", "STEREO3D"}
            assert (frame.width, frame.height) == (right.width, right.height)
            half = frame.height // 2
            assert off(frame.to_ndarray(format="bgr24")[half:], right.image()[half:]) < 6


# --- transparency ---


def test_half_transparent_is_blended_with_white() -> None:
    pixels = np.array([[[100, 50, 0, 255], [100, 50, 0, 0], [100, 50, 0, 128]]], np.uint8)
    assert colors.on_ground(pixels)[0].tolist() == [
        [100, 50, 0],
        [255, 255, 255],
        pytest.approx([177, 152, 127], abs=1),
    ]


def test_fourth_byte_of_raw_video_in_avi_means_nothing(tmp_path: Path) -> None:
    image = np.dstack([scenery(64, 48), np.zeros((48, 64), np.uint8)])
    path = encode(
        tmp_path / "a.avi", [image] * 2, pixels="rgba", codec="rawvideo", pix_fmt="bgra", options={}
    )
    frame = shown(path)[0]
    assert off(frame.image()[:, :, ::-1], image[:, :, :3]) < 1


def test_transparent_frames_are_compared_as_they_are_shown() -> None:
    """What changes where nothing is to be seen is no change."""
    frames = []
    for hidden in (0, 200):
        image = left_hidden(scenery())
        image[:, : WIDTH // 2, :3] = hidden
        picture = av.VideoFrame.from_ndarray(image, "rgba")
        frames.append(Frame(0.0, True, picture, Geometry(WIDTH, HEIGHT), Scaler()))
    first, second = (frame.signature() for frame in frames)
    np.testing.assert_array_equal(first, second)
    assert first.shape == (3, 90, 160) and first[0, :, :70].min() > 250


# --- pictures ---


def read_picture(path: Path) -> Image:
    with ImageReader([path], Settings()) as reader:
        return next(reader.frames()).image()[:, :, ::-1]


RAMP = np.linspace(0, 1, 256)[None].repeat(8, axis=0)
GRAYS = {
    "fractions": RAMP.astype(np.float32),
    "floats to 255": (RAMP * 255).astype(np.float32),
    "floats to 65535": (RAMP * 65_535).astype(np.float32),
    "floats from below 0": (RAMP * 6 - 3).astype(np.float32),
    "32 bits": (RAMP * 2_000_000_000).astype(np.int32),
    "16 bits": (RAMP * 65_535).astype(np.uint16),
}


@pytest.mark.parametrize("name", GRAYS)
def test_numbers_of_any_range_are_seen(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.tif"
    Pillow.fromarray(GRAYS[name]).save(path)
    assert np.abs(read_picture(path)[0, :, 0].astype(int) - np.arange(256)).max() <= 1


@pytest.mark.parametrize("mode", ["CMYK", "P", "L", "1", "LAB", "RGBA", "LA", "PA"])
def test_modes_of_images(tmp_path: Path, mode: str) -> None:
    image = Pillow.fromarray(scenery())
    path = tmp_path / ("a.tif" if mode != "PA" else "a.png")
    if mode == "LAB":
        profiles = (ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"))
        stored = ImageCms.profileToProfile(image, *profiles, outputMode="LAB")
    elif mode == "PA":
        stored = Pillow.fromarray(left_hidden(scenery())).quantize(256)
    elif mode == "P":
        stored = image.quantize(256)
    else:
        stored = image.convert(mode)
    assert stored is not None
    stored.save(path)
    gray = mode in ("L", "LA", "1")
    right = np.asarray(image.convert("1" if mode == "1" else "L" if gray else "RGB").convert("RGB")).copy()
    if mode == "PA":
        right[:, : WIDTH // 2] = 255
    assert off(read_picture(path), right) < (6 if mode in ("P", "PA") else 2)


def test_unsupported_tiff_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    assert cv2.imwrite(str(path), np.dstack([RAMP.astype(np.float32)] * 3))
    with pytest.raises(MediaError, match="TIFF in a form that is not supported; save it") as caught:
        ImageReader([path], Settings())
    assert caught.value.kind is MediaErrorKind.CODEC


@pytest.mark.parametrize("tag", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
def test_exif_orientation(tmp_path: Path, tag: int, ending: str) -> None:
    image = scenery(96, 64)
    undone = {
        1: image,
        2: image[:, ::-1],
        3: np.rot90(image, 2),
        4: image[::-1],
        5: image.transpose(1, 0, 2),
        6: np.rot90(image, 1),
        7: np.rot90(image, 2).transpose(1, 0, 2),
        8: np.rot90(image, 3),
    }[tag]
    exif = Pillow.Exif()
    exif[0x0112] = tag
    path = tmp_path / f"a.{ending}"
    how = {"lossless": True} if ending == "webp" else {"quality": 95} if ending == "jpg" else {}
    Pillow.fromarray(np.ascontiguousarray(undone)).save(path, exif=exif, **how)
    assert off(read_picture(path), image) < 3


# --- the whole way ---


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("sar_1_2.mp4", {"pixel_aspect": "1:2"}),
        ("display_hflip.mp4", {"mirrored": True, "rotation_deg": 0}),
        ("sei_rotate_180.ts", {"mirrored": False, "rotation_deg": 180}),
    ],
)
def test_given_files(tmp_path: Path, name: str, facts: dict[str, object]) -> None:
    run = analyze(SHARED / "cases" / name, out=tmp_path, video=False)
    assert run.complete and len(run.people) == 2 and len(run.faces) == 60
    assert run.people["on_screen_s"].tolist() == pytest.approx([6.0, 6.0], abs=0.05)
    people = run.people.sort_values("age_years")
    assert "male" not in people["gender"].tolist()
    assert people["age_years"].tolist() == pytest.approx([28, 81], abs=4)
    assert set(zip(run.samples["width"], run.samples["height"], strict=True)) == {(1280, 720)}
    assert {key: run.info["video"][key] for key in facts} == facts
