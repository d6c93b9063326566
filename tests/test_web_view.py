"""What the pages of a run show, without a server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np

from analyzer.output.motion import Motion, Sweep
from analyzer.runs.run import Run
from analyzer.web.comparison import compare
from analyzer.web.crops import CropCache, Cut
from analyzer.web.view import BOX_SCALE, boxes_view, run_view, tracklets_of
from testkit.runs import make_run, random_plan


def _made(folder: Path, **info: Any) -> Run:
    plan = random_plan(np.random.default_rng(3), length_s=80, people=6, concurrent=2)
    return Run.load(make_run(folder, plan, **info))


def test_boxes_of_a_part_are_those_of_the_whole(tmp_path: Path) -> None:
    run = _made(tmp_path / "run")
    whole = Sweep(Motion(run.faces, run.samples, 5.0).shown())
    times = np.arange(0.05, 79, 0.37)
    for start in (0.0, 30.0, 60.0):
        spans = boxes_view(run, start, start + 30)["spans"]
        for time_s in times[(times >= start) & (times < start + 30)].tolist():
            boxes, persons = whole.at(time_s)
            found = {}
            for begin, end, person, *box in spans:
                if begin <= time_s < end:
                    first, last = np.array(box[:4]), np.array(box[4:] or box)
                    found[person] = first + (last - first) * (time_s - begin) / (end - begin)
            assert sorted(found) == sorted(persons.tolist())
            for box, person in zip(boxes, persons.tolist(), strict=True):
                pixels = found[person] * np.array([1280, 720] * 2) / BOX_SCALE
                np.testing.assert_allclose(pixels, box, atol=2.0)


def test_appearances_and_stretches_are_those_of_the_tables(tmp_path: Path) -> None:
    run = _made(tmp_path / "run")
    people = run.people.set_index("person_id")
    for person in run_view(run)["people"]:
        row = people.loc[person["person_id"]]
        assert len(person["spans"]) == row["appearances"]
        assert person["spans"][0][0] == round(row["first_s"], 3)
        assert person["spans"][-1][1] == round(row["last_s"], 3)
        (stretch,) = tracklets_of(run, person["person_id"])  # one tracklet each
        assert (stretch["start_s"], stretch["end_s"]) == (person["spans"][0][0], person["spans"][-1][1])


def test_groups_are_compared_with_intervals(tmp_path: Path) -> None:
    runs = [_made(tmp_path / f"run-{n}", channel=f"Channel {n % 2}", video_id=f"v{n}") for n in range(4)]
    found = compare([run.folder for run in runs], "channel")
    assert [group["name"] for group in found["groups"]] == ["Channel 0", "Channel 1"]
    assert found["groups"][0]["cells"]["people"]["text"] == "12"
    drawn = [one["name"] for one in found["drawn"]]
    first, second, figure, change, low, high, exceeds = found["differences"][drawn.index("people_per_video")]
    assert (first, second, drawn[figure]) == (0, 1, "people_per_video")
    assert change == 0 and low <= 0 <= high and exceeds is False  # all runs have the same people


class _Tasks:
    """In place of the server's: counts what is cut."""

    def __init__(self) -> None:
        self.cut: list[list[int]] = []

    async def run(self, function: str, *args: Any, timeout_s: float) -> list[list[bytes]]:
        del function, timeout_s
        await asyncio.sleep(0.01)
        self.cut.append(args[2])
        return [[b"jpeg of %d" % one] for one in args[2]]


def test_crops_are_cut_once_and_forgotten_after_a_while(tmp_path: Path) -> None:
    now, tasks = [0.0], _Tasks()
    cache = CropCache(tasks, clock=lambda: now[0])  # type: ignore[arg-type]
    of, keys = Cut("id", "2026", tmp_path, (tmp_path / "a.mp4",)), {1: "a", 2: "b", 3: "c"}

    async def ask() -> None:
        both = await asyncio.gather(*(cache.people(of, person, keys) for person in (1, 2, 1)))
        assert [list(one) for one in both] == [[b"jpeg of 1"], [b"jpeg of 2"], [b"jpeg of 1"]]
        assert tasks.cut == [[1, 2, 3]]
        await cache.people(of, 3, keys)
        await cache.people(of, 2, keys | {2: "other faces"})
        assert tasks.cut == [[1, 2, 3], [2]]
        now[0] = 10_000.0
        await cache.people(of, 3, keys)
        assert tasks.cut[2] == [3]
        cache.forget("another")
        await cache.people(of, 3, keys)
        assert len(tasks.cut) == 3
        cache.forget("id")
        assert not cache._kept and cache._bytes == 0

    asyncio.run(ask())
