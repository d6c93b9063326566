"""The jobs of a batch: every key of the file, every mistake in one sentence with its place."""

from __future__ import annotations

import dataclasses
import datetime
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from analyzer.batch import config
from analyzer.batch.config import (
    LEDGER_NAME,
    LOG_NAME,
    ExecutorChoice,
    Filters,
    Jobs,
    Limits,
    OnFailure,
    Pace,
    Retry,
    jobs_of,
    load_jobs,
)
from analyzer.errors import SettingsError
from analyzer.settings import DEFAULT_OUT, Settings

TODAY = datetime.date(2026, 3, 31)
EXAMPLE = Path(__file__).parents[1] / "docs" / "batch-example.toml"
ONE = '[[source]]\nurl = "https://example.org/a"\n'


@pytest.fixture
def jobs(tmp_path: Path) -> Any:
    """Load a jobs file with this text."""

    def load(text: str, **overrides: Any) -> Jobs:
        path = tmp_path / "jobs.toml"
        path.write_text(text, encoding="utf-8")
        return load_jobs(path, **overrides)

    return load


# --- durations and ages ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", ["30", 30, "30x", "d", "2026-13-01", "2026-02-30", "20260101", "2026-1-1", "", True]
)
def test_age_needs_a_unit_or_a_day(value: Any) -> None:
    with pytest.raises(SettingsError, match="newer_than must be an age such as 30d or 12h, or a day"):
        Filters(newer_than=value)


@pytest.mark.parametrize("value", ["0d", "40000d"])
def test_age_out_of_range_is_refused(value: str) -> None:
    with pytest.raises(SettingsError, match="older_than must be between 1 s and"):
        Filters(older_than=value)


# --- filters -----------------------------------------------------------------------------------------


def why(filters: Filters, **known: Any) -> str | None:
    return filters.why_not(**({"title": None, "duration_s": None, "uploaded": None, "today": TODAY} | known))


@pytest.mark.parametrize(
    ("filters", "known", "reason"),
    [
        ({"shorter_than_s": 7200}, {"duration_s": 11160}, "longer than 2 h (3 h 6 min)"),
        ({"shorter_than_s": "2h"}, {"duration_s": 7200}, "not shorter than 2 h (2 h)"),
        ({"shorter_than_s": 7200}, {"duration_s": 7199.9}, None),
        ({"longer_than_s": 60}, {"duration_s": 30}, "shorter than 1 min (30 s)"),
        ({"longer_than_s": 60}, {"duration_s": 60}, "not longer than 1 min (1 min)"),
        ({"longer_than_s": 60}, {"duration_s": 60.1}, None),
        ({"title": "Talk|inter.iew"}, {"title": "An INTERVIEW"}, None),
        ({"title": "talk"}, {"title": "stalking"}, None),
        ({"title": "^talk"}, {"title": "A talk"}, "the title does not match '^talk'"),
        ({"not_title": "#shorts"}, {"title": "x #Shorts"}, "the title matches '#shorts'"),
        ({"not_title": "#shorts"}, {"title": "x"}, None),
        ({"newer_than": "30d"}, {"uploaded": "2026-03-01"}, None),
        ({"newer_than": "30d"}, {"uploaded": "2026-02-28"}, "older than 30d (uploaded 2026-02-28)"),
        ({"newer_than": "12h"}, {"uploaded": "2026-03-30"}, None),
        ({"newer_than": "12h"}, {"uploaded": "2026-03-29"}, "older than 12h (uploaded 2026-03-29)"),
        ({"newer_than": "2026-03-01"}, {"uploaded": "2026-03-01"}, None),
        (
            {"newer_than": "2026-03-01"},
            {"uploaded": "2026-02-28T23:00:00"},
            "older than 2026-03-01 (uploaded 2026-02-28)",
        ),
        ({"older_than": "30d"}, {"uploaded": "2026-02-28"}, None),
        ({"older_than": "30d"}, {"uploaded": "2026-03-01"}, "newer than 30d (uploaded 2026-03-01)"),
        ({"older_than": "2026-03-01"}, {"uploaded": "2026-02-28"}, None),
        (
            {"older_than": "2026-03-01"},
            {"uploaded": "2026-03-01"},
            "newer than 2026-03-01 (uploaded 2026-03-01)",
        ),
    ],
)
def test_filter_says_why_it_excludes(
    filters: dict[str, Any], known: dict[str, Any], reason: str | None
) -> None:
    assert why(Filters(**filters), **known) == reason


@pytest.mark.parametrize(
    "known",
    [
        *({}, {"duration_s": math.nan}, {"duration_s": 0.0}, {"duration_s": math.inf}),
        *({"uploaded": each} for each in ("", "yesterday", "2026-02-30", "20200101")),
    ],
)
def test_unknown_values_never_exclude(known: dict[str, Any]) -> None:
    filters = Filters(
        newer_than="2d", older_than="1d", shorter_than_s=2, longer_than_s=1, title="x", not_title="x"
    )
    assert why(filters, **known) is None


def test_no_filter_excludes_nothing() -> None:
    assert why(Filters(), title="", duration_s=1e9, uploaded="1999-01-01") is None


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        (
            {"shorter_than_s": 60, "longer_than_s": "1min"},
            "shorter_than .1 min. must be more than longer_than",
        ),
        (
            {"newer_than": "2d", "older_than": "30d"},
            "newer_than .2d. and older_than .30d. exclude everything",
        ),
        ({"newer_than": "12h", "older_than": "1d"}, "exclude everything"),
        ({"newer_than": "2026-02-01", "older_than": "2026-02-01"}, "exclude everything"),
        ({"title": "("}, "title is not a regular expression"),
        ({"not_title": "a{99999999999}"}, "not_title is not a regular expression"),
        ({"title": ""}, "title must be a regular expression"),
        ({"title": 5}, "title must be a regular expression, not 5"),
        ({"shorter_than_s": 0}, "shorter_than must be between"),
        ({"longer_than_s": "x"}, "longer_than must be a duration"),
        ({"newer_than": datetime.datetime(2026, 1, 1, 5)}, "newer_than must be an age"),
    ],
)
def test_contradicting_or_wrong_filters_are_refused(filters: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        Filters(**filters)


@pytest.mark.parametrize(
    "filters",
    [
        {"newer_than": "30d", "older_than": "2d"},
        {"newer_than": "2026-02-01", "older_than": "2026-02-02"},
        {"newer_than": "2026-02-01", "older_than": "30d"},  # may exclude something in another batch run
        {"title": "[[a]"},  # Python warns of it
    ],
)
def test_filters_that_allow_something_are_accepted(filters: dict[str, Any]) -> None:
    assert dataclasses.asdict(Filters(**filters)).items() >= filters.items()


def test_expressions_that_python_warns_about_are_used_without_a_warning() -> None:
    assert why(Filters(title="[[q]x"), title="[x") is None


# --- the dataclasses ---------------------------------------------------------------------------------


def test_defaults_are_the_documented_ones() -> None:
    assert dataclasses.asdict(Retry()) == {"attempts": 5, "base_s": 60, "cap_s": 21600, "patience_s": 300}
    assert dataclasses.asdict(Limits()) == {
        **{"memory_mb": 4000, "cpu_s": 43200, "wall_s": 21600, "stall_s": 300, "crashes": 3}
    }
    assert dataclasses.asdict(Pace()) == {"pause_s": (5, 10), "bot_pause_s": 3600, "per_host": 1}
    assert OnFailure() == OnFailure(command=(), webhook=None)
    assert config.BOT_PAUSE_CAP_S == 86400


@pytest.mark.parametrize(
    ("cls", "values", "words"),
    [
        (Retry, {"attempts": 0}, "attempts must be between 1 and 100, not 0"),
        (Retry, {"attempts": 2.5}, "attempts must be a whole number"),
        (Retry, {"attempts": True}, "attempts must be a whole number"),
        (Retry, {"attempts": "5"}, "attempts must be a whole number"),
        (Retry, {"attempts": None}, "attempts must be a whole number"),
        (Retry, {"attempts": 10**5000}, "attempts must be between"),
        (Retry, {"base_s": 0}, "base must be between 1 s and 7 d"),
        (Retry, {"base_s": "2h", "cap_s": "1h"}, r"cap \(1 h\) must not be less than base \(2 h\)"),
        (Retry, {"patience_s": -1}, "patience must be between"),
        (Limits, {"memory_mb": 10}, "memory_mb must be between 500"),
        (Limits, {"cpu_s": "5 years"}, "cpu must be a duration"),
        (Limits, {"wall_s": 0}, "wall must be"),
        (Limits, {"stall_s": 0}, "stall must be"),
        (Limits, {"crashes": 0}, "crashes must be"),
        (Pace, {"pause_s": (10, 5)}, "pause must give the shortest duration first, not 10 s, 5 s"),
        (Pace, {"pause_s": (1, 2, 3)}, "pause must be a duration, or"),
        (Pace, {"pause_s": (1, "x")}, "pause must be a duration"),
        (Pace, {"pause_s": None}, "pause must be a duration"),
        (Pace, {"bot_pause_s": "25h"}, "bot_pause must be between 1 s and 1 d"),
        (OnFailure, {"command": "mail me"}, r'command must be a list such as \["mail"'),
        (OnFailure, {"command": ["mail", 5]}, "command must be a program"),
        (OnFailure, {"command": [""]}, "command must be a program"),
        (OnFailure, {"command": ["a\0b"]}, "command must be a program"),
        (OnFailure, {"webhook": "ftp://example.org"}, "webhook must be an http or https address"),
        (OnFailure, {"webhook": "https://"}, "webhook must be"),
        (OnFailure, {"webhook": "https://[x"}, "webhook must be"),
        (OnFailure, {"webhook": "https://a b"}, "webhook must be"),
        (OnFailure, {"webhook": 5}, "webhook must be"),
        (ExecutorChoice, {"kind": "dask"}, "kind must be one of local, ray, not 'dask'"),
        (ExecutorChoice, {"address": "head"}, "address must be auto, local, HOST:PORT or ray://HOST:10001"),
        (ExecutorChoice, {"address": "http://head:8265"}, "address must be"),
        (ExecutorChoice, {"address": 5}, "address must be"),
        (ExecutorChoice, {"cpus": 0}, "cpus must be between 1 and 1024"),
        (ExecutorChoice, {"cpus": 1.5}, "cpus must be a whole number"),
        (ExecutorChoice, {"memory_mb": 1}, "memory_mb must be between 100"),
        (ExecutorChoice, {"gpus": -1}, "gpus must be between 0 and 64"),
        (ExecutorChoice, {"gpus": 1.5}, "gpus must be a whole number or less than 1, not 1.5"),
        (ExecutorChoice, {"source": "push"}, "source must be one of auto, shared, send"),
        (ExecutorChoice, {"scratch": "tmp"}, "scratch must be an absolute path"),
        (ExecutorChoice, {"scratch": 5}, "scratch must be an absolute path"),
    ],
)
def test_values_out_of_range_are_refused(cls: type[Any], values: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        cls(**values)


def test_durations_may_be_text_and_one_pause_is_both() -> None:
    assert Retry(base_s="2min").base_s == 120.0  # type: ignore[arg-type]
    assert Pace(pause_s=["5s", 6]).pause_s == (5.0, 6.0)  # type: ignore[arg-type]
    assert Retry(base_s="1h", cap_s=3600).cap_s == 3600.0  # type: ignore[arg-type]
    assert Pace(pause_s="3s").pause_s == (3.0, 3.0)  # type: ignore[arg-type]
    assert OnFailure(command=["mail"]).command == ("mail",)  # type: ignore[arg-type]


def test_nothing_heavy_is_loaded() -> None:
    code = (
        "import sys, analyzer.batch.config as m\n"
        "heavy = {'numpy', 'pandas', 'yt_dlp', 'av', 'cv2', 'click', 'analyzer.runs.schema'}\n"
        "heavy &= set(sys.modules)\n"
        "sys.exit(' '.join(heavy) or None)"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")


# --- the file ----------------------------------------------------------------------------------------


def test_minimal_file_has_all_defaults(jobs: Any, tmp_path: Path) -> None:
    made = jobs(ONE)
    out = tmp_path / DEFAULT_OUT
    (source,) = made.sources
    assert (source.name, source.settings, source.folder) == ("https://example.org/a", Settings(), out)
    assert (source.filters, source.max_per_run, source.tags) == (Filters(), None, ())
    assert source.watched is False
    assert made == Jobs(sources=(source,), out=out, ledger=out / LEDGER_NAME, log=out / LOG_NAME)
    assert (made.time_budget_s, made.workers, made.report, made.reserve_mb) == (None, 0, ("html",), 1000)
    assert (made.retry, made.limits, made.pace, made.on_failure) == (Retry(), Limits(), Pace(), OnFailure())


def test_every_key_of_the_file_is_used(jobs: Any, tmp_path: Path) -> None:
    made = jobs(
        """
        out = "o"
        ledger = "l/db"
        log = "/var/log/x.jsonl"
        time-budget = "6h"
        workers = 2
        report = ["csv", "html", "csv"]
        [retry]
        attempts = 2
        base = "10s"
        cap_s = 30
        patience = 0
        [limits]
        memory_mb = 900
        cpu = "1h"
        wall = "2h"
        stall = "10s"
        crashes = 1
        [pace]
        pause = [1, "2s"]
        bot-pause = "2h"
        [disk]
        reserve_mb = 5
        [on_failure]
        command = ["mail", "me"]
        webhook = "https://example.org/hook"
        [executor]
        kind = "ray"
        address = "ray://head.example.org:10001"
        cpus = 4
        memory_mb = 3000
        gpus = 0.5
        source = "shared"
        scratch = "/mnt/fast"
        [[source]]
        folder = "in"
        watch = true
        into = "a/b"
        max_per_run = 3
        """
    )
    assert (made.out, made.ledger) == (tmp_path / "o", tmp_path / "l/db")
    assert made.log == Path("/var/log/x.jsonl")
    assert (made.time_budget_s, made.workers, made.report, made.reserve_mb) == (21600, 2, ("csv", "html"), 5)
    assert made.retry == Retry(attempts=2, base_s=10, cap_s=30, patience_s=0)
    assert made.limits == Limits(memory_mb=900, cpu_s=3600, wall_s=7200, stall_s=10, crashes=1)
    assert made.pace == Pace(pause_s=(1, 2), bot_pause_s=7200)
    assert made.on_failure == OnFailure(command=("mail", "me"), webhook="https://example.org/hook")
    assert made.executor == ExecutorChoice(
        **{"kind": "ray", "address": "ray://head.example.org:10001", "cpus": 4, "memory_mb": 3000},
        **{"gpus": 0.5, "source": "shared", "scratch": "/mnt/fast"},
    )
    (source,) = made.sources
    assert source.name == str(tmp_path / "in") and source.folder == tmp_path / "o/a/b"
    assert source.watched and source.max_per_run == 3


@pytest.mark.parametrize(
    ("kind", "value", "playlist"),
    [
        ("channel", "https://www.youtube.com/@x", True),
        ("playlist", "HTTP://example.org/list?a=b", True),
        ("url", "https://user:pw@example.org/a.mp4", False),
        ("file", "/somewhere/a.mp4", False),
        ("folder", "/somewhere", False),
    ],
)
def test_kinds_of_sources(jobs: Any, kind: str, value: str, playlist: bool) -> None:
    (source,) = jobs(f'[[source]]\n{kind} = "{value}"\n').sources
    assert source.name == value and source.settings.playlist is playlist


def test_paths_are_relative_to_the_file_wherever_the_batch_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "j.toml").write_text('[[source]]\nfile = "a.mp4"\n[[source]]\nfolder = "~/b"\n')
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.chdir(tmp_path)
    relative = load_jobs(Path("here/j.toml"))
    monkeypatch.chdir("/")
    assert relative == load_jobs(folder / "j.toml")
    assert [each.name for each in relative.sources] == [str(folder / "a.mp4"), "/home/me/b"]
    assert relative.out == folder / DEFAULT_OUT


LAYERS = """
{top}
[settings]
bin = 2
{all}
[tags.a]
bin_s = 3
newer_than = "3d"
title = "a"
{a}
[tags.b]
bin = 4
newer_than = 2026-01-01
{b}
[[source]]
url = "https://example.org/a"
{source}
"""


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({}, {"bin_s": 2.0, "fps": 5.0}),
        ({"top": 'preset = "fast"'}, {"fps": 2.5, "bin_s": 2.0}),
        ({"top": 'preset = "fast"', "all": "fps = 3"}, {"fps": 3.0, "deblock": False}),
        ({"source": 'tags = ["a"]'}, {"bin_s": 3.0}),
        ({"source": 'tags = ["a", "b"]'}, {"bin_s": 4.0}),
        ({"source": 'tags = ["b", "a"]'}, {"bin_s": 3.0}),
        ({"source": 'tags = ["b"]\nsettings = {bin = 9}'}, {"bin_s": 9.0}),
        # The most particular preset alone counts, below all settings.
        ({"top": 'preset = "balanced"', "source": 'preset = "fast"'}, {"fps": 2.5, "deblock": False}),
        ({"top": 'preset = "fast"', "source": 'preset = "balanced"'}, {"fps": 5.0, "deblock": True}),
        (
            {"top": 'preset = "fast"', "a": 'preset = "balanced"', "source": 'tags = ["a"]'},
            {"fps": 5.0},
        ),
        (
            {"a": 'preset = "balanced"', "b": 'preset = "fast"', "source": 'tags = ["a", "b"]'},
            {"deblock": False, "fps": 2.5},
        ),
        ({"all": "fps = 3", "source": 'preset = "fast"'}, {"fps": 3.0}),
        # The more particular way of sampling takes the place of the other.
        ({"all": "fps = 3", "source": "settings = {every = 2}"}, {"every": 2}),
        ({"all": "every = 3", "source": "settings = {fps = 2}"}, {"every": None, "fps": 2.0}),
        ({"all": "keyframes = true", "source": "settings = {every = 2}"}, {"keyframes": False, "every": 2}),
        ({"all": "fps = 3", "source": "settings = {keyframes = false}"}, {"fps": 3.0, "keyframes": False}),
        ({"all": "limit = 3"}, {"limit": 3}),
        ({"all": "limit = 3", "source": "limit = 5"}, {"limit": 5}),
        (
            {"all": "video = false\nformat = ['csv']\nmax-height = 360"},
            {"formats": ("csv",), "max_height": 360},
        ),
        ({"all": "start = 3\nend = 9\ntimeout = 2"}, {"start_s": 3.0, "end_s": 9.0, "timeout_s": 2.0}),
    ],
)
def test_specific_values_override_general_ones(
    jobs: Any, parts: dict[str, str], expected: dict[str, Any]
) -> None:
    text = LAYERS.format(**({"top": "", "all": "", "a": "", "b": "", "source": ""} | parts))
    settings = jobs(text).sources[0].settings.to_dict() | {"formats": jobs(text).sources[0].settings.formats}
    assert {name: settings[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("source", "filters"),
    [
        ('tags = ["a"]', Filters(newer_than="3d", title="a")),
        ('tags = ["a", "b", "a"]', Filters(newer_than="2026-01-01", title="a")),
        ('tags = ["a"]\ntitle = "own"\nshorter-than = "2h"', Filters("3d", None, 7200.0, None, "own")),
        ('longer_than_s = 5\nnot_title = "x"\nolder_than = "2d"', Filters(None, "2d", None, 5, None, "x")),
    ],
)
def test_filters_of_tags_and_source(jobs: Any, source: str, filters: Filters) -> None:
    made = jobs(LAYERS.format(top="", all="", a="", b="", source=source)).sources[0]
    assert made.filters == filters
    assert len(set(made.tags)) == len(made.tags)


def test_overrides_override_the_file(jobs: Any, tmp_path: Path) -> None:
    text = f'out = "o"\nworkers = 2\ntime_budget = "1h"\n{ONE}into = "x"\n'
    made = jobs(text, out=Path("/else"), workers=4, report=(), time_budget_s=None, reserve_mb=7)
    assert (made.out, made.ledger, made.log) == (
        Path("/else"),
        Path("/else") / LEDGER_NAME,
        Path("/else") / LOG_NAME,
    )
    assert made.sources[0].folder == Path("/else/x")
    assert (made.workers, made.report, made.time_budget_s, made.reserve_mb) == (4, (), 3600, 7)

    assert jobs(text, workers=None).workers == 2
    assert jobs(f'ledger = "l"\n{ONE}', out=Path("/else")).ledger == tmp_path / "l"


def test_single_keys_of_the_executor_can_be_overridden(jobs: Any) -> None:
    text = '[executor]\nkind = "ray"\naddress = "local"\ncpus = 4\n' + ONE
    elsewhere = jobs(text, executor={"address": "ray://head:10001"}).executor
    assert elsewhere == ExecutorChoice(kind="ray", address="ray://head:10001", cpus=4)
    assert jobs(text, executor={"kind": "local"}).executor.kind == "local"
    assert jobs("[executor]\ncpus = 4\n" + ONE, executor={"kind": "ray"}).executor.cpus == 4
    assert jobs(ONE).executor == ExecutorChoice()


MISTAKES: list[tuple[str, str]] = [
    # keys
    (
        '[[source]]\nchanel = "https://a.org"',
        r"\[\[source\]\] 1: unknown key 'chanel': did you mean 'channel'\?",
    ),
    ("wrokers = 2\n" + ONE, "unknown key 'wrokers': did you mean 'workers'"),
    ("[[sources]]\nurl = 'https://a.org'", "unknown key 'sources': did you mean 'source'"),
    (ONE + "[settings]\nfpps = 2", r"\[settings\]: unknown key 'fpps': did you mean 'fps'"),
    (
        ONE + "[tags.x]\nshorter_then = 2",
        r"\[tags.x\]: unknown key 'shorter_then': did you mean 'shorter_than'",
    ),
    (ONE + "[retry]\nattemps = 2", r"\[retry\]: unknown key 'attemps': did you mean 'attempts'"),
    (ONE + "[limits]\nstal = 2", r"\[limits\]: unknown key 'stal': did you mean 'stall'"),
    (ONE + "[pace]\npauses = 2", r"\[pace\]: unknown key 'pauses': did you mean 'pause'"),
    (ONE + "[disk]\nreserve = 2", r"\[disk\]: unknown key 'reserve': did you mean 'reserve_mb'"),
    (ONE + "[on_failure]\nwebhok = 2", r"\[on_failure\]: unknown key 'webhok': did you mean 'webhook'"),
    (ONE + "[disk]\nzzzz = 2", "unknown key 'zzzz': known keys are reserve_mb"),
    ('"a\\nb" = 2\n' + ONE, r"unknown key 'a\\nb'"),
    # keys that belong elsewhere
    ("fps = 2\n" + ONE, r"unknown key 'fps': it belongs in \[settings\]"),
    (
        ONE + "fps = 2",
        r"1 \(https://example.org/a\): unknown key 'fps': it belongs in \[settings\], or settings",
    ),
    (ONE + "[settings]\nout = 'x'", "unknown key 'out': it belongs in the lines before the first"),
    (ONE + "[settings]\nshorter_than = 5", r"'shorter_than': it belongs in a \[\[source\]\]"),
    (ONE + "[settings]\nplaylist = true", r"'playlist': it belongs in a \[\[source\]\], instead of url"),
    (ONE + "settings = {playlist = true}", r"settings: unknown key 'playlist'"),
    ("reserve_mb = 5\n" + ONE, r"'reserve_mb': it belongs in \[disk\]"),
    (ONE + "[settings]\nno-video = true", "unknown key 'no-video': write video = false"),
    # twice
    (ONE + "[settings]\nstart = 2\nstart_s = 3", r"\[settings\]: 'start_s' is set twice, in two spellings"),
    (ONE + "newer_than='2d'\nnewer-than='2d'", "'newer-than' is set twice"),
    (ONE + "limit = 2\nsettings = {limit = 3}", "limit is set twice: remove it from settings"),
    ("[[source]]\nfolder = 'x'\nrecursive = true\nsettings = {recursive = true}", "recursive is set twice"),
    (ONE + "recursive = true", "recursive is for a folder, this is a url"),
    ("[[source]]\nchannel = 'https://a.org'\nimages = true", "images is for a folder, this is a channel"),
    ("[[source]]\nfolder = 'x'\nrecursive = 'yes'", "recursive must be true or false, not 'yes'"),
    # what a source is
    ("", "there is no source to analyze"),
    ("source = []", "there is no source to analyze"),
    ("[source]\nurl = 'https://a.org'", r"source must be written with two brackets"),
    ("source = [5]", r"\[\[source\]\] 1: must be a table with keys, not 5"),
    ("[[source]]\nlimit = 5", r"1: must have exactly one of channel, playlist, url, file, folder, not none"),
    (ONE + "file = 'b'", r"must have exactly one of .*, not url and file"),
    (
        "[[source]]\nurl = 'talk.mp4'",
        "url must be an http or https address, not 'talk.mp4'; use file or folder",
    ),
    ("[[source]]\nchannel = '@x'", r"channel must be an http or https address, not '@x'$"),
    ("[[source]]\nurl = 5", r"\[\[source\]\] 1: url must be an http or https address, not 5"),
    ("[[source]]\nurl = 'https://a.org/x y'", "url must be"),
    ("[[source]]\nfile = 'https://a.org'", "file must be a path; use url"),
    ("[[source]]\nfolder = ''", "folder must be a path, not ''"),
    ("[[source]]\nfile = 5", "file must be a path, not 5"),
    ('[[source]]\nfile = "a\\u0000b"', "file must be a path"),
    (ONE + "watch = true", "watch is for a folder, this is a url"),
    ("[[source]]\nfolder = 'x'\nwatch = 'yes'", "watch must be true or false, not 'yes'"),
    (ONE + "max_per_run = 0", "max_per_run must be a whole number of at least 1, not 0"),
    (ONE + "max_per_run = true", "max_per_run must be a whole number"),
    (ONE + "limit = 0", "limit must be at least 1"),
    *(
        (ONE + f"into = {value}", "into must be a folder inside out, such as news/daily, not")
        for value in (
            "'/etc'",
            "'..'",
            "'a/../../b'",
            "''",
            "'.'",
            "5",
            "'~/x'",
            "'a\\b'",
            "'.parts'",
            '"a\\nb"',
        )
    ),
    # values
    (ONE + "[settings]\nfps = -1", r"\[settings\]: fps must be between 0.01 and 240, not -1"),
    (ONE + "[settings]\nfps = '5'", r"\[settings\]: fps must be a number"),
    (ONE + "[settings]\nformat = 'csv'", r"\[settings\]: formats must be a list"),
    (ONE + "[settings]\nlimit = 1" + "0" * 400, r"\[settings\]: limit is too large"),
    (ONE + "[tags.x]\nfps = -1", r"\[tags.x\]: fps must be between"),
    (ONE + "[tags.x]\ntitle = '('", r"\[tags.x\]: title is not a regular expression: '\('"),
    (ONE + "settings = {fps = -1}", r"1 \(https://example.org/a\): settings: fps must be"),
    (ONE + "settings = 5", "settings: must be a table with keys, not 5"),
    (
        ONE + "settings = {end = 3, start = 5}",
        r"1 \(https://example.org/a\): end .3 s. must be later than start",
    ),
    (ONE + "title = '['", "title is not a regular expression"),
    (
        ONE + "shorter_than = 5\nlonger_than = 6",
        r"1 \(.*\): shorter_than \(5 s\) must be more than longer_than \(6 s\)",
    ),
    (ONE + "tags = ['x']\nshorter_than = 5\n[tags.x]\nlonger_than = 6", r"1 \(.*\): shorter_than"),
    (ONE + 'title = "(?<\\n"', r"title is not a regular expression: '\(\?<\\n' \(unknown extension"),
    (ONE + "newer_than = 30", "newer_than must be an age"),
    ("preset = 'fats'\n" + ONE, "there is no preset named 'fats': did you mean 'fast'"),
    ("preset = 5\n" + ONE, "there is no preset named 5: choose one of fast, balanced"),
    (ONE + "preset = 'zzz'", r"1 \(.*\): there is no preset named 'zzz': choose one"),
    ("[executor]\ncpus = 4\n" + ONE, r'\[executor\]: cpus is for a Ray cluster: add kind = "ray"'),
    ("[executor]\nkind = 'Ray'\n" + ONE, r"\[executor\]: kind must be one of local, ray"),
    ("[executor]\nadress = 'auto'\n" + ONE, r"\[executor\]: unknown key 'adress': did you mean 'address'"),
    ("cpus = 4\n" + ONE, r"unknown key 'cpus': it belongs in \[executor\]"),
    ("workers = -1\n" + ONE, "workers must be between 0 and 100000"),
    ("time_budget = 0\n" + ONE, "time_budget must be between 1 s and 366 d"),
    ("time_budget = 06:00:00\n" + ONE, "time_budget must be a duration"),
    ("report = 'html'\n" + ONE, "report must be a list"),
    ("report = ['htm']\n" + ONE, "report must contain only html, .*, not 'htm': did you mean 'html'"),
    ("report = [5]\n" + ONE, "report must contain only html"),
    ("report = [['html']]\n" + ONE, "report must contain only html"),
    ("out = ''\n" + ONE, "out must be a path"),
    ("out = 5\n" + ONE, "out must be a path, not 5"),
    ("ledger = 'x'\nlog = 'x'\n" + ONE, "ledger and log are the same file"),
    ("settings = 5\n" + ONE, r"\[settings\]: must be a table with keys, not 5"),
    ("retry = [5]\n" + ONE, r"\[retry\]: must be a table"),
    (ONE + "[retry]\nattempts = 0", r"\[retry\]: attempts must be between"),
    (ONE + "[limits]\nwall = 'x'", r"\[limits\]: wall must be a duration"),
    (ONE + "[pace]\npause = [9, 1]", r"\[pace\]: pause must give the shortest duration first"),
    (ONE + "[disk]\nreserve_mb = -1", "reserve_mb must be between 0"),
    (
        ONE + "[on_failure]\nwebhook = 'file:///x'",
        r"\[on_failure\]: webhook must be an http or https address",
    ),
    # tags
    (ONE + "tags = 'news'", r'tags must be a list such as \["news"\], not \'news\''),
    (ONE + "tags = [5]", "tags must be a list"),
    (
        ONE + "tags = ['nwes']\n[tags.news]",
        r"the tag 'nwes' is not defined; define it as \[tags.nwes\]: did you mean 'news'",
    ),
    (ONE + "tags = ['x']", r"the tag 'x' is not defined; define it as \[tags.x\]$"),
    ("tags = ['news']\n" + ONE, "tags must be written as tables"),
    ("tags = {news = 5}\n" + ONE, r"\[tags.news\]: must be a table"),
    # not TOML
    ("a = \n" + ONE, r"is not TOML: .*line 1"),
    (ONE + "url = 'b'", r"is not TOML: .*line 3"),
    ("a = " + "9" * 5000, "is not TOML: a number is too long"),
    ("a = " + "[" * 100_000, "is not TOML: nested too deeply"),
]


@pytest.mark.parametrize(("text", "words"), MISTAKES, ids=range(len(MISTAKES)))
def test_mistake_ends_in_one_sentence_with_its_place(jobs: Any, text: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        jobs(text)
    message = str(caught.value)
    assert re.search(words, message), message
    assert "jobs.toml" in message.partition(": ")[0]
    assert message.isprintable()


def test_untrusted_text_is_shown_printable_and_without_login(jobs: Any) -> None:
    text = '[[source]]\nurl = "{}"\nlimit = 0'
    for address in (r"https://me:secret@a.org/\u001b[31m\nx", "ftp://me:secret@a.org/" + "x" * 5000):
        with pytest.raises(SettingsError) as caught:
            jobs(text.format(address))
        message = str(caught.value)
        assert "[[source]] 1" in message and "a.org" in message
        assert "secret" not in message and message.isprintable() and len(message) < 500


def test_place_counts_from_one(jobs: Any) -> None:
    with pytest.raises(SettingsError, match=r"\[\[source\]\] 3 \(https://example.org/a\): limit"):
        jobs(ONE + ONE + ONE + "limit = 0")


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (None, "there is no file"),
        (b'out = "x"\n\n# \xff', r"is not UTF-8 \(line 3\)"),
    ],
)
def test_file_that_cannot_be_read(tmp_path: Path, raw: bytes | None, words: str) -> None:
    path = tmp_path / "jobs.toml"
    if raw is not None:
        path.write_bytes(raw)
    with pytest.raises(SettingsError, match=words) as caught:
        load_jobs(path)
    assert "jobs.toml" in str(caught.value)


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "a\nb", "."])
def test_impossible_names_of_files(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_jobs(tmp_path / name)
    assert str(caught.value).isprintable()


def test_fifos_and_folders_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.toml")
    with pytest.raises(SettingsError, match="is not a file"):
        load_jobs(tmp_path / "fifo.toml")
    locked = tmp_path / "locked.toml"
    locked.write_text(ONE)
    locked.chmod(0)
    if not os.access(locked, os.R_OK):  # root may read all
        with pytest.raises(SettingsError, match="cannot be read"):
            load_jobs(locked)


def test_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "jobs.toml").write_bytes(b"\xef\xbb\xbf" + ONE.replace("\n", "\r\n").encode())
    assert len(load_jobs(tmp_path / "jobs.toml").sources) == 1


# --- the same thing twice ------------------------------------------------------------------------------


def two(first: str, second: str) -> str:
    return f"[[source]]\n{first}\n[[source]]\n{second}\n"


A = "url = 'https://example.org/a'\n"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (A, A + "settings = {fps = 2}"),
        (A + "into = 'x'", A + "into = 'x'\nsettings = {fps = 2}"),
        (A + "into = 'x'", A + "into = 'x/'\npreset = 'fast'"),
        (A, "channel = 'https://EXAMPLE.org/a/#top'\nsettings = {fps = 2}"),
        ("folder = 'a'", "folder = './a/../a/'\nsettings = {fps = 2}"),
    ],
)
def test_one_source_with_two_settings_in_one_folder_is_refused(jobs: Any, first: str, second: str) -> None:
    other = "url = 'https://example.org/other'\n[[source]]\n" + first
    with pytest.raises(
        SettingsError, match=r"\[\[source\]\] 2 and 3 are the same, .* choose another folder .* into"
    ):
        jobs(two(other, second))


@pytest.mark.parametrize(
    ("first", "second", "count"),
    [
        (A, A, 1),
        (A, A + "title = 'x'", 2),
        (A + "settings = {fps = 2}", A + "into = 'x'", 2),
        (A, A + "limit = 5", 2),  # changes nothing of what comes out
        (A, "url = 'https://example.org/A'\nsettings = {fps = 2}", 2),
        (A, "url = 'https://example.org/a?v=2'\nsettings = {fps = 2}", 2),
        ("file = 'a'", "file = 'b'\nsettings = {fps = 2}", 2),
    ],
)
def test_sources_that_do_not_clash_are_allowed(jobs: Any, first: str, second: str, count: int) -> None:
    assert len(jobs(two(first, second)).sources) == count


# --- from the command line -----------------------------------------------------------------------------


def test_command_line(tmp_path: Path) -> None:
    settings, filters = Settings(fps=2, playlist=True), Filters(title="x")
    (tmp_path / "dir.txt").mkdir()
    names = [
        str(tmp_path),
        "https://example.org/a.txt",
        "a.mp4",
        str(tmp_path / "dir.txt"),
        "missing.txt",
        "a.mp4",
    ]
    made = jobs_of(names, settings, out=tmp_path / "o", filters=filters, max_per_run=2, watch=True, workers=3)
    assert [each.name for each in made.sources] == names[:-1]
    assert [each.watched for each in made.sources] == [True, False, False, True, False]
    for each in made.sources:
        assert (each.settings, each.filters, each.max_per_run) == (settings, filters, 2)
        assert each.folder == tmp_path / "o"
    assert (made.ledger, made.log) == (tmp_path / "o" / LEDGER_NAME, tmp_path / "o" / LOG_NAME)
    assert made.workers == 3 and made.report == ("html",)
    plain = jobs_of(["a.mp4"], settings, out=tmp_path, ledger=Path("l"), workers=None, report=())
    assert (plain.ledger, plain.workers, plain.report) == (Path("l"), 0, ())
    assert plain.sources[0].filters == Filters() and not plain.sources[0].watched
    assert not jobs_of([str(tmp_path)], settings, out=tmp_path).sources[0].watched


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"workers": -1}, "workers"),
        ({"time_budget_s": 0}, "time_budget"),
        ({"report": ("pdf",)}, "report"),
        ({"max_per_run": 0}, "max_per_run"),
    ],
)
def test_wrong_choices_of_the_command_line(tmp_path: Path, choices: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        jobs_of(["a.mp4"], Settings(), out=tmp_path, **choices)


def test_no_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is no source"):
        jobs_of([], Settings(), out=tmp_path)


def names_in(*sources: str) -> list[str]:
    return [each.name for each in jobs_of(sources, Settings(), out=Path("o")).sources]


def test_list_of_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    (tmp_path / "sub").mkdir()
    (tmp_path / "list.TXT").write_text(
        "\ufeff# all of them\r\n\r\n https://example.org/a#t=5 \r\na b.mp4\n/x/c.mp4\n"
        "  # no\n~/d.mp4\nsub/more.txt\nnone.txt"
    )
    (tmp_path / "sub" / "more.txt").write_text("e.mp4\nhttps://example.org/a#t=5\n")
    expected = ["https://example.org/a#t=5", f"{tmp_path}/a b.mp4", "/x/c.mp4", "/home/me/d.mp4"]
    expected += [f"{tmp_path}/sub/e.mp4", f"{tmp_path}/none.txt"]
    assert names_in(str(tmp_path / "list.TXT")) == expected
    monkeypatch.chdir(tmp_path)
    assert names_in("sub/more.txt", "x.mp4") == ["sub/e.mp4", "https://example.org/a#t=5", "x.mp4"]


@pytest.mark.parametrize("third", ["c.mp4", "# nothing"])
def test_lists_nested_deeper_are_refused(tmp_path: Path, third: str) -> None:
    for name, line in (("a.txt", "b.txt"), ("b.txt", "c.txt"), ("c.txt", third)):
        (tmp_path / name).write_text(line + "\n")
    with pytest.raises(SettingsError, match=r"c\.txt is nested too deeply"):
        names_in(str(tmp_path / "a.txt"))


def test_list_that_contains_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a.txt\n")
    with pytest.raises(SettingsError, match=r"a\.txt is nested too deeply"):
        names_in(str(tmp_path / "a.txt"))


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "contains no source"),
        (b"# only\n\n", "contains no source"),
        (b"a.mp4\n\xff\n", r"not UTF-8 \(line 2\)"),
    ],
)
def test_list_that_cannot_be_used(tmp_path: Path, raw: bytes, words: str) -> None:
    (tmp_path / "a.txt").write_bytes(raw)
    with pytest.raises(SettingsError, match=words) as caught:
        names_in(str(tmp_path / "a.txt"))
    assert "a.txt" in str(caught.value)


@pytest.mark.parametrize("name", ["x" * 5000 + ".txt", "a\0.txt"])
def test_impossible_file_names_are_left_to_the_batch_run(name: str) -> None:
    assert names_in(name) == [name]


# --- the example ---------------------------------------------------------------------------------------


def test_example_loads_and_shows_the_defaults() -> None:
    made = load_jobs(EXAMPLE)
    assert made.out == EXAMPLE.parent / DEFAULT_OUT and made.time_budget_s == 6 * 3600
    assert (made.retry, made.limits, made.pace, made.on_failure) == (Retry(), Limits(), Pace(), OnFailure())
    defaults = {each.name: each.default for each in dataclasses.fields(Jobs)}
    assert all(getattr(made, name) == defaults[name] for name in ("workers", "report", "reserve_mb"))
    channel, playlist, url, folder, file = made.sources
    assert channel.settings.fps == 2.5 and not channel.settings.video and channel.settings.bin_s == 5
    assert channel.settings.playlist and channel.settings.limit == 50 and channel.max_per_run == 20
    assert channel.filters == Filters(newer_than="30d", shorter_than_s=7200, not_title="trailer|#shorts")
    assert playlist.settings.fps == 5 and playlist.tags == ("news", "long")
    assert url.settings == Settings(fps=10, video=True, max_height=480)
    assert folder.watched and file.folder == made.out / "archive"


def test_example_is_valid_with_all_comments_in_and_has_every_key(jobs: Any) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    full = re.sub(r"^#(?=[a-z\[])", "", text, flags=re.M)
    made = jobs(full)
    assert made.on_failure.command[0] == "mail" and made.on_failure.webhook
    assert made.sources[0].settings.fps == 2 and made.sources[0].settings.formats == ("parquet",)
    assert made.ledger.name == LEDGER_NAME and made.log.name == LOG_NAME
    tables = [config._TOP_KEYS, config._SOURCE_KEYS, config._DISK_KEYS]
    tables += [config._spelled(cls) for cls in config._SECTIONS.values()]
    for keys in tables:
        for name in set(keys.values()):
            spellings = [key for key, meant in keys.items() if meant == name]
            assert any(re.search(rf"^{key} =|^\[+{key}\b", full, re.M) for key in spellings), name
