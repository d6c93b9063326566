"""Tables for spreadsheets: what each reader makes of them."""

from __future__ import annotations

import csv
import shutil
import subprocess
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from analyzer.runs.run import Run
from analyzer.runs.run_info import SCHEMA_VERSION
from analyzer.runs.schema import PEOPLE
from analyzer.runs.tables import empty_table, write_csv
from analyzer.util.sheets import safe_cell
from analyzer.util.sheets import write_csv as write_frame

TITLES = ["Größe, „Käse“", "日本語 🎉", "naïve\nline", "=1+1", "＝1+1", " +1", "@SUM(A1)", "-2", "plain", ""]


def frame() -> pd.DataFrame:
    return pd.DataFrame({"title": TITLES, "length_s": [1.5, *[None] * 8, -2.25], "people": range(10)})


def test_csv_is_read_by_pandas_duckdb_and_python(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    write_frame(path, frame())
    assert path.read_bytes().startswith(b"\xef\xbb\xbftitle,")
    expected = [safe_cell(title) for title in TITLES]
    with_pandas = pd.read_csv(path, keep_default_na=False, dtype={"title": str})
    assert list(with_pandas) == ["title", "length_s", "people"]
    assert with_pandas["title"].tolist() == expected
    with_duckdb = duckdb.connect().execute(f"SELECT title, people FROM read_csv('{path}')").fetchall()
    assert [(title or "", people) for title, people in with_duckdb] == list(
        zip(expected, range(10), strict=True)
    )
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {"title": TITLES[0], "length_s": "1.5", "people": "0"}
    assert rows[9]["length_s"] == "-2.25"  # a number is no formula
    # pandas reads back what pandas wrote, whatever the run's tables are made of.
    people = empty_table(PEOPLE)
    people.loc[0] = {column.name: 1 for column in PEOPLE} | {
        "video_id": "=é",
        "gender": "female",
        "age_band": "65+",
        "name": "Ada",
        "gender_source": "confirmed",
        "age_source": "estimated",
        "corrected": True,
    }
    write_csv(tmp_path / "people.csv", people, PEOPLE)
    again = Run(tmp_path, {"schema_version": SCHEMA_VERSION}).people
    assert (again.loc[0, "video_id"], again.loc[0, "gender"], list(again)) == ("'=é", "female", list(people))


@pytest.mark.parametrize(
    "start", ["=", "+", "-", "@", "\t", "\r", "\n", " =", "\u00a0=", "＝", "＋", "－", "＠"]
)
def test_no_text_is_a_formula(start: str) -> None:
    assert safe_cell(f"{start}cmd|' /C calc'!A0").startswith("'")
    assert safe_cell(f"a{start}b")[0] == "a"


def test_libreoffice_reads_accents_and_no_formulas(tmp_path: Path) -> None:
    office = shutil.which("soffice")
    if office is None:
        pytest.skip("LibreOffice is not installed")
    write_frame(tmp_path / "t.csv", frame().assign(id="055551828374"))
    # Commas, quotes, UTF-8: what its window for CSV offers by itself, and a command has to name.
    command = [office, f"-env:UserInstallation={(tmp_path / 'profile').as_uri()}", "--headless"]
    command += ["--infilter=CSV:44,34,76,1", "--convert-to", "fods:OpenDocument Spreadsheet Flat XML"]
    command += ["--outdir", str(tmp_path), str(tmp_path / "t.csv")]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    text = (tmp_path / "t.fods").read_text("utf-8")
    assert "table:formula" not in text
    for words in ("title", "Größe, „Käse“", "日本語 🎉", "'＝1+1", "'@SUM(A1)", "plain"):
        assert f"<text:p>{words.replace(chr(39), '&apos;')}</text:p>" in text, words
