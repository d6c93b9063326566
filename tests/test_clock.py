"""Clocks that jump, stamps that are odd, pauses that are neither: on made stamps, exactly."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from analyzer.media.clock import Clock, ClockJump, Rule, Stamps, Timeline, animation, timeline
from analyzer.media.reader import VideoReader
from analyzer.settings import Settings
from testkit.faces import SHARED
from testkit.media import numbered, write_video
from testkit.odd_times import Recording, animate, join, restamp
from tests.test_reader import X264, assert_segments_alone_equal_one_pass

TICK = Fraction(1, 90_000)
STEP, SOUND_STEP = 3000, 1920
STREAM, FLV, INDEXED = Rule.of("mpegts"), Rule.of("flv"), Rule.of("matroska,webm")
WRAP = 1 << 33
REORDER = (0, 3, 1, 2)
"""In which order the pictures of each four are decoded."""


class Tape:
    """A file in the making: packets of video and sound in their order, and what a player makes of them."""

    def __init__(self, *, sound: bool = False, reordered: bool = False, skew: int = 0) -> None:
        self.video, self.sound = Stamps(TICK), Stamps(TICK) if sound else None
        self.seen: list[int] = []
        """When each picture is really shown, in ticks."""
        self.heard: list[int] = []
        self._reordered, self._skew = reordered, skew
        self._now = self._sounded = 0
        self._raw_seen: list[tuple[int, int]] = []
        self._raw_heard: list[int] = []

    def run(self, frames: int, shift_s: float, *, sound_shift_s: float | None = None, gop: int = 0) -> None:
        """Let it run on, its clock moved: a keyframe first, then each `gop` pictures."""
        shift = round(shift_s / TICK)
        sound_shift = shift if sound_shift_s is None else round(sound_shift_s / TICK)
        for number in range(frames):
            place = number
            if self._reordered:
                group, within = divmod(number, 4)
                place = group * 4 + REORDER[within] if group * 4 + 4 <= frames else number
            dts = self._now + number * STEP
            pts = self._now + place * STEP + (3 * STEP if self._reordered else 0)
            self._picture(pts, dts, shift, key=number == 0 or bool(gop and number % gop == 0))
            self._sound_until(dts + self._skew * STEP, sound_shift)
        self._now += frames * STEP

    def pause(self, seconds: float, shift_s: float) -> None:
        """Show the last picture for longer; the sound goes on."""
        self._now += round(seconds / TICK)
        self._sound_until(self._now, round(shift_s / TICK))

    def _picture(self, pts: int, dts: int, shift: int, *, key: bool) -> None:
        packet = SimpleNamespace(pts=(pts + shift) % WRAP, dts=(dts + shift) % WRAP, duration=STEP)
        self.video.add(packet, key=key)
        self.seen.append(pts)
        self._raw_seen.append((packet.pts, packet.dts))

    def _sound_until(self, ticks: int, shift: int) -> None:
        while self.sound is not None and self._sounded < ticks:
            stamp = (self._sounded + shift) % WRAP
            self.sound.add(
                SimpleNamespace(pts=stamp, dts=stamp, duration=SOUND_STEP), key=True, at=len(self.video)
            )
            self.heard.append(self._sounded)
            self._raw_heard.append(stamp)
            self._sounded += SOUND_STEP

    def read(self, rule: Rule = STREAM) -> tuple[Timeline, list[float], list[float]]:
        """The timeline, and the seconds at which it shows and plays each packet."""
        found = timeline(self.video, self.sound, rule)
        assert found is not None
        zero = float(found.zero_s)

        def seconds(moved: tuple[int | None, int | None]) -> float:
            assert moved[0] is not None
            return moved[0] * float(TICK) - zero

        seen = [seconds(found.video.moved(n, *raw)) for n, raw in enumerate(self._raw_seen)]
        heard = [
            seconds(found.sound.moved(n, raw, raw)) for n, raw in enumerate(self._raw_heard) if found.sound
        ]
        return found, seen, heard

    def assert_right(self, jumps: int, rule: Rule = STREAM) -> Timeline:
        """Times are those that were meant, in picture and sound, and as many jumps are told."""
        found, seen, heard = self.read(rule)
        begin = min([*self.seen, *self.heard[:1]])
        np.testing.assert_allclose(seen, [(t - begin) * float(TICK) for t in self.seen], atol=1e-4)
        np.testing.assert_allclose(heard, [(t - begin) * float(TICK) for t in self.heard], atol=0.03)
        assert len(found.jumps) == jumps, found.jumps
        end = (max(self.seen) + STEP - begin) * float(TICK)
        assert found.duration_s == pytest.approx(end, abs=1e-3)
        return found


# Jumps


@pytest.mark.parametrize("sound", [False, True])
@pytest.mark.parametrize("reordered", [False, True])
@pytest.mark.parametrize("by_s", [1.5, 8.0, 3600.0, 90_000.0, -0.3, -5.0, -3605.0, -40_000.0])
def test_jump(by_s: float, *, reordered: bool, sound: bool) -> None:
    tape = Tape(sound=sound, reordered=reordered)
    tape.run(180, 50_000.0, gop=60)
    tape.run(180, 50_000.0 + by_s, gop=60)
    (jump,) = tape.assert_right(1).jumps
    half = float(WRAP * TICK)  # what a day and more are taken for: stamps tell no more
    assert jump.at_s == pytest.approx(6.1 if sound and reordered else 6.0, abs=1e-3)
    # The pictures that are decoded first are shown first: the gap in decoding is that of the clock.
    assert (jump.by_s - by_s + half / 2) % half - half / 2 == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("sound", [False, True])
def test_several_jumps(*, sound: bool) -> None:
    tape = Tape(sound=sound)
    for shift_s in (7000.0, 0.0, 20.0, 80_000.0, 300.0):
        tape.run(60, shift_s)
    tape.assert_right(4)


def test_jump_inside_a_group_of_pictures() -> None:
    for by_s, jumps in ((20.0, 1), (-0.5, 1)):
        tape = Tape()
        tape.run(100, 1000.0)
        tape.video._columns[3][-1] = 0
        tape.run(80, 1000.0 + by_s)
        tape.video._columns[3][100] = 0  # no keyframe
        tape.assert_right(jumps)


def test_the_same_part_repeated() -> None:
    tape = Tape(sound=True, skew=3)  # sound lies before its pictures
    for number in range(6):
        tape._now, tape._sounded = number * 60 * STEP, number * 60 * STEP
        tape.run(60, -number * 2.0)
    tape.assert_right(5)


def test_sound_and_video_jump_at_different_packets() -> None:
    for skew in (-8, 0, 8):
        tape = Tape(sound=True, skew=skew)
        tape.run(90, 10.0)
        tape.run(90, 500.0)
        tape.run(90, 60.0)
        tape.assert_right(2)


def test_video_jumps_alone_and_sound_jumps_alone() -> None:
    picture, sound = Tape(sound=True), Tape(sound=True)
    picture.run(90, 0.0)
    picture.run(90, 3600.0, sound_shift_s=0.0)
    picture.assert_right(1)
    sound.run(90, 0.0)
    sound.run(90, 0.0, sound_shift_s=-3600.0)
    sound.assert_right(0)


def test_random_recordings_joined() -> None:
    random = np.random.default_rng(5)
    for _ in range(60):
        tape = Tape(sound=bool(random.integers(2)), skew=int(random.integers(-5, 6)))
        shift_s, jumps = float(random.uniform(0, 95_000)), 0
        for _ in range(int(random.integers(1, 6))):
            tape.run(int(random.integers(40, 120)), shift_s)
            jumps += 1
            by_s = float(random.choice([1, -1]) * random.choice([1.3, 30, 4000, 30_000]))
            shift_s += by_s * float(random.uniform(1, 1.4))
        tape.assert_right(jumps - 1)


def test_clock_that_begins_anew_by_itself_does_not_jump() -> None:
    for reordered in (False, True):
        tape = Tape(sound=True, reordered=reordered)
        tape.run(300, float((WRAP - 150 * STEP) * TICK))
        tape.assert_right(0)


# Pauses


@pytest.mark.parametrize("pause_s", [0.9, 4.0, 60.0, 600.0])
def test_sound_in_a_pause_tells_that_time_passes(pause_s: float) -> None:
    for skew in (0, 6):
        tape = Tape(sound=True, skew=skew)
        tape.run(90, 5.0)
        tape.pause(pause_s, 5.0)
        tape.run(90, 5.0)
        tape.assert_right(0)


@pytest.mark.parametrize("pause_s", [60.0, 600.0, 90_000.0])
def test_index_is_trusted(pause_s: float) -> None:
    tape = Tape()
    tape.run(90, 0.0)
    tape.pause(pause_s, 0.0)
    tape.run(90, 0.0)
    tape.assert_right(0, INDEXED)
    if pause_s < 600:
        tape.assert_right(0, FLV)
        found, _, _ = tape.read(STREAM)
        assert len(found.jumps) == 1


def test_pauses_that_a_stream_is_full_of() -> None:
    tape = Tape()
    for _ in range(12):
        tape.run(1, 0.0)
        tape.pause(45.0, 0.0)
    tape.assert_right(0)


def test_short_hole_inside_a_group_of_pictures_is_a_pause() -> None:
    tape = Tape()
    tape.run(90, 0.0)
    tape.pause(3.0, 0.0)
    tape.run(90, 0.0)
    assert len(tape.read()[0].jumps) == 1  # with a keyframe behind it, another recording
    tape.video._columns[3][90] = 0
    tape.assert_right(0)


# Odd stamps


@pytest.mark.parametrize("by_s", [3600.0, 2.0, -2.0, -30_000.0])
@pytest.mark.parametrize("count", [1, 4])
def test_odd_stamps_cost_nothing(by_s: float, count: int) -> None:
    tape = Tape(reordered=False)
    tape.run(90, 60_000.0)
    tape.run(count, 60_000.0 + by_s)
    tape.run(90, 60_000.0)
    assert len(tape.assert_right(0).video.odd) == count


def test_many_odd_stamps_are_a_stretch_of_their_own() -> None:
    tape = Tape()
    tape.run(90, 60_000.0)
    tape.run(5, 60_300.0)
    tape.run(90, 60_000.0)
    tape.assert_right(2)


def test_time_of_showing_alone_is_odd() -> None:
    tape = Tape()
    tape.run(60, 0.0)
    tape.video._columns[0][30] += round(3600 / TICK)
    found, seen, _ = tape.read()
    assert not found.jumps and found.duration_s == pytest.approx(2.0)
    assert found.stored_s[1] > 3600 and found.explains(3601.0) and not found.explains(1800.0)
    assert seen == pytest.approx(np.arange(60) / 30, abs=1e-4)  # of the file's own stamps, not that one


def test_no_stamps() -> None:
    assert timeline(Stamps(TICK), None, STREAM) is None
    bare = Stamps(TICK)
    for _ in range(5):
        bare.add(SimpleNamespace(pts=None, dts=None, duration=None))
    assert timeline(bare, None, STREAM) is None and animation(Stamps(TICK)) is None


# Pictures


def told(*seconds: float | None, step_s: float = 0.04) -> tuple[list[float], int]:
    clock = Clock(Fraction(1, 1000), Fraction(0), step_s)
    pictures = [SimpleNamespace(pts=None if s is None else round(s * 1000), dts=None) for s in seconds]
    return [time_s for _, time_s in clock.timed(pictures)], clock.repaired


def test_frames_without_a_time_or_with_an_early_one() -> None:
    times, repaired = told(-0.5, -0.005, 0.04, None, None, 0.16, 0.16, 0.15, 0.2)
    assert times == pytest.approx([0, 0.02, 0.04, 0.06, 0.08, 0.16, 0.173, 0.187, 0.2], abs=1e-3)
    assert repaired == 6


@pytest.mark.parametrize("run", [1, 2, 3])
@pytest.mark.parametrize("odd_s", [3600.0, 0.0, 1.0, -5.0])
def test_frame_with_an_odd_time_is_placed_between_its_neighbors(odd_s: float, run: int) -> None:
    true = [5 + n / 30 for n in range(90)]
    given = [odd_s + n / 30 if 40 <= n < 40 + run else t for n, t in enumerate(true)]
    times, repaired = told(*given)
    assert times == pytest.approx(true, abs=2e-3)
    assert repaired == run


def test_only_the_first_frame_has_a_late_time() -> None:
    times, repaired = told(3600.0, 0.04, 0.08, 0.12)
    assert times == pytest.approx([0.0, 0.04, 0.08, 0.12]) and repaired == 1


def test_long_pauses_between_frames_are_kept() -> None:
    given = [0.0, 0.04, 60.0, 60.04, 3700.0, 20_000.0]
    assert told(*given) == (pytest.approx(given), 0)


# Animations


@pytest.mark.parametrize(
    ("delays_ms", "shown_ms"),
    [
        ((0, 0, 0), (100, 100, 100)),
        ((10, 10), (100, 100)),
        ((20, 20, 30), (20, 20, 30)),
        ((16, 11, 17), (16, 11, 17)),
        ((10, 500, 0, 40, 3000), (100, 500, 100, 40, 3000)),
    ],
)
def test_delays_up_to_10_ms_are_shown_as_100(delays_ms: Sequence[int], shown_ms: Sequence[int]) -> None:
    stamps, at = Stamps(Fraction(1, 1000)), 0
    starts = []
    for delay in delays_ms:
        stamps.add(SimpleNamespace(pts=at, dts=at, duration=delay), key=True)
        starts.append(at)
        at += delay
    found = animation(stamps)
    assert found is not None and found.duration_s == pytest.approx(sum(shown_ms) / 1000)
    moved = [found.video.moved(n, t, t)[0] for n, t in enumerate(starts)]
    assert moved == [0, *itertools.accumulate(shown_ms[:-1])]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clock") / "plain.mp4", numbered(90, 64, 48), options=X264)


@pytest.mark.parametrize(
    ("name", "delays_ms", "shown_ms"),
    [
        ("a.gif", (10, 0, 20, 500), (100, 100, 20, 500)),
        ("a.apng", (10, 0, 16, 500), (100, 100, 16, 500)),
    ],
)
def test_animation_is_read_as_browsers_show_it(
    name: str, delays_ms: Sequence[int], shown_ms: Sequence[int], plain: Path, tmp_path: Path
) -> None:
    path = animate(tmp_path / name, plain, [one / 1000 for one in delays_ms], width=64)
    with VideoReader(path, Settings()) as reader:
        times = [frame.time_s for frame in reader.frames()]
        assert times == pytest.approx([0, *itertools.accumulate(s / 1000 for s in shown_ms[:-1])])
        assert reader.info.duration_s == pytest.approx(sum(shown_ms) / 1000)
        assert reader.report().complete, reader.report().reason


# Files


def steps_of(path: Path, **changes: object) -> tuple[list[float], VideoReader]:
    with VideoReader(path, Settings(**changes)) as reader:  # type: ignore[arg-type]
        times = [frame.time_s for frame in reader.frames()]
        assert reader.report().complete, reader.report().reason
    return list(np.diff(times)), reader


def test_segment_alone_equals_one_pass_over_jumps(plain: Path, tmp_path: Path) -> None:
    parts = [Recording(plain, shift_s=shift, sound_s=3.0) for shift in (9000, 20, 60)]
    ts = join(tmp_path / "a.ts", parts)
    late = restamp(
        Recording(plain, shift_s=50).write(tmp_path / "late.ts"),
        lambda n, pts, dts: (pts + 90_000 * 60, dts + 90_000 * 60) if n == 47 else (pts, dts),
    )
    mkv = join(tmp_path / "a.mkv", [Recording(plain), Recording(plain)])
    for path, jumps in ((ts, 2), (late, 0), (mkv, 1)):
        steps, reader = steps_of(path)
        assert steps == pytest.approx([1 / 30] * len(steps), abs=2e-3), path.name
        assert len(reader.info.clock_jumps) == jumps
        assert_segments_alone_equal_one_pass(path, Settings(segment_s=1.1))
        assert_segments_alone_equal_one_pass(path, Settings(fps=7, segment_s=1.3, start_s=0.37))


@pytest.mark.parametrize("declared_s", [None, 3.0])
def test_matroska_that_does_not_begin_at_0(declared_s: float | None, plain: Path, tmp_path: Path) -> None:
    from testkit.odd_times import _declare

    path = Recording(plain, shift_s=3600).write(tmp_path / "a.mkv")
    if declared_s is not None:
        _declare(path, declared_s)
    steps, reader = steps_of(path)
    assert len(steps) == 89 and reader.info.duration_s == pytest.approx(3.0, abs=0.04)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with VideoReader(path, Settings()) as reader:
        assert 10 < len(list(reader.frames())) < 80
        assert "of 3.0 s declared" in reader.report().reason


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "duration_s", "jumps"),
    [
        ("first_stamp_3600s.mkv", 6.0, ()),
        ("times_jump_forward.ts", 12.0, (ClockJump(6.0, 3593.933),)),
        ("times_jump_back.ts", 12.0, (ClockJump(6.0, -3605.933),)),
        ("gif_delay_10ms.gif", 6.0, ()),
    ],
)
def test_files_that_people_report(name: str, duration_s: float, jumps: tuple[ClockJump, ...]) -> None:
    with VideoReader(SHARED / "cases" / name, Settings()) as reader:
        last_s = [frame.time_s for frame in reader.frames()][-1]
        assert reader.info.duration_s == pytest.approx(duration_s, abs=0.01)
        assert reader.info.clock_jumps == jumps
        assert reader.report().complete, reader.report().reason
    assert last_s == pytest.approx(duration_s, abs=0.11)
