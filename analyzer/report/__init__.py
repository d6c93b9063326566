"""Reports: what one run or a thousand say, as figures, charts and pages.

::

    from analyzer.report import make_report

    report = make_report(["outputs"], by="week")
    report.document["total"]["presence"]
    report.save(["html", "png"])
"""

from __future__ import annotations

import datetime
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import analyzer
from analyzer.errors import OutputError, SettingsError
from analyzer.people.proportions import FEW_PEOPLE, UNMEASURED
from analyzer.report.dataset import (
    BY_FILE_NAME,
    Chosen,
    Corpus,
    Found,
    day_of,
    find_runs,
    newest_run,
    zone_of,
)
from analyzer.report.deeplinks import youtube_id
from analyzer.report.figures import runs_words
from analyzer.report.files import FORMATS, save
from analyzer.report.groups import NAME_PATTERN
from analyzer.report.metrics import Numbers
from analyzer.report.youtube_audience import read_export
from analyzer.runs.notes import UNMEASURED_AGES
from analyzer.runs.run import Run
from analyzer.runs.run_info import RunInfo
from analyzer.settings import DEFAULT_OUT
from analyzer.util.atomic import paths_of
from analyzer.util.text import counted, percent

__all__ = ["FORMATS", "Chosen", "Report", "make_report"]

REPORT_VERSION = 1


@dataclass(frozen=True)
class Report:
    """A report.

    Attributes:
        document: All that it says, as JSON knows values; `docs/report.md` explains it.
        folders: The run folders, in the order of the document's videos.
        failed: What could not be reported on though it should have been, a sentence each.
        passed_over: What holds no finished run, a sentence each.
        root: The one folder that was named, if it was one.
        warnings: What was asked for and had no effect, a sentence each.
    """

    document: dict[str, Any]
    folders: tuple[Path, ...]
    failed: tuple[str, ...]
    passed_over: tuple[str, ...]
    root: Path | None = None
    warnings: tuple[str, ...] = ()

    @property
    def default_out(self) -> Path | None:
        """Beside the run, or in the folder that was named or holds all runs; None where there are several."""
        if len(self.folders) == 1 or self.root is not None:
            return self.folders[0] if len(self.folders) == 1 else self.root
        parents = {folder.absolute().parent for folder in self.folders}
        return self.folders[0].parent if len(parents) == 1 else None

    def place(self, formats: Iterable[str], out: str | os.PathLike[str] | None = None) -> Path:
        """The folder into which `save` would write these formats.

        Raises:
            SettingsError: There is no default folder, or no captions can be written.
        """
        folder = self.default_out if out is None else Path(out)
        if folder is None:
            raise SettingsError("the runs lie in different folders: say with --out where the report is to go")
        if "vtt" in formats and len(self.folders) > 1:
            raise SettingsError("captions (vtt) are those of one video, and these are several: name one run")
        if "vtt" in formats and self.document["images"]:
            raise SettingsError("captions (vtt) are those of a video, and these are images: leave vtt out")
        if "vtt" in formats and self.document["timeline"] is None:
            raise SettingsError("captions (vtt) tell of single people, whom --min-people withholds")
        return folder

    def save(self, formats: Iterable[str], out: str | os.PathLike[str] | None = None) -> list[Path]:
        """Write it; gives the files.

        Args:
            formats: Of `FORMATS`.
            out: Folder; `default_out` if not given.

        Raises:
            OutputError: It cannot be written.
            SettingsError: A format is unknown, or `place` finds none.
        """
        wanted = list(formats)
        folder = self.place(wanted, out)
        return save(self.linked(folder), wanted, folder)

    def linked(self, out: Path) -> dict[str, Any]:
        """The document for a page in `out`, with links to what lies beside it."""
        videos = []
        # The annotated video names everybody in it, and a video's own page perhaps too.
        open_hand = self.document["min_people"] == 1
        for video, folder in zip(self.document["videos"], self.folders, strict=True):
            media, page = (
                _link(folder, name, out) if open_hand else None for name in ("annotated.mp4", "report.html")
            )
            videos.append(video | {"media": media, "page": None if len(self.folders) == 1 else page})
        return self.document | {"videos": videos}


def _link(folder: Path, name: str, out: Path) -> str | None:
    path = folder / name
    if not path.is_file():
        return None
    try:
        relative = os.path.relpath(path.absolute(), out.absolute())
    except ValueError:  # on another drive
        return None
    return quote(Path(relative).as_posix())


def make_report(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] = (),
    *,
    chosen: Chosen | None = None,
    by: str | None = None,
    name_pattern: str | None = None,
    min_people: int = 1,
    youtube_analytics: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] = DEFAULT_OUT,
) -> Report:
    """Report on runs.

    Args:
        paths: Folder of a run, or with runs in it, or several; none: the newest run in `out`.
        chosen: Which of them.
        by: Figures also for each day, week, month, hour, `name`, or value of a column of the runs.
        name_pattern: With `by="name"`: a regular expression; what its first group, or else the whole of it,
            finds in the files' names is the group.
        min_people: Nothing is told of fewer people.
        youtube_analytics: YouTube Analytics' table of age and gender, to be compared with.
        out: Where runs lie.

    Raises:
        SettingsError: A choice is wrong, or contradicts another.
        OutputError: There is no run to report on.
    """
    named = paths_of(paths)
    root = named[0] if len(named) == 1 else None
    found = find_runs(named) if named else newest_run(out)
    chosen = chosen or Chosen()
    if name_pattern is not None and by != BY_FILE_NAME:
        raise SettingsError("--name-pattern says what --by name goes by: add --by name")
    with Corpus.open(_in_order(found, chosen), chosen) as corpus:
        failed, passed_over = (
            tuple(f"{one.folder} {one.reason}" for one in corpus.skipped if one.fault == fault)
            for fault in (True, False)
        )
        if not corpus.runs:
            raise OutputError(_nothing(named, out, chosen, found, failed))
        warnings = (corpus.unfitting,) if corpus.unfitting else ()
        pattern = NAME_PATTERN if name_pattern is None else name_pattern
        numbers = Numbers(corpus, by=by, min_people=min_people, name_pattern=pattern)
        document = _document(numbers, chosen)
        if attention := numbers.attention():  # nowhere else is there a word of it
            document["attention"] = attention
        if youtube_analytics is not None:
            document["audience"] = _audience(numbers, Path(youtube_analytics))
    return Report(document, tuple(run.folder for run in corpus.runs), failed, passed_over, root, warnings)


def _in_order(found: Found, chosen: Chosen) -> Found:
    """Newest first."""
    zone = zone_of(chosen.timezone)

    def key(run: Run) -> tuple[str, int, str]:
        day, _, hour = day_of(run.info, zone)
        return day.isoformat(), -1 if hour is None else hour, str(run.info.get("analyzed_at"))

    return Found(tuple(sorted(found.runs, key=key, reverse=True)), found.skipped)


def _nothing(
    named: list[Path], out: str | os.PathLike[str], chosen: Chosen, found: Found, failed: tuple[str, ...]
) -> str:
    if not named:
        return f"{os.fspath(out)} holds no finished run: analyze a video first"
    if found.runs and not failed and chosen.channels:
        there = sorted({str(run.info.get("channel")) for run in found.runs if run.info.get("channel")})
        known = f"there are {', '.join(there[:20])}" if there else "no run has a channel"
        return f"none of the {len(found.runs)} runs is of {' and '.join(chosen.in_words())}; {known}"
    if found.runs and not failed:
        return f"none of the {len(found.runs)} runs is {' and '.join(chosen.in_words())}: choose less"
    reasons = "; ".join(failed) or "no finished run was found: analyze a video first"
    return f"there is nothing to report: {reasons}"


def _audience(numbers: Numbers, path: Path) -> dict[str, Any]:
    if numbers.min_people > len(numbers.people):
        raise SettingsError(
            "--youtube-analytics has nothing to compare with: --min-people withholds everyone"
        )
    ids = tuple(youtube_id(run.info.get("url")) for run in numbers.corpus.runs)
    return read_export(path, ids).against(numbers.audience_draws())


def _document(numbers: Numbers, chosen: Chosen) -> dict[str, Any]:
    corpus = numbers.corpus
    if not numbers.single:
        numbers.start_drawing()
    videos = _videos(numbers)
    title = videos[0]["title"] if numbers.single else runs_words(len(videos), images=_of_images(corpus))
    groups = numbers.groups
    rows = (
        None if groups is None else {"by": groups.by, "timely": groups.timely, "rows": numbers.group_rows()}
    )
    return {
        "report_version": REPORT_VERSION,
        "analyzer_version": analyzer.__version__,
        "made_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "title": title,
        "kind": "video" if numbers.single else "videos",
        "images": _of_images(corpus),
        "ages_measured": all(run.measured for run in corpus.runs),
        "filters": chosen.in_words(),
        "min_people": numbers.min_people,
        "timezone": chosen.timezone,
        "age_bands": [band.name for band in numbers.bands],
        "total": numbers.total(),
        "videos": videos,
        "groups": rows,
        "shares": numbers.shares(),
        "screen_time": numbers.screen_time(),
        "pyramid": numbers.pyramid(),
        "at_once": numbers.at_once(),
        "moments": numbers.moments(),
        "timeline": numbers.timeline(),
        "people": numbers.people_rows(),
        "pairs": numbers.pairs(),
        "image_rows": _image_rows(numbers),
        "trend": numbers.trend(),
        "comparison": numbers.comparison(),
        "audience": None,
        "provenance": _provenance(corpus),
        "notes": _notes(numbers),
        "skipped": [{"folder": one.folder.name, "reason": one.reason} for one in corpus.skipped],
    }


def _of_images(corpus: Corpus) -> bool:
    """Whether all is about images, which have no time."""
    return bool((corpus.table["kind"] == "images").all())


def _image_rows(numbers: Numbers) -> list[dict[str, Any]] | None:
    """Who is in which image of the one run of images: a row each, and one of an image without anybody."""
    if not numbers.single or numbers.min_people > 1 or not _of_images(numbers.corpus):
        return None
    try:
        table = numbers.corpus.runs[0].images
        columns = [table[name] for name in ("image", "readable", "person_id", "gender")]
    except (OSError, ValueError, KeyError):  # damaged: everything else can be told
        return None
    return [
        {
            "image": str(image),
            "readable": bool(readable),
            "person_id": int(person) if person > 0 else None,
            "gender": gender if isinstance(gender, str) else "",
        }
        for image, readable, person, gender in zip(*columns, strict=True)
    ]


def _run_notes(info: RunInfo) -> list[str]:
    """What a run says of faces that were found and not counted or not judged; older ones say nothing."""
    return [note for note in info["notes"] if note]


def _videos(numbers: Numbers) -> list[dict[str, Any]]:
    corpus = numbers.corpus
    known = corpus.table.astype(object).where(corpus.table.notna(), None).to_dict("records")
    longest = numbers.per_run[["longest_id", "longest_start_s", "longest_end_s"]].itertuples(index=False)
    rows = []
    for run, row, figures, (person, start_s, end_s) in zip(
        corpus.runs, known, numbers.videos(), longest, strict=True
    ):
        settings = run.info.get("settings") or {}
        duration_s = row["duration_s"]
        whole = max(float(duration_s or 0), float(figures["analyzed_s"] or 0))
        told = numbers.min_people == 1 and not math.isnan(person)  # NaN: nobody
        head = {
            name: row[name] for name in ("run", "video_id", "title", "channel", "source", "url", "day_is")
        }
        rows.append(
            head
            | {"day": row["day"].isoformat(), "complete": row["complete"], "kind": row["kind"]}
            | {"incomplete_reason": str(run.info.get("incomplete_reason") or ""), "duration_s": duration_s}
            | {"analyzed_share": figures["analyzed_s"] / whole if whole else None}
            | {"media": None, "page": None, "media_start_s": float(settings.get("start_s") or 0)}
            | {"audio": bool(run.info["video"].get("audio_codec"))}
            | {"samples": row["samples"], "notes": _run_notes(run.info) if numbers.min_people == 1 else []}
            | {"own": {name: row[name] for name in numbers.own_columns}}
            | {
                "longest_person": {"person_id": int(person), "start_s": start_s, "end_s": end_s}
                if told
                else None
            }
            | figures
        )
    return rows


# --- where the numbers come from ---------------------------------------------------------------------

_SETTINGS = (
    *("preset", "fps", "every", "keyframes", "start_s", "end_s", "duration_s", "budget", "detector"),
    *(
        "detector_size",
        "min_score",
        "min_face_px",
        "attributes",
        "gender_model",
        "age_model",
        "min_estimate_px",
    ),
    *("scene", "attention_yaw_deg", "attention_pitch_deg", "attention_min_s", "left_after_s", "commercial"),
    *("min_confidence", "gender_of_children", "reuse_s", "age_bands", "device", "precision"),
)
_VERSIONS = ("python", "av", "openvino", "onnxruntime", "opencv-python", "yt-dlp")


def _provenance(corpus: Corpus) -> dict[str, Any]:
    infos = [run.info for run in corpus.runs]
    models: dict[tuple[str, str], dict[str, Any]] = {}
    for info in infos:
        for model in info.get("models") or []:
            names = ("name", "role", "license", "commercial_use", "sha256", "trained_on", "known_bias")
            entry = {name: model.get(name) for name in names} | {"videos": 0}
            models.setdefault((str(model.get("name")), str(model.get("sha256"))), entry)["videos"] += 1
    settings = [
        _counted(name, [info.get("preset") if name == "preset" else _setting(info, name) for info in infos])
        for name in _SETTINGS
    ]
    versions = [_counted("analyzer", [info.get("analyzer_version") for info in infos])]
    for name in _VERSIONS:
        libraries = [info.get("libraries") or {} for info in infos]
        versions.append(
            _counted(
                name,
                [info.get(name) or known.get(name) for info, known in zip(infos, libraries, strict=True)],
            )
        )
    times = sorted(str(info["analyzed_at"]) for info in infos if info.get("analyzed_at"))
    fitted = {info["calibration"].get("fitted_on") or "" for info in infos}
    return {
        "models": list(models.values()),
        "settings": [one for one in settings if one["values"]],
        "versions": [one for one in versions if one["values"]],
        "fitted_on": sorted(fitted - {""}),
        "schema_versions": sorted({int(info["schema_version"]) for info in infos}),
        "analyzed_at": [times[0], times[-1]] if times else [],
    }


def _setting(info: RunInfo, name: str) -> Any:
    return info["settings"].get(name)


def _counted(name: str, values: list[Any]) -> dict[str, Any]:
    counts = Counter(str(value) for value in values if value is not None)
    return {"name": name, "values": [{"value": value, "videos": n} for value, n in counts.most_common()]}


def _notes(numbers: Numbers) -> list[str]:
    """What the reader must know of these data."""
    table, runs = numbers.corpus.table, numbers.corpus.runs
    notes = _run_notes(runs[0].info) if numbers.single and numbers.min_people == 1 else []
    incomplete = ~table["complete"].astype(bool)
    images = table["kind"] == "images"
    reason = f" ({runs[0].info['incomplete_reason']})" if _has_reason(numbers) else ""
    if parts := int((incomplete & ~images).sum()):
        subject = "The video was" if numbers.single else _words(numbers, parts, "was", "were")
        notes.append(f"{subject} not read to the end{reason}.")
    if parts := int((incomplete & images).sum()):
        subject = "" if numbers.single else f" of {counted(parts, 'run')}"
        notes.append(f"Not all images{subject} could be read{reason}.")
    if (pictures := int(images.sum())) and not images.all():
        subject = counted(pictures, "run is", "runs are")
        notes.append(f"{subject} of images, not of videos: each image counts as one second.")
    for of_images, one, several in (
        (
            False,
            "damaged packet could not be read; what it would",
            "damaged packets could not be read; what they would",
        ),
        (True, "image could not be read; who it would", "images could not be read; who they would"),
    ):
        bad = sum(
            int(_reading(run.info, "unreadable_images" if image else "bad_packets") or 0)
            for run, image in zip(runs, images, strict=True)
            if image == of_images
        )
        if bad:
            notes.append(f"{counted(bad, one, several)} have shown is missing.")
    notes += [note for note in _shares_notes(numbers) if note not in notes]
    if not numbers.single:
        notes += _notes_on_several(numbers)
    if numbers.min_people > 1:
        notes.append(
            f"Nothing is told of groups of fewer than {numbers.min_people} people, nor of single people."
        )
    return list(dict.fromkeys(notes))  # runs say some of it, too


def _reading(info: RunInfo, name: str) -> Any:
    known: Mapping[str, Any] = info["reading"]
    return known.get(name, known.get("bad_packets"))  # older runs of images have no number of their own


def _has_reason(numbers: Numbers) -> bool:
    return numbers.single and bool(numbers.corpus.runs[0].info.get("incomplete_reason"))


def _shares_notes(numbers: Numbers) -> list[str]:
    """What the reader must know of the shares."""
    notes = []
    estimated = int((numbers.people["estimated_samples"] > 0).sum())
    unmeasured = [number for number, run in enumerate(numbers.corpus.runs) if not run.measured]
    if numbers.people.loc[numbers.people["run_no"].isin(unmeasured), "age_low"].notna().any():
        notes.append(UNMEASURED_AGES)
    if numbers.single and not numbers.corpus.runs[0].measured:
        notes.append(UNMEASURED)
    elif 0 < estimated < FEW_PEOPLE and numbers.min_people == 1:
        people = counted(estimated, "person", "people")
        notes.append(f"{people} could be judged: too few to say what shares they stand for.")
    if misfit := numbers.misfit():
        notes.append(
            f"Counts and estimated shares are {percent(misfit[1])} apart for {misfit[0]}: how often the "
            "networks err, as measured on labeled faces, may not fit these videos. Trust neither much."
        )
    return notes


def _notes_on_several(numbers: Numbers) -> list[str]:
    """What the reader must know of a collection."""
    table, runs = numbers.corpus.table, numbers.corpus.runs
    notes = []
    dated = table["day_is"].value_counts()
    if analyzed := int(dated.get("analyzed", 0)):
        notes.append(f"The day of {_words(numbers, analyzed)} is that of the analysis: no other is known.")
    if unlike := int((~numbers.estimated_alike).sum()):
        notes.append(
            f"{_words(numbers, unlike, 'was', 'were')} judged by other networks than those whose errors "
            "are known here, and left out of the estimated shares."
        )
    if twice := int(table["video_id"].duplicated().sum()):
        notes.append(
            f"{_words(numbers, twice, 'is', 'are')} here more than once, from different runs: "
            "all are counted."
        )
    several = "sets of images" if _of_images(numbers.corpus) else "videos"
    for name, words in (("fps", "samples per second"), ("min_confidence", "confidence")):
        if len({str(_setting(run.info, name)) for run in runs}) > 1:
            notes.append(f"The {several} were analyzed with different {words}: so their figures differ.")
    return notes


def _words(numbers: Numbers, number: int, one: str = "", several: str = "") -> str:
    words = runs_words(number, images=_of_images(numbers.corpus))
    return f"{words} {one if number == 1 else several}".strip()
