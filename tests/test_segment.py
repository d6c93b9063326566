"""The segment as a pure unit of work: alone, in passing, in other processes."""

from __future__ import annotations

import dataclasses
import itertools
import multiprocessing
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analyzer.analysis.segment import Models, SegmentResult, analyze_segments
from analyzer.faces import AlignedCrop, CropSource, FaceEstimates, Faces
from analyzer.media.images import ImageReader
from analyzer.media.reader import VideoReader
from analyzer.people.fusion import fuse_people
from analyzer.people.identity import link_tracklets
from analyzer.people.timeline import sample_durations
from analyzer.runs.segments import PartStore
from analyzer.settings import Settings
from testkit.media import write_video
from testkit.videos import wall

FPS = 30
CUT_S = (1.0, 2.8, 4.0)
"""Within the first segment of two seconds, within the second, and where the third begins."""


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds of pans over portraits: a shot begins at each of `CUT_S`, between them the camera moves."""
    picture = wall(4, 2)
    width, height = 960, 540
    starts = [(0, 0), (1200, 500), (1240, 0), (100, 600)]
    images = []
    for number in range(6 * FPS):
        shot = sum(number / FPS >= cut for cut in CUT_S)
        x, y = starts[shot]
        x += number
        images.append(picture[y : y + height, x : x + width])
    path = tmp_path_factory.mktemp("segment") / "film.mp4"
    return write_video(path, images, fps=FPS, options={"preset": "ultrafast", "crf": "18"})


@pytest.fixture(scope="module", params=[5.0, pytest.param(2.0, marks=pytest.mark.slow)])
def settings(request: pytest.FixtureRequest, exact: Settings) -> Settings:
    return exact.replace(segment_s=2, threads=1, fps=request.param)


@pytest.fixture(scope="module")
def in_passing(film: Path, models: Models, settings: Settings) -> list[SegmentResult]:
    """All segments, read in one go."""
    with VideoReader(film, settings) as reader:
        return list(analyze_segments(reader.samples(), models, settings))


def assert_same(one: SegmentResult, other: SegmentResult) -> None:
    for name in ("segment", "times_s", "image_names", "sizes", "detection_age_s"):
        assert getattr(one, name) == getattr(other, name)
    assert one.shot_boundaries[1:] == other.shot_boundaries[1:]  # the first depends on the neighbor
    np.testing.assert_array_equal(one.edges, other.edges)
    for mine, theirs in zip(one.faces, other.faces, strict=True):
        for name in ("boxes", "scores", "landmarks", "age_years", "female_prob", "track_ids"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name), err_msg=name)
    for name in ("ids", "embeddings", "crop_px", "crops"):
        np.testing.assert_array_equal(getattr(one.tracklets, name), getattr(other.tracklets, name))


@pytest.mark.parametrize("segment", [1, 2])
def test_segment_alone_equals_segment_in_passing(
    film: Path, models: Models, settings: Settings, in_passing: list[SegmentResult], segment: int
) -> None:
    with VideoReader(film, settings) as reader:
        (alone,) = analyze_segments(reader.samples(*reader.segment_bounds(segment)), models, settings)
    assert alone.segment == segment and len(alone.times_s) == 2 * settings.fps
    assert_same(alone, in_passing[segment])
    # There is something to compare.
    assert sum(len(faces) for faces in alone.faces) > 5 and len(alone.tracklets) >= 2
    assert sum(alone.shot_boundaries) == (segment == 1)
    assert (np.linalg.norm(alone.tracklets.embeddings, axis=1) > 0.5).all()


def test_shot_boundaries_and_edges_are_where_they_are(in_passing: list[SegmentResult]) -> None:
    for result in in_passing:
        for (before, now), cut in zip(
            itertools.pairwise(result.times_s), result.shot_boundaries[1:], strict=True
        ):
            assert cut == any(before < one <= now + 1e-6 for one in CUT_S)
        assert not result.shot_boundaries[0]  # no neighbor is looked at
        # No tracklet lives on over a cut.
        at = result.shot_boundaries.index(True) if any(result.shot_boundaries) else 0
        ids = [set(faces.track_ids.tolist()) for faces in result.faces]
        assert set().union(*ids[:at]).isdisjoint(set().union(*ids[at:]))
        assert set(result.tracklets.ids.tolist()) <= set().union(*ids)
    # The last sample of one and the first of the next are glances of different pictures.
    for one, other in itertools.pairwise(in_passing):
        assert one.edges[1].shape == (54, 96, 3)
        assert not np.array_equal(one.edges[0], one.edges[1])
        assert not np.array_equal(one.edges[1], other.edges[0])


class OneFace:
    """Finds one face at the same place of every picture, and judges it by nothing."""

    reducible = True
    points_in_box = None
    size = 3

    def input_size(self, width: int, height: int, reduction: int = 1) -> tuple[int, int]:
        return width // reduction, height // reduction

    def detect(self, images: list[np.ndarray], sizes: list[tuple[int, int]]) -> list[Faces]:
        del sizes
        return [Faces.build(boxes=[[40, 20, 100, 90]], scores=[0.9]) for _ in images]

    def crops(self, frame: CropSource, faces: Faces) -> list[AlignedCrop]:
        return [(np.zeros((1, 1, 3), np.uint8),)] * len(faces)

    def read(self, crops: Sequence[AlignedCrop]) -> FaceEstimates:
        unknown = np.full(len(crops), np.nan, np.float32)
        return FaceEstimates(np.zeros((len(crops), self.size), np.float32), unknown, unknown, unknown)


def test_tracklet_ends_at_a_shot_boundary_though_the_next_face_takes_its_place(
    tmp_path: Path, models: Models, exact: Settings
) -> None:
    portrait = np.ascontiguousarray(wall(1, 1)[:180, :320])
    other = np.ascontiguousarray(255 - portrait[::-1])
    path = write_video(tmp_path / "cut.mp4", [portrait] * 40 + [other] * 50, fps=FPS)
    fake = OneFace()
    seeing = dataclasses.replace(models, detector=fake, reader=fake)
    with VideoReader(path, exact) as reader:
        (result,) = analyze_segments(reader.samples(), seeing, exact)
    before = sum(time < 40 / FPS for time in result.times_s)
    assert 5 < before < len(result.times_s) - 5
    ids = [faces.track_ids.tolist() for faces in result.faces]
    assert ids == [[0]] * before + [[1]] * (len(ids) - before)


def test_images_are_segments_of_one_sample(
    tmp_path: Path, models: Models, exact: Settings, two_portraits: tuple[np.ndarray, np.ndarray]
) -> None:
    import cv2

    paths = [tmp_path / f"{number}.png" for number in range(2)]
    for path, portrait in zip(paths, two_portraits, strict=True):
        cv2.imwrite(str(path), np.ascontiguousarray(portrait[:, :, ::-1]))
    with ImageReader(paths, exact) as reader:
        results = list(analyze_segments(reader.samples(), models, exact))
    assert [result.segment for result in results] == [0, 1]
    assert [result.image_names for result in results] == [("0.png",), ("1.png",)]
    for result in results:
        assert result.shot_boundaries == (False,)
        assert [faces.track_ids.tolist() for faces in result.faces] == [[0]]
        np.testing.assert_array_equal(result.edges[0], result.edges[1])


def analyze_alone(path: Path, run: Path, settings: Settings, segments: Sequence[int]) -> None:
    """What another process does: the given segments, one by one, committed."""
    models = Models.load(settings)
    parts = PartStore(run, "key")
    with VideoReader(path, settings) as reader:
        for segment in segments:
            for result in analyze_segments(reader.samples(*reader.segment_bounds(segment)), models, settings):
                parts.commit(result, "v")


@pytest.mark.parametrize("settings", [2.0], indirect=True)
@pytest.mark.slow
def test_two_processes_record_what_one_does(
    film: Path, models: Models, settings: Settings, in_passing: list[SegmentResult], tmp_path: Path
) -> None:
    one = PartStore(tmp_path / "one", "key")
    for result in in_passing:
        one.commit(result, "v")
    context = multiprocessing.get_context("spawn")
    # In no order: the first does the last segment first.
    workers = [
        context.Process(target=analyze_alone, args=(film, tmp_path / "many", settings, segments))
        for segments in ([2, 0], [1])
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    many = PartStore(tmp_path / "many", "key")
    assert many.segments() == one.segments() == [0, 1, 2]
    mine, theirs = one.collect(), many.collect()
    for name in ("samples", "faces", "embeddings"):
        table = getattr(mine, name)
        assert len(table) > 5
        pd.testing.assert_frame_equal(table, getattr(theirs, name), check_exact=True)
    # A shot begins with each cut, also with the one between two segments, and with no border alone.
    times = mine.samples["time_s"].to_numpy()
    assert mine.samples["shot"].tolist() == np.searchsorted(CUT_S, times + 1e-6).tolist()
    # And the people are who they are.
    mine.samples["duration_s"] = sample_durations(times, 6.0)
    linked = link_tracklets(mine.faces, mine.samples, mine.embeddings)
    mine.faces["person_id"] = linked.person_ids
    people = fuse_people(mine.faces, mine.samples, settings, models.calibration)
    assert linked.low <= len(people) <= linked.high and len(people) >= 2
