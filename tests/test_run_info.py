"""``run.json``: its form, what is said of a damaged one, and runs of older versions."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analyzer.report.dataset import Corpus, find_runs
from analyzer.runs.run import Run
from analyzer.runs.run_info import FORMER_COLUMNS, SCHEMA_VERSION, UnusableRunError, read_run_info
from analyzer.settings import Settings
from testkit.runs import Plan, make_run

FORMER_NAMES = {
    "counts": {
        "samples_carried": "samples_reused",
        "analysed_s": "analyzed_s",
        "faces_judged": "faces_estimated",
        "faces_of_no_person": "faces_unassigned",
        "people_unjudged": "people_not_estimated",
    },
    "settings": {
        "min_judged_px": "min_estimate_px",
        "judge_every_s": "estimate_every_s",
        "carry_s": "reuse_s",
    },
    "": {"analysed_at": "analyzed_at", "shares_in_words": "shares_text"},
}
"""What version 5 called the keys of run.json, as found in a run of that version."""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of two people who are on screen in turn for five samples each, and in one sample together."""
    present = np.array([[n <= 5, n >= 5] for n in range(10)])
    plan = Plan(np.arange(10) / 5, 2.0, present, np.array([0.9, 0.1]), np.array([30.0, 60.0]))
    return make_run(tmp_path / "run", plan, Settings(formats=("csv", "parquet")))


def changed(folder: Path, **changes: Any) -> dict[str, Any]:
    info: dict[str, Any] = json.loads((folder / "run.json").read_text("utf-8")) | changes
    (folder / "run.json").write_text(json.dumps(info), "utf-8")
    return info


def made_version_5(folder: Path, *, csv: bool) -> None:
    """Give a run the names of version 5, as the program of that time wrote them."""
    info = changed(folder, schema_version=5)
    for part, names in FORMER_NAMES.items():
        values = info[part] if part else info
        for former, today in names.items():
            values[former] = values.pop(today)
    for model in info["models"]:
        model["licence"] = model.pop("license")
    (folder / "run.json").write_text(json.dumps(info), "utf-8")
    for table, names in FORMER_COLUMNS.items():
        parquet = folder / f"{table}.parquet"
        if parquet.exists():
            old = pq.read_table(parquet).to_pandas().rename(columns=names)
            pq.write_table(pa.Table.from_pandas(old, preserve_index=False), parquet)
        if (path := folder / f"{table}.csv").exists():
            pd.read_csv(path).rename(columns=names).to_csv(path, index=False)
            if csv:
                parquet.unlink()


@pytest.mark.parametrize("csv", [False, True], ids=["parquet", "csv"])
def test_a_run_of_version_5_has_the_names_of_today(run: Path, csv: bool) -> None:
    today = Run.load(run)
    expected = [today.samples, today.faces, today.people]
    made_version_5(run, csv=csv)
    assert "carried_s" in pq.read_schema(run / "samples.parquet").names
    old = Run.load(run)
    assert old.info["schema_version"] == 5 < SCHEMA_VERSION
    assert old.info["counts"] == today.info["counts"] and old.info["settings"] == today.info["settings"]
    assert old.info["analyzed_at"] == today.info["analyzed_at"]
    assert [model["license"] for model in old.info["models"]] == ["CC0-1.0"] * len(today.info["models"])
    for table, known in zip((old.samples, old.faces, old.people), expected, strict=True):
        pd.testing.assert_frame_equal(table, known, check_dtype=False, rtol=1e-4)
    Settings(**old.info["settings"])


@pytest.mark.parametrize("csv", [False, True], ids=["parquet", "csv"])
def test_reports_read_the_columns_of_version_5_beside_those_of_today(
    run: Path, csv: bool, tmp_path: Path
) -> None:
    new = tmp_path / "new"
    new.mkdir()
    for path in run.iterdir():
        (new / path.name).write_bytes(path.read_bytes())
    made_version_5(run, csv=csv)
    found = find_runs([run, new])
    assert len(found.runs) == 2 and not found.skipped
    with Corpus.open(found) as corpus:
        columns = {"person_id": "BIGINT", "estimated_samples": "BIGINT"}
        sql = f"SELECT * FROM ({corpus.rows('people', columns)}) ORDER BY run_no, person_id"
        people = corpus.frame(sql)
        samples = corpus.rows("samples", {"detection_age_s": "DOUBLE"})
        ages = corpus.frame(f"SELECT count(detection_age_s) AS n FROM ({samples})")
    assert people["run_no"].tolist() == [0, 0, 1, 1]
    assert people["estimated_samples"].tolist() == [6, 5, 6, 5]
    assert ages["n"].tolist() == [20]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"complete": "yes"}, "complete must be true or false, not 'yes'"),
        ({"kind": "film"}, "kind must be one of video, images, live, not 'film'"),
        ({"notes": [1]}, r"notes\[0\] must be text, not 1"),
        ({"video": {"width": 1}}, "the key audio_codec of video is missing"),
    ],
)
def test_what_is_wrong_with_a_damaged_run_json_is_said_in_a_sentence(
    run: Path, changes: dict[str, Any], what: str
) -> None:
    changed(run, **changes)
    with pytest.raises(
        UnusableRunError, match=rf"run has a damaged run.json \({what}\): analyze the"
    ) as caught:
        Run.load(run)
    assert pickle.loads(pickle.dumps(caught.value)).reason == caught.value.reason


def test_a_key_that_this_version_writes_may_not_be_missing(run: Path) -> None:
    info = changed(run)
    del info["reading"]
    (run / "run.json").write_text(json.dumps(info), "utf-8")
    with pytest.raises(UnusableRunError, match="the key reading is missing"):
        read_run_info(run)
    changed(run, schema_version=1)
    assert read_run_info(run)["reading"] == {}


def test_keys_of_other_programs_are_kept(run: Path) -> None:
    changed(run, more={"a": 1})
    assert dict(read_run_info(run))["more"] == {"a": 1}
