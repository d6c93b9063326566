"""The state behind the routes."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import logging
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from starlette.requests import HTTPConnection

from analyzer.errors import AnalyzerError, SourceError, SourceErrorKind
from analyzer.sources.egress import Egress, public_source
from analyzer.util.locks import folder_lock
from analyzer.util.text import without_paths
from analyzer.util.urls import web_address
from analyzer.web.config import ServeConfig
from analyzer.web.crops import CropCache
from analyzer.web.jobs import BusyError, JobService
from analyzer.web.live import LiveSessions
from analyzer.web.making import Makings
from analyzer.web.media import Media, media_of
from analyzer.web.runs import RunEntry, RunIndex
from analyzer.web.security import Rate
from analyzer.web.tasks import Tasks

__all__ = ["Service", "service_of"]

log = logging.getLogger(__name__)

_TIDY_S = 60.0
"""How often idle processes are ended and old runs looked for, in seconds."""


class Service:
    """Everything that the routes use; an asynchronous context manager.

    Args:
        config: Of the server.
    """

    def __init__(self, config: ServeConfig) -> None:
        self.config = config
        self.failures = Rate(config.login_failures_per_minute)
        """Wrong tokens of each client."""
        self.submissions = Rate(config.jobs_per_minute)
        """New jobs of all clients."""
        self.uploads = asyncio.Semaphore(config.max_uploads)
        """Uploads that are being received."""
        self.streams = asyncio.Semaphore(config.max_streams)
        """Pages that follow a job."""
        self.runs = RunIndex(config.out.absolute())
        self.tasks = Tasks(config)
        self.live = LiveSessions(config)
        self.crops = CropCache(self.tasks)
        self.makings = Makings(self.tasks)
        self.egress: Egress | None = None
        if not config.allow_private_addresses:
            self.egress = Egress(allowed=[ipaddress.ip_network(one) for one in config.allowed_networks])
        self.jobs = JobService(config, proxy=None if self.egress is None else self.egress.proxy)
        self._tidying: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.remove_old_previews)
        await asyncio.to_thread(self.jobs.start, asyncio.get_running_loop())
        self._tidying = asyncio.create_task(self._tidy())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tidying is not None:
            self._tidying.cancel()
        await asyncio.gather(
            self.live.close(), asyncio.to_thread(self.tasks.close), asyncio.to_thread(self.jobs.stop)
        )
        if self.egress is not None:
            await asyncio.to_thread(self.egress.close)

    def address_of(self, text: str) -> str:
        """The address that a visitor has typed.

        Raises:
            SourceError: It is no address, or not one that may be fetched.
        """
        if self.egress is not None:
            return public_source(text).url
        address = web_address(text)
        if address is None:
            raise SourceError(
                "the address must be a complete one of http or https, such as https://example.org/talk.mp4",
                kind=SourceErrorKind.UNSUPPORTED,
                source="the address",
            )
        return address

    def media(self, run: RunEntry) -> Media:
        """The video or the images that a run was made from, as far as they are still there."""
        kept: list[Path] = []
        names: tuple[str, ...] = ()
        for job in self.jobs.of_run(run.folder):
            files = [path for path in self.jobs.files_of(job) if path.is_file()]
            if files:
                kept, names = files, job.record.names
        return media_of(run.folder, run.info(), kept, names)

    def sizes(self, runs: list[RunEntry]) -> dict[str, int]:
        """The bytes of each run, and of what it was made from as far as the server keeps that."""
        jobs = self.jobs.by_run()
        return {
            run.id: run.size_bytes + sum(map(self.jobs.size_of, jobs.get(str(run.folder), ())))
            for run in runs
        }

    def delete_run(self, run: RunEntry) -> None:
        """Delete everything of a run: its folder, its upload or download, its previews, its jobs.

        Raises:
            BusyError: It is being written.
            AnalyzerError: It cannot be deleted.
        """
        try:
            with folder_lock(run.folder):  # from corrections that would go on writing in it
                # First what only the run leads to: after a kill the rest is still listed.
                shutil.rmtree(self.previews(run), ignore_errors=True)
                self.jobs.delete_run(run.folder)
        except BlockingIOError as error:
            raise BusyError("the run is being written: try again when that has ended") from error
        except OSError as error:
            raise AnalyzerError(f"the run cannot be deleted ({error.strerror})") from error
        self.crops.forget(run.id)
        self.runs.entries(fresh=True)

    def previews(self, run: RunEntry) -> Path:
        """The folder of what was made of a run for browsers."""
        return self.config.folder.absolute() / "previews" / run.id

    def remove_old_previews(self) -> None:
        """Remove what was made for browsers of runs that are gone, and what a kill has left unfinished."""
        folders = list((self.config.folder.absolute() / "previews").glob("*"))
        known = {run.id for run in self.runs.entries(fresh=True)} if folders else set()
        for folder in folders:
            if folder.name not in known:
                shutil.rmtree(folder, ignore_errors=True)
                continue
            for part in folder.glob(".*"):
                part.unlink(missing_ok=True)

    def public(self, text: str) -> str:
        """A message without paths of this machine."""
        return without_paths(text, self.config.out.absolute())

    async def _tidy(self) -> None:
        if any(self.config.out.glob("*live-*/.parts")):  # a recording was killed with the server
            with contextlib.suppress(AnalyzerError):
                await self.tasks.run("analyzer.web.live_process:finish_recordings", self.config.out)
        while True:
            with contextlib.suppress(AnalyzerError, OSError):
                await asyncio.to_thread(self.delete_old)
            await asyncio.to_thread(self.tasks.end_idle)
            await asyncio.sleep(_TIDY_S)

    def delete_old(self) -> int:
        """Delete the runs that were made here and are older than they are kept; returns how many."""
        if self.config.keep_days is None:
            return 0
        limit = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=self.config.keep_days)
        deleted = 0
        for run in self.runs.entries():
            with contextlib.suppress(AnalyzerError, ValueError):
                analyzed_at = datetime.datetime.fromisoformat(run.analyzed_at)
                if analyzed_at < limit and self.jobs.of_run(run.folder):
                    self.delete_run(run)
                    deleted += 1
        return deleted

    def health(self) -> dict[str, Any]:
        """Whether jobs are taken and run, without anything that needs a token."""
        return {"status": "ok" if self.jobs.trouble is None else "paused"}

    def space(self) -> dict[str, int]:
        """Bytes of the disk of the runs: free, and what the server keeps besides the runs."""
        kept = sum(self.jobs.size_of(job) for job in self.jobs.jobs())
        return {"free_bytes": shutil.disk_usage(self.config.out).free, "media_bytes": kept}


def service_of(connection: HTTPConnection) -> Service:
    """The service of a request or WebSocket; as a dependency, ``Annotated[Service, Depends(service_of)]``."""
    service: Service = connection.app.state.service
    return service
