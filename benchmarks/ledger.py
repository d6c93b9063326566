"""The ledger at a million videos: time and memory of everything that reads or writes all of its rows.

Writes its section of ``docs/cluster.md``, between its marks. Each measurement is a process of its own. The
ledgers are made: channels whose entries look like those of YouTube, videos in all states, with attempts and
segments. Only the analyses are missing.

    python -m benchmarks.ledger [--rows 1000000] [--folder FOLDER] [--only NAME...]

With another number of rows, or only some measurements, the section is printed and not written.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "cluster.md"
MARKS = "<!-- ledger -->\n", "<!-- /ledger -->\n"
ROWS = 1_000_000
MOST_S, MOST_MB = 10.0, 500.0
_DAY_S = 86400.0
_SEGMENT_S = 600.0
_FOR_SETTINGS = {"video": False}


# --- what is made ------------------------------------------------------------------------------------


def video_id(number: int) -> str:
    """The id that the site gives a video: it has no order."""
    return hashlib.sha256(b"%d" % number).hexdigest()[:11]


def length_s(number: int) -> float:
    """Length of a video: half of them are shorter than nine minutes, one in a hundred longer than 5 hours."""
    uniform = int(hashlib.md5(b"%d" % number).hexdigest()[:8], 16) / 2**32
    return float(round(540.0 * math.exp(1.54 * _normal(uniform))))


def _normal(uniform: float) -> float:
    """Quantile of the normal distribution, by Tukey's lambda."""
    uniform = min(max(uniform, 1e-4), 1 - 1e-4)
    return float((uniform**0.135 - (1 - uniform) ** 0.135) / 0.1975)


def title(number: int) -> str:
    """A title of ordinary length."""
    return f"Evening news of day {number % 9973}, part {number}: the main topics"


def channels(rows: int) -> int:
    """How many channels there are."""
    return max(3, rows // 2000)


def numbers_of(channel: int, rows: int) -> Iterator[int]:
    """The videos of a channel; the first channel has a tenth of all."""
    if channel == 0:
        return iter(range(0, rows, 10))
    step = channels(rows) - 1
    return (number for number in range(channel - 1, rows, step) if number % 10)


def channel_of(number: int, rows: int) -> int:
    """The channel of a video."""
    return 0 if number % 10 == 0 else 1 + number % (channels(rows) - 1)


def channel_name(channel: int) -> str:
    """The address of a channel."""
    return f"https://www.youtube.com/@station-{channel:05}/videos"


def entry_of(number: int) -> dict[str, Any]:
    """What yt-dlp lists of a video."""
    id = video_id(number)
    picture = f"https://i.ytimg.com/vi/{id}/hqdefault.jpg?sqp=-oaymwEbCKgBEF5IVfKriqkDDggBFQAAiEIYAXABwAEG"
    return {
        "_type": "url",
        "ie_key": "Youtube",
        "id": id,
        "url": f"https://www.youtube.com/watch?v={id}",
        "title": title(number),
        "description": None,
        "duration": length_s(number),
        "channel_id": None,
        "channel": None,
        "uploader": None,
        "thumbnails": [{"url": f"{picture}{size}", "height": size, "width": 2 * size} for size in (94, 188)],
        "timestamp": None,
        "availability": None,
        "view_count": number,
        "live_status": None,
        "extractor": "youtube:tab",
        "extractor_key": "YoutubeTab",
        "webpage_url": "https://www.youtube.com/@station/videos",
    }


def fetchers(rows: int) -> Any:
    """Makes fetchers that list the channels without a network; everything else is the program's own."""
    from analyzer.sources.resolve import Fetcher

    class Channels(Fetcher):
        def resolve(self, source: Any, on_wait: Any = None, on_left_out: Any = None) -> Iterator[Any]:
            from analyzer.sources.resolve import _video_item

            channel = int(source[len("https://www.youtube.com/@station-") :].partition("/")[0])
            for number in numbers_of(channel, rows):
                entry = entry_of(number)
                yield _video_item(entry, entry["url"], True, entry)

    return lambda settings, on_progress: Channels(settings, want_audio=False)


def jobs_for(folder: Path, rows: int) -> Any:
    """The jobs: all channels."""
    from analyzer.batch.config import jobs_of
    from analyzer.settings import Settings

    names = [channel_name(channel) for channel in range(channels(rows))]
    return jobs_of(names, Settings(**_FOR_SETTINGS, playlist=True), out=folder, reserve_mb=0)


def make_ledger(folder: Path, rows: int, *, idle: bool) -> None:
    """Make the ledger of a batch that has worked for a year.

    Of a hundred videos 90 are done, 3 are skipped, 2 abandoned, 2 failed, 3 new; four are in work. If `idle`,
    those that need work are done.
    """
    from analyzer.batch.ledger import Ledger
    from analyzer.vision.selection import models_hash

    settings = jobs_for(folder, rows).sources[0].settings
    hashes = settings.result_hash(), models_hash(settings)
    began = time.time() - 365 * _DAY_S
    with Ledger(folder / "ledger.sqlite") as ledger:
        db = ledger._db
        db.execute("PRAGMA synchronous = OFF")
        db.execute("BEGIN")
        for first in range(0, rows, 10_000):
            made = [
                made_video(number, rows, hashes, began, idle)
                for number in range(first, min(rows, first + 10_000))
            ]
            for table in ("videos", "attempts", "segments"):
                lines = [line for one in made for line in one[table]]
                if lines:
                    names = ", ".join(lines[0])
                    marks = ", ".join(f":{name}" for name in lines[0])
                    db.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", lines)
        counts = {"done": 1000, "failed": 20, "abandoned": 2, "left": 0, "error": None, "sources_failed": 0}
        for day in range(365):
            moment = began + day * _DAY_S
            db.execute(
                "INSERT INTO batch_runs (started_at, ended_at, outcome, counts) VALUES (?, ?, 'finished', ?)",
                (moment, moment + 3600, json.dumps(counts | {"troubles": []})),
            )
        db.execute("COMMIT")


def state_of(number: int, rows: int, *, idle: bool) -> str:
    """The state of a video."""
    if not idle and number >= rows - 4:
        return ("downloading", "downloaded", "analyzing", "analyzing")[number - rows]
    part = (number * 7919) % 100
    for most, state in ((90, "done"), (93, "skipped"), (95, "abandoned")):
        if part < most:
            return state
    return "done" if idle else "failed" if part < 97 else "new"


def made_video(
    number: int, rows: int, hashes: tuple[str, str], began: float, idle: bool
) -> dict[str, list[dict[str, Any]]]:
    """The rows of a video in each table, with the values that the program would have written."""
    state, id, seconds = state_of(number, rows, idle=idle), number + 1, length_s(number)
    tried = {"done": 1 + (number % 10 == 0), "failed": 2, "abandoned": 5, "skipped": 1, "new": 0}.get(
        state, 1
    )
    moment = began + 360 * _DAY_S * number / rows
    name, versions = f"youtube-{video_id(number)}", json.dumps({"analyzer": "2.0", "yt-dlp": "2026.10.1"})
    failed = state in ("failed", "abandoned")
    error = "The site did not answer in time: Read timed out. (read timeout=30)"
    row: dict[str, Any] = dict.fromkeys(
        ("run", "counts", "complete", "done_at", "reason", "video_id", "video")
    )
    count = math.ceil(seconds / _SEGMENT_S)
    begun = state in ("done", "analyzing") or (state == "failed" and number % 5 == 0)
    if state == "done":
        row |= {
            "run": f"{title(number)[:60]} [{name}]",
            "counts": json.dumps(made_counts(number, seconds)),
            "complete": number % 50 != 0,
            "done_at": moment + 100 * tried,
        }
    if state in ("downloaded", "analyzing"):
        row["video"] = json.dumps({"video_id": name, "paths": [f"/x/{name}.mp4"], "details": {}})
    row |= {
        "id": id,
        "identity": name,
        "settings_hash": hashes[0],
        "models_hash": hashes[1],
        "origin": channel_name(channel_of(number, rows)),
        "source": f"https://www.youtube.com/watch?v={video_id(number)}",
        "standalone": True,
        "folder": ".",
        "state": state,
        "reason": "longer than 2h (2:31:07)" if state == "skipped" else row["reason"],
        "error_kind": "filter" if state == "skipped" else "network" if failed else None,
        "error": error if failed else None,
        "attempts": tried,
        "consecutive_failures": tried if failed else 0,
        "next_try": time.time() - 60 * (number % 1000) if state == "failed" else None,
        "title": title(number),
        "channel": f"Station {channel_of(number, rows)}" if tried else None,
        "uploaded": "2026-03-01" if tried else None,
        "duration_s": seconds,
        "size_bytes": int(seconds * 60_000) if begun else None,
        "video_id": name if tried else None,
        "segments": count if begun else None,
        "parts_key": hashlib.sha256(name.encode()).hexdigest()[:12] if begun else None,
        "versions": versions if tried else None,
        "added_at": moment,
        "changed_at": moment + 100 * tried,
    }
    attempts = []
    for each in range(1, tried + 1):
        last = each == tried
        outcome = {"skipped": "skipped", "abandoned": "abandoned", "failed": "failed", "done": "done"}.get(
            state
        )
        ended = outcome if last else "failed"
        attempts.append(
            {
                "video": id,
                "number": each,
                "started_at": moment + 100 * (each - 1),
                "ended_at": None if ended is None else moment + 100 * each,
                "outcome": ended,
                "error_kind": "network" if ended in ("failed", "abandoned") else None,
                "error": error if ended in ("failed", "abandoned") else None,
                "fetch_s": 9.5 if ended == "done" else None,
                "analysis_s": seconds / 8 if ended == "done" else None,
                "size_bytes": int(seconds * 60_000) if ended == "done" else None,
                "versions": versions,
            }
        )
    known = count if state == "done" else count // 2 if begun else 0
    segments = [
        {
            "video": id,
            "segment": each,
            "state": "completed",
            "samples": 3000,
            "faces": 4500,
            "size_bytes": 250_000,
            "committed_at": moment + each,
        }
        for each in range(known)
    ]
    return {"videos": [row], "attempts": attempts, "segments": segments}


def made_counts(number: int, seconds: float) -> dict[str, Any]:
    """The counts of a run, as in ``run.json``."""
    names = (
        *("samples", "samples_reused", "faces", "faces_estimated", "faces_unassigned", "tracklets", "people"),
        *("female", "male", "unknown_gender", "people_low", "people_high", "people_not_estimated", "shots"),
    )
    return {"analyzed_s": seconds} | {name: (number * (place + 3)) % 37 for place, name in enumerate(names)}


# --- what is measured --------------------------------------------------------------------------------


def run_until_queued(folder: Path, rows: int, *, until_end: bool = False) -> dict[str, float]:
    """A batch run that is asked to end when all sources are listed, or that ends by itself."""
    from analyzer.batch.context import Stop
    from analyzer.batch.executors.inline import InlineExecutor
    from analyzer.batch.run import run_and_close
    from analyzer.batch.scheduler import Scheduler

    stop, moments, began = Stop(), {}, time.process_time()

    def on_event(event: str, video: int | None, facts: dict[str, Any]) -> None:
        if event in ("batch_started", "queued", "batch_ended"):
            moments[f"{event}_s"] = round(time.process_time() - began, 3)
        if event == "queued" and not until_end:
            stop.request()

    jobs = jobs_for(folder, rows)
    scheduler = Scheduler(jobs, InlineExecutor(), on_event=on_event, stop=stop, fetchers=fetchers(rows))
    outcome = run_and_close(scheduler, jobs, on_trouble=print)
    return moments | {"left": outcome.left, "end_s": round(time.process_time() - began, 3)}


def plan(folder: Path, rows: int, *, as_json: bool) -> dict[str, float]:
    """``batch plan`` over the channels."""
    from analyzer.batch import plan as module
    from analyzer.cli.batch import show_plan

    module.default_fetcher = fetchers(rows)
    show_plan(jobs_for(folder, rows), as_json=as_json)
    return {}


def plan_list(folder: Path, rows: int) -> dict[str, float]:
    """``batch plan`` over a list of addresses, each a source of its own."""
    from analyzer.batch.config import jobs_of
    from analyzer.cli.batch import show_plan
    from analyzer.settings import Settings

    listed = folder / "addresses.txt"
    listed.write_text("".join(f"https://www.youtube.com/watch?v={video_id(n)}\n" for n in range(rows)))
    began = time.process_time()
    jobs = jobs_of([str(listed)], Settings(**_FOR_SETTINGS), out=folder, reserve_mb=0)
    read = time.process_time() - began
    show_plan(jobs, as_json=False)
    return {"read_s": round(read, 3)}


def index_page(folder: Path, rows: int) -> dict[str, float]:
    """Write the index page."""
    from analyzer.batch.index_page import write_index
    from analyzer.batch.ledger import Ledger

    with Ledger(folder / "ledger.sqlite", read_only=True) as ledger:
        write_index(ledger, folder)
    return {}


def command(folder: Path, *words: str) -> None:
    """A command of the program."""
    from click.testing import CliRunner

    from analyzer.cli import main

    result = CliRunner().invoke(main, ["batch", *words, "--out", str(folder)])
    assert result.exit_code == 0, result.output[-2000:]


def steps(folder: Path, rows: int) -> dict[str, float]:
    """The scheduler's own steps with all unfinished videos in the queue, and what a job writes."""
    from analyzer.batch.context import BatchContext, Stop
    from analyzer.batch.ledger import Ledger, State
    from analyzer.batch.log import EventLog
    from analyzer.batch.queue import WorkQueue
    from analyzer.util.callbacks import Callback
    from analyzer.util.clock import Clock

    jobs = jobs_for(folder, rows)
    times: dict[str, float] = {}
    with Ledger(folder / "ledger.sqlite") as ledger, EventLog(Path(os.devnull)) as log:
        ignored = Callback(lambda event, video, facts: None)
        context = BatchContext(jobs, ledger, log, ignored, Clock(), Stop(), fetchers(rows))
        queue = WorkQueue(context)
        source = jobs.sources[0]
        works = list(ledger.unfinished())
        for work in works:
            queue.add(source, work, None)
        queue.take_turns([source])
        entry = queue.take()
        assert entry is not None
        times["take_ms"] = _each(queue.take, 100)
        queue.rest_host("youtube.com", 1000.0)
        times["take_none_ms"] = _each(queue.take, 20)
        times["next_due_ms"] = _each(queue.next_due, 20)
        info = {"video_id": "x", "complete": True, "counts": made_counts(1, 60.0), "title": "x"}
        numbers = iter(range(100_000))
        waiting = [work for work in works if work.state is State.NEW]

        def job() -> None:
            number = next(numbers)
            id = waiting[number].id
            ledger.begin(id, {"analyzer": "2.0"})
            name = waiting[number].identity
            ledger.describe(id, video_id=name, title="A title", channel="A channel", duration_s=600.0)
            ledger.same_work(waiting[number], name)
            ledger.downloaded(id, {"video_id": name, "paths": []}, size_bytes=1, fetch_s=1.0)
            ledger.analyzing(id)
            ledger.opened(id, "key", [], 1)
            ledger.segment(id, 0, samples=1, faces=1, size_bytes=1)
            ledger.done(id, folder / f"run {name}", info | {"video_id": name}, analysis_s=60.0)

        times["job_ms"] = _each(job, min(50, len(waiting)))
    return times


def _each(function: Callable[[], object], count: int) -> float:
    """Milliseconds of processor time of a call."""
    began = time.process_time()
    for _ in range(count):
        function()
    return round(1000 * (time.process_time() - began) / count, 3)


def cases(folder: Path, rows: int) -> dict[str, Callable[[], Any]]:
    """All measurements, in the order in which they are made: the last ones change the ledger."""
    worked, idle, empty = folder / "worked", folder / "idle", folder / "empty"
    return {
        "first listing": lambda: run_until_queued(empty, rows),
        "queued again": lambda: run_until_queued(empty, rows),
        "plan of new videos": lambda: plan(empty, rows, as_json=False),
        "plan": lambda: plan(worked, rows, as_json=False),
        "plan --json": lambda: plan(worked, rows, as_json=True),
        "plan of new videos --json": lambda: plan(empty, rows, as_json=True),
        "plan of a list of addresses": lambda: plan_list(worked, rows),
        "status": lambda: command(worked, "status"),
        "status --json": lambda: command(worked, "status", "--json"),
        "status --state failed": lambda: command(worked, "status", "--state", "failed"),
        "status --state failed --state done": lambda: command(
            worked, "status", "--state", "failed", "--state", "done"
        ),
        "status --json, all rows": lambda: command(worked, "status", "--json", "--limit", str(rows)),
        "show": lambda: command(worked, "show", str(rows // 2)),
        "index page": lambda: index_page(worked, rows),
        "run with nothing new": lambda: run_until_queued(idle, rows, until_end=True),
        "run until it begins to work": lambda: run_until_queued(worked, rows),
        "steps": lambda: steps(worked, rows),
        "steps, all queued": lambda: steps(empty, rows),
        "retry": lambda: command(worked, "retry", "--abandoned"),
        "prune": lambda: command(worked, "prune"),
    }


def main() -> None:
    """Measure, and write the section."""
    parser = argparse.ArgumentParser(description="Measure the ledger and write its section.")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--folder", type=Path, help="where the ledgers are made, and kept")
    parser.add_argument("--only", nargs="*", help="names of measurements")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.case:
        sys.stdout, shown = open(os.devnull, "w"), sys.stdout  # noqa: SIM115, PTH123
        began, used = time.perf_counter(), time.process_time()
        found = cases(given.folder, given.rows)[given.case]() or {}
        found["wall_s"], found["cpu_s"] = time.perf_counter() - began, time.process_time() - used
        found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(found), file=shown)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        for name, idle in (("worked", False), ("idle", True)):
            if not (folder / name).exists():
                make_ledger(folder / name, given.rows, idle=idle)
        names = given.only or list(cases(folder, given.rows))
        if "first listing" in names:
            shutil.rmtree(folder / "empty", ignore_errors=True)
        (folder / "empty").mkdir(exist_ok=True)
        for name in names:
            line = [sys.executable, "-m", "benchmarks.ledger", "--rows", str(given.rows)]
            done = subprocess.run(
                [*line, "--folder", str(folder), "--case", name],
                check=False,
                cwd=ROOT,
                stdout=subprocess.PIPE,
                text=True,
            )
            print(f"{name:40}", done.stdout.strip() or f"failed ({done.returncode})", flush=True)
        for name in ("worked", "idle", "empty"):
            path = folder / name / "ledger.sqlite"
            print(name, f"{path.stat().st_size / 1e6:.0f} MB", flush=True)


if __name__ == "__main__":
    main()
