"""Measure the models: write the tables of ``docs/models.md``, between its marks.

Runs every detector and every model for gender and age that is available, on the same labeled faces (of the
development data, set aside for reporting) and on the same made video. The files of the classic models are not
available everywhere: where they are missing, their speed is measured with made weights, which take the same
time, and their accuracy is not measured.

    ANALYZER_MODELS=../shared/models python -m benchmarks.models [--faces 1000]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyzer.errors import ModelError
from analyzer.evaluation.labels import UTKFACE_RACES
from analyzer.evaluation.metrics import BIAS_FROM_YEARS, bias
from analyzer.faces import FaceAligner, Faces, points_in_boxes
from analyzer.media.frame import Still
from analyzer.media.reader import VideoReader
from analyzer.settings import Settings
from analyzer.vision import registry
from analyzer.vision.alignment import load_aligner
from analyzer.vision.detectors.base import Detector
from analyzer.vision.detectors.load import load_detector
from analyzer.vision.embedding import DlibEmbedding
from analyzer.vision.reader import CropReader
from analyzer.vision.registry import MODELS, Model
from analyzer.vision.user_model import LEVI_HASSNER, descriptions, find_description
from testkit import caffe
from testkit.faces import REPORT, LabeledFace, labeled_faces
from testkit.videos import crowd

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "models.md"
DETECTORS = tuple(model.name for model in MODELS.values() if model.role == "detector")
BORDER_PX = 100
SECONDS, FRAMES = 4, 60
ROUNDS = 3
WIDTH = 110
DETECTOR_HEAD = (
    *("detector", "input", "ms per frame", "faces per frame", "faces found", "others per face"),
    *("gender right", "age error", "license", "commercial use"),
)
BIAS_HEAD = ("model", "figure", "mean", "men - women", "white - others", "20 to 50 - older")
ATTRIBUTES_HEAD = ("models", "ms per face", "gender right", "age error", "license", "commercial use")
BIAS_FIGURES = {
    "found": ("faces found", 100, "%", "points"),
    "likelier_right": ("likelier gender right", 100, "%", "points"),
    "age_rmse": ("age, root mean square error", 1, "years", "years"),
}
COMMERCIAL = {True: "yes", False: "no", None: "unknown"}

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Row:
    """The measurements of one model."""

    name: str
    cells: tuple[str, ...]
    bias: tuple[tuple[str, ...], ...] = ()
    """Cells of `BIAS_HEAD`."""


def median_ms(work: Callable[[], object], count: int) -> float:
    """Milliseconds per item of `work`, which does `count` items; the median of some rounds."""
    work()
    taken = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        taken.append((time.perf_counter() - started) / count * 1000)
    return float(np.median(taken))


def detect(detector: Detector, image: Image) -> Faces:
    """The faces in an image."""
    height, width = image.shape[:2]
    scaled = cv2.resize(image, detector.input_size(width, height), interpolation=cv2.INTER_AREA)
    return detector.detect([scaled.astype(np.uint8)], [(width, height)])[0]


def placed(detector: Detector, aligner: FaceAligner | None, image: Image, faces: Faces) -> Faces:
    """The faces with landmarks as in an analysis."""
    if detector.points_in_box is not None:
        faces = faces.replace(landmarks=points_in_boxes(faces.boxes, detector.points_in_box))
    return faces if aligner is None else aligner.align(Still(image), faces)


def video_frames(folder: Path) -> list[Image]:
    """Frames of a made video with many faces of all sizes, (720, 1280, 3) BGR."""
    path = crowd(folder / "crowd.mp4", SECONDS)
    with VideoReader(path, Settings(fps=FRAMES / SECONDS)) as reader:
        return [sample.frame.image() for sample in reader.samples()][:FRAMES]


def table_of(faces: Sequence[LabeledFace]) -> pd.DataFrame:
    """Their labels as a table of estimates without estimates; race is the third field of UTKFace's names."""
    races = [UTKFACE_RACES.get(Path(face.name).name.split("_")[2], "other") for face in faces]
    labels = {
        "true_gender": ["female" if face.female else "male" for face in faces],
        "true_age": [float(face.age_years) for face in faces],
        "true_race": races,
        "found": True,
        "female_prob": np.nan,
        "age_years": np.nan,
    }
    return pd.DataFrame(labels)


def bias_rows(name: str, table: pd.DataFrame, figures: Sequence[str]) -> list[tuple[str, ...]]:
    """Cells of `BIAS_HEAD` for each figure of `bias`."""
    found = bias(table)
    rows = []
    for figure in figures if found is not None else ():
        assert found is not None
        words, factor, unit, step = BIAS_FIGURES[figure]
        one = found[figure]
        differences = (
            f"{factor * one[key]:+.1f} {step}" for key in ("men_women", "white_others", "young_old")
        )
        rows.append((name, words, f"{factor * one['mean']:.1f} {unit}", *differences))
    return rows


def estimated(attributes: CropReader, faces: Sequence[tuple[LabeledFace, Image, Faces]]) -> pd.DataFrame:
    """A table of estimates, not calibrated."""
    table = table_of([face for face, _, _ in faces])
    answers = [
        attributes.read_uncalibrated(attributes.crops(Still(image), found)) for _, image, found in faces
    ]
    table["female_prob"] = [float(one.female_prob[0]) for one in answers]
    table["age_years"] = [float(one.age_years[0]) for one in answers]
    return table


def accuracy(table: pd.DataFrame) -> tuple[str, str]:
    """Share of right genders and mean error of age."""
    right = ((table["female_prob"] > 0.5) == (table["true_gender"] == "female")).mean()
    return f"{right:.1%}", f"{(table['age_years'] - table['true_age']).abs().mean():.1f} years"


def detector_row(
    name: str, faces: Sequence[LabeledFace], frames: Sequence[Image], attributes: CropReader
) -> Row:
    """Speed, faces found, and accuracy of gender and age on these faces."""
    settings = Settings(detector=name)
    detector, aligner, model = load_detector(settings), load_aligner(settings), MODELS[name]
    height, width = frames[0].shape[:2]
    size = detector.input_size(width, height)
    scaled = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA).astype(np.uint8) for frame in frames]
    sizes = [(width, height)] * len(frames)
    per_frame = f"{median_ms(lambda: detector.detect(scaled, sizes), len(frames)):.1f}"
    in_video = f"{np.mean([len(one) for one in detector.detect(scaled, sizes)]):.1f}"
    if name == "none":
        images = [face.image for face in faces]
    else:
        gray = (127, 127, 127)
        images = [
            cv2.copyMakeBorder(face.image, *[BORDER_PX] * 4, cv2.BORDER_CONSTANT, value=gray).astype(np.uint8)
            for face in faces
        ]
    hits, others, every = [], 0, []
    for face, image in zip(faces, images, strict=True):
        found = detect(detector, image)
        every.append(found)
        others += max(0, len(found) - 1)
        if len(found):
            hits.append((face, image, placed(detector, aligner, image, found[:1])))
    share = f"{len(hits) / len(faces):.1%}"
    cells = (f"{size[0]} x {size[1]}", per_frame, in_video, share, f"{others / len(faces):.2f}")
    seen = table_of(faces).assign(found=[bool(len(found)) for found in every])
    biases = tuple(bias_rows(name, seen, ["found"]))
    return Row(name, (*cells, *accuracy(estimated(attributes, hits)), *license(model)), biases)


def license(model: Model) -> tuple[str, str]:
    """Its license, and whether it allows commercial use."""
    return model.license.partition(";")[0], COMMERCIAL[model.commercial_use]


@contextlib.contextmanager
def made_weights() -> Iterator[None]:
    """Replace the files of Levi and Hassner by made ones."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        made = caffe.classic_files(Path(folder))
        stack.enter_context(mock.patch.dict(os.environ, {registry.MODELS_VARIABLE: folder}))
        stack.enter_context(mock.patch.dict(LEVI_HASSNER, caffe.made_entries(made)))
        yield


def attribute_rows(name: str, found: Sequence[tuple[LabeledFace, Image, Faces]]) -> tuple[Row, str]:
    """A model or a pair of them on these faces; and why something could not be measured."""
    known = [MODELS[one] for one in registry.SETS.get(name, (name,)) if one in MODELS]
    if not known:
        description = find_description(name)
        assert description is not None
        known = [description.model]
    why = ""
    with contextlib.ExitStack() as stack:
        try:
            attributes = CropReader.load(Settings(attributes=name), embeddings=False)
        except ModelError as error:
            if name != "levi-hassner":
                raise
            why = str(error)
            stack.enter_context(made_weights())
            attributes = CropReader.load(Settings(attributes=name), embeddings=False)
        some = found[:64]
        crops = [attributes.crops(Still(image), faces)[0] for _, image, faces in some]
        per_face = f"{median_ms(lambda: attributes.read(crops), len(crops)):.1f}"
    if why:
        return Row(name, (per_face, "not measured", "not measured", *license(known[0]))), why
    table = estimated(attributes, found)
    biases = tuple(bias_rows(name, table, ("likelier_right", "age_rmse")))
    return Row(name, (per_face, *accuracy(table), *license(known[0])), biases), why


def embedding_row(found: Sequence[tuple[LabeledFace, Image, Faces]]) -> Row:
    """Speed of the embedding."""
    model = DlibEmbedding(Settings())
    crops = [model.crop.crop(Still(image), faces)[0] for _, image, faces in found[:64]]
    per_face = f"{median_ms(lambda: model.embed(crops), len(crops)):.1f}"
    return Row("dlib-resnet (embedding)", (per_face, "–", "–", *license(model.model)))


def aligner_row(found: Sequence[tuple[LabeledFace, Image, Faces]]) -> Row:
    """Speed of alignment."""
    aligner = load_aligner(Settings())
    assert aligner is not None
    some = found[:64]
    per_face = median_ms(lambda: [aligner.align(Still(image), faces) for _, image, faces in some], len(some))
    return Row("centerface (aligner)", (f"{per_face:.1f}", "–", "–", *license(registry.ALIGNER)))


def table(head: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """Markdown."""
    lines = [f"| {' | '.join(head)} |", f"| --- {'| ---: ' * (len(head) - 3)}| --- | --- |"]
    return lines + [f"| {row.name} | {' | '.join(row.cells)} |" for row in rows]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description="Write the tables of docs/models.md.")
    parser.add_argument("--faces", type=int, default=1000)
    options = parser.parse_args()
    faces = list(labeled_faces(REPORT, options.faces))
    with tempfile.TemporaryDirectory() as folder:
        frames = video_frames(Path(folder))
    dlib = CropReader.load(Settings(), embeddings=False)
    detectors, missing = [], []
    for name in DETECTORS:
        try:
            detectors.append(detector_row(name, faces, frames, dlib))
        except ModelError as error:
            missing.append(f"`{name}`: {error}")
        print(detectors[-1], flush=True)
    detector, aligner = load_detector(Settings()), load_aligner(Settings())
    found = [
        (face, face.image, placed(detector, aligner, face.image, detect(detector, face.image)[:1]))
        for face in faces
    ]
    found = [one for one in found if len(one[2])]
    own = []
    for path in descriptions():
        description = find_description(path.stem)
        if description is not None and len(description.outputs) == 2:
            own.append(path.stem)
    rows = []
    for name in (
        *registry.SETS,
        registry.ENSEMBLE.name,
        registry.HEADS.name,
        registry.MOBILENETV2.name,
        *own,
    ):
        row, why = attribute_rows(name, found)
        rows.append(row)
        if why:
            missing.append(f"`{name}`, its accuracy: {why}. Its speed was measured with made weights.")
        print(row, flush=True)
    measured = (
        f"Measured by `python -m benchmarks.models` with {Settings().thread_count} cores and the default "
        f"settings, medians of {ROUNDS} rounds. The video: {len(frames)} frames of 1280 x 720 pixels of a "
        f"made crowd. The faces: {len(faces)} of UTKFace that were used for nothing else, each in a gray "
        "frame of 400 x 400 pixels (for `none` without it); *others* are further detections there. Gender "
        "and age are the uncalibrated estimates of the dlib models for the faces found."
    )
    sample = f"Models for gender and age, on {len(found)} of these faces, found and aligned as by default:"
    lines = [
        *textwrap.wrap(measured, WIDTH),
        "",
        *table(DETECTOR_HEAD, detectors),
        "",
        *textwrap.wrap(sample, WIDTH),
        "",
        *table(ATTRIBUTES_HEAD, [*rows, aligner_row(found), embedding_row(found)]),
        "",
        *textwrap.wrap(
            f"Differences between groups of people of {BIAS_FROM_YEARS} and older, as means over eight "
            "groups (women and men, white people and others, 20 to 50 years and older):",
            WIDTH,
        ),
        "",
        f"| {' | '.join(BIAS_HEAD)} |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
        *(f"| {' | '.join(cells)} |" for row in (*detectors, *rows) for cells in row.bias),
        "",
    ]
    if missing:
        lines += ["Not measured:", "", *(f"- {one}" for one in missing), ""]
    before, rest = PAGE.read_text("utf-8").split("<!-- tables -->\n")
    after = rest.split("<!-- /tables -->\n")[1]
    text = "\n".join(lines)
    PAGE.write_text(f"{before}<!-- tables -->\n{text}<!-- /tables -->\n{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
