"""YouTube Analytics' exports in their forms, and the audience set against the screen."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analyzer.errors import SettingsError
from analyzer.people.proportions import ProportionDraws, draw_proportions
from analyzer.report import make_report
from analyzer.report.dataset import Corpus, find_runs
from analyzer.report.population import Population
from analyzer.report.shares import Shares
from analyzer.report.youtube_audience import Audience, read_export
from analyzer.settings import AGE_BANDS, Settings
from analyzer.vision.calibration import Calibration
from testkit.runs import make_run, random_plan
from tests.test_report_metrics import UNJUDGED, change_people, document, run_of, simple_plan

BANDS = [band.name for band in AGE_BANDS["youtube"]][1:]
CELLS = {
    ("18-24", "female"): 10.5,
    ("18-24", "male"): 20.0,
    ("65+", "female"): 30.25,
    ("13-17", "male"): 39.25,
}
API = """ageGroup,gender,viewerPercentage
age18-24,female,10.5
age18-24,male,20.0
age65-,female,30.25
age13-17,male,39.25
"""
BULK = """date,channel_id,age_group,gender,views_percentage
20260101,UC1,AGE_18_24,FEMALE,10.5
20260101,UC1,AGE_18_24,MALE,20.0
20260101,UC1,AGE_65_,FEMALE,30.25
20260101,UC1,AGE_13_17,MALE,39.25
"""
STUDIO = """Viewer age,Viewer gender,Views (%),Average view duration,Watch time (hours) (%)
Total,,100,0:03:04,100
18–24 years,Female,10.5,0:03:00,1
18–24 years,Male,20,0:03:00,2
65+ years,Female,30.25,0:03:00,3
13–17 years,Male,39.25,0:03:00,4
"""
FORMS = {
    "api": API,
    "bulk": BULK,
    "studio": STUDIO,
    "byte order mark": "\ufeff" + API,
    "semicolons and decimal commas": API.replace(",", ";").replace(".", ","),
    "tabs": STUDIO.replace(",", "\t"),
    "decimal commas in quotes": "ageGroup,gender,viewerPercentage\n"
    + "".join(f'age{band},{gender},"{share}"\n'.replace(".", ",") for (band, gender), share in CELLS.items()),
    "percent signs": API.replace("20.0", "20.0 %").replace("10.5", "10.5%"),
    "windows": API.replace("\n", "\r\n"),
    "empty lines": API.replace("\n", "\n\n") + "\n,,\n",
    "fractions": API.replace("10.5", "0.105")
    .replace("20.0", "0.2")
    .replace("30.25", ".3025")
    .replace("39.25", ".3925"),
    "other order": "viewerPercentage,gender,ageGroup\n"
    + "".join(f"{share},{gender},age{band}\n" for (band, gender), share in reversed(CELLS.items())),
    "zeros": API + "age25-34,female,0\nage25-34,male,\n",
    "one video": API.replace("ageGroup", "video,ageGroup").replace("\nage", "\nabc,age"),
    "one video and the sum": "Content,"
    + STUDIO.replace("\nTotal", "\nTotal,Total").replace("\n1", "\nabc,1").replace("\n65", "\nabc,65"),
}


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_export_is_read(form: str, tmp_path: Path) -> None:
    audience = read_export(write(tmp_path / "export.csv", FORMS[form]))
    assert audience.file == "export.csv"
    whole = sum(audience.cells.values())
    known = {key: 100 * value / whole for key, value in audience.cells.items() if value}
    assert known == pytest.approx(CELLS)
    rows = audience.against(None)["rows"]
    assert [row["group"] for row in rows] == ["female", "male", *BANDS]
    told = {row["group"]: row["audience_share"] for row in rows}
    expected = {"female": 0.4075, "male": 0.5925, "18-24": 0.305, "65+": 0.3025, "13-17": 0.3925}
    assert told == pytest.approx(dict.fromkeys([*BANDS], 0.0) | expected)
    # Without estimates there is nothing to compare with.
    for row in rows:
        assert {
            value for key, value in row.items() if key not in ("dimension", "group", "audience_share")
        } == {None}


def test_viewers_of_another_gender_are_left_out_of_the_genders_alone(tmp_path: Path) -> None:
    parts = {"10.5": "8.4", "20.0": "16", "30.25": "24.2", "39.25": "31.4"}
    text = functools.reduce(lambda text, part: text.replace(*part), parts.items(), API)
    text += "age25-34,user_specified,20\n"
    audience = read_export(write(tmp_path / "e.csv", text)).against(None)
    told = {row["group"]: row["audience_share"] for row in audience["rows"]}
    assert told["female"] == pytest.approx(0.4075) and told["female"] + told["male"] == pytest.approx(1)
    assert told["25-34"] == pytest.approx(0.2) and told["18-24"] == pytest.approx(0.8 * 0.305)
    assert any(note.startswith("20 % of the viewers stated another gender") for note in audience["notes"])
    plain = read_export(write(tmp_path / "e.csv", API)).against(None)
    assert not any("another gender" in note for note in plain["notes"])


@pytest.mark.parametrize(
    ("text", "dimension", "shares"),
    [
        ("ageGroup,viewerPercentage\nage18-24,20\nage65-,60\n", "age", {"18-24": 0.25, "65+": 0.75}),
        (
            "Viewer gender,Views (%)\nTotal,100\nFemale,60\nMale,20\nUser-specified,20\n",
            "gender",
            {"female": 0.75, "male": 0.25},
        ),
        ("gender;views_percentage\nFEMALE;1,5\nMALE;4,5\n", "gender", {"female": 0.25, "male": 0.75}),
        (
            "Viewer age,Views\n13–17 years,300\n18–24 years,100\nTotal,400\n",
            "age",
            {"13-17": 0.75, "18-24": 0.25},
        ),
    ],
)
def test_exports_of_one_dimension(
    text: str, dimension: str, shares: dict[str, float], tmp_path: Path
) -> None:
    rows = read_export(write(tmp_path / "e.csv", text)).against(None)["rows"]
    assert {row["dimension"] for row in rows} == {dimension}
    assert {row["group"]: row["audience_share"] for row in rows if row["audience_share"]} == pytest.approx(
        shares
    )


def test_percentages_need_not_add_up_to_a_hundred(tmp_path: Path) -> None:
    half = (
        API.replace("10.5", "5.25")
        .replace("20.0", "10")
        .replace("30.25", "15.125")
        .replace("39.25", "19.625")
    )
    one, other = (read_export(write(tmp_path / "e.csv", text)).against(None)["rows"] for text in (API, half))
    for row, same in zip(one, other, strict=True):
        assert row["audience_share"] == pytest.approx(same["audience_share"])


ONE, OTHER = "abcdefghij_", "-1234567890"
SEVERAL = f"""video,ageGroup,gender,viewerPercentage
{ONE},age18-24,female,75
{ONE},age18-24,male,25
{OTHER},age18-24,male,100
"""


def test_of_several_videos_the_report_s_own_is_taken(tmp_path: Path) -> None:
    path = write(tmp_path / "e.csv", SEVERAL)
    told = {row["group"]: row["audience_share"] for row in read_export(path, (ONE,)).against(None)["rows"]}
    assert told["female"] == pytest.approx(0.75)
    for ids in ((), ("other",), (ONE, OTHER)):
        with pytest.raises(SettingsError, match="lists several videos: report on one of them"):
            read_export(path, ids)


@pytest.mark.parametrize(
    ("url", "found"),
    [
        (f"https://www.youtube.com/watch?v={ONE}&t=5s", True),
        (f"https://youtu.be/{ONE}", True),
        (f"https://www.youtube.com/shorts/{ONE}", True),
        ("https://www.youtube.com/watch?v=abcdefghij-", False),
        (f"https://example.org/watch?v={ONE}", False),
        (None, False),
    ],
)
def test_a_video_is_known_by_its_address(url: str | None, found: bool, tmp_path: Path) -> None:
    folder = run_of(tmp_path / "run", simple_plan(10, [True] * 6), url=url)
    path = write(tmp_path / "e.csv", SEVERAL)
    if not found:
        with pytest.raises(SettingsError, match="lists several videos"):
            make_report([folder], youtube_analytics=path)
        return
    rows = document(folder, youtube_analytics=path)["audience"]["rows"]
    assert rows[0]["audience_share"] == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "has no columns ageGroup, gender and viewerPercentage"),
        ("ageGroup,gender,viewerPercentage\n", "holds no viewers: export a longer period"),
        (API.replace("20.0", "120"), "adds up to 200 %, not to 100"),
        (API + "age18-24,male,5\n", "has several rows for 18-24 male"),
        ("Date,Views\n2026-01-01,5\n", "has no columns"),
        ("ageGroup,gender\nage18-24,female\n", "has no columns"),
        ("<html><body>Sign in</body></html>\n<p>,</p>", "has no columns"),
        (API.replace("20.0", "-20"), "a percentage that is not a number: '-20'"),
        (API.replace("20.0", "many"), "a percentage that is not a number: 'many'"),
        (API.replace("20.0", "nan"), "a percentage that is not a number: 'nan'"),
        (API.replace("20.0", "inf"), "a percentage that is not a number: 'inf'"),
        ("ageGroup,viewerPercentage\nage18-24,0\nage25-34,\n", "holds no viewers: export a longer period"),
        ("ageGroup,viewerPercentage\nTotal,100\n", "holds no viewers"),
        (b"\xff\xfe\x00\x01\xe4", "cannot be read"),
        (b"PK\x03\x04\xff\xff\x00\x00xl/workbook.xml", "cannot be read"),
        ("ageGroup,viewerPercentage\nage18-24," + "9" * 200_000 + "\n", "cannot be read"),
    ],
)
def test_what_is_no_export_is_refused(text: str | bytes, reason: str, tmp_path: Path) -> None:
    path = write(tmp_path / "e.csv", text)
    with pytest.raises(SettingsError, match=reason) as caught:
        read_export(path)
    assert str(caught.value).startswith(f"--youtube-analytics {path} ")


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.csv", tmp_path):
        with pytest.raises(SettingsError, match=r"cannot be read .*: a CSV file is needed"):
            read_export(path)


# --- against the screen ---------------------------------------------------------------------------------


def draws_of(age: dict[str, list[float]] | None, women: list[float] | None) -> tuple[ProportionDraws, ...]:
    """Draws of the shares of time; those of people are all others, so that they cannot be taken for them."""
    found = []
    if women is not None:
        values = np.full((len(women), 2, 2, 2), 0.5)
        values[:, 0, 1] = np.stack([women, 1 - np.array(women)], 1)
        found.append(ProportionDraws("gender", ("female", "male"), values))
    if age is not None:
        classes = tuple(band.name for band in AGE_BANDS["youtube"])
        count = len(next(iter(age.values())))
        values = np.full((count, 2, 2, len(classes)), 1 / len(classes))
        values[:, 0, 1] = 0
        for name, drawn in age.items():
            values[:, 0, 1, classes.index(name)] = drawn
        found.append(ProportionDraws("age", classes, values))
    return tuple(found)


def test_differences_are_those_of_hand(tmp_path: Path) -> None:
    women = np.linspace(0.2, 0.6, 401)
    # Children have half of the time: they are left out, and the others add up to the whole.
    old = np.linspace(0.1, 0.3, 401)
    ages = {"0-12": np.full(401, 0.5), "65+": old, "18-24": 0.5 - old}
    draws = draws_of({name: list(values) for name, values in ages.items()}, list(women))
    made = read_export(write(tmp_path / "e.csv", API)).against(draws)
    assert made["basis"] == "time" and made["file"] == "e.csv"
    rows = {row["group"]: row for row in made["rows"]}
    expected = {
        # audience, mean on screen, ends: of draws that are evenly spread between two values
        "female": (0.4075, 0.4, 0.21, 0.59),
        "male": (0.5925, 0.6, 0.41, 0.79),
        "65+": (0.3025, 0.4, 0.21, 0.59),
        "18-24": (0.305, 0.6, 0.41, 0.79),
        "13-17": (0.3925, 0, 0, 0),
        "25-34": (0, 0, 0, 0),
    }
    for name, (audience, share, low, high) in expected.items():
        row = rows[name]
        assert row["audience_share"] == pytest.approx(audience)
        assert [row[f"on_screen_{what}"] for what in ("share", "low", "high")] == pytest.approx(
            [share, low, high]
        )
        assert row["difference"] == pytest.approx(share - audience)
        assert row["difference_low"] == pytest.approx(low - audience)
        assert row["difference_high"] == pytest.approx(high - audience)
    assert "0-12" not in rows
    assert any("13 or older" in note for note in made["notes"])


def test_draws_in_which_only_children_are_seen_say_nothing_of_viewers(tmp_path: Path) -> None:
    audience = read_export(write(tmp_path / "e.csv", API))
    ages = {"0-12": [1.0, 1.0, 0.5, 0.5], "35-44": [0.0, 0.0, 0.5, 0.5]}
    rows = {row["group"]: row for row in audience.against(draws_of(ages, [0.5] * 4))["rows"]}
    assert rows["35-44"]["on_screen_share"] == pytest.approx(1)
    only = audience.against(draws_of({"0-12": [1.0] * 4}, [0.5] * 4))["rows"]
    assert {row["on_screen_share"] for row in only if row["dimension"] == "age"} == {None}
    assert {row["on_screen_share"] for row in only if row["dimension"] == "gender"} == {0.5}
    assert Audience("x", {("18-24", ""): 1.0}).against(draws_of(None, None))["rows"][0]["difference"] is None


def test_a_report_sets_the_audience_against_its_draws(tmp_path: Path) -> None:
    plan = random_plan(np.random.default_rng(2), length_s=20, people=12, concurrent=3)
    children = dataclasses.replace(plan, age_years=np.where(np.arange(12) < 4, 6.0, plan.age_years + 15))
    for number, one in enumerate((plan, children)):
        run_of(tmp_path / "runs" / f"{number}", one, channel=f"c{number}")
    path = write(tmp_path / "e.csv", STUDIO)
    made = document(tmp_path / "runs", youtube_analytics=path, by="channel")["audience"]
    with Corpus.open(find_runs([tmp_path / "runs"])) as corpus:
        population = Population(corpus, by="channel")
        grown_ups = population.people[population.people["age_years"] >= 12.5]
        everybody = np.zeros(len(grown_ups), np.int64)
        gender, _ = draw_proportions(grown_ups, Settings(), Calibration.load(), groups=everybody)
        _, age = Shares(population).total_draws
    rows = {row["group"]: row for row in made["rows"]}
    women = gender.values[:, 0, 1, gender.classes.index("female")]
    time = age.values[:, 0, 1]
    assert time[:, 0].mean() > 0.05  # there are children
    grown = time[:, 1:] / time[:, 1:].sum(axis=1, keepdims=True)
    for name, drawn in (("female", women), ("male", 1 - women), *zip(BANDS, grown.T, strict=True)):
        row = rows[name]
        low, high = np.quantile(drawn, [0.025, 0.975])
        assert row["on_screen_share"] == pytest.approx(drawn.mean())
        assert row["difference"] == pytest.approx(drawn.mean() - row["audience_share"])
        assert row["difference_low"] == pytest.approx(min(low, drawn.mean()) - row["audience_share"])
        assert row["difference_high"] == pytest.approx(max(high, drawn.mean()) - row["audience_share"])
    assert sum(rows[band]["on_screen_share"] for band in BANDS) == pytest.approx(1)


def test_one_video_is_set_against_its_audience(tmp_path: Path) -> None:
    men = dataclasses.replace(simple_plan(15, [False] * 10), age_years=np.full(10, 70.0))
    folder = make_run(tmp_path / "run", men)
    made = document(folder, youtube_analytics=write(tmp_path / "e.csv", API))
    rows = {row["group"]: row for row in made["audience"]["rows"]}
    assert rows["male"]["on_screen_share"] > 0.9 and rows["male"]["difference_low"] > 0
    assert rows["65+"]["difference"] > 0.3
    # As the stored shares, which are drawn in the same way: there are no children.
    stored = next(row for row in made["shares"] if row["group"] == "male")
    assert rows["male"]["on_screen_share"] == pytest.approx(stored["time_share"], abs=0.02)


@pytest.mark.parametrize(("people", "told"), [(4, False), (5, True)])
def test_of_too_few_people_nothing_is_set_against_the_audience(
    people: int, told: bool, tmp_path: Path
) -> None:
    folder = make_run(tmp_path / "run", simple_plan(15, [True] * people))
    audience = document(folder, youtube_analytics=write(tmp_path / "e.csv", API))["audience"]
    assert all((row["on_screen_share"] is not None) == told for row in audience["rows"])
    assert any("too few people" in note for note in audience["notes"]) != told


def test_children_count_for_neither_gender_against_the_audience(tmp_path: Path) -> None:
    plan = simple_plan(15, [True] * 8 + [False] * 8)
    plan.age_years[:8] = 6.0
    folder = make_run(tmp_path / "run", plan, Settings(gender_of_children=True))
    made = document(folder, youtube_analytics=write(tmp_path / "e.csv", API))
    male = next(row for row in made["audience"]["rows"] if row["group"] == "male")
    assert male["on_screen_share"] > 0.9
    assert next(row for row in made["shares"] if row["group"] == "male")["time_share"] < 0.7


def test_other_age_bands_cannot_be_set_against_the_audiences(tmp_path: Path) -> None:
    folder = run_of(tmp_path / "run", simple_plan(15, [True] * 8), Settings(age_bands="adience"))
    rows = document(folder, youtube_analytics=write(tmp_path / "e.csv", API))["audience"]["rows"]
    for row in rows:
        assert (row["difference"] is None) == (row["dimension"] == "age")


def test_without_estimates_there_is_only_the_audience(tmp_path: Path) -> None:
    folder = run_of(tmp_path / "run", simple_plan(15, [True] * 8))
    change_people(folder, **UNJUDGED)
    rows = document(folder, youtube_analytics=write(tmp_path / "e.csv", API))["audience"]["rows"]
    assert {row["on_screen_share"] for row in rows} == {None} and len(rows) == 9


def test_a_limit_that_nobody_meets_leaves_nothing_to_compare(tmp_path: Path) -> None:
    folder = run_of(tmp_path / "run", simple_plan(15, [True] * 8))
    path = write(tmp_path / "e.csv", API)
    with pytest.raises(SettingsError, match="--min-people suppresses everyone"):
        make_report([folder], youtube_analytics=path, min_people=9)
    told: dict[str, Any] = document(folder, youtube_analytics=path, min_people=8)["audience"]
    assert told["rows"][0]["difference"] is not None
