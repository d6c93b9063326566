"""Clips and photographs described by eye: reading the descriptions, and scoring runs against them.

A description is an entry of a ``truth.json`` that is a list, one for each clip, photograph or set of
photographs, and says what anybody can see who watches it::

    [{"file": "talk.mp4", "kind": "clip", "people_range": [2, 3], "cuts": 4,
      "people": [{"id": "host", "gender": "female", "age": [35, 50], "on_screen_s": 41,
                  "at": [[3.0, 0.42, 0.30]]},
                 {"id": "guest", "gender": "male", "age": 61, "known": true, "on_screen_s": 30,
                  "at": [[12.5, 0.6, 0.35]]}]}]

``docs/evaluation.md`` explains the keys. Files lie beside the list or in a folder ``files`` there. Listed
people are matched to found ones by the faces at their places; gender and age are never used for matching.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyzer.evaluation.faults import MAX_AGE_YEARS, Faults
from analyzer.evaluation.metrics import ADULT_FROM_YEARS, GENDERS, Figure, figures
from analyzer.runs.run import Run

__all__ = ["KINDS", "Described", "described_scores", "estimates_of", "read_described", "score_described"]

KINDS = ("clip", "photo", "set")
"""What a description can be of: a video, an image, or images of the same people."""

_REACH = {"clip": 1.1, "photo": 0.6, "set": 0.6}
"""A face lies at a place whose distance from its center is at most this share of its width and height.
Faces move between a sample and the moment that was described; in photographs they do not."""
_SAME_MOMENT_S = 0.3
_CUT_S = 0.1
"""A found cut is a true one up to this far outside the two samples between which it lies."""
_AGE_EDGES_YEARS = {"under 20": (0.0, 20.0), "20-64": (20.0, 65.0), "65+": (65.0, math.inf)}

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Described:
    """A clip, photograph or set of photographs that is described by eye.

    Attributes:
        name: As named in the list.
        paths: A video, an image, a folder of images, or several images.
        kind: One of `KINDS`.
        people: One row a listed person: `true_gender` (empty: unknown), `age_from`, `age_to` (years, the
            same where the age is known, NaN: unknown), `known`, `on_screen_s` (NaN: unknown).
        places: For each person (P, 3) rows of time in seconds, x and y as shares of the frame.
        people_range: The lowest and highest number of people that somebody could count.
        cuts: The number of cuts; None: unknown.
        cuts_s: Their times in seconds; None: only their number is known.
    """

    name: str
    paths: tuple[Path, ...]
    kind: str
    people: pd.DataFrame
    places: list[Float]
    people_range: tuple[int, int]
    cuts: int | None
    cuts_s: Float | None


# --- reading -----------------------------------------------------------------------------------------


def read_described(entries: list[Any], folder: Path) -> tuple[Described, ...]:
    """Read and check a list of descriptions.

    Args:
        entries: The content of the file.
        folder: Where the file lies.

    Raises:
        ValueError: Something is wrong; lists all faults.
    """
    faults, described = Faults(), []
    for number, entry in enumerate(entries, 1):
        with faults.noted(_name(entry) or f"entry {number}"):
            described.append(_entry(entry, folder))
    faults.check()
    if not described:
        raise ValueError("it must describe at least one clip or photograph")
    return tuple(described)


def _name(entry: Any) -> str:
    name = entry.get("file") if isinstance(entry, dict) else None
    return name if isinstance(name, str) else ""


def _entry(entry: Any, folder: Path) -> Described:
    """
    Raises:
        ValueError: The entry is wrong; lists all faults.
    """
    if not isinstance(entry, dict):
        raise ValueError("it must be an object with file, kind and people")
    faults, kind, people = Faults(), entry.get("kind"), entry.get("people")
    if kind not in KINDS:
        faults.add(f"kind must be {', '.join(KINDS[:-1])} or {KINDS[-1]}")
    paths: tuple[Path, ...] = ()
    with faults.noted("file"):
        paths = _paths(_name(entry), folder)
    if not (isinstance(people, list) and all(isinstance(person, dict) for person in people)):
        faults.add("people must be a list of objects")
        people = []
    rows, places = [], []
    for number, person in enumerate(people, 1):
        with faults.noted(f"person {person.get('id', number)}"):
            rows.append(_person(person))
        with faults.noted(f"person {person.get('id', number)}"):
            places.append(_places(person.get("at", [])))
    low, high = len(people), len(people)
    with faults.noted("people_range"):
        low, high = _whole_range(entry.get("people_range", [low, high]))
    cuts, cuts_s = entry.get("cuts"), None
    if isinstance(cuts, list):
        cuts_s = np.array([faults.number(cut, "a cut", 0) for cut in cuts], np.float64)
        cuts = len(cuts)
    elif cuts is not None and not (type(cuts) is int and cuts >= 0):
        faults.add("cuts must be their number, or a list of their times in seconds")
    faults.check()
    columns = ["true_gender", "age_from", "age_to", "known", "on_screen_s"]
    table = pd.DataFrame(rows, columns=columns)
    return Described(_name(entry), paths, str(kind), table, places, (low, high), cuts, cuts_s)


def _paths(name: str, folder: Path) -> tuple[Path, ...]:
    """
    Raises:
        ValueError: There are no such files.
    """
    found = []
    for part in name.split("+"):
        # Only files below the list: an untrusted list must not reach others.
        if not part or "\0" in part or Path(part).is_absolute() or ".." in Path(part).parts:
            raise ValueError("it must be the name of a file beside the list")
        path = next((path for path in (folder / "files" / part, folder / part) if path.exists()), None)
        if path is None:
            raise ValueError(f"there is no {part!r} beside the list or in its folder files")
        found.append(path)
    return tuple(found)


def _person(person: dict[str, Any]) -> dict[str, Any]:
    """
    Raises:
        ValueError: The person is wrong; lists all faults.
    """
    faults, age, seconds = Faults(), person.get("age"), person.get("on_screen_s")
    ends = age if isinstance(age, list) else [age, age]
    years = [math.nan, math.nan]
    if len(ends) != 2:
        faults.add("age must be a number of years, a range of two, or null")
    elif age is not None:
        years = [faults.number(one, "age", 0, MAX_AGE_YEARS) for one in ends]
    if years[1] < years[0]:
        faults.add("its range of age begins after its end")
    shown_s = math.nan if seconds is None else faults.number(seconds, "on_screen_s", 0)
    faults.check()
    gender = person.get("gender")
    known = bool(person.get("known", not isinstance(age, list))) and years[0] == years[1]
    return {
        "true_gender": gender if gender in GENDERS else "",
        "age_from": years[0],
        "age_to": years[1],
        "known": known,
        "on_screen_s": shown_s,
    }


def _places(value: object) -> Float:
    """
    Raises:
        ValueError: They are not places; says what they must be.
    """
    wrong = "at must be a list of [time_s, x, y] with x and y from 0 to 1"
    try:
        rows = np.array(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(wrong) from None
    rows = rows if rows.size else np.empty((0, 3))
    if rows.ndim != 2 or rows.shape[1] != 3 or not np.isfinite(rows).all():
        raise ValueError(wrong)
    if (rows < 0).any() or (rows[:, 1:] > 1).any():
        raise ValueError(wrong)
    return rows


def _whole_range(value: object) -> tuple[int, int]:
    """
    Raises:
        ValueError: It is no range of two whole numbers.
    """
    if not (isinstance(value, list) and len(value) == 2 and all(type(one) is int for one in value)):
        raise ValueError("it must be two whole numbers")
    low, high = value
    if not 0 <= low <= high:
        raise ValueError("it must be two whole numbers, the lower one first")
    return low, high


# --- scoring -----------------------------------------------------------------------------------------


def score_described(entry: Described, run: Run) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare a run with the description of its video or images.

    Returns:
        - One row: `kind`, the numbers `listed`, `lowest`, `highest` (of the description), `people`,
          `people_low`, `people_high` (of the run), `unmatched` (found people whom no listed one matches),
          `true_cuts`, `found_cuts`, `right_cuts` (NaN where nothing is known of them) and, for a photograph
          whose people are all listed, `counted_faces` and `right_faces`: faces that are counted as people,
          and those at a listed place.
        - One row a listed person: the columns of `Described.people` (`on_screen_s` as `true_s`), `found`,
          `face_found`, `gender`, `female_prob`, `age_years`, `age_low`, `age_high`, `face_px`, `found_s`.
    """
    faces, people = run.faces, run.people.set_index("person_id")
    listed = entry.people.rename(columns={"on_screen_s": "true_s"})
    matched, face_found, at_places = _matches(entry, run)
    rows = people.reindex(matched).reset_index(drop=True)
    numbers = ["female_prob", "age_years", "age_low", "age_high"]
    own = {name: rows[name].astype(float) for name in numbers}
    seconds = rows["on_screen_s"].astype(float) if entry.kind == "clip" else math.nan
    estimates = {"face_px": rows["face_px_median"].astype(float), "found_s": seconds}
    stated = rows["gender"].fillna("")
    found = pd.Series(matched).gt(0) if matched else pd.Series(dtype=bool)
    table = listed.assign(found=found, face_found=face_found, gender=stated, **own, **estimates)
    counts = run.info["counts"]
    known = entry.kind != "set"
    row: dict[str, Any] = {
        "listed": len(listed),
        "lowest": entry.people_range[0],
        "highest": entry.people_range[1],
        "people": counts["people"],
        "people_low": counts["people_low"],
        "people_high": counts["people_high"],
        "unmatched": counts["people"] - len(set(matched) - {0}) if known else math.nan,
        "counted_faces": math.nan,
        "right_faces": math.nan,
    }
    if entry.kind == "photo" and entry.people_range[1] == len(listed):
        counted = faces.index[faces["person_id"] > 0]
        row |= {"counted_faces": len(counted), "right_faces": len(at_places.intersection(counted))}
    row |= dict(zip(("true_cuts", "found_cuts", "right_cuts"), _cuts(entry, run), strict=True))
    return pd.DataFrame([row]).assign(kind=entry.kind), table.assign(kind=entry.kind)


def _matches(entry: Described, run: Run) -> tuple[list[int], list[bool], set[int]]:
    """For each listed person the number of the found one (0: none) and whether a face is there.

    Also the rows of the faces table at the places of listed people. Of several found people at the places of
    one person the most frequent one counts. Who has no places is the one who is longest on screen.
    """
    faces = run.faces
    matched, face_found, at_places = [], [], set()
    longest = run.people.sort_values("on_screen_s", ascending=False, kind="stable")["person_id"]
    for places in entry.places:
        if entry.kind == "set" or not len(places):
            matched.append(int(longest.iloc[0]) if len(longest) and entry.kind != "set" else 0)
            face_found.append(bool(len(faces)))
            continue
        rows = [row for row in (_face_at(place, places, entry, run) for place in places) if row is not None]
        at_places.update(rows)
        numbers = Counter(int(number) for number in faces.loc[rows, "person_id"])
        matched.append(next((number for number, _ in numbers.most_common() if number > 0), 0))
        face_found.append(bool(rows))
    return matched, face_found, at_places


def _face_at(place: Float, own: Float, entry: Described, run: Run) -> int | None:
    """The row of the faces table at a place of a person, unless it lies nearer to another listed person."""
    faces, samples = run.faces, run.samples
    if samples.empty:
        return None
    if entry.kind == "clip":
        nearest = samples["sample"].iloc[int((samples["time_s"] - place[0]).abs().argmin())]
        faces = faces[faces["sample"] == nearest]
    width, height = run.info["video"]["width"], run.info["video"]["height"]
    sides = (faces[["x2", "y2"]].to_numpy() - faces[["x1", "y1"]].to_numpy()).astype(np.float64)
    centers = faces[["x1", "y1"]].to_numpy(np.float64) + sides / 2

    def away(position: Float) -> Float:
        """(N, 2) distance from each face in its widths and heights."""
        return np.asarray(np.abs(position * [width, height] - centers) / sides)

    here = away(place[1:])
    distance = np.where((here <= _REACH[entry.kind]).all(axis=1), here.sum(axis=1), math.inf)
    for other in entry.places:
        for moment, x, y in other if other is not own else ():
            if abs(moment - place[0]) < _SAME_MOMENT_S:
                distance[away(np.array([x, y])).sum(axis=1) < here.sum(axis=1)] = math.inf
    if not len(distance) or math.isinf(distance.min()):
        return None
    return int(faces.index[int(distance.argmin())])


def _cuts(entry: Described, run: Run) -> tuple[float, float, float]:
    """The numbers of true, found and right cuts.

    Where only the number of true ones is known, as many are taken for right as there can be.
    """
    if entry.kind != "clip" or entry.cuts is None:
        return math.nan, math.nan, math.nan
    samples = run.samples.sort_values("time_s")
    new = samples["shot"].to_numpy()[1:] != samples["shot"].to_numpy()[:-1]
    times = samples["time_s"].to_numpy(np.float64)
    found = list(zip(times[:-1][new], times[1:][new], strict=True))
    if entry.cuts_s is None:
        return entry.cuts, len(found), min(entry.cuts, len(found))
    right = 0
    left = sorted(entry.cuts_s.tolist())
    for before, after in found:
        own = next((cut for cut in left if before - _CUT_S <= cut <= after + _CUT_S), None)
        if own is not None:
            left.remove(own)
            right += 1
    return entry.cuts, len(found), right


# --- the figures -------------------------------------------------------------------------------------


def described_scores(scenes: pd.DataFrame, listed: pd.DataFrame) -> dict[str, Any]:
    """All figures of one kind.

    Args:
        scenes: The first rows of `score_described`, with `unit`.
        listed: The second ones, with `unit`.

    Returns:
        The numbers ``files``, ``listed``, ``people``; ``count_abs_error`` and ``count_error``: the sum
        over files of (the size of) people - listed, / listed; ``range_holds``: share of files whose
        `people_low` to `people_high` holds the listed number; ``found``, ``face_found``: shares of the listed
        people (not of sets, whose people have no places);
        ``unmatched``: found people whom no listed one matches, / listed; ``time_missed`` and
        ``time_too_much``: sums over people, / true seconds; ``cuts_precision``, ``cuts_recall``, ``cuts_f1``;
        ``faces_precision``; and ``groups``, for each group of listed people who are found: ``right``,
        ``unknown``, ``wrong`` (gender), ``age_abs_error``, ``age_error``, ``age_in_interval`` (of those whose
        age is known), ``age_in_range`` (of those whose age is a range: whether the estimate is in it) and
        ``age_outside`` (of all: years above, or negative below, the age or range).
    """
    number, placed = int(scenes["listed"].sum()), listed["kind"] != "set"
    miss = scenes["people"] - scenes["listed"]
    most = np.maximum(scenes["listed"], scenes["lowest"])
    holds = (scenes["people_low"] <= most) & (most <= scenes["people_high"])
    true_s, seen_s = listed["true_s"], listed["found_s"].fillna(0.0).where(listed["true_s"].notna())
    total_s = float(true_s.sum())
    cuts = {name: float(scenes[f"{name}_cuts"].sum(min_count=1)) for name in ("true", "found", "right")}
    known_cuts = int(scenes["true_cuts"].notna().sum())
    return {
        "files": len(scenes),
        "listed": number,
        "people": int(scenes["people"].sum()),
        "count_abs_error": Figure(_share(miss.abs().sum(), number), number),
        "count_error": Figure(_share(miss.sum(), number), number),
        **figures(pd.DataFrame({"range_holds": holds.astype(float)}), scenes["unit"]),
        **figures(listed[["found", "face_found"]].astype(float).where(placed), listed["unit"]),
        "unmatched": Figure(_share(scenes["unmatched"].sum(min_count=1), number), number),
        "time_missed": Figure(_share((true_s - seen_s).clip(lower=0).sum(), total_s), int(true_s.count())),
        "time_too_much": Figure(_share((seen_s - true_s).clip(lower=0).sum(), total_s), int(true_s.count())),
        "cuts_precision": Figure(_share(cuts["right"], cuts["found"]), known_cuts),
        "cuts_recall": Figure(_share(cuts["right"], cuts["true"]), known_cuts),
        "cuts_f1": Figure(_share(2 * cuts["right"], cuts["found"] + cuts["true"]), known_cuts),
        "found_cuts": _whole(cuts["found"]),
        "true_cuts": _whole(cuts["true"]),
        "faces_precision": Figure(
            _share(scenes["right_faces"].sum(min_count=1), scenes["counted_faces"].sum()),
            int(scenes["counted_faces"].sum()),
        ),
        "groups": _groups(listed),
    }


def _share(part: float, whole: float) -> float:
    return float(part) / float(whole) if whole > 0 else math.nan


def _whole(value: float) -> int | None:
    return None if math.isnan(value) else int(value)


def _groups(listed: pd.DataFrame) -> dict[str, dict[str, Figure]]:
    child = listed["age_to"] <= ADULT_FROM_YEARS
    women, men = (listed["true_gender"] == gender for gender in GENDERS)
    groups = {
        f"{ADULT_FROM_YEARS}+": ~child,
        f"women {ADULT_FROM_YEARS}+": women & ~child,
        f"men {ADULT_FROM_YEARS}+": men & ~child,
        "children": child,
        **{
            f"known age, {name}": listed["known"] & (listed["age_from"] >= low) & (listed["age_from"] < high)
            for name, (low, high) in _AGE_EDGES_YEARS.items()
        },
        "known age": listed["known"],
        **{
            f"age, {name}": (listed["age_from"] >= low) & (listed["age_to"] <= high)
            for name, (low, high) in _AGE_EDGES_YEARS.items()
        },
        "all": pd.Series(True, listed.index),
    }
    values = _row_scores(listed)
    return {name: figures(values[rows], listed.loc[rows, "unit"]) for name, rows in groups.items()}


def _row_scores(listed: pd.DataFrame) -> pd.DataFrame:
    found, known = listed["found"].astype(bool), listed["known"].astype(bool)
    gender, stated = listed["true_gender"], listed["gender"]
    labeled = found & gender.isin(GENDERS)
    error = listed["age_years"] - listed["age_from"]
    aged = found & listed["age_years"].notna() & listed["age_from"].notna()
    inside = (listed["age_low"] <= listed["age_from"]) & (listed["age_from"] <= listed["age_high"])
    in_range = listed["age_years"].between(listed["age_from"], listed["age_to"])
    above = (listed["age_years"] - listed["age_to"]).clip(lower=0)
    below = (listed["age_from"] - listed["age_years"]).clip(lower=0)
    counted: dict[str, tuple[pd.Series, pd.Series]] = {
        "right": (stated == gender, labeled),
        "unknown": (~stated.isin(GENDERS), labeled),
        "wrong": (stated.isin(GENDERS) & (stated != gender), labeled),
        "age_abs_error": (error.abs(), aged & known),
        "age_error": (error, aged & known),
        "age_in_interval": (inside, aged & known),
        "age_in_range": (in_range, aged & ~known),
        "age_outside": (above - below, aged),
    }
    return pd.DataFrame({name: values.astype(float).where(rows) for name, (values, rows) in counted.items()})


def estimates_of(listed: pd.DataFrame) -> pd.DataFrame:
    """The listed people as a table of estimates of `analyzer.evaluation.metrics`, with known ages only."""
    return listed.assign(true_age=listed["age_from"].where(listed["known"].astype(bool)))
