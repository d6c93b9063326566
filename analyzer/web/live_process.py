"""What the process of a camera does: decode frames, analyze them, record."""

from __future__ import annotations

import io
import json
import logging
import queue
import tempfile
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from analyzer.analysis.online import OnlineAnalyzer
from analyzer.analysis.segment import Models
from analyzer.errors import AnalyzerError, SourceError, SourceErrorKind
from analyzer.events import Event, LiveStarted
from analyzer.faces import Faces
from analyzer.live.connections import MjpegConnection
from analyzer.live.reader import LiveReader
from analyzer.live.run import finish_abandoned, run_live
from analyzer.media.frame import Frame
from analyzer.people.fusion import stated_genders
from analyzer.settings import Settings
from analyzer.sources.resolve import Fetcher, live_video
from analyzer.sources.streams import Stream, StreamForm
from analyzer.sources.types import Candidate, Item, MediaKind
from analyzer.util.gender import GENDERS, face_words
from analyzer.util.text import one_line
from analyzer.web.live import FRAME, JSON

__all__ = ["DamagedFrameError", "decode", "finish_recordings", "run"]

log = logging.getLogger(__name__)

_SHOWN_FPS = 10.0
"""Frames of the server's cameras that are shown and analyzed each second, at most."""
_SHOWN_PX = 960
"""Longest side of such a frame as it is sent."""
_SHOWN_QUALITY, _RECORDED_QUALITY = 75, 92
_SEEN_SAMPLES = 3
"""A person counts once seen in so many frames: the first ones decide who it is."""


class DamagedFrameError(AnalyzerError):
    """The frame of a visitor's camera is no picture of an allowed size."""


def decode(jpeg: bytes, max_pixels: int) -> NDArray[np.uint8]:
    """Decode a JPEG image whose size is checked before: (H, W, 3) uint8 BGR.

    Raises:
        DamagedFrameError: It is no JPEG image, damaged, or larger than `max_pixels`.
    """
    try:
        with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as image:  # reads the header only
            if image.width * image.height > max_pixels:
                raise DamagedFrameError(f"a frame of {image.width}x{image.height} pixels is too large")
            image.draft("RGB", None)
            return np.ascontiguousarray(np.asarray(image.convert("RGB"))[..., ::-1])
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise DamagedFrameError("this is no JPEG image") from error


def run(connection: Connection, order: dict[str, Any]) -> None:
    """Analyze one camera until told to end.

    Args:
        connection: To the server.
        order: From `LiveSessions`.

    Raises:
        AnalyzerError: It cannot be analyzed.
        OSError: The server is gone.
    """
    _Session(connection, order).run()


def finish_recordings(out: str) -> int:
    """Finish the recordings that were going on when a server was killed; return how many there were."""
    return len(finish_abandoned(Path(out)))


class _Session:
    def __init__(self, connection: Connection, order: dict[str, Any]) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._out = Path(order["out"])
        self._camera: str | None = order["camera"]
        self._source: str | None = order["source"]
        self._settings = Settings(fps=_SHOWN_FPS, workers=1, max_pixels=order["max_pixels"])
        self._change = threading.Condition()
        self._newest: bytes | None = None
        self._ending = False
        self._recorder: _Recorder | None = None
        self._seen: dict[int, int] = {}
        self._genders: dict[int, str] = {}

    def run(self) -> None:
        models = Models.load(self._settings)
        online = OnlineAnalyzer(self._settings, models)
        self._calibration = models.calibration
        listener = threading.Thread(target=self._listen, name="live-orders", daemon=True)
        listener.start()
        try:
            if self._source is None:
                self._tell(type="ready", name="Your camera")
                self._analyze_pushed(online)
            else:
                self._analyze_camera(online, self._source)
        finally:
            recorder = self._recorder
            if recorder is not None:
                recorder.end()
                recorder.thread.join()

    # -- orders

    def _listen(self) -> None:
        try:
            while not self._ending:
                message = self._connection.recv_bytes()
                if message[:1] == FRAME:
                    with self._change:
                        self._newest = message[1:]
                        self._change.notify()
                else:
                    self._obey(json.loads(message[1:]))
        except (EOFError, OSError):
            self._end()

    def _end(self) -> None:
        with self._change:
            self._ending = True
            self._change.notify()

    def _obey(self, order: dict[str, Any]) -> None:
        if order["type"] == "end":
            self._end()
        elif order["type"] == "record":
            recorder = self._recorder
            busy = recorder is not None and recorder.thread.is_alive()
            if order["on"] and not busy:
                self._recorder = _Recorder(self._out, self._camera or "Camera of a browser", self._tell)
            elif not order["on"] and recorder is not None:
                recorder.end()

    def _tell(self, **message: Any) -> None:
        self._send(JSON + json.dumps(message).encode())

    def _send(self, message: bytes) -> None:
        with self._sending:
            self._connection.send_bytes(message)

    # -- analysis

    def _analyze_pushed(self, online: OnlineAnalyzer) -> None:
        """Analyze the newest frame of the visitor, one after another."""
        began = time.monotonic()
        last_s = -1.0
        while True:
            with self._change:
                self._change.wait_for(lambda: self._ending or self._newest is not None)
                if self._ending:
                    return
                frame, self._newest = self._newest, None
            assert frame is not None
            start_s, used_s = time.monotonic(), time.process_time()
            try:
                image = decode(frame, self._settings.max_pixels)
            except DamagedFrameError as error:
                self._tell(type="dropped", why=str(error))
                continue
            last_s = max(start_s - began, last_s + 1e-3)
            faces = online.push(image, last_s)
            self._record(frame)
            took_ms = round(1000 * (time.monotonic() - start_s), 1)
            cpu_ms = round(1000 * (time.process_time() - used_s), 1)
            size = image.shape[1], image.shape[0]
            self._tell(**self._described(faces, size), took_ms=took_ms, cpu_ms=cpu_ms)

    def _analyze_camera(self, online: OnlineAnalyzer, source: str) -> None:
        """Analyze a camera of the server, and send its frames."""
        with tempfile.TemporaryDirectory() as folder:
            fetcher = Fetcher(self._settings, want_audio=False, live=True)
            item = next(iter(fetcher.resolve(source)))
            video = fetcher.fetch(item, Path(folder), accept=self._refuse)
        assert video.stream is not None  # the rest was refused
        name = self._camera or ""
        with LiveReader(video.stream, self._settings, name=name, cancelled=lambda: self._ending) as reader:
            self._tell(type="ready", name=name)
            for samples in reader.segments():
                for sample in samples:
                    if self._ending:
                        return
                    self._show(online, sample.frame)

    def _refuse(self, candidate: Candidate) -> None:
        """Refuse what is no live source, before it is downloaded."""
        del candidate
        raise SourceError(
            "this camera is a video, not a live source: analyze it as a job",
            kind=SourceErrorKind.UNSUPPORTED,
            source=self._camera or "",
        )

    def _show(self, online: OnlineAnalyzer, frame: Frame) -> None:
        faces = online.push(frame, frame.time_s)
        factor = min(1.0, _SHOWN_PX / max(frame.width, frame.height))
        size = max(1, round(frame.width * factor)), max(1, round(frame.height * factor))
        shown = _jpeg(frame.scaled(*size), _SHOWN_QUALITY)
        recorder = self._recorder
        if recorder is not None and not recorder.ended:
            recorder.push(_jpeg(frame.scaled(frame.width, frame.height), _RECORDED_QUALITY))
        head = json.dumps(self._described(faces, (frame.width, frame.height))).encode()
        self._send(FRAME + len(head).to_bytes(4) + head + shown)

    def _described(self, faces: Faces, size: tuple[int, int]) -> dict[str, Any]:
        """The faces of a frame as a page gets them."""
        female, age = faces.female_prob.astype(np.float64), faces.age_years.astype(np.float64)
        genders = stated_genders(female, age, self._settings, self._calibration).tolist()
        found = []
        rows = zip(faces.track_ids.tolist(), genders, age, faces.age_std_years, faces.boxes, strict=True)
        for person, gender, years, std, box in rows:
            self._seen[person] = self._seen.get(person, 0) + 1
            self._genders[person] = gender
            found.append(
                {
                    "person": person,
                    "gender": gender,
                    "age": None if np.isnan(years) else round(float(years)),
                    "text": face_words(gender, float(years)),
                    "age_std": None if np.isnan(std) else round(float(std), 1),
                    "box": [round(float(edge), 1) for edge in box],
                }
            )
        people = [self._genders[person] for person, count in self._seen.items() if count >= _SEEN_SAMPLES]
        counts = {gender: people.count(gender) for gender in GENDERS}
        return {"type": "faces", "width": size[0], "height": size[1], "faces": found, "people": counts}

    def _record(self, jpeg: bytes) -> None:
        recorder = self._recorder
        if recorder is not None and not recorder.ended:
            recorder.push(jpeg)


def _jpeg(image: NDArray[np.uint8], quality: int) -> bytes:
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes()


class _Frames:
    """The frames of a recording, as `MjpegConnection` takes them."""

    def __init__(self) -> None:
        self._queue: queue.Queue[bytes | None] = queue.Queue(2)
        self._closed = False

    def push(self, jpeg: bytes | None) -> None:
        """Add a frame; None: there will be no more. The oldest is dropped if nobody takes them."""
        while True:
            try:
                self._queue.put_nowait(jpeg)
                return
            except queue.Full:
                try:
                    self._queue.get_nowait()
                except queue.Empty:
                    continue

    def __iter__(self) -> Iterator[bytes]:
        self._closed = False  # each connection begins anew
        while not self._closed and (jpeg := self._queue.get()) is not None:
            yield jpeg

    def close(self) -> None:
        self._closed = True
        self.push(None)


class _Recorder:
    """Analyzes the frames of a session in a thread, as any live source, into a run.

    It has models of its own, and samples as an analysis does by default: what is seen does not wait for it.
    """

    def __init__(self, out: Path, title: str, tell: Any) -> None:
        self._out, self._title, self._tell = out, title, tell
        self._frames = _Frames()
        self.ended = False
        """Whether it was told to end."""
        self.thread = threading.Thread(target=self._work, name="live-recording", daemon=True)
        self.thread.start()

    def push(self, jpeg: bytes) -> None:
        """Take a frame."""
        self._frames.push(jpeg)

    def end(self) -> None:
        """Finish the run."""
        self.ended = True

    def _work(self) -> None:
        try:
            try:
                answer = self._recorded()
            except AnalyzerError as error:
                answer = {"type": "error", "error": f"nothing was recorded: {one_line(str(error), 400)}"}
            except Exception as error:
                log.error("a recording failed", exc_info=error)
                answer = {"type": "error", "error": f"nothing was recorded ({type(error).__name__})"}
            self.ended = True
            self._tell(type="recording", on=False)
            self._tell(**answer)
        except OSError:
            pass  # the server is gone

    def _on_event(self, event: Event) -> None:
        if isinstance(event, LiveStarted):  # the models are loaded, and the first frame has come
            self._tell(type="recording", on=True)

    def _recorded(self) -> dict[str, Any]:
        settings = Settings(workers=1)
        item = Item("browser", MediaKind.LIVE)
        facts = {"title": self._title, "extractor_key": "Browser"}
        made = run_live(
            live_video(item, Stream(StreamForm.MJPEG, "browser"), facts),
            self._out,
            settings,
            Models.load(settings),
            on_event=self._on_event,
            cancelled=lambda: self.ended,
            timings={},
            connect=lambda stream, asked: MjpegConnection(self._frames, asked),
        )
        return {"type": "recorded", "folder": str(made.folder), "title": self._title}
