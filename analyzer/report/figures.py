"""The figures of a report: their names, what they mean, and how they are written, once for all its forms."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from analyzer.people.proportions import FEW_PEOPLE
from analyzer.util.text import counted, percent

__all__ = [
    "AUDIENCE_FIGURES",
    "BY_NAME",
    "ESTIMATED",
    "FIGURES",
    "GENDER_WORDS",
    "NOT_KNOWN",
    "TOO_FEW",
    "WITHHELD",
    "Figure",
    "attention_texts",
    "attention_words",
    "clock",
    "ends_of",
    "figure_of",
    "figure_text",
    "method",
    "moment_words",
    "notes_of_runs",
    "runs_words",
    "span_text",
    "span_words",
    "why_not",
]

Unit = Literal["", "s", "clock", "share", "people", "years"]


WITHHELD = "withheld"
"""What stands in place of a figure about too few people."""


TOO_FEW = "too few people to say"
"""What stands in place of a share of fewer than `analyzer.people.proportions.FEW_PEOPLE` judged people."""


NOT_KNOWN = "–"


GENDER_WORDS = {"female": "female", "male": "male", "unknown": "unknown"}
"""Perceived gender, as it is written."""


@dataclass(frozen=True)
class Figure:
    """One figure of a video, of a group of videos, or of all of them."""

    name: str
    words: str
    unit: Unit
    meaning: str
    single: bool = False
    """Whether it is about one person, so that it is never told where few people are withheld."""

    @property
    def personal(self) -> bool:
        """Whether it says something about the people, so that it is withheld where they are too few."""
        return self.name not in ("videos", "analyzed_s")


FIGURES = (
    Figure("videos", "videos", "", "Number of runs."),
    Figure("analyzed_s", "analyzed", "clock", "Time for which the analyzed frames stand."),
    Figure("people", "people", "people", "Distinct people, counted video by video."),
    Figure("people_low", "people, at least", "people", "If all plausible links between sightings hold."),
    Figure(
        "people_high",
        "people, at most",
        "people",
        "If only the certain links hold, and every face that is not counted is a person's.",
    ),
    Figure("people_per_video", "people per video", "people", "Mean number of people of a video."),
    Figure("on_screen_s", "time on screen", "clock", "Of all people, added up."),
    Figure("female_on_screen_s", "time on screen, female", "clock", "Of people of perceived gender female."),
    Figure("male_on_screen_s", "time on screen, male", "clock", "Of people of perceived gender male."),
    Figure("unknown_on_screen_s", "time on screen, gender unknown", "clock", "Of the others."),
    Figure("occupancy", "somebody on screen", "share", "Share of the analyzed time with at least one person."),
    Figure("co_presence", "two or more at once", "share", "Share of the analyzed time with two people or more."),
    Figure(
        "mixed",
        "female and male at once",
        "share",
        "Share of the analyzed time with people of both perceived genders at once.",
    ),
    Figure(
        "concurrent_mean",
        "people at once, mean",
        "people",
        "Mean over the analyzed time, empty screen included.",
    ),
    Figure(
        "concurrent_peak", "people at once, most", "people", "Largest number of people in one analyzed frame."
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
        "longest presence of anybody",
        "clock",
        "Longest stretch in which the screen is never without a person for more than 2 s.",
        single=True,
    ),
    Figure(
        "longest_person_s",
        "longest presence of one person",
        "clock",
        "Longest stretch of one person on screen; gaps of at most 2 s do not end it.",
        single=True,
    ),
    Figure("female", "perceived female", "people", "People of perceived gender female."),
    Figure("male", "perceived male", "people", "People of perceived gender male."),
    Figure("unknown_gender", "gender unknown", "people", "People whose gender is not stated."),
    Figure("estimated", "people judged", "people", "People whose gender or age could be estimated."),
    Figure("age_median_years", "age, median", "years", "Median of the people's perceived ages."),
    Figure(
        "female_people_share",
        "share of female people",
        "share",
        "Estimated share of the people, corrected for how often the networks err; with a 95 % interval.",
    ),
    Figure("female_people_low", "share of female people, low", "share", "Lower end of the interval."),
    Figure("female_people_high", "share of female people, high", "share", "Upper end."),
    Figure(
        "female_time_share",
        "female share of the time on screen",
        "share",
        "Estimated share of the people's time on screen; with a 95 % interval.",
    ),
    Figure("female_time_low", "female share of the time, low", "share", "Lower end of the interval."),
    Figure("female_time_high", "female share of the time, high", "share", "Upper end."),
)


AUDIENCE_FIGURES = (
    Figure("ots", "opportunity to see", "people", "People whose face was seen in front of the camera."),
    Figure("watchers", "watchers", "people", "Those of them who looked towards the camera."),
    Figure(
        "conversion_ratio",
        "conversion ratio",
        "share",
        "Watchers as a share of the people of whom it is known whether they looked.",
    ),
    Figure("dwell_mean_s", "dwell, mean", "s", "Time from first seen until leaving, of watchers."),
    Figure(
        "attention_mean_s",
        "attention, mean",
        "s",
        "Time that the face is directed at the camera, of watchers.",
    ),
    Figure(
        "attraction_ratio", "attraction ratio", "share", "Attention as a share of dwell, of all watchers."
    ),
)
"""What is told of the people in front of a camera, where the runs were analyzed as an audience."""


BY_NAME = {figure.name: figure for figure in FIGURES}


_OF_IMAGES: dict[str, tuple[str, Unit, str]] = {
    "videos": ("sets of images", "", "Number of runs."),
    "people": ("people", "people", "Distinct people in the images, counted set by set."),
    "people_per_video": ("people per set of images", "people", "Mean number of people of a set of images."),
    "analyzed_s": ("images", "people", "Images that were analyzed."),
    "on_screen_s": ("people in all images", "people", "Added up over the images."),
    "occupancy": ("images with somebody", "share", "Share of the images with at least one person."),
    "co_presence": ("images with two or more", "share", "Share of the images with two people or more."),
    "mixed": ("images with female and male", "share", "Share of the images with both perceived genders."),
    "concurrent_mean": ("people in an image, mean", "people", "Mean over the images, empty ones included."),
    "concurrent_peak": ("people in an image, most", "people", "Largest number of people in one image."),
}


def notes_of_runs(document: Mapping[str, Any]) -> list[str]:
    """What several runs say of their faces, a sentence for each kind of it; empty of a single run.

    >>> few = {"title": "a", "notes": ["1 face was not counted: it was seen for 0.4 s."]}
    >>> more = {"title": "b", "notes": ["3 faces were not counted: they were seen for 1 s."]}
    >>> notes_of_runs({"kind": "videos", "images": False, "videos": [more, few]})
    ['In 2 videos, as in b: 3 faces were not counted: they were seen for 1 s.']
    """
    if document["kind"] == "video":
        return []
    kinds: dict[str, list[tuple[str, str]]] = {}
    for run in document["videos"]:
        for note in run["notes"]:
            if note in document.get("notes", ()):  # said of all of them
                continue
            kinds.setdefault(_kind(note), []).append((run["title"], note))
    lines = []
    for told in kinds.values():
        title, note = told[0]
        number = runs_words(len(told), images=document["images"])
        lines.append(f"{title}: {note}" if len(told) == 1 else f"In {number}, as in {title}: {note}")
    return lines


_PLURALS = {"faces": "face", "were": "was", "are": "is", "people": "person", "them": "it", "they": "it"}


_PLURALS |= {"their": "its", "these": "this", "ones": "one", "frames": "frame", "images": "image"}


_PLURALS |= {"the": "", "a": "", "its": "", "too": "", "more": ""}


def _kind(note: str) -> str:
    """A note without its numbers, and in the singular: those that say the same are equal."""
    words = re.findall(r"[a-z-]+", re.sub(r"(?<!\w)[\d.,]+", "", note.lower()))
    return " ".join(filter(None, (_PLURALS.get(word, word) for word in words)))


def runs_words(number: float, *, images: bool) -> str:
    """So many runs, as what they are of.

    >>> runs_words(1, images=False), runs_words(6, images=True)
    ('1 video', '6 sets of images')
    """
    return counted(number, "set of images", "sets of images") if images else counted(number, "video")


def method(document: Mapping[str, Any], sampling: str = "") -> list[tuple[str, str]]:
    """How a report comes by its figures and what they cannot say: subjects and what is said of each.

    Args:
        document: Of the report.
        sampling: Analyzed frames a second, if all videos have the same.
    """
    images, single, least = document["images"], document["kind"] == "video", document["min_people"]
    times = f", in {sampling} frames a second of video" if sampling and sampling != "None" else ""
    counted_if = "in an image" if images else f"for a second in all{times}"
    outside = "outside the picture" if images else "off screen"
    same = "in several images" if images else "over cuts and re-entries"
    each = "set by set: who is in two sets" if images else "video by video: who is in two videos"
    told = [
        (
            "Who is counted.",
            f"People whose face was seen {counted_if}. Who is {outside}, seen from behind, or too small or "
            "dark to be found is not counted.",
        ),
        (
            "One person, one count.",
            f"The same face {same} is one person. The range after the count says how many people there are "
            "if every plausible link holds (lower), or only the certain ones do and every face that is not "
            "counted is a person's (upper)."
            + ("" if single else f" People are counted {each} counts twice."),
        ),
        (
            "Gender and age are perceived.",
            "They are estimates of how people look to networks, not facts about people. Below the confidence "
            "set, and for those who look like children, gender is left unknown.",
        ),
        (
            "Counts and shares differ.",
            "Counts say what was stated of each person. Shares are corrected for how often the networks are "
            "wrong; their 95 % intervals allow for that, and for people who were missed, split or merged. Of "
            f"fewer than {FEW_PEOPLE} people no share is stated.",
        ),
        ("An age's interval", AGES_MEASURED if document["ages_measured"] else AGES_UNMEASURED),
    ]
    if not images:
        told.append(
            (
                "Time on screen",
                "is time in which the face was seen in the analyzed frames; it is not speaking time or "
                "attention. Where a picture hardly changed, faces are carried over from the frame before.",
            )
        )
    if document["trend"]:
        told.append(
            ("The error bars of changes", "hold the errors of measuring and which videos there happen to be.")
        )
    if least > 1:
        told.append((f"{WITHHELD.capitalize()}", f"is what would be said about fewer than {least} people."))
    return told


AGES_MEASURED = "holds the true age of 80 % of people; it promises nothing about one."


AGES_UNMEASURED = (
    "is the network's own: how often such an interval holds the true age was not measured for these networks."
)


def figure_of(name: str, *, images: bool) -> Figure | None:
    """A figure in the words of videos or of images; None if it is about time, which images have not.

    >>> figure_of("occupancy", images=True).words, figure_of("first_s", images=True)
    ('images with somebody', None)
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
    none = WITHHELD if least > 1 else NOT_KNOWN
    return [figure_text(row.get(one.name), one.unit) or none for one in AUDIENCE_FIGURES]


def attention_words(attention: Mapping[str, Any]) -> str:
    """What the figures of an audience are by, in a sentence or two."""
    limits = {name: " or ".join(f"{one:g}" for one in values) for name, values in attention["limits"].items()}
    unknown = attention["rows"][0]["attention_unknown"]
    more = f" Of {unknown} nothing is known: their faces have no landmarks." if unknown else ""
    return (
        f"A face is directed at the camera where the head is turned by at most {limits['attention_yaw_deg']} "
        f"degrees to a side and {limits['attention_pitch_deg']} up or down, for at least "
        f"{limits['attention_min_s']} s; who is not seen for {limits['left_after_s']} s has left. Where the "
        f"eyes look is not measured, and the camera stands for what is looked at.{more}"
    )


def why_not(row: Mapping[str, Any], name: str, *, least: int) -> str:
    """What stands in place of a figure; empty where the figure can be told.

    Args:
        row: Of figures.
        name: Of the figure.
        least: The document's `min_people`.

    >>> why_not({"female_people_share": None, "estimated": 4}, "female_people_share", least=1)
    'too few people to say'
    """
    if row.get(name) is not None:
        return ""
    if least > 1 and BY_NAME[name].personal:
        return WITHHELD
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


def moment_words(moment: Mapping[str, Any]) -> str:
    """What stands beside the time of a busiest moment's peak.

    >>> moment_words({"start_s": 0.0, "end_s": 10.0, "people": 1.72, "peak_people": 4})
    '4 people; 1.7 on average from 0:00 to 0:10'
    """
    people = NOT_KNOWN if moment["peak_people"] is None else counted(moment["peak_people"], "person", "people")
    mean = NOT_KNOWN if moment["people"] is None else f"{moment['people']:.1f}"
    return f"{people}; {mean} on average from {clock(moment['start_s'])} to {clock(moment['end_s'])}"


def span_words(seconds: float) -> str:
    """How long a step of a timeline is, after "in each".

    >>> span_words(1.0), span_words(0.5)
    ('second', '0.5 s')
    """
    return "second" if seconds == 1 else f"{seconds:g} s"


def figure_text(value: Any, unit: Unit) -> str:
    """A figure for the eye; empty where it is not known.

    >>> figure_text(0.4149, "share"), figure_text(1234.0, "people"), figure_text(2.345, "people")
    ('41 %', '1,234', '2.3')
    >>> figure_text(14.98, "people"), figure_text(0.0099, "share")
    ('15', '1 %')
    >>> figure_text(None, "share"), figure_text(0.004, "share"), figure_text(34.4, "years")
    ('', '0.4 %', '34')
    """
    if value is None or math.isnan(value):
        return ""
    match unit:
        case "share":
            return percent(value)
        case "clock":
            return clock(value, exact=value < 60)
        case "s":
            return f"{value:.1f} s"
        case "years":
            return f"{value:.0f}"
    return f"{value:,.1f}".removesuffix(".0")


def span_text(low: Any, high: Any, unit: Unit) -> str:
    """An interval for the eye; empty where it is not known or has no width.

    >>> span_text(0.2, 0.5, "share"), span_text(3, 3, "people")
    ('20 % to 50 %', '')
    """
    if low is None or high is None or math.isnan(low) or math.isnan(high) or low == high:
        return ""
    return f"{figure_text(low, unit)} to {figure_text(high, unit)}"
