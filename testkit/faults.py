"""What a batch survives: kills, signals, a full disk, a locked ledger, crashes between two commits.

Injects real faults into ``python cli.py batch`` over made videos, and compares the final output with that of
an uninterrupted batch. `benchmarks.reliability` writes ``docs/reliability.md`` from these experiments, and
tests run some of them.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import itertools
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

import av
import cv2
import numpy as np
import pandas as pd
import psutil

from testkit.demo import portraits

ROOT = Path(__file__).parents[1]


WIDTH, HEIGHT, FPS = 426, 240, 10


SETTINGS = "segment = 2\nfps = 10\nformat = ['csv', 'parquet']\n"

MAY_DIFFER = ("analyzed_at", "resumed_segments", "timings_s", "stages_s")
"""The keys of ``run.json`` that may differ after an interruption."""


LEDGER, LOG = "ledger.sqlite", "batch.jsonl"


COMPANIONS = (f"{LEDGER}-wal", f"{LEDGER}-shm")
"""SQLite's own files beside the ledger; it removes them when it closes the file in order."""


DONE, TEMPORARY, INTERRUPTED, TERMINATED = 0, 75, 130, 143


GONE_S = 2.0
"""How long processes may survive their batch, in seconds. Those that have just been started by one of several
processes have `STARTING_S`: they check for their parent once they have loaded their libraries."""


STARTING_S = 10.0

PATIENCE_S = 600.0

SECOND_S = 10.0
"""How long a second batch may take to end, in seconds: more than it needs, as the machine may be busy."""


KIB, MIB = 2**10, 2**20


def make_video(path: Path, seconds: float, number: int = 0, *, sound: bool = False, fps: float = FPS) -> Path:
    """Make a video of two people who sway, and change places at a shot boundary; their faces are large enough
    to estimate gender and age."""
    faces = [cv2.resize(each, (150, 160), interpolation=cv2.INTER_AREA) for each in portraits()]
    ground = np.repeat(np.linspace(60, 140, WIDTH, dtype=np.uint8)[None, :, None], HEIGHT, axis=0)
    ground = np.repeat(ground, 3, axis=2)
    with av.open(str(path), "w") as container:
        container.metadata["comment"] = f"{number}"  # no two files are the same
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(100))
        stream.options = {"preset": "ultrafast", "g": "10"}
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        tone = container.add_stream("aac", rate=48_000) if sound else None
        for index in range(round(seconds * fps)):
            time_s, image = index / fps, ground.copy()
            order = faces if time_s < 0.6 * seconds else faces[::-1]
            for place, face in zip((30, 240), order, strict=True):
                x = round(place + 20 * np.sin(1.1 * time_s + number + place))
                y = round(40 + 15 * np.cos(0.9 * time_s + number))
                image[y : y + 160, x : x + 150] = face
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode())
        if tone is not None:
            _write_tone(container, tone, seconds)
    return path


def _write_tone(container: Any, stream: Any, seconds: float) -> None:
    step = 1024
    for start in range(0, int(seconds * 48_000), step):
        wave = 0.2 * np.sin(2 * np.pi * 440 * np.arange(start, start + step) / 48_000).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, start, Fraction(1, 48_000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


@dataclass(frozen=True)
class Ended:
    """How a batch has ended."""

    code: int
    """Exit code; negative: the signal that killed it."""
    error: str
    """What it wrote to standard error."""
    seconds: float


class Batch:
    """A running ``cli.py batch`` in a process group of its own."""

    def __init__(self, command: Sequence[str], out: Path, gone_s: float) -> None:
        self.out = out
        self._gone_s = gone_s
        self.temporary = out.with_name(f"{out.name}-tmp")
        self.temporary.mkdir(exist_ok=True)
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._family: set[psutil.Process] = set()
        self._began = time.monotonic()
        self.process = psutil.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env=os.environ | {"TMPDIR": str(self.temporary)},
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            start_new_session=True,
        )

    def __enter__(self) -> Batch:
        return self

    def __exit__(self, *_: object) -> None:
        for one in (self.process, *self.family()):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        self.process.wait()
        self._errors.close()

    @property
    def seconds(self) -> float:
        """Since it was started."""
        return time.monotonic() - self._began

    def family(self) -> set[psutil.Process]:
        """All descendants that were ever seen."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self._family |= set(self.process.children(recursive=True))
        return self._family

    def analyzers(self) -> list[psutil.Process]:
        """The running processes that analyze."""
        found = []
        for one in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                if any("spawn_main" in word for word in one.cmdline()):
                    found.append(one)
        return found

    def lives_for(self, seconds: float) -> bool:
        """Wait until it has run this long; False if it ends before."""
        while self.seconds < seconds:
            self.family()
            try:
                self.process.wait(timeout=max(0.0, min(0.05, seconds - self.seconds)))
            except psutil.TimeoutExpired:
                continue
            return False
        return self.process.poll() is None

    def lives_until(self, true: Callable[[], bool]) -> bool:
        """Wait until a condition holds; False if it ends before."""
        while self.process.poll() is None:
            if true():
                return True
            self.family()
            time.sleep(0.01)
            if self.seconds > PATIENCE_S:
                raise TimeoutError(f"the batch did not get that far within {PATIENCE_S:g} s")
        return False

    def end(self) -> Ended:
        """Wait until it ends."""
        code = self.process.wait(timeout=PATIENCE_S)
        taken = self.seconds
        self._errors.seek(0)
        return Ended(code, self._errors.read(), taken)

    def signal(self, number: int, *, group: bool = False) -> None:
        """Send a signal to it, or to its whole group, as a terminal does."""
        self.family()
        with contextlib.suppress(ProcessLookupError):
            if group:
                os.killpg(self.process.pid, number)
            else:
                os.kill(self.process.pid, number)

    def left_alive(self) -> int:
        """How many of its processes are still running some time after it ended."""
        deadline, alive = time.monotonic() + self._gone_s, self.family()
        while (alive := {one for one in alive if _lives(one)}) and time.monotonic() < deadline:
            time.sleep(0.02)
        return len(alive)


def _lives(process: psutil.Process) -> bool:
    try:  # zombies do not count
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def events(out: Path, *names: str) -> list[dict[str, Any]]:
    """The events of the log with these names, or all; lines that are not JSON are skipped."""
    found = []
    path = out / LOG
    for line in path.read_bytes().splitlines() if path.exists() else ():
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if not names or event["event"] in names:
                found.append(event)
    return found


class Bench:
    """Videos, how they are analyzed, and the output of an uninterrupted batch.

    Args:
        folder: For all files; empty.
        sources: Paths and addresses.
        settings: Lines of the table ``[settings]``.
        top: Lines of the jobs file before the first table.
        tables: Further tables of the jobs file.
        gone_s: How long processes may survive the batch, in seconds.
    """

    def __init__(
        self,
        folder: Path,
        sources: Sequence[Path | str],
        *,
        settings: str = SETTINGS,
        top: str = "report = ['html']\n",
        tables: str = "",
        gone_s: float = GONE_S,
    ) -> None:
        self.folder = folder
        self._gone_s = gone_s
        self.count = len(sources)
        folder.mkdir(parents=True, exist_ok=True)
        self.jobs = folder / "jobs.toml"
        kinds = [("file" if isinstance(source, Path) else "url", str(source)) for source in sources]
        listed = "".join(f"[[source]]\n{kind} = {json.dumps(name)}\n" for kind, name in kinds)
        self.jobs.write_text(f"{top}[settings]\n{settings}{_RESERVE}{tables}{listed}", "utf-8")
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    @functools.cached_property
    def whole(self) -> tuple[Path, float]:
        """The output folder of an uninterrupted batch, and how many seconds it took."""
        out = self.folder / "reference"
        ended = self.run(out)
        if ended.code != DONE:
            raise RuntimeError(f"the uninterrupted batch ended with {ended.code}: {ended.error}")
        return out, ended.seconds

    @property
    def reference(self) -> Path:
        return self.whole[0]

    @property
    def seconds(self) -> float:
        return self.whole[1]

    def fresh(self) -> Path:
        """The path of a new output folder."""
        with self._lock:
            return self.folder / f"out-{next(self._numbers)}"

    def start(self, out: Path, *, crash_at: str = "", jobs: Path | None = None) -> Batch:
        """Start the batch; it kills itself at the point named, one of `POINTS`."""
        arguments = ["batch", str(jobs or self.jobs), "--out", str(out)]
        command = ["-c", _DRIVER, crash_at, *arguments] if crash_at else ["cli.py", *arguments]
        return Batch(command, out, self._gone_s)

    def run(self, out: Path, **how: Any) -> Ended:
        """Run the batch until it ends."""
        with self.start(out, **how) as batch:
            return batch.end()


_RESERVE = "[disk]\nreserve_mb = 0\n[pace]\npause = 0\n"

WORDS = {
    "differing tables": "tables that differ from those of an uninterrupted batch",
    "differing run.json": "differences in keys that must be the same",
    "differing videos": "annotated videos with different frames",
    "missing files": "files that an uninterrupted batch writes",
    "orphan files": "files and folders that it does not write",
    "duplicated rows": "",
    "missing rows": "",
    "ledger faults": "states, segments, attempts, integrity check",
    "damaged log lines": "",
    "left alive": f"processes that outlive their batch by {GONE_S:g} s, if just started {STARTING_S:g} s",
    "analyzed again": "segments and runs that were finished before",
}
"""What is counted and must be 0."""


@dataclass
class Result:
    """The result of an experiment."""

    fault: str
    done: str
    must: str
    numbers: dict[str, Any] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)
    words: list[str] = field(default_factory=list)
    """Each fault in a sentence."""

    def fault_if(self, wrong: bool, kind: str, words: str, count: int = 1) -> None:
        """Count a fault."""
        if wrong:
            self.faults[kind] += count
            self.words.append(words)

    @property
    def well(self) -> bool:
        """Whether everything was as required."""
        return not self.words

    def compare(self, out: Path, reference: Path) -> None:
        """Compare a finished output folder with that of an uninterrupted batch."""
        names, wanted = _names(out), _names(reference)
        for name in sorted(names - wanted):
            self.fault_if(True, "orphan files", f"{out.name}: {name} is left over")
        for name in sorted(wanted - names):
            self.fault_if(True, "missing files", f"{out.name}: {name} is missing")
        for name in sorted(names & wanted):
            path, other = out / name, reference / name
            match path.suffix:
                case ".parquet" | ".csv":
                    self._compare_tables(path, other)
                case ".mp4" if path.read_bytes() != other.read_bytes():
                    wrong = _frames(path) != _frames(other)
                    self.fault_if(wrong, "differing videos", f"{out.name}: {name} has different frames")
            if path.name == "run.json":
                keys = _differing_keys(json.loads(path.read_bytes()), json.loads(other.read_bytes()))
                self.fault_if(bool(keys), "differing run.json", f"{out.name}: {name} differs in {keys}")
        self._compare_ledgers(out, reference)
        lines = (out / LOG).read_bytes().splitlines()
        damaged = len(lines) - len(events(out))
        self.fault_if(damaged > 0, "damaged log lines", f"{out.name}: {damaged} damaged log lines", damaged)

    def _compare_tables(self, path: Path, other: Path) -> None:
        if path.read_bytes() == other.read_bytes():
            return
        read = pd.read_parquet if path.suffix == ".parquet" else pd.read_csv
        mine, theirs = read(path), read(other)
        if mine.equals(theirs):
            return
        name = f"{path.parent.parent.name}: {path.parent.name}/{path.name}"
        self.fault_if(True, "differing tables", f"{name} differs")
        again = _repeated(mine) - _repeated(theirs)
        self.fault_if(again > 0, "duplicated rows", f"{name} has {again} rows twice", again)
        fewer = len(theirs) - len(mine)
        self.fault_if(fewer > 0, "missing rows", f"{name} lacks {fewer} rows", fewer)

    def _compare_ledgers(self, out: Path, reference: Path) -> None:
        mine, theirs = (_ledger(folder) for folder in (out, reference))
        for name, value in mine.items():
            wrong = value != theirs[name]
            words = f"{out.name}: in the ledger {name} is {value}, not {theirs[name]}"
            self.fault_if(wrong, "ledger faults", words)

    def run_again(self, bench: Bench, out: Path) -> None:
        """Another batch run finds nothing to do and changes no run."""
        before, old = _stamps(out), len(events(out))
        ended = bench.run(out)
        self.fault_if(ended.code != DONE, "analyzed again", f"{out.name}: another run ended {ended.code}")
        busy = [one["event"] for one in events(out)[old:] if one["event"] in _WORKING]
        self.fault_if(bool(busy), "analyzed again", f"{out.name}: another run logged {busy}")
        self.fault_if(_stamps(out) != before, "analyzed again", f"{out.name}: another run changed files")
        self.compare(out, bench.reference)

    def check_processes(self, batch: Batch) -> None:
        """No process survives its batch."""
        alive = batch.left_alive()
        self.fault_if(
            alive > 0, "left alive", f"{batch.out.name}: {alive} processes are still running", alive
        )

    def finish(self, bench: Bench, out: Path) -> None:
        """Run the batch until it ends, and compare."""
        ended = bench.run(out)
        wrong = ended.code != DONE
        self.fault_if(wrong, "ledger faults", f"{out.name}: the restart ended {ended.code}: {ended.error}")
        self.compare(out, bench.reference)

    def analyzed_twice(self, out: Path) -> None:
        """Each segment is committed once."""
        seen: dict[int, set[int]] = {}
        for one in events(out, "segment_committed"):
            video, number = one["video"], one["segment"]
            known = seen.setdefault(video, set())
            words = f"{out.name}: segment {number} of {video} was analyzed again"
            self.fault_if(number in known, "analyzed again", words)
            known.add(number)


_WORKING = (
    "started",
    "downloaded",
    "analyzing",
    "segment_committed",
    "done",
    "adopted",
    "failed",
    "abandoned",
    "resumed",
)


def _repeated(table: pd.DataFrame) -> int:
    return int(table.astype(str).duplicated().sum())  # lists as text


def _names(out: Path) -> set[str]:
    """All files and folders, including hidden ones."""
    return {str(path.relative_to(out)) for path in out.rglob("*")} - set(COMPANIONS)


def _stamps(out: Path) -> dict[str, int]:
    """When the files of the runs were changed."""
    return {
        str(path): path.stat().st_mtime_ns for run in out.glob("*/run.json") for path in run.parent.iterdir()
    }


def _frames(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="gray").tobytes() for frame in container.decode(video=0)]


def _differing_keys(mine: dict[str, Any], theirs: dict[str, Any], above: str = "") -> list[str]:
    keys: list[str] = []
    for name in sorted(mine.keys() | theirs.keys()):
        key, one, other = f"{above}{name}", mine.get(name), theirs.get(name)
        if key in MAY_DIFFER or one == other:
            continue
        both = isinstance(one, dict) and isinstance(other, dict)
        keys += _differing_keys(one, other, f"{key}.") if both else [key]
    return keys


def _ledger(out: Path) -> dict[str, Any]:
    """The content of the ledger that does not depend on how often the batch was interrupted."""
    questions = {
        "the integrity check": "PRAGMA integrity_check",
        "the states": "SELECT state, count(*) FROM videos GROUP BY state",
        "the runs": "SELECT identity, run, complete, counts FROM videos ORDER BY identity",
        "the parts": "SELECT v.identity, s.segment FROM segments AS s JOIN videos AS v ON v.id = s.video"
        " ORDER BY v.identity, s.segment",
        "the failures": "SELECT DISTINCT consecutive_failures, interrupted, error, video FROM videos",
        "the number of unended attempts": "SELECT count(*) FROM attempts WHERE ended_at IS NULL",
        "the attempts that were done": "SELECT v.identity, count(*) FROM attempts AS a JOIN videos AS v"
        " ON v.id = a.video WHERE a.outcome = 'done' GROUP BY v.identity ORDER BY v.identity",
    }
    with contextlib.closing(sqlite3.connect(out / LEDGER)) as db:
        return {name: db.execute(question).fetchall() for name, question in questions.items()}


def phase(out: Path) -> str:
    """What a batch was doing when it ended, as far as the files tell."""
    if not (out / LOG).exists():
        return "starting"
    hidden = {path.name for path in out.glob("*/.new/*")} | {path.name for path in out.glob("*/.new/.*")}
    if any("annotated" in name for name in hidden):
        return "drawing"
    if hidden:
        return "tables"
    done = {one["run"] for one in events(out, "done", "adopted")}
    if any(path.parent.name not in done for path in out.glob("*/run.json")):
        return "report"
    known = events(out)
    if known and known[-1]["event"] in ("started", "downloaded", "analyzing"):
        return "loading or linking" if any(out.glob("*/.parts")) else "loading"
    return "analysis" if any(out.glob("*/.parts")) else "between videos"


def _spread(count: int, seconds: float, seed: int) -> list[float]:
    """Random moments, one in each of `count` equal intervals."""
    random_numbers = random.Random(seed)
    return [(number + random_numbers.random()) / count * seconds for number in range(count)]


def kills(bench: Bench, count: int, seed: int = 1, how: str = "") -> Result:
    """Kill a batch at moments spread over its length; restart it until it ends by itself."""
    result = Result(
        "SIGKILL",
        f"the batch was killed at {count} random moments and restarted each time{how}",
        "tables as without a kill, no leftover files or processes, another run does nothing",
    )
    moments = _spread(count, bench.seconds, seed)
    phases: Counter[str] = Counter()
    rounds = restarts = temporary = 0
    while moments:
        out, moment, before = bench.fresh(), moments.pop(), phases.total()
        rounds += 1
        while True:
            with bench.start(out) as batch:
                if batch.lives_for(moment):
                    batch.signal(signal.SIGKILL)
                    batch.end()
                    result.check_processes(batch)
                    phases[phase(out)] += 1
                    moment = moments.pop(0) if moments else 1e9
                    restarts += 1
                    continue
                ended = batch.end()
            break
        # A moment after the end is used in another round, or earlier if it was too late for a whole batch.
        whole = phases.total() == before
        moments += [0.9 * ended.seconds if whole else moment] if moment < 1e9 else []
        words = f"{out.name}: it ended {ended.code}: {ended.error}"
        result.fault_if(ended.code != DONE, "ledger faults", words)
        result.compare(out, bench.reference)
        result.analyzed_twice(out)
        temporary += len(list(out.with_name(f"{out.name}-tmp").iterdir()))
    result.run_again(bench, out)
    result.numbers = {"kills": phases.total(), "restarts": restarts, "batches": rounds, **_listed(phases)}
    result.numbers["temporary folders left"] = temporary
    return result


def _listed(phases: Counter[str]) -> dict[str, Any]:
    return {"while": ", ".join(f"{name} {count}" for name, count in phases.most_common())}


def signals(bench: Bench, number: signal.Signals, count: int, seed: int = 2) -> Result:
    """Send a signal at moments spread over a batch, and restart it until it ends by itself."""
    expected = INTERRUPTED if number is signal.SIGINT else TERMINATED
    result = Result(
        number.name,
        f"sent at {count} random moments after the start"
        + (" to the whole process group, as Ctrl-C is" if number is signal.SIGINT else ""),
        f"exit code {expected} within seconds, no committed segment is analyzed again, tables as without it",
    )
    moments = _spread(count, 0.8 * bench.seconds, seed)
    moments.sort(key=lambda moment: random.Random(f"{seed} {moment}").random())
    out, longest, sent = bench.fresh(), 0.0, 0
    while moments:
        with bench.start(out) as batch:
            began = batch.lives_until(lambda out=out: bool(_current_run(out)))
            if not (began and batch.lives_for(batch.seconds + moments[0])):
                batch.end()
                result.compare(out, bench.reference)
                result.analyzed_twice(out)
                out = bench.fresh()
                moments[0] *= 0.7
                continue
            moments.pop(0)
            batch.signal(number, group=number is signal.SIGINT)
            asked = batch.seconds
            ended = batch.end()
            sent += 1
            result.check_processes(batch)
            longest = max(longest, ended.seconds - asked)
            # The last video may have been finished in the same moment.
            too_late = ended.code in (DONE, -number) and _is_done(out, bench)
            fine = ended.code == expected or too_late
            result.fault_if(not fine, "ledger faults", f"it ended {ended.code}: {ended.error}")
            lines = ended.error.strip().splitlines()
            result.fault_if(bool(lines), "ledger faults", f"it printed {lines}")
    result.finish(bench, out)
    result.analyzed_twice(out)
    result.numbers = {"signals": sent, "longest until the end": f"{longest:.1f} s"}
    return result


def _current_run(out: Path) -> list[dict[str, Any]]:
    known = events(out)
    starts = [index for index, one in enumerate(known) if one["event"] == "batch_started"]
    ends = [index for index, one in enumerate(known) if one["event"] == "batch_ended"]
    if not starts or (ends and ends[-1] > starts[-1]):
        return []
    return known[starts[-1] :]


def _is_done(out: Path, bench: Bench) -> bool:
    return dict(_ledger(out)["the states"]) == {"done": bench.count}


def second_signal(bench: Bench, count: int = 1, seed: int = 3) -> Result:
    """Send SIGTERM twice."""
    result = Result(
        "SIGTERM twice",
        f"{count} pairs, 0.1 s apart",
        f"exit code {TERMINATED} at once, consistent as after a kill",
    )
    longest = 0.0
    for moment in _spread(count, 0.6 * bench.seconds, seed):
        out = bench.fresh()
        with bench.start(out) as batch:
            assert batch.lives_until(lambda out=out: bool(_current_run(out)))
            assert batch.lives_for(batch.seconds + moment)
            batch.signal(signal.SIGTERM)
            time.sleep(0.1)
            batch.signal(signal.SIGTERM)
            asked = batch.seconds
            ended = batch.end()
            result.check_processes(batch)
        longest = max(longest, ended.seconds - asked)
        result.fault_if(ended.code != TERMINATED, "ledger faults", f"it ended {ended.code}: {ended.error}")
        result.finish(bench, out)
    result.numbers = {"pairs": count, "longest until the end": f"{longest:.2f} s"}
    return result


@contextlib.contextmanager
def small_disk(folder: Path, size_mib: int) -> Iterator[Path]:
    """A tmpfs of this size.

    Raises:
        PermissionError: It cannot be mounted here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        raise PermissionError("a tmpfs can be mounted by root only") from error
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, capture_output=True)


def leave_free(disk: Path, free: int) -> Path:
    """Fill a disk with a file, which is returned, until only `free` bytes are left."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - free)
    return ballast


class _Handler(BaseHTTPRequestHandler):
    """Serves files without their lengths, so that it cannot be known whether they fit."""

    folder: Path

    def do_HEAD(self) -> None:
        self._head()

    def do_GET(self) -> None:
        if (path := self._head()) is not None:
            with contextlib.suppress(OSError), path.open("rb") as file:
                shutil.copyfileobj(file, self.wfile)

    def _head(self) -> Path | None:
        path = self.folder / self.path.rpartition("/")[2]
        if not path.is_file():
            self.send_error(404)
            return None
        self.send_response(200)
        self.send_header("Content-Type", "video/mp4")
        self.end_headers()
        return path

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve a folder on this machine; yields its address."""
    handler = type("Handler", (_Handler,), {"folder": folder})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def full_disk(bench: Bench, sizes: Iterable[int], repeats: int = 0) -> Result:
    """Run a batch on a disk with little space, then with enough.

    Args:
        bench: What is analyzed.
        sizes: Bytes that are free at the start, one batch each.
        repeats: How often the batch is run again on the full disk, which must count against no video.
    """
    sizes = tuple(sizes)
    result = Result(
        "disk full",
        f"batches on a small tmpfs with {' to '.join(_size(each) for each in _ends(sizes))} of free space"
        + (f", each run {repeats + 1} times" if repeats else ""),
        f"exit code {TEMPORARY} and one sentence, no attempt counts, finished runs are complete; with enough "
        "space the same command succeeds, tables as usual",
    )
    phases: Counter[str] = Counter()
    runs = 0
    for size in sizes:
        with small_disk(bench.folder / f"disk-{size}", 200) as disk:
            ballast, out = leave_free(disk, size), disk / "out"
            for _ in range(repeats + 1):
                ended, runs = bench.run(out), runs + 1
                where = f"{_size(size)} free"
                wrong = ended.code != TEMPORARY
                result.fault_if(wrong, "ledger faults", f"{where}: it ended {ended.code}: {ended.error}")
                lines = ended.error.strip().splitlines()
                result.fault_if(len(lines) != 1, "ledger faults", f"{where}: it said {lines}")
                _check_finished_runs(result, out, bench, where)
            phases[_full_at(ended.error)] += 1
            ballast.unlink()
            counted = _counted(out)
            result.fault_if(bool(counted), "ledger faults", f"{where}: counted against {counted}")
            result.finish(bench, out)
            result.analyzed_twice(out)
    result.numbers = {"disks": len(sizes), "runs on a full disk": runs}
    result.numbers["no space for"] = ", ".join(f"{name} {count}" for name, count in phases.most_common())
    return result


def _ends(sizes: Iterable[int]) -> list[int]:
    return sorted({min(sizes), max(sizes)})


def _size(count: int) -> str:
    return f"{count / MIB:.1f} MiB" if count >= MIB else f"{count / KIB:g} KiB"


def _full_at(sentence: str) -> str:
    """What there was no space for, according to the message."""
    words = {
        "download": ("ownload",),
        "a part": (".parts",),
        "the annotated video": ("annotated",),
        "the report": ("report",),
        "tables": (".parquet", ".csv", "run.json", ".new"),
        "the ledger": (LEDGER,),
        "the log": (LOG,),
    }
    return next((name for name, some in words.items() if any(one in sentence for one in some)), sentence)


def _check_finished_runs(result: Result, out: Path, bench: Bench, where: str) -> None:
    for run in out.glob("*/run.json"):
        for path in run.parent.glob("*.parquet"):
            same = path.read_bytes() == (bench.reference / path.relative_to(out)).read_bytes()
            result.fault_if(not same, "differing tables", f"{where}: {path.name} of a finished run differs")


def _counted(out: Path) -> list[Any]:
    if not (out / LEDGER).exists():
        return []
    with contextlib.closing(sqlite3.connect(out / LEDGER)) as db:
        return db.execute(
            "SELECT id, state, consecutive_failures, interrupted, error FROM videos"
            " WHERE consecutive_failures OR state IN"
            " ('failed', 'abandoned', 'skipped')"
        ).fetchall()


def reserve_kept(bench: Bench) -> Result:
    """Run on a small disk with the default reserve."""
    result = Result(
        "less free than the reserve",
        "the same with the default reserve",
        f"exit code {TEMPORARY} and one sentence before anything is started",
    )
    jobs = bench.folder / "reserve.toml"
    text = bench.jobs.read_text("utf-8")
    assert "reserve_mb = 0" in text
    jobs.write_text(text.replace("reserve_mb = 0\n", ""), "utf-8")
    with small_disk(bench.folder / "disk-reserve", 200) as disk:
        out = disk / "out"
        ended = bench.run(out, jobs=jobs)
        wrong = ended.code != TEMPORARY or len(ended.error.strip().splitlines()) != 1
        result.fault_if(wrong, "ledger faults", f"it ended {ended.code}: {ended.error}")
        begun = len(events(out, "started", "analyzing", "downloaded"))
        result.fault_if(begun > 0, "analyzed again", f"{begun} videos were started")
        result.numbers = {"started": begun, "seconds": f"{ended.seconds:.1f}"}
    return result


def locked_at_start(bench: Bench, seconds: float = 3.0) -> Result:
    """Lock the ledger before a batch starts."""
    result = Result(
        "ledger locked at the start",
        f"another process locked it (BEGIN EXCLUSIVE) for the first {seconds:g} s of a second batch",
        "the batch waits and succeeds",
    )
    out = bench.fresh()
    bench.run(out)
    with contextlib.closing(sqlite3.connect(out / LEDGER, isolation_level=None)) as db:
        db.execute("BEGIN EXCLUSIVE")
        with bench.start(out) as batch:
            waits = batch.lives_for(seconds)
            db.execute("ROLLBACK")
            ended = batch.end()
    wrong = not waits or ended.code != DONE
    result.fault_if(
        wrong, "ledger faults", f"it ended {ended.code} after {ended.seconds:.1f} s: {ended.error}"
    )
    result.compare(out, bench.reference)
    result.numbers = {"seconds": f"{ended.seconds:.1f}"}
    return result


def locked_ledger(bench: Bench, seconds: float = 3.0) -> Result:
    """Lock the ledger while a video is analyzed."""
    result = Result(
        "ledger locked",
        f"another process locked it (BEGIN EXCLUSIVE) for {seconds:g} s during the analysis",
        "the batch waits and succeeds, tables as usual",
    )
    out = bench.fresh()
    with bench.start(out) as batch:
        assert batch.lives_until(lambda: bool(events(out, "segment_committed")))
        with contextlib.closing(sqlite3.connect(out / LEDGER, isolation_level=None)) as db:
            db.execute("BEGIN EXCLUSIVE")
            held = len(events(out, "segment_committed"))
            batch.lives_for(batch.seconds + seconds)
            # A segment that was committed before may just be recorded.
            more = len(events(out, "segment_committed")) - held
            result.fault_if(more > 1, "ledger faults", "it did not wait: the ledger was not locked")
            db.execute("ROLLBACK")
        ended = batch.end()
    result.fault_if(ended.code != DONE, "ledger faults", f"it ended {ended.code}: {ended.error}")
    result.compare(out, bench.reference)
    moments = [datetime.datetime.fromisoformat(one["time"]) for one in events(out)]
    waited = max((after - before).total_seconds() for before, after in itertools.pairwise(moments))
    result.fault_if(waited < 0.7 * seconds, "ledger faults", f"it waited only {waited:.1f} s")
    result.numbers = {"waited": f"{waited:.1f} s"}
    return result


def two_batches(bench: Bench) -> Result:
    """Start a second batch on the same ledger, and a third once the first was killed."""
    result = Result(
        "two batches at once",
        "a second one was started on the same ledger; then the first was killed and another started",
        f"the second exits {TEMPORARY} with one sentence within 2 s, the first continues; a kill frees it",
    )
    out = bench.fresh()
    with bench.start(out) as first:
        assert first.lives_until(lambda: bool(_current_run(out)))
        second = bench.run(out)
        wrong = second.code != TEMPORARY or len(second.error.strip().splitlines()) != 1
        result.fault_if(wrong, "ledger faults", f"the second ended {second.code}: {second.error}")
        late = second.seconds > SECOND_S
        result.fault_if(late, "ledger faults", f"the second took {second.seconds:.1f} s to notice")
        result.fault_if(first.process.poll() is not None, "ledger faults", "the first did not continue")
        ended = first.end()
    result.fault_if(ended.code != DONE, "ledger faults", f"the first ended {ended.code}: {ended.error}")
    result.compare(out, bench.reference)
    out = bench.fresh()
    with bench.start(out) as first:
        assert first.lives_until(lambda: bool(events(out, "segment_committed")))
        first.signal(signal.SIGKILL)
        first.end()
        result.finish(bench, out)
        result.check_processes(first)
    result.numbers = {"the second ended after": f"{second.seconds:.1f} s"}
    return result


_DRIVER = "from testkit.faults import crashing; crashing()"

PARENT_POINTS = {
    "part renamed, ledger not updated": ("segment", False),
    "part recorded in the ledger": ("segment", True),
    "run published, ledger not updated": ("done", False),
    "run recorded in the ledger": ("done", True),
}


CHILD_POINTS = (
    "part written, not renamed",
    "linking",
    "drawing",
    "half published",
    "published, parts not removed",
    "report half written",
)


POINTS = (*PARENT_POINTS, *CHILD_POINTS)
"""Points at which a batch can be killed. All but the last four leave no finished run."""


_POINT = "RELIABILITY_POINT"


def crashing() -> None:
    """The command line of a batch that is killed at a point: the first argument."""
    from analyzer import cli
    from analyzer.batch.executors import local
    from analyzer.batch.ledger import Ledger

    point = sys.argv.pop(1)
    os.environ[_POINT] = point
    sys.argv[0] = "cli.py"
    if point in PARENT_POINTS:
        name, committed = PARENT_POINTS[point]
        original = getattr(Ledger, name)

        def dying(*args: Any, **more: Any) -> NoReturn:
            if committed:
                original(*args, **more)
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError

        setattr(Ledger, name, dying)
    elif point in CHILD_POINTS:
        executor: Any = functools.partial(local.LocalExecutor, prepare=dying_child)
        local.LocalExecutor = executor  # type: ignore[misc]
    else:
        raise ValueError(point)
    cli.main()


def _die(*_: Any, **__: Any) -> NoReturn:
    os.kill(os.getppid(), signal.SIGKILL)
    os._exit(9)


def dying_child() -> None:
    """Have an analyzing process kill its batch at a point."""
    from analyzer import job
    from analyzer.output import annotated
    from analyzer.report import files
    from analyzer.runs import derive, schema, segments

    publish, render_video, writing = job.publish, annotated.render_video, files.writing

    def publish_half(staging: Path, folder: Path) -> None:
        with mock.patch.object(Path, "replace", _dies_at(4, Path.replace)):
            publish(staging, folder)

    def draw_half(*args: Any, on_progress: Any, **more: Any) -> Any:
        return render_video(*args, on_progress=lambda share: share > 0.4 and _die(), **more)

    @contextlib.contextmanager
    def write_half(path: Path) -> Iterator[Path]:
        with writing(path) as temporary:
            yield temporary
            _die()

    match os.environ[_POINT]:
        case "part written, not renamed":
            schema.sync_folder = _die  # type: ignore[assignment]
            segments.PartStore._keep = _dying_keep(segments.PartStore._keep)  # type: ignore[method-assign]
        case "linking":
            derive.link_tracklets = _die  # type: ignore[assignment]
        case "drawing":
            annotated.render_video = draw_half
        case "half published":
            job.publish = publish_half
        case "published, parts not removed":
            segments.PartStore.clear = _die  # type: ignore[assignment, method-assign]
        case "report half written":
            files.writing = write_half


def _dies_at(count: int, original: Callable[..., Any]) -> Callable[..., Any]:
    calls = itertools.count(1)

    def replace(*args: Any) -> Any:
        if next(calls) == count:
            _die()
        return original(*args)

    return replace


def _dying_keep(keep: Callable[..., Any]) -> Callable[..., Any]:
    def dying(store: Any, segment: int, *args: Any) -> Any:
        if segment < 2:
            with mock.patch("analyzer.runs.schema.sync_folder"):
                return keep(store, segment, *args)
        original = Path.replace

        def replace(path: Path, target: Any) -> Any:
            return _die() if path.is_dir() else original(path, target)

        with mock.patch.object(Path, "replace", replace):
            return keep(store, segment, *args)

    return dying


def crashes(bench: Bench, points: Sequence[str] = POINTS) -> Result:
    """Kill the batch at each point; for one of them, also lose the part that the ledger records."""
    result = Result(
        "crash between two commits",
        f"the batch was killed at {len(points)} points: {'; '.join(points)}",
        "each part counts once, a published run is not analyzed again, tables as usual, no leftover files",
    )
    adopted = 0
    for point in points:
        for lost in (False, True) if point == "part recorded in the ledger" else (False,):
            out = bench.fresh()
            ended = bench.run(out, crash_at=point)
            words = f"{point}: it ended {ended.code}: {ended.error}"
            result.fault_if(ended.code != -signal.SIGKILL, "ledger faults", words)
            if lost:
                (part,) = [path for path in out.glob("*/.parts/*") if not path.name.startswith("new-")]
                shutil.rmtree(part)
            published = {path: path.stat().st_mtime_ns for path in out.glob("*/run.json")}
            late = point in POINTS[-2:] or point in tuple(PARENT_POINTS)[2:]
            words = f"{point}: {len(published)} runs were published"
            result.fault_if(bool(published) != late, "ledger faults", words)
            known = len(result.words)
            result.finish(bench, out)
            if not lost:
                result.analyzed_twice(out)
            for path, stamp in published.items():
                again = path.stat().st_mtime_ns != stamp
                result.fault_if(again, "analyzed again", f"{point}: {path.parent.name} was analyzed again")
                adopted += not again
            result.words[known:] = [f"{point}: {each}" for each in result.words[known:]]
    result.run_again(bench, out)
    result.numbers = {
        "crashes": len(points) + ("part recorded in the ledger" in points),
        "runs adopted": adopted,
    }
    return result


def poison(bench: Bench, count: int = 11) -> Result:
    """Kill the batch again and again while the same video is analyzed."""
    result = Result(
        "one video ends the batch each time",
        f"the batch was killed again and again before the first of {bench.count} videos had made progress",
        "that one is abandoned, the others are done: those that only waited are not affected",
    )
    out = bench.fresh()
    killed = 0
    while not _rows(out, "abandoned") and killed < count:
        known = len(events(out, "analyzing"))
        with bench.start(out) as batch:
            batch.lives_until(lambda known=known: len(events(out, "analyzing")) > known)
            # The others are fetched meanwhile, and wait.
            batch.lives_until(lambda: len(_rows(out, "downloaded")) >= min(2, bench.count - 1))
            if _rows(out, "abandoned"):
                ended = batch.end()
                break
            batch.signal(signal.SIGKILL)
            batch.end()
            killed += 1
            result.check_processes(batch)
    else:
        ended = bench.run(out)
    lines = ended.error.strip().splitlines()
    wrong = ended.code != 1 or len(lines) != 1 or "again and again" not in lines[0]
    result.fault_if(wrong, "ledger faults", f"it ended {ended.code}: {ended.error}")
    states = Counter(state for state, _ in _rows(out))
    wanted = {"done": bench.count - 1, "abandoned": 1}
    result.fault_if(states != wanted, "ledger faults", f"the states are {dict(states)}, not {wanted}")
    (kind,) = {kind for state, kind in _rows(out) if state == "abandoned"} or {""}
    result.fault_if(kind != "interrupted", "ledger faults", f"one was abandoned for {kind!r}")
    result.numbers = {"kills": killed, **states}
    return result


def _rows(out: Path, state: str | None = None) -> list[tuple[str, str | None]]:
    """State and kind of error of all videos, or of those in one state."""
    if not (out / LEDGER).exists():
        return []
    with contextlib.closing(sqlite3.connect(f"file:{out / LEDGER}?mode=ro", uri=True)) as db:
        rows: list[tuple[str, str | None]] = db.execute("SELECT state, error_kind FROM videos").fetchall()
    return [row for row in rows if state in (None, row[0])]


def memory(bench: Bench, after: int = 20, most_mb: float = 20.0) -> Result:
    """Measure the memory of a batch over many tiny videos."""
    result = Result(
        "many videos",
        f"{bench.count} videos of about a second in one batch",
        f"after the first {after} the memory of the parent stays within {most_mb:g} MB",
    )
    out = bench.fresh()
    parent: list[tuple[int, float]] = []
    analyzing: list[tuple[int, float]] = []
    with bench.start(out) as batch:
        while batch.lives_for(batch.seconds + 0.25):
            if events(out, "batch_ended"):
                continue  # what follows happens once
            done = len(events(out, "done"))
            with contextlib.suppress(psutil.NoSuchProcess):
                parent.append((done, batch.process.memory_info().rss / MIB))
                analyzing += [(done, one.memory_info().rss / MIB) for one in batch.analyzers()]
        ended = batch.end()
    result.fault_if(ended.code != DONE, "ledger faults", f"it ended {ended.code}: {ended.error}")
    done = len(events(out, "done"))
    result.fault_if(done != bench.count, "ledger faults", f"{done} videos were done")
    late = [size for count, size in parent if count >= after]
    growth = max(late) - late[0]
    result.fault_if(growth > most_mb, "ledger faults", f"the parent grew by {growth:.1f} MB")
    works = [size for count, size in analyzing if count >= after]
    result.numbers = {
        "seconds": f"{ended.seconds:.0f}",
        "growth of the parent": f"{growth:.1f} MB",
        "the parent": f"{late[-1]:.0f} MB",
        "the analyzing process": f"{works[0]:.0f} to {max(works):.0f} MB",
    }
    return result


def killed_analysis(bench: Bench, numbers: Sequence[signal.Signals]) -> Result:
    """Kill the analyzing process from outside, in the middle of a segment."""
    result = Result(
        "analyzing process killed",
        f"{', '.join(number.name for number in numbers)} sent from outside during the analysis",
        "the parent continues, the attempt fails as crash and is repeated in the same run, exit code 0, "
        "tables as usual",
    )
    jobs = bench.folder / "impatient.toml"
    jobs.write_text(bench.jobs.read_text("utf-8").replace("[disk]", "[retry]\nbase = '1s'\n[disk]"), "utf-8")
    crashed = 0
    for number in numbers:
        out = bench.fresh()
        with bench.start(out, jobs=jobs) as batch:
            assert batch.lives_until(lambda out=out: len(events(out, "segment_committed")) > 1)
            (victim,) = batch.analyzers()
            os.kill(victim.pid, number)
            ended = batch.end()
        failed = events(out, "failed")
        fine = [one["kind"] for one in failed] == ["crash"] and number.name in failed[0]["error"]
        crashed += fine
        result.fault_if(not fine, "ledger faults", f"{number.name}: failures were {failed}")
        words = f"{number.name}: it ended {ended.code}: {ended.error}"
        result.fault_if(ended.code != DONE, "ledger faults", words)
        result.compare(out, bench.reference)
        result.analyzed_twice(out)
    result.numbers = {"crashes": crashed}
    return result


DISKS = tuple(size * KIB for size in (0, 48, 100, 180, 240, 300, 360, 400, 440, 500, 540, 570, 590, 610))
"""Free space at the start; one video with its report takes some 620 KiB, a sixth of it the report."""


DOWNLOADS = tuple(size * KIB for size in (200, 260, 320, 380))


def full_download(folder: Path, videos: Path, sizes: Iterable[int]) -> Result:
    """As `full_disk`, while a video is downloaded."""
    with serving(videos) as address:
        sources = [f"{address}{path.name}" for path in sorted(videos.iterdir())]
        result = full_disk(Bench(folder, sources), sizes)
    result.fault = "disk full while downloading"
    return result
