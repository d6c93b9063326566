"""Jobs of the server: uploads, addresses, their end, kills."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from PIL import Image

from testkit.demo import portraits
from testkit.media import png_bomb
from testkit.servers import serve as serve_files
from testkit.uploads import distinct, tiny_video
from testkit.web import TOKEN, RunningServer, serving

FINAL = ("done", "failed", "cancelled")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with a low limit of uploads, which may fetch from a server of the tests."""
    out = tmp_path_factory.mktemp("runs")
    options = "--max-upload-mb", "2", "--workers", "1", "--allow-private-addresses"
    with serving(out, *options) as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[httpx.Client]:
    """A client with the token."""
    with server.client() as made:
        yield made


def upload(client: httpx.Client, content: bytes, name: str = "talk.mp4", **fields: str) -> httpx.Response:
    """Send one file."""
    return client.post("/api/jobs", files={"file": (name, content)}, data=fields)


def ended(client: httpx.Client, id: str, seconds: float = 120) -> dict[str, Any]:
    """The job, once it has ended."""
    until = time.monotonic() + seconds
    while True:
        job: dict[str, Any] = client.get(f"/api/jobs/{id}").json()
        if job["state"] in FINAL:
            return job
        assert time.monotonic() < until, job
        time.sleep(0.1)


def files(folder: Path) -> list[Path]:
    """All files of a folder and below."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_an_upload_becomes_a_run_and_is_deleted_without_a_trace(
    server: RunningServer, client: httpx.Client
) -> None:
    name = "Größe <b>&\u202e.mp4"
    answer = upload(client, tiny_video(), name)
    assert answer.status_code == 201
    id = answer.json()["id"]
    events = []
    with client.stream("GET", f"/api/jobs/{id}/events", timeout=120) as stream:
        for line in stream.iter_lines():
            if line.startswith("data:"):
                events.append(json.loads(line.removeprefix("data:")))
    assert events[-1]["state"] == "done"
    assert {"analyzing"} <= {event["stage"] for event in events}
    assert [event["progress"] for event in events] == sorted(event["progress"] for event in events)
    job = client.get(f"/api/jobs/{id}").json()
    assert job["people"] == 2 and job["progress"] == 1 and job["error"] is None
    run = f"/api/runs/{job['run']}"

    # The same file again is the same job; with other settings it is another run, and replaces none.
    assert upload(client, tiny_video(), "other.mp4").json()["id"] == id
    listed = client.get("/api/runs", params={"q": "größe"}).json()
    assert [each["id"] for each in listed["runs"]] == [job["run"]]
    assert client.get("/api/runs", params={"q": "nothing"}).json()["total"] == 0

    info = client.get(run).json()
    assert info["counts"]["people"] == 2
    assert info["title"] == info["source"] == "Größe <b>&"
    people = client.get(f"{run}/people").json()
    assert len(people) == 2
    assert client.get(f"{run}/tables/people", params={"format": "csv"}).text.count("\n") == 3
    assert client.get(f"{run}/tables/faces", params={"format": "parquet"}).content.startswith(b"PAR1")
    assert client.get(f"{run}/tables/faces", params={"format": "csv"}).status_code == 200
    report = client.get(f"/runs/{job['run']}/report")
    assert "sha256-" in report.headers["content-security-policy"]
    assert "<b>&" not in report.text
    assert client.get(f"{run}/player").json()["src"] == f"{run}/media"
    part = client.get(f"{run}/media", headers={"Range": "bytes=4-7"})
    assert part.status_code == 206 and part.content == tiny_video()[4:8]
    many = ",".join(f"{each}-{each}" for each in range(10_000))
    assert client.get(f"{run}/media", headers={"Range": f"bytes={many}"}).status_code in (416, 431)
    for path in (run, f"/api/jobs/{id}", f"{run}/report", f"{run}/player"):
        assert str(server.out) not in client.get(path).text

    # The annotated video and a preview are made when they are asked for.
    for what in ("annotated", "preview"):
        assert client.get(f"{run}/{what}.mp4").status_code == 404
        assert client.post(f"{run}/{what}").status_code in (200, 202)
        until = time.monotonic() + 120
        while (made := client.get(f"{run}/{what}").json())["state"] == "making":
            assert time.monotonic() < until
            time.sleep(0.1)
        assert made["state"] == "done", made
        assert client.get(f"{run}/{what}.mp4").content[4:8] == b"ftyp"

    assert client.delete(run).json() == {"deleted": job["run"]}
    assert client.get(run).status_code == client.get(f"/api/jobs/{id}").status_code == 404
    left = files(server.out)
    assert {path.name for path in left} <= {"server.lock", "token", "web.sqlite", "web.sqlite.lock"} | {
        "web.sqlite-wal",
        "web.sqlite-shm",
    }
    for path in left:
        assert "Größe".encode() not in path.read_bytes(), path
        assert b"gro" not in path.read_bytes(), path  # the slug of the run's folder
    assert not list((server.out / ".web" / "media").iterdir())


def test_images_of_an_upload_are_one_run(client: httpx.Client) -> None:
    pictures = []
    for number, pixels in enumerate(portraits()):
        file = BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        pictures.append(("file", (f"portrait {number}.png", file.getvalue())))
    answer = client.post("/api/jobs", files=pictures)
    job = ended(client, answer.json()["id"])
    assert (job["state"], job["kind"], job["people"]) == ("done", "images", 2)
    run = f"/api/runs/{job['run']}"
    player = client.get(f"{run}/player").json()
    assert player["images"] == 2 and player["names"] == ["portrait 0.png", "portrait 1.png"]
    assert client.get(f"{run}/media", params={"n": 2}).content == pictures[1][1][1]
    assert client.get(f"{run}/media", params={"n": 3}).status_code == 404
    rows = client.get(f"{run}/tables/images").json()
    assert [row["image"] for row in rows] == ["portrait 0.png", "portrait 1.png"]
    client.delete(run)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.mp4", b"This is no video.\n" * 100),
        ("a.m3u8", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"),
        ("a.mp4", b"#EXTM3U\n#EXTINF:1,\n/tmp/b.ts\n"),
        ("a.mp4", b"ffconcat version 1.0\nfile b.mp4\n"),
        ("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"),
        ("a.mp4", b""),
    ],
)
def test_what_is_no_video_is_refused(
    server: RunningServer, client: httpx.Client, name: str, content: bytes
) -> None:
    answer = upload(client, content, name)
    assert answer.status_code == 415
    assert "neither a video nor an image" in answer.json()["error"]
    assert not list((server.out / ".web" / "incoming").iterdir())


@pytest.mark.parametrize(
    "name", ["im%d.png", "../../x", "a;b.mp4", "x" * 300, "a\0b", "CON", "-rf", "C:\\a\\b.mp4", "/etc/passwd"]
)
def test_names_of_files_lead_nowhere(server: RunningServer, client: httpx.Client, name: str) -> None:
    before = {path.name for path in (server.out / ".web" / "media").iterdir()}
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n\r\n%s\r\n--b--\r\n'
    content = distinct(hash(name) % 10**9)
    sent = body % (name.encode(), content)
    answer = client.post(
        "/api/jobs", content=sent, headers={"Content-Type": "multipart/form-data; boundary=b"}
    )
    assert answer.status_code == 201
    id = answer.json()["id"]
    (new,) = {path.name for path in (server.out / ".web" / "media").iterdir()} - before
    assert new == id
    (kept,) = {path.name for path in files(server.out / ".web" / "media" / id)} - {"job.json"}
    assert re.fullmatch(r"[\w-][\w -]{0,59}\.mp4", kept), kept
    assert (server.out / ".web" / "media" / id / kept).read_bytes() == content
    title = client.get(f"/api/jobs/{id}").json()["title"]
    assert title.isprintable() and len(title) <= 200 and "/" not in title and "\\" not in title
    client.delete(f"/api/jobs/{id}")
    assert ended(client, id)["state"] in FINAL
    client.delete(f"/api/jobs/{id}")


def _send(server: RunningServer, head: str, body: Iterator[bytes]) -> tuple[int, int]:
    """Send a request by hand; returns the status of the answer, 0 without one, and how much was sent."""
    host, port = server.url.removeprefix("http://").split(":")
    sent = 0
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(
            f"POST /api/jobs HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {TOKEN}\r\n"
            f"Content-Type: multipart/form-data; boundary=b\r\n{head}\r\n\r\n".encode()
        )
        try:
            for piece in body:
                connection.sendall(piece)
                sent += len(piece)
        except OSError:
            pass
        try:
            answer = connection.recv(100)
        except OSError:
            answer = b""
    return int(answer.split()[1]) if answer else 0, sent


def _endless(chunked: bool, megabytes: int) -> Iterator[bytes]:
    start = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n\0\0\0\x18ftypisom'
    for piece in [start, *[bytes(100_000)] * (10 * megabytes)]:
        yield b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece


@pytest.mark.parametrize(
    ("head", "chunked"),
    [("Content-Length: 90000000", False), ("Transfer-Encoding: chunked", True)],
)
def test_an_upload_over_the_limit_is_ended_while_it_comes(
    server: RunningServer, head: str, chunked: bool
) -> None:
    status, _ = _send(server, head, _endless(chunked, 80))
    assert status in (0, 413)  # the answer is lost where the connection is closed while we send
    _nothing_is_left(server)


def test_an_upload_over_its_own_length_is_cut_there(server: RunningServer) -> None:
    status, _ = _send(server, "Content-Length: 1000", _endless(False, 1))
    assert status in (0, 400)
    _nothing_is_left(server)


def test_an_upload_that_is_broken_off_leaves_nothing(server: RunningServer) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(
            f"POST /api/jobs HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {TOKEN}\r\n"
            f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1500000\r\n\r\n".encode()
        )
        connection.sendall(next(_endless(False, 1)))
        until = time.monotonic() + 20
        while not list((server.out / ".web" / "incoming").iterdir()):
            assert time.monotonic() < until
            time.sleep(0.05)
    _nothing_is_left(server)


def _nothing_is_left(server: RunningServer) -> None:
    until = time.monotonic() + 20
    while list((server.out / ".web" / "incoming").iterdir()):
        assert time.monotonic() < until
        time.sleep(0.05)
    with server.client() as client:
        assert client.get("/healthz").json()["status"] == "ok"


def test_a_bomb_costs_its_job_alone(server: RunningServer, client: httpx.Client) -> None:
    before = psutil.Process(server.process.pid).memory_info().rss
    id = upload(client, png_bomb(9_000), "bomb.png").json()["id"]
    job = ended(client, id)
    assert job["state"] == "failed"
    assert job["error"] and str(server.out) not in job["error"]
    assert psutil.Process(server.process.pid).memory_info().rss - before < 150e6
    assert client.delete(f"/api/jobs/{id}").json() == {"deleted": id}
    assert not (server.out / ".web" / "media" / id).exists()


def test_a_job_is_canceled_tried_again_and_deleted(server: RunningServer, client: httpx.Client) -> None:
    id = upload(client, distinct(1), fps="1").json()["id"]
    _until_stage(client, id, "analyzing")
    assert client.post(f"/api/jobs/{id}/retry").status_code == 409
    assert client.delete(f"/api/jobs/{id}").json()["canceling"]
    assert ended(client, id)["state"] == "cancelled"
    assert not list(server.out.glob("*/.parts/*"))
    again = client.post(f"/api/jobs/{id}/retry").json()
    assert again["state"] == "queued"
    assert client.delete(f"/api/jobs/{id}").status_code == 200
    assert ended(client, id)["state"] == "cancelled"
    assert client.delete(f"/api/jobs/{id}").json() == {"deleted": id}
    assert client.get(f"/api/jobs/{id}").status_code == 404
    # Its row may be used again: the next job is not taken for it.
    assert ended(client, upload(client, distinct(1)).json()["id"])["state"] == "done"


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"url": 1}', b"{" * 100_000, b'{"url": "' + b"a" * 2_000_000]
)
def test_malformed_requests_are_answered(client: httpx.Client, body: bytes) -> None:
    answer = client.post("/api/jobs", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (413, 422)
    assert answer.json()["error"]


@pytest.mark.slow
def test_twenty_uploads_at_once(server: RunningServer, client: httpx.Client) -> None:
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda number: upload(client, distinct(100 + number)), range(20)))
    assert [answer.status_code for answer in answers] == [201] * 20
    ids = {answer.json()["id"] for answer in answers}
    assert len(ids) == 20
    assert client.get("/api/runs").status_code == 200
    for id in ids:
        client.delete(f"/api/jobs/{id}")
    assert all(ended(client, id)["state"] in ("cancelled", "done") for id in ids)
    assert psutil.Process(server.process.pid).memory_info().rss < 900e6


def test_an_address_is_downloaded_and_its_video_kept(client: httpx.Client) -> None:
    with serve_files() as site:
        url = site.add("/a.mp4", distinct(5))
        answer = client.post("/api/jobs", json={"url": url, "folder": "news/2026", "preset": "fast"})
        job = ended(client, answer.json()["id"])
        assert job["state"] == "done", job
        assert client.get("/api/runs", params={"q": "news"}).json()["runs"][0]["where"] == "news/2026"
        assert client.get(f"/api/runs/{job['run']}/media").content == distinct(5)
        asked = site.count("/a.mp4")
        assert client.post("/api/jobs", json={"url": url, "preset": "fast"}).json()["id"] == job["id"]
        assert site.count("/a.mp4") == asked


@pytest.mark.slow
def test_a_kill_loses_and_doubles_nothing(tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "1") as running, running.client() as client:
        id = upload(client, distinct(7)).json()["id"]
        running.kill()
    (tmp_path / ".web" / "incoming" / "half").mkdir()
    with serving(tmp_path, "--workers", "1") as running, running.client() as client:
        assert not list((tmp_path / ".web" / "incoming").iterdir())
        _until_stage(client, id, "analyzing")
        running.kill()
    with serving(tmp_path, "--workers", "1") as running, running.client() as client:
        assert [job["id"] for job in client.get("/api/jobs").json()] == [id]
        job = ended(client, id)
        assert job["state"] == "done"
        assert client.get("/api/runs").json()["total"] == 1
        assert upload(client, distinct(7)).json()["id"] == id
        assert running.stop() == 0
    assert not list(tmp_path.rglob("*.part"))
    assert not [process for process in psutil.process_iter(["cmdline"]) if str(tmp_path) in str(process.info)]


@pytest.mark.slow
def test_kills_at_ten_moments(tmp_path: Path) -> None:
    for moment in range(10):
        with serving(tmp_path, "--workers", "1") as running:

            def send(running: RunningServer = running, moment: int = moment) -> None:
                with running.client() as client, contextlib.suppress(httpx.HTTPError):
                    upload(client, distinct(moment))

            thread = threading.Thread(target=send)
            thread.start()
            time.sleep(0.05 * moment**2)
            running.kill()
            thread.join()
    with serving(tmp_path, "--workers", "1") as running, running.client() as client:
        for moment in range(10):
            job = ended(client, upload(client, distinct(moment)).json()["id"], 300)
            assert job["state"] == "done"
        assert client.get("/api/runs").json()["total"] == 10
        assert len(client.get("/api/jobs").json()) == 10
        assert len(list((tmp_path / ".web" / "media").iterdir())) == 10


@pytest.mark.slow
def test_the_example_of_the_documentation_works(server: RunningServer, tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "web.md").read_text("utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.S)
    (tmp_path / "talk.mp4").write_bytes(distinct(3))
    done = subprocess.run(
        [sys.executable, "-c", example],
        cwd=tmp_path,
        env=os.environ | {"ANALYZER_URL": server.url, "ANALYZER_TOKEN": TOKEN},
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["1", "2"]
    assert "female" in done.stdout


def test_a_slow_site_keeps_no_upload_waiting_and_is_canceled(client: httpx.Client) -> None:
    with serve_files() as site:
        url = site.add_silent("/silent.mp4")
        slow = client.post("/api/jobs", json={"url": url}).json()["id"]
        _until_stage(client, slow, "downloading")
        quick = upload(client, distinct(9)).json()["id"]
        _until_stage(client, quick, "analyzing")
        for id in (slow, quick):
            client.delete(f"/api/jobs/{id}")
        assert ended(client, slow)["state"] == ended(client, quick)["state"] == "cancelled"
        for id in (slow, quick):
            assert client.delete(f"/api/jobs/{id}").json() == {"deleted": id}


def _until_stage(client: httpx.Client, id: str, stage: str) -> None:
    until = time.monotonic() + 60
    while (job := client.get(f"/api/jobs/{id}").json())["stage"] != stage:
        assert time.monotonic() < until and job["state"] not in FINAL, job
        time.sleep(0.02)


def test_messages_hold_no_paths_and_no_logins(tmp_path: Path) -> None:
    from analyzer.batch.config import Source
    from analyzer.settings import Settings
    from analyzer.web.jobs import Job, Record

    record = Record("0" * 12, "Talk", 0.0, {}, "", files=("0001.mp4",))
    job = Job(record, Source("job:" + record.id, Settings(), tmp_path, media=tmp_path / record.id))
    texts = {
        f"{tmp_path}/{record.id}/0001.mp4 is not a video": "Talk is not a video",
        "cannot open '/etc/secret/key.pem': denied": "cannot open 'key.pem': denied",
        "https://a:b@example.org/x/y?token=1 answered 404": "https://example.org/x/y?token=*** answered 404",
        "1/2 of it, 3 MB/s": "1/2 of it, 3 MB/s",
    }
    for text, public in texts.items():
        assert job.public(text) == public
