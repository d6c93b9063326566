"""Properties that any sensible calibration has, and how calibrations are found."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analyzer.errors import ModelError
from analyzer.settings import AGE_BANDS, Settings, assign_band
from analyzer.vision import registry
from analyzer.vision.calibration import (
    DEFAULT_KEY,
    Calibration,
    Confusion,
    Estimates,
    calibration_file,
    gender_terms,
    key_of,
    logit,
)
from analyzer.vision.selection import choose, models_hash

AGES = [0.0, 2, 5, 8, 12, 16, 20, 30, 50, 65, 80]


@pytest.fixture
def calibration() -> Calibration:
    return Calibration.load()


@pytest.fixture
def file() -> dict[str, Any]:
    path = calibration_file(DEFAULT_KEY)
    assert path is not None
    return json.loads(path.read_text("utf-8"))


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the user's own models and calibrations."""
    monkeypatch.setenv(registry.MODELS_VARIABLE, str(tmp_path))
    return tmp_path


def put(folder: Path, settings: Settings, file: dict[str, Any], precision: str = "any") -> str:
    """Add a calibration of the models of `settings`, with children up to 99 years; gives its key."""
    members = choose(settings).members(precision)
    key = key_of(members)
    values = file | {"members": members, "child_years": 99.0}
    (folder / f"{key}.json").write_text(json.dumps(values), "utf-8")
    return key


def estimates(
    log_odds: float, age: float, spread: float = 5.0, face_px: float = 80.0, quality: float = 1.0
) -> Estimates:
    return Estimates(*(np.array([value]) for value in (log_odds, age, spread, face_px, quality)))


# --- gender ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("age", AGES)
def test_confident_models_give_confident_probabilities(calibration: Calibration, age: float) -> None:
    raw = np.linspace(0, 1, 201)
    female = calibration.female_prob(raw, np.full(201, age))
    inner = (raw > 1e-3) & (raw < 1 - 1e-3)
    assert (np.diff(female[inner]) > 0).all() and (np.diff(female) >= 0).all()
    assert female.min() > 0 and female.max() < 1
    # No gender is impossible at any age.
    assert female[0] < 0.5 < female[-1]


def test_answers_on_children_can_count_for_less(calibration: Calibration) -> None:
    made = dataclasses.replace(calibration, gender=[0.8, -0.5, 0, 0, 0, 0])

    def slope(age: float) -> float:
        low, high = logit(made.female_prob(np.array([0.1, 0.9]), np.full(2, age)))
        raw_low, raw_high = logit(np.array([0.1, 0.9]))
        return float((high - low) / (raw_high - raw_low))

    assert [slope(age) for age in (4, 8, 14, 20, 30)] == pytest.approx([0.3, 0.3, 0.55, 0.8, 0.8])


def test_terms_change_where_they_are_said_to(calibration: Calibration) -> None:
    log_odds = np.full(7, 2.0)
    terms = gender_terms(log_odds, np.array([0, 8, 14, 20, 50, 62.5, 75.0]))
    np.testing.assert_allclose(terms[4], [1, 1, 0.5, 0, 0, 0, 0])
    np.testing.assert_allclose(terms[5], [0, 0, 0, 0, 0, 0.5, 1])
    np.testing.assert_allclose(terms[:3], [log_odds, log_odds * terms[4], log_odds * terms[5]])
    assert (terms[3] == 1).all() and len(terms) == len(calibration.gender)


def test_logit_is_the_inverse_and_ends_somewhere() -> None:
    probability = np.array([0.001, 0.3, 0.5, 0.999])
    np.testing.assert_allclose(1 / (1 + np.exp(-logit(probability))), probability)
    assert np.isfinite(logit(np.array([0.0, 1.0]))).all()
    least, most = logit(np.array([0.0, 1.0]))
    assert least == pytest.approx(-most) and most > 9


# --- people ------------------------------------------------------------------------------------------


def test_age_is_read_between_knots_and_gender_as_it_is(calibration: Calibration) -> None:
    made = dataclasses.replace(calibration, age_knots_years=[0, 50, 100], age_years=[0, 40, 100])
    read = made.person(estimates(1.0, 25.0))
    assert read.female_prob[0] == pytest.approx(1 / (1 + np.exp(-1)))
    assert read.age_years[0] == pytest.approx(20)
    # No age is below 0.
    young = dataclasses.replace(made, age_years=[-400, -300, -200])
    assert young.person(estimates(1.0, 25.0)).age_years[0] == 0


def test_models_that_were_not_measured_are_not_corrected() -> None:
    read = Calibration.plain().person(estimates(1.5, 33.0, 4.0, face_px=20, quality=0.1))
    assert read.female_prob[0] == pytest.approx(1 / (1 + np.exp(-1.5))) and read.age_years[0] == 33
    assert read.high_years[0] - read.low_years[0] == pytest.approx(2 * 1.2816 * 4)
    # Without a spread there is no interval.
    unknown = Calibration.plain().person(estimates(1.5, 33.0, np.nan))
    assert unknown.age_years[0] == 33 and np.isnan([unknown.low_years[0], unknown.high_years[0]]).all()


def test_people_do_not_influence_each_other(calibration: Calibration) -> None:
    random = np.random.default_rng(2)
    ends = ((-3, 3), (0, 80), (1, 9), (12, 200), (0, 1))
    together = Estimates(*(random.uniform(*pair, 6) for pair in ends))
    given = together.log_odds.copy(), together.age_years.copy()
    read = calibration.person(together)
    np.testing.assert_array_equal(together.log_odds, given[0])  # the arguments are not changed
    np.testing.assert_array_equal(together.age_years, given[1])
    for row in range(6):
        one = calibration.person(Estimates(*(array[row : row + 1] for array in vars(together).values())))
        for name, values in vars(read).items():
            np.testing.assert_allclose(vars(one)[name], values[row], rtol=1e-9)
    assert ((read.female_prob > 0) & (read.female_prob < 1)).all() and (read.age_years >= 0).all()


def test_unknown_stays_unknown(calibration: Calibration) -> None:
    read = calibration.person(estimates(np.nan, np.nan, np.nan, np.nan))
    assert np.isnan(list(vars(read).values())).all()


# --- the interval of age -----------------------------------------------------------------------------


def test_interval_holds_its_estimate_and_no_age_below_0(calibration: Calibration) -> None:
    random = np.random.default_rng(5)
    ends = ((-3, 3), (0, 100), (0, 25), (5, 300), (0, 1))
    read = calibration.person(Estimates(*(random.uniform(*pair, 500) for pair in ends)))
    assert (read.low_years >= 0).all() and (read.low_years <= read.age_years).all()
    assert (read.age_years <= read.high_years).all()


def test_the_interval_has_the_width_of_the_file(calibration: Calibration) -> None:
    made = dataclasses.replace(
        calibration,
        interval_knots_years=[0, 100],
        interval_low_years=[2, 6],
        interval_high_years=[4, 12],
        interval_low_spread=[0.5, 1.5],
        interval_high_spread=[1.0, 1.0],
        interval_small_years=[0.25, 0.125],
        interval_unclear_years=[3.0, 5.0],
        age_knots_years=[0, 120],
        age_years=[0, 120],
    )
    given = estimates(0.0, 60.0, spread=8.0, face_px=20.0, quality=0.6)
    read = made.person(given)
    small = np.log(80 / 20)
    assert read.low_years[0] == pytest.approx(60 - (2 + 0.04 * 60) - 1.1 * 8 - 0.25 * small - 0.4 * 3)
    assert read.high_years[0] == pytest.approx(60 + (4 + 0.08 * 60) + 8 + 0.125 * small + 0.4 * 5)
    # Knots that would leave the estimate outside do not.
    odd = dataclasses.replace(made, interval_low_years=[-99, -99], interval_high_years=[-99, -99])
    read = odd.person(given)
    assert read.low_years[0] == read.high_years[0] == 60


# --- the file ----------------------------------------------------------------------------------------


def test_the_default_models_have_a_calibration(own: Path, file: dict[str, Any]) -> None:
    assert Calibration.load() is Calibration.load() is choose(Settings()).calibration()
    assert file["members"] == choose(Settings()).members() and key_of(file["members"]) == DEFAULT_KEY
    for precision in ("f32", "int8"):
        assert choose(Settings(precision=precision)).calibration().key == DEFAULT_KEY


@pytest.mark.parametrize(
    "changed",
    [
        {"detector": "none"},
        {"attributes": "levi-hassner"},
        {"age_model": "levi-hassner-age"},
        {"gender_model": "levi-hassner-gender"},
    ],
    ids=str,
)
def test_a_set_without_a_file_is_not_measured(own: Path, changed: dict[str, str]) -> None:
    calibration = choose(Settings(**changed)).calibration()
    assert calibration is Calibration.plain() and not calibration.measured and calibration.key == ""


def test_the_key_is_of_every_member() -> None:
    chosen = choose(Settings())
    members = chosen.members()
    assert members.keys() == {"aligner", "gender", "age", "crop", "precision"}
    keys = {key_of(members)}
    for role, member in members.items():
        other = "other" if isinstance(member, str) else member | {"sha256": "0" * 64}
        keys.add(key_of(members | {role: other}))
    assert len(keys) == 6
    aligner = members["aligner"]
    assert isinstance(aligner, dict)
    assert key_of(members | {"aligner": aligner | {"name": "renamed"}}) == key_of(members)
    assert len(key_of(members)) == 16 and set(key_of(members)) <= set("0123456789abcdef")


def test_detectors_whose_faces_are_aligned_share_a_calibration_unless_the_box_is_cropped() -> None:
    names = ("centerface", "yunet", "ssd", "haar")
    assert len({key_of(choose(Settings(detector=one)).members()) for one in names}) == 1
    boxed = [choose(Settings(detector=one, attributes="levi-hassner")).members() for one in names]
    assert len({key_of(one) for one in boxed}) == 4


def test_a_users_calibration_is_found_by_its_key(own: Path, file: dict[str, Any]) -> None:
    settings = Settings(detector="none")
    before = models_hash(settings)
    key = put(own, settings, file)
    calibration = choose(settings).calibration()
    assert calibration.key == key != DEFAULT_KEY and calibration.measured and calibration.child_years == 99
    assert choose(settings.replace(precision="f32")).calibration().key == key
    assert models_hash(settings) != before, "the same segments would be read by another calibration"
    assert choose(Settings()).calibration().key == DEFAULT_KEY


@pytest.mark.parametrize(("allowed", "used"), [(True, True), (False, False), (None, False)])
def test_commercial_takes_a_calibration_whose_faces_allow_it(
    own: Path, file: dict[str, Any], allowed: bool | None, used: bool
) -> None:
    settings = Settings(detector="none", attributes="dlib", commercial=True)
    put(own, settings, file | {"commercial_use": allowed})
    assert choose(settings).calibration().measured == used
    assert choose(settings.replace(commercial=False)).calibration().measured


def test_a_calibration_of_one_precision_is_preferred_and_holds_for_it_alone(
    own: Path, file: dict[str, Any]
) -> None:
    key = put(own, Settings(detector="none"), file, "int8")
    chosen = {one: choose(Settings(detector="none", precision=one)) for one in ("auto", "f32", "int8")}
    assert [chosen[one].calibration().key for one in ("auto", "f32", "int8")] == ["", "", key]
    every = put(own, Settings(detector="none"), file)
    assert [chosen[one].calibration().key for one in ("auto", "f32", "int8")] == [every, every, key]


def test_a_file_of_the_users_does_not_replace_ours(own: Path, file: dict[str, Any]) -> None:
    assert put(own, Settings(), file) == DEFAULT_KEY
    assert Calibration.load().child_years < 99


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"members": 1}', '{"members": {}, "gender": []}', "\x00"])
def test_a_damaged_calibration_is_a_sentence(own: Path, file: dict[str, Any], text: str) -> None:
    key = put(own, Settings(detector="none"), file)
    (own / f"{key}.json").write_text(text, "utf-8")
    with pytest.raises(ModelError, match=r"the calibration .*\.json is damaged: fit it again") as caught:
        choose(Settings(detector="none")).calibration()
    assert "\n" not in str(caught.value)


def test_a_calibration_of_other_models_is_refused(own: Path, file: dict[str, Any]) -> None:
    key = put(own, Settings(detector="none"), file)
    other = put(own, Settings(), file)
    (own / f"{other}.json").replace(own / f"{key}.json")
    with pytest.raises(ModelError, match=f"was fitted for other models .*{other}"):
        choose(Settings(detector="none")).calibration()


def test_a_run_is_read_by_its_own_calibration(own: Path, file: dict[str, Any]) -> None:
    key = put(own, Settings(detector="none"), file)
    for known, read in ((key, key), (DEFAULT_KEY, DEFAULT_KEY), ("0" * 16, ""), (None, "")):
        assert Calibration.of_run({"calibration": {"key": known}}).key == read
    assert Calibration.of_run({}) is Calibration.plain()


def test_every_field_is_explained_in_the_file(file: dict[str, Any]) -> None:
    patterns = [name.strip() for names in file["explained"] for name in names.split(",")]
    for name in file.keys() - {"explained"}:
        known = any(name.startswith(p.removesuffix("*")) if p.endswith("*") else name == p for p in patterns)
        assert known or name.endswith(("_edges", "_edges_years")), name


def test_every_number_of_the_file_fits_the_others(calibration: Calibration, file: dict[str, Any]) -> None:
    assert len(calibration.gender) == 6
    for name in ("age", "interval"):
        knots = getattr(calibration, f"{name}_knots_years")
        assert (np.diff(knots) > 0).all()
        for value in ("years", "low_years", "high_years", "low_spread", "high_spread"):
            curve = getattr(calibration, f"{name}_{value}", None)
            assert curve is None or len(curve) == len(knots)
    # An older estimate is an older person.
    assert (np.diff(calibration.age_years) >= 0).all()
    # What is less sure is never said more narrowly.
    assert min(*calibration.interval_low_spread, *calibration.interval_high_spread) >= 0
    for shares in (calibration.interval_small_years, calibration.interval_unclear_years):
        assert len(shares) == 2 and min(shares) >= 0
    assert 0 < calibration.child_years < 30
    for edges in (calibration.seen_gender_edges, calibration.seen_age_edges_years):
        assert (np.diff(edges) > 0).all()
    assert np.isfinite(file["gender"]).all()


# --- confusion ---------------------------------------------------------------------------------------


def test_confusion_of_gender_has_the_files_counts(calibration: Calibration, file: dict[str, Any]) -> None:
    confusion = calibration.gender_confusion()
    assert confusion.classes == ("female", "male")
    assert confusion.counts.shape == (2, len(confusion.edges) + 1)
    assert confusion.counts.sum() == sum(sum(counts) for counts in file["seen_gender"].values()) > 1000
    # Most people are seen correctly.
    upper = confusion.counts[:, confusion.category(np.array([0.5]))[0] :].sum(axis=1)
    share = upper / confusion.counts.sum(axis=1)
    assert share[0] > 0.85 and share[1] < 0.15


@pytest.mark.parametrize("name", AGE_BANDS)
def test_confusion_of_age_has_the_bands_and_the_files_counts(
    calibration: Calibration, file: dict[str, Any], name: str
) -> None:
    bands = AGE_BANDS[name]
    confusion = calibration.age_confusion(bands)
    assert confusion.classes == tuple(band.name for band in bands)
    assert confusion.counts.shape == (len(bands), len(confusion.edges) + 1)
    for band, counts in zip(bands, confusion.counts, strict=True):
        mine = [seen for age, seen in file["seen_age"].items() if assign_band(float(age), bands) == band.name]
        np.testing.assert_array_equal(counts, np.sum(mine, axis=0))
        assert counts.sum() > 20, "too few labeled people of this band"


def test_a_value_on_an_edge_is_in_the_upper_category() -> None:
    confusion = Confusion(("a",), np.array([1.0, 2.0]), np.ones((1, 3)))
    assert confusion.category(np.array([0.0, 1.0, 1.5, 2.0, 99.0])).tolist() == [0, 1, 1, 2, 2]
