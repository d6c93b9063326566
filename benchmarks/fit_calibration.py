"""Fits how the answers of the default age and gender networks are read: ``analyzer/vision/calibration.json``.

Each labelled face of the part set aside for fitting is shown six times: once as it is, as on a photograph,
and five times as in a video: shrunk to 30 to 190 pixels, darker or lighter, blurred, noisy and compressed.
What the networks say of the five is fused as the sightings of a person are.

    python -m benchmarks.fit_calibration [--faces 6000]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import linprog, minimize

from analyzer.faces import face_widths
from analyzer.frames import Still
from analyzer.people import fuse_estimates
from analyzer.settings import Settings
from analyzer.vision import calibration, catalog
from analyzer.vision.attributes import DlibAttributes, chip_sides, chip_transforms
from analyzer.vision.calibration import Calibration, gender_terms
from analyzer.vision.detectors import CenterFace
from benchmarks.faces import FIT, LabelledFace, labelled_faces

Image = NDArray[np.uint8]
Real = NDArray[np.float64]

VIEWS = 5
KNOTS_YEARS = (0.0, 4.0, 10.0, 18.0, 26.0, 36.0, 48.0, 60.0, 75.0)
GENDER_EDGES = (0.05, 0.15, 0.3, 0.5, 0.7, 0.85, 0.95)
AGE_EDGES_YEARS = tuple(float(age) for age in range(3, 81, 3))
RELIABLE = 0.9
"""Share of genders right from which on they are stated."""
EXPLAINED = {
    "networks": "SHA-256 of the networks that all this holds for",
    "gender": "coefficients of log odds, log odds * young, log odds * old, 1, young, old",
    "interval_*": "80 % interval of age: years below and above the estimate, between knots of the estimate; "
    "plus shares of the spread",
    "child_years": "perceived age below which fewer than 90 % of the genders are right",
    "seen_gender": "labelled people by true gender and by fused probability of female, between the edges",
    "seen_age": "labelled people by true age in years and by fused estimate, between the edges",
}


def degraded(image: Image, random: np.random.Generator) -> Image:
    """A labelled face, (200, 200, 3) uint8 BGR, as it may look in a video, on an even ground."""
    side = int(np.exp(random.uniform(np.log(30), np.log(190))))
    canvas = np.full((side + 48, side + 48, 3), 110, np.uint8)
    x, y = random.integers(8, 40, 2)
    canvas[y : y + side, x : x + side] = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    values = canvas.astype(np.float32) * random.choice([1, 1, 1, 0.7, 0.5, 0.35, 1.2])
    blur = random.choice([0, 0, 0, 0.6, 1, 1.5]) * side / 100
    if blur:
        values = cv2.GaussianBlur(values, (0, 0), blur).astype(np.float32)
    values += random.normal(0, random.choice([1, 3, 6]), values.shape)
    quality = int(random.integers(40, 95))
    coded = cv2.imencode(
        ".jpg", np.clip(values, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    return cv2.imdecode(coded[1], cv2.IMREAD_COLOR).astype(np.uint8)


def measure(faces: Iterable[LabelledFace]) -> pd.DataFrame:
    """What the networks say of each view: a row each, with the face's labels.

    `female_prob` is the network's own, not calibrated.
    """
    settings = Settings(min_judged_px=1)
    detector, attributes = CenterFace(settings), DlibAttributes(settings)
    rows = []
    for number, face in enumerate(faces, 1):
        random = np.random.default_rng(number)
        for view in range(1 + VIEWS):
            image = face.image if view == 0 else degraded(face.image, random)
            height, width = image.shape[:2]
            scaled = cv2.resize(image, detector.input_size(width, height))
            found = detector.detect([scaled], [(width, height)])[0]
            if not len(found):
                continue
            off = np.abs(found.boxes[:, :2] + found.boxes[:, 2:] - [width, height]).sum(axis=1)
            one = found[np.array([off.argmin()])]
            transforms = chip_transforms(one.landmarks)
            female, age, spread = attributes.judge_chips(Still(image).cut(transforms, chip_sides(transforms)))
            rows.append(
                {
                    "person_id": number,
                    "view": view,
                    "true_age": face.age_years,
                    "true_female": face.female,
                    "x1": 0.0,
                    "x2": float(face_widths(one.boxes)[0]),
                    "score": float(one.scores[0]),
                    "female_prob": float(female[0]),
                    "age_years": float(age[0]),
                    "age_spread_years": float(spread[0]),
                }
            )
    return pd.DataFrame(rows)


def fit_gender(views: pd.DataFrame) -> list[float]:
    """Coefficients of the logistic calibration, by maximum likelihood."""
    terms = gender_terms(views["female_prob"].to_numpy(), views["age_years"].to_numpy())
    female = views["true_female"].to_numpy(bool)

    def loss(coefficients: Real) -> float:
        odds = np.tensordot(coefficients, terms, axes=1)
        return float(np.mean(np.logaddexp(0, odds) - female * odds))

    start = np.zeros(len(terms))
    start[0] = 1
    return [round(float(value), 4) for value in minimize(loss, start).x]


def fit_quantile(people: pd.DataFrame, share: float) -> Real:
    """Quantile regression of true minus estimated age on the estimate (between knots) and the spread."""
    age = people["age_years"].to_numpy()
    hats = np.stack([np.interp(age, KNOTS_YEARS, row) for row in np.eye(len(KNOTS_YEARS))], axis=1)
    terms = np.column_stack([hats, people["age_spread_years"]])
    target = (people["true_age"] - age).to_numpy()
    count, size = terms.shape
    # Least asymmetric absolute deviation, as a linear programme: residual = above - below.
    cost = np.r_[np.zeros(size), np.full(count, share), np.full(count, 1 - share)]
    from scipy import sparse

    equations = sparse.hstack([sparse.csr_array(terms), sparse.eye_array(count), -sparse.eye_array(count)])
    bounds = [(None, None)] * size + [(0, None)] * (2 * count)
    return np.asarray(linprog(cost, A_eq=equations, b_eq=target, bounds=bounds, method="highs").x[:size])


def people_of(views: pd.DataFrame) -> pd.DataFrame:
    """The views of each face fused as the sightings of a person, with the labels."""
    large = views[views["x2"] >= Settings().min_judged_px]
    labels = large.groupby("person_id")[["true_age", "true_female"]].first()
    return fuse_estimates(large).join(labels)


def child_years(people: pd.DataFrame) -> float:
    """The perceived age from which on, in windows of three years, enough genders are right."""
    right = (people["female_prob"] > 0.5) == people["true_female"]
    for age in range(30, 0, -1):
        window = people["age_years"].between(age - 3, age, inclusive="left")
        if right[window].mean() < RELIABLE:
            return float(age)
    return 0.0


def fit(views: pd.DataFrame, source: str) -> dict[str, object]:
    """The content of the file."""
    result: dict[str, object] = {
        "explained": EXPLAINED,
        "networks": {model.name: model.sha256 for model in (catalog.AGE, catalog.GENDER)},
        "fitted_on": source,
    }
    result["gender"] = fit_gender(views[views["x2"] >= Settings().min_judged_px])
    odds = np.tensordot(result["gender"], gender_terms(views["female_prob"], views["age_years"]), axes=1)
    views = views.assign(female_prob=1 / (1 + np.exp(-odds)))
    photographed = people_of(views[views["view"] == 0])
    filmed = people_of(views[views["view"] > 0])
    both = pd.concat([photographed, filmed])
    low, high = (fit_quantile(both, share) for share in (0.1, 0.9))
    result["interval_knots_years"] = list(KNOTS_YEARS)
    result["interval_low_years"] = (-low[:-1]).round(2).tolist()
    result["interval_high_years"] = high[:-1].round(2).tolist()
    result["interval_spread"] = [round(float(-low[-1]), 3), round(float(high[-1]), 3)]
    result["child_years"] = child_years(filmed)
    result["seen_gender_edges"] = list(GENDER_EDGES)
    bins = np.searchsorted(GENDER_EDGES, filmed["female_prob"], side="right")
    result["seen_gender"] = {
        name: np.bincount(bins[filmed["true_female"] == female], minlength=len(GENDER_EDGES) + 1).tolist()
        for name, female in (("female", True), ("male", False))
    }
    result["seen_age_edges_years"] = list(AGE_EDGES_YEARS)
    bins = np.searchsorted(AGE_EDGES_YEARS, filmed["age_years"], side="right")
    result["seen_age"] = {
        str(age): np.bincount(bins[filmed["true_age"] == age], minlength=len(AGE_EDGES_YEARS) + 1).tolist()
        for age in sorted(filmed["true_age"].unique())
    }
    return result


def main() -> None:
    """Fit and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=int, default=6000, help="how many labelled faces")
    count = parser.parse_args().faces
    views = measure(labelled_faces(FIT, count))
    source = f"{views['person_id'].nunique()} faces of UTKFace (fitting part), {1 + VIEWS} views each"
    lines = [f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in fit(views, source).items()]
    path = Path(calibration.__file__).with_name("calibration.json")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    Calibration.load.cache_clear()
    print(path.read_text("utf-8")[:2000])


if __name__ == "__main__":
    main()
