"""Colors as a viewer shows them: HDR and wide gamut brought to the range of screens, transparency to white.

Decided here, once:

- **HDR** (PQ, HLG) is tone-mapped to BT.709. The light of a screen's white is 203 cd/m2, where graphics white
  lies (ITU-R BT.2408); what is darker than about 90 stays as it is, what is brighter is compressed (the curve
  of BT.2390), up to 1000 cd/m2, for which most films are mastered and HLG is defined.
- Colors of BT.2020 without HDR keep their brightness and are brought to the gamut of BT.709.
- **What is transparent** lies on white, as on a page. Faces that cannot be seen are not analyzed.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from functools import cache
from typing import Any, Final

import av
import cv2
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorTrc
from numpy.typing import NDArray
from PIL import Image as PillowImage

__all__ = [
    "GROUND",
    "Transfer",
    "Wide",
    "image_bgr",
    "on_ground",
    "transfer_of",
    "transparent",
    "wide_of",
    "wide_to_bgr",
]

Image = NDArray[np.uint8]
Float = NDArray[np.float32]

GROUND = 255
"""The background of transparent pixels, in each color."""

_WHITE_NITS: Final = 203.0
_PEAK_NITS: Final = 1000.0
_DISPLAY_GAMMA: Final = 2.2
_SYSTEM_GAMMA: Final = 1.2
"""Of a screen for HLG of the peak (ITU-R BT.2100)."""
_STEPS: Final = 1 << 12
"""Of the tables; signals have ten or twelve bits."""

# From linear light of BT.2020 to that of BT.709 (ITU-R BT.2087), for blue, green, red.
_TO_709: Final = np.array(
    [[1.1187, -0.1006, -0.0182], [-0.0083, 1.1329, -0.1246], [-0.0728, -0.5876, 1.6605]], np.float32
)
_LUMA_2020: Final = np.array([[0.0593, 0.6780, 0.2627]], np.float32)


class Transfer(StrEnum):
    """How HDR is coded."""

    PQ = "pq"
    HLG = "hlg"


class Wide(IntEnum):
    """Colors that are not those of BT.709, by how they are coded."""

    PQ = ColorTrc.SMPTE2084
    HLG = ColorTrc.ARIB_STD_B67
    SDR = ColorTrc.BT2020_10
    """BT.2020 in the range of ordinary screens."""


def transfer_of(frame: av.VideoFrame) -> Transfer | None:
    """Return how a decoded frame codes HDR; None if it is not HDR."""
    wide = wide_of(frame)
    if wide is None or wide is Wide.SDR:
        return None
    return Transfer.PQ if wide is Wide.PQ else Transfer.HLG


def wide_of(frame: av.VideoFrame) -> Wide | None:
    """Return the conversion that the colors of a decoded frame need; None if none."""
    transfer = frame.color_trc
    if transfer == Wide.PQ:
        return Wide.PQ
    if transfer == Wide.HLG:
        return Wide.HLG
    return Wide.SDR if frame.color_primaries == ColorPrimaries.BT2020 else None


@cache
def transparent(pix_fmt: str) -> bool:
    """Return whether frames of a pixel format can be transparent.

    >>> [transparent(name) for name in ("yuv420p", "yuva420p", "gbrap", "bgra", "pal8", "rgb24")]
    [False, True, True, True, True, False]
    """
    # A component of its own for opacity; palettes have it in their colors.
    form = av.VideoFormat(pix_fmt)
    return any(component.is_alpha for component in form.components) or form.has_palette


def on_ground(bgra: Image) -> Image:
    """(H, W, 3) uint8: what a viewer shows of (H, W, 4) uint8 BGRA."""
    opacity = bgra[:, :, 3]
    if opacity.min(initial=255) == 255:
        return np.ascontiguousarray(bgra[:, :, :3])
    part = cv2.merge([opacity] * 3)
    shown = cv2.multiply(bgra[:, :, :3], part, scale=1 / 255)
    ground = cv2.multiply(cv2.bitwise_not(part), np.full(part.shape, GROUND, np.uint8), scale=1 / 255)
    return np.asarray(cv2.add(shown, ground), np.uint8)


def image_bgr(opened: PillowImage.Image) -> Image:
    """(H, W, 3) uint8 BGR: an opened image file of any mode, as a viewer shows it."""
    if opened.mode in ("I", "F") or opened.mode.startswith("I;"):
        return np.asarray(cv2.cvtColor(_gray(np.asarray(opened)), cv2.COLOR_GRAY2BGR), np.uint8)
    if opened.has_transparency_data:
        rgba = np.asarray(opened.convert("RGBA"))
        return on_ground(np.asarray(cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGRA), np.uint8))
    rgb = np.asarray(opened.convert("RGB"))
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), np.uint8)


def _gray(values: NDArray[Any]) -> Image:
    """(H, W) uint8 of brightness that is coded otherwise.

    Sixteen bits are taken for what they say. Of other numbers nothing tells the range: it is the first of 0
    to 1 (of fractions alone), 0 to 255, 0 to 65535 and 0 to the largest that holds all, and where some are
    negative from the least to the largest.

    >>> _gray(np.array([[0, 0.5, 1.0, np.nan]], np.float32)), _gray(np.array([[0, 300, 65535]], np.int32))
    (array([[  0, 128, 255,   0]], dtype=uint8), array([[  0,   1, 255]], dtype=uint8))
    """
    numbers = np.where(np.isfinite(values), values, 0).astype(np.float64)
    if values.dtype.kind == "u":
        low, high = 0.0, 65_535.0
    else:
        low, most = min(0.0, float(numbers.min(initial=0))), float(numbers.max(initial=0))
        ends = (1.0, 255.0, 65_535.0) if values.dtype.kind == "f" else (255.0, 65_535.0)
        high = most if low < 0 else next((end for end in ends if most <= end), most)
    scaled = (numbers - low) * (255 / max(high - low, 1e-12))
    return np.asarray(np.clip(np.rint(scaled), 0, 255), np.uint8)


def wide_to_bgr(image: NDArray[np.uint16], wide: Wide) -> Image:
    """(H, W, 3) uint8 BGR of BT.709, of (H, W, 3) uint16 BGR as it is coded, 0 to 65535."""
    light: Float = _to_light(wide)[image >> 4]
    if wide is Wide.HLG:
        # What the camera saw becomes what the screen shows: the brighter, the more so.
        brighter = cv2.pow(cv2.max(cv2.transform(light, _LUMA_2020), 0), _SYSTEM_GAMMA - 1)
        root = cv2.sqrt(cv2.multiply(light, cv2.merge([brighter] * 3)))
        light = _toned_steps()[(np.minimum(root, 1) * (_STEPS - 1)).astype(np.uint16)]
    narrow = cv2.pow(cv2.max(cv2.transform(light, _TO_709), 0), 1 / _DISPLAY_GAMMA)
    return np.asarray(cv2.convertScaleAbs(narrow, alpha=255), np.uint8)


def _from_pq(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Light in cd/m2 of a PQ signal, 0 to 1 (SMPTE ST 2084)."""
    root = signal ** (32 / 2523)
    return np.asarray(
        10_000 * (np.maximum(root - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * root)) ** (16384 / 2610)
    )


def _to_pq(nits: NDArray[np.float64]) -> NDArray[np.float64]:
    power = (np.maximum(nits, 0) / 10_000) ** (2610 / 16384)
    return np.asarray(((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32))


def _toned(nits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Light as a share of a screen's white, of light in cd/m2: the curve of ITU-R BT.2390."""
    peak, white = _to_pq(np.array([_PEAK_NITS, _WHITE_NITS]))
    signal, most = np.minimum(_to_pq(nits) / peak, 1), white / peak
    knee = 1.5 * most - 0.5
    way = np.maximum(signal - knee, 0) / (1 - knee)
    bent = (
        (2 * way**3 - 3 * way**2 + 1) * knee
        + (way**3 - 2 * way**2 + way) * (1 - knee)
        + (3 * way**2 - 2 * way**3) * most
    )
    return _from_pq(np.where(signal < knee, signal, bent) * peak) / _WHITE_NITS


@cache
def _to_light(wide: Wide) -> Float:
    """(4096,): light of each signal: of HLG what the camera saw, 0 to 1, else a share of a screen's white."""
    signal = np.linspace(0, 1, _STEPS)
    if wide is Wide.PQ:
        light = _toned(_from_pq(signal))
    elif wide is Wide.HLG:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    else:
        light = signal**_DISPLAY_GAMMA
    return light.astype(np.float32)


@cache
def _toned_steps() -> Float:
    """(4096,): light as a share of a screen's white, by the root of light as a share of HLG's peak."""
    return _toned(np.linspace(0, 1, _STEPS) ** 2 * _PEAK_NITS).astype(np.float32)
