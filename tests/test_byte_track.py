"""ByteTrack: what it predicts, whom it takes for the same, and that it tracks as the reference does."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from analyzer.analysis.byte_track import ByteTrack, best_pairs
from analyzer.faces import buffered_iou

Boxes = NDArray[np.float64]

ROOT = Path(__file__).parents[1]


def tracker(interval_s: float = 0.2, patience_s: float = 1.0, margin: float = 0.3) -> ByteTrack:
    return ByteTrack(interval_s, patience_s, margin=margin, least_iou=0.1)


def box(x: float, y: float = 0, side: float = 40) -> list[float]:
    return [x, y, x + side, y + side]


def ids(one: ByteTrack, samples: list[tuple[float, list[list[float]]]]) -> list[list[int]]:
    return [one.update(np.array(boxes, float).reshape(-1, 4), time_s).tolist() for time_s, boxes in samples]


def test_a_track_is_known_from_its_second_sighting_on() -> None:
    walk = [(0.2 * n, [box(10 * n), box(300)]) for n in range(3)]
    assert ids(tracker(), walk) == [[-1, -1], [0, 1], [0, 1]]


def test_what_is_seen_once_may_be_missed_once() -> None:
    once, twice = [(0.0, [box(0)]), (0.4, [box(0)])], [(0.0, [box(0)]), (0.6, [box(0)])]
    assert ids(tracker(), [once[0], (0.2, []), once[1]]) == [[-1], [], [0]]
    assert ids(tracker(), [twice[0], (0.2, []), (0.4, []), twice[1]]) == [[-1], [], [], [-1]]


@pytest.mark.parametrize(("gone_s", "expected"), [(1.0, 0), (1.01, -1)])
def test_patience_is_in_seconds_whatever_the_samples(gone_s: float, expected: int) -> None:
    for between in ([], [0.3], [0.25, 0.5, 0.75]):
        samples = [(0.0, [box(0)]), (0.25, [box(0)])]
        samples += [(0.25 + time_s, []) for time_s in between]
        assert ids(tracker(0.25), [*samples, (0.25 + gone_s, [box(0)])])[-1] == [expected]


def test_speed_is_learnt_and_holds_over_a_gap() -> None:
    # 30 pixels a sample, three samples missed: where it was last, 120 pixels away, nothing would fit.
    walk = [(0.2 * n, [box(30 * n)]) for n in range(8) if n not in (4, 5, 6)]
    assert ids(tracker(), walk)[-1] == [0]
    stands = [(0.2 * n, [box(0)]) for n in range(4)]
    assert ids(tracker(), [*stands, (1.4, [box(120)])])[-1] == [-1]


def test_kalman_filter_is_that_of_the_textbook() -> None:
    """One side of a box, by matrices. Variances: 1 and 1 at first, 0.1 of a measurement, 0.01 of drift."""
    times_s = [0.0, 0.2, 0.4, 0.6, 1.1, 1.3, 1.45]
    sides = [0.0, 8.0, 17.0, 25.0, 48.0, 55.0, 61.0]
    state, covariance = np.zeros(2), np.eye(2)
    one = tracker()
    for number, (before_s, time_s) in enumerate(itertools.pairwise([0.0, *times_s])):
        if number:
            step = (time_s - before_s) / 0.2
            moves = np.array([[1, step], [0, 1]])
            gains = np.array([[step**2 / 2], [step]])
            noise = 0.01 * (np.eye(2) if round(step, 6) == 1 else gains @ gains.T)
            state, covariance = moves @ state, moves @ covariance @ moves.T + noise
            gain = covariance[:, 0] / (covariance[0, 0] + 0.1)
            state = state + gain * (sides[number] - state[0])
            covariance = covariance - np.outer(gain, covariance[0])
        one.update(np.array([box(sides[number])]), time_s)
        (track,) = one._tracks
        assert [track.box[0], track.speed[0]] == pytest.approx(state.tolist())
        found = [track.box_var, track.cross_cov, track.speed_var]
        assert found == pytest.approx([covariance[0, 0], covariance[0, 1], covariance[1, 1]])


@pytest.mark.parametrize(
    ("fits", "expected"),
    [
        ([[0.5, 0.4], [0.45, 0.0]], [(0, 1), (1, 0)]),
        ([[0.5, 0.4, 0.0], [0.45, 0.0, 0.0]], [(0, 1), (1, 0)]),
        ([[0.5], [0.6], [0.4]], [(1, 0)]),
        ([[0.3, 0.5, 0.2]], [(0, 1)]),
        ([[0.05, 0.0], [0.0, 0.9]], [(1, 1)]),
        ([[0.0, 0.0]], []),
    ],
)
def test_pairs_are_the_best_in_sum(fits: list[list[float]], expected: list[tuple[int, int]]) -> None:
    matrix = np.array(fits, np.float32)
    assert best_pairs(matrix, 0.1) == expected
    assert best_pairs(matrix.T, 0.1) == sorted((column, row) for row, column in expected)
    assert best_pairs(np.empty((0, 3), np.float32), 0.1) == []


@pytest.mark.parametrize("seed", range(4))
def test_pairs_are_those_of_all_permutations(seed: int) -> None:
    random = np.random.default_rng(seed)
    for _ in range(50):
        rows, columns = sorted(random.integers(1, 5, 2))
        fits = (random.random((rows, columns)) * (random.random((rows, columns)) < 0.6)).astype(np.float32)
        most = max(
            float(fits[range(rows), list(chosen)].sum())
            for chosen in itertools.permutations(range(columns), int(rows))
        )
        for matrix in (fits, fits.T):
            pairs = best_pairs(matrix, 1e-9)
            assert sum(float(matrix[pair]) for pair in pairs) == pytest.approx(most, abs=1e-6)
            assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)


@pytest.mark.parametrize("seed", range(4))
def test_large_assignments_are_those_of_scipy(seed: int) -> None:
    random = np.random.default_rng(seed)
    for size in (3, 6, 12, 20):
        fits = random.random((size, size + 2)) * (random.random((size, size + 2)) < 2.5 / size)
        rows, columns = linear_sum_assignment(fits.astype(np.float32), maximize=True)
        expected = [
            (row, column)
            for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
            if fits[row, column]
        ]
        assert best_pairs(fits.astype(np.float32), 1e-9) == expected


def test_few_faces_that_compete_need_no_scipy() -> None:
    code = (
        "import numpy as np, sys; from analyzer.analysis.byte_track import best_pairs;"
        "one = np.array([[0.9, 0.8, 0], [0.8, 0.1, 0], [0.7, 0.2, 0.3]], np.float32);"
        "both = np.kron(np.eye(3, dtype=np.float32), one);"
        "print(best_pairs(both, 0.2), 'scipy' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    pairs = [(row + part, column + part) for part in (0, 3, 6) for row, column in ((0, 1), (1, 0), (2, 2))]
    assert run.stdout.strip() == f"{pairs} False"


def test_buffered_iou_of_boxes_that_do_not_touch() -> None:
    # Widened by 0.3: 16 wide each, from -3 to 13 and from 9 to 25; 4 of 28 columns are common.
    apart = buffered_iou(np.array([[0, 0, 10, 10]]), np.array([[12, 0, 22, 10], [40, 0, 50, 10]]), 0.3)
    assert apart.tolist() == [[pytest.approx(4 / 28), 0]]
    assert buffered_iou(np.empty((0, 4)), np.array([[0, 0, 1, 1]]), 0.3).shape == (0, 1)


def crowd(seed: int, fps: float) -> list[tuple[float, Boxes]]:
    """People who walk at random, are missed, come and go, now and then after a gap."""
    random = np.random.default_rng(seed)
    people, time_s = int(random.integers(4, 20)), 0.0
    sides, places = random.uniform(30, 90, people), random.uniform(0, 700, (people, 2))
    speeds = random.normal(0, 120, (people, 2))
    there = random.random(people) < 0.8
    samples = []
    for _ in range(40):
        step_s = 1 / fps + (random.uniform(0, 0.8) if random.random() < 0.05 else 0)
        time_s += step_s
        places = places + speeds * step_s
        speeds = np.where((places < 0) | (places > 700), -speeds, speeds)
        there ^= random.random(people) < 0.04
        seen = random.permutation(np.flatnonzero(there & (random.random(people) > 0.1)))
        corners = places[seen] + random.normal(0, 1, (len(seen), 2))
        samples.append((time_s, np.hstack([corners, corners + sides[seen, None]])))
    return samples


def partners(found: NDArray[np.int64], numbers: dict[int, int]) -> list[int]:
    """Tracks numbered in the order in which they are met."""
    return [numbers.setdefault(int(one), len(numbers)) if one >= 0 else -1 for one in found]


@pytest.mark.parametrize("fps", [5, 10])
def test_tracks_are_those_of_the_reference(fps: float) -> None:
    from testkit.library_tracker import byte_track_of_the_library

    known = 0
    for seed in range(6):
        own, reference = tracker(1 / fps), byte_track_of_the_library(1 / fps)
        one: dict[int, int] = {}
        other: dict[int, int] = {}
        for time_s, boxes in crowd(seed, fps):
            ours = partners(own.update(boxes, time_s), one)
            assert ours == partners(reference.update(boxes, time_s), other)
            known += sum(number >= 0 for number in ours)
    assert known > 1000
