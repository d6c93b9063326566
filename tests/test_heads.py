"""Heads: what they read, what they compute, and what is refused."""

from __future__ import annotations

import io
import itertools
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from analyzer.analysis.segment import Models
from analyzer.errors import ModelError
from analyzer.faces import Faces
from analyzer.media.frame import Still
from analyzer.settings import Settings
from analyzer.vision import registry
from analyzer.vision.attributes.dlib import GENDER_CROP_PX, DlibModel
from analyzer.vision.attributes.heads import AGES_YEARS, FEATURES, Head, HeadModel, with_outputs
from analyzer.vision.crops import AGE_CROP_PX, DLIB_CROP, EMBEDDING_CROP
from analyzer.vision.embedding import DlibEmbedding
from analyzer.vision.reader import CropReader
from analyzer.vision.selection import choose

Arrays = dict[str, NDArray[Any]]


def arrays(hidden: int = 7, seed: int = 0) -> Arrays:
    """A head with one hidden layer."""
    random = np.random.default_rng(seed)
    sizes = (FEATURES, hidden, len(AGES_YEARS) + 1)
    made: Arrays = {"mean": random.normal(size=FEATURES), "factor": random.uniform(0.5, 2, FEATURES)}
    for number, (before, after) in enumerate(itertools.pairwise(sizes)):
        made[f"w{number}"] = random.normal(size=(before, after)) / np.sqrt(before)
        made[f"b{number}"] = random.normal(size=after)
    return {name: values.astype(np.float16) for name, values in made.items()}


def content(values: Arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **values)
    return buffer.getvalue()


def found_in(image: NDArray[np.uint8], models: Models) -> Faces:
    """The clearest face, aligned."""
    height, width = image.shape[:2]
    scaled = cv2.resize(image, models.detector.input_size(width, height)).astype(np.uint8)
    (faces,) = models.detector.detect([scaled], [(width, height)])
    assert models.aligner is not None
    return models.aligner.align(Still(image), faces[:1])


def test_a_head_is_what_its_layers_say() -> None:
    values = arrays()
    features = np.random.default_rng(1).normal(size=(5, FEATURES)).astype(np.float32)
    read = Head.parsed(content(values))(features)
    wide = {name: array.astype(np.float64) for name, array in values.items()}
    hidden = np.maximum(((features - wide["mean"]) * wide["factor"]) @ wide["w0"] + wide["b0"], 0)
    outputs = hidden @ wide["w1"] + wide["b1"]
    shares = np.exp(outputs[:, :101])
    shares /= shares.sum(axis=1, keepdims=True)
    age = shares @ np.arange(101)
    spread = np.sqrt(shares @ np.arange(101) ** 2 - age**2)
    assert read.female is not None and read.age_years is not None and read.std_years is not None
    np.testing.assert_allclose(read.female, 1 / (1 + np.exp(-outputs[:, 101])), rtol=1e-3)
    np.testing.assert_allclose(read.age_years, age, rtol=1e-3)
    np.testing.assert_allclose(read.std_years, spread, rtol=1e-2)


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"no NPZ file",
        content(arrays())[:5000],
        content({name: one for name, one in arrays().items() if name != "mean"}),
        content({name: one for name, one in arrays().items() if name != "b1"}),
        content({"mean": np.zeros(FEATURES), "factor": np.ones(FEATURES)}),
        content(arrays() | {"w0": np.zeros((FEATURES - 1, 7))}),
        content(arrays() | {"w1": np.zeros((7, 50)), "b1": np.zeros(50)}),
        content(arrays() | {"mean": np.full(FEATURES, np.nan)}),
        content(arrays() | {"mean": np.array(["pickled", None], object)}),
    ],
    ids=["empty", "text", "cut", "no mean", "no biases", "no layers", "sizes", "outputs", "nan", "objects"],
)
def test_a_damaged_head_is_refused(damaged: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError):
        Head.parsed(damaged)
    monkeypatch.setattr(registry, "weights", lambda model: damaged)
    with pytest.raises(ModelError, match="the model heads is damaged") as caught:
        HeadModel(registry.HEADS, Settings())
    assert "\n" not in str(caught.value)


def test_inner_values_become_outputs() -> None:
    made = onnx.load_model_from_string(with_outputs(registry.weights(registry.AGE), ["layer_1_flatten"]))
    assert [one.name for one in made.graph.output] == ["probabilities", "layer_1_flatten"]
    with pytest.raises(ValueError, match="no value nix"):
        with_outputs(registry.weights(registry.AGE), ["nix"])


def test_features_are_those_of_the_three_networks(
    models: Models, exact: Settings, two_portraits: tuple[NDArray[np.uint8], ...]
) -> None:
    head = HeadModel(registry.HEADS, exact)
    image = np.ascontiguousarray(two_portraits[0][:, :, ::-1])
    faces = found_in(image, models)
    (crop,) = EMBEDDING_CROP.crop(Still(image), faces)
    features = head.backbones.features([crop])
    assert features.shape == (1, FEATURES) and features.dtype == np.float32
    np.testing.assert_allclose(features[0, :128], DlibEmbedding(exact).embed([crop])[0], atol=1e-4)
    # In the order: embedding 128 + 256, ages 81 + 256, genders 2 + 16.
    ages, genders = features[0, 384:465], features[0, 721:723]
    assert ages.sum() == pytest.approx(1, abs=1e-4) and genders.sum() == pytest.approx(1, abs=1e-4)
    # Its middle is nearly the crop that dlib's networks were trained on.
    (own,) = DLIB_CROP.crop(Still(image), faces)
    inner = cv2.resize(crop[5:145, 5:145], (AGE_CROP_PX, AGE_CROP_PX), interpolation=cv2.INTER_AREA)
    assert np.abs(inner.astype(int) - own).mean() < 4
    age = DlibModel(registry.AGE, exact).estimate([own]).age_years
    female = DlibModel(registry.GENDER, exact).estimate([cv2.resize(own, (GENDER_CROP_PX,) * 2)]).female
    assert age is not None and female is not None
    assert ages @ np.r_[0.25, 1:81] == pytest.approx(float(age[0]), abs=4)
    assert genders[0] == pytest.approx(float(female[0]), abs=0.1)


def test_embeddings_and_estimates_come_from_one_crop(
    models: Models, exact: Settings, two_portraits: tuple[NDArray[np.uint8], ...]
) -> None:
    image = np.ascontiguousarray(two_portraits[0][:, :, ::-1])
    faces = found_in(image, models)
    reader = models.reader
    assert isinstance(reader, CropReader)
    ((crop,),) = reader.crops(Still(image), faces)
    assert crop.shape == (150, 150, 3)
    other = CropReader.load(exact.replace(attributes="dlib"))
    assert [one.shape[0] for one in other.crops(Still(image), faces)[0]] == [AGE_CROP_PX, 150]
    vectors = [one.read(one.crops(Still(image), faces)).embeddings for one in (reader, other)]
    np.testing.assert_allclose(*vectors, atol=1e-4)


def test_networks_that_a_head_reads_are_part_of_a_run(models: Models) -> None:
    names = [one["name"] for one in models.provenance]
    assert names[-5:] == ["ensemble", "heads", "dlib-resnet", "dlib-age", "dlib-gender"]
    assert len(set(names)) == len(names)
    assert all(one["engine"] and one["license"] for one in models.provenance)
    choice = choose(Settings())
    assert choice.computes_embeddings and choice.age == choice.gender == registry.ENSEMBLE
    assert not choose(Settings(attributes="dlib")).computes_embeddings
    # Another file of a network that is read makes another set of models.
    other = replace(registry.AGE, files=(replace(registry.AGE.files[0], sha256=("0" * 64,)),))
    before = choice.members()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.MODELS, "dlib-age", other)
        assert choose(Settings()).members() != before


def test_commercial_runs_use_the_heads_trained_on_free_data() -> None:
    choice = choose(Settings(commercial=True))
    assert choice.age == choice.gender == registry.HEADS_FREE
    assert all(model.commercial_use for model in choice.models)
    assert choose(Settings(gender_model="auto", commercial=True)).gender == registry.HEADS_FREE
    with pytest.raises(ModelError, match="refuses the model heads,"):
        choose(Settings(commercial=True, attributes="heads"))
