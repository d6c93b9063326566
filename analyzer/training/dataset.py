"""The faces to train on: cropped by the product's own code, kept in a cache, and divided into parts.

Crops are made in blocks. A block is two files, written under their names when they are whole: an array of
crops, and the table of its faces, which comes last. So preparing continues where it was interrupted, and
training maps the arrays into memory. Crops are wider than the model's input, so that they can be turned and
moved without black corners.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyzer.errors import SourceError, SourceErrorKind
from analyzer.evaluation.labels import BOX
from analyzer.evaluation.views import PHOTOGRAPH, Located, Viewer
from analyzer.faces import CropSource, Faces
from analyzer.settings import Settings
from analyzer.training.recipes.base import Target
from analyzer.training.sets import PARTS
from analyzer.util.atomic import output_errors, writing
from analyzer.vision.crops import BoxCrop, LandmarkCrop
from analyzer.vision.registry import ALIGNER, find_detector, sha256

__all__ = ["PLAIN", "SHOWN", "Crops", "crop_size", "divided", "prepare"]

Float = NDArray[np.float32]
Image = NDArray[np.uint8]
Prepared = Callable[[int, int, int], None]
"""Called with the numbers of faces that are done, that there are, and that were left out."""

MARGIN = 0.15
"""How much wider crops are kept than the model's input, on each side, as a share of it."""

_BLOCK = 120
"""Faces in a block. They are filmed together."""

_VERSION = 1
"""Of the cache: another one makes all crops anew."""

PLAIN, SHOWN = 0, 3
"""The view that is a crop of the labeled image itself; and how many others there are: a photograph of it, and
a frame of each of two videos of it."""

_LEAST_QUALITY = 0.2
"""Of a face in its labeled image, below which it is left out: what was found is hardly a face."""

_HASH_SIDE = 16
_SAME_BITS = 26
"""Pictures are near duplicates where at most so many of the 256 bits of their hashes differ: of pairs of
different people on 2,000 labeled faces none do."""


def crop_size(crop: LandmarkCrop | BoxCrop) -> tuple[int, int]:
    """Width and height of a crop in pixels."""
    return (crop.size, crop.size) if isinstance(crop, LandmarkCrop) else (crop.width, crop.height)


@dataclass(frozen=True, eq=False)
class Crops:
    """Cropped faces.

    Attributes:
        faces: N rows with the columns of `sets.COLUMNS`, and `block`, `place` (of the crop in its
            block), `face_px`, `quality`, `hash`, and after `divided` `part`.
        skipped: `name` and `reason` of each face that was left out.
        size: Width and height of the model's input in pixels.
        pad: By how many pixels crops are wider and higher on each side.
    """

    faces: pd.DataFrame
    skipped: pd.DataFrame
    size: tuple[int, int]
    pad: tuple[int, int]
    blocks: tuple[NDArray[np.uint8], ...]
    """(M, V, H, W, 3) uint8 BGR each, mapped from the files: V views; those that are missing are black."""

    @functools.cached_property
    def _where(self) -> NDArray[np.int64]:
        """(N, 3): block, place in it, and the views there are, as bits."""
        return self.faces[["block", "place", "views"]].to_numpy(np.int64)

    def wide(self, row: int, view: int) -> Image:
        """A crop with its margin, (H, W, 3) uint8 BGR; the plain one where that view is missing."""
        block, place, has = self._where[row].tolist()
        return np.asarray(self.blocks[block][place, view if has >> view & 1 else PLAIN])

    def exact(self, row: int, view: int = PLAIN) -> Image:
        """A crop as an analysis makes it, (height, width, 3) uint8 BGR."""
        (width, height), (x, y) = self.size, self.pad
        return self.wide(row, view)[y : y + height, x : x + width]

    def has(self, rows: NDArray[np.int64], view: int) -> NDArray[np.bool_]:
        """Whether each of some faces has a view."""
        return (self._where[rows, 2] >> view & 1).astype(bool)

    @property
    def views(self) -> int:
        """How many views there are."""
        return self.blocks[0].shape[1] if self.blocks else 1

    def part(self, name: str) -> NDArray[np.int64]:
        """The rows of a part."""
        return np.flatnonzero(self.faces["part"] == name)


def prepare(
    faces: pd.DataFrame,
    crop: LandmarkCrop | BoxCrop,
    folder: Path,
    settings: Settings,
    *,
    shown: bool = True,
    on_progress: Prepared = lambda done, total, skipped: None,
) -> Crops:
    """Crop labeled faces, or find their crops in the cache.

    Args:
        faces: Of `sets.read_sets`.
        crop: Of the recipe.
        folder: Of the cache.
        settings: Name the detector, and how many threads it uses.
        shown: Whether to make views of each face as in photographs and videos, too.
        on_progress: Called after each block.

    Raises:
        SourceError: No face was found at all.
        ModelError: A model is missing or failed.
        OutputError: The cache cannot be written.
    """
    # A crop does not depend on how its face is labeled; who is filmed together depends on the order.
    order = faces.sort_values(["set", "name", *BOX], kind="stable").reset_index(drop=True)
    key = _key(order, crop, settings, shown)
    home = folder / key
    with output_errors(home):
        home.mkdir(parents=True, exist_ok=True)
    width, height = crop_size(crop)
    pad = (round(MARGIN * width), round(MARGIN * height))
    shape = (1 + (SHOWN if shown else 0), height + 2 * pad[1], width + 2 * pad[0], 3)
    maker: _Maker | None = None
    tables, skipped = [], 0
    for number, start in enumerate(range(0, len(order), _BLOCK)):
        rows = order.iloc[start : start + _BLOCK]
        table = home / f"{number:05d}.json"
        if not table.is_file():
            maker = maker or _Maker(crop, pad, shape, settings)
            maker.make(rows, number, home)
        known = pd.DataFrame(json.loads(table.read_text("utf-8")))
        tables.append(known.set_index(rows.index))
        skipped += int(known["reason"].ne("").sum())
        on_progress(min(start + _BLOCK, len(order)), len(order), skipped)
    found = pd.concat(tables)
    whole = order.join(found)
    left_out = whole.loc[whole["reason"].ne(""), ["name", "reason"]].reset_index(drop=True)
    kept = whole[whole["reason"].eq("")].drop(columns="reason").reset_index(drop=True)
    if kept.empty:
        raise SourceError(
            "no face was found in any of the pictures: are they images of people?",
            kind=SourceErrorKind.EMPTY,
            source="",
        )
    blocks = tuple(np.load(home / f"{number:05d}.npy", mmap_mode="r") for number in range(len(tables)))
    return Crops(kept, left_out, (width, height), pad, blocks)


def _key(faces: pd.DataFrame, crop: LandmarkCrop | BoxCrop, settings: Settings, shown: bool) -> str:
    """Identifies everything that the crops depend on."""
    detector = find_detector(settings.detector)
    digest = hashlib.sha256(
        f"{_VERSION} {crop.text} {MARGIN} {shown} {detector.sha256} {ALIGNER.sha256}".encode()
    )
    columns = faces[["set", "name", "path", *BOX]].itertuples(index=False)
    for number, name, path, *box in columns:
        size = path.stat().st_size if path.is_file() else -1
        digest.update(f"\n{number} {name!r} {size} {box}".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]


class _Maker:
    """Makes blocks of crops."""

    def __init__(
        self,
        crop: LandmarkCrop | BoxCrop,
        pad: tuple[int, int],
        shape: tuple[int, ...],
        settings: Settings,
    ) -> None:
        self._viewer = Viewer(settings)
        self._crop, self._pad, self._shape = crop, pad, shape

    def make(self, rows: pd.DataFrame, number: int, home: Path) -> None:
        """Write the two files of a block."""
        crops = np.zeros((len(rows), *self._shape), np.uint8)
        known: list[dict[str, Any]] = [
            {"block": number, "place": place, "views": 0, "face_px": None, "quality": None, "hash": ""}
            for place in range(len(rows))
        ]
        places = {key: place for place, key in enumerate(map(_identity, rows.to_dict("records")))}
        chips: dict[int, Any] = {}
        for one in self._viewer.located(rows):
            place = places[_identity(one.labels)]
            known[place]["reason"] = reason = one.reason or _unclear(one)
            if reason or one.frame is None:
                continue
            wide = wide_crops(self._crop, self._pad, one.frame, one.face)[0]
            crops[place, PLAIN] = wide
            chips[place] = one.cut()
            known[place] |= {
                "views": 1,
                "face_px": round(float(one.face.boxes[0, 2] - one.face.boxes[0, 0]), 1),
                "quality": round(float(one.face.quality[0]), 3),
                "hash": picture_hash(chips[place].image),
            }
        if self._shape[0] > 1:
            self._show(chips, number, crops, known)
        with writing(home / f"{number:05d}.npy") as temporary, temporary.open("wb") as file:
            np.save(file, crops)
        with writing(home / f"{number:05d}.json") as temporary:
            temporary.write_text(json.dumps(known), "utf-8")

    def _show(
        self, chips: dict[int, Any], number: int, crops: NDArray[np.uint8], known: list[dict[str, Any]]
    ) -> None:
        """Make the views of a block as in photographs and videos."""
        place_of = {id(face): place for place, face in chips.items()}
        for seen in self._viewer.views(iter(chips.values()), first=number):
            # Of a video with several frames the last one that shows the face is kept.
            view = 1 + seen.kind - PHOTOGRAPH
            wide = wide_crops(self._crop, self._pad, seen.frame, seen.faces)
            for face, crop in zip(seen.people, wide, strict=True):
                place = place_of[id(face)]
                crops[place, view] = crop
                known[place]["views"] |= 1 << view


def _identity(row: dict[Any, Any]) -> tuple[Any, ...]:
    return (row["path"], *(str(row[edge]) for edge in BOX))


def _unclear(one: Located) -> str:
    quality = float(one.face.quality[0])
    return "its face is not clear enough" if quality < _LEAST_QUALITY else ""


def wide_crops(
    crop: LandmarkCrop | BoxCrop, pad: tuple[int, int], frame: CropSource, faces: Faces
) -> list[Image]:
    """Crops with more around them: their middle is what `crop` makes.

    Args:
        crop: As an analysis makes it.
        pad: Pixels on the left and right, and above and below.
        frame: The full frame.
        faces: In its pixels, with landmarks.

    Returns:
        (height + 2 pad, width + 2 pad, 3) uint8 BGR each; black outside the frame.
    """
    if isinstance(crop, LandmarkCrop):
        side = crop.size + 2 * pad[0]
        points = tuple(
            ((x * crop.size + pad[0]) / side, (y * crop.size + pad[0]) / side) for x, y in crop.landmarks
        )
        return LandmarkCrop(side, points).crop(frame, faces)
    kept = crop.boxes(faces.boxes, frame.width, frame.height)
    extents = kept[:, 2:] - kept[:, :2]
    more = extents * (np.array(pad, np.float32) / np.array([crop.width, crop.height], np.float32))
    wide = BoxCrop(crop.width + 2 * pad[0], crop.height + 2 * pad[1])
    return wide.crop_boxes(frame, np.concatenate([kept[:, :2] - more, kept[:, 2:] + more], axis=1))


# --- duplicates and parts ----------------------------------------------------------------------------


def picture_hash(image: Image) -> str:
    """A hash that hardly changes when a picture is scaled, coded or lit otherwise, as hex digits.

    Each bit says whether the picture gets lighter from one point to the next (dHash), 16 x 16 of them.
    """
    gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    small = cv2.resize(gray, (_HASH_SIDE + 1, _HASH_SIDE), interpolation=cv2.INTER_AREA).astype(np.int16)
    return np.packbits(small[:, 1:] > small[:, :-1]).tobytes().hex()


def near_duplicates(hashes: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of numbers of pictures that are nearly the same, the smaller first."""
    if not hashes:
        return []
    words = np.frombuffer(bytes.fromhex("".join(hashes)), np.uint64).reshape(len(hashes), -1)
    pairs: list[tuple[int, int]] = []
    step = max(1, 4_000_000 // len(words))
    for start in range(0, len(words), step):
        some = words[start : start + step]
        rest = words[start:]
        away = np.zeros((len(some), len(rest)), np.uint16)
        for column in range(words.shape[1]):
            away += np.bitwise_count(some[:, column, None] ^ rest[None, :, column])
        first, second = np.nonzero(away <= _SAME_BITS)
        pairs += [
            (start + a, start + b) for a, b in zip(first.tolist(), second.tolist(), strict=True) if a < b
        ]
    return pairs


def divided(crops: Crops, shares: tuple[float, float] = (0.1, 0.1)) -> Crops:
    """Divide faces into those that are fitted, those that choose, and those that are only measured.

    All faces of a person, and near duplicates, go to one part, which a hash of their first name decides, so
    that it stays the same when other faces come and go. Sets may name a part for all of their faces; what is
    a duplicate of a face in a held-out one is then left out of the others.

    Args:
        crops: All of them.
        shares: Of the faces that choose and that are measured.

    Returns:
        The crops with the column `part`, without the faces that were left out, which are among `skipped`.
    """
    faces = crops.faces
    group = _groups(faces)
    named = faces["use"].where(faces["use"] != "split")
    rank = {name: number for number, name in enumerate(PARTS)}
    # The most held-out part that any face of the group is named for.
    most = named.map(rank).groupby(group).transform("max")
    label = faces["person"].where(faces["person"].ne(""), faces["name"].astype(str))
    first = label.groupby(group).transform("min").map(_unit)
    validate, test = shares
    drawn = np.where(first < test, "test", np.where(first < test + validate, "validate", "train"))
    part = pd.Series(np.where(most.notna(), most.map(dict(enumerate(PARTS))), drawn), faces.index)
    part = named.fillna(part)
    clash = most.notna() & (part.map(rank) < most)
    left_out = pd.DataFrame(
        {"name": faces.loc[clash, "name"], "reason": "it shows the same as a face that is held out"}
    )
    return Crops(
        faces.assign(part=part)[~clash].reset_index(drop=True),
        pd.concat([crops.skipped, left_out], ignore_index=True),
        crops.size,
        crops.pad,
        crops.blocks,
    )


def _unit(text: str) -> float:
    """A number from 0 to 1 that depends on a text alone."""
    return int(sha256(text.encode("utf-8", "surrogatepass"))[:8], 16) / 16**8


def _groups(faces: pd.DataFrame) -> pd.Series:
    """The number of the group of each face: of the same person, or nearly the same picture."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    pairs = near_duplicates(faces["hash"].tolist())
    known = faces[faces["person"].ne("")]
    # A person is one within the sets of one name.
    for rows in known.groupby(["person"]).indices.values():
        places = known.index[rows].tolist()
        pairs += [(places[0], one) for one in places[1:]]
    a, b = np.array(pairs, np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(a), np.int8), (a, b)), shape=(len(faces), len(faces)))
    return pd.Series(connected_components(graph, directed=False)[1], faces.index)


# --- is it enough? -----------------------------------------------------------------------------------

LEAST_FACES = {"train": 40, "validate": 10}
_LEAST_OF_GENDER = 5


def targets_of(crops: Crops, targets: Sequence[Target], needs: Sequence[Target]) -> tuple[Target, ...]:
    """What can be learned from the labels there are.

    Args:
        crops: Divided.
        targets: What a recipe can learn.
        needs: What it must.

    Raises:
        SourceError: There is too little.
    """
    faces = crops.faces
    enough: list[Target] = []
    problems: dict[Target, str] = {}
    labeled = {"gender": faces["true_gender"].ne(""), "age": faces["true_age"].notna()}
    for target in targets:
        problem = _problem(faces[labeled[target]], target)
        if problem and labeled[target].any():
            problems[target] = problem
        elif problem and target in needs:
            problems[target] = f"no face has a label of {target}, which this recipe needs"
        else:
            enough += [] if problem else [target]
    if problems or not enough:
        # The others are mostly the same.
        words = next(iter(problems.values()), f"no face has a label of {' or '.join(targets)}")
        raise SourceError(words, kind=SourceErrorKind.EMPTY, source="")
    return tuple(enough)


def _problem(faces: pd.DataFrame, target: Target) -> str:
    for part, least in LEAST_FACES.items():
        rows = faces[faces["part"] == part]
        doing = {"train": "to train on", "validate": "to choose by"}[part]
        if len(rows) < least:
            return (
                f"there are {len(rows)} faces with {target} {doing}, and it takes {least} at the least (some "
                "hundreds for a first try, thousands for a good model): add pictures"
            )
        for gender in ("female", "male") if target == "gender" else ():
            count = int((rows["true_gender"] == gender).sum())
            if count < _LEAST_OF_GENDER:
                return (
                    f"{count} of the {len(rows)} faces {doing} are labeled {gender}: a model for gender "
                    "needs both, so add pictures of them"
                )
    if target == "age" and faces.loc[faces["part"] == "train", "true_age"].nunique() < 2:
        return "all faces have the same age: a model for age needs different ones"
    return ""
