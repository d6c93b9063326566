"""Time and memory of the analysis against decoding alone: writes ``docs/performance.md``.

Each measurement is a process of its own. Decoding and analysis run in turn, and what counts is the median
of their ratios: the machine's own speed and mood fall out.
"""

from __future__ import annotations

import argparse
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

import numpy as np
import pandas as pd

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
# The same without looking for cuts and comparing faces: what following by place alone takes.
PLAIN = (
    """
import numpy as np
import analyzer.segment as segment
from analyzer.follow import Follower
class NoCuts:
    def is_cut(self, look):
        return False
segment.CutFinder = NoCuts
segment.glance = lambda picture: np.zeros((54, 96, 3), np.uint8)
segment.Follower = lambda embedding: Follower()
"""
    + ANALYSE
)
LINK = """
import json, resource, sys, time
from analyzer.linking import link_tracklets
from analyzer.people import fuse_people
from analyzer.settings import Settings
from analyzer.shares import estimate_shares
from analyzer.vision.calibration import Calibration
from benchmarks.performance import many_tracklets
faces, samples, embeddings = many_tracklets(int(sys.argv[1]))
start = time.perf_counter()
linked = link_tracklets(faces, samples, embeddings)
faces["person_id"] = linked.person_ids
embeddings["person_id"] = embeddings["tracklet_id"].map(faces.groupby("tracklet_id")["person_id"].max())
people = fuse_people(faces, samples, embeddings, Settings(), Calibration.load())
estimate_shares(people, Settings(), Calibration.load())
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"seconds": seconds, "peak_mb": peak, "people": len(people)}))
"""
TRACKLETS = (1_000, 2_000, 5_000, 10_000, 20_000)
TRACKLETS_A_PERSON = 20


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


def measure(name: str, video: Path, settings: dict[str, object], rounds: int | None = None) -> Row:
    """Decode and analyse `video` in turn, `rounds` times."""
    decode, analysis, cpu, info = [], [], [], {}
    for _ in range(rounds or ROUNDS):
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


def many_tracklets(count: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Faces, samples and embeddings of a long video with `count` tracklets of five sightings, 20 a person.

    Two are always on screen at once. Embeddings of one person lie about 0.3 apart, of two about 0.8.
    """
    random = np.random.default_rng(count)
    people = count // TRACKLETS_A_PERSON
    centres = random.normal(0, 0.8 / np.sqrt(2 * 128), (people, 128))
    owner = random.permutation(np.repeat(np.arange(people), TRACKLETS_A_PERSON))[:count]
    # Nobody is seen twice at once.
    again = owner[::2] == owner[1::2]
    owner[1::2][again] = (owner[1::2][again] + 1) % people
    start = np.arange(count) // 2 * 10
    sample = (start[:, None] + np.arange(5)).ravel()
    tracklet = np.repeat(np.arange(count), 5)
    left = np.where(tracklet % 2, 600.0, 100.0) + random.uniform(0, 300, count)[tracklet]
    faces = pd.DataFrame({"sample": sample, "time_s": sample / 5, "tracklet_id": tracklet, "person_id": -1})
    faces = faces.assign(x1=left, y1=100.0, x2=left + 80, y2=200.0, score=0.9)
    faces["landmarks"] = [np.array([30, 40, 60, 40, 45, 60, 32, 75, 58, 75], np.float32)] * len(faces)
    faces["female_prob"], faces["age_years"], faces["age_spread_years"] = 0.9, 30.0, 5.0
    faces = faces.sort_values("sample", kind="stable", ignore_index=True)
    times = np.arange(int(sample.max()) + 6) / 5
    samples = pd.DataFrame(
        {"sample": np.arange(len(times)), "time_s": times, "duration_s": 0.2, "shot": 0, "image": ""}
    )
    looks = centres[owner] + random.normal(0, 0.3 / np.sqrt(2 * 128), (count, 128))
    embeddings = pd.DataFrame({"tracklet_id": np.arange(count), "views": 1, "view_px": 80.0})
    embeddings["embedding"] = list(looks.astype(np.float32))
    return faces, samples, embeddings


def linking_share(video: Path) -> tuple[float, float, float]:
    """By what share looks, linking and fusing make the analysis longer: median, lowest, highest."""
    shares = []
    for _ in range(ROUNDS):
        full, plain = (json.loads(run(code, str(video), "{}")[0])["timings_s"] for code in (ANALYSE, PLAIN))
        bare = plain["analysis"] - plain["link"]
        shares.append((full["analysis"] - bare) / bare)
    return statistics.median(shares), min(shares), max(shares)


def linking_lines() -> list[str]:
    """How linking grows with the number of tracklets, as Markdown."""
    lines = [
        "| tracklets | people | time | time per tracklet | peak memory |",
        "| --- | --- | --- | --- | --- |",
    ]
    for count in TRACKLETS:
        result = json.loads(run(LINK, str(count))[0])
        each = 1000 * result["seconds"] / count
        lines.append(
            f"| {count:,} | {result['people']:,} | {result['seconds']:.1f} s | {each:.2f} ms | "
            f"{result['peak_mb']:.0f} MB |"
        )
    return lines


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
    global ROUNDS  # noqa: PLW0603 - read all over this script
    parser = argparse.ArgumentParser(description="Write docs/performance.md.")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    ROUNDS = parser.parse_args().rounds
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
        share, share_low, share_high = linking_share(minute)
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
        "",
        "## Who is who",
        "",
        "Cuts, embeddings, linking, fusing and shares make the analysis of the minute (5 samples a",
        f"second) longer by **{share:.0%}** ({share_low:.0%} to {share_high:.0%}) than following by place",
        "alone; both were measured in turn.",
        "",
        "Linking, fusing and shares alone, over made tables of a long video with 20 tracklets a person:",
        "",
        *linking_lines(),
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
