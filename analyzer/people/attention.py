"""Attention of people in front of a camera: head pose from five landmarks, gaze, dwell and attraction.

Only with ``--scene audience``: people in a video who look into the camera are not watching anything.
docs/audience.md defines the terms and the limits of the method.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyzer.settings import Settings, options
from analyzer.vision import registry

__all__ = [
    "YAW_SEEN",
    "attention_table",
    "audience_summary",
    "gazes",
    "head_pose",
]

Real = NDArray[np.float64]


_FACE = np.array(
    [
        [-3.151, -2.625, -3.466],
        [3.151, -2.625, -3.466],
        [0.0, 1.127, -7.476],
        [-2.456, 4.343, -4.284],
        [2.456, 4.343, -4.284],
    ]
)
"""(5, 3) an average face in cm, x to the right and y down in the frame, z away from the camera: centers of
the eyes, nose tip and mouth corners of MediaPipe's canonical face model (Apache 2.0, vertices 33 and 133, 263
and 362, 1, 61, 291)."""

YAW_SEEN = {"centerface": 0.65}
"""Share of the yaw of a head that shows in the landmarks of a model, if not all of it does. CenterFace
places the landmarks of turned faces too much like those of frontal ones: against poses from 68 landmarks the
slope is 0.72 on two clips of turning heads and 0.59 on photographs (docs/attention.md)."""

_STEPS = 8

_CHUNK = 50_000
"""Faces that are fitted at a time, to bound the memory."""

_TIE_S = 1e-6


def head_pose(landmarks: NDArray[np.float32]) -> Real:
    """Estimate the pose of heads relative to the line from the camera to each of them.

    An average face is rotated, scaled and shifted until its five points, in weak perspective (DeMenthon and
    Davis 1995), are nearest to the landmarks: least squares by Gauss-Newton, starting from a frontal face.
    The result is as good as the landmarks are, see docs/audience.md.

    Args:
        landmarks: (N, 5, 2) float32, pixels: eye, eye, nose tip, mouth corner, mouth corner, each pair left
            to right in the frame.

    Returns:
        (N, 3) degrees: yaw (positive: turned to the right in the frame), pitch (positive: up), roll
        (positive: tilted clockwise). NaN if a landmark is NaN or all are the same.

    >>> points = np.array([[[70, 80], [130, 80], [100, 116], [77, 146], [123, 146]]], np.float32)
    >>> np.abs(head_pose(points)).round().max() <= 1
    np.True_
    """
    parts = [_pose(landmarks[at : at + _CHUNK]) for at in range(0, len(landmarks), _CHUNK)]
    return np.concatenate([np.empty((0, 3)), *parts])


def _pose(landmarks: NDArray[np.float32]) -> Real:
    points = landmarks.astype(np.float64)
    points = points - points.mean(axis=1, keepdims=True)
    size = np.sqrt((points**2).sum(axis=(1, 2)))
    known = np.isfinite(size) & (size > 1e-6)
    angles = np.full((len(points), 3), np.nan)
    if known.any():
        rotation = _fitted(points[known] / size[known, None, None])
        facing = -rotation[:, :, 2]
        angles[known, 0] = np.arctan2(facing[:, 0], -facing[:, 2])
        angles[known, 1] = np.arcsin(np.clip(-facing[:, 1], -1, 1))
        angles[known, 2] = np.arctan2(rotation[:, 1, 0], rotation[:, 1, 1])
    return np.degrees(angles)


def _fitted(points: Real) -> Real:
    """Return (N, 3, 3) rotations of the average face that fit (N, 5, 2) centered points of norm 1."""
    face = _FACE - _FACE.mean(axis=0)
    face = face / np.sqrt((face**2).sum())
    eyes = points[:, 1] - points[:, 0]
    roll = np.arctan2(eyes[:, 1], eyes[:, 0])
    rotation = _turn(np.stack([np.zeros_like(roll), np.zeros_like(roll), roll], axis=1))
    scale = np.ones(len(points))
    slopes = np.zeros((len(points), 5, 2, 4))
    for _ in range(_STEPS):
        turned = face @ rotation.transpose(0, 2, 1)
        x, y, z = turned[:, :, 0], turned[:, :, 1], turned[:, :, 2]
        scaled = scale[:, None]
        # Derivatives by the scale, and by small rotations about the axes of the frame.
        slopes[:, :, :, 0] = turned[:, :, :2]
        slopes[:, :, 1, 1], slopes[:, :, 0, 2] = -scaled * z, scaled * z
        slopes[:, :, 0, 3], slopes[:, :, 1, 3] = -scaled * y, scaled * x
        flat = slopes.reshape(len(points), 10, 4)
        off = (points - scaled[:, :, None] * turned[:, :, :2]).reshape(len(points), 10, 1)
        normal = flat.transpose(0, 2, 1) @ flat + 1e-6 * np.eye(4)
        step = np.linalg.solve(normal, flat.transpose(0, 2, 1) @ off)[:, :, 0]
        scale = np.clip(scale + step[:, 0], 0.2, 5.0)
        angle = np.sqrt((step[:, 1:] ** 2).sum(axis=1, keepdims=True))
        rotation = _turn(step[:, 1:] * np.minimum(1, 0.5 / np.maximum(angle, 1e-12))) @ rotation
    return rotation


def _turn(vectors: Real) -> Real:
    """Return (N, 3, 3) rotations by (N, 3) axes times angles in radians (Rodrigues)."""
    angle = np.sqrt((vectors**2).sum(axis=1))[:, None, None]
    x, y, z = vectors.T
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=1).reshape(-1, 3, 3)
    return np.asarray(
        np.eye(3) + np.sinc(angle / np.pi) * cross + 0.5 * np.sinc(angle / 2 / np.pi) ** 2 * cross @ cross
    )


def gazes(faces: pd.DataFrame, samples: pd.DataFrame, settings: Settings) -> Real:
    """Return which faces are directed at the camera.

    A gaze is a run of consecutive samples in which the head is turned by no more than the limits; gazes
    shorter than `settings.attention_min_s` do not count.

    Args:
        faces: Rows of the faces table with `person_id`, in any order.
        samples: Rows of the samples table, with `duration_s`.
        settings: With the limits.

    Returns:
        (N,) 1 for a face in a gaze, 0 for another one; NaN without landmarks or without a person.
    """
    table = pd.DataFrame(
        {
            "person_id": faces["person_id"].to_numpy(np.int64),
            "time_s": faces["time_s"].to_numpy(np.float64),
            "duration_s": samples.set_index("sample")["duration_s"].loc[faces["sample"]].to_numpy(np.float64),
        }
    )
    found = [np.asarray(points, np.float32) for points in faces["landmarks"]]
    pose = head_pose(np.concatenate([np.empty(0, np.float32), *found]).reshape(-1, 5, 2))
    aligned = faces["quality"].to_numpy(np.float64) > 0
    detector = registry.find_detector(settings.detector).name
    seen = np.where(aligned, YAW_SEEN[registry.ALIGNER.name], YAW_SEEN.get(detector, 1.0))
    yaw, pitch = np.abs(pose[:, :2]).T
    table["within"] = (yaw <= seen * settings.attention_yaw_deg) & (pitch <= settings.attention_pitch_deg)
    order = np.lexsort((table["time_s"], table["person_id"]))
    table = table.iloc[order]
    before = table.shift()
    continues = (
        table["within"].eq(before["within"])
        & table["person_id"].eq(before["person_id"])
        & (table["time_s"] <= before["time_s"] + before["duration_s"] + _TIE_S)
    )
    length_s = table.groupby((~continues).cumsum())["duration_s"].transform("sum")
    counted = np.empty(len(table))
    counted[order] = table["within"] & (length_s >= settings.attention_min_s - _TIE_S)
    counted[np.isnan(pose[:, 0]) | (faces["person_id"].to_numpy() <= 0)] = np.nan
    return counted


def attention_table(sightings: pd.DataFrame, looking: Real, settings: Settings) -> pd.DataFrame:
    """Return the attention of each person of an audience.

    Args:
        sightings: One row for each face with `person_id`, `time_s`, `until_s` and `duration_s`, ordered by
            the first two.
        looking: (N,) of them, from `gazes`.
        settings: Define when a person has left.

    Returns:
        One row for each person, indexed by `person_id`: `watcher` and `attention_s` (missing if unknown), and
        for watchers `dwell_s` and `attraction_ratio` (otherwise NaN).
    """
    person, start_s = sightings["person_id"].to_numpy(), sightings["time_s"].to_numpy()
    comes = np.ones(len(sightings), bool)
    comes[1:] = person[1:] != person[:-1]
    comes[1:] |= start_s[1:] - sightings["until_s"].to_numpy()[:-1] > settings.left_after_s
    visits = sightings.groupby(np.cumsum(comes)).agg(
        person_id=("person_id", "first"), start_s=("time_s", "first"), until_s=("until_s", "last")
    )
    known = ~np.isnan(looking)
    table = pd.DataFrame(
        {
            "attention_s": (sightings["duration_s"] * np.where(known, looking, 0)).groupby(person).sum(),
            "dwell_s": (visits["until_s"] - visits["start_s"]).groupby(visits["person_id"]).sum(),
        }
    )
    some = pd.Series(known).groupby(person).any()
    table["watcher"] = (table["attention_s"] > 0).astype("boolean").where(some)
    table["attention_s"] = table["attention_s"].where(some)
    table["dwell_s"] = table["dwell_s"].where(table["watcher"].fillna(False).astype(bool))
    table["attraction_ratio"] = table["attention_s"] / table["dwell_s"]
    return table


def audience_summary(people: pd.DataFrame, settings: Settings) -> dict[str, Any]:
    """Return the figures of an audience for ``run.json``; unknown ones and means of no one are None.

    Args:
        people: Rows of the people table, with the columns of `attention_table`.
        settings: With the limits that were used.
    """
    known = people["watcher"].notna()
    watchers = people[known & people["watcher"].fillna(False).astype(bool)]
    attention_s, dwell_s = (watchers[name].astype(np.float64) for name in ("attention_s", "dwell_s"))
    count = int(known.sum())
    limits = {one.name: getattr(settings, one.name) for one in options() if one.scene == "audience"}
    return {
        **limits,
        "ots": len(people),
        "attention_unknown": len(people) - count,
        "watchers": len(watchers) if count or people.empty else None,
        "conversion_ratio": _rounded(len(watchers) / count) if count else None,
        "attention_s": _spread(attention_s, known=count > 0 or people.empty),
        "dwell_s": _spread(dwell_s, known=count > 0 or people.empty),
        "attraction_ratio": _rounded(attention_s.sum() / dwell_s.sum()) if len(watchers) else None,
    }


def _spread(values: pd.Series[float], *, known: bool) -> dict[str, float | None]:
    if values.empty:
        return {"total": 0.0 if known else None, "mean": None, "median": None}
    return {name: _rounded(float(values.agg(how))) for name, how in _SUMS.items()}


_SUMS = {"total": "sum", "mean": "mean", "median": "median"}


def _rounded(value: float) -> float:
    return round(float(value), 3)
