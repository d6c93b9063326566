"""What the pages of a run show, as JSON values: people, their appearances, figures, and boxes for the player.

Everything is read from the tables of the run. Nothing here decodes a video.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any, TypedDict

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from analyzer.output.captions import caption, short_caption
from analyzer.output.motion import Motion, Spans
from analyzer.people.fusion import APPEARANCE_GAP_S
from analyzer.report.figures import clock, figure_text, span_text
from analyzer.runs.run import Run
from analyzer.util.gender import GENDERS
from analyzer.util.text import counted

__all__ = [
    "BOX_SCALE",
    "BoxesView",
    "FigureView",
    "PersonView",
    "RunView",
    "TrackletView",
    "boxes_view",
    "run_view",
    "tracklets_of",
]

BOX_SCALE = 10_000
"""Boxes are whole numbers: this many are the width, or the height, of the frame."""

_MAX_SPANS = 4000

Floats = NDArray[np.float64]


class PersonView(TypedDict):
    """A person of a run."""

    person_id: int
    label: str
    short_label: str
    name: str
    gender: str
    age_years: float | None
    age_band: str
    age_text: str
    first_s: float
    last_s: float
    on_screen_s: float
    on_screen_text: str
    appearances: int
    confirmed: list[str]
    """What was set by hand: `gender`, `age`."""
    corrected: bool
    spans: list[list[float]]
    """[start, end] of each appearance in seconds; of images, of each image."""
    first_text: str
    crops: str
    """Changes with the faces that are the person's, and with nothing else."""


class FigureView(TypedDict):
    """A figure of the run: what it is, its text and that of its interval."""

    name: str
    words: str
    text: str
    span: str


class RunView(TypedDict):
    """What the pages of a run show."""

    kind: str
    title: str
    fps: float
    start_s: float
    end_s: float
    first_frame_s: float | None
    """Time of the first frame of the file; None: not known, because reading started later."""
    people: list[PersonView]
    figures: list[FigureView]
    images: list[dict[str, Any]]
    uncounted: bool


class BoxesView(TypedDict):
    """The motion of boxes within a time range."""

    start_s: float
    end_s: float
    spans: list[list[float]]
    """[begin_s, end_s, person id, x1, y1, x2, y2, then the same four at the end if the box moves]."""


class TrackletView(TypedDict):
    """A stretch in which a person was tracked."""

    tracklet_id: int
    start_s: float
    end_s: float
    text: str


def run_view(run: Run) -> RunView:
    """Collect what the pages of a run show."""
    samples = run.samples
    last = samples.iloc[-1] if len(samples) else None
    start_s = float(samples["time_s"].iloc[0]) if last is not None else 0.0
    end_s = float(last["time_s"] + last["duration_s"]) if last is not None else 0.0
    images = run.info["kind"] == "images"
    faces = run.faces
    spans = _appearances(faces, samples, 0.0 if images else APPEARANCE_GAP_S)
    return {
        "kind": run.info["kind"],
        "title": run.info["title"],
        "fps": float(run.info["settings"].get("fps") or 5.0),
        "start_s": round(start_s, 3),
        "end_s": round(end_s, 3),
        "first_frame_s": None if run.info["settings"].get("start_s") else round(start_s, 6),
        "people": _people(run, spans, _keys(faces)),
        "figures": _figures(run),
        "images": _images(run) if images else [],
        "uncounted": bool((faces["person_id"] <= 0).any()),
    }


def boxes_view(run: Run, start_s: float, end_s: float, *, hidden: bool = False) -> BoxesView:
    """Describe how boxes move from `start_s` up to `end_s`, as annotated videos draw them.

    Args:
        run: The run.
        start_s: Start in seconds.
        end_s: End in seconds, exclusive.
        hidden: Return the areas to hide instead, which show for longer than the boxes.
    """
    samples = run.samples
    times = samples["time_s"].to_numpy(np.float64)
    # Boxes before and after the range reach into it: by two samples or a second, hidden faces by more.
    step = float(np.median(np.diff(times))) if len(times) > 1 else 1.0
    margin = 2.0 + 4 * step
    near = samples[(times >= start_s - margin) & (times < end_s + margin)]
    motion = Motion(_faces_between(run, start_s - margin, end_s + margin), near, 1 / step)
    spans = motion.hidden() if hidden else motion.shown()
    inside = (spans.end_s > start_s) & (spans.begin_s < end_s)
    return {"start_s": start_s, "end_s": end_s, "spans": _packed(spans, inside, near)}


def _faces_between(run: Run, start_s: float, end_s: float) -> pd.DataFrame:
    columns = ["segment", "tracklet_id", "time_s", "x1", "y1", "x2", "y2", "person_id"]
    wanted = (pc.field("time_s") >= start_s) & (pc.field("time_s") < end_s)
    return pq.read_table(run.folder / "faces.parquet", columns=columns, filters=wanted).to_pandas()


def _packed(spans: Spans, inside: NDArray[np.bool_], samples: pd.DataFrame) -> list[list[float]]:
    """The spans as short rows, with boxes as shares of their frames."""
    if not inside.any():
        return []
    begin, end = spans.begin_s[inside], spans.end_s[inside]
    known = samples.sort_values("time_s")
    sizes = known[["width", "height"]].to_numpy(np.float64)
    at = np.searchsorted(known["time_s"].to_numpy(np.float64), begin + 1e-6, "right") - 1
    scale = BOX_SCALE / np.tile(sizes[np.maximum(at, 0)], 2)
    first = np.rint(spans.first[inside] * scale).astype(int)
    last = np.rint(spans.last[inside] * scale).astype(int)
    rows = []
    for b, e, person, one, other in zip(
        begin.round(3).tolist(),
        end.round(3).tolist(),
        spans.person[inside].tolist(),
        first.tolist(),
        last.tolist(),
        strict=True,
    ):
        rows.append([b, e, person, *one] if one == other else [b, e, person, *one, *other])
    return rows


def _appearances(faces: pd.DataFrame, samples: pd.DataFrame, gap_s: float) -> dict[int, list[list[float]]]:
    """The appearances of each person, [start, end] in seconds each."""
    seen = faces.loc[faces["person_id"] > 0, ["person_id", "sample", "time_s"]].drop_duplicates()
    seen = seen.merge(samples[["sample", "duration_s"]], on="sample").sort_values(["person_id", "time_s"])
    if seen.empty:
        return {}
    start = seen["time_s"].to_numpy(np.float64)
    end = start + seen["duration_s"].to_numpy(np.float64)
    person = seen["person_id"].to_numpy(np.int64)
    # Many appearances could not be told apart on the page; nearer ones are joined then.
    gap_s = max(gap_s, float(end.max() - start.min()) / _MAX_SPANS if len(seen) > _MAX_SPANS else 0.0)
    new = np.r_[True, (person[1:] != person[:-1]) | (start[1:] - end[:-1] > gap_s)]
    first = np.flatnonzero(new)
    last = np.r_[first[1:] - 1, len(seen) - 1]
    found: dict[int, list[list[float]]] = {}
    for who, begin, stop in zip(
        person[first].tolist(), start[first].round(3).tolist(), end[last].round(3).tolist(), strict=True
    ):
        found.setdefault(who, []).append([begin, stop])
    return found


def _keys(faces: pd.DataFrame) -> dict[int, str]:
    """By person: a short name of the tracklets that are theirs."""
    mine = faces.loc[faces["person_id"] > 0, ["person_id", "tracklet_id", "sample"]]
    return {
        int(str(person)): hashlib.sha256(rows.to_numpy(np.int64).tobytes()).hexdigest()[:10]
        for person, rows in mine.groupby("person_id", sort=False)
    }


def _people(run: Run, spans: dict[int, list[list[float]]], keys: dict[int, str]) -> list[PersonView]:
    images = run.info["kind"] == "images"
    rows: list[PersonView] = []
    for row in run.people.to_dict("records"):
        person, gender, age = int(row["person_id"]), str(row["gender"]), _known(row.get("age_years"))
        name = _text(row.get("name"))
        confirmed = [of for of in ("gender", "age") if row.get(f"{of}_source") == "confirmed"]
        on_screen_s = float(row["on_screen_s"])
        rows.append(
            {
                "person_id": person,
                "label": caption(person, gender, math.nan if age is None else age, name),
                "short_label": short_caption(person, gender, math.nan if age is None else age, name),
                "name": name,
                "gender": gender if gender in GENDERS else "unknown",
                "age_years": age,
                "age_band": str(row["age_band"]),
                "age_text": _age_text(row, confirmed),
                "first_s": float(row["first_s"]),
                "last_s": float(row["last_s"]),
                "on_screen_s": round(on_screen_s, 3),
                "on_screen_text": counted(int(row["samples"]), "image")
                if images
                else clock(on_screen_s, exact=on_screen_s < 60),
                "appearances": int(row["appearances"]),
                "confirmed": confirmed,
                "corrected": bool(row.get("corrected") or False),
                "spans": spans.get(person, []),
                "first_text": clock(row["first_s"], exact=row["first_s"] < 60),
                "crops": keys.get(person, ""),
            }
        )
    return rows


def _age_text(row: Mapping[Any, Any], confirmed: list[str]) -> str:
    age = _known(row.get("age_years"))
    if age is None:
        band = str(row["age_band"])
        return band if "age" in confirmed and band != "unknown" else "unknown"
    low, high = _known(row.get("age_low")), _known(row.get("age_high"))
    span = span_text(low, high, "years")
    return f"{figure_text(age, 'years')} ({span})" if span and "age" not in confirmed else f"{age:.0f}"


def _figures(run: Run) -> list[FigureView]:
    counts, people, shares = run.info["counts"], run.people, run.shares
    images = run.info["kind"] == "images"
    women = shares[(shares["dimension"] == "gender") & (shares["group"] == "female")]
    ages = people["age_years"].dropna()

    def share(of: str) -> tuple[str, str]:
        if women.empty:
            return "too few people", ""
        one = women.iloc[0]
        return figure_text(one[f"{of}_share"], "share"), span_text(
            one[f"{of}_low"], one[f"{of}_high"], "share"
        )

    genders = " · ".join(
        f"{number:,} {word}"
        for number, word in (
            (counts["female"], "female"),
            (counts["male"], "male"),
            (counts["unknown_gender"], "unknown"),
        )
        if number
    )
    found: list[FigureView] = [
        {
            "name": "people",
            "words": "people",
            "text": f"{counts['people']:,}",
            "span": span_text(counts.get("people_low"), counts.get("people_high"), "people"),
        },
        {"name": "genders", "words": "perceived gender", "text": genders or "nobody", "span": ""},
    ]
    for of, words in (("people", "female, share of the people"), ("time", "female, share of the time")):
        text, span = share(of)
        found.append({"name": f"female_{of}", "words": words, "text": text, "span": span})
    median = figure_text(float(ages.median()), "years") if len(ages) else "unknown"
    found.append({"name": "age", "words": "median age, perceived", "text": median, "span": ""})
    if not images:
        total = clock(counts["on_screen_s"], exact=counts["on_screen_s"] < 60)
        found.append({"name": "on_screen", "words": "time on screen, added up", "text": total, "span": ""})
    return found


def _images(run: Run) -> list[dict[str, Any]]:
    """The readable images: number, name, size, and [person id, x1, y1, x2, y2] of each face."""
    faces = run.faces.merge(run.samples[["sample", "width", "height"]], on="sample")
    sides = faces[["width", "height", "width", "height"]].to_numpy(np.float64)
    boxes = np.rint(faces[["x1", "y1", "x2", "y2"]].to_numpy(np.float64) * BOX_SCALE / sides).astype(int)
    at: dict[int, list[list[int]]] = {}
    persons = faces["person_id"].tolist()
    for sample, person, box in zip(faces["sample"].tolist(), persons, boxes.tolist(), strict=True):
        at.setdefault(sample, []).append([person, *box])
    return [
        {
            "sample": int(row["sample"]),
            "name": str(row["image"]),
            "width": int(row["width"]),
            "height": int(row["height"]),
            "boxes": at.get(int(row["sample"]), []),
        }
        for row in run.samples.to_dict("records")
    ]


def _known(value: Any) -> float | None:
    return None if value is None or pd.isna(value) else round(float(value), 2)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def tracklets_of(run: Run, person: int) -> list[TrackletView]:
    """The stretches in which a person was tracked, in the order of time."""
    lasting = run.samples[["sample", "duration_s"]]
    mine = run.faces[run.faces["person_id"] == person].merge(lasting, on="sample")
    mine["end_s"] = mine["time_s"] + mine["duration_s"]
    mine["width_px"] = mine["x2"] - mine["x1"]
    stretches = mine.groupby("tracklet_id", as_index=False).agg(
        start_s=("time_s", "min"), end_s=("end_s", "max"), faces=("sample", "size"), px=("width_px", "median")
    )
    found: list[TrackletView] = [
        {
            "tracklet_id": int(row["tracklet_id"]),
            "start_s": round(float(row["start_s"]), 3),
            "end_s": round(float(row["end_s"]), 3),
            "text": f"{counted(int(row['faces']), 'face')}, {row['px']:.0f} pixels wide",
        }
        for row in stretches.to_dict("records")
    ]
    return sorted(found, key=lambda one: one["start_s"])
