"""The product as its users meet it: the command line and the one-line Python call, on real videos."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import click
import cv2
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from PIL import Image as PillowImage

import analyzer
from analyzer import api, job
from analyzer.analysis.segment import SegmentResult
from analyzer.api import analyze_all
from analyzer.cli import (
    DONE,
    EXIT_CODES,
    INTERRUPTED,
    NOTHING_USABLE,
    SOME_FAILED,
    TERMINATED,
    USAGE,
    cli,
    main,
)
from analyzer.errors import MediaError, SourceError
from analyzer.events import Failed, Finished, Progress, SegmentCommitted, Started
from analyzer.runs import derive
from analyzer.runs.run import Run, undrawn_run
from analyzer.runs.segments import PartStore
from analyzer.settings import PRESETS, Settings, options
from analyzer.sources.resolve import Fetcher
from analyzer.util.locks import folder_lock
from testkit.demo import positions
from testkit.media import flip_bytes, noisy, numbered, write_sound, write_video
from testkit.servers import serve
from testkit.videos import panning
from tests.conftest import clip

ROOT = Path(__file__).parents[1]
Portraits = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def run_cli(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], prog_name="analyzer")


def analyze(source: Path | str, out: Path, *arguments: str) -> tuple[Result, Run]:
    """Run the command over one source that must come out."""
    result = run_cli("analyze", source, "--out", out, *arguments)
    assert result.exit_code in (DONE, SOME_FAILED), result.output
    folders = [path.parent for path in out.glob("*/run.json")]
    assert len(folders) == 1
    return result, Run.load(folders[0])


def portrait_pictures(portraits: Portraits, seconds: float, fps: int) -> list[NDArray[np.uint8]]:
    """The demo's two portraits, moving, (720, 1280, 3) RGB each."""
    pictures = []
    for number in range(round(seconds * fps)):
        picture = np.full((720, 1280, 3), 110, np.uint8)
        for portrait, (x, y) in zip(portraits, positions(number / fps), strict=True):
            picture[y : y + 320, x : x + 300] = portrait
        pictures.append(picture)
    return pictures


@pytest.fixture(scope="module")
def two_people(tmp_path_factory: pytest.TempPathFactory, two_portraits: Portraits) -> Path:
    """A video of 4 s with sound: two people from the first picture to the last."""
    path = tmp_path_factory.mktemp("videos") / "=two people.mp4"
    pictures = portrait_pictures(two_portraits, 4, 15)
    return write_video(path, pictures, fps=15, audio_s=4, options={"preset": "veryfast"})


@pytest.fixture(scope="module")
def finished(two_people: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Run]:
    """One whole run with everything switched on."""
    return analyze(two_people, tmp_path_factory.mktemp("out"), "--segment", "2")


def test_whole_run_gives_the_promised_folder(finished: tuple[Result, Run], two_people: Path) -> None:
    result, run = finished
    assert result.exit_code == DONE
    assert sorted(path.name for path in run.folder.iterdir()) == [
        "annotated.mp4",
        "faces.parquet",
        "links.parquet",
        "people.csv",
        "people.parquet",
        "run.json",
        "samples.parquet",
        "shares.csv",
        "shares.parquet",
        "timeline.csv",
        "timeline.parquet",
    ]
    assert re.fullmatch(r"two-people-file-[0-9a-f]{12}", run.folder.name)
    assert "2 people" in result.stdout and str(run.folder) in result.stdout


def test_two_people_are_found_and_estimated(finished: tuple[Result, Run]) -> None:
    _, run = finished
    people = run.people.sort_values("age_years", ignore_index=True)
    assert people["gender"].tolist() == ["female", "female"]
    assert 28 <= people.loc[0, "age_years"] <= 42 and people.loc[1, "age_years"] >= 70
    assert people["on_screen_s"].tolist() == pytest.approx([4.0, 4.0], abs=0.25)
    assert run.timeline["people"].tolist() == [2, 2, 2, 2]
    assert run.timeline["new_people"].tolist() == [2, 0, 0, 0]
    assert len(run.samples) == 20 and len(run.faces) == 40
    assert run.info["notes"] == []
    assert run.info["counts"]["gender_unsure"] == 0 and run.info["counts"]["uncounted_brief"] == 0


def test_notes_are_printed(two_people: Path, tmp_path: Path) -> None:
    result, run = analyze(two_people, tmp_path, "--min-confidence", "1", "--no-video", "--duration", "1")
    (note,) = run.info["notes"]
    assert "2 of 2 people are of unknown gender" in note and note in " ".join(result.output.split())
    assert run.info["counts"]["gender_unsure"] == 2


def test_provenance_is_complete(finished: tuple[Result, Run], two_people: Path) -> None:
    info = finished[1].info
    assert info["complete"] and info["incomplete_reason"] == ""
    assert info["title"] == two_people.stem
    assert info["settings"] == Settings(segment_s=2).to_dict()
    assert {model["role"] for model in info["models"]} == {
        "detector",
        "aligner",
        "gender and age",
        "age",
        "gender",
        "embedding",
    }
    assert all(len(model["sha256"]) == 64 and model["license"] for model in info["models"])
    assert info["libraries"]["av"] == av.__version__
    assert info["counts"]["people"] == 2 and info["counts"]["faces"] == 40
    assert info["reading"]["bad_packets"] == 0
    assert info["annotated"]["audio"] == "copied"
    assert {"fetch", "models", "analysis", "render"} <= info["timings_s"].keys()


def test_csv_and_parquet_of_a_run_agree(finished: tuple[Result, Run]) -> None:
    folder = finished[1].folder
    for name in ("timeline", "people", "shares"):
        csv, parquet = pd.read_csv(folder / f"{name}.csv"), pd.read_parquet(folder / f"{name}.parquet")
        assert list(csv) == list(parquet)
        numbers = csv.select_dtypes("number").columns.drop(
            ["clock", "name"], errors="ignore"
        )  # they are empty
        np.testing.assert_allclose(csv[numbers], parquet[numbers].astype(float), atol=1e-3)


def test_annotated_video_plays_with_the_sources_times_and_sound(
    finished: tuple[Result, Run], two_people: Path
) -> None:
    times = []
    for path in (two_people, finished[1].folder / "annotated.mp4"):
        with av.open(str(path)) as container:
            assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
            assert len(container.streams.audio) == 1
            times.append([frame.time for frame in container.decode(video=0)])
    assert times[0] == pytest.approx(times[1], abs=1e-3)


@pytest.mark.parametrize("size", [pytest.param("640", marks=pytest.mark.slow), "auto"])
def test_segments_of_any_length_give_the_same_people(two_people: Path, tmp_path: Path, size: str) -> None:
    tables = []
    for length in ("1", "60"):
        options = "--segment", length, "--no-video", "--precision", "f32", "--detector-size", size
        tables.append(analyze(two_people, tmp_path / length, *options)[1])
    one, other = tables
    np.testing.assert_allclose(one.samples["time_s"], other.samples["time_s"])
    # Where a segment begins decides which samples get a full-resolution detection.
    most_px = 1e-4 if size == "640" else 20
    boxes = [run.faces.sort_values(["sample", "x1"])[["x1", "y2"]] for run in tables]
    np.testing.assert_allclose(*boxes, atol=most_px)
    columns = ["person_id", "gender", "on_screen_s", "samples"]
    pd.testing.assert_frame_equal(one.people[columns], other.people[columns])


def test_python_call_gives_dataframes(two_people: Path, tmp_path: Path) -> None:
    events: list[object] = []
    run = analyzer.analyze(two_people, out=tmp_path, video=False, fps=2, bin_s=2, on_event=events.append)
    assert len(run.timeline) == 2 and len(run.people) == 2 and len(run.faces) == 16
    kinds = [type(event) for event in events]
    assert kinds[0] is Started and kinds[-1] is Finished and Progress in kinds
    with pytest.raises(MediaError, match="empty"):
        (tmp_path / "empty.mp4").touch()
        analyzer.analyze(tmp_path / "empty.mp4", out=tmp_path)
    with pytest.raises(SourceError, match="more than one"):
        for name in ("a.mp4", "b.mp4"):
            (tmp_path / "many").mkdir(exist_ok=True)
            (tmp_path / "many" / name).write_bytes(two_people.read_bytes())
        analyzer.analyze(tmp_path / "many", out=tmp_path / "out", video=False, fps=1)


def test_pictures_that_are_named_together_are_one_run(two_portraits: Portraits, tmp_path: Path) -> None:
    sideways = np.rot90(two_portraits[0], 1)  # as a camera held upright stores it
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    PillowImage.fromarray(np.ascontiguousarray(sideways)).save(tmp_path / "b.jpg", exif=exif, quality=95)
    PillowImage.fromarray(two_portraits[1]).save(tmp_path / "a.png")
    names = [tmp_path / "b.jpg", tmp_path / "a.png"]
    result = run_cli("analyze", *names, "--out", tmp_path / "out", "--json")
    assert result.exit_code == DONE, result.output
    (document,) = json.loads(result.stdout)
    run = Run.load(Path(document["folder"]))
    assert run.samples["image"].tolist() == ["b.jpg", "a.png"] and run.info["title"] == "b and 1 more"
    assert len(run.people) == 2
    # Boxes and copies are those of the picture as it is to be seen.
    face = run.faces[run.faces["sample"] == 0].iloc[0]
    alone = analyzer.analyze(tmp_path / "b.jpg", out=tmp_path / "alone")
    assert face["y2"] <= two_portraits[0].shape[0] and len(alone.people) == 1
    copies = sorted((run.folder / "annotated").iterdir())
    assert [cv2.imread(str(one)).shape[:2] for one in copies] == [(320, 300)] * 2


@pytest.mark.parametrize("name", ["a.gif", "a.apng"])
def test_moving_pictures_are_videos_and_others_are_refused(name: str, tmp_path: Path) -> None:
    frames = [PillowImage.fromarray(one) for one in numbered(6)]
    moving = {"save_all": True, "append_images": frames[1:], "duration": 200}
    frames[0].save(tmp_path / name, format=name[2:].upper().replace("APNG", "PNG"), **moving)
    _, run = analyze(tmp_path / name, tmp_path / "out", "--no-video")
    assert run.complete and run.info["kind"] == "video" and len(run.samples) == 6
    for other, said in (("b.webp", "convert it to MP4"), ("b.png", "rename it to end in .apng")):
        frames[0].save(tmp_path / other, **moving)
        result = run_cli("analyze", tmp_path / other, "--out", tmp_path / "out")
        assert result.exit_code == NOTHING_USABLE and said in result.stderr


def test_video_without_faces(tmp_path: Path) -> None:
    path = write_video(tmp_path / "gray.mp4", [np.full((96, 128, 3), 120, np.uint8)] * 45, fps=15)
    result, run = analyze(path, tmp_path / "out")
    assert result.exit_code == DONE
    assert len(run.people) == 0 and len(run.faces) == 0
    assert run.timeline["people"].tolist() == [0, 0, 0]
    assert (run.folder / "annotated.mp4").exists()


def test_formats_bands_and_bins(two_people: Path, tmp_path: Path) -> None:
    arguments = ("--no-video", "--format", "csv", "--age-bands", "adience", "--bin", "0.5", "--start", "1")
    _, run = analyze(two_people, tmp_path, *arguments)
    assert not list(run.folder.glob("timeline.parquet")) and not list(run.folder.glob("*.mp4"))
    assert {"age_4_6", "age_60_plus"} <= set(run.timeline)
    assert run.timeline["start_s"].tolist() == [1.0, 1.5, 2.0, 2.5, 3.0, 3.5]
    assert run.samples["time_s"].min() == 1.0


def test_json_is_one_document_also_with_failures(two_people: Path, tmp_path: Path) -> None:
    result = run_cli(
        "analyze", two_people, tmp_path / "none.mp4", "--out", tmp_path / "out", "--no-video", "--json"
    )
    assert result.exit_code == SOME_FAILED
    done, failed = json.loads(result.stdout)
    assert done["status"] == "done" and done["run"]["counts"]["people"] == 2 and len(done["people"]) == 2
    assert failed["status"] == "failed" and failed["kind"] == "not_found" and failed["retry"] is False


def test_quiet_prints_nothing_and_the_log_tells(two_people: Path, tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    result = run_cli(
        "analyze", two_people, "--out", tmp_path / "out", "--no-video", "--quiet", "--log-file", log
    )
    assert (result.exit_code, result.output) == (DONE, "")
    assert "started" in log.read_text() and '"people": 2' in log.read_text()


def test_second_run_takes_the_place_of_the_first(two_people: Path, tmp_path: Path) -> None:
    _, first = analyze(two_people, tmp_path, "--fps", "1")
    assert (first.folder / "annotated.mp4").exists()
    for name in ("report.html", "report-people.png", "notes.txt"):
        (first.folder / name).touch()
    result, second = analyze(two_people, tmp_path, "--fps", "2", "--no-video")
    assert second.folder == first.folder
    assert not (second.folder / "annotated.mp4").exists()
    assert len(second.samples) == 8
    # Reports on other numbers go, but not without a word.
    assert not list(second.folder.glob("report*")) and (second.folder / "notes.txt").exists()
    assert "report.html, report-people.png" in result.stderr
    assert f"analyzer report {second.folder} --format html" in result.stderr


def test_finished_video_is_not_analyzed_again(
    finished: tuple[Result, Run], two_people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out" / finished[1].folder.name
    shutil.copytree(finished[1].folder, folder)
    (folder / "report.html").write_text("a report")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    renamed = tmp_path / "renamed.mp4"
    shutil.copy(two_people, renamed)
    # What changes no result is no reason either.
    arguments = ("--segment", "2", "--workers", "2", "--timeout", "5")
    result, run = analyze(renamed, tmp_path / "out", *arguments)
    assert result.exit_code == DONE and "2 people" in result.stdout
    assert "already analyzed" in result.stdout and "--again" in result.stdout
    assert "renamed.mp4 has the content of this video" in result.stdout
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")} == before
    (document,) = json.loads(analyze(renamed, tmp_path / "out", *arguments, "--json")[0].stdout)
    assert document["status"] == "unchanged" and len(document["people"]) == 2
    # Asked for, it is done again.
    monkeypatch.setattr(job.VideoAnalyzer, "analyze", lambda *_, **__: 1 / 0)
    result = run_cli("analyze", renamed, "--out", tmp_path / "out", *arguments, "--again")
    assert result.exit_code == NOTHING_USABLE and "ZeroDivisionError" in result.stderr


def changed_info(folder: Path, **changes: Any) -> None:
    path = folder / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    "change",
    [
        lambda folder, settings: (folder / "annotated.mp4").unlink(),
        lambda folder, settings: (folder / "people.csv").unlink(),
        lambda folder, settings: (folder / "samples.parquet").unlink(),
        lambda folder, settings: (folder / "run.json").write_text('["no run"]'),
        lambda folder, settings: changed_info(folder, annotated={"file": None, "error": "no encoder"}),
        lambda folder, settings: changed_info(folder, annotated=None),
        lambda folder, settings: changed_info(folder, complete=False),
        lambda folder, settings: changed_info(folder, analyzer_version="0.0.9"),
        lambda folder, settings: changed_info(folder, schema_version=4),
        lambda folder, settings: changed_info(folder, models_hash="0" * 12),
        lambda folder, settings: changed_info(folder, libraries={"av": "1.0"}),
        lambda folder, settings: changed_info(folder, video_id="file-000000000000"),
        lambda folder, settings: settings.replace(fps=2),
        lambda folder, settings: settings.replace(age_bands="adience"),
        lambda folder, settings: settings.replace(attributes="levi-hassner"),
        lambda folder, settings: settings.replace(keep_embeddings=True),
    ],
)
def test_what_is_another_analysis_or_not_whole_is_done(
    change: Callable[[Path, Settings], object], finished: tuple[Result, Run], tmp_path: Path
) -> None:
    run = finished[1]
    video_id, settings, folder = run.info["video_id"], Settings(segment_s=2), tmp_path / run.folder.name
    shutil.copytree(run.folder, folder)
    assert job.finished_run(tmp_path, "another title", video_id, settings) is not None
    after = change(folder, settings)
    asked = after if isinstance(after, Settings) else settings
    assert job.finished_run(tmp_path, "another title", video_id, asked) is None


def test_missing_video_is_drawn_only_of_the_same_download(
    finished: tuple[Result, Run], two_people: Path, tmp_path: Path
) -> None:
    run = finished[1]
    folder = tmp_path / run.folder.name
    shutil.copytree(run.folder, folder)
    changed_info(folder, annotated={"file": None, "error": "full"}, source_details={"fingerprint": "1"})
    hashes = {name: run.info[name] for name in ("settings_hash", "models_hash")}
    fetcher = Fetcher(Settings(), want_audio=False)
    video = fetcher.fetch(next(fetcher.resolve(str(two_people))), tmp_path)
    for fingerprint, same in (("1", True), ("2", False)):
        fetched = dataclasses.replace(video, details={"fingerprint": fingerprint})
        assert (undrawn_run(folder, fetched, hashes) is not None) is same


def test_videos_of_subfolders_are_analyzed_if_asked_for(
    finished: tuple[Result, Run], two_people: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished[1].folder.parent, tmp_path / "out")
    (tmp_path / "talks" / "may").mkdir(parents=True)
    shutil.copy(two_people, tmp_path / "talks" / "may" / "a.mp4")
    (tmp_path / "talks" / "cover.jpg").write_text("no picture")
    result = run_cli("analyze", tmp_path, "--out", tmp_path / "out", "--segment", "2")
    assert result.exit_code == NOTHING_USABLE and "talks/may/a.mp4: add --recursive" in result.stderr
    # Neither the cover nor the annotated video of the run that is done is taken.
    result, _ = analyze(tmp_path, tmp_path / "out", "--recursive", "--segment", "2")
    assert result.exit_code == DONE and "already analyzed" in result.stdout
    assert "1 image beside its videos (--images includes it)" in result.stderr


def cut(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def _text(path: Path) -> Path:
    path.write_text("WEBVTT\n\nThis is no video.\n" * 50)
    return path


def _no_index(path: Path) -> Path:
    return cut(write_video(path, noisy(numbered(60))), 0.7)


def _sound_only(path: Path) -> Path:
    write_sound(path.with_suffix(".m4a"), 1)
    return path.with_suffix(".m4a")


def _empty(path: Path) -> Path:
    path.touch()
    return path


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path, "no file"),
        (_empty, "empty"),
        (_text, "video"),
        (_sound_only, "no video|sound"),
        (_no_index, "index|cut"),
    ],
)
def test_bad_file_is_one_sentence_and_leaves_nothing(
    make: Callable[[Path], Path], words: str, tmp_path: Path
) -> None:
    source = make(tmp_path / "bad.mp4")
    result = run_cli("analyze", source, "--out", tmp_path / "out")
    assert result.exit_code == NOTHING_USABLE
    assert re.search(words, result.stderr, re.IGNORECASE), result.stderr
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
    assert result.stdout == ""
    assert list((tmp_path / "out").iterdir()) == []


def test_video_cut_in_the_middle_keeps_its_rows_and_says_so(tmp_path: Path) -> None:
    whole, path = panning(tmp_path / "whole.mp4", 6, 960, 540), tmp_path / "cut.mp4"
    with av.open(str(whole)) as source, av.open(str(path), "w", options={"movflags": "faststart"}) as target:
        video = source.streams.video[0]
        stream = target.add_stream_from_template(video)
        for packet in source.demux(video):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    cut(path, 0.6)
    result, run = analyze(path, tmp_path / "out", "--no-video")
    assert result.exit_code == SOME_FAILED
    assert run.info["complete"] is False and run.info["incomplete_reason"]
    assert "incomplete" in result.stdout
    assert 6 <= len(run.samples) < 28 and len(run.people) >= 1
    assert run.timeline["people"].gt(0).all()


def test_flipped_bytes_cost_few_samples_and_are_counted(two_portraits: Portraits, tmp_path: Path) -> None:
    path = tmp_path / "damaged.mp4"
    pictures = portrait_pictures(two_portraits, 8, 15)
    write_video(path, pictures, fps=15, options={"g": "15", "bf": "0", "preset": "superfast"})
    flip_bytes(path)
    _, run = analyze(path, tmp_path / "out", "--no-video")
    assert len(run.samples) >= 0.95 * 40
    assert run.info["reading"]["bad_packets"] > 0


def test_logged_times_are_those_of_the_container(tmp_path: Path) -> None:
    gaps = np.resize([0.033, 0.066, 0.2], 60)
    times = np.round(np.cumsum(gaps), 3) - 0.033
    path = write_video(tmp_path / "vfr.mp4", numbered(60), times_s=times.tolist())
    _, run = analyze(path, tmp_path / "out", "--no-video", "--every", "1")
    np.testing.assert_allclose(run.samples["time_s"], times, atol=1e-3)


def test_output_folder_that_cannot_be_written_is_a_sentence(two_people: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run_cli("analyze", two_people, "--out", tmp_path / "file" / "out")
    assert result.exit_code == NOTHING_USABLE
    assert "cannot be written" in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--fps", "0"],
        ["--fps", "many"],
        ["--every", "3", "--keyframes"],
        ["--fps", "5", "--every", "3"],
        ["--keyframes", "--fps", "9"],
        ["--fps", "2", "--every", "3", "--preset", "fast"],
        ["--start", "9", "--end", "3"],
        ["--format", "xls"],
        ["--age-bands", "decades"],
        ["--no-such-option"],
        ["--blur", "--no-video"],
        ["--blur", "--keyframes"],
        ["--blur", "--fps", "2"],
        ["--blur", "--preset", "fast"],
        ["--preset", "slow"],
        ["--detector-size", "foo"],
        ["--detector-size", "127"],
        ["--workers", "-1"],
        ["--budget", "5"],
        ["--budget", "1s", "--every", "3"],
        ["--budget", "1s", "--keyframes"],
    ],
)
def test_wrong_option_is_a_usage_error(arguments: list[str], tmp_path: Path) -> None:
    result = run_cli("analyze", "video.mp4", "--out", tmp_path / "out", *arguments)
    assert result.exit_code == USAGE
    assert arguments[0].strip("-") in result.stderr
    assert not (tmp_path / "out").exists()


def test_addresses_of_a_server_work_to_the_end(two_people: Path, tmp_path: Path) -> None:
    with serve() as server:
        server.add("/talk.mp4", two_people)
        missing, there = server.url("/none.mp4"), server.url("/talk.mp4")
        result = run_cli("analyze", there, missing, "--out", tmp_path, "--fps", "2", "--timeout", "5")
    assert result.exit_code == SOME_FAILED, result.output
    assert "yt-dlp" in result.stderr
    (folder,) = tmp_path.iterdir()
    run = Run.load(folder)
    assert len(run.people) == 2 and run.info["source"] == there
    assert run.info["annotated"]["audio"] == "copied"
    assert not list(folder.glob("download*"))


@pytest.mark.parametrize(
    ("kind", "retry"),
    [("not_found", False), ("expired_or_forbidden", False), ("timeout", True), ("network", True)],
)
def test_address_that_fails_is_one_sentence_with_its_kind(kind: str, retry: bool, tmp_path: Path) -> None:
    with serve() as server:
        address = {
            "not_found": server.url("/none.mp4"),
            "expired_or_forbidden": server.add_status("/forbidden.mp4", 403),
            "timeout": server.add_silent("/silent.mp4"),
            "network": "http://no-such-host.invalid/video.mp4",
        }[kind]
        result = run_cli("analyze", address, "--out", tmp_path / "out", "--timeout", "1", "--json")
    assert result.exit_code == NOTHING_USABLE
    (failed,) = json.loads(result.stdout)
    assert (failed["kind"], failed["retry"]) == (kind, retry)
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
    assert "yt-dlp" in result.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_download_is_kept_when_asked_for(two_people: Path, tmp_path: Path) -> None:
    with serve() as server:
        server.add("/talk.mp4", two_people)
        arguments = ("--fps", "1", "--no-video", "--keep-download")
        _, run = analyze(server.url("/talk.mp4"), tmp_path, *arguments)
        (name,) = run.info["download"]
        assert (run.folder / name).read_bytes() == two_people.read_bytes()
        # What is behind a plain address may be another video today: it is fetched and compared.
        requests = len(server.requests)
        again, _ = analyze(server.url("/talk.mp4"), tmp_path, *arguments)
        assert "already analyzed" in again.stdout and len(server.requests) > requests
    known = tmp_path, run.info["title"], run.info["video_id"], Settings(**run.info["settings"])
    assert job.finished_run(*known, run.info["source_details"]["fingerprint"]) is not None
    assert job.finished_run(*known, "0" * 12) is None
    (run.folder / name).unlink()
    assert job.finished_run(*known) is None


def test_ctrl_c_saves_finished_segments_and_the_same_command_continues(
    two_people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The quick twin of the next test, in this process."""
    arguments = ["analyze", str(two_people), "--out", str(tmp_path), "--segment", "1", "--workers", "1"]
    arguments += ["--fps", "2", "--no-video"]
    commit = PartStore.commit

    def interrupted_commit(store: PartStore, result: SegmentResult, *rest: Any, **how: Any) -> Any:
        part = commit(store, result, *rest, **how)
        if result.segment == 1:
            signal.raise_signal(signal.SIGINT)
        return part

    monkeypatch.setattr(sys, "argv", ["cli.py", *arguments])
    with monkeypatch.context() as inside, pytest.raises(SystemExit) as ended:
        inside.setattr(PartStore, "commit", interrupted_commit)
        inside.setattr(signal, "signal", lambda *_: None)  # the handler of SIGTERM is left to pytest
        main()
    assert ended.value.code == INTERRUPTED
    saved = "2 of 4 segments are saved"
    assert f"Error: interrupted: {saved}; run the same command again" in capsys.readouterr().err
    assert [path.name for path in tmp_path.glob("*/*")] == [".parts"]
    result = run_cli(*arguments)
    assert result.exit_code == DONE and f"at 0:02: {saved}" in result.stderr
    (folder,) = tmp_path.iterdir()
    assert Run.load(folder).info["resumed_segments"] == 2 and not (folder / ".parts").exists()


@pytest.mark.slow
def test_interrupted_process_leaves_no_result_and_the_next_continues(tmp_path: Path) -> None:
    path = panning(tmp_path / "pan.mp4", 8, 960, 540)
    arguments = ["analyze", str(path), "--out", str(tmp_path / "out")]
    arguments += ["--segment", "1", "--fps", "6", "--precision", "f32", "--no-video"]
    command = [sys.executable, "cli.py", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("out/*/.parts/*-000001")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED
    kept = len(list(tmp_path.glob("out/*/.parts/*-0*")))
    saved = f"{kept} of 8 segments {'is' if kept == 1 else 'are'} saved"
    assert stderr == f"Error: interrupted: {saved}; run the same command again to continue\n"
    (folder,) = (tmp_path / "out").iterdir()
    assert [entry.name for entry in folder.iterdir()] == [".parts"]

    result = run_cli(*arguments)
    assert result.exit_code == DONE
    assert result.stderr.startswith(f"Resuming pan at 0:0{min(kept, 7)}: {kept} of 8 segments ")
    resumed = Run.load(folder)
    assert resumed.info["resumed_segments"] >= 1
    assert not (folder / ".parts").exists()
    whole = analyzer.analyze(path, Settings(**resumed.info["settings"]), out=tmp_path / "again")
    pd.testing.assert_frame_equal(resumed.faces, whole.faces)
    pd.testing.assert_frame_equal(resumed.people, whole.people)
    pd.testing.assert_frame_equal(resumed.timeline, whole.timeline)


@pytest.mark.parametrize(
    ("when", "code", "stop"),
    [("start", INTERRUPTED, signal.SIGINT), ("drawing", TERMINATED, signal.SIGTERM)],
)
def test_stopped_early_leaves_no_result_and_late_no_half_video(
    when: str, code: int, stop: signal.Signals, two_people: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "cli.py", "analyze", str(two_people), "--out", str(tmp_path / "out")]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    wanted = "out" if when == "start" else "out/*/.new/.annotated.mp4.part"
    while not list(tmp_path.glob(wanted)) and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(stop)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (code, "")
    assert "interrupted" in stderr and "Traceback" not in stderr
    assert not list(tmp_path.glob("out/*/annotated.mp4")) and not list(tmp_path.glob("out/.download-*"))
    runs = [Run.load(path.parent) for path in tmp_path.glob("out/*/run.json")]
    # While the video is drawn the tables are there already.
    assert [bool(run.video_error) and len(run.people) == 2 for run in runs] == [True] * (when == "drawing")


def test_what_is_analyzed_needs_no_settings(tmp_path: Path) -> None:
    (failed,) = analyzer.analyze_all([str(tmp_path / "gone.mp4")], out=tmp_path / "out")
    assert isinstance(failed, Failed) and "gone.mp4" in failed.message


def interrupted(source: Path, out: Path, patch: pytest.MonkeyPatch, **settings: Any) -> Path:
    """Break a run off when all its segments are kept; gives the run's folder."""

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    with patch.context() as inside:
        inside.setattr(job, "derive", interrupt)
        with pytest.raises(KeyboardInterrupt):
            analyzer.analyze(source, out=out, video=False, **settings)
    (folder,) = out.iterdir()
    return folder


def test_segments_of_other_settings_are_not_reused(
    two_people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = interrupted(two_people, tmp_path, monkeypatch, fps=1, segment_s=2)
    assert len(list((folder / ".parts").iterdir())) == 2
    other = analyzer.analyze(two_people, out=tmp_path, video=False, fps=2, segment_s=2)
    assert other.info["resumed_segments"] == 0 and len(other.samples) == 8


@pytest.mark.parametrize(("missing", "resumed"), [((), 4), ((2, 3), 2), ((1,), 3), ((0, 2), 2)])
def test_segments_that_are_kept_are_not_analyzed_again(
    missing: tuple[int, ...],
    resumed: int,
    two_people: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And how the video ends is known all the same."""
    folder = interrupted(two_people, tmp_path, monkeypatch, fps=1, segment_s=1)
    for number in missing:
        (part,) = folder.glob(f".parts/*-{number:06d}")
        cut(part / "faces.parquet", 0.5)  # what is not whole is made again
    heard: list[Any] = []
    run = analyzer.analyze(two_people, out=tmp_path, video=False, fps=1, segment_s=1, on_event=heard.append)
    committed = [event.segment for event in heard if isinstance(event, SegmentCommitted)]
    assert committed == list(missing) and sum(isinstance(event, Progress) for event in heard) == len(missing)
    assert run.info["resumed_segments"] == resumed and len(run.samples) == 4 and len(run.people) == 2
    assert run.complete and run.info["reading"]["last_s"] > 3.8


def test_end_of_a_video_that_breaks_off_is_known_when_all_of_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "cut.mkv", noisy(numbered(40)), fps=10)
    cut(path, 0.5)
    how: dict[str, Any] = {"fps": 2, "segment_s": 1, "workers": 1}
    whole = analyzer.analyze(path, out=tmp_path / "whole", video=False, **how)
    interrupted(path, tmp_path / "out", monkeypatch, **how)
    run = analyzer.analyze(path, out=tmp_path / "out", video=False, **how)
    assert not run.complete and run.info["incomplete_reason"] == whole.info["incomplete_reason"]
    assert run.info["reading"]["last_s"] == whole.info["reading"]["last_s"] > 1
    assert len(run.samples) == len(whole.samples)


def test_start_beyond_the_end_is_a_sentence(two_people: Path, tmp_path: Path) -> None:
    result = run_cli("analyze", two_people, "--out", tmp_path, "--no-video", "--start", "100")
    assert result.exit_code == NOTHING_USABLE
    assert result.stderr == f"Error: {two_people.name} is 4 s long: --start 100 is after its end\n"
    assert list(tmp_path.iterdir()) == []


def test_held_picture_shows_its_people_until_the_next(two_portraits: Portraits, tmp_path: Path) -> None:
    pictures = portrait_pictures(two_portraits, 2, 10)
    times = [number / 10 for number in range(10)] + [6 + number / 10 for number in range(10)]
    path = write_video(tmp_path / "held.mp4", pictures, times_s=times)
    _, run = analyze(path, tmp_path / "out", "--no-video")
    assert len(run.people) == 2
    assert run.timeline["people"].tolist() == [2] * 7
    assert run.people["on_screen_s"].tolist() == pytest.approx([7.0, 7.0], abs=0.3)


def test_unexpected_error_costs_one_video_only(
    two_people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = derive.fuse_people
    calls = iter([True, False])

    def sometimes(*arguments: Any) -> pd.DataFrame:
        if next(calls):
            raise ZeroDivisionError
        return real(*arguments)

    monkeypatch.setattr(derive, "fuse_people", sometimes)
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(two_people.read_bytes() + b"1")
    out = tmp_path / "out"
    result = run_cli("analyze", two_people, copy, "--out", out, "--no-video", "--fps", "1")
    assert result.exit_code == SOME_FAILED
    assert "ZeroDivisionError" in result.stderr and "Traceback" not in result.stderr
    assert len(list(out.glob("*/run.json"))) == 1


def test_password_in_an_address_is_not_kept(two_people: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with serve() as server:
        address = server.add("/talk.mp4", two_people).replace("http://", "http://user:secret@")
        _, run = analyze(address, tmp_path / "out", "--no-video", "--fps", "1", "--log-file", str(log))
    assert "secret" not in json.dumps(run.info) and "secret" not in log.read_text()


def test_file_name_that_is_no_text_is_written_as_text(two_people: Path, tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.mp4"
    Path(os.fsdecode(path)).write_bytes(two_people.read_bytes())
    _, run = analyze(os.fsdecode(path), tmp_path / "out", "--no-video", "--fps", "1")
    assert run.info["title"] == "caf\N{REPLACEMENT CHARACTER}"


def test_low_rates_hold_over_the_segments_borders(tmp_path: Path) -> None:
    path = write_video(tmp_path / "slow.mp4", numbered(60), fps=1)
    _, run = analyze(path, tmp_path / "out", "--no-video", "--fps", "0.15", "--segment", "10")
    np.testing.assert_allclose(np.diff(run.samples["time_s"]), 20 / 3, atol=1)
    assert len(run.samples) == 9


def test_abandoned_downloads_are_removed_and_living_ones_are_not(two_people: Path, tmp_path: Path) -> None:
    for name in (".download-dead", ".download-alive"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "video.part").touch()
    with contextlib.ExitStack() as stack:
        stack.enter_context(folder_lock(tmp_path / ".download-alive"))
        analyze(two_people, tmp_path, "--no-video", "--fps", "1")
    assert [path.name for path in tmp_path.glob(".download-*")] == [".download-alive"]


def test_folder_in_use_is_left_alone(two_people: Path, tmp_path: Path) -> None:
    _, run = analyze(two_people, tmp_path, "--no-video", "--fps", "1")
    before = (run.folder / "run.json").read_bytes()
    with contextlib.ExitStack() as stack:
        stack.enter_context(folder_lock(run.folder))
        result = run_cli("analyze", two_people, "--out", tmp_path, "--no-video")
    assert result.exit_code == NOTHING_USABLE and "in use" in result.stderr
    assert (run.folder / "run.json").read_bytes() == before


def test_untrusted_text_is_harmless_in_the_terminal(two_people: Path, tmp_path: Path) -> None:
    path = tmp_path / "a\x1b[31mred\u202etxt\n.mp4"
    path.write_bytes(two_people.read_bytes())
    result, _ = analyze(path, tmp_path / "out", "--no-video", "--fps", "1")
    assert "\x1b" not in result.output and "\u202e" not in result.output


HEAVY = {
    *(
        "numpy",
        "cv2",
        "av",
        "PIL",
        "pandas",
        "pyarrow",
        "scipy",
        "duckdb",
        "matplotlib",
        "jinja2",
        "xlsxwriter",
    ),
    *("openvino", "onnx", "onnxruntime", "yt_dlp", "requests", "psutil", "tqdm"),
}
"""Libraries that take time to import."""


@pytest.mark.parametrize(
    ("arguments", "used"),
    [
        ("--help", set()),
        ("analyze --help", set()),
        ("report --help", set()),
        ("batch run --help", set()),
        ("doctor --help", set()),
        ("models list", {"numpy"}),
        ("batch status --out none", set()),
        ("report none", {"numpy", "pandas", "pyarrow", "duckdb"}),
        ("analyze none.mp4", {"numpy", "cv2", "av", "PIL", "pandas", "pyarrow", "tqdm"}),
    ],
)
def test_commands_import_what_they_use(arguments: str, used: set[str], tmp_path: Path) -> None:
    code = (
        "import sys, analyzer.events; from click.testing import CliRunner; from analyzer.cli import cli\n"
        f"CliRunner().invoke(cli, {arguments.split()})\n"
        f"print(*{HEAVY} & set(sys.modules))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert set(result.stdout.split()) <= used


@pytest.mark.parametrize(
    ("called", "name"),
    [
        ("cli.py", "python cli.py"),
        ("../audience/cli.py", "python ../audience/cli.py"),
        ("/srv/venv/bin/analyzer", "analyzer"),
        ("/srv/venv/lib/analyzer/__main__.py", "python -m analyzer"),
    ],
)
def test_help_and_messages_name_the_command_as_it_was_called(
    called: str, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, expected in (
        (["analyze", "--help"], f"  {name} analyze talk.mp4\n"),
        (["batch", "--help"], f"  {name} batch plan jobs.toml\n"),
        (["models", "--help"], f"  {name} models pull yunet\n"),
        (["report", "--help"], f"Usage: {name} report "),
        (["analyze"], f"Usage: {name} analyze "),
        (["models", "show", "nix"], f"there is no model nix: {name} models list shows"),
    ):
        monkeypatch.setattr(sys, "argv", [called, *arguments])
        with pytest.raises(SystemExit):
            main()
        output = "".join(capsys.readouterr())
        assert expected in output
        if name != "python cli.py":
            assert "python cli.py" not in output


def test_package_can_be_run() -> None:
    command = [sys.executable, "-m", "analyzer", "--version"]
    result = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert result.stdout == f"analyzer, version {analyzer.__version__}\n"


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("analyzer ana", ["plain,analyze"]),
        ("analyzer analyze tal", ["file,tal"]),
        ("analyzer analyze --preset b", ["plain,balanced"]),
        ("analyzer analyze --detector-size a", ["plain,auto"]),
        ("analyzer analyze --show", ["plain,--show"]),
        ("analyzer report --format html,p", ["plain,html,png"]),
        ("analyzer models pull levi", [f"plain,levi-hassner{end}" for end in ("-age", "-gender", "")]),
        ("analyzer batch pl", ["file,pl", "plain,plan"]),
        ("analyzer batch jobs.t", ["file,jobs.t"]),
        ("analyzer batch plan jobs.t", ["file,jobs.t"]),
    ],
)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_options_and_values(
    shell: str,
    line: str,
    answer: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    last = line.rpartition(" ")[2]
    monkeypatch.setattr(sys, "argv", ["/usr/local/bin/analyzer"])
    monkeypatch.setenv("_ANALYZER_COMPLETE", f"{shell}_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", last if shell == "fish" else str(line.count(" ")))
    with pytest.raises(SystemExit):
        main()
    lines = capsys.readouterr().out.splitlines()
    if shell == "zsh":  # kind, value and help, each on a line of its own
        lines = [f"{kind},{value}" for kind, value in zip(lines[::3], lines[1::3], strict=True)]
    assert [one.partition("\t")[0] for one in lines] == answer


def test_every_setting_has_an_option_with_help_and_every_exit_code_is_documented() -> None:
    text = " ".join(run_cli("analyze", "--help").output.split())
    readme = (ROOT / "README.md").read_text("utf-8")
    for option in options():
        name = "--" + (option.flag or option.name).replace("_", "-")
        assert name in text and option.help.split()[0] in text, name
    for code in EXIT_CODES:
        assert re.search(rf"\b{code}\b", text) and f"| {code} |" in readme


def _commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of a command, and of every command below it."""
    yield path
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from _commands(below, (*path, name))


@pytest.mark.parametrize("path", list(_commands(cli)), ids=" ".join)
def test_help_fits_80_columns_speaks_in_words_and_sorts_the_exit_codes(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(cli, [*path, "--help"], prog_name="python cli.py", env={"COLUMNS": "80"})
    assert result.exit_code == 0
    assert [line for line in result.output.splitlines() if len(line) > 80] == []
    assert not re.search(r"INTEGER|FLOAT|RANGE", result.output)  # click's names of types
    _, _, listed = result.output.partition("Exit codes:\n")
    codes = [int(code) for code in re.findall(r"^    (\d+) ", listed, re.MULTILINE)]
    assert codes and codes == sorted(codes)


def test_public_names_are_exactly_those_documented() -> None:
    assert set(analyzer.__all__) == set(dir(analyzer))
    for name in analyzer.__all__:
        assert getattr(analyzer, name) is not None
    with pytest.raises(AttributeError):
        analyzer.no_such_name  # noqa: B018


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "genders"),
    [
        ("head-pose-face-detection-female-and-male.gif", ["female", "male"]),
        ("head-pose-face-detection-female.gif", ["female"]),
    ],
)
def test_real_clips_show_the_people_that_are_in_them(name: str, genders: list[str], tmp_path: Path) -> None:
    run = analyzer.analyze(clip(name), out=tmp_path)
    assert sorted(run.people["gender"]) == genders
    assert run.complete


@pytest.mark.shared
def test_small_faces_are_people_of_unknown_gender_and_age(tmp_path: Path) -> None:
    run = analyzer.analyze(
        clip("face-demographics-walking.gif"), out=tmp_path, video=False, min_estimate_px=32
    )
    assert len(run.people) == 2
    assert set(run.people["gender"]) == {"unknown"} and run.people["age_years"].isna().all()
    assert run.info["counts"]["people_not_estimated"] == run.info["counts"]["unestimated_narrow"] == 2
    (note,) = run.info["notes"]
    assert (
        "2 of 2 people are without gender and age: their faces are narrower than 32 pixels (median 17)"
        in note
    )
    assert run.info["counts"]["faces_estimated"] == 0 and len(run.faces) > 20


def test_models_are_loaded_once_for_many_videos(two_people: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(two_people.read_bytes() + os.urandom(8))
    settings = Settings(video=False, fps=1)
    results: list[Any] = list(
        analyze_all([str(two_people), str(copy)], settings, out=tmp_path / "out", again=True)
    )
    assert [type(result) for result in results] == [Finished, Finished]
    first, second = (result.run.info["timings_s"]["models"] for result in results)
    assert second < first


# --- presets and words -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "preset", "changes"),
    [
        ((), "balanced", {}),
        (("--preset", "fast"), "fast", PRESETS["fast"]),
        (("--preset", "fast", "--bin", "2"), "fast", PRESETS["fast"] | {"bin_s": 2.0}),
        # What is given counts, also where it is the default.
        (("--preset", "fast", "--fps", "5"), None, PRESETS["fast"] | {"fps": 5.0}),
        (("--fps", "5", "--preset", "fast"), None, PRESETS["fast"] | {"fps": 5.0}),
        (
            ("--preset", "fast", "--estimate-every", "0.5"),
            None,
            PRESETS["fast"] | {"estimate_every_s": 0.5},
        ),
        (("--detector-size", "auto"), "balanced", {}),
        (("--detector-size", "320"), "balanced", {"detector_size": 320}),
        (("--fps", "3"), None, {"fps": 3.0}),
    ],
)
def test_preset_is_changed_by_what_is_given(
    arguments: tuple[str, ...],
    preset: str | None,
    changes: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Settings] = []

    def remember(sources: object, settings: Settings, **how: object) -> list[Finished]:
        asked.append(settings)
        return []

    monkeypatch.setattr(api, "analyze_all", remember)
    result = run_cli("analyze", "video.mp4", "--out", tmp_path, *arguments)
    assert result.exit_code == NOTHING_USABLE and result.output == ""
    (settings,) = asked
    assert settings == Settings(**changes)
    assert settings.preset == preset


def test_run_says_which_preset_it_was(two_people: Path, tmp_path: Path) -> None:
    _, run = analyze(two_people, tmp_path / "fast", "--no-video", "--preset", "fast")
    assert run.info["preset"] == "fast"
    assert run.info["settings"] == Settings.from_preset("fast", video=False).to_dict()
    assert len(run.samples) == round(4 * PRESETS["fast"]["fps"]) and len(run.people) == 2
    _, run = analyze(two_people, tmp_path / "other", "--no-video", "--preset", "fast", "--fps", "1")
    assert run.info["preset"] is None and len(run.samples) == 4


def test_help_shows_word_and_presets() -> None:
    text = " ".join(run_cli("analyze", "--help").output.split())
    assert "--preset [fast|balanced]" in text and "--detector-size [auto|N]" in text
    wrong = run_cli("analyze", "video.mp4", "--detector-size", "foo")
    assert "foo" in wrong.stderr and wrong.exit_code == USAGE


def test_file_whose_name_begins_with_a_dash_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("-dash.mp4").touch()
    result = CliRunner().invoke(cli, ["analyze", "-dash.mp4"])
    assert result.exit_code == USAGE and "write ./-dash.mp4" in result.stderr
    result = CliRunner().invoke(cli, ["analyze", "-dish.mp4"])
    assert result.exit_code == USAGE and "No such option" in result.stderr


def test_help_lists_commands_with_whole_sentences() -> None:
    text = CliRunner().invoke(cli, ["--help"]).stdout
    assert "..." not in text.partition("Commands:")[2].partition("Exit codes:")[0]


def test_python_without_the_packages_is_a_sentence() -> None:
    command = [sys.executable, "-S", "-E", "cli.py", "--help"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == NOTHING_USABLE
    assert result.stderr.count("\n") == 1 and "make demo" in result.stderr
