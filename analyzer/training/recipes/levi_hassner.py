"""The networks of Levi and Hassner, trained from nothing: one for gender, one for age."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from analyzer.training.recipes.base import Defaults, Recipe, Target
from analyzer.vision import registry
from analyzer.vision.user_model import LEVI_HASSNER, AgeOutput, GenderOutput

if TYPE_CHECKING:
    import torch

__all__ = ["RECIPE"]

_GENDER, _AGE = LEVI_HASSNER[registry.LEVI_HASSNER_GENDER.name], LEVI_HASSNER[registry.LEVI_HASSNER_AGE.name]
assert _GENDER.gender is not None and _AGE.age is not None
_OUTPUTS: dict[Target, GenderOutput | AgeOutput] = {
    "gender": replace(_GENDER.gender, kind="logits", output="gender"),
    "age": replace(_AGE.age, kind="logits", output="age"),
}
_CONVOLVED = 384 * 7 * 7


class _LeviHassner(Recipe):
    name = "levi-hassner"
    summary = (
        "the networks of Levi and Hassner (2015), from nothing: one for gender, one for age in eight ranges"
    )
    paper = _GENDER.model.paper
    targets = ("gender", "age")
    crop = _GENDER.crop
    pixels = _GENDER.pixels
    defaults = Defaults(
        epochs=60, batch=50, rate=2e-4, schedule="plateau", patience=10, weight_decay=5e-4, bf16=True
    )

    def build(self, targets: tuple[Target, ...]) -> torch.nn.Module:
        """As `Recipe.build`."""
        return _network(tuple((name, one.count) for name, one in self.outputs(targets).items()))

    def outputs(self, targets: tuple[Target, ...]) -> dict[Target, GenderOutput | AgeOutput]:
        """As `Recipe.outputs`."""
        return {target: _OUTPUTS[target] for target in targets}


def _network(heads: tuple[tuple[str, int], ...]) -> torch.nn.Module:
    from torch import nn

    def one(count: int) -> nn.Module:
        """As age_deploy.prototxt; Caffe's pooling counts a last, partial window."""
        layers = [
            *(nn.Conv2d(3, 96, 7, 4), nn.ReLU(inplace=True)),
            *(nn.MaxPool2d(3, 2, ceil_mode=True), nn.LocalResponseNorm(5, 1e-4, 0.75)),
            *(nn.Conv2d(96, 256, 5, padding=2), nn.ReLU(inplace=True)),
            *(nn.MaxPool2d(3, 2, ceil_mode=True), nn.LocalResponseNorm(5, 1e-4, 0.75)),
            *(nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, ceil_mode=True)),
            *(nn.Flatten(), nn.Linear(_CONVOLVED, 512), nn.ReLU(inplace=True), nn.Dropout(0.5)),
            *(nn.Linear(512, 512), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(512, count)),
        ]
        for layer in layers:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.normal_(layer.weight, std=0.01)  # as the paper says
                nn.init.zeros_(layer.bias)
        return nn.Sequential(*layers)

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.heads = nn.ModuleDict({name: one(count) for name, count in heads})

        def forward(self, faces: torch.Tensor) -> dict[str, torch.Tensor]:
            return {name: head(faces) for name, head in self.heads.items()}

    return Network()


RECIPE = _LeviHassner()
