"""The default for gender and age: a head and a network, averaged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from analyzer.errors import ModelError
from analyzer.evaluation.labels import read_labels
from analyzer.evaluation.views import Viewer
from analyzer.settings import Settings
from analyzer.vision import registry
from analyzer.vision.attributes.ensemble import NETWORK_PIXELS, Ensemble
from analyzer.vision.attributes.heads import HeadModel, read_logits
from analyzer.vision.reader import CropReader
from analyzer.vision.selection import choose
from testkit.faces import REPORT, SHARED

Crops = list[NDArray[np.uint8]]

ROOT = Path(__file__).parents[1]
_FACES = 120
_GENDER_RIGHT, _AGE_ERROR_YEARS = 0.88, 6.0
"""Well below what models/ensemble.md states: so few faces vary."""


@pytest.fixture(scope="module")
def crops(exact: Settings) -> Crops:
    data = pytest.importorskip("skimage.data")
    face = data.astronaut()[20:220, 130:330, ::-1]
    turned = [np.ascontiguousarray(one) for one in (face, face[:, ::-1], face[10:190, 10:190])]
    return [cv2.resize(one, (150, 150), interpolation=cv2.INTER_AREA).astype(np.uint8) for one in turned]


def test_it_is_the_mean_of_both_logits(exact: Settings, crops: Crops) -> None:
    ensemble, head = Ensemble(registry.ENSEMBLE, exact), HeadModel(registry.HEADS, exact)
    features = head.backbones.features(crops)
    logits = head.head.logits(features), ensemble.logits(crops)
    expected = read_logits((logits[0] + logits[1]) / 2)
    found = ensemble.estimate(crops)
    for name in ("female", "age_years", "std_years"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-5)
    # Neither of both alone.
    for one in logits:
        alone = read_logits(one.astype(np.float64)).age_years
        assert alone is not None and found.age_years is not None
        assert np.abs(alone - found.age_years).max() > 0.05
    assert found.embeddings is not None
    np.testing.assert_allclose(found.embeddings, features[:, :128], atol=1e-6)


def test_the_network_gets_the_pixels_that_it_was_trained_on(exact: Settings, crops: Crops) -> None:
    """As ONNX Runtime computes the file from crops that are prepared by hand."""
    session = onnxruntime.InferenceSession(
        registry.weights(registry.ENSEMBLE), providers=["CPUExecutionProvider"]
    )
    small = np.stack([cv2.resize(one, (112, 112), interpolation=cv2.INTER_AREA) for one in crops])
    values = small.astype(np.float32) - np.array([103.939, 116.779, 123.68], np.float32)
    assert not NETWORK_PIXELS.rgb
    gender, age = session.run(["gender", "age"], {"faces": values.transpose(0, 3, 1, 2)})
    found = Ensemble(registry.ENSEMBLE, exact).logits(crops)
    assert found.shape == (3, 102)
    # In eight bits, engines round a little differently.
    np.testing.assert_allclose(found[:, 101:], gender, atol=0.25)
    years = np.arange(101)
    expected, read = (
        np.exp(one) / np.exp(one).sum(axis=1, keepdims=True) @ years for one in (age, found[:, :101])
    )
    np.testing.assert_allclose(read, expected, atol=1.0)


def test_the_network_computes_in_eight_bits() -> None:
    content = registry.weights(registry.ENSEMBLE)
    assert len(content) < 4_000_000
    model = onnx.load_model_from_string(content)
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 27
    eight_bits = {one.name for one in model.graph.initializer if one.data_type == onnx.TensorProto.INT8}
    made_from = {
        node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"
    }
    assert all(made_from.get(node.input[1]) in eight_bits for node in convolutions)


def test_heads_alone_can_be_chosen() -> None:
    choice = choose(Settings(attributes="heads"))
    assert choice.age == choice.gender == registry.HEADS and registry.ENSEMBLE not in choice.models
    both = choose(Settings())
    assert both.age == both.gender == registry.ENSEMBLE and registry.HEADS in both.models
    assert choice.calibration_file() is not None and both.calibration_file() is not None
    assert choice.calibration_file() != both.calibration_file()


def test_every_part_is_part_of_the_set() -> None:
    before = choose(Settings()).members()
    for part in (registry.ENSEMBLE, registry.HEADS, registry.AGE):
        other = replace(part, files=(replace(part.files[0], sha256=("0" * 64,)),))
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(registry.MODELS, part.name, other)
            patch.setattr(registry, part.name.upper().replace("DLIB-", ""), other)
            assert choose(Settings()).members() != before


def test_the_pages_state_below_which_age_gender_is_unknown() -> None:
    years = CropReader.load(Settings(), embeddings=False).calibration.child_years
    for page in ("README.md", "docs/design.md"):
        text = " ".join((ROOT / page).read_text("utf-8").split())
        assert f"for people who look younger than {years:.0f}" in text, page


def test_commercial_use_is_refused() -> None:
    with pytest.raises(ModelError, match="--commercial refuses the model ensemble"):
        choose(Settings(attributes="ensemble", commercial=True))


@pytest.mark.skipif(not (SHARED / "data" / "utkface").is_dir(), reason="the labeled faces are not here")
@pytest.mark.slow
def test_it_is_about_as_right_as_its_card_says(tmp_path: Path) -> None:
    archive = SHARED / "data" / "utkface" / f"utkface-{REPORT[0]:02d}.tar"
    labels = read_labels(archive, tmp_path / "faces", _FACES).faces
    reader = CropReader.load(Settings(), embeddings=False)
    shown, ages, female = [], [], []
    for one in Viewer(Settings()).located(labels):
        if one.frame is None or one.reason:
            continue
        shown += reader.crops(one.frame, one.face)
        ages.append(one.labels["true_age"])
        female.append(one.labels["true_gender"] == "female")
    assert len(shown) > 0.9 * _FACES
    found = reader.read_uncalibrated(shown)
    assert np.mean((found.female_prob > 0.5) == np.array(female)) >= _GENDER_RIGHT
    assert np.abs(found.age_years - np.array(ages)).mean() <= _AGE_ERROR_YEARS
