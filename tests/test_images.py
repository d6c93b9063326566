"""Folders of images: the same face is one person, and a table says who is in which file."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from click.testing import Result
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import TiffImagePlugin

import analyzer
from analyzer import job
from analyzer.cli.options import SOME_FAILED
from analyzer.errors import MediaError
from analyzer.media.images import further_pages
from analyzer.people.fusion import images_table
from analyzer.report import make_report
from analyzer.report.html import page
from analyzer.runs.run import Run
from analyzer.runs.schema import IMAGES
from analyzer.settings import Settings
from analyzer.sources.local import images_together
from analyzer.sources.resolve import Fetcher
from analyzer.sources.types import Item
from tests.test_cli import analyze

Image = NDArray[np.uint8]
Portraits = tuple[Image, Image]


def variants(portrait: Image) -> dict[str, Image]:
    """One photograph as albums hold it: mirrored, cropped, scaled, lit, coded and turned anew; 19 in all."""
    height, width = portrait.shape[:2]

    def lit(gain: float, more: float = 0) -> Image:
        return np.clip(portrait * gain + more, 0, 255).astype(np.uint8)

    def scaled(factor: float, image: Image = portrait) -> Image:
        method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
        return np.asarray(cv2.resize(image, None, fx=factor, fy=factor, interpolation=method), np.uint8)

    def coded(quality: int) -> Image:
        file = io.BytesIO()
        PillowImage.fromarray(portrait).save(file, "JPEG", quality=quality)
        return np.asarray(PillowImage.open(file).convert("RGB"))

    def turned(degrees: float) -> Image:
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
        return np.asarray(cv2.warpAffine(portrait, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE))

    mirrored = np.ascontiguousarray(portrait[:, ::-1])
    gray = np.repeat(cv2.cvtColor(portrait, cv2.COLOR_RGB2GRAY)[:, :, None], 3, axis=2).astype(np.uint8)
    noise = np.random.default_rng(0).normal(0, 8, portrait.shape)
    made = [
        *(portrait, mirrored, gray, np.ascontiguousarray(gray[:, ::-1])),
        *(lit(0.7), lit(0.5), lit(1.2), lit(0.8, 40), lit(1) // 2 + 60),
        *(scaled(0.7), scaled(1.5), scaled(2), scaled(0.8, mirrored)),
        *(coded(30), coded(60), turned(8), turned(-8)),
        np.ascontiguousarray(portrait[: height * 4 // 5, width // 10 : width * 9 // 10]),
        np.clip(portrait + noise, 0, 255).astype(np.uint8),
    ]
    return {f"{number:02d}.png": image for number, image in enumerate(made, 1)}


def save(path: Path, image: Image) -> None:
    assert cv2.imwrite(str(path), image[:, :, ::-1])


@pytest.fixture(scope="module")
def best_crops(two_portraits: Portraits, tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Run]:
    """19 images of one woman, one of another woman, one of both, one of nobody, one that is broken."""
    folder = tmp_path_factory.mktemp("album") / "album"
    folder.mkdir()
    collins, hopper = two_portraits
    for name, image in variants(collins).items():
        save(folder / name, image)
    save(folder / "20 both.png", np.hstack([hopper, collins]))
    save(folder / "21 other.png", hopper)
    save(folder / "22 nobody.png", np.full((90, 160, 3), 120, np.uint8))
    (folder / "23 broken.png").write_bytes(b"no image")
    return analyze(folder, folder.parent / "out", "--no-video")


def test_nineteen_images_of_one_woman_are_one_person(best_crops: tuple[Result, Run]) -> None:
    _, run = best_crops
    assert run.info["counts"]["people"] == 2
    of_first = run.images[run.images["person_id"] == 1]
    assert of_first["image"].tolist() == [*(f"{number:02d}.png" for number in range(1, 20)), "20 both.png"]
    assert run.images.loc[run.images["person_id"] == 2, "image"].tolist() == ["20 both.png", "21 other.png"]
    assert run.people["samples"].tolist() == [20, 2]


def test_every_image_has_a_row_and_each_person_in_it(best_crops: tuple[Result, Run]) -> None:
    _, run = best_crops
    table = run.images.set_index("image")
    assert len(run.images) == 24 and run.images["image"].nunique() == 23
    # From left to right.
    assert table.loc["20 both.png", "person_id"].tolist() == [2, 1]
    assert table.loc["20 both.png", "people"].tolist() == [2, 2]
    nobody, broken = table.loc["22 nobody.png"], table.loc["23 broken.png"]
    assert nobody["readable"] and (nobody["width"], nobody["height"]) == (160, 90)
    assert not broken["readable"] and broken["sample"] == -1 and pd.isna(broken["width"])
    for row in (nobody, broken):
        assert pd.isna(row["reason"]) == bool(row["readable"])
        assert (row["people"], row["person_id"], row["person_images"]) == (0, -1, 0)
        assert pd.isna(row[["gender", "age_years", "x1", "score"]]).all()
    first = table[table["person_id"] == 1]
    assert first["gender"].eq(run.people["gender"].iloc[0]).all() and first["age_years"].nunique() == 1
    assert first["face_age_years"].nunique() > 10 and first["person_images"].eq(20).all()
    faces = run.faces.set_index("sample").loc[first["sample"]]
    assert first.loc["05.png", "x1"] == faces.loc[4, "x1"]


def test_image_that_is_not_upright_shows_the_same_person(tmp_path: Path, two_portraits: Portraits) -> None:
    collins, _ = two_portraits
    folder = tmp_path / "album"
    folder.mkdir()
    for quarters in range(4):
        save(folder / f"{quarters}.png", np.ascontiguousarray(np.rot90(collins, quarters)))
    _, run = analyze(folder, tmp_path / "out", "--no-video")
    assert run.info["counts"]["people"] == 1 and run.people["samples"].tolist() == [4]
    assert run.people["gender"].tolist() == ["female"]
    boxes = run.faces.loc[run.faces["person_id"] == 1, ["x1", "y1", "x2", "y2"]].to_numpy()
    # The box turns with the image.
    height, width = collins.shape[:2]
    x1, y1, x2, y2 = boxes[0]
    turned = [(x1, y1, x2, y2), (y1, width - x2, y2, width - x1)]
    turned += [(width - x2, height - y2, width - x1, height - y1), (height - y2, x1, height - y1, x2)]
    np.testing.assert_allclose(boxes, turned, atol=0.15 * (x2 - x1))


def test_csv_and_parquet_of_images_say_the_same(best_crops: tuple[Result, Run]) -> None:
    _, run = best_crops
    table = pd.read_csv(run.folder / "images.csv", dtype={"video_id": str, "image": str})
    assert table.columns.tolist() == [column.name for column in IMAGES] == run.images.columns.tolist()
    for name in ("image", "person_id", "people", "faces", "sample", "readable"):
        assert table[name].tolist() == run.images[name].tolist()
    np.testing.assert_allclose(table["age_years"], run.images["age_years"], atol=1e-3)


def test_results_on_images_count_images(best_crops: tuple[Result, Run]) -> None:
    result, run = best_crops
    assert result.exit_code == SOME_FAILED
    assert run.info["incomplete_reason"] == "1 of 23 images could not be read: 23 broken.png"
    reading = run.info["reading"]
    assert (reading["unreadable_images"], reading["bad_packets"], run.info["video"]["container"]) == (
        *(1, 0),
        "images",
    )
    why = "    23 broken.png is not an image in a known format; use a JPEG, PNG"
    assert why in result.output
    told = "\n".join(line for line in result.output.splitlines() if not line.startswith(why))
    assert "2 people" in told and "in 22 images: " in told and "(22 faces)" in told
    lines = told.splitlines()
    assert any(line.split()[-3:] == ["20", "01.png"] or line.endswith("20  01.png") for line in lines)
    for word in ("packet", "on screen", " s\n", "samples", "picture", "video"):
        assert word not in told, word


def test_a_report_on_images_lists_the_people_in_each(best_crops: tuple[Result, Run]) -> None:
    _, run = best_crops
    document = make_report([run.folder]).document
    assert document["images"] and document["notes"][: len(run.info["notes"])] == run.info["notes"]
    assert [(one["image"], one["person_id"] or -1) for one in document["image_rows"]] == list(
        zip(run.images["image"], run.images["person_id"], strict=True)
    )
    assert [one["image"] for one in document["image_rows"] if not one["readable"]] == ["23 broken.png"]
    html = page(document)
    assert "People in each image" in html and "could not be read" in html
    assert document["total"]["analyzed_s"] == len(run.samples) == 22
    said = " ".join(note for note in document["notes"])
    assert "1 image could not be read" in said and "packet" not in said and "video was" not in said
    assert make_report([run.folder], min_people=2).document["image_rows"] is None


def test_no_images_of_a_video_and_earlier_runs_can_be_read(tmp_path: Path) -> None:
    assert Run(tmp_path, {"kind": "video"}).images.columns.tolist() == [column.name for column in IMAGES]
    assert Run(tmp_path, {"kind": "video"}).images.empty


def test_a_range_of_images_names_only_its_own(two_portraits: Portraits, tmp_path: Path) -> None:
    for name in ("1.png", "2.png", "10.png"):
        save(tmp_path / name, two_portraits[0])
    run = analyzer.analyze(tmp_path, Settings(start_s=1, video=False), out=tmp_path / "out")
    assert run.images["image"].tolist() == ["2.png", "10.png"] and run.images["person_id"].eq(1).all()


def test_the_limit_applies_to_images(tmp_path: Path) -> None:
    for number in range(1, 12):
        save(tmp_path / f"{number}.png", np.full((8, 8, 3), number, np.uint8))
    names = [str(tmp_path / f"{number}.png") for number in (9, 2, 7)]
    for limit, count in ((None, 11), (2, 2), (11, 11), (50, 11)):
        fetcher = Fetcher(Settings(limit=limit), want_audio=False)
        (item,) = fetcher.resolve(str(tmp_path))
        assert [path.stem for path in item.paths] == [f"{number}" for number in range(1, count + 1)]
        # A later run that knows its name alone takes the same.
        assert fetcher.identify(Item(item.source, item.kind)) == fetcher.identify(item)
        named = fetcher.resolve_images(names)
        assert [path.stem for path in named.paths] == ["9", "2", "7"][:limit]


@pytest.mark.parametrize(
    ("named", "together"),
    [
        (["a.jpg", "gone.jpg", "a.png"], [("a.jpg", "a.png"), "gone.jpg"]),
        (["gone.jpg", "a.jpg", "gone.mp4", "a.png"], ["gone.jpg", ("a.jpg", "a.png"), "gone.mp4"]),
        (
            ["a.jpg", "https://example.org/x", "v.mp4", "a.png"],
            [("a.jpg", "a.png"), "https://example.org/x", "v.mp4"],
        ),
        (["a.jpg", "gone.jpg"], ["a.jpg", "gone.jpg"]),
        (["v.mp4", "gone.jpg"], ["v.mp4", "gone.jpg"]),
        ([], []),
    ],
)
def test_image_files_among_sources_are_one_run(
    named: list[str], together: list[str | tuple[str, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.jpg", "a.png", "v.mp4"):
        Path(name).touch()
    assert images_together(named) == together


def test_unread_pages_of_a_tiff_are_reported(tmp_path: Path) -> None:
    pages = [PillowImage.new("RGB", (16, 12), (shade, 0, 0)) for shade in (10, 20, 30)]
    pages[0].save(tmp_path / "m.tif", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "one.tif")
    pages[0].save(tmp_path / "no.png")
    (tmp_path / "m.jpg").write_bytes((tmp_path / "m.tif").read_bytes())
    cut = (tmp_path / "m.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(cut[: len(cut) - 20])
    found = {name: further_pages(tmp_path / name) for name in ("m.tif", "m.jpg", "one.tif", "no.png", "gone")}
    assert found == {"m.tif": 2, "m.jpg": 2, "one.tif": 0, "no.png": 0, "gone": 0}
    assert further_pages(tmp_path / "cut.tif") in (1, 2)
    # A smaller copy of a page is no page.
    thumb = TiffImagePlugin.ImageFileDirectory_v2()
    thumb[254] = 1
    with TiffImagePlugin.AppendingTiffWriter(str(tmp_path / "small.tif"), new=True) as file:
        pages[0].save(file, "TIFF")
        file.newFrame()
        pages[1].save(file, "TIFF", tiffinfo=thumb)
    assert further_pages(tmp_path / "small.tif") == 0
    run = analyzer.analyze(tmp_path / "m.tif", out=tmp_path / "out", video=False)
    assert run.info["notes"][-1] == (
        "2 further pages of m.tif were not read, and people on them are not counted: save each page as an "
        "image of its own."
    )


def test_unreadable_images_from_before_an_interruption_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / "a").mkdir()
    for number in range(4):
        save(tmp_path / "a" / f"{number}.png", np.full((8, 8, 3), 9 * number, np.uint8))
    (tmp_path / "a" / "1.png").write_bytes(b"")
    with monkeypatch.context() as inside, pytest.raises(KeyboardInterrupt):
        inside.setattr(job, "derive", interrupt)
        analyzer.analyze(tmp_path / "a", out=tmp_path / "out", video=False)
    run = analyzer.analyze(tmp_path / "a", out=tmp_path / "out", video=False)
    assert run.info["resumed_segments"] > 1 and not run.complete
    assert run.info["incomplete_reason"] == "1 of 4 images could not be read: 1.png"
    reading = run.info["reading"]
    assert (reading["frames_decoded"], reading["unreadable_images"], reading["last_s"]) == (3, 1, 3.0)


def test_the_range_of_images_is_stated_in_images(tmp_path: Path) -> None:
    save(tmp_path / "a.png", np.full((8, 8, 3), 9, np.uint8))
    with pytest.raises(MediaError) as caught:
        analyzer.analyze(tmp_path / "a.png", Settings(start_s=3, video=False), out=tmp_path / "out")
    assert str(caught.value) == (
        "a.png is 1 image: --start 3 is after the last; with images, --start, --end and --duration count "
        "images"
    )


def test_table_of_nobody_at_all() -> None:
    faces = pd.DataFrame(
        {
            name: pd.Series(dtype=float)
            for name in ("x1", "y1", "x2", "y2", "score", "female_prob", "age_years")
        }
    ).assign(sample=pd.Series(dtype=int), person_id=pd.Series(dtype=int))
    people = pd.DataFrame(
        columns=["person_id", "samples", "gender", "age_years", "age_low", "age_high", "age_band"]
    ).astype({"person_id": int})
    samples = pd.DataFrame({"segment": [1], "sample": [0], "width": [4], "height": [3]})
    table = images_table({0: "a.png", 1: "b.png"}, faces, people, samples, {0: "a.png is empty."})
    assert table["reason"].iloc[0] == "a.png is empty." and pd.isna(table["reason"].iloc[1])
    assert table["image"].tolist() == ["a.png", "b.png"] and table["readable"].tolist() == [False, True]
    assert table["people"].tolist() == table["faces"].tolist() == [0, 0]
    assert table["width"].isna().tolist() == [True, False]
