"""Following faces inside a segment, and the segment as a pure unit of work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from analyzer.faces import Faces
from analyzer.frames import VideoReader
from analyzer.segment import Models, analyse_segments, follow
from analyzer.settings import Settings
from benchmarks.videos import panning


def moving(paths: Sequence[Sequence[tuple[float, float] | None]], size: float = 40) -> list[Faces]:
    """Faces of one sample each from paths of upper left corners; None: not seen."""
    samples = []
    for places in zip(*paths, strict=True):
        boxes = [[x, y, x + size, y + size] for x, y in (place for place in places if place is not None)]
        samples.append(Faces.build(boxes=boxes, scores=[0.9] * len(boxes)))
    return samples


def ids(found: list[Faces], times_s: Sequence[float]) -> list[list[int]]:
    return [faces.track_ids.tolist() for faces in follow(found, times_s)]


@pytest.mark.parametrize("fps", [2, 5, 10])
def test_two_faces_side_by_side_keep_their_ids(fps: int) -> None:
    times = [number / fps for number in range(3 * fps)]
    paths = [[(100 + 30 * t, 50) for t in times], [(400 - 30 * t, 60) for t in times]]
    result = ids(moving(paths), times)
    assert all(sorted(one) == [0, 1] for one in result)
    assert all(one == result[0] for one in result)


def test_crossing_faces_keep_their_ids() -> None:
    times = [number / 5 for number in range(40)]
    paths = [[(100 + 50 * t, 50) for t in times], [(500 - 50 * t, 65) for t in times]]
    result = ids(moving(paths), times)
    assert result[-1] == result[0]
    assert all(len(set(one)) == 2 for one in result)


def test_pan_gives_no_face_to_its_neighbour() -> None:
    # All move by more than half of their width between samples, as under a camera that pans.
    times = [number / 5 for number in range(4)]
    paths = [[(100 + 24 * n, 50) for n in range(4)], [(142 + 24 * n, 50) for n in range(4)]]
    result = ids(moving(paths), times)
    assert all(one == result[1] for one in result)


def test_short_loss_keeps_the_id_and_a_long_one_does_not() -> None:
    def path(lost: range) -> list[tuple[float, float] | None]:
        return [None if number in lost else (100, 50) for number in range(40)]

    times = [number / 5 for number in range(40)]
    short = ids(moving([path(range(10, 13))]), times)
    long = ids(moving([path(range(10, 25))]), times)
    assert {one[0] for one in short if one} == {0}
    assert {one[0] for one in long if one} == {0, 1}


def test_times_decide_not_the_number_of_samples() -> None:
    # The same places, but a pause of five seconds in the middle.
    places = moving([[(100, 50)] * 10])
    steady = [number / 5 for number in range(10)]
    paused = [time + (5 if number >= 5 else 0) for number, time in enumerate(steady)]
    assert {one[0] for one in ids(places, steady)} == {0}
    assert {one[0] for one in ids(places, paused)} == {0, 1}


def test_trackers_of_two_segments_share_nothing() -> None:
    times = [number / 5 for number in range(10)]
    places = moving([[(100, 50)] * 10, [(300, 50)] * 10])
    assert ids(places, times) == ids(places, times)


def test_single_sample_and_empty_samples() -> None:
    assert follow([], []) == []
    assert ids(moving([[(0, 0)], [(90, 0)]]), [0.0]) == [[0, 1]]
    assert ids([Faces.empty(), Faces.empty()], [0.0, 0.2]) == [[], []]


@pytest.fixture(scope="module")
def pan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return panning(tmp_path_factory.mktemp("segment") / "pan.mp4", 6, 960, 540)


@pytest.mark.parametrize("fps", [5.0, 2.0])
def test_segment_alone_equals_segment_in_passing(
    pan: Path, models: Models, exact: Settings, fps: float
) -> None:
    settings = exact.replace(segment_s=2, fps=fps)
    with VideoReader(pan, settings) as reader:
        in_passing = list(analyse_segments(reader.samples(), models, settings))[1]
    with VideoReader(pan, settings) as reader:
        (alone,) = analyse_segments(reader.samples(*reader.segment_bounds(1)), models, settings)
    assert alone.segment == in_passing.segment == 1
    assert alone.times_s == in_passing.times_s and len(alone.times_s) == 2 * fps
    assert sum(len(faces) for faces in alone.faces) > 5
    for one, other in zip(alone.faces, in_passing.faces, strict=True):
        np.testing.assert_array_equal(one.boxes, other.boxes)
        np.testing.assert_array_equal(one.age_years, other.age_years)
        np.testing.assert_array_equal(one.track_ids, other.track_ids)
