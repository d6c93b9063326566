"""Synthetic videos with known people: ground truth for counts, gender, age and time on screen.

Labeled faces walk, talk and cross each other before photographs that scikit-image carries. Who is shown
when, and where, stands beside each video in ``truth.json``. A video is a function of kind, seed and archives.

    python -m testkit.crowd OUT_DIR --kind walking --seeds 1000-1004 --archives report
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tarfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import skimage
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from testkit.faces import CHOOSE, FIT, REPORT, SHARED, LabeledFace

Image = NDArray[np.uint8]

Floats = NDArray[np.float64]

VERSION = 3
"""Raised when the video of a seed changes, so that older videos are regenerated."""

WIDTH, HEIGHT, FPS = 1280, 720, 25

TRUTH_EVERY = 5
"""Frames between two boxes of the ground truth: 0.2 s."""

VISIT_GAP_S = 2.0
"""A person who is not seen for longer than this and then reappears has come back."""

MIN_INSIDE, MIN_UNCOVERED = 0.6, 0.5
"""A face is on screen while this share of it is in the frame, and this share of that is not hidden."""

CROP = 200

FACE_BOX = (0.07, 0.0, 0.93, 0.96)
"""Median box of CenterFace in the bare labeled crops, x1 y1 x2 y2 as shares of the crop (398 of 400)."""

FACE_WIDTH = (FACE_BOX[2] - FACE_BOX[0]) * CROP

PHOTOGRAPHS = ("coffee", "rocket", "brick", "grass", "gravel", "moon", "clock_motion")
"""Photos of scikit-image in which CenterFace finds no face with a score above 0.3 in any crop tried."""

MARGIN = 160
"""Pixels of background beyond each edge of the frame, for moving cameras."""


# Around the crop, in its pixels: room for the hair, ears and chin that the tight crops cut off.
_PAD_TOP, _PAD_SIDE, _PAD_BOTTOM = 76, 36, 24

_HEAD_TOP = 146  # from the eyes

_BODY_SHAPE = (1330, 560)  # height and width in pixels of the crop

_BODY_SCALE = 0.5  # drawn smaller than the heads: it is smooth

_BODY_TOP = 140

_LEVELS = tuple(2 ** (-step / 2) for step in range(8))

_CENTER = np.array([WIDTH / 2, HEIGHT / 2])

_TURN = np.linspace(0, 2 * np.pi, 32, endpoint=False)


@dataclass(frozen=True)
class Sprite:
    """A cutout in several sizes. `colors` (H, W, 3) uint8 BGR, `covers` (H, W) uint8 (255 is solid).

    `origin` is the place x y of the crop's upper left corner in the full-size picture, `factors` the pixels
    of each size per pixel of the crop.
    """

    colors: tuple[Image, ...]
    covers: tuple[Image, ...]
    origin: tuple[float, float]
    factors: tuple[float, ...]

    def level(self, factor: float) -> int:
        """The smallest size that need not be enlarged to draw at `factor` pixels per crop pixel."""
        fits = [number for number, own in enumerate(self.factors) if own >= factor]
        return fits[-1] if fits else 0


@dataclass(frozen=True)
class Look:
    """A person as drawn in one shot. `head_warp` (3, 3) turns the crop's pixels into the posed head's.

    Without a body the head is part of the bare crop, a picture in the picture. `face_box` is what shows of
    the face, x1 y1 x2 y2 as shares of the crop.
    """

    head: Sprite
    body: Sprite | None
    head_warp: Floats
    face_box: tuple[float, float, float, float] = FACE_BOX


@dataclass(frozen=True)
class Actor:
    """A person in one shot, who is at `path` (frames, 4): x y of the crop's center, size, roll.

    x and y in pixels of the scene, size in pixels of the picture per pixel of the crop, roll in degrees.
    `body` (frames, 2) is the x y from which the body hangs: the head moves more than the shoulders.
    """

    person: int
    look: Look
    path: Floats
    body: Floats


@dataclass(frozen=True)
class Shot:
    """One shot. `camera` (frames, 3): zoom, and x y of the scene at the center.

    `background` is larger than the picture by `MARGIN` at each edge, uint8 BGR.
    """

    background: Image
    camera: Floats
    actors: tuple[Actor, ...]

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.camera)


@dataclass(frozen=True)
class Film:
    """All shots, with the distortions of camera and encoder.

    `noise` is a standard deviation in gray levels, `exposure` the share of a frame's time that the shutter
    is open, `crf` x264's quality.
    """

    faces: tuple[LabeledFace, ...]
    shots: tuple[Shot, ...]
    noise: float = 2.0
    exposure: float = 0.0
    crf: int = 22


@cache
def _index(archives: range) -> tuple[tuple[str, Path, int, int], ...]:
    """Name, archive, offset and size in bytes of all labeled faces, in the order of their names' hashes.

    Raises:
        FileNotFoundError: The labeled faces are not there.
    """
    found = []
    for number in archives:
        path = SHARED / "data" / "utkface" / f"utkface-{number:02d}.tar"
        with tarfile.open(path) as tar:
            for member in tar.getmembers():
                labels = Path(member.name).name.split("_")
                if member.name.endswith(".jpg") and labels[0].isdigit() and labels[1] in ("0", "1"):
                    found.append((member.name, path, member.offset_data, member.size))
    return tuple(sorted(found, key=lambda entry: hashlib.sha1(entry[0].encode()).hexdigest()))


def _draw_faces(rng: np.random.Generator, archives: range, count: int) -> tuple[LabeledFace, ...]:
    """`count` different faces at random, with the ages and genders that the archives have."""
    entries = _index(archives)
    faces = []
    for number in rng.choice(len(entries), count, replace=False):
        name, path, offset, size = entries[number]
        with path.open("rb") as file:
            file.seek(offset)
            image = cv2.imdecode(np.frombuffer(file.read(size), np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            raise ValueError(f"{name} in {path} is no picture")
        labels = Path(name).name.split("_")
        faces.append(LabeledFace(name, int(labels[0]), labels[1] == "1", np.asarray(image, np.uint8)))
    return tuple(faces)


@cache
def _photograph(name: str) -> Image:
    """(H, W, 3) uint8 BGR of a photo in the package of scikit-image."""
    folder = Path(skimage.__file__).parent / "data"
    path = next(path for path in sorted(folder.glob(f"{name}.*")) if path.suffix in (".png", ".jpg"))
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_COLOR), np.uint8)


def background(rng: np.random.Generator, name: str) -> Image:
    """A random crop of a photo, as large as the frame plus `MARGIN` around it, uint8 BGR."""
    photograph = _photograph(name)
    if rng.random() < 0.5:
        photograph = np.ascontiguousarray(photograph[:, ::-1])
    rows, columns = photograph.shape[:2]
    width, height = WIDTH + 2 * MARGIN, HEIGHT + 2 * MARGIN
    share = rng.uniform(0.6, 1.0) * min(columns / width, rows / height)
    crop_width, crop_height = int(width * share), int(height * share)
    left, top = rng.integers(columns - crop_width + 1), rng.integers(rows - crop_height + 1)
    crop = photograph[top : top + crop_height, left : left + crop_width]
    large = cv2.resize(crop, (width, height), interpolation=cv2.INTER_CUBIC)
    # Out of focus, as behind people; it hides the enlarged pixels too.
    large = cv2.GaussianBlur(large, (0, 0), rng.uniform(1.5, 4.0))
    # A little color for the gray ones, and never so bright that faces drown.
    tint = rng.uniform(0.85, 1.05, 3) * min(1.0, 135 / max(1.0, float(large.mean())))
    return cv2.convertScaleAbs(
        (large * tint.astype(np.float32) + _grain(rng, large, 8.0, (1.3, 3, 8))).clip(0, 255)
    )


def _grain(
    rng: np.random.Generator, picture: NDArray[Any], deviation: float, pixels: tuple[float, ...]
) -> NDArray[np.float32]:
    """Fine structure for `picture` (H, W, 3) as (H, W, 1), in gray levels, of several sizes in pixels.

    Enlarged photographs and plain clothes have none, real ones do, and the detector misses it.
    """
    field = np.zeros(picture.shape[:2], np.float32)
    for size in pixels:
        part = cv2.GaussianBlur(rng.standard_normal(field.shape, np.float32), (0, 0), size)
        field += part / part.std()
    return (field * (deviation / field.std()))[:, :, None]


def _grade(rng: np.random.Generator, strength: float) -> Image:
    """Brightness, contrast and color temperature as a table (1, 256, 3) uint8 BGR for `cv2.LUT`."""
    gain = 1 + strength * rng.uniform(-0.22, 0.18)
    contrast = 1 + strength * rng.uniform(-0.2, 0.2)
    warmth = strength * rng.uniform(-0.12, 0.12)
    levels = (np.arange(256)[:, None] - 118) * contrast + 118
    table = levels * gain * np.array([1 - warmth, 1.0, 1 + warmth])
    return table.clip(0, 255).astype(np.uint8)[None]


def _scaled(color: Image, cover: Image, origin: tuple[float, float], factor: float) -> Sprite:
    """All sizes of a cutout that is drawn at `factor` pixels per crop pixel."""
    sizes = [tuple(max(2, round(side * level)) for side in color.shape[1::-1]) for level in _LEVELS]
    return Sprite(
        tuple(cv2.resize(color, size, interpolation=cv2.INTER_AREA) for size in sizes),
        tuple(cv2.resize(cover, size, interpolation=cv2.INTER_AREA) for size in sizes),
        origin,
        tuple(size[0] / color.shape[1] * factor for size in sizes),
    )


def _matte(face: Image) -> NDArray[np.float32]:
    """A mask of the person in the crop (200, 200, 3): (200, 200) in [0, 1].

    Crops show a little of where they were taken. Pasted with it, heads look like stickers, and the detector
    takes them for that.
    """
    small = cv2.resize(face, (CROP // 2, CROP // 2), interpolation=cv2.INTER_AREA)
    y, x = np.mgrid[: CROP // 2, : CROP // 2] * 2.0
    x -= CROP / 2
    marks = np.full(small.shape[:2], cv2.GC_PR_BGD, np.uint8)
    marks[(x / 78) ** 2 + ((y - 95) / 105) ** 2 < 1] = cv2.GC_PR_FGD
    marks[(x / 60) ** 2 + ((y - 105) / 80) ** 2 < 1] = cv2.GC_FGD
    marks[(abs(x) > 90) & (y > 150)] = cv2.GC_BGD
    cv2.setRNGSeed(1)  # its clusters begin at random
    inner, outer = np.zeros((2, 1, 65))
    cv2.grabCut(small, marks, (0, 0, 0, 0), inner, outer, 3, cv2.GC_INIT_WITH_MASK)
    person = np.isin(marks, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)
    person = ((cv2.GaussianBlur(person, (0, 0), 2.5) - 0.5) * 3 + 0.5).clip(0, 1)
    return np.asarray(cv2.resize(person, (CROP, CROP)), np.float32)


def _head(face: Image, warp: Floats, table: Image) -> Sprite:
    """The head in the crop (200, 200, 3), completed by the top that the tight crop lacks."""
    pads = _PAD_TOP, _PAD_BOTTOM, _PAD_SIDE, _PAD_SIDE
    padded = cv2.copyMakeBorder(face, *pads, cv2.BORDER_REPLICATE)
    rows, columns = padded.shape[:2]
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    x, y = x - _PAD_SIDE - CROP / 2, y - _PAD_TOP
    # What is made up is blurred, so that replicated pixels do not show as streaks.
    beyond = np.maximum(np.maximum(abs(x) - CROP / 2, -y), y - CROP) / 12 + 0.3
    mixed = _mix(padded, cv2.GaussianBlur(padded, (0, 0), 7), beyond.clip(0, 1))

    own = cv2.copyMakeBorder(_matte(face), *pads, cv2.BORDER_REPLICATE)
    # Whatever the matte says, the face itself stays; above the crop begins the hair, in an arc.
    own = np.maximum(own, ((1 - (x / 80) ** 2 - ((y - 98) / 104) ** 2) * 6 + 0.5).clip(0, 1))
    own *= ((y + 16 - 34 * (x / 100) ** 2) / 16).clip(0, 1)
    strands = np.random.default_rng(1).standard_normal((rows, columns), np.float32)
    strands = cv2.GaussianBlur(strands, (0, 0), 1.3, sigmaY=2.6)
    hair = _hair_color(face) * (0.8 + 0.09 / strands.std() * strands[:, :, None])
    mixed = _mix(hair.clip(0, 255).astype(np.uint8), mixed, own)

    upright = (abs(y - 92) / np.where(y < 92, _HEAD_TOP, 110)) ** 2.2
    outer = ((1 - (x / 108) ** 2 - upright) * 12 + 0.5).clip(0, 1)
    cap = ((1 - (x / 98) ** 2 - upright) * 12 + 0.5).clip(0, 1) / (1 + np.exp((y - 130) / 8))
    cover = np.maximum(np.minimum(own, outer), cap) * 255
    cover = cv2.GaussianBlur(cover.astype(np.uint8), (0, 0), 2.0)

    size = (columns, rows)
    shift = np.array([[1, 0, _PAD_SIDE], [0, 1, _PAD_TOP], [0, 0, 1]], np.float64)
    posed = shift @ warp @ np.linalg.inv(shift)
    color = cv2.warpPerspective(mixed, posed, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    cover = cv2.warpPerspective(cover, posed, size)
    return _scaled(cv2.LUT(color, table), cover, (_PAD_SIDE, _PAD_TOP), 1.0)


def _mix(first: Image, second: Image, share: NDArray[np.float32]) -> Image:
    """`first` with `share` (H, W) in [0, 1] of `second`, uint8."""
    share = np.ascontiguousarray(share, np.float32)
    return np.asarray(cv2.blendLinear(first, second, 1 - share, share), np.uint8)


def _hair_color(face: Image) -> Floats:
    """BGR of the darker half of the crop's upper corners: mostly hair, if the crop shows any."""
    corners = np.concatenate([face[:24, :40].reshape(-1, 3), face[:24, -40:].reshape(-1, 3)]).astype(float)
    gray = corners.mean(axis=1)
    color = corners[gray <= np.median(gray)].mean(axis=0)
    color = 0.5 * color + 0.5 * color.mean()  # a blue wall is no blue hair
    return np.asarray(color * min(1.0, 110 / max(1.0, color.mean())))


def _body(rng: np.random.Generator, face: Image, table: Image) -> Sprite:
    """Neck, shoulders, arms and legs in plain shaded colors, below a head."""
    rows, columns = (round(side * _BODY_SCALE) for side in _BODY_SHAPE)
    wide = rng.uniform(175, 220)

    def area(*points: tuple[float, float]) -> Image:
        """(rows, columns) uint8 with a polygon filled, given by its right side, x y in crop pixels."""
        sides = [*points, *[(-x, y) for x, y in reversed(points)]]
        pixels = [(x * _BODY_SCALE + columns / 2, (y - _BODY_TOP) * _BODY_SCALE) for x, y in sides]
        mask = np.zeros((rows, columns), np.uint8)
        cv2.fillPoly(mask, [np.round(np.array(pixels) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
        return mask

    neck = area((70, 140), (64, 205), (75, 232))
    shirt = area((62, 206), (100, 226), (wide - 30, 252), (wide, 300), (wide + 14, 640), (wide - 30, 655))
    legs = area((wide - 32, 630), (wide - 60, 1000), (wide - 80, 1320))
    collar = area((66, 203), (48, 240), (0, 256 + rng.uniform(0, 50)))
    skin = np.median(face[110:140, 60:140].reshape(-1, 3), axis=0) * 0.85
    hue, value = rng.integers(180), int(rng.uniform(50, 190))
    cloth = np.array([[[hue, rng.integers(20, 150), value], [rng.integers(90, 125), 50, 60]]], np.uint8)
    shirt_color, leg_color = cv2.cvtColor(cloth, cv2.COLOR_HSV2BGR)[0].astype(float)

    color = np.empty((rows, columns, 3), np.uint8)
    color[:] = shirt_color
    color[round((648 - _BODY_TOP) * _BODY_SCALE) :] = leg_color
    bare = np.maximum(collar, neck)
    bare[cv2.subtract(shirt, collar) > 127] = 0
    soft = cv2.GaussianBlur(bare, (0, 0), 1.2).astype(np.float32) / 255
    color = cv2.convertScaleAbs((color + _grain(rng, color, 8.0, (0.7,))).clip(0, 255))
    color = _mix(color, np.full_like(color, skin), soft)
    x = (np.arange(columns) - columns / 2) / (columns / 2)
    y = np.arange(rows)[:, None] / _BODY_SCALE + _BODY_TOP
    folds = cv2.resize(rng.normal(0, 1, (26, 14)).astype(np.float32), (columns, rows))
    under_chin = 0.45 * np.exp(-(((y - 200) / 38) ** 2) - ((x * 280 / 80) ** 2))
    shade = (1.05 - 0.45 * x**2 + 0.05 * folds - under_chin).astype(np.float32)
    color = cv2.convertScaleAbs(color * shade[:, :, None])
    cover = cv2.GaussianBlur(np.maximum.reduce([neck, shirt, legs]), (0, 0), 2.5)
    # The blur has rounded the corners; this makes the edge crisp again.
    cover = ((cover.astype(np.float32) - 64) * 2).clip(0, 255).astype(np.uint8)
    origin = (columns / 2 - CROP / 2 * _BODY_SCALE, -_BODY_TOP * _BODY_SCALE)
    return _scaled(cv2.LUT(color, table), cover, origin, _BODY_SCALE)


def _look(
    rng: np.random.Generator, face: LabeledFace, clothes: int, turn: float = 0.0, grade: float = 0.25
) -> Look:
    """Dress and light a face. `clothes` is a seed; `turn` 1 turns the head as far as looks natural."""
    side, nod = rng.uniform(-1, 1, 2) * turn
    half = CROP / 2
    squeeze = 1 - 0.15 * abs(side)
    corners = np.array([[0, 0], [CROP, 0], [CROP, CROP], [0, CROP]], np.float32)
    posed = corners - half
    # The side that is turned away is lower and narrower, the end that is tilted away is narrower.
    posed[:, 1] *= 1 + 0.07 * side * np.sign(posed[:, 0])
    posed[:, 0] *= squeeze * (1 + 0.05 * nod * np.sign(posed[:, 1]))
    posed[:, 1] *= 1 - 0.05 * abs(nod)
    warp = cv2.getPerspectiveTransform(corners, (posed + half).astype(np.float32))
    table = _grade(rng, grade)
    body = _body(np.random.default_rng(clothes), face.image, table)
    return Look(_head(face.image, warp, table), body, np.asarray(warp, np.float64))


def _shake(rng: np.random.Generator, frames: int, pixels: float) -> Floats:
    """Slow small movement (frames, 2) of a hand-held camera, of about `pixels`."""
    times = np.arange(frames)[:, None] / FPS
    waves = [np.sin(2 * np.pi * rng.uniform(0.15, 1.6, 2) * times + rng.uniform(0, 6.3, 2)) for _ in range(4)]
    return np.asarray(sum(waves) * pixels / 2)


def _still(rng: np.random.Generator, frames: int, shake: float = 1.2) -> Floats:
    """A fixed camera (frames, 3) that shakes by `shake` pixels."""
    return np.column_stack([np.ones(frames), _shake(rng, frames, shake) + _CENTER])


def _gait(rng: np.random.Generator, path: Floats) -> tuple[Floats, Floats]:
    """Add the bobbing of steps to a smooth path (frames, 3) of x, y and size.

    Returns:
        Path (frames, 4) and body (frames, 2) as in `Actor`.
    """
    times = np.arange(len(path)) / FPS
    steps = rng.uniform(1.6, 2.1) * 2 * np.pi * times + rng.uniform(0, 6.3)
    size = path[:, 2] * CROP
    bob = np.column_stack([0.025 * np.sin(steps / 2), 0.035 * np.sin(steps)]) * size[:, None]
    body = path[:, :2] + bob
    slow = rng.uniform(0.2, 0.5) * 2 * np.pi * times + rng.uniform(0, 6.3)
    roll = rng.uniform(-3, 3) + 2.5 * np.sin(steps / 2 + 0.6) + 2.5 * np.sin(slow)
    head = body + np.column_stack([0.02 * np.sin(slow), 0.015 * np.sin(1.7 * slow)]) * size[:, None]
    return np.column_stack([head, path[:, 2], roll]), body


def _walk(rng: np.random.Generator, frames: int, widths: tuple[float, float]) -> Floats:
    """A smooth path (frames, 3) of x, y and size through the frame, from outside to outside."""
    share = np.linspace(0, 1, frames)
    low, high = widths
    from_left = rng.random() < 0.5
    if rng.random() < 0.6:  # across
        width = np.exp(rng.uniform(np.log(low), np.log(high)))
        sizes = width * np.exp(rng.uniform(-0.12, 0.12) * (share - 0.5))
        leaves_left = not from_left
    else:  # towards the camera: the distance shrinks evenly
        far, near = rng.uniform(low, low * 1.3), rng.uniform(0.75 * high, high)
        sizes = 1 / (1 / far + (1 / near - 1 / far) * share**0.8)
        leaves_left = rng.random() < 0.5
    sizes = sizes / FACE_WIDTH
    outside = 1.35 * CROP * sizes
    start = -outside[0] if from_left else WIDTH + outside[0]
    end = -outside[-1] if leaves_left else WIDTH + outside[-1]
    if from_left == leaves_left:  # in, and out again at the same edge
        turn = rng.uniform(0.35, 0.75) * WIDTH if from_left else rng.uniform(0.25, 0.65) * WIDTH
    else:
        turn = (start + end) / 2 + rng.uniform(-0.12, 0.12) * WIDTH
    xs = PchipInterpolator([0, 0.5, 1], [start, turn, end])(share)
    # Seen from above: farther people stand higher in the picture; some are tall and some are small.
    ys = 100 + rng.uniform(-15, 40) + (1.55 + rng.uniform(-0.15, 0.25)) * CROP * sizes
    return np.column_stack([xs, ys, sizes])


def _covered(one: Floats, other: Floats) -> int:
    """The number of frames in which one path (frames, 3 or more) of x, y, size hides the other face."""
    gap_x, gap_y = np.abs(one[:, :2] - other[:, :2]).T
    near, far = np.maximum(one[:, 2], other[:, 2]), np.minimum(one[:, 2], other[:, 2])
    return int(((gap_x < (0.55 * near + 0.4 * far) * CROP) & (gap_y < (0.7 * near + 0.4 * far) * CROP)).sum())


def _passers(
    rng: np.random.Generator,
    faces: Sequence[LabeledFace],
    seconds: int,
    widths: tuple[float, float],
    looks: Callable[[LabeledFace], Look],
    *,
    gait: Callable[[np.random.Generator, Floats], tuple[Floats, Floats]] = _gait,
    first: int = 0,
) -> tuple[Actor, ...]:
    """Everyone walks through the frame once, with starts spread over the whole time.

    Args:
        gait: Turns a smooth path (frames, 3) into path and body as in `Actor`.
        first: Number of the first of these people.
    """
    actors: list[Actor] = []
    for number, face in enumerate(faces):
        frames = round((5 + 7 * np.sqrt(rng.random())) * FPS)
        start = int((number + rng.random()) / len(faces) * (seconds * FPS - frames))
        path = np.full((seconds * FPS, 4), np.nan)
        body = path[:, :2].copy()
        stretch = slice(start, start + frames)
        others = [actor.path[stretch] for actor in actors]
        walks = [_walk(rng, frames, widths) for _ in range(4)]
        # People keep out of each other's way, where they can.
        walk = min(walks, key=lambda own: sum(_covered(own, other) for other in others))
        path[stretch], body[stretch] = gait(rng, walk)
        actors.append(Actor(first + number, looks(face), path, body))
    return tuple(actors)


def walking(rng: np.random.Generator, archives: range) -> Film:
    """A minute in front of a fixed camera; 24 people walk through once each."""
    faces = _draw_faces(rng, archives, 24)
    scene = background(rng, str(rng.choice(PHOTOGRAPHS)))
    camera = _still(rng, 60 * FPS)

    def look(face: LabeledFace) -> Look:
        return _look(rng, face, int(rng.integers(2**31)))

    return Film(faces, (Shot(scene, camera, _passers(rng, faces, 60, (50, 130), look)),))


def hard(rng: np.random.Generator, archives: range) -> Film:
    """Like `walking`, but 8 people, small, dark, with motion blur and noise."""
    faces = _draw_faces(rng, archives, 8)
    scene = cv2.convertScaleAbs(background(rng, str(rng.choice(PHOTOGRAPHS))), alpha=rng.uniform(0.35, 0.6))
    camera = _still(rng, 40 * FPS)

    def look(face: LabeledFace) -> Look:
        made = _look(rng, face, int(rng.integers(2**31)))
        gain = rng.uniform(0.25, 0.6)
        body = None if made.body is None else _dimmed(made.body, gain)
        return Look(_dimmed(made.head, gain), body, made.head_warp)

    actors = _passers(rng, faces, 40, (24, 60), look)
    return Film(faces, (Shot(scene, camera, actors),), noise=rng.uniform(4, 7), exposure=0.5, crf=28)


_TILES = 6


def headless(rng: np.random.Generator, archives: range) -> Film:
    """40 s of 18 faces without heads on plain grounds: tiles as of a video call, then pictures that move.

    Faces are cut off at forehead and chin; many detectors need what is around.
    """
    faces = _draw_faces(rng, archives, 18)
    seconds = (10, 30)

    def scene() -> Image:
        color = rng.uniform(20, 200, 3)
        ground = np.full((HEIGHT + 2 * MARGIN, WIDTH + 2 * MARGIN, 3), color, np.float32)
        return np.asarray((ground + _grain(rng, ground, 1.5, (0.7,))).clip(0, 255).astype(np.uint8))

    def look(face: LabeledFace) -> Look:
        cut = round(rng.uniform(0.06, 0.17) * CROP)
        bare = cv2.LUT(face.image[cut : CROP - cut, cut : CROP - cut], _grade(rng, 0.25))
        solid = np.full(bare.shape[:2], 255, np.uint8)
        x1, y1, x2, y2 = FACE_BOX
        low, high = cut / CROP, 1 - cut / CROP
        box = (max(x1, low), max(y1, low), min(x2, high), min(y2, high))
        return Look(_scaled(bare, solid, (-cut, -cut), 1.0), None, np.eye(3), box)

    def upright(rng: np.random.Generator, path: Floats) -> tuple[Floats, Floats]:
        return np.column_stack([path, np.zeros(len(path))]), path[:, :2]

    tiles = []
    for number, face in enumerate(faces[:_TILES]):
        row, column = divmod(number, 3)
        width = rng.uniform(90, 190)
        center = [(column + 0.5) / 3 * WIDTH, (row + 0.5) / 2 * HEIGHT]
        drift = _shake(rng, seconds[0] * FPS, 2.0)
        path = np.column_stack([center + drift, np.full(len(drift), width / CROP)])
        tiles.append(Actor(number, look(face), *upright(rng, path)))
    pictures = _passers(rng, faces[_TILES:], seconds[1], (60, 130), look, gait=upright, first=_TILES)
    shots = zip(seconds, (tuple(tiles), pictures), strict=True)
    return Film(faces, tuple(Shot(scene(), _still(rng, long * FPS, 0.0), cast) for long, cast in shots))


def _dimmed(sprite: Sprite, gain: float) -> Sprite:
    colors = tuple(cv2.convertScaleAbs(color, alpha=gain) for color in sprite.colors)
    return Sprite(colors, sprite.covers, sprite.origin, sprite.factors)


def crossing(rng: np.random.Generator, archives: range) -> Film:
    """40 s; 12 people stroll in front of each other, and every second one leaves and comes back."""
    frames = 40 * FPS
    faces = _draw_faces(rng, archives, 12)
    scene = background(rng, str(rng.choice(PHOTOGRAPHS)))
    actors = []
    for number, face in enumerate(faces):
        path, body = _gait(rng, _stroll(rng, frames, enters=number >= 7, returns=number % 2 == 0))
        look = _look(rng, face, int(rng.integers(2**31)))
        actors.append(Actor(number, look, path, body))
    return Film(faces, (Shot(scene, _still(rng, frames), tuple(actors)),))


def _stroll(rng: np.random.Generator, frames: int, *, enters: bool, returns: bool) -> Floats:
    """A path (frames, 3) of x, y and size to and fro in the frame.

    Args:
        enters: Begins outside, and comes in within 12 s; else begins inside.
        returns: Leaves after a while, and comes back after 6 to 10 s.
    """
    total = frames / FPS
    outside = (-190.0, WIDTH + 190.0)
    times, xs, widths = [0.0], [rng.uniform(100, WIDTH - 100)], [rng.uniform(50, 110)]
    if enters:
        xs = [outside[rng.integers(2)]] * 2
        times.append(rng.uniform(1, 8))
        widths *= 2
    leaves_s = rng.uniform(9, 18) if returns else np.inf

    def go(x: float) -> None:
        """Walk to `x` at a normal pace, closer to or further from the camera on the way."""
        times.append(times[-1] + max(0.8, abs(x - xs[-1]) / rng.uniform(90, 220)))
        widths.append(float(np.clip(widths[-1] + rng.uniform(-25, 25), 50, 110)))
        xs.append(x)

    while times[-1] < total:
        if times[-1] > leaves_s:
            leaves_s = np.inf
            go(outside[rng.integers(2)])
            # The way back begins at either edge: nobody sees the walk behind the camera.
            times.append(times[-1] + rng.uniform(6, 10))
            xs.append(xs[-1])
            widths.append(widths[-1])
        else:
            go(rng.uniform(90, WIDTH - 90))
    seconds = np.arange(frames) / FPS
    sizes = PchipInterpolator(times, widths)(seconds) / FACE_WIDTH
    # Seen from above: who is farther stands higher in the picture.
    ys = 110 + (sizes * FACE_WIDTH - 50) * 4.6 + rng.uniform(-35, 35)
    return np.column_stack([PchipInterpolator(times, xs)(seconds), ys, sizes])


@dataclass(frozen=True)
class _Place:
    """The position of a person in a shot: x y of the crop's center, width of the face, in pixels."""

    x: float
    y: float
    width: float


def edited(rng: np.random.Generator, archives: range) -> Film:
    """A minute of twelve shots with ten people, each in two or more shots and never twice the same.

    Over some cuts different people are in the same place, over some the same person is in another.
    """
    faces = _draw_faces(rng, archives, 10)
    clothes = [int(seed) for seed in rng.integers(2**31, size=len(faces))]
    lengths = _shot_lengths(rng, 12, 60 * FPS)
    cuts = rng.permutation(np.arange(1, len(lengths)))
    traps, repeats = set(cuts[:4].tolist()), set(cuts[4:6].tolist())
    casts = _casts(rng, len(faces), len(lengths), repeats)
    names = [str(name) for name in rng.permutation(PHOTOGRAPHS)] * 2
    before: dict[int, _Place] = {}
    shots = []
    for number, (frames, cast) in enumerate(zip(lengths, casts, strict=True)):
        # In a trap someone new takes the very place of someone before.
        taken = [before[int(rng.choice(list(before)))]] if number in traps else []
        places = _places(rng, len(cast), taken)
        stays = next((person for person in cast if person in before), None)
        if stays is not None:
            # As far from the old place as there is room.
            old_x = before[stays].x
            places.sort(key=lambda place: -abs(place.x - old_x))
            cast.remove(stays)
            cast.insert(0, stays)
        table = _grade(rng, 0.5)
        actors = []
        for person, place in zip(cast, places, strict=True):
            look = _look(rng, faces[person], clothes[person], turn=1.0, grade=1.0)
            path, body = _sit(rng, frames, place)
            actors.append(Actor(person, look, path, body))
        shots.append(
            Shot(
                np.asarray(cv2.LUT(background(rng, names[number]), table), np.uint8),
                _moving(rng, frames),
                tuple(actors),
            )
        )
        before = dict(zip(cast, places, strict=True))
    return Film(faces, tuple(shots))


def _shot_lengths(rng: np.random.Generator, count: int, frames: int) -> list[int]:
    """Frames of each of `count` shots of 3 to 7 s that add up to `frames`."""
    while True:
        lengths = rng.uniform(3, 7, count)
        ends = np.round(np.cumsum(lengths) / lengths.sum() * frames).astype(int)
        lengths = np.diff(ends, prepend=0)
        if lengths.min() >= 3 * FPS and lengths.max() <= 7 * FPS:
            return [int(length) for length in lengths]


def _casts(rng: np.random.Generator, people: int, shots: int, repeats: set[int]) -> list[list[int]]:
    """The 1 to 4 people of each shot, everyone in two or more; in consecutive shots only if in `repeats`."""
    while True:
        casts: list[list[int]] = []
        seen = np.zeros(people)
        for number in range(shots):
            count = int(rng.choice([1, 2, 3, 4], p=[0.2, 0.35, 0.3, 0.15]))
            before = casts[-1] if casts else []
            wanted = seen + rng.uniform(0, 1.6, people)
            wanted[before] = np.inf
            cast = [int(person) for person in np.argsort(wanted)[:count]]
            if number in repeats:
                cast[-1] = int(rng.choice(before))
            seen[cast] += 1
            casts.append(cast)
        if seen.min() >= 2:
            return casts


def _places(rng: np.random.Generator, count: int, taken: list[_Place]) -> list[_Place]:
    """Positions for `count` people who do not hide each other; `taken` come first and are kept."""
    places = list(taken)
    largest, tries = 220.0, 0
    while len(places) < count:
        tries += 1
        if tries % 300 == 0:  # those placed so far leave no room for another
            places = list(taken)
        width = np.exp(rng.uniform(np.log(60), np.log(max(61, largest))))
        y = rng.uniform(0.75 * width + 15, min(HEIGHT - 0.9 * width, 0.75 * width + 330))
        place = _Place(rng.uniform(0.85 * width, WIDTH - 0.85 * width), y, width)
        if all(_apart(place, other) for other in places):
            places.append(place)
        largest *= 0.99
    return places[:count]


def _apart(one: _Place, other: _Place) -> bool:
    """Whether neither's shoulders can hide the other's face, with a margin for swaying."""
    near, far = sorted((one.width, other.width))[::-1]
    return abs(one.x - other.x) > 1.3 * near + 0.75 * far


def _sit(rng: np.random.Generator, frames: int, place: _Place) -> tuple[Floats, Floats]:
    """Sway and nod gently in place; path and body as in `Actor`."""
    times = np.arange(frames) / FPS

    def wave(low: float, high: float) -> Floats:
        return np.asarray(np.sin(2 * np.pi * rng.uniform(low, high) * times + rng.uniform(0, 6.3)))

    size = place.width / FACE_WIDTH
    body = np.column_stack([place.x + 0.07 * place.width * wave(0.1, 0.3), place.y + 0 * times])
    nod = 0.02 * wave(0.4, 0.8) + 0.012 * wave(0.9, 1.6)
    head = body + np.column_stack([0.05 * wave(0.15, 0.5), nod]) * place.width
    sizes = size * (1 + 0.02 * wave(0.1, 0.25))
    roll = rng.uniform(-9, 9) + 3 * wave(0.15, 0.5)
    return np.column_stack([head, sizes, roll]), body


def _moving(rng: np.random.Generator, frames: int) -> Floats:
    """A camera (frames, 3) that is fixed, or pans or zooms slowly, each with some shake."""
    camera = _still(rng, frames, rng.uniform(0.2, 1.5))
    share = np.linspace(-0.5, 0.5, frames)
    kind = rng.random()
    if kind < 0.2:
        camera[:, 1:] += share[:, None] * rng.uniform(-1, 1, 2) * [90, 30]
    elif kind < 0.4:
        zoom = 1.06 + share * rng.choice([-1, 1]) * rng.uniform(0.05, 0.12)
        camera[:, 0] = zoom
    return camera


KINDS: dict[str, Callable[[np.random.Generator, range], Film]] = {
    "walking": walking,
    "edited": edited,
    "crossing": crossing,
    "hard": hard,
    "headless": headless,
}


def _similar(center: Floats, size: float, roll_deg: float) -> Floats:
    """(3, 3) from pixels of the crop to pixels of the frame, with the crop's center at `center` x y."""
    x, y = center
    angle = np.deg2rad(roll_deg)
    cos, sin = size * np.cos(angle), size * np.sin(angle)
    half = CROP / 2
    return np.array(
        [[cos, -sin, x - half * (cos - sin)], [sin, cos, y - half * (sin + cos)], [0, 0, 1]], np.float64
    )


def _paste(
    picture: Image, owners: Image | None, sprite: Sprite, matrix: Floats, *, label: int, blur: Floats
) -> None:
    """Draw a cut-out into `picture` (H, W, 3) uint8, and its solid part as `label` into `owners` (H, W).

    Args:
        matrix: (3, 3) from the crop's pixels to the picture's.
        blur: x y in pixels that the cut-out moves while the shutter is open.
    """
    factor = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    level = sprite.level(factor)
    color, cover = sprite.colors[level], sprite.covers[level]
    scale = sprite.factors[level]
    # From this size's pixels to the crop's.
    offset = -np.array(sprite.origin) / sprite.factors[0]
    to_crop = np.array([[1 / scale, 0, offset[0]], [0, 1 / scale, offset[1]], [0, 0, 1]])
    whole = matrix @ to_crop
    rows, columns = cover.shape
    corners = whole[:2, :2] @ np.array([[0, columns, columns, 0], [0, 0, rows, rows]]) + whole[:2, 2:]
    reach = np.abs(blur) / 2 + 2
    low = np.maximum(np.floor(corners.min(axis=1) - reach), 0).astype(int)
    high = np.minimum(np.ceil(corners.max(axis=1) + reach), [WIDTH, HEIGHT]).astype(int)
    if (low >= high).any():
        return
    size = (int(high[0] - low[0]), int(high[1] - low[1]))
    shifted = whole[:2].copy()
    shifted[:, 2] -= low
    color = cv2.warpAffine(color, shifted, size, borderMode=cv2.BORDER_REPLICATE)
    cover = cv2.warpAffine(cover, shifted, size)
    if np.hypot(*blur) > 1:
        kernel = _streak(blur)
        color, cover = cv2.filter2D(color, -1, kernel), cv2.filter2D(cover, -1, kernel)
    part = (slice(low[1], high[1]), slice(low[0], high[0]))
    share = cv2.multiply(cover, 1 / 255, dtype=cv2.CV_32F)
    picture[part] = cv2.blendLinear(np.ascontiguousarray(picture[part]), color, 1 - share, share)
    if owners is not None:
        owners[part][cover > 127] = label


def _streak(blur: Floats) -> NDArray[np.float32]:
    """A kernel that smears along `blur` x y, in pixels."""
    half = int(np.ceil(np.abs(blur).max() / 2)) + 1
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.uint8)
    ends = np.round((half + np.array([-blur / 2, blur / 2])) * 16).astype(int)
    cv2.line(kernel, ends[0].tolist(), ends[1].tolist(), 255, 1, cv2.LINE_AA, 4)
    return (kernel / kernel.sum()).astype(np.float32)


def _face_outline(look: Look, matrix: Floats) -> Floats:
    """(32, 2) x y in the frame of the ellipse in a face's box; corners of rolled boxes are too far out."""
    x1, y1, x2, y2 = (side * CROP for side in look.face_box)
    points = np.stack(
        [
            (x1 + x2) / 2 + (x2 - x1) / 2 * np.cos(_TURN),
            (y1 + y2) / 2 + (y2 - y1) / 2 * np.sin(_TURN),
            np.ones(len(_TURN)),
        ]
    )
    placed = matrix @ look.head_warp @ points
    return np.asarray((placed[:2] / placed[2]).T)


def _seen_box(outline: Floats, owners: Image, label: int) -> list[float] | None:
    """The part of a face's box that is in the frame, x1 y1 x2 y2; None if too much of it is hidden."""
    low, high = outline.min(axis=0), outline.max(axis=0)
    inside_low, inside_high = np.maximum(low, 0), np.minimum(high, [WIDTH, HEIGHT])
    if (inside_low >= inside_high).any() or np.prod(inside_high - inside_low) < MIN_INSIDE * np.prod(
        high - low
    ):
        return None
    corner = np.floor(inside_low).astype(int)
    size = np.ceil(inside_high).astype(int) - corner
    mask = np.zeros((size[1], size[0]), np.uint8)
    cv2.fillPoly(mask, [np.round(outline - corner).astype(np.int32)], 1)
    own = owners[corner[1] : corner[1] + size[1], corner[0] : corner[0] + size[0]] == label
    if own[mask > 0].mean() < MIN_UNCOVERED:
        return None
    return [round(float(side), 1) for side in (*inside_low, *inside_high)]


class _Noise:
    """Sensor noise: a large field is made once, and each frame gets another part of it."""

    def __init__(self, rng: np.random.Generator, deviation: float) -> None:
        self._rng = rng
        shape = (HEIGHT + 96, WIDTH + 96)
        # Neighbors are alike, as after a camera's own sharpening and compression.
        field = cv2.GaussianBlur(rng.standard_normal(shape, np.float32), (0, 0), 0.6)
        field *= deviation / field.std()
        self._more = field.clip(0, 255).round().astype(np.uint8)
        self._less = (-field).clip(0, 255).round().astype(np.uint8)

    def add(self, planes: Image) -> None:
        """Add noise to the luma of `planes` (3/2 H, W) uint8 I420; cameras smooth chroma noise."""
        (y, x), (v, u) = self._rng.integers(96, size=(2, 2))
        luma = planes[:HEIGHT]
        cv2.add(luma, self._more[y : y + HEIGHT, x : x + WIDTH], dst=luma)
        cv2.subtract(luma, self._less[v : v + HEIGHT, u : u + WIDTH], dst=luma)


def _draw(shot: Shot, frame: int, exposure: float, owners: Image | None) -> tuple[Image, dict[int, Floats]]:
    """Draw one frame of a shot, closer (larger) people over more distant ones.

    Args:
        owners: (H, W) uint8 zeros; gets the number, from 1, of the person that each pixel shows.

    Returns:
        Picture (H, W, 3) uint8 BGR without noise, and each drawn person's face outline (32, 2).
    """
    zoom, *middle = shot.camera[frame]
    if zoom == 1:
        # Whole pixels are copied, which is much faster, and cheaper to encode.
        middle = np.round(middle)
        left, top = (middle - _CENTER).astype(int) + MARGIN
        picture = shot.background[top : top + HEIGHT, left : left + WIDTH].copy()
    else:
        shift = _CENTER - (np.array(middle) + MARGIN) * zoom
        view = np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]])
        picture = np.asarray(cv2.warpAffine(shot.background, view, (WIDTH, HEIGHT)), np.uint8)
    outlines = {}
    present = [actor for actor in shot.actors if np.isfinite(actor.path[frame, 0])]
    for actor in sorted(present, key=lambda actor: float(actor.path[frame, 2])):
        x, y, size, roll = actor.path[frame]
        head = _similar((np.array([x, y]) - middle) * zoom + _CENTER, size * zoom, roll)
        body = _similar((actor.body[frame] - middle) * zoom + _CENTER, size * zoom, 0.0)
        last = actor.path[max(frame - 1, 0)]
        speed = actor.path[frame, :2] - last[:2] if np.isfinite(last[0]) else np.zeros(2)
        label = actor.person + 1
        blur = speed * zoom * exposure
        if actor.look.body is not None:
            _paste(picture, owners, actor.look.body, body, label=label, blur=blur)
        _paste(picture, owners, actor.look.head, head, label=label, blur=blur)
        outlines[actor.person] = _face_outline(actor.look, head)
    return picture, outlines


def _film(film: Film, rng: np.random.Generator, path: Path) -> list[list[list[float]]]:
    """Draw and encode all frames.

    Returns:
        For each person, boxes [time_s, x1, y1, x2, y2] in pixels, every 0.2 s while seen.
    """
    noise = _Noise(rng, film.noise)
    boxes: list[list[list[float]]] = [[] for _ in film.faces]
    number = 0
    # A fixed number of threads: the encoder's output depends on it.
    options = {"preset": "veryfast", "crf": str(film.crf), "threads": "2", "x264-params": "subme=1"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(FPS), options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for shot in film.shots:
            for index in range(shot.frames):
                measured = number % TRUTH_EVERY == 0
                owners = np.zeros((HEIGHT, WIDTH), np.uint8) if measured else None
                picture, outlines = _draw(shot, index, film.exposure, owners)
                if owners is not None:
                    for person, outline in outlines.items():
                        box = _seen_box(outline, owners, person + 1)
                        if box is not None:
                            boxes[person].append([round(number / FPS, 3), *box])
                planes = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420), np.uint8)
                noise.add(planes)
                frame = av.VideoFrame.from_ndarray(planes, "yuv420p")
                frame.pts = number
                container.mux(stream.encode(frame))
                number += 1
        container.mux(stream.encode())
    return boxes


def _person(number: int, face: LabeledFace, boxes: list[list[float]]) -> dict[str, Any]:
    """One entry of ``people`` in ``truth.json``; each box is valid for 0.2 s."""
    step = TRUTH_EVERY / FPS
    times = np.array([box[0] for box in boxes])
    return {
        "id": number,
        "name": face.name,
        "age_years": face.age_years,
        "gender": "female" if face.female else "male",
        "first_s": round(float(times[0]), 3) if boxes else None,
        "last_s": round(float(times[-1]) + step, 3) if boxes else None,
        "on_screen_s": round(len(boxes) * step, 3),
        "visits": int((np.diff(times) > VISIT_GAP_S).sum()) + 1 if boxes else 0,
        "boxes": boxes,
    }


def _is_made(target: Path, archives: range) -> bool:
    try:
        truth = json.loads((target / "truth.json").read_text())
    except (OSError, ValueError):
        return False
    same = truth.get("maker_version") == VERSION and truth.get("archives") == list(archives)
    return same and (target / "video.mp4").exists()


def make(kind: str, seed: int, folder: Path, archives: range) -> Path:
    """Make one video and its ground truth, unless they exist.

    Args:
        kind: One of `KINDS`.
        seed: Another one gives other people, ways and backgrounds.
        folder: Gets the folder ``{kind}-{seed}``.
        archives: Of the labeled faces: `testkit.faces.FIT`, `CHOOSE` or `REPORT`.

    Returns:
        The folder with ``video.mp4`` and ``truth.json``.

    Raises:
        FileNotFoundError: The labeled faces are not there.
        ValueError: One of them is damaged.
    """
    target = folder / f"{kind}-{seed}"
    if _is_made(target, archives):
        return target
    rng = np.random.default_rng([VERSION, list(KINDS).index(kind), seed])
    film = KINDS[kind](rng, archives)
    target.mkdir(parents=True, exist_ok=True)
    (target / "truth.json").unlink(missing_ok=True)
    boxes = _film(film, rng, target / "video.mp4")
    frames = np.cumsum([shot.frames for shot in film.shots])
    truth = {
        "version": 1,
        "maker_version": VERSION,
        "kind": kind,
        "seed": seed,
        "archives": list(archives),
        "video": "video.mp4",
        "fps": FPS,
        "width": WIDTH,
        "height": HEIGHT,
        "duration_s": round(int(frames[-1]) / FPS, 3),
        "cuts_s": [round(int(frame) / FPS, 3) for frame in frames[:-1]],
        "people": [
            _person(number + 1, face, boxes[number])
            for number, face in enumerate(film.faces)
            if boxes[number]
        ],
    }
    # Last and whole: a folder with this file is finished.
    (target / "truth.new").write_text(json.dumps(truth))
    (target / "truth.new").replace(target / "truth.json")
    return target


def main() -> None:
    """Make the videos given on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("out_dir", type=Path, metavar="OUT_DIR")
    parser.add_argument("--kind", choices=[*KINDS, "all"], default="all")
    parser.add_argument("--seeds", default="1000-1004", help="one number, or first-last")
    parser.add_argument("--archives", choices=["report", "choose", "fit"], default="report")
    chosen = parser.parse_args()
    first, _, last = chosen.seeds.partition("-")
    archives = {"report": REPORT, "choose": CHOOSE, "fit": FIT}[chosen.archives]
    for kind in KINDS if chosen.kind == "all" else [chosen.kind]:
        for seed in range(int(first), int(last or first) + 1):
            began = time.perf_counter()
            target = make(kind, seed, chosen.out_dir, archives)
            print(f"{target}  {time.perf_counter() - began:.1f} s")


if __name__ == "__main__":
    main()
