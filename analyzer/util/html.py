"""HTML pages that are complete in one file: templates that escape everything, hashes for their scripts."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["csp_hash", "load_template"]


def load_template(path: Path, **filters: Callable[..., Any]) -> Template:
    """Load a Jinja template that escapes all values and refuses unknown names.

    Args:
        path: The template; it can include others of its folder.
        filters: Filters for it, by name.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(path.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    return environment.get_template(path.name)


def csp_hash(text: str) -> str:
    """Hash an inline script or style as a Content-Security-Policy names it.

    Args:
        text: The script or style with line ends as a browser sees them, that is line feeds.

    >>> csp_hash("alert('Hello, world.');")
    'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng='
    """
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
