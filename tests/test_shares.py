"""Shares with their error bars, against people whose true classes are known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from analyzer import shares as shares_module
from analyzer.settings import AGE_BANDS, Settings
from analyzer.shares import FEW_PEOPLE, INTERVAL, SHARE_COLUMNS, estimate_shares, in_words
from analyzer.vision.calibration import Calibration

Counts = dict[str, list[int]]

PERFECT: Counts = {"female": [0, 100_000], "male": [100_000, 0]}
# Every fifth person of either gender is seen as the other.
FIFTH: Counts = {"female": [20_000, 80_000], "male": [80_000, 20_000]}
YEARS = list(range(0, 90))


def calibration(gender: Counts, wrong_ages: float = 0.0) -> Calibration:
    """Gender is seen below or above 0.5; of the ages, a share is seen ten years too old."""
    edges = [year + 0.5 for year in YEARS[:-1]]
    ages: Counts = {}
    for year in YEARS:
        seen = np.zeros(len(YEARS), int)
        seen[year] += round(10_000 * (1 - wrong_ages))
        seen[min(year + 10, YEARS[-1])] += round(10_000 * wrong_ages)
        ages[str(year)] = seen.tolist()
    return dataclasses.replace(
        Calibration.load(),
        seen_gender_edges=[0.5],
        seen_gender=gender,
        seen_age_edges_years=edges,
        seen_age=ages,
    )


def people_of(
    seen_female: NDArray[np.bool_] | list[bool],
    unjudged: int = 0,
    ages: NDArray[np.float64] | None = None,
    on_screen_s: NDArray[np.float64] | None = None,
) -> pd.DataFrame:
    count = len(seen_female)
    female = np.where(np.asarray(seen_female, bool), 0.9, 0.1)
    years = np.full(count, 30.0) if ages is None else ages
    gap = np.full(unjudged, np.nan)
    return pd.DataFrame(
        {
            "person_id": np.arange(1, count + unjudged + 1),
            "female_prob": np.concatenate([female, gap]),
            "age_years": np.concatenate([years, gap]),
            "on_screen_s": np.ones(count + unjudged) if on_screen_s is None else on_screen_s,
            "judged_samples": [5] * count + [0] * unjudged,
        }
    )


def row(shares: pd.DataFrame, group: str = "female") -> pd.Series:
    return shares[shares["group"] == group].iloc[0]


def sane(shares: pd.DataFrame, settings: Settings) -> None:
    """What holds of every table."""
    assert list(shares) == list(SHARE_COLUMNS)
    assert shares["group"].tolist() == ["female", "male", *(band.name for band in settings.bands)]
    for kind in ("people", "time"):
        share, low, high = (shares[f"{kind}_{name}"].to_numpy() for name in ("share", "low", "high"))
        assert np.isfinite(share).all()
        assert (low >= 0).all() and (high <= 1).all()
        assert (low <= share + 1e-12).all() and (share <= high + 1e-12).all()
        for dimension in ("gender", "age"):
            assert share[shares["dimension"] == dimension].sum() == pytest.approx(1)


@pytest.fixture
def all_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is missed or counted twice: the error bars of sampling are left out."""
    monkeypatch.setattr(shares_module, "_WEIGHT_SHAPE", 1e12)


@pytest.mark.usefixtures("all_seen")
def test_with_networks_that_are_never_wrong_shares_are_counts() -> None:
    ages = np.array([10.0] * 10 + [30.0] * 25 + [70.0] * 5)
    people = people_of([True] * 30 + [False] * 10, ages=ages)
    shares = estimate_shares(people, Settings(gender_of_children=True), calibration(PERFECT))
    expected = {"female": 0.75, "male": 0.25, "0-12": 0.25, "25-34": 0.625, "65+": 0.125}
    for one in shares.itertuples():
        assert one.people_share == pytest.approx(expected.get(one.group, 0), abs=0.005)
        assert one.people_high - one.people_low <= 0.03  # a person of forty at the most


@pytest.mark.usefixtures("all_seen")
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_known_errors_are_taken_out(share: float) -> None:
    # Exactly a fifth of both is mistaken: counting leans towards the half.
    women = round(400 * share)
    seen = np.zeros(400, bool)
    seen[: round(women * 0.8)] = True
    seen[women : women + round((400 - women) * 0.2)] = True
    naive = seen.mean()
    found = row(estimate_shares(people_of(seen), Settings(), calibration(FIFTH)))
    # The prior of twenty people leans to the half a little, too.
    assert found["people_share"] == pytest.approx(share, abs=0.04)
    assert found["people_low"] <= share <= found["people_high"]
    if share != 0.5:
        assert abs(naive - share) > 0.05
        assert not found["people_low"] <= naive <= found["people_high"]
    assert 0.02 < found["people_high"] - found["people_low"] < 0.25


@pytest.mark.parametrize("count", [20, 80])
def test_sampling_widens_the_interval_by_half_of_the_bootstraps(count: int) -> None:
    # With networks that are never wrong nothing else does.
    seen = np.arange(count) % 4 > 0
    found = row(estimate_shares(people_of(seen), Settings(), calibration(PERFECT)))
    spread = np.sqrt(0.75 * 0.25 / count) / 2
    for kind in ("people", "time"):
        assert found[f"{kind}_share"] == pytest.approx(0.75, abs=0.01)
        assert found[f"{kind}_high"] - found[f"{kind}_low"] == pytest.approx(2 * 1.96 * spread, rel=0.15)
    # Who is on screen for most of the time is most of the uncertainty.
    times = np.where(np.arange(count) < 2, 1000.0, 1.0)
    found = row(estimate_shares(people_of(seen, on_screen_s=times), Settings(), calibration(PERFECT)))
    assert found["time_high"] - found["time_low"] > 2 * (found["people_high"] - found["people_low"])


def test_many_people_outweigh_the_prior_of_ages() -> None:
    # All are thirty; a third is seen as forty, as is known of the networks.
    ages = np.where(np.arange(300) % 10 < 3, 40.0, 30.0)
    reading = calibration(PERFECT, wrong_ages=0.3)
    shares = estimate_shares(people_of([True] * 300, ages=ages), Settings(), reading)
    assert row(shares, "25-34")["people_share"] > 0.85
    # Of a few people the prior keeps it open.
    few = estimate_shares(people_of([True] * 5, ages=np.full(5, 40.0)), Settings(), reading)
    assert 0.1 < row(few, "25-34")["people_share"] < 0.6 < row(few, "25-34")["people_high"]


def test_networks_that_say_nothing_leave_a_wide_interval() -> None:
    blind: Counts = {"female": [500, 500], "male": [500, 500]}
    seen = [True] * 50
    sharp = row(estimate_shares(people_of(seen), Settings(), calibration(FIFTH)))
    wide = row(estimate_shares(people_of(seen), Settings(), calibration(blind)))
    assert wide["people_high"] - wide["people_low"] > 0.35
    assert wide["people_high"] - wide["people_low"] > 1.5 * (sharp["people_high"] - sharp["people_low"])


def test_few_labelled_faces_leave_a_wider_interval() -> None:
    few: Counts = {"female": [4, 16], "male": [16, 4]}
    seen = [True] * 240 + [False] * 160
    many = row(estimate_shares(people_of(seen), Settings(), calibration(FIFTH)))
    wide = row(estimate_shares(people_of(seen), Settings(), calibration(few)))
    assert wide["people_high"] - wide["people_low"] > 1.5 * (many["people_high"] - many["people_low"])


@pytest.mark.usefixtures("all_seen")
def test_people_who_could_not_be_judged_widen_the_interval() -> None:
    seen = [True] * 20 + [False] * 20
    judged, some, many = (
        row(estimate_shares(people_of(seen, unjudged=n), Settings(), calibration(PERFECT)))
        for n in (0, 10, 80)
    )
    widths = [one["people_high"] - one["people_low"] for one in (judged, some, many)]
    assert widths[0] < 0.01 and widths[0] + 0.03 < widths[1] < widths[2] - 0.03
    # They are as the others are, not half of each.
    lone = row(estimate_shares(people_of([True] * 60, unjudged=60), Settings(), calibration(PERFECT)))
    assert lone["people_share"] > 0.9


@pytest.mark.usefixtures("all_seen")
def test_shares_of_time_weigh_by_time() -> None:
    times = np.array([9.0] * 10 + [1.0] * 30)
    people = people_of([True] * 10 + [False] * 30, on_screen_s=times)
    found = row(estimate_shares(people, Settings(), calibration(PERFECT)))
    assert found["people_share"] == pytest.approx(0.25, abs=0.005)
    assert found["time_share"] == pytest.approx(90 / 120, abs=0.005)
    # One who cannot be judged and is on screen all the time leaves the time open, the people hardly.
    people = people_of([True] * 10 + [False] * 30, unjudged=1, on_screen_s=np.append(times, 1000))
    found = row(estimate_shares(people, Settings(), calibration(PERFECT)))
    assert found["time_high"] - found["time_low"] > 0.8
    assert found["people_high"] - found["people_low"] < 0.05


def test_where_all_are_men_no_woman_is_possible() -> None:
    # Seen as the labelled men are seen.
    reading = Calibration.load()
    confusion = reading.gender_confusion()
    seen = confusion.counts[confusion.classes.index("male")]
    numbers = np.diff(np.round(np.cumsum(np.append(0, seen)) / seen.sum() * 400)).astype(int)
    people = people_of([False] * 400)
    edges = np.array([0, *confusion.edges, 1])
    people["female_prob"] = np.repeat((edges[1:] + edges[:-1]) / 2, numbers)
    assert row(estimate_shares(people, Settings(), reading))["people_low"] < 0.002


def random_people(count: int, unjudged: int) -> pd.DataFrame:
    random = np.random.default_rng(count)
    people = people_of(
        [True] * count,
        unjudged=unjudged,
        ages=random.uniform(0, 80, count),
        on_screen_s=random.uniform(1, 60, count + unjudged),
    )
    people.loc[people["judged_samples"] > 0, "female_prob"] = random.random(count)
    return people


@pytest.mark.parametrize("bands", AGE_BANDS)
@pytest.mark.parametrize("count", [7, 30, 100])
def test_shares_are_shares_with_the_real_calibration(bands: str, count: int) -> None:
    settings = Settings(age_bands=bands)
    people = random_people(count, count // 3)
    shares = estimate_shares(people, settings, Calibration.load())
    sane(shares, settings)
    pd.testing.assert_frame_equal(shares, estimate_shares(people, settings, Calibration.load()))


@pytest.mark.parametrize("count", [1, 2])
def test_shares_of_very_few_people_lie_in_their_intervals(count: int) -> None:
    shares = estimate_shares(random_people(count, 0), Settings(), Calibration.load())
    sane(shares, Settings())
    assert shares["people_share"].between(shares["people_low"], shares["people_high"]).all()


@pytest.mark.usefixtures("all_seen")
def test_who_looks_like_a_child_says_nothing_about_gender_unless_asked() -> None:
    people = people_of([True] * 20 + [False] * 20, ages=np.array([8.0] * 20 + [30.0] * 20))
    silent = row(estimate_shares(people, Settings(), calibration(PERFECT)))
    asked = row(estimate_shares(people, Settings(gender_of_children=True), calibration(PERFECT)))
    assert silent["people_share"] < 0.1 and asked["people_share"] == pytest.approx(0.5, abs=0.01)


def test_a_class_seen_on_a_border_is_in_the_upper_category() -> None:
    people = people_of([True] * 10)
    people["female_prob"] = 0.5
    found = row(estimate_shares(people, Settings(), calibration(PERFECT)))
    assert found["people_share"] > 0.99


def test_sentence_says_what_the_table_says() -> None:
    people = random_people(30, 5)
    shares = estimate_shares(people, Settings(), Calibration.load())
    found = row(shares)
    told = in_words(shares, people)
    for kind in ("people", "time"):
        share, low, high = (found[f"{kind}_{name}"] for name in ("share", "low", "high"))
        assert f"{share:.0%}" in told and f"({low:.0%} to {high:.0%})" in told
    assert in_words(shares, people.head(FEW_PEOPLE - 1)) == ""


def test_nobody_and_nobody_judged_have_no_shares() -> None:
    for people in (people_of([]), people_of([], unjudged=5)):
        shares = estimate_shares(people, Settings(), calibration(FIFTH))
        assert len(shares) == 0 and list(shares) == list(SHARE_COLUMNS)


@pytest.mark.usefixtures("all_seen")
def test_intervals_cover_the_truth_of_small_videos(monkeypatch: pytest.MonkeyPatch) -> None:
    # Videos drawn from the model: their shares from its prior, people and what they are seen as by chance.
    monkeypatch.setattr(shares_module, "_DRAWS", 200)
    random = np.random.default_rng(11)
    settings = Settings()
    reading = calibration({"female": [150, 850], "male": [900, 100]}, wrong_ages=0.3)
    ages = reading.age_confusion(settings.bands)
    prior = 20 * ages.counts.sum(axis=1) / ages.counts.sum()
    years_of = [[y for y in YEARS if band.low <= y <= band.high] for band in settings.bands]
    inside: dict[str, list[bool]] = {"people": [], "time": [], "age": []}
    widths = []
    for _ in range(60):
        judged = int(random.integers(8, 40))
        count = judged + 3
        female = random.random(count) < random.beta(10, 10)
        seen = np.where(female, random.random(count) < 0.85, random.random(count) < 0.1)
        band = random.choice(len(prior), count, p=random.dirichlet(prior))
        years = np.array([random.choice(years_of[one]) for one in band], np.float64)
        years_seen = np.where(random.random(count) < 0.3, np.minimum(years + 10, YEARS[-1]), years)
        times = random.uniform(1, 30, count)
        people = people_of(seen[:judged], unjudged=3, ages=years_seen[:judged], on_screen_s=times)
        shares = estimate_shares(people, settings, reading)
        sane(shares, settings)
        women, thirties = row(shares), row(shares, "25-34")
        for kind, one, name, truth in (
            ("people", women, "people", female.mean()),
            ("time", women, "time", female @ times / times.sum()),
            ("age", thirties, "people", (band == 3).mean()),
        ):
            inside[kind].append(bool(one[f"{name}_low"] - 1e-9 <= truth <= one[f"{name}_high"] + 1e-9))
        widths.append(women["people_high"] - women["people_low"])
    for kind, hits in inside.items():
        assert np.mean(hits) >= 0.85, kind
    # They say something all the same.
    assert INTERVAL == 0.95 and np.mean(widths) < 0.45
