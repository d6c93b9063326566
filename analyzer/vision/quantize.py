"""Eight bits instead of 32: post-training quantization of convolutional models, for OpenVINO.

Each convolution gets its input in 256 steps between a lowest and a highest value that were measured on
images, and its weights in 255 steps for each output channel (Jacob et al. 2018, "Quantization and Training of
Neural Networks for Efficient Integer-Arithmetic-Only Inference"). OpenVINO computes convolutions marked in
this way in integers.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ModelError
from analyzer.vision.registry import Model

__all__ = ["Ranges", "convolutions", "quantize", "ranges_file"]

_KINDS = ("Convolution", "GroupConvolution")
_STEPS = 255


def ranges_file(model: Model) -> Path:
    """Where the ranges of a model are, written by ``benchmarks/fit_int8.py``."""
    return Path(__file__).with_name("ranges") / f"{model.name}.json"


@dataclass(frozen=True)
class Ranges:
    """Lowest and highest value of each convolution's input, by the name of its tensor in the ONNX file."""

    by_tensor: dict[str, tuple[float, float]]
    key: str
    """Identifies the values, for the records."""

    @classmethod
    def of(cls, model: Model) -> Self:
        """The ranges of one of our models; raises as `load`."""
        return cls.load(ranges_file(model), model.sha256)

    @classmethod
    def load(cls, path: Path, model_sha256: str) -> Self:
        """Read what ``benchmarks/fit_int8.py`` has written.

        Raises:
            ModelError: The file cannot be read, or is for another model.
        """
        try:
            data = path.read_bytes()
            document = json.loads(data)
            if document["model_sha256"] != model_sha256:
                raise ModelError(f"{path.name} was measured on another model")
            ranges = {name: (float(low), float(high)) for name, (low, high) in document["ranges"].items()}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{path.name} cannot be read: install the package again") from error
        return cls(ranges, hashlib.sha256(data).hexdigest()[:8])


def convolutions(model: Any) -> list[tuple[Any, str]]:
    """The convolutions of an OpenVINO model, each with the name of its input's tensor."""
    nodes = [node for node in model.get_ordered_ops() if node.get_type_name() in _KINDS]
    return [(node, min(node.input_value(0).get_names())) for node in nodes]


def quantize(ov: Any, model: Any, ranges: Ranges, *, spare_bit: bool = False) -> None:
    """Mark all convolutions of a model to be computed in integers, in place.

    Args:
        ov: The openvino module.
        model: Read from an ONNX file.
        ranges: Of the inputs of all its convolutions.
        spare_bit: Whether weights use only half of their steps, so that two products fit into 16 bits.

    Raises:
        ModelError: A range is missing.
    """
    quantized: dict[str, Any] = {}
    for node, tensor in convolutions(model):
        if tensor not in ranges.by_tensor:
            raise ModelError(f"there is no range for the tensor {tensor}: measure the ranges again")
        if tensor not in quantized:
            low, high = _with_zero(*ranges.by_tensor[tensor])
            quantized[tensor] = _fake_quantized(
                ov, node.input_value(0), np.float32(low), np.float32(high), _STEPS + 1
            )
        node.input(0).replace_source_output(quantized[tensor])
        weights = _weights(node)
        # (output channels, ...), with a leading axis of groups where there are some.
        axes = tuple(range(1 if node.get_type_name() == "Convolution" else 2, weights.ndim))
        most = np.maximum(np.abs(weights).max(axis=axes, keepdims=True), 1e-12)
        if spare_bit:
            most = most * (_STEPS // 2 / 64)
        node.input(1).replace_source_output(
            _fake_quantized(ov, ov.opset13.constant(weights), -most, most, _STEPS)
        )
    model.validate_nodes_and_infer_types()


def _with_zero(low: float, high: float) -> tuple[float, float]:
    """The range, moved and widened by less than a step so that 0 is a step: padding is 0."""
    low, high = min(low, 0.0), max(high, 0.0)
    step = max(high - low, 1e-6) / _STEPS
    below = round(-low / step)
    return -below * step, (_STEPS - below) * step


def _fake_quantized(ov: Any, source: Any, low: Any, high: Any, levels: int) -> Any:
    bounds = [ov.opset13.constant(np.asarray(value, np.float32)) for value in (low, high, low, high)]
    return ov.opset13.fake_quantize(source, *bounds, levels).output(0)


def _weights(node: Any) -> NDArray[np.float32]:
    source = node.input_value(1).get_node()
    while source.get_type_name() != "Constant":
        source = source.input_value(0).get_node()  # those of groups are reshaped
    shape = list(node.input_value(1).get_shape())
    return np.array(source.data, np.float32).reshape(shape)
