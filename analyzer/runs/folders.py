"""The names of run folders."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path

__all__ = [
    "run_folder",
    "run_name",
]


def run_name(title: str, video_id: str) -> str:
    """Return the name of a run's folder: a readable slug of the title, then the video's id.

    >>> run_name("Café: «Two» / people?", "youtube-abc")
    'cafe-two-people-youtube-abc'
    """
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    slug = "-".join(re.findall(r"[a-z0-9]+", plain))[:60].strip("-")
    return f"{slug}-{video_id}" if slug else video_id


def run_folder(out: Path, title: str, video_id: str) -> Path:
    """Return the folder of a video's run: an existing one under any earlier title, or a new one."""
    folder = out / run_name(title, video_id)
    if folder.exists():
        return folder
    # A renamed video is the same video: a second run would count its people twice.
    others = sorted(each for each in out.glob(f"*-{video_id}") if _holds(each, video_id))
    return others[0] if others else folder


def _holds(folder: Path, video_id: str) -> bool:
    """Tell whether a folder holds the run of a video, or only segments of one."""
    try:
        info = json.loads((folder / "run.json").read_text("utf-8"))
    except FileNotFoundError:
        return (folder / ".parts").is_dir()
    except (OSError, ValueError):
        return False
    return isinstance(info, dict) and info.get("video_id") == video_id
