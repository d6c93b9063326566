"""Attention figures of runs that were analyzed as an audience in front of the camera."""

from __future__ import annotations

from typing import Any, cast

import pandas as pd

from analyzer.report.document import AttentionRow, AttentionTable
from analyzer.report.figures import AUDIENCE_FIGURES
from analyzer.report.population import Population
from analyzer.report.privacy import suppressed
from analyzer.settings import options
from analyzer.util.gender import GENDERS

__all__ = ["attention"]


def attention(population: Population) -> AttentionTable | None:
    """The attention of everybody and of each perceived gender; None if no run has it.

    Where groups of few people are suppressed there are no rows by gender: they would reveal few people by
    subtraction.
    """
    corpus = population.corpus
    if not (numbers := corpus.audiences):
        return None
    columns = dict.fromkeys(("attention_s", "dwell_s"), "DOUBLE")
    columns |= {"person_id": "BIGINT", "gender": "VARCHAR", "watcher": "BOOLEAN"}
    people = corpus.frame(corpus.rows("people", columns))
    people = people[people["run_no"].isin(numbers)]
    rows = [_row("all", people, population.min_people)]
    if population.min_people == 1:
        for gender in GENDERS:
            if len(some := people[people["gender"] == gender]):
                rows.append(_row(gender, some, 1))
    blocks = [dict[str, Any](corpus.runs[number].info["audience"]) for number in numbers]
    limits = [one.name for one in options() if one.scene == "audience"]
    return {
        "videos": len(numbers),
        "limits": {name: sorted({float(block[name]) for block in blocks}) for name in limits},
        "rows": rows,
    }


def _row(group: str, people: pd.DataFrame, least: int) -> AttentionRow:
    known = people["watcher"].notna()
    watchers = people[people["watcher"].fillna(False).astype(bool)]
    attention_s, dwell_s = (float(watchers[name].sum()) for name in ("attention_s", "dwell_s"))
    count, estimated = len(watchers), int(known.sum())
    hidden = suppressed([count, estimated - count], least)[0]
    row: dict[str, Any] = {"group": group} | dict.fromkeys(figure.name for figure in AUDIENCE_FIGURES)
    row["attention_unknown"] = None
    if 0 < len(people) < least:
        return cast(AttentionRow, row)
    row |= {"ots": len(people), "attention_unknown": len(people) - estimated}
    if estimated and not hidden:
        row |= {"watchers": count, "conversion_ratio": count / estimated}
        if count:
            row |= {"dwell_mean_s": dwell_s / count, "attention_mean_s": attention_s / count}
            row |= {"attraction_ratio": attention_s / dwell_s}
    return cast(AttentionRow, row)
