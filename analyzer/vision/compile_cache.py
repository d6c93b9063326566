"""Compiled models on disk, so that a process starts without converting and compiling them again.

Converting, quantizing and compiling the default models takes longer than everything else that a process does
before its first frame. What the engine has compiled is therefore written to the user's cache and read back
by the next process. An entry is found by a key over everything that went into it (`key_of`). The files of
the models themselves are still read and compared with their hashes on every start.

The cache is never required. An entry that is missing, damaged or not trusted is computed anew, and a cache
that cannot be written is left alone. The environment variable ``ANALYZER_CACHE`` names another folder, or
``off``.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import platform
import stat
import tempfile
import time
from pathlib import Path

import platformdirs

__all__ = ["CACHE_VARIABLE", "MAX_BYTES", "OFF", "compiled_folder", "key_of", "load", "prune", "store"]

CACHE_VARIABLE = "ANALYZER_CACHE"
"""Environment variable that names the folder of compiled models, or `OFF`."""

OFF = "off"

MAX_BYTES = 512 << 20
"""Size to which `store` trims the folder; the entries unused for longest go first. The default models take
about 35 MiB for each number of threads."""

_SUFFIX = ".compiled"
_PART = ".part"
_PART_S = 3600.0
"""An unfinished entry that is older was left by a killed process."""
_HEADER_BYTES = 4096
"""No header is longer."""


def compiled_folder() -> Path | None:
    """The folder of compiled models; None where the cache is off."""
    named = os.environ.get(CACHE_VARIABLE, "")
    if named == OFF:
        return None
    if named:
        return Path(named)
    return platformdirs.user_cache_path("audience-analyzer", appauthor=False) / "compiled"


def key_of(*parts: object) -> str:
    """Identify an entry: 40 hex digits over the `repr` of each part, the processor, and this package's code.

    Args:
        parts: What the compiled model depends on; each with a `repr` that says everything about it.
    """
    known = [*map(repr, parts), _processor(), _code()]
    return hashlib.sha256("\n".join(known).encode()).hexdigest()[:40]


def load(key: str) -> tuple[str, bytes] | None:
    """What `store` has written under `key`: the engine's description and the compiled model.

    None where there is no entry, or where it is damaged, or where somebody else could have written it.
    """
    folder = compiled_folder()
    if folder is None or not _trusted(folder):
        return None
    path = folder / f"{key}{_SUFFIX}"
    try:
        if not _trusted(path):
            return None
        with path.open("rb") as file:
            header = json.loads(file.readline(_HEADER_BYTES))
            blob = file.read()
        if header["key"] != key or header["sha256"] != hashlib.sha256(blob).hexdigest():
            return None
        engine = str(header["engine"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # it was used now: `prune` removes others first
    return engine, blob


def store(key: str, engine: str, blob: bytes) -> None:
    """Write an entry, whole or not at all; a folder that cannot be written is no error.

    Args:
        key: From `key_of`.
        engine: What runs the model, as `analyzer.vision.runtime.CompiledModel.engine`.
        blob: The compiled model.
    """
    folder = compiled_folder()
    if folder is None:
        return
    header = json.dumps({"key": key, "engine": engine, "sha256": hashlib.sha256(blob).hexdigest()})
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _trusted(folder):
            return
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=".", suffix=_PART)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(header.encode() + b"\n" + blob)
            Path(name).replace(folder / f"{key}{_SUFFIX}")
        finally:
            Path(name).unlink(missing_ok=True)
        prune()


def prune(max_bytes: int = MAX_BYTES) -> int:
    """Remove the entries unused for longest until the folder holds at most `max_bytes`.

    Unfinished entries that killed processes left are removed too.

    Returns:
        The number of bytes of entries removed.
    """
    folder = compiled_folder()
    removed = 0
    if folder is None:
        return removed
    with contextlib.suppress(OSError):
        for path in folder.glob(f".*{_PART}"):
            if path.stat().st_mtime < time.time() - _PART_S:
                path.unlink(missing_ok=True)
        entries = [(path, path.stat()) for path in folder.glob(f"*{_SUFFIX}")]
        size = sum(about.st_size for _, about in entries)
        for path, about in sorted(entries, key=lambda entry: entry[1].st_mtime):
            if size <= max_bytes:
                break
            path.unlink(missing_ok=True)
            size -= about.st_size
            removed += about.st_size
    return removed


def _trusted(path: Path) -> bool:
    """Whether only this user can have written it: a compiled model is code for the engine."""
    try:
        about = path.stat()
    except OSError:
        return False
    return not hasattr(os, "geteuid") or (about.st_uid == os.geteuid() and not about.st_mode & stat.S_IWOTH)


@functools.cache
def _processor() -> str:
    """What the engine's choice of instructions depends on."""
    flags = ""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text("ascii", "replace").splitlines()
        flags = next(line for line in lines if line.lower().startswith(("flags", "features")))
    limits = [
        f"{name}={value}" for name, value in sorted(os.environ.items()) if name.endswith("_MAX_CPU_ISA")
    ]
    return "\n".join([platform.platform(), platform.machine(), platform.processor(), flags, *limits])


@functools.cache
def _code() -> str:
    """Hash of the modules that shape a model before it is compiled."""
    digest = hashlib.sha256()
    for name in ("dlib_resnet.py", "preprocessing.py", "quantize.py", "runtime.py"):
        with contextlib.suppress(OSError):
            digest.update(Path(__file__).with_name(name).read_bytes())
    return digest.hexdigest()
