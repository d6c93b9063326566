"""A server of the web pages in a process of its own, for tests and benchmarks."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import httpx

__all__ = ["TOKEN", "RunningServer", "accessible", "browser_page", "serving"]

_ROOT = Path(__file__).parents[1]
TOKEN = "token-of-the-tests-0123456789"


@dataclass
class RunningServer:
    """A server in a process of its own."""

    process: subprocess.Popen[str]
    url: str
    """Without a slash at the end."""
    out: Path
    lines: list[str]
    """What it has printed on standard error."""

    def client(self, **options: Any) -> httpx.Client:
        """A client with the token; to be closed."""
        import httpx

        headers = {"Authorization": f"Bearer {TOKEN}"} | options.pop("headers", {})
        return httpx.Client(base_url=self.url, headers=headers, timeout=30.0, **options)

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """End it by SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@contextlib.contextmanager
def serving(out: Path, *options: str, program: tuple[str, ...] = ()) -> Iterator[RunningServer]:
    """Run ``serve`` on a free port; its processes end with the block.

    Args:
        out: Folder of the runs.
        options: Of the command.
        program: The program with its first arguments, if not ``cli.py serve``.
    """
    command = program or (sys.executable, str(_ROOT / "cli.py"), "serve")
    process = subprocess.Popen(
        [*command, "--out", str(out), "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=_ROOT,
        env=os.environ | {"ANALYZER_TOKEN": TOKEN, "OMP_NUM_THREADS": "1"},
    )
    lines: list[str] = []
    assert process.stdout is not None and process.stderr is not None
    errors = process.stderr
    reader = threading.Thread(target=lambda: lines.extend(errors), name="server-errors", daemon=True)
    reader.start()
    try:
        first = process.stdout.readline()
        found = re.match(r"Open (http://\S+?)/login\?token=", first)
        if found is None:
            process.kill()
            reader.join(5)
            raise AssertionError(f"the server did not start: {first}{''.join(lines)}")
        yield RunningServer(process, found[1], out, lines)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        process.stdout.close()
        reader.join(5)
        process.stderr.close()


def accessible(page: Any) -> None:
    """Check a page with axe-core; serious and critical findings fail the test."""
    sync_playwright = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = sync_playwright.Axe().run(page).response["violations"]
    serious = [
        f"{one['id']}: {one['help']}: {one['nodes'][0]['html'][:200]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
    assert not serious, serious


@contextlib.contextmanager
def browser_page(browser: Any, server: RunningServer, *, fails: bool = True, **options: Any) -> Iterator[Any]:
    """A page of a browser that is logged in; what its console reports as an error fails the test.

    Args:
        browser: From `testkit.browser.chromium`.
        server: The server.
        fails: Whether errors fail the test: browsers report each answer that is an error.
        options: Of the context, such as ``viewport`` and ``color_scheme``.
    """
    context = browser.new_context(**options)
    page = context.new_page()
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.set_default_timeout(20_000)
    page.goto(f"{server.url}/login?token={TOKEN}")
    try:
        yield page
    finally:
        context.close()
    assert not (fails and errors), errors
