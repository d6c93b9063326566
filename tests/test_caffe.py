"""OpenCV reads the made Caffe files, and computes what NumPy computes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from testkit import caffe

# Seen: 4e-6 at most.
TOLERANCE = 1e-4
# A layer without its biases changes the answer by 1e-3 and more, other pixels by 0.17 and more.
SEEN, CLEAR = 5e-4, 0.05

Images = tuple[NDArray[np.uint8], NDArray[np.uint8]]


class Loaded(NamedTuple):
    """A model in OpenCV, and the weights in it."""

    net: cv2.dnn.Net
    weights: caffe.Weights

    def answer(self, blob: NDArray[np.float32]) -> NDArray[np.float32]:
        self.net.setInput(blob)
        return self.net.forward().copy()


@pytest.fixture(scope="module")
def files() -> Iterator[Path]:
    """A folder with the files; 90 MB are not left to pytest, which keeps the folders of three runs."""
    with tempfile.TemporaryDirectory() as folder:
        yield caffe.classic_files(Path(folder))


@pytest.fixture(scope="module", params=["age", "gender"])
def model(request: pytest.FixtureRequest, files: Path) -> Loaded:
    """Each of the two."""
    what = request.param
    buffers = [(files / name).read_bytes() for name in (f"{what}_deploy.prototxt", f"{what}_net.caffemodel")]
    net = cv2.dnn.readNetFromCaffe(*(np.frombuffer(buffer, np.uint8) for buffer in buffers))
    return Loaded(net, caffe.made_weights(caffe.CLASSES[what], caffe.SEEDS[what]))


@pytest.fixture(scope="module")
def images(two_portraits: Images) -> Images:
    """Two portraits in BGR."""
    first, second = (np.ascontiguousarray(portrait[:, :, ::-1]) for portrait in two_portraits)
    return first, second


def _blob(
    image: NDArray[np.uint8], rgb: bool = False, means: tuple[float, ...] = caffe.MEANS_BGR
) -> NDArray[np.float32]:
    return cv2.dnn.blobFromImage(image, 1.0, (caffe.SIDE_PX, caffe.SIDE_PX), means, rgb, crop=False)


def test_opencv_gives_what_numpy_computes(model: Loaded, images: Images) -> None:
    for image in images:
        blob = _blob(image)
        expected = caffe.forward(model.weights, blob)
        assert expected.shape == model.weights["fc8"][1].shape
        assert expected.sum() == pytest.approx(1)
        np.testing.assert_allclose(model.answer(blob), expected[None], rtol=0, atol=TOLERANCE)


def test_a_batch_gives_what_its_images_give(model: Loaded, images: Images) -> None:
    blobs = [_blob(image) for image in images]
    alone = np.concatenate([model.answer(blob) for blob in blobs])
    np.testing.assert_allclose(model.answer(np.concatenate(blobs)), alone, rtol=0, atol=TOLERANCE)


def test_other_images_channels_and_means_change_the_answer(model: Loaded, images: Images) -> None:
    blobs = {
        "image": (_blob(images[0]), _blob(images[1])),
        "channels": (_blob(images[0]), _blob(images[0], rgb=True)),
        "means": (_blob(images[0]), _blob(images[0], means=(0, 0, 0))),
    }
    for what, (blob, other) in blobs.items():
        answers = model.answer(blob), model.answer(other)
        assert np.abs(answers[0] - answers[1]).max() > CLEAR, what
        assert answers[0].max() < 0.99, "saturated"


def test_small_mistakes_would_be_seen(model: Loaded, images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    """The biases that matter least left out, and a normalization left out."""
    blob = _blob(images[0])
    answer = model.answer(blob)[0]

    def deviation(weights: caffe.Weights) -> float:
        return float(np.abs(caffe.forward(weights, blob) - answer).max())

    for name in ("conv1", "fc7"):
        matrix, bias = model.weights[name]
        assert deviation(model.weights | {name: (matrix, 0 * bias)}) > SEEN, name
    for name in ("conv1", "conv2"):
        monkeypatch.setattr(caffe, "_NORMED", (name,))
        assert deviation(model.weights) > SEEN, f"only {name} is normalized"
