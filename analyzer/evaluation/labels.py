"""Read and check labeled material before anything is analyzed.

- A folder or a ``.tar`` of images named ``[age]_[gender: 0 male, 1 female]_[race]_….jpg`` as in UTKFace
  (the race only divides the figures); folders are searched recursively;
- a ``.csv`` with the columns ``image`` (path relative to the CSV), ``age_years`` (may be empty), ``gender``
  (``female``, ``male`` or empty) and optionally ``x1, y1, x2, y2`` of the labeled face in pixels, ``race``
  (one of `RACES`, or empty: it only divides the figures) and ``person`` (who it is: several images may show
  the same); with commas, or with semicolons or tabs and decimal commas, as spreadsheets in other languages
  write it;
- a ``truth.json`` beside its video, or a folder that holds such folders (its images are then not used)::

    {"version": 1, "kind": "walking", "seed": 1000, "video": "video.mp4",
     "people": [{"id": 1, "age_years": 26, "gender": "female", "first_s": 0.0, "last_s": 9.8,
                 "on_screen_s": 9.6, "boxes": [[0.0, 100, 80, 160, 150]]}]}

  ``seed``, ``video`` (else the folder's only one), ``on_screen_s`` (else last - first) and ``boxes`` (rows of
  time in seconds, x1, y1, x2, y2 in pixels; of all people or of none) may be left out; ``age_years`` and
  ``gender`` may be null;
- the folder of a run that was corrected by hand, or a folder of runs;
- a ``truth.json`` that is a list: clips and photographs described by eye, see
  `analyzer.evaluation.described`.

``docs/evaluation.md`` has an example of each.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import math
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyzer.errors import SourceError, SourceErrorKind
from analyzer.evaluation.described import Described, read_described
from analyzer.evaluation.faults import MAX_AGE_YEARS, Faults, number
from analyzer.evaluation.metrics import GENDERS
from analyzer.runs.corrections import read_corrections
from analyzer.sources.local import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from analyzer.util.csv_text import csv_text
from analyzer.util.text import well_formed

__all__ = ["BOX", "RACES", "UTKFACE_RACES", "Material", "TrueVideo", "bad_labels", "naming", "read_labels"]

BOX = ["x1", "y1", "x2", "y2"]
"""Columns of a box, in pixels."""
_TRUTH, _TRUTH_VERSION = "truth.json", 1
_MAX_IMAGE_BYTES = 256 * 1024 * 1024
_UTKFACE = r"^([0-9]{1,3})_([01])_([0-9])_.+$"
UTKFACE_RACES = {"0": "white", "1": "black", "2": "asian", "3": "indian"}
"""Its numbers, but 4: others."""
RACES = (*UTKFACE_RACES.values(), "other")


@dataclass(frozen=True, eq=False)
class TrueVideo:
    """A labeled video.

    Attributes:
        path: Of the video.
        kind: The kind of video, in a word or two.
        people: One row a true person: `true_gender` (empty: unknown), `true_age` (NaN: unknown),
            `first_s`, `last_s`, `on_screen_s`.
        boxes: For each person (B, 5) rows of time in seconds, x1, y1, x2, y2 in pixels; None: not labeled.
    """

    path: Path
    kind: str
    people: pd.DataFrame
    boxes: list[NDArray[np.float64]] | None


@dataclass(frozen=True, eq=False)
class Material:
    """The content of one path: labeled faces, or labeled videos.

    Attributes:
        about: `name`, `kind`, `labeled`, `used` and `unparsed`, see `Evaluation.sources`.
        faces: One row a labeled face: `path`, `name`, `true_gender` (empty: unknown), `true_age` (NaN:
            unknown), `true_race` (empty: unknown), `person` (empty: unknown) and the columns `BOX` (NaN:
            unknown). None for videos.
        videos: The videos.
        described: The clips and photographs that are described by eye.
        corrected: Runs that were corrected by hand, see `analyzer.evaluation.corrected`.
    """

    about: dict[str, Any]
    faces: pd.DataFrame | None = None
    videos: tuple[TrueVideo, ...] = ()
    described: tuple[Described, ...] = ()
    corrected: tuple[Path, ...] = ()


def read_labels(path: Path, work: Path, limit: int | None) -> Material:
    """Read labeled material, each label checked.

    Args:
        path: From the user.
        work: A folder that does not exist yet, for unpacked files.
        limit: At most this many faces, in the order of the SHA-1 of their file names: a fair sample, always
            the same.

    Raises:
        SourceError: It is not labeled material, or its labels are wrong.
        OSError: A file cannot be read or unpacked.
    """
    with naming(path):
        if not path.exists():
            raise bad_labels(path, "there is no such file or folder", SourceErrorKind.NOT_FOUND)
        if path.is_dir():
            files = [each for each in sorted(path.rglob("[!.]*")) if each.is_file()]
            truths = [each for each in files if each.name == _TRUTH]
            if truths:
                return _videos(path, truths)
            if runs := [each.parent for each in files if each.name == "run.json"]:
                return _corrected(path, runs)
            return _material(path, "images", *_named_faces(files), limit)
        match path.suffix.lower():
            case ".json":
                return _videos(path, [path])
            case ".csv":
                return _material(path, "list", _read_csv(path), [], limit)
            case ".tar":
                with tarfile.open(path, "r:") as archive:
                    return _unpacked(path, archive, work, limit)
        what = f"labels are read from a folder, a .tar, a .csv or a {_TRUTH}"
        raise bad_labels(path, what, SourceErrorKind.UNSUPPORTED)


def bad_labels(path: Path, what: str, kind: SourceErrorKind = SourceErrorKind.OTHER) -> SourceError:
    """The error that labels are wrong; names their file."""
    return SourceError(f"{well_formed(str(path))}: {what}", kind=kind, source=well_formed(str(path)))


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn an error within a file into a sentence that names the file."""
    try:
        yield
    except (ValueError, RecursionError, csv.Error, tarfile.TarError, EOFError) as error:
        raise bad_labels(path, str(error)) from error


# --- faces -------------------------------------------------------------------------------------------


def _material(path: Path, kind: str, faces: pd.DataFrame, unparsed: list[str], limit: int | None) -> Material:
    if faces.empty:
        what = f"no image here is named age_gender_race_….jpg, and there is no {_TRUTH}"
        raise bad_labels(path, what, SourceErrorKind.EMPTY)
    hashes = faces["name"].map(lambda name: hashlib.sha1(Path(name).name.encode()).hexdigest())
    chosen = faces.loc[hashes.sort_values(kind="stable").index].head(limit or len(faces))
    about = {"name": well_formed(path.resolve().name), "kind": kind, "labeled": len(faces)}
    return Material(about | {"used": len(chosen), "unparsed": unparsed}, chosen)


def _named_faces(paths: Sequence[Path]) -> tuple[pd.DataFrame, list[str]]:
    """The faces whose labels are in the names of images, and the names of images without labels."""
    images = [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES]
    faces = pd.DataFrame({"path": images, "name": [well_formed(path.name) for path in images]}, dtype=object)
    parts = faces["name"].astype(str).str.extract(_UTKFACE)
    faces["true_age"] = parts[0].astype(float)
    faces["true_gender"] = parts[1].map({"0": "male", "1": "female"})
    faces["true_race"] = parts[2].map(UTKFACE_RACES).fillna("other")
    faces["person"] = ""
    faces[BOX] = math.nan
    labeled = faces["true_age"] <= MAX_AGE_YEARS
    return faces[labeled], faces.loc[~labeled, "name"].tolist()


def _unpacked(path: Path, archive: tarfile.TarFile, work: Path, limit: int | None) -> Material:
    # Links, devices and sparse files are not unpacked, and no path of the archive is ever used.
    members = {
        Path(str(number), Path(member.name).name): member
        for number, member in enumerate(archive)
        if member.isreg() and not member.issparse() and member.size <= _MAX_IMAGE_BYTES
    }
    named = _named_faces([key for key in members if not key.name.startswith(".")])
    material = _material(path, "archive", *named, limit)
    assert material.faces is not None
    targets = {key: work / f"{key.parent}{key.suffix.lower()}" for key in material.faces["path"]}
    work.mkdir()
    for key, target in targets.items():
        content = archive.extractfile(members[key])
        assert content is not None
        target.write_bytes(content.read())
    return Material(material.about, material.faces.assign(path=material.faces["path"].map(targets)))


_CSV_NEEDS = ("image", "age_years", "gender")


def _read_csv(path: Path) -> pd.DataFrame:
    """
    Raises:
        ValueError: Columns or images are missing, or values are wrong; names them and their lines.
    """
    text = csv_text(path)
    # Spreadsheets write semicolons where a comma is the decimal sign.
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    rows.fieldnames = [name.strip().lower() for name in rows.fieldnames or ()]
    faults, named = Faults(), set(rows.fieldnames)
    missing = [column for column in _CSV_NEEDS if column not in named]
    box = named.intersection(BOX)
    if missing:
        words = "column" if len(missing) == 1 else "columns"
        faults.add(f"the {words} {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing")
    if len(box) not in (0, 4):
        without = ", ".join(sorted(set(BOX) - box))
        faults.add(f"a box takes the columns x1, y1, x2 and y2, all four or none: {without} missing")
    faults.check()
    faces = []
    for row in rows:
        with faults.noted(f"line {rows.line_num}"):
            faces.append(_csv_face(path.parent, row, decimal="," if delimiter != "," else "."))
    faults.check()
    if not faces:
        raise ValueError("this CSV has no rows")
    table = pd.DataFrame(faces)
    unclear = table[table["path"].duplicated(keep=False) & table["x1"].isna()]
    if len(unclear):
        names = ", ".join(dict.fromkeys(unclear["name"]))
        raise ValueError(f"{names}: several rows each: give each row the box of its face")
    return table


def _csv_face(folder: Path, row: dict[str, Any], decimal: str) -> dict[str, Any]:
    """
    Raises:
        ValueError: The row is wrong; says how.
    """
    if None in row or None in row.values():
        raise ValueError("it has more or fewer cells than the first line")
    cells = {key: value.strip() for key, value in row.items()}
    name, age, gender = cells["image"], cells["age_years"], cells["gender"].lower()
    race = cells.get("race", "").lower()
    faults = Faults()
    if "\0" in name or not (folder / name).is_file():
        faults.add(f"there is no image {name!r} beside the CSV")
    elif Path(name).suffix.lower() not in IMAGE_SUFFIXES:
        faults.add(f"{name!r} has no extension of an image, such as .jpg")
    if gender not in (*GENDERS, ""):
        faults.add(f"gender must be female, male or empty, not {cells['gender']!r}")
    if race not in (*RACES, ""):
        faults.add(f"race must be one of {', '.join(RACES)}, or empty, not {race!r}")

    def read(cell: str, what: str, *bounds: float) -> float:
        try:
            one_comma = cell.count(decimal) == 1 and "." not in cell
            return number(cell.replace(decimal, ".") if one_comma else cell, what, *bounds)
        except ValueError as error:
            faults.add(str(error))
            return math.nan

    box = dict.fromkeys(BOX, math.nan)
    if any(cells.get(edge) for edge in BOX):
        box = {edge: read(cells[edge], edge) for edge in BOX}
        if box["x2"] <= box["x1"] or box["y2"] <= box["y1"]:
            faults.add("its box is empty: x2 and y2 must be larger than x1 and y1")
    years = read(age, "age_years", 0, MAX_AGE_YEARS) if age else math.nan
    faults.check()
    return {
        "path": folder / name,
        "name": name,
        "true_gender": gender,
        "true_age": years,
        "true_race": race,
        "person": cells.get("person", ""),
        **box,
    }


# --- videos ------------------------------------------------------------------------------------------


def _corrected(path: Path, runs: list[Path]) -> Material:
    corrected = tuple(folder for folder in runs if read_corrections(folder).active)
    if not corrected:
        run = "the run has" if len(runs) == 1 else f"the {len(runs)} runs have"
        raise bad_labels(path, f"{run} no corrections to compare with: review and correct it first")
    about = {"name": well_formed(path.resolve().name), "kind": "corrected", "unparsed": []}
    return Material(about | {"labeled": len(runs), "used": len(corrected)}, corrected=corrected)


def _videos(path: Path, truths: list[Path]) -> Material:
    read = [_read_truth(truth) for truth in truths]
    videos = tuple(one for one in read if isinstance(one, TrueVideo))
    described = tuple(entry for entries in read if isinstance(entries, tuple) for entry in entries)
    number = len(videos) + len(described)
    kind = "videos" if videos or not described else "described"
    about = {"name": well_formed(path.resolve().name), "kind": kind, "labeled": number, "used": number}
    return Material(about | {"unparsed": []}, videos=videos, described=described)


def _read_truth(path: Path) -> TrueVideo | tuple[Described, ...]:
    with naming(path):
        value = json.loads(path.read_text("utf-8-sig"))
        if isinstance(value, list):
            return read_described(value, path.parent)
        if not isinstance(value, dict):
            raise ValueError(f'it must be an object with "version": {_TRUTH_VERSION}, or a list')
        faults = Faults()
        missing = [name for name in ("version", "kind", "people") if value.get(name) is None]
        if missing:
            faults.add(f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing")
        version, kind, people = (value.get(name) for name in ("version", "kind", "people"))
        if version not in (None, _TRUTH_VERSION):
            faults.add(f'it must be an object with "version": {_TRUTH_VERSION}')
        if kind is not None and not (isinstance(kind, str) and re.fullmatch(r"[\w .+-]{1,40}", kind)):
            faults.add("kind must be a short text of letters, digits and spaces")
        with faults.noted("video"):
            video = _video_of(path.parent, value.get("video"))
        if people is not None and not (
            isinstance(people, list) and all(isinstance(person, dict) for person in people)
        ):
            faults.add("people must be a list of objects")
            people = None
        numbers = [person.get("id") for person in people or ()]
        if not all(type(number) is int for number in numbers) or len(set(numbers)) < len(numbers):
            faults.add("each of people needs an id, a whole number of its own")
        rows, boxes = [], []
        for number, person in zip(numbers, people or (), strict=True):
            with faults.noted(f"person {number}"):
                rows.append(_true_person(person))
            with faults.noted(f"person {number}"):
                boxes += [] if person.get("boxes") is None else [_true_boxes(person["boxes"])]
        if sum(person.get("boxes") is not None for person in people or ()) not in (0, len(numbers)):
            faults.add("either all people have boxes or none")
        faults.check()
        columns = ["true_gender", "true_age", "first_s", "last_s", "on_screen_s"]
        table = pd.DataFrame(rows, columns=columns)
        return TrueVideo(video, str(kind), table, boxes or None)


def _true_person(person: dict[str, Any]) -> dict[str, Any]:
    """
    Raises:
        ValueError: The person is wrong; lists all faults.
    """
    faults = Faults()
    age, gender = person.get("age_years"), person.get("gender")
    if gender not in (*GENDERS, None):
        faults.add('gender must be "female", "male" or null')
    missing = [name for name in ("first_s", "last_s") if person.get(name) is None]
    if missing:
        faults.add(f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing")

    first, last = (
        math.nan if name in missing else faults.number(person[name], name) for name in ("first_s", "last_s")
    )
    if last < first:
        faults.add("last_s is before first_s")
    years = math.nan if age is None else faults.number(age, "age_years", 0, MAX_AGE_YEARS)
    on_screen = person.get("on_screen_s")
    shown_s = last - first if on_screen is None else faults.number(on_screen, "on_screen_s", 0)
    faults.check()
    return {
        "true_gender": gender or "",
        "true_age": years,
        "first_s": first,
        "last_s": last,
        "on_screen_s": shown_s,
    }


def _true_boxes(value: object) -> NDArray[np.float64]:
    """
    Raises:
        ValueError: They are not boxes; says what they must be.
    """
    wrong = "boxes must be a list of [time_s, x1, y1, x2, y2] with x2 > x1 and y2 > y1"
    try:
        rows = np.array(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(wrong) from None
    rows = rows if rows.size else np.empty((0, 5))
    fits = rows.ndim == 2 and rows.shape[1] == 5 and np.isfinite(rows).all()
    if not fits or not (rows[:, 3:] > rows[:, 1:3]).all():
        raise ValueError(wrong)
    return rows


def _video_of(folder: Path, name: object) -> Path:
    """
    Raises:
        ValueError: The named video does not exist, or none is named and there is not exactly one.
    """
    if name is not None:
        # Only a file of the same folder: an untrusted truth.json must not reach others.
        if not isinstance(name, str) or "\0" in name or Path(name).name != name:
            raise ValueError("video must be the name of a file in the same folder")
        if not (folder / name).is_file():
            raise ValueError(f"there is no video {name!r} beside it")
        return folder / name
    videos = [path for path in folder.glob("[!.]*") if path.suffix.lower() in VIDEO_SUFFIXES]
    if len(videos) != 1:
        raise ValueError(f'{len(videos)} videos are beside it: name one with "video"')
    return videos[0]
