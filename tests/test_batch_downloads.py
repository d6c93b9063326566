"""Downloads on machines of an executor, as the scheduler sees them, and how many there are at a time."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from analyzer.batch.config import Filters, Jobs, Pace, Retry, jobs_of
from analyzer.batch.context import default_fetcher
from analyzer.batch.executors.base import Downloader, FetcherMaker, MachineLostError
from analyzer.batch.executors.inline import InlineExecutor
from analyzer.batch.executors.node_downloads import NodeDownloads, Order, Update
from analyzer.batch.ledger import Ledger
from analyzer.batch.log import OnEvent, ignore
from analyzer.batch.outcome import Outcome
from analyzer.batch.protocol import JobEvent, JobSpec, ProtocolError, SourceLost, decode_event, encode
from analyzer.batch.scheduler import Scheduler, Stop
from analyzer.runs.derive import work_key
from analyzer.settings import Settings
from analyzer.sources.resolve import Fetcher
from analyzer.sources.types import Item, MediaKind, Video
from testkit import faults
from testkit.media import numbered, write_video
from testkit.servers import Server, scripted, serve
from tests.batch_faults import Quick, marked
from tests.test_batch_executors import job


class Machines:
    """A `Downloader` with a folder in place of machines."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[Path, Path] = {}
        self.asked: list[str] = []
        self.released: list[Path] = []
        self.losses = 0
        """How many of the next downloads are lost."""
        self.can = True
        self.near: set[Path] = set()
        """The folders whose videos have a free machine."""

    def fetch(
        self, maker: FetcherMaker, settings: Settings, item: Item, folder: Path, **calls: Any
    ) -> Video | None:
        if not self.can:
            return None
        self.asked.append(item.source)
        if self.losses:
            self.losses -= 1
            raise MachineLostError("node1 was lost while it downloaded: its process ended", "node1")
        there = self._folder / folder.name
        shutil.rmtree(there, ignore_errors=True)
        there.mkdir(parents=True)
        made = maker(settings, calls.pop("on_progress"))
        video = made.fetch(item, there, **calls)
        self._held[folder] = there
        return replace(video, paths=tuple(folder / path.name for path in video.paths))

    def node_of(self, folder: Path) -> str | None:
        return "node1" if folder in self._held else None

    def nearest(self, folders: Iterable[Path]) -> Path | None:
        return next((folder for folder in folders if folder in self.near), None)

    def release(self, folder: Path) -> None:
        if (there := self._held.pop(folder, None)) is not None:
            self.released.append(folder)
            shutil.rmtree(there)

    def there(self, path: Path) -> Path:
        """Where a file is."""
        return self._held[path.parent] / path.name if path.parent in self._held else path


class Cluster(InlineExecutor):
    """An executor whose machines download."""

    def __init__(self, machines: Machines, slots: int = 1) -> None:
        super().__init__(slots, slots, analyzers=Quick)
        self.downloader: Downloader = machines  # type: ignore[assignment]
        self.machines = machines
        self.submitted: list[str] = []
        self.lost = 0
        """How many of the next jobs lose their videos."""
        self._ended: list[JobEvent] = []

    def submit(self, spec: JobSpec) -> None:
        self.submitted.append(spec.video.source)
        if self.lost:
            self.lost -= 1
            self._ended.append(SourceLost(spec.job_id, "node1", "node1, which had downloaded it, was lost"))
            return
        paths = tuple(self.machines.there(path) for path in spec.video.paths)
        super().submit(replace(spec, video=replace(spec.video, paths=paths)))

    def events(self, timeout_s: float) -> Iterable[JobEvent]:
        ended, self._ended = self._ended, []
        return ended or super().events(timeout_s)


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as made:
        yield made


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", numbered(5), fps=5)


@pytest.fixture
def machines(tmp_path: Path) -> Machines:
    return Machines(tmp_path / "machine")


def jobs_for(addresses: list[str], out: Path, **more: Any) -> Jobs:
    settings = more.pop("settings", Settings(video=False))
    known = {"pace": Pace(pause_s=(0, 0)), "retry": Retry(patience_s=0), "report": (), "reserve_mb": 0}
    return jobs_of(addresses, settings, out=out, **known | more)


def run(jobs: Jobs, executor: Any, on_event: OnEvent = ignore, **more: Any) -> Outcome:
    try:
        return Scheduler(jobs, executor, on_event=on_event, **more).run()
    finally:
        executor.close()


def history(jobs: Jobs) -> dict[str, Any]:
    with Ledger(jobs.ledger, read_only=True) as ledger:
        return ledger.history(1)


def outcomes(jobs: Jobs) -> list[str]:
    return [one["outcome"] for one in history(jobs)["attempts_list"]]


# --- where a video is downloaded -----------------------------------------------------------------------


def test_a_direct_address_is_downloaded_by_a_machine_and_released(
    server: Server, clip: Path, machines: Machines, tmp_path: Path
) -> None:
    address = server.add("/a.mp4", clip)
    jobs, here = jobs_for([address], tmp_path / "out"), jobs_for([address], tmp_path / "here")
    seen: list[str] = []

    def on_event(name: str, id: int | None, facts: dict[str, Any]) -> None:
        seen.append(name)
        if name == "downloaded":
            assert not any(jobs.out.rglob("*.mp4")), "nothing of it is on this machine"
            assert facts["size_bytes"] == clip.stat().st_size

    assert run(jobs, Cluster(machines), on_event).done == 1
    assert machines.asked == [address] and "downloading" in seen
    assert [one["node"] for one in faults.events(jobs.out, "downloaded")] == ["node1"]
    assert len(machines.released) == 1 and not (jobs.out / ".batch-downloads").exists()
    assert run(here, InlineExecutor(analyzers=Quick)).done == 1
    documents = [json.loads(next(one.out.glob("*/run.json")).read_bytes()) for one in (jobs, here)]
    assert documents[0] == documents[1]


@pytest.mark.parametrize("why", ["kept", "media", "no machine"])
def test_what_this_machine_downloads(
    why: str, server: Server, clip: Path, machines: Machines, tmp_path: Path
) -> None:
    jobs = jobs_for([server.add("/a.mp4", clip)], tmp_path / "out")
    (source,) = jobs.sources
    match why:
        case "kept":
            source = replace(source, settings=source.settings.replace(keep_download=True))
        case "media":
            source = replace(source, media=tmp_path / "media")
        case _:
            machines.can = False
    assert run(replace(jobs, sources=(source,)), Cluster(machines)).done == 1
    assert machines.asked == []


def test_which_addresses_are_direct(tmp_path: Path) -> None:
    fetcher = Fetcher(Settings(), want_audio=False, extractors=[scripted(a={})])

    def is_direct(source: str, **more: Any) -> bool:
        return fetcher.is_direct(Item(source, MediaKind.VIDEO, **more))

    assert is_direct("https://example.org/archive/0001.mp4")
    assert is_direct("http://127.0.0.1:8080/a.mp4")
    assert not is_direct("https://scripted.test/a")
    assert not is_direct("https://www.youtube.com/watch?v=aaaaaaaaaaa")
    assert not is_direct("https://example.org/a.mp4", entry={"_type": "url"}), "it has no address of its own"
    assert not is_direct(str(tmp_path / "a.mp4"), paths=(tmp_path / "a.mp4",))


def test_filters_apply_once_the_address_has_answered(
    server: Server, clip: Path, machines: Machines, tmp_path: Path
) -> None:
    address = server.add("/a.mp4", clip)
    jobs = jobs_for([address], tmp_path / "out", filters=Filters(not_title="^a$"))
    assert run(jobs, Cluster(machines)).filtered == 1
    assert machines.asked == [address] and history(jobs)["state"] == "skipped"


# --- machines that are lost ----------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["downloading", "downloaded"])
def test_a_lost_machine_is_not_the_videos_failure(
    when: str, server: Server, clip: Path, machines: Machines, tmp_path: Path
) -> None:
    address = server.add("/a.mp4", clip)
    jobs, executor = jobs_for([address], tmp_path / "out"), Cluster(machines)
    machines.losses, executor.lost = (4, 0) if when == "downloading" else (0, 4)
    outcome = run(jobs, executor)
    assert outcome.done == 1 and outcome.well
    assert outcomes(jobs) == ["deferred"] * 4 + ["done"] and machines.asked == [address] * 5
    found = history(jobs)
    assert found["consecutive_failures"] == found["interrupted"] == 0
    moved = faults.events(jobs.out, "moved")
    assert [one["node"] for one in moved] == ["node1"] * 4 and "was lost" in moved[0]["reason"]
    assert len(machines.released) == (1 if when == "downloading" else 5)


@pytest.mark.parametrize("when", ["downloading", "downloaded"])
def test_a_video_that_is_lost_again_and_again_fails(
    when: str, server: Server, clip: Path, machines: Machines, tmp_path: Path
) -> None:
    jobs, executor = jobs_for([server.add("/a.mp4", clip)], tmp_path / "out"), Cluster(machines)
    machines.losses, executor.lost = (5, 0) if when == "downloading" else (0, 5)
    assert run(jobs, executor).done == 0
    found = history(jobs)
    assert (found["state"], found["error_kind"], found["consecutive_failures"]) == ("failed", "lost", 1)
    assert "lost again and again (node1" in found["error"]
    assert len(machines.asked) == 5 and len(machines.released) == (0 if when == "downloading" else 5)


def test_workers_do_not_say_that_a_video_is_lost(tmp_path: Path) -> None:
    spec = job(tmp_path)
    with pytest.raises(ProtocolError, match="does not know"):
        decode_event(encode(SourceLost(spec.job_id, "node1", "gone")), spec, cancelled=True)


# --- the end of a batch run ----------------------------------------------------------------------------


def test_what_machines_hold_at_the_end_is_downloaded_again_by_the_next_run(
    server: Server, clip: Path, machines: Machines, tmp_path: Path
) -> None:
    slow = marked(clip, "slow")
    addresses = [server.add(f"/{number}.mp4", slow) for number in range(2)]
    jobs, stop = jobs_for(addresses, tmp_path / "out"), Stop()

    def on_event(name: str, id: int | None, facts: dict[str, Any]) -> None:
        if name == "downloaded":
            stop.request()

    outcome = run(jobs, Cluster(machines), on_event, stop=stop)
    assert (outcome.reason, outcome.done, outcome.left) == ("stopped", 0, 2)
    assert history(jobs)["state"] == "new"
    assert run(jobs, Cluster(Machines(tmp_path / "other"))).done == 2


# --- how many at a time, and in which order --------------------------------------------------------------


@pytest.mark.parametrize("per_host", [1, 2])
def test_downloads_from_one_host_at_the_same_time(
    per_host: int, server: Server, clip: Path, machines: Machines, tmp_path: Path
) -> None:
    addresses = [server.add(f"/{number}.mp4", clip) for number in range(4)]
    pace = Pace(pause_s=(0, 0), per_host=per_host)
    jobs = jobs_for(addresses, tmp_path / "out", pace=pace, downloads=4)
    now: set[int] = set()
    together: list[int] = []

    def on_event(name: str, id: int | None, facts: dict[str, Any]) -> None:
        assert id is not None or name not in ("started", "downloaded")
        if name == "started":
            now.add(id or 0)
            together.append(len(now))
        elif name == "downloaded":
            now.discard(id or 0)

    assert run(jobs, Cluster(machines), on_event).done == 4
    assert max(together) == per_host


def test_a_video_whose_machine_is_free_goes_first(
    server: Server, clip: Path, machines: Machines, tmp_path: Path
) -> None:
    addresses = [server.add(f"/{number}.mp4", clip) for number in range(4)]
    pace = Pace(pause_s=(0, 0), per_host=4)
    jobs = jobs_for(addresses, tmp_path / "out", pace=pace, downloads=4)
    executor = Cluster(machines)
    free = jobs.out / ".batch-downloads" / "4"
    waits = executor.submit

    def submit(spec: JobSpec) -> None:
        machines.near.add(free)
        deadline = time.monotonic() + 20
        while not executor.submitted and machines.node_of(free) is None and time.monotonic() < deadline:
            time.sleep(0.01)  # its download may end last
        waits(spec)

    executor.submit = submit  # type: ignore[method-assign]
    scheduler = Scheduler(jobs, executor)
    assert scheduler.run().done == 4
    executor.close()
    last = executor.submitted.index(addresses[3])
    assert last < 3, executor.submitted


# --- files that change ---------------------------------------------------------------------------------


def test_segments_of_a_file_that_has_changed_at_its_address_are_not_used(
    server: Server, clip: Path, tmp_path: Path
) -> None:
    """Not even if its size is the same: another machine may get another file."""

    def fetched(name: str) -> Video:
        folder = tmp_path / name
        folder.mkdir()
        return Fetcher(Settings(), want_audio=False).fetch(Item(address, MediaKind.VIDEO), folder)

    models: Any = SimpleNamespace(key="models")
    address = server.add("/a.mp4", clip)
    first, same = fetched("first"), fetched("same")
    server.add("/a.mp4", clip.read_bytes()[:-1] + b"x")
    other = fetched("other")
    keys = [work_key(each, Settings(), models) for each in (first, same, other)]
    assert keys[0] == keys[1] != keys[2] and first.video_id == other.video_id


# --- what downloads on a machine -----------------------------------------------------------------------


def test_a_download_that_was_released_before_it_began_asks_nothing(server: Server, tmp_path: Path) -> None:
    """Ray may run the two calls in any order."""
    server.add("/clip.mp4", write_video(tmp_path / "clip.mp4", numbered(2), fps=5))
    item = Item(server.url("/clip.mp4"), MediaKind.VIDEO)
    with contextlib.closing(NodeDownloads(str(tmp_path / "scratch"))) as downloads:
        downloads.release(1)
        for number in (1, 2):
            downloads.begin(Order(number, default_fetcher, Settings(), item))
        updates: list[Update] = []
        while not updates:
            updates = downloads.poll(2, 10)
        assert updates[0].candidate is not None
        with pytest.raises(KeyError):
            downloads.poll(1, 0)
