"""Settings: one home for every default, every range checked."""

from __future__ import annotations

import dataclasses
import itertools
import math
from functools import partial
from typing import Any

import pytest

from analyzer.errors import SettingsError
from analyzer.settings import AGE_BANDS, DEFAULT_PRESET, PRESETS, Settings, options


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
                changes = {option.name: option.type(bound)} | (
                    {"scene": option.scene} if option.scene else {}
                )
                assert getattr(Settings(**changes), option.name) == bound


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
        "min_estimate_px": 40,
        "embed_every_s": 2.0,
        "estimate_every_s": 0.0,
        "reuse_s": 0.0,
        "engine": "onnxruntime",
        "device": "cuda",
        "precision": "f32",
    }
    for name, value in changed.items():
        assert base.replace(**{name: value}).segment_hash() != base.segment_hash(), name
    assert changed.keys() <= {option.name for option in options() if option.segment}
    others = {"bin_s": 5.0, "video": False, "min_confidence": 0.9, "age_bands": "adience", "threads": 1}
    others |= {"workers": 3, "budget": "30s"}
    for name, value in others.items():
        assert base.replace(**{name: value}).segment_hash() == base.segment_hash(), name


@pytest.mark.parametrize("name", AGE_BANDS)
def test_age_bands_ascend_without_overlap(name: str) -> None:
    bands = AGE_BANDS[name]
    assert all(band.low <= band.high for band in bands)
    assert all(before.high < after.low for before, after in itertools.pairwise(bands))
    assert len({band.column for band in bands}) == len(bands)


# --- presets and words -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_preset_is_settings_that_know_its_name(name: str) -> None:
    settings = Settings.from_preset(name)
    assert settings == Settings(**PRESETS[name])
    assert settings.preset == name
    for field, value in PRESETS[name].items():
        assert getattr(settings, field) == value != getattr(Settings(), field)


def test_presets_are_those_promised_and_the_default_changes_nothing() -> None:
    assert list(PRESETS) == ["fast", "balanced", "accurate"] and DEFAULT_PRESET == "balanced"
    assert Settings.from_preset() == Settings() and PRESETS[DEFAULT_PRESET] == {}
    assert Settings.from_preset("fast").fps < Settings().fps
    assert Settings.from_preset("accurate").estimate_every_s == 0


@pytest.mark.parametrize("name", PRESETS)
def test_changes_count_more_than_the_preset(name: str) -> None:
    settings = Settings.from_preset(name, fps=7, estimate_every_s=0.75, bin_s=3)
    expected = PRESETS[name] | {"fps": 7.0, "estimate_every_s": 0.75, "bin_s": 3.0}
    assert settings == Settings(**expected)
    with pytest.raises(SettingsError, match="fps"):
        Settings.from_preset(name, fps=-1)
    with pytest.raises(SettingsError, match="no_such"):
        Settings.from_preset(name, no_such=1)


@pytest.mark.parametrize(
    ("changes", "pair"),
    [
        ({"fps": 5.0, "every": 3}, "fps and every"),
        ({"keyframes": True, "fps": 9.0}, "fps and keyframes"),
        ({"every": 2, "keyframes": True}, "every and keyframes"),
        ({"end_s": 9.0, "duration_s": 3.0}, "end and duration"),
    ],
)
@pytest.mark.parametrize(
    "make", [Settings.from_preset, partial(Settings.from_preset, "fast"), Settings().replace]
)
def test_what_excludes_each_other_is_refused(make: Any, changes: dict[str, Any], pair: str) -> None:
    with pytest.raises(SettingsError, match=f"^{pair} exclude each other: give one of them$"):
        make(**changes)
    # What says nothing excludes nothing; nor does what a preset, or no wish, has set.
    assert make(fps=9.0, every=None, keyframes=False).fps == 9
    assert make(every=3).every == 3 and make(keyframes=True).keyframes


def test_unknown_preset_is_refused_with_the_names_of_all() -> None:
    with pytest.raises(SettingsError, match="'slow'") as caught:
        Settings.from_preset("slow")
    assert all(name in str(caught.value) for name in PRESETS)


def another(name: str, value: Any) -> Any:
    """A value that the field has neither now nor in a preset, as far as there is one."""
    (option,) = (option for option in options() if option.name == name)
    if option.type is bool:
        return not value
    if option.choices:
        return next(choice for choice in option.choices if choice != value)
    return option.type(777 if option.type is int else 3.25)


def test_settings_that_differ_from_a_preset_in_one_of_its_fields_are_none() -> None:
    fields = {name for changes in PRESETS.values() for name in changes}
    for preset in PRESETS:
        settings = Settings.from_preset(preset)
        for name in fields:
            changed = settings.replace(**{name: another(name, getattr(settings, name))})
            assert changed != settings and changed.preset is None, (preset, name)
        # What no preset is about does not count.
        assert settings.replace(bin_s=9, video=False, workers=2, min_score=0.5).preset == preset


def test_word_may_stand_in_place_of_a_number() -> None:
    assert Settings(detector_size="auto").detector_size == "auto" == Settings().detector_size
    assert Settings(detector_size=320).detector_size == 320
    assert Settings(**Settings(detector_size=320).to_dict()).detector_size == 320


@pytest.mark.parametrize("value", ["foo", "Auto", "", "320", None, 2.5, True])
def test_other_words_are_refused_in_a_sentence_that_names_the_one(value: Any) -> None:
    with pytest.raises(SettingsError, match=r"detector_size must be a whole number or auto, not") as caught:
        Settings(detector_size=value)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("value", [127, 4097, -1])
def test_number_out_of_range_is_refused_though_words_are_allowed(value: int) -> None:
    with pytest.raises(SettingsError, match="between 128 and 4096"):
        Settings(detector_size=value)


def test_words_are_allowed_where_they_are_meant_only() -> None:
    for option in options():
        if option.type in (int, float) and not option.words and not option.many:
            with pytest.raises(SettingsError, match=option.name):
                Settings(**{option.name: "auto"})
