"""Suggestions for a review: which people to merge or split, and which to look at, the likeliest first."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from analyzer.errors import OutputError
from analyzer.people.confirmed import CONFIRMED
from analyzer.people.identity import HEIGHTS, IMAGE_HEIGHTS
from analyzer.runs.corrections import Applied, Corrections, parts_of, read_corrections
from analyzer.runs.run import CORRECTIONS_FILE, Run
from analyzer.runs.run_info import SCHEMA_VERSION
from analyzer.settings import Settings
from analyzer.util.text import counted

__all__ = [
    "Suggestion",
    "cast",
    "suggestions",
]

_MOST = 200

_BRIEF = 1.5
"""Seen for less than this multiple of the time that a person is seen at least."""

_FAINT = 0.6
"""A person whose faces never reach this quality may be none."""

_WIDE_YEARS = 24.0
"""A wider interval of an age is worth a look."""

_UNSURE = 0.85
"""A likelier gender that is less likely than this is worth a look."""


@dataclass(frozen=True)
class Suggestion:
    """Something to look at in a review."""

    kind: Literal["merge", "split", "check"]
    people: tuple[int, ...]
    """merge: two people who may be one; otherwise one."""
    reason: str
    """Why, in a sentence."""
    score: float
    """How much it is worth a look, 0 to 1."""
    tracklets: tuple[int, ...] = ()
    """split: those that would become a new person."""

    def to_dict(self) -> dict[str, Any]:
        """Return its form in JSON."""
        return {key: list(one) if isinstance(one, tuple) else one for key, one in asdict(self).items()}


def suggestions(folder: str | Path) -> list[Suggestion]:
    """Return what to look at in a review of a run, the likeliest errors first.

    What a correction has said already is not questioned.

    Args:
        folder: The run's folder.

    Raises:
        OutputError: The folder holds no run, or its file of corrections is damaged.
    """
    run = Run.load(folder)
    if run.info["schema_version"] != SCHEMA_VERSION or not (run.folder / "links.parquet").exists():
        return []
    corrections = read_corrections(run.folder)
    applied = corrections.apply(run.faces, run.samples)
    tree = _Tree(run, applied)
    found = [*tree.merges(), *tree.splits(corrections), *_checks(run)]
    return sorted(found, key=lambda one: (-one.score, one.people))[:_MOST]


def cast(folder: str | Path) -> list[str]:
    """Return the names that corrections gave to people in the runs of a channel, the most frequent first.

    They complete what is typed in a review: people are remembered by name, not by face.

    Args:
        folder: A run's folder; the runs beside it of the same channel are read.

    Raises:
        OutputError: The folder holds no run.
    """
    channel = Run.load(folder).info["channel"]
    names: Counter[str] = Counter()
    for path in Path(folder).absolute().parent.glob(f"*/{CORRECTIONS_FILE}"):
        with contextlib.suppress(OutputError):  # of this list, no other run must be a fault
            if Run.load(path.parent).info["channel"] == channel:
                names.update({one.name for one in read_corrections(path.parent).active if one.name})
    return sorted(names, key=lambda name: (-names[name], name.casefold()))


class _Tree:
    """The steps of the linking, with the people of today."""

    def __init__(self, run: Run, applied: Applied) -> None:
        heights = IMAGE_HEIGHTS if run.info["kind"] == "images" else HEIGHTS
        self._certain, self._likely, self._plausible = heights
        faces = run.faces.assign(person_id=applied.person_ids)
        owners = faces.groupby("tracklet_id")["person_id"].max()
        self._owner: dict[int, int] = {
            tracklet: person
            for tracklet, person in zip(owners.index.tolist(), owners.tolist(), strict=True)
            if person > 0
        }
        self._faces = faces
        self._links = [
            (int(a), int(b), str(kind), float(distance))
            for a, b, kind, distance in run.links[
                ["tracklet_id", "other_tracklet_id", "kind", "distance"]
            ].itertuples(index=False)
        ]
        # Whoever was split by hand is not to be merged again.
        self._apart = {
            frozenset((one.person, one.becomes)) for one in applied.active if one.action == "split"
        }
        self._sizes = faces[faces["person_id"] > 0]["person_id"].value_counts()

    def merges(self) -> Iterator[Suggestion]:
        """The links that were plausible, but not made."""
        of_group: dict[int, set[int]] = {}
        into: dict[int, int] = {}

        def root(one: int) -> int:
            while into.setdefault(one, one) != one:
                one = into[one]
            return one

        def people(group: int) -> set[int]:
            mine = of_group.setdefault(group, set())
            return mine | ({self._owner[group]} if group in self._owner else set())

        for a, b, kind, distance in self._links:
            one, other = root(a), root(b)
            if one == other:
                continue
            first, second = people(one), people(other)
            if kind == "appearance" and distance > self._likely and first - second and second - first:
                pair = self._pair(a, b, first, second)
                if pair[0] != pair[1] and frozenset(pair) not in self._apart:
                    yield self._merge(pair, distance)
            into[other] = one
            of_group[one] = first | second

    def _pair(self, a: int, b: int, first: set[int], second: set[int]) -> tuple[int, int]:
        """The people of two linked tracklets; where one belongs to nobody, the longest seen beside it."""
        chosen = [
            self._owner.get(tracklet) or max(group, key=lambda one: int(self._sizes.get(one, 0)))
            for tracklet, group in ((a, first - second), (b, second - first))
        ]
        return min(chosen), max(chosen)

    def _merge(self, pair: tuple[int, int], distance: float) -> Suggestion:
        closeness = (self._plausible - distance) / (self._plausible - self._likely)
        near = "much" if closeness > 0.5 else "somewhat"
        together = self._together(pair)
        seen = f", but are seen together in {counted(together, 'sample')}" if together else ""
        reason = f"{pair[0]} and {pair[1]} look {near} alike (distance {distance:.2f}){seen}."
        return Suggestion("merge", pair, reason, round((0.5 + 0.5 * closeness) * (0.3 if together else 1), 3))

    def _together(self, pair: tuple[int, int]) -> int:
        both = self._faces[self._faces["person_id"].isin(pair)].groupby("sample")["person_id"].nunique()
        return int((both > 1).sum())

    def splits(self, corrections: Corrections) -> Iterator[Suggestion]:
        """The links that were made, but are not certain: the last of each person."""
        merged = {person for one in corrections.active if one.action == "merge" for person in one.people}
        made: dict[int, list[tuple[int, int, str, float]]] = {}
        for a, b, kind, distance in self._links:
            if a in self._owner and self._owner[a] == self._owner.get(b):
                made.setdefault(self._owner[a], []).append((a, b, kind, distance))
        for person, links in made.items():
            *_, kind, distance = links[-1]
            if person in merged or kind != "appearance" or distance <= self._certain:
                continue
            unlikeness = (distance - self._certain) / (self._likely - self._certain)
            part = self._smaller_part(person, [(a, b) for a, b, *_ in links[:-1]])
            yield Suggestion(
                "split",
                (person,),
                f"Two parts of {person} look less alike than most of one person (distance {distance:.2f}).",
                round(0.3 + 0.5 * min(1.0, unlikeness), 3),
                part,
            )

    def _smaller_part(self, person: int, links: list[tuple[int, int]]) -> tuple[int, ...]:
        mine = [tracklet for tracklet, owner in self._owner.items() if owner == person]
        sizes = self._faces["tracklet_id"].value_counts()
        parts = parts_of(mine, links)
        return tuple(sorted(min(parts, key=lambda part: int(sum(sizes[one] for one in part)))))


def _checks(run: Run) -> Iterator[Suggestion]:
    """People whose estimates are unsure, or who may be none."""
    settings = Settings(**run.info["settings"])
    least_s = min(settings.min_on_screen_s, run.info["counts"]["analyzed_s"] / 2)
    images = run.info["kind"] == "images"
    clearest = run.faces.groupby("person_id")["quality"].max()
    for row in run.people.to_dict("records"):
        person = int(row["person_id"])
        reasons: list[tuple[float, str]] = []
        quality = float(clearest.get(person, math.nan))
        if quality < _FAINT:
            reasons.append((0.75 - 0.4 * quality, f"the face never shows clearly (quality {quality:.2f})"))
        if not images and row["on_screen_s"] < _BRIEF * least_s:
            reasons.append((0.4, f"seen for {row['on_screen_s']:.1f} s only"))
        reasons += [] if row["gender_source"] == CONFIRMED else _unsure_gender(row)
        if row["age_source"] != CONFIRMED and (width := row["age_high"] - row["age_low"]) > _WIDE_YEARS:
            wide = f"the age is between {row['age_low']:.0f} and {row['age_high']:.0f}"
            reasons.append((min(0.7, 0.2 + width / 100), wide))
        if reasons:
            reasons.sort(reverse=True)
            # More than one reason is worth a little more.
            score = min(0.95, reasons[0][0] + 0.05 * (len(reasons) - 1))
            words = "; ".join(text for _, text in reasons)
            yield Suggestion("check", (person,), f"Person {person}: {words}.", round(score, 3))


def _unsure_gender(row: dict[Any, Any]) -> Iterable[tuple[float, str]]:
    female = float(row["female_prob"])
    if math.isnan(female):
        return [(0.5, "gender and age could not be estimated")]
    likelier = max(female, 1 - female)
    if row["gender"] == "unknown":
        return [(0.65, f"the gender is not stated (female with {100 * female:.0f} %)")]
    if likelier < _UNSURE:
        return [(1.2 - likelier, f"the gender is not sure ({row['gender']} with {100 * likelier:.0f} %)")]
    return []
