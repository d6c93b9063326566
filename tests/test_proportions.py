"""Shares with their error bars, against people whose true classes are known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from analyzer.people import proportions
from analyzer.people.proportions import (
    FEW_PEOPLE,
    INTERVAL,
    SHARE_COLUMNS,
    draw_proportions,
    estimate_proportions,
    in_words,
    interval,
    share_table,
)
from analyzer.settings import AGE_BANDS, Settings
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
        child_years=12.0,
    )


def people_of(
    seen_female: NDArray[np.bool_] | list[bool],
    not_estimated: int = 0,
    ages: NDArray[np.float64] | None = None,
    on_screen_s: NDArray[np.float64] | None = None,
) -> pd.DataFrame:
    count = len(seen_female)
    female = np.where(np.asarray(seen_female, bool), 0.9, 0.1)
    years = np.full(count, 30.0) if ages is None else ages
    gap = np.full(not_estimated, np.nan)
    return pd.DataFrame(
        {
            "person_id": np.arange(1, count + not_estimated + 1),
            "female_prob": np.concatenate([female, gap]),
            "age_years": np.concatenate([years, gap]),
            "on_screen_s": np.ones(count + not_estimated) if on_screen_s is None else on_screen_s,
            "estimated_samples": [5] * count + [0] * not_estimated,
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
    monkeypatch.setattr(proportions, "_WEIGHT_SHAPE", 1e12)


@pytest.mark.usefixtures("all_seen")
def test_with_networks_that_are_never_wrong_shares_are_counts() -> None:
    ages = np.array([10.0] * 10 + [30.0] * 25 + [70.0] * 5)
    people = people_of([True] * 30 + [False] * 10, ages=ages)
    shares = estimate_proportions(people, Settings(gender_of_children=True), calibration(PERFECT))
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
    found = row(estimate_proportions(people_of(seen), Settings(), calibration(FIFTH)))
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
    found = row(estimate_proportions(people_of(seen), Settings(), calibration(PERFECT)))
    spread = np.sqrt(0.75 * 0.25 / count) / 2
    for kind in ("people", "time"):
        assert found[f"{kind}_share"] == pytest.approx(0.75, abs=0.01)
        assert found[f"{kind}_high"] - found[f"{kind}_low"] == pytest.approx(2 * 1.96 * spread, rel=0.15)
    # Who is on screen for most of the time is most of the uncertainty.
    times = np.where(np.arange(count) < 2, 1000.0, 1.0)
    found = row(estimate_proportions(people_of(seen, on_screen_s=times), Settings(), calibration(PERFECT)))
    assert found["time_high"] - found["time_low"] > 2 * (found["people_high"] - found["people_low"])


def test_many_people_outweigh_the_prior_of_ages() -> None:
    # All are thirty; a third is seen as forty, as is known of the networks.
    ages = np.where(np.arange(300) % 10 < 3, 40.0, 30.0)
    reading = calibration(PERFECT, wrong_ages=0.3)
    shares = estimate_proportions(people_of([True] * 300, ages=ages), Settings(), reading)
    assert row(shares, "25-34")["people_share"] > 0.85
    # Of a few people the prior keeps it open.
    few = estimate_proportions(people_of([True] * 5, ages=np.full(5, 40.0)), Settings(), reading)
    assert 0.1 < row(few, "25-34")["people_share"] < 0.6 < row(few, "25-34")["people_high"]


def test_networks_that_say_nothing_leave_a_wide_interval() -> None:
    blind: Counts = {"female": [500, 500], "male": [500, 500]}
    seen = [True] * 50
    sharp = row(estimate_proportions(people_of(seen), Settings(), calibration(FIFTH)))
    wide = row(estimate_proportions(people_of(seen), Settings(), calibration(blind)))
    assert wide["people_high"] - wide["people_low"] > 0.35
    assert wide["people_high"] - wide["people_low"] > 1.5 * (sharp["people_high"] - sharp["people_low"])


def test_few_labeled_faces_leave_a_wider_interval() -> None:
    few: Counts = {"female": [4, 16], "male": [16, 4]}
    seen = [True] * 240 + [False] * 160
    many = row(estimate_proportions(people_of(seen), Settings(), calibration(FIFTH)))
    wide = row(estimate_proportions(people_of(seen), Settings(), calibration(few)))
    assert wide["people_high"] - wide["people_low"] > 1.5 * (many["people_high"] - many["people_low"])


@pytest.mark.usefixtures("all_seen")
def test_people_who_could_not_be_judged_widen_the_interval() -> None:
    seen = [True] * 20 + [False] * 20
    estimated, some, many = (
        row(estimate_proportions(people_of(seen, not_estimated=n), Settings(), calibration(PERFECT)))
        for n in (0, 10, 80)
    )
    widths = [one["people_high"] - one["people_low"] for one in (estimated, some, many)]
    assert widths[0] < 0.01 and widths[0] + 0.03 < widths[1] < widths[2] - 0.03
    # They are as the others are, not half of each.
    lone = row(
        estimate_proportions(people_of([True] * 60, not_estimated=60), Settings(), calibration(PERFECT))
    )
    assert lone["people_share"] > 0.9


@pytest.mark.usefixtures("all_seen")
def test_shares_of_time_weigh_by_time() -> None:
    times = np.array([9.0] * 10 + [1.0] * 30)
    people = people_of([True] * 10 + [False] * 30, on_screen_s=times)
    found = row(estimate_proportions(people, Settings(), calibration(PERFECT)))
    assert found["people_share"] == pytest.approx(0.25, abs=0.005)
    assert found["time_share"] == pytest.approx(90 / 120, abs=0.005)
    # One who cannot be judged and is on screen all the time leaves the time open, the people hardly.
    people = people_of([True] * 10 + [False] * 30, not_estimated=1, on_screen_s=np.append(times, 1000))
    found = row(estimate_proportions(people, Settings(), calibration(PERFECT)))
    assert found["time_high"] - found["time_low"] > 0.8
    assert found["people_high"] - found["people_low"] < 0.05


def test_where_all_are_men_no_woman_is_possible() -> None:
    # Seen as the labeled men are seen.
    reading = Calibration.load()
    confusion = reading.gender_confusion()
    seen = confusion.counts[confusion.classes.index("male")]
    numbers = np.diff(np.round(np.cumsum(np.append(0, seen)) / seen.sum() * 400)).astype(int)
    people = people_of([False] * 400)
    edges = np.array([0, *confusion.edges, 1])
    people["female_prob"] = np.repeat((edges[1:] + edges[:-1]) / 2, numbers)
    assert row(estimate_proportions(people, Settings(), reading))["people_low"] < 0.002


def random_people(count: int, not_estimated: int) -> pd.DataFrame:
    random = np.random.default_rng(count)
    people = people_of(
        [True] * count,
        not_estimated=not_estimated,
        ages=random.uniform(0, 80, count),
        on_screen_s=random.uniform(1, 60, count + not_estimated),
    )
    people.loc[people["estimated_samples"] > 0, "female_prob"] = random.random(count)
    return people


@pytest.mark.parametrize("bands", AGE_BANDS)
@pytest.mark.parametrize("count", [7, 30, 100])
def test_shares_are_shares_with_the_real_calibration(bands: str, count: int) -> None:
    settings = Settings(age_bands=bands)
    people = random_people(count, count // 3)
    shares = estimate_proportions(people, settings, Calibration.load())
    sane(shares, settings)
    pd.testing.assert_frame_equal(shares, estimate_proportions(people, settings, Calibration.load()))


@pytest.mark.parametrize("count", [1, 2])
def test_shares_of_very_few_people_lie_in_their_intervals(count: int) -> None:
    draws = draw_proportions(
        random_people(count, 0), Settings(), Calibration.load(), groups=np.zeros(count, np.int64)
    )
    sane(shares := share_table(draws, 0), Settings())
    assert shares["people_share"].between(shares["people_low"], shares["people_high"]).all()


@pytest.mark.usefixtures("all_seen")
def test_who_looks_like_a_child_says_nothing_about_gender_unless_asked() -> None:
    people = people_of([True] * 20 + [False] * 20, ages=np.array([8.0] * 20 + [30.0] * 20))
    silent = row(estimate_proportions(people, Settings(), calibration(PERFECT)))
    asked = row(estimate_proportions(people, Settings(gender_of_children=True), calibration(PERFECT)))
    assert silent["people_share"] < 0.1 and asked["people_share"] == pytest.approx(0.5, abs=0.01)


def test_a_class_seen_on_a_border_is_in_the_upper_category() -> None:
    people = people_of([True] * 10)
    people["female_prob"] = 0.5
    found = row(estimate_proportions(people, Settings(), calibration(PERFECT)))
    assert found["people_share"] > 0.99


def test_sentence_says_what_the_table_says() -> None:
    people = random_people(30, 5)
    shares = estimate_proportions(people, Settings(), Calibration.load())
    found = row(shares)
    told = in_words(shares, people)
    for kind in ("people", "time"):
        share, low, high = (found[f"{kind}_{name}"] for name in ("share", "low", "high"))
        assert f"{100 * share:.0f} %" in told and f"({100 * low:.0f} % to {100 * high:.0f} %)" in told
    assert in_words(shares, people.head(FEW_PEOPLE - 1)) == ""


def test_of_fewer_judged_people_than_five_no_share_is_stated() -> None:
    enough = people_of([True] * FEW_PEOPLE, not_estimated=3)
    assert len(estimate_proportions(enough, Settings(), calibration(FIFTH)))
    for people in (
        people_of([]),
        people_of([], not_estimated=9),
        people_of([True] * (FEW_PEOPLE - 1), not_estimated=9),
    ):
        shares = estimate_proportions(people, Settings(), calibration(FIFTH))
        assert len(shares) == 0 and list(shares) == list(SHARE_COLUMNS)


@pytest.mark.usefixtures("all_seen")
def test_intervals_cover_the_truth_of_small_videos(monkeypatch: pytest.MonkeyPatch) -> None:
    # Videos drawn from the model: their shares from its prior, people and what they are seen as by chance.
    monkeypatch.setattr(proportions, "_DRAWS", 200)
    random = np.random.default_rng(11)
    settings = Settings()
    reading = calibration({"female": [150, 850], "male": [900, 100]}, wrong_ages=0.3)
    ages = reading.age_confusion(settings.bands)
    prior = 20 * ages.counts.sum(axis=1) / ages.counts.sum()
    years_of = [[y for y in YEARS if band.low <= y <= band.high] for band in settings.bands]
    inside: dict[str, list[bool]] = {"people": [], "time": [], "age": []}
    widths = []
    for _ in range(60):
        estimated = int(random.integers(8, 40))
        count = estimated + 3
        female = random.random(count) < random.beta(10, 10)
        seen = np.where(female, random.random(count) < 0.85, random.random(count) < 0.1)
        band = random.choice(len(prior), count, p=random.dirichlet(prior))
        years = np.array([random.choice(years_of[one]) for one in band], np.float64)
        years_seen = np.where(random.random(count) < 0.3, np.minimum(years + 10, YEARS[-1]), years)
        times = random.uniform(1, 30, count)
        people = people_of(seen[:estimated], not_estimated=3, ages=years_seen[:estimated], on_screen_s=times)
        shares = estimate_proportions(people, settings, reading)
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


# --- groups of people -------------------------------------------------------------------------------------


def female_draws(
    people: pd.DataFrame, groups: NDArray[np.int64], clusters: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """(draws, G, W): shares of women with the real calibration."""
    gender, _ = draw_proportions(people, Settings(), Calibration.load(), groups=groups, clusters=clusters)
    assert gender.dimension == "gender"
    return gender.values[..., gender.classes.index("female")]


def test_one_group_is_drawn_as_one_video_is() -> None:
    people = random_people(30, 4)
    draws = draw_proportions(people, Settings(), Calibration.load(), groups=np.zeros(34, np.int64))
    assert [(one.dimension, one.values.shape[1:]) for one in draws] == [
        ("gender", (1, 2, 2)),
        ("age", (1, 2, 8)),
    ]
    for one in draws:
        np.testing.assert_allclose(one.values.sum(axis=-1), 1)
    pd.testing.assert_frame_equal(
        share_table(draws, 0), estimate_proportions(people, Settings(), Calibration.load())
    )


def test_the_same_people_have_the_same_shares_wherever_they_are() -> None:
    sizes = [40, 7, 90, 0, 25]  # of the fourth there is nobody
    parts = [random_people(size, size // 5) if size else people_of([]) for size in sizes]
    everybody = pd.concat(parts, ignore_index=True)
    groups = np.repeat(np.arange(5), [len(part) for part in parts])
    videos = np.random.default_rng(4).integers(0, 9, len(groups))
    order = np.random.default_rng(3).permutation(len(groups))
    some = draw_proportions(everybody, Settings(), Calibration.load(), groups=groups)
    # Neither the order of the people matters, nor that of the groups, nor whether videos are drawn as well.
    mixed = draw_proportions(
        everybody.iloc[order], Settings(), Calibration.load(), groups=4 - groups[order], clusters=videos
    )
    for number, part in enumerate(parts):
        if part.empty:
            assert all(np.isnan(one.values[:, number]).all() for one in some)
            continue
        alone = estimate_proportions(part, Settings(), Calibration.load())
        pd.testing.assert_frame_equal(share_table(some, number), alone, rtol=1e-9)
        pd.testing.assert_frame_equal(share_table(mixed, 4 - number), alone, rtol=1e-9)


def test_many_small_videos_have_the_share_of_all_their_people() -> None:
    # Each drawn alone leans to the prior; all people in one group do not.
    seen = np.arange(300) % 10 < 8
    shares = female_draws(people_of(seen), np.zeros(300, np.int64))[:, 0, 0]
    single = female_draws(people_of(seen[:1]), np.zeros(1, np.int64))[:, 0, 0]
    # About 0.8: nobody is seen as anything but 0.9 or 0.1, and that happens to women and men unequally often.
    assert abs(shares.mean() - 0.8) < 0.12 and single.std() > 4 * shares.std()


def test_errors_of_the_networks_are_the_same_in_all_groups() -> None:
    # Two groups seen alike: what is not known of the networks shifts both, and hardly their difference.
    few: Counts = {"female": [4, 16], "male": [16, 4]}
    seen = np.arange(800) % 5 < 3
    gender, _ = draw_proportions(people_of(seen), Settings(), calibration(few), groups=np.arange(800) // 400)
    one, other = (gender.values[:, number, 0, gender.classes.index("female")] for number in range(2))
    assert np.corrcoef(one, other)[0, 1] > 0.6
    assert (one - other).std() < one.std()  # of independent ones it would be 1.4 times


def test_clusters_say_how_much_it_depends_on_which_videos_there_are() -> None:
    # Ten videos of twenty people: in five all are women, in five men; or half of each in every one.
    videos = np.arange(200) // 20
    apart, mixed = videos % 2 == 0, np.arange(200) % 2 == 0
    nobody = np.zeros(200, np.int64)
    widths = {}
    for name, seen in (("apart", apart), ("mixed", mixed)):
        drawn = female_draws(people_of(seen), nobody, videos)[:, 0]
        assert drawn.shape == (400, 4)
        means, low, high = interval(drawn)
        np.testing.assert_allclose(means, 0.5, atol=0.05)
        widths[name] = high - low
    # By people and by time; then the same with the videos drawn anew.
    plain, drawn = widths["apart"][:2], widths["apart"][2:]
    assert (drawn > 2 * plain).all()
    # Standard error of a mean of ten values of 0 and 1, by the Bayesian bootstrap.
    assert drawn == pytest.approx(np.full(2, 2 * 1.96 * 0.5 / np.sqrt(11)), rel=0.25)
    assert widths["mixed"][2:] == pytest.approx(widths["mixed"][:2], rel=0.5)


@pytest.mark.parametrize("people", [people_of([]), people_of([], not_estimated=3)])
def test_draws_of_nobody(people: pd.DataFrame) -> None:
    draws = draw_proportions(people, Settings(), Calibration.load(), groups=np.zeros(len(people), np.int64))
    assert [one.values.shape[1] for one in draws] == [1, 1]
    assert np.isnan(draws[0].values).all() == people.empty


def test_interval_keeps_to_bounds_and_to_the_mean() -> None:
    draws = np.linspace(-0.5, 1.5, 2001)[:, None]
    mean, low, high = interval(draws)
    assert (mean, low, high) == (pytest.approx([0.5]), pytest.approx([0]), pytest.approx([1]))
    mean, low, high = interval(draws, (-10, 10))
    assert (low, high) == (pytest.approx([-0.45]), pytest.approx([1.45]))
    mean, low, high = interval(draws, (0, np.inf))
    assert (low, high) == (pytest.approx([0]), pytest.approx([1.45]))
    # But one draw of a hundred is zero, or one: the mean lies outside of the middle 95 %, and is taken in.
    rare = np.zeros((100, 2))
    rare[0, 0] = rare[1:, 1] = 1
    mean, low, high = interval(rare)
    assert mean == pytest.approx([0.01, 0.99])
    assert low == pytest.approx([0, 0.99]) and high == pytest.approx([0.01, 1])


def test_intervals_cover_the_truth_of_many_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    # People of known genders, seen as the labeled people of their gender were seen by the networks.
    monkeypatch.setattr(proportions, "_DRAWS", 200)
    random = np.random.default_rng(21)
    confusion = Calibration.load().gender_confusion()
    chances = confusion.counts / confusion.counts.sum(axis=1, keepdims=True)
    edges = np.array([0, *confusion.edges, 1])
    women, men = (confusion.classes.index(name) for name in ("female", "male"))
    count = 60
    sizes = random.integers(12, 60, count)
    groups = np.repeat(np.arange(count), sizes)
    female = random.random(len(groups)) < random.uniform(0.1, 0.9, count)[groups]
    seen = np.array([random.choice(len(edges) - 1, p=chances[women if one else men]) for one in female])
    times = random.uniform(2, 40, len(groups))
    people = people_of(female, on_screen_s=times).assign(female_prob=((edges[1:] + edges[:-1]) / 2)[seen])
    drawn = female_draws(people, groups)
    _, low, high = interval(drawn)
    for kind, weights in enumerate((np.ones(len(groups)), times)):
        truth = np.bincount(groups, weights * female) / np.bincount(groups, weights)
        inside = (low[:, kind] <= truth) & (truth <= high[:, kind])
        assert inside.mean() >= 0.85
        assert np.abs(drawn[:, :, kind].mean(axis=0) - truth).mean() < 0.06
    assert (high - low).mean() < 0.35  # and they say something
