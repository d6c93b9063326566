"""Scores the installed networks on labelled material, along the product's own path (`analyze`).

::

    evaluation = evaluate(["UTKFace", "labelled.csv", "clips"], Settings(fps=2))
    evaluation.to_dict()      # every figure, with its number and interval
    evaluation.save("docs")   # accuracy.json, accuracy.md, accuracy-gender.png, accuracy-age.png

Labelled material is

- a folder or a ``.tar`` of pictures named ``[age]_[gender: 0 male, 1 female]_[race]_….jpg`` as in UTKFace
  (the race is not used); folders are searched through;
- a ``.csv`` with the columns ``image`` (path relative to the CSV), ``age_years`` (may be empty), ``gender``
  (``female``, ``male`` or empty) and, where wanted, ``x1, y1, x2, y2`` of the labelled face in pixels;
- a ``truth.json`` beside its video, or a folder that holds such folders (its pictures are then not used)::

    {"version": 1, "kind": "walking", "seed": 1000, "video": "video.mp4",
     "people": [{"id": 1, "age_years": 26, "gender": "female", "first_s": 0.0, "last_s": 9.8,
                 "on_screen_s": 9.6, "boxes": [[0.0, 100, 80, 160, 150]]}]}

  ``seed``, ``video`` (else the folder's only one), ``on_screen_s`` (else last - first) and ``boxes`` (rows of
  time in seconds, x1, y1, x2, y2 in pixels; of all people or of none) may be left out; ``age_years`` and
  ``gender`` may be null.

Which found face is the labelled one: where the label has a box, the best one-to-one assignment by IoU (at
least `MATCH_IOU`); else, of several faces in a picture, the one with the largest width x (1 - d / D), d being
the distance of its centre from the picture's and D the distance of a corner. Which found person is which true
one: where there are boxes, the one-to-one assignment with the most samples in which the boxes overlap; else
the one with the largest overlap of the stretches on screen. Gender and age are never used for it.

All figures are defined in `analyzer.metrics`. Labels are read and checked before anything is analysed.
"""

from __future__ import annotations

import collections
import contextlib
import csv
import dataclasses
import datetime
import hashlib
import importlib.util
import json
import math
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import analyzer
from analyzer.errors import AnalyzerError, OutputError, SettingsError, SourceError, SourceErrorKind
from analyzer.faces import iou
from analyzer.frames import PictureReader
from analyzer.jobs import Event, Failed, OnEvent, Started, analyze_all
from analyzer.metrics import (
    ADULT_FROM_YEARS,
    MATCH_IOU,
    MIN_UNITS,
    Figure,
    assigned,
    box_matches,
    calibration,
    figures,
    group_scores,
    identity,
    span_matches,
    true_shares,
)
from analyzer.records import Run, write_json, writing
from analyzer.settings import AGE_BANDS, Settings
from analyzer.source import IMAGE_SUFFIXES, VIDEO_SUFFIXES, shown_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

__all__ = ["OUTPUTS", "Evaluation", "check_out", "evaluate"]

OUTPUTS = ("accuracy.json", "accuracy.md", "accuracy-gender.png", "accuracy-age.png")
SCHEMA_VERSION = 1
TRUTH = "truth.json"
TRUTH_VERSION = 1
MAX_AGE_YEARS = 130.0
_MAX_TEXT_BYTES = 256 * 1024 * 1024
_MAX_PICTURE_BYTES = 256 * 1024 * 1024
_GENDERS = ("female", "male")
_UTKFACE = re.compile(r"([0-9]{1,3})_([01])_[0-9]_.+")


# --- labels ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LabelledFace:
    """One labelled face: `age_years` may be NaN, `gender` empty, `box` (x1, y1, x2, y2 in pixels) None."""

    path: Path
    name: str
    age_years: float
    gender: str
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class TruePerson:
    """One person of a labelled video; `boxes` are (B, 5) rows of time in seconds, x1, y1, x2, y2, or None."""

    age_years: float
    gender: str
    first_s: float
    last_s: float
    on_screen_s: float
    boxes: NDArray[np.float64] | None


@dataclass(frozen=True)
class TrueVideo:
    """A labelled video."""

    path: Path
    kind: str
    people: tuple[TruePerson, ...]


@dataclass(frozen=True)
class _FaceTask:
    """Pictures to be analysed as one run: a folder with pictures under our own names, and their labels."""

    source: Path
    shown: str
    origin: int
    faces: dict[str, tuple[LabelledFace, ...]]


@dataclass(frozen=True)
class _VideoTask:
    source: Path
    shown: str
    origin: int
    video: TrueVideo


_Task = _FaceTask | _VideoTask


def _bad(path: Path, what: str, kind: SourceErrorKind = SourceErrorKind.OTHER) -> SourceError:
    return SourceError(f"{shown_name(str(path))}: {what}", kind=kind, source=shown_name(str(path)))


def _parse_name(path: Path, name: str) -> LabelledFace | None:
    match = _UTKFACE.fullmatch(name)
    if match is None or float(match[1]) > MAX_AGE_YEARS:
        return None
    return LabelledFace(path, name, float(match[1]), "female" if match[2] == "1" else "male")


def _chosen(faces: Iterable[LabelledFace], limit: int | None) -> list[LabelledFace]:
    """At most `limit` faces in the order of the SHA-1 of their file names: a fair sample, always the same."""
    hashed = sorted(faces, key=lambda face: hashlib.sha1(os.fsencode(Path(face.name).name)).digest())
    return hashed[:limit]


def _read(path: Path, work: Path, origin: int, limit: int | None) -> tuple[list[_Task], dict[str, Any]]:
    """The tasks of one path, and what is told of it.

    Raises:
        SourceError: It is no labelled material, or its labels are wrong.
    """
    name = shown_name(path.resolve().name)
    about: dict[str, Any] = {"name": name}
    if path.is_dir():
        truths, pictures = _walk(path)
        if truths:
            return _video_tasks(truths, about, origin)
        labelled, unparsed = _parsed((each, each.name) for each in pictures)
        if not labelled:
            what = f"no picture here is named age_gender_race_….jpg, and no folder holds a {TRUTH}"
            raise _bad(path, what, SourceErrorKind.EMPTY)
        about |= {"kind": "pictures", "labelled": len(labelled), "unparsed": unparsed}
        return _face_tasks(_chosen(labelled, limit), about, work, origin)
    if not path.exists():
        raise _bad(path, "there is no such file or folder", SourceErrorKind.NOT_FOUND)
    match path.suffix.lower():
        case ".json":
            return _video_tasks([path], about, origin)
        case ".csv":
            faces = _read_csv(path)
            about |= {"kind": "list", "labelled": len(faces), "unparsed": []}
            return _face_tasks(_chosen(faces, limit), about, work, origin)
        case ".tar":
            faces, labelled_count, unparsed = _read_tar(path, work, limit)
            about |= {"kind": "archive", "labelled": labelled_count, "unparsed": unparsed}
            return _face_tasks(faces, about, work, origin)
    what = f"labels are read from a folder, a .tar, a .csv or a {TRUTH}"
    raise _bad(path, what, SourceErrorKind.UNSUPPORTED)


def _walk(folder: Path) -> tuple[list[Path], list[Path]]:
    """Every truth.json and every picture of a folder and those in it; links to folders are not followed."""
    truths, pictures = [], []
    for where, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(where, name)
            if name == TRUTH:
                truths.append(path)
            elif not name.startswith(".") and path.suffix.lower() in IMAGE_SUFFIXES:
                pictures.append(path)
    return truths, pictures


def _parsed(files: Iterable[tuple[Path, str]]) -> tuple[list[LabelledFace], list[str]]:
    faces, unparsed = [], []
    for path, name in files:
        face = _parse_name(path, name)
        if face is None:
            unparsed.append(shown_name(name))
        else:
            faces.append(face)
    return faces, unparsed


def _read_tar(path: Path, work: Path, limit: int | None) -> tuple[list[LabelledFace], int, list[str]]:
    """The chosen faces of an archive, unpacked under our own names; all labelled ones; bad names.

    Raises:
        SourceError: It is no archive, damaged, or holds no labelled picture.
        OutputError: There is no space to unpack them.
    """
    folder = work / "unpacked"
    try:
        with tarfile.open(path, "r:") as archive:
            # Links, devices and holes are not unpacked, and no name of the archive's is ever used.
            members = {
                Path(str(number)): member
                for number, member in enumerate(archive)
                if member.isreg()
                and not member.issparse()
                and member.size <= _MAX_PICTURE_BYTES
                and Path(member.name).suffix.lower() in IMAGE_SUFFIXES
                and not Path(member.name).name.startswith(".")
            }
            labelled, unparsed = _parsed((key, Path(member.name).name) for key, member in members.items())
            if not labelled:
                what = "no picture in this archive is named age_gender_race_….jpg"
                raise _bad(path, what, SourceErrorKind.EMPTY)
            faces = []
            _make(folder)
            for face in _chosen(labelled, limit):
                content = archive.extractfile(members[face.path])
                data = b"" if content is None else content.read()
                target = folder / f"{face.path.name}{Path(face.name).suffix.lower()}"
                with _temporary_errors(target):
                    target.write_bytes(data)
                faces.append(dataclasses.replace(face, path=target))
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise _bad(path, f"this archive cannot be read ({error})") from error
    return faces, len(labelled), unparsed


def _read_csv(path: Path) -> list[LabelledFace]:
    """The labelled faces of a CSV, each checked.

    Raises:
        SourceError: A column or a picture is missing, or a value is wrong; says on which line.
    """
    faces: list[LabelledFace] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            missing = [
                name for name in ("image", "age_years", "gender") if name not in (rows.fieldnames or ())
            ]
            if missing:
                raise _bad(path, f"the column {missing[0]} is missing")
            with_boxes = [name for name in ("x1", "y1", "x2", "y2") if name in (rows.fieldnames or ())]
            if len(with_boxes) not in (0, 4):
                raise _bad(path, "a box takes the columns x1, y1, x2 and y2: all four or none")
            for row in rows:
                try:
                    faces.append(_csv_face(path.parent, row, with_boxes))
                except ValueError as error:
                    raise _bad(path, f"line {rows.line_num}: {error}") from error
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise _bad(path, f"this is no CSV that can be read ({error})") from error
    if not faces:
        raise _bad(path, "this CSV has no rows", SourceErrorKind.EMPTY)
    rows_of = collections.Counter(face.path for face in faces)
    for face in faces:
        if face.box is None and rows_of[face.path] > 1:
            raise _bad(path, f"{face.name} has several rows: each needs a box to tell its face")
    return faces


def _csv_face(folder: Path, row: dict[str, Any], box_columns: list[str]) -> LabelledFace:
    """
    Raises:
        ValueError: Says what is wrong with the row.
    """
    if None in row or None in row.values():
        raise ValueError("it has another number of cells than the first line")
    cells = {key: value.strip() for key, value in row.items()}
    name, gender = cells["image"], cells["gender"].lower()
    picture = folder / name
    if not name or "\0" in name or not picture.is_file():
        raise ValueError(f"there is no picture {name!r} beside the CSV")
    if picture.suffix.lower() not in IMAGE_SUFFIXES:
        raise ValueError(f"{name!r} has no ending of a picture, such as .jpg")
    if gender not in (*_GENDERS, ""):
        raise ValueError(f"gender must be female, male or empty, not {gender!r}")
    age = _number(cells["age_years"], "age_years", 0, MAX_AGE_YEARS) if cells["age_years"] else math.nan
    edges = [cells[column] for column in box_columns]
    box = None
    if any(edges):
        x1, y1, x2, y2 = (_number(*pair) for pair in zip(edges, box_columns, strict=True))
        if x2 <= x1 or y2 <= y1:
            raise ValueError("its box is empty: x2 and y2 must be larger than x1 and y1")
        box = (x1, y1, x2, y2)
    return LabelledFace(picture, name, age, gender, box)


def _number(value: object, name: str, low: float = -math.inf, high: float = math.inf) -> float:
    """
    Raises:
        ValueError: It is no finite number between `low` and `high`; says so.
    """
    try:
        number = float(value) if isinstance(value, str | int | float) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number) or not low <= number <= high:
        limits = f" from {low:g} to {high:g}" if math.isfinite(low) and math.isfinite(high) else ""
        raise ValueError(f"{name} must be a number{limits}, not {str(value)[:40]!r}")
    return number


def _read_truth(path: Path) -> TrueVideo:
    """A labelled video, checked.

    Raises:
        SourceError: Its truth cannot be read, says something impossible, or names no video.
    """
    try:
        if path.stat().st_size > _MAX_TEXT_BYTES:
            raise ValueError("it is too large")
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _bad(path, f"this is no JSON that can be read ({error})") from error
    try:
        if not isinstance(value, dict) or value.get("version") != TRUTH_VERSION:
            raise ValueError(f'it must be an object with "version": {TRUTH_VERSION}')
        kind, people = value.get("kind"), value.get("people")
        if not isinstance(kind, str) or not re.fullmatch(r"[\w .+-]{1,40}", kind):
            raise ValueError("kind must be a short text of letters, digits and spaces")
        if not isinstance(people, list) or not all(isinstance(person, dict) for person in people):
            raise ValueError("people must be a list of objects")
        numbers = [person.get("id") for person in people]
        if not all(type(number) is int for number in numbers) or len(set(numbers)) < len(numbers):
            raise ValueError("each of people needs an id, a whole number of its own")
        true = tuple(_true_person(person) for person in people)
        if len({person.boxes is None for person in true}) > 1:
            raise ValueError("either all people have boxes or none")
        return TrueVideo(_video_of(path.parent, value.get("video")), kind, true)
    except ValueError as error:
        raise _bad(path, str(error)) from error


def _true_person(person: dict[str, Any]) -> TruePerson:
    """
    Raises:
        ValueError: Says what is wrong.
    """
    try:
        age, gender = person.get("age_years"), person.get("gender")
        if gender not in (*_GENDERS, None):
            raise ValueError('gender must be "female", "male" or null')
        first = _number(person.get("first_s"), "first_s", -1e9, 1e9)
        last = _number(person.get("last_s"), "last_s", -1e9, 1e9)
        if last < first:
            raise ValueError("last_s is before first_s")
        on_screen = person.get("on_screen_s")
        return TruePerson(
            age_years=math.nan if age is None else _number(age, "age_years", 0, MAX_AGE_YEARS),
            gender=gender or "",
            first_s=first,
            last_s=last,
            on_screen_s=last - first if on_screen is None else _number(on_screen, "on_screen_s", 0, 1e9),
            boxes=_true_boxes(person.get("boxes")),
        )
    except ValueError as error:
        raise ValueError(f"person {person['id']}: {error}") from error


def _true_boxes(value: object) -> NDArray[np.float64] | None:
    if value is None:
        return None
    wrong = "boxes must be a list of [time_s, x1, y1, x2, y2] with x2 > x1 and y2 > y1"
    if not isinstance(value, list) or not all(isinstance(row, list) and len(row) == 5 for row in value):
        raise ValueError(wrong)
    if not all(type(cell) in (int, float) for row in value for cell in row):
        raise ValueError(wrong)
    try:
        rows = np.array(value, dtype=np.float64).reshape(-1, 5)
    except OverflowError:
        raise ValueError(wrong) from None
    if not np.isfinite(rows).all() or not (rows[:, 3:] > rows[:, 1:3]).all():
        raise ValueError(wrong)
    return rows


def _video_of(folder: Path, name: object) -> Path:
    """
    Raises:
        ValueError: The named video is not there, or none is named and there is not exactly one.
    """
    if name is not None:
        # Only a file of the same folder: a truth from elsewhere reaches nothing else.
        if not isinstance(name, str) or "\0" in name or Path(name).name != name:
            raise ValueError("video must be the name of a file in the same folder")
        if not (folder / name).is_file():
            raise ValueError(f"there is no video {name!r} beside it")
        return folder / name
    videos = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".") and path.is_file()
    ]
    if len(videos) != 1:
        raise ValueError(f'{len(videos)} videos lie beside it: name one with "video"')
    return videos[0]


def _video_tasks(
    truths: list[Path], about: dict[str, Any], origin: int
) -> tuple[list[_Task], dict[str, Any]]:
    tasks: list[_Task] = []
    for path in truths:
        video = _read_truth(path)
        tasks.append(_VideoTask(video.path, shown_name(str(video.path)), origin, video))
    return tasks, about | {"kind": "videos", "labelled": len(tasks), "used": len(tasks), "unparsed": []}


def _face_tasks(
    faces: list[LabelledFace], about: dict[str, Any], work: Path, origin: int
) -> tuple[list[_Task], dict[str, Any]]:
    """One task for all pictures, linked under names of our own: others' could be altered in the tables."""
    slug = re.sub(r"[^A-Za-z0-9]+", "-", about["name"]).strip("-") or "faces"
    folder = work / slug
    _make(folder)
    by_path: dict[Path, list[LabelledFace]] = {}
    for face in faces:
        by_path.setdefault(face.path, []).append(face)
    named: dict[str, tuple[LabelledFace, ...]] = {}
    for number, (path, those) in enumerate(by_path.items()):
        stem = re.sub(r"[^A-Za-z0-9]+", "_", Path(those[0].name).stem)[:60]
        name = f"{number:06d}-{stem}{path.suffix.lower()}"
        with _temporary_errors(folder / name):
            try:
                (folder / name).symlink_to(path.resolve())
            except (OSError, NotImplementedError):  # a system or disk without links
                shutil.copyfile(path, folder / name)
        named[name] = tuple(those)
    return [_FaceTask(folder, about["name"], origin, named)], about | {"used": len(faces)}


def _make(folder: Path) -> None:
    with _temporary_errors(folder):
        folder.mkdir(parents=True)


@contextlib.contextmanager
def _temporary_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"the temporary file {path} cannot be written ({error.strerror}): "
            "set TMPDIR to a folder with more space"
        ) from error


# --- scoring -----------------------------------------------------------------------------------------


def evaluate(
    paths: Iterable[str | os.PathLike[str]],
    settings: Settings | None = None,
    *,
    limit: int | None = None,
    on_event: OnEvent = lambda event: None,
    keep_runs: str | os.PathLike[str] | None = None,
) -> Evaluation:
    """Analyse labelled material and score what comes out.

    Args:
        paths: Labelled pictures and videos, see the head of this module.
        settings: How to analyse; annotated videos are never made.
        limit: At most this many faces of each source of pictures, in the order of the SHA-1 of their file
            names; None: all.
        on_event: Called with each `Event`, as by `analyze_all`.
        keep_runs: Folder in which the runs are kept; None: they are removed.

    Returns:
        The figures. What could not be analysed is in `Evaluation.failed`; `Evaluation.usable` is false
        where nothing could.

    Raises:
        SettingsError: A stretch (start, end) is asked for: labels are those of whole videos.
        SourceError: A path is no labelled material, or its labels are wrong.
        ModelError: A network is missing or damaged.
        OutputError: The temporary folder or `keep_runs` cannot be written to.
    """
    chosen = (settings or Settings()).replace(video=False, blur=False, limit=None)
    if chosen.start_s or chosen.end_s is not None:
        raise SettingsError("start and end cannot be used here: labels are those of whole videos")
    if limit is not None and limit < 1:
        raise SettingsError(f"limit must be at least 1, not {limit}")
    with contextlib.ExitStack() as stack:
        try:
            work = Path(
                stack.enter_context(
                    tempfile.TemporaryDirectory(prefix="evaluate-", ignore_cleanup_errors=True)
                )
            )
        except OSError as error:
            raise OutputError(
                f"no temporary folder can be made ({error.strerror}): set TMPDIR to one with space"
            ) from error
        # One that is named twice counts once.
        named = list(dict.fromkeys(Path(path).absolute() for path in paths))
        read = [_read(path, work / str(number), number, limit) for number, path in enumerate(named)]
        tasks = _once(task for some, _ in read for task in some)
        scorer = _Scorer(chosen, [about | {"failed": []} for _, about in read])
        shown = {str(task.source): task.shown for task in tasks}
        results = analyze_all(
            shown,
            chosen,
            out=Path(keep_runs) if keep_runs is not None else work / "runs",
            on_event=lambda event: on_event(_renamed(event, shown)),
        )
        for task, result in zip(tasks, results, strict=True):
            if isinstance(result, Failed):
                scorer.fail(task, result.error)
            else:
                scorer.add(task, result.run)
    return scorer.evaluation()


def _once(tasks: Iterable[_Task]) -> list[_Task]:
    """Tasks whose source is not that of an earlier one: a folder may hold what is named by itself too."""
    return list({str(task.source.resolve()): task for task in tasks}.values())


def _renamed(event: Event, shown: dict[str, str]) -> Event:
    """An event that tells of the user's own name in place of a temporary folder's."""
    if isinstance(event, Started | Failed):
        return dataclasses.replace(event, source=shown.get(event.source, event.source))
    return event


class _Scorer:
    """Gathers the rows that are scored, run by run."""

    def __init__(self, settings: Settings, sources: list[dict[str, Any]]) -> None:
        self._settings = settings
        self._sources = sources
        self._faces: list[dict[str, Any]] = []
        self._people: list[dict[str, Any]] = []
        self._videos: list[dict[str, Any]] = []
        self._shares: list[dict[str, Any]] = []
        self._info: dict[str, Any] | None = None
        self._units = 0

    def fail(self, task: _Task, error: AnalyzerError) -> None:
        """Note what could not be analysed."""
        sentence = str(error).replace(str(task.source), task.shown)
        self._sources[task.origin]["failed"].append(f"{Path(task.shown).name}: {sentence}")

    def add(self, task: _Task, run: Run) -> None:
        """Score a run. It is read now: a later one may take its place."""
        self._info = self._info or run.info
        if not run.complete:
            reason = f"{Path(task.shown).name}: {run.info['incomplete_reason']}"
            self._sources[task.origin]["failed"].append(reason)
        if isinstance(task, _FaceTask):
            self._add_faces(task, run)
        else:
            self._add_video(task.video, run)

    def evaluation(self) -> Evaluation:
        """All that was gathered."""
        return Evaluation(
            measured_on=datetime.datetime.now(datetime.UTC).date().isoformat(),
            settings=self._settings,
            sources=tuple(self._sources),
            provenance={key: (self._info or {}).get(key) for key in ("models", "libraries", "python")},
            faces=pd.DataFrame(self._faces),
            people=pd.DataFrame(self._people),
            videos=pd.DataFrame(self._videos),
            shares=pd.DataFrame(self._shares),
        )

    def _add_faces(self, task: _FaceTask, run: Run) -> None:
        people = {row["person_id"]: row for row in _records(run.people)}
        found_in = dict(tuple(run.faces.groupby("sample", sort=False)))
        samples = run.samples.set_index("image")["sample"]
        source = self._sources[task.origin]
        source |= {"unreadable": 0, "pictures_with_several_faces": 0}
        for image, labels in task.faces.items():
            if image not in samples.index:
                source["unreadable"] += len(labels)
                continue
            found = found_in.get(samples[image], run.faces[:0])
            source["pictures_with_several_faces"] += len(found) > 1
            boxes = found[["x1", "y1", "x2", "y2"]].to_numpy(np.float32)
            rows = _records(found)
            for number, place in enumerate(self._places(labels, boxes, task.source / image)):
                face = None if place is None else rows[place]
                person = None if face is None else people.get(face["person_id"])
                self._faces.append(
                    {
                        "source": source["name"],
                        "name": labels[number].name,
                        "true_gender": labels[number].gender,
                        "true_age": labels[number].age_years,
                        "found": face is not None,
                        **_judgement(person),
                        "face_female_prob": math.nan if face is None else face["female_prob"],
                        "face_px": math.nan if face is None else face["x2"] - face["x1"],
                        "unit": self._units,
                    }
                )
            self._units += 1

    def _places(
        self, labels: Sequence[LabelledFace], boxes: NDArray[np.float32], picture: Path
    ) -> list[int | None]:
        """For each label of a picture, which found face it means: see the head of this module.

        Args:
            labels: One without a box, or some with one each.
            boxes: (N, 4) found faces in pixels.
            picture: Its size is looked up where it matters.
        """
        if not len(boxes):
            return [None] * len(labels)
        if labels[0].box is not None:
            true = np.array([label.box for label in labels], dtype=np.float32)
            overlaps = iou(true, boxes)
            pairs = assigned(np.where(overlaps >= MATCH_IOU, overlaps, 0.0))
            return [pairs.get(number) for number in range(len(labels))]
        if len(boxes) == 1:
            return [0]
        info = PictureReader((picture,), self._settings).info
        return [central_face(boxes, info.width, info.height)]

    def _add_video(self, video: TrueVideo, run: Run) -> None:
        people = run.people.reset_index(drop=True)
        pairs, purity, completeness = _matched(video, people, run)
        rows = _records(people)
        time_errors = []
        for number, true in enumerate(video.people):
            person = rows[pairs[number]] if number in pairs else None
            if person is not None:
                time_errors.append(abs(person["on_screen_s"] - true.on_screen_s))
            self._people.append(
                {
                    "kind": video.kind,
                    "true_gender": true.gender,
                    "true_age": true.age_years,
                    "found": person is not None,
                    **_judgement(person),
                    "face_px": math.nan if person is None else person["face_px_median"],
                    "unit": self._units,
                }
            )
        true_number, found_number = len(video.people), len(people)
        missed, extra = true_number - len(pairs), found_number - len(pairs)
        counts = run.info["counts"]
        low, high = (_or_nan(counts.get(name)) for name in ("people_low", "people_high"))
        true_s = sum(true.on_screen_s for true in video.people)
        time_error = _share(float(people["on_screen_s"].sum()) - true_s, true_s)
        count_error = _share(found_number - true_number, true_number)
        self._videos.append(
            {
                "kind": video.kind,
                "name": shown_name(video.path.parent.name),
                "true_people": true_number,
                "found_people": found_number,
                "missed": missed,
                "extra": extra,
                "with_boxes": all(true.boxes is not None for true in video.people),
                "count_abs_error": abs(count_error),
                "count_error": count_error,
                "count_in_interval": _within(low, true_number, high),
                "missed_share": _share(missed, true_number),
                "extra_share": _share(extra, true_number),
                "purity": purity,
                "completeness": completeness,
                "time_abs_error": abs(time_error),
                "time_error": time_error,
                "person_time_abs_error_s": float(np.mean(time_errors)) if time_errors else math.nan,
                "unit": self._units,
                **self._share_errors(video, people, run),
            }
        )
        self._units += 1

    def _share_errors(self, video: TrueVideo, people: pd.DataFrame, run: Run) -> dict[str, float]:
        """Errors of the share of women, and (kept as rows of their own) of all shares that the run states."""
        truth = true_shares(
            [true.gender for true in video.people],
            [true.age_years for true in video.people],
            [true.on_screen_s for true in video.people],
            self._settings.bands,
        )
        true = dict(zip(("people", "time"), truth.get(("gender", "female"), (math.nan,) * 2), strict=True))
        women, men = (people["gender"] == one for one in _GENDERS)
        found: dict[str, dict[str, float]] = {
            "people": {"counted": _share(float(women.sum()), float((women | men).sum()))},
            "time": {
                "counted": _share(
                    float(people.loc[women, "on_screen_s"].sum()),
                    float(people.loc[women | men, "on_screen_s"].sum()),
                )
            },
        }
        table: pd.DataFrame | None = getattr(run, "shares", None)
        stated = [] if table is None else _records(table)
        for row in stated:
            key = (str(row["dimension"]), str(row["group"]))
            if key not in truth:
                continue
            record: dict[str, Any] = {"kind": video.kind, "dimension": key[0], "group": key[1]}
            for what, share in zip(("people", "time"), truth[key], strict=True):
                ends = _or_nan(row[f"{what}_low"]), _or_nan(row[f"{what}_high"])
                record[f"{what}_abs_error"] = abs(_or_nan(row[f"{what}_share"]) - share)
                record[f"{what}_in_interval"] = _within(ends[0], share, ends[1])
                if key == ("gender", "female"):
                    found[what]["stated"] = _or_nan(row[f"{what}_share"])
            self._shares.append(record | {"unit": self._units})
        errors = {}
        for what, ways in found.items():
            for way in ("counted", "stated"):
                error = ways.get(way, math.nan) - true[what]
                errors[f"women_{what}_{way}_error"] = error
                errors[f"women_{what}_{way}_abs_error"] = abs(error)
        return errors


def central_face(boxes: NDArray[np.float32], width: int, height: int) -> int:
    """Which face a picture of one labelled face means: large and near the centre.

    Args:
        boxes: (N, 4) in pixels, N at least 1.
        width: Of the picture in pixels.
        height: Likewise.

    Returns:
        The row with the largest face width x (1 - d / D): d is the distance of the face's centre from the
        picture's, D that of a corner.

    >>> central_face(np.array([[0, 0, 40, 40], [35, 35, 65, 65]], np.float32), 100, 100)
    1
    """
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    distance = np.hypot(centres[:, 0] - width / 2, centres[:, 1] - height / 2)
    return int(np.argmax((boxes[:, 2] - boxes[:, 0]) * (1 - distance / math.hypot(width / 2, height / 2))))


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def _judgement(person: dict[str, Any] | None) -> dict[str, Any]:
    """What the people table says of a found person."""
    numbers = ("female_prob", "age_years", "age_low", "age_high")
    if person is None:
        return {"gender": "", **dict.fromkeys(numbers, math.nan)}
    return {"gender": person["gender"], **{name: _or_nan(person[name]) for name in numbers}}


def _matched(video: TrueVideo, people: pd.DataFrame, run: Run) -> tuple[dict[int, int], float, float]:
    """True person -> row of the people table; purity and completeness of the found people."""
    if not video.people or people.empty:
        return {}, math.nan, math.nan
    true_boxes = [true.boxes for true in video.people if true.boxes is not None]
    if not true_boxes:
        true_spans = np.array([(true.first_s, true.last_s) for true in video.people], dtype=np.float64)
        spans = people[["first_s", "last_s"]].to_numpy(np.float64)
        return assigned(span_matches(true_spans, spans)), math.nan, math.nan
    numbers = people["person_id"].tolist()
    faces = run.faces[run.faces["person_id"].isin(numbers)]
    counts, best = box_matches(
        true_boxes,
        faces["time_s"].to_numpy(np.float64),
        faces[["x1", "y1", "x2", "y2"]].to_numpy(np.float64),
        faces["person_id"].tolist(),
        numbers,
    )
    return (assigned(counts), *identity(best))


def _or_nan(value: Any) -> float:
    return math.nan if value is None else float(value)


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan


def _within(low: float, value: float, high: float) -> float:
    """1 or 0; NaN where there is no interval or no value."""
    if math.isnan(low + value + high):
        return math.nan
    return float(low - 1e-9 <= value <= high + 1e-9)


# --- the figures -------------------------------------------------------------------------------------

_VIDEO_COLUMNS = (
    *("count_abs_error", "count_error", "count_in_interval", "missed_share", "extra_share"),
    *("purity", "completeness", "time_abs_error", "time_error", "person_time_abs_error_s"),
    *("women_people_counted_abs_error", "women_people_counted_error"),
    *("women_people_stated_abs_error", "women_people_stated_error"),
    *("women_time_counted_abs_error", "women_time_counted_error"),
    *("women_time_stated_abs_error", "women_time_stated_error"),
)
_COUNTED = ("true_people", "found_people", "missed", "extra")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was measured, and how right it was.

    Attributes:
        measured_on: ISO date.
        settings: How the material was analysed.
        sources: For each named path: `name`, `kind` (``pictures``, ``archive``, ``list``, ``videos``),
            `labelled` and `used` (faces, or videos), `unparsed` (names of pictures without labels), `failed`
            (sentences), and of pictures `unreadable` and `pictures_with_several_faces`.
        provenance: `models`, `libraries` and `python`, as in ``run.json``.
        faces: A table of the judged (see `analyzer.metrics`), one row a labelled face, with `source`, `name`
            and `face_female_prob`, the probability in the faces table.
        people: A table of the judged, one row a true person of a video, with `kind`.
        videos: One row a video: numbers, errors, `kind`.
        shares: One row a share that a run states and whose truth is known; empty where runs state none.
    """

    measured_on: str
    settings: Settings
    sources: tuple[dict[str, Any], ...]
    provenance: dict[str, Any]
    faces: pd.DataFrame
    people: pd.DataFrame
    videos: pd.DataFrame
    shares: pd.DataFrame

    @property
    def usable(self) -> bool:
        """Whether anything could be scored."""
        return bool(len(self.faces) or len(self.videos))

    @property
    def failed(self) -> tuple[str, ...]:
        """What could not be analysed, or only in part: a sentence each."""
        return tuple(sentence for source in self.sources for sentence in source["failed"])

    def to_dict(self) -> dict[str, Any]:
        """All figures as JSON values; absent numbers are None.

        Returns:
            ``schema_version``, ``analyzer_version``, ``measured_on``, ``settings``, ``changed_settings``
            (those that differ from the defaults), ``sources``, ``failed``, ``models``, ``libraries``,
            ``python``, and

            - ``faces`` (None without labelled pictures): ``labelled``, ``groups`` as of
              `metrics.group_scores`, ``calibration`` with ``faces`` (probabilities of the faces table) and
              ``people`` (of the people table, each picture being one sighting), as of `metrics.calibration`.
            - ``videos`` (None without labelled videos): ``kinds``, for ``all`` and for each kind the numbers
              ``videos``, ``true_people``, ``found_people``, ``missed``, ``extra`` and the figures below; and
              ``people``, like ``faces`` above, over the true people of all videos.

            A figure is ``{"value", "n", "low", "high"}``: a mean, of how many, its 95 % interval. Those of
            videos are means over videos, of

            - ``count_error``: (found people - true people) / true people; ``count_abs_error``: its size.
            - ``count_in_interval``: whether the true number lies within the run's `people_low` to
              `people_high`.
            - ``missed_share``, ``extra_share``: true people without a found one, found people without a true
              one, / true people.
            - ``purity``, ``completeness``: see `metrics.identity`.
            - ``time_error``: (found time on screen, summed over people - true) / true; ``time_abs_error``.
            - ``person_time_abs_error_s``: mean over matched people of |found - true| seconds on screen.
            - ``women_people_…``, ``women_time_…``: share of women among the people (among their time on
              screen) minus the true one: ``counted``, women / (women + men) of the people table, and
              ``stated``, the run's shares table; ``…_abs_error``: its size.
            - ``women_people_in_interval``, ``women_time_in_interval``: whether the true share lies within
              the stated interval.
            - ``age_people_abs_error``, ``age_people_in_interval`` and ``age_time_…`` likewise, means over
              all age bands of all videos.
        """
        document = {
            "schema_version": SCHEMA_VERSION,
            "analyzer_version": analyzer.__version__,
            "measured_on": self.measured_on,
            "settings": self.settings.to_dict(),
            "changed_settings": self._changed_settings(),
            "sources": [dict(source) for source in self.sources],
            "failed": list(self.failed),
            **self.provenance,
            "faces": None,
            "videos": None,
        }
        if len(self.faces):
            female = (self.faces["true_gender"] == "female").to_numpy()
            known = self.faces["true_gender"].ne("").to_numpy()
            several = self.faces["source"].nunique() > 1
            document["faces"] = {
                "labelled": len(self.faces),
                "groups": group_scores(self.faces, {"source": "source"} if several else None),
                "calibration": {
                    name: calibration(self.faces[column].to_numpy(np.float64)[known], female[known])
                    for name, column in (("faces", "face_female_prob"), ("people", "female_prob"))
                },
            }
        if len(self.videos):
            document["videos"] = {"kinds": self._kinds(), "people": self._people_scores()}
        plain: dict[str, Any] = _plain(document)
        return plain

    def markdown(self) -> str:
        """The page: what was measured on what, and the tables. It embeds the two pictures of `save`."""
        return _page(self.to_dict())

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write `OUTPUTS` into a folder, each under its name only when it is whole; the page comes last.

        Returns:
            Their paths.

        Raises:
            OutputError: They cannot be written, or matplotlib is not installed.
        """
        target = check_out(folder)
        document = self.to_dict()
        write_json(target / OUTPUTS[0], document)
        for name, draw in ((OUTPUTS[2], _draw_gender), (OUTPUTS[3], _draw_age)):
            drawing = draw(self, document)
            with writing(target / name) as temporary:
                drawing.savefig(temporary, format="png", dpi=150, metadata={"Software": None})
        with writing(target / OUTPUTS[1]) as temporary:
            temporary.write_text(_page(document), "utf-8")
        return [target / name for name in OUTPUTS]

    def _changed_settings(self) -> dict[str, Any]:
        defaults = Settings(video=False).to_dict()
        return {key: value for key, value in self.settings.to_dict().items() if value != defaults[key]}

    def _people_scores(self) -> dict[str, Any] | None:
        if self.people.empty:
            return None
        known = self.people[self.people["true_gender"].ne("")]
        female = known["true_gender"].eq("female").to_numpy()
        return {
            "labelled": len(self.people),
            "groups": group_scores(self.people, {"kind": "kind"}),
            "calibration": {"people": calibration(known["female_prob"].to_numpy(np.float64), female)},
        }

    def _kinds(self) -> dict[str, Any]:
        kinds = {"all": np.ones(len(self.videos), dtype=bool)}
        names = sorted(self.videos["kind"].unique())
        if len(names) > 1:
            kinds |= {name: self.videos["kind"].eq(name).to_numpy() for name in names}
        scores = {}
        for name, rows in kinds.items():
            videos = self.videos[rows]
            units = videos["unit"].tolist()
            scores[name] = {
                "videos": len(videos),
                **{key: int(videos[key].sum()) for key in _COUNTED},
                "without_boxes": int((~videos["with_boxes"]).sum()),
                **figures(videos[list(_VIDEO_COLUMNS)], units),
                **self._share_figures(set(units)),
            }
        return scores

    def _share_figures(self, units: set[int]) -> dict[str, Figure]:
        given: dict[str, Figure] = {}
        for name, dimension, groups in (("women", "gender", ("female",)), ("age", "age", None)):
            columns = [f"{what}_{how}" for what in ("people", "time") for how in ("abs_error", "in_interval")]
            if self.shares.empty:
                rows = pd.DataFrame(columns=[*columns, "unit"], dtype=np.float64)
            else:
                chosen = self.shares["dimension"].eq(dimension) & self.shares["unit"].isin(units)
                rows = self.shares[chosen & (self.shares["group"].isin(groups) if groups else True)]
            if name == "women":  # their errors are among those of the videos
                columns = [column for column in columns if column.endswith("in_interval")]
            some = figures(rows[columns], rows["unit"].tolist())
            given |= {f"{name}_{column}": figure for column, figure in some.items()}
        return given


def check_out(folder: str | os.PathLike[str]) -> Path:
    """Make a folder for `Evaluation.save`, and see before all the work that it will be able to write there.

    Raises:
        OutputError: It cannot be written to, or matplotlib is not installed.
    """
    target = Path(folder)
    if importlib.util.find_spec("matplotlib") is None:
        raise OutputError("the charts need matplotlib, which is not installed: pip install matplotlib")
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=target):
            pass
    except OSError as error:
        raise OutputError(
            f"the folder {target} cannot be written to ({error.strerror}): choose another with --out"
        ) from error
    return target


def _plain(value: Any) -> Any:
    """JSON values: figures as objects, NaN as None, numbers rounded to what they can mean."""
    match value:
        case Figure():
            return _plain(dataclasses.asdict(value))
        case dict():
            return {key: _plain(one) for key, one in value.items()}
        case list() | tuple():
            return [_plain(one) for one in value]
        case float():
            return round(value, 5) if math.isfinite(value) else None
    return value


# --- the page ----------------------------------------------------------------------------------------

_FORMS = {
    "percent": ("{:.1f}", 100, " %"),
    "signed percent": ("{:+.1f}", 100, " %"),
    "points": ("{:.1f}", 100, " points"),
    "signed points": ("{:+.1f}", 100, " points"),
    "years": ("{:.1f}", 1, " years"),
    "signed years": ("{:+.1f}", 1, " years"),
    "seconds": ("{:.1f}", 1, " s"),
}
JUDGED_FIGURES = (
    ("found", "found", "percent"),
    ("gender_right", "gender right, where stated", "percent"),
    ("gender_unknown", "gender unknown", "percent"),
    ("likelier_right", "likelier gender right", "percent"),
    ("age_abs_error", "age, mean absolute error", "years"),
    ("age_error", "age, mean error", "signed years"),
    ("age_in_interval", "true age in the 80 % interval", "percent"),
    ("adience_exact", "Adience band right", "percent"),
    ("adience_one_off", "Adience band right or next to it", "percent"),
)
"""Key in the document, words for it, form."""
VIDEO_FIGURES = (
    ("count_abs_error", "error of the number of people", "percent"),
    ("count_error", "the same with its sign", "signed percent"),
    ("count_in_interval", "true number within the stated range", "percent"),
    ("missed_share", "true people without a found one, share", "percent"),
    ("extra_share", "found people without a true one, share of the true number", "percent"),
    ("purity", "purity of the found people", "percent"),
    ("completeness", "completeness of the found people", "percent"),
    ("time_abs_error", "error of the time on screen, all people together", "percent"),
    ("time_error", "the same with its sign", "signed percent"),
    ("person_time_abs_error_s", "error of the time on screen of one person", "seconds"),
    ("women_people_counted_abs_error", "women among people, counted: error", "points"),
    ("women_people_counted_error", "the same with its sign", "signed points"),
    ("women_people_stated_abs_error", "women among people, as stated: error", "points"),
    ("women_people_stated_error", "the same with its sign", "signed points"),
    ("women_people_in_interval", "women among people: truth within the stated interval", "percent"),
    ("women_time_counted_abs_error", "women in time on screen, counted: error", "points"),
    ("women_time_counted_error", "the same with its sign", "signed points"),
    ("women_time_stated_abs_error", "women in time on screen, as stated: error", "points"),
    ("women_time_stated_error", "the same with its sign", "signed points"),
    ("women_time_in_interval", "women in time on screen: truth within the stated interval", "percent"),
    ("age_people_abs_error", "age bands among people, as stated: error", "points"),
    ("age_people_in_interval", "age bands among people: truth within the stated interval", "percent"),
    ("age_time_abs_error", "age bands in time on screen, as stated: error", "points"),
    ("age_time_in_interval", "age bands in time on screen: truth within the stated interval", "percent"),
)


def figure_text(figure: dict[str, Any], form: str, *, short: bool = False) -> str:
    """A figure of the document for people, short with its number alone; empty where nothing was measured.

    >>> figure = {"value": 0.921, "n": 310, "low": 0.91, "high": 0.932}
    >>> figure_text(figure, "percent"), figure_text(figure, "percent", short=True)
    ('92.1 % (91.0 to 93.2; n 310)', '92.1 % (310)')
    """
    if figure["value"] is None:
        return ""
    number, factor, unit = _FORMS[form]
    value, low, high = (
        None if figure[key] is None else re.sub(r"^-(0\.0)$", r"\1", number.format(factor * figure[key]))
        for key in ("value", "low", "high")
    )
    if short:
        return f"{value}{unit} ({figure['n']})"
    between = "" if low is None or high is None else f"{low} to {high}; "
    return f"{value}{unit} ({between}n {figure['n']})"


def _cell(text: object) -> str:
    """Text from elsewhere for one cell of a table of the page."""
    plain = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in str(text))
    return re.sub(r"([|\\`*<>\[\]])", r"\\\1", plain)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["", *("| " + " | ".join(line) + " |" for line in lines), ""]


def _page(document: dict[str, Any]) -> str:
    lines = [
        "# Accuracy",
        "",
        f"Written by `python cli.py evaluate`, version {document['analyzer_version']}, on "
        f"{document['measured_on']}. The",
        "material was analysed as `analyze` does it, and what came out was set against its labels. The",
        "estimates say how people look to the networks, never what they are; the labels of public sets are",
        "in part estimates too.",
        *_page_of_sources(document),
    ]
    faces, videos = document["faces"], document["videos"]
    if faces is not None:
        lines += ["## Single faces", ""]
        lines += ["Labelled pictures, each face seen once.", ""]
        lines += _judged_tables(faces, "faces")
    if videos is not None:
        lines += ["## Videos", "", *_page_of_videos(videos)]
        if videos["people"] is not None:
            lines += ["## People in videos", ""]
            lines += ["Over the true people of all videos; who was missed is only part of the share found."]
            lines += _judged_tables(videos["people"], "people")
    lines += [
        "## Charts",
        "",
        "![Stated probability of female against the observed share of women](accuracy-gender.png)",
        "",
        "![True against estimated age, and how often the 80 % interval holds the true age](accuracy-age.png)",
        "",
        "## How to read it",
        "",
        "- *Gender right* counts those whose gender is stated; *unknown* is the share of the found for whom",
        "  it is not. *Likelier gender right* takes the likelier one, however unsure, as published figures",
        "  do.",
        "- *Mean error* of age: negative where people are taken for too young.",
        f"- *{ADULT_FROM_YEARS}+*: labelled {ADULT_FROM_YEARS} or older. Below, gender can hardly be seen.",
        "- *Adience band*: each age, true and estimated, is given to the nearest of the eight bands "
        + ", ".join(band.name for band in AGE_BANDS["adience"])
        + ".",
        "- *Calibration error*: the mean difference between how sure the networks say they are and how",
        "  often they are right, over ten bins of confidence from 50 to 100 %.",
        "- Width of a face: that of the found face in the picture, in pixels.",
        "- Of several faces found in a labelled picture, the one meant is the one with the largest width x",
        "  (1 - d / D), d being the distance of its centre from the picture's and D that of a corner; where",
        f"  the label has a box, the one that overlaps it (IoU of at least {MATCH_IOU}).",
        "- People in videos are matched one to one by where they are, or without boxes by when; gender and",
        "  age play no part. *Purity* is lower where two humans got one number, *completeness* where one",
        "  human got several.",
        "- Intervals are from a bootstrap over pictures, or over videos; of fewer than "
        f"{MIN_UNITS} none is given.",
    ]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)) + "\n"


def _page_of_sources(document: dict[str, Any]) -> list[str]:
    lines = ["", "## What was measured, on what"]
    rows = []
    for source in document["sources"]:
        unit = "videos" if source["kind"] == "videos" else "faces"
        remarks = []
        if source["unparsed"]:
            shown = ", ".join(source["unparsed"][:5]) + (" …" if len(source["unparsed"]) > 5 else "")
            remarks.append(f"{len(source['unparsed'])} pictures without a label in their name: {shown}")
        if source.get("unreadable"):
            remarks.append(f"{source['unreadable']} faces in pictures that could not be read")
        if source.get("pictures_with_several_faces"):
            remarks.append(f"{source['pictures_with_several_faces']} pictures with several faces found")
        if source["failed"]:
            remarks.append(f"{len(source['failed'])} could not be analysed, or only in part")
        used = f"{source['used']} of {source['labelled']} {unit}"
        rows.append([_cell(source["name"]), source["kind"], used, _cell("; ".join(remarks))])
    lines += _table(["source", "kind", "used", "remarks"], rows)
    changed = ", ".join(f"`{key}` = {_cell(value)}" for key, value in document["changed_settings"].items())
    lines += [f"Settings that differ from the defaults: {changed or 'none'}.", "", "Networks:"]
    lines += _table(
        ["role", "network", "SHA-256", "licence"],
        [
            [model["role"], f"`{model['name']}`", f"`{model['sha256'][:16]}…`", model["licence"]]
            for model in document["models"] or ()
        ],
    )
    libraries = ", ".join(f"{name} {version}" for name, version in (document["libraries"] or {}).items())
    return [*lines, f"Python {document['python']}; {libraries}.", ""]


def _judged_tables(scores: dict[str, Any], noun: str) -> list[str]:
    groups = scores["groups"]
    lines = ["In brackets: the 95 % interval, where one is given, and of how many (n)."]
    heads = {"all": f"all {noun}", "13+": f"{noun} of {ADULT_FROM_YEARS} years and older"}
    for columns in (groups["all"], groups["gender"]):
        rows = [
            [words, *(figure_text(one[key], form) for one in columns.values())]
            for key, words, form in JUDGED_FIGURES
        ]
        lines += _table(["", *(heads.get(name, name) for name in columns)], rows) if columns else []
    names = {"faces": "faces, as in the faces table", "people": "people, as in the people table"}
    of = scores["calibration"]
    if "faces" in of and of["faces"] == of["people"]:
        of, names = {"faces": of["faces"]}, {"faces": "faces"}
    for key, one in of.items():
        if one["n"]:
            points = f"{100 * one['ece']:.1f} points (n {one['n']})"
            lines.append(f"Calibration error of the probability of gender, of {names[key]}: {points}.")
            lines.append("")
    titles = {"age": "true age", "width": "width of the face in pixels"}
    lines.append("In the tables below, the number in brackets says of how many.")
    for way in ("age", "width", *sorted(groups.keys() - {"all", "gender", "age", "width"})):
        listed = [column for column in JUDGED_FIGURES if way != "width" or column[0] != "found"]
        rows = [
            [_cell(name), *(figure_text(one[key], form, short=True) for key, _, form in listed)]
            for name, one in groups[way].items()
        ]
        lines += _table([titles.get(way, way), *(words for _, words, _ in listed)], rows) if rows else []
    return lines


def _page_of_videos(videos: dict[str, Any]) -> list[str]:
    kinds = videos["kinds"]
    only = next(iter(kinds.values()))
    lines = [
        "Means over videos, with the 95 % interval where one is given and the number n. *Counted* is what",
        "the people table gives, *as stated* what the shares table gives, with its own 95 % intervals.",
    ]
    if only["without_boxes"]:
        lines.append(
            f"In {only['without_boxes']} videos people were matched by time alone: their truth has no boxes."
        )
    rows = [
        ["videos", *(str(one["videos"]) for one in kinds.values())],
        *(
            [words, *(str(one[key]) for one in kinds.values())]
            for key, words in (
                ("true_people", "true people"),
                ("found_people", "found people"),
                ("missed", "true people without a found one, number"),
                ("extra", "found people without a true one, number"),
            )
        ),
    ]
    for key, words, form in VIDEO_FIGURES:
        cells = [figure_text(one[key], form) for one in kinds.values()]
        if any(cells):
            rows.append([words, *cells])
    return lines + _table(["", *(_cell(name) for name in kinds)], rows)


# --- the charts --------------------------------------------------------------------------------------

# From the palette of Okabe and Ito: told apart with any colour vision, and in grey by lightness and mark.
_BLUE, _ORANGE, _GREY = "#0072B2", "#E69F00", "#555555"
_SERIES = (("faces", "single faces", _BLUE, "o"), ("people", "people in videos", _ORANGE, "s"))


def _drawing(width_in: float, height_in: float) -> Drawing:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(drawing)
    return drawing


def _calm(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#DDDDDD", linewidth=0.7)
    axes.set_axisbelow(True)


def _draw_gender(evaluation: Evaluation, document: dict[str, Any]) -> Drawing:
    """Stated probability of female against the observed share of women, over their counts."""
    del evaluation
    drawing = _drawing(6.4, 7.2)
    above, below = drawing.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    above.plot([0, 1], [0, 1], color=_GREY, linewidth=1, linestyle="--", label="as stated", zorder=1)
    people = (document["videos"] or {}).get("people")
    series = {
        "faces": document["faces"] and document["faces"]["calibration"]["faces"],
        "people": people and people["calibration"]["people"],
    }
    drawn = [(words, colour, mark, series[key]) for key, words, colour, mark in _SERIES]
    drawn = [one for one in drawn if one[3] and one[3]["n"]]
    for place, (words, colour, mark, one) in enumerate(drawn):
        bins = [each for each in one["by_female_prob"] if each["n"]]
        stated, observed, counts = (
            np.array([each[key] for each in bins]) for key in ("stated", "observed", "n")
        )
        low, high = _wilson(observed, counts)
        above.errorbar(
            stated,
            observed,
            yerr=(observed - low, high - observed),
            color=colour,
            marker=mark,
            markersize=6,
            linewidth=0.8,
            elinewidth=1,
            capsize=3,
            label=f"{words}: n {one['n']}, calibration error {100 * one['ece']:.1f} points",
        )
        width = 0.08 / len(drawn)
        middles = np.array([(each["low"] + each["high"]) / 2 for each in bins])
        shifts = middles + (place - (len(drawn) - 1) / 2) * width
        bars = below.bar(shifts, counts, width=width, color=colour, edgecolor="black", linewidth=0.4)
        below.bar_label(bars, labels=[str(count) for count in counts], fontsize=7, padding=1)
    _calm(above)
    _calm(below)
    above.set_ylabel("observed share of women")
    above.set_ylim(-0.02, 1.02)
    drawing.legend(*above.get_legend_handles_labels(), loc="outside upper center", frameon=False, fontsize=9)
    above.set_title("Observed share of women, with 95 % intervals", fontsize=11)
    below.set_xlabel("stated probability of female")
    below.set_ylabel("number")
    below.set_xlim(-0.02, 1.02)
    below.set_xticks(np.linspace(0, 1, 11))
    below.margins(y=0.25)
    if drawn:
        below.set_yscale("log")
        below.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        below.set_ylim(0.7, 5 * max(each["n"] for *_, one in drawn for each in one["by_female_prob"]))
    return drawing


def _wilson(share: NDArray[np.float64], number: NDArray[np.float64]) -> tuple[Any, Any]:
    """95 % interval of shares of `number` each."""
    z = 1.96
    middle = (share + z**2 / (2 * number)) / (1 + z**2 / number)
    half = z / (1 + z**2 / number) * np.sqrt(share * (1 - share) / number + z**2 / (4 * number**2))
    return np.minimum(middle - half, share), np.maximum(middle + half, share)


def _draw_age(evaluation: Evaluation, document: dict[str, Any]) -> Drawing:
    """True against estimated age, and how often the 80 % interval holds the true age by age band."""
    drawing = _drawing(10.5, 5.2)
    left, right = drawing.subplots(1, 2, width_ratios=(1.15, 1))
    left.plot([0, 100], [0, 100], color=_GREY, linewidth=1, linestyle="--", label="true age", zorder=1)
    names = [band.name for band in AGE_BANDS["youtube"]]
    groups: dict[str, dict[str, Any]] = {
        "faces": (document["faces"] or {}).get("groups", {}),
        "people": ((document["videos"] or {}).get("people") or {}).get("groups", {}),
    }
    tables = {"faces": evaluation.faces, "people": evaluation.people}
    shown = [one for one in _SERIES if groups[one[0]] and tables[one[0]]["age_years"].notna().any()]
    for place, (key, words, colour, mark) in enumerate(shown):
        known = tables[key].dropna(subset=["age_years", "true_age"])
        true, age = known["true_age"].to_numpy(), known["age_years"].to_numpy()
        # True ages are whole years: moved a little aside, each point shows.
        aside = np.random.default_rng(0).uniform(-0.4, 0.4, len(true))
        faint = float(np.clip(250 / max(len(true), 1), 0.12, 0.7))
        left.scatter(true + aside, age, s=9, marker=mark, color=colour, alpha=faint, linewidths=0)
        label = f"{words}: median and middle 80 % (n {len(true)})"
        shift = 0.8 * (place - (len(shown) - 1) / 2)
        _draw_medians(left, true, age, shift, colour=colour, mark=mark, words=label)
        rows = [groups[key]["age"].get(name, {}).get("age_in_interval") for name in names]
        for at, row in enumerate(rows):
            if row is None or row["value"] is None:
                continue
            height = 0.8 / len(shown)
            y = at + (place - (len(shown) - 1) / 2) * height
            right.barh(y, row["value"], height=0.9 * height, color=colour, edgecolor="black", linewidth=0.4)
            right.text(1.02, y, f"n {row['n']}", va="center", fontsize=8)
    _calm(left)
    _calm(right)
    left.set(xlabel="true age in years", ylabel="estimated age in years", xlim=(0, 100), ylim=(0, 100))
    left.set_title("True and estimated age", fontsize=11)
    left.legend(loc="upper left", frameon=False, fontsize=9)
    right.axvline(0.8, color="black", linewidth=1.2, linestyle="--")
    right.set_yticks(range(len(names)), names)
    right.set(xlim=(0, 1.15), ylim=(-0.6, len(names) - 0.4))
    right.set_xticks(np.linspace(0, 1, 6), [f"{share:.0f} %" for share in np.linspace(0, 100, 6)])
    right.set(xlabel="true age within the stated 80 % interval", ylabel="true age band")
    right.set_title("Does the 80 % interval hold 80 %?", fontsize=11)
    return drawing


def _draw_medians(
    axes: Axes,
    true: NDArray[np.float64],
    age: NDArray[np.float64],
    shift: float,
    *,
    colour: str,
    mark: str,
    words: str,
) -> None:
    """Median and middle 80 % of the estimates of each five years of true age that has enough of them.

    They are drawn `shift` years aside, so that those of two series do not hide each other.
    """
    steps = np.floor(true / 5).astype(np.int64)
    points = [
        (float(true[steps == step].mean()) + shift, *np.percentile(age[steps == step], (10, 50, 90)))
        for step in np.unique(steps)
        if (steps == step).sum() >= MIN_UNITS
    ]
    if not points:
        axes.plot([], [], color=colour, marker=mark, linestyle="none", label=words.partition(":")[0])
        return
    x, low, middle, high = np.array(points).T
    axes.errorbar(
        x,
        middle,
        yerr=(middle - low, high - middle),
        color="black",
        marker=mark,
        markerfacecolor=colour,
        markersize=6,
        linestyle="none",
        elinewidth=1,
        capsize=3,
        label=words,
        zorder=3,
    )
