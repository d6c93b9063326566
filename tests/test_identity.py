"""Tracklets to people, against casts whose truth is written down here."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage

from analyzer.people import identity
from analyzer.people.identity import (
    ALONE_S,
    CERTAIN,
    CHILD_DISTANCE,
    CLEAR_QUALITY,
    CLEAR_SHARE,
    COMPARABLE,
    CONTRADICTION,
    CROP_NOISE,
    ELSEWHERE,
    FAINT_QUALITY,
    FAINT_TIMES,
    FIRM_QUALITY,
    FIRM_TIMES,
    IMAGE_HEIGHTS,
    IMAGE_QUALITY,
    LIKELY,
    NESTED,
    PERSON_QUALITY,
    PERSON_S,
    PICTURE,
    PLAIN_PX,
    PLAIN_QUALITY,
    PLAUSIBLE,
    RIVAL,
    SLIP,
    SURE_SCORE,
    UNCLEAR,
    UNCLEAR_CONTRADICTION,
    Linked,
    link_tracklets,
)
from analyzer.people.timeline import sample_durations

FPS = 5
SIZE = 128


@dataclass(frozen=True)
class Seen:
    """A tracklet: in which samples, where, and what it looks like (None: it cannot be compared)."""

    samples: Sequence[int]
    looks: Sequence[float] | None = None
    x: float = 0.0
    step: float = 0.0
    quality: float = 0.9
    crops: int = 1000
    """Many, so that their mean is free of noise."""
    crop_px: float = 50.0
    width: float = 40.0
    score: float = SURE_SCORE
    age_years: float = np.nan


def samples_at(
    times_s: Sequence[float], cuts: Sequence[int] = (), end_s: float | None = None, image: bool = False
) -> pd.DataFrame:
    times = np.array(times_s, np.float64)
    numbers = np.arange(len(times))
    return pd.DataFrame(
        {
            "sample": numbers,
            "segment": 0,
            "time_s": times,
            "duration_s": sample_durations(times, end_s),
            "shot": np.isin(numbers, list(cuts)).cumsum(),
            "image": [f"{number}.jpg" if image else "" for number in numbers],
        }
    )


def seconds(count: float, cuts: Sequence[int] = ()) -> pd.DataFrame:
    return samples_at([number / FPS for number in range(round(count * FPS))], cuts)


def tables(cast: Sequence[Seen], samples: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    rows: list[dict[str, Any]] = []
    looks: list[dict[str, Any]] = []
    for tracklet, one in enumerate(cast):
        for number, sample in enumerate(one.samples):
            x = one.x + one.step * number
            box = {"x1": x, "y1": 0.0, "x2": x + one.width, "y2": 50.0}
            rows.append(
                {
                    "sample": sample,
                    "tracklet_id": tracklet,
                    "score": one.score,
                    "quality": one.quality,
                    "age_years": one.age_years,
                    **box,
                }
            )
        if one.looks is not None:
            looks.append(
                {
                    "tracklet_id": tracklet,
                    "embedding": np.array(one.looks, np.float32),
                    "crops": one.crops,
                    "crop_px": one.crop_px,
                }
            )
    faces = pd.DataFrame(rows).sort_values("sample", kind="stable", ignore_index=True)
    faces["time_s"] = samples["time_s"].to_numpy()[faces["sample"]]
    return faces, pd.DataFrame(looks, columns=["tracklet_id", "embedding", "crops", "crop_px"])


def linked(
    cast: Sequence[Seen], samples: pd.DataFrame, **rule: float | None
) -> tuple[list[set[int]], Linked]:
    """The people of each tracklet of the cast, and all that linking says."""
    faces, looks = tables(cast, samples)
    result = link_tracklets(faces, samples, looks, **rule)
    assert len(result.person_ids) == len(faces)
    check(result, faces)
    return [set(result.person_ids[faces["tracklet_id"] == one].tolist()) for one in range(len(cast))], result


def check(result: Linked, faces: pd.DataFrame) -> None:
    """What holds of every result."""
    people = result.person_ids[result.person_ids > 0]
    count = len(np.unique(people))
    # From 1 without holes, by first appearance.
    assert list(dict.fromkeys(people.tolist())) == list(range(1, count + 1))
    assert set(result.person_ids) <= {-1, *range(1, count + 1)}
    assert 0 <= result.low <= count <= result.high
    in_sample = faces.assign(person=result.person_ids)[result.person_ids > 0]
    assert not in_sample.duplicated(["sample", "person"]).any()


def places(cast: Sequence[Seen], samples: pd.DataFrame, **rule: float | None) -> list[int]:
    """The one person of each tracklet."""
    found, _ = linked(cast, samples, **rule)
    assert all(len(one) == 1 for one in found)
    return [one.pop() for one in found]


def corner(number: int, scale: float = 1.0) -> NDArray[np.float64]:
    """Vectors that are sqrt(2) times `scale` apart."""
    return np.eye(SIZE)[number] * scale


def on_line(*values: float) -> list[list[float]]:
    """Vectors that are as far apart as these numbers."""
    return [[value, 0.0, 0.0] for value in values]


# --- time and place ----------------------------------------------------------------------------------


def test_over_a_segments_border_place_and_time_tell() -> None:
    cast = [Seen(range(10), x=100, step=5), Seen(range(10, 20), x=150, step=5)]
    assert places(cast, seconds(4)) == [1, 1]


def test_one_goes_on_where_it_was_going() -> None:
    # Half a second lost: it is where its speed has brought it, not where it was last seen.
    gone = [Seen(range(10), step=20), Seen(range(13, 23), x=20 * 12, step=20)]
    stayed = [Seen(range(10), step=20), Seen(range(13, 23), x=20 * 9, step=20)]
    assert places(gone, seconds(5)) == [1, 1]
    assert places(stayed, seconds(5)) == [1, 2]


def hurrying(x: float, samples: Sequence[int], looks: Sequence[float] | None = None) -> list[Seen]:
    """Somebody so fast that each face is a tracklet of its own: 75 pixels a sample, from `x` in the first."""
    return [Seen([sample], looks, x=x + 75 * (sample - samples[0])) for sample in samples]


def test_a_single_face_moves_on_as_it_came() -> None:
    # After a gap it is far away from where it was last seen, but not from where it was going.
    cast = hurrying(0, [0, 1, 2, 3, 6, 7, 8], ann := corner(0, 2.0))
    assert places(cast, seconds(4)) == [1] * 7
    # Nobody else begins where it was.
    turned = [*hurrying(0, range(6), ann), Seen(range(9, 20), corner(0, 2.5), x=375)]
    assert len(set(places(turned, seconds(5)))) == 2


def test_whose_way_is_known_is_no_rival() -> None:
    # Ann turns away while somebody hurries by before her.
    ann, away, bob = on_line(0, CONTRADICTION + 0.1, CONTRADICTION)
    rest = [Seen(range(10), ann, x=300), Seen(range(10, 20), away, x=300, quality=CLEAR_QUALITY - 0.1)]
    assert places(rest, seconds(5)) == [1, 1]
    passer = hurrying(75, range(6, 15), bob)
    assert places([*rest, *passer], seconds(5)) == [1, 1, *[2] * 9]


def test_nobody_jumps_to_what_cannot_be_compared() -> None:
    ann = corner(0, 0.6)
    hair = Seen(range(10, 20), ann, x=75, quality=COMPARABLE - 0.1)
    assert places([Seen(range(10), ann), hair], seconds(5), min_quality=0.1) == [1, 2]
    assert places([Seen(range(10), ann), dataclasses.replace(hair, quality=0.9)], seconds(5)) == [1, 1]


def test_over_a_cut_place_and_time_tell_nothing() -> None:
    cast = [Seen(range(10)), Seen(range(10, 20))]
    assert places(cast, seconds(4)) == [1, 1]
    assert places(cast, seconds(4, cuts=[10])) == [1, 2]


def test_elsewhere_or_much_later_is_another_person() -> None:
    early = Seen(range(10))
    assert places([early, Seen(range(10, 20), x=200)], seconds(8)) == [1, 2]
    assert places([early, Seen(range(30, 40))], seconds(8)) == [1, 2]


@pytest.mark.parametrize("lost", [1, 4, 5, 6, 8])
def test_link_reaches_a_second_and_no_farther(lost: int) -> None:
    cast = [Seen(range(10)), Seen(range(10 + lost, 20 + lost))]
    assert places(cast, seconds(8)) == ([1, 1] if lost <= FPS else [1, 2])


@pytest.mark.parametrize(("shift", "people"), [(0, 1), (45, 1), (55, 2)])
def test_link_reaches_so_far_aside(shift: float, people: int) -> None:
    # Boxes 40 wide with a margin of 0.3 are 64 wide; aside by 52.4 their IoU is 0.1.
    assert len(set(places([Seen(range(10)), Seen(range(14, 24), x=shift)], seconds(8)))) == people


def test_two_cannot_go_on_as_one() -> None:
    # Both later tracklets begin where the early one ended: only one continues it.
    cast = [Seen(range(10)), Seen(range(10, 20), x=2), Seen(range(10, 20), x=8)]
    assert places(cast, seconds(4)) == [1, 1, 2]
    cast = [Seen(range(10)), Seen(range(10), x=6), Seen(range(10, 20), x=7)]
    assert places(cast, seconds(4)) == [1, 2, 2]
    # Nor does one go on as another that began before its end.
    assert places([Seen(range(10)), Seen(range(8, 18), x=5)], seconds(4)) == [1, 2]


def test_person_stays_one_over_a_held_picture() -> None:
    times = [0.0, 0.2, 0.4, 5.4, 5.6, 5.8, 10.8, 11.0]
    cast = [Seen(range(3), step=10), Seen(range(3, 6), x=20), Seen(range(6, 8), x=20)]
    assert places(cast, samples_at(times, end_s=16.0)) == [1, 1, 1]


@pytest.mark.parametrize(("apart", "people"), [(CONTRADICTION - 0.02, 1), (CONTRADICTION + 0.02, 2)])
def test_looks_contradict_time_and_place(apart: float, people: int) -> None:
    one, other = on_line(0, apart)
    cast = [Seen(range(10), one), Seen(range(10, 20), other)]
    assert len(set(places(cast, seconds(4)))) == people
    # Who cannot be compared is not contradicted.
    assert len(set(places([Seen(range(10), one), Seen(range(10, 20))], seconds(4)))) == 1


def test_where_looks_contradict_the_other_one_goes_on() -> None:
    red, blue = on_line(0, 1)
    cast = [Seen(range(10), red), Seen(range(10), blue, x=30), Seen(range(10, 20), blue, x=5)]
    assert places(cast, seconds(4)) == [1, 2, 2]


@pytest.mark.parametrize(
    ("quality", "apart", "people"),
    [
        (CLEAR_QUALITY - 0.01, UNCLEAR_CONTRADICTION - 0.02, 1),
        (CLEAR_QUALITY - 0.01, UNCLEAR_CONTRADICTION + 0.02, 2),
        (CLEAR_QUALITY, UNCLEAR_CONTRADICTION - 0.02, 2),
    ],
)
def test_an_unclear_view_contradicts_less_where_nobody_else_is_near(
    quality: float, apart: float, people: int
) -> None:
    one, other = on_line(0, apart)
    cast = [Seen(range(10), one), Seen(range(10, 20), other, quality=quality)]
    assert len(set(places(cast, seconds(4)))) == people
    # With a rival at hand, or after more time, it contradicts as ever.
    rival = Seen(range(10, 20), [0, 0, 1], x=5)
    assert len(set(places([*cast, rival], seconds(4)))) == 3
    later = round(ALONE_S * FPS) + 1
    cast[1] = dataclasses.replace(cast[1], samples=range(10 + later, 20 + later))
    assert len(set(places(cast, seconds(6)))) == 2


def test_a_face_that_jumps_goes_on_where_nobody_else_is_near() -> None:
    jump = [Seen(range(10), x=0), Seen(range(10, 20), x=75)]
    assert places(jump, seconds(4)) == [1, 1]
    later = round(ALONE_S * FPS)
    assert places([jump[0], Seen(range(10 + later, 20 + later), x=75)], seconds(6)) == [1, 2]
    ann, bob, eve = corner(0), corner(1), corner(2)
    rivals = [Seen(range(10), ann), Seen(range(10), bob, x=110), Seen(range(10, 20), eve, x=60)]
    assert len(set(places(rivals, seconds(4)))) == 3


def test_what_cannot_be_compared_takes_nobodys_place() -> None:
    # A box on the hair goes on nearer in time than the face itself.
    ann = corner(0, 0.6)
    hair = Seen(range(10, 12), corner(1), x=5, quality=COMPARABLE - 0.1)
    assert places([Seen(range(10), ann), hair, Seen(range(12, 22), ann)], seconds(5))[::2] == [1, 1]
    # Nor does a chain lead from one person to another by it.
    cast = [Seen(range(10), ann), hair, Seen(range(12, 22), corner(2))]
    assert places(cast, seconds(5))[::2] == [1, 2]


# --- looks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cuts", [[], [100]])
def test_who_comes_back_after_long_is_known_by_looks(cuts: list[int]) -> None:
    ann, bob = corner(0, 0.6), corner(1, 0.6)
    near = ann + corner(2, 0.3)
    cast = [Seen(range(10), ann), Seen(range(100, 110), near, x=300), Seen(range(120, 130), bob)]
    assert places(cast, seconds(30, cuts)) == [1, 1, 2]


@pytest.mark.parametrize(("apart", "people"), [(LIKELY - 0.01, 1), (LIKELY + 0.01, 2)])
def test_looks_reach_so_far_and_no_farther(apart: float, people: int) -> None:
    cast = [Seen(range(10), looks, x=x) for looks, x in zip(on_line(0, apart), (0, 300), strict=True)]
    cast[1] = Seen(range(50, 60), cast[1].looks, x=300)
    assert len(set(places(cast, seconds(12, [40])))) == people


@pytest.mark.parametrize(
    ("x", "cuts", "height"),
    [(300, [], np.sqrt(LIKELY**2 - ELSEWHERE)), (300, [40], LIKELY), (0, [], LIKELY), (39, [], LIKELY)],
)
def test_who_comes_back_elsewhere_in_a_shot_must_look_more_alike(
    x: float, cuts: list[int], height: float
) -> None:
    for apart, people in ((height - 0.01, 1), (height + 0.01, 2)):
        one, other = on_line(0, float(apart))
        cast = [Seen(range(10), one), Seen(range(50, 60), other, x=x)]
        assert len(set(places(cast, seconds(12, cuts)))) == people


def test_who_walks_through_a_shot_is_at_both_ends() -> None:
    # From 0 to 380; whoever comes back at either end is half at that place.
    height = float(np.sqrt(LIKELY**2 - ELSEWHERE / 2))
    for x in (0, 380):
        for apart, people in ((height - 0.01, 1), (height + 0.01, 2)):
            one, other = on_line(0, apart)
            cast = [Seen(range(20), one, step=20), Seen(range(50, 60), other, x=x)]
            assert len(set(places(cast, seconds(12)))) == people


@pytest.mark.parametrize(
    ("qualities", "unclear"), [((0.5, 0.5), 2.0), ((0.5, CLEAR_QUALITY), 1.0), ((0.6, CLEAR_QUALITY), 0.5)]
)
def test_unclear_faces_must_look_more_alike(qualities: tuple[float, float], unclear: float) -> None:
    height = float(np.sqrt(LIKELY**2 - unclear * UNCLEAR))
    moments, xs = (range(10), range(50, 60)), (0, 300)
    for apart, people in ((height - 0.01, 1), (height + 0.01, 2)):
        views = zip(moments, on_line(0, apart), xs, qualities, strict=True)
        cast = [Seen(moment, looks, x=x, quality=quality) for moment, looks, x, quality in views]
        assert len(set(places(cast, seconds(12, [40]), min_quality=0.3))) == people


@pytest.mark.parametrize("crops", [(1, 1), (1, 4), (8, 2)])
def test_fewer_crops_may_be_farther_apart(crops: tuple[int, int]) -> None:
    noise = CROP_NOISE / crops[0] + CROP_NOISE / crops[1]
    for height, people in ((LIKELY - 0.01, 1), (LIKELY + 0.01, 2)):
        one, other = on_line(0, float(np.sqrt(height**2 + noise)))
        cast = [Seen(range(10), one, crops=crops[0]), Seen(range(50, 60), other, x=300, crops=crops[1])]
        assert len(set(places(cast, seconds(12, [40])))) == people


def test_faces_that_cannot_be_compared_are_not_found_again() -> None:
    assert places([Seen(range(10)), Seen(range(50, 60), x=300)], seconds(12)) == [1, 2]


def test_chain_is_known_by_any_of_its_tracklets() -> None:
    # Too small at first; then it comes nearer at the same place; later it comes back.
    ann = corner(0, 0.6)
    cast = [Seen(range(10)), Seen(range(10, 20), ann), Seen(range(20, 30)), Seen(range(90, 100), ann, x=300)]
    assert places(cast, seconds(20)) == [1, 1, 1, 1]


def test_twins_in_one_sample_stay_two_people() -> None:
    ann = corner(0, 0.6)
    assert places([Seen(range(10), ann), Seen(range(10), ann, x=300)], seconds(2)) == [1, 2]


def test_two_in_one_sample_stay_two_through_a_third() -> None:
    # The third is nearest to the first; the second is as near to both, but is seen with the first.
    first, second, third = on_line(0, 0.2, 0.08)
    cast = [Seen(range(10), first), Seen(range(10), second, x=300), Seen(range(50, 60), third)]
    assert places(cast, seconds(12)) == [1, 2, 1]
    # Two pairs that are each together once: A B, then A' B', all alike.
    values = on_line(0, 0.2, 0.02, 0.19)
    cast = [
        *(Seen(range(10), values[i], x=300 * i) for i in range(2)),
        *(Seen(range(50, 60), values[i], x=300 * (5 - i)) for i in (2, 3)),
    ]
    assert places(cast, seconds(12)) == [1, 2, 1, 2]


@pytest.mark.parametrize(
    ("apart", "rival", "people"),
    [
        (CERTAIN + 0.04, (CERTAIN + 0.04) / RIVAL - 0.01, 3),  # somebody else is nearly as near
        (CERTAIN + 0.04, (CERTAIN + 0.04) / RIVAL + 0.01, 2),
        (CERTAIN - 0.01, CERTAIN + 0.01, 2),  # near enough, whoever else is
        (CERTAIN + 0.04, CERTAIN - 0.01, 2),  # the same face on a screen, or a twin, is no measure
    ],
)
@pytest.mark.parametrize("who", [0, 2])
def test_links_are_likely_only_if_other_people_are_farther(
    apart: float, rival: float, people: int, who: int
) -> None:
    # In the first shot one face, in the second another, and with one of the two somebody else.
    one, other = [0.0, 0.0, 0.0], [apart, 0.0, 0.0]
    side = np.sqrt(rival**2 - (apart / 2) ** 2)
    cast = [
        Seen(range(10), one),
        Seen(range(50, 60), other),
        Seen(range(50, 60) if who else range(10), [apart / 2, side, 0.0], x=300),
    ]
    found, result = linked(cast, seconds(12, cuts=[30]))
    assert len(set.union(*found)) == people
    assert result.low == 2  # the link stays plausible


def test_rivals_of_a_group_are_those_of_its_tracklets() -> None:
    # Nobody is seen with the last two, which certainly are one person; a third one was seen with a rival.
    values = on_line(0, 0.02, CERTAIN + 0.03)
    rival = [CERTAIN + 0.03, CERTAIN + 0.04, 0.0]
    cast = [Seen(range(20 * n, 20 * n + 10), one) for n, one in enumerate(values)]
    samples = seconds(14, cuts=range(0, 60, 10))
    assert places(cast, samples) == [1, 1, 1]
    assert places([*cast, Seen(range(40, 50), rival, x=300)], samples) == [1, 1, 2, 3]


def test_looks_of_a_larger_and_longer_view_weigh_more() -> None:
    # The mean of a person leans to what was seen best: the last one is near to it, or not.
    left, middle, right = on_line(0, 0.3, 0.63)
    moments = (range(10), range(50, 60), range(100, 110))

    def cast(crops: tuple[int, int], px: tuple[float, float]) -> list[Seen]:
        return [
            Seen(moments[0], left, crops=1000 * crops[0], crop_px=px[0]),
            Seen(moments[1], middle, x=300, crops=1000 * crops[1], crop_px=px[1]),
            Seen(moments[2], right, x=600),
        ]

    samples = seconds(24, [40, 90])
    assert places(cast((1, 9), (50, 50)), samples) == [1, 1, 1]
    assert places(cast((1, 1), (15, 100)), samples) == [1, 1, 1]
    assert places(cast((9, 1), (50, 50)), samples) == [1, 1, 2]


@pytest.mark.parametrize(("quality", "people"), [(COMPARABLE - 0.01, 3), (COMPARABLE + 0.01, 2)])
def test_looks_of_unclear_faces_tell_nothing(quality: float, people: int) -> None:
    ann, bob = corner(0, 0.6), corner(1, 0.6)
    cast = [Seen(range(10), ann), Seen(range(50, 60), ann, quality=quality, x=300), Seen(range(80, 90), bob)]
    assert len(set(places(cast, seconds(20), min_quality=0.2))) == people


def test_looks_of_clearer_views_weigh_more() -> None:
    left, middle, right = on_line(0, 0.2, 0.56)
    moments = (range(10), range(50, 60), range(100, 110))

    def cast(*qualities: float) -> list[Seen]:
        views = zip(moments, (left, middle, right), (*qualities, 0.9), strict=True)
        return [
            Seen(moment, looks, x=300 * number, quality=quality)
            for number, (moment, looks, quality) in enumerate(views)
        ]

    assert places(cast(0.4, 0.9), seconds(24, [40, 90])) == [1, 1, 1]
    assert places(cast(0.9, 0.4), seconds(24, [40, 90])) == [1, 1, 2]


# --- slips -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [SLIP - 0.1, SLIP, SLIP + 0.1])
def test_few_common_samples_of_certainly_one_person_are_a_slip(share: float) -> None:
    common = round(20 * share)
    ann = corner(0, 0.6)
    cast = [Seen(range(30), ann), Seen(range(30 - common, 50 - common), ann, x=300)]
    found, result = linked(cast, seconds(10))
    if share <= SLIP:
        # In the common samples the longer tracklet keeps the face.
        assert found == [{1}, {1, -1}]
        assert (result.person_ids == -1).sum() == common
    else:
        assert found == [{1}, {2}]


@pytest.mark.parametrize(("apart", "people"), [(CERTAIN - 0.01, 1), (CERTAIN + 0.01, 2)])
def test_slips_are_made_only_by_one_who_certainly_is_the_same(apart: float, people: int) -> None:
    one, other = on_line(0, apart)
    cast = [Seen(range(20), one), Seen(range(18, 38), other, x=300)]
    found, _ = linked(cast, seconds(10))
    assert len(set.union(*found) - {-1}) == people


def test_common_samples_count_of_the_whole_person() -> None:
    # Two samples are few of either tracklet, but most of the one that shares them.
    ann = corner(0, 0.6)
    cast = [Seen(range(30), ann), Seen([29, 30, *range(60, 80)], ann, x=300), Seen(range(20, 27), ann, x=600)]
    found, _ = linked(cast, seconds(20))
    assert found == [{1}, {1, -1}, {2}]


def test_common_samples_are_seen_once() -> None:
    # Four samples, 0.8 s: too brief. Five sightings, though.
    ann = corner(0, 0.6)
    found, _ = linked([Seen(range(3), ann), Seen(range(2, 4), ann, x=300)], seconds(20))
    assert found == [{-1}, {-1}]


@pytest.mark.parametrize(("shift", "people"), [(15, 1), (30, 2)])
def test_a_face_within_another_may_be_the_same(shift: float, people: int) -> None:
    # A second box on the same face, throughout: of 40 pixels, 25 or 10 in common.
    assert (40 - shift) / 40 > NESTED or people == 2
    ann = corner(0, 0.6)
    found, _ = linked([Seen(range(20), ann), Seen(range(15), ann, x=shift)], seconds(10))
    assert len(set.union(*found) - {-1}) == people
    # In an image two faces are two people.
    both = [Seen([0], ann), Seen([0], ann, x=shift)]
    assert places(both, images(1)) == [1, 2]


@pytest.mark.parametrize(
    ("ratio", "apart", "people"),
    [(0.1, LIKELY - 0.01, 1), (-0.1, 0.0, 2), (0.1, LIKELY + 0.01, 2)],
)
def test_somebody_and_their_picture_on_a_screen_are_one_person(
    ratio: float, apart: float, people: int
) -> None:
    # Both are seen all the time; embeddings decide, but only where one is far wider.
    one, other = on_line(0, CERTAIN + 0.01 if ratio < 0 else apart)
    cast = [Seen(range(20), one), Seen(range(20), other, x=300, width=40 * (PICTURE + ratio))]
    assert max(places(cast, seconds(4))) == people
    in_one_image = [dataclasses.replace(face, samples=[0]) for face in cast]
    assert places(in_one_image, images(1)) == [1, 2]


def test_where_a_box_without_a_clear_face_is_keeps_nobody_apart() -> None:
    # It goes on as the first one, while the same person is seen elsewhere.
    ann = corner(0, 0.6)
    cast = [
        Seen(range(10), ann),
        Seen(range(10, 30), corner(1), quality=0.1),
        Seen(range(12, 30), ann, x=300),
    ]
    found, _ = linked(cast, seconds(8))
    assert found[0] == {1} and found[2] == {1}


def inverted() -> list[Seen]:
    """Two who are always seen together, look alike and have few common samples with who they become."""
    # Ann and Bea are twins; each is linked, at a height between likely and plausible, to a long tracklet of
    # little weight. By those the common samples become few, and by their own weight the mean is near.
    twin = np.zeros(SIZE)
    return [
        Seen(range(10), twin, crops=50000),
        Seen(range(10), twin, x=300, crops=50000),
        Seen(range(100, 130), twin + corner(1, 0.55)),
        Seen(range(200, 230), twin + corner(2, 0.55), x=300),
    ]


def test_two_who_are_always_seen_together_are_no_slip_at_any_height() -> None:
    found, _ = linked(inverted(), seconds(50))
    assert found[0] != found[1] and -1 not in found[0] | found[1]


# --- who is a person ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "person"), [(1, -1), (round(PERSON_S * FPS) - 1, -1), (round(PERSON_S * FPS), 1)]
)
def test_who_is_seen_too_briefly_is_nobody(count: int, person: int) -> None:
    assert places([Seen(range(count))], seconds(20)) == [person]


@pytest.mark.parametrize(("above", "person"), [(-0.01, -1), (0.01, 1)])
def test_who_never_shows_clearly_is_nobody(above: float, person: int) -> None:
    assert places([Seen(range(20), quality=PERSON_QUALITY + above)], seconds(20)) == [person]


@pytest.mark.parametrize(
    ("score", "quality", "person"),
    [(0.6, 0.75, -1), (0.7, 0.75, 1), (0.92, 0.45, 1), (0.92, 0.35, -1), (0.99, 0.28, -1), (0.99, 0.0, -1)],
)
def test_who_is_counted_depends_on_the_detection_score_too(score: float, quality: float, person: int) -> None:
    cast = [Seen(range(20), score=score, quality=quality)]
    _, result = linked(cast, seconds(20))
    assert set(result.person_ids) == {person}
    if person < 0:
        # What is told of it is what `min_quality` is compared with.
        (told,) = result.uncounted["quality"]
        assert 0 <= told < PERSON_QUALITY and places(cast, seconds(20), min_quality=told) == [1]


@pytest.mark.parametrize(
    ("width", "quality", "person"),
    [
        (PLAIN_PX, PLAIN_QUALITY, 1),
        (PLAIN_PX - 1, PLAIN_QUALITY, -1),
        (PLAIN_PX, PLAIN_QUALITY - 0.01, -1),
    ],
)
def test_a_low_score_takes_nothing_away_from_plain_faces(width: float, quality: float, person: int) -> None:
    cast = [Seen(range(20), score=0.4, quality=quality, width=width)]
    assert places(cast, seconds(20)) == [person]


@pytest.mark.parametrize(
    ("clear_s", "person"), [(PERSON_S * CLEAR_SHARE, 1), (PERSON_S * CLEAR_SHARE - 0.2, -1)]
)
def test_a_person_shows_clearly_for_most_of_the_least_time(clear_s: float, person: int) -> None:
    count = round(clear_s * FPS + 0.49)
    faces, looks = tables([Seen(range(40))], seconds(20))
    faces["quality"] = [0.9] * count + [0.1] * (40 - count)
    assert set(link_tracklets(faces, seconds(20), looks).person_ids) == {person}


def test_faces_that_were_not_aligned_are_as_clear_as_the_nearest_one_of_their_tracklet() -> None:
    faces, looks = tables([Seen(range(20)), Seen(range(20), x=300)], seconds(20))
    faces["quality"] = np.nan
    # Clear for 0.6 s: too briefly; then for 1.4 s.
    for clear_until, person in ((2, -1), (10, 1)):
        first = faces["tracklet_id"] == 0
        faces.loc[first & faces["sample"].isin([0, clear_until]), "quality"] = 0.8
        faces.loc[first & faces["sample"].isin([clear_until + 1, 19]), "quality"] = 0.1
        result = link_tracklets(faces, seconds(20), looks)
        # Of the other one no face was aligned.
        assert set(result.person_ids[first]) == {person} and set(result.person_ids[~first]) == {-1}


def test_without_any_alignment_the_detection_score_decides() -> None:
    faces, looks = tables([Seen(range(20)), Seen(range(20), x=300)], seconds(20))
    faces["quality"] = np.nan
    faces["score"] = np.where(faces["tracklet_id"] == 0, PERSON_QUALITY + 0.01, PERSON_QUALITY - 0.01)
    result = link_tracklets(faces, seconds(20), looks)
    assert result.person_ids.tolist() == [1, -1] * 20


def test_what_a_person_needs_can_be_chosen() -> None:
    cast = [Seen(range(20), quality=0.4), Seen(range(3), x=300), Seen(range(50), x=900, quality=0.55)]
    assert places(cast, seconds(20)) == [-1, -1, 1]
    assert places(cast, seconds(20), min_quality=0.4) == [1, -1, 2]
    assert places(cast, seconds(20), min_on_screen_s=0.5) == [-1, 1, 2]
    assert places(cast, seconds(20), min_quality=0.6, min_on_screen_s=0.0) == [-1, 1, -1]


def test_a_person_is_long_and_clear_enough_in_all() -> None:
    ann = corner(0, 0.6)
    brief = [Seen(range(3), ann, quality=0.6), Seen(range(50, 53), ann, quality=0.7, x=300)]
    assert places(brief, seconds(20)) == [1, 1]
    assert places(brief[:1], seconds(20)) == places(brief[1:], seconds(20)) == [-1]
    # Nobody of both: the numbers of the others have no holes.
    cast = [Seen(range(2), x=600), *brief, Seen(range(60, 70), corner(1, 0.6))]
    assert places(cast, seconds(20)) == [-1, 1, 1, 2]


def test_in_a_very_short_video_half_of_it_is_enough() -> None:
    assert places([Seen(range(3)), Seen(range(2), x=300)], seconds(1.2)) == [1, -1]
    assert places([Seen([0])], samples_at([0.0])) == [1]
    assert places([Seen([0]), Seen([1], x=300)], samples_at([0.0, 0.04])) == [1, 2]


def test_one_sighting_is_a_person_where_samples_are_rare() -> None:
    assert places([Seen([0, 1]), Seen([1], x=300)], samples_at([0.0, 2.0, 4.0])) == [1, 2]


def images(count: int) -> pd.DataFrame:
    return samples_at([float(number) for number in range(count)], end_s=count, image=True)


def in_images(*looks: Sequence[float] | None) -> list[Seen]:
    """One face in each image, all in the same place."""
    return [Seen([number], one) for number, one in enumerate(looks)]


IMAGE_LIKELY = IMAGE_HEIGHTS[1]


@pytest.mark.parametrize(("apart", "people"), [(IMAGE_LIKELY - 0.01, [1, 1]), (IMAGE_LIKELY + 0.01, [1, 2])])
def test_the_same_face_in_several_images_is_one_person(apart: float, people: list[int]) -> None:
    assert places(in_images(*on_line(0, apart)), images(2)) == people


@pytest.mark.parametrize(
    ("ages", "most"),
    [
        ((2.0, 2.0), IMAGE_LIKELY**2 - 2 * CHILD_DISTANCE),
        ((2.0, 40.0), IMAGE_LIKELY**2 - CHILD_DISTANCE),
        ((6.5, 6.5), IMAGE_LIKELY**2 - CHILD_DISTANCE),
        ((10.0, 40.0), IMAGE_LIKELY**2),
    ],
)
def test_in_images_children_must_look_more_alike(ages: tuple[float, float], most: float) -> None:
    for squared, people in ((most - 0.01, [1, 1]), (most + 0.01, [1, 2])):
        cast = in_images(*on_line(0, squared**0.5))
        cast = [dataclasses.replace(one, age_years=age) for one, age in zip(cast, ages, strict=True)]
        assert places(cast, images(2)) == people


def test_many_images_of_one_face_among_others() -> None:
    ann, bea = corner(0, 0.6), corner(1, 0.6)
    assert places(in_images(ann, bea, *[ann] * 10, bea), images(13)) == [1, 2, *[1] * 10, 2]


@pytest.mark.parametrize("apart", [0.0, CERTAIN - 0.05])
def test_two_faces_in_one_image_are_never_one_person(apart: float) -> None:
    one, other = on_line(0, apart)
    # Ten images show them both, so that a slip would be pardoned in a video; the last one shows only one.
    cast = [Seen([number], looks, x=x) for number in range(10) for looks, x in ((one, 0), (other, 300))]
    found = places([*cast, Seen([10], one)], images(11))
    assert found == [1, 2] * 10 + [1]
    shared = [*in_images(*[one] * 9), Seen([0], one, x=300)]
    assert len(set(places(shared, images(9)))) == 2


def test_place_and_time_say_nothing_of_images() -> None:
    # Too small to be compared, and in the same place in each image: as many people as faces.
    found, result = linked(in_images(None, None, None), images(3))
    assert found == [{1}, {2}, {3}] and (result.low, result.high) == (1, 3)
    assert result.reason == "2 people have faces too small to be compared with others"


def test_range_of_images_says_how_sure_the_links_are() -> None:
    _, result = linked(
        in_images(*on_line(0, IMAGE_HEIGHTS[0] + 0.05, 2.0, 2 + IMAGE_HEIGHTS[2] - 0.05)), images(4)
    )
    assert (result.low, result.person_ids.max(), result.high) == (2, 3, 4)


def test_unclear_faces_in_images_are_nobody() -> None:
    cast = [Seen([0], corner(0), quality=IMAGE_QUALITY - 0.01, x=300)]
    cast.append(Seen([0], corner(1), quality=IMAGE_QUALITY + 0.01))
    found, result = linked(cast, images(1))
    assert found == [{-1}, {1}] and (result.low, result.high) == (1, 2)
    assert result.uncounted["reason"].tolist() == ["faint"]


def test_those_not_counted_are_told_with_the_reason() -> None:
    faint = PERSON_QUALITY - 0.05
    cast = [Seen(range(20)), Seen([3], x=300), Seen(range(15), x=600, quality=faint), Seen([40], quality=0.4)]
    _, result = linked(cast, seconds(20))
    table = result.uncounted.sort_values("seen_s", ignore_index=True)
    assert sorted(table["reason"][:2]) == ["both", "brief"] and table["reason"].iloc[2] == "faint"
    assert table["faces"].tolist() == [1, 1, 15]
    np.testing.assert_allclose(table["seen_s"], [0.2, 0.2, 3.0])
    assert table["quality"].iloc[-1] == pytest.approx(faint) and table["width_px"].iloc[-1] == 40


def test_nobody_at_all() -> None:
    faces, looks = tables([Seen(range(5))], seconds(2))
    result = link_tracklets(faces.iloc[:0], seconds(2), looks.iloc[:0])
    assert len(result.person_ids) == result.low == result.high == 0 and result.reason
    found, result = linked([Seen([3])], seconds(20))
    assert found == [{-1}] and (result.low, result.high) == (0, 0)


# --- the range ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("apart", "expected", "reason"),
    [
        (CERTAIN - 0.05, (1, 1, 1), "every link is certain"),
        (CERTAIN + 0.02, (1, 1, 2), "1 link is likely, but not certain"),
        (LIKELY + 0.05, (1, 2, 2), "1 further link is plausible"),
        (PLAUSIBLE + 0.05, (2, 2, 2), "every link is certain"),
    ],
)
def test_range_says_how_sure_the_links_are(apart: float, expected: tuple[int, int, int], reason: str) -> None:
    one, other = on_line(0, apart)
    _, result = linked([Seen(range(10), one), Seen(range(50, 60), other, x=300)], seconds(12, [40]))
    assert (result.low, result.person_ids.max(), result.high) == expected
    assert reason in result.reason


def test_range_adds_up_several_reasons() -> None:
    # Two likely links and two plausible ones, all far from each other.
    cast, at = [], 0
    for pair, apart in enumerate([CERTAIN + 0.02] * 2 + [LIKELY + 0.05] * 2 + [0.0, PLAUSIBLE + 0.1]):
        for share in (0, apart):
            cast.append(Seen(range(at, at + 10), corner(2 * pair) + corner(2 * pair + 1, share), x=300))
            at += 50
    _, result = linked(cast, seconds(at / FPS + 2))
    assert (result.low, result.person_ids.max(), result.high) == (7, 9, 11)
    assert result.reason == "2 links are likely, but not certain; 2 further links are plausible"


@pytest.mark.parametrize(("apart", "low"), [(CERTAIN - 0.01, 1), (CERTAIN + 0.01, 2), (LIKELY - 0.01, 2)])
def test_who_looks_like_another_one_may_be_seen_twice(apart: float, low: int) -> None:
    # Somebody and their mirror image are always seen together, on both sides of a cut.
    one, other = on_line(0, apart)
    shots = range(30), range(60, 90)
    cast = [Seen(shot, looks, x=x) for shot in shots for looks, x in ((one, 0), (other, 300))]
    found, result = linked(cast, seconds(20, cuts=[45]))
    assert found == [{1}, {2}, {1}, {2}]
    assert (result.low, result.high) == (low, 2)
    assert ("1 person looks like another one, and may be seen twice" in result.reason) == (low == 1)
    as_images = samples_at(range(100), image=True)
    assert linked(cast, as_images)[1].low == 2


def test_who_may_be_seen_twice_is_counted_in_groups() -> None:
    # Three who look alike are one at least, and two others are two.
    looks = [[0.0, 0.0], [CERTAIN - 0.01, 0.0], [2 * CERTAIN - 0.02, 0.0], [0.0, 5.0], [0.0, 7.0]]
    cast = [Seen(range(60), one, x=200 * n) for n, one in enumerate(looks)]
    _, result = linked(cast, seconds(20))
    assert (result.low, result.high) == (3, 5)
    assert result.reason == "2 people look like others, and may be seen twice, in a mirror or on a screen"


def test_faces_too_small_to_compare_may_be_anybody() -> None:
    # Two are compared; five small ones follow each other elsewhere: they may be those two.
    cast = [Seen(range(10 * n, 10 * n + 10), corner(n), x=0) for n in range(2)]
    cast += [Seen(range(50 + 20 * n, 60 + 20 * n), x=300) for n in range(5)]
    _, result = linked(cast, seconds(40))
    assert (result.low, result.person_ids.max(), result.high) == (2, 7, 7)
    assert result.reason == "5 people have faces too small to be compared with others"
    # Three small ones at once: so many there are.
    cast = [Seen(range(50, 60), x=300 * n) for n in range(3)]
    _, result = linked(cast, seconds(40))
    assert (result.low, result.high) == (3, 3)
    cast.append(Seen(range(100, 110)))
    _, result = linked(cast, seconds(40))
    assert (result.low, result.person_ids.max(), result.high) == (3, 4, 4)


@pytest.mark.parametrize(
    ("least_s", "quality", "high"),
    [
        (FAINT_TIMES, FAINT_QUALITY + 0.01, 3),
        (FAINT_TIMES - 0.2, FAINT_QUALITY, 1),
        (FAINT_TIMES, FAINT_QUALITY - 0.01, 1),
        (4.0, PERSON_QUALITY - 0.01, 3),
    ],
)
def test_whoever_was_not_counted_may_be_a_person_if_it_is_a_face(
    least_s: float, quality: float, high: int
) -> None:
    count = round(least_s * PERSON_S * FPS)
    cast = [Seen(range(20))] + [Seen(range(at, at + count), x=300, quality=quality) for at in (50, 80)]
    _, result = linked(cast, seconds(40))
    assert len(result.uncounted) == 2
    assert (result.low, result.person_ids.max(), result.high) == (1, 1, high)
    if high > 1:
        assert result.reason == "2 more people may have been seen too briefly or too faintly to be counted"


@pytest.mark.parametrize(
    ("times", "quality", "low"),
    [
        (FIRM_TIMES, FIRM_QUALITY + 0.01, 2),
        (FIRM_TIMES - 0.3, FIRM_QUALITY + 0.01, 1),
        (FIRM_TIMES, FIRM_QUALITY - 0.01, 1),
    ],
)
def test_one_seen_only_just_long_or_clearly_enough_may_be_nobody_else(
    times: float, quality: float, low: int
) -> None:
    count = int(np.ceil(times * PERSON_S * FPS))
    cast = [Seen(range(20), corner(0)), Seen(range(50, 50 + count), corner(1), x=300, quality=quality)]
    _, result = linked(cast, seconds(40))
    assert (result.low, result.person_ids.max(), result.high) == (low, 2, 2)
    if low == 1:
        assert result.reason == "1 person was seen only just long or clearly enough"


def test_somebody_was_there_however_briefly() -> None:
    _, result = linked([Seen(range(round(PERSON_S * FPS)))], seconds(20))
    assert (result.low, result.high) == (1, 1) and result.reason.startswith("every link is certain")


# --- the clustering ----------------------------------------------------------------------------------


def crowd(seed: int, people: int, count: int, length: int = 2000) -> tuple[list[Seen], list[int]]:
    """Tracklets of people with noise, who come and go, and who each of them is; none meets itself."""
    random = np.random.default_rng(seed)
    centers = random.normal(size=(people, SIZE))
    centers *= 0.55 / np.linalg.norm(centers, axis=1, keepdims=True)  # about 0.78 apart
    busy = np.zeros((people, length), bool)
    cast, truth = [], []
    while len(cast) < count:
        who = int(random.integers(people))
        start, end = (start := int(random.integers(length - 30))), start + int(random.integers(6, 30))
        if busy[who, start:end].any():
            continue
        busy[who, start:end] = True
        noise = random.normal(size=SIZE)
        noise *= random.uniform(0.1, 0.3) / np.linalg.norm(noise)
        cast.append(
            Seen(
                range(start, end),
                centers[who] + noise,
                x=50 * float(random.integers(20)),
                crops=1000 * int(random.integers(1, 6)),
                crop_px=float(random.uniform(28, 100)),
            )
        )
        truth.append(who)
    return cast, truth


def partition(ids: Sequence[int]) -> set[frozenset[int]]:
    members: dict[int, list[int]] = {}
    for number, one in enumerate(ids):
        members.setdefault(one, []).append(number)
    return {frozenset(one) for one in members.values()}


def test_six_hundred_tracklets_of_forty_people_are_told_apart() -> None:
    cast, truth = crowd(0, 40, 600)
    # Alone the looks: time and place join whom chance has put there.
    found = places(cast, seconds(400, cuts=range(2000)))
    assert partition(found) == partition(truth)


def test_numbers_and_order_of_tracklets_do_not_matter() -> None:
    cast, _ = crowd(1, 12, 150)
    random = np.random.default_rng(5)
    samples = seconds(400)
    faces, looks = tables(cast, samples)
    # A few slips, and some that cannot be compared.
    looks = looks.drop(index=random.choice(len(looks), 20, replace=False)).reset_index(drop=True)
    expected = link_tracklets(faces, samples, looks)
    check(expected, faces)
    assert 12 <= expected.person_ids.max() < 40
    for _ in range(4):
        names = random.permutation(10 * len(cast))[: len(cast)]
        other_faces = faces.assign(tracklet_id=names[faces["tracklet_id"]])
        other_looks = looks.assign(tracklet_id=names[looks["tracklet_id"]]).sample(
            frac=1, random_state=random
        )
        # Faces of one sample in another order, the samples in theirs.
        mixed = other_faces.sample(frac=1, random_state=random).sort_values("sample", kind="stable")
        result = link_tracklets(mixed.reset_index(drop=True), samples, other_looks)
        check(result, mixed)
        same = pd.Series(result.person_ids, index=mixed.index).sort_index().to_numpy()
        assert (
            len({*zip(same, expected.person_ids, strict=True)})
            == len(set(same))
            == len(set(expected.person_ids))
        )
        assert (result.low, result.high, result.reason) == (expected.low, expected.high, expected.reason)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("size", [2, 128])
def test_average_linkage_is_that_of_scipy(seed: int, size: int) -> None:
    random = np.random.default_rng(seed)
    count = 120
    vectors = random.normal(size=(count, size)).astype(np.float32)
    vectors *= np.float32(0.55 if size == 2 else 0.45 / np.sqrt(size) * random.uniform(0.9, 1))
    if size == 128:
        vectors += np.repeat(random.normal(size=(count // 4, size)), 4, axis=0) * 0.02
    tree = linkage(vectors, method="average", metric="sqeuclidean")
    counts = [len(set(fcluster(tree, height**2, "distance"))) for height in (CERTAIN, LIKELY, PLAUSIBLE)]
    if size == 2:
        assert 1 < counts[2] < counts[1] < counts[0] < count
    cast = [Seen(range(10 * n, 10 * n + 10), vector) for n, vector in enumerate(vectors)]
    samples = seconds(count * 2, cuts=range(0, 10 * count, 10))
    found, result = linked(cast, samples)
    assert partition([one.pop() for one in found]) == partition(
        fcluster(tree, LIKELY**2, "distance").tolist()
    )
    assert (result.low, result.high) == (counts[2], counts[0])


def by_definition(cast: Sequence[Seen]) -> set[frozenset[int]]:
    """Average linkage, one merge of the nearest two at a time, up to `LIKELY`; who meet stay apart."""
    weights = [one.crops * one.crop_px for one in cast]
    clusters = [[number] for number in range(len(cast))]

    def apart(mine: list[int], theirs: list[int]) -> float:
        total = 0.0
        for i, j in itertools.product(mine, theirs):
            if set(cast[i].samples) & set(cast[j].samples):
                return np.inf
            difference = np.subtract(cast[i].looks, cast[j].looks)
            total += weights[i] * weights[j] * float(difference @ difference)
        return total / (sum(weights[i] for i in mine) * sum(weights[j] for j in theirs))

    while len(clusters) > 1:
        pairs = [(apart(a, b), i, j) for (i, a), (j, b) in itertools.combinations(enumerate(clusters), 2)]
        height, first, second = min(pairs)
        if height > LIKELY**2:
            break
        clusters[first] += clusters.pop(second)
    return {frozenset(cluster) for cluster in clusters}


@pytest.mark.parametrize("seed", range(12))
def test_average_linkage_with_cannot_links_is_that_of_its_definition(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "SLIP", 0.0)
    monkeypatch.setattr(identity, "RIVAL", np.inf)
    random = np.random.default_rng(seed)
    centers = random.normal(size=(4, 3)) * 0.4
    cast = [
        Seen(
            range(start, start + int(random.integers(5, 25))),
            centers[random.integers(4)] + random.normal(size=3) * random.uniform(0.05, 0.2),
            x=300.0 * number,
            crops=1000 * int(random.integers(1, 10)),
        )
        for number, start in enumerate(random.integers(0, 60, 18).tolist())
    ]
    found = places(cast, seconds(24, cuts=range(120)))
    assert partition(found) == by_definition(cast)
    assert 4 <= len(set(found)) < len(cast)


@pytest.mark.parametrize("seed", range(20))
def test_nobody_has_two_faces_in_a_sample_whatever_is_seen_together(seed: int) -> None:
    random = np.random.default_rng(seed)
    cast = [
        Seen(
            range(start, start + int(random.integers(1, 40))),
            random.normal(size=3) * 0.3 if random.random() < 0.8 else None,
            x=float(random.integers(0, 300)),
            step=float(random.integers(-3, 4)),
            quality=float(random.uniform(0.2, 1)),
            crops=1000 * int(random.integers(1, 30)),
        )
        for start in random.integers(0, 60, 25).tolist()
    ]
    found, result = linked(cast, seconds(30, cuts=[20, 50]))  # `check` does the rest
    assert result.person_ids.max() >= 3
    # A tracklet is one person's, though some of its faces may be nobody's.
    assert all(len(one - {-1}) <= 1 for one in found)
