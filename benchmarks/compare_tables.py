"""Compare the results of two versions: ``python -m benchmarks.compare_tables OLD NEW``.

OLD and NEW are folders of runs of the same sources; runs are paired by their video id. Tables must have the
same columns, but for renamed ones (`analyzer.runs.run_info.FORMER_COLUMNS`), the same rows and the same
values; ``run.json`` must have the same counts and facts of the video. Differences are printed. The exit code
is 1 if there are any, or if a run is missing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from analyzer.errors import OutputError
from analyzer.runs.run import Run
from analyzer.runs.run_info import FORMER_COLUMNS

TABLES = ("samples", "faces", "embeddings", "people", "timeline", "shares", "images")
FACTS = ("kind", "complete", "video", "reading", "calibration")
"""Keys of ``run.json`` that must be the same, besides the counts; sentences may be worded anew."""


def tables_of(folder: Path) -> dict[str, pd.DataFrame]:
    """The Parquet tables of a run, with the column names of today."""
    tables = {}
    for name in TABLES:
        if (path := folder / f"{name}.parquet").exists():
            today = {former: new for new, former in FORMER_COLUMNS.get(name, {}).items()}
            tables[name] = pq.read_table(path).to_pandas().rename(columns=today)
    return tables


def differences(old: Path, new: Path, tolerance: float = 0.0) -> Iterator[str]:
    """What differs between two runs of one video, a sentence each.

    Args:
        old: Folder of a run.
        new: Folder of another one.
        tolerance: By how much numbers that are not whole may differ.
    """
    before, after = tables_of(old), tables_of(new)
    for name in sorted(before.keys() | after.keys()):
        if name not in before or name not in after:
            yield f"{name}: only in {'NEW' if name in after else 'OLD'}"
            continue
        yield from (f"{name}: {what}" for what in _table(before[name], after[name], tolerance))
    one, other = (dict(Run.load(folder).info) for folder in (old, new))
    for key in FACTS:
        was, now = one[key], other[key]
        if isinstance(was, dict) and isinstance(now, dict):
            now = {name: value for name, value in now.items() if name in was}  # new versions may say more
        if was != now:
            yield f"run.json: {key} was {was!r}, is {now!r}"
    counts = ({**info["counts"], "people_range_reason": ""} for info in (one, other))
    if (was := next(counts)) != (now := next(counts)):
        yield f"run.json: counts were {was}, are {now}"


def _table(old: pd.DataFrame, new: pd.DataFrame, tolerance: float) -> Iterator[str]:
    for column in sorted({*old.columns} ^ {*new.columns}):
        yield f"column {column} is only in {'NEW' if column in new else 'OLD'}"
    if len(old) != len(new):
        yield f"{len(old)} rows were there, now {len(new)}"
        return
    for column in (name for name in old.columns if name in new.columns):
        differs = _differs(old[column], new[column], tolerance)
        if differs.any():
            row = int(np.flatnonzero(differs)[0])
            change = f"{old[column].iloc[row]!r}, now {new[column].iloc[row]!r}"
            yield f"column {column} differs in {differs.sum()} of {len(old)} rows; row {row}: {change}"


def _differs(old: pd.Series, new: pd.Series, tolerance: float) -> NDArray[np.bool_]:
    if old.dtype != new.dtype:
        return np.ones(len(old), bool)
    if pd.api.types.is_float_dtype(old.dtype):
        return ~np.isclose(old.to_numpy(), new.to_numpy(), rtol=0, atol=tolerance, equal_nan=True)
    if len(old) and isinstance(old.iloc[0], np.ndarray):  # landmarks, embeddings
        return ~np.array([_close(*pair, tolerance) for pair in zip(old, new, strict=True)], bool)
    same = (old == new) | (old.isna() & new.isna())
    return ~same.fillna(False).to_numpy(bool)


def _close(one: NDArray[np.float32], other: NDArray[np.float32], tolerance: float) -> bool:
    return one.shape == other.shape and np.allclose(one, other, rtol=0, atol=tolerance, equal_nan=True)


def _runs(folder: Path) -> dict[str, Path]:
    found = {}
    for path in sorted(folder.glob("*/run.json")):
        try:
            found[Run.load(path.parent).info["video_id"]] = path.parent
        except OutputError as error:
            sys.exit(str(error))
    return found


def main() -> None:
    """Compare all runs of two folders."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--tolerance", type=float, default=0.0, help="for numbers that are not whole")
    chosen = parser.parse_args()
    old, new = _runs(chosen.old), _runs(chosen.new)
    if not old:
        sys.exit(f"{chosen.old} holds no runs")
    failed = False
    for video_id in sorted(old.keys() | new.keys()):
        if video_id not in old or video_id not in new:
            failed = True
            print(f"{video_id}: only in {'NEW' if video_id in new else 'OLD'}")
            continue
        found = list(differences(old[video_id], new[video_id], chosen.tolerance))
        failed |= bool(found)
        rows = {name: len(table) for name, table in tables_of(new[video_id]).items()}
        print(f"{new[video_id].name}: {'DIFFERS' if found else 'the same'} ({rows})")
        for what in found:
            print(f"  {what}")
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
