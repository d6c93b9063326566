"""The server under load: the list of a thousand runs, requests while a job runs, the weight of pages.

Writes its section of ``docs/performance.md``, between its marks.

    python -m benchmarks.web [--rounds 5] [--runs 1000] [--seconds 5]

With another number of runs, the section is printed and not written.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import psutil

from benchmarks.reports import PAGE, kept_section
from testkit.demo import write_demo
from testkit.runs import make_run, random_plan
from testkit.web import RunningServer, serving

MARKS = "<!-- web -->\n", "<!-- /web -->\n"
RUNS = 1000
MOST_LIST_MS, LEAST_PER_S, MOST_KB, MOST_MB = 100.0, 200.0, 300.0, 600.0
_CLIENTS = 4
_PAGES = ("/", "/api/docs", "/compare", "/live")
_VIDEO_S = 60.0


def make_runs(out: Path, count: int) -> None:
    """Copies of one made run that differ in id, title and day."""
    made = make_run(out / "run-0", random_plan(np.random.default_rng(3), length_s=60, people=5, concurrent=2))
    info = json.loads((made / "run.json").read_text("utf-8"))
    for number in range(1, count):
        folder = out / f"run-{number}"
        folder.mkdir()
        for path in made.iterdir():
            if path.name != "run.json":
                shutil.copy(path, folder)
        changed = {"video_id": f"made-{number}", "title": f"Made run {number}"}
        (folder / "run.json").write_text(json.dumps(info | changed), "utf-8")


def timed_ms(client: httpx.Client, path: str, rounds: int) -> list[float]:
    """Milliseconds of each request; between two, the server looks at the folders again."""
    found = []
    for _ in range(rounds):
        time.sleep(0.6)
        began = time.perf_counter()
        client.get(path).raise_for_status()
        found.append(1000 * (time.perf_counter() - began))
    return found


def per_second(server: RunningServer, path: str, seconds: float) -> tuple[float, int]:
    """Requests a second of several clients together, and how many were not answered well."""
    until = time.monotonic() + seconds
    counts, failed = [0] * _CLIENTS, [0] * _CLIENTS

    def ask(number: int) -> None:
        with server.client() as client:
            while time.monotonic() < until:
                good = client.get(path).status_code == 200
                counts[number] += good
                failed[number] += not good

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(_CLIENTS)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.monotonic() - began), sum(failed)


def weight_kb(client: httpx.Client, path: str) -> float:
    """What a page and everything that it names weigh, in kB."""
    text = client.get(path, follow_redirects=True).text
    total, seen, waiting = len(text.encode()), set(), [text]
    while waiting:
        for found in _named(waiting.pop()):
            if found not in seen:
                seen.add(found)
                answer = client.get(found)
                if answer.status_code == 200:
                    total += len(answer.content)
                    if found.endswith((".mjs", ".js", ".css")):
                        waiting.append(answer.text)
    return total / 1000


def _named(text: str) -> set[str]:
    import re

    return {
        found if found.startswith("/") else f"/static/{found.removeprefix('./')}"
        for found in re.findall(r"""["'](/static/[\w/.-]+|\./[\w-]+\.mjs)["']""", text)
    }


def main() -> None:
    """Measure, and write or print the section."""
    parser = argparse.ArgumentParser(description="Write the section on the server of docs/performance.md.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--seconds", type=float, default=5.0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "runs"
        out.mkdir()
        make_runs(out, chosen.runs)
        video = Path(folder) / "video.mp4"
        write_demo(video, _VIDEO_S)
        with serving(out, "--workers", "1") as server, server.client() as client:
            began = time.perf_counter()
            client.get("/api/runs?limit=1000").raise_for_status()
            first_ms = 1000 * (time.perf_counter() - began)
            listed = timed_ms(client, f"/api/runs?limit={chosen.runs}", 4 * chosen.rounds)
            home = timed_ms(client, "/", 4 * chosen.rounds)
            weights = {path: weight_kb(client, path) for path in _PAGES}
            client.post("/api/jobs", files={"file": video.read_bytes()}).raise_for_status()
            process = psutil.Process(server.process.pid)
            before = sum(process.cpu_times()[:2])
            rates = [per_second(server, "/api/runs", chosen.seconds) for _ in range(chosen.rounds)]
            used_s = sum(process.cpu_times()[:2]) - before
            each_ms = 1000 * used_s / (chosen.seconds * sum(rate for rate, _ in rates))
            memory_mb = process.memory_info().rss / 1e6
    heaviest = max(weights, key=lambda path: weights[path])
    rows = [
        _row(f"list of {chosen.runs:,} runs, all in one answer", f"under {MOST_LIST_MS:g} ms", listed, "ms"),
        ("the same, the first time", "", f"**{first_ms:.0f}** ms", ""),
        _row("home page, 100 of them", "", home, "ms"),
        (
            f"answers a second while a job runs ({_CLIENTS} clients, 100 runs each)",
            f"at least {LEAST_PER_S:g}",
            _span([rate for rate, _ in rates], ""),
            _met(statistics.median(rate for rate, _ in rates) >= LEAST_PER_S),
        ),
        ("processor time of the server for each", "", f"**{each_ms:.1f}** ms", ""),
        ("of these, errors", "0", f"**{sum(failed for _, failed in rates)}**", ""),
        (
            f"heaviest page (`{heaviest}`)",
            f"under {MOST_KB:g} kB",
            f"**{weights[heaviest]:.0f}** kB",
            _met(weights[heaviest] < MOST_KB),
        ),
        (
            "memory of the server",
            f"under {MOST_MB:g} MB",
            f"**{memory_mb:.0f}** MB",
            _met(memory_mb < MOST_MB),
        ),
    ]
    text = "\n".join(
        [
            "## The server",
            "",
            f"Written by `benchmarks/web.py`: a folder of {chosen.runs:,} made runs, and a server that "
            f"shares its processors with the clients and the job. Rounds: {chosen.rounds}. Load of the "
            f"machine when it ended: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors.",
            "",
            "| what | target | measured (lowest to highest) |  |",
            "| --- | --- | --- | --- |",
            *(f"| {' | '.join(row)} |" for row in rows),
            "",
        ]
    )
    print(text)
    if chosen.runs == RUNS:
        page = PAGE.read_text("utf-8")
        block = MARKS[0] + text + MARKS[1]
        old = kept_section(page, MARKS)
        PAGE.write_text(page.replace(old, block) if old else f"{page}\n{block}", encoding="utf-8")


def _row(what: str, target: str, values: list[float], unit: str) -> tuple[str, str, str, str]:
    met = _met(statistics.median(values) < MOST_LIST_MS) if target else ""
    return what, target, _span(values, unit), met


def _span(values: list[float], unit: str) -> str:
    return f"**{statistics.median(values):.0f}** {unit} ({min(values):.0f} to {max(values):.0f})".replace(
        "  ", " "
    )


def _met(is_met: bool) -> str:
    return "met" if is_met else "not met"


if __name__ == "__main__":
    main()
