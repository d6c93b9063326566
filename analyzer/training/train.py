"""All of a training: read, crop, divide, train, export, measure; and what comes out, a folder."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import importlib.util
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import analyzer
from analyzer.errors import ModelError, OutputError, SettingsError
from analyzer.evaluation import check_out, evaluate
from analyzer.evaluation.labels import BOX
from analyzer.events import Event, Progress
from analyzer.runs.tables import write_json
from analyzer.settings import Settings
from analyzer.training.card import card_page, draw_curves, held_out_figures, parity
from analyzer.training.dataset import Crops, divided, prepare, targets_of
from analyzer.training.export import describe, model_input, quantized, write_onnx
from analyzer.training.loop import CURVES, Fitted, Plan, chosen_device, fit
from analyzer.training.progress import Evaluating, OnTraining, Preparing, ignore
from analyzer.training.recipes import find_recipe
from analyzer.training.recipes.base import Recipe, Target
from analyzer.training.sets import PARTS, LabeledSet, Terms, read_sets, terms_of
from analyzer.util.atomic import writing
from analyzer.vision.registry import sha256
from analyzer.vision.sandbox import is_free_name

__all__ = ["Options", "Trained", "evaluated_labels", "train"]

CARD, PAGE, CURVES_PNG = "card.json", "card.md", "curves.png"
SCHEMA_VERSION = 1

_RANGE_FACES = 256
"""Faces on which the ranges of an int8 file are measured."""


@dataclass(frozen=True)
class Options:
    """What is trained, and how; None: as the recipe has it.

    Attributes:
        recipe: Its name.
        out: The folder for everything that comes out.
        start: What the first weights come from, as `Recipe.started` explains; None: as the recipe has it.
        name: Of the network; None: that of the folder.
        epochs: At most.
        batch: Faces in a step.
        rate: The first learning rate.
        patience: Epochs without a better validation loss until it ends.
        seed: Of everything that is drawn.
        device: ``auto``, ``cpu`` or ``cuda``.
        threads: Of the processor; 0: as many as there are.
        limit: At most this many faces of each set.
        filmed: Whether faces are also shown as in photographs and videos.
        int8: Whether a file in eight bits is written too.
        commercial: Refuse sets and first weights that do not clearly allow commercial use.
        compare: The models that the new one is compared with, as `Settings.attributes`; None: the default.
        measured: At most this many held-out faces are analyzed before and after; 0: none.
        again: Start anew, whatever the folder holds.
    """

    recipe: str
    out: Path
    start: str | None = None
    name: str | None = None
    epochs: int | None = None
    batch: int | None = None
    rate: float | None = None
    patience: int | None = None
    seed: int = 0
    device: str = "auto"
    threads: int = 0
    limit: int | None = None
    filmed: bool = True
    int8: bool = False
    commercial: bool = False
    compare: str | None = None
    measured: int = 500
    again: bool = False


@dataclass(frozen=True, eq=False)
class Trained:
    """What came out.

    Attributes:
        folder: Holds everything.
        onnx: The model; its description is beside it.
        int8: The same in eight bits; None: not asked for.
        card: The document of ``card.json``.
    """

    folder: Path
    onnx: Path
    int8: Path | None
    card: dict[str, Any]


def train(sets: Sequence[LabeledSet], options: Options, on_event: OnTraining = ignore) -> Trained:
    """Train a model on labeled pictures, or continue to where it was interrupted.

    Args:
        sets: The pictures.
        options: What and how.
        on_event: Told of the progress.

    Raises:
        SettingsError: An option is wrong, or `options.out` holds another training.
        SourceError: A set is not in its form, its labels are wrong, or there is too little.
        ModelError: PyTorch or a model is missing, or training failed.
        OutputError: Something cannot be written.
    """
    if importlib.util.find_spec("torch") is None:
        raise ModelError(
            "training needs PyTorch, which is not installed: pip install 'audience-analyzer[train]'"
        )
    recipe = find_recipe(options.recipe)
    if options.start is not None:
        recipe = recipe.started(options.start)
    name = _name(options)
    terms = _terms(sets, recipe, options)
    settings = Settings(threads=options.threads)
    device = chosen_device(options.device)
    check_out(options.out)
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(_temporary()))
        try:
            faces, about = read_sets(sets, work, options.limit)
        except OSError as error:
            raise OutputError(
                f"the labeled pictures could not be laid out ({error}): are they readable, and is there "
                "space in the temporary folder (TMPDIR)?"
            ) from error
        crops = divided(
            prepare(
                faces,
                recipe.crop,
                options.out / "crops",
                settings,
                shown=options.filmed,
                on_progress=_preparing(on_event),
            )
        )
        targets = targets_of(crops, recipe.targets, recipe.needs)
        plan = Plan(_how(recipe, options), options.seed, device, settings.thread_count)
        checkpoints = options.out / "checkpoints"
        fitted = fit(recipe, targets, crops, plan, checkpoints, again=options.again, on_event=on_event)
        card: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "name": name,
            "made_on": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "analyzer_version": analyzer.__version__,
            **_training_facts(recipe, fitted, plan, time.monotonic() - began),
            "terms": dataclasses.asdict(terms),
            "sets": about,
            **_faces_facts(crops),
        }
        return _finished(recipe, fitted, crops, options, settings, card=card, terms=terms, on_event=on_event)


def _name(options: Options) -> str:
    name = options.name or options.out.resolve().name
    if not is_free_name(name):
        raise SettingsError(
            f"{name!r} cannot be the name of your model: give one with --name, of letters, digits, - and "
            "_, that models list does not show"
        )
    return name


def _terms(sets: Sequence[LabeledSet], recipe: Recipe, options: Options) -> Terms:
    if not sets:
        raise SettingsError("there is nothing to train on: name labeled pictures")
    terms = terms_of(sets, recipe.origins)
    if options.commercial and terms.commercial_use is not True:
        named = [(one.shown, one.license, one.commercial_use) for one in sets]
        named += [(one.name, one.license, one.commercial_use) for one in recipe.origins]
        who, license_, allows = next(one for one in named if one[2] is not True)
        why = "does not allow it" if allows is False else "does not say so"
        raise SettingsError(
            f"--commercial refuses {who}, because its license {why} ({license_}): leave it out, or leave out "
            "--commercial"
        )
    return terms


def _how(recipe: Recipe, options: Options) -> Any:
    given = {
        key: value
        for key in ("epochs", "batch", "rate", "patience")
        if (value := getattr(options, key)) is not None
    }
    return dataclasses.replace(recipe.defaults, **given)


def _temporary() -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix="train-", ignore_cleanup_errors=True)
    except OSError as error:
        raise OutputError(f"there is no temporary folder ({error}): name one with TMPDIR") from error


def _preparing(on_event: OnTraining) -> Any:
    began = time.monotonic()
    first: int | None = None

    def report(done: int, total: int, skipped: int) -> None:
        nonlocal first
        spent = time.monotonic() - began
        # Blocks found in the cache take no time: those do not tell how long others will take.
        if first is None:
            first = done
        left = spent / (done - first) * (total - done) if done > first else None
        on_event(Preparing("cropping", done, total, skipped, left))

    return report


def _training_facts(recipe: Recipe, fitted: Fitted, plan: Plan, seconds: float) -> dict[str, Any]:
    import torch

    return {
        "recipe": recipe.name,
        "summary": recipe.summary,
        "paper": recipe.paper,
        "first_weights": [dataclasses.asdict(one) for one in recipe.origins],
        "targets": list(fitted.targets),
        "weights": sum(one.numel() for one in fitted.network.parameters()),
        "plan": dataclasses.asdict(plan),
        "augmentation": dataclasses.asdict(recipe.augmentation),
        "torch": torch.__version__,
        "epochs": len(fitted.history),
        "best_epoch": fitted.best,
        "history": list(fitted.history),
        "seconds_of_training": fitted.history[-1]["seconds"],
        "seconds_of_this_run": round(seconds, 1),
    }


def _faces_facts(crops: Crops) -> dict[str, Any]:
    faces = crops.faces
    reasons = crops.skipped["reason"].value_counts()
    return {
        "split": {part: _labels_in(faces[faces["part"] == part]) for part in PARTS},
        "views": crops.views,
        "left_out": {str(reason): int(count) for reason, count in reasons.items()},
    }


def _labels_in(faces: pd.DataFrame) -> dict[str, int]:
    counts = {gender: int((faces["true_gender"] == gender).sum()) for gender in ("female", "male")}
    return {"faces": len(faces), **counts, "with_age": int(faces["true_age"].notna().sum())}


def _finished(
    recipe: Recipe,
    fitted: Fitted,
    crops: Crops,
    options: Options,
    settings: Settings,
    *,
    card: dict[str, Any],
    terms: Terms,
    on_event: OnTraining,
) -> Trained:
    out, targets = options.out, fitted.targets
    onnx = out / f"{card['name']}.onnx"
    own = recipe.onnx(fitted.network, targets)
    with writing(onnx) as temporary:
        if own is None:
            write_onnx(fitted.network, recipe, targets, temporary)
        else:
            temporary.write_bytes(own)
    _describe(onnx, recipe, targets, terms, "")
    int8 = out / f"{card['name']}-int8.onnx" if options.int8 else None
    if int8 is not None:
        rows = crops.part("train")[:_RANGE_FACES].tolist()
        views = range(crops.views)
        some = [crops.exact(row, views[number % len(views)]) for number, row in enumerate(rows)]
        chunks = [some[start : start + 16] for start in range(0, len(some), 16)]
        with writing(int8) as temporary:
            quantized(onnx, temporary, (model_input(np.stack(chunk), recipe.pixels) for chunk in chunks))
        _describe(int8, recipe, targets, terms, "; computed in eight bits")
    files = {"f32": onnx} | ({"int8": int8} if int8 is not None else {})
    written = dict(files)
    weights = recipe.weights_alone(fitted.network, targets)
    if weights is not None:
        written["npz"] = onnx.with_suffix(".npz")
        with writing(written["npz"]) as temporary:
            temporary.write_bytes(weights)
    card["files"] = {
        kind: {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256(path.read_bytes())}
        for kind, path in written.items()
    }
    card["parity"] = parity(recipe, fitted, crops, files, settings)
    card["held_out"] = held_out_figures(crops, files, settings)
    card["evaluation"] = _measured(onnx, crops, options, settings, targets=targets, on_event=on_event)
    draw_curves(fitted.history, fitted.best, out / CURVES_PNG)
    with writing(out / CURVES) as temporary:
        temporary.write_bytes((out / "checkpoints" / CURVES).read_bytes())
    with writing(out / "left_out.csv") as temporary:
        crops.skipped.to_csv(temporary, index=False)
    write_json(out / CARD, card)
    with writing(out / PAGE) as temporary:
        temporary.write_text(card_page(card), "utf-8")
    return Trained(out, onnx, int8, card)


def _describe(onnx: Path, recipe: Recipe, targets: tuple[Target, ...], terms: Terms, more: str) -> None:
    texts = {
        "license": terms.license,
        "source": f"trained with the recipe {recipe.name}{more}",
        "paper": recipe.paper,
        "trained_on": terms.trained_on,
        "known_bias": f"measured on held-out faces: {PAGE}",
    }
    text = describe(recipe.crop, recipe.pixels, recipe.outputs(targets), texts, terms.commercial_use)
    with writing(onnx.with_suffix(".toml")) as temporary:
        temporary.write_text(text, "utf-8")


def evaluated_labels(faces: pd.DataFrame) -> pd.DataFrame:
    """The labels of faces as `evaluate` reads them from a CSV, wherever that lies.

    Images that show several of the faces are left out, unless all faces have boxes.
    """
    boxed = bool(faces["x1"].notna().all())
    images = faces if boxed else faces.drop_duplicates("path", keep=False)
    return pd.DataFrame(
        {
            "image": images["path"].map(lambda path: str(Path(path).absolute())),
            "gender": images["true_gender"],
            "age_years": images["true_age"].where(images["true_age"] == images["age_low"]),
            **{"race": images["true_race"], "person": images["person"]},
            **{edge: images[edge] for edge in BOX if boxed},
        }
    )


def _measured(
    onnx: Path,
    crops: Crops,
    options: Options,
    settings: Settings,
    *,
    targets: tuple[Target, ...],
    on_event: OnTraining,
) -> dict[str, Any] | None:
    """What `evaluate` says of held-out faces with the models before, and with the new one."""
    held_out = crops.faces.iloc[crops.part("test")]
    if not options.measured or held_out.empty:
        return None
    table = evaluated_labels(held_out)
    before = settings if options.compare is None else settings.replace(attributes=options.compare)
    own = {"gender_model": str(onnx)} if targets == ("gender",) else {"age_model": str(onnx)}
    after = settings.replace(**({"attributes": str(onnx)} if len(targets) == 2 else own))
    figures = {}
    with tempfile.TemporaryDirectory(prefix="train-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "held-out.csv"
        table.to_csv(path, index=False)
        total = min(options.measured, len(table))
        for what, chosen in (("before", before), ("after", after)):

            def report(event: Event, what: str = what) -> None:
                if isinstance(event, Progress):
                    on_event(Evaluating(what, event.samples, total))

            found = evaluate(path, chosen, limit=options.measured, on_event=report)
            scores = found.to_dict()["faces"] or {}
            figures[what] = {
                "models": options.compare or "default" if what == "before" else onnx.stem,
                **scores,
            }
    return {"faces": total, "targets": list(targets), **figures}
