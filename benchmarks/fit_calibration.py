"""Fit the calibration of a set of models, and write it under the key of the set.

Each labeled face of the part set aside for fitting is shown three times: once as it is, as in a photograph,
and twice as in a video: shrunk to 30 to 190 pixels, darker or lighter, blurred, noisy and compressed. The
estimates of the latter two are fused like the sightings of a person.

The calibration of the default models is ``analyzer/vision/calibrations/<key>.json``. Write that of your own
models into the folder of their descriptions:

    python -m benchmarks.fit_calibration [--faces 8000]
    python -m benchmarks.fit_calibration --attributes fairface --out ~/models
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linprog, minimize

from analyzer.faces import face_widths, points_in_boxes
from analyzer.media.frame import Still
from analyzer.people.fusion import fuse_estimates
from analyzer.settings import Settings
from analyzer.vision import calibration
from analyzer.vision.attributes.estimate import Attributes
from analyzer.vision.calibration import ANY_PRECISION, Calibration, Estimates, gender_terms, key_of, logit
from analyzer.vision.detectors.load import load_detector
from analyzer.vision.embedding import DlibEmbedding
from analyzer.vision.selection import choose
from testkit.faces import FIT, LabeledFace, labeled_faces

Image = NDArray[np.uint8]
Real = NDArray[np.float64]

FOLDER = Path(calibration.__file__).with_name("calibrations")
VIEWS = 2
FOLDS = 3
KNOTS_YEARS = (0.0, 4.0, 10.0, 18.0, 26.0, 36.0, 48.0, 60.0, 75.0)
AGE_KNOTS_YEARS = (0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0)
RIDGE_AGE, RIDGE_GENDER = 1e-5, 1e-5
"""Strength of the penalty on the coefficients of the embedding, which all have about the same range."""
GENDER_EDGES = (0.05, 0.15, 0.3, 0.5, 0.7, 0.85, 0.95)
AGE_EDGES_YEARS = tuple(float(age) for age in range(3, 81, 3))
RELIABLE = 0.9
"""Share of right genders above which they are stated."""
EXPLAINED = {
    "members": "the set of models that all this holds for: names, SHA-256, crop, precision",
    "gender": "coefficients of log odds, log odds * young, log odds * old, 1, young, old",
    "person_gender, person_gender_estimates": "likewise for a person, and coefficients of its mean embedding",
    "person_age_*": "age of a person, between knots of the mean estimate, plus a sum over its embedding",
    "interval_*": "80 % interval of age: years below and above the estimate, between knots of the estimate; "
    "plus shares of the spread",
    "child_years": "perceived age below which fewer than 90 % of the genders are right",
    "seen_gender": "labeled people by true gender and by fused probability of female, between the edges",
    "seen_age": "labeled people by true age in years and by fused estimate, between the edges",
}


def degraded(image: Image, random: np.random.Generator) -> Image:
    """A labeled face, (200, 200, 3) uint8 BGR, degraded as in a video, on a plain background."""
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


def measure(faces: Iterable[LabeledFace], settings: Settings) -> pd.DataFrame:
    """Estimate each view that is large enough: a row each, with the face's labels.

    `female_prob` is the model's own, not calibrated.
    """
    detector, attributes, embedding = (
        load_detector(settings),
        Attributes.load(settings),
        DlibEmbedding(settings),
    )
    rows = []
    for number, face in enumerate(faces):
        random = np.random.default_rng(number)
        for view in range(1 + VIEWS):
            image = face.image if view == 0 else degraded(face.image, random)
            height, width = image.shape[:2]
            scaled = cv2.resize(image, detector.input_size(width, height))
            best = detector.detect([scaled], [(width, height)])[0][:1]
            if not len(best) or face_widths(best.boxes)[0] < Settings().min_estimate_px:
                continue
            if detector.points_in_box is not None:
                best = best.replace(landmarks=points_in_boxes(best.boxes, detector.points_in_box))
            picture = Still(image)
            female, age, spread = attributes.estimate_crops(attributes.crops(picture, best))
            crops = picture.crop(embedding.transforms(best.landmarks), [embedding.crop_px], embedding.crop_px)
            rows.append(
                {
                    "person_id": number + 1,
                    "view": view,
                    "true_age": face.age_years,
                    "true_female": face.female,
                    "x1": 0.0,
                    "x2": float(face_widths(best.boxes)[0]),
                    "score": float(best.scores[0]),
                    "female_prob": float(female[0]),
                    "age_years": float(age[0]),
                    "age_std_years": float(np.nan_to_num(spread[0])),
                    "embedding": embedding.embed(crops)[0],
                }
            )
    return pd.DataFrame(rows)


def fit_logistic(terms: Real, female: NDArray[np.bool_], ridge: Real) -> Real:
    """Coefficients of (T, N) terms by maximum likelihood, with a penalty of `ridge`, (T,), on each."""

    def loss(coefficients: Real) -> tuple[float, Real]:
        log_odds = coefficients @ terms
        error = 1 / (1 + np.exp(-log_odds)) - female
        value = np.mean(np.logaddexp(0, log_odds) - female * log_odds) + ridge @ coefficients**2
        return float(value), terms @ error / len(female) + 2 * ridge * coefficients

    start = np.zeros(len(terms))
    start[0] = 1
    return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 2000}).x)


def fit_absolute(terms: Real, target: Real, ridge: Real) -> Real:
    """Coefficients of (N, T) terms with the least mean absolute error, by reweighted least squares."""
    weights = np.ones(len(target))
    coefficients = np.zeros(terms.shape[1])
    for _ in range(50):
        weighted = terms * weights[:, None]
        coefficients = np.linalg.solve(weighted.T @ terms + len(target) * np.diag(ridge), weighted.T @ target)
        weights = 1 / np.maximum(np.abs(target - terms @ coefficients), 0.7)
    return coefficients


def hats(values: Real, knots: tuple[float, ...]) -> Real:
    """(N, K) weights of linear interpolation between K knots."""
    return np.stack([np.interp(values, knots, row) for row in np.eye(len(knots))], axis=1)


def fit_people(people: People) -> dict[str, list[float]]:
    """Fit a person's gender and age from all sightings and from the mean embedding."""
    estimates = people.estimates
    terms = np.concatenate([gender_terms(estimates.log_odds, estimates.age_years), estimates.embeddings.T])
    ridge = np.r_[np.zeros(6), np.full(estimates.embeddings.shape[1], RIDGE_GENDER)]
    gender = fit_logistic(terms, people.female, ridge)
    columns = np.concatenate([hats(estimates.age_years, AGE_KNOTS_YEARS), estimates.embeddings], axis=1)
    ridge = np.r_[np.full(len(AGE_KNOTS_YEARS), 1e-6), np.full(estimates.embeddings.shape[1], RIDGE_AGE)]
    age = fit_absolute(columns, people.age, ridge)
    knots = len(AGE_KNOTS_YEARS)
    return {
        "person_gender": gender[:6].round(4).tolist(),
        "person_gender_estimates": gender[6:].round(3).tolist(),
        "person_age_knots_years": list(AGE_KNOTS_YEARS),
        "person_age_years": age[:knots].round(2).tolist(),
        "person_age_estimates": age[knots:].round(2).tolist(),
    }


@dataclass(frozen=True, eq=False)
class People:
    """Labeled people and their fused estimates."""

    estimates: Estimates
    age: Real
    """(N,) true age in years."""
    female: NDArray[np.bool_]
    """(N,) true gender."""

    @classmethod
    def of(cls, views: pd.DataFrame) -> People:
        """Fuse the views of each face like the sightings of a person; `female_prob` is calibrated."""
        embeddings = views[["person_id", "embedding"]].assign(crops=1, crop_px=views["x2"].clip(upper=100))
        ids, estimates = fuse_estimates(views, embeddings)
        labels = views.drop_duplicates("person_id").set_index("person_id").loc[ids]
        return cls(estimates, labels["true_age"].to_numpy(float), labels["true_female"].to_numpy(bool))

    def chosen(self, rows: NDArray[np.bool_]) -> People:
        """Some of them."""
        arrays = {field.name: getattr(self.estimates, field.name)[rows] for field in fields(Estimates)}
        return People(Estimates(**arrays), self.age[rows], self.female[rows])

    def joined(self, other: People) -> People:
        """All of both."""
        arrays = {
            field.name: np.concatenate([getattr(one.estimates, field.name) for one in (self, other)])
            for field in fields(Estimates)
        }
        return People(Estimates(**arrays), np.r_[self.age, other.age], np.r_[self.female, other.female])


def read_across(people: People) -> pd.DataFrame:
    """Estimate each person with coefficients that were fitted on other people."""
    fold = np.arange(len(people.age)) % FOLDS
    table = pd.DataFrame({"age": people.age, "female": people.female, "spread": people.estimates.std_years})
    for number in range(FOLDS):
        reader = replace(Calibration.plain(), **fit_people(people.chosen(fold != number)))
        rows = fold == number
        table.loc[rows, "female_prob"], table.loc[rows, "age_years"] = reader.person(
            people.chosen(rows).estimates
        )
    return table


def fit_quantile(read: pd.DataFrame, share: float) -> Real:
    """Quantile regression of true minus estimated age on the estimate (between knots) and the spread."""
    terms = np.column_stack([hats(read["age_years"].to_numpy(), KNOTS_YEARS), read["spread"]])
    target = (read["age"] - read["age_years"]).to_numpy()
    count, size = terms.shape
    # Least asymmetric absolute deviation, as a linear programme: residual = above - below.
    cost = np.r_[np.zeros(size), np.full(count, share), np.full(count, 1 - share)]
    equations = sparse.hstack([sparse.csr_array(terms), sparse.eye_array(count), -sparse.eye_array(count)])
    bounds = [(None, None)] * size + [(0, None)] * (2 * count)
    return np.asarray(linprog(cost, A_eq=equations, b_eq=target, bounds=bounds, method="highs").x[:size])


def child_years(read: pd.DataFrame) -> float:
    """The perceived age below which, in windows of three years, too few of the stated genders are right."""
    sure = np.maximum(read["female_prob"], 1 - read["female_prob"]) >= Settings().min_confidence
    right = (read["female_prob"] > 0.5) == read["female"]
    for age in range(30, 0, -1):
        window = sure & read["age_years"].between(age - 3, age, inclusive="left")
        if right[window].mean() < RELIABLE:
            return float(age)
    return 0.0


def fit(views: pd.DataFrame, source: str, members: dict[str, dict[str, str] | str]) -> dict[str, object]:
    """The content of the file of a set of models, which has these members."""
    result: dict[str, object] = {"explained": EXPLAINED, "members": members, "fitted_on": source}
    terms = gender_terms(logit(views["female_prob"].to_numpy()), views["age_years"].to_numpy())
    gender = fit_logistic(terms, views["true_female"].to_numpy(bool), np.zeros(6)).round(4)
    result["gender"] = gender.tolist()
    views = views.assign(female_prob=1 / (1 + np.exp(-(gender @ terms))))
    filmed, photographed = People.of(views[views["view"] > 0]), People.of(views[views["view"] == 0])
    result |= fit_people(filmed.joined(photographed))
    in_video = read_across(filmed)
    read = pd.concat([in_video, read_across(photographed)], ignore_index=True)
    low, high = (fit_quantile(read, share) for share in (0.1, 0.9))
    result["interval_knots_years"] = list(KNOTS_YEARS)
    result["interval_low_years"] = (-low[:-1]).round(2).tolist()
    result["interval_high_years"] = high[:-1].round(2).tolist()
    result["interval_std"] = [round(float(-low[-1]), 3), round(float(high[-1]), 3)]
    result["child_years"] = child_years(read)
    for name, edges, values, classes in (
        ("gender", GENDER_EDGES, in_video["female_prob"], np.where(in_video["female"], "female", "male")),
        ("age", AGE_EDGES_YEARS, in_video["age_years"], in_video["age"].astype(int).astype(str)),
    ):
        bins = np.searchsorted(edges, values, side="right")
        counts = pd.crosstab(classes, bins).reindex(columns=range(len(edges) + 1), fill_value=0)
        unit = "_years" if name == "age" else ""
        result[f"seen_{name}_edges{unit}"] = list(edges)
        result[f"seen_{name}"] = {str(label): row.tolist() for label, row in counts.iterrows()}
    report(read)
    return result


def report(read: pd.DataFrame) -> None:
    """Print the accuracy for people on whom the coefficients were not fitted."""
    for name, part in (("all", read), ("13 and older", read[read["age"] >= 13])):
        sure = np.maximum(part["female_prob"], 1 - part["female_prob"]) >= Settings().min_confidence
        right = (part["female_prob"] > 0.5) == part["female"]
        error = np.abs(part["age_years"] - part["age"]).mean()
        print(f"{name}: {len(part)} people, age error {error:.2f} years, gender right {right.mean():.1%}")
        print(f"    where stated {right[sure].mean():.1%}, unknown {1 - sure.mean():.1%}")


def main() -> None:
    """Fit and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=int, default=8000, help="how many labeled faces")
    parser.add_argument("--detector", default=Settings().detector)
    parser.add_argument("--attributes", default=Settings().attributes)
    parser.add_argument("--precision", default=Settings().precision)
    parser.add_argument("--only-this-precision", action="store_true", help="it holds for no other")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to write to")
    options = parser.parse_args()
    settings = Settings(
        min_estimate_px=1,
        detector=options.detector,
        attributes=options.attributes,
        precision=options.precision,
    )
    members = choose(settings).members(options.precision if options.only_this_precision else ANY_PRECISION)
    views = measure(labeled_faces(FIT, options.faces), settings)
    source = f"{views['person_id'].nunique()} faces of UTKFace (fitting part), {1 + VIEWS} views each"
    lines = [
        f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in fit(views, source, members).items()
    ]
    path = options.out / f"{key_of(members)}.json"
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
