"""Detection of shot boundaries between samples.

Samples are a fraction of a second apart: a camera may have turned, and a person may have walked through half
of the frame in between. Two neighboring samples are compared by their colors, and by how well one of them,
moved as a whole, covers the other.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ShotDetector",
    "thumbnail",
]

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]

_THUMBNAIL = (96, 54)

_COLOR_BINS, _BRIGHTNESS_BINS = (8, 4, 4), 128

_COVERED = 7.0
"""How much the overlap of two samples counts against a shot boundary, see `_change`. Of samples that are lit
by a flash, faded, panned or shaken, most overlap by 0.4 and more; those of different shots by less."""

_BOUNDARY = -4.3
"""The least change between shots. Chosen with `_COVERED` and `_RESTLESS` on frames of clips, also in gray,
and on photographs that are cut, panned, shaken, blurred, lit and faded. F1 hardly changes from -4.4 to -4."""

_STILL, _WILD, _RESTLESS = -8.0, -2.0, 0.2
"""Where the previous two samples already differ by more than the first, up to the second, a shot boundary
takes more change, by the third of theirs: a camera that swings does so for longer than one sample.
PySceneDetect's `AdaptiveDetector` compares with its neighbors too, but needs those that follow."""

_LEAST_CHANGE = -7.0
"""Below this, differences of color are noise."""

_BLANK = 3.0
"""Standard deviation of brightness below which a sample shows nothing: black, white, or a plain color."""


def thumbnail(image: Image) -> Image:
    """Return (54, 96, 3) uint8 BGR from (H, W, 3) uint8 BGR, by which shots are compared."""
    return cv2.resize(image, _THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


class ShotDetector:
    """Finds shot boundaries between samples that are passed one by one.

    Two neighboring samples are of different shots if their colors differ by more than their overlap explains,
    and by more than usual where samples differ all the time. Light that changes, shake and pans leave the
    overlap large, blur and people who move leave the colors alike. Samples that show nothing, in a fade or
    a flash, are skipped: the next one is compared with the last that showed something.
    """

    def __init__(self) -> None:
        self._before: _Features | None = None
        self._change_before = -math.inf
        self._began_blank = False

    def is_shot_boundary(self, image: Image) -> bool:
        """Tell whether a shot boundary lies between the previous sample and this one.

        Args:
            image: (54, 96, 3) uint8 BGR of `thumbnail`.
        """
        gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.uint8, copy=False)
        before = self._before
        if gray.std() < _BLANK:
            self._began_blank |= before is None
            return False
        self._before = features = _features(image, gray)
        if before is None:
            # What was before may have been anything: it was in another segment, or was never shown.
            return self._began_blank
        change = _change(before, features)
        restless = min(max(self._change_before, _STILL), _WILD) - _STILL
        self._change_before = change
        return change > _BOUNDARY + _RESTLESS * restless


@dataclass(frozen=True, eq=False, slots=True)
class _Features:
    """What of a sample is compared."""

    colors: Floats
    """(128,), the square roots of the shares that colors have."""
    brightness: Floats
    """(128,), likewise of levels of brightness: all there is in black and white, and in the dark."""
    phases: Floats
    """(54, 96, 2), see `_phases`."""


def _features(image: Image, gray: Image) -> _Features:
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV).astype(np.uint8, copy=False)
    return _Features(
        colors=_shares(hsv, _COLOR_BINS, [0, 180, 0, 256, 0, 256]),
        brightness=_shares(gray, (_BRIGHTNESS_BINS,), [0, 256]),
        phases=_phases(gray.astype(np.float32)),
    )


def _change(one: _Features, other: _Features) -> float:
    """Return the natural logarithm of how much colors differ, less `_COVERED` times the overlap.

    Colors differ by how little their histograms correlate, and by twice the squared Hellinger distance of the
    brightness.
    """
    colors = 1 - cv2.compareHist(one.colors, other.colors, cv2.HISTCMP_CORREL)
    brightness = 1 - float(one.brightness @ other.brightness)
    differ = max(colors + 2 * brightness, math.exp(_LEAST_CHANGE))
    return math.log(differ) - _COVERED * _overlap(one.phases, other.phases)


def _shares(image: Image, bins: tuple[int, ...], ends: list[float]) -> Floats:
    """Return the histogram of all channels of an image together, flat, as square roots of shares.

    Square roots keep one large plain area from outweighing everything else.
    """
    counts = cv2.calcHist([image], list(range(len(bins))), None, list(bins), ends).ravel()
    return np.sqrt(counts / counts.sum()).astype(np.float32)


def _phases(gray: Floats) -> Floats:
    """Return the (H, W, 2) phases of the spectrum of an (H, W) float32 image, as complex numbers of length 1.

    Without the amplitudes, neither brightness nor contrast matters.
    """
    spectrum = cv2.dft(gray * _window(*gray.shape), flags=cv2.DFT_COMPLEX_OUTPUT)
    lengths = cv2.magnitude(spectrum[..., 0], spectrum[..., 1])[..., None]
    return (spectrum / (lengths + 1e-3)).astype(np.float32)


@functools.cache
def _window(height: int, width: int) -> Floats:
    """Return the (height, width) weights that fade an image towards its borders."""
    return cv2.createHanningWindow((width, height), cv2.CV_32F).astype(np.float32)


def _overlap(one: Floats, other: Floats) -> float:
    """Return how well two images cover each other when one of them is moved: 0 not at all, 1 entirely.

    This is the peak of their phase correlation, with the two pixels around it (Kuglin and Hines 1975; as
    `cv2.phaseCorrelate`, which would transform each image twice).

    Args:
        one: `_phases` of an image.
        other: `_phases` of the other.
    """
    product = cv2.mulSpectrums(one, other, 0, conjB=True)
    flags = cv2.DFT_INVERSE | cv2.DFT_SCALE | cv2.DFT_REAL_OUTPUT
    surface = cv2.copyMakeBorder(cv2.dft(product, flags=flags), 2, 2, 2, 2, cv2.BORDER_WRAP)
    return float(cv2.boxFilter(surface, -1, (5, 5), normalize=False)[2:-2, 2:-2].max())
