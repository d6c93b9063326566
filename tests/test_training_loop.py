"""Training itself, on tiny networks: needs PyTorch."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from analyzer.cli import DONE, INTERRUPTED, NOTHING_USABLE, TERMINATED, cli
from analyzer.errors import ModelError, OutputError, SettingsError
from analyzer.settings import Settings
from analyzer.training.card import parity
from analyzer.training.dataset import Crops, divided
from analyzer.training.export import describe, write_onnx
from analyzer.training.loop import BEST, CHECKPOINT, CURVES, Fitted, Plan, chosen_device, fit
from analyzer.training.progress import Epoch, Resumed, Step, TrainingEvent
from analyzer.training.recipes import RECIPES, find_recipe
from analyzer.training.recipes.base import Defaults, Labels, Recipe, Target, default_loss
from analyzer.util import atomic
from analyzer.vision.attributes.heads import AGES_YEARS, Head
from analyzer.vision.attributes.user import UserModel
from analyzer.vision.crops import LandmarkCrop, padded_landmarks
from analyzer.vision.preprocessing import Pixels
from analyzer.vision.user_model import AgeOutput, GenderOutput, described
from testkit.faces import SHARED

torch = pytest.importorskip("torch", reason="training needs PyTorch: pip install 'audience-analyzer[train]'")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PX, PAD, COUNT = 16, 2, 160
BATCHES = 9
"""Of an epoch: there are 133 faces to train on."""


class Tiny(Recipe):
    """Two layers on crops of 16 pixels."""

    name = "tiny"
    summary = "for tests"
    targets = ("gender", "age")
    crop = LandmarkCrop(PX, tuple((round(float(x), 4), round(float(y), 4)) for x, y in padded_landmarks(0.2)))
    pixels = Pixels(rgb=True, means=(127.5,) * 3, scale=(64.0,) * 3)
    defaults = Defaults(epochs=3, batch=16, rate=5e-3)

    def build(self, targets: tuple[Target, ...]) -> Any:
        heads = {name: one.count for name, one in self.outputs(targets).items()}

        class Network(torch.nn.Module):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.body = torch.nn.Sequential(
                    torch.nn.Conv2d(3, 8, 3, 2, 1),
                    torch.nn.BatchNorm2d(8),
                    torch.nn.ReLU(),
                    torch.nn.Flatten(),
                    torch.nn.Dropout(0.1),
                )
                self.heads = torch.nn.ModuleDict(
                    {name: torch.nn.Linear(8 * 64, count) for name, count in heads.items()}
                )

            def forward(self, faces: Any) -> dict[str, Any]:
                values = self.body(faces)
                return {name: head(values) for name, head in self.heads.items()}

        return Network()

    def outputs(self, targets: tuple[Target, ...]) -> dict[Target, GenderOutput | AgeOutput]:
        every: dict[Target, GenderOutput | AgeOutput] = {
            "gender": GenderOutput("logit", "gender", of="female"),
            "age": AgeOutput("years", "age", factor=10.0, offset_years=40.0),
        }
        return {target: every[target] for target in targets}


class OnFeatures(Tiny):
    """The same, told of mean colors alone."""

    name = "on-features"

    def build(self, targets: tuple[Target, ...]) -> Any:
        class Network(torch.nn.Module):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.heads = torch.nn.ModuleDict({target: torch.nn.Linear(3, 1) for target in targets})

            def forward(self, values: Any) -> dict[str, Any]:
                return {name: head(values) for name, head in self.heads.items()}

        return Network()

    def features(self, crops: NDArray[np.uint8], *, exact: bool = False) -> NDArray[np.float32]:
        return ((crops.mean(axis=(1, 2)) - 127.5) / 20).astype(np.float32)


def made_crops(count: int = COUNT, views: int = 2) -> Crops:
    """Noise that is redder for women and greener with age."""
    random = np.random.default_rng(3)
    female, ages = np.arange(count) % 2 == 1, random.integers(20, 60, count)
    pixels = random.integers(70, 180, (count, views, PX + 2 * PAD, PX + 2 * PAD, 3)).astype(np.float32)
    pixels[..., 2] += np.where(female, 25, -25)[:, None, None, None]
    pixels[..., 1] += (ages - 40)[:, None, None, None]
    table = pd.DataFrame(
        {
            **{"path": Path("x.jpg"), "name": [f"{number}.jpg" for number in range(count)]},
            "true_gender": np.where(female, "female", "male"),
            **dict.fromkeys(("true_age", "age_low", "age_high"), ages.astype(float)),
            **{"true_race": "", "person": "", "set": 0, "weight": 1.0, "use": "split", "block": 0},
            **{"place": np.arange(count), "views": (1 << views) - 1, "face_px": 80.0, "quality": 0.9},
            "hash": [random.bytes(32).hex() for _ in range(count)],
        }
    )
    block = pixels.clip(0, 255).astype(np.uint8)
    return divided(Crops(table, pd.DataFrame(columns=["name", "reason"]), (PX, PX), (PAD, PAD), (block,)))


def trained(
    folder: Path,
    recipe: Recipe | None = None,
    targets: tuple[Target, ...] = ("gender", "age"),
    on_event: Callable[[TrainingEvent], None] = lambda event: None,
    again: bool = False,
    **how: Any,
) -> Fitted:
    chosen = recipe or Tiny()
    plan = Plan(dataclasses.replace(chosen.defaults, **how), threads=1)
    return fit(chosen, targets, made_crops(), plan, folder, again=again, on_event=on_event)


def same(one: Fitted, other: Fitted) -> bool:
    pairs = zip(one.network.state_dict().values(), other.network.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


# --- the same numbers --------------------------------------------------------------------------------


def test_the_same_data_and_seed_give_the_same_weights_and_learn(tmp_path: Path) -> None:
    one, other = trained(tmp_path / "a", epochs=6), trained(tmp_path / "b", epochs=6)
    assert same(one, other)
    drop = ["seconds"]
    histories = [pd.DataFrame(fitted.history).drop(columns=drop) for fitted in (one, other)]
    pd.testing.assert_frame_equal(*histories)
    last = one.history[one.best - 1]
    assert last["gender_right"] > 0.9 and last["age_abs_error"] < 9, last
    plan = Plan(Tiny.defaults, seed=1, threads=1)
    assert not same(one, fit(Tiny(), ("gender", "age"), made_crops(), plan, tmp_path / "c"))
    curves = pd.read_csv(tmp_path / "a" / CURVES)
    assert curves["epoch"].tolist() == [1, 2, 3, 4, 5, 6]
    assert curves["validation_loss"].tolist() == pytest.approx(
        [row["validation_loss"] for row in one.history], rel=1e-4
    )


class _StopError(Exception):
    pass


@pytest.mark.parametrize("averaging", [0.0, 0.9])
@pytest.mark.parametrize("schedule", ["plateau", "cosine"])
def test_an_interrupted_training_continues_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, averaging: float, schedule: str
) -> None:
    how: dict[str, Any] = {"averaging": averaging, "schedule": schedule, "warmup_epochs": 0.5}
    whole = trained(tmp_path / "whole", **how)
    monkeypatch.setattr("analyzer.training.loop._SAVED_EVERY_S", 0.0)  # a checkpoint after every batch
    resumed: list[Resumed] = []
    for stop_at in (3, 9, 12):
        steps = 0

        def stop(event: TrainingEvent, stop_at: int = stop_at) -> None:
            nonlocal steps
            if isinstance(event, Resumed):
                resumed.append(event)
            steps += isinstance(event, Step)
            if steps == stop_at:
                raise _StopError

        with pytest.raises(_StopError):
            trained(tmp_path / "parts", on_event=stop, **how)
    parts = trained(tmp_path / "parts", **how)
    assert same(whole, parts) and parts.best == whole.best
    assert [(one.epoch, round(one.fraction * BATCHES)) for one in resumed] == [(1, 2), (2, 1)]
    seconds = [row["seconds"] for row in parts.history]
    assert seconds == sorted(seconds) and len(seconds) == 3
    # A complete one says the same again, without training.
    events: list[TrainingEvent] = []
    assert same(whole, trained(tmp_path / "parts", on_event=events.append, **how)) and not events


_KILLED = """
import os, signal, sys
sys.path[:0] = sys.argv[3:]
import torch
from pathlib import Path
from analyzer.training import loop
from tests.test_training_loop import trained

loop._SAVED_EVERY_S = 0.0
save, left = torch.save, int(sys.argv[2])

def killed(state, file):
    global left
    left -= 1
    if not left:
        file.write(b"half of a checkpoint")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    save(state, file)

torch.save = killed
trained(Path(sys.argv[1]))
"""


def test_a_kill_in_the_middle_of_a_checkpoint_costs_no_more_than_a_batch(tmp_path: Path) -> None:
    for number in (5, 4):
        done = subprocess.run(
            [sys.executable, "-c", _KILLED, str(tmp_path / "parts"), str(number), str(ROOT)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=False,
            capture_output=True,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert (tmp_path / "parts" / CHECKPOINT).is_file()
    resumed: list[Resumed] = []
    parts = trained(
        tmp_path / "parts",
        on_event=lambda event: resumed.append(event) if isinstance(event, Resumed) else None,
    )
    # Four, then three checkpoints were whole.
    assert [(one.epoch, round(one.fraction * BATCHES)) for one in resumed] == [(1, 7)]
    assert same(parts, trained(tmp_path / "whole"))
    assert not list((tmp_path / "parts").glob(".*.part"))


# --- when it ends, and what is refused ---------------------------------------------------------------


def test_training_ends_early_and_keeps_the_best(tmp_path: Path) -> None:
    epochs: list[Epoch] = []
    fitted = trained(
        tmp_path,
        epochs=40,
        patience=3,
        rate=0.05,
        on_event=lambda event: epochs.append(event) if isinstance(event, Epoch) else None,
    )
    losses = [row["validation_loss"] for row in fitted.history]
    assert fitted.best == 1 + int(np.argmin(losses)) and len(losses) == fitted.best + 3 < 40
    assert epochs[-1].ends == "no better for 3 epochs" and epochs[fitted.best - 1].best
    rates = [row["rate"] for row in fitted.history]
    assert rates[-1] < rates[0]  # reduced on the plateau
    # More patience continues.
    assert len(trained(tmp_path, epochs=40, patience=5, rate=0.05).history) > len(losses)


def test_a_recipe_may_keep_its_last_epoch(tmp_path: Path) -> None:
    fitted = trained(tmp_path / "last", epochs=12, patience=40, rate=0.05, keeps_last=True)
    losses = [row["validation_loss"] for row in fitted.history]
    assert fitted.best == len(losses) == 12 and int(np.argmin(losses)) + 1 < 12
    best = trained(tmp_path / "best", epochs=12, patience=40, rate=0.05)
    assert best.best == 1 + int(np.argmin(losses)) and not same(fitted, best)


def test_other_work_in_the_folder_is_refused(tmp_path: Path) -> None:
    trained(tmp_path, epochs=1)
    with pytest.raises(SettingsError, match="holds a training on other data or with other settings: name an"):
        trained(tmp_path, batch=32)
    assert len(trained(tmp_path, batch=32, epochs=1, again=True).history) == 1
    assert len(trained(tmp_path, batch=32, epochs=2).history) == 2  # more epochs of the same


def test_a_loss_that_is_no_number_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="the loss is not a number any more in epoch 1: train with a lower"):
        trained(tmp_path, rate=1e30)


def test_a_damaged_checkpoint_is_one_sentence(tmp_path: Path) -> None:
    trained(tmp_path, epochs=1)
    for content in (b"", b"not a checkpoint", (tmp_path / CHECKPOINT).read_bytes()[:500]):
        (tmp_path / CHECKPOINT).write_bytes(content)
        with pytest.raises(ModelError, match=r"checkpoint\.pt is damaged: start anew with --again"):
            trained(tmp_path, epochs=2)


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(tmp_path, epochs=1)
    before = (tmp_path / CHECKPOINT).read_bytes(), (tmp_path / BEST).read_bytes()

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "fsync", full)
        with pytest.raises(OutputError, match="no space is left for") as caught:
            trained(tmp_path, epochs=2)
    assert caught.value.no_space
    assert before == ((tmp_path / CHECKPOINT).read_bytes(), (tmp_path / BEST).read_bytes())
    assert same(trained(tmp_path, epochs=2), trained(tmp_path / "whole", epochs=2))


def test_a_gpu_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert chosen_device("auto") == chosen_device("cpu") == "cpu"
    with pytest.raises(SettingsError, match="PyTorch finds no GPU"):
        chosen_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert chosen_device("auto") == chosen_device("cuda") == "cuda" and chosen_device("cpu") == "cpu"


# --- losses ------------------------------------------------------------------------------------------


def labels(female: list[float], low: list[float], high: list[float], weight: list[float]) -> Labels:
    ends = torch.tensor(low), torch.tensor(high)
    return Labels(
        torch.tensor(female), (ends[0] + ends[1]) / 2, *ends, torch.tensor(weight), torch.tensor(weight)
    )


NAN = float("nan")


def test_losses_are_those_of_the_labeled_alone() -> None:
    gender: dict[Target, GenderOutput | AgeOutput] = {"gender": GenderOutput("logit", "g", of="male")}
    given = labels([1.0, NAN, 0.0], [NAN] * 3, [NAN] * 3, [1.0, 1.0, 3.0])
    loss = default_loss(gender, {"g": torch.tensor([[0.0], [50.0], [2.0]])}, given)
    assert float(loss) == pytest.approx((np.log(2) + 3 * np.log1p(np.exp(-2.0))) / 4)
    two: dict[Target, GenderOutput | AgeOutput] = {
        "gender": GenderOutput("logits", "g", classes=("female", "male"))
    }
    loss = default_loss(two, {"g": torch.tensor([[1.0, 0.0], [9.0, 0.0], [1.0, 0.0]])}, given)
    right, wrong = np.log1p(np.exp(-1.0)), np.log1p(np.exp(1.0))
    assert float(loss) == pytest.approx((right + 3 * wrong) / 4)


def test_ages_may_be_ranges() -> None:
    years: dict[Target, GenderOutput | AgeOutput] = {"age": AgeOutput("years", "a", factor=10.0)}
    given = labels([NAN] * 3, [20.0, 30.0, NAN], [29.0, 30.0, NAN], [1.0] * 3)
    loss = default_loss(years, {"a": torch.tensor([[2.5], [3.4], [9.0]])}, given)
    assert float(loss) == pytest.approx((0 + 0.4) / 2)
    ranges = tuple((year, year) for year in range(101))
    classes: dict[Target, GenderOutput | AgeOutput] = {"age": AgeOutput("logits", "a", ranges=ranges)}
    even = torch.zeros((3, 101))
    # All of a range counts alike; a single year is a normal distribution around it.
    loss = default_loss(classes, {"a": even}, given)
    assert float(loss) == pytest.approx((np.log(101 / 10) + np.log(101)) / 2, rel=1e-4)
    peaked = even.clone()
    peaked[1, 30] = peaked[0, 25] = 20.0
    assert float(default_loss(classes, {"a": peaked}, given)) > 1  # sure of one year of several near ones
    bands: dict[Target, GenderOutput | AgeOutput] = {
        "age": AgeOutput("logits", "a", ranges=((0, 2), (4, 19), (25, 60)))
    }
    loss = default_loss(bands, {"a": torch.zeros((3, 3))}, given)
    assert float(loss) == pytest.approx(np.log(3), rel=1e-4)  # 20 to 29 reaches the last band, as does 30
    gradient = torch.zeros((3, 3), requires_grad=True)
    default_loss(bands, {"a": gradient}, given).backward()
    assert torch.isfinite(gradient.grad).all() and not gradient.grad[2].any()


# --- what comes out ----------------------------------------------------------------------------------


@pytest.mark.parametrize("targets", [("gender", "age"), ("gender",), ("age",)])
def test_the_file_says_what_pytorch_says(tmp_path: Path, targets: tuple[Target, ...]) -> None:
    recipe = Tiny()
    fitted = trained(tmp_path, targets=targets, epochs=1)
    path = tmp_path / "net.onnx"
    write_onnx(fitted.network, recipe, targets, path)
    text = describe(recipe.crop, recipe.pixels, recipe.outputs(targets), {"license": "x"}, True)
    path.with_suffix(".toml").write_text(text)
    crops = made_crops()
    found = parity(recipe, fitted, crops, {"f32": path}, Settings(threads=1))
    assert found["faces"] == len(crops.part("test")) > 5 and set(found["f32"]) == set(targets)
    assert all(one["largest"] < 2e-3 for one in found["f32"].values()), found


def test_every_recipe_can_be_built_and_written(tmp_path: Path) -> None:
    for name in RECIPES:
        recipe = find_recipe(name)
        assert recipe.name == name and recipe.summary
        sizes = {target: output.count for target, output in recipe.outputs(recipe.targets).items()}
        assert set(sizes) == set(recipe.targets), name


def test_a_head_is_written_with_the_models_that_it_reads(
    tmp_path: Path, two_portraits: tuple[NDArray[np.uint8], NDArray[np.uint8]]
) -> None:
    recipe, targets = find_recipe("heads"), ("gender", "age")
    random = np.random.default_rng(0)
    crops = []
    for portrait in two_portraits:
        for _ in range(4):
            x, y = random.integers(40, 100, 2)
            crops.append(np.ascontiguousarray(portrait[y : y + 150, x : x + 150, ::-1]))
    features = recipe.features(np.stack(crops))
    torch.manual_seed(0)
    network = recipe.build(targets)
    for _ in range(30):  # learns how features are spread
        network(torch.from_numpy(features))
    network.eval()
    with torch.inference_mode():
        wanted = {name: one.numpy() for name, one in network(torch.from_numpy(features)).items()}
    path = tmp_path / "head.onnx"
    path.write_bytes(recipe.onnx(network, targets) or b"")
    text = describe(recipe.crop, recipe.pixels, recipe.outputs(targets), {"license": "x"}, True)
    path.with_suffix(".toml").write_text(text)
    found = UserModel(described(path), Settings(precision="f32", threads=1)).estimate(crops)
    assert found.female is not None and found.age_years is not None
    female = 1 / (1 + np.exp(-wanted["gender"][:, 0]))
    shares = np.exp(wanted["age"]) / np.exp(wanted["age"]).sum(axis=1, keepdims=True)
    # Shrunk crops are rounded to whole numbers only where OpenCV shrinks them.
    np.testing.assert_allclose(found.female, female, atol=3e-3)
    np.testing.assert_allclose(found.age_years, shares @ np.arange(101), atol=0.1)
    assert np.ptp(female) > 0.01
    # The program reads the same head in half precision.
    alone = Head.parsed(recipe.weights_alone(network, targets) or b"")(features)
    assert alone.female is not None and alone.age_years is not None
    np.testing.assert_allclose(alone.female, female, atol=2e-3)
    np.testing.assert_allclose(alone.age_years, shares @ AGES_YEARS, atol=0.1)
    assert recipe.weights_alone(network, ("gender",)) is None


def test_features_are_computed_once(tmp_path: Path) -> None:
    recipe = OnFeatures()
    calls: list[int] = []
    compute = recipe.features
    recipe.features = lambda crops: (calls.append(len(crops)), compute(crops))[1]  # type: ignore[method-assign]
    fitted = trained(tmp_path, recipe, epochs=8, rate=0.1)
    assert sum(calls) == 2 * 2 * len(made_crops().faces)  # each view, and its mirror image
    assert fitted.history[fitted.best - 1]["gender_right"] > 0.9
    calls.clear()
    trained(tmp_path, recipe, epochs=9, rate=0.1)
    assert not calls
    # Coded views of those to train on.
    recipe.variants = 3
    trained(tmp_path / "more", recipe, epochs=2, rate=0.1)
    crops = made_crops()
    assert sum(calls) == 2 * 2 * len(crops.faces) + 3 * len(crops.part("train"))
    (whole,) = (np.load(path) for path in (tmp_path / "more").glob("features-*/*.npy"))
    varied = whole[crops.part("train"), 4:]
    assert whole.shape[1] == 4 + 3 and (np.ptp(varied[:, :, 2], axis=1) > 0).all()
    # Each row holds views of its own face: the redness by which genders are made is still there.
    female = (crops.faces["true_gender"] == "female").to_numpy()[crops.part("train")]
    assert varied[female, :, 2].mean() > varied[~female, :, 2].mean() + 0.5
    assert not whole[crops.part("test"), 4:].any()


def test_what_is_rare_counts_for_more() -> None:
    recipe = find_recipe("heads")
    age = np.array([30.0] * 900 + [70.0] * 50 + [5.0] * 50 + [np.nan] * 4, np.float32)
    female = np.array(([0.0] * 9 + [1.0]) * 90 + [0.0, 1.0] * 50 + [np.nan, 1.0, 0.0, 1.0], np.float32)
    weights = recipe.balance(female, age)
    assert weights["age"][905] > 1.5 * weights["age"][0] > 0
    assert weights["age"][:1000].mean() == pytest.approx(1, abs=1e-4) and np.all(weights["age"][1000:] == 1)
    men, women = weights["gender"][0], weights["gender"][9]
    assert women > 2 * men
    # Children's genders, which faces hardly show, count for less than those of the old.
    assert weights["gender"][951] < 0.5 * weights["gender"][901]
    assert weights["gender"][1000] == 1  # not labeled


def utkface_run(out: Path, *more: str) -> list[str]:
    tar = SHARED / "data" / "utkface" / "utkface-00.tar"
    return [
        *("train", str(tar), "--recipe", "small", "--out", str(out), "--limit", "150", "--epochs", "2"),
        *("--no-filmed", "--threads", "1", "--measured", "12", *more),
    ]


@pytest.mark.shared
def test_from_pictures_to_a_network_in_use(tmp_path: Path) -> None:
    out = tmp_path / "mine"
    terms = ("--license", "research only", "--no-commercial-use", "--int8", "--batch", "32")
    done = CliRunner().invoke(cli, utkface_run(out, *terms), prog_name="analyzer")
    assert done.exit_code == DONE, done.output
    assert "likelier gender right" in done.output and "Epoch 2/2" in done.output
    names = {path.name for path in out.iterdir()}
    written = {"mine.onnx", "mine.toml", "mine-int8.onnx", "mine-int8.toml", "card.json", "card.md"}
    assert written | {"curves.csv", "curves.png", "left_out.csv"} <= names
    card = json.loads((out / "card.json").read_text())
    assert card["terms"]["commercial_use"] is False and card["sets"][0]["used"] == 150
    counts = {part: counts["faces"] for part, counts in card["split"].items()}
    assert sum(counts.values()) + sum(card["left_out"].values()) == 150
    assert card["parity"]["f32"]["age"]["largest"] < 0.05 and card["parity"]["int8"]["gender"]["mean"] < 0.1
    found = card["held_out"]["f32"]["plain"]
    assert found["labeled"] == counts["test"] and found["groups"]["true_race"]
    assert set(card["evaluation"]) == {"faces", "targets", "before", "after"}
    page = (out / "card.md").read_text()
    assert "## Before and after" in page and "research only" in page
    added = CliRunner().invoke(
        cli, ["models", "add", str(out / "mine-int8.onnx"), "--to", str(tmp_path / "models")]
    )
    assert added.exit_code == DONE, added.output
    # --commercial refuses it.
    refused = CliRunner().invoke(cli, utkface_run(out, *terms[:3], "--commercial"))
    assert (
        refused.exit_code == 2 and "because its license does not allow it (research only)" in refused.output
    )


def until_epoch(command: list[str], number: int, how: signal.Signals) -> tuple[int, str]:
    """Send a signal to a training after an epoch; its exit code, and what it has printed on the way."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        seen = ""
        for line in running.stderr:
            seen += line
            if f"Epoch {number}/" in line:
                running.send_signal(how)
        return running.wait(), seen


@pytest.mark.shared
@pytest.mark.timeout(900)  # three processes that import PyTorch
def test_ctrl_c_says_what_is_saved_and_the_same_command_continues(tmp_path: Path) -> None:
    command = [sys.executable, "cli.py", *utkface_run(tmp_path / "mine", "--batch", "16")]
    command[command.index("--epochs") + 1] = "90"
    code, seen = until_epoch(command, 2, signal.SIGINT)
    assert code == INTERRUPTED, seen
    found = re.search(
        r"interrupted: (\d+) epochs? of 90 (?:is|are) complete; run the same command again", seen
    )
    assert found is not None and "Traceback" not in seen, seen
    code, seen = until_epoch(command, int(found[1]) + 2, signal.SIGTERM)
    assert code == TERMINATED, seen
    assert f"Resuming at epoch {int(found[1]) + 1} of 90" in seen and "Epoch 1/" not in seen, seen


@pytest.mark.shared
def test_three_pictures_are_too_few(tmp_path: Path) -> None:
    arguments = utkface_run(tmp_path / "mine")
    arguments[arguments.index("--limit") + 1] = "3"
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == NOTHING_USABLE
    assert "it takes 40 at the least" in done.output and "Traceback" not in done.output
