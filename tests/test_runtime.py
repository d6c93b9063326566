"""The code that runs CUDA, tested on the processor; a missing CUDA is a sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from analyzer.analysis.segment import Models
from analyzer.errors import ModelError
from analyzer.settings import Settings
from analyzer.vision import dlib_resnet, registry, runtime, yunet_network
from analyzer.vision.attributes.dlib import GENDER_CROP_PX
from analyzer.vision.crops import AGE_CROP_PX
from analyzer.vision.dlib_resnet import SIDE_PX
from analyzer.vision.preprocessing import DLIB_PIXELS, Pixels
from analyzer.vision.runtime import BATCHES, CompiledModel, load_model

ROOT = Path(__file__).parents[1]
CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"
TOLERANCE = 1e-4
"""As a share of an output's largest value; seen on processors: 1e-5."""
SIZES = {  # width and height
    "detector": (320, 192),
    "age": (AGE_CROP_PX,) * 2,
    "gender": (GENDER_CROP_PX,) * 2,
    "embedding": (SIDE_PX,) * 2,
}

EXACT = [model for model in registry.NETWORKS if model is not registry.ENSEMBLE]
"""Those whose weights are floating-point numbers; engines round eight bits differently."""

Images = list[NDArray[np.uint8]]


@dataclass
class Device:
    """A test double of a graphics card; the processor computes."""

    starts: bool = True
    asked: list[dict[str, Any]] = field(default_factory=list)
    """The arguments of each session."""
    batches: set[int] = field(default_factory=set)
    """Batch sizes that were sent."""


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    """An ONNX Runtime with CUDA."""
    device = Device()
    real = onnxruntime.InferenceSession

    class Session:
        def __init__(self, model: bytes, options: object, **asked: Any) -> None:
            device.asked.append(asked)
            self._session = real(model, options, providers=[CPU])
            self.get_inputs = self._session.get_inputs

        def get_providers(self) -> list[str]:
            return [CUDA, CPU] if device.starts else [CPU]

        def run(self, outputs: None, inputs: dict[str, NDArray[Any]]) -> Any:
            device.batches.update(len(values) for values in inputs.values())
            return self._session.run(outputs, inputs)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("Failed to load libcudnn"))  # noqa: T201
    return device


def images_of(role: str, crowd: Images, count: int) -> Images:
    """Crops of the crowd in the size of the model's input."""
    crops = [cv2.resize(crowd[index % len(crowd)], SIZES[role]) for index in range(count)]
    return [np.roll(crop, 7 * index, axis=1).astype(np.uint8) for index, crop in enumerate(crops)]


def compiled(model: registry.Model, settings: Settings, batch: int) -> CompiledModel:
    convert = {registry.EMBEDDING: dlib_resnet.to_onnx, registry.YUNET: yunet_network.to_onnx}.get(model)
    pixels = Pixels() if model.role == "detector" else DLIB_PIXELS
    content = registry.weights(model)
    return load_model(content, settings, name=model.name, pixels=pixels, batch=batch, convert=convert)


@pytest.mark.parametrize("model", EXACT, ids=lambda model: model.role)
def test_batches_of_cuda_give_what_openvino_gives(
    model: registry.Model, exact: Settings, crowd: Images
) -> None:
    batch = BATCHES["cuda"][model.role]
    sent = images_of(model.role, crowd, batch + 1)  # the last batch is filled up
    expected = compiled(model, exact, BATCHES["cpu"][model.role]).run(sent)
    given = compiled(model, exact.replace(engine="onnxruntime"), batch).run(sent)
    assert len(given) == len(expected) > 0
    for ours, theirs in zip(given, expected, strict=True):
        assert ours.dtype == np.float32 and ours.shape == theirs.shape and len(ours) == len(sent)
        # Not one image's answer for all.
        assert np.ptp(theirs, axis=0).max() > 100 * TOLERANCE
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE * np.abs(theirs).max())


@pytest.mark.slow
def test_cuda_runs_every_model_in_large_batches(
    device: Device, exact: Settings, models: Models, crowd: Images, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exact.engine == "openvino"
    loaded = Models.load(exact.replace(device="cuda"))
    engines = {model["engine"] for model in loaded.provenance if model["name"] != registry.HEADS.name}
    assert engines == {f"onnxruntime {onnxruntime.__version__} CUDA f32"}
    assert loaded.key != models.key
    assert len(device.asked) == len(registry.NETWORKS)
    for asked in device.asked:
        assert asked["providers"][0] == (CUDA, {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"})
        assert asked["enable_fallback"] == 0
    crops = images_of("embedding", crowd, 3)
    given, expected = (one.reader.read([(crop,) for crop in crops]).embeddings for one in (loaded, models))
    np.testing.assert_allclose(given, expected, rtol=0, atol=1e-5)
    assert device.batches == {BATCHES["cuda"][role] for role in ("embedding", "age", "gender")}
    assert capsys.readouterr().out == ""


def test_large_batches_are_larger() -> None:
    assert BATCHES.keys() == {"cpu", "cuda"}
    for role, batch in BATCHES["cpu"].items():
        assert BATCHES["cuda"][role] >= 8 * batch


def test_of_several_batches_the_largest_that_are_filled_are_taken(
    exact: Settings, crowd: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, size = registry.weights(registry.ALIGNER), (96, 96)
    sent = [cv2.resize(image, size).astype(np.uint8) for image in crowd]
    sent = [np.roll(sent[index % len(sent)], 5 * index, axis=1) for index in range(7)]
    expected = load_model(content, exact, name="it", size=size).run(sent)
    several = load_model(content, exact, name="it", batch=(1, 2, 4), size=size)
    ran: list[tuple[int, int]] = []
    real = runtime._OpenVino.run

    def run(self: Any, images: Images) -> Any:
        ran.append((self._batch, len(images)))
        return real(self, images)

    monkeypatch.setattr(runtime._OpenVino, "run", run)
    for count, batches in (
        (1, [(1, 1)]),
        (2, [(2, 2)]),
        (3, [(2, 2), (1, 1)]),
        (7, [(4, 4), (2, 2), (1, 1)]),
    ):
        ran.clear()
        given = several.run(sent[:count])
        assert ran == batches
        for ours, theirs in zip(given, expected, strict=True):
            np.testing.assert_allclose(ours, theirs[:count], rtol=0, atol=TOLERANCE * np.abs(theirs).max())
    with pytest.raises(ModelError, match="cannot load it"):
        load_model(b"no model", exact, name="it", batch=(1, 2))


def test_cuda_that_does_not_start_is_refused(device: Device, exact: Settings) -> None:
    device.starts = False
    with pytest.raises(ModelError, match=r'could not start CUDA.*"audience-analyzer\[cuda\]"') as caught:
        Models.load(exact.replace(device="cuda"))
    assert device.asked  # not by the first check
    assert "\n" not in str(caught.value) and "cannot load" not in str(caught.value)


def test_onnx_runtime_without_cuda_is_a_sentence(exact: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    with pytest.raises(ModelError, match=r'pip install "audience-analyzer\[cuda\]"') as caught:
        Models.load(exact.replace(device="cuda"))
    assert f"onnxruntime-gpu=={onnxruntime.__version__}" in str(caught.value)
    assert "\n" not in str(caught.value) and "cannot load" not in str(caught.value)


def test_a_file_that_is_no_model_names_the_engine_of_cuda(device: Device) -> None:
    with pytest.raises(ModelError, match="onnxruntime cannot load it") as caught:
        load_model(b"no model", Settings(device="cuda"), name="it")
    assert caught.value.__cause__ is not None


def test_the_device_is_part_of_the_key_of_a_segment() -> None:
    assert Settings(device="cuda").segment_hash() != Settings().segment_hash()


@pytest.mark.skipif(CUDA not in onnxruntime.get_available_providers(), reason="ONNX Runtime without CUDA")
@pytest.mark.parametrize("model", EXACT, ids=lambda model: model.role)
def test_a_graphics_card_gives_what_the_processor_gives(
    model: registry.Model, exact: Settings, crowd: Images
) -> None:
    sent = images_of(model.role, crowd, 9)
    expected = compiled(model, exact, 1).run(sent)
    given = compiled(model, exact.replace(device="cuda"), BATCHES["cuda"][model.role]).run(sent)
    assert len(given) == len(expected)
    for ours, theirs in zip(given, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE * np.abs(theirs).max())


def test_onnx_runtime_writes_no_telemetry(tmp_path: Path) -> None:
    """By default it writes an id of the machine and events into the user's cache."""
    code = "from analyzer.vision.runtime import import_onnxruntime as load; load()"
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env=environment)
    assert not [path.name for path in tmp_path.rglob("*") if "icrosoft" in path.name]


def test_a_signal_after_models_were_released_is_handled() -> None:
    """OpenVINO frees signal stacks with its cores; with a freed one the next signal would end the process."""
    code = (
        "import gc, signal\n"
        "from analyzer.settings import Settings\n"
        "from analyzer.vision.detectors.centerface import CenterFace\n"
        "first, second = (CenterFace(Settings(precision='f32', threads=count)) for count in (1, 2))\n"
        "del first; gc.collect()\n"
        "del second; gc.collect()\n"
        "signal.signal(signal.SIGINT, lambda *_: print('handled'))\n"
        "signal.raise_signal(signal.SIGINT)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "handled\n")


def test_threads_share_a_model(exact: Settings, crowd: Images) -> None:
    model = compiled(registry.ALIGNER, exact, batch=1)
    several = [images_of(registry.ALIGNER.role, crowd[index:] + crowd[:index], 3) for index in range(4)]
    alone = [model.run(images) for images in several]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(30):
            for given, expected in zip(pool.map(model.run, several), alone, strict=True):
                for ours, theirs in zip(given, expected, strict=True):
                    assert np.array_equal(ours, theirs)
