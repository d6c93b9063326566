"""A published run: its folder, its tables, its `run.json`."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pandas as pd
import pyarrow.parquet as pq

from analyzer.errors import OutputError
from analyzer.runs.run_info import FORMER_COLUMNS, SCHEMA_VERSION, RunInfo, read_run_info
from analyzer.runs.schema import IMAGES, PEOPLE, TEXT
from analyzer.runs.tables import empty_table
from analyzer.settings import REPORT_FORMATS
from analyzer.sources.types import Video
from analyzer.util.atomic import output_errors, sync_folder

__all__ = [
    "CORRECTIONS_FILE",
    "REPORT_CHARTS",
    "REPORT_TABLES",
    "SUBTITLE_FILES",
    "Run",
    "is_output",
    "keep_download",
    "kept_names",
    "publish",
    "report_files",
    "undrawn_run",
]

CORRECTIONS_FILE = "corrections.json"

SUBTITLE_FILES = "subtitles.ass", "subtitles.vtt"

_OUTPUTS = (
    "run.json",
    "timeline.csv",
    "timeline.parquet",
    "people.csv",
    "people.parquet",
    "shares.csv",
    "shares.parquet",
    "images.csv",
    "images.parquet",
    "tables.xlsx",
    "samples.parquet",
    "faces.parquet",
    "links.parquet",
    "embeddings.parquet",
    "annotated.mp4",
    "annotated",
    *SUBTITLE_FILES,
)

_DOWNLOAD = "download-"
"""How the names of kept downloads begin."""

REPORT_CHARTS = (
    *("timeline", "timeline-ages", "people", "pyramid", "shares"),
    *("concurrent", "videos", "groups", "trend", "audience"),
)
"""Names of the charts of a report, in files ``report-<name>.png``."""

REPORT_TABLES = (
    *("figures", "shares", "screen-time", "pyramid", "moments", "people", "appearances"),
    *("images", "pairs", "trend", "comparison", "audience", "concurrent", "attention"),
)
"""Names of the tables of a report, in files ``report-<name>.csv``."""


def report_files() -> tuple[str, ...]:
    """Return the names of all files that a report can have.

    >>> all(name.startswith(("report.", "report-")) for name in report_files())
    True
    """
    return (
        *(f"report.{form}" for form in REPORT_FORMATS if form not in ("png", "csv")),
        *(f"report-{name}.png" for name in REPORT_CHARTS),
        *(f"report-{name}.csv" for name in REPORT_TABLES),
    )


def is_output(name: str, *, downloads: bool) -> bool:
    """Tell whether a run can have published a file: a table, its report, an annotated image, and so on.

    Args:
        name: Of the file, relative to the run's folder, with slashes.
        downloads: Whether downloads that were kept count.

    >>> is_output("run.json", downloads=False), is_output("annotated/a.jpg", downloads=False)
    (True, True)
    >>> [is_output(name, downloads=True) for name in ("corrections.json", ".parts", "annotated/../a", "/tmp")]
    [False, False, False, False]
    """
    *folders, file = name.split("/")
    if "\0" in name or {"", ".", ".."} & {*folders, file}:
        return False
    if folders:
        return folders == ["annotated"]
    kept = downloads and file.startswith(_DOWNLOAD)
    return kept or file in report_files() or (file in _OUTPUTS and file != "annotated")


def kept_names(video: Video) -> list[str]:
    """Return the names of a download's files in the folder of the run that keeps them."""
    return [f"{_DOWNLOAD}{path.name}" for path in _downloads(video)]


def keep_download(video: Video, run_folder: Path) -> list[str]:
    """Move the files of a downloaded video into its run's folder; returns their names there.

    Raises:
        OSError: They cannot be moved.
    """
    names = kept_names(video)
    for path, name in zip(_downloads(video), names, strict=True):
        path.replace(run_folder / name)
    return names


def _downloads(video: Video) -> tuple[Path, ...]:
    return (*video.paths, *([video.audio_path] if video.audio_path else []))


def publish(staging: Path, run_folder: Path, *, grows: bool = False) -> tuple[str, ...]:
    """Replace an earlier run, and its report, by finished outputs.

    ``run.json`` is removed first and added last: while it is missing, the folder is not a finished run.

    Args:
        staging: Folder of the outputs, in the same file system.
        run_folder: Folder of the run; it exists.
        grows: Whether it is the same run, continued: each file is replaced, and none is missing in between.

    Returns:
        The names of the files of an earlier report that were removed.

    Raises:
        OutputError: They cannot be moved.
    """
    reports = () if grows else tuple(name for name in report_files() if (run_folder / name).exists())
    with output_errors(run_folder):
        for name in () if grows else (*_OUTPUTS, *report_files()):
            old = run_folder / name
            if old.is_dir():
                shutil.rmtree(old)
            else:
                old.unlink(missing_ok=True)
        names = sorted((path.name for path in staging.iterdir()), key=lambda name: name == "run.json")
        for name in names:
            (staging / name).replace(run_folder / name)
        sync_folder(run_folder)
    return reports


@dataclass(frozen=True)
class Run:
    """A finished run: its folder and its ``run.json``. Tables are read on first use.

    Runs of older versions have the column names of today.
    """

    folder: Path
    info: RunInfo

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Open a run's folder.

        Raises:
            UnusableRunError: It holds no finished run, or its ``run.json`` cannot be used.
        """
        path = Path(folder)
        return cls(path, read_run_info(path))

    @property
    def complete(self) -> bool:
        """Whether the whole video was read."""
        return self.info["complete"]

    @property
    def video_error(self) -> str:
        """Why the annotated video is missing although it was wanted; otherwise empty."""
        annotated = self.info.get("annotated")
        return annotated.get("error", "") if annotated else ""

    @property
    def may_be_corrected(self) -> bool:
        """Whether there are corrections in its folder or in its tables."""
        return bool(self.info.get("corrections")) or (self.folder / CORRECTIONS_FILE).exists()

    @property
    def measured(self) -> bool:
        """Whether the error rates of its models were measured, which shares and 80 % intervals need."""
        return self.info["calibration"].get("measured", True)

    @functools.cached_property
    def timeline(self) -> pd.DataFrame:
        """One row for each bin: the columns of `timeline_columns`."""
        return self._read("timeline")

    @functools.cached_property
    def people(self) -> pd.DataFrame:
        """One row for each person: the columns of `people_columns`."""
        return self._read("people")

    @functools.cached_property
    def shares(self) -> pd.DataFrame:
        """One row for each group: the columns of `SHARES`."""
        return self._read("shares")

    @functools.cached_property
    def images(self) -> pd.DataFrame:
        """One row for each image and person: the columns of `IMAGES`; without rows for a video."""
        known = any((self.folder / f"images.{form}").exists() for form in ("parquet", "csv"))
        return self._read("images") if known else empty_table(IMAGES)

    @functools.cached_property
    def faces(self) -> pd.DataFrame:
        """One row for each face: the columns of `FACES`."""
        return self._read("faces")

    @functools.cached_property
    def links(self) -> pd.DataFrame:
        """One row for each step of the linking: the columns of `LINKS`."""
        return self._read("links")

    @functools.cached_property
    def samples(self) -> pd.DataFrame:
        """One row for each sample: the columns of `SAMPLES`."""
        return self._read("samples")

    def _read(self, name: str) -> pd.DataFrame:
        parquet = self.folder / f"{name}.parquet"
        table: pd.DataFrame
        if parquet.exists():
            table = pq.read_table(parquet).to_pandas()
        else:
            # Ids of digits alone must stay text.
            texts = {c.name: str for c in (*PEOPLE, *IMAGES) if c.type == TEXT}
            table = pd.read_csv(self.folder / f"{name}.csv", dtype=texts)
            if name == "people" and "name" in table:
                table["name"] = table["name"].fillna("")  # an empty cell of CSV
            if "clock" in table:
                table["clock"] = pd.to_datetime(table["clock"], utc=True, format="ISO8601").dt.as_unit("ms")
        if self.info["schema_version"] < SCHEMA_VERSION:
            today = {old: new for new, old in FORMER_COLUMNS.get(name, {}).items()}
            table = table.rename(columns=today)
        return table


def undrawn_run(folder: Path, video: Video, hashes: Mapping[str, str]) -> Run | None:
    """The run in a folder if it is of this very work, and only its annotated video is missing; else None.

    Args:
        folder: Of the run.
        video: Of which it must be.
        hashes: Those of settings and models, by their names in ``run.json``.
    """
    try:
        run = Run.load(folder)
    except OutputError:
        return None
    if not run.video_error or run.info["video_id"] != video.video_id:
        return None
    # A plain address may lead to another video today.
    if run.info["source_details"].get("fingerprint") != video.details.get("fingerprint"):
        return None
    documents: list[Mapping[str, Any]] = [run.info, run.info.get("annotated") or {}]
    asked = [one for one in documents if all(one.get(key) for key in hashes)]
    same = any(all(one[key] == value for key, value in hashes.items()) for one in asked)
    return run if same and run.info["schema_version"] == SCHEMA_VERSION else None
