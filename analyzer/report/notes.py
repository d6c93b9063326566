"""The notes of a report: what a reader must know about its data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analyzer.people.confirmed import known_people
from analyzer.people.proportions import FEW_PEOPLE, UNMEASURED
from analyzer.report.figures import runs_words
from analyzer.report.population import Population
from analyzer.report.shares import Shares
from analyzer.runs.notes import UNMEASURED_AGES
from analyzer.runs.run_info import RunInfo
from analyzer.util.text import counted, percent

__all__ = ["notes", "run_notes"]


def run_notes(info: RunInfo) -> list[str]:
    """A run's own notes on faces that were not counted or have no estimate; older runs have none."""
    return [note for note in info["notes"] if note]


def notes(population: Population, shares: Shares, *, by_day: bool) -> list[str]:
    """The notes on all runs of a report, a sentence each.

    Args:
        population: All people.
        shares: Their estimated shares.
        by_day: Whether runs were chosen by their day.
    """
    runs, least = population.corpus.runs, population.min_people
    found = run_notes(runs[0].info) if population.single and least == 1 else []
    found += _reading_notes(population)
    found += _shares_notes(population, shares)
    if not population.single:
        found += _notes_on_several(population, shares, by_day=by_day)
    if least > 1:
        found.append(
            f"Groups of fewer than {least} people are suppressed, and so is everything about one person."
        )
    return list(dict.fromkeys(found))  # the runs' notes say some of it, too


def _reading_notes(population: Population) -> list[str]:
    """Notes on what could not be read."""
    table, runs, single = population.corpus.table, population.corpus.runs, population.single
    found = []
    incomplete = ~table["complete"].astype(bool)
    images = table["kind"] == "images"
    why = runs[0].info.get("incomplete_reason") if single else None
    reason = f" ({why})" if why else ""
    if parts := int((incomplete & ~images).sum()):
        subject = "The video was" if single else _counted_runs(population, parts, "was", "were")
        found.append(f"{subject} not read to the end{reason}.")
    if parts := int((incomplete & images).sum()):
        subject = "" if single else f" of {counted(parts, 'run')}"
        found.append(f"Not all images{subject} could be read{reason}.")
    if (number := int(images.sum())) and not images.all():
        subject = counted(number, "run consists", "runs consist")
        found.append(f"{subject} of images, not of a video: each image counts as one second.")
    for of_images, noun in ((False, "damaged packet"), (True, "image")):
        bad = sum(
            int(_unread(run.info, "unreadable_images" if image else "bad_packets") or 0)
            for run, image in zip(runs, images, strict=True)
            if image == of_images
        )
        if bad:
            found.append(f"{counted(bad, noun)} could not be read; people shown only there are missing.")
    return found


def _unread(info: RunInfo, name: str) -> Any:
    reading: Mapping[str, Any] = info["reading"]
    return reading.get(name, reading.get("bad_packets"))  # older runs of images have no number of their own


def _shares_notes(population: Population, shares: Shares) -> list[str]:
    """Notes on the estimated shares."""
    found = []
    people, runs = population.people, population.corpus.runs
    estimated = int(known_people(people).sum())
    unmeasured = [number for number, run in enumerate(runs) if not run.measured]
    if people.loc[people["run_no"].isin(unmeasured), "age_low"].notna().any():
        found.append(UNMEASURED_AGES)
    if population.single and not runs[0].measured:
        found.append(UNMEASURED)
    elif 0 < estimated < FEW_PEOPLE and population.min_people == 1:
        have = counted(estimated, "person has an estimate", "people have estimates")
        found.append(f"Only {have} of gender or age: too few to estimate shares.")
    if misfit := shares.misfit():
        found.append(
            f"Counts and estimated shares differ by {percent(misfit[1])} for {misfit[0]}. The error rates of "
            "the models, measured on labeled faces, may not apply to this footage: trust neither figure."
        )
    return found


def _notes_on_several(population: Population, shares: Shares, *, by_day: bool) -> list[str]:
    """Notes on a collection of runs."""
    table, runs = population.corpus.table, population.corpus.runs
    found = []
    dated = table["day_is"].value_counts()
    by_day = by_day or (population.groups is not None and population.groups.timely)
    if by_day and (analyzed := int(dated.get("analyzed", 0))):
        subject = _counted_runs(population, analyzed, "is", "are")
        found.append(f"{subject} dated by the day of the analysis, because no other day is known.")
    if unlike := int((~shares.estimated_alike).sum()):
        found.append(
            f"{_counted_runs(population, unlike, 'was', 'were')} analyzed with models of other or unknown "
            "error rates and left out of the estimated shares."
        )
    if twice := int(table["video_id"].duplicated().sum()):
        subject = _counted_runs(population, twice, "appears", "appear")
        found.append(f"{subject} more than once, in different runs: every run is counted.")
    several = "sets of images" if population.of_images else "videos"
    for name, words in (("fps", "samples per second"), ("min_confidence", "confidence limits")):
        if len({str(run.info["settings"].get(name)) for run in runs}) > 1:
            found.append(f"The {several} were analyzed with different {words}, so their figures differ.")
    return found


def _counted_runs(population: Population, number: int, one: str, several: str) -> str:
    words = runs_words(number, images=population.of_images)
    return f"{words} {one if number == 1 else several}"
