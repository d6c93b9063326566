"""What a review needs and gives: crops from the video, subtitles, and truth for `evaluate`."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from analyzer import Run, Settings, analyze, analyze_all
from analyzer.cli import cli
from analyzer.correct import add_corrections, undo_correction
from analyzer.errors import OutputError, SourceError
from analyzer.evaluation import evaluate
from analyzer.evaluation.corrected import confirmed_faces
from analyzer.events import Finished
from analyzer.output.crops import CROP_PX, gallery, tracklet_crops
from analyzer.output.subtitles import ass, webvtt
from analyzer.runs.corrections import Correction, read_corrections
from analyzer.runs.run import publish
from analyzer.runs.schema import FACES
from analyzer.runs.tables import write_parquet
from analyzer.util.gender import GENDER_COLORS
from testkit.media import write_video
from testkit.runs import Plan, make_run

FPS = 10
RED, GREEN = (220, 30, 30), (30, 200, 30)


def squares(count: int = 80) -> list[NDArray[np.uint8]]:
    """(720, 1280, 3) RGB: a red square moves right, from x = 100 by 10 pixels a frame; a green one rests."""
    pictures = []
    for number in range(count):
        picture = np.full((720, 1280, 3), 90, np.uint8)
        picture[200:300, 100 + 10 * number : 180 + 10 * number] = RED
        picture[500:600, 1000:1080] = GREEN
        pictures.append(picture)
    return pictures


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A video, and a run of it: a woman at the red square, a man at the green one, who leaves at 5 s."""
    folder = tmp_path_factory.mktemp("moving")
    video = write_video(folder / "moving.mp4", squares(), fps=FPS)
    times = np.arange(40) / 5
    present = np.stack([np.ones(40, bool), times < 5], axis=1)
    plan = Plan(times, 8.0, present, np.array([0.99, 0.01]), np.array([30.0, 50.0]))
    run = make_run(folder / "run", plan)
    faces = Run.load(run).faces
    red = faces["person_id"] == 1
    x1 = np.where(red, 100 + 100 * faces["time_s"], 1000.0)
    y1 = np.where(red, 200.0, 500.0)
    faces = faces.assign(x1=x1, x2=x1 + 80, y1=y1, y2=y1 + 100)
    write_parquet(run / "faces.parquet", faces, FACES)
    return video, run


def middle_of(jpeg: bytes) -> NDArray[np.float64]:
    """Mean color of the middle of a JPEG, RGB."""
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None and image.shape == (CROP_PX, CROP_PX, 3)
    third = CROP_PX // 3
    return np.asarray(image[third : 2 * third, third : 2 * third].mean(axis=(0, 1))[::-1])


def test_crops_show_each_person_at_times_spread_over_the_video(moving: tuple[Path, Path]) -> None:
    video, run = moving
    crops = gallery(run, video, count=4)
    assert [crop["person"] for crop in crops] == [1] * 4 + [2] * 4
    for crop in crops:
        assert np.abs(middle_of(crop["jpeg"]) - (RED if crop["person"] == 1 else GREEN)).max() < 40
    for person, end_s in ((1, 8), (2, 5)):
        times = [crop["time_s"] for crop in crops if crop["person"] == person]
        assert [int(4 * time_s / end_s) for time_s in times] == [0, 1, 2, 3]
    assert [crop["person"] for crop in gallery(run, video, [2], 2)] == [2, 2] and gallery(
        run, video, [9]
    ) == []
    (one,) = tracklet_crops(run, [video], [1])
    assert one["tracklet_id"] == 1 and np.abs(middle_of(one["jpeg"]) - GREEN).max() < 40


def test_crops_of_a_smaller_copy_of_the_video(moving: tuple[Path, Path], tmp_path: Path) -> None:
    _, run = moving
    small = [cv2.resize(one, (640, 360), interpolation=cv2.INTER_AREA) for one in squares(10)]
    video = write_video(tmp_path / "small.mp4", [one.astype(np.uint8) for one in small], fps=FPS)
    crops = [crop for crop in gallery(run, video, count=40) if crop["time_s"] < 1]
    assert len(crops) == 10
    assert all(np.abs(middle_of(c["jpeg"]) - (RED if c["person"] == 1 else GREEN)).max() < 60 for c in crops)


def test_crops_need_the_video(moving: tuple[Path, Path]) -> None:
    with pytest.raises(SourceError):
        gallery(moving[1], moving[0].with_name("gone.mp4"))


# --- subtitles ---------------------------------------------------------------------------------------


def test_ass_has_a_moving_box_and_a_label_for_each_person(moving: tuple[Path, Path], tmp_path: Path) -> None:
    run = Path(shutil.copytree(moving[1], tmp_path / "run"))
    add_corrections(run, [Correction("name", person=1, name=r"A{\b1}da")])
    text = ass(run)
    assert "PlayResX: 1280\nPlayResY: 720" in text
    boxes = re.findall(r"Dialogue: 0,([\d:.]+),([\d:.]+),box-(\w+),,0,0,0,,\{(.*?)\}\{\\p1\}(.*)", text)
    # The woman moves evenly to her last sighting, the man stands still: an event each.
    assert [(start, end, gender) for start, end, gender, *_ in boxes] == [
        ("0:00:00.00", "0:00:07.80", "female"),
        ("0:00:00.00", "0:00:04.90", "male"),
        ("0:00:07.80", "0:00:08.00", "female"),
    ]
    moved, still, _ = (tags for *_, tags, _ in boxes)
    first, last = re.findall(r"([\d.]+),200\.0", moved)
    assert float(first) == 100 and float(last) == pytest.approx(880) and r"\pos(1000.0,500.0)" in still
    assert boxes[0][4].count("b") == 4 and boxes[1][4] == "m 0 0 l 80 0 80 100 0 100"
    labels = re.findall(r"Dialogue: 1,.*?,label-(\w+),,0,0,0,,\{.*?\}(.*)", text)
    assert labels[0][1].startswith("A(/b1)da female ")
    assert labels[1][1].startswith("#2 male ")
    orange = GENDER_COLORS["female"]
    assert f"&H00{orange[5:]}{orange[3:5]}{orange[1:3]}" in text


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg")
def test_libass_draws_boxes_where_the_faces_are(moving: tuple[Path, Path], tmp_path: Path) -> None:
    video, run = moving
    listed = subprocess.run(
        ["ffmpeg", "-hide_banner", "-filters"], capture_output=True, text=True, check=True
    )
    if " ass " not in listed.stdout:
        pytest.skip("this ffmpeg has no libass")
    (tmp_path / "s.ass").write_text(ass(run), "utf-8")
    command = ["ffmpeg", "-v", "error", "-ss", "3", "-copyts", "-i", str(video), "-vf", "ass=s.ass"]
    subprocess.run([*command, "-frames:v", "1", "out.png"], cwd=tmp_path, check=True, timeout=60)
    drawn = cv2.imread(str(tmp_path / "out.png")).astype(int)[:, :, ::-1]
    plain = squares(31)[30].astype(int)
    changed = np.abs(drawn - plain).max(axis=2) > 60
    # At 3 s the red square is at x = 400: an orange line around it, and none in its middle or elsewhere.
    # Colors have half the resolution of the video.
    assert any(red > 150 and green > 120 and blue < 110 for red, green, blue in drawn[250, 396:405].tolist())
    assert not changed[240:260, 420:460].any() and not changed[:, 600:950].any()
    assert changed[497:504, 1030].any() and changed[540:560, 1076:1085].any()


def test_webvtt_says_who_is_on_screen(moving: tuple[Path, Path], tmp_path: Path) -> None:
    run = Path(shutil.copytree(moving[1], tmp_path / "run"))
    add_corrections(run, [Correction("name", person=2, name="Bo <b>")])
    cues = re.findall(r"([\d:.]+) --> ([\d:.]+)\n((?:.+\n)+)", webvtt(run))
    assert [cue[:2] for cue in cues] == [
        ("00:00:00.000", "00:00:04.900"),
        ("00:00:04.900", "00:00:08.000"),
    ]
    both, alone = (cue[2].splitlines() for cue in cues)
    assert both[0] == alone[0] and both[0].startswith("#1 female") and len(alone) == 1
    assert both[1].startswith("Bo &lt;b&gt; male")


def test_the_command_writes_subtitles_and_corrections_renew_them(
    moving: tuple[Path, Path], tmp_path: Path
) -> None:
    run = Path(shutil.copytree(moving[1], tmp_path / "run"))
    result = CliRunner().invoke(cli, ["subtitles", str(run)])
    assert result.exit_code == 0 and (run / "subtitles.vtt").exists(), result.output
    add_corrections(run, [Correction("drop", person=2)])
    assert "box-male,," not in (run / "subtitles.ass").read_text("utf-8").replace("Style: box-male", "")
    assert "male" not in (run / "subtitles.vtt").read_text("utf-8").replace("female", "")
    result = CliRunner().invoke(cli, ["subtitles", str(run), "--format", "ass", "--out", str(tmp_path)])
    assert result.exit_code == 0 and [p.name for p in tmp_path.glob("*.ass")] == ["run.ass"], result.output
    assert CliRunner().invoke(cli, ["subtitles", str(tmp_path / "no")]).exit_code == 3
    publish(Path(shutil.copytree(moving[1], tmp_path / "again")), run)  # another analysis
    assert not list(run.glob("subtitles.*"))


# --- truth -------------------------------------------------------------------------------------------


def test_a_corrected_run_is_truth_for_evaluate(moving: tuple[Path, Path], tmp_path: Path) -> None:
    run = Path(shutil.copytree(moving[1], tmp_path / "runs" / "run"))
    with pytest.raises(SourceError, match="the run has no corrections to compare with"):
        evaluate([run])
    faces = Run.load(run).faces
    # The woman was taken for two from 4 s on, and the third is an audience.
    late = (faces["person_id"] == 1) & (faces["time_s"] >= 4)
    audience = faces["person_id"].eq(2) & (faces["time_s"] >= 3)
    faces.loc[late, ["tracklet_id", "person_id", "linked_person_id"]] = [7, 3, 3]
    faces.loc[audience, ["tracklet_id", "person_id", "linked_person_id"]] = [8, 4, 4]
    write_parquet(run / "faces.parquet", faces, FACES)
    add_corrections(
        run,
        [
            Correction("merge", people=(1, 3)),
            Correction("drop", person=4),
            Correction("gender", person=1, gender="male"),
            Correction("gender", person=2, gender="male"),
            Correction("age", person=2, age_years=44),
        ],
    )
    document = evaluate([run.parent]).to_dict()
    (source,) = document["sources"]
    assert (source["kind"], source["used"], source["confirmed_genders"]) == ("corrected", 1, 2)
    figures = document["videos"]["kinds"]["all"]
    assert (figures["true_people"], figures["found_people"], figures["extra"]) == (2, 3, 1)
    assert figures["count_error"]["value"] == pytest.approx(0.5)
    table = evaluate([run]).people
    assert table["true_gender"].tolist() == ["male", "male"]
    assert table["gender"].tolist() == ["female", "male"]
    assert table["true_age"].tolist()[1] == 44 and np.isnan(table["true_age"].tolist()[0])


def test_confirmed_faces_are_cut_for_a_calibration(moving: tuple[Path, Path], tmp_path: Path) -> None:
    video, original = moving
    run = Path(shutil.copytree(original, tmp_path / "run"))
    add_corrections(run, [Correction("gender", person=2, gender="male")])
    (tmp_path / "a").mkdir()
    with pytest.raises(SourceError, match="its video is gone or was changed"):
        confirmed_faces(run, tmp_path / "a")
    download(run, video)
    (tmp_path / "b").mkdir()
    (face,) = confirmed_faces(run, tmp_path / "b").to_dict("records")
    image = cv2.imread(str(face["path"]))
    x1, y1, x2, y2 = (round(face[name]) for name in ("x1", "y1", "x2", "y2"))
    assert (x2 - x1, y2 - y1) == (80, 100)
    assert np.abs(image[y1 + 5 : y2 - 5, x1 + 5 : x2 - 5].mean(axis=(0, 1))[::-1] - GREEN).max() < 40


def download(run: Path, video: Path) -> None:
    """Put a video into the folder of a run, as a download that is kept."""
    shutil.copy(video, run / "download-moving.mp4")
    info = json.loads((run / "run.json").read_text("utf-8")) | {"download": ["download-moving.mp4"]}
    (run / "run.json").write_text(json.dumps(info), "utf-8")


# --- real faces --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_another_analysis_of_a_real_video_keeps_corrections(
    two_portraits: tuple[NDArray[np.uint8], NDArray[np.uint8]], tmp_path: Path
) -> None:
    pictures = []
    for number in range(3 * FPS):
        picture = np.full((360, 640, 3), 120, np.uint8)
        for portrait, x in zip(two_portraits, (40, 380), strict=True):
            small = cv2.resize(portrait, (200, 230), interpolation=cv2.INTER_AREA)
            picture[60:290, x + number : x + number + 200] = small
        pictures.append(picture)
    video = write_video(tmp_path / "two.mp4", pictures, fps=FPS)
    settings = Settings(video=False, fps=2.0, workers=1)
    run = analyze(video, settings, out=tmp_path / "out")
    assert len(run.people) == 2
    left = left_of(run)
    ada = [Correction("name", person=left, name="Ada"), Correction("age", person=left, age_years=77)]
    add_corrections(run.folder, ada)
    again = analyze(video, dataclasses.replace(settings, fps=5.0), out=tmp_path / "out")
    assert again.folder == run.folder and again.info["counts"]["samples"] > run.info["counts"]["samples"]
    (named,) = again.people[again.people["name"] == "Ada"].to_dict("records")
    assert named["person_id"] == left_of(again) and named["age_years"] == 77
    assert again.info["corrections"] and again.info["corrections"]["lost"] == 0
    crops = gallery(again.folder, video, [named["person_id"]], 3)
    assert len(crops) == 3
    # Of another stretch in which nobody is where Ada was, nothing is kept but the file.
    nobody = analyze(video, dataclasses.replace(settings, min_face_px=200), out=tmp_path / "out")
    assert nobody.people.empty and len(read_corrections(nobody.folder).active) == 2
    assert any(
        "2 corrections of an earlier analysis were not applied" in note for note in nobody.info["notes"]
    )


def left_of(run: Run) -> int:
    return int(run.faces.groupby("person_id")["x1"].mean().loc[lambda means: means.index > 0].idxmin())


def test_images_have_no_subtitles(tmp_path: Path, moving: tuple[Path, Path]) -> None:
    run = Path(shutil.copytree(moving[1], tmp_path / "run"))
    info: dict[str, Any] = json.loads((run / "run.json").read_text("utf-8")) | {"kind": "images"}
    (run / "run.json").write_text(json.dumps(info), "utf-8")
    with pytest.raises(OutputError, match="subtitles need a video"):
        ass(run)


def test_images_spreadsheet_and_embeddings_follow(
    two_portraits: tuple[NDArray[np.uint8], NDArray[np.uint8]], tmp_path: Path
) -> None:
    for number, portrait in enumerate((*two_portraits, two_portraits[0])):
        framed = cv2.copyMakeBorder(portrait, 60, 60, 60, 60, cv2.BORDER_REPLICATE)
        cv2.imwrite(str(tmp_path / f"{number}.png"), framed[:, :, ::-1])
    (tmp_path / "3.png").write_bytes(b"no image")
    paths = sorted(tmp_path.glob("*.png"))
    settings = Settings(formats=("csv", "xlsx"), keep_embeddings=True, video=False, workers=1)
    (run,) = analyze_all([tmp_path], settings, out=tmp_path / "out")
    assert isinstance(run, Finished)
    before, folder = run.run, run.run.folder
    assert len(before.people) == 2 and before.images["readable"].tolist() == [True] * 3 + [False]
    sheet = (folder / "tables.xlsx").read_bytes()
    add_corrections(folder, [Correction("name", person=1, name="Ada"), Correction("drop", person=2)])
    after = Run.load(folder)
    assert after.images["person_id"].tolist() == [1, -1, 1, -1]
    assert after.images["reason"].tolist()[3] == before.images["reason"].tolist()[3]
    assert after.images["image"].tolist() == before.images["image"].tolist()
    embeddings = pd.read_parquet(folder / "embeddings.parquet")
    assert sorted(embeddings["person_id"]) == [-1, 1, 1]
    assert (folder / "tables.xlsx").read_bytes() != sheet and not (folder / "people.parquet").exists()
    crops = gallery(folder, paths, count=2)
    assert [crop["person"] for crop in crops] == [1, 1]
    undo_correction(folder)
    undo_correction(folder)
    assert Run.load(folder).images.equals(before.images)
    assert Run.load(folder).info["notes"] == before.info["notes"]
