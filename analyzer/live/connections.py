"""Connections to cameras and streams: MJPEG, HLS, RTSP, local cameras."""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import av
import av.error
from av.container import InputContainer

from analyzer.errors import MediaError, MediaErrorKind, SourceError, SourceErrorKind
from analyzer.media.demuxer import decodes, padded
from analyzer.media.geometry import Geometry, GeometryFinder
from analyzer.media.mjpeg import MultipartFrames
from analyzer.settings import Settings
from analyzer.sources.streams import Stream, StreamForm
from analyzer.util.http import open_http

__all__ = [
    "LEFT_MAX",
    "PATIENCE_S",
    "POLL_S",
    "WATCH_S",
    "Arrival",
    "Connect",
    "Connection",
    "JpegParts",
    "MjpegConnection",
    "ThreadedConnection",
    "connect",
    "connection_steps",
]

POLL_S = 0.05

_NETWORK = "http,https,tcp,tls,crypto"

_THREADS = 2

PATIENCE_S = 2.0
"""How long to wait for a thread that waits for a server."""

WATCH_S = 2.0
"""A connection times out by itself; if it has not by so much later, it is abandoned."""

LEFT_MAX = 4
"""The most abandoned connections that may block at the same time."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A frame that has arrived."""

    decode: Callable[[], av.VideoFrame | None]
    """Decodes the frame; None if it is damaged. Called at once or never."""
    time_s: float | None = None
    """Its time stamp in seconds; None: it has none."""
    keyframe: bool = True
    geometry: Geometry | None = None
    """How it is displayed; None: as the decoder says."""


class Connection(Protocol):
    """One connection to a source."""

    codec: str
    container: str

    def arrivals(self) -> Iterator[Arrival]:
        """Yield frames until the connection ends.

        Raises:
            Exception: The connection broke, or nothing arrived for too long.
        """

    def ended(self) -> bool:
        """Whether the source has ended for good; asked after the last frame."""

    def close(self) -> None:
        """End the connection, also while another thread waits for a frame."""


Connect = Callable[[Stream, Settings], Connection]


def connect(stream: Stream, settings: Settings) -> Connection:
    """Connect to a source.

    Raises:
        SourceError: There is no such camera.
        OSError: The source cannot be reached. Others are possible: it may send anything.
    """
    match stream.form:
        case StreamForm.MJPEG:
            return MjpegConnection(
                MultipartFrames(stream.address, settings.timeout_s, stream.headers), settings
            )
        case StreamForm.CAMERA:
            return _Decoded(open_camera(int(stream.address)), settings, timed=False)
        case StreamForm.RTSP:
            return _Decoded(_open_rtsp(stream, settings.timeout_s), settings, timed=True)
        case StreamForm.HLS:
            return _Hls(stream, settings)


class JpegParts(Protocol):
    """JPEG images that arrive one after another."""

    def __iter__(self) -> Iterator[bytes]:
        """Yield the images; raises OSError when the connection breaks."""

    def close(self) -> None:
        """End the connection, also while another thread waits for an image. May be called twice."""


class MjpegConnection:
    """JPEG images, such as those of one HTTP response; only samples are decoded.

    Args:
        parts: The images; closed with the connection.
        settings: Limit their size.
    """

    codec, container = "mjpeg", "multipart"

    def __init__(self, parts: JpegParts, settings: Settings) -> None:
        self._parts = parts
        self._context = av.CodecContext.create("mjpeg", "r")
        self._context.thread_count = 1
        self._context.options = {"max_pixels": str(padded(settings.max_pixels))}
        self._max_pixels = settings.max_pixels

    def arrivals(self) -> Iterator[Arrival]:
        for body in self._parts:
            yield Arrival(lambda body=body: self._decoded(body))  # type: ignore[misc]

    def _decoded(self, body: bytes) -> av.VideoFrame | None:
        try:
            frames = self._context.decode(av.Packet(body)) if body else []
        except av.FFmpegError:
            return None
        frame = next(iter(frames), None)
        if not isinstance(frame, av.VideoFrame) or frame.width * frame.height > self._max_pixels:
            return None
        return frame

    def ended(self) -> bool:
        return False  # some servers close the connection after a while

    def close(self) -> None:
        self._parts.close()


class _Decoded:
    """Frames of a container that PyAV has opened."""

    def __init__(self, container: InputContainer, settings: Settings, *, timed: bool) -> None:
        self._container = container
        self._settings = settings
        self._timed = timed
        try:
            self._stream = self._choose()
        except BaseException:
            container.close()
            raise
        self.codec = self._stream.codec_context.codec.canonical_name
        self.container = container.format.name

    def _choose(self) -> av.VideoStream:
        # Of several resolutions, the highest that is not higher than asked for.
        streams = [one for one in self._container.streams.video if one.codec_context is not None]
        if not streams:
            raise MediaError("it sends no video", kind=MediaErrorKind.NO_VIDEO)
        fitting = [one for one in streams if one.height <= self._settings.max_height]
        chosen = (
            max(fitting, key=lambda one: one.height) if fitting else min(streams, key=lambda one: one.height)
        )
        for one in self._container.streams:
            if one.index != chosen.index:
                one.discard = av.stream.Discard.all
        context = chosen.codec_context
        if not decodes(context.name):
            raise MediaError(
                f"it uses the codec {context.name}, which is not supported", kind=MediaErrorKind.CODEC
            )
        if context.width * context.height > self._settings.max_pixels:
            raise MediaError(
                f"its frames of {context.width}x{context.height} pixels exceed the limit (max_pixels)",
                kind=MediaErrorKind.TOO_LARGE,
            )
        context.thread_type = "AUTO"
        context.thread_count = min(_THREADS, self._settings.thread_count)
        context.options = {"max_pixels": str(padded(self._settings.max_pixels))}
        self._geometry = GeometryFinder(context, None, self._settings.max_pixels)
        return chosen

    def arrivals(self) -> Iterator[Arrival]:
        tick = Fraction(self._stream.time_base or Fraction(1, 90_000))
        for packet in self._container.demux(self._stream):
            self._geometry.note(packet)
            try:
                frames = self._stream.codec_context.decode(packet)
            except av.error.EOFError:
                return
            except (av.error.InvalidDataError, av.error.ArgumentError):
                yield Arrival(lambda: None)
                continue
            for frame in frames:
                shape = self._geometry.of(frame)
                if frame.width * frame.height > self._settings.max_pixels:
                    yield Arrival(lambda: None)
                    continue
                time_s = float(frame.pts * tick) if self._timed and frame.pts is not None else None
                yield Arrival(lambda one=frame: one, time_s, frame.key_frame, shape)  # type: ignore[misc]

    def ended(self) -> bool:
        return False

    def close(self) -> None:
        # Closing it while another thread reads would free memory in use: that thread closes it when it ends.
        self._container.close()


class _Hls(_Decoded):
    def __init__(self, stream: Stream, settings: Settings) -> None:
        self._address, self._headers = stream.address, stream.headers
        options = {
            "protocol_whitelist": _NETWORK,
            "format_whitelist": "hls,mpegts,mov,mp4,aac,mp3,webvtt",
            "headers": "".join(f"{name}: {value}\r\n" for name, value in stream.headers.items()),
        }
        wait_s = settings.timeout_s
        container = av.open(stream.address, format="hls", options=options, timeout=(wait_s, wait_s))
        super().__init__(container, settings, timed=True)

    def ended(self) -> bool:
        # FFmpeg also stops at errors, so that it stops proves nothing.
        try:
            with open_http(self._address, self._settings.timeout_s, self._headers) as response:
                return b"#EXT-X-ENDLIST" in response.read_all(1 << 20)
        except OSError:
            return False


def _open_rtsp(stream: Stream, timeout_s: float) -> InputContainer:
    # Over UDP, single packets of a frame may be lost.
    options = {"rtsp_transport": "tcp", "timeout": str(round(timeout_s * 1e6))}
    return av.open(stream.address, format="rtsp", options=options, timeout=(timeout_s, timeout_s))


def open_camera(number: int) -> InputContainer:
    """Open a camera of this computer.

    Raises:
        SourceError: There is no camera with this number, or it cannot be used.
    """
    form = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}.get(sys.platform, "v4l2")
    name = f"/dev/video{number}" if form == "v4l2" else str(number)
    names = _cameras(form)
    if form == "dshow" and number < len(names):
        name = f"video={names[number]}"
    try:
        return av.open(name, format=form, options={"framerate": "30"} if form == "avfoundation" else {})
    except (av.FFmpegError, ValueError) as error:
        there = f"there are {', '.join(names)}" if names else "this computer has no camera that can be used"
        why = getattr(error, "strerror", None) or error
        raise SourceError(
            f"camera {number} cannot be opened ({why}): {there}; name another number, or the address of a "
            "network camera (rtsp:// or http://)",
            kind=SourceErrorKind.NOT_FOUND,
            source=str(number),
        ) from error


def _cameras(form: str) -> list[str]:
    try:
        from av.device import enumerate_input_devices

        found = enumerate_input_devices(form)
    except (ImportError, av.FFmpegError, ValueError, OSError):
        return []
    return [str(one.name) for one in found if "audio" not in str(getattr(one, "media_types", ""))]


def connection_steps(begin: Callable[[], Connection]) -> Generator[Connection | Arrival | bool]:
    """Yield a connection, its frames, and whether the source has ended with them."""
    connection = begin()
    try:
        yield connection
        yield from connection.arrivals()
        yield connection.ended()
    finally:
        connection.close()


class ThreadedConnection:
    """Runs the steps of a connection, one on each request, in a thread that may block forever."""

    def __init__(self, steps: Generator[Connection | Arrival | bool]) -> None:
        self._asks: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Connection | Arrival | bool | BaseException] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, args=(steps,), name="live-connection", daemon=True)
        self._thread.start()

    def _run(self, steps: Generator[Connection | Arrival | bool]) -> None:
        try:
            while self._asks.get():
                self._answers.put(next(steps))
        except BaseException as error:  # noqa: BLE001 - raised again on the other side
            self._answers.put(error)
        finally:
            with contextlib.suppress(Exception):  # it is no longer needed
                steps.close()

    def step(self, limit_s: float, closing: threading.Event) -> Connection | Arrival | bool | None:
        """Return the next step; None if `closing` is set meanwhile.

        Raises:
            TimeoutError: It took longer than `limit_s`.
            Exception: As the connection.
        """
        until = time.monotonic() + limit_s
        self._asks.put(True)
        while not closing.is_set():
            try:
                answer = self._answers.get(timeout=POLL_S)
            except queue.Empty:
                if time.monotonic() > until:
                    raise TimeoutError("nothing arrived in time") from None
                continue
            if isinstance(answer, BaseException):
                raise answer
            return answer
        return None

    def leave(self, patience_s: float) -> bool:
        """Have the thread close the connection; return whether it still blocks after `patience_s`."""
        self._asks.put(False)
        self._thread.join(patience_s)
        return self.blocks

    @property
    def blocks(self) -> bool:
        """Whether its thread is still running."""
        return self._thread.is_alive()
