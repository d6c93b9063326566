"""Chromium for tests of pages."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

__all__ = ["chromium"]

_START_S = 30.0
_ATTEMPTS = 3


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """A browser. Without Chromium the test is skipped, or fails if ``ANALYZER_FAIL_WITHOUT_BROWSER`` is set.

    Playwright's driver, a Node.js process, rarely spins from its start on and never answers: such a one is
    killed, and another is started.
    """
    sync_api = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        if os.environ.get("ANALYZER_FAIL_WITHOUT_BROWSER"):
            pytest.fail("no chromium is installed")
        pytest.skip("no chromium is installed")
    with contextlib.ExitStack() as stack:
        for attempt in range(_ATTEMPTS):
            hung = threading.Timer(_START_S, _kill_drivers)
            hung.start()
            try:
                playwright = stack.enter_context(sync_api.sync_playwright())
                break
            except Exception:  # that of a driver that is gone
                if attempt == _ATTEMPTS - 1:
                    raise
            finally:
                hung.cancel()
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def _kill_drivers() -> None:
    for process in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if "run-driver" in process.cmdline():
                process.kill()
