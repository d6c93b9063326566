"""Live in the browser: hostile frames, the newest frame, recordings, cameras of the server, a real page."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
import uvicorn
from fastapi import FastAPI
from numpy.typing import NDArray
from PIL import Image
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from analyzer.errors import SettingsError
from analyzer.web import live
from analyzer.web.config import ServeConfig
from analyzer.web.live import BusyLiveError, LiveSession, LiveSessions, Viewer, cameras_of
from analyzer.web.live_process import DamagedFrameError, decode
from analyzer.web.routes.live import router
from testkit.browser import chromium
from testkit.demo import portraits
from testkit.live_servers import Mjpeg, jpegs
from testkit.servers import serve
from testkit.web import TOKEN, RunningServer, browser_page, serving

MOST_PIXELS = 1920 * 1088
WAIT_S = 120


def two_people(width: int = 640, height: int = 360) -> NDArray[np.uint8]:
    """Both people side by side: RGB."""
    image = np.full((height, width, 3), 90, np.uint8)
    for number, face in enumerate(portraits()):
        left = 60 + 300 * number
        image[80:270, left : left + 190] = cv2.resize(face, (190, 190), interpolation=cv2.INTER_AREA)
    return image


def heard(talk: ClientConnection, kind: str) -> dict[str, Any]:
    """The next message of a kind."""
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        message = talk.recv(WAIT_S)
        if isinstance(message, str):
            found: dict[str, Any] = json.loads(message)
            assert kind == "error" or found["type"] != "error", found
            if found["type"] == kind:
                return found
    raise AssertionError(f"no {kind}")


def is_soon(what: Any, limit_s: float = 20) -> bool:
    until = time.monotonic() + limit_s
    while not what() and time.monotonic() < until:
        time.sleep(0.05)
    return bool(what())


@pytest.fixture(scope="module")
def picture() -> bytes:
    return jpegs([two_people()])[0]


def with_size(jpeg: bytes, width: int, height: int) -> bytes:
    """A JPEG image whose header declares another size."""
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + height.to_bytes(2) + width.to_bytes(2) + jpeg[at + 4 :]


# ---------------------------------------------------------------------------------- frames


def test_a_frame_is_decoded(picture: bytes) -> None:
    image = decode(picture, MOST_PIXELS)
    assert image.shape == (360, 640, 3) and image.flags.c_contiguous
    assert np.abs(image[..., ::-1].astype(int) - two_people()).mean() < 3


def hostile(picture: bytes) -> dict[str, bytes]:
    png = io.BytesIO()
    Image.new("RGB", (8, 8)).save(png, "PNG")
    return {
        "empty": b"",
        "text": b"hello",
        "png": png.getvalue(),
        "only a start": b"\xff\xd8",
        "no end": picture[: len(picture) // 2],
        "noise": b"\xff\xd8" + bytes(range(256)) * 40,
        "too large": with_size(picture, 10_000, 10_000),
        "as large as can be": with_size(picture, 65_500, 65_500),
        "no size": with_size(picture, 0, 0),
    }


def test_no_frame_that_is_damaged_or_too_large_is_decoded(picture: bytes) -> None:
    before = psutil.Process().memory_info().rss
    for name, frame in hostile(picture).items():
        with pytest.raises(DamagedFrameError):
            decode(frame, MOST_PIXELS)
            pytest.fail(name)
    assert psutil.Process().memory_info().rss - before < 50e6


# ---------------------------------------------------------------------------------- sessions


class Idle(LiveSession):
    """A session without a process."""

    sent: list[bytes]

    def __init__(self, *args: Any) -> None:
        self.sent = []
        super().__init__(*args)

    def _run(self) -> None:
        """Do nothing."""

    def _kill(self) -> None:
        self._over()

    async def _send(self, message: bytes) -> None:
        self.sent.append(message)

    def hear_soon(self, **message: Any) -> None:
        """As `hear`, from another thread."""
        self._loop.call_soon_threadsafe(lambda: self.hear(**message))

    def hear(self, **message: Any) -> None:
        """As if the process had said it."""
        self._heard(live.JSON + json.dumps(message).encode())


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> list[Idle]:
    """Sessions without processes; those that were begun."""
    begun: list[Idle] = []

    def begin(*args: Any) -> Idle:
        begun.append(Idle(*args))
        return begun[-1]

    monkeypatch.setattr(live, "LiveSession", begin)
    return begun


def test_the_newest_frame_is_analyzed_next() -> None:
    async def act() -> list[bytes]:
        session = Idle({}, ServeConfig(Path("out")), asyncio.get_running_loop())
        await session.push(b"0")  # before it is ready
        await session.push(b"1")
        session.hear(type="ready")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for number in range(2, 200):
            await session.push(b"%d" % number)
        session.hear(type="dropped", why="")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return session.sent

    assert asyncio.run(act()) == [b"f1", b"f199"]


def test_a_page_gets_the_newest_frame_once_it_has_shown_the_last() -> None:
    async def act() -> list[Any]:
        viewer = Viewer()
        viewer.show(b"1")
        viewer.show(b"2")
        got = [await viewer.next()]
        viewer.show(b"3")
        viewer.tell({"type": "recording"})
        viewer.show(b"4")
        got.append(await viewer.next())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(viewer.next(), 0.01)
        viewer.shown()
        got.append(await viewer.next())
        return got

    assert asyncio.run(act()) == [b"2", {"type": "recording"}, b"4"]


def test_no_more_cameras_than_allowed_are_analyzed(idle: list[Idle]) -> None:
    config = ServeConfig(Path("out"), live_sessions=2, max_sockets=3, cameras=("door=0",))

    async def act() -> None:
        sessions = LiveSessions(config)
        async with sessions.watching("door") as (first, _), sessions.watching("door") as (second, _):
            assert first is second
            async with sessions.watching(None):
                for camera in (None, "door"):
                    with pytest.raises(BusyLiveError, match="pages"):
                        async with sessions.watching(camera):
                            pass
            async with sessions.watching(None):  # one has ended
                pass
        async with sessions.watching(None), sessions.watching(None):
            with pytest.raises(BusyLiveError, match="cameras"):
                async with sessions.watching(None):
                    pass
        with pytest.raises(SettingsError):
            async with sessions.watching("0"):  # a source is no name
                pass
        assert not sessions._sessions

    asyncio.run(act())


def test_cameras_have_names_without_logins() -> None:
    config = ServeConfig(
        Path("out"), cameras=("1", "rtsp://me:secret@door.test:554/1?a=b", "Hall=http://h/v")
    )
    assert cameras_of(config) == {
        "camera 1": "1",
        "door.test": "rtsp://me:secret@door.test:554/1?a=b",
        "Hall": "http://h/v",
    }
    with pytest.raises(SettingsError, match="named camera 1"):
        cameras_of(ServeConfig(Path("out"), cameras=("1", "1")))


@pytest.fixture
def route(idle: list[Idle], tmp_path: Path) -> Iterator[str]:
    """Address of a server with these routes alone, and sessions without processes."""
    config = ServeConfig(tmp_path, live_idle_s=0.5)
    app = FastAPI()
    app.state.service = SimpleNamespace(config=config, live=LiveSessions(config))
    app.include_router(router)
    running = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, ws="websockets-sansio"))
    thread = threading.Thread(target=running.run)
    thread.start()
    assert is_soon(lambda: running.started)
    port = running.servers[0].sockets[0].getsockname()[1]
    yield f"ws://127.0.0.1:{port}/api/live"
    running.should_exit = True
    thread.join()


def test_a_page_that_sends_nothing_is_left(route: str, idle: list[Idle]) -> None:
    with connect(route) as talk:
        with pytest.raises(TimeoutError):
            talk.recv(1.5)  # the process is not ready yet
        (session,) = idle
        session.hear_soon(type="ready")
        assert "for a while" in heard(talk, "error")["error"]
        with pytest.raises(ConnectionClosed):
            talk.recv(WAIT_S)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"type": "end"}', '{"type": "record", "on": 1}'])
def test_what_is_no_message_ends_the_connection(route: str, text: str) -> None:
    with connect(route) as talk:
        talk.send(text)
        assert "no message" in heard(talk, "error")["error"]


def test_what_cannot_be_a_frame_is_not_passed_on(route: str) -> None:
    with connect(route) as talk:
        for frame in (b"", b"hello", b"\xff\xd8" + bytes(3_000_000)):
            talk.send(frame)
            assert heard(talk, "dropped")["why"]


def test_an_unknown_camera_is_refused(route: str) -> None:
    with connect(route + "?camera=rtsp://x/1") as talk:
        assert heard(talk, "error")["error"] == "there is no such camera on this server"


# ---------------------------------------------------------------------------------- a real server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, picture: bytes) -> Iterator[RunningServer]:
    """A server with one camera, which sends both people."""
    with serve() as site:
        camera = Mjpeg(site, [picture], fps=10)
        with serving(tmp_path_factory.mktemp("runs"), "--camera", f"Hall={camera.url}") as running:
            yield running


def socket_of(server: RunningServer, query: str = "", **headers: str) -> ClientConnection:
    address = server.url.replace("http", "ws", 1) + "/api/live" + query
    told = {"Authorization": f"Bearer {TOKEN}", "Origin": server.url} | headers
    return connect(address, additional_headers=told, max_size=None, open_timeout=20)


def processes(server: RunningServer) -> list[psutil.Process]:
    """The processes of sessions."""
    found = []
    for one in psutil.Process(server.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has ended meanwhile
            if any("spawn_main" in word for word in one.cmdline()):
                found.append(one)
    return found


def test_hostile_frames_harm_nobody(server: RunningServer, picture: bytes) -> None:
    with socket_of(server) as other, socket_of(server) as talk:
        heard(other, "ready")
        heard(talk, "ready")
        for frame in hostile(picture).values():
            talk.send(frame)
            assert heard(talk, "dropped")["why"]
        for _ in range(200):
            talk.send(hostile(picture)["too large"])
        talk.send(picture)
        found = heard(talk, "faces")
        assert [round(face["box"][0] / 300) for face in found["faces"]] in ([0, 1], [1, 0])
        assert {face["person"] for face in found["faces"]} == {0, 1}
        assert found["faces"][0]["age"] and (found["width"], found["height"]) == (640, 360)
        worker = next(one for one in processes(server))
        assert worker.memory_info().rss < 1e9
        with pytest.raises(ConnectionClosed):
            talk.send(bytes(50_000_000))
            talk.recv(WAIT_S)
            talk.recv(WAIT_S)
        other.send(picture)
        assert len(heard(other, "faces")["faces"]) == 2
        with server.client() as client:
            assert client.get("/healthz").status_code == 200
    assert is_soon(lambda: not processes(server)), "a process outlives its socket"
    assert not [path for path in server.out.iterdir() if path.is_dir() and not path.name.startswith(".")]


@pytest.mark.parametrize("what", ["Origin", "Host", "Authorization"])
def test_sockets_of_others_are_refused(server: RunningServer, what: str) -> None:
    port = int(server.url.rpartition(":")[2])
    host = "evil.test" if what == "Host" else "127.0.0.1"
    headers = {"Authorization": f"Bearer {TOKEN}", "Origin": f"http://{host}:{port}"}
    headers |= {what: "http://evil.test"} if what != "Host" else {}
    with (
        socket.create_connection(("127.0.0.1", port), 10) as raw,
        pytest.raises(InvalidStatus) as caught,
    ):
        connect(f"ws://{host}:{port}/api/live", sock=raw, additional_headers=headers)
    assert caught.value.response.status_code == 403
    assert not processes(server)


@pytest.mark.slow
def test_only_what_is_recorded_is_kept_and_a_crash_harms_one(server: RunningServer, picture: bytes) -> None:
    with socket_of(server) as talk:
        heard(talk, "ready")
        talk.send(json.dumps({"type": "record", "on": True}))
        until = time.monotonic() + WAIT_S
        talk.send(picture)
        while (message := json.loads(talk.recv(WAIT_S)))["type"] != "recording":
            assert time.monotonic() < until and message["type"] == "faces", message
            talk.send(picture)
        assert message["on"]
        for _ in range(30):  # the answer to the frame before comes first
            heard(talk, "faces")
            talk.send(picture)
            time.sleep(0.1)
        talk.send(json.dumps({"type": "record", "on": False}))
        run = heard(talk, "recorded")
        assert "folder" not in run
        with server.client() as client:
            info = client.get(f"/api/runs/{run['run']}").raise_for_status().json()
            people = client.get(f"/api/runs/{run['run']}/people").raise_for_status().json()
            (listed,) = client.get("/api/runs").json()["runs"]
        assert (info["kind"], info["live"]["ended_because"]) == ("live", "it was stopped")
        assert len(people) == 2 and listed["id"] == run["run"]
        (worker,) = processes(server)
        worker.kill()
        assert "unexpectedly" in heard(talk, "error")["error"]
    with socket_of(server) as talk:
        heard(talk, "ready")


def test_a_recording_that_has_not_begun_does_not_end_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LiveSession, "_run", lambda one: one._in_loop(one._over))  # without a process

    async def act() -> None:
        session = LiveSession({}, ServeConfig(tmp_path), asyncio.get_running_loop())
        await session.order({"type": "record", "on": True})
        await session.close()

    asyncio.run(act())
    assert "before its first frame" in caplog.text


@pytest.mark.slow
def test_a_recording_survives_the_server(tmp_path: Path, picture: bytes) -> None:
    """What was committed before a SIGKILL becomes a run when the next server starts."""
    with serving(tmp_path) as server:
        with contextlib.suppress(ConnectionClosed), socket_of(server) as talk:
            heard(talk, "ready")
            talk.send(json.dumps({"type": "record", "on": True}))
            until = time.monotonic() + WAIT_S
            while not list(tmp_path.glob("*live-*/run.json")) and time.monotonic() < until:  # published once
                talk.send(picture)
                heard(talk, "faces")
                time.sleep(0.1)
            server.kill()
        assert is_soon(lambda: list(tmp_path.glob("*live-*/.parts")))
    with serving(tmp_path) as server, server.client() as client:
        assert is_soon(lambda: not list(tmp_path.glob("*live-*/.parts")), WAIT_S)
        assert is_soon(lambda: client.get("/api/runs").json()["runs"])
        (run,) = client.get("/api/runs").json()["runs"]
        assert run["people"] == 2 and not run["complete"]


def test_a_camera_of_the_server_is_shown_to_all_who_watch(server: RunningServer) -> None:
    with socket_of(server, "?camera=Hall") as first, socket_of(server, "?camera=Hall") as second:
        for talk in (first, second):
            assert heard(talk, "ready")["name"] == "Hall"
            for _ in range(2):
                frame = talk.recv(WAIT_S)
                assert isinstance(frame, bytes)
                length = int.from_bytes(frame[:4])
                found = json.loads(frame[4 : 4 + length])
                assert Image.open(io.BytesIO(frame[4 + length :])).size == (640, 360)
                assert len(found["faces"]) == 2
                talk.send('{"type": "shown"}')
        assert len(processes(server)) == 1
    assert is_soon(lambda: not processes(server))


@pytest.fixture(scope="module")
def camera_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video for Chromium's camera: both people."""
    path = tmp_path_factory.mktemp("camera") / "camera.mjpeg"
    path.write_bytes(b"".join(jpegs([two_people()] * 4)))
    return path


def test_the_visitors_camera_is_shown_with_boxes(server: RunningServer, camera_file: Path) -> None:
    options = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with (
        chromium(*options, f"--use-file-for-fake-video-capture={camera_file}") as browser,
        browser_page(browser, server, permissions=["camera"]) as page,
    ):
        page.goto(f"{server.url}/live")
        page.get_by_role("button", name="Start").click()
        page.locator("#faces tbody tr").nth(1).wait_for(timeout=WAIT_S * 1000)
        page.locator("#total", has_text="2").wait_for()
        label = page.locator("#boxes").get_attribute("aria-label")
        assert label.startswith("Faces: #1 ") and "; #2 " in label
        colored = page.evaluate(
            """() => {
              const boxes = document.getElementById('boxes');
              const {width, height} = boxes;
              const {data} = boxes.getContext('2d').getImageData(0, 0, width, height);
              return [0, width / 2].map((left) => {
                for (let y = 0; y < height; y++) for (let x = left; x < left + width / 2; x++)
                  if (data[4 * (y * width + x) + 3]) return true;
                return false;
              });
            }"""
        )
        assert colored == [True, True]
        assert "ms from camera to boxes" in page.locator("#state").text_content()
        assert page.locator("#chart rect").count() > 0
        page.get_by_role("button", name="Record").click()
        page.get_by_role("button", name="Stop recording").wait_for(timeout=WAIT_S * 1000)
        page.wait_for_timeout(4000)
        page.get_by_role("button", name="Stop recording").click()
        page.locator("#recorded a").wait_for(timeout=WAIT_S * 1000)
        page.get_by_role("button", name="Stop").click()
        assert page.locator("#hint").is_visible()
    assert is_soon(lambda: not processes(server))


@pytest.mark.slow
def test_a_camera_of_the_server_is_shown_on_the_page(server: RunningServer) -> None:
    with chromium() as browser, browser_page(browser, server) as page:
        page.goto(f"{server.url}/live")
        page.get_by_label("Camera").select_option("Hall")
        page.get_by_role("button", name="Start").click()
        page.locator("#faces tbody tr").nth(1).wait_for(timeout=WAIT_S * 1000)
        assert page.evaluate("document.getElementById('frame').width") == 640
