"""The MobileNetV2 that comes with this project."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from analyzer import analyze
from analyzer.errors import ModelError
from analyzer.evaluation.labels import read_labels
from analyzer.evaluation.views import Viewer
from analyzer.settings import Settings
from analyzer.vision import registry
from analyzer.vision.reader import CropReader
from analyzer.vision.registry import MOBILENETV2
from analyzer.vision.selection import choose
from analyzer.vision.user_model import Description, shipped
from testkit.faces import REPORT, SHARED

_FACES = 120
_GENDER_RIGHT, _AGE_ERROR_YEARS = 0.85, 7.0
"""Well below what models/mobilenetv2.md states: so few faces vary."""


def test_it_is_described_as_users_own_models_are_and_trusted() -> None:
    description = choose(Settings(attributes="mobilenetv2")).gender
    assert isinstance(description, Description)
    assert description == shipped(MOBILENETV2) and not description.by_user
    assert description.model is MOBILENETV2
    assert shipped(registry.AGE) is None


def test_it_computes_in_eight_bits() -> None:
    content = registry.weights(MOBILENETV2)
    assert len(content) < 4_000_000
    model = onnx.load_model_from_string(content)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("Conv") == 52  # its depth, without the fully connected outputs
    eight_bits = {one.name for one in model.graph.initializer if one.data_type == onnx.TensorProto.INT8}
    made_from = {
        node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"
    }
    weights = [made_from.get(node.input[1]) for node in model.graph.node if node.op_type == "Conv"]
    assert all(name in eight_bits for name in weights)


def test_it_comes_with_a_calibration() -> None:
    choice = choose(Settings(attributes="mobilenetv2"))
    assert choice.calibration_file() is not None
    assert choice.calibration().child_years > 12  # measured: that of a plain one is 12


def test_commercial_use_is_refused() -> None:
    with pytest.raises(ModelError, match="--commercial refuses the model mobilenetv2"):
        choose(Settings(attributes="mobilenetv2", commercial=True))


def test_a_photograph_is_analyzed_with_it(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    data = pytest.importorskip("skimage.data")
    path = tmp_path / "collins.png"
    cv2.imwrite(str(path), np.ascontiguousarray(data.astronaut()[..., ::-1]))
    run = analyze(path, out=tmp_path / "out", attributes="mobilenetv2")
    (person,) = run.people.to_dict("records")
    assert 0 < person["age_years"] < 100
    estimated = run.faces.dropna(subset=["female_prob"])
    assert len(estimated) and estimated["age_std_years"].gt(0).all()
    (entry,) = [one for one in run.info["models"] if one["name"] == "mobilenetv2"]
    assert entry["role"] == "gender and age" and entry["commercial_use"] is False
    assert entry["sha256"] == MOBILENETV2.sha256


@pytest.mark.skipif(not (SHARED / "data" / "utkface").is_dir(), reason="the labeled faces are not here")
def test_it_is_about_as_right_as_its_card_says(tmp_path: Path) -> None:
    archive = SHARED / "data" / "utkface" / f"utkface-{REPORT[0]:02d}.tar"
    labels = read_labels(archive, tmp_path / "faces", _FACES).faces
    reader = CropReader.load(Settings(attributes="mobilenetv2"), embeddings=False)
    crops, ages, female = [], [], []
    for one in Viewer(Settings()).located(labels):
        if one.frame is None or one.reason:
            continue
        crops += reader.crops(one.frame, one.face)
        ages.append(one.labels["true_age"])
        female.append(one.labels["true_gender"] == "female")
    assert len(crops) > 0.9 * _FACES
    found = reader.read_uncalibrated(crops)
    assert np.mean((found.female_prob > 0.5) == np.array(female)) >= _GENDER_RIGHT
    assert np.abs(found.age_years - np.array(ages)).mean() <= _AGE_ERROR_YEARS
    assert np.isfinite(found.age_std_years).all()
