"""The library's entry points: what callers pass in, what they get back, and whose exceptions are whose."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage

import analyzer
from analyzer import Analyzer, OnlineAnalyzer, analyze, analyze_all, events, job
from analyzer.analysis.segment import Models
from analyzer.errors import (
    AnalyzerError,
    MediaError,
    OutputError,
    SettingsError,
    SourceError,
    StoppedError,
)
from analyzer.events import Failed, Finished, Opened, Progress, Rendering, SegmentCommitted, Started
from analyzer.media.reader import VideoReader
from analyzer.settings import Settings
from analyzer.sources.resolve import Fetcher
from analyzer.util.callbacks import Callback
from analyzer.util.cancellation import Cancellation
from testkit.media import numbered, write_video

SETTINGS = Settings(video=False, fps=2, workers=1, segment_s=1)
Image = NDArray[np.uint8]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three segments."""
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", numbered(15), fps=5)


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute at 10 frames a second."""
    return write_video(tmp_path_factory.mktemp("long") / "long.mp4", numbered(600), fps=10)


class CallersError(Exception):
    """Of a web service, say."""


# --- exceptions of the caller ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (Started, CallersError("mine")),
        (Opened, OSError(28, "mine")),
        (Progress, CallersError("mine")),
        (SegmentCommitted, OutputError("mine")),
        (Finished, KeyboardInterrupt("mine")),
    ],
)
def test_exception_of_on_event_reaches_the_caller_unchanged(
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


def test_exception_of_on_event_reaches_the_caller_from_several_processes(clip: Path, tmp_path: Path) -> None:
    error = CallersError("mine")

    def listen(event: Any) -> None:
        if isinstance(event, SegmentCommitted):
            raise error

    with pytest.raises(CallersError) as caught:
        analyze(clip, SETTINGS, out=tmp_path, workers=2, on_event=listen)
    assert caught.value is error and not multiprocessing.active_children()


def test_exception_of_on_event_while_rendering_is_no_fault_of_the_rendering(
    clip: Path, tmp_path: Path
) -> None:
    """And once it listens quietly, the same object analyzes as if nothing had happened."""
    error = CallersError("mine")
    failing = [True]

    def listen(event: Any) -> None:
        if isinstance(event, Rendering) and failing[0]:
            raise error

    video_analyzer = Analyzer(SETTINGS, video=True, out=tmp_path, on_event=listen)
    with pytest.raises(CallersError) as caught:
        video_analyzer.analyze(clip)
    assert caught.value is error
    failing[0] = False
    run = video_analyzer.analyze(clip)
    assert not run.video_error and (run.folder / "annotated.mp4").exists()


def test_segments_committed_before_an_exception_are_kept(clip: Path, tmp_path: Path) -> None:
    def listen(event: Any) -> None:
        if isinstance(event, SegmentCommitted) and event.segment == 1:
            raise CallersError

    with pytest.raises(CallersError):
        analyze(str(clip), SETTINGS, out=tmp_path, on_event=listen)
    assert analyze(str(clip), SETTINGS, out=tmp_path).info["resumed_segments"] >= 1


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_exception_of_cancelled_reaches_the_caller_unchanged(
    workers: int, clip: Path, tmp_path: Path
) -> None:
    error = CallersError("mine")

    def cancelled() -> bool:
        raise error

    with pytest.raises(CallersError) as caught:
        analyze(str(clip), SETTINGS, out=tmp_path, workers=workers, cancelled=cancelled)
    assert caught.value is error


def test_callback_remembers_what_it_raised() -> None:
    mine = CallersError("mine")

    def fail() -> None:
        raise mine

    callback = Callback(fail)
    callback.reraise()
    with pytest.raises(OutputError) as other:
        try:
            callback()
        except CallersError as error:
            raise OutputError("it cannot be written") from error
    assert other.value.__cause__ is mine
    with pytest.raises(CallersError) as caught:
        callback.reraise()
    assert caught.value is mine


# --- canceling ---------------------------------------------------------------------------------------


@pytest.fixture
def samples_read(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The times of all samples read in this process."""
    read: list[float] = []
    samples = VideoReader.samples

    def counting(reader: VideoReader, *args: Any) -> Iterator[Any]:
        for sample in samples(reader, *args):
            read.append(sample.frame.time_s)
            yield sample

    monkeypatch.setattr(VideoReader, "samples", counting)
    return read


def test_canceling_takes_effect_within_the_segment(
    long_clip: Path, tmp_path: Path, samples_read: list[float]
) -> None:
    seen: list[Any] = []
    read_by_then: list[int] = []

    def cancelled() -> bool:
        asked = sum(isinstance(event, Progress) for event in seen) >= 20
        if asked and not read_by_then:
            read_by_then.append(len(samples_read))
        return asked

    settings = SETTINGS.replace(fps=10, segment_s=60, detector_size=320, reuse_s=0)
    with pytest.raises(StoppedError, match="same command continues"):
        analyze(long_clip, settings, out=tmp_path, on_event=seen.append, cancelled=cancelled)
    # The segment has 600 samples. A few are read ahead of the detection; none after that.
    assert 20 <= read_by_then[0] <= 120 and len(samples_read) <= read_by_then[0] + 3
    assert isinstance(seen[-1], Failed) and seen[-1].error == "StoppedError"
    assert not [event for event in seen if isinstance(event, SegmentCommitted)]


def test_canceling_takes_effect_where_no_sample_comes_for_long(
    long_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader is closed from another thread; what was read by then is not taken for the whole video."""
    closed, asked = threading.Event(), threading.Event()
    samples, close = VideoReader.samples, VideoReader.close

    def slow(reader: VideoReader, *args: Any) -> Iterator[Any]:
        yield next(samples(reader, *args))
        asked.set()
        assert closed.wait(30)  # decodes on without finding a sample

    def note(reader: VideoReader) -> None:
        closed.set() if asked.is_set() else None
        close(reader)

    monkeypatch.setattr(VideoReader, "samples", slow)
    monkeypatch.setattr(VideoReader, "close", note)
    with pytest.raises(StoppedError):
        analyze(long_clip, SETTINGS, out=tmp_path, cancelled=asked.is_set)
    assert not list(tmp_path.glob("*/.parts/*")) and not list(tmp_path.glob("*/run.json"))


def test_canceling_keeps_committed_segments_and_the_next_call_continues(clip: Path, tmp_path: Path) -> None:
    committed: list[SegmentCommitted] = []

    def listen(event: Any) -> None:
        committed.extend([event] if isinstance(event, SegmentCommitted) else [])

    with pytest.raises(StoppedError):
        analyze(clip, SETTINGS, out=tmp_path, on_event=listen, cancelled=lambda: len(committed) >= 1)
    assert len(committed) < 3
    run = analyze(clip, SETTINGS, out=tmp_path)
    assert run.info["resumed_segments"] == len(committed) and run.complete


def test_canceling_reaches_worker_processes(long_clip: Path, tmp_path: Path) -> None:
    seen: list[Any] = []
    settings = SETTINGS.replace(fps=10, segment_s=30, reuse_s=0, workers=2)
    started: list[float] = []

    def cancelled() -> bool:
        asked = sum(isinstance(event, Progress) for event in seen) >= 5
        if asked and not started:
            started.append(time.monotonic())
        return asked

    with pytest.raises(StoppedError):
        analyze(long_clip, settings, out=tmp_path, on_event=seen.append, cancelled=cancelled)
    # Two segments of 300 samples each were being analyzed; neither was finished first.
    assert sum(isinstance(event, Progress) for event in seen) < 100
    assert not list(tmp_path.glob("*/.parts/*-00000?")) and not multiprocessing.active_children()


def test_no_further_video_is_begun_after_canceling(clip: Path, tmp_path: Path) -> None:
    finished: list[Any] = []
    sources = [clip, "never-reached.mp4"]
    for outcome in analyze_all(sources, SETTINGS, out=tmp_path, cancelled=lambda: bool(finished)):
        finished.append(outcome)
    assert [type(one) for one in finished] == [Finished]


def test_cancellation_stays_once_true_and_forwards_exceptions_to_every_thread() -> None:
    answers = iter([False, True, False])
    cancellation = Cancellation(lambda: next(answers))
    assert [cancellation() for _ in range(4)] == [False, True, True, True]

    error = CallersError("mine")
    calls: list[int] = []

    def fail() -> bool:
        calls.append(1)
        raise error

    failing = Cancellation(fail)
    closed = threading.Event()
    with failing.closing(closed.set):
        assert closed.wait(10)  # asked by the watching thread
    with pytest.raises(CallersError) as caught:
        failing.check()
    assert caught.value is error and calls == [1]


# --- job ids, several videos -------------------------------------------------------------------------


def test_all_events_of_a_video_carry_its_job_id(clip: Path, tmp_path: Path) -> None:
    seen: list[Any] = []
    analyze(clip, SETTINGS, out=tmp_path, on_event=seen.append, job_id="mine")
    assert {event.job_id for event in seen} == {"mine"} and isinstance(seen[-1], Finished)
    seen.clear()
    other = write_video(tmp_path / "other.mp4", numbered(5), fps=5)
    outcomes = list(analyze_all([clip, other, "gone.mp4"], SETTINGS, out=tmp_path, on_event=seen.append))
    ids = list(dict.fromkeys(event.job_id for event in seen))
    assert len(ids) == 3 and [one.job_id for one in outcomes] == ids and all(ids)
    assert isinstance(outcomes[0], Finished) and outcomes[0].unchanged and outcomes[0].run.complete
    assert isinstance(outcomes[2], Failed)
    assert (outcomes[2].error, outcomes[2].kind) == ("SourceError", "not_found")
    assert all(events.from_json(event.to_json()) == event for event in seen)


def test_analyzer_loads_its_models_once(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[Settings] = []
    load = Models.load

    def counting(settings: Settings) -> Models:
        loaded.append(settings)
        return load(settings)

    monkeypatch.setattr(job.Models, "load", counting)
    other = write_video(tmp_path / "other.mp4", numbered(5), fps=5)
    video_analyzer = Analyzer(SETTINGS, out=tmp_path / "out")
    assert not loaded
    runs = [video_analyzer.analyze(path) for path in (clip, other)]
    runs.append(video_analyzer.analyze([(0.0, np.zeros((48, 64, 3), np.uint8))]))
    runs += [one.run for one in video_analyzer.analyze_all([clip]) if isinstance(one, Finished)]
    assert len(loaded) == 1 and len(runs) == 4 and runs[3].folder == runs[0].folder


def test_settings_are_optional_everywhere_and_changes_apply(clip: Path, tmp_path: Path) -> None:
    (outcome,) = analyze_all([clip], out=tmp_path, fps=2, video=False)
    assert isinstance(outcome, Finished) and outcome.run.info["settings"]["fps"] == 2
    for wrong in (lambda: analyze(clip, fps=0), lambda: Analyzer(fps=0), lambda: analyze_all([clip], fps=0)):
        with pytest.raises(SettingsError, match="fps"):
            wrong()


# --- what can be analyzed ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [None, 0, 1.5, b"talk.mp4", {"a": 1}, np.zeros((48, 64, 3), np.uint8), object()],
    ids=lambda source: type(source).__name__,
)
def test_source_of_a_wrong_type_is_one_sentence(source: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError) as caught:
        analyze(source, out=tmp_path / "out")
    said = str(caught.value)
    assert type(source).__name__ in said and "\n" not in said
    assert all(what in said for what in ("path", "address", "image files", "(seconds, image) pairs"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("settings", [{}, {"fps": 2}, 5, "fps=2"], ids=repr)
def test_settings_of_a_wrong_type_are_refused(settings: Any, clip: Path, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"settings is of type \w+: pass Settings"):
        analyze(clip, settings, out=tmp_path)
    with pytest.raises(TypeError, match=r"settings is of type \w+: pass Settings"):
        OnlineAnalyzer(settings)


def test_sources_that_are_no_list_are_refused(clip: Path, tmp_path: Path) -> None:
    for wrong in (str(clip), clip, 3):
        with pytest.raises(TypeError, match="pass a list of sources"):
            analyze_all(wrong, out=tmp_path)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="paths and addresses"):
        list(analyze_all([3], out=tmp_path))  # type: ignore[list-item]
    with pytest.raises(SettingsError, match="empty"):
        analyze([], out=tmp_path)
    with pytest.raises(TypeError, match="paths and other things"):
        analyze(["a.jpg", 3], out=tmp_path)  # type: ignore[list-item]
    with pytest.raises(TypeError, match="title"):
        analyze(clip, SETTINGS, out=tmp_path, title="mine")
    with pytest.raises(TypeError, match="title is of type int: pass a str"):
        analyze(iter([]), SETTINGS, out=tmp_path, title=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="job_id is of type int: pass a str"):
        analyze(clip, SETTINGS, out=tmp_path, job_id=4)  # type: ignore[arg-type]


def test_list_of_image_files_is_one_run(tmp_path: Path) -> None:
    paths = [tmp_path / f"{n}.png" for n in range(3)]
    for path, image in zip(paths, numbered(3), strict=True):
        PillowImage.fromarray(image).save(path)
    run = analyze(paths, SETTINGS, out=tmp_path / "out")
    assert run.info["kind"] == "images" and len(run.samples) == 3
    with pytest.raises(SourceError):
        analyze([tmp_path / "gone.png"], SETTINGS, out=tmp_path / "out")


# --- frames ------------------------------------------------------------------------------------------


def panning_frames(portrait: Image, count: int, fps: float) -> list[tuple[float, Image]]:
    return [(number / fps, np.roll(portrait, 2 * number, 1)) for number in range(count)]


def test_frames_are_analyzed_as_a_file_is(two_portraits: tuple[Image, Image], tmp_path: Path) -> None:
    frames = panning_frames(two_portraits[0], 20, 10)
    seen: list[Any] = []
    settings = Settings(fps=5, segment_s=1)
    buffer = np.empty_like(frames[0][1])

    def reusing_one_buffer() -> Iterator[tuple[float, Image]]:
        for time_s, image in frames:
            buffer[:] = image
            yield time_s, buffer

    run = analyze(reusing_one_buffer(), settings, out=tmp_path, title="Door 3", on_event=seen.append)
    assert run.samples["time_s"].tolist() == [n / 5 for n in range(10)] and len(run.faces) == 10
    assert len(run.people) == 1 and run.complete and len(run.timeline) == 2
    assert sorted(run.samples["segment"].unique()) == [0, 1]
    assert run.info["title"] == "Door 3" and run.folder.name.startswith("door-3-frames-")
    assert run.info["annotated"] is None and not run.video_error and not (run.folder / ".parts").exists()
    assert [type(event) for event in seen if not isinstance(event, Progress)] == [
        *(Started, Opened, SegmentCommitted, SegmentCommitted, Finished),
    ]
    # The same title again: that run is replaced, and nothing of it is reused.
    second = analyze(frames[:5], settings, out=tmp_path, title="Door 3")
    assert second.folder == run.folder and len(second.samples) == 3 and second.info["resumed_segments"] == 0
    untitled = [analyze(frames[:2], settings, out=tmp_path).folder for _ in range(2)]
    assert untitled[0] != untitled[1]


def test_frames_out_of_order_are_left_out_and_counted(tmp_path: Path) -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    times = [0.0, 0.0, 0.5, 0.5, 0.7, 3.25, 3.25, 10.0]
    run = analyze(((time_s, image) for time_s in times), SETTINGS, out=tmp_path, title="repeated")
    assert run.samples["time_s"].tolist() == [0.0, 0.5, 3.25, 10.0] and run.complete
    assert run.info["reading"]["repaired_times"] == 3 and run.info["reading"]["frames_decoded"] == 5
    run = analyze(((time_s, image) for time_s in (0, 2, 1, 3)), SETTINGS, out=tmp_path, title="earlier")
    assert run.samples["time_s"].tolist() == [0.0, 2.0, 3.0] and not run.complete
    assert run.info["incomplete_reason"] == "1 frame left out, earlier than the one before"


def test_start_and_end_apply_to_frames(tmp_path: Path) -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    run = analyze(((n / 2, image) for n in range(20)), SETTINGS, out=tmp_path, start_s=2, end_s=4)
    assert run.samples["time_s"].tolist() == [2.0, 2.5, 3.0, 3.5] and run.complete


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ((0.5, "talk.jpg"), "an image is of type str"),
        ((0.5, np.zeros((4, 4), np.uint8)), r"uint8 with the shape \(4, 4\)"),
        ((0.5, np.zeros((4, 4, 3))), "float64"),
        ((0.5, np.zeros((0, 4, 3), np.uint8)), "is empty"),
        ((float("nan"), np.zeros((4, 4, 3), np.uint8)), "time of an image is nan"),
        ((-1, np.zeros((4, 4, 3), np.uint8)), "time of an image is -1"),
        ((np.zeros((4, 4, 3), np.uint8), 1.0), "time of an image is of type ndarray: pass"),
        ((1.7e9, np.zeros((4, 4, 3), np.uint8)), "seconds since the start"),
        (("soon", np.zeros((4, 4, 3), np.uint8)), "time of an image is of type str: pass"),
        (7, "a frame is of type int"),
    ],
)
def test_frame_that_is_none_is_one_sentence(pair: Any, words: str, tmp_path: Path) -> None:
    good = (0.0, np.zeros((48, 64, 3), np.uint8))
    for frames in ([pair], iter([good, pair])):
        with pytest.raises(SettingsError, match=words) as caught:
            analyze(frames, SETTINGS, out=tmp_path)
        assert "\n" not in str(caught.value)
    # Nothing is left that holds embeddings.
    assert not list(tmp_path.rglob(".parts"))


def test_exception_of_the_iterator_reaches_the_caller_unchanged(tmp_path: Path) -> None:
    error = CallersError("mine")

    def frames() -> Iterator[tuple[float, Image]]:
        for number in range(8):
            yield number / 2, np.zeros((48, 64, 3), np.uint8)
        raise error

    seen: list[Any] = []
    with pytest.raises(CallersError) as caught:
        analyze(frames(), SETTINGS, out=tmp_path, on_event=seen.append)
    assert caught.value is error and not isinstance(seen[-1], Failed)
    assert not list(tmp_path.rglob(".parts"))
    with pytest.raises(MediaError, match="there is no frame"):
        analyze(iter([]), SETTINGS, out=tmp_path)


# --- the package -------------------------------------------------------------------------------------


def test_every_public_name_exists_and_is_documented() -> None:
    for name in analyzer.__all__:
        value = getattr(analyzer, name)
        assert name == "__version__" or (value.__doc__ or "").strip(), name
    assert {"Analyzer", "OnlineAnalyzer", "events"} <= set(analyzer.__all__) <= set(dir(analyzer))


def test_analyze_leaves_the_callers_process_as_it_is(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How memory is allocated is for a command to decide, not for a library."""
    from analyzer.util import system

    called: list[str] = []
    monkeypatch.setattr(system, "_libc", lambda function, *_: called.append(function))
    analyze(clip, SETTINGS, out=tmp_path)
    assert "mallopt" not in called and "malloc_trim" in called


def test_help_names_every_parameter_and_error() -> None:
    text = analyze.__doc__ or ""
    names = [*analyze.__annotations__.keys() - {"return"}]
    assert names and all(f"{name}:" in text for name in names)
    errors = ("TypeError", "SourceError", "MediaError", "SettingsError", "ModelError", "OutputError")
    assert all(f"{name}:" in text for name in (*errors, "CrashError", "StoppedError"))
    assert all(hasattr(analyzer, name) for name in (*errors[1:], "CrashError", "StoppedError"))


def test_failed_event_and_exception_agree(tmp_path: Path) -> None:
    seen: list[Any] = []
    with pytest.raises(AnalyzerError) as caught:
        analyze(tmp_path / "gone.mp4", SETTINGS, out=tmp_path, on_event=seen.append)
    assert seen[-1].message == str(caught.value) and seen[-1].error == type(caught.value).__name__


def test_fetcher_of_the_callers_is_used(clip: Path, tmp_path: Path) -> None:
    class Noting(Fetcher):
        asked: list[str] = []  # noqa: RUF012

        def resolve(self, source: str, *args: Any, **more: Any) -> Any:
            self.asked.append(source)
            return super().resolve(source, *args, **more)

    fetcher = Noting(SETTINGS, want_audio=False)
    (outcome,) = analyze_all([clip], SETTINGS, out=tmp_path, fetcher=fetcher)
    assert isinstance(outcome, Finished) and Noting.asked == [str(clip)]


def test_durations_of_irregular_frames_add_up(tmp_path: Path) -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    times = [0.0, 0.5, 1.0, 4.0, 4.5]
    run = analyze([(time_s, image) for time_s in times], SETTINGS, out=tmp_path)
    assert isinstance(run.timeline, pd.DataFrame) and run.samples["duration_s"].sum() == pytest.approx(
        5.0, abs=0.1
    )
