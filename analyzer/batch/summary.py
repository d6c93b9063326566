"""The summary of a batch run: plain text for a terminal or for cron's mail.

Titles and sources are untrusted: each is on one line, without control characters.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import Any

from analyzer.batch.ledger import State
from analyzer.batch.outcome import Outcome
from analyzer.util.durations import rough_duration
from analyzer.util.text import counted, one_line

__all__ = ["ENDINGS", "summary", "utc_minute"]

ENDINGS = {
    "finished": "finished",
    "stopped": "stopped on request",
    "time_budget": "time budget used up",
    "no_space": "disk full",
    "ledger": "ledger could not be written",
    "cluster": "cluster lost",
    "broken": "nothing could be analyzed",
}
"""`Outcome.reason` for people."""

_LISTED = 100
"""The greatest number of entries in a list: mails should stay readable."""


def summary(outcome: Outcome) -> str:
    """Summarize a batch run in a few lines, without those that would say nothing. No newline at the end."""
    paragraphs = [[_totals(outcome)]]
    if outcome.error is not None or outcome.reason != "finished":
        paragraphs[0].append(_ending(outcome))
    if outcome.recovered:
        paragraphs[0].append(f"{counted(outcome.recovered, 'attempt')} crashed and succeeded on retry.")
    if outcome.copies:
        one = outcome.copies == 1
        words = "is a copy of another and was" if one else "are copies of others and were"
        paragraphs[0].append(f"{counted(outcome.copies, 'file')} {words} not analyzed again.")
    others = outcome.skipped - outcome.filtered
    if others:
        paragraphs[0].append(
            f"{counted(others, 'video')} skipped: removed, replaced, or the same as another."
        )
    for heading, troubles in _sorted_troubles(outcome.troubles):
        paragraphs.append(_list(heading, troubles))
    return "\n\n".join("\n".join(lines) for lines in paragraphs)


def _totals(outcome: Outcome) -> str:
    took = rough_duration(outcome.seconds)
    parts = (
        (outcome.failed, "failed"),
        (outcome.abandoned, "abandoned"),
        (outcome.left, "left for the next batch run"),
        (outcome.filtered, "excluded by a filter"),
    )
    rest = ", ".join(f"{count:,} {words}" for count, words in parts if count)
    why = f" ({rest})" if rest else ""
    known = outcome.done + sum(count for count, _ in parts)
    if known == outcome.filtered:
        return f"Nothing to do{why}; took {took}."
    videos = counted(known, "video")
    if not outcome.done:
        return f"Done 0 of {videos}{why}, in {took}."
    people = counted(outcome.people, "person", "people")
    count = f"{outcome.done:,} of {videos}" if outcome.done < known else videos
    return f"Done {count}{why}, {rough_duration(outcome.video_s)} of video, in {took}: {people}."


def _ending(outcome: Outcome) -> str:
    words = ENDINGS.get(outcome.reason, one_line(outcome.reason, 200))
    if outcome.reason == "stopped" and outcome.error is None:
        return "Stopped on request (Ctrl-C or SIGTERM)."
    if outcome.error is None:
        return f"Ended early: {words}."
    return f"Ended early: {_sentence(outcome.error)}"


def _sorted_troubles(
    troubles: Iterable[Mapping[str, Any]],
) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """Group troubles under headings, without empty groups."""
    groups: dict[str, list[Mapping[str, Any]]] = {
        "Failed, will be tried again": [],
        "Abandoned (batch retry NUMBER tries one again)": [],
        "Done, but read only in part": [],
        "Done, but without its annotated video": [],
        "Done, but without its report": [],
        "Sources that could not be listed, or only in part": [],
        "Other problems": [],
    }
    failed, abandoned, partly, undrawn, unreported, sources, others = groups.values()
    for one in troubles:
        match one["state"], one["kind"]:
            case (State.FAILED, _):
                failed.append(one)
            case (State.ABANDONED, _):
                abandoned.append(one)
            case (State.DONE, "incomplete"):
                partly.append(one)
            case (State.DONE, "video"):
                undrawn.append(one)
            case (State.DONE, "report"):
                unreported.append(one)
            case ("source", _):
                sources.append(one)
            case _:
                others.append(one)
    return [(heading, listed) for heading, listed in groups.items() if listed]


def _list(heading: str, troubles: list[Mapping[str, Any]]) -> list[str]:
    lines = [f"{heading}:"]
    for one in troubles[:_LISTED]:
        number = "" if one["video"] is None else f"{one['video']}  "
        lines.append(f"  {number}{one_line(one['title'] or one['source'], 200)}")
        again = f"; next attempt after {utc_minute(one['next_try'])}" if one.get("next_try") else ""
        lines.append(f"      {_sentence(one['error'])} ({one_line(one['kind'], 200)}{again})")
    if len(troubles) > _LISTED:
        lines.append(f"  and {len(troubles) - _LISTED:,} more: batch status lists them")
    return lines


def utc_minute(moment: str) -> str:
    """Write an ISO time in UTC for people.

    >>> utc_minute("2026-11-29T23:44:23+00:00")
    '2026-11-29 23:44 UTC'
    """
    return f"{datetime.datetime.fromisoformat(moment):%Y-%m-%d %H:%M} UTC"


def _sentence(text: object) -> str:
    """Add a capital, if the first word is one, and a full stop."""
    line = one_line(text, 600)
    first = line[:1].upper() if line.partition(" ")[0].isalpha() else line[:1]
    return f"{first}{line[1:]}{'' if line.endswith(('.', '!', '?', '…')) else '.'}"
