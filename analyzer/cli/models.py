"""The commands of ``models``. Nothing heavy is imported before one runs."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analyzer.cli.options import (
    DONE,
    EXIT_CODES,
    INTERRUPTED,
    NOTHING_USABLE,
    SOME_FAILED,
    USAGE,
    Group,
    epilog,
)
from analyzer.cli.text import show_error
from analyzer.errors import AnalyzerError
from analyzer.util.text import one_line

if TYPE_CHECKING:
    from analyzer.vision.inventory import InstalledModel

__all__ = ["models"]

_CODES = {
    DONE: "done",
    USAGE: EXIT_CODES[USAGE],
    NOTHING_USABLE: "the model is unknown, not available, or has a wrong file",
    INTERRUPTED: "interrupted by Ctrl-C; no partial file is left",
}
_VERIFY_CODES = _CODES | {
    DONE: "every file on this machine is right",
    SOME_FAILED: "a file is wrong, or a named model is missing",
    NOTHING_USABLE: "a name is unknown",
}
_COMMERCIAL = {True: "yes", False: "no", None: "unknown"}
_COLORS = {"ok": "green", "missing": "yellow", "wrong": "red"}
_WIDTH, _LABEL = 110, 12
_folder = click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to write to.  [default: the user's cache]",
)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


@click.group(cls=Group, epilog=epilog(_CODES))
def models() -> None:
    """List, download and verify models, and add your own.

    The default models come with the installed packages. Others are searched for in the folders that the
    environment variable ANALYZER_MODELS names, in the project's folder models, and in the user's cache.
    Compiled models are kept in the user's cache; ANALYZER_CACHE names another folder for them, or "off".

    \b
    Examples:
      {program} models list
      {program} models pull yunet
      {program} models add fairface.onnx
      {program} analyze talk.mp4 --detector yunet --gender-model fairface
    """


def _names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    del ctx, param
    from analyzer.vision.registry import MODELS, SETS

    return [name for name in dict.fromkeys((*MODELS, *SETS)) if name.startswith(incomplete)]


def _attempt(work: Callable[[], int]) -> None:
    try:
        sys.exit(work())
    except AnalyzerError as error:
        show_error(str(error))
        sys.exit(NOTHING_USABLE)


@models.command("list", epilog=epilog(_CODES))
@_as_json
def list_(*, as_json: bool) -> None:
    """List all models. Their files are searched for, not opened."""

    def show() -> int:
        from analyzer.vision.inventory import inventory

        found = inventory()
        if as_json:
            _print_json([_document(one) for one in found])
            return DONE
        rows = [("NAME", "FOR", "HERE", "COMMERCIAL USE", "LICENSE"), *map(_row, found)]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        for row in rows:
            cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)]
            click.echo("  ".join([*cells, row[4]]).rstrip())
        return DONE

    _attempt(show)


def _row(one: InstalledModel) -> tuple[str, ...]:
    here = "yes" if one.state == "ok" else "no" if one.state == "missing" else "damaged"
    if one.model is None:
        return one_line(one.name), "", here, "", one_line(one.problem)
    model = one.model
    allowed = _COMMERCIAL[model.commercial_use]
    return one_line(one.name), model.role, here, allowed, one_line(model.license)


@models.command(epilog=epilog(_CODES))
@click.argument("name", shell_complete=_names)
@_as_json
def show(name: str, *, as_json: bool) -> None:
    """Show the card of a model: source, paper, training data, license, known bias, files."""

    def print_cards() -> int:
        from analyzer.vision.inventory import inventory

        found = inventory([name])
        if as_json:
            _print_json(_document(found[0]) if len(found) == 1 else [_document(one) for one in found])
            return DONE
        for number, one in enumerate(found):
            if number:
                click.echo()
            for label, text in _lines(one):
                lines = textwrap.wrap(one_line(text), _WIDTH - _LABEL) or [""]
                click.echo(f"{label:<{_LABEL}}{lines[0]}")
                for line in lines[1:]:
                    click.echo(" " * _LABEL + line)
        return DONE

    _attempt(print_cards)


def _lines(one: InstalledModel) -> list[tuple[str, str]]:
    lines = [("name", one.name)]
    if one.model is not None:
        model = one.model
        lines += [("for", model.role), ("license", model.license)]
        lines += [("commercial", _COMMERCIAL[model.commercial_use]), ("source", model.source)]
        lines += [("paper", model.paper), ("trained on", model.trained_on), ("input", model.input)]
        lines += [("known bias", model.known_bias), ("speed", model.speed)]
        lines += [("file", f"{file.name} {file.expected}".strip()) for file in model.files]
    lines += [("here", str(path)) for path in one.paths]
    if one.problem:
        lines.append(("problem", one.problem))
    return lines


@models.command(epilog=epilog(_CODES))
@click.argument("name", shell_complete=_names)
@_folder
def pull(name: str, *, folder: Path | None) -> None:
    """Download the files of a model that are not on this machine yet, and verify them.

    NAME may also be a value of --attributes: levi-hassner is two models.
    """

    def get() -> int:
        from tqdm import tqdm

        from analyzer.vision.registry import find_models, pull

        found = find_models(name)
        bars: dict[str, tqdm[Any]] = {}

        def draw(file: str, received: int, total: int | None) -> None:
            if file not in bars:
                bars[file] = tqdm(
                    desc=file, total=total, unit="B", unit_scale=True, disable=not sys.stderr.isatty()
                )
            bars[file].update(received - bars[file].n)

        try:
            made = [path for model in found for path in pull(model, folder, on_progress=draw)]
        finally:
            for bar in bars.values():
                bar.close()
        for path in made:
            click.echo(path)
        if not made:
            click.echo(f"{name} is already on this machine")
        return DONE

    _attempt(get)


@models.command(epilog=epilog(_VERIFY_CODES))
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=_names)
@_as_json
def verify(names: tuple[str, ...], *, as_json: bool) -> None:
    """Compare the files on this machine with their hashes, and your own models with their descriptions.

    A model that is not on this machine is an error only if it is named.
    """

    def check() -> int:
        from analyzer.vision.inventory import inventory

        found = inventory(names, check=True)
        if as_json:
            _print_json([_document(one) for one in found])
        else:
            for one in found:
                state = click.style(f"{one.state:<7}", fg=_COLORS[one.state])
                click.echo(f"{state}  {one_line(one.name):<20}  {one_line(one.problem)}".rstrip())
        failed = any(one.state == "wrong" or (names and one.state != "ok") for one in found)
        return SOME_FAILED if failed else DONE

    _attempt(check)


@models.command(epilog=epilog(_CODES))
@click.argument("file", type=click.Path(path_type=Path))
@_folder
def add(file: Path, *, folder: Path | None) -> None:
    """Check your own ONNX file and the TOML file beside it, and copy both to where they are found by name.

    docs/models.md explains how to write the TOML file.
    """

    def keep() -> int:
        from analyzer.vision.sandbox import add

        description = add(file, folder)
        click.echo(description.path)
        return DONE

    _attempt(keep)


@models.command(epilog=epilog({DONE: "done", USAGE: EXIT_CODES[USAGE]}))
def prune() -> None:
    """Remove all compiled models from the cache. The next runs compile theirs again."""
    from analyzer.vision import compile_cache

    removed = compile_cache.prune(0)
    click.echo(f"removed {removed / 2**20:.0f} MiB from {compile_cache.compiled_folder() or 'no cache'}")


def _document(one: InstalledModel) -> dict[str, Any]:
    known = one.model.provenance() if one.model is not None else {"name": one.name}
    if one.model is not None:
        known |= {"input": one.model.input, "speed": one.model.speed}
    return {**known, "state": one.state, "problem": one.problem, "paths": [str(path) for path in one.paths]}


def _print_json(document: Any) -> None:
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))
