"""Train `heads-free`, the default of ``--commercial``, on portraits that may be used for anything.

dlib's own answers are carried through: the age as it is, because what is learned about ages from officials is
wrong about anybody else (models/heads.md); the gender with a correction that is kept small on clear crops,
and is free on small, soft and coded ones, where dlib takes many men for women. It learns from the members of
Congress and the people of London alone.

    python -m benchmarks.free_heads FOLDER

writes `heads-free.npz` into FOLDER, and for its calibration (`benchmarks.free_calibration`) three that have
not seen a third of the people, `free-fold-0.npz` to `free-fold-2.npz`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pandas as pd
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn
from torch.nn import functional

from analyzer.evaluation.labels import read_labels
from analyzer.evaluation.views import Viewer
from analyzer.settings import Settings
from analyzer.training.augment import coded_together, generator
from analyzer.training.dataset import wide_crops
from analyzer.training.recipes import find_recipe
from analyzer.vision import registry
from analyzer.vision.attributes.heads import AGES_YEARS, FEATURES
from analyzer.vision.crops import EMBEDDING_CROP
from analyzer.vision.dlib_resnet import DESCRIPTOR_SIZE
from benchmarks.accuracy import external
from benchmarks.free_calibration import FOLDS, fold_of

Real = NDArray[np.float32]

PAD_PX = 22
VARIANTS, TOGETHER = 8, 30
"""Coded views of each portrait, and how many are coded together."""
AGE_FROM = DESCRIPTOR_SIZE + 256 + 81
"""Where in the features that stands which dlib's last layer for ages reads; those of genders end them."""
AGES, WIDE, NARROW = 81, 96, 32
OLDER = -0.3
"""dlib's ages end at 80: each further year has this much less of the logit."""
EPOCHS, BATCH, RATE, DECAY = 14, 256, 1e-3, 0.3
CORRECTION, CODED = 0.1, 0.01
"""Price of a squared correction of the log odds, and the share of it on coded views."""
SMOOTHING, MOST_WEIGHT = 0.02, 3.0


class Portraits(NamedTuple):
    """Features of N portraits, each in V views."""

    features: NDArray[np.float16]
    """(N, V, F): as it is, mirrored, and coded ones."""
    female: NDArray[np.bool_]
    names: list[str]


def portraits() -> Portraits:
    """Find, crop, vary and read all of them."""
    settings = Settings()
    viewer, recipe = Viewer(settings), find_recipe("heads")
    wide, female, names = [], [], []
    with tempfile.TemporaryDirectory() as work:
        found = [read_labels(path, Path(work) / path.stem, None).faces for path in external(Path(work))]
        labels = pd.concat([one for one in found if one is not None], ignore_index=True)
        for one in viewer.located(labels):
            if one.frame is not None and not one.reason:
                wide.append(wide_crops(EMBEDDING_CROP, (PAD_PX, PAD_PX), one.frame, one.face)[0])
                female.append(one.labels["true_gender"] == "female")
                names.append(str(one.labels["name"]))
    inside = slice(PAD_PX, -PAD_PX)
    exact = [np.ascontiguousarray(one[inside, inside]) for one in wide]
    views = [exact, [np.ascontiguousarray(one[:, ::-1]) for one in exact]]
    for variant in range(VARIANTS):
        random = generator(0, variant, 0)
        order = random.permutation(len(wide))
        made: list[Any] = [None] * len(wide)
        for start in range(0, len(order), TOGETHER):
            rows = order[start : start + TOGETHER].tolist()
            size = (EMBEDDING_CROP.size, EMBEDDING_CROP.size)
            coded = coded_together([wide[row] for row in rows], size, recipe.augmentation, random)
            for row, one in zip(rows, coded, strict=True):
                made[row] = one
        views.append(made)
    read = [
        np.concatenate([recipe.features(np.stack(view[at : at + 32])) for at in range(0, len(view), 32)])
        for view in views
    ]
    return Portraits(np.stack(read, axis=1).astype(np.float16), np.array(female), names)


def last_layer(model: registry.Model) -> tuple[Real, Real]:
    """Weights (I, O) and biases of the last layer of one of dlib's models."""
    graph = onnx.load_model_from_string(registry.weights(model)).graph
    arrays = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    node = [one for one in graph.node if one.op_type == "Gemm"][-1]
    weights, biases = arrays[node.input[1]], arrays[node.input[2]]
    turned = any(one.name == "transB" and one.i for one in node.attribute)
    return (weights.T if turned else weights).astype(np.float32), biases.astype(np.float32)


class Correction(nn.Module):
    """What is added to dlib's log odds of female, and how these are weighed."""

    def __init__(self, mean: Real, factor: Real) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(mean))
        self.register_buffer("factor", torch.from_numpy(factor))
        self.first, self.second, self.last = (
            nn.Linear(FEATURES, WIDE),
            nn.Linear(WIDE, NARROW),
            nn.Linear(NARROW, 1),
        )
        with torch.no_grad():
            self.last.weight *= 0.05
            self.last.bias.zero_()
        self.own = nn.Parameter(torch.tensor([1.0, 0.0]))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        values = functional.dropout((features - self.mean) * self.factor, 0.2, self.training)
        for layer in (self.first, self.second):
            values = functional.dropout(torch.relu(layer(values)), 0.3, self.training)
        return self.last(values)[:, 0]


def trained(data: Portraits, kept: NDArray[np.bool_]) -> Correction:
    """Fit it to some of the portraits."""
    torch.manual_seed(0)
    views = data.features.shape[1]
    values = data.features[kept].reshape(-1, FEATURES).astype(np.float32)
    female = np.repeat(data.female[kept], views)
    clear = np.tile(np.arange(views) < 2, int(kept.sum()))
    network = Correction(values.mean(axis=0), 1 / (values.std(axis=0) + 0.01))
    weights, biases = last_layer(registry.GENDER)
    own = values[:, -len(weights) :] @ (weights[:, 0] - weights[:, 1]) + (biases[0] - biases[1])
    share = np.where(female, 0.5 / female.mean(), 0.5 / (1 - female.mean())).clip(max=MOST_WEIGHT)
    inputs, dlib, wanted, weight, price = (
        torch.from_numpy(np.asarray(one, np.float32))
        for one in (values, own, SMOOTHING + (1 - 2 * SMOOTHING) * female, share, np.where(clear, 1, CODED))
    )
    layers = [one for name, one in network.named_parameters() if name != "own"]
    groups = [
        {"params": layers, "weight_decay": DECAY},
        {"params": [network.own], "weight_decay": 0.0, "lr": RATE / 2},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.99))
    steps = EPOCHS * (len(values) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / 50) * 0.5 * (1 + np.cos(np.pi * min(1, step / steps)))
    )
    for _ in range(EPOCHS):
        order = torch.randperm(len(values))
        for rows in order[: len(order) // BATCH * BATCH].split(BATCH):
            more = network(inputs[rows])
            log_odds = dlib[rows] * network.own[0] + network.own[1] + more
            each = functional.binary_cross_entropy_with_logits(log_odds, wanted[rows], reduction="none")
            loss = (each * weight[rows] + CORRECTION * price[rows] * more**2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def merged(network: Correction) -> dict[str, NDArray[np.float16]]:
    """The arrays of a `Head`: dlib's logits are carried along as their positive and negative parts."""
    mean, factor = network.mean.numpy(), network.factor.numpy()
    age, gender = last_layer(registry.AGE), last_layer(registry.GENDER)
    odds = (gender[0][:, :1] - gender[0][:, 1:], gender[1][:1] - gender[1][1:])
    carried = AGES + 1
    weights, biases = np.zeros((FEATURES, carried), np.float32), np.zeros(carried, np.float32)
    last = FEATURES - len(odds[0])
    for start, (some, offset), columns in (
        (AGE_FROM, age, slice(0, AGES)),
        (last, odds, slice(AGES, carried)),
    ):
        rows = slice(start, start + len(some))
        weights[rows, columns] = some / factor[rows, None]
        biases[columns] = offset + mean[rows] @ some
    layers = [
        (one.weight.detach().numpy().T, one.bias.detach().numpy())
        for one in (network.first, network.second, network.last)
    ]
    both = np.eye(2 * carried, dtype=np.float32)
    middle = np.zeros((WIDE + 2 * carried, NARROW + 2 * carried), np.float32)
    middle[:WIDE, :NARROW], middle[WIDE:, NARROW:] = layers[1][0], both
    end = np.zeros((carried, len(AGES_YEARS) + 1), np.float32)
    end[np.arange(AGES), np.arange(AGES)] = 1
    end[AGES - 1, AGES : len(AGES_YEARS)] = 1
    scale, offset = network.own.detach().numpy()
    end[AGES, -1] = scale
    correction = np.zeros((NARROW, end.shape[1]), np.float32)
    correction[:, -1] = layers[2][0][:, 0]
    final = np.zeros(end.shape[1], np.float32)
    final[AGES : len(AGES_YEARS)] = OLDER * np.arange(1, len(AGES_YEARS) - AGES + 1)
    final[-1] = offset + layers[2][1][0]
    arrays = {
        **{"mean": mean, "factor": factor},
        "w0": np.concatenate([layers[0][0], weights, -weights], axis=1),
        "b0": np.concatenate([layers[0][1], biases, -biases]),
        **{"w1": middle, "b1": np.concatenate([layers[1][1], np.zeros(2 * carried)])},
        **{"w2": np.concatenate([correction, end, -end]), "b2": final},
    }
    return {name: array.astype(np.float16) for name, array in arrays.items()}


def main() -> None:
    """Train and write the four."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="to write into")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    data = portraits()
    fold = np.array([fold_of(name) for name in data.names])
    torch.set_num_threads(1)
    np.savez(folder / "heads-free.npz", **merged(trained(data, fold >= 0)))
    for number in range(FOLDS):
        np.savez(folder / f"free-fold-{number}.npz", **merged(trained(data, fold != number)))


if __name__ == "__main__":
    main()
