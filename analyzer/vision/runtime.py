"""Runs networks: OpenVINO, or ONNX Runtime as second engine, behind one small interface.

A network takes one float32 or uint8 array and gives named float32 arrays. Batch (and picture) sizes are
free: whatever shape is given is run.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ModelError
from analyzer.settings import Settings

__all__ = ["Network", "load_network"]

log = logging.getLogger(__name__)


class Network(Protocol):
    """A loaded network."""

    engine: str
    """What runs it and how, for the records: ``openvino CPU bf16``."""

    def run(self, batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """The network's outputs, in its own order, for a (N, ...) float32 batch."""
        ...


def load_network(path: Path, settings: Settings, *, exact: bool) -> Network:
    """Load an ONNX file with the engine of `settings`.

    Args:
        path: A single-file ONNX model, its hash already checked.
        settings: Gives engine, precision and threads.
        exact: Always compute in float32, whatever `settings.precision` says.

    Raises:
        ModelError: The engine cannot load the file.
    """
    loader: type[_OpenVino] | type[_OnnxRuntime] = {"openvino": _OpenVino, "onnxruntime": _OnnxRuntime}[
        settings.engine
    ]
    try:
        return loader(path, exact or settings.precision == "f32", settings.threads)
    except Exception as error:  # each engine has its own family of exceptions
        raise ModelError(f"{settings.engine} cannot load {path.name}: {error}") from error


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _OpenVino:
    def __init__(self, path: Path, f32: bool, threads: int) -> None:
        import openvino as ov

        core = ov.Core()
        model = core.read_model(str(path))
        shape = ov.PartialShape([-1, *model.inputs[0].partial_shape[1:]])
        if model.inputs[0].partial_shape.is_static:
            # An exporter's placeholder sizes: the network is fully convolutional, any picture fits.
            shape = ov.PartialShape([-1, 3, -1, -1])
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
    def __init__(self, path: Path, f32: bool, threads: int) -> None:
        import onnx
        import onnxruntime

        del f32  # its CPU kernels compute in float32 anyway
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
