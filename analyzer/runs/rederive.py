"""Tables of a published run, derived again from themselves with other corrections.

Nothing is decoded, and no embeddings are needed: the faces table keeps the people that the linking found.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, cast

import pyarrow.parquet as pq

from analyzer.errors import OutputError
from analyzer.runs.corrections import Corrections, read_corrections
from analyzer.runs.derive import (
    Found,
    ListedImages,
    Tables,
    derive_people,
    write_spreadsheet,
    write_tables,
)
from analyzer.runs.notes import REASONS, SCENE_NOTES, Note
from analyzer.runs.provenance import table_facts
from analyzer.runs.run import SUBTITLE_FILES, Run, publish, report_files
from analyzer.runs.run_info import SCHEMA_VERSION, RunInfo
from analyzer.runs.tables import write_json
from analyzer.settings import Settings
from analyzer.util.atomic import output_errors
from analyzer.util.locks import run_lock
from analyzer.vision.calibration import Calibration, calibration_file

__all__ = [
    "check_correctable",
    "found_of",
    "heal",
    "is_current",
    "replace_outputs",
    "write_again",
]

_REDRAWN = (
    "it was removed, because people were corrected: analyze again with the same options, "
    "which draws only the video"
)


def is_current(run: Run) -> bool:
    """Tell whether the tables of a run hold the corrections in its folder.

    Raises:
        OutputError: The file of corrections is damaged.
    """
    return read_corrections(run.folder).are_in(run.info)


def heal(folder: Path) -> Run:
    """Derive the tables of a run again if a correction was interrupted; a report in its folder is removed.

    Raises:
        OutputError: The folder cannot be written, or is in use, or the tables cannot be derived again.
    """
    with run_lock(folder) as staging:
        run = Run.load(folder)
        if is_current(run):
            return run
        check_correctable(run)
        write_again(run, found_of(run), read_corrections(folder), staging)
        replace_outputs(staging, folder)
    return Run.load(folder)


def replace_outputs(made: Path, folder: Path) -> None:
    """Publish tables that were derived again; what shows people of before is removed.

    Args:
        made: Folder of the new files, in the same file system.
        folder: The run's.

    Raises:
        OutputError: They cannot be moved.
    """
    with output_errors(folder):
        (folder / "annotated.mp4").unlink(missing_ok=True)
        shutil.rmtree(folder / "annotated", ignore_errors=True)
        for name in (*report_files(), *SUBTITLE_FILES):
            if not (made / name).exists():
                (folder / name).unlink(missing_ok=True)
    publish(made, folder, grows=True)


def check_correctable(run: Run) -> None:
    """Check that the tables of a run can be derived again.

    Raises:
        OutputError: They cannot.
    """
    if run.info["schema_version"] != SCHEMA_VERSION:
        raise OutputError(
            f"{run.folder} was analyzed by an older version: analyze the video again to correct it"
        )
    missing = [
        name for name in ("faces", "samples", "links") if not (run.folder / f"{name}.parquet").exists()
    ]
    if missing:
        raise OutputError(f"{run.folder} lacks its table {missing[0]}: analyze the video again to correct it")
    key = run.info["calibration"].get("key")
    if key and calibration_file(key) is None:
        raise OutputError(
            f"{run.folder} was analyzed with a calibration that is not on this machine ({key}.json): correct "
            "it where it was analyzed, or copy the calibration beside your models"
        )


def found_of(run: Run) -> Found:
    """Return what the analysis of a published run found, before corrections.

    Raises:
        OutputError: A table is damaged.
    """
    info = run.info
    try:
        faces, samples, links = run.faces, run.samples, run.links
        embeddings = None
        if (path := run.folder / "embeddings.parquet").exists():
            embeddings = pq.read_table(path).to_pandas()
        images = _listed(run) if info["kind"] == "images" else None
    except (OSError, ValueError, KeyError) as error:
        raise OutputError(f"{run.folder} has a damaged table: analyze the video again") from error
    counts, facts = info["counts"], info.get("corrections")
    before = counts["people_low"], counts["people_high"], counts["people_range_reason"]
    if facts:
        before = (
            facts["people_low_before"],
            facts["people_high_before"],
            facts["people_range_reason_before"],
        )
    amounts: dict[str, Any] = dict(counts)
    notes = [
        Note(reason, amounts[reason] if reason in REASONS else 0, sentence)
        for reason, sentence in zip(info.get("note_reasons") or (), info["notes"], strict=False)
        if reason in SCENE_NOTES
    ]
    height = int(samples["height"].iloc[0]) if len(samples) else 0
    return Found(
        video_id=info["video_id"],
        samples=samples,
        faces=faces,
        embeddings=embeddings,
        links=links,
        people_range=before,
        notes=tuple(notes),
        may_be_larger=info["url"] is not None and height >= Settings(**info["settings"]).max_height,
        images=images,
    )


def _listed(run: Run) -> ListedImages:
    """The images of a run, from its table of them."""
    table = run.images
    segments = run.samples.set_index("sample")["segment"]
    names: dict[int, str] = {}
    problems: dict[int, str] = {}
    for row in table.itertuples(index=False):
        sample = int(cast(int, row.sample))
        # What could not be read has no segment, and no other row either.
        key = int(segments[sample]) if sample >= 0 else -len(names) - 1
        names[key] = str(row.image)
        if sample < 0 and isinstance(row.reason, str):
            problems[key] = row.reason
    return ListedImages(names, problems)


def write_again(run: Run, found: Found, corrections: Corrections, staging: Path) -> RunInfo:
    """Derive the tables of a run with other corrections; write them and its ``run.json``.

    Args:
        run: A run that passes `check_correctable`.
        found: `found_of` it.
        corrections: All of them.
        staging: An empty folder.

    Raises:
        OutputError: They cannot be written.
        ModelError: The calibration is damaged.
    """
    settings = Settings(**run.info["settings"])
    tables: Tables = derive_people(found, settings, Calibration.of_run(run.info), corrections)
    write_tables(staging, tables, settings)
    info = cast(RunInfo, {**run.info, **table_facts(tables, settings)})
    annotated = info.get("annotated")
    if annotated and annotated.get("file"):
        hashes = {name: info.get(name) for name in ("settings_hash", "models_hash")}
        info["annotated"] = cast(Any, {"file": None, "error": _REDRAWN, **hashes})
    write_spreadsheet(staging, tables, settings, info)
    write_json(staging / "run.json", info)
    return info
