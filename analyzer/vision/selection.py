"""Which networks the settings name, and what follows from that, before anything is loaded."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from analyzer.errors import ModelError
from analyzer.settings import Settings
from analyzer.vision import registry
from analyzer.vision.registry import CALIBRATION_FILE, EMBEDDING, MODELS, SETS, Model
from analyzer.vision.user_model import LEVI_HASSNER, Description, find_description

__all__ = [
    "Choice",
    "choose",
    "models_hash",
]

_DLIB = (registry.GENDER, registry.AGE)


@dataclass(frozen=True)
class Choice:
    """The networks of a run."""

    detector: Model
    gender: Model | Description
    age: Model | Description
    embedding: Model
    calibrated: bool
    """Whether their answers are read by what was measured of them (`Calibration`)."""

    @property
    def models(self) -> tuple[Model, ...]:
        """All of them, each once."""
        return tuple(dict.fromkeys((self.detector, _model(self.age), _model(self.gender), self.embedding)))


def _model(one: Model | Description) -> Model:
    return one.model if isinstance(one, Description) else one


def choose(settings: Settings) -> Choice:
    """The networks that `settings` names; no file of theirs is read but the descriptions.

    Raises:
        ModelError: One is not known, does not speak of what it is to judge, or `settings.commercial` refuses
            it.
    """
    names = SETS.get(settings.attributes, (settings.attributes, settings.attributes))
    gender = _find(settings.gender_model or names[0], "gender", "--gender-model")
    age = _find(settings.age_model or names[1], "age", "--age-model")
    detector = MODELS[settings.detector]
    # Its landmarks decide what the networks see, and it was fitted with those of one detector. The pictures
    # that it was fitted on are free for research alone.
    measured = (gender, age) == _DLIB and detector is registry.CENTERFACE
    choice = Choice(detector, gender, age, EMBEDDING, measured and not settings.commercial)
    if settings.commercial:
        for model in choice.models:
            _check_license(model)
    return choice


def _find(name: str, what: str, option: str) -> Model | Description:
    if name in SETS:
        name = SETS[name][0 if what == "gender" else 1]
    found: Model | Description | None
    if name in LEVI_HASSNER:
        found = LEVI_HASSNER[name]
    elif name in MODELS:
        found = MODELS[name]
    else:
        found = find_description(name)
    if found is None:
        known = ", ".join([*SETS, *(model.name for model in MODELS.values() if what in model.role)])
        raise ModelError(
            f"there is no network {name} for {what}: known are {known}, and those that models list shows"
        )
    if what not in _model(found).role.split():
        raise ModelError(
            f"the network {name} says nothing of {what}: name one that does with {option} (models list shows "
            "them)"
        )
    return found


def _check_license(model: Model) -> None:
    if model.commercial_use is not True:
        why = "does not allow it" if model.commercial_use is False else "does not say so"
        raise ModelError(
            f"--commercial refuses the network {model.name}, because its license {why} ({model.license}): "
            "choose another, or leave --commercial out"
        )


def models_hash(settings: Settings) -> str:
    """Identifies the networks of a run, and how their answers are read.

    Raises:
        ModelError: As `choose`, or the file of a network of the user's own cannot be read.
    """
    choice = choose(settings)
    digest = hashlib.sha256()
    if choice.calibrated:
        digest.update(resources.files("analyzer.vision").joinpath(CALIBRATION_FILE).read_bytes())
    for one in dict.fromkeys((choice.detector, choice.age, choice.gender, choice.embedding)):
        digest.update(_identity(one).encode())
    return digest.hexdigest()[:12]


def _identity(one: Model | Description) -> str:
    if isinstance(one, Description) and one.path is not None:
        return _file_hash(one.path) + hashlib.sha256(one.text.encode()).hexdigest()
    return "".join(file.sha256[0] if file.sha256 else file.git_blob for file in _model(one).files)


def _file_hash(path: Path) -> str:
    try:
        return registry.sha256(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
