"""Pages: Jinja templates that escape everything, and answers to errors."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from analyzer.util.text import counted, one_line
from analyzer.web.security import accepts_html

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["error_response", "page"]

_FOLDER = Path(__file__).with_name("templates")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"counted": counted, "one_line": one_line}
    return environment


def page(name: str, *, status: int = 200, **values: Any) -> Response:
    """Render a template of `templates/`.

    Args:
        name: Of the template; it extends ``base.html``.
        status: Of the answer.
        values: For the template; ``title``, and ``here``, the path of the page in the navigation.
    """
    values = {"title": "", "here": ""} | values
    return HTMLResponse(_environment().get_template(name).render(**values), status_code=status)


def error_response(request: Request, status: int, sentence: str) -> Response:
    """An error as a page for browsers, as JSON for programs."""
    if accepts_html(request.scope["headers"]) and not request.url.path.startswith("/api/"):
        return page("error.html", status=status, title="Error", sentence=sentence)
    return JSONResponse({"error": sentence}, status_code=status)
