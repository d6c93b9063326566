"""What a recipe is: a network, its input, what its outputs mean, and how it is trained."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import SettingsError
from analyzer.training.augment import Augmentation
from analyzer.vision.crops import BoxCrop, LandmarkCrop
from analyzer.vision.preprocessing import Pixels
from analyzer.vision.user_model import AgeOutput, GenderOutput

if TYPE_CHECKING:
    import torch

__all__ = ["Defaults", "Labels", "Origin", "Recipe", "Target", "default_loss"]

Target = Literal["gender", "age"]
Float = NDArray[np.float32]
Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Defaults:
    """How a recipe is trained unless the user says otherwise."""

    epochs: int
    """At most."""
    batch: int
    """Faces in a step."""
    rate: float
    """The first learning rate."""
    schedule: Literal["plateau", "cosine"] = "plateau"
    """Whether the rate is reduced where the validation loss no longer falls, or along a cosine to the end."""
    warmup_epochs: float = 0.0
    """Over how many epochs the rate first rises."""
    patience: int = 6
    """Training stops early after so many epochs without a better validation loss."""
    keeps_last: bool = False
    """Whether the weights of the last epoch are kept, not those with the best validation loss."""
    weight_decay: float = 1e-4
    averaging: float = 0.0
    """Decay of the running average of the weights, which is then validated and exported; 0: none."""
    bf16: bool = False
    """Whether the network is computed in bfloat16 where the processor can (weights stay float32)."""


@dataclass(frozen=True)
class Origin:
    """What the first weights come from, other than chance."""

    name: str
    license: str
    commercial_use: bool | None
    """None: it is not clear."""
    source: str = ""


@dataclass(frozen=True, eq=False)
class Labels:
    """The labels of a batch of N faces, as tensors on the device of the network."""

    female: torch.Tensor
    """(N,) float32: 1 for female, 0 for male, NaN where not labeled."""
    age: torch.Tensor
    """(N,) float32 years; of a range its middle; NaN where not labeled."""
    age_low: torch.Tensor
    """(N,) float32: the first and, below, the last year of a labeled range; else both are `age`."""
    age_high: torch.Tensor
    gender_weight: torch.Tensor
    """(N,) float32: how much each face counts for gender and, below, for age; 1 on average."""
    age_weight: torch.Tensor


class Recipe(abc.ABC):
    """A network and how it is trained.

    A recipe is trained for those of its `targets` that the data has labels of: all methods are told for
    which. Modules of recipes import PyTorch inside functions alone.
    """

    name: str
    summary: str
    """One sentence, for the help and the card."""
    targets: tuple[Target, ...]
    """What it can estimate."""
    needs: tuple[Target, ...] = ()
    """What the data must have labels of; of the other targets it may."""
    crop: LandmarkCrop | BoxCrop
    """How its faces are cropped: of the size of its input."""
    pixels: Pixels
    defaults: Defaults
    paper: str = "none"
    augmentation: Augmentation = Augmentation()
    origins: tuple[Origin, ...] = ()
    """Licenses of its first weights: they count for what comes out, as those of the data do."""
    variants: int = 0
    """With `features`: of how many varied and coded views of each face (`augment.coded_together`) they are
    computed, besides those that the crops have."""
    start: str = ""
    """What else its first weights come from, as `started` was told; empty: as the recipe has it."""

    def started(self, start: str) -> Self:
        """The same recipe with other first weights.

        Args:
            start: A file, or what else the recipe knows.

        Raises:
            SettingsError: There are none to choose.
            ModelError: They are not there.
        """
        del start
        raise SettingsError(f"the recipe {self.name} has no other weights to start from: leave --start out")

    @abc.abstractmethod
    def build(self, targets: tuple[Target, ...]) -> torch.nn.Module:
        """A new network, seeded by PyTorch's own generator.

        Its `forward` takes (N, 3, H, W) float32 as `pixels` says ((N, D) with `features`), and returns a
        dictionary with a tensor (N, K) for each output that `outputs` names.

        Raises:
            ModelError: Its first weights are missing.
        """

    @abc.abstractmethod
    def outputs(self, targets: tuple[Target, ...]) -> dict[Target, GenderOutput | AgeOutput]:
        """What its outputs mean: `output` of each is the name of its tensor."""

    def loss(self, answers: Mapping[str, torch.Tensor], labels: Labels) -> torch.Tensor:
        """The loss of a batch, a scalar; by default `default_loss` for the outputs of `answers`."""
        targets = tuple(
            target for target, output in self.outputs(self.targets).items() if output.output in answers
        )
        return default_loss(self.outputs(targets), answers, labels)

    def groups(self, network: torch.nn.Module, rate: float) -> list[dict[str, Any]]:
        """Groups of parameters for the optimizer, each with its rate and whatever else it is to have."""
        return [{"params": [one for one in network.parameters() if one.requires_grad], "lr": rate}]

    def balance(self, female: Float, age: Float) -> dict[Target, Float]:
        """How much each of the faces to train on counts for each target, beside the weight of its set.

        Args:
            female: (N,) as in `Labels`.
            age: (N,) likewise.

        Returns:
            (N,) weights; a target that is not there counts alike everywhere.
        """
        del female, age
        return {}

    def features(self, crops: NDArray[np.uint8], *, exact: bool = False) -> Float:
        """The network's input where it is not the crops themselves: (N, D) float32.

        Args:
            crops: (N, H, W, 3) uint8 BGR of the size of `crop`.
            exact: Whether they are computed in float32, to compare with; else as in an analysis on this
                machine.

        Raises:
            NotImplementedError: The network takes the crops.
        """
        raise NotImplementedError

    @property
    def has_features(self) -> bool:
        """Whether `features` are computed once for each view, instead of varying the crops in each epoch."""
        return type(self).features is not Recipe.features

    def onnx(self, network: torch.nn.Module, targets: tuple[Target, ...]) -> bytes | None:
        """The trained network as an ONNX file, where a recipe has a way of its own; None: PyTorch writes it.

        The file takes (N, 3, H, W) as `pixels` says, and has the outputs of `outputs`.
        """
        del network, targets
        return None

    def weights_alone(self, network: torch.nn.Module, targets: tuple[Target, ...]) -> bytes | None:
        """The trained weights as an NPZ file, where the program itself reads such; None: it does not."""
        del network, targets
        return None


def default_loss(
    outputs: Mapping[Target, GenderOutput | AgeOutput],
    answers: Mapping[str, torch.Tensor],
    labels: Labels,
    *,
    age_std_years: float | torch.Tensor = 2.0,
    smoothing: float = 0.0,
    gender_share: float = 1.0,
) -> torch.Tensor:
    """The sum of a loss for each output, over the faces that are labeled.

    Gender: cross entropy. Age as years: the distance from the labeled range, in units of ten years. Age as
    classes: cross entropy with the labeled range, or with a normal distribution around the labeled age where
    there is a class for each year.

    Args:
        outputs: What the answers mean.
        answers: Of the network, by name.
        labels: Of the faces.
        age_std_years: Standard deviation of that distribution; or (N,) of each face.
        smoothing: How far the wanted probabilities of gender stay away from 0 and 1.
        gender_share: By how much the loss of gender is multiplied.
    """
    import torch

    total = torch.zeros((), device=labels.age.device)
    for output in outputs.values():
        answer = answers[str(output.output)].float()
        if isinstance(output, GenderOutput):
            each, known = _gender_loss(output, answer, labels, smoothing), ~torch.isnan(labels.female)
            each, weights = each * gender_share, labels.gender_weight * known
        else:
            each, known = _age_loss(output, answer, labels, age_std_years), ~torch.isnan(labels.age)
            weights = labels.age_weight * known
        total = total + (torch.where(known, each, 0.0) * weights).sum() / weights.sum().clamp(min=1e-6)
    return total


def _gender_loss(
    output: GenderOutput, answer: torch.Tensor, labels: Labels, smoothing: float
) -> torch.Tensor:
    import torch
    from torch.nn import functional

    female = smoothing + (1 - 2 * smoothing) * torch.nan_to_num(labels.female)
    if output.kind == "logit":
        wanted = female if output.of == "female" else 1 - female
        return functional.binary_cross_entropy_with_logits(answer[:, 0], wanted, reduction="none")
    if output.kind != "logits":
        raise NotImplementedError(f"a network is trained on logits, not on {output.kind}")
    number = output.classes.index("female")
    shares = torch.stack([1 - female, female] if number else [female, 1 - female], dim=1)
    return functional.cross_entropy(answer, shares, reduction="none")


_AGE_UNIT_YEARS = 10.0


def _age_loss(
    output: AgeOutput, answer: torch.Tensor, labels: Labels, std_years: float | torch.Tensor
) -> torch.Tensor:
    import torch
    from torch.nn import functional

    low, high = torch.nan_to_num(labels.age_low), torch.nan_to_num(labels.age_high)
    if output.kind == "years":
        years = answer[:, 0] * output.factor + output.offset_years
        return (functional.relu(low - years) + functional.relu(years - high)) / _AGE_UNIT_YEARS
    if output.kind != "logits":
        raise NotImplementedError(f"a network is trained on logits, not on {output.kind}")
    edges = torch.tensor(output.ranges, device=answer.device, dtype=torch.float32)
    middles, widths = edges.mean(dim=1), edges[:, 1] - edges[:, 0] + 1
    # How far each class lies from the labeled range.
    away = functional.relu(low[:, None] - edges[:, 1]) + functional.relu(edges[:, 0] - high[:, None])
    within = away <= away.amin(dim=1, keepdim=True)
    logs = functional.log_softmax(answer, dim=1)
    # Every distribution within a range is as good as another: its whole probability counts.
    loss = -torch.logsumexp(torch.where(within, logs, -torch.inf), dim=1)
    if float(widths.max()) > 1:
        return loss
    spread = torch.as_tensor(std_years, device=answer.device).reshape(-1, 1)
    normal = -0.5 * ((middles - torch.nan_to_num(labels.age)[:, None]) / spread) ** 2
    wanted = functional.softmax(normal, dim=1)
    return torch.where(low == high, -(wanted * logs).sum(dim=1), loss)
