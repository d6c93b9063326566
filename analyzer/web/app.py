"""The application: its routes, its errors, its layers."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

import analyzer
from analyzer.errors import AnalyzerError, SettingsError, SourceError
from analyzer.util.text import one_line
from analyzer.web.jobs import BusyError, Unfinished, UnknownJobError
from analyzer.web.live import BusyLiveError
from analyzer.web.pages import error_response
from analyzer.web.routes import ROUTERS
from analyzer.web.runs import UnknownRunError
from analyzer.web.security import Guard
from analyzer.web.service import Service
from analyzer.web.tasks import BusyTasksError
from analyzer.web.uploads import UploadError

__all__ = ["create_app"]

log = logging.getLogger(__name__)

_HERE = Path(__file__).parent
_REPORT = _HERE.parent / "report" / "assets"

_STATUSES: dict[type[AnalyzerError], int] = {
    UnknownRunError: 404,
    UnknownJobError: 404,
    Unfinished: 409,
    BusyError: 429,
    BusyTasksError: 429,
    BusyLiveError: 429,
    SettingsError: 422,
    SourceError: 422,
}
"""Of errors that are not the request's own fault, or not only."""


class _Static(StaticFiles):
    """Files that a browser asks for again each time, and gets only if they have changed."""

    def file_response(self, *args: object, **kwargs: object) -> Response:
        response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        response.headers["Cache-Control"] = "no-cache"
        return response


def create_app(service: Service) -> FastAPI:
    """The application of a server.

    Args:
        service: The state behind the routes, as ``app.state.service``; started and stopped with it.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with service:
            yield

    app = FastAPI(
        title="Audience Analyzer",
        version=analyzer.__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        max_body_size=service.config.max_body_bytes,
        lifespan=lifespan,
    )
    app.state.service = service
    for router in ROUTERS:
        app.include_router(router)
    app.mount("/static/report", _Static(directory=_REPORT))
    app.mount("/static", _Static(directory=_HERE / "static"))
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(AnalyzerError, _analyzer_error)
    app.add_exception_handler(Exception, _unexpected)
    app.add_middleware(Guard, config=service.config, failures=service.failures)
    return app


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    sentence = "there is nothing at this address" if error.detail == "Not Found" else str(error.detail)
    response = error_response(request, error.status_code, sentence)
    response.headers.update(error.headers or {})
    return response


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"][1:])
    return error_response(request, 422, one_line(f"{place}: {first['msg']}", 300))


async def _analyzer_error(request: Request, error: Exception) -> Response:
    status = next((code for kind, code in _STATUSES.items() if isinstance(error, kind)), 400)
    if isinstance(error, UploadError):
        status = error.status
    sentence = request.app.state.service.public(str(error))
    response = error_response(request, status, one_line(sentence, 600))
    if status in (408, 413, 415, 429):
        response.headers["Connection"] = "close"  # what is left of the request is not read
    return response


async def _unexpected(request: Request, error: Exception) -> Response:
    log.error("unexpected error", exc_info=error)
    return error_response(request, 500, "an unexpected error: the log of the server has its details")
