"""Messages between the batch and its workers: typed, validated in both directions, sent as JSON.

Each message has the id of its job, so that a late one cannot be mistaken for another job's. No message ends a
worker; closing the pipe does. A worker decodes untrusted files, so its messages are untrusted too: one that
does not have exactly the form below raises a `ProtocolError`, which fails that job and no other.

::

    batch -> worker       JobSpec, Cancel
    worker -> batch       Ready, Opened, Segment, Progress, Rendering, Logged,
                          and last one of Done, SegmentsDone, Failed, Rejected, Stopped
    executor -> batch     Placed, Moved, and perhaps last SourceLost: of executors on several machines
"""

from __future__ import annotations

import dataclasses
import json
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from analyzer.batch.failure_policy import ANALYSIS_KINDS, Phase
from analyzer.settings import Settings
from analyzer.sources.types import MediaKind, Video
from analyzer.util.validation import InvalidValueError, Limits, conform

__all__ = [
    "Cancel",
    "Command",
    "Done",
    "Failed",
    "JobEvent",
    "JobSpec",
    "Logged",
    "Moved",
    "Opened",
    "Placed",
    "Progress",
    "ProtocolError",
    "Ready",
    "Rejected",
    "Rendering",
    "Resources",
    "RunFacts",
    "Segment",
    "SegmentsDone",
    "SourceLost",
    "Stopped",
    "check_parts_key",
    "decode_command",
    "decode_event",
    "encode",
    "matching_run",
    "video_document",
    "video_of",
]

_LONGEST_TEXT = 10_000
"""Longer texts are truncated, to keep the ledger and the log small."""
_LARGEST = 2**53
"""The largest number: every count fits, and SQLite can store it."""
_LIMITS = Limits(low=0, high=_LARGEST, longest_text=_LONGEST_TEXT)
_COUNTED = ("people", "female", "male", "faces", "samples", "analyzed_s")
"""The counts of a run that the batch adds up and logs."""


class ProtocolError(ValueError):
    """A message does not have the required form."""


# -- from the batch to a worker


@dataclass(frozen=True)
class Resources:
    """What a job may use. An executor enforces the limits that it can; None: no limit."""

    workers: int = 0
    """Processes that read the video side by side; 0: as in the settings."""
    threads: int = 0
    """Processor threads, over all processes; 0: as in the settings."""
    memory_mb: int | None = None
    """Memory of the analyzing process, in MB."""
    cpu_s: float | None = None
    """Processor time, in seconds."""
    wall_s: float | None = None
    """Time by the clock since the models were loaded, in seconds."""
    stall_s: float | None = None
    """Time without any message, in seconds."""

    def applied_to(self, settings: Settings) -> Settings:
        """The settings with this number of processes and threads."""
        return settings.replace(
            workers=self.workers or settings.workers, threads=self.threads or settings.threads
        )


@dataclass(frozen=True)
class JobSpec:
    """A video to analyze, with everything a worker needs to know."""

    job_id: int
    """Unique; two attempts at one video are two jobs."""
    video: Video
    settings: Settings
    out: Path
    """Folder in which the run's folder is made."""
    settings_hash: str
    models_hash: str
    report: tuple[str, ...] = ()
    """Formats of the report."""
    resources: Resources = Resources()
    fetch_s: float = 0.0
    """How long the download took, in seconds."""
    shorter_than_s: float | None = None
    """The job is rejected if the opened video is at least this long, in seconds."""
    longer_than_s: float | None = None
    """The job is rejected if the opened video is at most this long, in seconds."""
    segments: tuple[int, int] | None = None
    """Analyze only these segments, from the first to before the second, and publish nothing; (0, 0): open the
    video, no more. None: the whole video."""

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)} | {
            "video": video_document(self.video),
            "settings": self.settings.to_dict(),
            "out": str(self.out),
            "report": list(self.report),
            "resources": dataclasses.asdict(self.resources),
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Self:
        """The inverse of `to_json`.

        Raises:
            ProtocolError: The document does not come from `to_json`.
        """
        hints = typing.get_type_hints(cls)
        try:
            made = {
                "video": video_of(document["video"]),
                "settings": Settings(**document["settings"]),
                "out": Path(document["out"]),
            }
            plain = {name: _checked(hints[name], document[name], name) for name in hints.keys() - made.keys()}
            return cls(**document | made | plain)
        except (KeyError, TypeError, ValueError) as error:
            raise ProtocolError(f"not a job: {error!r}") from error


@dataclass(frozen=True)
class Cancel:
    """The job must end now; nothing happens if it has ended already."""

    job_id: int


# -- from a worker to the batch


@dataclass(frozen=True)
class Ready:
    """The models are loaded; failures from now on are the video's."""

    job_id: int


@dataclass(frozen=True)
class Opened:
    """The video is open."""

    job_id: int
    parts_key: str
    """Prefix of the names of the job's segments in the run's folder."""
    completed: tuple[int, ...]
    """Segments that were finished earlier and are on the disk."""
    expected: int | None
    """Number of segments, as far as the container declares."""
    duration_s: float | None

    def __post_init__(self) -> None:
        check_parts_key(self.parts_key)


@dataclass(frozen=True)
class Segment:
    """A segment is finished and on the disk."""

    job_id: int
    segment: int
    samples: int
    faces: int
    size_bytes: int


@dataclass(frozen=True)
class Progress:
    """The samples up to `time_s` of `duration_s` (None: unknown) are analyzed."""

    job_id: int
    time_s: float
    duration_s: float | None
    cpu_s: float = 0.0
    """Processor time that the worker has spent on the job, in seconds."""


@dataclass(frozen=True)
class Rendering:
    """A share of the annotated video is written."""

    job_id: int
    share: float
    """From 0 to 1."""


@dataclass(frozen=True)
class Logged:
    """A worker has logged a warning or an error."""

    job_id: int
    level: str
    """Name of the level, such as ``WARNING``."""
    logger: str
    message: str
    node: str = ""
    """Name of the worker's machine, where an executor has several; its workers leave it empty."""


@dataclass(frozen=True)
class Placed:
    """A machine works on the job, or on segments of it, from now on."""

    job_id: int
    node: str
    """Name of the machine."""
    segments: tuple[int, int] | None = None
    """As in `JobSpec`."""


@dataclass(frozen=True)
class Moved:
    """The machine that worked on the job was lost; the job goes on elsewhere, from its finished segments."""

    job_id: int
    node: str
    """Name of the machine that was lost."""
    reason: str
    """One sentence."""


@dataclass(frozen=True)
class RunFacts:
    """What the ledger stores about a finished run."""

    video_id: str
    title: str | None
    channel: str | None
    uploaded: str | None
    complete: bool
    incomplete_reason: str | None
    video_error: str | None
    """Why the annotated video that was asked for is missing."""
    duration_s: float | None
    counts: dict[str, Any]
    """As in ``run.json``."""

    def __post_init__(self) -> None:
        for name in _COUNTED:
            _checked(float if name.endswith("_s") else int, self.counts.get(name), f"counts.{name}")

    @classmethod
    def of(cls, info: dict[str, Any]) -> Self:
        """From the content of a ``run.json``.

        Raises:
            ProtocolError: A value is missing or has the wrong type.
        """
        video, annotated = info.get("video"), info.get("annotated")
        known = {
            "duration_s": video.get("duration_s") if isinstance(video, dict) else None,
            "video_error": annotated.get("error") if isinstance(annotated, dict) else None,
        }
        for field in dataclasses.fields(cls):
            known.setdefault(field.name, info.get(field.name))
        return typing.cast(Self, _checked(cls, known, "run.json"))

    def document(self) -> dict[str, Any]:
        """As the ledger stores it, with the names of ``run.json``."""
        known = dataclasses.asdict(self)
        return known | {"video": {"duration_s": known.pop("duration_s")}}


@dataclass(frozen=True)
class Done:
    """The run is published."""

    job_id: int
    run: str
    """Name of the run's folder."""
    facts: RunFacts
    analysis_s: float
    report_error: str | None
    """Why the report could not be written; the video is not analyzed again for that."""
    resident_mb: float | None
    """Memory that the worker holds, in MB; None: unknown."""

    def __post_init__(self) -> None:
        if Path(self.run).name != self.run or not self.run.endswith(self.facts.video_id):
            raise ProtocolError("the folder is not that of the video's run")


@dataclass(frozen=True)
class SegmentsDone:
    """The segments that `JobSpec.segments` asked for are finished and on the disk."""

    job_id: int
    cpu_s: float = 0.0
    """As in `Progress`."""


@dataclass(frozen=True)
class Failed:
    """The video could not be analyzed."""

    job_id: int
    kind: str
    """One of `analyzer.batch.failure_policy.ANALYSIS_KINDS`."""
    phase: Phase
    error: str
    """One sentence."""

    def __post_init__(self) -> None:
        if self.kind not in ANALYSIS_KINDS or self.phase is Phase.FETCH:
            raise ProtocolError(f"{self.kind} is not a failure of an analysis")


@dataclass(frozen=True)
class Rejected:
    """The opened video has a length that the job excludes; nothing of it was analyzed."""

    job_id: int
    reason: str
    duration_s: float


@dataclass(frozen=True)
class Stopped:
    """The job was canceled; its finished segments stay on the disk."""

    job_id: int


@dataclass(frozen=True)
class SourceLost:
    """The video was on a machine that was lost: it must be downloaded again. Finished segments stay."""

    job_id: int
    node: str
    """Name of the machine."""
    reason: str
    """One sentence."""


FINAL = Done | SegmentsDone | Failed | Rejected | Stopped | SourceLost
"""The last event of a job is one of these."""
JobEvent = Ready | Opened | Segment | Progress | Rendering | Logged | Placed | Moved | FINAL
Command = JobSpec | Cancel

_EVENTS = {kind.__name__.lower(): kind for kind in typing.get_args(JobEvent)}
_COMMANDS = {kind.__name__.lower(): kind for kind in typing.get_args(Command)}


def check_parts_key(key: str) -> str:
    """Return the key of a job's segments, which becomes part of paths that are removed.

    Raises:
        ProtocolError: It is not alphanumeric.
    """
    if not (key.isascii() and key.isalnum()):
        raise ProtocolError("the key of the segments is not alphanumeric")
    return key


def encode(message: JobEvent | Command) -> bytes:
    """A message as bytes."""
    facts = message.to_json() if isinstance(message, JobSpec) else dataclasses.asdict(message)
    return json.dumps({"type": type(message).__name__.lower()} | facts).encode("ascii")


def decode_event(raw: bytes, spec: JobSpec, *, cancelled: bool) -> JobEvent:
    """An event of a job.

    Args:
        raw: The message.
        spec: The job that runs there.
        cancelled: Whether the job was canceled: no other one may say that it was stopped.

    Raises:
        ProtocolError: It does not have the required form, or is about another job or video.
    """
    event: JobEvent = _decode(raw, _EVENTS)
    if event.job_id != spec.job_id:
        raise ProtocolError(f"job {event.job_id} does not run here")
    if isinstance(event, Done) and event.facts.video_id != spec.video.video_id:
        raise ProtocolError("the run is not of the job's video")
    if isinstance(event, Stopped) and not cancelled:
        raise ProtocolError("the job was not canceled")
    if isinstance(event, SourceLost):
        raise ProtocolError("a worker does not know what is downloaded")
    return event


def decode_command(raw: bytes) -> Command:
    """A message of the batch.

    Raises:
        ProtocolError: It does not have the required form.
    """
    command: Command = _decode(raw, _COMMANDS)
    return command


def _decode(raw: bytes, kinds: dict[str, Any]) -> Any:
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("not JSON") from error
    if not isinstance(document, dict):
        raise ProtocolError("not a message")
    kind = kinds.get(str(document.pop("type", None)))
    if kind is None:
        raise ProtocolError("unknown message")
    if kind is JobSpec:
        return JobSpec.from_json(document)
    return _checked(kind, document, str(kind.__name__))


def _checked(kind: Any, value: Any, place: str) -> Any:
    """A JSON value as a type; numbers are finite and not negative, text can be written to any file.

    Raises:
        ProtocolError: It is not of that type.
    """
    try:
        return conform(value, kind, place, _LIMITS)
    except InvalidValueError as error:
        raise ProtocolError(str(error)) from None


# -- videos and runs as JSON


def video_document(video: Video) -> dict[str, Any]:
    """A video as JSON values."""
    return dataclasses.asdict(video) | {
        "kind": str(video.kind),
        "paths": [str(path) for path in video.paths],
        "audio_path": None if video.audio_path is None else str(video.audio_path),
    }


def video_of(document: dict[str, Any]) -> Video:
    """The inverse of `video_document`.

    Raises:
        KeyError, TypeError, ValueError: The document does not come from `video_document`.
    """
    audio = document["audio_path"]
    return Video(
        **document
        | {
            "kind": MediaKind(document["kind"]),
            "paths": tuple(Path(path) for path in document["paths"]),
            "audio_path": None if audio is None else Path(audio),
        }
    )


def matching_run(folder: Path, video_id: str, settings_hash: str, models_hash: str) -> RunFacts | None:
    """The facts of the run in a folder, if it is of this video, settings and models; else None."""
    try:
        info = json.loads((folder / "run.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(info, dict):
        return None
    wanted = {"video_id": video_id, "settings_hash": settings_hash, "models_hash": models_hash}
    if any(info.get(name) != value for name, value in wanted.items()):
        return None
    try:
        return RunFacts.of(info)
    except ProtocolError:
        return None
