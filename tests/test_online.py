"""Frame by frame: ids and estimates at once, at one detector size, in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from analyzer import OnlineAnalyzer
from analyzer.analysis import online
from analyzer.analysis.online import OnlineTracker
from analyzer.analysis.segment import Models
from analyzer.errors import SettingsError
from analyzer.faces import AlignedCrop, FaceEstimates, Faces
from analyzer.media.reader import VideoReader
from analyzer.settings import Settings
from analyzer.vision.calibration import Calibration
from testkit.media import write_video

Image = NDArray[np.uint8]
Portraits = tuple[Image, Image]


# --- with the real models ----------------------------------------------------------------------------


def test_ids_gender_and_age_are_known_from_the_first_image(two_portraits: Portraits, models: Models) -> None:
    analyzer = OnlineAnalyzer(models=models)
    pushed = [analyzer.push(np.roll(two_portraits[0], 2 * n, 1), n / 10) for n in range(20)]
    assert all(len(faces) == 1 and faces.track_ids.tolist() == [0] for faces in pushed)
    first, last = pushed[0], pushed[-1]
    assert np.isfinite([first.female_prob[0], first.age_years[0], first.age_std_years[0]]).all()
    assert 20 < last.age_years[0] < 50 and last.female_prob[0] > 0.5
    # Further crops count.
    assert len({float(faces.age_years[0]) for faces in pushed}) > 2


def test_person_is_recognized_after_another_shot(two_portraits: Portraits, models: Models) -> None:
    analyzer = OnlineAnalyzer(models=models)
    shots = [two_portraits[number] for number in (0, 0, 1, 1, 0, 0)]
    ids = [analyzer.push(image, n / 5).track_ids.tolist() for n, image in enumerate(shots)]
    assert ids == [[0], [0], [1], [1], [0], [0]]


def test_frames_of_a_reader_give_the_same_as_arrays(
    two_portraits: Portraits, models: Models, tmp_path: Path
) -> None:
    path = write_video(tmp_path / "one.mp4", [np.roll(two_portraits[0], 4 * n, 1) for n in range(6)], fps=5)
    of_frames, of_arrays = OnlineAnalyzer(models=models), OnlineAnalyzer(models=models)
    with VideoReader(path, Settings()) as reader:
        for frame in reader.frames():
            one, two = of_frames.push(frame, frame.time_s), of_arrays.push(frame.image(), frame.time_s)
            assert len(one) == len(two) == 1 and one.track_ids.tolist() == two.track_ids.tolist()
            assert np.abs(one.boxes - two.boxes).max() < 4


@pytest.mark.parametrize("shape", [(1, 1), (2, 2000), (2000, 2), (37, 53), (3000, 4000)])
def test_image_of_any_size_can_be_pushed(shape: tuple[int, int], models: Models) -> None:
    analyzer = OnlineAnalyzer(models=models)
    for n in range(2):
        image = np.full((*shape, 3), 90, np.uint8)[:, ::-1]  # not contiguous
        assert len(analyzer.push(image, float(n))) == 0


# --- with test doubles -------------------------------------------------------------------------------


class _Detector:
    """Detects what it is given next, and notes the sizes of images."""

    reducible, points_in_box = True, None

    def __init__(self) -> None:
        self.next = Faces.empty()
        self.sizes: list[tuple[int, ...]] = []

    def input_size(self, width: int, height: int, reduction: float = 1.0) -> tuple[int, int]:
        assert reduction == 1
        return 64, 48

    def detect(self, images: list[Image], sizes: list[tuple[int, int]]) -> list[Faces]:
        self.sizes += [image.shape for image in images]
        return [self.next]


def faces_at(*lefts: float, width: float = 40.0) -> Faces:
    """Frontal faces of one row, by their left edges."""
    boxes = [[left, 10, left + width, 10 + width] for left in lefts]
    points = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]]) * width
    landmarks = [points + np.array([left, 10]) for left in lefts]
    return Faces.build(boxes=boxes, scores=[0.9] * len(lefts), landmarks=landmarks)


class _World:
    """Who is where: stands in for the picture, and for models that know the person in each crop."""

    width, height = 640, 480
    size = 256

    def __init__(self) -> None:
        self.who: dict[float, int] = {}
        """The person at each left edge."""
        self.read_people: list[int] = []

    def transforms(self, landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
        made = np.zeros((len(landmarks), 2, 3), np.float32)
        made[:, 0, 0] = landmarks[:, 0, 0] - 12  # the left edge of a face of 40 pixels
        return made

    def crop(self, transforms: NDArray[np.float32], sides: Any, size: int) -> list[Image]:
        nearest = [min(self.who, key=lambda left, x=x: abs(left - x)) for x in transforms[:, 0, 0]]
        return [np.full((1, 1, 3), self.who[left], np.uint8) for left in nearest]

    def crops(self, frame: Any, faces: Faces) -> list[AlignedCrop]:
        return [(crop,) for crop in frame.crop(self.transforms(faces.landmarks), [], 1)]

    def read(self, crops: Sequence[AlignedCrop]) -> FaceEstimates:
        people = np.array([int(crop[0][0, 0, 0]) for crop in crops])
        self.read_people += people.tolist()
        age = people.astype(np.float32)
        return FaceEstimates(np.eye(256, dtype=np.float32)[people], age % 2, age, np.ones_like(age))


def tracker_of(world: _World | None, **settings: Any) -> OnlineTracker:
    return OnlineTracker(world, Settings(**settings))


def doubles() -> tuple[_Detector, OnlineAnalyzer]:
    detector = _Detector()
    nothing: Any = None
    given: Any = detector
    models = Models(given, nothing, Calibration.plain(), ())
    return detector, OnlineAnalyzer(models=models)


def test_one_image_is_one_detection_at_one_size() -> None:
    detector, analyzer = doubles()
    for n in range(30):
        detector.next = faces_at(100.0 + n)
        assert analyzer.push(np.zeros((480, 640, 3), np.uint8), n / 5).track_ids.tolist() == [0]
        assert len(detector.sizes) == n + 1
    assert set(detector.sizes) == {(48, 64, 3)}


def test_times_must_ascend() -> None:
    _, analyzer = doubles()
    image = np.zeros((48, 64, 3), np.uint8)
    analyzer.push(image, 1.0)
    for wrong in (1.0, 0.5):
        with pytest.raises(SettingsError, match="after one at 1 s: push images in the order of time"):
            analyzer.push(image, wrong)
    for not_a_time in (float("nan"), -1, "now", None):
        with pytest.raises(ValueError, match="seconds since the start"):
            analyzer.push(image, not_a_time)  # type: ignore[arg-type]
    for no_image in (None, "a.jpg", image[0], image.astype(float), np.dstack([image, image])):
        with pytest.raises(SettingsError, match="BGR images as NumPy arrays"):
            analyzer.push(no_image, 2.0)
    analyzer.push(image, 2.0)  # what was refused has changed nothing


@pytest.mark.parametrize(("gap_s", "same"), [(0.2, True), (0.9, True), (1.5, False), (600.0, False)])
def test_tracks_end_at_a_gap_in_time(gap_s: float, same: bool) -> None:
    tracker = tracker_of(None)
    for n in range(5):
        assert tracker.update(faces_at(100), n / 5, None).track_ids.tolist() == [0]
    assert tracker.update(faces_at(100), 0.8 + gap_s, None).track_ids.tolist() == [0 if same else 1]


def test_slow_pushes_are_no_gaps() -> None:
    tracker = tracker_of(None)
    ids = [tracker.update(faces_at(100), 3.0 * n, None).track_ids.tolist() for n in range(10)]
    assert ids == [[0], *[[1]] * 9]  # the second one shows how far apart they are


def test_tracks_end_at_a_shot_boundary() -> None:
    tracker = tracker_of(None)
    ids = [
        tracker.update(faces_at(100), n / 5, None, shot_boundary=n in (3, 4)).track_ids.tolist()
        for n in range(7)
    ]
    assert ids == [[0], [0], [0], [1], [2], [2], [2]]


def test_face_at_a_persons_place_that_is_another_ends_its_track() -> None:
    world = _World()
    tracker = tracker_of(world)
    world.who = {100.0: 3}
    for n in range(10):
        first = tracker.update(faces_at(100), n / 5, world)
    world.who = {100.0: 4}
    for n in range(10, 30):
        second = tracker.update(faces_at(100), n / 5, world)
    assert first.track_ids.tolist() == [0] and second.track_ids.tolist() == [1]
    # Neither's estimates are mixed with the other's, but for what came before the track was doubted.
    assert first.age_years.tolist() == [3] and second.age_years.tolist() == pytest.approx([4])
    world.who = {100.0: 3}
    for n in range(30, 50):
        third = tracker.update(faces_at(100), n / 5, world)
    assert third.track_ids.tolist() == [0]


def test_no_id_is_in_a_sample_twice() -> None:
    rng = np.random.default_rng(0)
    world = _World()
    tracker = tracker_of(world)
    for n in range(300):
        lefts = sorted(rng.choice(12, rng.integers(0, 6), replace=False) * 50.0)
        world.who = {left: int(rng.integers(0, 4)) for left in lefts} or {0.0: 0}
        faces = tracker.update(faces_at(*lefts), n / 5, world)
        assert len(set(faces.track_ids.tolist())) == len(faces) and (faces.track_ids >= 0).all()


def test_small_faces_are_tracked_and_not_estimated() -> None:
    world = _World()
    tracker = tracker_of(world)
    world.who = {100.0: 1}
    for n in range(5):
        faces = tracker.update(faces_at(100, width=12), n / 5, world)
    assert faces.track_ids.tolist() == [0] and np.isnan(faces.age_years).all()
    assert not world.read_people


@pytest.mark.parametrize(("every_s", "most"), [(0.5, 63), (0.0, 600)])
def test_estimates_become_rarer_unless_all_are_asked_for(every_s: float, most: int) -> None:
    world = _World()
    world.who = {100.0: 1}
    tracker = tracker_of(world, estimate_every_s=every_s)
    for n in range(600):
        tracker.update(faces_at(100), n / 10, world)
    assert most * 0.5 < len(world.read_people) <= most


def test_faces_that_cannot_be_compared_displace_nobody() -> None:
    """A thousand small faces pass: somebody compared before them is recognized after them."""
    world = _World()
    tracker = tracker_of(world)
    world.who = {100.0: 7}
    first = tracker.update(faces_at(100), 0.0, world).track_ids.tolist()
    for n in range(1, 1001):
        tracker.update(faces_at(300, width=6), 3.0 * n, world)
        assert len(tracker._people) <= 3
    assert world.read_people == [7]
    assert tracker.update(faces_at(100), 3100.0, world).track_ids.tolist() == first


def test_memory_is_bounded_over_a_long_stream() -> None:
    """Five thousand people pass; a few hundred of them are remembered at most."""
    world = _World()
    tracker = tracker_of(world)
    ids: set[int] = set()
    for n in range(2000):
        # Five new people every second sample, at other places.
        lefts = [60.0 * k + 7 * (n // 2 % 5) for k in range(5)]
        world.who = {left: (n // 2 * 5 + k) % 256 for k, left in enumerate(lefts)}  # embeddings repeat late
        faces = tracker.update(faces_at(*lefts), 2.0 * n, world)
        ids.update(faces.track_ids.tolist())
        assert len(tracker._tracks) <= 20 and len(tracker._people) <= online._MOST_PEOPLE
    assert len(ids) > 2 * online._MOST_PEOPLE
