"""What is written: one schema, safe cells, whole files, parts that survive."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from analyzer.errors import OutputError
from analyzer.faces import Faces
from analyzer.records import (
    FACES,
    SAMPLES,
    Column,
    PartStore,
    Run,
    documentation,
    empty_table,
    publish,
    write_csv,
    write_json,
    write_parquet,
    writing,
)
from analyzer.segment import SegmentResult

ROOT = Path(__file__).parents[1]


def samples(**columns: object) -> pd.DataFrame:
    row = {"video_id": "v", "segment": 0, "sample": 0, "time_s": 0.5, "duration_s": 0.2, "image": ""}
    return pd.DataFrame([row | columns])


def result(segment: int, counts: list[int]) -> SegmentResult:
    faces = tuple(Faces.build(boxes=[[0, 0, 9, 9]] * n, scores=[0.9] * n, track_ids=range(n)) for n in counts)
    times = tuple(segment * 10.0 + number for number in range(len(counts)))
    return SegmentResult(segment, times, ("",) * len(counts), faces)


def test_docs_are_those_of_the_schema() -> None:
    assert (ROOT / "docs" / "records.md").read_text("utf-8") == documentation(), "run `make docs`"


@pytest.mark.parametrize("text", ['=HYPERLINK("http://x")', "@SUM(1)", "-1+1", "+1", "\tx", "\rx"])
def test_text_cells_are_no_formulas_and_parquet_keeps_them_raw(tmp_path: Path, text: str) -> None:
    table = samples(image=text, time_s=-1.5)
    write_csv(tmp_path / "t.csv", table, SAMPLES)
    write_parquet(tmp_path / "t.parquet", table, SAMPLES)
    read = pd.read_csv(tmp_path / "t.csv")
    assert read.loc[0, "image"] == "'" + text.replace("\r", " ")
    assert read.loc[0, "time_s"] == -1.5
    assert pq.read_table(tmp_path / "t.parquet").to_pandas().loc[0, "image"] == text


def test_table_that_does_not_fit_its_schema_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="extra_column"):
        write_csv(tmp_path / "t.csv", samples(extra_column=1), SAMPLES)
    with pytest.raises(ValueError, match="image"):
        write_parquet(tmp_path / "t.parquet", samples().drop(columns="image"), SAMPLES)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("columns", [SAMPLES, FACES])
def test_empty_table_keeps_its_types(tmp_path: Path, columns: tuple[Column, ...]) -> None:
    write_parquet(tmp_path / "t.parquet", empty_table(columns), columns)
    schema = pq.read_schema(tmp_path / "t.parquet")
    assert [schema.field(column.name).type for column in columns] == [column.type for column in columns]
    assert schema.field(columns[0].name).metadata[b"meaning"].decode() == columns[0].meaning


def test_parquet_and_csv_say_the_same(tmp_path: Path) -> None:
    table = pd.concat([samples(sample=n, time_s=n / 3) for n in range(5)], ignore_index=True)
    write_csv(tmp_path / "t.csv", table, SAMPLES)
    write_parquet(tmp_path / "t.parquet", table, SAMPLES)
    csv = pd.read_csv(tmp_path / "t.csv")
    parquet = pq.read_table(tmp_path / "t.parquet").to_pandas()
    np.testing.assert_allclose(csv["time_s"], parquet["time_s"], atol=1e-6)
    assert list(csv) == list(parquet) == [column.name for column in SAMPLES]


def test_failed_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), writing(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]
    assert target.read_text() == "old"


def test_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"no space is left for .*run\.json"):
        write_json(tmp_path / "run.json", {})
    assert list(tmp_path.iterdir()) == []


def test_parts_come_back_numbered_through(tmp_path: Path) -> None:
    store = PartStore(tmp_path, "key")
    store.commit(result(1, [1, 0]), "v")
    store.commit(result(0, [2, 1, 0]), "v")
    found, faces = store.collect()
    assert store.segments() == [0, 1]
    assert found["sample"].tolist() == [0, 1, 2, 3, 4]
    assert found["time_s"].tolist() == [0, 1, 2, 10, 11]
    assert faces["sample"].tolist() == [0, 0, 1, 3]
    assert faces["tracklet_id"].tolist() == [0, 1, 0, 2]
    assert len(faces["landmarks"].iloc[0]) == 10


def test_tracklets_of_a_hundred_segments_are_numbered_through(tmp_path: Path) -> None:
    store = PartStore(tmp_path, "key")
    for segment in range(100):
        store.commit(result(segment, [1]), "v")
    assert store.collect()[1]["tracklet_id"].tolist() == list(range(100))


def test_part_committed_twice_counts_once(tmp_path: Path) -> None:
    store = PartStore(tmp_path, "key")
    store.commit(result(0, [1]), "v")
    store.commit(result(0, [1, 1]), "v")
    assert len(store.collect()[0]) == 2


def test_parts_of_other_work_are_not_used(tmp_path: Path) -> None:
    PartStore(tmp_path, "other").commit(result(0, [1]), "v")
    store = PartStore(tmp_path, "key")
    assert store.segments() == []
    found, faces = store.collect()
    assert len(found) == len(faces) == 0
    store.clear()
    assert not store.folder.exists()


def test_publishing_replaces_everything_of_an_earlier_run(tmp_path: Path) -> None:
    run, staging = tmp_path / "run", tmp_path / "run" / ".new"
    staging.mkdir(parents=True)
    for name in ("run.json", "people.csv", "annotated.mp4", "report.txt"):
        (run / name).write_text("old")
    write_json(staging / "run.json", {"complete": True})
    (staging / "people.csv").write_text("new")
    publish(staging, run)
    assert {path.name for path in run.iterdir()} == {".new", "run.json", "people.csv", "report.txt"}
    assert (run / "people.csv").read_text() == "new"
    assert Run.load(run).complete


def test_publishing_that_breaks_off_is_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, staging = tmp_path / "run", tmp_path / "run" / ".new"
    staging.mkdir(parents=True)
    for name in ("run.json", "people.csv", "timeline.csv"):
        (staging / name).write_text("{}")
        (run / name).write_text("{}")
    real, moved = Path.replace, []

    def replace(path: Path, target: Path) -> Path:
        if len(moved) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        moved.append(path.name)
        return real(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(OutputError):
        publish(staging, run)
    with pytest.raises(OutputError, match="no finished run"):
        Run.load(run)


def test_folder_without_run_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="holds no finished run"):
        Run.load(tmp_path)
