"""Which models the settings name, and what follows from that before anything is loaded."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from analyzer.errors import ModelError
from analyzer.settings import Settings
from analyzer.vision import registry
from analyzer.vision.calibration import ANY_PRECISION, Calibration, calibration_file, key_of
from analyzer.vision.crops import DLIB_CROP, EMBEDDING_CROP, BoxCrop, Crop
from analyzer.vision.registry import ALIGNER, EMBEDDING, MODELS, NONE, SETS, Model
from analyzer.vision.user_model import LEVI_HASSNER, Description, find_description, shipped

__all__ = [
    "Choice",
    "choose",
    "models_hash",
]


@dataclass(frozen=True)
class Choice:
    """The models of a run."""

    detector: Model
    gender: Model | Description
    age: Model | Description
    embedding: Model
    precision: str = ANY_PRECISION
    """Of `Settings.precision`."""
    commercial: bool = False
    """Leaves calibrations out that were fitted to faces whose license does not allow commercial use."""

    def members(self, precision: str = ANY_PRECISION) -> dict[str, dict[str, str] | str]:
        """What identifies the set of models for a calibration: names and hashes, crop, precision.

        Which detector finds a face matters only where its box or its landmarks make the crop.
        """
        crops = [_crop(self.gender), _crop(self.age)]
        boxed = self.aligner is None or any(isinstance(one, BoxCrop) for one in crops)
        return {
            **{
                role: {"name": _model(one).name, "sha256": _content(one)}
                for role, one in (
                    *((("detector", self.detector),) if boxed else ()),
                    *((("aligner", self.aligner),) if self.aligner else ()),
                    *(("gender", self.gender), ("age", self.age)),
                )
            },
            "crop": " and ".join(dict.fromkeys(one.text for one in crops)),
            "precision": precision,
        }

    def calibration_file(self) -> tuple[str, Path] | None:
        """The key and the file of the set's calibration; None: it was not measured, or is not to be used."""
        for precision in (self.precision, ANY_PRECISION):
            key = key_of(self.members(precision))
            path = calibration_file(key, self.folders)
            if path is not None and (not self.commercial or Calibration.load(key, self.folders).allowed):
                return key, path
        return None

    def calibration(self) -> Calibration:
        """How the answers of the set are read.

        Raises:
            ModelError: The set has a calibration, but it is damaged.
        """
        found = self.calibration_file()
        return Calibration.plain() if found is None else Calibration.load(found[0], self.folders)

    @property
    def folders(self) -> tuple[Path, ...]:
        """Of the user's own models among them: their calibrations are there."""
        described = (one for one in (self.gender, self.age) if isinstance(one, Description))
        return tuple(
            dict.fromkeys(one.path.parent for one in described if one.path is not None and one.by_user)
        )

    @property
    def aligner(self) -> Model | None:
        """The model that aligns faces; None where every frame is one face that has already been cropped."""
        return None if self.detector == NONE else ALIGNER

    @property
    def models(self) -> tuple[Model, ...]:
        """All of them, each once."""
        chosen = _model(self.age), _model(self.gender)
        others = *chosen, *(MODELS[name] for one in chosen for name in one.reads), self.embedding
        return tuple(dict.fromkeys((self.detector, *((self.aligner,) if self.aligner else ()), *others)))

    @property
    def computes_embeddings(self) -> bool:
        """Whether a model for gender or age computes embeddings on the way."""
        return any(self.embedding.name in _model(one).reads for one in (self.gender, self.age))


def _model(one: Model | Description) -> Model:
    return one.model if isinstance(one, Description) else one


def _crop(one: Model | Description) -> Crop:
    if isinstance(one, Description):
        return one.crop
    return EMBEDDING_CROP if one.reads else DLIB_CROP


def choose(settings: Settings) -> Choice:
    """The models that `settings` names; their files are not loaded, only descriptions are.

    Raises:
        ModelError: One is unknown, does not estimate what it is chosen for, or `settings.commercial` refuses
            it.
    """
    gender = _find(settings.gender_model, settings, "gender", "--gender-model")
    age = _find(settings.age_model, settings, "age", "--age-model")
    choice = Choice(
        registry.find_detector(settings.detector),
        gender,
        age,
        EMBEDDING,
        settings.precision,
        settings.commercial,
    )
    if settings.commercial:
        for model in choice.models:
            _check_license(model)
    return choice


def _find(chosen: str | None, settings: Settings, what: str, option: str) -> Model | Description:
    names = registry.find_attributes(chosen or settings.attributes, commercial=settings.commercial)
    name = names[0 if what == "gender" else 1]
    found: Model | Description | None
    if name in LEVI_HASSNER:
        found = LEVI_HASSNER[name]
    elif name in MODELS:
        found = shipped(MODELS[name]) or MODELS[name]
    else:
        found = find_description(name)
    if found is None:
        known = ", ".join(["auto", *SETS, *(model.name for model in MODELS.values() if what in model.role)])
        raise ModelError(
            f"there is no model {name} for {what}: choose one of {known}, or one that models list shows"
        )
    if what not in _model(found).role.split():
        raise ModelError(
            f"the model {name} does not estimate {what}: choose one that does with {option} (models list "
            "shows them)"
        )
    return found


def _check_license(model: Model) -> None:
    if model.commercial_use is not True:
        why = "does not allow it" if model.commercial_use is False else "does not say so"
        raise ModelError(
            f"--commercial refuses the model {model.name}, because its license {why} ({model.license}): "
            "choose another, or leave --commercial out"
        )


def models_hash(settings: Settings) -> str:
    """Identify the models of a run, and how their answers are read.

    Raises:
        ModelError: As `choose`, or the file of a user's own model cannot be read.
    """
    choice = choose(settings)
    digest = hashlib.sha256()
    if (found := choice.calibration_file()) is not None:
        digest.update(_read(found[1]))
    described = [_model(one) for one in (choice.age, choice.gender) if isinstance(one, Description)]
    for one in dict.fromkeys((choice.age, choice.gender, *choice.models)):
        if not (isinstance(one, Model) and one in described):
            digest.update(_identity(one).encode())
    return digest.hexdigest()[:12]


def _identity(one: Model | Description) -> str:
    if isinstance(one, Description) and one.path is not None:
        return _content(one) + registry.sha256(one.text.encode())
    return _content(one)


def _content(one: Model | Description) -> str:
    """The hashes of all files, and of the models that it reads.

    Of a user's own model, those of the file and of what its description means.
    """
    if isinstance(one, Description) and one.path is not None:
        return registry.sha256((registry.sha256(_read(one.path)) + one.meaning).encode())
    model = _model(one)
    files = [file for part in (model, *(MODELS[name] for name in model.reads)) for file in part.files]
    return "".join(file.sha256[0] if file.sha256 else file.git_blob for file in files)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
