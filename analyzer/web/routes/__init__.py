"""The routes, a module for each part; each has a `router`."""

from __future__ import annotations

from analyzer.web.routes import health, jobs, media, pages, runs

__all__ = ["ROUTERS"]

ROUTERS = (
    health.router,
    jobs.router,
    media.router,
    pages.router,
    runs.router,
)
