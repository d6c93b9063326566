"""Write a trained model as one ONNX file with its description, which `models add` takes as they are."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analyzer.training.dataset import crop_size
from analyzer.training.recipes.base import Recipe, Target
from analyzer.vision.crops import BoxCrop, LandmarkCrop
from analyzer.vision.preprocessing import Pixels
from analyzer.vision.user_model import AgeOutput, GenderOutput

if TYPE_CHECKING:
    import torch

__all__ = ["describe", "model_input", "quantized", "write_onnx"]

Float = NDArray[np.float32]
Image = NDArray[np.uint8]

_OPSET = 17
_INPUT = "faces"


def model_input(crops: NDArray[np.uint8], pixels: Pixels) -> Float:
    """Crops as a model takes them: (N, 3, H, W) float32, or (N, H, W, 3) with `channels_last`.

    Args:
        crops: (N, H, W, 3) uint8 BGR.
        pixels: What it expects.
    """
    ordered = crops[..., ::-1] if pixels.rgb else crops
    means, scale = np.array(pixels.means, np.float32), np.array(pixels.scale, np.float32)
    values = (ordered.astype(np.float32) - means) / scale
    return np.ascontiguousarray(values if pixels.channels_last else values.transpose(0, 3, 1, 2))


def write_onnx(
    network: torch.nn.Module,
    recipe: Recipe,
    targets: tuple[Target, ...],
    path: Path,
    example: Float | None = None,
) -> None:
    """Write a model for any number of faces, and check the file with onnx's own checker.

    The file is written under its name when it is whole.

    Args:
        network: As `Recipe.build` returns it; it is left in evaluation mode.
        recipe: Names its outputs.
        targets: What it was built for.
        path: Of the ONNX file.
        example: Its input for two faces; by default black crops of the recipe's size.

    Raises:
        OutputError: The file cannot be written.
    """
    import onnx
    import torch

    names = list(dict.fromkeys(str(one.output) for one in recipe.outputs(targets).values()))

    class Outputs(torch.nn.Module):
        """The outputs in a fixed order: ONNX knows no dictionaries."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, faces: torch.Tensor) -> tuple[torch.Tensor, ...]:
            answers = self.network(faces)
            return tuple(answers[name].float() for name in names)

    if example is None:
        example = np.zeros((2, *crop_shape(recipe)), np.float32)
    whole = Outputs().eval().cpu()
    with warnings.catch_warnings():
        # It warns that PyTorch has a newer way, which needs further packages.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            whole,
            (torch.from_numpy(example),),
            str(path),
            input_names=[_INPUT],
            output_names=names,
            dynamic_axes={name: {0: "count"} for name in (_INPUT, *names)},
            opset_version=_OPSET,
            dynamo=False,
        )
    onnx.checker.check_model(str(path), full_check=True)


def crop_shape(recipe: Recipe) -> tuple[int, int, int]:
    """The shape of the model's input for one face, without `Recipe.features`."""
    width, height = crop_size(recipe.crop)
    return (height, width, 3) if recipe.pixels.channels_last else (3, height, width)


def quantized(path: Path, target: Path, inputs: Iterable[Float]) -> None:
    """Write an ONNX file in eight bits: convolutions and products as ONNX's own QuantizeLinear and
    DequantizeLinear, which OpenVINO and ONNX Runtime compute in integers. Weights use half of
    their steps: processors without VNNI add products in 16 bits, where others overflow.

    Args:
        path: The file in 32 bits.
        target: The file in eight.
        inputs: The model's input for some faces at a time, to measure ranges on.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            self._rest = iter(inputs)

        def get_next(self) -> dict[str, Float] | None:
            some = next(self._rest, None)
            return None if some is None else {_INPUT: some}

    prepared = target.with_suffix(".prepared")
    try:
        quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(target),
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    finally:
        prepared.unlink(missing_ok=True)
    onnx.checker.check_model(str(target), full_check=True)


# --- the description -----------------------------------------------------------------------------------


def describe(
    crop: LandmarkCrop | BoxCrop,
    pixels: Pixels,
    outputs: dict[Target, GenderOutput | AgeOutput],
    texts: dict[str, str],
    commercial_use: bool | None,
) -> str:
    """The description of a model, in the form of `analyzer.vision.user_model`.

    Args:
        crop: How its faces are cropped.
        pixels: The pixels it expects.
        outputs: What its outputs mean.
        texts: `license`, `source`, `paper`, `trained_on`, `known_bias`, as far as known.
        commercial_use: Whether its license allows it; None: unknown.
    """
    lines = [f"{key} = {_toml(text)}" for key, text in texts.items()]
    if commercial_use is not None:
        lines.append(f"commercial_use = {_toml(commercial_use)}")
    width, height = crop_size(crop)
    size: dict[str, Any] = {"size": width if width == height else [width, height]}
    size["colors"] = "rgb" if pixels.rgb else "bgr"
    if pixels.channels_last:
        size["layout"] = "nhwc"
    size |= {"mean": list(pixels.means), "scale": list(pixels.scale)}
    tables = {"input": size, "crop": _crop_table(crop)}
    tables |= {target: _output_table(output) for target, output in outputs.items()}
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def _crop_table(crop: LandmarkCrop | BoxCrop) -> dict[str, Any]:
    if isinstance(crop, LandmarkCrop):
        return {"align": "landmarks", "landmarks": [[float(x), float(y)] for x, y in crop.landmarks]}
    return {"align": "box", "margin": crop.margin, "margin_px": crop.margin_px, "square": crop.square}


def _output_table(output: GenderOutput | AgeOutput) -> dict[str, Any]:
    table: dict[str, Any] = {"kind": output.kind, "output": output.output}
    if output.part is not None:
        table["numbers"] = list(output.part)
    if isinstance(output, GenderOutput):
        return table | ({"classes": list(output.classes)} if output.count == 2 else {"of": output.of})
    if output.kind == "years":
        return table | {"factor": output.factor, "offset_years": output.offset_years}
    table["ranges"] = [[int(low), int(high)] for low, high in output.ranges]
    return table | ({"mean_years": list(output.mean_years)} if output.mean_years else {})


def _toml(value: Any) -> str:
    """A value in TOML, whose texts are written like those of JSON.

    >>> _toml([[0, 2], [4, 6]]), _toml("a \\"b\\"")
    ('[[0, 2], [4, 6]]', '"a \\\\"b\\\\""')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(map(_toml, value))}]"
    # JSON leaves DEL as it is, TOML does not allow it.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
