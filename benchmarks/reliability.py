"""Writes ``docs/reliability.md``: what a batch survives, by the experiments of `testkit.faults`.

    python -m benchmarks.reliability [--quick] [--only kills,disk] [--folder FOLDER]

With `--quick` or `--only` the page is printed and not written. A full disk is a small tmpfs, which only root
can mount; otherwise that experiment is skipped, and the page says so.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import functools
import itertools
import os
import platform
import signal
import sqlite3
import sys
import tempfile
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import analyzer
from benchmarks.odd_files import MARKS as ODD_FILES
from benchmarks.reports import kept_section
from testkit.faults import (
    DISKS,
    DOWNLOADS,
    KIB,
    MAY_DIFFER,
    ROOT,
    SETTINGS,
    STARTING_S,
    WORDS,
    Bench,
    Result,
    crashes,
    full_disk,
    full_download,
    killed_analysis,
    kills,
    locked_at_start,
    locked_ledger,
    make_video,
    memory,
    poison,
    reserve_kept,
    second_signal,
    signals,
    two_batches,
)

PAGE = ROOT / "docs" / "reliability.md"


Experiment = Callable[[], Result]


def experiments(folder: Path, *, quick: bool) -> dict[str, Callable[[], list[Experiment]]]:
    """All experiments by name; the videos of a group are made when it is called."""

    def bench(name: str, count: int, seconds: float, **how: Any) -> Bench:
        videos = folder / f"{name}-videos"
        videos.mkdir(parents=True)
        made = [
            make_video(videos / f"talk-{number}.mp4", seconds + number, number, sound=number % 2 == 1)
            for number in range(count)
        ]
        return Bench(folder / name, made, **how)

    def killed() -> list[Experiment]:
        some = bench("kills", 2 if quick else 5, 6 if quick else 8)
        counts = (4, 2, 1) if quick else (20, 6, 3)
        return [
            lambda: kills(some, counts[0]),
            lambda: signals(some, signal.SIGTERM, counts[1]),
            lambda: signals(some, signal.SIGINT, counts[1]),
            lambda: second_signal(some, counts[2]),
        ]

    def side_by_side() -> list[Experiment]:
        settings = SETTINGS + "video = false\n"
        top = "workers = 2\nreport = ['html', 'csv']\n"
        some = bench("side", 3, 8, settings=settings, top=top, gone_s=STARTING_S)
        return [
            lambda: kills(some, 2 if quick else 10, seed=4, how=", with two processes and without videos")
        ]

    def full() -> list[Experiment]:
        local, videos = bench("disk", 2, 6), folder / "served"
        videos.mkdir()
        make_video(videos / "talk.mp4", 8, sound=True)
        sizes = DISKS[::4] if quick else DISKS
        return [
            lambda: reserve_kept(local),
            lambda: full_disk(local, sizes),
            lambda: full_disk(local, [160 * KIB, 280 * KIB], repeats=2 if quick else 11),
            lambda: full_download(folder / "download", videos, DOWNLOADS[1:2] if quick else DOWNLOADS),
        ]

    def others() -> list[Experiment]:
        some = bench("ledger", 2, 6)
        return [lambda: locked_ledger(some), lambda: locked_at_start(some), lambda: two_batches(some)]

    def commits() -> list[Experiment]:
        return [functools.partial(crashes, bench("crashes", 1, 6))]

    def many() -> list[Experiment]:
        count = 25 if quick else 200
        videos = folder / "tiny-videos"
        videos.mkdir(parents=True)
        tiny = [make_video(videos / f"{number:03d}.mp4", 1, number, fps=4) for number in range(count)]
        settings = "fps = 2\nvideo = false\nformat = ['parquet']\n"
        return [lambda: memory(Bench(folder / "many", tiny, settings=settings, top="report = []\n"))]

    def analyzers() -> list[Experiment]:
        some = bench("analysis", 2, 6)
        numbers = [signal.SIGKILL] if quick else [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT]
        return [lambda: killed_analysis(some, numbers), lambda: poison(bench("poison", 3, 4))]

    return {
        "kills": killed,
        "side": side_by_side,
        "disk": full,
        "ledger": others,
        "crashes": commits,
        "memory": many,
        "analysis": analyzers,
    }


def tried(experiment: Experiment) -> Result | str:
    """The result, or why the experiment cannot be run here."""
    try:
        return experiment()
    except PermissionError as error:
        return str(error)


def page(results: Sequence[Result | str], *, minutes: float) -> list[str]:
    """The results, as Markdown."""
    names = ("av", "openvino", "yt-dlp", "pyarrow")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    system = f"{platform.system()} {platform.release().split('-')[0]}, Python {platform.python_version()}"
    lines = [
        "# Reliability of the batch",
        "",
        *_paragraph(
            "Written by `python -m testkit.faults`, which injects real faults into",
            "`python cli.py batch` over made videos and compares the final output with that of an",
            "uninterrupted batch: all tables byte by byte or by value, annotated videos frame by frame,",
            "the names of all files and folders, including hidden ones, `run.json` without the keys that",
            f"describe how the work was done ({', '.join(f'`{name}`' for name in MAY_DIFFER)}),",
            "states, segments and attempts in the ledger, and SQLite's integrity check.",
        ),
        "",
        *_paragraph(
            f"{datetime.datetime.now(datetime.UTC).date()}, audience-analyzer {analyzer.__version__},",
            f"SQLite {sqlite3.sqlite_version}, {versions}; {os.cpu_count()} cores, {system}; it took",
            f"{minutes:.0f} minutes.",
        ),
        "",
    ]
    found = [one for one in results if isinstance(one, Result)]
    total: Counter[str] = Counter()
    for one in found:
        total.update(one.faults)
    lines += ["| fault | experiment | requirement | result |", "| --- | --- | --- | --- |"]
    lines += [f"| {one.fault} | {one.done} | {one.must} | {_in_numbers(one)} |" for one in found]
    lines += ["", "| counted over all experiments |  |", "| --- | --- |"]
    lines += [f"| {kind}{f' ({words})' if words else ''} | {total[kind]} |" for kind, words in WORDS.items()]
    missing = sorted({one for one in results if isinstance(one, str)})
    lines += [line for one in missing for line in ("", *_paragraph(f"Not run here: {one}."))]
    lines += ["", *_paragraph(*_REMARKS)]
    return lines


_REMARKS = (
    "Only reading the end of a video shows how it ends: where all segments of a video were completed, a",
    "resumed batch decodes the last one again. No committed segment is analyzed again.",
)


def _in_numbers(one: Result) -> str:
    numbers = [f"{name} {value}" for name, value in one.numbers.items()]
    faults = [f"**{name} {count}**" for name, count in one.faults.items()]
    return "; ".join([*numbers, *(faults or ["as required"])])


def _paragraph(*parts: str) -> list[str]:
    return textwrap.wrap(" ".join(parts), 110, break_on_hyphens=False, break_long_words=False)


def main() -> None:
    """Run the experiments, and write or print the page."""
    parser = argparse.ArgumentParser(description="Write docs/reliability.md.")
    parser.add_argument("--quick", action="store_true", help="a smaller scale")
    parser.add_argument("--only", default="", help="groups of experiments, separated by commas")
    parser.add_argument("--folder", type=Path, help="for videos and results; must be empty")
    options = parser.parse_args()
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        groups = experiments(folder, quick=options.quick)
        chosen = [name for name in options.only.split(",") if name] or list(groups)
        if unknown := set(chosen) - groups.keys():
            parser.error(f"there is no group {sorted(unknown)[0]}: choose from {', '.join(groups)}")
        results: list[Result | str] = []
        for experiment in itertools.chain.from_iterable(groups[name]() for name in chosen):
            start = time.monotonic()
            one = tried(experiment)
            results.append(one)
            text = one if isinstance(one, str) else f"{one.fault}: {_in_numbers(one)}"
            print(f"{time.monotonic() - start:.0f} s: {text}", file=sys.stderr, flush=True)
            for words in one.words if isinstance(one, Result) else ():
                print(f"  {words}", file=sys.stderr, flush=True)
    lines = page(results, minutes=(time.monotonic() - began) / 60)
    print("\n".join(lines))
    if not options.only and not options.quick:
        kept = kept_section(PAGE.read_text("utf-8"), ODD_FILES)
        PAGE.write_text("\n".join(lines) + "\n" + (f"\n{kept}" if kept else ""), encoding="utf-8")
    if any(isinstance(one, Result) and not one.well for one in results):
        sys.exit(1)


if __name__ == "__main__":
    main()
