"""What the analysis tells while it works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analyzer.errors import AnalyzerError

if TYPE_CHECKING:  # tables take long to import, and who only listens needs none
    from analyzer.runs.run import Run
    from analyzer.runs.segments import Part
    from analyzer.sources.types import FetchProgress

__all__ = [
    "Analyzing",
    "Begun",
    "Budgeted",
    "Committed",
    "Event",
    "Failed",
    "Fetching",
    "Finished",
    "Following",
    "LeftOut",
    "LiveBegun",
    "OnEvent",
    "Rendering",
    "ReportsRemoved",
    "Started",
    "ignore",
]


@dataclass(frozen=True)
class Started:
    """A video's turn has come."""

    source: str


@dataclass(frozen=True)
class LeftOut:
    """A folder holds more than what is analyzed of it."""

    source: str
    images: int
    """Images that lie beside videos; `Settings.images` takes them, too."""
    subfolders: bool
    """Whether its subfolders hold videos or images; `Settings.recursive` takes them, too."""


@dataclass(frozen=True)
class Fetching:
    """A download goes on."""

    progress: FetchProgress


@dataclass(frozen=True)
class Budgeted:
    """A sampling that fits the budget was chosen; `choice` says so in words."""

    title: str
    choice: str
    fits: bool


@dataclass(frozen=True)
class Begun:
    """A video is open; these of its segments lie finished on the disk."""

    title: str
    kept: tuple[int, ...]
    expected: int | None
    """How many segments there will be, as far as the container says."""
    duration_s: float | None
    """Length of the video in seconds, likewise."""
    parts_key: str
    """Begins the names of this work's segments."""
    goes_on_s: float | None = None
    """Where in the video the first segment begins that is missing; None: none is kept."""
    images: bool = False
    """Whether these are images, each a segment and a second."""


@dataclass(frozen=True)
class Committed:
    """A segment is finished and lies on the disk."""

    title: str
    part: Part


@dataclass(frozen=True)
class Analyzing:
    """Samples are being analyzed, up to `time_s` of the `duration_s` (None: unknown) to be read."""

    title: str
    time_s: float
    duration_s: float | None
    samples: int
    faces: int
    images: bool = False
    """Whether these are images, one a second in `time_s` and `duration_s`."""


@dataclass(frozen=True)
class Rendering:
    """The annotated video is being written; `share` of it is done."""

    title: str
    share: float


@dataclass(frozen=True)
class ReportsRemoved:
    """A run has taken the place of an earlier one, whose reports were about other numbers."""

    title: str
    run: Run
    files: tuple[str, ...]
    """Names in the run's folder."""


@dataclass(frozen=True)
class Finished:
    """A video is done."""

    run: Run
    unchanged: bool = False
    """Whether it was done before, as the same analysis of the same video: nothing was done now."""


@dataclass(frozen=True)
class Failed:
    """A video could not be analyzed; the others go on."""

    source: str
    error: AnalyzerError


@dataclass(frozen=True)
class LiveBegun:
    """A live source is followed; `stop_s` is when that ends by itself, None: with the source."""

    title: str
    stop_s: float | None
    without_video: bool
    """An annotated video was asked for: there is none of live sources."""


@dataclass(frozen=True)
class Following:
    """A live source is being followed, for `time_s` seconds so far."""

    title: str
    time_s: float
    samples: int
    faces: int
    people: int
    """As of the last publishing."""
    dropped: int
    gaps: int
    connected: bool
    """Whether pictures come."""


_LiveEvent = LiveBegun | Following
Event = (
    (Started | LeftOut | Fetching | Budgeted | Begun | Committed | Analyzing | Rendering | ReportsRemoved)
    | (Finished | Failed)
    | _LiveEvent
)
OnEvent = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Tell nobody."""
    del event
