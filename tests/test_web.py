"""The server: who may ask, and what its answers allow."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from testkit.browser import chromium
from testkit.web import TOKEN, RunningServer, browser_page, serving

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with an empty folder."""
    with serving(tmp_path_factory.mktemp("runs")) as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[httpx.Client]:
    """A client with the token."""
    with server.client() as made:
        yield made


def test_a_token_is_needed_and_a_browser_gets_it_by_the_printed_address(server: RunningServer) -> None:
    with httpx.Client(base_url=server.url) as stranger:
        assert stranger.get("/api/openapi.json").status_code == 401
        wrong = stranger.get("/api/openapi.json", headers={"Authorization": "Bearer wrong"})
        assert wrong.status_code == 401
        asked = stranger.get("/?q=a", headers={"Accept": "text/html"})
        assert asked.status_code == 303
        assert asked.headers["location"].startswith("/login?next=/")
        assert stranger.get("/login", params={"token": "wrong"}).status_code == 403
        answer = stranger.get("/login", params={"token": TOKEN, "next": "//evil.test"})
        assert answer.headers["location"] == "/"
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=strict" in cookie and TOKEN not in cookie
        assert stranger.get("/").status_code == 200


def test_pages_load_nothing_from_elsewhere(client: httpx.Client) -> None:
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "<script>" not in answer.text and " style=" not in answer.text


@pytest.mark.parametrize("host", ["evil.test", "evil.test:80", "localhost.evil.test", ""])
def test_other_names_are_refused(client: httpx.Client, host: str) -> None:
    answer = client.get("/healthz", headers={"Host": host})
    assert answer.status_code in (400, 403)


@pytest.mark.parametrize("origin", ["http://evil", "null", "http://127.0.0.1:1", "https://localhost"])
def test_requests_of_other_sites_are_refused(client: httpx.Client, origin: str) -> None:
    assert client.post("/login", data={"token": TOKEN}, headers={"Origin": origin}).status_code == 403
    assert client.delete("/api/jobs/0", headers={"Origin": origin}).status_code == 403


def test_a_cookie_alone_changes_nothing(server: RunningServer) -> None:
    with httpx.Client(base_url=server.url) as visitor:
        visitor.get("/login", params={"token": TOKEN})
        assert visitor.delete("/api/jobs/0").status_code == 403
        assert visitor.delete("/api/jobs/0", headers={"Origin": server.url}).status_code in (404, 405)


def test_a_second_server_on_one_folder_says_so(server: RunningServer) -> None:
    command = [sys.executable, str(ROOT / "cli.py"), "serve", "--port", "0", "--out", str(server.out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=os.environ)
    assert done.returncode == 75
    assert done.stderr.count("\n") == 1 and "another server is running" in done.stderr


def test_a_port_that_is_taken_is_named(server: RunningServer, tmp_path: Path) -> None:
    port = server.url.rpartition(":")[2]
    command = [sys.executable, str(ROOT / "cli.py"), "serve", "--port", port, "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=os.environ)
    assert done.returncode == 75
    assert f"port {port}" in done.stderr and "--port" in done.stderr


def test_the_home_page_in_a_browser(server: RunningServer) -> None:
    with chromium() as browser, browser_page(browser, server) as page:
        assert page.locator("h1").inner_text() == "Runs"
        assert page.url == f"{server.url}/"


def test_an_unknown_run_is_not_found(client: httpx.Client) -> None:
    answer = client.get("/api/runs/000000000000")
    assert answer.status_code == 404
    assert "no such run" in answer.json()["error"]
    assert client.get("/api/runs").json() == {"total": 0, "size_bytes": 0, "runs": []}
