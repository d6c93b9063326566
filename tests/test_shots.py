"""Shot boundaries: found between the right samples, not where a camera moves or the light changes."""

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
from analyzer.analysis.tracking import track_faces
from analyzer.faces import Faces
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


def gray(image: Image) -> Image:
    return np.repeat(image.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)


def lit(image: Image, gain: float, offset: float = 0) -> Image:
    return np.clip(image * gain + offset, 0, 255).astype(np.uint8)


def camera_at(photograph: Image, x: float, y: float, width: float = 0.6, blur: int = 1) -> Image:
    """A thumbnail of what a moving camera sees: it is blurred along the row by so many of 320 pixels."""
    return thumbnail(cv2.blur(view(photograph, x, y, width), (blur, 1)).astype(np.uint8))


def still(name: str, samples: int) -> list[Image]:
    """Thumbnails of a camera that is held in the hand."""
    random = np.random.default_rng(0)
    places = 0.5 + random.normal(0, 0.01, (samples, 2))
    return [camera_at(PHOTOGRAPHS[name], x, y) for x, y in places]


PAIRS = list(itertools.combinations(PHOTOGRAPHS, 2))


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_a_cut_is_one_shot_boundary_also_in_black_and_white_and_in_the_dark(one: str, other: str) -> None:
    looks = still(one, 4) + still(other, 4)
    expected = [False] * 4 + [True] + [False] * 3
    assert cuts_of(looks) == expected
    assert cuts_of([lit(look, 0.4) for look in looks]) == expected
    assert cuts_of([gray(look) for look in looks]) == expected


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_no_shot_boundary_where_a_flash_goes_off(name: str) -> None:
    before, shown, after = still(name, 3), still(name, 4)[-1], still(name, 3)
    for flash in (lit(shown, 1.3), lit(shown, 1.6), lit(shown, 1.4, 60), np.full_like(shown, 255)):
        assert not any(cuts_of([*before, flash, *after]))


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_no_shot_boundary_where_a_flash_hides_most_of_what_there_is(name: str) -> None:
    before, shown, after = still(name, 3), still(name, 4)[-1], still(name, 3)
    for gain, offset in itertools.product((2.5, 3.0, 4.0), (40, 100)):
        assert not any(cuts_of([*before, lit(shown, gain, offset), *after]))


def test_a_shot_that_is_as_bright_as_a_flash_begins_at_most_a_sample_late() -> None:
    dark = [lit(look, 0.3) for look in still("cat", 4)]
    bright = [lit(look, 3.0, 60) for look in still("coffee", 6)]
    found = cuts_of([*dark, *bright])
    assert sum(found) == 1 and found.index(True) in (4, 5)


def dissolve(one: str, other: str, samples: int, phase: float = 0.5) -> list[Image]:
    """Thumbnails of one shot that dissolves into another in so many samples."""
    shares = (np.arange(samples) + phase) / samples
    pairs = zip(still(one, samples), still(other, samples), shares, strict=True)
    return [cv2.addWeighted(old, 1 - share, new, share, 0).astype(np.uint8) for old, new, share in pairs]


@pytest.mark.parametrize("samples", [3, 8, 20])
@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_a_dissolve_is_one_shot_boundary_within_it(one: str, other: str, samples: int) -> None:
    looks = [*still(one, 8), *dissolve(one, other, samples), *still(other, 30)]
    (boundary,) = np.flatnonzero(cuts_of(looks))
    # At the latest before the first sample without the old shot.
    assert 8 < boundary <= 8 + samples
    # And another one soon after.
    looks[8 + samples + 3 :] = [*dissolve(other, one, 5), *still(one, 8)]
    assert sum(cuts_of(looks)) == 2


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_no_shot_boundary_where_light_goes_slowly_or_somebody_walks_in(name: str) -> None:
    shares = np.linspace(1, 0.25, 12)
    dimmed = [lit(look, share) for look, share in zip(still(name, 12), shares, strict=True)]
    assert not any(cuts_of([*dimmed, *dimmed[::-1]]))
    # Somebody who fills half of the frame in the end.
    entering = still(name, 12)
    for number, look in enumerate(entering):
        look[10:, : 4 * number] = (40, 60, 110)
    assert not any(cuts_of([*still(name, 4), *entering, *[entering[-1]] * 6]))


@pytest.mark.parametrize("level", [0, 255])
def test_a_black_or_white_sample_ends_no_tracklet(level: int) -> None:
    looks = [*still("cat", 4), np.full((54, 96, 3), level, np.uint8), *still("cat", 4)]
    seen = Faces.build(boxes=[[100, 50, 140, 100]], scores=[0.9])
    found = [Faces.empty() if look.min() == look.max() else seen for look in looks]
    tracked = track_faces(found, [number / 5 for number in range(9)], cuts_of(looks))
    assert [faces.track_ids.tolist() for faces in tracked] == [[0]] * 4 + [[]] + [[0]] * 4


@pytest.mark.parametrize("fps", [2, 5, 10])
@pytest.mark.parametrize("one", PHOTOGRAPHS)
def test_a_fade_to_black_is_a_shot_boundary_only_if_another_shot_follows(one: str, fps: int) -> None:
    shares = np.linspace(1, 0, fps + 1)
    out = [lit(look, share) for look, share in zip(still(one, fps + 1), shares, strict=True)]
    for other in PHOTOGRAPHS:
        back = [lit(look, share) for look, share in zip(still(other, fps + 1), shares[::-1], strict=True)]
        looks = [*still(one, 3), *out, np.zeros_like(out[0]), *back, *still(other, 3)]
        assert sum(cuts_of(looks)) == (other != one)


def test_a_segment_that_begins_black_has_a_shot_boundary_where_something_is_seen() -> None:
    black = np.zeros((54, 96, 3), np.uint8)
    assert cuts_of([black, black, *still("cat", 2)]) == [False, False, True, False]
    assert not any(cuts_of([*still("cat", 2), black, black]))


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_no_shot_boundary_where_a_camera_shakes(name: str) -> None:
    random = np.random.default_rng(1)
    looks = [
        camera_at(PHOTOGRAPHS[name], x, y, 0.6 + zoom, blur=int(blur))
        for x, y, zoom, blur in zip(
            random.uniform(0.35, 0.65, 40),
            random.uniform(0.45, 0.55, 40),
            random.uniform(-0.02, 0.02, 40),
            random.integers(1, 16, 40),
            strict=True,
        )
    ]
    assert not any(cuts_of(looks))


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_no_shot_boundary_where_only_a_part_changes(name: str) -> None:
    before = still(name, 3)
    caption, half, passing = before[-1].copy(), before[-1].copy(), before[-1].copy()
    caption[42:52, 4:92] = 230
    half[:, 60:] = still("coffee" if name != "coffee" else "cat", 1)[0][:, 60:]
    passing[:, 62:86] = (30, 25, 40)
    for changed in (caption, half, passing):
        assert not any(cuts_of([*before, changed, changed, *before]))


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


def test_shot_boundary_between_segments_is_that_in_passing_unless_the_camera_swings() -> None:
    random = np.random.default_rng(2)
    names = list(PHOTOGRAPHS)
    calm = [look for number in range(60) for look in still(names[int(random.integers(5))], 1 + number % 3)]
    wild = [
        camera_at(PHOTOGRAPHS[names[number // 20]], *random.random(2), width=0.4, blur=9)
        for number in range(100)
    ]
    for looks in (calm, wild):
        in_passing = cuts_of(looks)[1:]
        alone = [cuts_of(pair)[1] for pair in itertools.pairwise(looks)]
        # It takes more change where there was a change just before, and never less.
        assert all(one or not passing for one, passing in zip(alone, in_passing, strict=True))
        assert 10 < sum(alone) < len(alone) - 10
        assert (in_passing == alone) == (looks is calm)


def test_thumbnails_have_one_size() -> None:
    random = np.random.default_rng(0)
    for shape in ((54, 96, 3), (1080, 1920, 3), (10, 2000, 3), (1, 1, 3)):
        look = thumbnail(random.integers(0, 256, shape, dtype=np.uint8))
        assert look.shape == (54, 96, 3) and look.dtype == np.uint8
    assert cuts_of([np.zeros((54, 96, 3), np.uint8)] * 3) == [False] * 3
