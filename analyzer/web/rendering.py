"""Tasks that make files of a run: annotated videos, previews for browsers, reports. They run in processes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from analyzer.errors import SettingsError
from analyzer.media.reader import VideoReader
from analyzer.output.annotated import convert_video, render_video
from analyzer.runs.run import Run
from analyzer.settings import Settings

__all__ = ["annotate", "preview", "write_report"]

Report = Callable[[float], None]


def annotate(run: str, video: str, blur: bool, target: str, report: Report) -> None:
    """Write the annotated video of a run.

    Args:
        run: The run's folder.
        video: Its video.
        blur: Whether faces are blurred.
        target: The file to write; its folder exists.
        report: Called with the share that is done.

    Raises:
        AnalyzerError: As `render_video`.
    """
    opened = Run.load(run)
    kept = {field.name for field in dataclasses.fields(Settings)}
    known = {name: value for name, value in opened.info["settings"].items() if name in kept}
    settings = Settings(**known | {"video": True, "blur": blur, "threads": 1})
    with VideoReader(Path(video), settings) as reader:
        render_video(
            reader,
            Path(target),
            faces=opened.faces,
            people=opened.people,
            samples=opened.samples,
            settings=settings,
            audio_path=None,
            on_progress=_by_percent(report),
        )


def preview(video: str, target: str, report: Report) -> None:
    """Write a video that browsers play, H.264 and AAC, without anything drawn.

    Args:
        video: Any video.
        target: The file to write; its folder exists.
        report: Called with the share that is done.

    Raises:
        AnalyzerError: As `render_video`.
    """
    settings = Settings(threads=1)
    with VideoReader(Path(video), settings) as reader:
        convert_video(reader, Path(target), settings=settings, on_progress=_by_percent(report))


def _by_percent(report: Report) -> Report:
    """Pass on a progress only where it is another percentage."""
    shown = -1

    def on_progress(share: float) -> None:
        nonlocal shown
        if int(100 * share) != shown:
            shown = int(100 * share)
            report(share)

    return on_progress


def write_report(run: str, form: str, out: str) -> str:
    """Write the report of a run in one format; returns the path of the file.

    Args:
        run: The run's folder.
        form: One of `analyzer.settings.REPORT_FORMATS` that is a single file.
        out: An existing folder.

    Raises:
        AnalyzerError: It cannot be made.
    """
    from analyzer.report import make_report

    made = make_report([run])
    written = [path for path in made.save([form], out) if path.suffix == f".{form}"]
    if not written:
        raise SettingsError("this run has no such report")
    return str(written[0])
