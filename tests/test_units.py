"""What stations of a cluster do next, and where; what a segment that kills its process costs; limits."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from analyzer.batch.executors import units as units_module
from analyzer.batch.executors.node_files import SourceFile
from analyzer.batch.executors.spread import Spread
from analyzer.batch.executors.units import Job, Unit, Units
from analyzer.batch.failure_policy import CRASHES, Phase
from analyzer.batch.protocol import Failed, Opened, Resources, Segment
from tests.test_batch_executors import job

CRASH = Failed(0, "crash", Phase.ANALYZE, "the process that analyzed it died (SIGSEGV)")


@dataclass(eq=False)
class Station:
    """A test double."""

    number: int
    node_id: str
    unit: Unit | None = None


def stations(*nodes: str) -> list[Station]:
    return [Station(number, node) for number, node in enumerate(nodes, 1)]


def add(units: Units, *, sent: bool = False, limits: Resources | None = None) -> Job:
    """Submit a video that is opened first."""
    resources = replace(limits or Resources(), workers=2)
    made = Job(job(Path("out"), resources=resources), Path("out/run"), Path(), contextlib.ExitStack())
    made.sent, made.files = sent, (SourceFile(Path("clip.mp4"), "f", 10**9),)
    units.jobs[made.id] = made
    units.begin(made)
    return made


def add_held(units: Units, node: str) -> Job:
    """Submit a short video that a machine has downloaded."""
    held: Any = SimpleNamespace(node_id=node)
    made = Job(job(Path("out")), Path("out/run"), Path(), contextlib.ExitStack(), held=held)
    units.jobs[made.id] = made
    units.begin(made)
    return made


def give(units: Units, places: list[Station]) -> list[tuple[int, int, tuple[int, int] | None]]:
    """Let idle stations begin something; returns station, job and segments."""
    given = []
    for place, unit in units.assign(places, [one for one in places if one.unit is None]):
        place.unit = unit
        units.begun(unit, place)
        given.append((place.number, unit.job.id, unit.segments))
    return given


def done(units: Units, place: Station, expected: int = 9) -> None:
    """A station has done what it was given."""
    unit, place.unit = place.unit, None
    assert unit is not None
    if unit.segments == (0, 0):
        unit.job.opened = Opened(unit.job.id, "key", (), expected, 60.0 * expected)
    for segment in range(*(unit.segments or (0, 0))):
        units.committed(unit.job, Segment(unit.job.id, segment, 1, 1, 1))
    units.segments_done(unit, 1)
    units.finish(unit.job)


def failed(units: Units, place: Station, failure: Failed = CRASH, *, after: int = 0) -> bool:
    """A station's process has died, after it had finished some segments; returns whether the job goes on."""
    unit, place.unit = place.unit, None
    assert unit is not None and unit.segments is not None
    for segment in range(unit.segments[0], unit.segments[0] + after):
        units.committed(unit.job, Segment(unit.job.id, segment, 1, 1, 1))
    return units.failed(unit, failure)


def opened(units: Units, places: list[Station], job: Job, expected: int = 9) -> None:
    """Let a station open the video of a job."""
    give(units, places)
    (place,) = (one for one in places if one.unit is not None and one.unit.job is job)
    done(units, place, expected)


# --- lost stations -------------------------------------------------------------------------------------


def lose(units: Units, places: list[Station], *numbers: int) -> list[int]:
    """Lose stations one after another; returns the losses of their job after each."""
    losses = []
    for place in [one for one in places if one.number in numbers]:
        places.remove(place)
        units.place_lost(place, places)
        assert place.unit is not None
        losses.append(units.lost(place.unit, place.node_id, places))
        units.hand_back(place.unit)
    return losses


def test_the_stations_that_a_machine_loses_at_once_are_one_loss() -> None:
    units, places = Units(), stations(*"aaabb")
    video = add(units)
    opened(units, places, video, expected=60)
    give(units, places)
    assert lose(units, places, 1, 2, 3) == [1, 1, 1], "a machine is gone"
    assert lose(units, places, 4) == [2], "so is another one"
    units.committed(video, Segment(video.id, 58, 1, 1, 1))
    assert (video.losses, video.lost_with) == (0, set())


def test_a_video_that_ends_its_stations_again_and_again_is_found_out() -> None:
    """Also if they are all on one machine: what was begun after a loss counts anew."""
    units, places = Units(), stations("a", "a")
    video = add(units)
    opened(units, places, video, expected=60)
    found = []
    for number in itertools.count(3):
        give(units, places)
        found += lose(units, places, places[0].number)
        places.append(Station(number, "a"))
        if found[-1] == 5:
            break
    assert len(found) == 9, "each loss excuses one station, which was in work meanwhile"


# --- segments that kill their process ------------------------------------------------------------------


def test_a_segment_that_fails_ends_the_attempt_when_all_others_are_done() -> None:
    units, (one, two) = Units(), stations("a", "b")
    video = add(units)
    opened(units, [one, two], video)
    assert give(units, [one, two]) == [(1, video.id, (0, 2)), (2, video.id, (2, 3))]
    assert failed(units, one, after=1) and units.hopeless(video) is None, "the other one goes on"
    rest = []
    while video.spread is not None and not video.spread.is_stuck:
        rest += [segment for _, _, given in give(units, [one, two]) for segment in range(*(given or (0, 0)))]
        for place in (one, two):
            if place.unit is not None:
                assert units.hopeless(video) is None
                done(units, place)
    assert sorted(rest) == [3, 4, 5, 6, 7] and video.segments == {0, 2, 3, 4, 5, 6, 7}
    assert units.hopeless(video) == CRASH, "it counts as the failure that it was"
    assert give(units, [one, two]) == [], "its end is not read"


def test_a_segment_that_fails_and_is_finished_elsewhere_counts_nothing() -> None:
    units, (one, two) = Units(), stations("a", "b")
    video = add(units)
    opened(units, [one, two], video, 3)
    assert give(units, [one, two]) == [(1, video.id, (0, 1)), (2, video.id, (1, 2))]
    done(units, two, 3)
    assert give(units, [one, two]) == [(2, video.id, (0, 1))], "a copy"
    assert failed(units, one) and units.hopeless(video) is None
    done(units, two, 3)
    assert video.spread is not None and video.spread.is_done and units.hopeless(video) is None
    assert give(units, [one, two]) == [(1, video.id, None)]


def test_an_attempt_in_which_everything_fails_ends_at_once() -> None:
    """Its machine may be at fault."""
    units, (one,) = Units(), stations("a")
    video = add(units)
    opened(units, [one], video, 100)
    for _ in range(2):
        give(units, [one])
        assert failed(units, one) and units.hopeless(video) is None
    give(units, [one])
    assert failed(units, one) and units.hopeless(video) == CRASH


@pytest.mark.parametrize("kind", ["no_video", "cpu_limit", "time_limit", "output"])
def test_other_failures_of_segments_end_the_attempt(kind: str) -> None:
    units, (one,) = Units(), stations("a")
    opened(units, [one], add(units))
    give(units, [one])
    assert not failed(units, one, replace(CRASH, kind=kind))


# --- limits --------------------------------------------------------------------------------------------


def test_processor_time_counts_for_the_whole_video() -> None:
    units, (one, two) = Units(), stations("a", "b")
    video = add(units, limits=Resources(cpu_s=10))
    opened(units, [one, two], video)
    give(units, [one, two])
    assert one.unit is not None and two.unit is not None
    units.note_cpu(one.unit, 3)
    units.note_cpu(one.unit, 4)
    units.note_cpu(two.unit, 5)
    assert units.exceeding() == [] and video.left().cpu_s == 1
    units.note_cpu(two.unit, 7)
    assert units.exceeding() == [(video, Failed(video.id, "cpu_limit", Phase.ANALYZE, CRASHES["cpu_limit"]))]
    assert video.left().cpu_s == 1, "without any, a process would have no limit"


def test_time_counts_once_while_several_stations_work() -> None:
    """And not while none does, because other videos come first."""
    units, (one, two) = Units(), stations("a", "b")
    video = add(units, limits=Resources(wall_s=10))
    opened(units, [one, two], video)
    give(units, [one, two])
    units.note_time(6, [one, two])
    units.note_time(60, [])
    assert units.exceeding() == [] and video.left().wall_s == 4
    units.note_time(5, [one])
    ((late, failure),) = units.exceeding()
    assert late is video and (failure.kind, failure.error) == ("time_limit", CRASHES["time_limit"])


# --- videos that must be sent --------------------------------------------------------------------------


def test_a_sent_video_stays_where_it_is_while_there_are_enough_others() -> None:
    units, places = Units(), stations("a", "b", "a", "b")
    videos = [add(units, sent=True) for _ in range(4)]
    begun = give(units, places)
    where = {number: place.node_id for number, place in enumerate(places, 1)}
    home = {video: where[number] for number, video, _ in begun}
    assert sorted(home.values()) == ["a", "a", "b", "b"]
    for _ in range(20):
        for place in places:
            if place.unit is not None and place.unit.segments is not None:
                done(units, place)
        for number, video, _ in give(units, places):
            assert home[video] == where[number], "it is not sent again"
    assert all(one.finishing for one in videos)


def test_a_sent_video_stays_where_it_is_if_sending_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units_module, "_SENT_BYTES_PER_S", 1e6)
    units, (one, two) = Units(), stations("a", "b")
    video = add(units, sent=True)
    opened(units, [one, two], video, 9)
    assert video.spread is not None
    assert give(units, [one, two]) == [(1, video.id, (0, 2))], "though the other one is idle"


def test_machines_that_would_be_idle_get_a_sent_video_if_that_pays() -> None:
    units, places = Units(), stations("a", "b", "c")
    video = add(units, sent=True)
    opened(units, places, video, 100)
    assert [number for number, _, _ in give(units, places)] == [1, 2, 3]
    assert video.nodes == {"a", "b", "c"}


def test_the_end_of_a_sent_video_is_read_where_it_is() -> None:
    units, (one, two) = Units(), stations("b", "a")
    video = add(units, sent=True)
    one.unit = Unit(video)  # until it is open
    give(units, [one, two])
    one.unit = None
    done(units, two, 3)
    assert video.nodes == {"a"}
    give(units, [two])
    done(units, two, 3)
    give(units, [two])
    assert two.unit is not None and two.unit.segments == (1, 2)
    unit, two.unit = two.unit, None
    units.committed(video, Segment(video.id, 1, 1, 1, 1))
    assert units.finish(video)
    two.unit = unit
    assert give(units, [one, two]) == [], "the other one is about to have the time"
    done(units, two)
    assert give(units, [one, two]) == [(2, video.id, None)]


def test_the_end_of_a_sent_video_does_not_wait_for_a_machine_that_does_something_else() -> None:
    units, (one, two) = Units(), stations("a", "b")
    video = add(units, sent=True)
    opened(units, [one], video, 3)
    give(units, [one])
    done(units, one, 3)
    give(units, [one])
    done(units, one, 3)
    one.unit = Unit(add(units))
    units.drop(one.unit.job)
    assert give(units, [one, two]) == [(2, video.id, None)]


def test_a_new_job_goes_to_the_machine_with_the_fewest() -> None:
    """And not to a station with the file of a video that has segments for it."""
    units, places = Units(), stations("a", "a", "b", "c")
    video = add(units, sent=True)
    opened(units, places[:1], video)
    places[1].unit = Unit(video)
    add(units)
    assert give(units, places[:3])[0][0] == 3
    add(units)
    assert give(units, [*places[:1], *places[3:]])[0][0] == 4


def test_a_video_whose_machine_is_lost_goes_elsewhere() -> None:
    units, (one, two) = Units(), stations("a", "b")
    video = add(units, sent=True)
    opened(units, [one], video)
    give(units, [one])
    assert one.unit is not None
    units.place_lost(one, [two])
    units.hand_back(one.unit)
    add(units).spread = Spread(9, (), segments_per_copy=99, nodes=["c"])
    assert video.nodes == set()
    units.drop(list(units.jobs.values())[-1])
    assert give(units, [two]) == [(2, video.id, (0, 3))], "though others wait"


# --- videos that machines have downloaded ------------------------------------------------------------------


def test_stations_get_the_videos_that_their_machines_have_downloaded() -> None:
    units, places = Units(), stations("a", "b", "c")
    first, second, third = (add_held(units, node) for node in ("b", "a", "b"))
    assert give(units, places) == [(2, first.id, None), (1, second.id, None), (3, third.id, None)], (
        "another machine is better than none"
    )
    assert third.nodes == {"b"}
