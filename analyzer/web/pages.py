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

__all__ = ["error_response", "page", "size_text"]

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
    environment.filters |= {"counted": counted, "one_line": one_line, "clock": _clock, "size": size_text}
    return environment


def _clock(seconds: float | None) -> str:
    """Write a length as on a player; a dash if it is not known.

    >>> _clock(3725.4), _clock(65), _clock(None)
    ('1:02:05', '1:05', '–')
    """
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size_text(count: int) -> str:
    """Write a number of bytes.

    >>> size_text(512), size_text(3_210_000), size_text(45_000_000)
    ('512 B', '3.2 MB', '45 MB')
    """
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.1f} {unit}" if unit != "B" and value < 10 else f"{value:.0f} {unit}"


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
        return page(
            "error.html",
            status=status,
            title="Not found" if status == 404 else "This did not work",
            sentence=sentence,
        )
    return JSONResponse({"error": sentence}, status_code=status)
