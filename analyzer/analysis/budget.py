"""`--budget`: the densest sampling whose analysis fits a time, found by trying a little of the video."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from analyzer.analysis.segment import Models, analyze_segments
from analyzer.media.frame import Sample
from analyzer.media.reader import VideoReader
from analyzer.settings import Settings, budget_s

__all__ = [
    "Choice",
    "choose_sampling",
]

# Rates to choose from, besides the one asked for. Few, so that a run that goes on chooses the same again.
_RATES = (10.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.5, 0.2, 0.1)


# Where the video is tried, as shares of its length, for how long, and how many samples at most.
_PLACES = (0.15, 0.5, 0.85)

_STRETCH_S = 2.0

_KEYFRAMES_S = 20.0

_SAMPLES = 6


# The machine may be busier later: so much of the time is planned for.
_PLANNED = 0.9


@dataclass(frozen=True)
class Choice:
    """What was chosen for one video."""

    settings: Settings
    """With the sampling chosen, and without the budget."""
    asked: str
    budget_s: float
    expected_s: float
    """How long the analysis should take."""

    @property
    def fits(self) -> bool:
        return self.expected_s <= self.budget_s

    def in_words(self) -> str:
        """A sentence for the user."""
        settings = self.settings
        how = "keyframes alone" if settings.keyframes else f"{settings.fps:g} samples a second"
        takes = f"{how}, which takes about {self.expected_s:.1f} s"
        allowed = f"the {self.budget_s:.1f} s that a budget of {self.asked} allows"
        return f"{takes} of {allowed}" if self.fits else f"{takes}, more than {allowed}"


@dataclass(frozen=True)
class _Cost:
    """Seconds of work."""

    reading: float
    """For a second of video."""
    sample: float
    """For a sample."""
    rate: float
    """Samples a second."""

    def total(self, duration_s: float, rate: float | None = None) -> float:
        return duration_s * (self.reading + self.sample * (self.rate if rate is None else rate))


def choose_sampling(path: Path, duration_s: float, settings: Settings, models: Models) -> Choice:
    """The densest sampling, at most that of the settings, whose analysis should fit `settings.budget`.

    A few stretches of the video are read and analyzed (for a second or so), and the rest is reckoned from
    them.

    Args:
        path: The video file.
        duration_s: Length of the stretch that is to be analyzed.
        settings: With a budget.
        models: Loaded networks.

    Raises:
        MediaError: The video cannot be read.
    """
    asked = settings.budget
    assert asked is not None
    limit_s = budget_s(asked, duration_s)
    settings = settings.replace(budget=None)
    cost = _try(path, duration_s, settings, models, _STRETCH_S)
    rates = [settings.fps, *(rate for rate in _RATES if rate < settings.fps)]
    for rate in rates:
        expected_s = cost.total(duration_s, rate)
        if expected_s <= _PLANNED * limit_s:
            return Choice(settings.replace(fps=rate), asked, limit_s, expected_s)
    sparse = settings.replace(keyframes=True)
    cost = _try(path, duration_s, sparse, models, _KEYFRAMES_S)
    return Choice(sparse, asked, limit_s, cost.total(duration_s))


def _try(path: Path, duration_s: float, settings: Settings, models: Models, stretch_s: float) -> _Cost:
    read_s = reading = analyzing = 0.0
    samples = 0
    for place in _PLACES:
        start_s = settings.start_s + max(0.0, place * duration_s - stretch_s / 2)
        with VideoReader(path, settings) as reader:
            pictures = _timed(reader.samples(start_s, start_s + stretch_s))
            # Going to the place is no part of the work.
            first = next(pictures, None)
            if first is None:
                continue
            rest = list(itertools.islice(pictures, _SAMPLES))
            reading += sum(seconds for _, seconds in rest)
            read_s += (rest[-1][0] if rest else first[0]).frame.time_s - first[0].frame.time_s
            some = [first[0], *(sample for sample, _ in rest)]
            begun = time.perf_counter()
            for _ in analyze_segments(some, models, settings):
                pass
            analyzing += time.perf_counter() - begun
            samples += len(some)
    reading_each = reading / read_s if read_s else 0.0
    rate = samples / (read_s or duration_s) if settings.keyframes else settings.fps
    return _Cost(reading_each, analyzing / max(samples, 1), rate)


def _timed(samples: Iterator[Sample]) -> Iterator[tuple[Sample, float]]:
    while True:
        begun = time.perf_counter()
        sample = next(samples, None)
        if sample is None:
            return
        yield sample, time.perf_counter() - begun
