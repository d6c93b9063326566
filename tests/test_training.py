"""Training without PyTorch: sets, manifests, crops, parts, augmentation, what is written, the command."""

from __future__ import annotations

import errno
import os
import sys
import tarfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from analyzer.cli import DONE, NOTHING_USABLE, USAGE, cli
from analyzer.errors import OutputError, SettingsError, SourceError
from analyzer.evaluation.labels import read_labels
from analyzer.faces import Faces
from analyzer.media.frame import Still
from analyzer.settings import Settings
from analyzer.training import dataset
from analyzer.training.augment import Augmentation, augmented, coded_together, generator
from analyzer.training.card import card_page, held_out_figures
from analyzer.training.dataset import (
    SHOWN,
    Crops,
    divided,
    near_duplicates,
    picture_hash,
    prepare,
    targets_of,
    wide_crops,
)
from analyzer.training.export import describe, model_input, quantized
from analyzer.training.recipes.base import Origin
from analyzer.training.sets import LabeledSet, read_manifest, read_sets, terms_of
from analyzer.training.train import evaluated_labels
from analyzer.vision.attributes.user import UserModel
from analyzer.vision.crops import CROP_LANDMARKS, BoxCrop, Crop, LandmarkCrop
from analyzer.vision.preprocessing import Pixels
from analyzer.vision.sandbox import add
from analyzer.vision.user_model import AgeOutput, GenderOutput, described

Image = NDArray[np.uint8]
Portraits = tuple[NDArray[np.uint8], NDArray[np.uint8]]

ALIGNED = LandmarkCrop(48, tuple((round(float(x), 4), round(float(y), 4)) for x, y in CROP_LANDMARKS))


def run_cli(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["train", *map(str, arguments)], prog_name="analyzer")


def image(path: Path, level: int = 90) -> Path:
    """A small gray picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((16, 16, 3), level, np.uint8))
    return path


# --- sets --------------------------------------------------------------------------------------------


def read(*sets: LabeledSet, work: Path, limit: int | None = None) -> pd.DataFrame:
    work.mkdir(exist_ok=True)
    return read_sets(sets, work, limit)[0]


def test_each_form_is_recognized_and_read(tmp_path: Path) -> None:
    image(tmp_path / "utk" / "31_1_2_x.jpg")
    image(tmp_path / "utk" / "300_1_2_x.jpg")
    image(tmp_path / "utk" / "-5_1_2_x.jpg")
    for name in ("female/a.png", "male/in/b.jpg"):
        image(tmp_path / "two" / name)
    image(tmp_path / "own" / "a.jpg")
    (tmp_path / "own" / "own.csv").write_text("image,age_years,gender,race,person\na.jpg,40,male,black,Bo\n")
    image(tmp_path / "celeba" / "img_align_celeba" / "000001.jpg")
    (tmp_path / "celeba" / "list_attr_celeba.txt").write_text("1\nArched Male Young\n000001.jpg -1 -1  1\n")
    (tmp_path / "celeba" / "identity_CelebA.txt").write_text("000001.jpg 2880\n")
    image(tmp_path / "fair" / "train" / "1.jpg")
    image(tmp_path / "fair" / "train" / "2.jpg")
    (tmp_path / "fair" / "train.csv").write_text(
        "file,age,gender,race,service_test\ntrain/1.jpg,30-39,Male,East Asian,True\n"
        "train/2.jpg,more than 70,Female,Latino_Hispanic,False\n"
    )
    sets = [LabeledSet(tmp_path / one) for one in ("utk", "two", "own/own.csv", "celeba", "fair/train.csv")]
    (tmp_path / "work").mkdir()
    faces, about = read_sets(sets, tmp_path / "work")
    assert [one["form"] for one in about] == ["utkface", "classes", "csv", "celeba", "fairface"]
    assert about[0]["unparsed"] == ["-5_1_2_x.jpg", "300_1_2_x.jpg"]
    columns = ["set", "true_gender", "age_low", "age_high", "true_race", "person"]
    rows = faces[columns].astype(object).where(faces[columns].notna(), None).to_numpy().tolist()
    assert rows == [
        [0, "female", 31, 31, "asian", ""],
        [1, "female", None, None, "", ""],
        [1, "male", None, None, "", ""],
        [2, "male", 40, 40, "black", "Bo"],
        [3, "female", None, None, "", "celeba-2880"],
        [4, "male", 30, 39, "asian", ""],
        [4, "female", 70, 100, "other", ""],
    ]
    assert all(path.is_file() for path in faces["path"])


def test_celebas_list_as_csv_and_an_archive_are_read_too(tmp_path: Path) -> None:
    image(tmp_path / "1.jpg")
    (tmp_path / "list_attr_celeba.csv").write_text("image_id,Bald,Male\n1.jpg,-1,1\n")
    with tarfile.open(tmp_path / "faces.tar", "w") as archive:
        archive.add(tmp_path / "1.jpg", "in/9_0_0_x.jpg")
    sets = LabeledSet(tmp_path / "list_attr_celeba.csv"), LabeledSet(tmp_path / "faces.tar")
    assert read(*sets, work=tmp_path / "work")["true_gender"].tolist() == ["male", "male"]


def test_the_limit_takes_a_sample_that_is_always_the_same(tmp_path: Path) -> None:
    for number in range(20):
        image(tmp_path / "two" / ("female", "male")[number % 2] / f"{number}.jpg")
    chosen = [
        read(LabeledSet(tmp_path / "two"), work=tmp_path / name, limit=6)["name"].tolist() for name in "ab"
    ]
    assert chosen[0] == chosen[1] and len(chosen[0]) == 6
    assert {name.split("/")[0] for name in chosen[0]} == {"female", "male"}


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        (
            "a.csv",
            "image,age_years,gender\nx.jpg,-5,male\n",
            "a.csv: line 2: age_years must be a number from 0 ",
        ),
        (
            "a.csv",
            "image,age_years,gender\nx.jpg,300,male\n",
            "a.csv: line 2: age_years must be a number from 0 ",
        ),
        ("a.csv", "image,age_years,gender,race\nx.jpg,3,male,blue\n", "race must be one of white, black"),
        (
            "a.csv",
            "file,age,gender,race\nx.jpg,200-300,Male,White\n",
            "a.csv: line 2: age must be a range such",
        ),
        ("a.csv", "file,age,gender,race\nx.jpg,old,Male,White\n", "age must be a range such as 20-29"),
        (
            "a.csv",
            "file,age,gender,race\nx.jpg,3-9,?,Blue\n",
            "gender must be Female or Male, not '?'; race mu",
        ),
        ("a.csv", "file,age,gender,race\nno.jpg,3-9,Male,White\n", "there is no image 'no.jpg' in "),
        ("a.csv", "file,age,gender,race\n", "a.csv: this CSV has no rows"),
        (
            "list_attr_celeba.txt",
            "1\nBald\nx.jpg 1\n",
            "its second line must name the attributes, one of them",
        ),
        ("list_attr_celeba.txt", "1\nMale\nx.jpg 0\n", "line 3: Male must be 1 or -1, not '0'"),
        ("list_attr_celeba.txt", "1\nMale\nx.jpg\n", "line 3: it must have a name and 1 numbers"),
        ("list_attr_celeba.txt", "1\nMale\n", "it lists no images"),
        ("list_attr_celeba.csv", "image_id,Bald\nx.jpg,1\n", "the columns image_id and Male are missing"),
        ("two", "", "no image here is named age_gender_race"),
    ],
)
def test_wrong_labels_are_one_sentence(tmp_path: Path, name: str, text: str, says: str) -> None:
    image(tmp_path / "x.jpg")
    if name == "two":
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_text(text)
    with pytest.raises(SourceError) as caught:
        read(LabeledSet(tmp_path / name), work=tmp_path / "work")
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_two_folders_of_other_names_are_named_by_the_manifest(tmp_path: Path) -> None:
    image(tmp_path / "stars" / "women" / "a.jpg")
    image(tmp_path / "stars" / "men" / "b.jpg")
    (tmp_path / "sets.toml").write_text(
        '[[sets]]\npath = "stars"\nform = "classes"\nfemale = "women"\nmale = "men"\n'
        'license = "own"\ncommercial_use = true\nweight = 2\nuse = "train"\n'
    )
    faces = read(*read_manifest(tmp_path / "sets.toml"), work=tmp_path / "work")
    assert faces[["true_gender", "weight", "use"]].to_numpy().tolist() == [
        ["female", 2.0, "train"],
        ["male", 2.0, "train"],
    ]
    with pytest.raises(SourceError, match="there is no folder 'female' in it"):
        read(LabeledSet(tmp_path / "stars", form="classes"), work=tmp_path / "other")


GOOD = {"path": '"x"', "license": '"CC0"', "commercial_use": "true"}


def manifest(tmp_path: Path, **values: str) -> Path:
    entry = {key: value for key, value in (GOOD | values).items() if value}
    lines = [f"{key} = {value}" for key, value in entry.items()]
    (tmp_path / "sets.toml").write_text("\n".join(["[[sets]]", *lines]))
    return tmp_path / "sets.toml"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"licence": '"CC0"'}, "licence"),
        ({"license": ""}, "license"),
        ({"license": '" "'}, "sets[0].license must say under which terms"),
        ({"commercial_use": ""}, "commercial_use"),
        ({"commercial_use": '"yes"'}, "sets[0].commercial_use must be true or false"),
        (
            {"license": '"CC BY-NC 4.0"'},
            "sets[0] says commercial_use = true, which its license 'CC BY-NC 4.0'",
        ),
        ({"license": '"non-commercial research only"'}, "does not allow"),
        ({"weight": "0"}, "sets[0].weight must be above 0"),
        ({"weight": "nan"}, "sets[0].weight must be"),
        ({"form": '"imagenet"'}, "sets[0].form must be"),
        ({"use": '"all"'}, "sets[0].use must be"),
        ({"path": "[]"}, "sets[0].path must name a file or folder"),
        ({"path": "3"}, "sets[0].path must be"),
    ],
)
def test_a_wrong_manifest_is_one_sentence(tmp_path: Path, changes: dict[str, str], says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_manifest(manifest(tmp_path, **changes))
    assert str(caught.value).startswith(str(tmp_path / "sets.toml")) and says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "it names no sets"),
        ("sets = 3", "it names no sets"),
        ("[[set]]\npath = 'x'", "set is not a key of a manifest"),
        ("[[sets]\n", "sets.toml"),
    ],
)
def test_a_manifest_without_sets_is_one_sentence(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "sets.toml").write_text(text)
    with pytest.raises(SettingsError, match=says):
        read_manifest(tmp_path / "sets.toml")


def test_what_comes_out_may_be_used_only_as_all_that_goes_in() -> None:
    free = LabeledSet(Path("a"), name="A", license="CC0", commercial_use=True)
    closed = LabeledSet(Path("b"), name="B", license="research", commercial_use=False)
    unknown = LabeledSet(Path("c"), name="C")
    weights = Origin("W", "MIT", True)
    assert terms_of([free], [weights]).commercial_use is True
    assert terms_of([free, unknown]).commercial_use is None
    assert terms_of([free, unknown, closed]).commercial_use is False
    assert terms_of([free], [Origin("W", "?", None)]).commercial_use is None
    both = terms_of([free, free, closed], [weights])
    assert (both.license, both.trained_on) == ("A: CC0; B: research; W: MIT", "A, B")


# --- crops -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "crop", [ALIGNED, BoxCrop(64, 64, margin=0.2, margin_px=4), BoxCrop(40, 60), BoxCrop(50, 50, square=True)]
)
def test_the_middle_of_a_wide_crop_is_what_an_analysis_crops(crop: Crop, two_portraits: Portraits) -> None:
    portrait = np.ascontiguousarray(two_portraits[0][:, :, ::-1])
    box = np.array([70, 80, 214, 262], np.float32)
    landmarks = box[:2] + CROP_LANDMARKS * (box[2:] - box[:2])
    faces = Faces.build(boxes=[box], scores=[0.9], landmarks=[landmarks])
    assert isinstance(crop, LandmarkCrop | BoxCrop)
    width, height = dataset.crop_size(crop)
    pad = (round(width * 0.15), round(height * 0.15))
    (wide,), (exact,) = wide_crops(crop, pad, Still(portrait), faces), crop.crop(Still(portrait), faces)
    assert wide.shape == (height + 2 * pad[1], width + 2 * pad[0], 3)
    middle = wide[pad[1] : pad[1] + height, pad[0] : pad[0] + width]
    # Averaged down from other pixels of the picture, at most.
    assert np.abs(middle.astype(int) - exact).mean() < 3
    moved = np.roll(middle, 2, axis=1)
    assert np.abs(moved.astype(int) - exact).mean() > 2 * np.abs(middle.astype(int) - exact).mean()


def portraits_table(tmp_path: Path, two_portraits: Portraits, **files: bytes) -> pd.DataFrame:
    """Two portraits as labeled faces, and files of other content."""
    folder = tmp_path / "pictures"
    for name, portrait in zip(("30_1_0_a.png", "40_1_0_b.png"), two_portraits, strict=True):
        folder.mkdir(exist_ok=True)
        cv2.imwrite(str(folder / name), portrait[:, :, ::-1])
    for name, content in files.items():
        (folder / f"{name}.jpg").write_bytes(content)
    return read(LabeledSet(folder), work=tmp_path / "work")


def test_bad_pictures_are_named_and_left_out(tmp_path: Path, two_portraits: Portraits) -> None:
    plain = cv2.imencode(".jpg", np.full((80, 80, 3), 128, np.uint8))[1].tobytes()
    files = {
        "50_0_0_broken": plain[:200],
        "51_0_0_text": b"hello",
        "52_0_0_plain": plain,
        "53_0_0_empty": b"",
    }
    faces = portraits_table(tmp_path, two_portraits, **files)
    told: list[tuple[int, int, int]] = []
    crops = prepare(
        faces,
        ALIGNED,
        tmp_path / "cache",
        Settings(threads=1),
        shown=False,
        on_progress=lambda *numbers: told.append(numbers),
    )
    assert crops.faces["name"].tolist() == ["30_1_0_a.png", "40_1_0_b.png"]
    reasons = dict(zip(crops.skipped["name"], crops.skipped["reason"], strict=True))
    assert set(reasons) == {f"{name}.jpg" for name in files}
    assert reasons["52_0_0_plain.jpg"] == "no face was found in it"
    assert "not an image in a known format" in reasons["51_0_0_text.jpg"]
    assert told == [(6, 6, 4)]
    assert crops.exact(0).shape == (48, 48, 3) and crops.wide(1, 0).shape == (62, 62, 3)
    assert crops.faces["face_px"].between(60, 250).all() and crops.faces["quality"].gt(0.4).all()


def test_a_picture_of_nobody_alone_is_an_error(tmp_path: Path) -> None:
    image(tmp_path / "pictures" / "3_0_0_x.jpg")
    faces = read(LabeledSet(tmp_path / "pictures"), work=tmp_path / "work")
    with pytest.raises(SourceError, match="no face was found in any of the pictures"):
        prepare(faces, ALIGNED, tmp_path / "cache", Settings(threads=1), shown=False)


def test_crops_are_made_once_and_continue_after_a_kill(
    tmp_path: Path, two_portraits: Portraits, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces = portraits_table(tmp_path, two_portraits)
    monkeypatch.setattr(dataset, "_BLOCK", 1)
    made: list[int] = []
    make = dataset._Maker.make

    def count(self: Any, rows: pd.DataFrame, number: int, home: Path) -> None:
        made.append(number)
        make(self, rows, number, home)

    monkeypatch.setattr(dataset._Maker, "make", count)
    ready = {"crop": ALIGNED, "folder": tmp_path / "cache", "settings": Settings(threads=1), "shown": False}
    first = prepare(faces, **ready)
    assert made == [0, 1]
    again = prepare(faces, **ready)
    assert made == [0, 1]
    # A kill between the two files of a block leaves its array alone.
    (home,) = (tmp_path / "cache").iterdir()
    (home / "00001.json").unlink()
    third = prepare(faces, **ready)
    assert made == [0, 1, 1]
    for one in (again, third):
        pd.testing.assert_frame_equal(one.faces, first.faces)
        assert all(np.array_equal(one.wide(row, 0), first.wide(row, 0)) for row in range(2))
    prepare(faces, **ready | {"crop": BoxCrop(32, 32)})
    assert made == [0, 1, 1, 0, 1] and len(list((tmp_path / "cache").iterdir())) == 2
    # Another picture under the same name is another face.
    path = faces["path"].iloc[0]
    cv2.imwrite(str(path), two_portraits[1][:, :, ::-1])
    prepare(faces, **ready)
    assert made[-2:] == [0, 1]


def test_a_full_disk_is_one_sentence(
    tmp_path: Path, two_portraits: Portraits, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces = portraits_table(tmp_path, two_portraits)

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OutputError, match=r"no space is left for .*00000\.npy") as caught:
        prepare(faces, ALIGNED, tmp_path / "cache", Settings(threads=1), shown=False)
    assert caught.value.no_space
    assert not list((tmp_path / "cache").rglob("*.npy"))


def test_faces_are_shown_as_in_photographs_and_videos(tmp_path: Path, two_portraits: Portraits) -> None:
    faces = portraits_table(tmp_path, two_portraits)
    ready = {"crop": ALIGNED, "settings": Settings(threads=1)}
    crops = prepare(faces, folder=tmp_path / "a", **ready)
    assert crops.views == 1 + SHOWN
    assert crops.has(np.array([0, 1]), 1).all()  # a photograph of a clear face is found again
    views = [crops.exact(0, view) for view in range(crops.views)]
    assert any(np.abs(views[0].astype(int) - one).mean() > 5 for one in views[1:])
    twice = prepare(faces, folder=tmp_path / "b", **ready)
    assert all(np.array_equal(twice.wide(1, view), crops.wide(1, view)) for view in range(crops.views))


# --- duplicates and parts ----------------------------------------------------------------------------


def test_a_picture_that_was_scaled_coded_or_lit_otherwise_is_the_same(two_portraits: Portraits) -> None:
    first, other = (np.ascontiguousarray(one[:, :, ::-1]) for one in two_portraits)
    coded = cv2.imdecode(cv2.imencode(".jpg", first, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], cv2.IMREAD_COLOR)
    small = cv2.resize(first, (90, 96), interpolation=cv2.INTER_AREA)
    darker = (first * 0.7).astype(np.uint8)
    hashes = [picture_hash(one.astype(np.uint8)) for one in (first, other, coded, small, darker)]
    assert near_duplicates(hashes) == [(0, 2), (0, 3), (0, 4), (2, 3), (2, 4), (3, 4)]
    assert near_duplicates([]) == []


def made_crops(count: int, random: np.random.Generator, **columns: Any) -> Crops:
    """Faces without pictures worth mentioning; women and men in turns, of 20 to 59 years."""
    numbers = np.arange(count)
    ages = 20.0 + numbers % 40
    table = pd.DataFrame(
        {
            "path": Path("x.jpg"),
            "name": [f"{number}.jpg" for number in numbers],
            "true_gender": np.where(numbers % 2, "female", "male"),
            **dict.fromkeys(("true_age", "age_low", "age_high"), ages),
            **{"true_race": "", "person": "", "set": 0, "weight": 1.0, "use": "split"},
            **{"x1": np.nan, "y1": np.nan, "x2": np.nan, "y2": np.nan, "block": 0, "place": numbers},
            **{"views": 1, "face_px": 80.0, "quality": 0.9},
            "hash": [random.bytes(32).hex() for _ in numbers],
        }
    ).assign(**columns)
    pixels = random.integers(0, 256, (count, 1, 20, 20, 3)).astype(np.uint8)
    return Crops(table, pd.DataFrame(columns=["name", "reason"]), (16, 16), (2, 2), (pixels,))


def test_a_person_and_what_is_nearly_the_same_stay_in_one_part() -> None:
    random = np.random.default_rng(0)
    crops = made_crops(
        600, random, person=[f"p{number // 3}" if number < 300 else "" for number in range(600)]
    )
    hashes = crops.faces["hash"].tolist()
    for number in range(300, 500, 2):  # every second one is nearly the one after it
        flipped = bytearray.fromhex(hashes[number])
        flipped[0] ^= 0xFF
        hashes[number + 1] = flipped.hex()
    crops.faces["hash"] = hashes
    parts = divided(crops).faces
    shares = parts["part"].value_counts(normalize=True)
    assert 0.7 < shares["train"] < 0.9 and shares["validate"] > 0.05 and shares["test"] > 0.05
    assert parts[:300].groupby("person")["part"].nunique().eq(1).all()
    pairs = parts["part"].to_numpy()[300:500].reshape(-1, 2)
    assert (pairs[:, 0] == pairs[:, 1]).all()
    # Faces that come and go do not move others.
    fewer = made_crops(600, np.random.default_rng(1))
    whole = divided(fewer).faces.set_index("name")["part"]
    kept = fewer.faces.iloc[100:].reset_index(drop=True)
    less = divided(Crops(kept, fewer.skipped, fewer.size, fewer.pad, fewer.blocks))
    assert less.faces.set_index("name")["part"].equals(whole[100:])


def test_sets_may_be_for_one_part_and_what_they_share_is_left_out() -> None:
    random = np.random.default_rng(2)
    use = ["train"] * 30 + ["validate"] * 20 + ["test"] * 20
    person = ["same" if number in (3, 35, 66) else "" for number in range(70)]
    parts = divided(made_crops(70, random, use=use, person=person))
    assert parts.faces["part"].value_counts().to_dict() == {"train": 29, "validate": 19, "test": 20}
    assert parts.skipped["name"].tolist() == ["3.jpg", "35.jpg"]
    assert parts.skipped["reason"].eq("it shows the same as a face that is held out").all()


@pytest.mark.parametrize(
    ("columns", "count", "says"),
    [
        ({}, 3, "there are 3 faces with gender to train on, and it takes 40 at the least"),
        ({"true_gender": "female"}, 200, "0 of the 160 faces to train on are labeled male"),
        ({"true_gender": "", "true_age": np.nan}, 200, "no face has a label of gender or age"),
        ({"true_age": 30.0}, 200, "all faces have the same age"),
    ],
)
def test_too_little_to_learn_from_is_one_sentence(columns: dict[str, Any], count: int, says: str) -> None:
    part = ["train" if number % 5 else "validate" for number in range(count)] if count > 3 else "train"
    crops = made_crops(count, np.random.default_rng(0), part=part, **columns)
    with pytest.raises(SourceError, match=says):
        targets_of(crops, ("gender", "age"), ())


def test_what_has_no_labels_is_not_learned_unless_it_must_be() -> None:
    part = ["train" if number % 5 else "validate" for number in range(200)]
    crops = made_crops(200, np.random.default_rng(0), part=part, true_age=np.nan)
    assert targets_of(crops, ("gender", "age"), ()) == ("gender",)
    assert targets_of(made_crops(200, np.random.default_rng(0), part=part), ("gender", "age"), ()) == (
        "gender",
        "age",
    )
    with pytest.raises(SourceError, match="no face has a label of age, which this recipe needs"):
        targets_of(crops, ("gender", "age"), ("age",))


# --- augmentation ------------------------------------------------------------------------------------


def test_what_is_drawn_depends_on_seed_epoch_and_face_alone() -> None:
    wide = np.random.default_rng(0).integers(0, 256, (60, 50, 3)).astype(np.uint8)
    crops = [augmented(wide, (40, 48), Augmentation(), generator(1, 2, face)) for face in (3, 4, 3)]
    assert crops[0].shape == (48, 40, 3) and crops[0].dtype == np.uint8
    assert np.array_equal(crops[0], crops[2]) and not np.array_equal(crops[0], crops[1])
    other = augmented(wide, (40, 48), Augmentation(), generator(1, 3, 3))
    assert not np.array_equal(crops[0], other)


def test_without_variation_a_crop_is_the_middle() -> None:
    wide = np.random.default_rng(0).integers(0, 256, (60, 60, 3)).astype(np.uint8)
    still = Augmentation(**dict.fromkeys(Augmentation.__dataclass_fields__, 0.0))
    assert np.array_equal(augmented(wide, (40, 40), still, generator(0, 0, 0)), wide[10:50, 10:50])
    mirrored = augmented(wide, (40, 40), Augmentation(**vars(still) | {"mirror": 1.0}), generator(0, 0, 0))
    assert np.array_equal(mirrored, wide[10:50, 10:50][:, ::-1])


def test_every_kind_of_variation_changes_a_crop() -> None:
    wide = cv2.GaussianBlur(
        np.random.default_rng(0).integers(0, 256, (90, 90, 3)).astype(np.uint8), (0, 0), 2
    )
    still = Augmentation(**dict.fromkeys(Augmentation.__dataclass_fields__, 0.0))
    plain = augmented(wide.astype(np.uint8), (64, 64), still, generator(0, 0, 0))
    for kind in ("turn_deg", "shift", "scale", "stretch", "soft", "blur", "noise", "light", "gray", "jpeg"):
        more = Augmentation(**vars(still) | {kind: 1.0 if kind != "turn_deg" else 20.0})
        varied = [
            augmented(wide.astype(np.uint8), (64, 64), more, generator(0, 0, face)) for face in range(4)
        ]
        assert max(np.abs(plain.astype(int) - one).mean() for one in varied) > 0.3, kind
    covering = Augmentation(**vars(still) | {"occlusion": 1.0})
    assert not np.array_equal(augmented(wide.astype(np.uint8), (64, 64), covering, generator(0, 0, 0)), plain)


def test_faces_coded_together_stay_in_their_places_and_get_surroundings() -> None:
    still = Augmentation(**dict.fromkeys(Augmentation.__dataclass_fields__, 0.0))
    colors = np.random.default_rng(4).integers(60, 200, (7, 3))
    wide = [np.zeros((78, 78, 3), np.uint8) for _ in colors]
    for one, color in zip(wide, colors, strict=True):
        one[20:] = color  # the picture ends above
    corners = []
    for number in range(8):
        crops = coded_together(wide, (60, 60), still, generator(0, number, 0))
        assert all(crop.shape == (60, 60, 3) and crop.dtype == np.uint8 for crop in crops)
        for crop, color in zip(crops, colors, strict=True):
            assert np.abs(crop[35:50, 20:40].mean(axis=(0, 1)) - color).max() < 25
        corners += [crop[:5, :5].max() for crop in crops]
        again = coded_together(wide, (60, 60), still, generator(0, number, 0))
        assert all(map(np.array_equal, crops, again))
    assert 0.02 < np.mean(np.array(corners) < 40) < 0.4  # few stay black


# --- what is written ---------------------------------------------------------------------------------

OUTPUTS: list[dict[Any, Any]] = [
    {"gender": GenderOutput("logit", "gender", of="male")},
    {"gender": GenderOutput("logits", "both", (0, 2), classes=("female", "male"))},
    {"age": AgeOutput("years", "age", factor=10.0, offset_years=30.0)},
    {
        "gender": GenderOutput("probability", 0, of="female"),
        "age": AgeOutput("logits", "age", ranges=((0, 2), (4, 60)), mean_years=(1.0, 30.5)),
    },
]


@pytest.mark.parametrize("outputs", OUTPUTS)
@pytest.mark.parametrize(
    "crop", [ALIGNED, BoxCrop(64, 64, margin=0.2, margin_px=3), BoxCrop(40, 60), BoxCrop(50, 50, square=True)]
)
def test_a_description_says_what_the_recipe_says(
    tmp_path: Path, crop: LandmarkCrop | BoxCrop, outputs: dict[Any, Any]
) -> None:
    pixels = Pixels(rgb=True, means=(1.0, 2.0, 3.5), scale=(4.0, 5.0, 6.0))
    texts = {"license": 'x "y"\n\\', "trained_on": "two\tsets"}
    (tmp_path / "net.toml").write_text(describe(crop, pixels, outputs, texts, False), "utf-8")
    found = described(tmp_path / "net.onnx")
    assert (found.crop, found.pixels) == (crop, pixels)
    assert (found.gender, found.age) == (outputs.get("gender"), outputs.get("age"))
    assert (found.model.license, found.model.trained_on) == (texts["license"], texts["trained_on"])
    assert found.model.commercial_use is False


def network(path: Path, outputs: dict[Any, Any], side: int = 48, texts: str = "") -> Path:
    """A tiny convolutional network with a logit for gender and one number for age, and its description."""
    random = np.random.default_rng(0)

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(random.normal(0, 0.3, shape).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["faces", "c"], ["a"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("GlobalAveragePool", ["b"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "g"], ["gender"]),
        helper.make_node("MatMul", ["f", "y"], ["age"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("faces", TensorProto.FLOAT, ["count", 3, side, side])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["count", 1]) for name in ("gender", "age")],
        [weights("c", 8, 3, 3, 3), weights("g", 8, 1), weights("y", 8, 1)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    path.write_bytes(model.SerializeToString())
    path.with_suffix(".toml").write_text(describe(ALIGNED, PIXELS, outputs, {"license": texts}, None))
    return path


PIXELS = Pixels(rgb=True, means=(127.5,) * 3, scale=(64.0,) * 3)
BOTH: dict[Any, Any] = {
    "gender": GenderOutput("logit", "gender", of="female"),
    "age": AgeOutput("years", "age", factor=10.0, offset_years=30.0),
}


def test_the_input_is_what_the_engine_makes_of_crops(tmp_path: Path) -> None:
    """The network sees in training what it will see in an analysis."""
    import onnxruntime

    path = network(tmp_path / "net.onnx", BOTH)
    crops = np.random.default_rng(0).integers(0, 256, (5, 48, 48, 3)).astype(np.uint8)
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    gender, age = session.run(None, {"faces": model_input(crops, PIXELS)})
    found = UserModel(described(path), Settings(precision="f32", threads=1)).estimate(list(crops))
    assert found.female is not None and found.age_years is not None
    np.testing.assert_allclose(found.female, 1 / (1 + np.exp(-gender[:, 0])), atol=1e-4)
    np.testing.assert_allclose(found.age_years, np.clip(age[:, 0] * 10 + 30, 0, 120), atol=1e-3)
    last = model_input(crops, Pixels(channels_last=True))
    assert np.array_equal(last, crops.astype(np.float32))


def test_a_network_in_eight_bits_says_nearly_the_same_and_can_be_added(tmp_path: Path) -> None:
    path = network(tmp_path / "net.onnx", BOTH)
    crops = np.random.default_rng(0).integers(0, 256, (24, 48, 48, 3)).astype(np.uint8)
    chunks = [model_input(crops[start : start + 8], PIXELS) for start in range(0, 24, 8)]
    quantized(path, tmp_path / "net-int8.onnx", iter(chunks))
    (tmp_path / "net-int8.toml").write_text(path.with_suffix(".toml").read_text())
    kinds = {node.op_type for node in onnx.load(tmp_path / "net-int8.onnx").graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    settings = Settings(precision="f32", threads=1)
    answers = [
        UserModel(described(tmp_path / f"{name}.onnx"), settings).estimate(list(crops))
        for name in ("net", "net-int8")
    ]
    assert answers[0].female is not None and answers[1].female is not None
    np.testing.assert_allclose(answers[0].female, answers[1].female, atol=0.03)
    assert not np.array_equal(answers[0].female, answers[1].female)
    added = add(tmp_path / "net-int8.onnx", tmp_path / "models")
    assert added.path == tmp_path / "models" / "net-int8.onnx"
    assert not list(tmp_path.glob("*.prepared"))


def test_held_out_faces_are_measured_with_the_file_that_was_written(tmp_path: Path) -> None:
    crops = made_crops(90, np.random.default_rng(0), part=["test"] * 40 + ["train"] * 50, true_race="white")
    pixels = np.random.default_rng(1).integers(0, 256, (90, 1, 62, 62, 3)).astype(np.uint8)
    crops = Crops(crops.faces, crops.skipped, (48, 48), (7, 7), (pixels,))
    path = network(tmp_path / "net.onnx", BOTH)
    figures = held_out_figures(crops, {"f32": path}, Settings(threads=1))
    exact = pixels[:40, 0, 7:55, 7:55]
    found = UserModel(described(path), Settings(precision="f32", threads=1)).estimate(list(exact))
    assert found.female is not None and found.age_years is not None
    right = np.mean((found.female > 0.5) == (np.arange(40) % 2 == 1))
    scores = figures["f32"]["plain"]
    assert scores["labeled"] == 40
    assert scores["groups"]["all"]["all"]["likelier_right"]["value"] == pytest.approx(right, abs=1e-4)
    error = np.abs(found.age_years - (20 + np.arange(40) % 40)).mean()
    assert scores["groups"]["all"]["all"]["age_abs_error"]["value"] == pytest.approx(error, abs=1e-3)
    assert list(scores["groups"]["true_race"]) == ["white"]


def test_held_out_faces_are_evaluated_wherever_their_names_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pictures/a.jpg", "pictures/b.jpg"):
        image(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    faces = made_crops(4, np.random.default_rng(0), true_race="asian").faces
    faces["path"] = [
        Path("pictures/a.jpg"),
        Path("pictures/b.jpg"),
        Path("pictures/c.jpg"),
        Path("pictures/c.jpg"),
    ]
    faces.loc[1, ["age_low", "age_high"]] = [20.0, 29.0]
    (tmp_path / "elsewhere").mkdir()
    path = tmp_path / "elsewhere" / "held-out.csv"
    evaluated_labels(faces).to_csv(path, index=False)
    found = read_labels(path, tmp_path / "work", None).faces
    assert found is not None and len(found) == 2  # c.jpg shows two, and nobody knows where
    rows = found.sort_values("name")
    assert rows["true_gender"].tolist() == ["male", "female"] and rows["true_race"].eq("asian").all()
    assert rows["true_age"].iloc[0] == 20 and np.isnan(rows["true_age"].iloc[1])  # a range is no age


CARD: dict[str, Any] = {
    **{"schema_version": 1, "name": "mine", "made_on": "2026-11-30", "analyzer_version": "0.1.0"},
    **{
        "recipe": "small",
        "summary": "a network",
        "paper": "none",
        "first_weights": [],
        "targets": ["gender"],
    },
    **{"weights": 1234567, "torch": "2.13.0", "epochs": 3, "best_epoch": 2, "history": []},
    "plan": {"how": {"batch": 64}, "seed": 0, "device": "cpu", "threads": 2},
    "seconds_of_training": 600.0,
    "terms": {"license": "a|b: CC0", "commercial_use": True, "trained_on": "a|b", "source": "x"},
    "sets": [
        {
            **{"name": "a|b", "form": "classes", "license": "CC0", "commercial_use": True, "source": ""},
            **{"use": "split", "used": 100, "unparsed": []},
        }
    ],
    "split": {
        part: {"faces": 10, "female": 4, "male": 6, "with_age": 0} for part in ("train", "validate", "test")
    },
    "left_out": {"no face was found in it": 2},
    "files": {"f32": {"name": "mine.onnx", "bytes": 1000, "sha256": "ab"}},
    "held_out": {},
    "evaluation": None,
    "parity": {"faces": 10, "f32": {"gender": {"largest": 2e-6, "mean": 1e-7}}},
}


def test_the_card_says_what_it_was_made_from() -> None:
    page = card_page(CARD)
    for words in ("a\\|b: CC0", "| commercial use | allowed |", "2 because no face was found in it", "2e-06"):
        assert words in page, words
    assert "There were none" in page and "10 minutes on cpu with 2 threads" in page


# --- the command -------------------------------------------------------------------------------------


def test_help_needs_no_pytorch_and_training_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    done = run_cli("--help")
    assert done.exit_code == DONE and "list_attr_celeba" in done.output
    image(tmp_path / "faces" / "3_0_0_x.jpg")
    done = run_cli(tmp_path / "faces", "--recipe", "small", "--out", tmp_path / "out")
    assert done.exit_code == NOTHING_USABLE
    assert done.output.strip() == (
        "Error: training needs PyTorch, which is not installed: pip install 'audience-analyzer[train]'"
    )
    assert not (tmp_path / "out").exists()


def test_usage_errors(tmp_path: Path) -> None:
    done = run_cli(tmp_path, "--recipe", "resnet", "--out", tmp_path / "out")
    assert done.exit_code == USAGE and "'resnet' is not one of small" in done.output
    done = run_cli(manifest(tmp_path, licence='"CC0"'), "--recipe", "small", "--out", tmp_path / "out")
    assert done.exit_code == USAGE and "licence" in done.output
    done = run_cli(tmp_path / "no.toml", "--recipe", "small", "--out", tmp_path / "out")
    assert done.exit_code == NOTHING_USABLE and "no.toml cannot be read" in done.output
