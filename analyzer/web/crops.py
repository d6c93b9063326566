"""Pictures for pages: images, and crops of people that are kept in memory for a while."""

from __future__ import annotations

from pathlib import Path

import cv2

from analyzer.media.images import ImageReader
from analyzer.settings import Settings

__all__ = ["image_jpeg"]

_QUALITY = 85


def image_jpeg(path: str, longest: int) -> bytes:
    """Read an image and return it as JPEG.

    Args:
        path: The image.
        longest: Greatest length of its longer side, in pixels.

    Raises:
        MediaError: It cannot be read.
        SourceError: There is no such image.
    """
    with ImageReader([Path(path)], Settings(threads=1)) as reader:
        image = next(reader.frames()).image()
    high, wide = image.shape[:2]
    scale = min(1.0, longest / max(high, wide))
    if scale < 1:
        size = max(1, round(wide * scale)), max(1, round(high * scale))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
