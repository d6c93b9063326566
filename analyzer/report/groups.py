"""Group runs by period, column or file name."""

from __future__ import annotations

import contextlib
import datetime
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyzer.errors import SettingsError
from analyzer.report.dataset import BY_FILE_NAME, PERIODS
from analyzer.report.values import known_value

__all__ = [
    "NAME_PATTERN",
    "Groups",
    "grouped_runs",
]

_NOT_KNOWN = "not known"

NAME_PATTERN = r"^(.*?)[\s._-]*\d*$"
"""The default pattern for `name`: file names that differ only in the number at their end form a group."""


@dataclass(frozen=True)
class Groups:
    """Runs in groups."""

    by: str
    names: tuple[str, ...]
    of_run: NDArray[np.int64]
    """(R,) number of each run's group."""

    @property
    def timely(self) -> bool:
        """Whether the groups are consecutive periods, so that each can be compared with the one before."""
        return self.by in PERIODS and self.by != "hour"


def grouped_runs(table: pd.DataFrame, by: str, name_pattern: str = NAME_PATTERN) -> Groups:
    """Group the rows of a table of runs.

    Args:
        table: With the columns of `RUN_COLUMNS`.
        by: One of `PERIODS`, `name`, or a column of the table.
        name_pattern: For `name`: a regular expression.

    Raises:
        SettingsError: There is no such column, or the pattern is not a regular expression.
    """
    names_there = {name.casefold(): name for name in (*table.columns, *PERIODS)}
    by = names_there.get(by.casefold(), by)
    if by in PERIODS:
        names = [_period(day, hour, by) for day, hour in zip(table["day"], table["hour"], strict=True)]
    elif by in table.columns:
        names = [
            _NOT_KNOWN if known_value(value) in (None, "") else _group_text(value) for value in table[by]
        ]
    elif by == BY_FILE_NAME:
        names = _by_file_name(table, name_pattern)
    else:
        known = ", ".join(dict.fromkeys(("video", *PERIODS, BY_FILE_NAME, *table.columns)))
        raise SettingsError(f"--by {by} is not a column: choose one of {known}")
    distinct = sorted(set(names), key=lambda name: (name == _NOT_KNOWN, _natural(name)))
    place = {name: number for number, name in enumerate(distinct)}
    return Groups(by, tuple(distinct), np.array([place[name] for name in names], np.int64))


def _by_file_name(table: pd.DataFrame, pattern: str) -> list[str]:
    """The match of the pattern in each file's name without suffix, or in the title of a web video."""
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise SettingsError(
            f"--name-pattern {pattern!r} is not a regular expression ({error}): write one such as '^[a-z]+'"
        ) from error
    names = []
    for source, title in zip(table["source"], table["title"], strict=True):
        name = str(title) if "://" in str(source) else Path(str(source)).stem
        found = expression.search(name)
        text = (found[1] if expression.groups else found[0]) if found else None
        names.append(text.strip() if text and text.strip() else _NOT_KNOWN)
    return names


def _group_text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _natural(name: str) -> tuple[int, float, str]:
    with contextlib.suppress(ValueError):
        if math.isfinite(number := float(name)):
            return 0, number, name
    return 1, 0.0, name.casefold()


def _period(day: datetime.date, hour: Any, by: str) -> str:
    """The period of a day.

    >>> [_period(datetime.date(2026, 11, 24), None, by) for by in ("day", "week", "month", "hour")]
    ['2026-11-24', '2026-W48', '2026-11', 'not known']
    """
    match by:
        case "day":
            return day.isoformat()
        case "week":
            year, week, _ = day.isocalendar()
            return f"{year}-W{week:02d}"
        case "month":
            return f"{day:%Y-%m}"
    return _NOT_KNOWN if known_value(hour) is None else f"{int(hour):02d}:00"
