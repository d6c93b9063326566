"""Invariants of `benchmarks.cluster_simulation`: no work appears or disappears, and rates are those that
follow from its parameters where these are simple enough to calculate them."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable

import pytest

pytest.importorskip("simpy")

from benchmarks.cluster_simulation import (
    HOUR_S,
    USEFUL,
    WASTED,
    Cluster,
    Costs,
    Outcome,
    Product,
    Workload,
    simulate,
)

FREE = Costs(
    **dict.fromkeys((field.name for field in dataclasses.fields(Costs)), 0)
    | {"analysis": 0.1, "segment_s": 60.0}
)
"""Nothing costs anything but the analysis."""
IDEAL = Cluster(start_s=0.0, lifetime_h=None, slow_share=0.0, noise=0.0)


def long_and_short(rng: random.Random) -> float:
    return 10 * HOUR_S if rng.random() < 0.02 else rng.uniform(10.0, 900.0)


def minutes(count: float) -> Callable[[random.Random], float]:
    return lambda rng: 60.0 * count


def work(length: Callable[[random.Random], float], hours: float, **more: float) -> Workload:
    return Workload("test", length, hours, **{"content": 0.0} | more)  # type: ignore[arg-type]


def segments(workload: Workload, seed: int) -> int:
    return sum(math.ceil(length / 60.0) for length in workload.videos(random.Random(seed)))


def check_accounts(outcome: Outcome) -> None:
    assert set(outcome.by) <= {*USEFUL, *WASTED}
    assert min(outcome.by.values()) >= -1e-6
    assert sum(outcome.by.values()) == pytest.approx(outcome.paid_s)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("spreads_long", [True, False])
def test_each_segment_is_committed_once_whatever_is_lost(shared: bool, spreads_long: bool) -> None:
    workload = work(long_and_short, 400.0, content=0.4)
    cluster = Cluster(nodes=5, lifetime_h=0.3, shared=shared)

    outcome = simulate(workload, cluster, Costs(), Product(spreads_long=spreads_long), seed=4)

    assert outcome.losses > 20
    assert outcome.segments == segments(workload, 4)
    assert outcome.hours == pytest.approx(400.0)
    assert outcome.by["lost"] > 0
    check_accounts(outcome)


def test_without_failures_and_overhead_actors_are_always_busy() -> None:
    outcome = simulate(work(long_and_short, 1000.0), dataclasses.replace(IDEAL, nodes=5), FREE, Product())

    assert outcome.efficiency > 0.99
    # 20 actors, each ten times as fast as the video is played.
    assert outcome.rate == pytest.approx(200.0, rel=0.01)
    assert outcome.segments == segments(work(long_and_short, 1000.0), 1)
    check_accounts(outcome)


@pytest.mark.parametrize(
    ("costs", "length_s", "per_s"),
    [
        ({"job_s": 0.1}, 30.0, 10.0),  # a video takes the driver 0.1 s
        ({"job_syncs": 5, "sync_s": 0.04}, 30.0, 5.0),  # or flushes 0.2 s
        ({"part_s": 0.04}, 1200.0, 25.0 / 20),  # of 20 parts
        ({"part_syncs": 4, "sync_s": 0.1}, 1200.0, 8 / 0.4 / 20),  # in 8 threads
        ({"identify_s": 0.25}, 30.0, 4.0),
    ],
)
def test_the_driver_saturates_at_the_rate_of_its_costs(
    costs: dict[str, float], length_s: float, per_s: float
) -> None:
    cluster = dataclasses.replace(IDEAL, nodes=100)
    workload = work(lambda rng: length_s, 600 * length_s / HOUR_S)

    outcome = simulate(workload, cluster, dataclasses.replace(FREE, **costs), Product(spreads_long=False))

    assert outcome.videos / outcome.wall_s == pytest.approx(per_s, rel=0.05)
    assert outcome.efficiency < 0.5


def test_sent_files_saturate_the_network_of_the_driver() -> None:
    costs = dataclasses.replace(FREE, source_mb=0.5)  # 1,800 MB for each hour
    cluster = dataclasses.replace(IDEAL, nodes=50, shared=False, network_mb_s=100.0)

    outcome = simulate(work(minutes(10), 1000.0), cluster, costs, Product())

    assert 170.0 < outcome.rate <= 200.0  # the first videos are spread, and so are sent several times
    assert outcome.sent_mb / outcome.wall_s == pytest.approx(100.0, rel=0.02)
    assert outcome.busy["sending"] == pytest.approx(1.0, abs=0.02)


def test_a_site_is_asked_one_video_after_another() -> None:
    costs = dataclasses.replace(FREE, source_mb=0.1)
    one = work(minutes(10), 20.0, sites=1, downloads=4, site_mb_s=6.0, refused=0.0)

    outcome = simulate(one, dataclasses.replace(IDEAL, nodes=10), costs, Product())

    # 10 s of download and a pause of 7.5 s on average; then the last video is analyzed.
    assert outcome.wall_s == pytest.approx(120 * 17.5, rel=0.05)
    four = dataclasses.replace(one, sites=4)
    quicker = simulate(four, dataclasses.replace(IDEAL, nodes=10), costs, Product())
    assert quicker.wall_s == pytest.approx(outcome.wall_s / 4, rel=0.15)


def test_long_videos_are_spread_so_that_none_runs_alone_at_the_end() -> None:
    cluster = dataclasses.replace(IDEAL, nodes=5)
    spread, whole = (
        simulate(work(long_and_short, 800.0), cluster, FREE, Product(spreads_long=always), seed=2)
        for always in (True, False)
    )

    assert spread.efficiency > 0.97
    assert whole.efficiency < 0.9


def test_the_same_seed_gives_the_same_outcome_and_another_one_does_not() -> None:
    workload, cluster = work(long_and_short, 300.0, content=0.4), Cluster(nodes=5, lifetime_h=1.0)
    first, again, other = (simulate(workload, cluster, Costs(), Product(), seed=seed) for seed in (1, 1, 2))

    assert first == again
    assert first != other


def test_drivers_share_the_work() -> None:
    workload = work(minutes(10), 400.0)
    outcome = simulate(workload, Cluster(nodes=20), Costs(), Product(drivers=4))

    assert outcome.hours == pytest.approx(400.0)
    assert outcome.segments == 400 * 60
    check_accounts(outcome)
