"""Previews of an analysis while it works: frames with the faces detected in them.

What a preview says of gender and age is preliminary: the mean of the estimates so far.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analyzer.analysis.detection import DetectedSample
from analyzer.analysis.online import OnlineTracker
from analyzer.analysis.segment import Models
from analyzer.faces import Faces
from analyzer.media.frame import Frame
from analyzer.people.fusion import stated_genders
from analyzer.settings import Settings

__all__ = [
    "OnPreview",
    "Preview",
    "Previewer",
]


@dataclass(frozen=True, eq=False)
class Preview:
    """A sample in which faces were detected, and its N faces."""

    title: str
    """Of the video; untrusted raw text."""
    time_s: float
    """Of the sample in the video."""
    frame: Frame
    """Do not keep it: it holds the decoder's memory."""
    boxes: NDArray[np.float32]
    """(N, 4) x1, y1, x2, y2 in pixels of `frame`."""
    person_ids: tuple[int, ...]
    """Provisional: the people table numbers people anew."""
    genders: tuple[str, ...]
    """``female``, ``male`` or ``unknown``, which includes not estimated yet."""
    ages_years: NDArray[np.float32]
    """(N,) NaN: not estimated yet."""

    def image(self, longest: int) -> NDArray[np.uint8]:
        """The frame without boxes, (H, W, 3) uint8 BGR, scaled so that neither side exceeds `longest` pixels.

        Raises:
            MediaError: The pixel format cannot be converted.
        """
        factor = min(1.0, longest / max(self.frame.width, self.frame.height))
        size = round(self.frame.width * factor), round(self.frame.height * factor)
        return self.frame.scaled(max(1, size[0]), max(1, size[1]))


OnPreview = Callable[[Preview], None]


class Previewer:
    """Makes the previews of one video.

    Args:
        title: Of the video.
        settings: How it is analyzed.
        models: Loaded models.
        on_preview: Called with each preview; None: the faces are tracked all the same.
    """

    def __init__(
        self, title: str, settings: Settings, models: Models, on_preview: OnPreview | None = None
    ) -> None:
        self._title = title
        self._settings = settings
        self._calibration = models.calibration
        self._on_preview = on_preview
        self._tracker = OnlineTracker(
            models.reader,
            settings,
            aligner=models.aligner,
            points_in_box=models.detector.points_in_box,
        )
        self.faces = Faces.empty()
        """Of the latest sample, with provisional ids and the estimates so far."""

    def genders(self) -> tuple[str, ...]:
        """``female``, ``male`` or ``unknown`` for each of `faces`."""
        female, age = (one.astype(np.float64) for one in (self.faces.female_prob, self.faces.age_years))
        return tuple(stated_genders(female, age, self._settings, self._calibration).tolist())

    def on_sample(self, sample: DetectedSample) -> None:
        """Take the next sample in which faces were detected."""
        frame = sample.frame
        assert frame is not None  # only samples without detection have none
        self.faces = self._tracker.update(
            sample.faces, sample.time_s, frame, shot_boundary=sample.shot_boundary
        )
        if self._on_preview is not None:
            ids = tuple(self.faces.track_ids.tolist())
            known = self.faces.boxes, ids, self.genders(), self.faces.age_years
            self._on_preview(Preview(self._title, sample.time_s, frame, *known))
