"""Whether the server works."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

import analyzer
from analyzer.web.service import service_of

__all__ = ["router"]

router = APIRouter()


@router.get("/healthz", tags=["server"])
async def healthz(request: Request) -> dict[str, Any]:
    """Tell whether the server runs jobs (`ok`) or waits, for space for example (`paused`); needs no token."""
    return service_of(request).health() | {"version": analyzer.__version__}
