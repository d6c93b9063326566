"""Fusing and the timeline, against tables whose truth is written down here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from analyzer.people.fusion import APPEARANCE_GAP_S, FULL_PX, LEAST_QUALITY, fuse_estimates, fuse_people
from analyzer.people.identity import link_tracklets
from analyzer.people.timeline import sample_durations, timeline
from analyzer.runs.schema import EMBEDDINGS, PEOPLE, timeline_columns
from analyzer.runs.tables import empty_table
from analyzer.settings import AGE_BANDS, Settings, assign_band
from analyzer.vision.calibration import Calibration, Estimates

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
            "shot": 0,
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
        "score": 0.9,
        "quality": 0.9,
        "tracklet_id": tracklet,
        "female_prob": 0.9,
        "age_years": 30.0,
        "age_std_years": 0.0,
        "landmarks": FRONTAL,
        "person_id": -1,
    } | values


def faces_of(rows: list[dict[str, Any]], samples: pd.DataFrame) -> pd.DataFrame:
    faces = pd.DataFrame(rows)
    faces["time_s"] = samples["time_s"].to_numpy()[faces["sample"]]
    return faces.sort_values("sample", kind="stable", ignore_index=True)


def people_of(
    faces: pd.DataFrame,
    samples: pd.DataFrame,
    calibration: Calibration | None = None,
    **changes: Any,
) -> pd.DataFrame:
    """Each tracklet is a person."""
    faces["person_id"] = faces["tracklet_id"] + 1
    return fuse_people(faces, samples, Settings(**changes), calibration or Calibration.load())


def mean_odds(probabilities: list[float], weights: list[float]) -> float:
    values = np.array(probabilities)
    return float(np.average(np.log(values / (1 - values)), weights=weights))


# --- fusing ------------------------------------------------------------------------------------------


def test_sightings_weigh_by_width_and_quality() -> None:
    samples = samples_at([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    rows = [
        face(0, 0, female_prob=0.8, age_years=20.0, age_std_years=4.0, width=40.0, quality=0.9),
        face(1, 0, female_prob=0.6, age_years=40.0, age_std_years=8.0, width=60.0, quality=0.5),
        # Wider than full is no better.
        face(2, 0, female_prob=0.1, age_years=50.0, age_std_years=6.0, width=3 * FULL_PX, quality=0.8),
        # No face in the crop of a good detection: it says next to nothing, but something.
        face(3, 0, female_prob=0.99, age_years=5.0, age_std_years=9.0, width=40.0, quality=0.0),
        # Not aligned: the detector's score has to do.
        face(4, 0, female_prob=0.7, age_years=30.0, age_std_years=5.0, quality=np.nan, score=0.6),
        face(5, 0, female_prob=np.nan, age_years=np.nan, age_std_years=np.nan),
    ]
    faces = faces_of(rows, samples)
    faces["person_id"] = 7
    ids, estimates = fuse_estimates(faces)
    weights = [40 * 0.9, 60 * 0.5, FULL_PX * 0.8, 40 * LEAST_QUALITY, 40 * 0.6]
    assert ids.tolist() == [7]
    assert estimates.log_odds[0] == pytest.approx(mean_odds([0.8, 0.6, 0.1, 0.99, 0.7], weights), rel=1e-5)
    assert estimates.age_years[0] == pytest.approx(np.average([20, 40, 50, 5, 30], weights=weights), rel=1e-5)
    assert estimates.std_years[0] == pytest.approx(np.average([4, 8, 6, 9, 5], weights=weights), rel=1e-5)
    assert estimates.face_px[0] == pytest.approx(np.average([40, 60, 240, 40, 40], weights=weights))
    assert estimates.quality[0] == pytest.approx(np.average([0.9, 0.5, 0.8, 0, 0.6], weights=weights))


def test_what_some_sightings_do_not_tell_is_the_mean_of_the_others() -> None:
    # A network may give an age alone, and one of a pair may fail on a face.
    samples = samples_at([0.0, 1.0, 2.0])
    ages = enumerate([40.0, np.nan, 20.0])
    rows = [face(number, 0, female_prob=0.9, age_years=age) for number, age in ages]
    faces = faces_of(rows, samples).assign(person_id=1, age_std_years=np.nan)
    _, estimates = fuse_estimates(faces)
    assert estimates.age_years.tolist() == [pytest.approx(30)]
    assert np.isnan(estimates.std_years).all()


def test_person_is_the_mean_of_its_sightings() -> None:
    samples = samples_at([0.0, 0.2, 0.4, 3.0, 3.2], end_s=3.4)
    rows = [
        face(0, 0, female_prob=0.8, age_years=20.0, age_std_years=4.0),
        face(1, 0, female_prob=0.6, age_years=40.0, age_std_years=4.0, width=80.0, landmarks=TURNED),
        face(2, 0, female_prob=np.nan, age_years=np.nan, age_std_years=np.nan),
    ]
    table = people_of(faces_of(rows, samples), samples)
    assert set(table) | {"video_id"} == {column.name for column in PEOPLE} and len(table) == 1
    person = table.iloc[0]
    age = (20 * 40 + 40 * 80) / 120
    mean = mean_odds([0.8, 0.6], [40, 80]), age, 4.0, (40 * 40 + 80 * 80) / 120, 0.9
    read = Calibration.load().person(Estimates(*(np.array([value]) for value in mean)))
    columns = [person[name] for name in ("female_prob", "age_years", "age_low", "age_high")]
    expected = read.female_prob, read.age_years, read.low_years, read.high_years
    assert columns == pytest.approx([one[0] for one in expected], rel=1e-5)
    assert person["estimated_samples"] == 2 and person["samples"] == 3
    assert person["frontal_share"] == pytest.approx(2 / 3)
    assert person["age_band"] == assign_band(person["age_years"], Settings().bands)
    assert (person["first_s"], person["appearances"]) == (0.0, 1)
    # The third picture is held until the next one, 2.6 s later.
    assert person["on_screen_s"] == pytest.approx(0.2 + 0.2 + 2.6) and person["last_s"] == pytest.approx(3.0)
    assert person["face_px_median"] == 40


def test_person_who_could_not_be_judged_has_neither_gender_nor_age() -> None:
    samples = samples_at([0.0, 0.2])
    unknown = {"female_prob": np.nan, "age_years": np.nan, "age_std_years": np.nan}
    rows = [face(s, one, x=200 * one, **(unknown if one else {})) for s in range(2) for one in range(2)]
    table = people_of(faces_of(rows, samples), samples)
    known, person = table.iloc[0], table.iloc[1]
    assert (person["gender"], person["age_band"], person["estimated_samples"]) == ("unknown", "unknown", 0)
    assert person[["female_prob", "age_years", "age_low", "age_high"]].isna().all()
    assert person["samples"] == 2 and person["on_screen_s"] == pytest.approx(0.4)
    assert known["gender"] == "female" and known["estimated_samples"] == 2
    alone = people_of(faces_of([face(s, 0, **unknown) for s in range(2)], samples), samples)
    assert alone.loc[0, "gender"] == "unknown" and np.isnan(alone.loc[0, "age_high"])


@pytest.mark.parametrize(
    ("female_prob", "expected"),
    [
        (0.95, "female"),
        (0.701, "female"),
        (0.69, "unknown"),
        (0.31, "unknown"),
        (0.29, "male"),
        (np.nan, "unknown"),
    ],
)
def test_gender_is_unknown_below_the_confidence(female_prob: float, expected: str) -> None:
    samples = samples_at([0.0, 0.2])
    rows = [face(s, 0, female_prob=female_prob, age_years=female_prob and 30) for s in range(2)]
    table = people_of(faces_of(rows, samples), samples, calibration=Calibration.plain(), min_confidence=0.7)
    assert table.loc[0, "gender"] == expected


@pytest.mark.parametrize(("older", "gender"), [(-0.5, "unknown"), (0.5, "female")])
def test_gender_of_children_is_unknown_unless_asked_for(older: float, gender: str) -> None:
    plain = Calibration.plain()
    age = plain.child_years + older
    samples = samples_at([0.0, 0.2])
    faces = faces_of([face(s, 0, age_years=age) for s in range(2)], samples)
    table = people_of(faces, samples, calibration=plain)
    assert table.loc[0, "gender"] == gender
    asked = people_of(faces, samples, calibration=plain, gender_of_children=True)
    assert asked.loc[0, "gender"] == "female"
    # The number stays: it is the word that is not said.
    assert table.loc[0, "female_prob"] == pytest.approx(0.9)


@pytest.mark.parametrize(("longer", "appearances"), [(-0.1, 1), (0.0, 1), (0.5, 2)])
def test_coming_back_after_a_gap_is_an_appearance(longer: float, appearances: int) -> None:
    # Gone from when the last sample ends.
    away = round((APPEARANCE_GAP_S + longer) / 0.1)
    samples = samples_at([number / 10 for number in range(60)])
    faces = faces_of([face(s, 0) for s in (0, 1, 2, 3, 4 + away, 5 + away)], samples)
    person = people_of(faces, samples).iloc[0]
    assert person["appearances"] == appearances
    assert person["on_screen_s"] == pytest.approx(0.6)


def test_people_are_separate_whatever_the_order_of_their_faces() -> None:
    samples = samples_at([number / 2 for number in range(30)])
    # The second is there while the first is away: no return of the one is the other's.
    rows = [face(s, 0) for s in (0, 1, 20, 21)] + [face(s, 1, x=300) for s in range(2, 9)]
    rows += [face(s, 2, x=600) for s in (28, 29)]
    table = people_of(faces_of(rows, samples), samples)
    assert table["person_id"].tolist() == [1, 2, 3]
    assert table["appearances"].tolist() == [2, 1, 1]
    assert table["first_s"].tolist() == [0, 1, 14] and table["last_s"].tolist() == [11, 4.5, 15]
    assert table["samples"].tolist() == [4, 7, 2]


def test_faces_of_nobody_are_in_no_person() -> None:
    samples = samples_at([0.0, 0.2])
    faces = faces_of([face(0, 0), face(1, 0), face(0, 1, x=300, age_years=80.0)], samples)
    faces["person_id"] = [1, -1, 1]
    table = fuse_people(faces, samples, Settings(), Calibration.plain())
    assert table["samples"].tolist() == [2] and table.loc[0, "age_years"] == pytest.approx(30)
    faces["person_id"] = -1
    assert len(fuse_people(faces, samples, Settings(), Calibration.plain())) == 0


# --- the timeline ------------------------------------------------------------------------------------


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
    people = pd.DataFrame(columns=[column.name for column in PEOPLE])
    table = timeline(faces, people, samples, Settings())
    assert table["people"].tolist() == [0, 0]
    assert table["samples"].tolist() == [2, 1]
    # The clock is known of live sources alone, and not from faces.
    assert set(table) | {"video_id", "clock"} == {column.name for column in timeline_columns(Settings())}


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


def test_person_is_there_while_a_picture_is_held() -> None:
    times = [0.0, 0.2, 0.4, 5.4, 5.6, 5.8, 10.8, 11.0]
    samples = samples_at(times, end_s=16.0)
    # The tracker begins anew after each long picture.
    faces = faces_of([face(s, tracklet) for s, tracklet in enumerate([0, 0, 0, 1, 1, 1, 2, 2])], samples)
    faces["person_id"] = link_tracklets(faces, samples, empty_table(EMBEDDINGS)).person_ids
    people = fuse_people(faces, samples, Settings(), Calibration.load())
    assert len(people) == 1 and people.loc[0, "on_screen_s"] == pytest.approx(16.0)
    table = timeline(faces, people, samples, Settings())
    assert len(table) == 16 and (table["people"] == 1).all()
