"""On screen against the audience: the table of age and gender from YouTube Analytics."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from analyzer.errors import SettingsError
from analyzer.people.proportions import FEW_PEOPLE, ProportionDraws, interval
from analyzer.report.document import AudienceComparison, AudienceRow
from analyzer.report.figures import TOO_FEW
from analyzer.settings import AGE_BANDS
from analyzer.util.text import percent

__all__ = [
    "Audience",
    "read_export",
]

_BANDS = tuple(band.name for band in AGE_BANDS["youtube"][1:])
"""The bands of YouTube Analytics, which does not include children."""

_COLUMNS = {
    "age": ("agegroup", "viewerage", "age"),
    "gender": ("gender", "viewergender"),
    "video": ("video", "videoid", "content"),
    "share": ("viewerpercentage", "viewspercentage", "views%", "views"),
}
"""Names of the columns in the API, its bulk reports and Studio, in lower case without spaces."""

_MOST_PERCENT = 101.0
"""Percentages are rounded."""

_GENDERS = {"female": "female", "male": "male", "f": "female", "m": "male"}


@dataclass(frozen=True)
class Audience:
    """Shares of viewers by age and gender.

    Attributes:
        file: Name of the file.
        cells: (age band, gender) -> percentage of the viewers; gender `other` for those who stated another
            one or none; band or gender empty if the export does not have it.
    """

    file: str
    cells: dict[tuple[str, str], float]

    def against(self, draws: tuple[ProportionDraws, ...] | None) -> AudienceComparison:
        """Compare the audience with the shares on screen.

        The shares on screen are of people who look 13 or older, since YouTube does not include children.

        Args:
            draws: Draws of the shares on screen, of gender without children and of age; group 0 is compared.
                None if too few people have estimates.
        """
        rows: list[AudienceRow] = []
        for dimension, groups, place in (("gender", ("female", "male"), 1), ("age", _BANDS, 0)):
            sums = {name: self._sum(place, name) for name in groups}
            whole = sum(sums.values())
            if not whole:
                continue
            screen = _on_screen(draws, dimension, groups)
            for number, name in enumerate(groups):
                audience = sums[name] / whole
                names = [f"on_screen_{what}" for what in ("share", "low", "high")]
                names += ["difference", "difference_low", "difference_high"]
                values: list[float | None] = [None] * 6
                if screen is not None:
                    shown = [float(each[number]) for each in screen]
                    values = [*shown, *(each - audience for each in shown)]
                row = {"dimension": dimension, "group": name, "audience_share": audience}
                rows.append(cast(AudienceRow, row | dict(zip(names, values, strict=True))))
        notes = [] if draws else [f"On screen, fewer than {FEW_PEOPLE} people have estimates: {TOO_FEW}."]
        return {"file": self.file, "basis": "time", "rows": rows, "notes": [*self._notes(), *notes]}

    def _sum(self, place: int, name: str) -> float:
        return sum(value for key, value in self.cells.items() if key[place] == name)

    def _notes(self) -> list[str]:
        notes = [
            "On screen: share of the time on screen of people who look 13 or older, because the export does "
            "not include children."
        ]
        whole, other = sum(self.cells.values()), self._sum(1, "other")
        if other:
            notes.append(
                f"{percent(other / whole)} of the viewers stated another gender or none; the shares by "
                "gender leave them out."
            )
        return notes


def _on_screen(
    draws: tuple[ProportionDraws, ...] | None, dimension: str, groups: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Each group's share of the time, with lower and upper end; the shares add up to 1."""
    of = next((one for one in draws or () if one.dimension == dimension), None)
    if of is None or not set(groups) <= set(of.classes):  # other age bands
        return None
    picked = of.values[:, 0, 1][:, [of.classes.index(name) for name in groups]]
    with np.errstate(invalid="ignore"):
        picked = picked / picked.sum(axis=1, keepdims=True)
    picked = picked[np.isfinite(picked).all(axis=1)]
    return interval(picked) if len(picked) else None


def read_export(path: Path, video_ids: tuple[str | None, ...] = ()) -> Audience:
    """Read a table of age and gender exported from YouTube Analytics as CSV.

    The columns may be those of its API (ageGroup, gender, viewerPercentage), of its bulk reports (age_group,
    gender, views_percentage) or of Studio (Viewer age, Viewer gender, Views (%)).

    Args:
        path: The file.
        video_ids: YouTube's ids of the report's videos, None for others. If the export has a column of
            videos, only the rows of a single video can be compared.

    Raises:
        SettingsError: The file cannot be read, or has no such table.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            sample = file.read(4096)
            file.seek(0)
            dialect = ";" if sample.count(";") > sample.count(",") else "\t" if "\t" in sample else ","
            reader = csv.DictReader(file, delimiter=dialect)
            rows, names = list(reader), list(reader.fieldnames or ())
    except (OSError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise _wrong(path, f"cannot be read ({reason}): a CSV file is needed") from error
    columns = _columns(names)
    if "share" not in columns or not {"age", "gender"} & columns.keys():
        raise _wrong(
            path, "has no columns ageGroup, gender and viewerPercentage: export the table of age and gender"
        )
    if "video" in columns:
        rows = _of_one_video(path, rows, columns["video"], video_ids)
    percent = columns["share"].lower().strip() != "views"
    cells: dict[tuple[str, str], float] = {}
    for row in rows:
        share = _number(row[columns["share"]], percent=percent)
        band = _band(row[columns["age"]]) if "age" in columns else ""
        gender = _gender(row[columns["gender"]]) if "gender" in columns else ""
        if band is None or gender is None:
            continue  # a sum, or an empty line
        if share is None:
            raise _wrong(path, f"has a percentage that is not a number: {row[columns['share']]!r}")
        if (band, gender) in cells:
            raise _wrong(
                path,
                f"has several rows for {' '.join(filter(None, (band, gender)))}: export one table for the "
                "whole period, without other columns",
            )
        cells[band, gender] = share
    whole = sum(cells.values())
    if whole <= 0:
        raise _wrong(path, "holds no viewers: export a longer period")
    if percent and whole > _MOST_PERCENT:
        raise _wrong(path, f"adds up to {whole:.0f} %, not to 100: export the table anew")
    return Audience(path.name, cells)


def _wrong(path: Path, what: str) -> SettingsError:
    return SettingsError(f"--youtube-analytics {path} {what}")


def _columns(names: list[str]) -> dict[str, str]:
    plain = {re.sub(r"[^a-z%]", "", name.lower()): name for name in names}
    found = {}
    for what, known in _COLUMNS.items():
        for name in known:
            if name in plain and what not in found:
                found[what] = plain[name]
    return found


def _of_one_video(
    path: Path, rows: list[dict[str, Any]], column: str, video_ids: tuple[str | None, ...]
) -> list[dict[str, Any]]:
    there = {row[column] for row in rows if str(row[column] or "").strip().lower() not in ("", "total")}
    if not there or (
        len(there) == 1 and len(video_ids) <= 1 and not any(video_ids)
    ):  # may be a download of it
        return rows
    wanted = there & set(video_ids)
    if len(video_ids) != 1 or len(wanted) != 1:
        raise _wrong(
            path,
            "lists several videos: report on one of them, or export the table without a column of videos",
        )
    return [row for row in rows if row[column] in wanted]


def _number(text: Any, *, percent: bool) -> float | None:
    """A percentage, which may have a decimal comma, or a count, which may have thousands separators."""
    plain = str(text or "").strip().rstrip("%").strip().replace(",", "." if percent else "")
    try:
        value = float(plain or "0")
    except ValueError:
        return None
    return value if value >= 0 and np.isfinite(value) else None


def _band(text: Any) -> str | None:
    """The band of an age as YouTube writes it.

    >>> _band("age18-24"), _band("AGE_65_"), _band("65+ years"), _band("13–17 years"), _band("Total")
    ('18-24', '65+', '65+', '13-17', None)
    """
    ages = re.findall(r"\d+", str(text or ""))
    name = "-".join(ages) if len(ages) == 2 else f"{ages[0]}+" if ages else ""
    return name if name in _BANDS else None


def _gender(text: Any) -> str | None:
    """The gender as YouTube writes it; None for sums and empty lines.

    >>> _gender("FEMALE"), _gender("user_specified"), _gender("Total"), _gender("")
    ('female', 'other', None, None)
    """
    plain = str(text or "").strip().lower()
    if plain in ("", "total"):
        return None
    return _GENDERS.get(plain, "other")
