"""``batch`` on the command line: what it runs, prints and returns."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from analyzer.batch.config import ExecutorChoice, Jobs
from analyzer.batch.executors import choice
from analyzer.batch.executors.base import Executor
from analyzer.batch.ledger import Ledger, lock_ledger
from analyzer.cli import cli
from analyzer.cli.batch_commands import _CODES, batch
from analyzer.cli.options import DONE, NOTHING_USABLE, SOME_FAILED, TEMPORARY, USAGE
from analyzer.errors import ClusterError
from testkit.media import numbered, write_video

ROOT = Path(__file__).parents[1]


def run(*args: object) -> Result:
    """A command of ``batch``, in this process."""
    result = CliRunner().invoke(cli, ["batch", *map(str, args)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two tiny videos, and a file that is none."""
    folder = tmp_path_factory.mktemp("clips")
    write_video(folder / "one.mp4", numbered(10), fps=10)
    write_video(folder / "two.mp4", numbered(12), fps=10)
    (folder / "bad.mp4").write_text("no video")
    return folder


@pytest.fixture(scope="module")
def first(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """The output folder of a batch run over `clips`, and what was printed."""
    out = tmp_path_factory.mktemp("batch") / "out"
    return out, run(clips, "--out", out, "--no-video", "--no-report")


@pytest.fixture
def out(first: tuple[Path, Result], tmp_path: Path) -> Iterator[Path]:
    """A copy of that folder."""
    shutil.copytree(first[0], tmp_path / "out")
    yield tmp_path / "out"


def test_a_batch_run_reports_what_was_done_and_what_failed(first: tuple[Path, Result]) -> None:
    out, result = first
    assert result.exit_code == SOME_FAILED
    assert "one: 0 people" in result.stdout and "two: 0 people" in result.stdout
    assert "bad.mp4 is not a video" in result.stderr
    assert "2 of 3 videos" in result.stdout
    assert len(list(out.glob("*/run.json"))) == 2
    events = [json.loads(line) for line in (out / "batch.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events if event["event"] in ("batch_started", "batch_ended")] == [
        "batch_started",
        "batch_ended",
    ]


def test_videos_in_subfolders_are_an_error_that_names_the_option(tmp_path: Path) -> None:
    talks, out = tmp_path / "talks", tmp_path / "out"
    (talks / "2026" / "may").mkdir(parents=True)
    (talks / "2026" / "may" / "a.mp4").write_text("no video")
    result = run(talks, "--out", out)
    assert result.exit_code == NOTHING_USABLE
    assert "2026/may/a.mp4: add --recursive" in result.stderr
    assert run("plan", talks, "--out", out).exit_code == SOME_FAILED
    (talks / "2026" / "cover.jpg").write_text("not an image")
    jobs = tmp_path / "jobs.toml"
    jobs.write_text(f"[[source]]\nfolder = '{talks}'\nrecursive = true\nsettings = {{video = false}}")
    result = run("plan", jobs, "--out", out, "--json")
    assert result.exit_code == DONE
    assert [one["source"] for one in json.loads(result.stdout)["videos"]] == [str(talks / "2026/may/a.mp4")]


def test_images_beside_videos_are_left_out_and_counted(tmp_path: Path) -> None:
    (tmp_path / "talks").mkdir()
    for name in ("a.mp4", "a.webp", "cover.jpg"):
        (tmp_path / "talks" / name).write_text("neither video nor image")
    result = run(tmp_path / "talks", "--out", tmp_path / "out", "--newer-than", "2100-01-01")
    assert (result.exit_code, result.stderr) == (DONE, "")
    words = "2 images beside its videos (--images, or images = true in a jobs file, includes them)"
    assert words in result.stdout
    events = [json.loads(line) for line in (tmp_path / "out" / "batch.jsonl").read_text().splitlines()]
    (left_out,) = (event for event in events if event["event"] == "files_skipped")
    assert (left_out["source"], left_out["images"]) == (str(tmp_path / "talks"), 2)
    assert "2 images beside its videos (--images" in run("plan", tmp_path / "talks", "--out", tmp_path).stdout
    plan = json.loads(run("plan", tmp_path / "talks", "--out", tmp_path, "--json").stdout)
    assert plan["left_out"] == [{"source": str(tmp_path / "talks"), "images": 2, "subfolders": False}]


def test_the_next_batch_run_does_nothing(clips: Path, out: Path) -> None:
    before = everything(out)
    result = run(clips, "--out", out, "--no-video", "--no-report", "--quiet")
    assert (result.exit_code, result.output) == (DONE, "")
    after = everything(out)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert {name.partition("-")[0] for name in changed} <= {"ledger.sqlite", "batch.jsonl", "index.html"}


def test_a_plan_changes_nothing(clips: Path, out: Path, tmp_path: Path) -> None:
    write_video(clips / "three.mp4", numbered(14), fps=10)
    before = everything(out)
    try:
        result = run("plan", clips, "--out", out, "--no-video", "--json")
        words = run("plan", clips, "--out", out, "--no-video").stdout
        other = run("plan", clips, "--out", out, "--no-video", "--fps", 2, "--json")
    finally:
        (clips / "three.mp4").unlink()
    assert result.exit_code == DONE
    document = json.loads(result.stdout)
    assert [video["title"] for video in document["videos"]] == ["three"]
    assert document["known"] == 3 and document["past"] == 2 and document["estimate_s"] > 0
    assert "1 video to analyze, 3 done" in words and "about" in words
    assert len(json.loads(other.stdout)["videos"]) == 4, "other settings are new work"
    assert everything(out) == before
    nothing = run("plan", clips, "--out", tmp_path / "none")
    assert nothing.exit_code == DONE and "once a video is done" in nothing.stdout
    assert not (tmp_path / "none").exists()


def test_status_and_show_print_the_ledger(out: Path) -> None:
    text = run("status", "--out", out)
    assert text.exit_code == DONE and "2 done, 1 abandoned" in text.stdout and "not a video" in text.stdout
    document = json.loads(run("status", "--out", out, "--json", "--state", "abandoned").stdout)
    assert [video["title"] for video in document["videos"]] == ["bad"]
    assert (
        document["counts"] == {"done": 2, "abandoned": 1}
        and document["batch_runs"][0]["outcome"] == "finished"
    )
    id = document["videos"][0]["id"]
    shown = run("show", id, "--out", out)
    assert "attempt 1" in shown.stdout and "not_media" in shown.stdout
    row = json.loads(run("show", id, "--out", out, "--json").stdout)
    assert row["attempts_list"][0]["error_kind"] == "not_media"
    missing = run("show", 99, "--out", out)
    assert missing.exit_code == NOTHING_USABLE and "no video 99" in missing.stderr
    assert run("status", "--out", out, "--state", "finished").exit_code == USAGE


def test_retry_makes_abandoned_videos_due_and_prune_deletes_old_attempts(clips: Path, out: Path) -> None:
    assert "will retry 0 videos." in run("retry", "--out", out).stdout
    assert "will retry 1 video." in run("retry", "--abandoned", "--out", out).stdout
    again = run(clips, "--out", out, "--no-video", "--no-report")
    assert again.exit_code == SOME_FAILED and "bad.mp4 is not a video" in again.stderr
    with Ledger(out / "ledger.sqlite", read_only=True) as ledger:
        (bad,) = ledger.videos(["abandoned"])
    assert bad["attempts"] == 2
    with Ledger(out / "ledger.sqlite", read_only=True) as ledger:
        done = ledger.videos(["done"])[0]["id"]
    assert run("retry", done, "--out", out).stdout == (
        f"Video {done} is done. To analyze it again, remove its run folder first.\n"
    )
    assert (
        "Deleted 3 old records" in run("prune", "--keep-days", 0, "--out", out).stdout
    )  # one attempt, two batch runs
    with Ledger(out / "ledger.sqlite", read_only=True) as ledger:
        assert len(ledger.history(bad["id"])["attempts_list"]) == 1 and not ledger.batch_runs()


def test_a_second_batch_on_the_same_ledger_exits_75(clips: Path, out: Path) -> None:
    with lock_ledger(out / "ledger.sqlite"):
        began = time.monotonic()
        busy = run(clips, "--out", out)
        assert busy.exit_code == TEMPORARY and "another batch is running with" in busy.stderr
        for command in ("prune", "retry"):
            busy = run(command, "--out", out)
            assert busy.exit_code == TEMPORARY and f"{command} when it has ended" in busy.stderr
        assert time.monotonic() - began < 10
        assert run("status", "--out", out).exit_code == DONE, "reading is always possible"
        assert run("retry", "--abandoned", "--out", out).exit_code == TEMPORARY


def test_a_damaged_ledger_is_refused_and_not_changed(clips: Path, out: Path) -> None:
    ledger = out / "ledger.sqlite"
    ledger.write_bytes(b"not a database at all" * 500)
    before = everything(out)
    for command in ((clips,), ("plan", clips), ("status",), ("retry",), ("prune",)):
        result = run(*command, "--out", out)
        assert result.exit_code == NOTHING_USABLE and "damaged" in result.stderr, command
    after = everything(out)
    after.pop("ledger.sqlite.lock", None)
    before.pop("ledger.sqlite.lock", None)
    assert after == before


def test_a_notification_that_fails_is_reported_even_if_the_batch_cannot_start(clips: Path, out: Path) -> None:
    (out / "ledger.sqlite").write_bytes(b"not a database at all" * 500)
    jobs = out / "jobs.toml"
    command = [sys.executable, "-c", "raise SystemExit(3)"]
    jobs.write_text(
        f"out = {json.dumps(str(out))}\n[[source]]\nfolder = {json.dumps(str(clips))}\n"
        f"[on_failure]\ncommand = {json.dumps(command)}\n"
    )
    result = run(jobs)
    assert result.exit_code == NOTHING_USABLE and "damaged" in result.stderr
    assert "of [on_failure] ended with exit code 3" in result.stderr


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["missing.toml"], "missing.toml"),
        (["a.toml", "b.mp4"], "must be the only source"),
        (["x.mp4", "--report", "pdf"], "pdf"),
        (["x.mp4", "--report", "html", "--no-report"], "contradict"),
        (["x.mp4", "--shorter-than", "soon"], "soon"),
        (["x.mp4", "--shorter-than", "1min", "--longer-than", "2min"], "shorter_than"),
        (["x.mp4", "--title", "("], "regular expression"),
        (["x.mp4", "--newer-than", "yesterday"], "yesterday"),
        (["x.mp4", "--fps", "0"], "fps"),
        (["x.mp4", "--every", "2", "--keyframes"], "exclude each other"),
        ([], "JOBS.toml | SOURCE"),
        (["status", "--jobs", "missing.toml"], "missing.toml"),
    ],
)
def test_wrong_command_lines_are_refused_before_anything_is_written(
    args: list[str], sentence: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = run(*args, "--out", out) if args else CliRunner().invoke(cli, ["batch", "run"])
    assert result.exit_code == USAGE and sentence in result.output
    assert "Traceback" not in result.output and not out.exists()


def test_only_some_options_can_be_combined_with_a_jobs_file(tmp_path: Path) -> None:
    jobs = tmp_path / "jobs.toml"
    jobs.write_text('[[source]]\nfile = "none.mp4"\n[[source]]\nfolder = "nothing"\n')
    refused = run(jobs, "--fps", "3")
    assert refused.exit_code == USAGE and "--fps cannot be combined with a jobs file" in refused.stderr
    assert run("plan", jobs, "--preset", "fast").exit_code == USAGE
    gone = run(jobs, "--out", tmp_path / "other", "--workers", "1", "--time-budget", "1h")
    assert gone.exit_code == NOTHING_USABLE and "no file or folder" in gone.stderr
    assert (tmp_path / "other" / "ledger.sqlite").exists() and not (tmp_path / "outputs").exists()
    assert "no videos yet" in run("status", "--jobs", jobs, "--out", tmp_path / "other").stdout


def test_executor_and_address_override_the_jobs_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[ExecutorChoice] = []

    def refuse(jobs: Jobs) -> Executor:
        asked.append(jobs.executor)
        raise ClusterError("no cluster is there")

    monkeypatch.setattr(choice, "make_executor", refuse)
    jobs = tmp_path / "jobs.toml"
    jobs.write_text('[executor]\nkind = "ray"\ncpus = 3\n[[source]]\nfile = "none.mp4"\n')
    refused = run(jobs, "--address", "ray://head:10001")
    assert refused.exit_code == NOTHING_USABLE and refused.stderr == "Error: no cluster is there\n"
    run("none.mp4", "--out", tmp_path, "--executor", "ray", "--address", "local")
    run(jobs, "--executor", "local")
    assert asked == [
        ExecutorChoice(kind="ray", address="ray://head:10001", cpus=3),
        ExecutorChoice(kind="ray", address="local"),
        ExecutorChoice(kind="local", cpus=3),
    ]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--address", "auto"], "--address is for a cluster: add --executor ray"),
        (["--executor", "local", "--address", "auto"], "--address is for a cluster: add --executor ray"),
        (["--executor", "dask"], "'dask' is not one of 'local', 'ray'"),
        (["--executor", "ray", "--address", "head"], "address must be auto, local, HOST:PORT or ray://"),
    ],
)
def test_wrong_executors_are_usage_errors(flags: list[str], sentence: str, tmp_path: Path) -> None:
    result = run("none.mp4", "--out", tmp_path / "out", *flags)
    assert result.exit_code == USAGE and sentence in result.stderr and not (tmp_path / "out").exists()


def test_without_the_extra_one_sentence_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "find_spec", lambda name: None)
    result = run("none.mp4", "--out", tmp_path / "out", "--executor", "ray")
    assert result.exit_code == NOTHING_USABLE and not (tmp_path / "out").exists()
    assert result.stderr == (
        'Error: executor ray needs the extra ray: pip install "audience-analyzer[ray]"\n'
    )


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_where_nothing_answers_one_sentence_says_so_at_once(address: str, tmp_path: Path) -> None:
    result = run("none.mp4", "--out", tmp_path / "out", "--executor", "ray", "--address", address)
    assert result.exit_code == NOTHING_USABLE and not (tmp_path / "out").exists()
    assert result.stderr.startswith(f"Error: nothing answers at {address} (Connection refused): check that")


def test_a_plan_asks_no_cluster(clips: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "find_spec", lambda name: None)
    flags = "--out", out, "--no-video", "--fps", 2, "--executor", "ray"
    document = json.loads(run("plan", clips, *flags, "--json").stdout)
    assert document["workers"] is None
    assert document["estimate_s"] == pytest.approx(sum(one["estimate_s"] for one in document["videos"]))
    assert " for one worker, going by" in run("plan", clips, *flags).stdout
    assert json.loads(run("plan", clips, *flags, "--workers", 9, "--json").stdout)["workers"] == 9


def test_json_is_one_document(clips: Path, out: Path) -> None:
    result = run(clips, "--out", out, "--no-video", "--no-report", "--json")
    document = json.loads(result.stdout)
    assert document["reason"] == "finished" and document["done"] == 0 and document["troubles"] == []
    assert document["runs"] == []
    (out / "ledger.sqlite").unlink()
    two = clips / "one.mp4", clips / "two.mp4"
    document = json.loads(run(*two, "--out", out, "--no-video", "--no-report", "--json").stdout)
    assert {one["title"]: one["people"] for one in document["runs"]} == {"one": 0, "two": 0}
    folders = {Path(one["run"]) for one in document["runs"]}
    assert folders == {path.parent for path in out.glob("*/run.json")} and document["done"] == 2
    logged = [json.loads(line) for line in (out / "batch.jsonl").read_text().splitlines()][-1]
    assert logged["event"] == "batch_ended" and "runs" not in logged, "each has its own line"


def test_help_is_quick_and_lists_the_exit_codes() -> None:
    for args in (["batch", "--help"], ["batch", "run", "--help"], ["batch", "--out"]):
        shown = subprocess.run(
            [sys.executable, "-X", "importtime", "cli.py", *args],
            capture_output=True,
            check=False,
            text=True,
            cwd=ROOT,
        )
        loaded = {line.rpartition("|")[2].strip() for line in shown.stderr.splitlines()}
        assert not loaded & {"numpy", "pandas", "av", "yt_dlp", "sqlite3", "analyzer.batch.scheduler"}
        if "--help" in args:
            assert all(str(code) in shown.stdout for code in _CODES), args


def test_every_option_has_help() -> None:
    for command in batch.commands.values():
        assert command.help
        for parameter in command.params:
            assert parameter.param_type_name == "argument" or getattr(parameter, "help", None), parameter.name
