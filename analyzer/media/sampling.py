"""The sampling grid: which frames are analyzed.

Files, arrays and live sources share it. Whether a frame is a sample depends only on the frames of its own
segment, so that a segment read alone gives the same samples as one pass over the whole video.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Self

from analyzer.media.frame import Frame, Sample
from analyzer.settings import Settings

__all__ = [
    "Sampler",
    "SamplingPlan",
]

_CELL_SLACK_S = 1e-3
"""Containers round times, at worst to a millisecond: a frame this close before a cell belongs to it."""


@dataclass(frozen=True)
class SamplingPlan:
    """The rule by which frames become samples: the segments of a video, and the cells within each.

    Attributes:
        start_s: Start of the first segment.
        segment_s: Length of a segment in seconds; a whole number of cells if sampling is by time.
        fps: Samples per second; a cell is 1 / fps seconds long.
        every: Take each n-th frame instead.
        keyframes: Take the keyframes instead.
    """

    start_s: float
    segment_s: float
    fps: float
    every: int | None
    keyframes: bool

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The plan that the settings ask for."""
        # A whole number of cells, so that the grid continues across segments.
        cells = math.ceil(settings.segment_s * settings.fps - 1e-6)
        by_time = settings.every is None and not settings.keyframes
        segment_s = cells / settings.fps if by_time else settings.segment_s
        return cls(settings.start_s, segment_s, settings.fps, settings.every, settings.keyframes)

    def bound(self, segment: int) -> float:
        """Start of a segment in seconds; computed in one way only, so that neighbors meet exactly."""
        return self.start_s + segment * self.segment_s

    def segment(self, time_s: float) -> int:
        """Number of the segment that a time is in; negative before the first one."""
        number = math.floor((time_s - self.start_s) / self.segment_s)
        if time_s < self.bound(number):
            return number - 1
        return number + (time_s >= self.bound(number + 1))

    def cell(self, time_s: float, segment: int) -> int:
        """Number of the cell within the segment."""
        cell = math.floor((time_s - self.bound(segment) + _CELL_SLACK_S) * self.fps)
        return min(cell, math.ceil(self.segment_s * self.fps - 1e-6) - 1)

    def choose(self, frames: Iterator[Frame]) -> Generator[Sample, None, None]:
        """Yield the samples among frames in order of time."""
        sampler = Sampler(self)
        segment, index = -1, 0
        for frame in frames:
            wanted = sampler.wants(frame.time_s, frame.keyframe)
            sampler.passed(frame.time_s, taken=wanted)
            if wanted:
                number = self.segment(frame.time_s)
                segment, index = number, index + 1 if number == segment else 0
                yield Sample(frame, segment, index)

    def skippable(self, start_s: float) -> Callable[[float], bool] | None:
        """Return a test of a frame's time: whether it is certainly not a sample, and need not be decoded.

        It is none if it comes before `start_s`, or if an earlier frame of its cell is known. The test is
        called in the order of decoding. None if sampling is not by time.
        """
        if self.every is not None or self.keyframes:
            return None
        first: dict[tuple[int, int], float] = {}

        def certainly_none(time_s: float) -> bool:
            if time_s < start_s:
                return math.isfinite(time_s)
            segment = self.segment(time_s)
            key = segment, self.cell(time_s, segment)
            known = first.get(key)
            if known is None or time_s < known:
                first[key] = time_s
                if len(first) > 100:
                    del first[next(iter(first))]
                return False
            return time_s > known

        return certainly_none


class Sampler:
    """Decides frame by frame, in order of time, which ones are samples.

    >>> sampler = Sampler(SamplingPlan(start_s=0.0, segment_s=1.0, fps=2, every=None, keyframes=False))
    >>> for time_s in (0.0, 0.25, 0.5):
    ...     wanted = sampler.wants(time_s, keyframe=False)
    ...     sampler.passed(time_s, taken=wanted)
    ...     print(wanted)
    True
    False
    True
    """

    def __init__(self, plan: SamplingPlan) -> None:
        self._plan = plan
        self._segment: int | None = None
        self._cell = -1
        self._count = 0

    def wants(self, time_s: float, keyframe: bool) -> bool:
        """Return whether the next frame is a sample; call `passed` before the one after it."""
        plan = self._plan
        if time_s < plan.start_s:
            return False
        self._enter(time_s)
        if plan.keyframes:
            return keyframe
        if plan.every is not None:
            return self._count % plan.every == 0
        return plan.cell(time_s, plan.segment(time_s)) != self._cell

    def passed(self, time_s: float, *, taken: bool) -> None:
        """Count a frame; `taken` if a sample was made of it. If not, the next frame of its cell is wanted."""
        self._enter(time_s)
        self._count += 1
        if taken:
            self._cell = self._plan.cell(time_s, self._plan.segment(time_s))

    def _enter(self, time_s: float) -> None:
        segment = self._plan.segment(time_s)
        if segment != self._segment:
            self._segment, self._cell, self._count = segment, -1, 0
