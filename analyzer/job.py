"""The analysis of one video, from its file or stream to the published run."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analyzer.analysis.budget import choose_sampling
from analyzer.analysis.segment import Models
from analyzer.errors import AnalyzerError, MediaError, OutputError, StoppedError, unexpected
from analyzer.events import (
    OnEvent,
    Opened,
    Progress,
    Rendering,
    ReportsRemoved,
    SamplingChosen,
    SegmentCommitted,
    ignore,
)
from analyzer.live.run import run_live
from analyzer.media.arrays import ArrayReader
from analyzer.media.images import ImageReader
from analyzer.media.read_report import ReadReport, joined_report
from analyzer.media.reader import VideoReader
from analyzer.output.preview import OnPreview, Previewer
from analyzer.runs.corrections import read_corrections
from analyzer.runs.derive import (
    derive,
    prepare,
    same_analysis,
    table_files,
    work_key,
    write_spreadsheet,
    write_tables,
)
from analyzer.runs.folders import run_folder
from analyzer.runs.pool import analyze_in_processes, worker_count
from analyzer.runs.provenance import run_info
from analyzer.runs.run import Run, keep_download, publish, undrawn_run
from analyzer.runs.segments import Part, PartStore
from analyzer.runs.stretch import Message, Reader, Stretch, WorkerJob, analyze_stretch
from analyzer.runs.tables import write_json
from analyzer.settings import Settings
from analyzer.sources.types import JSON, MediaKind, Video
from analyzer.util.callbacks import Callback
from analyzer.util.cancellation import Cancellation, never
from analyzer.util.locks import run_lock
from analyzer.util.system import give_back_memory
from analyzer.util.timing import StageTimer, timed
from analyzer.vision.selection import models_hash

__all__ = [
    "VideoAnalyzer",
    "finished_run",
]

log = logging.getLogger(__name__)

_UNFINISHED = "it was not finished: run the same command again"

_MAX_STRETCHES = 10_000
"""A declared length is believed up to this many segments; the rest is one stretch."""


@dataclass
class _Work:
    """A video being analyzed."""

    job_id: str
    video: Video
    settings: Settings
    reader: Reader
    models: Models
    parts: PartStore
    stages: StageTimer
    timings: dict[str, float]
    resumed: int = 0
    """Segments committed by an earlier, interrupted analysis."""

    def accounts(self) -> dict[str, Any]:
        """How the work was done, for ``run.json``."""
        return {
            "resumed_segments": self.resumed,
            "timings_s": {name: round(value, 3) for name, value in self.timings.items()},
            "stages_s": {name: round(value, 3) for name, value in self.stages.seconds.items()},
        }


class _ProgressReporter:
    """Adds up what all processes have done, and emits it as events.

    `duration_s`: length of what they have to do, in seconds; None: unknown. `derives`: whether tables of the
    whole video follow.
    """

    def __init__(self, work: _Work, on_event: OnEvent, duration_s: float | None, *, derives: bool) -> None:
        self._job = work.job_id, work.video.title
        self._duration_s = duration_s
        self._on_event = on_event
        self._reader = work.reader
        self._images = isinstance(work.reader, ImageReader)
        self._derives = derives
        self._done_s: dict[int, float] = {}
        self.samples = self.faces = 0

    def report(self, message: Message) -> None:
        """Emit the event of a process's message."""
        if isinstance(message, Part):
            part = message
            counts = part.segment, part.samples, part.faces, part.size_bytes
            self._on_event(SegmentCommitted(*self._job, *counts))
            return
        first, time_s, faces = message
        self._done_s[first] = time_s - self._reader.segment_bounds(first)[0]
        self.samples += 1
        if faces and not self.faces and self._derives and not self._images:
            prepare()  # the next samples are read meanwhile
        self.faces += faces
        done_s = sum(self._done_s.values())
        self._on_event(Progress(*self._job, done_s, self._duration_s, self.samples, self.faces, self._images))


def _ends(reader: Reader, settings: Settings) -> list[float]:
    """Where the video or the stretch asked for ends, in seconds, as far as known."""
    declared_s = _finite(reader.info.duration_s)
    return [end for end in (settings.stop_s, declared_s) if end is not None]


def _finite(seconds: float | None) -> float | None:
    """A declared duration, if it is one: containers are untrusted."""
    return seconds if seconds is not None and math.isfinite(seconds) and seconds >= 0 else None


def _last_segment(reader: Reader, settings: Settings) -> int:
    """The segment that the video ends in, as far as the container declares; later ones are read with it."""
    last = 0
    if isinstance(reader, VideoReader):
        end_s = min(_ends(reader, settings), default=0.0)
        while last < _MAX_STRETCHES and reader.segment_bounds(last)[1] < end_s:
            last += 1
    return last


def _first_due(reader: Reader, completed: Sequence[int], settings: Settings) -> int:
    """Where one process begins to read: at the first missing segment.

    Only reading its end shows how a video ends: where nothing may follow, the last committed segment is read
    again.
    """
    missing = next(number for number in itertools.count() if number not in completed)
    if reader.segment_bounds(missing)[0] < min(_ends(reader, settings), default=0.0):
        return missing
    return min(missing, max(completed, default=0))


def finished_run(
    out: Path, title: str, video_id: str, settings: Settings, fingerprint: JSON = None
) -> Run | None:
    """The run of a video in `out`, if it is complete and of the very same analysis; else None.

    Complete means that the video was read to its end and that all outputs `settings` asks for are there.

    Args:
        out: Folder of runs.
        title: Of the video; it may have had another one.
        video_id: Its identity.
        settings: How it would be analyzed.
        fingerprint: Of a download, to be compared with that of the run; None: not compared.
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


class VideoAnalyzer:
    """Analyzes videos that are on disk, or live, one after another with the models loaded once.

    Args:
        settings: How to analyze.
        on_event: Called with each event of a video.
        cancelled: Asked some times a second, also from other threads; once true, `analyze` raises
            `StoppedError` (a live source ends as if it had ended by itself).
        again: Whether to analyze anew a video of whose run only the annotated video is missing.
        on_preview: Called in this thread with each sample in which faces were detected.
    """

    def __init__(
        self,
        settings: Settings,
        on_event: OnEvent = ignore,
        *,
        cancelled: Callable[[], bool] = never,
        again: bool = False,
        on_preview: OnPreview | None = None,
    ) -> None:
        self._settings = settings
        self._again = again
        self._on_preview = on_preview
        self._on_event = Callback(on_event)
        self._cancelled = cancelled
        self._cancellation = Cancellation(cancelled)
        self._models: Models | None = None

    def with_settings(self, settings: Settings) -> VideoAnalyzer:
        """One with other settings that name the same models, which are loaded now and shared."""
        other = VideoAnalyzer(
            settings,
            self._on_event,
            cancelled=self._cancelled,
            again=self._again,
            on_preview=self._on_preview,
        )
        other._models = self.load()
        return other

    def load(self, timings: dict[str, float] | None = None) -> Models:
        """Load the models, unless they are loaded.

        Raises:
            ModelError: A model is missing or damaged.
        """
        with timed({} if timings is None else timings, "models"):
            if self._models is None:
                self._models = Models.load(self._settings)
                give_back_memory()
            return self._models

    def analyze(
        self,
        video: Video,
        out: Path,
        timings: dict[str, float] | None = None,
        *,
        job_id: str = "",
        frames: ArrayReader | None = None,
    ) -> Run:
        """Analyze a video and publish its run in a folder of `out`.

        Args:
            video: From a `Fetcher`.
            out: An existing folder.
            timings: Seconds of earlier steps, for ``run.json``; those of this one are added.
            job_id: Of the events.
            frames: The video's frames, where a program passes them in.

        Raises:
            MediaError: It is not a video, or cannot be read.
            ModelError: A model is missing or damaged.
            OutputError: Results cannot be written, or another process works on the same video.
            CrashError: A worker process died.
            StoppedError: The analysis was canceled; committed segments are kept.
            BaseException: Whatever `on_event` and `cancelled` raise.
        """
        timings = {} if timings is None else timings
        self._on_event.forget()
        self._cancellation = Cancellation(self._cancelled)
        models = self.load(None if "models" in timings else timings)
        if video.kind is MediaKind.LIVE:
            return run_live(
                video,
                out,
                self._settings,
                models,
                job_id=job_id,
                on_event=self._on_event,
                cancelled=self._cancellation,
                timings=timings,
                on_preview=self._on_preview,
            )
        folder = run_folder(out, video.title, video.video_id)
        hashes = {"settings_hash": self._settings.result_hash(), "models_hash": models.models_hash}
        run = None if self._again or frames is not None else undrawn_run(folder, video, hashes)
        if run is not None:
            with run_lock(folder) as staging:
                run = self._draw(job_id, video, run, Settings(**run.info["settings"]), staging, hashes)
                PartStore(folder, work_key(video, self._settings, models)).clear()
                return run
        settings, budget = self._within_budget(job_id, video, models, timings, seekable=frames is None)
        parts, stages = PartStore(folder, work_key(video, settings, models)), StageTimer()
        opened = time.perf_counter()
        with contextlib.ExitStack() as stack:
            reader: Reader = frames or _open_reader(video, settings)
            stack.enter_context(reader)
            staging = stack.enter_context(run_lock(folder))
            if frames is not None:  # they cannot be read twice, so what an interruption leaves is of no use
                parts.clear()
                stack.callback(parts.clear)
            work = _Work(job_id, video, settings, reader, models, parts, stages, timings)
            report = self._read(work)
            give_back_memory()
            run = self._publish(work, report, folder, staging, hashes, opened, budget)
            if settings.video:
                run = self._draw(job_id, video, run, settings, staging, hashes)
            parts.clear()
            return run

    def _publish(  # noqa: PLR0917
        self,
        work: _Work,
        report: ReadReport,
        folder: Path,
        staging: Path,
        hashes: dict[str, str],
        opened: float,
        budget: str | None,
    ) -> Run:
        """Derive the tables from the segments and publish them with ``run.json``."""
        video, settings, models, read = work.video, work.settings, work.models, (work.reader.info, report)
        timings, stages = work.timings, work.stages
        with timed(timings, "link"), stages("link"):
            made = read_corrections(folder)
            tables = derive(video, work.parts, read, settings, models.calibration, made)
        with stages("write"):
            write_tables(staging, tables, settings)
        timings["analysis"] = time.perf_counter() - opened
        info: dict[str, Any] = {**run_info(video, settings, models, tables, read)}
        # Of the settings as they were given: a batch recognizes its work by them.
        info |= hashes
        info["budget"], info["annotated"] = budget, None
        info |= work.accounts()
        if settings.video:
            # The tables are published first, so that no failure of the rendering costs them.
            info["annotated"] = _not_drawn(_UNFINISHED) | hashes
            info |= dict.fromkeys(hashes)
        elif settings.keep_download and video.fetched:
            info["download"] = keep_download(video, folder)
        write_spreadsheet(staging, tables, settings, info)
        write_json(staging / "run.json", info)
        removed = publish(staging, folder)
        if removed:
            self._on_event(ReportsRemoved(work.job_id, video.title, str(folder), removed))
        return Run(folder, json.loads(json.dumps(info, default=str)))

    def _draw(  # noqa: PLR0917
        self, job_id: str, video: Video, run: Run, settings: Settings, staging: Path, hashes: dict[str, str]
    ) -> Run:
        """Add the annotated video to a run whose tables are published, or why there is none.

        Raises:
            OutputError: No space is left: with some, the same command renders the video.
            StoppedError: The analysis was canceled: the same command renders the video.
        """
        try:
            return self._drawn(job_id, video, run, settings, staging, hashes)
        except OutputError as error:
            if not error.no_space:
                raise
            what = "images" if video.kind is MediaKind.IMAGES else "video"
            raise OutputError(
                f"no space is left for the annotated {what}: the tables are complete in {run.folder}; free "
                f"some space and run the same command again, which only draws the {what}, or add --no-video",
                no_space=True,
                published=str(run.folder),
            ) from error

    def _drawn(  # noqa: PLR0917
        self, job_id: str, video: Video, run: Run, settings: Settings, staging: Path, hashes: dict[str, str]
    ) -> Run:
        timings, stages, problem = dict[str, float](), StageTimer(), None
        try:
            with timed(timings, "render"), stages("render"):
                annotated = self._render(job_id, video, settings, staging, run)
        except (StoppedError, MemoryError):
            raise
        except AnalyzerError as error:
            self._reraise()
            if isinstance(error, OutputError) and error.no_space:
                raise
            problem = error
        except Exception as error:  # noqa: BLE001 - whatever it is, the tables are published
            self._reraise()
            problem = unexpected(error)
        drawn = _not_drawn(str(problem)) if problem else annotated
        info: dict[str, Any] = {**run.info, **hashes, "annotated": drawn}
        info["timings_s"] |= {name: round(value, 3) for name, value in timings.items()}
        info["stages_s"] |= {name: round(value, 3) for name, value in stages.seconds.items()}
        if settings.keep_download and video.fetched:
            info["download"] = keep_download(video, run.folder)
        write_json(staging / "run.json", info)
        publish(staging, run.folder, grows=True)
        return Run(run.folder, json.loads(json.dumps(info, default=str)))

    def _reraise(self) -> None:
        """Raise what a caller's function has raised, whatever has become of it on the way."""
        self._on_event.reraise()
        self._cancellation.reraise()

    def _within_budget(
        self, job_id: str, video: Video, models: Models, timings: dict[str, float], *, seekable: bool
    ) -> tuple[Settings, str | None]:
        """The settings for a video, and what was chosen to fit its budget, in words."""
        settings = self._settings
        if settings.budget is None or video.kind is MediaKind.IMAGES:
            return settings, None
        end_s = None
        if seekable:
            with _open_reader(video, settings) as reader:
                end_s = min(_ends(reader, settings), default=None)
        if end_s is None or end_s <= settings.start_s:
            words, fits = "the length of the video is unknown, so the budget is not applied", False
            settings = settings if seekable else settings.replace(budget=None)
        else:
            with timed(timings, "budget"):
                choice = choose_sampling(video.paths[0], end_s - settings.start_s, settings, models)
            settings, words, fits = choice.settings, choice.in_words(), choice.fits
        self._on_event(SamplingChosen(job_id, video.title, words, fits))
        return settings, words

    def commit_segments(
        self, video: Video, out: Path, segments: tuple[int, int], *, job_id: str = ""
    ) -> None:
        """Analyze some segments of a video and commit them; publish nothing.

        `analyze` uses them later. Those that are committed already are left as they are. The events are those
        of `analyze`.

        Args:
            video: From a `Fetcher`; a video file.
            out: An existing folder.
            segments: From the first to before the second, which is at most the segment that the video ends
                in: only `analyze` reads its end. If both are the same, the video is only opened.
            job_id: Of the events.

        Raises:
            ValueError: The settings have a budget, the source has no such segments, or they reach too far.
            AnalyzerError: As `analyze`.
            BaseException: Whatever `on_event` and `cancelled` raise.
        """
        first, stop = segments
        if self._settings.budget is not None or video.kind is MediaKind.LIVE or not 0 <= first <= stop:
            raise ValueError(f"segments {first} to {stop} cannot be analyzed alone")
        self._on_event.forget()
        self._cancellation = Cancellation(self._cancelled)
        models = self.load()
        folder = run_folder(out, video.title, video.video_id)
        parts = PartStore(folder, work_key(video, self._settings, models))
        with _open_reader(video, self._settings) as reader, run_lock(folder):
            work = _Work(job_id, video, self._settings, reader, models, parts, StageTimer(), {})
            completed = self._opened(work)
            if stop > (_last_segment(reader, self._settings) if isinstance(reader, VideoReader) else 0):
                raise ValueError(f"segments {first} to {stop} reach the end of the video")
            missing = [segment for segment in range(first, stop) if segment not in completed]
            length_s = sum(end - start for start, end in map(reader.segment_bounds, missing))
            progress = _ProgressReporter(work, self._on_event, length_s, derives=False)
            try:
                for stretch in _stretches(missing):
                    self._analyze_here(work, stretch, progress)
            except MediaError:
                parts.clear()  # another attempt would end the same way
                raise

    def _opened(self, work: _Work) -> tuple[int, ...]:
        """Emit that the video is open; returns the committed segments."""
        reader, completed = work.reader, tuple(work.parts.segments())
        due = _first_due(reader, completed, work.settings)
        last = _last_segment(reader, work.settings)
        self._on_event(
            Opened(
                work.job_id,
                work.video.title,
                _finite(reader.info.duration_s),
                segments=last + 1 if isinstance(reader, VideoReader) else None,
                completed=completed,
                segments_key=work.parts.key,
                resumes_at_s=reader.segment_bounds(due)[0] if completed else None,
                images=isinstance(reader, ImageReader),
            )
        )
        return completed

    def _read(self, work: _Work) -> ReadReport:
        """Analyze what is not committed yet; returns how the video was read."""
        reader, settings = work.reader, work.settings
        end_s = min(_ends(reader, settings), default=None)
        duration_s = None if end_s is None else max(0.0, end_s - settings.start_s)
        progress = _ProgressReporter(work, self._on_event, duration_s, derives=True)
        completed = self._opened(work)
        work.resumed = len(completed)
        last = _last_segment(reader, settings)
        stretches = [Stretch(one, one + 1) for one in range(last) if one not in completed]
        stretches.append(Stretch(last, None, tuple(one for one in completed if one >= last)))
        workers = 1 if self._on_preview is not None else worker_count(settings, len(stretches))
        try:
            if workers > 1 and isinstance(reader, VideoReader):
                report = analyze_in_processes(
                    reader.path,
                    WorkerJob(work.video.video_id, settings, work.parts),
                    stretches,
                    workers=workers,
                    on_message=progress.report,
                    cancelled=self._cancellation,
                    stages=work.stages,
                )
            else:
                due = _first_due(reader, completed, settings)
                self._analyze_here(work, Stretch(due, None, completed), progress)
                report = reader.report()
                if isinstance(reader, VideoReader):
                    report = reader.report_without(work.parts.segments())
            if isinstance(reader, VideoReader):
                # Each part says how its segment was read, perhaps by an earlier analysis or elsewhere.
                report = joined_report(reader.path, [*work.parts.read_reports(), report])
            elif isinstance(reader, ImageReader) and completed:
                report = reader.report_on(set(work.parts.collect().samples["segment"]))
        except MediaError:
            work.parts.clear()  # another attempt would end the same way
            raise
        log.info("%s: %d samples, %d faces", work.video.video_id, progress.samples, progress.faces)
        return report

    def _analyze_here(self, work: _Work, stretch: Stretch, progress: _ProgressReporter) -> None:
        """Analyze in this process."""
        previewer = None
        if self._on_preview is not None:
            previewer = Previewer(work.video.title, work.settings, work.models, self._on_preview)
        analyze_stretch(
            stretch,
            work.reader,
            work.models,
            WorkerJob(work.video.video_id, work.settings, work.parts),
            progress.report,
            self._cancellation,
            work.stages,
            on_sample=None if previewer is None else previewer.on_sample,
        )

    def _render(
        self, job_id: str, video: Video, settings: Settings, staging: Path, run: Run
    ) -> dict[str, Any]:
        # Late: tables alone do not need the libraries that render.
        from analyzer.output.annotated import render_images, render_video

        def report_rendering(fraction: float) -> None:
            self._on_event(Rendering(job_id, video.title, fraction))
            if fraction < 1:
                self._cancellation.check()

        drawn: dict[str, Any] = {"faces": run.faces, "people": run.people, "samples": run.samples}
        with _open_reader(video, settings) as reader:
            if isinstance(reader, ImageReader):
                images = render_images(
                    reader, staging / "annotated", **drawn, settings=settings, on_progress=report_rendering
                )
                return {"file": "annotated", "images": len(images)}
            result = render_video(
                reader,
                staging / "annotated.mp4",
                **drawn,
                settings=settings,
                audio_path=video.audio_path,
                on_progress=report_rendering,
            )
        return {
            "file": result.path.name,
            "frames": result.frames,
            "width": result.width,
            "height": result.height,
            "audio": result.audio,
        }


def _stretches(segments: Sequence[int]) -> list[Stretch]:
    """Segments, ascending, as stretches of neighbors."""
    stretches: list[Stretch] = []
    for segment in segments:
        if stretches and stretches[-1].stop == segment:
            stretches[-1] = Stretch(stretches[-1].first, segment + 1)
        else:
            stretches.append(Stretch(segment, segment + 1))
    return stretches


def _open_reader(video: Video, settings: Settings) -> VideoReader | ImageReader:
    if video.kind is MediaKind.IMAGES:
        return ImageReader(video.paths, settings)
    return VideoReader(video.paths[0], settings)


def _not_drawn(why: str) -> dict[str, Any]:
    return {"file": None, "error": why}
