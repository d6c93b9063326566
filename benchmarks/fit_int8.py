"""Measures the ranges by which the face detector is computed in eight bits: writes ``centerface_int8.json``.

On frames of made videos (those for choosing, none of those for reporting), in the sizes that the detector
sees them. Of each tensor the mean over images of its lowest and highest value is taken: of the ways tried
(extremes, percentiles, means) the one whose boxes stay nearest to those in float32.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from analyzer import Settings
from analyzer.media.reader import VideoReader
from analyzer.vision import registry
from analyzer.vision.detectors.centerface import RANGES_FILE, CenterFace
from analyzer.vision.quantize import convolutions
from analyzer.vision.runtime import import_openvino, openvino_core
from testkit.crowd import make
from testkit.faces import CHOOSE
from testkit.videos import panning

KINDS, SEEDS = ("walking", "edited"), (2000, 2001, 2002, 2003)
REDUCTIONS = (1.0, 2.0)


def images(folder: Path) -> list[NDArray[np.uint8]]:
    """An image every four seconds of each video, in the detector's sizes."""
    detector = CenterFace(Settings(precision="f32"))
    videos = [make(kind, seed, folder, CHOOSE) for kind in KINDS for seed in SEEDS]
    paths = [path / json.loads((path / "truth.json").read_text("utf-8"))["video"] for path in videos]
    paths.append(panning(folder / "pan.mp4", 60))
    seen = []
    for path in paths:
        with VideoReader(path, Settings(fps=0.25)) as reader:
            for sample in reader.samples():
                frame = sample.frame
                full = frame.scaled(*detector.input_size(frame.width, frame.height))
                for reduction in REDUCTIONS:
                    size = detector.input_size(frame.width, frame.height, reduction)
                    seen.append(cv2.resize(full, size, interpolation=cv2.INTER_AREA).astype(np.uint8))
    return seen


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=f"Write {RANGES_FILE.name}.")
    parser.add_argument("--videos", type=Path, help="where the made videos are kept")
    options = parser.parse_args()
    ov = import_openvino()
    core = openvino_core()
    model = core.read_model(registry.weights(registry.CENTERFACE))
    model.reshape({model.inputs[0]: ov.PartialShape([1, 3, -1, -1])})
    names, ends = [], []
    for node, tensor in convolutions(model):
        if tensor not in names:
            names.append(tensor)
            axes = np.array([0, 1, 2, 3])
            ends += [
                reduce(node.input_value(0), axes) for reduce in (ov.opset13.reduce_min, ov.opset13.reduce_max)
            ]
    watched = core.compile_model(
        ov.Model(ends, model.get_parameters(), "ranges"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    with tempfile.TemporaryDirectory() as temporary:
        values = []
        for image in images(options.videos or Path(temporary)):
            planes = image.transpose(2, 0, 1)[None].astype(np.float32)
            outputs = watched([planes])
            values.append([float(outputs[index]) for index in range(len(ends))])
    means = np.array(values).mean(axis=0).reshape(-1, 2)
    ranges = {
        name: [round(low, 5), round(high, 5)] for name, (low, high) in zip(names, means.tolist(), strict=True)
    }
    ranges[min(model.inputs[0].get_names())] = [0.0, 255.0]  # pixels
    document = {
        "model_sha256": registry.CENTERFACE.sha256,
        "measured_on": f"{len(values)} images of made videos, seeds {SEEDS[0]} to {SEEDS[-1]}",
        "ranges": ranges,
    }
    RANGES_FILE.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(document["measured_on"])


if __name__ == "__main__":
    main()
