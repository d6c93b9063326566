"""Measure average landmarks in the boxes of detectors that do not find them, and the mean age above 60.

Uses labeled faces of the development data that are set aside for fitting, with CenterFace's landmarks as the
truth. For YuNet, which finds landmarks itself, it measures their distance from CenterFace's. The result is
copied into ``analyzer/vision/detectors/base.py``.

    ANALYZER_MODELS=../shared/models python -m benchmarks.fit_points
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from analyzer.faces import Faces
from analyzer.settings import Settings
from analyzer.vision.crops import CROP_LANDMARKS, crop_transforms
from analyzer.vision.detectors.base import Detector
from analyzer.vision.detectors.load import load_detector
from testkit.faces import FIT, labeled_faces

FACES = 600
BORDER_PX = 100


def detect_best(detector: Detector, image: NDArray[np.uint8]) -> Faces:
    """The best face."""
    height, width = image.shape[:2]
    scaled = cv2.resize(image, detector.input_size(width, height))
    return detector.detect([scaled], [(width, height)])[0][:1]


def main() -> None:
    """Measure and print."""
    truth = load_detector(Settings(precision="f32"))
    faces = [face.image for face in labeled_faces(FIT, FACES)]
    # Detectors expect more than the face alone.
    framed = [cv2.copyMakeBorder(face, *[BORDER_PX] * 4, cv2.BORDER_REFLECT_101) for face in faces]
    for name in ("ssd", "haar", "none"):
        detector = load_detector(Settings(detector=name, precision="f32"))
        points = []
        for image in faces if name == "none" else framed:
            true, found = detect_best(truth, image), detect_best(detector, image)
            if not len(true) or not len(found):
                continue
            (box,), low = found.boxes, found.boxes[0, :2]
            shares = (true.landmarks[0] - low) / (box[2:] - low)
            if ((shares > -0.2) & (shares < 1.2)).all():  # not another face
                points.append(shares)
        place, spread = np.median(points, axis=0), np.std(points, axis=0).mean()
        print(f"{name}: {len(points)} of {len(faces)} faces, spread {spread:.3f}", place.round(3).tolist())
    yunet = load_detector(Settings(detector="yunet", precision="f32"))
    away = []
    for image in framed:
        true, found = detect_best(truth, image), detect_best(yunet, image)
        if len(true) and len(found):
            matrix = crop_transforms(true.landmarks)[0]
            away.append(found.landmarks[0] @ matrix[:, :2].T + matrix[:, 2] - CROP_LANDMARKS)
    print(
        f"yunet: {len(away)} faces, from CenterFace's in sides of a crop:",
        np.median(away, 0).round(4).tolist(),
    )


def old_age() -> None:
    """Print the mean age of people of 60 to 100, the open range of Levi and Hassner."""
    ages = [face.age_years for face in labeled_faces(FIT)]
    old = [age for age in ages if 60 <= age <= 100]
    print(f"{len(old)} of {len(ages)} faces are of 60 to 100 years, {np.mean(old):.1f} on average")


if __name__ == "__main__":
    main()
    old_age()
