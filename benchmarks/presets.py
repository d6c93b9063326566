"""What the presets gain and lose: writes ``docs/presets.md``.

Real clips and photographs described by eye come first, where the development data is there; made videos with
known people second.

    python -m benchmarks.presets [--seeds 1000-1001] [--videos FOLDER] [--only fast]
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analyzer import Settings, evaluate
from analyzer.evaluation.described import read_described
from analyzer.settings import DEFAULT_PRESET, PRESETS, options
from benchmarks.timed import decode
from testkit.crowd import KINDS, make
from testkit.faces import REPORT, SHARED

ROOT = Path(__file__).parents[1]
REAL = SHARED / "real"
WIDTH = 110

SLOWER: dict[str, dict[str, Any]] = {
    "10 samples a second": {"fps": 10.0},
    "1280 pixels": {"detector_size": 1280},
    "everything, in float32": {"precision": "f32", "estimate_every_s": 0.0, "reuse_s": 0.0},
}
"""What might be more accurate than the default."""


@dataclass(frozen=True)
class Outcome:
    """One way of analyzing, over all material.

    `seconds` is the time of the analysis of the real clips (of the made videos, without clips).
    """

    seconds: float
    document: dict[str, Any]

    def real(self, kind: str, figure: str, group: str = "") -> float:
        """A figure of the clips or photographs."""
        scores = self.document["described"]["kinds"][kind]
        return _value((scores["groups"][group] if group else scores)[figure])

    def made(self, figure: str) -> float:
        """A figure of the made videos."""
        return _value(self.document["videos"]["kinds"]["all"][figure])

    def people(self, figure: str) -> float:
        """A figure of people of 13 years and more in made videos."""
        return _value(self.document["videos"]["people"]["groups"]["all"]["13+"][figure])


def _value(figure: dict[str, Any]) -> float:
    return float("nan") if figure["value"] is None else float(figure["value"])


def measure(settings: Settings, folders: Sequence[Path], timed: set[str]) -> Outcome:
    """Analyze and score everything.

    Args:
        settings: How to analyze.
        folders: Labeled material.
        timed: File names of the videos whose analysis is timed.
    """
    with tempfile.TemporaryDirectory() as runs:
        document = evaluate([str(folder) for folder in folders], settings, keep_runs=Path(runs)).to_dict()
        infos = [json.loads(path.read_text("utf-8")) for path in Path(runs).rglob("run.json")]
    seconds = sum(info["timings_s"]["analysis"] for info in infos if Path(info["source"]).name in timed)
    return Outcome(seconds, document)


def changes(changed: dict[str, Any]) -> str:
    """What is changed of the defaults, in words."""
    meant = {option.name: option for option in options()}
    words = []
    for key, value in changed.items():
        flag = (meant[key].flag or key).replace("_", "-")
        if isinstance(value, bool):
            words.append(f"`--{flag if value else 'no-' + flag}`")
        else:
            words.append(f"`--{flag} {value if isinstance(value, str) else format(value, 'g')}`")
    return ", ".join(words) or "the defaults"


def _percent(value: float, sign: str = "") -> str:
    return "" if math.isnan(value) else f"{100 * value:{sign}.1f} %"


def page(outcomes: dict[str, Outcome], slower: dict[str, Outcome], decode_s: float) -> list[str]:
    """All that was measured, as Markdown."""
    some = outcomes[DEFAULT_PRESET].document
    every = {**outcomes, **slower}
    changed = {**PRESETS, **SLOWER}
    lines = [
        *("# Presets", ""),
        *textwrap.wrap(
            "Written by `python -m benchmarks.presets`. `--preset NAME` sets the options below; explicit "
            "options take precedence. Time is that of the analysis relative to decoding all frames of the "
            "same videos; [performance.md](performance.md) has others. What the figures mean is said in "
            "[accuracy.md](accuracy.md).",
            WIDTH,
        ),
        *("", "| | options | time / decoding |", "| --- | --- | --- |"),
        *(
            f"| {_title(name)} | {changes(changed[name])} | {one.seconds / decode_s:.2f} |"
            for name, one in every.items()
        ),
        "",
        *textwrap.wrap(
            "There is no preset for more accuracy: the slower settings without a name were tried on the real "
            "material, and none is better in all that counts. More samples and more pixels miss less of the "
            "time on screen, but count more people twice.",
            WIDTH,
        ),
    ]
    if some["described"] is not None:
        for kind, words in (("clip", "real clips"), ("photo", "real photographs")):
            scores = some["described"]["kinds"][kind]
            lines += ["", f"## {scores['files']} {words} with {scores['listed']} people", ""]
            lines += [*_described(kind, every)]
    kinds = some["videos"]["kinds"]["all"]
    head = (
        *("", "people found", "count error", "stated range holds", "gender right where stated (13+)"),
        *("unknown (13+)", "age error (13+)", "time on screen"),
    )
    lines += [
        *("", f"## {kinds['videos']} made videos with {kinds['true_people']} people", ""),
        *textwrap.wrap("Seeds and faces that were not used for fitting.", WIDTH),
        *("", f"| {' | '.join(head)} |", f"| {' | '.join(['---'] * len(head))} |"),
    ]
    for name, one in outcomes.items():
        cells = (
            _title(name),
            str(one.document["videos"]["kinds"]["all"]["found_people"]),
            _percent(one.made("count_abs_error")),
            _percent(one.made("count_in_interval")),
            _percent(one.people("gender_right")),
            _percent(one.people("gender_unknown")),
            f"{one.people('age_abs_error'):.1f} years",
            _percent(one.made("time_error"), "+"),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _title(name: str) -> str:
    return f"**{name}**" if name in PRESETS else name


def _described(kind: str, outcomes: dict[str, Outcome]) -> list[str]:
    head = ["", "count, sum of errors", "people found", "too many", "gender right / unknown / wrong (13+)"]
    head += ["age error, known", *(["time missed / too much", "cuts, F1"] if kind == "clip" else [])]
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join(['---'] * len(head))} |"]
    for name, one in outcomes.items():
        genders = (_percent(one.real(kind, key, "13+")) for key in ("right", "unknown", "wrong"))
        cells = [
            _title(name),
            *(_percent(one.real(kind, key)) for key in ("count_abs_error", "found", "unmatched")),
            " / ".join(genders),
            f"{one.real(kind, 'age_abs_error', 'known age'):.1f} years",
        ]
        if kind == "clip":
            cells.append(
                " / ".join(_percent(one.real(kind, key)) for key in ("time_missed", "time_too_much"))
            )
            cells.append(f"{one.real(kind, 'cuts_f1'):.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def material(videos: Path, seeds: range) -> tuple[list[Path], list[Path]]:
    """Labeled folders, and the videos whose analysis is timed."""
    folders = [make(kind, seed, videos, REPORT) for kind in KINDS for seed in seeds]
    if not REAL.exists():
        names = [json.loads((folder / "truth.json").read_text("utf-8"))["video"] for folder in folders]
        return folders, [folder / name for folder, name in zip(folders, names, strict=True)]
    described = read_described(json.loads((REAL / "truth.json").read_text("utf-8")), REAL)
    return [REAL, *folders], [one.paths[0] for one in described if one.kind == "clip"]


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description="Write docs/presets.md.")
    parser.add_argument("--seeds", default="1000-1001", help="of the made videos: first-last")
    parser.add_argument("--videos", type=Path, help="where the made videos are kept")
    parser.add_argument("--only", default=",".join(PRESETS), help="which to measure; a part is only printed")
    arguments = parser.parse_args()
    first, _, last = arguments.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    with tempfile.TemporaryDirectory() as temporary:
        folders, timed = material(arguments.videos or Path(temporary), seeds)
        decode_s = sum(decode(str(path))["seconds"] for path in timed)
        outcomes, slower = {}, {}
        for name in arguments.only.split(","):
            settings = Settings.from_preset(name, video=False)
            outcomes[name] = measure(settings, folders, {path.name for path in timed})
            print(name, f"{outcomes[name].seconds / decode_s:.2f}", file=sys.stderr, flush=True)
        for name, changed in SLOWER.items() if set(outcomes) == set(PRESETS) and REAL.exists() else ():
            slower[name] = measure(Settings(video=False, **changed), [REAL], {path.name for path in timed})
            print(name, f"{slower[name].seconds / decode_s:.2f}", file=sys.stderr, flush=True)
    if set(outcomes) == set(PRESETS):
        text = "\n".join(page(outcomes, slower, decode_s)) + "\n"
        (ROOT / "docs" / "presets.md").write_text(text, encoding="utf-8")
        print(text)


if __name__ == "__main__":
    main()
