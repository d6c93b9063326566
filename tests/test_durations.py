"""Durations as users write them, and as they are shown."""

from __future__ import annotations

import datetime
import math
from typing import Any

import pytest

from analyzer.util.durations import DAY_S, duration_text, parse_duration
from analyzer.util.validation import InvalidValueError


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("90s", 90),
        ("10min", 600),
        ("2h", 7200),
        ("1h30min", 5400),
        ("1h 30min", 5400),
        (" 1 H ", 3600),
        ("1.5h", 5400),
        ("30d", 30 * 86400),
        ("1w2d3h4min5s", 788_645),
        ("90", 90),
        (90, 90),
        (0, 0),
        (0.5, 0.5),
    ],
)
def test_duration(value: Any, seconds: float) -> None:
    assert parse_duration(value, "pause") == seconds


@pytest.mark.parametrize(
    "value",
    [
        *("", "s", "10m", "10 minutes", "30min1h", "1h1h", "-5s", "1,5h", "1e3s", "5min x", "h5", "٣s"),
        *(True, None, [1], math.nan, datetime.time(6), "5 s\n\n6 s"),
    ],
)
def test_other_values_are_refused_with_examples(value: Any) -> None:
    with pytest.raises(InvalidValueError, match=r"^pause must be a duration such as 90s, 10min"):
        parse_duration(value, "pause")


@pytest.mark.parametrize("value", [-1, math.inf, 10**400, "9" * 400, "367d", -math.inf])
def test_duration_out_of_range_is_refused(value: Any) -> None:
    with pytest.raises(InvalidValueError, match="must be between 0 s and 366 d"):
        parse_duration(value, "pause", high=366 * DAY_S)


def test_bounds_are_allowed_and_named() -> None:
    assert parse_duration("1min", "pause", low=60, high=60) == 60
    with pytest.raises(InvalidValueError, match="between 1 min and 1 h 30 min, not '2h'"):
        parse_duration("2h", "pause", low=60, high=5400)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.04, "0 s"),
        (59.96, "1 min"),
        (61.5, "1 min 1.5 s"),
        (11160, "3 h 6 min"),
        (90061, "1 d 1 h 1 min 1 s"),
    ],
)
def test_duration_text(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_without_a_longest_duration_the_shortest_is_named() -> None:
    with pytest.raises(InvalidValueError, match="pause must be at least 1 s, not 0"):
        parse_duration(0, "pause", low=1)
