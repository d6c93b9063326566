"""Checks of what this program needs from a machine, with fixes for what is missing.

The checks send no requests and leave nothing on the disk.
"""

from __future__ import annotations

import contextlib
import io
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from analyzer.errors import AnalyzerError, ModelError
from analyzer.settings import Settings
from analyzer.util.program import program
from analyzer.util.system import available_memory_mb, file_system

if TYPE_CHECKING:
    from packaging.requirements import Requirement

__all__ = ["Check", "Findings", "State", "examine", "run_check"]

State = Literal["ok", "warning", "failed"]

_PROJECT = "audience-analyzer"
_OLD_DAYS = 60
"""Sites change every few weeks, and yt-dlp follows."""
_DENO_LEAST = (2, 3, 0)
"""yt-dlp ignores older versions."""
_DENO_S = 20.0
_LOW_BYTES, _FULL_BYTES = 2e9, 2e8
_LOW_MEMORY_MB = 1536
# FFmpeg's own "av1" needs a GPU; libdav1d decodes AV1 without one.
_DECODERS = ("h264", "hevc", "vp9", "libdav1d", "aac")
_BEHIND = {
    "python": ("packaging",),
    "packages": ("packaging",),
    "PyAV": ("av", "opencv-python", "numpy"),
    "models": ("openvino", "onnxruntime", "onnx", "opencv-python", "numpy"),
}
"""Packages to reinstall if a check fails unexpectedly."""
_SIDE_PX = 256
_SAME = 1e-3
"""Tolerated difference of the engines' outputs in float32; intact installations differ by less than 1e-5."""


@dataclass(frozen=True)
class Check:
    """The result of one check."""

    name: str
    state: State
    found: str
    """What was found: versions, amounts, or the fault."""
    fix: str
    """How to fix it; empty if the state is ok."""


class Findings:
    """Collects what one check finds; the worst finding is its state."""

    def __init__(self) -> None:
        self._state: State = "ok"
        self._found: list[str] = []
        self._fixes: dict[str, None] = {}

    def ok(self, found: str) -> None:
        """Note what is as it should be."""
        self._found.append(found)

    def warn(self, found: str, fix: str) -> None:
        """Note what may cause trouble, and how to fix it."""
        self._found.append(found)
        self._fixes[fix] = None
        if self._state == "ok":
            self._state = "warning"

    def fail(self, found: str, fix: str) -> None:
        """Note what prevents work, and how to fix it."""
        self.warn(found, fix)
        self._state = "failed"

    def check(self, name: str) -> Check:
        """Return the result of a check of this name."""
        return Check(name, self._state, ", ".join(self._found), "; ".join(self._fixes))


def examine(out: Path, *, today: date | None = None) -> Iterator[Check]:
    """Run the checks one after another; an error in a check fails only that check.

    Args:
        out: Folder of the runs; need not exist and is not created.
        today: Current date (UTC), from which ages are computed; by default the system's.
    """
    day = today or datetime.now(UTC).date()
    checks: dict[str, Callable[[], Findings]] = {
        "python": _python,
        "packages": _packages,
        "PyAV": _pyav,
        "models": _models,
        "yt-dlp": partial(_yt_dlp, day),
        "disk": partial(_disk, out),
        "memory": _memory,
        "ledger": partial(_ledger, out),
        "clock": partial(_clock, day),
    }
    for name, check in checks.items():
        yield run_check(name, check)


def run_check(name: str, check: Callable[[], Findings]) -> Check:
    """Run one check; an error in it is its result."""
    try:
        return check().check(name)
    except AnalyzerError as error:
        return Check(name, "failed", str(error), _fix(name, error))
    except Exception as error:  # noqa: BLE001 - a broken package can fail in any way, and the other checks should still run
        return Check(name, "failed", f"{type(error).__name__}: {error}", _fix(name, error))


def _fix(name: str, error: Exception) -> str:
    if isinstance(error, ImportError) and ".so" in str(error):
        return "install the missing system library; on Debian and Ubuntu: apt install libgl1 libglib2.0-0"
    if name in _BEHIND:
        return f"reinstall the packages: {_again(*_BEHIND[name])}"
    return "this is unexpected: please report it together with this line"


# --- what is installed ---


def _pip(*arguments: str) -> str:
    """Return a command that installs into the environment of this program.

    >>> _pip("--upgrade", "one[two]>=3").partition(" -m ")[2]
    "pip install --upgrade 'one[two]>=3'"
    """
    return shlex.join([sys.executable or "python", "-m", "pip", "install", *arguments])


def _again(*packages: str) -> str:
    return _pip("--force-reinstall", "--no-deps", *map(_wanted, packages))


def _requirements(package: str, extra: str = "") -> list[Requirement]:
    """Return the requirements of a package, including those of an extra if one is given.

    Raises:
        PackageNotFoundError: The package is not installed.
    """
    # matplotlib and onnxruntime depend on it.
    from packaging.requirements import Requirement

    every = map(Requirement, metadata.requires(package) or ())
    return [one for one in every if one.marker is None or one.marker.evaluate({"extra": extra})]


def _wanted(package: str) -> str:
    """Return this project's requirement of a package, with extras and bounds, or else its name."""
    with contextlib.suppress(metadata.PackageNotFoundError, ImportError):
        return next((str(one) for one in _requirements(_PROJECT) if one.name == package), package)
    return package


def _fault(requirement: Requirement) -> str:
    """Say what is wrong with an installed package; empty if it is as required."""
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"{requirement.name} is not installed"
    fits = requirement.specifier.contains(version, prereleases=True)
    return "" if fits else f"{requirement.name} {version} is not {requirement.specifier}"


def _python() -> Findings:
    from packaging.specifiers import SpecifierSet

    findings = Findings()
    version, bounds = platform.python_version(), ""
    # Without metadata the bounds are unknown, which `_packages` reports.
    with contextlib.suppress(metadata.PackageNotFoundError):
        bounds = next(iter(metadata.metadata(_PROJECT).get_all("Requires-Python") or ()), "")
    if SpecifierSet(bounds).contains(version, prereleases=True):
        findings.ok(version)
    else:
        findings.fail(f"{version} is not {bounds}", f"create a new virtual environment with Python {bounds}")
    return findings


def _packages() -> Findings:
    findings = Findings()
    try:
        requirements = _requirements(_PROJECT)
    except metadata.PackageNotFoundError:
        findings.warn(
            "this project is not installed, so its requirements are unknown",
            f"run in the project folder: {_pip('--editable', '.')}",
        )
        return findings
    faults = {str(one): fault for one in requirements if (fault := _fault(one))}
    if faults:
        findings.fail(", ".join(faults.values()), _pip(*faults))
    else:
        findings.ok(f"all {len(requirements)} have the required versions")
    return findings


# --- reading and writing video ---


def _pyav() -> Findings:
    import av

    from analyzer.output.encoder import ENCODER

    findings = Findings()
    again = f"reinstall PyAV with its bundled FFmpeg: {_again('av')}"
    findings.ok(f"PyAV {av.__version__}")
    findings.ok(f"FFmpeg {av.ffmpeg_version_info}")
    missing = [f"no decoder {name}" for name in _DECODERS if not _has_codec(name, "r")]
    missing += [f"no encoder {name}" for name in (ENCODER, "aac") if not _has_codec(name, "w")]
    for one in missing:
        findings.fail(one, again)
    try:
        findings.ok(f"writes and reads H.264 ({_round_trip()})")
    except (av.FFmpegError, ValueError) as error:
        findings.fail(f"encoded H.264 cannot be decoded: {error}", again)
    return findings


def _has_codec(name: str, mode: Literal["r", "w"]) -> bool:
    from av.codec.codec import Codec, UnknownCodecError

    try:
        Codec(name, mode)
    except UnknownCodecError:
        return False
    return True


def _round_trip() -> str:
    """Encode a few gray frames like an annotated video, decode them, and return the encoder's name.

    Raises:
        FFmpegError: Encoding or decoding fails.
        ValueError: The decoded frames differ from the encoded ones.
    """
    import av
    import numpy as np

    from analyzer.output.encoder import find_encoder

    encoder, levels, file = find_encoder(_SIDE_PX, _SIDE_PX), (60, 120, 180), io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        made = output.add_stream(encoder.name, rate=25, options=encoder.options, hwaccel=encoder.device())
        stream = cast(av.VideoStream, made)
        stream.width, stream.height, stream.pix_fmt = _SIDE_PX, _SIDE_PX, encoder.pix_fmt
        for level in levels:
            planes = np.full((_SIDE_PX * 3 // 2, _SIDE_PX), level, np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))
        output.mux(stream.encode(None))
    file.seek(0)
    with av.open(file, "r") as source:
        frames = [frame.to_ndarray(format="yuv420p")[:_SIDE_PX] for frame in source.decode(video=0)]
    if len(frames) != len(levels) or np.abs([f.mean() for f in frames] - np.array(levels)).max() > 8:
        raise ValueError("the decoded frames differ from the encoded ones")
    return encoder.name


# --- models ---


def _models() -> Findings:
    from analyzer.vision import registry
    from analyzer.vision.compile_cache import compiled_folder
    from analyzer.vision.runtime import import_onnxruntime, import_openvino, openvino_core

    findings = Findings()
    openvino, onnxruntime = import_openvino(), import_onnxruntime()
    devices: list[str] = openvino_core().available_devices
    providers = [one.removesuffix("ExecutionProvider") for one in onnxruntime.get_available_providers()]
    engines = (
        ("openvino", "OpenVINO", openvino.__version__.split("-")[0], devices),
        ("onnxruntime", "ONNX Runtime", onnxruntime.__version__, providers),
    )
    usable = True
    for package, name, version, runs_on in engines:
        found = f"{name} {version} ({', '.join(runs_on) or 'no device'})"
        if "CPU" in runs_on:
            findings.ok(found)
        else:
            usable = False
            findings.fail(f"{found} does not run on the CPU", _again(package))
    models = len(registry.DEFAULTS)
    for model in registry.DEFAULTS:
        for file in model.files:
            try:
                registry.read(model, file)
            except ModelError as error:
                if model is registry.YUNET:
                    models -= 1
                    findings.warn(f"{error}; CenterFace detects faces", f"{program()} models pull yunet")
                    continue
                usable = usable and model.role != "detector"
                findings.fail(str(error), _again(file.package.replace("_", "-")))
    if usable:
        findings.ok(f"{models} models, the detector runs ({_inference(findings)})")
    folder = compiled_folder()
    findings.ok("compiled models are not cached" if folder is None else f"compiled models in {folder}")
    return findings


def _inference(findings: Findings) -> str:
    """Run the default detector, compare both engines in float32, and return the default engine.

    Raises:
        ModelError: The detector cannot be loaded, or fails.
    """
    import numpy as np

    from analyzer.vision import registry
    from analyzer.vision.detectors.centerface import CenterFace
    from analyzer.vision.runtime import load_model

    image = np.random.default_rng(0).integers(0, 256, (_SIDE_PX, _SIDE_PX, 3), np.uint8)
    detector = CenterFace(Settings())
    detector.detect([image], [(_SIDE_PX, _SIDE_PX)])
    # The image has no faces, so the test is that both engines give the same numbers for it.
    model, exact = registry.CENTERFACE, Settings(precision="f32")
    content = registry.weights(model)
    answers = [
        load_model(content, exact.replace(engine=engine), name=model.name).run([image])
        for engine in ("openvino", "onnxruntime")
    ]
    if not all(np.allclose(one, two, rtol=0, atol=_SAME) for one, two in zip(*answers, strict=True)):
        findings.fail(
            "OpenVINO and ONNX Runtime give different results for the same image",
            _again("openvino", "onnxruntime"),
        )
    return detector.engine


# --- downloading ---


def _built(version: str) -> date | None:
    """Return the release date (UTC) of a yt-dlp version.

    >>> _built("2026.8.19"), _built("2026.08.19.233000.dev0"), _built("1.2")
    (datetime.date(2026, 8, 19), datetime.date(2026, 8, 19), None)
    """
    if found := re.match(r"(\d{4})\.(\d{1,2})\.(\d{1,2})(?!\d)", version):
        with contextlib.suppress(ValueError):
            return date(*(int(part) for part in found.groups()))
    return None


def _yt_dlp(today: date) -> Findings:
    findings = Findings()
    update = _pip("--upgrade", _wanted("yt-dlp"))
    try:
        version = metadata.version("yt-dlp")
    except metadata.PackageNotFoundError:
        findings.fail("not installed", update)
        return findings
    built = _built(version)
    if built is None:
        findings.warn(f"{version}, of unknown age", f"install a release: {update}")
    else:
        days = (today - built).days
        # A date before the release is for `_clock` to report.
        age = f", {days} {'day' if days == 1 else 'days'} old" if days >= 0 else ""
        shown = f"{built:%Y.%m.%d}{age}"
        if days > _OLD_DAYS:
            findings.warn(shown, f"sites may reject a version this old: {update}")
        else:
            findings.ok(shown)
    for fault, found in (_ejs(), _deno()):
        if fault:
            findings.warn(fault, f"some YouTube videos will fail: {update}")
        else:
            findings.ok(found)
    return findings


def _ejs() -> tuple[str, str]:
    """Return what is wrong with the scripts that solve YouTube's challenges, or else their version."""
    name = "yt-dlp-ejs"
    # yt-dlp accepts only the version that it was released with.
    needed = (one for one in _requirements("yt-dlp", "default") if one.name == name)
    fault = next((_fault(one) for one in needed), "")
    try:
        return fault, f"{name} {metadata.version(name)}"
    except metadata.PackageNotFoundError:
        return fault or f"{name} is not installed", ""


def _deno() -> tuple[str, str]:
    """Return what is wrong with the JavaScript runtime that yt-dlp uses, or else its version."""
    # In yt-dlp's order: installed by pip, else on the PATH, which is short under cron.
    beside = Path(sysconfig.get_path("scripts")) / f"deno{sysconfig.get_config_var('EXE') or ''}"
    program = str(beside) if beside.is_file() and os.access(beside, os.X_OK) else shutil.which("deno")
    if program is None:
        return "deno is not installed", ""
    try:
        shown = subprocess.run(
            [program, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_DENO_S,
            check=True,
            env=os.environ | {"DENO_NO_UPDATE_CHECK": "1"},
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return f"deno does not run ({type(error).__name__})", ""
    found = re.match(r"deno (\d+)\.(\d+)\.(\d+)", shown)
    if found is None:
        return "deno does not report its version", ""
    version = found[0]
    if tuple(int(part) for part in found.groups()) < _DENO_LEAST:
        return f"{version} is older than {'.'.join(map(str, _DENO_LEAST))}", ""
    return "", version


def _clock(today: date) -> Findings:
    findings = Findings()
    built = None
    with contextlib.suppress(metadata.PackageNotFoundError):
        built = _built(metadata.version("yt-dlp"))
    if built is not None and today < built:
        findings.fail(
            f"{today}, but yt-dlp was released on {built}",
            "set the clock (timedatectl set-ntp true); with a wrong date, certificates of sites are rejected",
        )
    else:
        findings.ok(f"{today} UTC")
    return findings


# --- the machine ---


def _disk(out: Path) -> Findings:
    # The ledger module knows where a ledger may be stored.
    from analyzer.batch.ledger import NETWORK_FILE_SYSTEMS

    findings = Findings()
    elsewhere = "or choose another folder with --out"
    place = out.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        findings.fail(f"{place} is not a folder", elsewhere.removeprefix("or "))
        return findings
    free, kind = shutil.disk_usage(place).free, file_system(place)
    amount = f"{free / 1e9:.1f} GB" if free >= _FULL_BYTES else f"{free / 1e6:.0f} MB"
    found = f"{amount} free in {out}{f' ({kind})' if kind else ''}"
    if free < _FULL_BYTES:
        findings.fail(found, f"free some space, {elsewhere}")
    elif free < _LOW_BYTES:
        findings.warn(found, f"free some space, {elsewhere}; videos are downloaded there, one at a time")
    else:
        findings.ok(found)
    if fault := _refused(place):
        findings.fail(fault, f"fix the permissions of the folder or its disk, {elsewhere}")
    if kind is not None and kind.startswith(NETWORK_FILE_SYSTEMS):
        findings.fail(
            "a network file system, on which a ledger can be corrupted",
            "keep the ledger on a local disk with --ledger; the runs may stay there",
        )
    return findings


def _refused(folder: Path) -> str:
    """Say what safe writing needs and a folder does not allow; empty if it allows all. Leaves no files."""
    import fcntl

    doing = "it cannot be written"
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=folder) as trial:
            one, two = Path(trial, "one"), Path(trial, "two")
            two.write_bytes(b"old")
            with one.open("wb") as file:
                file.write(b"new")
                file.flush()
                doing = "it cannot be flushed to the disk (fsync)"
                os.fsync(file.fileno())
            doing = "files cannot be replaced by renaming"
            one.replace(two)
            if two.read_bytes() != b"new":
                return doing
            doing = "files cannot be locked (flock)"
            with two.open("ab") as first, two.open("ab") as second:
                fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
                try:
                    fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return ""
                return "file locks (flock) have no effect"
    except OSError as error:
        return f"{doing}: {error.strerror or error}"


def _memory() -> Findings:
    findings = Findings()
    free, cores = available_memory_mb(), Settings().thread_count
    shown = "unknown memory" if free is None else f"{free / 1024:.1f} GB available"
    found = f"{shown}, {cores} {'core' if cores == 1 else 'cores'}"
    if free is not None and free < _LOW_MEMORY_MB:
        findings.warn(found, "close other programs, or analyze in one process (--workers 1)")
    else:
        findings.ok(found)
    return findings


def _ledger(out: Path) -> Findings:
    from analyzer.batch.ledger import LEDGER_NAME, health

    findings = Findings()
    found, fix = health(out / LEDGER_NAME)
    if fix:
        findings.fail(found, fix)
    else:
        findings.ok(found)
    return findings
