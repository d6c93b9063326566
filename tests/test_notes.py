"""What was not counted or not estimated is found with its reason, and the option that is named changes it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analyzer.people.identity import SURE_SCORE, link_tracklets
from analyzer.people.timeline import sample_durations
from analyzer.runs.notes import REASONS, Note, Seen, people_notes, scene_notes
from analyzer.runs.schema import EMBEDDINGS
from analyzer.runs.tables import empty_table
from analyzer.settings import Settings
from analyzer.vision import registry

FPS = 5
YUNET = "--detector yunet (first run models pull yunet)"


@pytest.fixture
def no_yunet(monkeypatch: pytest.MonkeyPatch) -> None:
    """YuNet is not on this machine."""
    monkeypatch.setattr(registry, "available", lambda model: model is not registry.YUNET)


EMBEDDINGS = empty_table(EMBEDDINGS)
VIDEO = Seen(images=False, samples=100, seconds=20.0, width=1280, height=720)
Face = tuple[Sequence[int], float, float]
"""In which samples, its quality, its width."""


def made(*cast: Face, images: bool = False, count: int = 100) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Faces in 100 samples of 20 s, or in images."""
    times = np.arange(count) / (1 if images else FPS)
    samples = pd.DataFrame(
        {
            "sample": np.arange(count),
            "time_s": times,
            "duration_s": 1.0 if images else sample_durations(times),
            "shot": 0,
            "image": [f"{number}.jpg" if images else "" for number in range(count)],
        }
    )
    rows: list[dict[str, Any]] = [
        {
            "sample": at,
            "tracklet_id": number,
            "score": SURE_SCORE,
            "quality": quality,
            "x1": 300.0 * number,
            "x2": 300.0 * number + wide,
        }
        for number, (where, quality, wide) in enumerate(cast)
        for at in where
    ]
    faces = (
        pd.DataFrame(rows)
        .assign(y1=0.0, y2=50.0, age_years=np.nan)
        .sort_values("sample", kind="stable", ignore_index=True)
    )
    faces["time_s"] = times[faces["sample"]]
    return faces, samples


def people(*rows: tuple[float, str, float, int]) -> pd.DataFrame:
    """Median width, gender, age, estimated sightings of each."""
    table = pd.DataFrame(rows, columns=["face_px_median", "gender", "age_years", "estimated_samples"])
    return table.assign(person_id=np.arange(1, len(table) + 1), gender_source="estimated")


EMPTY = people()


def take_notes(
    seen: Seen,
    faces: pd.DataFrame,
    table: pd.DataFrame,
    uncounted: pd.DataFrame,
    settings: Settings,
    **of: Any,
) -> tuple[Note, ...]:
    larger = {"may_be_larger": seen.may_be_larger}
    of_people = people_notes(faces, table, settings, **of, **larger) if len(faces) else ()
    return (*scene_notes(seen, faces, uncounted, settings), *of_people)


def uncounted_notes(
    *cast: Face, seen: Seen = VIDEO, settings: Settings | None = None, **rule: Any
) -> list[Note]:
    faces, samples = made(*cast, images=seen.images, count=seen.samples)
    linked = link_tracklets(faces, samples, EMBEDDINGS, **rule)
    faces["person_id"] = linked.person_ids
    return list(take_notes(seen, faces, EMPTY, linked.uncounted, settings or Settings(), child_years=12))


@pytest.mark.parametrize(("ages", "count"), [((30.0, 41.0), 2), ((30.0, np.nan), 1), ((np.nan,), 0)])
@pytest.mark.parametrize("measured", [True, False])
def test_ages_of_unmeasured_models_have_a_note(
    ages: tuple[float, ...], count: int, *, measured: bool
) -> None:
    faces, samples = made((range(15), 0.9, 95.0))
    faces["person_id"] = 1
    notes = take_notes(
        VIDEO,
        faces,
        people(*((95.0, "female", age, 3) for age in ages)),
        link_tracklets(faces, samples, EMBEDDINGS).uncounted,
        Settings(),
        child_years=12,
        measured=measured,
    )
    found = [one for one in notes if "how often such an interval contains the true age" in one.sentence]
    assert [one.count for one in found] == ([count] if count and not measured else [])


@pytest.mark.parametrize(
    ("pages", "said"),
    [
        ((("m.tif", 1),), "1 further page of m.tif was not read"),
        ((("m.tif", 2),), "2 further pages of m.tif were not read"),
        (
            (("m.tif", 2), ("n.tif", 1), ("o.tif", 4)),
            "2 further pages of m.tif and 5 of 2 more images were not read",
        ),
    ],
)
def test_pages_that_were_not_read_are_told_also_where_nobody_was_found(
    pages: tuple[tuple[str, int], ...], said: str
) -> None:
    seen = Seen(True, 3, 3.0, 640, 360, unread_pages=pages)
    faces, samples = made((range(1), 0.9, 95.0), images=True, count=3)
    faces["person_id"] = 1
    for some in (faces, faces.iloc[:0]):
        uncounted = link_tracklets(some, samples, EMBEDDINGS).uncounted
        notes = take_notes(seen, some, EMPTY, uncounted, Settings(), child_years=12)
        (note,) = (one for one in notes if one.reason == "unread_pages")
        assert note.sentence.startswith(said) and note.count == sum(count for _, count in pages)


def option(sentence: str, name: str) -> float:
    found = re.search(rf"--{name} (\d[\d.]*\d|\d)", sentence)
    assert found is not None, sentence
    return float(found[1])


def test_an_unclear_face_is_told_and_the_option_counts_it() -> None:
    face = (range(15), 0.4534, 95.0)
    (note,) = uncounted_notes(face)
    assert (note.reason, note.count) == ("uncounted_faint", 1)
    assert note.sentence == (
        "1 face was found but not counted: not clear enough, with a quality below 0.55 (0.45, width 95 "
        "pixels, seen for 3.0 s). --min-person-quality 0.45 counts it."
    )
    assert uncounted_notes(face, min_quality=option(note.sentence, "min-person-quality")) == []


@pytest.mark.parametrize("qualities", [(0.31, 0.45), (0.0, 0.26, 0.3534, 0.49)])
def test_the_quality_that_is_named_counts_all_of_them(qualities: tuple[float, ...]) -> None:
    cast = [(range(20), quality, 40.0) for quality in qualities]
    (note,) = uncounted_notes(*cast)
    assert note.count == len(qualities) and f"{len(qualities)} faces were found" in note.sentence
    assert uncounted_notes(*cast, min_quality=option(note.sentence, "min-person-quality")) == []


@pytest.mark.parametrize("counts", [(1,), (4, 2, 3)])
def test_faces_seen_too_briefly_are_told_and_the_option_counts_them(counts: tuple[int, ...]) -> None:
    cast = [(range(count), 0.9, 40.0) for count in counts]
    (note,) = uncounted_notes(*cast)
    assert (note.reason, note.count) == ("uncounted_brief", len(counts))
    assert "seen for less than 1 s." in note.sentence
    assert uncounted_notes(*cast, min_on_screen_s=option(note.sentence, "min-on-screen")) == []


def test_both_too_briefly_and_too_faintly() -> None:
    notes = uncounted_notes((range(2), 0.4, 40), (range(2), 0.4, 40), (range(2), 0.9, 40))
    assert [(note.reason, note.count) for note in notes] == [
        ("uncounted_brief", 1),
        ("uncounted_brief_and_faint", 2),
    ]
    assert notes[1].sentence.startswith("2 more faces were found but not counted")
    (alone,) = uncounted_notes((range(2), 0.4, 40))
    assert alone.sentence.startswith("1 face was found but not counted")


def test_images_are_told_in_words_of_images() -> None:
    seen = Seen(images=True, samples=3, seconds=3.0, width=640, height=480)
    (note,) = uncounted_notes(([0], 0.122, 80), ([1], 0.9, 80), seen=seen)
    assert note.sentence == (
        "1 face was found but not counted: not clear enough, with a quality below 0.14 (0.12, width 80 "
        "pixels). --min-person-quality 0.12 counts it."
    )
    two = Settings(min_on_screen_s=1.5)
    brief, both = uncounted_notes(
        ([0], 0.9, 80), ([1], 0.1, 80), seen=seen, settings=two, min_on_screen_s=1.5
    )
    assert brief.sentence.startswith("1 face was found but not counted: in fewer than 2 images.")
    assert "in fewer than 2 images and with a quality below 0.14" in both.sentence
    (nobody,) = take_notes(seen, made(([0], 0.9, 9))[0].iloc[:0], EMPTY, EMPTY, Settings(), child_years=12)
    assert nobody.sentence.startswith("No face was found in 3 images. ")
    assert nobody.sentence.endswith("This may find more: --detector-size 1280.")


@pytest.mark.parametrize(
    ("width", "changes", "options"),
    [
        (1280, {"detector": "centerface"}, f"--detector-size 1280 or {YUNET}"),
        (1920, {"detector": "yunet"}, "--detector-size 1280"),
        (500, {"detector": "yunet"}, "--detector-size 1000"),
        (320, {"detector": "centerface"}, YUNET),
        (1280, {"detector": "centerface", "detector_size": 1280}, YUNET),
        (320, {"detector": "yunet", "detector_size": 640}, ""),
        (640, {"detector": "none"}, ""),
    ],
)  # fmt: skip
def test_without_faces_options_are_suggested(
    no_yunet: None, width: int, changes: dict[str, Any], options: str
) -> None:
    seen = Seen(images=False, samples=695, seconds=139.0, width=width, height=width // 2)
    faces = made(([0], 0.9, 9))[0].iloc[:0]
    (note,) = take_notes(seen, faces, EMPTY, EMPTY, Settings(**changes), child_years=12)
    assert note.sentence == (
        "No face was found in 139.0 s of video (695 frames). People are counted by their faces: people "
        "seen from behind, or with a covered or very small face, are not found."
        + (f" {'These' if ' or ' in options else 'This'} may find more: {options}." if options else "")
    )


def notes_of(table: pd.DataFrame, widest: Sequence[float], **changes: Any) -> list[Note]:
    faces = pd.DataFrame({"person_id": table["person_id"], "x1": 0.0, "x2": np.array(widest, float)})
    seen = Seen(False, 100, 20.0, 320, 180, changes.pop("may_be_larger", False))
    empty = pd.DataFrame({"reason": pd.Series(dtype=str)})
    return list(take_notes(seen, faces, table, empty, Settings(**changes), child_years=12))


def test_people_with_narrow_faces_are_told_with_their_width() -> None:
    table = people(
        (13, "unknown", np.nan, 0),
        (11, "unknown", np.nan, 0),
        (14, "unknown", np.nan, 0),
        (50, "male", 30, 3),
    )
    (note,) = notes_of(table, [15.6, 12.4, 15, 55])
    assert (note.reason, note.count) == ("unestimated_narrow", 3)
    assert note.sentence == (
        "3 of 4 people are without gender and age: their faces are narrower than 16 pixels (median 13). "
        "--min-estimate-px 11 estimates them too, with larger errors; a larger frame is better."
    )
    (note,) = notes_of(table.iloc[:1], [15.6], may_be_larger=True)
    assert note.sentence.startswith("1 of 1 person is without gender and age: the face is narrower than 16")
    assert note.sentence.endswith("A larger --max-height downloads more pixels.")


def test_who_was_wide_enough_and_not_estimated_is_told() -> None:
    (note,) = notes_of(people((40, "unknown", np.nan, 0)), [41])
    assert (note.reason, note.count) == ("unestimated_other", 1)


def test_children_and_the_unsure_are_told_apart() -> None:
    table = people(
        (50, "unknown", 8, 3), (50, "unknown", 30, 3), (50, "unknown", 40, 3), (50, "female", 40, 3)
    )
    child, unsure = notes_of(table, [60] * 4)
    assert (child.reason, child.count, unsure.reason, unsure.count) == (
        *("gender_of_children", 1),
        *("gender_unsure", 2),
    )
    assert "younger than 12" in child.sentence and "--gender-of-children" in child.sentence
    assert "less than 70 % sure" in unsure.sentence
    # Asked for, a child's gender that is not stated is unsure.
    (unsure,) = notes_of(table, [60] * 4, gender_of_children=True)
    assert unsure.count == 3


def test_all_was_counted_and_estimated() -> None:
    assert notes_of(people((50, "female", 40, 3)), [60]) == []
    assert uncounted_notes((range(10), 0.9, 50)) == []
    assert len(set(REASONS)) == len(REASONS)


def test_a_very_short_video_says_what_was_asked_of_it() -> None:
    seen = Seen(images=False, samples=5, seconds=1.0, width=640, height=360)
    (note,) = uncounted_notes((range(2), 0.9, 50), seen=seen)
    assert "seen for less than 0.5 s (half of the video)." in note.sentence


def test_a_replaced_detector_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def noted(**changes: Any) -> list[str]:
        faces = made(([0], 0.9, 9))[0].iloc[:0]
        notes = take_notes(VIDEO, faces, EMPTY, EMPTY, Settings(**changes), child_years=12)
        return [note.sentence for note in notes if note.reason == "replaced_detector"]

    for here in (True, False):
        monkeypatch.setattr(registry, "available", lambda model, here=here: here)
        assert len(noted(detector="auto")) == (not here)
        assert not noted(detector="centerface") and not noted(detector="none")
    (sentence,) = noted(detector="auto")
    assert "CenterFace" in sentence and "models pull yunet" in sentence
