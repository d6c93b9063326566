"""Looking for faces: what is taken over, what is results at how closely, and that a segment decides alone."""

from __future__ import annotations

import dataclasses
import gc
import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from analyzer.analysis import detection
from analyzer.analysis.detection import DetectedSample, detect_faces
from analyzer.analysis.segment import _detected
from analyzer.faces import Faces
from analyzer.media.frame import SIGNATURE_PX, Frame, Sample, Scaler
from analyzer.media.geometry import Geometry, Orientation
from analyzer.media.reader import VideoReader
from analyzer.settings import Settings
from analyzer.util.timing import StageTimer
from testkit.media import write_video

Image = NDArray[np.uint8]
SCALER = Scaler()
NEVER = {"reuse_s": 0.0}
"""Each sample is results at."""
STILL = "yuvj420p"
"""Brightness from 0 to 255, as it is compared."""
WIDTH, HEIGHT = 1280, 720
FULL = 640
"""Width of the detector's picture in full size: half of the frame's."""


@pytest.fixture(autouse=True)
def full_resolution_every_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two full looks lie a second and four samples at most, and there are three smaller sizes."""
    monkeypatch.setattr(detection, "_BETWEEN", 4)
    monkeypatch.setattr(detection, "_BETWEEN_S", 1.0)
    monkeypatch.setattr(detection, "_REDUCTIONS", (4.0, 2.0, 640 / 448))
    monkeypatch.setattr(detection, "_ENOUGH_PX", 20.0)


def frame_of(picture: Image, time_s: float, pixels: str = "bgr24") -> Frame:
    decoded = av.VideoFrame.from_ndarray(picture, pixels)
    return Frame(time_s, True, decoded, Geometry(decoded.width, decoded.height), SCALER)


def samples_of(pictures: Sequence[Image], fps: float = 5, pixels: str = "bgr24") -> Iterator[Sample]:
    for number, picture in enumerate(pictures):
        yield Sample(frame_of(picture, number / fps, pixels), 0, number)


def level_of(number: int) -> int:
    return 20 + 4 * number


def plain(number: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Image:
    """An even picture from which its number can be read."""
    return np.full((size[1], size[0], 3), level_of(number), np.uint8)


def of_shot(number: int, shot: int) -> Image:
    """A picture from whose corner its number can be read; a cut lies between two of different shots only."""
    picture = textured(shot, WIDTH, HEIGHT)
    picture[:40, :40] = level_of(number)
    return picture


class Detector:
    """Finds faces of the widths that are given for a sample and those after it, in pixels of the frame;
    remembers its looks.

    `batches` holds the numbers of the samples that were results at together, `looks` the width of the picture
    of each.
    """

    reducible = True
    points_in_box = None

    def __init__(self, widths: dict[int, Sequence[float]] | None = None) -> None:
        self.widths = widths or {}
        self.batches: list[list[int]] = []
        self.widths_of: dict[int, int] = {}

    def input_size(self, width: int, height: int, reduction: float = 1.0) -> tuple[int, int]:
        factor = min(1.0, FULL / max(width, height)) / reduction
        return round(width * factor), round(height * factor)

    def detect(self, images: list[Image], sizes: list[tuple[int, int]]) -> list[Faces]:
        assert len(images) == len(sizes)
        numbers = [round((int(image[0, 0, 0]) - 20) / 4) for image in images]
        self.batches.append(numbers)
        for number, image in zip(numbers, images, strict=True):
            assert number not in self.widths_of
            self.widths_of[number] = image.shape[1]
        return [self._found(number) for number in numbers]

    def _found(self, number: int) -> Faces:
        named = [one for one in self.widths if one <= number]
        widths = self.widths[max(named)] if named else ()
        # Its place tells of which sample it is.
        boxes = [[number, 0, number + width, width] for width in widths]
        return Faces.build(boxes=boxes, scores=[0.9] * len(boxes)) if boxes else Faces.empty()


def detected_in(
    samples: Iterator[Sample] | list[Sample], detector: Any = None, **settings: Any
) -> tuple[list[DetectedSample], Detector]:
    detector = detector or Detector()
    return list(detect_faces(samples, detector, Settings(**settings), StageTimer())), detector


def ages(results: Sequence[DetectedSample]) -> list[float]:
    return [round(one.detection_age_s, 6) for one in results]


# --- faces taken over --------------------------------------------------------------------------------


def still(level: int = 100, width: int = 1920, height: int = 1080) -> Image:
    """A picture as decoders give it, (H * 3 / 2, W) uint8 yuvj420p: of one brightness, without color."""
    picture = np.full((height * 3 // 2, width), 128, np.uint8)
    picture[:height] = level
    return picture


def textured(seed: int, width: int = 640, height: int = 360) -> Image:
    """A picture of fields, whose number, places and colors depend on the seed."""
    random = np.random.default_rng(seed).integers(20, 236, (18 + seed, 32 + 3 * seed, 3), np.uint8)
    random = (random * np.roll([1, 0.6, 0.3], seed)).astype(np.uint8)
    return np.asarray(cv2.resize(random, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)


def reused(pictures: Sequence[Image], fps: float = 5, pixels: str = STILL, **settings: Any) -> list[float]:
    return ages(detected_in(samples_of(pictures, fps, pixels), AnyDetector(), **settings)[0])


class AnyDetector(Detector):
    """Finds one face in each picture, whose place is how many pictures were results at before."""

    def detect(self, images: list[Image], sizes: list[tuple[int, int]]) -> list[Faces]:
        del sizes
        first = sum(map(len, self.batches))
        self.batches.append(list(range(first, first + len(images))))
        return [Faces.build(boxes=[[n, 0, n + 100, 100]], scores=[0.9]) for n in self.batches[-1]]


def test_unchanged_frame_reuses_the_detections() -> None:
    results, detector = detected_in(samples_of([plain(3)] * 8), Detector({3: (60, 200)}))
    assert detector.batches == [[3]]
    assert ages(results) == pytest.approx([number / 5 for number in range(8)])
    assert [one.time_s for one in results] == [number / 5 for number in range(8)]
    for one in results:
        np.testing.assert_array_equal(one.faces.boxes, [[3, 0, 63, 60], [3, 0, 203, 200]])
        np.testing.assert_array_equal(one.thumbnail, results[0].thumbnail)
        assert not one.shot_boundary
    assert [one.full_resolution for one in results] == [True] + [False] * 7


@pytest.mark.parametrize(
    ("reuse_s", "every"), [(0.0, 1), (0.2, 1), (0.25, 2), (0.5, 3), (0.7, 3), (1.0, 5), (3600.0, 20)]
)
def test_detections_are_never_reused_for_longer_than_set(reuse_s: float, every: int) -> None:
    # Four samples a second: their times are exact.
    result = reused([still()] * 20, 4, reuse_s=reuse_s)
    assert result == [number % every / 4 for number in range(20)]
    assert max(result) <= reuse_s


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (160, 90)])
def test_noise_of_a_sensor_does_not_end_reuse(width: int, height: int) -> None:
    # The smaller one is not averaged: there two pictures differ by up to 4.
    random = np.random.default_rng(0)
    pictures = []
    for _ in range(6):
        noise = random.integers(-2, 3, (height * 3 // 2, width))
        pictures.append((still(100, width, height) + noise).astype(np.uint8))
    assert reused(pictures) == pytest.approx([number / 5 for number in range(6)])


@pytest.mark.parametrize("place", [(0, 0), (960, 540), (1908, 1068)])
@pytest.mark.parametrize(("change", "anew"), [(6, False), (7, True), (-6, False), (-7, True)])
def test_change_of_the_signature_counts_from_the_threshold_on(
    place: tuple[int, int], change: int, anew: bool
) -> None:
    # At 1080p a field is 12 x 12 pixels.
    x, y = place
    other = still(100)
    other[y : y + 12, x : x + 12] += np.array(change).astype(np.uint8)
    assert reused([still(100), still(100), other]) == pytest.approx([0, 0.2, 0.0 if anew else 0.4])


@pytest.mark.parametrize("side", [120, 300, 600])
def test_face_that_moves_by_a_fiftieth_of_its_width_is_detected_anew(
    side: int, two_portraits: tuple[Image, Image]
) -> None:
    for portrait in two_portraits:
        face = cv2.resize(portrait, (side * 2, side * 2), interpolation=cv2.INTER_AREA)
        pictures = []
        for x in (400, 400, 400 + side // 50):
            picture = np.full((1200, 1920, 3), 110, np.uint8)
            picture[:, :] = np.linspace(60, 160, 1920)[None, :, None]
            picture[0 : side * 2, x : x + side * 2] = face
            pictures.append(picture)
        assert reused(pictures, pixels="rgb24") == pytest.approx([0, 0.2, 0])


def test_slow_drift_adds_up_since_the_last_detection() -> None:
    # From one to the next the brightness differs by 2 only, from the look by 8 at the fourth.
    pictures = [still(100 + 2 * number) for number in range(12)]
    assert reused(pictures) == pytest.approx([0, 0.2, 0.4, 0.6] * 3)


def test_a_sample_is_compared_with_the_last_detection_only() -> None:
    pictures = [still(level) for level in (100, 130, 130, 100, 100)]
    detector = AnyDetector()
    detector.reducible = False  # in the order of time
    results, _ = detected_in(samples_of(pictures, 5, STILL), detector)
    assert ages(results) == pytest.approx([0, 0, 0.2, 0, 0.2])
    # The face of each is that of its own look.
    assert [int(one.faces.boxes[0, 0]) for one in results] == [0, 1, 1, 2, 2]
    assert sum(map(len, detector.batches)) == 3


@pytest.mark.slow
def test_frame_of_a_sample_with_reused_detections_is_released() -> None:
    most = 0

    def samples() -> Iterator[Sample]:
        nonlocal most
        for number in range(40):
            yield Sample(frame_of(plain(0, size=(64, 48)), number / 5), 0, number)
            most = max(most, frames())

    def frames() -> int:
        # By type: asking objects for their class makes some of other packages warn.
        return sum(type(thing) is Frame for thing in gc.get_objects())

    before = frames()
    results, _ = detected_in(samples(), reuse_s=100)
    assert [one.frame is None for one in results] == [False] + [True] * 39
    # The one that was results at, and what is prepared ahead.
    assert most - before <= 10


def test_shot_boundary_ends_reuse() -> None:
    pictures = [textured(1)] * 4 + [textured(2)] * 4
    results, _ = detected_in(samples_of(pictures), AnyDetector())
    assert ages(results) == pytest.approx([0, 0.2, 0.4, 0.6] * 2)
    assert [one.shot_boundary for one in results] == [False] * 4 + [True] + [False] * 3
    assert [int(one.faces.boxes[0, 0]) for one in results] == [0] * 4 + [1] * 4
    assert results[4].frame is not None and not np.array_equal(results[3].thumbnail, results[4].thumbnail)


@pytest.mark.parametrize(("width", "height"), [(640, 480), (360, 640), (96, 54), (1280, 720)])
def test_change_of_the_frames_size_ends_reuse(width: int, height: int) -> None:
    pictures = [plain(5, size=(640, 360))] * 3 + [plain(5, size=(width, height))] * 3
    results, _ = detected_in(samples_of(pictures), AnyDetector())
    assert ages(results) == pytest.approx([0, 0.2, 0.4] * 2)
    assert [int(one.faces.boxes[0, 0]) for one in results] == [0] * 3 + [1] * 3


def test_change_of_direction_ends_reuse() -> None:
    """The stored picture is the same, but its faces are shown elsewhere."""
    samples = list(samples_of([still()] * 3, pixels=STILL))
    mirrored = Geometry(1920, 1080, orientation=Orientation(mirrored=True))
    samples[2] = Sample(dataclasses.replace(samples[2].frame, geometry=mirrored), 0, 2)
    assert ages(detected_in(samples, AnyDetector())[0]) == pytest.approx([0, 0.2, 0])


def test_change_of_color_alone_ends_reuse() -> None:
    gray = np.full((360, 640, 3), 75, np.uint8)
    red = np.zeros_like(gray)
    red[..., 2] = 255
    assert abs(int(cv2.cvtColor(red, cv2.COLOR_BGR2GRAY)[0, 0]) - 75) <= 1
    results, _ = detected_in(samples_of([gray, gray, red, red]))
    assert ages(results) == pytest.approx([0, 0.2, 0, 0.2])


def test_limit_of_an_age_is_no_matter_of_rounding() -> None:
    assert reused([still()] * 40, reuse_s=0.2) == pytest.approx([0, 0.2] * 20)


def test_signature_has_the_promised_size() -> None:
    for width, height in ((1920, 1080), (1080, 1920), (640, 480)):
        signature = frame_of(still(77, width, height), 0.0, STILL).signature()
        assert len(signature) == 3 and max(signature.shape) == SIGNATURE_PX and signature.dtype == np.uint8
        assert abs(signature.shape[2] / signature.shape[1] - width / height) < 0.02
        assert np.ptp(signature[0]) <= 3 and np.abs(signature[1:].astype(int) - 128).max() <= 3
    assert frame_of(still(77, 64, 48), 0.0, STILL).signature().shape == (3, 48, 64)


# --- sizes -------------------------------------------------------------------------------------------


def numbered_samples(count: int, fps: float = 5, cuts: Sequence[int] = ()) -> list[Sample]:
    pictures = [of_shot(number, sum(number >= cut for cut in cuts) % 2) for number in range(count)]
    return list(samples_of(pictures, fps))


def at_full_resolution(detector: Detector) -> list[int]:
    return sorted(number for number, width in detector.widths_of.items() if width == FULL)


@pytest.mark.parametrize(
    ("fps", "count", "full"),
    [
        (5, 13, [0, 5, 10, 12]),
        (5, 11, [0, 5, 10]),
        (2, 8, [0, 2, 4, 6, 7]),
        (3, 9, [0, 3, 6, 8]),
        (10, 17, [0, 5, 10, 15, 16]),
        (30, 12, [0, 5, 10, 11]),
        (1, 4, [0, 1, 2, 3]),
        (0.5, 3, [0, 1, 2]),
        (5, 1, [0]),
        (5, 2, [0, 1]),
        (5, 3, [0, 2]),
    ],
)
def test_first_last_and_one_a_second_or_every_fifth_are_at_full_resolution(
    fps: float, count: int, full: list[int]
) -> None:
    results, detector = detected_in(numbered_samples(count, fps), **NEVER)
    assert at_full_resolution(detector) == full
    assert [number for number, one in enumerate(results) if one.full_resolution] == full
    assert sorted(detector.widths_of) == list(range(count))
    # Nobody is seen: half the size for the others.
    assert {width for number, width in detector.widths_of.items() if number not in full} <= {FULL // 2}


@pytest.mark.parametrize("fps", [1, 5, *(pytest.param(fps, marks=pytest.mark.slow) for fps in (0.4, 3, 30))])
def test_full_resolution_is_as_frequent_as_promised(fps: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    samples, seconds = detection._BETWEEN, detection._BETWEEN_S
    assert 1 <= samples < 15 and 0.5 <= seconds <= 3
    _, detector = detected_in(numbered_samples(40, fps), **NEVER)
    steps = np.diff(at_full_resolution(detector))
    # The last one is results at closely whenever it comes.
    expected = max(1, min(samples + 1, math.ceil(seconds * fps - 1e-6)))
    assert set(steps[:-1].tolist()) == {expected} and steps[-1] <= expected


@pytest.mark.parametrize(
    ("cuts", "full"),
    [
        ([1], [0, 1, 6, 11, 12]),
        ([3], [0, 2, 3, 8, 12]),
        ([5], [0, 4, 5, 10, 12]),
        ([6], [0, 5, 6, 11, 12]),
        ([7], [0, 5, 6, 7, 12]),
        ([4, 5], [0, 3, 4, 5, 10, 12]),
        ([12], [0, 5, 10, 11, 12]),
    ],
)
def test_shot_begins_and_ends_at_full_resolution(cuts: list[int], full: list[int]) -> None:
    results, detector = detected_in(numbered_samples(13, cuts=cuts), **NEVER)
    assert [number for number, one in enumerate(results) if one.shot_boundary] == cuts
    assert at_full_resolution(detector) == full


def test_reusing_samples_do_not_count_towards_full_resolution_but_their_time_does() -> None:
    # Of each two the second is as the first: 5 a second, so the third of those results at is 1.2 s on.
    pictures = [plain(number // 2 * 2) for number in range(13)]
    results, detector = detected_in(samples_of(pictures), reuse_s=0.3)
    assert ages(results) == pytest.approx([0, 0.2] * 6 + [0])
    assert at_full_resolution(detector) == [0, 6, 12]
    assert sorted(detector.widths_of) == [0, 2, 4, 6, 8, 10, 12]


@pytest.mark.parametrize("later", ["before", "after", "both"])
@pytest.mark.parametrize(
    ("width", "picture"),
    [
        # In pixels of the frame, twice those of the detector's picture: 20 must be left there.
        (400, FULL / 4),
        (160, FULL / 4),
        (159, FULL / 2),
        (80, FULL / 2),
        (79, 448),
        (57.2, 448),
        (57, FULL),
        (40, FULL),
        (3, FULL),
    ],
)
def test_the_smallest_face_of_both_neighbors_decides_the_reduction(
    width: float, picture: float, later: str
) -> None:
    wide = {"before": ((width,), (900,)), "after": ((900,), (width,)), "both": ((900, width), (width, 900))}
    before, after = wide[later]
    _, detector = detected_in(numbered_samples(6), Detector({0: before, 5: after}), **NEVER)
    assert detector.widths_of == {0: FULL, 5: FULL} | dict.fromkeys(range(1, 5), picture)


@pytest.mark.parametrize(("height", "picture"), [(600, FULL / 4), (160, FULL / 2), (50, FULL)])
def test_height_gives_the_size_of_a_cropped_face(height: float, picture: float) -> None:
    class AtTheBorder(Detector):
        def _found(self, number: int) -> Faces:
            return Faces.build(boxes=[[0, 0, 8, height]], scores=[0.9])

    _, detector = detected_in(numbered_samples(6), AtTheBorder(), **NEVER)
    assert detector.widths_of == {0: FULL, 5: FULL} | dict.fromkeys(range(1, 5), picture)


def test_without_faces_half_the_resolution_suffices() -> None:
    _, detector = detected_in(numbered_samples(6), **NEVER)
    assert detector.widths_of == {0: FULL, 5: FULL} | dict.fromkeys(range(1, 5), FULL // 2)


def test_faces_found_in_between_do_not_decide() -> None:
    # Only full looks do: what is found between them says nothing of the next stretch.
    widths = {0: (400,), 3: (3,), 5: (400,), 10: (400,)}
    _, detector = detected_in(numbered_samples(11), Detector(widths), **NEVER)
    assert {detector.widths_of[number] for number in (1, 2, 3, 4, 6, 7, 8, 9)} == {FULL // 4}


def test_small_face_in_the_later_detection_keeps_full_resolution_before_it() -> None:
    # 5 and 10 are taken in different batches, 10 and 15 in one.
    for small, full in ((5, range(11)), (10, range(5, 16)), (15, range(10, 21))):
        widths = dict.fromkeys((0, 5, 10, 15, 20), (400,)) | {small: (400, 30)}
        _, detector = detected_in(numbered_samples(21), Detector(widths), **NEVER)
        assert at_full_resolution(detector) == sorted({0, 5, 10, 15, 20, *full})


def test_small_face_does_not_affect_the_next_shot() -> None:
    widths = {0: (30,), 4: (30,), 5: (400,), 10: (400,)}
    _, detector = detected_in(numbered_samples(11, cuts=[5]), Detector(widths), **NEVER)
    assert at_full_resolution(detector) == [0, 1, 2, 3, 4, 5, 10]
    assert {detector.widths_of[number] for number in (6, 7, 8, 9)} == {FULL // 4}


class Losing(Detector):
    """Two large faces, of which it loses one in small pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.all_looks: list[tuple[int, int]] = []

    def detect(self, images: list[Image], sizes: list[tuple[int, int]]) -> list[Faces]:
        found = []
        for image in images:
            number = round((int(image[0, 0, 0]) - 20) / 4)
            self.all_looks.append((number, image.shape[1]))
            both = image.shape[1] == FULL
            found.append(Faces.build(boxes=[[0, 0, 400, 400]] * (1 + both), scores=[0.9] * (1 + both)))
        return found


def test_where_a_face_is_lost_at_reduced_resolution_its_shot_is_at_full() -> None:
    detector = Losing()
    results, _ = detected_in(numbered_samples(22, cuts=[12]), detector, **NEVER)
    assert [len(one.faces) for one in results] == [2] * 22
    assert all(one.full_resolution for one in results[:6])
    looks = {number: [width for one, width in detector.all_looks if one == number] for number in range(22)}
    small = FULL // 4
    # The first stretch of each shot is results at twice; then it is known.
    assert [number for number in range(22) if looks[number] == [small, FULL]] == [1, 2, 3, 4, 13, 14, 15, 16]
    assert all(looks[number] == [FULL] for number in (*range(5, 13), *range(17, 22)))


def test_a_false_alarm_does_not_end_reduced_resolution() -> None:
    class Hidden(Losing):
        def detect(self, images: list[Image], sizes: list[tuple[int, int]]) -> list[Faces]:
            found = super().detect(images, sizes)
            numbers = [number for number, _ in self.all_looks[-len(images) :]]
            # Behind something in the samples 2 and 3, seen in all others whatever the size.
            return [
                Faces.build(boxes=[[0, 0, 400, 400]] * count, scores=[0.9] * count)
                for count in (1 if number in (2, 3) else 2 for number in numbers[: len(found)])
            ]

    detector = Hidden()
    results, _ = detected_in(numbered_samples(11), detector, **NEVER)
    assert [len(one.faces) for one in results] == [2, 2, 1, 1, *[2] * 7]
    again = [number for number in range(11) if len([1 for one, _ in detector.all_looks if one == number]) > 1]
    assert again == [2, 3]
    assert {width for number, width in detector.all_looks if number in (6, 7, 8, 9)} == {FULL // 4}


@pytest.mark.parametrize("size", [320, 640])
def test_fixed_size_is_never_reduced(size: int) -> None:
    widths = dict.fromkeys(range(13), (900,))
    results, detector = detected_in(numbered_samples(13), Detector(widths), detector_size=size, **NEVER)
    assert at_full_resolution(detector) == list(range(13))
    assert all(one.full_resolution for one in results)
    assert [number for batch in detector.batches for number in batch] == list(range(13))
    assert max(map(len, detector.batches)) >= 2


def test_results_come_in_order_whatever_is_detected_first() -> None:
    widths: dict[int, Sequence[float]] = dict.fromkeys(range(22), (400,)) | {5: (15,), 11: (21,)}
    results, detector = detected_in(numbered_samples(22, cuts=[8]), Detector(widths), **NEVER)
    assert [one.time_s for one in results] == [number / 5 for number in range(22)]
    assert [int(one.faces.boxes[0, 0]) for one in results] == list(range(22))
    assert all(one.frame is not None and one.frame.time_s == one.time_s for one in results)
    # How closely to look is known when the full look that follows is done.
    full = [0, 5, 7, 8, 13, 18, 21]
    turn = {number: turn for turn, batch in enumerate(detector.batches) for number in batch}
    assert [number for number, one in enumerate(results) if one.full_resolution] == full
    for number in sorted(set(range(22)) - set(full)):
        assert turn[number] > turn[next(one for one in full if one > number)]
    # Those of one size go together.
    assert any(len(batch) >= 4 for batch in detector.batches)


@pytest.mark.parametrize("size", ["auto", 640])
def test_images_of_several_sizes_are_never_in_one_batch(size: str | int) -> None:
    sizes = [(640, 360)] * 7 + [(400, 400)] * 6
    pictures = [plain(number, size=size) for number, size in enumerate(sizes)]
    results, detector = detected_in(
        samples_of(pictures), Detector(dict.fromkeys(range(13), (100,))), detector_size=size, **NEVER
    )
    assert [int(one.faces.boxes[0, 0]) for one in results] == list(range(13))
    for batch in detector.batches:
        assert len({sizes[number] for number in batch}) == 1
    # The first of another size is results at closely.
    full = [0, 5, 7, 12] if size == "auto" else list(range(13))
    assert [number for number, one in enumerate(results) if one.full_resolution] == full


def test_no_samples_give_nothing() -> None:
    results, detector = detected_in([])
    assert results == [] and detector.batches == []


# --- segments ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4 s of 160 x 96 pixels: half a second each of movement and of rest."""
    picture = cv2.GaussianBlur(textured(3), (0, 0), 6)
    images = []
    for number in range(60):
        x = number if number // 8 % 2 else number // 8 * 8
        images.append(picture[100:196, x : x + 160])
    path = tmp_path_factory.mktemp("looking") / "film.mp4"
    return write_video(path, images, fps=15, options={"crf": "18"})


class Bright(Detector):
    """Finds a face as wide as the picture is bright: what it finds depends on the picture alone."""

    def detect(self, images: list[Image], sizes: list[tuple[int, int]]) -> list[Faces]:
        self.batches.append([len(images)])
        widths = [5 + float(image.mean()) / 4 for image in images]
        del sizes
        return [Faces.build(boxes=[[0, 0, width, width]], scores=[0.9]) for width in widths]


@pytest.mark.parametrize("segment_s", [1.0, 2.0])
def test_segment_on_its_own_equals_the_same_in_passing(film: Path, segment_s: float) -> None:
    settings = Settings(segment_s=segment_s, fps=5)
    models: Any = SimpleNamespace(detector=Bright())
    with VideoReader(film, settings) as reader:
        passing = list(_detected(reader.samples(), models, settings, StageTimer()))
        by_segment = {
            number: [one for _, one in group]
            for number, group in itertools.groupby(passing, key=lambda pair: pair[0])
        }
        assert len(by_segment) == 4 / segment_s
        for segment, there in by_segment.items():
            samples = reader.samples(*reader.segment_bounds(segment))
            alone = list(detect_faces(samples, Bright(), settings, StageTimer()))
            for mine, theirs in zip(alone, there, strict=True):
                for name in ("time_s", "image_name", "detection_age_s", "shot_boundary", "full_resolution"):
                    assert getattr(mine, name) == getattr(theirs, name)
                np.testing.assert_array_equal(mine.faces.boxes, theirs.faces.boxes)
                np.testing.assert_array_equal(mine.thumbnail, theirs.thumbnail)
    results = [one for _, one in passing]
    assert len(results) == 20
    # There is something to decide: carried ones, full ones, others.
    assert sum(one.detection_age_s > 0 for one in results) >= 4
    assert sum(one.full_resolution for one in results) >= 4
    assert sum(not one.full_resolution and not one.detection_age_s for one in results) >= 2
    # No segment begins with what the one before has seen.
    assert all(there[0].full_resolution and not there[0].detection_age_s for there in by_segment.values())
