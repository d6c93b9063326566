"""A small network, trained from nothing: for first tries, and where no other weights may be used."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from analyzer.training.recipes.base import Defaults, Recipe, Target
from analyzer.vision.crops import LandmarkCrop
from analyzer.vision.preprocessing import Pixels
from analyzer.vision.user_model import AgeOutput, GenderOutput

if TYPE_CHECKING:
    import torch

__all__ = ["RECIPE"]

_PX, _PADDING = 64, 0.25
_WIDTHS = (24, 48, 96, 160)
_YEARS = 101
_OUTPUTS: dict[Target, GenderOutput | AgeOutput] = {
    "gender": GenderOutput("logit", "gender", of="female"),
    "age": AgeOutput("logits", "age", ranges=tuple((year, year) for year in range(_YEARS))),
}


class _Small(Recipe):
    name = "small"
    summary = "a residual network of 0.6 million weights, from nothing, on aligned faces of 64 pixels"
    targets = ("gender", "age")
    crop = LandmarkCrop.padded(_PX, _PADDING)
    pixels = Pixels(rgb=True, means=(127.5,) * 3, scale=(64.0,) * 3)
    defaults = Defaults(
        epochs=30,
        batch=64,
        rate=2e-3,
        schedule="cosine",
        warmup_epochs=1,
        patience=10,
        weight_decay=0.02,
        averaging=0.995,
        bf16=True,
    )

    def build(self, targets: tuple[Target, ...]) -> torch.nn.Module:
        """As `Recipe.build`."""
        return _network(tuple((name, one.count) for name, one in self.outputs(targets).items()))

    def outputs(self, targets: tuple[Target, ...]) -> dict[Target, GenderOutput | AgeOutput]:
        """As `Recipe.outputs`."""
        return {target: _OUTPUTS[target] for target in targets}


def _network(heads: tuple[tuple[str, int], ...]) -> torch.nn.Module:
    from torch import nn

    def convolution(given: int, made: int, stride: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(given, made, 3, stride, 1, bias=False), nn.BatchNorm2d(made), nn.ReLU(inplace=True)
        )

    class Block(nn.Module):
        """Two convolutions, added to their input."""

        def __init__(self, given: int, made: int) -> None:
            super().__init__()
            self.first = convolution(given, made, 2)
            self.second = nn.Sequential(nn.Conv2d(made, made, 3, 1, 1, bias=False), nn.BatchNorm2d(made))
            self.short = nn.Sequential(
                nn.AvgPool2d(2), nn.Conv2d(given, made, 1, bias=False), nn.BatchNorm2d(made)
            )

        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return nn.functional.relu(self.second(self.first(values)) + self.short(values))

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            sizes = itertools.pairwise(_WIDTHS)
            self.body = nn.Sequential(
                convolution(3, _WIDTHS[0], 2),
                *(Block(given, made) for given, made in sizes),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Dropout(0.2),
            )
            self.heads = nn.ModuleDict({name: nn.Linear(_WIDTHS[-1], count) for name, count in heads})

        def forward(self, faces: torch.Tensor) -> dict[str, torch.Tensor]:
            values = self.body(faces)
            return {name: head(values) for name, head in self.heads.items()}

    return Network()


RECIPE = _Small()
