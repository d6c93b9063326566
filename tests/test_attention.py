"""Head pose from five points, and what an audience is counted by: made heads, made tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analyzer.api import analyze
from analyzer.cli.report import describe_report
from analyzer.errors import SettingsError
from analyzer.people.attention import audience_summary, gazes, head_pose
from analyzer.people.fusion import fuse_people
from analyzer.people.timeline import timeline
from analyzer.report import Chosen, make_report
from analyzer.runs.run import Run
from analyzer.runs.schema import PEOPLE, people_columns, timeline_columns
from analyzer.runs.tables import write_csv, write_json, write_parquet
from analyzer.settings import Settings
from analyzer.vision.calibration import Calibration
from testkit.runs import Plan, make_run
from tests.conftest import clip

# An average face, from elsewhere than the one that is fitted: eyes, nose tip, mouth corners, in mm; y down,
# z away from the camera.
FACE = np.array([[-31.5, -26, -35], [31.5, -26, -35], [0, 11, -75], [-24.5, 43, -43], [24.5, 43, -43]])
AUDIENCE = Settings(scene="audience", detector="yunet")
UNKNOWN = np.full((5, 2), np.nan)


def head(yaw: float, pitch: float = 0.0, roll: float = 0.0, distance_mm: float = np.inf) -> np.ndarray:
    """(5, 2) where a camera sees a turned head's points; it is turned right, up, clockwise in the picture."""
    y, p, r = np.radians([-yaw, -pitch, roll])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    turned = FACE @ (about_y @ about_x @ about_z).T
    nearness = 1 / (1 + turned[:, 2:] / distance_mm)
    return (turned[:, :2] * nearness * 1.7 + [300, 200]).astype(np.float32)


@pytest.mark.parametrize("roll", [-35, 0, 20])
def test_the_pose_of_made_heads_comes_back(roll: float) -> None:
    angles = [(yaw, pitch, roll) for yaw in range(-60, 61, 15) for pitch in (-40, -20, 0, 20, 40)]
    found = head_pose(np.stack([head(*each) for each in angles]))
    np.testing.assert_allclose(found, angles, atol=1.5)


def test_a_near_camera_and_points_a_little_off_move_the_pose_a_little() -> None:
    near = head_pose(np.stack([head(yaw, distance_mm=700) for yaw in (-30, 0, 30)]))
    np.testing.assert_allclose(near[:, 0], [-30, 0, 30], atol=5)
    random = np.random.default_rng(1)
    eyes_px = 63 * 1.7
    noisy = np.stack([head(20, 10)] * 500) + random.normal(0, 0.02 * eyes_px, (500, 5, 2))
    found = head_pose(noisy.astype(np.float32))
    np.testing.assert_allclose(found.mean(axis=0), [20, 10, 0], atol=1.5)
    assert (found.std(axis=0) < 3).all()


def test_size_and_place_do_not_matter_and_unknown_stays_unknown() -> None:
    tiny = head(25, -10) / 40 + 7
    found = head_pose(np.stack([head(25, -10), tiny, UNKNOWN, np.full((5, 2), 9.0)]).astype(np.float32))
    np.testing.assert_allclose(found[1], found[0], atol=0.5)
    assert np.isnan(found[2:]).all()
    assert head_pose(np.empty((0, 5, 2), np.float32)).shape == (0, 3)


# --- gazes and their duration ---------------------------------------------------------------------------


def samples_of(times_s: list[float], end_s: float) -> pd.DataFrame:
    times = np.array(times_s)
    stands = np.diff(times, append=end_s)
    return pd.DataFrame({"sample": range(len(times)), "time_s": times, "duration_s": stands, "segment": 0})


def faces_of(samples: pd.DataFrame, *rows: tuple[int, int, np.ndarray]) -> pd.DataFrame:
    """Rows of sample, person, landmarks."""
    table = pd.DataFrame(
        [(at, person, points.reshape(10)) for at, person, points in rows],
        columns=["sample", "person_id", "landmarks"],
    )
    table["time_s"] = samples["time_s"].to_numpy()[table["sample"]]
    table = table.assign(
        x1=0.0, x2=60.0, score=0.9, quality=np.nan, female_prob=0.9, age_years=30.0, age_std_years=1.0
    )
    return table.sort_values("sample", kind="stable", ignore_index=True)


def people_of(faces: pd.DataFrame, samples: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    return fuse_people(faces, samples, settings, Calibration.load())


def test_attention_dwell_and_ratio_of_people_who_are_known() -> None:
    samples = samples_of([0.0, 0.5, 1.0, 1.5, 2.5, 3.0, 20.0, 20.5], 21.0)
    rows = [
        # Looks, away, looks for a second; is away for 17 s; looks for one sample more.
        *((at, 1, head(yaw)) for at, yaw in ((0, 0), (1, 21), (2, 24), (3, -10), (7, 5))),
        # Looks down at a telephone all the time.
        *((at, 2, head(0, -50)) for at in (2, 3, 4)),
        # One whose face has no landmarks, and one who has some.
        *((at, 3, UNKNOWN) for at in (0, 1)),
        *((at, 4, head(0) if at == 5 else UNKNOWN) for at in (4, 5)),
        (0, -1, head(0)),
    ]
    faces = faces_of(samples, *rows)
    people = people_of(faces, samples, AUDIENCE).set_index("person_id")
    assert people["watcher"].tolist() == [True, False, pd.NA, True]
    np.testing.assert_allclose(people["attention_s"], [2.5, 0.0, np.nan, 17.0])
    # The first visit lasts until 2.5 s, the second half a second.
    np.testing.assert_allclose(people["dwell_s"], [3.0, np.nan, np.nan, 17.5])
    np.testing.assert_allclose(people["attraction_ratio"], [2.5 / 3, np.nan, np.nan, 17 / 17.5])
    known = people[people["attention_s"] > 0]
    assert (known["attention_s"] <= known["dwell_s"]).all()
    assert audience_summary(people, AUDIENCE) == {
        "attention_yaw_deg": 22.5,
        "attention_pitch_deg": 30.0,
        "attention_min_s": 0.3,
        "left_after_s": 5.0,
        "ots": 4,
        "attention_unknown": 1,
        "watchers": 2,
        "conversion_ratio": 0.667,
        "attention_s": {"total": 19.5, "mean": 9.75, "median": 9.75},
        "dwell_s": {"total": 20.5, "mean": 10.25, "median": 10.25},
        "attraction_ratio": 0.951,
    }


def test_who_is_not_seen_for_long_has_left_and_a_shorter_gap_is_dwell() -> None:
    samples = samples_of([0.0, 1.0, 6.0, 13.0], 14.0)
    samples["duration_s"] = 1.0
    faces = faces_of(samples, *((at, 1, head(0)) for at in range(4)))
    # 2 s to 6 s is a gap of 4 s, 7 s to 13 s one of 6 s.
    for left_after_s, dwell_s in ((3.0, 2 + 1 + 1), (5.0, 7 + 1), (6.0, 14)):
        person = people_of(faces, samples, AUDIENCE.replace(left_after_s=left_after_s)).iloc[0]
        assert (person["dwell_s"], person["attention_s"]) == (dwell_s, 4.0)


def test_a_glance_must_last_and_a_gap_ends_it() -> None:
    samples = samples_of([0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2], 1.4)
    rows = [
        *((at, 1, head(0)) for at in (0, 1)),
        (2, 1, head(40)),
        (3, 1, head(0)),
        *((at, 2, head(0)) for at in (0, 2, 4, 6)),  # seen in every other sample
    ]
    faces = faces_of(samples, *rows)
    found = pd.Series(gazes(faces, samples, AUDIENCE)).groupby(faces["person_id"]).agg(list)
    assert found.to_dict() == {1: [1, 1, 0, 0], 2: [0, 0, 0, 0]}
    every = gazes(faces, samples, AUDIENCE.replace(attention_min_s=0))
    assert every.tolist() == [1, 1, 1, 0, 1, 1, 1, 1]
    # The order of the rows does not matter.
    mixed = faces.sample(frac=1, random_state=3)
    in_order = gazes(faces, samples, AUDIENCE)
    assert gazes(mixed, samples, AUDIENCE).tolist() == in_order[mixed.index].tolist()


def test_limits_are_those_of_the_settings_and_yaw_is_that_of_the_head_not_of_its_points() -> None:
    samples = samples_of([0.0], 1.0)

    def counts(points: np.ndarray, **changes: object) -> bool:
        return bool(gazes(faces_of(samples, (0, 1, points)), samples, AUDIENCE.replace(**changes))[0])

    assert counts(head(20)) and counts(head(-20)) and not counts(head(25)) and not counts(head(-25))
    assert counts(head(0, 27)) and not counts(head(0, 33)) and not counts(head(0, -33))
    assert counts(head(25), attention_yaw_deg=27) and not counts(head(20), attention_yaw_deg=18)
    assert counts(head(0, 33), attention_pitch_deg=35)
    # CenterFace's points show two thirds of a turn, in the frame and in a crop.
    assert counts(head(13), detector="centerface") and not counts(head(17), detector="centerface")
    turned = [faces_of(samples, (0, 1, head(yaw))).assign(quality=0.8) for yaw in (13, 17)]
    assert [gazes(faces, samples, AUDIENCE).tolist() for faces in turned] == [[1], [0]]


def test_the_timeline_counts_watchers_and_says_where_nothing_is_known() -> None:
    samples = samples_of([0.0, 0.5, 1.0, 3.0, 4.0], 5.0)
    rows = [
        *((at, 1, head(0)) for at in (0, 1, 2)),  # the picture of 1 s is held until 3 s
        *((at, 2, head(0 if at else 50)) for at in (0, 1, 2)),
        (3, 3, UNKNOWN),
    ]
    faces = faces_of(samples, *rows)
    people = people_of(faces, samples, AUDIENCE)
    bins = timeline(faces, people, samples, AUDIENCE)
    assert bins["people"].tolist() == [2, 2, 2, 1, 0]
    assert bins["watchers"].tolist() == [2, 2, 2, pd.NA, 0]
    columns = [column.name for column in timeline_columns(AUDIENCE)]
    assert [*bins] == [name for name in columns if name not in ("video_id", "clock")]


def test_without_landmarks_nothing_is_known_which_is_not_none() -> None:
    samples = samples_of([0.0, 1.0], 2.0)
    faces = faces_of(samples, (0, 1, UNKNOWN), (1, 1, UNKNOWN))
    people = people_of(faces, samples, AUDIENCE)
    summary = audience_summary(people, AUDIENCE)
    assert (summary["ots"], summary["attention_unknown"]) == (1, 1)
    assert summary["watchers"] is summary["conversion_ratio"] is summary["attraction_ratio"] is None
    assert summary["attention_s"] == summary["dwell_s"] == {"total": None, "mean": None, "median": None}
    assert people[["watcher", "attention_s", "dwell_s", "attraction_ratio"]].isna().all(axis=None)
    assert timeline(faces, people, samples, AUDIENCE)["watchers"].isna().all()


def test_nobody_is_an_audience_of_none() -> None:
    samples = samples_of([0.0, 1.0], 2.0)
    faces = faces_of(samples, (0, -1, head(0)))
    people = people_of(faces, samples, AUDIENCE)
    summary = audience_summary(people, AUDIENCE)
    assert (summary["ots"], summary["watchers"], summary["conversion_ratio"]) == (0, 0, None)
    assert summary["attention_s"] == {"total": 0.0, "mean": None, "median": None}
    assert timeline(faces, people, samples, AUDIENCE)["watchers"].tolist() == [0, 0]


# --- the words, and where they do not belong -------------------------------------------------------------

WORDS = ("watcher", "attention", "dwell", "attraction", "conversion", "ots", "left_after")


def test_in_a_video_of_people_there_is_no_word_of_it() -> None:
    settings = Settings()
    columns = [column.name for column in (*people_columns(settings), *timeline_columns(settings))]
    assert not [name for name in (*columns, *settings.to_dict()) if name.startswith(WORDS)]
    assert people_columns(settings) == PEOPLE
    samples = samples_of([0.0, 1.0], 2.0)
    faces = faces_of(samples, (0, 1, head(0)), (1, 1, head(0)))
    people = people_of(faces, samples, settings)
    assert {"video_id", *people} == {column.name for column in PEOPLE}
    assert "watchers" not in timeline(faces, people, samples, settings)


def test_limits_count_only_for_an_audience() -> None:
    with pytest.raises(SettingsError, match="attention_yaw_deg needs scene audience"):
        Settings(attention_yaw_deg=10)
    wide, narrow = (Settings(scene="audience", attention_yaw_deg=degrees) for degrees in (30, 10))
    assert wide.result_hash() != narrow.result_hash() != Settings().result_hash()
    assert wide.segment_hash() == narrow.segment_hash() != Settings().segment_hash()
    assert Settings(**wide.to_dict()) == wide and Settings(**Settings().to_dict()) == Settings()


def test_an_audience_is_always_looked_at_closely() -> None:
    assert Settings().adapts_size and not Settings(scene="audience").adapts_size
    assert Settings(scene="audience").replace(scene="video") == Settings()
    assert Settings(scene="audience").preset == "balanced"


# --- reports -----------------------------------------------------------------------------------------


def audience_run(folder: Path, form: str, rows: list[tuple[str, Any, float, float]]) -> Path:
    """A run of people of some gender, of whom it is known whether they are watchers, for how long."""
    count = len(rows)
    times = np.arange(0, 30, 0.5)
    gender = np.array([0.95 if one[0] == "female" else 0.05 for one in rows])
    plan = Plan(times, 30.0, np.ones((len(times), count), bool), gender, np.full(count, 30.0))
    settings = Settings(scene="audience", formats=(form,), detector="yunet")
    made = make_run(folder, plan, Settings(formats=("parquet",)))
    people = pd.read_parquet(made / "people.parquet")
    people["watcher"] = pd.array([one[1] for one in rows], dtype="boolean")
    people["attention_s"], people["dwell_s"] = ([one[place] for one in rows] for place in (2, 3))
    people["attraction_ratio"] = people["attention_s"] / people["dwell_s"]
    (made / "people.parquet").unlink()
    write = write_csv if form == "csv" else write_parquet
    write(made / f"people.{form}", people, people_columns(settings))
    info = json.loads((made / "run.json").read_text("utf-8"))
    info |= {"audience": audience_summary(people, settings), "settings": settings.to_dict()}
    write_json(made / "run.json", info)
    return made


NAN = float("nan")
ROWS = [
    ("female", True, 2.0, 8.0),
    ("female", False, 0.0, NAN),
    ("male", True, 4.0, 4.0),
    ("male", pd.NA, NAN, NAN),
    ("female", True, 3.0, 6.0),
]


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_report_tells_of_an_audience_beside_videos_of_people(form: str, tmp_path: Path) -> None:
    plain = Plan(np.arange(5.0), 5.0, np.ones((5, 1), bool), np.array([0.9]), np.array([30.0]))
    make_run(tmp_path / "a-video", plan=plain)
    audience_run(tmp_path / "b-shop", form, ROWS)
    audience_run(tmp_path / "c-shop", "parquet", [("male", False, 0.0, NAN)])
    report = make_report([tmp_path])
    attention = report.document["attention"]
    assert attention["videos"] == 2 and attention["limits"]["attention_yaw_deg"] == [22.5]
    everybody, female, male = attention["rows"]
    assert everybody == {
        "group": "all",
        "ots": 6,
        "attention_unknown": 1,
        "watchers": 3,
        "conversion_ratio": 3 / 5,
        "dwell_mean_s": 6.0,
        "attention_mean_s": 3.0,
        "attraction_ratio": 0.5,
    }
    assert (female["group"], female["ots"], female["watchers"]) == ("female", 3, 2)
    assert (male["ots"], male["watchers"], male["conversion_ratio"]) == (3, 1, 0.5)
    assert "conversion ratio                      60 %" in describe_report(report.document)
    files = {path.name: path for path in report.save(["html", "md", "csv"], tmp_path / "out")}
    assert "| **all** | 6 | 3 | 60 % | 6.0 s | 3.0 s | 50 % |" in files["report.md"].read_text("utf-8")
    assert files["report-attention.csv"].read_text("utf-8").splitlines()[1] == "all,6,3,0.6,6.0,3.0,0.5,1"
    page = files["report.html"].read_text("utf-8")
    assert "Watchers, attention and dwell" in page and '<td class="n">6.0 s</td>' in page
    # The columns can be asked for, and are empty where a run has none.
    chosen = Chosen(where="run IN (SELECT run FROM people WHERE watcher AND dwell_s > 7)")
    assert [one["run"] for one in make_report([tmp_path], chosen=chosen).document["videos"]] == ["b-shop"]


def test_report_of_videos_of_people_has_no_word_of_it(tmp_path: Path) -> None:
    plain = Plan(np.arange(5.0), 5.0, np.ones((5, 1), bool), np.array([0.9]), np.array([30.0]))
    report = make_report([make_run(tmp_path / "run", plain)])
    assert "attention" not in report.document and "watchers" not in describe_report(report.document)
    files = report.save(["html", "md", "csv", "json"], tmp_path / "out")
    assert not [path for path in files if "attention" in path.name]
    for path in files:
        words = path.read_text("utf-8").split("<script>")[0]
        assert not [word for word in ("atcher", "dwell", "attraction") if word in words], path.name


def test_few_watchers_are_suppressed(tmp_path: Path) -> None:
    run = audience_run(tmp_path / "shop", "parquet", [*ROWS, *[("male", False, 0.0, NAN)] * 4])
    rows = make_report([run], min_people=3).document["attention"]["rows"]
    assert [row["group"] for row in rows] == ["all"] and rows[0]["watchers"] == 3
    # Of three watchers too few are left with a least number of four: neither they nor the others are told.
    (row,) = make_report([run], min_people=4).document["attention"]["rows"]
    assert row["ots"] == 9 and row["watchers"] is row["conversion_ratio"] is row["dwell_mean_s"] is None
    (row,) = make_report([run], min_people=10).document["attention"]["rows"]
    assert row["ots"] is None and row["watchers"] is None


# --- from a video to the run ---------------------------------------------------------------------------


@pytest.mark.shared
def test_turning_heads_of_a_real_clip(tmp_path: Path) -> None:
    name = "head-pose-face-detection-female-and-male.gif"
    run = analyze(clip(name), out=tmp_path / "audience", video=False, scene="audience")
    assert [*run.people] == [column.name for column in people_columns(Settings(scene="audience"))]
    assert run.info["audience"]["ots"] == len(run.people)
    # The man faces the camera all the time, with his head tilted; the woman's is turned by some 35 degrees.
    shares = run.people.assign(share=run.people["attention_s"] / run.people["on_screen_s"])
    middle = run.faces.groupby("person_id")["x1"].median().reindex(run.people["person_id"]).to_numpy()
    left = middle < run.info["video"]["width"] / 2
    assert (shares.loc[~left, "share"] > 0.9).all() and (shares.loc[left, "share"] < 0.1).all()
    assert left.any() and not left.all()
    plain = analyze(clip(name), out=tmp_path / "video", video=False, detector_size=640)
    assert "audience" not in plain.info and "watchers" not in plain.timeline
    # Of a video of people not all faces are aligned, and other crops may be the best.
    shared = ["person_id", "first_s", "last_s", "on_screen_s", "gender"]
    pd.testing.assert_frame_equal(run.people[shared], plain.people[shared])
    assert Run.load(run.folder).info["settings"]["left_after_s"] == 5
