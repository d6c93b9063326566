"""Load the detector that the settings name."""

from __future__ import annotations

from analyzer.settings import Settings
from analyzer.vision import registry
from analyzer.vision.detectors.base import Detector
from analyzer.vision.detectors.centerface import CenterFace
from analyzer.vision.detectors.opencv import Haar, Ssd
from analyzer.vision.detectors.whole import WholeImage
from analyzer.vision.detectors.yunet import YuNet

__all__ = [
    "load_detector",
]

_DETECTORS: dict[str, type[Detector]] = {
    one.model.name: one for one in (CenterFace, YuNet, Ssd, Haar, WholeImage)
}


def load_detector(settings: Settings) -> Detector:
    """Load the detector that `settings` names.

    Raises:
        ModelError: Its files are missing or damaged.
    """
    return _DETECTORS[registry.find_detector(settings.detector).name](settings)
