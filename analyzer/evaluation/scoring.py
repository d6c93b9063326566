"""Score the installed models on labeled material, with the same code as `analyze`.

A found face is matched to a labeled one by the best one-to-one assignment by IoU (at least `MATCH_IOU`) where
the label has a box; otherwise, of several faces in an image, `central_face` is the labeled one. A found
person is matched to a true one by the one-to-one assignment with the most samples in which the boxes overlap,
where there are boxes; otherwise by the largest overlap of the stretches on screen. Gender and age are never
used for matching.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import math
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import analyzer
from analyzer.api import analyze_all
from analyzer.errors import OutputError, SettingsError
from analyzer.evaluation.corrected import CorrectedRun, corrected_run
from analyzer.evaluation.described import (
    KINDS,
    Described,
    described_scores,
    estimates_of,
    score_described,
)
from analyzer.evaluation.labels import BOX, Material, TrueVideo, read_labels
from analyzer.evaluation.metrics import (
    MATCH_IOU,
    Figure,
    assigned,
    bias,
    box_matches,
    calibration,
    figures,
    group_scores,
    identity,
    known_shares,
    span_matches,
)
from analyzer.evaluation.page import page
from analyzer.events import Event, Failed, OnEvent, Started
from analyzer.faces import iou
from analyzer.media.images import ImageReader
from analyzer.runs.run import Run
from analyzer.runs.tables import write_json
from analyzer.settings import Settings
from analyzer.util.atomic import paths_of, writing
from analyzer.util.text import well_formed

__all__ = ["OUTPUTS", "Evaluation", "central_face", "check_out", "estimated_scores", "evaluate", "plain"]

OUTPUTS = ("accuracy.json", "accuracy.md", "accuracy-gender.png", "accuracy-age.png")
SCHEMA_VERSION = 1
_LABELS = ["true_gender", "true_age", "true_race", "unit"]
_TABLES = ("faces", "people", "videos", "shares", "scenes", "listed")


@dataclass(frozen=True, eq=False)
class _Task:
    """The input of one run: a video, or a folder of images, with their labels."""

    source: Path
    shown: str
    about: dict[str, Any]
    labels: pd.DataFrame | TrueVideo | Described


def evaluate(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    settings: Settings | None = None,
    *,
    limit: int | None = None,
    on_event: OnEvent = lambda event: None,
    keep_runs: str | os.PathLike[str] | None = None,
) -> Evaluation:
    """Analyze labeled material and score the results.

    Args:
        paths: Labeled images and videos, see `analyzer.evaluation.labels`.
        settings: How to analyze; annotated videos are never made.
        limit: At most this many faces of each source of images, in the order of the SHA-1 of their file
            names; None: all.
        on_event: Called with each `Event`, as by `analyze_all`.
        keep_runs: Folder in which the runs are kept; None: they are removed.

    Returns:
        The figures. Videos that could not be analyzed are in `Evaluation.failed`; `Evaluation.usable` is
        false if there is nothing else.

    Raises:
        SettingsError: `settings` has a start or an end: labels are those of whole videos.
        SourceError: A path is not labeled material, or its labels are wrong.
        ModelError: A model is missing or damaged.
        OutputError: The temporary folder or `keep_runs` cannot be written to.
    """
    chosen = (settings or Settings()).replace(video=False, blur=False, limit=None)
    if chosen.start_s or chosen.stop_s is not None:
        raise SettingsError("start, end and duration cannot be used here: labels are those of whole videos")
    if limit is not None and limit < 1:
        raise SettingsError(f"limit must be at least 1, not {limit}")
    tables: dict[str, list[pd.DataFrame]] = {name: [] for name in _TABLES}
    provenance: dict[str, Any] = dict.fromkeys(("models", "libraries", "python"))
    with contextlib.ExitStack() as stack:
        work, materials, tasks = _prepared(paths, limit, stack)
        for one, about in _corrected_runs(materials, work):
            provenance = {key: dict(one.before.info)[key] for key in provenance}
            for table, rows in _score_video(one.truth, one.before, one.settings).items():
                tables[table].append(rows)
            for what, count in one.confirmed.items():
                about[what] = about.get(what, 0) + count
        shown = {str(task.source): task.shown for task in tasks}
        runs = analyze_all(
            shown,
            chosen,
            out=Path(keep_runs) if keep_runs is not None else work / "runs",
            on_event=lambda event: on_event(_renamed(event, shown)),
            again=True,  # the installed models are measured, not those of an earlier run
        )
        for task, result in zip(tasks, runs, strict=True):
            name = Path(task.shown).name
            if isinstance(result, Failed):
                sentence = result.message.replace(str(task.source), task.shown)
                task.about["failed"].append(f"{name}: {sentence}")
                continue
            run = result.run  # read now: a later run may replace it
            if not run.complete:
                task.about["failed"].append(f"{name}: {run.info['incomplete_reason']}")
            provenance = {key: dict(run.info)[key] for key in provenance}
            for table, rows in _score(task, run, chosen).items():
                tables[table].append(rows)
    return Evaluation(
        measured_on=datetime.datetime.now(datetime.UTC).date().isoformat(),
        settings=chosen,
        sources=tuple(material.about for material in materials),
        provenance=provenance,
        **{
            name: pd.concat(some, ignore_index=True) if some else pd.DataFrame()
            for name, some in tables.items()
        },
    )


def _prepared(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    limit: int | None,
    stack: contextlib.ExitStack,
) -> tuple[Path, list[Material], list[_Task]]:
    """Read the material into a temporary folder, which is removed with `stack`.

    Raises:
        SourceError: A path is not labeled material, or its labels are wrong.
        OutputError: The folder cannot be written to, or a file cannot be read.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="evaluate-", ignore_cleanup_errors=True)
        work = Path(stack.enter_context(folder))
        # A path that is given twice counts once.
        named = enumerate(dict.fromkeys(path.absolute() for path in paths_of(paths)))
        materials = [read_labels(path, work / f"tar-{number}", limit) for number, path in named]
        return work, materials, _tasks(materials, work)
    except OSError as error:
        raise OutputError(
            f"the labeled material could not be laid out ({error}): "
            "is it readable, and is there space in the temporary folder (TMPDIR)?"
        ) from error


def _tasks(materials: list[Material], work: Path) -> list[_Task]:
    """The inputs to analyze; a video that two of the paths lead to counts once."""
    tasks = {}
    for number, material in enumerate(materials):
        about = material.about
        about["failed"] = []
        for video in material.videos:
            tasks[video.path.resolve()] = _Task(video.path, well_formed(str(video.path)), about, video)
        for place, entry in enumerate(material.described):
            source = _laid_out(entry, work / f"described-{number}-{place}")
            shown = well_formed(str(entry.paths[0]))
            tasks[source.resolve()] = _Task(source, shown, about, entry)
        if material.faces is not None:
            slug = re.sub(r"[^A-Za-z0-9]+", "-", about["name"]).strip("-") or "faces"
            folder = work / str(number) / slug
            labels = _linked(material.faces, folder)
            tasks[folder] = _Task(folder, about["name"], about, labels)
    return list(tasks.values())


def _corrected_runs(materials: list[Material], work: Path) -> Iterator[tuple[CorrectedRun, dict[str, Any]]]:
    """Each corrected run with what is said about the path that leads to it; each once."""
    seen: set[Path] = set()
    for number, material in enumerate(materials):
        for place, folder in enumerate(material.corrected):
            if folder.resolve() not in seen:
                seen.add(folder.resolve())
                yield corrected_run(folder, work / f"corrected-{number}-{place}"), material.about


def _laid_out(entry: Described, folder: Path) -> Path:
    """The path to analyze; several images are linked into a folder of their own."""
    if len(entry.paths) == 1:
        return entry.paths[0]
    folder.mkdir(parents=True)
    for place, path in enumerate(entry.paths):
        (folder / f"{place:06d}{path.suffix.lower()}").symlink_to(path.resolve())
    return folder


def _linked(faces: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Link images under names of our own, in the column `image`: tables may alter the original names."""
    folder.mkdir(parents=True)
    images: dict[Path, str] = {}
    for path, name in faces[["path", "name"]].itertuples(index=False):
        if path not in images:
            stem = re.sub(r"[^A-Za-z0-9]+", "_", Path(name).stem)[:60]
            images[path] = f"{len(images):06d}-{stem}{path.suffix.lower()}"
            (folder / images[path]).symlink_to(path.resolve())
    return faces.assign(image=faces["path"].map(images), unit=str(folder) + faces["path"].astype(str))


def _renamed(event: Event, shown: dict[str, str]) -> Event:
    """The event with the user's own name instead of that of a temporary folder."""
    if isinstance(event, Started | Failed):
        return dataclasses.replace(event, source=shown.get(event.source, event.source))
    return event


# --- scoring -----------------------------------------------------------------------------------------


def _score(task: _Task, run: Run, settings: Settings) -> dict[str, pd.DataFrame]:
    """Rows for the tables of `Evaluation`."""
    if isinstance(task.labels, TrueVideo):
        return _score_video(task.labels, run, settings)
    if isinstance(task.labels, Described):
        tables = score_described(task.labels, run)
        unit = str(task.source)
        return {name: table.assign(unit=unit) for name, table in zip(_TABLES[-2:], tables, strict=True)}
    readable = task.labels["image"].isin(run.samples["image"])
    labels = task.labels[readable].reset_index(drop=True)
    found = run.faces.merge(run.samples[["sample", "image"]], on="sample")
    places = _labeled_faces(labels, found, task.source, settings)
    task.about["unreadable"] = int((~readable).sum())
    task.about["images_with_several_faces"] = int((found["image"].value_counts() > 1).sum())
    faces = found.reindex([places.get(row, -1) for row in range(len(labels))]).reset_index(drop=True)
    people = run.people.set_index("person_id").reindex(faces["person_id"]).reset_index(drop=True)
    table = _estimated(labels, people, faces["sample"].notna(), faces["x2"] - faces["x1"])
    not_estimated = table["found"] & table[["female_prob", "age_years"]].isna().all(axis=1)
    task.about["not_estimated"] = int(not_estimated.sum())
    own = {"source": task.about["name"], "name": labels["name"], "face_female_prob": faces["female_prob"]}
    return {"faces": table.assign(**own)}


def _estimated(
    labels: pd.DataFrame, people: pd.DataFrame, found: pd.Series, face_px: pd.Series
) -> pd.DataFrame:
    """A table of estimates, from rows of the people table beside those of the labels."""
    numbers = ["female_prob", "age_years", "age_low", "age_high"]
    estimates = {name: people[name].astype(float) for name in numbers}
    stated = people["gender"].fillna("")
    own = {"found": found, "gender": stated, **estimates, "face_px": face_px.astype(float)}
    return labels[labels.columns.intersection(_LABELS)].assign(**own)


def _labeled_faces(
    labels: pd.DataFrame, found: pd.DataFrame, folder: Path, settings: Settings
) -> dict[int, int]:
    """The found face of each label, row to row: see the docstring of this module."""
    places: dict[int, int] = {}
    rows_of = found.groupby("image").indices
    for image, those in labels.groupby("image"):
        rows = rows_of.get(image, [])
        boxes = found.iloc[rows][BOX].to_numpy(np.float32)
        if not len(boxes):
            continue
        if those["x1"].notna().all():
            overlaps = iou(those[BOX].to_numpy(np.float32), boxes)
            pairs = assigned(np.where(overlaps >= MATCH_IOU, overlaps, 0.0))
        elif len(boxes) == 1:
            pairs = {0: 0}
        else:
            info = ImageReader((folder / str(image),), settings).info
            pairs = {0: central_face(boxes, info.width, info.height)}
        places |= {int(those.index[label]): int(rows[face]) for label, face in pairs.items()}
    return places


def central_face(boxes: NDArray[np.float32], width: int, height: int) -> int:
    """The face that the label of an image with several faces belongs to: large and near the center.

    Args:
        boxes: (N, 4) in pixels, N at least 1.
        width, height: Of the image in pixels.

    Returns:
        The row with the largest face width x (1 - d / D): d is the distance of the face's center from the
        image's, D that of a corner.

    >>> central_face(np.array([[0, 0, 40, 40], [35, 35, 65, 65]], np.float32), 100, 100)
    1
    """
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    distance = np.hypot(centers[:, 0] - width / 2, centers[:, 1] - height / 2)
    return int(np.argmax((boxes[:, 2] - boxes[:, 0]) * (1 - distance / math.hypot(width / 2, height / 2))))


def _score_video(video: TrueVideo, run: Run, settings: Settings) -> dict[str, pd.DataFrame]:
    own = {"kind": video.kind, "unit": str(video.path)}
    true, people = video.people.assign(**own), run.people.reset_index(drop=True)
    pairs, purity, completeness = _matched(video, people, run)
    matched = people.reindex([pairs.get(row, -1) for row in range(len(true))]).reset_index(drop=True)
    estimated = _estimated(true, matched, matched["person_id"].notna(), matched["face_px_median"])
    counts, number = run.info["counts"], len(true)
    true_s = float(true["on_screen_s"].sum())
    count_error = _share(len(people) - number, number)
    time_error = _share(float(people["on_screen_s"].sum()) - true_s, true_s)
    row = {
        "name": well_formed(video.path.parent.name),
        "true_people": number,
        "found_people": len(people),
        "missed": number - len(pairs),
        "extra": len(people) - len(pairs),
        "with_boxes": video.boxes is not None,
        "count_abs_error": abs(count_error),
        "count_error": count_error,
        "count_in_interval": float(counts["people_low"] <= number <= counts["people_high"]),
        "missed_share": _share(number - len(pairs), number),
        "extra_share": _share(len(people) - len(pairs), number),
        "purity": purity,
        "completeness": completeness,
        "time_abs_error": abs(time_error),
        "time_error": time_error,
        "person_time_abs_error_s": float((matched["on_screen_s"] - true["on_screen_s"]).abs().mean()),
    }
    shares = _share_errors(true, people, run, settings)
    return {
        "people": estimated.assign(kind=video.kind),
        "videos": pd.DataFrame([row]).assign(**own),
        "shares": shares.assign(**own),
    }


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan


def _matched(video: TrueVideo, people: pd.DataFrame, run: Run) -> tuple[dict[int, int], float, float]:
    """True person -> row of the people table; purity and completeness of the found people."""
    if video.people.empty or people.empty:
        return {}, math.nan, math.nan
    if video.boxes is None:
        spans = (table[["first_s", "last_s"]].to_numpy(np.float64) for table in (video.people, people))
        return assigned(span_matches(*spans)), math.nan, math.nan
    counts, best = box_matches(video.boxes, run.faces, people["person_id"].tolist())
    return (assigned(counts), *identity(best))


def _share_errors(true: pd.DataFrame, people: pd.DataFrame, run: Run, settings: Settings) -> pd.DataFrame:
    """How far the shares of a run are from the true ones; a row for each share whose truth is known."""
    truth = known_shares(true["true_gender"], true["true_age"], true["on_screen_s"], settings.bands)
    counted = known_shares(people["gender"], people["age_years"], people["on_screen_s"], settings.bands)
    key = ["dimension", "group"]
    table = truth.merge(counted, on=key, how="left", suffixes=("", "_counted"))
    table = table.merge(run.shares, on=key, how="left")
    errors = table[key].copy()
    for what in ("people", "time"):
        share, low, high = table[what], table[f"{what}_low"], table[f"{what}_high"]
        errors[f"{what}_counted_error"] = table[f"{what}_counted"] - share
        errors[f"{what}_stated_error"] = table[f"{what}_share"] - share
        # Tables hold 32 bits of each share.
        within = share.between(low - 1e-6, high + 1e-6).astype(float)
        errors[f"{what}_in_interval"] = within.where((share + low + high).notna())
    return errors


# --- the figures -------------------------------------------------------------------------------------

_COUNTED = ["true_people", "found_people", "missed", "extra"]
_VIDEO_FIGURES = [
    *("count_abs_error", "count_error", "count_in_interval", "missed_share", "extra_share"),
    *("purity", "completeness", "time_abs_error", "time_error", "person_time_abs_error_s"),
]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The result of an evaluation.

    Attributes:
        measured_on: ISO date.
        settings: How the material was analyzed.
        sources: For each named path: `name`, `kind` (``images``, ``archive``, ``list``, ``videos``),
            `labeled` and `used` (faces, or videos), `unparsed` (names of images without labels), `failed`
            (sentences), and for images `unreadable`, `not_estimated` (found, but without estimates) and
            `images_with_several_faces`.
        provenance: `models`, `libraries` and `python`, as in ``run.json``.
        faces: A table of estimates (see `analyzer.evaluation.metrics`), one row a labeled face, with
            `source`, `name` and `face_female_prob`, the probability in the faces table.
        people: A table of estimates, one row a true person of a video, with `kind`.
        videos: One row a video: numbers, errors, `kind`.
        shares: One row a share whose truth is known: errors, `kind`, `dimension`, `group`.
        scenes: One row a clip, photograph or set described by eye: numbers, `kind`; see
            `described.score_described`.
        listed: One row a person listed there.
    """

    measured_on: str
    settings: Settings
    sources: tuple[dict[str, Any], ...]
    provenance: dict[str, Any]
    faces: pd.DataFrame
    people: pd.DataFrame
    videos: pd.DataFrame
    shares: pd.DataFrame
    scenes: pd.DataFrame
    listed: pd.DataFrame

    @property
    def usable(self) -> bool:
        """Whether anything could be scored."""
        return bool(len(self.faces) or len(self.videos) or len(self.scenes))

    @property
    def failed(self) -> tuple[str, ...]:
        """A sentence for each input that could not be analyzed, or only in part."""
        return tuple(sentence for source in self.sources for sentence in source["failed"])

    def to_dict(self) -> dict[str, Any]:
        """All figures as JSON values; absent numbers are None.

        Returns:
            ``schema_version``, ``analyzer_version``, ``measured_on``, ``settings``, ``changed_settings``
            (those that differ from the defaults), ``sources``, ``failed``, ``models``, ``libraries``,
            ``python``, and

            - ``faces`` (None without labeled images): ``labeled``, ``groups`` as of
              `metrics.group_scores`, ``calibration`` with ``faces`` (probabilities of the faces table) and
              ``people`` (of the people table, each image being one sighting), as of `metrics.calibration`;
              ``bias`` as of `metrics.bias` (None where no race is labeled).
            - ``described`` (None without descriptions): ``kinds``, for each kind the figures of
              `described.described_scores`; ``calibration`` with ``people`` and ``groups`` as above, over the
              listed people of clips and photographs, by known ages only.
            - ``videos`` (None without labeled videos): ``kinds``, for ``all`` and for each kind the numbers
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
        defaults = Settings(video=False).to_dict()
        settings = self.settings.to_dict()
        document = {
            "schema_version": SCHEMA_VERSION,
            "analyzer_version": analyzer.__version__,
            "measured_on": self.measured_on,
            "settings": settings,
            "changed_settings": {key: one for key, one in settings.items() if one != defaults.get(key)},
            "sources": self.sources,
            "failed": self.failed,
            **self.provenance,
            "described": None,
            "faces": None,
            "videos": None,
        }
        if len(self.scenes):
            document["described"] = self._described()
        if len(self.faces):
            by = "source" if self.faces["source"].nunique() > 1 else None
            columns = {"faces": "face_female_prob", "people": "female_prob"}
            document["faces"] = estimated_scores(self.faces, by, columns) | {"bias": bias(self.faces)}
        if len(self.videos):
            columns = {"people": "female_prob"}
            people = estimated_scores(self.people, "kind", columns) if len(self.people) else None
            document["videos"] = {"kinds": self._kinds(), "people": people}
        values: dict[str, Any] = plain(document)
        return values

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write `OUTPUTS` into a folder, each under its name only when it is whole; the page comes last.

        Returns:
            Their paths.

        Raises:
            OutputError: They cannot be written.
        """
        # Imported late: only `save` needs charts.
        from analyzer.evaluation.charts import draw_age, draw_gender

        paths = [check_out(folder) / name for name in OUTPUTS]
        document = self.to_dict()
        write_json(paths[0], document)
        tables = {"faces": self.faces, "people": self.people}
        if len(self.listed):
            tables["described"] = estimates_of(self.listed)
        drawings = draw_gender(document), draw_age(document, tables)
        for path, drawing in zip(paths[2:], drawings, strict=True):
            with writing(path) as temporary:
                drawing.savefig(temporary, format="png", dpi=150, metadata={"Software": None})
        with writing(paths[1]) as temporary:
            temporary.write_text(page(document), "utf-8")
        return paths

    def _described(self) -> dict[str, Any]:
        kinds = [kind for kind in KINDS if (self.scenes["kind"] == kind).any()]
        of = {kind: [table[table["kind"] == kind] for table in (self.scenes, self.listed)] for kind in kinds}
        matched = estimates_of(self.listed[self.listed["kind"] != "set"])
        return {
            "kinds": {kind: described_scores(*tables) for kind, tables in of.items()},
            **estimated_scores(matched, None, {"people": "female_prob"}),
        }

    def _kinds(self) -> dict[str, Any]:
        names = sorted(self.videos["kind"].unique())
        scores = {}
        for name in ["all", *(names if len(names) > 1 else ())]:
            videos, shares = (
                table if name == "all" else table[table["kind"] == name]
                for table in (self.videos, self.shares)
            )
            scores[name] = {
                "videos": len(videos),
                **{key: int(videos[key].sum()) for key in _COUNTED},
                "without_boxes": int((~videos["with_boxes"]).sum()),
                **figures(videos[_VIDEO_FIGURES], videos["unit"]),
                **_share_figures(shares),
            }
        return scores


def estimated_scores(table: pd.DataFrame, by: str | None, probabilities: dict[str, str]) -> dict[str, Any]:
    """The figures of a table of estimates: `labeled`, `groups`, `calibration`, as of `Evaluation.to_dict`.

    Args:
        table: See `analyzer.evaluation.metrics`.
        by: A further column to group by.
        probabilities: Names of calibrations -> the column with the probability of female of each.
    """
    known = table[table["true_gender"].ne("")]
    female = known["true_gender"].eq("female")
    return {
        "labeled": len(table),
        "groups": group_scores(table, by),
        "calibration": {name: calibration(known[column], female) for name, column in probabilities.items()},
    }


def _share_figures(shares: pd.DataFrame) -> dict[str, Figure]:
    women, ages = shares[shares["group"] == "female"], shares[shares["dimension"] == "age"]
    of_women: dict[str, pd.Series] = {}
    of_ages: dict[str, pd.Series] = {}
    for what in ("people", "time"):
        for way in ("counted", "stated"):
            error = women[f"{what}_{way}_error"].astype(float)
            of_women |= {f"women_{what}_{way}_error": error, f"women_{what}_{way}_abs_error": error.abs()}
        of_women[f"women_{what}_in_interval"] = women[f"{what}_in_interval"].astype(float)
        of_ages[f"age_{what}_abs_error"] = ages[f"{what}_stated_error"].astype(float).abs()
        of_ages[f"age_{what}_in_interval"] = ages[f"{what}_in_interval"].astype(float)
    return figures(pd.DataFrame(of_women), women["unit"]) | figures(pd.DataFrame(of_ages), ages["unit"])


def check_out(folder: str | os.PathLike[str]) -> Path:
    """Create a folder for `Evaluation.save`, and check before all the work that it can be written to.

    Raises:
        OutputError: It cannot be written to.
    """
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=target):
            pass
    except OSError as error:
        raise OutputError(
            f"the folder {target} cannot be written to ({error.strerror}): choose another with --out"
        ) from error
    return target


def plain(value: Any) -> Any:
    """JSON values: figures as objects, NaN as None, rounded numbers."""
    match value:
        case Figure():
            return plain(dataclasses.asdict(value))
        case dict():
            return {key: plain(one) for key, one in value.items()}
        case list() | tuple():
            return [plain(one) for one in value]
        case float():
            return round(value, 5) if math.isfinite(value) else None
    return value
