"""What is written: one schema, safe cells, whole files, parts that survive."""

from __future__ import annotations

import dataclasses
import errno
import io
import json
import os
import signal
import stat
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from analyzer.analysis.segment import SegmentResult
from analyzer.analysis.shots import thumbnail
from analyzer.analysis.tracking import Tracklets
from analyzer.errors import OutputError
from analyzer.faces import Faces
from analyzer.media.read_report import NOTHING_READ, ReadReport
from analyzer.runs import segments
from analyzer.runs.documentation import documentation
from analyzer.runs.run import Run, publish
from analyzer.runs.schema import EMBEDDINGS, FACES, PEOPLE, SAMPLES, SHARES, Column
from analyzer.runs.segments import DamagedPartError, PartStore, part_stores
from analyzer.runs.tables import empty_table, no_clock, write_csv, write_json, write_parquet
from analyzer.util.atomic import writing

ROOT = Path(__file__).parents[1]


def samples(**columns: object) -> pd.DataFrame:
    row = {
        "video_id": "v",
        "segment": 0,
        "sample": 0,
        "time_s": 0.5,
        "duration_s": 0.2,
        "shot": 0,
        "detection_age_s": 0.0,
        "width": 1280,
        "height": 720,
        "image": "",
        "gap_s": 0.0,
        "dropped": 0,
    }
    return pd.DataFrame([row | columns]).assign(clock=no_clock(1))


def look(picture: int) -> np.ndarray:
    """A glance at one of several pictures that have nothing in common."""
    random = np.random.default_rng(picture)
    fields = random.integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return thumbnail(np.repeat(np.repeat(fields, 60, axis=0), 60, axis=1))


def result(
    segment: int,
    counts: list[int],
    *,
    cuts: list[bool] | None = None,
    pictures: tuple[int, int] = (0, 0),
    compared: list[int] | None = None,
) -> SegmentResult:
    """A segment of samples with so many faces, of which some tracklets could be compared."""
    faces = tuple(Faces.build(boxes=[[0, 0, 9, 9]] * n, scores=[0.9] * n, track_ids=range(n)) for n in counts)
    times = tuple(segment * 10.0 + number for number in range(len(counts)))
    ids = list(range(max(counts, default=0))) if compared is None else compared
    tracklets = Tracklets(
        np.array(ids, np.int64),
        np.array([[100.0 * segment + one, 1, 2, 3] for one in ids], np.float32).reshape(-1, 4),
        np.array([30.0 + one for one in ids], np.float32),
        np.array([1 + one for one in ids], np.int64),
    )
    return SegmentResult(
        segment=segment,
        times_s=times,
        image_names=("",) * len(counts),
        sizes=((1280, 720),) * len(counts),
        shot_boundaries=tuple(cuts or [False] * len(counts)),
        detection_age_s=(0.0,) * len(counts),
        edges=(look(pictures[0]), look(pictures[1])),
        faces=faces,
        tracklets=tracklets,
    )


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


@pytest.mark.parametrize("columns", [SAMPLES, FACES, PEOPLE, SHARES, EMBEDDINGS])
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
    recorded = store.collect()
    found, faces = recorded.samples, recorded.faces
    assert store.segments() == [0, 1]
    assert found["sample"].tolist() == [0, 1, 2, 3, 4]
    assert found["time_s"].tolist() == [0, 1, 2, 10, 11]
    assert faces["sample"].tolist() == [0, 0, 1, 3]
    assert faces["tracklet_id"].tolist() == [0, 1, 0, 2]
    assert len(faces["landmarks"].iloc[0]) == 10
    assert (faces["person_id"] == -1).all()
    for table, columns in ((found, SAMPLES), (faces, FACES), (recorded.embeddings, EMBEDDINGS)):
        assert list(table) == [column.name for column in columns]


def test_parts_carry_what_tracklets_look_like(tmp_path: Path) -> None:
    store = PartStore(tmp_path, "key")
    # Of four tracklets of the first segment two could be compared, of the second none, then the first.
    store.commit(result(0, [4, 2], compared=[1, 3]), "v")
    store.commit(result(1, [3], compared=[]), "v")
    store.commit(result(2, [2], compared=[0]), "v")
    looks = store.collect().embeddings
    assert looks["tracklet_id"].tolist() == [1, 3, 7]
    assert [vector[0] for vector in looks["embedding"]] == [1, 3, 200]
    assert all(vector.dtype == np.float32 and len(vector) == 4 for vector in looks["embedding"])
    assert looks["crop_px"].tolist() == [31, 33, 30] and looks["crops"].tolist() == [2, 4, 1]
    assert (looks["person_id"] == -1).all() and set(looks["video_id"]) == {"v"}


def test_embeddings_come_back_to_the_last_bit(tmp_path: Path) -> None:
    vectors = np.random.default_rng(1).normal(size=(50, 128)).astype(np.float32)
    one = result(0, [50])
    ids = np.arange(50)
    looks = Tracklets(ids, vectors, np.ones(50, np.float32), np.ones(50, np.int64))
    store = PartStore(tmp_path, "key")
    store.commit(dataclasses.replace(one, tracklets=looks), "v")
    np.testing.assert_array_equal(np.stack(store.collect().embeddings["embedding"].tolist()), vectors)


def test_shots_go_on_over_a_border_without_a_cut(tmp_path: Path) -> None:
    store = PartStore(tmp_path, "key")
    store.commit(result(0, [1, 1, 1], cuts=[False, False, True], pictures=(0, 1)), "v")
    store.commit(result(1, [1, 1], cuts=[False, True], pictures=(1, 2)), "v")  # goes on
    store.commit(result(2, [1, 1], pictures=(3, 3)), "v")  # another picture
    store.commit(result(3, [1], pictures=(3, 3)), "v")
    store.commit(result(5, [1, 1], cuts=[False, True], pictures=(0, 4)), "v")  # nothing in between
    assert store.collect().samples["shot"].tolist() == [0, 0, 1, 1, 2, 3, 3, 3, 4, 5]


@pytest.mark.slow
def test_tracklets_of_a_hundred_segments_are_numbered_through(tmp_path: Path) -> None:
    store = PartStore(tmp_path, "key")
    for segment in range(100):
        store.commit(result(segment, [1]), "v")
    recorded = store.collect()
    assert recorded.faces["tracklet_id"].tolist() == list(range(100))
    assert recorded.embeddings["tracklet_id"].tolist() == list(range(100))


def test_part_committed_twice_counts_once(tmp_path: Path) -> None:
    store = PartStore(tmp_path, "key")
    store.commit(result(0, [1]), "v")
    store.commit(result(0, [1, 1]), "v")
    recorded = store.collect()
    assert len(recorded.samples) == 2 and len(recorded.embeddings) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_part_is_written_does_not_cost_it(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But a second one is obeyed at once."""

    class EndedError(BaseException):
        pass

    def end(*_: object) -> None:
        raise EndedError

    signals = 1

    def write(*arguments: Any) -> None:
        if arguments[0].name == "faces.parquet":
            for _ in range(signals):
                signal.raise_signal(number)
        write_parquet(*arguments)

    monkeypatch.setattr(segments, "write_parquet", write)
    before = signal.signal(number, end)
    try:
        with pytest.raises(EndedError):
            PartStore(tmp_path, "key").commit(result(0, [1]), "v")
        signals = 2
        with pytest.raises(EndedError):
            PartStore(tmp_path, "key").commit(result(1, [2]), "v")
        assert signal.getsignal(number) is end
    finally:
        signal.signal(number, before)
    assert PartStore(tmp_path, "key").segments() == [0]
    assert [path.name for path in (tmp_path / ".parts").iterdir()] == ["key-000000"]


def test_parts_of_other_work_are_not_used(tmp_path: Path) -> None:
    PartStore(tmp_path, "other").commit(result(0, [1]), "v")
    store = PartStore(tmp_path, "key")
    assert store.segments() == []
    recorded = store.collect()
    assert len(recorded.samples) == len(recorded.faces) == len(recorded.embeddings) == 0
    store.clear()
    assert not store.folder.exists()


def test_parts_are_their_owners_alone(tmp_path: Path) -> None:
    # They hold embeddings of faces.
    old = os.umask(0)
    try:
        store = PartStore(tmp_path / "run", "key")
        store.commit(result(0, [1]), "v")
    finally:
        os.umask(old)
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(part.stat().st_mode) == 0o700 for part in store.folder.iterdir())


def _cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _emptied(path: Path) -> None:
    path.write_bytes(b"")


def _removed(path: Path) -> None:
    path.unlink()


def _damages() -> list[Any]:
    names = ("samples.parquet", "faces.parquet", "embeddings.parquet", "edges.npy", "read.json")
    return [(name, damage) for name in names for damage in (_cut_off, _emptied, _removed)]


@pytest.mark.parametrize(("file", "damage"), _damages())
def test_damaged_part_is_removed(tmp_path: Path, file: str, damage: Any) -> None:
    store = PartStore(tmp_path, "key")
    for segment in range(4):
        store.commit(result(segment, [1]), "v")
    (damaged,) = store.folder.glob("*-000001")
    damage(damaged / file)
    assert store.segments() == [0, 2, 3]
    assert not damaged.exists()
    recorded = store.collect()
    assert len(recorded.samples) == len(recorded.faces) == len(recorded.embeddings) == 3
    store.commit(result(1, [1]), "v")
    assert store.segments() == [0, 1, 2, 3]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO])
def test_a_part_that_cannot_be_read_now_is_kept(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = PartStore(tmp_path, "key")
    store.commit(result(0, [1]), "v")

    def fail(path: Path) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(segments.pq, "read_metadata", fail)
        with pytest.raises(OutputError, match="cannot be read"):
            store.segments()
    assert store.segments() == [0]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_packed_part_is_stored_once_as_it_was(tmp_path: Path) -> None:
    there, here = PartStore(tmp_path / "there", "key"), PartStore(tmp_path / "here", "key")
    there.commit(result(3, [2, 1]), "v")
    there.commit_empty(4)
    packed = [there.pack(segment) for segment in (3, 4)]
    assert [here.unpack(one, segment) for one, segment in zip(packed, (3, 4), strict=True)] == [True, True]
    assert files_of(here.folder) == files_of(there.folder)
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o700 for path in (here.folder, *here.folder.iterdir()))
    # One that is there and whole stays as it is; one that is not whole is replaced.
    kept = result(3, [1, 1, 1])
    here.commit(kept, "v")
    assert here.unpack(packed[0], 3) is False and len(here.collect().samples) == 3
    _cut_off(here.folder / "key-000004" / "faces.parquet")
    assert here.unpack(packed[1], 4) is True and here.segments() == [3, 4]
    assert sorted(path.name for path in here.folder.iterdir()) == ["key-000003", "key-000004"]


def zipped(files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def huge_edges() -> bytes:
    """The header of an array of a terabyte."""
    packed = io.BytesIO()
    np.lib.format.write_array_header_1_0(packed, {"descr": "|u1", "fortran_order": False, "shape": (10**12,)})
    return packed.getvalue()


def test_bytes_that_are_no_part_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    there, here = PartStore(tmp_path / "there", "key"), PartStore(tmp_path / "here", "key")
    there.commit(result(0, [1]), "v")
    good = there.pack(0)
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    assert here.unpack(zipped(files), 0)
    here.clear()
    bad = {
        "nothing": b"",
        "no archive": b"x" * 1000,
        "one file more": zipped(files | {"more.txt": b""}),
        "one file less": zipped(dict(list(files.items())[1:])),
        "a path": zipped({f"../{name}": content for name, content in files.items()}),
        "an absolute path": zipped({f"/tmp/{name}": content for name, content in files.items()}),
        "compressed": zipped(files, zipfile.ZIP_DEFLATED),
        "cut off": good[:-30],
        "no report": zipped(files | {"read.json": b"[]"}),
        "a wrong report": zipped(files | {"read.json": files["read.json"].replace(b"0", b"-1")}),
        "an endless report": zipped(files | {"read.json": b"[" * 10**6}),
        "not a table": zipped(files | {"faces.parquet": b"PAR1"}),
        "another table": zipped(files | {"faces.parquet": files["samples.parquet"]}),
        "no array": zipped(files | {"edges.npy": b"\x93NUMPY"}),
        "an archive of arrays": zipped(files | {"edges.npy": zipped({"a.npy": files["edges.npy"]})}),
        "an array of a terabyte": zipped(files | {"edges.npy": huge_edges()}),
    }
    for name, packed in bad.items():
        with pytest.raises(DamagedPartError):
            here.unpack(packed, 0)
        assert not list(here.folder.glob("*")), name
    random = np.random.default_rng(0)
    for _ in range(200):
        flipped = bytearray(good)
        flipped[random.integers(len(good))] ^= 1 << int(random.integers(8))
        try:  # some bytes do not matter, such as a date
            assert here.unpack(bytes(flipped), 0)
        except DamagedPartError:
            assert not list(here.folder.glob("*"))
        here.clear()
    assert not (tmp_path / "more.txt").exists() and not list(tmp_path.glob("*.parquet"))


def test_a_part_that_cannot_be_stored_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, here = PartStore(tmp_path / "there", "key"), PartStore(tmp_path / "here", "key")
    there.commit_empty(0)
    packed = there.pack(0)
    with pytest.raises(OutputError, match=r"key-000007 cannot be read"):
        there.pack(7)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="no space") as caught:
        here.unpack(packed, 0)
    assert caught.value.no_space and not list(here.folder.iterdir())


def test_stores_of_all_keys_are_found(tmp_path: Path) -> None:
    assert part_stores(tmp_path) == []
    for key, segment in (("b2", 0), ("a1", 3), ("a1", 1234567)):
        PartStore(tmp_path, key).commit_empty(segment)
    for name in ("new-x", "old-new-x", "c3-000000+000015", "run.json"):
        (tmp_path / ".parts" / name).mkdir()
    assert [(store.key, store.segments()) for store in part_stores(tmp_path)] == [
        ("a1", [3, 1234567]),
        ("b2", [0]),
    ]


def test_parts_say_how_they_were_read(tmp_path: Path) -> None:
    store, other = PartStore(tmp_path / "a", "key"), PartStore(tmp_path / "b", "key")
    first = ReadReport(50, 3, 60, 1, 1.96, complete=True, reason="")
    second = ReadReport(0, 2, 60, 0, None, complete=True, reason="")
    store.commit_empty(1, read=second)
    store.commit(result(0, [1]), "v", read=first)
    store.commit(result(2, [1]), "v")
    assert store.read_reports() == [first, second, NOTHING_READ]
    for segment in (0, 1):
        other.unpack(store.pack(segment), segment)
    assert other.read_reports() == [first, second]


def test_segment_without_samples_is_kept_as_such(tmp_path: Path) -> None:
    store = PartStore(tmp_path, "key")
    store.commit(result(0, [1], pictures=(0, 1)), "v")
    store.commit_empty(1)
    assert store.segments() == [0, 1]
    store.commit(result(2, [1], pictures=(2, 2)), "v")
    with_gap = store.collect()
    assert with_gap.samples["segment"].tolist() == [0, 2]
    assert with_gap.samples["shot"].tolist() == [0, 1]  # the neighbors are those that there are
    store.clear()
    store.commit_empty(0)
    assert store.collect().samples.empty


def test_edges_that_hold_objects_are_not_opened(tmp_path: Path) -> None:
    store = PartStore(tmp_path, "key")
    store.commit(result(0, [1]), "v")
    (part,) = store.folder.iterdir()
    np.save(part / "edges.npy", np.array([{"an": "object"}], dtype=object), allow_pickle=True)
    assert store.segments() == []


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
    assert json.loads((run / "run.json").read_text()) == {"complete": True}


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
    with pytest.raises(OutputError, match="missing does not exist"):
        Run.load(tmp_path / "missing")
