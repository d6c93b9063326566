"""``--show``: the frames being analyzed, in a window."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Self

import analyzer
from analyzer.errors import AnalyzerError
from analyzer.output.preview import Preview
from analyzer.util.gender import face_words
from analyzer.util.text import one_line

__all__ = ["Window"]

_LONGEST_PX = 960
_MOST_WAITING = 12
"""Each holds a frame."""
_PATIENCE_S = 30.0
_NO_WINDOWS = 4
"""`analyzer.cli.window.NO_WINDOWS`, whose module imports the libraries of the window."""


class Window:
    """A window with the frames being analyzed. Pressing q or Escape, or closing it, acts as Ctrl-C.

    Raises:
        AnalyzerError: No window can be opened here.
    """

    def __init__(self) -> None:
        if sys.platform == "linux" and not any(os.environ.get(one) for one in ("DISPLAY", "WAYLAND_DISPLAY")):
            raise AnalyzerError("--show needs a display, and there is none here: leave it out")
        self._waiting: deque[Preview] = deque(maxlen=_MOST_WAITING)
        self._has_some = threading.Condition()
        self._over = False
        self._main = threading.main_thread().ident
        # So that the process of the window imports the same package as this one.
        paths = [str(Path(analyzer.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "analyzer.cli.window"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
            start_new_session=True,  # Ctrl-C ends the analysis, which closes the window
        )
        if not self._is_ready():
            self._process.kill()
            code = self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
            if code == _NO_WINDOWS:
                raise AnalyzerError(
                    "--show needs an OpenCV that can open windows, and the installed one cannot: install "
                    "opencv-python in place of opencv-python-headless, or leave --show out"
                )
            raise AnalyzerError("--show cannot open a window on this display: leave it out")
        self._threads = [
            threading.Thread(target=work, name="show", daemon=True) for work in (self._send, self._listen)
        ]

    def _is_ready(self) -> bool:
        assert self._process.stdout is not None
        timer = threading.Timer(_PATIENCE_S, self._process.kill)
        timer.start()
        try:
            return self._process.stdout.readline() == b"ready\n"
        finally:
            timer.cancel()

    def __enter__(self) -> Self:
        # Shells start background programs with Ctrl-C ignored.
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._has_some:
            self._over = True
            self._has_some.notify()
        sender, listener = self._threads
        sender.join(1)
        if sender.is_alive():  # the window does not read
            self._process.kill()
            sender.join()
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        listener.join()

    def on_preview(self, preview: Preview) -> None:
        """Queue a sample for display, without waiting; the oldest are dropped if too many are queued."""
        with self._has_some:
            self._waiting.append(preview)
            self._has_some.notify()

    def _send(self) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        # The window may be gone, or the pixels of a frame not convertible: the analysis continues.
        with contextlib.suppress(OSError, ValueError, AnalyzerError):
            while True:
                with self._has_some:
                    self._has_some.wait_for(lambda: self._waiting or self._over)
                    if self._over:
                        return
                    preview = self._waiting.popleft()
                image = preview.image(_LONGEST_PX)
                height, width = image.shape[:2]
                scaled = preview.boxes * (width / preview.frame.width)
                known = zip(scaled.tolist(), preview.genders, preview.ages_years.tolist(), strict=True)
                header = {
                    "width": width,
                    "height": height,
                    "title": one_line(preview.title),
                    "faces": [(box, gender, face_words(gender, age)) for box, gender, age in known],
                }
                pipe.write(json.dumps(header).encode() + b"\n")
                pipe.write(image.tobytes())
                pipe.flush()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as answers:
            ended = answers.readline() == b"quit\n"
        if ended and not self._over and self._main is not None:
            signal.pthread_kill(self._main, signal.SIGINT)
