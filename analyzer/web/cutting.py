"""What tasks of the server do for the pages of a run: cut crops, read images, correct people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2

from analyzer.correct import add_corrections, healed, undo_correction
from analyzer.media.images import ImageReader
from analyzer.output.crops import gallery, tracklet_crops
from analyzer.runs.corrections import Correction
from analyzer.settings import Settings

__all__ = ["correct", "cut_people", "cut_tracklets", "heal", "image_jpeg", "undo"]

_CROPS_OF_PERSON = 3

_QUALITY = 85

Jpegs = list[bytes]


def correct(folder: str, corrections: Sequence[dict[str, Any]]) -> None:
    """Correct the people of a run.

    Args:
        folder: The run's folder.
        corrections: As JSON values; all are made, or none.

    Raises:
        SettingsError: One is wrong, or contradicts the people there are.
        OutputError: The folder is in use, or cannot be written.
    """
    add_corrections(folder, [Correction.of(one) for one in corrections])


def undo(folder: str) -> None:
    """Undo the last correction in force; errors as of `correct`."""
    undo_correction(folder)


def heal(folder: str) -> None:
    """Derive the tables of a run again, if a correction was interrupted; errors as of `correct`."""
    healed(folder)


def cut_people(folder: str, media: Sequence[str], people: Sequence[int]) -> list[Jpegs]:
    """Cut crops of several people, in their order, the best ones of each.

    Args:
        folder: The run's folder.
        media: Its video, or its images.
        people: Their numbers.

    Raises:
        MediaError: The video cannot be read.
        SourceError: It is not there.
    """
    cut: dict[int, Jpegs] = {person: [] for person in people}
    for crop in gallery(folder, list(media), list(people), _CROPS_OF_PERSON):
        cut[crop["person"]].append(crop["jpeg"])
    return list(cut.values())


def cut_tracklets(folder: str, media: Sequence[str], tracklets: Sequence[int]) -> list[Jpegs]:
    """Cut a crop of each of several tracklets, in their order; otherwise as `cut_people`."""
    cut: dict[int, Jpegs] = {tracklet: [] for tracklet in tracklets}
    for crop in tracklet_crops(folder, list(media), list(tracklets)):
        cut[crop["tracklet_id"]].append(crop["jpeg"])
    return list(cut.values())


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
