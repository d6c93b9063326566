"""Head pose from five points, and what an audience is counted by: made heads, made tables."""

from __future__ import annotations

import numpy as np
import pytest

from analyzer.attention import head_pose
from analyzer.settings import Settings

# An average face, from elsewhere than the one that is fitted: eyes, nose tip, mouth corners, in mm; y down,
# z away from the camera.
FACE = np.array([[-31.5, -26, -35], [31.5, -26, -35], [0, 11, -75], [-24.5, 43, -43], [24.5, 43, -43]])
AUDIENCE = Settings(scene="audience", detector="yunet")
UNKNOWN = np.full((5, 2), np.nan)


def head(yaw: float, pitch: float = 0.0, roll: float = 0.0, distance_mm: float = np.inf) -> np.ndarray:
    """(5, 2) where a camera sees a turned head's points; it is turned right, up, clockwise in the picture."""
    y, p, r = np.radians([-yaw, -pitch, roll])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    turned = FACE @ (about_y @ about_x @ about_z).T
    nearness = 1 / (1 + turned[:, 2:] / distance_mm)
    return (turned[:, :2] * nearness * 1.7 + [300, 200]).astype(np.float32)


@pytest.mark.parametrize("roll", [-35, 0, 20])
def test_the_pose_of_made_heads_comes_back(roll: float) -> None:
    angles = [(yaw, pitch, roll) for yaw in range(-60, 61, 15) for pitch in (-40, -20, 0, 20, 40)]
    found = head_pose(np.stack([head(*each) for each in angles]))
    np.testing.assert_allclose(found, angles, atol=1.5)
