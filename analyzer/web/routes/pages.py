"""The pages that are not a run's: home, job, login."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import RedirectResponse, Response

from analyzer.settings import DEFAULT_PRESET, PRESETS
from analyzer.web.apidocs import described
from analyzer.web.pages import error_response, page, size_text
from analyzer.web.routes.runs import Served, Sort
from analyzer.web.security import cookie_name, cookie_value, token_matches

__all__ = ["router"]

router = APIRouter(include_in_schema=False)


_PER_PAGE = 100


@router.get("/")
def home(
    *,
    service: Served,
    q: Annotated[str, Query(max_length=200)] = "",
    sort: Sort = "analyzed",
    order: Literal["asc", "desc"] = "desc",
    number: Annotated[int, Query(ge=1, alias="page")] = 1,
) -> Response:
    """All runs, and the form for new jobs."""
    found = service.runs.find(search=q, sort=sort, descending=order == "desc")
    pages = max(1, -(-len(found) // _PER_PAGE))
    number = min(number, pages)
    shown = found[_PER_PAGE * (number - 1) : _PER_PAGE * number]
    space = service.space()
    return page(
        "home.html",
        here="/",
        q=q,
        sort=sort,
        order=order,
        page=number,
        pages=pages,
        total=len(found),
        runs=shown,
        sizes=service.sizes(shown),
        folders=sorted({run.where for run in service.runs.entries() if run.where})[:200],
        used=sum(run.size_bytes for run in found) + space["media_bytes"],
        free=space["free_bytes"],
        presets=[DEFAULT_PRESET, *(name for name in PRESETS if name != DEFAULT_PRESET)],
        limit_mb=service.config.max_upload_mb,
        limit=size_text(service.config.max_upload_mb * 10**6),
        keep_days=service.config.keep_days,
        trouble=service.public(service.jobs.trouble or ""),
    )


@router.get("/api/docs")
def api_docs(request: Request) -> Response:
    """The API, from the description that programs get."""
    return page("api.html", title="API", here="/api/docs", **described(request.app.openapi()))


@router.get("/login")
async def login(request: Request, token: str = "", next: str = "/") -> Response:
    """Log in by the address that the server has printed, or show the form."""
    return _logged_in(request, token, next) if token else page("login.html", title="Log in", next=next)


@router.post("/login")
async def login_form(request: Request, token: str = Form(""), next: str = Form("/")) -> Response:
    """Log in by the form."""
    return _logged_in(request, token, next)


def _logged_in(request: Request, token: str, wanted: str) -> Response:
    service = request.app.state.service
    client = request.client.host if request.client else ""
    if service.failures.exceeded(client):
        return error_response(request, 429, "too many wrong tokens: wait a minute")
    if not token_matches(token, service.config.token):
        service.failures.count(client)
        return page("login.html", status=403, title="Log in", next=wanted, wrong=True)
    # A path of this server and nothing else: `//host` and `/\host` lead away.
    local = wanted.startswith("/") and wanted[1:2] not in ("/", "\\") and wanted.isprintable()
    target = wanted if local else "/"
    # After a link on another site the cookie would not go along with a redirect.
    elsewhere = request.headers.get("sec-fetch-site") == "cross-site"
    response = page("welcome.html", target=target) if elsewhere else RedirectResponse(target, status_code=303)
    response.set_cookie(
        cookie_name(service.config.port),
        cookie_value(service.config.token),
        max_age=365 * 86400,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return response
