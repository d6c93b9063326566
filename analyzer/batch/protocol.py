"""What the batch and the processes that analyze for it say to each other: typed messages, checked both ways.

Every message names its job, so that one that arrives late cannot be taken for another job's; no message ends
a worker, only the end of the pipe does. They travel as JSON. What comes from a process that decodes untrusted
files is believed only if it has exactly the form below: all else is a `ProtocolError`, which costs the job
and nothing else.

::

    batch -> worker    JobSpec, Cancel
    worker -> batch    Ready, Opened, Segment, Progress, Rendering,
                       and last one of Done, Failed, Rejected, Stopped
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from analyzer.batch.failure_policy import ANALYSIS_KINDS, Phase
from analyzer.settings import Settings
from analyzer.sources.types import MediaKind, Video

__all__ = [
    "Cancel",
    "Done",
    "Failed",
    "JobEvent",
    "JobSpec",
    "Opened",
    "Order",
    "Progress",
    "ProtocolError",
    "Ready",
    "Rejected",
    "Rendering",
    "RunFacts",
    "Segment",
    "Stopped",
    "decode_event",
    "decode_order",
    "encode",
    "matching_run",
    "video_document",
    "video_of",
]

_LONGEST_TEXT = 10_000
"""Longer texts are cut: the ledger and the log are to stay small."""
_LARGEST = 2**53
"""No number is larger: all that is counted here fits, and SQLite can hold it."""
_COUNTED = ("people", "female", "male", "faces", "samples", "analyzed_s")
"""The counts of a run that the batch adds up and logs."""


class ProtocolError(ValueError):
    """A message that has not the form it must have."""


# -- what the batch says


@dataclass(frozen=True)
class JobSpec:
    """A video to be analyzed: all that a worker needs to know."""

    job_id: int
    """No two jobs have the same, not even two attempts at one video."""
    video: Video
    settings: Settings
    out: Path
    """Folder in which the run's folder is made."""
    settings_hash: str
    models_hash: str
    report: tuple[str, ...] = ()
    """Formats of the report."""
    cpu_s: float | None = None
    """The most processor time it may take."""
    fetch_s: float = 0.0
    """How long the download took."""
    shorter_than_s: float | None = None
    """It is left out if it turns out, once open, to be at least so long."""
    longer_than_s: float | None = None
    """Likewise, if it is at most so long."""

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)} | {
            "video": video_document(self.video),
            "settings": self.settings.to_dict(),
            "out": str(self.out),
            "report": list(self.report),
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Self:
        """What `to_json` has given.

        Raises:
            ProtocolError: It is something else.
        """
        try:
            known = document | {
                "video": video_of(document["video"]),
                "settings": Settings(**document["settings"]),
                "out": Path(document["out"]),
                "report": tuple(document["report"]),
            }
            return cls(**known)
        except (KeyError, TypeError, ValueError) as error:
            raise ProtocolError(f"no job: {error!r}") from error


@dataclass(frozen=True)
class Cancel:
    """A job is to end after the segment in work; if it has ended already, nothing happens."""

    job_id: int


# -- what a worker says


@dataclass(frozen=True)
class Ready:
    """The networks are loaded; from now on what goes wrong is the video's."""

    job_id: int


@dataclass(frozen=True)
class Opened:
    """The video is open."""

    job_id: int
    parts_key: str
    """Names the job's own segments in the run's folder."""
    kept: tuple[int, ...]
    """Segments that lie finished on the disk."""
    expected: int | None
    """How many there will be, as far as the container says."""
    duration_s: float | None

    def __post_init__(self) -> None:
        # It becomes part of paths that are removed.
        if not (self.parts_key.isascii() and self.parts_key.isalnum()):
            raise ProtocolError("the key of the segments is none")


@dataclass(frozen=True)
class Segment:
    """A segment is finished and lies on the disk."""

    job_id: int
    segment: int
    samples: int
    faces: int
    size_bytes: int


@dataclass(frozen=True)
class Progress:
    """Samples up to `time_s` of `duration_s` (None: unknown) are analyzed."""

    job_id: int
    time_s: float
    duration_s: float | None


@dataclass(frozen=True)
class Rendering:
    """This share of the annotated video is written."""

    job_id: int
    share: float


@dataclass(frozen=True)
class RunFacts:
    """What the ledger notes of a finished run."""

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
        """What a ``run.json`` says.

        Raises:
            ProtocolError: It does not.
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
        """What the ledger keeps, as ``run.json`` has it."""
        known = dataclasses.asdict(self)
        return known | {"video": {"duration_s": known.pop("duration_s")}}


@dataclass(frozen=True)
class Done:
    """The run is published."""

    job_id: int
    run: str
    """Name of its folder."""
    facts: RunFacts
    analysis_s: float
    report_error: str | None
    """Why the report could not be written, which is no reason to analyze again."""
    resident_mb: float | None

    def __post_init__(self) -> None:
        if Path(self.run).name != self.run or not self.run.endswith(self.facts.video_id):
            raise ProtocolError("the run's folder is not that of the video")


@dataclass(frozen=True)
class Failed:
    """It could not be analyzed."""

    job_id: int
    kind: str
    """Of `analyzer.batch.failure_policy.ANALYSIS_KINDS`."""
    phase: Phase
    error: str
    """One sentence."""

    def __post_init__(self) -> None:
        if self.kind not in ANALYSIS_KINDS or self.phase is Phase.FETCH:
            raise ProtocolError(f"{self.kind} is no failure of an analysis")


@dataclass(frozen=True)
class Rejected:
    """Once open, the video turned out to be one that is not wanted; nothing of it was analyzed."""

    job_id: int
    reason: str
    duration_s: float
    """How long it is; no other length is refused."""


@dataclass(frozen=True)
class Stopped:
    """It was cancelled; its finished segments are kept."""

    job_id: int


JobEvent = Ready | Opened | Segment | Progress | Rendering | Done | Failed | Rejected | Stopped
FINAL = Done | Failed | Rejected | Stopped
"""The last word of a job is one of these."""
Order = JobSpec | Cancel

_EVENTS = {kind.__name__.lower(): kind for kind in typing.get_args(JobEvent)}
_ORDERS = {kind.__name__.lower(): kind for kind in typing.get_args(Order)}


def encode(message: JobEvent | Order) -> bytes:
    """A message as it travels."""
    facts = message.to_json() if isinstance(message, JobSpec) else dataclasses.asdict(message)
    return json.dumps({"what": type(message).__name__.lower()} | facts).encode("ascii")


def decode_event(raw: bytes, spec: JobSpec) -> JobEvent:
    """What a worker says of a job.

    Raises:
        ProtocolError: It has not the form that it must have, or is about another job or video.
    """
    event: JobEvent = _decode(raw, _EVENTS)
    if event.job_id != spec.job_id:
        raise ProtocolError(f"job {event.job_id} is not in work here")
    if isinstance(event, Done) and event.facts.video_id != spec.video.video_id:
        raise ProtocolError("the run is not that of the video")
    return event


def decode_order(raw: bytes) -> Order:
    """What the batch says.

    Raises:
        ProtocolError: It is no order.
    """
    order: Order = _decode(raw, _ORDERS)
    return order


def _decode(raw: bytes, kinds: dict[str, Any]) -> Any:
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("no JSON") from error
    if not isinstance(document, dict):
        raise ProtocolError("no message")
    kind = kinds.get(str(document.pop("what", None)))
    if kind is None:
        raise ProtocolError("no such message")
    if kind is JobSpec:
        return JobSpec.from_json(document)
    return _checked(kind, document, str(kind.__name__))


def _checked(kind: Any, value: Any, place: str) -> Any:
    """A JSON value as this type; numbers are finite and not negative, texts can be written to any file.

    Raises:
        ProtocolError: It is of another one.
    """
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        (other,) = (each for each in typing.get_args(kind) if each is not type(None))
        return None if value is None else _checked(other, value, place)
    if typing.get_origin(kind) is tuple and isinstance(value, list | tuple):
        return tuple(_checked(typing.get_args(kind)[0], each, place) for each in value)
    if typing.get_origin(kind) is dict and isinstance(value, dict):
        return value
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        hints = typing.get_type_hints(kind)
        if value.keys() != hints.keys():
            odd = min(map(str, value.keys() ^ hints.keys()))
            raise ProtocolError(f"{place}: {odd} is missing or unknown")
        made: Any = kind
        return made(**{name: _checked(hints[name], each, f"{place}.{name}") for name, each in value.items()})
    match value:
        case bool() if kind is bool:
            return value
        case bool():
            pass
        case int() if kind is int and 0 <= value <= _LARGEST:
            return value
        case int() | float() if kind is float and 0 <= value <= _LARGEST:
            return float(value)
        case str() if kind is str:  # half a character cannot be stored
            return value[:_LONGEST_TEXT].encode("utf-8", "replace").decode()
        case str() if isinstance(kind, type) and issubclass(kind, StrEnum) and value in list(kind):
            return kind(value)
    raise ProtocolError(f"{place} has a wrong value")


# -- what is told of


def video_document(video: Video) -> dict[str, Any]:
    """A video as JSON values."""
    return dataclasses.asdict(video) | {
        "kind": str(video.kind),
        "paths": [str(path) for path in video.paths],
        "audio_path": None if video.audio_path is None else str(video.audio_path),
    }


def video_of(document: dict[str, Any]) -> Video:
    """The video that `video_document` was given.

    Raises:
        KeyError, TypeError, ValueError: It was given none.
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
    """What ``run.json`` of a folder says, if it is the run of this very work; else None."""
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
