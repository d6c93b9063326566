"""Videos for measuring, made from the photographs that installed packages carry."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from skimage import data

from benchmarks.demo import portraits

FPS = 30


def wall(columns: int = 6, rows: int = 3) -> NDArray[np.uint8]:
    """A large picture of many portraits of several sizes over a photograph, (H, W, 3) uint8 RGB."""
    height, width = 620 * rows, 640 * columns
    picture = cv2.resize(data.coffee(), (width, height))
    for row in range(rows):
        for column in range(columns):
            side = 300 + 60 * ((row + 2 * column) % 4)
            portrait = cv2.resize(portraits()[(row + column) % 2], (side, side), interpolation=cv2.INTER_AREA)
            x, y = 640 * column + 40 * (row % 3), 620 * row + 60 * (column % 2)
            picture[y : y + side, x : x + side] = portrait
    return picture


def panning(path: Path, seconds: int, width: int = 1920, height: int = 1080) -> Path:
    """A camera that pans over `wall`: H.264, 30 pictures a second."""
    picture = wall()
    room = picture.shape[1] - width, picture.shape[0] - height
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(FPS), options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(FPS * seconds):
            time_s = number / FPS
            x = round(room[0] * (0.5 + 0.5 * np.sin(time_s / 9)))
            y = round(room[1] * (0.5 + 0.5 * np.cos(time_s / 7)))
            frame = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(picture[y : y + height, x : x + width]), "rgb24"
            )
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def repeated(path: Path, source: Path, times: int) -> Path:
    """`source` played `times` times in a row, its packets copied."""
    with av.open(str(path), "w") as target:
        stream = None
        offset = 0
        for _ in range(times):
            with av.open(str(source)) as container:
                video = container.streams.video[0]
                if stream is None:
                    stream = target.add_stream_from_template(video)
                for packet in container.demux(video):
                    if packet.dts is None or packet.pts is None:
                        continue
                    packet.pts += offset
                    packet.dts += offset
                    packet.stream = stream
                    target.mux(packet)
                offset += video.duration or 0
    return path
