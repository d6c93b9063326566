"""The server: who may ask, and what its answers allow."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import errno
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import httpx
import numpy as np
import pytest

from analyzer.web.config import ServeConfig
from analyzer.web.server import _bound
from testkit.browser import chromium
from testkit.servers import serve as serve_files
from testkit.web import TOKEN, RunningServer, browser_page, serving

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with an empty folder."""
    with serving(tmp_path_factory.mktemp("runs")) as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[httpx.Client]:
    """A client with the token."""
    with server.client() as made:
        yield made


def test_a_token_is_needed_and_a_browser_gets_it_by_the_printed_address(server: RunningServer) -> None:
    with httpx.Client(base_url=server.url) as stranger:
        assert stranger.get("/api/openapi.json").status_code == 401
        wrong = stranger.get("/api/openapi.json", headers={"Authorization": "Bearer wrong"})
        assert wrong.status_code == 401
        asked = stranger.get("/?q=a", headers={"Accept": "text/html"})
        assert asked.status_code == 303
        assert asked.headers["location"].startswith("/login?next=/")
        assert stranger.get("/login", params={"token": "wrong"}).status_code == 403
        answer = stranger.get("/login", params={"token": TOKEN, "next": "//evil.test"})
        assert answer.headers["location"] == "/"
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=strict" in cookie and TOKEN not in cookie
        assert stranger.get("/").status_code == 200


def test_pages_load_nothing_from_elsewhere(client: httpx.Client) -> None:
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "<script>" not in answer.text and " style=" not in answer.text


@pytest.mark.parametrize("host", ["evil.test", "evil.test:80", "localhost.evil.test", ""])
def test_other_names_are_refused(client: httpx.Client, host: str) -> None:
    answer = client.get("/healthz", headers={"Host": host})
    assert answer.status_code in (400, 403)


@pytest.mark.parametrize("origin", ["http://evil", "null", "http://127.0.0.1:1", "https://localhost"])
def test_requests_of_other_sites_are_refused(client: httpx.Client, origin: str) -> None:
    assert client.post("/login", data={"token": TOKEN}, headers={"Origin": origin}).status_code == 403
    assert client.delete("/api/jobs/0", headers={"Origin": origin}).status_code == 403


def test_a_cookie_alone_changes_nothing(server: RunningServer) -> None:
    with httpx.Client(base_url=server.url) as visitor:
        visitor.get("/login", params={"token": TOKEN})
        assert visitor.delete("/api/jobs/0").status_code == 403
        assert visitor.delete("/api/jobs/0", headers={"Origin": server.url}).status_code in (404, 405)


def test_a_second_server_on_one_folder_says_so(server: RunningServer) -> None:
    command = [sys.executable, str(ROOT / "cli.py"), "serve", "--port", "0", "--out", str(server.out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=os.environ)
    assert done.returncode == 75
    assert done.stderr.count("\n") == 1 and "another server is running" in done.stderr


def test_a_port_that_is_taken_is_named(server: RunningServer, tmp_path: Path) -> None:
    port = server.url.rpartition(":")[2]
    command = [sys.executable, str(ROOT / "cli.py"), "serve", "--port", port, "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=os.environ)
    assert done.returncode == 75
    assert f"port {port}" in done.stderr and "--port" in done.stderr


def test_answers_are_sent_at_once(tmp_path: Path) -> None:
    with (
        _bound(ServeConfig(tmp_path, port=0)) as listening,
        socket.create_connection(listening.getsockname()),
    ):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_the_home_page_in_a_browser(server: RunningServer) -> None:
    with chromium() as browser, browser_page(browser, server) as page:
        assert page.locator("h1").inner_text() == "Runs"
        assert page.url == f"{server.url}/"


def test_an_unknown_run_is_not_found(client: httpx.Client) -> None:
    answer = client.get("/api/runs/000000000000")
    assert answer.status_code == 404
    assert "no such run" in answer.json()["error"]
    assert client.get("/api/runs").json() == {"total": 0, "size_bytes": 0, "runs": []}


@pytest.mark.parametrize(
    "settings",
    [
        {"gender_model": "/etc/passwd"},
        {"detector": "x"},
        {"device": "cuda"},
        {"keep_embeddings": True},
        {"fps": -1},
        {"limit": 3},
        {"no": 1},
    ],
)
def test_settings_cannot_name_what_is_the_servers(client: httpx.Client, settings: dict[str, Any]) -> None:
    answer = client.post("/api/jobs", json={"url": "https://example.org/a.mp4", "settings": settings})
    assert answer.status_code == 422
    assert answer.json()["error"]


@pytest.mark.parametrize("folder", ["../x", "/etc", ".web/media", "a/../b", "a\\b", "~", "x" * 300])
def test_folders_stay_inside(client: httpx.Client, folder: str) -> None:
    answer = client.post("/api/jobs", json={"url": "https://example.org/a.mp4", "folder": folder})
    assert answer.status_code == 422 or folder == "/etc"  # which is the folder etc of the runs
    if answer.status_code == 201:
        client.delete(f"/api/jobs/{answer.json()['id']}")


def test_addresses_that_are_not_public_are_refused(client: httpx.Client) -> None:
    with serve_files() as canary:
        port = canary.server_address[1]
        hosts = [
            *("127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "0", "[::1]", "localhost"),
            *("[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "169.254.169.254", "100.64.0.1"),
        ]
        addresses = [f"http://{host}:{port}/a.mp4" for host in hosts]
        addresses += ["file:///etc/passwd", "ftp://example.org/a.mp4", "data:video/mp4,a", "concat:a|b"]
        addresses += [
            "subfile,,start,0,end,9,,:x",
            "pipe:0",
            "lavfi",
            "-o/x",
            "ytsearch:x",
            "0",
            "/etc/passwd",
        ]
        for address in addresses:
            answer = client.post("/api/jobs", json={"url": address})
            assert answer.status_code == 422, address
        assert not canary.connections


def test_websockets_of_other_sites_are_refused(server: RunningServer) -> None:
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    address = server.url.replace("http", "ws") + "/api/live"
    token = {"Authorization": f"Bearer {TOKEN}"}
    for origin, headers in (("http://evil", token), ("null", token), (server.url, {}), (None, {})):
        with pytest.raises(InvalidStatus) as told:
            connect(address, origin=origin, additional_headers=headers)
        assert told.value.response.status_code == 403


def test_many_wrong_tokens_are_slowed_down(tmp_path: Path) -> None:
    with serving(tmp_path) as running, httpx.Client(base_url=running.url) as stranger:
        answers = [
            stranger.get("/api/runs", headers={"Authorization": f"Bearer {number}"}).status_code
            for number in range(30)
        ]
        assert answers[0] == 401 and answers[-1] == 429
        assert stranger.get("/healthz").status_code == 200
        assert not [line for line in running.lines if TOKEN in line]


def test_runs_are_found_once_until_they_change(tmp_path: Path) -> None:
    from analyzer.web.runs import RunIndex, UnknownRunError
    from testkit.runs import make_run, random_plan

    plan = random_plan(np.random.default_rng(1), length_s=20, people=3, concurrent=1)
    names = ("b/one", "news/two", "three")
    for number, name in enumerate(names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        make_run(tmp_path / name, plan, title=f"Talk {number}", uploaded=f"2026-11-0{3 - number}")
    (tmp_path / ".web").mkdir()
    make_run(tmp_path / ".web" / "hidden", plan)
    index = RunIndex(tmp_path, clock=iter(range(0, 1000, 10)).__next__)
    assert [run.title for run in index.find(sort="title", descending=False)] == ["Talk 0", "Talk 1", "Talk 2"]
    assert [run.day for run in index.find(sort="day")] == ["2026-11-03", "2026-11-02", "2026-11-01"]
    assert [run.where for run in index.find(search="TALK news", sort="title")] == ["news"]
    (found,) = index.find(search="2026-11-02")
    assert index.get(found.id).folder == tmp_path / "news" / "two"
    with patch("analyzer.web.runs.read_run_info", side_effect=AssertionError("read again")):
        assert len(index.entries(fresh=True)) == 3
    (tmp_path / "news" / "two" / "corrections.json").write_text("[]")
    assert next(run for run in index.entries(fresh=True) if run.id == found.id).corrected
    (tmp_path / "three" / "run.json").write_text("{")
    assert len(index.entries(fresh=True)) == 2
    found = index.get(found.id)
    assert found.stamp() == (tmp_path / "news" / "two" / "run.json").stat().st_mtime_ns
    shutil.rmtree(tmp_path / "news")
    with pytest.raises(UnknownRunError):
        index.get(found.id)
    with pytest.raises(UnknownRunError):  # a request that was answered meanwhile
        found.stamp()


def test_runs_made_here_are_deleted_after_their_time(tmp_path: Path) -> None:
    from analyzer.web.service import Service
    from testkit.runs import make_run, random_plan

    plan = random_plan(np.random.default_rng(1), length_s=20, people=3, concurrent=1)
    ours, theirs, young = (make_run(tmp_path / name, plan) for name in ("ours", "theirs", "young"))
    for folder in (ours, theirs):
        info = json.loads((folder / "run.json").read_text("utf-8"))
        (folder / "run.json").write_text(json.dumps(info | {"analyzed_at": "2026-01-01T00:00:00+00:00"}))
    info = json.loads((young / "run.json").read_text("utf-8"))
    now = datetime.datetime.now(datetime.UTC).isoformat()
    (young / "run.json").write_text(json.dumps(info | {"analyzed_at": now}))
    service = Service(ServeConfig(tmp_path, keep_days=30, allow_private_addresses=True))
    service.jobs._trash.mkdir(parents=True)
    made = {str(folder): [object()] for folder in (ours, young)}
    with patch.object(service.jobs, "by_run", return_value=made), patch.object(service.jobs, "_discard"):
        assert service.delete_old() == 1
    service.tasks.close()
    assert not ours.exists() and theirs.exists() and young.exists()
    assert not list(service.jobs._trash.iterdir())


def test_a_run_is_deleted_with_its_previews_unless_it_is_being_written(tmp_path: Path) -> None:
    from analyzer.util.locks import run_lock
    from analyzer.web.jobs import BusyError
    from analyzer.web.service import Service
    from testkit.runs import make_run, random_plan

    make_run(tmp_path / "run", random_plan(np.random.default_rng(1), length_s=20, people=3, concurrent=1))
    service = Service(ServeConfig(tmp_path, allow_private_addresses=True))
    service.jobs._trash.mkdir(parents=True)
    (run,) = service.runs.entries()
    ours, gone = service.previews(run), service.previews(run).with_name("0" * 12)
    for folder in (ours, gone):
        folder.mkdir(parents=True)
        (folder / "preview.mp4").touch()
        (folder / ".0123456789ab.mp4").touch()
    service.remove_old_previews()  # as at the start, after a kill
    assert not gone.exists() and [path.name for path in ours.iterdir()] == ["preview.mp4"]
    with run_lock(run.folder), pytest.raises(BusyError, match="being written"):
        service.delete_run(run)
    assert run.folder.exists() and ours.exists()

    def killed(folder: Path) -> None:
        raise KeyboardInterrupt

    with patch.object(service.jobs, "delete_run", killed), pytest.raises(KeyboardInterrupt):
        service.delete_run(run)
    assert run.folder.exists() and not ours.exists()
    service.delete_run(run)
    service.tasks.close()
    assert not run.folder.exists() and not list(service.jobs._trash.iterdir())


def test_a_job_that_cannot_be_read_is_left_at_the_start(tmp_path: Path) -> None:
    from analyzer.web.jobs import JobService

    folder = tmp_path / ".web" / "media" / "0123456789ab"
    folder.mkdir(parents=True)
    (folder / "job.json").write_text('{"id": "0123456789ab", "of_a_newer_version": 1}')
    (folder / "0001.mp4").write_bytes(b"upload")
    service = JobService(ServeConfig(tmp_path))
    with patch.object(JobService, "_work"), contextlib.closing(asyncio.new_event_loop()) as loop:
        service.start(loop)
        service.stop()
    assert service.jobs() == [] and (folder / "0001.mp4").read_bytes() == b"upload"


@pytest.mark.parametrize("written", [0, 1])
def test_an_upload_that_fills_the_disk_leaves_nothing(written: int, tmp_path: Path) -> None:
    """Also if only its second video does not fit."""
    from analyzer.settings import Settings
    from analyzer.web.jobs import JobService, Record
    from analyzer.web.uploads import Uploaded, UploadedFile

    service, write, left = JobService(ServeConfig(tmp_path)), Record.write, [written]

    def write_some(record: Record, path: Path) -> None:
        if not left[0]:
            raise OSError(errno.ENOSPC, "no space")
        left[0] -= 1
        write(record, path)

    with patch.object(JobService, "_work"), contextlib.closing(asyncio.new_event_loop()) as loop:
        service.start(loop)
        folder = service.incoming()
        files = []
        for name in ("0001.mp4", "0002.mp4"):
            (folder / name).write_bytes(name.encode())
            files.append(UploadedFile(folder / name, name, 8, image=False))
        with patch.object(Record, "write", write_some), pytest.raises(OSError, match="no space"):
            service.add_upload(Uploaded(files), Settings(), "")
        assert left == [0]
        shutil.rmtree(folder)
        service.stop()
    assert service.jobs() == [] and not list((tmp_path / ".web").rglob("*.mp4"))


def test_the_same_video_twice_in_an_upload_is_one_job(tmp_path: Path) -> None:
    from analyzer.settings import Settings
    from analyzer.web.jobs import JobService
    from analyzer.web.uploads import Uploaded, UploadedFile

    service = JobService(ServeConfig(tmp_path))
    with patch.object(JobService, "_work"), contextlib.closing(asyncio.new_event_loop()) as loop:
        service.start(loop)
        folder = service.incoming()
        files = []
        for name in ("0001.mp4", "0002.mp4"):
            (folder / name).write_bytes(b"upload")
            files.append(UploadedFile(folder / name, name, 6, image=False))
        first, second = service.add_upload(Uploaded(files), Settings(), "")
        shutil.rmtree(folder)
        service.stop()
    assert first is second and service.jobs() == [first]
    assert len(list((tmp_path / ".web").rglob("*.mp4"))) == 1


def test_pages_that_follow_a_job_are_limited() -> None:
    from analyzer.web.jobs import BusyError
    from analyzer.web.routes.jobs import job_events

    job: Any = SimpleNamespace(changed=set(), final=False, work=None)
    jobs = SimpleNamespace(document=lambda job: {"id": "1", "run": None})

    async def follow() -> None:
        service: Any = SimpleNamespace(streams=asyncio.Semaphore(1), jobs=jobs)
        first = (await job_events(job, service)).body_iterator
        await anext(aiter(first))
        with pytest.raises(BusyError, match="try again"):
            await job_events(job, service)
        await first.aclose()  # type: ignore[attr-defined]
        await anext(aiter((await job_events(job, service)).body_iterator))

    asyncio.run(follow())
