"""Cuts: between which two samples does the picture become another one?

Samples are a fraction of a second apart. A cut is judged from two neighbouring ones alone, so that it does
not matter which segment they are in.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scenedetect import ContentDetector, FrameTimecode, HistogramDetector

__all__ = ["CutFinder", "glance"]

Image = NDArray[np.uint8]

_GLANCE = (96, 54)
# Colours that differ more than this are another shot, whatever moves. Chosen on made edits, pans and real
# clips at 2, 5 and 10 samples a second: cuts differ by 0.12 and more, all else by at most 0.055. An even
# ground that becomes a little lighter has other colours too, but hardly another content; cuts have over 20.
_OTHER_COLOURS = 0.1
_SOME_CONTENT = 7.0
# Where the colours differ less (two cameras in one room), everything else must differ: PySceneDetect's
# own threshold, which a fast pan alone also reaches.
_SIMILAR_COLOURS = 0.03
_OTHER_CONTENT = 27.0
_BINS = (8, 4, 4)


class _ColourHistogram(HistogramDetector):  # type: ignore[misc]  # it has no types
    """PySceneDetect's comparison of histograms, of colours instead of brightness alone."""

    @staticmethod
    def calculate_histogram(frame_img: Image, bins: int = 128, normalize: bool = True) -> NDArray[np.float32]:
        del bins, normalize
        hsv = cv2.cvtColor(frame_img, cv2.COLOR_BGR2HSV)
        counts = cv2.calcHist([hsv], [0, 1, 2], None, list(_BINS), [0, 180, 0, 256, 0, 256]).ravel()
        # Square roots keep one large even area from outweighing all else.
        return np.sqrt(counts / counts.sum()).astype(np.float32)


def glance(picture: Image) -> Image:
    """A picture at a glance, as cuts are judged by: (54, 96, 3) uint8 BGR from (H, W, 3) uint8 BGR."""
    return cv2.resize(picture, _GLANCE, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


class CutFinder:
    """Looks for cuts in samples that are given one by one, with detectors of PySceneDetect.

    A cut is where the colours change much, or where they change a little and the content much.
    """

    def __init__(self) -> None:
        self._other_colours = _ColourHistogram(_OTHER_COLOURS, min_scene_len=0)
        self._similar_colours = _ColourHistogram(_SIMILAR_COLOURS, min_scene_len=0)
        self._some_content = ContentDetector(_SOME_CONTENT, min_scene_len=0)
        self._other_content = ContentDetector(_OTHER_CONTENT, min_scene_len=0)
        self._number = 0

    def is_cut(self, look: Image) -> bool:
        """Whether a cut lies between the sample before and this one.

        Args:
            look: (54, 96, 3) uint8 BGR of `glance`.
        """
        # Only the order counts: these detectors know no time between two pictures.
        now = FrameTimecode(self._number, fps=1.0)
        self._number += 1
        colours, some_content, similar, content = (
            bool(one.process_frame(now, look))
            for one in (self._other_colours, self._some_content, self._similar_colours, self._other_content)
        )
        return (colours and some_content) or (similar and content)
