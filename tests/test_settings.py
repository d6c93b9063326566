"""Settings: one home for every default, every range checked."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import pytest

from analyzer.errors import SettingsError
from analyzer.settings import AGE_BANDS, Settings, options


@pytest.mark.parametrize(
    "changes",
    [
        {"fps": 0},
        {"fps": math.nan},
        {"fps": "5"},
        {"every": 0},
        {"every": 2.5},
        {"every": True},
        {"limit": 0},
        {"min_confidence": 0.4},
        {"bin_s": 0},
        {"age_bands": "decades"},
        {"formats": ()},
        {"formats": "csv"},
        {"formats": ("csv", "xls")},
        {"video": 1},
        {"engine": "torch"},
        {"every": 5, "keyframes": True},
        {"start_s": 10, "end_s": 10},
        {"start_s": -1},
        {"blur": True, "video": False},
    ],
)
def test_value_outside_its_range_is_refused_by_name(changes: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings(**changes)
    assert any(name.removesuffix("_s") in str(caught.value) for name in changes)


def test_unknown_name_is_refused() -> None:
    with pytest.raises(SettingsError, match="min_face"):
        Settings().replace(min_face=3)


def test_every_bound_itself_is_allowed() -> None:
    for option in options():
        for bound in (option.low, option.high):
            if bound is not None and option.name not in ("start_s", "end_s"):
                assert getattr(Settings(**{option.name: option.type(bound)}), option.name) == bound


def test_settings_are_frozen_and_survive_json() -> None:
    settings = Settings(fps=2, formats=["csv"])
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.fps = 3  # type: ignore[misc]
    assert settings.formats == ("csv",)
    assert Settings(**settings.to_dict()) == settings


def test_only_what_changes_a_segment_changes_its_hash() -> None:
    base = Settings()
    changed = {
        "fps": 2.0,
        "every": 3,
        "keyframes": True,
        "start_s": 1.0,
        "end_s": 9.0,
        "segment_s": 10.0,
        "detector_size": 320,
        "min_score": 0.6,
        "min_judged_px": 40,
        "engine": "onnxruntime",
        "precision": "f32",
    }
    for name, value in changed.items():
        assert base.replace(**{name: value}).segment_hash() != base.segment_hash(), name
    others = {"bin_s": 5.0, "video": False, "min_confidence": 0.9, "age_bands": "adience", "threads": 1}
    assert base.replace(**others).segment_hash() == base.segment_hash()


@pytest.mark.parametrize("name", AGE_BANDS)
def test_age_bands_ascend_without_overlap(name: str) -> None:
    bands = AGE_BANDS[name]
    assert all(band.low <= band.high for band in bands)
    assert all(before.high < after.low for before, after in itertools.pairwise(bands))
    assert len({band.column for band in bands}) == len(bands)
