"""The library's entry points: `analyze`, `analyze_all`, and `Analyzer`, which keeps the models loaded."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from analyzer.errors import (
    AnalyzerError,
    OutputError,
    SettingsError,
    SourceError,
    SourceErrorKind,
    is_full,
    unexpected,
)
from analyzer.events import Downloading, Failed, FilesSkipped, Finished, OnEvent, Started, ignore
from analyzer.job import VideoAnalyzer, finished_run
from analyzer.live.run import finish_abandoned
from analyzer.media.arrays import ArrayReader
from analyzer.output.preview import OnPreview
from analyzer.runs.run import Run
from analyzer.settings import DEFAULT_OUT, Settings, checked_settings
from analyzer.sources.resolve import Fetcher
from analyzer.sources.types import FetchProgress, Item, MediaKind, Video
from analyzer.util.callbacks import Callback
from analyzer.util.cancellation import Cancellation, never
from analyzer.util.locks import folder_lock
from analyzer.util.text import well_formed
from analyzer.util.timing import timed
from analyzer.util.urls import redacted
from analyzer.vision.preflight import check_models

__all__ = [
    "Analyzer",
    "Source",
    "analyze",
    "analyze_all",
]

Source: TypeAlias = "str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Iterable[tuple[float, Any]]"
"""A path or address, several image files, or frames as pairs of a time in seconds and an image."""

_DOWNLOAD = ".download-"
_ACCEPTED = (
    "pass a path or address, a list of image files, or an iterator of (seconds, image) pairs with images as "
    "NumPy arrays"
)
_END = object()


def analyze(
    source: Source,
    settings: Settings | None = None,
    *,
    out: str | os.PathLike[str] = DEFAULT_OUT,
    on_event: OnEvent = ignore,
    cancelled: Callable[[], bool] = never,
    again: bool = False,
    on_preview: OnPreview | None = None,
    title: str | None = None,
    job_id: str | None = None,
    **changes: Any,
) -> Run:
    """Analyze one video, a set of images, a live source, or frames that a program passes in.

    To analyze several videos, use `analyze_all` or an `Analyzer`: they load the models once.

    Args:
        source: One of

            * a video file, or a folder of images;
            * the http(s) address of a video or of a page with one;
            * a live source: the number of a camera as text (``"0"``), an rtsp or http(s) address;
            * a list of image files, which become one run;
            * an iterator of ``(time_s, image)`` pairs: seconds since the start of the video, and a BGR image
              as a NumPy array, (H, W, 3) uint8. It is iterated once, in another thread, and sampled as a file
              is (``fps``). Images are copied. A pair that is not later than the one before it is left out and
              counted in ``run.json`` (``reading.repaired_times``). Such a run has no annotated video.
        settings: How to analyze; the defaults if None. `help(analyzer.Settings)` explains each.
        out: Folder in which the run's folder is made.
        on_event: Called in this thread with each event of `analyzer.events`. An exception it raises ends the
            analysis and is raised here unchanged.
        cancelled: Asked several times a second, also from other threads. Once it returns true, a live source
            ends as if it had ended by itself, and any other analysis ends within about a second with a
            `StoppedError`. Segments that are finished by then are kept, and the same call continues there.
        again: Whether to analyze a video anew although `out` contains the finished run of the same analysis.
        on_preview: Called in this thread with the faces found in each sample; see `analyzer.output.preview`.
            The analysis then uses one process, in the order of time.
        title: Name of the run, if the source is frames. Frames with the title of an earlier run replace that
            run; without a title each call makes a run of its own.
        job_id: Identifies the video in the events; made up if None.
        **changes: Changes to `settings`, such as ``fps=2``.

    Returns:
        The run: its folder, and its tables `people`, `timeline`, `shares`, `faces` and `samples` as pandas
        DataFrames. `Run.video_error` says why there is no annotated video, if one was asked for.

    Raises:
        TypeError: `source` is of a type that cannot be analyzed, or another argument of a wrong type.
        SourceError: The source cannot be found or fetched, or is more than one video.
        MediaError: It is not a video, or cannot be read.
        SettingsError: A setting, a time or an image is not valid.
        ModelError: A model is missing or damaged.
        OutputError: Results cannot be written.
        CrashError: A worker process died.
        StoppedError: The analysis was canceled.

    All but TypeError are subclasses of `AnalyzerError`, and their message is one sentence for the user.

    >>> import numpy, tempfile
    >>> frames = ((n / 5, numpy.zeros((48, 64, 3), numpy.uint8)) for n in range(10))
    >>> run = analyze(frames, title="darkness", out=tempfile.mkdtemp(), fps=5)
    >>> len(run.samples), len(run.people), run.complete
    (10, 0, True)
    """
    how: dict[str, Any] = {"out": out, "on_event": on_event, "cancelled": cancelled, "again": again}
    analyzer = Analyzer(settings, **how, on_preview=on_preview, **changes)
    return analyzer.analyze(source, title=title, job_id=job_id)


def analyze_all(
    sources: Iterable[str | os.PathLike[str] | Sequence[str | os.PathLike[str]]],
    settings: Settings | None = None,
    *,
    out: str | os.PathLike[str] = DEFAULT_OUT,
    on_event: OnEvent = ignore,
    cancelled: Callable[[], bool] = never,
    again: bool = False,
    on_preview: OnPreview | None = None,
    fetcher: Fetcher | None = None,
    **changes: Any,
) -> Iterator[Finished | Failed]:
    """Analyze every video of every source in turn; one that fails does not stop the others.

    Args:
        sources: Paths, folders, addresses, live sources; several image files in a list become one run.
        settings: How to analyze; the defaults if None.
        out: Folder in which each run's folder is made.
        on_event: Called with each event, `Finished` and `Failed` included; see `analyze`.
        cancelled: As in `analyze`; no further video is begun.
        again: As in `analyze`.
        on_preview: As in `analyze`.
        fetcher: Resolves and downloads sources; one with these settings if None.
        **changes: Changes to `settings`, such as ``fps=2``.

    Yields:
        The outcome of each video, in order. `Finished.run` opens the run.

    Raises:
        TypeError: `sources` is one path or address, or an element is of another type.
        SettingsError: A setting is not valid.
        OutputError: `out` cannot be written to.
        ModelError: A model is missing or damaged.
    """
    how: dict[str, Any] = {"out": out, "on_event": on_event, "cancelled": cancelled, "again": again}
    analyzer = Analyzer(settings, **how, on_preview=on_preview, fetcher=fetcher, **changes)
    return analyzer.analyze_all(sources)


class Analyzer:
    """Analyzes videos one after another with the models loaded once. Use it from one thread at a time.

    Args:
        settings: How to analyze; the defaults if None.
        out: Folder in which each run's folder is made.
        on_event: See `analyze`, as for all that follow.
        cancelled: Once true, the analysis in progress ends.
        again: Whether to analyze anew what `out` already contains.
        on_preview: Called with the faces found in each sample.
        fetcher: Resolves and downloads sources; one with these settings if None.
        **changes: Changes to `settings`, such as ``fps=2``.

    Raises:
        SettingsError: A setting is not valid.

    >>> import numpy, tempfile
    >>> analyzer = Analyzer(out=tempfile.mkdtemp(), fps=5)
    >>> dark, bright = numpy.zeros((48, 64, 3), numpy.uint8), numpy.full((48, 64, 3), 255, numpy.uint8)
    >>> [len(analyzer.analyze([(0, image), (0.2, image)]).samples) for image in (dark, bright)]
    [2, 2]
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        out: str | os.PathLike[str] = DEFAULT_OUT,
        on_event: OnEvent = ignore,
        cancelled: Callable[[], bool] = never,
        again: bool = False,
        on_preview: OnPreview | None = None,
        fetcher: Fetcher | None = None,
        **changes: Any,
    ) -> None:
        self._settings = checked_settings(settings).replace(**changes)
        self._out = Path(out)
        self._again = again
        self._on_event = Callback(on_event)
        self._on_preview = on_preview and Callback(on_preview)
        self._callbacks: list[Callback[..., Any]] = [self._on_event]
        self._callbacks += [self._on_preview] if self._on_preview else []
        self._cancelled = cancelled
        self._cancellation = Cancellation(cancelled)
        self._fetcher = fetcher or Fetcher(
            self._settings,
            want_audio=self._settings.video,
            live=True,
            on_progress=self._report_download,
        )
        self._checked = False
        self._job_id = ""
        self._videos = VideoAnalyzer(
            self._settings,
            self._on_event,
            cancelled=self._is_cancelled,
            again=again,
            on_preview=self._on_preview,
        )

    def load(self) -> None:
        """Load the models now; else the first analysis does.

        Raises:
            ModelError: A model is missing or damaged.
        """
        self._check_models()
        self._videos.load()

    def analyze(self, source: Source, *, title: str | None = None, job_id: str | None = None) -> Run:
        """Analyze one video: `analyzer.analyze`, which see, with this object's settings and models."""
        for what, text in {"title": title, "job_id": job_id}.items():
            if not isinstance(text, str | None):
                raise TypeError(f"{what} is of type {type(text).__name__}: pass a str")
        images = _as_images(source)
        if isinstance(source, str | os.PathLike):
            named: str | list[str] = os.fspath(source)
        elif images is not None:
            named = images
        else:
            return self._analyze_frames(source, title, job_id or _new_id())
        if title is not None:
            raise TypeError("title names a run of frames; of any other source the name is known")
        self._begin()
        items = list(itertools.islice(self._items(named), 2))
        if len(items) > 1:
            assert isinstance(named, str)  # images are one item
            raise SourceError(
                f"{redacted(named)} contains more than one video: use analyze_all",
                kind=SourceErrorKind.PLAYLIST,
                source=named,
            )
        (item,) = items
        outcome, error = self._attempt(item, job_id or _new_id())
        return self._concluded(outcome, error)

    def analyze_all(
        self, sources: Iterable[str | os.PathLike[str] | Sequence[str | os.PathLike[str]]]
    ) -> Iterator[Finished | Failed]:
        """Analyze every video of every source: `analyzer.analyze_all` with this object's settings."""
        if isinstance(sources, str | bytes | os.PathLike) or not isinstance(sources, Iterable):
            name = type(sources).__name__
            raise TypeError(f"sources is of type {name}: pass a list of sources, or use analyze")
        return self._outcomes(sources)

    def _outcomes(self, sources: Iterable[Any]) -> Iterator[Finished | Failed]:
        self._begin()
        for source in sources:
            images = _as_images(source) if isinstance(source, Sequence) else None
            if images is None and not isinstance(source, str | os.PathLike):
                raise TypeError(f"a source is of type {type(source).__name__}: pass paths and addresses")
            for item in self._items(os.fspath(source) if images is None else images):
                outcome, _ = self._attempt(item, _new_id())
                self._on_event(outcome)
                yield outcome
                if self._cancellation():
                    return

    def _begin(self) -> None:
        """Check what every analysis needs, before anything is written or downloaded."""
        self._cancellation = Cancellation(self._cancelled)
        for callback in self._callbacks:
            callback.forget()
        self._check_models()
        _check_writable(self._out)
        _remove_abandoned_downloads(self._out)

    def _check_models(self) -> None:
        if not self._checked:
            check_models(self._settings)
        self._checked = True

    def _is_cancelled(self) -> bool:
        return self._cancellation()

    def _report_download(self, progress: FetchProgress) -> None:
        self._cancellation.check()
        known = progress.source, progress.received_bytes, progress.total_bytes
        self._on_event(Downloading(self._job_id, *known))

    def _items(self, source: str | Sequence[str]) -> Iterator[Item | _Unresolved]:
        """The videos of a source, or why there are no more."""
        try:
            if isinstance(source, str):
                yield from self._fetcher.resolve(
                    source,
                    on_left_out=lambda left: self._on_event(
                        FilesSkipped("", left.source, left.images, left.subfolders)
                    ),
                )
            else:
                yield self._fetcher.resolve_images(source)
        except AnalyzerError as error:
            self._reraise()
            yield _Unresolved(redacted(source if isinstance(source, str) else " ".join(source)), error)

    def _attempt(
        self, item: Item | _Unresolved, job_id: str
    ) -> tuple[Finished | Failed, AnalyzerError | None]:
        """Analyze one item; what the user can act on comes back as `Failed`, with its exception.

        Raises:
            BaseException: Whatever the caller's functions raise.
        """
        if isinstance(item, _Unresolved):
            return _failed(job_id, item.source, item.error), item.error
        source = redacted(item.source)
        self._on_event(Started(job_id, source))
        if any(self._out.glob("*live-*/.parts")):
            finish_abandoned(self._out)
        done = self._done_before(item)
        if done is not None:
            return _finished(job_id, done, unchanged=True), None
        timings: dict[str, float] = {}
        self._videos.load(timings)  # before anything is downloaded
        self._job_id = job_id
        return self._tried(job_id, source, lambda: self._fetched_and_analyzed(item, job_id, timings))

    def _fetched_and_analyzed(self, item: Item, job_id: str, timings: dict[str, float]) -> Finished:
        with contextlib.ExitStack() as stack:
            # Downloads lie beside the results: on the same disk, and where the user finds what may be left.
            download = Path(tempfile.mkdtemp(prefix=_DOWNLOAD, dir=self._out))
            stack.callback(shutil.rmtree, download, ignore_errors=True)
            stack.enter_context(folder_lock(download))
            with timed(timings, "fetch"):
                video = self._fetcher.fetch(item, download)
            done = self._done_before(item, video) if video.fetched else None
            if done is not None:
                return _finished(job_id, done, unchanged=True)
            return _finished(job_id, self._videos.analyze(video, self._out, timings, job_id=job_id))

    def _analyze_frames(self, frames: Iterable[Any], title: str | None, job_id: str) -> Run:
        title = title or None
        name = title or "frames"
        pairs = _CallersIterator(frames)
        self._begin()
        self._on_event(Started(job_id, name))
        settings = self._settings.replace(video=False, blur=False)
        videos = self._videos.with_settings(settings)

        def work() -> Finished:
            with ArrayReader(pairs, settings) as reader:
                run = videos.analyze(_frames_video(name, title), self._out, job_id=job_id, frames=reader)
            return _finished(job_id, run)

        return self._concluded(*self._tried(job_id, name, work, pairs))

    def _tried(
        self, job_id: str, source: str, work: Callable[[], Finished], *callers: _CallersIterator
    ) -> tuple[Finished | Failed, AnalyzerError | None]:
        """Do the work, or say why it failed; what the caller's functions raise passes unchanged."""
        try:
            return work(), None
        except Exception as error:  # noqa: BLE001 - one video must not end the others
            self._reraise()
            for caller in callers:
                caller.reraise()
            known = error if isinstance(error, AnalyzerError) else unexpected(error)
            return _failed(job_id, source, known), known

    def _concluded(self, outcome: Finished | Failed, error: AnalyzerError | None) -> Run:
        self._on_event(outcome)
        if error is not None:
            raise error
        assert isinstance(outcome, Finished)  # else there is an error
        return outcome.run

    def _done_before(self, item: Item, video: Video | None = None) -> Run | None:
        """The finished run of this very analysis; before a video is fetched only if its name tells which."""
        if self._again or item.kind is MediaKind.LIVE or item.error is not None:
            return None
        if video is not None:
            fingerprint = video.details["fingerprint"]
            return finished_run(self._out, video.title, video.video_id, self._settings, fingerprint)
        try:
            video_id = self._fetcher.identify(item)
        except SourceError:  # fetching it reports why
            return None
        # A plain address may lead to another video today.
        if video_id.startswith("web-"):
            return None
        return finished_run(self._out, item.title or "", video_id, self._settings)

    def _reraise(self) -> None:
        """Raise what a caller's function has raised, whatever has become of it on the way."""
        self._cancellation.reraise()
        for callback in self._callbacks:
            callback.reraise()


@dataclass(frozen=True)
class _Unresolved:
    """A source whose videos, or whose further ones, could not be listed."""

    source: str
    error: AnalyzerError


class _CallersIterator:
    """Iterates a caller's iterable, and remembers what that has raised."""

    def __init__(self, iterable: Iterable[Any]) -> None:
        iterator = iter(iterable)
        self._next = Callback(lambda: next(iterator, _END))

    def __iter__(self) -> Iterator[Any]:
        while (item := self._next()) is not _END:
            yield item

    def reraise(self) -> None:
        self._next.reraise()


def _as_images(source: Any) -> list[str] | None:
    """Paths of image files, if the source is a list of such.

    Raises:
        TypeError: The source is of a type that cannot be analyzed.
        SettingsError: It is empty.
    """
    if isinstance(source, str | os.PathLike):
        return None
    unlike = (bytes, bytearray, memoryview, dict)
    array = hasattr(source, "__array__")  # one image is iterable too, row by row
    if isinstance(source, unlike) or array or not isinstance(source, Iterable):
        raise TypeError(f"a source of type {type(source).__name__} cannot be analyzed: {_ACCEPTED}")
    if not isinstance(source, Sequence):
        return None
    if not source:
        raise SettingsError(f"the list of images or frames is empty: {_ACCEPTED}")
    paths = [os.fspath(one) for one in source if isinstance(one, str | os.PathLike)]
    if paths and len(paths) < len(source):
        raise TypeError(f"a list contains paths and other things: {_ACCEPTED}")
    return [str(path) for path in paths] or None


def _frames_video(name: str, title: str | None) -> Video:
    """The video of frames that a program passes in: one with the same title is the same video."""
    digest = secrets.token_hex(6) if title is None else hashlib.sha256(title.encode()).hexdigest()[:12]
    return Video(
        video_id=f"frames-{digest}",
        kind=MediaKind.VIDEO,
        paths=(),
        audio_path=None,
        source=well_formed(name),
        title=well_formed(name),
        url=None,
        channel=None,
        uploaded=None,
        uploaded_at=None,
        duration_s=None,
        fetched=False,
        details={},
    )


def _new_id() -> str:
    return secrets.token_hex(6)


def _finished(job_id: str, run: Run, *, unchanged: bool = False) -> Finished:
    title = str(run.info.get("title") or "")
    return Finished(job_id, title, str(run.folder), run.complete, unchanged)


def _failed(job_id: str, source: str, error: AnalyzerError) -> Failed:
    kind: str | None = getattr(error, "kind", None)
    return Failed(
        job_id,
        source,
        str(error),
        type(error).__name__,
        None if kind is None else str(kind),
        bool(getattr(error, "retry", False)),
        getattr(error, "published", None),
    )


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"the output folder {folder} cannot be written to ({error.strerror}): choose another with --out",
            no_space=is_full(error),
        ) from error


def _remove_abandoned_downloads(out: Path) -> None:
    """Remove the downloads of processes that were killed; those of living ones are locked."""
    for folder in out.glob(f"{_DOWNLOAD}*"):
        with contextlib.suppress(OSError), folder_lock(folder):
            shutil.rmtree(folder, ignore_errors=True)
