"""Whether the shares over several videos keep what their intervals promise: writes ``docs/pooled.md``.

python -m benchmarks.pooled [--videos FOLDER] [--runs FOLDER]
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analyzer import Settings, analyze
from analyzer.report import make_report
from analyzer.settings import assign_band
from testkit.crowd import KINDS, make
from testkit.faces import REPORT

ROOT = Path(__file__).parents[1]
SEEDS = range(1000, 1005)
SIZES = (1, 3, 6, 10, 20)
CHOICES = 24
"""So many different choices of videos at most are reported on of each size."""


def truth_of(videos: list[Path]) -> pd.DataFrame:
    """The labeled people of some videos: gender, age band, seconds on screen."""
    people = [one for video in videos for one in json.loads((video / "truth.json").read_text())["people"]]
    bands = [assign_band(float(one["age_years"]), Settings().bands) for one in people]
    return pd.DataFrame(people)[["gender", "on_screen_s"]].assign(age=bands)


def compared(runs: list[Path], videos: list[Path]) -> pd.DataFrame:
    """The estimated shares of one report beside the true ones."""
    truth = truth_of(videos)
    rows: list[dict[str, Any]] = []
    for share in make_report(runs).document["shares"]:
        if share["by"]:
            continue
        mine = truth[share["dimension"]] == share["group"]
        for of, weights in (("people", np.ones(len(truth))), ("time", truth["on_screen_s"].to_numpy())):
            true = float(weights[mine].sum() / weights.sum())
            low, high = share[f"{of}_low"], share[f"{of}_high"]
            row = {"dimension": share["dimension"], "group": share["group"], "of": of, "true": true}
            rows.append(
                row
                | {"estimate": share[f"{of}_share"], "low": low, "high": high}
                | {"width": high - low, "held": low - 1e-9 <= true <= high + 1e-9}
            )
    return pd.DataFrame(rows)


def coverage(runs: list[Path], videos: list[Path]) -> list[str]:
    """Rows: how many videos, how often the interval holds the truth, how wide it is."""
    chance = random.Random(0)
    lines = []
    for size in SIZES:
        if size == 1:
            picks = [[number] for number in range(len(runs))]
        else:
            picks = [chance.sample(range(len(runs)), size) for _ in range(CHOICES)]
        picks = picks[:1] if size == len(runs) else picks
        tables = [compared([runs[n] for n in pick], [videos[n] for n in pick]) for pick in picks]
        found = pd.concat(tables).groupby("dimension")[["held", "width"]].mean()
        cells = [
            f"{found.loc[of, 'held']:.0%} | {100 * found.loc[of, 'width']:.0f} points"
            for of in ("gender", "age")
        ]
        lines.append(f"| {size} | {len(picks)} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    """Analyze the videos, report on choices of them, write the page."""
    parser = argparse.ArgumentParser(description="Write docs/pooled.md.")
    parser.add_argument("--videos", type=Path, help="where the made videos are kept")
    parser.add_argument("--runs", type=Path, help="where their runs are kept, and found if there")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        made = [
            make(kind, seed, chosen.videos or Path(temporary), REPORT) for kind in KINDS for seed in SEEDS
        ]
        out = chosen.runs or Path(temporary) / "runs"
        runs = []
        for video in made:
            done = [path.parent for path in (out / video.name).glob("*/run.json")]
            runs.append(
                done[0]
                if done
                else analyze(video / "video.mp4", Settings(video=False), out=out / video.name).folder
            )
        everything = compared(runs, made)
        rows = [
            f"| {row['group']} | {row['true']:.1%} | {row['estimate']:.1%} | {row['low']:.1%} to "
            f"{row['high']:.1%} | {'yes' if row['held'] else 'no'} |"
            for row in everything[everything["of"] == "people"].to_dict("records")
        ]
        people = len(truth_of(made))
        lines = [
            "# Shares over several videos",
            "",
            f"Written by `python -m benchmarks.pooled`: {len(made)} made videos with {people} labeled",
            "people, reported on one by one, by several at random, and all together. The true shares should",
            "lie in their 95 % intervals in 95 of 100 cases. Choices of the same videos share people, so the",
            "rows are less certain than they appear.",
            "",
            "| videos | choices | gender held | width | age bands held | width |",
            "| --- | --- | --- | --- | --- | --- |",
            *coverage(runs, made),
            "",
            "All together, shares of the people:",
            "",
            "| group | true | estimated | 95 % interval | held |",
            "| --- | --- | --- | --- | --- |",
            *rows,
        ]
    (ROOT / "docs" / "pooled.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
