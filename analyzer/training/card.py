"""What came out of a training, measured: parity of the files, figures of held-out faces, and the card."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyzer.evaluation.metrics import bias
from analyzer.evaluation.page import ESTIMATED_FIGURES, figure_text, of_faces
from analyzer.evaluation.scoring import estimated_scores, plain
from analyzer.settings import Settings
from analyzer.training.dataset import PLAIN, Crops
from analyzer.training.export import model_input
from analyzer.training.loop import SHOWN_VIEW, Fitted, answers_of, estimates_in
from analyzer.training.recipes.base import Recipe
from analyzer.util.atomic import writing
from analyzer.util.text import counted, one_line
from analyzer.vision.attributes.user import UserModel
from analyzer.vision.user_model import described

__all__ = ["card_page", "draw_curves", "held_out_figures", "parity"]

_PARITY_FACES = 200
_BLOCK = 64
_WIDTH = 110


def parity(
    recipe: Recipe, fitted: Fitted, crops: Crops, files: Mapping[str, Path], settings: Settings
) -> dict[str, Any]:
    """How far OpenVINO's estimates are from PyTorch's, for the same crops.

    Args:
        recipe, fitted: The model in PyTorch.
        crops: Their held-out faces are compared, or others where there are none.
        files: The ONNX files, by arithmetic; ``f32`` is computed in 32 bits.
        settings: How many threads.

    Returns:
        ``faces``, and for each file of `files` the largest and the mean distance of the probability of female
        and of the age in years.
    """
    rows = crops.part("test") if len(crops.part("test")) else crops.part("validate")
    rows = rows[:_PARITY_FACES]
    exact = [crops.exact(row) for row in rows.tolist()]
    if recipe.has_features:
        given = recipe.features(np.stack(exact), exact=True)
    else:
        given = model_input(np.stack(exact), recipe.pixels)
    wanted = estimates_in(recipe, fitted.targets, answers_of(fitted, given))
    found: dict[str, Any] = {"faces": len(rows)}
    for kind, path in files.items():
        answers = _loaded(path, kind, settings).estimate(exact)
        there = {"gender": answers.female, "age": answers.age_years}
        found[kind] = {}
        for target, values in wanted.items():
            one = there[target]
            assert one is not None
            away = np.abs(values - one)
            found[kind][target] = {"largest": float(away.max()), "mean": float(away.mean())}
    return found


def _loaded(path: Path, kind: str, settings: Settings) -> UserModel:
    """An exported model, in the arithmetic of its file."""
    return UserModel(described(path), settings.replace(precision="f32" if kind == "f32" else "auto"))


def held_out_figures(crops: Crops, files: Mapping[str, Path], settings: Settings) -> dict[str, Any]:
    """The figures of each file over the crops of all held-out faces, as labeled and as a video shows them.

    Returns:
        For each of `files` ``plain``, as of `estimated_scores` with ``bias``, and ``video`` (where there are
        such views) the figures over all. Empty without held-out faces.
    """
    rows = crops.part("test")
    figures: dict[str, Any] = {}
    for kind, path in files.items() if len(rows) else ():
        model = _loaded(path, kind, settings)
        table = _table(crops, rows, model, PLAIN)
        by = "true_race" if table["true_race"].ne("").any() else None
        figures[kind] = {
            "plain": estimated_scores(table, by, {"faces": "female_prob"}) | {"bias": bias(table)}
        }
        if crops.views > SHOWN_VIEW:
            seen = rows[crops.has(rows, SHOWN_VIEW)]
            shown = _table(crops, seen, model, SHOWN_VIEW)
            figures[kind]["video"] = estimated_scores(shown, None, {"faces": "female_prob"})["groups"]["all"]
    return plain(figures)


def _table(crops: Crops, rows: NDArray[np.int64], model: UserModel, view: int) -> pd.DataFrame:
    """A table of estimates, see `analyzer.evaluation.metrics`."""
    parts = []
    for start in range(0, len(rows), _BLOCK):
        parts.append(
            model.estimate([crops.exact(row, view) for row in rows[start : start + _BLOCK].tolist()])
        )
    faces = crops.faces.iloc[rows].reset_index(drop=True)
    unknown = np.full(len(rows), np.nan, np.float32)
    female = unknown if parts[0].female is None else np.concatenate([one.female for one in parts])
    ages = unknown if parts[0].age_years is None else np.concatenate([one.age_years for one in parts])
    estimated = pd.DataFrame(
        {
            "found": True,
            "gender": np.where(np.isnan(female), "unknown", np.where(female > 0.5, "female", "male")),
            **{"female_prob": female.astype(float), "age_years": ages.astype(float)},
            **{"age_low": math.nan, "age_high": math.nan},
            "unit": faces["name"],
        },
        index=faces.index,
    )
    return faces[["name", "true_gender", "true_age", "true_race", "face_px"]].join(estimated)


def draw_curves(history: Sequence[Mapping[str, Any]], best: int, path: Path) -> None:
    """Draw losses and figures over the epochs, as PNG.

    Raises:
        OutputError: The file cannot be written.
    """
    from matplotlib.figure import Figure

    figures = {"gender_right": "likelier gender right, %", "age_abs_error": "age, years off"}
    there = [key for key in figures if history[0][key] is not None]
    drawing = Figure(figsize=(6.4, 2.4 * (1 + len(there))), layout="constrained")
    axes = np.atleast_1d(drawing.subplots(1 + len(there), 1, sharex=True))
    epochs = [row["epoch"] for row in history]
    for key, words, color in (("loss", "fitted", "#0072B2"), ("validation_loss", "validation", "#E69F00")):
        axes[0].plot(epochs, [row[key] for row in history], color=color, label=words, marker=".")
    axes[0].set_ylabel("loss")
    axes[0].legend(frameon=False)
    for place, key in enumerate(there, 1):
        factor = 100 if key == "gender_right" else 1
        axes[place].plot(epochs, [row[key] * factor for row in history], color="#E69F00", marker=".")
        axes[place].set_ylabel(figures[key])
    for one in axes:
        one.axvline(best, color="#555555", linewidth=1, linestyle="--")
        one.spines[["top", "right"]].set_visible(False)
        one.grid(color="#DDDDDD", linewidth=0.7)
    axes[-1].set_xlabel("epoch (dashed: the one that was kept)")
    with writing(path) as temporary:
        drawing.savefig(temporary, format="png", dpi=110, metadata={"Software": None})


# --- the page ----------------------------------------------------------------------------------------


def _cell(text: object) -> str:
    return re.sub(r"([|\\`*<>\[\]])", r"\\\1", one_line(str(text)))


def _rows(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    lines = [head, ["---"] * len(head), *([_cell(one) for one in row] for row in rows)]
    return ["", *("| " + " | ".join(line) + " |" for line in lines), ""]


_ALLOWED = {True: "allowed", False: "not allowed", None: "not stated"}


def card_page(card: dict[str, Any]) -> str:
    """The card as Markdown, from the document of ``card.json``."""
    terms, plan = card["terms"], card["plan"]
    how = plan["how"]
    facts = [
        ("recipe", f"{card['recipe']}: {card['summary']}"),
        ("estimates", " and ".join(card["targets"])),
        *(
            (f"file, {kind}", f"{file['name']}, {file['bytes']:,} bytes")
            for kind, file in card["files"].items()
        ),
        *((f"sha256, {kind}", file["sha256"]) for kind, file in card["files"].items()),
        ("weights", f"{card['weights']:,}"),
        ("license", terms["license"]),
        ("commercial use", _ALLOWED[terms["commercial_use"]]),
        ("trained on", terms["trained_on"]),
        ("paper", card["paper"]),
        ("made", f"{card['made_on']} with version {card['analyzer_version']}, PyTorch {card['torch']}"),
        (
            "training",
            f"{card['epochs']} epochs of {how['batch']} faces a step, number {card['best_epoch']} was kept; "
            f"{card['seconds_of_training'] / 60:.0f} minutes on {plan['device']} with "
            f"{counted(plan['threads'], 'thread')}; seed {plan['seed']}",
        ),
    ]
    lines = [f"# {card['name']}", "", "All figures are estimates of how people look, never of what they are."]
    lines += _rows(("", ""), facts)
    lines += ["## Data"]
    head = ("set", "form", "license", "commercial use", "source", "used for", "faces", "without labels")
    lines += _rows(
        head,
        [
            (
                *(one["name"], one["form"], one["license"], _ALLOWED[one["commercial_use"]]),
                *(one["source"] or "not stated", one["use"], one["used"], len(one["unparsed"])),
            )
            for one in card["sets"]
        ],
    )
    lines += [
        "All faces of a person, and near duplicates of a picture, are in one part, which a hash of the name "
        "decides unless a set is for one part."
    ]
    lines += _rows(
        ("part", "faces", "women", "men", "with an age"),
        [(part, *counts.values()) for part, counts in card["split"].items()],
    )
    if card["left_out"]:
        left = [f"{count} because {reason}" for reason, count in card["left_out"].items()]
        lines += [f"Left out: {'; '.join(left)} (each is in left_out.csv).", ""]
    lines += _of_held_out(card)
    lines += _of_evaluation(card["evaluation"])
    lines += _of_parity(card["parity"])
    wrapped = [
        line if line.startswith(("|", "#")) or len(line) <= _WIDTH else textwrap.fill(line, _WIDTH)
        for line in lines
    ]
    return "\n".join(wrapped).rstrip() + "\n"


def _of_held_out(card: dict[str, Any]) -> list[str]:
    lines = ["## Held-out faces", ""]
    figures = card["held_out"]
    if not figures:
        return [*lines, "There were none: nothing is known about faces that it was not chosen by.", ""]
    count = figures["f32"]["plain"]["labeled"]
    lines += [f"Crops of {counted(count, 'face')} that nothing was fitted to or chosen by, uncalibrated."]
    lines += [*of_faces(figures["f32"]["plain"]), ""]
    rows = []
    for kind, one in figures.items():
        for words, groups in (("as labeled", one["plain"]["groups"]["all"]), ("filmed", one.get("video"))):
            if groups:
                texts = [figure_text(groups["all"][key], unit) for key, unit in _HEADLINE]
                rows.append((f"{kind}, {words}", *texts))
    if len(rows) > 1:
        lines += ["The same in other arithmetic, and as video shows them (small, soft, coded):"]
        lines += _rows(("", *(ESTIMATED_FIGURES[key][0] for key, _ in _HEADLINE)), rows)
    return lines


_HEADLINE = (("likelier_right", "%"), ("age_abs_error", "years"), ("age_error", "±years"))


def _of_evaluation(found: dict[str, Any] | None) -> list[str]:
    if found is None:
        return []
    lines = [
        "## Before and after",
        "",
        f"What `evaluate` says of {counted(found['faces'], 'held-out picture')}, each analyzed as a "
        "photograph:",
    ]
    heads = comparison(found)
    return [*lines, *_rows(heads[0], heads[1:])]


def comparison(found: dict[str, Any]) -> list[tuple[str, ...]]:
    """The rows of a table of figures before and after; the first is its head."""
    sides = [found[what] for what in ("before", "after")]
    rows: list[tuple[str, ...]] = [
        ("", *(f"{what}: {found[what]['models']}" for what in ("before", "after")))
    ]
    for group in ("all", "13+"):
        for key, unit in _HEADLINE:
            if _target(key) not in found["targets"]:
                continue
            texts = [
                figure_text(side["groups"]["all"][group][key], unit) if group in side["groups"]["all"] else ""
                for side in sides
            ]
            if any(texts):
                rows.append(
                    (f"{ESTIMATED_FIGURES[key][0]}{'' if group == 'all' else ', from 13 on'}", *texts)
                )
    return rows


def _target(key: str) -> str:
    return "age" if key.startswith("age") else "gender"


def _of_parity(found: dict[str, Any]) -> list[str]:
    rows = [
        (f"{kind}, {target}", f"{one['largest']:.2g}", f"{one['mean']:.2g}")
        for kind, targets in found.items()
        if kind != "faces"
        for target, one in targets.items()
    ]
    return [
        "## PyTorch and OpenVINO",
        "",
        f"How far OpenVINO's answers are from PyTorch's, over {counted(found['faces'], 'face')}: "
        "probability of female, and years.",
        *_rows(("", "largest", "mean"), rows),
    ]
