"""``report`` as its users meet it: on the command line, over made and real runs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from analyzer import analyze
from analyzer.cli import _REPORT_CODES, DONE, NOTHING_USABLE, SOME_FAILED, USAGE, cli
from analyzer.cli.report import _changes
from analyzer.report.documentation import documentation
from analyzer.runs.run import Run, publish, report_files
from analyzer.settings import REPORT_FORMATS
from testkit.media import write_video
from testkit.runs import Plan, make_run, random_plan
from tests.test_cli import Portraits, portrait_pictures
from tests.test_report_files import cells_of

ROOT = Path(__file__).parents[1]


def report(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["report", *map(str, arguments)], prog_name="analyzer")


def made(folder: Path, seed: int = 0, **info: object) -> Path:
    plan = random_plan(np.random.default_rng(seed), length_s=40, people=6, concurrent=2)
    return make_run(folder, plan, **info)


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three runs where `report` looks for them."""
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        made(
            tmp_path / "outputs" / f"talk-{number}",
            number,
            title=f"Talk {number}",
            channel=f"Channel {number % 2}",
            uploaded=f"2026-10-{10 + 7 * number}",
            analyzed_at=f"2026-11-0{3 - number}T03:00:00+00:00",
        )
    return Path("outputs")


def test_without_a_path_the_newest_run_is_reported(outputs: Path) -> None:
    result = report()
    assert result.exit_code == DONE
    assert result.stdout.startswith("Talk 0 (0:40.0 analyzed)\n")
    people = Run.load(outputs / "talk-0").people
    assert f"  people                                {len(people)} (" in result.stdout
    assert not list(outputs.rglob("report*"))


def test_a_folder_is_reported_whole_and_by_week(outputs: Path) -> None:
    result = report(outputs, "--by", "week")
    assert result.exit_code == DONE
    assert result.stdout.startswith("3 videos (")
    assert all(f"2026-W{week}" in result.stdout for week in (41, 42, 43))


def test_that_there_are_no_charts_of_nobody_is_said(tmp_path: Path) -> None:
    plan = Plan(np.arange(10) / 5, 2.0, np.zeros((10, 0), bool), np.zeros(0), np.zeros(0))
    shown = report(make_run(tmp_path / "empty", plan), "--format", "png", "-q")
    assert shown.exit_code == DONE and shown.stderr.startswith("No charts: no people were found")


def test_too_few_videos_to_compare_are_no_sameness() -> None:
    rows = [{"exceeds": None}, {"exceeds": None}]
    assert _changes({"trend": None, "comparison": {"rows": rows}}) == [
        "  The groups have too few videos to be compared."
    ]
    same = {"trend": None, "comparison": {"rows": [*rows, {"exceeds": False}]}}
    assert _changes(same) == ["  no difference is beyond its error bars"]


def test_files_lie_beside_the_run_or_above_the_runs_or_where_they_should(outputs: Path) -> None:
    every = ",".join(REPORT_FORMATS)
    assert report(outputs / "talk-1", "--format", every, "-q").exit_code == DONE
    beside = {path.name for path in (outputs / "talk-1").glob("report*")}
    assert {"report.html", "report.json", "report.md", "report.vtt", "report-figures.csv"} <= beside
    assert "report-timeline.png" in beside
    assert report(outputs, "--format", "json", "-q").exit_code == DONE
    assert json.loads((outputs / "report.json").read_text())["total"]["videos"] == 3
    result = report(outputs, "--format", "md,csv", "--out", "deep/down")
    assert result.exit_code == DONE
    assert Path("deep/down/report.md").exists()
    assert "in deep/down" in result.stdout


def test_the_page_of_several_links_to_those_of_the_runs(outputs: Path) -> None:
    assert report(outputs / "talk-1", "--format", "html", "-q").exit_code == DONE
    assert report(outputs, "--format", "html", "-q", "--out", "elsewhere").exit_code == DONE
    assert 'href="../outputs/talk-1/report.html"' in Path("elsewhere/report.html").read_text()


def test_json_is_one_document(outputs: Path) -> None:
    result = report(outputs, "--json", "--since", "2026-10-15", "--channel", "channel 1")
    assert result.exit_code == DONE
    document = json.loads(result.stdout)
    assert [video["title"] for video in document["videos"]] == ["Talk 1"]
    assert document["filters"] == ["since 2026-10-15", "channel channel 1"]


def test_days_are_counted_back_from_today(outputs: Path) -> None:
    del outputs
    assert report("outputs", "--since", "10000d").exit_code == DONE
    result = report("outputs", "--since", "0d")
    assert result.exit_code == NOTHING_USABLE
    assert "no run of 3 matches the filters (since" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--by", "week", "--timezone", "Berlin"],
            "'Berlin' is not a time zone; did you mean Europe/Berlin?",
        ),
        (["--by", "name", "--name-pattern", "("], "is not a regular expression"),
        (["--open", "--format", "csv"], "add html to --format"),
        (["--out", "x"], "--out needs --format"),
        (["--quiet"], "--quiet needs --format or --json"),
        (["--format", "pdf"], "is not a list of html"),
        (["--by", "color"], "--by color is not a column"),
        (["--since", "yesterday"], "is not a date"),
        (["--where", "people >"], "is not valid SQL"),
        (["--where", "true); DROP TABLE runs; SELECT (1"], "is not a condition"),
        (["--min-people", "0"], "'0' is not a whole number at least 1"),
        (["--youtube-analytics", "talk.csv"], "has no columns ageGroup"),
        (["--columns", "talk.csv"], "needs a first column"),
        (["--columns", "absent.csv"], "does not exist"),
        (["--format", "vtt"], "captions (vtt) need a single video"),
    ],
)
def test_what_contradicts_itself_is_a_usage_error(outputs: Path, arguments: list[str], said: str) -> None:
    Path("talk.csv").write_text("a,b\n1,2\n")
    result = report(outputs, *arguments)
    assert result.exit_code == USAGE
    assert said in " ".join(result.output.split())
    assert "Traceback" not in result.output
    assert not list(Path().rglob("report*"))


def test_runs_in_different_places_need_a_place_for_the_report(outputs: Path) -> None:
    shutil.move(outputs / "talk-1", "talk-1")
    result = report(outputs, "talk-1", "--format", "json")
    assert result.exit_code == USAGE
    assert "--out" in result.stderr


def test_a_damaged_run_is_named_and_the_others_reported(outputs: Path) -> None:
    (outputs / "talk-2" / "faces.parquet").write_bytes(b"PAR1 and no more")
    result = report(outputs)
    assert result.exit_code == SOME_FAILED
    assert result.stdout.startswith("2 videos (")
    assert "Error: outputs/talk-2 has a damaged table" in result.stderr
    for name in ("talk-0", "talk-1"):
        shutil.rmtree(outputs / name)
    alone = report(outputs)
    assert alone.exit_code == NOTHING_USABLE
    assert "nothing to report: outputs/talk-2 has a damaged table" in alone.stderr


def test_folders_without_a_finished_run_are_named_and_passed_over(outputs: Path) -> None:
    (outputs / "holiday").mkdir()
    (outputs / "broken-off" / ".parts").mkdir(parents=True)
    result = report(outputs)
    assert result.exit_code == DONE
    assert "Skipped: outputs/holiday holds no run" in result.stderr
    assert "Skipped: outputs/broken-off is unfinished" in result.stderr
    assert report(outputs, "--format", "json", "--quiet").stderr == ""
    assert report(outputs, "absent").exit_code == SOME_FAILED
    assert report("absent").exit_code == NOTHING_USABLE


def test_nothing_to_report_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for make in (lambda: None, lambda: Path("outputs").mkdir()):
        make()
        result = report()
        assert result.exit_code == NOTHING_USABLE
        assert "outputs holds no finished run: analyze a video first" in result.stderr


def test_full_or_forbidden_folder_is_a_sentence(outputs: Path) -> None:
    Path("file").write_text("")
    result = report(outputs, "--format", "html", "--out", "file/below")
    assert result.exit_code == NOTHING_USABLE
    assert "choose another with --out" in result.stderr


@pytest.mark.parametrize("there_is_a_browser", [True, False])
def test_open_shows_the_page(
    outputs: Path, monkeypatch: pytest.MonkeyPatch, there_is_a_browser: bool
) -> None:
    opened: list[str] = []

    def launch(url: str) -> bool:
        opened.append(url)
        return there_is_a_browser

    monkeypatch.setattr("analyzer.cli.report.webbrowser.open", launch)
    result = report(outputs / "talk-0", "--open")
    page = outputs.absolute() / "talk-0" / "report.html"
    assert opened == [page.as_uri()]
    assert page.exists()
    assert result.exit_code == DONE
    assert ("no browser was found" in result.stderr) != there_is_a_browser


def test_text_of_strangers_is_harmless_in_the_terminal(outputs: Path) -> None:
    made(outputs / "evil", title="\x1b[31mred\nEvil\u202e", channel="\x1b]0;x\x07", uploaded="2026-11-01")
    result = report(outputs, "--by", "channel")
    assert result.exit_code == DONE
    assert "\x1b" not in result.output
    assert "\x1b" not in report(outputs / "evil").output


def test_a_new_analysis_takes_the_old_report_away(tmp_path: Path) -> None:
    run, staging = tmp_path / "run", tmp_path / "new"
    run.mkdir()
    staging.mkdir()
    for name in (*report_files(), "report-of-mine.txt"):
        (run / name).write_text("old")
    (staging / "run.json").write_text("{}")
    publish(staging, run)
    assert {path.name for path in run.iterdir()} == {"run.json", "report-of-mine.txt"}


def test_a_real_run_is_reported(two_portraits: Portraits, tmp_path: Path) -> None:
    video = write_video(tmp_path / "two.mp4", portrait_pictures(two_portraits, 3, 10), fps=10)
    run = analyze(video, out=tmp_path, video=False, precision="f32", formats=("xlsx",))
    assert not list(run.folder.glob("*.csv"))
    sheets = cells_of(run.folder / "tables.xlsx")
    assert list(sheets) == ["summary", "people", "timeline", "shares", "samples", "columns", "about"]
    for name, table in (("people", run.people), ("timeline", run.timeline), ("samples", run.samples)):
        head, *rows = sheets[name]
        assert head == list(table) and len(rows) == len(table)
    head, *rows = sheets["people"]
    assert [row[head.index("video_id")] for row in rows] == run.people["video_id"].tolist()
    assert [row[head.index("on_screen_s")] for row in rows] == pytest.approx(
        run.people["on_screen_s"].tolist()
    )
    assert sheets["shares"][1:] == [] and ["people", 2] in sheets["summary"]
    assert ["video_id", run.info["video_id"]] in sheets["about"]
    assert {row[0] for row in sheets["columns"][1:]} == {"people", "timeline", "shares", "samples"}
    result = report(run.folder, "--json")
    assert result.exit_code == DONE
    total = json.loads(result.stdout)["total"]
    assert total["people"] == 2
    assert total["occupancy"] == total["co_presence"] == 1
    assert total["on_screen_s"] == pytest.approx(6, abs=0.01)
    assert total["analyzed_s"] == pytest.approx(3, abs=0.01)


def test_reporting_loads_nothing_that_only_analyzing_needs(outputs: Path) -> None:
    code = (
        "import sys\n"
        "from analyzer.cli import cli\n"
        "cli.main(['report', sys.argv[1], '--format', 'html', '--quiet'], standalone_mode=False)\n"
    )
    command = [sys.executable, "-X", "importtime", "-c", code, str(outputs / "talk-0")]
    shown = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    folder = (outputs / "talk-0").absolute()
    shown = subprocess.run(
        [*command[:-1], str(folder)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert (folder / "report.html").exists(), shown.stderr
    loaded = {line.rpartition("|")[2].strip() for line in shown.stderr.splitlines()}
    assert not loaded & {"av", "cv2", "openvino", "yt_dlp", "supervision", "matplotlib", "plotly", "scipy"}


def test_lists_have_one_home_and_every_option_has_help() -> None:
    assert (ROOT / "docs" / "report.md").read_text("utf-8") == documentation(), "run `make docs`"
    for parameter in cli.commands["report"].params:
        assert parameter.name == "paths" or getattr(parameter, "help", None), parameter.name
    shown = " ".join(report("--help").output.split())
    assert all(meaning in shown for meaning in _REPORT_CODES.values())


def test_with_a_limit_nothing_leads_to_the_annotated_video(outputs: Path) -> None:
    run = outputs / "talk-0"
    (run / "annotated.mp4").write_bytes(b"")
    assert report(run, "--format", "html,json,vtt", "-q").exit_code == DONE
    assert "annotated.mp4" in (run / "report.html").read_text()
    result = report(run, "--format", "html", "-q", "--min-people", "2")
    assert result.exit_code == DONE
    assert "annotated.mp4" not in (run / "report.html").read_text()
    assert {path.name for path in run.glob("report*")} == {"report.html"}
    refused = report(run, "--format", "vtt", "--min-people", "2")
    assert refused.exit_code == USAGE
    assert refused.stdout == ""


def test_the_folder_that_was_named_is_the_place_of_the_report(outputs: Path) -> None:
    (outputs / "deep").mkdir()
    shutil.move(outputs / "talk-1", outputs / "deep" / "talk-1")
    assert report(outputs, "--format", "json", "-q").exit_code == DONE
    assert (outputs / "report.json").exists()


def test_groups_are_compared_and_notes_are_told(outputs: Path) -> None:
    for number in range(3):
        run = Run.load(outputs / f"talk-{number}")
        info = run.info | {"source": f"/films/{'ab'[number % 2]}/x.mp4"}
        info |= {"notes": [f"{number + 3} faces were found and not counted: --min-score 0.5 counts them."]}
        (run.folder / "run.json").write_text(json.dumps(info))
    shown = report(outputs, "--by", "folder", "--timezone", "Asia/Tokyo")
    assert shown.exit_code == DONE
    assert "beyond its error bars" in shown.output or "beyond their error bars" in shown.output
    assert "In 3 videos, for example Talk 2: 5 faces were found and not counted" in shown.output
    assert "days in Asia/Tokyo" in shown.output
    alone = report(outputs / "talk-2").output
    assert "5 faces were found and not counted" in " ".join(alone.split()) and "time on screen, age " in alone
    suppressed = report(outputs, "--min-people", "3").output
    assert "faces were found" not in suppressed


def test_a_run_of_images_is_told_in_words_of_images(outputs: Path) -> None:
    run = Run.load(outputs / "talk-0")
    reading = run.info["reading"] | {"bad_packets": 1, "unreadable_images": 1}
    info = run.info | {
        "kind": "images",
        "complete": False,
        "incomplete_reason": "1 is damaged",
        "reading": reading,
    }
    (run.folder / "run.json").write_text(json.dumps(info))
    shown = " ".join(report(run.folder).output.split())
    assert "Not all images could be read (1 is damaged)." in shown
    assert "1 image could not be read; people shown only there are missing." in shown
    assert "images with people" in shown and "40 images analyzed" in shown
    for words in ("on screen", "occupancy", "packet", "video was", "busiest"):
        assert words not in shown, words


def test_conditions_add_up(outputs: Path) -> None:
    result = report(outputs, "--json", "--where", "title <> 'Talk 0'", "--where", "channel = 'Channel 1'")
    assert [video["title"] for video in json.loads(result.stdout)["videos"]] == ["Talk 1"]
    assert report(outputs, "--where", "").exit_code == USAGE


def test_output_that_cannot_be_written_is_a_sentence(outputs: Path) -> None:
    command = [sys.executable, str(ROOT / "cli.py"), "report", str(outputs.absolute())]
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == NOTHING_USABLE
    assert result.stderr.startswith("Error: the output cannot be written (No space left on device)")
