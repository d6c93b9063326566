"""The clock: from the time stamps of a file to the seconds that a player shows.

A container with an index (MP4, Matroska, AVI) is trusted: a long step between two of its stamps is a long
pause. A stream (MPEG-TS and what HLS consists of, MPEG-PS, FLV, ASF, Ogg) was cut together, recorded by a
camera that was restarted, or wraps after 26.5 hours: its clock jumps, and a player continues as if not.
So the stamps of a stream are read once before it is decoded (`timeline`, demuxing only), which gives

* where the clock jumped, and by how much each part is moved to continue the one before;
* which single stamps are odd, because the packets after them continue where those before them ended;
* how long the video runs.

`_is_jump` distinguishes jumps from pauses; `docs/design.md` explains the rule. `Clock` corrects frames whose
own stamp is odd, in files of every kind.
"""

from __future__ import annotations

import bisect
import itertools
import math
from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import av

__all__ = ["Clock", "ClockJump", "Rule", "Stamps", "Timeline", "Track", "animation", "near", "timeline"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
P = TypeVar("P", bound="_Frame")

_NONE = -(2**63)
_BACK_S = 0.1
"""Stamps in the order of decoding that go back by more are a jump, by less a fault."""
_HOLE_S = 0.5
"""Steps that leave a smaller hole are never a jump forward."""
_NEAR = 250
"""There is sound around a step if it has packets within this many video packets before and after it."""
_BEHIND = 2
_PLAYED = 0.5
"""A hole is a pause if sound covers this proportion of it."""
_ODD_MAX = 4
"""The most packets in a row that may have odd stamps; more are a jump and another one back."""
_ODD_SLACK_S = 1.0
_REORDERED_S = 10.0
"""The longest time between decoding and showing a frame; a longer one is a fault of the stamp."""
_REORDERED = 32
"""Packets among which the first frame of a stretch is found: decoding and showing differ in order."""
_ONE_CLOCK_S = 10.0
"""Sound and video whose stamps differ by more at one position of the file have different clocks."""
_RUN_UP_S = 0.05
"""Sound that begins so little earlier is the run-up of its encoder, and not played."""
_AHEAD = 3
"""Frames read to see whether the stamps behind a suspicious one go back."""
_SUSPICIOUS_S = 1.0
_FASTEST_S = 0.0105
_SLOWED_S = 0.1


@dataclass(frozen=True, slots=True)
class ClockJump:
    """A position at which a file's clock jumped."""

    at_s: float
    """When, in seconds of running time."""
    by_s: float
    """How far the stamps are from where they should have continued; negative: back."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How far the stamps of a format are trusted when they go forward; going back is always a jump."""

    heard_s: float
    """A hole from here on is a jump, if there is sound around it and none in it."""
    keyframe_s: float
    """Without sound: if a keyframe follows."""
    other_s: float
    """Without sound: whatever follows."""
    wrap_bits: int = 0
    """Bits of a stamp, after which it begins anew; 0: it does not."""

    @classmethod
    def of(cls, container: str) -> Rule:
        """The rule of a format, by FFmpeg's name."""
        return _RULES.get(container, _TRUSTED)


# Players take a hole for a jump from 5 s (mpv) or 10 s (FFmpeg) on in streams, from hours on elsewhere.
_STREAM = Rule(_HOLE_S, 1.0, 5.0, 33)
_LENIENT = Rule(10.0, 600.0, 600.0)
_TRUSTED = Rule(math.inf, math.inf, math.inf)
_RULES = {
    "mpegts": _STREAM,
    "mpeg": _STREAM,
    "flv": Rule(10.0, 600.0, 600.0, 32),
    "asf": _LENIENT,
    "ogg": _LENIENT,
}


class _Packet(Protocol):
    pts: int | None
    dts: int | None
    duration: int | None


class _Frame(Protocol):
    @property
    def pts(self) -> int | None: ...
    @property
    def dts(self) -> int | None: ...


class Stamps:
    """The stamps of one track, packet by packet, in the order of the file.

    Args:
        tick: The unit of the stamps in seconds.
    """

    def __init__(self, tick: Fraction) -> None:
        self.tick = tick
        self._columns = tuple(array("q") for _ in range(5))

    def __len__(self) -> int:
        return len(self._columns[0])

    def add(self, packet: _Packet, *, key: bool = False, at: int = 0) -> None:
        """Note a packet; `at`: the number of video packets before it."""
        pts, dts, duration, keys, places = self._columns
        pts.append(_NONE if packet.pts is None else packet.pts)
        dts.append(_NONE if packet.dts is None else packet.dts)
        duration.append(max(0, packet.duration or 0))
        keys.append(key)
        places.append(at)

    def _column(self, number: int) -> Ints:
        return np.array(self._columns[number], np.int64)


@dataclass(frozen=True)
class Track:
    """What is added to the stamps of one track, packet by packet, to make them run on."""

    starts: tuple[int, ...] = (0,)
    """Numbers of the packets from which on another shift holds; the first is 0."""
    shifts: tuple[int, ...] = (0,)
    """Ticks."""
    odd: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Stamps (pts, dts) instead of odd ones, by number of the packet, not to be shifted."""
    wrap: int = 0
    """Ticks after which stamps begin anew; 0: they do not."""

    def moved(self, number: int, pts: int | None, dts: int | None) -> tuple[int | None, int | None]:
        """The stamps (pts, dts) of a packet by its number in the file."""
        if number in self.odd:
            return self.odd[number]
        shift = self.shifts[bisect.bisect_right(self.starts, number) - 1]
        if dts is None:
            return (None if pts is None else pts + shift), None
        moved = dts + shift
        return (None if pts is None else moved + _nearest(pts - dts, self.wrap)), moved


@dataclass(frozen=True)
class Timeline:
    """How the stamps of a file become running time, as far as it was found by reading them all."""

    video: Track
    sound: Track | None
    zero_s: Fraction
    """The moved stamp in seconds at which running time begins."""
    duration_s: float
    """Running time until the end of the last frame."""
    stored_s: tuple[float, float] = (0.0, 0.0)
    """The lowest stamp of a frame, and the end of the one with the highest, as stored in the file."""
    jumps: tuple[ClockJump, ...] = ()

    @property
    def plain(self) -> bool:
        """Whether every stamp stays as it is."""
        return not self.jumps and not self.video.odd and self.video.shifts == (0,)

    def explains(self, declared_s: float) -> bool:
        """Whether a length that the container declares is that of what was found in it, however counted.

        From the first stamp or from 0; with jumps and odd stamps or without.
        """
        low_s, high_s = self.stored_s
        lengths = self.duration_s, low_s + self.duration_s, high_s, high_s - low_s
        return any(near(declared_s, length_s, self.duration_s) for length_s in lengths)

    def counted_from_first(self, declared_s: float) -> float:
        """A declared length that may be counted from 0, where the first stamp is later."""
        low_s = self.stored_s[0]
        return declared_s - low_s if declared_s >= low_s + self.duration_s - 1.0 else declared_s


def near(declared_s: float, length_s: float, video_s: float) -> bool:
    """Return whether two lengths of a video of `video_s` are equal within the precision of containers."""
    return abs(declared_s - length_s) <= max(1.0, 0.02 * video_s)


def _nearest(ticks: int, wrap: int) -> int:
    """A distance between two stamps, the shorter way round."""
    return (ticks + wrap // 2) % wrap - wrap // 2 if wrap else ticks


class _Line:
    """The stamps of a track in the order of decoding, unwrapped, odd ones left out.

    One entry for each packet that has a stamp worth believing.
    """

    def __init__(self, stamps: Stamps, wrap_bits: int) -> None:
        self.count, self.tick_s = len(stamps), float(stamps.tick)
        self.wrap = 1 << wrap_bits if wrap_bits else 0
        self._pts, self._dts = stamps._column(0), stamps._column(1)
        durations, keys, places = (stamps._column(number) for number in (2, 3, 4))
        by_dts = bool((self._dts != _NONE).any())
        raw = self._dts if by_dts else self._pts
        # Without decoding times, those of showing are taken, which go to and fro.
        self.back = round((_BACK_S if by_dts else _SUSPICIOUS_S) / self.tick_s)
        numbers = np.flatnonzero(raw != _NONE)
        stamp = self._unwrapped(raw[numbers])
        steps = np.diff(stamp)
        forward = steps[steps > 0]
        self.step = max(1, int(np.median(forward))) if len(forward) else max(1, round(0.04 / self.tick_s))
        self.usual_s = float(np.percentile(forward, 75)) * self.tick_s if len(forward) else 0.0
        """Three of four steps are not longer."""
        odd = self._odd(stamp)
        self.odd: dict[int, int] = {
            int(number): int(value) for number, value in zip(numbers[list(odd)], odd.values(), strict=True)
        }
        """Of packets with odd stamps: what they are taken to be, by number of the packet."""
        kept = np.setdiff1d(np.arange(len(numbers)), list(odd)).astype(np.int64)
        self.number: Ints = numbers[kept]
        self.stamp: Ints = stamp[kept]
        self.raw: Ints = raw[self.number]
        self.length: Ints = np.where(durations[self.number] > 0, durations[self.number], self.step)
        self.key = keys[self.number].astype(bool)
        self.at: Ints = places[self.number]
        self.shown: Ints = self.stamp + self._lag(by_dts=by_dts)
        """When the frame is shown."""
        self.first = self._first(numbers)
        """When the first frame is shown."""
        given = np.where(self._pts == _NONE, self._dts, self._pts)
        given, lengths = given[given != _NONE], durations[given != _NONE]
        ends = given + np.where(lengths > 0, lengths, self.step)
        self.stored_s = (self.seconds(given.min()), self.seconds(ends.max())) if len(given) else (0.0, 0.0)

    def _unwrapped(self, raw: Ints) -> Ints:
        steps = np.diff(raw)
        if self.wrap:
            steps = (steps + self.wrap // 2) % self.wrap - self.wrap // 2
        return np.concatenate([raw[:1], raw[:1] + np.cumsum(steps)])

    def _lag(self, *, by_dts: bool) -> Ints:
        """By how much each frame is shown later than it is decoded."""
        if not by_dts:
            return np.zeros(len(self.number), np.int64)
        pts = self._pts[self.number]
        lag = np.where(pts == _NONE, 0, pts - self.raw)
        if self.wrap:
            lag = (lag + self.wrap // 2) % self.wrap - self.wrap // 2
        return np.where(np.abs(lag) * self.tick_s <= _REORDERED_S, lag, 0)

    def is_lag(self, ticks: int) -> bool:
        """Whether a frame may be shown so long after it is decoded."""
        return abs(ticks) * self.tick_s <= _REORDERED_S

    def _first(self, numbers: Ints) -> int:
        if not len(self.number):
            return 0
        first = int(self.shown[:_REORDERED].min())
        # Matroska has no times of decoding; FFmpeg finds them out, but for the first packets.
        for pts in self._pts[: numbers[0]].tolist():
            lag = _nearest(pts - int(self.raw[0]), self.wrap)
            if pts != _NONE and self.is_lag(lag):
                first = min(first, int(self.stamp[0]) + lag)
        return first

    def _odd(self, stamp: Ints) -> dict[int, int]:
        """Entries that stand out of the line, and what they are taken to be."""
        steps = np.diff(stamp)
        slack, leap = round(_ODD_SLACK_S / self.tick_s), 2 * self.step + self.back
        broken = np.flatnonzero((steps < -self.back) | (steps > leap)) + 1
        breaks, odd = set(broken.tolist()), dict[int, int]()
        after = 0
        for first in broken.tolist():
            if first < after:
                continue
            last = int(stamp[first - 1])
            for count in range(1, _ODD_MAX + 1):
                back = first + count
                if back >= len(stamp) or back not in breaks:
                    continue
                stands_out = stamp[first] < last or stamp[back] < stamp[first]
                if stands_out and last < stamp[back] <= last + (count + 1) * self.step + slack:
                    whole = int(stamp[back]) - last
                    odd |= {first + i: last + whole * (i + 1) // (count + 1) for i in range(count)}
                    after = back
                    break
        return odd

    def seconds(self, ticks: float) -> float:
        return float(ticks * self.tick_s)

    def track(self, stretches: list[tuple[int, int]]) -> Track:
        """The shifts of the stretches (first entry, ticks) as those of packets, with the wraps undone."""
        if not len(self.number):
            return Track(wrap=self.wrap)
        starts = np.array([first for first, _ in stretches])
        moves = np.array([ticks for _, ticks in stretches])
        stretch = np.searchsorted(starts, np.arange(len(self.number)), "right") - 1
        total = moves[stretch] + self.stamp - self.raw
        changes = np.concatenate([[0], np.flatnonzero(np.diff(total)) + 1])
        packets = self.number[changes]
        packets[0] = 0
        odd: dict[int, tuple[int, int]] = {}
        for number, stamp in self.odd.items():
            entry = max(0, int(np.searchsorted(self.number, number)) - 1)
            moved = stamp + int(moves[stretch[entry]])
            lag = _nearest(int(self._pts[number]) - int(self._dts[number]), self.wrap)
            together = _NONE not in (self._pts[number], self._dts[number]) and self.is_lag(lag)
            odd[number] = (moved + lag if together else moved, moved)
        return Track(tuple(packets.tolist()), tuple(total[changes].tolist()), odd, self.wrap)


def timeline(video: Stamps, sound: Stamps | None, rule: Rule) -> Timeline | None:
    """Find where the clock of a file jumped; None if there is no stamp at all.

    Args:
        video: Every packet of the video, or of a file of sound alone.
        sound: Every packet of the sound; None without.
        rule: That of the format.
    """
    line = _Line(video, rule.wrap_bits)
    if not len(line.number):
        return None
    sound_line = _Line(sound, rule.wrap_bits) if sound is not None and len(sound) else None
    sound_line = sound_line if sound_line is not None and len(sound_line.number) else None
    stretches, jumps = _stretches(line, sound_line, rule)
    moves = [moved for _, moved in stretches]
    bounds = [first for first, _ in stretches] + [len(line.number)]
    ends = [
        int((line.shown[a:b] + line.length[a:b]).max()) + moved
        for (a, b), moved in zip(itertools.pairwise(bounds), moves, strict=True)
    ]
    zero = Fraction(line.first) * video.tick
    track = None
    if sound_line is not None and sound is not None:
        track, first_s = _sound_track(line, stretches, sound_line, sound.tick)
        if _RUN_UP_S < zero - first_s <= _ONE_CLOCK_S:
            zero = first_s
    zero_s = float(zero)
    return Timeline(
        line.track(stretches),
        track,
        zero,
        max(0.0, round(line.seconds(max(ends)) - zero_s, 6)),
        line.stored_s,
        tuple(ClockJump(round(line.seconds(at) - zero_s, 3), round(by_s, 3)) for at, by_s in jumps),
    )


def _stretches(
    line: _Line, sound_line: _Line | None, rule: Rule
) -> tuple[list[tuple[int, int]], list[tuple[int, float]]]:
    """The stretches between jumps (first entry, ticks to add), and each jump (moved stamp, seconds)."""
    steps = np.diff(line.stamp)
    holes = steps - line.length[:-1]
    suspects = np.flatnonzero((steps < -line.back) | (holes * line.tick_s > _HOLE_S)) + 1
    stretches, jumps, moved = [(0, 0)], [], 0
    for entry in suspects.tolist():
        hole_s = line.seconds(holes[entry - 1])
        if steps[entry - 1] >= -line.back and not _is_jump(line, sound_line, entry, hole_s, rule):
            continue
        begin = stretches[-1][0]
        by_decoding = int(line.stamp[entry - 1] + line.length[entry - 1] - line.stamp[entry])
        ends = line.shown[begin:entry] + line.length[begin:entry]
        by_showing = int(ends.max() - line.shown[entry : entry + _REORDERED].min())
        # A new recording begins with a keyframe, and may keep its frames for longer than the one before.
        closed = line.key[entry] and line.seconds(abs(by_showing - by_decoding)) < _SUSPICIOUS_S
        moved += by_showing if closed else by_decoding
        jumps.append((int(line.shown[entry]) + moved, hole_s))
        stretches.append((entry, moved))
    return stretches, jumps


def _is_jump(line: _Line, sound_line: _Line | None, entry: int, hole_s: float, rule: Rule) -> bool:
    """Whether a step forward is a jump of the clock rather than a frame shown for long.

    Sound decides if there is any around the step: time has passed if sound for it is between the two
    frames. Else a long step is a jump in formats that are not trusted, a shorter one if a
    keyframe follows, as it does where another recording begins. Steps that the video has many of are pauses.
    """
    if sound_line is not None:
        # A packet of the video is given out when the next ones have begun, behind sound that follows it.
        early, late = max(0, entry - 1 - _BEHIND), min(len(line.number) - 1, entry + _BEHIND)
        before, after = int(line.number[early]), int(line.number[late])
        first, between, behind, last = np.searchsorted(
            sound_line.at, [before - _NEAR, before + 1, after + 1, after + _NEAR], "left"
        )
        if first < between and behind < last:
            played_s = sound_line.seconds(sound_line.length[between:behind].sum())
            seen_s = line.seconds(line.length[early:late].sum())
            return hole_s >= rule.heard_s and played_s - seen_s < _PLAYED * hole_s
    telling = bool(line.key[entry]) and not line.key.all()
    least_s = rule.keyframe_s if telling else rule.other_s
    return hole_s >= max(least_s, 10 * line.usual_s)


def _sound_track(
    line: _Line, stretches: list[tuple[int, int]], sound_line: _Line, tick: Fraction
) -> tuple[Track, Fraction]:
    """How the sound is moved, and its first moved stamp in seconds.

    Sound and video jump at slightly different packets, or one of them alone. Each stretch of the sound takes
    the shift of that stretch of the video with which it comes out at the time that the video has at this
    place of the file; if there is none, it goes on where it ended.
    """
    steps = np.diff(sound_line.stamp)
    holes = steps - sound_line.length[:-1]
    broken = np.flatnonzero((steps < -sound_line.back) | (holes * sound_line.tick_s > _HOLE_S)) + 1
    starts = np.array([first for first, _ in stretches])
    wrap_s = sound_line.seconds(sound_line.wrap)
    made: list[tuple[int, int]] = []
    end_s = -math.inf
    for first, last in zip([0, *broken.tolist()], [*broken.tolist(), len(sound_line.number)], strict=True):
        stamp_s = sound_line.seconds(sound_line.stamp[first])
        entry = max(0, int(np.searchsorted(line.number, sound_line.at[first], "left")) - 1)
        here = int(np.searchsorted(starts, entry, "right")) - 1
        now_s = line.seconds(line.stamp[entry] + stretches[here][1])
        choices = []
        for start, moved in stretches[max(0, here - 1) : here + 2]:
            at_s = stamp_s + line.seconds(moved)
            if wrap_s:  # each track was unwrapped on its own
                around_s = line.seconds(line.stamp[start])
                at_s += round((around_s - stamp_s) / wrap_s) * wrap_s
            choices.append(at_s)
        time_s = min(choices, key=lambda one: abs(one - now_s))
        if abs(time_s - now_s) > _ONE_CLOCK_S:
            time_s = end_s if abs(end_s - now_s) <= _ONE_CLOCK_S else now_s
        made.append((first, round((time_s - stamp_s) / sound_line.tick_s)))
        end_s = sound_line.seconds(sound_line.stamp[last - 1] + sound_line.length[last - 1] + made[-1][1])
    return sound_line.track(made), (int(sound_line.stamp[0]) + made[0][1]) * tick


def animation(stamps: Stamps) -> Timeline | None:
    """The running time of a GIF or APNG as browsers show it: delays of up to 10 ms are shown as 100 ms.

    All of them agree on it, since such delays come from tools that meant none in particular: Blink and WebKit
    (`ImageFrame` durations "<= 10 ms", following Internet Explorer; webkit.org/b/36082) and Gecko
    (`FrameTimeout::FromRawMilliseconds`, image/FrameTimeout.h), for all kinds of animated frames alike.
    """
    pts, durations = stamps._column(0), stamps._column(2)
    if not len(pts):
        return None
    shown = np.where(durations * float(stamps.tick) <= _FASTEST_S, round(_SLOWED_S / stamps.tick), durations)
    times = np.concatenate([[0], np.cumsum(shown)])
    shifts = times[:-1] - np.where(pts == _NONE, 0, pts)
    changes = np.concatenate([[0], np.flatnonzero(np.diff(shifts)) + 1])
    track = Track(tuple(changes.tolist()), tuple(shifts[changes].tolist()))
    return Timeline(track, None, Fraction(0), float(times[-1] * float(stamps.tick)))


class Clock:
    """Turns the stamps of one opening of a file into seconds since its start, strictly increasing.

    Packets in the order of decoding are moved to where the timeline has them; frames in the order of
    showing are given their times.
    """

    def __init__(self, tick: Fraction, origin_s: Fraction, step_s: float, track: Track | None = None) -> None:
        """
        Args:
            tick: The unit of the stamps in seconds.
            origin_s: The stamp, once moved, at which time begins.
            step_s: Time between two frames, where nothing better is known.
            track: How stamps are moved; packets must then be read from the first on.
        """
        self._num, self._den = tick.numerator, tick.denominator
        # The container gives its start in whole microseconds: take the tick it was rounded from.
        self._origin = round(origin_s / tick)
        rest = float(origin_s - self._origin * tick)
        self._rest = rest if abs(rest) > 1e-6 else 0.0
        self.step_s = step_s
        """Time between the last two frames, or what is expected."""
        self._least_s = min(float(tick), 1e-3)
        self._track = track
        self._packets = 0
        self.repaired = 0
        """Frames whose time was missing or odd."""

    @property
    def start_s(self) -> float:
        """The stamp, in seconds, at which time begins."""
        return self.length_s(self._origin) + self._rest

    def seconds(self, ticks: int) -> float:
        """The time of a stamp that was moved."""
        return (ticks - self._origin) * self._num / self._den - self._rest

    def ticks(self, seconds: float) -> int:
        """The stamp of a time."""
        return self._origin + math.floor((seconds + self._rest) * self._den / self._num)

    def length_s(self, ticks: int) -> float:
        """Seconds between two stamps."""
        return ticks * self._num / self._den

    def stamp(self, packet: av.Packet[av.VideoStream]) -> bool:
        """Move a packet to where the timeline has it. Call for each, in order.

        Returns:
            Whether its own stamps were missing or odd.
        """
        if self._track is None:
            return False
        packet.pts, packet.dts = self._track.moved(self._packets, packet.pts, packet.dts)
        self._packets += 1
        return self._packets - 1 in self._track.odd

    def packet_s(self, packet: av.Packet[av.VideoStream]) -> float:
        """When the packet's frame is shown; minus infinity if unknown."""
        ticks = packet.dts if packet.pts is None else packet.pts
        if ticks is None or (
            packet.dts is not None and self.length_s(abs(ticks - packet.dts)) > _REORDERED_S
        ):
            return -math.inf
        return self.seconds(ticks)

    def timed(self, frames: Iterable[P]) -> Iterator[tuple[P, float]]:
        """Frames in the order of showing with their times.

        A time is odd if it is not later than the one before, or if one of the next frames is shown between
        the two: then it lies between its neighbors. Where time goes back and does not return, frames
        follow each other as closely as can be.
        """
        source = iter(frames)
        ahead: deque[P] = deque()
        last_s = -math.inf
        while True:
            if not ahead:
                ahead.extend(itertools.islice(source, 1))
            if not ahead:
                return
            frame = ahead.popleft()
            time_s, known = self._stored_s(frame)
            faulty = not known or time_s < -1e-3
            if not known:
                time_s = time_s if time_s > last_s else last_s + self.step_s
            elif time_s <= last_s or time_s - max(last_s, 0.0) > _SUSPICIOUS_S:
                ahead.extend(itertools.islice(source, _AHEAD - len(ahead)))
                between_s = self._between_s(last_s, time_s, ahead)
                faulty |= between_s is not None
                time_s = time_s if between_s is None else between_s
            time_s = max(time_s, 0.0)
            if time_s <= last_s:
                time_s = last_s + self._least_s
                faulty = True
            elif last_s >= 0:
                self.step_s = time_s - last_s
            self.repaired += faulty
            last_s = time_s
            yield frame, time_s

    def _stored_s(self, frame: _Frame) -> tuple[float, bool]:
        """Return the time of a frame as stored, and whether it is more than a guess."""
        if frame.pts is not None:
            return self.seconds(frame.pts), True
        return (-math.inf if frame.dts is None else self.seconds(frame.dts)), False

    def _between_s(self, last_s: float, time_s: float, ahead: Iterable[_Frame]) -> float | None:
        """The time of a frame whose own is odd, as those behind it show; None if it is not."""
        for number, frame in enumerate(ahead, 1):
            other_s, known = self._stored_s(frame)
            if known and last_s < other_s and (other_s < time_s or time_s <= last_s):
                if last_s < 0:
                    return max(0.0, other_s - number * self.step_s)
                return last_s + (other_s - last_s) / (number + 1)
        return None
