"""Crops of people, cut from the video on demand for a review by eye; they are never stored.

All crops that are wanted are cut in one pass over the video, which reads it only near them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import TypedDict

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyzer.faces import frontality
from analyzer.media.frame import Frame
from analyzer.media.images import ImageReader
from analyzer.media.reader import VideoReader
from analyzer.runs.run import Run
from analyzer.settings import Settings
from analyzer.util.atomic import paths_of

__all__ = [
    "CROP_PX",
    "Crop",
    "best_faces",
    "frames_at",
    "gallery",
    "tracklet_crops",
]

CROP_PX = 192
"""Width and height of a crop."""

_MARGIN = 0.45
"""A crop shows so much around the longer side of the face, on each side."""

_QUALITY = 85
"""Of the JPEG."""

_WIDE_PX = 100.0
"""Wider faces are not better ones."""

_JOIN_S = 4.0
"""Frames closer together than this are read in one go, without seeking."""

_SAME_S = 1e-3
"""Times of frames closer together are the same."""

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


class Crop(TypedDict):
    """A person's face in one frame."""

    person: int
    tracklet_id: int
    time_s: float
    jpeg: bytes
    """`CROP_PX` square."""


def gallery(
    folder: str | Path, media: Paths, people: Sequence[int] | None = None, count: int = 6
) -> list[Crop]:
    """Return the best crops of several people, by person and time.

    Args:
        folder: The run's folder.
        media: The video, or the images, of the run.
        people: Their numbers; None: everybody.
        count: How many of each at most.

    Raises:
        OutputError: The folder holds no run.
        MediaError: The video cannot be read.
        SourceError: It is not there.
    """
    run = Run.load(folder)
    faces = run.faces[run.faces["person_id"] > 0]
    if people is not None:
        faces = faces[faces["person_id"].isin(list(people))]
    return _cut(run, media, best_faces(faces, count))


def tracklet_crops(folder: str | Path, media: Paths, tracklets: Sequence[int]) -> list[Crop]:
    """Return the best crop of each of some tracklets, in the order of time.

    Args:
        folder: The run's folder.
        media: The video, or the images, of the run.
        tracklets: Their numbers.

    Raises:
        OutputError: The folder holds no run.
        MediaError: The video cannot be read.
        SourceError: It is not there.
    """
    run = Run.load(folder)
    faces = run.faces[run.faces["tracklet_id"].isin(list(tracklets))]
    faces = faces.assign(worth=_worth(faces))
    best = faces.loc[faces.groupby("tracklet_id")["worth"].idxmax()]
    return sorted(_cut(run, media, best), key=lambda crop: crop["time_s"])


def best_faces(faces: pd.DataFrame, count: int) -> pd.DataFrame:
    """Return the faces of each person that show best, spread over the time on screen.

    Args:
        faces: Rows of the faces table with a person.
        count: How many of each at most.
    """
    faces = faces.assign(worth=_worth(faces))
    chosen = [_spread(mine, count) for _, mine in faces.groupby("person_id")]
    return pd.concat(chosen) if chosen else faces


def _worth(faces: pd.DataFrame) -> NDArray[np.float64]:
    """Return (faces,) how well each shows: wide, clear and frontal."""
    if faces.empty:
        return np.empty(0)
    width = (faces["x2"] - faces["x1"]).to_numpy(np.float64).clip(max=_WIDE_PX) / _WIDE_PX
    clear = faces["quality"].fillna(0.5 * faces["score"]).to_numpy(np.float64)
    front = frontality(np.stack(list(faces["landmarks"])).reshape(-1, 5, 2).astype(np.float32))
    return width * (0.1 + clear) * (0.5 + np.nan_to_num(front, nan=0.5))


def _spread(faces: pd.DataFrame, count: int) -> pd.DataFrame:
    """Return the best face of each of `count` equal parts of somebody's faces in the order of time."""
    ordered = faces.sort_values("time_s", kind="stable")
    part = np.arange(len(ordered)) * min(count, len(ordered)) // max(len(ordered), 1)
    return ordered.loc[ordered.groupby(part)["worth"].idxmax()] if len(ordered) else ordered


def _cut(run: Run, media: Paths, faces: pd.DataFrame) -> list[Crop]:
    """Cut some rows of the faces table from the video."""
    settings = Settings(**run.info["settings"])
    sizes = run.samples.set_index("sample")[["width", "height"]]
    places = run.samples.set_index("sample")["segment"]
    wanted: dict[float, list[int]] = {}
    ordered = faces.sort_values("time_s", kind="stable")
    images = run.info["kind"] == "images"
    for row, (sample, time_s) in enumerate(zip(ordered["sample"], ordered["time_s"], strict=True)):
        wanted.setdefault(float(places[sample]) if images else float(time_s), []).append(row)
    boxes = ordered[["x1", "y1", "x2", "y2"]].to_numpy(np.float64)
    crops: list[Crop] = []
    with contextlib.closing(frames_at(media, settings, sorted(wanted), images=images)) as frames:
        for time_s, frame in frames:
            image = frame.image()
            for row in wanted[time_s]:
                face = ordered.iloc[row]
                width, height = sizes.loc[face["sample"]]
                # A smaller copy of the video serves as well.
                scale = np.array([frame.width / width, frame.height / height] * 2)
                crops.append(
                    {
                        "person": int(face["person_id"]),
                        "tracklet_id": int(face["tracklet_id"]),
                        "time_s": float(face["time_s"]),
                        "jpeg": _jpeg(image, boxes[row] * scale),
                    }
                )
    return sorted(crops, key=lambda crop: (crop["person"], crop["time_s"]))


def frames_at(
    media: Paths, settings: Settings, times_s: Sequence[float], *, images: bool
) -> Generator[tuple[float, Frame], None, None]:
    """Yield the frames at some times, ascending; those that the video does not have are left out.

    Raises:
        MediaError: The video cannot be read.
        SourceError: It is not there.
    """
    paths = paths_of(media)
    if images:
        with ImageReader(paths, settings) as reader:
            for time_s in times_s:
                # One at a time: those in between are not read.
                for frame in reader.frames(time_s, time_s + 0.5):
                    yield time_s, frame
        return
    with VideoReader(paths[0], settings) as video:
        for stretch in _stretches(times_s):
            left = list(stretch)
            for frame in video.frames(stretch[0] - _SAME_S, stretch[-1] + _SAME_S):
                while left and frame.time_s > left[0] + _SAME_S:
                    left.pop(0)
                if left and abs(frame.time_s - left[0]) <= _SAME_S:
                    yield left.pop(0), frame


def _stretches(times_s: Sequence[float]) -> list[list[float]]:
    """Return ascending times in groups without a gap of more than `_JOIN_S`.

    >>> _stretches([0.0, 3.0, 9.0])
    [[0.0, 3.0], [9.0]]
    """
    groups: list[list[float]] = []
    for time_s in times_s:
        if groups and time_s - groups[-1][-1] <= _JOIN_S:
            groups[-1].append(time_s)
        else:
            groups.append([time_s])
    return groups


def _jpeg(image: NDArray[np.uint8], box: NDArray[np.float64]) -> bytes:
    """Return a square around a box, (4,) pixels, as JPEG; beyond the frame its edge is repeated."""
    middle = (box[:2] + box[2:]) / 2
    half = max(2.0, float((box[2:] - box[:2]).max()) * (0.5 + _MARGIN))
    scale = CROP_PX / (2 * half)
    shrink = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    left, top = np.floor(middle - half).astype(int)
    right, bottom = np.ceil(middle + half).astype(int)
    height, width = image.shape[:2]
    inside = image[max(0, top) : max(1, min(bottom, height)), max(0, left) : max(1, min(right, width))]
    above, below, before, after = (max(0, int(one)) for one in (-top, bottom - height, -left, right - width))
    padded = cv2.copyMakeBorder(inside, above, below, before, after, cv2.BORDER_REPLICATE)
    small = cv2.resize(padded, (CROP_PX, CROP_PX), interpolation=shrink)
    _, jpeg = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return bytes(jpeg)
