"""The routes, a module for each part; each has a `router`."""

from __future__ import annotations

from analyzer.web.routes import compare, health, jobs, live, media, pages, review, runs, view

__all__ = ["ROUTERS"]

ROUTERS = (
    compare.router,
    health.router,
    jobs.router,
    live.router,
    media.router,
    pages.router,
    review.router,
    runs.router,
    view.router,
)
