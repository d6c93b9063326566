"""Tables that break people and time down: by gender and age, by number, by moment, by pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyzer.people.confirmed import ESTIMATED
from analyzer.report.document import (
    ConcurrentRow,
    ImageRow,
    Moment,
    Pair,
    PersonRow,
    PyramidCell,
    ScreenTimeRow,
    Timeline,
)
from analyzer.report.population import APPEARANCES, Population
from analyzer.report.privacy import suppressed
from analyzer.report.values import records
from analyzer.util.gender import GENDERS

__all__ = [
    "MOMENTS",
    "MOMENT_S",
    "concurrent",
    "image_rows",
    "moments",
    "pairs",
    "people_rows",
    "pyramid",
    "screen_time",
    "timeline",
]

MOMENT_S = 10.0
"""Length of the windows among which the busiest moments are found, in seconds."""

MOMENTS = {True: 5, False: 10}
"""Number of busiest moments: of a single video, and of several."""

_MAX_BINS = 2000
_MAX_PAIRS = 50


def pyramid(population: Population) -> list[PyramidCell]:
    """People and their time by gender and age band, not corrected; a row for every cell."""
    sums = None
    if not population.all_hidden:
        sums = population.people.groupby(["gender", "band"])["on_screen_s"].agg(["size", "sum"])
    bands = [*(band.name for band in population.bands), "unknown"]
    rows: list[PyramidCell] = []
    of_gender = population.people["gender"].value_counts().reindex(GENDERS, fill_value=0)
    few = suppressed(of_gender.tolist(), population.min_people)
    for gender, all_hidden in zip(GENDERS, few, strict=True):
        cells = [(gender, band) for band in bands]
        counts = [int(sums["size"].get(cell, 0)) if sums is not None else 0 for cell in cells]
        hidden = suppressed(counts, population.min_people) | bool(sums is None or all_hidden)
        for (_, band), people, hide in zip(cells, counts, hidden, strict=True):
            time_s = float(sums["sum"].get((gender, band), 0.0)) if sums is not None else 0.0
            rows.append(
                {
                    "gender": gender,
                    "band": band,
                    "people": None if hide else people,
                    "on_screen_s": None if hide else time_s,
                }
            )
    return rows


def concurrent(population: Population) -> list[ConcurrentRow]:
    """The analyzed time by number of people on screen at the same time."""
    if population.all_hidden:
        return []
    rows = population.corpus.frame(
        "SELECT people, sum(duration_s) AS time_s FROM moment GROUP BY people ORDER BY people"
    )
    whole = float(rows["time_s"].sum())
    return [
        {"people": int(people), "time_s": float(time), "share": float(time) / whole if whole else None}
        for people, time in rows.itertuples(index=False)
    ]


def moments(population: Population) -> tuple[list[Moment], int]:
    """The windows of `MOMENT_S` with the most people on average, with the peak in each.

    Neighboring windows with the same mean are one moment; of moments with the same mean, longer ones come
    first. The number of moments is that of `MOMENTS`. Of several videos, each gives only its busiest moment.
    A single video with equally many people all the time, or in all windows, has none.

    Returns:
        The moments, and how many more have the mean of the last.
    """
    rows = _windows(population)
    if population.single:
        counts = population.corpus.frame("SELECT DISTINCT people FROM moment WHERE duration_s > 0")
        if len(counts) < 2 or (len(rows) > 1 and rows["people"].nunique() == 1):
            return [], 0
    rows = rows[rows["people"] > 0]
    goes_on = (rows["run_no"] == rows["run_no"].shift()) & (rows["people"] == rows["people"].shift())
    goes_on &= np.abs(rows["start_s"] - rows["start_s"].shift() - MOMENT_S) < 1e-6
    joined = rows.groupby((~goes_on).cumsum()).agg(
        {"run_no": "first", "start_s": "first", "end_s": "last", "people": "first"}
    )
    joined["length_s"] = (joined["end_s"] - joined["start_s"]).round(6)
    joined = joined.sort_values(
        ["people", "length_s", "run_no", "start_s"], ascending=[False, False, True, True], kind="stable"
    )
    if not population.single:
        joined = joined.drop_duplicates("run_no")
    if population.min_people > 1:
        joined = joined[(joined["people"] >= population.min_people) & (not population.all_hidden)]
    names = population.corpus.table["run"].to_numpy()
    best = records(joined.head(MOMENTS[population.single]))
    more = int((joined["people"] == best[-1]["people"]).sum()) if best else 0
    more -= sum(row["people"] == best[-1]["people"] for row in best)
    peaks = [_peak(population, int(row["run_no"]), row["start_s"], row["end_s"]) for row in best]
    found: list[Moment] = [
        {
            "run": str(names[row["run_no"]]),
            "start_s": row["start_s"],
            "end_s": row["end_s"],
            "people": row["people"],
            "peak_s": peak_s,
            "peak_people": people,
        }
        for row, (peak_s, people) in zip(best, peaks, strict=True)
    ]
    return found, more


def _windows(population: Population) -> pd.DataFrame:
    """The windows of `MOMENT_S` that are known for half of their length or more, by run and time.

    Columns: ``run_no``, ``start_s``, ``end_s``, ``people`` (mean number of people, to nine digits).
    """
    return population.corpus.frame(
        f"""SELECT run_no, start_s, least(start_s + {MOMENT_S}, last_s) AS end_s, round(people, 9) AS people
        FROM (
            SELECT run_no, floor(time_s / {MOMENT_S}) * {MOMENT_S} AS start_s,
                max(time_s + duration_s) AS last_s,
                sum(people * duration_s) / sum(duration_s) AS people, sum(duration_s) AS known_s,
            FROM moment WHERE duration_s > 0 GROUP BY ALL
        ) part WHERE known_s + 1e-6 >= least({MOMENT_S} / 2, (
            SELECT sum(duration_s) FROM moment whole WHERE whole.run_no = part.run_no)
        ) ORDER BY run_no, start_s"""
    )


def _peak(population: Population, run_no: int, start_s: float, end_s: float) -> tuple[float, int]:
    """When the largest number of people in a moment is first on screen, and that number."""
    peaks = population.corpus.frame(
        f"""SELECT time_s, people FROM moment WHERE run_no = {run_no}
            AND duration_s > 0 AND time_s >= {start_s} AND time_s < {end_s}
        ORDER BY people DESC, time_s LIMIT 1"""
    )
    (peak,) = records(peaks)
    return float(peak["time_s"]), int(peak["people"])


def screen_time(population: Population) -> list[ScreenTimeRow]:
    """People and time on screen by perceived gender and by age band, not corrected.

    For everything, each group and each video. Empty where groups of few people are suppressed: together
    with the pyramid it would reveal them by subtraction.
    """
    if population.min_people > 1:
        return []
    groups, count = population.groups, len(population.corpus.runs)
    rows = _screen_time(population, "", [""], np.zeros(count, np.int64))
    if groups is not None:
        rows += _screen_time(population, groups.by, groups.names, groups.of_run)
    if not population.single:
        rows += _screen_time(population, "video", population.corpus.table["run"].tolist(), np.arange(count))
    return rows


def _screen_time(
    population: Population, by: str, names: Sequence[str], of_run: NDArray[np.int64]
) -> list[ScreenTimeRow]:
    people = population.people.assign(number=of_run[population.people["run_no"].to_numpy(np.int64)])
    whole = np.bincount(people["number"], people["on_screen_s"], len(names))
    bands = [*(band.name for band in population.bands), "unknown"]
    found: list[list[ScreenTimeRow]] = [[] for _ in names]
    for dimension, column, classes in (("gender", "gender", GENDERS), ("age", "band", bands)):
        place = people[column].map({name: index for index, name in enumerate(classes)})
        cell = people["number"].to_numpy(np.int64) * len(classes) + place.to_numpy(np.int64)
        size = np.bincount(cell, minlength=len(names) * len(classes)).reshape(len(names), -1)
        time_s = np.bincount(cell, people["on_screen_s"], len(names) * len(classes)).reshape(size.shape)
        for number, name in enumerate(names):
            found[number] += [
                {
                    "by": by,
                    "group_value": name,
                    "dimension": dimension,
                    "group": one,
                    "people": int(size[number, index]),
                    "on_screen_s": float(time_s[number, index]),
                    "share": float(time_s[number, index] / whole[number]) if whole[number] else None,
                }
                for index, one in enumerate(classes)
            ]
    return [row for rows in found for row in rows]


def people_rows(population: Population) -> list[PersonRow] | None:
    """The people of all videos; of a single video with the spans of their appearances."""
    if population.min_people > 1:
        return None
    columns = ["person_id", "name", "gender", "female_prob", "age_years", "age_low", "age_high", "band"]
    columns += ["gender_source", "age_source", "corrected", "first_s", "last_s", "on_screen_s", "appearances"]
    # Runs of older versions have no corrections.
    uncorrected = {"name": "", "gender_source": ESTIMATED, "age_source": ESTIMATED}
    people = population.people.fillna(uncorrected)
    people["corrected"] = people["corrected"].eq(True).fillna(False).astype(bool)
    names = population.corpus.table["run"].to_numpy()[people["run_no"].to_numpy(np.int64)]
    rows: list[dict[str, Any]] = [
        {"run": str(name)} | row
        for name, row in zip(
            names, records(people[columns].rename(columns={"band": "age_band"})), strict=True
        )
    ]
    if population.single:
        spans = population.corpus.frame(f"{APPEARANCES} ORDER BY start_s")
        times = spans[["start_s", "end_s"]].round(3)
        mine = {person: each.to_numpy().tolist() for person, each in times.groupby(spans["person_id"])}
        rows = [row | {"spans": mine.get(row["person_id"], [])} for row in rows]
    return cast(list[PersonRow], rows)


def pairs(population: Population) -> list[Pair] | None:
    """The pairs of people of a single video with the most time on screen together."""
    if population.min_people > 1 or not population.single:
        return None
    faces = population.corpus.rows("faces", {"sample": "INTEGER", "person_id": "INTEGER"})
    rows = population.corpus.frame(
        f"""WITH face AS MATERIALIZED (SELECT sample, person_id FROM ({faces}) WHERE person_id > 0)
        SELECT a.person_id AS a, b.person_id AS b, sum(duration_s) AS co_presence_s
        FROM face a JOIN face b ON a.sample = b.sample AND a.person_id < b.person_id
        JOIN moment ON moment.sample = a.sample
        GROUP BY ALL ORDER BY round(co_presence_s, 6) DESC, a, b LIMIT {_MAX_PAIRS}"""
    )
    return [
        {"a": int(a), "b": int(b), "co_presence_s": float(time)}
        for a, b, time in rows.itertuples(index=False)
    ]


def image_rows(population: Population) -> list[ImageRow] | None:
    """The people in each image of a single set of images; a row without a person for an image without any."""
    if not population.single or population.min_people > 1 or not population.of_images:
        return None
    try:
        table = population.corpus.runs[0].images
        columns = [table[name] for name in ("image", "readable", "person_id", "gender")]
    except (OSError, ValueError, KeyError):  # damaged: the rest of the report does not depend on it
        return None
    return [
        {
            "image": str(image),
            "readable": bool(readable),
            "person_id": int(person) if person > 0 else None,
            "gender": gender if isinstance(gender, str) else "",
        }
        for image, readable, person, gender in zip(*columns, strict=True)
    ]


def timeline(population: Population) -> Timeline | None:
    """The timeline of a single video; bins are averaged where there are more than 2,000."""
    if not population.single or population.min_people > 1:
        return None
    names = [*(band.column for band in population.bands), "unknown_age"]
    kinds = ("people", "female", "male", "unknown_gender", *names)
    columns = ", ".join(("start_s", "end_s", *kinds))
    rows = population.corpus.frame(f"SELECT {columns} FROM bin ORDER BY start_s")
    if rows.empty:
        return None
    known = population.corpus.frame("SELECT time_s, duration_s FROM moment ORDER BY time_s")
    rows.loc[_covered_s(known, rows) <= 0, list(kinds)] = np.nan
    joined = -(-len(rows) // _MAX_BINS)
    bins = rows.groupby(np.arange(len(rows)) // joined)
    means = bins[list(kinds)].mean()

    def series(name: str) -> list[float | None]:
        return [None if np.isnan(value) else round(value, 3) for value in means[name]]

    return {
        "bin_s": float((rows["end_s"] - rows["start_s"]).iloc[0]) * joined,
        "start_s": bins["start_s"].min().round(3).tolist(),
        "end_s": bins["end_s"].max().round(3).tolist(),
        "people": series("people"),
        "female": series("female"),
        "male": series("male"),
        "unknown_gender": series("unknown_gender"),
        "ages": {
            **{band.name: series(band.column) for band in population.bands},
            "unknown": series("unknown_age"),
        },
    }


def _covered_s(known: pd.DataFrame, bins: pd.DataFrame) -> NDArray[np.float64]:
    """(B,) how many seconds of each bin were analyzed, from the times of the samples."""
    starts = known["time_s"].to_numpy(np.float64)
    lengths = known["duration_s"].to_numpy(np.float64)
    # Analyzed time before each border: it grows over the duration of a sample.
    borders = np.stack([starts, starts + lengths], axis=1).ravel()
    before = np.concatenate([[0.0], np.cumsum(lengths)])
    grown = np.stack([before[:-1], before[1:]], axis=1).ravel()
    if not len(borders):
        return np.zeros(len(bins))
    ends = (np.interp(bins[name].to_numpy(np.float64), borders, grown) for name in ("end_s", "start_s"))
    covered: NDArray[np.float64] = np.subtract(*ends)
    return np.where(covered > 1e-6, covered, 0.0)
