"""The age and gender models of Levi and Hassner (2015) with made weights: Caffe files, NumPy answers.

The trained files cannot be had everywhere. These have the same structure, and numbers that are known.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from analyzer.vision.registry import ModelFile, sha256
from analyzer.vision.user_model import LEVI_HASSNER, Description

Array = NDArray[np.float64]
Layer = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Weights and biases."""
Weights = dict[str, Layer]

SIDE_PX = 227
MEANS_BGR = (78.4263377603, 87.7689143744, 114.895847746)
"""The means subtracted from the pixels, as in most programs with these models."""
CLASSES = {"age": 8, "gender": 2}
SEEDS = {"age": 2, "gender": 8}
"""Chosen so that another image, other channels and other means change the answers clearly."""

# Name: filters, their shape, stride and pad.
_CONVOLUTIONS = {
    "conv1": ((96, 3, 7, 7), 4, 0),
    "conv2": ((256, 96, 5, 5), 1, 2),
    "conv3": ((384, 256, 3, 3), 1, 1),
}
_DENSE = {"fc6": (512, 384 * 7 * 7), "fc7": (512, 512)}
_POOL_SIDE, _POOL_STRIDE = 3, 2
_NORMED = ("conv1", "conv2")
_NORM_SIZE, _NORM_ALPHA, _NORM_BETA = 5, 1e-4, 0.75
_SHARPNESS = 0.03
"""Factor of the last layer's weights: answers to two images differ, and none is 0 or 1."""


def classic_files(folder: Path) -> Path:
    """Write age_net.caffemodel, age_deploy.prototxt and the same for gender into the folder, and give it.

    The weights are those of ``made_weights(CLASSES[what], SEEDS[what])``.
    """
    for what, classes in CLASSES.items():
        (folder / f"{what}_deploy.prototxt").write_text(prototxt(classes))
        (folder / f"{what}_net.caffemodel").write_bytes(caffemodel(made_weights(classes, SEEDS[what])))
    return folder


def made_entries(folder: Path) -> dict[str, Description]:
    """The classic models by name, described as in the registry, but with the made files of a folder."""
    entries = {}
    for name, description in LEVI_HASSNER.items():
        files = tuple(
            ModelFile(file.name, (sha256((folder / file.name).read_bytes()),), url=file.url)
            for file in description.model.files
        )
        entries[name] = replace(description, model=replace(description.model, files=files))
    return entries


def prototxt(classes: int) -> str:
    """The structure in Caffe's text format, for one image."""
    sides = f"dim: 1 dim: 3 dim: {SIDE_PX} dim: {SIDE_PX}"
    text = [f'name: "LeviHassner"\ninput: "data"\ninput_shape {{ {sides} }}']

    def add(kind: str, name: str, ends: tuple[str, str], parameters: str = "") -> None:
        ties = f'bottom: "{ends[0]}"\n  top: "{ends[1]}"'
        text.append(f'layer {{\n  name: "{name}"\n  type: "{kind}"\n  {ties}\n{parameters}}}')

    last = "data"
    for number, (name, (shape, stride, pad)) in enumerate(_CONVOLUTIONS.items(), 1):
        sizes = f"num_output: {shape[0]} kernel_size: {shape[2]} stride: {stride} pad: {pad}"
        add("Convolution", name, (last, name), f"  convolution_param {{ {sizes} }}\n")
        add("ReLU", f"relu{number}", (name, name))
        last = f"pool{number}"
        sizes = f"pool: MAX kernel_size: {_POOL_SIDE} stride: {_POOL_STRIDE}"
        add("Pooling", last, (name, last), f"  pooling_param {{ {sizes} }}\n")
        if name in _NORMED:
            before, last = last, f"norm{number}"
            sizes = f"local_size: {_NORM_SIZE} alpha: {_NORM_ALPHA} beta: {_NORM_BETA}"
            add("LRN", last, (before, last), f"  lrn_param {{ {sizes} }}\n")
    for name, (outputs, _) in _DENSE.items():
        add("InnerProduct", name, (last, name), f"  inner_product_param {{ num_output: {outputs} }}\n")
        add("ReLU", f"relu{name[2:]}", (name, name))
        add("Dropout", f"drop{name[2:]}", (name, name), "  dropout_param { dropout_ratio: 0.5 }\n")
        last = name
    add("InnerProduct", "fc8", (last, "fc8"), f"  inner_product_param {{ num_output: {classes} }}\n")
    add("Softmax", "prob", ("fc8", "prob"))
    return "\n".join(text) + "\n"


def made_weights(classes: int, seed: int) -> Weights:
    """Random weights and biases of every layer that has any.

    From the second layer on, the weights of an output add up to 0: what all images have in common
    would otherwise outweigh what tells them apart.
    """
    random = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {name: shape for name, (shape, _, _) in _CONVOLUTIONS.items()}
    shapes |= _DENSE | {"fc8": (classes, 512)}
    made: Weights = {}
    for name, shape in shapes.items():
        weights = random.standard_normal((shape[0], math.prod(shape[1:])), np.float32)
        if name != "conv1":
            weights -= weights.mean(axis=1, keepdims=True)
        weights *= np.float32(math.sqrt(2 / weights.shape[1]))
        if name == "fc8":
            weights *= np.float32(_SHARPNESS)
        made[name] = weights.reshape(shape), random.standard_normal(shape[0], np.float32)
    return made


def caffemodel(weights: Weights) -> bytes:
    """The weights in Caffe's binary format, a protobuf message: NetParameter."""
    layers = [_field(1, b"LeviHassner")]
    for name, blobs in weights.items():
        kind = b"Convolution" if name in _CONVOLUTIONS else b"InnerProduct"
        parts = [_field(1, name.encode()), _field(2, kind), *(_field(7, _blob(blob)) for blob in blobs)]
        layers.append(_field(100, b"".join(parts)))
    return b"".join(layers)


def _blob(values: NDArray[np.float32]) -> bytes:
    """A BlobProto: its sides, packed in a message of their own, and its packed numbers."""
    sides = b"".join(_varint(side) for side in values.shape)
    return _field(7, _field(1, sides)) + _field(5, values.astype("<f4", copy=False).tobytes())


def _field(number: int, content: bytes) -> bytes:
    """A field of the wire type 2: bytes with their length before them."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """A whole number, seven bits a byte, the lowest first; all bytes but the last have the eighth bit set."""
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(digits) + bytes([value])


def forward(weights: Weights, blob: NDArray[np.float32]) -> Array:
    """The model's output for a (1, 3, 227, 227) blob, computed in float64: (classes,) probabilities."""
    assert blob.shape == (1, 3, SIDE_PX, SIDE_PX), blob.shape
    values: Array = blob[0].astype(np.float64)
    for name, (_, stride, pad) in _CONVOLUTIONS.items():
        values = _pooled(np.maximum(_convolved(values, weights[name], stride, pad), 0))
        if name in _NORMED:
            values = _normed(values)
    values = values.reshape(-1)
    for name in _DENSE:
        values = np.maximum(_product(values, weights[name]), 0)
    logits = _product(values, weights["fc8"])
    log_odds = np.exp(logits - logits.max())
    return log_odds / log_odds.sum()


def _product(values: Array, layer: Layer) -> Array:
    matrix, bias = layer
    return matrix @ values + bias


def _convolved(values: Array, layer: Layer, stride: int, pad: int) -> Array:
    filters, bias = layer
    padded = np.pad(values, ((0, 0), (pad, pad), (pad, pad)))
    windows = sliding_window_view(padded, filters.shape[2:], axis=(1, 2))[:, ::stride, ::stride]
    return np.tensordot(filters, windows, axes=((1, 2, 3), (0, 3, 4))) + bias[:, None, None]


def _pooled(values: Array) -> Array:
    """Caffe rounds the output's size up: the last window may reach over the edge."""
    over = -(values.shape[1] - _POOL_SIDE) % _POOL_STRIDE
    padded = np.pad(values, ((0, 0), (0, over), (0, over)), constant_values=-np.inf)
    windows = sliding_window_view(padded, (_POOL_SIDE, _POOL_SIDE), axis=(1, 2))
    return windows[:, ::_POOL_STRIDE, ::_POOL_STRIDE].max(axis=(3, 4))


def _normed(values: Array) -> Array:
    """Local response normalization over neighboring channels; those beyond the first and last count as 0."""
    reach = _NORM_SIZE // 2
    squares = np.pad(values**2, ((reach, reach), (0, 0), (0, 0)))
    sums = sliding_window_view(squares, _NORM_SIZE, axis=0).sum(axis=-1)
    return values / (1 + _NORM_ALPHA / _NORM_SIZE * sums) ** _NORM_BETA
