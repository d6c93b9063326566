"""Comparison of groups of runs."""

from __future__ import annotations

import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from analyzer.errors import SettingsError
from analyzer.web.pages import page
from analyzer.web.routes.runs import Served, json_response
from analyzer.web.runs import RunEntry
from analyzer.web.service import Service

__all__ = ["router"]

router = APIRouter(tags=["compare"])

_TIMEOUT_S = 180.0

_MOST_RUNS = 10_000

GROUPINGS = {
    "channel": "channel",
    "folder": "folder",
    "week": "week",
    "month": "month",
    "day": "day",
    "name": "file name",
    "title": "run",
}
"""What the page offers to group runs by, and the words for it."""

Grouping = Literal["channel", "folder", "week", "month", "day", "name", "title"]
Kind = Literal["video", "images"]


class Wanted(BaseModel):
    """Which runs to compare, and how to group them."""

    model_config = ConfigDict(extra="forbid")

    by: Grouping = "channel"
    q: Annotated[str, Field(max_length=200, description="Words in title, channel, folder or day.")] = ""
    since: Annotated[datetime.date | None, Field(description="This day or later.")] = None
    kind: Kind = "video"
    runs: Annotated[list[str] | None, Field(max_length=_MOST_RUNS, description="Only these, by id.")] = None
    left_out: Annotated[list[str], Field(max_length=_MOST_RUNS, description="Not these, by id.")] = []
    min_people: Annotated[int, Field(ge=1, le=1000, description="Suppress groups of fewer people.")] = 1


@router.get("/compare", include_in_schema=False)
def compare_page() -> Response:
    """The page on which runs are compared."""
    return page("compare.html", title="Compare", here="/compare", groupings=GROUPINGS)


@router.get("/api/compare/runs")
def list_comparable(
    *,
    service: Served,
    q: Annotated[str, Query(max_length=200, description="Words in title, channel, folder or day.")] = "",
    since: Annotated[datetime.date | None, Query(description="This day or later.")] = None,
    kind: Kind = "video",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Response:
    """List the runs that a comparison with these filters takes, the newest first."""
    found = _chosen(service, Wanted(q=q, since=since, kind=kind))
    rows = [
        {"id": run.id, "title": run.title, "channel": run.channel, "day": run.day, "people": run.people}
        for run in found[:limit]
    ]
    return json_response({"total": len(found), "runs": rows})


@router.post("/api/compare")
async def post_compare(wanted: Wanted, service: Served) -> Response:
    """Compare groups of runs: the figures of each group, and the differences between any two of the twelve
    with the most people, with 95 % intervals."""
    found = await run_in_threadpool(_chosen, service, wanted)
    if not found:
        raise SettingsError("no run is chosen: relax the filters")
    folders = [run.folder for run in found]
    made = await service.tasks.run(
        "analyzer.web.comparison:compare", folders, wanted.by, wanted.min_people, timeout_s=_TIMEOUT_S
    )
    return json_response(made)


def _chosen(service: Service, wanted: Wanted) -> list[RunEntry]:
    since = wanted.since.isoformat() if wanted.since else ""
    only = None if wanted.runs is None else set(wanted.runs)
    left_out = set(wanted.left_out)
    return [
        run
        for run in service.runs.find(search=wanted.q, sort="day")
        if (run.kind == "images") == (wanted.kind == "images")
        and run.day >= since
        and run.id not in left_out
        and (only is None or run.id in only)
    ]
