"""What the presets gain and lose, on made videos with known people: writes ``docs/presets.md``.

Everything is measured against `accurate`, which estimates every face of every sample in float32.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analyzer import Settings, evaluate
from analyzer.settings import PRESETS, options
from benchmarks.timed import decode
from testkit.crowd import KINDS, make
from testkit.faces import REPORT

ROOT = Path(__file__).parents[1]

EVERYTHING = "accurate"


@dataclass(frozen=True)
class Outcome:
    """One way of analyzing, over all videos."""

    seconds: float
    document: dict[str, Any]

    def kind(self, figure: str, kind: str = "all") -> float:
        """A figure of the videos of a kind."""
        return float(self.document["videos"]["kinds"][kind][figure]["value"])

    def people(self, figure: str) -> float:
        """A figure of people of 13 years and more."""
        return float(self.document["videos"]["people"]["groups"]["all"]["13+"][figure]["value"])

    @property
    def found(self) -> int:
        return int(self.document["videos"]["kinds"]["all"]["found_people"])


def measure(name: str, folders: Sequence[Path]) -> Outcome:
    """Analyze and score all videos."""
    settings = Settings.from_preset(name, video=False)
    with tempfile.TemporaryDirectory() as runs:
        document = evaluate([str(folder) for folder in folders], settings, keep_runs=Path(runs)).to_dict()
        infos = [json.loads(path.read_text("utf-8")) for path in Path(runs).rglob("run.json")]
    assert len(infos) == len(folders)
    return Outcome(sum(info["timings_s"]["analysis"] for info in infos), document)


def changes(name: str) -> str:
    """What a preset changes of the defaults, in words."""
    meant = {option.name: option for option in options()}
    words = []
    for key, value in PRESETS[name].items():
        flag = (meant[key].flag or key).replace("_", "-")
        if isinstance(value, bool):
            words.append(f"`--{flag if value else 'no-' + flag}`")
        else:
            words.append(f"`--{flag} {value if isinstance(value, str) else format(value, 'g')}`")
    return ", ".join(words) or "the defaults"


def page(outcomes: dict[str, Outcome], decode_s: float, videos: int) -> list[str]:
    """All that was measured, as Markdown."""
    everything = outcomes[EVERYTHING]
    true = everything.document["videos"]["kinds"]["all"]["true_people"]
    head = (
        *("", "options", "time / decoding", f"people found of {true}", "count error"),
        *("gender right of those stated (13+)", "unknown (13+)", "age error (13+)", "time on screen"),
    )
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join(['---'] * len(head))} |"]
    for name, one in outcomes.items():
        cells = (
            f"**{name}**",
            changes(name),
            f"{one.seconds / decode_s:.2f}",
            str(one.found),
            f"{one.kind('count_abs_error'):.1%}",
            f"{one.people('gender_right'):.1%}",
            f"{one.people('gender_unknown'):.1%}",
            f"{one.people('age_abs_error'):.2f} years",
            f"{one.kind('time_error'):+.1%}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    losses = [
        "| against accurate | people | gender right | likelier gender right | age error |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, one in outcomes.items():
        if name == EVERYTHING:
            continue
        right, likelier = (
            f"{100 * (one.people(figure) - everything.people(figure)):+.1f} points"
            for figure in ("gender_right", "likelier_right")
        )
        age = one.people("age_abs_error") - everything.people("age_abs_error")
        people = one.found - everything.found
        losses.append(f"| **{name}** | {people:+d} | {right} | {likelier} | {age:+.2f} years |")
    intro = (
        f"Written by `python -m benchmarks.presets` on {videos} made videos with {true} labeled people",
        "(seeds and faces that were not used for fitting; see [accuracy.md](accuracy.md)).",
        "`--preset NAME` sets the options below; explicit options take precedence.",
        "**accurate** skips nothing: it detects faces in every sample at 640 pixels and estimates",
        "every one, in float32.",
    )
    notes = (
        "Time is that of the analysis relative to decoding all frames of the same videos, 1280 x 720 pixels",
        "and full of small faces, so hardly any sample allows a reduced resolution;",
        "[performance.md](performance.md) has others. Time on screen is the mean error of the people's",
        "total.",
    )
    return [
        *("# Presets", "", *textwrap.wrap(" ".join(intro), 110), ""),
        *(*lines, "", *textwrap.wrap(" ".join(notes), 110), ""),
        *losses,
    ]


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description="Write docs/presets.md.")
    parser.add_argument("--seeds", default="1000-1004", help="of the made videos: first-last")
    parser.add_argument("--videos", type=Path, help="where the made videos are kept")
    parser.add_argument("--only", default=",".join(PRESETS), help="which to measure; a part is only printed")
    arguments = parser.parse_args()
    first, _, last = arguments.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    with tempfile.TemporaryDirectory() as temporary:
        kept = arguments.videos or Path(temporary)
        folders = [make(kind, seed, kept, REPORT) for kind in KINDS for seed in seeds]
        names = [json.loads((folder / "truth.json").read_text("utf-8"))["video"] for folder in folders]
        decode_s = sum(
            decode(str(folder / name))["seconds"] for folder, name in zip(folders, names, strict=True)
        )
        outcomes = {}
        for name in arguments.only.split(","):
            outcomes[name] = measure(name, folders)
            one = outcomes[name]
            print(name, one.found, f"{one.seconds / decode_s:.2f}", file=sys.stderr, flush=True)
    if set(outcomes) == set(PRESETS):
        text = "\n".join(page(outcomes, decode_s, len(folders))) + "\n"
        (ROOT / "docs" / "presets.md").write_text(text, encoding="utf-8")
        print(text)


if __name__ == "__main__":
    main()
