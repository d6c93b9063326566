"""Chromium for tests of pages."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

__all__ = ["chromium"]


@contextlib.contextmanager
def chromium(*options: str) -> Iterator[Any]:
    """Start a browser, with options of its command line.

    Without one the test is skipped, or fails with ``ANALYZER_FAIL_WITHOUT_BROWSER``.
    """
    sync_api = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        if os.environ.get("ANALYZER_FAIL_WITHOUT_BROWSER"):
            pytest.fail("no chromium is installed")
        pytest.skip("no chromium is installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", *options])
        yield browser
        browser.close()
