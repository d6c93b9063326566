"""Tables survive an annotated video that fails; the next run only renders it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import av
import pandas as pd
import pytest
from click.testing import CliRunner, Result

import analyzer
from analyzer import job
from analyzer.batch.protocol import matching_run
from analyzer.cli import DONE, SOME_FAILED, cli
from analyzer.errors import MediaError, MediaErrorKind, OutputError, StoppedError
from analyzer.events import Rendering
from analyzer.runs.run import Run
from testkit.media import numbered, write_video
from testkit.odd_times import Recording, join
from tests.test_reader import X264

TABLES = ("timeline.csv", "people.csv", "shares.csv", "faces.parquet", "samples.parquet")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds without anybody: a run whose tables need no network twice."""
    folder = tmp_path_factory.mktemp("annotated")
    return write_video(folder / "a.mp4", numbered(90, 64, 48), options=X264, audio_s=3)


def run_cli(video: Path, out: Path, *options: str) -> Result:
    return CliRunner().invoke(cli, ["analyze", str(video), "--out", str(out), *options])


def fail_drawing(patch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    patch.setattr("analyzer.output.annotated.render_video", fail)


def only_draw(patch: pytest.MonkeyPatch) -> None:
    """Have it fail if anything is analyzed."""

    def fail(*_: object, **__: object) -> Any:
        raise AssertionError("it was analyzed again")

    patch.setattr(job, "derive", fail)
    patch.setattr(job.VideoAnalyzer, "_read", fail)


def the_run(out: Path) -> Run:
    (path,) = out.glob("*/run.json")
    run = Run.load(path.parent)
    assert all((run.folder / name).is_file() for name in TABLES) and len(run.samples) == 15
    hidden = {path.name for path in run.folder.iterdir() if path.name.startswith(".")}
    assert hidden == ({".parts"} if "run the same command again" in run.video_error else set())
    return run


def known(run: Run) -> bool:
    """Whether a batch takes it for a finished run of this work."""
    asked = analyzer.Settings().result_hash(), str(run.info["models_hash"])
    return matching_run(run.folder, run.info["video_id"], *asked) is not None


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MediaError("the frames cannot be drawn", kind=MediaErrorKind.DAMAGED), "cannot be drawn"),
        (OutputError("the annotated video cannot be encoded"), "cannot be encoded"),
        (RuntimeError("a driver's whim"), "a driver's whim"),
    ],
)
def test_tables_survive_an_annotated_video_that_fails(
    error: Exception, words: str, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        fail_drawing(patch, error)
        result = run_cli(video, tmp_path)
    assert result.exit_code == SOME_FAILED, result.output
    assert "no annotated video: " in result.stdout and words in result.stdout
    run = the_run(tmp_path)
    assert run.complete and known(run) and words in run.video_error
    assert run.info["annotated"] == {"file": None, "error": run.video_error}
    assert not (run.folder / "annotated.mp4").exists()
    written = {name: (run.folder / name).stat().st_mtime_ns for name in TABLES}
    only_draw(monkeypatch)
    result = run_cli(video, tmp_path)
    assert result.exit_code == DONE, result.output
    run = the_run(tmp_path)
    assert run.info["annotated"]["frames"] == 90 and not run.video_error and known(run)
    assert (run.folder / "annotated.mp4").is_file()
    assert {name: (run.folder / name).stat().st_mtime_ns for name in TABLES} == written


@pytest.mark.parametrize("how", ["stopped", "full disk", "killed"])
def test_interrupted_rendering_resumes_alone(
    how: str, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawing: list[float] = []

    def note(event: object) -> None:
        if isinstance(event, Rendering):
            drawing.append(event.fraction)

    with monkeypatch.context() as patch:
        if how == "full disk":
            fail_drawing(patch, OutputError("no space is left", no_space=True))
        if how == "killed":
            fail_drawing(patch, KeyboardInterrupt())
        errors = {"stopped": StoppedError, "full disk": OutputError, "killed": KeyboardInterrupt}
        with pytest.raises(errors[how]):
            analyzer.analyze(video, out=tmp_path, on_event=note, cancelled=lambda: bool(drawing))
    run = the_run(tmp_path)
    # It does not count as finished, and a batch renders it again.
    assert "run the same command again" in run.video_error and not known(run)
    with monkeypatch.context() as patch:
        only_draw(patch)
        again = analyzer.analyze(video, out=tmp_path)
    assert the_run(tmp_path).info == again.info
    assert again.info["annotated"]["frames"] == 90 and known(again)
    assert again.info["annotated"]["audio"] == "copied"


def test_a_disk_that_fills_up_while_drawing_is_told_with_the_tables(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        fail_drawing(patch, OutputError("no space is left for /a/.new/annotated.mp4", no_space=True))
        result = run_cli(video, tmp_path)
        as_json = run_cli(video, tmp_path, "--json")
    folder = str(the_run(tmp_path).folder)
    assert result.exit_code == as_json.exit_code == SOME_FAILED
    assert f"the tables are complete in {folder}" in result.stderr and ".new" not in result.stderr
    assert "run the same command again" in result.stderr and "--no-video" in result.stderr
    (outcome,) = json.loads(as_json.stdout)
    assert (outcome["status"], outcome["folder"]) == ("failed", folder)
    again = run_cli(video, tmp_path, "--no-video")
    assert again.exit_code == DONE and "no annotated" not in again.stdout


def test_other_settings_are_other_work(video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        fail_drawing(patch, OutputError("no"))
        assert analyzer.analyze(video, out=tmp_path).video_error
    run = analyzer.analyze(video, out=tmp_path, fps=2)
    assert len(run.samples) == 6 and run.info["annotated"]["frames"] == 90


def test_tables_sound_and_annotated_video_of_a_clock_that_jumps_are_of_one_length(
    video: Path, tmp_path: Path
) -> None:
    parts = [Recording(video, shift_s=shift, sound_s=3.0) for shift in (9000, 20, 8000)]
    source = join(tmp_path / "a.ts", parts)
    result = run_cli(source, tmp_path / "out", "--segment", "2")
    assert result.exit_code == DONE, result.output
    assert (
        "the file's timestamps jump twice (at 3.0 s, 6.0 s); times continue across the jumps" in result.stdout
    )
    (path,) = (tmp_path / "out").glob("*/run.json")
    run = Run.load(path.parent)
    assert run.complete and run.info["reading"]["clock_jumps"] == 2
    assert [round(one["by_s"]) for one in run.info["reading"]["clock_jumps_at"]] == [-8983, 7977]
    assert pd.read_csv(run.folder / "timeline.csv")["end_s"].tolist() == list(range(1, 10))
    assert run.samples["duration_s"].sum() == pytest.approx(9.0, abs=0.05)
    with av.open(str(run.folder / "annotated.mp4")) as container:
        picture, sound = container.streams.video[0], container.streams.audio[0]
        for stream in (picture, sound):
            assert stream.duration is not None
            assert float(stream.duration * stream.time_base) == pytest.approx(9.0, abs=0.1)
        heard = [one.pts * one.time_base for one in container.demux(sound) if one.size]
    assert max(b - a for a, b in itertools.pairwise(heard)) < 0.1
