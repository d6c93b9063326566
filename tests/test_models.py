"""The registry, downloads, users' own models, and files that are wrong or hostile."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from analyzer import analyze
from analyzer.cli import cli
from analyzer.errors import ModelError, OutputError
from analyzer.faces import Faces
from analyzer.media.frame import Still
from analyzer.settings import Settings
from analyzer.vision import registry
from analyzer.vision.calibration import DEFAULT_KEY, Calibration, Estimates, calibration_file, key_of
from analyzer.vision.crops import CROP_LANDMARKS, padded_landmarks
from analyzer.vision.inventory import inventory
from analyzer.vision.reader import CropReader
from analyzer.vision.registry import Model, ModelFile, git_blob, sha256
from analyzer.vision.sandbox import add
from analyzer.vision.selection import choose, models_hash
from analyzer.vision.user_model import LEVI_HASSNER, described, descriptions, read_onnx
from testkit.servers import Handler, serve

ROOT = Path(__file__).parents[1]
CONTENT = bytes(range(256)) * 1000
ENGINES = ("openvino", "onnxruntime")

Weights = NDArray[np.float32]


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Only the models of packages are found, and the user's cache is empty; gives `ANALYZER_MODELS`."""
    named = tmp_path / "named"
    named.mkdir()
    monkeypatch.setenv(registry.MODELS_VARIABLE, str(named))
    monkeypatch.setattr(registry.platformdirs, "user_cache_path", lambda *_, **__: tmp_path / "cache")
    return named


def entry(url: str = "", content: bytes = CONTENT, **file: Any) -> Model:
    """A model of one file."""
    made = ModelFile("net.bin", (sha256(content),), url=url, **file)
    return dataclasses.replace(registry.YUNET, name="net", files=(made,))


# --- the registry -----------------------------------------------------------------------------------


def test_every_entry_says_everything() -> None:
    for name, model in registry.MODELS.items():
        assert name == model.name
        for field in dataclasses.fields(Model):
            assert getattr(model, field.name) not in ("",), f"{name}: {field.name}"
        for file in model.files:
            assert file.sha256 or file.git_blob, f"{name}: {file.name}"
            assert file.url or file.package, f"{name}: {file.name}"
            assert all(len(one) == 64 for one in file.sha256)


def test_every_model_has_a_card_with_its_hashes() -> None:
    names = {path.stem for path in (ROOT / "models").glob("*.md")}
    assert {model.name for model in registry.MODELS.values() if model.role == "detector"} <= names
    cards = " ".join(path.read_text("utf-8") for path in (ROOT / "models").glob("*.md"))
    for model in registry.MODELS.values():
        for file in model.files:
            assert file.name in cards, file.name
            assert file.git_blob or all(one in cards for one in file.sha256), file.name
            assert file.git_blob in cards


def test_default_models_are_those_of_a_run_that_names_none() -> None:
    choice = choose(Settings())
    assert set(choice.models) == set(registry.DEFAULTS)
    assert all(file.package for model in registry.DEFAULTS for file in model.files)


def test_folders_are_searched_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = entry()
    (file,) = model.files
    with pytest.raises(ModelError, match=r"not on this machine.*models pull net.*ANALYZER_MODELS"):
        registry.read(model, file)
    one, two, cache = tmp_path / "one", tmp_path / "two", tmp_path / "cache" / "models"
    for folder in (one, two, cache):
        folder.mkdir(parents=True)
        (folder / file.name).write_bytes(CONTENT)
    monkeypatch.setenv(registry.MODELS_VARIABLE, f"{one}:{two}")
    assert registry.folders()[0] == one and registry.folders()[1] == two and registry.folders()[-1] == cache
    assert registry.find(file) == one / file.name
    locked = tmp_path / "locked"
    locked.mkdir()
    monkeypatch.setenv(registry.MODELS_VARIABLE, f"{locked}:{one}:{two}")
    monkeypatch.setattr(Path, "is_file", _unless_in(locked, Path.is_file))
    monkeypatch.setattr(Path, "read_bytes", _unless_in(one, Path.read_bytes))
    assert registry.read(model, file) == CONTENT  # a file that cannot be read is skipped
    (two / file.name).unlink()
    (cache / file.name).unlink()
    with pytest.raises(ModelError, match=r"one/net.bin of the model net cannot be read: Permission denied"):
        registry.read(model, file)
    monkeypatch.undo()


def _unless_in(folder: Path, real: Callable[[Path], Any]) -> Callable[[Path], Any]:
    def call(path: Path) -> Any:
        if path.parent == folder:
            raise PermissionError(13, "Permission denied")
        return real(path)

    return call


def test_wrong_files_are_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = entry()
    (file,) = model.files
    one, two, cache = tmp_path / "one", tmp_path / "two", tmp_path / "cache" / "models"
    for folder in (one, two, cache):
        folder.mkdir(parents=True)
        (folder / file.name).write_bytes(CONTENT)
    monkeypatch.setenv(registry.MODELS_VARIABLE, f"{one}:{two}")
    for folder in (one, two):
        changed = bytearray(CONTENT)
        changed[500] ^= 1
        (folder / file.name).write_bytes(changed)
        assert registry.read(model, file) == CONTENT
    (cache / file.name).write_bytes(CONTENT[:-1])
    with pytest.raises(ModelError, match=f"one/net.bin is not the file.*{file.sha256[0]}.*models pull net"):
        registry.read(model, file)


def test_git_blob_is_gits_own() -> None:
    assert git_blob(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object
    file = ModelFile("net.bin", git_blob=git_blob(CONTENT))
    assert file.fits(CONTENT) and not file.fits(CONTENT[:-1])


# --- downloads ---------------------------------------------------------------------------------------


def _send(content: bytes, handler: Handler, declared: int | None = None) -> None:
    handler.head(len(content) if declared is None else declared)
    handler.wfile.write(content)


def _endless(handler: Handler) -> None:
    handler.head(None)
    with contextlib.suppress(OSError):
        while not handler.server.stopping.is_set():
            handler.wfile.write(CONTENT)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A server of files that are right, cut short, wrong and endless."""
    with serve() as server:
        server.routes |= {
            "/right": partial(_send, CONTENT),
            "/cut": partial(_send, CONTENT[:1000], declared=len(CONTENT)),
            "/wrong": partial(_send, CONTENT[::-1]),
            "/endless": _endless,
            "/chunks": lambda handler: handler.wfile.write(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\nabc"
            ),
            "/nonsense": lambda handler: handler.wfile.write(b"SSH-2.0-server\r\n"),
        }
        yield server.url("")


def test_pull_puts_the_right_file_into_the_cache(address: str, tmp_path: Path) -> None:
    model = entry(f"{address}/right", size_bytes=len(CONTENT))
    progress: list[tuple[str, int, int | None]] = []
    (path,) = registry.pull(model, on_progress=lambda *one: progress.append(one))
    assert path == tmp_path / "cache" / "models" / "net.bin" and path.read_bytes() == CONTENT
    assert progress[-1] == ("net.bin", len(CONTENT), len(CONTENT))
    assert registry.weights(model) == CONTENT
    assert registry.pull(model) == []  # it is here


@pytest.mark.parametrize("what", ["cut", "wrong", "endless", "absent", "chunks", "nonsense"])
@pytest.mark.parametrize("before", [None, CONTENT[:-1]])
def test_a_download_that_is_not_the_file_is_not_kept(
    address: str, tmp_path: Path, what: str, before: bytes | None
) -> None:
    model = entry(f"{address}/{what}", size_bytes=len(CONTENT))
    folder = tmp_path / "models"
    folder.mkdir()
    if before is not None:
        (folder / "net.bin").write_bytes(before)
    with pytest.raises(ModelError, match=f"{address}/{what}") as caught:
        registry.pull(model, folder)
    assert "\n" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == (
        {} if before is None else {"net.bin": before}
    )


def test_a_wrong_file_is_replaced_by_the_right_one(address: str, folders: Path) -> None:
    model = entry(f"{address}/right")
    (folders / "net.bin").write_bytes(CONTENT[:-1])
    assert registry.pull(model, folders) == [folders / "net.bin"]
    assert registry.weights(model) == CONTENT


def test_a_folder_that_cannot_be_written_is_a_sentence(address: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        registry.pull(entry(f"{address}/right"), tmp_path / "file" / "models")


# --- users' own models --------------------------------------------------------------------------


def network(
    weights: Weights,
    *,
    size: tuple[int, int] = (16, 16),
    last: bool = False,
    batch: int | str = "n",
    names: tuple[str, ...] = ("out",),
    splits: tuple[int, ...] = (),
) -> onnx.ModelProto:
    """A model whose output is a linear function of the mean of each color: (K, 3) `weights`.

    The mean is taken over the left half of the image, so that the place of the crop shows.
    """
    width, height = size
    shape = [batch, height, width, 3] if last else [batch, 3, height, width]
    axes = [1, 2] if last else [2, 3]
    left = [0, 0, 0, 0], ([2**31, height, width // 2, 3] if last else [2**31, 3, height, width // 2])
    initializers = [
        numpy_helper.from_array(np.array(left[0], np.int64), "starts"),
        numpy_helper.from_array(np.array(left[1], np.int64), "ends"),
        numpy_helper.from_array(np.ascontiguousarray(weights.T), "weights"),
    ]
    nodes = [
        helper.make_node("Slice", ["in", "starts", "ends"], ["left"]),
        helper.make_node("ReduceMean", ["left"], ["means"], axes=axes, keepdims=0),
        helper.make_node("MatMul", ["means", "weights"], ["all" if splits else names[0]]),
    ]
    sizes = splits or (len(weights),)
    if splits:
        initializers.append(numpy_helper.from_array(np.array(splits, np.int64), "splits"))
        nodes.append(helper.make_node("Split", ["all", "splits"], list(names), axis=1))
    graph = helper.make_graph(
        nodes,
        "means",
        [helper.make_tensor_value_info("in", TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, count])
            for name, count in zip(names, sizes, strict=True)
        ],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def put(folder: Path, name: str, model: onnx.ModelProto | bytes, text: str) -> Path:
    """A model and its description in a folder; gives the model's path."""
    path = folder / f"{name}.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    path.with_suffix(".toml").write_text(text, "utf-8")
    return path


GENDER_AND_AGE = """
license = "MIT"
commercial_use = true
[input]
size = 16
colors = "rgb"
[gender]
kind = "logits"
numbers = [0, 2]
classes = ["male", "female"]
[age]
kind = "years"
numbers = [2, 3]
factor = 100
"""
WEIGHTS = np.array([[0.01, 0, 0], [0, 0.02, 0], [0, 0, 0.002]], np.float32)


@pytest.fixture
def picture() -> NDArray[np.uint8]:
    """(100, 120, 3) uint8 BGR, smooth, every color its own way."""
    x, y = np.meshgrid(np.arange(120), np.arange(100))
    return np.stack([2 * x, 2 * y, 200 - x], axis=2).astype(np.uint8)


FACE = Faces.build(boxes=[[20, 30, 60, 80]], scores=[0.9])


def left_half(picture: NDArray[np.uint8], box: tuple[int, int, int, int]) -> NDArray[np.float64]:
    """Mean blue, green and red of the left half of a box."""
    x1, y1, x2, y2 = box
    return picture[y1:y2, x1 : (x1 + x2) // 2].reshape(-1, 3).astype(np.float64).mean(axis=0)


def estimated(model: str | Path, picture: NDArray[np.uint8], **settings: Any) -> tuple[float, float, float]:
    """Probability of female, age and spread of the face in `picture`."""
    attributes = CropReader.load(
        Settings(attributes=str(model), precision="f32", **settings), embeddings=False
    )
    read = attributes.read(attributes.crops(Still(picture), FACE))
    return float(read.female_prob[0]), float(read.age_years[0]), float(read.age_std_years[0])


def logistic(log_odds: float) -> float:
    return float(1 / (1 + np.exp(-log_odds)))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("batch", ["n", 1])
def test_gender_and_age_of_one_model(
    folders: Path, picture: NDArray[np.uint8], engine: str, batch: int | str
) -> None:
    put(folders, "both", network(WEIGHTS, batch=batch), GENDER_AND_AGE)
    blue, green, red = left_half(picture, (20, 30, 60, 80))
    female, age, spread = estimated("both", picture, engine=engine)
    assert female == pytest.approx(logistic(0.02 * green - 0.01 * red), abs=0.003)
    assert age == pytest.approx(100 * 0.002 * blue, abs=0.3)
    assert np.isnan(spread)


@pytest.mark.parametrize("engine", ENGINES)
def test_everything_a_description_can_say(folders: Path, picture: NDArray[np.uint8], engine: str) -> None:
    # As a MobileNetV2 of TensorFlow: channels last, values from -1 to 1, two named outputs.
    weights = np.array([[3, 0, 0], [0, 0, 0], [0, 2, 0], [0, 0, -1]], np.float32)
    model = network(weights, size=(24, 16), last=True, names=("sex", "years"), splits=(1, 3))
    text = """
        [input]
        size = [24, 16]
        colors = "bgr"
        layout = "nhwc"
        mean = [127.5, 127.5, 127.5]
        scale = [127.5, 127.5, 100]
        [crop]
        margin = 0.25
        margin_px = 2
        [gender]
        kind = "logit"
        of = "male"
        output = "sex"
        [age]
        kind = "logits"
        output = "years"
        ranges = [[0, 9], [20, 29], [60, 100]]
        mean_years = [4, 25, 70]
    """
    put(folders, "mobile", model, text)
    blue, green, red = (left_half(picture, (8, 15, 72, 94)) - 127.5) / (127.5, 127.5, 100)
    female, age, spread = estimated("mobile", picture, engine=engine)
    assert female == pytest.approx(1 - logistic(3 * blue), abs=0.01)
    powers = np.exp([0, 2 * green, -red])
    shares, centers, widths = powers / powers.sum(), np.array([4, 25, 70]), np.array([10, 10, 41])
    assert age == pytest.approx(shares @ centers, abs=0.5)
    variance = shares @ (centers**2 + widths**2 / 12) - (shares @ centers) ** 2
    assert spread == pytest.approx(np.sqrt(variance), abs=0.3)


def test_a_square_crop_reaches_over_the_border(folders: Path) -> None:
    text = GENDER_AND_AGE.replace("[gender]", "[crop]\nsquare = true\nmargin = 1.0\n[gender]")
    put(folders, "both", network(WEIGHTS), text)
    gray = np.full((100, 120, 3), 100, np.uint8)
    # 150 pixels around (40, 55): 35 of the left 75 lie outside, and 20 + 30 of the 150 rows.
    inside = 40 / 75 * 100 / 150
    assert estimated("both", gray)[1] == pytest.approx(100 * 0.002 * 100 * inside, rel=0.05)


ARCFACE = [[0.342, 0.4616], [0.6565, 0.4599], [0.5002, 0.6405], [0.371, 0.8246], [0.6315, 0.8232]]
"""Where the models of InsightFace have the landmarks, as shares of the crop's side."""
SPOTS_BGR = [(0, 0, 250), (0, 180, 0), (200, 0, 0), (60, 0, 0), (0, 0, 90)]


def spotted(landmarks: Weights) -> NDArray[np.uint8]:
    """(400, 400, 3) uint8 BGR: a gray frame with a spot of its own color at each landmark of a face."""
    frame = np.full((400, 400, 3), 100, np.uint8)
    for (x, y), color in zip(landmarks, SPOTS_BGR, strict=True):
        cv2.circle(frame, (round(float(x)), round(float(y))), 14, color, -1)
    return frame


def at_spots(template: list[list[float]], size: int = 32) -> onnx.ModelProto:
    """A model that outputs the red of the pixel at the first landmark of an upright face, the green at the
    second and the blue at the third, and sees nothing else."""
    picked = np.zeros((size, size, 3, 3), np.float32)
    for color, (x, y) in zip((0, 1, 2), template, strict=False):
        picked[round(y * size - 0.5), round(x * size - 0.5), color, color] = 1
    planes = picked.transpose(2, 0, 1, 3).reshape(-1, 3)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["in"], ["flat"]),
            helper.make_node("MatMul", ["flat", "picked"], ["out"]),
        ],
        "spots",
        [helper.make_tensor_value_info("in", TensorProto.FLOAT, ["n", 3, size, size])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(planes, "picked")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


SPOTS = """
[input]
size = 32
colors = "rgb"
scale = 255
[gender]
kind = "probability"
of = "female"
numbers = [1, 2]
[age]
kind = "years"
numbers = [0, 1]
factor = 80
[crop]
"""


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("crop", "template"),
    [
        ('align = "landmarks"', CROP_LANDMARKS.tolist()),
        ('align = "landmarks"\npadding = 0.5', padded_landmarks(0.5).tolist()),
        (f'align = "landmarks"\nlandmarks = {ARCFACE}', ARCFACE),
    ],
    ids=["default", "padding", "landmarks"],
)
def test_crops_are_aligned_by_landmarks(
    folders: Path, crop: str, template: list[list[float]], engine: str
) -> None:
    """Only alignment brings the spots of a tilted face to the pixels that the model sees."""
    put(folders, "spots", at_spots(template), SPOTS + crop)
    put(folders, "boxed", at_spots(template), SPOTS + 'align = "box"')
    aligned, boxed = (
        CropReader.load(Settings(attributes=name, precision="f32", engine=engine), embeddings=False)
        for name in ("spots", "boxed")
    )
    for angle in (-50, 0, 20, 90):
        cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        landmarks = (np.array(template) - 0.5) @ np.array([[cos, sin], [-sin, cos]]) * 180 + (190, 210)
        low, high = landmarks.min(axis=0) - 30, landmarks.max(axis=0) + 30
        face = Faces.build(boxes=[[*low, *high]], scores=[0.9], landmarks=landmarks[None])
        still = Still(spotted(landmarks))
        read = aligned.read(aligned.crops(still, face))
        female, age = read.female_prob[0], read.age_years[0]
        assert age == pytest.approx(80 * 250 / 255, abs=1) and female == pytest.approx(180 / 255, abs=0.02)
        read = boxed.read(boxed.crops(still, face))
        female, age = read.female_prob[0], read.age_years[0]
        assert abs(age - 80 * 250 / 255) > 10 or abs(female - 180 / 255) > 0.1
        (crop_,) = aligned.crops(still, face)[0]
        assert crop_.shape == (32, 32, 3)


def test_a_user_calibration_is_found_beside_the_model(folders: Path, tmp_path: Path) -> None:
    """By a path too, where no folder of models is searched; and not for the same model in other crops."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    path = put(elsewhere, "spots", at_spots(ARCFACE), SPOTS + f'align = "landmarks"\nlandmarks = {ARCFACE}')
    settings = Settings(attributes=str(path))
    assert choose(settings).calibration() is Calibration.plain()
    members = choose(settings).members()
    known = calibration_file(DEFAULT_KEY)
    assert known is not None
    values = json.loads(known.read_text("utf-8")) | {"members": members}
    (elsewhere / f"{key_of(members)}.json").write_text(json.dumps(values), "utf-8")
    assert choose(settings).calibration().key == key_of(members)
    assert CropReader.load(settings, embeddings=False).calibration.key == key_of(members)
    # After `models add`, which writes the hash into the description, it is the same set.
    made = add(path)
    shutil.copy(elsewhere / f"{key_of(members)}.json", registry.cache_folder())
    assert made.path is not None
    assert choose(Settings(attributes="spots")).calibration().key == key_of(members)
    put(elsewhere, "spots", at_spots(ARCFACE), SPOTS + 'align = "landmarks"')
    assert choose(settings).calibration() is Calibration.plain()


def test_gender_and_age_from_two_models(folders: Path, picture: NDArray[np.uint8]) -> None:
    put(folders, "both", network(WEIGHTS), GENDER_AND_AGE)
    other = network(np.array([[0, 0, 0.03]], np.float32))
    text = '[input]\nsize = 16\ncolors = "rgb"\n[gender]\nkind = "logit"\nof = "female"\n'
    path = put(folders.parent, "other", other, text)
    expected = logistic(0.03 * left_half(picture, (20, 30, 60, 80))[0])
    found = estimated("both", picture, gender_model=str(path))
    assert found[0] == pytest.approx(expected, abs=0.002)
    assert found[1] == estimated("both", picture)[1]
    mixed = CropReader.load(Settings(gender_model=str(path)), embeddings=False)
    assert [one.provenance["name"] for one in mixed.models] == ["ensemble", "other"]
    with pytest.raises(ModelError, match=r"other.onnx does not estimate age.*--age-model"):
        CropReader.load(Settings(attributes=str(path)), embeddings=False)
    with pytest.raises(ModelError, match="no model nix for gender: choose one of auto, dlib, levi-hassner"):
        CropReader.load(Settings(attributes="nix"), embeddings=False)


def test_nothing_measured_means_no_shares_and_no_correction(
    folders: Path, picture: NDArray[np.uint8]
) -> None:
    put(folders, "both", network(WEIGHTS), GENDER_AND_AGE)
    attributes = CropReader.load(Settings(attributes="both"), embeddings=False)
    assert attributes.calibration is Calibration.plain() and not attributes.calibration.measured
    crops = attributes.crops(Still(picture), FACE)
    raw = attributes.read_uncalibrated(crops).female_prob
    np.testing.assert_allclose(attributes.read(crops).female_prob, raw, atol=1e-6)
    ages, spreads = np.array([30.0, 30.0]), np.array([5.0, np.nan])
    read = attributes.calibration.person(Estimates(np.zeros(2), ages, spreads, np.zeros(2), np.ones(2)))
    assert (read.low_years[0], read.high_years[0]) == pytest.approx((30 - 1.2816 * 5, 30 + 1.2816 * 5))
    assert np.isnan([read.low_years[1], read.high_years[1]]).all()


def test_hash_of_the_models_changes_with_each_of_them(folders: Path) -> None:
    path = put(folders, "both", network(WEIGHTS), GENDER_AND_AGE)
    chosen = [Settings(), Settings(detector="haar"), Settings(attributes="both"), Settings(age_model="both")]
    hashes = [models_hash(one) for one in chosen]
    assert len(set(hashes)) == len(hashes)
    path.with_suffix(".toml").write_text(GENDER_AND_AGE.replace("100", "90"))
    changed = models_hash(chosen[2])
    assert changed not in hashes
    path.write_bytes(network(2 * WEIGHTS).SerializeToString())
    assert models_hash(chosen[2]) not in (*hashes, changed)


def test_added_models_are_found_by_name_and_verified(folders: Path, tmp_path: Path) -> None:
    source = tmp_path / "elsewhere"
    source.mkdir()
    path = put(source, "both", network(WEIGHTS), GENDER_AND_AGE)
    made = add(path)
    shutil.rmtree(source)
    assert made.path is not None and made.path.parent == registry.cache_folder()
    assert descriptions() == [made.path]
    assert sha256(made.path.read_bytes()) in made.text
    assert {one.name: one.state for one in inventory()}["both"] == "ok"
    changed = bytearray(made.path.read_bytes())
    changed[-3] ^= 1
    made.path.write_bytes(changed)
    with pytest.raises(ModelError, match="not the model that its description is for"):
        CropReader.load(Settings(attributes="both"), embeddings=False)
    (installed,) = inventory(["both"], check=True)
    assert installed.state == "wrong" and "not the model" in installed.problem
    # Neither a name of the registry nor that of one of its files.
    for name in ("dlib", "face_detection_yunet_2023mar"):
        with pytest.raises(ModelError, match="a name that models list does not show"):
            add(put(tmp_path, name, network(WEIGHTS), GENDER_AND_AGE))


def test_a_description_is_copied_as_it_was_written(tmp_path: Path) -> None:
    text = GENDER_AND_AGE.replace("MIT", "free\u2028\u0085\x0cof charge")
    path = put(tmp_path, "both", network(WEIGHTS), text.replace("\x0c", ""))
    assert add(path).model.license == "free\u2028\u0085of charge"
    made = registry.cache_folder() / "both.toml"
    again = add(put(tmp_path, "both", network(WEIGHTS), made.read_bytes().decode()))
    assert again.text == made.read_bytes().decode() and again.text.count("sha256") == 1


# --- wrong and hostile files -------------------------------------------------------------------------


def _zip() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        file.writestr("both.onnx", network(WEIGHTS).SerializeToString())
    return made.getvalue()


def _outside(location: str) -> onnx.ModelProto:
    """Its weights are said to lie in another file."""
    model = network(WEIGHTS)
    tensor = next(one for one in model.graph.initializer if one.name == "weights")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    place = tensor.external_data.add()
    place.key, place.value = "location", location
    return model


def _inside_a_branch(location: str) -> onnx.ModelProto:
    """The same, hidden in a constant of an If's branch."""
    model = network(WEIGHTS)
    (tensor,) = [one for one in _outside(location).graph.initializer if one.name == "weights"]
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=tensor)],
        "branch",
        [],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, [3, 3])],
    )
    yes = helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True)))
    choice = helper.make_node("If", ["yes"], ["chosen"], then_branch=branch, else_branch=branch)
    model.graph.node.extend([yes, choice])
    return model


def _foreign() -> onnx.ModelProto:
    model = network(WEIGHTS)
    model.graph.node[1].domain = "com.example"
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    return model


def _with_batch(size: int) -> onnx.ModelProto:
    model = network(WEIGHTS)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = size
    return model


def _huge() -> onnx.ModelProto:
    """It computes an array of 80 GB for its answer."""
    model = network(WEIGHTS)
    model.graph.node[-1].output[0] = "real"
    model.graph.initializer.append(numpy_helper.from_array(np.array([20_000_000_000], np.int64), "many"))
    model.graph.node.append(helper.make_node("ConstantOfShape", ["many"], ["zeros"]))
    model.graph.node.append(helper.make_node("ReduceSum", ["zeros"], ["none"], keepdims=0))
    model.graph.node.append(helper.make_node("Add", ["real", "none"], ["out"]))
    return model


def _function(inside: str, **attributes: Any) -> onnx.ModelProto:
    """It has a function of a domain of its own, and uses another operator of that domain."""
    model = network(WEIGHTS)
    function = helper.make_function(
        "com.example",
        "Same",
        ["x"],
        ["y"],
        [helper.make_node("Identity", ["x"], ["y"])],
        [helper.make_opsetid("", 13)],
        **attributes,
    )
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    model.graph.node[1].domain = "com.example" if inside else ""
    return model


def _outside_in_a_function() -> onnx.ModelProto:
    model = _function("")
    (tensor,) = [one for one in _outside("../secret").graph.initializer if one.name == "weights"]
    model.functions[0].attribute_proto.append(helper.make_attribute("default", tensor))
    return model


def _scalar() -> onnx.ModelProto:
    model = network(WEIGHTS, batch=1)
    model.graph.output[0].type.tensor_type.shape.ClearField("dim")
    return model


def _whole_numbers() -> onnx.ModelProto:
    model = network(WEIGHTS)
    model.graph.node[-1].output[0] = "real"
    model.graph.node.append(helper.make_node("Cast", ["real"], ["out"], to=TensorProto.INT64))
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    return model


HOSTILE: dict[str, tuple[Callable[[], onnx.ModelProto | bytes], str]] = {
    "zip": (_zip, "is a zip file"),
    "pickle": (lambda: pickle.dumps([1, 2]), "is a pickle"),
    "text": (lambda: b"no network at all", "is not an ONNX model"),
    "empty": (lambda: b"", "is not an ONNX model"),
    "cut": (lambda: network(WEIGHTS).SerializeToString()[:-40], "not an ONNX model"),
    "outside": (lambda: _outside("../../../etc/passwd"), "keeps numbers in other files"),
    "absolute": (lambda: _outside("/etc/passwd"), "keeps numbers in other files"),
    "branch": (lambda: _inside_a_branch("../secret"), "keeps numbers in other files"),
    "foreign": (_foreign, "operators of com.example"),
    "foreign beside a function": (lambda: _function("ReduceMean"), "operators of com.example"),
    "outside in a function": (_outside_in_a_function, "keeps numbers in other files"),
    "negative batch": (lambda: _with_batch(-3), "takes -3 images at once"),
    "large batch": (lambda: _with_batch(1 << 22), "takes 4194304 images at once"),
    "many together": (lambda: _with_batch(100), "takes 100 images at once"),
    "scalar": (_scalar, "gives 1 numbers|gives one number for all images|shapes do not fit"),
    "whole numbers": (_whole_numbers, "does not give floating point numbers"),
    "size": (lambda: network(WEIGHTS, size=(32, 32)), "takes images of"),
    "layout": (lambda: network(WEIGHTS, last=True), "takes images of"),
    "few": (lambda: network(WEIGHTS[:2]), "gives 2 numbers"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_models_are_refused_before_anything_is_loaded_or_written(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    make, message = HOSTILE[what]
    path = put(folders, "both", make(), GENDER_AND_AGE)

    def loaded(*_: object, **__: object) -> None:
        raise AssertionError("it was given to an engine")

    for module in ("attributes.dlib", "attributes.user", "detectors.centerface", "embedding"):
        monkeypatch.setattr(f"analyzer.vision.{module}.load_model", loaded)
    with pytest.raises(ModelError, match=message) as caught:
        analyze(tmp_path / "video.mp4", attributes=str(path), out=tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ModelError, match=message):
        add(path)
    assert not registry.cache_folder().exists()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_model_that_crashes_its_engine_ends_in_a_sentence(
    folders: Path, tmp_path: Path, engine: str
) -> None:
    path = put(folders, "both", _huge(), GENDER_AND_AGE)
    with pytest.raises(ModelError, match=r"both\.onnx|the model both failed|cannot load both") as caught:
        analyze(tmp_path / "video.mp4", attributes=str(path), engine=engine, out=tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def _changed(old: str, new: str) -> str:
    assert old in GENDER_AND_AGE
    return GENDER_AND_AGE.replace(old, new)


YEARS = 'kind = "years"\nnumbers = [2, 3]\nfactor = 100'
MISFITS = {
    "no TOML": ("[[", "is not a valid TOML file"),
    "nothing estimated": ('[input]\nsize = 16\ncolors = "rgb"\n', "a table gender, a table age"),
    "size": (_changed("size = 16", "size = 4"), "input.size must be"),
    "size of text": (_changed("size = 16", 'size = "16"'), "input.size must be"),
    "huge": (_changed("size = 16", "size = 100000"), "input.size must be"),
    "colors": (_changed('"rgb"', '"RGB"'), 'input.colors must be "rgb" or "bgr"'),
    "no colors": (_changed('colors = "rgb"\n', ""), "input.colors is missing"),
    "scale": (_changed('"rgb"', '"rgb"\nscale = 0'), "input.scale must be at least"),
    "tiny scale": (_changed('"rgb"', '"rgb"\nscale = 1e-300'), "input.scale must be at least"),
    "huge number": (_changed('"rgb"', '"rgb"\nmean = 1' + "0" * 400), "input.mean must be"),
    "digits": (_changed('"rgb"', '"rgb"\nmean = 1' + "0" * 5000), "is not a valid TOML file"),
    "deep": ("a = " + "[" * 5000, "is not a valid TOML file"),
    "long": (GENDER_AND_AGE + "#" * 70_000, "is too long for the description"),
    "mean": (_changed('"rgb"', '"rgb"\nmean = [1, 2]'), "input.mean must be a number or 3 numbers"),
    "not a number": (_changed('"rgb"', '"rgb"\nmean = nan'), "input.mean must be"),
    "kind": (_changed('"logits"', '"odds"'), "gender.kind must be"),
    "classes": (_changed('"female"]', '"woman"]'), "gender.classes must be"),
    "numbers": (_changed("[0, 2]", "[2, 0]"), "gender.numbers must be"),
    "too few": (_changed("[0, 2]", "[0, 1]"), "takes 1 for gender, but names 2"),
    "beyond": (_changed("[2, 3]", "[3, 4]"), "takes 0 for age, but names 1"),
    "output": (_changed("factor = 100", 'output = "ages"'), "has no output 'ages' for age: it has out"),
    "unknown key": (_changed("factor", "faktor"), "age.faktor is not a key of a description"),
    "align": (GENDER_AND_AGE + '[crop]\nalign = "eyes"\n', 'crop.align must be "box" or "landmarks"'),
    "align of an oblong": (
        _changed("size = 16", "size = [16, 24]") + '[crop]\nalign = "landmarks"\n',
        'crop.align must be "box" for an input of 16 x 24',
    ),
    "margin of landmarks": (
        GENDER_AND_AGE + '[crop]\nalign = "landmarks"\nmargin = 0.1\n',
        "crop.margin is not a key",
    ),
    "padding of a box": (GENDER_AND_AGE + "[crop]\npadding = 0.1\n", "crop.padding is not a key"),
    "padding": (
        GENDER_AND_AGE + '[crop]\nalign = "landmarks"\npadding = 4\n',
        "crop.padding must be between 0 and 3",
    ),
    "padding and landmarks": (
        GENDER_AND_AGE + f'[crop]\nalign = "landmarks"\npadding = 0.2\nlandmarks = {ARCFACE}\n',
        "crop.padding is not a key",
    ),
    "four landmarks": (
        GENDER_AND_AGE + f'[crop]\nalign = "landmarks"\nlandmarks = {ARCFACE[:4]}\n',
        "crop.landmarks must be five points",
    ),
    "landmarks in pixels": (
        GENDER_AND_AGE + f'[crop]\nalign = "landmarks"\nlandmarks = {[[38, 51], *ARCFACE[1:]]}\n',
        "crop.landmarks must be five points",
    ),
    "one landmark five times": (
        GENDER_AND_AGE + f'[crop]\nalign = "landmarks"\nlandmarks = {ARCFACE[:1] * 5}\n',
        "crop.landmarks must be five points",
    ),
    "unknown table": (GENDER_AND_AGE + "[smile]\n", "smile is not a key"),
    "hash": (_changed('license = "MIT"', 'sha256 = "abc"'), "sha256 must be 64 hex digits"),
    "other hash": (_changed('license = "MIT"', f'sha256 = "{"0" * 64}"'), "not the model that its"),
    "ranges": (
        _changed(YEARS, 'kind = "logits"\nranges = [[0, 5], [3, 9]]'),
        "age.ranges must be",
    ),
    "as many ranges": (
        _changed(YEARS, 'kind = "logits"\nranges = [[0, 5], [6, 9]]'),
        "gives 3 numbers, of which the description takes 3 for age, but names 2",
    ),
}


@pytest.mark.parametrize("what", MISFITS)
def test_descriptions_that_do_not_fit_are_refused(folders: Path, tmp_path: Path, what: str) -> None:
    text, message = MISFITS[what]
    put(folders, "both", network(WEIGHTS), text)
    with pytest.raises(ModelError, match=message.replace("[", r"\[")) as caught:
        analyze(tmp_path / "video.mp4", attributes="both", out=tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_model_without_a_description_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "lone.onnx"
    path.write_bytes(network(WEIGHTS).SerializeToString())
    with pytest.raises(ModelError, match=r"needs a description beside it, lone.toml: docs/models.md"):
        described(path)
    with pytest.raises(ModelError, match=r"there is no model .*nix.onnx: check the path"):
        CropReader.load(Settings(attributes=str(tmp_path / "nix.onnx")), embeddings=False)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_model_that_gives_no_numbers_is_refused(folders: Path, engine: str) -> None:
    put(folders, "both", network(np.full((3, 3), np.nan, np.float32)), GENDER_AND_AGE)
    with pytest.raises(ModelError, match="gives no finite numbers for a plain gray image"):
        CropReader.load(Settings(attributes="both", engine=engine), embeddings=False)


@pytest.mark.parametrize("engine", ENGINES)
def test_one_answer_for_all_images_is_refused(folders: Path, engine: str) -> None:
    model = network(WEIGHTS)
    model.graph.node[-1].output[0] = "each"
    model.graph.node.append(helper.make_node("ReduceMean", ["each"], ["out"], axes=[0], keepdims=1))
    put(folders, "both", model, GENDER_AND_AGE)
    with pytest.raises(ModelError, match="does not give one answer for each of several images"):
        CropReader.load(Settings(attributes="both", engine=engine), embeddings=False)


def test_sizes_that_the_file_does_not_state_are_checked_on_an_image(folders: Path) -> None:
    model = network(WEIGHTS[:2])
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "any"
    put(folders, "both", model, GENDER_AND_AGE)
    assert read_onnx(described(folders / "both.onnx")).outputs == ("out",)
    with pytest.raises(ModelError, match="gives 2 numbers, of which the description takes 0 for age"):
        CropReader.load(Settings(attributes="both"), embeddings=False)


@pytest.mark.parametrize("name", LEVI_HASSNER)
def test_one_changed_byte_of_a_caffemodel_is_refused(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    model = registry.MODELS[name]
    weights = dataclasses.replace(model.files[0], git_blob=git_blob(CONTENT))
    changed = dataclasses.replace(model, files=(weights, *model.files[1:]))
    description = dataclasses.replace(LEVI_HASSNER[name], model=changed)
    monkeypatch.setitem(LEVI_HASSNER, name, description)
    content = bytearray(CONTENT)
    content[1234] ^= 1
    (folders / weights.name).write_bytes(content)
    monkeypatch.setattr(cv2.dnn, "readNetFromCaffe", lambda *_: pytest.fail("it was loaded"))
    option = {f"{model.role}_model": name}
    with pytest.raises(ModelError, match=f"{weights.name} is not the file of the model {name}"):
        analyze(tmp_path / "video.mp4", out=tmp_path / "out", **option)
    assert not (tmp_path / "out").exists()


# --- licenses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"detector": "ssd"}, "ssd"),
        ({"attributes": "levi-hassner"}, "levi-hassner-age"),
        ({"gender_model": "levi-hassner"}, "levi-hassner-gender"),
    ],
)
def test_commercial_refuses_what_no_license_allows(
    tmp_path: Path, settings: dict[str, str], name: str
) -> None:
    with pytest.raises(ModelError, match=f"--commercial refuses the model {name}, because its license"):
        analyze(tmp_path / "video.mp4", out=tmp_path / "out", commercial=True, **settings)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("allowed", "works"), [("true", True), ("false", False), ("", False)])
def test_commercial_follows_the_description(folders: Path, allowed: str, works: bool) -> None:
    line = f"commercial_use = {allowed}" if allowed else ""
    put(folders, "both", network(WEIGHTS), GENDER_AND_AGE.replace("commercial_use = true", line))
    settings = Settings(attributes="both", commercial=True)
    if works:
        assert choose(settings).models
    else:
        with pytest.raises(ModelError, match="refuses the model both"):
            choose(settings)


def test_commercial_has_a_calibration_from_free_data_alone() -> None:
    research = choose(Settings(attributes="dlib"))
    assert research.calibration().commercial_use is False
    assert choose(Settings(attributes="dlib", commercial=True)).calibration() is Calibration.plain()
    assert choose(Settings()).calibration() is Calibration.load()
    free = choose(Settings(commercial=True)).calibration()
    assert free.measured and free.commercial_use is True and "public domain" in free.license
    assert "UTKFace" not in free.fitted_on + free.license


# --- the commands ------------------------------------------------------------------------------------


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["models", *arguments])
    assert "Traceback" not in result.output
    return result.exit_code, result.output


def test_commands_list_show_verify_and_add(folders: Path, tmp_path: Path) -> None:
    path = put(tmp_path, "both", network(WEIGHTS), GENDER_AND_AGE)
    (folders / "broken.onnx").touch()
    (folders / "broken.toml").write_text("[[")
    code, output = run("list")
    assert code == 0 and all(name in output for name in registry.MODELS) and "damaged" in output
    code, output = run("list", "--json")
    listed = {one["name"]: one for one in json.loads(output)}
    assert listed["centerface"]["state"] == "ok" and listed["ssd"]["state"] == "missing"
    code, output = run("add", str(path))
    assert code == 0 and output.strip() == str(registry.cache_folder() / "both.onnx")
    code, output = run("show", "both")
    assert code == 0 and "MIT" in output and "16x16 RGB" in output
    assert json.loads(run("show", "both", "--json")[1])["commercial_use"] is True
    assert run("verify", "both", "centerface") == (0, run("verify", "both", "centerface")[1])
    assert run("verify")[0] == 1  # broken
    assert run("verify", "ssd")[0] == 1  # named, and not here
    code, output = run("show", "nix")
    assert code == 3 and output.startswith("Error: there is no model nix")
    (tmp_path / "text.txt").write_text("text")
    for name, why in {
        "nix.onnx": f"there is no file {tmp_path / 'nix.onnx'}",
        "text.txt": "text.txt is not an .onnx file",
        "": f"{tmp_path} is a folder",
    }.items():
        code, output = run("add", str(tmp_path / name))
        assert code == 3 and why in " ".join(output.split())


def test_command_pull(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.MODELS, "net", entry(f"{address}/right"))
    code, output = run("pull", "net")
    assert (code, output.strip()) == (0, str(registry.cache_folder() / "net.bin"))
    assert run("pull", "net")[1].strip() == "net is already on this machine"
    assert run("pull", "centerface")[1].strip() == "centerface is already on this machine"
    monkeypatch.setitem(registry.MODELS, "net", entry(f"{address}/wrong", b"other"))
    code, output = run("pull", "net")
    assert code == 3 and "nothing was kept" in output
    assert (registry.cache_folder() / "net.bin").read_bytes() == CONTENT
    assert run("pull", "nix")[0] == 3


def test_command_pull_accepts_values_of_attributes(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in registry.SETS["levi-hassner"]:
        model = entry(f"{address}/right")
        (file,) = model.files
        made = dataclasses.replace(model, name=name, files=(dataclasses.replace(file, name=f"{name}.bin"),))
        monkeypatch.setitem(registry.MODELS, name, made)
        with pytest.raises(ModelError, match=r"models pull levi-hassner,"):  # one command for both
            registry.read(made, made.files[0])
    code, output = run("pull", "levi-hassner")
    names = ["levi-hassner-gender", "levi-hassner-age"]
    assert (code, [Path(line).stem for line in output.splitlines()]) == (0, names)
    assert all((registry.cache_folder() / f"{name}.bin").read_bytes() == CONTENT for name in names)
    assert run("pull", "levi-hassner")[1].strip() == "levi-hassner is already on this machine"
    assert run("pull", "dlib")[1].strip() == "dlib is already on this machine"
    assert run("verify", "levi-hassner")[0] == 0
    assert [one["name"] for one in json.loads(run("show", "levi-hassner", "--json")[1])] == names
    assert all(name in run("show", "levi-hassner")[1] for name in names)
