"""A page with all videos of a ledger: finished ones with links to their reports, and what needs attention.

A single file that needs nothing but the run folders it links to; it can be opened from the disk or served
with its folder. Titles, channels, sources and reasons are untrusted: they are only ever text, and only http
and https addresses become links.
"""

from __future__ import annotations

import datetime
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import analyzer
from analyzer.batch.ledger import FINAL, Ledger, Result, State
from analyzer.batch.summary import ENDINGS
from analyzer.util.atomic import writing
from analyzer.util.durations import rough_duration
from analyzer.util.html import csp_hash, load_template
from analyzer.util.text import counted, one_line
from analyzer.util.urls import web_address

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = [
    "INDEX_NAME",
    "write_index",
]

INDEX_NAME = "index.html"
_ROWS = 1000
"""The greatest number of rows in a table: browsers are slow with more, and nobody reads them."""
_BATCH_RUNS = 10
_LONGEST_ADDRESS = 2000
_FOLDER = Path(__file__).with_name("assets")
_STYLE = Path(__file__).parents[1] / "report" / "assets" / "page.css"
_PEOPLE = ("people", "female", "male", "unknown_gender")
Row = dict[str, Any]


def write_index(ledger: Ledger, out: Path) -> Path:
    """Write or replace the page; it is complete at any moment.

    Args:
        ledger: The ledger, which is only read.
        out: The folder for ``index.html``; links to runs are relative to it.

    Returns:
        The page's path.

    Raises:
        LedgerError: The ledger cannot be read.
        OutputError: The page cannot be written.
    """
    page, path = _page(ledger, out), out / INDEX_NAME
    with writing(path) as temporary:
        temporary.write_text(page, "utf-8")
    return path


def _page(ledger: Ledger, out: Path) -> str:
    from markupsafe import Markup

    counts = ledger.counts()
    trouble = ledger.videos([State.FAILED, State.ABANDONED], _ROWS)
    batch_runs = ledger.batch_runs(_BATCH_RUNS)
    sources = _sources(batch_runs)
    skipped = ledger.videos([State.SKIPPED], _ROWS)
    return _template().render(
        version=analyzer.__version__,
        written=_minute(datetime.datetime.now(datetime.UTC).timestamp()),
        css=Markup(_STYLE.read_text("utf-8")),
        cards=_cards(counts, ledger.results(), len(sources)),
        hosts=[_host(row) for row in ledger.hosts()],
        trouble=[_trouble(row) for row in trouble],
        trouble_count=counts.get(State.FAILED, 0) + counts.get(State.ABANDONED, 0),
        sources=sources[:_ROWS],
        source_count=len(sources),
        done=[_done(row, out) for row in ledger.newest_done(_ROWS)],
        done_count=counts.get(State.DONE, 0),
        skipped=[_video(row) | {"reason": one_line(row["reason"] or "–", 500)} for row in skipped],
        skipped_count=counts.get(State.SKIPPED, 0),
        batch_runs=[_batch_run(row) for row in batch_runs],
    )


@cache
def _template() -> Template:
    return load_template(
        _FOLDER / "index.html.j2",
        sha256=csp_hash,
        number=_number,
        cap=lambda text: text[:1].upper() + text[1:],
    )


def _cards(counts: Mapping[str, int], results: Iterable[Result], sources: int) -> list[tuple[str, str, str]]:
    """Return name, figure and note of each total."""
    not_listed = [("Failed sources", _number(sources), "in the last batch run")] if sources else []
    waiting = sum(count for state, count in counts.items() if state not in (*FINAL, State.FAILED))
    seconds, people, partly = 0.0, 0, 0
    for result in results:
        seconds += _analyzed_s(result)
        people += _count(result.counts, "people") or 0
        partly += result.complete is False
    return [
        ("Done", _number(counts.get(State.DONE, 0)), f"{partly:,} of them partial" if partly else ""),
        ("Video", rough_duration(seconds), "analyzed"),
        ("People", _number(people), "counted video by video"),
        ("Waiting", _number(waiting), "new, or not finished"),
        ("Failed", _number(counts.get(State.FAILED, 0)), "retried automatically"),
        ("Abandoned", _number(counts.get(State.ABANDONED, 0)), ""),
        ("Skipped", _number(counts.get(State.SKIPPED, 0)), ""),
        *not_listed,
    ]


def _address(source: str) -> str | None:
    return web_address(source) if len(source) <= _LONGEST_ADDRESS else None


def _sources(batch_runs: Sequence[Row]) -> list[Row]:
    """Return the sources that the last batch run could not list, or only in part, and why."""
    counts: Row = next((row["counts"] for row in batch_runs if row["counts"]), {})
    troubles = [one for one in counts.get("troubles") or () if one.get("state") == "source"]
    listed = [
        (str(one.get("source") or ""), str(one.get("error") or ""), one.get("kind")) for one in troubles
    ]
    return [
        {
            "source": one_line(source, 200) or "–",
            "address": _address(source),
            "error": one_line(error, 500),
            "kind": one_line(kind or "", 40),
        }
        for source, error, kind in dict.fromkeys(listed)
    ]


def _video(row: Row) -> Row:
    """Return what every table shows of a video."""
    source = row["source"]
    address = _address(source)
    title = one_line(row["title"] or "", 200)
    return {
        "id": row["id"],
        "title": title or one_line(source, 200) or "–",
        "source": one_line(source, 200) if title else "",
        "address": address,
        "channel": one_line(row["channel"] or "", 100),
    }


def _done(row: Row, out: Path) -> Row:
    from analyzer.report.figures import clock

    seconds = row["duration_s"]
    if seconds is not None and not math.isfinite(seconds):
        seconds = None
    return _video(row) | {
        "link": _link(row["run"], out),
        "uploaded": one_line(row["uploaded"] or "", 10),
        "length": "" if seconds is None else clock(seconds),
        "length_s": "" if seconds is None else f"{seconds:g}",
        "people": [_count(row["counts"] or {}, name) for name in _PEOPLE],
        "partly": row["complete"] is False,
        "done": _minute(row["done_at"]),
    }


def _trouble(row: Row) -> Row:
    return _video(row) | {
        "kind": one_line(row["error_kind"] or "", 40),
        "error": one_line(row["error"] or "", 500),
        "attempts": row["attempts"],
        "abandoned": row["state"] == State.ABANDONED,
        "next": _minute(row["next_try"]),
        "changed": _minute(row["changed_at"]),
    }


def _batch_run(row: Row) -> Row:
    counts = row["counts"] or {}
    ended = row["ended_at"]
    sources = counts.get("sources_failed") or 0
    return {
        "began": _minute(row["started_at"]),
        "took": "" if ended is None else rough_duration(max(0.0, ended - row["started_at"])),
        "ending": "not ended" if ended is None else ENDINGS.get(row["outcome"], one_line(row["outcome"])),
        "error": one_line(counts.get("error") or "", 500),
        "sources": counted(sources, "failed source") if sources else "",
        "well": row["outcome"] == "finished" and not sources,
        "figures": [counts.get(name) for name in ("done", "failed", "abandoned", "left")],
    }


def _host(row: Row) -> Row:
    return {
        "host": one_line(row["host"], 200),
        "until": _minute(row["paused_until"]),
        "reason": one_line(row["reason"], 500),
    }


def _link(run: str | None, out: Path) -> str | None:
    """Return the address of a run's report, or of its folder; None if there is neither."""
    if run is None:
        return None
    page = os.path.join(run, "report.html")  # noqa: PTH118
    # The methods of pathlib raise if the folder cannot be read.
    if os.path.isfile(page):  # noqa: PTH113
        return _relative(page, out)
    return f"{_relative(run, out)}/" if os.path.isdir(run) else None  # noqa: PTH112


def _relative(path: str, out: Path) -> str:
    """Return a relative address, with all bytes that have a meaning in addresses percent-encoded."""
    return quote(os.fsencode(os.path.relpath(path, out)))


def _analyzed_s(result: Result) -> float:
    known = result.counts.get("analyzed_s")
    seconds = float(known if isinstance(known, int | float) else result.duration_s or 0.0)
    return seconds if math.isfinite(seconds) else 0.0


def _count(counts: Row, name: str) -> int | None:
    known = counts.get(name)
    return known if isinstance(known, int) else None


def _number(count: int | None) -> str:
    return "–" if count is None else f"{count:,}"


def _minute(moment: float | None) -> str:
    """Write a time such as ``2026-11-24 05:12``, in UTC."""
    if moment is None:
        return ""
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).strftime("%Y-%m-%d %H:%M")
