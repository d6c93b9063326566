"""Time and memory of reports: over one run, and over a thousand runs with ten million faces.

Writes its section of ``docs/performance.md``, between its marks. Each measurement is a process of its own.
What reports do is compared with loading the same columns of the same tables by pandas, file by file.

    python -m benchmarks.reports [--rounds 5] [--runs 1000] [--faces 10000000] [--folder FOLDER]

With other numbers than those, the section is printed and not written.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from testkit.runs import make_many, make_run, random_plan

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "performance.md"
MARKS = "<!-- reports -->\n", "<!-- /reports -->\n"
RUNS, FACES = 1000, 10_000_000
MOST_MANY_S, MOST_MB, MOST_ONE_S = 5.0, 1024, 1.5


def kept_section(text: str, marks: tuple[str, str] = MARKS) -> str:
    """A marked section of a page that another script wrote; empty if there is none."""
    _, found, rest = text.partition(marks[0])
    return found and found + rest.partition(marks[1])[0] + marks[1]


def measured(*command: str) -> dict[str, float]:
    """Wall-clock seconds and peak memory of a command in its own process."""
    watcher = (
        "import json, resource, subprocess, sys, time; start = time.perf_counter(); "
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
        "peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024; "
        "print(json.dumps({'seconds': time.perf_counter() - start, 'peak_mb': peak}))"
    )
    output = subprocess.run(
        [sys.executable, "-c", watcher, *command], check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ).stdout
    result: dict[str, float] = json.loads(output)
    return result


def load_by_pandas(folder: Path) -> None:
    """The approach of a notebook: load the columns that reports need, of all runs, into one table each."""
    columns = {
        "faces": ["sample", "time_s", "person_id"],
        "samples": ["sample", "time_s", "duration_s"],
        "people": ["person_id", "gender", "age_years", "female_prob", "first_s", "on_screen_s"],
    }
    tables = {}
    for name, wanted in columns.items():
        paths = sorted(folder.glob(f"*/{name}.parquet"))
        tables[name] = pd.concat(
            [pd.read_parquet(path, columns=wanted).assign(run=number) for number, path in enumerate(paths)]
        )
    faces = tables["faces"].merge(tables["people"][["run", "person_id", "gender"]], on=["run", "person_id"])
    crowd = faces.groupby(["run", "sample"]).size().rename("people").reset_index()
    moments = tables["samples"].merge(crowd, on=["run", "sample"], how="left")
    seconds = moments.loc[moments["people"] > 0].groupby("run")["duration_s"].sum()
    print(json.dumps({"occupancy_s": float(seconds.sum())}))


def section(many: list[dict[str, Any]], one: list[float], counts: tuple[int, int]) -> str:
    """The section as Markdown."""
    took = [each["ours"]["seconds"] for each in many]
    ratios = [each["pandas"]["seconds"] / each["ours"]["seconds"] for each in many]
    peak, other = (max(each[name]["peak_mb"] for each in many) for name in ("ours", "pandas"))

    def spread(values: list[float], unit: str) -> str:
        return f"**{statistics.median(values):.2f}** {unit} ({min(values):.2f} to {max(values):.2f})"

    def met(good: bool) -> str:
        return "met" if good else "not met"

    quick = statistics.median(took) < MOST_MANY_S, statistics.median(one) < MOST_ONE_S
    rows = [
        ("page over all of them", f"under {MOST_MANY_S:g} s", spread(took, "s"), met(quick[0])),
        ("its peak memory", f"under {MOST_MB} MB", f"**{peak:.0f}** MB", met(peak < MOST_MB)),
        ("page over one run", f"under {MOST_ONE_S:g} s", spread(one, "s"), met(quick[1])),
        ("pandas, loading and joining the tables alone, times as long", "", spread(ratios, "times"), ""),
        ("pandas, peak memory", "", f"{other:.0f} MB", ""),
    ]
    head = [
        "## Reports",
        "",
        f"Written by `make bench` (`benchmarks/reports.py`): {counts[0]:,} made runs of ten minutes with",
        f"{counts[1]:,} rows of faces in all, and one run of ten minutes. Timed is the whole command",
        f"`cli.py report FOLDER --format html`. Rounds: {len(many)}.",
        "",
        "| what | target | measured (lowest to highest) |  |",
        "| --- | --- | --- | --- |",
    ]
    return "\n".join([*head, *(f"| {' | '.join(cells)} |" for cells in rows)]) + "\n"


def main() -> None:
    """Measure, and write or print the section."""
    parser = argparse.ArgumentParser(description="Write the section on reports of docs/performance.md.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--faces", type=int, default=FACES)
    parser.add_argument("--folder", type=Path, help="where the made runs are kept, and found if there")
    parser.add_argument("--pandas", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.pandas:
        load_by_pandas(chosen.pandas)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.folder or Path(temporary) / "runs"
        if not folder.exists():
            make_many(folder, chosen.runs, chosen.faces)
        single = Path(temporary) / "single"
        make_run(single, random_plan(np.random.default_rng(1), length_s=600, people=16, concurrent=3.3))
        ours = [sys.executable, "cli.py", "report", "--format", "html", "--quiet", "--out", temporary]
        counted = [pq.read_metadata(path).num_rows for path in folder.glob("*/faces.parquet")]
        many, one = [], []
        for number in range(chosen.rounds):
            pair = {
                "pandas": measured(sys.executable, "-m", "benchmarks.reports", "--pandas", str(folder)),
                "ours": measured(*ours, str(folder)),
            }
            many.append(pair)
            one.append(measured(*ours, str(single))["seconds"])
            print(f"round {number + 1}: {pair}, one run {one[-1]:.2f} s", file=sys.stderr, flush=True)
    text = section(many, one, (len(counted), sum(counted)))
    print(text)
    if (chosen.runs, chosen.faces) == (RUNS, FACES):
        page = PAGE.read_text("utf-8")
        block = MARKS[0] + text + MARKS[1]
        old = kept_section(page)
        PAGE.write_text(page.replace(old, block) if old else f"{page}\n{block}", encoding="utf-8")


if __name__ == "__main__":
    main()
