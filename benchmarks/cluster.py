"""Sizing of clusters: what the Ray executor costs here, and what follows for 10, 100 and 1,000 machines.

    python -m benchmarks.cluster measure [--only driver,overhead] [--rounds 3]
    python -m benchmarks.cluster simulate
    python -m benchmarks.cluster page

Each step keeps what it found in ``docs/cluster.json``; the last one writes the sizing part of
``docs/cluster.md`` between its marks, and the charts.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import math
import multiprocessing
import os
import random
import statistics
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.cluster_measured import IN_ROUNDS, MEASUREMENTS, prepared
from benchmarks.cluster_simulation import (
    HOUR_S,
    LONGEST_VIDEO_S,
    Cluster,
    Costs,
    Outcome,
    Product,
    Workload,
    simulate,
)

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "docs" / "cluster.json"

SEEDS = (1, 2, 3)
NODES = (10, 100, 1000)
CURVE = (10, 30, 100, 300, 1000)
CORES_BUSY = 1.7
"""Of the two cores of an actor: processor time over wall time of the analysis on the performance page."""
LOAD_S = 5.0
"""From the start of an actor to loaded models on a machine that does nothing else: an assumption, because the
times by the clock that were measured are those of a busy machine."""
WORK_H = {10: 2.0, 30: 2.0, 100: 2.0, 300: 0.5, 1000: 0.25}
"""Hours of work for so many nodes; fewer where the simulation itself would take long."""

MEDIAN_S, MEAN_S = 64.0, 692.0
CHANNEL_MEAN_S, CHANNEL_SIGMA = 720.0, 1.0


def youtube(rng: random.Random) -> float:
    """Lengths of videos on YouTube: lognormal, from the published median and mean."""
    sigma = math.sqrt(2 * math.log(MEAN_S / MEDIAN_S))
    return min(LONGEST_VIDEO_S, rng.lognormvariate(math.log(MEDIAN_S), sigma))


def channels(rng: random.Random) -> float:
    """Lengths of uploads of popular channels: lognormal, from the published mean."""
    center = math.log(CHANNEL_MEAN_S) - CHANNEL_SIGMA**2 / 2
    return min(LONGEST_VIDEO_S, rng.lognormvariate(center, CHANNEL_SIGMA))


def television(rng: random.Random) -> float:
    """An archive of recordings of one hour and, every fifth, of ten hours."""
    return HOUR_S if rng.random() < 0.8 else 10 * HOUR_S


MIXES: dict[str, Callable[[random.Random], float]] = {
    "YouTube": youtube,
    "channels": channels,
    "television": television,
}


# -- kept results


def load() -> dict[str, Any]:
    """What was found so far."""
    return json.loads(KEPT.read_text("utf-8")) if KEPT.exists() else {"measured": {}, "simulated": {}}


def keep(part: str, found: Mapping[str, Any]) -> None:
    """Add to what was found."""
    kept = load()
    kept[part] |= found
    KEPT.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def costs_of(measured: Mapping[str, Any]) -> Costs:
    """The costs of the simulation, from what was measured."""
    amounts, driver = measured["amounts"], measured["driver"]
    calls = driver["calls"]
    return Costs(
        analysis=amounts["cpu"] / CORES_BUSY,
        open_s=amounts["open_s"],
        close_s=amounts["close_s"],
        link=0.0,
        load_s=LOAD_S,
        message_s=calls["message_together_s"],
        part_s=max(0.0, driver["part_cpu_s"]),
        job_s=driver["job_cpu_s"],
        sync_s=driver["sync_s"],
        part_syncs=round(driver["part_elsewhere"]),
        row_syncs=round(driver["part_here"] + driver["part_transactions"]),
        job_syncs=round(driver["job_here"] + driver["job_transactions"]),
        run_syncs=round(driver["job_elsewhere"]),
        mb_s=max(0.0, calls["mb_s"]),
        source_mb=amounts["source_mb"],
        part_mb=amounts["part_mb"],
        run_mb=amounts["run_mb"],
    )


# -- the steps


def measure(only: str | None, rounds: int | None) -> None:
    """Measure everything, or some of it, and keep the results; None: as many rounds as each has usually."""
    names = only.split(",") if only else list(MEASUREMENTS)
    for name in names:
        print(name, flush=True)
        how = {"rounds": rounds} if rounds is not None and name in IN_ROUNDS else {}
        load = os.getloadavg()[0]
        with contextlib.nullcontext() if name in ("machine", "amounts") else prepared():
            keep("measured", {name: MEASUREMENTS[name](**how) | {"load_average": load}})


def workload(mix: str, nodes: int, costs: Costs, **more: Any) -> Workload:
    """Enough videos for `WORK_H`."""
    actors = nodes * Cluster().actors_per_node
    return Workload(mix, MIXES[mix], actors / costs.analysis * WORK_H[nodes], **more)


def figures(outcomes: list[Outcome]) -> dict[str, Any]:
    """What is kept of some seeds: medians, and the range of the efficiency."""
    efficiency = [one.efficiency for one in outcomes]
    names = sorted({name for one in outcomes for name in one.by})
    return {
        "efficiency": statistics.median(efficiency),
        "low": min(efficiency),
        "high": max(efficiency),
        "rate": statistics.median(one.rate for one in outcomes),
        "videos": outcomes[0].videos,
        "hours": outcomes[0].hours,
        "losses": statistics.median(one.losses for one in outcomes),
        "by": {name: statistics.median(one.by[name] / one.paid_s for one in outcomes) for name in names},
        "busy": {name: statistics.median(one.busy[name] for one in outcomes) for name in outcomes[0].busy},
        "sent_mb": statistics.median(one.sent_mb for one in outcomes),
    }


def run(
    work: Workload, cluster: Cluster, costs: Costs, product: Product, seeds: tuple[int, ...] = SEEDS
) -> dict[str, Any]:
    """Simulate with some seeds."""
    found = figures([simulate(work, cluster, costs, product, seed) for seed in seeds])
    print(
        f"  {work.name} {cluster.nodes}: {found['efficiency']:.3f}, {found['rate']:.0f} h/h, thread "
        f"{found['busy']['thread']:.2f}",
        flush=True,
    )
    return found


def simulate_all(only: str | None) -> None:
    """Simulate everything, or some of it, on all cores, and keep the results."""
    costs = costs_of(load()["measured"])
    steps: dict[str, Callable[[Costs], dict[str, Any]]] = {
        "changes": changes,  # the longest first
        **{f"sensitivity of {mix}": partial(sensitivity, mix) for mix in ("YouTube", "television")},
        **{f"sizes of {mix}": partial(sizes, mix) for mix in MIXES},
        "sources": sources,
    }
    names = only.split(",") if only else list(steps)
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        done = {pool.submit(steps[name], costs): name for name in names}
        for future in as_completed(done):
            keep("simulated", {done[future]: future.result()})
            print(done[future], flush=True)


def sizes(mix: str, costs: Costs) -> dict[str, Any]:
    """A mix on clusters of each size, as this version works."""
    return {
        str(nodes): run(
            workload(mix, nodes, costs),
            Cluster(nodes=nodes),
            costs,
            Product(),
            SEEDS if nodes <= 100 else SEEDS[:1],
        )
        for nodes in CURVE
    }


CHANGES: dict[str, tuple[int, dict[str, Any], dict[str, Any]]] = {
    "as this version works": (100, {}, {}),
    "parts written by the driver's own thread": (100, {"commit_threads": 1}, {}),
    "long videos spread only when slots are free": (100, {"spreads_long": False}, {}),
    "ranges of any length": (100, {"longest_range": None}, {}),
    "a disk that flushes in 1 ms": (100, {}, {"sync_s": 0.001}),
    "as this version works, 1,000 nodes": (1000, {}, {}),
    "a disk that flushes in 1 ms, 1,000 nodes": (1000, {}, {"sync_s": 0.001}),
    "that, and segments of 300 s, 1,000 nodes": (1000, {}, {"sync_s": 0.001, "segment_s": 300.0}),
}
"""What to change, and for how many nodes: fields of `Product` and of `Costs`."""


def changes(costs: Costs) -> dict[str, Any]:
    """What changes do; work for an hour at 100 nodes."""
    found: dict[str, Any] = {}
    for label, (nodes, product, more) in CHANGES.items():
        changed = dataclasses.replace(costs, **more)
        if "segment_s" in more:
            changed = dataclasses.replace(changed, part_mb=costs.part_mb * more["segment_s"] / 60)
        found[label] = {
            mix: run(
                shortened(workload(mix, nodes, costs), 1.0) if nodes == 100 else workload(mix, nodes, costs),
                Cluster(nodes=nodes),
                changed,
                Product(**product),
                SEEDS[:1],
            )
            for mix in ("YouTube", "television")
        }
    return found


def shortened(work: Workload, hours: float) -> Workload:
    """For 100 nodes: work for so many hours, to save time of the simulation."""
    return dataclasses.replace(work, hours=work.hours * min(1.0, hours / WORK_H[100]))


SENSITIVITY: dict[str, tuple[str, tuple[str, ...], float, float]] = {
    "time to analyze a second of video": ("costs", ("analysis",), 0.5, 2.0),
    "time to flush a file": ("costs", ("sync_s",), 0.25, 4.0),
    "processor time of the driver for a part": ("costs", ("part_s",), 0.5, 2.0),
    "the same for a video": ("costs", ("job_s",), 0.5, 2.0),
    "the same for a message and a MB, and the size of a part": (
        "costs",
        ("message_s", "mb_s", "part_mb"),
        0.5,
        2.0,
    ),
    "to open a video and to close a run": ("costs", ("open_s", "close_s"), 0.5, 2.0),
    "start of an actor and loading": ("costs", ("load_s",), 0.5, 6.0),
    "start of a node": ("cluster", ("start_s",), 0.5, 4.0),
    "lifetime of a node": ("cluster", ("lifetime_h",), 1 / 12, 10.0),
    "slow nodes": ("cluster", ("slow_share",), 0.0, 4.0),
}
"""What is varied, the fields that are multiplied, and by how much."""


def sensitivity(mix: str, costs: Costs) -> dict[str, Any]:
    """Efficiency at 100 nodes when one thing at a time is less or more."""
    found: dict[str, Any] = {}
    work, cluster = shortened(workload(mix, 100, costs), 1.0), Cluster(nodes=100)
    for label, (where, names, *factors) in SENSITIVITY.items():
        for factor in factors:
            varied = costs if where == "costs" else cluster
            changed = {name: getattr(varied, name) * factor for name in names}
            found[f"{label}|{factor:g}"] = {"value": changed[names[0]]} | run(
                work,
                dataclasses.replace(cluster, **changed if where == "cluster" else {}),
                dataclasses.replace(costs, **changed if where == "costs" else {}),
                Product(),
                SEEDS[:1],
            )
    return found | {"unchanged": run(work, cluster, costs, Product(), SEEDS[:1])}


def sources(costs: Costs) -> dict[str, Any]:
    """Files that the driver sends, and videos that sites send."""
    found: dict[str, Any] = {}
    for mbit in (1.4, 4.0):
        for nodes in (10, 100):
            for near in (False, True):
                found[f"sent|{mbit}|{nodes}|{'rule' if near else 'any'}"] = run(
                    workload("television", nodes, costs),
                    Cluster(nodes=nodes, shared=False),
                    dataclasses.replace(costs, source_mb=mbit / 8),
                    Product(near=near),
                    SEEDS[:1],
                )
    for count in (1, 10):
        work = dataclasses.replace(workload("channels", 10, costs), hours=300.0, sites=count, downloads=count)
        found[f"sites|{count}"] = run(work, Cluster(nodes=10), costs, Product(), SEEDS[:1])
    return found


def main() -> None:
    """Do one of the steps."""
    parser = argparse.ArgumentParser(description="Measure, simulate, or write the page.")
    parser.add_argument("step", choices=("measure", "simulate", "page"))
    parser.add_argument("--only", help="some of the measurements or simulations, with commas between them")
    parser.add_argument("--rounds", type=int, help="of measurements that alternate, to take less time")
    chosen = parser.parse_args()
    match chosen.step:
        case "measure":
            measure(chosen.only, chosen.rounds)
        case "simulate":
            simulate_all(chosen.only)
        case "page":
            from benchmarks.cluster_page import write

            write(load())


if __name__ == "__main__":
    main()
