"""Labeled pictures to train on: what forms they come in, and what their licenses allow.

====================  =================================================================================
form                  what it is
====================  =================================================================================
``utkface``           a folder or ``.tar`` of images named as in UTKFace
``csv``               a ``.csv`` as `evaluate` reads it; also with ``person`` and ``race``
``classes``           a folder with two folders of images, ``female`` and ``male`` or named otherwise
``celeba``            CelebA's ``list_attr_celeba``, as text or CSV, of which the attribute Male is read
``fairface``          FairFace's CSV: ``file``, ``age`` (a range such as 20-29), ``gender``, ``race``
====================  =================================================================================

A manifest is a TOML file that names several sets::

    [[sets]]
    path = "utkface"
    license = "non-commercial research only"
    commercial_use = false

`read_sets` reads all of them into one table; `terms_of` says what comes out of them may be used for.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from analyzer.errors import SettingsError, SourceErrorKind
from analyzer.evaluation.faults import Faults
from analyzer.evaluation.labels import BOX, bad_labels, naming, read_labels
from analyzer.sources.local import IMAGE_SUFFIXES
from analyzer.training.recipes.base import Origin
from analyzer.util.csv_text import csv_text
from analyzer.util.text import well_formed
from analyzer.util.validation import InvalidValueError, conform

__all__ = ["FORMS", "NOT_STATED", "PARTS", "LabeledSet", "Terms", "read_manifest", "read_sets", "terms_of"]

Form = Literal["utkface", "csv", "classes", "celeba", "fairface"]
FORMS: tuple[Form, ...] = ("utkface", "csv", "classes", "celeba", "fairface")
Use = Literal["split", "train", "validate", "test"]
PARTS = ("train", "validate", "test")
"""What faces are used for: to fit the weights, to choose among them, and to measure what was chosen."""

NOT_STATED = "not stated"
_LISTS = ("list_attr_celeba.txt", "list_attr_celeba.csv")
_IDENTITIES = "identity_CelebA.txt"
_CELEBA_IMAGES = "img_align_celeba"
_FORBIDS = re.compile(r"non-?\s?commercial|research (use )?only|\bNC\b", re.IGNORECASE)
_FAIRFACE_RACES = {
    "White": "white",
    "Black": "black",
    "East Asian": "asian",
    "Southeast Asian": "asian",
    "Indian": "indian",
    "Middle Eastern": "other",
    "Latino_Hispanic": "other",
}
_FAIRFACE_AGES = {"more than 70": (70, 100)}


@dataclass(frozen=True)
class LabeledSet:
    """A set of labeled pictures."""

    path: Path
    form: Form | None = None
    """None: found out from the files."""
    name: str = ""
    """Empty: that of the path."""
    license: str = NOT_STATED
    commercial_use: bool | None = None
    """Whether the license allows it; None: not stated."""
    source: str = ""
    """Where it is from."""
    weight: float = 1.0
    """How often its faces are used, compared with those of other sets."""
    use: Use = "split"
    """For which part all its faces are used; ``split``: they are divided."""
    images: Path | None = None
    """For ``celeba`` and ``fairface``: the folder that file names are relative to; None: beside the list."""
    female: str = "female"
    """For ``classes``: the names of the two folders."""
    male: str = "male"

    @property
    def shown(self) -> str:
        """How it is called."""
        return self.name or well_formed(self.path.resolve().name)


@dataclass(frozen=True)
class Terms:
    """What something may be used for, as far as the licenses of all that it was made from say."""

    license: str
    commercial_use: bool | None
    """None: not all of them say."""
    trained_on: str
    source: str


def terms_of(sets: Sequence[LabeledSet], origins: Iterable[Origin] = ()) -> Terms:
    """Combine licenses: commercial use is allowed only where all allow it.

    >>> free, other = LabeledSet(Path("a"), license="CC0", commercial_use=True), LabeledSet(Path("b"))
    >>> terms_of([free]).commercial_use, terms_of([free, other]).commercial_use
    (True, None)
    """
    parts = [(one.shown, one.license, one.commercial_use, one.source) for one in sets]
    trained_on = ", ".join(dict.fromkeys(name for name, *_ in parts))
    parts += [(one.name, one.license, one.commercial_use, one.source) for one in origins]
    allowed = [allows for _, _, allows, _ in parts]
    terms = dict.fromkeys(f"{name}: {text}" for name, text, *_ in parts)
    return Terms(
        license="; ".join(terms),
        commercial_use=False if False in allowed else None if None in allowed else True,
        trained_on=trained_on,
        source=", ".join(dict.fromkeys(source for *_, source in parts if source)) or NOT_STATED,
    )


# --- manifests ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Entry:
    """A set in a manifest, as TOML has it."""

    path: str | list[str]
    license: str
    commercial_use: bool
    form: Form | None = None
    name: str = ""
    source: str = ""
    weight: float = 1.0
    use: Use = "split"
    images: str | None = None
    female: str = "female"
    male: str = "male"


_SAME = (
    *("form", "name", "license", "commercial_use", "source", "weight", "use"),
    *("female", "male"),
)


def read_manifest(path: Path) -> list[LabeledSet]:
    """Read the sets that a manifest names; paths in it are relative to its folder.

    Raises:
        SettingsError: It is wrong; says how.
        OSError: It cannot be read.
    """
    try:
        values = tomllib.loads(path.read_text("utf-8"))
        entries = values.pop("sets", None)
        if values:
            raise InvalidValueError(f"{min(values)} is not a key of a manifest: it has a list [[sets]]")
        if not isinstance(entries, list) or not entries:
            raise InvalidValueError("it names no sets: each is a table [[sets]]")
        found = [conform(entry, _Entry, f"sets[{number}]") for number, entry in enumerate(entries)]
        return [one for number, entry in enumerate(found) for one in _sets_of(entry, number, path.parent)]
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{well_formed(str(path))}: {error}") from error


def _sets_of(entry: _Entry, number: int, folder: Path) -> Iterator[LabeledSet]:
    if not entry.license.strip():
        raise InvalidValueError(f"sets[{number}].license must say under which terms the pictures may be used")
    if entry.commercial_use and _FORBIDS.search(entry.license):
        raise InvalidValueError(
            f"sets[{number}] says commercial_use = true, which its license {entry.license!r} does not allow"
        )
    if not 0 < entry.weight <= 1000:
        raise InvalidValueError(
            f"sets[{number}].weight must be above 0 and at most 1000, not {entry.weight:g}"
        )
    paths = [entry.path] if isinstance(entry.path, str) else entry.path
    if not paths:
        raise InvalidValueError(f"sets[{number}].path must name a file or folder")
    for path in paths:
        yield LabeledSet(
            path=folder / path,
            images=None if entry.images is None else folder / entry.images,
            **{key: getattr(entry, key) for key in _SAME},
        )


# --- reading -----------------------------------------------------------------------------------------

COLUMNS = [
    *("path", "name", "true_gender", "true_age", "age_low", "age_high", "true_race", "person"),
    *(*BOX, "set", "weight", "use"),
]
"""Of the table of `read_sets`: as of `Material.faces`, with the labeled range of the age in years (both ends
are the age where it is known; NaN: unknown), the number of the set, its weight and its use."""


def read_sets(
    sets: Sequence[LabeledSet], work: Path, limit: int | None = None
) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Read labeled sets, each label checked.

    Args:
        sets: From the user.
        work: An existing folder for unpacked files.
        limit: At most this many faces of each set, in the order of the SHA-1 of their names.

    Returns:
        One row a labeled face, with `COLUMNS`; and for each set `name`, `form`, `license`, `commercial_use`,
        `labeled`, `used`, and `unparsed`, the names of images without labels.

    Raises:
        SourceError: A set is not in its form, or its labels are wrong.
        OSError: A file cannot be read or unpacked.
    """
    tables, about = [], []
    for number, one in enumerate(sets):
        form = one.form or _form(one)
        faces, unparsed = _READERS[form](one, work / f"set-{number}")
        labeled = len(faces)
        if limit is not None and labeled > limit:
            order = faces["name"].map(_digest).sort_values(kind="stable").index[:limit]
            faces = faces.loc[order]
        tables.append(faces.assign(set=number, weight=one.weight, use=one.use)[COLUMNS])
        about.append(
            {
                **{"name": one.shown, "form": form, "license": one.license},
                **{"commercial_use": one.commercial_use, "source": one.source, "use": one.use},
                **{"weight": one.weight, "labeled": labeled, "used": len(faces), "unparsed": unparsed},
            }
        )
    return pd.concat(tables, ignore_index=True), about


def _digest(name: str) -> str:
    return hashlib.sha1(Path(name).name.encode("utf-8", "surrogatepass")).hexdigest()


def _form(one: LabeledSet) -> Form:
    path = one.path
    if path.is_dir():
        if any((path / name).is_file() for name in _LISTS):
            return "celeba"
        both = all((path / name).is_dir() for name in (one.female, one.male))
        return "classes" if both else "utkface"
    if path.name in _LISTS:
        return "celeba"
    if path.suffix.lower() == ".csv" and path.is_file():
        with naming(path):
            names = {name.strip().lower() for name in csv_text(path).partition("\n")[0].split(",")}
        if {"file", "age", "gender"} <= names:
            return "fairface"
        if {"image_id", "male"} <= names:
            return "celeba"
    return "csv" if path.suffix.lower() == ".csv" else "utkface"


_Read = tuple[pd.DataFrame, list[str]]


def _read_material(one: LabeledSet, work: Path) -> _Read:
    """Forms that `evaluate` reads too."""
    material = read_labels(one.path, work, None)
    if material.faces is None:
        raise bad_labels(one.path, "videos cannot be trained on: name labeled images")
    ages = material.faces["true_age"]
    faces = material.faces.assign(age_low=ages, age_high=ages)
    if "person" not in faces:
        faces["person"] = ""
    return faces, material.about["unparsed"]


def _read_classes(one: LabeledSet, work: Path) -> _Read:
    del work
    rows: list[dict[str, Any]] = []
    for gender, folder in (("female", one.path / one.female), ("male", one.path / one.male)):
        if not folder.is_dir():
            raise bad_labels(
                one.path,
                f"there is no folder {folder.name!r} in it: it needs two folders of images, named female and "
                "male, or as the manifest says",
                SourceErrorKind.NOT_FOUND,
            )
        files = [path for path in sorted(folder.rglob("[!.]*")) if path.suffix.lower() in IMAGE_SUFFIXES]
        rows += [
            {"path": path, "name": f"{folder.name}/{path.relative_to(folder)}", "true_gender": gender}
            for path in files
            if path.is_file()
        ]
    if not rows:
        raise bad_labels(one.path, "there are no images in its two folders", SourceErrorKind.EMPTY)
    return _table(rows), []


def _read_celeba(one: LabeledSet, work: Path) -> _Read:
    del work
    path = one.path
    if path.is_dir():
        path = next((path / name for name in _LISTS if (path / name).is_file()), path / _LISTS[0])
    if not path.is_file():
        raise bad_labels(path, "there is no such list of attributes", SourceErrorKind.NOT_FOUND)
    folder = one.images or _folder_of(path, _CELEBA_IMAGES)
    identities = path.with_name(_IDENTITIES)
    people: dict[str, str] = {}
    if identities.is_file():
        with naming(identities):
            pairs = [line.split() for line in csv_text(identities).splitlines() if line.strip()]
            if any(len(pair) != 2 for pair in pairs):
                raise ValueError("each line must have an image and the number of a person")
            people = {name: f"celeba-{person}" for name, person in pairs}
    with naming(path):
        faults, rows = Faults(), []
        for place, name, male in _celeba_rows(path):
            with faults.noted(place):
                if male not in ("1", "-1"):
                    raise ValueError(f"Male must be 1 or -1, not {male!r}")
                gender = "male" if male == "1" else "female"
                picture = _picture(folder, name)
                person = people.get(name, "")
                rows.append({"path": picture, "name": name, "true_gender": gender, "person": person})
        faults.check()
        if not rows:
            raise ValueError("it lists no images")
    return _table(rows), []


def _celeba_rows(path: Path) -> Iterator[tuple[str, str, str]]:
    """Place in the file, name of the image, and the attribute Male, of each line."""
    text = csv_text(path)
    if path.suffix.lower() == ".csv":
        rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        names = {(name or "").strip().lower(): name for name in rows.fieldnames or ()}
        if not {"image_id", "male"} <= set(names):
            raise ValueError("the columns image_id and Male are missing")
        for row in rows:
            cells = (row[names["image_id"]] or "", row[names["male"]] or "")
            yield f"line {rows.line_num}", cells[0].strip(), cells[1].strip()
        return
    lines = text.splitlines()
    head = lines[1].split() if len(lines) > 1 else []
    if "Male" not in head:
        raise ValueError("its second line must name the attributes, one of them Male")
    for number, line in enumerate(lines[2:], 3):
        cells_ = line.split()
        if not cells_:
            continue
        if len(cells_) != len(head) + 1:
            raise ValueError(f"line {number}: it must have a name and {len(head)} numbers")
        yield f"line {number}", cells_[0], cells_[1 + head.index("Male")]


def _read_fairface(one: LabeledSet, work: Path) -> _Read:
    del work
    folder = one.images or one.path.parent
    with naming(one.path):
        rows_ = csv.DictReader(io.StringIO(csv_text(one.path), newline=""), strict=True)
        missing = sorted({"file", "age", "gender", "race"} - set(rows_.fieldnames or ()))
        if missing:
            raise ValueError(f"columns are missing: {', '.join(missing)}")
        faults, rows = Faults(), []
        for cells in rows_:
            with faults.noted(f"line {rows_.line_num}"):
                rows.append(_fairface_face(folder, {key: (cells[key] or "").strip() for key in cells if key}))
        faults.check()
        if not rows:
            raise ValueError("this CSV has no rows")
    return _table(rows), []


def _fairface_face(folder: Path, cells: dict[str, str]) -> dict[str, Any]:
    """
    Raises:
        ValueError: The row is wrong; says how.
    """
    age, gender, race = cells["age"], cells["gender"].lower(), cells["race"]
    found = re.fullmatch(r"([0-9]{1,3})-([0-9]{1,3})", age)
    low, high = (int(found[1]), int(found[2])) if found else _FAIRFACE_AGES.get(age, (1, 0))
    faults = Faults()
    if not low <= high <= 130:
        faults.add(f"age must be a range such as 20-29, or 'more than 70', not {age!r}")
    if gender not in ("female", "male"):
        faults.add(f"gender must be Female or Male, not {cells['gender']!r}")
    if race not in _FAIRFACE_RACES:
        faults.add(f"race must be one of {', '.join(_FAIRFACE_RACES)}, not {race!r}")
    faults.check()
    return {
        **{"path": _picture(folder, cells["file"]), "name": cells["file"], "true_gender": gender},
        **{"true_age": (low + high) / 2, "age_low": low, "age_high": high},
        "true_race": _FAIRFACE_RACES[race],
    }


def _folder_of(path: Path, name: str) -> Path:
    beside = path.parent / name
    # Archives of CelebA hold a folder of the same name within the folder.
    return next((one for one in (beside / name, beside) if one.is_dir()), path.parent)


def _picture(folder: Path, name: str) -> Path:
    """
    Raises:
        ValueError: There is no such image.
    """
    if not name or "\0" in name or not (folder / name).is_file():
        raise ValueError(f"there is no image {name!r} in {folder.name}")
    if Path(name).suffix.lower() not in IMAGE_SUFFIXES:
        raise ValueError(f"{name!r} has no extension of an image, such as .jpg")
    return folder / name


def _table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    empty: dict[str, Any] = dict.fromkeys(("true_race", "person"), "")
    empty |= dict.fromkeys(("true_age", "age_low", "age_high", *BOX), float("nan"))
    return pd.DataFrame([empty | row for row in rows])


_READERS: dict[Form, Callable[[LabeledSet, Path], _Read]] = {
    "utkface": _read_material,
    "csv": _read_material,
    "classes": _read_classes,
    "celeba": _read_celeba,
    "fairface": _read_fairface,
}
