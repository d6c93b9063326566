"""The figures of a report: their names, meanings and formats, in one place for all forms of a report."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from analyzer.people.proportions import FEW_PEOPLE
from analyzer.report.document import AttentionTable, Document, Moment
from analyzer.util.text import counted, percent

__all__ = [
    "AUDIENCE_FIGURES",
    "BY_NAME",
    "ESTIMATED",
    "FIGURES",
    "NOT_KNOWN",
    "SUPPRESSED",
    "TOO_FEW",
    "Figure",
    "attention_texts",
    "attention_words",
    "clock",
    "ends_of",
    "figure_of",
    "figure_text",
    "method",
    "moment_words",
    "more_moments_words",
    "notes_of_runs",
    "runs_words",
    "span_text",
    "span_words",
    "why_not",
]

Unit = Literal["", "s", "clock", "share", "people", "years"]

SUPPRESSED = "suppressed"
"""The word in place of a figure about too few people."""

TOO_FEW = "too few people"
"""The words in place of a share of fewer than `analyzer.people.proportions.FEW_PEOPLE` people."""

NOT_KNOWN = "–"


@dataclass(frozen=True)
class Figure:
    """One figure of a video, of a group of videos, or of all of them."""

    name: str
    words: str
    unit: Unit
    meaning: str
    single: bool = False
    """Whether it is about one person, so that it is always suppressed where few people are."""

    @property
    def personal(self) -> bool:
        """Whether it is about the people, so that it is suppressed where they are too few."""
        return self.name not in ("videos", "analyzed_s")


FIGURES = (
    Figure("videos", "videos", "", "Number of runs."),
    Figure("analyzed_s", "analyzed", "clock", "Duration of the analyzed frames, added up."),
    Figure("people", "people", "people", "Distinct people, counted video by video."),
    Figure("people_low", "people, at least", "people", "If every plausible link between sightings holds."),
    Figure(
        "people_high",
        "people, at most",
        "people",
        "If only the certain links hold and every uncounted face is another person.",
    ),
    Figure("people_per_video", "people per video", "people", "Mean number of people per video."),
    Figure("on_screen_s", "time on screen", "clock", "Time on screen of all people, added up."),
    Figure("female_on_screen_s", "time on screen, female", "clock", "Of people of perceived gender female."),
    Figure("male_on_screen_s", "time on screen, male", "clock", "Of people of perceived gender male."),
    Figure("unknown_on_screen_s", "time on screen, unknown", "clock", "Of people whose gender is unknown."),
    Figure(
        "occupancy", "occupancy", "share", "Share of the analyzed time with at least one person on screen."
    ),
    Figure(
        "co_presence", "co-presence", "share", "Share of the analyzed time with two or more people on screen."
    ),
    Figure(
        "mixed",
        "mixed co-presence",
        "share",
        "Share of the analyzed time with people of both perceived genders on screen.",
    ),
    Figure(
        "concurrent_mean",
        "concurrent people, mean",
        "people",
        "Mean number of people on screen over the analyzed time, empty frames included.",
    ),
    Figure(
        "concurrent_peak",
        "concurrent people, peak",
        "people",
        "Largest number of people in one analyzed frame.",
    ),
    Figure(
        "first_s",
        "first appearance",
        "clock",
        "When the first person appears; over several videos the median.",
        single=True,
    ),
    Figure(
        "longest_occupancy_s",
        "longest occupancy",
        "clock",
        "Longest time with at least one person on screen; gaps of at most 2 s do not end it.",
        single=True,
    ),
    Figure(
        "longest_person_s",
        "longest appearance",
        "clock",
        "Longest appearance of one person; gaps of at most 2 s do not end it.",
        single=True,
    ),
    Figure("female", "perceived female", "people", "People of perceived gender female."),
    Figure("male", "perceived male", "people", "People of perceived gender male."),
    Figure("unknown_gender", "gender unknown", "people", "People whose gender is not stated."),
    Figure("estimated", "people with estimates", "people", "People with an estimate of gender or age."),
    Figure("age_median_years", "age, median", "years", "Median of the perceived ages."),
    Figure(
        "female_people_share",
        "female share of people",
        "share",
        "Estimated share of the people, corrected for the models' error rates; with a 95 % interval.",
    ),
    Figure("female_people_low", "female share of people, low", "share", "Lower end of the interval."),
    Figure("female_people_high", "female share of people, high", "share", "Upper end of the interval."),
    Figure(
        "female_time_share",
        "female share of time on screen",
        "share",
        "Estimated share of all people's time on screen; with a 95 % interval.",
    ),
    Figure("female_time_low", "female share of time on screen, low", "share", "Lower end of the interval."),
    Figure("female_time_high", "female share of time on screen, high", "share", "Upper end of the interval."),
)


AUDIENCE_FIGURES = (
    Figure("ots", "opportunity to see", "people", "People whose face was seen in front of the camera."),
    Figure("watchers", "watchers", "people", "People among them who faced the camera."),
    Figure(
        "conversion_ratio",
        "conversion ratio",
        "share",
        "Watchers as a share of the people whose attention is known.",
    ),
    Figure("dwell_mean_s", "dwell, mean", "s", "Mean time of the watchers from first seen until leaving."),
    Figure("attention_mean_s", "attention, mean", "s", "Mean time that the watchers face the camera."),
    Figure("attraction_ratio", "attraction ratio", "share", "Attention of all watchers as a share of dwell."),
)
"""The figures of people in front of a camera, for runs that were analyzed as an audience."""

BY_NAME = {figure.name: figure for figure in FIGURES}


_OF_IMAGES: dict[str, tuple[str, Unit, str]] = {
    "videos": ("sets of images", "", "Number of runs."),
    "people": ("people", "people", "Distinct people in the images, counted set by set."),
    "people_per_video": ("people per set of images", "people", "Mean number of people per set of images."),
    "analyzed_s": ("images", "people", "Number of analyzed images."),
    "on_screen_s": ("people in all images", "people", "Number of people, added up over the images."),
    "occupancy": ("images with people", "share", "Share of the images with at least one person."),
    "co_presence": ("images with two or more", "share", "Share of the images with two or more people."),
    "mixed": ("images with female and male", "share", "Share of the images with both perceived genders."),
    "concurrent_mean": ("people per image, mean", "people", "Mean over the images, empty ones included."),
    "concurrent_peak": ("people per image, peak", "people", "Largest number of people in one image."),
}


def notes_of_runs(document: Document) -> list[str]:
    """The notes of several runs on their faces, a sentence for each kind of note; none for a single run.

    >>> few = {"title": "a", "notes": ["1 face was not counted: it was seen for 0.4 s."]}
    >>> more = {"title": "b", "notes": ["3 faces were not counted: they were seen for 1 s."]}
    >>> notes_of_runs({"kind": "videos", "images": False, "videos": [more, few], "notes": []})
    ['In 2 videos, for example b: 3 faces were not counted: they were seen for 1 s.']
    """
    if document["kind"] == "video":
        return []
    kinds: dict[str, list[tuple[str, str]]] = {}
    for run in document["videos"]:
        for note in run["notes"]:
            if note not in document["notes"]:  # else it is about all runs
                kinds.setdefault(_kind(note), []).append((run["title"], note))
    lines = []
    for found in kinds.values():
        title, note = found[0]
        number = runs_words(len(found), images=document["images"])
        lines.append(f"{title}: {note}" if len(found) == 1 else f"In {number}, for example {title}: {note}")
    return lines


_PLURALS = {
    **{"faces": "face", "were": "was", "are": "is", "people": "person", "them": "it", "they": "it"},
    **{"their": "its", "these": "this", "ones": "one", "frames": "frame", "images": "image"},
    **{"have": "has", "the": "", "a": "", "its": "", "too": "", "more": ""},
}


def _kind(note: str) -> str:
    """A note without its numbers and in the singular, which is equal for notes of the same kind."""
    words = re.findall(r"[a-z-]+", re.sub(r"(?<!\w)[\d.,]+", "", note.lower()))
    return " ".join(filter(None, (_PLURALS.get(word, word) for word in words)))


def runs_words(number: float, *, images: bool) -> str:
    """A number of runs, as videos or sets of images.

    >>> runs_words(1, images=False), runs_words(6, images=True)
    ('1 video', '6 sets of images')
    """
    return counted(number, "set of images", "sets of images") if images else counted(number, "video")


def method(document: Document, sampling: str = "") -> list[tuple[str, str]]:
    """The method and the limits of a report: the beginning of each sentence, and the rest of it.

    Args:
        document: The report document.
        sampling: Analyzed frames per second, if it is the same for all videos.
    """
    images, single, least = document["images"], document["kind"] == "video", document["min_people"]
    times = f", in {sampling} frames per second of video" if sampling and sampling != "None" else ""
    counted_if = "in an image" if images else f"for at least a second{times}"
    outside = "outside the image" if images else "off screen"
    same = "in several images" if images else "across shot boundaries and re-entries"
    each = "set by set: someone in two sets" if images else "video by video: someone in two videos"
    found = [
        (
            "Who is counted.",
            f"People whose face was seen {counted_if}. People who are {outside}, seen from behind, or too "
            "small or too dark to be detected are not counted.",
        ),
        (
            "One person, one count.",
            f"The same face {same} is one person. The range after the count is the number of people if every "
            "plausible link between sightings holds (lower end), or if only the certain links hold and every "
            "uncounted face is another person (upper end)."
            + ("" if single else f" People are counted {each} counts twice."),
        ),
        (
            "Gender and age are perceived.",
            "They are a model's estimates of how people look, not facts about people. Gender is unknown "
            "below the confidence limit and for people who look like children.",
        ),
        (
            "Counts and shares differ.",
            "Counts add up the estimates of each person. Shares are corrected for the models' error rates; "
            "their 95 % intervals include these errors, and people who were missed, split or merged. No "
            f"share is stated for fewer than {FEW_PEOPLE} people.",
        ),
        ("Age intervals", AGES_MEASURED if document["ages_measured"] else AGES_UNMEASURED),
    ]
    if not images:
        found.append(
            (
                "Time on screen",
                "is the time in which a face was seen in the analyzed frames; it is not speaking time or "
                "attention. Where the frame hardly changed, the detections of the frame before are reused.",
            )
        )
    if document["trend"]:
        found.append(("Error bars of changes", "include estimation errors and the choice of videos."))
    if least > 1:
        found.append((SUPPRESSED.capitalize(), f"figures are about fewer than {least} people."))
    return found


AGES_MEASURED = "contain the true age of 80 % of people; they promise nothing about any one person."
"""How the sentence goes on after "Age intervals"."""

AGES_UNMEASURED = (
    "are the model's own: how often they contain the true age was not measured for these models."
)


def figure_of(name: str, *, images: bool) -> Figure | None:
    """A figure in the words for videos or for images; None for figures of time, which images do not have.

    >>> figure_of("occupancy", images=True).words, figure_of("first_s", images=True)
    ('images with people', None)
    """
    figure = BY_NAME[name]
    if not images:
        return figure
    if name in _OF_IMAGES:
        words, unit, meaning = _OF_IMAGES[name]
        return Figure(name, words, unit, meaning)
    return None if figure.unit == "clock" or "_time_" in name else figure


ESTIMATED = tuple(f"female_{of}_{what}" for of in ("people", "time") for what in ("share", "low", "high"))
"""Figures that are not stated for fewer people than `analyzer.people.proportions.FEW_PEOPLE`."""


def attention_texts(row: Mapping[str, Any], least: int) -> list[str]:
    """The cells of a row of the document's `attention`, in the order of `AUDIENCE_FIGURES`.

    >>> attention_texts({"ots": 8, "watchers": 2, "conversion_ratio": 0.25}, 1)
    ['8', '2', '25 %', '–', '–', '–']
    """
    none = SUPPRESSED if least > 1 else NOT_KNOWN
    return [figure_text(row.get(one.name), one.unit) or none for one in AUDIENCE_FIGURES]


def attention_words(attention: AttentionTable) -> str:
    """How attention is defined, in a few sentences."""
    limits = {name: " or ".join(f"{one:g}" for one in values) for name, values in attention["limits"].items()}
    unknown = attention["rows"][0]["attention_unknown"]
    more = (
        f" Attention is not known for {counted(unknown, 'person', 'people')} without facial landmarks."
        if unknown
        else ""
    )
    return (
        f"A person faces the camera if the head is turned by at most {limits['attention_yaw_deg']} degrees "
        f"sideways and {limits['attention_pitch_deg']} degrees up or down, for at least "
        f"{limits['attention_min_s']} s. A person who is not seen for {limits['left_after_s']} s has left. "
        f"Eye gaze is not measured, and the camera is used as a proxy for the screen.{more}"
    )


def why_not(row: Mapping[str, Any], name: str, *, least: int) -> str:
    """The word in place of a figure that is not stated; empty if it is stated.

    Args:
        row: A row of figures.
        name: Name of the figure.
        least: The document's `min_people`.

    >>> why_not({"female_people_share": None, "estimated": 4}, "female_people_share", least=1)
    'too few people'
    """
    if row.get(name) is not None:
        return ""
    if least > 1 and BY_NAME[name].personal:
        return SUPPRESSED
    return TOO_FEW if name in ESTIMATED and 0 < (row.get("estimated") or 0) < FEW_PEOPLE else NOT_KNOWN


def ends_of(figures: Mapping[str, Any], name: str) -> tuple[Any, Any]:
    """The ends of a figure's interval; None where it has none, or they are not known.

    >>> ends_of({"people": 4, "people_low": 3, "people_high": 6}, "people"), ends_of({}, "occupancy")
    ((3, 6), (None, None))
    """
    stem = name.removesuffix("_share")
    return figures.get(f"{stem}_low"), figures.get(f"{stem}_high")


def clock(seconds: float, *, exact: bool = False) -> str:
    """A time as a player shows it; with tenths if `exact`.

    >>> clock(75.04), clock(3600), clock(5.26, exact=True), clock(59.96, exact=True)
    ('1:15', '1:00:00', '0:05.3', '1:00.0')
    """
    tenths = round(seconds * 10) if exact else round(seconds) * 10
    whole, tenth = divmod(tenths, 10)
    minutes, second = divmod(whole, 60)
    hour, minute = divmod(minutes, 60)
    text = f"{hour}:{minute:02d}:{second:02d}" if hour else f"{minute}:{second:02d}"
    return f"{text}.{tenth}" if exact else text


def moment_words(moment: Moment) -> str:
    """The words beside the time of a busiest moment's peak.

    >>> moment_words({"start_s": 0.0, "end_s": 10.0, "people": 1.72, "peak_people": 4})
    '4 people; 1.7 on average from 0:00 to 0:10'
    """
    people = (
        NOT_KNOWN if moment["peak_people"] is None else counted(moment["peak_people"], "person", "people")
    )
    mean = NOT_KNOWN if moment["people"] is None else f"{moment['people']:.1f}"
    return f"{people}; {mean} on average from {clock(moment['start_s'])} to {clock(moment['end_s'])}"


def more_moments_words(document: Document, shown: int | None = None) -> str:
    """The words after the busiest moments; empty if no more are as busy as the last one shown.

    Args:
        document: The report.
        shown: How many moments are shown; None: all of the document.

    >>> ties = {"moments": [{"people": 2.0}, {"people": 1.0}, {"people": 1.0}], "more_moments": 4}
    >>> more_moments_words(ties, 2), more_moments_words(ties, 1)
    ('and 5 more with 1.0 on average', '')
    """
    listed = document["moments"]
    if not (seen := listed[:shown]) or (last := seen[-1]["people"]) is None:
        return ""
    tied = sum(moment["people"] == last for moment in listed[len(seen) :])
    tied += document["more_moments"] if listed[-1]["people"] == last else 0
    return f"and {tied} more with {last:.1f} on average" if tied else ""


def span_words(seconds: float) -> str:
    """The length of a bin of a timeline, as it follows "in each".

    >>> span_words(1.0), span_words(0.5)
    ('second', '0.5 s')
    """
    return "second" if seconds == 1 else f"{seconds:g} s"


def figure_text(value: Any, unit: Unit) -> str:
    """A figure as text; empty if it is not known.

    >>> figure_text(0.4149, "share"), figure_text(1234.0, "people"), figure_text(2.345, "people")
    ('41 %', '1,234', '2.3')
    >>> figure_text(14.98, "people"), figure_text(0.0099, "share")
    ('15', '1 %')
    >>> figure_text(None, "share"), figure_text(0.004, "share"), figure_text(34.4, "years")
    ('', '0.4 %', '34')
    >>> figure_text(0, "clock"), figure_text(5.26, "clock"), figure_text(120, "clock")
    ('0:00', '0:05.3', '2:00')
    """
    if value is None or math.isnan(value):
        return ""
    match unit:
        case "share":
            return percent(value)
        case "clock":
            return clock(value, exact=0 < value < 60)
        case "s":
            return f"{value:.1f} s"
        case "years":
            return f"{value:.0f}"
    return f"{value:,.1f}".removesuffix(".0")


def span_text(low: Any, high: Any, unit: Unit) -> str:
    """An interval as text; empty if it is not known or has no width.

    >>> span_text(0.2, 0.5, "share"), span_text(3, 3, "people")
    ('20 % to 50 %', '')
    """
    if low is None or high is None or math.isnan(low) or math.isnan(high) or low == high:
        return ""
    return f"{figure_text(low, unit)} to {figure_text(high, unit)}"
