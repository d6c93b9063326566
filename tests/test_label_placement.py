"""Labels hide neither each other nor faces, and stay where they are."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from analyzer.output.label_placement import Crowd, LabelPlacement, Rect, Spot

Boxes = NDArray[np.float32]
SIZE = 1280, 720
WIDTHS = (120, 80, 52)
HEIGHTS = (28, 25, 18)
PANEL = (10, 640, 300, 710)


def sizes(person: int, level: int) -> tuple[int, int]:
    return WIDTHS[level] + person % 10, HEIGHTS[level]


def grid(columns: int, rows: int, side: int, shift: float = 0) -> Boxes:
    """Faces in rows over the frame, at even distances."""
    xs = (np.arange(columns) + 0.5) * SIZE[0] / columns - side / 2 + shift
    ys = (np.arange(rows) + 0.5) * SIZE[1] / rows - side / 2
    return np.array([(x, y, x + side, y + side) for y in ys for x in xs], np.float32)


def placed(
    labels: LabelPlacement, boxes: Boxes, strangers: Boxes | None = None, panel: Rect | None = None
) -> tuple[int, list[Spot | None]]:
    faces = boxes if strangers is None else np.vstack([boxes, strangers])
    return labels.place(Crowd(list(range(1, len(boxes) + 1)), boxes, faces, panel), sizes)


def rects(level: int, spots: list[Spot | None]) -> NDArray[np.int64]:
    """(N, 4) of the labels that are placed."""
    return np.array(
        [
            (spot.left, spot.top, spot.left + sizes(row + 1, level)[0], spot.top + sizes(row + 1, level)[1])
            for row, spot in enumerate(spots)
            if spot is not None
        ]
    ).reshape(-1, 4)


def overlapping(one: NDArray[np.int64], others: NDArray[np.generic]) -> NDArray[np.bool_]:
    """(N, M) which of them have a pixel in common."""
    a, b = one[:, None, :], np.asarray(others, float)[None, :, :]
    wide = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0])
    high = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1])
    return np.asarray((wide > 0) & (high > 0))


def check(level: int, spots: list[Spot | None], faces: Boxes, panel: Rect | None = None) -> None:
    labels = rects(level, spots)
    among = overlapping(labels, labels)
    np.fill_diagonal(among, val=False)
    assert not among.any(), "labels hide each other"
    assert not overlapping(labels, faces).any(), "labels hide faces"
    if panel is not None:
        assert not overlapping(labels, np.array([panel])).any()
    assert (labels[:, :2] >= 0).all() and (labels[:, 2:] <= SIZE).all()


@pytest.mark.parametrize(
    ("columns", "rows", "side", "level"), [(4, 2, 120, 0), (9, 4, 80, 1), (10, 5, 90, 1), (12, 5, 88, 2)]
)
def test_every_label_of_a_crowd_finds_room(columns: int, rows: int, side: int, level: int) -> None:
    boxes = grid(columns, rows, side)
    found, spots = placed(LabelPlacement(SIZE, 2), boxes)
    assert None not in spots and found <= level
    check(found, spots, boxes)


@pytest.mark.parametrize("seed", range(6))
def test_labels_of_any_crowd_hide_nothing(seed: int) -> None:
    random = np.random.default_rng(seed)
    corner = random.uniform([0, 0], [1180, 620], (60, 2))
    boxes = np.hstack([corner, corner + random.uniform(30, 100, (60, 1))]).astype(np.float32)
    labels = LabelPlacement(SIZE, 2)
    level, spots = placed(labels, boxes[:50], boxes[50:], PANEL)
    check(level, spots, boxes, PANEL)
    assert spots.count(None) <= 5, "nearly all have one, however they stand"
    moved = boxes + np.float32(1.5)
    level, spots = placed(labels, moved[:50], moved[50:], PANEL)
    check(level, spots, moved, PANEL)


def test_a_label_that_is_not_beside_its_box_has_a_line_to_it() -> None:
    # Close together, in the middle: those inside find room only around the group.
    boxes = np.array(
        [(400 + 62 * x, 200 + 62 * y, 460 + 62 * x, 260 + 62 * y) for y in range(4) for x in range(4)],
        np.float32,
    )
    level, spots = placed(LabelPlacement(SIZE, 2), boxes)
    check(level, spots, boxes)
    far = [(spot, box) for spot, box in zip(spots, boxes, strict=True) if spot and spot.leader]
    assert far
    for spot, box in far:
        x1, y1, x2, y2 = spot.leader
        assert box[0] - 1 <= x1 <= box[2] + 1 and box[1] - 1 <= y1 <= box[3] + 1
        assert spot.left - 1 <= x2 <= spot.left + 70 and spot.top - 1 <= y2 <= spot.top + 30


def test_labels_do_not_hop() -> None:
    labels = LabelPlacement(SIZE, 2)
    before: list[tuple[float, float]] = []
    for step in range(20):
        boxes = grid(10, 4, 80, shift=step * 0.5)
        level, spots = placed(labels, boxes)
        check(level, spots, boxes)
        assert None not in spots
        offsets = [(s.left - box[0], s.top - box[1]) for s, box in zip(spots, boxes, strict=True) if s]
        if before:
            np.testing.assert_allclose(offsets, before, atol=20)
            assert np.mean(np.abs(np.subtract(offsets, before)).max(axis=1) <= 1.5) > 0.9
        before = offsets


def test_labels_are_long_again_when_the_crowd_has_gone() -> None:
    labels = LabelPlacement(SIZE, 2)
    crowd = grid(12, 5, 88)
    assert placed(labels, crowd)[0] > 0
    assert placed(labels, crowd[:55])[0] > 0, "not at once: it would flicker"
    assert placed(labels, grid(4, 2, 120))[0] == 0


def test_label_of_a_face_that_fills_the_frame_is_at_its_edge() -> None:
    box = np.array([(0, 0, 1279, 719)], np.float32)
    _, (spot,) = placed(LabelPlacement(SIZE, 2), box)
    assert spot is not None and spot.leader is None and (spot.left, spot.top) == (0, 0)
    # In a small frame it would hide too much.
    level, (none,) = LabelPlacement((100, 60), 1).place(
        Crowd([1], np.array([(0, 0, 99, 59)], np.float32), np.array([(0, 0, 99, 59)], np.float32), None),
        sizes,
    )
    assert none is None and level == 2
