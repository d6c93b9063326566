"""The made Caffe files are what OpenCV reads, and the NumPy answers are its answers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import caffe

# Seen: 4e-6 at most.
TOLERANCE = 1e-4
# A layer without its biases changes the answer by 1e-3 and more, other pixels by 0.17 and more.
SEEN, CLEAR = 5e-4, 0.05

Pictures = tuple[NDArray[np.uint8], NDArray[np.uint8]]


class Network(NamedTuple):
    """What OpenCV loaded, and the weights in it."""

    loaded: cv2.dnn.Net
    weights: caffe.Weights

    def answer(self, blob: NDArray[np.float32]) -> NDArray[np.float32]:
        self.loaded.setInput(blob)
        return self.loaded.forward().copy()


@pytest.fixture(scope="module")
def files() -> Iterator[Path]:
    """A folder with the files; 90 MB are not left to pytest, which keeps the folders of three runs."""
    with tempfile.TemporaryDirectory() as folder:
        yield caffe.classic_files(Path(folder))


@pytest.fixture(scope="module", params=["age", "gender"])
def network(request: pytest.FixtureRequest, files: Path) -> Network:
    """Each of the two."""
    what = request.param
    buffers = [(files / name).read_bytes() for name in (f"{what}_deploy.prototxt", f"{what}_net.caffemodel")]
    loaded = cv2.dnn.readNetFromCaffe(*(np.frombuffer(buffer, np.uint8) for buffer in buffers))
    return Network(loaded, caffe.made_weights(caffe.CLASSES[what], caffe.SEEDS[what]))


@pytest.fixture(scope="module")
def pictures(two_portraits: Pictures) -> Pictures:
    """Two portraits in BGR."""
    first, second = (np.ascontiguousarray(portrait[:, :, ::-1]) for portrait in two_portraits)
    return first, second


def _blob(
    picture: NDArray[np.uint8], rgb: bool = False, means: tuple[float, ...] = caffe.MEANS_BGR
) -> NDArray[np.float32]:
    return cv2.dnn.blobFromImage(picture, 1.0, (caffe.SIDE_PX, caffe.SIDE_PX), means, rgb, crop=False)


def test_opencv_gives_what_numpy_computes(network: Network, pictures: Pictures) -> None:
    for picture in pictures:
        blob = _blob(picture)
        expected = caffe.forward(network.weights, blob)
        assert expected.shape == network.weights["fc8"][1].shape
        assert expected.sum() == pytest.approx(1)
        np.testing.assert_allclose(network.answer(blob), expected[None], rtol=0, atol=TOLERANCE)


def test_a_batch_gives_what_its_pictures_give(network: Network, pictures: Pictures) -> None:
    blobs = [_blob(picture) for picture in pictures]
    alone = np.concatenate([network.answer(blob) for blob in blobs])
    np.testing.assert_allclose(network.answer(np.concatenate(blobs)), alone, rtol=0, atol=TOLERANCE)


def test_other_pictures_channels_and_means_change_the_answer(network: Network, pictures: Pictures) -> None:
    blobs = {
        "picture": (_blob(pictures[0]), _blob(pictures[1])),
        "channels": (_blob(pictures[0]), _blob(pictures[0], rgb=True)),
        "means": (_blob(pictures[0]), _blob(pictures[0], means=(0, 0, 0))),
    }
    for what, (blob, other) in blobs.items():
        answers = network.answer(blob), network.answer(other)
        assert np.abs(answers[0] - answers[1]).max() > CLEAR, what
        assert answers[0].max() < 0.99, "saturated"


def test_small_mistakes_would_be_seen(
    network: Network, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The biases that matter least left out, and a normalization left out."""
    blob = _blob(pictures[0])
    answer = network.answer(blob)[0]

    def deviation(weights: caffe.Weights) -> float:
        return float(np.abs(caffe.forward(weights, blob) - answer).max())

    for name in ("conv1", "fc7"):
        matrix, bias = network.weights[name]
        assert deviation(network.weights | {name: (matrix, 0 * bias)}) > SEEN, name
    for name in ("conv1", "conv2"):
        monkeypatch.setattr(caffe, "_NORMED", (name,))
        assert deviation(network.weights) > SEEN, f"only {name} is normalized"
