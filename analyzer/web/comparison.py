"""Figures of chosen runs in groups, with differences and intervals: the report's, as JSON for a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from analyzer.errors import OutputError
from analyzer.report.dataset import Chosen, Corpus, Found, Skipped
from analyzer.report.figures import Figure, ends_of, figure_of, figure_text, span_text, why_not
from analyzer.report.metrics import Metrics
from analyzer.report.population import Population
from analyzer.report.shares import Shares
from analyzer.report.trends import Trends
from analyzer.runs.run import Run
from analyzer.runs.run_info import UnusableRunError

__all__ = ["CompareView", "compare"]

_SHOWN = (
    *("videos", "people", "people_per_video", "female_people_share", "female_time_share", "age_median_years"),
    *("on_screen_s", "occupancy", "co_presence", "concurrent_mean", "analyzed_s"),
)
"""The figures of a group, in this order."""

_MAX_SKIPPED = 20


class CompareView(TypedDict):
    """Groups of runs and the differences between them."""

    by: str
    timely: bool
    """Whether the groups are consecutive periods."""
    runs: int
    figures: list[dict[str, Any]]
    """`name`, `words`, `unit` and `meaning` of each figure of the groups."""
    total: dict[str, Any]
    """As one of `groups`."""
    groups: list[dict[str, Any]]
    """`name`, and by figure `cells` of `text`, `span` and `value`, or `why` it is not stated."""
    drawn: list[dict[str, Any]]
    """`name`, `words`, `unit` of figures with error bars, and `values`: [value, low, high] by group."""
    differences: list[list[Any]]
    """[first group, second group, figure, difference, low, high, whether it exceeds its error bars]; the
    groups and figures by their places in `groups` and `drawn`. Null where it is not known."""
    skipped: list[str]
    """Runs that could not be read, a phrase each."""


def compare(folders: Sequence[str | Path], by: str, min_people: int = 1) -> CompareView:
    """Compare groups of runs.

    Args:
        folders: The folders of the runs.
        by: `week`, `name` or another value of the option `--by` of reports.
        min_people: Suppress groups of fewer people.

    Raises:
        OutputError: None of the runs can be read.
        SettingsError: There is no such column.
    """
    runs, skipped = [], []
    for folder in map(Path, folders):
        try:
            runs.append(Run.load(folder))
        except UnusableRunError as error:
            skipped.append(Skipped(folder, error.reason, fault=True))
    if not runs:
        raise OutputError("none of these runs can be read: choose others")
    with Corpus.open(Found(tuple(runs), tuple(skipped)), Chosen()) as corpus:
        if not corpus.runs:
            raise OutputError("none of these runs can be read: choose others")
        population = Population(corpus, by=by, min_people=min_people)
        groups = population.groups
        assert groups is not None
        shares = Shares(population)
        metrics, trends = Metrics(population, shares), Trends(population, shares)
        images = population.of_images
        figures = [one for name in _SHOWN if (one := figure_of(name, images=images)) is not None]
        words, values = trends.words(), trends.intervals()
        return {
            "by": groups.by,
            "timely": groups.timely,
            "runs": len(corpus.runs),
            "figures": [
                {"name": one.name, "words": one.words, "unit": one.unit, "meaning": one.meaning}
                for one in figures
            ],
            "total": {"name": "all", "cells": _cells(metrics.total(), figures, min_people)},
            "groups": [
                {"name": str(row["group"]), "cells": _cells(row, figures, min_people)}
                for row in metrics.groups()
            ],
            "drawn": [
                {"name": name, "words": words[name][0], "unit": words[name][1], "values": values[name]}
                for name in values
            ],
            "differences": _differences(trends, groups.names, list(values)),
            "skipped": [f"{one.folder.name} {one.reason}" for one in corpus.skipped[:_MAX_SKIPPED]],
        }


def _cells(row: Mapping[str, Any], figures: Sequence[Figure], least: int) -> dict[str, dict[str, Any]]:
    cells: dict[str, dict[str, Any]] = {}
    for figure in figures:
        if why := why_not(row, figure.name, least=least):
            cells[figure.name] = {"why": why}
            continue
        value, (low, high) = row[figure.name], ends_of(row, figure.name)
        text, span = figure_text(value, figure.unit), span_text(low, high, figure.unit)
        cells[figure.name] = {"text": text, "span": span, "value": value}
    return cells


def _differences(trends: Trends, groups: Sequence[str], figures: Sequence[str]) -> list[list[Any]]:
    comparison = trends.comparison(every=True)
    if comparison is None:
        return []
    place = {name: number for number, name in enumerate(groups)}
    of = {name: number for number, name in enumerate(figures)}
    rows = []
    for row in comparison["rows"]:
        ends = (row[key] for key in ("difference", "difference_low", "difference_high"))
        known = [None if end is None else round(end, 5) for end in ends]
        rows.append([place[row["first"]], place[row["second"]], of[row["figure"]], *known, row["exceeds"]])
    return rows
