"""Whether the length of the segments changes who is found: writes ``docs/segments.md``.

python -m benchmarks.segments [--videos FOLDER]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from analyzer import Run, Settings, analyze
from testkit.crowd import make
from testkit.faces import REPORT

ROOT = Path(__file__).parents[1]
KINDS, SEEDS = ("walking", "edited", "crossing"), (1000, 1001)
LENGTHS_S = (10, 60, 600)


def cell(run: Run) -> str:
    """People found, with the range, and of which gender."""
    counts = run.info["counts"]
    return (
        f"{counts['people']} ({counts['people_low']} to {counts['people_high']}), "
        f"{counts['female']} / {counts['male']} / {counts['unknown_gender']}"
    )


def main() -> None:
    """Analyze each video with each length and write the page."""
    parser = argparse.ArgumentParser(description="Write docs/segments.md.")
    parser.add_argument("--videos", type=Path, help="where the made videos are kept")
    kept = parser.parse_args().videos
    lines = [
        "# Segments of any length give the same people",
        "",
        "Written by `python -m benchmarks.segments`: the same made videos in segments of different",
        "length. People (range), then women / men / unknown. A tracklet ends with its segment, so short",
        "segments leave more to linking. Which process analyzes a segment, and in which order, changes",
        "nothing: `tests/test_segment.py` compares two processes with one.",
        "",
        "| video | true people | " + " | ".join(f"{length} s" for length in LENGTHS_S) + " |",
        "| --- | --- | " + " | ".join("---" for _ in LENGTHS_S) + " |",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            for seed in SEEDS:
                video = make(kind, seed, kept or Path(folder), REPORT)
                truth = json.loads((video / "truth.json").read_text("utf-8"))
                runs = [
                    analyze(video / truth["video"], Settings(segment_s=length, video=False), out=folder)
                    for length in LENGTHS_S
                ]
                cells = " | ".join(cell(run) for run in runs)
                lines.append(f"| {kind} {seed} | {len(truth['people'])} | {cells} |")
                print(lines[-1], flush=True)
    (ROOT / "docs" / "segments.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
