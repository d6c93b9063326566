"""The page of a run, and what its player draws."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from analyzer.errors import OutputError
from analyzer.runs.corrections import read_corrections
from analyzer.runs.run import Run
from analyzer.util.text import counted
from analyzer.web.media import Media
from analyzer.web.pages import page
from analyzer.web.routes.runs import Chosen, Served, json_response
from analyzer.web.runs import RunEntry
from analyzer.web.service import Service

if TYPE_CHECKING:
    from analyzer.web.view import RunView

__all__ = ["finish_corrections", "header", "router", "view_of"]

router = APIRouter(tags=["runs"])

_MAX_RANGE_S = 120.0

_HEAL_S = 300.0

_IMAGE_PX = 1600
"""Longest side of an image on the page, in pixels."""

_NOTES = 4

_REPORTS = (("html", "page"), ("xlsx", "spreadsheet"), ("json", "JSON"))


@router.get("/runs/{run}", include_in_schema=False)
async def run_page(run: Chosen, service: Served) -> Response:
    """The page of a run: player, people, downloads."""
    await finish_corrections(run, service)
    return await run_in_threadpool(_run_page, run, service)


def _run_page(run: RunEntry, service: Service) -> Response:
    opened, media = Run.load(run.folder), service.media(run)
    view = view_of(run)
    labels = {person["person_id"]: person["label"] for person in view["people"]}
    images = [
        image | {"people": ", ".join(labels[one[0]] for one in image["boxes"] if one[0] in labels)}
        for image in view["images"]
    ]
    view = {**view, "images": images}  # the other one is kept for others
    return page(
        "run.html",
        **header(run, view, media),
        here_is="run",
        notes=opened.info["notes"][:_NOTES],
        downloads=_downloads(run),
    )


@router.get("/api/runs/{run}/view")
def get_view(run: Chosen) -> Response:
    """What the pages of a run show: people with their appearances, figures, images."""
    return json_response(view_of(run))


@router.get("/api/runs/{run}/boxes")
def get_boxes(
    run: Chosen,
    start_s: Annotated[float, Query(ge=0, allow_inf_nan=False)] = 0.0,
    end_s: Annotated[float, Query(ge=0, allow_inf_nan=False)] = _MAX_RANGE_S,
    hidden: Annotated[bool, Query(description="The areas to hide instead of boxes.")] = False,
) -> Response:
    """How boxes move from `start_s` to `end_s`, at most two minutes: rows of start and end in seconds, the
    person's number (-1: none), and the box at the start and, if it moves, at the end: x1, y1, x2, y2 as
    shares of the frame times 10,000."""
    from analyzer.web.view import boxes_view  # late: it takes half of the server's start

    end_s = min(end_s, start_s + _MAX_RANGE_S)
    return json_response(boxes_view(Run.load(run.folder), start_s, end_s, hidden=hidden))


@router.get("/api/runs/{run}/images/{sample}")
async def get_image(run: Chosen, service: Served, sample: int) -> Response:
    """An image of a run of images, as JPEG, at most 1600 pixels long."""
    path = await run_in_threadpool(_image_path, run, service.media(run), sample)
    return Response(
        await service.tasks.run("analyzer.web.cutting:image_jpeg", path, _IMAGE_PX), media_type="image/jpeg"
    )


def _image_path(run: RunEntry, media: Media, sample: int) -> Path:
    names = {one["sample"]: one["name"] for one in view_of(run)["images"]}
    place = media.paths[sample] if 0 <= sample < len(media.paths) else None
    if place is None or names.get(sample) != place.name:
        raise OutputError(media.reason or "there is no such image")
    return place


async def finish_corrections(run: RunEntry, service: Service) -> None:
    """Derive the tables of a run again, if the program was ended between a correction and its tables."""

    def current() -> bool:
        return read_corrections(run.folder).are_in(run.info())

    if not await run_in_threadpool(current):
        await service.tasks.run("analyzer.web.cutting:heal", run.folder, timeout_s=_HEAL_S)


def view_of(run: RunEntry) -> RunView:
    """What the pages of a run show; kept until the run changes."""
    return _view(run.folder, run.stamp())


@lru_cache(maxsize=16)
def _view(folder: Path, stamp: int) -> RunView:
    from analyzer.web.view import run_view

    del stamp  # with the folder, it is the key of the cache
    return run_view(Run.load(folder))


def header(run: RunEntry, view: RunView, media: Media) -> dict[str, Any]:
    """What all pages of a run show above: values of their templates."""
    from analyzer.report.figures import clock

    images = view["kind"] == "images"
    if images:
        length = counted(len(view["images"]), "image")
    else:
        length = f"{clock(view['end_s'] - view['start_s'])} analyzed"
    words = [run.channel or "", run.day, length, "" if run.complete else "not read to its end"]
    gone = media.reason
    if not images and media.path is None:
        gone = f"{_sentence(gone)} Times and figures are below."
    return {
        "run": run,
        "title": run.title,
        "view": view,
        "has_video": media.path is not None and not images,
        "gone": gone,
        "meta": [word for word in words if word],
    }


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}" if text else ""


def _downloads(run: RunEntry) -> list[tuple[str, list[tuple[str, str]]]]:
    """What can be downloaded, in groups: words, and the address of each form."""
    base = f"/api/runs/{run.id}"
    found = [("Report", [(f"{base}/report?format={form}", words) for form, words in _REPORTS])]
    for name in ("people", "timeline", "shares", "faces", "samples"):
        forms = (("csv", "CSV"), ("parquet", "Parquet"), ("json", "JSON"))
        found.append(
            (name.capitalize(), [(f"{base}/tables/{name}?format={form}", words) for form, words in forms])
        )
    if run.kind == "video":
        subtitles = [(f"{base}/subtitles.ass", "ASS, with boxes"), (f"{base}/subtitles.vtt", "WebVTT")]
        found.append(("Subtitles", subtitles))
    found.append(("How it was made", [(base, "run.json")]))
    return found
