"""The people of all runs of a report, the figures of each run, and which of them are suppressed.

DuckDB computes everything about time from the tables of faces and samples, never from the timeline's bins.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyzer.people.confirmed import known_people
from analyzer.people.fusion import APPEARANCE_GAP_S as GAP_S
from analyzer.report.dataset import RUN_COLUMNS, Corpus
from analyzer.report.groups import NAME_PATTERN, grouped_runs
from analyzer.report.privacy import suppressed
from analyzer.runs.run import Run
from analyzer.settings import AGE_BANDS, AgeBand, Settings, assign_band
from analyzer.util.gender import GENDERS

__all__ = ["APPEARANCES", "GENDER_COUNTS", "Population"]

GENDER_COUNTS = ("female", "male", "unknown_gender")
"""Names of the figures that count the people of each of `GENDERS`."""


def _joined(key: str, visits: str) -> str:
    """SQL that joins visits of the same `key` whose gaps are at most `GAP_S` into one span."""
    return f"""SELECT {key}, min(start_s) AS start_s, max(end_s) AS end_s FROM (
        SELECT *, sum(new) OVER (PARTITION BY {key} ORDER BY start_s) AS number FROM (
            SELECT *, CASE WHEN start_s - lag(end_s) OVER (PARTITION BY {key} ORDER BY start_s)
                <= {GAP_S + 1e-6} THEN 0 ELSE 1 END AS new
            FROM {visits})
        ) GROUP BY {key}, number"""


APPEARANCES = _joined("run_no, person_id", "visit")
"""SQL for the appearances of every person: `run_no`, `person_id`, `start_s`, `end_s`."""


class Population:
    """The people of a corpus, with the figures of each run.

    Args:
        corpus: The runs. The caller closes it.
        by: `video`, one of `PERIODS`, `name`, or a column of the corpus' table; None: no groups.
        name_pattern: For `name`: a regular expression. Runs whose file names agree in its first group, or
            in the whole match if it has no group, form one group.
        min_people: Groups of fewer people are suppressed.

    Raises:
        SettingsError: There is no such column, or the pattern is not a regular expression.
    """

    def __init__(
        self, corpus: Corpus, *, by: str | None = None, min_people: int = 1, name_pattern: str = NAME_PATTERN
    ) -> None:
        self.corpus = corpus
        self.min_people = min_people
        self.groups = None if by in (None, "video") else grouped_runs(corpus.table, str(by), name_pattern)
        self.single = len(corpus.runs) == 1
        self.bands = _common_bands(corpus.runs)
        self.own_columns = [name for name in corpus.table if name not in {one.name for one in RUN_COLUMNS}]

    @cached_property
    def people(self) -> pd.DataFrame:
        """One row per person, ordered by run and number, with its age band."""
        people = self.corpus.frame("SELECT * FROM person ORDER BY run_no, person_id")
        # Older tables lack this column; there, everyone with an age was estimated.
        estimated = people["estimated_samples"].fillna(
            people["samples"].where(people["age_years"].notna(), 0)
        )
        names = [assign_band(age, self.bands) for age in people["age_years"].astype(np.float64)]
        return people.assign(estimated_samples=estimated.astype(np.int64), band=names)

    @cached_property
    def per_run(self) -> pd.DataFrame:
        """One row per run, in the order of the corpus: times, counts, longest appearances."""
        count = len(self.corpus.runs)
        times = self.corpus.frame(
            """SELECT run_no, sum(duration_s) AS analyzed_s,
                coalesce(sum(duration_s) FILTER (people > 0), 0) AS occupancy_s,
                coalesce(sum(duration_s) FILTER (people > 1), 0) AS co_presence_s,
                coalesce(sum(duration_s) FILTER (genders = 3), 0) AS mixed_s,
                sum(duration_s * people) AS person_s,
                max(people) AS concurrent_peak, min(time_s) FILTER (people > 0) AS first_s
            FROM moment GROUP BY run_no"""
        )
        table = times.set_index("run_no").reindex(range(count))
        people = self.people.groupby("run_no")
        table["people"] = people.size().reindex(range(count), fill_value=0)
        table["on_screen_s"] = people["on_screen_s"].sum().reindex(range(count), fill_value=0.0)
        for gender, name in zip(GENDERS, GENDER_COUNTS, strict=True):
            known = self.people.loc[self.people["gender"] == gender].groupby("run_no")["on_screen_s"]
            table[name] = known.size().reindex(range(count), fill_value=0)
            table[f"{gender}_on_screen_s"] = known.sum().reindex(range(count), fill_value=0.0)
        estimated = self.people[known_people(self.people)].groupby("run_no").size()
        table["estimated"] = estimated.reindex(range(count), fill_value=0)
        for name in ("people_low", "people_high"):
            table[name] = self.corpus.table[name].fillna(table["people"]).astype(np.int64)
        table["videos"] = 1
        filled = table.fillna(
            dict.fromkeys(
                ("analyzed_s", "occupancy_s", "co_presence_s", "mixed_s", "person_s", "concurrent_peak"), 0
            )
        )
        return filled.join(self._longest())

    def _longest(self) -> pd.DataFrame:
        """The longest occupancy and the longest appearance of one person, for each run."""
        anybody = f"""(SELECT run_no, min(time_s) AS start_s, arg_max(time_s + duration_s, time_s) AS end_s
            FROM moment WHERE people > 0 GROUP BY run_no, floor(time_s / {GAP_S}))"""
        longest = self.corpus.frame(
            f"""SELECT run_no, max(end_s - start_s) AS longest_occupancy_s
            FROM ({_joined("run_no", anybody)}) GROUP BY run_no"""
        )
        # Lengths are compared to the microsecond; of equal ones the earliest is taken.
        of_person = self.corpus.frame(
            f"""SELECT DISTINCT ON (run_no) run_no, end_s - start_s AS longest_person_s,
                person_id AS longest_id, start_s AS longest_start_s, end_s AS longest_end_s
            FROM ({APPEARANCES}) ORDER BY run_no, round(end_s - start_s, 6) DESC, start_s, person_id"""
        )
        return longest.set_index("run_no").join(of_person.set_index("run_no"), how="outer")

    def estimated(self, members: NDArray[np.bool_]) -> int:
        """The number of people in some runs whose gender or age was estimated or is confirmed.

        Args:
            members: (R,) which runs.
        """
        people = self.people[members[self.people["run_no"]]]
        return int(known_people(people).sum())

    @property
    def of_images(self) -> bool:
        """Whether all runs are of images, which have no time."""
        return bool((self.corpus.table["kind"] == "images").all())

    # --- what is suppressed ------------------------------------------------------------------------------

    @property
    def all_hidden(self) -> bool:
        """Whether all runs together have too few people."""
        return 0 < len(self.people) < self.min_people

    @cached_property
    def hidden_runs(self) -> NDArray[np.bool_]:
        """(R,) which runs have too few people, or would reveal such a run by subtraction."""
        people = self.per_run["people"].to_numpy()
        hidden = suppressed(people.tolist(), self.min_people)
        if self.groups is not None:
            # A group minus its published runs must not leave few people either.
            for number, hide in enumerate(self.hidden_groups):
                mine = self.groups.of_run == number
                hidden[mine] |= hide or suppressed(people[mine].tolist(), self.min_people)
        return hidden

    @cached_property
    def hidden_groups(self) -> NDArray[np.bool_]:
        """(G,) which groups have too few people, or would reveal such a group by subtraction."""
        groups = self.groups
        assert groups is not None
        people = np.bincount(groups.of_run, self.per_run["people"], len(groups.names))
        return suppressed(people.astype(np.int64).tolist(), self.min_people)

    def hidden_genders(self, of_run: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(G, 3) which of `GENDER_COUNTS` are suppressed in each group of runs.

        Args:
            of_run: (R,) each run's group.
        """
        counts = self.per_run.groupby(of_run)[list(GENDER_COUNTS)].sum().to_numpy(np.int64)
        few = np.array([suppressed(each, self.min_people) for each in counts.tolist()], bool)
        # Otherwise the total minus the published groups would reveal few people.
        return few | few.any() if len(few) > 1 else few


def _common_bands(runs: Iterable[Run]) -> tuple[AgeBand, ...]:
    """The age bands of the runs if they agree on known ones; otherwise the default bands."""
    names = {str(run.info["settings"].get("age_bands")) for run in runs}
    (name,) = names if len(names) == 1 else (Settings().age_bands,)
    return AGE_BANDS.get(name, AGE_BANDS[Settings().age_bands])
