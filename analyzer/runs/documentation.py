"""The documentation of the tables, generated from the schema."""

from __future__ import annotations

from analyzer.runs.run_info import SCHEMA_VERSION
from analyzer.runs.schema import (
    EMBEDDINGS,
    FACES,
    IMAGES,
    PEOPLE,
    SAMPLES,
    SHARES,
    people_columns,
    timeline_columns,
)
from analyzer.settings import AGE_BANDS, Settings

__all__ = [
    "documentation",
]


def documentation() -> str:
    """``docs/records.md``: every table and column, from the schema."""
    lines = [
        "# Tables",
        "",
        "Generated from the schema in `analyzer/records.py` by `make docs`; schema version "
        f"{SCHEMA_VERSION}. Absence has one spelling: an empty cell (NaN) for a measurement, -1 for an id, "
        "`unknown` for a category, a row of zeros for a bin without people.",
        "",
        "CSV is UTF-8 and begins with its mark (BOM), by which spreadsheets know the accents; Python's own "
        "`csv` reads it with `encoding='utf-8-sig'`. With `--format xlsx` the tables are also sheets of "
        "`tables.xlsx`, beside one with the counts, one of what the columns mean, and one of where it comes "
        "from.",
    ]
    tables = {
        "timeline": (timeline_columns(Settings()), "timeline.csv, timeline.parquet", "One row a bin."),
        "people": (PEOPLE, "people.csv, people.parquet", "One row a person."),
        "shares": (
            SHARES,
            "shares.csv, shares.parquet",
            "One row a group; none where fewer than five people were judged.",
        ),
        "images": (
            IMAGES,
            "images.csv, images.parquet, only of runs of images",
            "One row an image and person in it, and one an image without people.",
        ),
        "faces": (FACES, "faces.parquet", "One row a face in an analyzed frame."),
        "samples": (SAMPLES, "samples.parquet", "One row an analyzed frame, also those without a face."),
        "embeddings": (
            EMBEDDINGS,
            "embeddings.parquet, only with `--keep-embeddings`",
            "One row a tracklet that could be compared with others.",
        ),
    }
    for name, (columns, files, meaning) in tables.items():
        lines += ["", f"## {name}", "", f"{meaning} Files: {files}.", ""]
        lines += ["| column | type | unit | meaning |", "| --- | --- | --- | --- |"]
        lines += [f"| `{c.name}` | {c.type} | {c.unit} | {c.meaning} |" for c in columns]
    lines += [
        "",
        "## What `--scene audience` adds",
        "",
        "[audience.md](audience.md) says how these are measured.",
        "",
        "| table | column | type | unit | meaning |",
        "| --- | --- | --- | --- | --- |",
    ]
    audience = Settings(scene="audience")
    for name, mine, columns in (
        ("people", PEOPLE, people_columns(audience)),
        ("timeline", timeline_columns(Settings()), timeline_columns(audience)),
    ):
        added = [c for c in columns if c not in mine]
        lines += [f"| {name} | `{c.name}` | {c.type} | {c.unit} | {c.meaning} |" for c in added]
    lines += ["", "## Age bands", ""]
    for name, bands in AGE_BANDS.items():
        lines.append(f"- `--age-bands {name}`: " + ", ".join(band.name for band in bands))
    return "\n".join(lines) + "\n"
