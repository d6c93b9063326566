"""Which models are on this machine, and whether their files are right."""

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

__all__ = ["InstalledModel", "State", "inventory"]

State = Literal["ok", "missing", "wrong"]


@dataclass(frozen=True)
class InstalledModel:
    """A model, and which of its files are on this machine."""

    name: str
    state: State
    problem: str
    """What is wrong, in a sentence; or empty."""
    paths: tuple[Path, ...]
    """Its files on this machine."""
    model: Model | None
    """None: its description cannot be read."""


def inventory(names: Sequence[str] = (), *, check: bool = False) -> list[InstalledModel]:
    """All models of the registry and all of the user's own, or those that are named.

    Args:
        names: Of models or sets of them, or paths of described ONNX files.
        check: Whether to read files and compare their hashes; else they are only searched for.

    Raises:
        ModelError: A name is unknown.
    """
    if not names:
        own = [path for path in descriptions() if path.stem not in registry.MODELS]
        return [
            *(_installed(one, check) for one in registry.MODELS.values()),
            *(_own(path, check) for path in own),
        ]
    return [one for name in names for one in _named(name, check)]


def _named(name: str, check: bool) -> list[InstalledModel]:
    if name in registry.MODELS or name in registry.SETS:
        return [_installed(model, check) for model in registry.find_models(name)]
    path = next((path for path in descriptions() if path.stem == name), None)
    if path is None and (found := find_description(name)) is not None:
        path = found.path
    if path is None:
        raise ModelError(f"there is no model {name}: {program()} models list shows all models")
    return [_own(path, check)]


def _installed(model: Model, check: bool) -> InstalledModel:
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
    return InstalledModel(model.name, state, problem, paths, model)


def _own(path: Path, check: bool) -> InstalledModel:
    try:
        description = described(path)
        if check:
            read_onnx(description)
    except ModelError as error:
        return InstalledModel(path.stem, "wrong", str(error), (path,), None)
    return InstalledModel(path.stem, "ok", "", (path, path.with_suffix(".toml")), description.model)
