"""The pages that are not a run's: home, job, login."""

from __future__ import annotations

from fastapi import APIRouter, Form, Request
from starlette.responses import RedirectResponse, Response

from analyzer.web.pages import error_response, page
from analyzer.web.security import cookie_name, cookie_value, token_matches

__all__ = ["router"]

router = APIRouter(include_in_schema=False)


@router.get("/")
async def home() -> Response:
    """All runs, and the form for new jobs."""
    return page("home.html", here="/")


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
