"""Settings: one home for every default, every range checked."""

from __future__ import annotations

import dataclasses
import itertools
import math
from functools import partial
from typing import Any

import pytest

from analyzer.errors import SettingsError
from analyzer.settings import AGE_BANDS, DEFAULT_PRESET, PRESETS, Option, Settings, options


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


DERIVED_ONLY = {
    # Names of files and the choice of the sampling are in the key of a segment by what follows from them.
    *("max_height", "keep_download", "budget"),
    # The people are found and described from the segments, again and again.
    *("attention_yaw_deg", "attention_pitch_deg", "attention_min_s", "left_after_s"),
    *("min_confidence", "min_on_screen_s", "min_person_quality", "gender_of_children", "keep_embeddings"),
    # Tables and the annotated video are written from the segments.
    *("bin_s", "age_bands", "formats", "video", "blur"),
    "commercial",  # the key has the models and the calibration that it chooses
}
"""Fields that change results, but not what the analysis of a segment yields."""
WITHOUT_EFFECT = {
    *("playlist", "limit", "recursive", "images"),  # which videos are analyzed, each as without them
    *("max_size_mb", "timeout_s", "reconnect_s"),  # whether it can be fetched
    *("workers", "threads"),  # how fast
}
"""Fields that change nothing about the results of a video."""


def _another(option: Option) -> Any:
    """A value that is not the default."""
    if option.choices:
        other = next(one for one in option.choices if option.default not in (one, (one,)))
        return (other,) if option.many else other
    if option.type is bool:
        return not option.default
    if option.type is str:
        return {"budget": "30s"}.get(option.name, "levi-hassner")
    candidates = (option.low, option.high, (option.low or 0) + 1)
    return next(option.type(one) for one in candidates if one is not None and one not in (option.default, 0))


def _hashes(option: Option, value: Any) -> tuple[str, str]:
    changes = {option.name: value}
    if option.name == "blur":
        changes["fps"] = 10.0
    settings = Settings(**({"scene": option.scene} if option.scene else {}) | changes)
    return settings.segment_hash(), settings.result_hash()


@pytest.mark.parametrize("option", options(), ids=lambda option: option.name)
def test_every_field_changes_the_keys_of_segments_and_results_but_for_the_exceptions(option: Option) -> None:
    # A new field fails nowhere here unless it declares that it changes less: then list it above, with why.
    default, another = _hashes(option, option.default), _hashes(option, _another(option))
    assert (default[0] == another[0]) == (option.name in DERIVED_ONLY | WITHOUT_EFFECT)
    assert (default[1] == another[1]) == (option.name in WITHOUT_EFFECT)


def test_a_field_that_declares_nothing_changes_segments() -> None:
    assert Option("new", int, 1, "", "models").changes == "segments"


def test_help_says_what_every_option_means() -> None:
    text = Settings.__doc__ or ""
    for option in options():
        assert f"{option.name}: {option.help}" in text
        assert f"({option.described})" in text
    assert "(float in 1/s, between 0.01 and 240; default 5.0)" in text
    assert "(int or 'auto' in pixels, between 128 and 4096; default 'auto')" in text


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
    assert list(PRESETS) == ["fast", "balanced"] and DEFAULT_PRESET == "balanced"
    assert Settings.from_preset() == Settings() and PRESETS[DEFAULT_PRESET] == {}
    assert Settings.from_preset("fast").fps < Settings().fps


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
