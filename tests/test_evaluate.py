"""Scoring against labels: figures worked out by hand, and the command on small labeled material."""

from __future__ import annotations

import io
import json
import math
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from scipy import stats

from analyzer.cli import DONE, NOTHING_USABLE, SOME_FAILED, USAGE, cli
from analyzer.errors import AnalyzerError, OutputError, SettingsError, SourceError
from analyzer.evaluation import Evaluation, evaluate
from analyzer.evaluation.described import Described, described_scores, read_described, score_described
from analyzer.evaluation.labels import BOX, read_labels
from analyzer.evaluation.metrics import (
    Figure,
    assigned,
    bias,
    box_matches,
    calibration,
    figures,
    group_scores,
    identity,
    known_shares,
    row_scores,
    span_matches,
    width_bins,
)
from analyzer.evaluation.page import figure_text
from analyzer.evaluation.scoring import OUTPUTS, central_face
from analyzer.runs.run import Run
from analyzer.settings import AGE_BANDS, Settings
from testkit.demo import positions
from testkit.media import write_video

ROOT = Path(__file__).parents[1]

Portraits = tuple[NDArray[np.uint8], NDArray[np.uint8]]
NAN = math.nan
ENDS = ("share", "low", "high")


def run_cli(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["evaluate", *map(str, arguments)], prog_name="analyzer")


def estimated(*rows: tuple[str, float, str, float, float, float, float]) -> pd.DataFrame:
    """A table of the judged from (true gender, true age, gender, female_prob, age, low, high)."""
    names = ("true_gender", "true_age", "gender", "female_prob", "age_years", "age_low", "age_high")
    table = pd.DataFrame(rows, columns=names)
    return table.assign(found=table["gender"].ne(""), face_px=50.0, unit=np.arange(len(table)))


def exactly(value: float, n: int) -> dict[str, Any]:
    """A figure of the document of fewer than ten, which has no interval."""
    return {"value": pytest.approx(value, abs=1e-4), "n": n, "low": None, "high": None}


# --- figures -----------------------------------------------------------------------------------------


def test_scores_count_only_those_who_say_something() -> None:
    table = estimated(
        ("female", 30, "female", 0.9, 34, 25, 43),  # right
        ("female", 70, "male", 0.2, 50, 40, 60),  # wrong, too young by 20
        ("male", 8, "unknown", 0.4, 13, 5, 21),  # unsure, but the likelier one is right
        ("", NAN, "male", 0.1, 40, 30, 50),  # no label: found only
        ("male", 40, "", NAN, NAN, NAN, NAN),  # not found
        ("male", 25, "unknown", NAN, NAN, NAN, NAN),  # found but too small for estimates
    )
    scores = figures(row_scores(table))
    expected = {
        "found": (5 / 6, 6),
        "gender_right": (1 / 2, 2),
        "gender_unknown": (2 / 4, 4),
        "likelier_right": (2 / 3, 3),
        "age_abs_error": ((4 + 20 + 5) / 3, 3),
        "age_error": ((4 - 20 + 5) / 3, 3),
        "age_in_interval": (2 / 3, 3),
        # 30 and 34 are both nearest to 25-32; 70 is 60+ but 50 is 48-53; 8 is 8-12, 13 too (15 is further).
        "adience_exact": (2 / 3, 3),
        "adience_one_off": (1.0, 3),
    }
    for name, (value, number) in expected.items():
        assert (scores[name].value, scores[name].n) == (pytest.approx(value), number), name


@pytest.mark.parametrize(
    ("true", "age", "exact", "one_off"),
    [(5, 4, 1, 1), (5, 9, 0, 1), (5, 16, 0, 0), (62, 90, 1, 1), (5, 1, 0, 1), (7, 1, 0, 1)],
)
def test_adience_bands_are_the_nearest(true: float, age: float, exact: float, one_off: float) -> None:
    row = row_scores(estimated(("", true, "unknown", NAN, age, NAN, NAN))).iloc[0]
    assert (row["adience_exact"], row["adience_one_off"]) == (exact, one_off)


def test_groups_are_those_of_the_labels() -> None:
    table = estimated(
        ("female", 8, "male", 0.2, 9, 5, 13),
        ("female", 30, "female", 0.9, 30, 20, 40),
        ("male", 13, "male", 0.1, 20, 15, 25),
    )
    table["face_px"] = [20.0, 100.0, 30.0]
    table["kind"] = ["a", "a", "b"]
    groups = group_scores(table, "kind")
    assert set(groups["gender"]) == {"women", "men", "women 13+", "men 13+"}
    assert (groups["all"]["all"]["gender_right"].n, groups["all"]["13+"]["gender_right"].n) == (3, 2)
    assert groups["gender"]["women"]["gender_right"].value == 0.5
    assert groups["gender"]["women 13+"]["gender_right"].value == 1.0
    assert set(groups["age"]) == {"0-12", "13-17", "25-34"}
    assert set(groups["width"]) == {"<24", "24-32", "96-160"}
    assert {name: one["found"].n for name, one in groups["kind"].items()} == {"a": 2, "b": 1}
    assert {name: one["found"].n for name, one in groups["kind 13+"].items()} == {"a": 1, "b": 1}


def test_width_bins_have_their_lower_edge() -> None:
    widths = [23.9, 24, 31.9, 32, 48, 64, 96, 159.9, 160]
    assert width_bins(pd.Series(widths)).tolist() == [
        *("<24", "24-32", "24-32", "32-48", "48-64", "64-96", "96-160", "96-160", ">160")
    ]
    assert width_bins(pd.Series([NAN])).isna().all()


def test_calibration_error_is_the_weighted_gap() -> None:
    # Confidences 0.9 (2 of 2 right), 0.8 (1 of 2 right); the one not judged does not count.
    prob = pd.Series([0.9, 0.1, 0.8, 0.8, NAN], dtype=np.float32)
    female = pd.Series([True, False, True, False, True])
    scores = calibration(prob, female)
    assert scores["n"] == 4
    assert scores["ece"] == pytest.approx((2 * 0.1 + 2 * 0.3) / 4)
    filled = [one for one in scores["by_confidence"] if one["n"]]
    assert [(one["low"], one["n"], one["observed"]) for one in filled] == [(0.8, 2, 0.5), (0.9, 2, 1.0)]
    filled = [one for one in scores["by_female_prob"] if one["n"]]
    assert [(one["low"], one["n"], one["observed"]) for one in filled] == [
        (0.1, 1, 0.0),
        (0.8, 2, 0.5),
        (0.9, 1, 1.0),
    ]
    assert calibration(pd.Series([NAN]), pd.Series([True]))["n"] == 0


@pytest.mark.parametrize("right", [40, 39, 0, 17])
def test_shares_have_wilsons_interval(right: int) -> None:
    values = pd.DataFrame({"x": [1.0] * right + [0.0] * (40 - right)})
    found = figures(values, pd.Series(range(40)))["x"]
    wanted = stats.binomtest(right, 40).proportion_ci(method="wilson")
    assert (found.low, found.high) == (pytest.approx(wanted.low), pytest.approx(wanted.high))
    # Twice the same face of one picture tells nothing more.
    twice = figures(pd.concat([values, values]), pd.Series([*range(40), *range(40)]))["x"]
    assert (twice.low, twice.high) == (pytest.approx(wanted.low), pytest.approx(wanted.high))


def test_intervals_draw_whole_units() -> None:
    values = np.tile([0.0, 1.0], 50)
    alone = figures(pd.DataFrame({"x": values}), pd.Series(range(100)))["x"]
    assert alone.value == 0.5 and 0.39 <= alone.low <= 0.42 and 0.58 <= alone.high <= 0.61
    # Ten videos, all rows of one alike: ten values, not a hundred.
    together = figures(pd.DataFrame({"x": np.repeat([0.0, 1.0], 50)}), pd.Series(np.arange(100) // 10))["x"]
    assert together.high - together.low > 2 * (alone.high - alone.low)
    assert math.isnan(figures(pd.DataFrame({"x": values[:9]}), pd.Series(range(9)))["x"].low)
    assert math.isnan(figures(pd.DataFrame({"x": values}), None)["x"].low)
    empty = figures(pd.DataFrame({"x": [NAN]}), pd.Series([0]))["x"]
    assert math.isnan(empty.value) and empty.n == 0
    assert alone == figures(pd.DataFrame({"x": values}), pd.Series(range(100)))["x"]


# --- matching ----------------------------------------------------------------------------------------


def still(seconds: float, x: float) -> NDArray[np.float64]:
    """True boxes of somebody who stands still: ten a second."""
    return np.array([[time, x, 0, x + 100, 100] for time in np.arange(0, seconds, 0.1)])


def found_faces(times_s: Any, boxes: Any, person: int) -> pd.DataFrame:
    """Rows of the faces table."""
    table = pd.DataFrame(np.asarray(boxes, np.float32), columns=["x1", "y1", "x2", "y2"])
    return table.assign(time_s=np.asarray(times_s, np.float64), person_id=person)


def test_people_are_matched_by_the_samples_in_which_boxes_overlap() -> None:
    # Found person 7 stands on the first true person for 4 samples, then on the second for 6.
    x = np.where(np.arange(10) < 4, 0.0, 400.0)
    boxes = np.stack([x, np.zeros(10), x + 100, np.full(10, 100.0)], axis=1)
    faces = found_faces(np.arange(10) * 0.5, boxes, 7)
    # Faces that belong to nobody count for nobody.
    faces = pd.concat([faces, found_faces([0.0], [[0, 0, 100, 100]], -1)])
    counts, best = box_matches([still(5, 0), still(5, 400)], faces, [7, 9])
    assert counts.tolist() == [[4, 0], [6, 0]] == best.tolist()
    assert assigned(counts) == {1: 0}
    assert identity(best) == (0.6, 1.0)


def test_boxes_belong_to_a_sample_within_a_tenth_of_a_second() -> None:
    true = [np.array([[1.0, 0, 0, 100, 100]])]
    for time, count in ((0.9, 1), (1.1, 1), (1.11, 0), (0.89, 0)):
        counts, _ = box_matches(true, found_faces([time], [[0, 0, 100, 100]], 1), [1])
        assert counts.tolist() == [[count]], time


def test_boxes_must_overlap_by_three_tenths() -> None:
    true = [np.array([[0.0, 0, 0, 100, 100]])]
    # Shifted by d of 100: IoU is (100 - d) / (100 + d), 0.3 at 53.8.
    for shift, count in ((53, 1), (55, 0)):
        faces = found_faces([0.0], [[shift, 0, 100 + shift, 100]], 1)
        assert box_matches(true, faces, [1])[0].tolist() == [[count]]


def test_matching_without_anything_to_match() -> None:
    faces = found_faces([0.0], [[0, 0, 1, 1]], 3)
    assert box_matches([np.empty((0, 5))], faces, [3])[0].tolist() == [[0]]
    assert box_matches([still(1, 0)], faces[:0], [3])[0].tolist() == [[0]]
    assert assigned(np.zeros((0, 3))) == {} and assigned(np.zeros((2, 2))) == {}
    assert all(math.isnan(one) for one in identity(np.zeros((1, 1), np.int64)))


def test_without_boxes_the_stretch_on_screen_decides() -> None:
    true = np.array([[0.0, 10.0], [0.0, 4.0]])
    found = np.array([[0.0, 5.0], [0.0, 9.0], [20.0, 30.0]])
    matches = span_matches(true, found)
    assert matches[0].tolist() == pytest.approx([0.5, 0.9, 0.0])
    assert assigned(matches) == {0: 1, 1: 0}


def test_shares_are_over_known_labels() -> None:
    genders, ages = pd.Series(["female", "male", "male", "unknown"]), pd.Series([30.0, 31.0, 70.0, NAN])
    table = known_shares(genders, ages, pd.Series([1, 1, 2, 5]), AGE_BANDS["youtube"])
    shares = table.set_index(["dimension", "group"])
    assert shares.loc[("gender", "female")].tolist() == pytest.approx([1 / 3, 1 / 4])
    assert shares.loc[("age", "25-34")].tolist() == pytest.approx([2 / 3, 1 / 2])
    assert shares.loc[("age", "0-12")].tolist() == [0.0, 0.0]
    assert known_shares(pd.Series([""]), pd.Series([NAN]), pd.Series([1]), AGE_BANDS["youtube"]).empty


def test_the_labeled_face_is_large_and_central() -> None:
    corner, center, tiny = [0, 0, 50, 50], [80, 80, 120, 120], [99, 99, 101, 101]
    assert central_face(np.array([corner, center, tiny], np.float32), 200, 200) == 1
    # Twice as large outweighs the way from the center to here.
    assert central_face(np.array([center, [10, 60, 90, 140]], np.float32), 200, 200) == 1


def test_figure_texts() -> None:
    figure: dict[str, Any] = {"value": -0.0312, "n": 7, "low": None, "high": None}
    assert figure_text(figure, "±points") == "-3.1 points (n 7)"
    assert figure_text(figure | {"value": None}, "%") == ""
    assert figure_text(figure | {"value": -0.0001, "low": -0.0001, "high": 0.1}, "%") == (
        "0.0 % (0.0 to 10.0; n 7)"
    )


# --- described by eye --------------------------------------------------------------------------------


def entry(folder: Path, **changes: Any) -> Described:
    """A clip of 100 x 100 pixels: a woman of 30 at the left, a man of 60 to 70 at the right, a boy unseen."""
    (folder / "a.mp4").touch()
    people = [
        {
            "id": "w",
            "gender": "female",
            "age": 30,
            "on_screen_s": 4,
            "at": [[1.0, 0.2, 0.5], [2.0, 0.2, 0.5]],
        },
        {"id": "m", "gender": "male", "age": [60, 70], "on_screen_s": 2, "at": [[1.0, 0.8, 0.5]]},
        {"id": "b", "gender": "male", "age": [4, 8], "on_screen_s": 1, "at": [[1.0, 0.5, 0.1]]},
    ]
    whole = {"file": "a.mp4", "kind": "clip", "people": people, "people_range": [2, 4], "cuts": 1}
    (described,) = read_described([whole | changes], folder)
    return described


class FakeRun:
    """What a run says of the clip: the woman as persons 1 and 2, the man as 3, another one as 4."""

    def __init__(self, people: int = 4) -> None:
        names = ("sample", "person_id", "x1", "y1", "x2", "y2")
        rows = [
            (0, 1, 10, 40, 30, 60),
            (0, 3, 70, 40, 90, 60),
            (1, 1, 10, 40, 30, 60),
            (2, 2, 10, 40, 30, 60),
        ]
        self.faces = pd.DataFrame(rows, columns=names)
        self.samples = pd.DataFrame({"sample": range(3), "time_s": [1.0, 2.0, 3.0], "shot": [0, 0, 1]})
        table = {
            "person_id": [1, 2, 3, 4],
            "gender": ["female", "female", "unknown", "male"],
            "female_prob": [0.9, 0.8, 0.5, 0.1],
            "age_years": [34.0, 36.0, 58.0, 20.0],
            "age_low": [31.0, 25.0, 50.0, 15.0],
            "age_high": [40.0, 45.0, 66.0, 25.0],
            "face_px_median": [20.0] * 4,
            "on_screen_s": [3.0, 1.0, 2.5, 1.0],
        }
        self.people = pd.DataFrame(table).head(people)
        self.info = {
            "video": {"width": 100, "height": 100},
            "counts": {"people": people, "people_low": 2, "people_high": 5},
        }


def test_people_described_by_eye_are_those_at_their_places(tmp_path: Path) -> None:
    scene, listed = score_described(entry(tmp_path), FakeRun())  # type: ignore[arg-type]
    assert listed["found"].tolist() == [True, True, False] == listed["face_found"].tolist()
    assert listed["gender"].tolist() == ["female", "unknown", ""]
    assert listed["found_s"].tolist()[:2] == [3.0, 2.5]
    assert scene.loc[0, ["listed", "people", "unmatched"]].tolist() == [3, 4, 2]
    assert scene.loc[0, ["true_cuts", "found_cuts", "right_cuts"]].tolist() == [1, 1, 1]
    scores = described_scores(scene.assign(unit="a"), listed.assign(unit="a"))
    assert (scores["count_abs_error"].value, scores["count_abs_error"].n) == (pytest.approx(1 / 3), 3)
    assert scores["range_holds"].value == 1 and scores["found"].value == pytest.approx(2 / 3)
    # 1 s of the woman and 1 s of the boy are missed, half a second of the man is too much; of 7 s.
    assert scores["time_missed"].value == pytest.approx(2 / 7)
    assert scores["time_too_much"].value == pytest.approx(0.5 / 7)
    adults = scores["groups"]["13+"]
    assert (adults["right"].value, adults["unknown"].value, adults["wrong"].value) == (0.5, 0.5, 0.0)
    assert adults["right"].n == 2 and scores["groups"]["children"]["right"].n == 0
    known = scores["groups"]["known age"]
    assert (known["age_error"].value, known["age_in_interval"].value, known["age_error"].n) == (4.0, 0.0, 1)
    assert scores["groups"]["all"]["age_in_range"].value == 0.0, "58 is not within 60 to 70"
    assert scores["groups"]["age, 20-64"]["age_outside"].value == 4.0


def test_times_of_cuts_are_compared_where_they_are_known(tmp_path: Path) -> None:
    for cut, right in ((2.5, 1), (3.05, 1), (1.5, 0)):
        scene, _ = score_described(entry(tmp_path, cuts=[cut]), FakeRun())  # type: ignore[arg-type]
        assert scene["right_cuts"].tolist() == [right], cut


def test_a_face_belongs_to_the_nearer_of_two_places(tmp_path: Path) -> None:
    people = [{"id": 1, "at": [[1.0, 0.22, 0.5]]}, {"id": 2, "at": [[1.0, 0.32, 0.5]]}]
    _, listed = score_described(entry(tmp_path, people=people), FakeRun())  # type: ignore[arg-type]
    assert listed["found"].tolist() == [True, False]


def test_bias_weighs_all_groups_alike() -> None:
    rows = []
    for gender in ("female", "male"):
        for race in ("white", "black"):
            for age in (30.0, 60.0):
                # Women of 60 are taken for men, and twice as many white people are in the table.
                prob = 0.9 if gender == "female" and age < 50 else 0.1
                off = 10.0 if age > 50 else 5.0
                row = {"true_gender": gender, "true_race": race, "true_age": age, "found": True}
                rows += [row | {"female_prob": prob, "age_years": age + off}] * (2 if race == "white" else 1)
    found = bias(pd.DataFrame(rows))
    assert found is not None and found["n"] == 12
    assert found["likelier_right"] == pytest.approx(
        {"mean": 0.75, "men_women": 0.5, "white_others": 0.0, "young_old": 0.5}
    )
    assert found["age_rmse"] == pytest.approx(
        {"mean": 7.5, "men_women": 0.0, "white_others": 0.0, "young_old": -5.0}
    )
    missed = pd.DataFrame(rows).assign(found=lambda table: table["true_gender"] == "male")
    unseen = bias(missed)
    assert unseen is not None and (unseen["found"]["mean"], unseen["found"]["men_women"]) == (0.5, 1.0)
    assert bias(pd.DataFrame(rows[:3])) is None, "a group is missing"


# --- whole runs --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def named_faces(tmp_path_factory: pytest.TempPathFactory, two_portraits: Portraits) -> Path:
    """Two pictures named as in UTKFace, one in a folder of its own, and one without a field."""
    folder = tmp_path_factory.mktemp("faces")
    (folder / "more").mkdir()
    names = ("36_1_0_20200101.jpg", "more/78_1_0_20200102.png", "39_1_20200103.jpg")
    for name, portrait in zip(names, (*two_portraits, two_portraits[0]), strict=True):
        cv2.imwrite(str(folder / name), portrait[:, :, ::-1])
    (folder / "notes.txt").write_text("no picture")
    return folder


def picture_of_both(portraits: Portraits, time_s: float) -> NDArray[np.uint8]:
    picture = np.full((720, 1280, 3), 110, np.uint8)
    for portrait, (x, y) in zip(portraits, positions(time_s), strict=True):
        picture[y : y + 320, x : x + 300] = portrait
    return picture


def truth_of_both(seconds: float, *, boxes: bool, kind: str = "demo") -> dict[str, Any]:
    """The truth of a video of `picture_of_both`, with a third person whom the video does not show."""
    times = np.arange(0, seconds, 0.2)
    # About where the two faces are within their portraits.
    faces = [[100, 60, 200, 200], [85, 70, 205, 225]]
    people: list[dict[str, Any]] = []
    for number, (age, x1y1x2y2) in enumerate(zip((36, 78), faces, strict=True)):
        rows = [
            [float(time), *(np.array(x1y1x2y2) + np.tile(positions(time)[number], 2)).tolist()]
            for time in times
        ]
        person = {"id": number + 1, "age_years": age, "gender": "female", "first_s": 0.0, "last_s": seconds}
        people.append(person | ({"boxes": rows} if boxes else {}))
    unseen = {"id": 9, "age_years": None, "gender": None, "first_s": seconds, "last_s": seconds + 1}
    people.append(unseen | ({"boxes": []} if boxes else {}))
    return {"version": 1, "kind": kind, "seed": 1, "people": people}


@pytest.fixture(scope="module")
def labeled_videos(tmp_path_factory: pytest.TempPathFactory, two_portraits: Portraits) -> Path:
    """A folder with two labeled videos of 2 s of two kinds: one with boxes, one without."""
    folder = tmp_path_factory.mktemp("clips")
    for name, boxes, kind in (("one", True, "demo"), ("two", False, "plain")):
        (folder / name).mkdir()
        pictures = [picture_of_both(two_portraits, number / 10) for number in range(20)]
        write_video(folder / name / "video.mp4", pictures, fps=10, audio_s=2 if boxes else 0)
        (folder / name / "truth.json").write_text(json.dumps(truth_of_both(2, boxes=boxes, kind=kind)))
    return folder


def test_images_named_as_in_utkface(named_faces: Path, tmp_path: Path) -> None:
    out = tmp_path / "docs"
    result = run_cli(named_faces, "--out", out)
    assert result.exit_code == DONE, result.output
    assert sorted(path.name for path in out.iterdir()) == sorted(OUTPUTS)
    document = json.loads((out / "accuracy.json").read_text())
    figures_of_all = document["faces"]["groups"]["all"]["all"]
    assert document["faces"]["labeled"] == 2 and figures_of_all["found"] == exactly(1.0, 2)
    # Each is stated or unknown.
    assert figures_of_all["gender_right"]["n"] == 2 - 2 * figures_of_all["gender_unknown"]["value"]
    assert figures_of_all["age_abs_error"]["value"] < 10
    assert document["sources"][0] == {
        "name": named_faces.name,
        "kind": "images",
        "labeled": 2,
        "unparsed": ["39_1_20200103.jpg"],
        "used": 2,
        "failed": [],
        "unreadable": 0,
        "images_with_several_faces": 0,
        "not_estimated": 0,
    }
    assert {model["role"] for model in document["models"]} >= {"detector", "age", "gender"}
    assert document["videos"] is None and document["changed_settings"] == {}
    page = (out / "accuracy.md").read_text()
    assert "39_1_20200103.jpg" in page and "](accuracy-age.png)" in page and "](accuracy-gender.png)" in page
    assert "nan" not in page.lower() and str(named_faces) not in page
    for name in OUTPUTS[2:]:
        assert cv2.imread(str(out / name)).shape[1] > 800
    assert "gender right, where stated" in result.stdout and "39_1_20200103.jpg" in result.stdout
    assert str(out / "accuracy.md") in result.stdout and result.stderr == ""


def test_json_limit_and_kept_runs(named_faces: Path, tmp_path: Path) -> None:
    result = run_cli(named_faces, "--limit", "1", "--json", "--keep-runs", tmp_path, "--min-confidence", "1")
    assert result.exit_code == DONE, result.output
    document = json.loads(result.stdout)
    assert document["sources"][0]["used"] == 1 and document["faces"]["labeled"] == 1
    assert document["faces"]["groups"]["all"]["all"]["gender_unknown"]["value"] == 1.0
    assert document["changed_settings"] == {"min_confidence": 1.0}
    (folder,) = (path.parent for path in tmp_path.glob("*/run.json"))
    run = Run.load(folder)
    # The SHA-1 of its name, cb50…, comes before d9b6… of the other.
    assert len(run.samples) == 1 and run.samples["image"][0] == "000000-78_1_0_20200102.png"


def test_a_tar_is_the_same_as_its_folder(named_faces: Path, tmp_path: Path) -> None:
    archive = tmp_path / "faces.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(named_faces / "36_1_0_20200101.jpg", "../36_1_0_20200101.jpg")
        tar.add(named_faces / "more" / "78_1_0_20200102.png", "/more/78_1_0_20200102.png")
        link = tarfile.TarInfo("20_1_0_link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, str(named_faces / "36_1_0_20200101.jpg")
        tar.addfile(link)
    before = sorted(tmp_path.rglob("*"))
    settings = Settings(precision="f32")
    packed, loose = (evaluate([path], settings).to_dict() for path in (archive, named_faces))
    assert packed["faces"] == loose["faces"]
    assert packed["sources"][0]["labeled"] == 2
    assert sorted(tmp_path.rglob("*")) == before


def test_a_list_of_labeled_images(two_portraits: Portraits, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "both.png"), picture_of_both(two_portraits, 0)[:, :, ::-1])
    cv2.imwrite(str(tmp_path / "one.png"), two_portraits[0][:, :, ::-1])
    (x1, y1), (x2, y2) = positions(0)
    table = tmp_path / "labels.csv"
    table.write_text(
        "\ufeffimage,age_years,gender,x1,y1,x2,y2,remark\n"
        f"both.png,78,female,{x2 + 85},{y2 + 70},{x2 + 205},{y2 + 225},Hopper\n"
        f"both.png,36,female,{x1 + 100},{y1 + 60},{x1 + 200},{y1 + 200},Collins\n"
        "one.png,,Female,,,,,Collins\n"
        "both.png,20,male,10,10,60,60,nobody\n",
        encoding="utf-8",
    )
    evaluation = evaluate([table])
    faces = evaluation.faces.set_index("true_age", drop=False)
    assert faces.loc[78, "age_years"] > 60
    assert faces.loc[36, "gender"] == "female" and faces.loc[36, "age_years"] < 50
    assert not faces.loc[20, "found"]
    scores = evaluation.to_dict()["faces"]["groups"]["all"]["all"]
    assert (scores["likelier_right"]["n"], scores["age_error"]["n"], scores["found"]["n"]) == (3, 2, 4)
    # Each of the two faces of a picture is a unit of the same picture.
    assert evaluation.faces["unit"].nunique() == 2


def test_labeled_videos_with_and_without_boxes(labeled_videos: Path, tmp_path: Path) -> None:
    result = run_cli(labeled_videos, "--out", tmp_path, "--fps", "5")
    assert result.exit_code == DONE, result.output
    assert "2 videos with 6 people: 4 found" in result.stdout
    document = json.loads((tmp_path / "accuracy.json").read_text())
    scores = document["videos"]["kinds"]["all"]
    assert (scores["missed"], scores["extra"], scores["without_boxes"]) == (2, 0, 1)
    assert scores["count_error"]["value"] == pytest.approx(-1 / 3, abs=1e-4)
    assert scores["missed_share"]["value"] == pytest.approx(1 / 3, abs=1e-4)
    assert (scores["purity"]["value"], scores["purity"]["n"]) == (1.0, 1)
    # The third true person has one second that nobody shows: 4 of 5 seconds are found.
    assert scores["time_error"]["value"] == pytest.approx(-0.2, abs=0.05)
    people = document["videos"]["people"]
    assert people["groups"]["all"]["all"]["found"] == exactly(2 / 3, 6)
    assert set(document["videos"]["kinds"]) == {"all", "demo", "plain"} and document["faces"] is None
    page = (tmp_path / "accuracy.md").read_text()
    assert "## People in videos" in page and "nan" not in page.lower()
    # Five tables have a row for each kind: number, people of 13 and more, shares, error bars, who is who.
    assert [page.count(f"\n| {kind} |") for kind in ("all", "demo", "plain")] == [5, 5, 5]


def test_clips_and_photographs_described_by_eye(
    labeled_videos: Path, two_portraits: Portraits, tmp_path: Path
) -> None:
    work = tmp_path / "seen"
    (work / "files").mkdir(parents=True)
    (work / "files" / "clip.mp4").symlink_to(labeled_videos / "one" / "video.mp4")
    cv2.imwrite(str(work / "one.jpg"), two_portraits[0][:, :, ::-1])
    cv2.imwrite(str(work / "two.jpg"), two_portraits[1][:, :, ::-1])
    woman = {"id": "c", "gender": "female", "age": 36}
    places = [np.add(positions(time), [150, 130]) / [1280, 720] for time in (0.5, 1.5)]
    pair = [
        woman
        | {"on_screen_s": 2, "at": [[time, *places[number][0]] for number, time in enumerate((0.5, 1.5))]},
        {"id": "h", "gender": "female", "age": [70, 85], "on_screen_s": 2, "at": [[0.5, *places[0][1]]]},
    ]
    entries = [
        {"file": "clip.mp4", "kind": "clip", "people": pair, "cuts": 0},
        {"file": "one.jpg", "kind": "photo", "people": [woman | {"at": [[0, 0.5, 0.4]]}]},
        {"file": "one.jpg+two.jpg", "kind": "set", "people": [woman, {"id": "h"}]},
    ]
    (work / "truth.json").write_text(json.dumps(entries, default=float))
    result = run_cli(work, "--out", tmp_path / "out")
    assert result.exit_code == DONE, result.output
    document = json.loads((tmp_path / "out" / "accuracy.json").read_text())
    kinds = document["described"]["kinds"]
    assert {kind: (one["listed"], one["people"]) for kind, one in kinds.items()} == {
        "clip": (2, 2),
        "photo": (1, 1),
        "set": (2, 2),
    }
    assert kinds["clip"]["found"]["value"] == 1.0 and kinds["clip"]["unmatched"]["value"] == 0.0
    assert kinds["clip"]["time_missed"]["value"] < 0.2 and kinds["clip"]["true_cuts"] == 0
    assert kinds["photo"]["faces_precision"]["value"] == 1.0
    assert document["described"]["calibration"]["people"]["n"] == 3
    assert document["sources"][0]["kind"] == "described" and document["sources"][0]["used"] == 3
    page = (tmp_path / "out" / "accuracy.md").read_text()
    assert "## Real clips and photographs" in page and "nan" not in page.lower()
    assert "clip.mp4" not in page and "1 clip with 2 people" in result.stdout


def test_a_folder_and_a_file_in_it_count_once(labeled_videos: Path) -> None:
    evaluation = evaluate([labeled_videos / "one" / "truth.json", labeled_videos], Settings(fps=2))
    assert len(evaluation.videos) == 2 and evaluation.usable and not evaluation.failed


def test_counts_within_the_stated_range_and_stated_shares(
    labeled_videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of whatever the runs state."""
    path = labeled_videos / "one" / "truth.json"
    rows = [("gender", "female", 0.6, 0.4, 1.0), ("gender", "male", 0.4, 0.0, 0.6)]
    rows += [("age", "35-44", 0.5, 0.3, 0.7), ("age", "65+", 0.1, 0.0, 0.2), ("age", "45-54", 0.4, 0.2, 0.6)]
    table = pd.DataFrame(
        [
            {"dimension": dimension, "group": group}
            | {
                f"{what}_{end}": value
                for what in ("people", "time")
                for end, value in zip(ENDS, values, strict=True)
            }
            for dimension, group, *values in rows
        ]
    )
    read = Run.people.func
    people = property(lambda run: read(run).assign(gender=["female", "male"]))
    monkeypatch.setattr(Run, "shares", table)
    monkeypatch.setattr(Run, "people", people)
    kinds = evaluate([path], Settings(fps=2)).to_dict()["videos"]["kinds"]
    assert set(kinds) == {"all"}
    scores = kinds["all"]
    # Two of three true people are found; of the third nothing is known, the others are women.
    assert scores["count_in_interval"]["n"] == 1
    assert scores["women_people_counted_error"] == exactly(-0.5, 1)
    assert scores["women_people_stated_error"]["value"] == pytest.approx(-0.4)
    assert scores["women_people_in_interval"] == exactly(1.0, 1)
    # Bands: 0.5 within 0.3 to 0.7; 0.5 not within 0 to 0.2; 0 not within 0.2 to 0.6.
    assert scores["age_people_in_interval"]["value"] == pytest.approx(1 / 3, abs=1e-4)
    assert scores["age_time_abs_error"]["value"] == pytest.approx((0 + 0.4 + 0.4) / 3, abs=1e-4)


def test_a_source_that_fails_does_not_end_the_others(labeled_videos: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "broken.mp4").write_bytes(b"no video at all" * 100)
    (bad / "truth.json").write_text(json.dumps(truth_of_both(2, boxes=False)))
    result = run_cli(bad, labeled_videos / "one", "--fps", "2")
    assert result.exit_code == SOME_FAILED
    assert result.stderr.count("\n") == 1 and "broken.mp4" in result.stderr
    assert "1 video with 3 people" in result.stdout and "not scored" in result.stdout
    assert run_cli(bad, "--out", tmp_path / "out").exit_code == NOTHING_USABLE
    assert list((tmp_path / "out").iterdir()) == []


def test_picture_that_cannot_be_read_is_counted(named_faces: Path, tmp_path: Path) -> None:
    (tmp_path / "36_1_0_a.jpg").write_bytes((named_faces / "36_1_0_20200101.jpg").read_bytes())
    (tmp_path / "20_0_0_b.jpg").write_bytes(b"no picture")
    evaluation = evaluate([tmp_path])
    assert len(evaluation.faces) == 1 and evaluation.sources[0]["unreadable"] == 1
    assert len(evaluation.failed) == 1 and "1 of 2 images" in evaluation.failed[0]


# --- what is wrong is said in a sentence -------------------------------------------------------------


def csv_of(text: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        cv2.imwrite(str(folder / "a.png"), np.zeros((64, 64, 3), np.uint8))
        (folder / "labels.csv").write_text(text)
        return folder / "labels.csv"

    return make


def truth_of(text: str | None = None, **changes: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "a.mp4").touch()
        value = truth_of_both(2, boxes=False) | changes
        (folder / "truth.json").write_text(json.dumps(value) if text is None else text)
        return folder / "truth.json"

    return make


def described_by(**changes: Any) -> Callable[[Path], Path]:
    return truth_of(json.dumps([{"file": "a.mp4", "kind": "clip", "people": []} | changes]))


def person(**changes: Any) -> list[dict[str, Any]]:
    return [{"id": 4, "age_years": 3, "gender": "male", "first_s": 0, "last_s": 1} | changes]


def _tar(folder: Path) -> Path:
    with tarfile.open(folder / "faces.tar", "w") as tar:
        member = tarfile.TarInfo("../x")
        member.size = 3
        tar.addfile(member, io.BytesIO(b"abc"))
    return folder / "faces.tar"


def _written(name: str, content: bytes = b"text") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


HEAD = "image,age_years,gender,x1,y1,x2,y2\n"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder / "none", "no such file or folder"),
        (lambda folder: folder, "no image here is named"),
        (_written("labels.xls"), "labels are read from"),
        (_tar, "no image here is named"),
        (_written("faces.tar"), "faces.tar: truncated header"),
        (csv_of("image,gender\na.png,male\n"), "column age_years is missing"),
        (csv_of("image,age_years,gender,x1\na.png,3,male,4\n"), "all four or none"),
        (csv_of("image,gender,x1\na.png,male,3\n"), "age_years is missing; a box takes the columns"),
        (csv_of("file;age\na.png;3\n"), "the columns image, age_years, gender are missing"),
        (
            csv_of("image;age_years;gender\na.png;3;boy\nb.png;;\n"),
            "not 'boy'; line 3: there is no image 'b",
        ),
        (csv_of("image;age_years;gender\nc.png;131,5;x\n"), "line 2: there is no image 'c.png' beside"),
        (
            csv_of("image;age_years;gender\nc.png;131,5;x\n"),
            "not 'x'; age_years must be a number from 0 to 130",
        ),
        (csv_of('image,age_years,gender\na.png,"1,5",\n'), "age_years must be a number"),
        (csv_of("image,age_years,gender\n" + "b.png,1,x\n" * 30), "and 20 more"),
        (csv_of(HEAD), "no rows"),
        (csv_of(HEAD + "a.png,3,male,,,,\nb.png,3,male,,,,\n"), "line 3: there is no image 'b.png'"),
        (
            csv_of(HEAD + "a.png,old,male,,,,\n"),
            "line 2: age_years must be a number from 0 to 130, not 'old'",
        ),
        (csv_of(HEAD + "a.png,3,Boy,,,,\n"), "line 2: gender must be female, male or empty, not 'Boy'"),
        (csv_of(HEAD + "a.png,3,male,1,2,3,\n"), "line 2: y2 must be a number"),
        (csv_of(HEAD + "a.png,3,male,5,5,1,9\n"), "line 2: its box is empty"),
        (csv_of(HEAD + "a.png,3\n"), "line 2: it has more or fewer cells"),
        (
            csv_of(HEAD + "a.png,3,male,,,,\na.png,4,male,,,,\n"),
            "a.png: several rows each: give each row the box",
        ),
        (_written("labels.csv", HEAD.encode() + b"\x81\n"), "line 2 is not UTF-8: save it as UTF-8"),
        (truth_of("{broken"), "truth.json: Expecting property name"),
        (truth_of("[" * 100_000), "recursion depth"),
        (truth_of("[]"), "at least one clip or photograph"),
        (truth_of("3"), "must be an object"),
        (truth_of("[3]"), "entry 1: it must be an object"),
        (
            truth_of('[{"file": "b.mp4"}]'),
            "b.mp4: kind must be clip, photo or set; file: there is no 'b.mp4'",
        ),
        (
            described_by(people_range=[2, 1], cuts=-1),
            "two whole numbers, the lower one first; cuts must be their number",
        ),
        (described_by(file="../a.mp4"), "the name of a file beside"),
        (
            described_by(people=[{"id": "x", "age": [9, 3], "at": [[1, 2, 3]]}]),
            "person x: its range of age begins",
        ),
        (
            described_by(people=[{"id": "x", "age": [9, 3], "at": [[1, 2, 3]]}]),
            "person x: at must be a list of",
        ),
        (described_by(people=[{"age": "old"}]), "person 1: age must be a number from 0 to 130"),
        (truth_of("{}"), "version, kind, people are missing"),
        (truth_of(version=None, video="b.mp4"), "version is missing; video: there is no video 'b.mp4'"),
        (
            truth_of(people=[{"id": 4, "gender": "boy"}]),
            'gender must be "female", "male" or null; first_s and',
        ),
        (
            truth_of(people=[*person(last_s=None), {"id": 5}]),
            "last_s is missing; person 5: first_s and last_s are",
        ),
        (truth_of(version=2), '"version": 1'),
        (truth_of(kind=""), "kind must be"),
        (truth_of(people=3), "people must be"),
        (truth_of(video="gone.mp4"), "there is no video 'gone.mp4'"),
        (truth_of(video="../a.mp4"), "in the same folder"),
        (truth_of(people=person() * 2), "an id"),
        (truth_of(people=person(gender="boy")), "person 4: gender must be"),
        (truth_of(people=person(last_s=-1)), "person 4: last_s is before first_s"),
        (truth_of(people=person(first_s=True)), "person 4: first_s must be a number"),
        (truth_of(people=person(age_years=1e9)), "person 4: age_years must be a number from 0"),
        (truth_of(people=person(boxes=[[0, 1, 1, 1, 2]])), "person 4: boxes must be"),
        (truth_of(people=person(boxes=[]) + person(id=5)), "all people have boxes or none"),
    ],
)
def test_bad_labels_are_one_sentence(make: Callable[[Path], Path], words: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = make(tmp_path / "in")
    result = run_cli(path, "--out", tmp_path / "out")
    assert result.exit_code == NOTHING_USABLE, result.output
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1, result.stderr
    assert words in result.stderr and result.stdout == ""
    assert isinstance(result.exception, SystemExit)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("delimiter", "decimal", "encoding"),
    [
        (",", ".", "utf-8"),
        (";", ",", "utf-8-sig"),
        (";", ".", "utf-8"),
        ("\t", ",", "utf-16"),
        ("\t", ".", "utf-8"),
    ],
)
def test_csv_of_any_spreadsheet_is_read(delimiter: str, decimal: str, encoding: str, tmp_path: Path) -> None:
    (tmp_path / "Müller, Eva.png").touch()
    head = ["Image", "age_years ", "gender", "x1", "y1", "x2", "y2", "remark"]
    row = ['"Müller, Eva.png"', "36.5", "Female", "10.25", "20", "30", "40", ""]
    lines = [delimiter.join(head), delimiter.join(re.sub(r"(?<=[0-9])\.", decimal, cell) for cell in row)]
    (tmp_path / "labels.csv").write_bytes("\r\n".join([*lines, ""]).encode(encoding))
    faces = read_labels(tmp_path / "labels.csv", tmp_path / "work", None).faces
    assert faces is not None
    (face,) = faces.to_dict("records")
    assert (face["true_age"], face["true_gender"], face["name"]) == (36.5, "female", "Müller, Eva.png")
    assert [face[edge] for edge in BOX] == [10.25, 20, 30, 40]


def test_examples_of_the_documentation_are_read(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "evaluation.md").read_text("utf-8")
    for name in ("group.jpg", "portraits/one.jpg", "talk.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for form, name in (("csv", "labels.csv"), ("json", "truth.json")):
        (example,) = re.findall(rf"```{form}\n(.*?)```", text, re.DOTALL)
        (tmp_path / name).write_text(example)
    faces = read_labels(tmp_path / "labels.csv", tmp_path / "work", None).faces
    assert faces is not None and faces["true_age"].sum() == 97.5 and faces["x1"].notna().sum() == 2
    (video,) = read_labels(tmp_path / "truth.json", tmp_path / "work", None).videos
    assert video.people["on_screen_s"].round(1).tolist() == [9.6, 55.8] and video.kind == "interview"
    keys = set(json.loads((tmp_path / "truth.json").read_text())["people"][0])
    assert all(f"`{key}`" in text for key in keys)
    (example,) = re.findall(r"```jsonc\n(.*?)```", text, re.DOTALL)
    (tmp_path / "truth.json").write_text(example)
    clip, photo = read_labels(tmp_path / "truth.json", tmp_path / "work", None).described
    assert clip.people_range == (2, 4) and clip.cuts == 7 and clip.people["known"].tolist() == [False, True]
    assert photo.people_range == (1, 1) and photo.people["age_to"].tolist() == [8.0]
    assert all(f"`{key}`" in text for one in json.loads(example) for key in one | one["people"][0])


def test_several_videos_beside_a_truth_need_a_name(tmp_path: Path) -> None:
    path = truth_of()(tmp_path)
    (tmp_path / "b.mkv").touch()
    with pytest.raises(SourceError, match="2 videos are beside it"):
        evaluate([path])


@pytest.mark.parametrize(
    "arguments",
    [["--fps", "0"], ["--limit", "0"], ["--blur"], ["--start", "3"], ["--every", "2", "--keyframes"]],
)
def test_wrong_options_are_usage_errors(arguments: list[str], tmp_path: Path) -> None:
    result = run_cli(tmp_path, *arguments)
    assert result.exit_code == USAGE and "Traceback" not in result.output


def test_library_refuses_what_it_cannot_score(tmp_path: Path, named_faces: Path) -> None:
    with pytest.raises(SettingsError, match="start, end and duration"):
        evaluate([named_faces], Settings(start_s=1))
    with pytest.raises(SettingsError, match="limit"):
        evaluate([named_faces], limit=0)
    (tmp_path / "file").touch()
    result = run_cli(named_faces, "--out", tmp_path / "file")
    assert result.exit_code == USAGE
    result = run_cli(named_faces, "--out", tmp_path / "file" / "docs")
    assert result.exit_code == NOTHING_USABLE and "cannot be written" in result.stderr
    with pytest.raises(AnalyzerError):
        evaluate([named_faces], keep_runs=tmp_path / "file" / "runs")


def test_pages_of_nothing_can_be_drawn(tmp_path: Path) -> None:
    """A face that was not found leaves figures without a value; the page and charts bear it."""
    row = estimated(("female", 30, "", NAN, NAN, NAN, NAN)).assign(source="a|b", face_female_prob=NAN)
    row["face_px"] = NAN
    source = {"name": "a|b", "kind": "images", "labeled": 1, "used": 1, "unparsed": [], "failed": []}
    empty = pd.DataFrame()
    evaluation = Evaluation(
        measured_on="2026-01-01",
        settings=Settings(video=False),
        sources=(source,),
        provenance={"models": None, "libraries": None, "python": None},
        faces=row,
        people=empty,
        videos=empty,
        shares=empty,
        scenes=empty,
        listed=empty,
    )
    assert len(evaluation.save(tmp_path)) == 4
    assert "a\\|b" in (tmp_path / "accuracy.md").read_text()
    assert isinstance(figures(row_scores(row))["found"], Figure)
    with pytest.raises(OutputError):
        evaluation.save(tmp_path / "accuracy.md")
