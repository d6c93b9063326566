"""The budget: what is one, which sampling is chosen for it, and what a run says of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from click.testing import CliRunner

from analyzer.analysis import budget
from analyzer.analysis.budget import Choice, _Cost, choose_sampling
from analyzer.analysis.segment import Models
from analyzer.api import analyze
from analyzer.cli import DONE, USAGE, cli
from analyzer.errors import SettingsError
from analyzer.events import SamplingChosen
from analyzer.settings import Settings, budget_s
from testkit.media import write_video

NO_MODELS = cast(Models, None)


# --- parsing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30.0), ("0.5s", 0.5), ("1e3s", 1000.0), ("0.1x", 20.0), ("2x", 400.0), (".25x", 50.0)],
)
def test_budget_is_seconds_or_a_share_of_the_video(text: str, seconds: float) -> None:
    assert budget_s(text, 200) == pytest.approx(seconds)
    assert Settings(budget=text).budget == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "s",
        "x",
        "0s",
        "0x",
        "-1x",
        "-1s",
        "nan s",
        "nans",
        "5",
        "inf s",
        "infx",
        "5m",
        "5 min",
        "s5",
        "5ss",
    ],
)
def test_what_is_no_budget_is_refused_with_an_example(text: str) -> None:
    for refused in (lambda: budget_s(text, 200), lambda: Settings(budget=text)):
        with pytest.raises(SettingsError, match=r"\(30s\) .* \(0\.1x\)") as caught:
            refused()
        assert repr(text) in str(caught.value)


@pytest.mark.parametrize("how", [{"every": 3}, {"keyframes": True}, {"blur": True}])
def test_budget_and_another_way_of_sampling_contradict(how: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="budget"):
        Settings(budget="30s", **how)


# --- choosing ----------------------------------------------------------------------------------------


def chosen(
    monkeypatch: pytest.MonkeyPatch,
    budget_text: str,
    *,
    reading: float = 0.0,
    sample: float = 0.1,
    fps: float = 5.0,
    duration_s: float = 100.0,
) -> Choice:
    """The choice where a second of video and a sample cost so many seconds; a keyframe comes every 10 s."""

    def tried(path: Path, duration: float, settings: Settings, models: Models, stretch_s: float) -> _Cost:
        assert (path, duration, settings.budget) == (Path("video"), duration_s, None)
        assert stretch_s > 0 and settings.fps == fps
        return _Cost(0.0 if settings.keyframes else reading, sample, 0.1 if settings.keyframes else fps)

    monkeypatch.setattr(budget, "_try", tried)
    settings = Settings(fps=fps, budget=budget_text, bin_s=3)
    return choose_sampling(Path("video"), duration_s, settings, NO_MODELS)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        # 50 s at 5 samples a second; a tenth of the budget is kept in reserve.
        ("1000s", 5.0),
        ("56s", 5.0),
        ("55s", 4.0),
        ("45s", 4.0),
        ("44s", 3.0),
        ("0.34x", 3.0),
        ("0.33x", 2.0),
        ("12s", 1.0),
        ("6s", 0.5),
        ("2.3s", 0.2),
        ("1.2s", 0.1),
    ],
)
def test_densest_rate_that_fits_is_chosen(text: str, rate: float, monkeypatch: pytest.MonkeyPatch) -> None:
    choice = chosen(monkeypatch, text)
    assert choice.fits and choice.settings == Settings(fps=rate, bin_s=3)
    assert choice.expected_s == pytest.approx(rate * 10)
    assert f"{rate:g} samples a second" in choice.in_words() and text in choice.in_words()
    assert "cannot" not in choice.in_words()


@pytest.mark.parametrize("fps", [0.05, 0.3, 1.7, 7.0, 12.0, 60.0])
def test_rate_asked_for_is_kept_where_it_fits_and_never_exceeded(
    fps: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert chosen(monkeypatch, "1000s", fps=fps, sample=0.01).settings.fps == fps
    for text in ("50s", "20s", "5s", "1s", "0.2s"):
        choice = chosen(monkeypatch, text, fps=fps)
        assert choice.settings.keyframes or choice.settings.fps <= fps


def test_reading_counts_whatever_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    # 20 s to read 100 s: 30 s of 50 are left for samples at 0.1 s each.
    choice = chosen(monkeypatch, "50s", reading=0.2)
    assert choice.settings.fps == 2 and choice.expected_s == pytest.approx(40)


def test_keyframes_are_left_where_no_rate_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    choice = chosen(monkeypatch, "15s", reading=0.2)
    assert choice.settings == Settings(keyframes=True, bin_s=3)
    assert choice.fits and choice.expected_s == pytest.approx(1.0)
    assert "keyframes alone" in choice.in_words() and "more than" not in choice.in_words()


def test_budget_that_cannot_be_kept_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    choice = chosen(monkeypatch, "0.5s", reading=0.2)
    assert choice.settings.keyframes and not choice.fits
    assert choice.in_words().startswith("keyframes alone")
    assert "takes about 1.0 s, more than the 0.5 s that a budget of 0.5s allows" in choice.in_words()


# --- runs --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory, two_portraits: tuple[np.ndarray, np.ndarray]) -> Path:
    """6 s of one person who moves a little, a keyframe every two seconds."""
    images = [np.roll(two_portraits[0], 2 * number, 1) for number in range(60)]
    path = tmp_path_factory.mktemp("budget") / "short.mp4"
    return write_video(path, images, fps=10, options={"g": "20", "sc_threshold": "0"})


@pytest.mark.parametrize("text", ["1000s", "500x"])
def test_generous_budget_keeps_the_rate(short: Path, text: str, tmp_path: Path) -> None:
    events: list[Any] = []
    settings = Settings(fps=3, budget=text, video=False)
    run = analyze(short, settings, out=tmp_path, on_event=events.append)
    assert len(run.samples) == 18 and len(run.people) == 1
    said = [event for event in events if isinstance(event, SamplingChosen)]
    assert len(said) == 1 and said[0].fits and said[0].choice == run.info["budget"]
    assert run.info["budget"].startswith("3 samples a second, which takes about ")
    assert f"that a budget of {text} allows" in run.info["budget"]
    assert run.info["settings"]["fps"] == 3 and run.info["timings_s"]["budget"] > 0


def test_run_without_a_budget_says_nothing_of_one(short: Path, tmp_path: Path) -> None:
    run = analyze(short, Settings(fps=1, video=False), out=tmp_path)
    assert run.info["budget"] is None and "budget" not in run.info["timings_s"]


def invoke(*arguments: str | Path) -> Any:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], prog_name="analyzer")


def test_tiny_budget_ends_with_keyframes_and_a_warning(short: Path, tmp_path: Path) -> None:
    result = invoke("analyze", short, "--out", tmp_path, "--no-video", "--budget", "0.001s", "--json")
    assert result.exit_code == DONE, result.output
    (document,) = json.loads(result.stdout)
    info = document["run"]
    assert "keyframes alone" in info["budget"] and "more than" in info["budget"]
    assert result.stderr.startswith("Warning: short: keyframes alone, which takes about ")
    assert result.stderr.count("\n") == 1 and "Traceback" not in result.stderr
    assert info["settings"]["keyframes"] is True and info["counts"]["samples"] == 3


def test_budget_that_is_kept_is_no_warning_and_quiet_says_nothing(short: Path, tmp_path: Path) -> None:
    arguments = ("analyze", short, "--no-video", "--fps", "1", "--budget", "1000s", "--out")
    result = invoke(*arguments, tmp_path / "announced")
    assert result.exit_code == DONE and result.stderr.startswith("Budget: short: 1 samples a second")
    quiet = invoke(*arguments, tmp_path / "quiet", "--quiet")
    assert (quiet.exit_code, quiet.output) == (DONE, "")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--budget", "30s", "--every", "3"),
        ("--budget", "30s", "--keyframes"),
        ("--budget", "30"),
        ("--budget", "0x"),
        ("--budget", ""),
    ],
)
def test_wrong_budget_is_a_usage_error(arguments: tuple[str, ...], tmp_path: Path) -> None:
    result = invoke("analyze", "video.mp4", "--out", tmp_path / "out", *arguments)
    assert result.exit_code == USAGE and "budget" in result.stderr
    assert not (tmp_path / "out").exists()


def test_trying_does_not_change_what_the_run_yields(
    short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[..., _Cost] = budget._try
    tried: list[_Cost] = []

    def watched(*arguments: Any) -> _Cost:
        tried.append(real(*arguments))
        return tried[-1]

    monkeypatch.setattr(budget, "_try", watched)
    with_budget = analyze(short, out=tmp_path / "1", fps=2, video=False, budget="1000s")
    without = analyze(short, out=tmp_path / "2", fps=2, video=False)
    assert len(tried) == 1 and tried[0].reading > 0 and tried[0].sample > 0 and tried[0].rate == 2
    assert with_budget.faces.equals(without.faces) and with_budget.people.equals(without.people)
