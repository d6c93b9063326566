"""From a video to the people table: shots, people in the place of others, re-entries; what is kept."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from analyzer import Run, Settings, analyze
from testkit.media import write_video
from tests.conftest import clip

Portraits = tuple[NDArray[np.uint8], NDArray[np.uint8]]
FPS = 10


def scene(*people: tuple[NDArray[np.uint8], int, int, float], shade: int) -> NDArray[np.uint8]:
    """(480, 854, 3) uint8 RGB: portraits with their upper left corner and their brightness."""
    picture = np.full((480, 854, 3), (shade, 255 - shade, 120), np.uint8)
    for portrait, x, y, gain in people:
        rows, columns = portrait.shape[:2]
        picture[y : y + rows, x : x + columns] = np.clip(portrait * gain, 0, 255).astype(np.uint8)
    return picture


@pytest.fixture(scope="module")
def edited(two_portraits: Portraits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six shots of 2 s: the two take each other's very place over cuts, and come back smaller and darker."""
    collins, hopper = two_portraits
    small = [
        cv2.resize(one, (150, 160), interpolation=cv2.INTER_AREA).astype(np.uint8) for one in two_portraits
    ]
    shots = [
        [(collins, 280, 80, 1.0)],
        [(hopper, 280, 80, 1.0)],
        [(collins, 280, 80, 0.7)],
        [(small[1], 100, 60, 0.8), (small[0], 600, 200, 0.9)],
        [(hopper, 280, 80, 0.9)],
        [(small[0], 100, 60, 1.0)],
    ]
    pictures = [
        scene(*((face, x + step % 4, y, gain) for face, x, y, gain in shot), shade=40 * number + 20)
        for number, shot in enumerate(shots)
        for step in range(2 * FPS)
    ]
    return write_video(tmp_path_factory.mktemp("edited") / "edited.mp4", pictures, fps=FPS)


def found(video: Path, out: Path, **changes: object) -> Run:
    return analyze(video, Settings(video=False), out=out, **changes)


_LONG = [(fps, segment_s) for fps in (2.0, 5.0) for segment_s in (1.5, 5.0, 60.0)]
_QUICK = ((2.0, 60.0), (5.0, 1.5))


@pytest.mark.parametrize(
    ("fps", "segment_s"),
    [pytest.param(*one, marks=() if one in _QUICK else pytest.mark.slow) for one in _LONG],
)
def test_people_are_found_again_across_shots(
    edited: Path, tmp_path: Path, segment_s: float, fps: float
) -> None:
    run = found(edited, tmp_path, segment_s=segment_s, fps=fps)
    assert run.info["counts"]["shots"] == 6
    assert len(run.people) == 2
    assert run.info["counts"]["people_low"] <= 2 <= run.info["counts"]["people_high"]
    seen = run.people.set_index("person_id")
    # Collins: shots 1, 3, 4, 6; Hopper: 2, 4, 5 (the last two without a gap).
    assert seen["on_screen_s"].tolist() == pytest.approx([8.0, 6.0], abs=0.6)
    assert seen.loc[1, "first_s"] == 0 and seen.loc[2, "first_s"] == pytest.approx(2.0, abs=0.01)
    faces = run.faces
    assert not faces[faces["person_id"] > 0].duplicated(["sample", "person_id"]).any()
    # No tracklet crosses a shot boundary.
    shots = faces["sample"].map(run.samples.set_index("sample")["shot"])
    assert (shots.groupby(faces["tracklet_id"]).nunique() == 1).all()


def test_embeddings_are_gone_unless_asked_for(edited: Path, tmp_path: Path) -> None:
    run = found(edited, tmp_path / "without")
    assert not list(run.folder.rglob("*embedding*")) and not (run.folder / ".parts").exists()
    assert not any(
        "embedding" in column for table in (run.faces, run.people, run.samples) for column in table
    )
    kept = found(edited, tmp_path / "with", keep_embeddings=True)
    table = pd.read_parquet(kept.folder / "embeddings.parquet")
    assert set(table["person_id"]) == {1, 2} and set(table["embedding"].map(len)) == {128}


def test_run_says_the_range_and_shares_in_words(edited: Path, tmp_path: Path) -> None:
    run = found(edited, tmp_path)
    assert run.info["counts"]["people_range_reason"]
    # Of two people no share is stated, neither in words nor in the table.
    assert run.info["shares_text"] == "" and run.shares["people_share"].isna().all()
    assert "utkface" in run.info["calibration"]["fitted_on"]
    assert run.info["calibration"]["commercial_use"] is False


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "genders"),
    [
        ("head-pose-face-detection-female-and-male.gif", [["female", "male"]]),
        ("head-pose-face-detection-female.gif", [["female"]]),
        # The woman's face is 16 pixels wide: it may stay unknown, but must not be taken for a man's.
        ("face-demographics-walking.gif", [["female", "male"], ["male", "unknown"]]),
        pytest.param("one-by-one-person-detection.mp4", [[]], marks=pytest.mark.slow),
    ],
)
def test_real_clips(name: str, genders: list[list[str]], tmp_path: Path) -> None:
    run = found(clip(name), tmp_path)
    assert sorted(run.people["gender"]) in genders
    assert run.info["counts"]["shots"] == 1
