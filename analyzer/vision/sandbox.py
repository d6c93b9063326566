"""Try out an untrusted model in a separate process before this one loads it; and add it to the user's models.

Engines are native code: a damaged or malicious model can end the process or exhaust the memory. The trial
process has limits of memory and time, and its failure becomes one sentence.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from analyzer.errors import ModelError
from analyzer.settings import Settings
from analyzer.vision import registry
from analyzer.vision.compile_cache import CACHE_VARIABLE, OFF
from analyzer.vision.user_model import Description, described, read_onnx

__all__ = [
    "add",
    "is_free_name",
    "try_out",
]

_MAX_BYTES = 6 << 30
_TIMEOUT_S = 120.0
_REFUSED = 3
"""Exit status of the trial process when it has printed why."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def try_out(description: Description, settings: Settings) -> None:
    """Load a described model in another process and run it on plain gray images.

    Args:
        description: Of a user's own model.
        settings: Give engine, device and precision.

    Raises:
        ModelError: It cannot be loaded, does not fit its description, or breaks the engine.
    """
    path = description.path
    assert path is not None
    # The same packages, wherever this process found them.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(one for one in sys.path if one)}
    environment[CACHE_VARIABLE] = OFF  # the engine must compile it there, and leave nothing behind
    asked = [settings.engine, settings.device, settings.precision]
    try:
        done = subprocess.run(
            [sys.executable, "-c", "from analyzer.vision.sandbox import main; main()", str(path), *asked],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ModelError(
            f"{path} took more than {_TIMEOUT_S:.0f} s for two images: it is too slow or damaged"
        ) from error
    if done.returncode == _REFUSED:
        raise ModelError(done.stdout.decode("utf-8", "replace").strip())
    if done.returncode != 0:
        with contextlib.suppress(ValueError):
            name = signal.Signals(-done.returncode).name
            raise ModelError(f"{path} crashes the engine ({name}): it is damaged, or was made to do so")
        raise ModelError(f"{path} needs more than {_MAX_BYTES >> 30} GiB of memory, or is damaged")


def main() -> None:
    """Run in the other process: load the model, exit with `_REFUSED` and a sentence if that fails."""
    path, engine, device, precision = sys.argv[1:]
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        # Not measured with CUDA, which reserves memory of its own.
        most = _MAX_BYTES if device == "cpu" else resource.RLIM_INFINITY
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from analyzer.vision.attributes.user import UserModel

    status = 0
    try:
        UserModel(
            described(Path(path)), Settings(engine=engine, device=device, precision=precision, threads=1)
        )
    except ModelError as error:
        sys.stdout.buffer.write(" ".join(str(error).split()).encode())
        sys.stdout.buffer.flush()
        status = _REFUSED
    # The trial is over. OpenVINO may abort when an interpreter shuts down while its core is alive.
    os._exit(status)


def is_free_name(name: str) -> bool:
    """Whether a user's own model can have this name."""
    files = {file.name for model in registry.MODELS.values() for file in model.files}
    taken = name in (*registry.MODELS, *registry.SETS) or not files.isdisjoint(
        {f"{name}.onnx", f"{name}.toml"}
    )
    return bool(_NAME.fullmatch(name)) and not taken


def add(path: Path, folder: Path | None = None) -> Description:
    """Copy a user's own model and its description to a folder where models are found by name.

    The model is tried out first. The copied description holds the model's hash: from then on an altered file
    is refused.

    Args:
        path: The ONNX file, its description beside it.
        folder: Where to; `registry.cache_folder` if not given.

    Raises:
        ModelError: The model or its description is wrong, or the registry has a model of that name.
        OutputError: It cannot be written.
    """
    if not path.exists():
        raise ModelError(f"there is no file {path}: check the path")
    if path.is_dir():
        raise ModelError(f"{path} is a folder: name the .onnx file in it")
    if path.suffix != ".onnx" or not path.is_file():
        raise ModelError(f"{path} is not an .onnx file: only those can be added")
    if not is_free_name(path.stem):
        raise ModelError(
            f"{path.stem!r} cannot be the name of your model: rename the file to letters, digits, - and "
            "_, and to a name that models list does not show"
        )
    description = described(path)
    content = read_onnx(description).content
    try_out(description, Settings())
    goal = (folder or registry.cache_folder()) / path.name
    text = description.text
    if not description.model.sha256:
        text = f'sha256 = "{registry.sha256(content)}"\n{text}'
    registry.put(goal, content)
    registry.put(goal.with_suffix(".toml"), text.encode())
    return described(goal)
