"""Run models with OpenVINO, or with ONNX Runtime as second engine and for CUDA, behind one small interface.

A model takes images and returns float32 arrays. Images are computed in batches of one fixed size, filled up
where needed: engines keep working memory and repacked weights for every shape they have met, which with free
batch sizes costs hundreds of megabytes.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import io
import os
import re
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ModelError
from analyzer.settings import Settings
from analyzer.vision import compile_cache
from analyzer.vision.preprocessing import Pixels
from analyzer.vision.quantize import Ranges, quantize
from analyzer.vision.registry import Role

__all__ = [
    "BATCHES",
    "CompiledModel",
    "import_onnxruntime",
    "import_openvino",
    "int8_overflows",
    "lacks_memory",
    "load_model",
    "openvino_core",
    "telling_line",
]

Image = NDArray[np.uint8]
Arrays = list[NDArray[np.float32]]
Convert = Callable[[bytes], bytes]
# The pixels that a model expects, how many images are computed together, their width and height.
_Input = tuple[Pixels, int, tuple[int, int] | None]

BATCHES: dict[str, dict[Role, int]] = {
    "cpu": {"detector": 1, "age": 4, "gender": 4, "gender and age": 4, "embedding": 4},
    "cuda": {"detector": 8, "age": 64, "gender": 64, "gender and age": 64, "embedding": 32},
}
"""How many images are computed together, by device and by the model's role. Small on a processor, where
filling a batch up costs time and larger batches save none; those for CUDA are not measured."""

# More streams than this only cost memory: the decoder feeds no more.
_MAX_STREAMS = 8

_CUDA = "CUDAExecutionProvider"
_PROVIDERS: dict[str, list[tuple[str, dict[str, str]]]] = {
    "cpu": [("CPUExecutionProvider", {})],
    # The search is exhaustive by default: at the first image of each size every algorithm would be tried.
    # TF32, on by default, has 10 of the 23 bits of float32.
    "cuda": [(_CUDA, {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}), ("CPUExecutionProvider", {})],
}


class CompiledModel(Protocol):
    """A model that an engine has loaded."""

    engine: str
    """What runs it, where and in which arithmetic, for the records: ``openvino 2026.4.1 CPU bf16``."""

    def run(self, images: Sequence[Image]) -> Arrays:
        """Compute the model's outputs, in its own order, each (N, ...) float32.

        Args:
            images: N >= 1 images (H, W, 3) uint8 BGR of one size.
        """
        ...


def load_model(
    content: bytes,
    settings: Settings,
    *,
    name: str,
    pixels: Pixels | None = None,
    batch: int | tuple[int, ...] = 1,
    ranges: Ranges | None = None,
    rather_bf16: bool = False,
    size: tuple[int, int] | None = None,
    convert: Convert | None = None,
) -> CompiledModel:
    """Load a model with the engine of `settings`.

    OpenVINO's compiled models are kept in the user's cache (`analyzer.vision.compile_cache`); the results are
    the same with and without it.

    Args:
        content: A single-file ONNX model, or what `convert` makes one of. Its hash is already checked: the
            checked bytes are the ones loaded, whatever happens to the file.
        settings: Gives device, engine, precision and threads; on CUDA it is always ONNX Runtime in float32.
        name: How errors name the model.
        pixels: The pixels that the model expects; by default 0 to 255, blue first.
        batch: How many images are computed together. Of several numbers, ascending, the model is loaded for
            each, and the largest that the images fill are taken: it costs memory, and 0.1 s of CPU to load.
        ranges: With them OpenVINO computes in eight bits, unless `settings.precision` says otherwise.
        rather_bf16: Whether bfloat16 is preferred to them, where `settings.precision` leaves the choice and
            the processor computes in it.
        size: Width and height of all images; None: the model takes any, whatever its exporter wrote.
        convert: Turns `content` into ONNX; called only where nothing compiled is cached.

    Raises:
        ModelError: The engine cannot load the file, or CUDA is asked for and not available.
    """
    if isinstance(batch, tuple):
        load = functools.partial(
            load_model,
            content,
            settings,
            name=name,
            pixels=pixels,
            ranges=ranges,
            rather_bf16=rather_bf16,
            size=size,
            convert=convert,
        )
        with ThreadPoolExecutor() as pool:
            return _Several(dict(zip(batch, pool.map(lambda one: load(batch=one), batch), strict=True)))
    wanted = (pixels or Pixels(), batch, size)
    engine = "onnxruntime" if settings.device == "cuda" else settings.engine
    try:
        if engine == "openvino":
            chosen = rather_bf16 and settings.precision == "auto" and _computes_bf16()
            ranges = None if chosen or settings.precision == "f32" else ranges
            f32 = settings.precision in ("f32", "int8")
            return _OpenVino(content, convert, wanted, ranges, f32=f32, threads=settings.thread_count)
        content = convert(content) if convert else content
        return _OnnxRuntime(content, wanted, device=settings.device, threads=settings.thread_count)
    except ModelError:
        raise
    except Exception as error:  # each engine has its own family of exceptions
        words = f"{engine} cannot load {name}: {telling_line(error)}"
        raise ModelError(words, no_memory=lacks_memory(error)) from error


def telling_line(error: Exception) -> str:
    """The first line of an engine's message that is not a position in its source code."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("Exception from ", "Check '"))]
    return next(iter(telling or lines), type(error).__name__)


_NO_MEMORY = re.compile(
    r"\bstd::bad_alloc\b"  # the exception of C++ by its name
    r"|^Failed to allocate \d+ bytes of memory$"  # OpenVINO
    r"|\bFailed to allocate memory for requested buffer of size \d+"  # ONNX Runtime
    r"|\bout_of_memory\b"  # oneDNN's status by its name
    r"|\bArena alloc failed\b",  # protobuf, which reads ONNX
    re.M,
)
_CV2_NO_MEMORY = -4
"""`cv2.Error.StsNoMem`; OpenCV is not imported for it."""


def lacks_memory(error: BaseException) -> bool:
    """Whether an engine has failed for want of memory.

    The type of the exception decides where there is one for it. OpenVINO, ONNX Runtime and protobuf raise one
    type for every failure, so their messages are searched.

    >>> lacks_memory(MemoryError()), lacks_memory(RuntimeError("unknown allocation policy"))
    (True, False)
    """
    if isinstance(error, MemoryError):
        return True
    if type(error).__module__ == "cv2":
        return getattr(error, "code", 0) == _CV2_NO_MEMORY
    searched = isinstance(error, RuntimeError) or type(error).__module__.startswith("google.protobuf")
    return searched and _NO_MEMORY.search(str(error)) is not None


def _batches(images: Sequence[Image], size: int) -> list[Image]:
    """(size, H, W, 3) arrays; the last one is filled up by repeating its last image."""
    if size == 1:
        return [image[None] for image in images]  # not copied
    filled = [*images, *[images[-1]] * (-len(images) % size)]
    return [np.stack(filled[start : start + size]) for start in range(0, len(filled), size)]


def _joined(results: list[Arrays], count: int) -> Arrays:
    # An output without an axis for images answers for none of them, but a model may have one beside others.
    return [
        np.concatenate([np.atleast_1d(one) for one in outputs])[:count]
        for outputs in zip(*results, strict=True)
    ]


class _Several:
    """One model for several sizes of batches."""

    def __init__(self, by_batch: dict[int, CompiledModel]) -> None:
        self._by_batch = by_batch
        self.engine = next(iter(by_batch.values())).engine

    def run(self, images: Sequence[Image]) -> Arrays:
        results, done = [], 0
        for batch, compiled in reversed(self._by_batch.items()):
            left = len(images) - done
            count = left if batch == min(self._by_batch) else left // batch * batch
            if count:
                results.append(compiled.run(images[done : done + count]))
                done += count
        return _joined(results, len(images))


_importing = threading.Lock()


def import_openvino() -> ModuleType:
    """OpenVINO without its model converter, which reports each import to its maker over the internet."""
    converter = "openvino.tools.ovc"
    with _importing:
        if converter in sys.modules or "openvino" in sys.modules:
            return importlib.import_module("openvino")
        sys.modules[converter] = None  # type: ignore[assignment]  # the import fails, as if not installed
        try:
            return importlib.import_module("openvino")
        finally:
            del sys.modules[converter]


def openvino_core() -> Any:
    """Return the one OpenVINO core of this process, which is never released.

    OpenVINO gives the thread that first uses a core a signal stack of its own, and frees that stack with
    the core. With several cores, a later one can restore the freed stack of an earlier one: then the next
    signal that Python handles in that thread, such as Ctrl-C, ends the process with a segmentation fault.
    """
    ov = import_openvino()
    with _importing:
        return _new_core(ov)


@cache
def _new_core(ov: ModuleType) -> Any:
    return ov.Core()


@cache
def _computes_bf16() -> bool:
    """Whether OpenVINO chooses bfloat16 on this processor."""
    name: str = openvino_core().get_property("CPU", "INFERENCE_PRECISION_HINT").get_type_name()
    return name == "bf16"


@cache
def int8_overflows() -> bool:
    """Whether this processor adds 8-bit products in 16 bits, where large sums overflow.

    Processors without VNNI do (vpmaddubsw), and nothing reports it: the sums are silently wrong. A sum whose
    result is known shows it. NNCF, OpenVINO's own quantization tool, leaves a bit of the weights unused there
    ("overflow fix").
    """
    ov = import_openvino()
    channels, side = 32, 16
    image = ov.opset13.parameter([1, channels, side, side], np.float32)
    weights = ov.opset13.constant(np.ones((channels, channels, 3, 3), np.float32))
    sums = ov.opset13.convolution(image, weights, [1, 1], [0, 0], [0, 0], [1, 1])
    sums.input_value(0).set_names({"pixels"})
    model = ov.Model([sums], [image], "probe")
    quantize(ov, model, Ranges({"pixels": (0.0, 255.0)}, "probe"))
    compiled = openvino_core().compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": 1})
    found = compiled(np.full((1, channels, side, side), 255, np.float32))[0]
    return bool(np.abs(found / (255 * 9 * channels) - 1).max() > 0.01)


class _OpenVino:
    """One thread computes each batch, and several batches run side by side: the decoder works on the same
    cores, and threads that wait for each other inside a model would wait for the decoder too."""

    def __init__(
        self,
        content: bytes,
        convert: Convert | None,
        wanted: _Input,
        ranges: Ranges | None,
        *,
        f32: bool,
        threads: int,
    ) -> None:
        ov = import_openvino()
        core = openvino_core()
        streams = min(threads, _MAX_STREAMS)
        config: dict[str, Any] = {"NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": threads}
        if f32:
            config["INFERENCE_PRECISION_HINT"] = "f32"
        converter = None if convert is None else convert.__qualname__
        key = compile_cache.key_of(
            *(hashlib.sha256(content).hexdigest(), converter, wanted, ranges, config),
            *(ov.__version__, np.__version__, core.get_property("CPU", "FULL_DEVICE_NAME")),
        )
        compiled = None
        if (cached := compile_cache.load(key)) is not None:
            with contextlib.suppress(RuntimeError):  # what this OpenVINO does not take is compiled anew
                compiled = core.import_model(cached[1], "CPU", config)
                self.engine = cached[0]
        if compiled is None:
            model = self._read(ov, core, convert(content) if convert else content, wanted)
            if "INT8" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
                ranges = None
            if ranges is not None:
                quantize(ov, model, ranges, spare_bit=int8_overflows())
            compiled = core.compile_model(self._with_pixels(ov, model, wanted[0]), "CPU", config)
            precision = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
            if ranges is not None:
                precision = f"int8-{ranges.key}{'-spare' if int8_overflows() else ''}"
            self.engine = f"openvino {ov.__version__.split('-')[0]} CPU {precision}"
            if compile_cache.compiled_folder() is not None:
                exported = io.BytesIO()
                with contextlib.suppress(RuntimeError):  # of models that cannot be exported
                    compiled.export_model(exported)
                    compile_cache.store(key, self.engine, exported.getvalue())
        self._queue = ov.AsyncInferQueue(compiled, streams)
        self._queue.set_callback(self._keep)
        self._batch = wanted[1]
        self._running = threading.Lock()

    @staticmethod
    def _read(ov: Any, core: Any, content: bytes, wanted: _Input) -> Any:
        """The model of an ONNX file, with fixed batches, and with free sizes where none are given."""
        pixels, batch, size = wanted
        model = core.read_model(content)
        if size is not None:
            sides = [size[1], size[0]]
        else:
            # A static size in the file is an exporter's placeholder: fully convolutional models take any.
            shape = model.inputs[0].partial_shape
            sides = [-1, -1] if shape.is_static else shape[2:]
        shape = [batch, *sides, 3] if pixels.channels_last else [batch, 3, *sides]
        model.reshape({model.inputs[0]: ov.PartialShape(shape)})
        return model

    @staticmethod
    def _with_pixels(ov: Any, model: Any, pixels: Pixels) -> Any:
        """The model with the conversion of pixels built in."""
        prepared = ov.preprocess.PrePostProcessor(model)
        taken = prepared.input()
        taken.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
        taken.tensor().set_color_format(ov.preprocess.ColorFormat.BGR)
        taken.model().set_layout(ov.Layout("NHWC" if pixels.channels_last else "NCHW"))
        steps = taken.preprocess().convert_element_type(ov.Type.f32)
        if pixels.rgb:
            steps.convert_color(ov.preprocess.ColorFormat.RGB)
        scale = pixels.even_scale
        steps.mean(list(pixels.means)).scale(list(pixels.scale) if scale is None else scale)
        return prepared.build()

    @staticmethod
    def _keep(request: Any, target: tuple[list[Arrays], int]) -> None:
        results, index = target
        results[index] = [np.array(tensor.data) for tensor in request.output_tensors]

    def run(self, images: Sequence[Image]) -> Arrays:
        batches = _batches(images, self._batch)
        results: list[Arrays] = [[] for _ in batches]
        # The queue is made for one thread, and previews compare faces beside the tables' own thread.
        with self._running:
            for index, batch in enumerate(batches):
                # The engine reads the array itself, which lives until all is done; by default it copies it.
                self._queue.start_async({0: batch}, (results, index), share_inputs=True)
            self._queue.wait_all()
        return _joined(results, len(images))


def import_onnxruntime() -> Any:
    """ONNX Runtime with its telemetry off, which would write events into the user's cache."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    return onnxruntime


class _OnnxRuntime:
    """CPU kernels compute in float32 whatever precision is asked for. Devices differ only in `_PROVIDERS`."""

    def __init__(self, content: bytes, wanted: _Input, *, device: str, threads: int) -> None:
        import onnx

        onnxruntime = import_onnxruntime()
        if device == "cuda":
            _prepare_cuda(onnxruntime)
        pixels, batch, size = wanted
        model = onnx.load_model_from_string(content)
        _without_weights(model.graph)
        if size is None:
            _free_sizes(model.graph)
        _take_images(model.graph, pixels)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # errors are raised; printing them would show what a file says
        # Idle threads must not spin: the decoder needs the cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # By default a device that fails is silently replaced, now or in the middle of a video.
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=_PROVIDERS[device], enable_fallback=0
        )
        if device == "cuda" and _CUDA not in self._session.get_providers():
            raise ModelError(
                "ONNX Runtime could not start CUDA: check that nvidia-smi finds the graphics card, "
                'install CUDA and cuDNN by pip install "audience-analyzer[cuda]", or leave out --device cuda'
            )
        self._input = self._session.get_inputs()[0].name
        self._batch = batch
        self.engine = f"onnxruntime {onnxruntime.__version__} {device.upper()} f32"

    def run(self, images: Sequence[Image]) -> Arrays:
        results = []
        for batch in _batches(images, self._batch):
            try:
                results.append(list(self._session.run(None, {self._input: batch})))
            except Exception as error:  # its exceptions share no base
                raise RuntimeError(str(error)) from error
        return _joined(results, len(images))


def _prepare_cuda(onnxruntime: Any) -> None:
    """Load CUDA's own libraries where pip installed them.

    Raises:
        ModelError: This ONNX Runtime was built without CUDA.
    """
    if _CUDA not in onnxruntime.get_available_providers():
        # Both packages install the same folder `onnxruntime`; the one installed last wins.
        raise ModelError(
            'device cuda needs ONNX Runtime with CUDA: pip install "audience-analyzer[cuda]", and after it '
            f"pip install --force-reinstall --no-deps onnxruntime-gpu=={onnxruntime.__version__}"
        )
    # It prints what is missing; the session shows whether that matters.
    with contextlib.redirect_stdout(io.StringIO()):
        onnxruntime.preload_dlls()


def _without_weights(graph: Any) -> None:
    """Remove weights from the inputs, where they only cause warnings."""
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    del graph.input[:]
    graph.input.extend(inputs)


def _free_sizes(graph: Any) -> None:
    """Free the sizes that an exporter froze."""
    for value in [*graph.input, *graph.output]:
        dims = value.type.tensor_type.shape.dim
        free = range(len(dims)) if len(dims) == 4 and dims[0].dim_value else range(1)
        for axis in free:
            if axis != 1:
                dims[axis].dim_param = f"{value.name}_{axis}"


_BYTES = "analyzer_bytes"
"""Name of the input that conversion adds; models are unlikely to use it themselves."""


def _take_images(graph: Any, pixels: Pixels) -> None:
    """Build the conversion of pixels into the model: the device does it, and receives bytes, not floats."""
    from onnx import TensorProto, helper, numpy_helper

    planes = graph.input[0].name
    sizes = [size.dim_param or size.dim_value or None for size in graph.input[0].type.tensor_type.shape.dim]
    count, height, width = sizes[0], *(sizes[1:3] if pixels.channels_last else sizes[2:4])
    taken = helper.make_tensor_value_info(_BYTES, TensorProto.UINT8, [count, height, width, 3])
    steps: list[Any] = []

    def step(kind: str, values: NDArray[Any] | None = None, **attributes: Any) -> None:
        inputs = [f"{_BYTES}_{len(steps)}" if steps else _BYTES]
        if values is not None:
            inputs.append(f"{_BYTES}_{kind}")
            graph.initializer.append(numpy_helper.from_array(values, inputs[1]))
        steps.append(helper.make_node(kind, inputs, [f"{_BYTES}_{len(steps) + 1}"], **attributes))

    # Whole planes are put in order, which is cheaper than colors of pixels.
    colors = (3,) if pixels.channels_last else (3, 1, 1)
    if not pixels.channels_last:
        step("Transpose", perm=[0, 3, 1, 2])
    if pixels.rgb:
        step("Gather", np.array([2, 1, 0], np.int64), axis=3 if pixels.channels_last else 1)
    step("Cast", to=TensorProto.FLOAT)
    if any(pixels.means):
        step("Sub", np.array(pixels.means, np.float32).reshape(colors))
    if pixels.even_scale != 1:
        step("Div", np.array(pixels.scale, np.float32).reshape(colors))
    steps[-1].output[0] = planes
    nodes = [*steps, *graph.node]
    del graph.node[:], graph.input[:]
    graph.node.extend(nodes)
    graph.input.append(taken)
