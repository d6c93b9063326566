"""Vary crops of faces, so that a model learns what stays the same.

What is drawn for a face depends only on the seed, the epoch and the face: neither on the batch nor on the
thread. Video compression takes too long to be drawn in each epoch: it is in the views that `dataset` keeps,
and in those of `coded_together`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from analyzer.evaluation.filmed import coded, drawn_codec

__all__ = ["Augmentation", "augmented", "coded_together", "generator"]

Image = NDArray[np.uint8]

_SEPIA = np.array([[0.131, 0.534, 0.272], [0.168, 0.686, 0.349], [0.189, 0.769, 0.393]], np.float32)
"""Blue, green and red of sepia from blue, green and red."""


@dataclass(frozen=True)
class Augmentation:
    """How far crops are varied; shares are probabilities."""

    mirror: float = 0.5
    turn_deg: float = 8.0
    """Standard deviation of the angle."""
    shift: float = 0.03
    """Likewise, of the place, as a share of the side."""
    scale: float = 0.06
    """Likewise, of the logarithm of the size."""
    stretch: float = 0.03
    """Likewise, of width against height."""
    soft: float = 0.3
    """How often resolution is lost, down to 24 pixels."""
    blur: float = 0.15
    """How often a crop is out of focus or in motion."""
    noise: float = 0.25
    light: float = 0.6
    """How often brightness, gamma, contrast and color are changed."""
    gray: float = 0.12
    """How often colors are lost, or turned to sepia in a quarter of these."""
    jpeg: float = 0.3
    occlusion: float = 0.15
    """How often a part is covered."""
    views: float = 0.5
    """How often one of the views as in photographs and videos takes the place of the plain crop."""


def generator(seed: int, epoch: int, face: int) -> np.random.Generator:
    """The random numbers of a face in an epoch."""
    return np.random.default_rng((seed, epoch, face))


def augmented(wide: Image, size: tuple[int, int], how: Augmentation, random: np.random.Generator) -> Image:
    """Vary a crop.

    Args:
        wide: (H, W, 3) uint8 BGR: a crop with a margin.
        size: Width and height of the crop without it.
        how: How far.
        random: Draws everything.

    Returns:
        (height, width, 3) uint8 BGR.
    """
    return _treated(_moved(wide, size, how, random), how, random)


def coded_together(
    wide: Sequence[Image], size: tuple[int, int], how: Augmentation, random: np.random.Generator
) -> list[Image]:
    """Vary crops, and code them together in a frame: as JPEG, in a video, in few colors, or not at all.

    All are drawn equally small first, and are moved last, as landmarks on a small and coded face are off.
    Faces that fill their picture mostly get soft surroundings: in videos hardly any face ends in black.

    Args:
        wide: (H, W, 3) uint8 BGR each: crops of one size, with a margin.
        size: Width and height of the crops without it.
        how: How far.
        random: Draws everything.

    Returns:
        (height, width, 3) uint8 BGR each.
    """
    width, height = size
    shrunk = np.exp(random.uniform(np.log(min(1.0, _LEAST_CODED_PX / width)), 0.0))
    tile = [2 * round(side * shrunk / 2) for side in wide[0].shape[:2]]
    columns = math.ceil(math.sqrt(len(wide)))
    rows = math.ceil(len(wide) / columns)
    frame = np.full((rows * tile[0], columns * tile[1], 3), 110, np.uint8)
    places = []
    for number, one in enumerate(wide):
        row, column = divmod(number, columns)
        places.append(frame[row * tile[0] : (row + 1) * tile[0], column * tile[1] : (column + 1) * tile[1]])
        small = cv2.resize(one, (tile[1], tile[0]), interpolation=cv2.INTER_AREA).astype(np.uint8)
        whole = small if random.random() < _BLACK else _surrounded(small)
        places[-1][:] = _treated(whole, how, random)
    frame[:] = _coded(frame, random)
    zoom = wide[0].shape[1] / tile[1]
    return [_moved(place, (width, height), how, random, zoom) for place in places]


_LEAST_CODED_PX = 20
"""The smallest width at which crops are coded."""
_BLACK = 0.12
"""How often what is outside of the picture stays black."""
_UNCODED, _AS_JPEG = 0.12, 0.23
"""How often crops are not coded, or are as JPEG; else in a video, or in few colors."""


_OUTSIDE = 6
"""No channel of a pixel outside of the picture is larger."""
_COARSE_PX = 24


def _surrounded(wide: Image) -> Image:
    """Fill what is black up to the edge with the colors beside it."""
    dark = cv2.inRange(wide, (0, 0, 0), (_OUTSIDE,) * 3)
    _, label = cv2.connectedComponents(dark)
    edge = np.zeros(label.max() + 1, np.uint8)
    for line in (label[0], label[-1], label[:, 0], label[:, -1]):
        edge[line] = 1
    edge[0] = 0  # what is not dark
    outside = edge[label]
    if not outside.any():
        return wide
    # The last pixels inside are mixed with black.
    inside = (1 - cv2.dilate(outside, np.ones((3, 3), np.uint8))).astype(np.float32)
    coarse = (_COARSE_PX, _COARSE_PX)
    color = cv2.resize(wide * inside[:, :, None], coarse, interpolation=cv2.INTER_AREA)
    share = cv2.resize(inside, coarse, interpolation=cv2.INTER_AREA)
    filled = np.zeros_like(color)
    for reach in (_COARSE_PX, 8, 4, 2):  # nearer colors replace those from afar
        near = cv2.GaussianBlur(share, (0, 0), reach / 2)[:, :, None]
        mean = cv2.GaussianBlur(color, (0, 0), reach / 2) / np.maximum(near, 1e-6)
        known = np.clip(near * 8, 0, 1)
        filled = filled * (1 - known) + mean * known
    around = cv2.resize(filled, wide.shape[1::-1], interpolation=cv2.INTER_LINEAR).clip(0, 255)
    kept = cv2.blur(cv2.erode(inside, np.ones((3, 3), np.uint8)), (3, 3))
    return cv2.blendLinear(wide, around.astype(np.uint8), kept, 1 - kept).astype(np.uint8)


def _coded(frame: Image, random: np.random.Generator) -> Image:
    kind = random.random()
    if kind < _UNCODED:
        return frame
    if kind < _UNCODED + _AS_JPEG:
        return _as_jpeg(frame, int(random.integers(25, 97)))
    # The second frame is coded as how it differs from the first: the camera moves by a pixel.
    second = np.roll(frame, 1, axis=1)
    return np.roll(coded([frame, second], *drawn_codec(random))[-1], -1, axis=1)


def _as_jpeg(image: Image, quality: int) -> Image:
    done = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(done, cv2.IMREAD_COLOR), np.uint8)


def _treated(crop: Image, how: Augmentation, random: np.random.Generator) -> Image:
    """A crop in another state, in the same place."""
    # All chances are drawn at once, so that one does not change the others.
    chance = random.random(7)
    if chance[0] < how.soft:
        crop = _soft(crop, random)
    if chance[1] < how.blur:
        crop = _blurred(crop, random)
    if chance[2] < how.light:
        crop = _lit(crop, random)
    if chance[3] < how.gray:
        crop = _without_color(crop, random)
    if chance[4] < how.noise:
        crop = _noisy(crop, random)
    if chance[5] < how.jpeg:
        crop = _as_jpeg(crop, int(random.integers(20, 90)))
    if chance[6] < how.occlusion:
        crop = _covered(crop, random)
    return crop


def _moved(
    wide: Image,
    size: tuple[int, int],
    how: Augmentation,
    random: np.random.Generator,
    zoom: float = 1.0,
) -> Image:
    """Cut a crop out of a wide one, not quite in its place; `zoom` is by how much the wide one was shrunk."""
    width, height = size
    angle, scale, stretch, x, y = random.normal(0, 1, 5).clip(-2.5, 2.5)
    factor = zoom * np.exp(scale * how.scale)
    cosine, sine = np.cos(np.radians(angle * how.turn_deg)), np.sin(np.radians(angle * how.turn_deg))
    linear = (
        factor * np.array([[cosine, -sine], [sine, cosine]]) @ np.diag([np.exp(stretch * how.stretch), 1])
    )
    if random.random() < how.mirror:
        linear = linear @ np.diag([-1, 1])
    middle = np.array([wide.shape[1] - 1, wide.shape[0] - 1]) / 2
    goal = np.array([width - 1, height - 1]) / 2 + np.array([x * width, y * height]) * how.shift
    matrix = np.hstack([linear, (goal - linear @ middle)[:, None]])
    return cv2.warpAffine(
        wide, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    ).astype(np.uint8)


def _soft(crop: Image, random: np.random.Generator) -> Image:
    height, width = crop.shape[:2]
    factor = np.exp(random.uniform(np.log(min(1.0, 24 / width)), 0))
    small = cv2.resize(
        crop, (max(8, round(width * factor)), max(8, round(height * factor))), interpolation=cv2.INTER_AREA
    )
    way = cv2.INTER_LINEAR if random.random() < 0.7 else cv2.INTER_CUBIC
    return cv2.resize(small, (width, height), interpolation=way).astype(np.uint8)


def _blurred(crop: Image, random: np.random.Generator) -> Image:
    side = crop.shape[1]
    if random.random() < 0.6:
        return cv2.GaussianBlur(crop, (0, 0), random.uniform(0.3, 1.6) * side / 112).astype(np.uint8)
    length = random.uniform(3, 9) * side / 112
    reach = max(1, int(np.ceil(length / 2)))
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    angle = random.uniform(0, np.pi)
    end = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    ends = [tuple(np.round((reach + sign * end) * 16).astype(int).tolist()) for sign in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0, 1, cv2.LINE_AA, 4)
    return cv2.filter2D(crop, -1, kernel / max(float(kernel.sum()), 1e-6)).astype(np.uint8)


def _lit(crop: Image, random: np.random.Generator) -> Image:
    gamma, contrast, brightness = np.exp(random.normal(0, [0.2, 0.15, 0.15]).clip(-0.5, 0.5))
    tint = np.exp(random.normal(0, 0.05, 3))
    steps = (np.arange(256, dtype=np.float64) / 255) ** gamma
    middle = 0.45
    steps = ((steps - middle) * contrast + middle) * brightness
    table = (steps[:, None] * tint * 255).clip(0, 255).astype(np.uint8)
    lit = cv2.LUT(crop, table[None]).astype(np.uint8)
    amount = float(random.uniform(0.5, 1.2))
    gray = cv2.cvtColor(cv2.cvtColor(lit, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    return cv2.addWeighted(lit, amount, gray, 1 - amount, 0).astype(np.uint8)


def _without_color(crop: Image, random: np.random.Generator) -> Image:
    if random.random() < 0.25:
        return cv2.transform(crop, _SEPIA).astype(np.uint8)
    return cv2.cvtColor(cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR).astype(np.uint8)


def _noisy(crop: Image, random: np.random.Generator) -> Image:
    strength = random.uniform(1, 9)
    one = random.random() < 0.5
    noise = random.standard_normal((*crop.shape[:2], 1 if one else 3), np.float32) * np.float32(strength)
    return (crop.astype(np.float32) + noise).clip(0, 255).astype(np.uint8)


def _covered(crop: Image, random: np.random.Generator) -> Image:
    """Cover a box or an ellipse with one color, or with noise, as hands, microphones and masks do."""
    height, width = crop.shape[:2]
    part = random.uniform(0.15, 0.45, 2) * (width, height)
    middle = random.uniform(0, 1, 2) * (width, height)
    color = random.integers(0, 256, 3).tolist()
    covered = crop.copy()
    if random.random() < 0.5:
        low = np.maximum(middle - part / 2, 0).astype(int)
        high = np.minimum(middle + part / 2, (width, height)).astype(int)
        covered[low[1] : high[1], low[0] : high[0]] = color
        return covered
    axes = tuple(np.maximum(part / 2, 1).astype(int).tolist())
    cv2.ellipse(covered, tuple(middle.astype(int).tolist()), axes, random.uniform(0, 180), 0, 360, color, -1)
    return covered
