"""Spreading the segments of a video over workers that come, fail and go."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from analyzer.batch.executors.spread import Range, Spread, is_worth_spreading, most_nodes


def test_ranges_get_shorter_and_reach_all_but_the_last_segment() -> None:
    spread = Spread(101, ())
    given: list[Range] = []
    while (one := spread.next("a", 4)) is not None:
        given.append(one)
    assert [segment for one in given for segment in range(*one)] == list(range(100))
    lengths = [stop - first for first, stop in given]
    assert lengths == sorted(lengths, reverse=True) and lengths[0] == 9 and lengths[-1] == 1
    assert len(given) < 40 and not spread.finished
    for one in given:
        assert all(spread.committed(segment) for segment in range(*one))
        assert spread.ended(one) == 0
    assert spread.finished


def test_what_is_committed_is_not_given_out() -> None:
    spread = Spread(8, (1, 2, 5, 7))
    assert [spread.next("a", 1) for _ in range(4)] == [(0, 1), (3, 4), (4, 5), (6, 7)]
    assert spread.next("a", 1) is None
    assert not spread.committed(2) and spread.committed(3) and not spread.committed(3)


@pytest.mark.parametrize(("expected", "completed"), [(0, ()), (1, ()), (3, (0, 1)), (3, (0, 1, 2))])
def test_there_may_be_nothing_to_spread(expected: int, completed: tuple[int, ...]) -> None:
    spread = Spread(expected, completed)
    assert spread.finished and spread.next("a", 3) is None


def test_a_lost_range_is_given_out_again_without_what_it_has_committed() -> None:
    spread = Spread(31, ())
    lost = spread.next("a", 1)
    assert lost == (0, 10)
    spread.committed(0)
    spread.committed(1)
    assert spread.ended(lost) == 8 and spread.missing == 28
    assert spread.next("b", 1) == (2, 12)
    assert spread.committed(2)  # it was on its way when its worker was taken for lost
    assert not spread.committed(2)


def test_only_so_many_machines_get_the_file() -> None:
    spread = Spread(100, (), nodes=2)
    assert spread.next("a", 2) and spread.next("b", 2) and spread.next("a", 2)
    assert spread.next("c", 2) is None and spread.missing
    spread.node_lost("b")
    assert spread.next("c", 2) and spread.next("b", 2) is None
    assert set(spread.given.values()) == {"a", "b", "c"}


def test_long_videos_are_spread_also_when_others_wait() -> None:
    assert is_worth_spreading(600, 1) and not is_worth_spreading(10, 1)
    assert is_worth_spreading(8, 4) and not is_worth_spreading(7, 4) and not is_worth_spreading(0, 4)
    assert most_nodes(3600, 10**9, bytes_per_s=1e9, workers_per_node=4) == 30
    assert most_nodes(0, 0, bytes_per_s=1e9, workers_per_node=1) == 1


@pytest.mark.parametrize("seed", range(150))
def test_every_segment_is_committed_once_whatever_happens(seed: int) -> None:
    """Workers finish, are lost, stopped, and report late; machines come and go."""
    chance = random.Random(seed)
    expected = chance.choice([1, 2, 3, 10, 60, 300])
    completed = {segment for segment in range(expected) if chance.random() < chance.choice([0, 0.1, 0.9])}
    nodes = chance.choice([None, 1, 3])
    trouble = chance.choice([0, 0.2, 0.7])
    spread = Spread(expected, completed, nodes=nodes)
    working: dict[Range, list[int]] = {}  # what each still has to analyze
    late: list[int] = []
    counted: Counter[int] = Counter()
    analyzed: Counter[int] = Counter()

    def commit(segment: int) -> None:
        counted[segment] += spread.committed(segment)

    for step in range(100_000):
        if spread.finished:
            break
        node, workers = f"node{chance.randrange(4)}", chance.randint(1, 9)
        if len(working) < workers and (given := spread.next(node, workers)) is not None:
            first, stop = given
            assert 0 <= first < stop < expected, "never the last one"
            assert not any(segment in range(*other) for other in working for segment in range(*given))
            assert not set(range(*given)) & (completed | set(counted))
            working[given] = list(range(*given))
        elif working:
            given = chance.choice(list(working))
            if chance.random() < trouble and step < 5000:
                # What it had finished may be here, on its way, or lost with it.
                late += [segment for segment in working.pop(given) if chance.random() < 0.3]
                spread.ended(given)
                if chance.random() < 0.3:
                    spread.node_lost(node)
            elif working[given]:
                segment = working[given].pop(0)
                analyzed[segment] += 1
                commit(segment)
            else:
                del working[given]
                assert spread.ended(given) == 0
        elif nodes is not None:
            spread.node_lost(node)
        if late and chance.random() < 0.2:
            commit(late.pop(chance.randrange(len(late))))
        assert spread.given.keys() == working.keys()
    assert spread.finished and not working
    assert counted == Counter(set(range(expected - 1)) - completed)
    if not trouble:
        assert analyzed == counted, "nothing is analyzed twice"
