"""Corrections of people by hand: what they are, where they are stored, and how they are applied.

A run's folder has one append-only file of corrections, ``corrections.json``. Nothing else is changed by hand:
whenever tables are derived, the corrections in force are applied, one after another, to the people that the
linking found. An undo is a correction as well, so the file is never shortened.

A correction names people and tracklets by their numbers, which another analysis of the video gives to others.
So it also stores where in the video they were seen (`Places`), and `fingerprint` tells whether the numbers
are those of the analysis at hand. If they are not, the people are found again by time and place.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import json
import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyzer.errors import OutputError, SettingsError
from analyzer.faces import iou
from analyzer.people.confirmed import Confirmed
from analyzer.people.identity import one_face_each
from analyzer.runs.notes import Note
from analyzer.runs.run import CORRECTIONS_FILE
from analyzer.util.atomic import writing
from analyzer.util.gender import GENDERS
from analyzer.util.text import counted, one_line

__all__ = [
    "ACTIONS",
    "Applied",
    "Correction",
    "Corrections",
    "fingerprint",
    "parts_of",
    "read_corrections",
]

ACTIONS = ("merge", "split", "not_a_person", "gender", "age", "name", "drop", "undo")

MAX_AGE_YEARS = 120.0

_MAX_NAME = 100

_FORMAT = 1
"""Version of the file."""

_PLACES, _PLACES_OF_TRACKLET, _PLACES_OF_SPLIT = 40, 3, 300
"""Most places that are stored: of a person; of a tracklet of a person who is split, and of all of these."""

_SAME_IOU = 0.3
"""A face at a stored place overlaps it by at least this much."""

_REACH_S = 0.25
"""Other samples are this far away in time at most, or one sample interval."""

_FOUND = 0.5
"""Share of the places at which somebody is found again, of those that were analyzed."""

Places = tuple[tuple[float, float, float, float, float], ...]
"""Where somebody was seen: time in seconds and box, x1 y1 x2 y2 as shares of the frame's width and height."""


@dataclass(frozen=True)
class Correction:
    """One correction. `number`, `at` and what follows are set when it is stored."""

    action: str
    """One of `ACTIONS`."""
    people: tuple[int, ...] = ()
    """merge: two or more person numbers; the lowest remains."""
    person: int | None = None
    """All but merge and undo: the person number."""
    gender: str | None = None
    """gender: one of `GENDERS`; unknown: it is not to be stated."""
    age_years: float | None = None
    """age: in years, or instead:"""
    age_band: str | None = None
    """age: whole years, both included, such as 30-39 or 65+."""
    name: str | None = None
    """name: in one line; empty removes the name."""
    tracklets: tuple[int, ...] = ()
    """split: those that become a new person. Without, and without `at_s`, those that look least like the
    others."""
    at_s: float | None = None
    """split: the tracklets that begin at this time or later become a new person."""
    undoes: int | None = None
    """undo: the number of a correction."""
    number: int = 0
    at: str = ""
    """When it was made (ISO, UTC)."""
    becomes: int | None = None
    """split: number of the new person."""
    analysis: str = ""
    """`fingerprint` of the analysis whose numbers it uses."""
    where: Mapping[str, Places] = field(default_factory=dict)
    """By person number: where the person was seen; with `moved` where the new person of a split was."""

    def __post_init__(self) -> None:
        _check(self)

    @classmethod
    def of(cls, document: Any) -> Self:
        """Return a correction from its form in JSON.

        Raises:
            SettingsError: It is none.
        """
        if not isinstance(document, dict):
            raise SettingsError(
                'a correction is an object, such as {"action": "name", "person": 3, "name": "Ada"}'
            )
        known = {one.name for one in dataclasses.fields(cls)}
        if unknown := sorted(map(str, document.keys() - known)):
            raise SettingsError(f"a correction has no key {unknown[0]}: it has {', '.join(sorted(known))}")
        values = {key: value for key, value in document.items() if value is not None}
        if "action" not in values:
            raise SettingsError(f"a correction needs an action: {', '.join(ACTIONS)}")
        for key in ("people", "tracklets"):
            if key in values:
                values[key] = tuple(values[key]) if isinstance(values[key], list | tuple) else (values[key],)
        if isinstance(where := values.get("where", {}), dict):
            with contextlib.suppress(TypeError, ValueError):
                values["where"] = {
                    str(key): tuple(
                        (float(t), float(a), float(b), float(c), float(d)) for t, a, b, c, d in one
                    )
                    for key, one in where.items()
                }
        return cls(**values)

    def to_dict(self, *, places: bool = True) -> dict[str, Any]:
        """Return its form in JSON, without what does not apply; without `places` also without `where`."""
        values = {
            one.name: getattr(self, one.name)
            for one in dataclasses.fields(self)
            if getattr(self, one.name) not in (None, (), {}, "") or one.name == self.action
        }
        values |= {key: list(values[key]) for key in ("people", "tracklets") if key in values}
        if not places:
            values.pop("where", None)
        first = {key: values.pop(key) for key in ("number", "at") if values.get(key)}
        return first | {key: value for key, value in values.items() if key != "number"}

    @property
    def ages(self) -> tuple[float, float]:
        """The least and the greatest age that it states; the second may be infinite."""
        if self.age_years is not None:
            return self.age_years, self.age_years
        return _band(self.age_band or "")

    @property
    def concerns(self) -> tuple[int, ...]:
        """The numbers of the people that it names."""
        return self.people if self.person is None else (self.person,)

    def in_words(self) -> str:
        """Return what it does.

        >>> Correction("merge", people=(3, 7)).in_words(), Correction("drop", person=5).in_words()
        ('merge 3 and 7', 'leave out 5')
        """
        person = self.person
        match self.action:
            case "merge":
                *most, last = map(str, self.people)
                return f"merge {', '.join(most)} and {last}"
            case "split":
                way = "" if self.at_s is None else f" at {self.at_s:g} s"
                return f"split {person}{way}" + ("" if self.becomes is None else f": {self.becomes} is new")
            case "not_a_person":
                return f"{person} is not a person"
            case "gender":
                return f"gender of {person}: {self.gender}"
            case "age":
                return f"age of {person}: {self.age_band or f'{self.age_years:g}'}"
            case "name":
                return f"name of {person}: {self.name}" if self.name else f"{person} has no name"
            case "drop":
                return f"leave out {person}"
        return f"undo {self.undoes}"


def _check(one: Correction) -> None:
    """Check a correction as far as that is possible without the run.

    Raises:
        SettingsError: Something is missing, of the wrong type, or out of its range.
    """
    if one.action not in ACTIONS:
        raise SettingsError(f"there is no correction {one.action!r}: choose from {', '.join(ACTIONS)}")
    _check_types(one)
    if one.action == "undo":
        if one.undoes is None:
            raise SettingsError("undo needs the number of the correction to undo")
    elif one.action != "merge" and one.person is None:
        raise SettingsError(f"{one.action} needs the number of a person")
    match one.action:
        case "merge" if one.person is not None:
            raise SettingsError("merge takes two or more people, such as 3,7, and no single person")
        case "merge" if len(set(one.people)) < 2:
            raise SettingsError("merge needs two or more different people, such as 3,7")
        case "split" if one.at_s is not None and one.tracklets and one.becomes is None:
            raise SettingsError("split takes a time or tracklets, not both")
        case "gender" if one.gender not in GENDERS:
            raise SettingsError(f"gender: {one.gender!r} is none of {', '.join(GENDERS)}")
        case "age":
            _check_age(one)
        case "name":
            _check_name(one.name)


def _check_types(one: Correction) -> None:
    numbers = (*one.people, *one.tracklets, one.person, one.undoes, one.becomes, one.number)
    if any(number is not None and type(number) is not int for number in numbers):
        raise SettingsError(f"{one.action}: people and tracklets are whole numbers")
    for name in ("age_years", "at_s"):
        if type(getattr(one, name)) not in (int, float, type(None)):
            raise SettingsError(f"{one.action}: {name} is a number")
    for name in ("gender", "age_band", "name", "at", "analysis"):
        if not isinstance(getattr(one, name), str | None):
            raise SettingsError(f"{one.action}: {name} is text")
    if not isinstance(one.where, dict):
        raise SettingsError(f"{one.action}: where is set when a correction is stored")


def _check_age(one: Correction) -> None:
    if (one.age_years is None) == (one.age_band is None):
        raise SettingsError("age needs either years, such as 42, or a band, such as 30-39")
    low, high = one.ages
    if not 0 <= low <= high or low > MAX_AGE_YEARS or (math.isfinite(high) and high > MAX_AGE_YEARS):
        raise SettingsError(
            f"age: {one.age_band or one.age_years} is not an age: write years, such as 42, or a band, such "
            "as 30-39 or 65+"
        )


def _check_name(name: str | None) -> None:
    if name is None:
        raise SettingsError("name needs a name, such as 3=Ada; 3= removes it")
    if len(name) > _MAX_NAME:
        raise SettingsError(f"name: a name has at most {_MAX_NAME} characters, and this has {len(name)}")
    if name != name.strip() or any(unicodedata.category(one)[0] == "C" for one in name):
        raise SettingsError(
            f"name: {one_line(name)!r} has spaces around it or characters that cannot be shown"
        )


def _band(text: str) -> tuple[float, float]:
    """Return the ages of a band.

    >>> _band("30-39"), _band("65+")
    ((30.0, 39.0), (65.0, inf))

    Raises:
        SettingsError: It is none.
    """
    low, dash, high = text.removesuffix("+").partition("-")
    open_end = text.endswith("+") and not dash
    if not low.isdecimal() or not (open_end or (dash and high.isdecimal())):
        raise SettingsError(f"age: {text!r} is not an age band: write one such as 30-39 or 65+")
    return float(low), math.inf if open_end else float(high)


@dataclass(frozen=True)
class Corrections:
    """The corrections of a run, in the order in which they were made."""

    entries: tuple[Correction, ...] = ()
    """All that were ever made, with those that were undone and the undos."""

    @property
    def active(self) -> tuple[Correction, ...]:
        """Those in force."""
        undone = {one.undoes for one in self.entries if one.action == "undo"}
        return tuple(one for one in self.entries if one.action != "undo" and one.number not in undone)

    def are_in(self, info: Mapping[str, Any]) -> bool:
        """Tell whether the tables that a ``run.json`` describes hold these corrections."""
        facts = info.get("corrections")
        return self.key == (facts["key"] if facts else "")

    @property
    def key(self) -> str:
        """16 hex digits over the entries, by which tables tell that they were applied; empty without any."""
        if not self.entries:
            return ""
        return hashlib.sha256(json.dumps(self.to_list(), sort_keys=True).encode()).hexdigest()[:16]

    def to_list(self) -> list[dict[str, Any]]:
        """Return the entries in JSON."""
        return [one.to_dict() for one in self.entries]

    def write(self, folder: Path) -> None:
        """Store them in a folder.

        Raises:
            OutputError: They cannot be written.
        """
        lines = ",\n".join(json.dumps(one, ensure_ascii=False) for one in self.to_list())
        with writing(folder / CORRECTIONS_FILE) as temporary:
            temporary.write_text(f'{{"version": {_FORMAT}, "corrections": [\n{lines}\n]}}\n', "utf-8")

    def apply(self, faces: pd.DataFrame, samples: pd.DataFrame) -> Applied:
        """Return the people after the corrections.

        Corrections whose people are not found again, or that no longer make sense, are passed over
        (`Applied.lost`).

        Args:
            faces: Rows of the faces table in the order of time, with `linked_person_id`.
            samples: Rows of the samples table.
        """
        state = self._state(faces, samples)
        lost: list[tuple[Correction, str]] = []
        done: list[Correction] = []
        for one in self.active:
            try:
                found = one if one.analysis == state.analysis else state.found_again(one)
                if found is not None:
                    state.step(found)
            except SettingsError as error:
                lost.append((one, str(error)))
            else:
                done.append(one if found is None else found)
        return state.applied(tuple(done), tuple(lost))

    def extended(
        self, added: Sequence[Correction], faces: pd.DataFrame, samples: pd.DataFrame, links: pd.DataFrame
    ) -> Corrections:
        """Return these and some more, checked, with all that is stored.

        Args:
            added: New corrections, in order.
            faces: Rows of the faces table in the order of time, with `linked_person_id`.
            samples: Rows of the samples table.
            links: Rows of the links table.

        Raises:
            SettingsError: A correction contradicts the people there are.
        """
        entries = list(self.entries)
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        for one in added:
            number = max((each.number for each in entries), default=0) + 1
            if one.action == "undo":
                entries.append(Corrections(tuple(entries))._undo(one, number, now, faces, samples))
                continue
            before = Corrections(tuple(entries))
            state = before._state(faces, samples)
            before._replay(state)
            # What is set here is nobody else's to say.
            stored = state.stored(dataclasses.replace(one, becomes=None, where={}), links)
            stored = dataclasses.replace(stored, number=number, at=now, analysis=state.analysis)
            state.step(stored)
            entries.append(stored)
        return Corrections(tuple(entries))

    def _state(self, faces: pd.DataFrame, samples: pd.DataFrame) -> _State:
        state = _State(faces, samples)
        # The number of a split that was undone is not given to another person.
        state.reserve(one.becomes for one in self.entries if one.analysis == state.analysis)
        return state

    def _replay(self, state: _State) -> None:
        for one in self.active:
            with contextlib.suppress(SettingsError):
                found = one if one.analysis == state.analysis else state.found_again(one)
                if found is not None:
                    state.step(found)

    def _undo(
        self, one: Correction, number: int, now: str, faces: pd.DataFrame, samples: pd.DataFrame
    ) -> Correction:
        active = self.active
        if not active:
            raise SettingsError("there is no correction to undo")
        if one.undoes not in {each.number for each in active}:
            raise SettingsError(
                f"undo: there is no correction {one.undoes} in force; those are "
                f"{', '.join(str(each.number) for each in active)}"
            )
        undo = Correction("undo", undoes=one.undoes, number=number, at=now)
        lost_before = {each.number for each, _ in self.apply(faces, samples).lost}
        after = Corrections((*self.entries, undo))
        for each, _ in after.apply(faces, samples).lost:
            if each.number not in lost_before:
                raise SettingsError(
                    f"undo: correction {each.number} ({each.in_words()}) builds on {one.undoes}: undo it "
                    "first"
                )
        return undo


def read_corrections(folder: Path) -> Corrections:
    """Read the corrections of a run's folder; none without a file.

    Raises:
        OutputError: The file cannot be read or is damaged.
    """
    path = folder / CORRECTIONS_FILE
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return Corrections()
    except OSError as error:
        raise OutputError(
            f"{path} cannot be read ({error.strerror or error}): check its permissions"
        ) from error
    except (ValueError, RecursionError) as error:
        raise OutputError(f"{path} is damaged: put back a copy of it, or remove it") from error
    version = document.get("version") if isinstance(document, dict) else None
    if version != _FORMAT:
        newer = isinstance(version, int) and version > _FORMAT
        what = "was written by a newer version: update the program"
        raise OutputError(f"{path} {what if newer else 'is damaged: put back a copy of it, or remove it'}")
    entries = document.get("corrections")
    try:
        if not isinstance(entries, list):
            raise SettingsError("it lists no corrections")
        return Corrections(tuple(Correction.of(one) for one in entries))
    except (SettingsError, TypeError) as error:
        raise OutputError(f"{path} is damaged ({error}): put back a copy of it, or remove it") from error


def fingerprint(faces: pd.DataFrame) -> str:
    """Return 16 hex digits over the numbers and boxes that an analysis gave to its faces.

    Args:
        faces: Rows of the faces table, with `linked_person_id`.
    """
    content = hashlib.sha256()
    for name in ("sample", "tracklet_id", "linked_person_id"):
        content.update(faces[name].to_numpy("<i8").tobytes())
    content.update(faces["x1"].to_numpy("<f4").tobytes())
    return content.hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class Applied:
    """What corrections did to the people of a run."""

    person_ids: NDArray[np.int64]
    """(faces,) the person of each face, -1 for none."""
    confirmed: dict[int, Confirmed]
    """What is known about people, by number; every person that a correction concerns is in it."""
    active: tuple[Correction, ...]
    """The corrections that were applied, with the numbers of this analysis."""
    lost: tuple[tuple[Correction, str], ...]
    """Those that could not be applied, and why."""
    removed: dict[int, str]
    """Numbers of the people that were removed, with the action: drop or not_a_person."""
    left_out: NDArray[np.bool_]
    """(faces,) whether each belongs to somebody who was left out by drop."""

    @property
    def notes(self) -> tuple[Note, ...]:
        """What a reader must know about them."""
        notes = []
        counts = Counter(one.action for one in self.active)
        if counts:
            words = [counted(counts[action], *forms) for action, forms in _WORDS.items() if counts[action]]
            sentence = f"People were corrected by hand ({CORRECTIONS_FILE}): {', '.join(words)}."
            notes.append(Note("corrected", len(self.active), sentence))
        if self.lost:
            named = "; ".join(one.in_words() for one, _ in self.lost[:_NAMED])
            more = len(self.lost) - _NAMED
            named += f"; and {more} more" if more > 0 else ""
            was = "was" if len(self.lost) == 1 else "were"
            sentence = (
                f"{counted(len(self.lost), 'correction')} of an earlier analysis {was} not applied, because "
                f"the people were not found again: {named} (numbers of that analysis)."
            )
            notes.append(Note("corrections_lost", len(self.lost), sentence))
        return tuple(notes)

    def people_range(self, found: tuple[int, int, str], people: int) -> tuple[int, int, str]:
        """Return the lowest and the highest number of people, and why they differ.

        Args:
            found: What the linking says.
            people: How many there are after the corrections.
        """
        if not self.active:
            return found
        low, high, reason = found
        counts = Counter(one.action for one in self.active)
        merged = sum(len(set(one.people)) - 1 for one in self.active if one.action == "merge")
        high -= merged + len(self.removed)
        low += counts["split"] - len(self.removed)
        low, high = max(0, min(low, people)), max(high, people)
        return low, high, reason if low < high else "the people were corrected by hand"


_NAMED = 5
"""So many lost corrections are named."""

_WORDS = {
    "merge": ("merge", "merges"),
    "split": ("split", "splits"),
    "not_a_person": ("found not to be a person", "found not to be people"),
    "drop": ("left out", "left out"),
    "name": ("name", "names"),
    "gender": ("gender", "genders"),
    "age": ("age", "ages"),
}


class _State:
    """The people of an analysis while corrections are applied to them.

    Args:
        faces: Rows of the faces table, with `linked_person_id`.
        samples: Rows of the samples table.
    """

    def __init__(self, faces: pd.DataFrame, samples: pd.DataFrame) -> None:
        self.analysis = fingerprint(faces)
        self._faces, self._samples = faces, samples
        linked = faces["linked_person_id"].to_numpy(np.int64)
        self._linked = linked
        self._tracklet = faces["tracklet_id"].to_numpy(np.int64)
        # Single faces of a tracklet may have no person, or more than one tracklet a face in a sample.
        owners = pd.Series(linked).groupby(self._tracklet).max()
        self._owner: dict[int, int] = {
            tracklet: person
            for tracklet, person in zip(owners.index.tolist(), owners.tolist(), strict=True)
            if person > 0
        }
        self._known: dict[int, Confirmed] = {}
        self._moved: set[int] = set()
        self._removed: dict[int, str] = {}
        self._dropped: set[int] = set()
        self._last = int(linked.max(initial=0))
        self._places: _Finder | None = None

    def reserve(self, numbers: Iterable[int | None]) -> None:
        """Do not give these numbers to new people."""
        self._last = max([self._last, *(one for one in numbers if one is not None)])

    def tracklets(self, person: int) -> list[int]:
        """The tracklets of a person, ascending."""
        return sorted(one for one, owner in self._owner.items() if owner == person)

    # --- one correction after another ----------------------------------------------------------------

    def step(self, one: Correction) -> None:
        """Apply a correction that has all numbers of this analysis.

        Raises:
            SettingsError: It contradicts the people there are.
        """
        for person in one.concerns:
            self._check_person(person, one.action)
        match one.action:
            case "merge":
                self._merge(one.people)
            case "split":
                self._split(one)
            case "not_a_person" | "drop":
                assert one.person is not None
                for tracklet in self.tracklets(one.person):
                    del self._owner[tracklet]
                    self._dropped |= {tracklet} if one.action == "drop" else set()
                self._moved.add(one.person)
                self._removed[one.person] = one.action
            case "gender":
                self._know(one, gender=one.gender)
            case "age":
                self._know(one, ages=one.ages)
            case "name":
                self._check_free(one)
                self._know(one, name=one.name or "")

    def _know(self, one: Correction, **known: Any) -> None:
        assert one.person is not None
        self._known[one.person] = dataclasses.replace(self._known.get(one.person, Confirmed()), **known)

    def _check_person(self, person: int, action: str) -> None:
        if person in self._owner.values():
            return
        if action_before := self._removed.get(person):
            left = "left out" if action_before == "drop" else "not a person"
            raise SettingsError(f"{action}: person {person} is {left}: undo that first")
        people = sorted(set(self._owner.values()))
        there = f"there are {_listed(people)}" if people else "the run has none"
        raise SettingsError(f"{action}: there is no person {person}; {there}")

    def _check_free(self, one: Correction) -> None:
        for person, known in self._known.items():
            if (
                one.name
                and known.name == one.name
                and person != one.person
                and person in self._owner.values()
            ):
                raise SettingsError(
                    f"name: person {person} is named {one_line(one.name)} already: merge {person} and "
                    f"{one.person}, or choose another name"
                )

    def _merge(self, people: Sequence[int]) -> None:
        into, *others = sorted(set(people))
        known = self._known.get(into, Confirmed())
        for other in others:
            for tracklet in self.tracklets(other):
                self._owner[tracklet] = into
            theirs = self._known.pop(other, Confirmed())
            known = dataclasses.replace(
                known,
                name=known.name or theirs.name,
                gender=theirs.gender if known.gender is None else known.gender,
                ages=theirs.ages if known.ages is None else known.ages,
            )
        self._known[into] = known
        self._moved |= {into, *others}

    def _split(self, one: Correction) -> None:
        person, new = one.person, one.becomes
        assert person is not None and new is not None
        mine = self.tracklets(person)
        foreign = [tracklet for tracklet in one.tracklets if tracklet not in mine]
        if foreign:
            raise SettingsError(f"split: tracklet {foreign[0]} is not one of person {person}'s")
        if not one.tracklets or len(set(one.tracklets)) == len(mine):
            raise SettingsError(
                f"split: nothing of person {person} would be left, or nothing would be split off"
            )
        for tracklet in one.tracklets:
            self._owner[tracklet] = new
        self._moved |= {person, new}
        self._known.setdefault(person, Confirmed())
        self._known.setdefault(new, Confirmed())
        self._last = max(self._last, new)

    # --- what is stored with a correction ------------------------------------------------------------

    def stored(self, one: Correction, links: pd.DataFrame) -> Correction:
        """Return a correction with what is needed to apply it again.

        Raises:
            SettingsError: It contradicts the people there are.
        """
        for person in one.concerns:
            self._check_person(person, one.action)
        if one.action != "split":
            return dataclasses.replace(
                one,
                where={
                    str(person): self._seen_at(self.tracklets(person), _PLACES) for person in one.concerns
                },
            )
        assert one.person is not None
        mine = self.tracklets(one.person)
        if len(mine) < 2:
            raise SettingsError(f"split: person {one.person} has one tracklet, which cannot be split")
        moved = list(one.tracklets)
        if one.at_s is not None:
            moved = self._from(one.at_s, mine)
            if not moved or len(moved) == len(mine):
                first = (
                    self._faces.loc[self._faces["tracklet_id"].isin(mine)]
                    .groupby("tracklet_id")["time_s"]
                    .min()
                )
                raise SettingsError(
                    f"split: all tracklets of person {one.person} begin {'before' if not moved else 'after'} "
                    f"{one.at_s:g} s; they begin from {first.min():.1f} to {first.max():.1f} s"
                )
        elif not moved:
            moved = self._least_alike(mine, links)
        stay = [tracklet for tracklet in mine if tracklet not in moved]
        where = {
            str(one.person): self._seen_at(stay, _PLACES_OF_SPLIT, _PLACES_OF_TRACKLET),
            _MOVED: self._seen_at(moved, _PLACES_OF_SPLIT, _PLACES_OF_TRACKLET),
        }
        return dataclasses.replace(one, tracklets=tuple(moved), becomes=self._last + 1, where=where)

    def _from(self, at_s: float, tracklets: Sequence[int]) -> list[int]:
        mine = self._faces[self._faces["tracklet_id"].isin(tracklets)]
        begins = mine.groupby("tracklet_id")["time_s"].min()
        return [int(one) for one in begins.index[begins >= at_s - 1e-6]]

    def _least_alike(self, tracklets: Sequence[int], links: pd.DataFrame) -> list[int]:
        """Return the tracklets on the smaller side of the last link of a person that was made."""
        mine = set(tracklets)
        made = [
            (int(a), int(b))
            for a, b in zip(links["tracklet_id"], links["other_tracklet_id"], strict=True)
            if int(a) in mine and int(b) in mine
        ]
        # A merge by hand leaves parts without a link between them: the smaller is split off again.
        parts = parts_of(tracklets, made)
        if len(parts) < 2:
            parts = parts_of(tracklets, made[:-1])
        sizes = pd.Series(self._tracklet).value_counts()
        return sorted(min(parts, key=lambda part: (sum(sizes[one] for one in part), -min(part))))

    def _seen_at(self, tracklets: Sequence[int], most: int, of_each: int | None = None) -> Places:
        """Return up to `most` places of some tracklets, evenly over them; `of_each` tracklet at most."""
        rows = np.flatnonzero(np.isin(self._tracklet, tracklets))
        if of_each is not None:
            chosen = pd.Series(rows).groupby(self._tracklet[rows])
            rows = np.sort(np.concatenate([_evenly(one.to_numpy(), of_each) for _, one in chosen]))
        some = self._faces.iloc[_evenly(rows, most)]
        sizes = (
            self._samples.set_index("sample").loc[some["sample"], ["width", "height"]].to_numpy(np.float64)
        )
        boxes = some[["x1", "y1", "x2", "y2"]].to_numpy(np.float64) / np.tile(sizes, 2)
        return tuple(
            (round(time, 3), *(round(value, 4) for value in box))
            for time, box in zip(some["time_s"].tolist(), boxes.tolist(), strict=True)
        )

    # --- finding people of another analysis ------------------------------------------------------------

    def found_again(self, one: Correction) -> Correction | None:
        """Return a correction of another analysis with the numbers of this one; None if it has nothing to do.

        Raises:
            SettingsError: Its people are not found again.
        """
        people = {person: self._person_at(one.where.get(str(person), ()), person) for person in one.concerns}
        if one.action == "merge":
            found = tuple(sorted(set(people.values())))
            return None if len(found) < 2 else dataclasses.replace(one, people=found)
        assert one.person is not None
        person = people[one.person]
        if one.action != "split":
            return dataclasses.replace(one, person=person)
        places = one.where.get(_MOVED, ())
        if (other := self._person_at(places, one.becomes or 0)) != person:
            self._known.setdefault(person, Confirmed())
            self._known.setdefault(other, Confirmed())
            return None  # this analysis has not mistaken them for one
        stay, moved = self._votes(one.where.get(str(one.person), ())), self._votes(places)
        mine = self.tracklets(person)
        if one.at_s is not None:
            chosen = self._from(one.at_s, mine)
        else:
            chosen = [tracklet for tracklet in mine if moved[tracklet] > stay[tracklet]]
        if not chosen or len(chosen) == len(mine):
            raise SettingsError(f"split: the two people in {person} are not found apart")
        return dataclasses.replace(one, person=person, tracklets=tuple(chosen), becomes=self._last + 1)

    def _person_at(self, places: Places, number: int) -> int:
        inside = [place for place in places if self._finder.analyzed(place[0])]
        votes: Counter[int] = Counter()
        for tracklet, count in self._votes(inside).items():
            if tracklet in self._owner:
                votes[self._owner[tracklet]] += count
        if not votes:
            raise SettingsError(f"person {number} is not found again")
        person, count = votes.most_common(1)[0]
        if count < _FOUND * len(inside):
            raise SettingsError(f"person {number} is not found again")
        return person

    def _votes(self, places: Iterable[tuple[float, float, float, float, float]]) -> Counter[int]:
        """At how many of some places each tracklet is."""
        found = (self._finder.tracklet_at(place) for place in places)
        return Counter(one for one in found if one is not None)

    @property
    def _finder(self) -> _Finder:
        if self._places is None:
            self._places = _Finder(self._faces, self._samples)
        return self._places

    # --- the result --------------------------------------------------------------------------------------

    def applied(self, active: tuple[Correction, ...], lost: tuple[tuple[Correction, str], ...]) -> Applied:
        """Return what the corrections did."""
        person_ids = self._linked.copy()
        if self._moved:
            owners = np.array([self._owner.get(int(one), -1) for one in self._tracklet], np.int64)
            alone = one_face_each(self._faces, self._samples, owners)
            # Whose tracklets did not change keeps exactly what the linking has found.
            changed = np.isin(owners, list(self._moved)) | np.isin(self._linked, list(self._moved))
            person_ids[changed] = alone[changed]
        there = set(np.unique(person_ids).tolist())
        known = {person: one for person, one in self._known.items() if person in there}
        left_out = np.isin(self._tracklet, list(self._dropped))
        return Applied(person_ids, known, active, lost, dict(self._removed), left_out)


_MOVED = "moved"


class _Finder:
    """Finds the tracklet at a time and place."""

    def __init__(self, faces: pd.DataFrame, samples: pd.DataFrame) -> None:
        ordered = samples.sort_values("time_s")
        self._times = ordered["time_s"].to_numpy(np.float64)
        self._ends = self._times + ordered["duration_s"].to_numpy(np.float64)
        steps = np.diff(self._times)
        step = float(np.median(steps)) if len(steps) else 0.0
        self._reach_s = 1e-3 if ordered["image"].ne("").any() else max(_REACH_S, step) + 1e-3
        size = samples.set_index("sample").loc[faces["sample"], ["width", "height"]].to_numpy(np.float64)
        boxes = faces[["x1", "y1", "x2", "y2"]].to_numpy(np.float64) / np.tile(size, 2)
        order = np.argsort(faces["time_s"].to_numpy(np.float64), kind="stable")
        self._of_face = faces["time_s"].to_numpy(np.float64)[order]
        self._boxes = boxes[order].astype(np.float32)
        self._tracklet = faces["tracklet_id"].to_numpy(np.int64)[order]

    def analyzed(self, time_s: float) -> bool:
        """Whether a time lies in the analyzed part of the video."""
        near = np.searchsorted(self._times, time_s + self._reach_s, "right") - 1
        return bool(near >= 0 and time_s <= max(self._ends[near], self._times[near] + self._reach_s))

    def tracklet_at(self, place: tuple[float, float, float, float, float]) -> int | None:
        """The tracklet of the face that overlaps a place most; None if none does."""
        time_s, *box = place
        low, high = np.searchsorted(self._of_face, [time_s - self._reach_s, time_s + self._reach_s])
        if low == high:
            return None
        overlap = iou(np.array([box], np.float32), self._boxes[low:high])[0]
        # The nearest in time of those that overlap about as much.
        worth = overlap - 0.1 * np.abs(self._of_face[low:high] - time_s) / self._reach_s
        best = int(np.argmax(worth))
        return int(self._tracklet[low + best]) if overlap[best] >= _SAME_IOU else None


def parts_of(tracklets: Iterable[int], links: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Return the groups of tracklets that are connected by links.

    >>> parts_of([1, 2, 5, 9], [(2, 5)])
    [[1], [2, 5], [9]]
    """
    into = {one: one for one in tracklets}

    def root(one: int) -> int:
        while into[one] != one:
            into[one] = into[into[one]]
            one = into[one]
        return one

    for a, b in links:
        into[root(a)] = root(b)
    groups: dict[int, list[int]] = {}
    for one in into:
        groups.setdefault(root(one), []).append(one)
    return sorted(groups.values())


def _evenly(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Return up to `most` of some rows, evenly over them.

    >>> _evenly(np.arange(10), 3).tolist()
    [0, 4, 9]
    """
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]


def _listed(people: Sequence[int]) -> str:
    """Return numbers in words, ranges joined.

    >>> _listed([1, 2, 3, 7]), _listed([4])
    ('1-3, 7', '4')
    """
    ranges: list[list[int]] = []
    for one in people:
        if ranges and one == ranges[-1][1] + 1:
            ranges[-1][1] = one
        else:
            ranges.append([one, one])
    return ", ".join(f"{low}" if low == high else f"{low}-{high}" for low, high in ranges)
