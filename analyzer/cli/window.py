"""The window of ``--show``, in a process of its own: ``python -m analyzer.cli.window``.

A window without a display ends its process, and a slow one must not delay the analysis. Frames arrive on
standard input, each after a line of JSON (`Header`). The process writes ``ready`` on standard output once the
window is open, and ``quit`` when the user closes it.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections import deque
from typing import BinaryIO, TypedDict

import cv2
import numpy as np
from numpy.typing import NDArray

from analyzer.util.gender import GENDER_COLORS

__all__ = ["NAME", "NO_WINDOWS", "Header", "draw", "main"]

NAME = "Audience Analyzer"
NO_WINDOWS = 4
"""Exit status: this OpenCV cannot open windows at all."""
_KEYS = (ord("q"), ord("Q"), 27)
"""q and Escape."""
_MOST_WAITING = 30
_TICK_MS = 15
_SLOWEST_S = 1.0

Image = NDArray[np.uint8]


class Header(TypedDict):
    """What precedes a frame."""

    width: int
    height: int
    title: str
    faces: list[tuple[list[float], str, str]]
    """Of each, its box in pixels of the frame, its gender, and its label."""


def draw(image: Image, header: Header) -> None:
    """Draw boxes and labels of faces into a frame, (H, W, 3) uint8 BGR."""
    size = max(0.4, min(image.shape[:2]) / 720)
    line = max(1, round(2 * size))
    for box, gender, text in header["faces"]:
        red, green, blue = bytes.fromhex(GENDER_COLORS[gender].lstrip("#"))
        color = (blue, green, red)
        left, top, right, bottom = (round(edge) for edge in box)
        cv2.rectangle(image, (left, top), (right, bottom), (0, 0, 0), line + 2)
        cv2.rectangle(image, (left, top), (right, bottom), color, line)
        (wide, high), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, line)
        # Above the face, or below it at the upper edge of the frame.
        base = top - below if top - high - 2 * below > 0 else bottom + high + below
        cv2.rectangle(image, (left, base - high - below), (left + wide, base + below), color, cv2.FILLED)
        ink = (0, 0, 0) if gender == "female" else (255, 255, 255)
        cv2.putText(image, text, (left, base), cv2.FONT_HERSHEY_SIMPLEX, size, ink, line, cv2.LINE_AA)


class _Frames:
    """Frames that have arrived and are not displayed yet. The oldest are dropped if too many are queued.

    The analysis detects faces in several samples at a time. They are displayed one after the other, at their
    average rate.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._waiting: deque[tuple[Image, Header]] = deque(maxlen=_MOST_WAITING)
        self._arrived: deque[float] = deque(maxlen=_MOST_WAITING)
        self._shown_at = 0.0
        self.over = False
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while line := self._stream.readline():
                header: Header = json.loads(line)
                length = header["width"] * header["height"] * 3
                data = self._stream.read(length)
                if len(data) < length:
                    break
                shape = header["height"], header["width"], 3
                self._arrived.append(time.monotonic())
                self._waiting.append((np.frombuffer(data, np.uint8).reshape(shape).copy(), header))
        self.over = True

    def next(self) -> tuple[Image, Header] | None:
        """Return the frame to display now; None: keep the last one."""
        now, times = time.monotonic(), list(self._arrived)
        usual_s = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 0.0
        if not self._waiting or now - self._shown_at < min(usual_s, _SLOWEST_S):
            return None
        self._shown_at = now
        return self._waiting.popleft()


def _show(frames: _Frames) -> bool:
    """Display frames until there are no more; return whether the user has closed the window."""
    title, shown = "", False
    while not frames.over:
        found = frames.next()
        if found is not None:
            image, header = found
            draw(image, header)
            cv2.imshow(NAME, image)
            if header["title"] != title:
                title = header["title"]
                cv2.setWindowTitle(NAME, f"{NAME}: {title} (q ends it)")
            if not shown:
                cv2.resizeWindow(NAME, image.shape[1], image.shape[0])
            shown = True
        if cv2.waitKey(_TICK_MS) & 0xFF in _KEYS:
            return True
        if _is_closed():
            return True
    return False


def _is_closed() -> bool:
    try:
        return cv2.getWindowProperty(NAME, cv2.WND_PROP_VISIBLE) < 1
    except cv2.error:  # raised by OpenCV with Qt for its last window
        return True


def main() -> int:
    """Open the window and display frames from standard input."""
    try:
        cv2.namedWindow(NAME, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        cv2.waitKey(1)
    except cv2.error:
        return NO_WINDOWS
    print("ready", flush=True)
    ended = _show(_Frames(sys.stdin.buffer))
    if ended:
        print("quit", flush=True)
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # a thread may wait for input, and Qt for the display
