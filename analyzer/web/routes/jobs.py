"""Jobs: new ones, their state, their end."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field
from sse_starlette.sse import EventSourceResponse
from starlette.responses import RedirectResponse, Response

from analyzer.errors import SettingsError, is_full
from analyzer.settings import PRESETS
from analyzer.web.jobs import BusyError, Job
from analyzer.web.pages import page
from analyzer.web.routes.runs import Served, json_response
from analyzer.web.uploads import Uploaded, UploadError, receive

__all__ = ["router"]

router = APIRouter(tags=["jobs"])

_PING_S = 15
_QUIET_S = 0.2
"""The least time between two events of a job, in seconds."""
_UNLIMITED = 2**62
"""`receive` has a limit of its own."""
_FOLDER = re.compile(r"[\w][\w .-]*(?:/[\w][\w .-]*){0,3}")


class JobOptions(BaseModel):
    """How to analyze."""

    preset: Literal["balanced", "fast"] | None = Field(None, description="Default: balanced.")
    settings: dict[str, Any] = Field(
        default_factory=dict,
        description="Settings by the names of `run.json`, such as `fps`, `start_s`, `end_s`, `scene`, "
        "`video`. The annotated video is left out unless `video` is true.",
    )
    folder: str = Field("", description="Folder of the run among the others, such as `news/2026`.")


class AddressJob(JobOptions):
    """An address to analyze."""

    url: str = Field(description="Of a video, or of a page or HLS playlist with one.")


class JobDocument(BaseModel):
    """A job."""

    id: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    progress: float = Field(description="From 0 to 1.")
    error: str | None = Field(description="Why it, or its last attempt, has failed.")
    run: str | None = Field(description="The id of its run, once it is done.")
    title: str
    kind: Literal["video", "images"]
    address: str | None
    stage: str = Field(description="downloading, reading, analyzing or rendering; empty if it waits.")
    canceling: bool
    received_bytes: int
    total_bytes: int | None
    faces: int = Field(description="Found so far.")
    samples: int = Field(description="Analyzed so far.")
    people: int | None = Field(description="Once it is done.")
    duration_s: float | None
    left_s: float | None = Field(description="Seconds until the analysis ends, as far as can be said.")
    next_try_s: float | None = Field(description="Seconds until it is tried again.")
    size_bytes: int
    created_at: str


class NewJobs(BaseModel):
    """The jobs of a request."""

    id: str = Field(description="Of the first one.")
    ids: list[str] = Field(description="Of all: each video is a job, all images together are one.")


def _job_of(job: str, service: Served) -> Job:
    return service.jobs.get(job)


ChosenJob = Annotated[Job, Depends(_job_of)]


def _document(service: Any, job: Job) -> dict[str, Any]:
    document: dict[str, Any] = service.jobs.document(job)
    if document["run"] is not None and job.work is not None and job.work.run is not None:
        run = service.runs.of_folder(job.work.run)
        document["people"] = None if run is None else run.people
    return document


_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "array", "items": {"type": "string", "format": "binary"}},
                        "preset": {"type": "string", "enum": list(PRESETS)},
                        "settings": {"type": "string", "description": "JSON, as for an address."},
                        "folder": {"type": "string"},
                    },
                }
            },
            "application/json": {"schema": AddressJob.model_json_schema()},
        },
    }
}


@router.post(
    "/api/jobs", status_code=201, response_model=NewJobs, openapi_extra=_BODY, max_body_size=_UNLIMITED
)
async def new_job(request: Request, service: Served) -> Any:
    """Analyze files (multipart) or an address (JSON).

    The same file or address with the same settings is one job: its id is returned again.
    """
    if service.submissions.exceeded():
        raise BusyError("too many new jobs: try again in a minute")
    service.submissions.count()
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() == "multipart/form-data":
        jobs = await _upload(request, service)
    else:
        jobs = [await _address(request, service)]
    return {"id": jobs[0].id, "ids": [job.id for job in jobs]}


async def _upload(request: Request, service: Any) -> list[Job]:
    if service.uploads.locked():
        raise BusyError("too many uploads at the same time: try again in a moment")
    async with service.uploads:
        folder = service.jobs.incoming()
        try:
            uploaded: Uploaded = await receive(request, folder, service.config)
            if not uploaded.files:
                raise UploadError(400, "the upload has no file")
            options = _options(uploaded.fields)
            settings = await asyncio.to_thread(service.jobs.settings_of, options.preset, options.settings)
            return await asyncio.to_thread(
                service.jobs.add_upload, uploaded, settings, _folder(options.folder)
            )
        except OSError as error:
            if not is_full(error):
                raise
            raise UploadError(507, "the disk of the server is full") from error
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _options(fields: dict[str, str]) -> JobOptions:
    try:
        settings = json.loads(fields.get("settings") or "{}")
        if not isinstance(settings, dict):
            raise ValueError
    except ValueError as error:
        raise SettingsError("settings must be a JSON object") from error
    preset = fields.get("preset") or None
    if preset is not None and preset not in PRESETS:
        raise SettingsError(f"there is no such preset: choose one of {', '.join(PRESETS)}")
    return JobOptions(preset=preset, settings=settings, folder=fields.get("folder", ""))  # type: ignore[arg-type]


async def _address(request: Request, service: Any) -> Job:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > service.config.max_body_bytes:
            raise UploadError(413, "the request is too long")
    try:
        wanted = AddressJob.model_validate_json(bytes(body))
    except ValueError as error:
        raise UploadError(
            422, 'send a file as multipart/form-data, or JSON such as {"url": "https://example.org/a.mp4"}'
        ) from error
    address = service.address_of(wanted.url)
    settings = service.jobs.settings_of(wanted.preset, wanted.settings)
    job: Job = await asyncio.to_thread(service.jobs.add_address, address, settings, _folder(wanted.folder))
    return job


def _folder(text: str) -> str:
    folder = text.strip().strip("/")
    if folder and (len(folder) > 200 or not _FOLDER.fullmatch(folder)):
        raise SettingsError("folder must be letters, digits, blanks, dots and dashes, such as news/2026")
    return folder


@router.get("/api/jobs", response_model=list[JobDocument])
def list_jobs(service: Served) -> Response:
    """List the jobs, the newest first."""
    return json_response([_document(service, job) for job in service.jobs.jobs()])


@router.get("/api/jobs/{job}", response_model=JobDocument)
def get_job(job: ChosenJob, service: Served) -> Response:
    """Get the state of a job."""
    return json_response(_document(service, job))


@router.get("/api/jobs/{job}/events")
async def job_events(job: ChosenJob, service: Served) -> EventSourceResponse:
    """Follow a job: server-sent events of the type `job`, each with its state as JSON, until it has ended."""
    if service.streams.locked():
        raise BusyError("too many pages follow a job: try again in a moment")
    return EventSourceResponse(_events(job, service), ping=_PING_S)


async def _events(job: Job, service: Any) -> AsyncIterator[dict[str, str]]:
    changed = asyncio.Event()
    async with service.streams:
        job.changed.add(changed)
        try:
            while True:
                changed.clear()
                document = await asyncio.to_thread(_document, service, job)
                yield {"event": "job", "data": json.dumps(document)}
                if job.final:
                    return
                await changed.wait()
                await asyncio.sleep(_QUIET_S)
        finally:
            job.changed.discard(changed)


@router.delete("/api/jobs/{job}")
def end_job(job: ChosenJob, service: Served) -> Response:
    """Cancel a job that waits or runs; delete one that has failed or was canceled, with its upload."""
    if not job.final:
        service.jobs.cancel(job.id)
        return json_response(_document(service, job))
    service.jobs.delete(job.id)
    return json_response({"deleted": job.id})


@router.post("/api/jobs/{job}/retry", response_model=JobDocument)
def retry_job(job: ChosenJob, service: Served) -> Response:
    """Begin a job again that has failed or was canceled."""
    service.jobs.retry(job.id)
    return json_response(_document(service, job))


@router.get("/jobs/{job}", include_in_schema=False)
def job_page(job: ChosenJob, service: Served) -> Response:
    """The page of a job."""
    document = _document(service, job)
    if document["run"] is not None:
        return RedirectResponse(f"/runs/{document['run']}", status_code=303)
    return page("job.html", title=document["title"], job=document)
