"""What the tests share: development data where present, loaded networks, made portraits."""

from __future__ import annotations

import dataclasses
import functools
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from analyzer.analysis.segment import Models
from analyzer.settings import Settings
from analyzer.vision.compile_cache import CACHE_VARIABLE
from analyzer.vision.selection import models_hash
from testkit.demo import portraits
from testkit.faces import SHARED
from testkit.media import numbered, write_video
from testkit.videos import wall

CLIPS = SHARED / "clips"
OURS = ("read-ahead", "fetch", "live", "publish_0", "egress")
"""Names of the threads that the project starts."""
_LOAD = Models.load


@functools.lru_cache(maxsize=4)
def _loaded(settings: Settings, known_as: str) -> Models:
    return _LOAD(settings)


def load_once(settings: Settings) -> Models:
    """`Models.load`; what it has loaded serves all tests of a process, as it serves all videos of a batch."""
    if settings.device == "cuda":
        return _LOAD(settings)  # of a device that tests make up
    names = [
        one.name for one in dataclasses.fields(Settings) if one.metadata["group"] in ("models", "machine")
    ]
    chosen = {name: getattr(settings, name) for name in names} | {"workers": 1}
    return _loaded(Settings(**chosen), models_hash(settings))


def pytest_configure(config: pytest.Config) -> None:
    """Load networks once; give each of several test processes processors of its own, while there are any.

    Threads that compute a network together wait for the slowest of them: two processes on the same two
    processors take twice as long as one after the other.
    """
    patch = pytest.MonkeyPatch()
    patch.setattr(Models, "load", load_once)
    if CACHE_VARIABLE not in os.environ:  # compiled once for all processes, outside of the user's cache
        patch.setenv(CACHE_VARIABLE, str(Path(tempfile.gettempdir(), f"analyzer-tests-{os.getuid()}")))
    config.add_cleanup(patch.undo)
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is not None and hasattr(os, "sched_setaffinity"):
        every, count = sorted(os.sched_getaffinity(0)), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        number = int(worker.removeprefix("gw")) % count
        os.sched_setaffinity(0, every[number::count] or every)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests that need the development data where it is absent, unless it is required."""
    if SHARED.is_dir() or os.environ.get("ANALYZER_FAIL_WITHOUT_SHARED"):
        return
    for item in items:
        if "shared" in item.keywords:
            item.add_marker(pytest.mark.skip(reason=f"no development data at {SHARED.name}"))


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Every thread that a test starts has ended with it."""
    before = set(threading.enumerate())
    yield
    left = [thread for thread in threading.enumerate() if thread not in before and thread.name in OURS]
    for thread in left:  # one that was told to end may need a moment on a busy machine
        thread.join(10)
    assert not any(thread.is_alive() for thread in left), f"threads left running: {left}"


@pytest.fixture(scope="session")
def hls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``index.m3u8`` of three seconds in three parts."""
    folder = tmp_path_factory.mktemp("hls")
    write_video(
        folder / "index.m3u8",
        numbered(90),
        options={"g": "30", "sc_threshold": "0", "bf": "0"},
        format="hls",
        container_options={"hls_time": "1", "hls_list_size": "0"},
    )
    return folder


@pytest.fixture(scope="session")
def exact() -> Settings:
    """Settings with float32 arithmetic everywhere, so that results can be compared."""
    return Settings(precision="f32")


@pytest.fixture(scope="session")
def models(exact: Settings) -> Models:
    """The default networks, loaded once."""
    return Models.load(exact)


@pytest.fixture(scope="session")
def two_portraits() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A woman of about 35 and another one of about 78 in uniform: (320, 300, 3) RGB each."""
    return portraits()


@pytest.fixture(scope="session")
def crowd() -> list[NDArray[np.uint8]]:
    """12 frames of many portraits under shifts and scales, (720, 1280, 3) uint8 BGR each."""
    return crowd_frames(12)


def crowd_frames(count: int) -> list[NDArray[np.uint8]]:
    """The frames of `crowd`, as many as wanted."""
    picture = wall()[:, :, ::-1]
    random = np.random.default_rng(7)
    pictures = []
    for _ in range(count):
        height = int(random.integers(720, picture.shape[0]))
        width = height * 16 // 9
        x = int(random.integers(0, picture.shape[1] - width + 1))
        y = int(random.integers(0, picture.shape[0] - height + 1))
        pictures.append(_resized(picture[y : y + height, x : x + width], 1280, 720))
    return pictures


def _resized(picture: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    import cv2

    return cv2.resize(np.ascontiguousarray(picture), (width, height), interpolation=cv2.INTER_AREA)


def clip(name: str) -> Path:
    """A real clip of the development data."""
    path = CLIPS / name
    assert path.exists(), f"the development data has no clip {name}"
    return path
