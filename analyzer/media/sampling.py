"""The sampling grid: which frames are analyzed."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Self

from analyzer.media.frame import Frame, Sample
from analyzer.settings import Settings

__all__ = [
    "SamplingPlan",
]

_CELL_SLACK_S = 1e-3
"""Containers round times, at worst to a millisecond: a picture this close before a cell belongs to it."""


@dataclass(frozen=True)
class SamplingPlan:
    """Which pictures are samples."""

    start_s: float
    segment_s: float
    fps: float
    every: int | None
    keyframes: bool

    @classmethod
    def of(cls, settings: Settings) -> Self:
        # A whole number of sampling steps, so that their grid goes on over the borders.
        steps = math.ceil(settings.segment_s * settings.fps - 1e-6)
        by_time = settings.every is None and not settings.keyframes
        segment_s = steps / settings.fps if by_time else settings.segment_s
        return cls(settings.start_s, segment_s, settings.fps, settings.every, settings.keyframes)

    def bound(self, segment: int) -> float:
        """Where a segment begins; computed in one way only, so that neighbors meet exactly."""
        return self.start_s + segment * self.segment_s

    def segment(self, time_s: float) -> int:
        number = math.floor((time_s - self.start_s) / self.segment_s)
        if time_s < self.bound(number):
            return number - 1
        return number + (time_s >= self.bound(number + 1))

    def cell(self, time_s: float, segment: int) -> int:
        """Number of the stretch of 1 / fps seconds within the segment."""
        cell = math.floor((time_s - self.bound(segment) + _CELL_SLACK_S) * self.fps)
        return min(cell, math.ceil(self.segment_s * self.fps - 1e-6) - 1)

    def choose(self, frames: Iterator[Frame]) -> Generator[Sample, None, None]:
        segment = last_cell = -1
        count = index = 0
        for frame in frames:
            number = self.segment(frame.time_s)
            if number != segment:
                segment, last_cell, count, index = number, -1, 0, 0
            if self.keyframes:
                wanted = frame.keyframe
            elif self.every is not None:
                wanted = count % self.every == 0
            else:
                cell = self.cell(frame.time_s, number)
                wanted = cell != last_cell
                last_cell = cell
            count += 1
            if wanted:
                yield Sample(frame, segment, index)
                index += 1

    def spare(self, start_s: float) -> Callable[[float], bool] | None:
        """A function of a picture's time, asked in the order of decoding: is it surely no sample?

        It is none if it comes before the start, or another of its cell comes before it.
        """
        if self.every is not None or self.keyframes:
            return None
        first: dict[tuple[int, int], float] = {}

        def surely_none(time_s: float) -> bool:
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

        return surely_none
