"""Review of a run: its people with their crops, suggestions, and corrections by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response

from analyzer.runs.corrections import read_corrections
from analyzer.runs.run import Run
from analyzer.web.crops import Cut
from analyzer.web.media import Media
from analyzer.web.pages import page
from analyzer.web.routes.runs import Chosen, Served, json_response
from analyzer.web.routes.view import finish_corrections, header, view_of
from analyzer.web.runs import RunEntry
from analyzer.web.service import Service

if TYPE_CHECKING:
    from analyzer.web.view import TrackletView

__all__ = ["router"]

router = APIRouter(tags=["review"])

_TASKS = "analyzer.web.cutting"
_TIMEOUT_S = 300.0
_MAX_AT_ONCE = 500
_MAX_CAST = 500


class Added(BaseModel):
    """Corrections to add, in order; each refers to the people after the one before."""

    model_config = ConfigDict(extra="forbid")

    corrections: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=_MAX_AT_ONCE)]


@router.get("/runs/{run}/review", include_in_schema=False)
async def review_page(run: Chosen, service: Served) -> Response:
    """The page on which people are corrected."""
    await finish_corrections(run, service)
    shown = await run_in_threadpool(lambda: header(run, view_of(run), service.media(run)))
    return page("review.html", **shown, here_is="review")


@router.get("/api/runs/{run}/review")
async def get_review(run: Chosen, service: Served) -> Response:
    """Everything that a review shows: people, figures, suggestions, the corrections so far, and the names
    that were given in runs of the same channel."""
    await finish_corrections(run, service)
    return json_response(await run_in_threadpool(_review, run))


@router.get("/api/runs/{run}/suggestions")
def get_suggestions(run: Chosen) -> Response:
    """What to check: merges, splits and checks, the most likely first, each with its reason."""
    return json_response({"suggestions": _suggested(run)})


@router.get("/api/runs/{run}/corrections")
def get_corrections(run: Chosen) -> Response:
    """All corrections of a run, in the order in which they were made."""
    return json_response({"corrections": read_corrections(run.folder).to_list()})


@router.post("/api/runs/{run}/corrections")
async def post_corrections(run: Chosen, service: Served, added: Added) -> Response:
    """Correct the people of a run, all corrections or none; tables, figures and report follow. Answers with
    what a review shows then."""
    await service.tasks.run(f"{_TASKS}:correct", run.folder, added.corrections, timeout_s=_TIMEOUT_S)
    return json_response(await run_in_threadpool(_after, run, service))


@router.delete("/api/runs/{run}/corrections/last")
async def delete_last_correction(run: Chosen, service: Served) -> Response:
    """Undo the last correction in force. Answers with what a review shows then."""
    await service.tasks.run(f"{_TASKS}:undo", run.folder, timeout_s=_TIMEOUT_S)
    return json_response(await run_in_threadpool(_after, run, service))


@router.get("/api/runs/{run}/people/{person}/crops/{number}.jpg")
async def get_crop(run: Chosen, service: Served, person: int, number: int) -> Response:
    """One of the best crops of a person, from 0; cut from the video when asked for, and never stored."""
    view, media = await run_in_threadpool(lambda: (view_of(run), service.media(run)))
    keys = {one["person_id"]: one["crops"] for one in view["people"]}
    if person not in keys or media.path is None:
        raise HTTPException(404, media.reason or "there is no such person")
    jpegs = await service.crops.people(_cut(run, media), person, keys)
    return _jpeg(jpegs, number)


@router.get("/api/runs/{run}/people/{person}/tracklets")
def get_tracklets(run: Chosen, person: int) -> Response:
    """The stretches in which a person was tracked, in the order of time."""
    return json_response(_tracklets(run, person))


@router.get("/api/runs/{run}/people/{person}/tracklets/{tracklet}.jpg")
async def get_tracklet_crop(run: Chosen, service: Served, person: int, tracklet: int) -> Response:
    """The best crop of a stretch in which a person was tracked."""
    rows, media = await run_in_threadpool(lambda: (_tracklets(run, person), service.media(run)))
    ids = [row["tracklet_id"] for row in rows]
    if tracklet not in ids or media.path is None:
        raise HTTPException(404, media.reason or "there is no such tracklet")
    return _jpeg(await service.crops.tracklets(_cut(run, media), tracklet, ids), 0)


def _cut(run: RunEntry, media: Media) -> Cut:
    return Cut(run.id, run.analyzed_at, run.folder, media.paths)


def _tracklets(run: RunEntry, person: int) -> list[TrackletView]:
    from analyzer.web.view import tracklets_of  # late, as in `view`

    return tracklets_of(Run.load(run.folder), person)


def _jpeg(jpegs: Sequence[bytes], number: int) -> Response:
    if not 0 <= number < len(jpegs):
        raise HTTPException(404, "there are no more crops")
    return Response(jpegs[number], media_type="image/jpeg")


def _after(run: RunEntry, service: Service) -> dict[str, Any]:
    """What a review shows after a correction, which the list of runs shows too."""
    service.runs.entries(fresh=True)
    return _review(run)


def _review(run: RunEntry) -> dict[str, Any]:
    from analyzer.runs.suggestions import cast

    made = read_corrections(run.folder)
    active = {one.number for one in made.active}
    return {
        "view": view_of(run),
        "suggestions": _suggested(run),
        "history": [
            {"number": one.number, "action": one.action, "words": one.in_words()}
            | {"undone": one.number not in active}
            for one in made.entries
        ],
        "cast": cast(run.folder)[:_MAX_CAST],
        "age_bands": _bands(run),
    }


def _suggested(run: RunEntry) -> list[dict[str, Any]]:
    from analyzer.runs.suggestions import suggestions

    return [one.to_dict() for one in suggestions(run.folder)]


def _bands(run: RunEntry) -> list[str]:
    """The age bands of the run, as corrections write them."""
    from analyzer.settings import AGE_BANDS

    name = str(run.info()["settings"].get("age_bands") or "")
    bands = AGE_BANDS.get(name) or next(iter(AGE_BANDS.values()))
    return [band.name for band in bands]
