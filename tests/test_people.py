"""Linking, fusing and the timeline, against tables whose truth is written down here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from analyzer.people import fuse_people, link_tracklets, sample_durations, timeline
from analyzer.records import PEOPLE, timeline_columns
from analyzer.settings import AGE_BANDS, Settings

FRONTAL = [10, 10, 30, 10, 20, 20, 12, 30, 28, 30]
TURNED = [10, 10, 30, 10, 29, 20, 20, 30, 28, 30]


def samples_at(times_s: list[float], end_s: float | None = None, image: bool = False) -> pd.DataFrame:
    times = np.array(times_s, dtype=np.float64)
    return pd.DataFrame(
        {
            "sample": np.arange(len(times)),
            "segment": 0,
            "time_s": times,
            "duration_s": sample_durations(times, end_s),
            "image": [f"{number}.jpg" if image else "" for number in range(len(times))],
        }
    )


def face(sample: int, tracklet: int, x: float = 0, **values: Any) -> dict[str, Any]:
    width = values.pop("width", 40.0)
    return {
        "sample": sample,
        "x1": x,
        "y1": 0.0,
        "x2": x + width,
        "y2": 50.0,
        "tracklet_id": tracklet,
        "female_prob": 0.9,
        "age_years": 30.0,
        "age_spread_years": 0.0,
        "landmarks": FRONTAL,
        "person_id": -1,
    } | values


def faces_of(rows: list[dict[str, Any]], samples: pd.DataFrame) -> pd.DataFrame:
    faces = pd.DataFrame(rows)
    faces["time_s"] = samples["time_s"].to_numpy()[faces["sample"]]
    return faces.sort_values("sample", kind="stable", ignore_index=True)


def people_of(faces: pd.DataFrame, samples: pd.DataFrame, **changes: Any) -> pd.DataFrame:
    faces["person_id"] = link_tracklets(faces, samples)
    return fuse_people(faces, samples, Settings(**changes))


def test_tracklet_over_a_segments_border_is_one_person() -> None:
    samples = samples_at([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    faces = faces_of(
        [face(s, 0, x=100 + 5 * s) for s in range(3)] + [face(s, 1, x=100 + 5 * s) for s in range(3, 6)],
        samples,
    )
    assert link_tracklets(faces, samples).tolist() == [1] * 6


def test_elsewhere_or_much_later_is_another_person() -> None:
    samples = samples_at([number / 5 for number in range(40)])
    early = [face(s, 0) for s in range(3)]
    elsewhere = faces_of(early + [face(s, 1, x=200) for s in range(3, 6)], samples)
    later = faces_of(early + [face(s, 1) for s in range(20, 23)], samples)
    assert set(link_tracklets(elsewhere, samples)) == {1, 2}
    assert set(link_tracklets(later, samples)) == {1, 2}


def test_two_faces_in_one_sample_are_never_one_person() -> None:
    samples = samples_at([number / 5 for number in range(6)])
    # Both later tracklets begin where the early one ended: only one may continue it.
    rows = [face(s, 0) for s in range(3)]
    rows += [face(s, 1, x=2) for s in range(3, 6)] + [face(s, 2, x=8) for s in range(3, 6)]
    faces = faces_of(rows, samples)
    faces["person_id"] = link_tracklets(faces, samples)
    assert not faces.duplicated(["sample", "person_id"]).any()
    assert faces["person_id"].nunique() == 2


def test_one_sighting_is_no_person_unless_samples_are_rare() -> None:
    often, seldom = samples_at([0.0, 0.2, 0.4]), samples_at([0.0, 2.0, 4.0])
    rows = [face(0, 0), face(1, 0), face(1, 1, x=300)]
    assert link_tracklets(faces_of(rows, often), often).tolist() == [1, 1, -1]
    assert link_tracklets(faces_of(rows, seldom), seldom).tolist() == [1, 1, 2]


def test_faces_of_different_pictures_are_different_people() -> None:
    samples = samples_at([0.0, 1.0], image=True)
    faces = faces_of([face(0, 0), face(1, 1)], samples)
    assert link_tracklets(faces, samples).tolist() == [1, 2]


def test_person_is_fused_from_all_judged_sightings() -> None:
    samples = samples_at([0.0, 0.2, 0.4, 3.0, 3.2], end_s=3.4)
    rows = [
        face(0, 0, female_prob=0.8, age_years=20.0, age_spread_years=4.0),
        face(1, 0, female_prob=0.6, age_years=40.0, age_spread_years=4.0, width=80.0, landmarks=TURNED),
        face(2, 0, female_prob=np.nan, age_years=np.nan, age_spread_years=np.nan),
    ]
    person = people_of(faces_of(rows, samples), samples).iloc[0]
    assert person["female_prob"] == pytest.approx((0.8 * 40 + 0.6 * 80) / 120)
    assert person["age_years"] == pytest.approx((20 * 40 + 40 * 80) / 120)
    assert person["judged_samples"] == 2 and person["samples"] == 3
    assert person["frontal_share"] == pytest.approx(2 / 3)
    assert person["age_low"] < person["age_years"] < person["age_high"]
    assert person["age_band"] == "25-34"
    assert (person["first_s"], person["appearances"]) == (0.0, 1)
    # The third picture is held until the next one, 2.6 s later.
    assert person["on_screen_s"] == pytest.approx(0.2 + 0.2 + 2.6)


@pytest.mark.parametrize(
    ("female_prob", "expected"),
    [
        (0.95, "female"),
        (0.7, "female"),
        (0.69, "unknown"),
        (0.31, "unknown"),
        (0.29, "male"),
        (np.nan, "unknown"),
    ],
)
def test_gender_is_unknown_below_the_confidence(female_prob: float, expected: str) -> None:
    samples = samples_at([0.0, 0.2])
    rows = [face(s, 0, female_prob=female_prob, age_years=female_prob and 30) for s in range(2)]
    assert people_of(faces_of(rows, samples), samples, min_confidence=0.7).loc[0, "gender"] == expected


def test_coming_back_is_an_appearance() -> None:
    samples = samples_at([number / 2 for number in range(30)])
    faces = faces_of([face(s, 0) for s in (0, 1, 2, 3, 20, 21)], samples)
    faces["person_id"] = 1
    person = fuse_people(faces, samples, Settings()).iloc[0]
    assert person["appearances"] == 2
    assert person["on_screen_s"] == pytest.approx(3.0)


@pytest.mark.parametrize("bands", AGE_BANDS)
@pytest.mark.parametrize("bin_s", [0.5, 1.0, 7.0])
def test_timeline_has_every_bin_and_its_columns_add_up(bands: str, bin_s: float) -> None:
    settings = Settings(bin_s=bin_s, age_bands=bands)
    random = np.random.default_rng(3)
    samples = samples_at([number / 5 for number in range(200)], end_s=40)
    rows = []
    for tracklet in range(12):
        start = int(random.integers(0, 150))
        known = tracklet % 4 != 0
        female, age = (float(random.random()), float(random.uniform(1, 95))) if known else (np.nan, np.nan)
        rows += [
            face(s, tracklet, x=200 * tracklet, female_prob=female, age_years=age)
            for s in range(start, start + int(random.integers(2, 40)))
        ]
    faces = faces_of(rows, samples)
    people = people_of(faces, samples, **{"age_bands": bands})
    table = timeline(faces, people, samples, settings)
    assert len(table) == np.ceil(40 / bin_s)
    assert table["end_s"].iloc[:-1].to_numpy() == pytest.approx(table["start_s"].iloc[1:].to_numpy())
    assert table["samples"].sum() == 200
    assert table["new_people"].sum() == len(people) == 12
    assert (table[["female", "male", "unknown_gender"]].sum(axis=1) == table["people"]).all()
    ages = [band.column for band in settings.bands] + ["unknown_age"]
    assert (table[ages].sum(axis=1) == table["people"]).all()
    assert (table["faces_mean"] * table["samples"]).sum() == pytest.approx(len(faces))
    for row in table.itertuples():
        inside = faces[(faces["time_s"] >= row.start_s - 1e-9) & (faces["time_s"] < row.end_s - 1e-9)]
        assert row.people == inside["person_id"].nunique()


def test_video_without_faces_has_bins_and_no_people() -> None:
    samples = samples_at([0.0, 0.2, 1.4], end_s=2.0)
    faces = faces_of([face(0, 0)], samples).iloc[:0]
    faces["person_id"] = link_tracklets(faces, samples)
    people = pd.DataFrame(columns=[column.name for column in PEOPLE])
    table = timeline(faces, people, samples, Settings())
    assert table["people"].tolist() == [0, 0]
    assert table["samples"].tolist() == [2, 1]
    assert set(table) | {"video_id"} == {column.name for column in timeline_columns(Settings())}


def test_bin_without_samples_says_so() -> None:
    samples = samples_at([0.0, 0.2, 5.0], end_s=5.2)
    faces = faces_of([face(0, 0), face(1, 0)], samples)
    people = people_of(faces, samples)
    table = timeline(faces, people, samples, Settings())
    assert table["samples"].tolist() == [2, 0, 0, 0, 0, 1]
    assert np.isnan(table["faces_mean"].iloc[2]) and table["faces_mean"].iloc[5] == 0
    # The second picture is held until 5 s, and with it the person.
    assert table["people"].tolist() == table["female"].tolist() == [1, 1, 1, 1, 1, 0]
    assert table["new_people"].tolist() == [1, 0, 0, 0, 0, 0]


def test_in_a_damaged_video_a_gap_shows_nobody() -> None:
    samples = samples_at([0.0, 0.2, 5.0], end_s=5.2)
    samples["duration_s"] = sample_durations(samples["time_s"].to_numpy(), 5.2, gaps_are_losses=True)
    samples["duration_s"] = samples["duration_s"].clip(upper=0.4)
    faces = faces_of([face(0, 0), face(1, 0)], samples)
    table = timeline(faces, people_of(faces, samples), samples, Settings())
    assert table["people"].tolist() == [1, 0, 0, 0, 0, 0]


def test_person_stays_one_over_a_held_picture() -> None:
    times = [0.0, 0.2, 0.4, 5.4, 5.6, 5.8, 10.8, 11.0]
    samples = samples_at(times, end_s=16.0)
    # The tracker begins anew after each long picture.
    faces = faces_of([face(s, tracklet) for s, tracklet in enumerate([0, 0, 0, 1, 1, 1, 2, 2])], samples)
    people = people_of(faces, samples)
    assert len(people) == 1 and people.loc[0, "on_screen_s"] == pytest.approx(16.0)
    table = timeline(faces, people, samples, Settings())
    assert len(table) == 16 and (table["people"] == 1).all()


@pytest.mark.parametrize(("gap_s", "shift", "people"), [(0.9, 0, 1), (1.2, 0, 2), (0.4, 20, 1), (0.4, 24, 2)])
def test_link_reaches_so_far_and_no_farther(gap_s: float, shift: float, people: int) -> None:
    # Lost in a video that goes on, and found again aside: boxes 40 wide have an IoU of 0.3 at 21.5.
    lost = round(gap_s / 0.1)
    samples = samples_at([number / 10 for number in range(10 + lost)])
    rows = [face(s, 0) for s in range(5)] + [face(s, 1, x=shift) for s in range(5 + lost, 10 + lost)]
    faces = faces_of(rows, samples)
    assert len(set(link_tracklets(faces, samples))) == people
