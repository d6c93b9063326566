"""Vary crops of faces, so that a model learns what stays the same.

What is drawn for a face depends only on the seed, the epoch and the face: neither on the batch nor on the
thread. Real video compression is not drawn here: it is in the views that `dataset` keeps.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Augmentation", "augmented", "generator"]

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
    crop = _moved(wide, size, how, random)
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
        coded = cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(20, 90))])[1]
        crop = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
    if chance[6] < how.occlusion:
        crop = _covered(crop, random)
    return crop


def _moved(wide: Image, size: tuple[int, int], how: Augmentation, random: np.random.Generator) -> Image:
    width, height = size
    angle, scale, stretch, x, y = random.normal(0, 1, 5).clip(-2.5, 2.5)
    factor = np.exp(scale * how.scale)
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
