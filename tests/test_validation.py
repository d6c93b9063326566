"""Plain values against types: what is taken, what is refused, and with which words."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import pytest

from analyzer.util.validation import InvalidValueError, Limits, brief, conform, number, range_text


class Color(StrEnum):
    RED = "red"


@dataclass(frozen=True)
class Point:
    x: float
    y: float = 0.0


class Document(TypedDict):
    name: Annotated[str, "What it is called."]
    points: list[Point]
    more: NotRequired[dict[str, int]]


@pytest.mark.parametrize(
    ("value", "form", "expected"),
    [
        (1, float, 1.0),
        (2.0, int, 2),
        (None, int | None, None),
        ("auto", int | str, "auto"),
        ([1, 2], tuple[int, ...], (1, 2)),
        ([1, "a"], tuple[int, str], (1, "a")),
        ("red", Color, Color.RED),
        ("b", Literal["a", "b"], "b"),
        ({"x": 1}, Point, Point(1.0)),
        ({"anything": [1]}, dict[str, Any], {"anything": [1]}),
        ({"name": "n", "points": [{"x": 1}]}, Document, {"name": "n", "points": [Point(1.0)]}),
        ({"name": "n", "points": [], "else": 1}, Document, {"name": "n", "points": [], "else": 1}),
    ],
)
def test_a_value_of_the_form_is_returned_in_the_form(value: Any, form: Any, expected: Any) -> None:
    found = conform(value, form, "value")
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "form", "message"),
    [
        (True, int, "value must be a whole number, not True"),
        (1.5, int, "value must be a whole number, not 1.5"),
        (float("nan"), float, "value must be a finite number, not nan"),
        (10**400, float, "value must be a number, not 1000"),
        (1, bool, "value must be true or false, not 1"),
        (1, str | None, "value must be text, not 1"),
        ("blue", Color, "value must be one of red, not 'blue'"),
        (1, Literal[True], "value must be one of True, not 1"),
        ({"a": 1}, list[int], "value must be a list"),
        ([1, "x"], list[int], r"value\[1\] must be a whole number"),
        ([1], tuple[int, int], "value must have 2 items, not 1"),
        ({}, Point, "the key x of value is missing"),
        ({"x": 1, "z": 2}, Point, "'z' is no key of value"),
        ({"name": "n"}, Document, "the key points of value is missing"),
        ({"name": "n", "points": [], "more": {"a": "b"}}, Document, "value.more.a must be a whole number"),
    ],
)
def test_another_form_is_refused_by_name(value: Any, form: Any, message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        conform(value, form, "value")


def test_limits_hold_for_everything_inside() -> None:
    strict = Limits(low=0, high=10, longest_text=3, known_keys_only=True)
    assert conform({"name": "abcdef", "points": []}, Document, "d", strict)["name"] == "abc"
    for document in ({"name": "a", "points": [{"x": 11}]}, {"name": "a", "points": [], "else": 1}):
        with pytest.raises(InvalidValueError):
            conform(document, Document, "d", strict)
    assert conform({"points": []}, Document, "d", Limits(missing_keys=True)) == {"points": []}


def test_half_a_surrogate_pair_becomes_text_that_can_be_stored() -> None:
    assert conform("a\ud83d", str, "title") == "a?"


def test_numbers_have_words_and_ranges() -> None:
    assert number("auto", int, "size", 1, 9, words=("auto",)) == "auto"
    with pytest.raises(InvalidValueError, match="size must be a whole number or auto, not 'big'"):
        number("big", int, "size", 1, 9, words=("auto",))
    with pytest.raises(InvalidValueError, match="size must be between 1 and 9, not 10"):
        number(10, int, "size", 1, 9)
    assert range_text(10_000, 1_000_000_000) == "between 10000 and 1000000000"


@pytest.mark.parametrize("value", [sys.maxsize + 1, -(10**400)])
def test_whole_numbers_that_no_machine_counts_to_are_too_large(value: int) -> None:
    with pytest.raises(InvalidValueError, match="every is too large"):
        number(value, int, "every")
    with pytest.raises(InvalidValueError, match="every must be between 1 and 5, not"):
        number(value, int, "every", 1, 5)


def test_a_shown_value_is_short_whatever_it_is() -> None:
    assert brief(10**5000) == "such a value"
    assert len(brief("x" * 1000)) == 60
