"""Runs networks: OpenVINO, or ONNX Runtime as second engine, behind one small interface.

A network takes pictures and gives float32 arrays. Pictures are computed in batches of one fixed size, filled
up where needed: engines keep working memory and repacked weights for every shape they have met, which with
free batch sizes cost hundreds of megabytes.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ModelError
from analyzer.settings import Settings

__all__ = ["Network", "Pixels", "load_network"]

Image = NDArray[np.uint8]
Arrays = list[NDArray[np.float32]]

# More streams than this only cost memory: the decoder feeds no more.
_MAX_STREAMS = 8


@dataclass(frozen=True)
class Pixels:
    """What a network wants of pixels: (value - mean) / scale, in its order of colours."""

    rgb: bool = False
    """Whether red comes first; else blue, as in the pictures."""
    means: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: float = 1.0


class Network(Protocol):
    """A loaded network."""

    engine: str
    """What runs it and how, for the records: ``openvino 2026.4.1 CPU bf16``."""

    def run(self, pictures: Sequence[Image]) -> Arrays:
        """The network's outputs, in its own order, each (N, ...) float32.

        Args:
            pictures: N >= 1 pictures (H, W, 3) uint8 BGR of one size.
        """
        ...


def load_network(
    model: Path | bytes, settings: Settings, *, exact: bool, pixels: Pixels | None = None, batch: int = 1
) -> Network:
    """Load an ONNX network with the engine of `settings`.

    Args:
        model: A single-file ONNX model, its hash already checked; or its content.
        settings: Gives engine, precision and threads.
        exact: Always compute in float32, whatever `settings.precision` says.
        pixels: What the network wants of pixels; by default 0 to 255, blue first.
        batch: How many pictures are computed together.

    Raises:
        ModelError: The engine cannot load the file.
    """
    f32 = exact or settings.precision == "f32"
    wanted = pixels or Pixels()
    threads = settings.thread_count
    try:
        if settings.engine == "openvino":
            return _OpenVino(model, wanted, batch, f32=f32, threads=threads)
        return _OnnxRuntime(model, wanted, batch, threads=threads)
    except Exception as error:  # each engine has its own family of exceptions
        name = model.name if isinstance(model, Path) else "a converted network"
        raise ModelError(f"{settings.engine} cannot load {name}: {error}") from error


def _batches(pictures: Sequence[Image], size: int) -> list[Image]:
    """(size, H, W, 3) arrays; the last one is filled up by repeating its last picture."""
    filled = [*pictures, *[pictures[-1]] * (-len(pictures) % size)]
    return [np.stack(filled[start : start + size]) for start in range(0, len(filled), size)]


def _joined(pieces: list[Arrays], count: int) -> Arrays:
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
    """Each batch is computed by one thread, several batches side by side: the decoder works on the same
    cores, and threads that wait for each other inside a network would wait for it too."""

    def __init__(self, source: Path | bytes, pixels: Pixels, batch: int, *, f32: bool, threads: int) -> None:
        ov = _import_openvino()
        core = ov.Core()
        model = core.read_model(str(source) if isinstance(source, Path) else source)
        sides = [-1, -1] if model.inputs[0].partial_shape.is_static else model.inputs[0].partial_shape[2:]
        # Static in the file is an exporter's placeholder: fully convolutional, any picture fits.
        model.reshape({model.inputs[0]: ov.PartialShape([batch, 3, *sides])})
        streams = min(threads, _MAX_STREAMS)
        config: dict[str, Any] = {"NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": threads}
        if f32:
            config["INFERENCE_PRECISION_HINT"] = "f32"
        self._compiled = core.compile_model(self._with_pixels(ov, model, pixels), "CPU", config)
        self._queue = ov.AsyncInferQueue(self._compiled, streams)
        self._queue.set_callback(self._keep)
        self._batch = batch
        precision = self._compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        self.engine = f"openvino {ov.__version__.split('-')[0]} CPU {precision}"

    @staticmethod
    def _with_pixels(ov: Any, model: Any, pixels: Pixels) -> Any:
        """The network with the conversion of pixels built in."""
        prepared = ov.preprocess.PrePostProcessor(model)
        taken = prepared.input()
        taken.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
        taken.tensor().set_color_format(ov.preprocess.ColorFormat.BGR)
        taken.model().set_layout(ov.Layout("NCHW"))
        steps = taken.preprocess().convert_element_type(ov.Type.f32)
        if pixels.rgb:
            steps.convert_color(ov.preprocess.ColorFormat.RGB)
        steps.mean(list(pixels.means)).scale(pixels.scale)
        return prepared.build()

    @staticmethod
    def _keep(request: Any, target: tuple[list[Arrays], int]) -> None:
        pieces, index = target
        pieces[index] = [np.array(tensor.data) for tensor in request.output_tensors]

    def run(self, pictures: Sequence[Image]) -> Arrays:
        batches = _batches(pictures, self._batch)
        pieces: list[Arrays] = [[] for _ in batches]
        for index, batch in enumerate(batches):
            self._queue.start_async({0: batch}, (pieces, index))
        self._queue.wait_all()
        return _joined(pieces, len(pictures))


class _OnnxRuntime:
    """Its CPU kernels compute in float32 whatever is asked for."""

    def __init__(self, source: Path | bytes, pixels: Pixels, batch: int, *, threads: int) -> None:
        import onnx
        import onnxruntime

        content = source.read_bytes() if isinstance(source, Path) else source
        model = onnx.load_model_from_string(content)
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
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Idle threads must not spin: the decoder needs the cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        self._batch = batch
        self._pixels = pixels
        self.engine = f"onnxruntime {onnxruntime.__version__} CPU f32"

    def run(self, pictures: Sequence[Image]) -> Arrays:
        pieces = []
        for batch in _batches(pictures, self._batch):
            ordered = batch[..., ::-1] if self._pixels.rgb else batch
            values = (ordered - np.array(self._pixels.means, np.float32)) / np.float32(self._pixels.scale)
            planes = np.ascontiguousarray(values.transpose(0, 3, 1, 2), dtype=np.float32)
            try:
                pieces.append(list(self._session.run(None, {self._input: planes})))
            except Exception as error:  # its exceptions share no base
                raise RuntimeError(str(error)) from error
        return _joined(pieces, len(pictures))
