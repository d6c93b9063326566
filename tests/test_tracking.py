"""Following faces inside a segment: who is the same tracklet, where it breaks, what is kept to compare."""

from __future__ import annotations

import gc
import threading
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from analyzer.analysis.best_crops import EMBEDDED_PX
from analyzer.analysis.tracking import FaceTracker, Tracklets, track_faces
from analyzer.errors import ModelError
from analyzer.faces import AlignedCrop, CropSource, FaceEstimates, Faces
from analyzer.media.frame import Still
from analyzer.settings import Settings
from analyzer.vision.crops import CROP_LANDMARKS

Place = tuple[float, float] | None
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def moving(paths: Sequence[Sequence[Place]], size: float = 40, landmarks: bool = False) -> list[Faces]:
    """Faces of one sample each from paths of upper left corners; None: not seen."""
    samples = []
    for places in zip(*paths, strict=True):
        boxes = [[x, y, x + size, y + size] for x, y in (place for place in places if place is not None)]
        samples.append(faces_in(boxes, landmarks=landmarks))
    return samples


def faces_in(boxes: list[list[float]], score: float = 0.9, landmarks: bool = True) -> Faces:
    points = {}
    if landmarks:
        points["landmarks"] = [
            CROP_LANDMARKS * (box[2] - box[0], box[3] - box[1]) + (box[0], box[1]) for box in boxes
        ]
    return Faces.build(boxes=boxes, scores=[score] * len(boxes), **points)


def ids(found: list[Faces], times_s: Sequence[float], cuts: Sequence[bool] | None = None) -> list[list[int]]:
    """By place alone."""
    return [faces.track_ids.tolist() for faces in track_faces(found, times_s, cuts)]


def ids_where_compared(found: list[Faces], times_s: Sequence[float]) -> list[list[int]]:
    """Where looks will be compared, but none is seen here: places alone, broken where they leave it open."""
    tracker = FaceTracker(Colors())
    for faces, time_s in zip(found, times_s, strict=True):
        tracker.add(faces, time_s)
    return [faces.track_ids.tolist() for faces in tracker.finish()[0]]


class Colors:
    """An embedding that is the mean color of a chip, 0 to 1; remembers what it was given."""

    crop_px = 8
    size = 3

    def __init__(self) -> None:
        self.batches: list[int] = []

    def crops(self, frame: CropSource, faces: Faces) -> list[AlignedCrop]:
        transforms = self.transforms(faces.landmarks)
        return [(crop,) for crop in frame.crop(transforms, [self.crop_px] * len(faces), self.crop_px)]

    def transforms(self, landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
        low, high = landmarks.min(axis=1), landmarks.max(axis=1)
        side = (high - low).max(axis=1)
        made = np.zeros((len(landmarks), 2, 3), np.float32)
        made[:, 0, 0] = made[:, 1, 1] = 1 / side
        made[:, :, 2] = -low / side[:, None]
        return made

    def read(self, crops: Sequence[AlignedCrop]) -> FaceEstimates:
        self.batches.append(len(crops))
        assert all(crop.shape == (self.crop_px, self.crop_px, 3) for (crop,) in crops)
        unknown = np.full(len(crops), np.nan, np.float32)
        vectors = np.array([crop.mean(axis=(0, 1)) / 255 for (crop,) in crops], np.float32)
        return FaceEstimates(vectors, unknown, unknown, unknown)


def painted(boxes: Sequence[Sequence[float]], colors: Sequence[Sequence[float]]) -> Still:
    """A gray picture with a face of even color in each box."""
    image = np.full((200, 700, 3), 90, np.uint8)
    for (x1, y1, x2, y2), color in zip(boxes, colors, strict=True):
        image[round(y1) : round(y2), round(x1) : round(x2)] = color
    return Still(image)


def followed(
    samples: Sequence[tuple[Faces, Sequence[Sequence[float]]]],
    times_s: Sequence[float],
    cuts: Sequence[int] = (),
    model: Colors | None = None,
) -> tuple[list[list[int]], Tracklets, FaceTracker]:
    tracker = FaceTracker(model or Colors())
    for number, ((faces, colors), time_s) in enumerate(zip(samples, times_s, strict=True)):
        tracker.add(faces, time_s, painted(faces.boxes.tolist(), colors), shot_boundary=number in cuts)
    found, tracklets = tracker.finish()
    return [faces.track_ids.tolist() for faces in found], tracklets, tracker


def still_faces(count: int, boxes: list[list[float]], colors: Any) -> list[tuple[Faces, Any]]:
    return [(faces_in(boxes), colors)] * count


def times_at(fps: float, count: int) -> list[float]:
    return [number / fps for number in range(count)]


# --- places and times --------------------------------------------------------------------------------


@pytest.mark.parametrize("fps", [2, 5, 10])
def test_two_faces_side_by_side_keep_their_ids(fps: int) -> None:
    times = times_at(fps, 3 * fps)
    paths = [[(100 + 30 * t, 50) for t in times], [(400 - 30 * t, 60) for t in times]]
    result = ids(moving(paths), times)
    assert all(sorted(one) == [0, 1] for one in result)
    assert all(one == result[0] for one in result)


def test_crossing_faces_that_have_no_embeddings_keep_their_ids() -> None:
    times = times_at(5, 40)
    paths = [[(100 + 50 * t, 50) for t in times], [(500 - 50 * t, 65) for t in times]]
    result = ids(moving(paths), times)
    assert result[-1] == result[0]
    assert all(len(set(one)) == 2 for one in result)


def test_pan_gives_no_face_to_its_neighbor() -> None:
    # All move by more than half of their width between samples, as under a camera that pans.
    times = times_at(5, 4)
    paths = [[(100 + 24 * n, 50) for n in range(4)], [(142 + 24 * n, 50) for n in range(4)]]
    result = ids(moving(paths), times)
    assert all(one == result[1] for one in result)


def test_short_loss_keeps_the_id_and_a_long_one_does_not() -> None:
    def path(lost: range) -> list[Place]:
        return [None if number in lost else (100, 50) for number in range(40)]

    times = times_at(5, 40)
    short = ids(moving([path(range(10, 13))]), times)
    long = ids(moving([path(range(10, 25))]), times)
    assert {one[0] for one in short if one} == {0}
    assert {one[0] for one in long if one} == {0, 1}


def test_times_decide_not_the_number_of_samples() -> None:
    # The same places, but a pause of five seconds in the middle.
    places = moving([[(100, 50)] * 10])
    steady = times_at(5, 10)
    paused = [time + (5 if number >= 5 else 0) for number, time in enumerate(steady)]
    assert {one[0] for one in ids(places, steady)} == {0}
    assert {one[0] for one in ids(places, paused)} == {0, 1}


def test_trackers_of_two_segments_share_nothing() -> None:
    times = times_at(5, 10)
    places = moving([[(100, 50)] * 10, [(300, 50)] * 10])
    assert ids(places, times) == ids(places, times)


def test_single_sample_and_empty_samples() -> None:
    assert track_faces([], []) == []
    assert ids(moving([[(0, 0)], [(90, 0)]]), [0.0]) == [[0, 1]]
    assert ids([Faces.empty(), Faces.empty()], [0.0, 0.2]) == [[], []]


@pytest.mark.parametrize("count", [3, 8, 9, 20])
def test_what_is_learned_first_is_tracked_like_the_rest(count: int) -> None:
    # Following begins after some samples; their number must not show.
    times = times_at(5, count)
    paths = [[(100, 50)] * count, [(300, 50)] * count]
    assert ids(moving(paths), times) == [[0, 1]] * count


# --- cuts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [1, 4, 8, 9, 15, 19])
def test_shot_boundary_ends_every_tracklet(cut: int) -> None:
    times = times_at(5, 20)
    places = moving([[(100, 50)] * 20, [(300, 50)] * 20])
    result = ids(places, times, [number == cut for number in range(20)])
    assert result == [[0, 1]] * cut + [[2, 3]] * (20 - cut)


def test_every_sample_its_own_shot() -> None:
    times = times_at(5, 12)
    result = ids(moving([[(100, 50)] * 12]), times, [True] * 12)
    assert result == [[number] for number in range(12)]


def test_nothing_seen_before_a_shot_boundary_is_kept_after_it() -> None:
    # Lost one sample before the cut and back one after it, inside of the tracker's patience.
    times = times_at(5, 20)
    path: list[Place] = [None if number in (9, 10) else (100, 50) for number in range(20)]
    result = ids(moving([path]), times, [number == 10 for number in range(20)])
    assert {one[0] for one in result[:9]} == {0} and {one[0] for one in result[11:]} == {1}


# --- crossing ----------------------------------------------------------------------------------------


def crossing(size: float, landmarks: bool) -> list[list[int]]:
    """Two walk past each other, the second a little lower."""
    reach = [max(-9, min(9, number - 15)) * size / 2 for number in range(30)]
    left = [(300 + offset, 50.0) for offset in reach]
    right = [(300 - offset, 50.0 + size * 0.2) for offset in reach]
    return ids_where_compared(moving([left, right], size, landmarks), times_at(5, 30))


def turning_back(speed: float, nearest: float, lower: float, count: int = 40) -> list[list[list[float]]]:
    """Boxes of two who walk up to each other and back: by place alone they seem to pass.

    All in widths of a face: `speed` a sample, half the `nearest` distance, how much `lower` the second is.
    """
    size = 40
    away = [min(300, (abs(n - count // 2) * speed + nearest) * size) for n in range(count)]
    top = 50 + lower * size
    return [[[320 - o, 50, 360 - o, 90], [320 + o, top, 360 + o, top + size]] for o in away]


@pytest.mark.parametrize("speed", [0.2, 0.3, 0.5])
def test_tracklets_that_position_alone_would_swap_end_instead(speed: float) -> None:
    boxes = turning_back(speed, 0.1, 0)
    swapped = ids([faces_in(one) for one in boxes], times_at(5, 40))
    assert swapped[0] == [0, 1] and swapped[-1] == [1, 0]
    ended = ids_where_compared([faces_in(one) for one in boxes], times_at(5, 40))
    assert ended[0] == [0, 1] and set(ended[-1]).isdisjoint([0, 1])
    assert all(one == [0, 1] for one in ended[:18])


@pytest.mark.parametrize("fps", [2, 5, 10])
@pytest.mark.parametrize("speed", [0.2, 0.4, 0.7])
def test_no_tracklet_holds_two_people_whoever_turns_back(fps: int, speed: float) -> None:
    # Where the tracker is sure of the wrong one, the looks of the crops tell.
    for nearest in (0.3, 0.4, 0.5, 0.6):
        for lower in (0, 0.2, 0.4):
            boxes = turning_back(speed, nearest, lower)
            samples = [(faces_in(one), [RED, BLUE]) for one in boxes]
            result, _, _ = followed(samples, times_at(fps, 40))
            assert {one for one, _ in result}.isdisjoint({one for _, one in result}), (nearest, lower)


@pytest.mark.parametrize("hidden", [0, 1, 2])
def test_one_that_passes_another_leaves_no_tracklet_of_both(hidden: int) -> None:
    # Who walks by is hidden for some samples; the one who stands there is seen all the time.
    places = [[300 + (n - 15) * 12, 55] for n in range(30)]
    walker = [x_y if abs(n - 15) > hidden else None for n, x_y in enumerate(places)]
    samples = []
    for place in walker:
        boxes = [[300.0, 50, 340, 90]] + ([[*place, place[0] + 40, place[1] + 40]] if place else [])
        samples.append((faces_in(boxes), [RED, BLUE][: len(boxes)]))
    result, _, _ = followed(samples, times_at(5, 30))
    standing = {one[0] for one in result}
    assert standing.isdisjoint({one[1] for one in result if len(one) > 1})


def test_tracklets_end_where_faces_cross_with_embeddings() -> None:
    result = crossing(40, landmarks=True)
    assert set(result[0]).isdisjoint(result[-1])
    assert all(len(set(one)) == 2 for one in result)
    # Broken where they meet only.
    assert all(one == [0, 1] for one in result[:12])
    assert all(one == result[-1] for one in result[18:])


def test_crossing_faces_too_small_or_without_landmarks_are_not_broken() -> None:
    for result in (crossing(EMBEDDED_PX - 1, landmarks=True), crossing(40, landmarks=False)):
        assert all(sorted(one) == [0, 1] for one in result)
    assert set(crossing(EMBEDDED_PX, landmarks=True)[-1]).isdisjoint([0, 1])


@pytest.mark.parametrize("gap", [0, 6, 20])
@pytest.mark.parametrize("step", [0, 3, 20])
def test_people_side_by_side_are_not_broken(gap: int, step: int) -> None:
    # As near as shoulders allow, three of them, still or walking together, with a little tremble.
    random = np.random.default_rng(1)
    count = 20
    paths = [
        [
            (100 + (40 + gap) * who + step * n + random.uniform(-2, 2), 50 + random.uniform(-2, 2))
            for n in range(count)
        ]
        for who in range(3)
    ]
    result = ids_where_compared(moving(paths, landmarks=True), times_at(5, count))
    assert result == [result[0]] * count and sorted(result[0]) == [0, 1, 2]


def test_far_from_the_crossing_nothing_breaks() -> None:
    times = times_at(5, 30)
    reach = [(number - 15) * 20.0 for number in range(30)]
    paths = [[(300 + o, 50) for o in reach], [(300 - o, 58) for o in reach], [(300, 400)] * 30]
    result = ids_where_compared(moving(paths, landmarks=True), times)
    assert {one[2] for one in result} == {2}
    assert set(result[0][:2]).isdisjoint(result[-1][:2])


# --- splitting ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [6, 11, 17, 23])
def test_tracklet_that_switches_to_another_person_is_split_there(change: int) -> None:
    # The other person appears a third of the face aside, between two samples.
    samples = []
    for number in range(30):
        x = 100 if number < change else 114
        samples.append((faces_in([[x, 50, x + 40, 90]]), [RED if number < change else BLUE]))
    result, tracklets, _ = followed(samples, times_at(5, 30))
    assert [one[0] for one in result] == [0] * change + [1] * (30 - change)
    assert tracklets.ids.tolist() == [0, 1]
    np.testing.assert_allclose(tracklets.embeddings, np.array([RED, BLUE]) / 255, atol=0.02)


def test_tracklet_that_switches_twice_is_three() -> None:
    samples = []
    for number in range(45):
        turn = number // 15
        x = 100 + 14 * turn
        samples.append((faces_in([[x, 50, x + 40, 90]]), [(RED, BLUE, GREEN)[turn]]))
    result, tracklets, _ = followed(samples, times_at(5, 45))
    assert [one[0] for one in result] == [0] * 15 + [1] * 15 + [2] * 15
    np.testing.assert_allclose(tracklets.embeddings, np.array([RED, BLUE, GREEN]) / 255, atol=0.02)
    assert tracklets.crops.tolist() == [3, 3, 3]


@pytest.mark.parametrize("width", [40, 60])
def test_whoever_passes_in_front_ends_no_tracklet(width: int) -> None:
    # For 0.6 s, in which a crop is taken, a tracked face is covered by another one, as wide or wider.
    samples = []
    for number in range(40):
        passes = 12 <= number < 15
        side = width if passes else 40
        samples.append((faces_in([[100, 50, 100 + side, 50 + side]]), [BLUE if passes else RED]))
    result, tracklets, _ = followed(samples, times_at(5, 40))
    assert result == [[0]] * 40
    np.testing.assert_allclose(tracklets.embeddings, [np.array(RED) / 255], atol=0.02)
    assert tracklets.crops.tolist() == [7]  # none of one of the eight seconds


def test_whoever_stays_in_front_has_a_tracklet_of_their_own() -> None:
    colors = [RED] * 12 + [BLUE] * 16 + [RED] * 12
    samples = [(faces_in([[100, 50, 140, 90]]), [color]) for color in colors]
    _, tracklets, _ = followed(samples, times_at(5, 40))
    np.testing.assert_allclose(tracklets.embeddings, np.array([RED, BLUE, RED]) / 255, atol=0.02)


def test_poor_crop_does_not_split_a_tracklet() -> None:
    # The last crops show something else, and are worth less than half of those before.
    samples = []
    for number in range(20):
        poor = number >= 17
        faces = faces_in([[100, 50, 140, 90]], score=0.4 if poor else 0.9)
        samples.append((faces, [BLUE if poor else RED]))
    result, tracklets, _ = followed(samples, times_at(5, 20))
    assert result == [[0]] * 20 and len(tracklets) == 1


def test_split_of_one_leaves_the_other_as_it_is() -> None:
    samples = []
    for number in range(20):
        x = 100 if number < 10 else 114
        boxes = [[x, 50, x + 40, 90], [400, 50, 440, 90]]
        samples.append((faces_in(boxes), [RED if number < 10 else BLUE, GREEN]))
    result, tracklets, _ = followed(samples, times_at(5, 20))
    assert result == [[0, 1]] * 10 + [[2, 1]] * 10
    np.testing.assert_allclose(tracklets.embeddings, np.array([RED, GREEN, BLUE]) / 255, atol=0.02)
    assert tracklets.crops.tolist() == [2, 4, 2]


def test_face_that_slowly_changes_is_not_split() -> None:
    samples = [(faces_in([[100, 50, 140, 90]]), [(255 - 8 * number, 8 * number, 0)]) for number in range(30)]
    result, tracklets, _ = followed(samples, times_at(5, 30))
    assert result == [[0]] * 30 and len(tracklets) == 1


# --- crops -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fps", [2, 5, 10])
def test_one_crop_a_second_is_embedded(fps: int) -> None:
    boxes = [[100.0, 50, 140, 90], [300, 50, 340, 90]]
    samples = still_faces(4 * fps, boxes, [RED, BLUE])
    _, tracklets, _ = followed(samples, times_at(fps, 4 * fps))
    assert tracklets.ids.tolist() == [0, 1]
    assert tracklets.crops.tolist() == [4, 4]


@pytest.mark.parametrize("best", [0, 2, 4, 13])
def test_best_crop_of_a_second_is_embedded(best: int) -> None:
    # All crops of a second are greenish but the widest one, which is red: of 15 samples 3 crops.
    samples = []
    for number in range(15):
        width = 60 if number == best else 40
        boxes = [[100.0, 50, 100 + width, 50 + width]]
        samples.append((faces_in(boxes), [(130, 0, 0) if number == best else (20, 0, 0)]))
    _, tracklets, _ = followed(samples, times_at(5, 15))
    assert tracklets.crops.tolist() == [3] and tracklets.crop_px.tolist() == [60]
    # The mean is weighted by the square of a crop's worth.
    expected = (60**2 * 130 + 2 * 40**2 * 20) / (60**2 + 2 * 40**2) / 255
    np.testing.assert_allclose(tracklets.embeddings, [[expected, 0, 0]], atol=0.01)


def test_better_crop_does_not_make_its_second_longer() -> None:
    samples = []
    for number in range(13):
        width = 60 if number == 4 else 40
        samples.append((faces_in([[100.0, 50, 100 + width, 50 + width]]), [RED]))
    _, tracklets, _ = followed(samples, times_at(5, 13))
    assert tracklets.crops.tolist() == [3]


@pytest.mark.parametrize("what", ["score", "turned"])
def test_quality_is_also_score_and_frontality(what: str) -> None:
    samples = []
    for number in range(5):
        faces = faces_in([[100.0, 50, 140, 90]], score=0.9 if what == "turned" or number == 2 else 0.4)
        if what == "turned" and number != 2:
            points = faces.landmarks.copy()
            points[:, 2, 0] = points[:, 1, 0]  # the nose beside an eye
            faces = faces.replace(landmarks=points)
        samples.append((faces, [RED if number == 2 else BLUE]))
    _, tracklets, _ = followed(samples, times_at(5, 5))
    np.testing.assert_allclose(tracklets.embeddings, [[1, 0, 0]], atol=0.02)


@pytest.mark.parametrize(("width", "compared"), [(EMBEDDED_PX - 1, 0), (EMBEDDED_PX, 1)])
def test_faces_too_small_are_not_embedded(width: int, compared: int) -> None:
    model = Colors()
    samples = still_faces(12, [[100.0, 50, 100 + width, 50 + width]], [RED])
    result, tracklets, _ = followed(samples, times_at(5, 12), model=model)
    assert result == [[0]] * 12
    assert len(tracklets) == compared and (not compared) == (sum(model.batches) == 0)
    assert tracklets.embeddings.shape == (compared, 3)


def test_faces_without_landmarks_are_not_embedded() -> None:
    samples = [(faces_in([[100.0, 50, 140, 90]], landmarks=False), [RED])] * 12
    result, tracklets, _ = followed(samples, times_at(5, 12))
    assert result == [[0]] * 12 and len(tracklets) == 0


@pytest.mark.parametrize("people", [3, 16, 17, 40])
@pytest.mark.parametrize("count", [1, 5, 30])
def test_each_tracklet_gets_its_own_vectors(people: int, count: int) -> None:
    # So many that they are embedded in several batches, each of its own color.
    random = np.random.default_rng(people)
    boxes = [
        [10.0 + 65 * (i % 10), 5 + 48 * (i // 10), 45 + 65 * (i % 10), 40 + 48 * (i // 10)]
        for i in range(people)
    ]
    colors = random.integers(0, 256, (people, 3)).tolist()
    order = random.permutation(people)
    samples = still_faces(count, [boxes[i] for i in order], [colors[i] for i in order])
    result, tracklets, _ = followed(samples, times_at(5, count))
    assert tracklets.ids.tolist() == list(range(people))
    expected = {one: colors[i] for one, i in zip(result[0], order, strict=True)}
    np.testing.assert_allclose(
        tracklets.embeddings, np.array([expected[one] for one in range(people)]) / 255, atol=0.02
    )


def test_vectors_are_its_own_also_where_tracklets_come_and_go() -> None:
    random = np.random.default_rng(4)
    # One place after another is taken for some samples by somebody of a color of their own.
    spans = [
        (int(start), int(start) + int(random.integers(1, 25)), lane)
        for lane in range(10)
        for start in (0, 40, 80)
    ]
    samples = []
    tints = random.integers(0, 256, (len(spans), 3))
    for number in range(110):
        present = [i for i, (start, end, _) in enumerate(spans) if start <= number < end]
        boxes = [[10.0 + 65 * spans[i][2], 50, 50 + 65 * spans[i][2], 90] for i in present]
        samples.append((faces_in(boxes) if boxes else Faces.empty(), tints[present].tolist()))
    result, tracklets, _ = followed(samples, times_at(5, 110))
    assert tracklets.ids.tolist() == list(range(len(spans)))
    for i, (start, end, _) in enumerate(spans):
        name = {
            result[number][[j for j, s in enumerate(spans) if s[0] <= number < s[1]].index(i)]
            for number in range(start, end)
        }
        assert len(name) == 1
        np.testing.assert_allclose(tracklets.embeddings[name.pop()], tints[i] / 255, atol=0.02)


def test_intervals_end_at_a_shot_boundary() -> None:
    samples = still_faces(10, [[100.0, 50, 140, 90]], [RED]) + still_faces(10, [[100.0, 50, 140, 90]], [BLUE])
    result, tracklets, _ = followed(samples, times_at(5, 20), cuts=[10])
    assert result == [[0]] * 10 + [[1]] * 10
    np.testing.assert_allclose(tracklets.embeddings, np.array([RED, BLUE]) / 255, atol=0.02)


def test_without_a_model_there_are_tracklets_only() -> None:
    tracker = FaceTracker(None)
    for number in range(12):
        boxes = [[100.0, 50, 140, 90]]
        tracker.add(faces_in(boxes), number / 5, painted(boxes, [RED]))
    found, tracklets = tracker.finish()
    assert [faces.track_ids.tolist() for faces in found] == [[0]] * 12
    assert len(tracklets) == 0 and tracklets.embeddings.shape == (0, 0)


def test_no_samples_give_nothing() -> None:
    found, tracklets = FaceTracker(Colors()).finish()
    assert found == [] and len(tracklets) == 0 and tracklets.embeddings.shape == (0, 3)


def chips_held(thing: object) -> int:
    """How many pictures of faces can be reached from it."""
    seen: set[int] = set()
    waiting, held = [thing], 0
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, type):
            continue
        seen.add(id(one))
        if isinstance(one, np.ndarray):
            held += one.dtype == np.uint8 and one.size > 0
        elif type(one).__module__.startswith(("analyzer", "builtins")) and not callable(one):
            waiting += gc.get_referents(one)
    return held


@pytest.mark.parametrize(("count", "crops"), [(1, 1), (5, 2), (200, 42)])
def test_no_crop_is_kept_after_the_end(count: int, crops: int) -> None:
    model = Colors()
    boxes = [[100.0, 50, 140, 90], [300, 50, 340, 90]]
    tracker = FaceTracker(model)
    for number in range(count):
        tracker.add(faces_in(boxes), number / 5, painted(boxes, [RED, BLUE]))
        # While it goes on: at most a view of each and what waits to be embedded or followed.
        assert chips_held(tracker) <= 2 * 9 + 16
    assert chips_held(tracker) > 0
    result = tracker.finish()
    assert chips_held(tracker) == chips_held(result) == 0
    assert sum(model.batches) == 2 * crops


def test_tracklets_of_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        Tracklets(np.arange(2), np.zeros((1, 3), np.float32), np.zeros(2, np.float32), np.zeros(2, np.int64))


# --- judging -----------------------------------------------------------------------------------------


class Shades:
    """Estimates by the color of a crop: red is female, green is the age; remembers what it was given.

    To it all faces are alike.
    """

    size = 3

    def __init__(self) -> None:
        self.batches: list[int] = []

    def crops(self, frame: CropSource, faces: Faces) -> list[AlignedCrop]:
        assert isinstance(frame, Still)
        middles = ((faces.boxes[:, :2] + faces.boxes[:, 2:]) / 2).astype(int)
        return [(frame.image[y : y + 1, x : x + 1],) for x, y in middles]

    def read(self, crops: Sequence[AlignedCrop]) -> FaceEstimates:
        self.batches.append(len(crops))
        colors = np.array([crop[0, 0] for (crop,) in crops], np.float32).reshape(-1, 3)
        alike, spread = np.zeros((len(crops), 3), np.float32), np.full(len(crops), 7, np.float32)
        return FaceEstimates(alike, colors[:, 0] / 255, colors[:, 1], spread)


def estimated(
    samples: Sequence[Faces],
    times_s: Sequence[float],
    *,
    carried: Sequence[int] = (),
    cuts: Sequence[int] = (),
    **settings: Any,
) -> list[list[int]]:
    """For each face of a sample, in its order of boxes, the numbers of the samples in which it was judged.

    A sample's number is the age that its faces are judged at; `carried` ones have no picture.
    """
    model = Shades()
    tracker = FaceTracker(model, Settings(**settings))
    for number, (faces, time_s) in enumerate(zip(samples, times_s, strict=True)):
        tints = [(51, number, 0)] * len(faces)
        picture = None if number in carried else painted(faces.boxes.tolist(), tints)
        tracker.add(faces, time_s, picture, shot_boundary=number in cuts)
    found, _ = tracker.finish()
    chosen: list[list[int]] = [[] for _ in range(max(map(len, samples)))]
    for number, faces in enumerate(found):
        was = ~np.isnan(faces.age_years)
        # What is said is said of this very sighting, and all of it or nothing.
        assert (faces.age_years[was] == number).all()
        np.testing.assert_allclose(faces.female_prob[was], 0.2, atol=1e-3)
        assert (faces.age_std_years[was] == 7).all()
        for name in ("female_prob", "age_std_years"):
            np.testing.assert_array_equal(~np.isnan(getattr(faces, name)), was)
        for row in np.flatnonzero(was).tolist():
            chosen[row].append(number)
    assert sum(model.batches) >= sum(map(len, chosen))
    return chosen


def one_face(count: int, widths: dict[int, float] | None = None, size: float = 40) -> list[Faces]:
    """A face that stands still, of the given widths in some samples."""
    made = []
    for number in range(count):
        wide = (widths or {}).get(number, size)
        made.append(faces_in([[100, 50, 100 + wide, 50 + wide]]))
    return made


@pytest.mark.parametrize(
    ("fps", "every_s", "expected"),
    [
        (2, 0.5, [0, 1, 2, 3]),
        (5, 0.5, [0, 3, 6, 9]),
        (5, 1.0, [0, 5, 10]),
        (10, 0.5, [0, 5, 10]),
        (5, 60.0, [0]),
    ],
)
def test_one_crop_of_each_interval_is_estimated(fps: float, every_s: float, expected: list[int]) -> None:
    count = expected[-1] + 1 if every_s < 60 else 40
    chosen = estimated(one_face(count), times_at(fps, count), estimate_every_s=every_s)
    assert chosen == [expected]


def test_every_face_is_estimated_if_so_set() -> None:
    boxes = [[100.0, 50, 140, 90], [300, 50, 340, 90]]
    chosen = estimated([faces_in(boxes)] * 40, times_at(5, 40), estimate_every_s=0)
    assert chosen == [list(range(40))] * 2


def test_crops_are_taken_half_as_often_after_four() -> None:
    chosen = estimated(one_face(25), times_at(2, 25), estimate_every_s=0.5)
    # Half a second is one sample, then two.
    assert chosen == [[0, 1, 2, 3, *range(4, 25, 2)]]


def test_each_tracklet_is_estimated_as_often_as_if_it_were_alone() -> None:
    # The second one comes later, the third after a cut: each begins anew.
    boxes = [[100.0, 50, 140, 90], [300, 50, 340, 90]]
    samples = [faces_in(boxes[: 1 + (number >= 12)]) for number in range(24)]
    assert estimated(samples, times_at(2, 24), estimate_every_s=0.5) == [
        [0, 1, 2, 3, *range(4, 24, 2)],
        [12, 13, 14, 15, *range(16, 24, 2)],
    ]
    after_cut = estimated(one_face(14), times_at(2, 14), estimate_every_s=0.5, cuts=[7])
    assert after_cut == [[0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 13]]


@pytest.mark.parametrize("best", [0, 1, 4, 7, 12])
def test_best_crop_of_an_interval_is_estimated(best: int) -> None:
    chosen = estimated(one_face(15, {best: 60}), times_at(5, 15), estimate_every_s=1.0)
    assert chosen == [[best if best // 5 * 5 == start else start for start in (0, 5, 10)]]


@pytest.mark.parametrize("every_s", [0.0, 0.5])
@pytest.mark.parametrize("least", [30, 41])
def test_faces_narrower_than_set_are_not_estimated(every_s: float, least: int) -> None:
    # 40 pixels wide but for the fourth and the tenth.
    samples = one_face(12, {4: least - 1, 10: least}, size=least - 2)
    chosen = estimated(samples, times_at(2, 12), estimate_every_s=every_s, min_estimate_px=least)
    assert chosen == [[10]]


@pytest.mark.parametrize("every_s", [0.0, 0.5])
def test_faces_without_landmarks_are_not_estimated(every_s: float) -> None:
    samples = [faces_in([[100, 50, 140, 90]], landmarks=number == 5) for number in range(12)]
    assert estimated(samples, times_at(2, 12), estimate_every_s=every_s) == [[5]]


@pytest.mark.parametrize(("every_s", "expected"), [(0.0, [0, 3, 8, 11]), (0.5, [0, 3, 8, 11])])
def test_reused_detections_are_never_estimated(every_s: float, expected: list[int]) -> None:
    carried = [number for number in range(12) if number not in expected]
    # The widest crops are among them.
    samples = one_face(12, dict.fromkeys(carried, 90.0))
    assert estimated(samples, times_at(2, 12), estimate_every_s=every_s, carried=carried) == [expected]


def test_reused_detections_are_not_embedded() -> None:
    model = Colors()
    tracker = FaceTracker(model)
    boxes = [[100.0, 50, 140, 90]]
    for number in range(20):
        picture = painted(boxes, [RED]) if number in (0, 12) else None
        tracker.add(faces_in(boxes), number / 5, picture)
    found, tracklets = tracker.finish()
    assert [faces.track_ids.tolist() for faces in found] == [[0]] * 20
    assert tracklets.crops.tolist() == [2] and sum(model.batches) == 2


@pytest.mark.parametrize(("width", "chosen"), [(44, 0), (48, 20)])
def test_later_crop_must_be_better_by_a_seventh(width: float, chosen: int) -> None:
    # 46 pixels and more in place of 40.
    samples = one_face(24, {20: width})
    assert estimated(samples, times_at(5, 24), estimate_every_s=100.0) == [[chosen]]


class GivenQualities:
    """An aligner that gives each face the quality of its sample, and landmarks shifted by one pixel."""

    provenance: ClassVar[dict[str, Any]] = {}

    def __init__(self, qualities: Sequence[float]) -> None:
        self.qualities, self.sample, self.aligned = qualities, 0, list[int]()

    def align(self, frame: CropSource, faces: Faces, *, any_roll: bool = False) -> Faces:
        self.aligned += [self.sample] * len(faces)
        quality = np.full(len(faces), self.qualities[self.sample])
        return faces.replace(landmarks=faces.landmarks + (quality > 0)[:, None, None], quality=quality)


def aligned(
    qualities: Sequence[float], widths: dict[int, float] | None = None, **settings: Any
) -> tuple[list[Faces], list[int]]:
    """The faces of one sample each at 5 a second, and the samples whose face was aligned."""
    aligner = GivenQualities(qualities)
    tracker = FaceTracker(Shades(), Settings(**settings), aligner=aligner)
    for number, faces in enumerate(one_face(len(qualities), widths)):
        aligner.sample = number
        tracker.add(faces, number / 5, painted(faces.boxes.tolist(), [(51, number, 0)]))
    return tracker.finish()[0], aligner.aligned


def samples_estimated(found: list[Faces]) -> list[int]:
    return [number for number, faces in enumerate(found) if not np.isnan(faces.age_years).any()]


def test_clearest_crop_is_estimated_even_if_it_is_narrower() -> None:
    found, _ = aligned([0.3, 0.2, 0.9, 0.3, 0.7], {2: 36}, estimate_every_s=1.0)
    assert samples_estimated(found) == [2]


def test_faces_are_aligned_ever_less_often_until_one_is_clear_and_then_only_where_they_promise_more() -> None:
    # The first eight samples teach how far apart samples are; a face there may begin a tracklet.
    qualities = [0.3] * 20 + [0.9] * 25
    found, samples = aligned(qualities, {40: 60}, estimate_every_s=100.0)
    assert samples == [*range(11), 12, 16, 24, 40]
    assert samples_estimated(found) == [40]


def test_after_a_clear_face_the_next_unclear_one_is_soon_tried_again() -> None:
    qualities = [0.9] * 9 + [0.3] * 3 + [0.9] * 4 + [0.3] * 14
    _, samples = aligned(qualities, estimate_every_s=1.0)
    # An interval begins every fifth sample. Those after 10 and 20 are tried after one, two and four more.
    assert samples == [*range(9), 10, 11, 13, 15, 20, 21, 23, 27]


class Waiting(Shades):
    """Reads nothing before a number of samples was added."""

    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.added, self.in_time, self.fails = threading.Event(), list[bool](), fails

    def read(self, crops: Sequence[AlignedCrop]) -> FaceEstimates:
        self.in_time.append(self.added.wait(10))
        if self.fails:
            raise ModelError("it failed")
        return super().read(crops)


@pytest.mark.parametrize("fails", [False, True])
def test_crops_are_read_while_tracking_goes_on(fails: bool) -> None:
    model = Waiting(fails)
    tracker = FaceTracker(model, Settings(estimate_every_s=0, min_estimate_px=20))
    for number, faces in enumerate(one_face(24)):
        tracker.add(faces, number / 5, painted(faces.boxes.tolist(), [(51, number, 0)]))
    model.added.set()
    if fails:
        with pytest.raises(ModelError, match="it failed"):
            tracker.finish()
        return
    found, _ = tracker.finish()
    assert model.in_time == [True, True] and model.batches == [16, 8]
    assert [float(faces.age_years[0]) for faces in found] == list(range(24))


def test_aligned_faces_have_the_aligners_landmarks_and_quality() -> None:
    found, samples = aligned([0.9] * 5 + [0.0] + [0.7] * 14, estimate_every_s=0)
    assert samples == list(range(20))
    before = one_face(1)[0].landmarks
    for number, faces in enumerate(found):
        shift = 0 if number == 5 else 1  # where the aligner finds nothing, the detector's stay
        np.testing.assert_allclose(faces.landmarks, before + shift, atol=1e-4)
    np.testing.assert_allclose([float(faces.quality[0]) for faces in found], [0.9] * 5 + [0] + [0.7] * 14)


def test_faces_that_are_not_aligned_have_no_quality() -> None:
    found, samples = aligned([0.9] * 24, estimate_every_s=100.0)
    assert samples == list(range(9))
    assert [number for number, faces in enumerate(found) if np.isfinite(faces.quality[0])] == samples


def test_scene_audience_aligns_every_face() -> None:
    _, samples = aligned([0.9] * 24, estimate_every_s=100.0, scene="audience")
    assert samples == list(range(24))


@pytest.mark.parametrize("every_s", [0.0, 0.4, 1.0])
def test_one_crop_a_second_counts_for_an_embedding(every_s: float) -> None:
    tracker = FaceTracker(Colors(), Settings(estimate_every_s=every_s))
    # The widest face of the third second is brighter than all others.
    for number in range(25):
        width, red = (60, 130) if number == 13 else (40, 20)
        boxes = [[100.0, 50, 100 + width, 50 + width]]
        tracker.add(faces_in(boxes), number / 5, painted(boxes, [(red, 0, 0)]))
    _, tracklets = tracker.finish()
    crops = int(tracklets.crops[0])
    assert tracklets.ids.tolist() == [0] and 4 <= crops <= 5
    expected = (60**2 * 130 + (crops - 1) * 40**2 * 20) / (60**2 + (crops - 1) * 40**2) / 255
    np.testing.assert_allclose(tracklets.embeddings, [[expected, 0, 0]], atol=0.01)


class Neighbors:
    """An aligner that finds the same clear face in every crop: the one in the box given."""

    def __init__(self, box: Sequence[float]) -> None:
        self.provenance: dict[str, Any] = {}
        self.found = faces_in([list(box)]).landmarks

    def align(self, frame: CropSource, faces: Faces, *, any_roll: bool = False) -> Faces:
        count = len(faces)
        return faces.replace(landmarks=np.repeat(self.found, count, axis=0), quality=np.full(count, 0.9))


def test_the_face_beside_a_covered_one_is_not_taken_for_it() -> None:
    front, covered = [100.0, 50, 160, 110], [140.0, 60, 200, 120]
    faces = faces_in([covered, front])
    tracker = FaceTracker(Colors(), aligner=Neighbors(front))
    for number in range(10):
        tracker.add(faces, number / 5, painted([covered, front], [(20, 0, 0), (130, 0, 0)]))
    found = tracker.finish()[0][0]
    np.testing.assert_allclose(found.quality, [0.0, 0.9], atol=1e-6)
    # The covered one keeps its own landmarks.
    np.testing.assert_allclose(found.landmarks[0], faces.landmarks[0])
