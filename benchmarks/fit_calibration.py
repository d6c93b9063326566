"""Fit the calibration of a set of models, and write it under the key of the set.

Each labeled face of the part set aside for fitting is shown as in a photograph and as in two videos
(`analyzer.evaluation.filmed`): small, soft, dark, noisy, and coded as H.264, VP9 or GIF. The frames of a
video are fused like the sightings of a person.

The calibration of the default models is ``analyzer/vision/calibrations/<key>.json``. Write that of your own
models into the folder of their descriptions:

    python -m benchmarks.fit_calibration [--faces 8000]
    python -m benchmarks.fit_calibration --attributes fairface --out ~/models
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from analyzer.vision.attributes.estimate import Attributes
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linprog, minimize

from analyzer.evaluation.filmed import LAYOUTS, film, photographed
from analyzer.faces import Faces, face_widths, points_in_boxes
from analyzer.media.frame import Still
from analyzer.people.fusion import fuse_estimates
from analyzer.settings import Settings
from analyzer.vision import calibration
from analyzer.vision.alignment import load_aligner
from analyzer.vision.calibration import (
    ANY_PRECISION,
    Calibration,
    Estimates,
    PersonNetwork,
    gender_terms,
    key_of,
    logit,
)
from analyzer.vision.detectors.load import load_detector
from analyzer.vision.embedding import DlibEmbedding
from analyzer.vision.selection import choose
from benchmarks import person_network
from testkit.faces import FIT, LabeledFace, labeled_faces

Image = NDArray[np.uint8]
Real = NDArray[np.float64]

FOLDER = Path(calibration.__file__).with_name("calibrations")
PHOTOGRAPH, VIDEO, SHORT_VIDEO = range(3)
"""How a face is shown."""
FRAMES = {VIDEO: 3, SHORT_VIDEO: 1}
"""How many frames of a video are estimated."""
LAYOUT_SHARES = (0.38, 0.42, 0.2)
"""How many people are filmed in each of `LAYOUTS`."""
TOGETHER = 360
"""Faces that are shown and estimated at a time."""
FOLDS = 3
KNOTS_YEARS = (0.0, 4.0, 10.0, 18.0, 26.0, 36.0, 48.0, 60.0, 75.0)
AGE_KNOTS_YEARS = (0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0)
RIDGE_AGE = 1e-4
"""Strength of the penalty on the coefficients of the embedding, which all have about the same range."""
GENDER_EDGES = (0.05, 0.15, 0.3, 0.5, 0.7, 0.85, 0.95)
AGE_EDGES_YEARS = tuple(float(age) for age in range(3, 81, 3))
RELIABLE = 0.9
"""Share of right genders above which they are stated."""
EXPLAINED = {
    "members": "the set of models that all this holds for: names, SHA-256, crop, precision",
    "gender": "coefficients of log odds, log odds * young, log odds * old, 1, young, old",
    "person_network": "network that reads a person's mean embedding and estimates: float16 in base 64",
    "person_age_*": "linear reading of age: between knots of the estimate, plus a sum over the embedding",
    "interval_*": "80 % interval of age: years below and above the estimate, between knots of the estimate; "
    "plus shares of the network's spread and of the difference between both readings",
    "child_years": "perceived age below which fewer than 90 % of the genders are right",
    "seen_gender": "labeled people who look grown up, by true gender and by fused probability of female",
    "seen_age": "labeled people by true age in years and by fused estimate, between the edges",
}


@dataclass(frozen=True, eq=False)
class Shown:
    """A frame or photograph, and who is where in it."""

    image: Image
    view: int
    centers: dict[int, tuple[float, float]]
    """Where the middle of each face is, in pixels, by the number of the face."""


def shown(faces: Sequence[LabeledFace], random: np.random.Generator) -> Iterator[Shown]:
    """Show each face in a photograph and in two videos."""
    for number, face in enumerate(faces):
        image = photographed(face.image, random)
        yield Shown(image, PHOTOGRAPH, {number: (image.shape[1] / 2, image.shape[0] / 2)})
    for view, frames in FRAMES.items():
        chosen = random.choice(len(LAYOUTS), len(faces), p=LAYOUT_SHARES)
        for index, layout in enumerate(LAYOUTS):
            members = np.flatnonzero(chosen == index).tolist()
            for start in range(0, len(members), layout.people):
                part = members[start : start + layout.people]
                centers = {number: layout.center(place) for place, number in enumerate(part)}
                for image in film([faces[one].image for one in part], layout, random, frames):
                    yield Shown(image, view, centers)


def found_at(centers: dict[int, tuple[float, float]], faces: Faces) -> dict[int, int]:
    """The row of the best face at each place, by the number of the labeled face."""
    middles = (faces.boxes[:, :2] + faces.boxes[:, 2:]) / 2
    reach = np.maximum(0.6 * face_widths(faces.boxes), 12)
    there = {
        number: np.flatnonzero(np.abs(middles - center).max(axis=1) < reach)
        for number, center in centers.items()
    }
    return {number: int(rows[0]) for number, rows in there.items() if len(rows)}  # best first


def measure(faces: Iterator[LabeledFace], settings: Settings) -> pd.DataFrame:
    """Estimate each view of each face: a row each, with the face's labels.

    `female_prob` is the model's own, not calibrated.
    """
    detector, aligner = load_detector(settings), load_aligner(settings)
    attributes, embedding = Attributes.load(settings), DlibEmbedding(settings)
    rows = []
    for first in iter(lambda: list(islice(faces, TOGETHER)), []):
        random = np.random.default_rng(len(rows))
        for one in shown(first, random):
            height, width = one.image.shape[:2]
            scaled = cv2.resize(one.image, detector.input_size(width, height), interpolation=cv2.INTER_AREA)
            found = detector.detect([scaled], [(width, height)])[0]
            row_of = found_at(one.centers, found)
            found = found[np.array(list(row_of.values()), np.int64)]
            if not len(found):
                continue
            if detector.points_in_box is not None:
                found = found.replace(landmarks=points_in_boxes(found.boxes, detector.points_in_box))
            picture = Still(one.image)
            if aligner is not None:
                found = aligner.align(picture, found)
            female, age, spread = attributes.estimate_crops(attributes.crops(picture, found))
            side = embedding.crop_px
            transforms = embedding.transforms(found.landmarks)
            vectors = embedding.embed(picture.crop(transforms, [side] * len(found), side))
            for row, number in enumerate(row_of):
                rows.append(
                    {
                        "name": first[number].name,
                        "view": one.view,
                        "true_age": first[number].age_years,
                        "true_female": first[number].female,
                        "x1": 0.0,
                        "x2": float(face_widths(found.boxes)[row]),
                        "score": float(found.scores[row]),
                        "quality": float(found.quality[row]),
                        "female_prob": float(female[row]),
                        "age_years": float(age[row]),
                        "age_std_years": float(np.nan_to_num(spread[row])),
                        "embedding": vectors[row],
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


def fit_absolute(terms: Real, target: Real, ridge: Real, share: Real) -> Real:
    """Coefficients of (N, T) terms with the least mean absolute error, by reweighted least squares.

    `share`, (N,), says how much each row counts.
    """
    weights = share
    coefficients = np.zeros(terms.shape[1])
    for _ in range(50):
        weighted = terms * weights[:, None]
        coefficients = np.linalg.solve(weighted.T @ terms + len(target) * np.diag(ridge), weighted.T @ target)
        weights = share / np.maximum(np.abs(target - terms @ coefficients), 0.7)
    return coefficients


def hats(values: Real, knots: tuple[float, ...]) -> Real:
    """(N, K) weights of linear interpolation between K knots."""
    return np.stack([np.interp(values, knots, row) for row in np.eye(len(knots))], axis=1)


def fit_people(people: People) -> dict[str, Any]:
    """Fit both readings of people from all sightings: the network, and the linear one of age."""
    estimates = people.estimates
    columns = np.concatenate([hats(estimates.age_years, AGE_KNOTS_YEARS), estimates.embeddings], axis=1)
    ridge = np.r_[np.full(len(AGE_KNOTS_YEARS), 1e-6), np.full(estimates.embeddings.shape[1], RIDGE_AGE)]
    age = fit_absolute(columns, people.age, ridge, person_network.age_weights(people.age))
    knots = len(AGE_KNOTS_YEARS)
    network = person_network.train(estimates, people.age, people.female)
    return {
        "person_network": PersonNetwork.parsed(network.text),
        "person_age_knots_years": list(AGE_KNOTS_YEARS),
        "person_age_years": np.maximum.accumulate(age[:knots]).round(2).tolist(),
        "person_age_estimates": age[knots:].round(2).tolist(),
    }


@dataclass(frozen=True, eq=False)
class People:
    """Labeled people, once for each photograph or video, and their fused estimates."""

    estimates: Estimates
    names: NDArray[np.str_]
    """(N,) of the labeled face."""
    view: NDArray[np.int64]
    """(N,) how it is shown."""
    age: Real
    """(N,) true age in years."""
    female: NDArray[np.bool_]
    """(N,) true gender."""

    @classmethod
    def of(cls, views: pd.DataFrame) -> People:
        """Fuse the frames of each video like the sightings of a person; `female_prob` is calibrated."""
        views = views.assign(person_id=views.groupby(["name", "view"]).ngroup() + 1)
        embeddings = views[["person_id", "embedding"]].assign(crops=1, crop_px=views["x2"].clip(upper=100))
        ids, estimates = fuse_estimates(views, embeddings)
        labels = views.drop_duplicates("person_id").set_index("person_id").loc[ids]
        return cls(
            estimates,
            labels["name"].to_numpy(str),
            labels["view"].to_numpy(np.int64),
            labels["true_age"].to_numpy(float),
            labels["true_female"].to_numpy(bool),
        )

    def chosen(self, rows: NDArray[np.bool_]) -> People:
        """Some of them."""
        arrays = {field.name: getattr(self.estimates, field.name)[rows] for field in fields(Estimates)}
        labels = self.names[rows], self.view[rows], self.age[rows], self.female[rows]
        return People(Estimates(**arrays), *labels)


def read_across(people: People) -> pd.DataFrame:
    """Read each person with coefficients that were fitted on other people; without an interval yet."""
    fold = np.unique(people.names, return_inverse=True)[1] % FOLDS
    table = pd.DataFrame(
        {"view": people.view, "age": people.age, "female": people.female, "spread": 0.0, "apart": 0.0}
    )
    for number in range(FOLDS):
        reader = replace(Calibration.plain(), **fit_people(people.chosen(fold != number)))
        rows = fold == number
        read = reader.person(people.chosen(rows).estimates)
        table.loc[rows, "female_prob"], table.loc[rows, "age_years"] = read.female_prob, read.age_years
        table.loc[rows, "spread"], table.loc[rows, "apart"] = read.spread_years, read.apart_years
    return table


def fit_quantile(read: pd.DataFrame, share: float) -> Real:
    """Quantile regression of true minus estimated age on the estimate (between knots), spread, difference.

    Neither spread nor difference makes an interval narrower.
    """
    side = 1 if share > 0.5 else -1
    terms = np.column_stack([hats(read["age_years"].to_numpy(), KNOTS_YEARS), read["spread"], read["apart"]])
    target = side * (read["age"] - read["age_years"]).to_numpy()
    count, size = terms.shape
    # The interval is to hold at every age, not at the frequent ones only.
    weight = person_network.age_weights(read["age"].to_numpy(), person_network.EVEN)
    outer = max(share, 1 - share)
    # Least asymmetric absolute deviation, as a linear program: residual = above - below.
    cost = np.r_[np.zeros(size), outer * weight, (1 - outer) * weight]
    equations = sparse.hstack([sparse.csr_array(terms), sparse.eye_array(count), -sparse.eye_array(count)])
    bounds = [(None, None)] * len(KNOTS_YEARS) + [(0, None)] * (2 + 2 * count)
    return np.asarray(linprog(cost, A_eq=equations, b_eq=target, bounds=bounds, method="highs").x[:size])


def child_years(read: pd.DataFrame) -> float:
    """The perceived age below which, in windows of five years, too few of the stated genders are right."""
    sure = np.maximum(read["female_prob"], 1 - read["female_prob"]) >= Settings().min_confidence
    right = (read["female_prob"] > 0.5) == read["female"]
    for age in range(30, 0, -1):
        window = sure & read["age_years"].between(age - 5, age, inclusive="left")
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
    people = People.of(views)
    fitted = fit_people(people)
    result |= fitted | {"person_network": fitted["person_network"].text}
    read = read_across(people)
    low, high = (fit_quantile(read, share) for share in (0.1, 0.9))
    result["interval_knots_years"] = list(KNOTS_YEARS)
    result["interval_low_years"] = low[:-2].round(2).tolist()
    result["interval_high_years"] = high[:-2].round(2).tolist()
    result["interval_spread"] = [round(float(one[-2]), 3) for one in (low, high)]
    result["interval_disagreement"] = [round(float(one[-1]), 3) for one in (low, high)]
    result["child_years"] = child_years(read)
    # The gender of those who look like children is not counted.
    grown = read[read["age_years"] >= result["child_years"]]
    for name, edges, values, classes in (
        ("gender", GENDER_EDGES, grown["female_prob"], np.where(grown["female"], "female", "male")),
        ("age", AGE_EDGES_YEARS, read["age_years"], read["age"].astype(int).astype(str)),
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


def source_of(views: pd.DataFrame) -> str:
    """What was shown, for the records."""
    return (
        f"{views['name'].nunique()} faces of UTKFace (fitting part), as in photographs and as in videos "
        f"(H.264, VP9, GIF): {len(views)} views"
    )


def write(path: Path, content: dict[str, object]) -> None:
    """Write the file of a calibration, with a line for each name."""
    lines = [f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in content.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


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
    path = options.out / f"{key_of(members)}.json"
    write(path, fit(views, source_of(views), members))
    print(path)


if __name__ == "__main__":
    main()
