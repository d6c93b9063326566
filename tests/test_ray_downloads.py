"""Videos that the machines of a Ray cluster download themselves: the results are those of this machine."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from analyzer.batch.config import Jobs, Pace, Retry, jobs_of, load_jobs
from analyzer.batch.context import default_fetcher
from analyzer.batch.executors import ray_downloads
from analyzer.batch.executors.base import WorkerState
from analyzer.batch.executors.local import LocalExecutor
from analyzer.batch.executors.ray import RayExecutor
from analyzer.batch.executors.ray_cluster import Needs
from analyzer.batch.executors.ray_downloads import HeldVideo, RayDownloads
from analyzer.batch.fetching import Downloads
from analyzer.batch.ledger import Ledger
from analyzer.batch.run import run_batch
from analyzer.batch.scheduler import Scheduler
from analyzer.errors import OutputError
from analyzer.settings import Settings
from analyzer.sources.resolve import Fetcher
from analyzer.sources.types import Candidate, FetchProgress, Item, Video
from testkit import faults
from testkit.clusters import cluster
from testkit.faults import Bench, Result, make_video
from testkit.media import numbered, write_video
from testkit.ray_double import RayDouble, executor_without_ray
from testkit.servers import Handler, Server, serve
from tests.batch_faults import without_models

MEMORY_MB = 100

# Ray's workers have a low priority: on a busy machine, whatever else runs comes first.
pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The machines' folders for temporary files, ``0`` and ``1``."""
    return tmp_path_factory.mktemp("machines")


@pytest.fixture(scope="module")
def machines(folders: Path) -> Iterator[Any]:
    """Two of them without a common folder, each with room for one station."""
    with cluster(1, 1, apart=folders) as made:
        yield made


class Nodes:
    """Two machines without a common folder, each with room for one station."""

    def __init__(
        self, folder: Path, without_ray: Callable[..., tuple[RayExecutor, RayDouble]] | None = None
    ) -> None:
        self.folder = folder
        """For their temporary files."""
        self._without_ray = without_ray
        self._double: RayDouble | None = None

    @contextlib.contextmanager
    def executor(self) -> Iterator[RayExecutor]:
        if self._without_ray is None:
            with on_ray() as executor:
                yield executor
        else:
            executor, self._double = self._without_ray()
            with contextlib.closing(executor):
                until_idle(executor)
                yield executor

    def lose_downloads(self, executor: RayExecutor) -> list[int]:
        """Kill the actors that download; returns their numbers."""
        downloader = executor.downloader
        assert downloader is not None
        handles = [one.handle for one in downloader._machines.values() if one.handle]
        pids = [ray_downloads.ray.get(handle.facts.remote()).pid for handle in handles]
        for pid in pids:
            if self._double is None:
                os.kill(pid, signal.SIGKILL)
            else:
                self._double.lose(pid=pid)
        return pids


@pytest.fixture(params=["without Ray", pytest.param("Ray", marks=pytest.mark.slow)])
def nodes(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nodes:
    if request.param == "Ray":
        request.getfixturevalue("machines")
        return Nodes(request.getfixturevalue("folders"))
    more: Any = {"prepare": without_models, "fetch": "workers"}
    scratch = tmp_path / "scratch"
    make = functools.partial(executor_without_ray, monkeypatch, scratch, "a", "b", **more)
    return Nodes(scratch, make)


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as made:
        yield made


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", numbered(5), fps=5)


@contextlib.contextmanager
def on_ray(**more: Any) -> Iterator[RayExecutor]:
    known = {"cpus": 1, "memory_mb": MEMORY_MB, "fetch": "workers", "prepare": without_models}
    with contextlib.closing(RayExecutor(2, **known | more)) as executor:
        until_idle(executor)
        yield executor


def until_idle(executor: RayExecutor) -> None:
    while any(worker.state is not WorkerState.IDLE for worker in executor.workers()):
        assert list(executor.events(0.1)) == []


def jobs_for(addresses: list[str], out: Path, **more: Any) -> Jobs:
    settings = more.pop("settings", Settings(video=False))
    known = {"pace": Pace(pause_s=(0, 0)), "retry": Retry(patience_s=0), "report": (), "reserve_mb": 0}
    return jobs_of(addresses, settings, out=out, **known | more)


def left_in(folders: Path) -> list[str]:
    """What the machines have kept of videos."""
    return [str(path) for path in folders.rglob("*") if path.is_file() and path.suffix == ".mp4"]


def rows(jobs: Jobs) -> dict[str, tuple[Any, ...]]:
    """What the ledger says of each video that does not depend on the time."""
    with Ledger(jobs.ledger, read_only=True) as ledger:
        found = [ledger.history(number + 1) for number in range(len(jobs.sources))]
    names = "state", "error_kind", "error", "video_id", "title", "consecutive_failures", "attempts"
    return {one["source"]: tuple(one[name] for name in names) for one in found}


# --- results -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_spread_video_has_the_same_results(
    server: Server, folders: Path, machines: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One machine downloads it, the other one gets it from there: the site is asked once."""
    shares = "settings.threads", "settings.workers"
    monkeypatch.setattr(faults, "MAY_DIFFER", faults.MAY_DIFFER + shares)
    address = server.add("/talk.mp4", make_video(tmp_path / "talk.mp4", 7))
    settings = faults.SETTINGS.replace("segment = 2", "segment = 1") + "threads = 1\n"
    bench = Bench(tmp_path / "bench", [address], settings=settings)
    reference, asked = bench.reference, server.count("/talk.mp4")
    server.requests.clear()

    def fetch(self: Fetcher, *arguments: Any, **options: Any) -> Any:
        pytest.fail("this machine downloads")

    monkeypatch.setattr(Fetcher, "fetch", fetch)
    out = bench.fresh()
    with on_ray(prepare=None) as executor:
        outcome = run_batch(load_jobs(bench.jobs, out=out), executor=executor)
        assert outcome.done == 1
        assert left_in(folders) == []
    placed = faults.events(out, "placed")
    assert len({tuple(one["segments"] or ()) for one in placed}) > 3
    assert server.count("/talk.mp4") == asked
    result = Result("", "", "")
    result.compare(out, reference)
    result.analyzed_twice(out)
    assert "\n".join(result.words) == ""
    assert [one["node"] is not None for one in faults.events(out, "downloaded")] == [True]


def test_failures_are_those_of_downloads_to_this_machine(
    server: Server, nodes: Nodes, clip: Path, tmp_path: Path
) -> None:
    names = "fine", "gone", "half", "forbidden", "busy", "large", "text"
    server.add("/fine.mp4", clip)
    server.add_status("/forbidden.mp4", 403)
    server.add_cut("/half.mp4", clip.read_bytes())
    server.add_retry_after("/busy.mp4", 503, "3600")
    server.add("/large.mp4", b"\0" * 2_000_000)
    server.add("/text.mp4", b"<html>nothing</html>", "text/html")
    settings = Settings(video=False, max_size_mb=1, timeout_s=10)
    # The one that pauses its host comes last.
    addresses = [server.url(f"/{name}.mp4") for name in sorted(names, key=lambda name: name == "busy")]
    found: dict[str, Any] = {}
    with (
        nodes.executor() as executor,
        contextlib.closing(LocalExecutor(1, 1, prepare=without_models)) as local,
    ):
        for name, one in (("here", local), ("there", executor)):
            server.requests.clear()
            jobs = jobs_for(addresses, tmp_path / name, settings=settings)
            outcome = Scheduler(jobs, one).run()
            failed = [
                {key: event[key] for key in ("video", "event", "kind", "error", "attempt", "will_retry")}
                for event in (*faults.events(jobs.out, "failed"), *faults.events(jobs.out, "abandoned"))
            ]
            found[name] = outcome.done, rows(jobs), sorted(map(repr, failed)), sorted(server.requests)
    assert found["here"][0] == 1 and len(found["here"][2]) == len(names) - 1
    assert found["there"] == found["here"]


def embedding(settings: Settings, on_progress: Callable[[FetchProgress], None]) -> Fetcher:
    """As `default_fetcher`, but machines find that addresses lead to a site."""
    return _Embedding(settings, want_audio=False, on_progress=on_progress)


class _Embedding(Fetcher):
    def fetch(self, item: Item, folder: Path, **calls: Any) -> Video:
        if ray.get_runtime_context().get_actor_id() is not None:
            calls["accept"](Candidate("youtube-a", "A", None, None, None, None))
        return super().fetch(item, folder, **calls)


@pytest.mark.slow
def test_a_page_that_embeds_a_site_is_left_to_this_machine(
    server: Server, machines: Any, clip: Path, tmp_path: Path
) -> None:
    jobs = jobs_for([server.add("/a.mp4", clip)], tmp_path / "out")
    with on_ray() as executor:
        assert Scheduler(jobs, executor, fetchers=embedding).run().done == 1
        downloader = executor.downloader
        assert downloader is not None and [one.videos for one in downloader._machines.values()] == [0]
    (downloaded,) = faults.events(jobs.out, "downloaded")
    assert downloaded["node"] is None and server.count("/a.mp4") == 2


# --- hosts -------------------------------------------------------------------------------------------


def test_the_pace_of_hosts_holds_over_all_machines(
    nodes: Nodes, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one host no two at a time, with the pause between them; of two hosts side by side."""
    pause_s = 1.0
    monkeypatch.setattr(Downloads, "pause_s", lambda self: pause_s)
    times: dict[str, list[tuple[str, float, float]]] = {"a": [], "b": []}
    both = threading.Barrier(2)

    def served(host: str) -> Callable[[Handler], None]:
        def route(handler: Handler) -> None:
            began = time.monotonic()
            if not times[host]:
                with contextlib.suppress(threading.BrokenBarrierError):
                    both.wait(60)
            body = clip.read_bytes()
            handler.head(len(body))
            handler.wfile.write(body)
            with handler.server.lock:
                times[host].append((handler.path, began, time.monotonic()))

        return route

    with serve() as first, serve() as second, nodes.executor() as executor:
        addresses = []
        for number in range(3):
            for host, server in (("a", first), ("b", second)):
                server.routes[f"/{number}.mp4"] = served(host)
                addresses.append(server.url(f"/{number}.mp4"))
        jobs = jobs_for(addresses, tmp_path / "out", downloads=4)
        assert Scheduler(jobs, executor).run().done == 6
        homes = executor.downloader
        assert homes is not None and len(homes._machines) == 2, "both have downloaded"
    assert not both.broken, "two hosts are asked at the same time"
    for requests in times.values():
        assert len(requests) >= 3
        for (path, _, ended), (other, began, _) in itertools.pairwise(requests):
            assert began >= ended if path == other else began >= ended + pause_s, requests


# --- machines that are lost --------------------------------------------------------------------------


def test_an_actor_that_is_lost_while_it_downloads(
    server: Server, nodes: Nodes, clip: Path, tmp_path: Path
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    body = clip.read_bytes()

    def route(handler: Handler) -> None:
        handler.head(len(body))
        handler.wfile.write(body[:1000])
        handler.wfile.flush()
        if server.count("/a.mp4") >= 2:  # the first request is yt-dlp's look at the address
            begun.set()
            go_on.wait(60)
        handler.wfile.write(body[1000:])

    server.routes["/a.mp4"] = route
    jobs = jobs_for([server.url("/a.mp4")], tmp_path / "out")

    with nodes.executor() as executor:

        def kill() -> None:
            assert begun.wait(600)
            assert len(nodes.lose_downloads(executor)) == 1
            go_on.set()

        killer = threading.Thread(target=kill)
        killer.start()
        assert Scheduler(jobs, executor).run().done == 1
        killer.join()
    with Ledger(jobs.ledger, read_only=True) as ledger:
        history = ledger.history(1)
    assert [one["outcome"] for one in history["attempts_list"]] == ["deferred", "done"]
    (moved,) = faults.events(jobs.out, "moved")
    assert "was lost while it downloaded: its process ended unexpectedly" in moved["reason"]
    assert history["interrupted"] == history["consecutive_failures"] == 0


def test_a_video_whose_machine_is_lost_is_downloaded_again(
    server: Server, nodes: Nodes, clip: Path, tmp_path: Path
) -> None:
    """The stations of the other machine had still to get it."""
    address = server.add("/a.mp4", clip)
    jobs = jobs_for([address], tmp_path / "out")
    with nodes.executor() as executor:
        killed: list[int] = []

        def on_event(name: str, id: int | None, facts: dict[str, Any]) -> None:
            downloader = executor.downloader
            if name == "downloaded" and not killed and downloader is not None:
                (held,) = downloader._held.values()
                for actor in executor._actors:  # as if only that of the other machine were free
                    if actor.node_id == held.node_id:
                        actor.become(WorkerState.WORKING)
                killed.extend(nodes.lose_downloads(executor))

        assert Scheduler(jobs, executor, on_event=on_event).run().done == 1
    assert killed and len(faults.events(jobs.out, "downloaded")) == 2
    (moved,) = faults.events(jobs.out, "moved")
    assert "which had downloaded it, was lost: its process ended unexpectedly" in moved["reason"]


def test_a_video_that_its_machine_cannot_read_any_more_is_downloaded_again(
    server: Server, nodes: Nodes, clip: Path, tmp_path: Path
) -> None:
    """And nothing else of that machine is."""
    jobs = jobs_for([server.add("/a.mp4", clip)], tmp_path / "out")
    with nodes.executor() as executor:
        downloader, used = executor.downloader, list[Any]()
        assert downloader is not None

        def on_event(name: str, id: int | None, facts: dict[str, Any]) -> None:
            if name == "downloaded" and not used:
                (held,) = downloader._held.values()
                for actor in executor._actors:  # as if only that of the other machine were free
                    if actor.node_id == held.node_id:
                        actor.become(WorkerState.WORKING)
                (path,) = nodes.folder.rglob("*.mp4")
                path.unlink()
                used.append(held.machine)

        assert Scheduler(jobs, executor, on_event=on_event).run().done == 1
        assert used[0] in downloader._machines.values(), "it goes on"
    (moved,) = faults.events(jobs.out, "moved")
    assert "which had downloaded it, cannot read it any more: FileNotFoundError" in moved["reason"]


def test_the_video_whose_machine_is_free_is_found_at_once(tmp_path: Path) -> None:
    """However many wait: which machines are free is asked once."""
    asked: list[None] = []

    def idle() -> set[str]:
        asked.append(None)
        return {"b"}

    downloads = RayDownloads(Needs(1, 100, 0), None, list, idle)
    folders = [tmp_path / f"{number}" for number in range(9)]
    for number, folder in enumerate(folders):
        machine: Any = SimpleNamespace(node_id="b" if number > 6 else "a")
        downloads._held[folder] = HeldVideo(number, machine, ())
    assert downloads.nearest([tmp_path / "here", *folders]) == folders[7]
    assert downloads.nearest(folders[:7]) is None
    assert len(asked) == 2


@pytest.mark.slow
def test_segments_of_another_file_are_not_joined(
    server: Server, folders: Path, machines: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine with the file is lost, and the host sends another one by then."""
    shares = "settings.threads", "settings.workers"
    monkeypatch.setattr(faults, "MAY_DIFFER", faults.MAY_DIFFER + shares)
    old, new = (make_video(tmp_path / f"{number}.mp4", 7, number) for number in range(2))
    size = max(path.stat().st_size for path in (old, new))
    contents = [padded(path.read_bytes(), size) for path in (old, new)]
    settings = faults.SETTINGS.replace("segment = 2", "segment = 1") + "threads = 1\n"
    bench = Bench(tmp_path / "bench", [server.add("/talk.mp4", contents[1])], settings=settings)
    reference, out = bench.reference, bench.fresh()
    server.add("/talk.mp4", contents[0])
    with on_ray(prepare=None) as executor:
        killed: list[int] = []

        def on_event(name: str, id: int | None, facts: dict[str, Any]) -> None:
            downloader = executor.downloader
            if name == "segment_committed" and not killed and downloader is not None:
                server.add("/talk.mp4", contents[1])
                (held,) = downloader._held.values()
                stations = [actor for actor in executor._actors if actor.node_id == held.node_id]
                killed.extend(Nodes(folders).lose_downloads(executor))
                for pid in [one.facts.pid for one in stations if one.facts]:
                    os.kill(pid, signal.SIGKILL)

        outcome = run_batch(load_jobs(bench.jobs, out=out), executor=executor, on_event=on_event)
    assert outcome.done == 1 and killed
    assert len(faults.events(out, "downloaded")) == 2
    result = Result("", "", "")
    result.compare(out, reference)
    assert "\n".join(result.words) == ""


def padded(content: bytes, size: int) -> bytes:
    """A video with a box at its end that readers pass over, so that it has this size."""
    more = size + 100 - len(content)
    return content + more.to_bytes(4, "big") + b"free" + bytes(more - 8)


@pytest.mark.slow
def test_a_batch_that_is_killed_while_a_machine_downloads_is_run_again(
    server: Server, machines: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = "settings.threads", "settings.workers"
    monkeypatch.setattr(faults, "MAY_DIFFER", faults.MAY_DIFFER + shares)
    address = server.add("/talk.mp4", make_video(tmp_path / "talk.mp4", 5))
    bench = Bench(tmp_path / "bench", [address], settings=faults.SETTINGS + "threads = 1\n", gone_s=30)
    reference, out = bench.reference, bench.fresh()
    chosen = f'address = "{machines.address}"\ncpus = 1\nmemory_mb = {MEMORY_MB}\nfetch = "workers"\n'
    jobs = bench.folder / "ray.toml"
    jobs.write_text(bench.jobs.read_text() + f'[executor]\nkind = "ray"\n{chosen}')
    whole, begun, go_on = server.routes["/talk.mp4"], threading.Event(), threading.Event()
    server.requests.clear()

    def route(handler: Handler) -> None:
        if server.count("/talk.mp4") == 2:
            begun.set()
            go_on.wait(120)
        whole(handler)

    server.routes["/talk.mp4"] = route
    with bench.start(out, jobs=jobs) as batch:
        assert begun.wait(600)
        batch.process.kill()
        batch.process.wait()
    go_on.set()
    assert bench.run(out, jobs=jobs).code == faults.DONE
    assert [one["was"] for one in faults.events(out, "resumed")] == ["downloading"]
    result = Result("", "", "")
    result.compare(out, reference)
    assert "\n".join(result.words) == ""


def full_on_one(settings: Settings, on_progress: Callable[[FetchProgress], None]) -> Fetcher:
    """As `default_fetcher`, but the disk of a machine is full whose temporary folder says so."""
    if (Path(tempfile.gettempdir()) / "full").exists():
        return _Full(settings, want_audio=False)
    return default_fetcher(settings, on_progress)


class _Full(Fetcher):
    def fetch(self, *arguments: Any, **options: Any) -> Any:
        raise OutputError("no space is left", no_space=True)


@pytest.mark.slow
def test_a_full_disk_is_the_machines_failure(
    server: Server, folders: Path, machines: Any, clip: Path, tmp_path: Path
) -> None:
    addresses = [server.add(f"/{number}.mp4", clip) for number in range(3)]
    jobs = jobs_for(addresses, tmp_path / "out", downloads=1)
    (folders / "1" / "full").touch()
    try:
        with on_ray() as executor:
            assert Scheduler(jobs, executor, fetchers=full_on_one).run().done == 3
    finally:
        (folders / "1" / "full").unlink()
    assert all(
        "cannot download: no space is left" in one["reason"] for one in faults.events(jobs.out, "moved")
    )
    assert len(faults.events(jobs.out, "moved")) == 1, "that machine is not asked again"
