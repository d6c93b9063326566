"""Trains the MobileNetV2 that this project ships: on labels and on the answers of a stronger teacher.

The network is that of the recipe ``mobilenetv2``, and starts from the same weights. From UTKFace's archives
for fitting it learns labels, and for each face what a teacher says that was not fitted on it: the
probabilities of ages, that of female, and features (`Teacher`). Statistics of batch normalization are
measured once on faces and then held, and the first blocks stay as they are: a step takes a third of the time.
The rate falls to 0 along a cosine, and the last epochs compute with the weights that eight bits leave.

Prints how right it is on the archives for choosing after each epoch, and writes the network as ONNX in 32 and
in eight bits. Interrupted, it continues after the last epoch.
"""

from __future__ import annotations

import argparse
import copy
import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from analyzer import Settings
from analyzer.evaluation.labels import read_labels
from analyzer.evaluation.views import Viewer
from analyzer.training.augment import Augmentation, augmented, generator
from analyzer.training.export import describe, model_input, quantized, write_onnx
from analyzer.training.recipes import find_recipe
from analyzer.util.atomic import writing
from analyzer.vision.crops import LandmarkCrop
from testkit.faces import CHOOSE, FIT, SHARED

if TYPE_CHECKING:
    import torch

Real = NDArray[np.float32]
Image = NDArray[np.uint8]

RECIPE = find_recipe("mobilenetv2")
assert isinstance(RECIPE.crop, LandmarkCrop)
TARGETS = RECIPE.targets
PX = 96
"""Less than the recipe's: a step takes three quarters of the time."""
CROP = LandmarkCrop(PX, RECIPE.crop.landmarks)
YEARS = np.arange(101, dtype=np.float32)

KEPT_PX, KEPT_PADDING = 160, 0.4
"""Of the crops that are kept, so that they can be moved and turned."""
WIDER = (1 + 2 * KEPT_PADDING) / (1 + 2 * 0.25)
"""How much wider they are than the network's."""

BATCH, RATE, HEADS_RATE, WEIGHT_DECAY = 32, 1.8e-4, 7.2e-4, 0.03
WARMUP_STEPS = 150
ROUNDED_FROM = 0.55
"""From which share of the epochs on the weights are those of eight bits."""
AVERAGING = 0.9985
FROZEN_BLOCKS = 3
TAUGHT = 0.65
"""How much the teacher's answers count, beside the labels."""
WEIGHTS = {"error": 0.08, "gender": 2.0, "features": 0.8}
"""Of a year of error, of the gender's cross entropy, of the features; the ages' cross entropy counts 1."""

HOW = Augmentation(soft=0.15, blur=0.08, noise=0.1, jpeg=0.15, gray=0.08, occlusion=0.08)


@dataclass(frozen=True, eq=False)
class Faces:
    """Labeled faces.

    Attributes:
        names: (N,) of their images.
        ages: (N,) years.
        female: (N,).
        crops: (N, `KEPT_PX`, `KEPT_PX`, 3) uint8 BGR.
    """

    names: NDArray[np.str_]
    ages: Real
    female: Real
    crops: Image

    def sized(self) -> list[Image]:
        """The crops, scaled so that their middle `PX` pixels are the network's input."""
        side = round(PX * WIDER)
        return [
            cv2.resize(one, (side, side), interpolation=cv2.INTER_AREA).astype(np.uint8) for one in self.crops
        ]


@dataclass(frozen=True, eq=False)
class Teacher:
    """What the teacher says, by the names of images: (N, 101) of age, (N,) of female, (N, D) features.

    In an .npz file of these names.
    """

    names: NDArray[np.str_]
    age: Real
    female: Real
    features: Real

    @classmethod
    def load(cls, path: Path, names: NDArray[np.str_]) -> Teacher:
        """The answers for images of these names."""
        with np.load(path) as file:
            row_of = {name: row for row, name in enumerate(file["names"].tolist())}
            rows = [row_of[name] for name in names.tolist()]
            return cls(names, *(file[key][rows].astype(np.float32) for key in ("age", "female", "features")))


def cropped(archives: range, cache: Path) -> Faces:
    """The faces of some archives, found and aligned as in an analysis."""
    parts = []
    for number in archives:
        path = cache / f"{number:02d}.npz"
        if not path.exists():
            cache.mkdir(parents=True, exist_ok=True)
            np.savez(path, **_cropped(number, cache / "unpacked"))
        with np.load(path) as file:
            parts.append({key: file[key] for key in file.files})
    joined = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    return Faces(joined["names"], joined["ages"], joined["female"], joined["crops"])


def _cropped(number: int, folder: Path) -> dict[str, NDArray[Any]]:
    archive = SHARED / "data" / "utkface" / f"utkface-{number:02d}.tar"
    material = read_labels(archive, folder / f"{number:02d}", None)
    assert material.faces is not None
    crop = LandmarkCrop.padded(KEPT_PX, KEPT_PADDING)
    rows = []
    for one in Viewer(Settings()).located(material.faces):
        if one.frame is None or one.reason:
            continue
        label = one.labels
        (image,) = crop.crop(one.frame, one.face)
        rows.append((label["name"], label["true_age"], label["true_gender"] == "female", image))
    names, ages, female, crops = zip(*rows, strict=True)
    return {
        "names": np.array(names),
        "ages": np.array(ages, np.float32),
        "female": np.array(female, np.float32),
        "crops": np.stack(crops),
    }


def middle(crops: list[Image]) -> Image:
    """(N, PX, PX, 3): the network's input as an analysis crops it."""
    start = (len(crops[0]) - PX) // 2
    return np.stack([one[start : start + PX, start : start + PX] for one in crops])


def distributions(ages: Real) -> Real:
    """(N, 101): a normal distribution around each age, wider for older people."""
    spread = np.clip(1.2 + ages / 25, 1.2, 4)[:, None]
    weights = np.exp(-0.5 * ((YEARS - ages[:, None]) / spread) ** 2)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


# --- the network ---------------------------------------------------------------------------------------


def hold_statistics(network: torch.nn.Module, hold: bool, rounded: bool = False) -> None:
    """Compute convolution and normalization as one, with the statistics that there are; or as before.

    Args:
        network: It is changed.
        hold: Which of both.
        rounded: Compute with weights as `quantized` rounds them: in 129 steps for each output channel.
            Gradients are those of the weights before rounding.
    """
    import torch
    from torch import nn
    from torch.nn import functional

    class Held(nn.Sequential):
        """A convolution, its normalization, and perhaps a ReLU6."""

        def forward(self, values: torch.Tensor) -> torch.Tensor:
            convolution, norm = self[0], self[1]
            factor = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
            weights = convolution.weight * factor[:, None, None, None]
            if rounded:
                whole = weights.detach()
                step = whole.abs().amax((1, 2, 3), keepdim=True) / 64
                weights = weights + (torch.round(whole / step) * step - whole)
            made = functional.conv2d(
                values,
                weights,
                norm.bias - norm.running_mean * factor,
                convolution.stride,
                convolution.padding,
                1,
                convolution.groups,
            )
            return functional.hardtanh_(made, 0.0, 6.0) if len(self) > 2 else made

    for module in network.modules():
        if isinstance(module, nn.Sequential) and len(module) and isinstance(module[0], nn.Conv2d):
            module.__class__ = Held if hold else nn.Sequential


def measure_statistics(network: torch.nn.Module, inputs: Real) -> None:
    """Set the statistics of batch normalization to those of a batch."""
    import torch
    from torch import nn

    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    network.train()
    with torch.no_grad():
        network(torch.from_numpy(inputs))


class Distillation:
    """A training."""

    def __init__(self, faces: Faces, teacher: Teacher, out: Path) -> None:
        import torch

        self._faces, self._teacher, self._out = faces, teacher, out
        torch.manual_seed(0)
        self.network: Any = RECIPE.build(TARGETS)
        self.features = torch.nn.Linear(1280, teacher.features.shape[1])
        first = middle(faces.sized()[:384])
        measure_statistics(self.network, model_input(first, RECIPE.pixels))
        hold_statistics(self.network, True)
        self.network.to(memory_format=torch.channels_last)
        for part in (self.network.stem, *self.network.blocks[:FROZEN_BLOCKS]):
            part.requires_grad_(False)
        heads = [*self.network.heads.parameters(), *self.features.parameters()]
        taken = set(map(id, heads))
        body = [one for one in self.network.parameters() if one.requires_grad and id(one) not in taken]
        self._optimizer = torch.optim.AdamW(
            [
                {"params": [one for one in body if one.ndim > 1], "rate": RATE},
                {"params": [one for one in body if one.ndim <= 1], "rate": RATE, "weight_decay": 0.0},
                {"params": heads, "rate": HEADS_RATE},
            ],
            weight_decay=WEIGHT_DECAY,
        )
        self._trained = [*body, *heads]
        self.average: Any = copy.deepcopy(self.network)
        self.epoch = self._step = 0
        labels = distributions(faces.ages)
        self._ages = (1 - TAUGHT) * labels + TAUGHT * teacher.age
        self._female = (1 - TAUGHT) * faces.female + TAUGHT * teacher.female
        if (out / "checkpoint.pt").exists():
            state = torch.load(out / "checkpoint.pt", weights_only=False)
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            self.features.load_state_dict(state["features"])
            if state["optimizer"] is not None:
                self._optimizer.load_state_dict(state["optimizer"])
            self.epoch, self._step = state["epoch"], state["step"]

    def train(self, crops: list[Image], epochs: int) -> None:
        """An epoch of so many."""
        for network in (self.network, self.average):
            hold_statistics(network, True, rounded=self.epoch >= ROUNDED_FROM * epochs)
        order = np.random.default_rng((7, self.epoch)).permutation(len(crops))
        batches = len(order) // BATCH
        for batch in range(batches):
            share = (1 + math.cos(math.pi * (self.epoch + batch / batches) / epochs)) / 2
            for group in self._optimizer.param_groups:
                group["lr"] = group["rate"] * share * min(1.0, (self._step + 1) / WARMUP_STEPS)
            self._train_on(order[batch * BATCH : (batch + 1) * BATCH], crops)
        self.epoch += 1

    def _train_on(self, rows: NDArray[np.int64], crops: list[Image]) -> None:
        import torch
        from torch.nn import functional

        shown = [augmented(crops[row], (PX, PX), HOW, generator(7, self.epoch, row)) for row in rows.tolist()]
        inputs = torch.from_numpy(model_input(np.stack(shown), RECIPE.pixels))
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                values = self.network.blocks[:FROZEN_BLOCKS](
                    self.network.stem(inputs.contiguous(memory_format=torch.channels_last))
                )
            values = self.network.top(self.network.blocks[FROZEN_BLOCKS:](values)).mean((2, 3)).float()
            answers = {name: head(self.network.drop(values)) for name, head in self.network.heads.items()}
            features = self.features(values).float()
        wanted = torch.from_numpy(self._ages[rows])
        logs = functional.log_softmax(answers["age"].float(), dim=1)
        years = torch.from_numpy(YEARS)
        loss = -(wanted * logs).sum(dim=1).mean()
        loss = loss + WEIGHTS["error"] * (logs.exp() @ years - wanted @ years).abs().mean()
        loss = loss + WEIGHTS["gender"] * functional.binary_cross_entropy_with_logits(
            answers["gender"].float()[:, 0], torch.from_numpy(self._female[rows])
        )
        taught = torch.from_numpy(self._teacher.features[rows])
        loss = loss + WEIGHTS["features"] * functional.smooth_l1_loss(features, taught)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._trained, 8.0)
        self._optimizer.step()
        self._step += 1
        decay = min(AVERAGING, (self._step + 10) / (self._step + 100))
        with torch.no_grad():
            for mean, one in zip(self.average.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(one, 1 - decay)

    def save(self) -> None:
        """Keep everything that the next epoch depends on."""
        import torch

        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "features": self.features.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "epoch": self.epoch,
            "step": self._step,
        }
        with writing(self._out / "checkpoint.pt") as temporary:
            torch.save(state, temporary)


def score(network: Any, faces: Faces) -> str:
    """How right a network is."""
    import torch

    crops = middle(faces.sized())
    network.eval()
    answers = []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for start in range(0, len(crops), 64):
            inputs = torch.from_numpy(model_input(crops[start : start + 64], RECIPE.pixels))
            answers.append(network(inputs.contiguous(memory_format=torch.channels_last)))
    network.train()
    logits = torch.cat([one["age"].float() for one in answers])
    ages = torch.softmax(logits, dim=1).numpy() @ YEARS
    female = torch.cat([one["gender"].float()[:, 0] for one in answers]).numpy() > 0
    right = female == (faces.female > 0.5)
    error = np.abs(ages - faces.ages).mean()
    grown = faces.ages >= 13
    return f"gender {right.mean():.2%}, from 13 on {right[grown].mean():.2%}, age {error:.3f} years off"


def mirrored(network: torch.nn.Module) -> torch.nn.Module:
    """A network that also looks at each face's mirror image, and answers with the mean of both."""
    import torch
    from torch import nn

    class Mirrored(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, faces: torch.Tensor) -> dict[str, torch.Tensor]:
            answers = self.network(torch.cat([faces, faces.flip(3)]))
            return {name: one.reshape(2, -1, one.shape[1]).mean(0) for name, one in answers.items()}

    return Mirrored()


def export(network: Any, faces: Faces, out: Path) -> None:
    """Write the network, its description, and the network in eight bits."""
    hold_statistics(network, False)
    whole = out / "mobilenetv2-f32.onnx"
    write_onnx(mirrored(network.eval()), RECIPE, TARGETS, whole, np.zeros((2, 3, PX, PX), np.float32))
    crops = middle(faces.sized()[:400])

    def inputs() -> Iterator[Real]:
        for start in range(0, len(crops), 20):
            yield model_input(crops[start : start + 20], RECIPE.pixels)

    quantized(whole, out / "mobilenetv2.onnx", inputs())
    text = describe(CROP, RECIPE.pixels, RECIPE.outputs(TARGETS), {}, None)
    (out / "mobilenetv2.toml").write_text(text.lstrip(), "utf-8")


def main() -> None:
    """Train and write."""
    import torch

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--teacher", type=Path, required=True, help="the teacher's answers, an .npz file")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and networks")
    parser.add_argument("--crops", type=Path, help="folder where crops are kept")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    load = functools.partial(cropped, cache=options.crops or options.out / "crops")
    faces, others = load(FIT), load(CHOOSE)
    training = Distillation(faces, Teacher.load(options.teacher, faces.names), options.out)
    crops = faces.sized()
    while training.epoch < options.epochs:
        training.train(crops, options.epochs)
        training.save()
        print(f"epoch {training.epoch}: {score(training.average, others)}", flush=True)
    export(training.average, faces, options.out)


if __name__ == "__main__":
    main()
