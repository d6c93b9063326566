"""Stand-in."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from analyzer.batch.protocol import JobSpec
from analyzer.sources.types import MediaKind

LONG_SEGMENTS = 30
LONG_BYTES = 50 * 2**20


def may_spread(spec: JobSpec) -> bool:
    if spec.video.kind is not MediaKind.VIDEO or spec.settings.budget is not None:
        return False
    if spec.resources.workers > 1:
        return True
    if spec.video.duration_s is not None:
        return spec.video.duration_s >= LONG_SEGMENTS * spec.settings.segment_s
    try:
        return spec.video.paths[0].stat().st_size >= LONG_BYTES
    except OSError:
        return False


def worth_spreading(spec: JobSpec, expected: int | None, completed: Collection[int]) -> bool:
    if expected is None:
        return False
    missing = len(set(range(expected - 1)) - set(completed))
    return missing >= (2 if spec.resources.workers > 1 else LONG_SEGMENTS)


class Spread:
    def __init__(self, expected: int, completed: Iterable[int]) -> None:
        self._last = expected - 1
        self._done = {one for one in completed if one < self._last}
        self._free = [one for one in range(self._last) if one not in self._done]

    def next(self, actors: int) -> tuple[int, int] | None:
        self._free = [one for one in self._free if one not in self._done]
        if not self._free:
            return None
        first, most = self._free[0], max(1, len(self._free) // (3 * actors))
        stop = first + 1
        while stop in self._free and stop - first < most:
            stop += 1
        self._free = [one for one in self._free if not first <= one < stop]
        return first, stop

    def committed(self, segment: int) -> None:
        if segment < self._last:
            self._done.add(segment)

    def ended(self, segments: tuple[int, int]) -> None:
        self.lost(segments)

    def lost(self, segments: tuple[int, int]) -> None:
        self._free = sorted({*self._free, *range(*segments)} - self._done)

    @property
    def share(self) -> float:
        return len(self._done) / (self._last + 1)

    @property
    def is_done(self) -> bool:
        return len(self._done) == self._last
