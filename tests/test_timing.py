"""StageTimer: the seconds it adds up, from all threads, and where a run reports them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import analyzer
from analyzer.settings import Settings
from analyzer.util import timing
from analyzer.util.timing import STAGES, StageTimer
from testkit.media import numbered, write_video


class Clock:
    """A clock for each thread, moved by hand."""

    def __init__(self) -> None:
        self._local = threading.local()

    def perf_counter(self) -> float:
        return float(getattr(self._local, "now", 0.0))

    def advance(self, seconds: float) -> None:
        self._local.now = self.perf_counter() + seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=made.perf_counter))
    return made


def test_seconds_add_up_in_the_order_of_the_stages(clock: Clock) -> None:
    stages = StageTimer()
    for name, seconds in (("write", 1.0), ("decode", 2.0), ("write", 4.0), ("detect", 8.0)):
        with stages(name):
            clock.advance(seconds)
        clock.advance(100)  # between the stages nothing counts
    assert list(stages.seconds.items()) == [("decode", 2.0), ("detect", 8.0), ("write", 5.0)]
    stages.add({"render": 16.0, "decode": 32.0})
    assert list(stages.seconds.items()) == [
        ("decode", 34.0),
        ("detect", 8.0),
        ("write", 5.0),
        ("render", 16.0),
    ]


def test_all_threads_count(clock: Clock) -> None:
    stages = StageTimer()
    together = threading.Barrier(8)

    def work() -> None:
        together.wait()
        for _ in range(500):
            with stages("estimate"):
                clock.advance(1.0)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stages.seconds == {"estimate": 4000.0}


def test_stage_that_fails_counts_and_the_failure_goes_on(clock: Clock) -> None:
    stages = StageTimer()
    with pytest.raises(ZeroDivisionError), stages("shots"):
        clock.advance(3.0)
        raise ZeroDivisionError
    assert stages.seconds == {"shots": 3.0}


def test_unknown_stage_is_refused_by_name_and_nothing_is_added() -> None:
    stages = StageTimer()
    with pytest.raises(ValueError, match="sleep"):
        stages.add({"detect": 1.0, "sleep": 2.0})
    with pytest.raises(ValueError, match="sleep"), stages("sleep"):
        pass
    assert stages.seconds == {}


def test_what_is_given_out_is_a_copy() -> None:
    stages = StageTimer()
    stages.add({"detect": 1.0})
    stages.seconds["detect"] = 9.0
    assert stages.seconds == {"detect": 1.0}


class Items:
    """Numbers from an iterator that takes its time, and remembers whether it was closed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.closed = False

    def give(self, count: int) -> Iterator[int]:
        try:
            for number in range(count):
                self._clock.advance(1.0)
                yield number
            self._clock.advance(0.5)  # finding the end takes time too
        finally:
            self.closed = True


def test_each_counts_the_waiting_and_not_the_use(clock: Clock) -> None:
    stages, items = StageTimer(), Items(clock)
    given = []
    for number in stages.each("decode", items.give(4)):
        clock.advance(100)
        given.append(number)
    assert given == [0, 1, 2, 3] and items.closed
    assert stages.seconds == {"decode": 4.5}


@pytest.mark.parametrize("taken", [1, 3])
def test_each_that_is_left_early_closes_its_iterator(clock: Clock, taken: int) -> None:
    stages, items = StageTimer(), Items(clock)
    given = items.give(10)
    each = stages.each("decode", given)
    for _ in range(taken):
        next(each)
    assert not items.closed
    each.close()
    assert items.closed and stages.seconds == {"decode": taken}


def test_each_hands_on_a_failure_and_counts_it(clock: Clock) -> None:
    def failing() -> Iterator[int]:
        yield 1
        clock.advance(2.0)
        raise OSError("gone")

    stages = StageTimer()
    with pytest.raises(OSError, match="gone"):
        list(stages.each("decode", failing()))
    assert stages.seconds == {"decode": 2.0}


def test_each_takes_what_cannot_be_closed() -> None:
    stages = StageTimer()
    assert list(stages.each("decode", [1, 2])) == [1, 2]
    assert list(stages.each("decode", [])) == []
    assert list(stages.seconds) == ["decode"]


@pytest.mark.parametrize(("workers", "video"), [(1, True), pytest.param(2, False, marks=pytest.mark.slow)])
def test_run_says_how_long_each_stage_took(
    workers: int, video: bool, two_portraits: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    portrait = np.ascontiguousarray(two_portraits[0])
    path = write_video(tmp_path / "short.mp4", [np.roll(portrait, n, 1) for n in range(24)], fps=8)
    settings = Settings(segment_s=1, fps=2, workers=workers, video=video)
    run = analyzer.analyze(path, settings, out=tmp_path / "out")
    assert run.info["counts"]["faces"] == 6
    expected = [name for name in STAGES if video or name != "render"]
    assert list(run.info["stages_s"]) == expected
    assert all(seconds >= 0 for seconds in run.info["stages_s"].values())
    # What takes time is there, from each process too.
    assert all(run.info["stages_s"][name] > 0 for name in ("decode", "detect", "estimate"))


def test_run_without_faces_has_no_stage_that_needs_them(tmp_path: Path) -> None:
    path = write_video(tmp_path / "numbers.mp4", numbered(15), fps=5)
    run = analyzer.analyze(path, Settings(fps=5, video=False), out=tmp_path / "out")
    names = set(run.info["stages_s"])
    assert {"decode", "convert", "shots", "detect", "track", "write", "link"} == names
