"""The figures of reports, against plans that are known and against the tables of real runs.

Whatever is expected is computed here anew, in plain loops or with pandas.
"""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from analyzer import Run, analyze
from analyzer.cli.report import describe_report
from analyzer.people import proportions
from analyzer.people.proportions import UNMEASURED, estimate_proportions
from analyzer.people.timeline import sample_durations
from analyzer.report import Chosen, make_report
from analyzer.report.dataset import Corpus, find_runs
from analyzer.report.document import AttentionRow, Document, Figures
from analyzer.report.figures import AUDIENCE_FIGURES, ESTIMATED, FIGURES, TOO_FEW, why_not
from analyzer.report.groups import Groups
from analyzer.report.html import page
from analyzer.report.markdown import markdown
from analyzer.report.metrics import Metrics
from analyzer.report.population import Population
from analyzer.report.privacy import suppressed
from analyzer.report.shares import Shares
from analyzer.report.trends import COMPARED, Trends
from analyzer.runs.schema import PEOPLE
from analyzer.runs.tables import write_parquet
from analyzer.settings import AGE_BANDS, Settings, assign_band
from analyzer.util.validation import Limits, conform
from analyzer.vision.calibration import DEFAULT_KEY, Calibration, calibration_file, key_of
from analyzer.vision.registry import MODELS_VARIABLE
from testkit import runs
from testkit.media import write_video
from testkit.runs import Plan, make_run, random_plan
from tests.conftest import clip

Row = dict[str, Any]
Stretch = tuple[float, float]
GAP_S = 2.0
BANDS = AGE_BANDS["youtube"]
NAMES = [band.name for band in BANDS]


@cache
def some_shares() -> pd.DataFrame:
    """A shares table for runs in which the shares do not matter: drawing them takes long."""
    people = pd.DataFrame(
        {"female_prob": 0.9, "age_years": 30.0, "on_screen_s": 1.0, "estimated_samples": 1}, index=range(5)
    )
    return estimate_proportions(people, Settings(), Calibration.load())


def run_of(folder: Path, plan: Plan, settings: Settings | None = None, **info: Any) -> Path:
    """The plan's run folder, with a shares table that does not fit it."""
    settings = settings or Settings(formats=("parquet",))
    return make_run(folder, plan, settings, shares=some_shares(), **info)


@pytest.fixture
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that do not depend on the shares: they are drawn a few times only."""
    monkeypatch.setattr(proportions, "_DRAWS", 20)
    monkeypatch.setattr(proportions, "_BURN_IN", 5)


def document(paths: Path | Sequence[Path], **options: Any) -> Row:
    """The report's document, as JSON knows it, after a check against its types."""
    made = make_report([paths] if isinstance(paths, Path) else paths, **options).document
    known: Row = json.loads(json.dumps(made, allow_nan=False))
    assert known == made
    conform(known, Document, "", Limits(known_keys_only=True))
    return known


def test_the_types_have_every_figure() -> None:
    assert list(get_type_hints(Figures)) == ["suppressed", *(figure.name for figure in FIGURES)]
    audience = [figure.name for figure in AUDIENCE_FIGURES]
    assert list(get_type_hints(AttentionRow)) == ["group", *audience, "attention_unknown"]


def walk(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(value, dict):
        for key, inside in value.items():
            yield from walk(inside, (*path, key))
    elif isinstance(value, list):
        for number, inside in enumerate(value):
            yield from walk(inside, (*path, number))
    else:
        yield path, value


# --- truth --------------------------------------------------------------------------------------------


def stated_gender(probability: float, age: float) -> str:
    if age < 12 or 0.3 < probability < 0.7:
        return "unknown"
    return "female" if probability > 0.5 else "male"


def joined(stretches: Iterable[Stretch]) -> list[list[float]]:
    """Stretches in the order of time, with gaps of up to 2 s filled."""
    found: list[list[float]] = []
    for start, end in stretches:
        if found and start - found[-1][1] <= GAP_S + 1e-9:
            found[-1][1] = end
        else:
            found.append([start, end])
    return found


class Truth:
    """What a plan's report must say."""

    def __init__(self, plan: Plan, durations: NDArray[np.float64] | None = None) -> None:
        times = plan.times_s.tolist()
        if durations is None:
            durations = np.diff(np.append(plan.times_s, plan.end_s))
        self.samples = list(zip(times, durations.tolist(), plan.present.tolist(), strict=True))
        self.genders = [
            stated_gender(probability, age)
            for probability, age in zip(plan.female_prob, plan.age_years, strict=True)
        ]
        self.ages = plan.age_years.tolist()
        self.bands = [assign_band(float(np.float32(age)), BANDS) for age in plan.age_years]
        self.count = len(self.ages)

    def seconds(self, condition: Any) -> float:
        """For how long a condition on the list of those on screen holds."""
        return math.fsum(
            stands
            for _, stands, present in self.samples
            if condition([number for number, here in enumerate(present) if here])
        )

    @property
    def analyzed_s(self) -> float:
        return self.seconds(lambda here: True)

    def mixed(self, here: list[int]) -> bool:
        return {"female", "male"} <= {self.genders[number] for number in here}

    def crowd_s(self) -> float:
        return math.fsum(stands * sum(present) for _, stands, present in self.samples)

    def on_screen_s(self, person: int) -> float:
        return self.seconds(lambda here: person in here)

    def spans(self, person: int | None = None) -> list[list[float]]:
        """Of one person, or of anybody."""
        return joined(
            (time, time + stands)
            for time, stands, present in self.samples
            if (any(present) if person is None else present[person])
        )

    def first_s(self) -> float | None:
        return next((time for time, _, present in self.samples if any(present)), None)

    def longest_person(self) -> tuple[float, int, float, float] | None:
        """Its length, the person (from 1), start and end: the earliest of the longest."""
        every = [
            (-round(end - start, 6), start, person + 1, end)
            for person in range(self.count)
            for start, end in self.spans(person)
        ]
        if not every:
            return None
        length, start, person, end = min(every)
        return -length, person, start, end


def total_of(truths: Sequence[Truth]) -> Row:
    """The figures of videos together, but for shares, which are estimates."""
    analyzed = math.fsum(one.analyzed_s for one in truths)
    ages = sorted(float(np.float32(age)) for one in truths for age in one.ages)
    firsts = sorted(first for one in truths if (first := one.first_s()) is not None)
    genders = [gender for one in truths for gender in one.genders]

    def median(values: list[float]) -> float | None:
        middle = len(values) // 2
        if not values:
            return None
        return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2

    def share(seconds: float) -> float | None:
        return seconds / analyzed if analyzed else None

    people = sum(one.count for one in truths)
    return {
        "videos": len(truths),
        "analyzed_s": analyzed,
        "people": people,
        "people_low": people,
        "people_high": people + len(truths),
        "people_per_video": people / len(truths),
        "on_screen_s": math.fsum(one.on_screen_s(person) for one in truths for person in range(one.count)),
        "occupancy": share(math.fsum(one.seconds(bool) for one in truths)),
        "co_presence": share(math.fsum(one.seconds(lambda here: len(here) > 1) for one in truths)),
        "mixed": share(math.fsum(one.seconds(one.mixed) for one in truths)),
        "concurrent_mean": share(math.fsum(one.crowd_s() for one in truths)),
        "concurrent_peak": max((sum(here) for one in truths for *_, here in one.samples), default=0),
        "first_s": median(firsts),
        "longest_occupancy_s": max(
            (end - start for one in truths for start, end in one.spans()), default=None
        ),
        "longest_person_s": max(
            (found[0] for one in truths if (found := one.longest_person())), default=None
        ),
        "female": genders.count("female"),
        "male": genders.count("male"),
        "unknown_gender": genders.count("unknown"),
        "age_median_years": median(ages),
    }


def assert_figures(row: Row, expected: Row) -> None:
    for name, value in expected.items():
        if value is None:
            assert row[name] is None, name
        else:
            assert row[name] == pytest.approx(value, rel=1e-6, abs=1e-6), name
            assert isinstance(row[name], int) or not isinstance(value, int) or name == "people_per_video"


# --- plans --------------------------------------------------------------------------------------------


def regular() -> Plan:
    return random_plan(np.random.default_rng(1), length_s=60, people=7, concurrent=2)


def irregular() -> Plan:
    """Variable frame rate: samples 0.03 to 1 s apart, twice with a picture that is held for longer."""
    random = np.random.default_rng(2)
    gaps = random.uniform(0.03, 1.0, 220)
    gaps[[60, 150]] = 5.3, 2.0
    times = np.concatenate([[0.0], np.cumsum(gaps)])
    present = random.random((len(times), 6)) < 0.1
    for start, person in ((20, 0), (59, 1), (100, 2), (149, 3), (200, 4), (3, 5)):
        present[start : start + 12, person] = True
    present[120:132] = False
    order = np.argsort(present.argmax(axis=0), kind="stable")
    return Plan(times, times[-1] + 0.7, present[:, order], random.random(6), random.uniform(5, 80, 6))


def gaps_of_two() -> Plan:
    """The first is away for exactly 2 s, again and again; the second for 2.2 s; both begin after a while."""
    times = np.arange(10 * 5 * 6) / 5
    present = np.zeros((len(times), 2), bool)
    for start in range(6, len(times) - 20, 13):
        present[start : start + 3, 0] = True
    for start in range(10, len(times) - 20, 14):
        present[start : start + 3, 1] = True
    return Plan(times, 60.0, present, np.array([0.9, 0.1]), np.array([30.0, 11.0]))


def nobody() -> Plan:
    times = np.arange(50) / 5
    return Plan(times, 10.0, np.zeros((50, 0), bool), np.zeros(0), np.zeros(0))


PLANS = {"regular": regular, "irregular": irregular, "gaps of 2 s": gaps_of_two, "nobody": nobody}


@pytest.fixture(params=PLANS)
def plan(request: pytest.FixtureRequest) -> Plan:
    return PLANS[request.param]()


def lost_pieces() -> tuple[Plan, NDArray[np.float64]]:
    """Pictures lost for 7 s and for 1.4 s: nothing is known there; with the durations that samples have."""
    whole = regular()
    times = whole.times_s
    kept = ~((times >= 12) & (times < 19)) & ~((times >= 33) & (times < 34.4))
    kept[(times > 50) & (times < 51.5)] = False
    present = whole.present[kept]
    order = np.argsort(present.argmax(axis=0), kind="stable")  # numbered by first appearance
    plan = dataclasses.replace(whole, times_s=times[kept], present=present[:, order])
    # A sample stands for at most twice the usual distance; the last one for the usual one.
    lengths = [min(after - time, 0.4) for time, after in itertools.pairwise(plan.times_s.tolist())]
    return plan, np.array([*lengths, 0.2])


@pytest.fixture
def damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are made as of damaged videos: gaps are losses."""
    monkeypatch.setattr(
        runs,
        "sample_durations",
        lambda times, end, gaps_are_losses: sample_durations(times, end, gaps_are_losses=True),
    )


# --- one video ------------------------------------------------------------------------------------------


def check_one_video(made: Row, truth: Truth) -> None:
    """All that a report says of one video, against the truth."""
    expected = total_of([truth])
    assert_figures(made["total"], expected)
    assert_figures(made["videos"][0], expected)
    assert made["kind"] == "video" and made["groups"] is None and made["trend"] is None
    analyzed = truth.analyzed_s

    longest = truth.longest_person()
    told = made["videos"][0]["longest_person"]
    if longest is None:
        assert told is None
    else:
        assert told == {
            "person_id": longest[1],
            "start_s": pytest.approx(longest[2]),
            "end_s": pytest.approx(longest[3]),
        }

    concurrent: dict[int, float] = {}
    for _, stands, present in truth.samples:
        concurrent[sum(present)] = concurrent.get(sum(present), 0.0) + stands
    assert [row["people"] for row in made["concurrent"]] == sorted(concurrent)
    for row in made["concurrent"]:
        assert row["time_s"] == pytest.approx(concurrent[row["people"]])
        assert row["share"] == pytest.approx(concurrent[row["people"]] / analyzed)

    people = made["people"]
    assert [row["person_id"] for row in people] == list(range(1, truth.count + 1))
    assert [row["first_s"] for row in people] == sorted(row["first_s"] for row in people)
    for number, row in enumerate(people):
        stretches = truth.spans(number)
        assert row["spans"] == [[round(start, 3), round(end, 3)] for start, end in stretches]
        assert row["appearances"] == len(stretches)
        assert (row["first_s"], row["last_s"]) == pytest.approx((stretches[0][0], stretches[-1][1]))
        assert row["on_screen_s"] == pytest.approx(truth.on_screen_s(number))
        assert row["gender"] == truth.genders[number] and row["age_band"] == truth.bands[number]
        assert row["age_years"] == pytest.approx(truth.ages[number], rel=1e-6)

    pairs = []
    for a, b in itertools.combinations(range(truth.count), 2):
        if seconds := truth.seconds(lambda here, a=a, b=b: a in here and b in here):
            pairs.append((-round(seconds, 6), a + 1, b + 1))
    assert [(row["a"], row["b"]) for row in made["pairs"]] == [pair[1:] for pair in sorted(pairs)]
    assert [row["co_presence_s"] for row in made["pairs"]] == pytest.approx(
        [-pair[0] for pair in sorted(pairs)]
    )

    cells = {
        (gender, band): [
            number
            for number in range(truth.count)
            if (truth.genders[number], truth.bands[number]) == (gender, band)
        ]
        for gender in ("female", "male", "unknown")
        for band in [*NAMES, "unknown"]
    }
    assert [(row["gender"], row["band"]) for row in made["pyramid"]] == list(cells)
    for row in made["pyramid"]:
        mine = cells[row["gender"], row["band"]]
        assert row["people"] == len(mine)
        assert row["on_screen_s"] == pytest.approx(math.fsum(map(truth.on_screen_s, mine)))


def test_one_video_is_told_as_it_is_planned(plan: Plan, tmp_path: Path) -> None:
    made = document(run_of(tmp_path / "one", plan))
    check_one_video(made, Truth(plan))
    assert made["videos"][0]["analyzed_share"] == pytest.approx(1)
    assert made["concurrent"] == [] or math.fsum(row["share"] for row in made["concurrent"]) == pytest.approx(
        1
    )


@pytest.mark.usefixtures("damaged")
def test_what_was_lost_counts_for_nobody(tmp_path: Path) -> None:
    plan, durations = lost_pieces()
    run = Run.load(run_of(tmp_path / "lost", plan))
    change = {"video": run.info["video"] | {"duration_s": 60.0}}
    made = document(run_of(tmp_path / "lost", plan, **change))
    truth = Truth(plan, durations)
    assert truth.analyzed_s < 53
    check_one_video(made, truth)
    assert made["videos"][0]["analyzed_share"] == pytest.approx(truth.analyzed_s / 60)
    # A loss of 7 s ends every appearance.
    for row in made["people"]:
        assert not any(start < 15 < end for start, end in row["spans"])


def test_two_seconds_of_absence_end_no_stretch(tmp_path: Path) -> None:
    made = document(run_of(tmp_path / "two", gaps_of_two()))
    first, second = made["people"]
    assert len(first["spans"]) == 1 and len(second["spans"]) > 10
    assert made["total"]["longest_person_s"] == pytest.approx(first["last_s"] - first["first_s"])
    # The other is there in between: for anybody it is longer than for the one.
    assert made["total"]["longest_occupancy_s"] >= made["total"]["longest_person_s"]


@pytest.mark.parametrize("frame_s", [1 / 29.97, 1 / 7])
def test_two_seconds_are_two_whatever_the_last_bit_of_the_times(frame_s: float, tmp_path: Path) -> None:
    # Pictures at the times of a real container, one of them held for exactly 2 s without the person.
    times: list[float] = []
    present = []
    time = 0.0
    for number in range(240):
        times.append(round(time, 9))
        time += 2.0 if number % 4 == 3 else frame_s
        present.append(number % 4 != 3)
    plan = Plan(np.array(times), times[-1] + 1, np.array(present)[:, None], np.array([0.9]), np.array([30.0]))
    (person,) = document(run_of(tmp_path / "held", plan))["people"]
    assert len(person["spans"]) == 1


def windows(truth: Truth, run: str) -> list[Row]:
    """Windows of 10 s that are known for at least 5 s, or as long as the video is."""
    found = []
    for number in range(int(truth.samples[-1][0] // 10) + 1):
        mine = [one for one in truth.samples if one[0] // 10 == number]
        known = math.fsum(stands for _, stands, _ in mine)
        if not mine or known < min(5, truth.analyzed_s):
            continue
        people = math.fsum(stands * sum(present) for _, stands, present in mine) / known
        end = min(10 * number + 10.0, mine[-1][0] + mine[-1][1])
        peak = max(mine, key=lambda one: sum(one[2]))  # the first of them
        found.append({"run": run, "start_s": 10.0 * number, "end_s": end, "people": people})
        found[-1] |= {"peak_s": peak[0], "peak_people": sum(peak[2])}
    kept = [one for one in found if one["people"]]
    return sorted(kept, key=lambda one: (-round(one["people"], 9), one["start_s"]))


def assert_windows(found: list[Row], expected: list[Row]) -> None:
    assert len(found) == len(expected)
    for row, wanted in zip(found, expected, strict=True):
        assert row == {key: pytest.approx(value) if key != "run" else value for key, value in wanted.items()}


@pytest.mark.usefixtures("damaged")
def test_busiest_moments_are_windows_of_ten_seconds(tmp_path: Path) -> None:
    plan, durations = lost_pieces()
    truths = {
        "a": Truth(random_plan(np.random.default_rng(5), length_s=94, people=9, concurrent=3)),
        "b": Truth(plan, durations),
        "c": Truth(nobody()),
    }
    run_of(tmp_path / "a", random_plan(np.random.default_rng(5), length_s=94, people=9, concurrent=3))
    run_of(tmp_path / "b", plan)
    run_of(tmp_path / "c", nobody())
    for name, truth in truths.items():
        # The window of 10 to 20 s of b is known for 2.4 s only.
        assert_windows(document(tmp_path / name)["moments"], windows(truth, name)[:5])
    assert 10.0 not in [row["start_s"] for row in windows(truths["b"], "b")]
    best = [one for name in "ab" for one in windows(truths[name], name)[:1]]
    best.sort(key=lambda one: -one["people"])
    assert_windows(document(tmp_path)["moments"], best)


@pytest.mark.usefixtures("few_draws")
def test_the_day_of_the_analysis_is_noted_where_days_matter(tmp_path: Path) -> None:
    for name in ("a", "b"):
        run_of(tmp_path / name, simple_plan(15, [True, False]), uploaded=None)

    def noted(**how: Any) -> bool:
        return any("day of the analysis" in note for note in document(tmp_path, **how)["notes"])

    assert not noted() and not noted(by="channel")
    assert noted(by="week") and noted(chosen=Chosen(since=datetime.date(2000, 1, 1)))


@pytest.mark.usefixtures("few_draws")
def test_equally_busy_moments_are_joined_and_counted(tmp_path: Path) -> None:
    def with_people(*counts: int) -> Plan:
        """Ten seconds with each number of people."""
        present = np.repeat(np.arange(max(counts))[None] < np.array(counts)[:, None], 10, axis=0)
        plan = simple_plan(15, [True] * max(counts))
        times = np.arange(len(present), dtype=float)
        return dataclasses.replace(plan, times_s=times, end_s=float(len(times)), present=present)

    run_of(tmp_path / "same", with_people(2, 2, 2))
    run_of(tmp_path / "ties", with_people(2, 1, 2, 2, 1, *[2, 1] * 6))
    same, ties = document(tmp_path / "same"), document(tmp_path / "ties")
    assert same["moments"] == [] and same["more_moments"] == 0
    assert "busiest" not in describe_report(same)
    assert [(one["start_s"], one["end_s"]) for one in ties["moments"]] == [
        *((20.0, 40.0), (0.0, 10.0), (50.0, 60.0), (70.0, 80.0), (90.0, 100.0)),
    ]
    assert ties["more_moments"] == 3
    assert "and 5 more with 2.0 on average" in describe_report(ties)  # it shows three of them
    assert "And 3 more with 2.0 on average." in markdown(ties)
    assert "And 3 more with 2.0 on average" in page(ties)
    both = document(tmp_path)["moments"]
    assert [(one["run"], one["start_s"], one["end_s"]) for one in both] == [
        *(("same", 0.0, 30.0), ("ties", 20.0, 40.0)),
    ]


@pytest.mark.usefixtures("few_draws")
def test_a_short_video_beside_a_long_one_has_its_busiest_moment(tmp_path: Path) -> None:
    run_of(tmp_path / "long", random_plan(np.random.default_rng(5), length_s=30, people=1, concurrent=1))
    short = Plan(
        times_s=np.arange(6) / 2,
        end_s=2.9,
        present=np.array([[True, False], *[[True, True]] * 2, *[[False, True]] * 3]),
        female_prob=np.array([0.9, 0.1]),
        age_years=np.array([30.0, 40.0]),
    )
    run_of(tmp_path / "short", short)
    first = document(tmp_path)["moments"][0]
    assert (first["run"], first["peak_s"], first["peak_people"]) == ("short", 0.5, 2)


def bins(truth: Truth, bin_s: float, count: int) -> list[set[int]]:
    """Who is on screen in each bin."""
    found: list[set[int]] = [set() for _ in range(count)]
    for time, stands, present in truth.samples:
        for number in range(int(time / bin_s + 1e-9), math.ceil((time + stands) / bin_s - 1e-6)):
            found[number] |= {person for person, here in enumerate(present) if here}
    return found


@pytest.mark.usefixtures("damaged")
def test_timeline_tells_where_nothing_is_known(tmp_path: Path) -> None:
    plan, durations = lost_pieces()
    line = document(run_of(tmp_path / "lost", plan))["timeline"]
    truth = Truth(plan, durations)
    here = bins(truth, 1.0, 60)
    assert line["bin_s"] == 1 and line["start_s"] == [float(one) for one in range(60)]
    assert line["end_s"] == [one + 1.0 for one in range(60)]
    # From 12.2 s on nothing is known until 19; the second between 33 and 34.4 is known for a part.
    unknown = [number for number in range(60) if line["people"][number] is None]
    assert unknown == list(range(13, 19))
    for number in set(range(60)) - set(unknown):
        assert line["people"][number] == len(here[number])
        for gender in ("female", "male", "unknown"):
            column = "unknown_gender" if gender == "unknown" else gender
            assert line[column][number] == sum(truth.genders[one] == gender for one in here[number])
        for band in [*NAMES, "unknown"]:
            assert line["ages"][band][number] == sum(truth.bands[one] == band for one in here[number])


@pytest.mark.parametrize("length_s", [2000, 2001])
def test_bins_are_joined_where_there_are_many(length_s: int, tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    times = np.arange(length_s) + 0.0
    present = np.zeros((length_s, 3), bool)
    for person, start in enumerate((0, 700, 1900)):
        present[start : start + 90, person] = True
    present[:, 0] |= random.random(length_s) < 0.3
    plan = Plan(times, float(length_s), present, np.array([0.9, 0.1, 0.5]), np.array([20.0, 40.0, 60.0]))
    line = document(run_of(tmp_path / "long", plan))["timeline"]
    joined_bins = math.ceil(length_s / 2000)
    points = math.ceil(length_s / joined_bins)
    assert len(line["people"]) == len(line["ages"]["65+"]) == points <= 2000
    assert line["bin_s"] == joined_bins and line["end_s"][-1] == length_s
    for number in range(points):
        mine = present[number * joined_bins : (number + 1) * joined_bins]
        assert line["people"][number] == pytest.approx(mine.sum(axis=1).mean(), abs=6e-4)
        assert line["male"][number] == pytest.approx(mine[:, 1].mean(), abs=6e-4)
        assert line["ages"]["18-24"][number] == pytest.approx(mine[:, 0].mean(), abs=6e-4)


def test_at_most_fifty_pairs_are_told(tmp_path: Path) -> None:
    times = np.arange(60) / 5
    present = np.ones((60, 12), bool)  # 66 pairs
    present[0, 3] = present[:2, 7] = False
    plan = Plan(times, 12.0, present, np.full(12, 0.9), np.full(12, 30.0))
    pairs = document(run_of(tmp_path / "pairs", plan))["pairs"]
    assert len(pairs) == 50
    assert pairs[0] == {"a": 1, "b": 2, "co_presence_s": pytest.approx(12)}
    assert [row["co_presence_s"] for row in pairs[45:]] == pytest.approx([11.8] * 5)


def test_pictures_count_as_a_second_each(tmp_path: Path) -> None:
    plan = Plan(
        np.arange(6) + 0.0,
        6.0,
        np.array([[1, 0], [1, 1], [0, 0], [0, 1], [0, 0], [0, 0]], bool),
        np.array([0.9, 0.1]),
        np.array([30.0, 40.0]),
    )
    made = document(run_of(tmp_path / "pictures", plan, kind="images"))
    check_one_video(made, Truth(plan))
    # Nothing in the report speaks of seconds, so no note need say what a second is.
    assert not any("second" in note for note in made["notes"])
    assert made["images"] and made["videos"][0]["kind"] == "images"


@pytest.mark.usefixtures("few_draws")
def test_a_run_without_any_sample_says_so_little(tmp_path: Path) -> None:
    empty = Plan(np.zeros(0), 0.0, np.zeros((0, 0), bool), np.zeros(0), np.zeros(0))
    made = document(run_of(tmp_path / "empty", empty))
    assert made["total"]["people"] == made["total"]["analyzed_s"] == 0
    assert made["total"]["occupancy"] is made["total"]["concurrent_mean"] is made["total"]["first_s"] is None
    assert made["timeline"] is None and made["concurrent"] == made["moments"] == made["people"] == []
    assert made["videos"][0]["analyzed_share"] is None
    # Beside others it changes nothing but the number of videos.
    run_of(tmp_path / "full", regular())
    both = document(tmp_path, by="run")
    assert_figures(both["total"], total_of([Truth(regular()), Truth(empty)]))
    assert [row["occupancy"] for row in both["groups"]["rows"]] == [None, pytest.approx(1, abs=0.5)]


# --- several videos and groups --------------------------------------------------------------------------

DAYS = [
    # A year of 53 weeks, its border, and two months.
    ("2026-12-27", None),
    ("2026-12-28", None),
    ("2026-12-31", "2027-01-01T01:30:00+03:00"),  # the day before in UTC
    ("2027-01-03", "2027-01-03T09:59:59+00:00"),
    ("2027-01-04", "2027-01-04T09:00:00+00:00"),
    ("2027-02-01", None),
    (None, None),
]
ANALYZED = "2027-02-02T03:00:00+00:00"


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Truth]]:
    """Seven different videos of known days, hours, channels; one without a channel, one without people."""
    folder = tmp_path_factory.mktemp("many")
    random = np.random.default_rng(8)
    truths = {}
    for number, (day, moment) in enumerate(DAYS):
        plan = random_plan(random, length_s=20 + 4 * number, people=3 + number, concurrent=1 + number % 3)
        if number == 5:
            plan = nobody()
        name = f"v{(number * 5) % 7}"  # in another order than the days
        run_of(
            folder / name,
            plan,
            uploaded=day,
            uploaded_at=moment,
            analyzed_at=ANALYZED,
            channel=[None, "10", "9", "b", "A", "nan", "b"][number],
            title=f"Video {number}",
        )
        truths[name] = Truth(plan)
    rows = [f"{name};{'red' if number % 2 else ''}" for number, name in enumerate(truths)]
    (folder / "own.csv").write_text("run;team\n" + "\n".join(rows), "utf-8-sig")
    return folder, truths


def groups_of(by: str) -> dict[str, list[str]]:
    """What group the videos are in, in order."""
    found: dict[str, list[str]] = {}
    for number, (day, moment) in enumerate(DAYS):
        date = datetime.date.fromisoformat(day or ANALYZED[:10])
        hour = "not known"
        if moment is not None:
            hour = f"{datetime.datetime.fromisoformat(moment).astimezone(datetime.UTC):%H}:00"
        group = {
            "day": str(date),
            "week": date.strftime("%G-W%V"),
            "month": date.strftime("%Y-%m"),
            "hour": hour,
            "channel": ["not known", "10", "9", "b", "A", "nan", "b"][number],
            "team": "red" if number % 2 else "not known",
        }[by]
        found.setdefault(group, []).append(f"v{(number * 5) % 7}")
    return found


ORDERS = {
    "week": ["2026-W52", "2026-W53", "2027-W01", "2027-W05"],
    "month": ["2026-12", "2027-01", "2027-02"],
    "hour": ["09:00", "22:00", "not known"],
    "channel": ["9", "10", "A", "b", "nan", "not known"],  # numbers as numbers, capitals not minded
    "team": ["red", "not known"],
}


@pytest.mark.usefixtures("few_draws")
@pytest.mark.parametrize(
    "by", ["week", "team", *(pytest.param(by, marks=pytest.mark.slow) for by in ("month", "hour", "channel"))]
)
def test_figures_of_groups_are_those_of_their_videos(by: str, many: tuple[Path, dict[str, Truth]]) -> None:
    folder, truths = many
    chosen = Chosen(columns=folder / "own.csv") if by == "team" else None
    made = document(folder, by=by, chosen=chosen)
    assert_figures(made["total"], total_of(list(truths.values())))
    groups = groups_of(by)
    assert made["groups"]["by"] == by and made["groups"]["timely"] == (by in ("day", "week", "month"))
    names = [row["group"] for row in made["groups"]["rows"]]
    assert names == ORDERS.get(by, sorted(groups))
    for row in made["groups"]["rows"]:
        assert_figures(row, total_of([truths[name] for name in groups[row["group"]]]))
    assert (made["trend"] is not None) == made["groups"]["timely"]
    if by == "team":
        assert {row["run"]: row["own"] for row in made["videos"]} == {
            name: {"team": "red" if number % 2 else ""} for number, name in enumerate(truths)
        }


@pytest.mark.usefixtures("few_draws")
def test_figures_of_a_video_are_those_of_its_own_report(many: tuple[Path, dict[str, Truth]]) -> None:
    folder, truths = many
    made = document(folder)
    assert made["kind"] == "videos" and made["pairs"] is made["timeline"] is None
    people = [dict(one) for one in made["people"]]
    assert [row["day"] for row in made["videos"]] == sorted(
        (row["day"] for row in made["videos"]), reverse=True
    )
    for row in made["videos"][:4]:
        alone = document(folder / row["run"])
        assert row == alone["videos"][0]
        figures = {name: alone["total"][name] for name in alone["total"]}
        assert {name: row[name] for name in figures} == figures
        assert_figures(row, total_of([truths[row["run"]]]))
        told = [one for one in made["shares"] if (one["by"], one["group_value"]) == ("video", row["run"])]
        assert [one | {"by": "", "group_value": ""} for one in told] == alone["shares"]
        told = [
            one for one in made["screen_time"] if (one["by"], one["group_value"]) == ("video", row["run"])
        ]
        assert [one | {"by": "", "group_value": ""} for one in told] == alone["screen_time"]
        mine = [one for one in people if one["run"] == row["run"]]
        assert mine == [{k: v for k, v in one.items() if k != "spans"} for one in alone["people"]]


@pytest.mark.usefixtures("few_draws")
def test_by_video_and_by_nothing_are_the_same(many: tuple[Path, dict[str, Truth]]) -> None:
    folder, _ = many
    plain, videos = dict(walk(document(folder))), dict(walk(document(folder, by="video")))
    del plain["made_at",], videos["made_at",]
    assert plain.keys() == videos.keys()
    for path, value in plain.items():  # the last bit depends on who adds up first
        assert videos[path] == (pytest.approx(value) if isinstance(value, float) else value), path


@pytest.mark.usefixtures("few_draws")
def test_at_once_and_pyramid_add_all_videos_up(many: tuple[Path, dict[str, Truth]]) -> None:
    folder, truths = many
    made = document(folder)
    concurrent: dict[int, float] = {}
    for truth in truths.values():
        for _, stands, present in truth.samples:
            concurrent[sum(present)] = concurrent.get(sum(present), 0.0) + stands
    assert {row["people"]: row["time_s"] for row in made["concurrent"]} == pytest.approx(concurrent)
    for row in made["pyramid"]:
        mine = [
            truth.on_screen_s(number)
            for truth in truths.values()
            for number in range(truth.count)
            if (truth.genders[number], truth.bands[number]) == (row["gender"], row["band"])
        ]
        assert row["people"] == len(mine) and row["on_screen_s"] == pytest.approx(math.fsum(mine))


@pytest.mark.usefixtures("few_draws")
def test_order_of_the_runs_does_not_matter(many: tuple[Path, dict[str, Truth]]) -> None:
    folder, truths = many
    rows = []
    for names in (list(truths), list(reversed(truths))):
        with Corpus.open(find_runs([folder / name for name in names])) as corpus:
            population = Population(corpus, by="channel")
            metrics = Metrics(population, Shares(population))
            rows.append((dict(zip(names, metrics.videos(), strict=True)), metrics.groups()))
    for name, figures in rows[0][0].items():
        assert_figures(figures, total_of([truths[name]]))
        assert_figures(rows[1][0][name], total_of([truths[name]]))
    for one, other in zip(rows[0][1], rows[1][1], strict=True):
        plain = {key: value for key, value in one.items() if key in total_of([truths["v0"]])}
        assert_figures(other, plain)


# --- shares -------------------------------------------------------------------------------------------


def told_shares(made: Row, by: str = "", group: str = "") -> pd.DataFrame:
    rows = [row for row in made["shares"] if (row["by"], row["group_value"]) == (by, group)]
    table = pd.DataFrame(rows)
    return table.drop(columns=["by", "group_value"]) if len(table) else table


def test_shares_of_one_video_are_those_of_its_table(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "one", regular())
    made = document(folder)
    stored = pd.read_parquet(folder / "shares.parquet").drop(columns="video_id").astype({"group": str})
    told = told_shares(made)
    assert (told.pop("estimated") == 7).all()
    assert told["group"].tolist() == ["female", "male", *NAMES] == stored["group"].tolist()
    for name in told.columns[2:]:
        np.testing.assert_allclose(told[name], stored[name].astype(float), rtol=0, atol=1e-12)
    female = stored[stored["group"] == "female"].iloc[0]
    for row in (made["total"], made["videos"][0]):
        for kind in ("people", "time"):
            for end in ("share", "low", "high"):
                assert row[f"female_{kind}_{end}"] == pytest.approx(female[f"{kind}_{end}"], abs=1e-12)


def pooled(folder: Path, names: Iterable[str]) -> pd.DataFrame:
    """The people of several runs, as of one."""
    return pd.concat([pd.read_parquet(folder / name / "people.parquet") for name in names])


def test_shares_of_many_videos_are_those_of_their_people_together(
    many: tuple[Path, dict[str, Truth]],
) -> None:
    folder, truths = many
    expected = estimate_proportions(pooled(folder, sorted(truths)), Settings(), Calibration.load())
    plain = told_shares(document(folder))
    assert (plain["estimated"] == sum(one.count for one in truths.values())).all()
    made = document(folder, by="channel")
    for told in (plain, told_shares(made)):
        assert told["group"].tolist() == expected["group"].tolist()
        for name in ("people_share", "people_low", "people_high", "time_share", "time_low", "time_high"):
            np.testing.assert_allclose(told[name], expected[name], atol=0.06)
        assert made["total"]["female_people_share"] == pytest.approx(expected["people_share"][0], abs=0.03)
    # Groups that are drawn together are as each drawn alone.
    for group, names in groups_of("channel").items():
        told = told_shares(made, "channel", group)
        people = pooled(folder, names)
        if people.empty:
            assert told.empty
            continue
        if len(names) == 1:  # a single video's are those of its own table
            mine = told_shares(made, "video", next(iter(names)))
            pd.testing.assert_frame_equal(told, mine[told.columns])
            continue
        alone = estimate_proportions(people, Settings(), Calibration.load())
        assert (told["estimated"] == len(people)).all()
        for name in ("people_share", "time_share"):
            np.testing.assert_allclose(told[name], alone[name], atol=0.05)
        for name in ("people_low", "people_high", "time_low", "time_high"):
            np.testing.assert_allclose(told[name], alone[name], atol=0.2)  # of few people
        (row,) = [row for row in made["groups"]["rows"] if row["group"] == group]
        assert row["female_time_share"] == told["time_share"][0]


@pytest.mark.parametrize(
    "by",
    ["channel", pytest.param("kind", marks=pytest.mark.slow), pytest.param("month", marks=pytest.mark.slow)],
)
def test_the_same_people_have_the_same_figures_wherever_they_are_told(by: str, tmp_path: Path) -> None:
    random = np.random.default_rng(17)
    for number, people in enumerate((7, 6, 9)):
        plan = random_plan(random, length_s=12, people=people, concurrent=2)
        make_run(tmp_path / "x" / f"{number}", plan, channel="x", uploaded="2026-03-01")
    make_run(tmp_path / "y", random_plan(random, length_s=12, people=5, concurrent=2), channel="y")
    make_run(tmp_path / "z", nobody(), channel="y")  # adds a video, but nobody
    rows: list[Row] = []
    for folder in (tmp_path / "x", tmp_path):
        made = document(folder, by=by)
        rows = made["groups"]["rows"]
        for row in rows:
            if len(rows) == 1:  # one group of everybody
                assert row | {"group": 0} == made["total"] | {"group": 0}
                one, all_of_them = told_shares(made, by, row["group"]), told_shares(made)
                pd.testing.assert_frame_equal(one, all_of_them)
            told = told_shares(made, by, row["group"])
            for of in ("people", "time"):
                women = told.loc[told["group"] == "female", f"{of}_share"].tolist()
                assert [row[f"female_{of}_share"]] == (women or [None])
        for row in (made["trend"] or {"rows": []})["rows"]:
            figures = next(one for one in rows if one["group"] == row["period"])
            if row["figure"] in figures:
                assert row["value"] == pytest.approx(figures[row["figure"]], rel=1e-12)
        for row in (made["comparison"] or {"rows": []})["rows"]:
            for place in ("first", "second"):
                figures = next(one for one in rows if one["group"] == row[place])
                assert row[f"{place}_value"] == pytest.approx(figures[row["figure"]], rel=1e-12)
    # And in a report of those videos alone.
    if by == "channel":
        (group,) = [row for row in rows if row["group"] == "x"]
        alone = document(tmp_path / "x")["total"]
        assert {name: group[name] for name in alone} == alone


def test_no_share_is_stated_anywhere_for_few_people_with_estimates(tmp_path: Path) -> None:
    plan = simple_plan(10, [True, True, False, False])
    stored = some_shares()
    assert len(stored)
    folders = [
        # As older versions wrote it: with rows of few people in the table.
        make_run(
            tmp_path / f"{number}",
            plan,
            shares=stored,
            channel="xy"[number],
            uploaded=f"2026-03-0{number + 1}",
        )
        for number in range(2)
    ]
    alone = document(folders[0])
    both = document(tmp_path, by="day")
    by_channel = document(tmp_path, by="channel")
    assert alone["shares"] == []
    assert not [row for row in both["shares"] if row["by"]]  # eight people are enough, four are not
    assert len(told_shares(both)) == 10
    few = [alone["total"], *both["videos"], *both["groups"]["rows"], *by_channel["groups"]["rows"]]
    assert {row[name] for row in few for name in ESTIMATED} == {None}
    assert {row["estimated"] for row in few} == {4}
    assert {why_not(row, "female_time_share", least=1) for row in few} == {TOO_FEW}
    told = [*both["trend"]["rows"], *by_channel["comparison"]["rows"]]
    shares = [row for row in told if "_share" in row["figure"]]
    assert not [row for row in shares if row.get("value", row.get("first_value")) is not None]
    assert both["total"]["female_people_share"] is not None


def test_any_two_groups_are_compared(changing: Path) -> None:
    weeks = [f"2026-W{week}" for week in (23, 24, 25)]
    made = document(changing, by="week")
    found = {(row["first"], row["second"], row["figure"]): row for row in made["comparison"]["rows"]}
    assert {key[:2] for key in found} == set(itertools.combinations(weeks, 2))
    assert {key[2] for key in found} == set(COMPARED)
    trend = {(row["previous"], row["period"], row["figure"]): row for row in made["trend"]["rows"]}
    for key, row in found.items():
        assert row["difference"] == pytest.approx(row["second_value"] - row["first_value"])
        assert row["difference_low"] <= row["difference"] <= row["difference_high"]
        assert row["exceeds"] is (key[1] == weeks[2]), key
        if key in trend:  # a change is a difference
            assert [row[f"difference{end}"] for end in ("", "_low", "_high")] == [
                trend[key][f"change{end}"] for end in ("", "_low", "_high")
            ]


def test_two_single_videos_are_compared_by_what_was_measured(tmp_path: Path) -> None:
    for name, women in (("a", 14), ("b", 1), ("c", 2)):
        plan = simple_plan(10, [True] * women + [False] * (15 - women))
        make_run(tmp_path / name, plan, channel=name)
    rows = {
        (row["first"], row["second"], row["figure"]): row
        for row in document(tmp_path, by="channel")["comparison"]["rows"]
    }
    assert rows["a", "b", "female_people_share"]["exceeds"] is True
    assert rows["b", "c", "female_people_share"]["exceeds"] is False
    # How much the presence depends on which video it is cannot be known from one.
    row = rows["a", "b", "occupancy"]
    assert (row["difference_low"], row["difference_high"], row["exceeds"]) == (None, None, None)


def change_people(folder: Path, **columns: Any) -> None:
    people = pd.read_parquet(folder / "people.parquet").assign(**columns)
    write_parquet(folder / "people.parquet", people, PEOPLE)


UNJUDGED = {"female_prob": np.nan, "age_years": np.nan, "age_low": np.nan, "age_high": np.nan}
UNJUDGED |= {"gender": "unknown", "age_band": "unknown", "estimated_samples": 0}


def test_no_share_is_stated_for_groups_without_estimates(tmp_path: Path) -> None:
    plan = random_plan(np.random.default_rng(3), length_s=12, people=6, concurrent=2)
    for number in range(6):
        folder = run_of(tmp_path / f"{number}", plan, uploaded=f"2026-03-0{1 + number // 2}")
        if number in (2, 3):
            change_people(folder, **UNJUDGED)
    made = document(tmp_path, by="day")
    groups = made["groups"]["rows"]
    assert [row["female_people_share"] is None for row in groups] == [False, True, False]
    assert told_shares(made, "day", "2026-03-02").empty
    assert (told_shares(made)["estimated"] == 24).all()
    rows = {(row["figure"], row["period"]): row for row in made["trend"]["rows"]}
    for figure in ("female_people_share", "female_time_share"):
        assert rows[figure, "2026-03-01"]["value"] == pytest.approx(groups[0][figure], abs=0.1)
        # The prior is no finding: neither the value nor a change against it.
        assert rows[figure, "2026-03-02"]["value"] is None
        assert rows[figure, "2026-03-03"]["change"] is rows[figure, "2026-03-03"]["exceeds"] is None
    # Without any estimates.
    for number in range(6):
        change_people(tmp_path / f"{number}", **UNJUDGED)
    made = document(tmp_path, by="day")
    assert made["total"]["female_people_share"] is None and made["total"]["people"] == 36
    assert told_shares(made).empty
    assert not [row for row in made["trend"]["rows"] if "share" in row["figure"]]


def calibration_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Add a calibration of another set of models; gives its key."""
    values = json.loads(calibration_file(DEFAULT_KEY).read_text())  # type: ignore[union-attr]
    values["members"]["age"]["sha256"] = "0" * 64
    values["seen_gender"] = {name: counts[::-1] for name, counts in values["seen_gender"].items()}
    key = key_of(values["members"])
    folder = tmp_path / "own models"
    folder.mkdir()
    (folder / f"{key}.json").write_text(json.dumps(values))
    monkeypatch.setenv(MODELS_VARIABLE, str(folder))
    return key


def test_runs_of_other_calibrations_are_left_out_of_the_shares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(4)
    men = dataclasses.replace(regular(), female_prob=np.full(7, 0.02))
    women = dataclasses.replace(
        random_plan(random, length_s=12, people=6, concurrent=2), female_prob=np.full(6, 0.98)
    )
    run_of(tmp_path / "a", men, channel="x")
    run_of(tmp_path / "b", men, channel="y")
    known = json.loads((tmp_path / "a" / "run.json").read_text())["calibration"]
    run_of(tmp_path / "c", women, channel="y", calibration=known | {"key": "0" * 16})  # it is not here
    own_key = calibration_beside(tmp_path, monkeypatch)
    run_of(tmp_path / "d", women, channel="z", calibration=known | {"key": own_key})  # it is here
    made = document(tmp_path, by="channel")
    assert made["total"]["people"] == 26 and made["total"]["female"] > 6
    expected = estimate_proportions(pooled(tmp_path, "ab"), Settings(), Calibration.load())
    assert made["total"]["female_people_share"] == pytest.approx(expected["people_share"][0], abs=0.03)
    shares = [row["female_people_share"] for row in made["groups"]["rows"]]
    own = {row["run"]: row["female_people_share"] for row in made["videos"]}
    assert shares == [own["a"], pytest.approx(expected["people_share"][0], abs=0.06), own["d"]]
    unlike = "videos were analyzed with models of other or unknown error rates"
    assert any(note.startswith(f"2 {unlike}") for note in made["notes"])
    # Where most runs have the other calibration, it is read, and theirs are the shares.
    for name in "fg":
        run_of(tmp_path / name, women, channel="z", calibration=known | {"key": own_key})
    made = document(tmp_path, by="channel")
    assert any(note.startswith(f"3 {unlike}") for note in made["notes"])
    other = estimate_proportions(pooled(tmp_path, "dfg"), Settings(), Calibration.load(own_key))
    assert made["total"]["female_people_share"] == pytest.approx(other["people_share"][0], abs=0.03)
    # The same models, but with a detector for which they were not measured.
    run_of(tmp_path / "e", women, channel="z", calibration={"key": None, "fitted_on": "", "measured": False})
    assert UNMEASURED in document(tmp_path / "e")["notes"]
    assert UNMEASURED not in document(tmp_path / "a")["notes"]


# --- trends ---------------------------------------------------------------------------------------------


def simple_plan(on_screen: int, female: Sequence[bool], concurrent: int = 1) -> Plan:
    """20 s, of which somebody is on screen for `on_screen`; each person for its part of that."""
    times = np.arange(100) / 5
    count = len(female)
    present = np.zeros((100, count), bool)
    for sample in range(5 * on_screen):
        for step in range(concurrent):
            present[sample, (sample * count // (5 * on_screen) + step) % count] = True
    prob = np.where(np.asarray(female, bool), 0.995, 0.005)
    return Plan(times, 20.0, present, prob, np.full(count, 40.0))


def trend_of(folder: Path, by: str = "week", **options: Any) -> dict[tuple[str, str], Row]:
    trend = document(folder, by=by, **options)["trend"]
    assert trend["by"] == by
    return {(row["figure"], row["period"]): row for row in trend["rows"]}


@pytest.fixture(scope="module")
def changing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve videos in each of two weeks as in the week before, then twelve of which all is different."""
    folder = tmp_path_factory.mktemp("changing")
    for week in range(3):
        for number in range(12):
            wobble = number % 3 - 1
            if week < 2:
                plan = simple_plan(5 + wobble, [True] * (5 + wobble) + [False] * 3)
            else:
                plan = simple_plan(15 + wobble, [True] + [False] * (11 + wobble), concurrent=2)
            day = datetime.date(2026, 6, 1) + datetime.timedelta(days=7 * week + number % 7)
            run_of(folder / f"{week}-{number}", plan, uploaded=str(day))
    return folder


def test_trends_tell_large_changes_from_none(changing: Path) -> None:
    rows = trend_of(changing)
    weeks = ["2026-W23", "2026-W24", "2026-W25"]
    made = document(changing, by="week")
    groups = {row["group"]: row for row in made["groups"]["rows"]}
    assert list(groups) == weeks
    for figure in ("occupancy", "co_presence", "people_per_video", "concurrent_mean", "female_people_share"):
        first, same, other = (rows[figure, week] for week in weeks)
        assert (first["previous"], first["change"], first["exceeds"]) == (None, None, None)
        assert (same["previous"], other["previous"]) == (weeks[0], weeks[1])
        assert (same["videos"], same["previous_videos"]) == (12, 12)
        assert same["exceeds"] is False, figure
        assert other["exceeds"] is True, figure
        for row, week in ((first, weeks[0]), (same, weeks[1]), (other, weeks[2])):
            share = "share" in figure  # drawn anew with the videos
            value = groups[week][figure]
            assert row["value"] == pytest.approx(value, abs=0.01 if share else 1e-9)
            assert row["value_low"] - 1e-9 <= row["value"] <= row["value_high"] + 1e-9
        for row in (same, other):
            assert row["change"] == pytest.approx(row["value"] - row["previous_value"])
            assert row["change_low"] <= row["change"] + 1e-9 and row["change"] <= row["change_high"] + 1e-9
    assert rows["occupancy", weeks[2]]["change"] == pytest.approx(0.5)
    assert rows["female_people_share", weeks[2]]["change"] < -0.3
    assert rows["female_time_share", weeks[2]]["words"] == "female share of time on screen"
    assert ("age 35-44", weeks[0]) in rows or any("35-44" in figure for figure, _ in rows)


@pytest.mark.usefixtures("few_draws")
def test_with_one_video_in_a_period_nothing_is_said_of_changes(changing: Path) -> None:
    paths = [changing / f"{week}-{number}" for week in (0, 2) for number in range(12)][:13]
    trend = document(paths, by="week")["trend"]
    assert {row["videos"] for row in trend["rows"] if row["previous"]} == {1}
    for row in trend["rows"]:
        assert row["exceeds"] is None
        assert row["previous"] is None or row["change"] is not None
    assert document([changing / "0-0"], by="week")["trend"] is None


def test_no_change_of_shares_is_stated_for_videos_without_estimates(changing: Path, tmp_path: Path) -> None:
    # Two videos a period, but only one of them tells of shares.
    for number in range(4):
        plan = simple_plan(10, [number > 1] * 6)
        folder = run_of(tmp_path / f"{number}", plan, uploaded=f"2026-03-0{1 + number // 2}")
        if number % 2:
            change_people(folder, **UNJUDGED)
    rows = trend_of(tmp_path, "day")
    assert rows["occupancy", "2026-03-02"]["exceeds"] is False
    assert rows["female_people_share", "2026-03-02"]["change"] > 0.3
    assert rows["female_people_share", "2026-03-02"]["exceeds"] is None


def test_hours_are_compared_with_nothing(many: tuple[Path, dict[str, Truth]]) -> None:
    assert document(many[0], by="hour")["trend"] is None


@pytest.mark.slow  # quick: test_trends_tell_large_changes_from_none
@pytest.mark.parametrize(("videos", "periods"), [(2, 24), (5, 12), (12, 6)])
def test_without_a_real_change_few_changes_exceed(
    videos: int, periods: int, mixture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Videos of the same kinds dealt out to periods by chance, again and again: all that exceeds is an error.
    monkeypatch.setattr(proportions, "_DRAWS", 200)
    random = np.random.default_rng(videos)
    found: dict[str, list[bool]] = {}
    with Corpus.open(find_runs([mixture])) as corpus:
        for _ in range(4):
            population = Population(corpus)
            dealt = random.permutation(np.arange(len(corpus.runs)) % periods)
            kept = np.array([(dealt[:run] == period).sum() < videos for run, period in enumerate(dealt)])
            dealt[~kept] = periods  # the rest is one more period, compared with nothing here
            population.groups = Groups("day", tuple(f"{one:02d}" for one in range(periods + 1)), dealt)
            trend = Trends(population, Shares(population)).trend()
            assert trend is not None
            for row in trend["rows"]:
                if row["exceeds"] is not None and row["period"] != f"{periods:02d}":
                    assert row["videos"] == row["previous_videos"] == videos
                    assert row["change_low"] <= row["change"] <= row["change_high"]
                    found.setdefault(row["figure"], []).append(row["exceeds"])
    # No share is stated for fewer than five people with estimates, and no change of it.
    assert all(len(one) == 4 * (periods - 1) for name, one in found.items() if "share" not in name)
    assert np.mean([exceeds for one in found.values() for exceeds in one]) <= 0.06
    for figure in (
        "occupancy",
        "people_per_video",
        "concurrent_mean",
        "female_people_share",
        "female_time_share",
    ):
        assert np.mean(found[figure]) <= 0.15, figure


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 videos of chance."""
    folder = tmp_path_factory.mktemp("mixture")
    random = np.random.default_rng(12)
    settings = Settings(formats=("parquet",), bin_s=20)
    for number in range(80):
        count = int(random.integers(2, 6))
        plan = simple_plan(int(random.integers(4, 20)), random.random(count) < 0.5, 1 + number % 2)
        run_of(folder / f"{number}", plan, settings)
    return folder


# --- suppressed -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("least", [1, 2, 3, 5])
def test_nothing_suppressed_can_be_had_by_subtraction(least: int) -> None:
    for counts in itertools.product((0, 1, 2, 3, 4, 7), repeat=4):
        hidden = suppressed(counts, least)
        numbers = np.array(counts)
        assert not hidden[numbers == 0].any()
        assert hidden[(numbers > 0) & (numbers < least)].all()
        rest = numbers[hidden].sum()
        # Of those hidden at least `least` people, unless there are no more.
        assert rest == 0 or rest >= least or rest == numbers.sum()
        if least == 1:
            assert not hidden.any()
        # No more is hidden than must be.
        needed = numbers[(numbers > 0) & (numbers < least)]
        assert hidden.sum() <= len(needed) + 1 or numbers[hidden].sum() - numbers[hidden].max() < least


LEAST = 4


@pytest.fixture(scope="module")
def small_groups(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Channels and videos with few people, and with few women or men among many."""
    folder = tmp_path_factory.mktemp("small")
    plans = {
        # channel, numbers of women and of men
        "a1": ("a", 2, 0),
        "a2": ("a", 5, 6),
        "b1": ("b", 1, 1),
        "b2": ("b", 6, 7),
        "c1": ("c", 1, 1),
        "d1": ("d", 9, 0),
        "e1": ("e", 8, 5),
        "e2": ("e", 4, 4),
        "f1": ("f", 1, 6),
    }
    for number, (name, (channel, women, men)) in enumerate(plans.items()):
        plan = simple_plan(15, [True] * women + [False] * men)
        ages = np.array([22.0, 22.0, 22.0, 22.0, 47.0, 47.0, 60.0, 8.0, 22.0, 60.0, 22.0, 60.0, 22.0])
        plan = dataclasses.replace(plan, age_years=ages[: women + men])
        day = f"2026-07-{1 + 7 * (number // 3):02d}"
        run_of(folder / name, plan, channel=channel, uploaded=day)
    return folder


PERSONAL = tuple(figure.name for figure in FIGURES if figure.name not in ("videos", "analyzed_s"))
COUNTED = ("people", "female", "male", "unknown_gender")


@pytest.mark.usefixtures("few_draws")
@pytest.mark.parametrize("by", [None, "channel", pytest.param("week", marks=pytest.mark.slow)])
def test_nothing_is_told_of_few_people(by: str | None, small_groups: Path) -> None:
    full = document(small_groups, by=by)
    made = document(small_groups, by=by, min_people=LEAST)
    # Wherever the full report tells a number of people below the limit, this one tells none.
    told = dict(walk(made))
    for path, value in walk(full):
        few = isinstance(value, int) and 0 < value < LEAST
        if path[-1] in COUNTED and few and path[0] not in ("concurrent", "moments", "screen_time"):
            assert told[path] is None, path
    rows = [*made["videos"], *(made["groups"]["rows"] if by else ())]
    plain = [*full["videos"], *(full["groups"]["rows"] if by else ())]
    for row, known in zip(rows, plain, strict=True):
        assert row["suppressed"] or known["people"] == 0 or known["people"] >= LEAST
        if row["suppressed"]:
            assert [name for name in PERSONAL if row[name] is not None] == []
            assert (row["videos"], row["analyzed_s"]) == (known["videos"], known["analyzed_s"])
        else:
            assert row["people"] == known["people"]
        assert row["longest_person_s"] is row.get("longest_person") is None
    hidden = {row["run"] for row in made["videos"] if row["suppressed"]}
    assert not {row["group_value"] for row in made["shares"] if row["by"] == "video"} & hidden
    if by:
        few_groups = {row["group"] for row in made["groups"]["rows"] if row["suppressed"]}
        assert not {row["group_value"] for row in made["shares"] if row["by"] == by} & few_groups
        for row in (made["trend"] or {"rows": []})["rows"]:
            assert not {row["period"], row["previous"]} & few_groups
    assert made["people"] is made["pairs"] is None
    assert made["screen_time"] == []
    assert any("fewer than 4" in note for note in made["notes"])


def differences(whole: Row, parts: list[Row]) -> Iterator[tuple[str, int]]:
    """What is left of each number that is told of the whole, without those parts of which it is told."""
    for name in COUNTED:
        if whole[name] is not None:
            yield name, whole[name] - sum(part[name] or 0 for part in parts)


@pytest.mark.usefixtures("few_draws")
@pytest.mark.parametrize("by", ["channel", pytest.param("week", marks=pytest.mark.slow)])
def test_few_people_cannot_be_had_by_subtraction(by: str, small_groups: Path) -> None:
    made = document(small_groups, by=by, min_people=LEAST)
    groups = made["groups"]["rows"]
    videos = made["videos"]
    assert any(row["suppressed"] for row in videos) and not all(row["suppressed"] for row in videos)
    pairs = [(made["total"], groups), (made["total"], videos)]
    for row in groups:
        mine = [
            one
            for one in videos
            if row["group"]
            == (
                one["channel"]
                if by == "channel"
                else datetime.date.fromisoformat(one["day"]).strftime("%G-W%V")
            )
        ]
        assert len(mine) == row["videos"]
        pairs.append((row, mine))
    for whole, parts in pairs:
        for name, rest in differences(whole, parts):
            assert rest == 0 or rest >= LEAST, (name, whole.get("group"))
    # Groups of which nothing is told, against the total.
    known = document(small_groups, by=by)["groups"]["rows"]
    for name in COUNTED:
        rest = [row for row in groups if row[name] is None]
        people = sum(one[name] for one in known if one["group"] in {row["group"] for row in rest})
        assert made["total"][name] is None or people == 0 or people >= LEAST


@pytest.mark.usefixtures("few_draws")
@pytest.mark.parametrize("by", [None, "channel"])
def test_one_woman_among_many_cannot_be_had_by_subtraction(by: str | None, tmp_path: Path) -> None:
    for name, women, men in (("x", 1, 6), ("y", 8, 5), ("z", 6, 7)):
        run_of(tmp_path / name, simple_plan(15, [True] * women + [False] * men), channel=name)
    made = document(tmp_path, by=by, min_people=LEAST)
    for rows in (made["videos"], *([made["groups"]["rows"]] if by else ())):
        assert [row["people"] for row in sorted(rows, key=lambda row: row["people"])] == [7, 13, 13]
        for name, rest in differences(made["total"], rows):
            assert rest == 0 or rest >= LEAST, name
    assert made["total"]["female"] == 15


@pytest.mark.usefixtures("few_draws")
def test_trends_tell_nothing_of_periods_with_few_people(tmp_path: Path) -> None:
    for day, people in enumerate((9, 2, 5, 8, 7)):  # of the second, and so that it cannot be had, the third
        run_of(tmp_path / f"{day}", simple_plan(10 + day, [True] * people), uploaded=f"2026-03-0{day + 1}")
    trend = document(tmp_path, by="day", min_people=LEAST)["trend"]["rows"]
    told = {(int(row["period"][-1]), row["previous"] and int(row["previous"][-1])) for row in trend}
    assert told == {(1, None), (4, None), (5, 4)}


@pytest.mark.parametrize(("women", "men", "unsure"), [(2, 5, 0), (1, 9, 9), (6, 5, 0), (0, 2, 1), (9, 3, 5)])
def test_pyramid_does_not_tell_what_the_genders_do_not(
    women: int, men: int, unsure: int, tmp_path: Path
) -> None:
    plan = simple_plan(15, [True] * women + [False] * (men + unsure))
    plan.female_prob[women + men :] = 0.5
    plan.age_years[:] = np.arange(len(plan.age_years)) * 17 % 60 + 14
    run_of(tmp_path / "one", plan)
    full, made = document(tmp_path), document(tmp_path, min_people=LEAST)
    total = made["total"]
    known = [total[name] for name in ("female", "male", "unknown_gender")]
    if total["people"] is not None:
        missing = total["people"] - sum(one or 0 for one in known)
        assert missing == 0 or missing >= LEAST
    for gender, whole in zip(("female", "male", "unknown"), known, strict=True):
        cells = [row for row in made["pyramid"] if row["gender"] == gender]
        plain = [row for row in full["pyramid"] if row["gender"] == gender]
        for row, true in zip(cells, plain, strict=True):
            assert row["people"] in (None, true["people"])
            assert (row["people"] is None) == (row["on_screen_s"] is None)
            assert row["people"] is None or row["people"] == 0 or row["people"] >= LEAST
        rest = sum(true["people"] for row, true in zip(cells, plain, strict=True) if row["people"] is None)
        if whole is None:  # what the genders do not tell, the sum of the ages does not either
            assert all(row["people"] is None for row in cells)
        else:
            assert rest == 0 or rest >= LEAST


def test_of_one_video_no_single_person_is_told_with_a_limit(tmp_path: Path) -> None:
    run_of(tmp_path / "one", simple_plan(15, [True] * 6 + [False] * 5))
    made = document(tmp_path, min_people=LEAST)
    assert made["total"]["people"] == 11 and made["total"]["female"] == 6
    assert made["people"] is made["pairs"] is made["videos"][0]["longest_person"] is None
    assert made["timeline"] is None
    assert "person_id" not in json.dumps(made)
    # Of fewer than the limit nothing at all.
    none = document(tmp_path, min_people=12)
    assert none["total"]["suppressed"] and none["shares"] == []
    assert [name for name in PERSONAL if none["total"][name] is not None] == []
    assert {row["people"] for row in none["pyramid"]} == {None}
    # A limit that all meet suppresses nothing of the sums but what is about one person.
    told = document(tmp_path, min_people=2)["total"]
    single = dict.fromkeys(figure.name for figure in FIGURES if figure.single)
    full = document(tmp_path)["total"]
    assert told == full | single | {"age_median_years": round(full["age_median_years"])}


@pytest.mark.usefixtures("few_draws")
def test_an_empty_group_is_told(tmp_path: Path) -> None:
    run_of(tmp_path / "nobody", nobody(), channel="x")
    run_of(tmp_path / "five", simple_plan(15, [True] * 5), channel="y")
    empty, full = document(tmp_path, by="channel", min_people=LEAST)["groups"]["rows"]
    assert not empty["suppressed"] and empty["people"] == empty["female"] == 0
    assert not full["suppressed"] and full["female"] == 5


# --- tables of real runs ----------------------------------------------------------------------------------


def check_against_tables(folder: Path) -> Row:
    """A run's report, with every figure computed by pandas from its tables."""
    made = document(folder)
    run = Run.load(folder)
    samples, people = run.samples.sort_values("time_s"), run.people
    faces = run.faces[run.faces["person_id"] > 0]
    stands = samples.set_index("sample")["duration_s"]
    count = faces.groupby("sample").size().reindex(stands.index, fill_value=0)
    gender = faces["person_id"].map(people.set_index("person_id")["gender"])
    both = gender[gender != "unknown"].groupby(faces["sample"]).nunique().reindex(stands.index, fill_value=0)
    whole = stands.sum()
    total = made["total"]
    assert total["analyzed_s"] == pytest.approx(whole, abs=1e-6)
    assert total["analyzed_s"] == pytest.approx(run.info["counts"]["analyzed_s"], abs=2e-3)
    for name, value in {
        "occupancy": stands[count > 0].sum() / whole,
        "co_presence": stands[count > 1].sum() / whole,
        "mixed": stands[both > 1].sum() / whole,
        "concurrent_mean": (stands * count).sum() / whole,
        "concurrent_peak": count.max(),
        "people": len(people),
        "on_screen_s": people["on_screen_s"].sum(),
        **{name: run.info["counts"][name] for name in ("people_low", "people_high", "female", "male")},
        "unknown_gender": run.info["counts"]["unknown_gender"],
    }.items():
        assert total[name] == pytest.approx(value, abs=1e-6), name
    times = samples.set_index("sample")["time_s"]
    seen = sorted(set(faces["sample"]), key=lambda sample: times[sample])
    assert total["first_s"] == (pytest.approx(times[seen[0]]) if seen else None)
    anybody = joined((times[one], times[one] + stands[one]) for one in seen)
    lengths = [end - start for start, end in anybody]
    assert total["longest_occupancy_s"] == (pytest.approx(max(lengths)) if lengths else None)
    ages = people["age_years"].dropna()
    assert total["age_median_years"] == (pytest.approx(ages.median()) if len(ages) else None)
    for row, known in zip(made["people"], people.itertuples(), strict=True):
        mine = sorted(times[sample] for sample in faces.loc[faces["person_id"] == known.person_id, "sample"])
        by_time = pd.Series(stands.to_numpy(), times.loc[stands.index].to_numpy())
        stretches = joined((time, time + by_time[time]) for time in mine)
        assert row["spans"] == [[round(start, 3), round(end, 3)] for start, end in stretches]
        for name in ("first_s", "last_s", "on_screen_s", "appearances", "gender", "age_band"):
            assert row[name] == getattr(known, name)
    together = faces.merge(faces, on="sample").query("person_id_x < person_id_y")
    expected = stands.loc[together["sample"]].groupby(
        [together["person_id_x"].to_numpy(), together["person_id_y"].to_numpy()]
    )
    sums = expected.sum().to_dict()
    assert {(row["a"], row["b"]): row["co_presence_s"] for row in made["pairs"]} == pytest.approx(sums)
    assert {row["people"]: row["time_s"] for row in made["concurrent"]} == pytest.approx(
        stands.groupby(count).sum().to_dict()
    )
    sizes = people.groupby(["gender", "age_band"])["on_screen_s"].agg(["size", "sum"])
    cells = {key: (row["size"], row["sum"]) for key, row in sizes.iterrows()}
    for row in made["pyramid"]:
        size, seconds = cells.pop((row["gender"], row["band"]), (0, 0.0))
        assert row["people"] == size and row["on_screen_s"] == pytest.approx(seconds)
    assert not cells
    known_bins = run.timeline
    line = made["timeline"]
    for name in ("people", "female", "male", "unknown_gender"):
        assert line[name] == known_bins[name].tolist()
    for band in BANDS:
        assert line["ages"][band.name] == known_bins[band.column].tolist()
    assert len(told_shares(made)) == len(run.shares)
    for name in ("people_share", "time_low") if len(run.shares) else ():
        np.testing.assert_allclose(told_shares(made)[name], run.shares[name], atol=1e-12)
    return made


@pytest.mark.slow  # quick: test_a_real_run_is_reported in test_report_cli.py
def test_a_real_run_is_told_as_its_tables_say(
    two_portraits: tuple[NDArray[np.uint8], NDArray[np.uint8]], tmp_path: Path
) -> None:
    # Irregular times; one is there from the beginning to 4 s, the other from 2 s on; then nobody; then one.
    random = np.random.default_rng(5)
    times = np.cumsum(random.uniform(0.04, 0.2, 100)) - 0.04
    times[70:] += 3.0
    times -= times[0]
    pictures = []
    for time in times:
        picture = np.full((480, 854, 3), (90, 150, 120), np.uint8)
        if time < 4 or time > 11:
            picture[80:400, 80:380] = two_portraits[0]
        if 2 < time < 6:
            picture[80:400, 480:780] = two_portraits[1]
        pictures.append(picture)
    video = write_video(
        tmp_path / "two.mp4", pictures, times_s=times.tolist(), options={"preset": "ultrafast"}
    )
    run = analyze(video, Settings(video=False), out=tmp_path / "out")
    made = check_against_tables(run.folder)
    total = made["total"]
    # What was put in.
    assert total["people"] == 2 and total["concurrent_peak"] == 2
    assert total["first_s"] == 0
    assert made["pairs"][0]["co_presence_s"] == pytest.approx(2, abs=0.5)
    assert len(made["people"][0]["spans"]) == 2
    assert made["people"][0]["spans"][0][1] == pytest.approx(4, abs=0.4)


@pytest.mark.shared
def test_a_real_clip_is_told_as_its_tables_say(tmp_path: Path) -> None:
    video = clip("head-pose-face-detection-female-and-male.gif")
    run = analyze(video, Settings(video=False, formats=("parquet",)), out=tmp_path)
    made = check_against_tables(run.folder)
    assert made["total"]["people"] == 2 and made["total"]["mixed"] > 0


def test_the_total_does_not_depend_on_the_groups(many: tuple[Path, dict[str, Truth]]) -> None:
    folder, _ = many
    totals = [document(folder, by=by)["total"] for by in (None, "channel", "day", "video")]
    for total in totals[1:]:
        for name, value in total.items():
            assert value == pytest.approx(totals[0][name], abs=1e-9), name


def test_counts_far_from_their_estimates_are_warned_of(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    usual = random_plan(random, length_s=60, people=80, concurrent=5)
    # As many of 23 as of 43 and nobody between: no people on earth are seen like that.
    strange = dataclasses.replace(usual, age_years=np.repeat([23.0, 43.0], 40))
    notes = {}
    for name, plan in (("usual", usual), ("strange", strange)):
        make_run(tmp_path / name, plan)
        notes[name] = document(tmp_path / name)["notes"]
    assert not any("may not fit" in note for note in notes["usual"])
    assert any("may not apply to this footage" in note for note in notes["strange"])
