"""Making a report: the runs are found and chosen, and everything a report says is put into its document."""

from __future__ import annotations

import datetime
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from urllib.parse import quote

import analyzer
from analyzer.errors import OutputError, SettingsError
from analyzer.report import breakdowns
from analyzer.report.attention import attention
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
from analyzer.report.deeplinks import moments_of, youtube_id
from analyzer.report.document import (
    REPORT_VERSION,
    AudienceComparison,
    Document,
    GroupTable,
    LongestAppearance,
    VideoRow,
)
from analyzer.report.figures import runs_words
from analyzer.report.files import save
from analyzer.report.groups import NAME_PATTERN
from analyzer.report.metrics import Metrics
from analyzer.report.notes import notes, run_notes
from analyzer.report.population import Population
from analyzer.report.provenance import provenance
from analyzer.report.shares import Shares
from analyzer.report.trends import Trends
from analyzer.report.youtube_audience import read_export
from analyzer.runs.run import Run
from analyzer.settings import DEFAULT_OUT
from analyzer.util.atomic import paths_of

__all__ = ["Report", "make_report"]


@dataclass(frozen=True)
class Report:
    """A report.

    Attributes:
        document: Everything the report says; `docs/report.md` lists its fields.
        folders: The run folders, in the order of the document's videos.
        failed: Runs that should have been reported on but could not, a sentence each.
        passed_over: Folders that hold no finished run, a sentence each.
        root: The folder that was named, if it was a single one.
        warnings: Options that had no effect, a sentence each.
    """

    document: Document
    folders: tuple[Path, ...]
    failed: tuple[str, ...]
    passed_over: tuple[str, ...]
    root: Path | None = None
    warnings: tuple[str, ...] = ()

    @property
    def default_out(self) -> Path | None:
        """The folder of the single run, the one that was named, or the one that holds all runs; else None."""
        if len(self.folders) == 1 or self.root is not None:
            return self.folders[0] if len(self.folders) == 1 else self.root
        parents = {folder.absolute().parent for folder in self.folders}
        return self.folders[0].parent if len(parents) == 1 else None

    def place(self, formats: Iterable[str], out: str | os.PathLike[str] | None = None) -> Path:
        """The folder into which `save` would write these formats.

        Raises:
            SettingsError: There is no default folder, or captions cannot be written.
        """
        folder = self.default_out if out is None else Path(out)
        if folder is None:
            raise SettingsError("the runs are in different folders: choose the report's folder with --out")
        if "vtt" in formats and len(self.folders) > 1:
            raise SettingsError("captions (vtt) need a single video, and there are several: name one run")
        if "vtt" in formats and self.document["images"]:
            raise SettingsError("captions (vtt) need a video, and these are images: leave vtt out")
        if "vtt" in formats and self.document["timeline"] is None:
            raise SettingsError(
                "captions (vtt) show single people, which --min-people suppresses: leave vtt out"
            )
        return folder

    def save(self, formats: Iterable[str], out: str | os.PathLike[str] | None = None) -> list[Path]:
        """Write the report and return its files.

        Args:
            formats: Some of `FORMATS`.
            out: Folder; default `default_out`.

        Raises:
            OutputError: A file cannot be written.
            SettingsError: A format is unknown, or see `place`.
            TypeError: `formats` is a single string.
        """
        if isinstance(formats, str):
            raise TypeError(f'formats is of type str: pass a list, such as ["{formats}"]')
        wanted = list(formats)
        folder = self.place(wanted, out)
        return save(self.linked(folder), wanted, folder)

    def linked(self, out: Path) -> Document:
        """The document for a page in `out`, with links to the files beside the runs."""
        videos = []
        # The annotated video shows everybody's number, and a run's own page may show single people.
        open_hand = self.document["min_people"] == 1
        for video, folder in zip(self.document["videos"], self.folders, strict=True):
            media, page = (
                _link(folder, name, out) if open_hand else None for name in ("annotated.mp4", "report.html")
            )
            videos.append(video | {"media": media, "page": None if len(self.folders) == 1 else page})
        return cast(Document, self.document | {"videos": videos})


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
        paths: Folders of runs, or folders that contain them; none: the newest run in `out`.
        chosen: Which of these runs.
        by: Also give figures for each day, week, month, hour, `name`, or value of a column of the runs.
        name_pattern: With `by="name"`: a regular expression. Its first group, or the whole match if it has
            none, in a file's name is the group.
        min_people: Suppress groups of fewer people.
        youtube_analytics: Table of age and gender from YouTube Analytics to compare with.
        out: The folder with the runs.

    Raises:
        SettingsError: An option is wrong, or contradicts another.
        OutputError: There is no run to report on.
    """
    named = paths_of(paths)
    root = named[0] if len(named) == 1 else None
    found = find_runs(named) if named else newest_run(out)
    chosen = chosen or Chosen()
    if name_pattern is not None and by != BY_FILE_NAME:
        raise SettingsError("--name-pattern only applies to --by name: add --by name")
    with Corpus.open(_in_order(found, chosen), chosen) as corpus:
        failed, passed_over = (
            tuple(f"{one.folder} {one.reason}" for one in corpus.skipped if one.fault == fault)
            for fault in (True, False)
        )
        if not corpus.runs:
            raise OutputError(_nothing(named, out, chosen, found, failed))
        pattern = NAME_PATTERN if name_pattern is None else name_pattern
        population = Population(corpus, by=by, min_people=min_people, name_pattern=pattern)
        document = _document(population, chosen, youtube_analytics)
        warnings = (corpus.unfitting,) if corpus.unfitting else ()
        folders = tuple(run.folder for run in corpus.runs)
    return Report(document, folders, failed, passed_over, root, warnings)


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
        return f"no run of {len(found.runs)} matches the filters ({', '.join(chosen.in_words())}); {known}"
    if found.runs and not failed:
        return f"no run of {len(found.runs)} matches the filters ({', '.join(chosen.in_words())}): relax them"
    reasons = "; ".join(failed) or "no finished run was found: analyze a video first"
    return f"there is nothing to report: {reasons}"


def _document(
    population: Population, chosen: Chosen, youtube_analytics: str | os.PathLike[str] | None
) -> Document:
    corpus = population.corpus
    shares = Shares(population)
    metrics, trends = Metrics(population, shares), Trends(population, shares)
    if not population.single:
        shares.start_drawing()
    videos = _videos(population, metrics)
    several = runs_words(len(videos), images=population.of_images)
    groups = population.groups
    rows: GroupTable | None = None
    if groups is not None:
        rows = {"by": groups.by, "timely": groups.timely, "rows": metrics.groups()}
    busiest, more = breakdowns.moments(population)
    document: Document = {
        "report_version": REPORT_VERSION,
        "analyzer_version": analyzer.__version__,
        "made_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "title": videos[0]["title"] if population.single else several,
        "kind": "video" if population.single else "videos",
        "images": population.of_images,
        "ages_measured": all(run.measured for run in corpus.runs),
        "filters": chosen.in_words(),
        "min_people": population.min_people,
        "timezone": chosen.timezone,
        "age_bands": [band.name for band in population.bands],
        "total": metrics.total(),
        "videos": videos,
        "groups": rows,
        "shares": shares.rows(),
        "screen_time": breakdowns.screen_time(population),
        "pyramid": breakdowns.pyramid(population),
        "concurrent": breakdowns.concurrent(population),
        "moments": busiest,
        "more_moments": more,
        "timeline": breakdowns.timeline(population),
        "people": breakdowns.people_rows(population),
        "pairs": breakdowns.pairs(population),
        "image_rows": breakdowns.image_rows(population),
        "trend": trends.trend(),
        "comparison": trends.comparison(),
        "audience": None
        if youtube_analytics is None
        else _audience(population, shares, Path(youtube_analytics)),
        "provenance": provenance(corpus.runs),
        "notes": notes(population, shares, by_day=chosen.since is not None),
        "skipped": [{"folder": one.folder.name, "reason": one.reason} for one in corpus.skipped],
    }
    if youtube_analytics is not None:
        document["audience"] = _audience(population, shares, Path(youtube_analytics))
    if table := attention(population):
        document["attention"] = table
    return document


def _audience(population: Population, shares: Shares, path: Path) -> AudienceComparison:
    if population.min_people > len(population.people):
        raise SettingsError(
            "--youtube-analytics has nothing to compare with, because --min-people suppresses everyone: "
            "choose a smaller number"
        )
    ids = tuple(youtube_id(run.info.get("url")) for run in population.corpus.runs)
    return read_export(path, ids).against(shares.audience_draws())


def _videos(population: Population, metrics: Metrics) -> list[VideoRow]:
    corpus, open_hand = population.corpus, population.min_people == 1
    known = corpus.table.astype(object).where(corpus.table.notna(), None).to_dict("records")
    longest = population.per_run[["longest_id", "longest_start_s", "longest_end_s"]].itertuples(index=False)
    rows: list[VideoRow] = []
    for run, row, figures, (person, start_s, end_s) in zip(
        corpus.runs, known, metrics.videos(), longest, strict=True
    ):
        whole = max(float(row["duration_s"] or 0), float(figures["analyzed_s"] or 0))
        longest_person: LongestAppearance | None = None
        if open_hand and not math.isnan(person):  # NaN: nobody was seen
            longest_person = {"person_id": int(person), "start_s": start_s, "end_s": end_s}
        link = moments_of(row["url"])
        rows.append(
            {
                "run": row["run"],
                "video_id": row["video_id"],
                "title": row["title"],
                "channel": row["channel"],
                "source": row["source"],
                "url": row["url"],
                "link": None
                if link is None
                else {"before": link.before, "after": link.after, "site": link.site},
                "day": row["day"].isoformat(),
                "day_is": row["day_is"],
                "complete": row["complete"],
                "incomplete_reason": str(run.info.get("incomplete_reason") or ""),
                "kind": row["kind"],
                "duration_s": row["duration_s"],
                "analyzed_share": (figures["analyzed_s"] or 0) / whole if whole else None,
                "samples": row["samples"],
                "audio": bool(run.info["video"].get("audio_codec")),
                "media": None,
                "media_start_s": float(run.info["settings"].get("start_s") or 0),
                "page": None,
                "longest_person": longest_person,
                "own": {str(name): row[name] for name in population.own_columns},
                "notes": run_notes(run.info) if open_hand else [],
                **figures,
            }
        )
    return rows
