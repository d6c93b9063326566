"""Spreading the segments of a video over workers that come, fail and go."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analyzer.batch.executors import spread as spreading
from analyzer.batch.executors.spread import Order, Range, Spread, may_spread, most_nodes, worth_spreading
from analyzer.batch.protocol import JobSpec, Resources
from analyzer.settings import Settings
from analyzer.sources.types import MediaKind, Video


def test_ranges_get_shorter_and_reach_all_but_the_last_segment() -> None:
    spread = Spread(101, ())
    given: list[Range] = []
    while (one := spread.next(4)) is not None:
        given.append(one)
    assert [segment for one in given for segment in range(*one)] == list(range(100))
    lengths = [stop - first for first, stop in given]
    assert lengths == sorted(lengths, reverse=True) and lengths[0] == 9 and lengths[-1] == 1
    assert len(given) < 40 and not spread.is_done
    for one in given:
        assert all(spread.committed(segment) for segment in range(*one))
        assert spread.ended(one) == 0
    assert spread.is_done and spread.share == pytest.approx(100 / 101)


def test_a_range_ends_before_what_is_committed() -> None:
    spread = Spread(14, (6,))
    assert [spread.next(1) for _ in range(4)] == [(0, 4), (4, 6), (7, 9), (9, 11)]


def test_what_is_committed_is_not_given_out() -> None:
    spread = Spread(8, (1, 2, 5, 7))
    assert spread.share == pytest.approx(3 / 8)
    assert [spread.next(1) for _ in range(4)] == [(0, 1), (3, 4), (4, 5), (6, 7)]
    assert spread.next(1) is None
    assert not spread.committed(2) and spread.committed(3) and not spread.committed(3)
    assert spread.share == pytest.approx(4 / 8)


@pytest.mark.parametrize(("expected", "completed"), [(0, ()), (1, ()), (3, (0, 1)), (3, (0, 1, 2))])
def test_there_may_be_nothing_to_spread(expected: int, completed: tuple[int, ...]) -> None:
    spread = Spread(expected, completed)
    assert spread.is_done and spread.next(3) is None and spread.backup() is None


def test_a_lost_range_is_given_out_again_without_what_it_has_committed() -> None:
    spread = Spread(31, ())
    lost = spread.next(1)
    assert lost == (0, 10)
    spread.committed(0)
    spread.committed(1)
    assert spread.ended(lost) == 8 and spread.missing == 28
    assert spread.next(1) == (2, 12)
    assert spread.committed(2)  # it was on its way when its worker was taken for lost
    assert not spread.committed(2)


def test_what_is_out_longest_is_given_out_a_second_time_and_not_a_third() -> None:
    spread = Spread(8, ())
    assert [spread.next(1) for _ in range(4)] == [(0, 3), (3, 5), (5, 6), (6, 7)]
    assert spread.missing == 0
    spread.committed(0)
    assert spread.backup() == (1, 3) and spread.backup() == (3, 5)
    assert spread.ended((0, 3)) == 2 and spread.missing == 0  # another worker has them
    assert spread.ended((1, 3)) == 2 and spread.missing == 2
    assert spread.backup() is None and spread.next(1) == (1, 2)
    for segment in range(7):
        spread.committed(segment)
    assert spread.is_done and spread.backup() is None


def takers(spread: Spread, *nodes: str, others_wait: bool = False) -> list[str]:
    """Which machines may get some of it."""
    return [node for node in nodes if [*Order([spread], others_wait=others_wait).of(node)]]


def test_only_so_many_machines_get_the_file() -> None:
    spread = Spread(100, (), segments_per_copy=16)
    for node in ("a", "b", "a"):
        assert takers(spread, node) and spread.next(2, node)
    assert takers(spread, "a", "b", "c") == ["a", "b"] and spread.missing
    spread.node_lost("b")
    assert takers(spread, "c") and spread.next(2, "c") and not takers(spread, "b")
    more = Spread(100, (), segments_per_copy=16, nodes=("a",))
    assert takers(more, "b") and more not in Order([more, *[spread] * 4], others_wait=False).of("b")
    for segment in range(80):
        more.committed(segment)
    assert not takers(more, "b"), "what is left does not pay for a copy"
    assert most_nodes(900, 1.0) == 30 and most_nodes(0, 1.0) == 1


def test_no_further_machine_gets_the_file_while_other_videos_wait() -> None:
    spread, seen = Spread(100, (), segments_per_copy=1, nodes=("a",)), Spread(100, ())
    assert takers(spread, "a", "b", others_wait=True) == ["a"] and takers(spread, "b") == ["b"]
    assert [*Order([spread, seen], others_wait=False).of("b")] == [seen, spread], (
        "rather what need not be sent"
    )
    assert [*Order([spread, seen], others_wait=False).of("a")] == [spread, seen]
    assert takers(Spread(9, (), segments_per_copy=1), "b", others_wait=True), "it is nowhere yet"


def test_another_machine_gets_the_file_when_those_that_have_it_do_something_else() -> None:
    spread = Spread(100, (), segments_per_copy=100)
    given = spread.next(2, "a")
    assert given is not None
    spread.note_idle({"b"})
    assert not takers(spread, "b"), "the other one is at work on it"
    spread.ended(given)
    spread.note_idle({"a", "b"})
    assert not takers(spread, "b"), "the other one goes on"
    spread.note_idle({"b"})
    assert takers(spread, "a", "b") == ["a", "b"], "whoever is first"
    assert spread.next(2, "b") and not takers(spread, "a")


def test_a_segment_that_failed_is_not_given_out_again_and_the_others_are() -> None:
    spread = Spread(12, ())
    given = spread.next(1)
    assert given == (0, 4)
    spread.committed(0)
    assert spread.crashed(given) == 1 and spread.failed == 1 and spread.missing == 9
    assert spread.next(1) == (2, 5) and not spread.is_stuck
    while (one := spread.next(1)) is not None:
        for segment in range(*one):
            spread.committed(segment)
        spread.ended(one)
    for segment in (2, 3, 4):
        spread.committed(segment)
    assert not spread.is_stuck and spread.ended((2, 5)) == 0
    assert spread.is_stuck and not spread.is_done and spread.backup() is None
    assert spread.committed(1) and spread.is_done and not spread.failed, "a copy of it was finished"


def test_copies_of_a_range_end_before_a_segment_that_failed() -> None:
    spread = Spread(4, ())
    first = spread.next(1)
    assert first == (0, 1) and spread.next(1) == (1, 2) and spread.next(1) == (2, 3)
    assert spread.crashed((1, 2)) == 1
    assert spread.backup() == (0, 1) and spread.backup() == (2, 3) and spread.backup() is None
    long = Spread(10, ())
    assert [long.next(1) for _ in range(4)] == [(0, 3), (3, 5), (5, 7), (7, 8)]
    assert long.next(1) == (8, 9) and long.backup() == (0, 3)
    long.committed(0)
    assert long.crashed((0, 3)) == 1 and long.backup() == (3, 5), "what the other one has is not free"


def spec_of(path: Path, duration_s: float | None, size_bytes: int = 1000, **settings: Any) -> JobSpec:
    unknown: dict[str, Any] = dict.fromkeys(("audio_path", "url", "channel", "uploaded", "uploaded_at"))
    known: dict[str, Any] = {"fetched": False, "title": "a", "source": "a", "video_id": "a"}
    known["details"] = {"size_bytes": size_bytes}
    video = Video(kind=MediaKind.VIDEO, paths=(path,), duration_s=duration_s, **known, **unknown)
    return JobSpec(1, video, Settings(segment_s=60, **settings), path.parent, "s", "m")


def test_long_videos_are_spread_also_when_others_wait(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    short, long = spec_of(path, 1799), spec_of(path, 1800)
    assert [may_spread(one) for one in (short, long)] == [False, True]
    assert not may_spread(spec_of(path, 9999, budget="60s")) and not may_spread(spec_of(path, None))
    assert not may_spread(replace(long, video=replace(long.video, kind=MediaKind.IMAGES)))
    assert may_spread(spec_of(path, None, spreading.LONG_BYTES)), "also if it is on another machine"
    shared = replace(short, resources=Resources(workers=2))
    assert may_spread(shared)
    assert worth_spreading(long, 31, ()) and not worth_spreading(long, 31, (3,))
    assert worth_spreading(shared, 3, ()) and not worth_spreading(shared, 3, (0,))
    assert not worth_spreading(shared, None, ()) and not worth_spreading(shared, 0, ())


@pytest.mark.parametrize("seed", range(150))
def test_every_segment_is_committed_once_whatever_happens(seed: int) -> None:
    """Workers finish, are lost, stopped, and report late; machines come and go."""
    chance = random.Random(seed)
    expected = chance.choice([1, 2, 3, 10, 60, 300])
    completed = {segment for segment in range(expected) if chance.random() < chance.choice([0, 0.1, 0.9])}
    nodes = chance.choice([None, 1, 30, 1000])
    trouble, backups = chance.choice([0, 0.2, 0.7]), chance.choice([0, 0.3])
    spread = Spread(expected, completed, segments_per_copy=nodes)
    working: list[tuple[Range, list[int]]] = []  # what each still has to analyze
    late: list[int] = []
    counted: Counter[int] = Counter()
    analyzed: Counter[int] = Counter()

    def begin(given: Range | None, *, second: bool) -> bool:
        if given is None:
            return False
        assert 0 <= given[0] < given[1] < expected, "never the last one"
        others = Counter(segment for other, _ in working for segment in range(*other))
        assert second or not set(range(*given)) & (completed | set(counted) | set(others))
        assert all(others[segment] <= 1 for segment in range(*given) if not counted[segment]), "at most two"
        working.append((given, list(range(*given))))
        return True

    for step in range(100_000):
        if spread.is_done and not working:
            break
        node, workers = f"node{chance.randrange(4)}", chance.randint(1, 9)
        may = node in spread.nodes or spread.takes(sent=1)
        if may and len(working) < workers and begin(spread.next(workers, node), second=False):
            continue
        if may and chance.random() < backups and begin(spread.backup(node), second=True):
            continue
        if working:
            given, left = chosen = chance.choice(working)
            if chance.random() < trouble and step < 5000:
                # What it had finished may be here, on its way, or lost with it.
                late += [segment for segment in left if chance.random() < 0.3]
                working.remove(chosen)
                spread.ended(given)
                if chance.random() < 0.3:
                    spread.node_lost(node)
            elif left:
                analyzed[left[0]] += 1
                counted[left[0]] += spread.committed(left.pop(0))
            else:
                working.remove(chosen)
                assert spread.ended(given) == 0
        elif nodes is not None:
            spread.node_lost(node)
        if late and chance.random() < 0.2:
            segment = late.pop(chance.randrange(len(late)))
            counted[segment] += spread.committed(segment)
    assert spread.is_done and not working
    assert +counted == Counter(set(range(expected - 1)) - completed)
    if not trouble and not backups:
        assert analyzed == counted, "nothing is analyzed twice"
