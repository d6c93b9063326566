"""``run.json``: its form, how it is read, and what older versions called its parts.

The form is written once, here: `read_run_info` checks documents against it and docs/records.md is generated
from it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict, cast

from analyzer.errors import OutputError
from analyzer.util.validation import InvalidValueError, Limits, conform

__all__ = [
    "FORMER_COLUMNS",
    "SCHEMA_VERSION",
    "AnnotatedFacts",
    "AudienceFacts",
    "Calibrated",
    "ClockJumpFacts",
    "CorrectionFacts",
    "Counts",
    "LiveFacts",
    "LiveGap",
    "ModelFacts",
    "ReadingFacts",
    "RunInfo",
    "Spread",
    "UnusableRunError",
    "VideoFacts",
    "read_run_info",
]

SCHEMA_VERSION = 8
"""Version of the tables and of ``run.json``. Runs of all older versions can be read."""

FORMER_COLUMNS: dict[str, dict[str, str]] = {
    "samples": {"detection_age_s": "carried_s"},
    "faces": {"detection_age_s": "carried_s", "age_std_years": "age_spread_years"},
    "people": {"estimated_samples": "judged_samples"},
    "embeddings": {"crops": "views", "crop_px": "view_px"},
}
"""By table: columns that had another name up to version 5, and that name."""

_FORMER_KEYS = {"analyzed_at": "analysed_at", "shares_text": "shares_in_words"}
_FORMER_COUNTS = {
    "samples_reused": "samples_carried",
    "analyzed_s": "analysed_s",
    "faces_estimated": "faces_judged",
    "faces_unassigned": "faces_of_no_person",
    "people_not_estimated": "people_unjudged",
}
_FORMER_SETTINGS = {
    "min_estimate_px": "min_judged_px",
    "estimate_every_s": "judge_every_s",
    "reuse_s": "carry_s",
}


class Counts(TypedDict):
    """How much was found, and how much of it was not counted and why."""

    samples: Annotated[int, "Analyzed frames."]
    samples_reused: Annotated[int, "Samples that reuse the detections of an earlier one."]
    analyzed_s: Annotated[float, "Total duration of the samples, in seconds; of images, their number."]
    faces: Annotated[int, "Detected faces."]
    faces_estimated: Annotated[int, "Faces whose gender and age were estimated."]
    faces_unassigned: Annotated[int, "Faces that belong to no person."]
    shots: Annotated[int, "Shots."]
    people: Annotated[int, "People."]
    people_low: Annotated[
        int,
        "People, if all plausible links between faces are right, of those firmly seen; two who are seen "
        "together and look the same count as one.",
    ]
    people_high: Annotated[int, "People, if only certain links are right, with those seen less clearly."]
    people_range_reason: Annotated[str, "Why the two differ."]
    people_not_estimated: Annotated[int, "People whose gender and age could not be estimated."]
    female: Annotated[int, "People of perceived gender female."]
    male: Annotated[int, "People of perceived gender male."]
    unknown_gender: Annotated[int, "People of unknown gender."]
    uncounted_brief: Annotated[int, "Groups of faces not counted as people: seen too briefly."]
    uncounted_faint: Annotated[int, "Likewise: never clear enough."]
    uncounted_brief_and_faint: Annotated[int, "Likewise: both."]
    unestimated_narrow: Annotated[int, "People without gender and age: faces too narrow."]
    unestimated_other: Annotated[int, "Likewise, for other reasons."]
    gender_unsure: Annotated[int, "People of unknown gender: the estimate is not sure enough."]
    gender_of_children: Annotated[int, "People of unknown gender: they look like children."]
    on_screen_s: Annotated[float, "Total time on screen of all people, in seconds."]


class CorrectionFacts(TypedDict):
    """Corrections by hand that the tables hold, and what they changed."""

    file: Annotated[str, "Name of the file of corrections."]
    key: Annotated[str, "Hash of its content when the tables were derived."]
    count: Annotated[int, "Corrections that were applied."]
    lost: Annotated[int, "Corrections of an earlier analysis whose people were not found again."]
    people_before: Annotated[int, "People before the corrections."]
    people_low_before: Annotated[int, "`people_low` before."]
    people_high_before: Annotated[int, "`people_high` before."]
    people_range_reason_before: Annotated[str, "`people_range_reason` before."]


class VideoFacts(TypedDict):
    """The video, or the first of the images."""

    width: Annotated[int, "Width in pixels, as a player shows it."]
    height: Annotated[int, "Height, likewise."]
    rotation_deg: Annotated[int, "Clockwise rotation from the stored to the displayed frame."]
    mirrored: Annotated[bool, "Whether the stored frame is mirrored."]
    pixel_aspect: Annotated[str, "Aspect ratio of the stored pixels, such as 1:1."]
    stereo: Annotated[str | None, "Layout of a stereoscopic video and the half that was analyzed."]
    transfer: Annotated[str | None, "Transfer characteristic, where it is a high dynamic range one."]
    duration_s: Annotated[float | None, "Duration in seconds, where known."]
    fps: Annotated[float | None, "Nominal frame rate."]
    codec: Annotated[str, "Video codec."]
    container: Annotated[str, "Container format."]
    audio_codec: Annotated[str | None, "Audio codec; null without sound."]


class ClockJumpFacts(TypedDict):
    """A place at which the time stamps jumped."""

    at_s: Annotated[float, "Time of the jump."]
    by_s: Annotated[float, "Distance in seconds; negative: back."]


class ReadingFacts(TypedDict):
    """How reading went."""

    frames_decoded: Annotated[int, "Decoded frames."]
    bad_packets: Annotated[int, "Damaged packets of a video."]
    unreadable_images: Annotated[int, "Images that could not be read."]
    repaired_times: Annotated[int, "Frames whose time stamp was missing or wrong."]
    last_s: Annotated[float | None, "Time of the last frame that was read."]
    clock_jumps: Annotated[int, "Jumps of the time stamps."]
    clock_jumps_at: Annotated[list[ClockJumpFacts], "The first 100 of them; of live sources the last."]


class LiveGap(TypedDict):
    """A stretch of a live source without frames."""

    start_s: Annotated[float, "Its start."]
    length_s: Annotated[float, "Its length in seconds."]
    reason: Annotated[str, "Its cause."]


class LiveFacts(TypedDict):
    """A live source."""

    form: Annotated[str, "Protocol of the stream."]
    started_at: Annotated[str | None, "When the first frame was received (UTC)."]
    ended_at: Annotated[str | None, "When the last one was; null while the run is in progress."]
    ended_because: Annotated[str | None, "Why the run ended; likewise."]
    connections: Annotated[int, "Connections that were made."]
    dropped: Annotated[int, "Due frames that were not analyzed because newer ones had arrived."]
    repeated: Annotated[int, "Frames that were received twice."]
    gaps: Annotated[int, "Gaps."]
    gaps_s: Annotated[float, "Their total length in seconds."]
    last_gaps: Annotated[list[LiveGap], "The last of them."]
    parts: Annotated[str, "Key of the segments of an unfinished run."]


class ModelFacts(TypedDict):
    """A model. Descriptions of models of your own may have further keys."""

    name: Annotated[str, "Its name."]
    role: NotRequired[Annotated[str, "detector, gender, age, gender and age, or embedding."]]
    sha256: NotRequired[Annotated[str | None, "Hash of its file."]]
    files: NotRequired[Annotated[list[str], "Names of its files."]]
    license: NotRequired[Annotated[str, "Its license."]]
    commercial_use: NotRequired[Annotated[bool | None, "Whether that allows commercial use; null: unclear."]]
    engine: NotRequired[Annotated[str, "Inference engine, its version, device and arithmetic."]]


class Calibrated(TypedDict):
    """The calibration."""

    key: NotRequired[Annotated[str | None, "Key of the set of models it was fitted for; null: none was."]]
    fitted_on: Annotated[str | None, "Faces on which it was fitted."]
    measured: NotRequired[Annotated[bool, "Whether the error rates of the models were measured."]]
    license: NotRequired[Annotated[str, "License of those faces."]]
    commercial_use: NotRequired[Annotated[bool | None, "Whether that allows commercial use; null: unclear."]]


class AnnotatedFacts(TypedDict):
    """The annotated video, or the folder of annotated images."""

    file: Annotated[str | None, "Its name; null if it is missing."]
    error: NotRequired[Annotated[str, "Why it is missing."]]
    frames: NotRequired[Annotated[int, "Its frames."]]
    images: NotRequired[Annotated[int, "Annotated images."]]
    width: NotRequired[Annotated[int, "Its width in pixels."]]
    height: NotRequired[Annotated[int, "Its height in pixels."]]
    audio: NotRequired[Annotated[str | None, "How its sound was made."]]
    settings_hash: NotRequired[Annotated[str | None, "As above, while it is missing."]]
    models_hash: NotRequired[Annotated[str | None, "Likewise."]]


class Spread(TypedDict):
    """A duration of all watchers, in seconds; null where it is not known."""

    total: Annotated[float | None, "Sum."]
    mean: Annotated[float | None, "Mean."]
    median: Annotated[float | None, "Median."]


class AudienceFacts(TypedDict):
    """Figures of an audience, and the settings they depend on (docs/audience.md)."""

    attention_yaw_deg: Annotated[float, "Setting."]
    attention_pitch_deg: Annotated[float, "Setting."]
    attention_min_s: Annotated[float, "Setting."]
    left_after_s: Annotated[float, "Setting."]
    ots: Annotated[int, "Opportunities to see: people."]
    attention_unknown: Annotated[int, "People whose gaze is not known."]
    watchers: Annotated[int | None, "People who faced the camera."]
    conversion_ratio: Annotated[float | None, "Watchers as a share of the people whose gaze is known."]
    attention_s: Annotated[Spread, "How long watchers faced the camera."]
    dwell_s: Annotated[Spread, "How long watchers stayed."]
    attraction_ratio: Annotated[float | None, "Attention as a share of dwell."]


class RunInfo(TypedDict):
    """``run.json``: what was analyzed, how, and with what result."""

    schema_version: Annotated[int, "Version of the tables and of this document."]
    analyzer_version: Annotated[str, "Version of the program."]
    video_id: Annotated[str, "Stable name of the video."]
    title: Annotated[str, "Title of the video."]
    source: Annotated[str, "Source as the user named it, without passwords."]
    url: Annotated[str | None, "Address of the video's page."]
    channel: Annotated[str | None, "Channel that published it."]
    uploaded: Annotated[str | None, "Day of the upload (ISO)."]
    uploaded_at: Annotated[str | None, "Time of the upload (ISO, UTC)."]
    recorded_at: Annotated[str | None, "Time of the recording, from the file (ISO)."]
    kind: Annotated[Literal["video", "images", "live"], "What was analyzed."]
    complete: Annotated[bool, "Whether all of it was read."]
    incomplete_reason: Annotated[str | None, "Why not; empty if it was."]
    counts: Annotated[Counts, "Counts."]
    notes: Annotated[list[str], "What to know about the numbers, the most important first."]
    note_reasons: NotRequired[Annotated[list[str], "What each of the notes is about, as a word."]]
    shares_text: Annotated[str | None, "The estimated shares in a sentence; empty if none are stated."]
    analyzed_at: Annotated[str, "When it was analyzed (ISO, UTC)."]
    video: Annotated[VideoFacts, "The video."]
    live: Annotated[LiveFacts | None, "The live source; else null."]
    download: Annotated[list[str] | None, "Names of the downloaded files that were kept."]
    source_details: Annotated[dict[str, Any], "Further facts of the source; they depend on its kind."]
    reading: Annotated[ReadingFacts, "How reading went."]
    preset: Annotated[str | None, "Preset that the settings match; null for none."]
    settings: Annotated[dict[str, Any], "All settings that have an effect."]
    models: Annotated[list[ModelFacts], "The models."]
    calibration: Annotated[Calibrated, "The calibration."]
    libraries: Annotated[dict[str, str], "Versions of the libraries."]
    python: Annotated[str, "Version of Python."]
    platform: Annotated[str, "Operating system and processor."]
    settings_hash: NotRequired[
        Annotated[str | None, "Hash of the settings that change results; null while the video is drawn."]
    ]
    models_hash: NotRequired[Annotated[str | None, "Hash of the models; likewise."]]
    budget: NotRequired[Annotated[str | None, "The sampling that --budget chose, in a sentence."]]
    annotated: NotRequired[Annotated[AnnotatedFacts | None, "The annotated video; null if not wanted."]]
    corrections: NotRequired[
        Annotated[CorrectionFacts | None, "Corrections by hand (docs/corrections.md); null without any."]
    ]
    resumed_segments: NotRequired[Annotated[int, "Segments taken over from an interrupted analysis."]]
    timings_s: NotRequired[Annotated[dict[str, float], "Wall-clock time of the steps, in seconds."]]
    stages_s: NotRequired[
        Annotated[dict[str, float], "Time of the stages, which overlap, over all threads, in seconds."]
    ]
    audience: NotRequired[Annotated[AudienceFacts, "Only with `--scene audience`."]]


class UnusableRunError(OutputError):
    """A folder holds no finished run, or one whose ``run.json`` cannot be used.

    Attributes:
        reason: What is wrong with the folder, as a phrase that follows its name.
    """

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(f"{folder} {reason}")
        self.folder = folder
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.folder, self.reason)


def read_run_info(folder: Path) -> RunInfo:
    """Read and check the ``run.json`` of a folder; names of older versions become those of today.

    `schema_version` stays that of the version that wrote it. Documents of older versions may lack keys.

    Raises:
        UnusableRunError: It is missing, cannot be read, is damaged, or was written by another program or a
            newer version.
    """
    try:
        document = json.loads((folder / "run.json").read_bytes())
    except FileNotFoundError as error:
        reason = "holds no finished run: analyze the video again" if folder.exists() else "does not exist"
        raise UnusableRunError(folder, reason) from error
    except OSError as error:
        reason = f"has a run.json that cannot be read ({error.strerror or error})"
        raise UnusableRunError(folder, reason) from error
    except (ValueError, RecursionError) as error:
        raise UnusableRunError(folder, "has a damaged run.json: analyze the video again") from error
    version = document.get("schema_version") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(version, int) or isinstance(version, bool):
        raise UnusableRunError(folder, "has a run.json of another program")
    if version > SCHEMA_VERSION:
        raise UnusableRunError(folder, "was written by a newer version: update the program")
    older = version < SCHEMA_VERSION
    try:
        info = conform(
            _ABSENT | _renamed(document) if older else document, RunInfo, "", Limits(missing_keys=older)
        )
        if "counts" not in info:
            raise InvalidValueError("the key counts is missing")
    except InvalidValueError as error:
        raise UnusableRunError(
            folder, f"has a damaged run.json ({error}): analyze the video again"
        ) from error
    return cast(RunInfo, info)


_ABSENT: dict[str, Any] = {
    **dict.fromkeys(("url", "channel", "uploaded", "uploaded_at", "recorded_at", "incomplete_reason")),
    **dict.fromkeys(("shares_text", "live", "download", "preset")),
    **dict.fromkeys(("analyzer_version", "title", "source", "analyzed_at", "python", "platform"), ""),
    **{key: {} for key in ("video", "source_details", "reading", "settings", "libraries", "calibration")},
    "kind": "video",
    "notes": [],
    "models": [],
}
"""Of documents of older versions: what their missing keys stand for."""


def _renamed(document: dict[str, Any]) -> dict[str, Any]:
    """A document of version 5 or older with the names of today."""
    document = _with_names(document, _FORMER_KEYS)
    for name, former in (("counts", _FORMER_COUNTS), ("settings", _FORMER_SETTINGS)):
        if isinstance(document.get(name), dict):
            document[name] = _with_names(document[name], former)
    if isinstance(document.get("annotated"), dict):
        document["annotated"] = _with_names(document["annotated"], {"images": "pictures"})
    if isinstance(document.get("models"), list):
        document["models"] = [
            _with_names(model, {"license": "licence"}) if isinstance(model, dict) else model
            for model in document["models"]
        ]
    return document


def _with_names(values: Mapping[str, Any], former: Mapping[str, str]) -> dict[str, Any]:
    today = {old: new for new, old in former.items()}
    return {today.get(key, key): value for key, value in values.items()}
