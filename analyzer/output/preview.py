"""What an analysis sees while it goes on, to be looked at: frames with the faces found in them.

What is said of gender and age here is preliminary: the means over what was judged by now, without the second
opinion that the people table has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analyzer.analysis.detection import DetectedSample
from analyzer.analysis.segment import SegmentResult
from analyzer.faces import Faces, iou
from analyzer.media.frame import Frame
from analyzer.people.fusion import stated_genders
from analyzer.settings import Settings
from analyzer.vision.calibration import Calibration

__all__ = [
    "OnPreview",
    "Preview",
    "Previewer",
]

_SAME_IOU = 0.3


_FORGOTTEN_S = 2.0
"""A face that overlaps one of the sample before is the same one, if that was no longer ago."""


@dataclass(frozen=True, eq=False)
class Preview:
    """A sample that was looked at, and its N faces."""

    title: str
    """Of the video; untrusted raw text."""
    time_s: float
    """Of the sample in the video."""
    frame: Frame
    """To be let go soon: it holds the decoder's picture."""
    boxes: NDArray[np.float32]
    """(N, 4) x1, y1, x2, y2 in pixels of `frame`."""
    genders: tuple[str, ...]
    """"female", "male" or "unknown", also where it is not judged yet."""
    ages_years: NDArray[np.float32]
    """(N,) NaN: not judged yet."""

    def picture(self, longest: int) -> NDArray[np.uint8]:
        """The frame without boxes, (H, W, 3) uint8 BGR; its longer side has `longest` pixels at most.

        Raises:
            MediaError: The pixel format cannot be converted.
        """
        factor = min(1.0, longest / max(self.frame.width, self.frame.height))
        size = round(self.frame.width * factor), round(self.frame.height * factor)
        return self.frame.scaled(max(1, size[0]), max(1, size[1]))


OnPreview = Callable[[Preview], None]


class Previewer:
    """Makes the previews of one video.

    Faces are followed within segments only: what was known of a face is taken over by place.
    """

    def __init__(
        self, title: str, settings: Settings, calibration: Calibration, on_preview: OnPreview
    ) -> None:
        self._title = title
        self._settings = settings
        self._calibration = calibration
        self._on_preview = on_preview
        self._time_s = -np.inf
        self._faces = Faces.empty()

    def on_sample(self, looked: DetectedSample, faces: Faces) -> None:
        """Show a sample with its faces, `analyzer.analysis.segment.OnSample`."""
        assert looked.frame is not None
        faces = self._remembered(looked.time_s, faces)
        self._time_s, self._faces = looked.time_s, faces
        female, age = faces.female_prob.astype(np.float64), faces.age_years.astype(np.float64)
        self._on_preview(
            Preview(
                self._title,
                looked.time_s,
                looked.frame,
                faces.boxes,
                tuple(stated_genders(female, age, self._settings, self._calibration).tolist()),
                faces.age_years,
            )
        )

    def on_segment(self, result: SegmentResult) -> None:
        """Take over what is known of the last faces of a segment, now that all its views are judged."""
        everybody = [faces for faces in result.faces if len(faces)]
        if not everybody or not len(result.faces[-1]):
            return
        ids, female, age = (
            np.concatenate([getattr(faces, name) for faces in everybody])
            for name in ("track_ids", "female_prob", "age_years")
        )
        last = result.faces[-1]
        known = [
            [np.nan if np.isnan(some).all() else np.nanmean(some) for some in (female[mine], age[mine])]
            for mine in (ids == one for one in last.track_ids)
        ]
        means = np.array(known, np.float32)
        self._time_s = result.times_s[-1]
        self._faces = last.replace(female_prob=means[:, 0], age_years=means[:, 1])

    def _remembered(self, time_s: float, faces: Faces) -> Faces:
        before = self._faces
        if not len(before) or not len(faces) or not 0 <= time_s - self._time_s <= _FORGOTTEN_S:
            return faces
        overlap = iou(faces.boxes, before.boxes)
        nearest = overlap.argmax(axis=1)
        unknown = np.isnan(faces.female_prob) & np.isnan(faces.age_years)
        taken = unknown & (overlap.max(axis=1) >= _SAME_IOU)
        return faces.replace(
            female_prob=np.where(taken, before.female_prob[nearest], faces.female_prob),
            age_years=np.where(taken, before.age_years[nearest], faces.age_years),
        )
