"""What an analysis reports while it works: one vocabulary for `analyze`, batch runs and live sources.

Each event is a frozen dataclass of plain values and carries the `job_id` of the video it is about. Events go
to JSON and back, for a log, a queue or a web page::

    >>> event = Progress("7", "talk", 12.0, 60.0, samples=60, faces=118)
    >>> event.to_json()["event"], from_json(event.to_json()) == event
    ('progress', True)

Titles and sources are untrusted raw text. Importing this module needs the standard library alone.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from analyzer.util.validation import conform

if TYPE_CHECKING:  # opening a run imports pandas, which listening to events does not need
    from analyzer.runs.run import Run

__all__ = [
    "Downloading",
    "Event",
    "Failed",
    "FilesSkipped",
    "Finished",
    "LiveProgress",
    "LiveStarted",
    "OnEvent",
    "Opened",
    "Progress",
    "Rendering",
    "ReportsRemoved",
    "SamplingChosen",
    "SegmentCommitted",
    "Started",
    "VisibleFace",
    "from_json",
    "ignore",
]


@dataclass(frozen=True)
class _Event:
    job_id: str
    """Identifies the video within the call; the same in all its events. Empty in `FilesSkipped`, which is
    about a source before its videos are known."""

    name: ClassVar[str]
    """The type tag in JSON: the name of the class in snake case."""

    def __init_subclass__(cls) -> None:
        cls.name = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    def to_json(self) -> dict[str, Any]:
        """The event as JSON values: its `name` under ``event``, then its fields."""
        return {"event": self.name} | _plain(self)


@dataclass(frozen=True)
class FilesSkipped(_Event):
    """A folder contains more than what is analyzed of it."""

    source: str
    images: int
    """How many images lie beside the videos; `Settings.images` includes them."""
    subfolders: bool
    """Whether its subfolders contain videos or images; `Settings.recursive` includes them."""


@dataclass(frozen=True)
class Started(_Event):
    """Work on a video begins."""

    source: str


@dataclass(frozen=True)
class Downloading(_Event):
    """A download makes progress."""

    source: str
    received_bytes: int
    total_bytes: int | None
    """As declared by the server, or estimated; None: unknown."""


@dataclass(frozen=True)
class SamplingChosen(_Event):
    """A sampling rate was chosen to fit `Settings.budget`."""

    title: str
    choice: str
    """The choice in words."""
    fits: bool
    """Whether the analysis should finish within the budget."""


@dataclass(frozen=True)
class Opened(_Event):
    """The video is open and its analysis begins."""

    title: str
    duration_s: float | None
    """Length of the video in seconds, as far as the container declares it."""
    segments: int | None
    """How many segments there will be, likewise."""
    completed: tuple[int, ...]
    """Numbers of the segments that an earlier, interrupted analysis committed."""
    segments_key: str
    """The names of this job's segments on disk begin with it."""
    resumes_at_s: float | None = None
    """Where in the video the first missing segment begins; None: none is completed."""
    images: bool = False
    """Whether these are images, each a segment and one second."""


@dataclass(frozen=True)
class SegmentCommitted(_Event):
    """A segment is finished and saved on disk."""

    title: str
    segment: int
    samples: int
    faces: int
    size_bytes: int


@dataclass(frozen=True)
class Progress(_Event):
    """A sample has been analyzed."""

    title: str
    time_s: float
    """Seconds of video analyzed so far."""
    duration_s: float | None
    """Seconds of video to analyze; None: unknown."""
    samples: int
    faces: int
    images: bool = False
    """Whether these are images, one a second in `time_s` and `duration_s`."""


@dataclass(frozen=True)
class Rendering(_Event):
    """The annotated video is being written."""

    title: str
    fraction: float
    """How much of it is written, 0 to 1."""


@dataclass(frozen=True)
class ReportsRemoved(_Event):
    """A run has replaced an earlier one, whose reports described other figures and were removed."""

    title: str
    folder: str
    """The run's folder."""
    files: tuple[str, ...]
    """Names in that folder."""


@dataclass(frozen=True)
class Finished(_Event):
    """A video is analyzed and its run is published."""

    title: str
    folder: str
    """The run's folder."""
    complete: bool
    """Whether the whole video was read."""
    unchanged: bool = False
    """Whether this very analysis had been done before, so that nothing was done now."""

    @functools.cached_property
    def run(self) -> Run:
        """The run, opened on first use.

        Raises:
            OutputError: The folder no longer contains a finished run.
        """
        import analyzer

        return analyzer.Run.load(self.folder)


@dataclass(frozen=True)
class Failed(_Event):
    """A video could not be analyzed; the others continue."""

    source: str
    message: str
    """One sentence: what was wrong and what to do."""
    error: str
    """Name of the exception's class in `analyzer.errors`."""
    kind: str | None = None
    """`SourceErrorKind` or `MediaErrorKind`, where the error has one."""
    retry: bool = False
    """Whether trying again later can help."""
    folder: str | None = None
    """The run folder with complete tables, where only what comes after them failed."""


@dataclass(frozen=True)
class VisibleFace:
    """A face in the latest sample of a live source, with estimates so far."""

    person_id: int
    """Provisional: the people table numbers people anew."""
    gender: str
    """``female``, ``male`` or ``unknown``."""
    age_years: float | None
    """None: not estimated yet."""


@dataclass(frozen=True)
class LiveStarted(_Event):
    """The analysis of a live source begins."""

    title: str
    stop_s: float | None
    """When it ends by itself, in seconds; None: when the source ends."""
    without_video: bool
    """Whether an annotated video was asked for; live sources have none."""


@dataclass(frozen=True)
class LiveProgress(_Event):
    """A sample of a live source has been analyzed, or nothing has arrived for a while."""

    title: str
    time_s: float
    """Seconds since the first frame."""
    samples: int
    faces: int
    people: int
    """As of the last publication."""
    dropped: int
    """Samples that newer ones replaced before they were analyzed."""
    gaps: int
    connected: bool
    """Whether frames arrive."""
    visible: tuple[VisibleFace, ...] = ()
    """The faces in the latest sample."""


Event = (
    (FilesSkipped | Started | Downloading | SamplingChosen | Opened | SegmentCommitted | Progress)
    | (Rendering | ReportsRemoved | Finished | Failed)
    | (LiveStarted | LiveProgress)
)
OnEvent = Callable[[Event], None]

_KINDS: dict[str, type[Any]] = {kind.name: kind for kind in typing.get_args(Event)}


def ignore(event: Event) -> None:
    """Do nothing with an event."""
    del event


def from_json(document: Any) -> Event:
    """The event that `to_json` was called on.

    Raises:
        ValueError: The document is not an event; the message says why.

    >>> from_json({"event": "rendering", "job_id": "7", "title": "talk", "fraction": "half"})
    Traceback (most recent call last):
    analyzer.util.validation.InvalidValueError: rendering.fraction must be a number, not 'half'
    """
    if not isinstance(document, dict):
        raise ValueError(f"an event must be a JSON object, not {type(document).__name__}")
    values = dict(document)
    tag = values.pop("event", None)
    kind = _KINDS.get(tag) if isinstance(tag, str) else None
    if kind is None:
        raise ValueError(f"there is no event {tag!r}: known are {', '.join(_KINDS)}")
    event: Event = conform(values, kind, kind.name)
    return event


def _plain(value: Any) -> Any:
    """JSON values; only the fields of dataclasses, not what they have cached."""
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return [_plain(one) for one in value] if isinstance(value, tuple) else value
