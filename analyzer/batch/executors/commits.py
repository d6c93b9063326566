"""What the batch's process reads and writes for the stations of a cluster, in threads of its own.

Segments and runs come as bytes, and each is committed once by a rename.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from analyzer.batch.executors.node_files import SourceFile
from analyzer.batch.executors.station import Packed, Report, Wanted
from analyzer.batch.executors.units import Job, Unit
from analyzer.batch.protocol import Done, JobEvent, Opened, Stopped, check_parts_key
from analyzer.errors import SourceError
from analyzer.runs.run import CORRECTIONS_FILE
from analyzer.runs.segments import PartStore, part_stores
from analyzer.runs.transfer import DamagedRunError, Piece, RunReceiver, pieces, run_files
from analyzer.sources.types import Video
from analyzer.util.atomic import reading_errors

__all__ = ["Prepared", "Stored", "prepare", "source_files", "store"]

_PIECE_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Prepared:
    """What a station gets with a unit."""

    files: tuple[SourceFile, ...]
    """Of the video."""
    parts: Sequence[Packed] = ()
    """The finished segments."""
    run: Sequence[Piece] = ()
    """The run, if only its annotated video is missing."""
    corrections: bytes | None = None
    """Of the run."""


@dataclass
class Stored:
    """What has become of a station's reports."""

    events: list[JobEvent] = field(default_factory=list)
    """Those that count now."""
    pieces: list[Any] = field(default_factory=list)
    """Of the video's files, which the station wants: bytes, or references of Ray to bytes."""
    error: Exception | None = None
    """Why nothing after the events could be written."""


def prepare(unit: Unit) -> Prepared:
    """Read what a station needs for a unit.

    Raises:
        OutputError: It cannot be read.
    """
    job = unit.job
    files = source_files(job.spec.video) if job.files is None else job.files
    if unit.segments is not None:
        return Prepared(files)
    corrections = job.folder / CORRECTIONS_FILE
    with reading_errors(corrections):
        made = corrections.read_bytes() if corrections.exists() else None
    run: list[Piece] = []
    if job.undrawn:
        run = list(pieces(job.folder, run_files(job.folder, downloads=False), _PIECE_BYTES))
    return Prepared(files, _finished_parts(job.folder), run, made)


def source_files(video: Video) -> tuple[SourceFile, ...]:
    """The files of a video that can be read here; the analysis says what is wrong with others."""
    found = []
    for path in (*video.paths, *([video.audio_path] if video.audio_path else [])):
        with contextlib.suppress(SourceError, OSError):
            found.append(SourceFile.of(path))
    return tuple(found)


def _finished_parts(folder: Path) -> list[Packed]:
    """Read the finished segments in a run's folder, of whatever analysis.

    Raises:
        OutputError: One cannot be read.
    """
    stores = part_stores(folder)
    return [Packed(one.key, number, one.pack(number)) for one in stores for number in one.segments()]


def store(unit: Unit, reports: Sequence[Report]) -> Stored:
    """Write what a station has reported to the disk, and read what it wants."""
    stored = Stored()
    try:
        for report in reports:
            _store_one(unit, report, stored)
    except Exception as error:  # noqa: BLE001 - it fails its job and no other
        stored.error = error
    return stored


def _store_one(unit: Unit, report: Report, stored: Stored) -> None:
    job = unit.job
    late = job.finishing and unit.segments is not None  # all parts are here, or removed: the run is published
    if report.wanted is not None and job.files is not None:
        job.sent = True
        stored.pieces.append(_piece(job, report.wanted))
    if report.files:
        _clear(job.staging)  # perhaps from a station that was lost
        job.receiver = RunReceiver(job.staging, report.files)
    if report.piece is not None and job.receiver is not None:
        job.receiver.receive(report.piece)
    if report.part is not None and not late:
        _parts(job, report.part.key).unpack(report.part.content, report.part.segment)
    match report.event:
        case None:
            pass
        case Done() if isinstance(job.ending, Stopped | None):
            if job.receiver is None:
                raise DamagedRunError("a run has no files")
            job.receiver.publish(job.folder, job.spec.video, grows=job.undrawn)
            stored.events.append(replace(report.event, run=job.folder.name))
        case Opened():
            completed = tuple(_parts(job, report.event.parts_key).segments())
            stored.events.append(replace(report.event, completed=completed))
        case _:
            stored.events.append(report.event)


def _parts(job: Job, key: str) -> PartStore:
    """The segments of a job that are here.

    Raises:
        ProtocolError: The key is not alphanumeric. Objects from other machines are made without the checks of
            their classes.
    """
    return PartStore(job.folder, check_parts_key(key))


def _piece(job: Job, wanted: Wanted) -> Any:
    """A stretch of a file of the video, or a reference to it.

    Raises:
        OutputError: It cannot be read.
    """
    if job.held is not None:
        return job.held.read(wanted.file, wanted.offset, wanted.size)
    assert job.files is not None
    path = job.files[wanted.file].path
    with reading_errors(path), path.open("rb") as file:
        file.seek(wanted.offset)
        return file.read(wanted.size)


def _clear(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
