"""Train a model: the same data, settings and processor give the same numbers, interrupted or not.

What is saved is saved under its name when it is whole. A checkpoint holds everything that the next batch
depends on: weights, optimizer, random numbers, place in the epoch, what was best so far. The best weights are
a file of their own, written before the checkpoint that knows of them.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import hashlib
import itertools
import json
import math
import os
import pickle
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyzer.errors import ModelError, SettingsError
from analyzer.training.augment import augmented, coded_together, generator
from analyzer.training.dataset import PLAIN, Crops
from analyzer.training.export import model_input
from analyzer.training.progress import Epoch, OnTraining, Preparing, Resumed, Step, ignore
from analyzer.training.recipes.base import Defaults, Labels, Recipe, Target
from analyzer.util.atomic import output_errors, writing
from analyzer.vision.user_model import AgeOutput, GenderOutput

if TYPE_CHECKING:
    import torch

__all__ = [
    "CHECKPOINT",
    "CURVES",
    "SHOWN_VIEW",
    "Fitted",
    "Plan",
    "answers_of",
    "chosen_device",
    "estimates_in",
    "fit",
]

Float = NDArray[np.float32]

CHECKPOINT, BEST, CURVES = "checkpoint.pt", "best.pt", "curves.csv"
_VERSION = 2

_SAVED_EVERY_S = 60.0
_PLATEAU_EPOCHS, _PLATEAU_FACTOR = 2, 0.3
"""After so many epochs without a better validation loss, the rate is multiplied by the second."""

SHOWN_VIEW = 2
"""The model is chosen by plain crops and by this view, a frame of a video, alike."""

_FEATURES, _FEATURES_AT_ONCE = 512, 32
"""Faces in a file of features, and how many are computed together."""

_CODED_TOGETHER = 30
"""Faces in a frame of `augment.coded_together`."""

_AHEAD = 2
"""Batches that are prepared ahead, for each thread."""

_HISTORY = (*("epoch", "rate", "loss", "validation_loss", "gender_right", "age_abs_error", "seconds"),)


@dataclass(frozen=True)
class Plan:
    """How to train."""

    how: Defaults
    seed: int = 0
    device: str = "cpu"
    """``cpu`` or ``cuda``."""
    threads: int = 1


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained network."""

    network: torch.nn.Module
    """With the best weights, in evaluation mode, on the processor."""
    targets: tuple[Target, ...]
    history: tuple[dict[str, Any], ...]
    """One row an epoch: its number from 1, rate, losses, `gender_right`, `age_abs_error`, seconds so far."""
    best: int
    """Number of the epoch whose weights were kept."""


class Batches(Protocol):
    """Where the model's input comes from."""

    def train(self, rows: NDArray[np.int64], epoch: int) -> Float:
        """Varied input for some faces in an epoch."""

    def exact(self, rows: NDArray[np.int64], view: int) -> Float:
        """The input as an analysis makes it."""


class CropBatches:
    """Crops, varied anew in each epoch."""

    def __init__(self, recipe: Recipe, crops: Crops, seed: int) -> None:
        self._recipe, self._crops, self._seed = recipe, crops, seed

    def train(self, rows: NDArray[np.int64], epoch: int) -> Float:
        """As `Batches.train`."""
        how, crops = self._recipe.augmentation, self._crops
        varied = []
        for row in rows.tolist():
            random = generator(self._seed, epoch, row)
            shown = random.random() < how.views
            view = int(random.integers(1, crops.views)) if shown and crops.views > 1 else PLAIN
            varied.append(augmented(crops.wide(row, view), crops.size, how, random))
        return model_input(np.stack(varied), self._recipe.pixels)

    def exact(self, rows: NDArray[np.int64], view: int) -> Float:
        """As `Batches.exact`."""
        exact = np.stack([self._crops.exact(row, view) for row in rows.tolist()])
        return model_input(exact, self._recipe.pixels)


class FeatureBatches:
    """Features, computed once for each view of a face and for its mirror image, and kept in files.

    Faces to train on also have `Recipe.variants` coded views.

    Raises:
        ModelError: The models that compute them are missing or failed.
        OutputError: A file cannot be written.
    """

    def __init__(self, recipe: Recipe, crops: Crops, plan: Plan, folder: Path, on_event: OnTraining) -> None:
        self._seed, self._columns = plan.seed, 2 * crops.views + recipe.variants
        self._lock = threading.Lock()
        self._epoch, self._chosen = -1, np.empty(0, np.int64)
        trained = crops.faces["part"].eq("train").to_numpy()
        with output_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        began, parts = time.monotonic(), []
        computed, total = 0, len(crops.faces)
        for number, rows in enumerate(_chunks(np.arange(total), _FEATURES)):
            path = folder / f"{number:05d}.npy"
            if not path.is_file():
                some = [self._computed(recipe, crops, few) for few in _chunks(rows, _FEATURES_AT_ONCE)]
                whole = np.concatenate(some)
                varied = np.zeros((len(rows), recipe.variants, whole.shape[2]), np.float16)
                places = np.flatnonzero(trained[rows])
                for variant in range(recipe.variants if len(places) else 0):
                    random = generator(0, variant, number)
                    mixed = random.permutation(places)
                    made = self._varied(recipe, crops, rows[mixed], random)
                    varied[mixed, variant] = made
                with writing(path) as temporary, temporary.open("wb") as file:
                    np.save(file, np.concatenate([whole, varied], axis=1))
                computed += len(rows)
            parts.append(np.load(path))
            done = int(rows[-1]) + 1
            left = (total - done) * (time.monotonic() - began) / computed if computed else None
            on_event(Preparing("computing features", done, total, 0, left))
        self._features = np.concatenate(parts)

    @staticmethod
    def _computed(recipe: Recipe, crops: Crops, rows: NDArray[np.int64]) -> NDArray[np.float16]:
        """(N, 2 V, D) float16."""
        columns = []
        for view in range(crops.views):
            exact = np.stack([crops.exact(row, view) for row in rows.tolist()])
            columns += [recipe.features(exact), recipe.features(np.ascontiguousarray(exact[:, :, ::-1]))]
        return np.stack(columns, axis=1).astype(np.float16)

    @staticmethod
    def _varied(
        recipe: Recipe, crops: Crops, rows: NDArray[np.int64], random: np.random.Generator
    ) -> NDArray[np.float16]:
        """(N, D) float16: of one coded view of each."""

        def coded(some: NDArray[np.int64]) -> NDArray[np.uint8]:
            wide = [crops.wide(row, PLAIN) for row in some.tolist()]
            return np.stack(coded_together(wide, crops.size, recipe.augmentation, random))

        # One thread, so that they draw in their order.
        with ThreadPoolExecutor(1, "coding") as pool:
            made = [recipe.features(one) for one in pool.map(coded, _chunks(rows, _CODED_TOGETHER))]
        return np.concatenate(made).astype(np.float16)

    def train(self, rows: NDArray[np.int64], epoch: int) -> Float:
        """As `Batches.train`."""
        with self._lock:
            if self._epoch != epoch:
                random = np.random.default_rng((self._seed, epoch, 1))
                self._epoch = epoch
                self._chosen = random.integers(0, self._columns, len(self._features))
            chosen = self._chosen[rows]
        return self._features[rows, chosen].astype(np.float32)

    def exact(self, rows: NDArray[np.int64], view: int) -> Float:
        """As `Batches.exact`."""
        return self._features[rows, 2 * view].astype(np.float32)


def chosen_device(name: str) -> str:
    """``cpu`` or ``cuda`` for ``auto``, ``cpu`` or ``cuda``.

    Raises:
        SettingsError: There is no GPU that PyTorch can use.
    """
    import torch

    has = torch.cuda.is_available()
    if name == "cuda" and not has:
        raise SettingsError(
            "PyTorch finds no GPU with CUDA on this machine: leave --device out, or install "
            "a driver and PyTorch's build for it"
        )
    return "cuda" if has and name != "cpu" else "cpu"


def fit(
    recipe: Recipe,
    targets: tuple[Target, ...],
    crops: Crops,
    plan: Plan,
    folder: Path,
    *,
    again: bool = False,
    on_event: OnTraining = ignore,
) -> Fitted:
    """Train a model, or continue to.

    Args:
        recipe: Which one.
        targets: What it learns.
        crops: Divided into parts.
        plan: How.
        folder: For checkpoints and curves; one that holds a checkpoint of the same work continues it.
        again: Whether a checkpoint there is removed.
        on_event: Told of each batch and epoch.

    Raises:
        SettingsError: The folder holds a checkpoint of other work.
        ModelError: The loss is not a number, or the first weights are missing.
        OutputError: Checkpoints cannot be written.
    """
    import torch

    torch.set_num_threads(plan.threads)
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in (CHECKPOINT, BEST) if again else ():
            (folder / name).unlink(missing_ok=True)
    with _repeatable(plan.seed):
        return _Trainer(recipe, targets, crops, plan, folder, on_event=on_event).run()


@contextlib.contextmanager
def _repeatable(seed: int) -> Iterator[None]:
    """Seed PyTorch, and choose algorithms that always give the same numbers; others only warn."""
    import torch

    # cuBLAS needs it to be repeatable, before its first use.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


class _Trainer:
    def __init__(
        self,
        recipe: Recipe,
        targets: tuple[Target, ...],
        crops: Crops,
        plan: Plan,
        folder: Path,
        *,
        on_event: OnTraining,
    ) -> None:
        import torch

        self._recipe, self._targets, self._crops, self._plan = recipe, targets, crops, plan
        self._folder, self._on_event = folder, on_event
        self._device = torch.device(plan.device)
        self._key = _key(recipe, targets, crops, plan)
        self._train, self._validate = crops.part("train"), crops.part("validate")
        how = plan.how
        self._batches = max(1, math.ceil(len(self._train) / how.batch))
        if len(self._train) % how.batch == 1 and self._batches > 1:
            self._batches -= 1  # a batch of one face has no variance to normalize by
        self._labels = _label_arrays(crops.faces)
        own = recipe.balance(self._labels["female"][self._train], self._labels["age"][self._train])
        for target, weights in own.items():
            self._labels[f"{target}_weight"][self._train] *= weights
        self._source: Batches
        if recipe.has_features:
            features = folder / f"features-{_data_key(recipe, crops)}"
            self._source = FeatureBatches(recipe, crops, plan, features, on_event)
        else:
            self._source = CropBatches(recipe, crops, plan.seed)
        self._network = recipe.build(targets).to(self._device)
        if not recipe.has_features:
            self._network = self._network.to(memory_format=torch.channels_last)
        groups = recipe.groups(self._network, how.rate)
        self._rates = [float(group["lr"]) for group in groups]
        self._optimizer = torch.optim.AdamW(groups, lr=how.rate, weight_decay=how.weight_decay)
        self._average = (
            {name: one.detach().clone() for name, one in self._network.state_dict().items()}
            if how.averaging
            else None
        )
        self._bf16 = how.bf16 and _computes_bf16(self._device)
        self._epoch = self._batch = self._step = 0
        self._sums = [0.0, 0.0]
        self._factor, self._stale, self._stale_at_rate = 1.0, 0, 0
        self._best, self._best_loss = 0, math.inf
        self._history: list[dict[str, Any]] = []
        self._spent_s = 0.0

    def run(self) -> Fitted:
        self._resume()
        began = time.monotonic() - self._spent_s
        epochs = self._plan.how.epochs
        while self._epoch < epochs and not self._ends():
            self._run_epoch(began)
            self._end_epoch(began)
        self._network.load_state_dict(_load(self._folder / BEST)["model"])
        return Fitted(self._network.eval().cpu(), self._targets, tuple(self._history), self._best)

    def _ends(self) -> str:
        if self._stale >= self._plan.how.patience:
            return f"no better for {self._stale} epochs"
        return ""

    # --- an epoch ----------------------------------------------------------------------------------------

    def _run_epoch(self, began: float) -> None:
        import torch

        how = self._plan.how
        rows = np.random.default_rng((self._plan.seed, self._epoch)).permutation(self._train)
        self._network.train()
        saved = time.monotonic()
        chunks = _chunks(rows, how.batch)[self._batch : self._batches]
        for some, values in self._ahead(chunks):
            self._set_rate()
            answers = self._answer(values)
            loss = self._recipe.loss(answers, self._tensors(some))
            if not math.isfinite(value := float(loss.detach())):
                raise ModelError(
                    f"the loss is not a number any more in epoch {self._epoch + 1}: train with a lower --rate"
                )
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._network.parameters(), _MAX_NORM)
            self._optimizer.step()
            self._batch += 1
            self._step += 1
            if self._average is not None:
                self._update_average()
            self._sums[0] += value * len(some)
            self._sums[1] += len(some)
            now = time.monotonic()
            self._spent_s = now - began
            done = self._epoch * self._batches + self._batch
            left = (how.epochs * self._batches - done) * self._spent_s / done if done > 2 else None
            mean = self._sums[0] / self._sums[1]
            self._on_event(Step(self._epoch + 1, how.epochs, self._batch, self._batches, mean, left))
            if now - saved >= _SAVED_EVERY_S and self._batch < self._batches:
                self._save()
                saved = now

    def _ahead(self, chunks: list[NDArray[np.int64]]) -> Iterator[tuple[NDArray[np.int64], Float]]:
        """Each batch of rows with its input, made in other threads while earlier ones are trained on."""
        waiting: deque[tuple[NDArray[np.int64], Future[Float]]] = deque()
        rest = iter(chunks)
        pool = ThreadPoolExecutor(self._plan.threads, "batches")
        try:
            for some in itertools.islice(rest, _AHEAD * self._plan.threads):
                waiting.append((some, pool.submit(self._source.train, some, self._epoch)))
            while waiting:
                some, future = waiting.popleft()
                values = future.result()
                if (following := next(rest, None)) is not None:
                    waiting.append((following, pool.submit(self._source.train, following, self._epoch)))
                yield some, values
        finally:
            pool.shutdown(cancel_futures=True)

    def _set_rate(self) -> None:
        how = self._plan.how
        factor = self._factor
        total, warmup = how.epochs * self._batches, how.warmup_epochs * self._batches
        if how.schedule == "cosine":
            share = min(1.0, max(0.0, (self._step - warmup) / max(1.0, total - warmup)))
            factor *= 0.5 * (1 + math.cos(math.pi * share))
        if self._step < warmup:
            factor *= (self._step + 1) / (warmup + 1)
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor

    def _answer(self, values: Float) -> Mapping[str, torch.Tensor]:
        import torch

        given = torch.from_numpy(values).to(self._device)
        if given.ndim == 4:
            given = given.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            answers = self._network(given)
        return {name: one.float() for name, one in answers.items()}

    def _tensors(self, rows: NDArray[np.int64]) -> Labels:
        import torch

        picked = {name: torch.from_numpy(one[rows]).to(self._device) for name, one in self._labels.items()}
        return Labels(**picked)

    def _update_average(self) -> None:
        import torch

        assert self._average is not None
        # At first the average is short, so that the random first weights are soon forgotten.
        decay = min(self._plan.how.averaging, (1 + self._step) / (10 + self._step))
        with torch.no_grad():
            for name, one in self._network.state_dict().items():
                if one.is_floating_point():
                    self._average[name].lerp_(one, 1 - decay)
                else:
                    self._average[name].copy_(one)

    def _end_epoch(self, began: float) -> None:
        how = self._plan.how
        state = self._average or self._network.state_dict()
        loss, figures = self._validated(state)
        better = loss < self._best_loss
        rate = self._optimizer.param_groups[0]["lr"]
        train_loss = self._sums[0] / self._sums[1]
        self._spent_s = time.monotonic() - began
        values = (self._epoch + 1, rate, train_loss, loss, *figures, round(self._spent_s, 1))
        self._history.append(dict(zip(_HISTORY, values, strict=True)))
        if better or how.keeps_last:
            self._best = self._epoch + 1
            self._store(BEST, {"model": state, "epoch": self._best})
        if better:
            self._best_loss = loss
            self._stale = self._stale_at_rate = 0
        else:
            self._stale += 1
            self._stale_at_rate += 1
            if how.schedule == "plateau" and self._stale_at_rate >= _PLATEAU_EPOCHS:
                self._factor *= _PLATEAU_FACTOR
                self._stale_at_rate = 0
        self._epoch, self._batch, self._sums = self._epoch + 1, 0, [0.0, 0.0]
        self._save()
        _write_curves(self._history, self._folder / CURVES)
        last = "the last epoch" if self._epoch == how.epochs else ""
        self._on_event(
            Epoch(self._epoch, how.epochs, train_loss, loss, *figures, rate, better, self._ends() or last)
        )

    def _validated(
        self, state: Mapping[str, torch.Tensor]
    ) -> tuple[float, tuple[float | None, float | None]]:
        """The validation loss; share of genders right and mean error of ages of plain crops."""
        import torch

        kept = None
        if self._average is not None:
            kept = {name: one.clone() for name, one in self._network.state_dict().items()}
            self._network.load_state_dict(state)
        self._network.eval()
        losses: list[tuple[float, int]] = []
        answers: dict[str, list[Float]] = {}
        views = (PLAIN, SHOWN_VIEW) if self._crops.views > SHOWN_VIEW else (PLAIN,)
        with torch.inference_mode():
            for view, rows in itertools.product(views, _chunks(self._validate, self._plan.how.batch)):
                given = self._answer(self._source.exact(rows, view))
                losses.append((float(self._recipe.loss(given, self._tensors(rows))), len(rows)))
                for name, one in given.items() if view == PLAIN else ():
                    answers.setdefault(name, []).append(one.cpu().numpy())
        if kept is not None:
            self._network.load_state_dict(kept)
        whole = {name: np.concatenate(parts) for name, parts in answers.items()}
        estimates = estimates_in(self._recipe, self._targets, whole)
        labels = {name: one[self._validate] for name, one in self._labels.items()}
        total = sum(loss * count for loss, count in losses) / sum(count for _, count in losses)
        return total, _figures(estimates, labels)

    # --- checkpoints -------------------------------------------------------------------------------------

    def _save(self) -> None:
        import torch

        state = {
            "key": self._key,
            "model": self._network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "average": self._average,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state() if self._device.type == "cuda" else None,
            **{name: getattr(self, f"_{name}") for name in _COUNTERS},
        }
        self._store(CHECKPOINT, state)

    def _store(self, name: str, state: dict[str, Any]) -> None:
        import torch

        with writing(self._folder / name) as temporary, temporary.open("wb") as file:
            torch.save(state, file)

    def _resume(self) -> None:
        import torch

        path = self._folder / CHECKPOINT
        if not path.is_file():
            return
        state = _load(path)
        if state["key"] != self._key:
            raise SettingsError(
                f"{self._folder} holds a training on other data or with other settings: name another folder "
                "with --out, or start anew with --again"
            )
        self._network.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self._average is not None:
            self._average = {name: one.to(self._device) for name, one in state["average"].items()}
        torch.set_rng_state(state["random"])
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(state["random_cuda"])
        for name in _COUNTERS:
            setattr(self, f"_{name}", state[name])
        if self._epoch < self._plan.how.epochs and not self._ends():
            self._on_event(Resumed(self._epoch + 1, self._plan.how.epochs, self._batch / self._batches))


_MAX_NORM = 5.0
"""Longer gradients are cut to this length."""

_COUNTERS = (
    *("epoch", "batch", "step", "sums", "factor", "stale", "stale_at_rate", "best", "best_loss", "history"),
    "spent_s",
)


def _load(path: Path) -> Any:
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError) as error:
        raise ModelError(f"{path} is damaged: start anew with --again") from error


def _key(recipe: Recipe, targets: tuple[Target, ...], crops: Crops, plan: Plan) -> str:
    """Identifies everything that the trained weights depend on."""
    how = dataclasses.asdict(plan.how)
    if plan.how.schedule == "plateau":
        del how["epochs"]  # more epochs continue
    del how["patience"]
    words = [
        _VERSION,
        targets,
        how,
        plan.seed,
        plan.device,
        recipe.augmentation,
        recipe.start,
        recipe.origins,
    ]
    return hashlib.sha256(repr([*words, _data_key(recipe, crops)]).encode()).hexdigest()[:16]


def _data_key(recipe: Recipe, crops: Crops) -> str:
    """Identifies the crops and their labels."""
    words = [_VERSION, recipe.name, recipe.crop.text, crops.pad, crops.views]
    words += [recipe.augmentation, recipe.variants] if recipe.has_features else []
    digest = hashlib.sha256(repr(words).encode())
    faces = crops.faces.drop(columns="path").astype(str)  # archives are unpacked elsewhere each time
    digest.update(pd.util.hash_pandas_object(faces).to_numpy().tobytes())
    return digest.hexdigest()[:16]


def _chunks(rows: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _label_arrays(faces: pd.DataFrame) -> dict[str, Float]:
    """(N,) float32 each: the arrays of `Labels`."""
    female = faces["true_gender"].map({"female": 1.0, "male": 0.0})
    weight = faces["weight"] / faces["weight"].mean()
    names = {"female": female, "age": faces["true_age"]}
    names |= {name: faces[name] for name in ("age_low", "age_high")}
    names |= {f"{target}_weight": weight for target in ("gender", "age")}
    return {name: values.to_numpy(np.float32, copy=True) for name, values in names.items()}


def _computes_bf16(device: torch.device) -> bool:
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


# --- answers -----------------------------------------------------------------------------------------


def answers_of(fitted: Fitted, values: Float) -> dict[str, Float]:
    """A trained model's outputs, by name, for its input."""
    import torch

    with torch.inference_mode():
        return {name: one.float().numpy() for name, one in fitted.network(torch.from_numpy(values)).items()}


def estimates_in(
    recipe: Recipe, targets: tuple[Target, ...], answers: Mapping[str, Float]
) -> dict[Target, Float]:
    """The probability of female and the age in years, (N,) float32 each, in a model's outputs."""
    names, arrays = list(answers), list(answers.values())
    estimates: dict[Target, Float] = {}
    for target, output in recipe.outputs(targets).items():
        if isinstance(output, GenderOutput):
            estimates[target] = output.read(arrays, names)
        elif isinstance(output, AgeOutput):
            estimates[target] = output.read(arrays, names)[0]
    return estimates


def _figures(
    estimates: Mapping[Target, Float], labels: Mapping[str, Float]
) -> tuple[float | None, float | None]:
    right = error = None
    if "gender" in estimates:
        known = ~np.isnan(labels["female"])
        right = float(np.mean((estimates["gender"] > 0.5)[known] == (labels["female"] > 0.5)[known]))
    if "age" in estimates:
        known = ~np.isnan(labels["age"])
        error = float(np.mean(np.abs(estimates["age"] - labels["age"])[known]))
    return right, error


def _write_curves(history: list[dict[str, Any]], path: Path) -> None:
    with writing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        rows = csv.DictWriter(file, _HISTORY)
        rows.writeheader()
        for row in history:
            rows.writerow({key: _short(value) for key, value in row.items()})


def _short(value: Any) -> Any:
    return "" if value is None else json.loads(f"{value:.6g}") if isinstance(value, float) else value
