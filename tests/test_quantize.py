"""Eight bits: results stay close, and ranges that do not fit are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from skimage import data

from analyzer.analysis.segment import Models
from analyzer.errors import ModelError
from analyzer.faces import Faces
from analyzer.media.frame import Still
from analyzer.settings import Settings
from analyzer.vision import registry, runtime
from analyzer.vision.alignment import CropAligner
from analyzer.vision.attributes.heads import HeadModel
from analyzer.vision.crops import EMBEDDING_CROP
from analyzer.vision.detectors.centerface import CenterFace
from analyzer.vision.embedding import DlibEmbedding
from analyzer.vision.quantize import Ranges, convolutions, quantize, ranges_file
from analyzer.vision.runtime import import_openvino, int8_overflows, load_model, openvino_core


@pytest.fixture(scope="module")
def crops() -> list[NDArray[np.uint8]]:
    """The face of the astronaut of scikit-image as heads see it, then mirrored and darker."""
    photograph = Still(np.ascontiguousarray(data.astronaut()[..., ::-1]))
    found = Faces.build(boxes=[[175, 65, 270, 195]], scores=[1.0])
    (crop,) = EMBEDDING_CROP.crop(photograph, CropAligner(Settings(precision="f32")).align(photograph, found))
    return [crop, np.ascontiguousarray(crop[:, ::-1]), crop // 2]


def convolution(weights: NDArray[np.float32], groups: int = 1) -> bytes:
    """An ONNX model of one convolution over images with values from 0 to 255."""
    planes = ["batch", 3, "height", "width"]
    node = helper.make_node("Conv", ["pixels", "weights"], ["sums"], group=groups, pads=[1, 1, 1, 1])
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, planes)],
        [
            helper.make_tensor_value_info(
                "sums", TensorProto.FLOAT, ["batch", len(weights), "height", "width"]
            )
        ],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return model.SerializeToString()


@pytest.mark.parametrize("groups", [1, 3])
def test_sums_stay_within_the_steps(groups: int) -> None:
    random = np.random.default_rng(3)
    # Channels of very different weights: one step for all would lose the small ones.
    weights = random.normal(size=(6, 3 // groups, 3, 3)).astype(np.float32)
    weights *= np.array([1, 0.01, 1, 100, 1, 1], np.float32)[:, None, None, None]
    image = random.integers(0, 256, (32, 64, 3), dtype=np.uint8)
    ranges = Ranges({"pixels": (0.0, 255.0)}, "test")
    model = convolution(weights, groups)
    quick = load_model(model, Settings(), name="sums", ranges=ranges)
    exact = load_model(model, Settings(precision="f32"), name="sums", ranges=ranges)
    assert "int8-test" in quick.engine and "int8" not in exact.engine
    ((got,), (wanted,)) = quick.run([image]), exact.run([image])
    error = np.abs(got - wanted).max(axis=(0, 2, 3)) / np.abs(wanted).max(axis=(0, 2, 3))
    # Without VNNI weights have half of the steps; if sums overflowed, errors would be of 5 % to 30 %.
    assert error.max() < (0.04 if int8_overflows() else 0.01)
    assert error.max() > 0, "it was computed in float32"


def test_values_outside_the_range_are_clipped() -> None:
    weights = np.zeros((1, 3, 3, 3), np.float32)
    weights[0, 0, 1, 1] = 1
    model = load_model(
        convolution(weights), Settings(), name="sums", ranges=Ranges({"pixels": (0.0, 100.0)}, "test")
    )
    (sums,) = model.run([np.full((32, 32, 3), 200, np.uint8)])
    np.testing.assert_allclose(sums, 100, atol=0.5)


def test_every_convolution_of_the_detector_is_marked() -> None:
    ov = import_openvino()
    model = openvino_core().read_model(registry.weights(registry.CENTERFACE))
    ranges = Ranges.of(registry.CENTERFACE)
    assert {tensor for _, tensor in convolutions(model)} == set(ranges.by_tensor)
    quantize(ov, model, ranges)
    for node in model.get_ordered_ops():
        if node.get_type_name() in ("Convolution", "GroupConvolution"):
            inputs = [node.input_value(index).get_node().get_type_name() for index in range(2)]
            assert inputs == ["FakeQuantize", "FakeQuantize"]


def test_tensor_without_a_range_is_a_sentence() -> None:
    weights = np.ones((1, 3, 3, 3), np.float32)
    with pytest.raises(ModelError, match="no range for the tensor pixels"):
        load_model(convolution(weights), Settings(), name="sums", ranges=Ranges({}, "test"))


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"model_sha256": "x"}'])
def test_damaged_ranges_are_a_sentence(tmp_path: Path, content: str) -> None:
    path = tmp_path / "ranges.json"
    path.write_text(content)
    with pytest.raises(ModelError, match="cannot be read"):
        Ranges.load(path, "x")


def test_ranges_of_another_model_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "ranges.json"
    path.write_text(json.dumps(json.loads(ranges_file(registry.CENTERFACE).read_text("utf-8"))))
    assert Ranges.load(path, registry.CENTERFACE.sha256).by_tensor
    with pytest.raises(ModelError, match="another model"):
        Ranges.load(path, "0" * 64)


def test_eight_bits_beside_float32() -> None:
    models = Models.load(Settings(precision="int8", detector="centerface"))
    engines = {str(model["role"]): str(model["engine"]) for model in models.provenance}
    assert "int8" in engines.pop("detector")
    assert "int8" in engines["embedding"] and "int8" in engines["age"] and "int8" in engines["gender"]
    assert engines["aligner"].endswith("f32")


def test_bfloat16_is_preferred_to_eight_bits_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runtime, "_computes_bf16", lambda: False)
    assert "int8" in DlibEmbedding(Settings()).provenance["engine"]
    monkeypatch.setattr(runtime, "_computes_bf16", lambda: True)
    assert "int8" not in DlibEmbedding(Settings()).provenance["engine"]
    assert "int8" not in DlibEmbedding(Settings(precision="f32")).provenance["engine"]


def test_heads_read_nearly_the_same_in_eight_bits(crops: list[NDArray[np.uint8]]) -> None:
    exact, quick = (HeadModel(registry.HEADS, Settings(precision=one)) for one in ("f32", "int8"))
    wanted, got = exact.estimate(crops), quick.estimate(crops)
    assert wanted.embeddings is not None and got.embeddings is not None
    away = np.linalg.norm(got.embeddings - wanted.embeddings, axis=1)
    # Two faces of one person are up to 0.6 apart. Without VNNI weights have half of the steps.
    assert 0 < away.max() < 0.1
    for name, most in (("age_years", 1.5), ("female", 0.05)):
        np.testing.assert_allclose(getattr(got, name), getattr(wanted, name), atol=most)


def test_onnxruntime_ignores_the_ranges() -> None:
    other = CenterFace(Settings(engine="onnxruntime"))
    assert "int8" not in other.engine and "f32" in other.engine
