"""Previews of an analysis while it works: those of the library, and the window of ``--show``."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import analyzer
from analyzer.cli import DONE, INTERRUPTED, NOTHING_USABLE, show, window
from analyzer.cli.show import Window
from analyzer.errors import AnalyzerError
from analyzer.media.frame import Frame
from analyzer.output.preview import Preview
from analyzer.runs.run import Run
from analyzer.util.gender import GENDER_COLORS
from testkit.live_servers import Mjpeg, jpegs
from testkit.media import write_video
from testkit.servers import serve
from testkit.videos import panning
from tests.test_cli import ROOT, Portraits, portrait_pictures, run_cli

# --- previews ----------------------------------------------------------------------------------------


def test_previews_show_ids_gender_and_age_from_the_first_sample_on(
    two_portraits: Portraits, tmp_path: Path
) -> None:
    video = write_video(tmp_path / "two.mp4", portrait_pictures(two_portraits, 2, 10), fps=10)
    previews: list[Preview] = []
    run = analyzer.analyze(
        *(
            video,
            analyzer.Settings(video=False, fps=10, estimate_every_s=0, reuse_s=0, segment_s=1, workers=2),
        ),
        out=tmp_path / "out",
        on_preview=previews.append,
    )
    assert [one.time_s for one in previews] == run.samples["time_s"].tolist()
    for preview, (_, faces) in zip(previews, run.faces.groupby("sample"), strict=True):
        assert preview.boxes.tolist() == faces[["x1", "y1", "x2", "y2"]].to_numpy(np.float32).tolist()
    assert previews[0].image(640).shape == (360, 640, 3)
    assert previews[0].title == "two"
    # Ids and estimates outlive the segments (of a second).
    assert all(sorted(preview.person_ids) == [0, 1] for preview in previews)
    for preview in (previews[0], previews[9], previews[10], previews[-1]):
        first, second = np.argsort(preview.ages_years).tolist()
        assert 25 < preview.ages_years[first] < 45 and preview.genders[first] != "male"
        assert preview.ages_years[second] > 70 and preview.genders[second] != "male"


# --- the window's own process ------------------------------------------------------------------------


@pytest.mark.parametrize("gender", ["female", "male", "unknown"])
def test_boxes_have_the_colors_of_their_gender(gender: str) -> None:
    image = np.full((360, 640, 3), 90, np.uint8)
    window.draw(
        image, {"width": 640, "height": 360, "title": "", "faces": [([200, 100, 300, 220], gender, "x 1")]}
    )
    red, green, blue = bytes.fromhex(GENDER_COLORS[gender][1:])
    assert image[160, 200].tolist() == [blue, green, red]
    assert (image[120:200, 220:280] == 90).all() and (image[:, 330:] == 90).all()
    assert (image[70:95, 200:260] != 90).any()  # what is written above


def test_opencv_without_windows_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise cv2.error("The function is not implemented")

    monkeypatch.setattr(cv2, "namedWindow", refuse)
    assert window.main() == window.NO_WINDOWS == show._NO_WINDOWS
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nexit {window.NO_WINDOWS}\n")
    python.chmod(0o700)
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(AnalyzerError, match="opencv-python-headless"):
        Window()


@pytest.mark.parametrize("then", ["", "sleep 60", "cat >/dev/null"])
def test_analysis_neither_waits_for_its_window_nor_ends_with_it(
    then: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The window has crashed, hangs, or shows all."""
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho ready\nexec {then}\n" if then else "#!/bin/sh\necho ready\n")
    python.chmod(0o700)
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(sys, "executable", str(python))
    converted: list[int] = []

    class Made(Preview):
        def image(self, longest: int) -> NDArray[np.uint8]:
            converted.append(longest)
            return np.zeros((270, 480, 3), np.uint8)

    frame = SimpleNamespace(width=480, height=270)
    no_faces = np.empty((0, 4), np.float32), (), (), np.empty(0, np.float32)
    with Window() as shown:
        for number in range(1000):
            shown.on_preview(Made("title", number / 5, cast("Frame", frame), *no_faces))
        for _ in range(100):  # what waits is taken up in another thread
            if converted:
                break
            time.sleep(0.02)
    assert 1 <= len(converted) < 1000


@pytest.mark.parametrize(("display", "words"), [("", "there is none here"), (":9999", "on this display")])
def test_without_a_display_nothing_is_analyzed(
    display: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    result = run_cli("analyze", tmp_path / "any.mp4", "--show", "--out", tmp_path / "out")
    assert result.exit_code == NOTHING_USABLE
    assert words in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


# --- on a display ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def display() -> Iterator[str]:
    """A virtual display."""
    if not (shutil.which("Xvfb") and shutil.which("xdotool")):
        assert not os.environ.get("ANALYZER_FAIL_WITHOUT_DISPLAY"), "Xvfb or xdotool is not installed"
        pytest.skip("Xvfb or xdotool is not installed")
    reading, writing = os.pipe()
    # Without -noreset it starts anew when its last client, xdotool, has gone, and refuses others meanwhile.
    options = ["-screen", "0", "1280x800x24", "-nolisten", "tcp", "-noreset"]
    command = ["Xvfb", "-displayfd", str(writing), *options]
    with subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.DEVNULL) as process:
        os.close(writing)
        with os.fdopen(reading) as answer:
            number = answer.readline().strip()
        yield f":{number}"
        process.terminate()


def xdotool(display: str, *arguments: str) -> str:
    command = ["xdotool", *arguments]
    environment = os.environ | {"DISPLAY": display}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout


@contextlib.contextmanager
def showing(display: str, source: Path | str, out: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """``analyze --show`` in a process, once its window shows a frame."""
    command = [sys.executable, "cli.py", "analyze", str(source), "--show", "--out", str(out), *options]
    environment = os.environ | {"DISPLAY": display, "WAYLAND_DISPLAY": ""}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            deadline = time.monotonic() + 60
            # The window has its title from the first frame on.
            while not xdotool(display, "search", "--name", "q ends it"):
                assert process.poll() is None and time.monotonic() < deadline, process.communicate()
                time.sleep(0.05)
            yield process
        finally:
            process.kill()


def close_window(display: str) -> None:
    """Do what a window's close button does: ask its program to close it."""
    x11 = ctypes.CDLL("libX11.so.6")
    x11.XOpenDisplay.restype = ctypes.c_void_p
    x11.XInternAtom.restype = ctypes.c_ulong
    there = ctypes.c_void_p(x11.XOpenDisplay(display.encode()))

    def atom(name: bytes) -> int:
        return int(x11.XInternAtom(there, name, 0))

    class ClientMessage(ctypes.Structure):
        _fields_ = (
            ("type", ctypes.c_int),
            ("serial", ctypes.c_ulong),
            ("send_event", ctypes.c_int),
            ("display", ctypes.c_void_p),
            ("window", ctypes.c_ulong),
            ("message_type", ctypes.c_ulong),
            ("format", ctypes.c_int),
            ("data", ctypes.c_long * 5),
            ("rest", ctypes.c_long * 24),
        )

    for number in xdotool(display, "search", "--name", "q ends it").split():
        message = ClientMessage(type=33, window=int(number), message_type=atom(b"WM_PROTOCOLS"), format=32)
        message.data[0] = atom(b"WM_DELETE_WINDOW")
        x11.XSendEvent(there, ctypes.c_ulong(int(number)), 0, ctypes.c_long(0), ctypes.byref(message))
    x11.XCloseDisplay(there)


@pytest.mark.slow
def test_q_ends_the_analysis_of_a_file_as_ctrl_c_does(display: str, tmp_path: Path) -> None:
    path = panning(tmp_path / "pan.mp4", 12, 960, 540)
    options = ("--segment", "2", "--fps", "10", "--precision", "f32", "--no-video")
    with showing(display, path, tmp_path / "out", *options) as process:
        while not list(tmp_path.glob("out/*/.parts/*-000000")) and process.poll() is None:
            time.sleep(0.02)
        xdotool(display, "mousemove", "200", "200", "key", "q")
        stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (INTERRUPTED, "")
    assert "run the same command again to continue" in stderr and "Traceback" not in stderr
    (folder,) = (tmp_path / "out").iterdir()
    assert [entry.name for entry in folder.iterdir()] == [".parts"]
    assert xdotool(display, "search", "--name", "q ends it") == ""


@pytest.mark.slow
def test_a_live_run_ends_well_when_its_window_is_closed(
    display: str, two_portraits: Portraits, tmp_path: Path
) -> None:
    with serve() as server:
        camera = Mjpeg(server, jpegs(portrait_pictures(two_portraits, 1, 5)), fps=10)
        with showing(display, camera.url, tmp_path) as process:
            close_window(display)
            _, stderr = process.communicate(timeout=60)
    assert process.returncode == DONE, stderr
    (found,) = tmp_path.glob("*/run.json")
    run = Run.load(found.parent)
    assert run.complete and len(run.faces)
