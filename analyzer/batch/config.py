"""The jobs of a batch: a jobs file (TOML) or sources with options, as validated frozen dataclasses.

::

    jobs = load_jobs(Path("jobs.toml"))                     # cron: batch jobs.toml
    jobs = jobs_of(["a.mp4", "channels.txt"], settings, out=Path("outputs"))
    for source in jobs.sources:
        source.filters.why_not(title=..., duration_s=..., uploaded=..., today=...)

docs/batch-example.toml explains all keys of the file. Only the jobs file and lists of sources are read here;
whether a source can be used turns out during the batch run, and affects that source alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import difflib
import math
import os
import re
import tomllib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from analyzer.errors import SettingsError
from analyzer.settings import (
    DEFAULT_OUT,
    DEFAULT_PRESET,
    PRESETS,
    REPORT_FORMATS,
    SAMPLING,
    Settings,
    options,
    sampling_ways,
)
from analyzer.util.durations import DAY_S, HOUR_S, MINUTE_S, duration_text, parse_duration, seconds_in
from analyzer.util.text import one_line
from analyzer.util.urls import redacted_text, web_address
from analyzer.util.validation import InvalidValueError, brief, number, one_of

__all__ = [
    "BOT_PAUSE_CAP_S",
    "EXECUTORS",
    "LEDGER_NAME",
    "LOG_NAME",
    "ExecutorChoice",
    "Filters",
    "Jobs",
    "Limits",
    "OnFailure",
    "Pace",
    "Retry",
    "Source",
    "jobs_of",
    "load_jobs",
]

LEDGER_NAME = "ledger.sqlite"
"""Default name of the ledger in `Jobs.out`."""
LOG_NAME = "batch.jsonl"
"""Default name of the log in `Jobs.out`."""
BOT_PAUSE_CAP_S = 24 * HOUR_S
"""Longest pause of a host after bot checks, in seconds."""
EXECUTORS = ("local", "ray")
"""Where videos are analyzed: on this machine, or on a Ray cluster."""
_DELIVERIES = ("auto", "shared", "send")
_FETCHERS = ("driver", "workers")
_MOST_WORKERS = 100_000
_LONGEST_S = 366 * DAY_S
_LONGEST_AGE_S = 100 * _LONGEST_S


def _day(text: str | None) -> datetime.date | None:
    """Return the day of an ISO date or time; None if it is neither."""
    if text is None or not re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?![0-9])", text):
        return None
    try:
        return datetime.date.fromisoformat(text[:10])
    except ValueError:
        return None


def _is_day(age: str) -> bool:
    return len(age) == 10 and _day(age) is not None


def _checked_age(value: object, name: str) -> str:
    """Return an age with its unit, or a day, as text.

    Raises:
        SettingsError: It is neither.
    """
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return value.isoformat()  # TOML has dates of its own
    text = value.strip() if isinstance(value, str) else ""
    if _is_day(text):
        return text
    # A bare number could be days or seconds.
    if not text[-1:].isalpha() or math.isnan(seconds_in(text)):
        raise SettingsError(
            f"{name} must be an age such as 30d or 12h, or a day such as 2026-11-24, not {brief(value)}"
        )
    with _as_settings_error():
        parse_duration(text, name, low=1.0, high=_LONGEST_AGE_S)
    return text


def _age_days(age: str) -> int:
    """Return an age in days, rounded up: sites give the day of an upload, but rarely the hour."""
    return math.ceil(seconds_in(age) / DAY_S)


def _from_day(age: str, today: datetime.date) -> datetime.date:
    """Return the first day that is not older than an age or day."""
    return _day(age) or today - datetime.timedelta(days=_age_days(age))


def _shown(text: str) -> str:
    """Shorten untrusted text for a message to one line, without the logins of addresses.

    >>> _shown("https://user:secret@example.org/a")
    'https://example.org/a'
    """
    return one_line(redacted_text(text), 100)


@contextlib.contextmanager
def _as_settings_error() -> Iterator[None]:
    try:
        yield
    except InvalidValueError as error:
        raise SettingsError(str(error)) from error


@contextlib.contextmanager
def _at(place: str) -> Iterator[None]:
    """Prefix errors with their place: the file, the table."""
    try:
        yield
    except SettingsError as error:
        raise SettingsError(f"{place}: {error}") from error


def _nearest(word: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    """Return a suggestion to append to an error; empty if nothing is similar."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f": did you mean {near[0]!r}?" if near else ""


def _within(default: Any, low: float, high: float) -> Any:
    """Define a field for a number between two bounds, both allowed.

    Fields named ``..._s`` are durations: text such as ``2h`` becomes seconds.
    """
    return field(default=default, metadata={"low": low, "high": high})


class _Checked:
    """Validates all fields that have bounds, on construction."""

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, each.name)
            if "low" not in each.metadata or (value is None and each.default is None):
                continue
            with _as_settings_error():
                object.__setattr__(self, each.name, self._check(each, value))

    def _check(self, each: dataclasses.Field[Any], value: Any) -> Any:
        low, high = each.metadata["low"], each.metadata["high"]
        name = each.name.removesuffix("_s")
        if each.name.endswith("_s"):
            if not isinstance(each.default, tuple):
                return parse_duration(value, name, low=low, high=high)
            both = tuple(value) if isinstance(value, list | tuple) else (value, value)
            if len(both) != 2:
                raise SettingsError(f"{name} must be a duration, or the shortest and the longest duration")
            return tuple(parse_duration(one, name, low=low, high=high) for one in both)
        return number(value, float if isinstance(each.default, float) else int, name, low, high)


@dataclass(frozen=True)
class Filters(_Checked):
    """Which videos of a source are wanted. All conditions must hold; None: no condition.

    Raises:
        SettingsError: On construction, if a value is wrong or two contradict each other.
    """

    newer_than: str | None = None
    """Uploaded within this time (``30d``, ``12h``, rounded up to days), or on this day (ISO) or later."""
    older_than: str | None = None
    """Uploaded before this time or day."""
    shorter_than_s: float | None = _within(None, 0.1, _LONGEST_S)
    """Shorter than this, in seconds."""
    longer_than_s: float | None = _within(None, 0.0, _LONGEST_S)
    """Longer than this, in seconds."""
    title: str | None = None
    """Regular expression that matches somewhere in the title, ignoring case."""
    not_title: str | None = None
    """Regular expression that matches nowhere in the title, ignoring case."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("newer_than", "older_than"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _checked_age(getattr(self, name), name))
        for name in ("title", "not_title"):
            _check_expression(getattr(self, name), name)
        if self._nothing_is_between():
            raise SettingsError(
                f"newer_than ({self.newer_than}) and older_than ({self.older_than}) exclude everything"
            )
        shortest, longest = self.longer_than_s, self.shorter_than_s
        if shortest is not None and longest is not None and longest <= shortest:
            raise SettingsError(
                f"shorter_than ({duration_text(longest)}) must be more than "
                f"longer_than ({duration_text(shortest)})"
            )

    def _nothing_is_between(self) -> bool:
        first, end = self.newer_than, self.older_than
        if first is None or end is None or _is_day(first) != _is_day(end):
            return False  # an age and a day may allow something tomorrow
        return end <= first if _is_day(first) else _age_days(first) <= _age_days(end)

    def why_not(
        self, *, title: str | None, duration_s: float | None, uploaded: str | None, today: datetime.date
    ) -> str | None:
        """Return why a video is not wanted; None if it passes, as far as is known.

        Unknown values (None, or invalid ones) never exclude a video.

        Args:
            title: The title.
            duration_s: The length, in seconds.
            uploaded: The day of the upload (ISO).
            today: The day from which ages are counted.
        """
        return self._wrong_length(duration_s) or self._wrong_title(title) or self._wrong_day(uploaded, today)

    def _wrong_length(self, duration_s: float | None) -> str | None:
        if duration_s is None or not 0 < duration_s < math.inf:
            return None
        for limit, wrong, words in (
            (self.shorter_than_s, 1, ("longer than", "not shorter than")),
            (self.longer_than_s, -1, ("shorter than", "not longer than")),
        ):
            if limit is not None and (duration_s - limit) * wrong >= 0:
                word = words[duration_s == limit]
                return f"{word} {duration_text(limit)} ({duration_text(duration_s)})"
        return None

    def _wrong_title(self, title: str | None) -> str | None:
        if title is None:
            return None
        if self.title is not None and not re.search(self.title, title, re.IGNORECASE):
            return f"the title does not match {brief(self.title)}"
        if self.not_title is not None and re.search(self.not_title, title, re.IGNORECASE):
            return f"the title matches {brief(self.not_title)}"
        return None

    def _wrong_day(self, uploaded: str | None, today: datetime.date) -> str | None:
        day = _day(uploaded)
        if day is None:
            return None
        if self.newer_than is not None and day < _from_day(self.newer_than, today):
            return f"older than {self.newer_than} (uploaded {day})"
        if self.older_than is not None and day >= _from_day(self.older_than, today):
            return f"newer than {self.older_than} (uploaded {day})"
        return None


def _check_expression(value: object, name: str) -> None:
    if value is None:
        return
    if not isinstance(value, str) or not value:
        raise SettingsError(f"{name} must be a regular expression, not {brief(value)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about expressions whose meaning may change
            re.compile(value, re.IGNORECASE)
    except (re.error, OverflowError, RecursionError) as error:
        raise SettingsError(
            f"{name} is not a regular expression: {brief(value)} ({_shown(str(error))})"
        ) from error


@dataclass(frozen=True)
class Source:
    """A source that each batch run lists, with its settings and filters."""

    name: str
    """Path or address; paths from a jobs file are absolute."""
    settings: Settings
    """Complete settings; `playlist` is True for channels and playlists."""
    folder: Path
    """Folder for its runs: `Jobs.out` or a folder in it."""
    filters: Filters = Filters()
    max_per_run: int | None = None
    """Analyze at most this many of its videos in a batch run; None: all."""
    tags: tuple[str, ...] = ()
    watched: bool = False
    """Whether files that are still being written are left for the next batch run."""
    media: Path | None = None
    """Folder to which a downloaded video is moved when its run is published; None: it is removed."""


@dataclass(frozen=True)
class Retry(_Checked):
    """When failed videos are tried again."""

    attempts: int = _within(5, 1, 100)
    """Attempts before a video is abandoned."""
    base_s: float = _within(MINUTE_S, 1.0, 7 * DAY_S)
    """Delay after the first failure, in seconds; it grows with each."""
    cap_s: float = _within(6 * HOUR_S, 1.0, 30 * DAY_S)
    """Longest delay, in seconds."""
    patience_s: float = _within(5 * MINUTE_S, 0.0, DAY_S)
    """How long a batch run waits at its end for retries that are due soon, in seconds."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cap_s < self.base_s:
            raise SettingsError(
                f"cap ({duration_text(self.cap_s)}) must not be less than base ({duration_text(self.base_s)})"
            )


@dataclass(frozen=True)
class Limits(_Checked):
    """What the analysis of one video may use before it is ended."""

    memory_mb: int = _within(4000, 500, 10_000_000)
    """Memory that each analyzing process may reserve, in MB. That is more than it uses: on two cores, 2,100
    reserved and 600 used for 1080p, 2,600 and 1,000 for 2160p; more with more cores."""
    cpu_s: float = _within(12 * HOUR_S, 1.0, _LONGEST_S)
    """Processor time, in seconds."""
    wall_s: float = _within(6 * HOUR_S, 1.0, _LONGEST_S)
    """Elapsed time, in seconds."""
    stall_s: float = _within(5 * MINUTE_S, 1.0, DAY_S)
    """Time without any progress, in seconds."""
    crashes: int = _within(3, 1, 100)
    """Crashes before a video is abandoned."""


@dataclass(frozen=True)
class Pace(_Checked):
    """How requests to sites are limited."""

    pause_s: tuple[float, float] = _within((5.0, 10.0), 0.0, HOUR_S)
    """Shortest and longest pause between two downloads from one host, in seconds."""
    per_host: int = _within(1, 1, 64)
    """Downloads from one host at the same time, of `Jobs.downloads`."""
    bot_pause_s: float = _within(HOUR_S, 1.0, BOT_PAUSE_CAP_S)
    """Pause of a host that suspects a bot, in seconds; doubled each time, at most `BOT_PAUSE_CAP_S`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        shortest, longest = self.pause_s
        if longest < shortest:
            raise SettingsError(
                f"pause must give the shortest duration first, not {duration_text(shortest)}, "
                f"{duration_text(longest)}"
            )


@dataclass(frozen=True)
class OnFailure:
    """Notifications of batch runs that did not go well.

    Raises:
        SettingsError: On construction, if a value is wrong.
    """

    command: tuple[str, ...] = ()
    """A program and its arguments, run without a shell. Empty: none."""
    webhook: str | None = None
    """An http or https address that receives a POST request."""

    def __post_init__(self) -> None:
        command: Any = self.command
        if not isinstance(command, list | tuple):
            raise SettingsError(
                f'command must be a list such as ["mail", "-s", "batch", "me"], not {brief(command)}'
            )
        if not all(isinstance(word, str) and "\0" not in word for word in command) or (
            command and not command[0]
        ):
            raise SettingsError(f"command must be a program and its arguments as text, not {brief(command)}")
        object.__setattr__(self, "command", tuple(command))
        if self.webhook is not None and web_address(self.webhook) != self.webhook:
            raise SettingsError(f"webhook must be an http or https address, not {brief(self.webhook)}")


@dataclass(frozen=True)
class ExecutorChoice(_Checked):
    """Where videos are analyzed. All but `kind` is for a Ray cluster.

    Raises:
        SettingsError: On construction, if a value is wrong.
    """

    kind: str = EXECUTORS[0]
    """One of `EXECUTORS`."""
    address: str = "auto"
    """The cluster. ``auto``: the one that this machine belongs to; ``local``: a new one of this machine
    alone, which ends with the batch run; ``HOST:PORT``: one that this machine belongs to, if there are
    several; ``ray://HOST:10001``: any."""
    cpus: int = _within(2, 1, 1024)
    """Cores that each worker reserves and uses."""
    memory_mb: int = _within(2000, 100, 10_000_000)
    """Memory that each worker reserves, in MB: it decides for how many workers a machine has room. What a
    worker may use is `Limits.memory_mb`."""
    gpus: float = _within(0.0, 0.0, 64.0)
    """GPUs that each worker reserves; less than 1 shares a GPU."""
    source: str = _DELIVERIES[0]
    """How a video reaches a worker: ``shared``: it has the same path there; ``send``: it is sent there;
    ``auto``: it is sent where it does not have the same path."""
    fetch: str = _FETCHERS[0]
    """What downloads: ``driver``: this machine; ``workers``: direct addresses of files are downloaded by the
    machines that analyze them, the videos of sites by this one."""
    scratch: str | None = None
    """Folder on each machine for what is being worked on; None: the machine's folder for temporary files."""

    def __post_init__(self) -> None:
        super().__post_init__()
        with _as_settings_error():
            one_of(self.kind, EXECUTORS, "kind")
            one_of(self.source, _DELIVERIES, "source")
            one_of(self.fetch, _FETCHERS, "fetch")
        # More than one GPU cannot be shared, and Ray refuses 1.5.
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise SettingsError(f"gpus must be a whole number or less than 1, not {self.gpus:g}")
        address: Any = self.address
        if not isinstance(address, str) or not _CLUSTER.fullmatch(address):
            raise SettingsError(
                f"address must be auto, local, HOST:PORT or ray://HOST:10001, not {brief(address)}"
            )
        scratch: Any = self.scratch
        if scratch is not None and (
            not isinstance(scratch, str) or not PurePosixPath(scratch).is_absolute() or "\0" in scratch
        ):
            raise SettingsError(
                f"scratch must be an absolute path, which each machine has, not {brief(scratch)}"
            )


_CLUSTER = re.compile(r"auto|local|(ray://)?([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")


@dataclass(frozen=True)
class Jobs(_Checked):
    """The jobs of a batch.

    Raises:
        SettingsError: On construction, if a value is wrong or two contradict each other.
    """

    sources: tuple[Source, ...]
    """More may be added while a batch runs, see `analyzer.batch.scheduler.Scheduler.add`."""
    out: Path
    ledger: Path
    """The ledger: by default `LEDGER_NAME` in `out`."""
    log: Path
    """The log: by default `LOG_NAME` in `out`."""
    time_budget_s: float | None = _within(None, 1.0, _LONGEST_S)
    """Stop after this time, in seconds; None: when everything is done."""
    workers: int = _within(0, 0, _MOST_WORKERS)
    """Videos that are analyzed in parallel; 0: as many as cores and memory allow, of this machine or of the
    cluster."""
    downloads: int = _within(1, 1, 64)
    """Downloads at the same time, from one host no more than `Pace.per_host`."""
    report: tuple[str, ...] = ("html",)
    """Formats of each run's report; empty: none."""
    reserve_mb: int = _within(1000, 0, 1_000_000_000)
    """Free space to leave on the disk, in MB."""
    retry: Retry = Retry()
    limits: Limits = Limits()
    pace: Pace = Pace()
    on_failure: OnFailure = OnFailure()
    executor: ExecutorChoice = ExecutorChoice()

    def __post_init__(self) -> None:
        super().__post_init__()
        report: Any = self.report
        if not isinstance(report, list | tuple):
            raise SettingsError(f'report must be a list such as ["html"], not {brief(report)}')
        for form in report:
            if form not in REPORT_FORMATS:
                raise SettingsError(
                    f"report must contain only {', '.join(REPORT_FORMATS)}, not {brief(form)}"
                    f"{_nearest(str(form), REPORT_FORMATS)}"
                )
        object.__setattr__(self, "report", tuple(dict.fromkeys(report)))
        # A source that is given twice is listed once.
        object.__setattr__(self, "sources", tuple(dict.fromkeys(self.sources)))
        if self.ledger == self.log:
            raise SettingsError(f"ledger and log are the same file: {_shown(str(self.log))}")


_NO_FILTERS = Filters()


def jobs_of(
    sources: Sequence[str],
    settings: Settings,
    *,
    out: str | os.PathLike[str],
    filters: Filters = _NO_FILTERS,
    max_per_run: int | None = None,
    watch: bool = False,
    **choices: Any,
) -> Jobs:
    """Return the jobs for some sources.

    Args:
        sources: Paths and addresses. A file that ends in ``.txt`` is a list of sources, one per line; blank
            lines and comments, which begin with ``#``, are ignored, and paths are relative to the list. A
            list may contain lists, but these no further ones.
        settings: For all sources.
        out: Folder for the runs.
        filters: For all sources.
        max_per_run: For each source.
        watch: Whether to leave files that are still being written for the next batch run.
        choices: Other fields of `Jobs`; None: the default.

    Raises:
        SettingsError: A value is wrong, or a list cannot be read or is empty.
    """
    _check_count(max_per_run, "max_per_run")
    out = Path(out)
    names = [name for source in sources for name in _named(source, depth=2)]
    made = tuple(
        Source(
            name=name,
            settings=settings,
            folder=out,
            filters=filters,
            max_per_run=max_per_run,
            watched=watch and _is_path(name) and _there(Path(name).is_dir),
        )
        for name in names
    )
    return _jobs(made, out, choices)


def _jobs(sources: tuple[Source, ...], out: Path, choices: Mapping[str, Any]) -> Jobs:
    if not sources:
        raise SettingsError("there is no source to analyze")
    given = {name: value for name, value in choices.items() if value is not None}
    given = {"ledger": out / LEDGER_NAME, "log": out / LOG_NAME} | given
    return Jobs(sources=sources, out=out, **given)


def _named(source: str, depth: int, where: Path | None = None) -> Iterator[str]:
    """Yield the source, or the sources in it if it is a list; lists may be nested `depth` levels deep."""
    if where is not None and _is_path(source):
        source = str(where / _home(source))
    path = Path(source)
    if not _is_path(source) or path.suffix.lower() != ".txt" or not _there(path.is_file):
        yield source
        return
    if depth == 0:
        raise SettingsError(f"the list {_shown(source)} is nested too deeply: add it to the first list")
    # Addresses may contain a #, but not after a space.
    lines = [re.sub(r"(^|\s)#.*", "", line).strip() for line in _text_of(path).splitlines()]
    lines = [line for line in lines if line]
    if not lines:
        raise SettingsError(f"the list {_shown(source)} contains no source")
    for line in lines:
        yield from _named(line, depth - 1, path.parent)


def _text_of(path: Path) -> str:
    """Read a text file.

    Raises:
        SettingsError: It does not exist, cannot be read, or is not UTF-8.
    """
    shown = _shown(str(path))
    if _there(path.exists) and not path.is_file():  # reading a FIFO would block
        raise SettingsError(f"{shown} is not a file")
    try:
        raw = path.read_bytes()
    except (FileNotFoundError, ValueError) as error:  # ValueError: a NUL character
        raise SettingsError(f"there is no file {shown}") from error
    except OSError as error:
        raise SettingsError(f"the file {shown} cannot be read ({error.strerror})") from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise SettingsError(f"the file {shown} is not UTF-8 (line {line})") from error


def _there(is_there: Callable[[], bool]) -> bool:
    """Call a method of Path; False for names that no file can have."""
    try:
        return is_there()
    except (OSError, ValueError):
        return False


def _is_path(source: str) -> bool:
    # At least two characters: C:\talk.mp4 is a path.
    return not re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", source)


def _home(path: str) -> Path:
    return Path(path).expanduser() if path == "~" or path.startswith("~/") else Path(path)


def _check_count(value: object, name: str) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise SettingsError(f"{name} must be a whole number of at least 1, not {brief(value)}")


def _spelled(cls: type[Any]) -> dict[str, str]:
    """Map the spellings of a dataclass's fields to their names: durations with and without ``_s``."""
    names = [each.name for each in dataclasses.fields(cls)]
    return {name.removesuffix("_s"): name for name in names} | {name: name for name in names}


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


_OPTIONS = {option.name: option for option in options()}
_KINDS = ("channel", "playlist", "url", "file", "folder")
_LISTS = ("channel", "playlist")
_LOCAL = ("file", "folder")
_SECTIONS: dict[str, type[Any]] = {
    "retry": Retry,
    "limits": Limits,
    "pace": Pace,
    "on_failure": OnFailure,
    "executor": ExecutorChoice,
}
_OF_FOLDERS = ("recursive", "images")
_PLAIN_SETTINGS = ("limit", *_OF_FOLDERS)
"""Settings that are allowed as keys of a [[source]]: they select what of it is analyzed."""
# Spelling -> name. Without `playlist`: a source is a channel or playlist by its key.
_SETTING_KEYS = {
    spelling: option.name
    for option in options()
    for spelling in (option.name, option.flag)
    if spelling and option.name != "playlist"
}
_FILTER_KEYS = _spelled(Filters)
_TAG_KEYS = _SETTING_KEYS | _FILTER_KEYS | _same("preset")
_SOURCE_KEYS = (
    _same(*_KINDS)
    | _same("watch", "tags", "preset", "into", "max_per_run", "settings", *_PLAIN_SETTINGS)
    | _FILTER_KEYS
)
_CHOICE_KEYS = _same("time_budget", "workers", "downloads", "report") | {"time_budget": "time_budget_s"}
_TOP_KEYS = (
    _same("out", "ledger", "log", "preset", "settings", "tags", "source", "disk")
    | _CHOICE_KEYS
    | _same(*_SECTIONS)
)
_DISK_KEYS = _same("reserve_mb")
_HOMES: tuple[tuple[Mapping[str, str], str], ...] = (
    (_same("playlist"), "a [[source]], instead of url"),
    (_SETTING_KEYS, "[settings], or settings = { } of a [[source]]"),
    (_SOURCE_KEYS, "a [[source]]"),
    (_TOP_KEYS, "the lines before the first [table]"),
    (_DISK_KEYS, "[disk]"),
    *((_spelled(cls), f"[{name}]") for name, cls in _SECTIONS.items()),
)


def _keys(table: object, known: Mapping[str, str]) -> dict[str, Any]:
    """Return the values of a table by the canonical names of their keys; dashes count as underscores.

    Raises:
        SettingsError: It is not a table, a key is unknown, or two keys mean the same.
    """
    if not isinstance(table, dict):
        raise SettingsError(f"must be a table with keys, not {brief(table)}")
    values: dict[str, Any] = {}
    for key, value in table.items():
        name = known.get(key.replace("-", "_"))
        if name is None:
            raise SettingsError(f"unknown key {brief(key)}: {_advice(key.replace('-', '_'), known)}")
        if name in values:
            raise SettingsError(f"{brief(key)} is set twice, in two spellings")
        values[name] = value
    return values


def _advice(key: str, known: Mapping[str, str]) -> str:
    for keys, home in _HOMES:
        if key in keys:
            return f"it belongs in {home}"
    switched_off = key.removeprefix("no_")
    if switched_off != key and switched_off in _SETTING_KEYS and switched_off in known:
        return f"write {switched_off} = false"
    shortest: dict[str, str] = {}
    for spelling, name in known.items():
        shortest[name] = min(spelling, shortest.get(name, spelling), key=len)
    near = difflib.get_close_matches(key, known, n=1)
    return (
        f"did you mean {shortest[known[near[0]]]!r}?"
        if near
        else f"known keys are {', '.join(shortest.values())}"
    )


@dataclass(frozen=True)
class _Layer:
    """What one table of the file sets."""

    preset: str | None
    settings: dict[str, Any]
    filters: dict[str, Any]


@dataclass(frozen=True)
class _Common:
    """What all sources of a file share."""

    base: Path
    out: Path
    layer: _Layer
    tags: dict[str, _Layer]


def load_jobs(path: str | os.PathLike[str], **overrides: Any) -> Jobs:
    """Read a jobs file.

    Specific values override general ones: defaults, preset (the most specific one), ``[settings]``, tags in
    the order in which the source lists them, the source itself.

    Args:
        path: The file. Relative paths in it are relative to its folder.
        overrides: Fields of `Jobs`, except `sources`, that override the file; None: not given. `executor` is
            a mapping, whose values override single keys of the file's table.

    Raises:
        SettingsError: The file cannot be read, is not TOML, or contains a mistake; one sentence with its
            place.
    """
    path = Path(path)
    shown = _shown(str(path))
    text = _text_of(path)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        last = f"at line {len(text.splitlines())}, the end of the document"
        reason = _shown(str(error)).replace("at end of document", last)
        raise SettingsError(f"{shown} is not TOML: {reason}") from error
    except (ValueError, RecursionError) as error:  # tomllib does not convert these
        reason = "nested too deeply" if isinstance(error, RecursionError) else "a number is too long"
        raise SettingsError(f"{shown} is not TOML: {reason}") from error
    with _at(shown):
        return _jobs_in(document, path.absolute().parent, overrides)


def _jobs_in(document: dict[str, Any], base: Path, overrides: Mapping[str, Any]) -> Jobs:
    top = _keys(document, _TOP_KEYS)
    given = {name: value for name, value in overrides.items() if value is not None}
    places = {name: _path(top[name], name, base) for name in ("out", "ledger", "log") if name in top}
    choices = {name: top[name] for name in _CHOICE_KEYS.values() if name in top}
    with _at("[disk]"):
        choices |= _keys(top.get("disk", {}), _DISK_KEYS)
    for name, cls in _SECTIONS.items():
        with _at(f"[{name}]"):
            values = _keys(top.get(name, {}), _spelled(cls))
            if cls is ExecutorChoice:
                values = _executor_values(values, given.pop(name, {}))
            choices[name] = cls(**values)
    choices |= places | given
    out = Path(choices.pop("out", base / DEFAULT_OUT))
    with _at("[settings]"):
        settings = _settings(_keys(top.get("settings", {}), _SETTING_KEYS))
    layer = _Layer(_preset(top.get("preset")), settings, {})
    common = _Common(base, out, layer, _tags(top.get("tags", {})))
    tables = top.get("source", [])
    if not isinstance(tables, list):
        raise SettingsError("source must be written with two brackets, [[source]]")
    sources = []
    for place, table in enumerate(tables, 1):
        with _at(_place(place, table)):
            sources.append(_source(table, common))
    _refuse_clashes(sources)
    return _jobs(tuple(sources), out, choices)


def _executor_values(values: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    if values and "kind" not in values | overrides:
        raise SettingsError(f'{next(iter(values))} is for a Ray cluster: add kind = "ray"')
    return values | overrides


def _place(number: int, table: object) -> str:
    named = [table[kind] for kind in _KINDS if kind in table] if isinstance(table, dict) else []
    shown = f" ({_shown(named[0])})" if named and named[0] and isinstance(named[0], str) else ""
    return f"[[source]] {number}{shown}"


def _path(value: object, name: str, base: Path) -> Path:
    if not isinstance(value, str) or not value or "\0" in value:
        raise SettingsError(f"{name} must be a path, not {brief(value)}")
    return base / _home(value)


def _preset(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or value not in PRESETS:
        near = _nearest(str(value), PRESETS) or f": choose one of {', '.join(PRESETS)}"
        raise SettingsError(f"there is no preset named {brief(value)}{near}")
    return value


def _settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings checked one by one, so that an error names the table that is wrong."""
    return {name: _OPTIONS[name].check(value) for name, value in values.items()}


def _filters(values: Mapping[str, Any]) -> dict[str, Any]:
    names = set(_FILTER_KEYS.values())
    filters = {name: value for name, value in values.items() if name in names}
    Filters(**filters)
    return filters


def _tags(tables: object) -> dict[str, _Layer]:
    if not isinstance(tables, dict):
        raise SettingsError("tags must be written as tables, [tags.NAME]")
    tags = {}
    for name, table in tables.items():
        with _at(f"[tags.{_shown(name)}]"):
            values = _keys(table, _TAG_KEYS)
            settings = {key: value for key, value in values.items() if key in _OPTIONS}
            tags[name] = _Layer(_preset(values.get("preset")), _settings(settings), _filters(values))
    return tags


def _source(table: object, common: _Common) -> Source:
    values = _keys(table, _SOURCE_KEYS)
    kind = _kind(values)
    tags = values.get("tags", [])
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise SettingsError(f'tags must be a list such as ["news"], not {brief(tags)}')
    tags = tuple(dict.fromkeys(tags))
    for tag in tags:
        if tag not in common.tags:
            near = _nearest(tag, common.tags)
            raise SettingsError(
                f"the tag {brief(tag)} is not defined; define it as [tags.{_shown(tag)}]{near}"
            )
    with _at("settings"):
        settings = _settings(_keys(values.get("settings", {}), _SETTING_KEYS))
    for name in _PLAIN_SETTINGS:
        if name in values and name in settings:
            raise SettingsError(f"{name} is set twice: remove it from settings")
        if name in values and name in _OF_FOLDERS and kind != "folder":
            raise SettingsError(f"{name} is for a folder, this is a {kind}")
    settings |= _settings({name: values[name] for name in _PLAIN_SETTINGS if name in values})
    own = _Layer(_preset(values.get("preset")), settings, _filters(values))
    layers = [common.layer, *(common.tags[tag] for tag in tags), own]
    preset = next((layer.preset for layer in reversed(layers) if layer.preset), DEFAULT_PRESET)
    merged: dict[str, Any] = {}
    for layer in layers:
        if sampling_ways(layer.settings):  # replaces the way of an earlier layer
            merged = {name: value for name, value in merged.items() if name not in SAMPLING}
        merged |= layer.settings
    filters = {name: value for layer in layers for name, value in layer.filters.items()}
    watched = values.get("watch", False)
    if not isinstance(watched, bool):
        raise SettingsError(f"watch must be true or false, not {brief(watched)}")
    if watched and kind != "folder":
        raise SettingsError(f"watch is for a folder, this is a {kind}")
    _check_count(values.get("max_per_run"), "max_per_run")
    return Source(
        name=_name(values[kind], kind, common.base),
        settings=Settings.from_preset(preset, **merged, playlist=kind in _LISTS),
        folder=common.out / _into(values["into"]) if "into" in values else common.out,
        filters=Filters(**filters),
        max_per_run=values.get("max_per_run"),
        tags=tags,
        watched=watched,
    )


def _kind(values: Mapping[str, Any]) -> str:
    kinds = [kind for kind in _KINDS if kind in values]
    if len(kinds) != 1:
        found = " and ".join(kinds) or "none"
        raise SettingsError(f"must have exactly one of {', '.join(_KINDS)}, not {found}")
    return kinds[0]


def _name(value: object, kind: str, base: Path) -> str:
    if kind not in _LOCAL:
        if web_address(value) != value:
            hint = "; use file or folder for local files" if kind == "url" else ""
            raise SettingsError(f"{kind} must be an http or https address, not {brief(value)}{hint}")
        return str(value)
    if isinstance(value, str) and re.match(r"https?:", value, re.IGNORECASE):
        raise SettingsError(f"{kind} must be a path; use url, channel or playlist for an address")
    return str(_path(value, kind, base))


def _into(value: object) -> PurePosixPath:
    """Return a folder inside `out`; it can lead neither outside nor to hidden folders."""
    path = PurePosixPath(value) if isinstance(value, str) else PurePosixPath()
    if (
        not path.parts
        or path.is_absolute()
        or not str(value).isprintable()
        or "\\" in str(value)
        or any(part.startswith((".", "~")) for part in path.parts)
    ):
        raise SettingsError(f"into must be a folder inside out, such as news/daily, not {brief(value)}")
    return path


def _refuse_clashes(sources: Sequence[Source]) -> None:
    """Refuse sources whose runs would replace each other in every batch run."""
    seen: dict[tuple[str, Path], tuple[int, Source]] = {}
    for place, source in enumerate(sources, 1):
        first, earlier = seen.setdefault((_identity(source.name), source.folder), (place, source))
        if earlier.settings.result_hash() != source.settings.result_hash():
            raise SettingsError(
                f"[[source]] {first} and {place} are the same, {_shown(source.name)}, with different "
                f"settings and the same folder: choose another folder for one of them with into"
            )


def _identity(name: str) -> str:
    if _is_path(name):
        return str(Path(name).resolve())
    parts = urlsplit(name)
    return parts._replace(netloc=parts.netloc.lower(), path=parts.path.rstrip("/"), fragment="").geturl()
