"""Which networks are on this machine, and whether their files are what they should be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from analyzer.errors import ModelError
from analyzer.util.program import program
from analyzer.vision import registry
from analyzer.vision.registry import Model
from analyzer.vision.user_model import described, descriptions, find_description, read_onnx

__all__ = ["Held", "inventory"]

State = Literal["ok", "missing", "wrong"]


@dataclass(frozen=True)
class Held:
    """A network, and what of it is on this machine."""

    name: str
    state: State
    problem: str
    """What is wrong, in a sentence; empty where nothing is."""
    paths: tuple[Path, ...]
    """Its files, as far as they are here."""
    model: Model | None
    """None: its description cannot be read."""


def inventory(names: Sequence[str] = (), *, check: bool = False) -> list[Held]:
    """All networks of the catalog and all descriptions of the user's own, or those that are named.

    Args:
        names: Of networks or sets of them, or paths of described ONNX files.
        check: Whether files are read and their hashes compared; else only looked for.

    Raises:
        ModelError: A name is not known.
    """
    if not names:
        own = [path for path in descriptions() if path.stem not in registry.MODELS]
        return [
            *(_held(one, check) for one in registry.MODELS.values()),
            *(_own(path, check) for path in own),
        ]
    return [one for name in names for one in _named(name, check)]


def _named(name: str, check: bool) -> list[Held]:
    if name in registry.MODELS or name in registry.SETS:
        return [_held(model, check) for model in registry.find_models(name)]
    path = next((path for path in descriptions() if path.stem == name), None)
    if path is None and (found := find_description(name)) is not None:
        path = found.path
    if path is None:
        raise ModelError(f"there is no network {name}: {program()} models list shows those that there are")
    return [_own(path, check)]


def _held(model: Model, check: bool) -> Held:
    found = [registry.find(file) for file in model.files]
    paths = tuple(path for path in found if path is not None)
    state: State = "ok"
    problem = ""
    if check or len(paths) < len(found):
        try:
            for file in model.files:
                registry.read(model, file)
        except ModelError as error:
            problem, state = str(error), "missing" if len(paths) < len(found) else "wrong"
    return Held(model.name, state, problem, paths, model)


def _own(path: Path, check: bool) -> Held:
    try:
        description = described(path)
        if check:
            read_onnx(description)
    except ModelError as error:
        return Held(path.stem, "wrong", str(error), (path,), None)
    return Held(path.stem, "ok", "", (path, path.with_suffix(".toml")), description.model)
