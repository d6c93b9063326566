"""What was read of each segment: frames, packets and damage, counted where they are in the video.

Each is counted in the segment that its time is in, whichever pass has read it. So the counts of a video do
not depend on whether it was read in one pass, in several ones, or by several processes: what is read once
more on the way to the start of a stretch counts once.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass

__all__ = ["Counts", "ReadLog"]


@dataclass
class Counts:
    """What was read of a segment."""

    frames: int = 0
    bad_packets: int = 0
    packets: int = 0
    repaired_times: int = 0
    last_s: float | None = None
    """Time of the last frame."""


class ReadLog:
    """Counts what one opening of a file yields.

    Args:
        segment_of: The segment that a time is in.
        start_s: What is before is not counted.
        end_s: What is from here on is not counted.
    """

    def __init__(
        self,
        segment_of: Callable[[float], int] = lambda time_s: 0,
        start_s: float = 0.0,
        end_s: float = math.inf,
    ) -> None:
        self._segment_of = segment_of
        self._start_s, self._end_s = start_s, end_s
        self._segments: defaultdict[int, Counts] = defaultdict(Counts)
        self.bad = 0
        """All packets that could not be decoded, or only with errors, wherever they are."""
        # The beginning of the file is a part of the first segment.
        self._packet_s = self._shown_s = 0.0 if start_s <= 0 else -math.inf
        self._decoded = self._shown = 0
        self._damaged: deque[int] = deque()
        """The number of the frame that each damage follows, or is in; -1: it is before the first."""

    def _at(self, time_s: float) -> Counts | None:
        """The counts that belong to a time."""
        inside = self._start_s <= time_s < self._end_s
        return self._segments[self._segment_of(time_s)] if inside else None

    def packet(self, time_s: float, *, odd: bool) -> None:
        """Count a packet; one without a time (not finite) is where the one before is.

        `odd`: whether its stamps were missing or wrong.
        """
        if math.isfinite(time_s):
            self._packet_s = time_s
        counts = self._at(self._packet_s)
        if counts is not None:
            counts.packets += 1
            counts.repaired_times += odd

    def failed(self) -> None:
        """Count that the decoder has failed: after the last frame, as time is not known.

        Decoders with several threads report it later, but in the same order among the frames.
        """
        self.bad += 1
        self._damaged.append(self._decoded - 1)

    def decoded(self, *, corrupt: bool) -> None:
        """Count a frame that the decoder has returned."""
        self._decoded += 1
        if corrupt:
            self.failed()

    def shown(self, time_s: float, *, odd: bool) -> None:
        """Count the next of the decoded frames, whose time is known now.

        `odd`: whether its own time was missing or wrong.
        """
        self._settle(self._shown)
        self._shown += 1
        self._shown_s = time_s
        counts = self._at(time_s)
        if counts is not None:
            counts.frames += 1
            counts.repaired_times += odd
            counts.last_s = time_s

    def end(self) -> None:
        """Count what follows the last frame."""
        self._settle(self._decoded)

    def _settle(self, number: int) -> None:
        """Count the damage before a frame where the last shown one is."""
        while self._damaged and self._damaged[0] < number:
            self._damaged.popleft()
            counts = self._at(self._shown_s)
            if counts is not None:
                counts.bad_packets += 1

    def segment(self, number: int) -> Counts:
        """What was read of a segment; its counts are final once a later frame is shown, or at the end."""
        return self._segments.get(number) or Counts()

    def total(self, *, without: Collection[int] = ()) -> Counts:
        """What was read of all segments but some."""
        some = [counts for number, counts in self._segments.items() if number not in without]
        return Counts(
            frames=sum(one.frames for one in some),
            bad_packets=sum(one.bad_packets for one in some),
            packets=sum(one.packets for one in some),
            repaired_times=sum(one.repaired_times for one in some),
            last_s=max((one.last_s for one in some if one.last_s is not None), default=None),
        )
