"""Networks for gender and age that are described in words: the classic ones, and the user's own.

A description says what a network wants of a face's picture and what its outputs mean. Those of users are
TOML files that lie beside an ONNX file and have its name (docs/models.md explains them). Both are strangers'
files: an ONNX file is read as data, must hold everything itself and consist of ONNX's own operators, and its
inputs and outputs must fit the description, before any engine sees it.
"""

from __future__ import annotations

import itertools
import math
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ModelError
from analyzer.util.program import program
from analyzer.vision import registry
from analyzer.vision.crops import BoxCrop
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
]

Float = NDArray[np.float32]


Kind = Literal["logit", "probability", "logits", "probabilities", "years"]


_MOST_BYTES, _MOST_TEXT_BYTES = 1 << 30, 1 << 16


_MOST, _LEAST_SCALE = 1e6, 1e-6
"""Numbers beyond are no means, scales or years."""


_MOST_TOGETHER = 64


_MOST_PX = 1024


_DOMAINS = ("", "ai.onnx", "ai.onnx.ml")


def _softmax(logits: Float) -> Float:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


@dataclass(frozen=True)
class _Answer:
    """Where in a network's outputs an answer stands."""

    kind: Kind
    output: str | int = 0
    """Name or number of the output."""
    part: tuple[int, int] | None = None
    """First and last but one of the numbers that belong to it, of those a face gets; None: all."""

    def numbers(self, outputs: Sequence[Float], names: Sequence[str]) -> Float:
        """(N, K) float32: the numbers of N faces."""
        index = names.index(self.output) if isinstance(self.output, str) else self.output
        flat = outputs[index].reshape(len(outputs[index]), -1)
        return flat if self.part is None else flat[:, slice(*self.part)]

    def shares(self, numbers: Float) -> Float:
        """(N, K) float32: probabilities that add up to 1."""
        if self.kind == "logits":
            return _softmax(numbers)
        kept = np.maximum(numbers, 0)
        return np.asarray(kept / np.maximum(kept.sum(axis=1, keepdims=True), 1e-9), np.float32)


@dataclass(frozen=True)
class GenderOutput(_Answer):
    """What a network says of gender: one number for one class, or one for each of two."""

    classes: tuple[str, ...] = ("male", "female")
    """Of two numbers: what each is for."""
    of: str = "female"
    """Of one number: the class whose probability it is."""

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
            return np.clip(self.shares(numbers)[:, self.classes.index("female")], 0, 1)
        one = numbers[:, 0]
        chance = 1 / (1 + np.exp(-one.astype(np.float64))) if self.kind == "logit" else np.clip(one, 0, 1)
        return np.asarray(chance if self.of == "female" else 1 - chance, np.float32)


@dataclass(frozen=True)
class AgeOutput(_Answer):
    """What a network says of age: years, or how likely each of several ranges is."""

    ranges: tuple[tuple[float, float], ...] = ()
    """Of classes: lowest and highest whole year of each, both included."""
    mean_years: tuple[float, ...] = ()
    """Mean age of the people of each range; the middle, where not given."""
    factor: float = 1.0
    """Of years: one unit of the network's number."""
    offset_years: float = 0.0

    @property
    def count(self) -> int:
        """How many numbers it has."""
        return 1 if self.kind == "years" else len(self.ranges)

    def read(self, outputs: Sequence[Float], names: Sequence[str]) -> tuple[Float, Float]:
        """Age in years and its standard deviation in years, (N,) float32 each.

        Of classes both are those of the distribution, people being spread evenly over each range. Of years
        the deviation is not known (NaN).

        >>> answer = AgeOutput("probabilities", ranges=((0, 9), (10, 19)))
        >>> age, spread = answer.read([np.array([[0.5, 0.5]], np.float32)], ["out"])
        >>> age.tolist(), spread.round(2).tolist()
        ([9.5], [5.769999980926514])
        """
        numbers = self.numbers(outputs, names)
        if self.kind == "years":
            years = numbers[:, 0] * np.float32(self.factor) + np.float32(self.offset_years)
            return np.clip(years, 0, 120), np.full(len(years), np.nan, np.float32)
        shares = self.shares(numbers).astype(np.float64)
        low, high = np.array(self.ranges, np.float64).T
        width, middle = high + 1 - low, (low + high) / 2
        center = np.array(self.mean_years) if self.mean_years else middle
        mean = shares @ center
        variance = shares @ (center**2 + width**2 / 12) - mean**2
        return mean.astype(np.float32), np.sqrt(np.maximum(variance, 0)).astype(np.float32)


@dataclass(frozen=True)
class Description:
    """What a network wants, and what it says."""

    model: Model
    width: int
    height: int
    pixels: Pixels
    cut: BoxCrop
    gender: GenderOutput | None = None
    age: AgeOutput | None = None
    path: Path | None = None
    """Of the user's own networks: the ONNX file."""
    text: str = field(default="", repr=False)
    """Of the user's own networks: the TOML file."""

    @property
    def answers(self) -> tuple[GenderOutput | AgeOutput, ...]:
        """What it says."""
        return tuple(one for one in (self.gender, self.age) if one is not None)


_ADIENCE_RANGES = ((0, 2), (4, 6), (8, 12), (15, 20), (25, 32), (38, 43), (48, 53), (60, 100))


# The last range is open: its people are 71.7 years old on average (benchmarks/fit_points.py).
_ADIENCE_MEANS = (*((low + high) / 2 for low, high in _ADIENCE_RANGES[:-1]), 71.7)


_CAFFE_PIXELS = Pixels(means=(78.4263377603, 87.7689143744, 114.895847746))


_CAFFE_PX = 227


# As the classic programs widen the box of the detector.
_CAFFE_CUT = BoxCrop(_CAFFE_PX, _CAFFE_PX, margin_px=20)


LEVI_HASSNER = {
    model.name: Description(model, _CAFFE_PX, _CAFFE_PX, _CAFFE_PIXELS, _CAFFE_CUT, gender, age)
    for model, gender, age in (
        (registry.LEVI_HASSNER_GENDER, GenderOutput("probabilities", classes=("male", "female")), None),
        (
            registry.LEVI_HASSNER_AGE,
            None,
            AgeOutput("probabilities", ranges=_ADIENCE_RANGES, mean_years=_ADIENCE_MEANS),
        ),
    )
}
"""The classic networks, by the names of the catalog."""


class _Table:
    """A table of a TOML file, each key of which must be asked for."""

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
            isinstance(one, int | float) and not isinstance(one, bool) and -_MOST < one < _MOST
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
    """The description of a network of the user's own; the network itself is not read.

    Args:
        path: The ONNX file; the description lies beside it and ends in ``.toml``.

    Raises:
        ModelError: There is no description, or something in it is wrong.
    """
    beside = path.with_suffix(".toml")
    try:
        with beside.open("rb") as file:
            content = file.read(_MOST_TEXT_BYTES + 1)
    except FileNotFoundError as error:
        raise ModelError(
            f"{path} needs a description beside it, {beside.name}: docs/models.md says what stands in it"
        ) from error
    except OSError as error:
        raise ModelError(f"{beside} cannot be read: {error.strerror or error}") from error
    if len(content) > _MOST_TEXT_BYTES:
        raise ModelError(f"{beside} is too long for a description of a network")
    return _parsed(content, path)


def _parsed(content: bytes, path: Path) -> Description:
    beside = path.with_suffix(".toml")
    try:
        text = content.decode()
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # wrong bytes and wrong TOML are ValueErrors too
        raise ModelError(f"{beside} is no TOML file that can be read: {error}") from error
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
    cut = _cut(table.table("crop"), size)
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
    return Description(model, *size, pixels, cut, gender, age, path, text)


_TEXTS = ("license", "source", "paper", "trained_on", "known_bias")


def _input(table: _Table) -> tuple[tuple[int, int], Pixels]:
    part = table.table("input") or _Table({}, "input.", table._file)
    wanted = f"the side in pixels, up to {_MOST_PX}, or [width, height]"
    size = part.take("size", (int, list), wanted)
    sides = size if isinstance(size, list) else [size, size]
    if len(sides) != 2 or not all(type(one) is int and 8 <= one <= _MOST_PX for one in sides):
        raise part.wrong("size", wanted)
    colors = part.take("colors", str, '"rgb" or "bgr"')
    if colors not in ("rgb", "bgr"):
        raise part.wrong("colors", '"rgb" or "bgr"')
    layout = part.take("layout", str, '"nchw" or "nhwc"', "nchw")
    if layout not in ("nchw", "nhwc"):
        raise part.wrong("layout", '"nchw" or "nhwc"')
    means, scales = part.numbers("mean", 3, 0.0), part.numbers("scale", 3, 1.0)
    if not all(one >= _LEAST_SCALE for one in scales):
        raise part.wrong("scale", f"at least {_LEAST_SCALE}")
    part.end()
    pixels = Pixels(
        rgb=colors == "rgb",
        means=(means[0], means[1], means[2]),
        scale=(scales[0], scales[1], scales[2]),
        channels_last=layout == "nhwc",
    )
    return (sides[0], sides[1]), pixels


def _cut(part: _Table | None, size: tuple[int, int]) -> BoxCrop:
    if part is None:
        return BoxCrop(*size)
    margin = part.take("margin", (int, float), "a share of the box's side", 0.0)
    margin_px = part.take("margin_px", int, "a number of pixels", 0)
    square = part.take("square", bool, "true or false", False)
    if not 0 <= margin <= 3 or not 0 <= margin_px <= 1000:
        raise part.wrong("margin", "between 0 and 3, margin_px between 0 and 1000")
    part.end()
    return BoxCrop(*size, margin=float(margin), margin_px=margin_px, square=square)


def _place(part: _Table, kinds: tuple[str, ...]) -> dict[str, Any]:
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
    place = _place(part, ("logit", "probability", "logits", "probabilities"))
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
    place = _place(part, ("years", "logits", "probabilities"))
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
    """The ONNX files with a description in the folders of `registry.folders`, each name once."""
    found: dict[str, Path] = {}
    for folder in registry.folders():
        for beside in sorted(folder.glob("*.toml")):
            path = beside.with_suffix(".onnx")
            if path.is_file():
                found.setdefault(path.stem, path)
    return [found[name] for name in sorted(found)]


def find_description(name: str) -> Description | None:
    """The description of a user's network, by its name or the path of its ONNX file; None: there is none.

    Raises:
        ModelError: There is one, but it is wrong; or it is the name of a file that is no ONNX file.
    """
    if name.endswith(".onnx") or os.sep in name:
        path = Path(name)
        if not path.is_file():
            raise ModelError(f"there is no network {name}: check the path")
        return described(path)
    return next((described(path) for path in descriptions() if path.stem == name), None)


@dataclass(frozen=True, eq=False)
class Checked:
    """The ONNX file of a description, which was found to fit it."""

    content: bytes
    outputs: tuple[str, ...]
    """Names of its outputs."""
    batch: int | None
    """How many pictures it takes together; None: any number."""


def read_onnx(description: Description) -> Checked:
    """The ONNX file of a description, checked: its hash, that it holds everything itself, and that its inputs
    and outputs fit.

    Raises:
        ModelError: It does not.
    """
    path = description.path
    assert path is not None
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ModelError(f"{path} is larger than any network that is read here ({_MOST_BYTES >> 20} MiB)")
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    (file,) = description.model.files
    if file.sha256 and not file.fits(content):
        raise ModelError(
            f"{path} is not the network that its description is about (its hash is not {file.expected}): get "
            f"it again, or add it anew with {program()} models add"
        )
    return _checked(content, description, path)


def _checked(content: bytes, description: Description, path: Path) -> Checked:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    kind = next((what for magic, what in _OTHERS.items() if content.startswith(magic)), None)
    if kind is not None:
        raise ModelError(f"{path} is {kind}, not an ONNX network: only single ONNX files are read")
    try:
        model = onnx.load_model_from_string(content)
    except (DecodeError, ValueError, TypeError) as error:
        raise ModelError(f"{path} is no ONNX network, or a damaged one") from error
    if not model.ir_version or not model.graph.node:
        raise ModelError(f"{path} is no ONNX network, or a damaged one")
    _check_holds_all(model, path)
    batch = _check_fit(model, description, path)
    return Checked(content, tuple(value.name for value in model.graph.output), batch)


def _check_holds_all(model: Any, path: Path) -> None:
    """That nothing is taken from elsewhere: neither numbers nor operators."""
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
    """All nodes of a graph or a function, those of inner graphs included."""
    for node in graph.node:
        yield node
        for inner in _graphs(node):
            yield from _nodes(inner)


@dataclass(frozen=True)
class _Defaults:
    """Attributes that belong to no node."""

    attribute: Any


def _tensors(model: Any) -> Iterator[Any]:
    """All tensors that stand anywhere in a network."""
    graphs, nodes = [model.graph], [node for function in model.functions for node in function.node]
    # What a function takes for granted is written as attributes of a node are.
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
    """That a network fits its description; gives how many pictures it takes at once (None: any number)."""
    import onnx

    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1:
        raise ModelError(f"{path} has {len(inputs)} inputs: a network of one picture has one")
    kind = inputs[0].type.tensor_type
    if kind.elem_type != onnx.TensorProto.FLOAT:
        raise ModelError(f"{path} takes no numbers of 32-bit floating point: export it so")
    shape = [size.dim_value or None for size in kind.shape.dim]
    sides = [description.height, description.width]
    wanted = [*sides, 3] if description.pixels.channels_last else [3, *sides]
    fits = len(shape) == 4 and all(have in (None, want) for have, want in zip(shape[1:], wanted, strict=True))
    if not fits:
        shown = "x".join("?" if one is None else str(one) for one in shape)
        raise ModelError(
            f"{path} takes pictures of {shown}, not of {'x'.join(map(str, wanted))} as its description says"
        )
    if shape[0] is not None and not 1 <= shape[0] <= _MOST_TOGETHER:
        raise ModelError(
            f"{path} takes {shape[0]} pictures together: export it for one, or for any number of them"
        )
    names = [value.name for value in model.graph.output]
    shapes = [
        [size.dim_value or None for size in one.type.tensor_type.shape.dim] for one in model.graph.output
    ]
    if any(one is not None and one < 1 for shape in shapes for one in shape):
        raise ModelError(f"{path} says that it gives less than nothing: it is damaged")
    for answer in description.answers:
        _check_answer(answer, names, shapes, path)
        place = names.index(answer.output) if isinstance(answer.output, str) else answer.output
        one = model.graph.output[place]
        kind = one.type.tensor_type
        if onnx.TensorProto.DataType.Name(kind.elem_type) not in ("FLOAT", "FLOAT16", "DOUBLE"):
            raise ModelError(f"{path} gives no floating point numbers in its output {one.name}")
        if kind.HasField("shape") and not kind.shape.dim:
            raise ModelError(
                f"{path} gives one number for all pictures in its output {one.name}: it needs one for each"
            )
    return shape[0]


def _check_answer(
    answer: GenderOutput | AgeOutput, names: list[str], shapes: list[list[int | None]], path: Path
) -> None:
    """That an answer's numbers are there, as far as the shapes are known."""
    what = "gender" if isinstance(answer, GenderOutput) else "age"
    if answer.output not in (names if isinstance(answer.output, str) else range(len(names))):
        raise ModelError(
            f"{path} has no output {answer.output!r} for {what}: it has {', '.join(names)}, from number 0"
        )
    index = names.index(answer.output) if isinstance(answer.output, str) else answer.output
    shape = shapes[index][1:]
    if not shapes[index] or None in shape:
        return  # seen once it has judged a picture
    have = math.prod(one for one in shape if one is not None)
    first, end = answer.part or (0, have)
    if end > have or end - first != answer.count:
        taken = max(0, min(end, have) - first)
        raise ModelError(
            f"{path} gives {have} numbers, of which the description takes {taken} for {what}, but names "
            f"{answer.count}"
        )


def check_outputs(
    description: Description, outputs: Sequence[Float], names: Sequence[str], count: int
) -> None:
    """That the answers stand in what a network gave for `count` pictures.

    Raises:
        ModelError: They do not, or are no numbers.
    """
    path = description.path or Path(description.model.name)
    shapes: list[list[int | None]] = [list(one.shape) for one in outputs]
    for answer in description.answers:
        _check_answer(answer, list(names), shapes, path)
        numbers = answer.numbers(outputs, names)
        if len(numbers) != count:
            raise ModelError(f"{path} does not give one answer for each picture of several")
        if not np.isfinite(numbers).all():
            raise ModelError(f"{path} gives no numbers for an even gray picture: it is damaged")
