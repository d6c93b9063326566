"""`Faces`: parallel arrays, checked, frozen, sliced together."""

from __future__ import annotations

import numpy as np
import pytest

from analyzer.faces import Faces, face_widths, frontality, iou


def three() -> Faces:
    boxes = [[0, 0, 10, 10], [20, 0, 30, 10], [5, 5, 9, 9]]
    return Faces.build(boxes=boxes, scores=[0.9, 0.8, 0.6], female_prob=[0.1, np.nan, 0.7])


def test_what_is_not_given_is_absent() -> None:
    faces = three()
    assert (faces.track_ids == -1).all()
    assert np.isnan(faces.landmarks).all() and faces.landmarks.shape == (3, 5, 2)
    assert np.isnan(faces.age_years).all()


def test_arrays_are_sliced_together_by_mask_index_and_slice() -> None:
    faces = three()
    for index in (faces.scores < 0.85, np.array([1, 2]), slice(1, 3)):
        part = faces[index]
        assert part.scores.tolist() == pytest.approx([0.8, 0.6])
        assert part.boxes[1].tolist() == [5, 5, 9, 9]
        assert part.female_prob[1] == pytest.approx(0.7)


def test_empty_is_no_special_case() -> None:
    empty = Faces.empty()
    assert len(empty) == 0 and empty.boxes.shape == (0, 4)
    assert len(empty[empty.scores > 0.5]) == 0
    assert iou(empty.boxes, three().boxes).shape == (0, 3)


def test_arrays_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="read-only"):
        three().boxes[0, 0] = 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boxes": [[0, 0, 1, 1]]}, r"must be float32 \(1,\), got float32 \(3,\)"),
        ({"scores": [0.5, 0.5, 1.5]}, r"scores must lie in \[0, 1\]"),
        ({"female_prob": [-0.1, 0, 0]}, r"female_prob must lie in \[0, 1\]"),
        ({"boxes": [[5, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1]]}, "x1 <= x2"),
    ],
)
def test_wrong_shape_or_range_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        three().replace(**changes)


def test_an_array_that_faces_do_not_have_is_refused() -> None:
    with pytest.raises(TypeError, match="Faces has no confidence"):
        Faces.build(boxes=[[0, 0, 1, 1]], scores=[0.5], confidence=[0.5])


def test_wrong_dtype_is_refused() -> None:
    faces = three()
    with pytest.raises(ValueError, match="float64"):
        Faces(
            faces.boxes.astype(np.float64),
            faces.scores,
            faces.landmarks,
            faces.quality,
            faces.female_prob,
            faces.age_years,
            faces.age_std_years,
            faces.track_ids,
        )


@pytest.mark.parametrize("turn_deg", [0, 40, -75])
def test_frontality_falls_as_the_nose_goes_aside_whatever_way_the_head_is_held(turn_deg: float) -> None:
    turn = np.exp(1j * np.deg2rad(turn_deg))

    def face(nose: complex) -> list[list[float]]:
        points = [(point + 50 + 50j) * turn for point in (0, 20, nose, 5 + 20j, 15 + 20j)]
        return [[point.real, point.imag] for point in points]

    # In the middle, halfway to either eye, beside an eye, beyond it; lower down is no other way.
    noses = [10 + 10j, 15 + 10j, 5 + 10j, 20 + 10j, 30 + 10j, -10 + 3j, 10 + 18j]
    found = frontality(np.array([face(nose) for nose in noses], np.float32))
    np.testing.assert_allclose(found, [1, 0.5, 0.5, 0, 0, 0, 1], atol=1e-4)


def test_frontality_of_nothing_and_of_points_in_one_place() -> None:
    assert frontality(np.empty((0, 5, 2), np.float32)).shape == (0,)
    assert np.isnan(frontality(np.full((1, 5, 2), np.nan, np.float32))).all()
    assert 0 <= frontality(np.full((1, 5, 2), 7, np.float32))[0] <= 1


def test_widths_are_of_the_boxes() -> None:
    assert face_widths(three().boxes).tolist() == [10, 10, 4]
    assert face_widths(Faces.empty().boxes).shape == (0,)


def test_arrays_of_the_caller_stay_writable_and_apart() -> None:
    boxes = np.array([[0, 0, 10, 10]], np.float32)
    none = np.full((1, 5, 2), np.nan, np.float32), *(np.full(1, np.nan, np.float32) for _ in range(4))
    faces = Faces(boxes, np.ones(1, np.float32), *none, np.full(1, -1, np.int64))
    boxes[0, 2] = 99
    assert faces.boxes.tolist() == [[0, 0, 10, 10]]
    with pytest.raises(ValueError, match="read-only"):
        faces.boxes[0, 0] = 1
    assert faces.replace(scores=[0.5]).boxes is faces.boxes
