"""How answers are read: what holds of any sensible calibration, and of this one's file."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Iterator
from importlib import resources
from typing import Any

import numpy as np
import pytest

from analyzer.errors import ModelError
from analyzer.settings import AGE_BANDS, assign_band
from analyzer.vision import registry
from analyzer.vision.calibration import Calibration, Confusion, Estimates, gender_terms, logit

AGES = [0.0, 2, 5, 8, 12, 16, 20, 30, 50, 65, 80]


@pytest.fixture
def calibration() -> Calibration:
    return Calibration.load()


@pytest.fixture
def file() -> dict[str, Any]:
    return json.loads(resources.files("analyzer.vision").joinpath("calibration.json").read_text("utf-8"))


@pytest.fixture
def unloaded() -> Iterator[None]:
    """The calibration is read anew in the test, and after it."""
    cache = inspect.getattr_static(Calibration, "load").__func__.cache_clear
    cache()
    yield
    cache()


def estimates(log_odds: float, age: float, spread: float = 5.0, looks: Any = None) -> Estimates:
    vector = np.full((1, 128), np.nan) if looks is None else np.array(looks, np.float64)[None]
    return Estimates(np.array([log_odds]), np.array([age]), np.array([spread]), vector)


# --- gender ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("age", AGES)
def test_surer_networks_give_surer_probabilities(calibration: Calibration, age: float) -> None:
    raw = np.linspace(0, 1, 201)
    female = calibration.female_prob(raw, np.full(201, age))
    inner = (raw > 1e-3) & (raw < 1 - 1e-3)
    assert (np.diff(female[inner]) > 0).all() and (np.diff(female) >= 0).all()
    assert female.min() > 0 and female.max() < 1
    # Both answers are possible: no gender is ruled out at any age.
    assert female[0] < 0.5 < female[-1]


def test_networks_answers_on_children_count_for_less(calibration: Calibration) -> None:
    def slope(age: float) -> float:
        low, high = logit(calibration.female_prob(np.array([0.1, 0.9]), np.full(2, age)))
        raw_low, raw_high = logit(np.array([0.1, 0.9]))
        return float((high - low) / (raw_high - raw_low))

    slopes = [slope(age) for age in (4, 8, 14, 20, 30, 50)]
    assert slopes[0] == pytest.approx(slopes[1]) and slopes[3] == pytest.approx(slopes[4])
    assert slopes[1] < slopes[2] < slopes[3] < 1
    assert slopes[0] < 0.6 * slopes[4]


def test_terms_change_where_they_are_said_to(calibration: Calibration) -> None:
    log_odds = np.full(7, 2.0)
    terms = gender_terms(log_odds, np.array([0, 8, 14, 20, 50, 62.5, 75.0]))
    np.testing.assert_allclose(terms[4], [1, 1, 0.5, 0, 0, 0, 0])
    np.testing.assert_allclose(terms[5], [0, 0, 0, 0, 0, 0.5, 1])
    np.testing.assert_allclose(terms[:3], [log_odds, log_odds * terms[4], log_odds * terms[5]])
    assert (terms[3] == 1).all() and len(terms) == len(calibration.gender) == len(calibration.person_gender)


def test_logit_is_the_inverse_and_ends_somewhere() -> None:
    probability = np.array([0.001, 0.3, 0.5, 0.999])
    np.testing.assert_allclose(1 / (1 + np.exp(-logit(probability))), probability)
    assert np.isfinite(logit(np.array([0.0, 1.0]))).all()
    least, most = logit(np.array([0.0, 1.0]))
    assert least == pytest.approx(-most) and most > 9


# --- people ------------------------------------------------------------------------------------------


def test_person_without_an_embedding_is_read_as_its_sightings_say(calibration: Calibration) -> None:
    female, age = calibration.person(estimates(1.5, 33.0))
    assert female[0] == pytest.approx(1 / (1 + np.exp(-1.5))) and age[0] == pytest.approx(33)


def test_embedding_corrects_both_answers(calibration: Calibration) -> None:
    made = dataclasses.replace(
        calibration,
        person_gender=[2, 0, 0, 0.5, 0, 0],
        person_gender_estimates=[1.0] + [0.0] * 127,
        person_age_knots_years=[0, 50, 100],
        person_age_years=[0, 40, 100],
        person_age_estimates=[0.0, 10.0] + [0.0] * 126,
    )
    looks = np.zeros(128)
    looks[:2] = 0.25, -0.5
    female, age = made.person(estimates(1.0, 25.0, looks=looks))
    assert female[0] == pytest.approx(1 / (1 + np.exp(-(2 + 0.5 + 0.25)))) and age[0] == pytest.approx(20 - 5)
    # No age is below 0.
    assert made.person(estimates(1.0, 1.0, looks=looks))[1][0] == 0


def test_people_are_read_one_by_one(calibration: Calibration) -> None:
    random = np.random.default_rng(2)
    looks = random.normal(size=(6, 128)) * 0.08
    looks[[1, 4]] = np.nan
    together = Estimates(random.normal(size=6), random.uniform(0, 80, 6), random.uniform(1, 9, 6), looks)
    given = together.log_odds.copy(), together.age_years.copy()
    female, age = calibration.person(together)
    np.testing.assert_array_equal(together.log_odds, given[0])  # what is given is not written to
    np.testing.assert_array_equal(together.age_years, given[1])
    for row in range(6):
        one = Estimates(*(array[row : row + 1] for array in vars(together).values()))
        np.testing.assert_allclose(calibration.person(one), [[female[row]], [age[row]]], rtol=1e-9)
    assert ((female > 0) & (female < 1)).all() and (age >= 0).all()


def test_unknown_stays_unknown(calibration: Calibration) -> None:
    female, age = calibration.person(estimates(np.nan, np.nan))
    assert np.isnan(female).all() and np.isnan(age).all()
    assert np.isnan(calibration.age_interval(age, np.array([np.nan]))).all()


# --- the interval of age -----------------------------------------------------------------------------


def test_interval_holds_its_estimate_and_no_age_below_0(calibration: Calibration) -> None:
    ages, spreads = (grid.ravel() for grid in np.meshgrid(np.linspace(0, 100, 201), np.linspace(0, 25, 26)))
    low, high = calibration.age_interval(ages, spreads)
    assert (low >= 0).all() and (low <= ages).all() and (ages <= high).all()
    # A network that is less sure widens it.
    wide_low, wide_high = calibration.age_interval(ages, spreads + 5)
    assert (wide_low <= low).all() and (wide_high >= high).all()
    assert (wide_high - wide_low > high - low).all()


def test_interval_goes_as_far_as_the_file_says(calibration: Calibration) -> None:
    made = dataclasses.replace(
        calibration,
        interval_knots_years=[10, 30],
        interval_low_years=[2, 6],
        interval_high_years=[4, 12],
        interval_std=[0.5, 1.0],
    )
    low, high = made.age_interval(np.array([10.0, 20, 30, 90]), np.array([0.0, 2, 4, 0]))
    np.testing.assert_allclose(low, [8, 20 - 4 - 1, 30 - 6 - 2, 84])
    np.testing.assert_allclose(high, [14, 20 + 8 + 2, 30 + 12 + 4, 102])
    # Knots that would leave the estimate outside do not.
    odd = dataclasses.replace(made, interval_low_years=[-3, -3], interval_high_years=[-3, -3])
    low, high = odd.age_interval(np.array([20.0]), np.array([0.0]))
    assert low[0] == high[0] == 20


# --- the file ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["AGE", "GENDER", "EMBEDDING"])
def test_calibration_of_other_networks_is_refused(
    unloaded: None, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    model = getattr(registry, name)
    file = dataclasses.replace(model.files[0], sha256=("0" * 64,))
    monkeypatch.setattr(registry, name, dataclasses.replace(model, files=(file,)))
    with pytest.raises(ModelError, match="fitted for other networks"):
        Calibration.load()


def test_calibration_is_that_of_the_default_networks(unloaded: None, file: dict[str, Any]) -> None:
    assert Calibration.load() is Calibration.load()
    known = {model.name: model.sha256 for model in registry.DEFAULTS}
    assert file["networks"].items() <= known.items()


def test_every_field_is_explained_in_the_file(file: dict[str, Any]) -> None:
    patterns = [name.strip() for names in file["explained"] for name in names.split(",")]
    for name in file.keys() - {"explained"}:
        known = any(name.startswith(p.removesuffix("*")) if p.endswith("*") else name == p for p in patterns)
        assert known or name.endswith(("_edges", "_edges_years")) or name == "fitted_on", name


def test_every_number_of_the_file_fits_the_others(calibration: Calibration, file: dict[str, Any]) -> None:
    assert len(calibration.gender) == len(calibration.person_gender) == 6
    assert len(calibration.person_gender_estimates) == len(calibration.person_age_estimates) == 128
    for name in ("person_age", "interval"):
        knots = getattr(calibration, f"{name}_knots_years")
        assert (np.diff(knots) > 0).all()
        for value in ("years", "low_years", "high_years"):
            curve = getattr(calibration, f"{name}_{value}", None)
            assert curve is None or len(curve) == len(knots)
    # An older estimate is an older person.
    assert (np.diff(calibration.person_age_years) > 0).all()
    assert len(calibration.interval_std) == 2 and min(calibration.interval_std) >= 0
    assert 0 < calibration.child_years < 30
    for edges in (calibration.seen_gender_edges, calibration.seen_age_edges_years):
        assert (np.diff(edges) > 0).all()
    assert all(np.isfinite(value) for name in ("gender", "person_gender") for value in file[name])


# --- confusion ---------------------------------------------------------------------------------------


def test_confusion_of_gender_has_the_files_counts(calibration: Calibration, file: dict[str, Any]) -> None:
    confusion = calibration.gender_confusion()
    assert confusion.classes == ("female", "male")
    assert confusion.counts.shape == (2, len(confusion.edges) + 1)
    assert confusion.counts.sum() == sum(sum(counts) for counts in file["seen_gender"].values()) > 1000
    # Most people are seen as what they are.
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


def test_value_on_a_border_is_in_the_upper_category() -> None:
    confusion = Confusion(("a",), np.array([1.0, 2.0]), np.ones((1, 3)))
    assert confusion.category(np.array([0.0, 1.0, 1.5, 2.0, 99.0])).tolist() == [0, 1, 1, 2, 2]
