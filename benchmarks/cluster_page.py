"""The sizing part of ``docs/cluster.md`` and its charts, from ``docs/cluster.json``."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from analyzer.batch.executors.spread import LONG_SEGMENTS
from analyzer.util.gender import GENDER_COLORS
from benchmarks.cluster import CHANGES, CORES_BUSY, CURVE, MIXES, NODES, SENSITIVITY, costs_of
from benchmarks.cluster_simulation import Cluster, Costs

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "cluster.md"
MARKS = "<!-- sizing -->\n", "<!-- /sizing -->\n"
NEXT = "## What was tried"
"""The section that follows."""
EFFICIENCY, TIME = "cluster-efficiency.png", "cluster-time.png"

_COLORS = dict(zip(MIXES, (GENDER_COLORS["female"], GENDER_COLORS["male"], "#009E73"), strict=True))
_STYLES = dict(zip(MIXES, ("o-", "s--", "^:"), strict=True))
_NAMES = {"YouTube": "videos as on YouTube", "channels": "uploads of channels", "television": "television"}
_BUSY = 2.0
"""From such a load on, times by the clock are too long."""
_MEASURED = {
    "amounts": "amounts",
    "driver": "the driver",
    "latencies": "starts, cancels and losses",
    "overhead": "the comparison with the local executor",
    "scaling": "one actor and two",
}
_DOINGS = {
    "useful": ("analyzing, opening, linking", GENDER_COLORS["male"], ""),
    "starting": ("starting", "#009E73", "\\\\"),
    "driver": ("waiting for the driver", GENDER_COLORS["female"], "//"),
    "idle": ("without work", GENDER_COLORS["unknown"], ".."),
    "lost": ("lost with a node", "#222222", "xx"),
}


def percent(value: float) -> str:
    """A share in words."""
    return f"{100 * value:.0f} %"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """As Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def paragraph(text: str) -> str:
    """Wrapped."""
    return textwrap.fill(" ".join(text.split()), 120, break_long_words=False, break_on_hyphens=False) + "\n"


def seconds(value: float) -> str:
    """A duration in s or ms."""
    return f"{value:.1f} s" if value >= 0.95 else f"{1000 * value:.3g} ms"


# -- what was measured


def measured_text(measured: Mapping[str, Any]) -> str:
    """Tables of all measurements."""
    amounts, driver, late = measured["amounts"], measured["driver"], measured.get("latencies")
    machine, calls = measured["machine"], driver["calls"]
    rows = [
        ["processor time to analyze a second of video", f"{amounts['cpu']:.2f} s", "real clips, one thread"],
        ["to open a video in the middle", seconds(amounts["open_s"]), "real clips, processor time"],
        ["to link people and write a run of two minutes", seconds(amounts["close_s"]), "the same"],
        ["source, for an hour of video", f"{amounts['source_mb'] * 3600:.0f} MB", "real clips, 360p to 800p"],
        ["parts, for an hour of video", f"{amounts['part_mb'] * 60:.1f} MB", "60, of a minute each"],
        ["files of the run, for an hour of video", f"{amounts['run_mb'] * 3600:.1f} MB", ""],
        ["driver: a message", seconds(calls["message_together_s"]), "processor time, 20 taken together"],
        ["driver: a message alone", seconds(calls["message_s"]), "processor time"],
        ["driver: a MB from an actor", seconds(calls["mb_s"]), "processor time"],
        ["driver: a part", seconds(max(0.0, driver["part_cpu_s"])), "processor time of all threads"],
        ["driver: a video without its parts", seconds(driver["job_cpu_s"]), "the same"],
        [
            "to flush a file to the disk",
            seconds(driver["sync_s"]),
            "median, a virtual disk shared with others",
        ],
        ["flushes for a part", flushes(driver, "part"), "counted"],
        ["flushes for a video without its parts", flushes(driver, "job"), "counted"],
        ["rate with two actors that analyze nothing", f"{driver['videos_per_s']:.1f} videos a second", ""],
        ["the same for parts", f"{driver['parts_per_s']:.1f} parts a second", ""],
    ]
    if late is not None:
        rows += [
            [
                "start of an actor",
                seconds(late["actor"]["median"]),
                "Ray's process, imports",
            ],
            ["then, loading of the models", seconds(late["load"]["median"]), "in the actor's child process"],
            ["cancel to the job's end", latency(late["cancel"]), f"local: {latency(late['cancel_local'])}"],
            ["actor killed, to `Moved`", latency(late["moved"]), ""],
            ["to work on another actor", latency(late["working"]), ""],
            ["to the next new part", latency(late["next_part"]), "its process starts first"],
        ]
    return "\n".join(
        [
            "### Measured\n",
            paragraph(
                f"""On {machine["cores"]} virtual cores, Python {machine["python"]}, Ray {machine["ray"]},
                PyAV {machine["av"]}. {busy(measured)} `python -m benchmarks.cluster measure` repeats all of
                it. Amounts and the time to analyze are medians over {len(amounts["clips"])} clips of real
                footage, each repeated for two minutes; the rest is from made videos, or from analyzers that
                do nothing but hand over prepared parts and runs."""
            ),
            table(["what", "measured", "how"], rows),
            compared(measured),
        ]
    )


def busy(measured: Mapping[str, Any]) -> str:
    """What else the machine did meanwhile."""
    loads = {name: measured[name].get("load_average", 0.0) for name in _MEASURED if name in measured}
    names = [_MEASURED[name] for name, load in loads.items() if load > _BUSY]
    if not names:
        return "Little else ran."
    return f"""Other programs kept them busy (load {max(loads.values()):.0f}) while these were measured:
        {", ".join(names)}. There, times by the clock are upper bounds, and processor times are those to
        rely on."""


def flushes(driver: Mapping[str, Any], kind: str) -> str:
    """How many, and by whom."""
    here, elsewhere, rows = (driver[f"{kind}_{name}"] for name in ("here", "elsewhere", "transactions"))
    return f"{elsewhere:.0f} by the threads that write, {here + rows:.0f} by the driver's own"


def latency(found: Mapping[str, float]) -> str:
    """Median and highest."""
    return f"{seconds(found['median'])} (at most {seconds(found['high'])})"


def range_of(found: Mapping[str, float]) -> str:
    """Median, lowest and highest."""
    if found["low"] == found["high"]:
        return f"{found['median']:.2f}"
    return f"{found['median']:.2f} ({found['low']:.2f} to {found['high']:.2f})"


def compared(measured: Mapping[str, Any]) -> str:
    """Against the local executor, as far as it was measured."""
    lines = []
    if (over := measured.get("overhead")) is not None:
        videos, parts = over["videos"], over["parts"]
        lines.append(
            f"""Against the local executor, with two loaded workers of one thread each, in
            {len(videos["wall_s"]["ray"])} alternated pairs: {over["clips"]} clips of {over["clip_s"]:g} s
            take **{range_of(videos["wall"])} times as long**, and {range_of(videos["cpu"])} times the
            processor time (without Ray's own processes). One video in {over["segments"]} segments of 1 s
            takes {range_of(parts["wall"])} times as long: the local executor starts processes for its
            segments, the actors run already."""
        )
    if (scaling := measured.get("scaling")) is not None:
        ray, local = scaling["ray"], scaling["local"]
        lines.append(
            f"""From one actor to two, 16 clips are done {ray["median"]:.2f} times as fast
            ({ray["low"]:.2f} to {ray["high"]:.2f}); the local executor with one process and with two,
            in the same rounds: {local["median"]:.2f} ({local["low"]:.2f} to {local["high"]:.2f})."""
        )
    return "\n".join(paragraph(line) for line in lines)


# -- what was simulated


def model_text(costs: Costs) -> str:
    """What the simulation takes into account, and what not."""
    cluster = Cluster()
    return (
        paragraph(
            f"""Everything from here on is a simulation (`benchmarks/cluster_simulation.py`), not a run on a
        cluster:
        no cluster of more than one machine was available. It uses the costs above. An actor of two cores
        keeps
        {CORES_BUSY} of them busy, so it analyzes {1 / costs.analysis:.0f} seconds of video in a second; a
        node has {cluster.actors_per_node} actors, takes {cluster.start_s:.0f} s to start (median; paid),
        its actors {costs.load_s:.0f} s more (an assumption: see above), and is
        lost after {cluster.lifetime_h:.0f} h on average, as a spot machine may be, {cluster.notice_s:.0f} s
        before the driver notices. {percent(cluster.slow_share)} of the nodes are half as fast, and equal work
        varies by {percent(cluster.noise)}. The driver has a network of 10 Gbit/s; nodes see the files unless
        stated otherwise. Shares, ranges of spread videos (from {LONG_SEGMENTS} segments on) and retries are
        decided by the product's own code. Not simulated: Ray's own scheduler and object store at that size,
        and the
        second copy of a late range that an idle actor gets. Efficiency is the time in which actors analyze,
        open, link and publish what is kept, over the time that is paid, from the order of the first node to
        the end of the last one: starting and the end of the batch, when little is left to do, are part of
        it."""
        )
        + "\n"
        + paragraph(
            """Lengths: *YouTube* is lognormal with a median of 64 s (random sample of McGrady, Zheng, Curran,
        Baumgartner and Zuckerman, "Dialing for Videos", 2023, as reported in 2025) and a mean of 692 s (5.2
        billion videos with 1 billion hours, Pex 2019), up to 12 h; *channels* is lognormal with a mean of 12
        minutes (243,000 uploads of popular channels with 48,486 hours, Pew Research Center 2019; its sigma
        of 1
        is an assumption); *television* is an archive of recordings of 1 h and, every fifth, of 10 h.
        Each figure is the median of three seeds, with the range where it is wider than a point; from 300
        nodes
        on there is one seed, because the driver is busy all the time. There is work for two hours, at 1,000
        nodes for a quarter of an hour."""
        )
    )


def spread_of(found: Mapping[str, Any]) -> str:
    """Efficiency with its range."""
    wide = found["high"] - found["low"] > 0.01
    return percent(found["efficiency"]) + (
        f" ({percent(found['low'])} to {percent(found['high'])})" if wide else ""
    )


def sizes_text(sizes: Mapping[str, Any]) -> str:
    """The table of mixes and sizes."""
    rows = []
    for mix in MIXES:
        for nodes in NODES:
            found = sizes[mix][str(nodes)]
            by = found["by"]
            rows.append(
                [
                    _NAMES[mix],
                    f"{nodes:,}",
                    f"{found['videos']:,}",
                    f"{found['rate']:,.0f}",
                    f"**{spread_of(found)}**",
                    percent(found["busy"]["thread"]),
                    ", ".join(
                        f"{_DOINGS[name][0]} {percent(by[name])}"
                        for name in sorted(
                            ("starting", "driver", "idle", "lost"), key=lambda one: -by.get(one, 0)
                        )
                        if by.get(name, 0) > 0.005
                    ),
                ]
            )
    head = [
        "videos",
        "nodes",
        "how many",
        "hours of video an hour",
        "efficiency",
        "driver's thread busy",
        "the rest",
    ]
    return table(head, rows)


def changes_text(changes: Mapping[str, Any]) -> str:
    """What changes do."""
    rows = []
    for label in CHANGES:
        cells = [label]
        for mix in ("YouTube", "television"):
            found = changes[label].get(mix)
            if found is None:
                cells += ["", "", ""]
                continue
            cells += [percent(found["efficiency"]), f"{found['rate']:,.0f}", percent(found["busy"]["thread"])]
        rows.append(cells)
    head = ["", "YouTube", "hours of video an hour", "thread busy"]
    return table([*head, "television", *head[2:]], rows)


def sensitivity_text(simulated: Mapping[str, Any]) -> str:
    """Efficiency when one thing at a time is less or more."""
    both = [simulated[f"sensitivity of {mix}"] for mix in ("YouTube", "television")]
    rows = [["unchanged", "", *(percent(one["unchanged"]["efficiency"]) for one in both), "", "", ""]]
    for label, (_, names, *factors) in SENSITIVITY.items():
        cells = [label]
        for factor in factors:
            found = [one[f"{label}|{factor:g}"] for one in both]
            cells.append(f"{factor:.2g} x" + _amount(names, found[0]["value"]))
            cells += [percent(one["efficiency"]) for one in found]
        rows.append(cells)
    return table(["what", "less", "YouTube", "television", "more", "YouTube", "television"], rows)


def _amount(names: tuple[str, ...], value: float) -> str:
    if len(names) > 1:
        return ""
    if names == ("slow_share",):
        return f": {percent(value)}"
    return f": {value:.0f} h" if names == ("lifetime_h",) else f": {seconds(value)}"


def sources_text(found: Mapping[str, Any]) -> str:
    """Files that are sent."""
    rows = []
    for mbit in (1.4, 4.0):
        for nodes in (10, 100):
            cells = [f"{mbit} Mbit/s", f"{nodes}"]
            for most in ("any", "rule"):
                one = found[f"sent|{mbit}|{nodes}|{most}"]
                cells += [
                    percent(one["efficiency"]),
                    f"{one['rate']:,.0f}",
                    percent(one["busy"]["sending"]),
                ]
            rows.append(cells)
    head = ["efficiency", "hours of video an hour", "network busy"]
    return table(["bit rate", "nodes", *head, "by the rule: efficiency", *head[1:]], rows)


def write(kept: Mapping[str, Any]) -> None:
    """Write the sizing part and the charts."""
    measured, simulated = kept["measured"], kept["simulated"]
    costs = costs_of(measured)
    sizes = {mix: simulated[f"sizes of {mix}"] for mix in MIXES}
    draw_efficiency(sizes)
    draw_time(sizes)
    sites = simulated["sources"]
    text = "\n".join(
        [
            MARKS[0] + "## Sizing\n",
            measured_text(measured),
            "### Simulated\n",
            model_text(costs),
            sizes_text(sizes),
            f"![Efficiency by the number of nodes]({EFFICIENCY})\n",
            f"![Where the paid time goes at 100 and at 1,000 nodes]({TIME})\n",
            "### What limits it, and what to change\n",
            limits_text(simulated, costs),
            changes_text(simulated["changes"]),
            "### Sensitivity\n",
            paragraph(
                """Efficiency at 100 nodes when one thing at a time is less or more; one seed, work for an
                hour, so starting and the end weigh twice as much as above. Differences of two or three
                points are chance."""
            ),
            sensitivity_text(simulated),
            "### Files that the driver sends, and sites\n",
            paragraph(
                """Television that the nodes do not see (`source = "send"`), with a network of 10 Gbit/s at
                the driver: each node that works on a video gets all of it once. In the left half all nodes
                take part in a spread video. The right half is this version's rule (`Order` of
                `executors/spread.py`, `best_place` of `executors/units.py`): a video stays on one node
                while there are at least as many videos as actors; after that it goes to nodes that would be
                idle, and to no more than pay for its copies. Ten nodes can be supplied in this way. With a
                hundred, the driver's network and its thread become the limit as the bit rate rises: use
                storage that the nodes see."""
            ),
            sources_text(sites),
            paragraph(
                f"""A cluster does not make a site faster. From one site, with the pauses of `[pace]` and 6
                MB/s,
                uploads of channels come at {sites["sites|1"]["rate"]:.0f} hours of video an hour, which
                {math.ceil(sites["sites|1"]["rate"] * costs.analysis)} actors analyze; from ten sites at the
                same time
                (`downloads = 10`) at {sites["sites|10"]["rate"]:.0f}, which are
                {math.ceil(sites["sites|10"]["rate"] * costs.analysis)} actors."""
            )
            + MARKS[1],
        ]
    )
    page = PAGE.read_text("utf-8")
    before, found, rest = page.partition(MARKS[0])
    if found:
        after = rest.partition(MARKS[1])[2]
    else:
        before, _, after = page.partition(NEXT)
        after = f"\n{NEXT}{after}"
    PAGE.write_text(before + text + after, encoding="utf-8")


def limits_text(simulated: Mapping[str, Any], costs: Costs) -> str:
    """What limits a cluster, in words and from the costs."""
    job_s = costs.job_s + costs.job_syncs * costs.sync_s
    part_s = costs.part_s + costs.row_syncs * costs.sync_s
    hundred = simulated["sizes of YouTube"]["100"]
    by = hundred["by"]
    return "\n".join(
        paragraph(text)
        for text in (
            f"""**The driver's own thread is the limit.** It spends {seconds(job_s)} on each video, of which
            {seconds(costs.job_syncs * costs.sync_s)} are {costs.job_syncs} flushes of the ledger to this
            disk, and
            {seconds(part_s)} on each part: at most {1 / job_s:.0f} videos or {1 / part_s:.0f} parts a second.
            The simulation charges it with all processor time of the driver's process, though the threads
            that write
            parts share that. So one driver is good for
            {3600 / (job_s + 60 * part_s):,.0f} hours of video an hour if they are recordings of an hour,
            whatever
            the number of nodes. At 100 nodes with videos as on YouTube it is busy
            {percent(hundred["busy"]["thread"])} of the time; there, actors are without work
            {percent(by["idle"])} and wait for the driver {percent(by["driver"])} of the time.""",
            """**The end of a batch** comes next: when little is left, actors that have ended wait for those
            that
            have not, and a slow node needs some minutes for its last range. The more work a batch has for
            each
            node, the less that matters: with work for one hour at 100 nodes (first row below) efficiency is
            lower than with work for two (above). Copies of late ranges, which this version
            makes and the
            simulation does not, help.""",
            """**More than about 100 nodes of this size** need several drivers. They share nothing: split
            the sources
            among several jobs files, each with an output folder and a ledger of its own, and with `[jobs]
            workers`
            set to its share of the cluster. Ten drivers with 100 nodes each do ten times what the row of 100
            nodes says. A disk that takes long to flush a file lowers the limit. For archives, longer segments
            (`segment_s = 300`) raise it: there are fewer parts, and a loss costs more. Parts that arrive
            together share a transaction of the ledger; the simulation charges one for each. Not done in this
            version: checking a part once instead of twice.""",
            """The second to fourth rows are what the first design did: it had no threads that write parts,
            did not spread long videos from the start, and made ranges of any length. The threads pay where a
            disk takes long to flush a file.""",
        )
    )


# -- charts


def draw_efficiency(sizes: Mapping[str, Any]) -> None:
    """Efficiency by the number of nodes."""
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    for mix in MIXES:
        values = [100 * sizes[mix][str(nodes)]["efficiency"] for nodes in CURVE]
        axes.plot(CURVE, values, _STYLES[mix], color=_COLORS[mix], label=_NAMES[mix])
    axes.axhline(90, color="#222222", linewidth=0.8)
    axes.text(CURVE[-1], 91, "target at 100 nodes: 90 %", fontsize=8, color="#222222", ha="right")
    axes.set_xscale("log")
    axes.set_xticks(CURVE, [f"{nodes:,}" for nodes in CURVE])
    axes.minorticks_off()
    axes.set_ylim(0, 100)
    axes.set_xlabel("nodes of four actors")
    axes.set_ylabel("efficiency in %")
    axes.grid(color="#DDDDDD")
    axes.legend(frameon=False, loc="lower left")
    _finish(axes)
    figure.savefig(DOCS / EFFICIENCY, dpi=110)


def draw_time(sizes: Mapping[str, Any]) -> None:
    """Where the paid time goes at 100 and at 1,000 nodes."""
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    shown = [(mix, nodes) for nodes in (100, 1000) for mix in MIXES]
    names = [f"{_NAMES[mix]}, {nodes:,}" for mix, nodes in shown]
    left = [0.0] * len(shown)
    for name, (label, color, hatch) in _DOINGS.items():
        values = []
        for mix, nodes in shown:
            found = sizes[mix][str(nodes)]
            by = found["by"] | {"useful": found["efficiency"]}
            values.append(100 * (by.get(name, 0.0) + (by.get("source", 0.0) if name == "driver" else 0.0)))
        axes.barh(names, values, left=left, color=color, hatch=hatch, edgecolor="white", label=label)
        left = [one + more for one, more in zip(left, values, strict=True)]
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("paid time of actors at 100 and at 1,000 nodes, in %")
    figure.legend(frameon=False, fontsize=8, ncols=3, loc="outside upper center")
    _finish(axes)
    figure.savefig(DOCS / TIME, dpi=110)


def _finish(axes: Any) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
