"""Frames that a program passes in, as NumPy arrays with their times."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from analyzer.errors import MediaError, MediaErrorKind, SettingsError
from analyzer.media.demuxer import VideoInfo
from analyzer.media.frame import Frame, Sample
from analyzer.media.geometry import Geometry
from analyzer.media.read_report import ReadReport
from analyzer.media.reader import BaseReader
from analyzer.media.sampling import SamplingPlan
from analyzer.settings import Settings
from analyzer.util.text import counted

__all__ = ["ArrayReader", "checked_image", "checked_time"]

Image = NDArray[np.uint8]

_LATEST_S = 864_000.0
"""Ten days. Later times are no times since a video's start but, say, seconds since 1970."""


def checked_image(image: Any) -> Image:
    """A BGR image as the analysis needs it: (H, W, 3) uint8, contiguous.

    Raises:
        SettingsError: It is something else.
    """
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        if image.size:
            return np.ascontiguousarray(image)
        what = "is empty"
    elif isinstance(image, np.ndarray):
        what = f"is a NumPy array of {image.dtype} with the shape {image.shape}"
    else:
        what = f"is of type {type(image).__name__}"
    raise SettingsError(f"an image {what}: pass BGR images as NumPy arrays of uint8, (height, width, 3)")


def checked_time(time_s: Any) -> float:
    """A time in seconds since the start of a video.

    Raises:
        SettingsError: It is something else.
    """
    try:
        seconds = float(time_s)
        what = f"{seconds:g}"
    except (TypeError, ValueError, OverflowError):
        seconds, what = math.nan, f"of type {type(time_s).__name__}"
    if not 0 <= seconds <= _LATEST_S:
        raise SettingsError(
            f"the time of an image is {what}: pass seconds since the start of the video, such as 12.5"
        )
    return seconds


class ArrayReader(BaseReader):
    """Reads frames from an iterable of (time in seconds, image) pairs, which is iterated once.

    Images are BGR, (H, W, 3) uint8, and are copied: the program may reuse their memory for the next one. A
    frame that is not later than the one before it is left out; if it is earlier, the report says so.

    Raises:
        MediaError: On construction, if there is no frame.
        SettingsError: On construction and while iterating, if a pair is something else.
    """

    def __init__(self, frames: Iterable[Any], settings: Settings) -> None:
        super().__init__(settings)
        self._plan = SamplingPlan.of(settings)
        self._pairs = iter(frames)
        self._count = self._repeated = self._earlier = 0
        self._last_s: float | None = None
        self._ended = False
        first = self._next()
        if first is None:
            raise MediaError("there is no frame: the iterator ended at once", kind=MediaErrorKind.NO_FRAMES)
        self._first = first
        self.info = VideoInfo(
            width=first.width,
            height=first.height,
            duration_s=None,
            fps=None,
            codec="raw",
            container="frames",
            pix_fmt="bgr24",
            audio_codec=None,
        )

    def samples(self, start_s: float = 0.0, end_s: float | None = None) -> Generator[Sample, None, None]:
        """The frames to analyze, chosen by ``fps`` or ``every`` as in a file, within the settings' range.

        Raises:
            SettingsError: While iterating, if a pair is not a time and an image.
        """
        return self._plan.choose(self._within(*self._range(start_s, end_s)))

    def segment_bounds(self, segment: int) -> tuple[float, float]:
        """Start and end in seconds of a segment."""
        return self._plan.bound(segment), self._plan.bound(segment + 1)

    def report(self) -> ReadReport:
        """How the frames were read."""
        reason = "" if self._ended else f"reading was stopped at {self._last_s or 0.0:.1f} s"
        if self._earlier and not reason:
            reason = f"{counted(self._earlier, 'frame')} left out, earlier than the one before"
        left_out = self._earlier + self._repeated
        return ReadReport(
            frames=self._count,
            bad_packets=0,
            packets=self._count + left_out,
            repaired_times=left_out,
            last_s=self._last_s,
            complete=not reason,
            reason=reason,
        )

    def _within(self, start_s: float, end_s: float) -> Iterator[Frame]:
        frame: Frame | None = self._first
        while frame is not None and not self._closed:
            if frame.time_s >= end_s:
                break
            if frame.time_s >= start_s:
                self._count += 1
                self._last_s = frame.time_s
                yield frame
            frame = self._next(frame.time_s)
        self._ended = not self._closed

    def _next(self, after_s: float = -1.0) -> Frame | None:
        """The next frame that is later than a time; None at the end."""
        for pair in self._pairs:
            try:
                time_s, image = pair
            except (TypeError, ValueError):
                raise SettingsError(
                    f"a frame is of type {type(pair).__name__}: pass pairs of a time in seconds and an image"
                ) from None
            time_s = checked_time(time_s)
            if time_s > after_s:
                decoded = av.VideoFrame.from_ndarray(checked_image(image), "bgr24")
                shape = Geometry(decoded.width, decoded.height)
                return Frame(time_s, True, decoded, shape, self._scaler)
            self._repeated += time_s == after_s
            self._earlier += time_s < after_s
        return None
