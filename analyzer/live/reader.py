"""Reading live sources: cameras, RTSP, MJPEG, HLS.

A `LiveReader` yields samples as `analyzer.media.reader.VideoReader` does, from a source that has no end, can
be read only once and may be unreachable for a while. One thread connects, reads and decodes. It holds one
sample for the analysis, and replaces it by each newer one. Nothing grows with time.

Times are seconds since the first frame, strictly ascending:

* Cameras and MJPEG have no time stamps: the time of arrival counts.
* RTSP: time stamps, aligned with the arrival of the first frame of each connection, and aligned anew where
  they deviate from arrival by more than `_ASTRAY_S`.
* HLS: time stamps. Parts of some seconds arrive at once, and their frames are passed on at the pace at which
  a player shows them. A second connection repeats frames; they are recognized by their time stamps and
  dropped. Where time stamps begin anew, they are aligned with the arrival.
"""

from __future__ import annotations

import datetime
import logging
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self

import av
import av.error

from analyzer.errors import MediaError, SourceError, SourceErrorKind
from analyzer.live.connections import (
    LEFT_MAX,
    PATIENCE_S,
    POLL_S,
    WATCH_S,
    Arrival,
    Connect,
    Connection,
    MjpegConnection,
    ThreadedConnection,
    connect,
    connection_steps,
)
from analyzer.media.clock import ClockJump
from analyzer.media.colors import transfer_of
from analyzer.media.demuxer import VideoInfo
from analyzer.media.frame import Frame, Sample, frame_maker
from analyzer.media.geometry import Geometry
from analyzer.media.read_report import ReadReport
from analyzer.media.sampling import Sampler, SamplingPlan
from analyzer.runs.segments import Received
from analyzer.settings import Settings
from analyzer.sources.streams import Stream, StreamForm
from analyzer.util.cancellation import never

__all__ = [
    "SEGMENT_S",
    "Gap",
    "LiveReader",
]

log = logging.getLogger(__name__)

SEGMENT_S = 10.0
"""The longest live segment. Each is saved when it ends."""

_GAP_S = 2.0
"""A stretch without frames is a gap if it is at least this long, and `_GAP_STEPS` usual steps."""

_GAP_STEPS = 4

_STEPS_KEPT = 31

_PAUSES_S = (1.0, 15.0)
"""Before connecting again: the first pause, and the longest, up to which pauses double."""

_ASTRAY_S = 2.0

_REPLAY_S = 60.0
"""An HLS connection that begins at most this long before the last frame repeats frames."""

_FORWARD_S = 15.0
"""Within an HLS connection, time stamps that jump forward by more, and ahead of the clock, belong to another
recording: what a server loses is shorter, and in the past."""

_LATE_S = 1.0
"""A segment ends at most this long after its time, whether frames arrive or not."""

_BACK_S = 0.5
"""Within a connection, time stamps that go back by more begin another recording."""

_GAPS_KEPT = 1000

_CELL_SLACK_S = 1e-3


@dataclass
class _Timing:
    """Converts time stamps to seconds since the first frame; see the head of this module."""

    form: StreamForm
    last_s: float = -1.0
    """Time of the last frame; -1 before the first."""
    _shift_s: float | None = None
    """What is added to a time stamp to get its time."""
    _fresh: bool = True
    """Whether no frame of this connection has arrived yet."""
    _repeats: bool = False
    """Whether this connection still repeats frames."""
    delay_s: float = 0.0
    """By how much HLS lags behind its times, after it stood still."""
    jumps: deque[ClockJump] = field(default_factory=lambda: deque(maxlen=_GAPS_KEPT))
    """The last jumps of the clock within a connection."""
    jump_count: int = 0

    def connected(self) -> None:
        """A connection begins."""
        self._fresh = True

    def of(self, stamp_s: float | None, now_s: float) -> float | None:
        """Return the time of a frame that arrived `now_s` after the first one; None: it is a repetition."""
        if self.form is StreamForm.HLS and stamp_s is not None:
            time_s = self._hls(stamp_s, now_s)
        elif self.form is StreamForm.RTSP and stamp_s is not None:
            time_s = self._rtsp(stamp_s, now_s)
        else:
            time_s = now_s
        self._fresh = False
        if time_s <= self.last_s:
            return None
        self.last_s = time_s
        return time_s

    def _rtsp(self, stamp_s: float, now_s: float) -> float:
        astray_s = 0.0 if self._shift_s is None else stamp_s + self._shift_s - now_s
        if self._fresh or self._shift_s is None or abs(astray_s) > _ASTRAY_S:
            self._note(now_s, astray_s)
            self._shift_s = now_s - stamp_s
        return stamp_s + self._shift_s

    def _note(self, time_s: float, by_s: float) -> None:
        if not self._fresh:  # each connection may have a clock of its own
            self.jump_count += 1
            self.jumps.append(ClockJump(round(time_s, 3), round(by_s, 3)))

    def _hls(self, stamp_s: float, now_s: float) -> float:
        if self._shift_s is None:
            self._shift_s = now_s - stamp_s
        time_s = stamp_s + self._shift_s
        # Nothing is repeated within a connection: where time goes back, another recording begins.
        new = self._fresh or self._repeats
        back_s, forward_s = (_REPLAY_S, _REPLAY_S) if new else (_BACK_S, _FORWARD_S)
        self._repeats = back_s == _REPLAY_S and time_s <= self.last_s
        if not self.last_s - back_s <= time_s <= max(now_s, self.last_s) + forward_s:
            self._repeats = False
            by_s = time_s - self.last_s
            time_s = max(now_s - self.delay_s, self.last_s + _CELL_SLACK_S)
            self._note(time_s, by_s)
            self._shift_s = time_s - stamp_s
        return time_s

    def wait_s(self, time_s: float, now_s: float, *, jumped: bool) -> float:
        """Return how long to hold a frame back. `jumped`: frames before it were lost."""
        if self.form is not StreamForm.HLS:
            return 0.0
        if jumped or time_s + self.delay_s < now_s:  # it is late: all that follow are late, too
            self.delay_s = max(0.0, now_s - time_s)
        return time_s + self.delay_s - now_s


@dataclass(frozen=True)
class Gap:
    """A stretch without frames."""

    start_s: float
    length_s: float
    reason: str


@dataclass
class _Held:
    """The newest sample."""

    frame: Frame
    clock_s: float
    gap_s: float
    dropped: int


@dataclass
class LiveState:
    """What has happened in a live run so far."""

    started_s: float | None = None
    """When the first frame arrived, in seconds since 1970."""
    ended_s: float | None = None
    connections: int = 0
    connected: bool = False
    frames: int = 0
    bad: int = 0
    repeated: int = 0
    """Frames that were repeated after a connection had broken."""
    dropped: int = 0
    gaps: deque[Gap] = field(default_factory=lambda: deque(maxlen=_GAPS_KEPT))
    gap_count: int = 0
    gap_s: float = 0.0
    end: str = ""
    """Why it ended; empty while it runs."""
    complete: bool = False
    """Whether it ended as requested, or with the source."""


class LiveReader:
    """Reads a live source. A context manager; `segments` can be iterated once.

    `info` describes the source, `state` what has happened so far.

    Args:
        stream: From `analyzer.sources.resolve`.
        settings: How to sample, when to end, how long to wait.
        name: The source as the user wrote it, for errors.
        cancelled: Asked some times a second in the thread that iterates; once true, the run ends.
        connect: Makes connections.
        now: A monotonic clock, in seconds.
        wall: Seconds since 1970.

    Raises:
        SourceError: On construction, if no frame arrives.
    """

    def __init__(
        self,
        stream: Stream,
        settings: Settings,
        *,
        name: str,
        cancelled: Callable[[], bool] = never,
        connect: Connect = connect,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._stream, self._settings, self._name, self._cancelled = stream, settings, name, cancelled
        self._connect, self._now, self._wall = connect, now, wall
        self.state = LiveState()
        self._timing, self._sampling = _Timing(stream.form), Sampler(SamplingPlan.of(settings))
        self._steps: deque[float] = deque(maxlen=_STEPS_KEPT)
        self._make = frame_maker()
        self._change = threading.Condition()
        self._closing = threading.Event()
        self._held: _Held | None = None
        self._gap_s = 0.0
        self._broke = ""
        self._origin_s: float | None = None
        self._over = self._asked = False
        self._last_s: float | None = None
        self._failure: BaseException | None = None
        self._info: VideoInfo | None = None
        self._connection: Connection | None = None
        self._left: list[ThreadedConnection] = []
        self._received: list[Received] = []
        self._next: tuple[Sample, Received] | None = None
        self._thread = threading.Thread(target=self._run, name="live", daemon=True)
        self._thread.start()
        try:
            self._await_first()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def info(self) -> VideoInfo:
        """Size, codec and format of the first frame."""
        assert self._info is not None  # else there is no reader
        return replace(self._info, clock_jumps=tuple(self._timing.jumps))

    @property
    def clock_jumps(self) -> int:
        """How often the source's clock has jumped."""
        return self._timing.jump_count

    @property
    def elapsed_s(self) -> float:
        """Seconds since the first frame."""
        return 0.0 if self._origin_s is None else self._now() - self._origin_s

    @property
    def _shown_s(self) -> float:
        """The time of the frame that is due now."""
        return self.elapsed_s - self._timing.delay_s

    def close(self) -> None:
        """End the connection. Safe to call twice."""
        self._closing.set()
        with self._change:
            self._change.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join(PATIENCE_S)

    def report(self, *, over: bool = True) -> ReadReport:
        """Report how the source was read so far. `over`: nothing more will be analyzed."""
        state = self.state
        end = state.end if over else ""
        complete = bool(end) and state.complete
        return ReadReport(
            frames=state.frames,
            bad_packets=state.bad,
            packets=state.frames + state.bad,
            repaired_times=0,
            last_s=None if self._timing.last_s < 0 else self._timing.last_s,
            complete=complete,
            reason="" if complete else end or "still running or interrupted",
        )

    def account(self, *, over: bool = True) -> dict[str, Any]:
        """Return the ``live`` section of ``run.json``; `over` as in `report`."""
        state = self.state
        with self._change:
            gaps = list(state.gaps)
        return {
            "form": str(self._stream.form),
            "started_at": _iso(state.started_s),
            "ended_at": _iso(state.ended_s) if over else None,
            "ended_because": (state.end or None) if over else None,
            "connections": state.connections,
            "dropped": state.dropped,
            "repeated": state.repeated,
            "gaps": state.gap_count,
            "gaps_s": round(state.gap_s, 3),
            "last_gaps": [
                {"start_s": round(one.start_s, 3), "length_s": round(one.length_s, 3), "reason": one.reason}
                for one in gaps
            ],
        }

    # --- called by the analysis

    def segments(self, on_wait: Callable[[], None] = lambda: None) -> Iterator[Iterator[Sample]]:
        """Yield the samples of one segment after another; iterate each to its end before the next.

        A segment ends after `Settings.segment_s`, whether frames arrive or not, so that it can be saved.

        Args:
            on_wait: Called in this thread about 20 times a second while no segment can begin.

        Raises:
            Exception: Whatever unexpected the reading thread has raised.
        """
        number = 0
        while True:
            self._next = self._next or self._take(None, on_wait)
            if self._next is None:
                break
            self._received = []
            yield self._segment(number)
            number += 1
        self._finish()
        if self._failure is not None:
            raise self._failure

    def received(self) -> list[Received]:
        """Return how each sample of the last segment arrived, in order."""
        return self._received

    def _segment(self, number: int) -> Iterator[Sample]:
        begin = self._next
        assert begin is not None
        until_s = begin[0].frame.time_s + self._settings.segment_s
        deadline_s = self.elapsed_s + self._settings.segment_s + _LATE_S
        index = 0
        one: tuple[Sample, Received] | None = begin
        self._next = None
        while one is not None:
            sample, received = one
            if sample.frame.time_s >= until_s:
                self._next = one
                return
            self._received.append(received)
            yield Sample(sample.frame, number, index)
            index += 1
            one = self._take(deadline_s)

    def _take(
        self, deadline_s: float | None, on_wait: Callable[[], None] = lambda: None
    ) -> tuple[Sample, Received] | None:
        """Wait for the newest sample; None at the end, or once `elapsed_s` exceeds the deadline."""
        while True:
            # Callers' functions are called without the lock: they may take their time.
            on_wait()
            if self._asked_to_end():
                return None
            with self._change:
                if self._held is not None:
                    held, self._held = self._held, None
                    self.state.dropped += held.dropped
                    return Sample(held.frame, 0, 0), Received(held.clock_s, held.gap_s, held.dropped)
                late = deadline_s is not None and self.elapsed_s > deadline_s
                if late or self._is_long_enough() or self._over:
                    return None
                self._change.wait(POLL_S)

    def _asked_to_end(self) -> bool:
        """Whether the caller wants no more."""
        if not self._asked and self._cancelled():
            self._asked = True
            with self._change:
                self._end("it was stopped", complete=True)
        return self._asked

    def _is_long_enough(self) -> bool:
        """Whether the requested duration is reached. The lock is held."""
        stop_s = self._settings.stop_s
        if stop_s is None:
            return False
        reached = self._shown_s >= stop_s
        if self._stream.form is StreamForm.HLS:
            # While it stands still, its frames may be lost or only late.
            shown = self._last_s is not None and self._last_s >= stop_s
            reached = shown or self._shown_s >= stop_s + self._settings.timeout_s
        if reached:
            self._end("the requested duration was reached", complete=True)
        return reached

    def _end(self, reason: str, *, complete: bool) -> None:
        self._over = True
        self._closing.set()
        if not self.state.end:
            self.state.end, self.state.complete = reason, complete

    def _finish(self) -> None:
        state, stop_s = self.state, self._settings.stop_s
        self._closing.set()
        if state.ended_s is None:
            state.ended_s = self._wall()
            end_s = self._shown_s if stop_s is None else min(stop_s, self._shown_s)
            if state.end and self._lost(end_s):
                self._note_gap(end_s, self._broke or "no frames arrived")

    # --- the reading thread

    def _run(self) -> None:
        try:
            self._read()
        except BaseException as error:  # noqa: BLE001 - raised again on the other side
            self._failure = error
        finally:
            with self._change:
                self._end("reading the source failed", complete=False)
                self._change.notify_all()

    def _read(self) -> None:
        pause_s, broke_at = _PAUSES_S[0], 0.0
        while not self._closing.is_set():
            frames = self.state.frames
            try:
                if self._connected():
                    with self._change:
                        self._end_by_itself()
                    return
            except _EXPECTED as error:
                if self._origin_s is None:
                    raise
                self._broke = _why(error)
                log.info("%s: connection %d: %s", self._name, self.state.connections, self._broke)
            self.state.connected = False
            if self._origin_s is None:
                raise TimeoutError("the connection ended before its first frame")
            if self.state.frames > frames:
                pause_s, broke_at = _PAUSES_S[0], self._now()
            if self._now() - broke_at > self._settings.reconnect_s:
                with self._change:
                    away = self._now() - broke_at
                    self._end(f"the source was unreachable for {away:.0f} s ({self._broke})", complete=False)
                return
            self._closing.wait(pause_s)
            pause_s = min(2 * pause_s, _PAUSES_S[1])

    def _end_by_itself(self) -> None:
        stop_s = self._settings.stop_s
        if stop_s is None:
            self._end("the source has ended", complete=True)
        else:
            at = f"{self._timing.last_s:.1f} of {stop_s:g} s"
            self._end(f"the source ended at {at}", complete=False)

    def _connected(self) -> bool:
        """Read one connection to its end; return whether that was the end of the source."""
        stream = self._stream
        if stream.renew is not None and self.state.connections:
            stream = stream.renew()
        self._left = [one for one in self._left if one.blocks]
        if len(self._left) >= LEFT_MAX:
            raise TimeoutError("earlier connections still block")
        apart, patience_s = (
            ThreadedConnection(connection_steps(lambda: self._connect(stream, self._settings))),
            PATIENCE_S,
        )
        try:
            return self._stepped(apart)
        except TimeoutError:
            patience_s = 0.0  # it may block forever
            raise
        finally:
            connection, self._connection = self._connection, None
            if isinstance(
                connection, MjpegConnection
            ):  # may be closed by another thread, which wakes its own
                connection.close()
            if apart.leave(patience_s):
                self._left.append(apart)

    def _stepped(self, apart: ThreadedConnection) -> bool:
        """Take the steps of a connection; return whether the source has ended."""
        timeout_s, connection = self._settings.timeout_s, None
        silent_since = self._now()
        while not self._closing.is_set():
            # FFmpeg times opening twice: the connection, and the first data.
            limit_s = (timeout_s if connection is not None else 2 * timeout_s) + WATCH_S
            step = apart.step(limit_s, self._closing)
            if self._closing.is_set() or step is None:
                return False
            if isinstance(step, bool):
                self._broke = "the connection ended"
                return step
            if not isinstance(step, Arrival):
                connection = self._connection = step
                self.state.connections += 1
                self._timing.connected()
                silent_since = self._now()
                continue
            assert connection is not None  # it is the first step
            if self._arrived(step, connection):
                silent_since = self._now()
            elif self._now() - silent_since > timeout_s:
                raise TimeoutError(f"no usable frame for {timeout_s:g} s")
        return False

    def _arrived(self, arrival: Arrival, connection: Connection) -> bool:
        """Take what has arrived; return whether it was a usable frame."""
        decoded, now_s = None, self.elapsed_s
        if self._origin_s is None:
            decoded = arrival.decode()
            if decoded is None:
                self.state.bad += 1
                return False
            self._begin(decoded, arrival.geometry, connection)
        time_s = self._timing.of(arrival.time_s, now_s)
        if time_s is None:
            self.state.repeated += 1
            return True
        wait_s = self._timing.wait_s(time_s, self.elapsed_s, jumped=self._lost(time_s))
        if wait_s > 0:
            self._closing.wait(wait_s)
        wanted = self._sampling.wants(time_s, arrival.keyframe)
        if wanted and decoded is None:
            decoded = arrival.decode()
            if decoded is None:
                self.state.bad += 1
                return False
        self._count(time_s)
        stop_s = self._settings.stop_s
        taken = wanted and (stop_s is None or time_s < stop_s)
        self._sampling.passed(time_s, taken=taken)
        if taken and decoded is not None:
            self._offer(self._make(decoded, time_s, arrival.geometry))
        return True

    def _begin(self, decoded: av.VideoFrame, geometry: Geometry | None, connection: Connection) -> None:
        frame, started_s = self._make(decoded, 0.0, geometry), self._wall()
        self._info = VideoInfo(
            width=frame.width,
            height=frame.height,
            duration_s=None,
            fps=None,
            codec=connection.codec,
            container=connection.container,
            pix_fmt=decoded.format.name,
            audio_codec=None,
            recorded_at=(_iso(started_s) or "")[:19] + "+00:00",
            geometry=frame.geometry,
            transfer=transfer_of(decoded),
        )
        with self._change:
            self.state.started_s = started_s
            self._origin_s = self._now()
            self._change.notify_all()

    def _count(self, time_s: float) -> None:
        """Count a frame, and note the gap before it, if there is one."""
        state, last_s = self.state, self._last_s
        if last_s is not None:
            if self._lost(time_s):
                with self._change:
                    self._gap_s += self._note_gap(time_s, self._broke or "no frames arrived")
            self._steps.append(time_s - last_s)
        self._broke = ""
        self._last_s = time_s
        state.frames += 1
        state.connected = True

    def _usual_s(self) -> float:
        return statistics.median(self._steps) if self._steps else 1 / self._settings.fps

    def _lost(self, time_s: float) -> bool:
        """Whether frames were lost between the last one and a time."""
        if self._last_s is None:
            return False
        step_s = time_s - self._last_s
        if step_s <= (_GAP_S if not self._broke else 0.5):
            return False
        return step_s > (_GAP_STEPS if not self._broke else 2) * self._usual_s()

    def _note_gap(self, time_s: float, reason: str) -> float:
        """Note a gap that ends at a time; return its length. The last frame counts for one usual step."""
        assert self._last_s is not None
        start_s = min(self._last_s + self._usual_s(), time_s)
        gap = Gap(start_s, time_s - start_s, reason)
        self.state.gaps.append(gap)
        self.state.gap_count += 1
        self.state.gap_s += gap.length_s
        return gap.length_s

    def _offer(self, frame: Frame) -> None:
        with self._change:
            gap_s, self._gap_s = self._gap_s, 0.0
            dropped = 0
            held = self._held
            if held is not None:
                dropped = held.dropped + 1
                if held.gap_s:  # what was dropped after a gap belongs to the gap
                    gap_s = held.gap_s + frame.time_s - held.frame.time_s
            self._held = _Held(frame, self._wall(), gap_s, dropped)
            self._change.notify_all()

    # --- the beginning

    def _await_first(self) -> None:
        while True:
            with self._change:
                if self._origin_s is not None or self._over:
                    break
                self._change.wait(POLL_S)
            if self._cancelled():
                raise self._refused("it was stopped before the first frame arrived")
        if self._origin_s is None:
            failure = self._failure
            if isinstance(failure, SourceError):
                raise failure
            if failure is not None and not isinstance(failure, _EXPECTED):
                raise failure
            raise self._refused(_why(failure), failure) from failure

    def _refused(self, why: str, error: BaseException | None = None) -> SourceError:
        kind = SourceErrorKind.NETWORK
        if isinstance(error, TimeoutError):
            kind = SourceErrorKind.TIMEOUT
        if isinstance(error, MediaError | ValueError) and not isinstance(error, OSError):
            kind = SourceErrorKind.UNSUPPORTED
        return SourceError(
            f"{self._name} cannot be read ({why}): check the address, and that the camera or server is on",
            kind=kind,
            source=self._name,
            retry=kind is not SourceErrorKind.UNSUPPORTED,
        )


_EXPECTED = (MediaError, SourceError, OSError, ValueError, av.FFmpegError)


def _why(error: BaseException | None) -> str:
    """Say what went wrong, in a few words without an address."""
    if isinstance(error, MediaError | SourceError):
        return str(error)
    if isinstance(error, TimeoutError | av.error.ExitError):
        return "nothing arrived in time"
    said = getattr(error, "strerror", None)
    if isinstance(error, OSError | av.FFmpegError) and said:
        return str(said).lower()
    if isinstance(error, ValueError | ConnectionError) and str(error):
        return str(error)
    return "no connection" if error is None else type(error).__name__


def _iso(moment_s: float | None) -> str | None:
    if moment_s is None:
        return None
    return datetime.datetime.fromtimestamp(moment_s, datetime.UTC).isoformat(timespec="milliseconds")
