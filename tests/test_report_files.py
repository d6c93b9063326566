"""The forms of a report other than its page, from documents written by hand."""

from __future__ import annotations

import csv
import errno
import json
import math
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import av
import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

import analyzer
from analyzer.errors import OutputError, SettingsError
from analyzer.people.proportions import FEW_PEOPLE
from analyzer.report import Report
from analyzer.report.captions import webvtt
from analyzer.report.charts import draw
from analyzer.report.deeplinks import moment_url
from analyzer.report.figures import ESTIMATED, FIGURES, SUPPRESSED, TOO_FEW
from analyzer.report.files import FORMATS, save
from analyzer.report.markdown import markdown
from analyzer.report.tables import report_sheets, tables
from analyzer.runs.run import REPORT_CHARTS, report_files
from analyzer.settings import AGE_BANDS
from analyzer.util.gender import GENDER_COLORS

BANDS = [band.name for band in AGE_BANDS["youtube"]]
HOSTILE = (
    "<script>alert(1)</script>",
    "$x^2$ and $\\frac{1}$",
    '=HYPERLINK("http://x")',
    "| a | b",
    "line\nbreak\r\n# head",
    "party \U0001f389 日本語",
    "\u202eevil\u200f שלום",
    "[x](javascript:alert(1)) ![y](http://x) `c` *b* _i_ ~~s~~ @all {{t}}",
    "long " * 60,
    "-",
    "",
)


def figures(**known: Any) -> dict[str, Any]:
    return {figure.name: None for figure in FIGURES} | {"suppressed": False} | known


def shares(estimated: int, by: str = "", group_value: str = "") -> list[dict[str, Any]]:
    groups = [("gender", "female", 0.25), ("gender", "male", 0.75), *(("age", band, 0.125) for band in BANDS)]
    return [
        {
            **{"by": by, "group_value": group_value, "dimension": dimension, "group": group},
            **{"people_share": share, "people_low": share - 0.1, "people_high": share + 0.1},
            **{
                "time_share": share,
                "time_low": share / 2,
                "time_high": 2 * share / 1.5,
                "estimated": estimated,
            },
        }
        for dimension, group, share in groups
    ]


def video(**changes: Any) -> dict[str, Any]:
    return figures(**COUNTS) | {
        **{"run": "talk-1", "video_id": "1", "title": "talk", "channel": None, "source": "talk.mp4"},
        **{"url": "https://www.youtube.com/watch?v=dQw4w9WgXcQ", "day": "2026-11-01", "day_is": "uploaded"},
        **{"complete": True, "incomplete_reason": "", "duration_s": 6.0, "analyzed_share": 1.0},
        **{"media": None, "audio": True, "page": None, "longest_person": None},
        **{"kind": "video", "samples": 6, "notes": []},
        **changes,
    }


COUNTS = {
    **{"videos": 1, "analyzed_s": 6.0, "people": 2, "people_low": 2, "people_high": 3, "on_screen_s": 7.0},
    **{
        "occupancy": 5 / 6,
        "co_presence": 1 / 3,
        "concurrent_mean": 7 / 6,
        "concurrent_peak": 2,
        "female": 1,
        "male": 1,
    },
    **{"unknown_gender": 0, "female_time_share": 0.25, "female_time_low": 0.15, "female_time_high": 0.35},
    **{"people_per_video": 2.0},
}


UNCORRECTED = {"name": "", "gender_source": "estimated", "age_source": "estimated", "corrected": False}


def one_video(**changes: Any) -> dict[str, Any]:
    """Two people in six seconds: one from 0 to 3 s and at 5 s, the other from 1 to 4 s; at 4 s nobody."""
    person = {
        "run": "talk-1",
        "female_prob": 0.9,
        "age_low": 20.0,
        "age_high": 40.0,
        "first_s": 0.0,
        "last_s": 6.0,
        **UNCORRECTED,
    }
    ages = {band: [0.0] * 6 for band in [*BANDS, "unknown"]}
    ages["25-34"], ages["unknown"] = [1, 1, 1, 0, 0, 1], [0, 1, 1, 1, 0, 0]
    return {
        **{"report_version": 1, "analyzer_version": "0.1.0", "made_at": "2026-11-24T15:00:00+00:00"},
        **{
            "title": "talk",
            "kind": "video",
            "images": False,
            "image_rows": None,
            "ages_measured": True,
            "filters": [],
            "min_people": 1,
            "age_bands": BANDS,
        },
        "total": figures(**COUNTS),
        "videos": [video()],
        "groups": None,
        "shares": shares(12),
        "pyramid": [
            {"gender": gender, "band": band, "people": int(band == "25-34"), "on_screen_s": 4.0}
            for gender in ("female", "male", "unknown")
            for band in [*BANDS, "unknown"]
        ],
        "concurrent": [
            {"people": n, "time_s": time_s, "share": time_s / 6}
            for n, time_s in ((0, 1.0), (1, 3.0), (2, 2.0))
        ],
        "moments": [
            {"run": "talk-1", "start_s": 1.5, "end_s": 3.5, "people": 1.75, "peak_s": 2.5, "peak_people": 3}
        ],
        "more_moments": 0,
        "timeline": {
            **{
                "bin_s": 1.0,
                "start_s": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
                "end_s": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            },
            **{"people": [1, 2, 2, 1, 0, 1], "female": [1, 1, 1, 0, 0, 1], "male": [0, 1, 1, 0, 0, 0]},
            **{"unknown_gender": [0, 0, 0, 1, 0, 0], "ages": ages},
        },
        "people": [
            {**person, "person_id": 1, "gender": "female", "age_years": 30.0, "age_band": "25-34"}
            | {"on_screen_s": 4.0, "appearances": 2, "spans": [[0.0, 3.0], [5.0, 6.0]]},
            {**person, "person_id": 2, "gender": "male", "age_years": None, "age_band": ""}
            | {"on_screen_s": 3.0, "appearances": 1, "spans": [[1.0, 4.0]]},
        ],
        "pairs": [{"a": 1, "b": 2, "co_presence_s": 2.0}],
        "screen_time": [
            {"by": "", "group_value": "", "dimension": "gender", "group": gender}
            | {"people": people, "on_screen_s": time_s, "share": time_s / 7}
            for gender, people, time_s in (("female", 1, 4.0), ("male", 1, 3.0), ("unknown", 0, 0.0))
        ],
        **{"trend": None, "comparison": None, "audience": None, "notes": [], "skipped": []},
        "provenance": {
            "models": [
                {
                    "name": "net",
                    "role": "age",
                    "license": "CC0-1.0",
                    "commercial_use": True,
                    "sha256": "0f" * 32,
                }
                | {"trained_on": "faces", "known_bias": "", "videos": 1}
            ],
            "settings": [{"name": "fps", "values": [{"value": "5.0", "videos": 1}]}],
            "versions": [{"name": "analyzer", "values": [{"value": "0.1.0", "videos": 1}]}],
            **{"fitted_on": ["faces"], "schema_versions": [3], "analyzed_at": ["2026-11-01", "2026-11-02"]},
        },
        **changes,
    }


def several_videos(**changes: Any) -> dict[str, Any]:
    """A video for each hostile title, by channel, with a change, and set against an audience."""
    videos = [video(run=f"run-{n}", title=title, people=n + 1) for n, title in enumerate(HOSTILE)]
    interval = {"value_low": 0.5, "value_high": 0.7, "change": 0.2, "change_low": 0.1, "change_high": 0.3}
    change = {
        **{"figure": "occupancy", "words": "occupancy", "unit": "share", "period": "2026-11"},
        **{"previous": "2026-10", "value": 0.6, "previous_value": 0.4, "exceeds": True, "videos": 7},
        **{"previous_videos": 8, **interval},
    }
    against = {"dimension": "gender", "audience_share": 0.5, "on_screen_low": 0.15, "on_screen_high": 0.35}
    difference = {"difference": -0.25, "difference_low": -0.35, "difference_high": -0.15}
    return (
        one_video(
            kind="videos",
            title="11 videos",
            filters=["since 2026-11-01"],
            videos=videos,
            groups={
                **{"by": "channel", "timely": False},
                "rows": [
                    {**figures(**COUNTS), "group": "=1+1 $a$ 日本"},
                    {**figures(videos=1, occupancy=0.5), "group": "few", "suppressed": True},
                ],
            },
            trend={
                **{"by": "month"},
                "rows": [change, change | {"figure": "people_per_video", "unit": "people", "exceeds": False}],
            },
            audience={
                **{"file": "export.csv", "basis": "time", "notes": ["A note."]},
                "rows": [
                    against | difference | {"group": "female", "on_screen_share": 0.25},
                    against
                    | {"group": "male", "on_screen_share": 0.75, "difference": 0.25}
                    | {
                        "on_screen_low": 0.65,
                        "on_screen_high": 0.85,
                        "difference_low": 0.15,
                        "difference_high": 0.35,
                    },
                    against
                    | difference
                    | {"dimension": "age", "group": "65+", "on_screen_share": 0.4}
                    | {"difference": -0.1, "difference_high": 0.05},
                ],
            },
            comparison={
                **{"by": "channel", "groups": 2, "of_groups": 2},
                "rows": [
                    {
                        "figure": "occupancy",
                        "words": "occupancy",
                        "unit": "share",
                        "first": "=1+1 $a$ 日本",
                    }
                    | {"second": "few", "first_value": 5 / 6, "second_value": 0.5, "difference": -1 / 3}
                    | {"difference_low": -0.5, "difference_high": -0.1, "exceeds": True}
                    | {"first_videos": 1, "second_videos": 1}
                ],
            },
            timeline=None,
            people=[
                {"run": one["run"], "person_id": 1, "gender": "female", "female_prob": 0.9, "age_years": 30.0}
                | {"age_low": 20.0, "age_high": 40.0, "age_band": "25-34", "first_s": 0.0, "last_s": 6.0}
                | {"on_screen_s": 4.0, "appearances": 2, **UNCORRECTED}
                for one in videos
            ],
            pairs=None,
        )
        | changes
    )


def nobody() -> dict[str, Any]:
    base = one_video(
        **{
            "total": figures(
                videos=1, analyzed_s=6.0, people=0, occupancy=0.0, concurrent_mean=0.0, concurrent_peak=0
            )
        },
        **{
            "videos": [video(people=0)],
            "shares": [],
            "screen_time": [],
            "moments": [],
            "more_moments": 0,
            "people": [],
            "pairs": [],
        },
        concurrent=[{"people": 0, "time_s": 6.0, "share": 1.0}],
    )
    line = base["timeline"]
    for name in ("people", "female", "male", "unknown_gender"):
        line[name] = [0] * 6
    line["ages"] = {band: [0] * 6 for band in line["ages"]}
    base["pyramid"] = [cell | {"people": 0} for cell in base["pyramid"]]
    return base


def suppressed() -> dict[str, Any]:
    base = one_video(min_people=5, people=None, pairs=None, shares=[], screen_time=[])
    for row in (base["total"], *base["videos"]):
        row.update({figure.name: None for figure in FIGURES if figure.personal}, suppressed=True)
    base["pyramid"] = [cell | {"people": None, "on_screen_s": None} for cell in base["pyramid"]]
    base["timeline"] |= {"female": None, "male": None, "unknown_gender": None, "ages": None}
    return base


def without_figures(value: Any) -> Any:
    """The document with null for every number that is a figure."""
    kept = (
        "start_s",
        "peak_s",
        "end_s",
        "spans",
        "bin_s",
        "min_people",
        "person_id",
        "report_version",
        "videos",
    )
    match value:
        case dict():
            return {
                key: one
                if key in kept and not (key == "videos" and isinstance(one, list))
                else without_figures(one)
                for key, one in value.items()
            }
        case list():
            return [without_figures(one) for one in value]
        case bool() | str() | None:
            return value
    return None


def unknown(document: dict[str, Any]) -> dict[str, Any]:
    # The number of people identifies the row and is not a figure.
    concurrent = [row | {"time_s": None, "share": None} for row in document["concurrent"]]
    return without_figures(document) | {"concurrent": concurrent}


DOCUMENTS = {
    "one": one_video,
    "several": several_videos,
    "nobody": nobody,
    "suppressed": suppressed,
    "unknown": lambda: unknown(one_video()),
    "unknown several": lambda: unknown(several_videos()),
}
documents = pytest.mark.parametrize("name", DOCUMENTS)


@pytest.fixture
def small_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that do not depend on the resolution of charts."""
    monkeypatch.setattr("analyzer.report.charts.DPI", 40)


@pytest.fixture(autouse=True)
def stand_in_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page is tested elsewhere."""
    module = ModuleType("analyzer.report.html")
    module.page = lambda document: "<!doctype html>"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "analyzer.report.html", module)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


# --- saving ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_charts")
@documents
def test_every_document_is_saved_in_every_form(name: str, tmp_path: Path) -> None:
    document = DOCUMENTS[name]()
    written = save(document, FORMATS, tmp_path / "a" / "b")
    assert sorted(written) == sorted((tmp_path / "a" / "b").iterdir())
    assert {path.name for path in written} <= set(report_files())
    assert {path.suffix[1:] for path in written} >= {"html", "csv", "json", "md"}
    assert ((tmp_path / "a" / "b" / "report.vtt") in written) == (document["kind"] == "video")


@pytest.mark.usefixtures("small_charts")
def test_what_an_earlier_report_left_goes_and_nothing_else(tmp_path: Path) -> None:
    save(one_video(), ("csv", "png", "vtt"), tmp_path)
    (tmp_path / "report-of-mine.csv").write_text("a")
    save(suppressed(), ("csv",), tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert "report-people.csv" not in left and "report-pairs.csv" not in left
    assert left & {"report-people.png", "report.vtt"} == set()  # they would tell what is suppressed
    assert {"report-of-mine.csv", "report-figures.csv"} <= left


def test_unknown_format_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"pass a list, such as \[\"html\"\]"):
        Report({}, (), (), ()).save("html")
    with pytest.raises(SettingsError, match="unknown report format pdf"):
        save(one_video(), ["csv", "pdf"], tmp_path)


@pytest.mark.usefixtures("small_charts")
@pytest.mark.parametrize("form", FORMATS)
def test_full_disk_is_a_sentence(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=rf"no space is left for .*\.{form}"):
        save(one_video(), [form], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "folder"):
        with pytest.raises(OutputError, match=r"cannot be created .*choose another with --out"):
            save(one_video(), ["md"], out)


def test_matplotlib_is_loaded_for_charts_alone(tmp_path: Path) -> None:
    (tmp_path / "document.json").write_text(json.dumps(one_video()))
    program = (
        "import json, sys; from pathlib import Path; from analyzer.report.files import save\n"
        "document = json.loads(Path('document.json').read_text())\n"
        "save(document, ('csv', 'json', 'md', 'vtt'), Path('out')); assert 'matplotlib' not in sys.modules\n"
        "save(document, ('png',), Path('out')); assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 0, done.stderr


def test_json_is_the_document_without_numbers_that_json_has_not(tmp_path: Path) -> None:
    document = one_video(title="日本 \ud800")
    document["total"] |= {"occupancy": math.nan, "co_presence": math.inf}
    save(document, ["json"], tmp_path)
    text = (tmp_path / "report.json").read_text("utf-8")
    read = json.loads(text, parse_constant=pytest.fail)
    assert "日本 ?" in text
    assert read == document | {
        "title": "日本 ?",
        "total": document["total"] | {"occupancy": None, "co_presence": None},
    }


# --- tables ------------------------------------------------------------------------------------------


def test_tables_hold_the_figures_of_the_document(tmp_path: Path) -> None:
    document = several_videos()
    save(document, ["csv"], tmp_path)
    rows = rows_of(tmp_path / "report-figures.csv")
    assert list(rows[0]) == ["by", "group", "title", *(figure.name for figure in FIGURES)]
    by = [("", 1), ("channel", 2), ("video", len(HOSTILE))]
    assert [row["by"] for row in rows] == [name for name, number in by for _ in range(number)]
    sources = [document["total"], *document["groups"]["rows"], *document["videos"]]
    for row, source in zip(rows, sources, strict=True):
        for figure in FIGURES:
            value = source[figure.name]
            assert (row[figure.name] == "") == (value is None)
            assert value is None or float(row[figure.name]) == pytest.approx(value, abs=5e-7)
    assert rows[0]["occupancy"] == "0.833333"
    assert [row["group"] for row in rows[3:]] == [one["run"] for one in document["videos"]]
    shared = rows_of(tmp_path / "report-shares.csv")
    assert [float(row["people_share"]) for row in shared] == [
        row["people_share"] for row in document["shares"]
    ]
    against, *_ = rows_of(tmp_path / "report-audience.csv")
    assert (against["basis"], against["group"], against["difference"]) == ("time", "female", "-0.25")
    changes = rows_of(tmp_path / "report-trend.csv")
    assert [(row["by"], row["figure"], row["exceeds"]) for row in changes] == [
        ("month", "occupancy", "True"),
        ("month", "people_per_video", "False"),
    ]


def test_people_have_a_row_for_every_appearance(tmp_path: Path) -> None:
    save(one_video(), ["csv"], tmp_path)

    def text(name: str) -> str:
        return (tmp_path / f"report-{name}.csv").read_text("utf-8-sig")

    assert text("people") == (
        "run,title,person_id,name,gender,female_prob,age_years,age_low,age_high,age_band,gender_source,"
        "age_source,corrected,first_s,last_s,on_screen_s,appearances\n"
        "talk-1,talk,1,,female,0.9,30.0,20.0,40.0,25-34,estimated,estimated,False,0.0,6.0,4.0,2\n"
        "talk-1,talk,2,,male,0.9,,20.0,40.0,,estimated,estimated,False,0.0,6.0,3.0,1\n"
    )
    assert text("appearances") == (
        "run,person_id,start_s,end_s,gender,age_years,age_band\n"
        "talk-1,1,0.0,3.0,female,30.0,25-34\n"
        "talk-1,1,5.0,6.0,female,30.0,25-34\n"
        "talk-1,2,1.0,4.0,male,,\n"
    )
    assert text("screen-time") == (
        "by,group_value,dimension,group,people,on_screen_s,share\n"
        ",,gender,female,1,4.0,0.571429\n,,gender,male,1,3.0,0.428571\n,,gender,unknown,0,0.0,0.0\n"
    )
    assert text("pairs") == "a,b,co_presence_s\n1,2,2.0\n"
    assert text("moments") == "run,start_s,end_s,people,peak_s,peak_people\ntalk-1,1.5,3.5,1.75,2.5,3\n"
    assert rows_of(tmp_path / "report-concurrent.csv")[2] == {
        "people": "2",
        "time_s": "2.0",
        "share": "0.333333",
    }


def test_no_cell_of_text_is_a_formula(tmp_path: Path) -> None:
    save(several_videos(), ["csv"], tmp_path)
    rows = rows_of(tmp_path / "report-figures.csv")
    assert rows[1]["group"] == "'=1+1 $a$ 日本"
    assert {row["title"] for row in rows} >= {'\'=HYPERLINK("http://x")', "'-"}
    assert not any(row[name].startswith(tuple("=+-@")) for row in rows for name in ("group", "title"))


def test_people_of_several_videos_are_one_table(tmp_path: Path) -> None:
    save(several_videos(), ["csv"], tmp_path)
    rows = rows_of(tmp_path / "report-people.csv")
    assert [row["run"] for row in rows] == [f"run-{number}" for number in range(len(HOSTILE))]
    assert not (tmp_path / "report-appearances.csv").exists()
    (row,) = rows_of(tmp_path / "report-comparison.csv")
    assert (row["first"], row["second"], row["difference"]) == ("'=1+1 $a$ 日本", "few", "-0.333333")
    assert (row["by"], row["exceeds"]) == ("channel", "True")


def cells_of(path: Path) -> dict[str, list[list[Any]]]:
    """The cells of a workbook by sheet: text, numbers, ("formula", its text) for what would be computed."""
    names = {"m": "http://schemas.openxmlformats.org/spreadsheetml/2006/main"}
    with zipfile.ZipFile(path) as packed:

        def read(name: str) -> ElementTree.Element:
            return ElementTree.fromstring(packed.read(name))

        strings = ["".join(one.itertext()) for one in read("xl/sharedStrings.xml").findall("m:si", names)]
        sheets = [one.attrib["name"] for one in read("xl/workbook.xml").findall("m:sheets/m:sheet", names)]
        assert not [name for name in packed.namelist() if "external" in name or "hyperlink" in name]
        found = {}
        for number, sheet in enumerate(sheets, 1):
            rows = []
            page = read(f"xl/worksheets/sheet{number}.xml")
            assert page.find("m:sheetViews/m:sheetView/m:pane[@state='frozen']", names) is not None
            assert page.find("m:cols/m:col", names) is not None
            for row in page.findall("m:sheetData/m:row", names):
                cells = {}
                for cell in row.findall("m:c", names):
                    value, kind = cell.findtext("m:v", "", names), cell.attrib.get("t")
                    assert cell.find("m:f", names) is None, "a formula"
                    letters = re.sub(r"\d", "", cell.attrib["r"])
                    cells[letters] = (
                        strings[int(value)]
                        if kind == "s"
                        else bool(int(value))
                        if kind == "b"
                        else float(value)
                    )
                rows.append(cells)
            heads = rows[0]
            found[sheet] = [list(heads.values()), *([row.get(key) for key in heads] for row in rows[1:])]
    return found


def test_a_workbook_has_a_sheet_for_each_table(tmp_path: Path) -> None:
    document = several_videos(notes=["A note."])
    document["videos"][0]["video_id"] = "5e9309130976"
    save(document, ["xlsx"], tmp_path)
    sheets = cells_of(tmp_path / "report.xlsx")
    assert set(tables(document)) < set(sheets) and {"columns", "about"} < set(sheets)
    for name, rows in tables(document).items():
        head, *cells = sheets[name]
        assert len(cells) == len(rows)
        for row, source in zip(cells, rows, strict=True):
            for column, value in zip(head, row, strict=True):
                known = source[column]
                if isinstance(known, str):  # as it is: nothing is computed, no sign is put before it
                    assert str(value or "").split() == known.split()
                else:
                    assert value == (known if known is None else pytest.approx(known, abs=5e-7))
    assert ["note", "A note."] in sheets["about"]


def test_a_workbook_of_one_video_has_its_timeline(tmp_path: Path) -> None:
    save(one_video(), ["xlsx"], tmp_path)
    head, *rows = cells_of(tmp_path / "report.xlsx")["timeline"]
    assert head[:6] == ["start_s", "end_s", "people", "female", "male", "unknown_gender"]
    assert [row[:6] for row in rows][3] == [3, 4, 1, 0, 0, 1]
    save(suppressed(), ["xlsx"], tmp_path)
    sheets = cells_of(tmp_path / "report.xlsx")
    assert "people" not in sheets and sheets["timeline"][0] == ["start_s", "end_s", "people"]


# --- captions ----------------------------------------------------------------------------------------


def cues_of(text: str) -> list[tuple[float, float, str]]:
    def seconds(time: str) -> float:
        hour, minute, second = time.split(":")
        return 3600 * int(hour) + 60 * int(minute) + float(second)

    found = re.findall(r"^(\S+) --> (\S+)\n(.+)\n", text, re.M)
    return [(seconds(start), seconds(end), words) for start, end, words in found]


def test_captions_count_who_is_on_screen() -> None:
    assert cues_of(webvtt(one_video())) == [
        (0, 1, "1 person: 1 female"),
        (1, 3, "2 people: 1 female, 1 male"),
        (3, 4, "1 person: 1 unknown"),
        (5, 6, "1 person: 1 female"),
    ]
    assert cues_of(webvtt(suppressed())) == [
        (0, 1, "1 person"),
        (1, 3, "2 people"),
        (3, 4, "1 person"),
        (5, 6, "1 person"),
    ]
    assert cues_of(webvtt(nobody())) == []


def test_captions_of_a_long_video_add_up() -> None:
    start = np.arange(2000) * 3.5 + 0.0004
    people = np.random.default_rng(1).integers(0, 3, 2000).astype(float)
    line = one_video()["timeline"] | {"start_s": start.tolist(), "end_s": (start + 3.5).tolist()}
    line |= {"people": people.tolist(), "female": (people / 2).tolist(), "male": (people / 2).tolist()}
    line |= {"unknown_gender": [None] * 2000}
    text = webvtt(one_video(timeline=line))
    cues = cues_of(text)
    assert sum(end - start for start, end, _ in cues) == pytest.approx(3.5 * (people > 0).sum())
    assert {words for *_, words in cues} == {"1 person: 0.5 female, 0.5 male", "2 people: 1 female, 1 male"}
    assert "01:56:" in text


@documents
def test_captions_can_be_read(name: str, tmp_path: Path) -> None:
    document = DOCUMENTS[name]()
    (tmp_path / "report.vtt").write_text(webvtt(document), "utf-8")
    with av.open(str(tmp_path / "report.vtt")) as container:
        (stream,) = container.streams
        assert (stream.type, stream.codec_context.name) == ("subtitle", "webvtt")
        read = [bytes(packet).decode() for packet in container.demux(stream) if packet.size]
    assert read == [words for *_, words in cues_of(webvtt(document))]


# --- Markdown ----------------------------------------------------------------------------------------


def test_markdown_says_the_figures_with_their_intervals() -> None:
    text = markdown(one_video())
    assert "| occupancy | 83 % |" in text
    assert "| people | 2 | 2 to 3 |" in text
    assert "| female share of time on screen | 25 % | 15 % to 35 % |" in text
    assert "| gender female | 25 % (15 % to 35 %) | 25 % (12 % to 33 %) |" in text
    assert "1. [0:02.5](https://www.youtube.com/watch?v=dQw4w9WgXcQ&t=2s): 3 people; 1.8 on average" in text
    assert "| net | age | CC0-1.0 | yes | 0f0f0f0f0f0f | faces | – |" in text


def test_markdown_says_whether_a_change_is_beyond_its_error_bars() -> None:
    text = markdown(several_videos())
    words = "| occupancy | 2026-10 to 2026-11 | 40 % to 60 % | +20.0 points (+10.0 to +30.0)"
    assert f"{words} | **beyond its error bars** | 8 to 7 |" in text
    assert text.count("| within |") == 2
    assert "| gender female | 50 % | 25 % (15 % to 35 %) | −25.0 points (−35.0 to −15.0) | **beyond" in text
    assert "| +25.0 points (+15.0 to +35.0) | **beyond its error bars** |" in text
    assert "| −10.0 points (−35.0 to +5.0) | within |" in text
    assert "the choice of videos" in text


def of_few() -> dict[str, Any]:
    """One video of two people with estimates."""
    few = dict.fromkeys(ESTIMATED) | {"estimated": 2}
    document = one_video(shares=[])
    for row in (document["total"], *document["videos"]):
        row.update(few)
    return document


def test_of_too_few_people_no_share_is_stated_in_any_form(tmp_path: Path) -> None:
    text = markdown(of_few())
    assert f"| female share of time on screen | {TOO_FEW} |  |" in text
    assert "Too few people: shares need at least 5 people with estimates, and there are 2." in text
    assert "25 %" not in text
    assert TOO_FEW not in markdown(one_video(shares=shares(FEW_PEOPLE)))
    assert "shares" not in draw(of_few())
    assert "25 %" in texts(draw(one_video(shares=shares(FEW_PEOPLE)))["shares"])
    save(of_few(), ["csv"], tmp_path)
    assert rows_of(tmp_path / "report-shares.csv") == []
    assert {row["female_time_share"] for row in rows_of(tmp_path / "report-figures.csv")} == {""}


def of_images() -> dict[str, Any]:
    document = one_video(images=True, title="faces", videos=[video(kind="images", source="faces")])
    document["notes"] = ["3 faces were found and not counted: --min-score 0.5 counts them."]
    return document


def test_images_are_told_in_words_of_images() -> None:
    text = markdown(of_images())
    figures_of_it = (
        text.partition("## Method")[0].replace("youtube.com", "").replace("counted video by video", "")
    )
    for words in ("| images | 6 |", "| images with two or more | 33 % |", "6 images: "):
        assert words in figures_of_it, words
    for words in ("screen", "occupancy", "first appearance", "0:0", "video"):
        assert words not in figures_of_it, words
    assert "- 3 faces were found and not counted" in text
    for words in ("video", "cuts", "off screen"):
        assert words not in text.partition("## Method")[2].partition("## Prov")[0], words
    assert not {"timeline", "timeline-ages", "people"} & set(draw(of_images()))


def test_tables_of_images_have_no_times() -> None:
    rows = [{"image": "a.jpg", "readable": True, "person_id": 1, "gender": "female"}]
    made = of_images() | {"image_rows": rows}
    sheets = {sheet.name: sheet for sheet in report_sheets(made)}
    assert not {"moments", "appearances", "screen-time", "timeline"} & sheets.keys()
    assert list(sheets["images"].rows) == [["a.jpg", True, 1, "female"]]
    heads = [
        head for name, sheet in sheets.items() if name not in ("about", "columns") for head in sheet.columns
    ]
    assert not [head for head in heads if head.endswith("_s") or "time" in head]


def test_captions_are_not_written_of_images(tmp_path: Path) -> None:
    report = Report(of_images(), (tmp_path,), (), ())
    with pytest.raises(SettingsError, match="these are images"):
        report.place(["vtt"])


def test_labels_of_bars_do_not_touch() -> None:
    made = of_images()
    made["concurrent"] = [
        {"people": people, "time_s": 1.0, "share": share}
        for people, share in ((0, 0.1), (1, 0.4), (2, 0.2), (29, 0.3))
    ]
    (axes,) = draw(made)["concurrent"].axes
    labels = [text.get_text() for text in axes.texts if text.get_text()]
    assert labels == ["40 %", "30 %"]
    assert axes.get_xticks()[-1] == 29


def test_markdown_says_what_is_suppressed() -> None:
    text = markdown(suppressed())
    assert f"| people | {SUPPRESSED} |  |" in text
    assert f"| occupancy | {SUPPRESSED} |" in text
    assert "- **Suppressed** figures are about fewer than 5 people." in text


def test_markdown_says_that_single_figures_are_suppressed() -> None:
    made = one_video(min_people=5)
    made["total"] |= {"suppressed": False, "female": None, "age_median_years": None}
    assert f"| perceived female | {SUPPRESSED} |" in markdown(made)
    made["min_people"] = 1
    assert "| age, median | – |" in markdown(made)


def test_text_from_outside_is_no_markup() -> None:
    document = several_videos(notes=list(HOSTILE), skipped=[{"folder": HOSTILE[3], "reason": HOSTILE[0]}])
    text = markdown(document)
    clean = markdown(several_videos(notes=["x"] * len(HOSTILE), skipped=[{"folder": "x", "reason": "x"}]))
    assert len(text.splitlines()) == len(clean.splitlines())
    assert "<" not in text and "javascript:" not in text
    assert "`" not in text.partition("## Provenance")[0]
    assert "\u202e" not in text
    assert set(re.findall(r"\]\(([^)]*)\)", text)) == {"https://www.youtube.com/watch?v=dQw4w9WgXcQ"}
    rows = [line for line in text.splitlines() if "(uploaded)" in line]
    assert len(rows) == len(HOSTILE)
    assert {line.count("|") for line in rows} == {9}


def test_only_addresses_of_the_web_are_linked() -> None:
    for url in (
        "javascript:alert(1)",
        "file:///etc/passwd",
        "//example.org",
        None,
        "http://[bad",
        "https://a b",
    ):
        assert moment_url(url, 1) is None
        assert "](" not in markdown(one_video(videos=[video(url=url)]))
    text = markdown(one_video(videos=[video(url='https://example.org/a)b"<i>|_c_?d=é;#x')]))
    assert "(https://example.org/a%29b%22%3Ci%3E%7C_c_?d=%C3%A9%3B#x)" in text


@pytest.mark.parametrize(
    "url",
    [
        "https://www.youtube.com/watch?v=dQw4w9WgXcQ&list=x&t=5",
        "http://m.youtube.com/watch?app=x&v=dQw4w9WgXcQ#t=3",
        "https://youtu.be/dQw4w9WgXcQ?t=9",
        "https://youtube.com/shorts/dQw4w9WgXcQ",
        "https://www.youtube.com/live/dQw4w9WgXcQ?feature=share",
    ],
)
def test_moments_of_youtube(url: str) -> None:
    assert moment_url(url, 75.99) == "https://www.youtube.com/watch?v=dQw4w9WgXcQ&t=75s"


def test_moments_of_other_addresses() -> None:
    assert moment_url("https://example.org/a.mp4?b=1#t=3", 0.2) == "https://example.org/a.mp4?b=1#t=0"
    assert moment_url("https://notyoutube.com/watch?v=dQw4w9WgXcQ", 1) == (
        "https://notyoutube.com/watch?v=dQw4w9WgXcQ#t=1"
    )
    assert moment_url("https://www.youtube.com/watch?v=<b>", 1) == "https://www.youtube.com/watch?v=<b>#t=1"


# --- charts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "charts"),
    [
        ("one", {"timeline", "timeline-ages", "people", "pyramid", "shares", "concurrent"}),
        ("several", {"pyramid", "shares", "concurrent", "videos", "groups", "trend", "audience"}),
        ("nobody", set()),
        ("suppressed", {"timeline", "concurrent"}),
    ],
)
def test_charts_that_have_something_to_show_are_drawn(name: str, charts: set[str]) -> None:
    assert set(draw(DOCUMENTS[name]())) == charts <= set(REPORT_CHARTS)


@pytest.mark.slow
def test_charts_are_for_slides(tmp_path: Path) -> None:
    written = [
        *save(one_video(), ["png"], tmp_path / "one"),
        *save(several_videos(), ["png"], tmp_path / "several"),
    ]
    assert len(written) == 13
    for path in written:
        with Image.open(path) as image:
            assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
            assert image.size == (2400, 1350)
            drawn = np.asarray(image.convert("L"))
        # Below the title too.
        assert (drawn[300:] < 200).mean() > 0.005, path.name


def texts(figure: Any) -> list[str]:
    """Everything that is written on a chart."""
    import matplotlib.text

    figure.canvas.draw()
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_visible()]


def test_titles_are_drawn_as_they_are() -> None:
    figure = draw(several_videos(filters=["$a$ since $"]))["videos"]
    drawn = texts(figure)
    # Matplotlib shows an escaped sign as the sign, and would not draw this as a formula.
    assert r"\$x^2\$ and \$\frac{1}\$" in drawn
    assert {"<script>alert(1)</script>", "| a | b", "line break # head", '=HYPERLINK("http://x")'} <= set(
        drawn
    )
    assert not any("\u202e" in text or "\n" in text for text in drawn)
    assert max(map(len, drawn)) < 100


@pytest.mark.parametrize("bands", [["0-99"], ["0-2", "4-6", "8-13", "15-20"], BANDS])
def test_a_bar_of_the_pyramid_is_as_high_as_its_band(bands: list[str]) -> None:
    # People in bands that are not neighbors, in one band alone, in none.
    for chosen in ([bands[0], bands[-1]], [bands[-1]], []):
        cells = [
            {"gender": gender, "band": band, "people": int(band in chosen) * 3, "on_screen_s": 1.0}
            for gender in ("female", "male", "unknown")
            for band in [*bands, "unknown"]
        ]
        charts = draw(one_video(pyramid=cells, age_bands=bands))
        assert ("pyramid" in charts) == bool(chosen)
        if not chosen:
            continue
        axes = charts["pyramid"].axes[0]
        labels = {
            text.get_text(): y for text, y in zip(axes.get_yticklabels(), axes.get_yticks(), strict=True)
        }
        drawn = [bar for bar in axes.patches if bar.get_width()]
        middles = sorted(bar.get_y() + bar.get_height() / 2 for bar in drawn)
        assert middles == pytest.approx(sorted(2 * [labels[band] for band in set(chosen)]))
        assert {round(bar.get_height(), 6) for bar in drawn} == {0.8}


def test_the_pyramid_counts_whole_people() -> None:
    cells = [
        {"gender": gender, "band": "25-34", "people": int(gender == "female"), "on_screen_s": 1.0}
        for gender in ("female", "male", "unknown")
    ]
    for axes in draw(one_video(pyramid=cells))["pyramid"].axes:
        low, high = axes.get_xlim()
        assert all(tick == round(tick) for tick in axes.get_xticks() if low <= tick <= high)


def test_genders_have_their_colors_and_signs_everywhere() -> None:
    css = (Path(analyzer.__file__).parent / "report" / "assets" / "page.css").read_text("utf-8").upper()
    for gender, color in GENDER_COLORS.items():
        assert f"--{gender.upper()}: {color.upper()};" in css
    timeline = draw(one_video())["timeline"].axes[0].get_legend()
    signs = {
        text.get_text(): patch
        for text, patch in zip(timeline.get_texts(), timeline.get_patches(), strict=True)
    }
    assert set(signs) == set(GENDER_COLORS)
    for gender, patch in signs.items():
        assert to_hex(patch.get_facecolor()).upper() == GENDER_COLORS[gender].upper()
    assert len({patch.get_hatch() for patch in signs.values()}) == 3


def test_charts_say_what_they_show() -> None:
    document = one_video()
    document["pyramid"][3] |= {"people": None}
    charts = draw(document)
    assert {"1 · female · 30", "2 · male", "0:04.0"} <= set(texts(charts["people"]))
    assert SUPPRESSED in texts(charts["pyramid"])
    assert {"17 %\n0:01.0", "50 %\n0:03.0"} <= set(texts(charts["concurrent"]))
    several = draw(several_videos())
    assert texts(several["trend"]).count("▲") == 1
    audience = texts(several["audience"])
    assert (audience.count("▼ less"), audience.count("▲ more")) == (1, 1)
    assert texts(several["groups"]).count(SUPPRESSED) == 2


def test_at_most_thirty_people_are_drawn_the_longest_on_screen() -> None:
    person = one_video()["people"][0]
    people = [person | {"person_id": n, "on_screen_s": float(n % 7)} for n in range(1, 41)]
    drawn = texts(draw(one_video(people=people))["people"])
    labels = [text for text in drawn if text.endswith("· female · 30")]
    assert len(labels) == 30 and "40 · female · 30" in labels and "7 · female · 30" not in labels
    assert any("the 30 longest on screen of 40 people" in text for text in drawn)
