"""Finding runs, choosing among them, and what stands in the way: damage, odd names, older versions."""

from __future__ import annotations

import dataclasses
import datetime
import errno
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from analyzer.errors import OutputError, SettingsError
from analyzer.people import proportions
from analyzer.report import Chosen, make_report
from analyzer.report.dataset import VIEWS, Corpus, Found, find_runs, newest_run
from analyzer.runs.run_info import SCHEMA_VERSION
from analyzer.settings import Settings
from testkit.runs import Plan, make_run, random_plan
from tests.test_report_metrics import (
    Truth,
    assert_figures,
    document,
    nobody,
    simple_plan,
    some_shares,
    total_of,
)

Row = dict[str, Any]


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here nothing depends on the shares: they are drawn a few times only."""
    monkeypatch.setattr(proportions, "_DRAWS", 20)
    monkeypatch.setattr(proportions, "_BURN_IN", 5)


def plan_of(number: int, people: int = 5) -> Plan:
    return random_plan(np.random.default_rng(number), length_s=8, people=people, concurrent=1)


def run_of(folder: Path, number: int = 0, settings: Settings | None = None, **info: Any) -> Path:
    """A small run; of other content for each number."""
    settings = settings or Settings(formats=("parquet",))
    return make_run(folder, plan_of(number), settings, shares=some_shares(), **info)


def names(found: Found) -> list[str]:
    return sorted(run.folder.name for run in found.runs)


def reasons(found: Found) -> dict[str, tuple[str, bool]]:
    return {one.folder.name: (one.reason, one.fault) for one in found.skipped}


def chosen_runs(paths: Path | Sequence[Path], **chosen: Any) -> list[str]:
    """Names of the runs that are chosen, sorted."""
    with Corpus.open(find_runs([paths] if isinstance(paths, Path) else paths), Chosen(**chosen)) as corpus:
        return sorted(corpus.table["run"])


# --- finding --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs at several depths, beside folders and files that are none."""
    root = tmp_path_factory.mktemp("tree")
    run_of(root / "one", 1)
    run_of(root / "deep" / "er" / "two", 2)
    run_of(root / "deep" / "three", 3)
    (root / "foreign" / "inside").mkdir(parents=True)
    (root / "foreign" / "people.parquet").write_bytes(b"")
    (root / "deep" / "pictures").mkdir()
    (root / ".hidden").mkdir()
    shutil.copytree(root / "one", root / ".hidden" / "run")
    (root / "begun" / ".parts").mkdir(parents=True)
    (root / "staged" / ".new").mkdir(parents=True)
    (root / "notes.txt").write_text("no run")
    return root


def test_runs_are_found_however_deep(tree: Path) -> None:
    found = find_runs([tree])
    assert names(found) == ["one", "three", "two"]
    unfinished = ("is unfinished: run analyze on the same source again", False)
    assert reasons(found) == {
        "foreign": ("holds no run", False),
        "pictures": ("holds no run", False),
        "begun": unfinished,
        "staged": unfinished,
    }
    assert names(find_runs([tree / "one"])) == ["one"]
    assert names(find_runs([tree / "deep", str(tree / "one")])) == ["one", "three", "two"]
    assert [run.folder for run in find_runs([tree / "one", tree / "deep" / "three"]).runs] == [
        tree / "one",
        tree / "deep" / "three",
    ]
    # A run's own folders are no places for other runs.
    assert find_runs([tree / "one"]).skipped == ()


def test_a_run_that_is_named_in_several_ways_is_one(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tree / "one")
    (tmp_path / "all").symlink_to(tree)
    paths = [
        tree,
        tree,
        tree / "one",
        tmp_path / "link",
        tmp_path / "all" / "deep",
        tree / "deep" / ".." / "one",
    ]
    assert names(find_runs(paths)) in (["one", "three", "two"], ["link", "three", "two"])
    assert names(find_runs([tmp_path])) in (["link", "three", "two"], ["one", "three", "two"])
    relative = os.path.relpath(tree / "one")
    assert len(find_runs([relative, tree / "one"]).runs) == 1
    made = document([Path(relative), tree / "one"])
    assert made["kind"] == "video" and made["videos"][0]["run"] == "one"


def test_links_in_a_circle_come_to_an_end(tmp_path: Path) -> None:
    run_of(tmp_path / "a" / "run", 1)
    for number in range(6):  # two would be enough for more paths than there is time
        (tmp_path / "a" / f"up{number}").symlink_to(tmp_path)
        (tmp_path / f"self{number}").symlink_to(tmp_path, target_is_directory=True)
    found = find_runs([tmp_path])
    assert names(found) == ["run"] and found.skipped == ()


def test_of_what_was_named_it_is_an_error_that_nothing_is_there(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    broken = tmp_path / "broken"
    broken.symlink_to(tmp_path / "gone")
    named = {
        tree / "foreign": "holds no run",
        tree / "begun": "is unfinished: run analyze on the same source again",
        tree / "notes.txt": "is not a folder: name a run's folder or one with runs",
        tmp_path / "missing": "does not exist",
        tmp_path / "empty": "holds no run",
        broken: "does not exist",
    }
    found = find_runs([tree / "one", *named])
    assert names(found) == ["one"]
    faults = {one.folder: one.reason for one in found.skipped if one.fault}
    assert faults == named
    # The others are reported on; what failed is said.
    report = make_report([tree / "one", *named])
    assert len(report.failed) == len(named) and f"{tmp_path / 'missing'} does not exist" in report.failed
    assert {row["folder"] for row in report.document["skipped"]} >= {path.name for path in named}
    for path, reason in named.items():
        with pytest.raises(OutputError, match=reason.split(":")[0]):
            make_report([path])


def test_a_folder_with_nothing_but_folders_holds_no_run(tree: Path) -> None:
    found = find_runs([tree / "foreign"])
    assert reasons(found)["foreign"] == ("holds no run", True)
    assert make_report([tree / "one", tree / "foreign"]).failed == (f"{tree / 'foreign'} holds no run",)


def test_what_is_wrong_with_a_folder_is_said_once(tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "run.json").write_text("{")
    assert len(find_runs([bad, tmp_path, bad]).skipped) == 1


DAMAGED = "has a damaged run.json: analyze the video again"
OTHER = "has a run.json of another program"
_V4 = '{"schema_version": 4, %s}'


def _damaged(what: str) -> str:
    return f"has a damaged run.json ({what}): analyze the video again"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", DAMAGED),
        ('{"schema_version": 4, "counts', DAMAGED),
        ("\0\0\0", DAMAGED),
        (b"\xff\xfe{}", DAMAGED),
        ("[" * (10 * sys.getrecursionlimit()), DAMAGED),
        ("null", OTHER),
        ("[]", OTHER),
        ("{}", OTHER),
        ('{"schema_version": "4", "counts": {}}', OTHER),
        ('{"schema_version": 4}', _damaged("the key counts is missing")),
        (_V4 % '"counts": []', _damaged("counts must be an object with keys, not []")),
        (_V4 % '"counts": {}, "video": "x"', _damaged("video must be an object with keys, not 'x'")),
        (_V4 % '"counts": {}, "settings": [1]', _damaged("settings must be an object with keys, not [1]")),
        (
            json.dumps({"schema_version": SCHEMA_VERSION + 1, "counts": {}}),
            "was written by a newer version: update the program",
        ),
    ],
)
def test_run_json_that_cannot_be_used_is_named(
    text: str | bytes, reason: str, tree: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "odd"
    shutil.copytree(tree / "one", folder)
    (folder / "run.json").write_bytes(text.encode() if isinstance(text, str) else text)
    assert reasons(find_runs([folder])) == {"odd": (reason, True)}
    report = make_report([tree / "deep", tmp_path])
    assert report.failed == (f"{folder} {reason}",) and len(report.folders) == 2


def test_run_json_that_is_a_folder_is_no_run(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "odd" / "run.json").mkdir(parents=True)
    reason = "has a run.json that cannot be read (Is a directory)"
    assert reasons(find_runs([tmp_path])) == {"odd": (reason, True)}


@pytest.mark.parametrize("table", ["people", "faces", "samples"])
def test_a_missing_table_is_named(table: str, tree: Path, tmp_path: Path) -> None:
    shutil.copytree(tree / "one", tmp_path / "lacks")
    for file in (tmp_path / "lacks").glob(f"{table}.*"):
        file.unlink()
    reason = f"lacks its table {table}: analyze the video again"
    assert reasons(find_runs([tmp_path])) == {"lacks": (reason, True)}


def test_newest_run_is_the_one_analyzed_last(tmp_path: Path) -> None:
    assert newest_run(tmp_path / "missing") == newest_run(tmp_path) == Found((), ())
    with pytest.raises(OutputError, match="holds no finished run"):
        make_report(out=tmp_path)
    for number, moment in enumerate(("2026-11-02T08", "2026-11-10T07", "2026-11-09T23")):
        run_of(
            tmp_path / f"{number}",
            number,
            analyzed_at=f"{moment}:00:00+00:00",
            uploaded=f"2026-0{9 - number}-01",
        )
    (tmp_path / "3").mkdir()
    (tmp_path / "3" / "run.json").write_text("{")
    found = newest_run(tmp_path)
    assert names(found) == ["1"] and found.skipped == ()
    assert make_report(out=tmp_path).document["videos"][0]["run"] == "1"


# --- damage ---------------------------------------------------------------------------------------------


def cut_off(data: bytes) -> bytes:
    return data[: len(data) // 2]


def emptied(data: bytes) -> bytes:
    return b""


def garbage(data: bytes) -> bytes:
    return np.random.default_rng(0).bytes(len(data))


def flipped(data: bytes) -> bytes:
    """The pages of data inverted; the footer, which says where they are, stays."""
    footer = int.from_bytes(data[-8:-4], "little") + 8
    pages = bytes(255 - one for one in data[4:-footer])
    return data[:4] + pages + data[-footer:]


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("table", "damage"),
    [
        *(("people", cut_off), ("faces", flipped), ("shares", emptied), ("timeline", garbage)),
        *(pytest.param("people", damage, marks=SLOW) for damage in (emptied, garbage, flipped)),
        *(pytest.param(table, flipped, marks=SLOW) for table in ("samples", "shares", "timeline")),
    ],
)
def test_damaged_tables_are_named(
    table: str, damage: Callable[[bytes], bytes], tree: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "bad"
    shutil.copytree(tree / "one", folder)
    file = folder / f"{table}.parquet"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(OutputError, match="bad has a damaged table: analyze the video again"):
        make_report([folder])
    report = make_report([tree / "deep", folder])
    truths = [Truth(plan_of(number)) for number in (2, 3)]
    if table == "timeline":  # of several videos it is not looked at
        assert report.failed == ()
        truths.append(Truth(plan_of(1)))
    else:
        assert report.failed == (f"{folder} has a damaged table: analyze the video again",)
        assert "bad" in {row["folder"] for row in report.document["skipped"]}
    assert_figures(report.document["total"], total_of(truths))
    # A condition that needs the table does not fail for it.
    condition = f"(SELECT count(*) FROM \"{table}\" t WHERE t.run = runs.run AND video_id || 'x' > '') >= 0"
    with Corpus.open(find_runs([tree / "deep", folder]), Chosen(where=condition)) as corpus:
        assert sorted(run.folder.name for run in corpus.runs) == ["three", "two"]
        assert [one.folder.name for one in corpus.skipped if one.fault] == ["bad"]


@pytest.mark.parametrize("table", ["people", "faces", "samples"])
def test_tables_that_do_not_fit_the_counts_are_named(table: str, tree: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bad"
    shutil.copytree(tree / "one", folder)
    # Whole, but of another run.
    shutil.copy(tree / "deep" / "three" / f"{table}.parquet", folder)
    rows = pq.read_table(folder / f"{table}.parquet").slice(1)
    pq.write_table(rows, folder / f"{table}.parquet")
    report = make_report([tree / "deep", folder])
    assert report.failed == (
        f"{folder} has a table of {table} that does not match its run.json: analyze it again",
    )
    assert len(report.folders) == 2


def test_a_table_without_its_columns_is_damaged(tree: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bad"
    shutil.copytree(tree / "one", folder)
    people = pq.read_table(folder / "people.parquet").drop_columns(["gender"])
    pq.write_table(people, folder / "people.parquet")
    report = make_report([tree / "deep", folder])
    assert report.failed == (f"{folder} has a damaged table: analyze the video again",)


def test_many_damaged_runs_at_once(tree: Path, tmp_path: Path) -> None:
    for number, damage in enumerate((cut_off, emptied, garbage, flipped)):
        shutil.copytree(tree / "one", tmp_path / f"{number}")
        file = tmp_path / f"{number}" / ("faces.parquet" if number % 2 else "people.parquet")
        file.write_bytes(damage(file.read_bytes()))
    report = make_report([tmp_path, tree / "one"])
    assert len(report.failed) == 4 and report.document["kind"] == "video"
    assert_figures(report.document["total"], total_of([Truth(plan_of(1))]))


# --- temporary files ------------------------------------------------------------------------------------


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files lie."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_temporary_folders_are_removed(tree: Path, temporary: Path, tmp_path: Path) -> None:
    with Corpus.open(find_runs([tree])) as corpus:
        assert len(list(temporary.iterdir())) == 1
        corpus.frame("SELECT * FROM moment")
    assert not list(temporary.iterdir())
    make_report([tree], by="day", chosen=Chosen(where="people > 0"))
    shutil.copytree(tree / "one", tmp_path / "bad")
    (tmp_path / "bad" / "faces.parquet").write_bytes(b"PAR1")
    make_report([tree, tmp_path / "bad"])
    for choice in (
        Chosen(where="nonsense"),
        Chosen(where="people > 0 AND title = 1"),
        Chosen(columns=tmp_path),
    ):
        with pytest.raises(SettingsError):
            make_report([tree], chosen=choice)
    with pytest.raises(SettingsError, match="--by nonsense is not a column"):
        make_report([tree], by="nonsense")
    with pytest.raises(OutputError):
        make_report([tmp_path / "bad"])
    with pytest.raises(ZeroDivisionError), Corpus.open(find_runs([tree])):
        raise ZeroDivisionError
    assert not list(temporary.iterdir())


def test_nothing_is_left_where_runs_cannot_be_opened(
    tree: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(corpus: Corpus) -> dict[int, str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(Corpus, "_load", stopped)
    with pytest.raises(KeyboardInterrupt):
        Corpus.open(find_runs([tree]))
    assert not list(temporary.iterdir())


# --- formats and versions -------------------------------------------------------------------------------


@pytest.mark.parametrize("formats", [("csv",), ("parquet",), ("csv", "parquet")])
def test_one_run_of_each_format_is_told_alike(formats: tuple[str, ...], tmp_path: Path) -> None:
    made = document(run_of(tmp_path / "run", 4, Settings(formats=formats)))
    assert_figures(made["total"], {k: v for k, v in total_of([Truth(plan_of(4))]).items() if "age" not in k})
    whole = document(run_of(tmp_path / "both" / "run", 4))
    for name, value in whole["total"].items():
        assert made["total"][name] == (pytest.approx(value, abs=6e-5) if isinstance(value, float) else value)
    assert made["timeline"] == whole["timeline"] and made["pairs"] == whole["pairs"]
    for one, other in zip(made["people"], whole["people"], strict=True):
        assert one["gender"] == other["gender"] and one["spans"] == other["spans"]
        assert one["age_years"] == pytest.approx(other["age_years"], abs=6e-5)
    assert len(made["shares"]) == len(whole["shares"]) == 10


@pytest.mark.parametrize(
    "order", ["cpcpn", *(pytest.param(order, marks=SLOW) for order in ("pcncp", "ncccc", "cnppp"))]
)
def test_runs_of_several_formats_go_together(order: str, tmp_path: Path) -> None:
    truths = {}
    for number, kind in enumerate(order):
        settings = Settings(formats=("parquet",) if kind == "p" else ("csv",))
        plan = nobody() if kind == "n" else plan_of(number, people=2 + number)
        folder = tmp_path / f"{number}"
        make_run(folder, plan, settings, shares=some_shares(), channel=kind)
        truths[folder.name] = Truth(plan)
    made = document(tmp_path)
    # Each row's content is that of the run it names.
    assert {row["run"] for row in made["videos"]} == set(truths)
    for row in made["videos"]:
        expected = total_of([truths[row["run"]]])
        del expected["age_median_years"]
        assert_figures(row, expected)
    condition = "(SELECT count(*) FROM people p WHERE p.run = runs.run) = 3"
    assert chosen_runs(tmp_path, where=condition) == [name for name, one in truths.items() if one.count == 3]


def older(folder: Path, version: int) -> None:
    """Make a run one of an older version: without the tables and columns that it did not have."""
    gone = {"samples": ["width", "height"], "timeline": [], "faces": []}
    if version < 4:
        gone["samples"] += ["clock", "gap_s", "dropped"]
        gone["timeline"].append("clock")
    if version < 3:
        gone["samples"].append("detection_age_s")
        gone["faces"].append("detection_age_s")
    if version == 1:
        gone["samples"].append("shot")
        for file in folder.glob("shares.*"):
            file.unlink()
    for table, columns in gone.items():
        path = folder / f"{table}.parquet"
        if path.exists():
            pq.write_table(pq.read_table(path).drop_columns(columns), path)
        if (path := path.with_suffix(".csv")).exists():
            pd.read_csv(path).drop(columns=columns).to_csv(path, index=False)
    info = json.loads((folder / "run.json").read_text("utf-8"))
    info["schema_version"] = version
    info["calibration"] = {name: info["calibration"][name] for name in ("fitted_on", "measured")}
    for name in ("preset", "models", "calibration", "shares_text"):
        if version == 1:
            info.pop(name, None)
    (folder / "run.json").write_text(json.dumps(info), "utf-8")


@pytest.mark.parametrize(
    "versions", [(1, 4, 2, 3), *(pytest.param(each, marks=SLOW) for each in ((1,), (3, 4), (2, 2)))]
)
def test_older_versions_are_read(versions: tuple[int, ...], tmp_path: Path) -> None:
    truths = {}
    for number, version in enumerate(versions):
        formats = ("csv",) if number == 3 else ("csv", "parquet")
        folder = run_of(tmp_path / f"{number}", number, Settings(formats=formats))
        if version < SCHEMA_VERSION:
            older(folder, version)
        truths[folder.name] = Truth(plan_of(number))
    made = document(tmp_path, by="schema_version")
    assert made["skipped"] == [] and made["provenance"]["schema_versions"] == sorted(set(versions))
    for row in made["videos"]:
        expected = total_of([truths[row["run"]]])
        del expected["age_median_years"]
        assert_figures(row, expected)
    # Of the first version, only what can be pooled has shares: its networks are not known to be the same.
    told = {row["group_value"] for row in made["shares"] if row["by"] == "video"}
    assert len(versions) == 1 or told == {str(n) for n, version in enumerate(versions) if version > 1}
    views = " AND ".join(f"(SELECT count(*) FROM {view}) >= 0" for view in VIEWS)
    assert len(chosen_runs(tmp_path, where=views)) == len(versions)
    where = "(SELECT count(detection_age_s) FROM faces f WHERE f.run = runs.run) > 0"
    assert chosen_runs(tmp_path, where=where) == [f"{n}" for n, v in enumerate(versions) if v >= 3]


def test_older_tables_show_who_has_an_estimate(tmp_path: Path) -> None:
    folder = run_of(tmp_path / "old", 1)
    older(folder, 1)
    people = pq.read_table(folder / "people.parquet").drop_columns(["estimated_samples"]).to_pandas()
    people.loc[0, "age_years"] = np.nan
    people.to_parquet(folder / "people.parquet")
    run_of(tmp_path / "new", 2)
    info = json.loads((tmp_path / "new" / "run.json").read_text("utf-8"))
    alike = {name: info[name] for name in ("models", "calibration")}
    change = json.loads((folder / "run.json").read_text("utf-8")) | alike
    (folder / "run.json").write_text(json.dumps(change), "utf-8")
    made = document(tmp_path)
    assert {row["estimated"] for row in made["shares"] if row["by"] == ""} == {5 + 4}


def test_other_age_bands_are_kept_where_all_runs_agree(tmp_path: Path) -> None:
    adience = Settings(age_bands="adience")
    run_of(tmp_path / "a", 1, adience)
    run_of(tmp_path / "b", 2, adience)
    made = document(tmp_path / "a")
    assert made["age_bands"][0] == "0-2" and list(made["timeline"]["ages"]) == [*made["age_bands"], "unknown"]
    assert sum(map(sum, (made["timeline"]["ages"][band] for band in made["age_bands"]))) == sum(
        made["timeline"]["people"]
    )
    assert document(tmp_path)["age_bands"][0] == "0-2"
    # Their timelines have other columns; conditions work all the same.
    assert chosen_runs(tmp_path, where="(SELECT max(age_60_plus) FROM timeline) >= 0") == ["a", "b"]
    run_of(tmp_path / "c", 3)
    assert document(tmp_path)["age_bands"][0] == "0-12"
    assert len(chosen_runs(tmp_path, where="(SELECT max(age_0_12) FROM timeline) >= 0")) == 3


# --- names ----------------------------------------------------------------------------------------------

ODD_NAMES = (
    *(
        "it's",
        'quo"te',
        "two  spaces ",
        "ünïcødé 日本 🎉",
        "100%",
        "%41",
        "a[bc]d",
        "abd",
        "a*d",
        "a?d",
        "axd",
    ),
    *(
        "**",
        "{x,y}",
        "x",
        "y",
        "person_id=7",
        "gender=male",
        "run_no=1",
        "$HOME",
        "~",
        "semi;colon",
        "--",
        "-",
    ),
    *("back\\slash", "new\nline", "[!a]", "]", "#", "CON", "'; DROP TABLE runs; --", "😀" * 20, "s3:x", "'"),
)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Truth]]:
    folder = tmp_path_factory.mktemp("odd")
    truths = {}
    for number, name in enumerate(ODD_NAMES):
        plan = plan_of(number, people=1 + number % 5)
        formats = ("csv",) if number % 3 == 0 else ("parquet",)
        make_run(folder / name, plan, Settings(formats=formats), shares=some_shares(), title=f"T{number}")
        truths[name] = Truth(plan)
    return folder, truths


def test_names_of_folders_mean_nothing(odd: tuple[Path, dict[str, Truth]]) -> None:
    folder, truths = odd
    made = document(folder)
    assert {row["run"] for row in made["videos"]} == set(ODD_NAMES) and made["skipped"] == []
    for row in made["videos"]:
        expected = total_of([truths[row["run"]]])
        del expected["age_median_years"]
        assert_figures(row, expected)
    assert len(chosen_runs(folder, where="(SELECT count(*) FROM faces f WHERE f.run = runs.run) > 0")) == len(
        ODD_NAMES
    )


@pytest.mark.parametrize(
    "name",
    [
        *("a[bc]d", "person_id=7", "it's"),
        *(pytest.param(name, marks=SLOW) for name in ("a*d", "a?d", "**", "{x,y}", "~")),
    ],
)
def test_a_run_with_an_odd_name_alone(name: str, odd: tuple[Path, dict[str, Truth]]) -> None:
    folder, truths = odd
    made = document(folder / name, chosen=Chosen(where="(SELECT count(*) FROM people) > 0"))
    expected = total_of([truths[name]])
    del expected["age_median_years"]
    assert_figures(made["total"], expected)
    assert [row["person_id"] for row in made["people"]] == list(range(1, truths[name].count + 1))


def test_runs_of_one_name_have_those_above_it(tmp_path: Path) -> None:
    for number, place in enumerate(("x/a/run", "x/b/run", "y/a/run", "other")):
        run_of(tmp_path / place, number)
    made = document(tmp_path)
    # Of the fourth, too, as much as it takes to tell the others apart.
    told = {row["run"] for row in made["videos"]}
    assert told == {"x/a/run", "x/b/run", "y/a/run", f"{tmp_path.parent.name}/{tmp_path.name}/other"}
    assert {row["run"] for row in document([tmp_path / "x"])["videos"]} == {"a/run", "b/run"}
    for row in made["videos"]:
        number = {"x/a/run": 0, "x/b/run": 1, "y/a/run": 2}.get(row["run"], 3)
        assert_figures(row, total_of([Truth(plan_of(number))]))


# --- choosing -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def channels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("channels")
    infos: list[Row] = [
        {"channel": "Straße", "uploaded": "2026-01-01", "url": "https://www.youtube.com/watch?v=aaaaaaaaaaa"},
        {"channel": "b", "uploaded": "2026-01-31", "uploaded_at": "2026-01-31T23:30:00-02:00"},
        {
            "channel": "B",
            "recorded_at": "2026-02-01T00:00:00+00:00",
            "analyzed_at": "2026-05-01T00:00:00+00:00",
        },
        {"analyzed_at": "2026-02-02T00:00:00+00:00", "complete": False},
    ]
    for number, info in enumerate(infos):
        run_of(
            folder / f"r{number}",
            number,
            source=f"/somewhere/private/{number}.mp4",
            title=f"T {number}",
            **info,
        )
    return folder


@pytest.mark.parametrize(
    ("day", "left"),
    [
        ("2026-01-01", "0123"),
        ("2026-01-02", "123"),
        ("2026-02-01", "123"),  # of the second the day in UTC
        ("2026-02-02", "3"),
        ("2026-02-03", ""),
    ],
)
def test_since_a_day(day: str, left: str, channels: Path) -> None:
    date = datetime.date.fromisoformat(day)
    assert chosen_runs(channels, since=date) == [f"r{number}" for number in left]


def test_days_say_what_they_are(channels: Path) -> None:
    with Corpus.open(find_runs([channels])) as corpus:
        table = corpus.table.set_index("run").sort_index()
    assert table["day_is"].tolist() == ["uploaded", "uploaded", "recorded", "analyzed"]
    assert [str(day) for day in table["day"]] == ["2026-01-01", "2026-02-01", "2026-02-01", "2026-02-02"]
    assert [None if pd.isna(hour) else hour for hour in table["hour"]] == [None, 1, 0, None]
    assert table["source"].tolist() == [f"{number}.mp4" for number in range(4)]  # no folders of the maker


def test_channels_without_minding_capitals(channels: Path) -> None:
    assert chosen_runs(channels, channels=("B",)) == ["r1", "r2"]
    assert chosen_runs(channels, channels=("STRASSE", "b")) == ["r0", "r1", "r2"]
    assert chosen_runs(channels, channels=("c",)) == []
    both = document(
        channels, chosen=Chosen(since=datetime.date(2026, 1, 2), channels=("b",), where="people > 0")
    )
    assert both["filters"] == ["since 2026-01-02", "channel b", "where people > 0"]
    assert {row["run"] for row in both["videos"]} == {"r1", "r2"}
    with pytest.raises(
        OutputError, match=r"no run of 4 matches the filters \(channel c\); there are B, Straße, b"
    ):
        make_report([channels], chosen=Chosen(channels=("c",)))


@pytest.mark.parametrize(
    "choice",
    [
        Chosen(since=datetime.date(2026, 1, 1)),
        Chosen(channels=("b",)),
        Chosen(where="day > DATE '2026-01-01' AND channel LIKE 'b%' AND complete AND people > 1"),
    ],
)
def test_of_no_runs_none_is_chosen(choice: Chosen, channels: Path) -> None:
    with Corpus.open(Found((), ()), choice) as corpus:
        assert corpus.runs == () and corpus.table.empty
    none = dataclasses.replace(choice, since=datetime.date(2030, 1, 1))
    with Corpus.open(find_runs([channels]), none) as corpus:
        assert corpus.runs == ()


@pytest.mark.parametrize(
    ("condition", "left"),
    [
        ("true", "0123"),
        ("channel = 'b'", "1"),
        ("channel ILIKE 'b'", "12"),
        ("url LIKE '%aaaa%'", "0"),
        ("hour >= 0", "12"),
        ("day BETWEEN '2026-01-01' AND '2026-01-31'", "0"),
        ("month(day) = 2 -- a comment", "123"),
        ("title = 'T 2' /* another */", "2"),
        ("title IN ('T 0', 'T 3') AND (people > 0", None),
        ("run = (SELECT max(run) FROM runs)", "3"),
        ("(SELECT count(*) FROM people p WHERE p.run = runs.run) = people", "0123"),
        ("(SELECT count(*) FROM faces f WHERE f.run = runs.run) = faces AND NOT complete", "3"),
        ("(SELECT max(people) FROM timeline t WHERE t.run = runs.run) > 0", "0123"),
        ("EXISTS (SELECT 1 FROM shares s WHERE s.run = runs.run AND \"group\" = 'female')", "0123"),
        ("run IN (SELECT run FROM people WHERE gender = 'nobody')", ""),
        ("(SELECT max(len(landmarks)) FROM faces) = 10 AND run = 'r1'", "1"),
    ],
)
def test_conditions(condition: str, left: str | None, channels: Path) -> None:
    if left is None:
        with pytest.raises(SettingsError, match="is not valid SQL"):
            chosen_runs(channels, where=condition)
    else:
        assert chosen_runs(channels, where=condition) == [f"r{number}" for number in left]


def test_columns_that_are_empty_everywhere_can_be_asked_for(channels: Path) -> None:
    # What type they have is not seen from their values.
    for condition in ("channel = 'b'", "channel LIKE 'b%'", "url LIKE '%x'", "hour > 5", "duration_s < 0"):
        assert chosen_runs(channels / "r3", where=condition) == []
    assert chosen_runs(channels / "r3", where="coalesce(channel, 'none') = 'none'") == ["r3"]


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("", "failed|is not valid SQL"),
        ("nonsense", "is not valid SQL .*columns are run, video_id, title"),
        ("people > 1; SELECT 1", "is not valid SQL|is not a condition"),
        ("true); DELETE FROM runs; SELECT (1", "is not a condition"),
        ("true); DROP TABLE runs; SELECT run_no FROM runs WHERE (true", "is not a condition"),
        ("true); COPY runs TO '{out}'; SELECT (1", "is not a condition"),
        ("true); ATTACH '{out}' AS x; SELECT (1", "is not a condition"),
        ("true); INSTALL httpfs; LOAD httpfs; SELECT (1", "is not a condition"),
        ("true); SET enable_external_access = true; SELECT (1", "is not a condition"),
        ("COPY runs TO '{out}'", "is not valid SQL"),
        ("(SELECT count(*) FROM read_csv('{secret}')) > 0", "failed .*[Pp]ermission"),
        ("(SELECT count(*) FROM '{secret}') > 0", "failed .*[Pp]ermission|is not valid SQL"),
        ("(SELECT count(*) FROM read_text('{secret}')) > 0", "failed .*[Pp]ermission"),
        ("(SELECT count(*) FROM read_text('{run}/../../secret.csv')) > 0", "failed .*[Pp]ermission"),
        ("(SELECT count(*) FROM read_blob('{secret}')) > 0", "failed .*[Pp]ermission"),
        ("(SELECT count(*) FROM glob('/*')) > 0", "failed .*[Pp]ermission"),
        (
            "(SELECT count(*) FROM read_csv('https://example.invalid/x.csv')) > 0",
            "failed|is not valid SQL",
        ),
        ("(SELECT count(*) FROM nothing) > 0", "is not valid SQL"),
        ("(SELECT count(*) FROM corpus) > 0", "is not valid SQL"),  # no variable of the program
        ("(SELECT count(*) FROM table_of_python) > 0", "is not valid SQL"),
        ("day > 'no day'", "failed"),
        ("title = 1", "failed|is not valid SQL"),
        ("error('stop')", "failed"),
    ],
)
def test_conditions_that_are_none(condition: str, reason: str, channels: Path, tmp_path: Path) -> None:
    table_of_python = pd.DataFrame({"run_no": [0]})
    secret, out = channels.parent / "secret.csv", tmp_path / "written"
    secret.write_text("a,b\n1,2\n")
    text = condition
    for name, value in (("{secret}", secret), ("{out}", out), ("{run}", channels / "r0")):
        text = text.replace(name, str(value))
    with pytest.raises(SettingsError, match=reason) as caught:
        chosen_runs(channels, where=text)
    assert str(caught.value).startswith("--where") and "\n" not in str(caught.value).replace(text, "")
    assert not out.exists() and len(table_of_python) == 1
    assert sorted(path.name for path in channels.iterdir()) == ["r0", "r1", "r2", "r3"]


# --- own columns ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("run", ["r0", "r2"]),
        ("video_id", ["r0", "r2"]),
        ("title", ["T 0", "T 2"]),
        ("source", ["0.mp4", "2.mp4"]),
        ("url", ["https://www.youtube.com/watch?v=aaaaaaaaaaa", "https://example.org"]),
    ],
)
def test_own_columns_by_each_key(key: str, values: list[str], channels: Path, tmp_path: Path) -> None:
    separator = {"title": ";", "source": "\t"}.get(key, ",")
    own = tmp_path / "own.csv"
    lines = [
        [key, "team", "budget"],
        [values[0], "Rot & Grün", "10"],
        [values[1], "blue", "9"],
        ["other", "x", "1"],
    ]
    own.write_text("\n".join(separator.join(line) for line in lines) + "\n", "utf-8-sig")
    made = document(channels, by="team", chosen=Chosen(columns=own))
    groups = {row["group"]: row["videos"] for row in made["groups"]["rows"]}
    two = {"Rot & Grün": 1, "blue": 1, "not known": 2}
    assert groups == (two if key != "url" else {"Rot & Grün": 1, "not known": 3})
    assert list(groups)[-1] == "not known"
    assert {row["run"]: row["own"]["budget"] for row in made["videos"]}["r0"] == 10
    where = "team = 'Rot & Grün' AND budget > 1"
    assert chosen_runs(channels, columns=own, where=where) == ["r0"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_own_columns_are_read_as_spreadsheets_write_them(
    channels: Path, tmp_path: Path, encoding: str
) -> None:
    own = tmp_path / "own.csv"
    own.write_bytes("run;team\nr0;Grün\n".encode(encoding))
    assert chosen_runs(channels, columns=own, where="team = 'Grün'") == ["r0"]


def test_one_path_need_not_be_in_a_list(channels: Path) -> None:
    alone = make_report(str(channels)).document["videos"]
    assert [video["run"] for video in alone] == [
        video["run"] for video in make_report([channels]).document["videos"]
    ]
    assert len(make_report(channels).document["videos"]) == len(alone) > 1


def test_rows_of_ones_own_that_fit_no_run_are_named(channels: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.csv"
    own.write_text("run,team\nr0,x\n" + "".join(f"no{number},y\n" for number in range(12)))
    report = make_report([channels], chosen=Chosen(columns=own))
    (said,) = report.warnings
    assert said.startswith("12 rows of own.csv match no run (run 'no0', 'no1', ") and not report.failed
    assert said.endswith("'no9' and 2 more); they were ignored")
    assert len(report.document["videos"]) == 4
    own.write_text("run,team\nr0,x\nr1,x\n")
    assert make_report([channels], chosen=Chosen(columns=own)).failed == ()


@pytest.mark.parametrize(
    ("zone", "days", "hours"),
    [
        ("UTC", ["2026-03-28", "2026-03-29", "2026-03-30"], ["23:00", "01:00", "not known"]),
        # The night in which clocks go forward: 01:30 in UTC is 03:30.
        ("Europe/Berlin", ["2026-03-29", "2026-03-29", "2026-03-30"], ["00:00", "03:00", "not known"]),
        ("America/Los_Angeles", ["2026-03-28", "2026-03-28", "2026-03-30"], ["16:00", "18:00", "not known"]),
        ("Pacific/Kiritimati", ["2026-03-29", "2026-03-29", "2026-03-30"], ["13:00", "15:00", "not known"]),
    ],
)
def test_days_and_hours_are_told_in_a_time_zone(
    zone: str, days: list[str], hours: list[str], tmp_path: Path
) -> None:
    run_of(tmp_path / "a", uploaded="2026-03-28", uploaded_at="2026-03-28T23:30:00+00:00")
    run_of(tmp_path / "b", recorded_at="2026-03-29T01:30:00Z")
    run_of(tmp_path / "c", uploaded="2026-03-30")  # a day is a day anywhere
    chosen = Chosen(timezone=zone)
    made = document(tmp_path, by="hour", chosen=chosen)
    assert [row["group"] for row in made["groups"]["rows"]] == sorted(hours)
    assert {row["run"]: row["day"] for row in made["videos"]} == dict(zip("abc", days, strict=True))
    assert made["timezone"] == zone and (f"days in {zone}" in made["filters"]) == (zone != "UTC")
    week = document(tmp_path, by="week", chosen=chosen)["groups"]["rows"]
    assert [row["videos"] for row in week] == [2, 1]  # Sunday and before, Monday
    since = Chosen(timezone=zone, since=datetime.date(2026, 3, 29))
    with Corpus.open(find_runs([tmp_path]), since) as corpus:
        assert set(corpus.table["run"]) == {
            run for run, day in zip("abc", days, strict=True) if day > "2026-03-28"
        }


@pytest.mark.parametrize(
    ("zone", "hint"),
    [
        ("berlin", "did you mean Europe/Berlin"),
        ("Europe/Berln", "Europe/Berlin"),
        ("../etc", "such as"),
        ("", "such as"),
    ],
)
def test_an_unknown_time_zone_is_a_sentence(zone: str, hint: str) -> None:
    with pytest.raises(SettingsError, match=f"{re.escape(repr(zone))} is not a time zone.*{hint}"):
        Chosen(timezone=zone)


def test_groups_by_folder_are_where_the_files_lie(tmp_path: Path) -> None:
    sources = {
        "a": "/films/2024/talks/x.mp4",
        "b": "/films/2025/talks/x.mp4",
        "c": "2025/talks/y.mp4",  # the same folder, named from elsewhere
        "d": "/films/2025/walks/z.mp4",
        "e": "z.mp4",
    }
    for name, source in sources.items():
        run_of(tmp_path / name, source=source)
    run_of(tmp_path / "f", source="https://example.org/a/b.mp4", url="https://example.org/a/b.mp4")
    run_of(tmp_path / "g", source="/films/2025/faces", kind="images")
    run_of(tmp_path / "h", source="'/films/2025/walks/a b.jpg' /films/2025/walks/c.jpg", kind="images")
    rows = document(tmp_path, by="folder")["groups"]["rows"]
    assert {row["group"]: row["videos"] for row in rows} == {
        "2024/talks": 1,
        "2025/talks": 2,
        "2025/walks": 2,
        "2025/faces": 1,
        "not known": 2,
    }
    # Alone, a folder's own name is enough.
    (row,) = document([tmp_path / "a"], by="folder")["groups"]["rows"]
    assert row["group"] == "talks"


@pytest.mark.parametrize(
    ("pattern", "groups"),
    [
        (None, {"news": 2, "Sport": 1, "S02E": 1, "The end": 1}),
        (r"\d", {"0": 3, "1": 1, "not known": 1}),
        (r"^(?P<show>[a-zA-Z]+)", {"news": 2, "Sport": 1, "S": 1, "The": 1}),
        (r"x(y)?", {"not known": 5}),
    ],
)
def test_groups_by_name_are_what_a_pattern_finds(
    pattern: str | None, groups: dict[str, int], tmp_path: Path
) -> None:
    for name in ("news-01", "news_02", "Sport 1.final", "S02E10"):
        run_of(tmp_path / name, source=f"films/{name.replace('.final', '')}.mp4")
    run_of(tmp_path / "web", source="https://example.org/1", url="https://example.org/1", title="The end")
    made = document(tmp_path, by="name", name_pattern=pattern)
    assert {row["group"]: row["videos"] for row in made["groups"]["rows"]} == groups


def test_a_pattern_of_names_that_is_none_is_a_sentence(channels: Path) -> None:
    with pytest.raises(SettingsError, match="'\\(a' is not a regular expression"):
        document(channels, by="name", name_pattern="(a")
    with pytest.raises(SettingsError, match="add --by name"):
        document(channels, by="day", name_pattern="a")


def test_groups_of_own_numbers_are_in_their_order(channels: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.csv"
    own.write_text("run,budget\nr0,10\nr1,9\nr2,1e3\nr3,none\n")
    rows = document(channels, by="budget", chosen=Chosen(columns=own))["groups"]["rows"]
    assert [row["group"] for row in rows] == ["9", "10", "1e3", "none"]


def test_an_empty_cell_of_ones_own_is_not_known(channels: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.csv"
    own.write_text('run,team\nr0,\nr1,"line\nbreak, ""quoted"""\nr2,NA\n')
    rows = document(channels, by="team", chosen=Chosen(columns=own))["groups"]["rows"]
    assert [row["group"] for row in rows] == ['line\nbreak, "quoted"', "NA", "not known"]
    assert rows[-1]["videos"] == 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "cannot be read"),
        ("name,team\nr0,x\n", "needs a first column run, video_id, title, url or source"),
        ("team,run\nx,r0\n", "needs a first column"),
        ("run\nr0\n", "needs a first column|cannot be read"),
        ("run,title\nr0,x\n", "a column whose name is taken: title"),
        ("run,Channel\nr0,x\n", "a column whose name is taken: Channel"),  # SQL does not mind capitals
        ("run,week\nr0,x\n", "a column whose name is taken: week"),
        ("run,team,Team\nr0,x,y\n", "a column whose name is taken: Team"),
        ("run,run_no\nr0,x\n", "a column whose name is taken: run_no"),
        ("run,video\nr0,x\n", "a column whose name is taken: video"),
        ("run,team\nr0,x\nr1,y\nr0,z\n", "has two rows for run 'r0'"),
        (
            "run,team\nelse,x\nmore,y\n",
            "its first column must contain their run, such as 'r0', but contains 'else', 'more'",
        ),
        ("run,team\n", "matches none of the runs.*there are no rows"),
        ("run,team\nr0,x\nr1,x,y,z\n", "cannot be read"),
        (b"\xff\xfe\x00r\x00u", "cannot be read"),
        (b"run,team\nr0,\x81\n", "cannot be read.*not UTF-8"),
        (None, r"cannot be read \(No such file or directory\): a CSV file is needed"),
    ],
)
def test_own_columns_that_do_not_fit(
    text: str | bytes | None, reason: str, channels: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own.csv"
    if text is not None:
        own.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(SettingsError, match=reason) as caught:
        chosen_runs(channels, columns=own)
    assert str(caught.value).startswith(f"--columns {own} ")


def test_own_columns_go_with_everything_else(channels: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.csv"
    own.write_text("run,my team\nr1,x\nr2,x\nr3,y\n")
    chosen = Chosen(
        since=datetime.date(2026, 1, 2),
        channels=("B",),
        where="\"my team\" = 'x' AND run <> 'r1'",
        columns=own,
    )
    made = document(channels, by="my team", chosen=chosen)
    assert [row["run"] for row in made["videos"]] == ["r2"]
    assert made["groups"]["rows"][0]["group"] == "x" and made["videos"][0]["own"] == {"my team": "x"}


ODD = {
    "a title that is none": {"title": 42},
    "a title of several": {"title": ["a"]},
    "no networks": {"models": None},
    "networks that are none": {"models": "x"},
    "a network that is none": {"models": ["x"]},
    "a length in words": {"video": {"duration_s": "long", "width": "wide"}},
    "no settings": {"settings": None},
    "days in words": {"uploaded": "yesterday", "uploaded_at": 5, "recorded_at": []},
    "a channel that is none": {"channel": {"a": 1}},
}


@pytest.mark.parametrize("odd", ODD)
def test_a_run_json_of_strange_values_costs_one_run_at_most(odd: str, tree: Path, tmp_path: Path) -> None:
    shutil.copytree(tree / "one", tmp_path / "runs" / "odd")
    shutil.copytree(tree / "one", tmp_path / "runs" / "good")
    path = tmp_path / "runs" / "odd" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | ODD[odd]))
    report = make_report([tmp_path / "runs"], by="channel")
    assert [folder.name for folder in report.folders if folder.name == "good"] == ["good"]
    assert len(report.folders) + len(report.failed) == 2
    report.save(["html", "md", "csv", "json"], tmp_path / "out")


def test_what_may_not_be_read_is_said_to_be_so(tree: Path, tmp_path: Path, monkeypatch: Any) -> None:
    for name in ("closed", "shut"):
        (tmp_path / name).mkdir()
    (tmp_path / "shut" / "run.json").write_text("{}")
    listing, reading = Path.iterdir, Path.read_bytes

    def iterdir(path: Path) -> Any:
        if path.name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return listing(path)

    def read_bytes(path: Path) -> bytes:
        if path.parent.name == "shut":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return reading(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    assert reasons(find_runs([tmp_path])) == {
        "closed": ("cannot be read (Permission denied)", True),
        "shut": ("cannot be read: permission denied", True),
    }
    assert len(find_runs([tree / "one", tmp_path]).runs) == 1


def test_ctrl_c_in_a_query_is_ctrl_c() -> None:
    class Interrupted:
        def execute(self, *rest: Any) -> None:
            raise RuntimeError("Query interrupted")

        def close(self) -> None:
            pass

    corpus = Corpus((), pd.DataFrame())
    corpus.connection.close()
    corpus.connection = Interrupted()  # type: ignore[assignment]
    with corpus, pytest.raises(KeyboardInterrupt):
        corpus.execute("SELECT 1")


def test_newest_day_comes_first_whatever_it_is_known_by(tmp_path: Path) -> None:
    days = {
        "a": {"uploaded": "2026-03-02"},
        "b": {"recorded_at": "2026-03-04T10:00:00+00:00"},
        "c": {"uploaded": "2026-03-01", "uploaded_at": "2026-03-03T01:00:00+00:00"},
        "d": {"analyzed_at": "2026-02-01T00:00:00+00:00"},
        "e": {"uploaded_at": "2026-03-03T05:00:00+00:00"},
    }
    for name, info in days.items():
        make_run(
            tmp_path / name, simple_plan(5, [True]), **({"analyzed_at": "2026-05-01T00:00:00+00:00"} | info)
        )
    videos = document(tmp_path)["videos"]
    assert [row["run"] for row in videos] == list("becad")
    assert [row["day_is"] for row in videos] == ["recorded", *["uploaded"] * 3, "analyzed"]


def test_numbers_in_own_columns_are_numbers(channels: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.csv"
    own.write_text("run,score,code,mixed\nr0,10,007,1\nr1,9.5,010,x\nr2,,1,\n")
    made = document(channels, by="Score", chosen=Chosen(columns=own, where="score > 9.7 OR code = '010'"))
    assert [row["group"] for row in made["groups"]["rows"]] == ["9.5", "10"]
    assert {row["run"]: row["own"]["code"] for row in made["videos"]} == {"r0": "007", "r1": "010"}
