"""The page of an evaluation and its number format: from the document of `Evaluation.to_dict`."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from analyzer.evaluation.metrics import (
    ADULT_FROM_YEARS,
    BIAS_FROM_YEARS,
    BIAS_UP_TO_YEARS,
    MATCH_IOU,
    MIN_UNITS,
)
from analyzer.settings import AGE_BANDS
from analyzer.util.text import counted, one_line

__all__ = [
    "DESCRIBED_FIGURES",
    "ESTIMATED_FIGURES",
    "VIDEO_FIGURES",
    "figure_text",
    "of_faces",
    "page",
    "sections",
]

Words = dict[str, tuple[str, str]]

ESTIMATED_FIGURES: Words = {
    "found": ("found", "%"),
    "gender_right": ("gender right, where stated", "%"),
    "gender_unknown": ("gender left unknown", "%"),
    "likelier_right": ("likelier gender right", "%"),
    "age_abs_error": ("age, mean absolute error", "years"),
    "age_error": ("age, mean error", "±years"),
    "age_in_interval": ("80 % interval covers the age", "%"),
    "adience_exact": ("Adience band right", "%"),
    "adience_one_off": ("Adience band right or next to it", "%"),
}
"""Key in the document -> words for it, unit (± where the sign matters)."""
VIDEO_FIGURES: Words = {
    "count_abs_error": ("number of people, mean absolute error", "%"),
    "count_error": ("number of people, mean error", "±%"),
    "count_in_interval": ("true number within the stated range", "%"),
    "missed_share": ("missed, share of the true number", "%"),
    "extra_share": ("extra, share of the true number", "%"),
    "women_people_stated_error": ("women among people, mean error", "±points"),
    "women_people_stated_abs_error": ("women among people, mean absolute error", "points"),
    "women_time_stated_error": ("women in time on screen, mean error", "±points"),
    "women_time_stated_abs_error": ("women in time on screen, mean absolute error", "points"),
    "women_people_in_interval": ("error bars cover women among people", "%"),
    "women_time_in_interval": ("error bars cover women in time on screen", "%"),
    "age_people_in_interval": ("error bars cover age bands among people", "%"),
    "age_time_in_interval": ("error bars cover age bands in time on screen", "%"),
    "purity": ("purity", "%"),
    "completeness": ("completeness", "%"),
    "time_abs_error": ("time on screen, mean absolute error", "%"),
    "time_error": ("time on screen, mean error", "±%"),
    "person_time_abs_error_s": ("time of one person, mean absolute error", "s"),
}
DESCRIBED_FIGURES: Words = {
    "count_abs_error": ("number of people, sum of errors", "%"),
    "count_error": ("number of people, mean error", "±%"),
    "range_holds": ("stated range holds the number", "%"),
    "found": ("listed people found", "%"),
    "face_found": ("at least a face of theirs detected", "%"),
    "unmatched": ("people too many", "%"),
    "time_missed": ("time on screen missed", "%"),
    "time_too_much": ("time on screen too much", "%"),
    "cuts_f1": ("cuts, F1", "%"),
    "faces_precision": ("counted faces that are listed people", "%"),
}
_SEEN_FIGURES: Words = {
    "right": ("gender right", "%"),
    "unknown": ("gender unknown", "%"),
    "wrong": ("gender wrong", "%"),
    "age_abs_error": ("age, mean absolute error", "years"),
    "age_error": ("age, mean error", "±years"),
    "age_in_interval": ("80 % interval holds the age", "%"),
    "age_in_range": ("age within the described range", "%"),
    "age_outside": ("years outside the described age or range", "±years"),
}
_BY_GENDER = ("right", "unknown", "wrong")
_BY_AGE = ("age_abs_error", "age_error", "age_in_interval")
_DESCRIBED_KINDS = {"clip": "clips", "photo": "photographs", "set": "sets of photographs"}
_WIDTH = 110
_COUNTS = ("videos", "true_people", "count_abs_error", "count_error", "count_in_interval", "missed", "extra")
_WOMEN = tuple(key for key in VIDEO_FIGURES if "_stated_" in key)
_BARS = tuple(key for key in VIDEO_FIGURES if key.endswith(("people_in_interval", "time_in_interval")))
_IDENTITY = ("purity", "completeness", "time_abs_error", "time_error", "person_time_abs_error_s")
_BY_GROUP = ("found", "gender_right", "gender_unknown", "age_abs_error", "age_error", "age_in_interval")
_ADULTS = ("gender_right", "gender_unknown", "age_abs_error", "age_in_interval")

_HEAD = """# Accuracy

## How to read this

{what}
In parentheses: the 95 % interval, if there are enough values for one, and the number of faces, people, videos
or shares that the figure is a mean of; a mean of few values is not reliable.
"""
_DEFINITIONS = f"""
## What the figures mean

- *Gender right* counts people whose gender is stated; *unknown* is the share of found people without one.
  *Likelier gender right* takes the likelier gender, however uncertain, as published figures do. Below
  {ADULT_FROM_YEARS}, gender is hardly visible.
- *Mean error* has a sign: negative where people are estimated too young, or where too few people are counted.
- *Adience band*: each age is assigned to the nearest of {
    ", ".join(band.name for band in AGE_BANDS["adience"])
}.
- *Calibration error*: the mean difference between the stated confidence and how often the estimate is right,
  over ten bins of confidence from 50 to 100 %.
- Of several faces found in a labeled image, the large and central one counts; where the label has a box, the
  one that overlaps it (IoU of at least {MATCH_IOU}).
- People described by eye are matched by the faces at their places. *Sum of errors* is the sum over files of
  the difference between counted and listed people, in % of those listed. *Time missed* and *too much* are
  likewise sums over people. Where only the number of cuts is known, as many are taken for right as there can
  be. *Gender right*, *unknown* and *wrong* are shares of the people found.
- People in videos are matched one to one by position, or without boxes by time; gender and age are not used.
  *Missed* and *extra* are those without a match. *Purity* is lower where two people got one number,
  *completeness* where one person got several.
- Intervals of shares are Wilson's, with the effective number of images or videos; those of other means hold
  95 % of a bootstrap. Fewer than {MIN_UNITS} have none.
"""
_CHARTS = """## Charts

![Stated probability of female against the observed share of women](accuracy-gender.png)

![True against estimated age, and how often the 80 % interval holds the true age](accuracy-age.png)
"""


def figure_text(figure: dict[str, Any], unit: str, *, short: bool = False) -> str:
    """Format a figure of the document, in short without the interval; empty where nothing was measured.

    >>> figure = {"value": 0.921, "n": 310, "low": 0.91, "high": 0.932}
    >>> figure_text(figure, "%"), figure_text(figure, "±%", short=True)
    ('92.1 % (91.0 to 93.2; n 310)', '+92.1 % (310)')
    """
    if figure["value"] is None:
        return ""
    factor, sign = 100 if unit.endswith(("%", "points")) else 1, "+" if unit.startswith("±") else ""

    def text(key: str) -> str:
        return f"{round(factor * figure[key], 1) + 0.0:{sign}.1f}"  # + 0.0: no -0.0

    number = f"{text('value')} {unit.lstrip('±')}"
    if short:
        return f"{number} ({figure['n']})"
    between = "" if figure["low"] is None else f"{text('low')} to {text('high')}; "
    return f"{number} ({between}n {figure['n']})"


def page(document: dict[str, Any]) -> str:
    """The page, as Markdown."""
    named = {
        "clips and photographs described by eye": document["described"],
        "labeled images": document["faces"],
        "labeled videos": document["videos"],
    }
    *most, last = [words for words, table in named.items() if table is not None] or ["labeled material"]
    what = f"{', '.join(most)} and {last}" if most else last
    text = (
        f"{what[0].upper()}{what[1:]} were analyzed like any video, and the results were compared with their "
        "labels. All figures are estimates of how people look, never of what they are."
    )
    return "\n".join([_HEAD.format(what=textwrap.fill(text, _WIDTH)), *sections(document)])


def sections(document: dict[str, Any]) -> list[str]:
    """All that follows the introduction: a section for each kind of material, and what figures mean."""
    described, faces, videos = document["described"], document["faces"], document["videos"]
    lines = []
    if described is not None:
        lines += ["## Real clips and photographs", "", *_of_described(described), ""]
    if faces is not None:
        lines += ["## Single faces", "", "Labeled images, one sighting of each face.", *of_faces(faces), ""]
    if videos is not None:
        lines += ["## Videos", "", *_of_videos(videos), ""]
        if videos["people"] is not None:
            lines += ["## People in videos, one by one"]
            lines += [*_headline(videos["people"], "people"), *_group_tables(videos["people"]), ""]
    return [*lines, _CHARTS, *_of_sources(document), _DEFINITIONS]


def of_faces(scores: dict[str, Any]) -> list[str]:
    """The tables of single faces."""
    return [*_headline(scores, "faces"), *_group_tables(scores), *_of_bias(scores["bias"])]


def _cell(text: object) -> str:
    """Text from elsewhere for one cell of a table of the page."""
    return re.sub(r"([|\\`*<>\[\]])", r"\\\1", one_line(text))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["", *("| " + " | ".join(line) + " |" for line in lines)]


def _figures(title: str, groups: dict[str, Any], words: Words, keys: Iterable[str]) -> list[str]:
    """A table with a row a group and a column a figure, or a plain number."""
    head = [title, *(words[key][0] if key in words else key.replace("_", " ") for key in keys)]
    rows = [
        [
            _cell(name),
            *(
                figure_text(one[key], words[key][1], short=True) if key in words else str(one[key])
                for key in keys
            ),
        ]
        for name, one in groups.items()
    ]
    return _table(head, rows) if rows else []


def _headline(scores: dict[str, Any], noun: str) -> list[str]:
    """The main table of faces or people, with intervals."""
    groups = scores["groups"]["all"]
    heads = {"all": f"all {noun}", "13+": f"{noun} of {ADULT_FROM_YEARS} and older"}
    lines = _table(
        ["", *(heads[name] for name in groups)],
        [
            [text, *(figure_text(one[key], unit) for one in groups.values())]
            for key, (text, unit) in ESTIMATED_FIGURES.items()
        ],
    )
    names = {"faces": "in the faces table", "people": "in the people table"}
    errors = [
        f"{100 * one['ece']:.1f} points {names[key]} (n {one['n']})"
        for key, one in scores["calibration"].items()
        if one["n"]
    ]
    if errors:
        lines += ["", f"Calibration error of the probability of gender: {', '.join(errors)}."]
    return lines


def _group_tables(scores: dict[str, Any]) -> list[str]:
    titles = {"age": "true age", "gender": "true gender", "width": "face width, pixels", "source": "source"}
    titles["true_race"] = "labeled race"
    lines = []
    for way, title in titles.items():
        keys = _BY_GROUP[1:] if way == "width" else _BY_GROUP
        lines += _figures(title, scores["groups"].get(way, {}), ESTIMATED_FIGURES, keys)
    return lines


def _of_described(described: dict[str, Any]) -> list[str]:
    kinds = {_DESCRIBED_KINDS[kind]: scores for kind, scores in described["kinds"].items()}
    lines = ["What somebody who watches them can say was compared with what the analysis says."]
    head = ["", *kinds]
    rows = [
        [words, *(f"{scores[key]}" for scores in kinds.values())]
        for key, words in (("files", "number"), ("listed", "people listed"), ("people", "people counted"))
    ]
    for key, (words, unit) in DESCRIBED_FIGURES.items():
        cells = [figure_text(scores[key], unit) for scores in kinds.values()]
        if any(cells):
            rows.append([words, *cells])
    lines += _table(head, rows)
    for kind, scores in kinds.items():
        if scores["true_cuts"]:
            lines += ["", f"In the {kind} are {scores['true_cuts']} cuts; {scores['found_cuts']} were found."]
        groups = {name: one for name, one in scores["groups"].items() if any(map(_says, one.values()))}
        genders = {name: one for name, one in groups.items() if "age" not in name and name != "all"}
        ages = {name: one for name, one in groups.items() if name.startswith("known age")}
        bands = {name: one for name, one in groups.items() if name.startswith("age")}
        if any(_says(one["right"]) for one in genders.values()):
            lines += ["", f"Gender of the people found in {kind}:"]
            lines += _figures("people", genders, _SEEN_FIGURES, _BY_GENDER)
        if ages:
            lines += ["", f"Age of those whose age is known, in {kind}:"]
            lines += _figures("people", ages, _SEEN_FIGURES, _BY_AGE)
        if bands:
            lines += _figures("people", bands, _SEEN_FIGURES, ("age_outside",))
        inside = scores["groups"]["all"]["age_in_range"]
        if _says(inside):
            text = figure_text(inside, "%")
            lines += [
                "",
                f"Of those whose age was described by a range, {text} are estimated to be within it.",
            ]
    return lines


def _says(figure: dict[str, Any]) -> bool:
    return figure["value"] is not None


def _of_bias(bias: dict[str, Any] | None) -> list[str]:
    """Accuracy by gender, race and age in the form of published figures."""
    if bias is None:
        return []
    rmse = bias["age_rmse"]
    keys = ("men_women", "white_others", "young_old")
    rows = [
        [
            words,
            f"{100 * bias[name]['mean']:.1f} %",
            *(f"{100 * bias[name][key]:+.1f} points" for key in keys),
        ]
        for name, words in (("found", "found"), ("likelier_right", "likelier gender right"))
    ]
    rows.append(
        ["age, root mean square error", f"{rmse['mean']:.1f} years"]
        + [f"{rmse[key]:+.1f} years" for key in keys]
    )
    words = textwrap.fill(
        f"Differences between groups, over the {bias['n']} faces of people of {BIAS_FROM_YEARS} and older:"
        f" means over eight cells (women and men, white and others, {BIAS_FROM_YEARS} to {BIAS_UP_TO_YEARS}"
        " and older).",
        _WIDTH,
    )
    young = f"{BIAS_FROM_YEARS} to {BIAS_UP_TO_YEARS} - older"
    return ["", words, *_table(["", "mean", "men - women", "white - others", young], rows)]


def _of_videos(videos: dict[str, Any]) -> list[str]:
    kinds = videos["kinds"]
    lines = ["Number of people, in % of the true number; means over videos:"]
    lines += _figures("kind", kinds, VIDEO_FIGURES, _COUNTS)
    if kinds["all"]["without_boxes"]:
        number = counted(kinds["all"]["without_boxes"], "video")
        lines += [
            "",
            f"In {number}, people were matched by time only, because the labels have no boxes.",
        ]
    groups = videos["people"]["groups"] if videos["people"] is not None else {"all": {}}
    if "13+" in groups["all"]:
        several = groups["kind 13+"] if len(kinds) > 1 else {}
        lines += ["", f"True people of {ADULT_FROM_YEARS} and older that were found:"]
        lines += _figures("kind", {"all": groups["all"]["13+"], **several}, ESTIMATED_FIGURES, _ADULTS)
    simply = {key: kinds["all"][key.replace("stated", "counted")] for key in _WOMEN}
    lines += [
        "",
        "The share of women among the people, and in their time on screen, in points. *Simply counted*",
    ]
    lines += ["is the share in the people table, without the correction for the errors of the models:"]
    lines += _figures("kind", {**kinds, "all, simply counted": simply}, VIDEO_FIGURES, _WOMEN)
    lines += ["", "How often the error bars (95 %) cover the true share of women, and of each age band:"]
    lines += _figures("kind", kinds, VIDEO_FIGURES, _BARS)
    lines += ["", "Identity and time on screen:"]
    return lines + _figures("kind", kinds, VIDEO_FIGURES, _IDENTITY)


def _of_sources(document: dict[str, Any]) -> list[str]:
    rows = []
    for source in document["sources"]:
        unparsed, failed = source["unparsed"], source["failed"]
        shown = ", ".join(unparsed[:5]) + (" …" if len(unparsed) > 5 else "")
        remarks = {
            f"images without a label in their name: {shown}": len(unparsed),
            "faces in images that could not be read": source.get("unreadable", 0),
            "faces found but not estimated: too small, or not counted as people": source.get(
                "not_estimated", 0
            ),
            "images with several faces found": source.get("images_with_several_faces", 0),
            "confirmed genders": source.get("confirmed_genders", 0),
            "confirmed ages": source.get("confirmed_ages", 0),
            "failed, or only analyzed in part": len(failed),
        }
        nouns = {"videos": "videos", "described": "descriptions", "corrected": "runs"}
        noun = nouns.get(source["kind"], "faces")
        used = f"{source['used']} of {source['labeled']} {noun}"
        text = "; ".join(f"{number} {words}" for words, number in remarks.items() if number)
        rows.append([_cell(source["name"]), source["kind"], used, _cell(text)])
    changed = ", ".join(f"`{key}` = {_cell(value)}" for key, value in document["changed_settings"].items())
    libraries = ", ".join(f"{name} {version}" for name, version in (document["libraries"] or {}).items())
    models = [
        [model["role"], f"`{model['name']}`", f"`{model['sha256'][:16]}…`", model["license"]]
        for model in document["models"] or ()
    ]
    return [
        "## Material, settings and models",
        "",
        f"Written by `evaluate`, version {document['analyzer_version']}, on "
        f"{document['measured_on']}. Settings that differ from",
        f"the defaults: {changed or 'none'}. Python {document['python']}; {libraries}.",
        *_table(["source", "kind", "used", "remarks"], rows),
        *_table(["role", "model", "SHA-256", "license"], models),
    ]
