"""Cuts: found between the right samples, not where a camera moves, and judged from two pictures alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data

from analyzer.analysis.shots import ShotDetector, thumbnail
from analyzer.media.reader import VideoReader
from analyzer.settings import Settings
from testkit.media import write_video

FPS = 30
WIDTH, HEIGHT = 320, 180

Image = NDArray[np.uint8]


def photographs() -> dict[str, Image]:
    """Photographs that come inside an installed package: (H, W, 3) uint8 RGB."""
    return {
        "astronaut": data.astronaut(),
        "coffee": data.coffee(),
        "cat": data.chelsea(),
        "rocket": data.rocket(),
        "workshop": data.stereo_motorcycle()[0],
    }


PHOTOGRAPHS = photographs()


def view(photograph: Image, x: float, y: float, width: float) -> Image:
    """What a camera sees of a photograph: place and width as shares of the photograph's."""
    height, full = photograph.shape[:2]
    w = round(width * full)
    h = min(round(w * HEIGHT / WIDTH), height)
    left, top = round(x * (full - w)), round(y * (height - h))
    part = np.ascontiguousarray(photograph[top : top + h, left : left + w])
    return cv2.resize(part, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA).astype(np.uint8)


def cuts_of(looks: Iterable[Image]) -> list[bool]:
    finder = ShotDetector()
    return [finder.is_shot_boundary(look) for look in looks]


def cuts_in(path: Path, fps: float) -> tuple[list[float], list[bool]]:
    """Times of the samples of a video, and whether a cut lies before each."""
    with VideoReader(path, Settings(fps=fps)) as reader:
        frames = [sample.frame for sample in reader.samples()]
        return [frame.time_s for frame in frames], cuts_of(
            thumbnail(frame.scaled(256, 144)) for frame in frames
        )


def bars(*widths_and_grays: tuple[int, int]) -> Image:
    """Gray bars beside each other, 96 pixels in all."""
    row = np.concatenate([np.full(width, gray, np.uint8) for width, gray in widths_and_grays])
    return np.broadcast_to(row[None, :, None], (54, 96, 3)).copy()


# Worked out by hand. Of shares p and q of 128 colors, the square roots are correlated; brightness alone
# changes, which is a third of the content.
@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        # Colors differ by 0.111, content by 20/96 * 128 / 3 = 8.9.
        pytest.param(bars((96, 0)), bars((20, 128), (76, 0)), True, id="other colors"),
        # By the same colors, and 20/96 * 100 / 3 = 6.9, just under 7.
        pytest.param(bars((96, 0)), bars((20, 100), (76, 0)), False, id="other colors, like content"),
        # By 0.088, just under 0.1, and 16/96 * 255 / 3 = 14.2.
        pytest.param(bars((96, 0)), bars((16, 255), (80, 0)), False, id="like colors, like content"),
        # By 0.044 and (48 * 255 + 40 * 255 + 8 * 127) / 96 / 3 = 81.4.
        pytest.param(
            bars((48, 0), (48, 255)),
            bars((48, 255), (40, 0), (8, 128)),
            True,
            id="like colors, other content",
        ),
        # By 0.044 and 8/96 * 127 / 3 = 3.5.
        pytest.param(
            bars((48, 0), (48, 255)), bars((48, 0), (40, 255), (8, 128)), False, id="the same but for a bar"
        ),
        # By 0 and 85.
        pytest.param(bars((48, 0), (48, 255)), bars((48, 255), (48, 0)), False, id="the same, elsewhere"),
    ],
)
def test_shot_boundary_by_colors_and_content(before: Image, after: Image, expected: bool) -> None:
    assert cuts_of([before, after]) == [False, expected]
    assert cuts_of([after, before]) == [False, expected]


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    """A video of hard cuts between pans over photographs, and when they are."""
    lengths = [37, 31, 22, 45, 16, 29, 60]
    pictures = itertools.cycle(PHOTOGRAPHS.values())
    images = [
        view(picture, number / 60, 0.3, 0.8)
        for picture, length in zip(pictures, lengths, strict=False)
        for number in range(length)
    ]
    path = write_video(
        tmp_path_factory.mktemp("shots") / "edited.mp4", images, fps=FPS, options={"preset": "ultrafast"}
    )
    return path, (np.cumsum(lengths)[:-1] / FPS).tolist()


@pytest.mark.parametrize("fps", [2, 5, 10])
def test_hard_cuts_are_found_between_the_right_samples(edited: tuple[Path, list[float]], fps: float) -> None:
    path, cuts_s = edited
    times, found = cuts_in(path, fps)
    expected = [False] + [
        any(before < cut <= now + 1e-6 for cut in cuts_s) for before, now in itertools.pairwise(times)
    ]
    assert sum(expected) >= (5 if fps == 2 else 6)
    assert found == expected


@pytest.fixture(scope="module", params=PHOTOGRAPHS)
def camera(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A camera pans over a photograph for four seconds and then comes nearer for four: no cut."""
    photograph = PHOTOGRAPHS[request.param]
    shares = [number / (4 * FPS) for number in range(4 * FPS)]
    images = [view(photograph, share, 0.3, 0.6) for share in shares]
    images += [view(photograph, 1, 0.3, 0.6 - 0.25 * share) for share in shares]
    path = tmp_path_factory.mktemp("shots") / "camera.mp4"
    return write_video(path, images, fps=FPS, options={"preset": "ultrafast"})


@pytest.mark.parametrize("fps", [2, 5, 10])
def test_no_shot_boundary_where_a_camera_pans_or_zooms(camera: Path, fps: float) -> None:
    times, found = cuts_in(camera, fps)
    assert len(times) == 8 * fps and not any(found)


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_no_shot_boundary_where_the_light_flickers(name: str) -> None:
    picture = thumbnail(view(PHOTOGRAPHS[name], 0.5, 0.3, 0.9))
    dark, bright = (np.clip(picture * factor, 0, 255).astype(np.uint8) for factor in (0.95, 1.05))
    assert not any(cuts_of([picture, bright, picture, dark, bright, dark, picture]))
    tenth = np.clip(picture * 0.9, 0, 255).astype(np.uint8)
    assert not any(cuts_of([picture, tenth, picture]))


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_no_shot_boundary_where_the_light_flickers_on_a_portrait(
    two_portraits: tuple[Image, Image], factor: float
) -> None:
    for portrait in two_portraits:
        picture = thumbnail(view(np.ascontiguousarray(portrait[..., ::-1]), 0.5, 0.1, 1))
        lit = np.clip(picture * factor, 0, 255).astype(np.uint8)
        assert not any(cuts_of([picture, lit, picture]))


def test_no_shot_boundary_where_a_gray_wall_is_lit_a_little_more() -> None:
    looks = [np.full((54, 96, 3), level, np.uint8) for level in (126, 129)]
    assert not any(cuts_of(looks))


def test_shot_boundary_between_frames_of_similar_colors_is_found() -> None:
    # Both eyes of a cat: hardly other colors, but nothing is where it was.
    one, other = (thumbnail(view(PHOTOGRAPHS["cat"], 0, y, 0.5)) for y in (0, 1))
    assert cuts_of([one, other]) == [False, True]
    # So much do colors differ that are in their place: that alone is no cut.
    coffee = thumbnail(view(PHOTOGRAPHS["coffee"], 0, 0, 1))
    assert cuts_of([coffee, np.clip(coffee * 1.1, 0, 255).astype(np.uint8)]) == [False, False]


def test_content_that_moves_is_no_shot_boundary_however_much() -> None:
    # The same colors in other places, as after a fast turn of the camera.
    picture = thumbnail(view(PHOTOGRAPHS["workshop"], 0, 0, 1))
    assert not any(cuts_of([picture, np.roll(picture, 30, axis=1), picture]))


def test_shot_boundary_between_segments_is_that_in_passing() -> None:
    random = np.random.default_rng(2)
    looks: list[Image] = []
    for number in range(60):
        photograph = list(PHOTOGRAPHS.values())[int(random.integers(5))]
        place = random.random(2)
        steps = range(int(random.integers(1, 4)))
        looks += [thumbnail(view(photograph, place[0], place[1], 0.5 + 0.1 * step)) for step in steps]
        if number % 3 == 0:
            looks.append(np.clip(looks[-1] * random.uniform(0.6, 1.4), 0, 255).astype(np.uint8))
    in_passing = cuts_of(looks)
    alone = [cuts_of(pair)[1] for pair in itertools.pairwise(looks)]
    assert in_passing == [False, *alone]
    assert 20 < sum(alone) < len(alone) - 20


def test_thumbnails_have_one_size() -> None:
    random = np.random.default_rng(0)
    for shape in ((54, 96, 3), (1080, 1920, 3), (10, 2000, 3), (1, 1, 3)):
        look = thumbnail(random.integers(0, 256, shape, dtype=np.uint8))
        assert look.shape == (54, 96, 3) and look.dtype == np.uint8
    assert cuts_of([np.zeros((54, 96, 3), np.uint8)] * 3) == [False] * 3
