"""The converted face recognition model reproduces dlib; files that are not this model are refused."""

from __future__ import annotations

import re

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from analyzer.settings import Settings
from analyzer.vision import registry
from analyzer.vision.dlib_resnet import DESCRIPTOR_SIZE, FEATURES, SIDE_PX, to_onnx
from analyzer.vision.preprocessing import Pixels
from analyzer.vision.runtime import load_model
from testkit.demo import portraits

# Seen on 240 faces: 5e-7 between numbers; and 0.013 between whole descriptors in bfloat16.
TOLERANCE = 1e-5
BFLOAT16_DISTANCE = 0.03
REFUSAL = "not dlib's face recognition model"
PIXELS = Pixels(rgb=True, means=(122.782, 117.001, 104.298), scale=(256.0,) * 3)

Crops = list[NDArray[np.uint8]]


@pytest.fixture(scope="module")
def data() -> bytes:
    """The file that dlib reads."""
    return registry.weights(registry.EMBEDDING)


@pytest.fixture(scope="module", params=[12, pytest.param(48, marks=pytest.mark.slow)])
def crops(request: pytest.FixtureRequest) -> Crops:
    """Crops of two portraits under shifts, scales, rotations and brightness, and of noise: uint8 BGR."""
    random = np.random.default_rng(3)
    made = []
    for portrait in portraits():
        for _ in range(request.param // 2 - 2):
            turn = cv2.getRotationMatrix2D((150, 130), random.uniform(-20, 20), random.uniform(0.5, 1.1))
            turn[:, 2] += SIDE_PX / 2 - np.array([150, 130]) + random.uniform(-20, 20, 2)
            crop = cv2.warpAffine(portrait[:, :, ::-1], turn, (SIDE_PX, SIDE_PX))
            made.append(cv2.convertScaleAbs(crop, None, random.uniform(0.4, 1.6)).astype(np.uint8))
    return made + [random.integers(0, 256, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8) for _ in range(4)]


@pytest.fixture(scope="module")
def reference(crops: Crops) -> NDArray[np.float64]:
    """The descriptors of dlib itself."""
    dlib = pytest.importorskip("dlib")
    network = dlib.face_recognition_model_v1(str(registry.find(registry.EMBEDDING.files[0])))
    return np.array(
        [network.compute_face_descriptor(np.ascontiguousarray(crop[..., ::-1])) for crop in crops]
    )


# 5 does not divide the number of crops: the last batch is filled up.
@pytest.mark.parametrize("engine_and_batch", [("openvino", 1), ("openvino", 5), ("onnxruntime", 4)])
def test_descriptors_are_dlibs(
    data: bytes,
    crops: Crops,
    reference: NDArray[np.float64],
    exact: Settings,
    engine_and_batch: tuple[str, int],
) -> None:
    engine, batch = engine_and_batch
    network = load_model(
        to_onnx(data), exact.replace(engine=engine), name="resnet", pixels=PIXELS, batch=batch
    )
    descriptors, features = network.run(crops)
    assert features.shape == (len(crops), FEATURES)
    assert descriptors.shape == (len(crops), DESCRIPTOR_SIZE) and len(crops) >= 12
    assert descriptors.dtype == np.float32
    np.testing.assert_allclose(descriptors, reference, rtol=0, atol=TOLERANCE)


def test_quick_arithmetic_moves_descriptors_by_little(data: bytes, crops: Crops, exact: Settings) -> None:
    quick, precise = (
        load_model(to_onnx(data), exact.replace(precision=precision), name="resnet", pixels=PIXELS).run(
            crops
        )[0]
        for precision in ("auto", "f32")
    )
    assert np.linalg.norm(quick - precise, axis=1).max() < BFLOAT16_DISTANCE


def test_model_is_valid_onnx_with_a_free_batch(data: bytes) -> None:
    model = onnx.load_model_from_string(to_onnx(data))
    onnx.checker.check_model(model, full_check=True)
    shapes = [
        [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    ]
    assert shapes == [["N", 3, SIDE_PX, SIDE_PX], ["N", DESCRIPTOR_SIZE], ["N", FEATURES]]
    # Affine layers are folded.
    assert len(model.graph.node) < 100


@pytest.mark.parametrize("kept", [0, 1, 40, 287, 320, 350, 100_000, 11_000_000, -61, -1])
def test_a_truncated_file_is_refused(data: bytes, kept: int) -> None:
    with pytest.raises(ValueError, match=REFUSAL):
        to_onnx(data[:kept])


def test_other_files_are_refused(data: bytes) -> None:
    for other in (b"\x00" * 1000, b"\xff" * 1000, data[1:], data + b"\x00", b"<html>" * 100):
        with pytest.raises(ValueError, match=REFUSAL):
            to_onnx(other)


def test_impossible_sizes_are_refused_without_allocating_them(data: bytes) -> None:
    weights = data.index(b"con_4") + len(b"con_4") + 2
    for size in (b"\x08" + b"\xff" * 8, b"\x88" + b"\xff" * 8, b"\x81\x01", b"\x04" + b"\x7f" * 4):
        with pytest.raises(ValueError, match=REFUSAL):
            to_onnx(data[:weights] + size + data[weights + 3 :])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_refused(data: bytes, value: float) -> None:
    damaged = np.array([value], "<f4").tobytes()
    # The first weight stands behind the layer's name and the sizes of its tensor.
    for name, sizes in ((b"con_4", 11), (b"affine_", 10), (b"fc_2", 16)):
        place = data.index(name) + len(name) + sizes
        with pytest.raises(ValueError, match="finite"):
            to_onnx(data[:place] + damaged + data[place + 4 :])


@pytest.mark.parametrize("part", [pytest.param(1, marks=pytest.mark.slow), 6])
def test_damage_outside_the_weights_is_refused(data: bytes, part: int) -> None:
    """At one in `part` of many places."""
    random = np.random.default_rng(5)
    names = rb"con_4|affine_|relu_|add_prev_|(avg|max)_pool_2|fc_2"
    starts = [match.start() for match in re.finditer(names, data)]
    head = random.choice(np.arange(starts[0]), 60, replace=False)
    layers = random.choice(starts, 60) + random.integers(-1, 8, 60)
    tail = len(data) - random.integers(1, 60, 20)
    damaged = bytearray(data)
    refused = 0
    places = np.concatenate([head, layers, tail])[::part]
    for place in places:
        damaged[place] ^= int(random.integers(1, 256))
        try:
            to_onnx(bytes(damaged))
        except ValueError as error:
            assert REFUSAL in str(error)  # not one that NumPy happened to raise
            refused += 1
        damaged[place] = data[place]
    # The rest only describes the training.
    assert refused > 0.85 * len(places)
