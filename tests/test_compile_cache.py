"""Compiled models are kept between processes: the results are the same, and nothing depends on the cache."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import openvino
import pytest
from numpy.typing import NDArray

from analyzer.settings import Settings
from analyzer.vision import compile_cache, registry, runtime
from analyzer.vision.attributes.dlib import DlibModel
from analyzer.vision.detectors.centerface import CenterFace
from analyzer.vision.embedding import DlibEmbedding
from analyzer.vision.preprocessing import DLIB_PIXELS, Pixels
from analyzer.vision.quantize import Ranges
from analyzer.vision.runtime import load_model

ROOT = Path(__file__).parents[1]

Arrays = list[NDArray[np.float32]]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv(compile_cache.CACHE_VARIABLE, str(tmp_path / "compiled"))
    return tmp_path / "compiled"


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """A list that grows with each model that is compiled in this process."""
    made: list[object] = []
    real = openvino.Core.compile_model

    def compile_model(core: openvino.Core, *values: object) -> object:
        made.append(values)
        return real(core, *values)

    monkeypatch.setattr(openvino.Core, "compile_model", compile_model)
    runtime.int8_overflows()  # it compiles a model once
    made.clear()
    return made


def load(settings: Settings | None = None, **options: object) -> runtime.CompiledModel:
    """The smallest of the default models."""
    chosen = settings or Settings(threads=1)
    content = registry.weights(registry.GENDER)
    wanted: dict[str, object] = {"name": "gender", "pixels": DLIB_PIXELS, "batch": 2} | options
    return load_model(content, chosen, **wanted)  # type: ignore[arg-type]


def faces(count: int = 3, side: int = 32) -> list[NDArray[np.uint8]]:
    random = np.random.default_rng(11)
    return [random.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(count)]


def assert_same(one: Arrays, other: Arrays) -> None:
    assert len(one) == len(other) > 0
    for ours, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("precision", "every"),
    [
        ("auto", False),
        *(pytest.param(one, True, marks=pytest.mark.slow) for one in ("auto", "f32", "int8")),
    ],
)
def test_results_are_bit_identical_with_and_without_the_cache(
    precision: str,
    every: bool,
    two_portraits: tuple[NDArray[np.uint8], ...],
    monkeypatch: pytest.MonkeyPatch,
    compilations: list[object],
) -> None:
    settings = Settings(precision=precision, threads=2)
    portrait = np.ascontiguousarray(two_portraits[0][:, :, ::-1])

    def results() -> tuple[list[str], Arrays]:
        detector, gender = CenterFace(settings), DlibModel(registry.GENDER, settings)
        image = np.ascontiguousarray(cv2.resize(portrait, detector.input_size(300, 320)))
        found = detector.detect([image], [(300, 320)])[0]
        female = gender.estimate(faces(5, 64)).female
        assert female is not None
        arrays = [found.boxes, found.scores, found.landmarks, female]
        engines = [str(one.provenance["engine"]) for one in (detector, gender)]
        if every:
            age, embedding = DlibModel(registry.AGE, settings), DlibEmbedding(settings)
            answer = age.estimate(faces(5, 64))
            assert answer.age_years is not None and answer.std_years is not None
            arrays += [answer.age_years, answer.std_years, embedding.embed(faces(5, 150))]
            engines += [str(one.provenance["engine"]) for one in (age, embedding)]
        return engines, arrays

    with monkeypatch.context() as patch:
        patch.setenv(compile_cache.CACHE_VARIABLE, compile_cache.OFF)
        engines, without = results()
    first, count = results(), 2 * len(engines)
    assert len(compilations) == count
    second = results()
    assert len(compilations) == count, "a cached model was compiled again"
    assert engines == first[0] == second[0]
    assert_same(without, first[1])
    assert_same(without, second[1])
    assert len(without[0]) == 1


def test_a_second_process_neither_compiles_nor_imports_onnx(folder: Path) -> None:
    code = (
        "import sys, openvino; from analyzer.analysis.segment import Models;"
        "from analyzer.settings import Settings; calls = []; real = openvino.Core.compile_model;"
        "openvino.Core.compile_model = lambda *values: calls.append(1) or real(*values);"
        "Models.load(Settings(threads=1)); print(len(calls), 'onnx' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    seen = [
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment
        ).stdout.split()
        for _ in range(2)
    ]
    assert int(seen[0][0]) >= 4 and seen[0][1] == "True"
    assert seen[1] == ["0", "False"]
    # One for each, and for the aligner's larger batches.
    assert len(list(folder.iterdir())) == len(registry.NETWORKS) + 2


def test_every_input_of_a_model_has_its_own_entry(folder: Path, compilations: list[object]) -> None:
    ranges = Ranges({}, "same")
    for settings, options in (
        (Settings(threads=1), {}),
        (Settings(threads=2), {}),
        (Settings(threads=1, precision="f32"), {}),
        (Settings(threads=1), {"batch": 1}),
        (Settings(threads=1), {"pixels": Pixels()}),
        (Settings(threads=1), {"size": (32, 32)}),
        (Settings(threads=1), {"convert": _reversed_twice}),
    ):
        before = len(compilations)
        load(settings, **options)
        assert len(compilations) == before + 1, options
        load(settings, **options)
        assert len(compilations) == before + 1, options
    assert compile_cache.key_of(ranges) != compile_cache.key_of(Ranges({"x": (0.0, 1.0)}, "same"))
    assert len(list(folder.iterdir())) == 7


def _reversed_twice(content: bytes) -> bytes:
    return content[::-1][::-1]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _nonsense(path: Path) -> None:
    path.write_bytes(b"[]\n" + b"x" * 100)


def _no_model(path: Path) -> None:
    """An entry with the right hash that no OpenVINO takes."""
    engine = json.loads(path.read_bytes().split(b"\n", 1)[0])["engine"]
    compile_cache.store(path.stem, engine, b"no model")


def _of_another(path: Path) -> None:
    compile_cache.store("0" * 40, "another", b"no model")
    path.write_bytes(path.with_name(f"{'0' * 40}.compiled").read_bytes())


@pytest.mark.parametrize("damage", [_cut, _flip, _empty, _nonsense, _no_model, _of_another])
def test_a_damaged_entry_is_computed_anew(
    folder: Path, compilations: list[object], damage: Callable[[Path], None]
) -> None:
    right = load().run(faces())
    (path,) = folder.iterdir()
    damage(path)
    again = load()
    assert len(compilations) == 2 and again.engine.startswith("openvino ")
    assert_same(again.run(faces()), right)
    load()
    assert len(compilations) == 2, "the damaged entry was not replaced"


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no POSIX permissions")
def test_an_entry_that_others_may_write_is_not_trusted(folder: Path, compilations: list[object]) -> None:
    load()
    (path,) = folder.iterdir()
    assert not folder.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    for writable in (path, folder):
        mode = writable.stat().st_mode
        writable.chmod(mode | stat.S_IWOTH)
        before = len(compilations)
        load()
        assert len(compilations) == before + 1, writable
        writable.chmod(mode)


def _is_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del monkeypatch
    folder.touch()


def _is_full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del folder

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compile_cache.tempfile, "mkstemp", full)


def _is_locked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del folder

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", denied)


@pytest.mark.parametrize("broken", [_is_a_file, _is_full, _is_locked])
def test_a_cache_that_cannot_be_written_is_no_error(
    folder: Path,
    compilations: list[object],
    monkeypatch: pytest.MonkeyPatch,
    broken: Callable[[Path, pytest.MonkeyPatch], None],
) -> None:
    broken(folder, monkeypatch)
    for count in (1, 2):
        assert len(load().run(faces())[0]) == 3
        assert len(compilations) == count
    assert not folder.is_dir() or list(folder.iterdir()) == []


def test_a_cache_that_is_off_is_neither_read_nor_written(
    folder: Path, compilations: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    load()
    monkeypatch.setenv(compile_cache.CACHE_VARIABLE, compile_cache.OFF)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    load()
    assert len(compilations) == 2 and compile_cache.compiled_folder() is None
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert compile_cache.prune(0) == 0


def test_what_killed_processes_left_unfinished_is_removed(folder: Path) -> None:
    compile_cache.store("a", "engine", b"x")
    old, new = folder / ".old.part", folder / ".new.part"
    for path in (old, new):
        path.write_bytes(b"x")
    os.utime(old, (1, 1))
    compile_cache.prune()
    assert sorted(path.name for path in folder.iterdir()) == [".new.part", "a.compiled"]


def test_entries_unused_for_longest_go_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, name in enumerate("abcd"):
        compile_cache.store(name, "engine", b"x" * 1000)
        os.utime(folder / f"{name}.compiled", (number, number))
    assert compile_cache.load("a") == ("engine", b"x" * 1000)  # used now
    size = (folder / "a.compiled").stat().st_size
    assert compile_cache.prune(2 * size) == 2 * size
    assert sorted(path.stem for path in folder.iterdir()) == ["a", "d"]
    monkeypatch.setattr(compile_cache.store.__globals__["prune"], "__defaults__", (size,))
    compile_cache.store("e", "engine", b"x" * 1000)
    assert [path.stem for path in folder.iterdir()] == ["e"]
