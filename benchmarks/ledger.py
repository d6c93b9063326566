"""The ledger at a million videos: time and memory of everything that reads or writes all of its rows.

Writes its section of ``docs/cluster.md``, between its marks, from all measurements that the folder has. Each
is a process of its own. The ledgers are made: channels whose entries look like those of YouTube, videos in
all states, with attempts and segments. Only the analyses are missing.

    python -m benchmarks.ledger [--rows 1000000] [--folder FOLDER] [--only NAME...]

With another number of rows, the section is printed and not written.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "cluster.md"
MARKS = "<!-- ledger -->", "<!-- /ledger -->"
ROWS = 1_000_000
_DAY_S = 86400.0
_FOR_SETTINGS = {"video": False}


# --- what is made ------------------------------------------------------------------------------------


def video_id(number: int) -> str:
    """The id that the site gives a video: it has no order."""
    return f"{number * _FACTOR % 2**44:011x}"


_FACTOR = 11_400_714_819


def _quantile_s(uniform: float) -> float:
    normal = statistics.NormalDist().inv_cdf(uniform)
    return float(round(540.0 * math.exp(1.54 * normal)))


# Half of them are shorter than nine minutes, one in a hundred longer than 5 hours.
_LENGTHS_S = [_quantile_s((place + 0.5) / 1009) for place in range(1009)]


def channels(rows: int) -> int:
    """How many channels there are."""
    return max(3, rows // 2000)


def numbers_of(channel: int, rows: int) -> Iterator[int]:
    """The videos of a channel; the first channel has a tenth of all."""
    if channel == 0:
        return iter(range(0, rows, 10))
    step = channels(rows) - 1
    return (number for number in range(channel - 1, rows, step) if number % 10)


def channel_name(channel: int) -> str:
    """The address of a channel."""
    return f"https://www.youtube.com/@station-{channel:05}/videos"


_LIKE_ALL: dict[str, Any] = {
    "_type": "url",
    "ie_key": "Youtube",
    "description": None,
    "channel_id": None,
    "channel": None,
    "channel_url": None,
    "uploader": None,
    "uploader_id": None,
    "uploader_url": None,
    "thumbnails": [
        {"url": f"https://i.ytimg.com/{size}", "height": size, "width": 2 * size} for size in (94, 188)
    ],
    "timestamp": None,
    "release_timestamp": None,
    "availability": None,
    "concurrent_view_count": None,
    "live_status": None,
    "channel_is_verified": None,
}


def entry_of(number: int) -> dict[str, Any]:
    """What yt-dlp lists of a video of YouTube: the same keys."""
    id = video_id(number)
    return {
        **_LIKE_ALL,
        "id": id,
        "url": f"https://www.youtube.com/watch?v={id}",
        "title": f"Evening news of day {number % 9973}, part {number}: the main topics",
        "duration": _LENGTHS_S[number * 7919 % 1009],
        "view_count": number,
    }


def fetchers(rows: int) -> Any:
    """Makes the program's own fetchers, with an extractor that lists the channels without a network."""
    from analyzer.sources.resolve import Fetcher
    from analyzer.sources.ytdlp import Sites

    Sites(())  # yt-dlp is imported there, without plugins
    from yt_dlp.extractor.common import InfoExtractor

    class StationIE(InfoExtractor):
        _VALID_URL = r"https://www\.youtube\.com/@station-(?P<id>[0-9]+)/videos"

        def _real_extract(self, url: str) -> dict[str, Any]:
            id = self._match_id(url)
            entries = (entry_of(number) for number in numbers_of(int(id), rows))
            return dict(self.playlist_result(entries, id, f"Station {id}", webpage_url=url))

    return lambda settings, on_progress: Fetcher(settings, want_audio=False, extractors=[StationIE])


def jobs_for(folder: Path, rows: int) -> Any:
    """The jobs: all channels."""
    from analyzer.batch.config import jobs_of
    from analyzer.settings import Settings

    names = [channel_name(channel) for channel in range(channels(rows))]
    return jobs_of(names, Settings(**_FOR_SETTINGS, playlist=True), out=folder, reserve_mb=0)


def make_ledger(folder: Path, rows: int) -> None:
    """Make the ledger of a batch that has worked for a year, with the values that the program writes.

    Of a hundred videos 90 are done, 3 are skipped, 2 abandoned, 2 failed, 3 new; four are in work.
    """
    from analyzer.batch.ledger import Ledger
    from analyzer.vision.selection import models_hash

    settings = jobs_for(folder, rows).sources[0].settings
    given = {
        "rows": rows,
        "settings": settings.result_hash(),
        "models": models_hash(settings),
        "began": time.time() - 365 * _DAY_S,
        "now": time.time(),
        "versions": json.dumps(
            {"analyzer": "2.0", "yt-dlp": "2026.10.1", "av": "17.0", "openvino": "2026.1"}
        ),
        "error": "The site did not answer in time: Read timed out. (read timeout=30)",
        "factor": _FACTOR,
        "step": channels(rows) - 1,
    }
    with Ledger(folder / "ledger.sqlite") as ledger:
        db = ledger._db
        db.execute("PRAGMA synchronous = OFF")
        db.execute("BEGIN")
        db.execute("CREATE TEMP TABLE made (place INTEGER PRIMARY KEY, seconds REAL, counts TEXT)")
        made = [
            (place, seconds, json.dumps(made_counts(place, seconds)))
            for place, seconds in enumerate(_LENGTHS_S)
        ]
        db.executemany("INSERT INTO made VALUES (?, ?, ?)", made)
        for sql in (_NUMBERS, _VIDEOS, _ATTEMPTS, _SEGMENTS, _BATCH_RUNS):
            db.execute(sql, given)
        db.execute("DROP TABLE numbers")
        db.execute("DROP TABLE made")
        db.execute("COMMIT")


_NUMBERS = """
CREATE TEMP TABLE numbers AS
WITH RECURSIVE all_of(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM all_of WHERE n + 1 < :rows),
    states AS (
        SELECT n, CASE
            WHEN n >= :rows - 4 THEN CASE n - :rows WHEN -4 THEN 'downloading' WHEN -3 THEN 'downloaded'
                ELSE 'analyzing' END
            WHEN n * 7919 % 100 < 90 THEN 'done'
            WHEN n * 7919 % 100 < 93 THEN 'skipped'
            WHEN n * 7919 % 100 < 95 THEN 'abandoned'
            WHEN n * 7919 % 100 < 97 THEN 'failed'
            ELSE 'new' END AS state
        FROM all_of
    )
SELECT n, state, seconds, counts,
    CASE state WHEN 'done' THEN 1 + (n % 10 = 0) WHEN 'failed' THEN 2 WHEN 'abandoned' THEN 5
        WHEN 'new' THEN 0 ELSE 1 END AS tried,
    state IN ('done', 'analyzing') OR state = 'failed' AND n % 5 = 0 AS begun,
    CAST((seconds + 599) / 600 AS INTEGER) AS segments,
    :began + 360 * 86400.0 * n / :rows AS moment,
    printf('%011x', n * :factor % (1 << 44)) AS video
FROM states JOIN made ON place = n * 7919 % 1009
"""
_VIDEOS = """
INSERT INTO videos (id, identity, settings_hash, models_hash, origin, source, standalone, folder, state,
    reason, error_kind, error, attempts, consecutive_failures, next_try, title, channel, uploaded, duration_s,
    size_bytes, video_id, video, segments, run, complete, counts, versions, added_at, changed_at, done_at,
    parts_key)
SELECT n + 1, 'youtube-' || video, :settings, :models,
    printf('https://www.youtube.com/@station-%05d/videos', CASE n % 10 WHEN 0 THEN 0 ELSE 1 + n % :step END),
    'https://www.youtube.com/watch?v=' || video, 1, '.', state,
    CASE state WHEN 'skipped' THEN 'the same video as ' || (n / 2) END,
    CASE WHEN state = 'skipped' THEN 'duplicate' WHEN state IN ('failed', 'abandoned') THEN 'network' END,
    CASE WHEN state IN ('failed', 'abandoned') THEN :error END,
    tried, CASE WHEN state IN ('failed', 'abandoned') THEN tried ELSE 0 END,
    CASE state WHEN 'failed' THEN :now - 60 * (n % 1000) END,
    printf('Evening news of day %d, part %d: the main topics', n % 9973, n),
    CASE WHEN tried THEN 'Station ' || (n % :step) END, CASE WHEN tried THEN '2026-03-01' END, seconds,
    CASE WHEN begun THEN CAST(seconds * 60000 AS INTEGER) END,
    CASE WHEN tried THEN 'youtube-' || video END,
    CASE WHEN state IN ('downloaded', 'analyzing')
        THEN json_object('video_id', 'youtube-' || video, 'paths', json_array('/x/' || video)) END,
    CASE WHEN begun THEN segments END,
    CASE state WHEN 'done'
        THEN printf('Evening news of day %d, part %d the main topics [youtube-%s]', n % 9973, n, video) END,
    CASE state WHEN 'done' THEN n % 50 != 0 END, CASE state WHEN 'done' THEN counts END,
    CASE WHEN tried THEN :versions END, moment, moment + 100 * tried,
    CASE state WHEN 'done' THEN moment + 100 * tried END, CASE WHEN begun THEN video || 'k' END
FROM numbers ORDER BY n
"""
_ATTEMPTS = """
WITH RECURSIVE tries(number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM tries WHERE number < 5),
    outcomes AS (
        SELECT n, number, moment, seconds, CASE
            WHEN number < tried THEN 'failed'
            WHEN state IN ('done', 'skipped', 'abandoned', 'failed') THEN state END AS outcome
        FROM numbers CROSS JOIN tries WHERE number <= tried
    )
INSERT INTO attempts (video, number, started_at, ended_at, outcome, error_kind, error, fetch_s, analysis_s,
    size_bytes, versions)
SELECT n + 1, number, moment + 100 * (number - 1),
    CASE WHEN outcome IS NOT NULL THEN moment + 100 * number END, outcome,
    CASE WHEN outcome IN ('failed', 'abandoned') THEN 'network' END,
    CASE WHEN outcome IN ('failed', 'abandoned') THEN :error END,
    CASE outcome WHEN 'done' THEN 9.5 END, CASE outcome WHEN 'done' THEN seconds / 8 END,
    CASE outcome WHEN 'done' THEN CAST(seconds * 60000 AS INTEGER) END, :versions
FROM outcomes ORDER BY n, number
"""
_SEGMENTS = """
INSERT INTO segments (video, segment, state, samples, faces, size_bytes, committed_at)
SELECT n + 1, place, 'completed', 3000, 4500, 250000, moment + place
FROM numbers CROSS JOIN made ON place < CASE state WHEN 'done' THEN segments ELSE segments / 2 END
WHERE begun
"""
_BATCH_RUNS = """
WITH RECURSIVE days(day) AS (SELECT 0 UNION ALL SELECT day + 1 FROM days WHERE day < 364)
INSERT INTO batch_runs (started_at, ended_at, outcome, counts)
SELECT :began + day * 86400, :began + day * 86400 + 3600, 'finished',
    json_object('done', 2500, 'failed', 50, 'abandoned', 5, 'left', 0, 'sources_failed', 0, 'error', NULL,
        'troubles', json_array())
FROM days
"""


def make_idle(worked: Path, folder: Path) -> None:
    """Make the same ledger when everything is done."""
    from analyzer.batch.ledger import Ledger

    folder.mkdir()
    shutil.copy(worked / "ledger.sqlite", folder)
    with Ledger(folder / "ledger.sqlite") as ledger:
        ledger._change(
            "UPDATE videos SET state = 'skipped', reason = 'the same video as 1', error_kind = 'duplicate',"
            " next_try = NULL, video = NULL WHERE state NOT IN ('done', 'skipped', 'abandoned')"
        )


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


def lists_alone(rows: int) -> dict[str, float]:
    """What yt-dlp and the program need to list the channels, whatever is done with the videos."""
    from analyzer.settings import Settings

    settings = Settings(**_FOR_SETTINGS, playlist=True)
    fetcher = fetchers(rows)(settings, lambda progress: None)
    listed = sum(1 for channel in range(channels(rows)) for _ in fetcher.resolve(channel_name(channel)))
    return {"videos": listed}


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
    from analyzer.cli import main

    sys.argv = ["cli.py", "batch", *words, "--out", str(folder)]
    try:
        main()
    except SystemExit as end:
        assert end.code == 0, end.code


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


def peak_mb() -> float:
    """The most memory that this process had resident. `getrusage` would count its parent's, too."""
    status = Path("/proc/self/status").read_text("ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def cases(folder: Path, rows: int) -> dict[str, Callable[[], Any]]:
    """All measurements, in the order in which they are made: the last ones change the ledger."""
    worked, idle, empty = folder / "worked", folder / "idle", folder / "empty"
    return {
        "first listing": lambda: run_until_queued(empty, rows),
        "queued again": lambda: run_until_queued(empty, rows),
        "plan of new videos": lambda: plan(empty, rows, as_json=False),
        "plan": lambda: plan(worked, rows, as_json=False),
        "lists alone": lambda: lists_alone(rows),
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


SHOWN = {
    "status": "`batch status`, also with `--json` or `--state`",
    "status --state failed --state done": "`batch status --state failed --state done`",
    "status --json, all rows": "`batch status --json` with all rows",
    "show": "`batch show ID`",
    "plan": "`batch plan` over channels that list all of them",
    "lists alone": "of that, to list them",
    "plan --json": "the plan with `--json`",
    "plan of new videos": "the plan when all are new",
    "plan of new videos --json": "that with `--json`",
    "plan of a list of addresses": "`batch plan` over a text file with their addresses",
    "first listing": "first listing: all are entered and queued",
    "queued again": "listing them again while all of them wait",
    "run with nothing new": "a batch run with nothing new, from beginning to end",
    "run until it begins to work": "a batch run until it begins to work",
    "index page": "the index page, which each batch run writes at its end",
    "retry": "`batch retry --abandoned`",
    "prune": "`batch prune`",
}


def section(results: dict[str, dict[str, float]], rows: int, size_mb: float) -> str:
    """The section of the page."""
    lines = [
        MARKS[0],
        f"Written by `python -m benchmarks.ledger`, with {rows:,} made videos in {channels(rows)} channels:",
        "90 % are done, the others skipped, abandoned, failed, new or in work, with their attempts and",
        f"segments; the file has {size_mb:,.0f} MB. An extractor of the benchmark lists the channels,",
        "without a network and in one page each; a real channel needs a request for each 30 videos.",
        "Processor time of each process, its start included, and the most memory that it had resident.",
        "",
        "| | processor time | memory |",
        "| --- | ---: | ---: |",
    ]
    for name, words in SHOWN.items():
        if name in results:
            found = results[name]
            lines.append(f"| {words} | {found['cpu_s']:.1f} s | {found['peak_mb']:.0f} MB |")
    for name, words in (
        ("steps", "with the unfinished ones queued"),
        ("steps, all queued", "with all queued"),
    ):
        if name in results:
            found = results[name]
            lines += [
                "",
                f"A step of the scheduler, {words}: {found['take_ms']:.2f} ms to take a video,",
                f"{found['take_none_ms']:.3f} ms to find that there is none while its host rests; all that",
                f"the ledger records of a video, from new to done: {found['job_ms']:.1f} ms of processor",
                "time.",
            ]
    return "\n".join([*lines, MARKS[1]])


def write(results: dict[str, dict[str, float]], rows: int, folder: Path) -> None:
    """Write the section, or print it."""
    size_mb = (folder / "worked" / "ledger.sqlite").stat().st_size / 1e6
    text = section(results, rows, size_mb)
    if rows != ROWS or MARKS[0] not in PAGE.read_text("utf-8"):
        print(text)
        return
    before, _, rest = PAGE.read_text("utf-8").partition(MARKS[0])
    PAGE.write_text(before + text + rest.partition(MARKS[1])[2], "utf-8")


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
        found["peak_mb"] = peak_mb()
        print(json.dumps(found), file=shown)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        if not (folder / "worked").exists():
            make_ledger(folder / "worked", given.rows)
        if not (folder / "idle").exists():
            make_idle(folder / "worked", folder / "idle")
        names = given.only or list(cases(folder, given.rows))
        if "first listing" in names:
            shutil.rmtree(folder / "empty", ignore_errors=True)
        (folder / "empty").mkdir(exist_ok=True)
        kept = folder / "results.json"
        results = json.loads(kept.read_text("utf-8")) if kept.exists() else {}
        for name in names:
            line = [sys.executable, "-m", "benchmarks.ledger", "--rows", str(given.rows)]
            line += ["--folder", str(folder), "--case", name]
            done = subprocess.run(line, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True)
            results[name] = json.loads(done.stdout)
            print(f"{name:40}", done.stdout.strip(), flush=True)
            kept.write_text(json.dumps(results, indent=2), "utf-8")
        write(results, given.rows, folder)


if __name__ == "__main__":
    main()
