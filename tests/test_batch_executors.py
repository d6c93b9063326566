"""Messages, workers, the contract of every executor, and processes that misbehave."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from analyzer.batch.config import Limits, Retry
from analyzer.batch.executors.base import Executor
from analyzer.batch.executors.inline import InlineExecutor
from analyzer.batch.executors.local import LocalExecutor, _Child
from analyzer.batch.failure_policy import Failure, Phase, delay_s
from analyzer.batch.protocol import (
    FINAL,
    Cancel,
    Done,
    Failed,
    JobEvent,
    JobSpec,
    Logged,
    Opened,
    Placed,
    Progress,
    ProtocolError,
    Ready,
    Rejected,
    Resources,
    RunFacts,
    Segment,
    SegmentsDone,
    Stopped,
    decode_command,
    decode_event,
    encode,
)
from analyzer.batch.worker import Worker
from analyzer.errors import CrashError, MediaError, MediaErrorKind, ModelError, OutputError
from analyzer.settings import Settings
from analyzer.sources.types import MediaKind, Video
from testkit.clusters import cluster
from testkit.media import numbered, write_video
from tests.batch_faults import Acts, Quick, acts

COUNTS = {"people": 2, "female": 1, "male": 0, "faces": 9, "samples": 5, "analyzed_s": 1.5}
RESOURCES = Resources(memory_mb=1500, stall_s=60)
numbers = itertools.count(1)


def video(title: str = "Talk", duration_s: float | None = None) -> Video:
    facts: dict[str, Any] = dict.fromkeys(("audio_path", "url", "channel", "uploaded", "uploaded_at"))
    known = facts | {"video_id": f"v{next(numbers)}", "paths": (Path("clip.mp4"),), "source": "clip.mp4"}
    return Video(kind=MediaKind.VIDEO, title=title, duration_s=duration_s, fetched=False, details={}, **known)


def job(out: Path, title: str = "Talk", duration_s: float | None = None, **more: Any) -> JobSpec:
    known: dict[str, Any] = {"settings_hash": "s", "models_hash": "m", "resources": RESOURCES} | more
    return JobSpec(next(numbers), video(title, duration_s), Settings(video=False), out, **known)


def facts(spec: JobSpec) -> RunFacts:
    return RunFacts(spec.video.video_id, "Talk", None, None, True, None, None, 1.5, dict(COUNTS))


def done(spec: JobSpec, **changed: Any) -> dict[str, Any]:
    """The `Done` of a worker, as JSON."""
    event = Done(spec.job_id, f"talk-{spec.video.video_id}", facts(spec), 1.0, None, None)
    document: dict[str, Any] = json.loads(encode(event))
    return document | changed


# --- messages ----------------------------------------------------------------------------------------


def test_messages_arrive_as_they_were(tmp_path: Path) -> None:
    spec = job(
        tmp_path,
        "caf\udce9 \x1b",
        shorter_than_s=2.5,
        resources=Resources(1, 2, 3, 4.5),
        report=("html", "csv"),
    )
    assert decode_command(encode(spec)) == spec
    assert decode_command(encode(Cancel(3))) == Cancel(3)
    for event in (
        Ready(spec.job_id),
        Opened(spec.job_id, "a1", (0, 1), None, None),
        Segment(spec.job_id, 3, 4, 5, 6),
        Failed(spec.job_id, "model", Phase.LOAD, "no"),
        Rejected(spec.job_id, "too long", 7.5),
        Done(spec.job_id, f"talk-{spec.video.video_id}", facts(spec), 1.0, "no space", 99.5),
    ):
        assert decode_event(encode(event), spec, cancelled=False) == event


CHANGES: dict[str, dict[str, Any]] = {
    "another job's": {"job_id": 10**6},
    "no number": {"job_id": "1"},
    "true is no number": {"analysis_s": True},
    "less than nothing": {"analysis_s": -1},
    "not finite": {"analysis_s": math.nan},
    "larger than anything": {"analysis_s": 10**400},
    "unknown key": {"more": 1},
    "unknown message": {"type": "quit"},
    "an order": {"type": "cancel"},
    "another folder": {"run": "../../etc"},
    "another video's folder": {"run": "talk-other"},
    "no facts": {"facts": None},
    "another video's facts": {"facts": {"video_id": "other"}},
    "counts missing": {"facts": {"counts": {}}},
    "counts wrong": {"facts": {"counts": COUNTS | {"people": "7"}}},
    "complete is no word": {"facts": {"complete": "yes"}},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_messages_of_another_form_are_refused(change: dict[str, Any], tmp_path: Path) -> None:
    spec = job(tmp_path)
    assert isinstance(decode_event(json.dumps(done(spec)).encode(), spec, cancelled=False), Done)
    if isinstance(change.get("facts"), dict):
        change = {"facts": done(spec)["facts"] | change["facts"]}
    with pytest.raises(ProtocolError):
        decode_event(json.dumps(done(spec, **change)).encode(), spec, cancelled=False)


@pytest.mark.parametrize("raw", [b"", b"\xff", b"[]", b"1", b"null", b'{"type": []}', b"[" * 99_999])
def test_what_is_not_a_message_is_refused(raw: bytes, tmp_path: Path) -> None:
    with pytest.raises(ProtocolError):
        decode_event(raw, job(tmp_path), cancelled=False)
    with pytest.raises(ProtocolError):
        decode_command(raw)


@pytest.mark.parametrize(
    "document",
    [
        {"type": "ready"},
        {"type": "segment", "segment": -1, "samples": 1, "faces": 1, "size_bytes": 1},
        {"type": "opened", "parts_key": "../x", "completed": [], "expected": None, "duration_s": None},
        {"type": "opened", "parts_key": "a", "completed": ["1"], "expected": None, "duration_s": None},
        {"type": "failed", "kind": "bot_check", "phase": "analyze", "error": "x"},
        {"type": "failed", "kind": "model", "phase": "fetch", "error": "x"},
        {"type": "failed", "kind": "model", "phase": "sleep", "error": "x"},
    ],
)
def test_other_messages_are_checked_too(document: dict[str, Any], tmp_path: Path) -> None:
    spec = job(tmp_path)
    known = {} if document == {"type": "ready"} else {"job_id": spec.job_id}
    with pytest.raises(ProtocolError):
        decode_event(json.dumps(known | document).encode(), spec, cancelled=False)


def test_texts_that_cannot_be_stored_are_made_harmless(tmp_path: Path) -> None:
    spec = job(tmp_path)
    raw = encode(Failed(spec.job_id, "output", Phase.ANALYZE, "a\udce9" + "x" * 10**5))
    event = decode_event(raw, spec, cancelled=False)
    assert isinstance(event, Failed) and event.error.startswith("a?x") and len(event.error) == 10_000
    event.error.encode()


# --- a worker ----------------------------------------------------------------------------------------


def emitted(worker: Worker, spec: JobSpec, cancelled: Callable[[], bool] = lambda: False) -> list[JobEvent]:
    events: list[JobEvent] = []
    worker.run_job(spec, events.append, cancelled)
    assert [isinstance(event, FINAL) for event in events] == [False] * (len(events) - 1) + [True]
    assert {event.job_id for event in events} == {spec.job_id}
    return events


def segments(events: list[JobEvent]) -> list[int]:
    return [event.segment for event in events if isinstance(event, Segment)]


def test_each_job_is_cancelled_by_itself(tmp_path: Path) -> None:
    worker = Worker(Acts)
    assert [type(event) for event in emitted(worker, job(tmp_path), lambda: True)] == [Ready, Stopped]
    asked = iter([False, True])
    stopped = emitted(worker, job(tmp_path), lambda: next(asked))
    assert segments(stopped) == [0] and isinstance(stopped[-1], Stopped)
    after = emitted(worker, job(tmp_path))
    assert segments(after) == [0, 1] and isinstance(after[-1], Done)


@pytest.mark.parametrize(
    ("limits", "duration_s", "reason"),
    [
        ({"shorter_than_s": 2}, 8.0, "longer than 2 s (8 s)"),
        ({"longer_than_s": 5}, 0.5, "shorter than 5 s (0.5 s)"),
        ({"longer_than_s": 5}, None, None),
        ({"longer_than_s": 5, "shorter_than_s": 9}, 8.0, None),
    ],
)
def test_nothing_of_a_video_of_a_wrong_length_is_analyzed(
    limits: dict[str, float], duration_s: float | None, reason: str | None, tmp_path: Path
) -> None:
    worker = Worker(Acts)
    events = emitted(worker, job(tmp_path, duration_s=duration_s, **limits))
    if reason is None:
        assert segments(events) == [0, 1] and isinstance(events[-1], Done)
    else:
        assert segments(events) == [] and events[-1] == Rejected(events[-1].job_id, reason, duration_s)
    assert segments(emitted(worker, job(tmp_path))) == [0, 1]


@pytest.mark.parametrize("error", [OutputError("no such folder"), KeyError("age"), MemoryError()], ids=repr)
def test_a_report_that_fails_does_not_fail_the_run(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make_report(folders: list[Path]) -> None:
        assert (folders[0] / "run.json").exists()
        raise error

    monkeypatch.setattr("analyzer.report.make_report", make_report)
    event = emitted(Worker(Acts), job(tmp_path, report=("html",)))[-1]
    assert isinstance(event, Done) and event.report_error is not None
    assert (str(error) if isinstance(error, OutputError) else repr(error)) in event.report_error


class Fails(Quick):
    """Fails while it loads, or while it analyzes."""

    error: Exception
    loading: bool

    def load(self) -> None:
        if self.loading:
            raise self.error

    def analyze(self, video: Video, out: Path, timings: dict[str, float]) -> Any:
        raise self.error


def caused(words: str, cause: Exception) -> ModelError:
    error = ModelError(words)
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "loading", "analyzing"),
    [
        (MemoryError(), "start", "memory"),
        (ModelError("it failed", no_memory=True), "start", "memory"),
        (ModelError("no allocator of that name"), "model", "model"),
        (caused("it failed", RuntimeError("could not execute a primitive")), "model", "model"),
        (RuntimeError("bad allocation"), "start", "unexpected"),
        (KeyError("x"), "start", "unexpected"),
        (MediaError("broken", kind=MediaErrorKind.DAMAGED), "start", "damaged"),
        (OutputError("full", no_space=True), "no_space", "no_space"),
        (CrashError("a process ended: analyze --workers 1 needs the least memory"), "start", "crash"),
    ],
    ids=str,
)
def test_a_failure_is_classified_by_type_and_phase(
    error: Exception, loading: str, analyzing: str, tmp_path: Path
) -> None:
    for phase, kind in ((Phase.LOAD, loading), (Phase.ANALYZE, analyzing)):
        maker = type("Failing", (Fails,), {"error": error, "loading": phase is Phase.LOAD})
        event = emitted(Worker(maker), job(tmp_path))[-1]
        assert isinstance(event, Failed) and (event.kind, event.phase) == (kind, phase)
        assert event.error and "\n" not in event.error
        assert phase is Phase.LOAD or "--workers" not in event.error, "a batch has other options"
        failure = Failure(event.kind, event.error, event.phase)
        assert failure.ends_batch == (phase is Phase.LOAD or kind == "no_space")
        if kind == "model" and phase is Phase.ANALYZE:  # as those that kill their process
            tries = [delay_s(failure, earlier, Retry(), Limits(crashes=3)) for earlier in range(4)]
            assert [pause is None for pause in tries] == [False, False, True, True]


def test_models_stay_loaded_for_the_next_job_with_the_same_settings(tmp_path: Path) -> None:
    made: list[Settings] = []

    class Counted(Acts):
        def __init__(self, settings: Settings, *more: Any) -> None:
            made.append(settings)
            super().__init__(settings, *more)

    worker, other = Worker(Counted), Settings(video=False, fps=2)
    for settings in (Settings(video=False), Settings(video=False), other, other):
        spec = JobSpec(next(numbers), video(), settings, tmp_path, "s", "m")
        assert isinstance(emitted(worker, spec)[-1], Done)
    assert made == [Settings(video=False), other]


def test_warnings_are_bounded_and_end_with_the_job(tmp_path: Path) -> None:
    log, root = logging.getLogger("library"), logging.getLogger()
    before = list(root.handlers)

    class Noisy(Acts):
        def load(self) -> None:
            log.warning("slow to load")

        def analyze(self, *given: Any) -> Any:
            try:
                raise ValueError("the cause")
            except ValueError:
                log.exception("a" * 10**5)
            for number in range(1000):
                log.warning("frame %d", number)
            return super().analyze(*given)

    events = emitted(Worker(Noisy), job(tmp_path))
    logged = [event for event in events if isinstance(event, Logged)]
    assert isinstance(events[0], Logged) and isinstance(events[1], Ready)
    assert [event.message for event in logged[:3:2]] == ["slow to load", "frame 0"]
    assert (logged[1].level, len(logged[1].message)) == ("ERROR", 2000)
    assert logged[1].message.startswith("aaa") and logged[1].message.endswith("ValueError: the cause")
    assert len(logged) == 30 and "further warnings of this job are not logged" in logged[-1].message
    assert root.handlers == before


def test_a_warning_belongs_to_one_of_the_jobs_side_by_side(tmp_path: Path) -> None:
    log, both = logging.getLogger("library"), threading.Barrier(2, timeout=30)

    class Noisy(Acts):
        def analyze(self, *given: Any) -> Any:
            both.wait()
            log.warning("in %s", threading.get_ident())
            helper = threading.Thread(target=lambda: log.warning("helper of %s", threading.get_ident()))
            helper.start()
            helper.join()
            both.wait()
            return super().analyze(*given)

    executor, events = InlineExecutor(2, 2, analyzers=Noisy), list[Any]()
    try:
        for _ in range(2):
            executor.submit(job(tmp_path))
        while sum(isinstance(event, Done) for event in events) < 2:
            events += executor.events(30)
    finally:
        executor.close()
    logged = [event for event in events if isinstance(event, Logged)]
    own = [event for event in logged if event.message.startswith("in ")]
    assert len(logged) == 4, "each once"
    assert len({event.job_id for event in own}) == len({event.message for event in own}) == 2


# --- the contract of every executor -------------------------------------------------------------------


def ray_executor(slots: int) -> Executor:
    from analyzer.batch.executors.ray import RayExecutor

    return RayExecutor(slots, cpus=2, memory_mb=100, prepare=acts)


EXECUTORS: dict[str, Callable[[int], Executor]] = {
    "inline": lambda slots: InlineExecutor(slots, 4, analyzers=Acts),
    "local": lambda slots: LocalExecutor(slots, 4, prepare=acts),
    "ray": ray_executor,
}
"""A further executor is tested by an entry here."""


@pytest.fixture(scope="module", params=EXECUTORS.values(), ids=EXECUTORS)
def make_executor(request: pytest.FixtureRequest) -> Iterator[Callable[[int], Executor]]:
    with contextlib.ExitStack() as stack:
        if request.param is ray_executor:
            stack.enter_context(cluster(4, 4))
        yield request.param


@pytest.fixture(scope="module")
def executor(make_executor: Callable[[int], Executor]) -> Iterator[Executor]:
    """With two slots; each test leaves it idle."""
    made = make_executor(2)
    yield made
    made.close()


def until(executor: Executor, true: Callable[[list[JobEvent]], bool]) -> list[JobEvent]:
    """The events until a condition holds; checks that each job ends once, without further events."""
    events: list[JobEvent] = []
    deadline = time.monotonic() + 240
    while not true(events):
        assert time.monotonic() < deadline, events
        for event in executor.events(0.05):
            ended = {each.job_id for each in events if isinstance(each, FINAL)}
            assert event.job_id not in ended
            events.append(event)
    return events


def run(executor: Executor, spec: JobSpec) -> list[JobEvent]:
    """All events of a job, one of which is the last."""
    executor.submit(spec)
    return of(spec, until(executor, lambda events: ended(events, spec)))


def ended(events: list[JobEvent], *specs: JobSpec) -> bool:
    return {spec.job_id for spec in specs} <= {each.job_id for each in events if isinstance(each, FINAL)}


def of(spec: JobSpec, events: list[JobEvent]) -> list[JobEvent]:
    """The events of a job; where it runs is of no interest here."""
    return [event for event in events if event.job_id == spec.job_id and not isinstance(event, Placed)]


def at_work(*specs: JobSpec) -> Callable[[list[JobEvent]], bool]:
    """Whether all have finished their first segment."""
    return lambda events: all(segments(of(spec, events)) == [0] for spec in specs)


def test_a_job_reports_what_happens_in_order(executor: Executor, tmp_path: Path) -> None:
    events = run(executor, job(tmp_path))
    assert [type(event) for event in events] == [Ready, Opened, Segment, Segment, Done]
    assert segments(events) == [0, 1]


def test_without_jobs_there_are_no_events(executor: Executor) -> None:
    assert list(executor.events(0)) == list(executor.events(0.01)) == []


def test_jobs_do_not_disturb_each_other(executor: Executor, tmp_path: Path) -> None:
    """One after another: each is analyzed once, as if it were alone."""
    wrong_length = run(executor, job(tmp_path, duration_s=8, shorter_than_s=2))
    assert segments(wrong_length) == [] and isinstance(wrong_length[-1], Rejected)
    for title, last, work in (
        ("Talk", Done, [0, 1]),
        ("model", Failed, [0]),
        ("Talk", Done, [0, 1]),
        ("memory", Failed, [0]),
        ("Talk", Done, [0, 1]),
    ):
        events = run(executor, job(tmp_path, title))
        assert isinstance(events[0], Ready) and isinstance(events[-1], last) and segments(events) == work


def test_as_many_jobs_run_side_by_side_as_there_are_slots(executor: Executor, tmp_path: Path) -> None:
    first, second, third = (job(tmp_path, "patient") for _ in range(3))
    assert executor.slots == 2
    executor.submit(first)
    executor.submit(second)
    until(executor, at_work(first, second))
    with pytest.raises(RuntimeError, match="slots"):
        executor.submit(third)
    executor.cancel(first.job_id)
    events = until(executor, lambda events: ended(events, first))
    assert isinstance(of(first, events)[-1], Stopped) and not ended(events, second)
    executor.submit(third)
    until(executor, at_work(third))
    executor.cancel(second.job_id)
    executor.cancel(third.job_id)
    events = until(executor, lambda events: ended(events, second, third))
    assert segments(events) == [], "they stopped where they were"


def test_canceling_a_job_that_has_ended_does_nothing(executor: Executor, tmp_path: Path) -> None:
    """Also if it ends before it reads the message."""
    late = job(tmp_path, "heedless")
    executor.submit(late)
    executor.cancel(late.job_id)
    events = until(executor, lambda events: ended(events, late))
    assert isinstance(events[-1], Done | Stopped)  # it may be asked before it begins
    executor.cancel(late.job_id)
    executor.cancel(10**6)
    assert segments(run(executor, job(tmp_path))) == [0, 1]


@pytest.mark.parametrize("title", ["malformed", "stops"])
def test_a_malformed_message_fails_its_job_and_no_other(
    title: str, executor: Executor, tmp_path: Path
) -> None:
    """So does a `Stopped` that was not requested: the job would be repeated for ever."""
    other = job(tmp_path, "patient")
    executor.submit(other)
    until(executor, at_work(other))
    events = run(executor, job(tmp_path, title))
    failed = events[-1]
    assert isinstance(failed, Failed) and (failed.kind, failed.phase) == ("crash", Phase.ANALYZE)
    assert segments(events) == [0]
    assert segments(run(executor, job(tmp_path))) == [0, 1]
    executor.cancel(other.job_id)
    assert isinstance(until(executor, lambda events: ended(events, other))[-1], Stopped)


def test_a_job_has_the_resources_that_it_names(
    make_executor: Callable[[int], Executor], executor: Executor, tmp_path: Path
) -> None:
    for threads, workers in ((2, 1), (3, 2)):
        resources = Resources(workers=workers, threads=threads, memory_mb=1500)
        events = run(executor, job(tmp_path, "resources", resources=resources))
        found = [event.samples for event in events if isinstance(event, Segment)]
        # One machine of a cluster has no more than a slot for a job.
        expected = 21 if make_executor is ray_executor else threads * 10 + workers
        assert found == [expected] * 2


def test_some_segments_are_analyzed_alone_and_used_later(executor: Executor, tmp_path: Path) -> None:
    """First none: the video is only opened."""
    spec = job(tmp_path)

    def events_of(part: tuple[int, int] | None) -> list[JobEvent]:
        return run(executor, replace(spec, job_id=next(numbers), segments=part))

    if isinstance(executor, InlineExecutor | LocalExecutor):  # others divide jobs by themselves
        expected: list[tuple[tuple[int, int], tuple[int, ...], list[int]]] = [
            ((0, 0), (), []),
            ((1, 2), (), [1]),
            ((1, 2), (1,), []),
            ((0, 2), (1,), [0]),
        ]
        for part, completed, analyzed in expected:
            events = events_of(part)
            assert isinstance(events[-1], SegmentsDone) and segments(events) == analyzed
            assert [event.completed for event in events if isinstance(event, Opened)] == [completed]
        assert not list(tmp_path.rglob("run.json"))
    events = events_of(None)
    assert isinstance(events[-1], Done)


def test_warnings_of_a_job_are_its_events(executor: Executor, tmp_path: Path) -> None:
    spec = job(tmp_path, "warns")
    events = run(executor, spec)
    nodes = {status.node for status in executor.workers()}
    assert {event.node for event in events if isinstance(event, Logged)} <= nodes | {""}
    (logged,) = [replace(event, node="") for event in events if isinstance(event, Logged)]
    assert logged == Logged(
        spec.job_id, "WARNING", "library.decoder", "http://example.org/a: 3 frames are damaged"
    )
    assert segments(events) == [0, 1] and isinstance(events[-1], Done)
    assert not [event for event in run(executor, job(tmp_path)) if isinstance(event, Logged)]


def test_closing_ends_all_jobs_without_further_events(
    make_executor: Callable[[int], Executor], tmp_path: Path
) -> None:
    executor = make_executor(2)
    first, second = job(tmp_path, "patient"), job(tmp_path, "patient")
    executor.submit(first)
    executor.submit(second)
    until(executor, at_work(first, second))
    executor.close()
    executor.close()
    assert list(executor.events(0.01)) == []


REAL: dict[str, Callable[[], Executor]] = {
    "inline": InlineExecutor,
    "local": lambda: LocalExecutor(1, 2),
}


@pytest.mark.parametrize("make", REAL.values(), ids=REAL)
def test_a_cancelled_analysis_does_not_finish_its_segment(
    make: Callable[[], Executor], tmp_path: Path
) -> None:
    """With the models: the segment is five minutes long, and none of it is committed."""
    path = write_video(tmp_path / "long.mp4", numbered(600), fps=2)
    settings = Settings(video=False, fps=2, segment_s=300)
    executor = make()
    try:
        spec = replace(job(tmp_path / "out"), settings=settings, video=replace(video(), paths=(path,)))
        executor.submit(spec)
        before = until(executor, lambda events: any(isinstance(event, Progress) for event in events))
        executor.cancel(spec.job_id)
        after = until(executor, lambda events: ended(events, spec))
        assert isinstance(after[-1], Stopped) and segments(before + after) == []
        read_s = max(event.time_s for event in before + after if isinstance(event, Progress))
        assert read_s < 200
    finally:
        executor.close()


# --- processes that message or die -----------------------------------------------------------------------


class Process:
    """A test double for a process: the test writes its messages."""

    pid = 1

    def __init__(self, theirs: Connection) -> None:
        self.theirs = theirs
        self.exitcode: int | None = None

    def is_alive(self) -> bool:
        return self.exitcode is None

    def die(self, code: int) -> None:
        self.exitcode = code
        self.theirs.close()

    def kill(self) -> None:
        if self.is_alive():
            self.die(-9)

    def join(self, timeout: float | None = None) -> None:
        """It ends at once, or not at all."""

    close = join

    def say(self, message: Any) -> None:
        self.theirs.send_bytes(message if isinstance(message, bytes) else json.dumps(message).encode())


class Scripted(LocalExecutor):
    """An executor whose processes are test doubles."""

    def __init__(self) -> None:
        super().__init__(1, 1)
        self.started: list[Process] = []

    @property
    def free(self) -> int:
        return self.slots - sum(child.spec is not None for child in self._children)

    def _start(self, memory_mb: int | None) -> _Child:
        ours, theirs = Pipe()
        self.started.append(Process(theirs))
        child = _Child(1, self.started[-1], ours, memory_mb)  # type: ignore[arg-type]
        self._children.append(child)
        return child

    def all_events(self) -> list[JobEvent]:
        return [event for _ in range(3) for event in self.events(0)]


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    one = Scripted()
    yield one
    one.close()


def ready(scripted: Scripted, spec: JobSpec) -> Process:
    """The process that has loaded its models for a job."""
    scripted.submit(spec)
    process = scripted.started[-1]
    assert decode_command(process.theirs.recv_bytes()) == spec
    process.say(encode(Ready(spec.job_id)))
    assert scripted.all_events() == [Ready(spec.job_id)]
    return process


MALFORMED: dict[str, Any] = {
    "not JSON": b"\xff\xfe",
    "not an object": [1],
    "of another job": {"type": "stopped", "job_id": 10**9},
    "stopped without a request": "stopped",
    "too long": b" " * (17 * 2**20),
}


@pytest.mark.parametrize("is_ready", [True, False])
@pytest.mark.parametrize("message", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_message_ends_its_process_and_fails_its_job(
    message: Any, is_ready: bool, scripted: Scripted, tmp_path: Path
) -> None:
    spec, after = job(tmp_path), job(tmp_path)
    if is_ready:
        process = ready(scripted, spec)
    else:
        scripted.submit(spec)
        process = scripted.started[-1]
    if message == "stopped":
        message = {"type": "stopped", "job_id": spec.job_id}
    if (
        isinstance(message, bytes) and len(message) > 10**6
    ):  # only its length is sent: more would fill the pipe
        process.theirs._send((len(message)).to_bytes(4, "big"))  # type: ignore[attr-defined]
    else:
        process.say(message)
    (failed,) = scripted.all_events()
    assert isinstance(failed, Failed) and (failed.kind, failed.phase) == ("crash", Phase.ANALYZE)
    assert not Failure(failed.kind, failed.error, failed.phase).ends_batch
    assert not process.is_alive() and scripted.free == 1
    process = ready(scripted, after)
    process.say(done(after))
    (event,) = scripted.all_events()
    assert isinstance(event, Done) and len(scripted.started) == 2


def test_an_idle_process_that_speaks_or_dies_is_replaced_silently(scripted: Scripted, tmp_path: Path) -> None:
    for number, ends in enumerate(("speaks", "dies", "dies unseen"), 1):
        spec = job(tmp_path)
        process = ready(scripted, spec)
        process.say(done(spec))
        assert len(scripted.all_events()) == 1 and len(scripted.started) == number
        if ends == "speaks":
            process.say({"type": "ready", "job_id": spec.job_id})
        else:
            process.die(-9)
        if ends != "dies unseen":
            assert scripted.all_events() == []
    ready(scripted, job(tmp_path))


def test_a_process_that_dies_before_it_has_loaded_is_not_the_fault_of_the_video(
    scripted: Scripted, tmp_path: Path
) -> None:
    """One that could load before was ended from outside: the job is started again, once."""
    first, second = job(tmp_path), job(tmp_path)
    process = ready(scripted, first)
    process.say(done(first))
    scripted.all_events()
    scripted.submit(second)
    process.die(-9)
    assert scripted.all_events() == [] and scripted.free == 0
    fresh = scripted.started[-1]
    assert decode_command(fresh.theirs.recv_bytes()) == second
    fresh.die(3)
    (failed,) = scripted.all_events()
    assert isinstance(failed, Failed) and (failed.kind, failed.phase) == ("start", Phase.LOAD)
    assert "exit code 3" in failed.error and scripted.free == 1


def test_a_cancelled_job_whose_process_dies_has_stopped(scripted: Scripted, tmp_path: Path) -> None:
    spec = job(tmp_path)
    process = ready(scripted, spec)
    scripted.cancel(spec.job_id)
    assert decode_command(process.theirs.recv_bytes()) == Cancel(spec.job_id)
    process.die(-9)
    assert scripted.all_events() == [Stopped(spec.job_id)] and scripted.free == 1


def test_a_process_that_does_not_heed_its_cancelled_job_is_killed(tmp_path: Path) -> None:
    """A real one, which sleeps for ten minutes between two segments."""
    executor, spec = LocalExecutor(1, 1, prepare=acts), job(tmp_path, "deaf")
    try:
        executor.submit(spec)
        until(executor, at_work(spec))
        executor.cancel(spec.job_id)
        assert until(executor, lambda events: ended(events, spec)) == [Stopped(spec.job_id)]
    finally:
        executor.close()


def test_a_job_with_another_limit_of_memory_has_another_process(scripted: Scripted, tmp_path: Path) -> None:
    for memory_mb, started in ((1500, 1), (1500, 1), (900, 2), (1500, 3)):
        spec = job(tmp_path, resources=Resources(memory_mb=memory_mb))
        ready(scripted, spec).say(done(spec))
        assert len(scripted.all_events()) == 1
        assert (len(scripted.started), len(scripted._children)) == (started, 1)


def test_a_process_that_is_killed_while_it_loads_is_replaced_once(scripted: Scripted, tmp_path: Path) -> None:
    first, second = job(tmp_path), job(tmp_path)
    scripted.submit(first)
    scripted.started[-1].die(-9)
    assert scripted.all_events() == [] and scripted.free == 0 and len(scripted.started) == 2
    process = scripted.started[-1]
    assert decode_command(process.theirs.recv_bytes()) == first
    process.say(encode(Ready(first.job_id)))
    process.say(done(first))
    assert [type(event) for event in scripted.all_events()] == [Ready, Done]
    scripted.submit(second)  # each job has its second try
    process.die(-9)
    scripted.all_events()
    scripted.started[-1].die(-9)
    (failed,) = scripted.all_events()
    assert isinstance(failed, Failed) and (failed.kind, failed.phase) == ("start", Phase.LOAD)
    assert "killed (SIGKILL)" in failed.error and "set fewer workers" in failed.error
    assert "memory_mb" not in failed.error and len(scripted.started) == 3 and scripted.free == 1


def test_a_process_that_keeps_sending_is_ended_by_its_limit(tmp_path: Path) -> None:
    scripted, spec = Scripted(), job(tmp_path, resources=Resources(wall_s=1))
    process = ready(scripted, spec)
    scripted._children[0].began -= 2
    process.say({"type": "progress", "job_id": spec.job_id, "time_s": 1, "duration_s": None})
    _, last = scripted.events(0)
    assert isinstance(last, Failed) and last.kind == "time_limit" and scripted.free == 1


@pytest.mark.parametrize(("kind", "left"), [("memory", 0), ("model", 0), ("output", 1), ("damaged", 1)])
def test_a_process_is_replaced_after_failures_that_may_have_harmed_it(
    kind: str, left: int, scripted: Scripted, tmp_path: Path
) -> None:
    spec = job(tmp_path)
    ready(scripted, spec).say(encode(Failed(spec.job_id, kind, Phase.ANALYZE, "no")))
    assert len(scripted.all_events()) == 1
    assert len(scripted._children) == left
