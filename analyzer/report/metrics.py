"""The figures: of each video, of groups of videos, of all; their shares with error bars; trends.

DuckDB computes everything about time from the faces and samples tables, never from bins. Shares are
drawn as in `analyzer.people.proportions`, over the people of all videos together: the error rates
of the models are the same for all of them, so errors do not average out over many videos.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyzer.people.fusion import APPEARANCE_GAP_S as GAP_S
from analyzer.people.proportions import FEW_PEOPLE, ProportionDraws, draw_proportions, interval, share_table
from analyzer.report.dataset import RUN_COLUMNS, Corpus
from analyzer.report.figures import AUDIENCE_FIGURES, BY_NAME, FIGURES
from analyzer.report.groups import NAME_PATTERN, grouped_runs, known_value
from analyzer.report.privacy import withheld
from analyzer.runs.run import Run
from analyzer.settings import AGE_BANDS, AgeBand, Settings, assign_band, options
from analyzer.vision.calibration import Calibration

__all__ = [
    "COMPARED",
    "MAX_COMPARED",
    "MOMENTS",
    "MOMENT_S",
    "Numbers",
]

Real = NDArray[np.float64]


Row = dict[str, Any]


MOMENT_S = 10.0
"""Length of the windows among which the busiest are looked for, in seconds."""


MOMENTS = {True: 5, False: 10}
"""So many of them are told: of a single video, and of several."""


_MISFIT, _MISFIT_PEOPLE = 0.15, 50


_GENDER_FIGURES = ("female", "male", "unknown_gender")


_GENDERS = ("female", "male", "unknown")


MAX_COMPARED = 12
"""Of so many groups any two are compared."""


_MAX_POINTS = 2000


_MAX_PAIRS = 50


_DRAWS, _SEED = 400, 20260101


def _joined(key: str, visits: str) -> str:
    """SQL: visits of the same `key` with gaps of at most `GAP_S` between them, as one stretch."""
    return f"""SELECT {key}, min(start_s) AS start_s, max(end_s) AS end_s FROM (
        SELECT *, sum(new) OVER (PARTITION BY {key} ORDER BY start_s) AS number FROM (
            SELECT *, CASE WHEN start_s - lag(end_s) OVER (PARTITION BY {key} ORDER BY start_s)
                <= {GAP_S + 1e-6} THEN 0 ELSE 1 END AS new
            FROM {visits})
        ) GROUP BY {key}, number"""


_STRETCHES = _joined("run_no, person_id", "visit")


# What a trend is made of, besides the shares: numerator and denominator of each video.
_RATIOS = {
    "people_per_video": ("people", "videos"),
    "presence": ("presence_s", "analyzed_s"),
    "together": ("co_presence_s", "analyzed_s"),
    "concurrent_mean": ("crowd_s", "analyzed_s"),
}


COMPARED = (*_RATIOS, "female_people_share", "female_time_share")
"""The figures of which any two groups are compared."""


class Numbers:
    """All figures of a corpus.

    Args:
        corpus: The runs; stays the caller's to close.
        by: `video`, one of `PERIODS`, `name`, or a column of the corpus' table; None: no groups.
        name_pattern: By `name`: a regular expression whose first group, or what it matches in all, is what
            the names of the files of a group have in common.
        min_people: Of fewer people nothing is told.

    Raises:
        SettingsError: There is no such column, or the pattern is none.
    """

    def __init__(
        self, corpus: Corpus, *, by: str | None = None, min_people: int = 1, name_pattern: str = NAME_PATTERN
    ) -> None:
        self.corpus = corpus
        self.min_people = min_people
        self.groups = None if by in (None, "video") else grouped_runs(corpus.table, str(by), name_pattern)
        self.single = len(corpus.runs) == 1
        self.bands = _common_bands(corpus.runs)
        self._drawing: Future[tuple[ProportionDraws, ...]] | None = None
        self._of_group: dict[int, pd.DataFrame | None] = {}
        self.own_columns = [name for name in corpus.table if name not in {one.name for one in RUN_COLUMNS}]

    # --- what everything is made of -------------------------------------------------------------------

    @cached_property
    def people(self) -> pd.DataFrame:
        """One row a person, by video and number, with its age band."""
        people = self.corpus.frame("SELECT * FROM person ORDER BY run_no, person_id")
        # Of tables older than that column, whoever has an age was judged.
        estimated = people["estimated_samples"].fillna(
            people["samples"].where(people["age_years"].notna(), 0)
        )
        names = [assign_band(age, self.bands) for age in people["age_years"].astype(np.float64)]
        return people.assign(estimated_samples=estimated.astype(np.int64), band=names)

    @cached_property
    def per_run(self) -> pd.DataFrame:
        """One row a video, in the order of the corpus: times, counts, longest stretches."""
        count = len(self.corpus.runs)
        times = self.corpus.frame(
            """SELECT run_no, sum(duration_s) AS analyzed_s,
                coalesce(sum(duration_s) FILTER (people > 0), 0) AS presence_s,
                coalesce(sum(duration_s) FILTER (people > 1), 0) AS co_presence_s,
                coalesce(sum(duration_s) FILTER (genders = 3), 0) AS mixed_s,
                sum(duration_s * people) AS crowd_s,
                max(people) AS concurrent_peak, min(time_s) FILTER (people > 0) AS first_s
            FROM moment GROUP BY run_no"""
        )
        table = times.set_index("run_no").reindex(range(count))
        people = self.people.groupby("run_no")
        table["people"] = people.size().reindex(range(count), fill_value=0)
        table["on_screen_s"] = people["on_screen_s"].sum().reindex(range(count), fill_value=0.0)
        for gender, name in zip(_GENDERS, _GENDER_FIGURES, strict=True):
            known = self.people.loc[self.people["gender"] == gender].groupby("run_no")["on_screen_s"]
            table[name] = known.size().reindex(range(count), fill_value=0)
            table[f"{gender}_on_screen_s"] = known.sum().reindex(range(count), fill_value=0.0)
        estimated = self.people[self.people["estimated_samples"] > 0].groupby("run_no").size()
        table["estimated"] = estimated.reindex(range(count), fill_value=0)
        for name in ("people_low", "people_high"):
            table[name] = self.corpus.table[name].fillna(table["people"]).astype(np.int64)
        table["videos"] = 1
        filled = table.fillna(
            dict.fromkeys(
                ("analyzed_s", "presence_s", "co_presence_s", "mixed_s", "crowd_s", "concurrent_peak"), 0
            )
        )
        return filled.join(self._longest())

    def _longest(self) -> pd.DataFrame:
        """The longest stretch of anybody and of one person, of each video."""
        anybody = f"""(SELECT run_no, min(time_s) AS start_s, arg_max(time_s + duration_s, time_s) AS end_s
            FROM moment WHERE people > 0 GROUP BY run_no, floor(time_s / {GAP_S}))"""
        longest = self.corpus.frame(
            f"""SELECT run_no, max(end_s - start_s) AS longest_occupancy_s
            FROM ({_joined("run_no", anybody)}) GROUP BY run_no"""
        )
        # Of stretches of the same length, to the microsecond, the earliest.
        of_person = self.corpus.frame(
            f"""SELECT DISTINCT ON (run_no) run_no, end_s - start_s AS longest_person_s,
                person_id AS longest_id, start_s AS longest_start_s, end_s AS longest_end_s
            FROM ({_STRETCHES}) ORDER BY run_no, round(end_s - start_s, 6) DESC, start_s, person_id"""
        )
        return longest.set_index("run_no").join(of_person.set_index("run_no"), how="outer")

    @cached_property
    def estimated_alike(self) -> NDArray[np.bool_]:
        """(R,) whether a run's networks are those that the calibration is for."""
        known = Calibration.networks()
        found = []
        for run in self.corpus.runs:
            used = {model.get("name"): model.get("sha256") for model in run.info.get("models") or []}
            found.append(run.measured and all(used.get(name) == sha256 for name, sha256 in known.items()))
        return np.array(found, bool)

    # --- figures --------------------------------------------------------------------------------------

    def total(self) -> Row:
        """The figures of everything."""
        if not self.corpus.runs:
            return self._empty()
        everything = np.zeros(len(self.corpus.runs), np.int64)
        (row,) = self._figures(everything, [self._of_women(self._shares_of_all)], np.zeros(1, bool))
        return row

    def videos(self) -> list[Row]:
        """The figures of each video, in the order of the corpus."""
        numbers = range(len(self.corpus.runs))
        of_women = self._stored[self._stored["group"] == "female"]
        shares = dict(zip(of_women["run_no"], map(self._female, _records(of_women)), strict=True))
        return self._figures(
            np.array(numbers, np.int64), [shares.get(number, {}) for number in numbers], self._hidden_videos
        )

    def group_rows(self) -> list[Row]:
        """The figures of each group, with its name."""
        groups = self.groups
        assert groups is not None
        shares = [self._of_women(self._shares_of_group(number)) for number in range(len(groups.names))]
        rows = self._figures(groups.of_run, shares, self._hidden_groups)
        return [{"group": name} | row for name, row in zip(groups.names, rows, strict=True)]

    @cached_property
    def _hidden_videos(self) -> NDArray[np.bool_]:
        people = self.per_run["people"].to_numpy()
        hidden = withheld(people.tolist(), self.min_people)
        if self.groups is not None:
            # A group less those of its videos that are told may not be few people either.
            for number, hide in enumerate(self._hidden_groups):
                mine = self.groups.of_run == number
                hidden[mine] |= hide or withheld(people[mine].tolist(), self.min_people)
        return hidden

    @cached_property
    def _hidden_groups(self) -> NDArray[np.bool_]:
        groups = self.groups
        assert groups is not None
        people = np.bincount(groups.of_run, self.per_run["people"], len(groups.names))
        return withheld(people.astype(np.int64).tolist(), self.min_people)

    def _figures(
        self, of_run: NDArray[np.int64], shares: Sequence[Row], hidden: NDArray[np.bool_]
    ) -> list[Row]:
        """The figures of groups of videos: `of_run` is (R,) each video's group, none of them empty."""
        videos = self.per_run.groupby(of_run)
        counted = ["people", "people_low", "people_high", *_GENDER_FIGURES, "videos", "estimated"]
        times = [f"{name}_s" for name in ("analyzed", "on_screen", "presence", "together", "mixed", "crowd")]
        times += [f"{gender}_on_screen_s" for gender in _GENDERS]
        table = videos[[*counted, *times]].sum()
        known = table["analyzed_s"].where(table["analyzed_s"] > 0)
        for name in ("presence", "together", "mixed"):
            table[name] = table[f"{name}_s"] / known
        table["concurrent_mean"] = table["crowd_s"] / known
        table["people_per_video"] = table["people"] / table["videos"]
        table["concurrent_peak"] = videos["concurrent_peak"].max()
        table["first_s"] = videos["first_s"].median()
        for name in ("longest_occupancy_s", "longest_person_s"):
            table[name] = videos[name].max()
        ages = self.people["age_years"].groupby(of_run[self.people["run_no"].to_numpy(np.int64)])
        table["age_median_years"] = ages.median()
        rows: list[Row] = []
        if self.min_people > 1:  # a median can be one person's
            table["age_median_years"] = table["age_median_years"].round()
        few = self._few_genders(of_run)
        for one, of_women, hide, hidden_genders in zip(
            table.to_dict("records"), shares, hidden, few, strict=True
        ):
            told = one | of_women
            withhold = bool(hide) or 0 < told["people"] < self.min_people
            gone = {name for name, no in zip(_GENDER_FIGURES, hidden_genders, strict=True) if no}
            if gone:
                gone |= {"mixed", *self._female(None), *(f"{gender}_on_screen_s" for gender in _GENDERS)}
            gone |= {"estimated"} if 0 < told["estimated"] < self.min_people else set()
            gone |= {figure.name for figure in FIGURES if figure.personal} if withhold else set()
            gone |= {figure.name for figure in FIGURES if figure.single} if self.min_people > 1 else set()
            figures: Row = {f.name: told.get(f.name) for f in FIGURES if f.name not in gone}
            for name in {*counted, "concurrent_peak"} & figures.keys():
                figures[name] = int(figures[name])
            values = {figure.name: known_value(figures.get(figure.name)) for figure in FIGURES}
            rows.append({"withheld": withhold} | values)
        return rows

    def _few_genders(self, of_run: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(G, 3) which of `_GENDER_FIGURES` are not told of each group of videos."""
        counts = self.per_run.groupby(of_run)[list(_GENDER_FIGURES)].sum().to_numpy(np.int64)
        few = np.array([withheld(each, self.min_people) for each in counts.tolist()], bool)
        # Else the sum less those that are told would tell of few.
        return few | few.any() if len(few) > 1 else few

    @staticmethod
    def _empty() -> Row:
        return {"withheld": False} | {figure.name: None for figure in FIGURES} | {"videos": 0}

    def _of_women(self, shares: pd.DataFrame | None) -> Row:
        rows = [] if shares is None else _records(shares[shares["group"] == "female"])
        return self._female(rows[0]) if rows else {}

    @staticmethod
    def _female(row: Row | None) -> Row:
        """The figures in a row of a shares table; without one, their names."""
        kinds = [(of, what) for of in ("people", "time") for what in ("share", "low", "high")]
        return {f"female_{of}_{what}": row and row[f"{of}_{what}"] for of, what in kinds}

    # --- shares ---------------------------------------------------------------------------------------

    @cached_property
    def _stored(self) -> pd.DataFrame:
        """The shares tables of the runs, without those of few people, which older versions wrote."""
        rows = self.corpus.frame("SELECT * FROM share")
        rows = rows[self.per_run["estimated"].to_numpy()[rows["run_no"].to_numpy(np.int64)] >= FEW_PEOPLE]
        order = {name: n for n, name in enumerate(("female", "male", *(band.name for band in self.bands)))}
        return rows.assign(place=rows["group"].map(order)).sort_values(["run_no", "place"], kind="stable")

    def start_drawing(self) -> None:
        """Begin with `total_draws` while other figures are computed."""
        pool = ThreadPoolExecutor(1)
        self._drawing = pool.submit(self._draws, self.usable, np.zeros(len(self.usable), np.int64))
        pool.shutdown(wait=False)

    @cached_property
    def total_draws(self) -> tuple[ProportionDraws, ...]:
        """Draws of gender and age of everybody."""
        if self._drawing is None:
            self.start_drawing()
        assert self._drawing is not None
        return self._drawing.result()

    @cached_property
    def draws(self) -> tuple[ProportionDraws, ...]:
        """Draws of gender and age of each group, also with the videos drawn anew."""
        assert self.groups is not None
        runs = self.usable["run_no"].to_numpy(np.int64)
        return self._draws(self.usable, self.groups.of_run[runs], runs)

    def audience_draws(self) -> tuple[ProportionDraws, ...] | None:
        """Draws of the gender of those who do not look like children of up to 12, and of everybody's age.

        None where too few people were judged.
        """
        older = self.usable[
            ~(self.usable["age_years"].astype(np.float64) < AGE_BANDS["youtube"][1].low - 0.5)
        ]
        if (older["estimated_samples"] > 0).sum() < FEW_PEOPLE:
            return None
        gender, _ = self._draws(older, np.zeros(len(older), np.int64))
        return gender, self.total_draws[1]

    @cached_property
    def usable(self) -> pd.DataFrame:
        """Those of `people` who were judged by networks whose errors are known."""
        return self.people[self.estimated_alike[self.people["run_no"]]]

    def _draws(
        self, people: pd.DataFrame, groups: NDArray[np.int64], clusters: NDArray[np.int64] | None = None
    ) -> tuple[ProportionDraws, ...]:
        settings = Settings(
            age_bands=_name_of(self.bands),
            gender_of_children=_all_agree(self.corpus.runs, "gender_of_children"),
        )
        return draw_proportions(people, settings, Calibration.load(), groups=groups, clusters=clusters)

    @cached_property
    def _shares_of_all(self) -> pd.DataFrame | None:
        return self._shares_of(np.ones(len(self.corpus.runs), bool), None)

    def _shares_of_group(self, number: int) -> pd.DataFrame | None:
        assert self.groups is not None
        if number not in self._of_group:
            self._of_group[number] = self._shares_of(self.groups.of_run == number, number)
        return self._of_group[number]

    def _shares_of(self, members: NDArray[np.bool_], group: int | None) -> pd.DataFrame | None:
        """The shares table of some videos' people, in the total or a group; None of too few people.

        Where all people are of one video, they are those of its own table.
        """
        peopled = members & (self.per_run["people"].to_numpy() > 0)
        if peopled.sum() == 1:
            stored = self._stored[self._stored["run_no"] == peopled.argmax()]
            if len(stored):
                return stored
        if self._estimated(members & self.estimated_alike) < FEW_PEOPLE:
            return None
        return share_table(self.total_draws if group is None else self.draws, group or 0)

    def _estimated(self, members: NDArray[np.bool_]) -> int:
        people = self.people[members[self.people["run_no"]]]
        return int((people["estimated_samples"] > 0).sum())

    def shares(self) -> list[Row]:
        """Shares of everything, of each group, of each video; none of too few people."""
        count = len(self.corpus.runs)
        everything = np.ones(count, bool)
        rows = self._share_rows("", "", self._shares_of_all, everything)
        if self.groups is not None:
            for number, name in enumerate(self.groups.names):
                if not self._hidden_groups[number]:
                    members = self.groups.of_run == number
                    rows += self._share_rows(self.groups.by, name, self._shares_of_group(number), members)
        if self.min_people > 1:
            few = [self._few_genders(np.zeros(count, np.int64)).any()]
            few += [self._few_genders(self.groups.of_run).any()] if self.groups is not None else []
            if any(few):
                rows = [row for row in rows if row["dimension"] != "gender"]
            return rows  # nor those of single videos: there are too many differences to hide
        if not self.single:
            estimated = self.people[self.people["estimated_samples"] > 0].groupby("run_no").size()
            names = self.corpus.table["run"].to_numpy()
            numbers = self._stored["run_no"].to_numpy(np.int64)
            extra = self._stored.assign(
                by="video",
                group_value=names[numbers],
                estimated=estimated.reindex(numbers, fill_value=0).to_numpy(),
            )
            rows += _records(extra[~self._hidden_videos[numbers]].drop(columns=["run_no", "place"]))
        return rows

    def _share_rows(
        self, by: str, name: str, shares: pd.DataFrame | None, members: NDArray[np.bool_]
    ) -> list[Row]:
        people = int(self.per_run.loc[members, "people"].sum())
        if shares is None or 0 < people < self.min_people:
            return []
        used = members if "run_no" in shares else members & self.estimated_alike
        head = {"by": by, "group_value": name, "estimated": self._estimated(used)}
        kept = shares.drop(columns=["run_no", "place"], errors="ignore")
        stated = self.people.loc[members[self.people["run_no"]], "band"].value_counts()
        bands = [band.name for band in self.bands]
        few = withheld(stated.reindex(bands, fill_value=0).tolist(), self.min_people)
        hidden = set(itertools.compress(bands, few))
        return [head | row for row in _records(kept) if row["group"] not in hidden]

    def misfit(self) -> tuple[str, float] | None:
        """The group whose estimated share is farthest from that of those stated, if suspiciously far.

        The correction moves shares: far only if what is seen is unlike anything seen of labeled faces.
        """
        shares = self._shares_of_all
        if shares is None or self.min_people > 1 or self._estimated(self.estimated_alike) < _MISFIT_PEOPLE:
            return None
        stated = {
            "gender": self.people.loc[self.people["gender"] != "unknown", "gender"],
            "age": self.people.loc[self.people["band"] != "unknown", "band"],
        }
        apart = {
            str(row["group"]): abs(
                row["people_share"] - float((stated[row["dimension"]] == row["group"]).mean())
            )
            for row in _records(shares)
        }
        group = max(apart, key=lambda name: apart[name])
        return (group, apart[group]) if apart[group] > _MISFIT else None

    # --- single tables --------------------------------------------------------------------------------

    @property
    def _all_hidden(self) -> bool:
        return 0 < len(self.people) < self.min_people

    def pyramid(self) -> list[Row]:
        """People and their time by gender and age band, as stated; every cell."""
        if self._all_hidden:
            sums = None
        else:
            sums = self.people.groupby(["gender", "band"])["on_screen_s"].agg(["size", "sum"])
        bands = [*(band.name for band in self.bands), "unknown"]
        rows: list[Row] = []
        genders = ("female", "male", "unknown")
        of_gender = self.people["gender"].value_counts().reindex(genders, fill_value=0)
        few = withheld(of_gender.tolist(), self.min_people)
        for gender, all_hidden in zip(genders, few, strict=True):
            cells = [(gender, band) for band in bands]
            counts = [int(sums["size"].get(cell, 0)) if sums is not None else 0 for cell in cells]
            hidden = withheld(counts, self.min_people) | bool(sums is None or all_hidden)
            for (_, band), people, no in zip(cells, counts, hidden, strict=True):
                time_s = float(sums["sum"].get((gender, band), 0.0)) if sums is not None else 0.0
                told = (
                    {"people": people, "on_screen_s": time_s}
                    if not no
                    else {"people": None, "on_screen_s": None}
                )
                rows.append({"gender": gender, "band": band} | told)
        return rows

    def at_once(self) -> list[Row]:
        """For how long how many people are on screen at once."""
        if self._all_hidden:
            return []
        rows = self.corpus.frame(
            "SELECT people, sum(duration_s) AS time_s FROM moment GROUP BY people ORDER BY people"
        )
        whole = float(rows["time_s"].sum())
        return [
            {"people": int(people), "time_s": float(time), "share": float(time) / whole if whole else None}
            for people, time in rows.itertuples(index=False)
        ]

    def moments(self) -> list[Row]:
        """The windows of `MOMENT_S` with the most people on average, and the peak in each.

        Of one video so many as `MOMENTS` has; of several the best window of each of so many videos.
        """
        rows = self.corpus.frame(
            f"""SELECT run_no, start_s, least(start_s + {MOMENT_S}, last_s) AS end_s, people FROM (
                SELECT run_no, floor(time_s / {MOMENT_S}) * {MOMENT_S} AS start_s,
                    max(time_s + duration_s) AS last_s,
                    sum(people * duration_s) / sum(duration_s) AS people, sum(duration_s) AS known_s,
                FROM moment WHERE duration_s > 0 GROUP BY ALL
            ) part WHERE people > 0 AND known_s + 1e-6 >= least({MOMENT_S} / 2, (
                SELECT sum(duration_s) FROM moment whole WHERE whole.run_no = part.run_no)
            ) ORDER BY round(people, 9) DESC, run_no, start_s"""
        )
        if not self.single:
            rows = rows.drop_duplicates("run_no")
        if self.min_people > 1:
            rows = rows[(rows["people"] >= self.min_people) & (not self._all_hidden)]
        names = self.corpus.table["run"].to_numpy()
        best = rows.head(MOMENTS[self.single])
        return [
            {"run": str(names[row["run_no"]])}
            | {name: row[name] for name in ("start_s", "end_s", "people")}
            | self._peak(row)
            for row in _records(best)
        ]

    def _peak(self, window: Row) -> Row:
        """When in a window the most people are on screen for the first time, and how many they are."""
        peaks = self.corpus.frame(
            f"""SELECT time_s, people FROM moment WHERE run_no = {int(window["run_no"])}
                AND duration_s > 0 AND floor(time_s / {MOMENT_S}) * {MOMENT_S} = {window["start_s"]}
            ORDER BY people DESC, time_s LIMIT 1"""
        )
        (peak,) = _records(peaks)
        return {"peak_s": float(peak["time_s"]), "most": int(peak["people"])}

    def screen_time(self) -> list[Row]:
        """How many people of each perceived gender and age are on screen for how long, as stated.

        Of everything, of each group, of each video. Where few people are withheld there is nothing of
        this: with the pyramid it would tell of few by subtraction.
        """
        if self.min_people > 1:
            return []
        runs = len(self.corpus.runs)
        rows = self._screen_time("", [""], np.zeros(runs, np.int64))
        if self.groups is not None:
            rows += self._screen_time(self.groups.by, self.groups.names, self.groups.of_run)
        if not self.single:
            rows += self._screen_time("video", self.corpus.table["run"].tolist(), np.arange(runs))
        return rows

    def _screen_time(self, by: str, names: Sequence[str], of_run: NDArray[np.int64]) -> list[Row]:
        people = self.people.assign(number=of_run[self.people["run_no"].to_numpy(np.int64)])
        whole = np.bincount(people["number"], people["on_screen_s"], len(names))
        bands = [*(band.name for band in self.bands), "unknown"]
        found: list[list[Row]] = [[] for _ in names]
        for dimension, column, classes in (("gender", "gender", _GENDERS), ("age", "band", bands)):
            place = people[column].map({name: index for index, name in enumerate(classes)})
            cell = people["number"].to_numpy(np.int64) * len(classes) + place.to_numpy(np.int64)
            size = np.bincount(cell, minlength=len(names) * len(classes)).reshape(len(names), -1)
            time_s = np.bincount(cell, people["on_screen_s"], len(names) * len(classes)).reshape(size.shape)
            for number, name in enumerate(names):
                found[number] += [
                    {"by": by, "group_value": name, "dimension": dimension, "group": one}
                    | {"people": int(size[number, index]), "on_screen_s": float(time_s[number, index])}
                    | {"share": float(time_s[number, index] / whole[number]) if whole[number] else None}
                    for index, one in enumerate(classes)
                ]
        return [row for rows in found for row in rows]

    def people_rows(self) -> list[Row] | None:
        """The people of all videos; of a single one with their stretches on screen."""
        if self.min_people > 1:
            return None
        columns = ["person_id", "gender", "female_prob", "age_years", "age_low", "age_high", "band"]
        columns += ["first_s", "last_s", "on_screen_s", "appearances"]
        rows = _records(self.people[columns].rename(columns={"band": "age_band"}))
        names = self.corpus.table["run"].to_numpy()[self.people["run_no"].to_numpy(np.int64)]
        rows = [{"run": str(name)} | row for name, row in zip(names, rows, strict=True)]
        if not self.single:
            return rows
        stretches = self.corpus.frame(f"{_STRETCHES} ORDER BY start_s")
        times = stretches[["start_s", "end_s"]].round(3)
        mine = {person: rows.to_numpy().tolist() for person, rows in times.groupby(stretches["person_id"])}
        return [row | {"stretches": mine.get(row["person_id"], [])} for row in rows]

    def pairs(self) -> list[Row] | None:
        """Which two people of the one video are on screen together for how long."""
        if self.min_people > 1 or not self.single:
            return None
        faces = self.corpus.rows("faces", {"sample": "INTEGER", "person_id": "INTEGER"})
        rows = self.corpus.frame(
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

    def attention(self) -> Row | None:
        """What is measured of audiences: of all of them, and by perceived gender; None without any.

        Where few people are withheld there is nothing by gender: it would tell of few by subtraction.
        """
        if not (numbers := self.corpus.audiences):
            return None
        columns = dict.fromkeys(("attention_s", "dwell_s"), "DOUBLE")
        columns |= {"person_id": "BIGINT", "gender": "VARCHAR", "watcher": "BOOLEAN"}
        people = self.corpus.frame(self.corpus.rows("people", columns))
        people = people[people["run_no"].isin(numbers)]
        rows = [{"group": "all"} | self._attention_of(people)]
        if self.min_people == 1:
            for gender in ("female", "male", "unknown"):
                if len(some := people[people["gender"] == gender]):
                    rows.append({"group": gender} | self._attention_of(some))
        blocks = [self.corpus.runs[number].info["audience"] for number in numbers]
        limits = [one.name for one in options() if one.scene == "audience"]
        return {
            "videos": len(numbers),
            "limits": {
                name: sorted({float(dict[str, Any](block)[name]) for block in blocks}) for name in limits
            },
            "rows": rows,
        }

    def _attention_of(self, people: pd.DataFrame) -> Row:
        known = people["watcher"].notna()
        watchers = people[people["watcher"].fillna(False).astype(bool)]
        attention_s, dwell_s = (float(watchers[name].sum()) for name in ("attention_s", "dwell_s"))
        count, estimated = len(watchers), int(known.sum())
        hidden = withheld([count, estimated - count], self.min_people)[0]
        few = 0 < len(people) < self.min_people
        none = {figure.name: None for figure in AUDIENCE_FIGURES} | {"attention_unknown": None}
        if few:
            return none
        told: Row = none | {"ots": len(people), "attention_unknown": len(people) - estimated}
        if hidden or not estimated:
            return told
        told |= {"watchers": count, "conversion_ratio": count / estimated}
        if count:
            told |= {"dwell_mean_s": dwell_s / count, "attention_mean_s": attention_s / count}
            told |= {"attraction_ratio": attention_s / dwell_s}
        return told

    def timeline(self) -> Row | None:
        """The timeline of the one video; bins are joined where there are many."""
        if not self.single or self.min_people > 1:
            return None
        names = [*(band.column for band in self.bands), "unknown_age"]
        kinds = ("people", "female", "male", "unknown_gender", *names)
        columns = ", ".join(("start_s", "end_s", *kinds))
        rows = self.corpus.frame(f"SELECT {columns} FROM bin ORDER BY start_s")
        if rows.empty:
            return None
        known = self.corpus.frame("SELECT time_s, duration_s FROM moment ORDER BY time_s")
        rows.loc[_covered_s(known, rows) <= 0, list(kinds)] = np.nan
        joined = -(-len(rows) // _MAX_POINTS)
        number = np.arange(len(rows)) // joined
        bins = rows.groupby(number)
        means = bins[list(kinds)].mean()

        def told(name: str) -> list[float | None]:
            return [None if np.isnan(value) else round(value, 3) for value in means[name]]

        return {
            "bin_s": float((rows["end_s"] - rows["start_s"]).iloc[0]) * joined,
            "start_s": bins["start_s"].min().round(3).tolist(),
            "end_s": bins["end_s"].max().round(3).tolist(),
            "people": told("people"),
            **{name: told(name) for name in ("female", "male", "unknown_gender")},
            "ages": {
                **{band.name: told(band.column) for band in self.bands},
                "unknown": told("unknown_age"),
            },
        }

    # --- changes and differences ----------------------------------------------------------------------

    def trend(self) -> Row | None:
        """What changed from each period to the next, and whether by more than its error bars."""
        groups = self.groups
        if groups is None or not groups.timely or len(groups.names) < 2:
            return None
        sizes = np.bincount(groups.of_run, minlength=len(groups.names))
        hidden = self._hidden_groups
        rows: list[Row] = []
        for one in self._drawn_figures:
            low, high = one.ends
            for now in range(len(groups.names)):
                if one.personal and hidden[now]:
                    continue
                row: Row = {"figure": one.name, "words": one.words, "unit": one.unit}
                row |= {"period": groups.names[now], "value": one.value[now]}
                row |= {"value_low": low[now], "value_high": high[now], "videos": int(sizes[now])}
                row |= dict.fromkeys(("previous", "previous_value", "previous_videos"))
                row |= dict.fromkeys(("change", "change_low", "change_high", "exceeds"))
                before = now - 1
                if before >= 0 and not (one.personal and hidden[before]):
                    row |= {"previous": groups.names[before], "previous_value": one.value[before]}
                    row |= {"previous_videos": int(sizes[before])}
                    names = ("change", "change_low", "change_high", "exceeds")
                    row |= dict(zip(names, one.difference(now, before), strict=True))
                rows.append({key: known_value(value) for key, value in row.items()})
        return {"by": groups.by, "rows": rows}

    def comparison(self) -> Row | None:
        """The difference of any two groups, and whether it exceeds its error bars.

        Of more than `MAX_COMPARED` groups those with the most people are compared.
        """
        groups = self.groups
        if groups is None or len(groups.names) < 2:
            return None
        sizes = np.bincount(groups.of_run, minlength=len(groups.names))
        people = np.bincount(groups.of_run, self.per_run["people"], len(groups.names))
        most = sorted(np.argsort(-people, kind="stable")[:MAX_COMPARED].tolist())
        figures = [one for one in self._drawn_figures if one.name in COMPARED]
        rows: list[Row] = []
        for first, second in itertools.combinations(most, 2):
            for one in figures:
                if one.personal and (self._hidden_groups[first] or self._hidden_groups[second]):
                    continue
                row: Row = {"figure": one.name, "words": one.words, "unit": one.unit}
                for place, number in (("first", first), ("second", second)):
                    row |= {place: groups.names[number], f"{place}_value": one.value[number]}
                    row |= {f"{place}_videos": int(sizes[number])}
                names = ("difference", "difference_low", "difference_high", "exceeds")
                row |= dict(zip(names, one.difference(second, first, single=True), strict=True))
                rows.append({key: known_value(value) for key, value in row.items()})
        return {"by": groups.by, "groups": len(most), "of_groups": len(groups.names), "rows": rows}

    @cached_property
    def _drawn_figures(self) -> list[_Drawn]:
        """The figures of the groups that have error bars; the videos are drawn too."""
        groups = self.groups
        assert groups is not None
        random = np.random.default_rng(_SEED)
        weights = random.standard_exponential((_DRAWS, len(self.corpus.runs)))
        count = len(groups.names)
        into = np.zeros((len(self.corpus.runs), count))
        into[np.arange(len(into)), groups.of_run] = 1
        found: list[_Drawn] = []
        with np.errstate(divide="ignore", invalid="ignore"):
            for name, (above, below) in _RATIOS.items():
                top, bottom = (self.per_run[one].to_numpy(np.float64) for one in (above, below))
                draws = ((weights * top) @ into) / ((weights * bottom) @ into)
                figure, value = BY_NAME[name], (top @ into) / (bottom @ into)
                found.append(
                    _Drawn(name, figure.words, figure.unit, figure.personal, value, draws, into.sum(axis=0))
                )
        estimated = self.people.loc[self.people["estimated_samples"] > 0, "run_no"].unique()
        telling = (np.isin(np.arange(len(into)), estimated) & self.estimated_alike) @ into
        tables = [self._shares_of_group(number) for number in range(count)]
        hidden = {"age"} if self.min_people > 1 else set()  # there are too many differences to hide
        hidden |= {"gender"} if self._few_genders(groups.of_run).any() else set()
        if all(table is None for table in tables) or not telling.any():
            return found
        for one in self.draws:
            for index, name in enumerate(one.classes if one.dimension not in hidden else ()):
                if name == "male":  # what the other does, the other way round
                    continue
                for kind, of in enumerate(("people", "time")):
                    value = np.array([_share_in(table, name, of) for table in tables])
                    key = f"{name}_{of}_share"
                    aged = f"aged {name}, share of {'people' if of == 'people' else 'time'}"
                    said = BY_NAME[key].words if key in BY_NAME else aged
                    measured, again = (
                        _of_groups(one.values[:, :, place, index], count) for place in (kind, 2 + kind)
                    )
                    found.append(_Drawn(key, said, "share", True, value, again, telling, measured))
        return found


def _share_in(table: pd.DataFrame | None, group: str, of: str) -> float:
    """A group's share in a shares table; NaN where it states none."""
    row = [] if table is None else table.loc[table["group"] == group, f"{of}_share"].tolist()
    return float(row[0]) if row else math.nan


def _of_groups(draws: Real, count: int) -> Real:
    """(D, G) padded to all groups, with NaN for those without people."""
    return np.pad(draws, ((0, 0), (0, count - draws.shape[1])), constant_values=np.nan)


@dataclass(frozen=True, eq=False)
class _Drawn:
    """A figure of G groups with D draws of it."""

    name: str
    words: str
    unit: str
    personal: bool
    value: Real
    """(G,), NaN where it is not stated."""
    draws: Real
    """(D, G) in which the videos are drawn too."""
    telling: Real
    """(G,) number of videos that tell of it."""
    measured: Real | None = None
    """(D, G) in which only the measuring is drawn, where that is known."""

    @property
    def _bounds(self) -> tuple[float, float]:
        return (0.0, 1.0) if self.unit == "share" else (0.0, np.inf)

    @cached_property
    def _widened(self) -> Real:
        return np.asarray(self.value + (self.draws - self.value) * _widening(self.telling))

    @cached_property
    def ends(self) -> tuple[Real, Real]:
        """(G,) lower and upper end of the intervals."""
        _, low, high = interval(self._widened, self._bounds)
        return np.minimum(low, self.value), np.maximum(high, self.value)  # where few draws are not zero

    def difference(
        self, one: int, other: int, *, single: bool = False
    ) -> tuple[float, float, float, bool | None]:
        """One group's value less another's, its interval, and whether that excludes 0; None: not known.

        With one video in a group it cannot be known how much depends on which video it is. With `single`
        the error bars are then those of the measuring alone.
        """
        change = float(self.value[one] - self.value[other])
        draws, known = self._widened, min(self.telling[one], self.telling[other]) > 1
        if single and not known:
            if self.measured is None:
                return change, math.nan, math.nan, None
            draws, known = self.measured, True
        apart = draws[:, one] - draws[:, other]
        low, high = np.clip(np.quantile(apart, [0.025, 0.975]), -self._bounds[1], self._bounds[1])
        low, high = np.minimum(low, change), np.maximum(high, change)
        exceeds = bool(low > 0 or high < 0) if known and np.isfinite([low, high]).all() else None
        return change, float(low), float(high), exceeds


def _widening(videos: Real) -> Real:
    """By how much draws of so many videos spread too little: a bootstrap of few is too narrow.

    Of n values its variance is (n - 1) / (n + 1) of that of their mean, and few values tell their own spread
    but roughly: intervals are those of Student's t, as in the comparison of two means of n values each.

    >>> _widening(np.array([1, 2, 8, 100])).round(2).tolist()
    [1.0, 3.8, 1.24, 1.02]
    """
    from scipy.special import stdtrit  # late: most reports have no trend

    n = np.maximum(videos, 2)
    factor = np.sqrt((n + 1) / (n - 1)) * stdtrit(2 * n - 2, 0.975) / stdtrit(np.inf, 0.975)
    return np.where(videos > 1, factor, 1.0)


def _records(table: pd.DataFrame) -> list[Row]:
    """The rows of a table, in plain values."""
    plain = table.astype(object).where(table.notna() & ~table.isin([np.inf, -np.inf]), None)
    return [dict(zip(plain.columns, row, strict=True)) for row in plain.itertuples(index=False, name=None)]


def _covered_s(known: pd.DataFrame, bins: pd.DataFrame) -> Real:
    """(B,) for how many seconds of each bin something is known, from the times of the samples."""
    starts = known["time_s"].to_numpy(np.float64)
    lengths = known["duration_s"].to_numpy(np.float64)
    # Time known before each border: it grows while a sample stands.
    borders = np.stack([starts, starts + lengths], axis=1).ravel()
    before = np.concatenate([[0.0], np.cumsum(lengths)])
    grown = np.stack([before[:-1], before[1:]], axis=1).ravel()
    if not len(borders):
        return np.zeros(len(bins))
    ends = (np.interp(bins[name].to_numpy(np.float64), borders, grown) for name in ("end_s", "start_s"))
    covered: Real = np.subtract(*ends)
    return np.where(covered > 1e-6, covered, 0.0)


def _common_bands(runs: Iterable[Run]) -> tuple[AgeBand, ...]:
    """The age bands of the runs, if they agree on known ones; else the usual ones."""
    names = {str((run.info.get("settings") or {}).get("age_bands")) for run in runs}
    (name,) = names if len(names) == 1 else (Settings().age_bands,)
    return AGE_BANDS.get(name, AGE_BANDS[Settings().age_bands])


def _name_of(bands: tuple[AgeBand, ...]) -> str:
    return next(name for name, each in AGE_BANDS.items() if each == bands)


def _all_agree(runs: Iterable[Run], setting: str) -> bool:
    values = {bool((run.info.get("settings") or {}).get(setting)) for run in runs}
    return values == {True}
