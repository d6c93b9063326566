"""Small files to upload."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from testkit.demo import write_demo

__all__ = ["distinct", "tiny_video"]

_SECONDS = 2.0


@cache
def tiny_video() -> bytes:
    """Two people for two seconds, 1280x720, H.264 in mp4."""
    kept = Path(gettempdir()) / "analyzer-tests-tiny.mp4"
    if not kept.exists():
        with TemporaryDirectory() as folder:  # several test processes may make it at once
            made = Path(folder) / kept.name
            write_demo(made, _SECONDS)
            made.replace(kept)
    return kept.read_bytes()


def distinct(number: int) -> bytes:
    """A video that shows the same and is another file: it ends with a box of its own that players skip."""
    text = str(number).encode()
    return tiny_video() + (8 + len(text)).to_bytes(4, "big") + b"free" + text
