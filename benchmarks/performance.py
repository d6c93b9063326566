"""Time and memory of the analysis against decoding alone: writes ``docs/performance.md``.

Each measurement is a process of its own. Decoding and analysis run in turn, and what counts is the median
of their ratios: the machine's own speed and mood fall out.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.videos import panning, repeated

ROOT = Path(__file__).parents[1]

ROUNDS = 5
DECODE = """
import sys, time, av
with av.open(sys.argv[1]) as container:
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    start = time.perf_counter()
    for frame in container.decode(stream):
        pass
    print(time.perf_counter() - start)
"""
ANALYSE = """
import json, sys, tempfile, resource
from analyzer import analyze
with tempfile.TemporaryDirectory() as out:
    run = analyze(sys.argv[1], out=out, video=False, **json.loads(sys.argv[2]))
    info = run.info | {"people_rows": len(run.people)}
info["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps(info))
"""


@dataclass(frozen=True)
class Row:
    """Medians over the rounds of one setting."""

    name: str
    decode_s: float
    analysis_s: float
    ratio: float
    ratio_low: float
    ratio_high: float
    cpu_s: float
    peak_mb: float
    faces_per_sample: float


def run(code: str, *arguments: str) -> tuple[str, float]:
    """Standard output and CPU seconds of a Python process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return result.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(name: str, video: Path, settings: dict[str, object], rounds: int = ROUNDS) -> Row:
    """Decode and analyse `video` in turn, `rounds` times."""
    decode, analysis, cpu, info = [], [], [], {}
    for _ in range(rounds):
        decode.append(float(run(DECODE, str(video))[0]))
        output, seconds = run(ANALYSE, str(video), json.dumps(settings))
        info = json.loads(output)
        analysis.append(info["timings_s"]["analysis"])
        cpu.append(seconds)
    ratios = [a / d for a, d in zip(analysis, decode, strict=True)]
    counts = info["counts"]
    return Row(
        name,
        statistics.median(decode),
        statistics.median(analysis),
        statistics.median(ratios),
        min(ratios),
        max(ratios),
        statistics.median(cpu),
        info["peak_mb"],
        counts["faces"] / max(1, counts["samples"]),
    )


def table(rows: list[Row]) -> list[str]:
    """The rows as Markdown."""
    lines = [
        "| work | decoding alone | analysis | ratio (lowest to highest) | CPU | peak memory | faces/sample |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        lines.append(
            f"| {row.name} | {row.decode_s:.2f} s | {row.analysis_s:.2f} s | "
            f"**{row.ratio:.2f}** ({row.ratio_low:.2f} to {row.ratio_high:.2f}) | {row.cpu_s:.1f} s | "
            f"{row.peak_mb:.0f} MB | {row.faces_per_sample:.1f} |"
        )
    return lines


def start_up_s(video: Path) -> tuple[float, float]:
    """Medians of wall seconds of ``--help`` and of a whole run over `video`."""
    import time

    def wall(*arguments: str) -> float:
        times = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            subprocess.run(
                [sys.executable, "cli.py", *arguments], check=True, cwd=ROOT, stdout=subprocess.DEVNULL
            )
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    with tempfile.TemporaryDirectory() as out:
        return wall("--help"), wall("analyze", str(video), "--no-video", "--out", out)


def main() -> None:
    """Measure and write the page."""
    with tempfile.TemporaryDirectory() as folder:
        minute = panning(Path(folder) / "minute.mp4", 60)
        short = panning(Path(folder) / "short.mp4", 2)
        long = repeated(Path(folder) / "long.mp4", minute, 20)
        rows = [
            measure("60 s, 5 samples a second", minute, {}),
            measure("60 s, 5 samples a second, float32", minute, {"precision": "f32"}),
            measure("60 s, 1 sample a second", minute, {"fps": 1}),
            measure("60 s, keyframes", minute, {"keyframes": True}),
            measure("20 min, 5 samples a second", long, {}, rounds=1),
        ]
        help_s, short_s = start_up_s(short)
    lines = [
        "# Performance",
        "",
        "Written by `make bench`. One video of 1920 x 1080 pixels, 30 pictures a second, H.264, a camera",
        "that pans over portraits. Decoding alone is a bare PyAV loop with automatic threads; the analysis",
        "counts from the opened video to the finished tables, without the annotated video. Medians of",
        f"{ROUNDS} rounds, decoding and analysis in turn, each in a process of its own; the ratio is the",
        "median of the rounds' ratios. CPU counts the whole process, imports and loading included.",
        "",
        f"Machine: {os.cpu_count()} cores, {_processor()}, Linux {platform.release().split('-')[0]}, "
        f"Python {platform.python_version()}.",
        "",
        *table(rows),
        "",
        f"Memory: 20 minutes need {rows[-1].peak_mb / rows[0].peak_mb:.2f} times the peak of one minute.",
        "",
        f"Starting: `--help` answers in {help_s:.2f} s, a whole run over a 2 s clip takes {short_s:.2f} s.",
    ]
    (ROOT / "docs" / "performance.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_readme(rows[0], rows[-1], short_s)
    print("\n".join(lines))


def write_readme(minute: Row, long: Row, start_s: float) -> None:
    """Put the headline figures into the README, between its marks."""
    path = ROOT / "README.md"
    before, rest = path.read_text("utf-8").split("<!-- speed -->\n")[:2]
    after = rest.split("<!-- /speed -->\n")[1]
    faces, ratio = minute.faces_per_sample, minute.ratio
    block = (
        f"A minute of 1080p video with {faces:.0f} faces in every picture, analysed 5 times a second, takes\n"
        f"{minute.analysis_s:.1f} s on {os.cpu_count()} cores: {ratio:.1f} times as long as decoding it "
        f"takes. Twenty minutes\nneed {long.peak_mb:.0f} MB of memory, one minute {minute.peak_mb:.0f} MB. "
        f"A whole run over a clip of 2 s takes {start_s:.1f} s.\n"
    )
    path.write_text(f"{before}<!-- speed -->\n{block}<!-- /speed -->\n{after}", encoding="utf-8")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


if __name__ == "__main__":
    main()
