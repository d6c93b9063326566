"""Measures the ranges by which networks are computed in eight bits: writes ``analyzer/vision/ranges``.

    python -m benchmarks.fit_int8 centerface
    python -m benchmarks.fit_int8 dlib-resnet dlib-age dlib-gender

The face detector sees frames of made videos (those for choosing, none of those for reporting) in its own
sizes, and of each tensor the mean over images of its lowest and highest value is taken: of the ways tried
(extremes, percentiles, means) the one whose boxes stay nearest to those in float32. dlib's networks see
aligned crops of portraits that anyone may use (`--commercial` computes with these ranges too), sharp and as
photographs and videos show them, and the extremes are taken: embeddings stay nearest.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from analyzer import Settings
from analyzer.evaluation.labels import read_labels
from analyzer.evaluation.views import Viewer
from analyzer.media.reader import VideoReader
from analyzer.vision import registry
from analyzer.vision.attributes.dlib import GENDER_CROP_PX
from analyzer.vision.attributes.heads import middle
from analyzer.vision.crops import AGE_CROP_PX, EMBEDDING_CROP, EMBEDDING_CROP_PX
from analyzer.vision.detectors.centerface import CenterFace
from analyzer.vision.dlib_resnet import to_onnx
from analyzer.vision.preprocessing import DLIB_PIXELS, Pixels
from analyzer.vision.quantize import convolutions, ranges_file
from analyzer.vision.registry import Model
from analyzer.vision.runtime import import_openvino, openvino_core
from benchmarks.accuracy import external
from testkit.crowd import make
from testkit.faces import CHOOSE
from testkit.videos import panning

Image = NDArray[np.uint8]

KINDS, SEEDS = ("walking", "edited"), (2000, 2001, 2002, 2003)
REDUCTIONS = (1.0, 2.0)
PORTRAITS = 150
"""Of each set."""
PORTRAIT_CROPS = "crops of portraits of the US Congress and of London"
BOX = (0.18, 0.14, 0.82, 0.92)
"""Where the face is in a labeled image, as shares of its sides."""


@dataclass(frozen=True)
class Measured:
    """A model whose ranges are measured."""

    model: Model
    pixels: Pixels
    side: int | None
    """Of its input, in pixels; None: any."""

    def onnx(self) -> bytes:
        content = registry.weights(self.model)
        return to_onnx(content) if self.model is registry.EMBEDDING else content


EVERY = [
    Measured(registry.CENTERFACE, Pixels(), None),
    Measured(registry.EMBEDDING, DLIB_PIXELS, EMBEDDING_CROP_PX),
    Measured(registry.AGE, DLIB_PIXELS, AGE_CROP_PX),
    Measured(registry.GENDER, DLIB_PIXELS, GENDER_CROP_PX),
]


def frames(folder: Path) -> Iterator[Image]:
    """An image every four seconds of each video, in the detector's sizes."""
    detector = CenterFace(Settings(precision="f32"))
    videos = [make(kind, seed, folder, CHOOSE) for kind in KINDS for seed in SEEDS]
    paths = [path / json.loads((path / "truth.json").read_text("utf-8"))["video"] for path in videos]
    paths.append(panning(folder / "pan.mp4", 60))
    for path in paths:
        with VideoReader(path, Settings(fps=0.25)) as reader:
            for sample in reader.samples():
                frame = sample.frame
                full = frame.scaled(*detector.input_size(frame.width, frame.height))
                for reduction in REDUCTIONS:
                    size = detector.input_size(frame.width, frame.height, reduction)
                    yield cv2.resize(full, size, interpolation=cv2.INTER_AREA).astype(np.uint8)


def crops() -> Iterator[Image]:
    """Crops of portraits, as heads read them: sharp, as in photographs, and as in videos."""
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        for number, path in enumerate(external(work)):
            labels = read_labels(path, work / str(number), PORTRAITS).faces
            viewer = Viewer(Settings())
            for view in viewer.views(viewer.cut(labels), plain=True):
                yield from EMBEDDING_CROP.crop(view.frame, view.faces)


def ends(one: Measured, images: Sequence[Image]) -> tuple[list[str], NDArray[np.float64]]:
    """The tensors that convolutions read, and (images, tensors, 2) their lowest and highest values."""
    ov, core = import_openvino(), openvino_core()
    model = core.read_model(one.onnx())
    sides = [-1, -1] if one.side is None else [one.side, one.side]
    model.reshape({model.inputs[0]: ov.PartialShape([1, 3, *sides])})
    names: list[str] = []
    watched = []
    for node, tensor in convolutions(model):
        if tensor not in names:
            names.append(tensor)
            axes = np.array([0, 1, 2, 3])
            watched += [
                reduce(node.input_value(0), axes) for reduce in (ov.opset13.reduce_min, ov.opset13.reduce_max)
            ]
    compiled = core.compile_model(
        ov.Model(watched, model.get_parameters(), "ranges"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    values = []
    for image in images:
        planes = (scaled(one.pixels, image)).transpose(2, 0, 1)[None]
        outputs = compiled([np.ascontiguousarray(planes)])
        values.append([float(outputs[index]) for index in range(len(watched))])
    # Of pixels the range is known.
    index = names.index(min(model.inputs[0].get_names()))
    found = np.array(values).reshape(len(values), len(names), 2)
    limits = [scaled(one.pixels, np.full((1, 1, 3), value, np.uint8)) for value in (0, 255)]
    found[:, index] = limits[0].min(), limits[1].max()
    return names, found


def scaled(pixels: Pixels, image: Image) -> NDArray[np.float32]:
    """(H, W, 3) as the network sees it."""
    colors = image[..., ::-1] if pixels.rgb else image
    return ((colors - np.array(pixels.means)) / np.array(pixels.scale)).astype(np.float32)


def write(one: Measured, images: Sequence[Image], measured_on: str) -> None:
    """Measure and write the ranges of one model."""
    names, values = ends(one, images)
    if one.model is registry.CENTERFACE:
        low, high = values.mean(axis=0).T
    else:
        low, high = values[..., 0].min(axis=0), values[..., 1].max(axis=0)
    pairs = zip(names, low.tolist(), high.tolist(), strict=True)
    document = {
        "model_sha256": one.model.sha256,
        "measured_on": f"{len(images)} {measured_on}",
        "ranges": {name: [round(least, 5), round(most, 5)] for name, least, most in pairs},
    }
    ranges_file(one.model).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(one.model.name, document["measured_on"])


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description="Write the ranges of eight-bit networks.")
    parser.add_argument("models", nargs="+", choices=[one.model.name for one in EVERY])
    parser.add_argument("--videos", type=Path, help="where the made videos are kept")
    options = parser.parse_args()
    chosen = [one for one in EVERY if one.model.name in options.models]
    with tempfile.TemporaryDirectory() as temporary:
        faces = list(crops()) if any(one.side for one in chosen) else []
        for one in chosen:
            if one.side is None:
                seen = list(frames(options.videos or Path(temporary)))
                write(one, seen, f"images of made videos, seeds {SEEDS[0]} to {SEEDS[-1]}")
            elif one.side == EMBEDDING_CROP_PX:
                write(one, faces, PORTRAIT_CROPS)
            else:
                write(
                    one,
                    [middle(crop, one.side) for crop in faces],
                    PORTRAIT_CROPS,
                )


if __name__ == "__main__":
    main()
