"""What a server is started with, and every limit, each written once."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["ServeConfig"]

_WEB = ".web"


@dataclass(frozen=True)
class ServeConfig:
    """The configuration of a server."""

    out: Path
    """Folder of the runs."""
    host: str = "127.0.0.1"
    port: int = 8765
    """0: a free one."""
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    hosts: tuple[str, ...] = ()
    """Names besides this machine's own by which the server is reached, such as that of a reverse proxy."""
    allow_private_addresses: bool = False
    """Whether addresses of private networks and of this machine may be analyzed."""
    allowed_networks: tuple[str, ...] = ()
    """Networks that may be reached although they are not public, such as 10.1.2.0/24."""
    cameras: tuple[str, ...] = ()
    """Cameras and streams of the server that visitors may watch."""
    keep_days: float | None = None
    """Runs that were made here are deleted after this many days; None: never."""
    workers: int = 0
    """Videos that are analyzed in parallel; 0: as many as cores and memory allow."""

    max_upload_mb: int = 4096
    """Size of one upload, all its files together."""
    max_files: int = 500
    """Files of one upload."""
    max_field_bytes: int = 64 * 1024
    """Size of a form's field, and of the headers of a part."""
    max_body_bytes: int = 1024 * 1024
    """Size of any other request's body."""
    max_waiting_jobs: int = 200
    """Jobs that wait or run; further ones are refused."""
    max_uploads: int = 40
    """Uploads at the same time; further ones are refused."""
    max_streams: int = 200
    """Pages that follow a job at the same time; further ones are refused, and ask again."""
    upload_stall_s: float = 60.0
    """An upload that sends nothing for this long is ended."""
    downloads: int = 3
    """Downloads at the same time, each from another host."""
    reserve_mb: int = 1000
    """Free space to leave on the disk."""
    login_failures_per_minute: int = 20
    """Wrong tokens of one client; further tries are refused, right ones too."""
    jobs_per_minute: int = 120
    """New jobs of all clients together."""
    max_ranges: int = 8
    """Ranges of one request; further ones are refused."""
    tasks: int = 2
    """Processes for short tasks."""
    task_memory_mb: int = 2000
    """Memory that each of them may reserve."""
    task_s: float = 60.0
    """Time after which a short task is ended."""
    render_s: float = 3600.0
    """Time after which the making of a video is ended."""
    max_sockets: int = 8
    """WebSockets at the same time."""
    live_sessions: int = 4
    """Cameras, those of visitors and of the server, that are analyzed at the same time."""
    live_memory_mb: int = 3000
    """Memory that the process of each may reserve."""
    live_idle_s: float = 30.0
    """A visitor's camera that sends nothing for so long is left, and a page that shows nothing."""
    live_start_s: float = 120.0
    """Time for the process of a camera to start."""
    live_end_s: float = 30.0
    """Time for it to end, and to finish a recording."""
    max_frame_bytes: int = 2 * 2**20
    """Size of a frame of a visitor's camera."""
    max_frame_pixels: int = 1920 * 1088
    """Pixels of such a frame, as its header declares."""

    @property
    def folder(self) -> Path:
        """Folder of what the server keeps besides the runs."""
        return self.out / _WEB
