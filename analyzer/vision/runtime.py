"""Runs networks: OpenVINO, or ONNX Runtime as second engine, behind one small interface.

A network takes one float32 array (N, 3, H, W) and gives float32 arrays; N is free. It is computed in
batches of one fixed size, filled up where needed: engines keep working memory and repacked weights for
every shape they have met, which with free batch sizes cost hundreds of megabytes.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ModelError
from analyzer.settings import Settings

__all__ = ["Network", "load_network"]


class Network(Protocol):
    """A loaded network."""

    engine: str
    """What runs it and how, for the records: ``openvino CPU bf16``."""

    def run(self, batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """The network's outputs, in its own order, for a (N, ...) float32 batch."""
        ...


def load_network(path: Path, settings: Settings, *, exact: bool, batch: int = 1) -> Network:
    """Load an ONNX file with the engine of `settings`.

    Args:
        path: A single-file ONNX model, its hash already checked.
        settings: Gives engine, precision and threads.
        exact: Always compute in float32, whatever `settings.precision` says.
        batch: How many pictures are computed together.

    Raises:
        ModelError: The engine cannot load the file.
    """
    f32 = exact or settings.precision == "f32"
    try:
        network: Network
        if settings.engine == "openvino":
            network = _OpenVino(path, batch, f32, settings.threads)
        else:
            network = _OnnxRuntime(path, settings.threads)
        return _Batched(network, batch)
    except Exception as error:  # each engine has its own family of exceptions
        raise ModelError(f"{settings.engine} cannot load {path.name}: {error}") from error


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Batched:
    """Cuts what it is given into batches of one size, the last one filled up by repeating a picture."""

    def __init__(self, network: Network, batch: int) -> None:
        self._network = network
        self._batch = batch
        self.engine = network.engine

    def run(self, batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        count = len(batch)
        if count == self._batch:
            return self._network.run(batch)
        filled = np.concatenate([batch, np.repeat(batch[-1:], -count % self._batch, axis=0)])
        pieces = [
            self._network.run(filled[start : start + self._batch])
            for start in range(0, len(filled), self._batch)
        ]
        return [np.concatenate(outputs)[:count] for outputs in zip(*pieces, strict=True)]


def _import_openvino() -> ModuleType:
    """OpenVINO without its model converter, which reports each import to its maker over the network."""
    converter = "openvino.tools.ovc"
    if converter in sys.modules or "openvino" in sys.modules:
        return importlib.import_module("openvino")
    sys.modules[converter] = None  # type: ignore[assignment]  # the import fails, as if not installed
    try:
        return importlib.import_module("openvino")
    finally:
        del sys.modules[converter]


class _OpenVino:
    def __init__(self, path: Path, batch: int, f32: bool, threads: int) -> None:
        ov = _import_openvino()
        core = ov.Core()
        model = core.read_model(str(path))
        sides = [-1, -1] if model.inputs[0].partial_shape.is_static else model.inputs[0].partial_shape[2:]
        # Static in the file is an exporter's placeholder: fully convolutional, any picture fits.
        shape = ov.PartialShape([batch, 3, *sides])
        model.reshape({model.inputs[0]: shape})
        config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads or _cores()}
        if f32:
            config["INFERENCE_PRECISION_HINT"] = "f32"
        self._compiled = core.compile_model(model, "CPU", config)
        self._request = self._compiled.create_infer_request()
        precision = self._compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        self.engine = f"openvino {ov.__version__.split('-')[0]} CPU {precision}"

    def run(self, batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        self._request.infer({0: batch}, share_inputs=True)
        return [np.array(tensor.data) for tensor in self._request.output_tensors]


class _OnnxRuntime:
    # It takes any batch, and its CPU kernels compute in float32 whatever is asked for.
    def __init__(self, path: Path, threads: int) -> None:
        import onnx
        import onnxruntime

        model = onnx.load(str(path), load_external_data=False)
        weights = {tensor.name for tensor in model.graph.initializer}
        inputs = [value for value in model.graph.input if value.name not in weights]
        # Sizes that an exporter froze are freed; weights listed as inputs would only cause warnings.
        del model.graph.input[:]
        model.graph.input.extend(inputs)
        for value in [*model.graph.input, *model.graph.output]:
            dims = value.type.tensor_type.shape.dim
            free = range(len(dims)) if len(dims) == 4 and dims[0].dim_value else range(1)
            for axis in free:
                if axis != 1:
                    dims[axis].dim_param = f"{value.name}_{axis}"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or _cores()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Idle threads must not spin: the decoder needs the cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        self.engine = f"onnxruntime {onnxruntime.__version__} CPU f32"

    def run(self, batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        return list(self._session.run(None, {self._input: batch}))
