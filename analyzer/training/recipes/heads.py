"""A head on the inner layers of the models that an analysis runs anyway."""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analyzer.settings import Settings
from analyzer.training.augment import Augmentation
from analyzer.training.recipes.base import Defaults, Labels, Origin, Recipe, Target, default_loss
from analyzer.vision import registry
from analyzer.vision.attributes.dlib import GENDER_CROP_PX
from analyzer.vision.attributes.heads import AGES_YEARS, FEATURES, INNER, MARGIN_PX, Backbones
from analyzer.vision.crops import AGE_CROP_PX, EMBEDDING_CROP
from analyzer.vision.dlib_resnet import to_onnx
from analyzer.vision.preprocessing import DLIB_PIXELS
from analyzer.vision.user_model import AgeOutput, GenderOutput

if TYPE_CHECKING:
    import torch

__all__ = ["RECIPE"]

Float = NDArray[np.float32]

_WIDTHS = (512, 256)
_OUTPUTS: dict[Target, GenderOutput | AgeOutput] = {
    "gender": GenderOutput("logit", "gender", of="female"),
    "age": AgeOutput("logits", "age", ranges=tuple((int(year), int(year)) for year in AGES_YEARS)),
}
_STD_YEARS, _STD_SHARE, _MOST_STD_YEARS = 0.6, 0.15, 2.5
"""The wanted distribution of an age has the first and that share of the age as its standard deviation, at
most the third: a wide one, cut at 0, lifts babies by two years."""
_ERROR_WEIGHT, _ERROR_CORNER_YEARS = 0.1, 3.0
"""What a year of error of the expected age counts beside the cross entropy of ages, and below how much error
it counts ever less."""
_GENDER_SHARE, _SMOOTHING = 3.0, 0.02
_CHILD_YEARS, _CHILD_SHARE = 13, 0.35
"""Genders of children, which faces hardly show, count for less."""
_BANDS_YEARS = (_CHILD_YEARS, 20, 50)
"""Between bands in which women and men count more evenly than there are of them."""
_WOMEN = 1.4
"""How much more the genders of women count: soft and small, they are taken for men more than the reverse."""
_RARE_GENDER, _MOST_GENDER_WEIGHT = 0.5, 3.0
_RARE_AGE, _MOST_AGE_WEIGHT, _AGE_WINDOW_YEARS = 0.3, 4.0, 3.0
"""How much more than their share rare groups count (0 for no more, 1 for as much as all others); what their
weights are cut at; and over how many years ages are counted (standard deviation)."""
_BATCHES = 0.02
"""Share of a batch in the mean and variance by which features are normalized."""
_OPSET, _IR = 18, 10


class _Heads(Recipe):
    name = "heads"
    summary = "fully connected layers on what dlib's models for embeddings, age and gender compute inside"
    paper = "none; for the models that are read: King 2017, dlib"
    targets = ("gender", "age")
    crop = EMBEDDING_CROP
    pixels = DLIB_PIXELS
    defaults = Defaults(
        epochs=80,
        batch=1024,
        rate=3e-3,
        schedule="cosine",
        warmup_epochs=2,
        patience=80,
        weight_decay=0.03,
        averaging=0.99,
        bf16=True,
        # Halfway the loss begins to rise, because answers get too sure, which a calibration takes back; the
        # errors of ages and genders fall on.
        keeps_last=True,
    )
    augmentation = Augmentation(
        turn_deg=4,
        shift=0.02,
        stretch=0.05,
        blur=0.35,
        noise=0.5,
        light=0.8,
        gray=0.22,
        jpeg=0,
        occlusion=0.07,
    )
    variants = 6
    origins = tuple(
        Origin(one.name, one.license, one.commercial_use, one.source)
        for one in (registry.EMBEDDING, registry.AGE, registry.GENDER)
    )

    def build(self, targets: tuple[Target, ...]) -> torch.nn.Module:
        """As `Recipe.build`."""
        from torch import nn

        outputs = self.outputs(targets)

        class Head(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                normal = nn.BatchNorm1d(FEATURES, affine=False, momentum=_BATCHES)
                layers: list[nn.Module] = [normal, nn.Dropout(0.1)]
                width = FEATURES
                for wide in _WIDTHS:
                    layers += [nn.Linear(width, wide), nn.ReLU(), nn.Dropout(0.35)]
                    width = wide
                self.body = nn.Sequential(*layers)
                self.heads = nn.ModuleDict(
                    {target: nn.Linear(width, one.count) for target, one in outputs.items()}
                )

            def forward(self, features: torch.Tensor) -> dict[str, torch.Tensor]:
                values = self.body(features)
                return {name: head(values) for name, head in self.heads.items()}

        return Head()

    def outputs(self, targets: tuple[Target, ...]) -> dict[Target, GenderOutput | AgeOutput]:
        """As `Recipe.outputs`."""
        return {target: _OUTPUTS[target] for target in targets}

    def loss(self, answers: Mapping[str, torch.Tensor], labels: Labels) -> torch.Tensor:
        """As `Recipe.loss`: the default, and how far the expected age is off."""
        import torch
        from torch.nn import functional

        targets = tuple(target for target in self.targets if target in answers)
        spread = (_STD_YEARS + _STD_SHARE * torch.nan_to_num(labels.age)).clamp(max=_MOST_STD_YEARS)
        total = default_loss(
            self.outputs(targets),
            answers,
            labels,
            age_std_years=spread,
            smoothing=_SMOOTHING,
            gender_share=_GENDER_SHARE,
        )
        if "age" not in answers:
            return total
        years = torch.from_numpy(AGES_YEARS).to(labels.age.device)
        expected = answers["age"].softmax(dim=1) @ years
        low, high = torch.nan_to_num(labels.age_low), torch.nan_to_num(labels.age_high)
        off = torch.relu(low - expected) + torch.relu(expected - high)
        each = functional.smooth_l1_loss(
            off, torch.zeros_like(off), reduction="none", beta=_ERROR_CORNER_YEARS
        )
        weights = labels.age_weight * ~torch.isnan(labels.age)
        return total + _ERROR_WEIGHT * (each * weights).sum() / weights.sum().clamp(min=1e-6)

    def balance(self, female: Float, age: Float) -> dict[Target, Float]:
        """As `Recipe.balance`: rare ages, and genders rare at an age, count for more than their share."""
        known = np.isfinite(age)
        ages = np.ones(len(age), np.float32)
        if known.any():
            years = np.clip(age[known], 0, AGES_YEARS[-1]).astype(int)
            reach = np.arange(-4 * int(_AGE_WINDOW_YEARS), 4 * int(_AGE_WINDOW_YEARS) + 1)
            window = np.exp(-0.5 * (reach / _AGE_WINDOW_YEARS) ** 2)
            counts = np.bincount(years, minlength=len(AGES_YEARS))
            weights = np.convolve(counts, window / window.sum(), "same")[years] ** -_RARE_AGE
            weights = np.minimum(weights, _MOST_AGE_WEIGHT * np.median(weights))
            ages[known] = weights / weights.mean()
        labeled = np.isfinite(female)
        genders = np.ones(len(age), np.float32)
        # Those without an age are a band of their own.
        group = np.where(known, np.digitize(np.nan_to_num(age), _BANDS_YEARS), -1) * 2 + (female > 0.5)
        _, place, number = np.unique(group[labeled], return_inverse=True, return_counts=True)
        if labeled.any():
            weights = (number[place] / number[place].mean()) ** -_RARE_GENDER
            weights = np.minimum(weights, _MOST_GENDER_WEIGHT)
            weights *= np.where(age[labeled] < _CHILD_YEARS, _CHILD_SHARE, 1.0)
            weights *= np.where(female[labeled] > 0.5, _WOMEN, 1.0)
            genders[labeled] = weights / weights.mean()
        return {"gender": genders, "age": ages}

    def features(self, crops: NDArray[np.uint8], *, exact: bool = False) -> Float:
        """As `Recipe.features`."""
        return _backbones("f32" if exact else "auto").features(list(crops))

    def onnx(self, network: torch.nn.Module, targets: tuple[Target, ...]) -> bytes:
        """As `Recipe.onnx`: one file from the crop to the answers, the models that are read included."""
        return _whole(network, targets)

    def weights_alone(self, network: torch.nn.Module, targets: tuple[Target, ...]) -> bytes | None:
        """As `Recipe.weights_alone`: what `analyzer.vision.attributes.heads.Head` reads, in float16."""
        if set(targets) != set(self.targets):
            return None
        (mean, factor), *layers = _layers(network.body)
        heads = [_layers([network.heads[target]])[0] for target in ("age", "gender")]
        last = np.concatenate([one[0] for one in heads], axis=1), np.concatenate([one[1] for one in heads])
        arrays = {"mean": mean, "factor": factor}
        for number, (weights, biases) in enumerate([*layers, last]):
            arrays |= {f"w{number}": weights, f"b{number}": biases}
        file = io.BytesIO()
        np.savez(file, **{name: array.astype(np.float16) for name, array in arrays.items()})  # type: ignore[arg-type]
        return file.getvalue()


@functools.cache
def _backbones(precision: str) -> Backbones:
    return Backbones(Settings(precision=precision))


def _whole(network: torch.nn.Module, targets: tuple[Target, ...]) -> bytes:
    """The models that are read, and the head, as one ONNX model of (N, 3, 150, 150) crops."""
    import onnx
    from onnx import TensorProto, helper

    graph = _Graph()
    middle = graph.node("Slice", "faces", graph.add([5, 5]), graph.add([-5, -5]), graph.add([2, 3]))
    assert MARGIN_PX == 5
    size = EMBEDDING_CROP.size - 2 * MARGIN_PX
    read = [graph.graft(to_onnx(registry.weights(registry.EMBEDDING)), "faces", ["descriptors", "features"])]
    for model, side in ((registry.AGE, AGE_CROP_PX), (registry.GENDER, GENDER_CROP_PX)):
        content = registry.weights(model)
        probabilities = onnx.load_model_from_string(content).graph.output[0].name
        small = graph.shrunk(middle, size, side)
        read.append(graph.graft(content, small, [probabilities, INNER]))
    values = graph.node("Concat", *(name for names in read for name in names), axis=1)
    normal, *linear = _layers(network.body)
    values = graph.node("Mul", graph.node("Sub", values, graph.add(normal[0])), graph.add(normal[1]))
    for weights, biases in linear:
        values = graph.node(
            "Relu", graph.node("Add", graph.node("MatMul", values, graph.add(weights)), graph.add(biases))
        )
    for target in targets:
        ((weights, biases),) = _layers([network.heads[target]])
        graph.node("Add", graph.node("MatMul", values, graph.add(weights)), graph.add(biases), name=target)
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["count", _OUTPUTS[name].count])
        for name in targets
    ]
    side = EMBEDDING_CROP.size
    given = helper.make_tensor_value_info("faces", TensorProto.FLOAT, ["count", 3, side, side])
    made = helper.make_model(
        helper.make_graph(graph.nodes, "heads", [given], outputs, graph.weights),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR,
    )
    onnx.checker.check_model(made, full_check=True)
    whole: bytes = made.SerializeToString()
    return whole


def _layers(modules: Any) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Mean and factor of a normalization; weights (I, O) and biases of each linear layer."""
    from torch import nn

    found = []
    for one in modules:
        if isinstance(one, nn.BatchNorm1d):
            factor = 1 / np.sqrt(one.running_var.numpy() + one.eps)
            found.append((one.running_mean.numpy(), factor.astype(np.float32)))
        elif isinstance(one, nn.Linear):
            weights, biases = one.weight.detach().numpy(), one.bias.detach().numpy()
            found.append((np.ascontiguousarray(weights.T), biases))
    return found


class _Graph:
    """Nodes and weights of an ONNX graph that is being made."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def add(self, values: Any) -> str:
        """Add weights, and return their name."""
        from onnx import numpy_helper

        array = np.asarray(values)
        array = array.astype(np.int64 if array.dtype.kind == "i" else np.float32)
        name = f"weights_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def node(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add a node, and return the name of its output."""
        from onnx import helper

        made = name or f"value_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [made], **attributes))
        return made

    def graft(self, content: bytes, given: str, wanted: list[str]) -> list[str]:
        """Add another model that reads `given`, and return the names of its `wanted` values."""
        import onnx

        model = onnx.load_model_from_string(content)
        prefix = f"model_{len(self.nodes)}_"
        names = {model.graph.input[0].name: given}

        def renamed(name: str) -> str:
            return names.get(name, prefix + name) if name else ""

        for tensor in model.graph.initializer:
            tensor.name = renamed(tensor.name)
            self.weights.append(tensor)
        for node in model.graph.node:
            node.input[:] = [renamed(name) for name in node.input]
            node.output[:] = [renamed(name) for name in node.output]
            node.name = ""
            self.nodes.append(node)
        return [renamed(name) for name in wanted]

    def shrunk(self, given: str, size: int, side: int) -> str:
        """Shrink square images by the mean of the pixels that each new one covers, as OpenCV does.

        It is linear along each side: a product from the left and one from the right.
        """
        edges = np.arange(side + 1) * size / side
        low, high = edges[:-1, None], edges[1:, None]
        pixels = np.arange(size)[None]
        shares = np.clip(np.minimum(high, pixels + 1) - np.maximum(low, pixels), 0, None) * side / size
        rows = self.node("MatMul", self.add(shares.astype(np.float32)), given)
        return self.node("MatMul", rows, self.add(np.ascontiguousarray(shares.T.astype(np.float32))))


RECIPE = _Heads()
