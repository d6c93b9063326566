"""Convert dlib's face recognition model to ONNX, from dlib's own file; dlib is not needed.

The model is a ResNet of 29 convolutions (He et al. 2016, Deep Residual Learning for Image Recognition) that
maps a face to 128 numbers. Faces of one person are close together: dlib's own bound is a Euclidean distance
of 0.6. It was trained by Davis King, https://github.com/davisking/dlib-models.

The file lists the details of each layer, but not how the layers are connected: in dlib a C++ type does that
(examples/dnn_face_recognition_ex.cpp). `_LAYERS` is that type, in the order of computation, and each layer of
the file is checked against it.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["DESCRIPTOR_SIZE", "FEATURES", "SIDE_PX", "to_onnx"]

Float = NDArray[np.float32]
Sizes = tuple[int, ...]

SIDE_PX = 150
"""Width and height of the model's input."""
DESCRIPTOR_SIZE = 128
FEATURES = 256
"""How many numbers a descriptor is computed from."""

_MEANS = (122.782, 117.001, 104.298)
_FC_WITHOUT_BIAS = 1
_AFFINE_BY_CHANNEL = 0
# Versions of entries: for layers that only mark a position, and for the first layer; others have 2.
_MARKERS = {"tag": 1, "skip": 1}
_FIRST = 3


class _Layer(NamedTuple):
    """A layer. `sizes` are the numbers of its entry in the file, in the file's order; `tag` is a position
    that the layer marks (tag), goes back to (skip) or adds (add_prev)."""

    kind: str
    sizes: Sizes = ()
    tag: int = 0


def _convolution(channels: int, side: int, stride: int, padding: int) -> list[_Layer]:
    window = (side, side, stride, stride, padding, padding)
    return [_Layer("con", (channels, *window)), _Layer("affine")]


def _block(channels: int, *, down: bool = False) -> list[_Layer]:
    """Two convolutions and the connection around them, which averages where the block halves the image."""
    first = _convolution(channels, 3, 2, 0) if down else _convolution(channels, 3, 1, 1)
    main = [_Layer("tag", tag=1), *first, _Layer("relu"), *_convolution(channels, 3, 1, 1)]
    around = [_Layer("tag", tag=2), _Layer("skip", tag=1), _Layer("avg_pool", (2, 2, 2, 2, 0, 0))]
    return [*main, *(around if down else []), _Layer("add_prev", tag=2 if down else 1), _Layer("relu")]


_LAYERS = [
    *_convolution(32, 7, 2, 0),
    _Layer("relu"),
    _Layer("max_pool", (3, 3, 2, 2, 0, 0)),
    *_block(32) * 3,
    *_block(64, down=True),
    *_block(64) * 3,
    *_block(128, down=True),
    *_block(128) * 2,
    *_block(256, down=True),
    *_block(256) * 2,
    *_block(256, down=True),
    # A window of size 0 is the whole image.
    _Layer("avg_pool", (0, 0, 1, 1, 0, 0)),
    _Layer("fc", (DESCRIPTOR_SIZE, FEATURES)),
]


def to_onnx(data: bytes) -> bytes:
    """Convert ``dlib_face_recognition_resnet_model_v1.dat`` to ONNX; takes about 0.1 s.

    Each affine layer is folded into the convolution before it, in float64.

    Args:
        data: The content of the file.

    Returns:
        A model (opset 17) that takes ``chips`` (N, 3, 150, 150) float32, N free: planes red, green, blue of
        (value - mean) / 256 with the means 122.782, 117.001, 104.298, which is left to the caller. It returns
        ``descriptors`` (N, 128) float32, not normalized, and ``features`` (N, 256) float32, the mean of the
        last map, of which they are a linear function.

    Raises:
        ValueError: The bytes are not this model, or are damaged or truncated. Altered weights that are still
            finite numbers go unnoticed: compare the file's SHA-256.
    """
    file, graph = _File(data), _Graph()
    window: Sizes = ()
    filters = biases = np.empty(0, np.float32)
    for layer, version in zip(_LAYERS, file.head(), strict=True):
        match layer.kind:
            case "con":
                window = layer.sizes
                filters, biases = file.convolution(window, graph.shape[0])
            case "affine":
                graph.convolve(*_folded(filters, biases, *file.affine(len(biases))), window)
            case "relu":
                file.expect("the kind of a layer", file.text(), "relu_")
                graph.relu()
            case "max_pool" | "avg_pool":
                file.pooling(layer.kind, layer.sizes)
                graph.pool(layer.kind, layer.sizes)
            case "add_prev":
                file.expect("the kind of a layer", file.text(), "add_prev_")
                graph.add(layer.tag)
            case "fc":
                graph.multiply(file.fully_connected(layer.sizes))
            case "tag":
                graph.tag(layer.tag)
            case "skip":
                graph.skip(layer.tag)
        if layer.kind not in _MARKERS:
            file.left_from_training(version)
    file.end()
    return graph.model()


def _folded(filters: Float, biases: Float, scale: Float, shift: Float) -> tuple[Float, Float]:
    """Filters and biases of one convolution that equals a convolution and an affine layer."""
    factor = scale.astype(np.float64)
    # Overflows from damaged weights are refused below.
    with np.errstate(over="ignore", invalid="ignore"):
        one = (filters * factor[:, None, None, None]).astype(np.float32)
        two = (biases * factor + shift).astype(np.float32)
    if not (np.isfinite(one).all() and np.isfinite(two).all()):
        raise _not_this("a weight is not a finite number")
    return one, two


def _not_this(reason: str) -> ValueError:
    return ValueError(f"these bytes are not dlib's face recognition model: {reason}")


class _File:
    """Reads the values of the file one by one (dlib/serialize.h, cuda/tensor.h, dnn/*.h).

    Every method raises ValueError where the bytes end too early or differ from this model.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def expect(self, what: str, found: object, wanted: object) -> None:
        if found != wanted:
            raise _not_this(f"{what} is {found!r} instead of {wanted!r} before byte {self._at}")

    def _skip(self, count: int) -> int:
        """Skip `count` bytes; returns where they begin."""
        start = self._at
        if count > len(self._data) - start:
            raise _not_this(f"they end at byte {len(self._data)}, within a value")
        self._at += count
        return start

    def integer(self) -> int:
        """A control byte with the sign and the number of bytes, then the bytes, lowest first."""
        control = self._data[self._skip(1)]
        count = control & 0x0F
        if control & 0x70 or not 1 <= count <= 8:
            raise _not_this(f"no integer begins with the byte {control} before byte {self._at}")
        start = self._skip(count)
        value = int.from_bytes(self._data[start : self._at], "little")
        return -value if control & 0x80 else value

    def integers(self, count: int) -> Sizes:
        return tuple(self.integer() for _ in range(count))

    def number(self) -> float:
        """A mantissa and an exponent of 2, both integers."""
        mantissa, exponent = self.integers(2)
        if abs(exponent) > 900:
            raise _not_this(f"a number has the exponent {exponent} before byte {self._at}")
        return math.ldexp(mantissa, exponent)

    def numbers(self, count: int) -> list[float]:
        return [self.number() for _ in range(count)]

    def boolean(self) -> bool:
        character = self._data[self._skip(1)]
        if character not in b"01":
            raise _not_this(f"neither true nor false is the byte {character} before byte {self._at}")
        return character == ord("1")

    def text(self) -> str:
        length = self.integer()
        # Longer than any name in the model; keeps a damaged length out of messages.
        if not 0 <= length <= 64:
            raise _not_this(f"a name has {length} letters before byte {self._at}")
        start = self._skip(length)
        return self._data[start : self._at].decode("latin-1")

    def tensor(self) -> Float:
        """A flat array, float32, read only; the file has the tensor's four sizes elsewhere too."""
        self.expect("a tensor's version", self.integer(), 2)
        sizes = self.integers(4)
        if min(sizes) < 0:
            raise _not_this(f"a tensor has the sizes {sizes} before byte {self._at}")
        count = math.prod(sizes)
        return np.frombuffer(self._data, "<f4", count, self._skip(4 * count))

    def alias(self) -> Sizes:
        """The four sizes of a view into a tensor."""
        self.expect("a view's version", self.integer(), 1)
        return self.integers(4)

    def head(self) -> list[int]:
        """Read what precedes the layers' details: loss, versions from the last layer to the first, input.

        Returns:
            The layers' versions, from the first layer to the last.
        """
        self.expect("the version", self.integer(), 1)
        self.expect("the loss", self.text(), "loss_metric_2")
        self.numbers(2)  # margin and distance of training
        versions = []
        for number, layer in reversed(list(enumerate(_LAYERS))):
            version = self.integer()
            self.expect("a layer's version", version, _FIRST if number == 0 else _MARKERS.get(layer.kind, 2))
            versions.append(version)
        self.expect("the input", self.text(), "input_rgb_image_sized")
        means = tuple(round(mean, 3) for mean in self.numbers(3))
        self.expect("the mean color", means, _MEANS)
        self.expect("the size of the input", self.integers(2), (SIDE_PX, SIDE_PX))
        return versions[::-1]

    def convolution(self, sizes: Sizes, inputs: int) -> tuple[Float, Float]:
        """Filters (outputs, inputs, height, width) and biases (outputs,)."""
        outputs, height, width = sizes[:3]
        self.expect("the kind of a layer", self.text(), "con_4")
        values = self.tensor()
        self.expect("the sizes of a convolution", self.integers(7), sizes)
        shape = (outputs, inputs, height, width)
        self.expect("the shape of filters", self.alias(), shape)
        self.expect("the shape of biases", self.alias(), (1, outputs, 1, 1))
        self.numbers(4)  # learning rates
        split = math.prod(shape)
        self.expect("the number of weights", len(values), split + outputs)
        return values[:split].reshape(shape), values[split:]

    def affine(self, channels: int) -> tuple[Float, Float]:
        """Factors and summands, (channels,) each."""
        self.expect("the kind of a layer", self.text(), "affine_")
        values = self.tensor()
        for _ in range(2):
            self.expect("the shape of an affine layer", self.alias(), (1, channels, 1, 1))
        self.expect("the mode of an affine layer", self.integer(), _AFFINE_BY_CHANNEL)
        self.expect("the number of weights", len(values), 2 * channels)
        return values[:channels], values[channels:]

    def pooling(self, kind: str, sizes: Sizes) -> None:
        self.expect("the kind of a layer", self.text(), f"{kind}_2")
        self.expect("the sizes of a pooling layer", self.integers(6), sizes)

    def fully_connected(self, sizes: Sizes) -> Float:
        """Weights (inputs, outputs)."""
        outputs, inputs = sizes
        self.expect("the kind of a layer", self.text(), "fc_2")
        self.expect("the sizes of the last layer", self.integers(2), sizes)
        values = self.tensor()
        self.expect("the shape of the last layer", self.alias(), (inputs, outputs, 1, 1))
        self.alias()  # of biases, which it does not have
        self.expect("the mode of the last layer", self.integer(), _FC_WITHOUT_BIAS)
        self.numbers(4)  # learning rates
        self.expect("the number of weights", len(values), inputs * outputs)
        if not np.isfinite(values).all():
            raise _not_this("a weight is not a finite number")
        return values.reshape(inputs, outputs)

    def left_from_training(self, version: int) -> None:
        """Read what follows each layer's details: three states, gradient, output, another gradient."""
        for _ in range(3):
            self.boolean()
        for _ in range(3):
            self.tensor()
        if version == _FIRST:
            self.expect("the number of samples for an image", self.integer(), 1)

    def end(self) -> None:
        left = len(self._data) - self._at
        if left:
            raise _not_this(f"{left} bytes follow its end")


class _Graph:
    """An ONNX graph to which nodes are appended."""

    def __init__(self) -> None:
        # Imported here: the import takes longer than the conversion, and a cached model needs neither.
        import onnx
        from onnx import helper, numpy_helper

        self._onnx, self._helper, self._array = onnx, helper, numpy_helper.from_array
        self._nodes: list[Any] = []
        self._weights: list[Any] = []
        self._end = "chips"
        self.shape: Sizes = (3, SIDE_PX, SIDE_PX)
        """Channels, height, width at the end."""
        self._tags: dict[int, tuple[str, Sizes]] = {}

    def _node(self, kind: str, inputs: list[str], shape: Sizes, **attributes: object) -> str:
        name = f"{kind.lower()}{len(self._nodes)}"
        self._nodes.append(self._helper.make_node(kind, inputs, [name], name=name, **attributes))
        self._end, self.shape = name, shape
        return name

    def _weight(self, values: NDArray[Any]) -> str:
        name = f"weight{len(self._weights)}"
        self._weights.append(self._array(values, name))
        return name

    def _window(self, sizes: Sizes, channels: int) -> tuple[Sizes, dict[str, Sizes]]:
        """The shape that a window results in, and its ONNX attributes."""
        side, stride, padding = sizes[:2], sizes[2:4], sizes[4:]
        height, width = (
            (length + 2 * pad - size) // step + 1
            for length, size, step, pad in zip(self.shape[1:], side, stride, padding, strict=True)
        )
        return (channels, height, width), {"kernel_shape": side, "strides": stride, "pads": padding * 2}

    def convolve(self, filters: Float, biases: Float, sizes: Sizes) -> None:
        shape, window = self._window(sizes[1:], len(filters))
        self._node("Conv", [self._end, self._weight(filters), self._weight(biases)], shape, **window)

    def relu(self) -> None:
        self._node("Relu", [self._end], self.shape)

    def pool(self, kind: str, sizes: Sizes) -> None:
        if sizes[:2] == (0, 0):
            self._node("GlobalAveragePool", [self._end], (self.shape[0], 1, 1))
        else:
            shape, window = self._window(sizes, self.shape[0])
            self._node({"max_pool": "MaxPool", "avg_pool": "AveragePool"}[kind], [self._end], shape, **window)

    def tag(self, tag: int) -> None:
        self._tags[tag] = self._end, self.shape

    def skip(self, tag: int) -> None:
        self._end, self.shape = self._tags[tag]

    def add(self, tag: int) -> None:
        """Add a tagged tensor. dlib pads the smaller one with zeros at the end of every axis: around a
        halving block there are fewer channels, and in two places inside it fewer rows and columns."""
        parts = [(self._end, self.shape), self._tags[tag]]
        shape = tuple(max(sizes) for sizes in zip(*(part[1] for part in parts), strict=True))
        names = [self._filled(name, sizes, shape) for name, sizes in parts]
        self._node("Add", names, shape)

    def _filled(self, name: str, sizes: Sizes, goal: Sizes) -> str:
        if sizes == goal:
            return name
        missing = [0, *(wanted - size for size, wanted in zip(sizes, goal, strict=True))]
        return self._node("Pad", [name, self._weight(np.array([0] * 4 + missing, np.int64))], goal)

    def multiply(self, weights: Float) -> None:
        self._node("Flatten", [self._end], (math.prod(self.shape), 1, 1))
        self._nodes[-1].output[0] = self._end = "features"
        self._node("MatMul", [self._end, self._weight(weights)], (weights.shape[1], 1, 1))

    def model(self) -> bytes:
        self._nodes[-1].output[0] = "descriptors"
        ends = [
            self._helper.make_tensor_value_info(name, self._onnx.TensorProto.FLOAT, ["N", *sizes])
            for name, sizes in (
                ("chips", [3, SIDE_PX, SIDE_PX]),
                ("descriptors", [DESCRIPTOR_SIZE]),
                ("features", [FEATURES]),
            )
        ]
        graph = self._helper.make_graph(self._nodes, "dlib_resnet", ends[:1], ends[1:], self._weights)
        opset = self._helper.make_opsetid("", 17)
        model = self._helper.make_model(graph, opset_imports=[opset], ir_version=8)
        serialized: bytes = model.SerializeToString()
        return serialized
