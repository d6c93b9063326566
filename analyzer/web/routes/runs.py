"""The runs: the list, and what belongs to one."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from analyzer.web.runs import RunEntry, public_info
from analyzer.web.service import Service, service_of

__all__ = ["Chosen", "Served", "router"]

router = APIRouter(tags=["runs"])

Served = Annotated[Service, Depends(service_of)]
"""The service, as a parameter of a route."""


def _run_of(run: str, service: Served) -> RunEntry:
    return service.runs.get(run)


Chosen = Annotated[RunEntry, Depends(_run_of)]
"""The run that the ``{run}`` of a path names, as a parameter of a route; 404 if there is none."""

Sort = Literal["analyzed", "title", "channel", "day", "people", "size", "duration"]


def json_response(document: Any) -> Response:
    """JSON without FastAPI's pass over each value, which takes ten times as long as writing it."""
    return Response(json.dumps(document, ensure_ascii=False, allow_nan=False), media_type="application/json")


@router.get("/api/runs")
def list_runs(
    *,
    service: Served,
    q: Annotated[str, Query(max_length=200, description="Words in title, channel, folder or day.")] = "",
    sort: Sort = "analyzed",
    order: Literal["asc", "desc"] = "desc",
    limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> Response:
    """List the runs."""
    found = service.runs.find(search=q, sort=sort, descending=order == "desc")
    listed = ", ".join(run.json for run in found[offset : offset + limit])
    total = sum(run.size_bytes for run in found)
    text = f'{{"total": {len(found)}, "size_bytes": {total}, "runs": [{listed}]}}'
    return Response(text, media_type="application/json")


@router.get("/api/runs/{run}")
def get_run(run: Chosen) -> Response:
    """The `run.json` of a run: what was analyzed, how, and with what result."""
    return json_response(public_info(run.info()))
