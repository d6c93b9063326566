"""Detection of shot boundaries between samples.

Samples are a fraction of a second apart: a camera may have turned, and a person may have walked through half
of the frame in between. Two neighboring samples are compared by their colors, and by how well one of them,
moved as a whole, covers the other. In a dissolve neighbors are alike: there all samples are mixes of two.
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

_WHITE, _FLASH = 250, 0.2
"""Where this share more of the pixels than in the sample before have at least this brightness, and hardly any
is darker (`_DARKER`), a flash may hide most of what there is."""

_DARKER, _DARKENED = 20, 0.02
"""In a flash, less than this share (the second) of the pixels is darker than before by the first."""

_MIXED_SIZE = (32, 18)

_LONGEST_DISSOLVE = 22
"""In samples: two seconds at ten a second."""

_UNMIXED = 0.1
"""At most so much of a sample of a dissolve, as a share of the squared difference of the first and the last,
is of neither of the two. Where parts of the frame change one by one, it is up to 0.25."""

_MIXED = 0.2
"""At least one sample of a dissolve shows this much of both shots."""

_MIX_ERROR = 0.05
"""From sample to sample, the share of the new shot grows, or falls by no more than this."""

_LEAST_DIFFERENCE = 5.0
"""Root mean square by which the first and the last sample of a dissolve differ at least, of 255."""


def thumbnail(image: Image) -> Image:
    """Return (54, 96, 3) uint8 BGR from (H, W, 3) uint8 BGR, by which shots are compared."""
    height, width = image.shape[:2]
    if not width % 2 and not height % 2 and width >= 4 * _THUMBNAIL[0] and height >= 4 * _THUMBNAIL[1]:
        # The mean of pixels two by two is fast, and half of all that follow are saved.
        image = cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    return cv2.resize(image, _THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


class ShotDetector:
    """Finds shot boundaries between samples that are passed one by one.

    Two neighboring samples are of different shots if their colors differ by more than their overlap explains,
    and by more than usual where samples differ all the time. Light that changes, shake and pans leave the
    overlap large, blur and people who move leave the colors alike. Samples that show nothing, in a fade or
    a flash, are skipped: the next one is compared with the last that showed something. Of a dissolve, the
    boundary is where the new shot shows more than the old one.
    """

    def __init__(self) -> None:
        self._before: _Features | None = None
        self._change_before = -math.inf
        self._began_blank = False
        self._skipped = False
        self._dissolves = _Dissolves()

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
        features = _features(image, gray)
        # Only once in a row: the sample after it is no flash but a shot that is as bright.
        self._skipped = not self._skipped and before is not None and _flashes(before.gray, gray)
        if self._skipped:
            return False
        self._before = features
        if before is None:
            # What was before may have been anything: it was in another segment, or was never shown.
            self._dissolves.begin(image, features)
            return self._began_blank
        change = _change(before, features)
        restless = min(max(self._change_before, _STILL), _WILD) - _STILL
        self._change_before = change
        if change > _BOUNDARY + _RESTLESS * restless:
            self._dissolves.begin(image, features)
            return True
        return self._dissolves.shows_next(image, features)


@dataclass(frozen=True, eq=False, slots=True)
class _Features:
    """What of a sample is compared."""

    colors: Floats
    """(128,), the square roots of the shares that colors have."""
    brightness: Floats
    """(128,), likewise of levels of brightness: all there is in black and white, and in the dark."""
    phases: Floats
    """(54, 96, 2), see `_phases`."""
    gray: Image
    """(54, 96)"""


class _Dissolves:
    """Finds dissolves among the last samples of a shot.

    One shot dissolves into another if all samples between two are mixes of these, ever more of the later one,
    and the two would be a shot boundary if they were neighbors.
    """

    def __init__(self) -> None:
        self._features: list[_Features] = []
        self._pixels = np.empty((0, 3 * _MIXED_SIZE[0] * _MIXED_SIZE[1]), np.float32)
        self._apart = np.empty((0, 0))
        """Mean squared difference of each two samples."""
        self._told = False
        """Whether the first sample is that of a dissolve that may still go on."""

    def begin(self, image: Image, features: _Features) -> None:
        """Add the first sample of a shot."""
        self._keep(0)
        self._add(image, features)

    def shows_next(self, image: Image, features: _Features) -> bool:
        """Add a sample; tell whether it is the first of a dissolve that shows more of the next shot."""
        told = self._told
        self._add(image, features)
        starts = self._mixed_since()
        if told:
            if not self._told or 0 not in starts:  # it is over
                self._keep(2)
            return False
        for start in starts[::-1]:
            if _change(self._features[start], features) > _BOUNDARY:
                self._keep(len(self._features) - int(start))
                self._told = True
                return True
        return False

    def _add(self, image: Image, features: _Features) -> None:
        self._keep(_LONGEST_DISSOLVE - 1)
        pixels = cv2.resize(image, _MIXED_SIZE, interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
        apart = np.square(self._pixels - pixels).mean(axis=1)
        self._apart = np.block([[self._apart, apart[:, None]], [apart, np.zeros(1)]])
        self._pixels = np.concatenate([self._pixels, pixels[None]])
        self._features.append(features)

    def _keep(self, count: int) -> None:
        """Forget all but the last samples."""
        first = max(0, len(self._features) - count)
        self._features, self._pixels = self._features[first:], self._pixels[first:]
        self._apart = self._apart[first:, first:]
        self._told &= first == 0

    def _mixed_since(self) -> NDArray[np.int64]:
        """Return the samples since which all were mixes with the last one, ascending.

        What sample j shows of the last one beside sample i is the least squares solution, 0 to 1.
        """
        apart, last = self._apart, len(self._apart) - 1
        whole = np.maximum(apart[:, last:], 1e-6)
        shares = (apart + whole - apart[last]) / (2 * whole)
        unmixed = apart / whole - shares**2
        number = np.arange(last + 1)
        between = (number > number[:, None]) & (number < last)
        mixed = between & (np.abs(shares - 0.5) <= 0.5 - _MIXED)
        grows = (np.diff(shares, axis=1) >= -_MIX_ERROR) | (number[:-1] < number[:, None])
        found = mixed.any(axis=1) & grows.all(axis=1) & (whole[:, 0] >= _LEAST_DIFFERENCE**2)
        found &= (unmixed <= _UNMIXED).all(axis=1, where=between)
        return np.flatnonzero(found)


def _features(image: Image, gray: Image) -> _Features:
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV).astype(np.uint8, copy=False)
    return _Features(
        colors=_shares(hsv, _COLOR_BINS, [0, 180, 0, 256, 0, 256]),
        brightness=_shares(gray, (_BRIGHTNESS_BINS,), [0, 256]),
        phases=_phases(gray.astype(np.float32)),
        gray=gray,
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


def _flashes(before: Image, gray: Image) -> bool:
    """Tell whether a sample may be the one before in the light of a flash, from both in gray."""
    white = (gray >= _WHITE).mean() - (before >= _WHITE).mean()
    darkened = (cv2.subtract(before, gray) > _DARKER).mean()
    return bool(white >= _FLASH and darkened < _DARKENED)


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
