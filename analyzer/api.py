"""One video from source to finished run: the one place that builds concrete things.

`analyze` is the one-line way in; `analyze_all` does many, and is what the command line calls.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analyzer.analysis.budget import choose_sampling
from analyzer.analysis.segment import Models, analyze_segments
from analyzer.errors import (
    AnalyzerError,
    MediaError,
    OutputError,
    SourceError,
    SourceErrorKind,
    StoppedError,
    is_full,
    unexpected,
)
from analyzer.events import (
    Analyzing,
    Begun,
    Budgeted,
    Committed,
    Event,
    Failed,
    Fetching,
    Finished,
    OnEvent,
    Rendering,
    ReportsRemoved,
    Started,
    ignore,
)
from analyzer.faces import Faces
from analyzer.live.run import finish_abandoned, run_live
from analyzer.media.images import ImageReader
from analyzer.media.read_report import ReadReport, joined_report
from analyzer.media.readahead import read_ahead
from analyzer.media.reader import VideoReader
from analyzer.output.preview import OnPreview, Preview, Previewer
from analyzer.runs.derive import derive, same_analysis, table_files, work_key, write_spreadsheet, write_tables
from analyzer.runs.folders import run_folder
from analyzer.runs.pool import (
    READ_AHEAD,
    Message,
    Task,
    WorkerJob,
    analyze_in_processes,
    not_kept,
    stopped,
    worker_count,
)
from analyzer.runs.provenance import run_info
from analyzer.runs.run import Run, publish
from analyzer.runs.run_info import SCHEMA_VERSION
from analyzer.runs.segments import Part, PartStore
from analyzer.runs.tables import write_json
from analyzer.settings import DEFAULT_OUT, Settings
from analyzer.sources.resolve import Fetcher
from analyzer.sources.types import JSON, Item, MediaKind, Video
from analyzer.util.callbacks import Callback
from analyzer.util.locks import locked, run_lock
from analyzer.util.system import few_arenas, give_back_memory
from analyzer.util.timing import StageTimer, timed
from analyzer.util.urls import redacted
from analyzer.vision.preflight import check_models
from analyzer.vision.selection import models_hash

__all__ = [
    "Analyzer",
    "analyze",
    "analyze_all",
]

log = logging.getLogger(__name__)


Reader = VideoReader | ImageReader


_DOWNLOAD = ".download-"


_UNFINISHED = "it was not finished: run the same command again"


# Stretches without samples that are kept as such, before one that has some; the others are read again.
_EMPTY_KEPT = 100


# A declared length is not believed beyond so many segments: what comes later is one task.
_MAX_TASKS = 10_000


def analyze(
    source: str | os.PathLike[str],
    settings: Settings | None = None,
    *,
    out: str | os.PathLike[str] = DEFAULT_OUT,
    on_event: OnEvent = ignore,
    stop: Callable[[], bool] = lambda: False,
    again: bool = False,
    on_preview: OnPreview | None = None,
    **changes: Any,
) -> Run:
    """Analyze one video, or all pictures of a folder, or follow a live source.

    Args:
        source: A file, a folder of pictures, an http(s) address of a video or its page, or what is live:
            the number of a camera, or an rtsp or http(s) address.
        settings: How; the defaults if not given.
        out: Folder in which the run's folder is made.
        on_event: Called with each `Event`. What it raises ends the analysis and is raised here, as it is;
            finished segments are kept.
        stop: Asked some times a second, perhaps in another thread; once it is true, what is live ends as it
            should, and other analyses with a `StoppedError`.
        again: Whether a video is analyzed anew of which `out` holds the finished run of the same analysis.
        on_preview: Called in the calling thread with each sample that was looked at and what was found in it.
            One process analyses then, in the order of time.
        **changes: Changes to `settings`, such as ``fps=2``.

    Returns:
        The run, with `timeline`, `people`, `faces` and `samples` as DataFrames; `Run.video_error` says why it
        has no annotated video, if it was to have one.

    Raises:
        SourceError: The source cannot be found or fetched, or is more than one video.
        MediaError: It is not a video, or cannot be read.
        SettingsError: A setting is out of its range.
        ModelError: A network is missing or damaged.
        OutputError: Results cannot be written.
        StoppedError: `stop` was true; finished segments are kept.
    """
    chosen = (settings or Settings()).replace(**changes)
    name = os.fspath(source)
    on_event = Callback(on_event)
    fetcher = _fetcher(chosen, on_event)
    items = list(itertools.islice(_items(fetcher, name, on_event), 2))
    if len(items) > 1:
        raise SourceError(
            f"{redacted(name)} holds more than one video: use analyze_all",
            kind=SourceErrorKind.PLAYLIST,
            source=name,
        )
    how: dict[str, Any] = {"stop": Callback(stop), "again": again}
    how["on_preview"] = on_preview and Callback(on_preview)
    (result,) = _analyze_items(items, chosen, Path(out), on_event, fetcher, **how)
    if isinstance(result, Failed):
        raise result.error
    return result.run


def analyze_all(
    sources: Iterable[str | Sequence[str]],
    settings: Settings | None = None,
    *,
    out: str | os.PathLike[str] = DEFAULT_OUT,
    on_event: OnEvent = ignore,
    fetcher: Fetcher | None = None,
    stop: Callable[[], bool] = lambda: False,
    again: bool = False,
    on_preview: OnPreview | None = None,
) -> Iterator[Finished | Failed]:
    """Analyze every video of every source in turn; one that fails does not stop the others.

    Args:
        sources: Files, folders, addresses, what is live; several picture files together are one run.
        settings: How; the defaults if not given.
        out: Folder in which each run's folder is made.
        on_event: Called with each `Event`, `Finished` and `Failed` included.
        fetcher: What resolves and downloads, if not the default one.
        stop: As in `analyze`; no further video is begun.
        again: As in `analyze`.
        on_preview: As in `analyze`.

    Yields:
        What became of each video, in order.

    Raises:
        OutputError: `out` cannot be written to.
        ModelError: A network is missing or damaged.
    """
    settings = settings or Settings()
    on_event = Callback(on_event)
    chosen = fetcher or _fetcher(settings, on_event)
    items = itertools.chain.from_iterable(_items(chosen, source, on_event) for source in sources)
    how: dict[str, Any] = {"stop": Callback(stop), "again": again}
    how["on_preview"] = on_preview and Callback(on_preview)
    yield from _analyze_items(items, settings, Path(out), on_event, chosen, **how)


def _analyze_items(
    items: Iterable[Item | Failed],
    settings: Settings,
    out: Path,
    on_event: Callback[[Event], None],
    fetcher: Fetcher,
    *,
    stop: Callback[[], bool],
    again: bool,
    on_preview: Callback[[Preview], None] | None,
) -> Iterator[Finished | Failed]:
    check_models(settings)  # before anything is written: without them all is in vain
    _check_writable(out)
    _remove_abandoned_downloads(out)
    few_arenas()
    worker = _Worker(settings, out, fetcher, on_event, stop=stop, again=again, on_preview=on_preview)
    for item in items:
        result = item if isinstance(item, Failed) else worker.attempt(item)
        on_event(result)
        yield result
        if stop():
            return


def _items(fetcher: Fetcher, source: str | Sequence[str], on_event: OnEvent) -> Iterator[Item | Failed]:
    try:
        if isinstance(source, str):
            yield from fetcher.resolve(source, on_left_out=on_event)
        else:
            yield fetcher.resolve_images(source)
    except AnalyzerError as error:
        yield Failed(redacted(source if isinstance(source, str) else " ".join(source)), error)


def _fetcher(settings: Settings, on_event: OnEvent) -> Fetcher:
    return Fetcher(
        settings,
        want_audio=settings.video,
        live=True,
        on_progress=lambda progress: on_event(Fetching(progress)),
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


@dataclass
class _Work:
    """One video in the works."""

    video: Video
    settings: Settings
    reader: Reader
    models: Models
    parts: PartStore
    stages: StageTimer
    timings: dict[str, float]
    resumed: int = 0
    """Segments kept from an earlier run that was broken off."""

    def accounts(self) -> dict[str, Any]:
        """What ``run.json`` says of how the work was done."""
        return {
            "resumed_segments": self.resumed,
            "timings_s": {name: round(value, 3) for name, value in self.timings.items()},
            "stages_s": {name: round(value, 3) for name, value in self.stages.seconds.items()},
        }


class _Progress:
    """Adds up what is done, over all processes."""

    def __init__(self, work: _Work, on_event: OnEvent) -> None:
        self._title = work.video.title
        end_s = min(_ends(work.reader, work.settings), default=None)
        self._duration_s = None if end_s is None else max(0.0, end_s - work.settings.start_s)
        self._on_event = on_event
        self._reader = work.reader
        self._images = isinstance(work.reader, ImageReader)
        self._done_s: dict[int, float] = {}
        self.samples = self.faces = 0

    def tell(self, message: Message) -> None:
        """Take a message of a process, and tell all."""
        if isinstance(message, Part):
            self._on_event(Committed(self._title, message))
            return
        stretch, time_s, faces = message
        self._done_s[stretch] = time_s - self._reader.segment_bounds(stretch)[0]
        self.samples += 1
        self.faces += faces
        done_s = sum(self._done_s.values())
        self._on_event(
            Analyzing(self._title, done_s, self._duration_s, self.samples, self.faces, self._images)
        )


def _ends(reader: Reader, settings: Settings) -> list[float]:
    """Where the video ends, or is to be left, in seconds; as far as known."""
    return [end for end in (settings.stop_s, reader.info.duration_s) if end is not None]


def _tasks(reader: Reader, kept: Sequence[int], settings: Settings) -> list[Task]:
    """The stretches of a video that are still to be read, one for each segment, as far as they are known."""
    last = 0
    if isinstance(reader, VideoReader):
        end_s = min(_ends(reader, settings), default=0.0)
        while last < _MAX_TASKS and reader.segment_bounds(last)[1] < end_s:
            last += 1
    missing = [segment for segment in range(last) if segment not in kept]
    return [
        *(Task(segment, *reader.segment_bounds(segment)) for segment in missing),
        Task(last, reader.segment_bounds(last)[0], None, tuple(one for one in kept if one >= last)),
    ]


def _first_due(reader: Reader, kept: Sequence[int], settings: Settings) -> int:
    """Where one process begins to read: at the first segment that is missing.

    How a video ends is seen by reading its end: where nothing may follow, the last kept one is read again.
    """
    missing = next(number for number in itertools.count() if number not in kept)
    if reader.segment_bounds(missing)[0] < min(_ends(reader, settings), default=0.0):
        return missing
    return min(missing, max(kept, default=0))


class _Worker:
    """Fetches and analyses items one after another with one loaded set of networks."""

    def __init__(
        self,
        settings: Settings,
        out: Path,
        fetcher: Fetcher,
        on_event: Callback[[Event], None],
        *,
        stop: Callback[[], bool],
        again: bool,
        on_preview: Callback[[Preview], None] | None,
    ) -> None:
        self._settings = settings
        self._again = again
        self._out = out
        self._fetcher = fetcher
        self._on_event = on_event
        self._callbacks: list[Callback[..., Any]] = [on_event, stop, *([on_preview] if on_preview else [])]
        self._analyzer = Analyzer(settings, on_event, stop=stop, again=again, on_preview=on_preview)

    def attempt(self, item: Item) -> Finished | Failed:
        """Analyze one item; what the user can act on comes back as `Failed`.

        Raises:
            BaseException: Whatever the caller's functions raise.
        """
        self._on_event(Started(redacted(item.source)))
        if any(self._out.glob("*live-*/.parts")):
            finish_abandoned(self._out)
        done = self._done_before(item)
        if done is not None:
            return Finished(done, unchanged=True)
        timings: dict[str, float] = {}
        self._analyzer.load(timings)  # before anything is downloaded: without them all is in vain
        # A download lies beside the results: the same disk, and found by the user if it is ever left.
        with contextlib.ExitStack() as stack:
            try:
                download = Path(tempfile.mkdtemp(prefix=_DOWNLOAD, dir=self._out))
                stack.callback(shutil.rmtree, download, ignore_errors=True)
                locked(download, stack)
                with timed(timings, "fetch"):
                    video = self._fetcher.fetch(item, download)
                done = self._done_before(item, video) if video.fetched else None
                if done is not None:
                    return Finished(done, unchanged=True)
                return Finished(self._analyzer.analyze(video, self._out, timings))
            except AnalyzerError as error:
                self._reraise()
                return Failed(redacted(item.source), error)
            except Exception as error:  # noqa: BLE001 - one video must not end the others
                self._reraise()
                return Failed(redacted(item.source), unexpected(error))

    def _done_before(self, item: Item, video: Video | None = None) -> Run | None:
        """The finished run of this very analysis; before a video is fetched only if its name tells that."""
        if self._again or item.kind is MediaKind.LIVE or item.error is not None:
            return None
        if video is not None:
            return finished_run(
                self._out, video.title, video.video_id, self._settings, video.details["fingerprint"]
            )
        try:
            video_id = self._fetcher.identify(item)
        except SourceError:  # whoever fetches it says so
            return None
        # What is behind a plain address may be another video today.
        if video_id.startswith("web-"):
            return None
        return finished_run(self._out, item.title or "", video_id, self._settings)

    def _reraise(self) -> None:
        for callback in self._callbacks:
            callback.reraise()


def finished_run(
    out: Path, title: str, video_id: str, settings: Settings, fingerprint: JSON = None
) -> Run | None:
    """The run of a video in `out`, if it is whole and of the very same analysis; else None.

    Whole are those of videos that were read to their end, with all that `settings` asks for.

    Args:
        out: Folder of runs.
        title: Of the video; it may have had another one.
        video_id: Its identity.
        settings: How it would be analyzed.
        fingerprint: Of a download, to be compared with the one that was analyzed; None: not compared.
    """
    folder = run_folder(out, title, video_id)
    try:
        run = Run.load(folder)
    except OutputError:
        return None
    info = run.info
    if info["video_id"] != video_id or not info["complete"]:
        return None
    if fingerprint is not None and info["source_details"].get("fingerprint") != fingerprint:
        return None
    if not same_analysis(info, settings, models_hash(settings)):
        return None
    annotated = info.get("annotated")
    names = table_files(settings, images=info["kind"] == "images")
    names += info["download"] or ()
    if settings.video:
        drawn = annotated["file"] if annotated else None
        if drawn is None:
            return None
        names.append(drawn)
    return run if all((folder / name).exists() for name in names) else None


class Analyzer:
    """Analyses videos that lie on the disk, one after another, with one loaded set of networks.

    Args:
        settings: How.
        on_event: Called with each `Event` of a video.
        stop: Asked after each segment and while drawing; once it is true, `analyze` raises `StoppedError`.
        again: Whether a run of which only the annotated video is missing is analyzed anew, too.
        on_preview: As in `analyze`.
    """

    def __init__(
        self,
        settings: Settings,
        on_event: OnEvent = ignore,
        *,
        stop: Callable[[], bool] = lambda: False,
        again: bool = False,
        on_preview: OnPreview | None = None,
    ) -> None:
        self._settings = settings
        self._again = again
        self._on_preview = on_preview
        self._on_event = Callback(on_event)
        self._stop = Callback(stop)
        self._models: Models | None = None

    def load(self, timings: dict[str, float] | None = None) -> Models:
        """Load the networks, if they are not.

        Raises:
            ModelError: One is missing or damaged.
        """
        with timed({} if timings is None else timings, "models"):
            if self._models is None:
                self._models = Models.load(self._settings)
                give_back_memory()
            return self._models

    def analyze(self, video: Video, out: Path, timings: dict[str, float] | None = None) -> Run:
        """Analyze a video and publish its run in a folder of `out`.

        Args:
            video: From a `Fetcher`.
            out: Exists.
            timings: Seconds of what came before, for ``run.json``; what is done here is added.

        Raises:
            MediaError: It is not a video, or cannot be read.
            ModelError: A network is missing or damaged.
            OutputError: Results cannot be written, or another process works on the same video.
            CrashError: A process that analyzed ended.
            StoppedError: `stop` was true; finished segments are kept.
            BaseException: Whatever `on_event` and `stop` raise.
        """
        timings = {} if timings is None else timings
        self._on_event.forget()
        self._stop.forget()
        models = self.load(None if "models" in timings else timings)
        if video.kind is MediaKind.LIVE:
            how: dict[str, Any] = {"on_event": self._on_event, "stop": self._stop, "timings": timings}
            return run_live(video, out, self._settings, models, on_preview=self._on_preview, **how)
        folder = run_folder(out, video.title, video.video_id)
        hashes = {"settings_hash": self._settings.result_hash(), "models_hash": models.models_hash}
        run = None if self._again else _without_video(folder, video, hashes)
        if run is not None:
            with run_lock(folder) as staging:
                run = self._draw(video, run, Settings(**run.info["settings"]), staging, hashes)
                PartStore(folder, work_key(video, self._settings, models)).clear()
                return run
        settings, budget = self._within_budget(video, models, timings)
        parts, stages = PartStore(folder, work_key(video, settings, models)), StageTimer()
        opened = time.perf_counter()
        with _open_reader(video, settings) as reader, run_lock(folder) as staging:
            work = _Work(video, settings, reader, models, parts, stages, timings)
            report = self._read(work)
            give_back_memory()
            with timed(timings, "link"), stages("link"):
                tables = derive(video, parts, (reader.info, report), settings, models.calibration)
            with stages("write"):
                write_tables(staging, tables, settings)
            timings["analysis"] = time.perf_counter() - opened
            info: dict[str, Any] = {**run_info(video, settings, models, tables, (reader.info, report))}
            # What was asked for, by which a batch knows its work again.
            info |= hashes
            info["budget"], info["annotated"] = budget, None
            info |= work.accounts()
            if settings.video:
                # The tables come first: whatever happens while drawing does not cost them.
                info["annotated"] = _not_drawn(_UNFINISHED) | hashes
                info |= dict.fromkeys(hashes)
            elif settings.keep_download and video.fetched:
                info["download"] = _keep_download(video, folder)
            write_spreadsheet(staging, tables, settings, info)
            write_json(staging / "run.json", info)
            removed = publish(staging, folder)
            del tables  # drawing reads them anew
            run = Run(folder, json.loads(json.dumps(info, default=str)))
            if removed:
                self._on_event(ReportsRemoved(video.title, run, removed))
            if settings.video:
                run = self._draw(video, run, settings, staging, hashes)
            parts.clear()
            return run

    def _draw(self, video: Video, run: Run, settings: Settings, staging: Path, hashes: dict[str, str]) -> Run:
        """Add the annotated video to a run whose tables are published, or why there is none.

        Raises:
            OutputError: No space is left: with some, the same command draws the video.
            StoppedError: `stop` was true: the same command draws the video.
        """
        timings, stages, problem = dict[str, float](), StageTimer(), None
        try:
            with timed(timings, "render"), stages("render"):
                annotated = self._render(video, settings, staging, run)
        except (StoppedError, MemoryError):
            raise
        except AnalyzerError as error:
            self._reraise()
            if isinstance(error, OutputError) and error.no_space:
                raise
            problem = error
        except Exception as error:  # noqa: BLE001 - the tables are there whatever it is
            self._reraise()
            problem = unexpected(error)
        drawn = _not_drawn(str(problem)) if problem else annotated
        info: dict[str, Any] = {**run.info, **hashes, "annotated": drawn}
        info["timings_s"] |= {name: round(value, 3) for name, value in timings.items()}
        info["stages_s"] |= {name: round(value, 3) for name, value in stages.seconds.items()}
        if settings.keep_download and video.fetched:
            info["download"] = _keep_download(video, run.folder)
        write_json(staging / "run.json", info)
        publish(staging, run.folder, grows=True)
        return Run(run.folder, json.loads(json.dumps(info, default=str)))

    def _reraise(self) -> None:
        self._on_event.reraise()
        self._stop.reraise()

    def _within_budget(
        self, video: Video, models: Models, timings: dict[str, float]
    ) -> tuple[Settings, str | None]:
        """The settings for a video, and what was chosen for its budget, in words."""
        settings = self._settings
        if settings.budget is None or video.kind is MediaKind.IMAGES:
            return settings, None
        with _open_reader(video, settings) as reader:
            end_s = min(_ends(reader, settings), default=None)
        if end_s is None or end_s <= settings.start_s:
            words, fits = "the video does not say how long it is: the budget is not kept", False
        else:
            with timed(timings, "budget"):
                choice = choose_sampling(video.paths[0], end_s - settings.start_s, settings, models)
            settings, words, fits = choice.settings, choice.in_words(), choice.fits
        self._on_event(Budgeted(video.title, words, fits))
        return settings, words

    def _read(self, work: _Work) -> ReadReport:
        """Analyze what is not yet kept; gives how the video was read."""
        reader, settings, progress = work.reader, work.settings, _Progress(work, self._on_event)
        kept = tuple(work.parts.segments())
        work.resumed = len(kept)
        tasks = _tasks(reader, kept, settings)
        workers = 1 if self._on_preview is not None else worker_count(settings, len(tasks))
        expected = tasks[-1].segment + 1 if isinstance(reader, VideoReader) else None
        goes_on_s = reader.segment_bounds(_first_due(reader, kept, settings))[0] if kept else None
        told = work.video.title, kept, expected, reader.info.duration_s, work.parts.key, goes_on_s
        self._on_event(Begun(*told, images=isinstance(reader, ImageReader)))
        try:
            if workers > 1 and isinstance(reader, VideoReader):
                reports = analyze_in_processes(
                    WorkerJob(reader.path, work.video.video_id, settings, work.parts),
                    tasks,
                    workers=workers,
                    on_message=progress.tell,
                    stop=self._stop,
                    stages=work.stages,
                )
                report = joined_report(reader.path, reports)
            else:
                self._read_here(work, kept, progress)
                report = reader.report()
            if report.last_s is None and kept:  # it ends before it says: what is kept is its end
                for _ in not_kept(reader.samples(reader.segment_bounds(kept[-1])[0]), kept):
                    pass
                report = reader.report()
            if isinstance(reader, ImageReader) and kept:
                report = reader.report_on(set(work.parts.collect().samples["segment"]))
        except MediaError:
            work.parts.clear()  # trying again would end the same way
            raise
        log.info("%s: %d samples, %d faces", work.video.video_id, progress.samples, progress.faces)
        return report

    def _read_here(self, work: _Work, kept: Sequence[int], progress: _Progress) -> None:
        reader, models, parts, stages = work.reader, work.models, work.parts, work.stages
        due = _first_due(reader, kept, work.settings)
        samples = reader.samples(reader.segment_bounds(due)[0]) if due else reader.samples()

        def announce(time_s: float, faces: Faces) -> None:
            progress.tell((0, time_s, len(faces)))

        previewer = None
        if self._on_preview is not None:
            previewer = Previewer(work.video.title, work.settings, models.calibration, self._on_preview)
        wanted = stages.each("decode", not_kept(samples, kept))
        with contextlib.closing(read_ahead(wanted, READ_AHEAD)) as ahead:
            results = analyze_segments(
                ahead,
                models,
                work.settings,
                on_progress=announce,
                on_sample=None if previewer is None else previewer.on_sample,
                stages=stages,
            )
            with contextlib.closing(results):
                for result in results:
                    if previewer is not None:
                        previewer.on_segment(result)
                    with stages("write"):
                        for segment in range(max(due, result.segment - _EMPTY_KEPT), result.segment):
                            if segment not in kept:
                                progress.tell(parts.commit_empty(segment))
                        progress.tell(parts.commit(result, work.video.video_id))
                    give_back_memory()  # else a long video would need more than a short one
                    due = result.segment + 1
                    if self._stop():
                        raise stopped()

    def _render(self, video: Video, settings: Settings, staging: Path, run: Run) -> dict[str, Any]:
        # Late: drawing's libraries are not needed for tables alone.
        from analyzer.output.annotated import render_images, render_video

        def announce(share: float) -> None:
            self._on_event(Rendering(video.title, share))
            if share < 1 and self._stop():
                raise stopped()

        drawn: dict[str, Any] = {"faces": run.faces, "people": run.people, "samples": run.samples}
        with _open_reader(video, settings) as reader:
            if isinstance(reader, ImageReader):
                pictures = render_images(
                    reader, staging / "annotated", **drawn, settings=settings, on_progress=announce
                )
                return {"file": "annotated", "images": len(pictures)}
            result = render_video(
                reader,
                staging / "annotated.mp4",
                **drawn,
                settings=settings,
                audio_path=video.audio_path,
                on_progress=announce,
            )
        return {
            "file": result.path.name,
            "frames": result.frames,
            "width": result.width,
            "height": result.height,
            "audio": result.audio,
        }


def _open_reader(video: Video, settings: Settings) -> Reader:
    if video.kind is MediaKind.IMAGES:
        return ImageReader(video.paths, settings)
    return VideoReader(video.paths[0], settings)


def _not_drawn(why: str) -> dict[str, Any]:
    return {"file": None, "error": why}


def _without_video(folder: Path, video: Video, hashes: dict[str, str]) -> Run | None:
    """The run of this very work whose tables are published, while its annotated video is missing."""
    try:
        run = Run.load(folder)
    except OutputError:
        return None
    if not run.video_error or run.info["video_id"] != video.video_id:
        return None
    # Behind a plain address may be another video today.
    if run.info["source_details"].get("fingerprint") != video.details.get("fingerprint"):
        return None
    documents: list[Mapping[str, Any]] = [run.info, run.info.get("annotated") or {}]
    asked = [one for one in documents if all(one.get(key) for key in hashes)]
    same = any(all(one[key] == value for key, value in hashes.items()) for one in asked)
    return run if same and run.info["schema_version"] == SCHEMA_VERSION else None


def _remove_abandoned_downloads(out: Path) -> None:
    """Remove what processes that were killed have left; those of living ones are locked."""
    for folder in out.glob(f"{_DOWNLOAD}*"):
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            locked(folder, stack)
            shutil.rmtree(folder, ignore_errors=True)


def _keep_download(video: Video, folder: Path) -> list[str]:
    kept = []
    for path in (*video.paths, *([video.audio_path] if video.audio_path else [])):
        target = folder / f"download-{path.name}"
        path.replace(target)
        kept.append(target.name)
    return kept
