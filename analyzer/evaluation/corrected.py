"""Runs that were corrected by hand, as labeled material.

Whoever corrects a run has checked its people: the corrected people are the truth, and the same tables
without the corrections are what is scored. Nothing is analyzed for that, and the video is not needed.
Genders and ages are true only where a correction confirms them; whoever was left out counts on neither side.
For a calibration, confirmed faces are cut from the video.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from analyzer.errors import SourceError, SourceErrorKind
from analyzer.evaluation.labels import BOX, TrueVideo
from analyzer.evaluation.metrics import GENDERS
from analyzer.output.crops import best_faces, frames_at
from analyzer.people.confirmed import CONFIRMED
from analyzer.runs.corrections import Corrections, read_corrections
from analyzer.runs.rederive import check_correctable, found_of, write_again
from analyzer.runs.run import Run
from analyzer.settings import Settings
from analyzer.sources.local import local_identity
from analyzer.util.text import well_formed

__all__ = ["CorrectedRun", "confirmed_faces", "corrected_run"]

_MARGIN = 1.0
"""A cut image shows so much around a face, as a share of its longer side, that a detector finds it again."""


@dataclass(frozen=True, eq=False)
class CorrectedRun:
    """A corrected run as labeled material."""

    truth: TrueVideo
    """Its people after the corrections; `path` is that of its ``run.json``."""
    before: Run
    """The run without its corrections."""
    confirmed: dict[str, int]
    """`confirmed_genders` and `confirmed_ages`: how many."""

    @property
    def settings(self) -> Settings:
        """Those that it was analyzed with."""
        return Settings(**self.before.info["settings"])


def corrected_run(folder: Path, work: Path) -> CorrectedRun:
    """Return a corrected run as it is and as it was before.

    Args:
        folder: The run's.
        work: A folder that does not exist yet.

    Raises:
        OutputError: Its tables cannot be derived again.
    """
    run = Run.load(folder)
    check_correctable(run)
    found = found_of(run)
    corrections = read_corrections(folder)
    applied = corrections.apply(found.faces, found.samples)
    linked = np.where(applied.left_out, -1, found.faces["linked_person_id"])
    low, high, reason = found.people_range
    gone = len(set(found.faces["linked_person_id"]) - set(linked))
    remaining = dataclasses.replace(
        found,
        faces=found.faces.assign(linked_person_id=linked),
        people_range=(max(0, low - gone), max(0, high - gone), reason),
    )
    tables = {name: work / name for name in ("before", "after")}
    for each in tables.values():
        each.mkdir(parents=True)
    write_again(run, remaining, Corrections(), tables["before"])
    # Derived now: a correction may have been interrupted before the run's own tables followed.
    write_again(run, found, corrections, tables["after"])
    after = Run.load(tables["after"])
    return CorrectedRun(
        TrueVideo(folder / "run.json", "corrected", *_truth(after)),
        Run.load(tables["before"]),
        _confirmed(after),
    )


def _truth(run: Run) -> tuple[pd.DataFrame, list[Any]]:
    """The people of a corrected run as of `TrueVideo`, and their boxes."""
    people = run.people.reset_index(drop=True)
    gender = people["gender"].where(
        people["gender_source"].eq(CONFIRMED) & people["gender"].isin(GENDERS), ""
    )
    exact = people["age_source"].eq(CONFIRMED) & people["age_low"].eq(people["age_high"])
    table = pd.DataFrame(
        {
            "true_gender": gender,
            "true_age": people["age_years"].astype(np.float64).where(exact, math.nan),
            **{name: people[name] for name in ("first_s", "last_s", "on_screen_s")},
        }
    )
    of_person = dict(list(run.faces.groupby("person_id")))
    rows = ["time_s", *BOX]
    return table, [of_person[person][rows].to_numpy(np.float64) for person in people["person_id"]]


def _confirmed(run: Run) -> dict[str, int]:
    people = run.people
    return {
        "confirmed_genders": int(people["gender_source"].eq(CONFIRMED).sum()),
        "confirmed_ages": int(people["age_source"].eq(CONFIRMED).sum()),
    }


def confirmed_faces(folder: Path, work: Path) -> pd.DataFrame:
    """Cut one face of each person whose gender or age is confirmed from the video of a run.

    Args:
        folder: The run's.
        work: Folder for the images.

    Returns:
        Labeled faces, as of `analyzer.evaluation.labels.Material`.

    Raises:
        SourceError: The video is gone or was changed.
        MediaError: It cannot be read.
        OutputError: The tables of the run cannot be derived again.
    """
    truth = corrected_run(folder, work / "tables").truth
    run = Run.load(work / "tables" / "after")
    known = truth.people["true_gender"].ne("") | truth.people["true_age"].notna()
    labels = truth.people.assign(person_id=run.people["person_id"])[known].set_index("person_id")
    faces = best_faces(run.faces[run.faces["person_id"].isin(labels.index)], 1)
    rows: list[dict[str, Any]] = []
    settings = Settings(**run.info["settings"])
    times = sorted(set(faces["time_s"].tolist()))
    with contextlib.closing(frames_at(_video(folder, run), settings, times, images=False)) as frames:
        for time_s, frame in frames:
            image = frame.image()
            for face in faces[faces["time_s"] == time_s].to_dict("records"):
                box = np.array([face[name] for name in BOX], np.float64)
                reach = _MARGIN * float((box[2:] - box[:2]).max())
                left, top = np.maximum(box[:2] - reach, 0).astype(int)
                right, bottom = np.ceil(box[2:] + reach).astype(int)
                path = work / f"person-{face['person_id']}.png"
                cv2.imwrite(str(path), image[top:bottom, left:right])
                person = labels.loc[face["person_id"]]
                rows.append(
                    {
                        "path": path,
                        "name": f"{folder.name} {face['person_id']}",
                        "true_gender": person["true_gender"],
                        "true_age": person["true_age"],
                        "true_race": "",
                        "person": "",
                        **dict(zip(BOX, (box - [left, top, left, top]).tolist(), strict=True)),
                    }
                )
    return pd.DataFrame(rows)


def _video(folder: Path, run: Run) -> Path:
    """The video of a run.

    Raises:
        SourceError: It is gone or was changed.
    """
    source = Path(run.info["source"])
    downloaded = [folder / Path(name).name for name in run.info["download"] or ()]
    for path in (*downloaded[:1], source):
        with contextlib.suppress(OSError, SourceError):
            if path.is_file() and (path != source or local_identity((path,))[0] == run.info["video_id"]):
                return path
    raise SourceError(
        f"{well_formed(str(folder))}: its video is gone or was changed, and a calibration needs the "
        "faces in it: put it back where it was analyzed",
        kind=SourceErrorKind.NOT_FOUND,
        source=well_formed(str(folder)),
    )
