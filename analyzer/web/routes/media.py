"""What belongs to a run: its video, tables, report, and what is made of them on demand; its deletion."""

from __future__ import annotations

import html
import re
import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, RedirectResponse, Response

from analyzer.runs.folders import run_name
from analyzer.runs.run import Run
from analyzer.runs.run_info import RunInfo
from analyzer.runs.schema import FACES, IMAGES, SAMPLES, SHARES, people_columns, timeline_columns
from analyzer.runs.tables import write_csv
from analyzer.settings import Settings
from analyzer.web.making import Making
from analyzer.web.routes.runs import Chosen, Served, json_response
from analyzer.web.runs import RunEntry

__all__ = ["router"]

router = APIRouter(tags=["runs"])

_TYPES = {
    **{".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/mp4", ".webm": "video/webm"},
    **{".mkv": "video/x-matroska", ".ogv": "video/ogg", ".gif": "image/gif", ".apng": "image/apng"},
    **{".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"},
    **{".bmp": "image/bmp"},
}
"""By suffix: what browsers may show. Everything else is only downloaded."""
_PLAYED = (".mp4", ".m4v", ".mov", ".webm", ".mkv")
_PLAYED_CODECS = ("h264", "vp8", "vp9", "av1", "libdav1d", "libvpx", "libvpx-vp9")
_RENDERING = "analyzer.web.rendering"
_SUBTITLES = {"ass": "analyzer.output.subtitles:ass", "vtt": "analyzer.output.subtitles:webvtt"}
_SANDBOX = "default-src 'none'; sandbox"
_FORMS = {
    "html": "text/html; charset=utf-8",
    "json": "application/json",
    "md": "text/markdown; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}

Name = Literal["people", "shares", "timeline", "faces", "samples", "images"]


def file_response(
    request: Request, path: Path, media_type: str | None = None, name: str | None = None
) -> Response:
    """A file, with the ranges that players ask for.

    Args:
        request: A request with more ranges than any player asks for is refused.
        path: The file.
        media_type: None: by its suffix; what is unknown is a download.
        name: A browser saves it under this name; None: it shows the file.
    """
    ranges = request.headers.get("range", "").count(",") + 1
    if ranges > request.app.state.service.config.max_ranges:
        raise HTTPException(416, "too many ranges in one request")
    if not path.is_file():
        raise HTTPException(404, "the file is gone")
    kind = media_type or _TYPES.get(path.suffix.lower(), "application/octet-stream")
    headers = {"Content-Security-Policy": _SANDBOX, "Cache-Control": "private, max-age=0, must-revalidate"}
    return FileResponse(path, headers=headers, media_type=kind, filename=name)


def _saved_as(run: RunEntry, end: str) -> str:
    return f"{run_name(run.title, run.id)}{end}"


@router.delete("/api/runs/{run}")
def delete_run(run: Chosen, service: Served) -> Response:
    """Delete a run and everything of it: tables, report, corrections, upload or download, videos."""
    service.delete_run(run)
    service.makings.forget(service.previews(run))
    return json_response({"deleted": run.id})


# -- the video


@router.get("/api/runs/{run}/media", response_class=FileResponse)
def run_media(
    request: Request,
    run: Chosen,
    service: Served,
    n: Annotated[int, Query(ge=1, description="Of a run of images: which one.")] = 1,
) -> Response:
    """Get the video or an image that was analyzed, as it was sent, whole or in ranges."""
    media = service.media(run)
    if n > len(media.paths):
        raise HTTPException(404, media.reason or "there is no such image")
    return file_response(request, media.paths[n - 1])


@router.get("/api/runs/{run}/player")
def run_player(run: Chosen, service: Served) -> Response:
    """Tell what a player can play.

    `src` is the address of the video: the original where browsers play it as the tables describe it, else the
    preview, once it is made; `null`: there is none. `preview` is its state; `POST .../preview` makes it.
    """
    media = service.media(run)
    made = service.makings.state(_preview_path(service, run))
    base = f"/api/runs/{run.id}"
    playable = media.path is not None and _plays(media.path, run.info())
    src = f"{base}/preview.mp4" if made.state == "done" else f"{base}/media" if playable else None
    document = {
        "src": src,
        "playable": playable,
        "reason": media.reason,
        "preview": made.document(),
        "images": len(media.paths) if run.kind == "images" else 0,
        "names": list(media.names),
    }
    return json_response(document)


def _plays(path: Path, info: RunInfo) -> bool:
    """Whether browsers play a video, and show it as the tables describe it."""
    video = info["video"]
    changed = video.get("mirrored") or video.get("stereo") or video.get("transfer")
    known = path.suffix.lower() in _PLAYED and video.get("codec") in _PLAYED_CODECS
    return known and not changed


def _preview_path(service: Any, run: RunEntry) -> Path:
    folder: Path = service.previews(run)
    return folder / "preview.mp4"


@router.post("/api/runs/{run}/preview", status_code=202)
async def make_preview(run: Chosen, service: Served) -> Response:
    """Make a video that browsers play, H.264, of one that they do not play."""
    media = await run_in_threadpool(service.media, run)
    if media.path is None or run.kind != "video":
        raise HTTPException(404, media.reason or "only videos have a preview")
    return _made(service.makings.start(_preview_path(service, run), f"{_RENDERING}:preview", media.path))


@router.get("/api/runs/{run}/preview")
def preview_state(run: Chosen, service: Served) -> Response:
    """Get the state of the preview: `none`, `making` (with `progress`), `done` or `failed`."""
    return json_response(service.makings.state(_preview_path(service, run)).document())


@router.get("/api/runs/{run}/preview.mp4", response_class=FileResponse)
def get_preview(request: Request, run: Chosen, service: Served) -> Response:
    """Get the preview."""
    return file_response(request, _preview_path(service, run))


def _made(making: Making) -> Response:
    response = json_response(making.document())
    response.status_code = 200 if making.state == "done" else 202
    return response


# -- the annotated video


def _annotated_path(service: Any, run: RunEntry, blur: bool) -> Path:
    own = run.folder / "annotated.mp4"
    if own.is_file() and bool(run.info()["settings"].get("blur")) == blur:
        return own
    # Corrected runs are drawn again.
    folder: Path = service.previews(run)
    return folder / f"{'blurred' if blur else 'annotated'}.{run.stamp()}.mp4"


@router.post("/api/runs/{run}/annotated", status_code=202)
async def make_annotated(run: Chosen, service: Served, blur: bool = False) -> Response:
    """Make the annotated video, with blurred faces if `blur`."""
    path, media = await run_in_threadpool(lambda: (_annotated_path(service, run, blur), service.media(run)))
    if not path.is_file() and (media.path is None or run.kind != "video"):
        raise HTTPException(404, media.reason or "only videos have an annotated one")
    return _made(service.makings.start(path, f"{_RENDERING}:annotate", run.folder, media.path, blur))


@router.get("/api/runs/{run}/annotated")
def annotated_state(run: Chosen, service: Served, blur: bool = False) -> Response:
    """Get the state of the annotated video: `none`, `making` (with `progress`), `done` or `failed`."""
    return json_response(service.makings.state(_annotated_path(service, run, blur)).document())


@router.get("/api/runs/{run}/annotated.mp4", response_class=FileResponse)
def get_annotated(
    request: Request, run: Chosen, service: Served, blur: bool = False, download: bool = False
) -> Response:
    """Get the annotated video, once it is made."""
    name = _saved_as(run, "-annotated.mp4") if download else None
    return file_response(request, _annotated_path(service, run, blur), name=name)


# -- tables


@router.get("/api/runs/{run}/tables/{name}")
def run_table(
    request: Request,
    run: Chosen,
    name: Name,
    format: Literal["json", "parquet", "csv"] = "json",
) -> Response:
    """Get a table: `json` (a list of rows, empty cells null), `parquet` or `csv`."""
    path = run.folder / f"{name}.{format}"
    if format != "json" and path.is_file():
        kind = "text/csv; charset=utf-8" if format == "csv" else "application/vnd.apache.parquet"
        return file_response(request, path, kind, _saved_as(run, f"-{name}.{format}"))
    opened = Run.load(run.folder)
    if name == "images" and run.kind != "images":
        raise HTTPException(404, "only runs of images have this table")
    frame = getattr(opened, name)
    if format == "json":
        text = frame.to_json(orient="records", date_format="iso", double_precision=6)
        return Response(text, media_type="application/json")
    if format == "parquet":
        return _download(
            frame.to_parquet(index=False), "application/vnd.apache.parquet", run, f"-{name}.parquet"
        )
    settings = Settings(scene=opened.info["settings"].get("scene", "video"))
    bands = opened.info["settings"].get("age_bands", settings.age_bands)
    columns = {
        "people": people_columns(settings),
        "timeline": timeline_columns(settings.replace(age_bands=bands)),
        "shares": SHARES,
        "faces": FACES,
        "samples": SAMPLES,
        "images": IMAGES,
    }[name]
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "table.csv"
        write_csv(target, frame, columns)
        return _download(target.read_bytes(), "text/csv; charset=utf-8", run, f"-{name}.csv")


def _download(content: bytes, kind: str, run: RunEntry, end: str) -> Response:
    name = quote(_saved_as(run, end))
    return Response(
        content, media_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'}
    )


@router.get("/api/runs/{run}/people")
def run_people(request: Request, run: Chosen) -> Response:
    """Get the people of a run: the table `people` as JSON."""
    return run_table(request, run, "people")


# -- subtitles


@router.get("/api/runs/{run}/subtitles.{form}")
async def run_subtitles(run: Chosen, service: Served, form: Literal["ass", "vtt"]) -> Response:
    """Get subtitles with boxes and labels for a player: `ass`, for VLC for example, or `vtt` (WebVTT)."""
    if run.kind != "video":
        raise HTTPException(404, "only videos have subtitles")
    text = await service.tasks.run(_SUBTITLES[form], run.folder)
    kind = "text/vtt" if form == "vtt" else "text/x-ssa"
    return _download(text.encode(), f"{kind}; charset=utf-8", run, f".{form}")


# -- the report


@router.get("/api/runs/{run}/report")
async def run_report(
    request: Request, run: Chosen, service: Served, format: Literal["json", "html", "xlsx", "md"] = "json"
) -> Response:
    """Get the report of a run: `json` (all its figures), `html` (a page), `xlsx` or `md`."""
    path = await _report(service, run, format)
    name = None if format == "json" else _saved_as(run, f"-report.{format}")
    return file_response(request, path, _FORMS[format], name)


async def _report(service: Any, run: RunEntry, form: str) -> Path:
    newest = run.stamp()
    own = run.folder / f"report.{form}"
    if own.is_file() and own.stat().st_mtime_ns >= newest:
        return own
    folder: Path = service.previews(run) / f"report-{newest}"
    path = folder / f"report.{form}"
    if not path.is_file():
        await run_in_threadpool(_clear, folder)
        path = Path(await service.tasks.run(f"{_RENDERING}:write_report", run.folder, form, folder))
    return path


def _clear(folder: Path) -> None:
    """Make a folder for reports, and remove those of earlier states of the run: they show other people."""
    for other in folder.parent.glob("report-*"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)


@router.get("/runs/{run}/report", include_in_schema=False)
async def report_page(run: Chosen, service: Served) -> Response:
    """The report as a page, under the policy that it states itself."""
    path = await _report(service, run, "html")
    text = path.read_text("utf-8")
    return Response(text, media_type="text/html", headers={"Content-Security-Policy": _report_policy(text)})


def _report_policy(text: str) -> str:
    """The policy of a report: its own scripts by their hashes, nothing from elsewhere."""
    stated = re.search(r"script-src ((?:'sha256-[A-Za-z0-9+/=]+' ?)+)", html.unescape(text[:4000]))
    scripts = stated[1].strip() if stated is not None else "'none'"
    return (
        f"default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data: blob:; "
        "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    )


@router.get("/runs/{run}/annotated.mp4", include_in_schema=False)
def report_video(run: Chosen) -> Response:
    """The annotated video, where the report looks for it: beside itself."""
    return RedirectResponse(f"/api/runs/{run.id}/annotated.mp4")
