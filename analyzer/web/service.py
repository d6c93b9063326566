"""The state behind the routes."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from starlette.requests import HTTPConnection

from analyzer.web.config import ServeConfig
from analyzer.web.media import Media, media_of
from analyzer.web.runs import RunEntry, RunIndex
from analyzer.web.security import Rate
from analyzer.web.tasks import Tasks

__all__ = ["Service", "service_of"]


class Service:
    """Everything that the routes use; an asynchronous context manager.

    Args:
        config: Of the server.
    """

    def __init__(self, config: ServeConfig) -> None:
        self.config = config
        self.failures = Rate(config.login_failures_per_minute)
        """Wrong tokens of each client."""
        self.runs = RunIndex(config.out)
        self.tasks = Tasks(config)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.tasks.close)

    def media(self, run: RunEntry) -> Media:
        """The video or the images that a run was made from, as far as they are still there."""
        return media_of(run.folder, run.info(), ())


def service_of(connection: HTTPConnection) -> Service:
    """The service of a request or WebSocket; as a dependency, ``Annotated[Service, Depends(service_of)]``."""
    service: Service = connection.app.state.service
    return service
