"""Notes: what an analysis did not count or did not estimate, why, and which option changes it.

These sentences and numbers are written here only: they are stored in ``run.json`` and shown by the console,
reports and the annotated video.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from analyzer.people.confirmed import CONFIRMED, known_people
from analyzer.people.identity import IMAGE_QUALITY, PERSON_QUALITY
from analyzer.settings import MOST_ENLARGED, Settings
from analyzer.util.program import program
from analyzer.util.text import counted
from analyzer.vision import registry
from analyzer.vision.registry import YUNET

__all__ = [
    "REASONS",
    "SCENE_NOTES",
    "UNMEASURED_AGES",
    "Note",
    "Seen",
    "people_notes",
    "scene_notes",
]

REASONS = (
    *("uncounted_brief", "uncounted_faint", "uncounted_brief_and_faint"),
    *("unestimated_narrow", "unestimated_other", "gender_unsure", "gender_of_children"),
)
"""Why a face is not counted, or a person has no gender and age, or no gender: keys of ``counts``."""

SCENE_NOTES = ("no_face", "replaced_detector", "unread_pages", *REASONS[:3])
"""What the notes of `scene_notes` are about."""

UNMEASURED_AGES = (
    "Ages and their intervals come from the model as they are: how often such an interval contains the true "
    "age has not been measured."
)

_WIDEST_PX = 1280
"""Largest `--detector-size` that is suggested: it already takes four times as long."""


@dataclass(frozen=True)
class Note:
    """Something to know about the numbers of a run."""

    reason: str
    """One of `REASONS`, ``no_face``, ``replaced_detector``, ``unmeasured_ages``, ``unread_pages``,
    ``corrected`` or ``corrections_lost``."""
    count: int
    """Number of faces or people that it concerns."""
    sentence: str


@dataclass(frozen=True)
class Seen:
    """What was analyzed, as far as notes mention it."""

    images: bool
    """Whether it was images, not a video."""
    samples: int
    seconds: float
    width: int
    """Pixels, of the frame."""
    height: int
    may_be_larger: bool = False
    """Whether it was downloaded at the largest height that the settings allow."""
    unread_pages: tuple[tuple[str, int], ...] = ()
    """Images of which only the first page was read, with the number of other pages."""

    @property
    def words(self) -> str:
        """The amount that was analyzed.

        >>> Seen(True, 1, 1, 640, 360).words, Seen(False, 50, 10, 640, 360).words
        ('1 image', '10.0 s of video (50 frames)')
        """
        if self.images:
            return counted(self.samples, "image")
        return f"{self.seconds:.1f} s of video ({counted(self.samples, 'frame')})"


def scene_notes(
    seen: Seen, faces: pd.DataFrame, uncounted: pd.DataFrame, settings: Settings
) -> tuple[Note, ...]:
    """Return what to know about what was analyzed and which faces were not counted; the first notes.

    Args:
        seen: What was analyzed.
        faces: The faces table.
        uncounted: `analyzer.people.identity.Linked.uncounted`.
        settings: Of the analysis; only options that would change something are suggested.
    """
    if faces.empty:
        return (_no_face(seen, settings), *_replaced(settings), *_unread(seen))
    return (*_unread(seen), *_replaced(settings), *_uncounted(seen, uncounted, settings))


def people_notes(
    faces: pd.DataFrame,
    people: pd.DataFrame,
    settings: Settings,
    *,
    child_years: float,
    measured: bool = True,
    may_be_larger: bool = False,
) -> tuple[Note, ...]:
    """Return what to know about the gender and age of people.

    Args:
        faces: The faces table with `person_id`.
        people: The people table.
        settings: Of the analysis; only options that would change something are suggested.
        child_years: The gender of people who look younger is not stated.
        measured: `Calibration.measured`.
        may_be_larger: As of `Seen`.
    """
    return (
        *_unestimated(faces, people, settings, may_be_larger=may_be_larger),
        *_without_gender(people, settings, child_years),
        *([] if measured else _unmeasured(people)),
    )


def _no_face(seen: Seen, settings: Settings) -> Note:
    helps = [larger] if (larger := _larger_size(seen, settings)) else []
    if settings.detector == "centerface":
        pull = "" if registry.available(YUNET) else " (first run models pull yunet)"
        helps.append(f"--detector yunet{pull}")
    may = f" {_may_find_more(helps)}" if helps and settings.detector != "none" else ""
    return Note(
        "no_face",
        0,
        f"No face was found in {seen.words}. People are counted by their faces: people seen from behind, or "
        f"with a covered or very small face, are not found.{may}",
    )


def _replaced(settings: Settings) -> list[Note]:
    """A note if CenterFace was used in place of the default detector."""
    if settings.detector != "auto" or registry.find_detector(settings.detector) is YUNET:
        return []
    sentence = (
        "Faces were detected by CenterFace, because the default detector, YuNet, is not on this machine: it "
        f"finds more faces. {program()} models pull yunet gets it."
    )
    return [Note("replaced_detector", 0, sentence)]


def _may_find_more(options: list[str]) -> str:
    """Return a sentence with options that may help.

    >>> _may_find_more(["--fps 10"]), _may_find_more(["--a", "--b", "--c"])
    ('This may find more: --fps 10.', 'These may find more: --a, --b or --c.')
    """
    if len(options) == 1:
        return f"This may find more: {options[0]}."
    return f"These may find more: {', '.join(options[:-1])} or {options[-1]}."


def _larger_size(seen: Seen, settings: Settings) -> str:
    """Return the option for a larger detector size; empty if that would not help."""
    size, longer = _searched_px(settings), max(seen.width, seen.height)
    widest = min(round(MOST_ENLARGED * longer), _WIDEST_PX)
    if settings.detector not in ("auto", "centerface", "yunet") or size >= widest:
        return ""
    return f"--detector-size {widest}"


def _searched_px(settings: Settings) -> int:
    """Return the longer side of the detector's image."""
    return 640 if isinstance(settings.detector_size, str) else settings.detector_size


def _uncounted(seen: Seen, uncounted: pd.DataFrame, settings: Settings) -> list[Note]:
    short = f"seen for less than {settings.min_on_screen_s:g} s"
    if seen.images:
        short = f"in fewer than {counted(math.ceil(settings.min_on_screen_s), 'image')}"
    elif seen.seconds / 2 < settings.min_on_screen_s:
        short = f"seen for less than {seen.seconds / 2:.2g} s (half of the video)"
    asked = settings.min_person_quality
    quality = f"{(IMAGE_QUALITY if seen.images else PERSON_QUALITY) if isinstance(asked, str) else asked:g}"
    groups = {str(reason): group for reason, group in uncounted.groupby("reason")}
    notes = []
    if (faint := groups.get("faint")) is not None:
        number, lowest, best = len(faint), _floor(faint["quality"].min()), _floor(faint["quality"].max())
        one = number == 1
        width = float(faint["width_px"].median())
        about = [f"{best:g}" if lowest == best else f"{lowest:g} to {best:g}"]
        about.append(f"{'' if one else 'median '}width {width:.0f} pixels")
        if not seen.images:
            about.append(f"seen for {'' if one else 'up to '}{faint['seen_s'].max():.1f} s")
        sentence = (
            f"{_found(number)}: not clear enough, with a quality below {quality} ({', '.join(about)}). "
            f"--min-person-quality {lowest:g} counts {_it(number)}."
        )
        notes.append(Note("uncounted_faint", number, sentence))
    if (brief := groups.get("brief")) is not None:
        number, few = len(brief), _floor(brief["seen_s"].min())
        sentence = f"{_found(number)}: {short}. --min-on-screen {few:g} counts {_it(number)}."
        notes.append(Note("uncounted_brief", number, sentence))
    if (both := groups.get("both")) is not None:
        sentence = (
            f"{_found(len(both), 'more ' if notes else '')}: {short} and with a "
            f"quality below {quality}; these may not be faces."
        )
        notes.append(Note("uncounted_brief_and_faint", len(both), sentence))
    return notes


def _unestimated(
    faces: pd.DataFrame, people: pd.DataFrame, settings: Settings, *, may_be_larger: bool
) -> list[Note]:
    without = people.loc[~known_people(people), "person_id"]
    of_them = faces[faces["person_id"].isin(without)]
    widest = (of_them["x2"] - of_them["x1"]).groupby(of_them["person_id"]).max()
    narrow = widest[widest < settings.min_estimate_px]
    notes = []
    if number := len(narrow):
        medians = people.loc[people["person_id"].isin(narrow.index), "face_px_median"]
        their, them = ("the face is", "this one") if number == 1 else ("their faces are", "them")
        sentence = (
            f"{_of(number, len(people))} without gender and age: {their} narrower than "
            f"{settings.min_estimate_px} pixels (median {medians.median():.0f}). --min-estimate-px "
            f"{max(1, math.floor(medians.min()))} estimates {them} too, with larger errors; "
            "a larger frame is better."
        )
        sentence += " A larger --max-height downloads more pixels." if may_be_larger else ""
        notes.append(Note("unestimated_narrow", number, sentence))
    if number := len(widest) - len(narrow):
        sentence = f"{_of(number, len(people))} without gender and age: no sighting could be estimated."
        notes.append(Note("unestimated_other", number, sentence))
    return notes


def _without_gender(people: pd.DataFrame, settings: Settings, child_years: float) -> list[Note]:
    some = people[
        (people["estimated_samples"] > 0)
        & (people["gender"] == "unknown")
        & people["gender_source"].ne(CONFIRMED)
    ]
    child = (some["age_years"] < child_years) & (not settings.gender_of_children)
    notes = []
    if number := int(child.sum()):
        they_look = "the person looks" if number == 1 else "they look"
        sentence = (
            f"{_of(number, len(people))} of unknown gender because {they_look} younger than {child_years:g}: "
            "the models are often wrong about children. --gender-of-children reports it."
        )
        notes.append(Note("gender_of_children", number, sentence))
    if number := len(some) - number:
        sentence = (
            f"{_of(number, len(people))} of unknown gender because the estimate is less than "
            f"{100 * settings.min_confidence:g} % sure. A lower --min-confidence reports "
            "more, with more errors."
        )
        notes.append(Note("gender_unsure", number, sentence))
    return notes


def _unmeasured(people: pd.DataFrame) -> list[Note]:
    number = int(people["age_years"].notna().sum())
    return [Note("unmeasured_ages", number, UNMEASURED_AGES)] if number else []


def _unread(seen: Seen) -> list[Note]:
    if not seen.unread_pages:
        return []
    number = sum(pages for _, pages in seen.unread_pages)
    name, pages = seen.unread_pages[0]
    more = len(seen.unread_pages) - 1
    files = [f"{counted(pages, 'further page')} of {name}"]
    files += [f"{number - pages} of {counted(more, 'more image')}"] if more else []
    sentence = (
        f"{' and '.join(files)} {'was' if number == 1 else 'were'} not read, and people on them are "
        "not counted: save each page as an image of its own."
    )
    return [Note("unread_pages", number, sentence)]


def _found(number: int, more: str = "") -> str:
    return f"{counted(number, f'{more}face was', f'{more}faces were')} found but not counted"


def _floor(value: float) -> float:
    """Round down to two decimals, so that the option counts what has exactly this value."""
    return math.floor(value * 100) / 100


def _of(number: int, total: int) -> str:
    """Return a phrase such as "3 of 5 people are"."""
    return f"{number} of {counted(total, 'person', 'people')} {'is' if number == 1 else 'are'}"


def _it(number: int) -> str:
    return "it" if number == 1 else "them"
