"""The analysis of a live source, which is published while it runs.

Each segment is committed as a part when it ends. At each publication the tables are derived anew from all
parts, in a separate thread, and so rarely that it takes at most `_PUBLISHING_SHARE` of the time: every few
seconds at first, every few minutes after many hours. If the process is killed, the next analysis into the
same folder finishes the run from its parts.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import re
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from analyzer.analysis.segment import Models, SegmentResult, analyze_segments
from analyzer.errors import AnalyzerError, MediaError, MediaErrorKind, OutputError
from analyzer.events import LiveProgress, LiveStarted, OnEvent, SamplingChosen, SegmentCommitted, VisibleFace
from analyzer.faces import Faces
from analyzer.live.compaction import CompactingStore
from analyzer.live.connections import Connect, connect
from analyzer.live.reader import SEGMENT_S, LiveReader
from analyzer.media.demuxer import VideoInfo
from analyzer.media.read_report import ReadReport
from analyzer.output.preview import OnPreview, Previewer
from analyzer.runs.corrections import read_corrections
from analyzer.runs.derive import Tables, derive, work_key, write_spreadsheet, write_tables
from analyzer.runs.folders import run_folder
from analyzer.runs.provenance import run_info, table_facts
from analyzer.runs.run import Run, publish
from analyzer.runs.run_info import LiveFacts, RunInfo
from analyzer.runs.segments import Part
from analyzer.runs.tables import write_json
from analyzer.settings import Settings
from analyzer.sources.types import MediaKind, Video
from analyzer.util.atomic import output_errors
from analyzer.util.locks import run_lock
from analyzer.util.system import give_back_memory
from analyzer.util.timing import StageTimer, timed
from analyzer.vision.calibration import Calibration

__all__ = [
    "finish_abandoned",
    "run_live",
]

log = logging.getLogger(__name__)

_PUBLISHING_SHARE = 0.05

_LEAST_S = 10.0
"""Between two publications."""

_WAITING_EVERY_S = 0.5
"""How often `LiveProgress` is emitted while no frames arrive."""

_INTERRUPTED = "the analysis was interrupted"

_LIVE_NAME = re.compile(r"(?:^|-)live-[0-9a-f]{12}-[0-9]{8}T[0-9]{6}Z$")
"""Ends the name of a live run's folder. The title of a file may contain the word, and its parts are kept."""


@dataclass
class _Live:
    """A live source being analyzed."""

    video: Video
    asked: Settings
    settings: Settings
    models: Models
    reader: LiveReader
    previewer: Previewer
    folder: Path
    staging: Path
    parts: CompactingStore
    job_id: str
    on_event: OnEvent
    timings: dict[str, float]
    stages: StageTimer = field(default_factory=StageTimer)
    samples: int = 0
    faces: int = 0
    people: int = 0
    """As of the last publication."""
    _waiting_at: float = 0.0
    _begun: bool = False

    def report(self, time_s: float, faces: Faces | None = None) -> None:
        """Emit `LiveProgress`, after a sample if `faces` is given."""
        if faces is not None:
            self.samples += 1
            self.faces += len(faces)
        state = self.reader.state
        self.on_event(
            LiveProgress(
                self.job_id,
                self.video.title,
                time_s,
                samples=self.samples,
                faces=self.faces,
                people=self.people,
                dropped=state.dropped,
                gaps=state.gap_count,
                connected=state.connected,
                visible=self._visible() if faces is not None or state.connected else (),
            )
        )

    def _visible(self) -> tuple[VisibleFace, ...]:
        faces = self.previewer.faces
        ages = [None if math.isnan(age) else round(age, 1) for age in faces.age_years.tolist()]
        known = zip(faces.track_ids.tolist(), self.previewer.genders(), ages, strict=True)
        return tuple(VisibleFace(*one) for one in known)

    def report_waiting(self) -> None:
        """Emit `LiveProgress` now and then while nothing arrives."""
        if time.monotonic() - self._waiting_at > _WAITING_EVERY_S:
            self._waiting_at = time.monotonic()
            self.report(self.reader.elapsed_s)

    def publish(self, *, final: bool = False) -> dict[str, Any]:
        """Derive and publish tables from all committed segments; return ``run.json``.

        Only the `final` one says that the run has ended: before it, segments may be missing although the
        source has ended.
        """
        reader, settings = self.reader, self.settings
        with self.stages("write"):
            self.parts.compact()
        read = reader.info, reader.report(over=final)
        with timed(self.timings, "link"), self.stages("link"):
            made = read_corrections(self.folder)
            tables = derive(self.video, self.parts, read, settings, self.models.calibration, made)
        with self.stages("write"):
            write_tables(self.staging, tables, settings)
        info = self._info(tables, read, over=final)
        if final:
            write_spreadsheet(self.staging, tables, settings, info)
        write_json(self.staging / "run.json", info)
        publish(self.staging, self.folder, grows=True)
        self.people = len(tables.people)
        return info

    def commit(self, result: SegmentResult) -> Part:
        """Commit a finished segment; before the first one, what another process needs to finish the run.

        Raises:
            OutputError: It cannot be written.
        """
        begun = self.parts.folder / "run.json"
        if not self._begun:
            with output_errors(begun):
                self.parts.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            read = self.reader.info, self.reader.report(over=False)
            write_json(begun, self._info(None, read, over=False))
            self._begun = True
        return self.parts.commit(result, self.video.video_id, self.reader.received())

    def _info(
        self, tables: Tables | None, read: tuple[VideoInfo, ReadReport], *, over: bool
    ) -> dict[str, Any]:
        info: dict[str, Any] = {**run_info(self.video, self.settings, self.models, tables, read)}
        info |= {
            "settings_hash": self.asked.result_hash(),
            "models_hash": self.models.models_hash,
            "live": self.reader.account(over=over) | {"parts": self.parts.key},
            "budget": None,
            "annotated": None,
            "resumed_segments": 0,
            "timings_s": {name: round(value, 3) for name, value in self.timings.items()},
            "stages_s": {name: round(value, 3) for name, value in self.stages.seconds.items()},
        }
        info["reading"]["clock_jumps"] = self.reader.clock_jumps  # those that are listed are the last ones
        return info


class _Publisher:
    """Publishes in a thread, and not too often."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="publish")
        self._running: Future[float] | None = None
        self._due_at = 0.0

    def _timed_work(self) -> float:
        start = time.monotonic()
        self._work()
        return time.monotonic() - start

    def publish_if_due(self) -> None:
        """Begin to publish if it is time and nothing is being published.

        Raises:
            OutputError: The previous publication could not be written.
        """
        self._settle(wait=False)
        if self._running is None and time.monotonic() >= self._due_at:
            self._running = self._pool.submit(self._timed_work)

    def finish(self) -> None:
        """Wait until nothing is being published.

        Raises:
            OutputError: The publication could not be written.
        """
        self._settle(wait=True)

    def _settle(self, *, wait: bool) -> None:
        if self._running is not None and (wait or self._running.done()):
            running, self._running = self._running, None
            took_s = running.result()
            self._due_at = time.monotonic() + max(_LEAST_S - took_s, took_s / _PUBLISHING_SHARE)

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown(wait=True)


def run_live(
    video: Video,
    out: Path,
    settings: Settings,
    models: Models,
    *,
    job_id: str = "",
    on_event: OnEvent,
    cancelled: Callable[[], bool],
    timings: dict[str, float],
    on_preview: OnPreview | None = None,
    connect: Connect = connect,
) -> Run:
    """Analyze a live source until it ends, `cancelled` returns true, or the requested duration is reached.

    Args:
        video: From a `Fetcher`, with a `stream`.
        out: An existing folder.
        settings: How to analyze; no annotated video is made.
        models: Loaded models.
        job_id: Of the events.
        on_event: Called with each event.
        cancelled: Asked some times a second; once true, the run ends as if the source had ended.
        timings: Seconds of earlier steps, for ``run.json``.
        on_preview: Called with each sample in which faces were detected.
        connect: Makes connections to the source.

    Raises:
        SourceError: No frame arrives.
        MediaError: There was not one sample.
        ModelError: A model failed.
        OutputError: Results cannot be written.
    """
    stream = video.stream
    assert stream is not None  # the caller has checked
    if settings.budget is not None:
        words = "a live source has no length, so the budget is not applied"
        on_event(SamplingChosen(job_id, video.title, words, fits=False))
    chosen = settings.replace(
        segment_s=min(settings.segment_s, SEGMENT_S), video=False, blur=False, budget=None
    )
    folder = run_folder(out, video.title, video.video_id)
    parts = CompactingStore(folder, work_key(video, chosen, models))
    opened = time.perf_counter()
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(
            LiveReader(stream, chosen, name=video.source, cancelled=cancelled, connect=connect)
        )
        staging = stack.enter_context(run_lock(folder))
        previewer = Previewer(video.title, chosen, models, on_preview)
        live = _Live(
            *(video, settings, chosen, models, reader, previewer, folder, staging, parts),
            *(job_id, on_event, timings),
        )
        on_event(LiveStarted(job_id, video.title, chosen.stop_s, settings.video))
        publisher = _Publisher(live.publish)
        stack.callback(publisher.close)
        for event in _analyzed(live):
            on_event(event)
            publisher.publish_if_due()
        publisher.finish()
        timings["analysis"] = time.perf_counter() - opened
        if not live.samples:
            raise MediaError(
                f"{video.title} ended before --start: nothing was analyzed", kind=MediaErrorKind.NO_FRAMES
            )
        info = live.publish(final=True)
        live.parts.clear()
    log.info("%s: %d samples, %d faces", video.video_id, live.samples, live.faces)
    return Run(folder, json.loads(json.dumps(info, default=str)))


def _analyzed(live: _Live) -> Iterator[SegmentCommitted]:
    """Analyze and commit one segment after another."""
    reader = live.reader
    for samples in reader.segments(on_wait=live.report_waiting):
        results = analyze_segments(
            samples,
            live.models,
            live.settings,
            on_progress=live.report,
            on_sample=live.previewer.on_sample,
            stages=live.stages,
        )
        with contextlib.closing(results):
            for result in results:
                with live.stages("write"):
                    part = live.commit(result)
                counts = part.segment, part.samples, part.faces, part.size_bytes
                yield SegmentCommitted(live.job_id, live.video.title, *counts)
        give_back_memory()  # else a long run would need more than a short one


def finish_abandoned(out: Path) -> list[Path]:
    """Finish from their parts the live runs in a folder whose processes were killed.

    Runs that are still running, damaged, or of another version stay as they are.

    Returns:
        The folders of the runs that were finished.
    """
    finished: list[Path] = []
    if find_spec("fcntl") is None:
        return finished  # without locks, a running analysis looks like one that was killed
    for hidden in sorted(out.glob("*live-*/.parts")):
        folder = hidden.parent
        if not _LIVE_NAME.search(folder.name):
            continue
        try:
            with run_lock(folder) as staging:
                if hidden.is_dir() and _finish(folder, staging):
                    finished.append(folder)
        except (AnalyzerError, KeyError, TypeError, ValueError, OSError) as error:
            if not isinstance(error, OutputError):  # as a rule it is in use
                log.warning("%s cannot be finished: %s", folder, error)
    return finished


def _key_of(live: LiveFacts) -> str:
    # It becomes part of paths that are removed, and the file may come from anywhere.
    key = live["parts"]
    if not isinstance(key, str) or not re.fullmatch(r"[0-9a-f]{16}", key):
        raise ValueError("its run.json is damaged")
    return key


def _finish(folder: Path, staging: Path) -> bool:
    """Finish a run from its parts, and remove them; return whether there was something to finish."""
    published, hidden = (folder / "run.json").exists(), folder / ".parts"
    begun = hidden / "run.json"
    if not published and not begun.exists():
        shutil.rmtree(hidden, ignore_errors=True)  # it is unknown what they are, and they hold embeddings
        return False
    info = Run.load(folder if published else hidden).info
    live = info["live"]
    if not isinstance(live, dict):
        return False
    parts = CompactingStore(folder, _key_of(live))
    samples = len(parts.collect().samples)
    if samples and (live["ended_at"] is None or samples > info["counts"]["samples"]):
        _publish_parts(info, parts, staging, folder)
        published = True
    shutil.rmtree(hidden, ignore_errors=True)
    return published


def _publish_parts(info: RunInfo, parts: CompactingStore, staging: Path, folder: Path) -> None:
    settings = Settings(**info["settings"])
    calibration = Calibration.of_run(info)
    made = read_corrections(folder)
    tables = derive(_video_of(info), parts, _read_of(info), settings, calibration, made)
    write_tables(staging, tables, settings)
    info = cast(RunInfo, {**info, **table_facts(tables, settings)})
    info["complete"], info["incomplete_reason"] = False, _INTERRUPTED
    if info["live"] is not None:
        _set_end(info["live"], tables)
    info["reading"]["last_s"] = float(tables.samples["time_s"].iloc[-1])
    write_spreadsheet(staging, tables, settings, info)
    write_json(staging / "run.json", info)
    publish(staging, folder, grows=True)


def _set_end(live: LiveFacts, tables: Tables) -> None:
    samples = tables.samples
    live["ended_at"] = samples["clock"].iloc[-1].isoformat(timespec="milliseconds")
    live["ended_because"] = _INTERRUPTED
    live["dropped"] = int(samples["dropped"].sum())
    live["gaps"] = int((samples["gap_s"] > 0).sum())
    live["gaps_s"] = round(float(samples["gap_s"].sum()), 3)


def _read_of(info: RunInfo) -> tuple[VideoInfo, ReadReport]:
    facts, reading = info["video"], info["reading"]
    video = VideoInfo(
        width=facts["width"],
        height=facts["height"],
        duration_s=None,
        fps=None,
        codec=facts["codec"],
        container=facts["container"],
        pix_fmt=None,
        audio_codec=None,
    )
    bad, frames = reading["bad_packets"], reading["frames_decoded"]
    return video, ReadReport(frames, bad, frames + bad, 0, reading["last_s"], False, _INTERRUPTED)


def _video_of(info: RunInfo) -> Video:
    return Video(
        video_id=info["video_id"],
        kind=MediaKind.LIVE,
        paths=(),
        audio_path=None,
        source=info["source"],
        title=info["title"],
        url=info["url"],
        channel=info["channel"],
        uploaded=None,
        uploaded_at=None,
        duration_s=None,
        fetched=False,
        details={},
    )
