"""Corrections by hand: what they do to tables, that nothing is lost, that they survive another analysis."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from analyzer.cli import cli
from analyzer.correct import add_corrections, healed, undo_correction
from analyzer.errors import OutputError, SettingsError
from analyzer.people.identity import HEIGHTS
from analyzer.report.build import make_report
from analyzer.runs import corrections as module
from analyzer.runs.corrections import Correction, Corrections, read_corrections
from analyzer.runs.rederive import found_of, is_current
from analyzer.runs.run import CORRECTIONS_FILE, Run
from analyzer.runs.schema import FACES, LINKS, SAMPLES
from analyzer.runs.suggestions import cast, suggestions
from analyzer.runs.tables import write_parquet
from testkit.runs import Plan, make_run

TABLES = ("people", "timeline", "shares", "faces")

SPANS = {1: (0, 10), 2: (2, 12), 3: (12, 20), 4: (5, 8), 5: (14, 30), 6: (20, 26), 7: (0, 30)}
"""When each person of the run is seen, in seconds; five samples a second."""


def plan() -> Plan:
    times = np.arange(150) / 5
    present = np.stack([(times >= a) & (times < b) for a, b in SPANS.values()], axis=1)
    female = np.array([0.95, 0.05, 0.9, 0.1, 0.5, 0.95, 0.02])
    return Plan(times, 30.0, present, female, np.array([30.0, 40.0, 31.0, 50.0, 60.0, 22.0, 35.0]))


def placed(faces: pd.DataFrame) -> pd.DataFrame:
    """Everybody in a place of their own."""
    left = faces["person_id"] * 150.0 - 100
    return faces.assign(x1=left, y1=200.0, x2=left + 80, y2=300.0)


def links(*rows: tuple[int, int, float]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["tracklet_id", "other_tracklet_id", "distance"])
    return table.assign(video_id="run", kind="appearance")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of seven people; 2 has two tracklets, of which the second begins at 7 s."""
    folder = make_run(tmp_path_factory.mktemp("corrections") / "run", plan())
    faces = placed(Run.load(folder).faces)
    late = (faces["person_id"] == 2) & (faces["time_s"] >= 7)
    faces.loc[late, "tracklet_id"] = 20
    write_parquet(folder / "faces.parquet", faces, FACES)
    some = links((1, 20, 0.41), (0, 2, 0.46), (3, 5, 0.58))
    write_parquet(folder / "links.parquet", some, LINKS)
    add_corrections(folder, [Correction("drop", person=1)])  # tables as this program derives them
    undo_correction(folder)
    return folder


@pytest.fixture
def run(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "run"))


def person(folder: Path, number: int) -> dict[str, Any]:
    people = Run.load(folder).people
    (row,) = people[people["person_id"] == number].to_dict("records")
    return row


def content(folder: Path) -> dict[str, pd.DataFrame]:
    return {name: getattr(Run.load(folder), name) for name in TABLES}


def same(one: dict[str, pd.DataFrame], other: dict[str, pd.DataFrame]) -> bool:
    return all(one[name].equals(other[name]) for name in TABLES)


def test_a_merge_moves_time_and_counts_and_keeps_the_lowest_number(run: Path) -> None:
    before = Run.load(run)
    add_corrections(run, [Correction("merge", people=(3, 1))])
    after = Run.load(run)
    assert after.people["person_id"].tolist() == [1, 2, 4, 5, 6, 7]
    merged = person(run, 1)
    assert merged["on_screen_s"] == pytest.approx(18.0) and merged["appearances"] == 1
    assert (merged["first_s"], merged["last_s"]) == pytest.approx((0.0, 20.0))
    assert merged["corrected"] and not person(run, 2)["corrected"]
    assert after.info["counts"]["people"] == 6 == len(after.people)
    assert after.info["counts"]["female"] == before.info["counts"]["female"] - 1
    assert after.timeline["people"].sum() == before.timeline["people"].sum()
    assert after.timeline["new_people"].sum() == 6
    facts = after.info["corrections"]
    assert facts and (facts["count"], facts["people_before"]) == (1, 7)
    assert after.info["counts"]["people_high"] == before.info["counts"]["people_high"] - 1
    assert "1 merge" in after.info["notes"][0] and after.info["note_reasons"][0] == "corrected"


def test_of_two_faces_in_a_sample_a_merged_person_has_one(run: Path) -> None:
    add_corrections(run, [Correction("merge", people=(4, 7))])
    faces = Run.load(run).faces
    mine = faces[faces["person_id"] == 4]
    assert not mine["sample"].duplicated().any() and len(mine) == 150
    assert person(run, 4)["on_screen_s"] == pytest.approx(30.0)
    # The longer tracklet stays.
    assert set(mine["tracklet_id"]) == {6}


def test_a_split_gives_the_next_number_to_what_begins_later(run: Path) -> None:
    add_corrections(run, [Correction("split", person=2, at_s=6.5)])
    assert person(run, 2)["last_s"] == pytest.approx(7.0) and person(run, 8)["first_s"] == pytest.approx(7.0)
    assert len(Run.load(run).people) == 8
    (one,) = read_corrections(run).active
    assert (one.tracklets, one.becomes) == ((20,), 8)
    undo_correction(run)
    add_corrections(run, [Correction("split", person=2)])  # by appearance: there is one link
    assert {row["person_id"] for row in Run.load(run).people.to_dict("records")} == {*range(1, 8), 9}


def test_confirmed_gender_age_and_name_are_marked_and_stay_estimates_beside(run: Path) -> None:
    before = person(run, 5)
    assert before["gender"] == "unknown" and before["gender_source"] == "estimated"
    add_corrections(
        run,
        [
            Correction("gender", person=5, gender="female"),
            Correction("age", person=5, age_band="30-39"),
            Correction("age", person=6, age_years=24),
            Correction("name", person=5, name="Ada"),
        ],
    )
    after = person(run, 5)
    assert (after["gender"], after["gender_source"], after["name"]) == ("female", "confirmed", "Ada")
    assert after["female_prob"] == before["female_prob"]
    # The estimate, about 60, as near as the band allows.
    assert (after["age_years"], after["age_low"], after["age_high"]) == (39.0, 30.0, 39.0)
    assert (after["age_source"], after["age_band"]) == ("confirmed", "35-44")
    assert [person(run, 6)[name] for name in ("age_years", "age_low", "age_high")] == [24.0] * 3
    bins = Run.load(run).timeline
    assert bins.loc[bins["start_s"] == 27, ["female", "male", "unknown_gender"]].iloc[0].tolist() == [1, 1, 0]
    assert Run.load(run).info["counts"]["unknown_gender"] == 0


@pytest.mark.parametrize("action", ["drop", "not_a_person"])
def test_who_is_left_out_is_in_no_figure(run: Path, action: str) -> None:
    add_corrections(run, [Correction(action, person=7)])
    after = Run.load(run)
    assert 7 not in after.people["person_id"].tolist()
    assert after.info["counts"]["on_screen_s"] == pytest.approx(after.people["on_screen_s"].sum())
    assert (after.faces.loc[after.faces["linked_person_id"] == 7, "person_id"] == -1).all()
    report = make_report([run]).document
    assert report["total"]["people"] == 6 and report["total"]["occupancy"] == pytest.approx(1.0)


def test_confirmed_people_are_known_in_the_shares(run: Path) -> None:
    genders = ["female", "male", "male", "female", "female", "male", "female"]
    some = [Correction("gender", person=n, gender=gender) for n, gender in enumerate(genders, 1)]
    before = Run.load(run).shares.set_index("group").loc["female"]
    add_corrections(run, some[:4])
    part = Run.load(run).shares.set_index("group").loc["female"]
    assert part["people_high"] - part["people_low"] < before["people_high"] - before["people_low"]
    add_corrections(run, some[4:])
    people, row = Run.load(run).people, Run.load(run).shares.set_index("group").loc["female"]
    ends = [row[f"people_{name}"] for name in ("share", "low", "high")]
    assert ends == pytest.approx([4 / 7] * 3, abs=1e-6)
    assert "confirmed by hand" in (Run.load(run).info["shares_text"] or "")
    of_women = people.loc[people["gender"] == "female", "on_screen_s"].sum() / people["on_screen_s"].sum()
    assert [row[f"time_{name}"] for name in ("share", "low", "high")] == pytest.approx(
        [of_women] * 3, abs=1e-6
    )
    assert make_report([run]).document["total"]["female_people_share"] == pytest.approx(4 / 7, abs=1e-6)


def test_shares_over_several_runs_know_who_is_confirmed(run: Path, original: Path) -> None:
    women = [Correction("gender", person=number, gender="female") for number in range(1, 8)]
    estimated = make_report([original, original.parent]).document["total"]
    copy = Path(shutil.copytree(run, run.parent / "other"))
    for folder in (run, copy):
        add_corrections(folder, women)
    known = make_report([run, copy]).document["total"]
    assert known["female_people_share"] == pytest.approx(1.0, abs=1e-6)
    assert 0.2 < estimated["female_people_share"] < 0.8


MANY = [
    Correction("merge", people=(1, 3)),
    Correction("split", person=2, at_s=6.0),
    Correction("gender", person=8, gender="female"),
    Correction("age", person=8, age_years=33.0),
    Correction("name", person=1, name="Zoë"),
    Correction("merge", people=(2, 6)),
    Correction("not_a_person", person=4),
    Correction("drop", person=7),
]


def test_undoing_everything_gives_the_same_tables(run: Path, original: Path) -> None:
    states = [content(run)]
    for one in MANY:
        add_corrections(run, [one])
        states.append(content(run))
    assert all(not same(one, other) for one, other in itertools.pairwise(states))
    for state in reversed(states[:-1]):
        undo_correction(run)
        assert same(content(run), state)
    assert same(content(run), content(original))
    assert len(read_corrections(run).entries) == 2 + 2 * len(MANY)
    with pytest.raises(SettingsError, match="there is no correction to undo"):
        undo_correction(run)


def test_the_file_is_only_appended_to(run: Path) -> None:
    lines = [(run / CORRECTIONS_FILE).read_text("utf-8").splitlines()]
    for one in MANY:
        add_corrections(run, [one])
        lines.append((run / CORRECTIONS_FILE).read_text("utf-8").splitlines())
    for fewer, more in itertools.pairwise(lines):
        assert [one.rstrip(",") for one in more[: len(fewer) - 1]] == [one.rstrip(",") for one in fewer[:-1]]


def test_a_correction_that_others_build_on_is_undone_after_them(run: Path) -> None:
    add_corrections(run, [Correction("split", person=2, at_s=6.0), Correction("name", person=8, name="Ada")])
    split, _ = read_corrections(run).active
    with pytest.raises(SettingsError, match="builds on"):
        undo_correction(run, split.number)
    undo_correction(run)
    undo_correction(run, split.number)
    assert read_corrections(run).active == ()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ([{"action": "merge", "people": [3]}], "two or more different people"),
        ([{"action": "merge", "people": [3, 99]}], "there is no person 99; there are 1-7"),
        ([{"action": "merge", "people": [3, 99], "person": 3}], "and no single person"),
        ([{"action": "split", "person": 4}], "person 4 has one tracklet"),
        ([{"action": "split", "person": 2, "at_s": 20}], "begin before 20 s; they begin from 2.0 to 7.0 s"),
        ([{"action": "split", "person": 2, "tracklets": [5]}], "tracklet 5 is not one of person 2's"),
        ([{"action": "gender", "person": 1, "gender": "woman"}], "'woman' is none of female, male, unknown"),
        ([{"action": "age", "person": 1, "age_years": 300}], "is not an age"),
        ([{"action": "age", "person": 1, "age_band": "39-30"}], "is not an age"),
        ([{"action": "age", "person": 1, "age_band": "old"}], "not an age band"),
        ([{"action": "name", "person": 1, "name": "a\nb"}], "cannot be shown"),
        ([{"action": "name", "person": 1, "name": "x" * 101}], "at most 100 characters"),
        ([{"action": "paint", "person": 1}], "there is no correction 'paint'"),
        ([{"action": "name", "person": "1", "name": "A"}], "whole numbers"),
        ([{"action": "drop", "person": 1, "why": 3}], "has no key why"),
        ([{"action": "drop"}], "needs the number of a person"),
        ([{"action": "undo", "undoes": 77}], "no correction 77 in force|no correction to undo"),
        ([{"action": "drop", "person": 1}, {"action": "split", "person": 1}], "is left out"),
        (
            [{"action": "name", "person": 1, "name": "A"}, {"action": "name", "person": 2, "name": "A"}],
            "person 1 is named A already",
        ),
        ("drop 1", "a correction is an object"),
    ],
)  # fmt: skip
def test_wrong_corrections_are_one_sentence_and_change_nothing(run: Path, wrong: Any, said: str) -> None:
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    documents = wrong if isinstance(wrong, list) else [wrong]
    with pytest.raises(SettingsError, match=said) as raised:
        add_corrections(run, [Correction.of(one) for one in documents])
    assert "\n" not in str(raised.value)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_what_is_set_on_storing_cannot_be_given(run: Path) -> None:
    forged = {
        "becomes": 10**30,
        "where": {"1": [[0, 0, 0, 1, 1]]},
        "analysis": "x",
        "number": 9,
        "at": "never",
    }
    add_corrections(run, [Correction.of({"action": "name", "person": 1, "name": "Ada"} | forged)])
    (stored,) = read_corrections(run).entries[-1:]
    assert stored.becomes is None and stored.number != 9 and len(stored.where["1"]) > 1
    assert stored.analysis != "x" and stored.at != "never"
    split = add_corrections(run, [Correction("split", person=2)]).active[-1]
    assert split.becomes == 8


def test_who_is_named_twice_in_a_merge_counts_once(run: Path, original: Path) -> None:
    shutil.copytree(original, run.with_name("once"))
    add_corrections(run, [Correction("merge", people=(3, 3, 7))])
    add_corrections(run.with_name("once"), [Correction("merge", people=(3, 7))])
    ranges = [Run.load(one).info["counts"] for one in (run, run.with_name("once"))]
    assert ranges[0] == ranges[1]


def test_corrections_survive_json(run: Path) -> None:
    add_corrections(run, MANY)
    stored = read_corrections(run)
    assert [Correction.of(json.loads(json.dumps(one))) for one in stored.to_list()] == list(stored.entries)
    (run / CORRECTIONS_FILE).write_text('{"version": 1, "corrections": [{"action": "fly"}]}', "utf-8")
    with pytest.raises(OutputError, match=r"is damaged \(there is no correction 'fly'"):
        read_corrections(run)
    (run / CORRECTIONS_FILE).write_text('{"version": 9}', "utf-8")
    with pytest.raises(OutputError, match="newer version"):
        read_corrections(run)


def test_a_report_in_the_folder_follows_and_keeps_who_it_hides(run: Path) -> None:
    make_report([run]).save(["html", "json"])
    add_corrections(run, [Correction("name", person=2, name="Ada <b>"), Correction("drop", person=7)])
    document = json.loads((run / "report.json").read_text("utf-8"))
    assert document["total"]["people"] == 6 and document["videos"][0]["run"] == "run"
    (ada,) = [one for one in document["people"] if one["person_id"] == 2]
    assert (ada["name"], ada["corrected"], ada["gender_source"]) == ("Ada <b>", True, "estimated")
    page = (run / "report.html").read_text("utf-8")
    assert "Ada <b>" not in page and re.search(r"Ada (&lt;|\\u003c)b", page) and "corrected by hand" in page
    assert any("1 left out" in note for note in document["notes"])
    make_report([run], min_people=5).save(["json"])
    undo_correction(run)
    document = json.loads((run / "report.json").read_text("utf-8"))
    assert document["min_people"] == 5 and document["people"] is None
    (run / "report.json").unlink()
    make_report([run], min_people=5).save(["csv"])  # which does not say what it hides
    undo_correction(run)
    assert not list(run.glob("report*"))


def test_a_stale_annotated_video_is_removed_and_named(run: Path) -> None:
    info = json.loads((run / "run.json").read_text("utf-8"))
    info["annotated"] = {"file": "annotated.mp4", "frames": 3}
    (run / "run.json").write_text(json.dumps(info), "utf-8")
    (run / "annotated.mp4").write_bytes(b"old labels")
    add_corrections(run, [Correction("name", person=2, name="Ada")])
    assert not (run / "annotated.mp4").exists()
    assert "which draws only the video" in Run.load(run).video_error
    shown = CliRunner().invoke(cli, ["correct", str(run), "--name", "2=Ada Lovelace"])
    assert "annotated video: it was removed" in shown.output


# --- kills -------------------------------------------------------------------------------------------


def _correct_counting(folder: Path, killed_at: int, steps: Any) -> None:
    """Add corrections, and be killed when a certain file is replaced or removed; counts these."""

    def counting(method: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **more: Any) -> Any:
            if steps.value == killed_at:
                os.kill(os.getpid(), signal.SIGKILL)
            steps.value += 1
            return method(*arguments, **more)

        return wrapped

    for name in ("replace", "unlink"):
        setattr(Path, name, counting(getattr(Path, name)))
    add_corrections(folder, TWO)
    os._exit(0)


TWO = [Correction("merge", people=(1, 3)), Correction("drop", person=7)]


@pytest.mark.slow
def test_killed_at_any_moment_a_run_is_as_before_or_healed(original: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")

    def killed(at: int) -> tuple[Path, int]:
        folder = Path(shutil.copytree(original, tmp_path / str(at) / "run"))
        steps = context.Value("i", 0)
        process = context.Process(target=_correct_counting, args=(folder, at, steps))
        process.start()
        process.join()
        assert (process.exitcode == 0) == (at < 0)
        return folder, steps.value

    done, count = killed(-1)
    before, after, outcomes = content(original), content(done), set()
    assert not same(before, after)
    for at in np.linspace(0, count - 1, 9).astype(int).tolist():
        folder, _ = killed(at)
        stored = len(read_corrections(folder).active)
        outcomes.add((bool(stored), is_current(Run.load(folder))))
        healed(folder)
        assert is_current(Run.load(folder)) and same(content(folder), after if stored else before)
    # Killed before the corrections were stored, and between them and the tables.
    assert outcomes >= {(False, True), (True, False)}


def test_a_report_of_an_interrupted_correction_is_about_the_corrected_people(run: Path) -> None:
    corrected = Path(shutil.copytree(run, run.parent / "corrected"))
    add_corrections(corrected, TWO)
    shutil.copy(corrected / CORRECTIONS_FILE, run / CORRECTIONS_FILE)  # killed before its tables followed
    assert make_report([run]).document["total"]["people"] == 5
    assert is_current(Run.load(run)) and same(content(run), content(corrected))


# --- another analysis --------------------------------------------------------------------------------


def renumbered(
    folder: Path, *, moved: float = 0.0, split: int | None = None, without: int | None = None
) -> Path:
    """The same people, found by another analysis: other numbers, and every second sample."""
    found = found_of(Run.load(folder))
    faces = found.faces[found.faces["sample"] % 2 == 0].copy()
    people = 8 - faces["linked_person_id"].to_numpy()
    tracklets = 100 - faces["tracklet_id"].to_numpy()
    if split is not None:
        people[(faces["linked_person_id"] == split) & (faces["time_s"] >= 7)] = 50
    faces = faces.assign(linked_person_id=people, tracklet_id=tracklets, x1=faces["x1"] + moved)
    faces["x2"] = faces["x2"] + moved
    if without is not None:
        faces = faces[faces["linked_person_id"] != 8 - without]
    samples = found.samples[found.samples["sample"] % 2 == 0].assign(duration_s=0.4)
    faces = faces.assign(person_id=faces["linked_person_id"])
    other = Path(shutil.copytree(folder, folder.parent / "other"))
    write_parquet(other / "faces.parquet", faces, FACES)
    write_parquet(other / "samples.parquet", samples, SAMPLES)
    info = json.loads((other / "run.json").read_text("utf-8")) | {"corrections": None}
    (other / "run.json").write_text(json.dumps(info), "utf-8")
    return other


def test_corrections_find_their_people_in_another_analysis(run: Path) -> None:
    add_corrections(run, MANY[:5])
    other = renumbered(run, moved=15.0)
    healed(other)
    people = Run.load(other).people.set_index("person_id")
    # 1 and 3 were 7 and 5; 2 was 6, whose second part is new.
    assert sorted(people.index) == [1, 2, 3, 4, 5, 6, 8]
    assert people.loc[5, "name"] == "Zoë" and people.loc[5, "on_screen_s"] == pytest.approx(18.0, abs=0.5)
    assert (people.loc[8, "gender"], people.loc[8, "age_years"]) == ("female", 33.0)
    assert people.loc[8, "first_s"] == pytest.approx(7.0, abs=0.5)
    facts = Run.load(other).info["corrections"]
    assert facts and (facts["count"], facts["lost"]) == (5, 0)
    # More are added with the new numbers, and everything can be undone.
    add_corrections(other, [Correction("name", person=8, name="Ada")])
    assert Run.load(other).people.set_index("person_id").loc[8, "name"] == "Ada"
    for _ in range(6):
        undo_correction(other)
    assert not Run.load(other).people["corrected"].any() and len(Run.load(other).people) == 7


def test_an_analysis_without_the_mistake_keeps_what_follows_from_it(run: Path) -> None:
    add_corrections(run, [Correction("split", person=2, at_s=6), Correction("name", person=8, name="Ada")])
    other = renumbered(run, split=2)
    healed(other)
    people = Run.load(other).people.set_index("person_id")
    assert people.loc[50, "name"] == "Ada" and sorted(people.index) == [1, 2, 3, 4, 5, 6, 7, 50]


def test_corrections_whose_people_are_gone_are_named(run: Path) -> None:
    add_corrections(
        run, [Correction("name", person=4, name="Ada"), Correction("gender", person=1, gender="male")]
    )
    other = renumbered(run, without=4)
    healed(other)
    info = Run.load(other).info
    assert info["corrections"] and (info["corrections"]["count"], info["corrections"]["lost"]) == (1, 1)
    (note,) = [note for note in info["notes"] if "was not applied" in note]
    assert "name of 4: Ada" in note
    assert len(read_corrections(other).active) == 2  # another analysis may find them


# --- suggestions -------------------------------------------------------------------------------------


def test_suggestions_come_from_links_and_doubts(run: Path) -> None:
    found = suggestions(run)
    (merge, unlikely) = [one for one in found if one.kind == "merge"]
    assert merge.people == (1, 3) and "0.46" in merge.reason and merge.score > unlikely.score
    assert unlikely.people == (4, 6) and unlikely.score > 0.5 * merge.score
    (split,) = [one for one in found if one.kind == "split"]
    assert HEIGHTS[0] < 0.41 < HEIGHTS[1] and split.people == (2,) and split.tracklets == (1,)
    (check,) = [one for one in found if one.kind == "check" and one.people == (5,)]
    assert "gender is not stated" in check.reason
    assert found == sorted(found, key=lambda one: -one.score)
    add_corrections(
        run,
        [
            Correction("merge", people=(1, 3)),
            Correction("gender", person=5, gender="male"),
            Correction("split", person=2),
        ],
    )
    left = suggestions(run)
    assert (1, 3) not in [one.people for one in left] and not [one for one in left if one.kind == "split"]
    assert not [one for one in left if one.people == (5,) and "gender" in one.reason]


def test_two_who_were_split_are_not_suggested_again(run: Path) -> None:
    add_corrections(run, [Correction("split", person=2)])
    write_parquet(run / "links.parquet", links((1, 20, 0.45)), LINKS)
    assert not [one for one in suggestions(run) if one.kind == "merge"]


def test_the_cast_of_a_channel_is_remembered_by_name(original: Path, tmp_path: Path) -> None:
    for name, channel, people in (
        ("a", "Talks", ["Ada", "Bo"]),
        ("b", "Talks", ["Ada"]),
        ("c", "Others", ["Eve"]),
        ("d", "Talks", []),
    ):
        folder = Path(shutil.copytree(original, tmp_path / name))
        info = json.loads((folder / "run.json").read_text("utf-8")) | {"channel": channel}
        (folder / "run.json").write_text(json.dumps(info), "utf-8")
        names = [Correction("name", person=number, name=one) for number, one in enumerate(people, 1)]
        if names:
            add_corrections(folder, names)
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / CORRECTIONS_FILE).write_text("{", "utf-8")
    assert cast(tmp_path / "d") == ["Ada", "Bo"] and cast(tmp_path / "c") == ["Eve"]


# --- the command line --------------------------------------------------------------------------------


def command(*arguments: Any) -> Any:
    return CliRunner().invoke(cli, ["correct", *map(str, arguments)])


def test_options_are_applied_in_the_order_given(run: Path) -> None:
    options = (
        "--name",
        "3=Ada",
        "--split",
        "2",
        "--at",
        "6",
        "--name",
        "8=Bob",
        "--merge",
        "3,1",
        "--drop",
        "7",
    )
    result = command(
        run, *options, "--age", "8=30-39", "--age", "5=41", "--gender", "8=male", "--not-a-person", 4
    )
    assert result.exit_code == 0, result.output
    actions = [one.action for one in read_corrections(run).active]
    assert actions == ["name", "split", "name", "merge", "drop", "age", "age", "gender", "not_a_person"]
    assert "Ada, female" in result.output and "Bob, male, 39 (gender and age confirmed)" in result.output
    assert person(run, 1)["name"] == "Ada" and person(run, 5)["age_years"] == 41.0
    result = command(run, "--undo", "--undo", "--name", "1=Eve")
    assert result.exit_code == 0 and 4 in Run.load(run).people["person_id"].tolist()
    assert person(run, 8)["gender_source"] == "estimated" and person(run, 1)["name"] == "Eve"
    document = json.loads(command(run, "--list", "--json").output)
    assert document["people"] == len(Run.load(run).people)
    assert [one["action"] for one in document["corrections"]] == [*actions[:7], "name"]
    assert document["suggestions"] and "where" not in document["corrections"][0]


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--at", 3), 2, "--at 3 must follow the --split"),
        (("--merge", "3"), 2, "two or more different people"),
        (("--merge", "a,b"), 2, "'a' is not the number of a person"),
        (("--gender", "5"), 2, "such as 3=female"),
        (("--name", "5=A", "--age", "99=4"), 2, "there is no person 99"),
        (("--undo",), 2, "there is no correction to undo"),
    ],
)
def test_wrong_options(run: Path, options: tuple[Any, ...], code: int, said: str) -> None:
    result = command(run, *options)
    assert (result.exit_code, said in result.output) == (code, True), result.output
    assert not read_corrections(run).active
    assert command(run.parent / "nothing", "--undo").exit_code == 3


def test_key_and_fingerprint_change_with_their_content(run: Path) -> None:
    faces = Run.load(run).faces
    assert module.fingerprint(faces) == module.fingerprint(faces.copy())
    assert module.fingerprint(faces) != module.fingerprint(faces.assign(tracklet_id=faces["tracklet_id"] + 1))
    assert Corrections().key == "" and read_corrections(run).key != ""
