"""Make the demo video: two public-domain portraits that swap places over a minute.

The photographs come inside installed packages: Eileen Collins (NASA, scikit-image's ``astronaut``) and
Grace Hopper (US Navy, matplotlib's sample data).

    python -m testkit.demo outputs/demo.mp4
"""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from matplotlib import cbook
from numpy.typing import NDArray
from skimage import data

WIDTH, HEIGHT, FPS, SECONDS = 1280, 720, 30, 60

PORTRAIT = (300, 320)


def portraits() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Head and shoulders of both people, each (320, 300, 3) uint8 RGB."""
    with cbook.get_sample_data("grace_hopper.jpg") as file:
        hopper = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_COLOR_RGB)
    collins = data.astronaut()[0:320, 75:375]
    return collins, cv2.resize(hopper[20:468, 45:465], PORTRAIT, interpolation=cv2.INTER_AREA)


def positions(time_s: float) -> tuple[tuple[int, int], tuple[int, int]]:
    """Upper left corners (x, y) of both in pixels; they swap places between second 20 and 40."""
    turn = (1 - np.cos(np.pi * np.clip((time_s - 20) / 20, 0, 1))) / 2
    rise = 180 * np.sin(np.pi * turn)
    sway = 30 * np.sin(time_s * 1.1), 20 * np.cos(time_s * 0.9)
    first = (120 + 740 * turn + sway[0], 200 - rise)
    second = (860 - 740 * turn - sway[1], 200 + rise)
    return (round(first[0]), round(first[1])), (round(second[0]), round(second[1]))


def write_demo(path: Path, seconds: float = SECONDS) -> None:
    """Write the video, or its first seconds."""
    shades = np.linspace(70, 150, WIDTH)[None, :] + np.linspace(0, 40, HEIGHT)[:, None]
    ground = np.repeat(shades.astype(np.uint8)[:, :, None], 3, axis=2)
    faces = portraits()
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(FPS), options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(round(FPS * seconds)):
            image = ground.copy()
            for face, (x, y) in zip(faces, positions(number / FPS), strict=True):
                image[y : y + PORTRAIT[1], x : x + PORTRAIT[0]] = face
            frame = av.VideoFrame.from_ndarray(image, "rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


if __name__ == "__main__":
    write_demo(Path(sys.argv[1]))
