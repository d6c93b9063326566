"""Fit the calibration of a set of models on anybody's labeled faces: error bars and shares for any network.

Each face is shown as it is, as in a photograph and as in videos (`analyzer.evaluation.views`), found, aligned
and estimated as by `analyze`. What the figures say "after" is read by calibrations that were fitted to the
other four fifths of the faces; the one that is written is fitted to all.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analyzer.errors import OutputError, SettingsError, SourceError, SourceErrorKind
from analyzer.evaluation.corrected import confirmed_faces
from analyzer.evaluation.fitting import EXPLAINED, People, fit, read_across
from analyzer.evaluation.labels import read_labels
from analyzer.evaluation.metrics import GENDERS, Figure, calibration, group_scores
from analyzer.evaluation.scoring import check_out
from analyzer.evaluation.views import LabeledFace, View, Viewer
from analyzer.events import OnEvent, Progress
from analyzer.faces import FaceEstimates, face_widths
from analyzer.people.fusion import stated_genders
from analyzer.settings import AgeBand, Settings, assign_band
from analyzer.util.atomic import paths_of, writing
from analyzer.util.text import counted, well_formed
from analyzer.vision import registry
from analyzer.vision.calibration import Calibration, Readings, key_of, own_file
from analyzer.vision.reader import CropReader
from analyzer.vision.selection import Choice, choose

__all__ = ["LEAST_OF_A_BAND", "LEAST_OF_A_GENDER", "Calibrated", "calibrate", "rows_of", "write_calibration"]

_NOUNS = dict(zip(GENDERS, ("women", "men"), strict=True))
LEAST_OF_A_GENDER, LEAST_OF_A_BAND = 100, 30
"""Fewer faces of a gender, or of an age band of which there are any, are not enough."""


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A calibration that was fitted, and what it is worth."""

    path: Path
    """Its file."""
    key: str
    """Of the set of models that it holds for."""
    content: dict[str, Any]
    """Of the file."""
    faces: int
    """How many labeled faces were found and used."""
    left_out: int
    """How many were not found, or could not be read."""
    missing_bands: tuple[str, ...]
    """Age bands without labeled faces: nothing is known of them."""
    before: pd.DataFrame
    """A table of estimates (`analyzer.evaluation.metrics`): each face as it is, as in a photograph and
    as in two videos, as the set of models was read until now."""
    after: pd.DataFrame
    """The same, read by calibrations that were fitted to other faces."""

    def to_dict(self) -> dict[str, Any]:
        """The figures before and after, as JSON values.

        ``before`` and ``after`` have the groups of `metrics.group_scores` and ``gender_ece``, see
        `metrics.calibration`.
        """
        facts = {name: self.content[name] for name in ("fitted_on", "license", "commercial_use", "members")}
        return {
            "path": str(self.path),
            "key": self.key,
            **facts,
            "faces": self.faces,
            "left_out": self.left_out,
            "missing_bands": list(self.missing_bands),
            "before": _figures(self.before),
            "after": _figures(self.after),
        }


def calibrate(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    settings: Settings | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    license_text: str = "",
    commercial_use: bool | None = None,
    on_event: OnEvent = lambda event: None,
) -> Calibrated:
    """Fit how the answers of the models that `settings` names are read, and write that beside them.

    Args:
        paths: Labeled images, see `analyzer.evaluation.labels`.
        settings: Name the models and the age bands.
        out: Folder to write to; None: that of the user's own model, else the cache of models.
        limit: At most this many faces of each of `paths`; None: all.
        license_text: Of the labeled faces.
        commercial_use: Whether it allows commercial use; None: it is not clear. With `Settings.commercial`
            a calibration is only used if it does.
        on_event: Called with `Progress`.

    Raises:
        SettingsError: There is no detector; or the set of models comes with a calibration, which a file of
            the user's would not replace, and `out` is not given.
        SourceError: A path is not labeled images, or there are too few.
        ModelError: A model is missing, damaged or fails.
        OutputError: The file cannot be written.
    """
    chosen = (settings or Settings()).replace(min_estimate_px=1)
    if chosen.detector == registry.NONE.name:
        raise SettingsError(
            "a calibration takes a detector: labeled faces are shown together, and must be found"
        )
    choice = choose(chosen)
    members = choice.members()
    key = key_of(members)
    folder = check_out(_folder(choice, key) if out is None else out)
    with tempfile.TemporaryDirectory(prefix="calibrate-", ignore_cleanup_errors=True) as work:
        labels, names = _labels(paths, Path(work), limit)
        _check_enough(labels["true_gender"], labels["true_age"], chosen.bands)
        faces = pd.DataFrame(_estimated(labels, chosen, on_event))
    each = faces.drop_duplicates("name") if len(faces) else labels.head(0)
    _check_enough(each["true_gender"], each["true_age"], chosen.bands)
    people = People.of(faces)
    content: dict[str, Any] = {
        "explained": EXPLAINED,
        "members": members,
        "fitted_on": _fitted_on(each, names),
        "license": license_text,
        "commercial_use": commercial_use,
        **fit(people),
    }
    present = choice.calibration()
    fitted = replace(present, child_years=content["child_years"])
    found = set(_bands(each["true_age"], chosen.bands))
    return Calibrated(
        path=write_calibration(folder / f"{key}.json", content),
        key=key,
        content=content,
        faces=len(each),
        left_out=len(labels) - len(each),
        missing_bands=tuple(band.name for band in chosen.bands if band.name not in found),
        before=_table(people, people.read(present), chosen, present),
        after=_table(people, read_across(people), chosen, fitted),
    )


def write_calibration(path: Path, content: dict[str, Any]) -> Path:
    """Write the file of a calibration, with a line for each name.

    Raises:
        OutputError: It cannot be written.
    """
    lines = [f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in content.items()]
    try:
        with writing(path) as temporary:
            temporary.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error
    return path


def _folder(choice: Choice, key: str) -> Path:
    """Where the calibration of a set belongs."""
    if own_file(key) is not None:
        raise SettingsError(
            "these models come with a calibration, which a file of yours would not replace: choose other "
            "models, or write the file elsewhere with --out"
        )
    return next(iter(choice.folders), registry.cache_folder())


def _labels(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], work: Path, limit: int | None
) -> tuple[pd.DataFrame, list[str]]:
    """The labels of all images, each face with a name of its own; and the names of their sources."""
    tables, names = [], []
    for number, path in enumerate(dict.fromkeys(one.absolute() for one in paths_of(paths))):
        try:
            material = read_labels(path, work / str(number), limit)
        except OSError as error:
            raise OutputError(
                f"{well_formed(str(path))} could not be unpacked ({error}): "
                "is there space in the temporary folder (TMPDIR)?"
            ) from error
        faces = material.faces
        if material.corrected:
            cut = [
                confirmed_faces(run, _made(work, number, place))
                for place, run in enumerate(material.corrected)
            ]
            faces = pd.concat(cut, ignore_index=True)
        if faces is None:
            raise SourceError(
                f"{well_formed(str(path))}: a calibration is fitted to labeled images or corrected "
                "runs, not to videos",
                kind=SourceErrorKind.UNSUPPORTED,
                source=well_formed(str(path)),
            )
        tables.append(faces)
        names.append(material.about["name"])
    if not tables:
        raise SettingsError("there is nothing to calibrate with: give labeled images")
    labels = pd.concat(tables, ignore_index=True)
    return labels.assign(name=labels["name"] + "#" + labels.index.astype(str)), names


def _made(work: Path, number: int, place: int) -> Path:
    folder = work / f"corrected-{number}-{place}"
    folder.mkdir(parents=True)
    return folder


def _check_enough(genders: pd.Series, ages: pd.Series, bands: tuple[AgeBand, ...]) -> None:
    """
    Raises:
        SourceError: There are too few labeled faces of a gender, or of an age band of which there are any.
    """
    of_gender = Counter(genders)
    of_band = Counter(_bands(ages, bands))
    few = [
        f"{of_gender[gender]} {_NOUNS[gender]}" for gender in GENDERS if of_gender[gender] < LEAST_OF_A_GENDER
    ]
    known = [band.name for band in bands if of_band[band.name]]
    few += [f"{of_band[name]} of {name} years" for name in known if of_band[name] < LEAST_OF_A_BAND]
    if few or not known:
        raise SourceError(
            f"too few labeled faces: a calibration takes {LEAST_OF_A_GENDER} of each gender and "
            f"{LEAST_OF_A_BAND} of each age band that occurs, and here are "
            + (", ".join(few) if few else "no ages")
            + ": label more, or choose wider bands with --age-bands",
            kind=SourceErrorKind.OTHER,
            source="",
        )


def _bands(ages: pd.Series, bands: tuple[AgeBand, ...]) -> list[str]:
    return [assign_band(age, bands) for age in ages.dropna()]


def _fitted_on(faces: pd.DataFrame, names: list[str]) -> str:
    """The faces, in words."""
    low, high = faces["true_age"].min(), faces["true_age"].max()
    of = f"{counted(len(faces), 'face')} of {', '.join(names)} ({low:.0f} to {high:.0f} years)"
    return f"{of}, as they are and as in photographs and videos"


def _estimated(labels: pd.DataFrame, settings: Settings, on_event: OnEvent) -> Iterator[dict[str, Any]]:
    """A row for each face that was found in a view, with its label, as `People.of` takes them."""
    viewer, reader = Viewer(settings), CropReader.load(settings, embeddings=False)
    done = 0

    def counting() -> Iterator[LabeledFace]:
        nonlocal done
        for face in viewer.cut(labels):
            done += 1
            yield face

    for view in viewer.views(counting(), plain=True):
        yield from rows_of(view, reader.read_uncalibrated(reader.crops(view.frame, view.faces)))
        on_event(Progress("", "faces", done, len(labels), done, done, images=True))


def rows_of(view: View, read: FaceEstimates) -> Iterator[dict[str, Any]]:
    """A row for each face of a view, with its label, as `People.of` takes them.

    Args:
        view: Faces, aligned.
        read: What is estimated of them, not calibrated.
    """
    widths = face_widths(view.faces.boxes)
    for row, face in enumerate(view.people):
        yield {
            "name": face.name,
            "view": view.kind,
            "true_age": face.age_years,
            "true_gender": face.gender,
            "x1": 0.0,
            "x2": float(widths[row]),
            "score": float(view.faces.scores[row]),
            "quality": float(view.faces.quality[row]),
            "female_prob": float(read.female_prob[row]),
            "age_years": float(read.age_years[row]),
            "age_std_years": float(read.age_std_years[row]),
        }


def _table(people: People, read: Readings, settings: Settings, rules: Calibration) -> pd.DataFrame:
    """A table of estimates."""
    return pd.DataFrame(
        {
            "true_gender": people.gender,
            "true_age": people.age,
            "found": True,
            "gender": stated_genders(read.female_prob, read.age_years, settings, rules),
            "female_prob": read.female_prob,
            "age_years": read.age_years,
            "age_low": read.low_years,
            "age_high": read.high_years,
            "face_px": np.nan,
            "unit": people.names,
        }
    )


def _figures(table: pd.DataFrame) -> dict[str, Any]:
    groups = {
        way: {name: {key: _figure(one) for key, one in scores.items()} for name, scores in some.items()}
        for way, some in group_scores(table).items()
        if way != "width"
    }
    labeled = table[table["true_gender"] != ""]
    ece = calibration(labeled["female_prob"], labeled["true_gender"] == "female")["ece"]
    return {**groups, "gender_ece": ece}


def _figure(figure: Figure) -> dict[str, Any]:
    return {"value": None if np.isnan(figure.value) else figure.value, "n": figure.n}
