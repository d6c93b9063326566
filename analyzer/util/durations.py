"""Durations: parse them as users write them, and write them for people."""

from __future__ import annotations

import math
import re

from analyzer.util.validation import InvalidValueError, brief

__all__ = ["DAY_S", "HOUR_S", "MINUTE_S", "duration_text", "parse_duration", "rough_duration", "seconds_in"]

MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86400.0

_UNITS = {"w": 7 * DAY_S, "d": DAY_S, "h": HOUR_S, "min": MINUTE_S, "s": 1.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(w|d|h|min|s) ?|(.)", re.DOTALL)


def parse_duration(value: object, name: str, *, low: float = 0.0, high: float = math.inf) -> float:
    """Parse a duration: ``90s``, ``10min``, ``1h30min``, ``30d``, ``4w``, or a number of seconds.

    Args:
        value: Text or a number.
        name: The value's name in error messages.
        low: The shortest duration allowed, in seconds.
        high: The longest duration allowed, in seconds.

    Returns:
        Seconds.

    Raises:
        InvalidValueError: It is not a duration, or out of range.

    >>> parse_duration("1h30min", "time_budget"), parse_duration(90, "time_budget")
    (5400.0, 90.0)
    """
    seconds = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            seconds = float(value)
        except OverflowError:  # an integer of hundreds of digits
            seconds = math.inf if value > 0 else -math.inf
    elif isinstance(value, str):
        seconds = seconds_in(value)
    if math.isnan(seconds):
        raise InvalidValueError(
            f"{name} must be a duration such as 90s, 10min, 1h30min or 30d, or a number of seconds, "
            f"not {brief(value)}"
        )
    if not low <= seconds <= high or math.isinf(seconds):
        raise InvalidValueError(f"{name} must be {_range_text(low, high)}, not {brief(value)}")
    return seconds


def _range_text(low: float, high: float) -> str:
    if math.isinf(high):
        return f"at least {duration_text(low)}"
    return f"between {duration_text(low)} and {duration_text(high)}"


def seconds_in(text: str) -> float:
    """Return the seconds of ``1h30min`` or ``90``; NaN if the text is not a duration.

    Units go from the longest to the shortest, each at most once.

    >>> seconds_in("1h 30min"), seconds_in("90"), seconds_in("30min 1h")
    (5400.0, 90.0, nan)
    """
    text = text.strip().lower()
    if re.fullmatch(r"[0-9]+(?:\.[0-9]+)?", text):
        return float(text)
    parts = _PART.findall(text)
    order = [list(_UNITS).index(unit) for _, unit, _ in parts if unit]
    if not parts or len(order) < len(parts) or order != sorted(set(order)):
        return math.nan
    return sum(float(number) * _UNITS[unit] for number, unit, _ in parts)


def duration_text(seconds: float) -> str:
    """Write a duration exactly, to a tenth of a second.

    >>> duration_text(5400), duration_text(2.04), duration_text(86400)
    ('1 h 30 min', '2 s', '1 d')
    """
    tenths = round(seconds * 10)
    words = []
    for unit, size in (("d", 864_000), ("h", 36_000), ("min", 600)):
        count, tenths = divmod(tenths, size)
        if count:
            words.append(f"{count} {unit}")
    if tenths or not words:
        words.append(f"{tenths / 10:g} s")
    return " ".join(words)


def rough_duration(seconds: float) -> str:
    """Write a duration roughly, in one unit. Only exactly nothing is ``0 s``.

    >>> rough_duration(0.2), rough_duration(0)
    ('<1 s', '0 s')
    >>> rough_duration(41.3), rough_duration(2470), rough_duration(12_300), rough_duration(4_000_000)
    ('41 s', '41 min', '3.4 h', '1,111 h')
    """
    if 0 < seconds < 0.5:
        return "<1 s"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if seconds < 99.5 * 60:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 99.95 else f"{hours:,.0f} h"
