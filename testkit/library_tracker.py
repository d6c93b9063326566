"""ByteTrack of the library `trackers`, to compare with ours."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import supervision as sv
from numpy.typing import NDArray
from trackers import ByteTrackTracker
from trackers.core.base import BaseTracker
from trackers.utils.iou import BIoU

from analyzer.analysis.tracking import MakeTracker, lost_after_s

__all__ = ["ALL", "byte_track_of_the_library", "maker"]


class OfTheLibrary:
    """A tracker of the library, given boxes and asked for ids as the project's own is."""

    def __init__(self, tracker: BaseTracker) -> None:
        self._tracker = tracker

    def update(self, boxes: NDArray[np.float64], time_s: float) -> NDArray[np.int64]:
        """As `ByteTrack.update`."""
        detections = sv.Detections(
            xyxy=boxes,
            confidence=np.ones(len(boxes), np.float32),
            data={"row": np.arange(len(boxes))},
        )
        tracked = self._tracker.update(detections, timestamp=time_s)
        ids = np.full(len(boxes), -1, np.int64)
        if len(tracked):
            ids[tracked.data["row"].astype(np.int64)] = tracked.tracker_id
        return ids


def maker(kind: Callable[..., BaseTracker], **options: object) -> MakeTracker:
    def made(interval_s: float) -> OfTheLibrary:
        # The library counts its patience in thirtieths of a second.
        lost = round(lost_after_s(interval_s) * 30)
        return OfTheLibrary(kind(lost_track_buffer=lost, frame_rate=1 / interval_s, **options))

    return made


ALL = {"track_activation_threshold": 0.0, "high_conf_det_threshold": 0.0, "minimum_consecutive_frames": 1}

byte_track_of_the_library = maker(ByteTrackTracker, **ALL, minimum_iou_threshold=0.1, iou=BIoU(0.3))
"""What the project's own is measured against."""
