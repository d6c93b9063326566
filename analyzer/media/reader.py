"""The reader of video files: frames with their times, samples, and a report on damage.

A `VideoReader` yields the frames of a file with the times that a player shows. Files are untrusted: one that
is not a video, would open something else, or needs too much memory, ends in a `MediaError`; damage is
tolerated, counted and reported.

Three rules make a segment read alone give the same samples as one pass over the whole video:

* which frames are sampled depends only on the frames of the segment;
* a segment is read from a keyframe at or before its start, and earlier frames are dropped;
* a segment begins where the one before ends: both use `segment_bounds`.
"""

from __future__ import annotations

import dataclasses
import math
import weakref
from collections.abc import Collection, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import av.error

from analyzer.media.clock import Timeline
from analyzer.media.demuxer import INDEXED, Demuxer, begins_at, check_file, no_frames, times_of
from analyzer.media.frame import Frame, Sample, Scaler
from analyzer.media.read_log import Counts, ReadLog
from analyzer.media.read_report import ReadReport, damage_note, is_damaged, is_unusable, unusable_error
from analyzer.media.sampling import SamplingPlan
from analyzer.settings import Settings

__all__ = [
    "BaseReader",
    "VideoReader",
]


class BaseReader:
    """What all readers share: closing, the range to read, the report."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._scaler = Scaler()
        self._closed = False
        self._report: ReadReport | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End open iterations. May be called twice, and while another thread iterates."""
        self._closed = True

    def report(self) -> ReadReport:
        """Return how the last iteration went; call it after the iteration.

        Raises:
            RuntimeError: No iteration has ended yet.
        """
        if self._report is None:
            raise RuntimeError("there is no report before an iteration has ended")
        return self._report

    def _range(self, start_s: float, end_s: float | None) -> tuple[float, float]:
        """The requested range within that of the settings."""
        if self._closed:
            raise RuntimeError("the reader is closed")
        ends = [end for end in (end_s, self._settings.stop_s) if end is not None]
        return max(start_s, self._settings.start_s), min(ends, default=math.inf)


class VideoReader(BaseReader):
    """Reads the frames of one video file. A context manager; each iteration opens the file again.

    Only regular files in an allowed format and codec are opened, and no other file that they name.

    Attributes:
        path: The file.
        info: Its properties, known before it is read.

    Raises:
        MediaError: On construction, if the file is not a supported video (`MediaError.kind` says why).
        SourceError: On construction, if there is no such file, or it cannot be read.
    """

    def __init__(self, path: Path, settings: Settings) -> None:
        super().__init__(settings)
        self.path = Path(path)
        self._plan = SamplingPlan.of(settings)
        self._tally = _Tally(0.0, math.inf, whole=True)
        self._iterations: weakref.WeakSet[Generator[Frame, None, None]] = weakref.WeakSet()
        check_file(self.path)
        with Demuxer(self.path, settings.max_pixels, threads=1, headers_only=True) as source:
            # After decoding, the container's declarations cannot be told from the stream's.
            self._declared = source.declared
        self._times = times_of(self.path, settings.max_pixels)
        with Demuxer(
            self.path, settings.max_pixels, threads=1, declared=self._declared, times=self._times
        ) as source:
            self.info, first_s = source.info()
            self._scaler.opaque = source.opaque
        # AVI numbers frames in decoding order: all times are late by the decoder's delay.
        self._late_s = first_s if self.info.container == "avi" else 0.0

    @property
    def timeline(self) -> Timeline | None:
        """How the file's stamps become running time; None if they are used unchanged."""
        return self._times.timeline

    def close(self) -> None:
        """End open iterations. May be called twice, and while another thread iterates."""
        super().close()
        for iteration in list(self._iterations):
            try:
                iteration.close()
            except ValueError:  # it runs in another thread, and stops at its next frame
                continue

    def frames(self, start_s: float = 0.0, end_s: float | None = None) -> Iterator[Frame]:
        """Yield every frame from `start_s` up to but excluding `end_s`, within the range of the settings.

        Raises:
            MediaError: While iterating, if there is no frame, a frame is above the limit, or (over the whole
                range) more than half of the packets are bad.
        """
        return self._start(start_s, end_s, sampled=False)

    def samples(self, start_s: float = 0.0, end_s: float | None = None) -> Generator[Sample, None, None]:
        """Yield the frames to analyze, chosen by ``fps``, ``every`` or ``keyframes``; range as in `frames`.

        Within `segment_bounds` they are the same as in one pass over the whole video.

        Raises:
            MediaError: As in `frames`.
        """
        return self._plan.choose(self._start(start_s, end_s, sampled=True))

    def segment_bounds(self, segment: int) -> tuple[float, float]:
        """Start and end of a segment in seconds, to be passed to `samples` unchanged."""
        return self._plan.bound(segment), self._plan.bound(segment + 1)

    def _start(self, start_s: float, end_s: float | None, *, sampled: bool) -> Generator[Frame, None, None]:
        start, end = self._range(start_s, end_s)
        whole = (start, end) == self._range(0.0, None)
        self._tally = tally = _Tally(start, end, whole)
        iteration = self._read(tally, sampled=sampled)
        self._iterations.add(iteration)
        return iteration

    def segment_report(self, segment: int) -> ReadReport:
        """Return how one segment was read by the last iteration, once that has passed it."""
        return _report(self._tally.log.segment(segment), "", too_damaged=False)

    def report_without(self, segments: Collection[int]) -> ReadReport:
        """Return how the last iteration went, but do not count some of the segments.

        With the reports on these it joins to one on the whole video, whichever iterations they are from.

        Raises:
            RuntimeError: No iteration has ended yet.
        """
        report, counts = self.report(), self._tally.log.total(without=segments)
        return _report(counts, report.reason, too_damaged=report.too_damaged)

    def _source(self, log: ReadLog, *, sampled: bool) -> Demuxer:
        settings = self._settings
        # Without deblocking, frames may be good enough to analyze, but not to show.
        return Demuxer(
            self.path,
            settings.max_pixels,
            settings.thread_count,
            declared=self._declared,
            times=self._times,
            late_s=self._late_s,
            deblock=settings.deblock or not sampled,
            log=log,
        )

    def _read(self, tally: _Tally, *, sampled: bool) -> Generator[Frame, None, None]:
        keyframes = sampled and self._settings.keyframes
        skippable = self._plan.skippable(tally.start) if sampled and not keyframes else None
        start = tally.start
        # If stamps are moved, all packets must be counted from the first.
        indexed = self.info.container in INDEXED and self._times.timeline is None
        leads = [lead for lead in (0.0, 10.0, 60.0) if lead < start and indexed]
        try:
            for lead in (*leads, None):
                tally.log = ReadLog(self._plan.segment, tally.start, tally.end)
                with self._source(tally.log, sampled=sampled) as source:
                    if lead is not None and not source.go_to(start - lead):
                        continue
                    frames = source.frames(start if lead is None else None, keyframes, skippable)
                    first = next(frames, None)
                    if lead is not None and not begins_at(first, start):
                        continue  # the frame at the start depends on earlier ones
                    try:
                        yield from self._within(first, frames, tally, source)
                        tally.ended = not self._closed
                    finally:
                        tally.close(source)
                    if source.refused and tally.last_seen_s < 0:
                        raise source.too_large()
                    tally.check(self.path)
                    return
        finally:
            self._report = tally.report()

    def _within(
        self,
        first: tuple[av.VideoFrame, float] | None,
        frames: Iterator[tuple[av.VideoFrame, float]],
        tally: _Tally,
        source: Demuxer,
    ) -> Iterator[Frame]:
        start, end, scaler = tally.start, tally.end, self._scaler
        pair, repaired = first, 0
        while pair is not None and not self._closed:
            frame, time_s = pair
            tally.log.shown(time_s, odd=source.clock.repaired > repaired)
            repaired = source.clock.repaired
            if time_s >= end:
                tally.covered = True
                return
            shape = source.geometry.of(frame)
            tally.last_seen_s, tally.last_ticks = time_s, frame.duration
            if time_s >= start:
                yield Frame(time_s, frame.key_frame, frame, shape, scaler)
            pair = next(frames, None)


@dataclass
class _Tally:
    """The counters of an iteration, for its `ReadReport`."""

    start: float
    end: float
    whole: bool
    log: ReadLog = field(default_factory=ReadLog)
    """What was read in the range."""
    last_seen_s: float = -math.inf
    """Time of the last frame, including those before the start."""
    last_ticks: int = 0
    """Its duration in the container's unit; 0 if not declared."""
    covered: bool = False
    """Whether a frame at or after the end was seen."""
    ended: bool = False
    """Whether the iteration ran to its end."""
    reason: str = ""
    too_damaged: bool = False

    def close(self, source: Demuxer) -> None:
        """Find out whether anything is missing."""
        self.log.end()
        shown_s = max(source.clock.step_s, source.clock.length_s(self.last_ticks))
        seen_to = max(self.last_seen_s, source.last_packet_s) + shown_s
        self.reason = self._missing(source, max(seen_to, 0.0))

    def _missing(self, source: Demuxer, seen_to: float) -> str:
        declared = source.duration_s()
        at = f"{seen_to:.1f} s"
        if self.covered or not self.ended:
            return ""
        if declared is not None and min(self.end, declared) - seen_to > max(1.0, 0.02 * declared):
            return f"the video ends at {at} of {declared:.1f} s declared"
        if source.stopped and not source.declares:
            return f"the file is damaged or cut off at {at}"
        counts = self.log.total()
        self.too_damaged = is_damaged(counts.packets, counts.bad_packets)
        return damage_note(counts.packets, counts.bad_packets) if self.too_damaged else ""

    def check(self, path: Path) -> None:
        """Raise the error of an iteration that is unusable as a whole."""
        if not self.ended:
            return
        counts, without = self.log.total(), self.last_seen_s < 0 and not self.covered
        if without and self.log.bad:
            raise unusable_error(path, counts.packets, counts.packets)
        if self.whole and is_unusable(counts.packets, counts.bad_packets):
            raise unusable_error(path, counts.packets, counts.bad_packets)
        if without:
            raise no_frames(path)

    def report(self) -> ReadReport:
        reason, counts = self.reason, self.log.total()
        if not self.ended:
            reason = f"reading was stopped at {counts.last_s or self.start:.1f} s"
        return _report(counts, reason, too_damaged=self.too_damaged and self.ended)


def _report(counts: Counts, reason: str, *, too_damaged: bool) -> ReadReport:
    return ReadReport(
        **dataclasses.asdict(counts), complete=not reason, reason=reason, too_damaged=too_damaged
    )
