"""Models for gender and age that are described as data: the classic ones, and the user's own.

A description says how a model's input is made from a face and what its outputs mean. A user's description is
a TOML file beside an ONNX file of the same name (docs/models.md explains it). Both files are untrusted:
before any engine sees an ONNX file, it is read as data, must be self-contained, consist of ONNX's own
operators, and have the inputs and outputs that the description says.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ModelError
from analyzer.util.program import program
from analyzer.vision import registry
from analyzer.vision.crops import CROP_PADDING, BoxCrop, LandmarkCrop, padded_landmarks
from analyzer.vision.preprocessing import Pixels
from analyzer.vision.registry import Model, ModelFile, Role

__all__ = [
    "LEVI_HASSNER",
    "AgeOutput",
    "Description",
    "GenderOutput",
    "described",
    "descriptions",
    "find_description",
    "read_onnx",
    "shipped",
]

Float = NDArray[np.float32]

Kind = Literal["logit", "probability", "logits", "probabilities", "years"]
Crops = BoxCrop | LandmarkCrop

_MAX_BYTES, _MAX_TEXT_BYTES = 1 << 30, 1 << 16

_MAX_NUMBER, _MIN_SCALE = 1e6, 1e-6
"""Limits of means, scales and years."""

_WEIGHTS = Path(__file__).with_name("weights")
"""Holds the models that this project trained."""

_MAX_BATCH = 64
_MAX_MARGIN = 3
_LANDMARKS = 5
_MAX_PX = 1024
_DOMAINS = ("", "ai.onnx", "ai.onnx.ml")


def _softmax(logits: Float) -> Float:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


@dataclass(frozen=True)
class _Output:
    """Where an estimate is found in a model's outputs."""

    kind: Kind
    output: str | int = 0
    """Name or number of the output."""
    part: tuple[int, int] | None = None
    """Start and end (exclusive) of its numbers among those of a face; None: all."""

    def numbers(self, outputs: Sequence[Float], names: Sequence[str]) -> Float:
        """(N, K) float32: the numbers of N faces."""
        index = names.index(self.output) if isinstance(self.output, str) else self.output
        flat = outputs[index].reshape(len(outputs[index]), -1)
        return flat if self.part is None else flat[:, slice(*self.part)]

    def probabilities(self, numbers: Float) -> Float:
        """(N, K) float32: probabilities that add up to 1."""
        if self.kind == "logits":
            return _softmax(numbers)
        kept = np.maximum(numbers, 0)
        return np.asarray(kept / np.maximum(kept.sum(axis=1, keepdims=True), 1e-9), np.float32)


@dataclass(frozen=True)
class GenderOutput(_Output):
    """A model's output for gender: one number for one class, or one for each of two."""

    classes: tuple[str, ...] = ("male", "female")
    """For two numbers: the class of each."""
    of: str = "female"
    """For one number: the class whose probability it is."""

    @property
    def count(self) -> int:
        """How many numbers it has."""
        return 1 if self.kind in ("logit", "probability") else 2

    def read(self, outputs: Sequence[Float], names: Sequence[str]) -> Float:
        """(N,) float32: the probability of female, in [0, 1].

        >>> answer = GenderOutput("logit", of="male")
        >>> answer.read([np.array([[0.0], [2.0]], np.float32)], ["out"]).round(2).tolist()
        [0.5, 0.11999999731779099]
        """
        numbers = self.numbers(outputs, names)
        if self.count == 2:
            return np.clip(self.probabilities(numbers)[:, self.classes.index("female")], 0, 1)
        one = numbers[:, 0]
        chance = 1 / (1 + np.exp(-one.astype(np.float64))) if self.kind == "logit" else np.clip(one, 0, 1)
        return np.asarray(chance if self.of == "female" else 1 - chance, np.float32)


@dataclass(frozen=True)
class AgeOutput(_Output):
    """A model's output for age: years, or the probability of each of several ranges."""

    ranges: tuple[tuple[float, float], ...] = ()
    """For classes: lowest and highest whole year of each, both included."""
    mean_years: tuple[float, ...] = ()
    """Mean age of the people in each range; by default its middle."""
    factor: float = 1.0
    """For years: how many years one unit of the model's number is."""
    offset_years: float = 0.0

    @property
    def count(self) -> int:
        """How many numbers it has."""
        return 1 if self.kind == "years" else len(self.ranges)

    def read(self, outputs: Sequence[Float], names: Sequence[str]) -> tuple[Float, Float]:
        """Age in years and its standard deviation in years, (N,) float32 each.

        For classes both are those of the distribution, with people spread evenly over each range. For years
        the deviation is unknown (NaN).

        >>> answer = AgeOutput("probabilities", ranges=((0, 9), (10, 19)))
        >>> age, spread = answer.read([np.array([[0.5, 0.5]], np.float32)], ["out"])
        >>> age.tolist(), spread.round(2).tolist()
        ([9.5], [5.769999980926514])
        """
        numbers = self.numbers(outputs, names)
        if self.kind == "years":
            years = numbers[:, 0] * np.float32(self.factor) + np.float32(self.offset_years)
            return np.clip(years, 0, 120), np.full(len(years), np.nan, np.float32)
        weights = self.probabilities(numbers).astype(np.float64)
        low, high = np.array(self.ranges, np.float64).T
        width, middle = high + 1 - low, (low + high) / 2
        center = np.array(self.mean_years) if self.mean_years else middle
        mean = weights @ center
        variance = weights @ (center**2 + width**2 / 12) - mean**2
        return mean.astype(np.float32), np.sqrt(np.maximum(variance, 0)).astype(np.float32)


@dataclass(frozen=True)
class Description:
    """A model's input and outputs."""

    model: Model
    width: int
    height: int
    pixels: Pixels
    crop: Crops
    gender: GenderOutput | None = None
    age: AgeOutput | None = None
    path: Path | None = None
    """The ONNX file, of all but the classic models."""
    text: str = field(default="", repr=False)
    """The TOML file beside it."""
    meaning: str = field(default="", repr=False)
    """Its tables that results depend on, as JSON: not the license, and no names."""

    @property
    def outputs(self) -> tuple[GenderOutput | AgeOutput, ...]:
        """The outputs for gender and age that it has."""
        return tuple(one for one in (self.gender, self.age) if one is not None)

    @property
    def by_user(self) -> bool:
        """Whether it is a user's own model, which is not to be trusted."""
        return self.path is not None and self.path.parent != _WEIGHTS


_ADIENCE_RANGES = ((0, 2), (4, 6), (8, 12), (15, 20), (25, 32), (38, 43), (48, 53), (60, 100))
# The last range is open: its people are 71.7 years old on average (benchmarks/fit_points.py).
_ADIENCE_MEANS = (*((low + high) / 2 for low, high in _ADIENCE_RANGES[:-1]), 71.7)

_CAFFE_PIXELS = Pixels(means=(78.4263377603, 87.7689143744, 114.895847746))
_CAFFE_PX = 227
# The classic programs widen the detector's box in this way.
_CAFFE_CROP = BoxCrop(_CAFFE_PX, _CAFFE_PX, margin_px=20)

LEVI_HASSNER = {
    model.name: Description(model, _CAFFE_PX, _CAFFE_PX, _CAFFE_PIXELS, _CAFFE_CROP, gender, age)
    for model, gender, age in (
        (registry.LEVI_HASSNER_GENDER, GenderOutput("probabilities", classes=("male", "female")), None),
        (
            registry.LEVI_HASSNER_AGE,
            None,
            AgeOutput("probabilities", ranges=_ADIENCE_RANGES, mean_years=_ADIENCE_MEANS),
        ),
    )
}
"""The classic models, by their names in the registry."""


class _Table:
    """A table of a TOML file. Every key must be taken; `end` refuses those that were not."""

    def __init__(self, values: Mapping[str, Any], where: str, file: str) -> None:
        self._values = dict(values)
        self._where = where
        self._file = file

    def wrong(self, key: str, wanted: str) -> ModelError:
        return ModelError(f"{self._file}: {self._where}{key} must be {wanted}")

    def take(self, key: str, kind: type | tuple[type, ...], wanted: str, default: Any = ...) -> Any:
        if key not in self._values:
            if default is ...:
                raise ModelError(f"{self._file}: {self._where}{key} is missing: it must be {wanted}")
            return default
        value = self._values.pop(key)
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if not isinstance(value, kind) or (isinstance(value, bool) and bool not in kinds):
            raise self.wrong(key, wanted)
        return value

    def numbers(self, key: str, count: int, default: Any) -> tuple[float, ...]:
        """`count` numbers, or one for all of them."""
        wanted = f"a number or {count} numbers"
        value = self.take(key, (int, float, list), wanted, default)
        values = value if isinstance(value, list) else [value] * count
        if len(values) != count or not all(
            isinstance(one, int | float) and not isinstance(one, bool) and -_MAX_NUMBER < one < _MAX_NUMBER
            for one in values
        ):
            raise self.wrong(key, wanted)
        return tuple(float(one) for one in values)

    def table(self, key: str) -> _Table | None:
        value = self.take(key, dict, "a table", None)
        return None if value is None else _Table(value, f"{self._where}{key}.", self._file)

    def end(self) -> None:
        if self._values:
            raise ModelError(f"{self._file}: {self._where}{min(self._values)} is not a key of a description")


def described(path: Path) -> Description:
    """Read the description of a user's own model; the model itself is not read.

    Args:
        path: The ONNX file; the description is beside it and ends in ``.toml``.

    Raises:
        ModelError: There is no description, or it is wrong.
    """
    beside = path.with_suffix(".toml")
    try:
        with beside.open("rb") as file:
            content = file.read(_MAX_TEXT_BYTES + 1)
    except FileNotFoundError as error:
        raise ModelError(
            f"{path} needs a description beside it, {beside.name}: docs/models.md explains how to write it"
        ) from error
    except OSError as error:
        raise ModelError(f"{beside} cannot be read: {error.strerror or error}") from error
    if len(content) > _MAX_TEXT_BYTES:
        raise ModelError(f"{beside} is too long for the description of a model")
    return _parsed(content, path)


def _parsed(content: bytes, path: Path) -> Description:
    beside = path.with_suffix(".toml")
    try:
        text = content.decode()
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # wrong bytes and wrong TOML are ValueErrors too
        raise ModelError(f"{beside} is not a valid TOML file: {error}") from error
    parts = {name: values[name] for name in ("input", "crop", "gender", "age") if name in values}
    meaning = json.dumps(parts, sort_keys=True, default=str)
    table = _Table(values, "", beside.name)
    size, pixels = _input(table)
    gender, age = _gender(table.table("gender")), _age(table.table("age"))
    if gender is None and age is None:
        raise ModelError(f"{beside.name}: there must be a table gender, a table age, or both")
    role: Role = "gender and age" if gender and age else "gender" if gender else "age"
    commercial = table.take("commercial_use", bool, "true or false", None)
    known = {key: table.take(key, str, "text", "not stated") for key in _TEXTS}
    digest = table.take("sha256", str, "64 hex digits", "")
    if digest and not re.fullmatch("[0-9a-f]{64}", digest):
        raise table.wrong("sha256", "64 hex digits in lower case")
    crop = _crop(table.table("crop"), size)
    table.end()
    model = Model(
        path.stem,
        role,
        (ModelFile(path.name, (digest,) if digest else ()),),
        commercial_use=commercial,
        input=f"{size[0]}x{size[1]} {'RGB' if pixels.rgb else 'BGR'}",
        speed="not measured here",
        **known,
    )
    return Description(model, *size, pixels, crop, gender, age, path, text, meaning)


_TEXTS = ("license", "source", "paper", "trained_on", "known_bias")


def _input(table: _Table) -> tuple[tuple[int, int], Pixels]:
    part = table.table("input") or _Table({}, "input.", table._file)
    wanted = f"the side in pixels, up to {_MAX_PX}, or [width, height]"
    size = part.take("size", (int, list), wanted)
    sides = size if isinstance(size, list) else [size, size]
    if len(sides) != 2 or not all(type(one) is int and 8 <= one <= _MAX_PX for one in sides):
        raise part.wrong("size", wanted)
    colors = part.take("colors", str, '"rgb" or "bgr"')
    if colors not in ("rgb", "bgr"):
        raise part.wrong("colors", '"rgb" or "bgr"')
    layout = part.take("layout", str, '"nchw" or "nhwc"', "nchw")
    if layout not in ("nchw", "nhwc"):
        raise part.wrong("layout", '"nchw" or "nhwc"')
    means, scales = part.numbers("mean", 3, 0.0), part.numbers("scale", 3, 1.0)
    if not all(one >= _MIN_SCALE for one in scales):
        raise part.wrong("scale", f"at least {_MIN_SCALE}")
    part.end()
    pixels = Pixels(
        rgb=colors == "rgb",
        means=(means[0], means[1], means[2]),
        scale=(scales[0], scales[1], scales[2]),
        channels_last=layout == "nhwc",
    )
    return (sides[0], sides[1]), pixels


def _crop(part: _Table | None, size: tuple[int, int]) -> Crops:
    if part is None:
        return BoxCrop(*size)
    align = part.take("align", str, '"box" or "landmarks"', "box")
    if align not in ("box", "landmarks"):
        raise part.wrong("align", '"box" or "landmarks"')
    return _landmark_crop(part, size) if align == "landmarks" else _box_crop(part, size)


def _box_crop(part: _Table, size: tuple[int, int]) -> BoxCrop:
    margin = part.take("margin", (int, float), "a share of the box's side", 0.0)
    margin_px = part.take("margin_px", int, "a number of pixels", 0)
    square = part.take("square", bool, "true or false", False)
    if not 0 <= margin <= _MAX_MARGIN or not 0 <= margin_px <= 1000:
        raise part.wrong("margin", f"between 0 and {_MAX_MARGIN}, margin_px between 0 and 1000")
    part.end()
    return BoxCrop(*size, margin=float(margin), margin_px=margin_px, square=square)


def _landmark_crop(part: _Table, size: tuple[int, int]) -> LandmarkCrop:
    if size[0] != size[1]:
        raise part.wrong("align", f'"box" for an input of {size[0]} x {size[1]}: aligned crops are square')
    wanted = "five points [x, y] as shares of the crop's side: eyes, nose, corners of the mouth"
    points = part.take("landmarks", list, wanted, None)
    if points is None:
        padding = part.take("padding", (int, float), "a share of the face's size", CROP_PADDING)
        if not 0 <= padding <= _MAX_MARGIN:
            raise part.wrong("padding", f"between 0 and {_MAX_MARGIN}")
        points = padded_landmarks(float(padding)).round(4).tolist()
    elif not (
        len(points) == _LANDMARKS
        and all(isinstance(point, list) and len(point) == 2 for point in points)
        and all(type(one) in (int, float) and -1 <= one <= 2 for point in points for one in point)
        and len({tuple(point) for point in points}) == _LANDMARKS
    ):
        raise part.wrong("landmarks", wanted)
    part.end()
    return LandmarkCrop(size[0], tuple((float(x), float(y)) for x, y in points))


def _output(part: _Table, kinds: tuple[str, ...]) -> dict[str, Any]:
    kind = part.take("kind", str, " or ".join(kinds))
    if kind not in kinds:
        raise part.wrong("kind", " or ".join(kinds))
    output = part.take("output", (str, int), "the name or number of an output", 0)
    wanted = "[first, last but one], counted from 0"
    numbers = part.take("numbers", list, wanted, None)
    if numbers is not None and not (
        len(numbers) == 2 and all(type(one) is int for one in numbers) and 0 <= numbers[0] < numbers[1]
    ):
        raise part.wrong("numbers", wanted)
    return {"kind": kind, "output": output, "part": None if numbers is None else tuple(numbers)}


def _gender(part: _Table | None) -> GenderOutput | None:
    if part is None:
        return None
    place = _output(part, ("logit", "probability", "logits", "probabilities"))
    both = ("male", "female")
    answer = GenderOutput(**place)
    if answer.count == 2:
        classes = part.take("classes", list, '["male", "female"] or ["female", "male"]')
        if sorted(map(str, classes)) != sorted(both):
            raise part.wrong("classes", '["male", "female"] or ["female", "male"]')
        answer = GenderOutput(**place, classes=tuple(classes))
    else:
        of = part.take("of", str, '"female" or "male"')
        if of not in both:
            raise part.wrong("of", '"female" or "male"')
        answer = GenderOutput(**place, of=of)
    part.end()
    return answer


def _age(part: _Table | None) -> AgeOutput | None:
    if part is None:
        return None
    place = _output(part, ("years", "logits", "probabilities"))
    if place["kind"] == "years":
        (factor,) = part.numbers("factor", 1, 1.0)
        (offset,) = part.numbers("offset_years", 1, 0.0)
        part.end()
        return AgeOutput(**place, factor=factor, offset_years=offset)
    wanted = "a list of [lowest, highest] whole years in ascending order, one for each class"
    ranges = part.take("ranges", list, wanted)
    pairs = [tuple(one) for one in ranges if isinstance(one, list) and len(one) == 2]
    flat = [year for pair in pairs for year in pair]
    whole = all(isinstance(year, int) and not isinstance(year, bool) and 0 <= year <= 150 for year in flat)
    if len(pairs) != len(ranges) or len(pairs) < 2 or not whole or not _ascend(pairs):
        raise part.wrong("ranges", wanted)
    means = part.numbers("mean_years", len(pairs), 0.0) if "mean_years" in part._values else ()
    if means and not all(low <= mean <= high for (low, high), mean in zip(pairs, means, strict=True)):
        raise part.wrong("mean_years", "a list of ages, one within each range")
    part.end()
    return AgeOutput(**place, ranges=tuple(pairs), mean_years=means)


def _ascend(pairs: Sequence[tuple[Any, ...]]) -> bool:
    flat = [(low, high) for low, high in pairs]
    inside = all(low <= high for low, high in flat)
    return inside and all(one[1] < two[0] for one, two in itertools.pairwise(flat))


def descriptions() -> list[Path]:
    """The ONNX files that have a description in the folders of `registry.folders`, each name once."""
    found: dict[str, Path] = {}
    for folder in registry.folders():
        for beside in sorted(folder.glob("*.toml")):
            path = beside.with_suffix(".onnx")
            if path.is_file():
                found.setdefault(path.stem, path)
    return [found[name] for name in sorted(found)]


def shipped(model: Model) -> Description | None:
    """The description of a model that comes with this project, in the form of users' own; None: it has none.

    The card is that of the registry.
    """
    path = _WEIGHTS / f"{model.name}.onnx"
    return replace(described(path), model=model) if path.with_suffix(".toml").is_file() else None


def find_description(name: str) -> Description | None:
    """The description of a user's model, by its name or the path of its ONNX file; None: there is none.

    Raises:
        ModelError: The description is wrong, or there is no file at that path.
    """
    if name.endswith(".onnx") or os.sep in name:
        path = Path(name)
        if not path.is_file():
            raise ModelError(f"there is no model {name}: check the path")
        return described(path)
    return next((described(path) for path in descriptions() if path.stem == name), None)


@dataclass(frozen=True, eq=False)
class Checked:
    """An ONNX file that was found to fit its description."""

    content: bytes
    outputs: tuple[str, ...]
    """Names of its outputs."""
    batch: int | None
    """How many images it takes at once; None: any number."""


def read_onnx(description: Description) -> Checked:
    """Read the ONNX file of a description, and check its hash, that it is self-contained, and that its inputs
    and outputs fit.

    Raises:
        ModelError: The file cannot be read or fails a check.
    """
    path = description.path
    assert path is not None
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ModelError(f"{path} is larger than the limit for models ({_MAX_BYTES >> 20} MiB)")
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    (file,) = description.model.files
    if file.sha256 and not file.fits(content):
        raise ModelError(
            f"{path} is not the model that its description is for (its hash is not {file.expected}): "
            f"get it again, or add it anew with {program()} models add"
        )
    return _checked(content, description, path)


def _checked(content: bytes, description: Description, path: Path) -> Checked:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    kind = next((what for magic, what in _OTHERS.items() if content.startswith(magic)), None)
    if kind is not None:
        raise ModelError(f"{path} is {kind}, not an ONNX model: only single ONNX files are read")
    try:
        model = onnx.load_model_from_string(content)
    except (DecodeError, ValueError, TypeError) as error:
        raise ModelError(f"{path} is not an ONNX model, or is damaged") from error
    if not model.ir_version or not model.graph.node:
        raise ModelError(f"{path} is not an ONNX model, or is damaged")
    _check_holds_all(model, path)
    batch = _check_fit(model, description, path)
    return Checked(content, tuple(value.name for value in model.graph.output), batch)


def _check_holds_all(model: Any, path: Path) -> None:
    """Check that nothing comes from elsewhere: neither numbers nor operators."""
    import onnx

    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise ModelError(
                f"{path} keeps numbers in other files, which are not opened: save it as a single file"
            )
    own = {(function.domain, function.name) for function in model.functions}
    for node in itertools.chain.from_iterable(_nodes(one) for one in (model.graph, *model.functions)):
        if node.domain not in _DOMAINS and (node.domain, node.op_type) not in own:
            raise ModelError(f"{path} uses operators of {node.domain}, which are not part of ONNX")


_OTHERS = {
    b"PK\x03\x04": "a zip file",
    b"\x1f\x8b": "a gzip file",
    **{bytes([0x80, protocol]): "a pickle" for protocol in range(2, 6)},
}


def _graphs(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _nodes(graph: Any) -> Iterator[Any]:
    """All nodes of a graph or a function, including those of inner graphs."""
    for node in graph.node:
        yield node
        for inner in _graphs(node):
            yield from _nodes(inner)


@dataclass(frozen=True)
class _Defaults:
    """Attributes that belong to no node."""

    attribute: Any


def _tensors(model: Any) -> Iterator[Any]:
    """All tensors anywhere in a model."""
    graphs, nodes = [model.graph], [node for function in model.functions for node in function.node]
    # A function's default attributes are written like those of a node.
    nodes += [_Defaults(function.attribute_proto) for function in model.functions]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            nodes += graph.node
            continue
        node = nodes.pop()
        graphs += _graphs(node)
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)


def _check_fit(model: Any, description: Description, path: Path) -> int | None:
    """Check that a model fits its description.

    Returns:
        How many images it takes at once; None: any number.
    """
    import onnx

    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1:
        raise ModelError(f"{path} has {len(inputs)} inputs: a model of single images has one")
    kind = inputs[0].type.tensor_type
    if kind.elem_type != onnx.TensorProto.FLOAT:
        raise ModelError(f"{path} does not take 32-bit floating point numbers: export it with such an input")
    shape = [size.dim_value or None for size in kind.shape.dim]
    sides = [description.height, description.width]
    wanted = [*sides, 3] if description.pixels.channels_last else [3, *sides]
    fits = len(shape) == 4 and all(have in (None, want) for have, want in zip(shape[1:], wanted, strict=True))
    if not fits:
        shown = "x".join("?" if one is None else str(one) for one in shape)
        raise ModelError(
            f"{path} takes images of {shown}, not of {'x'.join(map(str, wanted))} as its description says"
        )
    if shape[0] is not None and not 1 <= shape[0] <= _MAX_BATCH:
        raise ModelError(
            f"{path} takes {shape[0]} images at once: export it for one, or for any number of them"
        )
    names = [value.name for value in model.graph.output]
    shapes = [
        [size.dim_value or None for size in one.type.tensor_type.shape.dim] for one in model.graph.output
    ]
    if any(one is not None and one < 1 for shape in shapes for one in shape):
        raise ModelError(f"{path} has an output of negative size: it is damaged")
    for output in description.outputs:
        _check_output(output, names, shapes, path)
        place = names.index(output.output) if isinstance(output.output, str) else output.output
        one = model.graph.output[place]
        kind = one.type.tensor_type
        if onnx.TensorProto.DataType.Name(kind.elem_type) not in ("FLOAT", "FLOAT16", "DOUBLE"):
            raise ModelError(f"{path} does not give floating point numbers in its output {one.name}")
        if kind.HasField("shape") and not kind.shape.dim:
            raise ModelError(
                f"{path} gives one number for all images in its output {one.name}: it needs one for each"
            )
    return shape[0]


def _check_output(
    output: GenderOutput | AgeOutput, names: list[str], shapes: list[list[int | None]], path: Path
) -> None:
    """Check that an estimate's numbers exist, as far as the shapes are known."""
    what = "gender" if isinstance(output, GenderOutput) else "age"
    if output.output not in (names if isinstance(output.output, str) else range(len(names))):
        raise ModelError(
            f"{path} has no output {output.output!r} for {what}: it has {', '.join(names)}, from number 0"
        )
    index = names.index(output.output) if isinstance(output.output, str) else output.output
    shape = shapes[index][1:]
    if not shapes[index] or None in shape:
        return  # `check_outputs` checks it after a first run
    have = math.prod(one for one in shape if one is not None)
    first, end = output.part or (0, have)
    if end > have or end - first != output.count:
        taken = max(0, min(end, have) - first)
        raise ModelError(
            f"{path} gives {have} numbers, of which the description takes {taken} for {what}, but names "
            f"{output.count}"
        )


def check_outputs(
    description: Description, outputs: Sequence[Float], names: Sequence[str], count: int
) -> None:
    """Check the outputs that a model gave for `count` images against its description.

    Raises:
        ModelError: An estimate is missing, or is not a number.
    """
    path = description.path or Path(description.model.name)
    shapes: list[list[int | None]] = [list(one.shape) for one in outputs]
    for output in description.outputs:
        _check_output(output, list(names), shapes, path)
        numbers = output.numbers(outputs, names)
        if len(numbers) != count:
            raise ModelError(f"{path} does not give one answer for each of several images")
        if not np.isfinite(numbers).all():
            raise ModelError(f"{path} gives no finite numbers for a plain gray image: it is damaged")
