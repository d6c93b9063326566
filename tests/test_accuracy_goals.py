"""Goals of accuracy: which are met, judged by the figures as they are printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.accuracy_goals import Goal, face_goals, lowest_band, real_goals

DOCUMENT = json.loads((Path(__file__).parents[1] / "docs" / "accuracy.json").read_text("utf-8"))


@pytest.mark.parametrize(
    ("value", "low", "high", "row"),
    [
        (12.04, None, 12, ["x", "at most 12 %", "12.0 %", "met"]),
        (12.06, None, 12, ["x", "at most 12 %", "12.1 %", "**missed**"]),
        (94.94, 95, None, ["x", "at least 95 %", "94.9 %", "**missed**"]),
        (94.96, 95, None, ["x", "at least 95 %", "95.0 %", "met"]),
        (74.9, 75, 85, ["x", "75 to 85 %", "74.9 %", "**missed**"]),
        (85.1, 75, 85, ["x", "75 to 85 %", "85.1 %", "**missed**"]),
        (80, 75, 85, ["x", "75 to 85 %", "80.0 %", "met"]),
    ],
)
def test_a_goal_is_judged_as_it_is_printed(
    value: float, low: float | None, high: float | None, row: list[str]
) -> None:
    assert Goal("x", value, low=low, high=high).row() == row


def test_goals_read_the_figures_of_the_page() -> None:
    clip = DOCUMENT["described"]["kinds"]["clip"]
    real = {goal.words: goal for goal in real_goals(DOCUMENT["described"]["kinds"])}
    assert real["clips: number of people, sum of errors"].value == 100 * clip["count_abs_error"]["value"]
    assert real["clips: age where it is known"].n == clip["groups"]["known age"]["age_abs_error"]["n"]
    faces = {goal.words: goal for goal in face_goals(DOCUMENT, (2.0, 1.6))}
    assert faces["lost in soft, coded video: gender"].met
    assert not faces["lost in soft, coded video: age"].met
    assert faces["gender right, difference between men and women"].value == pytest.approx(
        100 * abs(DOCUMENT["faces"]["bias"]["likelier_right"]["men_women"])
    )


def test_the_lowest_band_is_of_many_faces() -> None:
    bands = {
        name: {"age_in_interval": {"value": value, "n": n}}
        for name, value, n in (("0-12", 0.5, 3), ("13-17", 0.7, 500), ("18-24", 0.9, 500))
    }
    assert lowest_band(bands)[0] == "13-17"
    assert lowest_band({"0-12": bands["0-12"]})[0] == "0-12"
