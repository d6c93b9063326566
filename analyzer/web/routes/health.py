"""Whether the server works."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

import analyzer

__all__ = ["router"]

router = APIRouter()


@router.get("/healthz", tags=["server"])
async def healthz(request: Request) -> dict[str, Any]:
    """Tell whether the server accepts jobs; needs no token."""
    del request
    return {"status": "ok", "version": analyzer.__version__}
