"""Tasks: functions in processes under limits."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analyzer.errors import SettingsError
from analyzer.web.config import ServeConfig
from analyzer.web.tasks import TaskError, Tasks, _Process


def parts(text: str, count: int) -> Any:
    """Values and bytes, nested."""
    return {"parts": [(text.encode(), each) for each in range(count)], "process": os.getpid()}


def wrong() -> None:
    """What a visitor has to know."""
    raise SettingsError("it is too blue: paint it")


def broken(secret: str) -> None:
    """What a visitor must not know."""
    raise RuntimeError(f"cannot open {secret}")


def dead() -> None:
    """As a decoder that crashes."""
    os.abort()


def slow(seconds: float) -> None:
    """As a decoder that hangs."""
    time.sleep(seconds)


def large() -> int:
    """As a bomb."""
    return len(bytes(3_000_000_000))


def reported(count: int, report: Any) -> int:
    """Reports its progress."""
    for each in range(count):
        report(each / count)
    return count


@pytest.fixture
def tasks(tmp_path: Path) -> Iterator[Tasks]:
    """One process at a time."""
    made = Tasks(ServeConfig(tmp_path, tasks=1, task_memory_mb=600))
    yield made
    made.close()


def test_tasks_answer_fail_and_exceed_limits_and_the_next_one_works(tasks: Tasks) -> None:
    async def work() -> None:
        first = await tasks.run(parts, "a", 2)
        assert first["parts"] == [[b"a", 0], [b"a", 1]]
        assert first["process"] != os.getpid()
        with pytest.raises(TaskError, match="it is too blue: paint it"):
            await tasks.run(wrong)
        with pytest.raises(TaskError) as told:
            await tasks.run(broken, "/etc/secret")
        assert "secret" not in str(told.value)
        assert (await tasks.run(parts, "a", 0))["process"] == first["process"]
        with pytest.raises(TaskError, match="memory"):
            await tasks.run(large)
        with pytest.raises(TaskError, match="ended unexpectedly"):
            await tasks.run(dead)
        with pytest.raises(TaskError, match="took too long"):
            await tasks.run(slow, 60.0, timeout_s=0.3)
        assert (await tasks.run(parts, "b", 1))["parts"] == [[b"b", 0]]
        seen: list[float] = []
        assert await tasks.make(reported, 4, on_progress=seen.append) == 4
        assert seen == [0.0, 0.25, 0.5, 0.75]

    asyncio.run(work())


def test_a_task_whose_process_starts_while_the_server_ends_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Tasks(ServeConfig(tmp_path, tasks=1))
    started: list[Any] = []

    def start_late(memory_mb: int) -> Any:
        process = _Process(memory_mb)
        started.append(process.process)
        ending.start()
        while not made._closed:
            time.sleep(0.01)
        return process

    monkeypatch.setattr("analyzer.web.tasks._Process", start_late)
    ending = threading.Thread(target=made.close)
    with pytest.raises(TaskError, match="the server is ending"):
        asyncio.run(made.run(slow, 60.0))
    ending.join(10)
    assert not ending.is_alive() and not started[0].is_alive()
