"""What a program hands in: its exceptions are its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from analyzer import analyze
from analyzer.api import Analyzer, analyze_all
from analyzer.errors import OutputError
from analyzer.events import Analyzing, Begun, Committed, Finished, Rendering, Started
from analyzer.settings import Settings
from analyzer.sources.resolve import Fetcher
from analyzer.util.callbacks import Callback
from testkit.media import numbered, write_video

SETTINGS = Settings(video=False, fps=2, workers=1, segment_s=1)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three segments."""
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", numbered(15), fps=5)


class CancelledError(Exception):
    """Of a web service, say."""


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (Started, CancelledError("mine")),
        (Begun, OSError(28, "mine")),
        (Analyzing, CancelledError("mine")),
        (Committed, OutputError("mine")),
        (Finished, KeyboardInterrupt("mine")),
    ],
)
def test_what_a_listener_raises_reaches_the_caller_as_it_is(
    kind: type[Any], error: BaseException, clip: Path, tmp_path: Path
) -> None:
    def listen(event: Any) -> None:
        if isinstance(event, kind):
            raise error

    with pytest.raises(type(error)) as caught:
        analyze(str(clip), SETTINGS, out=tmp_path, on_event=listen)
    assert caught.value is error
    with pytest.raises(type(error)) as caught:
        list(analyze_all([str(clip)], SETTINGS, out=tmp_path, on_event=listen))
    assert caught.value is error
    assert not list(tmp_path.glob(".download-*")) and not list(tmp_path.glob("*/.new"))


def test_what_a_listener_raises_while_the_video_is_drawn_is_no_fault_of_the_drawing(
    clip: Path, tmp_path: Path
) -> None:
    """And once it listens quietly, the same networks go on as if nothing had been."""
    error = CancelledError("mine")
    failing = [True]

    def listen(event: Any) -> None:
        if isinstance(event, Rendering) and failing[0]:
            raise error

    video_analyzer = Analyzer(SETTINGS.replace(video=True), listen)
    fetcher = Fetcher(SETTINGS, want_audio=False)
    video = fetcher.fetch(next(iter(fetcher.resolve(str(clip)))), tmp_path)
    with pytest.raises(CancelledError) as caught:
        video_analyzer.analyze(video, tmp_path)
    assert caught.value is error
    failing.clear()
    failing.append(False)
    run = video_analyzer.analyze(video, tmp_path)
    assert not run.video_error and (run.folder / "annotated.mp4").exists()


def test_what_was_finished_before_a_listener_raised_is_kept(clip: Path, tmp_path: Path) -> None:
    def listen(event: Any) -> None:
        if isinstance(event, Committed) and event.part.segment == 1:
            raise CancelledError

    with pytest.raises(CancelledError):
        analyze(str(clip), SETTINGS, out=tmp_path, on_event=listen)
    assert analyze(str(clip), SETTINGS, out=tmp_path).info["resumed_segments"] >= 1


def test_what_is_asked_whether_to_stop_may_raise_too(clip: Path, tmp_path: Path) -> None:
    error = CancelledError("mine")

    def stop() -> bool:
        raise error

    with pytest.raises(CancelledError) as caught:
        analyze(str(clip), SETTINGS, out=tmp_path, stop=stop)
    assert caught.value is error


def test_what_became_of_an_exception_on_its_way_is_no_matter() -> None:
    mine = CancelledError("mine")

    def fail() -> None:
        raise mine

    callback = Callback(fail)
    callback.reraise()
    with pytest.raises(OutputError) as other:
        try:
            callback()
        except CancelledError as error:
            raise OutputError("it cannot be written") from error
    assert other.value.__cause__ is mine
    with pytest.raises(CancelledError) as caught:
        callback.reraise()
    assert caught.value is mine
