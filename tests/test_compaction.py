"""Compaction: few parts, whose tables do not depend on how they were merged."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analyzer.live import compaction
from analyzer.live.compaction import CompactingStore
from analyzer.runs.segments import PartStore, Received
from analyzer.runs.timebase import bin_clocks, live_durations
from tests.test_tables import result

_FACTOR = 4


@pytest.fixture(autouse=True)
def few_make_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that few segments are merged."""
    monkeypatch.setattr(compaction, "_FACTOR", _FACTOR)


def filled(folder: Path, count: int) -> CompactingStore:
    """A store with `count` segments; some show other frames, some have shot boundaries, some no faces."""
    store = CompactingStore(folder, "key")
    for segment in range(count):
        counts = [segment % 3, 1, 0]
        one = result(
            segment, counts, cuts=[False, segment % 5 == 0, False], pictures=(segment % 4, segment % 4)
        )
        store.commit(one, "v", [Received(1e9 + 10 * segment + n, 0.5 * n, n) for n in range(3)])
    return store


def assert_same(store: PartStore, other: PartStore) -> None:
    for name in ("samples", "faces", "embeddings"):
        one, two = getattr(store.collect(), name), getattr(other.collect(), name)
        pd.testing.assert_frame_equal(one, two, check_exact=True)


@pytest.mark.parametrize("count", [1, _FACTOR, 3 * _FACTOR + 2, _FACTOR * _FACTOR + 1])
def test_compaction_changes_nothing_but_the_number_of_parts(count: int, tmp_path: Path) -> None:
    store = filled(tmp_path / "a", count)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    untouched = CompactingStore(tmp_path / "b", "key")
    assert len(store.segments()) == count
    store.compact()
    assert len(store.segments()) == sum(divmod(count % _FACTOR**2, _FACTOR)) + count // _FACTOR**2
    assert_same(store, untouched)
    samples = store.collect().samples
    assert samples["sample"].tolist() == list(range(3 * count)) and samples["shot"].is_monotonic_increasing
    assert samples["gap_s"].tolist() == [0.0, 0.5, 1.0] * count
    assert samples["clock"].iloc[-1] == pd.Timestamp(1e9 + 10 * (count - 1) + 2, unit="s", tz="UTC")


def test_parts_left_by_a_kill_count_once(tmp_path: Path) -> None:
    store = filled(tmp_path / "a", _FACTOR + 1)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    untouched = CompactingStore(tmp_path / "b", "key")
    store.compact()
    # The sources of the merged part had not been removed.
    for part in untouched.folder.iterdir():
        shutil.copytree(part, store.folder / part.name, dirs_exist_ok=True)
    assert len(store.segments()) == 2
    assert_same(store, untouched)
    # The merged part was not complete.
    whole = next(store.folder.glob("*+*"))
    torn = shutil.copytree(whole, untouched.folder / whole.name)
    (torn / "faces.parquet").write_bytes(b"PAR1")
    assert_same(untouched, store)


def test_durations_and_clocks_without_samples() -> None:
    nothing = pd.DataFrame({"time_s": [], "gap_s": [], "clock": pd.Series([], dtype="datetime64[ms, UTC]")})
    assert len(live_durations(nothing)) == 0 and bin_clocks(np.arange(3.0), nothing).isna().all()
    one = pd.DataFrame({"time_s": [1.0], "gap_s": [0.0], "clock": pd.to_datetime([10], unit="s", utc=True)})
    assert live_durations(one).tolist() == [1.0]
    clocks = bin_clocks(np.array([0.0, 1.0, 2.5]), one)
    assert [moment.timestamp() for moment in clocks] == [9.0, 10.0, 11.5]
