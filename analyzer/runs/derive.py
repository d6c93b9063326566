"""From committed segments to published tables."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

import analyzer
from analyzer.analysis.segment import Models
from analyzer.errors import MediaError, MediaErrorKind
from analyzer.media.demuxer import VideoInfo
from analyzer.media.images import further_pages, image_problem
from analyzer.media.read_report import ReadReport
from analyzer.people.fusion import fuse_people, images_table
from analyzer.people.identity import link_tracklets
from analyzer.people.proportions import estimate_proportions
from analyzer.people.timeline import sample_durations, timeline
from analyzer.runs.corrections import Applied, Corrections
from analyzer.runs.notes import Note, Seen, people_notes, scene_notes
from analyzer.runs.run_info import SCHEMA_VERSION, RunInfo
from analyzer.runs.schema import (
    EMBEDDINGS,
    FACES,
    IMAGES,
    LINKS,
    SAMPLES,
    SHARES,
    Column,
    people_columns,
    timeline_columns,
)
from analyzer.runs.segments import PartStore
from analyzer.runs.tables import empty_table, meanings_sheet, sheet_of, write_csv, write_parquet
from analyzer.runs.timebase import bin_clocks, live_durations
from analyzer.settings import Settings
from analyzer.sources.types import MediaKind, Video
from analyzer.util.sheets import Sheet, write_workbook
from analyzer.util.text import counted, well_formed
from analyzer.vision.calibration import Calibration

__all__ = [
    "Found",
    "ListedImages",
    "Tables",
    "derive",
    "derive_people",
    "prepare",
    "same_analysis",
    "table_files",
    "work_key",
    "write_spreadsheet",
    "write_tables",
]

_DETERMINING = ("av",)
"""Libraries that determine the results: another version neither continues nor reuses an analysis."""


@dataclass(frozen=True)
class Tables:
    samples: pd.DataFrame
    faces: pd.DataFrame
    embeddings: pd.DataFrame | None
    """None: they are not at hand, because the tables were derived from published ones."""
    links: pd.DataFrame
    people: pd.DataFrame
    timeline: pd.DataFrame
    shares: pd.DataFrame
    people_range: tuple[int, int, str]
    """The lowest and the highest number of people, and why they differ."""
    notes: tuple[Note, ...]
    images: pd.DataFrame | None
    """Of images only."""
    corrections: Corrections
    """All that were made."""
    applied: Applied
    """What they did."""
    found_range: tuple[int, int, str]
    """`people_range` before corrections."""


def work_key(video: Video, settings: Settings, models: Models) -> str:
    """Return the key of an analysis's parts: of the files, settings, models and versions they depend on."""
    sizes = [path.stat().st_size for path in video.paths]
    versions = [analyzer.__version__, *(metadata.version(name) for name in _DETERMINING)]
    # An address may lead to another file today.
    files = [video.video_id, sizes, video.details.get("fingerprint")]
    parts = [*files, settings.segment_hash(), models.key, SCHEMA_VERSION, versions]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def same_analysis(info: RunInfo, settings: Settings, models_hash: str) -> bool:
    """Tell whether a run has the same settings, models, and versions that determine the results.

    Args:
        info: Its ``run.json``.
        settings: The wanted ones.
        models_hash: `analyzer.vision.selection.models_hash` of these.
    """
    wanted = {
        "schema_version": SCHEMA_VERSION,
        "analyzer_version": analyzer.__version__,
        "settings_hash": settings.result_hash(),
        "models_hash": models_hash,
    }
    return all(dict(info).get(name) == value for name, value in wanted.items()) and all(
        info["libraries"].get(name) == metadata.version(name) for name in _DETERMINING
    )


def prepare() -> None:
    """Import what `derive` needs if faces were found, which takes long.

    Call it while other threads work, but not in a thread of its own, which could meet a half finished import.
    """
    import scipy.sparse  # noqa: F401


def derive(  # noqa: PLR0917
    video: Video,
    parts: PartStore,
    read: tuple[VideoInfo, ReadReport],
    settings: Settings,
    calibration: Calibration,
    corrections: Corrections,
) -> Tables:
    """Link the faces of committed segments, and derive all tables.

    Args:
        video: The video.
        parts: Its segments.
        read: What was read, and how that went.
        settings: Of the run.
        calibration: Of the models.
        corrections: Made by hand, also of an earlier analysis of the video.

    Raises:
        MediaError: There is nothing to analyze.
    """
    info, report = read
    recorded = parts.collect()
    samples, faces, embeddings = recorded.samples, recorded.faces, recorded.embeddings
    if samples.empty:
        raise MediaError(_nothing_in(video, info, settings), kind=MediaErrorKind.NO_FRAMES)
    ends = [end for end in (settings.stop_s, info.duration_s) if end is not None]
    samples["duration_s"] = 1.0  # of an image
    if video.kind is MediaKind.VIDEO:
        samples["duration_s"] = sample_durations(
            samples["time_s"].to_numpy(),
            min(ends, default=None) if report.complete else None,
            gaps_are_losses=report.bad_packets > 0,
        )
    elif video.kind is MediaKind.LIVE:
        samples["duration_s"] = live_durations(samples)
    quality = settings.min_person_quality
    linked = link_tracklets(
        faces,
        samples,
        embeddings,
        min_on_screen_s=settings.min_on_screen_s,
        min_quality=None if isinstance(quality, str) else quality,
    )
    faces["linked_person_id"] = linked.person_ids
    seen = Seen(
        images=video.kind is MediaKind.IMAGES,
        samples=len(samples),
        seconds=float(samples["duration_s"].sum()),
        width=info.width,
        height=info.height,
        may_be_larger=video.fetched and info.height >= settings.max_height,
        unread_pages=_unread_pages(video, samples),
    )
    listed = None
    if video.kind is MediaKind.IMAGES:
        first, stop = settings.start_s, settings.stop_s
        asked = {
            n: path.name for n, path in enumerate(video.paths) if first <= n < (stop or len(video.paths))
        }
        names = {n: well_formed(name) for n, name in asked.items()}
        unread = asked.keys() - set(samples["segment"])
        problems = {n: image_problem(video.paths[n], settings.max_pixels) for n in unread}
        listed = ListedImages(names, problems)
    return derive_people(
        Found(
            video_id=video.video_id,
            samples=samples,
            faces=faces,
            embeddings=embeddings,
            links=linked.links.assign(video_id=video.video_id),
            people_range=(linked.low, linked.high, linked.reason),
            notes=scene_notes(seen, faces, linked.uncounted, settings),
            may_be_larger=seen.may_be_larger,
            images=listed,
        ),
        settings,
        calibration,
        corrections,
    )


@dataclass(frozen=True)
class ListedImages:
    """The images of a run of images."""

    names: Mapping[int, str]
    """File names by the number of their segment, in the order of the table."""
    problems: Mapping[int, str]
    """Why images could not be read, likewise."""


@dataclass(frozen=True)
class Found:
    """What the analysis of a video found, before corrections."""

    video_id: str
    samples: pd.DataFrame
    faces: pd.DataFrame
    """With `linked_person_id`; `person_id` is written."""
    embeddings: pd.DataFrame | None
    links: pd.DataFrame
    people_range: tuple[int, int, str]
    notes: tuple[Note, ...]
    """Those that do not depend on corrections."""
    may_be_larger: bool
    """As of `Seen`."""
    images: ListedImages | None
    """Of images only."""


def derive_people(
    found: Found, settings: Settings, calibration: Calibration, corrections: Corrections
) -> Tables:
    """Apply corrections, and derive all tables of people.

    Args:
        found: What the analysis found.
        settings: Of the run.
        calibration: Of the models.
        corrections: Made by hand.
    """
    samples, faces, embeddings = found.samples, found.faces, found.embeddings
    applied = corrections.apply(faces, samples)
    faces = faces.assign(person_id=applied.person_ids)
    if embeddings is not None:
        owner = faces.groupby("tracklet_id")["person_id"].max()  # single faces of it may have no person
        embeddings = embeddings.assign(person_id=embeddings["tracklet_id"].map(owner))
    people = fuse_people(faces, samples, settings, calibration, applied.confirmed)
    people = people if len(people) else empty_table(people_columns(settings))
    bins = timeline(faces, people, samples, settings)
    bins["clock"] = bin_clocks(bins["start_s"].to_numpy(), samples)
    shares = estimate_proportions(people, settings, calibration)
    people["video_id"] = bins["video_id"] = shares["video_id"] = found.video_id
    notes = [*applied.notes, *found.notes]
    if len(faces):
        notes += people_notes(
            faces,
            people,
            settings,
            child_years=calibration.child_years,
            measured=calibration.measured,
            may_be_larger=found.may_be_larger,
        )
    images = None
    if found.images is not None:
        images = images_table(found.images.names, faces, people, samples, found.images.problems)
        images = images.assign(video_id=found.video_id)
    count = applied.people_range(found.people_range, len(people))
    return Tables(
        *(samples, faces, embeddings, found.links, people, bins, shares, count, tuple(notes), images),
        *(corrections, applied, found.people_range),
    )


def _nothing_in(video: Video, info: VideoInfo, settings: Settings) -> str:
    """Return a sentence on why there is nothing to analyze."""
    local = len(video.paths) == 1 and not video.fetched
    name, start = well_formed(video.paths[0].name if local else video.title), f"--start {settings.start_s:g}"
    if video.kind is MediaKind.IMAGES:
        return (
            f"{name} is {counted(len(video.paths), 'image')}: {start} is after the last; "
            "with images, --start, --end and --duration count images"
        )
    if info.duration_s is not None and settings.start_s >= info.duration_s:
        length = f"{info.duration_s:.1f}".removesuffix(".0")
        return f"{name} is {length} s long: {start} is after its end"
    if settings.stop_s is not None:
        return f"{name} has no frame from {start} to {settings.stop_s:g} s"
    return f"{name} has no frame after {start}"


def _unread_pages(video: Video, samples: pd.DataFrame) -> tuple[tuple[str, int], ...]:
    """Return the images of which only the first page was read, with the number of other pages."""
    if video.kind is not MediaKind.IMAGES:
        return ()
    read = [video.paths[number] for number in samples["segment"]]
    pages = ((well_formed(path.name), further_pages(path)) for path in read)
    return tuple((name, count) for name, count in pages if count)


def write_tables(staging: Path, tables: Tables, settings: Settings) -> None:
    """Write all tables but `tables.xlsx`. Without CSV, Parquet is always written: reports need one of
    them. Embeddings are written if they are at hand."""
    for name, table, columns in _main_tables(tables, settings):
        if "csv" in settings.formats:
            write_csv(staging / f"{name}.csv", table, columns)
        if "parquet" in settings.formats or "csv" not in settings.formats:
            write_parquet(staging / f"{name}.parquet", table, columns)
    write_parquet(staging / "faces.parquet", tables.faces, FACES)
    write_parquet(staging / "samples.parquet", tables.samples, SAMPLES)
    write_parquet(staging / "links.parquet", tables.links, LINKS)
    if settings.keep_embeddings and tables.embeddings is not None:
        write_parquet(staging / "embeddings.parquet", tables.embeddings, EMBEDDINGS)


def table_files(settings: Settings, *, images: bool) -> list[str]:
    """Return the names of the files that `write_tables` and `write_spreadsheet` write.

    Args:
        settings: Of the run.
        images: Whether it is a run of images.

    >>> table_files(Settings(formats=("xlsx",)), images=False)[:3]
    ['timeline.parquet', 'people.parquet', 'shares.parquet']
    """
    forms = [form for form in settings.formats if form != "xlsx"] or ["parquet"]
    tables = ("timeline", "people", "shares", *(["images"] if images else []))
    names = [f"{table}.{form}" for table in tables for form in forms]
    names += ["tables.xlsx"] if "xlsx" in settings.formats else []
    names += ["faces.parquet", "samples.parquet", "links.parquet"]
    return [*names, *(["embeddings.parquet"] if settings.keep_embeddings else [])]


def _main_tables(
    tables: Tables, settings: Settings
) -> tuple[tuple[str, pd.DataFrame, tuple[Column, ...]], ...]:
    return (
        ("timeline", tables.timeline, timeline_columns(settings)),
        ("people", tables.people, people_columns(settings)),
        ("shares", tables.shares, SHARES),
        *([("images", tables.images, IMAGES)] if tables.images is not None else []),
    )


def write_spreadsheet(staging: Path, tables: Tables, settings: Settings, info: Mapping[str, Any]) -> None:
    """Write `tables.xlsx` if it is wanted: a summary, a sheet for each table, and the provenance.

    Args:
        staging: Folder of the file.
        tables: Of the run.
        settings: Tell whether it is wanted.
        info: ``run.json``.

    Raises:
        OutputError: It cannot be written.
    """
    if "xlsx" not in settings.formats:
        return
    sheets = {name: (table, columns) for name, table, columns in _main_tables(tables, settings)}
    sheets["samples"] = tables.samples, SAMPLES
    order = ("people", *(name for name in sheets if name != "people"))
    words = info.get("shares_text")
    summary = [*info["counts"].items(), *([("shares_text", words)] if words else [])]
    about = [(name, info.get(name)) for name in _ABOUT]
    about += [("note", note) for note in info.get("notes") or ()]
    about += [(f"settings.{name}", _cell(value)) for name, value in info["settings"].items()]
    about += [
        (f"model {model['role']}", f"{model['name']}, {model['license']}, {model['sha256']}")
        for model in info["models"]
    ]
    write_workbook(
        staging / "tables.xlsx",
        [
            Sheet("summary", ("figure", "value"), summary),
            *(sheet_of(name, *sheets[name]) for name in order),
            meanings_sheet({name: sheets[name][1] for name in order}),
            Sheet("about", ("what", "value"), about),
        ],
    )


_ABOUT = (
    *("title", "source", "url", "channel", "uploaded", "video_id", "kind", "complete", "incomplete_reason"),
    *("analyzed_at", "analyzer_version", "schema_version", "preset"),
)


def _cell(value: Any) -> Any:
    return value if value is None or isinstance(value, str | int | float) else json.dumps(value)
