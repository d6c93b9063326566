"""Fitting calibrations: to made estimates whose truth is known, and to labeled images by the command."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from skimage import data

from analyzer.cli import cli
from analyzer.evaluation import calibrate as calibrating
from analyzer.evaluation.fitting import EXPLAINED, People, fit, read_across
from analyzer.evaluation.views import PHOTOGRAPH, PLAIN, SHORT_VIDEO, VIDEO, LabeledFace, Viewer
from analyzer.settings import Settings
from analyzer.vision import registry
from analyzer.vision.calibration import Calibration, gender_terms, key_of, logit
from analyzer.vision.crops import CROP_LANDMARKS
from analyzer.vision.selection import choose
from tests.test_models import GENDER_AND_AGE, WEIGHTS, network, put

BANDS = ((0, 13), (13, 18), (18, 25), (25, 35), (35, 45), (45, 55), (55, 65), (65, 120))


def made(count: int, seed: int = 0, **columns: Any) -> pd.DataFrame:
    """Estimates of people whose true answers are known, each in a view of one face and in one of three.

    Log odds are twice as sure as they should be; ages are shrunk towards 40 by a fifth; their errors grow
    with the spread that is stated.
    """
    random = np.random.default_rng(seed)
    age = np.where(
        random.random(count) < 0.6, random.normal(32, 9, count).clip(1), random.uniform(1, 90, count)
    )
    female = random.random(count) < 0.5
    tables = []
    for view, faces in ((0, 1), (1, 3)):
        spread = random.uniform(3, 12, count)
        own = random.normal(0, 1, count) * spread
        true_log_odds = np.where(female, 2.0, -2.0) + random.normal(0, 2, count)
        for _ in range(faces):
            table = {
                "name": [f"p{number}" for number in range(count)],
                "view": view,
                "true_age": age,
                "true_gender": np.where(female, "female", "male"),
                "x1": 0.0,
                "x2": random.uniform(20, 150, count),
                "score": 0.9,
                "quality": random.uniform(0.3, 1, count),
                "female_prob": 1 / (1 + np.exp(-2 * true_log_odds)),
                "age_years": (0.8 * (age + own) + 8).clip(0),
                "age_std_years": spread,
            }
            tables.append(pd.DataFrame(table | columns))
    return pd.concat(tables, ignore_index=True)


@pytest.fixture(scope="module")
def people() -> People:
    return People.of(made(1000))


@pytest.fixture(scope="module")
def content(people: People) -> dict[str, Any]:
    return fit(people)


# --- fitting -----------------------------------------------------------------------------------------


def test_frames_of_a_video_are_one_person(people: People) -> None:
    faces = made(1000)
    assert len(people) == 2 * 1000
    of_one = (people.names == "p7").nonzero()[0]
    single, video = (faces[(faces["name"] == "p7") & (faces["view"] == view)] for view in (0, 1))
    weight = video["x2"].clip(upper=80) * video["quality"]
    ages = people.estimates.age_years[of_one]
    assert ages[0] == pytest.approx(single["age_years"].iloc[0])
    assert ages[1] == pytest.approx(np.average(video["age_years"], weights=weight))
    # Fused terms are the terms of fused log odds where the age is between 20 and 50.
    grown = (people.estimates.age_years > 25) & (people.estimates.age_years < 45)
    np.testing.assert_allclose(people.terms[0], people.estimates.log_odds)
    np.testing.assert_allclose(people.terms[1:3, grown & (np.arange(len(people)) % 2 == 0)], 0)


def test_the_fit_undoes_what_the_models_do(people: People, content: dict[str, Any]) -> None:
    # P(female) of log odds drawn around +-2 with deviation 2 is logistic with slope 1; the models said twice.
    assert content["gender"][0] == pytest.approx(0.5, abs=0.08)
    assert abs(content["gender"][3]) < 0.3
    read = np.interp(0.8 * np.array([20, 30, 40, 60]) + 8, content["age_knots_years"], content["age_years"])
    np.testing.assert_allclose(read, [20, 30, 40, 60], atol=4)
    # The interval of a normal error reaches 1.28 deviations; on the scale of the age itself.
    for end in ("low", "high"):
        knots, years, shares = (
            content[f"interval_{name}"] for name in ("knots_years", f"{end}_years", f"{end}_spread")
        )
        spread = float(people.estimates.std_years.mean())
        reach = np.interp(40, knots, years) + np.interp(40, knots, shares) * spread
        assert reach == pytest.approx(1.28 * spread, rel=0.4)


@pytest.mark.parametrize("favor", [0.0, 1.5])
def test_the_likelier_gender_is_the_models_own_unless_it_favors_one(favor: float) -> None:
    """Offsets that help all people a little can cost one group much: they are for models that need them."""
    faces = made(1000)
    log_odds = logit(faces["female_prob"].to_numpy()) + 2 * favor
    faces["female_prob"] = 1 / (1 + np.exp(-log_odds))
    slope, young, old, *offsets = fit(People.of(faces))["gender"]
    assert slope == pytest.approx(0.5, abs=0.08)
    assert young == pytest.approx(0, abs=0.1) and old == pytest.approx(0, abs=0.1)
    if favor:
        assert offsets[0] == pytest.approx(-favor, abs=0.2)
    else:
        assert offsets == [0, 0, 0]


def test_many_labeled_people_in_their_twenties_do_not_make_others_young() -> None:
    """Half of the people on screen are assumed to be adults of all ages, whatever the collection holds."""
    random = np.random.default_rng(5)
    every = random.uniform(18, 65, 1500)
    twenties = np.where(random.random(1500) < 0.8, random.uniform(20, 30, 1500), every)
    error = random.normal(0, 9, 1500)
    read = []
    for age in (every, twenties):
        faces = made(len(age))
        person = faces["name"].str[1:].astype(int)
        answers = (age + error).clip(0)
        faces = faces.assign(true_age=age[person], age_years=answers[person], age_std_years=9.0)
        content = fit(People.of(faces))
        read.append(np.interp(50, content["age_knots_years"], content["age_years"]))
    # All labeled people counting alike, it is nearly six.
    assert abs(read[1] - read[0]) < 3


def test_intervals_hold_overall_and_at_every_age(people: People) -> None:
    read = read_across(people)
    held = (read.low_years <= people.age) & (people.age <= read.high_years)
    assert 0.77 <= held.mean() <= 0.83
    for low, high in BANDS:
        assert held[(people.age >= low) & (people.age < high)].mean() >= 0.7, (low, high)


def test_intervals_hold_for_clear_faces_too_where_most_are_unclear() -> None:
    """A sharp answer does not shrink an interval to a point, because videos say so much less."""
    random = np.random.default_rng(8)
    filmed = made(600, 3)
    babies = filmed["name"].isin([f"p{number}" for number in range(150)])
    spread = np.where(babies, random.uniform(2, 6, len(filmed)), filmed["age_std_years"])
    seen = np.where(babies, 1 + 1.5 * np.abs(random.normal(0, spread)), filmed["age_years"])
    age = np.where(babies, 1.0, filmed["true_age"])
    filmed = filmed.assign(true_age=age, age_years=seen, age_std_years=spread)
    clear = filmed[filmed["view"] == 0]
    spread = 0.3 + 0.08 * clear["true_age"]
    seen = clear["true_age"] + np.abs(random.normal(0, spread))
    clear = clear.assign(view=PLAIN, age_years=seen, age_std_years=spread, x2=150.0, quality=0.9)
    people = People.of(pd.concat([filmed, clear], ignore_index=True))
    assert people.plain.sum() == 600
    read = read_across(people)
    held = (read.low_years <= people.age) & (people.age <= read.high_years)
    for shown in (people.plain, ~people.plain):
        assert held[shown].mean() > 0.72
        assert held[shown & (people.age < 2)].mean() > 0.7


def test_people_are_read_by_what_was_fitted_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's own label says anything about them."""
    people = People.of(made(250))
    before = read_across(people)
    chosen = people.names == "p7"
    wrong = dataclasses.replace(
        people,
        age=np.where(chosen, 99.0, people.age),
        gender=np.where(chosen, np.where(people.gender == "female", "male", "female"), people.gender),
    )
    after = read_across(wrong)
    for name, values in vars(before).items():
        np.testing.assert_array_equal(vars(after)[name][chosen], values[chosen])
        assert (vars(after)[name] != values).any()


def test_what_is_not_labeled_or_not_estimated_is_left_out() -> None:
    known = made(400)
    # More people, of whom only gender or only age is known, with answers that are always wrong.
    ages = made(130, 1, true_gender="", female_prob=0.001)
    genders = made(130, 2, true_age=np.nan, age_years=90.0)
    for number, some in enumerate((ages, genders)):
        some["name"] += f"-{number}"
    only, all_of_them = (fit(People.of(one)) for one in (known, pd.concat([known, ages, genders])))
    assert all_of_them["gender"][0] == pytest.approx(only["gender"][0], abs=0.12)
    read = [np.interp(40, one["age_knots_years"], one["age_years"]) for one in (only, all_of_them)]
    assert read[0] == pytest.approx(read[1], abs=3)
    assert sum(map(sum, all_of_them["seen_age"].values())) == 2 * (400 + 130)
    # A model that gives an age alone gets its interval from all else.
    alone = fit(People.of(made(400, age_std_years=np.nan)))
    assert not any(alone["interval_low_spread"] + alone["interval_high_spread"])
    calibration = dataclasses.replace(Calibration.plain(), **alone)
    read_alone = People.of(made(50, age_std_years=np.nan)).read(calibration)
    assert np.isfinite(read_alone.low_years).all() and (read_alone.high_years > read_alone.low_years).all()


@pytest.mark.slow
def test_children_are_left_out_where_their_gender_is_not_seen() -> None:
    faces = made(500)
    faces["age_years"] = faces["true_age"]
    random = np.random.default_rng(3)
    wrong = random.random(len(faces)) < np.where(faces["true_age"] < 15, 0.5, 0.01)
    faces["female_prob"] = np.where((faces["true_gender"] == "female") != wrong, 0.99, 0.01)
    content = fit(People.of(faces))
    assert 14 <= content["child_years"] <= 20
    # Without labeled children it stays as if nothing had been measured.
    grown = fit(People.of(faces[faces["true_age"] > 30]))
    assert grown["child_years"] == Calibration.plain().child_years
    # Whoever looks like a child is not among those whose gender was seen.
    counted = sum(map(sum, content["seen_gender"].values()))
    assert counted < 2 * 500 - (faces["true_age"] < 8).sum() / 4


def test_the_person_reads_as_the_faces_do(people: People, content: dict[str, Any]) -> None:
    """The coefficients of gender are of people, and are used for single faces: a mean of terms is linear."""
    calibration = dataclasses.replace(Calibration.plain(), **content)
    faces = made(1000)
    one = faces[(faces["name"] == "p3") & (faces["view"] == 1)]
    prob = calibration.female_prob(one["female_prob"].to_numpy(), one["age_years"].to_numpy())
    weight = one["x2"].clip(upper=80) * one["quality"]
    row = ((people.names == "p3").nonzero()[0])[1]
    expected = np.average(logit(prob), weights=weight)
    assert logit(people.read(calibration).female_prob[row : row + 1])[0] == pytest.approx(expected, rel=1e-6)
    terms = gender_terms(logit(one["female_prob"].to_numpy()), one["age_years"].to_numpy())
    np.testing.assert_allclose(people.terms[:, row], np.average(terms, axis=1, weights=weight))


# --- faces -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def viewer() -> Viewer:
    return Viewer(Settings(min_estimate_px=1, precision="f32"))


def labels_of(path: Path, **columns: Any) -> pd.DataFrame:
    row = {"path": path, "name": path.name, "true_age": 38.0, "true_gender": "female"}
    boxes = dict.fromkeys(("x1", "y1", "x2", "y2"), np.nan)
    return pd.DataFrame([row | boxes | columns])


def test_faces_are_cut_out_upright_wherever_they_are(tmp_path: Path, viewer: Viewer) -> None:
    image = np.ascontiguousarray(data.astronaut()[..., ::-1])
    turned = cv2.warpAffine(image, cv2.getRotationMatrix2D((220, 130), 25, 0.8), (512, 512))
    cut = []
    for name, one in (("straight.png", image), ("turned.png", turned)):
        cv2.imwrite(str(tmp_path / name), one)
        (face,) = viewer.cut(labels_of(tmp_path / name))
        assert face.image.shape == (200, 200, 3) and (face.age_years, face.gender) == (38.0, "female")
        cut.append(face.image)
    # A face that was cut out is taken as it is.
    cv2.imwrite(str(tmp_path / "cut.png"), cut[0])
    (again,) = viewer.cut(labels_of(tmp_path / "cut.png"))
    np.testing.assert_array_equal(again.image, cut[0])
    apart = np.abs(cut[0].astype(int) - cut[1]).mean()
    assert apart < 18 < 0.7 * np.abs(cut[0].astype(int) - cut[1][:, ::-1]).mean()
    assert len(CROP_LANDMARKS) == 5


def test_faces_that_are_not_there_are_left_out(tmp_path: Path, viewer: Viewer) -> None:
    image = np.ascontiguousarray(data.astronaut()[..., ::-1])
    cv2.imwrite(str(tmp_path / "face.png"), image)
    cv2.imwrite(str(tmp_path / "empty.png"), np.full((200, 200, 3), 90, np.uint8))
    (tmp_path / "broken.png").write_bytes(b"no image")
    elsewhere = {"x1": 300.0, "y1": 300.0, "x2": 400.0, "y2": 420.0}
    some = [
        labels_of(tmp_path / "empty.png"),
        labels_of(tmp_path / "broken.png"),
        labels_of(tmp_path / "face.png", **elsewhere),
    ]
    assert list(viewer.cut(pd.concat(some))) == []


def test_each_face_is_shown_as_photograph_and_as_two_videos(viewer: Viewer) -> None:
    image = np.ascontiguousarray(data.astronaut()[..., ::-1])[50:200, 150:300]
    face = LabeledFace("one", cv2.resize(image, (200, 200)).astype(np.uint8), 38.0, "female")
    seen: dict[int, int] = {}
    assert all(view.kind != PLAIN for view in viewer.views(iter([face])))
    for view in viewer.views(iter([face]), plain=True):
        assert len(view.people) == len(view.faces) == 1 and view.people[0] is face
        assert view.faces.quality[0] > 0
        seen[view.kind] = seen.get(view.kind, 0) + 1
    assert seen[PHOTOGRAPH] == seen[PLAIN] == 1
    assert 1 <= seen.get(VIDEO, 0) <= 3 and 0 <= seen.get(SHORT_VIDEO, 0) <= 1


# --- the command -------------------------------------------------------------------------------------


@pytest.fixture
def labeled(tmp_path: Path) -> Path:
    """A CSV of twelve pictures of one face, with made labels."""
    folder = tmp_path / "faces"
    folder.mkdir()
    face = np.ascontiguousarray(data.astronaut()[30:230, 130:330, ::-1])
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "age_years", "gender"))
        for number in range(12):
            name = f"{number}.png"
            cv2.imwrite(str(folder / name), np.roll(face, number, axis=1))
            writer.writerow((name, 20 + 4 * number, ("female", "male")[number % 2]))
    return folder / "labels.csv"


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """As few faces as the test has are enough."""
    monkeypatch.setattr(calibrating, "LEAST_OF_A_GENDER", 2)
    monkeypatch.setattr(calibrating, "LEAST_OF_A_BAND", 1)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["evaluate", *map(str, arguments)], prog_name="analyzer")


@pytest.mark.usefixtures("few")
def test_a_users_model_gets_a_calibration_beside_it(
    labeled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "models"
    models.mkdir()
    monkeypatch.setenv(registry.MODELS_VARIABLE, str(models))
    put(models, "mine", network(WEIGHTS), GENDER_AND_AGE)
    settings = Settings(attributes="mine")
    assert not choose(settings).calibration().measured
    terms = "--license", "CC BY 4.0", "--commercial-use"
    result = run(labeled, "--calibrate", "--attributes", "mine", "--json", *terms)
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    key = key_of(choose(settings).members())
    assert Path(found["path"]) == models / f"{key}.json" and found["key"] == key
    assert (found["faces"], found["left_out"], found["commercial_use"]) == (12, 0, True)
    assert found["missing_bands"] == ["0-12", "13-17", "65+"]
    assert (
        found["before"]["all"]["all"]["age_abs_error"]["n"]
        == found["after"]["all"]["all"]["age_abs_error"]["n"]
    )
    used = choose(settings).calibration()
    assert (
        used.key == key
        and used.license == "CC BY 4.0"
        and "12 faces of labels.csv (20 to 64" in used.fitted_on
    )
    assert list(json.loads((models / f"{key}.json").read_text())["explained"]) == list(EXPLAINED)
    # It may be used commercially, because its faces allow it; the model's own license does too.
    assert choose(settings.replace(commercial=True)).calibration().key == key
    # Said in words, into a folder of one's choice; without a license it is not for commercial use.
    result = run(labeled, "--calibrate", "--attributes", "mine", "--out", tmp_path / "out")
    assert result.exit_code == 0 and "before" in result.output and "after" in result.output
    assert "not measured: 0-12, 13-17, 65+" in result.output
    assert json.loads((tmp_path / "out" / f"{key}.json").read_text())["commercial_use"] is None


def test_too_few_faces_are_refused_with_how_many_are_needed(labeled: Path, tmp_path: Path) -> None:
    result = run(labeled, "--calibrate", "--attributes", "dlib", "--out", tmp_path / "out")
    assert result.exit_code == 3, result.output
    (line,) = result.output.strip().splitlines()
    assert "takes 100 of each gender and 30 of each age band" in line
    assert "6 women, 6 men" in line and "of 18-24 years" in line and "0-12" not in line
    assert not list((tmp_path / "out").glob("*.json"))


@pytest.mark.usefixtures("few")
def test_what_cannot_be_calibrated_is_a_sentence(labeled: Path, tmp_path: Path) -> None:
    ours = run(labeled, "--calibrate")
    assert ours.exit_code == 3 and "come with a calibration" in ours.output and "--out" in ours.output
    out = "--out", tmp_path
    whole = run(labeled, "--calibrate", "--detector", "none", *out)
    assert whole.exit_code == 3 and "takes a detector" in whole.output
    video = tmp_path / "clip"
    video.mkdir()
    (video / "clip.mp4").write_bytes(b"")
    (video / "truth.json").write_text('{"version": 1, "kind": "a", "people": []}')
    result = run(video, "--calibrate", *out)
    assert result.exit_code == 3 and "labeled images or corrected runs, not to videos" in result.output
    assert run(labeled, "--calibrate", "--keep-runs", tmp_path).exit_code == 2
    assert run(labeled, "--license", "MIT").exit_code == 2
